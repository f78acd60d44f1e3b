"""Phases: who works on what, why a phase is not worked on, and what its holder or a person says of it.

`GET /api/phases` lists all phases of the projects that are worked on (`?project=`, `?status=`), `GET /api/claims` those
that somebody holds. `GET /api/phases/<project>/<milestone>/<phase>` also says why it can or cannot be claimed, here or
`?on=` another instance: every condition with yes or no. `POST` below it, with the generation that is held:

    claim      have this host take it; waits (`?wait=` seconds) for the decision
    progress   say how far it is: `note`
    done       it is finished: `prUrl`
    failed     it went wrong: `error`; it is tried again until there were too many attempts
    release    give it back
    retry      let what failed for good be tried again

Codes of refusals: `not-found`, `not-claimable`, `not-holder` (another host holds it: settle it there, or `force`),
`stale` (another generation stands; what was produced is kept as a conflict), `invalid`.
"""

from __future__ import annotations

import trio
from attrs import frozen
from quart import Quart, Response, request

from meshd.api.commands import json_body, refused
from meshd.api.instance import Instance
from meshd.api.members import utc_or_none
from meshd.api.parameters import seconds
from meshd.api.responses import json_response
from meshd.api.standings import Standings, claimant_named, hindrances, with_overflow
from meshd.core.claimability import Claimant, Condition, conditions
from meshd.core.effects import Rejected
from meshd.core.inputs import ClaimPhase, Outcome, SettlePhase
from meshd.core.intake import ASKED
from meshd.core.phases import Phase, Place
from meshd.core.snapshot import Snapshot
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
LOOK_EVERY_S = 0.05  # a decision is no event: it takes a round trip to the primary, or some


@frozen
class Phases:
    """The routes under `/api/phases`, and `/api/claims`."""

    instance: Instance
    standings: Standings

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
        for phase in self.standings.phases(snapshot, project):
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
        wait_s = seconds("wait", DECIDED_WITHIN_S, MAX_WAIT_S)
        outcome = await self.instance.submit(ClaimPhase(0, slug, milestone, phase))
        if isinstance(outcome, Rejected):
            return refused(self.instance, outcome)
        claim = outcome.revision
        with trio.move_on_after(wait_s):
            while (decision := self.instance.snapshot().work.decisions.get(claim)) and decision.reason == ASKED:
                await trio.sleep(LOOK_EVERY_S)
        decision = self.instance.snapshot().work.decisions.get(claim)
        if decision is None or not decision.granted:
            by = f", held by {decision.claimed_by}" if decision and decision.claimed_by else ""
            raise ApiError(409, "not-claimable", f"{decision.reason if decision else 'forgotten'}{by}")
        features = self.instance.snapshot().work.features.values()
        feature = next((each for each in features if each.claim == claim), None)
        if feature is None:
            raise ApiError(409, "not-claimable", "it was granted, and lost at once")
        return json_response(feature.json(self.instance.configuration.protolab.instance_id))

    async def settle_phase(self, slug: str, milestone: str, phase: str, verb: str) -> Response:
        body = await _told()
        command = SettlePhase(
            *(0, slug, milestone, phase, OUTCOMES[verb]),
            generation=_number(body, "generation"),
            pr_url=_text(body, "prUrl"),
            error=_text(body, "error"),
            note=_text(body, "note"),
            is_forced=body.get("force") is True,
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
    return value


def _number(body: JsonObject, key: str) -> int | None:
    value = body.get(key)
    if value is not None and (type(value) is not int or value < 0):
        raise ApiError(422, "invalid", f"{key} is a whole number from 0 on")
    return value
