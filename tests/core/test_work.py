"""Work intake as a whole: from a document to a claim, a feature, a command, and its result in all documents."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from meshd.core import inputs
from meshd.core.claim import ClaimStatus
from meshd.core.effects import Accepted, Rejected
from meshd.core.inputs import Outcome
from meshd.model import Json
from tests.core.boards import phase
from tests.core.mesh import Host
from tests.core.workforce import BACKOFF_S, INTAKE, TICK_S, P, Q, R, Workforce, site


def shown(mesh: Workforce, host: Host, name: str = "p") -> dict[str, Any]:
    """A phase as people see it in the document."""
    document: Any = mesh.document(host, "site")
    return next(each for each in document["milestones"][0]["phases"] if each["name"] == name)


def rejected(answer: Accepted | Rejected) -> str:
    assert isinstance(answer, Rejected)
    return answer.code


def one_that_works(*phases: str, agents: int = 1) -> tuple[Workforce, Host, Host]:
    """A mesh in which dev-02 alone works, on `p`; the primary and dev-02."""
    mesh = Workforce.at_work(agents=agents, without_command=("dev-01", "dev-03"))
    mesh.put(mesh.host(1), "site", site(*(phases or ("p",))))
    mesh.settle()
    assert mesh.working()[P] == "dev-02"
    return mesh, mesh.host(1), mesh.host(2)


# From a document to a result


def test_a_phase_is_claimed_worked_on_and_done_in_all_documents() -> None:
    mesh = Workforce.at_work()
    mesh.put(mesh.host(3), "site", site("p"))
    mesh.settle()
    ((place, host),) = mesh.working().items()
    assert place == P
    assert mesh.status() == f"{host} in_progress 1"
    mesh.end(P, pr_url="https://x/pull/1")
    assert mesh.status() == f"{host} done 1"
    for each in mesh.alive():
        assert shown(mesh, each)["executionStatus"] == "done"
        assert shown(mesh, each)["prUrl"] == "https://x/pull/1"
    mesh.settled("dev-01")


def test_each_phase_of_a_project_is_worked_on_once_and_in_order() -> None:
    mesh = Workforce.at_work(agents=2)
    mesh.lasts_s = 4.0
    mesh.put(mesh.host(1), "site", site("p", phase("q", "p"), phase("r", "q"), *(f"x{n}" for n in range(20))))
    mesh.advance(120)
    done = [run.feature.phase for run in mesh.runs]
    assert sorted(done) == sorted(["p", "q", "r", *(f"x{n}" for n in range(20))])
    begun = {run.feature.phase: run.begun_s for run in mesh.runs}
    ended = {run.feature.phase: run.ended_s or 0.0 for run in mesh.runs}
    assert ended["p"] <= begun["q"]
    assert ended["q"] <= begun["r"]
    mesh.settled("dev-01")


def test_a_phase_that_becomes_free_is_claimed_at_once_and_not_at_the_next_tick() -> None:
    mesh, _, _ = one_that_works("p", "q")
    at_s = mesh.mono_s
    mesh.end(P)
    assert mesh.working() == {Q: "dev-02"}
    assert mesh.mono_s == at_s


def test_an_instance_alone_works_without_a_mesh() -> None:
    mesh = Workforce()
    plain = Workforce.staffed(1).host(1).configuration
    host = mesh.add(evolve(plain, hivemind=evolve(plain.hivemind, enabled=False)))
    mesh.start(host)
    mesh.put(host, "site", site("p", phase("q", "p")))
    assert mesh.working() == {P: "dev-01"}
    mesh.advance(600)
    mesh.end(P)
    assert mesh.status() == "dev-01 done 1"
    assert mesh.working() == {Q: "dev-01"}
    mesh.crash(host)
    mesh.start(host)
    assert mesh.status(Q) == "dev-01 in_progress 2", "what was cut off is released, and claimed anew"


# On and off


@pytest.mark.parametrize("scope", ["shared", "local"])
def test_auto_mode_switches_intake_and_keeps_what_is_held(scope: str) -> None:
    mesh, primary, worker = one_that_works("p", "q")
    switched = primary if scope == "shared" else worker
    values: Json = {"autoMode": False}
    assert isinstance(mesh.order(switched, inputs.PatchSettings(1, scope, values)), Accepted)
    view = mesh.snapshot(worker).work
    assert (view.is_on, view.why_off) == (False, f"autoMode is false in the {scope} settings")
    assert mesh.working() == {P: "dev-02"}
    mesh.end(P)
    mesh.advance(3 * TICK_S)
    assert mesh.working() == {}
    mesh.order(switched, inputs.PatchSettings(1, scope, {"autoMode": True}))
    assert mesh.working() == {Q: "dev-02"}


def test_a_local_word_stands_above_the_shared_one() -> None:
    mesh, primary, worker = one_that_works("p")
    mesh.order(primary, inputs.PatchSettings(1, "shared", {"autoMode": False}))
    mesh.order(worker, inputs.PatchSettings(1, "local", {"autoMode": True}))
    assert mesh.snapshot(worker).work.is_on
    assert not mesh.snapshot(mesh.host(3)).work.is_on


def test_intake_that_is_disabled_claims_nothing() -> None:
    mesh = Workforce.at_work(intake=evolve(INTAKE, enabled=False))
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.advance(3 * TICK_S)
    assert mesh.working() == {}
    assert "workIntake.enabled" in mesh.snapshot(mesh.host(2)).work.why_off


def test_members_see_who_claims_and_how_many_are_held() -> None:
    mesh, primary, worker = one_that_works("p", "q", agents=2)
    mesh.order(worker, inputs.SetDraining(1, is_draining=True))
    mesh.advance(4)
    for host in (primary, mesh.host(3)):
        (row,) = [row for row in mesh.snapshot(host).members if row.instance_id == "dev-02"]
        assert (row.intake, row.holding) == (False, 2)


def test_a_draining_host_ends_what_it_holds_and_claims_nothing_new() -> None:
    mesh, primary, worker = one_that_works("p", "q")
    mesh.order(worker, inputs.SetDraining(1, is_draining=True))
    mesh.advance(4)
    assert mesh.snapshot(worker).work.why_off == "it is draining"
    assert mesh.statuses(primary)["dev-02"].shown == "draining"
    assert mesh.working() == {P: "dev-02"}
    assert rejected(mesh.order(worker, inputs.ClaimPhase(1, *Q))) == "not-claimable"
    mesh.end(P)
    mesh.advance(3 * TICK_S)
    assert (mesh.status(), mesh.working()) == ("dev-02 done 1", {})
    mesh.order(worker, inputs.SetDraining(1, is_draining=False))
    assert mesh.working() == {Q: "dev-02"}


def test_a_draining_host_gives_back_what_it_holds_when_told_to() -> None:
    mesh, _, worker = one_that_works("p")
    mesh.stops_s = 2.0
    mesh.order(worker, inputs.SetDraining(1, is_draining=True, release=True))
    assert mesh.states(worker) == {P: "stopping"}
    assert mesh.status() == "dev-02 in_progress 1", "its work has not stopped yet"
    mesh.advance(2)
    assert mesh.status() == "dev-02 released 1"
    assert shown(mesh, worker)["executionStatus"] == "unclaimed"
    assert mesh.working() == {}


def test_a_host_that_leaves_gives_back_what_nobody_works_on() -> None:
    mesh = Workforce.at_work(without_command=("dev-01", "dev-02", "dev-03"))
    worker = mesh.host(2)
    mesh.wait_for(worker)
    mesh.put(worker, "site", site("p"))
    mesh.settle()
    assert mesh.states(worker) == {P: "waiting"}
    mesh.drain(worker)
    claim = mesh.claim(mesh.host(1))
    assert claim is not None
    assert (claim.status, claim.note) == (ClaimStatus.RELEASED, "the daemon was stopped")


# Capacity


def test_the_heartbeat_says_what_intake_makes_of_the_host() -> None:
    mesh, primary, _ = one_that_works("p", "q", agents=3)
    mesh.advance(4)
    (row,) = [row for row in mesh.snapshot(primary).members if row.instance_id == "dev-02"]
    assert row.capacity is not None
    assert (row.capacity.max_agents, row.capacity.running_agents, row.capacity.backlog_count) == (3, 2, 0)


def test_a_host_without_a_command_takes_as_much_as_waits_for_work() -> None:
    mesh = Workforce.at_work(without_command=("dev-01", "dev-02", "dev-03"))
    worker = mesh.host(2)
    mesh.put(worker, "site", site("p", "q", "r"))
    mesh.advance(2 * TICK_S)
    assert mesh.states(worker) == {}
    mesh.wait_for(worker)
    assert mesh.states(worker) == {P: "waiting"}
    taken = mesh.take(worker)
    assert taken == mesh.feature(worker).id
    assert mesh.states(worker)[P] == "working"
    mesh.wait_for(worker, 2)
    assert mesh.states(worker) == {P: "working", Q: "waiting", R: "waiting"}


def test_an_application_takes_a_certain_feature_and_its_name_stands_in_it() -> None:
    mesh = Workforce.at_work(without_command=("dev-01", "dev-02", "dev-03"))
    worker = mesh.host(2)
    mesh.put(worker, "site", site("p", "q"))
    mesh.wait_for(worker, 2)
    wanted = mesh.feature(worker, Q).id
    assert mesh.order(worker, inputs.TakeWork(1, wanted, "builder")) == Accepted(wanted)
    assert mesh.states(worker) == {P: "waiting", Q: "working"}
    assert mesh.feature(worker, Q).fields["takenBy"] == "builder"
    assert mesh.order(worker, inputs.TakeWork(1, wanted, "another")) == Accepted("")
    assert rejected(mesh.order(worker, inputs.PatchFeature(1, wanted, {"takenBy": "another"}))) == "invalid"


def test_an_application_says_how_much_it_takes() -> None:
    mesh = Workforce.at_work(without_command=("dev-01", "dev-02", "dev-03"))
    worker = mesh.host(2)
    mesh.put(worker, "site", site("p", "q", "r"))
    mesh.order(worker, inputs.SetCapacity(1, 2, running_agents=1, backlog_count=5))
    assert list(mesh.states(worker)) == [P, Q]
    assert mesh.snapshot(worker).capacity.max_agents == 2
    assert mesh.snapshot(worker).capacity.running_agents == 1
    assert mesh.snapshot(worker).capacity.backlog_count == 5 + 2, "its own, and what waits for it"
    mesh.order(worker, inputs.SetCapacity(1, None))
    assert mesh.snapshot(worker).work.max_agents == 0, "nobody says, and nobody waits"


# What a person asks for


def test_a_person_claims_a_phase_for_this_host_and_learns_the_name_of_the_claim() -> None:
    mesh = Workforce.at_work(without_command=("dev-01", "dev-02", "dev-03"))
    worker = mesh.host(2)
    mesh.put(worker, "site", site("p"))
    mesh.settle()
    mesh.delay(worker, mesh.host(1))
    asked = mesh.order(worker, inputs.ClaimPhase(1, *P))
    again = mesh.order(worker, inputs.ClaimPhase(1, *P))
    assert isinstance(asked, Accepted)
    assert asked == again, "it is asked for once"
    assert mesh.snapshot(worker).work.decisions[asked.revision].reason == "asked"
    mesh.heal()
    mesh.settle()
    assert mesh.snapshot(worker).work.decisions[asked.revision].reason == "granted"
    assert mesh.states(worker) == {P: "waiting"}
    assert rejected(mesh.order(worker, inputs.ClaimPhase(1, *P))) == "not-claimable"


@pytest.mark.parametrize(
    ("place", "code"), [(("site", "m", "none"), "not-found"), (("none", "m", "p"), "not-found"), (Q, "not-claimable")]
)
def test_what_cannot_be_claimed_is_refused_with_its_reason(place: tuple[str, str, str], code: str) -> None:
    mesh = Workforce.at_work(without_command=("dev-01", "dev-02", "dev-03"))
    mesh.put(mesh.host(2), "site", site("p", phase("q", "p")))
    mesh.settle()
    assert rejected(mesh.order(mesh.host(2), inputs.ClaimPhase(1, *place))) == code


def test_a_host_without_a_primary_says_so() -> None:
    mesh = Workforce.at_work(without_command=("dev-01", "dev-02", "dev-03"))
    mesh.put(mesh.host(2), "site", site("p"))
    mesh.settle()
    mesh.split([1], [2], [3])
    refused = mesh.order(mesh.host(2), inputs.ClaimPhase(1, *P))
    assert isinstance(refused, Rejected)
    assert "no primary" in refused.detail


def test_what_another_holds_is_settled_there_or_by_force() -> None:
    mesh, primary, _ = one_that_works("p")
    refused = mesh.settle_phase(primary, Outcome.RELEASED)
    assert isinstance(refused, Rejected)
    assert (refused.code, "dev-02 holds it" in refused.detail) == ("not-holder", True)
    assert rejected(mesh.settle_phase(primary, Outcome.PROGRESS, is_forced=True)) == "not-holder"
    mesh.order(mesh.host(2), inputs.SetDraining(1, is_draining=True))
    assert isinstance(mesh.settle_phase(primary, Outcome.RELEASED, is_forced=True, note="dev-02 hangs"), Accepted)
    mesh.advance(1)
    assert mesh.status() == "dev-01 released 2"
    assert mesh.working() == {}, "the holder is told, and stops"
    assert "generation 2" in str(mesh.feature(mesh.host(2)).released)


def test_a_person_settles_what_nobody_holds() -> None:
    mesh = Workforce.at_work(without_command=("dev-01", "dev-02", "dev-03"))
    host = mesh.host(3)
    mesh.put(host, "site", site("p"))
    mesh.settle()
    assert rejected(mesh.settle_phase(host, Outcome.DONE, ("site", "m", "none"))) == "not-found"
    assert rejected(mesh.settle_phase(host, Outcome.RETRY)) == "not-claimable"
    assert rejected(mesh.settle_phase(host, Outcome.DONE, generation=4)) == "stale"
    assert isinstance(mesh.settle_phase(host, Outcome.DONE, pr_url="https://x/1", generation=0), Accepted)
    assert mesh.status() == "dev-03 done 1"
    assert shown(mesh, mesh.host(1))["prUrl"] == "https://x/1"


def test_what_failed_for_good_is_tried_again_when_a_person_says_so() -> None:
    mesh = Workforce.at_work(without_command=("dev-01", "dev-03"), intake=evolve(INTAKE, max_attempts=1))
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.settle()
    mesh.end(P, Outcome.FAILED, error="it does not compile")
    mesh.advance(3 * BACKOFF_S)
    assert mesh.status() == "dev-02 failed 1"
    assert shown(mesh, mesh.host(3))["lastError"] == "it does not compile"
    assert isinstance(mesh.settle_phase(mesh.host(3), Outcome.RETRY), Accepted)
    assert mesh.status() == "dev-02 in_progress 3"
    assert shown(mesh, mesh.host(3)).get("attempts") is None, "its attempts are counted anew"


@pytest.mark.parametrize("outcome", [Outcome.RETRY, Outcome.FAILED])
def test_a_word_of_a_person_gives_way_to_who_was_granted_the_phase_meanwhile(outcome: Outcome) -> None:
    """Both are of one generation: whoever was granted it works on it already."""
    mesh = Workforce.at_work(without_command=("dev-01", "dev-02"))
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.settle()
    mesh.end(P, Outcome.FAILED)
    mesh.advance(BACKOFF_S - 1)
    mesh.delay(mesh.host(2), mesh.host(1))
    mesh.settle_phase(mesh.host(2), outcome)
    mesh.advance(TICK_S)
    assert mesh.working() == {P: "dev-03"}
    mesh.heal()
    mesh.advance(1)
    assert mesh.status() == "dev-03 in_progress 2"
    assert mesh.working() == {P: "dev-03"}


def test_a_phase_that_is_added_again_gives_way_to_who_was_granted_it_meanwhile() -> None:
    mesh = Workforce.at_work(without_command=("dev-01",))
    mesh.stops_s = 8.0
    mesh.order(mesh.host(3), inputs.SetDraining(1, is_draining=True))
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.settle()
    mesh.end(P, Outcome.FAILED)
    mesh.order(mesh.host(2), inputs.SetDraining(1, is_draining=True))
    mesh.order(mesh.host(3), inputs.SetDraining(1, is_draining=False))
    mesh.advance(BACKOFF_S - 1)
    mesh.delay(mesh.host(2), mesh.host(1))
    mesh.put(mesh.host(2), "site", site("q"))
    mesh.put(mesh.host(2), "site", site("p"))
    mesh.advance(TICK_S)
    assert mesh.working() == {P: "dev-03"}
    mesh.heal()
    mesh.order(mesh.host(2), inputs.SetDraining(1, is_draining=False))
    assert mesh.states(mesh.host(3)) == {P: "stopping"}, "for a moment the phase was gone"
    mesh.advance(mesh.stops_s - 1)
    assert mesh.status() == "dev-03 in_progress 2", "it is not taken back from who still stops"
    mesh.advance(TICK_S)
    assert mesh.status().endswith("in_progress 3")
    mesh.safe()


@pytest.mark.parametrize("outcome", [Outcome.DONE, Outcome.FAILED, Outcome.RELEASED])
def test_what_a_holder_says_twice_is_said_once(outcome: Outcome) -> None:
    mesh = Workforce.at_work(without_command=("dev-01", "dev-02", "dev-03"))
    worker = mesh.host(2)
    mesh.put(worker, "site", site("p"))
    mesh.wait_for(worker)
    mesh.take(worker)
    mesh.wait_for(worker, 0)
    mesh.settle_phase(worker, outcome, generation=1)
    before = shown(mesh, worker)
    assert mesh.settle_phase(worker, outcome, generation=1) == Accepted("")
    assert shown(mesh, worker) == before


def test_work_that_is_done_after_it_was_taken_back_stands_while_nobody_has_begun_anew() -> None:
    mesh = Workforce.at_work(without_command=("dev-01", "dev-02", "dev-03"))
    worker = mesh.host(2)
    mesh.put(worker, "site", site("p"))
    mesh.wait_for(worker)
    taken = mesh.take(worker)
    mesh.wait_for(worker, 0)
    mesh.settle_phase(worker, Outcome.RELEASED, generation=1)
    assert isinstance(mesh.settle_phase(worker, Outcome.DONE, generation=1, pr_url="https://x/1"), Accepted)
    assert mesh.status() == "dev-02 done 1"
    assert shown(mesh, mesh.host(3))["featureId"] == taken
    assert mesh.feature(worker).status == "done"


# What waits for ever


def test_a_phase_that_can_never_be_claimed_raises_an_alert_until_it_can() -> None:
    mesh = Workforce.at_work()
    mesh.put(mesh.host(1), "site", site(phase("p", "q"), phase("q", "p")))
    mesh.advance(2 * TICK_S)
    standing = {(alert.code, alert.subject): alert.text for alert in mesh.snapshot(mesh.host(1)).alerts}
    assert "cycle" in standing["phase-blocked", "site/m/p"]
    assert not [alert for alert in mesh.snapshot(mesh.host(2)).alerts if alert.code == "phase-blocked"]
    mesh.put(mesh.host(1), "site", site("p", phase("q", "p")))
    mesh.advance(2 * TICK_S)
    assert not [alert for alert in mesh.snapshot(mesh.host(1)).alerts if alert.code == "phase-blocked"]
