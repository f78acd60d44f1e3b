"""Runs agents for the features that the core starts: one task each, in one nursery.

Rules:

- Nothing here makes the driver wait. How many runs there are is bounded by the claims that the core holds.
- Each run ends with one `WorkEnded`, when all its processes are dead. To stop what does not run is answered at once.
- When the runner is cancelled, what runs is ended by its guards; nothing is reported then.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

import trio

from meshd.agents import Agents, Leash
from meshd.core.feature import Feature
from meshd.core.inputs import Input, Outcome, WorkEnded

_log = logging.getLogger("meshd.agents")


class Runner:
    """Starts, extends and stops runs. `put` is the driver's inbox."""

    def __init__(self, agents: Agents, put: Callable[[Input], Awaitable[None]]) -> None:
        self._agents = agents
        self._put = put
        self._leashes: dict[str, Leash] = {}  # by claim
        self._answering: set[str] = set()  # claims that do not run and were to be stopped
        self._nursery: trio.Nursery | None = None
        self._none_runs = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Hold the nursery of the runs, for ever."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None
        raise AssertionError("cancelled or crashed, never done")

    @property
    def running(self) -> int:
        """How many runs there are, those that are being stopped included."""
        return len(self._leashes)

    # What the driver asks for; none of these wait

    def start(self, feature: Feature, until_s: float) -> None:
        """Work on a feature; what is worked on already is not started twice."""
        if feature.claim in self._leashes:
            self.extend(feature.claim, until_s)
        elif self._nursery:
            leash = self._leashes[feature.claim] = Leash(until_s)
            self._nursery.start_soon(self._work, feature, leash)

    def extend(self, claim: str, until_s: float) -> None:
        """The lease of a claim ends at `until_s`; what does not run has none."""
        if leash := self._leashes.get(claim):
            leash.extend(until_s)

    def stop(self, claim: str, reason: str) -> None:
        if leash := self._leashes.get(claim):
            leash.stop(reason)
        elif self._nursery and claim not in self._answering:
            self._answering.add(claim)
            self._nursery.start_soon(self._answer, WorkEnded(claim, Outcome.RELEASED, error=reason))

    # What the daemon asks for at its end

    def stop_all(self, reason: str) -> None:
        for leash in self._leashes.values():
            leash.stop(reason)

    async def none_runs(self) -> None:
        """Wait until every run has ended and was reported."""
        while self._leashes:
            self._none_runs = trio.Event()
            await self._none_runs.wait()

    async def _work(self, feature: Feature, leash: Leash) -> None:
        fields = {
            "feature": feature.id,
            "project": feature.slug,
            "milestone": feature.milestone,
            "phase": feature.phase,
        }
        _log.info("work on %s begins", feature.id, extra={"fields": fields})
        ended = await self._agents.run(feature, leash)
        level = logging.WARNING if ended.outcome is Outcome.FAILED else logging.INFO
        why = f": {ended.error}" if ended.error else ""
        _log.log(level, "work on %s ended, %s%s", feature.id, ended.outcome, why, extra={"fields": fields})
        await self._put(ended)
        del self._leashes[feature.claim]
        if not self._leashes:
            self._none_runs.set()

    async def _answer(self, ended: WorkEnded) -> None:
        await self._put(ended)
        self._answering.discard(ended.claim)
