"""Alerts: what a person should look at."""

from __future__ import annotations

from attrs import frozen
from quart import Quart, Response

from meshd.api.instance import Instance
from meshd.api.responses import json_response
from meshd.core.snapshot import Snapshot
from meshd.model import Json


@frozen
class Alerts:
    """The route `/api/alerts`."""

    instance: Instance

    def add_to(self, app: Quart) -> None:
        app.add_url_rule("/api/alerts", view_func=self.list_alerts, methods=["GET"])

    async def list_alerts(self) -> Response:
        return json_response({"alerts": alerts_json(self.instance.snapshot())})


def alerts_json(snapshot: Snapshot) -> list[Json]:
    """The alerts that stand, in the order in which they were raised."""
    return [alert.json() for alert in snapshot.alerts]
