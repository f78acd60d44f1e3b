"""Features and agents for tests of what runs them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import trio
from attrs import define

from meshd import configuration
from meshd.agents import CommandAgents
from meshd.core.feature import Feature, feature_id
from meshd.daemon import system_clock
from meshd.model import Json

WITHIN_S = 20.0  # on a loaded host; nothing takes a second of its own


def feature(claim: str = "boot-1", **fields: Json) -> Feature:
    return Feature(
        feature_id(claim, 1_800_000_000_000), claim, "alpha", "one", "first", 3, 1_800_000_000_000, fields=fields
    )


async def until(condition: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    with trio.fail_after(within_s):
        while not condition():
            await trio.sleep(0.005)


def lives(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@define(eq=False)
class Host:
    """A host with a folder, on which commands run as agents; they find it as their working directory."""

    folder: Path
    grace_s: float = 0.3

    @property
    def runs(self) -> Path:
        return self.folder / "data" / "runs"

    def agents(
        self,
        command: Sequence[str] | str,
        timeout_ms: int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> CommandAgents:
        """Agents that run this command, or shell script."""
        words = ("/bin/sh", "-c", command) if isinstance(command, str) else tuple(command)
        keys = configuration.Agents(words, timeout_ms=timeout_ms, cwd=cwd, env=env or {})
        where = (self.runs, self.folder, "dev-01", "http://127.0.0.1:3008")
        environ = {"PATH": os.environ["PATH"], "AUTOMAKER_API_KEY": "secret", "NOTIFY_SOCKET": "/run/systemd/notify"}
        return CommandAgents(keys, *where, environ, system_clock, self.grace_s)

    def pids(self) -> list[int]:
        """Who wrote its process id into the file `pids`."""
        with suppress(FileNotFoundError):
            return [int(line) for line in (self.folder / "pids").read_text().splitlines()]
        return []

    async def ready(self, count: int) -> list[int]:
        await until(lambda: len(self.pids()) == count)
        return self.pids()

    def none_lives(self) -> bool:
        return not any(map(lives, self.pids()))

    def logs(self) -> list[str]:
        return sorted(file.name for file in self.runs.iterdir())


READY = "echo $$ >> pids; "
WAITS = f"{READY}while :; do sleep 0.05; done"
STUBBORN = f"trap '' TERM; {WAITS}"
AWAY = f"setsid -f sh -c 'trap \"\" TERM; {WAITS}'; "

LIFE = """
import sys, trio
from pathlib import Path
from meshd.agents import Leash
from meshd.daemon import system_clock
from tests.agents import Host, feature

async def extend(leash):
    while True:
        leash.extend(system_clock().mono_s + float(sys.argv[3]))
        await trio.sleep(0.05)

async def main():
    leash = Leash(system_clock().mono_s + float(sys.argv[3]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(extend, leash)
        await Host(Path(sys.argv[1])).agents(sys.argv[2]).run(feature(), leash)

trio.run(main)
"""
"""The daemon's side as a process of its own: one run, whose lease it renews again and again."""


async def other_life(host: Host, script: str, lease_s: float = WITHIN_S) -> trio.Process:
    """A process in the daemon's place, with one run."""
    command = [sys.executable, "-c", LIFE, str(host.folder), script, repr(lease_s)]
    return await trio.lowlevel.open_process(command, cwd=Path(__file__).parents[1])
