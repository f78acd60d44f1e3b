"""The database file: its lock, its schema, damage, a disk that is full or read-only."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import trio
from attrs import evolve

from meshd import store_file
from meshd.core.ballot import Ballot, Proposal
from meshd.core.documents import Conflict, Document, Register
from meshd.core.effects import (
    Emit,
    SaveBallot,
    SaveConflict,
    SaveDocument,
    SaveEvent,
    SaveFeature,
    SaveProposal,
    SaveSeq,
    SaveSettings,
)
from meshd.core.feature import Feature
from meshd.core.stored import Stored
from meshd.errors import StoreDamagedError, StoreError, StoreFullError
from meshd.model import Stamp
from meshd.store import DATABASE, MemoryStore, SqliteStore
from meshd.store_file import RESERVE_BYTES, Disk, migrate
from meshd.store_rows import MIGRATIONS

LIFE = Stamp(1, 0, "dev-01")
LATER = Stamp(2, 7, "dev.02.example")
LOST = Conflict("a", "site", LIFE, "title", Stamp(1, 5, "dev-03"), LATER, 1_700_000_000_000, "lost")


def saved(path: str, value: str, slug: str = "site") -> SaveDocument:
    return SaveDocument(slug, LIFE, None, {path: Register(LATER, value)})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB, all its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip(f"mounting a small disk takes root: {mount.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, leave_bytes: int = 0) -> Path:
    """Take all room but this much."""
    file = folder / "ballast"
    with file.open("ab") as ballast, contextlib.suppress(OSError):
        while (free := os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize) > leave_bytes:
            ballast.write(bytes(min(free - leave_bytes, 64 * 1024)))
            ballast.flush()
    return file


# Who may have it


async def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "new" / "data"
    store = await SqliteStore.open(data_dir, "new-id")
    await store.commit([SaveSeq("dev-01.abc", 1)])
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in data_dir.iterdir()} == {0o600}
    await store.close()


async def test_a_second_daemon_is_told_who_has_the_data_dir(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path, "new-id")
    with pytest.raises(StoreError, match=rf"{tmp_path} is already in use by pid {os.getpid()}"):
        await SqliteStore.open(tmp_path, "new-id")
    await store.close()
    await (await SqliteStore.open(tmp_path, "new-id")).close()


# Damage


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def set_aside(folder: Path) -> list[str]:
    return sorted(
        name for name in names(folder) if re.fullmatch(rf"{DATABASE}\.damaged-\d{{8}}T\d{{6}}\.\d{{3}}Z", name)
    )


async def stored_in(data_dir: Path) -> Stored:
    store = await SqliteStore.open(data_dir, "another-id")
    stored = await store.load()
    await store.close()
    return stored


async def write_much(data_dir: Path) -> Stored:
    """A database of many pages, closed; returns what is in it."""
    store = await SqliteStore.open(data_dir, "first-id")
    for number in range(20):
        await store.commit([saved(f"key{key}", "x" * 200, f"no-{number}") for key in range(20)])
    stored = await store.load()
    await store.close()
    return stored


async def test_a_damaged_database_is_set_aside_and_a_new_store_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = Random(1).randbytes(50_000)
    (tmp_path / DATABASE).write_bytes(damaged)
    (tmp_path / f"{DATABASE}-wal").write_bytes(b"its log")
    store = await SqliteStore.open(tmp_path, "new-id")
    (name,) = set_aside(tmp_path)
    assert (tmp_path / name).read_bytes() == damaged
    assert store.disk().damaged == (name,)
    assert f"is damaged (file is not a database): set aside as {name}; the instance begins anew" in caplog.text
    await store.commit([SaveSeq("dev-01.abc", 1)])
    await store.close()
    assert await stored_in(tmp_path) == Stored("new-id", seqs={"dev-01.abc": 1})
    assert set_aside(tmp_path) == [name]


async def test_what_is_set_aside_is_gone_from_the_disk_s_report_once_somebody_took_it(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"this is not a database" * 100)
    await (await SqliteStore.open(tmp_path, "new-id")).close()
    (name,) = set_aside(tmp_path)
    assert store_file.look_at_disk(tmp_path / DATABASE).damaged == (name,)
    (tmp_path / name).unlink()
    assert store_file.look_at_disk(tmp_path / DATABASE).damaged == ()


@pytest.mark.parametrize("seed", range(30))
async def test_random_damage_is_set_aside_or_was_harmless(tmp_path: Path, seed: int) -> None:
    """Never anything else: no other exception, and never a part of the documents as if it were all."""
    random = Random(seed)
    before = await write_much(tmp_path)
    content = bytearray((tmp_path / DATABASE).read_bytes())
    if seed % 3 == 0:
        del content[random.randrange(1, len(content)) :]
    else:
        start = random.randrange(len(content))
        content[start : start + 3000] = random.randbytes(len(content[start : start + 3000]))
    (tmp_path / DATABASE).write_bytes(content)
    after = await stored_in(tmp_path)
    assert after == (Stored("another-id") if set_aside(tmp_path) else before)


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE outbox",
        "UPDATE documents SET life = 'x'",
        "UPDATE registers SET value = CAST(x'ff' AS TEXT)",
        "UPDATE registers SET value = '{\"half'",
        "PRAGMA user_version = 0",
        "PRAGMA user_version = -1",
    ],
)
async def test_rows_that_nobody_wrote_are_damage(tmp_path: Path, sql: str) -> None:
    await write_much(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as somebody, somebody:
        somebody.execute(sql)
    assert await stored_in(tmp_path) == Stored("another-id")
    assert len(set_aside(tmp_path)) == 1


async def test_damage_found_by_a_commit_ends_the_store_and_the_next_begins_anew(tmp_path: Path) -> None:
    await write_much(tmp_path)
    store = await SqliteStore.open(tmp_path, "not used")
    with (tmp_path / DATABASE).open("r+b") as database:
        database.write(bytes(os.fstat(database.fileno()).st_size))
    store._connection.execute("PRAGMA shrink_memory")  # it would not look at the file for what it knows
    told = rf"{DATABASE} is damaged \(.*set aside as {DATABASE}\.damaged-.*start again"
    with pytest.raises(StoreDamagedError, match=told):
        await store.commit([saved("title", "x", "no-7")])
    with pytest.raises(StoreError):
        await store.commit([SaveSeq("dev-01.abc", 1)])
    await store.close()
    assert len(set_aside(tmp_path)) == 1
    assert await stored_in(tmp_path) == Stored("another-id")


@pytest.mark.parametrize(
    "sql", ["UPDATE registers SET value = '{\"half'", "UPDATE documents SET life = 'x'", "DELETE FROM meta"]
)
async def test_damage_is_found_when_a_store_is_read_again(tmp_path: Path, sql: str) -> None:
    store = await SqliteStore.open(tmp_path, "new-id")
    await store.commit([saved("title", "x")])
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as somebody, somebody:
        somebody.execute(sql)
    with pytest.raises(StoreDamagedError, match=f"{DATABASE} is damaged"):
        await store.load()
    await store.close()
    assert await stored_in(tmp_path) == Stored("another-id")


# Room


async def test_a_full_disk_refuses_the_commit_whole_and_recovers(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path, "new-id")
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreFullError, match=rf"{DATABASE}: the disk is full"):
        await store.commit([SaveSeq("dev-01.abc", 1), saved("title", "x" * 100_000)])
    store._connection.execute("PRAGMA max_page_count = 100000")
    await store.commit([saved("title", "y")])
    stored = await store.load()
    assert stored.documents["site"].registers == {"title": Register(LATER, "y")}
    assert stored.seqs == {}
    await store.close()


async def test_a_data_dir_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        StoreError, match=r"file/data cannot be used as dataDir: Not a directory; it or a folder above it is a file"
    ):
        await SqliteStore.open(tmp_path / "file" / "data", "new-id")


async def test_a_disk_that_is_really_full_refuses_the_commit_whole_and_recovers(small_disk: Path) -> None:
    store = await SqliteStore.open(small_disk, "new-id")
    await store.commit([saved("title", "before")])
    ballast = fill(small_disk)
    with pytest.raises(StoreFullError, match=rf"{DATABASE}: the disk is full"):
        await store.commit([SaveSeq("dev-01.abc", 1), saved("title", "x" * 300_000)])
    assert (await store.load()).documents["site"].registers == {"title": Register(LATER, "before")}
    ballast.unlink()
    await store.commit([saved("title", "after")])
    await store.close()
    assert (await stored_in(small_disk)).documents["site"].registers == {"title": Register(LATER, "after")}


async def test_a_store_on_a_full_disk_says_so_when_it_cannot_be_opened(small_disk: Path) -> None:
    await write_much(small_disk)
    ballast = fill(small_disk)
    with pytest.raises(StoreFullError, match="the disk is full"):
        await SqliteStore.open(small_disk, "not used")
    ballast.unlink()
    assert len((await stored_in(small_disk)).documents) == 20
    assert not set_aside(small_disk)


async def test_the_room_is_looked_at_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    store = await SqliteStore.open(tmp_path, "new-id")
    first = store.disk()
    assert first.free_bytes > 0
    assert first.damaged == ()
    (tmp_path / f"{DATABASE}.damaged-20260314T092653.589Z").touch()
    assert store.disk() is first
    now_s += 1.0
    assert store.disk().damaged == (f"{DATABASE}.damaged-20260314T092653.589Z",)
    await store.close()


def test_a_disk_is_full_when_only_the_reserve_is_left(tmp_path: Path) -> None:
    assert Disk(RESERVE_BYTES - 1).is_full
    assert not Disk(RESERVE_BYTES).is_full
    assert store_file.look_at_disk(tmp_path / "gone" / DATABASE).is_full


def test_in_memory_there_is_room_until_a_test_takes_it() -> None:
    store = MemoryStore()
    assert not store.disk().is_full
    store.free_bytes = 0
    assert store.disk().is_full


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_data_dir_that_may_not_be_written_is_one_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=r"cannot be used: .*Permission denied"):
        await SqliteStore.open(tmp_path, "new-id")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("is_new", [True, False])
async def test_a_read_only_disk_is_one_clear_error(small_disk: Path, is_new: bool) -> None:
    if not is_new:
        await write_much(small_disk)
    await trio.run_process(["mount", "-o", "remount,ro", small_disk])
    with pytest.raises(
        StoreError, match=rf"{small_disk} cannot be used as dataDir: Read-only file system; mount it writable"
    ):
        await SqliteStore.open(small_disk, "new-id")


# Schemas


async def test_a_database_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    await (await SqliteStore.open(tmp_path, "new-id")).close()
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer meshd \\(schema 99, this one knows 5\\)"):
        await SqliteStore.open(tmp_path, "new-id")


async def test_a_database_of_schema_1_is_copied_and_keeps_its_documents(tmp_path: Path) -> None:
    file = tmp_path / DATABASE
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        migrate(connection, file, MIGRATIONS[:1])
        connection.execute("INSERT INTO meta VALUES ('store_id', 'first-id')")
        connection.execute("INSERT INTO documents VALUES ('site', '1.0.dev-01', NULL)")
        connection.execute("INSERT INTO registers VALUES ('site', 'title', '2.7.dev.02.example', '\"x\"')")
        connection.execute("INSERT INTO seqs VALUES ('dev-01.abc', 7)")
    store = await SqliteStore.open(tmp_path, "not used")
    documents = {"site": Document("site", LIFE, {"title": Register(LATER, "x")})}
    assert await store.load() == Stored("first-id", documents, seqs={"dev-01.abc": 7})
    await store.commit(
        [SaveConflict(LOST), SaveEvent(Emit("project:created", {}, 1, 1)), SaveSettings("shared", 1, {"a": 1})]
    )
    await store.close()
    store = await SqliteStore.open(tmp_path, "not used")
    stored = await store.load()
    assert (stored.documents, stored.conflicts, stored.settings) == (documents, (LOST,), {"shared": (1, {"a": 1})})
    await store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / f"{DATABASE}.v1")) as copy:
        assert copy.execute("SELECT slug FROM documents").fetchall() == [("site",)]
        assert copy.execute("PRAGMA user_version").fetchone() == (1,)


async def test_a_database_of_schema_2_is_copied_and_can_vote(tmp_path: Path) -> None:
    file = tmp_path / DATABASE
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        migrate(connection, file, MIGRATIONS[:2])
        connection.execute("INSERT INTO meta VALUES ('store_id', 'first-id')")
        connection.execute("INSERT INTO settings VALUES ('shared', 1, '{\"a\":1}')")
    store = await SqliteStore.open(tmp_path, "not used")
    before = Stored("first-id", settings={"shared": (1, {"a": 1})})
    assert await store.load() == before
    await store.commit([SaveBallot(Ballot(1, "dev-01", None))])
    await store.close()
    assert await stored_in(tmp_path) == evolve(before, ballot=Ballot(1, "dev-01", None))
    with contextlib.closing(sqlite3.connect(tmp_path / f"{DATABASE}.v2")) as copy:
        assert copy.execute("SELECT scope FROM settings").fetchall() == [("shared",)]
        assert copy.execute("PRAGMA user_version").fetchone() == (2,)


async def test_a_database_of_schema_3_is_copied_and_keeps_proposals_and_features(tmp_path: Path) -> None:
    file = tmp_path / DATABASE
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        migrate(connection, file, MIGRATIONS[:3])
        connection.execute("INSERT INTO meta VALUES ('store_id', 'first-id')")
        connection.execute("INSERT INTO ballot VALUES (1, 7, NULL, 'dev-01')")
    store = await SqliteStore.open(tmp_path, "not used")
    before = Stored("first-id", ballot=Ballot(7, None, "dev-01"))
    assert await store.load() == before
    proposal = Proposal(7, "site", "m1", "build", Stamp(7, 0, "dev-01"), "boot-1", 1, "dev-02", 1, 1_700_000_000_000)
    feature = Feature("feature-1-a", "boot-1", "site", "m1", "build", 1, 1_700_000_000_000)
    await store.commit([SaveProposal(proposal), SaveFeature(feature)])
    await store.close()
    assert await stored_in(tmp_path) == evolve(before, proposals=(proposal,), features=(feature,))
    with contextlib.closing(sqlite3.connect(tmp_path / f"{DATABASE}.v3")) as copy:
        assert copy.execute("SELECT term FROM ballot").fetchall() == [(7,)]
        assert copy.execute("PRAGMA user_version").fetchone() == (3,)


def test_a_database_of_an_older_schema_is_copied_then_migrated(tmp_path: Path) -> None:
    file = tmp_path / DATABASE
    first, second = ["CREATE TABLE a (x)", "INSERT INTO a VALUES (1)"], ["ALTER TABLE a ADD COLUMN y"]
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        migrate(connection, file, [first])
        assert [file] == list(tmp_path.iterdir())  # nothing to copy in a new one
        migrate(connection, file, [first, second])
        assert connection.execute("SELECT x, y FROM a").fetchall() == [(1, None)]
        with pytest.raises(sqlite3.OperationalError):
            migrate(connection, file, [first, second, ["INSERT INTO a VALUES (2, 2)", "no such statement"]])
        assert connection.execute("SELECT x, y FROM a").fetchall() == [(1, None)]
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    with contextlib.closing(sqlite3.connect(tmp_path / f"{DATABASE}.v1")) as copy:
        assert copy.execute("SELECT * FROM a").fetchall() == [(1,)]
        assert copy.execute("PRAGMA user_version").fetchone() == (1,)
