"""The engine: the only caller of `Node.step`, and the only place where its effects happen.

Rules (design, section 2, "The seam"):

- Inputs come through one bounded inbox, whoever brings them. Each is stepped by itself, in order, with the clock read
  once.
- Effects are performed in order, by one task. What many steps ask to persist goes into one commit (group commit), and
  only after it do their other effects happen: persist, then send. Steps go on while a commit runs.
- When only the disk's reserve is left, a command of this host is refused before it is stepped. What peers send goes
  on; when the disk has no room for that either, the process ends: nothing is acknowledged that is not on disk.
- One alarm is set at a time. It is due by the node's clock, which goes on while the host sleeps; trio's stands still.
- Workspace files follow last, one write for each document or feature, however often it changed meanwhile; while changes
  keep coming, ten times a second, and at most a tenth of the time. What then stands in a document's file is persisted
  with the next commit, so a later document is never on disk without it.

    put -> inbox -> step -> outcomes -> commit -> send, dial, hang up, start work, emit, note, reply -> workspace
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import NoReturn, Protocol

import trio
from attrs import evolve, frozen

from meshd import wire
from meshd.core import effects
from meshd.core.documents import Document
from meshd.core.effects import Accepted, Effect, Rejected
from meshd.core.feature import Feature
from meshd.core.inputs import AlarmDue, Input, LeadershipCommand, Request, SetCapacity, SetDraining
from meshd.core.node import Node
from meshd.core.snapshot import Snapshot
from meshd.model import Now
from meshd.store import SaveSeen, Store
from meshd.workspace import Workspace

INBOX = 256  # inputs waiting for their step: enough to ride out a commit; when full, links are read no further
OUTCOMES = 256  # steps waiting for a commit: bounds what one group commit has to hold
BATCH = 256  # steps in one group commit
LOOK_AGAIN_S = 10.0  # how late an alarm may be after the host slept
FILES_EVERY_S = 0.1  # commits wait while files are written: soon enough for eyes, and a small part of the time
FILES_PART = 0.1  # of the time, at most, where files take longer: thousands of phases take some 0.1 s

_log = logging.getLogger("meshd.mesh")


class Links(Protocol):
    """What the driver asks of the connections. None of these wait: a slow link costs itself, nobody else."""

    def send(self, links: Sequence[int], frame: bytes) -> None: ...
    def dial(self, url: str, delay_s: float) -> None: ...
    def hang_up(self, link: int, code: int, reason: str) -> None: ...


class Work(Protocol):
    """What the driver asks of the runner. None of these wait: the answer is an input."""

    def start(self, feature: Feature, until_s: float) -> None: ...
    def extend(self, claim: str, until_s: float) -> None: ...
    def stop(self, claim: str, reason: str) -> None: ...


@frozen
class _Entry:
    happened: Input
    done: trio.Event | None = None


@frozen
class _Outcome:
    """A step's effects; `done` is set when they were performed, `settled` when the files were written too.

    `is_urgent`: also those that are not due yet.
    """

    effects: list[Effect]
    done: trio.Event | None
    settled: trio.Event | None = None
    is_urgent: bool = False


class Driver:
    """Feeds one node and performs what it answers. `emit` hands events to local applications."""

    def __init__(
        self,
        node: Node,
        store: Store,
        workspace: Workspace,
        clock: Callable[[], Now],
        emit: Callable[[effects.Emit], None],
    ) -> None:
        self._node = node
        self._store = store
        self._workspace = workspace
        self._clock = clock
        self._emit = emit
        self._links: Links | None = None
        self._work: Work | None = None
        self._inbox, self._inputs = trio.open_memory_channel[_Entry](INBOX)
        self._outcomes, self._performed = trio.open_memory_channel[_Outcome](OUTCOMES)
        self._calls: dict[int, list[Accepted | Rejected]] = {}
        self._numbers = count(1)
        self._seen: list[SaveSeen] = []
        self._alarm_at_s = math.inf
        self._alarm_set = trio.Event()
        self._behind: dict[str, Document] = {}  # committed, and not in their files yet
        self._features_behind: dict[str, Feature] = {}
        self._files_due_s = -math.inf

    def connect(self, links: Links, work: Work) -> None:
        """Give the driver its links and its runner; before `run`."""
        self._links = links
        self._work = work

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Step and perform for ever. Raises `StoreError` when the disk refuses: what was asked for did not happen."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._step)
            nursery.start_soon(self._perform)
            task_status.started()
        raise AssertionError("the driver's tasks never return")

    async def put(self, happened: Input) -> None:
        """Hand in an input; waits while the inbox is full."""
        await self._inbox.send(_Entry(happened))

    async def carry_out(self, happened: Input) -> None:
        """Hand in an input and wait until its effects were performed."""
        done = trio.Event()
        await self._inbox.send(_Entry(happened, done))
        await done.wait()

    async def submit(self, command: Request) -> Accepted | Rejected:
        """Hand in a command of this host; the answer comes when what it did is on disk.

        Some need no more than the reserve of the disk: a host where it is full can still hand over, and drain.
        """
        disk = self._store.disk()
        if disk.is_full and not isinstance(command, LeadershipCommand | SetDraining | SetCapacity):
            return Rejected("disk-full", f"{disk}: make room, and try again")
        numbered = evolve(command, command=next(self._numbers))
        answers = self._calls[numbered.command] = []
        try:
            await self.carry_out(numbered)
        finally:  # the caller may have gone away meanwhile
            del self._calls[numbered.command]
        return answers[0]

    def snapshot(self) -> Snapshot:
        """The node as it is between two steps."""
        return self._node.snapshot(self._clock())

    async def show(self, documents: Iterable[Document], features: Iterable[Feature] = ()) -> None:
        """Bring the workspace files of these up to date, and those that had to wait; returns when it is done.

        Between two commits, as every write of files: what stands in a file is remembered before a later document is
        on disk.
        """
        settled = trio.Event()
        files: list[Effect] = [effects.WriteProject(document) for document in documents]
        files += [effects.WriteFeature(feature) for feature in features]
        await self._outcomes.send(_Outcome(files, None, settled, is_urgent=True))
        await settled.wait()

    async def catch_up(self) -> None:
        """Bring those files up to date that had to wait for an edit, or could not be written; returns when done."""
        settled = trio.Event()
        await self._outcomes.send(_Outcome([], None, settled))
        await settled.wait()

    async def sound_alarms(self) -> NoReturn:
        """Hand in `AlarmDue` whenever the time of the alarm that was set last has come."""
        while True:
            self._alarm_set = trio.Event()
            left_s = self._alarm_at_s - self._clock().mono_s
            if left_s <= 0:
                self._alarm_at_s = math.inf
                await self.put(AlarmDue())
            else:
                wait_s = min(left_s, LOOK_AGAIN_S) if math.isfinite(left_s) else math.inf
                with trio.move_on_after(wait_s):
                    await self._alarm_set.wait()

    async def _step(self) -> NoReturn:
        while True:
            entry = await self._inputs.receive()
            answer = self._node.step(entry.happened, self._clock())
            if answer or entry.done is not None:
                await self._outcomes.send(_Outcome(answer, entry.done))

    async def _perform(self) -> NoReturn:
        while True:
            batch = await self._gathered()
            if batch:
                await self._commit(batch)
            for outcome in batch:
                for effect in outcome.effects:
                    self._do(effect)
                if outcome.done is not None:
                    outcome.done.set()
            await self._write_files(batch)

    async def _gathered(self) -> list[_Outcome]:
        """The steps that wait; none when files are due before one comes."""
        batch: list[_Outcome] = []
        with trio.move_on_at(self._files_due_s if self._behind or self._features_behind else math.inf):
            batch.append(await self._performed.receive())
        while 0 < len(batch) < BATCH:
            try:
                batch.append(self._performed.receive_nowait())
            except trio.WouldBlock:
                break
        return batch

    async def _commit(self, batch: Sequence[_Outcome]) -> None:
        asked = [
            effect.record for outcome in batch for effect in outcome.effects if isinstance(effect, effects.Persist)
        ]
        if asked or (self._seen and not batch):
            records = [*self._seen, *asked]
            self._seen = []
            await self._store.commit(records)

    def _do(self, effect: Effect) -> None:
        assert self._links is not None
        assert self._work is not None, "connect() comes before run()"
        match effect:
            case effects.Send(link, message):
                self._links.send((link,), wire.encode(message))
            case effects.Broadcast(links, message):
                if links:
                    self._links.send(links, wire.encode(message))
            case effects.Dial(url, delay_s):
                self._links.dial(url, delay_s)
            case effects.HangUp(link, code, reason):
                self._links.hang_up(link, code, reason)
            case effects.Alarm(at_s):
                self._alarm_at_s = at_s
                self._alarm_set.set()
            case effects.StartWork(feature, until_s):
                self._work.start(feature, until_s)
            case effects.ExtendWork(claim, until_s):
                self._work.extend(claim, until_s)
            case effects.StopWork(claim, reason):
                self._work.stop(claim, reason)
            case effects.Emit():
                self._emit(effect)
            case effects.Note(level, text, fields):
                _log.log(level, text, extra={"fields": fields})
            case effects.Reply(command, outcome):
                if command in self._calls:
                    self._calls[command].append(outcome)
            case effects.Persist() | effects.WriteProject() | effects.WriteFeature():
                pass  # done before and after, for the whole batch

    async def _write_files(self, batch: Sequence[_Outcome]) -> None:
        for outcome in batch:
            for effect in outcome.effects:
                if isinstance(effect, effects.WriteProject):
                    self._behind[effect.document.slug] = effect.document
                elif isinstance(effect, effects.WriteFeature):
                    self._features_behind[effect.feature.id] = effect.feature
        is_awaited = any(outcome.settled is not None for outcome in batch)
        is_behind = bool(self._behind or self._features_behind)
        begun_s = trio.current_time()
        is_due = is_behind and begun_s >= self._files_due_s
        documents: dict[str, Document] = {}
        features: dict[str, Feature] = {}
        if is_due or any(outcome.is_urgent for outcome in batch):
            documents, self._behind = self._behind, {}
            features, self._features_behind = self._features_behind, {}
        if is_due or is_awaited:
            written = await self._workspace.write(documents.values())
            self._seen += [SaveSeen(slug, document) for slug, document in written.items()]
        if features:
            await self._workspace.write_features(features.values())
        if documents or features:
            took_s = trio.current_time() - begun_s
            self._files_due_s = begun_s + took_s + max(FILES_EVERY_S, took_s / FILES_PART - took_s)
        if is_awaited:
            await self._commit([])
        for outcome in batch:
            if outcome.settled is not None:
                outcome.settled.set()
