"""Planned hand-over: who is the successor, what is said in which order, and when index 0 gets leadership back."""

from __future__ import annotations

from itertools import pairwise

import pytest

from meshd.core.effects import Accepted, Effect, Persist, Rejected, Reply, Send
from meshd.core.inputs import LinkUp, PromoteInstance, Received, StepDown
from meshd.core.messages import Goodbye, HandOver, Identity, Nominate, VoteRequest
from meshd.core.succession import FIRST_PAUSE_S, STABLE_TTLS
from meshd.model import Status
from tests.core.electorate import HEARTBEAT_S, TTL_S, Electorate, leadership
from tests.core.mesh import Host


def successor(host: Host) -> str | None:
    assert host.node
    line = host.node._succession.successor()
    return line.instance_id if line else None


def identity_of(mesh: Electorate, host: Host) -> Identity:
    assert host.node
    return host.node._portrait.identity(mesh.now(host))


# The successor


def test_the_best_placed_comes_next() -> None:
    mesh = Electorate.running(4)
    assert successor(mesh.host(1)) == "dev-02"


def test_who_may_not_lead_is_gone_or_is_no_voter_is_passed_over() -> None:
    mesh = Electorate.running(9, witnesses=["dev-02"])
    assert successor(mesh.host(1)) == "dev-03"
    mesh.crash(mesh.host(3))
    assert successor(mesh.host(1)) == "dev-04"
    for number in (4, 5, 6, 7):
        mesh.crash(mesh.host(number))
    assert successor(mesh.host(1)) is None  # dev-08 and dev-09 do not vote


def test_who_is_in_sync_comes_before_who_is_better_placed() -> None:
    mesh = Electorate.running(3)
    mesh.unheard(mesh.host(1), mesh.host(2))
    mesh.put(mesh.host(1), "site", {"title": "T"})
    mesh.advance(2 * HEARTBEAT_S)
    assert mesh.snapshot(mesh.host(1)).members
    assert successor(mesh.host(1)) == "dev-03"


# The order of a hand-over


def index_of(effects: list[Effect], what: type) -> int:
    return next(
        number for number, effect in enumerate(effects) if isinstance(effect, Send) and isinstance(effect.message, what)
    )


def test_a_primary_gives_up_before_it_tells_its_successor_and_whoever_asked_is_answered_last() -> None:
    mesh = Electorate.running(3)
    first = mesh.host(1)
    effects = mesh.step(first, StepDown(9))
    assert isinstance(effects[-1], Reply)
    assert isinstance(effects[-1].outcome, Accepted)
    told = index_of(effects, HandOver)
    saved = next(number for number, effect in enumerate(effects) if isinstance(effect, Persist))
    assert saved < told
    assert mesh.decides(first) is None


def test_a_successor_asks_in_the_name_of_the_transfer_and_nobody_waits() -> None:
    mesh = Electorate.running(5)
    begun_s = mesh.mono_s
    mesh.step(mesh.host(1), PromoteInstance(1, "dev-04"))
    mesh.settle()
    requests = [
        message for _, _, message in mesh.said if isinstance(message, VoteRequest) and message.candidate == "dev-04"
    ]
    assert {(request.pre, request.transfer) for request in requests} == {(False, "dev-01")}
    mesh.advance(1)
    mesh.settled("dev-04")
    assert mesh.mono_s - begun_s == 1


def test_nobody_takes_over_from_who_does_not_lead_it() -> None:
    mesh = Electorate.running(3)
    mesh.part(mesh.host(1), mesh.host(3))
    mesh.advance(HEARTBEAT_S)
    third = mesh.host(3)
    mesh.step(third, LinkUp(90, "h:2"))
    mesh.step(third, Received(90, identity_of(mesh, mesh.host(2))))
    mesh.step(third, Received(90, HandOver(leadership(third).term)))
    assert leadership(third).candidacy.canvass is None
    assert leadership(third).term == 1


def test_an_old_hand_over_is_none() -> None:
    mesh = Electorate.running(3)
    third = mesh.host(3)
    (link,) = third.pipes
    before = leadership(third).term
    mesh.step(third, Received(link, HandOver(before - 1)))
    assert (leadership(third).term, leadership(third).candidacy.canvass) == (before, None)


def test_a_nomination_of_nobody_is_noted_and_changes_nothing() -> None:
    mesh = Electorate.running(3)
    first = mesh.host(1)
    effects = mesh.step(first, Received(next(iter(first.pipes)), Nominate("dev-77")))
    assert any("dev-77 is not linked to the primary" in getattr(effect, "text", "") for effect in effects)
    mesh.settled("dev-01")


def test_nominating_the_primary_changes_nothing() -> None:
    mesh = Electorate.running(3)
    assert isinstance(mesh.step(mesh.host(2), PromoteInstance(1, "dev-01"))[-1], Reply)
    mesh.advance(1)
    mesh.settled("dev-01")
    assert leadership(mesh.host(1)).term == 1


def test_without_a_primary_only_oneself_can_be_promoted() -> None:
    mesh = Electorate.running(3)
    mesh.crash(mesh.host(1))
    mesh.step(mesh.host(2), PromoteInstance(1, "dev-03"))
    refused = mesh.host(2).replies[-1]
    assert isinstance(refused, Rejected)
    assert refused.detail == "there is no primary to ask: run it on dev-03 itself"


def test_a_person_cannot_shorten_the_time_that_voters_are_bound() -> None:
    mesh = Electorate.running(3)
    mesh.part(mesh.host(1), mesh.host(3))
    mesh.step(mesh.host(3), PromoteInstance(1))
    mesh.advance(TTL_S)
    assert mesh.deciding() == ["dev-01"]
    mesh.safe()


# A goodbye


def test_a_goodbye_names_the_successor() -> None:
    mesh = Electorate.running(3)
    mesh.drain(mesh.host(1))
    goodbyes = [message.successor for _, _, message in mesh.said if isinstance(message, Goodbye)]
    assert goodbyes == ["dev-02"]
    assert mesh.statuses(mesh.host(3))["dev-01"] is Status.LEFT


def test_a_workers_goodbye_names_nobody() -> None:
    mesh = Electorate.running(3)
    mesh.drain(mesh.host(2))
    assert next(message.successor for _, _, message in mesh.said if isinstance(message, Goodbye)) is None
    mesh.settled("dev-01")


# Failback


def back(mesh: Electorate) -> None:
    """dev-01 died, dev-02 leads, dev-01 is back."""
    mesh.crash(mesh.host(1))
    mesh.advance(2 * TTL_S)
    mesh.start(mesh.host(1))
    mesh.advance(1)
    mesh.settled("dev-02")


def test_index_0_leads_again_after_it_was_linked_and_in_sync_for_two_ttls() -> None:
    mesh = Electorate.running(3, failback="auto")
    back(mesh)
    begun_s = mesh.mono_s
    while mesh.primaries() == ["dev-02"]:
        mesh.advance(0.5)
    assert STABLE_TTLS * TTL_S - 1 <= mesh.mono_s - begun_s <= STABLE_TTLS * TTL_S + 2 * HEARTBEAT_S
    mesh.advance(1)
    mesh.settled("dev-01")


def test_the_time_begins_again_when_it_was_gone_meanwhile() -> None:
    mesh = Electorate.running(3, failback="auto")
    back(mesh)
    mesh.advance(1.5 * TTL_S)
    mesh.part(mesh.host(1), mesh.host(2))
    mesh.advance(HEARTBEAT_S)
    mesh.join(mesh.host(1), mesh.host(2))
    mesh.advance(TTL_S)
    mesh.settled("dev-02")
    mesh.advance(2 * TTL_S)
    mesh.settled("dev-01")


def test_leadership_is_not_given_back_again_and_again() -> None:
    """dev-01 dies soon after each time that it was given leadership: ten minutes, and twice as long each time."""
    mesh = Electorate.running(3, failback="auto")
    returned_s = []
    for _ in range(3):
        back(mesh)
        while mesh.primaries() == ["dev-02"]:
            mesh.advance(5)
        returned_s.append(mesh.mono_s)
    first, second = (later - earlier for earlier, later in pairwise(returned_s))
    assert FIRST_PAUSE_S <= first <= FIRST_PAUSE_S + 10
    assert 2 * FIRST_PAUSE_S <= second <= 2 * FIRST_PAUSE_S + 10
    mesh.safe()


def test_a_witness_at_index_0_gets_nothing() -> None:
    mesh = Electorate.of(3, failback="auto", witnesses=["dev-01"])
    mesh.start_all()
    mesh.advance(8 * TTL_S)
    mesh.settled("dev-02")


def test_failback_needs_no_quorum() -> None:
    mesh = Electorate.running(3, failback="auto", failover="priority")
    mesh.crash(mesh.host(1))
    mesh.advance(TTL_S * 1.5)
    mesh.start(mesh.host(1))
    mesh.advance(5)
    mesh.settled("dev-02")
    mesh.advance(3 * TTL_S)
    mesh.settled("dev-01")


@pytest.mark.parametrize("failover", ["quorum", "priority", "manual"])
def test_whom_a_person_chose_leads_on(failover: str) -> None:
    mesh = Electorate.running(3, failback="auto", failover=failover)
    mesh.step(mesh.host(1), PromoteInstance(1, "dev-03"))
    mesh.advance(1)
    mesh.settled("dev-03")
    mesh.advance(5 * TTL_S)
    mesh.settled("dev-03")


def test_what_was_sent_while_nobody_led_is_acknowledged_by_whoever_leads_again() -> None:
    """The old primary takes a change between two of its terms, on the same link: it is sent again, and acknowledged."""
    mesh = Electorate.running(3)
    first, second, third = (mesh.host(number) for number in (1, 2, 3))
    mesh.swallow(third)
    mesh.step(first, PromoteInstance(1, "dev-03"))
    mesh.settle()
    assert mesh.primaries() == []
    mesh.put(second, "site", {"title": "T"})
    mesh.advance(TTL_S)
    assert mesh.primaries() == ["dev-01"]
    assert mesh.snapshot(second).queued_changes == 0
