"""What can go wrong, drawn from the seed: one generator each, which makes it so, says what and for how long, and makes
it good again when it is resumed.

What cannot happen below TCP is not here: no single frame of an open link is lost, doubled or overtaken. Frames are lost
with their link, doubled by a link that is dialled again, and overtake each other on different links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from itertools import permutations, product
from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field

from meshd.core.inputs import Received
from meshd.core.messages import FeatureEvent, UtcMs
from meshd.simulation import meshes
from meshd.simulation.meshes import Variant

if TYPE_CHECKING:
    from meshd.simulation.host import Host
    from meshd.simulation.world import World

FAULT_EVERY_S = 30.0

Fault: TypeAlias = "Iterator[tuple[str, float]]"
"""Yields once: what is wrong, and for how many seconds."""


@define(eq=False)
class Storm:
    """Faults one after another, several at a time, until they are all healed."""

    world: World
    until_s: float
    table: Table = field(factory=lambda: TABLE)
    count: int = 0
    active: list[Fault] = field(factory=list)

    def begin(self) -> None:
        """The next fault comes after a while."""
        next_s = self.world.now_s + self.world.chance.expovariate(1 / FAULT_EVERY_S)
        if next_s < self.until_s:
            self.world.at(next_s, self._strike)

    def _strike(self) -> None:
        kind = self.world.chance.choices([kind for kind, _ in self.table], [weight for _, weight in self.table])[0]
        fault = kind(self.world)
        text, duration_s = next(fault)
        self.count += 1
        self.world.note(None, f"FAULT {text}" + (f" for {duration_s:.1f} s" if duration_s else ""))
        self.active.append(fault)
        self.world.at(self.world.now_s + duration_s, self._over, fault, text)
        self.begin()

    def _over(self, fault: Fault, text: str) -> None:
        if fault in self.active:
            self.active.remove(fault)
            if text and next(fault, None) is None:
                self.world.note(None, f"OVER  {text}")

    def heal(self) -> None:
        """Make everything good that still is wrong."""
        for fault in self.active:
            next(fault, None)
        self.active.clear()
        for host in self.world.hosts:
            self.world.wake(host)
            self._revive(host)

    def _revive(self, host: Host) -> None:
        if host.node is not None and host.is_draining:
            self.world.at(self.world.now_s + 1.0, self._revive, host)
        else:
            self.world.start(host)


# Ways


def partition(world: World) -> Fault:
    """Two groups, and no way between them."""
    hosts = world.chance.sample(world.hosts, len(world.hosts))
    middle = world.chance.randrange(1, len(hosts))
    one, other = hosts[:middle], hosts[middle:]
    pairs = [*_pairs(one, other), *_pairs(other, one)]
    world.network.cut(pairs)
    yield f"partition: {_names(one)} | {_names(other)}", world.chance.choice([2.0, 15.0, 40.0, 150.0, 400.0])
    world.network.join(pairs)


def one_way(world: World) -> Fault:
    """What one host sends, or what it should hear, gets lost; the other way is open."""
    host = world.chance.choice(world.hosts)
    others = [other for other in world.hosts if other is not host]
    is_deaf = world.chance.random() < 0.5
    pairs = _pairs(others, [host]) if is_deaf else _pairs([host], others)
    world.network.cut(pairs)
    yield f"one way: {host} {'hears nothing' if is_deaf else 'is not heard'}", world.chance.choice([5.0, 60.0, 200.0])
    world.network.join(pairs)


def half_open(world: World) -> Fault:
    """Between two hosts everything is swallowed."""
    pair = world.chance.sample(world.hosts, 2)
    pairs = [(one.index, other.index) for one, other in permutations(pair)]
    world.network.cut(pairs)
    yield f"swallowed: all between {_names(pair)}", world.chance.choice([5.0, 25.0, 60.0, 300.0])
    world.network.join(pairs)


def reset(world: World) -> Fault:
    """A link breaks."""
    host = world.chance.choice(world.hosts)
    ways = list(host.ways.values())
    if ways:
        way = world.chance.choice(ways)
        world.network.reset(way)
        yield f"reset: {host} - {way.receiver}", 0.0
    else:
        yield f"reset: {host} has no link", 0.0


def delay(world: World) -> Fault:
    """A host is far away, or slow: everything to and from it takes its time."""
    host = world.chance.choice(world.hosts)
    extra_s = world.chance.choice([0.2, 1.0, 5.0])
    host.extra_latency_s += extra_s
    yield f"slow: {host}, {extra_s} s more each way", world.chance.uniform(10.0, 200.0)
    host.extra_latency_s = max(0.0, host.extra_latency_s - extra_s)


def loss(world: World) -> Fault:
    """Packets to and from a host get lost, and are sent again."""
    host = world.chance.choice(world.hosts)
    host.loss = 0.3
    yield f"lossy: {host}, 30 % of its packets", world.chance.uniform(10.0, 300.0)
    host.loss = 0.0


def dial_again(world: World) -> Fault:
    """A host dials somebody without need, whom it may be linked to already."""
    host, other = world.chance.sample(world.hosts, 2)
    if host.node is not None and not host.is_draining:
        world.network.dial(host, other.url, 0.0)
    yield f"dialled again: {host} to {other}", 0.0


def feature(world: World) -> Fault:
    """A peer that was never told not to, sends what belongs to it alone."""
    host = world.chance.choice(world.hosts)
    if host.node is not None and host.ways and host.stalled_until_s <= world.now_s:
        way = world.chance.choice(list(host.ways.values()))
        if way.is_up:
            payload = {"featureId": "feature-1", "projectSlug": "atlas"}
            event = FeatureEvent(way.receiver.name, "feature:created", {**payload}, UtcMs(0))
            world.step(host, Received(way.number, event))
    yield f"a feature is sent to {host}", 0.0


# Processes


def kill(world: World) -> Fault:
    """SIGKILL, and started again after a while."""
    host = world.chance.choice(world.hosts)
    world.end(host)
    yield f"killed: {host}", world.chance.choice([0.5, 5.0, 60.0, 200.0])
    _start(world, host)


def power(world: World) -> Fault:
    """A machine loses its power: nobody is told."""
    host = world.chance.choice(world.hosts)
    world.end(host, has_power=False)
    yield f"without power: {host}", world.chance.choice([20.0, 90.0, 300.0])
    _start(world, host)


def blackout(world: World) -> Fault:
    """All at once, and back one after another in any order."""
    for host in world.hosts:
        world.end(host, has_power=False)
    yield "without power: all", world.chance.uniform(1.0, 60.0)
    for host in world.hosts:
        world.at_host(world.now_s + world.chance.choice([0.0, 1.0, 20.0]), host, _start, world, host)


def drain(world: World) -> Fault:
    """SIGTERM, and started again."""
    host = world.chance.choice(world.hosts)
    world.drain(host)
    yield f"drained: {host}", world.chance.choice([6.0, 30.0, 200.0])
    _start(world, host)


def stall(world: World) -> Fault:
    """SIGSTOP: the process stands still, its clocks go on."""
    host = world.chance.choice(world.hosts)
    duration_s = world.chance.choice([1.0, 5.0, 25.0, 100.0, 200.0])
    world.stall(host, duration_s)
    yield f"stopped: {host}", duration_s


def clock(world: World) -> Fault:
    """UTC jumps, and is set right again; nothing that measures time may notice."""
    host = world.chance.choice(world.hosts)
    shift_ms = world.chance.choice([-3_600_000, -120_000, 60_000, 250_000, 900_000, 3_600_000])
    host.utc_shift_ms += shift_ms
    yield f"clock: {host} is {shift_ms / 1000:+.0f} s off", world.chance.uniform(5.0, 300.0)
    host.utc_shift_ms -= shift_ms


def slow_disk(world: World) -> Fault:
    """Commits take long."""
    host = world.chance.choice(world.hosts)
    host.commit_s = world.chance.choice([0.1, 1.0, 8.0])
    yield f"slow disk: {host}, about {host.commit_s} s a commit", world.chance.uniform(5.0, 100.0)
    host.commit_s = 0.003


def divergence(world: World) -> Fault:
    """Somebody starts an instance with another version of the file, and later with the right one."""
    host = world.chance.choice(world.hosts)
    right = world.configurations[host.index]
    world.end(host)
    host.configuration = meshes.diverged(right, world.chance)
    world.start(host)
    yield f"another configuration: {host}", world.chance.uniform(30.0, 300.0)
    host.configuration = right
    world.end(host)
    world.start(host)


def backup(world: World) -> Fault:
    """A database is copied, and a while later somebody puts the copy in its place."""
    host = world.chance.choice(world.hosts)
    copy = deepcopy(host.disk)
    yield f"backup: {host} will have lost what comes on its disk", world.chance.choice([5.0, 60.0, 300.0])
    world.restore(host, copy)


def _start(world: World, host: Host) -> None:
    world.start(host)


def _pairs(senders: Sequence[Host], receivers: Sequence[Host]) -> list[tuple[int, int]]:
    return [(one.index, other.index) for one, other in product(senders, receivers)]


def _names(hosts: Sequence[Host]) -> str:
    return " ".join(host.name for host in hosts)


Table: TypeAlias = Sequence[tuple[Callable[["World"], Fault], float]]
TABLE: Table = (
    (partition, 3),
    (one_way, 2),
    (half_open, 2),
    (reset, 2),
    (delay, 2),
    (loss, 1),
    (dial_again, 1),
    (feature, 0.5),
    (kill, 3),
    (power, 1.5),
    (blackout, 0.3),
    (drain, 1.5),
    (stall, 2),
    (clock, 1.5),
    (slow_disk, 1.5),
    (divergence, 0.7),
)


def table_for(like: Variant) -> Table:
    """The faults of a mesh, and how often each comes beside the others."""
    return (*TABLE, (backup, 1.5)) if like.has_backups else TABLE
