"""The store's twin without disk and threads; like a disk it keeps only what was committed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import trio

from meshd.core.ballot import MAX_TURNS
from meshd.core.documents import Document
from meshd.core.effects import (
    DropConflict,
    DropOutbox,
    DropProposal,
    ForgetDocument,
    SaveBallot,
    SaveConflict,
    SaveDocument,
    SaveEvent,
    SaveLeadership,
    SaveOutbox,
    SaveProposal,
    SaveSeq,
    SaveSettings,
    SaveStoreId,
    TrimEvents,
    TrimOutbox,
)
from meshd.core.stored import Stored
from meshd.errors import StoreError
from meshd.store_file import Disk
from meshd.store_rows import EVENTS_READ, Entry, SaveSeen


class MemoryStore:
    """A store in memory, without threads: what was committed can be loaded again, by this or by a later instance.

    `stored` is what it starts from, `commit_s` the time that a commit takes. A commit cancelled meanwhile did not
    happen. `free_bytes` is the room on the disk that it does not have.
    """

    def __init__(self, stored: Stored | None = None, commit_s: float = 0.0) -> None:
        stored = stored or Stored("memory")
        self._store_id = stored.store_id
        self._documents = dict(stored.documents)
        self._outbox = {change.seq: change for change in stored.outbox}
        self._seqs = dict(stored.seqs)
        self._seen = dict(stored.seen)
        self._conflicts = {conflict.id: conflict for conflict in stored.conflicts}
        self._settings = dict(stored.settings)
        self._events = {event.id: event for event in stored.events}
        self._ballot = stored.ballot
        self._proposals = {(kept.slug, kept.milestone, kept.phase): kept for kept in stored.proposals}
        self._turns = {turn.id: turn for turn in stored.turns}
        self.free_bytes = sys.maxsize
        self._commit_s = commit_s
        self._one_commit = trio.Lock()
        self._closed = False

    async def load(self) -> Stored:
        await trio.lowlevel.checkpoint()
        return Stored(
            store_id=self._store_id,
            documents=dict(self._documents),
            outbox=tuple(self._outbox[seq] for seq in sorted(self._outbox)),
            seqs=dict(self._seqs),
            seen=dict(self._seen),
            conflicts=tuple(self._conflicts.values()),
            settings=dict(self._settings),
            events=tuple(self._events[id_] for id_ in sorted(self._events)[-EVENTS_READ:]),
            ballot=self._ballot,
            proposals=tuple(self._proposals[key] for key in sorted(self._proposals)),
            turns=tuple(self._turns[id_] for id_ in sorted(self._turns)),
        )

    async def commit(self, records: Sequence[Entry]) -> None:
        async with self._one_commit:
            await trio.sleep(self._commit_s)
            if self._closed:
                raise StoreError("the store in memory is closed")
            for record in records:
                self._apply(record)

    def _apply(self, record: Entry) -> None:
        match record:
            case SaveDocument(slug=slug):
                before = self._documents.get(slug)
                kept = {} if before is None or record.replace else before.registers
                registers = {} if record.ended else {**kept, **record.registers}
                self._documents[slug] = Document(slug, record.life, registers, record.ended)
            case ForgetDocument(slug=slug):
                self._documents.pop(slug, None)
            case SaveSeq(origin=origin, seq=seq):
                self._seqs[origin] = seq
            case SaveStoreId(store_id=store_id):
                self._store_id = store_id
            case SaveSettings(scope=scope, revision=revision, values=values):
                self._settings[scope] = (revision, values)
            case SaveSeen(slug=slug, document=document) if document is not None:
                self._seen[slug] = document
            case SaveSeen(slug=slug):
                self._seen.pop(slug, None)
            case SaveOutbox() | TrimOutbox() | DropOutbox():
                self._apply_to_outbox(record)
            case SaveConflict() | DropConflict() | SaveEvent() | TrimEvents():
                self._apply_to_history(record)
            case SaveBallot() | SaveProposal() | DropProposal() | SaveLeadership():
                self._apply_to_leadership(record)

    def _apply_to_outbox(self, record: SaveOutbox | TrimOutbox | DropOutbox) -> None:
        match record:
            case SaveOutbox(change=change):
                self._outbox[change.seq] = change
            case TrimOutbox(seq=trimmed):
                self._outbox = {seq: change for seq, change in self._outbox.items() if seq > trimmed}
            case DropOutbox(seqs=seqs):
                for seq in seqs:
                    self._outbox.pop(seq, None)

    def _apply_to_history(self, record: SaveConflict | DropConflict | SaveEvent | TrimEvents) -> None:
        match record:
            case SaveConflict(conflict=conflict):
                self._conflicts[conflict.id] = conflict
            case DropConflict(id=id_):
                self._conflicts.pop(id_, None)
            case SaveEvent(event=event):
                self._events[event.id] = event
            case TrimEvents(id=first):
                self._events = {id_: event for id_, event in self._events.items() if id_ >= first}

    def _apply_to_leadership(self, record: SaveBallot | SaveProposal | DropProposal | SaveLeadership) -> None:
        match record:
            case SaveBallot(ballot=ballot):
                self._ballot = ballot
            case SaveProposal(proposal=proposal):
                self._proposals[proposal.slug, proposal.milestone, proposal.phase] = proposal
            case DropProposal(slug=slug, milestone=milestone, phase=phase):
                self._proposals.pop((slug, milestone, phase), None)
            case SaveLeadership(turn=turn):
                self._turns[turn.id] = turn
                oldest = max(self._turns) - MAX_TURNS
                self._turns = {id_: turn for id_, turn in self._turns.items() if id_ > oldest}

    def disk(self) -> Disk:
        return Disk(self.free_bytes)

    async def compact(self) -> None:
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        async with self._one_commit:
            self._closed = True

    def crash(self) -> None:
        """End it like a power cut: a commit under way is lost, `load` still gives what was committed."""
        self._closed = True
