"""`/api/alerts`, and the alerts beside `sync` in health."""

from __future__ import annotations

from meshd.api.app import create_app
from meshd.core.inputs import AlertCleared, AlertRaised
from tests.api.local import PRIMARY, Local


async def test_alerts_stand_in_the_list_and_in_health_until_they_are_cleared() -> None:
    local = Local(PRIMARY)
    app = create_app(local.instance()).test_client()
    assert await (await app.get("/api/alerts")).get_json() == {"alerts": []}
    local.step(AlertRaised("disk-full", "no room on the disk", "make room"))
    expected = [
        {
            "code": "disk-full",
            "severity": "critical",
            "subject": "",
            "since": "2026-03-14T09:26:53.589Z",
            "text": "no room on the disk",
            "fix": "make room",
        }
    ]
    assert await (await app.get("/api/alerts")).get_json() == {"alerts": expected}
    assert (await (await app.get("/api/health/detailed")).get_json())["alerts"] == expected
    local.step(AlertCleared("disk-full"))
    assert await (await app.get("/api/alerts")).get_json() == {"alerts": []}
