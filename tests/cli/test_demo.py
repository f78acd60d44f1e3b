"""`meshd demo`, whole: real daemons, as a subprocess, piped and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # psutil ships no types
import pytest

WITHIN_S = 90.0  # a slow host that does other things too
COMMAND = (sys.executable, "-m", "meshd", "demo")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the demo makes its temporary folder."""
    path = tmp_path / "temporary"
    path.mkdir()
    return path


@contextmanager
def demo(
    folder: Path,
    *options: str,
    environ: Mapping[str, str] = {},
    **keywords: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """The demo as a process; whatever is left of it in the end is killed."""
    inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environ = {**inherited, "TMPDIR": str(folder), "TERM": "xterm-256color", **environ}
    with subprocess.Popen([*COMMAND, *options], env=environ, **keywords) as process:
        try:
            yield process
        finally:
            process.kill()
            for left in daemons(folder):
                left.kill()


def daemons(folder: Path) -> list[psutil.Process]:
    """The processes that were told of this folder: daemons, with their configuration, and agents, with their diary."""
    below = str(folder)
    return [process for process in psutil.process_iter() if any(below in part for part in _command_line(process))]


def _command_line(process: psutil.Process) -> list[str]:
    try:
        line: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return line


def facts(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """What a demo with `--json` tells, as it tells it."""
    assert process.stdout is not None
    for line in process.stdout:
        fact = json.loads(line)
        assert fact["version"] == 1
        assert fact["elapsed"] < WITHIN_S
        yield fact


def of(told: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [fact for fact in told if fact["fact"] == name]


def test_everything_it_promises_happens_and_nothing_is_left(folder: Path) -> None:
    told = []
    with demo(folder, "--json", stdout=subprocess.PIPE) as process:
        for fact in facts(process):
            told.append(fact)
            if fact["fact"] == "told":
                process.send_signal(signal.SIGINT)
        exit_code = process.wait(WITHIN_S)

    (end,) = of(told, "end")
    assert (end["ok"], end["missing"], end["failure"]) == (True, [], None)
    assert exit_code == 0
    assert [fact["exit_code"] for fact in of(told, "drained")] == [0, 0, 0]
    assert {fact["instance"] for fact in of(told, "arrived")} == {"dev-01", "dev-02", "dev-03"}
    assert [fact["seen_by"] for fact in of(told, "suspect")] == ["dev-02"]
    (killed,) = of(told, "killed")
    ends = {fact["phase"]: fact for fact in of(told, "phase") if fact["status"] in ("done", "failed")}
    assert sorted(fact["status"] for fact in ends.values()) == ["done"] * 8 + ["failed"]
    assert ends[killed["phase"]]["holder"] == "dev-03"
    assert ends[killed["phase"]]["generation"] > killed["generation"]
    assert ends["03-ship/container-and-deploy"]["holder"] == "dev-01"  # nobody else takes infra: it is back
    assert ends["04-tell/page-on-call"]["error"] == "pager unreachable"
    assert {fact["instance"] for fact in of(told, "leads")[:2]} in ({"dev-01", "dev-02"}, {"dev-01", "dev-03"})
    assert daemons(folder) == []
    assert list(folder.iterdir()) == []


def test_the_end_of_the_time_drains_and_says_what_is_missing(folder: Path) -> None:
    with demo(folder, "--seconds", "1", "--keep", stdout=subprocess.PIPE) as process:
        output, _ = process.communicate(timeout=WITHIN_S)

    lines = output.decode().splitlines()
    assert process.returncode == 1
    assert any(line.endswith("the 1 s are over") for line in lines)
    assert any("missing:" in line for line in lines)
    assert "Traceback" not in output.decode()
    assert daemons(folder) == []
    (kept,) = folder.iterdir()
    assert sorted(path.name for path in kept.iterdir()) == ["dev-01", "dev-02", "dev-03"]


def test_a_daemon_that_dies_is_reported_with_the_end_of_its_log(folder: Path) -> None:
    told = []
    with demo(folder, "--json", stdout=subprocess.PIPE) as process:
        for fact in facts(process):
            told.append(fact)
            if fact["fact"] == "started" and fact["instance"] == "dev-01":
                os.kill(fact["pid"], signal.SIGKILL)
        exit_code = process.wait(WITHIN_S)

    (broken,) = of(told, "not-kept")
    assert exit_code == 1
    assert broken["text"].startswith("dev-01 ended by itself (SIGKILL)\n")
    assert "\ndev-01: " in broken["text"]
    assert of(told, "end")[0]["failure"] == "dev-01 ended by itself (SIGKILL)"
    assert daemons(folder) == []


def test_ctrl_c_at_once_passes_no_verdict_on_what_was_not_tried(folder: Path) -> None:
    told = []
    with demo(folder, "--json", stdout=subprocess.PIPE) as process:
        for fact in facts(process):
            told.append(fact)
            if fact["fact"] == "starting":
                process.send_signal(signal.SIGINT)
        exit_code = process.wait(WITHIN_S)

    (end,) = of(told, "end")
    assert exit_code == 0
    assert (end["ok"], end["missing"], end["failure"]) == (True, [], None)
    assert {"seen", "carried", "led", "reclaimed", "worked"} <= set(end["untried"])
    assert "before it came to" in end["text"]
    assert daemons(folder) == []


def test_ctrl_c_lets_the_agents_end(folder: Path) -> None:
    told = []
    with demo(folder, "--json", stdout=subprocess.PIPE) as process:
        for fact in facts(process):
            told.append(fact)
            if fact["fact"] == "phase" and len(of(told, "phase")) == 1:
                process.send_signal(signal.SIGINT)
        exit_code = process.wait(WITHIN_S)

    assert exit_code == 0
    assert [fact["exit_code"] for fact in of(told, "drained")] == [0, 0, 0]
    assert daemons(folder) == []
    assert list(folder.iterdir()) == []


def test_no_daemon_and_no_agent_outlives_a_demo_that_is_killed(folder: Path) -> None:
    with demo(folder, "--json", stdout=subprocess.PIPE) as process:
        for fact in facts(process):
            if fact["fact"] == "phase" and fact["status"] == "in_progress":
                break
        running = daemons(folder)
        process.kill()
        process.wait(WITHIN_S)
        _, alive = psutil.wait_procs(running, timeout=WITHIN_S)

    assert len(running) > 3
    assert alive == []


def test_a_second_signal_kills(folder: Path) -> None:
    with demo(folder, "--json", stdout=subprocess.PIPE) as process:
        for fact in facts(process):
            if fact["fact"] == "kept":
                os.kill(daemons(folder)[0].pid, signal.SIGSTOP)  # one that cannot drain
                process.send_signal(signal.SIGINT)
            if fact["fact"] == "draining":
                process.send_signal(signal.SIGINT)
        assert process.wait(WITHIN_S) == 130

    assert daemons(folder) == []
    assert list(folder.iterdir()) == []


def test_when_nobody_reads_any_more_it_ends_quietly(folder: Path) -> None:
    with demo(folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(WITHIN_S) == 0
        assert process.stderr.read() == b""

    assert daemons(folder) == []


@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}], ids=["colour", "no-colour"])
def test_on_a_terminal_it_shows_tables_and_ctrl_c_drains(folder: Path, environ: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    terminal: dict[str, Any] = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True}
    with demo(folder, environ=environ, **terminal) as process:
        os.close(theirs)
        output = _until(ours, b"board-sketch is done")
        process.send_signal(signal.SIGINT)
        output += _until(ours, None)
        assert process.wait(WITHIN_S) == 0
    os.close(ours)

    assert b"\x1b[?25l" in output  # the cursor goes
    assert output.rindex(b"\x1b[?25h") > output.rindex(b"\x1b[?25l")  # and comes back
    assert b"seen as" in output
    assert b"after 02-show" in output
    assert bool(re.search(rb"\x1b\[(1;)?3\dm", output)) == (not environ)
    assert b"Traceback" not in output
    assert daemons(folder) == []


def _until(terminal: int, text: bytes | None) -> bytes:
    """What is printed on the terminal until `text` comes, or until its end."""
    output = b""
    end_s = time.monotonic() + WITHIN_S
    while (text is None or text not in output) and time.monotonic() < end_s:
        if select.select([terminal], [], [], 1.0)[0]:
            try:
                output += os.read(terminal, 65536)
            except OSError:  # nobody has the other side open any more
                break
    return output
