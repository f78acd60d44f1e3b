"""What runs leave on the disk: their files, what is read from a log, and how much of it is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meshd.agents_files import MAX_LOG_BYTES, MAX_LOGS, MAX_URL_CHARACTERS, Result, RunFiles, Runs, printable, result_in


def begun(runs: Runs, feature_id: str) -> RunFiles:
    files, log = runs.begin(feature_id, {"id": feature_id})
    os.close(log)
    return files


# Files


def test_each_run_has_files_of_its_own(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "data" / "runs")
    first, second = begun(runs, "f"), begun(runs, "f")
    assert [file.name for file in (first.log, second.log, second.feature)] == ["f.1.log", "f.2.log", "f.2.json"]
    assert first.feature.read_text() == '{"id":"f"}\n'
    assert runs.folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in runs.folder.iterdir()} == {0o600}
    assert runs.left() == [first.feature, second.feature]


def test_of_a_run_that_ended_the_log_is_left(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    files = begun(runs, "f")
    files.log.write_text("what it said")
    runs.end(files)
    assert [file.name for file in tmp_path.iterdir()] == ["f.1.log"]
    assert files.log.read_text() == "what it said"


def test_a_log_that_somebody_removed_is_not_missed(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    files = begun(runs, "f")
    files.log.unlink()
    runs.end(files)
    assert list(tmp_path.iterdir()) == []


def test_of_a_long_log_the_end_is_kept(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    files = begun(runs, "f")
    files.log.write_bytes(b"first\n" + b"x" * MAX_LOG_BYTES + b"\nlast")
    runs.end(files)
    line, _, rest = files.log.read_bytes().partition(b"\n")
    assert line == b"[11 bytes before this were cut]"
    assert rest.startswith(b"x")
    assert rest.endswith(b"x\nlast")
    assert len(rest) == MAX_LOG_BYTES
    assert files.log.stat().st_mode & 0o777 == 0o600


def test_the_oldest_logs_go(tmp_path: Path) -> None:
    """But for those of runs that go on."""
    runs = Runs(tmp_path)
    silent = begun(runs, "silent")
    os.utime(silent.log, (1, 1))
    for number in range(MAX_LOGS + 1):
        log = tmp_path / f"f{number}.1.log"
        log.touch()
        os.utime(log, (number + 2, number + 2))
    runs.end(begun(runs, "last"))
    names = {file.name for file in tmp_path.glob("*.log")}
    assert len(names) == MAX_LOGS + 1
    assert {"silent.1.log", "last.1.log", "f2.1.log"} <= names
    assert not {"f0.1.log", "f1.1.log"} & names


# What a log says


@pytest.mark.parametrize(
    ("log", "pr_url", "error"),
    [
        ('{"prUrl": "https://host/pr/1"}\n', "https://host/pr/1", None),
        ('{"prUrl": "https://host/pr/1"}\n{"prUrl": "https://host/pr/2"}', "https://host/pr/2", None),
        ('{"prUrl": "https://host/pr/1"}\n{"level": "info"}\nbye\n{not json\n[1]\n', "https://host/pr/1", None),
        ('  {"error": "no tests", "prUrl": null}\r\n', None, "no tests"),
        ('{"error": ""}', None, None),
        ('{"error": 7, "prUrl": ["no"]}', None, None),
        ('{"prUrl": "two\\nlines"}', None, None),
        (f'{{"prUrl": "{"x" * (MAX_URL_CHARACTERS + 1)}"}}', None, None),
        ('{"error": "red \\u001b[31mtext"}', None, "red text"),
        ("", None, None),
    ],
)
def test_the_line_with_the_result(tmp_path: Path, log: str, pr_url: str | None, error: str | None) -> None:
    file = tmp_path / "log"
    file.write_text(log)
    result = result_in(file)
    assert (result.pr_url, result.error) == (pr_url, error)


def test_a_result_is_found_at_the_end_of_a_long_log(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"\xff" * 1_000_000 + b'\n{"prUrl": "https://host/pr/1"}\n')
    assert result_in(file).pr_url == "https://host/pr/1"
    assert len(result_in(file).last_lines.encode()) <= 2048


def test_an_empty_log_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.touch()
    assert result_in(file) == Result()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one\n\n two \r\nthree", "one\n two\nthree"),
        ("10 %\r20 %\r100 %", "10 %\n20 %\n100 %"),
        ("\x1b[1;31mred\x1b[0m\x07 bell\0", "red  bell"),
        ("tab\there", "tab here"),
        ("\u202eabc", "abc"),
        ("é" * 3000, "é" * 1024),
        ("a" + "é" * 1024, "é" * 1024),
    ],
)
def test_what_is_shown_of_a_text(text: str, shown: str) -> None:
    assert printable(text) == shown
