"""`meshd settings show|set|unset`: what they ask of the API and what they make of its answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Recorded, meshd

TOLD: dict[str, Any] = {
    "settings": {"workflow": {"maxRetries": 2}, "autoMode": False, "defaultModel": "opus"},
    "origins": {"workflow": "shared", "autoMode": "local", "defaultModel": "file"},
    "shared": {"workflow": {"maxRetries": 2}, "autoMode": True},
    "local": {"autoMode": False},
    "file": {"defaultModel": "opus"},
    "revision": 7,
    "localRevision": 1,
    "primaryId": "dev-01",
    "primaryUrl": "ws://100.64.0.1:4444",
}
WRITTEN = {"scope": "shared", "revision": 8, "changed": True}


@pytest.fixture
def daemon(recorded: Recorded) -> Recorded:
    recorded.answer("GET", "/api/settings", TOLD, ETag='"7"')
    recorded.answer("GET", "/api/settings/local", {"local": {"autoMode": False}, "localRevision": 1}, ETag='"1"')
    recorded.answer("PUT", "/api/settings", WRITTEN, ETag='"8"')
    recorded.answer("PUT", "/api/settings/local", {**WRITTEN, "scope": "local", "revision": 2}, ETag='"2"')
    return recorded


def sent(daemon: Recorded) -> tuple[str, str, Any]:
    """The last request: its path, its condition and its body."""
    asked = daemon.asked[-1]
    return asked.path, asked.headers["If-Match"], json.loads(asked.body)


def test_show(daemon: Recorded) -> None:
    assert meshd("settings", "show", "--url", daemon.url).stdout.splitlines() == [
        "key           value",
        "autoMode      false",
        "defaultModel  opus",
        'workflow      {"maxRetries": 2}',
    ]
    told = meshd("settings", "show", "--origin", "--url", daemon.url).stdout.splitlines()
    assert [line.split()[-1] for line in told] == ["origin", "local", "file", "shared"]


def test_show_for_programs(daemon: Recorded) -> None:
    told = json.loads(meshd("settings", "show", "--json", "--url", daemon.url).stdout)
    assert told == {"version": 1, "url": daemon.url, **TOLD}


def test_show_of_nothing_says_how_to_begin(daemon: Recorded) -> None:
    daemon.answer("GET", "/api/settings", {**TOLD, "settings": {}})
    assert "meshd settings set" in meshd("settings", "show", "--url", daemon.url).stdout


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("4", 4),
        ("true", True),
        ('["ada", "bob"]', ["ada", "bob"]),
        ('{"a": 1}', {"a": 1}),
        ("opus", "opus"),
        ('"4"', "4"),
        ("NaN", "NaN"),
        ("[" * 100_000, "[" * 100_000),
        ("", ""),
    ],
)
def test_set_sends_the_scope_with_the_new_value(daemon: Recorded, value: str, parsed: object) -> None:
    result = meshd("settings", "set", "--url", daemon.url, "autoMode", value)
    assert result.exit_code == 0
    assert sent(daemon) == ("/api/settings", '"7"', {"workflow": {"maxRetries": 2}, "autoMode": parsed})
    assert result.stdout.strip().endswith("in the shared settings, revision 8")


def test_set_of_a_field_within(daemon: Recorded) -> None:
    meshd("settings", "set", "--url", daemon.url, "workflow.steps.count", "3")
    assert sent(daemon)[2]["workflow"] == {"maxRetries": 2, "steps": {"count": 3}}
    result = meshd("settings", "set", "--url", daemon.url, "autoMode.x", "3")
    assert result.exit_code == 2
    assert "autoMode holds no fields" in result.stderr


def test_set_for_one_host(daemon: Recorded) -> None:
    told = json.loads(meshd("settings", "set", "--local", "--json", "--url", daemon.url, "maxRetries", "1").stdout)
    assert told == {"version": 1, "url": daemon.url, "scope": "local", "revision": 2, "changed": True}
    assert sent(daemon) == ("/api/settings/local", '"1"', {"autoMode": False, "maxRetries": 1})


def test_unset(daemon: Recorded) -> None:
    result = meshd("settings", "unset", "--url", daemon.url, "workflow.maxRetries")
    assert sent(daemon) == ("/api/settings", '"7"', {"workflow": {}, "autoMode": True})
    assert result.stdout.strip() == "workflow.maxRetries is not set, in the shared settings, revision 8"
    meshd("settings", "unset", "--url", daemon.url, "--local", "autoMode")
    assert sent(daemon) == ("/api/settings/local", '"1"', {})


def test_unset_of_what_was_not_set(daemon: Recorded) -> None:
    daemon.answer("PUT", "/api/settings", {**WRITTEN, "changed": False})
    for key in ("labels", "models.review"):
        result = meshd("settings", "unset", "--url", daemon.url, key)
        assert sent(daemon)[2] == TOLD["shared"]
        assert "and was not" in result.stdout
        assert result.exit_code == 0


def test_a_worker_refuses(daemon: Recorded) -> None:
    detail = "dev-02 is a worker: shared settings are changed on its primary, dev-01"
    daemon.refuse("PUT", "/api/settings", 409, "not-primary", detail)
    result = meshd("settings", "set", "--json", "--url", daemon.url, "maxRetries", "1")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["code"] == "not-primary"
    assert detail in result.stderr


def test_who_is_overtaken_for_ever_is_told(daemon: Recorded) -> None:
    daemon.refuse("PUT", "/api/settings", 412, "revision-mismatch", "the shared settings are at revision 9")
    result = meshd("settings", "set", "--url", daemon.url, "maxRetries", "1")
    assert result.exit_code == 1
    assert [asked.method for asked in daemon.asked] == ["GET", "PUT"] * 5
