"""What meshes the seeds draw."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from attrs import evolve

from meshd.model import Role
from meshd.simulation import meshes
from meshd.simulation.applications import LOOK_EVERY_S, see_to_a_primary
from meshd.simulation.meshes import PLAIN, Variant
from meshd.simulation.simulation import simulate
from meshd.simulation.world import World

from .test_simulation import old_seeds


def test_most_meshes_are_plain_and_every_variant_is_drawn() -> None:
    drawn = [meshes.variant(seed) for seed in range(1000)]

    policies = Counter(like.failover for like in drawn)
    assert 800 < policies["auto"] < 900
    assert 70 < policies["priority"] < 130
    assert 30 < policies["manual"] < 70
    assert 200 < sum(like.has_backups for like in drawn) < 300
    assert 50 < sum(like.is_hurried for like in drawn) < 110
    assert PLAIN in drawn


def test_old_seeds_are_plain() -> None:
    assert {meshes.variant(seed) for seed, _, _ in old_seeds()} == {PLAIN}


def test_a_variant_is_in_every_configuration_and_moves_no_other_draw() -> None:
    plain, drawn = Random(1), Random(1)
    meshes.draw(plain, 4)

    for configuration in meshes.draw(drawn, 4, Variant("manual", is_hurried=True)):
        assert configuration.hivemind.failover == "manual"
        assert configuration.hivemind.peer_ttl_ms == 12_000
    assert drawn.random() == plain.random()


@pytest.mark.parametrize("failover", ["priority", "manual"])
def test_a_seed_of_each_policy(failover: str) -> None:
    seed = next(seed for seed in range(100) if meshes.variant(seed).failover == failover)

    result = simulate(seed, 4)

    assert not result.invariant, result.text


def test_where_nobody_promotes_itself_a_person_does() -> None:
    drawn = meshes.draw(Random(1), 3, Variant("manual"))
    workers = [evolve(each, protolab=evolve(each.protolab, role=Role.WORKER)) for each in drawn]
    world = World(Random(1), workers)
    for host in world.hosts:
        world.start(host)
    world.run(300.0)
    assert roles(world) == [Role.WORKER] * 3

    see_to_a_primary(world)
    world.run(world.now_s + 2 * LOOK_EVERY_S)
    assert roles(world) == [Role.PRIMARY, Role.WORKER, Role.WORKER]


def roles(world: World) -> list[Role]:
    return [host.node.snapshot(world.now(host)).role for host in world.hosts if host.node]
