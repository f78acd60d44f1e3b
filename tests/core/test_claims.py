"""The primary decides: requests, proposals, grants, and what a new primary does before it decides anything."""

from __future__ import annotations

import pytest
from attrs import evolve

from meshd.core import effects, inputs, messages
from meshd.core.ballot import Proposal
from meshd.core.claim import ClaimStatus
from meshd.core.claims import GRANTED, HELD, NO_QUORUM, OLD_TERM, SETTLING, STALE, UNKNOWN, WORKER
from meshd.core.inputs import Outcome
from meshd.core.messages import ClaimRequest, Compared, Decision, Message, ProposalStored, Propose
from meshd.model import Focus, Stamp
from tests.core.boards import phase
from tests.core.electorate import FAILOVER_S, TTL_S
from tests.core.mesh import Host
from tests.core.workforce import BACKOFF_S, INTAKE, LOCK_DELAY_S, TIMEOUT_S, P, Q, Workforce, site

EVERYBODY = ("dev-01", "dev-02", "dev-03")
UNHEARD = messages.Ignored("lost on the way")


def idle(count: int = 3, *phases: str, **how: object) -> Workforce:
    """A mesh in which nobody claims by itself."""
    names = [f"dev-{number:02}" for number in range(1, count + 1)]
    mesh = Workforce.at_work(count, without_command=names, **how)
    mesh.put(mesh.host(1), "site", site(*(phases or ("p",))))
    mesh.settle()
    return mesh


def says(mesh: Workforce, sender: Host, receiver: Host, message: Message) -> list[effects.Effect]:
    """The receiver is told this over the link that both have; what it does."""
    number = next(number for number, pipe in receiver.pipes.items() if sender in pipe.ends)
    return mesh.step(receiver, inputs.Received(number, message))


def request(name: str = "x-1", place: tuple[str, str, str] = P, generation: int = 0) -> ClaimRequest:
    return ClaimRequest(name, *place, generation)


def sent(mesh: Workforce, kind: type[Message], by: str | None = None) -> list[Message]:
    return [message for _, host, message in mesh.said if isinstance(message, kind) and by in (None, host)]


def answers(mesh: Workforce, name: str) -> list[str]:
    """What was decided about a request, in order."""
    said = (message for message in sent(mesh, Decision))
    return [message.reason for message in said if isinstance(message, Decision) and message.claim == name]


def lose(mesh: Workforce, *kinds: type[Message]) -> None:
    mesh.carry = lambda message: UNHEARD if isinstance(message, kinds) else message


# A request


def test_a_request_that_comes_again_is_one_request() -> None:
    mesh = idle()
    primary, worker = mesh.host(1), mesh.host(2)
    for _ in range(3):
        says(mesh, worker, primary, request())
    mesh.settle()
    assert len(sent(mesh, Propose)) == 1
    assert answers(mesh, "x-1") == [GRANTED], "who is waited for waits"
    says(mesh, worker, primary, request())
    assert answers(mesh, "x-1") == [GRANTED, GRANTED], "and who has it hears so again"
    assert mesh.status() == "dev-02 claimed 1"


def test_of_two_that_ask_one_has_it_and_the_other_hears_who() -> None:
    mesh = idle()
    says(mesh, mesh.host(2), mesh.host(1), request())
    pending = says(mesh, mesh.host(3), mesh.host(1), request("y-1"))
    mesh.settle()
    again = says(mesh, mesh.host(3), mesh.host(1), request("y-1"))
    for answer in (pending, again):
        (said,) = [effect.message for effect in answer if isinstance(effect, effects.Send)]
        assert isinstance(said, Decision)
        assert (said.granted, said.reason, said.claimed_by) == (False, HELD, "dev-02")


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request(place=("site", "m", "none")), UNKNOWN),
        (request(place=("none", "m", "p")), UNKNOWN),
        (request(generation=1), STALE),
        (request(place=Q), "dependencies"),
        (request(place=("site", "m", "docs")), "affinity"),
    ],
)
def test_the_primary_checks_what_the_claimant_has_checked(asked: ClaimRequest, reason: str) -> None:
    mesh = Workforce.at_work(without_command=EVERYBODY, foci={"dev-02": Focus.BACKEND})
    mesh.put(mesh.host(1), "site", site("p", phase("q", "p"), phase("docs", filesToModify=["docs/a.md"])))
    mesh.settle()
    says(mesh, mesh.host(2), mesh.host(1), asked)
    assert answers(mesh, "x-1") == [reason]
    overflowing = evolve(asked, overflow=True)
    says(mesh, mesh.host(2), mesh.host(1), overflowing)
    mesh.settle()
    assert answers(mesh, "x-1")[-1] == (GRANTED if reason == "affinity" else reason)


def test_after_a_failure_the_generation_goes_on_and_attempts_are_kept() -> None:
    mesh = Workforce.at_work(without_command=("dev-01", "dev-03"))
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.settle()
    mesh.end(P, Outcome.FAILED)
    says(mesh, mesh.host(3), mesh.host(1), request(generation=1))
    assert answers(mesh, "x-1") == ["backoff-over"]
    mesh.advance(BACKOFF_S + 10)
    claim = mesh.claim(mesh.host(3))
    assert claim is not None
    assert (claim.generation, claim.attempts) == (2, 1)


def test_a_worker_is_no_judge() -> None:
    mesh = idle()
    says(mesh, mesh.host(1), mesh.host(2), request())
    assert answers(mesh, "x-1") == [WORKER]
    assert mesh.snapshot(mesh.host(2)).work.decides == WORKER


# The voters


def test_nothing_is_granted_before_a_majority_has_stored_it() -> None:
    mesh = idle()
    primary = mesh.host(1)
    mesh.delay(primary, mesh.host(3))
    lose(mesh, ProposalStored)
    says(mesh, mesh.host(2), primary, request())
    mesh.settle()
    assert mesh.host(2).disk.proposals[P].claim == "x-1", "one voter has it, and its word was lost"
    assert mesh.status() == "free"
    assert answers(mesh, "x-1") == []
    mesh.carry = lambda message: message
    mesh.heal()
    mesh.settle()
    assert mesh.status() == "dev-02 claimed 1", "the word of the other suffices"


def test_of_five_three_have_to_store_it() -> None:
    mesh = idle(5)
    primary = mesh.host(1)
    for number in (3, 4, 5):
        mesh.delay(primary, mesh.host(number))
    says(mesh, mesh.host(2), primary, request())
    mesh.settle()
    assert mesh.claim(primary) is None
    mesh.late = [pipe for pipe in mesh.late if mesh.host(3) not in pipe.ends]
    mesh.settle()
    assert mesh.claim(primary) is not None


def test_a_voter_that_says_so_twice_is_one() -> None:
    mesh = idle(5)
    primary, worker = mesh.host(1), mesh.host(2)
    lose(mesh, ProposalStored)
    says(mesh, worker, primary, request())
    mesh.settle()
    for _ in range(3):
        says(mesh, worker, primary, ProposalStored(1, "x-1", accepted=True))
    assert mesh.claim(primary) is None
    says(mesh, mesh.host(3), primary, ProposalStored(1, "x-1", accepted=False, reason=OLD_TERM))
    assert mesh.claim(primary) is None, "who has refused has not stored"
    says(mesh, mesh.host(3), primary, ProposalStored(1, "x-1", accepted=True))
    assert mesh.claim(primary) is not None


def test_when_it_is_granted_no_voter_keeps_the_proposal() -> None:
    mesh = idle()
    says(mesh, mesh.host(2), mesh.host(1), request())
    mesh.settle()
    assert [host.disk.proposals for host in mesh.alive()] == [{}, {}, {}]


def test_a_voter_refuses_what_comes_of_an_older_term() -> None:
    mesh = idle()
    old = Proposal(0, *P, Stamp(1, 0, "dev-01"), "x-1", 1, "dev-02", 1, 1_000)
    answer = says(mesh, mesh.host(1), mesh.host(2), Propose(0, old))
    assert answer == [effects.Send(answer[0].link, ProposalStored(0, "x-1", accepted=False, reason=OLD_TERM))]  # type: ignore[union-attr]
    assert mesh.host(2).disk.proposals == {}


def test_a_primary_that_has_lost_its_majority_grants_nothing() -> None:
    mesh = idle()
    mesh.split([1], [2], [3])
    mesh.advance(0.75 * TTL_S + 1)
    assert mesh.snapshot(mesh.host(1)).work.decides == NO_QUORUM
    refused = mesh.order(mesh.host(1), inputs.ClaimPhase(1, *P))
    assert isinstance(refused, effects.Rejected)
    assert NO_QUORUM in refused.detail
    mesh.wait_for(mesh.host(1))
    mesh.advance(60)
    assert mesh.claim(mesh.host(1)) is None


def test_where_no_quorum_is_asked_for_the_primary_s_own_disk_suffices() -> None:
    mesh = Workforce.at_work(2)
    mesh.part(mesh.host(1), mesh.host(2))
    mesh.put(mesh.host(1), "site", site("p"))
    assert mesh.working() == {P: "dev-01"}
    assert sent(mesh, Propose) == []


def test_a_phase_that_went_while_it_was_proposed_is_not_granted() -> None:
    mesh = idle()
    primary, worker = mesh.host(1), mesh.host(2)
    lose(mesh, ProposalStored)
    says(mesh, worker, primary, request())
    mesh.settle()
    mesh.carry = lambda message: message
    mesh.delete(primary, "site")
    says(mesh, mesh.host(3), primary, ProposalStored(1, "x-1", accepted=True))
    assert answers(mesh, "x-1") == [UNKNOWN]


def test_a_claimant_whose_link_broke_meanwhile_has_what_was_granted() -> None:
    mesh = Workforce.at_work(without_command=("dev-01", "dev-03"))
    primary, worker = mesh.host(1), mesh.host(2)
    lose(mesh, Propose)
    mesh.put(primary, "site", site("p"))
    mesh.settle()
    mesh.carry = lambda message: message
    mesh.part(worker, primary)
    says(mesh, mesh.host(3), primary, ProposalStored(1, "dev-02-boot1-1", accepted=True))
    claim = mesh.claim(primary)
    assert claim is not None
    assert claim.holder == "dev-02"
    assert mesh.working() == {}
    mesh.join(worker, primary)
    mesh.advance(TTL_S)
    assert mesh.working() == {P: "dev-02"}
    assert mesh.status() == "dev-02 in_progress 1"


# Take-over


def test_a_new_primary_decides_nothing_before_a_majority_has_compared_with_it() -> None:
    mesh = idle()
    lose(mesh, Compared)
    mesh.crash(mesh.host(1))
    mesh.advance(FAILOVER_S + TTL_S)
    assert mesh.deciding() == ["dev-02"], "it leads, and may decide about hand-overs"
    assert mesh.snapshot(mesh.host(2)).work.decides == SETTLING
    says(mesh, mesh.host(3), mesh.host(2), request())
    assert answers(mesh, "x-1") == [SETTLING]
    mesh.carry = lambda message: message
    mesh.reset(mesh.host(2), mesh.host(3))
    mesh.advance(6)
    assert mesh.snapshot(mesh.host(2)).work.decides == ""


def in_doubt(*, holder: int = 3) -> Workforce:
    """A claim of dev-03 (or another) is stored by the voters when the primary that asked for it dies."""
    mesh = Workforce.at_work(without_command=[name for name in EVERYBODY if name != f"dev-{holder:02}"])
    lose(mesh, ProposalStored)
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.settle()
    assert mesh.status() == "free"
    assert P in mesh.host(2).disk.proposals
    mesh.crash(mesh.host(1))
    mesh.carry = lambda message: message
    return mesh


def test_what_was_proposed_is_granted_by_the_next_primary_to_who_asked_for_it() -> None:
    mesh = in_doubt()
    mesh.advance(FAILOVER_S + 2)
    assert mesh.primaries() == ["dev-02"]
    assert mesh.working() == {P: "dev-03"}
    assert mesh.status() == "dev-03 in_progress 1"
    mesh.safe()


def test_what_was_proposed_is_stored_by_a_majority_again_before_anything_is_decided() -> None:
    mesh = in_doubt()
    lose(mesh, ProposalStored)
    mesh.advance(FAILOVER_S + 2)
    assert mesh.primaries() == ["dev-02"]
    assert mesh.snapshot(mesh.host(2)).work.decides == SETTLING
    assert mesh.host(3).disk.proposals[P].term == 2, "under its own term"
    mesh.carry = lambda message: message
    says(mesh, mesh.host(3), mesh.host(2), ProposalStored(2, mesh.host(3).disk.proposals[P].claim, accepted=True))
    assert mesh.snapshot(mesh.host(2)).work.decides == ""


def test_a_claim_in_doubt_of_who_died_with_its_primary_is_taken_back_after_its_time() -> None:
    mesh = in_doubt(holder=1)
    mesh.advance(FAILOVER_S + 2)
    assert mesh.status() == "dev-01 claimed 1"
    mesh.advance(TIMEOUT_S + LOCK_DELAY_S + 3)
    assert mesh.status() == "dev-01 released 1"


def test_a_claim_in_doubt_of_who_gave_up_waiting_is_an_orphan() -> None:
    mesh = in_doubt()
    mesh.work(mesh.host(3)).intake.requests.clear()
    mesh.order(mesh.host(3), inputs.SetDraining(1, is_draining=True))
    mesh.advance(FAILOVER_S + 6)
    assert mesh.status() == "dev-03 released 1"
    assert mesh.working() == {}


def test_a_claim_that_only_a_follower_s_document_holds_is_known_to_the_new_primary_before_it_decides() -> None:
    mesh = Workforce.at_work(without_command=("dev-01", "dev-02"))
    primary, second, holder = mesh.host(1), mesh.host(2), mesh.host(3)
    mesh.put(primary, "site", site("p"))
    mesh.delay(primary, second)  # the grant does not reach the next primary
    mesh.settle()
    says(mesh, holder, primary, ProposalStored(1, "dev-03-boot1-1", accepted=True))
    mesh.settle()
    assert mesh.working() == {P: "dev-03"} or mesh.claim(second) is None
    mesh.crash(primary)
    mesh.heal()
    mesh.advance(FAILOVER_S + 2)
    assert mesh.primaries() == ["dev-02"]
    assert mesh.status() == "dev-03 in_progress 1"
    mesh.safe()


def test_a_primary_that_is_claimant_itself_asks_its_voters_like_anybody() -> None:
    mesh = Workforce.at_work(without_command=("dev-02", "dev-03"))
    lose(mesh, ProposalStored)
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.settle()
    assert mesh.working() == {}
    assert mesh.states(mesh.host(1)) == {P: "asked"}
    says(mesh, mesh.host(2), mesh.host(1), ProposalStored(1, "dev-01-boot1-1", accepted=True))
    assert mesh.working() == {P: "dev-01"}


def test_a_proposal_goes_to_a_voter_that_comes_back_while_it_is_pending() -> None:
    mesh = idle()
    primary, worker = mesh.host(1), mesh.host(2)
    lose(mesh, Propose)
    says(mesh, worker, primary, request())
    mesh.settle()
    mesh.carry = lambda message: message
    mesh.reset(primary, mesh.host(3))
    mesh.advance(1)
    assert answers(mesh, "x-1") == [GRANTED]


def test_a_claim_is_decided_by_the_one_that_was_elected_and_never_by_two() -> None:
    mesh = Workforce.at_work(intake=INTAKE)
    mesh.lasts_s = 5.0
    mesh.put(mesh.host(1), "site", site(*(f"x{number}" for number in range(12))))
    mesh.advance(6)
    mesh.split([1], [2, 3])
    mesh.advance(60)
    mesh.heal()
    mesh.advance(120)
    mesh.safe()
    done = [mesh.status(("site", "m", f"x{number}")).split()[1] for number in range(12)]
    assert done == [ClaimStatus.DONE] * 12


def test_what_is_in_doubt_goes_to_whom_it_was_proposed_for_also_where_no_quorum_is_asked_for() -> None:
    """Such a mesh may have had one."""
    mesh = Workforce.at_work(2, without_command=("dev-01", "dev-02"))
    primary = mesh.host(1)
    mesh.put(primary, "site", site("p"))
    mesh.settle()
    life = mesh.work(primary).ledger.life(P)
    assert life is not None
    old = Proposal(1, *P, life, "old-1", 1, "dev-01", 0, 1_000)
    mesh.work(primary).claims.proposals.stored[P] = old
    says(mesh, mesh.host(2), primary, request())
    assert answers(mesh, "x-1") == [HELD]
    claim = mesh.claim(primary)
    assert claim is not None
    assert (claim.id, claim.generation) == ("old-1", 1)
