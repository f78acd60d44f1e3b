"""The store: the only durable truth of an instance, one SQLite database in `dataDir`.

Rules:

- `commit` is all or nothing, and its records are on the disk when it returns (WAL, `synchronous=FULL`). It is bound
  by fsync, not by rows: callers gather what is waiting and commit it together.
- One connection, one worker thread at a time, never abandoned: a commit that has begun ends, cancelled or not.
- One process per `dataDir`, held by a lock on `meshd.lock` that the kernel lets go of however the process ends.
- A database of a newer schema is refused; one of an older schema is copied, then migrated.
- sqlite3's and the disk's exceptions become `StoreError` in one place, `_store_error`.

`MemoryStore` is the twin without disk and threads; like a disk it keeps only what was committed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, Self, TypeAlias

import orjson
import trio
from attrs import define, field, frozen

from meshd.core.documents import Change, Document, Kind, Register
from meshd.core.effects import Record, SaveDocument, SaveOutbox, SaveSeq, SaveStoreId, TrimOutbox
from meshd.core.stored import Stored
from meshd.errors import StoreError, StoreFullError
from meshd.model import JsonObject, Stamp

DATABASE = "meshd.db"
LOCK = "meshd.lock"

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
)
"""Step n lifts schema n to n + 1; `PRAGMA user_version` names the schema. JSON is kept as text, a register that is
gone as NULL (JSON's own null is the text `null`), so that the sqlite3 shell can read everything. Registers are long
rows: updating them in a rowid table takes a third of the time that it takes in a tree of their key."""

_SET_REGISTER = """INSERT INTO registers VALUES (?, ?, ?, ?)
    ON CONFLICT (slug, path) DO UPDATE SET stamp = excluded.stamp, value = excluded.value"""

_BUSY_TIMEOUT_S = 5.0  # a person's sqlite3 shell may hold the database for a moment


@frozen
class SaveSeen:
    """What stands in a workspace file now that file and document agree; None forgets it."""

    slug: str
    document: JsonObject | None


Entry: TypeAlias = Record | SaveSeen


class Store(Protocol):
    """What an instance keeps: written in commits, read once at the start."""

    async def load(self) -> Stored:
        """Return everything that was committed. Raises `StoreError`."""

    async def commit(self, records: Sequence[Entry]) -> None:
        """Make all records durable, or none of them. Raises `StoreError`, `StoreFullError` when room is missing."""

    async def close(self) -> None:
        """Let go of the store; nothing can be committed after it. May be called twice."""


class SqliteStore:
    """The store on disk; made by `SqliteStore.open`."""

    def __init__(self, file: Path, connection: sqlite3.Connection, resources: contextlib.ExitStack) -> None:
        self._file = file
        self._connection = connection
        self._resources = resources
        self._one_thread = trio.CapacityLimiter(1)

    @classmethod
    async def open(cls, data_dir: Path, new_store_id: str) -> Self:
        """Open the database in `data_dir`, making both when they are missing; a new one gets `new_store_id`.

        Raises `StoreError`: another process has it, it is damaged, from a newer meshd, or cannot be written.
        """
        return await trio.to_thread.run_sync(cls._open, data_dir, new_store_id)

    @classmethod
    def _open(cls, data_dir: Path, new_store_id: str) -> Self:
        file = data_dir / DATABASE
        with contextlib.ExitStack() as resources, _translated(file):
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            resources.callback(os.close, _lock(data_dir / LOCK))
            connection = _connect(file)
            resources.callback(connection.close)
            migrate(connection, file, MIGRATIONS)
            connection.execute("INSERT OR IGNORE INTO meta VALUES ('store_id', ?)", (new_store_id,))
            return cls(file, connection, resources.pop_all())

    async def load(self) -> Stored:
        return await trio.to_thread.run_sync(self._load, limiter=self._one_thread)

    def _load(self) -> Stored:
        with _translated(self._file):
            try:
                return _read(self._connection)
            except (ValueError, KeyError, TypeError) as error:
                raise _damaged(self._file, error) from error

    async def commit(self, records: Sequence[Entry]) -> None:
        await trio.to_thread.run_sync(self._commit, records, limiter=self._one_thread)

    def _commit(self, records: Sequence[Entry]) -> None:
        batch = _Batch()
        for record in records:
            batch.add(record)
        with _translated(self._file), _transaction(self._connection):
            for statement, rows in batch.statements():
                self._connection.executemany(statement, rows)

    async def close(self) -> None:
        await trio.to_thread.run_sync(self._close, limiter=self._one_thread)

    def _close(self) -> None:
        with _translated(self._file):
            self._resources.close()


@define
class _Batch:
    """The net effect of a commit's records: many changes of one batch touch the same rows."""

    emptied: set[str] = field(factory=set)
    documents: dict[str, SaveDocument] = field(factory=dict)
    registers: defaultdict[str, dict[str, Register]] = field(factory=lambda: defaultdict(dict))
    trimmed_seq: int = 0
    outbox: dict[int, Change] = field(factory=dict)
    seqs: dict[str, int] = field(factory=dict)
    seen: dict[str, JsonObject | None] = field(factory=dict)
    store_id: str = ""

    def add(self, record: Entry) -> None:
        match record:
            case SaveDocument(slug=slug):
                self.documents[slug] = record
                if record.replace or record.ended:
                    self.emptied.add(slug)
                    self.registers[slug] = {}
                if not record.ended:
                    self.registers[slug].update(record.registers)
            case SaveOutbox(change=change):
                self.outbox[change.seq] = change
            case TrimOutbox(seq=trimmed):
                self.trimmed_seq = max(self.trimmed_seq, trimmed)
                self.outbox = {seq: change for seq, change in self.outbox.items() if seq > trimmed}
            case SaveSeq(origin=origin, seq=seq):
                self.seqs[origin] = seq
            case SaveStoreId(store_id=store_id):
                self.store_id = store_id
            case SaveSeen(slug=slug, document=document):
                self.seen[slug] = document

    def statements(self) -> Iterator[tuple[str, Sequence[tuple[str | int | None, ...]]]]:
        """What has to be executed, in order; a table that is not touched costs nothing."""
        if self.emptied:
            yield "DELETE FROM registers WHERE slug = ?", [(slug,) for slug in self.emptied]
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
        if self.trimmed_seq:
            yield "DELETE FROM outbox WHERE seq <= ?", [(self.trimmed_seq,)]
        if self.outbox:
            yield "REPLACE INTO outbox VALUES (?, ?)", [(seq, _encode(change)) for seq, change in self.outbox.items()]
        if self.seqs:
            yield "REPLACE INTO seqs VALUES (?, ?)", list(self.seqs.items())
        if self.store_id:
            yield "REPLACE INTO meta VALUES ('store_id', ?)", [(self.store_id,)]
        if self.seen:
            standing = [(slug, _text(document)) for slug, document in self.seen.items() if document is not None]
            yield "REPLACE INTO seen VALUES (?, ?)", standing
            yield "DELETE FROM seen WHERE slug = ?", [(slug,) for slug, doc in self.seen.items() if doc is None]


def _read(connection: sqlite3.Connection) -> Stored:
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
    )


def _lock(file: Path) -> int:
    """Take the lock that keeps a second process out, and return its file descriptor; closing that gives it back."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise StoreError(f"{file.parent} is already in use by pid {holder or 'unknown'}") from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _connect(file: Path) -> sqlite3.Connection:
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite would make it readable by others
    # Worker threads differ from call to call; the capacity limiter sees to it that they take turns.
    connection = sqlite3.connect(file, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection, file: Path, steps: Sequence[Sequence[str]]) -> None:
    """Lift the database to schema `len(steps)`; one that holds data is copied to `<file>.v<schema>` first."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(steps):
        raise StoreError(
            f"{file} was written by a newer meshd (schema {version}, this one knows {len(steps)}): "
            "run that version, or start with another dataDir"
        )
    if 0 < version < len(steps):
        with contextlib.closing(_connect(file.with_name(f"{file.name}.v{version}"))) as copy:
            connection.backup(copy)
    if version < len(steps):
        with _transaction(connection):
            for step in steps[version:]:
                for statement in step:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(steps)}")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextlib.contextmanager
def _translated(file: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise _store_error(file, error) from error


def _store_error(file: Path, error: sqlite3.Error | OSError) -> StoreError:
    """Say which file, what is wrong with it, and what a person can do."""
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StoreFullError(f"{file}: the disk is full ({error})")
        return StoreError(f"{file.parent} cannot be used: {error}")
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # the upper bits say where in SQLite it happened
        case sqlite3.SQLITE_FULL:
            return StoreFullError(f"{file}: the disk is full ({error})")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return _damaged(file, error)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return StoreError(f"{file} cannot be written ({error}): check owner and mode of {file.parent}")
        case _:
            return StoreError(f"{file}: {error}")


def _damaged(file: Path, error: Exception) -> StoreError:
    return StoreError(
        f"{file} is damaged ({error}): move it, with {file.name}-wal and {file.name}-shm, out of the way and "
        "start again; the instance refills from the mesh"
    )


class MemoryStore:
    """A store in memory, without threads: what was committed can be loaded again, by this or by a later instance.

    `stored` is what it starts from, `commit_s` the time that a commit takes. A commit cancelled meanwhile did not
    happen.
    """

    def __init__(self, stored: Stored | None = None, commit_s: float = 0.0) -> None:
        stored = stored or Stored("memory")
        self._store_id = stored.store_id
        self._documents = dict(stored.documents)
        self._outbox = {change.seq: change for change in stored.outbox}
        self._seqs = dict(stored.seqs)
        self._seen = dict(stored.seen)
        self._commit_s = commit_s
        self._one_commit = trio.Lock()
        self._closed = False

    async def load(self) -> Stored:
        await trio.lowlevel.checkpoint()
        outbox = tuple(self._outbox[seq] for seq in sorted(self._outbox))
        return Stored(self._store_id, dict(self._documents), outbox, dict(self._seqs), dict(self._seen))

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
            case SaveOutbox(change=change):
                self._outbox[change.seq] = change
            case TrimOutbox(seq=trimmed):
                self._outbox = {seq: change for seq, change in self._outbox.items() if seq > trimmed}
            case SaveSeq(origin=origin, seq=seq):
                self._seqs[origin] = seq
            case SaveStoreId(store_id=store_id):
                self._store_id = store_id
            case SaveSeen(slug=slug, document=document) if document is not None:
                self._seen[slug] = document
            case SaveSeen(slug=slug):
                self._seen.pop(slug, None)

    async def close(self) -> None:
        async with self._one_commit:
            self._closed = True

    def crash(self) -> None:
        """End it like a power cut: a commit under way is lost, `load` still gives what was committed."""
        self._closed = True
