"""Shared settings among whole instances, with stores that survive crashes, in virtual time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from meshd.core.effects import Accepted, Rejected
from meshd.core.inputs import PatchSettings, PutSettings
from meshd.model import Json, JsonObject
from meshd.store import MemoryStore
from tests.shell.world import Instance, World, until


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    world = World(3)
    for instance in world.instances:
        await nursery.start(instance.run)
    await until(world.all_see_all, 10)
    return world


async def share(instance: Instance, values: JsonObject) -> Accepted | Rejected:
    assert instance.driver is not None
    return await instance.driver.submit(PutSettings(0, "shared", values))


def shared(instance: Instance) -> tuple[int, JsonObject]:
    assert instance.driver is not None
    scope = instance.driver.snapshot().settings.shared
    return scope.revision, scope.values


def value(instance: Instance, key: str) -> tuple[str, Json]:
    assert instance.driver is not None
    return instance.driver.snapshot().settings.resolved()[key]


async def all_have(world: World, revision: int, values: JsonObject) -> None:
    async def so() -> bool:
        await trio.lowlevel.checkpoint()
        return all(shared(instance) == (revision, values) for instance in world.instances)

    await until(so, 30)


async def test_a_change_on_the_primary_reaches_every_instance(world: World, autojump_clock: MockClock) -> None:
    primary, worker, _ = world.instances
    assert await share(primary, {"maxConcurrentAgents": 4, "workflow": {"maxRetries": 2}}) == Accepted("1")
    await all_have(world, 1, {"maxConcurrentAgents": 4, "workflow": {"maxRetries": 2}})
    assert [len(instance.told("settings:updated")) for instance in world.instances] == [1, 1, 1]
    refusal = await share(worker, {"maxConcurrentAgents": 9})
    assert isinstance(refusal, Rejected)
    assert refusal.code == "not-primary"


async def test_a_worker_that_was_away_catches_up(
    world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    primary, crashed, cut_off = world.instances
    await share(primary, {"autoMode": True})
    await all_have(world, 1, {"autoMode": True})
    assert cut_off.driver is not None
    assert await cut_off.driver.submit(PatchSettings(0, "local", {"autoMode": False})) == Accepted("1")
    crashed.crash()
    world.cut_off(cut_off)
    await share(primary, {"autoMode": True, "maxRetries": 1})
    await share(primary, {"autoMode": True, "maxRetries": 2})
    await trio.sleep(1)
    assert shared(cut_off) == (1, {"autoMode": True})
    world.reunite(cut_off)
    await nursery.start(crashed.run)
    await all_have(world, 3, {"autoMode": True, "maxRetries": 2})
    assert value(cut_off, "autoMode") == ("local", False)
    assert value(primary, "autoMode") == value(crashed, "autoMode") == ("shared", True)


async def test_a_primary_that_lost_its_database_gets_them_back(
    world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    primary, *_ = world.instances
    await share(primary, {"maxRetries": 1})
    await share(primary, {"maxRetries": 2})
    await all_have(world, 2, {"maxRetries": 2})
    primary.crash()
    primary.store = MemoryStore()
    await nursery.start(primary.run)
    await all_have(world, 2, {"maxRetries": 2})
    assert await share(primary, {"maxRetries": 3}) == Accepted("3")
    await all_have(world, 3, {"maxRetries": 3})
