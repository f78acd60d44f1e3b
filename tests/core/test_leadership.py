"""Who leads, seen from outside: whole meshes that start, lose instances, are cut in two and come together again.

What must hold at every moment is watched by `electorate`; `settled` asks for it, and for one mind at the end.
"""

from __future__ import annotations

from itertools import permutations

import pytest
from attrs import evolve

from meshd.core import inputs, messages
from meshd.core.ballot import Ballot
from meshd.core.canvass import patience_s
from meshd.core.effects import Accepted, Dial, Rejected
from meshd.core.election import HUB_TERM
from meshd.core.standing import Standing
from meshd.model import Role, Status
from tests.core.electorate import (
    FAILOVER_S,
    GRACE_S,
    HEARTBEAT_S,
    TTL_S,
    Electorate,
    leadership,
    member,
    names,
)
from tests.core.mesh import Disk, Host, url_of

SOON_S = 1.0  # links, votes and a round of dialling


def failed_over(mesh: Electorate) -> float:
    """Let time pass until somebody decides; how long it took."""
    begun_s = mesh.mono_s
    while not mesh.deciding():
        mesh.advance(TTL_S / 100)
        assert mesh.mono_s - begun_s < 5 * TTL_S, "nobody is elected"
    return mesh.mono_s - begun_s


def led_by_second(count: int = 3, **keys: str) -> Electorate:
    """dev-01 died, dev-02 leads."""
    mesh = Electorate.running(count, **keys)
    mesh.crash(mesh.host(1))
    failed_over(mesh)
    mesh.advance(SOON_S)
    mesh.settled("dev-02")
    return mesh


def promote(mesh: Electorate, number: int) -> None:
    """A person wants another primary, and gets it."""
    name = f"dev-{number:02}"
    assert isinstance(order(mesh, mesh.hosts[mesh.primaries()[0]], inputs.PromoteInstance(1, name)), Accepted)
    mesh.advance(SOON_S)
    mesh.settled(name)


def order(mesh: Electorate, host: Host, command: inputs.LeadershipCommand) -> Accepted | Rejected:
    mesh.step(host, command)
    return host.replies[-1]


# Cold start


@pytest.mark.parametrize("order_of_start", list(permutations((1, 2, 3))))
@pytest.mark.parametrize("gap_s", [0.0, 0.3, 4.0])
def test_three_that_start_in_any_order_follow_the_configured_primary(
    order_of_start: tuple[int, ...], gap_s: float
) -> None:
    mesh = Electorate.of(3)
    for number in order_of_start:
        mesh.start(mesh.host(number))
        mesh.advance(gap_s)
    mesh.advance(TTL_S)
    mesh.settled("dev-01")


@pytest.mark.parametrize("count", [1, 2, 5, 7, 9])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_mesh_of_any_size_that_starts_at_once_is_soon_of_one_mind(count: int, backwards: bool) -> None:
    mesh = Electorate.of(count)
    for host in sorted(mesh.hosts.values(), key=lambda host: host.name, reverse=backwards):
        mesh.start(host)
    mesh.advance(HEARTBEAT_S)
    mesh.settled("dev-01")


@pytest.mark.parametrize("count", [2, 3, 5])
def test_without_the_configured_primary_the_best_placed_leads(count: int) -> None:
    mesh = Electorate.of(count)
    for number in range(2, count + 1):
        mesh.start(mesh.host(number))
    assert failed_over(mesh) <= TTL_S + GRACE_S + SOON_S
    mesh.advance(SOON_S)
    mesh.settled("dev-02")


def test_without_any_configured_primary_the_first_leads() -> None:
    mesh = Electorate.of(3, configured_primary=None)
    mesh.start_all()
    assert failed_over(mesh) <= TTL_S + GRACE_S + SOON_S
    mesh.advance(SOON_S)
    mesh.settled("dev-01")


def test_a_configured_primary_that_all_agree_to_is_elected_at_its_first_try() -> None:
    mesh = Electorate.of(3)
    for number in (2, 3, 1):
        mesh.start(mesh.host(number))
    mesh.advance(SOON_S)
    assert leadership(mesh.host(1)).leads == 1
    assert [turn.leader for turn in leadership(mesh.host(1)).history.turns] == ["dev-01"]


def test_the_configured_primary_alone_is_a_hub_that_decides_nothing() -> None:
    mesh = Electorate.of(3)
    mesh.start(mesh.host(1))
    mesh.advance(3 * TTL_S)
    assert mesh.primaries() == ["dev-01"]
    assert mesh.deciding() == []
    mesh.start(mesh.host(3))
    mesh.advance(3 * HEARTBEAT_S)
    mesh.settled("dev-01")


def test_the_configured_primary_that_comes_late_follows() -> None:
    mesh = led_by_second()
    mesh.start(mesh.host(1))
    mesh.advance(HEARTBEAT_S)
    mesh.settled("dev-02")


def test_whoever_is_told_to_go_can_ask_the_one_that_told_it() -> None:
    """dev-03 stands before dev-02, finds it better placed and tells it to go: dev-02 leads without another wait."""
    mesh = Electorate.of(3, configured_primary=None)
    mesh.start(mesh.host(3))
    mesh.advance(TTL_S + GRACE_S)
    mesh.start(mesh.host(2))
    failed_over(mesh)
    assert any(isinstance(message, messages.YouGo) for _, _, message in mesh.said)
    mesh.advance(SOON_S)
    mesh.settled("dev-02")


def test_a_voter_that_hangs_up_to_look_elsewhere_is_dialled() -> None:
    """Two that look for a primary dial each other: who is asked over the other's link loses it with the question."""
    mesh = Electorate.of(3, configured_primary=None)
    second, third = mesh.host(2), mesh.host(3)
    mesh.start(third)
    mesh.start(second)
    mesh.advance(SOON_S)
    assert third.node
    mesh.step(second, inputs.LinkUp(90, "dev-03:50000"))
    mesh.step(second, inputs.Received(90, third.node._portrait.identity(mesh.now(third))))
    mesh.step(second, inputs.PromoteInstance(1))
    assert Dial(url_of("dev-03")) in mesh.step(second, inputs.LinkDown(90, 1001))


# The primary dies


@pytest.mark.parametrize("count", [2, 3, 5, 7])
@pytest.mark.parametrize("phase_s", [0.0, 0.9, 2.9])
def test_exactly_one_follows_a_primary_that_dies_and_it_is_the_best_placed(count: int, phase_s: float) -> None:
    mesh = Electorate.running(count)
    mesh.advance(phase_s)
    mesh.crash(mesh.host(1))
    assert TTL_S * 0.75 <= failed_over(mesh) <= FAILOVER_S
    mesh.advance(SOON_S)
    mesh.settled("dev-02")


def test_the_next_one_dies_too() -> None:
    mesh = led_by_second(5)
    mesh.crash(mesh.host(2))
    assert failed_over(mesh) <= FAILOVER_S
    mesh.advance(SOON_S)
    mesh.settled("dev-03")


def test_two_of_five_are_not_enough() -> None:
    mesh = led_by_second(5)
    mesh.crash(mesh.host(2))
    failed_over(mesh)
    mesh.crash(mesh.host(3))
    mesh.advance(5 * TTL_S)
    assert mesh.deciding() == []
    mesh.safe()


def test_the_old_primary_returns_as_a_worker_and_gets_leadership_back_when_it_has_stayed() -> None:
    mesh = led_by_second(failback="auto")
    mesh.start(mesh.host(1))
    mesh.advance(2 * TTL_S - HEARTBEAT_S)
    mesh.settled("dev-02")
    mesh.advance(3 * HEARTBEAT_S)
    mesh.settled("dev-01")
    assert [turn.leader for turn in leadership(mesh.host(3)).history.turns][-2:] == [None, "dev-01"] or [
        turn.leader for turn in leadership(mesh.host(3)).history.turns
    ][-2:] == ["dev-02", "dev-01"]


def test_without_failback_it_stays_a_worker() -> None:
    mesh = led_by_second()
    mesh.start(mesh.host(1))
    mesh.advance(10 * TTL_S)
    mesh.settled("dev-02")


def test_a_primary_that_restarts_within_the_ttl_leads_again_at_once() -> None:
    mesh = Electorate.running(3)
    mesh.crash(mesh.host(1))
    mesh.advance(1)
    mesh.start(mesh.host(1))
    mesh.advance(HEARTBEAT_S)
    mesh.settled("dev-01")


def test_failover_is_told_in_history_and_events() -> None:
    mesh = led_by_second()
    third = mesh.host(3)
    turn = leadership(third).history.turns[-1]
    assert (turn.leader, turn.term) == ("dev-02", leadership(mesh.host(2)).term)
    assert third.events("sync:leadership-changed")[-1]["leader"] == "dev-02"
    assert list(third.disk.turns.values()) == leadership(third).history.turns


# Goodbye and hand-over


@pytest.mark.parametrize("count", [2, 3, 5])
def test_after_a_goodbye_nobody_waits_for_the_ttl(count: int) -> None:
    mesh = Electorate.running(count)
    mesh.drain(mesh.host(1))
    assert failed_over(mesh) < 1.0
    mesh.advance(SOON_S)
    mesh.settled("dev-02")


def test_a_primary_that_drains_decides_no_more_from_its_goodbye_on() -> None:
    """It may be there for `drain.workTimeoutMs` after that."""
    mesh = Electorate.running(3)
    mesh.step(mesh.host(1), inputs.DrainRequested("SIGTERM received"))
    mesh.advance(SOON_S)
    assert mesh.deciding() == ["dev-02"]
    mesh.safe()


def led_again_before_its_goodbye_comes() -> Electorate:
    """dev-01 said goodbye and leads again, with the vote of dev-03; dev-02, its successor, has not heard of either."""
    mesh = Electorate.running(3)
    mesh.delay(mesh.host(1), mesh.host(2))
    mesh.drain(mesh.host(1))
    mesh.start(mesh.host(1))
    mesh.advance(SOON_S)
    assert mesh.deciding() == ["dev-01"]
    assert leadership(mesh.host(1)).leads == 2
    return mesh


def test_the_successor_of_a_goodbye_that_comes_late_takes_nothing_from_who_leads_again() -> None:
    """It learned the later term from dev-03."""
    mesh = led_again_before_its_goodbye_comes()
    mesh.part(mesh.host(1), mesh.host(3))
    mesh.advance(SOON_S)
    assert leadership(mesh.host(2)).term == 2
    mesh.join(mesh.host(1), mesh.host(3))
    mesh.advance(SOON_S)
    mesh.heal()
    mesh.advance(2 * TTL_S)
    mesh.settled("dev-01")


def test_a_goodbye_that_comes_late_releases_nobody_who_follows_it_again() -> None:
    mesh = led_again_before_its_goodbye_comes()
    mesh.advance(2 * TTL_S)
    mesh.settled("dev-01")
    mesh.heal()
    mesh.settle()
    assert leadership(mesh.host(2)).voter.is_bound(mesh.now(mesh.host(2)))
    mesh.advance(TTL_S)
    mesh.settled("dev-01")


def test_a_successor_that_is_gone_costs_no_more_than_the_patience() -> None:
    mesh = Electorate.running(3)
    mesh.unheard(mesh.host(1), mesh.host(2))
    mesh.drain(mesh.host(1))
    mesh.crash(mesh.host(2))
    mesh.start(mesh.host(1))
    mesh.heal()
    assert failed_over(mesh) <= patience_s(TTL_S) + SOON_S
    mesh.advance(SOON_S)
    mesh.settled("dev-01")


@pytest.mark.parametrize("failover", ["quorum", "priority"])
def test_a_hand_over_to_one_that_dies_falls_back_to_the_old_primary(failover: str) -> None:
    mesh = Electorate.running(3, failover=failover)
    mesh.unheard(mesh.host(1), mesh.host(2))
    assert isinstance(order(mesh, mesh.host(1), inputs.StepDown(1)), Accepted)
    mesh.crash(mesh.host(2))
    mesh.heal()
    assert failed_over(mesh) <= patience_s(TTL_S) + 2 * SOON_S
    mesh.advance(HEARTBEAT_S)
    mesh.settled("dev-01")


def test_a_hand_over_that_failed_leaves_no_mesh_without_primary_when_people_decide() -> None:
    """The workers go on taking the old one for their primary; what is written there is acknowledged by nobody."""
    mesh = Electorate.running(3, failover="manual")
    mesh.unheard(mesh.host(1), mesh.host(2))
    assert isinstance(order(mesh, mesh.host(1), inputs.StepDown(1)), Accepted)
    mesh.crash(mesh.host(2))
    mesh.heal()
    mesh.put(mesh.host(3), "site", {"title": "T"})
    mesh.advance(5 * TTL_S)
    assert mesh.primaries() == ["dev-01"] or mesh.followed()["dev-03"] is None
    mesh.settled("dev-01")


@pytest.mark.parametrize("failover", ["quorum", "priority", "manual"])
@pytest.mark.parametrize("asked", [1, 2, 3])
def test_any_instance_can_be_asked_to_promote_another(failover: str, asked: int) -> None:
    mesh = Electorate.running(3, failover=failover)
    assert isinstance(order(mesh, mesh.host(asked), inputs.PromoteInstance(1, "dev-03")), Accepted)
    mesh.advance(SOON_S)
    mesh.settled("dev-03")


def test_step_down_goes_to_the_best_successor_and_is_refused_elsewhere() -> None:
    mesh = Electorate.running(3)
    refused = order(mesh, mesh.host(2), inputs.StepDown(1))
    assert isinstance(refused, Rejected)
    assert refused.code == "not-primary"
    assert "dev-01" in refused.detail
    assert isinstance(order(mesh, mesh.host(1), inputs.StepDown(1)), Accepted)
    mesh.advance(SOON_S)
    mesh.settled("dev-02")


def test_nobody_steps_down_without_a_successor() -> None:
    mesh = Electorate.running(2, witnesses=["dev-02"])
    refused = order(mesh, mesh.host(1), inputs.StepDown(1))
    assert isinstance(refused, Rejected)
    assert refused.code == "no-successor"
    mesh.settled("dev-01")


def test_who_may_not_lead_is_not_promoted() -> None:
    mesh = Electorate.running(3, witnesses=["dev-03"])
    refused = order(mesh, mesh.host(1), inputs.PromoteInstance(1, "dev-03"))
    assert isinstance(refused, Rejected)
    assert refused.detail == "dev-03 may not lead: its leaderEligible is false"


def test_nobody_hands_over_to_a_stranger() -> None:
    mesh = Electorate.running(3)
    refused = order(mesh, mesh.host(1), inputs.PromoteInstance(1, "dev-77"))
    assert isinstance(refused, Rejected)
    mesh.settled("dev-01")


def test_without_a_mesh_there_is_nobody_to_promote() -> None:
    mesh = Electorate()
    alone = mesh.add(evolve(member("dev-01", []), hivemind=evolve(member("dev-01", []).hivemind, enabled=False)))
    mesh.start(alone)
    assert isinstance(order(mesh, alone, inputs.PromoteInstance(1)), Rejected)
    assert mesh.primaries() == ["dev-01"]


# Policies


def test_of_two_the_one_that_is_left_leads() -> None:
    mesh = Electorate.running(2)
    mesh.crash(mesh.host(1))
    assert failed_over(mesh) <= FAILOVER_S
    mesh.settled("dev-02")


def test_of_two_under_quorum_nobody_leads_alone() -> None:
    mesh = Electorate.running(2, failover="quorum")
    mesh.crash(mesh.host(1))
    mesh.advance(5 * TTL_S)
    assert mesh.primaries() == []
    mesh.start(mesh.host(1))
    mesh.advance(HEARTBEAT_S)
    mesh.settled("dev-01")


def test_under_priority_the_best_placed_that_is_left_leads() -> None:
    mesh = Electorate.running(3, failover="priority")
    mesh.crash(mesh.host(1))
    failed_over(mesh)
    mesh.advance(2 * TTL_S)
    mesh.settled("dev-02")


def test_under_manual_nobody_leads_by_itself() -> None:
    mesh = Electorate.running(3, failover="manual")
    mesh.crash(mesh.host(1))
    mesh.advance(5 * TTL_S)
    assert mesh.primaries() == []
    assert isinstance(order(mesh, mesh.host(3), inputs.PromoteInstance(1)), Accepted)
    mesh.advance(2 * HEARTBEAT_S)
    mesh.settled("dev-03")


def test_under_manual_the_configured_primary_leads_again_when_it_is_back() -> None:
    mesh = Electorate.running(3, failover="manual")
    mesh.crash(mesh.host(1))
    mesh.advance(5 * TTL_S)
    mesh.start(mesh.host(1))
    mesh.advance(2 * HEARTBEAT_S)
    mesh.settled("dev-01")


def test_a_power_cut_leaves_no_mesh_without_primary_when_people_decide() -> None:
    """All start at once; the voters still owe dev-02 something, and tell the configured primary that somebody leads."""
    mesh = Electorate.running(3, failover="manual")
    promote(mesh, 2)
    for host in mesh.alive():
        mesh.crash(host)
    mesh.start_all()
    mesh.advance(5 * TTL_S)
    mesh.settled("dev-01")


def test_after_a_power_cut_two_of_five_have_a_hub_at_least() -> None:
    mesh = Electorate.running(5)
    promote(mesh, 2)
    for host in mesh.alive():
        mesh.crash(host)
    mesh.start(mesh.host(3))
    mesh.start(mesh.host(1))
    mesh.advance(5 * TTL_S)
    assert mesh.primaries() == ["dev-01"]
    assert mesh.followed() == {"dev-03": "dev-01"}


def test_a_power_cut_of_all_is_over_soon() -> None:
    mesh = Electorate.running(3)
    promote(mesh, 2)
    for host in mesh.alive():
        mesh.crash(host)
    mesh.start_all()
    assert failed_over(mesh) <= FAILOVER_S
    mesh.advance(2 * HEARTBEAT_S)
    assert len(mesh.primaries()) == 1
    mesh.settled(mesh.primaries()[0])


def test_a_witness_votes_and_never_leads() -> None:
    mesh = Electorate.running(3, witnesses=["dev-02"])
    mesh.crash(mesh.host(1))
    assert failed_over(mesh) <= FAILOVER_S
    mesh.advance(SOON_S)
    mesh.settled("dev-03")


def test_two_boxes_and_a_witness_have_no_primary_while_only_the_witness_is_left() -> None:
    mesh = Electorate.running(3, witnesses=["dev-03"])
    mesh.crash(mesh.host(1))
    mesh.crash(mesh.host(2))
    mesh.advance(5 * TTL_S)
    assert mesh.primaries() == []


def test_a_configured_primary_that_may_not_lead_does_not() -> None:
    mesh = Electorate.of(3, witnesses=["dev-01"])
    mesh.start_all()
    failed_over(mesh)
    mesh.advance(SOON_S)
    mesh.settled("dev-02")


def test_who_is_no_voter_follows_and_counts_for_nothing() -> None:
    """Nine: seven of them elect."""
    mesh = Electorate.running(9)
    for number in (1, 2, 3, 4):
        mesh.crash(mesh.host(number))
    mesh.advance(5 * TTL_S)
    assert mesh.deciding() == []  # three voters and two others: no majority of seven
    mesh.start(mesh.host(4))
    assert failed_over(mesh) <= FAILOVER_S
    mesh.advance(HEARTBEAT_S)
    mesh.settled("dev-04")


def test_three_of_seven_voters_elect_nobody_not_even_a_configured_primary_that_is_no_voter() -> None:
    mesh = Electorate.of(8, configured_primary="dev-08")
    mesh.split([8, 1, 2, 3], [4, 5, 6, 7])
    mesh.start_all()
    mesh.advance(HEARTBEAT_S)
    mesh.crash(mesh.host(1))
    mesh.host(1).disk.ballot = Ballot(7)  # it has taken part in an election that the others missed
    mesh.start(mesh.host(1))
    mesh.advance(3 * TTL_S)
    mesh.safe()
    assert mesh.decides(mesh.host(8)) is None


def test_other_peers_elect_nobody_of_ours_and_it_is_told() -> None:
    mesh = Electorate.running(3)
    mesh.crash(mesh.host(1))
    other = mesh.host(3)
    mesh.crash(other)
    other.configuration = member("dev-03", ["dev-03", "dev-02", "dev-01"])
    mesh.start(other)
    mesh.advance(5 * TTL_S)
    assert mesh.deciding() == []
    assert "peers-mismatch" in [alert.code for alert in mesh.snapshot(mesh.host(2)).alerts]
    mesh.safe()


# A partition


@pytest.mark.parametrize("group", [(1,), (1, 2)])
def test_a_primary_in_the_minority_stops_deciding_before_another_begins(group: tuple[int, ...]) -> None:
    mesh = Electorate.running(5)
    rest = [number for number in range(1, 6) if number not in group]
    mesh.split(group, rest)
    mesh.advance(0.75 * TTL_S)
    assert mesh.deciding() == []
    assert mesh.primaries() == ["dev-01"]
    assert failed_over(mesh) <= FAILOVER_S
    mesh.safe()
    assert mesh.primaries() == ["dev-01", f"dev-{rest[0]:02}"]


def test_a_hub_in_the_minority_passes_documents_on_and_yields_when_it_meets_the_others() -> None:
    mesh = Electorate.running(5)
    mesh.split([1, 2], [3, 4, 5])
    mesh.advance(2 * TTL_S)
    mesh.put(mesh.host(1), "here", {"title": "H"})
    mesh.put(mesh.host(4), "there", {"title": "T"})
    mesh.advance(SOON_S)
    assert mesh.document(mesh.host(2), "here") is not None
    assert mesh.document(mesh.host(5), "there") is not None
    mesh.heal()
    mesh.advance(TTL_S)
    mesh.settled("dev-03")
    assert {"here", "there"} <= set(mesh.snapshot(mesh.host(5)).documents)
    (resolved,) = mesh.host(1).events("sync:split-brain-resolved")
    assert (resolved["primary"], resolved["steppedDown"]) == ("dev-03", "dev-01")


def test_a_hub_regains_what_it_lost_when_nobody_was_elected_meanwhile() -> None:
    mesh = Electorate.running(3)
    mesh.split([1], [2], [3])
    mesh.advance(2 * TTL_S)
    assert mesh.deciding() == []
    mesh.heal()
    mesh.advance(TTL_S)
    assert len(mesh.primaries()) == 1
    mesh.settled(mesh.primaries()[0])


@pytest.mark.parametrize("failover", ["quorum", "priority"])
def test_two_primaries_that_meet_are_one_within_one_exchange(failover: str) -> None:
    """The one elected in the later term stays: it is the one that the majority, or the later decision, chose."""
    mesh = Electorate.running(3, failover=failover)
    mesh.split([1], [2, 3])
    mesh.advance(3 * TTL_S)
    assert mesh.primaries() == ["dev-01", "dev-02"]
    mesh.heal()
    while frozenset(("dev-01", "dev-02")) not in {
        frozenset(host.name for host in pipe.ends) for pipe in mesh.host(1).pipes.values()
    }:
        mesh.advance(0.1)
    mesh.settle()
    assert mesh.primaries() == ["dev-02"]
    mesh.advance(SOON_S)
    mesh.settled("dev-02")
    assert len(mesh.host(1).events("sync:split-brain-resolved")) == 1


def test_a_partition_of_two_heals_with_both_sides_documents() -> None:
    mesh = Electorate.running(2)
    mesh.split([1], [2])
    mesh.advance(2 * TTL_S)
    assert mesh.deciding() == ["dev-01", "dev-02"]  # two alone cannot do better: the later term wins
    mesh.put(mesh.host(1), "a", {"title": "A"})
    mesh.put(mesh.host(2), "b", {"title": "B"})
    mesh.heal()
    mesh.advance(TTL_S)
    mesh.settled("dev-02")
    assert set(mesh.snapshot(mesh.host(1)).documents) == {"a", "b"}


@pytest.mark.parametrize("restarts", [False, True])
def test_a_voter_that_loses_its_primary_and_meets_an_old_one_stays_bound(restarts: bool) -> None:
    """dev-01 was cut off (or has started alone) and leads without authority; dev-03 follows it, and votes for it."""
    mesh = Electorate.running(3)
    mesh.split([1], [2, 3])
    mesh.advance(2 * TTL_S)
    if restarts:
        mesh.crash(mesh.host(1))
        mesh.start(mesh.host(1))
        mesh.advance(SOON_S)
    mesh.split([1, 3], [2])
    mesh.advance(2 * TTL_S)
    mesh.safe()


def test_a_voter_that_comes_back_is_bound_as_soon_as_it_is_counted() -> None:
    """dev-02 ends the time in which dev-03 may not decide; before it has heard so, dev-01 asks it for its vote."""
    mesh = Electorate.running(3, witnesses=["dev-02"])
    promote(mesh, 3)
    mesh.split([1], [2], [3])
    mesh.advance(2 * TTL_S)
    mesh.cut = {frozenset(("dev-01", "dev-03")), frozenset(("dev-02", "dev-01"))}
    while not mesh.deciding():
        mesh.advance(0.05)
    third, second = leadership(mesh.host(3)), leadership(mesh.host(2))
    assert third.authority.holds(mesh.now(mesh.host(3)))
    assert second.voter.is_bound(mesh.now(mesh.host(2)))


def two_of_three() -> Electorate:
    """dev-02 leads, and counts dev-01; dev-03 was away for long."""
    mesh = Electorate.running(3)
    promote(mesh, 2)
    mesh.crash(mesh.host(3))
    mesh.advance(2 * TTL_S)
    mesh.settled("dev-02")
    return mesh


def test_a_person_cannot_make_an_instance_lead_that_its_primary_still_counts_on() -> None:
    mesh = two_of_three()
    mesh.split([1, 3], [2])
    mesh.host(3).disk.ballot = evolve(mesh.host(3).disk.ballot, leader=None)
    mesh.start(mesh.host(3))
    mesh.advance(SOON_S)
    mesh.step(mesh.host(1), inputs.PromoteInstance(1))
    mesh.advance(TTL_S)
    mesh.safe()


def test_a_configured_primary_that_restarts_is_bound_like_any_other_voter() -> None:
    mesh = two_of_three()
    mesh.split([1, 3], [2])
    mesh.host(3).disk.ballot = evolve(mesh.host(3).disk.ballot, leader=None)
    mesh.start(mesh.host(3))
    mesh.crash(mesh.host(1))
    mesh.start(mesh.host(1))
    mesh.advance(TTL_S)
    mesh.safe()


def test_a_hub_that_steps_down_is_bound_to_whom_it_followed_before_it_restarted() -> None:
    """dev-01 restarts out of reach of dev-02, which counts it, and hands over what little it leads."""
    mesh = two_of_three()
    mesh.split([1, 3], [2])
    mesh.host(3).disk.ballot = evolve(mesh.host(3).disk.ballot, leader=None)
    mesh.start(mesh.host(3))
    mesh.crash(mesh.host(1))
    mesh.start(mesh.host(1))
    mesh.advance(SOON_S)
    assert leadership(mesh.host(1)).leads == HUB_TERM
    assert isinstance(order(mesh, mesh.host(1), inputs.StepDown(1)), Accepted)
    mesh.advance(TTL_S)
    mesh.safe()


def test_a_voter_that_restarts_with_a_shorter_ttl_keeps_the_word_that_it_gave_before() -> None:
    """dev-01 counts dev-03 for three quarters of their longer TTL, and hears no more of it."""
    mesh, everybody = Electorate(), names(3)
    for name in everybody:
        role = Role.PRIMARY if name == "dev-01" else Role.WORKER
        mesh.add(member(name, everybody, role=role, ttl_s=TTL_S if name == "dev-02" else 2 * TTL_S))
    mesh.start_all()
    mesh.advance(TTL_S)
    mesh.settled("dev-01")
    third = mesh.host(3)
    mesh.crash(third)
    third.configuration = member("dev-03", everybody)
    mesh.start(third)
    mesh.advance(SOON_S)
    mesh.split([1], [2, 3])
    mesh.advance(4 * TTL_S)
    assert mesh.deciding() == ["dev-02"]
    mesh.safe()


def test_a_triangle_with_one_side_missing_keeps_its_primary_under_quorum() -> None:
    mesh = Electorate.running(3)
    mesh.part(mesh.host(1), mesh.host(3))
    mesh.advance(10 * TTL_S)
    assert mesh.deciding() == ["dev-01"]
    assert leadership(mesh.host(1)).term == 1
    mesh.heal()
    mesh.advance(HEARTBEAT_S * 2)
    mesh.settled("dev-01")


def test_a_triangle_with_one_side_missing_keeps_its_primary_under_priority() -> None:
    """dev-02 answers dev-03, and hears the primary: dev-03 has no reason to lead."""
    mesh = Electorate.running(3, failover="priority")
    before = leadership(mesh.host(1)).term
    mesh.part(mesh.host(1), mesh.host(3))
    mesh.advance(10 * TTL_S)
    assert mesh.primaries() == ["dev-01"]
    assert leadership(mesh.host(1)).term == before


# Links that carry one way


@pytest.mark.parametrize("direction", ["to", "from"])
def test_a_primary_that_only_sends_or_only_hears_is_replaced_and_never_two_decide(direction: str) -> None:
    mesh = Electorate.running(3)
    first = mesh.host(1)
    for other in (mesh.host(2), mesh.host(3)):
        mesh.unheard(*((other, first) if direction == "to" else (first, other)))
    mesh.advance(TTL_S)
    assert mesh.deciding() in ([], ["dev-02"])
    mesh.advance(2 * TTL_S)
    mesh.safe()
    mesh.heal()
    for other in (mesh.host(2), mesh.host(3)):
        mesh.reset(first, other)  # the engine aborts links on which nothing is heard
    mesh.advance(2 * TTL_S)
    assert len(mesh.primaries()) == 1
    mesh.settled(mesh.primaries()[0])


# A stall


@pytest.mark.parametrize("count", [3, 5])
def test_a_primary_that_stalls_for_longer_than_the_ttl_decides_nothing_after_waking(count: int) -> None:
    mesh = Electorate.running(count)
    first = mesh.host(1)
    mesh.stalled.add("dev-01")
    mesh.advance(TTL_S)
    assert "dev-01" not in mesh.deciding()
    mesh.stalled.discard("dev-01")
    mesh.stall(first, 2 * TTL_S)
    assert mesh.deciding() == ["dev-02"]
    mesh.advance(TTL_S)
    mesh.settled("dev-02")
    assert first.events("sync:split-brain-resolved") or leadership(first).primary_id == "dev-02"


def test_a_worker_that_stalls_stands_for_nothing_and_follows_on() -> None:
    mesh = Electorate.running(3)
    before = leadership(mesh.host(1)).term
    mesh.stall(mesh.host(3), 3 * TTL_S)
    mesh.advance(TTL_S)
    mesh.settled("dev-01")
    assert leadership(mesh.host(1)).term == before


def test_a_night_in_which_all_sleep_changes_nothing() -> None:
    mesh = Electorate.running(3)
    mesh.sleep(8 * 3600)
    mesh.advance(2 * TTL_S)
    mesh.settled("dev-01")


# Documents


def test_what_is_written_during_a_failover_is_kept_and_comes_to_all() -> None:
    mesh = Electorate.running(3)
    mesh.put(mesh.host(3), "before", {"title": "B"})
    mesh.advance(SOON_S)
    mesh.crash(mesh.host(1))
    for number in (2, 3):
        mesh.put(mesh.host(number), f"while-{number}", {"title": str(number)})
        mesh.patch(mesh.host(number), "before", {"note": f"by {number}"})
    failed_over(mesh)
    mesh.put(mesh.host(3), "after", {"title": "A"})
    mesh.advance(HEARTBEAT_S)
    mesh.settled("dev-02")
    mesh.start(mesh.host(1))
    mesh.advance(HEARTBEAT_S)
    mesh.settled("dev-02")
    assert set(mesh.snapshot(mesh.host(1)).documents) == {"before", "while-2", "while-3", "after"}
    assert all(not mesh.snapshot(host).queued_changes for host in mesh.alive())


def test_a_worker_that_leads_has_nothing_queued_and_what_was_reaches_all() -> None:
    mesh = Electorate.running(3)
    mesh.crash(mesh.host(1))
    for number in range(20):
        mesh.put(mesh.host(2), f"site-{number}", {"title": "T"})
    assert mesh.snapshot(mesh.host(2)).queued_changes == 20
    failed_over(mesh)
    mesh.advance(SOON_S)
    mesh.settled("dev-02")
    assert mesh.snapshot(mesh.host(2)).queued_changes == 0
    assert mesh.host(2).disk.outbox == {}
    assert len(mesh.snapshot(mesh.host(3)).documents) == 20


def test_what_the_old_primary_acknowledged_alone_is_not_lost() -> None:
    mesh = Electorate.running(3)
    mesh.part(mesh.host(1), mesh.host(2))
    mesh.part(mesh.host(1), mesh.host(3))
    assert isinstance(mesh.put(mesh.host(1), "alone", {"title": "A"}), Accepted)
    mesh.crash(mesh.host(1))
    mesh.heal()
    failed_over(mesh)
    mesh.start(mesh.host(1))
    mesh.advance(TTL_S)
    mesh.settled("dev-02")
    assert mesh.document(mesh.host(3), "alone") == {**(mesh.document(mesh.host(1), "alone") or {})}


# Peace and quiet


def test_a_mesh_at_rest_dials_nobody_and_says_nothing_new() -> None:
    mesh = Electorate.running(5)
    mesh.closed.clear()
    for host in mesh.alive():
        host.dialled.clear()
        host.told.clear()
        host.notes.clear()
    mesh.advance(20 * TTL_S)
    mesh.settled("dev-01")
    assert mesh.closed == []
    assert [(host.dialled, host.told, host.notes) for host in mesh.alive()] == [([], [], [])] * 5


@pytest.mark.parametrize("failover", ["quorum", "priority", "manual"])
def test_whoever_cannot_be_reached_is_dialled_calmly_and_told_of_once(failover: str) -> None:
    mesh = Electorate.running(3, failover=failover)
    mesh.crash(mesh.host(3))
    mesh.advance(2 * TTL_S)
    for host in mesh.alive():
        host.dialled.clear()
        host.told.clear()
        host.notes.clear()
    mesh.advance(10 * TTL_S)
    mesh.settled("dev-01")
    for host in mesh.alive():
        assert len(host.dialled) <= 10 * TTL_S / 2
        assert host.told == []
        assert [note for note in host.notes if note.level > 10] == []


def test_a_worker_with_another_url_than_the_peers_list_has_is_not_dialled_for_ever() -> None:
    """A name in `peers`, an address in `instanceUrl`: each dial ends the link that was there."""
    mesh = Electorate()
    mesh.add(member("dev-01", names(2), role=Role.PRIMARY))
    plain = member("dev-02", names(2))
    other = mesh.add(evolve(plain, protolab=evolve(plain.protolab, instance_url="ws://10.0.0.2:4444")))
    mesh.hosts["dev-02"] = other
    mesh.start_all()
    mesh.advance(5 * TTL_S)
    mesh.closed.clear()
    mesh.advance(5 * TTL_S)
    assert mesh.closed == []
    assert mesh.followed() == {"dev-02": "dev-01"}


def test_two_that_dial_each_other_at_once_keep_one_link() -> None:
    mesh = Electorate.running(3)
    mesh.crash(mesh.host(1))
    mesh.step(mesh.host(2), inputs.PromoteInstance(1))
    mesh.step(mesh.host(3), inputs.PromoteInstance(1))
    mesh.advance(2 * TTL_S)
    assert len(mesh.primaries()) == 1
    mesh.settled(mesh.primaries()[0])
    assert len(mesh.host(2).pipes) == len(mesh.host(3).pipes) == 1


def test_standing_is_following_for_all_but_one() -> None:
    mesh = Electorate.running(5)
    assert [leadership(host).standing for host in mesh.alive()] == [Standing.LEADING, *[Standing.FOLLOWING] * 4]


def test_a_dead_primary_is_failed_everywhere_and_alive_when_it_is_back() -> None:
    mesh = led_by_second()
    mesh.advance(TTL_S)
    assert mesh.statuses(mesh.host(2))["dev-01"] is Status.FAILED
    assert mesh.statuses(mesh.host(3))["dev-01"] is Status.FAILED
    mesh.start(mesh.host(1))
    mesh.advance(HEARTBEAT_S)
    assert mesh.statuses(mesh.host(3)) == {"dev-01": Status.ALIVE, "dev-02": Status.ALIVE}


# Who does not fit


def a_twin(mesh: Electorate, of: Host) -> Host:
    """Another daemon with the same name, on another host."""
    twin = mesh.hosts["twin"] = Host(of.configuration, Disk("s2"), boots=77)
    mesh.start(twin)
    return twin


@pytest.mark.parametrize("failover", ["quorum", "priority"])
@pytest.mark.parametrize("number", [1, 3])
def test_a_twin_disturbs_nobody(failover: str, number: int) -> None:
    mesh = Electorate.running(3, failover=failover)
    twin = a_twin(mesh, mesh.host(number))
    mesh.advance(2 * TTL_S)
    others = [mesh.host(other) for other in (1, 2, 3)]
    turns, terms = [len(host.disk.turns) for host in others], [leadership(host).term for host in others]
    for host in mesh.hosts.values():
        host.notes.clear()
        host.told.clear()
        host.dialled.clear()
    mesh.advance(10 * TTL_S)
    assert [len(host.disk.turns) for host in others] == turns
    assert [leadership(host).term for host in others] == terms
    assert [(host.told, [note for note in host.notes if note.level > 10]) for host in others] == [([], [])] * 3
    assert twin.told == []
    assert len(twin.disk.turns) <= 2
    mesh.safe()


def test_a_twin_of_a_worker_does_not_fill_its_log() -> None:
    mesh = Electorate.running(3)
    twin = a_twin(mesh, mesh.host(3))
    mesh.advance(2 * TTL_S)
    twin.notes.clear()
    mesh.advance(10 * TTL_S)
    assert len([note for note in twin.notes if note.level > 10]) < 5


def test_the_partition_of_whoever_is_refused_again_and_again_began_at_the_first_time() -> None:
    mesh = Electorate.running(3)
    twin = a_twin(mesh, mesh.host(3))
    mesh.advance(3 * TTL_S)
    assert "partitioned" in [alert.code for alert in mesh.snapshot(twin).alerts]


@pytest.mark.parametrize("role", [Role.PRIMARY, Role.WORKER])
def test_an_original_worker_that_promotes_itself_is_obeyed_by_nobody(role: Role) -> None:
    """It names no term: whoever was elected leads with more right."""
    mesh = Electorate.running(3)
    host = mesh.host(1 if role is Role.PRIMARY else 2)
    mesh.step(host, inputs.LinkUp(90, "original:1"))
    mesh.step(host, inputs.Received(90, messages.Identity("orig", messages.UtcMs(1), priority=5)))
    mesh.step(host, inputs.Received(90, messages.Promote("orig", messages.UtcMs(1), 5, "ws://orig:4444")))
    mesh.advance(2 * HEARTBEAT_S)
    mesh.safe()
    assert mesh.deciding() == ["dev-01"]
    assert mesh.followed() == {"dev-02": "dev-01", "dev-03": "dev-01"}


def test_an_original_among_the_peers_gives_no_vote_and_costs_a_majority_no_more_than_itself() -> None:
    """dev-03 speaks the original dialect: it is counted among the voters, and never votes."""
    mesh = Electorate.of(3)
    mesh.start(mesh.host(1))
    mesh.start(mesh.host(2))
    mesh.advance(HEARTBEAT_S)
    for host in mesh.alive():
        mesh.step(host, inputs.LinkUp(90, "original:1"))
        mesh.step(host, inputs.Received(90, messages.Identity("dev-03", messages.UtcMs(1), url="ws://dev-03:4444")))
    mesh.advance(TTL_S)
    assert mesh.deciding() == ["dev-01"]
    mesh.crash(mesh.host(1))
    mesh.advance(3 * TTL_S)
    assert mesh.deciding() == []
    mesh.safe()


@pytest.mark.parametrize("failover", ["priority", "manual"])
def test_a_configured_primary_that_is_behind_takes_a_later_term_than_it_hears_of(failover: str) -> None:
    """dev-02 has led while dev-01 was away, and all were started again."""
    mesh = Electorate.of(2, failover=failover)
    mesh.host(2).disk.ballot = Ballot(9, "dev-02")
    mesh.start_all()
    mesh.advance(HEARTBEAT_S)
    mesh.settled("dev-01")
    assert leadership(mesh.host(1)).term > 9
