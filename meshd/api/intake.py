"""Whether this host takes work: intake on and off, draining, and what was worked on twice.

`PUT /api/intake` sets `autoMode`, of this host alone or with `fleet` of all (on the primary). `POST /api/drain` lets
this host claim nothing new while it keeps what it holds; `release` gives that back, too, and `stop` ends the daemon,
which leaves running commands `drain.workTimeoutMs`. `DELETE /api/drain` takes new work again. Draining is of this
process: it does not outlive it. Another host is drained at its own API: its port is not known here. `GET /api/audits`
lists phases that two sides of a partition had both claimed.
"""

from __future__ import annotations

import orjson
from attrs import frozen
from quart import Quart, Response, request

from meshd.api.commands import json_body, refused
from meshd.api.health import work_json
from meshd.api.instance import Instance
from meshd.api.responses import json_response
from meshd.core.effects import Rejected
from meshd.core.events import KEPT
from meshd.core.inputs import PatchSettings, SetDraining
from meshd.core.settings import LOCAL, SHARED
from meshd.core.work import SWITCH
from meshd.errors import ApiError
from meshd.model import Json, JsonObject, Status

DUAL_CLAIM = "sync:dual-claim"


@frozen
class Intake:
    """The routes `/api/intake`, `/api/drain` and `/api/audits`."""

    instance: Instance

    def add_to(self, app: Quart) -> None:
        app.add_url_rule("/api/intake", view_func=self.show_intake, methods=["GET"])
        app.add_url_rule("/api/intake", view_func=self.put_intake, methods=["PUT"])
        app.add_url_rule("/api/drain", view_func=self.show_drain, methods=["GET"])
        app.add_url_rule("/api/drain", view_func=self.begin_drain, methods=["POST"])
        app.add_url_rule("/api/drain", view_func=self.end_drain, methods=["DELETE"])
        app.add_url_rule("/api/audits", view_func=self.list_audits, methods=["GET"])

    async def show_intake(self) -> Response:
        return json_response(self._intake())

    def _intake(self) -> JsonObject:
        snapshot = self.instance.snapshot()
        origin, _ = snapshot.settings.resolved().get(SWITCH, ("default", None))
        return {"instanceId": snapshot.instance_id, "origin": origin, **work_json(snapshot.work)}

    async def put_intake(self) -> Response:
        body = await json_body()
        is_sound = isinstance(body, dict) and body.keys() <= {"on", "fleet"} and isinstance(body.get("on"), bool)
        if not isinstance(body, dict) or not is_sound or not isinstance(body.get("fleet", False), bool):
            raise ApiError(422, "invalid", 'the body is {"on": true} or {"on": false}, and "fleet": true for all hosts')
        scope = SHARED if body.get("fleet") else LOCAL
        outcome = await self.instance.submit(PatchSettings(0, scope, {SWITCH: body["on"]}))
        if isinstance(outcome, Rejected):
            return refused(self.instance, outcome)
        return json_response(self._intake())

    async def show_drain(self) -> Response:
        return json_response(self._drain())

    def _drain(self) -> JsonObject:
        snapshot = self.instance.snapshot()
        held: list[Json] = [
            {"project": each.place[0], "milestone": each.place[1], "phase": each.place[2], "state": each.state}
            for each in snapshot.work.held
        ]
        return {"draining": snapshot.status is Status.DRAINING, "idle": not held, "held": held}

    async def begin_drain(self) -> Response:
        body: Json = await json_body() if await request.get_data() else {}
        is_sound = isinstance(body, dict) and body.keys() <= {"release", "stop"}
        if not isinstance(body, dict) or not is_sound or any(type(each) is not bool for each in body.values()):
            detail = (
                "the body is an object of release and stop, each true or false; another host is asked at its own API"
            )
            raise ApiError(422, "invalid", detail)
        await self._set(SetDraining(0, is_draining=True, release=body.get("release") is True))
        if body.get("stop"):
            self.instance.stop("asked to over the API")
        return json_response(self._drain(), 202)

    async def end_drain(self) -> Response:
        await self._set(SetDraining(0, is_draining=False))
        return json_response(self._drain())

    async def _set(self, command: SetDraining) -> None:
        outcome = await self.instance.submit(command)
        assert not isinstance(outcome, Rejected), "nothing stands against it, not even a full disk"

    async def list_audits(self) -> Response:
        reading = self.instance.events.latest(KEPT, lambda event_type: event_type == DUAL_CLAIM)
        audits: list[Json] = [orjson.loads(event.data) for event in reversed(reading.events)]
        return json_response({"audits": audits})
