"""What runs of `agents.command` leave on the disk and among the processes: their input, their logs, themselves.

Rules:

- A run has two files in `dataDir/runs`, readable by the daemon's user alone: `<feature id>.<n>.json`, the feature,
  which goes when all of the run is dead, and `<feature id>.<n>.log`, everything the command wrote, output and errors as
  they came. `n` counts the runs of the feature.
- The path of the first stands in the environment of every process of the run (`MESHD_FEATURE_FILE`): so those that a
  killed guard left behind are found, whatever group or session they moved to.
- The last 200 logs are kept, and of each the last 4 MiB once its run has ended.
- Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path

import orjson
from attrs import frozen

from meshd.model import JsonObject

MARK = "MESHD_FEATURE_FILE"

MAX_LOGS = 200
MAX_LOG_BYTES = 4 * 1024 * 1024
SEARCHED_BYTES = 64 * 1024  # from the end of a log, for the line with the result
MAX_ERROR_BYTES = 2048  # it goes into a document, and to every host
MAX_LINES_BYTES = MAX_ERROR_BYTES - 100  # with how the command ended before them
MAX_URL_CHARACTERS = 2000

_STYLING = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]")  # colours and the like, as terminals read them


@frozen
class RunFiles:
    """The two files of one run."""

    feature: Path
    log: Path


@frozen
class Result:
    """What a command said of its work: in the last line that is a JSON object with `prUrl` or `error`; and its end."""

    pr_url: str | None = None
    error: str | None = None
    last_lines: str = ""


@frozen
class Runs:
    """The folder of runs."""

    folder: Path

    def begin(self, feature_id: str, feature: JsonObject) -> tuple[RunFiles, int]:
        """Make the files of a new run; returns them and a descriptor to write its log. Raises `OSError`."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in count(1):
            files = RunFiles(*(self.folder / f"{feature_id}.{number}.{ending}" for ending in ("json", "log")))
            with suppress(FileExistsError):
                log = os.open(files.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
                break
        try:
            _write(files.feature, orjson.dumps(feature, option=orjson.OPT_APPEND_NEWLINE))
        except OSError:
            os.close(log)
            raise
        return files, log

    def end(self, files: RunFiles) -> None:
        """Forget a run of which nothing runs any more, but for the end of its log. Raises `OSError`."""
        _cut(files.log)
        files.feature.unlink(missing_ok=True)
        logs = sorted(self.folder.glob("*.log"), key=_changed, reverse=True)
        for log in logs[MAX_LOGS:]:
            if not log.with_suffix(".json").exists():  # a run that has been silent for long
                log.unlink(missing_ok=True)

    def left(self) -> list[Path]:
        """The feature files of runs that did not end, as far as this folder knows. Raises `OSError`."""
        return sorted(self.folder.glob("*.json"))


def _write(file: Path, content: bytes) -> None:
    """Write a file that the daemon's user alone can read."""
    file.touch(mode=0o600)
    file.write_bytes(content)


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _cut(log: Path) -> None:
    """Keep the end of a log that is too long."""
    try:
        size_bytes = log.stat().st_size
    except FileNotFoundError:
        return
    if size_bytes > MAX_LOG_BYTES:
        end = _end_of(log, MAX_LOG_BYTES)
        shorter = log.with_suffix(".cut")
        _write(shorter, b"[%d bytes before this were cut]\n%b" % (size_bytes - len(end), end))
        shorter.replace(log)


def _end_of(log: Path, size_bytes: int) -> bytes:
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - size_bytes))
        return file.read(size_bytes)


def result_in(log: Path) -> Result:
    """What a log says of how the work went. Raises `OSError`.

    Output and errors share the log, and what writes JSON to standard error writes no such line as a rule: so a line
    counts only with one of the two keys.
    """
    lines = _end_of(log, SEARCHED_BYTES).splitlines()
    found = next((said for line in reversed(lines) if (said := _result(line))), {})
    pr_url, error = found.get("prUrl"), found.get("error")
    if not isinstance(pr_url, str) or not pr_url.isprintable() or len(pr_url) > MAX_URL_CHARACTERS:
        pr_url = None
    return Result(
        pr_url or None,
        (printable(error) or None) if isinstance(error, str) else None,
        printable(b"\n".join(lines).decode(errors="replace"), MAX_LINES_BYTES),
    )


def _result(line: bytes) -> Mapping[str, object]:
    if not line.lstrip().startswith(b"{"):
        return {}
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) and ("prUrl" in said or "error" in said) else {}


def printable(text: str, size_bytes: int = MAX_ERROR_BYTES) -> str:
    """The end of a text as it may be shown anywhere: lines that are not empty, what can be printed, no colours."""
    lines = _STYLING.sub("", text).replace("\r", "\n").split("\n")
    shown = ("".join(character if character.isprintable() else " " for character in line).rstrip() for line in lines)
    return "\n".join(line for line in shown if line).encode()[-size_bytes:].decode(errors="ignore").strip()


def processes_of(features: Collection[Path]) -> list[int]:
    """Every process of this user that belongs to the runs with these feature files."""
    marks = {f"{MARK}={feature}".encode() for feature in features}
    return [pid for pid in _processes() if marks & set(_environment(pid))]


def _processes() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it ended meanwhile, or is somebody else's
        return []


def kill(pids: Collection[int]) -> None:
    """End these processes at once."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
