"""`meshd compaction show|ack`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Recorded, meshd

PASS = {
    "time": "2026-03-14T09:26:53.589Z",
    "documents": 2,
    "totalSizeBytes": 500,
    "dropped": ["old"],
    "tombstones": 1,
    "waitingFor": ["dev-03"],
}
FOUND: dict[str, Any] = {
    "intervalMs": 300_000,
    "alertBytes": 100,
    "tombstoneRetentionMs": 604_800_000,
    "alertCount": 1,
    "alerts": [{"slug": "large", "sizeBytes": 300, "alertBytes": 100, "since": "2026-03-14T09:26:53.589Z"}],
    "lastCompaction": "2026-03-14T09:26:53.589Z",
    "totalSizeBytes": 500,
    "documents": [
        {"slug": "large", "sizeBytes": 300, "acknowledged": False},
        {"slug": "known", "sizeBytes": 150, "acknowledged": True},
        {"slug": "small", "sizeBytes": 50, "acknowledged": False},
    ],
    "history": [{**PASS, "time": "2026-03-14T09:21:53.589Z", "dropped": []}, PASS],
}


def test_show_in_words(recorded: Recorded) -> None:
    recorded.answer("GET", "/api/compaction", FOUND)

    pairs, passes, documents = meshd("compaction", "show", "--url", recorded.url).stdout.split("\n\n")

    assert pairs.splitlines()[0].split() == ["last", "pass", "2026-03-14T09:26:53.589Z"]
    assert "7 d 0 h" in pairs
    latest = passes.splitlines()[1].split()
    assert latest == ["2026-03-14T09:26:53.589Z", "2", "500", "1", "old", "dev-03"]
    assert [line.split() for line in documents.splitlines()[1:]] == [
        ["large", "300", "raised"],
        ["known", "150", "acknowledged"],
        ["small", "50", "-"],
    ]


def test_show_before_the_first_pass(recorded: Recorded) -> None:
    nothing: dict[str, Any] = {
        "lastCompaction": None,
        "documents": [],
        "history": [],
        "alerts": [],
        "totalSizeBytes": 0,
    }
    recorded.answer("GET", "/api/compaction", {**FOUND, **nothing})

    output = meshd("compaction", "show", "--url", recorded.url).stdout

    assert output.splitlines()[0].split() == ["last", "pass", "-"]
    assert len(output.splitlines()) == 6


def test_show_as_json(recorded: Recorded) -> None:
    recorded.answer("GET", "/api/compaction", FOUND)

    told = json.loads(meshd("compaction", "show", "--json", "--url", recorded.url).stdout)

    assert told == {"version": 1, "url": recorded.url, "compaction": FOUND}


@pytest.mark.parametrize(
    ("slugs", "line"),
    [(["large", "site"], "acknowledged: large, site\n"), ([], "there was nothing to acknowledge\n")],
)
def test_ack(recorded: Recorded, slugs: list[str], line: str) -> None:
    recorded.answer("DELETE", "/api/compaction/alerts", {"acknowledged": slugs})

    assert meshd("compaction", "ack", "--url", recorded.url).stdout == line
    told = json.loads(meshd("compaction", "ack", "--json", "--url", recorded.url).stdout)
    assert told == {"version": 1, "url": recorded.url, "acknowledged": slugs}
