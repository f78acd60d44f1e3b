"""Whole instances on links in memory, in virtual time: what the specification's runbook describes, at small scale."""

from __future__ import annotations

import time

import pytest
import trio
from trio.testing import MockClock

from meshd.core.effects import Accepted, Rejected
from meshd.model import Status
from meshd.store import MemoryStore
from meshd.store_file import RESERVE_BYTES
from meshd.workspace import MemoryWorkspace
from tests.shell.world import Instance, World, until


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    world = World(3)
    for instance in world.instances:
        await nursery.start(instance.run)
    await until(world.all_see_all, 10)
    return world


async def test_every_instance_sees_every_instance(world: World, autojump_clock: MockClock) -> None:
    for instance in world.instances:
        assert instance.driver is not None
        snapshot = instance.driver.snapshot()
        assert snapshot.connected
        assert snapshot.partition_since_ms is None
        assert len(snapshot.members) == 2


async def test_an_hour_of_peace_takes_no_time(world: World, autojump_clock: MockClock) -> None:
    started_s = time.process_time()
    begun_s = trio.current_time()
    await trio.sleep(3600)
    assert trio.current_time() - begun_s >= 3600
    assert await world.all_see_all()
    assert not [event for instance in world.instances for event in instance.told("sync:peer-unreachable")]
    # A ratio, not a time: a virtual hour costs a small part of a real minute, however slow the machine.
    assert (time.process_time() - started_s) / 3600 < 1 / 60


async def test_a_document_of_a_worker_reaches_all(world: World, autojump_clock: MockClock) -> None:
    _, worker, other = world.instances
    outcome = await worker.put("alpha", {"title": "Alpha", "milestones": []})
    assert isinstance(outcome, Accepted)
    assert outcome.created

    async def arrived() -> bool:
        await trio.lowlevel.checkpoint()
        return all(instance.document("alpha") == worker.document("alpha") for instance in world.instances)

    await until(arrived, 1)
    assert other.workspace.text("alpha") is not None
    assert [len(instance.told("project:created")) for instance in world.instances] == [1, 1, 1]


async def test_an_edit_by_hand_reaches_all(world: World, autojump_clock: MockClock) -> None:
    primary, worker, other = world.instances
    await worker.put("alpha", {"title": "Alpha"})
    await trio.sleep(1)
    other.workspace.edit("alpha", '{"slug": "alpha", "title": "By hand"}')
    await trio.sleep(10)
    for instance in (primary, worker, other):
        assert instance.document("alpha") == {"slug": "alpha", "title": "By hand"}


async def test_a_crash_is_noticed_after_the_ttl_and_not_before(world: World, autojump_clock: MockClock) -> None:
    primary, worker, other = world.instances
    other.crash()
    await trio.sleep(100)
    assert primary.sees()["dev-03"] is Status.SUSPECT
    assert worker.sees()["dev-03"] is Status.SUSPECT

    async def failed() -> bool:
        await trio.lowlevel.checkpoint()
        return primary.sees()["dev-03"] is worker.sees()["dev-03"] is Status.FAILED

    await until(failed, 61)
    assert len(primary.told("sync:peer-unreachable")) == 1
    assert len(worker.told("sync:peer-unreachable")) == 1


async def test_drain_is_seen_at_once(world: World, autojump_clock: MockClock) -> None:
    primary, worker, other = world.instances
    other.drain.request("maintenance")

    async def left() -> bool:
        await trio.lowlevel.checkpoint()
        return primary.sees()["dev-03"] is worker.sees()["dev-03"] is Status.LEFT

    assert await until(left, 1) < 0.2
    assert not primary.told("sync:peer-unreachable")


async def test_a_partition_heals_and_both_sides_are_equal(world: World, autojump_clock: MockClock) -> None:
    primary, worker, _ = world.instances
    await worker.put("alpha", {"title": "Alpha", "goal": "none"})
    await trio.sleep(1)
    world.cut_off(worker)
    await trio.sleep(1)
    assert worker.driver is not None
    assert worker.driver.snapshot().partition_since_ms is not None
    await worker.put("alpha", {"title": "Alpha of the worker", "goal": "none"})
    await worker.put("beta", {"title": "Beta"})
    await primary.put("alpha", {"title": "Alpha", "goal": "of the primary"})
    await primary.put("gamma", {"title": "Gamma"})
    assert worker.driver.snapshot().queued_changes == 2
    await trio.sleep(3600)
    world.reunite(worker)

    async def equal() -> bool:
        await trio.lowlevel.checkpoint()
        roots = {instance.driver.snapshot().root for instance in world.instances if instance.driver}
        return len(roots) == 1 and await world.all_see_all()

    await until(equal, 30)
    merged = {"slug": "alpha", "title": "Alpha of the worker", "goal": "of the primary"}
    for instance in world.instances:
        assert instance.document("alpha") == merged
        assert instance.document("beta")
        assert instance.document("gamma")
    assert worker.driver.snapshot().queued_changes == 0
    (recovered,) = worker.told("sync:partition-recovered")
    assert recovered.payload["replayed"] == 2
    assert recovered.payload["instanceId"] == "dev-02"


async def test_a_crashed_worker_replays_its_queue(
    world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    primary, worker, _ = world.instances
    world.cut_off(worker)
    await trio.sleep(1)
    await worker.put("alpha", {"title": "Alpha"})
    worker.crash()
    await trio.sleep(1)
    world.reunite(worker)
    await nursery.start(worker.run)

    async def arrived() -> bool:
        await trio.lowlevel.checkpoint()
        return primary.document("alpha") is not None

    await until(arrived, 10)


async def test_a_half_open_link_is_noticed_and_replaced(world: World, autojump_clock: MockClock) -> None:
    """Scenario (i): a link that swallows writes without a sign."""
    primary, worker, _ = world.instances
    world.network.half_open(primary.url, worker.url)
    await worker.put("alpha", {"title": "Alpha"})

    async def arrived() -> bool:
        await trio.lowlevel.checkpoint()
        return primary.document("alpha") is not None and await world.all_see_all()

    assert await until(arrived, 120) < 60


async def test_instances_start_in_any_order(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    world = World(3)
    for instance in reversed(world.instances):
        await nursery.start(instance.run)
        await trio.sleep(20)
    await until(world.all_see_all, 30)


async def test_an_old_file_does_not_beat_the_mesh(
    world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A lost database, and the files of yesterday still in the workspace: the instance refills from the mesh."""
    primary, worker, _ = world.instances
    await worker.put("alpha", {"title": "Alpha"})
    worker.crash()
    await primary.put("alpha", {"title": "Alpha of today"})
    worker.store = MemoryStore()
    worker.workspace = MemoryWorkspace()
    worker.workspace.edit("alpha", '{"slug": "alpha", "title": "Alpha"}')
    worker.workspace.edit("beta", '{"slug": "beta", "title": "Beta"}')
    await nursery.start(worker.run)
    await trio.sleep(30)
    for instance in world.instances:
        assert instance.document("alpha") == {"slug": "alpha", "title": "Alpha of today"}
        assert instance.document("beta") == {"slug": "beta", "title": "Beta"}
    assert worker.kept == [("alpha", {"slug": "alpha", "title": "Alpha"})]
    assert '"Alpha of today"' in (worker.workspace.text("alpha") or "")


async def test_without_a_primary_files_are_taken_after_the_ttl(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    worker = World(3).instances[1]
    worker.workspace.edit("alpha", '{"slug": "alpha", "title": "Alpha"}')
    await nursery.start(worker.run)
    await trio.sleep(60)
    assert worker.document("alpha") is None
    await trio.sleep(90)
    assert worker.document("alpha") is not None


async def test_without_room_own_commands_are_refused_and_peers_changes_are_not(
    world: World, autojump_clock: MockClock
) -> None:
    primary, worker, _ = world.instances
    await worker.put("site", {"title": "Site", "milestones": []})
    worker.store.free_bytes = RESERVE_BYTES - 1
    refused = await worker.put("site", {"title": "Refused", "milestones": []})
    assert isinstance(refused, Rejected)
    assert refused.code == "disk-full"
    assert refused.detail.startswith("the disk of dataDir has 15 MiB left, the last 16 MiB are kept for changes of")
    await primary.put("other", {"title": "Other", "milestones": []})

    async def arrived() -> bool:
        await trio.lowlevel.checkpoint()
        return worker.document("other") is not None

    await until(arrived, 2.0)
    assert (worker.document("site") or {})["title"] == "Site"
    worker.store.free_bytes = RESERVE_BYTES
    assert isinstance(await worker.put("site", {"title": "Taken", "milestones": []}), Accepted)


async def test_an_edit_by_hand_without_room_is_taken_once_there_is_some(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    worker = world.instances[1]
    await worker.put("site", {"title": "Site", "milestones": []})
    await trio.sleep(10)
    worker.store.free_bytes = 0
    text = worker.workspace.text("site")
    assert text is not None
    worker.workspace.edit("site", text.replace("Site", "By hand"))
    await trio.sleep(60)
    assert (worker.document("site") or {})["title"] == "Site"
    assert "By hand" in (worker.workspace.text("site") or "")
    assert caplog.text.count("the edit was not taken, it waits in the file: the disk of dataDir has 0 MiB left") == 1
    worker.store.free_bytes = RESERVE_BYTES
    for instance in world.instances:

        async def arrived(instance: Instance = instance) -> bool:
            await trio.lowlevel.checkpoint()
            return (instance.document("site") or {}).get("title") == "By hand"

        await until(arrived, 10.0)
