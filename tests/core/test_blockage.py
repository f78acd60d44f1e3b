"""What can never be claimed, held against the definition, and why in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.board import Board
from meshd.core.claim import ClaimStatus
from meshd.core.phases import Phase
from meshd.core.projects import Project
from meshd.model import JsonObject
from tests.core.boards import board, claimed, document, milestone, phase, project


def blocked(made: Board) -> dict[str, str]:
    """The texts by name; what is no cause is marked."""
    return {each.place[2] + ("" if each.is_cause else "*"): each.text for each in made.blocked()}


def of(*phases: JsonObject) -> dict[str, str]:
    return blocked(board(document(project(milestone("m1", *phases)))))


def of_milestones(*milestones: JsonObject) -> dict[str, str]:
    return blocked(board(document(project(*milestones))))


def test_what_waits_for_work_is_not_blocked() -> None:
    assert of(phase("a"), phase("b", "a"), phase("c", "b", executionStatus="in-review"), phase("d", "c")) == {}
    assert of_milestones(milestone("m1", phase("a")), milestone("m2", phase("a"), after=("m1",))) == {}


def test_an_unknown_dependency_blocks_all_that_follows() -> None:
    assert of(phase("a", "x"), phase("b", "a"), phase("c", "b"), phase("d")) == {
        "a": "depends on x, which does not exist in milestone m1",
        "b*": "depends on a, which can never be claimed either (a: depends on x, which does not exist in milestone m1)",
        "c*": "depends on b, which can never be claimed either (a: depends on x, which does not exist in milestone m1)",
    }


def test_a_failed_phase_blocks_what_depends_on_it_until_somebody_retries_it() -> None:
    state = document(project(milestone("m1", phase("a"), phase("b", "a"))))
    made = board(claimed(state, "m1", "a", status=ClaimStatus.FAILED, attempts=3, error="exit 1"))
    assert blocked(made) == {
        "b": "depends on a, which failed for good after 3 attempts (exit 1): `meshd retry site/m1/a` has it tried again"
    }
    retried = claimed(state, "m1", "a", generation=2, status=ClaimStatus.RELEASED)
    made.update(retried, "site", ["milestones/m1/phases/a/@claim"])
    assert blocked(made) == {}


def test_a_cycle_blocks_its_phases_and_what_depends_on_them() -> None:
    text = "a depends on b depends on a: a cycle, nobody can ever claim them"
    assert of(phase("a", "b"), phase("b", "a"), phase("c", "a")) == {
        "a": text,
        "b": text,
        "c*": f"depends on a, which can never be claimed either (a: {text})",
    }


def test_a_cycle_in_which_somebody_is_at_work_will_end() -> None:
    state = document(project(milestone("m1", phase("a", "b"), phase("b", "a"))))
    assert blocked(board(claimed(state, "m1", "a"))) == {}
    assert blocked(board(claimed(state, "m1", "b", status=ClaimStatus.DONE))) == {}


def test_a_long_cycle_is_told_in_short() -> None:
    names = [f"p{number:02}" for number in range(20)]
    texts = of(*(phase(name, names[number - 1]) for number, name in enumerate(names)))
    assert set(texts.values()) == {
        (
            "p00 depends on p19 depends on p18 depends on p17 depends on p16 depends on ... (15 more) depends on p00: "
            "a cycle, nobody can ever claim them"
        )
    }
    assert texts.keys() == set(names)


def test_milestones_block_each_other() -> None:
    text = "milestone m1 depends on m2 depends on m1: a cycle, nobody can ever claim their phases"
    assert of_milestones(
        milestone("m1", phase("a"), after=("m2",)),
        milestone("m2", phase("b"), after=("m1",)),
        milestone("m3", phase("c"), after=("m2", "m9")),
        milestone("m4", phase("d"), after=("m2",)),
    ) == {
        "a": text,
        "b": text,
        "c": f"milestone m3 depends on m2, whose b can never be claimed (b: {text}); "
        "milestone m3 depends on m9, which does not exist",
        "d*": f"milestone m4 depends on m2, whose b can never be claimed (b: {text})",
    }


def test_a_milestone_with_a_failed_phase_blocks_those_that_depend_on_it() -> None:
    failed = phase("b", executionStatus="failed")
    text = "failed, as its executionStatus says: set that to unclaimed to have it tried again"
    assert of_milestones(
        milestone("m1", phase("a"), failed),
        milestone("m2", phase("c"), phase("d", "c"), after=("m1",)),
    ) == {
        "c": f"milestone m2 depends on m1, whose b {text}",
        "d": (
            f"depends on c, which can never be claimed either (c: milestone m2 depends on m1, whose b {text}); "
            f"milestone m2 depends on m1, whose b {text}"
        ),
    }


def test_of_a_milestone_the_failed_phase_is_named_first() -> None:
    texts = of_milestones(
        milestone("m1", phase("a", "x"), phase("b", executionStatus="failed")),
        milestone("m2", phase("c"), after=("m1",)),
    )
    assert texts.keys() == {"a", "c"}
    assert texts["c"].startswith("milestone m2 depends on m1, whose b failed")


def test_what_is_no_longer_to_be_claimed_is_not_blocked() -> None:
    for fields in ({"executionStatus": "done"}, {"executionStatus": "in-review"}, {"featureId": "f1"}):
        assert of(phase("a", "x", **fields)) == {}
    assert of(phase("a", "x", executionStatus="failed")) == {}


def test_nobody_is_told_of_projects_that_are_not_worked_on() -> None:
    state = document(project(milestone("m1", phase("a", "x")), status="completed"))
    made = board(state, document(project(milestone("m1", phase("b", "x"))), slug="other"))
    assert blocked(made).keys() == {"b"}
    assert made.blockage("site") is not None
    assert made.blockage("none") is None


def test_what_was_found_out_is_forgotten_when_the_project_changes() -> None:
    made = board(document(project(milestone("m1", phase("a", "x")))))
    before = made.blockage("site")
    assert made.blockage("site") is before
    made.update(document(project(milestone("m1", phase("a")))), "site")
    assert blocked(made) == {}
    made.update(None, "site")
    assert made.blockage("site") is None


def test_a_long_list_of_problems_is_told_in_short() -> None:
    (text,) = of(phase("a", *(f"x{number}" for number in range(1_000)))).values()
    assert text.endswith("depends on x5, which does not exist in milestone m1; and 994 more")


# The definition


def may_be_done(found: Project) -> set[tuple[str, str]]:
    """By the definition, the slow way: what may still be done, beginning with what waits for nothing."""
    able: set[tuple[str, str]] = set()

    def waits_for_nothing(each: Phase) -> bool:
        _, slug, _ = each.place
        own = found.milestones[slug]
        others = [found.milestones.get(name) for name in own.dependencies]
        return all((slug, name) in able for name in each.dependencies) and all(
            other is not None and all((other.slug, name) in able for name in other.phases) for other in others
        )

    while True:
        more = {
            each.place[1:]
            for each in found.phases()
            if each.place[1:] not in able and not each.is_failed and (not each.is_open or waits_for_nothing(each))
        }
        if not more:
            return able
        able |= more


_phases = st.lists(
    st.fixed_dictionaries(
        {"dependencies": st.lists(st.sampled_from("abcd"), max_size=2)},
        optional={"executionStatus": st.sampled_from(["pending", "done", "failed", "in-review"])},
    ),
    max_size=4,
)
_milestones = st.lists(
    st.tuples(_phases, st.lists(st.sampled_from(["m0", "m1", "m2", "m3"]), max_size=2).map(tuple)), max_size=3
)


@given(_milestones)
def test_blocked_is_what_can_never_be_done(content: list[tuple[list[dict[str, Any]], tuple[str, ...]]]) -> None:
    milestones = [
        milestone(f"m{index}", *(phase("abcd"[at], **fields) for at, fields in enumerate(phases)), after=after)
        for index, (phases, after) in enumerate(content)
    ]
    made = board(document(project(*milestones)))
    (found,) = made.projects()
    told = {each.place[1:]: each for each in made.blocked()}
    assert told.keys() == {each.place[1:] for each in found.phases() if each.is_open} - may_be_done(found)
    assert all(each.text for each in told.values())
    assert not told or any(each.is_cause for each in told.values())


@pytest.mark.parametrize("first", ["none", "p4999"])
def test_thousands_of_phases_in_a_chain(first: str) -> None:
    chain = [phase("p0", first), *(phase(f"p{number}", f"p{number - 1}") for number in range(1, 5_000))]
    texts = of(*chain)
    assert len(texts) == 5_000
    assert max(map(len, texts.values())) < 200
