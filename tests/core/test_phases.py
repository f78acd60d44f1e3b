"""Reading a phase: what counts, and what is taken as absent."""

from __future__ import annotations

import pytest
from hypothesis import given

from meshd.core.claim import ClaimStatus, claim_of
from meshd.core.phases import Phase
from meshd.model import Focus, Json
from tests.core.boards import CLAIM, claimed, document, milestone, one, phase, project
from tests.core.strategies import values

WHOLE = phase(
    "p",
    "a",
    "b",
    number=3,
    title="Login",
    description="A form.",
    filesToModify=["apps/ui/login.tsx"],
    acceptanceCriteria=["it works", "it is quick"],
    complexity="small",
)


def read(**fields: Json) -> Phase:
    return one(project(milestone("m1", phase("p", **fields), number=2), priority="high"))[1]


def test_a_phase_is_what_its_document_says() -> None:
    _, found = one(project(milestone("m1", WHOLE, number=2), priority="high"))
    assert found == Phase(
        ("site", "m1", "p"),
        "Login",
        "unclaimed",
        None,
        None,
        ("a", "b"),
        ("apps/ui/login.tsx",),
        (1, 2, 3, ("site", "m1", "p")),
        frozenset({Focus.FRONTEND, Focus.FULLSTACK}),
        None,
        "A form.",
        ("it works", "it is quick"),
        "small",
    )
    assert (found.name, found.generation, found.is_done, found.is_failed) == ("p", 0, False, False)


def test_what_is_not_said() -> None:
    found = read()
    assert found == Phase(
        ("site", "m1", "p"), "p", "unclaimed", None, None, (), (), (1, 2, 1, ("site", "m1", "p")), frozenset(Focus)
    )


@pytest.mark.parametrize(
    ("fields", "name", "expected"),
    [
        ({"title": 5}, "title", "p"),
        ({"title": ""}, "title", "p"),
        ({"executionStatus": ["done"]}, "status", "unclaimed"),
        ({"featureId": False}, "feature_id", None),
        ({"featureId": ""}, "feature_id", None),
        ({"claimedBy": {"id": "dev-02"}}, "claimed_by", None),
        ({"dependencies": ["a", 5, None, "a", "", ["b"]]}, "dependencies", ("a",)),
        ({"dependencies": "a"}, "dependencies", ("a",)),
        ({"dependencies": {"a": True}}, "dependencies", ()),
        ({"filesToModify": [{"path": "x"}, "y"]}, "files", ("y",)),
        ({"acceptanceCriteria": True}, "acceptance_criteria", ()),
        ({"complexity": 3}, "complexity", None),
        ({"description": None}, "description", ""),
    ],
)
def test_what_has_another_type_is_absent(fields: dict[str, Json], name: str, expected: object) -> None:
    assert getattr(read(**fields), name) == expected


@pytest.mark.parametrize(
    ("number", "expected"), [(7, 7), (2.5, 2.5), (-1, -1), (True, 1), ("7", 1), (None, 1), (float("nan"), 1)]
)
def test_what_has_no_number_comes_where_it_stands(number: Json, expected: float) -> None:
    assert read(number=number).order[2] == expected


@pytest.mark.parametrize(
    ("status", "retry_ms", "is_done", "is_failed"),
    [
        (ClaimStatus.CLAIMED, None, False, False),
        (ClaimStatus.IN_PROGRESS, None, False, False),
        (ClaimStatus.RELEASED, None, False, False),
        (ClaimStatus.FAILED, 5, False, False),
        (ClaimStatus.FAILED, None, False, True),
        (ClaimStatus.DONE, None, True, False),
    ],
)
def test_a_claim_speaks_for_its_phase(
    status: ClaimStatus, retry_ms: int | None, is_done: bool, is_failed: bool
) -> None:
    plain = document(project(milestone("m1", phase("p", executionStatus="failed"))))
    _, found = one(claimed(plain, "m1", "p", generation=4, status=status, retry_ms=retry_ms))
    assert (found.is_done, found.is_failed, found.generation) == (is_done, is_failed, 4)
    assert found.claim is not None
    assert (found.claim.holder, found.claim.status) == (CLAIM.holder, status)


@pytest.mark.parametrize(
    ("status", "is_done", "is_failed"),
    [("done", True, False), ("completed", True, False), ("failed", False, True), ("Done", False, False)],
)
def test_without_a_claim_its_status_does(status: str, is_done: bool, is_failed: bool) -> None:
    found = read(executionStatus=status)
    assert (found.is_done, found.is_failed) == (is_done, is_failed)


@given(values)
def test_a_register_that_is_no_claim_is_none(value: Json) -> None:
    assert claim_of(value) is None
    assert claim_of({"claim": "boot-1", "holder": "dev-01", "generation": 1, "status": value}) is None
