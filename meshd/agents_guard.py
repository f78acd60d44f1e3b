"""The daemon's end of a guard (`meshd.guard`): starting one, telling it what to do, hearing how it went.

Rules:

- A guard is told by a pipe that never blocks us. One that no longer reads, or does not come to an end, is killed: a run
  that is overdue is ended without it.
- When we are cancelled, the pipe closes, and the guard ends the run by itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from math import inf
from pathlib import Path
from typing import Any

import orjson
import trio
from attrs import define, field, frozen

from meshd.model import Now

GUARD = Path(__file__).with_name("guard.py")
OVERDUE_S = 2.0  # after its time: then the guard itself is killed
LEAVE_WITHIN_S = 1.0  # what dies at once is seen to die even when we are in a hurry
MAX_REPORT_BYTES = 4096


@define(eq=False)
class Leash:
    """What holds a run: it may go on until `until_s` (`Now.mono_s`), and must stop once there is a `reason`."""

    until_s: float
    reason: str | None = None
    changed: Callable[[], None] = field(default=lambda: None)

    def extend(self, until_s: float) -> None:
        self.until_s = until_s
        self.changed()

    def stop(self, reason: str) -> None:
        """Ask it to stop; the first reason counts."""
        if self.reason is None:
            self.reason = reason
            self.changed()


@frozen
class Launch:
    """What a guard is to start: `command` in `folder`, `stdin` its input, the descriptor `log` its output.

    `timeout_s` is how long it may take whatever its lease, `grace_s` the time between TERM and KILL.
    """

    command: Sequence[str]
    folder: Path
    stdin: Path
    log: int
    environ: Mapping[str, str]
    grace_s: float
    timeout_s: float = inf


@frozen
class Report:
    """What a guard said: whether the command ran, and how it ended. `why` is None when the guard did not say."""

    has_run: bool = False
    why: str | None = None
    exit: int = 0
    errno: int = 0


@define(eq=False)
class Guarded:
    """A guard that runs. `steering` is the pipe to it; `limit_s` when the run has taken too long."""

    process: trio.Process
    steering: int
    leash: Leash
    limit_s: float
    grace_s: float
    clock: Callable[[], Now]
    is_overdue: bool = False
    _waiting: trio.CancelScope = field(factory=trio.CancelScope)

    @property
    def has_limit(self) -> bool:
        """Whether it is its limit that ends it, and not its lease."""
        return self.limit_s < self.leash.until_s

    async def ended(self) -> Report:
        """Wait until all is over, at most until it is overdue. When cancelled, the guard sees that we are gone."""
        self.leash.changed = self._steer
        self._steer()  # the leash may have moved meanwhile
        said = bytearray()
        try:
            with self._waiting:
                await self._hear(said)
            if self._waiting.cancelled_caught:
                self.is_overdue = True
                self.process.kill()
                await self.process.wait()
        finally:
            self.leash.changed = lambda: None
            os.close(self.steering)
            with trio.move_on_after(LEAVE_WITHIN_S, shield=True):
                await self.process.wait()
        return _report(bytes(said))

    async def _hear(self, said: bytearray) -> None:
        assert self.process.stdout is not None
        async with self.process.stdout as stdout:
            while part := await stdout.receive_some(MAX_REPORT_BYTES):
                said += part
        await self.process.wait()

    def _steer(self) -> None:
        """Hand on what the leash says, and move the time from which the run is overdue."""
        now_s = self.clock().mono_s
        until_s = min(self.leash.until_s, self.limit_s)
        due_s = until_s if self.leash.reason is None else min(until_s, now_s + self.grace_s)
        self._waiting.deadline = trio.current_time() + due_s - now_s + OVERDUE_S
        line = f"until {until_s!r}\n" if self.leash.reason is None else "stop\n"
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self.steering, line.encode())


async def start(launch: Launch, leash: Leash, clock: Callable[[], Now]) -> Guarded:
    """Start a guard, and it the command; wait for `Guarded.ended` at once. Raises `OSError`, `ValueError`."""
    limit_s = clock().mono_s + launch.timeout_s + launch.grace_s
    until_s = min(leash.until_s, limit_s)
    with ExitStack() as reading, ExitStack() as steering:
        read, write = os.pipe()
        reading.callback(os.close, read)
        steering.callback(os.close, write)
        os.set_blocking(write, False)
        process = await trio.lowlevel.open_process(
            [
                *(sys.executable, "-I", "-S", str(GUARD)),
                *(repr(until_s), repr(launch.grace_s), str(launch.stdin), str(launch.folder), *launch.command),
            ],
            stdin=read,
            stdout=subprocess.PIPE,
            stderr=launch.log,
            start_new_session=True,
            env=launch.environ,
        )
        steering.pop_all()
    return Guarded(process, write, leash, limit_s, launch.grace_s, clock)


def _report(said: bytes) -> Report:
    words: dict[str, Any] = {}
    for line in said.splitlines():
        words |= orjson.loads(line)
    return Report("pid" in words, words.get("why"), words.get("exit", 0), words.get("errno", 0))
