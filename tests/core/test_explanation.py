"""What is told of leadership: who leads, why this instance does not, and whether a failover could succeed."""

from __future__ import annotations

import pytest
from attrs import evolve

from meshd.core.snapshot import LeadershipView
from tests.core.electorate import HEARTBEAT_S, TTL_S, Electorate, member, names


def seen(mesh: Electorate, number: int) -> LeadershipView:
    return mesh.snapshot(mesh.host(number)).leadership


def test_the_primary_tells_since_when_and_by_what_it_leads() -> None:
    mesh = Electorate.running(3)
    view = seen(mesh, 1)
    assert (view.policy, view.term, view.leads, view.authoritative, view.majority) == ("quorum", 1, 1, True, 2)
    assert (view.cause, view.why_not) == ("elected by 2 voters", "")
    assert view.since_ms == view.turns[-1].utc_ms
    assert [(voter.instance_id, voter.is_self) for voter in view.voters] == [
        ("dev-01", True),
        ("dev-02", False),
        ("dev-03", False),
    ]


def test_a_worker_tells_who_leads_instead() -> None:
    assert seen(Electorate.running(3), 2).why_not == "dev-01 leads in term 1"


def test_of_a_hub_it_is_told_that_it_decides_nothing() -> None:
    mesh = Electorate.of(5)
    for number in (1, 2):
        mesh.start(mesh.host(number))
    mesh.advance(HEARTBEAT_S * 2)
    assert seen(mesh, 2).why_not == "dev-01 leads, without authority as long as it has no majority of the voters"


@pytest.mark.parametrize(
    ("failover", "witnesses", "why_not"),
    [
        ("auto", ["dev-02"], "hivemind.leaderEligible is false: it votes, and never leads"),
        ("manual", [], "hivemind.failover is manual: it leads when `meshd promote` says so"),
    ],
)
def test_who_never_leads_by_itself_says_why(failover: str, witnesses: list[str], why_not: str) -> None:
    mesh = Electorate.running(3, failover=failover, witnesses=witnesses)
    mesh.crash(mesh.host(1))
    mesh.crash(mesh.host(3))
    mesh.advance(3 * TTL_S)
    assert seen(mesh, 2).why_not == why_not
    assert mesh.snapshot(mesh.host(2)).primary_id is None
    assert mesh.snapshot(mesh.host(2)).leadership.turns[-1].leader is None


def test_who_waits_says_for_how_long_and_what_the_last_try_came_to() -> None:
    mesh = Electorate.running(3)
    mesh.crash(mesh.host(1))
    mesh.crash(mesh.host(3))
    mesh.advance(HEARTBEAT_S)
    assert seen(mesh, 2).why_not.startswith("it looks for a primary, and stands itself in ")
    mesh.advance(2 * TTL_S)
    assert "the last try failed (ws://dev-01:4444: no answer, ws://dev-03:4444: no answer)" in seen(mesh, 2).why_not


def test_a_failover_needs_a_majority_without_the_primary() -> None:
    mesh = Electorate.running(3)
    assert seen(mesh, 3).failover.winner == "dev-02"
    mesh.crash(mesh.host(3))
    mesh.advance(2 * TTL_S)
    for number in (1, 2):
        failover = seen(mesh, number).failover
        assert (failover.possible, failover.winner) == (False, None)
        assert failover.missing == ("without dev-01 1 of 3 voters is left, 2 are needed", "dev-03 is offline")


def test_who_was_given_another_ttl_is_no_help() -> None:
    mesh = Electorate.of(3)
    odd = mesh.host(3)
    hivemind = odd.configuration.hivemind
    odd.configuration = evolve(odd.configuration, hivemind=evolve(hivemind, peer_ttl_ms=2 * hivemind.peer_ttl_ms))
    mesh.start_all()
    mesh.advance(3 * TTL_S)
    for number in (1, 2):
        assert seen(mesh, number).failover.missing == (
            "without dev-01 1 of 3 voters is left, 2 are needed",
            "dev-03 was given other hivemind.peers, failover or peerTtlMs: it gives no vote",
        )


def test_who_comes_after_the_seventh_says_that_it_is_no_voter() -> None:
    everybody = names(8)
    mesh = Electorate()
    mesh.add(member("dev-08", everybody))
    mesh.start_all()
    mesh.advance(TTL_S)
    assert seen(mesh, 8).why_not == "it is no voter: the first 7 of hivemind.peers elect and lead"
