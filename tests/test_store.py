"""Both stores under one contract, then what only a disk can do: crash, damage, locks, a full disk, older schemas."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.ballot import MAX_TURNS, Ballot, Proposal, Turn
from meshd.core.documents import Change, Conflict, Document, Kind, Register
from meshd.core.effects import (
    DropConflict,
    DropFeature,
    DropOutbox,
    DropProposal,
    Emit,
    ForgetDocument,
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
from meshd.core.stored import Stored
from meshd.errors import StoreError
from meshd.model import JsonObject, Stamp
from meshd.store import DATABASE, Entry, MemoryStore, SaveSeen, SqliteStore, Store
from meshd.store_rows import EVENTS_READ

LIFE = Stamp(1, 0, "dev-01")
LATER = Stamp(2, 7, "dev.02.example")


def saved(path: str, value: str, slug: str = "site") -> SaveDocument:
    return SaveDocument(slug, LIFE, None, {path: Register(LATER, value)})


def change(seq: int) -> Change:
    fields: JsonObject = {"title": f"no. {seq}"}
    return Change("dev-01.abc", seq, LATER, "site", LIFE, Kind.UPDATED, fields, ("goal",), {"title": LIFE})


def lost(name: str, value: str = "lost") -> Conflict:
    return Conflict(name, "site", LIFE, "title", Stamp(1, 5, "dev-03"), LATER, 1_700_000_000_000, value)


def told(number: int, type_: str = "project:updated") -> Emit:
    return Emit(type_, {"slug": f"no. {number}"}, number, 1_700_000_000_000 + number)


def proposed(phase: str, term: int = 3) -> Proposal:
    return Proposal(
        term, "site", "m1", phase, Stamp(7, 0, "dev-01"), f"{term}.{phase}", 2, "dev-02", None, 1_700_000_000_000, 1
    )


def worked_on(name: str, claimed_ms: int, **more: Any) -> Feature:
    return Feature(name, f"boot-{name}", "site", "m1", "build", 2, claimed_ms, fields={"title": name}, **more)


def turn(number: int, leader: str | None = "dev-01") -> Turn:
    return Turn(number, 1_700_000_000_000 + number, number, leader, "elected")


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


async def test_changes_that_were_overwritten_leave_the_outbox_one_by_one(reopen: Reopen) -> None:
    store = await reopen(None)
    await store.commit([SaveOutbox(change(seq)) for seq in (1, 2, 3, 4)])
    await store.commit([SaveOutbox(change(5)), DropOutbox((1, 3, 5, 99))])
    assert (await store.load()).outbox == (change(2), change(4))
    await store.close()


async def test_a_forgotten_document_leaves_nothing_behind_and_may_come_again(reopen: Reopen) -> None:
    store = await reopen(None)
    await store.commit([saved("title", "x"), saved("title", "x", "other")])
    await store.commit([ForgetDocument("site"), ForgetDocument("unknown")])
    assert (await store.load()).documents.keys() == {"other"}
    await store.commit([ForgetDocument("other"), saved("goal", "y", "other")])
    assert (await store.load()).documents["other"].registers == {"goal": Register(LATER, "y")}
    await store.close()


async def test_conflicts_are_kept_in_the_order_they_were_found_until_they_are_settled(reopen: Reopen) -> None:
    store = await reopen(None)
    removal = evolve(lost("c"), value=None, gone=True)
    null = evolve(lost("d"), value=None)
    await store.commit([SaveConflict(lost("b")), SaveConflict(lost("a")), SaveConflict(removal), SaveConflict(null)])
    await store.commit([DropConflict("a"), DropConflict("unknown"), SaveConflict(lost("b", "found again"))])
    await store.close()
    store = await reopen(store)
    assert (await store.load()).conflicts == (lost("b", "found again"), removal, null)
    await store.close()


async def test_settings_of_each_scope_are_replaced_whole(reopen: Reopen) -> None:
    store = await reopen(None)
    await store.commit([SaveSettings("shared", 1, {"a": 1, "b": None}), SaveSettings("local", 4, {"c": [1]})])
    await store.commit([SaveSettings("shared", 2, {"a": 2})])
    assert (await store.load()).settings == {"shared": (2, {"a": 2}), "local": (4, {"c": [1]})}
    await store.close()


async def test_events_come_back_with_their_ids_and_times_in_order(reopen: Reopen) -> None:
    store = await reopen(None)
    await store.commit([SaveEvent(told(2)), SaveEvent(told(1)), SaveEvent(told(3, "sync:peer-left"))])
    await store.commit([SaveEvent(told(4)), TrimEvents(2)])
    await store.close()
    store = await reopen(store)
    assert repr((await store.load()).events) == repr((told(2), told(3, "sync:peer-left"), told(4)))
    await store.close()


async def test_of_very_many_events_the_latest_are_read(reopen: Reopen) -> None:
    store = await reopen(None)
    await store.commit([SaveEvent(told(number)) for number in range(1, EVENTS_READ + 11)])
    assert [event.id for event in (await store.load()).events] == list(range(11, EVENTS_READ + 11))
    await store.close()


async def test_the_ballot_is_one_and_the_last_one_counts(reopen: Reopen) -> None:
    store = await reopen(None)
    await store.commit([SaveBallot(Ballot(3, "dev-02", "dev-01")), SaveBallot(Ballot(4, "dev-02"))])
    await store.close()
    store = await reopen(store)
    assert (await store.load()).ballot == Ballot(4, "dev-02")
    await store.commit([SaveBallot(Ballot(5, None, "dev-03", 120_000))])
    assert (await store.load()).ballot == Ballot(5, None, "dev-03", 120_000)
    await store.close()


async def test_a_phase_has_one_proposal_until_it_is_decided(reopen: Reopen) -> None:
    store = await reopen(None)
    await store.commit([SaveProposal(proposed(phase)) for phase in ("p1", "p2", "p3")])
    await store.commit([SaveProposal(proposed("p1", 4)), DropProposal("site", "m1", "p2"), DropProposal("x", "y", "z")])
    await store.commit([DropProposal("site", "m1", "p3"), SaveProposal(proposed("p3", 5))])
    await store.close()
    store = await reopen(store)
    assert (await store.load()).proposals == (proposed("p1", 4), proposed("p3", 5))
    await store.close()


async def test_features_are_kept_in_the_order_in_which_they_were_claimed_until_they_are_dropped(reopen: Reopen) -> None:
    store = await reopen(None)
    first = worked_on("b", 5, provisional=True)
    await store.commit([SaveFeature(worked_on("a", 7)), SaveFeature(worked_on("c", 5)), SaveFeature(first)])
    await store.commit([SaveFeature(worked_on("d", 1)), DropFeature("d"), DropFeature("unknown")])
    last = worked_on("a", 7, status=FeatureStatus.DONE, is_held=False, released="lost")
    await store.commit([DropFeature("c"), DropFeature("a"), SaveFeature(last)])
    await store.close()
    store = await reopen(store)
    assert repr((await store.load()).features) == repr((first, last))
    await store.close()


async def test_of_the_leadership_history_the_newest_turns_are_kept_in_their_order(reopen: Reopen) -> None:
    store = await reopen(None)
    await store.commit([SaveLeadership(turn(2, None)), SaveLeadership(turn(1))])
    assert (await store.load()).turns == (turn(1), turn(2, None))
    await store.commit([SaveLeadership(turn(number)) for number in range(3, MAX_TURNS + 1)])
    await store.commit([SaveLeadership(turn(MAX_TURNS + 1))])
    await store.close()
    store = await reopen(store)
    assert [kept.id for kept in (await store.load()).turns] == list(range(2, MAX_TURNS + 2))
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
objects = st.dictionaries(st.sampled_from("ab"), json_values, max_size=2)
conflicts = st.builds(
    lambda register, **fields: Conflict(**fields, value=register.value, gone=register.gone),
    registers,
    id=st.sampled_from("abc"),
    slug=slugs,
    life=stamps,
    path=paths | st.just(""),
    stamp=stamps,
    winner=stamps,
    found_ms=st.integers(0, 2**53),
)
phases = st.sampled_from(["p1", "фаза"])
hosts = st.sampled_from(["dev-01", "dev-02"])
terms = st.integers(0, 2**53 - 1)
claims = st.sampled_from(["boot-1", "boot-2"])
features = st.builds(
    Feature,
    *(st.sampled_from("abc"), claims, slugs, phases, phases, terms, st.integers(0, 2), st.sampled_from(FeatureStatus)),
    *(st.booleans(), st.booleans(), st.none() | st.just("lost"), objects),
)
turn_ids = st.integers(1, 5) | st.integers(MAX_TURNS, MAX_TURNS + 3)
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
    st.builds(DropOutbox, st.lists(st.integers(1, 6), max_size=3).map(tuple)),
    st.builds(ForgetDocument, slugs),
    st.builds(SaveStoreId, st.sampled_from(["one", "two"])),
    st.builds(SaveSettings, st.sampled_from(["shared", "local"]), st.integers(0, 9), objects),
    st.builds(
        SaveEvent, st.builds(Emit, st.sampled_from(["a:b", "c:d"]), objects, st.integers(1, 6), st.integers(0, 2**53))
    ),
    st.builds(TrimEvents, st.integers(0, 7)),
    st.builds(SaveConflict, conflicts),
    st.builds(DropConflict, st.sampled_from("abc")),
    st.builds(SaveBallot, st.builds(Ballot, terms, st.none() | hosts, st.none() | hosts)),
    st.builds(
        SaveProposal,
        st.builds(
            Proposal, terms, slugs, phases, phases, stamps, claims, terms, hosts, st.none() | terms, terms, terms
        ),
    ),
    st.builds(DropProposal, slugs, phases, phases),
    st.builds(SaveFeature, features),
    st.builds(DropFeature, st.sampled_from("abc")),
    st.builds(SaveLeadership, st.builds(Turn, turn_ids, terms, terms, st.none() | hosts, st.just("elected"))),
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
        stored,
        documents=documents,
        seqs=dict(sorted(stored.seqs.items())),
        seen=dict(sorted(stored.seen.items())),
        settings=dict(sorted(stored.settings.items())),
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
from meshd.model import JsonObject, Stamp
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


async def test_compacting_gives_the_room_of_what_was_forgotten_back(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path, "abc")
    slugs = [f"site-{number}" for number in range(8)]
    registers = {f"p{number}": Register(LATER, "x" * 1000) for number in range(700)}
    await store.commit([SaveDocument(slug, LIFE, None, registers) for slug in slugs])
    await store.commit([SaveSeq("dev-02.abc", 7), *(ForgetDocument(slug) for slug in slugs)])
    for _ in range(3):
        await store.compact()
    assert (await store.load()).seqs == {"dev-02.abc": 7}
    await store.close()
    assert (tmp_path / DATABASE).stat().st_size < 200_000


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
