"""Edits by hand, round by round, over a real engine and files in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from meshd.agents import MemoryAgents
from meshd.configuration import Configuration, Hivemind, Protolab
from meshd.core.claim import Claim, ClaimStatus, register_value
from meshd.core.documents import Document, Register
from meshd.core.effects import Accepted
from meshd.core.frames import CHANGE_BYTES
from meshd.core.inputs import DeleteProject, LinkUp, PutProject, Received
from meshd.core.messages import Digest, Identity, UtcMs
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.core.stored import Stored
from meshd.driver import FILES_EVERY_S, Driver
from meshd.edits import Edits
from meshd.model import Json, JsonObject, Now, Role, Stamp
from meshd.project import claim_path, flatten
from meshd.runner import Runner
from meshd.store import MemoryStore
from meshd.workspace import Invalid, MemoryWorkspace, Report, Unwritable
from tests.shell.world import World, until

HERE, PRIMARY = "ws://here:4444", "ws://primary:4444"
EPOCH_MS = 1_800_000_000_000
WAIT_S = 120.0
FILE = "/here/.automaker/projects/alpha/project.json"


class Nowhere:
    """Links for an instance that has none."""

    def send(self, links: object, frame: bytes) -> None:
        pass

    def dial(self, url: str, delay_s: float) -> None:
        pass

    def hang_up(self, link: int, code: int, reason: str) -> None:
        pass


@define(eq=False)
class Desk:
    """An instance and a person at its files."""

    store: MemoryStore
    files: MemoryWorkspace
    driver: Driver
    kept: list[tuple[str, JsonObject]] = field(factory=list)
    while_keeping: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint
    edits: Edits = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.edits = Edits(self.files, self.driver, self.set_aside, WAIT_S)

    async def set_aside(self, slug: str, document: JsonObject) -> str:
        await self.while_keeping()
        self.kept.append((slug, document))
        return f"/aside/{slug}.json"

    async def put(self, slug: str, **fields: Json) -> None:
        """Somebody writes the document, here or elsewhere in the mesh; its file follows when it may."""
        assert isinstance(await self.driver.submit(PutProject(0, slug, fields)), Accepted)
        await trio.sleep(FILES_EVERY_S)
        await wait_all_tasks_blocked()

    def write(self, slug: str, **fields: Json) -> None:
        """The person saves the file."""
        self.files.edit(slug, json.dumps(fields))

    def document(self, slug: str) -> JsonObject | None:
        document = self.driver.snapshot().documents.get(slug)
        return document.json() if document and document.ended is None else None

    def file(self, slug: str) -> JsonObject | None:
        text = self.files.text(slug)
        return json.loads(text) if text else None


@asynccontextmanager
async def desk(
    role: Role | None = None, stored: Stored | None = None, before: MemoryWorkspace | None = None
) -> AsyncIterator[Desk]:
    """An instance that runs for the block: alone, or with a role in a mesh."""
    stored = stored or Stored("store")
    store = MemoryStore(stored)
    files = MemoryWorkspace("/here", stored.seen, before)
    protolab = Protolab(enabled=role is not None, role=role or Role.WORKER, instance_id="here", instance_url=HERE)
    hivemind = Hivemind(enabled=role is not None, peers=(HERE, PRIMARY))
    configuration = Configuration(protolab=protolab, hivemind=hivemind)
    node = Node(configuration, Birth("boot", "1.0"), stored)
    driver = Driver(node, store, files, clock, lambda _: None)
    driver.connect(Nowhere(), Runner(MemoryAgents(clock), driver.put))
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        await driver.show(driver.snapshot().documents.values())
        yield Desk(store, files, driver)
        await driver.show(())
        nursery.cancel_scope.cancel()


def clock() -> Now:
    return Now(trio.current_time(), EPOCH_MS + round(trio.current_time() * 1000))


# What becomes a change


async def test_an_edit_is_what_the_person_changed(autojump_clock: MockClock) -> None:
    """The mesh wrote other fields meanwhile: those stay."""
    async with desk() as at:
        await at.put("alpha", title="Alpha", goal="none", status="active")
        at.write("alpha", title="By hand", goal="none", owner="me")
        await at.put("alpha", title="Alpha", goal="of the mesh", status="active")
        await at.edits.take()
        expected: JsonObject = {"slug": "alpha", "title": "By hand", "goal": "of the mesh", "owner": "me"}
        assert at.document("alpha") == expected
        assert at.file("alpha") == expected, "the file has what the mesh wrote"
    assert (await at.store.load()).seen["alpha"] == expected


async def test_a_new_file_is_a_new_project(autojump_clock: MockClock) -> None:
    async with desk() as at:
        at.write("alpha", title="Alpha")
        await at.edits.take()
        assert at.document("alpha") == {"slug": "alpha", "title": "Alpha"}
    assert "alpha" in (await at.store.load()).documents


async def test_a_file_may_return_after_the_project_was_deleted(autojump_clock: MockClock) -> None:
    async with desk() as at:
        await at.put("alpha", title="Alpha")
        await at.driver.submit(DeleteProject(0, "alpha"))
        await wait_all_tasks_blocked()
        assert at.file("alpha") is None
        at.write("alpha", title="Alpha again")
        await at.edits.take()
        assert at.document("alpha") == {"slug": "alpha", "title": "Alpha again"}
        assert at.kept == []


async def test_what_was_taken_is_not_taken_again(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    async with desk() as at:
        await at.put("alpha", title="Alpha")
        at.write("alpha", title="By hand")
        await at.edits.take()
        await at.put("alpha", title="Of the mesh")
        for _ in range(3):
            await at.edits.take()
        assert at.document("alpha") == {"slug": "alpha", "title": "Of the mesh"}
        assert at.file("alpha") == {"slug": "alpha", "title": "Of the mesh"}
    assert not caplog.records


async def test_an_edit_made_while_nobody_ran_is_taken_at_the_start(autojump_clock: MockClock) -> None:
    async with desk() as at:
        await at.put("alpha", title="Alpha", goal="none")
    at.write("alpha", title="Made at night", goal="none")
    async with desk(stored=await at.store.load(), before=at.files) as again:
        await again.edits.take()
        assert again.document("alpha") == {"slug": "alpha", "title": "Made at night", "goal": "none"}


# What does not


async def test_what_a_person_writes_over_a_claim_is_written_over_again(autojump_clock: MockClock) -> None:
    life = Stamp(1, 0, "here")
    claim = Claim(1, "boot-1", "here", 0, ClaimStatus.CLAIMED, EPOCH_MS)
    flat = {
        **flatten({"milestones": [{"slug": "m", "phases": [{"name": "p"}]}]}),
        claim_path("m", "p"): register_value(claim),
    }
    document = Document("alpha", life, {path: Register(life, value) for path, value in flat.items()})
    async with desk(stored=Stored("store", documents={"alpha": document})) as at:
        await at.driver.show([document])
        shown = at.file("alpha")
        assert shown == at.document("alpha")
        at.files.edit("alpha", json.dumps(shown).replace('"claimed"', '"done"'))
        await at.edits.take()
        assert at.file("alpha") == at.document("alpha") == shown


async def test_what_is_no_project_is_reported_once_and_left_alone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk() as at:
        await at.put("alpha", title="Alpha")
        at.files.edit("alpha", '{"title": "half sa')
        for _ in range(4):
            await at.edits.take()
        await at.put("alpha", title="Of the mesh")
        assert at.files.text("alpha") == '{"title": "half sa'
        (record,) = caplog.records
        text = record.getMessage()
        assert text.startswith(f"{FILE}: not JSON")
        assert text.endswith(": the file is left alone and the document stays as it was, mend the file or delete it")
        assert getattr(record, "fields", None) == {"slug": "alpha"}
        at.write("alpha", title="Alpha", goal="whole again")
        await at.edits.take()
        assert at.document("alpha") == {"slug": "alpha", "title": "Of the mesh", "goal": "whole again"}


async def test_what_is_refused_stays_and_is_part_of_the_next_edit(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk() as at:
        await at.put("alpha", title="Alpha")
        at.write("alpha", title="By hand", text="x" * CHANGE_BYTES)
        for _ in range(3):
            await at.edits.take()
        assert at.document("alpha") == {"slug": "alpha", "title": "Alpha"}
        assert "By hand" in (at.files.text("alpha") or "")
        (record,) = caplog.records
        assert record.getMessage().startswith(f"{FILE}: the edit was not taken, it waits in the file: a change of more")
        assert getattr(record, "fields", None) == {"slug": "alpha"}
        at.write("alpha", title="By hand", text="short")
        await at.edits.take()
        assert at.document("alpha") == {"slug": "alpha", "title": "By hand", "text": "short"}


async def test_a_slip_does_not_take_all_milestones_away(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk() as at:
        await at.put("alpha", milestones=[{"slug": "m"}])
        at.write("alpha", milestones={"slug": "m"})
        for _ in range(3):
            await at.edits.take()
        assert at.document("alpha") == {"slug": "alpha", "milestones": [{"slug": "m"}]}
        (record,) = caplog.records
        assert record.getMessage().startswith(f"{FILE}: the edit was not taken, it waits in the file: milestones must")


async def test_a_document_that_came_in_a_wrong_shape_can_be_edited_all_the_same(autojump_clock: MockClock) -> None:
    async with desk() as at:
        await at.put("alpha", milestones="of a peer")
        at.write("alpha", milestones="of a peer", title="By hand")
        await at.edits.take()
        assert at.document("alpha") == {"slug": "alpha", "title": "By hand", "milestones": "of a peer"}


async def test_an_edit_does_not_raise_a_project_from_the_dead(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk() as at:
        await at.put("alpha", title="Alpha")
        at.write("alpha", title="By hand")
        await at.driver.submit(DeleteProject(0, "alpha"))
        for _ in range(3):
            await at.edits.take()
        assert at.document("alpha") is None
        assert at.file("alpha") == {"title": "By hand"}, "nothing that a person wrote is thrown away"
    assert len(caplog.records) == 1


class Broken(MemoryWorkspace):
    """Files on a disk that takes nothing."""

    async def poll(self) -> Sequence[Report]:
        return (Unwritable("alpha", "No space left on device"), Invalid("", "/here: Permission denied"))


async def test_what_the_disk_refuses_is_told_with_its_path_and_what_becomes_of_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk() as at:
        broken = Broken("/here")
        await Edits(broken, at.driver, at.set_aside, 0.0).take()
    assert [record.getMessage() for record in caplog.records] == [
        f"{FILE}: cannot be brought up to date: No space left on device: the document is safe, the file is tried again",
        "/here/.automaker/projects: cannot be read: /here: Permission denied: nobody's edits are seen before it can be",
    ]


async def test_a_file_that_was_deleted_is_written_again(autojump_clock: MockClock) -> None:
    async with desk() as at:
        await at.put("alpha", title="Alpha")
        at.files.edit("alpha", None)
        for _ in range(3):
            await at.edits.take()
        assert at.file("alpha") == {"slug": "alpha", "title": "Alpha"}


# What is set aside


async def test_a_strange_file_of_a_known_project_is_set_aside(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that meshd did not write may be of any age: the mesh's document stands, nothing is lost."""
    before = MemoryWorkspace()
    before.edit("alpha", '{"title": "of an old backup"}')
    async with desk(before=before) as at:
        await at.put("alpha", title="Alpha")
        for _ in range(3):
            await at.edits.take()
        assert at.kept == [("alpha", {"title": "of an old backup"})]
        assert at.document("alpha") == at.file("alpha") == {"slug": "alpha", "title": "Alpha"}
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{FILE}: meshd did not write this file, and the mesh has a project of this name, which stands: "
        "the file's content was set aside as /aside/alpha.json"
    )
    assert getattr(record, "fields", None) == {"slug": "alpha"}


async def test_the_file_gets_the_document_as_it_is_after_setting_aside(autojump_clock: MockClock) -> None:
    """Setting aside takes its time, and the mesh goes on meanwhile."""
    before = MemoryWorkspace()
    before.edit("alpha", '{"title": "of an old backup"}')
    async with desk(before=before) as at:
        await at.put("alpha", title="Alpha")

        async def go_on() -> None:
            await at.put("alpha", title="Alpha of today")

        at.while_keeping = go_on
        await at.edits.take()
        assert at.file("alpha") == {"slug": "alpha", "title": "Alpha of today"}


# When files have to wait


async def test_a_worker_with_an_empty_store_waits_for_its_primary(autojump_clock: MockClock) -> None:
    async with desk(Role.WORKER) as at:
        at.write("alpha", title="Alpha")
        await at.edits.take()
        assert at.document("alpha") is None
        identity = Identity(
            "primary", UtcMs(EPOCH_MS), protocol=1, min_protocol=1, boot="boot", sync_role=Role.PRIMARY, url=PRIMARY
        )
        await at.driver.put(LinkUp(1, PRIMARY, PRIMARY))
        await at.driver.carry_out(Received(1, identity))
        await at.edits.take()
        assert at.document("alpha") is None, "nothing was compared yet"
        await at.driver.carry_out(Received(1, Digest({}, answer=True)))
        await at.edits.take()
        assert at.document("alpha") == {"slug": "alpha", "title": "Alpha"}


async def test_it_does_not_wait_for_ever(autojump_clock: MockClock) -> None:
    async with desk(Role.WORKER) as at:
        at.write("alpha", title="Alpha")
        await trio.sleep(WAIT_S - 1)
        await at.edits.take()
        assert at.document("alpha") is None
        await trio.sleep(1)
        await at.edits.take()
        assert at.document("alpha") is not None


async def test_a_worker_that_remembers_does_not_wait(autojump_clock: MockClock) -> None:
    async with desk() as at:
        await at.put("beta", title="Beta")
    async with desk(Role.WORKER, stored=await at.store.load(), before=at.files) as worker:
        worker.write("alpha", title="Alpha")
        worker.write("beta", title="Beta by hand")
        await worker.edits.take()
        assert worker.document("alpha") == {"slug": "alpha", "title": "Alpha"}
        assert worker.document("beta") == {"slug": "beta", "title": "Beta by hand"}


async def test_old_files_of_a_primary_whose_database_was_lost_do_not_beat_the_mesh(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A new life begun from yesterday's file would take what was acknowledged today from everybody (I4)."""
    world = World(2)
    primary, worker = world.instances
    for instance in world.instances:
        await nursery.start(instance.run)
    await until(world.all_see_all, 10)
    await worker.put("alpha", {"title": "Alpha of yesterday"})
    await trio.sleep(5)
    primary.crash()
    await trio.sleep(5)
    assert isinstance(await worker.put("alpha", {"title": "Alpha of today"}), Accepted)
    primary.store = MemoryStore()
    primary.workspace = MemoryWorkspace(before=primary.workspace)
    await nursery.start(primary.run)
    await trio.sleep(300)
    for instance in world.instances:
        assert instance.document("alpha") == {"slug": "alpha", "title": "Alpha of today"}
