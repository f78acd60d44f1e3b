"""A mesh that works: an electorate whose hosts run a command, or are told by an application what became of work.

- The command is a twin of the real one: it begins with `StartWork`, ends when `end` says so (or after `lasts_s`), is
  killed when its lease ends, whatever its node does, and takes `stops_s` to stop. With its host it is gone at once.
- After every step: no phase is worked on by two commands at once, unless `continue` allows it, and nothing is begun
  twice. What is not so is kept in `broken`.
- Times are short: a claim lasts 30 s, a lock delay 5 s, ticks come every 10 s, heartbeats every 3 s, the TTL is 12 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import define, evolve, field, frozen

from meshd.configuration import Agents, Configuration, WorkIntake
from meshd.core import effects, inputs
from meshd.core.claim import Claim
from meshd.core.effects import Accepted, Effect, Rejected
from meshd.core.feature import Feature
from meshd.core.inputs import Outcome
from meshd.core.phases import Place
from meshd.core.work import Work
from meshd.model import Focus, JsonObject, Role
from tests.core.boards import milestone, phase, project
from tests.core.electorate import TTL_S, Electorate, member, names
from tests.core.mesh import Host, _Due

TIMEOUT_S, LOCK_DELAY_S, TICK_S, BACKOFF_S = 30.0, 5.0, 10.0, 20.0
FENCED_S = 0.9 * TIMEOUT_S
INTAKE = WorkIntake(
    tick_interval_ms=round(TICK_S * 1000),
    claim_timeout_ms=round(TIMEOUT_S * 1000),
    lock_delay_ms=round(LOCK_DELAY_S * 1000),
    retry_backoff_ms=round(BACKOFF_S * 1000),
)
P: Place = ("site", "m", "p")
Q: Place = ("site", "m", "q")
R: Place = ("site", "m", "r")


def site(*phases: str | JsonObject) -> JsonObject:
    """A project that is worked on, with one milestone of these phases."""
    return project(milestone("m", *(phase(each) if isinstance(each, str) else each for each in phases)))


@frozen
class Run:
    """One execution of the command."""

    host: str
    feature: Feature
    begun_s: float
    ended_s: float | None = None
    why: str = ""


@define(eq=False)
class Workforce(Electorate):
    """Hosts that elect and work."""

    runs: list[Run] = field(factory=list)
    leases: dict[tuple[str, str], float] = field(factory=dict)
    lasts_s: float | None = None
    stops_s: float = 0.0
    asked: list[tuple[float, str, Effect]] = field(factory=list)

    @classmethod
    def staffed(
        cls,
        count: int = 3,
        *,
        agents: int = 1,
        intake: WorkIntake = INTAKE,
        without_command: Iterable[str] = (),
        foci: Mapping[str, Focus] | None = None,
        **how: Any,
    ) -> Workforce:
        """So many hosts, none running; each with a command but those `without_command`."""
        mesh, everybody, idle = cls(), names(count), set(without_command)
        for name in everybody:
            role = Role.PRIMARY if name == "dev-01" else Role.WORKER
            plain = member(name, everybody, role=role, **how)
            mesh.add(equipped(plain, 0 if name in idle else agents, intake, (foci or {}).get(name)))
        return mesh

    @classmethod
    def at_work(cls, count: int = 3, **how: Any) -> Workforce:
        """The same, running; the first one leads and decides."""
        mesh = cls.staffed(count, **how)
        mesh.start_all()
        mesh.advance(2 * TTL_S)
        assert mesh.primaries() == ["dev-01"]
        return mesh

    # What is so

    def work(self, host: Host) -> Work:
        assert host.node is not None
        return host.node._work

    def claim(self, host: Host, place: Place = P) -> Claim | None:
        """How the claim of a phase stands, as this host sees it."""
        return self.work(host).ledger.claim(place)

    def status(self, place: Place = P) -> str:
        """What all running hosts say of a phase: `holder status generation`; they must agree."""
        said = {self._said(host, place) for host in self.alive()}
        assert len(said) == 1, said
        return said.pop()

    def _said(self, host: Host, place: Place) -> str:
        claim = self.claim(host, place)
        return f"{claim.holder} {claim.status} {claim.generation}" if claim else "free"

    def working(self) -> dict[Place, str]:
        """The phases on which a command works at this moment, and where."""
        return {run.feature.place: run.host for run in self.runs if run.ended_s is None}

    def states(self, host: Host) -> dict[Place, str]:
        """What the host says of the claims that it holds or has asked for."""
        return {held.place: held.state for held in self.snapshot(host).work.held}

    def feature(self, host: Host, place: Place = P) -> Feature:
        """The latest feature of a phase on this host."""
        found = [each for each in self.snapshot(host).work.features.values() if each.place == place]
        assert found, f"{host.name} has no feature of {place}"
        return found[-1]

    def reasons(self, host: Host, place: Place = P) -> list[str]:
        """How this host's requests for a phase ended."""
        return [each.reason for each in self.snapshot(host).work.decisions.values() if each.place == place]

    # What happens

    def end(self, place: Place, outcome: Outcome = Outcome.DONE, **said: str | None) -> None:
        """The command that works on a phase ends by itself."""
        (run,) = [run for run in self.runs if run.feature.place == place and run.ended_s is None]
        self._ended(run, outcome, "by itself", **said)
        self.settle()

    def settle_phase(
        self, host: Host, outcome: Outcome, place: Place = P, *, generation: int | None = None, **said: Any
    ) -> Accepted | Rejected:
        """An application, or a person, says what became of a phase."""
        return self.order(host, inputs.SettlePhase(1, *place, outcome, generation, **said))

    def order(self, host: Host, command: inputs.Request) -> Accepted | Rejected:
        """A command on a host, and all that follows at once; the answer it gave."""
        self.step(host, command)
        answer = host.replies[-1]
        self.settle()
        return answer

    def take(self, host: Host) -> str:
        """An application takes the next feature; its id, or ""."""
        taken = self.order(host, inputs.TakeWork(1))
        assert isinstance(taken, Accepted)
        return taken.revision

    def wait_for(self, host: Host, count: int = 1) -> None:
        """So many applications wait for work."""
        self.step(host, inputs.WorkWanted(count))
        self.settle()

    # Underneath

    def start(self, host: Host) -> None:
        super().start(host)
        self._every(host, "intake", host.configuration.work_intake.tick_interval_ms / 1000)

    def crash(self, host: Host) -> None:
        for run in [run for run in self.runs if run.host == host.name and run.ended_s is None]:
            self._mark(run, "with its host")
        super().crash(host)

    def drain(self, host: Host) -> None:
        super().drain(host)
        for run in [run for run in self.runs if run.host == host.name and run.ended_s is None]:
            self._mark(run, "with its host")

    def _perform(self, host: Host, effect: Effect) -> None:
        match effect:
            case effects.StartWork(feature, until_s):
                self._begin(host, feature, until_s)
            case effects.ExtendWork(claim, until_s):
                self.leases[host.name, claim] = until_s
            case effects.StopWork(claim):
                self._later(host, f"stopped {claim}", self.stops_s)
            case _:
                super()._perform(host, effect)
                return
        self.asked.append((self.mono_s, host.name, effect))

    def _begin(self, host: Host, feature: Feature, until_s: float) -> None:
        may_be_double = host.configuration.work_intake.when_partitioned == "continue"
        for run in self.runs:
            if run.ended_s is None and run.feature.place == feature.place and not may_be_double:
                self._break(f"{host.name} begins {feature.place} while {run.host} works on it")
            if run.host == host.name and run.feature.claim == feature.claim:
                self._break(f"{host.name} begins {feature.claim} twice")
        self.runs.append(Run(host.name, feature, self.mono_s))
        self.leases[host.name, feature.claim] = until_s
        if self.lasts_s is not None:
            self._later(host, f"done {feature.claim}", self.lasts_s)

    def advance(self, seconds: float) -> None:
        """Let time pass; commands whose lease ends meanwhile are killed at that moment."""
        until_s = self.mono_s + seconds
        while (at_s := self._next_end_s()) <= until_s:
            super().advance(max(0.0, at_s - self.mono_s))
            self._kill_expired()
        super().advance(until_s - self.mono_s)
        self._kill_expired()

    def _next_end_s(self) -> float:
        ends = [self.leases[run.host, run.feature.claim] for run in self.runs if run.ended_s is None]
        return min(ends, default=float("inf"))

    def _kill_expired(self) -> None:
        for run in [run for run in self.runs if run.ended_s is None]:
            if self.leases[run.host, run.feature.claim] <= self.mono_s:
                self._ended(run, Outcome.RELEASED, "its lease ended")

    def _fire(self, due: _Due) -> None:
        verb, _, claim = due.what.partition(" ")
        if due.host.node is None or due.host.boots != due.boot or due.host.name in self.stalled:
            super()._fire(due)
        elif due.what == "intake":
            self._later(due.host, due.what, due.every_s, due.every_s)
            self.step(due.host, inputs.IntakeDue())
        elif verb in ("stopped", "done"):
            self._report(due.host, claim, Outcome.DONE if verb == "done" else Outcome.RELEASED)
        else:
            super()._fire(due)

    def _report(self, host: Host, claim: str, outcome: Outcome) -> None:
        of_it = (run for run in self.runs if run.host == host.name and run.feature.claim == claim)
        run = next((run for run in of_it if run.ended_s is None), None)
        if run is not None:
            self._ended(run, outcome, "by itself" if outcome is Outcome.DONE else "it was told to stop")
        elif outcome is Outcome.RELEASED:
            self.step(host, inputs.WorkEnded(claim, outcome))

    def _ended(self, run: Run, outcome: Outcome, why: str, **said: str | None) -> None:
        self._mark(run, why)
        host = self.hosts[run.host]
        if host.node and host.name not in self.stalled:
            self.step(host, inputs.WorkEnded(run.feature.claim, outcome, **said))

    def _mark(self, run: Run, why: str) -> None:
        self.runs[self.runs.index(run)] = evolve(run, ended_s=self.mono_s, why=why)


def equipped(plain: Configuration, agents: int, intake: WorkIntake, focus: Focus | None = None) -> Configuration:
    """The same instance with a command for so many agents; 0: with none."""
    keys = evolve(plain.instance, focus=focus) if focus else plain.instance
    command = Agents(command=("work",), max=agents) if agents else Agents()
    return evolve(plain, instance=keys, agents=command, work_intake=intake)


def claimed_by(mesh: Workforce, places: Sequence[Place]) -> dict[str, int]:
    """How many of these phases each host works on."""
    working = mesh.working()
    holders = [working[place] for place in places if place in working]
    return {holder: holders.count(holder) for holder in sorted(set(holders))}
