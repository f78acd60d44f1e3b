"""`meshd alerts`."""

from __future__ import annotations

import json

import pytest

from .conftest import Recorded, meshd

WARNING = {
    "code": "large-document",
    "severity": "warning",
    "subject": "site",
    "since": "2026-03-14T09:26:53.589Z",
    "text": "site takes 12000000 bytes, more than 10485760",
    "fix": "archive or prune what grows in it",
}
CRITICAL = {**WARNING, "code": "partitioned", "severity": "critical", "subject": ""}


@pytest.mark.parametrize(("found", "exit_code"), [([], 0), ([WARNING], 0), ([WARNING, CRITICAL], 1)])
@pytest.mark.parametrize("as_json", [False, True])
def test_only_what_is_critical_fails(recorded: Recorded, found: list[object], exit_code: int, as_json: bool) -> None:
    recorded.answer("GET", "/api/alerts", {"alerts": found})

    result = meshd("alerts", "--url", recorded.url, *(["--json"] if as_json else []))

    assert result.exit_code == exit_code
    if as_json:
        assert json.loads(result.stdout) == {"version": 1, "url": recorded.url, "alerts": found}


def test_an_alert_is_a_line_that_says_what_to_do(recorded: Recorded) -> None:
    recorded.answer("GET", "/api/alerts", {"alerts": [WARNING]})

    _, line = meshd("alerts", "--url", recorded.url).stdout.splitlines()

    for part in ("warning", "large-document", "site takes 12000000 bytes", "archive or prune"):
        assert part in line


def test_no_alerts_are_said_to_be_none(recorded: Recorded) -> None:
    recorded.answer("GET", "/api/alerts", {"alerts": []})

    assert meshd("alerts", "--url", recorded.url).stdout == "no alerts\n"
