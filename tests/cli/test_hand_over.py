"""`meshd promote` and `meshd step-down`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Recorded, meshd
from .leadership import FOUND, LEADING, TURNS, voter

PROMOTE = "/api/leadership/promote"
STEP_DOWN = "/api/leadership/step-down"


def mesh(recorded: Recorded, before: dict[str, Any], after: dict[str, Any]) -> None:
    """An instance that tells `before`, and once it was asked for something, `after`."""
    recorded.answer("GET", "/api/leadership", before)
    recorded.once_asked("/api/leadership", after)
    for path in (PROMOTE, STEP_DOWN):
        recorded.answer("POST", path, {"instanceId": "dev-02"}, 202)


def bodies(recorded: Recorded) -> list[bytes]:
    return [asked.body for asked in recorded.asked if asked.method == "POST"]


def test_promote_waits_and_says_what_happened(recorded: Recorded) -> None:
    mesh(recorded, FOUND, LEADING)

    result = meshd("promote", "dev-02", "--url", recorded.url)

    assert result.exit_code == 0
    turn, end = result.stdout.splitlines()
    assert turn == "2026-03-14T09:27:00.000Z  term 8: dev-02 leads: dev-01 handed over"
    assert end.startswith("dev-02 (ws://100.64.0.2:4444) leads, term 8, after 0.")
    assert end.endswith("before it dev-01, term 7")
    assert bodies(recorded) == [b'{"instanceId": "dev-02"}']


def test_promote_without_a_name_means_the_one_that_is_asked(recorded: Recorded) -> None:
    mesh(recorded, FOUND, LEADING)

    assert meshd("promote", "--url", recorded.url).exit_code == 0
    assert bodies(recorded) == [b""]


def test_promote_of_the_leader_changes_nothing(recorded: Recorded) -> None:
    mesh(recorded, FOUND, FOUND)

    result = meshd("promote", "dev-01", "--url", recorded.url)

    assert (result.exit_code, result.stdout) == (0, "dev-01 (ws://100.64.0.1:4444) leads, term 7, as before\n")


def test_promote_as_json(recorded: Recorded) -> None:
    mesh(recorded, FOUND, LEADING)

    told = json.loads(meshd("promote", "--json", "--url", recorded.url).stdout)

    assert told.pop("seconds") < 5
    expected = {"before": FOUND, "leadership": LEADING, "turns": LEADING["history"][-1:]}
    assert told == {"version": 1, "url": recorded.url, **expected}


UNFIT = voter(2, "dev-03", status="offline", eligible=False, inSync=False)


@pytest.mark.parametrize(
    ("instance", "after", "reason"),
    [
        ("dev-02", FOUND, "dev-01 leads and is heard"),
        ("dev-02", {**LEADING, "authoritative": False}, "no majority of the voters is heard"),
        ("dev-02", {**FOUND, "whyNot": ""}, "no reason is known"),
        ("dev-03", {**FOUND, "voters": [UNFIT]}, "it is offline, it may not lead (leaderEligible: false), its docu"),
        ("dev-03", {**FOUND, "voters": [voter(2, "dev-03")]}, "its own view says more (`meshd leader` on dev-03)"),
        ("dev-09", FOUND, "it is not among the voters"),
    ],
)
def test_promote_that_takes_too_long_says_why(
    recorded: Recorded, instance: str, after: dict[str, Any], reason: str
) -> None:
    mesh(recorded, FOUND, after)

    result = meshd("promote", instance, "--timeout", "20ms", "--url", recorded.url)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"meshd: {instance} does not lead after 0.")
    assert reason in result.stderr
    assert "see `meshd leader`" in result.stderr


def test_a_wait_in_vain_as_json(recorded: Recorded) -> None:
    mesh(recorded, FOUND, FOUND)

    result = meshd("promote", "--timeout", "20ms", "--json", "--url", recorded.url)

    assert (result.exit_code, json.loads(result.stdout)["error"]["code"]) == (1, "timeout")


def test_step_down_waits_for_the_successor(recorded: Recorded) -> None:
    handed = {**FOUND, "primaryId": "dev-03", "term": 9, "history": TURNS}
    mesh(recorded, LEADING, handed)

    result = meshd("step-down", "--url", recorded.url)

    assert result.exit_code == 0
    assert result.stdout.startswith("dev-03 (ws://100.64.0.1:4444) leads, term 9, after 0.")
    assert json.loads(meshd("step-down", "--json", "--url", recorded.url).stdout)["leadership"] == handed


@pytest.mark.parametrize("after", [LEADING, {**FOUND, "primaryId": None}])
def test_step_down_that_nobody_answers(recorded: Recorded, after: dict[str, Any]) -> None:
    mesh(recorded, LEADING, after)

    result = meshd("step-down", "--timeout", "20ms", "--url", recorded.url)

    assert result.exit_code == 1
    assert "nobody took over within 0." in result.stderr
    assert "failover now: possible, dev-02 would lead" in result.stderr


@pytest.mark.parametrize(
    ("verb", "code", "advice"),
    [
        ("promote", "not-found", "`meshd members` lists the instances"),
        ("promote", "no-successor", "`meshd check failover` says what is missing"),
        ("promote", "invalid", "`meshd leader` shows which voters may lead"),
        ("step-down", "not-primary", "ask the one that leads, with --url"),
    ],
)
def test_a_refusal_says_what_to_try_next(recorded: Recorded, verb: str, code: str, advice: str) -> None:
    mesh(recorded, FOUND, FOUND)
    recorded.refuse("POST", f"/api/leadership/{verb}", 409, code, "it cannot be")

    result = meshd(verb, "--url", recorded.url)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"meshd: {code}: it cannot be; {advice}")


@pytest.mark.parametrize("timeout", ["0", "-1s", "soon", "10h", "1e9", "inf", "nan", "s", "86401s"])
def test_a_timeout_is_a_time(recorded: Recorded, timeout: str) -> None:
    result = meshd("promote", f"--timeout={timeout}", "--url", recorded.url)

    assert result.exit_code == 2
    assert "30s, 500ms or 2m" in result.output
    assert recorded.asked == []


@pytest.mark.parametrize("timeout", ["30s", "500ms", "2m", "2min", "3", "0.5"])
def test_times_that_are_taken(recorded: Recorded, timeout: str) -> None:
    mesh(recorded, FOUND, LEADING)

    assert meshd("promote", "--timeout", timeout, "--url", recorded.url).exit_code == 0
