"""Contact with a primary, and the words for the end of a partition."""

from __future__ import annotations

import pytest

from meshd.configuration import Hivemind
from meshd.core.effects import Emit, Level, Note
from meshd.core.partition import Contact, Partition
from meshd.model import Now

HIVEMIND = Hivemind(heartbeat_interval_ms=30_000, peer_ttl_ms=120_000)


@pytest.mark.parametrize(
    ("duration_ms", "is_start", "is_brief"),
    [(29_999, False, True), (30_000, False, False), (119_999, True, True), (120_000, True, False)],
)
def test_what_is_over_within_a_heartbeat_or_a_start_is_brief(duration_ms: int, is_start: bool, is_brief: bool) -> None:
    assert Partition(0, duration_ms, is_start).is_brief(HIVEMIND) is is_brief


def test_it_lasts_until_a_primary_has_taken_us_in() -> None:
    contact = Contact(partition_since=Now(10.0, 5_000))
    contact.found()
    assert contact.partition_since is not None
    assert contact.taken_in(Now(12.5, 9_000)) == Partition(5_000, 2_500, is_start=True)
    assert contact.taken_in(Now(13.0, 9_500)) is None
    contact.lost(Now(20.0, 16_000))
    contact.lost(Now(21.0, 17_000))
    assert contact.taken_in(Now(22.0, 18_000)) == Partition(16_000, 2_000, is_start=False)


def test_its_end_is_told_in_the_words_of_the_specification() -> None:
    told = Partition(0, 1_500, is_start=False).told("dev-02", replayed=3, audited=2)
    assert list(told) == [
        Note(Level.INFO, "Partition recovered after 1500ms -- replaying 3 queued changes"),
        Note(Level.INFO, "Partition cleared -- was disconnected since 1970-01-01T00:00:00.000Z"),
        Emit(
            "sync:partition-recovered",
            {"instanceId": "dev-02", "partitionDurationMs": 1_500, "replayed": 3, "auditedClaims": 2},
        ),
    ]
