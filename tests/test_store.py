"""Both stores under one contract, then what only a disk can do: crash, damage, locks, a full disk, older schemas."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.documents import Change, Document, Kind, Register
from meshd.core.effects import SaveDocument, SaveOutbox, SaveSeq, TrimOutbox
from meshd.core.stored import Stored
from meshd.errors import StoreError, StoreFullError
from meshd.model import Stamp
from meshd.store import DATABASE, Entry, MemoryStore, SaveSeen, SqliteStore, Store, migrate

LIFE = Stamp(1, 0, "dev-01")
LATER = Stamp(2, 7, "dev.02.example")


def saved(path: str, value: str, slug: str = "site") -> SaveDocument:
    return SaveDocument(slug, LIFE, None, {path: Register(LATER, value)})


def change(seq: int) -> Change:
    return Change("dev-01.abc", seq, LATER, "site", LIFE, Kind.UPDATED, {"title": f"no. {seq}"}, ("goal",))


# Two ways to open a store again after it was closed: each test below runs with both.

Reopen = Callable[[Store | None], Awaitable[Store]]


@pytest.fixture(params=["sqlite", "memory"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    async def sqlite(_: Store | None) -> Store:
        return await SqliteStore.open(tmp_path / "data", "new-id")

    async def memory(before: Store | None) -> Store:
        return MemoryStore(await before.load() if before else Stored("new-id"))

    return sqlite if request.param == "sqlite" else memory


async def test_a_new_store_is_empty_and_has_the_id_it_was_given(reopen: Reopen) -> None:
    store = await reopen(None)
    assert await store.load() == Stored("new-id")
    await store.close()


async def test_what_was_committed_is_there_when_the_store_is_opened_again(reopen: Reopen) -> None:
    store = await reopen(None)
    gone = SaveDocument("site", LIFE, None, {"goal": Register(LATER, gone=True)})
    await store.commit([saved("title", "Überblick"), SaveSeq("dev-01.abc", 7), SaveSeen("site", {"slug": "site"})])
    await store.commit([gone, SaveOutbox(change(2)), SaveOutbox(change(1)), SaveSeq("dev-01.abc", 8)])
    await store.close()
    store = await reopen(store)
    registers = {"title": Register(LATER, "Überblick"), "goal": Register(LATER, gone=True)}
    assert await store.load() == Stored(
        store_id="new-id",
        documents={"site": Document("site", LIFE, registers)},
        outbox=(change(1), change(2)),
        seqs={"dev-01.abc": 8},
        seen={"site": {"slug": "site"}},
    )
    await store.close()


async def test_a_new_life_and_an_ended_one_leave_no_register_of_the_old(reopen: Reopen) -> None:
    store = await reopen(None)
    await store.commit([saved("title", "old"), saved("title", "old", "other")])
    await store.commit([SaveDocument("site", LATER, None, {"goal": Register(LATER, 1)}, replace=True)])
    assert (await store.load()).documents["site"] == Document("site", LATER, {"goal": Register(LATER, 1)})
    await store.commit([SaveDocument("site", LATER, LATER, {})])
    documents = (await store.load()).documents
    assert documents["site"] == Document("site", LATER, {}, ended=LATER)
    assert documents["other"].registers == {"title": Register(LATER, "old")}
    await store.close()


async def test_an_acknowledged_change_leaves_the_outbox_and_a_forgotten_file_is_not_seen(reopen: Reopen) -> None:
    store = await reopen(None)
    await store.commit([SaveOutbox(change(seq)) for seq in (1, 2, 3)] + [SaveSeen("site", {"a": 1})])
    await store.commit([TrimOutbox(2), SaveSeen("site", None)])
    stored = await store.load()
    assert stored.outbox == (change(3),)
    assert stored.seen == {}
    await store.close()


async def test_nothing_is_committed_after_close(reopen: Reopen) -> None:
    store = await reopen(None)
    await store.close()
    with pytest.raises(StoreError):
        await store.commit([SaveSeq("dev-01.abc", 1)])
    await store.close()


async def test_commits_made_at_the_same_time_all_arrive(reopen: Reopen) -> None:
    store = await reopen(None)
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(store.commit, [saved(f"key{number}", "v")])
    assert len((await store.load()).documents["site"].registers) == 20
    await store.close()


# Any sequence of commits reads back from disk as it does from memory.

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    # JSON has no lone surrogates.
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=3),
    max_leaves=4,
)
slugs = st.sampled_from(["site", "пример", "a b"])
stamps = st.builds(Stamp, st.integers(0, 2**53), st.integers(0, 9), st.sampled_from(["dev-01", "a.b.c"]))
registers = st.builds(Register, stamps, json_values) | st.builds(Register, stamps, gone=st.sampled_from([True]))
paths = st.sampled_from(["title", "goal", "milestones/m~1/title"])
records = st.one_of(
    st.builds(
        SaveDocument, slugs, stamps, st.none() | stamps, st.dictionaries(paths, registers, max_size=3), st.booleans()
    ),
    st.builds(
        lambda seq, stamp, fields: SaveOutbox(evolve(change(seq), stamp=stamp, fields=fields)),
        st.integers(1, 6),
        stamps,
        st.dictionaries(paths, json_values, max_size=2),
    ),
    st.builds(TrimOutbox, st.integers(0, 6)),
    st.builds(SaveSeq, st.sampled_from(["dev-01.abc", "dev-02.def"]), st.integers(0, 2**53)),
    st.builds(SaveSeen, slugs, st.none() | st.dictionaries(st.text("xyz", max_size=2), json_values, max_size=2)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(records, max_size=6), max_size=4))
def test_disk_and_memory_hold_the_same_after_any_commits(commits: list[list[Entry]]) -> None:
    async def compare() -> None:
        with tempfile.TemporaryDirectory() as data_dir:
            disk = await SqliteStore.open(Path(data_dir), "new-id")
            memory = MemoryStore(Stored("new-id"))
            for commit in commits:
                await disk.commit(commit)
                await memory.commit(commit)
            await disk.close()
            disk = await SqliteStore.open(Path(data_dir), "not used")
            # Compared as text: `true` is not 1, and the order of keys inside a value stays.
            assert repr(in_order(await memory.load())) == repr(in_order(await disk.load()))
            await disk.close()

    trio.run(compare)


def in_order(stored: Stored) -> Stored:
    documents = {
        slug: evolve(document, registers=dict(sorted(document.registers.items())))
        for slug, document in sorted(stored.documents.items())
    }
    return evolve(
        stored, documents=documents, seqs=dict(sorted(stored.seqs.items())), seen=dict(sorted(stored.seen.items()))
    )


# The twin in memory loses what was not committed.


async def test_a_commit_in_memory_takes_its_time(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore(commit_s=0.004)
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(store.commit, [SaveSeq("dev-01.abc", number)])
    assert trio.current_time() == pytest.approx(0.012)


async def test_a_commit_under_way_is_lost_in_a_crash(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore(commit_s=1)
    await store.commit([SaveSeq("dev-01.abc", 1)])

    async def lost() -> None:
        with pytest.raises(StoreError):
            await store.commit([SaveSeq("dev-01.abc", 2)])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lost)
        await trio.sleep(0.5)
        store.crash()
    assert (await store.load()).seqs == {"dev-01.abc": 1}


async def test_a_picture_once_loaded_does_not_change(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore()
    before = await store.load()
    await store.commit([saved("title", "x"), SaveSeq("dev-01.abc", 1), SaveOutbox(change(1)), SaveSeen("site", {})])
    assert before == Stored("memory")


# The disk.

COMMIT_FOR_EVER = """
import sys, trio
from pathlib import Path
from meshd.core.documents import Register
from meshd.core.effects import SaveDocument, SaveSeq
from meshd.model import Stamp
from meshd.store import SqliteStore

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]), "new-id")
    for count in range(1, 1_000_000):
        register = Register(Stamp(count, 0, "dev-01"), count)
        await store.commit([SaveDocument("site", Stamp(1, 0, "dev-01"), None, {f"key{count}": register}),
                            SaveSeq("dev-01.abc", count)])
        print(count, flush=True)

trio.run(main)
"""


def test_everything_said_to_be_durable_survives_kill_9(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", COMMIT_FOR_EVER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    durable = [int(process.stdout.readline()) for _ in range(100)]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate(timeout=10)
    durable += [int(line) for line in rest.splitlines()]

    async def read_again() -> Stored:
        store = await SqliteStore.open(tmp_path, "another-id")
        stored = await store.load()
        await store.close()
        return stored

    stored = trio.run(read_again)
    # One commit more may have reached the disk before it could be printed; it came whole.
    committed = stored.seqs["dev-01.abc"]
    assert committed in (durable[-1], durable[-1] + 1)
    assert stored.documents["site"].registers.keys() == {f"key{count}" for count in range(1, committed + 1)}
    assert stored.store_id == "new-id"


async def test_a_commit_with_a_value_that_is_not_json_leaves_nothing_behind(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path, "new-id")
    with pytest.raises(TypeError):
        await store.commit([saved("title", "x"), SaveDocument("site", LIFE, None, {"bad": Register(LATER, object())})])  # type: ignore[arg-type]
    await store.commit([SaveSeq("dev-01.abc", 1)])
    assert await store.load() == Stored("new-id", seqs={"dev-01.abc": 1})
    await store.close()


async def test_a_commit_that_has_begun_ends_although_it_is_cancelled(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path, "new-id")
    ended = trio.Event()

    async def commit() -> None:
        await store.commit([SaveSeq("dev-01.abc", 1)])
        ended.set()

    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as somebody:
        somebody.execute("BEGIN IMMEDIATE")  # so that the commit has to wait
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            somebody.execute("ROLLBACK")
    assert ended.is_set()
    assert (await store.load()).seqs == {"dev-01.abc": 1}
    await store.close()


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


async def test_a_damaged_database_is_named_and_its_lock_given_back(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"this is not a database" * 100)
    for _ in range(2):
        with pytest.raises(StoreError, match=rf"{DATABASE} is damaged .* out of the way and start again"):
            await SqliteStore.open(tmp_path, "new-id")


@pytest.mark.parametrize(
    "sql", ["UPDATE registers SET value = '{\"half'", "UPDATE documents SET life = 'x'", "DELETE FROM meta"]
)
async def test_damage_inside_the_database_is_found_when_it_is_read(tmp_path: Path, sql: str) -> None:
    store = await SqliteStore.open(tmp_path, "new-id")
    await store.commit([saved("title", "x")])
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as somebody, somebody:
        somebody.execute(sql)
    with pytest.raises(StoreError, match=f"{DATABASE} is damaged"):
        await store.load()
    await store.close()


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
    with pytest.raises(StoreError, match=r"file/data cannot be used: .*Not a directory"):
        await SqliteStore.open(tmp_path / "file" / "data", "new-id")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_data_dir_that_is_read_only_is_one_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=r"cannot be used: .*Permission denied"):
        await SqliteStore.open(tmp_path, "new-id")
    tmp_path.chmod(0o700)


async def test_a_database_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    await (await SqliteStore.open(tmp_path, "new-id")).close()
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer meshd \\(schema 99, this one knows 1\\)"):
        await SqliteStore.open(tmp_path, "new-id")


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
