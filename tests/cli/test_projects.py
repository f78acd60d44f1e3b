"""`meshd projects ls|show|put|rm`: what they ask of the API and what they make of its answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from meshd.cli.projects import phase_rows

from .conftest import Recorded, meshd

PHASE = {"number": 1, "name": "sow", "title": "Sow it", "complexity": "small", "claimedBy": "dev-03"}
DOCUMENT: dict[str, Any] = {
    "slug": "meadow",
    "title": "A meadow",
    "status": "active",
    "milestones": [{"number": 1, "slug": "01-spring", "title": "Spring", "phases": [PHASE]}],
}
ROW = {"slug": "meadow", "title": "A meadow", "status": None, "milestones": 1, "phases": 1, "revision": "6f1c"}
WRITTEN = {"slug": "meadow", "revision": "77aa", "created": True, "changed": True}


@pytest.fixture
def daemon(recorded: Recorded) -> Recorded:
    recorded.answer("GET", "/api/projects", {"projects": [ROW]})
    recorded.answer("GET", "/api/projects/meadow", DOCUMENT, ETag='"6f1c"')
    recorded.answer("PUT", "/api/projects/meadow", WRITTEN, 201, ETag='"77aa"')
    recorded.answer("DELETE", "/api/projects/meadow", None, 204)
    return recorded


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "meadow.json"
    path.write_text(json.dumps(DOCUMENT))
    return path


def test_ls(daemon: Recorded) -> None:
    assert meshd("projects", "ls", "--url", daemon.url).stdout.splitlines() == [
        "slug    title     status  milestones  phases  revision",
        "meadow  A meadow  -       1           1       6f1c",
    ]
    told = json.loads(meshd("projects", "ls", "--json", "--url", daemon.url).stdout)
    assert told == {"version": 1, "url": daemon.url, "projects": [ROW]}


def test_ls_of_nothing_says_how_to_begin(daemon: Recorded) -> None:
    daemon.answer("GET", "/api/projects", {"projects": []})

    assert "meshd projects put" in meshd("projects", "ls", "--url", daemon.url).stdout


def test_show_in_words(daemon: Recorded) -> None:
    head, phases = meshd("projects", "show", "meadow", "--url", daemon.url).stdout.split("\n\n")

    assert head.splitlines() == [
        "slug      meadow",
        "title     A meadow",
        "status    active",
        "revision  6f1c",
    ]
    assert phases.splitlines()[1].split() == ["01-spring", "sow", "Sow", "it", "small", "unclaimed", "dev-03"]


def test_show_the_document_itself_and_as_json(daemon: Recorded) -> None:
    assert json.loads(meshd("projects", "show", "meadow", "--document", "--url", daemon.url).stdout) == DOCUMENT
    told = json.loads(meshd("projects", "show", "meadow", "--json", "--url", daemon.url).stdout)
    assert told == {"version": 1, "url": daemon.url, "revision": "6f1c", "document": DOCUMENT}


@pytest.mark.parametrize(
    "document", [{}, {"milestones": "none"}, {"milestones": [1, {"phases": None}, {"phases": ["x"]}]}]
)
def test_a_document_of_another_shape_has_no_phases_to_show(document: dict[str, Any]) -> None:
    assert phase_rows(document) == []


def test_put_takes_the_slug_from_the_document(daemon: Recorded, file: Path) -> None:
    result = meshd("projects", "put", str(file), "--url", daemon.url)

    assert result.stdout == "meadow created, revision 77aa\n"
    (asked,) = daemon.asked
    assert json.loads(asked.body) == DOCUMENT
    assert asked.headers["Content-Type"] == "application/json"
    assert "If-Match" not in asked.headers


def test_put_from_standard_input_as_json(daemon: Recorded, file: Path) -> None:
    result = meshd("projects", "put", "-", "--json", "--url", daemon.url, stdin=file.read_bytes())

    assert json.loads(result.stdout) == {"version": 1, "url": daemon.url, **WRITTEN}


def test_put_under_another_slug(daemon: Recorded, file: Path) -> None:
    daemon.answer("PUT", "/api/projects/field", {"slug": "field", "revision": "1", "created": False, "changed": False})

    result = meshd("projects", "put", str(file), "--slug", "field", "--url", daemon.url)

    assert result.stdout == "field unchanged, revision 1\n"
    assert json.loads(daemon.asked[0].body)["slug"] == "field"


@pytest.mark.parametrize(("given", "sent"), [("6f1c", '"6f1c"'), ('"6f1c"', '"6f1c"'), ("*", "*")])
def test_a_condition_is_sent_as_http_writes_it(daemon: Recorded, file: Path, given: str, sent: str) -> None:
    meshd("projects", "put", str(file), "--if-match", given, "--url", daemon.url)
    meshd("projects", "rm", "meadow", "--if-match", given, "--url", daemon.url)

    assert [asked.headers["If-Match"] for asked in daemon.asked] == [sent, sent]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "is not JSON"), ("[]", "one JSON object"), ("{}", "has no `slug`"), ("[" * 100_000, "is not JSON")],
)
def test_what_is_no_document_is_not_sent(daemon: Recorded, text: str, reason: str) -> None:
    result = meshd("projects", "put", "-", "--url", daemon.url, stdin=text.encode())

    assert result.exit_code == 2
    assert reason in result.output
    assert daemon.asked == []


def test_rm(daemon: Recorded) -> None:
    assert meshd("projects", "rm", "meadow", "--url", daemon.url).stdout == "meadow deleted\n"
    told = json.loads(meshd("projects", "rm", "meadow", "--json", "--url", daemon.url).stdout)
    assert told == {"version": 1, "url": daemon.url, "slug": "meadow", "deleted": True}


def test_rm_of_what_is_not_there(daemon: Recorded) -> None:
    daemon.refuse("DELETE", "/api/projects/meadow", 404, "not-found", "there is no project meadow")

    result = meshd("projects", "rm", "meadow", "--url", daemon.url)

    assert result.exit_code == 1
    assert "not-found" in result.stderr
