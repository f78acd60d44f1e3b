"""`meshd.api.health`: the specification's shapes, on a real node."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

import pytest
import trio
from attrs import evolve

from meshd.api.app import create_app
from meshd.configuration import Compaction
from meshd.core.inputs import CompactionDue, DrainRequested, LinkDown, PutProject, TtlDue
from meshd.model import Capacity, Now
from meshd.store import Disk
from tests.api.local import ALONE, PEERS, PRIMARY, START, WORKER, Local

CAPACITY = Capacity(8, 16_000, 4, 1, 3, 50.0, 10.0)


async def get(local: Local, path: str, status: int = 200) -> Any:
    response = await create_app(local.instance()).test_client().get(path)
    assert response.status_code == status
    assert response.content_type == "application/json"
    return await response.get_json()


def mesh() -> Local:
    local = Local(PRIMARY)
    local.meet(1, "dev-02", PEERS[1], CAPACITY)
    local.meet(2, "dev-03", PEERS[2])
    return local


async def test_liveness() -> None:
    assert await get(Local(), "/livez") == {"status": "ok"}
    health = await get(Local(), "/api/health")
    assert health == {"status": "ok", "timestamp": "2026-03-14T09:26:53.589Z", "version": "0.1.0"}


@pytest.mark.parametrize("configuration", [ALONE, PRIMARY, WORKER])
async def test_ready_unless_draining(configuration: Any) -> None:
    local = Local(configuration)
    assert await get(local, "/readyz") == {"ready": True}
    local.step(DrainRequested("maintenance"))
    assert await get(local, "/readyz", 503) == {"ready": False, "reason": "draining"}
    assert await get(local, "/livez") == {"status": "ok"}
    assert (await get(local, "/api/health/detailed"))["status"] == "draining"


async def test_a_primary_without_authority_is_ready_and_says_what_it_does_not_do() -> None:
    local = mesh()
    snapshot = local.node.snapshot(local.now)
    hub = evolve(snapshot, leadership=evolve(snapshot.leadership, authoritative=False))
    client = create_app(evolve(local.instance(), snapshot=lambda: hub)).test_client()
    ready = await client.get("/readyz")
    assert ready.status_code == 200
    body = await ready.get_json()
    assert (body["ready"], body["authoritative"]) == (True, False)
    assert "no majority" in body["note"]
    sync = (await (await client.get("/api/health/detailed")).get_json())["sync"]
    assert (sync["role"], sync["isLeader"], sync["authoritative"]) == ("primary", True, False)


async def test_a_full_disk_degrades_an_instance_that_serves_all_the_same() -> None:
    local = Local(disk=Disk(1_000_000, ("meshd.db.damaged-20260314T092653.589Z",)))
    health = await get(local, "/api/health/detailed")
    assert health["status"] == "degraded"
    assert health["disk"] == {
        "freeBytes": 1_000_000,
        "full": True,
        "damagedDatabases": ["meshd.db.damaged-20260314T092653.589Z"],
    }
    assert await get(local, "/readyz") == {"ready": True}
    local.step(DrainRequested("maintenance"))
    assert (await get(local, "/api/health/detailed"))["status"] == "draining"


async def test_detailed_of_a_primary() -> None:
    health = await get(mesh(), "/api/health/detailed")
    online = health["sync"].pop("onlinePeers")
    assert health == {
        "status": "ok",
        "timestamp": "2026-03-14T09:26:53.589Z",
        "version": "0.1.0",
        "uptime": 12.346,
        "memory": {"rss": 60_000_000, "vms": 90_000_000},
        "dataDir": "/srv/data",
        "disk": {"freeBytes": 50_000_000_000, "full": False, "damagedDatabases": []},
        "env": health["env"],
        "alerts": [],
        "work": {
            "on": True,
            "claims": True,
            "why": "",
            "maxAgents": 0,
            "free": 0,
            "holding": 0,
            "decides": "",
        },
        "sync": {
            "role": "primary",
            "syncPort": 4444,
            "connected": True,
            "peerCount": 2,
            "isLeader": True,
            "peerCapacitySummary": {
                "totalCores": 8,
                "totalRamMb": 16_000,
                "totalMaxAgents": 4,
                "totalRunningAgents": 1,
                "totalBacklog": 3,
                "averageCpuPercent": 10.0,
                "averageRamUsagePercent": 50.0,
            },
            "partitionSince": None,
            "queuedChanges": 0,
            "compactionDiagnostics": {"alertCount": 0, "alerts": [], "lastCompaction": None, "totalSizeBytes": 0},
            "enabled": True,
            "instanceId": "dev-01",
            "term": 3,
            "primaryId": "dev-01",
            "authoritative": True,
        },
    }
    assert health["env"]["pid"] == os.getpid()
    assert {type(value) for value in (health["env"]["python"], health["env"]["platform"])} == {str}
    capacity = {
        "cores": 8,
        "ramMb": 16_000,
        "maxAgents": 4,
        "runningAgents": 1,
        "backlogCount": 3,
        "ramUsagePercent": 50.0,
        "cpuPercent": 10.0,
    }
    assert online[0] == {
        "identity": {
            "instanceId": "dev-02",
            "name": "A peer",
            "role": "qa",
            "tags": ["docs", "gpu", "qa"],
            "url": PEERS[1],
            "capacity": capacity,
            "domains": ["qa", "docs"],
            "lastHeartbeat": "2026-03-14T09:26:53.589Z",
            "status": "online",
        },
        "lastSeen": "2026-03-14T09:26:53.589Z",
        "latencyMs": None,
        "inSync": None,
        "outOfSyncSince": None,
        "lastChange": None,
        "lastChangeAgeMs": None,
    }
    assert (online[1]["identity"]["capacity"], online[1]["identity"]["lastHeartbeat"]) == (None, None)


async def test_detailed_of_a_worker_without_a_primary() -> None:
    sync = (await get(Local(WORKER), "/api/health/detailed"))["sync"]
    known = {
        key: sync[key]
        for key in ("role", "syncPort", "connected", "isLeader", "peerCount", "primaryId", "authoritative")
    }
    assert known == {
        "role": "worker",
        "syncPort": None,
        "connected": False,
        "isLeader": False,
        "peerCount": 0,
        "primaryId": None,
        "authoritative": None,
    }


async def test_without_a_mesh_no_port_is_listened_on() -> None:
    sync = (await get(Local(), "/api/health/detailed"))["sync"]
    assert (sync["enabled"], sync["syncPort"], sync["connected"], sync["role"]) == (False, None, False, "primary")


async def test_peers_that_went_away_are_counted_and_not_online() -> None:
    local = mesh()
    local.step(LinkDown(1, 1006))
    sync = (await get(local, "/api/health/detailed"))["sync"]
    assert (sync["peerCount"], len(sync["onlinePeers"])) == (2, 2)
    local.now = Now(START.mono_s + 121, START.utc_ms + 121_000)
    local.meet(3, "dev-03", PEERS[2])
    local.step(TtlDue())
    sync = (await get(local, "/api/health/detailed"))["sync"]
    assert sync["peerCount"] == 2
    assert [peer["identity"]["instanceId"] for peer in sync["onlinePeers"]] == ["dev-03"]
    assert sync["peerCapacitySummary"]["totalCores"] == 0


async def test_large_documents_raise_compaction_alerts() -> None:
    local = Local(evolve(ALONE, compaction=Compaction(alert_bytes=100)))
    local.step(PutProject(1, "small", {"title": "t"}))
    local.step(PutProject(2, "large", {"title": "t" * 100}))
    local.step(CompactionDue())
    app = create_app(local.instance()).test_client()
    first = (await (await app.get("/api/health/detailed")).get_json())["sync"]["compactionDiagnostics"]
    sizes = local.node.snapshot(local.now).compaction.sizes
    assert first == {
        "alertCount": 1,
        "alerts": [
            {
                "slug": "large",
                "sizeBytes": sizes["large"],
                "alertBytes": 100,
                "since": "2026-03-14T09:26:53.589Z",
            }
        ],
        "lastCompaction": "2026-03-14T09:26:53.589Z",
        "totalSizeBytes": sizes["small"] + sizes["large"],
    }
    assert 0 < sizes["small"] < 100 < sizes["large"] < 250
    local.step(PutProject(3, "large", {"title": "t"}))
    local.step(CompactionDue())
    second = (await (await app.get("/api/health/detailed")).get_json())["sync"]["compactionDiagnostics"]
    assert (second["alertCount"], second["totalSizeBytes"]) == (0, sizes["small"] * 2)


JQ_LINES: list[tuple[str, list[Any] | None]] = [
    (".sync", None),
    (".sync.role", ["primary"]),
    (".sync.onlinePeers", None),
    (
        ".sync.onlinePeers[] | {instanceId: .identity.instanceId, lastHeartbeat: .identity.lastHeartbeat}",
        [
            {"instanceId": "dev-02", "lastHeartbeat": "2026-03-14T09:26:53.589Z"},
            {"instanceId": "dev-03", "lastHeartbeat": None},
        ],
    ),
    (".sync.compactionDiagnostics", [{"alertCount": 0, "alerts": [], "lastCompaction": None, "totalSizeBytes": 0}]),
]


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
@pytest.mark.parametrize(("program", "expected"), JQ_LINES)
async def test_the_lines_of_the_specification_run_in_jq(program: str, expected: list[Any] | None) -> None:
    response = await create_app(mesh().instance()).test_client().get("/api/health/detailed")
    body = await response.get_data(as_text=False)
    jq = await trio.run_process(["jq", "-c", program], stdin=body, capture_stdout=True)
    values = [json.loads(line) for line in jq.stdout.splitlines()]
    assert values == (expected or values)
    assert values != [None]
