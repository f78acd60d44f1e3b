"""Who is at the other end of a link, and may it stay."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from meshd.core.effects import Effect, HangUp, Level, Note, Send
from meshd.core.handshake import (
    CLOCK_SKEW,
    DUPLICATE,
    GOING_AWAY,
    IDENTITY_WITHIN_S,
    MAX_OFFENCES,
    MISMATCH,
    NOT_ALLOWED,
    PROTOCOL_ERROR,
    SUPERSEDED,
    Handshake,
    Line,
    short_hash,
)
from meshd.core.inputs import LinkDown, LinkUp, Received, TtlDue
from meshd.core.membership import MAX_MEMBERS
from meshd.core.messages import FeatureEvent, Goodbye, Heartbeat, Identity, Malformed, Message, Refuse, UtcMs
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.core.stored import Stored
from meshd.model import Dialect, JsonObject, Now, Role, Status
from tests.core.mesh import EPOCH_MS, configuration, leading

NOW = Now(100.0, EPOCH_MS)
OURS = configuration("dev-01", role=Role.PRIMARY)
AT = UtcMs(EPOCH_MS)


def native(peer: str = "dev-02", boot: str = "b1", **attributes: Any) -> Identity:
    known = Identity(peer, AT, protocol=1, boot=boot, hive=short_hash("protoMaker"), clock=EPOCH_MS, sync_role="worker")
    return evolve(known, **attributes)


def original(peer: str = "dev-02") -> Identity:
    return Identity(peer, AT, url=f"ws://{peer}:4444")


def table(original_peers: str = "allow") -> Handshake:
    """Links 1 and 2 are open and anonymous."""
    hivemind = evolve(OURS.hivemind, original_peers=original_peers)
    handshake = Handshake(evolve(OURS, hivemind=hivemind), "own-boot")
    handshake.opened(1, "h:1", None, NOW)
    handshake.opened(2, "h:2", None, NOW)
    return handshake


def verdict(identity: Identity, handshake: Handshake | None = None, link: int = 1) -> int | None:
    """The close code, None when the peer may stay."""
    handshake = handshake or table()
    refusal = handshake.judge(handshake.lines[link], identity, NOW)
    return refusal.code if refusal else None


def node(original_peers: str = "allow") -> Node:
    """A primary with links 1 and 2, on which nobody has said anything yet."""
    hivemind = evolve(OURS.hivemind, original_peers=original_peers)
    primary = leading(Node(evolve(OURS, hivemind=hivemind), Birth("own-boot", "1"), Stored("s1")), NOW)
    for link in (1, 2):
        primary.step(LinkUp(link, f"h:{link}"), NOW)
    return primary


def heard(primary: Node, link: int, *messages: Message) -> list[Effect]:
    return [effect for message in messages for effect in primary.step(Received(link, message), NOW)]


def codes(effects: list[Effect]) -> list[tuple[int, int]]:
    return [(effect.link, effect.code) for effect in effects if isinstance(effect, HangUp)]


def warnings(effects: list[Effect]) -> list[str]:
    """Log lines of refusals, without the alert that goes with some of them."""
    notes = [effect for effect in effects if isinstance(effect, Note) and effect.level >= Level.WARNING]
    return [note.text for note in notes if not note.text.startswith("ALERT")]


# Verdicts


@pytest.mark.parametrize(
    ("identity", "code"),
    [
        (native(), None),
        (original(), None),
        (native(hive=None), None),
        (native(clock=None), None),
        (native(protocol=2, min_protocol=1), None),
        (native(protocol=3, min_protocol=2), MISMATCH),
        (native(protocol=2), MISMATCH),
        (native(protocol=0), MISMATCH),
        (native(hive=short_hash("anotherMesh")), MISMATCH),
        (native(clock=EPOCH_MS + 300_000), None),
        (native(clock=EPOCH_MS - 300_000), None),
        (native(clock=EPOCH_MS + 300_001), CLOCK_SKEW),
        (native(clock=EPOCH_MS - 300_001), CLOCK_SKEW),
        (native("dev-01"), DUPLICATE),
        (native("dev-01", boot="own-boot"), DUPLICATE),
        (original("dev-01"), DUPLICATE),
    ],
)
def test_verdicts_on_a_first_identity(identity: Identity, code: int | None) -> None:
    assert verdict(identity) == code


def test_originals_are_refused_where_they_are_not_wanted() -> None:
    assert verdict(original(), table("refuse")) == NOT_ALLOWED
    assert verdict(native(), table("refuse")) is None


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        (native(protocol=9, min_protocol=7), ["7 to 9", "1 to 1"]),
        (native(hive="x"), ["another mesh", "protoMaker"]),
        (native(clock=EPOCH_MS - 400_000), ["400000 ms", "300000 ms"]),
        (native("dev-01", boot="own-boot"), ["yourself"]),
        (native("dev-01", boot="other"), ["instanceId", "dev-01"]),
    ],
)
def test_a_refusal_says_what_a_person_needs_to_know(identity: Identity, words: list[str]) -> None:
    handshake = table()
    refusal = handshake.judge(handshake.lines[1], identity, NOW)
    assert refusal is not None
    assert all(word in refusal.reason for word in words), refusal.reason


def test_one_instance_id_with_two_boots_is_refused_while_the_first_is_linked() -> None:
    handshake = table()
    handshake.accept(handshake.lines[1], native(boot="b1"))
    assert verdict(native(boot="b2"), handshake, link=2) == DUPLICATE
    handshake.closed(1)
    assert verdict(native(boot="b2"), handshake, link=2) is None


def test_an_original_does_not_take_the_place_of_a_native_of_its_name() -> None:
    handshake = table()
    handshake.accept(handshake.lines[1], native())
    assert verdict(original(), handshake, link=2) == DUPLICATE


def test_a_link_belongs_to_one_instance() -> None:
    handshake = table()
    handshake.accept(handshake.lines[1], native())
    assert verdict(native("dev-03"), handshake) == PROTOCOL_ERROR
    assert verdict(native("dev-02"), handshake) is None


# The table of links


def test_a_line_learns_who_is_there() -> None:
    handshake = table()
    assert handshake.lines[1].peer == "h:1"
    handshake.accept(handshake.lines[1], native())
    assert handshake.lines[1] == Line(1, "h:1", None, 100.0, "dev-02", "b1", Dialect.NATIVE, is_eligible=True)
    assert handshake.lines[1].peer == "dev-02"


def test_links_are_those_whose_other_end_is_known() -> None:
    handshake = table()
    handshake.opened(3, "h:3", None, NOW)
    handshake.accept(handshake.lines[1], native())
    handshake.accept(handshake.lines[2], original("dev-03"))
    assert handshake.links() == (1, 2)
    assert handshake.links(Dialect.NATIVE) == (1,)
    assert handshake.links(Dialect.ORIGINAL) == (2,)
    assert handshake.links(but=1) == (2,)


def test_two_meshes_and_two_lists_of_peers_are_told_apart() -> None:
    assert short_hash("a", "b") == short_hash("a", "b")
    assert len({short_hash("a", "b"), short_hash("b", "a"), short_hash("ab"), short_hash("a")}) == 4
    assert table().hive == short_hash("protoMaker")
    assert table().peers_hash == short_hash("quorum", "120000", *OURS.hivemind.peers)
    assert Handshake(evolve(OURS, name=""), "b").hive is None


# On a node


def test_the_first_frame_is_our_identity() -> None:
    primary = leading(Node(OURS, Birth("own-boot", "1.2"), Stored("s1")), NOW)
    (effect,) = primary.step(LinkUp(1, "h:1"), NOW)
    assert isinstance(effect, Send)
    identity = effect.message
    assert isinstance(identity, Identity)
    assert (identity.instance_id, identity.boot, identity.store, identity.version) == (
        "dev-01",
        "own-boot",
        "s1",
        "1.2",
    )
    assert (identity.protocol, identity.min_protocol, identity.clock) == (1, 1, EPOCH_MS)
    assert (identity.sync_role, identity.url, identity.primary_url) == (
        "primary",
        "ws://dev-01:4444",
        "ws://dev-01:4444",
    )
    assert (identity.priority, identity.hive) == (0, short_hash("protoMaker"))


def test_who_is_refused_is_told_why_before_the_link_closes() -> None:
    effects = heard(node(), 1, native(clock=1))
    told = [effect for effect in effects if isinstance(effect, Send | HangUp)]
    assert isinstance(told[0], Send)
    assert isinstance(told[0].message, Refuse)
    assert told[1] == HangUp(1, CLOCK_SKEW, told[0].message.reason)
    assert told[0].message.code == CLOCK_SKEW
    assert len(told) == 2


def test_who_is_refused_is_no_member() -> None:
    primary = node()
    heard(primary, 1, native(clock=1), Heartbeat("dev-02", AT))
    assert not primary.snapshot(NOW).members


@pytest.mark.parametrize("refused", [original(), native(clock=1)])
def test_who_is_refused_is_heard_no_more(refused: Identity) -> None:
    """The link takes a moment to close; what still comes on it has no effect."""
    primary = node("refuse")
    payload: JsonObject = {"projectSlug": "site", "project": {"title": "T"}}
    event = FeatureEvent("dev-02", "project:created", payload, AT)
    effects = heard(primary, 1, refused, event, native(), Heartbeat("dev-02", AT))
    assert not primary.snapshot(NOW).documents
    assert not primary.snapshot(NOW).members
    assert len(codes(effects)) == 1


def test_originals_that_are_not_wanted_cannot_write_before_they_say_who_they_are() -> None:
    primary = node("refuse")
    payload: JsonObject = {"projectSlug": "site", "project": {"title": "T"}}
    heard(primary, 1, FeatureEvent("dev-02", "project:created", payload, AT))
    assert not primary.snapshot(NOW).documents


def test_refusals_are_a_warning_once_for_each_peer() -> None:
    primary = node()
    first = warnings(heard(primary, 1, native(clock=1)))
    primary.step(LinkUp(3, "h:3"), NOW)
    again = warnings(heard(primary, 3, native(clock=1)))
    other = warnings(heard(primary, 2, native("dev-03", clock=1)))
    assert len(first) == len(other) == 1
    assert again == []
    assert "dev-02" in first[0]


def test_there_is_room_for_a_bounded_number_of_members() -> None:
    worker = Node(configuration("dev-02"), Birth("own-boot", "1"), Stored("s1"))
    last: list[Effect] = []
    for link in range(1, MAX_MEMBERS + 2):
        worker.step(LinkUp(link, "h"), NOW)
        last = heard(worker, link, original(f"x{link}"))
        worker.step(LinkDown(link, 1006), NOW)
    assert codes(last) == [(MAX_MEMBERS + 1, NOT_ALLOWED)]
    assert len(worker.snapshot(NOW).members) == MAX_MEMBERS


def test_whoever_says_nothing_is_closed_in_time() -> None:
    primary = node()
    heard(primary, 1, native())
    early = primary.step(TtlDue(), Now(NOW.mono_s + IDENTITY_WITHIN_S - 0.1, EPOCH_MS))
    late = primary.step(TtlDue(), Now(NOW.mono_s + IDENTITY_WITHIN_S, EPOCH_MS))
    assert codes(early) == []
    assert codes(late) == [(2, PROTOCOL_ERROR)]
    assert len(warnings(late)) == 1
    assert "h:2" in warnings(late)[0]


@pytest.mark.parametrize("first", [native(clock=1), native("dev-02", boot="b1")])
def test_a_link_that_is_closing_is_not_accused_of_silence(first: Identity) -> None:
    """Refused, or superseded by link 2."""
    primary = node()
    heard(primary, 1, first)
    heard(primary, 2, native("dev-02", boot="b1"))
    late = primary.step(TtlDue(), Now(NOW.mono_s + 60, EPOCH_MS))
    assert warnings(late) == []
    assert codes(late) == []


def test_three_frames_that_are_no_messages_end_a_link() -> None:
    primary = node()
    heard(primary, 1, native())
    two = heard(primary, 1, *[Malformed("not JSON")] * (MAX_OFFENCES - 1))
    third = heard(primary, 1, Malformed("not JSON"))
    more = heard(primary, 1, *[Malformed("not JSON")] * 5)
    assert codes(two) == []
    assert codes(third) == [(1, PROTOCOL_ERROR)]
    assert codes(more) == [], "it is closing already"
    assert primary.snapshot(NOW).dropped["malformed"] >= MAX_OFFENCES


def test_bad_frames_are_a_warning_once_for_each_peer() -> None:
    primary = node()
    heard(primary, 1, native())
    heard(primary, 2, native("dev-03"))
    assert len(warnings(heard(primary, 1, *[Malformed("not JSON")] * 3))) == 1
    assert len(warnings(heard(primary, 2, Malformed("not JSON")))) == 1


def test_bad_frames_of_two_links_do_not_add_up() -> None:
    primary = node()
    for link in (1, 2):
        assert codes(heard(primary, link, *[Malformed("not JSON")] * (MAX_OFFENCES - 1))) == []


def test_a_newer_link_of_one_boot_supersedes_the_older() -> None:
    primary = node()
    heard(primary, 1, native())
    assert codes(heard(primary, 2, native())) == [(1, SUPERSEDED)]


def test_the_end_of_a_superseded_link_hurts_nobody() -> None:
    primary = node()
    heard(primary, 1, native())
    heard(primary, 2, native())
    effects = primary.step(LinkDown(1, SUPERSEDED), NOW)
    assert effects == []
    (member,) = primary.snapshot(NOW).members
    assert (member.status, member.linked) == (Status.ALIVE, True)
    primary.step(LinkDown(2, 1006), NOW)
    (member,) = primary.snapshot(NOW).members
    assert (member.status, member.linked) == (Status.SUSPECT, False)


def test_a_second_disconnect_counts_as_the_first_did() -> None:
    primary = node()
    for link in (1, 2):
        heard(primary, link, native())
        primary.step(LinkDown(link, 1006), NOW)
        (member,) = primary.snapshot(NOW).members
        assert member.status is Status.SUSPECT


def test_two_daemons_of_one_name_the_first_one_keeps_it() -> None:
    primary = node()
    heard(primary, 1, native(boot="b1"))
    effects = heard(primary, 2, native(boot="b2"))
    assert codes(effects) == [(2, DUPLICATE)]
    assert len(warnings(effects)) == 1
    (member,) = primary.snapshot(NOW).members
    assert (member.status, member.linked) == (Status.ALIVE, True)


def test_a_restarted_peer_takes_over_from_one_that_said_goodbye() -> None:
    """Its first link is closing and has not ended yet."""
    primary = node()
    heard(primary, 1, native(boot="b1"), Goodbye("dev-02", AT, boot="b1"))
    assert codes(heard(primary, 2, native(boot="b2"))) in ([], [(1, SUPERSEDED)])
    (member,) = primary.snapshot(NOW).members
    assert member.status is Status.ALIVE


def test_a_restarted_peer_takes_over_from_one_that_fell_silent() -> None:
    """Its first link is half open: no end of it was ever heard."""
    primary = node()
    heard(primary, 1, native(boot="b1"))
    for number in range(14):
        primary.step(TtlDue(), Now(100 + 10.0 * number, EPOCH_MS))
    late = Now(240, EPOCH_MS)
    primary.step(LinkUp(3, "h:3"), late)
    effects = primary.step(Received(3, native(boot="b2")), late)
    assert (3, DUPLICATE) not in codes(effects)
    (member,) = primary.snapshot(late).members
    assert member.status is Status.ALIVE


def test_a_restarted_peer_takes_over_from_a_link_that_we_are_closing() -> None:
    primary = node()
    heard(primary, 1, native(boot="b1"), *[Malformed("not JSON")] * MAX_OFFENCES)
    assert codes(heard(primary, 2, native(boot="b2"))) == []


def test_a_node_that_is_called_by_itself_hangs_up() -> None:
    assert codes(heard(node(), 1, native("dev-01", boot="own-boot"))) == [(1, DUPLICATE)]


def test_messages_before_an_identity_are_dropped() -> None:
    primary = node()
    assert heard(primary, 1, Heartbeat("dev-02", AT), Goodbye("dev-02", AT)) == []
    assert primary.snapshot(NOW).dropped["before-identity"] == 2


def test_frames_that_come_after_the_end_are_dropped() -> None:
    primary = node()
    primary.step(LinkDown(1, GOING_AWAY), NOW)
    assert heard(primary, 1, native()) == []
    assert primary.snapshot(NOW).dropped["after-close"] == 1


def test_the_end_of_a_link_nobody_knew_is_nothing() -> None:
    assert node().step(LinkDown(77, 1006), NOW) == []
