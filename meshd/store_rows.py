"""What a store keeps, as rows: the schema, the net effect of a commit's records, and what is read back at the start.

JSON is kept as text, a register that is gone as NULL (JSON's own null is the text `null`), so that the sqlite3 shell
can read everything.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import orjson
from attrs import define, field, frozen

from meshd.core.ballot import MAX_TURNS, Ballot, Proposal, Turn
from meshd.core.documents import Change, Conflict, Document, Kind, Register
from meshd.core.effects import (
    DropConflict,
    DropFeature,
    DropOutbox,
    DropProposal,
    Emit,
    ForgetDocument,
    Record,
    SaveBallot,
    SaveConflict,
    SaveDocument,
    SaveEvent,
    SaveFeature,
    SaveLeadership,
    SaveOutbox,
    SaveProposal,
    SaveSeq,
    SaveSettings,
    SaveStoreId,
    TrimEvents,
    TrimOutbox,
)
from meshd.core.feature import Feature, FeatureStatus
from meshd.core.phases import Place
from meshd.core.stored import Stored
from meshd.model import JsonObject, Stamp

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE documents (slug TEXT PRIMARY KEY, life TEXT NOT NULL, ended TEXT) WITHOUT ROWID",
        """CREATE TABLE registers (slug TEXT NOT NULL, path TEXT NOT NULL, stamp TEXT NOT NULL, value TEXT,
                                   PRIMARY KEY (slug, path))""",
        "CREATE TABLE outbox (seq INTEGER PRIMARY KEY, change TEXT NOT NULL)",
        "CREATE TABLE seqs (origin TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE seen (slug TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID",
    ),
    (
        """CREATE TABLE events (id INTEGER PRIMARY KEY, utc_ms INTEGER NOT NULL, type TEXT NOT NULL,
                                payload TEXT NOT NULL)""",
        """CREATE TABLE conflicts (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, slug TEXT NOT NULL,
                                   life TEXT NOT NULL, path TEXT NOT NULL, stamp TEXT NOT NULL, winner TEXT NOT NULL,
                                   found_ms INTEGER NOT NULL, value TEXT)""",
        """CREATE TABLE settings (scope TEXT PRIMARY KEY, revision INTEGER NOT NULL, "values" TEXT NOT NULL)
           WITHOUT ROWID""",
    ),
    (
        "CREATE TABLE ballot (row INTEGER PRIMARY KEY CHECK (row = 1), term INTEGER NOT NULL, vote TEXT, leader TEXT)",
        """CREATE TABLE proposals (slug TEXT NOT NULL, milestone TEXT NOT NULL, phase TEXT NOT NULL,
                                   term INTEGER NOT NULL, id TEXT NOT NULL, claim TEXT NOT NULL,
                                   generation INTEGER NOT NULL, holder TEXT NOT NULL,
                                   PRIMARY KEY (slug, milestone, phase)) WITHOUT ROWID""",
        """CREATE TABLE turns (id INTEGER PRIMARY KEY, utc_ms INTEGER NOT NULL, term INTEGER NOT NULL, leader TEXT,
                               cause TEXT NOT NULL)""",
    ),
    (
        "DROP TABLE proposals",  # it has never held a row: nothing was proposed before this schema
        """CREATE TABLE proposals (slug TEXT NOT NULL, milestone TEXT NOT NULL, phase TEXT NOT NULL,
                                   life TEXT NOT NULL, term INTEGER NOT NULL, claim TEXT NOT NULL,
                                   generation INTEGER NOT NULL, holder TEXT NOT NULL, priority INTEGER,
                                   claimed_ms INTEGER NOT NULL, attempts INTEGER NOT NULL,
                                   PRIMARY KEY (slug, milestone, phase)) WITHOUT ROWID""",
        """CREATE TABLE features (id TEXT PRIMARY KEY, claim TEXT NOT NULL, slug TEXT NOT NULL, milestone TEXT NOT NULL,
                                  phase TEXT NOT NULL, generation INTEGER NOT NULL, claimed_ms INTEGER NOT NULL,
                                  status TEXT NOT NULL, is_held INTEGER NOT NULL, provisional INTEGER NOT NULL,
                                  released TEXT, fields TEXT NOT NULL, life TEXT)""",
    ),
    ("ALTER TABLE ballot ADD COLUMN ttl_ms INTEGER NOT NULL DEFAULT 0",),
)
"""Step n lifts schema n to n + 1; `PRAGMA user_version` names the schema. Registers are long rows: updating them in a
rowid table takes a third of the time that it takes in a tree of their key. Conflicts are numbered in the order in
which they were found."""

EVENTS_READ = 10_000  # the latest events that are read at the start: what applications may ask for again

_SET_REGISTER = """INSERT INTO registers VALUES (?, ?, ?, ?)
    ON CONFLICT (slug, path) DO UPDATE SET stamp = excluded.stamp, value = excluded.value"""

_SET_CONFLICT = """INSERT INTO conflicts (id, slug, life, path, stamp, winner, found_ms, value)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET slug = excluded.slug, life = excluded.life, path = excluded.path,
        stamp = excluded.stamp, winner = excluded.winner, found_ms = excluded.found_ms, value = excluded.value"""


@frozen
class SaveSeen:
    """What stands in a workspace file now that file and document agree; None forgets it."""

    slug: str
    document: JsonObject | None


Entry: TypeAlias = Record | SaveSeen
Statement: TypeAlias = tuple[str, Sequence[tuple[str | int | None, ...]]]


@define
class Batch:
    """The net effect of a commit's records: many changes of one batch touch the same rows."""

    emptied: set[str] = field(factory=set)
    forgotten: set[str] = field(factory=set)
    documents: dict[str, SaveDocument] = field(factory=dict)
    registers: defaultdict[str, dict[str, Register]] = field(factory=lambda: defaultdict(dict))
    trimmed_seq: int = 0
    dropped_seqs: set[int] = field(factory=set)
    outbox: dict[int, Change] = field(factory=dict)
    seqs: dict[str, int] = field(factory=dict)
    seen: dict[str, JsonObject | None] = field(factory=dict)
    settings: dict[str, SaveSettings] = field(factory=dict)
    trimmed_event: int = 0
    events: dict[int, Emit] = field(factory=dict)
    settled: set[str] = field(factory=set)
    conflicts: dict[str, Conflict] = field(factory=dict)
    store_id: str = ""
    ballot: Ballot | None = None
    turns: dict[int, Turn] = field(factory=dict)
    proposals: dict[Place, Proposal | None] = field(factory=dict)
    features: dict[str, Feature | None] = field(factory=dict)

    def add(self, record: Entry) -> None:
        """Take in one record; each of a commit in its order."""
        match record:
            case SaveDocument() | ForgetDocument():
                self._add_document(record)
            case SaveOutbox() | TrimOutbox() | DropOutbox():
                self._add_outbox(record)
            case SaveEvent() | TrimEvents():
                self._add_event(record)
            case SaveConflict(conflict=conflict):
                self.conflicts[conflict.id] = conflict
            case DropConflict(id=id_):
                self.conflicts.pop(id_, None)
                self.settled.add(id_)
            case SaveSeq(origin=origin, seq=seq):
                self.seqs[origin] = seq
            case SaveStoreId(store_id=store_id):
                self.store_id = store_id
            case SaveSettings(scope=scope):
                self.settings[scope] = record
            case SaveSeen(slug=slug, document=document):
                self.seen[slug] = document
            case SaveBallot(ballot=ballot):
                self.ballot = ballot
            case SaveLeadership(turn=turn):
                self.turns[turn.id] = turn
            case SaveProposal() | DropProposal() | SaveFeature() | DropFeature():
                self._add_work(record)

    def _add_document(self, record: SaveDocument | ForgetDocument) -> None:
        slug = record.slug
        if isinstance(record, ForgetDocument):
            self.documents.pop(slug, None)
            self.forgotten.add(slug)
        else:
            self.documents[slug] = record
        if isinstance(record, ForgetDocument) or record.replace or record.ended:
            self.emptied.add(slug)
            self.registers[slug] = {}
        if isinstance(record, SaveDocument) and not record.ended:
            self.registers[slug].update(record.registers)

    def _add_outbox(self, record: SaveOutbox | TrimOutbox | DropOutbox) -> None:
        match record:
            case SaveOutbox(change=change):
                self.outbox[change.seq] = change
            case TrimOutbox(seq=trimmed):
                self.trimmed_seq = max(self.trimmed_seq, trimmed)
                self.outbox = {seq: change for seq, change in self.outbox.items() if seq > trimmed}
            case DropOutbox(seqs=seqs):
                self.dropped_seqs.update(seqs)
                self.outbox = {seq: change for seq, change in self.outbox.items() if seq not in self.dropped_seqs}

    def _add_event(self, record: SaveEvent | TrimEvents) -> None:
        match record:
            case SaveEvent(event=event):
                self.events[event.id] = event
            case TrimEvents(id=first):
                self.trimmed_event = max(self.trimmed_event, first)
                self.events = {id_: event for id_, event in self.events.items() if id_ >= first}

    def _add_work(self, record: SaveProposal | DropProposal | SaveFeature | DropFeature) -> None:
        match record:
            case SaveProposal(proposal=proposal):
                self.proposals[proposal.place] = proposal
            case DropProposal(slug=slug, milestone=milestone, phase=phase):
                self.proposals[slug, milestone, phase] = None
            case SaveFeature(feature=feature):
                self.features[feature.id] = feature
            case DropFeature(id=id_):
                self.features[id_] = None

    def statements(self) -> Iterator[Statement]:
        """What has to be executed, in order; a table that is not touched costs nothing."""
        yield from self._document_statements()
        yield from self._outbox_statements()
        yield from self._event_statements()
        yield from self._conflict_statements()
        yield from self._leadership_statements()
        yield from self._work_statements()
        if self.seqs:
            yield "REPLACE INTO seqs VALUES (?, ?)", list(self.seqs.items())
        if self.store_id:
            yield "REPLACE INTO meta VALUES ('store_id', ?)", [(self.store_id,)]
        if self.settings:
            yield (
                "REPLACE INTO settings VALUES (?, ?, ?)",
                [(scope, record.revision, _text(record.values)) for scope, record in self.settings.items()],
            )
        if self.seen:
            standing = [(slug, _text(document)) for slug, document in self.seen.items() if document is not None]
            yield "REPLACE INTO seen VALUES (?, ?)", standing
            yield "DELETE FROM seen WHERE slug = ?", [(slug,) for slug, doc in self.seen.items() if doc is None]

    def _document_statements(self) -> Iterator[Statement]:
        if self.emptied:
            yield "DELETE FROM registers WHERE slug = ?", [(slug,) for slug in self.emptied]
        if self.forgotten:
            yield "DELETE FROM documents WHERE slug = ?", [(slug,) for slug in self.forgotten]
        if self.documents:
            yield (
                "REPLACE INTO documents VALUES (?, ?, ?)",
                [(doc.slug, str(doc.life), str(doc.ended) if doc.ended else None) for doc in self.documents.values()],
            )
        if self.registers:
            yield (
                _SET_REGISTER,
                [
                    (slug, path, str(register.stamp), None if register.gone else _text(register.value))
                    for slug, registers in self.registers.items()
                    for path, register in registers.items()
                ],
            )

    def _outbox_statements(self) -> Iterator[Statement]:
        if self.trimmed_seq:
            yield "DELETE FROM outbox WHERE seq <= ?", [(self.trimmed_seq,)]
        if self.dropped_seqs:
            yield "DELETE FROM outbox WHERE seq = ?", [(seq,) for seq in self.dropped_seqs]
        if self.outbox:
            yield "REPLACE INTO outbox VALUES (?, ?)", [(seq, _encode(change)) for seq, change in self.outbox.items()]

    def _event_statements(self) -> Iterator[Statement]:
        if self.trimmed_event:
            yield "DELETE FROM events WHERE id < ?", [(self.trimmed_event,)]
        if self.events:
            yield (
                "REPLACE INTO events VALUES (?, ?, ?, ?)",
                [(id_, event.utc_ms, event.type, _text(event.payload)) for id_, event in self.events.items()],
            )

    def _conflict_statements(self) -> Iterator[Statement]:
        if self.settled:
            yield "DELETE FROM conflicts WHERE id = ?", [(id_,) for id_ in self.settled]
        if self.conflicts:
            yield _SET_CONFLICT, [_conflict_row(conflict) for conflict in self.conflicts.values()]

    def _leadership_statements(self) -> Iterator[Statement]:
        if self.ballot:
            ballot = self.ballot
            row = (ballot.term, ballot.vote, ballot.leader, ballot.ttl_ms)
            yield "REPLACE INTO ballot VALUES (1, ?, ?, ?, ?)", [row]
        if self.turns:
            rows = [(turn.id, turn.utc_ms, turn.term, turn.leader, turn.cause) for turn in self.turns.values()]
            yield "REPLACE INTO turns VALUES (?, ?, ?, ?, ?)", rows
            yield "DELETE FROM turns WHERE id <= (SELECT max(id) FROM turns) - ?", [(MAX_TURNS,)]

    def _work_statements(self) -> Iterator[Statement]:
        if self.proposals:
            dropped = [place for place, proposal in self.proposals.items() if proposal is None]
            yield "DELETE FROM proposals WHERE slug = ? AND milestone = ? AND phase = ?", dropped
            kept = [_proposal_row(proposal) for proposal in self.proposals.values() if proposal is not None]
            yield "REPLACE INTO proposals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", kept
        if self.features:
            ended = [(id_,) for id_, feature in self.features.items() if feature is None]
            yield "DELETE FROM features WHERE id = ?", ended
            rows = [_feature_row(feature) for feature in self.features.values() if feature is not None]
            yield "REPLACE INTO features VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows


def read(connection: sqlite3.Connection) -> Stored:
    """Read everything. Raises ValueError, KeyError or TypeError when a row is not what was once written."""
    registers: defaultdict[str, dict[str, Register]] = defaultdict(dict)
    for slug, path, stamp, value in connection.execute("SELECT slug, path, stamp, value FROM registers"):
        gone = value is None
        registers[slug][path] = Register(_stamp(stamp), None if gone else orjson.loads(value), gone)
    documents = {
        slug: Document(slug, _stamp(life), registers.get(slug, {}), _stamp(ended) if ended else None)
        for slug, life, ended in connection.execute("SELECT slug, life, ended FROM documents")
    }
    (store_id,) = connection.execute("SELECT value FROM meta WHERE key = 'store_id'").fetchone()
    return Stored(
        store_id=store_id,
        documents=documents,
        outbox=tuple(
            _decode(seq, change) for seq, change in connection.execute("SELECT seq, change FROM outbox ORDER BY seq")
        ),
        seqs=dict(connection.execute("SELECT origin, seq FROM seqs")),
        seen={slug: orjson.loads(document) for slug, document in connection.execute("SELECT slug, document FROM seen")},
        conflicts=tuple(_read_conflicts(connection)),
        settings={
            scope: (revision, orjson.loads(values))
            for scope, revision, values in connection.execute('SELECT scope, revision, "values" FROM settings')
        },
        events=tuple(
            Emit(type_, orjson.loads(payload), id_, utc_ms)
            for id_, utc_ms, type_, payload in connection.execute(
                "SELECT * FROM (SELECT id, utc_ms, type, payload FROM events ORDER BY id DESC LIMIT ?) ORDER BY id",
                (EVENTS_READ,),
            )
        ),
        ballot=_read_ballot(connection),
        turns=tuple(
            Turn(id_, utc_ms, term, leader, cause)
            for id_, utc_ms, term, leader, cause in connection.execute(
                "SELECT id, utc_ms, term, leader, cause FROM turns ORDER BY id"
            )
        ),
        proposals=tuple(_read_proposals(connection)),
        features=tuple(_read_features(connection)),
    )


def _read_ballot(connection: sqlite3.Connection) -> Ballot:
    row = connection.execute("SELECT term, vote, leader, ttl_ms FROM ballot").fetchone()
    return Ballot(*row) if row else Ballot()


def _read_conflicts(connection: sqlite3.Connection) -> Iterator[Conflict]:
    for id_, slug, life, path, stamp, winner, found_ms, value in connection.execute(
        "SELECT id, slug, life, path, stamp, winner, found_ms, value FROM conflicts ORDER BY number"
    ):
        gone = value is None
        yield Conflict(
            id=id_,
            slug=slug,
            life=_stamp(life),
            path=path,
            stamp=_stamp(stamp),
            winner=_stamp(winner),
            found_ms=found_ms,
            value=None if gone else orjson.loads(value),
            gone=gone,
        )


def _read_proposals(connection: sqlite3.Connection) -> Iterator[Proposal]:
    for term, slug, milestone, phase, life, *what in connection.execute(
        "SELECT term, slug, milestone, phase, life, claim, generation, holder, priority, claimed_ms, attempts "
        "FROM proposals ORDER BY slug, milestone, phase"
    ):
        yield Proposal(term, slug, milestone, phase, _stamp(life), *what)


def _read_features(connection: sqlite3.Connection) -> Iterator[Feature]:
    for *names, generation, claimed_ms, status, is_held, provisional, released, fields, life in connection.execute(
        "SELECT id, claim, slug, milestone, phase, generation, claimed_ms, status, is_held, provisional, released, "
        "fields, life FROM features ORDER BY claimed_ms, id"
    ):
        id_, claim, slug, milestone, phase = names
        yield Feature(
            *(id_, claim, slug, milestone, phase, generation, claimed_ms, FeatureStatus(status)),
            is_held=bool(is_held),
            provisional=bool(provisional),
            released=released,
            fields=orjson.loads(fields),
            life=_stamp(life) if life else None,
        )


def _conflict_row(conflict: Conflict) -> tuple[str | int | None, ...]:
    return (
        *(conflict.id, conflict.slug, str(conflict.life), conflict.path, str(conflict.stamp), str(conflict.winner)),
        *(conflict.found_ms, None if conflict.gone else _text(conflict.value)),
    )


def _proposal_row(proposal: Proposal) -> tuple[str | int | None, ...]:
    return (
        *(*proposal.place, str(proposal.life), proposal.term, proposal.claim, proposal.generation),
        *(proposal.holder, proposal.priority, proposal.claimed_ms, proposal.attempts),
    )


def _feature_row(feature: Feature) -> tuple[str | int | None, ...]:
    return (
        *(feature.id, feature.claim, *feature.place, feature.generation, feature.claimed_ms, feature.status.value),
        *(feature.is_held, feature.provisional, feature.released, _text(feature.fields)),
        str(feature.life) if feature.life else None,
    )


def _text(value: object) -> str:
    return orjson.dumps(value).decode()


def _stamp(text: str) -> Stamp:
    utc_ms, counter, instance_id = text.split(".", 2)
    return Stamp(int(utc_ms), int(counter), instance_id)


def _encode(change: Change) -> str:
    return _text(
        {
            "origin": change.origin,
            "stamp": str(change.stamp),
            "slug": change.slug,
            "life": str(change.life),
            "kind": change.kind,
            "fields": change.fields,
            "removed": change.removed,
            "bases": {path: str(stamp) for path, stamp in change.bases.items()},
        }
    )


def _decode(seq: int, text: str) -> Change:
    row = orjson.loads(text)
    return Change(
        origin=row["origin"],
        seq=seq,
        stamp=_stamp(row["stamp"]),
        slug=row["slug"],
        life=_stamp(row["life"]),
        kind=Kind(row["kind"]),
        fields=row["fields"],
        removed=tuple(row["removed"]),
        bases={path: _stamp(stamp) for path, stamp in row.get("bases", {}).items()},
    )
