"""One seed: a cold start, a storm of faults and edits, then quiet, then one instance drains.

The result says what was found: nothing, the invariant that does not hold, or what a node raised.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from hashlib import blake2b
from random import Random

from attrs import frozen

from meshd.configuration import Configuration
from meshd.core.node import Node
from meshd.core.snapshot import Snapshot
from meshd.simulation import agents, applications, meshes
from meshd.simulation.faults import Storm, table_for
from meshd.simulation.host import Host
from meshd.simulation.invariants import DrainedIsOffline, Violation
from meshd.simulation.network import MAX_LATENCY_S
from meshd.simulation.world import MakeNode, World

START_WITHIN_S = 20.0
NO_WORK = 0.2  # of the meshes: no host has a command
GOES_ON = 0.2  # of the others: hosts claim without a primary, too
ROUND_TRIP_S = 4 * MAX_LATENCY_S  # to the primary and back, and on to the others, with a commit on the way


@frozen
class Result:
    """What one seed came to. `invariant` is "" when all hold; `digest` is the same for the same run."""

    seed: int
    nodes: int
    hours: float
    invariant: str
    text: str
    at_s: float
    steps: int
    frames: int
    faults: int
    edits: int
    digest: str


def simulate(
    seed: int,
    nodes: int,
    hours: float = 1.0,
    *,
    trace: Callable[[str], None] | None = None,
    make_node: MakeNode = Node,
) -> Result:
    """Run one seed with so many nodes for so many simulated hours of faults."""
    chance, like = Random(seed), meshes.variant(seed)
    world = World(chance, _equipped(seed, meshes.draw(chance, nodes, like)), trace, make_node)
    storm = Storm(world, hours * 3600, table_for(like))
    invariant = text = ""
    try:
        _run(world, storm)
    except Violation as violation:
        invariant, text = violation.invariant, violation.text
    except Exception as error:  # noqa: BLE001  what a node raises is what the seed found
        place = traceback.extract_tb(error.__traceback__)[-1]
        invariant, text = "total", f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
    if trace and invariant:
        trace(f"{world.now_s:12.4f}  VIOLATION of {invariant}: {text}")
    held = "".join(f"{host.disk.seqs}{len(host.disk.events)}{host.links}" for host in world.hosts)
    digest = blake2b(
        f"{world.steps} {world.network.frames} {chance.random()} {held}".encode(), digest_size=8
    ).hexdigest()
    counts = (world.steps, world.network.frames, storm.count, world.edits)
    return Result(seed, nodes, hours, invariant, text, world.now_s, *counts, digest)


def _equipped(seed: int, configurations: Sequence[Configuration]) -> Sequence[Configuration]:
    """With commands that work, in most meshes."""
    chance = Random(f"work {seed}")
    if chance.random() < NO_WORK:
        return configurations
    goes_on = chance.random() < GOES_ON
    return [agents.equipped(each, chance, goes_on=goes_on) for each in configurations]


def _run(world: World, storm: Storm) -> None:
    for host in world.hosts:
        world.at_host(world.chance.uniform(0.0, START_WITHIN_S), host, world.start, host)
    storm.begin()
    applications.begin(world, storm.until_s)
    world.run(storm.until_s)
    world.note(None, "all is healed, and quiet")
    storm.heal()
    applications.see_to_a_primary(world)
    world.run(world.now_s + meshes.quiet_s(world.configurations[0]))
    snapshots = _snapshots(world)
    for each in world.invariants:
        each.ended(snapshots)
    _drain_one(world)


def _snapshots(world: World) -> Sequence[tuple[Host, Snapshot]]:
    return [(host, host.node.snapshot(world.now(host))) for host in world.hosts if host.node is not None]


def _drain_one(world: World) -> None:
    gone = world.chance.choice(world.hosts)
    world.drain(gone)
    world.run(world.now_s + ROUND_TRIP_S)
    snapshots = [(host, snapshot) for host, snapshot in _snapshots(world) if host is not gone]
    for each in world.invariants:
        if isinstance(each, DrainedIsOffline):
            each.drained(gone, snapshots)
