"""`meshd config check|show`, and how verbs speak of a configuration that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import meshd

GOOD = """\
name: meadow
protolab:
  enabled: true
  role: primary
  instanceId: dev-01
  instanceUrl: ws://10.0.0.1:4444
hivemind:
  enabled: true
  peers: [ws://10.0.0.1:4444]
api:
  port: 3999
"""
ODD = GOOD + "  prot: 1\n"
BAD = GOOD.replace("enabled: true", "enabled: perhaps", 1).replace("port: 3999", "port: 70000")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "proto.config.yaml"


def test_a_good_file(file: Path) -> None:
    file.write_text(GOOD)

    result = meshd("config", "check")

    assert (result.exit_code, result.output) == (0, "proto.config.yaml: ok, no problems\n")


def test_warnings_are_printed_and_do_not_fail(file: Path) -> None:
    file.write_text(ODD)

    result = meshd("config", "check")

    assert result.exit_code == 0
    warning, summary = result.stdout.splitlines()
    assert warning.startswith("proto.config.yaml:12:3: warning: api.prot: ")
    assert "did you mean `port`?" in warning
    assert summary == "proto.config.yaml: ok, 1 warning"


def test_all_errors_are_printed_one_a_line(file: Path) -> None:
    file.write_text(BAD)

    result = meshd("config", "check")

    assert result.exit_code == 78
    first, second, summary = result.stdout.splitlines()
    assert first.startswith("proto.config.yaml:3:12: error: protolab.enabled: ")
    assert second.startswith("proto.config.yaml:11:9: error: api.port: ")
    assert summary == "proto.config.yaml: 2 errors"


def test_problems_as_json(file: Path) -> None:
    file.write_text(BAD)

    result = meshd("config", "check", "--json")

    assert result.exit_code == 78
    told = json.loads(result.stdout)
    assert told.keys() == {"version", "file", "ok", "problems"}
    assert (told["version"], told["file"], told["ok"]) == (1, "proto.config.yaml", False)
    problem = told["problems"][0]
    assert problem.keys() == {"severity", "file", "line", "column", "key", "found", "allowed", "suggestion"}
    assert (problem["severity"], problem["line"], problem["key"]) == ("error", 3, "protolab.enabled")


def test_a_file_is_named_by_option_or_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(GOOD)

    assert f"{other}: ok" in meshd("config", "check", "--config", str(other)).stdout
    monkeypatch.setenv("MESHD_CONFIG", str(other))
    assert f"{other}: ok" in meshd("config", "check").stdout


def test_show_prints_values_and_with_origin_where_they_come_from(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(GOOD)
    monkeypatch.setenv("MESHD_HEARTBEAT_INTERVAL_MS", "7000")

    lines = {line.split()[0]: line.split() for line in meshd("config", "show", "--origin").stdout.splitlines()}

    assert lines["key"] == ["key", "value", "origin"]
    assert lines["api.port"] == ["api.port", "3999", "proto.config.yaml:11"]
    assert lines["hivemind.heartbeatIntervalMs"][1:] == ["7000", "MESHD_HEARTBEAT_INTERVAL_MS"]
    assert lines["hivemind.peerTtlMs"][1:] == ["120000", "default"]
    assert meshd("config", "show").stdout.splitlines()[0].split() == ["key", "value"]


def test_show_as_json(file: Path) -> None:
    file.write_text(GOOD)

    told = json.loads(meshd("config", "show", "--json").stdout)

    assert told.keys() == {"version", "file", "entries"}
    assert {"key": "protolab.role", "value": "primary", "origin": "proto.config.yaml:4"} in told["entries"]


@pytest.mark.parametrize("verb", [("run",), ("config", "show"), ("status",), ("projects", "ls")])
def test_verbs_that_need_the_file_name_its_problems_on_standard_error(file: Path, verb: tuple[str, ...]) -> None:
    file.write_text(BAD)

    result = meshd(*verb)

    assert result.exit_code == 78
    assert result.stdout == ""
    *problems, summary = result.stderr.splitlines()
    assert [line.split(": ")[2] for line in problems] == ["protolab.enabled", "api.port"]
    assert summary == "meshd: the configuration cannot be used: 2 errors"


def test_run_without_a_file_says_so() -> None:
    result = meshd("run", "--json")

    assert result.exit_code == 78
    assert "--config or MESHD_CONFIG" in result.stderr
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "invalid-configuration"
    assert error["problems"][0]["found"] == "not found"
