"""Agents: what works on a feature where `agents.command` is set.

Rules (design, section 8, "agents.command"):

- A run is one command for one feature. It ends when all its processes are dead, and not before.
- Whoever holds its leash may extend or stop it at any time, and waits for nothing.
- Exit status 0 is `DONE`; any other end of its own, and what cannot be started or takes longer than
  `agents.timeoutMs`, is `FAILED`. What was stopped, or outlived its lease, is `RELEASED`.
- The command gets the feature as JSON on standard input, and `MESHD_FEATURE_ID`, `MESHD_PROJECT`, `MESHD_MILESTONE`,
  `MESHD_PHASE`, `MESHD_GENERATION`, `MESHD_CLAIM`, `MESHD_INSTANCE_ID`, `MESHD_API` (a URL) and `MESHD_FEATURE_FILE`
  (what standard input holds) beside `agents.env` and the daemon's environment. The daemon's key is not among it.
- A line of its output that is a JSON object with `prUrl` or `error` is its result, the last one of them. Where a
  failure says no `error`, the last lines of the log do.
- `meshd.guard` stands between us and the command: it ends the run when told to, when the lease ends although we are
  stopped, and when we are gone. What a guard that was itself killed leaves behind is found and killed here.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable, Collection, Mapping
from math import inf
from pathlib import Path
from typing import Protocol

import trio

from meshd import configuration
from meshd.agents_files import MARK, RunFiles, Runs, kill, processes_of, result_in
from meshd.agents_guard import OVERDUE_S, Guarded, Launch, Leash, Report, start
from meshd.agents_memory import MemoryAgents
from meshd.core.feature import Feature
from meshd.core.inputs import Outcome, WorkEnded
from meshd.model import Now

__all__ = ["Agents", "CommandAgents", "Leash", "MemoryAgents", "grace_s"]

GRACE_S = 5.0  # between TERM and KILL: to save what there is, and short enough for a drain
GRACE_OF_LEASE = 0.1  # the most of a lease that this takes
SEARCH_EVERY_S = 0.05
SEARCH_S = 2.0  # what KILL does not end within it waits for a disk, and may for ever
STOPPED_WITHIN_S = GRACE_S + OVERDUE_S + SEARCH_S
"""How long a run may take to end once it is told to stop."""

KEPT_BACK = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "AUTOMAKER_API_KEY"})
"""Variables that are the daemon's alone."""

_log = logging.getLogger("meshd.agents")


class Agents(Protocol):
    """Where runs happen."""

    async def clear(self) -> None:
        """Make sure, in bounded time, that nothing runs any more of what an earlier life of this instance started."""

    async def run(self, feature: Feature, leash: Leash) -> WorkEnded:
        """Work on a feature; returns when all of it is over. When cancelled, what runs is ended without us."""


def grace_s(claim_timeout_ms: int) -> float:
    """How long work may take to stop, where claims are held for so long."""
    return min(GRACE_S, GRACE_OF_LEASE * claim_timeout_ms / 1000)


class CommandAgents:
    """Agents that are processes of this host.

    `runs` is the folder of their logs, `repo_root` where they run unless the configuration says otherwise, `environ`
    our own environment, `grace_s` the time from TERM to KILL, `clock` the one of leases.
    """

    def __init__(
        self,
        keys: configuration.Agents,
        runs: Path,
        repo_root: Path,
        instance_id: str,
        api_url: str,
        environ: Mapping[str, str],
        clock: Callable[[], Now],
        grace_s: float = GRACE_S,
    ) -> None:
        self._keys = keys
        self._runs = Runs(runs)
        self._folder = keys.cwd or repo_root
        self._instance_id = instance_id
        inherited = {name: value for name, value in environ.items() if name not in KEPT_BACK}
        self._environ = {**inherited, **keys.env, "MESHD_INSTANCE_ID": instance_id, "MESHD_API": api_url}
        self._clock = clock
        self._grace_s = grace_s

    async def clear(self) -> None:
        """The guards of an earlier life know already that it is over; what they do not end is killed."""
        try:
            left = await trio.to_thread.run_sync(self._runs.left)
        except OSError as error:
            _log.warning("runs of earlier lives cannot be looked for: %s", error)
            return
        if left:
            _log.info("an earlier life of this instance left %d runs: making sure that they have ended", len(left))
            await self._end(left, patience_s=self._grace_s + OVERDUE_S)
        for feature in left:
            await self._tidy(RunFiles(feature, feature.with_suffix(".log")))

    async def run(self, feature: Feature, leash: Leash) -> WorkEnded:
        reason = leash.reason or (None if self._clock().mono_s < leash.until_s else "the lease ended")
        if reason:
            return WorkEnded(feature.claim, Outcome.RELEASED, error=reason)
        try:
            files, log = await trio.to_thread.run_sync(self._runs.begin, feature.id, feature.json(self._instance_id))
        except OSError as error:
            return WorkEnded(feature.claim, Outcome.FAILED, error=f"the run's files cannot be written: {error}")
        ended = await self._work(feature, files, log, leash)
        await self._tidy(files)
        return ended

    async def _work(self, feature: Feature, files: RunFiles, log: int, leash: Leash) -> WorkEnded:
        try:
            guarded = await start(self._launch(feature, files, log), leash, self._clock)
        except (OSError, ValueError) as error:  # ValueError: a NUL, or what the locale cannot spell
            return WorkEnded(feature.claim, Outcome.FAILED, error=f"its guard cannot be started: {error}")
        finally:
            os.close(log)
        return await self._see_through(feature, files, guarded)

    def _launch(self, feature: Feature, files: RunFiles, log: int) -> Launch:
        timeout_s = inf if self._keys.timeout_ms is None else self._keys.timeout_ms / 1000
        environ = self._environ | {
            "MESHD_FEATURE_ID": feature.id,
            "MESHD_PROJECT": feature.slug,
            "MESHD_MILESTONE": feature.milestone,
            "MESHD_PHASE": feature.phase,
            "MESHD_GENERATION": str(feature.generation),
            "MESHD_CLAIM": feature.claim,
            MARK: str(files.feature),
        }
        return Launch(self._keys.command, self._folder, files.feature, log, environ, self._grace_s, timeout_s)

    async def _see_through(self, feature: Feature, files: RunFiles, guarded: Guarded) -> WorkEnded:
        report = await guarded.ended()
        if report.why is None:
            await self._end([files.feature])
        outcome, error = self._judge(report, guarded)
        if outcome is Outcome.RELEASED:
            return WorkEnded(feature.claim, outcome, error=error)
        try:
            result = await trio.to_thread.run_sync(result_in, files.log)
        except OSError as unreadable:
            return WorkEnded(feature.claim, outcome, error=f"{error or 'done'}; its log cannot be read: {unreadable}")
        if outcome is Outcome.DONE:
            return WorkEnded(feature.claim, outcome, result.pr_url)
        said = f"{error}: {result.last_lines}" if report.has_run and result.last_lines else error
        return WorkEnded(feature.claim, outcome, result.pr_url, result.error or said)

    def _judge(self, report: Report, guarded: Guarded) -> tuple[Outcome, str | None]:
        """What the guard's last words come to, and why."""
        if report.why == "exited":
            if report.exit == 0:
                return Outcome.DONE, None
            return (
                Outcome.FAILED,
                f"exit status {report.exit}" if report.exit > 0 else f"ended by signal {-report.exit}",
            )
        if report.errno:
            command = f"`{shlex.join(self._keys.command)}` cannot be started"
            what = f"agents.cwd {self._folder}" if report.why == "folder" else f"agents.command {command}"
            return Outcome.FAILED, f"{what}: {os.strerror(report.errno)}"
        if report.why == "lease" and guarded.has_limit:
            return Outcome.FAILED, f"took longer than agents.timeoutMs ({self._keys.timeout_ms})"
        if report.why is None and not guarded.leash.reason and not guarded.is_overdue:
            return Outcome.FAILED, "its guard was killed"
        ended = "its guard was terminated" if report.why == "terminated" else "the lease ended"
        return Outcome.RELEASED, guarded.leash.reason or ended

    async def _end(self, features: Collection[Path], patience_s: float = 0.0) -> None:
        """Wait until nothing of these runs is left; what still is after `patience_s` is killed."""
        kill_at_s = trio.current_time() + patience_s
        killed: set[int] = set()
        with trio.move_on_after(patience_s + SEARCH_S):
            while pids := await trio.to_thread.run_sync(processes_of, features):
                if trio.current_time() >= kill_at_s:
                    kill(pids)
                    killed.update(pids)
                await trio.sleep(SEARCH_EVERY_S)
            if killed:
                _log.warning("%d processes were killed that a run had left behind", len(killed))
            return
        _log.error("processes of a run could not be killed, and may still be at work: %s", sorted(killed))

    async def _tidy(self, files: RunFiles) -> None:
        try:
            await trio.to_thread.run_sync(self._runs.end, files)
        except OSError as error:
            _log.warning("a run's files cannot be put in order: %s", error)
