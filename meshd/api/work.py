"""Work for the applications of this host: the next feature, all features, and how much the application can take.

`GET /api/work/next?wait=30` hands out a feature that nobody works on, and waits for one: whoever waits is capacity, so
that a phase is claimed for it. It answers 204 when nothing came. `by=NAME` says who asks, see `meshd.api.handout`. What
was handed out is settled at `/api/phases/<project>/<milestone>/<phase>/{done,failed,release}`.

`GET /api/features` lists what this host makes of its claims. With `wait=` the answer about one of them comes when it is
not held any more, or is to be stopped, at the latest after that time. `PATCH` of one (RFC 7396) writes into
`feature.json` what an application wants to keep there.

`PUT /api/capacity` is for an application that runs agents of its own and finds its features by itself; `DELETE` ends
that.

Codes of refusals: `not-found`, `has-command` (the host has work for its `agents.command` only), `too-many-waiting`,
`invalid`.
"""

from __future__ import annotations

import trio
from attrs import define, field
from quart import Quart, Response

from meshd.api.commands import JSON_TYPES, json_body, refused
from meshd.api.handout import MAX_WAITING, Handout, application, feature_json
from meshd.api.instance import Instance
from meshd.api.parameters import seconds
from meshd.api.responses import empty_response, json_response
from meshd.core.effects import Rejected
from meshd.core.feature import Feature
from meshd.core.inputs import PatchFeature, SetCapacity
from meshd.errors import ApiError
from meshd.model import Json, JsonObject

WAIT_S = 30.0
MAX_WAIT_S = 300.0
_PATCH_TYPES = ("application/merge-patch+json", *JSON_TYPES)


@define(eq=False)
class Work:
    """The routes for applications. `_watching` counts those that wait for the end of a claim."""

    instance: Instance
    handout: Handout
    _watching: int = field(default=0, init=False)

    def add_to(self, app: Quart) -> None:
        app.add_url_rule("/api/work/next", view_func=self.next_work, methods=["GET"])
        app.add_url_rule("/api/features", view_func=self.list_features, methods=["GET"])
        app.add_url_rule("/api/features/<name>", view_func=self.show_feature, methods=["GET"])
        app.add_url_rule("/api/features/<name>", view_func=self.patch_feature, methods=["PATCH"])
        app.add_url_rule("/api/capacity", view_func=self.put_capacity, methods=["PUT"])
        app.add_url_rule("/api/capacity", view_func=self.delete_capacity, methods=["DELETE"])

    async def next_work(self) -> Response:
        wait_s, by = seconds("wait", WAIT_S, MAX_WAIT_S), application()
        self.handout.check()
        feature = await self.handout.next(by, wait_s)
        return json_response(self._json(feature)) if feature else empty_response(204)

    async def list_features(self) -> Response:
        features: list[Json] = [self._json(each) for each in self.instance.snapshot().work.features.values()]
        return json_response({"features": features})

    async def show_feature(self, name: str) -> Response:
        wait_s = seconds("wait", 0.0, MAX_WAIT_S) if self._watching < MAX_WAITING else 0.0
        self._watching += 1
        try:
            with trio.move_on_after(wait_s):
                await self._ended(name)
        finally:
            self._watching -= 1
        return json_response(self._json(self._feature(name)))

    async def _ended(self, name: str) -> None:
        """Wait until the feature is not held any more, or its work is told to stop, or the instance ends."""
        events = self.instance.events
        while not events.closed:
            cursor, work = events.last_id, self.instance.snapshot().work
            feature = work.features.get(name)
            if not feature or not any(each.claim == feature.claim and each.state != "stopping" for each in work.held):
                return
            await self.handout.change(cursor)

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
        return feature_json(feature, self.instance.snapshot())
