"""The words: their order, their text, and what the specification calls them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.model import Focus, Role, Stamp, Status, utc_text


@pytest.mark.parametrize(
    ("utc_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_773_480_413_589, "2026-03-14T09:26:53.589Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_utc_text(utc_ms: int, text: str) -> None:
    assert utc_text(utc_ms) == text


@given(st.integers(0, 253_402_300_799_999))
def test_utc_text_reads_back_as_the_same_millisecond(utc_ms: int) -> None:
    text = utc_text(utc_ms)
    moment = datetime.fromisoformat(text)
    assert len(text) == 24
    assert moment.tzinfo == UTC
    assert round(moment.timestamp() * 1000) == utc_ms


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (Status.ALIVE, "online"),
        (Status.SUSPECT, "online"),
        (Status.DRAINING, "draining"),
        (Status.LEFT, "offline"),
        (Status.FAILED, "offline"),
    ],
)
def test_a_status_is_shown_in_the_specifications_word(status: Status, shown: str) -> None:
    assert status.shown == shown
    assert status.is_online is (shown != "offline")


def test_every_status_has_a_word() -> None:
    assert {status.shown for status in Status} == {"online", "draining", "offline"}


def test_stamps_are_ordered_by_time_then_count_then_instance() -> None:
    ordered = [Stamp(1, 9, "z"), Stamp(2, 0, "b"), Stamp(2, 1, "a"), Stamp(2, 1, "b"), Stamp(10, 0, "a")]
    assert sorted(set(ordered)) == ordered


def test_a_stamp_as_text_names_all_three_parts() -> None:
    assert str(Stamp(1_800_000_000_000, 2, "dev.01")) == "1800000000000.2.dev.01"


def test_the_words_are_the_specifications() -> None:
    assert [role.value for role in Role] == ["primary", "worker"]
    assert [focus.value for focus in Focus] == ["fullstack", "frontend", "backend", "infra", "docs", "qa"]
