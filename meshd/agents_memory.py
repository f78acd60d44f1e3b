"""The agents' twin without processes: a run is a wait on the clock, and keeps the promises of `meshd.agents`."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import trio
from attrs import define, field

from meshd.agents_guard import Leash
from meshd.core.feature import Feature
from meshd.core.inputs import Outcome, WorkEnded
from meshd.model import Now


@define(eq=False)
class _Run:
    feature: Feature
    ended: WorkEnded | None = None
    woken: trio.Event = field(factory=trio.Event)

    def wake(self) -> None:
        self.woken.set()


@define(eq=False)
class MemoryAgents:
    """Agents in memory: a run ends with `end`, or by itself after `takes_s`, when it is stopped, and with its lease.

    `dies_s` is how long one takes to stop; the lease ends it all the same. `begun` are all that were ever started,
    `running` those that are, by claim.
    """

    clock: Callable[[], Now]
    takes_s: float = inf
    dies_s: float = 0.0
    begun: list[Feature] = field(factory=list)
    _runs: dict[str, _Run] = field(factory=dict)

    @property
    def running(self) -> dict[str, Feature]:
        return {claim: run.feature for claim, run in self._runs.items()}

    def end(self, claim: str, outcome: Outcome, pr_url: str | None = None, error: str | None = None) -> None:
        """The command that works on `claim` ends by itself."""
        run = self._runs[claim]
        run.ended = WorkEnded(claim, outcome, pr_url, error)
        run.wake()

    async def clear(self) -> None:
        """Nothing outlives its instance in memory."""

    async def run(self, feature: Feature, leash: Leash) -> WorkEnded:
        run = self._runs[feature.claim] = _Run(feature)
        leash.changed = run.wake
        self.begun.append(feature)
        done_s = self.clock().mono_s + self.takes_s
        try:
            while True:
                run.woken = trio.Event()
                now_s = self.clock().mono_s
                if run.ended:
                    return run.ended
                if leash.reason:
                    await trio.sleep(max(0.0, min(self.dies_s, leash.until_s - now_s)))
                    return WorkEnded(feature.claim, Outcome.RELEASED, error=leash.reason)
                if now_s >= leash.until_s:
                    return WorkEnded(feature.claim, Outcome.RELEASED, error="the lease ended")
                if now_s >= done_s:
                    return WorkEnded(feature.claim, Outcome.DONE)
                with trio.move_on_after(min(leash.until_s, done_s) - now_s):
                    await run.woken.wait()
        finally:
            leash.changed = lambda: None
            del self._runs[feature.claim]
