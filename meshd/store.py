"""The store: the only durable truth of an instance, one SQLite database in `dataDir`.

Rules:

- `commit` is all or nothing, and its records are on the disk when it returns (WAL, `synchronous=FULL`). It is bound
  by fsync, not by rows: callers gather what is waiting and commit it together.
- One connection, one worker thread at a time, never abandoned: a commit that has begun ends, cancelled or not.
- Damage found at the start is set aside at once, and the store begins anew under a new id; damage found later is set
  aside and ends the process, because what it holds in memory may be more than what is on its disk.

`store_rows` knows what is kept, `store_file` the file; `MemoryStore` is the twin without either.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, Self

import trio

from meshd.core.stored import Stored
from meshd.errors import StoreDamagedError
from meshd.store_file import (
    Disk,
    connect,
    lock,
    look_at_disk,
    migrate,
    reading,
    set_aside,
    transaction,
    translated,
)
from meshd.store_memory import MemoryStore
from meshd.store_rows import MIGRATIONS, Batch, Entry, SaveSeen, read

__all__ = ["DATABASE", "LOCK", "Disk", "Entry", "MemoryStore", "SaveSeen", "SqliteStore", "Store"]

DATABASE = "meshd.db"
LOCK = "meshd.lock"

_PAGES_AT_A_TIME = 1024  # of 4 KiB: a commit waits some tens of ms for it, not seconds
_LOOK_EVERY_S = 1.0  # how old the knowledge of the disk may be

_log = logging.getLogger("meshd.store")


class Store(Protocol):
    """What an instance keeps: written in commits, read once at the start."""

    async def load(self) -> Stored:
        """Return everything that was committed. Raises `StoreError`."""

    async def commit(self, records: Sequence[Entry]) -> None:
        """Make all records durable, or none of them. Raises `StoreError`, `StoreFullError` when room is missing."""

    def disk(self) -> Disk:
        """The disk as it was at most a second ago."""

    async def compact(self) -> None:
        """Give some of the room that is free within the store back to the disk. Raises `StoreError`."""

    async def close(self) -> None:
        """Let go of the store; nothing can be committed after it. May be called twice."""


class SqliteStore:
    """The store on disk; made by `SqliteStore.open`."""

    def __init__(
        self, file: Path, connection: sqlite3.Connection, stored: Stored, resources: contextlib.ExitStack
    ) -> None:
        self._file = file
        self._connection = connection
        self._stored: Stored | None = stored  # read while it was opened; for the first `load`
        self._resources = resources
        self._one_thread = trio.CapacityLimiter(1)
        self._disk = Disk(0)
        self._looked_at_s = -math.inf

    @classmethod
    async def open(cls, data_dir: Path, new_store_id: str) -> Self:
        """Open the database in `data_dir`, making both when they are missing; a new one gets `new_store_id`.

        A damaged one is set aside, and a new one begun. Raises `StoreError`: another process has it, it is from a newer
        meshd, or cannot be written.
        """
        return await trio.to_thread.run_sync(cls._open, data_dir, new_store_id)

    @classmethod
    def _open(cls, data_dir: Path, new_store_id: str) -> Self:
        file = data_dir / DATABASE
        with contextlib.ExitStack() as resources, translated(file):
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            resources.callback(os.close, lock(data_dir / LOCK))
            try:
                connection, stored = _opened(file, new_store_id)
            except StoreDamagedError as error:
                name = set_aside(file)
                _log.error("%s: set aside as %s; the instance begins anew and refills from the mesh", error, name)
                connection, stored = _opened(file, new_store_id)
            resources.callback(connection.close)
            return cls(file, connection, stored, resources.pop_all())

    async def load(self) -> Stored:
        return await trio.to_thread.run_sync(self._load, limiter=self._one_thread)

    def _load(self) -> Stored:
        stored, self._stored = self._stored, None
        if stored is None:
            with self._giving_up_when_damaged(), translated(self._file), reading(self._file):
                stored = read(self._connection)
        return stored

    async def commit(self, records: Sequence[Entry]) -> None:
        await trio.to_thread.run_sync(self._commit, records, limiter=self._one_thread)

    def _commit(self, records: Sequence[Entry]) -> None:
        self._stored = None
        batch = Batch()
        for record in records:
            batch.add(record)
        with self._giving_up_when_damaged(), translated(self._file), transaction(self._connection):
            for statement, rows in batch.statements():
                self._connection.executemany(statement, rows)

    @contextlib.contextmanager
    def _giving_up_when_damaged(self) -> Iterator[None]:
        try:
            yield
        except StoreDamagedError as error:
            with translated(self._file):
                self._connection.close()
                name = set_aside(self._file)
            raise StoreDamagedError(
                f"{error}: set aside as {name}; start again, and the instance refills from the mesh"
            ) from error

    def disk(self) -> Disk:
        now_s = time.monotonic()
        if now_s - self._looked_at_s >= _LOOK_EVERY_S:
            self._disk, self._looked_at_s = look_at_disk(self._file), now_s
        return self._disk

    async def compact(self) -> None:
        await trio.to_thread.run_sync(self._compact, limiter=self._one_thread)

    def _compact(self) -> None:
        with self._giving_up_when_damaged(), translated(self._file):
            # `execute` would take one step of it, one page; a script is taken to its end.
            self._connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_A_TIME})")

    async def close(self) -> None:
        await trio.to_thread.run_sync(self._close, limiter=self._one_thread)

    def _close(self) -> None:
        with translated(self._file):
            self._resources.close()


def _opened(file: Path, new_store_id: str) -> tuple[sqlite3.Connection, Stored]:
    """Open, verify, migrate and read; raises `StoreDamagedError` for whatever is not as it was written."""
    with contextlib.ExitStack() as opened, translated(file):
        connection = connect(file)
        opened.callback(connection.close)
        migrate(connection, file, MIGRATIONS)
        with reading(file):
            connection.execute("INSERT OR IGNORE INTO meta VALUES ('store_id', ?)", (new_store_id,))
            stored = read(connection)
        opened.pop_all()
    return connection, stored
