"""The claims that a host holds, and the features that were made from them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from attrs import evolve

from meshd.core import inputs, messages
from meshd.core.claim import Claim, ClaimStatus, register_value
from meshd.core.effects import Accepted, ExtendWork, Rejected, StartWork, StopWork, WriteFeature
from meshd.core.feature import FeatureStatus, feature_id
from meshd.core.holding import MAX_ENDED, PART_OF_TIMEOUT, TRANSITIONS, Cause, State
from meshd.core.inputs import Outcome
from meshd.core.messages import Leases
from meshd.model import Json
from tests.core.boards import phase
from tests.core.claims import PATH
from tests.core.electorate import FAILOVER_S, HEARTBEAT_S, TTL_S
from tests.core.mesh import Host
from tests.core.test_claims import lose
from tests.core.test_work import rejected, shown
from tests.core.workforce import (
    BACKOFF_S,
    FENCED_S,
    INTAKE,
    LOCK_DELAY_S,
    TICK_S,
    TIMEOUT_S,
    P,
    Q,
    Workforce,
    site,
)

EVERYBODY = {"dev-01", "dev-02", "dev-03"}


def commanded(**how: Any) -> tuple[Workforce, Host]:
    """A mesh whose dev-02 works on `p` with its command; nobody else works."""
    mesh = Workforce.at_work(without_command=EVERYBODY - {"dev-02"}, **how)
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.settle()
    assert mesh.working() == {P: "dev-02"}
    return mesh, mesh.host(2)


def waiting(*phases: str, **how: Any) -> tuple[Workforce, Host]:
    """A mesh whose dev-02 has as many features for applications as there are phases."""
    mesh = Workforce.at_work(without_command=EVERYBODY, **how)
    mesh.put(mesh.host(1), "site", site(*(phases or ("p",))))
    mesh.wait_for(mesh.host(2), len(phases) or 1)
    assert set(mesh.states(mesh.host(2)).values()) == {"waiting"}
    return mesh, mesh.host(2)


def standing(mesh: Workforce, host: Host) -> Claim:
    claim = mesh.claim(host)
    assert claim is not None
    return claim


def test_every_state_has_an_answer_to_every_cause() -> None:
    assert set(TRANSITIONS) == {(state, cause) for state in State for cause in Cause}
    assert all(TRANSITIONS[State.STOPPING, cause] is State.STOPPING for cause in Cause)


# From grant to feature


def test_a_granted_claim_becomes_a_feature_on_disk_and_in_the_workspace() -> None:
    mesh, host = waiting()
    claim = standing(mesh, mesh.host(3))
    feature = mesh.feature(host)
    assert feature.id == feature_id(claim.id, claim.claimed_ms) == claim.feature_id
    assert (feature.status, feature.is_held, feature.generation) == (FeatureStatus.BACKLOG, True, 1)
    assert host.disk.features == {feature.id: feature}
    assert [event["status"] for event in host.events("feature:created")] == ["backlog"]
    assert claim.status is ClaimStatus.IN_PROGRESS
    assert shown(mesh, mesh.host(1))["featureId"] == feature.id
    json = feature.json("dev-02")
    assert (json["claimedBy"], json["phaseSlug"], json["generation"]) == ("dev-02", "p", 1)


def test_features_stay_on_their_host() -> None:
    mesh, _ = waiting()
    assert mesh.host(1).events("feature:created") == mesh.host(3).events("feature:created") == []


@pytest.mark.parametrize("moment", ["before persisting", "after persisting"])
def test_a_crash_at_the_moment_of_the_grant_makes_no_second_feature(moment: str) -> None:
    mesh = Workforce.at_work(without_command=EVERYBODY)
    host = mesh.host(2)
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.settle()
    lose(mesh, messages.ProposalStored)
    mesh.wait_for(host)
    mesh.carry = lambda message: message
    mesh.reset(mesh.host(1), mesh.host(3))
    host.power_cut = moment
    mesh.advance(2)
    if host.node is None:
        mesh.start(host)
    mesh.advance(2 * TTL_S)
    features = [each for each in host.disk.features.values() if each.is_held]
    assert len(features) <= 1
    assert {each.claim for each in features} == set(mesh.work(host).ledger.live_of("dev-02"))


def test_the_command_is_told_until_when_it_may_live() -> None:
    mesh, host = commanded()
    (start,) = [effect for _, _, effect in mesh.asked if isinstance(effect, StartWork)]
    assert start.feature == mesh.feature(host)
    assert start.feature.status is FeatureStatus.IN_PROGRESS
    assert start.until_s == pytest.approx(mesh.mono_s + FENCED_S), "its lease began with its request"
    mesh.advance(3 * HEARTBEAT_S)
    extended = [effect for _, _, effect in mesh.asked if isinstance(effect, ExtendWork)]
    assert len(extended) >= 2
    assert all(later.until_s > earlier.until_s for earlier, later in pairwise(extended))


def test_files_of_features_are_brought_up_to_date_after_a_start() -> None:
    mesh, host = waiting("p", "q")
    mesh.crash(host)
    written: list[str] = []
    mesh.start(host)
    answer = mesh.step(host, inputs.Started())
    written = [effect.feature.phase for effect in answer if isinstance(effect, WriteFeature)]
    assert sorted(written) == ["p", "q"]


# The lease


def test_a_holder_that_nobody_confirms_gives_up_after_nine_tenths_of_the_timeout() -> None:
    mesh, host = commanded()
    mesh.stops_s = 2.0
    mesh.advance(HEARTBEAT_S)
    assert mesh.snapshot(host).work.held[0].lease_left_s is not None
    lease_s = mesh.mono_s + (mesh.snapshot(host).work.held[0].lease_left_s or 0.0)
    mesh.split([1, 3], [2])
    mesh.advance(lease_s - mesh.mono_s - 0.5)
    assert mesh.working() == {P: "dev-02"}
    mesh.advance(0.6)
    assert [effect for _, _, effect in mesh.asked if isinstance(effect, StopWork)]
    assert mesh.working() == {}, "at the end of its lease the command is dead, whatever its host does"
    assert PART_OF_TIMEOUT * TIMEOUT_S == FENCED_S
    mesh.advance(3)
    assert standing(mesh, host).status is ClaimStatus.RELEASED
    assert mesh.feature(host).status is FeatureStatus.BACKLOG
    assert "no primary has confirmed it" in str(mesh.feature(host).released)


def test_a_stalled_holder_s_command_is_dead_in_time() -> None:
    mesh, host = commanded()
    mesh.stall(host, TIMEOUT_S + LOCK_DELAY_S + 5)
    (run,) = mesh.runs[:1]
    assert run.ended_s is not None
    assert run.ended_s - run.begun_s <= FENCED_S + HEARTBEAT_S
    mesh.advance(2 * TTL_S)
    mesh.safe()


def test_released_is_written_when_the_work_has_stopped_and_not_before() -> None:
    mesh, host = commanded()
    mesh.stops_s = 4.0
    mesh.settle_phase(host, Outcome.RELEASED, note="another way")
    assert mesh.states(host) == {P: "stopping"}
    assert standing(mesh, host).is_live
    mesh.order(host, inputs.SetDraining(1, is_draining=True))
    mesh.advance(4)
    claim = standing(mesh, mesh.host(3))
    assert (claim.status, claim.note) == (ClaimStatus.RELEASED, "another way")


def test_with_continue_nobody_has_to_answer() -> None:
    mesh, _ = commanded(intake=evolve(INTAKE, when_partitioned="continue"))
    mesh.split([1], [2], [3])
    mesh.advance(5 * TIMEOUT_S)
    assert mesh.working() == {P: "dev-02"}


def test_an_answer_to_a_heartbeat_that_was_never_sent_renews_nothing() -> None:
    mesh, host = commanded()
    holding = mesh.work(host).holding
    (name,) = holding.held
    before = holding.held[name].lease_s
    list(holding.renewed(Leases(1, 9_999, (name,), {name: "unknown"}), mesh.now(host), is_synced=True))
    assert holding.held[name].lease_s == before
    assert not holding.held[name].is_lost


def test_what_a_primary_does_not_know_may_be_on_its_way_before_documents_were_compared() -> None:
    mesh, host = commanded()
    holding = mesh.work(host).holding
    (name,) = holding.held
    beat = holding.beat(mesh.now(host))
    list(holding.renewed(Leases(1, beat, (), {name: "unknown"}), mesh.now(host), is_synced=False))
    assert not holding.held[name].is_lost
    list(holding.renewed(Leases(1, beat, (), {name: "unknown"}), mesh.now(host), is_synced=True))
    assert holding.held[name].is_lost


# After a restart


def test_what_a_command_worked_on_when_the_daemon_ended_is_released_with_its_reason() -> None:
    mesh, host = commanded()
    first = mesh.feature(host)
    mesh.crash(host)
    mesh.advance(1)
    mesh.start(host)
    released = mesh.snapshot(host).work.features[first.id]
    assert (released.status, released.released) == ("backlog", "the daemon ended while it was worked on")
    mesh.advance(TTL_S)
    assert mesh.status() == "dev-02 in_progress 2"
    assert [run.feature.generation for run in mesh.runs] == [1, 2]
    assert standing(mesh, host).attempts == 0, "that was no failure"


def test_what_an_application_works_on_is_suspended_until_a_primary_has_confirmed_it() -> None:
    mesh, host = waiting()
    mesh.take(host)
    mesh.crash(host)
    mesh.part(host, mesh.host(1))
    mesh.part(host, mesh.host(3))
    mesh.start(host)
    mesh.advance(3 * HEARTBEAT_S)
    assert mesh.states(host) == {P: "suspended"}
    assert mesh.take(host) == ""
    mesh.join(host, mesh.host(1))
    mesh.advance(TTL_S)
    assert mesh.states(host) == {P: "working"}
    assert mesh.status() == "dev-02 in_progress 1"


def test_what_nobody_had_begun_waits_again_once_it_is_confirmed() -> None:
    mesh, host = waiting()
    mesh.crash(host)
    mesh.start(host)
    mesh.advance(TTL_S)
    assert mesh.states(host) == {P: "waiting"}
    assert mesh.take(host) == mesh.feature(host).id


def test_what_was_given_away_meanwhile_is_lost_and_not_resumed() -> None:
    mesh, host = waiting()
    mesh.take(host)
    mesh.crash(host)
    mesh.wait_for(mesh.host(3))
    mesh.advance(TIMEOUT_S + LOCK_DELAY_S + TTL_S)
    assert mesh.claim(mesh.host(1)).holder == "dev-03"  # type: ignore[union-attr]
    mesh.start(host)
    mesh.advance(TTL_S)
    assert mesh.states(host) == {}
    assert mesh.feature(host).released is not None
    assert mesh.status() == "dev-03 in_progress 2"


def test_a_primary_that_restarts_confirms_its_own_when_it_decides_again() -> None:
    mesh = Workforce.at_work(without_command=EVERYBODY)
    host = mesh.host(1)
    mesh.put(host, "site", site("p"))
    mesh.wait_for(host)
    mesh.take(host)
    mesh.crash(host)
    mesh.start(host)
    mesh.advance(FAILOVER_S + TTL_S)
    assert mesh.states(host) == {P: "working"}


# Results


def test_a_failure_is_tried_again_after_a_backoff_until_there_were_too_many() -> None:
    mesh, host = commanded()
    for attempt in (1, 2):
        mesh.end(P, Outcome.FAILED, error="it does not compile")
        claim = standing(mesh, mesh.host(3))
        assert (claim.status, claim.attempts, claim.error) == (ClaimStatus.FAILED, attempt, "it does not compile")
        assert shown(mesh, host)["executionStatus"] == "unclaimed"
        mesh.advance(BACKOFF_S - 1)
        assert mesh.working() == {}
        mesh.advance(1 + TICK_S)
        assert mesh.working() == {P: "dev-02"}
    mesh.end(P, Outcome.FAILED, error="it does not compile")
    mesh.advance(10 * BACKOFF_S)
    assert mesh.working() == {}
    assert (shown(mesh, host)["executionStatus"], shown(mesh, host)["attempts"]) == ("failed", 3)
    assert isinstance(mesh.settle_phase(mesh.host(3), Outcome.RETRY), Accepted)
    assert mesh.working() == {P: "dev-02"}
    mesh.end(P, Outcome.DONE)
    assert mesh.status() == "dev-02 done 5"


def test_an_application_says_how_far_it_is_and_that_it_is_done() -> None:
    mesh, host = waiting()
    mesh.take(host)
    assert isinstance(mesh.settle_phase(host, Outcome.PROGRESS, generation=1, note="half"), Accepted)
    assert standing(mesh, mesh.host(3)).note == "half"
    assert rejected(mesh.settle_phase(host, Outcome.RETRY)) == "not-claimable"
    assert isinstance(mesh.settle_phase(host, Outcome.DONE, generation=1, pr_url="https://x/1"), Accepted)
    assert mesh.status() == "dev-02 done 1"
    feature = mesh.feature(host)
    assert (feature.status, feature.is_held, feature.fields["prUrl"]) == ("done", False, "https://x/1")
    assert host.disk.features[feature.id] == feature


def test_an_application_says_that_it_failed() -> None:
    mesh, host = waiting()
    mesh.take(host)
    mesh.wait_for(host, 0)
    mesh.settle_phase(host, Outcome.FAILED, error="no idea")
    assert mesh.status() == "dev-02 failed 1"
    assert (mesh.feature(host).status, mesh.feature(host).fields["error"]) == ("failed", "no idea")


def test_a_result_of_an_earlier_generation_stands_nowhere_and_is_kept() -> None:
    mesh, host = waiting()
    mesh.take(host)
    mesh.wait_for(host, 0)
    mesh.split([1, 3], [2])
    mesh.wait_for(mesh.host(3))
    mesh.advance(TIMEOUT_S + LOCK_DELAY_S + TTL_S)
    assert mesh.claim(mesh.host(1)).holder == "dev-03"  # type: ignore[union-attr]
    mesh.heal()
    mesh.advance(TTL_S)
    assert rejected(mesh.settle_phase(host, Outcome.DONE, generation=1, pr_url="https://x/late")) == "stale"
    assert mesh.status() == "dev-03 in_progress 2"
    for each in mesh.alive():
        (kept,) = mesh.snapshot(each).conflicts
        assert isinstance(kept.value, dict)
        assert (kept.value["status"], kept.value["prUrl"]) == ("done", "https://x/late")


def test_a_late_result_of_the_command_is_kept_too() -> None:
    mesh, host = commanded()
    mesh.stops_s = 5.0
    mesh.settle_phase(mesh.host(1), Outcome.RELEASED, is_forced=True)
    assert mesh.states(host) == {P: "stopping"}
    mesh.end(P, Outcome.DONE, pr_url="https://x/late")
    (kept,) = mesh.snapshot(mesh.host(3)).conflicts
    assert isinstance(kept.value, dict)
    assert kept.value["prUrl"] == "https://x/late"
    assert mesh.claim(host).generation >= 2  # type: ignore[union-attr]


def test_the_end_of_what_is_not_held_is_nobody_s_business() -> None:
    mesh, host = commanded()
    assert not [
        effect
        for effect in mesh.step(host, inputs.WorkEnded("x-9", Outcome.DONE))
        if not isinstance(effect, inputs.AlarmDue)
    ]


# What is lost


def test_when_its_phase_is_deleted_the_work_is_stopped() -> None:
    mesh, host = commanded()
    mesh.put(mesh.host(3), "site", site("q"))
    mesh.advance(1)
    assert P not in mesh.working()
    lost = next(each for each in mesh.snapshot(host).work.features.values() if each.place == P)
    assert (lost.status, lost.released) == ("backlog", "the phase was deleted")


def test_when_its_project_is_deleted_the_work_is_stopped() -> None:
    mesh, host = commanded()
    mesh.delete(mesh.host(3), "site")
    mesh.settle()
    mesh.advance(1)
    assert mesh.working() == {}
    assert mesh.states(host) == {}


def test_when_its_project_is_begun_anew_the_new_one_is_claimed_for_itself() -> None:
    mesh, _ = commanded()
    mesh.stops_s = 1.0
    mesh.delete(mesh.host(3), "site")
    mesh.put(mesh.host(3), "site", site("p"))
    mesh.settle()
    mesh.advance(2 + TICK_S)
    assert mesh.status() == "dev-02 in_progress 1"
    assert len(mesh.runs) == 2
    mesh.safe()


# Applications


def test_features_are_taken_in_the_order_in_which_they_came() -> None:
    mesh, host = waiting("p", "q")
    first, second = mesh.take(host), mesh.take(host)
    assert [mesh.feature(host, place).id for place in (P, Q)] == [first, second]
    assert mesh.take(host) == ""


def test_an_application_writes_beside_the_claim_and_not_over_it() -> None:
    mesh, host = waiting()
    name = mesh.feature(host).id

    def patched(patch: Json, which: str = name) -> Accepted | Rejected:
        return mesh.order(host, inputs.PatchFeature(1, which, patch))

    assert isinstance(patched({"branch": "x", "title": "Better"}), Accepted)
    assert mesh.feature(host).fields["branch"] == "x"
    assert host.disk.features[name].fields["title"] == "Better"
    for key in ("status", "claimedBy", "generation", "id", "released"):
        assert rejected(patched({key: "x"})) == "invalid"
    assert rejected(patched("text")) == "invalid"
    assert rejected(patched({}, "none")) == "not-found"
    mesh.take(host)
    assert mesh.feature(host).fields["branch"] == "x", "it stays when the claim goes on"


def test_when_no_application_asks_for_work_it_is_given_back() -> None:
    mesh, host = waiting()
    mesh.wait_for(host, 0)
    mesh.order(host, inputs.SetDraining(1, is_draining=True))
    mesh.advance(TIMEOUT_S - 2)
    assert mesh.status() == "dev-02 in_progress 1"
    mesh.advance(2 + TTL_S)
    assert mesh.status() == "dev-02 released 1"
    assert mesh.feature(host).released == "no application asks for work"


def test_what_was_given_back_because_nobody_asks_is_not_taken_again_before_somebody_does() -> None:
    mesh = Workforce.at_work(without_command=EVERYBODY)
    host = mesh.host(2)
    mesh.put(host, "site", site("p"))
    mesh.order(host, inputs.SetCapacity(1, 1))
    mesh.advance(3 * TIMEOUT_S)
    assert mesh.status() == "dev-02 released 1"
    assert mesh.take(host) == ""
    assert mesh.states(host) == {P: "waiting"}


def test_while_an_application_waits_for_work_nothing_is_given_back() -> None:
    mesh = Workforce.at_work(without_command=EVERYBODY)
    host = mesh.host(2)
    mesh.wait_for(host)
    mesh.advance(2 * TIMEOUT_S)
    mesh.put(host, "site", site("p"))
    mesh.advance(2 * TIMEOUT_S)
    assert mesh.status() == "dev-02 in_progress 1"


def test_what_an_application_works_on_is_not_given_back_for_its_silence() -> None:
    mesh, host = waiting()
    mesh.take(host)
    mesh.wait_for(host, 0)
    mesh.advance(5 * TIMEOUT_S)
    assert mesh.states(host) == {P: "working"}


def test_features_that_ended_long_ago_are_forgotten() -> None:
    mesh, host = waiting()
    holding = mesh.work(host).holding
    feature = mesh.feature(host)
    for number in range(MAX_ENDED):
        old = evolve(feature, id=f"feature-0-{number:09}", claim=f"x-{number}", is_held=False)
        holding.features[old.id] = host.disk.features[old.id] = old
    mesh.take(host)
    mesh.settle_phase(host, Outcome.DONE)
    assert len(holding.features) - len(holding.held) == MAX_ENDED
    assert "feature-0-000000000" not in host.disk.features
    assert mesh.feature(host).id in host.disk.features, "what was claimed first is not what ended first"


def test_the_register_of_a_claim_says_what_the_holder_said() -> None:
    mesh, host = waiting("p", phase("q", "p")["name"])  # type: ignore[arg-type]
    document = mesh.snapshot(mesh.host(3)).documents["site"]
    assert document.registers[PATH].value == register_value(standing(mesh, host))
