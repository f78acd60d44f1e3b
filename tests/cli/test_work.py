"""`meshd work ls`, `meshd why` and `meshd features`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Recorded, meshd

FREE: dict[str, Any] = {
    "project": "site",
    "milestone": "m",
    "phase": "a b",
    "status": "unclaimed",
    "claimedBy": None,
    "claimedAt": None,
    "generation": 0,
    "attempts": 0,
    "featureId": None,
    "prUrl": None,
    "lastError": None,
    "note": None,
    "retryAt": None,
    "provisional": False,
    "ageMs": None,
    "leaseLeftMs": None,
    "reclaimInMs": None,
    "blocked": None,
}
HELD = {
    **FREE,
    "phase": "q",
    "status": "in_progress",
    "claimedBy": "dev-02",
    "generation": 2,
    "attempts": 1,
    "ageMs": 65_000,
    "leaseLeftMs": 1_500_000,
    "lastError": "no such table",
}
WHY = {
    **FREE,
    "title": "A and B",
    "on": "dev-01",
    "claimable": False,
    "decisions": [],
    "conditions": [
        {"name": "not-held", "holds": True, "text": "nobody holds it"},
        {"name": "dependencies", "holds": False, "text": "depends on q, which is in_progress, by dev-02"},
    ],
}
WHY_PATH = "/api/phases/site/m/a%20b?"
FEATURE = {
    "id": "feature-1773480413589-abcdefghi",
    "title": "Q",
    "status": "backlog",
    "projectSlug": "site",
    "milestoneSlug": "m",
    "phaseSlug": "q",
    "claimedBy": "dev-02",
    "generation": 2,
    "releaseReason": "the host is draining",
    "held": False,
    "state": None,
    "leaseLeftMs": None,
}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


# work ls


def test_all_phases_with_who_holds_them(recorded: Recorded) -> None:
    blocked = {**FREE, "phase": "z", "blocked": "depends on y, which does not exist in milestone m"}
    recorded.answer("GET", "/api/phases?", {"phases": [FREE, HELD, blocked]})

    result = meshd("work", "ls", "--url", recorded.url)

    assert result.exit_code == 0
    headers, *rows = [cells(line) for line in result.stdout.splitlines()]
    assert headers == ["phase", "status", "holder", "generation", "age", "lease", "attempts", "note"]
    assert rows == [
        ["site/m/a b", "unclaimed", "-", "-", "-", "-", "-", "-"],
        ["site/m/q", "in_progress", "dev-02", "2", "1 min 5 s", "25 min 0 s", "1", "no such table"],
        ["site/m/z", "unclaimed", "-", "-", "-", "-", "-", "depends on y, which does not exist in milestone m"],
    ]


@pytest.mark.parametrize(("reclaim_in_ms", "shown"), [(90_000, "1 min 30 s"), (-5, "0.0 s"), (None, "-")])
def test_on_the_primary_the_lease_is_what_is_left_to_a_silent_holder(
    recorded: Recorded, reclaim_in_ms: int | None, shown: str
) -> None:
    row = {**HELD, "leaseLeftMs": None, "reclaimInMs": reclaim_in_ms}
    recorded.answer("GET", "/api/phases?", {"phases": [row]})
    assert cells(meshd("work", "ls", "--url", recorded.url).stdout.splitlines()[1])[5] == shown


def test_some_of_them(recorded: Recorded) -> None:
    recorded.answer("GET", "/api/phases?project=a+site&status=failed", {"phases": []})
    result = meshd("work", "ls", "--project", "a site", "--status", "failed", "--url", recorded.url)
    assert result.stdout == "there are no phases in projects that are active or scaffolded\n"


def test_phases_as_json(recorded: Recorded) -> None:
    recorded.answer("GET", "/api/phases?", {"phases": [HELD]})
    told = json.loads(meshd("work", "ls", "--json", "--url", recorded.url).stdout)
    assert told == {"version": 1, "url": recorded.url, "phases": [HELD]}


# why


def test_why_not_with_every_condition(recorded: Recorded) -> None:
    recorded.answer("GET", WHY_PATH, WHY)

    result = meshd("why", "site/m/a b", "--url", recorded.url)

    assert result.exit_code == 1
    sentence, *rows = result.stdout.splitlines()
    assert sentence == "site/m/a b is unclaimed, and cannot be claimed on dev-01 now"
    assert [cells(row) for row in rows] == [
        ["condition", "holds", "because"],
        ["not-held", "yes", "nobody holds it"],
        ["dependencies", "no", "depends on q, which is in_progress, by dev-02"],
    ]


def test_why_on_another_host_where_it_can_be_claimed(recorded: Recorded) -> None:
    recorded.answer("GET", f"{WHY_PATH}on=dev+03", {**WHY, "on": "dev 03", "claimable": True})
    result = meshd("why", "site/m/a b", "--on", "dev 03", "--url", recorded.url)
    assert result.exit_code == 0
    assert result.stdout.startswith("site/m/a b is unclaimed, and can be claimed\n")


def test_why_as_json(recorded: Recorded) -> None:
    recorded.answer("GET", WHY_PATH, WHY)
    result = meshd("why", "site/m/a b", "--json", "--url", recorded.url)
    assert (result.exit_code, json.loads(result.stdout)) == (1, {"version": 1, "url": recorded.url, "phase": WHY})


def test_a_phase_that_is_not_there(recorded: Recorded) -> None:
    recorded.refuse("GET", WHY_PATH, 404, "not-found", "there is no phase site/m/a b")
    result = meshd("why", "site/m/a b", "--url", recorded.url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("there is no phase site/m/a b; `meshd work ls` lists what there is\n")


def test_a_place_has_three_names(recorded: Recorded) -> None:
    assert meshd("why", "site/m", "--url", recorded.url).exit_code == 2
    assert recorded.asked == []


# features


def test_the_features_of_a_host(recorded: Recorded) -> None:
    working = {**FEATURE, "id": "feature-2", "status": "in_progress", "state": "working", "held": True}
    del working["releaseReason"]
    recorded.answer("GET", "/api/features", {"features": [FEATURE, working]})

    _, *rows = [cells(line) for line in meshd("features", "ls", "--url", recorded.url).stdout.splitlines()]

    assert rows == [
        [FEATURE["id"], "site/m/q", "backlog", "-", "the host is draining"],
        ["feature-2", "site/m/q", "in_progress", "working", "-"],
    ]
    told = json.loads(meshd("features", "ls", "--json", "--url", recorded.url).stdout)
    assert told == {"version": 1, "url": recorded.url, "features": [FEATURE, working]}


def test_no_features_are_said(recorded: Recorded) -> None:
    recorded.answer("GET", "/api/features", {"features": []})
    assert meshd("features", "ls", "--url", recorded.url).stdout == "this host has made no features yet\n"


def test_one_feature(recorded: Recorded) -> None:
    recorded.answer("GET", f"/api/features/{FEATURE['id']}", FEATURE)
    result = meshd("features", "show", str(FEATURE["id"]), "--url", recorded.url)
    assert cells(result.stdout.splitlines()[1]) == ["title", "Q"]
    told = json.loads(meshd("features", "show", str(FEATURE["id"]), "--json", "--url", recorded.url).stdout)
    assert told == {"version": 1, "url": recorded.url, "feature": FEATURE}


def test_a_feature_that_is_not_there(recorded: Recorded) -> None:
    recorded.refuse("GET", "/api/features/a%2Fb", 404, "not-found", "there is no feature a/b")
    result = meshd("features", "show", "a/b", "--url", recorded.url)
    assert result.exit_code == 1
    assert "`meshd features ls` lists what there is" in result.stderr
