"""The store's twin without disk and threads; like a disk it keeps only what was committed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import trio
from attrs import evolve

from meshd.core.kept import Kept
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
        self._kept = Kept.of(stored)
        self._seen = dict(stored.seen)
        self.free_bytes = sys.maxsize
        self._commit_s = commit_s
        self._one_commit = trio.Lock()
        self._closed = False

    async def load(self) -> Stored:
        await trio.lowlevel.checkpoint()
        stored = self._kept.stored()
        return evolve(stored, seen=dict(self._seen), events=stored.events[-EVENTS_READ:])

    async def commit(self, records: Sequence[Entry]) -> None:
        async with self._one_commit:
            await trio.sleep(self._commit_s)
            if self._closed:
                raise StoreError("the store in memory is closed")
            for record in records:
                self._apply(record)

    def _apply(self, record: Entry) -> None:
        if not isinstance(record, SaveSeen):
            self._kept.apply(record)
        elif record.document is not None:
            self._seen[record.slug] = record.document
        else:
            self._seen.pop(record.slug, None)

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
