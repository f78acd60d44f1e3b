"""What the tests of broken rules share: the swarm looks for an invariant that does not hold."""

from __future__ import annotations

from collections.abc import Iterable

from meshd.core.node import Node
from meshd.simulation.simulation import simulate
from meshd.simulation.world import MakeNode

WITHIN_SEEDS = 30


def found(
    invariant: str, nodes: int = 4, make_node: MakeNode = Node, seeds: Iterable[int] = range(WITHIN_SEEDS)
) -> bool:
    """Whether one of the seeds finds it."""
    return any(simulate(seed, nodes, make_node=make_node).invariant == invariant for seed in seeds)
