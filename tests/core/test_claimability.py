"""Whether a phase can be claimed: each condition, alone and in its words."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.board import Board
from meshd.core.claim import ClaimStatus
from meshd.core.claimability import CONDITIONS, Claimant, conditions, objection
from meshd.core.documents import Document
from meshd.core.phases import Phase
from meshd.model import Json, JsonObject
from tests.core.boards import board, claimed, document, milestone, one, phase, project

ANYBODY = Claimant("dev-01")
RETRY = "`meshd retry site/m1/p` has it tried again"


def asked(made: Board, found: Phase, claimant: Claimant = ANYBODY, now_utc_ms: int = 0) -> dict[str, str]:
    """The texts of the conditions that do not hold; the first of them is the objection."""
    answer = conditions(found, made, claimant, now_utc_ms=now_utc_ms)
    assert tuple(condition.name for condition in answer) == CONDITIONS
    assert all(condition.text for condition in answer)
    failing = {condition.name: condition.text for condition in answer if not condition.holds}
    assert objection(found, made, claimant, now_utc_ms=now_utc_ms) == next(iter(failing), "")
    return failing


def of_phase(*, now_utc_ms: int = 0, claim: dict[str, Any] | None = None, **fields: Json) -> dict[str, str]:
    state = document(project(milestone("m1", phase("p", **fields))))
    if claim is not None:
        state = claimed(state, "m1", "p", **claim)
    return asked(*one(state), now_utc_ms=now_utc_ms)


def holding(state: Document | JsonObject, name: str = "p") -> dict[str, str]:
    """The texts of all conditions."""
    made, found = one(state, name)
    return {each.name: each.text for each in conditions(found, made, ANYBODY, now_utc_ms=0)}


def test_the_names_are_stable() -> None:
    assert (
        *("project-active", "not-held", "not-done", "no-feature", "not-failed", "backoff-over"),
        *("dependencies", "milestone-dependencies", "affinity"),
    ) == CONDITIONS


def test_a_phase_that_can_be_claimed() -> None:
    assert of_phase() == {}
    assert holding(project(milestone("m1", phase("p")))) == {
        "project-active": "project site is active",
        "not-held": "nobody holds it",
        "not-done": "it is not done",
        "no-feature": "no feature was made from it without a claim",
        "not-failed": "it has not failed for good",
        "backoff-over": "no failed attempt has to be waited for",
        "dependencies": "it depends on no other phase",
        "milestone-dependencies": "milestone m1 depends on no other",
        "affinity": "suits dev-01 (fullstack); it lists no files",
    }


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ("active", None),
        ("scaffolded", None),
        ("completed", "project site is completed: only those that are active or scaffolded are worked on"),
        (None, "project site has no status: only those that are active or scaffolded are worked on"),
    ],
)
def test_project_active(status: Json, text: str | None) -> None:
    failing = asked(*one(project(milestone("m1", phase("p")), status=status)))
    assert failing == ({} if text is None else {"project-active": text})


def test_a_project_that_is_gone() -> None:
    made, found = one(project(milestone("m1", phase("p"))))
    made.update(None, "site")
    assert asked(made, found) == {"project-active": "there is no project site"}


# Claims


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        (
            {"generation": 3},
            {"not-held": "dev-02 holds it (claimed since 1970-01-01T00:00:01.000Z, generation 3)"},
        ),
        (
            {"status": ClaimStatus.IN_PROGRESS, "holder": "dev-01"},
            {"not-held": "this claimant itself holds it (in_progress since 1970-01-01T00:00:01.000Z, generation 1)"},
        ),
        ({"status": ClaimStatus.RELEASED}, {}),
        (
            {"status": ClaimStatus.DONE, "pr_url": "https://git/pull/7"},
            {"not-done": "dev-02 has done it (generation 1, https://git/pull/7)"},
        ),
        ({"status": ClaimStatus.DONE}, {"not-done": "dev-02 has done it (generation 1)"}),
        (
            {"status": ClaimStatus.FAILED, "attempts": 3, "error": "exit 1"},
            {
                "not-failed": "it failed for good after 3 attempts (exit 1): "
                "`meshd retry site/m1/p` has it tried again",
            },
        ),
        (
            {"status": ClaimStatus.FAILED, "attempts": 1, "retry_ms": 61_500},
            {
                "backoff-over": "it failed after 1 attempt: may be claimed again in 42 s, 1970-01-01T00:01:01.500Z",
            },
        ),
        ({"status": ClaimStatus.FAILED, "attempts": 1, "retry_ms": 20_000}, {}),
        # A claim masks what else is said:
        ({"status": ClaimStatus.RELEASED, "feature_id": "feature-1-a"}, {}),
    ],
)
def test_what_a_claim_says(claim: dict[str, Any], expected: dict[str, str]) -> None:
    assert of_phase(claim=claim, now_utc_ms=20_000) == expected
    masked = of_phase(claim=claim, now_utc_ms=20_000, executionStatus="completed", featureId="f", claimedBy="x")
    assert masked == expected


def test_what_is_said_of_claims_that_are_over() -> None:
    state = document(project(milestone("m1", phase("p"))))
    released = claimed(state, "m1", "p", status=ClaimStatus.RELEASED, generation=2)
    assert holding(released)["not-held"] == "nobody holds it: dev-02 released generation 2"
    made, found = one(claimed(state, "m1", "p", status=ClaimStatus.FAILED, attempts=2, error="x" * 500, retry_ms=9))
    backoff = {each.name: each for each in conditions(found, made, ANYBODY, now_utc_ms=9)}["backoff-over"]
    assert backoff.holds
    assert (
        backoff.text == f"it failed after 2 attempts ({'x' * 200}): may be claimed again since 1970-01-01T00:00:00.009Z"
    )


# What documents say without a claim


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"executionStatus": "unclaimed"}, {}),
        ({"executionStatus": "unclaimed", "claimedBy": "mac-dev"}, {}),  # what a release left over
        ({"executionStatus": "pending"}, {}),
        (
            {"executionStatus": "in-review", "claimedBy": "mac-dev"},
            {
                "not-held": "its executionStatus is in-review, claimedBy mac-dev, without a claim: "
                "set it to unclaimed to have it claimed"
            },
        ),
        (
            {"claimedBy": "mac-dev"},
            {
                "not-held": "its executionStatus is claimed, claimedBy mac-dev, without a claim: "
                "set it to unclaimed to have it claimed"
            },
        ),
        ({"executionStatus": "completed"}, {"not-done": "its executionStatus is completed"}),
        ({"executionStatus": "done"}, {"not-done": "its executionStatus is done"}),
        (
            {"executionStatus": "failed"},
            {"not-failed": "it failed, as its executionStatus says: set that to unclaimed to have it tried again"},
        ),
        (
            {"executionStatus": "pending", "featureId": "feature-1-a"},
            {"no-feature": "feature-1-a was made from it without a claim: remove its featureId to have it claimed"},
        ),
    ],
)
def test_what_a_document_says_without_a_claim(fields: dict[str, Any], expected: dict[str, str]) -> None:
    assert of_phase(**fields) == expected


@pytest.mark.parametrize("status", ["claimed", "in_progress", "in-progress", "in-review", "blocked", "whatever"])
def test_any_other_status_says_that_somebody_has_it(status: str) -> None:
    assert of_phase(executionStatus=status).keys() == {"not-held"}


# Dependencies


def waiting(other: JsonObject, **claim: Any) -> dict[str, str]:
    state = document(project(milestone("m1", phase("p", "x"), other)))
    return asked(*one(claimed(state, "m1", "x", **claim) if claim else state))


def test_dependencies_are_done_by_claim_or_by_word() -> None:
    assert waiting(phase("x"), status=ClaimStatus.DONE) == {}
    assert waiting(phase("x", executionStatus="completed")) == {}
    done = project(milestone("m1", phase("p", "x"), phase("x", executionStatus="done")))
    assert holding(done)["dependencies"] == "all that it depends on is done: x"


@pytest.mark.parametrize(
    ("fields", "claim", "text"),
    [
        ({}, {}, "depends on x, which is not done: unclaimed"),
        ({"executionStatus": "in-review"}, {}, "depends on x, which is not done: in-review"),
        ({"featureId": "f1"}, {}, "depends on x, which is not done: f1 was made from it without a claim"),
        ({}, {"status": ClaimStatus.IN_PROGRESS}, "depends on x, which is in_progress, by dev-02"),
        ({}, {"status": ClaimStatus.RELEASED}, "depends on x, which is not done: released, may be claimed again"),
        (
            {},
            {"status": ClaimStatus.FAILED, "retry_ms": 5},
            "depends on x, which is not done: failed, may be claimed again",
        ),
        (
            {},
            {"status": ClaimStatus.FAILED, "attempts": 3},
            "depends on x, which failed for good after 3 attempts: `meshd retry site/m1/x` has it tried again",
        ),
    ],
)
def test_how_far_a_dependency_is(fields: dict[str, Json], claim: dict[str, Any], text: str) -> None:
    assert waiting(phase("x", **fields), **claim) == {"dependencies": text}


def test_a_dependency_that_does_not_exist() -> None:
    elsewhere = project(milestone("m1", phase("p", "x")), milestone("m2", phase("x", executionStatus="done")))
    assert asked(*one(elsewhere)) == {"dependencies": "depends on x, which does not exist in milestone m1"}


def test_a_cycle() -> None:
    text = "p depends on x depends on p: a cycle, nobody can ever claim them"
    assert waiting(phase("x", "p")) == {"dependencies": text}
    itself = project(milestone("m1", phase("p", "p")))
    assert asked(*one(itself)) == {"dependencies": "p depends on p: a cycle, nobody can ever claim them"}


def test_each_dependency_is_named() -> None:
    content = project(milestone("m1", phase("p", "a", "b", "c"), phase("b"), phase("c", executionStatus="done")))
    text = "depends on a, which does not exist in milestone m1; depends on b, which is not done: unclaimed"
    assert asked(*one(content)) == {"dependencies": text}


# Milestone dependencies


def after(*others: JsonObject) -> dict[str, str]:
    """What stands against a phase whose milestone depends on m0."""
    return asked(*one(project(milestone("m1", phase("p"), after=("m0",)), *others)))


def test_all_phases_of_a_milestone_have_to_be_done() -> None:
    undone = milestone("m0", phase("a", number=2), phase("b", number=1), phase("c", executionStatus="done"))
    assert after(undone) == {"milestone-dependencies": "milestone m1 depends on m0, of which is not done: b, a"}
    done = milestone("m0", phase("c", executionStatus="done"))
    assert after(done) == {}
    text = holding(project(milestone("m1", phase("p"), after=("m0",)), done))["milestone-dependencies"]
    assert text == "all that milestone m1 depends on is done: m0"


def test_a_milestone_without_phases_is_done() -> None:
    assert after(milestone("m0")) == {}


def test_a_milestone_that_does_not_exist() -> None:
    assert after(milestone("M0", title="m0")) == {
        "milestone-dependencies": "milestone m1 depends on m0, which does not exist"
    }


def test_milestones_that_wait_for_each_other() -> None:
    text = "milestone m0 depends on m1 depends on m0: a cycle, nobody can ever claim their phases"
    assert after(milestone("m0", phase("a"), after=("m1",))) == {"milestone-dependencies": text}


def test_a_milestone_whose_phase_failed() -> None:
    assert after(milestone("m0", phase("a"), phase("b", executionStatus="failed"))) == {
        "milestone-dependencies": "milestone m1 depends on m0, whose b failed, as its executionStatus says: "
        "set that to unclaimed to have it tried again"
    }


# Affinity


@pytest.mark.parametrize(
    ("claimant", "files", "holds", "text"),
    [
        (
            Claimant("dev-02", "frontend", ("docs", "gpu")),
            ["apps/server/a.ts", ".github/b.yml"],
            False,
            (
                "does not suit dev-02 (frontend with tags docs, gpu): takes backend or infra, or fullstack; "
                "its files: apps/server/a.ts, .github/b.yml"
            ),
        ),
        (
            Claimant("dev-02", "frontend", overflow=True),
            ["main.c"],
            True,
            "does not suit dev-02 (frontend), which has found no work that does and takes other; its files: main.c",
        ),
        (
            Claimant("dev-02", "frontend"),
            ["main.c"],
            False,
            "does not suit dev-02 (frontend): takes fullstack; its files: main.c",
        ),
        (Claimant("dev-02", "qa", ("backend",)), ["apps/server/a.ts"], True, None),
        (Claimant("dev-02", None), ["main.c"], True, "suits dev-02 (fullstack); its files: main.c"),
        (Claimant("dev-02", "qa"), [], True, "suits dev-02 (qa); it lists no files"),
        (
            Claimant("dev-02"),
            [f"{number}.c" for number in range(1008)],
            True,
            "suits dev-02 (fullstack); its files: 0.c, 1.c, 2.c, 3.c, 4.c, 5.c, and 1,002 more",
        ),
    ],
)
def test_affinity(claimant: Claimant, files: list[Json], holds: bool, text: str | None) -> None:
    made, found = one(project(milestone("m1", phase("p", filesToModify=files))))
    affinity = conditions(found, made, claimant, now_utc_ms=0)[-1]
    assert (affinity.name, affinity.holds) == ("affinity", holds)
    assert text in (None, affinity.text)
    assert asked(made, found, claimant).keys() == (set() if holds else {"affinity"})


# All together


_fields = st.fixed_dictionaries(
    {},
    optional={
        "executionStatus": st.sampled_from(["unclaimed", "pending", "in-progress", "done", "failed", 5]),
        "featureId": st.sampled_from(["f1", None]),
        "claimedBy": st.just("mac-dev"),
        "dependencies": st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=3),
        "filesToModify": st.lists(st.sampled_from(["apps/ui/a.ts", "docs/a.md", "main.c"]), max_size=2),
    },
)
_milestones = st.lists(
    st.tuples(st.lists(_fields, max_size=3), st.lists(st.sampled_from(["m0", "m1", "m9"]))), max_size=3
)
_claims = st.dictionaries(
    st.tuples(st.sampled_from(["m0", "m1"]), st.sampled_from("abc")),
    st.tuples(st.sampled_from(sorted(ClaimStatus)), st.sampled_from([None, 10, 1000])),
    max_size=3,
)
_claimants = st.builds(
    Claimant, st.just("dev-01"), st.sampled_from(["frontend", "docs", "fullstack"]), st.just(()), st.booleans()
)


@given(_milestones, _claims, _claimants, st.sampled_from(["active", "completed"]))
def test_nothing_that_is_not_done_is_free_or_explained(
    content: list[tuple[list[dict[str, Any]], list[str]]],
    claims: dict[tuple[str, str], tuple[ClaimStatus, int | None]],
    claimant: Claimant,
    status: str,
) -> None:
    """Objection and conditions agree on any board, and what is blocked for ever is never claimable."""
    milestones = [
        milestone(
            f"m{index}",
            *(phase(name, **fields) for name, fields in zip("abc", phases, strict=False)),
            after=tuple(after),
        )
        for index, (phases, after) in enumerate(content)
    ]
    state = document(project(*milestones, status=status))
    for (slug, name), (claim_status, retry_ms) in claims.items():
        state = claimed(state, slug, name, status=claim_status, retry_ms=retry_ms)
    made = board(state)
    (found,) = made.projects()
    free = {each.place for each in found.phases() if not asked(made, each, claimant, now_utc_ms=100)}
    blocked = {each.place for each in made.blocked()}
    assert not free & blocked
    assert status == "active" or not (free or blocked)
    assert all(each.is_open for each in found.phases() if each.place in free | blocked)


def test_overflow_is_no_excuse_for_anything_else() -> None:
    made, found = one(project(milestone("m1", phase("p", "x", filesToModify=["main.c"]))))
    eager = evolve(ANYBODY, overflow=True, focus="docs")
    assert asked(made, found, eager).keys() == {"dependencies"}
