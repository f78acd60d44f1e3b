"""Whole instances that differ find it out, say so and repair it by themselves; what was deleted stays deleted."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from meshd.configuration import Compaction
from meshd.core.effects import Accepted
from meshd.core.inputs import DeleteProject
from meshd.core.snapshot import Snapshot
from tests.shell.world import Instance, World, until

RETENTION_MS = 600_000


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    world = World(3, compaction=Compaction(tombstone_retention_ms=RETENTION_MS))
    for instance in world.instances:
        await nursery.start(instance.run)
    await until(world.all_see_all, 10)
    return world


def snapshot(instance: Instance) -> Snapshot:
    assert instance.driver is not None
    return instance.driver.snapshot()


def in_sync(instance: Instance) -> list[bool | None]:
    return [member.in_sync for member in snapshot(instance).members]


def alerts(instance: Instance, kind: str) -> list[object]:
    return [event.payload["code"] for event in instance.told(f"alert:{kind}")]


async def test_in_peace_everybody_is_in_sync_with_everybody(world: World, autojump_clock: MockClock) -> None:
    await world.instances[1].put("alpha", {"title": "Alpha"})
    await trio.sleep(120)
    for instance in world.instances:
        assert in_sync(instance) == [True, True]
        assert snapshot(instance).alerts == ()
        assert len(snapshot(instance).compaction.history) == 1


async def test_a_frame_that_was_lost_is_noticed_and_repaired(world: World, autojump_clock: MockClock) -> None:
    primary, worker, other = world.instances
    await trio.sleep(31)
    world.network.drop(primary.url, worker.url)
    await primary.put("alpha", {"title": "Alpha"})
    await trio.sleep(1)
    world.network.heal(primary.url, worker.url)
    assert worker.document("alpha") is None
    assert other.document("alpha") is not None
    await trio.sleep(31)
    assert in_sync(worker) == [False, False]
    assert worker.document("alpha") is None

    async def repaired() -> bool:
        await trio.lowlevel.checkpoint()
        return worker.document("alpha") is not None

    await until(repaired, 61)
    await trio.sleep(61)
    assert alerts(worker, "raised") == alerts(worker, "cleared") == ["diverged"]
    for instance in world.instances:
        assert in_sync(instance) == [True, True]
        assert snapshot(instance).alerts == ()
    assert len(worker.told("project:created")) == 1


async def test_a_partition_longer_than_the_ttl_is_an_alert(world: World, autojump_clock: MockClock) -> None:
    worker = world.instances[1]
    world.cut_off(worker)
    await trio.sleep(140)
    assert [alert.code for alert in snapshot(worker).alerts] == ["partitioned"]
    world.reunite(worker)
    await trio.sleep(30)
    assert snapshot(worker).alerts == ()


async def test_a_sleeper_does_not_bring_back_what_was_deleted(
    world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    primary, worker, sleeper = world.instances
    await worker.put("alpha", {"title": "Alpha"})
    await trio.sleep(31)
    sleeper.crash()
    assert worker.driver is not None
    assert isinstance(await worker.driver.submit(DeleteProject(0, "alpha")), Accepted)
    await trio.sleep(RETENTION_MS / 1000 + 1000)
    for instance in (primary, worker):
        assert snapshot(instance).documents["alpha"].ended
        assert snapshot(instance).compaction.history[-1].waiting_for == ("dev-03",)
    await nursery.start(sleeper.run)
    await trio.sleep(1000)
    for instance in world.instances:
        assert not snapshot(instance).documents
        assert len(instance.told("project:created")) == len(instance.told("project:deleted")) == 1
        assert not (await instance.store.load()).documents
        assert instance.workspace.text("alpha") is None
