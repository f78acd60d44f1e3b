"""Work for the applications of this host: the next feature, all features, and how much the application can take.

`GET /api/work/next?wait=30` hands out a feature that nobody works on, and waits for one: whoever waits is capacity, so
that a phase is claimed for it. It answers 204 when nothing came. What was handed out is settled at
`/api/phases/<project>/<milestone>/<phase>/{done,failed,release}`.

`PUT /api/capacity` is for an application that runs agents of its own and finds its features by itself; `DELETE` ends
that. `PATCH /api/features/<id>` (RFC 7396) writes into `feature.json` what an application wants to keep there.
"""

from __future__ import annotations

from math import inf

import trio
from attrs import define, field
from quart import Quart, Response

from meshd.api.commands import JSON_TYPES, json_body, refused
from meshd.api.instance import Instance
from meshd.api.parameters import seconds
from meshd.api.responses import json_response
from meshd.core.effects import Rejected
from meshd.core.feature import Feature
from meshd.core.inputs import PatchFeature, SetCapacity, TakeWork, WorkWanted
from meshd.core.snapshot import Snapshot
from meshd.errors import ApiError
from meshd.model import Json, JsonObject

WAIT_S = 30.0
MAX_WAIT_S = 300.0
MAX_WAITING = 64  # applications that wait for work on one host: each holds a connection
TOLD_WITHIN_S = 1.0
LATEST = 64  # events looked through at a time
_PATCH_TYPES = ("application/merge-patch+json", *JSON_TYPES)


@define(eq=False)
class Work:
    """The routes for applications. `_waiting` counts those that wait for work."""

    instance: Instance
    _waiting: int = field(default=0, init=False)

    def add_to(self, app: Quart) -> None:
        app.add_url_rule("/api/work/next", view_func=self.next_work, methods=["GET"])
        app.add_url_rule("/api/features", view_func=self.list_features, methods=["GET"])
        app.add_url_rule("/api/features/<name>", view_func=self.show_feature, methods=["GET"])
        app.add_url_rule("/api/features/<name>", view_func=self.patch_feature, methods=["PATCH"])
        app.add_url_rule("/api/capacity", view_func=self.put_capacity, methods=["PUT"])
        app.add_url_rule("/api/capacity", view_func=self.delete_capacity, methods=["DELETE"])

    async def next_work(self) -> Response:
        wait_s = seconds("wait", WAIT_S, MAX_WAIT_S)
        if self._waiting >= MAX_WAITING:
            raise ApiError(503, "too-many-waiting", f"{MAX_WAITING} applications wait for work already")
        self._waiting += 1
        try:
            await self.instance.put(WorkWanted(self._waiting))
            name = ""
            with trio.move_on_after(wait_s):
                name = await self._taken()
        finally:  # the client may have gone away
            self._waiting -= 1
            with trio.move_on_after(TOLD_WITHIN_S, shield=True):
                await self.instance.put(WorkWanted(self._waiting))
        if not name:
            return Response(b"", 204)
        return json_response(self._json(self._feature(name)))

    async def _taken(self) -> str:
        """The id of a feature, once there is one; "" when the instance ends."""
        events = self.instance.events
        while not events.closed:
            cursor = events.last_id
            outcome = await self.instance.submit(TakeWork(0))
            if not isinstance(outcome, Rejected) and outcome.revision:
                return outcome.revision
            reading = events.after(cursor, LATEST, _is_of_features)
            while not reading.events and not events.closed:
                await events.wait(reading.cursor)
                reading = events.after(reading.cursor, LATEST, _is_of_features)
        return ""

    async def list_features(self) -> Response:
        features: list[Json] = [self._json(each) for each in self.instance.snapshot().work.features.values()]
        return json_response({"features": features})

    async def show_feature(self, name: str) -> Response:
        return json_response(self._json(self._feature(name)))

    async def patch_feature(self, name: str) -> Response:
        patch = await json_body(_PATCH_TYPES)
        outcome = await self.instance.submit(PatchFeature(0, name, patch))
        if isinstance(outcome, Rejected):
            return refused(self.instance, outcome)
        return json_response(self._json(self._feature(name)))

    async def put_capacity(self) -> Response:
        body = await json_body()
        keys = ("maxAgents", "runningAgents", "backlogCount")
        if not isinstance(body, dict) or not body.keys() <= set(keys) or "maxAgents" not in body:
            raise ApiError(422, "invalid", "the body is an object of maxAgents, runningAgents, backlogCount")
        numbers = [body.get(key, 0) for key in keys]
        if any(type(number) is not int or not 0 <= number <= 10_000 for number in numbers):
            raise ApiError(422, "invalid", "each is a whole number from 0 to 10000")
        await self.instance.submit(SetCapacity(0, *numbers))  # type: ignore[arg-type]  # looked at above
        return self._capacity()

    async def delete_capacity(self) -> Response:
        await self.instance.submit(SetCapacity(0, None))
        return self._capacity()

    def _capacity(self) -> Response:
        work = self.instance.snapshot().work
        return json_response({"maxAgents": work.max_agents, "free": work.free})

    def _feature(self, name: str) -> Feature:
        feature = self.instance.snapshot().work.features.get(name)
        if feature is None:
            raise ApiError(404, "not-found", f"there is no feature {name}")
        return feature

    def _json(self, feature: Feature) -> JsonObject:
        snapshot: Snapshot = self.instance.snapshot()
        held = next((each for each in snapshot.work.held if each.claim == feature.claim), None)
        left_s = held.lease_left_s if held else None
        shown = feature.json(snapshot.instance_id)
        lease_left_ms = None if left_s is None or left_s == inf else round(left_s * 1000)
        return {**shown, "held": feature.is_held, "state": held.state if held else None, "leaseLeftMs": lease_left_ms}


def _is_of_features(event_type: str) -> bool:
    return event_type.startswith("feature:")
