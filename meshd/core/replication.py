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
- Exchange: the side that lacks a primary's word (the worker, on link up) sends the digests of its documents; the other
  answers with the documents that differ and its own digests; the first sends what still differs. Both then hold the
  merge of both. What the primary learns so, it passes on. A worker's whole queue goes out before: a change says what it
  overwrites, a whole document does not.
- An event is emitted when a document changed, never for a change that was merely heard again.
- A claim is written as a change like any other, by the primary and by its holder (`write_claim`): it is never refused.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

from attrs import define, evolve, field

from meshd.core import categories, conflicts, documents, editing, events, messages
from meshd.core.board import Board
from meshd.core.claim import Claim, register_value, spoken_for
from meshd.core.clock import Clock
from meshd.core.coalescing import coalesced
from meshd.core.conflicts import Conflicts
from meshd.core.documents import Change, Document, Kind
from meshd.core.editing import Edit
from meshd.core.effects import (
    Accepted,
    Broadcast,
    DropOutbox,
    Effect,
    ForgetDocument,
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
from meshd.core.frames import CHANGE_BYTES, change_bytes, conflict_bytes, frames, parts, state_bytes
from meshd.core.inputs import Command, DeleteProject, PatchProject, PutProject, TakeConflict
from meshd.core.messages import Ack, Changes, Digest, Documents, DocumentState
from meshd.core.news import News
from meshd.core.phases import Place
from meshd.core.stored import Stored
from meshd.errors import DocumentError
from meshd.model import JsonObject, Now, Stamp
from meshd.project import check_name, claim_path, is_claim

WINDOW = 1024  # unacknowledged changes under way to a primary: what both ends have to hold of a replay, about 5 MiB


@define
class Replication:
    """All documents, the outbox and the seqs of one instance.

    `expired` are deleted documents whose tombstones are too old to be told to who does not ask (`compaction`). `news`
    is what this step made different, `board` what the documents say of phases.
    """

    instance_id: str
    store_id: str
    spare_store_id: str
    max_outbox: int
    clock: Clock
    documents: dict[str, Document] = field(factory=dict)
    outbox: dict[int, Change] = field(factory=dict)
    seqs: dict[str, int] = field(factory=dict)
    conflicts: Conflicts = field(factory=Conflicts)
    upstream: int | None = None
    is_hub: bool = False
    compared: bool = False
    term: int = 0
    expired: set[str] = field(factory=set)
    news: News = field(factory=News)
    board: Board = field(factory=Board)
    _acked_seq: int = 0
    _sent_seq: int = 0
    _compare_due: bool = False
    _coalesced_seq: int = 0
    _root_bits: int = 0

    @classmethod
    def restored(
        cls, instance_id: str, stored: Stored, *, spare_store_id: str, max_outbox: int, is_hub: bool = False
    ) -> Replication:
        """The state as it was on disk; `is_hub` when there is no primary above this instance."""
        clock = Clock(instance_id)
        for document in stored.documents.values():
            for stamp in _stamps(document):
                clock.observe(stamp)
        for change in stored.outbox:
            clock.observe(change.stamp)
        board = Board()
        for document in stored.documents.values():
            board.update(document, document.slug)
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
            Conflicts({conflict.id: conflict for conflict in stored.conflicts}),
            is_hub=is_hub,
            board=board,
            acked_seq=next(iter(outbox), last_seq + 1) - 1,
            root_bits=int(documents.root_digest(stored.documents), 16),
        )

    @property
    def origin(self) -> str:
        return f"{self.instance_id}.{self.store_id}"

    @property
    def root(self) -> str:
        """Kept up to date change by change: every heartbeat asks for it."""
        return documents.root_text(self._root_bits)

    @property
    def last_seq(self) -> int:
        """The last seq of our own that was given out."""
        return self.seqs.get(self.origin, 0)

    @property
    def queued_edits(self) -> int:
        """How many changes wait that could have been refused; claims cannot."""
        if len(self.outbox) <= self.max_outbox:
            return len(self.outbox)
        return sum(not (change.fields and all(map(is_claim, change.fields))) for change in self.outbox.values())

    @property
    def synced(self) -> bool:
        """Whether our documents were compared with those of the primary, if there is one above us."""
        return self.is_hub or self.compared

    def command(self, command: Command, relay: tuple[int, ...], now: Now) -> Iterator[Effect]:
        """Carry out an edit of this host, or refuse it; replies in both cases."""
        if len(self.outbox) >= self.max_outbox:
            yield from self._coalesce()
        try:
            change = self._change(command, now)
        except DocumentError as error:
            change = Rejected("invalid", str(error))
        if isinstance(change, Change) and change_bytes(change) > CHANGE_BYTES:
            change = Rejected("too-large", f"a change of more than {CHANGE_BYTES} bytes does not fit a message")
        if isinstance(change, Rejected):
            yield Reply(command.command, change)
            return
        if change:
            yield from self._originate(change, relay, now)
        if isinstance(command, TakeConflict):
            yield from self._settle(command.id, relay)
        revision = self.revision(command.slug)
        created = change is not None and change.kind is Kind.CREATED
        yield Reply(command.command, Accepted(revision, created=created, changed=change is not None))

    def write_claim(self, place: Place, claim: Claim, relay: tuple[int, ...], now: Now) -> Iterator[Effect]:
        """Say how a phase's claim stands, also over a full outbox; nothing is left to say of a deleted document."""
        slug, milestone, phase = place
        document = self._living(slug)
        if document is None:
            return
        if len(self.outbox) >= self.max_outbox:
            yield from self._coalesce()
        stamp, seq = self.clock.next(now.utc_ms), self.last_seq + 1
        fields: JsonObject = {claim_path(milestone, phase): register_value(claim)}
        change = Change(self.origin, seq, stamp, slug, document.life, Kind.UPDATED, fields)
        yield from self._originate(change, relay, now)

    def _change(self, command: Command, now: Now) -> Change | Rejected | None:
        """The change a command asks for; None when it asks for what is already so."""
        check_name(command.slug, "a project's slug")
        current = self._living(command.slug) or categories.unborn(command.slug)
        if refusal := self._refusal(command, current):
            return refusal
        edit = self._edit(command, current)
        if edit.is_empty:
            return None
        if len(self.outbox) >= self.max_outbox:
            return Rejected("outbox-full", f"{len(self.outbox)} changes wait for a primary already")
        stamp = self.clock.next(now.utc_ms)
        life = current.life if current else stamp
        seq = self.last_seq + 1
        return Change(self.origin, seq, stamp, command.slug, life, edit.kind, edit.fields, edit.removed, edit.bases)

    def _refusal(self, command: Command, current: Document | None) -> Rejected | None:
        if isinstance(command, TakeConflict):
            return self._refusal_to_take(command, current)
        revision = self.revision(command.slug)
        if not _matches(command.if_match, revision):
            return Rejected("revision-mismatch", _mismatch(command.slug, command.if_match, revision))
        if current is None and (not isinstance(command, PutProject) or command.base is not None):
            return Rejected("not-found", f"there is no project {command.slug}")
        return None

    def _refusal_to_take(self, command: TakeConflict, current: Document | None) -> Rejected | None:
        conflict = self.conflicts.kept.get(command.id)
        if conflict is None or conflict.slug != command.slug:
            return Rejected("not-found", f"{command.slug} has no conflict {command.id}")
        if not command.take or not conflict.path:
            return None
        if current is None:
            return Rejected("not-found", f"there is no project {command.slug} any more")
        if is_claim(conflict.path) or conflict.path in spoken_for(current.flat()):
            return Rejected("invalid", "how a claim stands is not taken back: `meshd done` and `meshd retry` change it")
        return None

    def _edit(self, command: Command, current: Document | None) -> Edit:
        match command:
            case DeleteProject():
                return editing.delete(current)
            case TakeConflict(id=name, take=take):
                return editing.take(self.conflicts.kept[name], current) if take else Edit(Kind.UPDATED)
            case PatchProject(patch=patch):
                return editing.patch(current, patch)
            case PutProject(document=document, base=base):
                return editing.put(command.slug, current, document, base)

    def _settle(self, conflict_id: str, relay: tuple[int, ...]) -> Iterator[Effect]:
        yield from self.conflicts.settle((conflict_id,))
        settled = messages.Conflicts(settled=(conflict_id,))
        if self.is_hub:
            yield Broadcast(relay, settled)
        elif self.upstream is not None:
            yield Send(self.upstream, settled)

    def hear_conflicts(self, message: messages.Conflicts, relay: tuple[int, ...]) -> Iterator[Effect]:
        """From the hub: what lost. From anybody: what was looked at, which the hub passes on."""
        yield from self.conflicts.settle(message.settled)
        if not self.is_hub:
            yield from self.conflicts.keep(message.found)
        elif message.settled:
            yield Broadcast(relay, messages.Conflicts(settled=message.settled))

    def _take_change(self, change: Change, relay: tuple[int, ...], now: Now) -> Generator[Effect, None, list[Effect]]:
        """Merge a change; a hub looks before that for writes that lose to it, or that it loses to."""
        found = conflicts.found(self.documents.get(change.slug), change, now.utc_ms) if self.is_hub else []
        lost = [conflict for conflict in found if conflict.id not in self.conflicts.kept]
        told = yield from self._take(documents.fragment(change), change.origin)
        for effect in self.conflicts.keep(lost):
            if isinstance(effect, Persist):
                yield effect
            else:
                told.append(effect)
        told += (Broadcast(relay, messages.Conflicts(found=tuple(frame))) for frame in frames(lost, conflict_bytes))
        return told

    def _originate(self, change: Change, relay: tuple[int, ...], now: Now) -> Iterator[Effect]:
        told = yield from self._take_change(change, relay, now)
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
        self._compare_due = True
        yield from self._pump()

    def compare_again(self) -> Iterator[Effect]:
        """Start an exchange with the primary."""
        if self.upstream is not None:
            yield Send(self.upstream, self._digest())

    def forget(self, slug: str) -> Iterator[Effect]:
        """Let go of a deleted document's tombstone; it does not count in the root."""
        del self.documents[slug]
        self.expired.discard(slug)
        yield Persist(ForgetDocument(slug))

    def lead(self, term: int) -> Iterator[Effect]:
        """There is no primary above us: what is queued is here, and goes to each worker with the exchange."""
        self.is_hub, self.term, self.upstream, self._compare_due = True, term, None, False
        if self.outbox:
            self.outbox.clear()
            yield Persist(TrimOutbox(self.last_seq))
        self._acked_seq = self._sent_seq = self.last_seq

    def follow(self) -> None:
        """We lead no more: what we change from here on waits for a primary."""
        self.is_hub = False
        self._acked_seq = self._sent_seq = self.last_seq

    def detach(self) -> None:
        """The link to the primary is gone: own changes wait."""
        self.upstream = None
        self.compared = False

    def _coalesce(self) -> Iterator[Effect]:
        """Make room in the outbox, when something was queued since the last time that this was tried."""
        if self._coalesced_seq == self.last_seq:
            return
        self._coalesced_seq = self.last_seq
        unsent = self._sent_seq if self.upstream is not None else 0
        done = coalesced(change for change in self.outbox.values() if change.seq > unsent)
        for change in done.smaller:
            self.outbox[change.seq] = change
            yield Persist(SaveOutbox(change))
        for seq in done.gone:
            del self.outbox[seq]
        if done.gone:
            yield Persist(DropOutbox(done.gone))
            yield Note(
                Level.INFO, f"the outbox was full: {len(done.gone)} changes went that later ones had overwritten"
            )

    def _pump(self) -> Iterator[Effect]:
        """Send what the outbox holds and the window allows."""
        if self.upstream is None:
            return
        end = min(self.last_seq, self._acked_seq + WINDOW) + 1
        due = [self.outbox[seq] for seq in range(self._sent_seq + 1, end) if seq in self.outbox]
        for frame in frames(due, change_bytes):
            self._sent_seq = frame[-1].seq
            yield Send(self.upstream, Changes(self.term, tuple(frame)))
        if self._compare_due and self._sent_seq >= next(reversed(self.outbox), 0):
            self._compare_due = False
            yield Send(self.upstream, self._digest())

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

    def changes(self, link: int, message: Changes, relay: tuple[int, ...], now: Now) -> Iterator[Effect]:
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
            told += yield from self._take_change(change, (*relay, link), now)
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
            document
            for slug, document in self.documents.items()
            if digest.documents.get(slug) != document.digest and (slug in digest.documents or slug not in self.expired)
        ]
        yield from self._documents(link, differing)
        if not digest.answer:
            yield Send(link, self._digest(answer=True))
            for frame in frames(list(self.conflicts.kept.values()), conflict_bytes) if self.is_hub else ():
                yield Send(link, messages.Conflicts(found=tuple(frame)))
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
        self.news.merged(before, after, incoming, origin)
        if after is before:
            return []
        self.documents[after.slug] = after
        self.expired.discard(after.slug)
        self._root_bits ^= documents.root_bits(before) ^ documents.root_bits(after)
        replace = before is not None and (before.life != after.life or after.ended is not None)
        registers = documents.taken(after, incoming)
        self.board.update(after, after.slug, None if before is None or replace else registers)
        yield Persist(SaveDocument(after.slug, after.life, after.ended, registers, replace=replace))
        return [*events.of_document(before, after, origin), WriteProject(after)]

    def _documents(self, link: int, differing: Iterable[Document]) -> Iterator[Effect]:
        states = [part for document in differing for part in parts(document)]
        for frame in frames(states, state_bytes):
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


def _mismatch(slug: str, if_match: str | None, revision: str) -> str:
    """How a document stands that was to be written on a condition, and what its writer can do."""
    if not revision:
        return f"there is no {slug}: If-None-Match: * creates it"
    if not if_match:
        return f"{slug} exists already, at revision {revision}: to change it, GET it and send If-Match with that"
    return f"{slug} is at revision {revision}, not {if_match}: GET it, make the change again, send If-Match with that"


def _stamps(document: Document) -> Iterator[Stamp]:
    yield document.life
    if document.ended:
        yield document.ended
    for register in document.registers.values():
        yield register.stamp
