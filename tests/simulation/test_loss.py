"""Bad networks elect nobody: a lossy hour is no reason for another primary."""

from __future__ import annotations

from random import Random

import pytest

from meshd.core.node import Node
from meshd.simulation import meshes
from meshd.simulation.world import World

LOSS = 0.3
UNTIL_S = 60.0
HOUR_S = 3600.0


@pytest.mark.parametrize("nodes", [3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_nobody_is_promoted_while_three_packets_in_ten_are_lost(seed: int, nodes: int) -> None:
    chance = Random(seed)
    world = World(chance, meshes.draw(chance, nodes), None, Node)
    for host in world.hosts:
        world.start(host)
    world.run(UNTIL_S)
    led = [(turn.leader, turn.term) for turn in world.hosts[0].disk.turns.values()]
    assert led[-1][0] == "dev-01"

    for host in world.hosts:
        host.loss = LOSS
    world.run(UNTIL_S + HOUR_S)

    assert [(turn.leader, turn.term) for turn in world.hosts[0].disk.turns.values()] == led
    for host in world.hosts:
        assert host.node is not None
        assert host.node.snapshot(world.now(host)).primary_id == "dev-01"
