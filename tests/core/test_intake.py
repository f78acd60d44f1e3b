"""Looking for work, and asking for it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from attrs import evolve

from meshd.core import inputs, messages
from meshd.core.claims import SETTLING
from meshd.core.inputs import Outcome
from meshd.core.intake import ASK_AGAIN_S, GIVE_UP_S, UNANSWERED
from meshd.core.messages import ClaimRequest, Decision
from meshd.model import Focus, JsonObject
from tests.core.boards import milestone, phase, project
from tests.core.electorate import HEARTBEAT_S, TTL_S
from tests.core.mesh import Host
from tests.core.test_claims import lose, says, sent
from tests.core.workforce import INTAKE, TICK_S, TIMEOUT_S, P, Q, Workforce, site

EVERYBODY = {"dev-01", "dev-02", "dev-03"}
CONTINUE = evolve(INTAKE, when_partitioned="continue")


def alone_at_work(**how: object) -> tuple[Workforce, Host]:
    """A mesh in which only dev-02 works."""
    mesh = Workforce.at_work(without_command=EVERYBODY - {"dev-02"}, **how)  # type: ignore[arg-type]
    return mesh, mesh.host(2)


def requests(mesh: Workforce, since_s: float = 0.0) -> list[tuple[float, str]]:
    """When dev-02 asked for which phase, in seconds since then."""
    return [
        (at_s - since_s, message.phase)
        for at_s, host, message in mesh.said
        if isinstance(message, ClaimRequest) and host == "dev-02" and at_s >= since_s
    ]


def doc(name: str) -> JsonObject:
    return phase(name, filesToModify=["docs/a.md"])


# Room


def test_as_much_is_asked_for_as_there_is_room() -> None:
    mesh, host = alone_at_work(agents=3)
    mesh.put(mesh.host(1), "site", site(*(f"x{number}" for number in range(7))))
    mesh.settle()
    assert [name for _, name in requests(mesh)] == ["x0", "x1", "x2"]
    assert (mesh.snapshot(host).work.max_agents, mesh.snapshot(host).work.free) == (3, 0)
    mesh.end(("site", "m", "x1"))
    assert sorted(place[2] for place in mesh.working()) == ["x0", "x2", "x3"]


def test_what_is_asked_for_takes_room() -> None:
    mesh, host = alone_at_work(agents=2)
    lose(mesh, messages.ProposalStored)
    mesh.put(mesh.host(1), "site", site(*(f"x{number}" for number in range(7))))
    mesh.advance(2 * TICK_S)
    assert {name for _, name in requests(mesh)} == {"x0", "x1"}
    assert set(mesh.states(host).values()) == {"asked"}


def test_what_still_stops_takes_room() -> None:
    mesh, host = alone_at_work()
    mesh.stops_s = 8.0
    mesh.put(mesh.host(1), "site", site("p", "q"))
    mesh.settle()
    mesh.settle_phase(host, Outcome.RELEASED)
    mesh.advance(7)
    assert mesh.states(host) == {P: "stopping"}
    mesh.advance(1)
    assert len(mesh.working()) == 1


def test_phases_come_in_their_order_over_all_projects() -> None:
    mesh, _ = alone_at_work(agents=4)
    low = project(milestone("m", phase("late")), priority="low")
    second = milestone("m2", phase("p2"), number=2)
    first = milestone("m1", phase("b", number=2), phase("a", number=1), number=1)
    mesh.order(mesh.host(2), inputs.SetDraining(1, is_draining=True))
    mesh.put(mesh.host(1), "a-low", low)
    mesh.put(mesh.host(1), "site", project(second, first))
    mesh.settle()
    mesh.order(mesh.host(2), inputs.SetDraining(1, is_draining=False))
    assert [name for _, name in requests(mesh)] == ["a", "b", "p2", "late"]


# When


def test_it_looks_at_every_tick_and_at_once_when_something_changed() -> None:
    mesh, _ = alone_at_work()
    mesh.put(mesh.host(3), "site", site("p", phase("q", "p")))
    mesh.settle()
    assert mesh.working() == {P: "dev-02"}
    begun_s = mesh.mono_s
    mesh.end(P)
    assert requests(mesh, begun_s)[-1] == (0.0, "q")


def test_claimed_is_while_a_primary_is_in_contact_and_documents_were_compared() -> None:
    mesh, host = alone_at_work()
    mesh.split([1, 3], [2])
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.put(host, "other", site("x"))
    mesh.advance(2 * TICK_S)
    assert requests(mesh) == []
    assert mesh.snapshot(host).work.why_off == "it has no primary"
    lose(mesh, messages.Digest)
    mesh.heal()
    mesh.advance(TTL_S)
    assert "comparing documents" in mesh.snapshot(host).work.why_off
    assert requests(mesh) == []
    mesh.carry = lambda message: message
    mesh.reset(host, mesh.host(1))
    mesh.advance(TTL_S)
    assert len(mesh.working()) == 1


# Refused


def test_what_was_refused_is_left_alone_for_longer_each_time() -> None:
    mesh, host = alone_at_work()
    refuses = [True]

    def refused(message: messages.Message) -> messages.Message:
        if isinstance(message, ClaimRequest) and refuses[0]:
            return evolve(message, generation=7)
        return message

    mesh.carry = refused
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.settle()
    begun_s = mesh.mono_s
    mesh.advance(36)
    times = [at_s for at_s, _ in requests(mesh, begun_s)]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses == pytest.approx([0.5, 1.0, 2.0, 4.0, 8.0, TICK_S, TICK_S])
    assert set(mesh.reasons(host)) == {"stale"}
    refuses[0] = False
    mesh.patch(mesh.host(1), "site", {"title": "Another"})
    mesh.settle()
    assert mesh.working() == {}, "a change elsewhere ends no pause"
    mesh.settle_phase(mesh.host(1), Outcome.DONE)
    mesh.settle_phase(mesh.host(1), Outcome.RETRY)
    mesh.advance(1)
    assert mesh.working() == {P: "dev-02"}, "one of its claim does"


def test_another_phase_is_asked_for_meanwhile() -> None:
    mesh, _ = alone_at_work()
    mesh.carry = lambda message: (
        evolve(message, generation=7) if isinstance(message, ClaimRequest) and message.phase == "p" else message
    )
    mesh.put(mesh.host(1), "site", site("p", "q"))
    mesh.settle()
    assert mesh.working() == {Q: "dev-02"}


# Unanswered


def test_a_request_that_is_not_answered_is_sent_again_and_then_given_up() -> None:
    mesh, host = alone_at_work()
    lose(mesh, ClaimRequest)
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.settle()
    begun_s = mesh.mono_s
    (name,) = [view.claim for view in mesh.snapshot(host).work.held]
    mesh.advance(ASK_AGAIN_S)
    asked = [message.claim for message in sent(mesh, ClaimRequest) if isinstance(message, ClaimRequest)]
    assert asked == [name, name], "the same request"
    mesh.advance(GIVE_UP_S - ASK_AGAIN_S)
    assert mesh.snapshot(host).work.decisions[name].reason == UNANSWERED
    mesh.carry = lambda message: message
    mesh.advance(TICK_S)
    assert mesh.working() == {P: "dev-02"}
    assert mesh.runs[0].begun_s - begun_s >= GIVE_UP_S


def test_what_was_asked_is_asked_again_on_a_new_link_at_once() -> None:
    mesh, host = alone_at_work()
    lose(mesh, ClaimRequest)
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.settle()
    mesh.carry = lambda message: message
    mesh.reset(host, mesh.host(1))
    mesh.advance(2)
    assert mesh.working() == {P: "dev-02"}
    assert {name for _, name in requests(mesh)} == {"p"}
    assert len({m.claim for m in sent(mesh, ClaimRequest) if isinstance(m, ClaimRequest)}) == 1


def test_a_primary_that_settles_is_asked_until_it_decides() -> None:
    mesh, host = alone_at_work()
    lose(mesh, ClaimRequest)
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.settle()
    mesh.carry = lambda message: message
    (asked,) = mesh.snapshot(host).work.held
    says(mesh, mesh.host(1), host, Decision(asked.claim, granted=False, reason=SETTLING))
    assert mesh.reasons(host) == [SETTLING]
    mesh.advance(1)
    assert mesh.working() == {P: "dev-02"}


def test_a_grant_is_known_from_the_document_when_its_answer_is_lost() -> None:
    mesh, host = alone_at_work()
    lose(mesh, Decision)
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.settle()
    assert mesh.working() == {P: "dev-02"}
    assert mesh.reasons(host) == ["granted"]


# Focus


def focused(*, overflow: bool = True) -> tuple[Workforce, Host]:
    intake = evolve(INTAKE, overflow=overflow, overflow_ticks=3)
    mesh = Workforce.at_work(without_command=EVERYBODY - {"dev-02"}, intake=intake, foci={"dev-02": Focus.BACKEND})
    return mesh, mesh.host(2)


def test_who_finds_nothing_of_its_own_takes_other_work_after_some_ticks() -> None:
    mesh, host = focused()
    mesh.advance(10 * TICK_S)
    assert mesh.snapshot(host).work.passed_over == 0, "there was nothing to pass over"
    mesh.put(mesh.host(1), "site", site(doc("p")))
    mesh.settle()
    assert mesh.working() == {}
    mesh.advance(2 * TICK_S)
    assert (mesh.working(), mesh.snapshot(host).work.passed_over) == ({}, 2)
    mesh.advance(TICK_S)
    assert mesh.working() == {P: "dev-02"}


def test_who_has_own_work_or_no_room_does_not_count_ticks() -> None:
    mesh, host = focused()
    mesh.put(mesh.host(1), "site", site(doc("p"), "q"))
    mesh.advance(5 * TICK_S)
    assert mesh.working() == {Q: "dev-02"}
    assert mesh.snapshot(host).work.passed_over == 0
    mesh.end(Q)
    assert mesh.working() == {}, "it begins to count"


def test_own_work_comes_first_also_for_who_takes_other() -> None:
    mesh, host = focused()
    mesh.order(host, inputs.SetDraining(1, is_draining=True))
    mesh.put(mesh.host(1), "site", site(doc("p"), "q"))
    mesh.settle()
    mesh.work(host).intake.passed_over = 9
    mesh.order(host, inputs.SetDraining(1, is_draining=False))
    assert mesh.working() == {Q: "dev-02"}


def test_without_overflow_other_work_is_never_taken() -> None:
    mesh, host = focused(overflow=False)
    mesh.put(mesh.host(1), "site", site(doc("p")))
    mesh.advance(10 * TICK_S)
    assert mesh.working() == {}
    assert mesh.snapshot(host).work.passed_over >= 10


# Without a primary


def test_with_continue_it_takes_work_on_its_own_judgement_and_marks_it() -> None:
    mesh, host = alone_at_work(intake=CONTINUE)
    mesh.split([1, 3], [2])
    mesh.put(host, "site", site("p", phase("q", "p")))
    mesh.advance(2 * TTL_S)
    assert mesh.working() == {P: "dev-02"}
    claim = mesh.claim(host)
    assert claim is not None
    assert (claim.provisional, claim.generation) == (True, 1)
    assert mesh.feature(host).provisional
    mesh.end(P)
    assert mesh.working() == {Q: "dev-02"}
    mesh.heal()
    mesh.advance(2 * TTL_S)
    assert mesh.status() == "dev-02 done 1"
    assert mesh.status(Q) == "dev-02 in_progress 1"


def test_with_pause_it_goes_on_with_what_it_has_and_takes_nothing_new() -> None:
    mesh, host = alone_at_work(agents=2)
    mesh.put(mesh.host(1), "site", site("p", phase("q", "p")))
    mesh.settle()
    mesh.split([1, 3], [2])
    mesh.end(P)
    mesh.advance(TIMEOUT_S - 2 * HEARTBEAT_S)
    assert mesh.working() == {}
    mesh.heal()
    mesh.advance(TTL_S)
    assert mesh.working() == {Q: "dev-02"}
    assert mesh.snapshot(host).work.is_on
