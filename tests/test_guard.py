"""The guard as a program of its own, around real commands: whatever happens, nothing of them is left."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from meshd.agents_guard import GUARD

WITHIN_S = 20.0  # on a loaded host; nothing here takes a second of its own
GRACE_S = 0.3
IGNORES_TERM = "trap '' TERM; "


def boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def lives(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    end_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end_s, f"not so within {within_s} s"
        time.sleep(0.005)


@define(eq=False)
class Guarded:
    """A guard around a shell command; each process of it writes its id into the file `$PIDS` when it is ready."""

    folder: Path
    script: str
    until_s: float = math.inf
    grace_s: float = GRACE_S
    cwd: str = "/"
    command: tuple[str, ...] = ()
    blocked: tuple[signal.Signals, ...] = ()
    process: subprocess.Popen[bytes] = field(init=False)

    def __attrs_post_init__(self) -> None:
        (self.folder / "in").write_text('{"id": "f"}\n')
        command = self.command or ("/bin/sh", "-c", self.script)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self.blocked)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", str(GUARD), repr(self.until_s), repr(self.grace_s)),
                    *(str(self.folder / "in"), self.cwd, *command),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={"PATH": os.environ["PATH"], "PIDS": str(self.folder / "pids")},
                start_new_session=True,
            )
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def pids(self) -> list[int]:
        with suppress(FileNotFoundError):
            return [int(line) for line in (self.folder / "pids").read_text().splitlines()]
        return []

    def ready(self, count: int = 1) -> list[int]:
        """Wait until so many processes are ready."""
        until(lambda: len(self.pids()) == count)
        return self.pids()

    def say(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()

    def leave(self) -> None:
        """The daemon is gone."""
        assert self.process.stdin
        self.process.stdin.close()

    def reports(self) -> list[dict[str, Any]]:
        """What the guard says until it ends."""
        assert self.process.stdout
        lines = self.process.stdout.read().splitlines()
        assert self.process.wait(WITHIN_S) == 0
        return [json.loads(line) for line in lines]

    def last(self) -> dict[str, Any]:
        return self.reports()[-1]

    def none_lives(self) -> bool:
        return not any(map(lives, self.pids()))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            with suppress(BrokenPipeError):
                pipe.close()
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


Guard = Callable[..., Guarded]


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    """Makes the test's one guard."""
    made: list[Guarded] = []

    def make(script: str, **settings: Any) -> Guarded:
        made.append(Guarded(tmp_path, script, **settings))
        return made[-1]

    yield make
    for guarded in made:
        guarded.close()


READY = "echo $$ >> $PIDS; "
WAITS = READY + "while :; do sleep 0.05; done"
STUBBORN = f"{IGNORES_TERM}{WAITS}"
AWAY = f"setsid -f sh -c '{READY}{IGNORES_TERM.replace(chr(39), chr(34))}while :; do sleep 0.05; done'; "


# What the command gets, and how it ends by itself


def test_a_command_reads_the_file_and_writes_the_log(guard: Guard) -> None:
    guarded = guard("cat; echo out; echo err >&2; pwd; exit 3", cwd="/usr")
    started, ended = guarded.reports()
    assert started.keys() == {"pid"}
    assert ended == {"why": "exited", "exit": 3}
    assert guarded.log.read_text().splitlines() == ['{"id": "f"}', "out", "err", "/usr"]


def test_a_command_that_is_killed(guard: Guard) -> None:
    guarded = guard("kill -9 $$")
    assert guarded.last() == {"why": "exited", "exit": -9}


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"command": ("no-such-command",)}, "command"),
        ({"command": ("/",)}, "command"),
        ({"cwd": "/no/such/folder"}, "folder"),
    ],
)
def test_what_cannot_be_started_is_said(guard: Guard, settings: dict[str, Any], why: str) -> None:
    guarded = guard("", **settings)
    (report,) = guarded.reports()
    assert report["why"] == why
    assert report["errno"] in (2, 13)


OF_THE_C_LIBRARY = 0b11 << 31
"""Signals 32 and 33, which no program can set: how they stand comes from whoever started the first one."""


def test_a_command_starts_as_from_a_shell(guard: Guard) -> None:
    """In a group of its own, with no file but its three, and no signal blocked or ignored, whatever the daemon does."""
    script = "ls /proc/$$/fd; exec grep -hE 'Sig(Blk|Ign)|NSpgid|^Pid' /proc/self/status"
    guarded = guard(script, blocked=(signal.SIGTERM, signal.SIGINT))
    started, _ = guarded.reports()
    *files, pid, group, blocked, ignored = guarded.log.read_text().split("\n")[:-1]
    assert files == ["0", "1", "2"]
    assert pid.split()[1] == group.split()[-1] == str(started["pid"])
    assert int(blocked.split()[1], 16) == 0
    assert int(ignored.split()[1], 16) & ~OF_THE_C_LIBRARY == 0


def test_what_a_command_leaves_behind_is_ended(guard: Guard) -> None:
    guarded = guard(f"{AWAY}({STUBBORN}) & while [ $(wc -l < $PIDS) -lt 2 ]; do sleep 0.01; done; exit 0")
    assert guarded.last() == {"why": "exited", "exit": 0}
    assert len(guarded.pids()) == 2
    assert guarded.none_lives()


# Told to stop


def test_a_command_may_end_in_order(guard: Guard) -> None:
    guarded = guard(f"trap 'echo saved; exit 7' TERM; {WAITS}", grace_s=WITHIN_S)
    guarded.ready()
    begun_s = time.monotonic()
    guarded.say("stop\n")
    assert guarded.last() == {"why": "stopped", "exit": 7}
    assert time.monotonic() - begun_s < WITHIN_S / 2
    assert "saved\n" in guarded.log.read_text()


def test_a_command_that_does_not_end_is_killed(guard: Guard) -> None:
    guarded = guard(STUBBORN)
    guarded.ready()
    begun_s = time.monotonic()
    guarded.say("stop\n")
    assert guarded.last() == {"why": "stopped", "exit": -9}
    assert time.monotonic() - begun_s >= GRACE_S
    assert guarded.none_lives()


def test_nobody_gets_away(guard: Guard) -> None:
    """Children, children of children in sessions of their own, orphans, stopped ones, and those that ignore TERM."""
    guarded = guard(f"({STUBBORN}) & ({AWAY}exit) & (setsid -f sh -c '{READY}kill -STOP $$') & {STUBBORN}")
    guarded.ready(4)
    guarded.say("stop\n")
    assert guarded.last() == {"why": "stopped", "exit": -9}
    assert guarded.none_lives()


def test_a_command_that_forks_without_end(guard: Guard) -> None:
    """Each process starts the next and ends: there is always one that no list shows."""
    script = f"{READY}f() {{ trap '' TERM; (f) & exit 0; }}; (f) & {IGNORES_TERM}while :; do sleep 0.05; done"
    guarded = guard(script)
    guarded.ready()
    guarded.say("stop\n")
    assert guarded.last() == {"why": "stopped", "exit": -9}


def test_the_guard_can_be_told_by_a_signal(guard: Guard) -> None:
    guarded = guard(WAITS)
    guarded.ready()
    guarded.process.terminate()
    assert guarded.last() == {"why": "terminated", "exit": -15}


# The lease


def test_all_are_dead_when_the_lease_ends(guard: Guard) -> None:
    until_s = boot_s() + 1.5
    guarded = guard(f"({STUBBORN}) & {STUBBORN}", until_s=until_s)
    guarded.ready(2)
    assert guarded.last() == {"why": "lease", "exit": -9}
    assert boot_s() < until_s
    assert guarded.none_lives()


def test_a_lease_can_be_extended(guard: Guard) -> None:
    guarded = guard(WAITS, until_s=boot_s() + 1.5)
    guarded.ready()
    until_s = boot_s() + 2.5
    guarded.say("until ")  # a line may come in pieces
    guarded.say(f"{until_s}\n")
    assert guarded.last() == {"why": "lease", "exit": -15}
    assert until_s - 1.0 < boot_s() < until_s


def test_a_lease_that_is_over_starts_nothing_that_lasts(guard: Guard) -> None:
    guarded = guard(STUBBORN, until_s=boot_s() - 1)
    assert guarded.last()["why"] == "lease"
    assert guarded.none_lives()


# Somebody is gone


def test_when_the_daemon_is_gone_so_is_the_command(guard: Guard) -> None:
    guarded = guard(f"{AWAY}{STUBBORN}")
    guarded.ready(2)
    guarded.leave()
    assert guarded.last() == {"why": "abandoned", "exit": -9}
    assert guarded.none_lives()


def test_a_guard_does_not_mind_that_nobody_listens(guard: Guard) -> None:
    guarded = guard(STUBBORN)
    guarded.ready()
    assert guarded.process.stdout
    guarded.process.stdout.close()
    guarded.leave()
    assert guarded.process.wait(WITHIN_S) == 0
    assert guarded.none_lives()
    assert guarded.log.read_text() == ""


def test_when_the_guard_is_killed_so_is_the_command(guard: Guard) -> None:
    guarded = guard(STUBBORN)
    guarded.ready()
    guarded.process.kill()
    until(guarded.none_lives)
