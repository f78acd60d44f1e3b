"""`meshd.events`: cursors over the latest events."""

from __future__ import annotations

import tracemalloc

import orjson
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.effects import Emit
from meshd.events import EventStream, Gap, Reading

NOW_MS = 1_773_480_413_589


def event(number: int, kind: str = "sync:peer-left") -> Emit:
    return Emit(kind, {"instanceId": f"dev-{number}"}, id=number, utc_ms=NOW_MS)


def stream(*ids: int, kept: int = 100) -> EventStream:
    return EventStream(map(event, ids), kept)


def everything(_: str) -> bool:
    return True


def ids(reading: Reading) -> list[int]:
    return [told.id for told in reading.events]


def test_an_event_is_encoded_with_its_id_and_time() -> None:
    (told,) = stream(1).after(0, 10, everything).events
    assert orjson.loads(told.data) == {
        "id": 1,
        "type": "sync:peer-left",
        "timestamp": "2026-03-14T09:26:53.589Z",
        "payload": {"instanceId": "dev-1"},
    }


def test_it_goes_on_where_an_earlier_process_ended() -> None:
    events = stream(41, 42)
    events.append(event(43))
    assert ids(events.after(40, 10, everything)) == [41, 42, 43]
    assert (events.first_id, events.last_id) == (41, 43)


def test_an_empty_one_has_neither_events_nor_gaps() -> None:
    assert stream().after(0, 10, everything) == Reading(None, (), 0)
    assert stream().latest(10, everything) == Reading(None, (), 0)


def test_a_reader_goes_on_from_its_cursor() -> None:
    events = stream(1, 2, 3, 4, 5)
    first = events.after(0, 2, everything)
    second = events.after(first.cursor, 2, everything)
    third = events.after(second.cursor, 2, everything)
    assert [ids(first), ids(second), ids(third)] == [[1, 2], [3, 4], [5]]
    assert ids(events.after(third.cursor, 2, everything)) == []


def test_what_was_trimmed_is_a_gap() -> None:
    events = stream(*range(1, 11), kept=4)
    reading = events.after(2, 100, everything)
    assert reading.gap == Gap(3, 6, "trimmed")
    assert ids(reading) == [7, 8, 9, 10]
    assert events.after(6, 100, everything).gap is None
    assert reading.gap.json() == {"type": "gap", "from": 3, "to": 6, "reason": "trimmed"}


def test_an_id_from_the_future_is_of_another_database() -> None:
    reading = stream(1, 2, 3).after(500, 100, everything)
    assert reading == Reading(Gap(1, 3, "unknown-id"), (), 3)


def test_what_is_not_wanted_moves_the_cursor() -> None:
    events = EventStream(event(number, "a" if number % 3 else "b") for number in range(1, 10))
    reading = events.after(0, 2, lambda kind: kind == "b")
    assert (ids(reading), reading.cursor) == ([3, 6], 6)
    assert events.after(6, 2, lambda kind: kind == "c").cursor == 9


def test_the_latest_are_in_order() -> None:
    events = EventStream(event(number, "a" if number % 2 else "b") for number in range(1, 10))
    reading = events.latest(3, lambda kind: kind == "a")
    assert (ids(reading), reading.cursor) == ([5, 7, 9], 9)


@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=40),
    st.integers(1, 20),
    st.integers(1, 5),
    st.integers(0, 30),
)
def test_a_reader_gets_each_event_once_or_is_told_of_the_gap(
    bursts: list[int], kept: int, limit: int, start: int
) -> None:
    """However slow it is: before each of its reads as many events come as `bursts` says."""
    events = EventStream((), kept)
    heard: list[int] = list(range(1, start + 1))
    cursor = start
    for burst in [start, *bursts, *([0] * 50)]:
        for number in range(events.last_id + 1, events.last_id + burst + 1):
            events.append(event(number))
        reading = events.after(cursor, limit, everything)
        if reading.gap:
            assert reading.gap.first == cursor + 1
            heard += range(reading.gap.first, reading.gap.last + 1)
        heard += ids(reading)
        cursor = reading.cursor
    assert heard == list(range(1, events.last_id + 1))


async def test_readers_are_woken_by_the_next_event(nursery: trio.Nursery) -> None:
    events = stream(1)
    woken: list[int] = []

    async def read(cursor: int) -> None:
        await events.wait(cursor)
        woken.append(cursor)

    for cursor in (0, 1, 1, 2):
        nursery.start_soon(read, cursor)
    await trio.testing.wait_all_tasks_blocked()
    assert woken == [0]
    events.append(event(2))
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(woken) == [0, 1, 1]
    events.close()
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(woken) == [0, 1, 1, 2]


async def test_nobody_waits_on_a_closed_one() -> None:
    events = stream(1)
    events.close()
    with trio.fail_after(1):
        await events.wait(1)
    assert events.closed


@pytest.mark.parametrize("kept", [1, 3])
def test_no_more_are_held_than_are_kept(kept: int) -> None:
    events = stream(*range(1, 1000), kept=kept)
    assert len(events.after(0, 10_000, everything).events) == kept


def test_ten_thousand_events_take_a_few_mebibytes() -> None:
    tracemalloc.start()
    try:
        events = stream(*range(1, 10_001), kept=10_000)
        size_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert events.last_id == 10_000
    assert size_bytes < 8 * 1024 * 1024
