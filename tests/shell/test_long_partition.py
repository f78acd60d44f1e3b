"""Days apart and clocks that are wrong, in virtual time: nothing is lost, and both sides end up equal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
import trio
from trio.testing import MockClock

from meshd.core.documents import Conflict
from meshd.core.effects import Accepted
from meshd.core.inputs import Command, DeleteProject, PatchProject, PutProject
from meshd.core.replication import WINDOW
from meshd.model import JsonObject
from tests.shell.world import Instance, World, until

DAY_S = 86_400
HOUR_MS = 3_600_000
CHANGES = 2 * WINDOW + 1000  # more than has left the queue when the exchange comes round


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    world = World(3, workspace_poll_s=3600)  # a day of looking at files would take most of the test's time
    for instance in world.instances:
        await nursery.start(instance.run)
    await until(world.all_see_all, 10)
    return world


async def are_equal(world: World) -> bool:
    await trio.lowlevel.checkpoint()
    snapshots = [instance.driver.snapshot() for instance in world.instances if instance.driver]
    return len({snapshot.root for snapshot in snapshots}) == 1 and not any(one.queued_changes for one in snapshots)


def conflicts_of(instance: Instance) -> tuple[Conflict, ...]:
    assert instance.driver is not None
    return instance.driver.snapshot().conflicts


def ids(conflicts: Iterable[Conflict]) -> set[str]:
    return {conflict.id for conflict in conflicts}


async def edit(instance: Instance, command: Command) -> None:
    outcome = await instance.submit(command)
    assert isinstance(outcome, Accepted), outcome


async def write_all_day(instance: Instance, per_hour: int) -> JsonObject:
    """Edits of a shared document, of the instance's own one, and documents that come and go; returns the own one."""
    own = f"of-{instance.name}"
    await edit(instance, PutProject(0, own, {"title": own}))
    for number in range(24 * per_hour):
        await edit(
            instance, PatchProject(0, "shared", {"goal": f"{instance.name} {number}", f"{own}-{number}": number})
        )
        await edit(instance, PatchProject(0, own, {f"key-{number}": number}))
        if number % per_hour == 0:
            await edit(instance, PutProject(0, f"{own}-{number}", {"title": "for an hour"}))
        if number % per_hour == per_hour - 1:
            await edit(instance, DeleteProject(0, f"{own}-{number - per_hour + 1}"))
        await trio.sleep(3600 / per_hour)
    return {"slug": own, "title": own} | {f"key-{number}": number for number in range(24 * per_hour)}


async def test_a_day_apart_ends_in_one_exchange(world: World, autojump_clock: MockClock) -> None:
    primary, worker, _ = world.instances
    await worker.put("shared", {"title": "Shared"})
    await worker.put("doomed", {"title": "Deleted by one side, edited by the other"})
    await until(lambda: are_equal(world), 5)
    world.cut_off(worker)
    owned: dict[str, JsonObject] = {}

    async def write(instance: Instance) -> None:
        owned[f"of-{instance.name}"] = await write_all_day(instance, per_hour=4)

    async with trio.open_nursery() as sides:
        for instance in world.instances:
            sides.start_soon(write, instance)
    await edit(primary, DeleteProject(0, "doomed"))
    await edit(worker, PatchProject(0, "doomed", {"goal": "too late"}))
    assert worker.driver is not None
    assert worker.driver.snapshot().queued_changes > 200

    before = {instance.name: Counter(instance.sent) for instance in world.instances}
    world.reunite(worker)
    await until(lambda: are_equal(world), 10)
    frames = {instance.name: instance.sent - before[instance.name] for instance in world.instances}
    # One exchange: the worker's digests, the documents that differ, the primary's digests.
    assert (frames["dev-02"]["digest"], frames["dev-01"]["digest"], frames["dev-03"]["digest"]) == (1, 1, 0)
    assert frames["dev-01"]["documents"] == 1
    assert frames["dev-02"]["documents"] == 0  # its queue had brought everything
    assert frames["dev-02"]["changes"] == 1
    assert frames["dev-01"]["ack"] == 1

    assert worker.document("doomed") is None
    for instance in world.instances:
        assert {slug: instance.document(slug) for slug in owned} == owned
        shared = instance.document("shared")
        assert shared is not None
        assert shared["goal"] in [f"{one.name} 95" for one in world.instances]
        assert shared.keys() >= {f"of-{one.name}-{number}" for one in world.instances for number in range(96)}
    lost = conflicts_of(primary)
    assert {("shared", "goal"), ("doomed", "goal")} == {(one.slug, one.path) for one in lost}
    assert ids(lost) == ids(conflicts_of(worker)) == ids(conflicts_of(world.instances[2]))
    (recovered,) = worker.told("sync:partition-recovered")
    duration_ms = recovered.payload["partitionDurationMs"]
    assert isinstance(duration_ms, int)
    assert DAY_S * 1000 <= duration_ms <= (DAY_S + 60) * 1000

    # And nothing follows: heartbeats with equal roots start no second one.
    before = {instance.name: Counter(instance.sent) for instance in world.instances}
    await trio.sleep(600)
    for instance in world.instances:
        assert not (instance.sent - before[instance.name]).keys() & {"digest", "documents", "changes"}


async def test_a_long_queue_is_judged_to_its_end(world: World, autojump_clock: MockClock) -> None:
    """The exchange must not overtake the queue: a whole document overwrites without telling what it overwrote."""
    primary, worker, _ = world.instances
    await worker.put("alpha", {"goal": "none", "color": "#000000"})
    await until(lambda: are_equal(world), 5)
    world.cut_off(worker)
    await trio.sleep(1)
    await edit(primary, PatchProject(0, "alpha", {"color": "#111111"}))
    for number in range(CHANGES):
        await edit(worker, PatchProject(0, "alpha", {"goal": number}))
    await edit(worker, PatchProject(0, "alpha", {"color": "#222222"}))
    world.reunite(worker)
    await until(lambda: are_equal(world), 30)
    assert primary.document("alpha") == {"slug": "alpha", "goal": CHANGES - 1, "color": "#222222"}
    for instance in world.instances:
        (lost,) = conflicts_of(instance)
        assert (lost.path, lost.value) == ("color", "#111111")


async def test_a_clock_that_jumps_back_an_hour(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Later edits go on winning while the link stands; a new link is refused until the clock is set right."""
    primary, worker, other = world.instances
    await worker.put("alpha", {"goal": "first"})
    await until(lambda: are_equal(world), 5)
    worker.clock_shift_ms = -HOUR_MS
    await edit(worker, PatchProject(0, "alpha", {"goal": "second"}))
    await until(lambda: are_equal(world), 5)
    assert other.document("alpha") == {"slug": "alpha", "goal": "second"}
    await trio.sleep(600)
    assert await world.all_see_all()
    assert not primary.told("sync:peer-unreachable")
    assert not worker.told("sync:peer-unreachable")

    world.cut_off(worker)
    await trio.sleep(1)
    await edit(worker, PatchProject(0, "alpha", {"goal": "third", "color": "#123456"}))
    world.reunite(worker)
    await trio.sleep(60)
    assert primary.document("alpha") == {"slug": "alpha", "goal": "second"}
    assert_refused(caplog, HOUR_MS)
    worker.clock_shift_ms = 0
    await until(lambda: are_equal(world), 30)
    assert other.document("alpha") == {"slug": "alpha", "goal": "third", "color": "#123456"}


async def test_a_clock_ten_minutes_ahead(
    nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It would win every conflict: it is told why it may not join, keeps what it is given, and joins when set right."""
    world = World(3)
    primary, worker, other = world.instances
    worker.clock_shift_ms = 600_000
    for instance in world.instances:
        await nursery.start(instance.run)
    await trio.sleep(300)
    assert_refused(caplog, 600_000)
    assert "dev-02" not in primary.sees()
    assert other.sees().keys() == {"dev-01"}
    assert worker.driver is not None
    assert worker.driver.snapshot().partition_since_ms is not None

    await edit(worker, PutProject(0, "alpha", {"title": "Alpha"}))
    await edit(primary, PutProject(0, "beta", {"title": "Beta"}))
    assert worker.driver.snapshot().queued_changes == 1
    worker.clock_shift_ms = 0
    await until(lambda: are_equal(world), 30)
    assert await world.all_see_all()
    # Its stamps are still ahead; whoever has seen them writes later ones.
    await edit(other, PatchProject(0, "alpha", {"title": "Alpha of another"}))
    await until(lambda: are_equal(world), 5)
    assert worker.document("alpha") == {"slug": "alpha", "title": "Alpha of another"}


def assert_refused(caplog: pytest.LogCaptureFixture, skew_ms: int) -> None:
    """The primary and the worker each say, once at this level, whom they refused and what to do."""
    texts = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    why = f"our clocks differ by {skew_ms} ms, more than 300000 ms: set them right"
    for name in ("dev-01", "dev-02"):
        said = [text for text in texts if text.startswith(f"refused {name} from ")]
        assert said
        assert all(text.endswith(f": {why}") for text in said)
    assert len(texts) < 10  # although it goes on trying
