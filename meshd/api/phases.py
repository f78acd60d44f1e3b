"""Phases: who works on what, why a phase is not worked on, and what its holder or a person says of it.

`GET /api/phases` lists all phases of the projects that are worked on (`?project=`, `?status=`), `GET /api/claims` those
that somebody holds. `GET /api/phases/<project>/<milestone>/<phase>` also says why it can or cannot be claimed, here or
`?on=` another instance: every condition with yes or no. `POST` below it, with the generation that is held:

    claim      have this host take it; waits (`?wait=` seconds) for the decision. With `?by=` NAME for the application
               of that name, which works on it from then on; without it waits for one, or for `agents.command`
    progress   say how far it is: `note`
    done       it is finished: `prUrl`
    failed     it went wrong: `error`; it is tried again until there were too many attempts
    release    give it back
    retry      let what failed for good be tried again

Codes of refusals: `not-found`, `not-claimable`, `undecided` (no answer of the primary in time), `has-command` (the host
has work for its `agents.command` only), `not-holder` (another host holds it: settle it there, or `force`), `stale`
(another generation stands; what was produced is kept as a conflict), `invalid`.
"""

from __future__ import annotations

import trio
from attrs import frozen
from quart import Quart, Response, request

from meshd.api.commands import json_body, refused, submit
from meshd.api.handout import Handout, application, feature_json
from meshd.api.instance import Instance
from meshd.api.members import utc_or_none
from meshd.api.parameters import seconds
from meshd.api.responses import json_response
from meshd.api.standings import Standings, claimant_named, hindrances, with_overflow
from meshd.core.claimability import Claimant, Condition, conditions
from meshd.core.effects import Rejected
from meshd.core.feature import TAKEN_BY, Feature
from meshd.core.inputs import ClaimPhase, Outcome, SettlePhase
from meshd.core.intake import ASKED, UNANSWERED
from meshd.core.phases import Phase, Place
from meshd.core.snapshot import DecisionView, Snapshot
from meshd.errors import ApiError
from meshd.model import Json, JsonObject

OUTCOMES = {
    "progress": Outcome.PROGRESS,
    "done": Outcome.DONE,
    "failed": Outcome.FAILED,
    "release": Outcome.RELEASED,
    "retry": Outcome.RETRY,
}
DECIDED_WITHIN_S = 10.0
MAX_WAIT_S = 60.0
MAX_TEXT = 4000  # characters of a note, an error or a URL: each stands in the document of every host
ROWS_AT_A_TIME = 100  # some 3 ms: others get their turn
LOOK_EVERY_S = 0.05  # a decision is no event: it takes a round trip to the primary, or some


@frozen
class Phases:
    """The routes under `/api/phases`, and `/api/claims`."""

    instance: Instance
    standings: Standings
    handout: Handout

    def add_to(self, app: Quart) -> None:
        one = "/api/phases/<slug>/<milestone>/<phase>"
        app.add_url_rule("/api/phases", view_func=self.list_phases, methods=["GET"])
        app.add_url_rule("/api/claims", view_func=self.list_claims, methods=["GET"])
        app.add_url_rule(one, view_func=self.show_phase, methods=["GET"])
        app.add_url_rule(f"{one}/claim", view_func=self.claim_phase, methods=["POST"])
        for verb in OUTCOMES:
            app.add_url_rule(
                f"{one}/{verb}", f"{verb}_phase", self.settle_phase, methods=["POST"], defaults={"verb": verb}
            )

    async def list_phases(self) -> Response:
        snapshot = self.instance.snapshot()
        project, status = request.args.get("project"), request.args.get("status")
        rows: list[Json] = []
        for count, phase in enumerate(list(self.standings.phases(snapshot, project)), 1):
            if not count % ROWS_AT_A_TIME:
                await trio.lowlevel.checkpoint()
            row = self.standings.row(phase, snapshot, self.instance.utc_ms())
            if status in (None, row["status"]):
                rows.append(row)
        return json_response({"phases": rows})

    async def list_claims(self) -> Response:
        snapshot = self.instance.snapshot()
        live = (phase for phase in self.standings.phases(snapshot, None) if phase.claim and phase.claim.is_live)
        rows: list[Json] = [self.standings.row(phase, snapshot, self.instance.utc_ms()) for phase in live]
        return json_response({"claims": rows})

    async def show_phase(self, slug: str, milestone: str, phase: str) -> Response:
        snapshot = self.instance.snapshot()
        found = self._phase((slug, milestone, phase), snapshot)
        on = request.args.get("on") or snapshot.instance_id
        claimant = claimant_named(on, snapshot, self.instance.configuration)
        if claimant is None:
            raise ApiError(404, "not-found", f"there is no {on} in this mesh")
        told = self._conditions(found, claimant, snapshot)
        row = self.standings.row(found, snapshot, self.instance.utc_ms())
        asked: list[Json] = [
            {"claim": each.claim, "reason": each.reason, "claimedBy": each.claimed_by, "at": utc_or_none(each.utc_ms)}
            for each in snapshot.work.decisions.values()
            if each.place == found.place
        ]
        body: JsonObject = {**row, "title": found.title, "on": on, "claimable": all(each.holds for each in told)}
        body["conditions"] = [{"name": each.name, "holds": each.holds, "text": each.text} for each in told]
        return json_response({**body, "decisions": asked})

    def _conditions(self, phase: Phase, claimant: Claimant, snapshot: Snapshot) -> list[Condition]:
        board = self.standings.board(snapshot)
        of_phase = conditions(phase, board, claimant, now_utc_ms=self.instance.utc_ms())
        of_phase = tuple(with_overflow(each, claimant, snapshot, self.instance.configuration) for each in of_phase)
        return [*of_phase, *hindrances(claimant.instance_id, snapshot, self.instance.configuration)]

    async def claim_phase(self, slug: str, milestone: str, phase: str) -> Response:
        wait_s, by = seconds("wait", DECIDED_WITHIN_S, MAX_WAIT_S), application()
        place = (slug, milestone, phase)
        if by is None:
            feature = await self._claimed(place, wait_s)
        else:
            feature = await self._claimed_for(by, place, wait_s)
        return json_response(feature_json(feature, self.instance.snapshot()))

    async def _claimed_for(self, by: str, place: Place, wait_s: float) -> Feature:
        self.handout.check()
        with self.handout.kept(place):
            feature = self.handout.had(by, place) or await self._claimed(place, wait_s)
            if feature.fields.get(TAKEN_BY) == by:
                return feature
            if taken := await self.handout.take(feature, by):
                return taken
        raise ApiError(409, "not-claimable", "another application of this host was quicker")

    async def _claimed(self, place: Place, wait_s: float) -> Feature:
        """Ask for a phase, and wait for the decision and the feature. Raises `ApiError`."""
        claim = (await submit(self.instance, ClaimPhase(0, *place))).revision
        decision = self._decision(claim)
        with trio.move_on_after(wait_s):
            while decision and decision.reason == ASKED:
                await trio.sleep(LOOK_EVERY_S)
                decision = self._decision(claim)
        if decision is None or decision.reason in (ASKED, UNANSWERED):
            text = "nobody has decided in time; it may be granted yet: GET /api/features shows it then"
            raise ApiError(409, "undecided", text)
        if not decision.granted:
            by = f", {decision.claimed_by} holds it" if decision.claimed_by else ""
            raise ApiError(409, "not-claimable", f"the primary refused: {decision.reason}{by}")
        features = self.instance.snapshot().work.features.values()
        feature = next((each for each in features if each.claim == claim), None)
        if feature is None:
            raise ApiError(409, "not-claimable", "it was granted, and lost at once")
        return feature

    def _decision(self, claim: str) -> DecisionView | None:
        return self.instance.snapshot().work.decisions.get(claim)

    async def settle_phase(self, slug: str, milestone: str, phase: str, verb: str) -> Response:
        body = await _told()
        command = SettlePhase(
            *(0, slug, milestone, phase, OUTCOMES[verb]),
            generation=_number(body, "generation"),
            pr_url=_text(body, "prUrl"),
            error=_text(body, "error"),
            note=_text(body, "note"),
            is_forced=_flag(body, "force"),
        )
        outcome = await self.instance.submit(command)
        if isinstance(outcome, Rejected):
            return refused(self.instance, outcome)
        snapshot = self.instance.snapshot()
        found = self._phase((slug, milestone, phase), snapshot)
        return json_response(self.standings.row(found, snapshot, self.instance.utc_ms()))

    def _phase(self, place: Place, snapshot: Snapshot) -> Phase:
        found = self.standings.board(snapshot).phase(place)
        if found is None:
            raise ApiError(404, "not-found", f"there is no phase {'/'.join(place)}")
        return found


async def _told() -> JsonObject:
    """The body of a settlement: an object, or none."""
    if not await request.get_data():
        return {}
    body = await json_body()
    known = {"generation", "prUrl", "error", "note", "force"}
    if not isinstance(body, dict) or not body.keys() <= known:
        raise ApiError(422, "invalid", f"the body is an object of {', '.join(sorted(known))}")
    return body


def _text(body: JsonObject, key: str) -> str | None:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise ApiError(422, "invalid", f"{key} is a text")
    if value is not None and len(value) > MAX_TEXT:
        raise ApiError(422, "invalid", f"{key} has {len(value)} characters, at most {MAX_TEXT} are kept on every host")
    return value


def _flag(body: JsonObject, key: str) -> bool:
    value = body.get(key, False)
    if not isinstance(value, bool):
        raise ApiError(422, "invalid", f"{key} is true or false")
    return value


def _number(body: JsonObject, key: str) -> int | None:
    value = body.get(key)
    if value is not None and (type(value) is not int or value < 0):
        raise ApiError(422, "invalid", f"{key} is a whole number from 0 on")
    return value
