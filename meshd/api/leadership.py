"""Leadership: who leads, since when and why, and the requests that hand it over.

`GET /api/leadership` is everything; `POST .../promote` asks that an instance leads, `POST .../step-down` that this
primary hands over. Both are answered with 202 when the hand-over was begun: who wants to know how it ended looks at
`primaryId` and `term` afterwards.
"""

from __future__ import annotations

from attrs import frozen
from quart import Quart, Response, request

from meshd.api.commands import json_body, refused
from meshd.api.instance import Instance
from meshd.api.members import utc_or_none
from meshd.api.responses import json_response
from meshd.core.ballot import Turn
from meshd.core.effects import Rejected
from meshd.core.inputs import LeadershipCommand, PromoteInstance, StepDown
from meshd.core.snapshot import FailoverView, Snapshot, VoterView
from meshd.errors import ApiError
from meshd.model import JsonObject, Role, utc_text


@frozen
class Leadership:
    """The routes under `/api/leadership`."""

    instance: Instance

    def add_to(self, app: Quart) -> None:
        app.add_url_rule("/api/leadership", view_func=self.show_leadership, methods=["GET"])
        app.add_url_rule("/api/leadership/promote", view_func=self.promote, methods=["POST"])
        app.add_url_rule("/api/leadership/step-down", view_func=self.step_down, methods=["POST"])

    async def show_leadership(self) -> Response:
        return json_response(leadership_json(self.instance.snapshot()))

    async def promote(self) -> Response:
        instance_id = await _named_instance()
        return await self._submit(PromoteInstance(0, instance_id), instance_id)

    async def step_down(self) -> Response:
        return await self._submit(StepDown(0), None)

    async def _submit(self, command: LeadershipCommand, instance_id: str | None) -> Response:
        outcome = await self.instance.submit(command)
        if isinstance(outcome, Rejected):
            return refused(self.instance, outcome)
        asked = instance_id or self.instance.configuration.protolab.instance_id
        return json_response({"instanceId": asked}, 202)


async def _named_instance() -> str | None:
    """Whom the body names: `{"instanceId": "dev-02"}`; without one, nobody. Raises `ApiError`."""
    if not await request.get_data():
        return None
    body = await json_body()
    instance_id = body.get("instanceId") if isinstance(body, dict) else ""
    if instance_id is None:
        return None
    if not isinstance(instance_id, str) or not instance_id:
        raise ApiError(422, "invalid", 'the body is {"instanceId": "dev-02"}, or none for this instance')
    return instance_id


def authority(snapshot: Snapshot) -> bool | None:
    """Whether a primary may decide: False for a hub without authority, None for a worker, which decides nothing."""
    return snapshot.leadership.authoritative if snapshot.role is Role.PRIMARY else None


def leadership_json(snapshot: Snapshot) -> JsonObject:
    """`GET /api/leadership`."""
    view = snapshot.leadership
    return {
        "instanceId": snapshot.instance_id,
        "role": snapshot.role,
        "standing": view.standing,
        "primaryId": snapshot.primary_id,
        "primaryUrl": snapshot.primary_url,
        "since": utc_or_none(view.since_ms),
        "term": view.term,
        "cause": view.cause,
        "leads": view.leads,
        "authoritative": authority(snapshot),
        "whyNot": view.why_not,
        "policy": view.policy,
        "failback": view.failback,
        "majority": view.majority,
        "voters": [_voter_json(voter) for voter in view.voters],
        "failover": _failover_json(view.failover),
        "history": [_turn_json(turn) for turn in view.turns],
    }


def _voter_json(voter: VoterView) -> JsonObject:
    return {
        "index": voter.index,
        "url": voter.url,
        "instanceId": voter.instance_id,
        "status": voter.status.shown if voter.status else None,
        "state": voter.status,
        "eligible": voter.eligible,
        "inSync": voter.in_sync,
        "contactAgeMs": None if voter.contact_age_s is None else round(voter.contact_age_s * 1000),
        "isSelf": voter.is_self,
        "agrees": voter.agrees,
    }


def _failover_json(failover: FailoverView) -> JsonObject:
    return {"possible": failover.possible, "winner": failover.winner, "missing": [*failover.missing]}


def _turn_json(turn: Turn) -> JsonObject:
    return {
        "id": turn.id,
        "time": utc_text(turn.utc_ms),
        "term": turn.term,
        "leader": turn.leader,
        "cause": turn.cause,
    }
