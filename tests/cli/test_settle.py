"""`meshd claim|release|retry|done|fail`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Recorded, meshd
from .test_work import FEATURE, HELD

PLACE = "site/m/a b"
PATH = "/api/phases/site/m/a%20b"


def test_a_phase_is_claimed(recorded: Recorded) -> None:
    recorded.answer("POST", f"{PATH}/claim", FEATURE)
    result = meshd("claim", PLACE, "--url", recorded.url)
    assert (result.exit_code, result.stdout) == (0, f"site/m/a b is held by dev-02, as {FEATURE['id']}\n")
    told = json.loads(meshd("claim", PLACE, "--json", "--url", recorded.url).stdout)
    assert told == {"version": 1, "url": recorded.url, "feature": FEATURE}


@pytest.mark.parametrize(
    ("verb", "path", "options", "body"),
    [
        ("release", "release", (), {}),
        ("release", "release", ("--note", "lunch", "--force"), {"note": "lunch", "force": True}),
        ("retry", "retry", ("--generation", "3"), {"generation": 3}),
        ("retry", "retry", ("--generation", "0"), {"generation": 0}),
        ("done", "done", ("--pr-url", "https://git.example/pull/1"), {"prUrl": "https://git.example/pull/1"}),
        (
            "fail",
            "failed",
            ("--error", "no such table", "--note", "again"),
            {"error": "no such table", "note": "again"},
        ),
    ],
)
def test_what_is_said_of_a_phase(
    recorded: Recorded, verb: str, path: str, options: tuple[str, ...], body: dict[str, Any]
) -> None:
    recorded.answer("POST", f"{PATH}/{path}", HELD)
    result = meshd(verb, PLACE, *options, "--url", recorded.url)
    assert (result.exit_code, result.stdout) == (0, "site/m/a b is in_progress, at generation 2\n")
    assert json.loads(recorded.asked[0].body) == body
    told = json.loads(meshd(verb, PLACE, *options, "--json", "--url", recorded.url).stdout)
    assert told == {"version": 1, "url": recorded.url, "phase": HELD}


@pytest.mark.parametrize(
    ("verb", "code", "advice"),
    [
        ("claim", "not-claimable", "`meshd why` says more"),
        ("claim", "undecided", "`meshd features ls` shows it when it is granted after all"),
        ("claim", "not-found", "`meshd work ls` lists what there is"),
        ("done", "not-holder", "run it on that host, or add --force"),
        ("release", "stale", "see `meshd conflicts ls`"),
    ],
)
def test_a_refusal_says_what_to_try_next(recorded: Recorded, verb: str, code: str, advice: str) -> None:
    recorded.refuse("POST", f"{PATH}/{verb}", 409, code, "it cannot be")
    result = meshd(verb, PLACE, "--url", recorded.url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"meshd: {code}: it cannot be; ")
    assert advice in result.stderr


@pytest.mark.parametrize("arguments", [("done", "site"), ("done", PLACE, "--generation", "-1"), ("retry", PLACE, "-f")])
def test_wrong_command_lines(recorded: Recorded, arguments: tuple[str, ...]) -> None:
    assert meshd(*arguments, "--url", recorded.url).exit_code == 2
    assert recorded.asked == []
