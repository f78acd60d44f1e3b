"""Stamps grow, whatever the wall clock does and whoever else writes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshd.core.clock import Clock
from meshd.model import Stamp
from tests.core.strategies import stamps

_WALL_MS = st.integers(0, 6)
_READINGS = st.lists(st.one_of(_WALL_MS, stamps), max_size=40)


@given(_READINGS)
def test_a_stamp_is_greater_than_all_given_out_or_observed_before(readings: list[int | Stamp]) -> None:
    clock = Clock("dev-00")  # sorts before every other: the instanceId must not be what makes it greater
    greatest = Stamp(0, 0, "")
    for reading in readings:
        if isinstance(reading, Stamp):
            clock.observe(reading)
            greatest = max(greatest, reading)
        else:
            stamp = clock.next(reading)
            assert stamp > greatest
            greatest = stamp


@given(_READINGS)
def test_a_stamp_is_never_behind_the_wall_clock(readings: list[int | Stamp]) -> None:
    clock = Clock("dev-00")
    for reading in readings:
        if isinstance(reading, Stamp):
            clock.observe(reading)
        else:
            assert clock.next(reading).utc_ms >= reading


def test_the_wall_clock_is_taken_where_it_is_ahead() -> None:
    clock = Clock("dev-01")
    assert clock.next(5) == Stamp(5, 0, "dev-01")
    assert clock.next(5) == Stamp(5, 1, "dev-01")
    assert clock.next(6) == Stamp(6, 0, "dev-01")


def test_a_clock_that_jumps_back_leaves_stamps_growing() -> None:
    clock = Clock("dev-01")
    clock.next(5_000)
    assert clock.next(1_000) == Stamp(5_000, 1, "dev-01")


def test_whoever_has_seen_a_stamp_writes_with_a_greater_one() -> None:
    clock = Clock("dev-01")
    clock.observe(Stamp(9, 4, "dev-99"))
    assert clock.next(3) == Stamp(9, 5, "dev-01")


def test_an_older_stamp_moves_nothing() -> None:
    clock = Clock("dev-01")
    clock.next(9)
    clock.observe(Stamp(8, 7, "dev-99"))
    assert clock.next(9) == Stamp(9, 1, "dev-01")
