"""The event loop: hosts and what they do at which moment of simulated time.

Rules:

- Events happen in the order of their time, those of one moment in the order in which they were asked for. All chance
  comes from one `Random`.
- A process does what the daemon and its driver do: timers at once and then every interval; each input is stepped by
  itself; what a step persists goes into a commit that takes time, steps go on meanwhile, and effects are performed in
  order when the commit they wait for is done. What is asked for during a commit goes into the next one.
- A process that stands still (SIGSTOP) does later what it would have done; the clocks go on. One that ends does none
  of it, and of a commit under way all or nothing is on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from random import Random
from typing import Any

from attrs import define, field

from meshd.configuration import Configuration
from meshd.core import effects, inputs
from meshd.core.documents import Document
from meshd.core.effects import Effect
from meshd.core.feature import Feature
from meshd.core.kept import Kept
from meshd.core.membership import ttl_check_interval_s
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.core.snapshot import Vitals
from meshd.core.standing import Policy, policy_of
from meshd.model import Capacity, Now
from meshd.simulation.agents import Agents
from meshd.simulation.host import Host
from meshd.simulation.invariants import Invariant, Violation, all_invariants
from meshd.simulation.network import Network

EPOCH_MS = 1_800_000_000_000
CAPACITY = Capacity(cores=4, ram_mb=8192)
VERSION = "simulated"
TIMER_S = 1e-5  # no timer fires early, whatever is lost in adding and subtracting
SPINNING = 100_000  # events at one moment: more than any exchange of a mesh here makes

Trace = Callable[[str], None]
MakeNode = Callable[[Configuration, Birth, Any], Node]


@define(eq=False)
class World:
    """A mesh and its time. `trace` takes a line for everything that happens; `make_node` builds the nodes."""

    chance: Random
    configurations: Sequence[Configuration]
    trace: Trace | None = None
    make_node: MakeNode = Node
    now_s: float = 0.0
    steps: int = 0
    edits: int = 0
    invariants: Sequence[Invariant] = field(init=False)
    hosts: list[Host] = field(init=False)
    by_url: dict[str, Host] = field(init=False)
    network: Network = field(init=False)
    agents: Agents = field(init=False)
    _heap: list[tuple[float, int, Host | None, int, Callable[..., object], tuple[Any, ...]]] = field(factory=list)
    _numbers: int = 0
    _commands: int = 0
    _asked: dict[int, Document] = field(factory=dict)
    _stepped: list[Callable[[Host, Vitals], None]] = field(init=False)
    _saved: list[Callable[[Host, effects.Record], None]] = field(init=False)
    _sent: list[Callable[[Host, Any], None]] = field(init=False)
    _told: list[Callable[[Host, effects.Emit], None]] = field(init=False)
    _acknowledged: list[Callable[[Host, Document], None]] = field(init=False)
    _began: list[Callable[[Host, Feature], None]] = field(init=False)
    _finished: list[Callable[[Host, Feature], None]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.hosts = [Host(each, Kept(f"store-{number}")) for number, each in enumerate(self.configurations)]
        self.by_url = {host.url: host for host in self.hosts}
        latencies_s: dict[tuple[int, int], float] = {}
        for index, host in enumerate(self.hosts):
            host.index = index
            host.mono_shift_s = self.chance.uniform(10.0, 1e6)
            for other in range(index):
                latencies_s[index, other] = latencies_s[other, index] = self.chance.uniform(0.0002, 0.025)
        self.network = Network(self, self.chance, latencies_s)
        self.agents = Agents(self, self.chance)
        goes_on = any(each.work_intake.when_partitioned == "continue" for each in self.configurations)
        elects = all(
            policy_of(each.hivemind.failover, len(each.hivemind.peers)) is Policy.QUORUM for each in self.configurations
        )
        self.invariants = all_invariants(len(self.hosts), self.now, is_exclusive=elects and not goes_on)
        self._stepped = self._hooks("stepped")
        self._saved = self._hooks("saved")
        self._sent = self._hooks("sent")
        self._told = self._hooks("told")
        self._acknowledged = self._hooks("acknowledged")
        self._began = self._hooks("began")
        self._finished = self._hooks("finished")

    def _hooks(self, name: str) -> list[Any]:
        base = getattr(Invariant, name)
        return [getattr(each, name) for each in self.invariants if getattr(type(each), name) is not base]

    # Time

    def at(self, at_s: float, action: Callable[..., object], *args: Any) -> None:
        """Something that happens to the world."""
        self._numbers += 1
        heappush(self._heap, (at_s, self._numbers, None, 0, action, args))

    def at_host(self, at_s: float, host: Host, action: Callable[..., object], *args: Any) -> None:
        """Something that this life of a host does or meets."""
        self._numbers += 1
        heappush(self._heap, (at_s, self._numbers, host, host.life, action, args))

    def run(self, until_s: float) -> None:
        """Let time pass. Raises `Violation`, and whatever a node raises."""
        heap = self._heap
        at_once = 0
        while heap and heap[0][0] <= until_s:
            at_s, _, host, life, action, args = heappop(heap)
            at_once = 0 if at_s > self.now_s else at_once + 1
            if at_once > SPINNING:
                raise Violation("total", f"{host} spins: {action.__name__} without a pause")
            self.now_s = at_s
            if host is not None:
                if host.life != life:
                    continue
                if host.stalled_until_s > at_s:
                    self.at_host(host.stalled_until_s, host, action, *args)
                    continue
            action(*args)
        self.now_s = until_s

    def now(self, host: Host) -> Now:
        """What a host's clocks show."""
        return Now(self.now_s + host.mono_shift_s, EPOCH_MS + int(self.now_s * 1000) + host.utc_shift_ms)

    # A process

    def start(self, host: Host) -> None:
        """Start the process of a host, when it does not run."""
        if host.node is not None:
            return
        host.life += 1
        host.is_draining = False
        if not host.has_power:
            host.has_power = True
            host.mono_shift_s = 10.0 - self.now_s
            self.network.powered_up(host)
        birth = Birth(f"{host.life:08x}-{host.name}", VERSION)
        host.node = self.make_node(host.configuration, birth, host.disk.stored())
        self.note(host, "starts")
        hivemind = host.configuration.hivemind
        self.step(host, inputs.Started())
        self._repeat(host, self.now_s, host.configuration.compaction.interval_ms / 1000, inputs.CompactionDue())
        self._repeat(host, self.now_s, hivemind.heartbeat_interval_ms / 1000, inputs.HeartbeatDue(CAPACITY))
        if host.configuration.agents.command:
            self._repeat(host, self.now_s, host.configuration.work_intake.tick_interval_ms / 1000, inputs.IntakeDue())
        self._repeat(host, self.now_s, ttl_check_interval_s(hivemind.peer_ttl_ms), inputs.TtlDue())

    def end(self, host: Host, *, has_power: bool = True) -> None:
        """The process is gone at once (SIGKILL), or the whole machine."""
        if host.node is None:
            host.has_power = host.has_power and has_power
            return
        self.note(host, "is killed" if has_power else "loses power")
        if host.is_committing and self.chance.random() < 0.5:
            self._commit(host)
        host.node = None
        host.life += 1
        host.has_power = has_power
        host.stalled_until_s = -1.0
        host.is_committing = False
        host.batch, host.records, host.waiting = [], [], []
        self.network.process_ended(host)
        self.agents.gone(host)

    def restore(self, host: Host, copy: Kept) -> None:
        """Start a process anew on an earlier copy of its database."""
        self.end(host)
        host.disk = copy
        for each in self.invariants:
            each.restored(host, self.hosts)
        self.start(host)

    def drain(self, host: Host) -> None:
        """SIGTERM: the node says goodbye, the links flush and close, the process ends."""
        if host.node is not None and not host.is_draining:
            host.is_draining = True
            self.step(host, inputs.DrainRequested("SIGTERM received"))
            self.at_host(self.now_s, host, self._drained, host, self.now_s + host.configuration.drain.grace_ms / 1000)

    def _drained(self, host: Host, until_s: float) -> None:
        if (host.ways or host.is_committing) and self.now_s < until_s:
            self.at_host(self.now_s + 0.02, host, self._drained, host, until_s)
        else:
            self.end(host)

    def stall(self, host: Host, duration_s: float) -> None:
        """SIGSTOP, and after a while SIGCONT."""
        if host.node is not None:
            host.stalled_until_s = self.now_s + duration_s
            self.network.stalled(host)
            self.at_host(host.stalled_until_s, host, self.network.resumed, host)

    def wake(self, host: Host) -> None:
        """SIGCONT before its time: what waited for the end of the stop happens."""
        until_s, host.stalled_until_s = host.stalled_until_s, min(host.stalled_until_s, self.now_s)
        if until_s > self.now_s:
            self._heap[:] = [
                (self.now_s, *each[1:]) if each[2] is host and each[0] == until_s else each for each in self._heap
            ]
            heapify(self._heap)

    def _repeat(self, host: Host, due_s: float, interval_s: float, due: inputs.Input) -> None:
        if not host.is_draining:
            self.at_host(due_s, host, self._tick, host, due_s, interval_s, due)

    def _tick(self, host: Host, due_s: float, interval_s: float, due: inputs.Input) -> None:
        if not host.is_draining:
            self.step(host, due)
            self._repeat(host, max(due_s + interval_s, self.now_s), interval_s, due)

    def _alarm(self, host: Host, number: int) -> None:
        if host.alarms == number and not host.is_draining:
            self.step(host, inputs.AlarmDue())

    # Commands

    def command(self, host: Host, make: Callable[[int], inputs.Request]) -> None:
        """Hand in a command of an application, if there is a process to take it; `make` takes the command's number."""
        if host.node is None or host.is_draining or host.stalled_until_s > self.now_s:
            return
        self._commands += 1
        self.edits += 1
        answer = self._answer(host, make(self._commands))
        for effect in answer:
            if isinstance(effect, effects.Persist) and isinstance(effect.record, effects.SaveDocument):
                saved = effect.record
                self._asked[self._commands] = Document(saved.slug, saved.life, saved.registers, saved.ended)
        self._take(host, answer)

    # A step and what follows from it

    def step(self, host: Host, happened: inputs.Input) -> None:
        """One step of a host's node; its effects are performed, at once or after their commit."""
        if answer := self._answer(host, happened):
            self._take(host, answer)

    def _answer(self, host: Host, happened: inputs.Input) -> list[Effect]:
        assert host.node is not None
        if self.trace:
            self.note(host, happened)
        now = self.now(host)
        answer = host.node.step(happened, now)
        self.steps += 1
        vitals = host.node.vitals(now)
        for check in self._stepped:
            check(host, vitals)
        return answer

    def _take(self, host: Host, answer: list[Effect]) -> None:
        if host.is_committing:
            host.waiting.append(answer)
            return
        host.waiting = [answer]
        self._next_batch(host)

    def _next_batch(self, host: Host) -> None:
        batch, host.waiting = host.waiting, []
        records = [each.record for answer in batch for each in answer if isinstance(each, effects.Persist)]
        if records:
            host.batch, host.records, host.is_committing = batch, records, True
            duration_s = host.commit_s * (0.5 + self.chance.random())
            self.at_host(self.now_s + duration_s, host, self._committed, host)
        else:
            self._perform(host, batch)

    def _committed(self, host: Host) -> None:
        self._commit(host)
        host.is_committing = False
        batch, host.batch = host.batch, []
        self._perform(host, batch)
        if host.waiting:
            self._next_batch(host)

    def _commit(self, host: Host) -> None:
        for check in self._saved:
            for record in host.records:
                check(host, record)
        for record in host.records:
            host.disk.apply(record)
        host.records = []

    def _perform(self, host: Host, batch: Iterable[list[Effect]]) -> None:
        for answer in batch:
            for effect in answer:
                match effect:
                    case effects.Send(link, message):
                        self._send(host, (link,), message)
                    case effects.Broadcast(links, message):
                        if links:
                            self._send(host, links, message)
                    case effects.Persist() | effects.WriteProject() | effects.WriteFeature():
                        pass
                    case effects.StartWork() | effects.ExtendWork() | effects.StopWork():
                        self.agents.perform(host, effect)
                    case effects.Note(_, text):
                        if self.trace:
                            self.note(host, f"notes: {text}")
                    case effects.Emit():
                        for check in self._told:
                            check(host, effect)
                    case effects.Reply(command, outcome):
                        self._reply(host, command, outcome)
                    case effects.HangUp(link, code, reason):
                        self.network.hang_up(host, link, code, reason)
                    case effects.Dial(url, delay_s):
                        self.note(host, f"dials {url} within {delay_s} s")
                        self.network.dial(host, url, delay_s)
                    case effects.Alarm(at_s):
                        host.alarms += 1
                        due_s = max(self.now_s, at_s - host.mono_shift_s) + TIMER_S
                        self.at_host(due_s, host, self._alarm, host, host.alarms)

    def _send(self, host: Host, links: Iterable[int], message: Any) -> None:
        for check in self._sent:
            check(host, message)
        for link in links:
            self.network.send(host, link, message)

    def _reply(self, host: Host, command: int, outcome: effects.Accepted | effects.Rejected) -> None:
        written = self._asked.pop(command, None)
        if self.trace:
            self.note(host, f"replies: {outcome}")
        if written is not None and isinstance(outcome, effects.Accepted):
            for check in self._acknowledged:
                check(host, written)

    def work_began(self, host: Host, feature: Feature) -> None:
        """An agent of a host works on a phase from here on."""
        self.note(host, f"works on {'/'.join(feature.place)}, generation {feature.generation}")
        for check in self._began:
            check(host, feature)

    def work_ended(self, host: Host, feature: Feature) -> None:
        """None of its processes is left."""
        self.note(host, f"no longer works on {'/'.join(feature.place)}")
        for check in self._finished:
            check(host, feature)

    def note(self, host: Host | None, what: object) -> None:
        """One line of the trace."""
        if self.trace:
            self.trace(f"{self.now_s:12.4f}  {host.name if host else '':8} {what}")
