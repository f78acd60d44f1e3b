"""Finding a daemon and speaking to it: addresses, the key, refusals, silence."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from meshd.cli.client import ADVICE, DEFAULT_URL, Daemon, project_path

from .conftest import Recorded, meshd


@pytest.fixture
def silent_url() -> str:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def address(url: str | None = None, file: Path | None = None) -> tuple[str, str]:
    with Daemon(url, file) as daemon:
        return daemon.url, daemon.found_in


def test_without_option_and_file_it_is_the_default() -> None:
    assert address() == (DEFAULT_URL, "the default")


def test_an_option_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "proto.config.yaml").write_text("api: {port: 3999}\n")

    assert address("http://dev-02:3008/")[0] == "http://dev-02:3008"


@pytest.mark.parametrize(
    ("section", "url"),
    [
        ("{port: 3999}", "http://127.0.0.1:3999"),
        ("{bindAddr: 100.64.0.7}", "http://100.64.0.7:3008"),
        ("{bindAddr: '::'}", "http://[::1]:3008"),
        ("{bindAddr: 'fd7a::1', port: 80}", "http://[fd7a::1]:80"),
    ],
)
def test_the_file_in_the_folder_names_the_address(tmp_path: Path, section: str, url: str) -> None:
    (tmp_path / "proto.config.yaml").write_text(f"api: {section}\n")

    assert address() == (url, "from proto.config.yaml")


@pytest.mark.parametrize("url", ["dev-02:3008", "ftp://dev-02", "http://", "http://[::1", "http://dev-02:99999"])
def test_what_is_no_address_is_a_wrong_command_line(url: str) -> None:
    result = meshd("status", "--url", url)

    assert result.exit_code == 2
    assert DEFAULT_URL in result.output


VERBS = [("status",), ("members",), ("projects", "ls"), ("projects", "show", "x"), ("projects", "rm", "x")]


@pytest.mark.parametrize("verb", VERBS, ids="-".join)
def test_when_nobody_answers_one_line_says_what_was_tried_and_what_to_do(
    verb: tuple[str, ...], silent_url: str
) -> None:
    result = meshd(*verb, "--url", silent_url)

    assert result.exit_code == 69
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"meshd: no daemon answers at {silent_url} (from --url or MESHD_URL): Connection refused; ")
    assert "Connection refused" in line
    assert "`meshd run`" in line
    assert "--url" in line


def test_when_nobody_answers_json_says_so_too(silent_url: str) -> None:
    result = meshd("status", "--json", "--url", silent_url)

    assert result.exit_code == 69
    told = json.loads(result.stdout)
    assert told["version"] == 1
    assert told["error"]["code"] == "no-daemon"


def test_the_variable_names_the_address_as_well(silent_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHD_URL", silent_url)

    assert silent_url in meshd("status").stderr


def test_somebody_else_at_the_port_is_told_apart(recorded: Recorded) -> None:
    recorded.answers["GET", "/api/projects"] = (200, {"Content-Type": "text/html"}, b"<html>")

    result = meshd("projects", "ls", "--url", recorded.url)

    assert result.exit_code == 69
    assert "not like meshd (HTTP 200, text/html)" in result.stderr


@pytest.mark.parametrize("code", ADVICE)
def test_a_refusal_is_one_line_with_its_code_and_what_to_do_next(recorded: Recorded, code: str) -> None:
    recorded.refuse("GET", "/api/projects/meadow", 404, code, "there is\nno project meadow")

    result = meshd("projects", "show", "meadow", "--url", recorded.url)

    assert result.exit_code == 1
    assert result.stderr == f"meshd: {code}: there is�no project meadow; {ADVICE[code]}\n"


def test_a_refusal_as_json(recorded: Recorded) -> None:
    recorded.refuse("GET", "/api/projects/meadow", 404, "not-found", "there is no project meadow")

    result = meshd("projects", "show", "meadow", "--json", "--url", recorded.url)

    assert json.loads(result.stdout)["error"]["code"] == "not-found"


def test_the_key_goes_with_every_request(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded.answer("GET", "/api/projects", {"projects": []})

    meshd("projects", "ls", "--url", recorded.url)
    monkeypatch.setenv("AUTOMAKER_API_KEY", "s3cret\n")
    meshd("projects", "ls", "--url", recorded.url)

    without, with_key = recorded.asked
    assert "Authorization" not in without.headers
    assert with_key.headers["Authorization"] == "Bearer s3cret"


def test_a_proxy_in_the_environment_is_not_asked(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded.answer("GET", "/api/projects", {"projects": []})
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    assert meshd("projects", "ls", "--url", recorded.url).exit_code == 0


def test_a_slug_is_one_segment_of_the_path() -> None:
    assert project_path("../../livez") == "/api/projects/..%2F..%2Flivez"
    assert project_path("größe") == "/api/projects/gr%C3%B6%C3%9Fe"
