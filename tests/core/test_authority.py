"""When a primary may decide: while a majority of the voters answers what it sent lately."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.authority import MAX_SENT, PART_OF_TTL, Authority
from meshd.core.ballot import Ballot
from meshd.core.effects import Broadcast, Send
from meshd.core.inputs import HeartbeatDue, LinkUp, Received, Started
from meshd.core.messages import Heartbeat, Identity, Presence, UtcMs, VoteRequest
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.core.stored import Stored
from meshd.core.voting import Voter
from meshd.model import Capacity, Now, Role
from tests.core.electorate import HEARTBEAT_S, Electorate, leadership, member, names
from tests.core.mesh import EPOCH_MS, url_of

TTL_S = 120.0


def at(mono_s: float) -> Now:
    return Now(mono_s, EPOCH_MS)


def authority(majority: int = 2) -> Authority:
    return Authority(TTL_S, majority)


def test_nobody_decides_before_a_voter_has_answered() -> None:
    new = authority()
    new.sent(1, at(0))
    assert (new.counted(at(0)), new.holds(at(0))) == (1, False)


def test_who_needs_nobody_else_may_always() -> None:
    assert authority(majority=1).holds(at(10**9))


def test_a_voter_counts_from_the_moment_of_sending_and_not_from_that_of_its_answer() -> None:
    lead = authority()
    lead.sent(1, at(100))
    lead.answered(1, 1)  # 80 s later, say
    assert lead.holds(at(100 + PART_OF_TTL * TTL_S - 0.001))
    assert not lead.holds(at(100 + PART_OF_TTL * TTL_S))


def test_an_answer_to_an_older_presence_takes_nothing_back() -> None:
    lead = authority()
    lead.sent(1, at(0))
    lead.sent(2, at(50))
    lead.answered(1, 2)
    lead.answered(1, 1)
    assert lead.holds(at(130))


def test_the_same_voter_counts_once() -> None:
    lead = authority(majority=3)
    lead.sent(1, at(0))
    lead.sent(2, at(1))
    for seq in (1, 2, 2):
        lead.answered(1, seq)
    assert lead.counted(at(2)) == 2


def test_what_was_never_sent_is_no_answer() -> None:
    lead = authority()
    lead.answered(1, 77)
    assert not lead.holds(at(0))


def test_a_new_term_begins_with_nobody_and_old_answers_do_not_count() -> None:
    lead = authority()
    lead.sent(1, at(0))
    lead.answered(1, 1)
    lead.begin()
    lead.answered(2, 1)
    assert lead.counted(at(0)) == 1


def test_only_so_many_are_remembered() -> None:
    lead = authority()
    for seq in range(10 * MAX_SENT):
        lead.sent(seq, at(seq))
    assert len(lead.sent_s) == MAX_SENT
    lead.answered(1, 0)
    assert lead.counted(at(0)) == 1


@given(
    sent_s=st.floats(0, 100),
    travels_s=st.floats(0, 400),
    returns_s=st.floats(0, 400),
    stalls_s=st.floats(0, 400),
)
def test_while_a_voter_counts_it_is_bound(sent_s: float, travels_s: float, returns_s: float, stalls_s: float) -> None:
    """However slow the network and the primary are: the voter heard what was sent after it was sent."""
    lead, voter = authority(), Voter("dev-02", TTL_S, "", is_voter=True, ballot=Ballot(5, None, "dev-01"))
    lead.sent(1, at(sent_s))
    voter.heard_s = sent_s + travels_s
    now = at(voter.heard_s + returns_s + stalls_s)
    lead.answered(1, 1)
    if lead.holds(now):
        assert voter.objection(VoteRequest(6, "dev-03", 2, pre=False, peers_hash=""), now, leads=False)


# Who answers


def primary() -> Electorate:
    mesh = Electorate.running(3)
    mesh.part(mesh.host(1), mesh.host(3))
    mesh.advance(HEARTBEAT_S)
    return mesh


def beat(mesh: Electorate, link: int, term: int, heard: int | None) -> None:
    """dev-02 says what it heard."""
    first = mesh.host(1)
    message = Heartbeat("dev-02", UtcMs(EPOCH_MS), boot="dev-02-boot1", term=term, heard=heard)
    mesh.step(first, Received(link, message))


@pytest.mark.parametrize(("term_off", "counts"), [(0, True), (-1, False)])
def test_a_beat_in_another_term_is_no_answer(term_off: int, counts: bool) -> None:
    mesh = primary()
    lead = leadership(mesh.host(1))
    (link,) = mesh.host(1).pipes
    lead.authority.answered_s.clear()
    beat(mesh, link, lead.term + term_off, max(lead.authority.sent_s))
    assert (mesh.decides(mesh.host(1)) is not None) is counts


def test_presences_are_answered_at_once_the_first_time_and_then_with_each_beat() -> None:
    mesh = Electorate.running(3)
    second = mesh.host(2)
    (link,) = second.pipes
    before = leadership(second).contact.heard_seq
    assert before is not None
    effects = mesh.step(second, Received(link, Presence(2, before + 1, full=False, members=())))
    assert not [effect for effect in effects if isinstance(effect, Send)]
    assert leadership(second).contact.heard_seq == before + 1


def peer(name: str, *, url: str | None = None, leads: int | None = None) -> Identity:
    role = Role.WORKER if leads is None else Role.PRIMARY
    return Identity(
        name,
        UtcMs(EPOCH_MS),
        url=url or url_of(name),
        protocol=1,
        boot=f"{name}-b",
        term=5,
        sync_role=role,
        leads=leads,
        authoritative=None if leads is None else True,
    )


def a_node(name: str) -> Node:
    node = Node(member(name, names(3)), Birth("b", "1"), Stored("s1"))
    node.step(Started(), at(0))
    return node


def test_what_was_heard_of_another_primary_is_no_answer_to_us() -> None:
    """dev-03 may just have been elected by dev-02, which does not know: seq 7 is dev-01's, and dev-03 has its own 7."""
    node = a_node("dev-02")
    node.step(LinkUp(1, "h:1", url_of("dev-01")), at(0))
    node.step(Received(1, peer("dev-01", leads=5)), at(0))
    node.step(Received(1, Presence(5, 7, full=True, members=())), at(0))
    node.step(LinkUp(2, "h:2"), at(0))
    node.step(Received(2, peer("dev-03")), at(0))
    told: dict[int, int | None] = {}
    for effect in node.step(HeartbeatDue(Capacity()), at(1)):
        if isinstance(effect, Send | Broadcast) and isinstance(effect.message, Heartbeat):
            links = effect.links if isinstance(effect, Broadcast) else (effect.link,)
            told.update(dict.fromkeys(links, effect.message.heard))
    assert told == {1: 7, 2: None}


def test_whoever_claims_our_own_url_is_no_second_voter() -> None:
    """A file copied from one host to another: dev-09 says that it is where dev-01 is."""
    node = a_node("dev-01")
    node.step(LinkUp(1, "copy:1"), at(0))
    node.step(Received(1, peer("dev-09", url=url_of("dev-01"))), at(0))
    line = node._handshake.lines[1]
    assert line.closing or line.index is None
