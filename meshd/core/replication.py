"""Project documents on every host: own edits, their way through the primary, and the exchange that repairs.

Rules (design, section 5):

- An own edit becomes a change with the next seq of its origin. It is on disk before anybody is told. On a worker it
  stays in the outbox until the primary has acknowledged it; acknowledgements are cumulative. A primary has nobody to
  ask: its changes go to every link.
- The primary takes a change, stores it, acknowledges it and relays it to every other native link.
- An origin is an instance and its store. When the mesh has seen later changes of our store than we have made, it was
  restored from a backup: it takes a new name, and what is queued goes out again under it.
- Receivers keep the last seq per origin: a replay has no second effect. A gap means that something was missed: it is
  counted, and an exchange fetches it.
- Exchange: the side that lacks a primary's word (the worker, on link up) sends the digests of its documents; the
  other answers with the documents that differ and its own digests; the first sends what still differs. Both then hold
  the merge of both. What the primary learns so, it passes on.
- An event is emitted when a document changed, never for a change that was merely heard again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TypeVar

from attrs import define, evolve, field

from meshd import project
from meshd.core import documents
from meshd.core.clock import Clock
from meshd.core.documents import Change, Document, Kind, Register
from meshd.core.effects import (
    Accepted,
    Broadcast,
    Effect,
    Emit,
    Level,
    Note,
    Persist,
    Rejected,
    Reply,
    SaveDocument,
    SaveOutbox,
    SaveSeq,
    SaveStoreId,
    Send,
    TrimOutbox,
    WriteProject,
)
from meshd.core.inputs import Command, DeleteProject, PatchProject, PutProject
from meshd.core.messages import Ack, Changes, Digest, Documents, DocumentState
from meshd.core.stored import Stored
from meshd.errors import DocumentError
from meshd.model import Json, JsonObject, Now, Stamp
from meshd.project import check_name

FRAME_CHANGES = 512  # changes a frame, at most (wire)
FRAME_BYTES = 256 * 1024  # estimated size of a frame, at most, unless one change alone is larger
CHANGE_BYTES = 2 * 1024 * 1024  # estimated size of one change, at most: a frame is never larger than a peer takes
WINDOW = 4096  # unacknowledged changes under way to a primary: bounds what a link has to hold during a replay


@define
class Replication:
    """All documents, the outbox and the seqs of one instance."""

    instance_id: str
    store_id: str
    spare_store_id: str
    max_outbox: int
    clock: Clock
    documents: dict[str, Document] = field(factory=dict)
    outbox: dict[int, Change] = field(factory=dict)
    seqs: dict[str, int] = field(factory=dict)
    upstream: int | None = None
    is_hub: bool = False
    compared: bool = False
    term: int = 0
    _acked_seq: int = 0
    _sent_seq: int = 0

    @classmethod
    def restored(
        cls, instance_id: str, stored: Stored, *, spare_store_id: str, max_outbox: int, is_hub: bool
    ) -> Replication:
        """The state as it was on disk; `is_hub` when there is no primary above this instance."""
        clock = Clock(instance_id)
        for document in stored.documents.values():
            for stamp in _stamps(document):
                clock.observe(stamp)
        for change in stored.outbox:
            clock.observe(change.stamp)
        outbox = {} if is_hub else {change.seq: change for change in stored.outbox}
        last_seq = stored.seqs.get(f"{instance_id}.{stored.store_id}", 0)
        return cls(
            instance_id,
            stored.store_id,
            spare_store_id,
            max_outbox,
            clock,
            dict(stored.documents),
            outbox,
            dict(stored.seqs),
            is_hub=is_hub,
            acked_seq=next(iter(outbox), last_seq + 1) - 1,
        )

    @property
    def origin(self) -> str:
        return f"{self.instance_id}.{self.store_id}"

    @property
    def root(self) -> str:
        return documents.root_digest(self.documents)

    @property
    def last_seq(self) -> int:
        """The last seq of our own that was given out."""
        return self.seqs.get(self.origin, 0)

    @property
    def synced(self) -> bool:
        """Whether our documents were compared with those of the primary, if there is one above us."""
        return self.is_hub or self.compared

    def command(self, command: Command, relay: tuple[int, ...], now: Now) -> Iterator[Effect]:
        """Carry out an edit of this host, or refuse it; replies in both cases."""
        try:
            change = self._change(command, now)
        except DocumentError as error:
            change = Rejected("invalid", str(error))
        if isinstance(change, Change) and _change_bytes(change) > CHANGE_BYTES:
            change = Rejected("too-large", f"a change of more than {CHANGE_BYTES} bytes does not fit a message")
        if isinstance(change, Rejected):
            yield Reply(command.command, change)
            return
        if change:
            yield from self._originate(change, relay)
        revision = self.revision(command.slug)
        created = change is not None and change.kind is Kind.CREATED
        yield Reply(command.command, Accepted(revision, created=created, changed=change is not None))

    def _change(self, command: Command, now: Now) -> Change | Rejected | None:
        """The change a command asks for; None when it asks for what is already so."""
        check_name(command.slug, "a project's slug")
        current = self._living(command.slug)
        revision = self.revision(command.slug)
        if not _matches(command.if_match, revision):
            expected = command.if_match or "no such project"
            return Rejected("revision-mismatch", f"{command.slug} is at {revision or 'no revision'}, not {expected}")
        if len(self.outbox) >= self.max_outbox:
            return Rejected("outbox-full", f"{len(self.outbox)} changes wait for a primary already")
        if current is None:
            if not isinstance(command, PutProject) or command.base is not None:
                return Rejected("not-found", f"there is no project {command.slug}")
            fields = project.flatten(_with_slug(command.document, command.slug))
            stamp = self.clock.next(now.utc_ms)
            return Change(self.origin, self.last_seq + 1, stamp, command.slug, stamp, Kind.CREATED, fields)
        kind, fields, removed = _edited(command, current)
        if kind is Kind.UPDATED and not fields and not removed:
            return None
        stamp = self.clock.next(now.utc_ms)
        return Change(self.origin, self.last_seq + 1, stamp, command.slug, current.life, kind, fields, removed)

    def _originate(self, change: Change, relay: tuple[int, ...]) -> Iterator[Effect]:
        told = yield from self._take(documents.fragment(change), change.origin)
        self.seqs[change.origin] = change.seq
        yield Persist(SaveSeq(change.origin, change.seq))
        if self.is_hub:
            yield Broadcast(relay, Changes(self.term, (change,)))
        else:
            self.outbox[change.seq] = change
            yield Persist(SaveOutbox(change))
            yield from self._pump()
        yield from told

    def attach(self, link: int) -> Iterator[Effect]:
        """A link to the primary: replay what it has not acknowledged, then compare all documents."""
        self.upstream = link
        self.compared = False
        self._sent_seq = self._acked_seq
        yield from self._pump()
        yield Send(link, self._digest())

    def detach(self) -> None:
        """The link to the primary is gone: own changes wait."""
        self.upstream = None
        self.compared = False

    def _pump(self) -> Iterator[Effect]:
        """Send what the outbox holds and the window allows."""
        if self.upstream is None:
            return
        end = min(self.last_seq, self._acked_seq + WINDOW) + 1
        due = [self.outbox[seq] for seq in range(self._sent_seq + 1, end) if seq in self.outbox]
        for frame in _frames(due, _change_bytes):
            self._sent_seq = frame[-1].seq
            yield Send(self.upstream, Changes(self.term, tuple(frame)))

    def acknowledged(self, ack: Ack) -> Iterator[Effect]:
        """The primary has our changes up to `ack.seq` on its disk."""
        if ack.origin != self.origin or not self._acked_seq < ack.seq <= self.last_seq:
            return
        for seq in range(self._acked_seq + 1, ack.seq + 1):
            self.outbox.pop(seq, None)
        self._acked_seq = next(iter(self.outbox), self.last_seq + 1) - 1
        self._sent_seq = max(self._sent_seq, self._acked_seq)
        yield Persist(TrimOutbox(ack.seq))
        yield from self._pump()

    def changes(self, link: int, message: Changes, relay: tuple[int, ...]) -> Iterator[Effect]:
        """Changes of other origins: from the worker that made them, or relayed by the primary."""
        told: list[Effect] = []
        fresh: list[Change] = []
        missed = False
        for change in message.changes:
            last = self.seqs.get(change.origin)
            if last is not None and change.seq <= last:
                continue
            missed |= last is not None and change.seq > last + 1
            self.seqs[change.origin] = change.seq
            told += yield from self._take(documents.fragment(change), change.origin)
            fresh.append(change)
        for origin in {change.origin: None for change in fresh}:
            yield Persist(SaveSeq(origin, self.seqs[origin]))
        if self.is_hub:
            for origin in {change.origin: None for change in message.changes}:
                yield Send(link, Ack(origin, self.seqs[origin]))
            if fresh and relay:
                yield Broadcast(relay, Changes(self.term, tuple(fresh)))
        yield from told
        if missed:
            yield Note(Level.WARNING, "changes were missed: comparing all documents", {"origin": fresh[0].origin})
            yield Send(link, self._digest())

    def compare(self, link: int, digest: Digest) -> Iterator[Effect]:
        """The other side's digests: send it what it lacks or has differently, and ours when it began."""
        if digest.seqs.get(self.origin, 0) > self.last_seq:
            yield from self._begin_anew()
        differing = [
            document for slug, document in self.documents.items() if digest.documents.get(slug) != document.digest
        ]
        yield from self._documents(link, differing)
        if not digest.answer:
            yield Send(link, self._digest(answer=True))
            return
        self.compared |= link == self.upstream
        for origin, seq in digest.seqs.items():
            if origin != self.origin and seq > self.seqs.get(origin, 0):
                self.seqs[origin] = seq
                yield Persist(SaveSeq(origin, seq))

    def _begin_anew(self) -> Iterator[Effect]:
        """Our store is a restored backup: under its old name the mesh has seen more than we remember."""
        yield Note(Level.WARNING, "the database was restored from a backup: it takes a new name", {"was": self.origin})
        queued = list(self.outbox.values())
        yield Persist(TrimOutbox(self.last_seq))
        self.store_id = self.spare_store_id
        yield Persist(SaveStoreId(self.store_id))
        self.outbox = {seq: evolve(change, origin=self.origin, seq=seq) for seq, change in enumerate(queued, start=1)}
        self._acked_seq = self._sent_seq = 0
        self.seqs[self.origin] = len(queued)
        yield Persist(SaveSeq(self.origin, len(queued)))
        for change in self.outbox.values():
            yield Persist(SaveOutbox(change))
        yield from self._pump()

    def states(self, message: Documents, relay: tuple[int, ...]) -> Iterator[Effect]:
        """Documents that the other side has and we lack, or have differently: merged, and passed on by a hub."""
        told: list[Effect] = []
        learned: list[DocumentState] = []
        for state in message.documents:
            before = self.documents.get(state.slug)
            incoming = Document(state.slug, state.life, state.registers, state.ended)
            told += yield from self._take(incoming, "exchange")
            if self.documents.get(state.slug) is not before:
                learned.append(state)
        if self.is_hub and learned and relay:
            yield Broadcast(relay, Documents(tuple(learned)))
        yield from told

    def revision(self, slug: str) -> str:
        """What `If-Match` compares: the digest of the living document, "" when there is none."""
        document = self._living(slug)
        return document.digest if document else ""

    def _take(self, incoming: Document, origin: str) -> Generator[Effect, None, list[Effect]]:
        """Merge a state into ours: yields what to persist, returns what to tell once that is done."""
        for stamp in _stamps(incoming):
            self.clock.observe(stamp)
        before = self.documents.get(incoming.slug)
        after = documents.merge(before, incoming)
        if after is before:
            return []
        self.documents[after.slug] = after
        replace = before is not None and (before.life != after.life or after.ended is not None)
        registers = documents.newer_registers(before, after)
        yield Persist(SaveDocument(after.slug, after.life, after.ended, registers, replace=replace))
        return [*_event(before, after, origin), WriteProject(after)]

    def _documents(self, link: int, differing: Iterable[Document]) -> Iterator[Effect]:
        states = [part for document in differing for part in _parts(document)]
        for frame in _frames(states, _state_bytes):
            yield Send(link, Documents(tuple(frame)))

    def _digest(self, *, answer: bool = False) -> Digest:
        digests = {slug: document.digest for slug, document in self.documents.items()}
        return Digest(digests, answer=answer, seqs=dict(self.seqs))

    def _living(self, slug: str) -> Document | None:
        document = self.documents.get(slug)
        return document if document and document.ended is None else None


def _matches(if_match: str | None, revision: str) -> bool:
    match if_match:
        case None:
            return True
        case "*":
            return revision != ""
    return if_match == revision


def _with_slug(document: JsonObject, slug: str) -> JsonObject:
    if document.get("slug", slug) != slug:
        raise DocumentError(f"the document's slug is {document['slug']!r}, the project's is {slug!r}")
    return document


def _edited(command: Command, current: Document) -> tuple[Kind, JsonObject, tuple[str, ...]]:
    """What a command changes in a document that exists."""
    match command:
        case DeleteProject():
            return Kind.DELETED, {}, ()
        case PutProject():
            wanted: Json = command.document
            base = command.base
        case PatchProject():
            project.check_depth(command.patch)
            wanted, base = documents.merge_patch(current.json(), command.patch), None
    if not isinstance(wanted, dict):
        raise DocumentError("a merge patch of a project must be an object")
    return Kind.UPDATED, *documents.difference(current, base, _with_slug(wanted, current.slug))


def _event(before: Document | None, after: Document, origin: str) -> list[Effect]:
    was_there, is_there = before is not None and before.ended is None, after.ended is None
    kind = {(False, True): "created", (True, True): "updated", (True, False): "deleted"}.get((was_there, is_there))
    if kind is None:
        return []
    return [Emit(f"project:{kind}", {"projectSlug": after.slug, "revision": after.digest, "origin": origin})]


def _stamps(document: Document) -> Iterator[Stamp]:
    yield document.life
    if document.ended:
        yield document.ended
    for register in document.registers.values():
        yield register.stamp


Item = TypeVar("Item")


def _frames(items: Sequence[Item], bytes_of: Callable[[Item], int], most: int = FRAME_CHANGES) -> Iterator[list[Item]]:
    """Cut a sequence into frames of at most `most` items and about `FRAME_BYTES`."""
    frame: list[Item] = []
    size_bytes = 0
    for item in items:
        item_bytes = bytes_of(item)
        if frame and (len(frame) == most or size_bytes + item_bytes > FRAME_BYTES):
            yield frame
            frame, size_bytes = [], 0
        frame.append(item)
        size_bytes += item_bytes
    if frame:
        yield frame


def _change_bytes(change: Change) -> int:
    return 200 + _bytes(change.fields) + _bytes(change.removed)


def _parts(document: Document) -> Iterator[DocumentState]:
    """A document in parts that fit a frame each: merge does not mind."""
    registers = list(document.registers.items())
    for part in _frames(registers, _register_bytes, most=len(registers)) if registers else ([],):
        yield DocumentState(document.slug, document.life, dict(part), document.ended)


def _register_bytes(item: tuple[str, Register]) -> int:
    return 60 + _bytes(item[0]) + _bytes(item[1].value)


def _bytes(value: object) -> int:
    """About as many as its JSON has."""
    return len(repr(value).encode(errors="replace"))


def _state_bytes(state: DocumentState) -> int:
    return sum(map(_register_bytes, state.registers.items()))
