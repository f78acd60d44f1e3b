"""The engine around a real node: what it performs, in which order, and what it holds back until the disk has it."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from meshd import wire
from meshd.configuration import Configuration, Hivemind, Protolab
from meshd.core.documents import Document
from meshd.core.effects import (
    Accepted,
    Alarm,
    Effect,
    Emit,
    ExtendWork,
    Persist,
    Rejected,
    Reply,
    SaveFeature,
    StartWork,
    StopWork,
    WriteFeature,
)
from meshd.core.feature import Feature, FeatureStatus
from meshd.core.inputs import (
    AcknowledgeCompaction,
    AlarmDue,
    DialFailed,
    DrainRequested,
    Input,
    LatencyMeasured,
    LeadershipCommand,
    LinkUp,
    PromoteInstance,
    PutProject,
    Received,
    SetDraining,
    Started,
    StepDown,
)
from meshd.core.messages import Changes, Goodbye, Identity, UtcMs
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.core.stored import Stored
from meshd.driver import BATCH, FILES_EVERY_S, INBOX, LOOK_AGAIN_S, OUTCOMES, Driver
from meshd.errors import StoreError
from meshd.model import Json, JsonObject, Now, Role
from meshd.store import Entry, MemoryStore, SaveSeen
from meshd.workspace import Edited, MemoryWorkspace
from tests.agents import feature
from tests.core.mesh import leading

HERE, PRIMARY = "ws://here:4444", "ws://primary:4444"
EPOCH_MS = 1_800_000_000_000
FEATURE = feature()


def configuration(role: Role = Role.PRIMARY) -> Configuration:
    return Configuration(
        repo_root=Path("/here"),
        protolab=Protolab(enabled=True, role=role, instance_id="here", instance_url=HERE),
        hivemind=Hivemind(enabled=True, peers=(HERE, PRIMARY)),
    )


@define(eq=False)
class Told:
    """Everything that leaves the engine, in order: commits, frames, dials, ends of links, work, events, files."""

    lines: list[str] = field(factory=list)
    frames: list[tuple[int, bytes]] = field(factory=list)

    def send(self, links: Sequence[int], frame: bytes) -> None:
        message = wire.decode(frame.decode())
        self.lines.append(f"send {type(message).__name__} to {', '.join(map(str, links))}")
        self.frames += [(link, frame) for link in links]

    def dial(self, url: str, delay_s: float) -> None:
        self.lines.append(f"dial {url} within {delay_s:g} s")

    def hang_up(self, link: int, code: int, reason: str) -> None:
        self.lines.append(f"hang up {link} with {code} {reason}")

    def start(self, feature: Feature, until_s: float) -> None:
        self.lines.append(f"start {feature.claim} until {until_s:g} s")

    def extend(self, claim: str, until_s: float) -> None:
        self.lines.append(f"extend {claim} until {until_s:g} s")

    def stop(self, claim: str, reason: str) -> None:
        self.lines.append(f"stop {claim}: {reason}")

    def emit(self, event: Emit) -> None:
        self.lines.append(f"emit {event.type}")

    def count(self, line: str) -> int:
        return self.lines.count(line)


class Disk(MemoryStore):
    """A store that says when a commit is done, and can be made to refuse them."""

    def __init__(self, told: Told, stored: Stored | None = None, commit_s: float = 0.0) -> None:
        super().__init__(stored, commit_s)
        self.told = told
        self.commits: list[Sequence[Entry]] = []
        self.refuses = False

    async def commit(self, records: Sequence[Entry]) -> None:
        await super().commit(records)
        if self.refuses:
            raise StoreError("the disk is gone")
        self.commits.append(records)
        self.told.lines.append("commit")

    def seen(self) -> list[list[str]]:
        """The files that each commit names as they then stood."""
        return [[record.slug for record in records if isinstance(record, SaveSeen)] for records in self.commits]


class Files(MemoryWorkspace):
    """A workspace that says what it was asked to write, and may take its time.

    `torn` are the files that a power cut right after a write would leave behind their document, and unknown to the
    store: they would pass for an edit that takes the document's latest change back.
    """

    def __init__(self, told: Told, store: MemoryStore, write_s: float = 0.0) -> None:
        super().__init__("/here")
        self.told = told
        self.store = store
        self.write_s = write_s
        self.torn: list[str] = []

    async def write(self, documents: Iterable[Document]) -> Mapping[str, JsonObject | None]:
        asked = tuple(documents)
        await trio.sleep(self.write_s)
        written = await super().write(asked)
        self.told.lines += [f"write {document.slug}" for document in asked]
        stored = await self.store.load()
        self.torn += [
            slug for slug, found in written.items() if found not in (self._shown(stored, slug), stored.seen.get(slug))
        ]
        return written

    async def write_features(self, features: Iterable[Feature]) -> None:
        asked = tuple(features)
        await trio.sleep(self.write_s)
        await super().write_features(asked)
        self.told.lines += [f"write {feature.id} {feature.status}" for feature in asked]

    def _shown(self, stored: Stored, slug: str) -> JsonObject | None:
        document = stored.documents[slug]
        return None if document.ended else document.json("/here")


@define(eq=False)
class Engine:
    """A driver that runs, and what surrounds it."""

    told: Told
    store: Disk
    files: Files
    driver: Driver

    async def put(self, slug: str, document: Mapping[str, Json]) -> Accepted | Rejected:
        return await self.driver.submit(PutProject(0, slug, dict(document)))

    def has(self, slug: str) -> bool:
        return slug in self.driver.snapshot().documents


def make(role: Role = Role.PRIMARY, *, commit_s: float = 0.0, write_s: float = 0.0, node: Node | None = None) -> Engine:
    told = Told()
    store = Disk(told, commit_s=commit_s)
    files = Files(told, store, write_s)
    node = node or Node(configuration(role), Birth("boot", "1.0"), Stored("store"))
    if role is Role.PRIMARY:
        leading(node, clock())
    driver = Driver(node, store, files, clock, told.emit)
    driver.connect(told, told)
    return Engine(told, store, files, driver)


def clock() -> Now:
    return Now(trio.current_time(), EPOCH_MS + round(trio.current_time() * 1000))


@asynccontextmanager
async def engine(role: Role = Role.PRIMARY, *, commit_s: float = 0.0, write_s: float = 0.0) -> AsyncIterator[Engine]:
    """An engine that runs for the block."""
    made = make(role, commit_s=commit_s, write_s=write_s)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.driver.run)
        yield made
        nursery.cancel_scope.cancel()
    assert made.files.torn == []


def worker_identity(link: int, name: str) -> Received:
    return Received(link, Identity(name, UtcMs(EPOCH_MS), protocol=1, min_protocol=1, boot=f"boot of {name}"))


# Persist, then send


async def test_an_answer_comes_when_the_change_is_on_disk(autojump_clock: MockClock) -> None:
    async with engine(commit_s=1) as run:
        begun_s = trio.current_time()
        outcome = await run.put("alpha", {"title": "Alpha"})
        assert trio.current_time() - begun_s == 1
        assert outcome == Accepted(run.driver.snapshot().documents["alpha"].digest, created=True)
        assert "alpha" in (await run.store.load()).documents
        assert isinstance(await run.put("..", {}), Rejected)


async def test_everything_waits_for_its_commit_in_order(autojump_clock: MockClock) -> None:
    """Also what a later step asks for that persists nothing itself."""
    async with engine(commit_s=1) as run, trio.open_nursery() as nursery:
        await run.driver.put(LinkUp(1, "ws://worker:4444"))
        await run.driver.put(worker_identity(1, "worker"))
        await trio.sleep(5)
        run.told.lines.clear()
        nursery.start_soon(run.put, "alpha", {"title": "Alpha"})
        await wait_all_tasks_blocked()
        await run.driver.put(LinkUp(2, "ws://other:4444"))
        await wait_all_tasks_blocked()
        assert run.told.lines == []
        await trio.sleep(3)
    assert run.told.lines == [
        "commit",
        "send Changes to 1",
        "emit project:created",
        "write alpha",
        "send Identity to 2",
    ]


async def test_steps_go_on_while_a_commit_runs(autojump_clock: MockClock) -> None:
    async with engine(commit_s=10) as run, trio.open_nursery() as nursery:
        for slug in ("alpha", "beta", "gamma"):
            nursery.start_soon(run.put, slug, {})
        await wait_all_tasks_blocked()
        assert all(map(run.has, ("alpha", "beta", "gamma")))
        assert not (await run.store.load()).documents
        nursery.cancel_scope.cancel()


async def test_what_arrives_during_a_commit_goes_into_the_next(autojump_clock: MockClock) -> None:
    async with engine(commit_s=1) as run:
        begun_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(run.put, f"project-{number}", {})
        assert trio.current_time() - begun_s <= 3
        assert len(run.store.commits) <= 3
        assert len((await run.store.load()).documents) == 200


async def test_what_needs_no_disk_asks_for_no_commit(autojump_clock: MockClock) -> None:
    async with engine(commit_s=60) as run:
        await run.driver.carry_out(LinkUp(1, "ws://worker:4444"))
        assert run.told.lines == ["send Identity to 1"]
        await run.driver.show(())
        assert run.store.commits == []


async def test_a_disk_that_refuses_ends_the_engine_and_nobody_was_told(autojump_clock: MockClock) -> None:
    run = make()
    answers: list[Accepted | Rejected] = []

    async def ask(nursery: trio.Nursery) -> None:
        await run.driver.put(LinkUp(1, "ws://worker:4444"))
        await run.driver.put(worker_identity(1, "worker"))
        await wait_all_tasks_blocked()
        assert isinstance(await run.put("alpha", {}), Accepted)
        await wait_all_tasks_blocked()
        run.told.lines.clear()
        run.store.refuses = True
        answers.append(await run.put("beta", {}))

    with pytest.RaisesGroup(pytest.RaisesGroup(StoreError)):
        async with trio.open_nursery() as nursery:
            await nursery.start(run.driver.run)
            nursery.start_soon(ask, nursery)
    assert run.told.lines == []
    assert answers == []
    assert run.files.text("beta") is None


@settings(max_examples=50)
@given(
    commands=st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 5)), min_size=1, max_size=12),
    crash_s=st.floats(0, 6),
    commit_s=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_what_was_acknowledged_or_sent_survives_a_power_cut(
    commands: list[tuple[str, float]], crash_s: float, commit_s: float
) -> None:
    acknowledged: set[tuple[str, int]] = set()

    async def run() -> tuple[Stored, Told]:
        made = make(commit_s=commit_s)

        async def ask(number: int, slug: str, at_s: float) -> None:
            await trio.sleep(at_s)
            outcome = await made.put(slug, {f"key-{number}": number})
            assert isinstance(outcome, Accepted)
            acknowledged.add((slug, number))

        with trio.move_on_after(crash_s):
            async with trio.open_nursery() as nursery:
                await nursery.start(made.driver.run)
                await made.driver.put(LinkUp(1, "ws://worker:4444"))
                await made.driver.put(worker_identity(1, "worker"))
                for number, (slug, at_s) in enumerate(commands):
                    nursery.start_soon(ask, number, slug, at_s)
        made.store.crash()
        return await made.store.load(), made.told

    stored, told = trio.run(run, clock=MockClock(autojump_threshold=0))
    for slug, number in acknowledged:
        assert f"key-{number}" in stored.documents[slug].registers
    for _, frame in told.frames:
        message = wire.decode(frame.decode())
        for change in message.changes if isinstance(message, Changes) else ():
            assert change.fields.keys() <= stored.documents[change.slug].registers.keys()
            assert change.seq <= stored.seqs["here.store"]


# Who asked


async def test_a_caller_that_went_away_confuses_nobody(autojump_clock: MockClock) -> None:
    async with engine(commit_s=5) as run:
        with trio.move_on_after(1) as gone:
            await run.put("alpha", {"title": "of one who left"})
        assert gone.cancelled_caught
        answer = await run.put("beta", {})
        assert answer == Accepted(run.driver.snapshot().documents["beta"].digest, created=True)
        assert run.has("alpha"), "the command takes effect all the same"
        assert "alpha" in (await run.store.load()).documents


async def test_each_caller_gets_its_own_answer(autojump_clock: MockClock) -> None:
    answers: dict[str, Accepted | Rejected] = {}

    async def ask(slug: str) -> None:
        answers[slug] = await run.put(slug, {})

    async with engine(commit_s=1) as run:
        async with trio.open_nursery() as nursery:
            for slug in ("alpha", "..", "beta", ".hidden"):
                nursery.start_soon(ask, slug)
        documents = run.driver.snapshot().documents
    assert isinstance(answers[".."], Rejected)
    assert isinstance(answers[".hidden"], Rejected)
    for slug in ("alpha", "beta"):
        assert answers[slug] == Accepted(documents[slug].digest, created=True)


async def test_carried_out_means_performed(autojump_clock: MockClock) -> None:
    async with engine() as run:
        await run.driver.put(LinkUp(1, "ws://worker:4444"))
        await run.driver.put(worker_identity(1, "worker"))
        await run.driver.carry_out(DrainRequested("maintenance"))
        assert run.told.lines[-2:] == ["send Goodbye to 1", "hang up 1 with 1001 draining"]
        assert wire.decode(run.told.frames[-1][1].decode()) == Goodbye(
            "here", UtcMs(clock().utc_ms), reason="maintenance", boot="boot"
        )
        with trio.fail_after(1):
            await run.driver.carry_out(LatencyMeasured(7, 1.0))  # asks for nothing at all


# Bounds


async def test_a_disk_that_hangs_makes_everybody_wait(autojump_clock: MockClock) -> None:
    handed_in: list[int] = []

    async def flood() -> None:
        for number in range(10 * INBOX):
            await run.driver.put(DialFailed(f"ws://peer-{number}:4444", "connection refused"))
            handed_in.append(number)

    async with engine(commit_s=3600) as run, trio.open_nursery() as nursery:
        nursery.start_soon(run.put, "alpha", {})
        await wait_all_tasks_blocked()
        nursery.start_soon(flood)
        await trio.sleep(60)
        assert INBOX <= len(handed_in) <= INBOX + OUTCOMES + BATCH + 2
        await trio.sleep(3600)
        assert len(handed_in) == 10 * INBOX


# Alarms


class Alarmed(Node):
    """A node that sets an alarm, at the second that a failed dial's `reason` holds, and remembers when it was due."""

    def __init__(self) -> None:
        super().__init__(configuration(), Birth("boot", "1.0"), Stored("store"))
        self.due_s: list[float] = []

    def step(self, happened: Input, now: Now) -> list[Effect]:
        match happened:
            case DialFailed(reason=at_s):
                return [Alarm(float(at_s))]
            case AlarmDue():
                self.due_s.append(now.mono_s)
        return super().step(happened, now)


@define(eq=False)
class Bell:
    """A driver that sounds alarms; its clock is trio's and the time that the host `slept`."""

    node: Alarmed = field(factory=Alarmed)
    slept_s: float = 0.0
    looks: int = 0
    driver: Driver = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.driver = Driver(self.node, MemoryStore(), MemoryWorkspace("/here"), self.clock, print)
        self.driver.connect(Told(), Told())

    def clock(self) -> Now:
        self.looks += 1
        return Now(trio.current_time() + self.slept_s, EPOCH_MS)

    async def set(self, at_s: float) -> None:
        await self.driver.carry_out(DialFailed("", str(at_s)))

    async def due_s(self, after_s: float) -> list[float]:
        """When alarms were due, once trio's time has passed by `after_s`."""
        await trio.sleep(after_s)
        return self.node.due_s


@asynccontextmanager
async def bell() -> AsyncIterator[Bell]:
    made = Bell()
    async with trio.open_nursery() as nursery:
        await nursery.start(made.driver.run)
        nursery.start_soon(made.driver.sound_alarms)
        yield made
        nursery.cancel_scope.cancel()


async def test_an_alarm_is_due_once_at_its_time(autojump_clock: MockClock) -> None:
    async with bell() as run:
        await run.set(1234.5)
        assert await run.due_s(5000) == [1234.5]
        await run.set(6000.1)
        assert await run.due_s(5000) == [1234.5, 6000.1]


async def test_an_alarm_of_the_past_is_due_at_once(autojump_clock: MockClock) -> None:
    async with bell() as run:
        await trio.sleep(100)
        await run.set(-5.0)
        assert await run.due_s(0.1) == [100]


@pytest.mark.parametrize("second_s", [3.0, 300.0])
async def test_a_later_alarm_replaces_the_earlier_one(autojump_clock: MockClock, second_s: float) -> None:
    async with bell() as run:
        await run.set(30.0)
        await trio.sleep(1)
        await run.set(second_s)
        assert await run.due_s(1000) == [second_s]


async def test_after_a_sleep_of_the_host_an_alarm_is_late_by_seconds(autojump_clock: MockClock) -> None:
    async with bell() as run:
        await run.set(3600.0)
        await trio.sleep(15)
        run.slept_s = 7200.0
        (due_s,) = await run.due_s(3600)
        assert 7215 < due_s <= 7215 + LOOK_AGAIN_S


async def test_without_an_alarm_nothing_looks_at_the_clock(autojump_clock: MockClock) -> None:
    async with bell() as run:
        await run.set(20.0)
        await trio.sleep(30)
        before = run.looks
        await trio.sleep(36_000)
        assert run.looks == before


async def test_an_alarm_that_was_set_before_anybody_listens_is_not_lost(autojump_clock: MockClock) -> None:
    run = Bell()
    async with trio.open_nursery() as nursery:
        await nursery.start(run.driver.run)
        await run.set(5.0)
        await trio.sleep(50)
        nursery.start_soon(run.driver.sound_alarms)
        assert await run.due_s(1) == [50]
        nursery.cancel_scope.cancel()


# Leadership


class Obedient(Node):
    """A node that does what a person wants of its leadership."""

    def step(self, happened: Input, now: Now) -> list[Effect]:
        match happened:
            case PromoteInstance(command, instance_id):
                return [Reply(command, Accepted(f"promoted {instance_id}"))]
            case StepDown(command):
                return [Reply(command, Accepted("stepped down"))]
            case SetDraining(command):
                return [Reply(command, Accepted("draining"))]
        return super().step(happened, now)


@pytest.mark.parametrize(
    ("command", "revision"),
    [
        (PromoteInstance(0, "dev-02"), "promoted dev-02"),
        (StepDown(0), "stepped down"),
        (SetDraining(0, is_draining=True), "draining"),
    ],
)
async def test_a_full_disk_refuses_edits_and_neither_a_change_of_leadership_nor_a_drain(
    autojump_clock: MockClock, command: LeadershipCommand | SetDraining, revision: str
) -> None:
    store = MemoryStore()
    store.free_bytes = 0
    node = Obedient(configuration(), Birth("boot", "1.0"), Stored("store"))
    driver = Driver(node, store, MemoryWorkspace("/here"), clock, print)
    driver.connect(Told(), Told())
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        assert await driver.submit(command) == Accepted(revision)
        for edit in (PutProject(0, "alpha", {}), AcknowledgeCompaction(0)):
            refused = await driver.submit(edit)
            assert isinstance(refused, Rejected)
            assert refused.code == "disk-full"
        nursery.cancel_scope.cancel()


# Files


async def test_a_file_follows_its_commit_and_is_remembered_with_the_next(autojump_clock: MockClock) -> None:
    """Or when files are shown, once a second: an edit made after a power cut is compared with what stood there."""
    async with engine(commit_s=1) as run:
        for title in ("one", "two"):
            await run.put("alpha", {"title": title})
            await wait_all_tasks_blocked()
        assert run.told.lines == [
            *("commit", "emit project:created", "write alpha"),
            *("commit", "emit project:updated", "write alpha"),
        ]
        assert run.store.seen() == [[], ["alpha"]]
        assert (await run.store.load()).seen["alpha"]["title"] == "one"
        assert '"two"' in (run.files.text("alpha") or "")
        await run.driver.show(())
        assert (await run.store.load()).seen["alpha"]["title"] == "two"
        await run.driver.show(())
        assert run.store.seen() == [[], ["alpha"], ["alpha"]]


async def test_many_changes_of_a_document_are_one_write(autojump_clock: MockClock) -> None:
    async with engine(commit_s=1) as run:
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(run.put, "alpha", {f"key-{number}": number})
                nursery.start_soon(run.put, "beta", {f"key-{number}": number})
        await wait_all_tasks_blocked()
        assert run.told.count("write alpha") <= 3
        assert run.told.count("write beta") <= 3
        document = run.driver.snapshot().documents["alpha"]
        assert (await run.store.load()).documents["alpha"].digest == document.digest
        assert json.loads(run.files.text("alpha") or "") == document.json("/here")


async def test_files_hold_no_commit_up_while_changes_keep_coming(autojump_clock: MockClock) -> None:
    """They follow ten times a second; the last change is in its file without another one coming."""
    async with engine(commit_s=0.01, write_s=0.01) as run:
        for number in range(100):
            await run.put("alpha", {"title": f"{number}"})
        assert run.told.count("commit") >= 100
        assert 5 <= run.told.count("write alpha") <= 15
        await trio.sleep(FILES_EVERY_S)
        await wait_all_tasks_blocked()
        assert '"99"' in (run.files.text("alpha") or "")


async def test_a_file_that_takes_long_to_write_takes_no_more_of_the_time(autojump_clock: MockClock) -> None:
    """A document of thousands of phases: otherwise commits would wait for its file most of the time."""
    async with engine(commit_s=0.01, write_s=1) as run:
        begun_s = trio.current_time()
        for number in range(1000):
            await run.put("alpha", {"title": f"{number}"})
        assert trio.current_time() - begun_s < 10 + 2 * run.told.count("write alpha")
        assert run.told.count("write alpha") <= 3
        written = run.told.count("write alpha")
        await run.driver.catch_up()
        assert run.told.count("write alpha") == written
        await trio.sleep(20)
        assert '"999"' in (run.files.text("alpha") or "")


async def test_showing_waits_for_the_file_that_is_being_written(autojump_clock: MockClock) -> None:
    """It is what a daemon does last: otherwise an edit made afterwards is compared with an older file."""
    async with engine(write_s=2) as run:
        await run.put("alpha", {"title": "Alpha"})
        assert run.files.text("alpha") is None
        await run.driver.show(())
        assert '"Alpha"' in (run.files.text("alpha") or "")
        assert (await run.store.load()).seen["alpha"]["title"] == "Alpha"


async def test_no_document_is_on_disk_without_the_file_before_it(autojump_clock: MockClock) -> None:
    """A file that had to wait for an edit is written late, while commits go on."""
    async with engine() as run, trio.open_nursery() as nursery:
        await run.put("alpha", {"title": "one"})
        await wait_all_tasks_blocked()
        run.files.edit("alpha", '{"title": "by hand"}')
        (edit,) = await run.files.poll()
        assert isinstance(edit, Edited)
        await run.put("alpha", {"title": "two"})
        await wait_all_tasks_blocked()
        assert '"by hand"' in (run.files.text("alpha") or ""), "the file had to wait"
        run.files.absorbed(edit)
        run.files.write_s = 1
        nursery.start_soon(run.driver.show, ())
        await wait_all_tasks_blocked()
        await run.put("alpha", {"title": "three"})
        await trio.sleep(15)
        assert '"three"' in (run.files.text("alpha") or "")


# Work


@define(eq=False)
class Working(Node):
    """A node that answers a failed dial with the effects that its test has put under the `reason`."""

    answers: dict[str, list[Effect]] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        super().__init__(configuration(), Birth("boot", "1.0"), Stored("store"))

    def step(self, happened: Input, now: Now) -> list[Effect]:
        match happened:
            case DialFailed(reason=reason) if reason in self.answers:
                return self.answers[reason]
        return super().step(happened, now)


async def test_work_is_started_when_its_claim_is_on_disk(autojump_clock: MockClock) -> None:
    """And not a moment before; its feature.json follows."""
    working = evolve(FEATURE, status=FeatureStatus.IN_PROGRESS)
    answers: dict[str, list[Effect]] = {
        "granted": [StartWork(FEATURE, 1800), Persist(SaveFeature(FEATURE)), WriteFeature(FEATURE)],
        "renewed": [ExtendWork("boot-1", 1830)],
        "lost": [StopWork("boot-1", "reclaimed"), Persist(SaveFeature(working)), WriteFeature(working)],
    }
    run = make(Role.WORKER, commit_s=1, node=Working(answers))
    async with trio.open_nursery() as nursery:
        await nursery.start(run.driver.run)
        await run.driver.put(DialFailed("", "granted"))
        await wait_all_tasks_blocked()
        assert run.told.lines == []
        await trio.sleep(2)
        await run.driver.carry_out(DialFailed("", "renewed"))
        await run.driver.carry_out(DialFailed("", "lost"))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert run.told.lines == [
        *("commit", "start boot-1 until 1800 s", f"write {FEATURE.id} backlog"),
        "extend boot-1 until 1830 s",
        *("commit", "stop boot-1: reclaimed", f"write {FEATURE.id} in_progress"),
    ]


async def test_many_changes_of_a_feature_are_few_writes(autojump_clock: MockClock) -> None:
    """And they hold no commit up; what is shown at the end is the last."""
    last = evolve(FEATURE, status=FeatureStatus.DONE)
    answers: dict[str, list[Effect]] = {
        "begun": [Persist(SaveFeature(FEATURE)), WriteFeature(FEATURE)],
        "done": [Persist(SaveFeature(last)), WriteFeature(last)],
    }
    run = make(Role.WORKER, commit_s=0.01, write_s=0.005, node=Working(answers))
    async with trio.open_nursery() as nursery:
        await nursery.start(run.driver.run)
        for _ in range(100):
            await run.driver.carry_out(DialFailed("", "begun"))
        await run.driver.carry_out(DialFailed("", "done"))
        await trio.sleep(FILES_EVERY_S)
        await wait_all_tasks_blocked()
        assert run.told.count("commit") == 101
        assert 5 <= run.told.count(f"write {FEATURE.id} backlog") <= 15
        assert run.told.count(f"write {FEATURE.id} done") == 1
        await run.driver.show((), [FEATURE])
        assert run.told.lines[-1] == f"write {FEATURE.id} backlog"
        nursery.cancel_scope.cancel()


# Telling


async def test_dials_notes_and_hang_ups_are_passed_on(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "meshd")
    async with engine(Role.WORKER) as run:
        await run.driver.put(Started())
        await run.driver.put(DialFailed(PRIMARY, "connection refused"))
        await run.driver.put(LinkUp(1, "ws://stranger:4444"))
        await run.driver.carry_out(worker_identity(1, "here"))
        assert [line for line in run.told.lines if not line.startswith(("commit", "emit"))] == [
            f"dial {PRIMARY} within 0 s",
            f"dial {PRIMARY} within 0.5 s",
            "send Identity to 1",
            "send Refuse to 1",
            "hang up 1 with 4409 my instanceId is the same as yours: here",
        ]
    first = caplog.records[0]
    assert first.getMessage() == f"cannot reach {PRIMARY}: connection refused"
    assert (first.levelno, first.name) == (logging.WARNING, "meshd.mesh")
    assert getattr(first, "fields", None) == {"peer": PRIMARY}


async def test_nobody_is_told_what_is_meant_for_nobody(autojump_clock: MockClock) -> None:
    async with engine() as run:
        await run.put("alpha", {})
        assert not run.told.frames
        assert run.told.count("emit project:created") == 1
