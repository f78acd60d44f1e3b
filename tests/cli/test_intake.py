"""`meshd intake`, `meshd drain`, `meshd undrain`, `meshd audits`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Recorded, meshd

ON: dict[str, Any] = {
    "instanceId": "dev-02",
    "origin": "default",
    "on": True,
    "claims": True,
    "why": "",
    "maxAgents": 4,
    "free": 3,
    "holding": 1,
    "decides": "worker",
}
OFF = {**ON, "on": False, "claims": False, "why": "autoMode is false in the local settings", "decides": ""}
IDLE = {"draining": True, "idle": True, "held": []}
BUSY = {
    "draining": True,
    "idle": False,
    "held": [
        {"project": "site", "milestone": "m", "phase": "a b", "state": "working"},
        {"project": "site", "milestone": "m", "phase": "q", "state": "waiting"},
    ],
}
HELD = "site/m/a b (working), site/m/q (waiting)"


def pairs(output: str) -> dict[str, str]:
    return {name.strip(): value.strip() for name, _, value in (line.partition("  ") for line in output.splitlines())}


def bodies(recorded: Recorded) -> list[Any]:
    return [json.loads(asked.body) for asked in recorded.asked if asked.method in ("POST", "PUT")]


# Intake


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (ON, {"intake": "on", "claims work now": "yes", "decides about claims": "worker"}),
        (OFF, {"intake": "off", "claims work now": f"no: {OFF['why']}", "decides about claims": "yes"}),
    ],
)
def test_whether_a_host_claims(recorded: Recorded, found: dict[str, Any], expected: dict[str, str]) -> None:
    recorded.answer("GET", "/api/intake", found)
    told = pairs(meshd("intake", "status", "--url", recorded.url).stdout)
    assert told == {"instance": "dev-02", "holds or asks for": "1", "room for": "3 of 4", **expected}
    as_json = json.loads(meshd("intake", "status", "--json", "--url", recorded.url).stdout)
    assert as_json == {"version": 1, "url": recorded.url, "intake": found}


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (("on",), {"on": True, "fleet": False}),
        (("off",), {"on": False, "fleet": False}),
        (("off", "--fleet"), {"on": False, "fleet": True}),
    ],
)
def test_it_is_switched(recorded: Recorded, arguments: tuple[str, ...], body: dict[str, bool]) -> None:
    recorded.answer("PUT", "/api/intake", OFF)
    result = meshd("intake", *arguments, "--url", recorded.url)
    assert (result.exit_code, pairs(result.stdout)["intake"]) == (0, "off")
    assert bodies(recorded) == [body]


def test_the_fleet_is_switched_on_the_primary(recorded: Recorded) -> None:
    recorded.refuse("PUT", "/api/intake", 409, "not-primary", "dev-01 leads")
    result = meshd("intake", "off", "--fleet", "--url", recorded.url)
    assert result.exit_code == 1
    assert "name the primary's daemon with --url" in result.stderr


# Draining


def test_a_drain_waits_until_the_host_is_idle_and_says_for_what(recorded: Recorded) -> None:
    recorded.answer("POST", "/api/drain", BUSY)
    recorded.answer("GET", "/api/drain", IDLE)
    result = meshd("drain", "--url", recorded.url)
    assert (result.exit_code, result.stdout) == (0, "draining, and idle\n")
    assert result.stderr == f"waits for {HELD}\n"
    assert bodies(recorded) == [{"release": False}]


def test_a_drain_that_takes_too_long(recorded: Recorded) -> None:
    recorded.answer("POST", "/api/drain", BUSY)
    recorded.answer("GET", "/api/drain", BUSY)
    result = meshd("drain", "--timeout", "0.01", "--stop", "--url", recorded.url)
    assert result.exit_code == 1
    assert result.stdout == f"draining, and still holds {HELD}; the daemon was not ended\n"
    assert bodies(recorded) == [{"release": False}], "it was not told to end"
    result = meshd("drain", "--timeout", "0", "--json", "--url", recorded.url)
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"version": 1, "url": recorded.url, "drain": BUSY, "stopped": False}


def test_a_drain_that_releases_and_ends_the_daemon(recorded: Recorded) -> None:
    recorded.answer("POST", "/api/drain", IDLE)
    result = meshd("drain", "--release", "--stop", "--url", recorded.url)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "idle; the daemon ends\n", "")
    assert bodies(recorded) == [{"release": True}, {"stop": True}]
    told = json.loads(meshd("drain", "--stop", "--json", "--url", recorded.url).stdout)
    assert told == {"version": 1, "url": recorded.url, "drain": IDLE, "stopped": True}


@pytest.mark.parametrize("timeout", ["", "-1", "soon", "1w", "inf", "nan"])
def test_a_timeout_is_a_time(recorded: Recorded, timeout: str) -> None:
    result = meshd("drain", f"--timeout={timeout}", "--url", recorded.url)
    assert result.exit_code == 2
    assert "90s, 15m or 2h" in result.output
    assert recorded.asked == []


@pytest.mark.parametrize("timeout", ["90", "90s", "1.5m", "2h", "1d"])
def test_times_that_are_taken(recorded: Recorded, timeout: str) -> None:
    recorded.answer("POST", "/api/drain", IDLE)
    assert meshd("drain", "--timeout", timeout, "--url", recorded.url).exit_code == 0


@pytest.mark.parametrize(
    ("is_draining", "sentence"),
    [(False, "it claims work again"), (True, "it is being stopped: that is not undone")],
)
def test_undrain(recorded: Recorded, is_draining: bool, sentence: str) -> None:
    found = {**IDLE, "draining": is_draining}
    recorded.answer("DELETE", "/api/drain", found)
    assert meshd("undrain", "--url", recorded.url).stdout == f"{sentence}\n"
    told = json.loads(meshd("undrain", "--json", "--url", recorded.url).stdout)
    assert told == {"version": 1, "url": recorded.url, "drain": found}


# Audits


def test_what_was_claimed_twice(recorded: Recorded) -> None:
    place = {"projectSlug": "site", "milestoneSlug": "m", "phaseSlug": "a b"}
    report = {**place, "kept": "dev-01", "released": "dev-02", "outcome": "higher-priority-keeps"}
    audit = {"id": 7, "type": "sync:dual-claim", "timestamp": "2026-03-14T09:26:53.589Z", "payload": report}
    recorded.answer("GET", "/api/audits", {"audits": [audit]})
    headers, row = meshd("audits", "--url", recorded.url).stdout.splitlines()
    assert headers.split("  ")[0] == "when"
    shown = [cell.strip() for cell in row.split("  ") if cell.strip()]
    assert shown == ["2026-03-14T09:26:53.589Z", "site/m/a b", "dev-01", "dev-02", "higher-priority-keeps"]
    told = json.loads(meshd("audits", "--json", "--url", recorded.url).stdout)
    assert told == {"version": 1, "url": recorded.url, "audits": [audit]}


def test_nothing_was_claimed_twice(recorded: Recorded) -> None:
    recorded.answer("GET", "/api/audits", {"audits": []})
    assert meshd("audits", "--url", recorded.url).stdout == "nothing was claimed twice\n"
