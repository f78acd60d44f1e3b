"""`/api/compaction`: what is large, what was tidied up, and acknowledging it."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from quart_trio import QuartTrio

from meshd.api.app import create_app
from meshd.configuration import Compaction
from meshd.core.inputs import CompactionDue, DeleteProject, PutProject
from meshd.model import Now
from tests.api.local import ALONE, START, WORKER, Local


async def shown(app: QuartTrio) -> Any:
    response = await app.test_client().get("/api/compaction")
    assert response.status_code == 200
    return await response.get_json()


async def test_before_the_first_pass_nothing_is_known() -> None:
    assert await shown(create_app(Local().instance())) == {
        "intervalMs": 300_000,
        "alertBytes": 10_485_760,
        "tombstoneRetentionMs": 604_800_000,
        "alertCount": 0,
        "alerts": [],
        "lastCompaction": None,
        "totalSizeBytes": 0,
        "documents": [],
        "history": [],
    }


async def test_large_documents_are_told_of_until_they_are_acknowledged() -> None:
    local = Local(evolve(ALONE, compaction=Compaction(alert_bytes=100)))
    for number, (slug, size) in enumerate([("small", 1), ("large", 300), ("gone", 1)]):
        local.step(PutProject(number, slug, {"title": "t" * size}))
    local.step(DeleteProject(9, "gone"))
    local.step(CompactionDue())
    app = create_app(local.instance())
    before = await shown(app)
    assert [document["slug"] for document in before["documents"]] == ["large", "small"]
    assert [alert["slug"] for alert in before["alerts"]] == ["large"]
    assert before["history"] == [
        {
            "time": "2026-03-14T09:26:53.589Z",
            "documents": 2,
            "totalSizeBytes": before["totalSizeBytes"],
            "dropped": [],
            "tombstones": 1,
            "waitingFor": [],
        }
    ]
    response = await app.test_client().delete("/api/compaction/alerts")
    assert (response.status_code, await response.get_json()) == (200, {"acknowledged": ["large"]})
    local.step(CompactionDue())
    after = await shown(app)
    assert (after["alertCount"], after["alerts"], len(after["history"])) == (0, [], 2)
    assert [document["acknowledged"] for document in after["documents"]] == [True, False]
    again = await app.test_client().delete("/api/compaction/alerts")
    assert await again.get_json() == {"acknowledged": []}


async def test_who_is_waited_for_is_named() -> None:
    local = Local(evolve(WORKER, compaction=Compaction(tombstone_retention_ms=1000)))
    local.step(PutProject(1, "gone", {}))
    local.step(DeleteProject(2, "gone"))
    local.now = Now(START.mono_s + 2, START.utc_ms + 2000)
    local.step(CompactionDue())
    (done,) = (await shown(create_app(local.instance())))["history"]
    assert done["waitingFor"] == ["ws://100.64.0.1:4444", "ws://100.64.0.3:4444"]
