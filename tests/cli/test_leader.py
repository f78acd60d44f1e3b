"""`meshd leader`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Recorded, meshd
from .leadership import FOUND, LEADING, TURNS


def shown(recorded: Recorded, *arguments: str, found: dict[str, Any] = FOUND) -> list[list[str]]:
    """The lines of each table that is printed."""
    recorded.answer("GET", "/api/leadership", found)
    output = meshd("leader", *arguments, "--url", recorded.url).stdout
    return [table.splitlines() for table in output.split("\n\n")]


def pairs(lines: list[str]) -> dict[str, str]:
    return {name.strip(): value.strip() for name, _, value in (line.partition("  ") for line in lines)}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_who_since_when_and_why(recorded: Recorded) -> None:
    told = pairs(shown(recorded)[0])

    assert told == {
        "leader": "dev-01 (ws://100.64.0.1:4444)",
        "since": "2026-03-14T09:26:53.589Z",
        "term": "7",
        "because": "elected with 2 of 3 votes",
        "policy": "quorum, failback auto",
        "majority": "2 of 3 voters",
        "this instance": "dev-02, worker",
        "why it does not lead": "dev-01 leads and is heard",
        "failover now": "possible, dev-02 would lead",
    }


def test_the_voters_with_their_status(recorded: Recorded) -> None:
    _, headers, *rows = ["", *shown(recorded)[1]]

    assert cells(headers) == ["voter", "url", "status", "heard", "may lead", "in sync"]
    assert [cells(row) for row in rows] == [
        ["dev-01", "ws://100.64.0.1:4444", "online", "1.2 s ago", "yes", "yes"],
        ["dev-02", "ws://100.64.0.2:4444", "online", "itself", "yes", "-"],
        ["-", "ws://100.64.0.3:4444", "never met", "-", "no", "-"],
    ]


def test_the_latest_turns_latest_first(recorded: Recorded) -> None:
    def terms(*arguments: str) -> list[str]:
        tables = shown(recorded, *arguments)
        return [cells(row)[1] for row in tables[2][1:]] if len(tables) > 2 else []

    assert terms() == ["7", "6", "5", "4", "3"]
    assert terms("--history", "2") == ["7", "6"]
    assert terms("--history", "99") == ["7", "6", "5", "4", "3", "2"]
    assert terms("--history", "0") == []
    assert cells(shown(recorded)[2][2]) == ["2026-03-14T09:26:06.000Z", "6", "nobody", "turn 6"]


def test_nobody_leads_is_exit_code_1(recorded: Recorded) -> None:
    nobody = {**FOUND, "primaryId": None, "primaryUrl": None, "since": None}
    told = pairs(shown(recorded, found=nobody)[0])

    assert (told["leader"], told["since"]) == ("nobody", "-")
    assert meshd("leader", "--url", recorded.url).exit_code == 1
    assert meshd("leader", "--json", "--url", recorded.url).exit_code == 1


@pytest.mark.parametrize("authoritative", [True, False])
def test_the_leader_itself_says_whether_it_has_authority(recorded: Recorded, authoritative: bool) -> None:
    told = pairs(shown(recorded, found={**LEADING, "authoritative": authoritative})[0])

    assert told["leader"] == "dev-02 (ws://100.64.0.2:4444)"
    assert "why it does not lead" not in told
    assert ("authority" in told) is not authoritative


def test_what_a_failover_lacks(recorded: Recorded) -> None:
    failover = {"possible": False, "winner": None, "missing": ["1 voter more", "dev-03 is offline"]}
    told = pairs(shown(recorded, found={**FOUND, "failover": failover})[0])

    assert told["failover now"] == "not possible: 1 voter more; dev-03 is offline"


def test_an_instance_without_a_mesh_has_no_voters(recorded: Recorded) -> None:
    assert len(shown(recorded, found={**FOUND, "voters": [], "history": []})) == 1


@pytest.mark.parametrize(("arguments", "turns"), [((), TURNS), (("--history", "2"), TURNS[-2:])])
def test_as_json(recorded: Recorded, arguments: tuple[str, ...], turns: list[Any]) -> None:
    recorded.answer("GET", "/api/leadership", FOUND)

    result = meshd("leader", "--json", *arguments, "--url", recorded.url)

    expected = {"version": 1, "url": recorded.url, "leadership": {**FOUND, "history": turns}}
    assert (result.exit_code, json.loads(result.stdout)) == (0, expected)
