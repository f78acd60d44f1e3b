"""What the commands of the hosts do: agents that work for a while, and the guards that end them in time.

Rules:

- An agent does not notice that its daemon stands still; its guard ends it when its lease does. What it came to is told
  to the daemon when that runs again.
- An agent that is told to stop takes a while. With its daemon, or with its machine, it is gone at once.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from attrs import define, evolve, field

from meshd.configuration import Agents as AgentsKeys
from meshd.configuration import Configuration, WorkIntake
from meshd.core.effects import ExtendWork, StartWork, StopWork
from meshd.core.feature import Feature
from meshd.core.inputs import Outcome, WorkEnded
from meshd.model import Focus, Json, JsonObject

if TYPE_CHECKING:
    from meshd.simulation.host import Host
    from meshd.simulation.world import World

MEAN_WORK_S = 90.0
STOPS_WITHIN_S = 3.0
FAILS = 0.08
PROJECT = "endeavour"


@define(eq=False)
class Run:
    """One execution. `until_s` is in simulated time."""

    feature: Feature
    until_s: float
    is_stopping: bool = False


@define(eq=False)
class Agents:
    """All agents of all hosts. `runs` holds, by host and claim, those that run."""

    world: World
    chance: Random
    runs: dict[tuple[str, str], Run] = field(factory=dict)

    def perform(self, host: Host, effect: StartWork | ExtendWork | StopWork) -> None:
        match effect:
            case StartWork(feature, until_s):
                run = self.runs[host.name, feature.claim] = Run(feature, until_s - host.mono_shift_s)
                self.world.work_began(host, feature)
                takes_s = self.chance.expovariate(1 / MEAN_WORK_S)
                self.world.at(self.world.now_s + takes_s, self._finish, host, run)
                self._guard(host, run)
            case ExtendWork(claim, until_s):
                if found := self.runs.get((host.name, claim)):
                    found.until_s = until_s - host.mono_shift_s
                    self._guard(host, found)
            case StopWork(claim):
                found = self.runs.get((host.name, claim))
                if found is None:
                    self._report(host, WorkEnded(claim, Outcome.RELEASED))
                elif not found.is_stopping:
                    found.is_stopping = True
                    stops_s = self.world.now_s + self.chance.uniform(0.0, STOPS_WITHIN_S)
                    self.world.at(stops_s, self._end, host, found, Outcome.RELEASED, "it was told to stop")

    def gone(self, host: Host) -> None:
        """The daemon of a host ended, or its machine: so do its agents."""
        for key in [key for key in self.runs if key[0] == host.name]:
            run = self.runs.pop(key)
            self.world.work_ended(host, run.feature)

    def _guard(self, host: Host, run: Run) -> None:
        self.world.at(run.until_s, self._expire, host, run)

    def _expire(self, host: Host, run: Run) -> None:
        if self.world.now_s >= run.until_s:
            self._end(host, run, Outcome.RELEASED, "its lease ended")

    def _finish(self, host: Host, run: Run) -> None:
        fails = self.chance.random() < FAILS
        self._end(host, run, Outcome.FAILED if fails else Outcome.DONE, "it does not compile" if fails else None)

    def _end(self, host: Host, run: Run, outcome: Outcome, error: str | None) -> None:
        claim = run.feature.claim
        if self.runs.get((host.name, claim)) is not run:
            return
        del self.runs[host.name, claim]
        self.world.work_ended(host, run.feature)
        self._report(host, WorkEnded(claim, outcome, error=error))

    def _report(self, host: Host, ended: WorkEnded) -> None:
        self.world.at_host(self.world.now_s, host, self.world.step, host, ended)


def equipped(configuration: Configuration, chance: Random, *, goes_on: bool) -> Configuration:
    """The same instance with a command that works on phases; `goes_on`: also without a primary."""
    intake = WorkIntake(
        tick_interval_ms=15_000,
        claim_timeout_ms=300_000,
        retry_backoff_ms=20_000,
        when_partitioned="continue" if goes_on else "pause",
    )
    focus = chance.choice([Focus.FULLSTACK, Focus.FULLSTACK, Focus.BACKEND, Focus.DOCS])
    return evolve(
        configuration,
        instance=evolve(configuration.instance, focus=focus),
        agents=AgentsKeys(command=("work",), max=chance.choice([1, 1, 2, 3])),
        work_intake=intake,
    )


def project(chance: Random) -> JsonObject:
    """A project with dependencies, roles and enough to do for an hour."""
    milestones: list[Json] = []
    for number in range(4):
        phases: list[Json] = []
        for index in range(chance.randrange(3, 9)):
            phase: JsonObject = {"name": f"p{index}", "number": index, "title": f"Phase {number}.{index}"}
            if index and chance.random() < 0.4:
                phase["dependencies"] = [f"p{chance.randrange(index)}"]
            if chance.random() < 0.3:
                phase["filesToModify"] = [chance.choice(["docs/a.md", "apps/server/b.py", "x/y"])]
            phases.append(phase)
        milestones.append({"slug": f"m{number}", "number": number, "title": f"M{number}", "phases": phases})
    return {"title": "Endeavour", "status": "active", "milestones": milestones}
