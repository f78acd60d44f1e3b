"""`meshd conflicts ls|show|take|drop`."""

from __future__ import annotations

import json

import pytest

from .conftest import Recorded, meshd

ROW = {
    "id": "23bb546980c5027b",
    "slug": "meadow",
    "path": "title",
    "value": "A lawn",
    "removed": False,
    "writtenBy": "dev-02",
    "writtenAt": "2026-03-14T09:26:53.589Z",
    "wonBy": "dev-01",
    "wonAt": "2026-03-14T09:27:53.589Z",
    "foundAt": "2026-03-14T09:28:53.589Z",
}
PATH = "/api/projects/meadow/conflicts"


@pytest.fixture
def daemon(recorded: Recorded) -> Recorded:
    recorded.answer("GET", "/api/conflicts", {"conflicts": [ROW]})
    recorded.answer("GET", PATH, {"conflicts": [ROW]})
    recorded.answer("POST", f"{PATH}/{ROW['id']}/take", {"slug": "meadow", "revision": "77aa", "changed": True})
    recorded.answer("DELETE", f"{PATH}/{ROW['id']}", None, 204)
    return recorded


@pytest.mark.parametrize("slug", [(), ("meadow",)])
def test_they_are_listed(daemon: Recorded, slug: tuple[str, ...]) -> None:
    result = meshd("conflicts", "ls", *slug, "--url", daemon.url)
    assert result.exit_code == 0
    assert "23bb546980c5027b" in result.output
    assert "A lawn" in result.output
    as_json = meshd("conflicts", "ls", *slug, "--json", "--url", daemon.url)
    assert json.loads(as_json.output)["conflicts"] == [ROW]


def test_nothing_lost_is_said(recorded: Recorded) -> None:
    recorded.answer("GET", "/api/conflicts", {"conflicts": []})
    assert meshd("conflicts", "ls", "--url", recorded.url).output == "nothing has lost a conflict\n"


def test_one_is_shown(daemon: Recorded) -> None:
    assert '"A lawn"' in meshd("conflicts", "show", "meadow", str(ROW["id"]), "--url", daemon.url).output
    missing = meshd("conflicts", "show", "meadow", "none", "--url", daemon.url)
    assert missing.exit_code == 1
    assert "has no conflict none" in missing.output


def test_one_is_taken_back_or_forgotten(daemon: Recorded) -> None:
    taken = meshd("conflicts", "take", "meadow", str(ROW["id"]), "--url", daemon.url)
    assert (taken.exit_code, taken.output) == (0, "meadow updated, revision 77aa\n")
    dropped = meshd("conflicts", "drop", "meadow", str(ROW["id"]), "--url", daemon.url)
    assert dropped.exit_code == 0
    assert [(asked.method, asked.path) for asked in daemon.asked] == [
        ("POST", f"{PATH}/{ROW['id']}/take"),
        ("DELETE", f"{PATH}/{ROW['id']}"),
    ]
