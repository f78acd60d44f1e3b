"""Every fault says what it is, and leaves nothing behind when it is over."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from meshd.simulation import faults, meshes
from meshd.simulation.faults import Fault, Storm
from meshd.simulation.meshes import Variant
from meshd.simulation.world import World

KINDS = [kind for kind, _ in faults.table_for(Variant(has_backups=True))]


def running(seed: int) -> World:
    world = World(Random(seed), meshes.draw(Random(seed), 4))
    for host in world.hosts:
        world.start(host)
    world.run(10.0)
    return world


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_a_fault_is_made_good(kind: Callable[[World], Fault]) -> None:
    for seed in range(3):
        world = running(seed)
        before = [(host.utc_shift_ms, host.commit_s, host.configuration) for host in world.hosts]
        fault = kind(world)
        text, duration_s = next(fault)
        assert text
        world.run(world.now_s + duration_s)
        assert next(fault, None) is None
        world.run(world.now_s + 60.0)

        assert not +world.network.cuts
        assert all(host.node is not None and host.stalled_until_s <= world.now_s for host in world.hosts)
        assert [(host.utc_shift_ms, host.commit_s, host.configuration) for host in world.hosts] == before
        assert not any(host.extra_latency_s or host.loss for host in world.hosts)


def test_a_storm_ends_with_everybody_up() -> None:
    world = running(9)
    storm = Storm(world, 1200.0)
    storm.begin()
    world.run(1200.0)
    storm.heal()
    world.run(1230.0)

    assert storm.count > 20
    assert not storm.active
    assert not +world.network.cuts
    assert all(host.node is not None and not host.is_draining for host in world.hosts)
