"""`meshd.api.hivemind`: the mesh as one instance sees it."""

from __future__ import annotations

from typing import Any

from meshd.api.app import create_app
from meshd.core.inputs import LatencyMeasured, LinkDown, LinkUp, Received
from meshd.core.messages import Goodbye, Malformed, UtcMs
from meshd.model import Capacity, Now
from tests.api.local import PEERS, PRIMARY, START, WORKER, Local


async def get(local: Local, path: str) -> Any:
    response = await create_app(local.instance()).test_client().get(path)
    assert response.status_code == 200
    return await response.get_json()


async def test_status() -> None:
    local = Local(PRIMARY)
    local.meet(1, "dev-02", PEERS[1])
    local.meet(2, "dev-03", PEERS[2])
    local.step(Received(2, Goodbye("dev-03", UtcMs(START.utc_ms))))
    local.step(LinkUp(3, "192.0.2.1:1"))
    local.step(Received(3, Malformed("no JSON")))
    status = await get(local, "/api/hivemind/status")
    assert status == {
        "instanceId": "dev-01",
        "enabled": True,
        "role": "primary",
        "term": 3,
        "isLeader": True,
        "authoritative": True,
        "status": "online",
        "connected": True,
        "primaryId": "dev-01",
        "primaryUrl": status["primaryUrl"],
        "partitionSince": None,
        "queuedChanges": 0,
        "peerCount": 2,
        "onlineCount": 1,
        "root": "0" * 24,
        "dropped": {"malformed": 1},
        "dataDir": "/srv/data",
        "repoRoot": "/srv/project",
    }


async def test_peers_come_by_priority_and_tell_everything() -> None:
    local = Local(PRIMARY)
    local.meet(1, "zoe", None)
    local.meet(2, "anna", None)
    local.meet(4, "dev-03", PEERS[2])
    local.meet(3, "dev-02", PEERS[1], Capacity(cores=2))
    local.step(LatencyMeasured(3, 1.5432))
    local.step(LinkDown(1, 1006))
    local.now = Now(START.mono_s + 2.5, START.utc_ms + 2_500)
    peers = (await get(local, "/api/hivemind/peers"))["peers"]
    assert [peer["instanceId"] for peer in peers] == ["dev-02", "dev-03", "anna", "zoe"]
    by_name = {peer["instanceId"]: peer for peer in peers}
    assert (by_name["zoe"]["state"], by_name["zoe"]["status"], by_name["zoe"]["linked"]) == ("suspect", "online", False)
    assert by_name["dev-02"] == {
        "instanceId": "dev-02",
        "name": "A peer",
        "role": "qa",
        "tags": ["docs", "gpu", "qa"],
        "url": PEERS[1],
        "priority": 1,
        "status": "online",
        "state": "alive",
        "lastSeen": "2026-03-14T09:26:53.589Z",
        "lastHeartbeat": "2026-03-14T09:26:53.589Z",
        "ageMs": 2500,
        "latencyMs": 1.5,
        "capacity": by_name["dev-02"]["capacity"],
        "version": None,
        "dialect": "original",
        "linked": True,
        "intake": None,
        "holding": None,
        "inSync": None,
        "outOfSyncSince": None,
        "lastChange": None,
        "lastChangeAgeMs": None,
    }
    assert by_name["dev-02"]["capacity"]["cores"] == 2


async def test_self() -> None:
    own = await get(Local(WORKER), "/api/hivemind/self")
    assert own["capacity"]["cores"] == 0
    assert own == {
        "instanceId": "dev-02",
        "name": "Worker A",
        "role": "frontend",
        "tags": ["docs"],
        "url": PEERS[1],
        "priority": 1,
        "syncRole": "worker",
        "term": 0,
        "authoritative": None,
        "status": "online",
        "capacity": own["capacity"],
        "intake": True,
        "holding": 0,
        "version": "0.1.0",
        "boot": "b007",
        "store": "5704e",
    }
