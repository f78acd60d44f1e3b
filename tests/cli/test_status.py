"""`meshd status` and `meshd members`: what they make of the API's answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshd.cli.members import HEADERS

from .conftest import Recorded, meshd

STATUS: dict[str, Any] = {
    "instanceId": "dev-02",
    "enabled": True,
    "role": "worker",
    "term": 3,
    "isLeader": False,
    "authoritative": None,
    "status": "online",
    "connected": True,
    "primaryId": "dev-01",
    "primaryUrl": "ws://100.64.0.1:4444",
    "partitionSince": None,
    "queuedChanges": 0,
    "peerCount": 2,
    "onlineCount": 1,
    "root": "6f1c",
    "dropped": {},
    "dataDir": "data",
    "repoRoot": "meadow",
}
HEALTH: dict[str, Any] = {
    "status": "ok",
    "timestamp": "2026-03-14T09:26:53.589Z",
    "version": "0.1.0",
    "uptime": 7_530.2,
    "memory": {"rss": 55 * 1_048_576, "vms": 0},
    "dataDir": "data",
    "env": {},
    "sync": {},
}
SELF: dict[str, Any] = {
    "instanceId": "dev-02",
    "name": "Worker A",
    "role": "frontend",
    "tags": ["docs"],
    "url": "ws://100.64.0.2:4444",
    "priority": 1,
    "syncRole": "worker",
    "term": 3,
    "authoritative": None,
    "status": "online",
    "capacity": {"cores": 2, "cpuPercent": 7.4, "ramUsagePercent": 40.6},
    "intake": False,
    "holding": 2,
    "version": "0.1.0",
    "boot": "b",
    "store": "s",
}
PEER: dict[str, Any] = {
    "instanceId": "dev-01",
    "name": "Primary Dev",
    "role": "fullstack",
    "tags": ["backend", "infra"],
    "url": "ws://100.64.0.1:4444",
    "priority": 0,
    "status": "online",
    "state": "suspect",
    "lastSeen": "2026-03-14T09:26:53.589Z",
    "lastHeartbeat": None,
    "ageMs": 1_250,
    "latencyMs": 1.25,
    "capacity": None,
    "version": None,
    "dialect": "native",
    "linked": True,
    "intake": True,
    "holding": 0,
    "inSync": True,
    "outOfSyncSince": None,
    "lastChange": "2026-03-14T09:26:50.000Z",
    "lastChangeAgeMs": 3_589,
}


@pytest.fixture
def daemon(recorded: Recorded) -> Recorded:
    recorded.answer("GET", "/api/hivemind/status", STATUS)
    recorded.answer("GET", "/api/health/detailed", HEALTH)
    recorded.answer("GET", "/api/hivemind/self", SELF)
    recorded.answer("GET", "/api/hivemind/peers", {"peers": [PEER]})
    return recorded


def pairs(output: str) -> dict[str, str]:
    """Names and what they hold, of a table of pairs."""
    return {name.strip(): value.strip() for name, _, value in (line.partition("  ") for line in output.splitlines())}


def cells(line: str) -> list[str]:
    """What stands in the columns of a line."""
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_status_in_words(daemon: Recorded) -> None:
    told = pairs(meshd("status", "--url", daemon.url).stdout)

    assert told["api"] == f"{daemon.url} (from --url or MESHD_URL)"
    assert told["version"] == "0.1.0, up 2 h 5 min"
    assert told["memory"] == "55 MiB"
    assert told["primary"] == "dev-01 (ws://100.64.0.1:4444)"
    assert told["connected"] == "yes"
    assert told["root digest"] == STATUS["root"]
    assert told["peers online"] == "1 of 2"
    assert told["term"] == "3"
    assert "no primary since" not in told
    assert "authority" not in told


def test_status_of_one_that_has_lost_its_primary_and_refused_frames(daemon: Recorded) -> None:
    lost = {"connected": False, "primaryId": None, "primaryUrl": None, "partitionSince": "2026-03-14T09:20:00.000Z"}
    daemon.answer("GET", "/api/hivemind/status", {**STATUS, **lost, "queuedChanges": 4, "dropped": {"foreign": 2}})

    told = pairs(meshd("status", "--url", daemon.url).stdout)

    assert told["primary"] == "-"
    assert told["no primary since"] == "2026-03-14T09:20:00.000Z"
    assert told["changes queued"] == "4"
    assert told["dropped, foreign"] == "2"


def test_status_of_a_primary_and_of_an_instance_without_a_mesh(daemon: Recorded) -> None:
    daemon.answer("GET", "/api/hivemind/status", {**STATUS, "role": "primary", "primaryId": "dev-02"})
    assert pairs(meshd("status", "--url", daemon.url).stdout)["primary"] == "this instance"
    for authoritative, line in ((True, "yes"), (False, "no: documents go on, claims are not decided")):
        primary = {"role": "primary", "primaryId": "dev-02", "authoritative": authoritative}
        daemon.answer("GET", "/api/hivemind/status", {**STATUS, **primary})
        assert pairs(meshd("status", "--url", daemon.url).stdout)["authority"] == line

    daemon.answer("GET", "/api/hivemind/status", {**STATUS, "enabled": False})
    told = pairs(meshd("status", "--url", daemon.url).stdout)
    assert told["mesh"].startswith("off")
    assert "primary" not in told


def test_status_as_json(daemon: Recorded) -> None:
    told = json.loads(meshd("status", "--json", "--url", daemon.url).stdout)

    health = {key: value for key, value in HEALTH.items() if key != "sync"}
    assert told == {"version": 1, "url": daemon.url, "instance": STATUS, "health": health}


def test_members_in_words_itself_first(daemon: Recorded) -> None:
    headers, this, peer = meshd("members", "--url", daemon.url).stdout.splitlines()

    assert headers.replace(" ", "") == "".join(HEADERS).replace(" ", "")
    assert [cell.strip() for cell in this.split("  ") if cell.strip()] == [
        "dev-02",
        "worker",
        "frontend, docs",
        "1",
        "online",
        "itself, term 3",
        "-",
        "-",
        "-",
        "-",
        "off",
        "2",
        "7 %",
        "41 %",
        "0.1.0",
    ]
    assert [cell.strip() for cell in peer.split("  ") if cell.strip()] == [
        "dev-01",
        "primary",
        "fullstack, backend, infra",
        "0",
        "online",
        "suspect",
        "1.2 s ago",
        "yes",
        "3.6 s ago",
        "1.2 ms",
        "on",
        "0",
        "-",
        "-",
        "-",
    ]


def test_members_name_since_when_one_is_out_of_sync(daemon: Recorded) -> None:
    lost = {**PEER, "inSync": False, "outOfSyncSince": "2026-03-14T09:20:00.000Z"}
    old = {**PEER, "instanceId": "old-01", "inSync": None, "lastChangeAgeMs": None}
    daemon.answer("GET", "/api/hivemind/peers", {"peers": [lost, old]})

    _, _, first, second = meshd("members", "--url", daemon.url).stdout.splitlines()

    assert cells(first)[7:9] == ["no, since 2026-03-14T09:20:00.000Z", "3.6 s ago"]
    assert cells(second)[7:9] == ["-", "-"]


def test_members_of_a_primary_without_authority(daemon: Recorded) -> None:
    daemon.answer("GET", "/api/hivemind/self", {**SELF, "syncRole": "primary", "authoritative": False})

    _, this, _ = meshd("members", "--url", daemon.url).stdout.splitlines()

    assert cells(this)[5] == "itself, term 3, no authority"


def test_members_as_json(daemon: Recorded) -> None:
    told = json.loads(meshd("members", "--json", "--url", daemon.url).stdout)

    assert told == {"version": 1, "url": daemon.url, "primaryId": "dev-01", "self": SELF, "peers": [PEER]}
