"""The database file: its lock, its schema, the room around it, and what a person is told when the disk refuses.

Rules:

- One process per `dataDir`, held by a lock on `meshd.lock` that the kernel lets go of however the process ends.
- A database of a newer schema is refused; one of an older schema is copied, then migrated.
- A damaged database is set aside under a name that says when, never deleted, never repaired by a guess.
- The last `RESERVE_BYTES` of the disk are not for own commands: what peers send, and SQLite's own tidying up, goes on.
- sqlite3's and the disk's exceptions become `StoreError` in one place, `store_error`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

from meshd.errors import StoreDamagedError, StoreError, StoreFullError

RESERVE_BYTES = 16 * 1024 * 1024  # four times what SQLite's log holds before it is folded into the database

_BUSY_TIMEOUT_S = 5.0  # a person's sqlite3 shell may hold the database for a moment


_NOT_OURS = {0, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
"""What reading rows that we wrote may fail with: 0 is text that is not UTF-8, ERROR a table that is not there."""


@frozen
class Disk:
    """The disk that `dataDir` is on, and the databases that were set aside there, by name."""

    free_bytes: int
    damaged: tuple[str, ...] = ()

    @property
    def is_full(self) -> bool:
        """Only the reserve is left: own commands are refused."""
        return self.free_bytes < RESERVE_BYTES

    def __str__(self) -> str:
        """The room in words."""
        kept = f", the last {RESERVE_BYTES >> 20} MiB are kept for changes of other hosts" if self.is_full else ""
        return f"the disk of dataDir has {self.free_bytes >> 20} MiB left{kept}"


def look_at_disk(file: Path) -> Disk:
    """The disk of this database; one that cannot even be looked at counts as full."""
    try:
        status = os.statvfs(file.parent)
        aside = sorted(name for name in os.listdir(file.parent) if name.startswith(f"{file.name}.damaged-"))  # noqa: PTH208  names, not paths
    except OSError:
        return Disk(0)
    return Disk(status.f_bavail * status.f_frsize, tuple(name for name in aside if name.endswith("Z")))


def lock(file: Path) -> int:
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


def connect(file: Path) -> sqlite3.Connection:
    """Open the database; who opens it sees that threads take turns with the connection."""
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite would make it readable by others
    # Worker threads differ from call to call; the capacity limiter sees to it that they take turns.
    connection = sqlite3.connect(file, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # has an effect on a new file only
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection, file: Path, steps: Sequence[Sequence[str]]) -> None:
    """Lift the database to schema `len(steps)`; one that holds data is copied to `<file>.v<schema>` first.

    Raises `StoreDamagedError`, and `StoreError` for a newer schema: that one is left alone, damaged or not.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(steps):
        raise StoreError(
            f"{file} was written by a newer meshd (schema {version}, this one knows {len(steps)}): "
            "run that version, or start with another dataDir"
        )
    _verify(connection, file, version)
    if 0 < version < len(steps):
        with contextlib.closing(connect(file.with_name(f"{file.name}.v{version}"))) as copy:
            connection.backup(copy)
    if version < len(steps):
        with transaction(connection):
            for step in steps[version:]:
                for statement in step:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(steps)}")


def _verify(connection: sqlite3.Connection, file: Path, version: int) -> None:
    """Look at every page: that takes a tenth of the time that reading all rows takes."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version < 0 or (version == 0) != (tables == 0):
        raise damaged(file, f"it has {tables} tables of schema {version}")
    (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise damaged(file, finding)


def set_aside(file: Path) -> str:
    """Move the closed database out of the way, with what SQLite keeps beside it; returns its name from then on."""
    now_s, now_ms = divmod(time.time_ns() // 1_000_000, 1000)
    name = f"{file.name}.damaged-{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now_s))}.{now_ms:03}Z"
    for suffix in ("", "-wal", "-shm"):  # the log never outlives its database: SQLite deletes one that is alone
        with contextlib.suppress(FileNotFoundError):
            file.with_name(file.name + suffix).rename(file.with_name(name + suffix))
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return name


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextlib.contextmanager
def translated(file: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise store_error(file, error) from error


def store_error(file: Path, error: sqlite3.Error | OSError) -> StoreError:
    """Say which file, what is wrong with it, and what a person can do."""
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _full(file, error)
        return StoreError(f"{file.parent} cannot be used as dataDir: {_remedy(error)}")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the upper bits say where in SQLite it happened
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(file, error)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StoreError(f"{file} cannot be written ({error}): check owner and mode of {file.parent}")
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and look_at_disk(file).free_bytes == 0):
        return _full(file, error)
    return StoreError(f"{file}: {error}")


def _remedy(error: OSError) -> str:
    """What is wrong with a folder, and what a person can do about it."""
    match error.errno:
        case errno.ENOTDIR | errno.EEXIST:
            advice = "it or a folder above it is a file, name a folder (dataDir, MESHD_DATA_DIR)"
        case errno.EACCES | errno.EPERM:
            advice = f"user {os.geteuid()} may not write there, check owner and mode or name another folder"
        case errno.EROFS:
            advice = "mount it writable, or name another folder"
        case _:
            advice = f"it happened to {error.filename}"
    return f"{error.strerror or error}; {advice}"


def _full(file: Path, error: Exception) -> StoreFullError:
    return StoreFullError(f"{file}: the disk is full ({error})")


def damaged(file: Path, finding: object) -> StoreDamagedError:
    return StoreDamagedError(f"{file} is damaged ({finding})")


@contextlib.contextmanager
def reading(file: Path) -> Iterator[None]:
    """Rows that are not what was once written are damage, whichever way they show."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(file, error) from error
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_OURS:
            raise damaged(file, error) from error
        raise
