"""How long a claim is left to its holder."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from meshd.core import inputs, messages
from meshd.core.claim import ClaimStatus
from meshd.core.effects import Note
from meshd.core.inputs import Outcome
from meshd.core.messages import Compared, Heartbeat, Leases, Message
from tests.core.electorate import FAILOVER_S, HEARTBEAT_S, TTL_S
from tests.core.mesh import Host
from tests.core.test_claims import lose, request, says
from tests.core.workforce import FENCED_S, INTAKE, LOCK_DELAY_S, TIMEOUT_S, P, Q, Workforce, site

PATIENCE_S = TIMEOUT_S + LOCK_DELAY_S


def held_by(number: int, *, others: tuple[str, ...] = (), **how: Any) -> tuple[Workforce, Host]:
    """A mesh of three in which this host works on `p`; `others` have a command, too, but take nothing yet."""
    names = {f"dev-{each:02}" for each in (1, 2, 3)}
    mesh = Workforce.at_work(without_command=names - {f"dev-{number:02}", *others}, **how)
    for name in set(others) - {f"dev-{number:02}"}:
        mesh.order(mesh.hosts[name], inputs.SetDraining(1, is_draining=True))
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.settle()
    assert mesh.working() == {P: f"dev-{number:02}"}
    for name in others:
        mesh.order(mesh.hosts[name], inputs.SetDraining(1, is_draining=False))
    return mesh, mesh.host(number)


def warnings(mesh: Workforce) -> list[str]:
    return [note.text for host in mesh.hosts.values() for note in host.notes if "taken back" in note.text]


def answered(mesh: Workforce) -> list[Leases]:
    return [message for _, _, message in mesh.said if isinstance(message, Leases)]


def beat(sender: Host, number: int, *holding: str, heard: int | None = None) -> Heartbeat:
    boot = f"{sender.name}-boot{sender.boots}"
    return Heartbeat(sender.name, messages.UtcMs(1), boot=boot, term=1, beat=number, holding=holding, heard=heard)


# Nobody who lives loses anything


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_claim_whose_holder_is_alive_for_ten_claim_timeouts_is_never_reclaimed(number: int) -> None:
    """Whoever looks: each host is the primary for a while, and each sees the same holder all the time."""
    mesh, holder = held_by(number, others=("dev-01", "dev-02", "dev-03"))
    others = [host for host in mesh.alive() if host is not holder]
    for turn in range(10):
        leaving = others[turn % 2]
        if mesh.snapshot(leaving).role == "primary":
            mesh.order(leaving, inputs.StepDown(1))
        elif turn % 3 == 0:
            mesh.crash(leaving)
            mesh.advance(5)
            mesh.start(leaving)
        mesh.advance(TIMEOUT_S)
        assert mesh.working() == {P: holder.name}
        assert {mesh.claim(host).generation for host in mesh.alive() if mesh.claim(host)} == {1}  # type: ignore[union-attr]
    assert warnings(mesh) == []
    assert mesh.status() == f"{holder.name} in_progress 1"
    mesh.safe()


def test_heartbeats_renew_a_lease_from_the_moment_at_which_they_were_sent() -> None:
    mesh, holder = held_by(2)
    mesh.advance(10 * TIMEOUT_S)
    (view,) = mesh.snapshot(holder).work.held
    assert view.lease_left_s is not None
    assert FENCED_S - HEARTBEAT_S <= view.lease_left_s <= FENCED_S
    claim = mesh.feature(holder).claim
    until_s = mesh.leases[holder.name, claim]
    assert until_s == pytest.approx(mesh.mono_s + view.lease_left_s)


def test_the_primary_answers_what_is_valid_and_what_is_lost() -> None:
    mesh, holder = held_by(2)
    name = mesh.feature(holder).claim
    mesh.said.clear()
    says(mesh, holder, mesh.host(1), beat(holder, 77, name, "x-9"))
    (answer,) = answered(mesh)
    assert answer == Leases(1, 77, (name,), {"x-9": "unknown"})


def test_what_is_only_asked_for_yet_is_neither() -> None:
    mesh = Workforce.at_work(without_command=("dev-01", "dev-02", "dev-03"))
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.settle()
    lose(mesh, messages.ProposalStored)
    says(mesh, mesh.host(2), mesh.host(1), request("x-1"))
    mesh.settle()
    says(mesh, mesh.host(2), mesh.host(1), beat(mesh.host(2), 5, "x-1"))
    assert answered(mesh)[-1] == Leases(1, 5, (), {})


def test_nobody_is_answered_before_documents_were_compared() -> None:
    mesh, holder = held_by(3)
    lose(mesh, Compared)
    mesh.reset(holder, mesh.host(1))
    mesh.said.clear()
    mesh.advance(2 * HEARTBEAT_S)
    assert answered(mesh) == []
    assert mesh.status() == "dev-03 in_progress 1", "nor is it taken for one who forgot"


def test_who_cannot_decide_answers_nobody_and_takes_nothing_back() -> None:
    mesh, holder = held_by(3)
    primary = mesh.host(1)
    mesh.unheard(mesh.host(2), primary)
    mesh.unheard(holder, primary)
    mesh.advance(0.75 * TTL_S + 1)
    assert mesh.decides(primary) is None
    mesh.said.clear()
    says(mesh, holder, primary, beat(holder, 200, "x-9"))
    assert answered(mesh) == []


# Who is gone


@pytest.mark.parametrize("successor", ["dev-01", "dev-02"])
def test_the_claim_of_who_died_is_taken_back_after_the_timeout_and_the_lock_delay(successor: str) -> None:
    mesh, holder = held_by(3, others=(successor,))
    mesh.advance(HEARTBEAT_S)
    heard_s = mesh.mono_s
    mesh.crash(holder)
    mesh.advance(PATIENCE_S - HEARTBEAT_S)
    assert mesh.status() == "dev-03 in_progress 1", "not before"
    assert mesh.statuses(mesh.host(1))["dev-03"].shown == "offline"
    mesh.advance(2 * HEARTBEAT_S)
    assert mesh.working() == {P: successor}
    assert mesh.status() == f"{successor} in_progress 2"
    run = mesh.runs[-1]
    assert heard_s + PATIENCE_S <= run.begun_s <= heard_s + PATIENCE_S + HEARTBEAT_S
    assert warnings(mesh) == ["site/m/p is taken back from dev-03: dev-03 was not heard for 35 s"]
    (event,) = mesh.host(1).events("claim:reclaimed")
    assert (event["holder"], event["generation"], event["phaseSlug"]) == ("dev-03", 1, "p")


def test_a_holder_that_is_cut_off_has_stopped_before_another_begins() -> None:
    mesh, _ = held_by(3, others=("dev-02",))
    mesh.stops_s = 2.0
    mesh.split([1, 2], [3])
    mesh.advance(3 * PATIENCE_S)
    assert mesh.working() == {P: "dev-02"}
    first, second = mesh.runs
    assert first.ended_s is not None
    assert first.ended_s <= second.begun_s - LOCK_DELAY_S
    mesh.heal()
    mesh.advance(TTL_S)
    assert mesh.status() == "dev-02 in_progress 2"
    mesh.safe()


def test_a_new_primary_counts_from_its_own_election() -> None:
    """Whoever led before may have heard the holder just now."""
    mesh, holder = held_by(3)
    mesh.crash(holder)
    mesh.advance(PATIENCE_S - 2 * HEARTBEAT_S)
    mesh.start(holder)  # a majority needs it
    mesh.advance(0.5)
    mesh.crash(mesh.host(1))
    mesh.advance(FAILOVER_S)
    assert mesh.primaries() == ["dev-02"]
    assert not any("not heard" in text for text in warnings(mesh))


def test_it_says_how_long_each_holder_is_left() -> None:
    mesh, holder = held_by(3)
    mesh.advance(HEARTBEAT_S)
    mesh.crash(holder)
    mesh.advance(10)
    (view,) = mesh.snapshot(mesh.host(1)).work.holders
    assert view.instance_id == "dev-03"
    assert 10 <= view.heard_age_s <= 10 + HEARTBEAT_S
    assert view.reclaim_in_s == pytest.approx(PATIENCE_S - view.heard_age_s)
    assert mesh.snapshot(mesh.host(2)).work.holders == ()


def test_who_left_is_gone_but_his_claims_are_his_for_the_same_time() -> None:
    """What he worked on may still run."""
    mesh, holder = held_by(3)
    mesh.drain(holder)
    mesh.advance(PATIENCE_S - 2 * HEARTBEAT_S)
    assert mesh.statuses(mesh.host(1))["dev-03"].shown == "offline"
    assert mesh.status() == "dev-03 in_progress 1"
    mesh.advance(4 * HEARTBEAT_S)
    assert mesh.status() == "dev-03 released 1"


def test_what_was_finished_stands_although_it_was_taken_back() -> None:
    mesh, _ = held_by(3)
    mesh.split([1, 2], [3])
    mesh.advance(FENCED_S - HEARTBEAT_S - 1)
    mesh.end(P, pr_url="https://x/1")
    mesh.advance(PATIENCE_S)
    assert mesh.claim(mesh.host(1)).status is ClaimStatus.RELEASED  # type: ignore[union-attr]
    mesh.heal()
    mesh.advance(TTL_S)
    assert mesh.status() == "dev-03 done 1"


# Orphans


def test_a_grant_that_its_holder_no_longer_waits_for_is_taken_back() -> None:
    mesh = Workforce.at_work(without_command=("dev-01", "dev-02", "dev-03"))
    primary, worker = mesh.host(1), mesh.host(2)
    mesh.put(primary, "site", site("p"))
    mesh.settle()
    says(mesh, worker, primary, request("gone-1"))
    mesh.settle()
    assert mesh.status() == "dev-02 claimed 1"
    mesh.advance(2 * HEARTBEAT_S)
    assert mesh.status() == "dev-02 released 1"
    assert warnings(mesh) == ["site/m/p is taken back from dev-02: its holder does not know of it"]


def test_a_heartbeat_that_was_sent_before_the_grant_takes_nothing_back() -> None:
    mesh = Workforce.at_work(without_command=("dev-01", "dev-02", "dev-03"))
    primary, worker = mesh.host(1), mesh.host(2)
    mesh.put(primary, "site", site("p"))
    mesh.settle()
    assert primary.node
    heard = primary.node._portrait.presence_seq
    says(mesh, worker, primary, request("x-1"))
    mesh.settle()
    says(mesh, worker, primary, beat(worker, 300, heard=heard))
    assert mesh.status() == "dev-02 claimed 1"
    says(mesh, worker, primary, beat(worker, 301, heard=heard + 1))
    mesh.settle()
    assert mesh.status() == "dev-02 released 1"


def test_a_primary_does_not_keep_a_claim_of_its_own_that_it_does_not_know() -> None:
    mesh, holder = held_by(1)
    mesh.work(holder).holding.held.clear()
    mesh.runs.clear()
    mesh.order(holder, inputs.SetDraining(1, is_draining=True))
    mesh.advance(HEARTBEAT_S)
    assert mesh.status() == "dev-01 released 1"


def test_a_claim_that_is_held_is_no_orphan_while_its_work_is_stopped() -> None:
    mesh, holder = held_by(3, others=("dev-02",))
    mesh.stops_s = 3 * HEARTBEAT_S
    mesh.order(holder, inputs.SetDraining(1, is_draining=True, release=True))
    mesh.advance(2 * HEARTBEAT_S)
    assert mesh.status() == "dev-03 in_progress 1"
    mesh.advance(2 * HEARTBEAT_S)
    assert mesh.working() == {P: "dev-02"}
    mesh.safe()


def test_a_lost_heartbeat_costs_nothing() -> None:
    mesh, _ = held_by(2, others=("dev-03",))
    lose(mesh, Leases)
    mesh.advance(FENCED_S - 2 * HEARTBEAT_S)
    mesh.carry = lambda message: message
    mesh.advance(2 * TIMEOUT_S)
    assert mesh.status() == "dev-02 in_progress 1"


def test_a_one_way_link_ends_the_holder_s_lease_although_it_hears_its_primary() -> None:
    mesh, holder = held_by(3, others=("dev-02",), intake=evolve(INTAKE, lock_delay_ms=round(LOCK_DELAY_S * 1000)))
    mesh.unheard(holder, mesh.host(1))
    mesh.advance(FENCED_S + 1)
    assert mesh.working() == {}
    assert any("gives up site/m/p" in note.text for note in holder.notes if isinstance(note, Note))
    mesh.advance(PATIENCE_S)
    assert mesh.working() == {P: "dev-02"}
    mesh.safe()


def test_a_failure_of_the_mesh_s_majority_costs_the_primary_its_own_claims_in_time() -> None:
    mesh, _ = held_by(1)
    mesh.split([1], [2, 3])
    mesh.advance(FENCED_S + TTL_S)
    assert mesh.working() == {}
    mesh.heal()
    mesh.advance(2 * TTL_S)
    assert mesh.working() == {P: "dev-01"}
    assert mesh.status() == "dev-01 in_progress 2"


def test_a_message_of_no_primary_renews_nothing() -> None:
    mesh, holder = held_by(3)
    said: Message = Leases(1, 1, (), {mesh.feature(holder).claim: "unknown"})
    mesh._dial(mesh.host(2), "ws://dev-03:4444")
    mesh.settle()
    if any(mesh.host(2) in pipe.ends for pipe in holder.pipes.values()):
        says(mesh, mesh.host(2), holder, said)
    assert mesh.working() == {P: "dev-03"}


def test_results_are_written_by_the_holder_itself() -> None:
    mesh, holder = held_by(3)
    mesh.split([1, 2], [3])
    mesh.end(P, Outcome.DONE)
    assert mesh.claim(holder).status is ClaimStatus.DONE  # type: ignore[union-attr]
    assert mesh.snapshot(holder).queued_changes > 0
    mesh.heal()
    mesh.advance(TTL_S)
    assert mesh.status() == "dev-03 done 1"
    assert mesh.status(Q) == "free"


def test_nothing_is_remembered_of_claims_that_ended() -> None:
    mesh, holder = held_by(3)
    leases = mesh.work(mesh.host(1)).leases
    assert list(leases.granted_seq) == [mesh.feature(holder).claim]
    mesh.end(P)
    assert leases.granted_seq == {}
