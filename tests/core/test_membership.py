"""The membership table: who is there, judged on our own monotonic clock."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.effects import Effect, Emit, Level, Note
from meshd.core.membership import (
    CAUSE_OF_STATUS,
    MAX_MEMBERS,
    TRANSITIONS,
    Cause,
    Member,
    Membership,
    ttl_check_interval_s,
)
from meshd.core.messages import Goodbye, Heartbeat, Identity, PresenceRow, UtcMs
from meshd.model import Capacity, Dialect, Now, Status

TTL_MS = 120_000
TTL_S = 120.0
UTC_MS = 1_773_480_413_589
SENT_AT = UtcMs(UTC_MS)


def at(mono_s: float, wall_shift_ms: int = 0) -> Now:
    return Now(mono_s, UTC_MS + round(mono_s * 1000) + wall_shift_ms)


def table(*peers: str) -> Membership:
    """A table in which these peers were introduced at 0 s."""
    membership = Membership("dev-01", TTL_MS)
    for peer in peers:
        list(membership.introduced(identity(peer), at(0)))
    return membership


def identity(peer: str, boot: str = "boot1") -> Identity:
    return Identity(peer, SENT_AT, protocol=1, boot=boot)


def heartbeat(peer: str, boot: str = "boot1", status: Status = Status.ALIVE) -> Heartbeat:
    return Heartbeat(peer, SENT_AT, boot=boot, status=status)


def status_of(membership: Membership, peer: str = "dev-02") -> Status:
    return membership.members[peer].status


def check(membership: Membership, now: Now) -> list[Effect]:
    """The check of the TTL, as a node does it: who was deaf forgives first."""
    if late_s := membership.deaf_s(now):
        membership.forgive(late_s, now)
    return list(membership.check_ttl(now))


def checked(membership: Membership, *times_s: float) -> list[Effect]:
    """Check the TTL at each of these times."""
    return [effect for time_s in times_s for effect in check(membership, at(time_s))]


def ticks(from_s: float, until_s: float) -> list[float]:
    """The times at which the check is due."""
    interval_s = ttl_check_interval_s(TTL_MS)
    return [from_s + interval_s * number for number in range(int((until_s - from_s) / interval_s) + 1)]


def alerts(effects: list[Effect]) -> list[str]:
    return [effect.text for effect in effects if isinstance(effect, Note) and effect.text.startswith("ALERT")]


def events(effects: list[Effect]) -> list[Emit]:
    return [effect for effect in effects if isinstance(effect, Emit)]


# The table of transitions


def test_every_status_has_an_answer_to_every_cause() -> None:
    assert set(TRANSITIONS) == set(product(Status, Cause))


def test_what_a_stated_status_means_is_known_for_each() -> None:
    assert set(CAUSE_OF_STATUS) == set(Status)


@pytest.mark.parametrize("before", list(Status))
def test_a_peer_that_says_it_is_alive_is(before: Status) -> None:
    assert TRANSITIONS[before, Cause.ALIVE] is Status.ALIVE


@pytest.mark.parametrize("before", list(Status))
def test_a_goodbye_always_means_left(before: Status) -> None:
    assert TRANSITIONS[before, Cause.GOODBYE] is Status.LEFT


@pytest.mark.parametrize("before", list(Status))
def test_silence_always_means_failed(before: Status) -> None:
    assert TRANSITIONS[before, Cause.SILENCE] is Status.FAILED


@pytest.mark.parametrize("before", list(Status))
def test_a_lost_link_makes_an_online_peer_suspect_and_changes_nothing_for_others(before: Status) -> None:
    expected = Status.SUSPECT if before.is_online else before
    assert TRANSITIONS[before, Cause.LINK_LOST] is expected


@pytest.mark.parametrize("cause", [Cause.LINK_LOST, Cause.SILENCE, Cause.GOODBYE])
def test_only_what_is_said_of_a_peer_brings_it_back(cause: Cause) -> None:
    assert not [before for before in Status if not before.is_online and TRANSITIONS[before, cause].is_online]


# What is told


def test_the_alert_has_the_specifications_words() -> None:
    membership = table("dev-02")
    list(membership.beat(heartbeat("dev-02"), at(4)))
    found = checked(membership, *ticks(0, 130))
    assert alerts(found) == [
        "ALERT: Peer dev-02 unreachable for >120000ms (last seen 2026-03-14T09:26:57.589Z) -- marking offline"
    ]
    assert events(found) == [
        Emit(
            "sync:peer-unreachable",
            {"instanceId": "dev-02", "lastSeen": "2026-03-14T09:26:57.589Z", "peerTtlMs": 120_000},
        )
    ]
    assert [effect.level for effect in found if isinstance(effect, Note)] == [Level.WARNING]


def test_a_failure_is_told_once() -> None:
    membership = table("dev-02")
    assert len(alerts(checked(membership, *ticks(0, 1000)))) == 1


def test_a_goodbye_is_told_without_an_alert() -> None:
    found = list(table("dev-02").left(Goodbye("dev-02", SENT_AT, boot="boot1")))
    assert not alerts(found)
    assert events(found) == [Emit("sync:peer-left", {"instanceId": "dev-02"})]


def test_a_peer_that_comes_back_is_told() -> None:
    membership = table("dev-02")
    checked(membership, *ticks(0, 130))
    assert events(list(membership.beat(heartbeat("dev-02"), at(131)))) == [
        Emit("sync:peer-online", {"instanceId": "dev-02"})
    ]


@pytest.mark.parametrize("status", list(Status))
def test_a_status_that_stays_is_not_told(status: Status) -> None:
    membership = table("dev-02")
    row = PresenceRow("dev-02", 0, status=status)
    list(membership.reported(row, at(1)))
    assert list(membership.reported(row, at(2))) == []


# Liveness


@pytest.mark.parametrize(("silent_s", "expected"), [(119.9, Status.ALIVE), (120.1, Status.FAILED)])
def test_a_peer_silent_for_the_ttl_has_failed(silent_s: float, expected: Status) -> None:
    membership = table("dev-02")
    checked(membership, *ticks(0, 110), silent_s)
    assert status_of(membership) is expected


@pytest.mark.parametrize("wall_shift_ms", [-3_600_000, -1, 1, 3_600_000])
def test_a_wall_clock_that_jumps_fails_nobody_and_saves_nobody(wall_shift_ms: int) -> None:
    membership = table("dev-02", "dev-03")
    for time_s in ticks(0, 119):
        list(membership.beat(heartbeat("dev-03"), at(time_s, wall_shift_ms)))
        check(membership, at(time_s, wall_shift_ms))
    assert (status_of(membership), status_of(membership, "dev-03")) == (Status.ALIVE, Status.ALIVE)
    check(membership, at(120.1, wall_shift_ms))
    assert (status_of(membership), status_of(membership, "dev-03")) == (Status.FAILED, Status.ALIVE)


@pytest.mark.parametrize("kind", ["frame", "heartbeat", "identity", "presence"])
def test_whatever_is_heard_is_contact(kind: str) -> None:
    membership = table("dev-02")
    match kind:
        case "frame":
            membership.contact("dev-02", at(60))
        case "heartbeat":
            list(membership.beat(heartbeat("dev-02"), at(60)))
        case "identity":
            list(membership.introduced(identity("dev-02"), at(60)))
        case "presence":
            list(membership.reported(PresenceRow("dev-02", 10_000), at(70)))
    checked(membership, *ticks(0, 170))
    assert status_of(membership) is Status.ALIVE
    checked(membership, 180.1)
    assert status_of(membership) is Status.FAILED


def test_an_older_word_of_the_primary_does_not_take_contact_back() -> None:
    membership = table("dev-02")
    membership.contact("dev-02", at(60))
    list(membership.reported(PresenceRow("dev-02", 50_000), at(61)))
    assert membership.members["dev-02"].contact_s == 60


def test_a_lost_link_makes_suspect_and_the_ttl_decides() -> None:
    membership = table("dev-02")
    found = list(membership.link_lost("dev-02"))
    assert status_of(membership) is Status.SUSPECT
    assert status_of(membership).is_online
    assert not alerts(found)
    found = checked(membership, *ticks(0, 130))
    assert status_of(membership) is Status.FAILED
    assert len(alerts(found)) == 1


def test_a_suspect_that_comes_back_in_time_is_alive_without_an_alert() -> None:
    membership = table("dev-02")
    list(membership.link_lost("dev-02"))
    found = [*checked(membership, *ticks(0, 60)), *membership.introduced(identity("dev-02"), at(61))]
    assert status_of(membership) is Status.ALIVE
    assert not alerts(found)
    assert not events(found)


@pytest.mark.parametrize(("peer_ttl_ms", "interval_s"), [(120_000, 10.0), (40_000, 10.0), (20_000, 5.0), (1_000, 0.25)])
def test_the_ttl_is_checked_every_quarter_of_it_and_at_least_every_10_s(peer_ttl_ms: int, interval_s: float) -> None:
    assert ttl_check_interval_s(peer_ttl_ms) == interval_s


# While we were deaf


@pytest.mark.parametrize("slept_s", [111, 3600, 86_400 * 30])
def test_a_host_that_slept_fails_nobody(slept_s: float) -> None:
    membership = table("dev-02", "dev-03")
    checked(membership, *ticks(0, 30))
    membership.contact("dev-03", at(30))
    assert checked(membership, 30 + slept_s) == []
    assert {member.status for member in membership.members.values()} == {Status.ALIVE}


def test_after_a_sleep_the_rest_of_the_ttl_still_counts() -> None:
    membership = table("dev-02")
    checked(membership, *ticks(0, 30))
    woke_s = 30 + 10 + 3600
    checked(membership, *ticks(woke_s, woke_s + 70))
    assert status_of(membership) is Status.ALIVE
    checked(membership, woke_s + 80.1)
    assert status_of(membership) is Status.FAILED


def test_a_check_a_little_late_forgives_nothing() -> None:
    """Else a host whose every check is late would never find anybody silent."""
    membership = table("dev-02")
    checked(membership, *(12.9 * number for number in range(11)))
    assert status_of(membership) is Status.FAILED


def test_a_peer_heard_since_waking_is_not_heard_in_the_future() -> None:
    membership = table("dev-02")
    checked(membership, *ticks(0, 30))
    membership.contact("dev-02", at(3630))
    checked(membership, 3631)
    assert membership.members["dev-02"].contact_s <= 3631


@given(st.lists(st.floats(0, 500), min_size=1, max_size=20))
def test_nobody_fails_before_the_ttl_of_time_in_which_we_listened(pauses_s: list[float]) -> None:
    membership = table("dev-02")
    now_s = listened_s = 0.0
    check(membership, at(0))
    for pause_s in pauses_s:
        now_s += pause_s
        listened_s += pause_s if pause_s <= 13 else 10
        check(membership, at(now_s))
        if listened_s < TTL_S - 1e-6:
            assert status_of(membership) is Status.ALIVE


# Goodbyes


def test_a_goodbye_means_offline_at_once() -> None:
    membership = table("dev-02")
    list(membership.left(Goodbye("dev-02", SENT_AT, boot="boot1")))
    assert status_of(membership) is Status.LEFT
    assert checked(membership, *ticks(0, 200)) == []
    assert status_of(membership) is Status.LEFT


def test_a_goodbye_of_an_original_names_no_boot() -> None:
    membership = table("dev-02")
    list(membership.left(Goodbye("dev-02", SENT_AT)))
    assert status_of(membership) is Status.LEFT


def test_a_goodbye_of_an_earlier_boot_is_out_of_date() -> None:
    membership = table("dev-02")
    list(membership.introduced(identity("dev-02", "boot2"), at(1)))
    assert list(membership.left(Goodbye("dev-02", SENT_AT, boot="boot1"))) == []
    assert status_of(membership) is Status.ALIVE


def test_a_goodbye_of_somebody_unknown_is_nothing() -> None:
    membership = table()
    assert list(membership.left(Goodbye("dev-09", SENT_AT))) == []
    assert not membership.members


def test_a_late_heartbeat_does_not_undo_the_goodbye_of_its_boot() -> None:
    membership = table("dev-02")
    list(membership.left(Goodbye("dev-02", SENT_AT, boot="boot1")))
    assert list(membership.beat(heartbeat("dev-02", "boot1"), at(1))) == []
    assert status_of(membership) is Status.LEFT


def test_a_new_boot_is_back_after_a_goodbye() -> None:
    membership = table("dev-02")
    list(membership.left(Goodbye("dev-02", SENT_AT, boot="boot1")))
    list(membership.beat(heartbeat("dev-02", "boot2"), at(1)))
    assert status_of(membership) is Status.ALIVE
    assert membership.members["dev-02"].boot == "boot2"


# What is known of a peer


def test_a_heartbeat_keeps_what_it_does_not_name() -> None:
    membership = table()
    whole = Identity("dev-02", SENT_AT, "Worker A", "docs", ("a",), "ws://h:1", 1, protocol=1, boot="b", version="1.2")
    list(membership.introduced(whole, at(1)))
    list(membership.beat(Heartbeat("dev-02", UtcMs(7), capacity=Capacity(cores=8)), at(2)))
    assert membership.members["dev-02"] == Member(
        "dev-02",
        Status.ALIVE,
        contact_s=2,
        last_seen_ms=UTC_MS + 2000,
        boot="b",
        name="Worker A",
        focus="docs",
        tags=("a",),
        url="ws://h:1",
        priority=1,
        version="1.2",
        dialect=Dialect.NATIVE,
        capacity=Capacity(cores=8),
        last_heartbeat_ms=7,
    )


def test_a_peer_without_a_protocol_is_an_original() -> None:
    membership = table()
    list(membership.introduced(Identity("dev-02", SENT_AT), at(0)))
    assert membership.members["dev-02"].dialect is Dialect.ORIGINAL


def test_a_round_trip_is_remembered_and_tells_nobody() -> None:
    membership = table("dev-02")
    membership.changed.clear()
    membership.measured("dev-02", 1.5)
    membership.measured("dev-09", 1.5)
    assert membership.members["dev-02"].latency_ms == 1.5
    assert not membership.changed


def test_frames_alone_are_no_news() -> None:
    membership = table("dev-02")
    membership.changed.clear()
    membership.contact("dev-02", at(1))
    membership.contact("dev-09", at(1))
    assert not membership.changed


def test_what_is_new_is_marked_for_the_next_presence() -> None:
    membership = table("dev-02", "dev-03")
    assert membership.turned == {"dev-02", "dev-03"}
    membership.changed.clear()
    membership.turned.clear()
    list(membership.beat(Heartbeat("dev-02", SENT_AT, capacity=Capacity(cores=3)), at(1)))
    assert (membership.changed, membership.turned) == ({"dev-02"}, set())
    list(membership.link_lost("dev-03"))
    assert (membership.changed, membership.turned) == ({"dev-02", "dev-03"}, {"dev-03"})


# The primary's word


@pytest.mark.parametrize("status", list(Status))
def test_a_member_not_known_is_what_the_primary_says(status: Status) -> None:
    membership = table()
    row = PresenceRow("dev-03", 5_000, status=status, boot="b", role="docs", tags=("a",), capacity=Capacity(cores=1))
    list(membership.reported(row, at(100)))
    member = membership.members["dev-03"]
    assert member.status is status
    assert (member.contact_s, member.focus, member.tags, member.capacity) == (95, "docs", ("a",), Capacity(cores=1))
    assert member.dialect is Dialect.NATIVE


@pytest.mark.parametrize(("before", "stated"), list(product(Status, Status)))
def test_a_known_member_becomes_what_the_primary_says(before: Status, stated: Status) -> None:
    membership = table("dev-03")
    for status in (before, stated):
        list(membership.reported(PresenceRow("dev-03", 0, status=status), at(1)))
    assert status_of(membership, "dev-03") is stated


def test_a_member_that_had_failed_before_we_came_raises_no_alert() -> None:
    assert list(table().reported(PresenceRow("dev-03", 500_000, status=Status.FAILED), at(1000))) == []


def test_a_member_that_fails_by_the_primarys_word_raises_the_alert_here_too() -> None:
    membership = table("dev-03")
    found = list(membership.reported(PresenceRow("dev-03", 121_000, status=Status.FAILED), at(121)))
    assert len(alerts(found)) == 1
    assert [event.type for event in events(found)] == ["sync:peer-unreachable"]


def test_a_bare_row_of_a_stranger_makes_no_member() -> None:
    membership = table()
    assert list(membership.reported(PresenceRow("dev-03", 0), at(1))) == []
    assert not membership.members


@pytest.mark.parametrize("age_ms", [2**53 - 1, 10**15])
def test_an_absurd_age_harms_nobody(age_ms: int) -> None:
    membership = table("dev-03")
    list(membership.reported(PresenceRow("dev-03", age_ms), at(1)))
    assert status_of(membership, "dev-03") is Status.ALIVE
    list(membership.reported(PresenceRow("dev-03", age_ms, status=Status.FAILED), at(2)))
    assert status_of(membership, "dev-03") is Status.FAILED


def test_invented_members_are_bounded() -> None:
    membership = table("dev-02")
    for number in range(MAX_MEMBERS + 10):
        list(membership.reported(PresenceRow(f"x{number}", 0, status=Status.ALIVE), at(1)))
    assert len(membership.members) == MAX_MEMBERS
    assert not membership.has_room_for("one more")
    assert membership.has_room_for("dev-02")
