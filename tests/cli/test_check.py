"""`meshd check failover`."""

from __future__ import annotations

import json

import pytest

from .conftest import Recorded, meshd
from .leadership import FOUND

POSSIBLE = {"possible": True, "winner": "dev-02", "missing": []}
IMPOSSIBLE = {"possible": False, "winner": None, "missing": ["1 of 2 voters needed", "dev-03 was never met"]}


@pytest.mark.parametrize(("failover", "exit_code"), [(POSSIBLE, 0), (IMPOSSIBLE, 1)])
def test_the_exit_code_and_json(recorded: Recorded, failover: dict[str, object], exit_code: int) -> None:
    recorded.answer("GET", "/api/leadership", {**FOUND, "failover": failover})

    result = meshd("check", "failover", "--json", "--url", recorded.url)

    assert result.exit_code == exit_code
    assert meshd("check", "failover", "--url", recorded.url).exit_code == exit_code
    expected = {**failover, "policy": "quorum", "majority": 2, "voters": FOUND["voters"]}
    assert json.loads(result.stdout) == {"version": 1, "url": recorded.url, **expected}


def test_who_would_win(recorded: Recorded) -> None:
    recorded.answer("GET", "/api/leadership", {**FOUND, "failover": POSSIBLE})

    first, policy, *rest = meshd("check", "failover", "--url", recorded.url).stdout.splitlines()

    assert first == "a failover would succeed now: dev-02 would lead"
    assert policy == "policy quorum, 2 of 3 voters are a majority"
    assert len([line for line in rest if "ws://" in line]) == 3


def test_what_is_missing(recorded: Recorded) -> None:
    recorded.answer("GET", "/api/leadership", {**FOUND, "failover": IMPOSSIBLE, "voters": []})

    lines = meshd("check", "failover", "--url", recorded.url).stdout.splitlines()

    assert lines == [
        "a failover could not succeed now:",
        "- 1 of 2 voters needed",
        "- dev-03 was never met",
        "policy quorum, 2 of 0 voters are a majority",
    ]


def test_the_group_lists_its_checks() -> None:
    assert "failover" in meshd("check", "--help").output
