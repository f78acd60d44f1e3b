"""Who leads when the primary dies, leaves, is cut off or never came: whole instances on links in memory.

Where a majority elects, a witness looks on: never do two decide at one moment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

import pytest
import trio
from trio.testing import MockClock

from meshd.core.effects import Accepted
from tests.shell.world import Instance, World, until

TTL_S = 120.0
LOOK_EVERY_S = 0.25


async def never_two_decide(world: World) -> NoReturn:
    while True:
        deciding = [instance.name for instance in world.instances if instance.decides]
        assert len(deciding) <= 1, deciding
        await trio.sleep(LOOK_EVERY_S)


async def started(nursery: trio.Nursery, world: World) -> World:
    """All of them up, led by the first of the peers."""
    for instance in world.instances:
        await nursery.start(instance.run)
    await until(lambda: world.is_led_by(world.instances[0]), 40)
    return world


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    """Three, of which two elect."""
    world = World(3)
    nursery.start_soon(never_two_decide, world)
    return await started(nursery, world)


@pytest.fixture
async def pair(nursery: trio.Nursery) -> World:
    """Two: each leads when it cannot reach the other."""
    return await started(nursery, World(2))


async def put(instance: Instance, slug: str) -> None:
    assert isinstance(await instance.put(slug, {"title": slug}), Accepted)


async def all_hold(instances: Sequence[Instance], slugs: set[str], within_s: float = 10) -> None:
    """Wait until all of these have the same documents, with nothing queued."""

    async def hold() -> bool:
        await trio.lowlevel.checkpoint()
        snapshots = [instance.driver.snapshot() for instance in instances if instance.driver]
        return (
            len({snapshot.root for snapshot in snapshots}) == 1
            and all(snapshot.documents.keys() == slugs for snapshot in snapshots)
            and not any(snapshot.queued_changes for snapshot in snapshots)
        )

    await until(hold, within_s)


async def holds(condition: Callable[[], bool]) -> bool:
    await trio.lowlevel.checkpoint()
    return condition()


async def test_a_killed_primary_is_replaced_by_the_best_placed(world: World, autojump_clock: MockClock) -> None:
    primary, worker, other = world.instances
    await put(other, "before")
    await all_hold(world.instances, {"before"})
    primary.crash()
    await trio.sleep(1)
    await put(other, "between")
    took_s = await until(lambda: world.is_led_by(worker), 1.7 * TTL_S)
    assert took_s >= 0.7 * TTL_S  # a primary that says nothing counts on its voters for three quarters of the TTL
    assert not other.is_primary
    await put(worker, "after")
    await all_hold([worker, other], {"before", "between", "after"})
    for instance in (worker, other):
        turns = [(event.payload["leader"], event.payload["term"]) for event in instance.told("sync:leadership-changed")]
        assert turns[-1] == ("dev-02", 2)


async def test_who_heard_it_last_does_not_go_before_the_better_placed(world: World, autojump_clock: MockClock) -> None:
    """The better-placed asks first, is refused by who is still bound, and is told to go while it waits for others."""
    primary, worker, other = world.instances
    world.network.delay(primary.url, other.url, 0.5)
    await trio.sleep(100)
    world.cut_off(primary)
    await until(lambda: holds(lambda: worker.decides and other.follows == "dev-02"), 1.7 * TTL_S)


async def test_the_old_primary_returns_as_a_worker_and_is_given_its_place_back(
    world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    primary, worker, other = world.instances
    primary.crash()
    await until(lambda: world.is_led_by(worker), 1.7 * TTL_S)
    await put(other, "while it was away")
    await nursery.start(primary.run)
    assert await until(lambda: world.is_led_by(worker), 10) < 2
    await all_hold(world.instances, {"while it was away"})
    took_s = await until(lambda: world.is_led_by(primary), 3 * TTL_S)
    assert took_s > 1.9 * TTL_S  # failback waits until it has been there for twice the TTL
    await put(worker, "after")
    await all_hold(world.instances, {"while it was away", "after"})
    await trio.sleep(1200)
    assert await world.is_led_by(primary)
    assert await world.all_see_all()


async def test_without_failback_the_new_primary_keeps_leading(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    world = await started(nursery, World(3, failback="manual"))
    primary, worker, _ = world.instances
    primary.crash()
    await until(lambda: world.is_led_by(worker), 1.7 * TTL_S)
    await nursery.start(primary.run)
    await trio.sleep(1800)
    assert await world.is_led_by(worker)


async def test_who_leaves_is_followed_at_once(world: World, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """A primary that drains, then its successor: nobody waits for the TTL."""
    primary, worker, other = world.instances
    await put(primary, "before")
    await all_hold(world.instances, {"before"})
    primary.drain.request("maintenance")
    assert await until(lambda: world.is_led_by(worker), 2) < 1
    await put(other, "after")
    await all_hold([worker, other], {"before", "after"})
    await until(lambda: holds(lambda: primary.driver is None), 5)
    await nursery.start(primary.run)
    await until(lambda: world.is_led_by(worker), 10)
    await trio.sleep(60)  # who has not yet said that it is in sync goes after who has
    worker.drain.request("maintenance")
    assert await until(lambda: world.is_led_by(primary), 2) < 1
    await all_hold([primary, other], {"before", "after"})


async def test_all_at_once_without_the_primary(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    world = World(3)
    nursery.start_soon(never_two_decide, world)
    primary, worker, other = world.instances
    async with trio.open_nursery() as starting:
        for instance in (other, worker):
            starting.start_soon(nursery.start, instance.run)
    await put(other, "early")
    took_s = await until(lambda: world.is_led_by(worker), 1.7 * TTL_S)
    assert took_s > TTL_S  # somebody may lead whom they cannot reach yet
    await nursery.start(primary.run)
    await until(lambda: world.is_led_by(worker), 10)
    await all_hold(world.instances, {"early"})


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 1, 3), (2, 3, 1)])
async def test_a_cold_start_in_any_order(
    order: tuple[int, ...], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    world = World(3)
    nursery.start_soon(never_two_decide, world)
    for number in order:
        await nursery.start(world.instances[number - 1].run)
        await trio.sleep(10)
    await until(lambda: world.is_led_by(world.instances[0]), 60)
    await until(world.all_see_all, 60)


async def test_a_minority_has_no_authority_and_heals_by_itself(world: World, autojump_clock: MockClock) -> None:
    primary, worker, other = world.instances
    await put(primary, "before")
    await all_hold(world.instances, {"before"})
    world.cut_off(primary)
    took_s = await until(lambda: holds(lambda: not primary.decides), TTL_S)
    assert 0.4 * TTL_S < took_s <= 0.75 * TTL_S
    assert primary.is_primary  # a hub: documents go through it, nobody is elected by it
    await put(primary, "of the minority")
    await until(lambda: holds(lambda: worker.decides and other.follows == "dev-02"), TTL_S)
    assert [instance.name for instance in world.instances if instance.is_primary] == ["dev-01", "dev-02"]
    await put(other, "of the majority")

    world.reunite(primary)
    await until(lambda: world.is_led_by(worker), 30)
    await all_hold(world.instances, {"before", "of the minority", "of the majority"})
    (resolved,) = primary.told("sync:split-brain-resolved")
    assert resolved.payload["primary"] == "dev-02"
    assert resolved.payload["steppedDown"] == "dev-01"
    assert not worker.told("sync:split-brain-resolved") + other.told("sync:split-brain-resolved")
    await until(lambda: world.is_led_by(primary), 3 * TTL_S)


async def test_a_worker_cut_off_disturbs_nobody(world: World, autojump_clock: MockClock) -> None:
    """It asks first and is not answered: no term passes, and its return changes nothing."""
    primary, worker, _ = world.instances
    assert primary.driver is not None
    assert worker.driver is not None
    term = primary.driver.snapshot().term
    world.cut_off(worker)
    await trio.sleep(3600)
    assert not worker.is_primary
    world.reunite(worker)
    await until(lambda: world.is_led_by(primary), 30)
    assert [one.driver.snapshot().term for one in world.instances if one.driver] == [term] * 3


async def test_two_instances_kill_and_return(pair: World, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    primary, worker = pair.instances
    await put(primary, "before")
    await all_hold(pair.instances, {"before"})
    primary.crash()
    await until(lambda: pair.is_led_by(worker), 1.7 * TTL_S)
    await put(worker, "alone")
    await nursery.start(primary.run)
    await until(lambda: pair.is_led_by(worker), 10)
    await all_hold(pair.instances, {"before", "alone"})
    await until(lambda: pair.is_led_by(primary), 3 * TTL_S)


async def test_two_instances_apart_both_lead_and_one_gives_way(pair: World, autojump_clock: MockClock) -> None:
    """Under `priority` that is what was asked for: both go on, and what they did meets afterwards."""
    primary, worker = pair.instances
    pair.cut_off(worker)
    await until(lambda: holds(lambda: primary.decides and worker.decides), 1.7 * TTL_S)
    await put(primary, "of the first")
    await put(worker, "of the second")
    await trio.sleep(600)
    pair.reunite(worker)

    async def one_leads() -> bool:
        await trio.lowlevel.checkpoint()
        return sum(instance.is_primary for instance in pair.instances) == 1

    await until(one_leads, 30)
    await all_hold(pair.instances, {"of the first", "of the second"})
    assert sum(len(instance.told("sync:split-brain-resolved")) for instance in pair.instances) == 1
    await until(lambda: pair.is_led_by(primary), 3 * TTL_S)
