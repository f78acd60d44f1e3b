"""The claim of a phase in its document: merged by its own order, shown in the phase's keys, out of reach of edits."""

from __future__ import annotations

import json
from copy import deepcopy
from itertools import pairwise
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from meshd.core import documents, editing
from meshd.core.claim import BEHIND_ALL, SHOWN_KEYS, Claim, ClaimStatus, claim_of, order, register_value, shown
from meshd.core.documents import Change, Document, Kind, Register, difference, equal, fragment, merge
from meshd.model import Json, JsonObject, Stamp
from meshd.project import claim_path, flatten, has_phase, is_claim
from tests.core.strategies import CLAIM_PATH, claim_registers, claim_values, claims, projects

LIFE = Stamp(1, 0, "dev-01")
CLAIM = Claim(3, "b-7", "dev-02", 1, ClaimStatus.IN_PROGRESS, 1_700_000_000_000, feature_id="f", attempts=1)
HELD = register_value(CLAIM)
SITE: JsonObject = {
    "slug": "site",
    "title": "T",
    "milestones": [
        {"slug": "m", "phases": [{"name": "p", "title": "P", "executionStatus": "done"}, {"name": "q"}]},
        {"slug": "n"},
    ],
}
SHOWN: JsonObject = {
    "name": "p",
    "title": "P",
    "executionStatus": "in_progress",
    "claimedBy": "dev-02",
    "claimedAt": "2023-11-14T22:13:20.000Z",
    "featureId": "f",
    "generation": 3,
    "attempts": 1,
}


def at(utc_ms: int, instance_id: str = "dev-01") -> Stamp:
    return Stamp(utc_ms, 0, instance_id)


def holding(content: JsonObject, claim: Json = HELD) -> Document:
    """A document of which the first phase is claimed."""
    flat = {**flatten(content), claim_path("m", "p"): claim}
    return Document("site", LIFE, {path: Register(LIFE, value) for path, value in flat.items()})


def edited(current: Document, wanted: JsonObject, utc_ms: int, base: JsonObject | None = None) -> Document:
    edit = editing.put("site", current, wanted, base)
    return merge(current, fragment(Change("a.s", 1, at(utc_ms), "site", LIFE, edit.kind, edit.fields, edit.removed)))


def phases(document: JsonObject, milestone: int = 0) -> list[Any]:
    milestones: Any = document["milestones"]
    found: list[Any] = milestones[milestone]["phases"]
    return found


def without_phase(content: JsonObject) -> JsonObject:
    less = deepcopy(content)
    del phases(less)[0]
    return less


def claim_in(document: Document) -> Claim | None:
    return claim_of(document.registers[claim_path("m", "p")].value)


# Merge


@given(claim_registers, claim_registers, claim_registers)
def test_claims_merge_alike_in_any_order(one: Register, two: Register, three: Register) -> None:
    first, second, third = (Document("site", LIFE, {CLAIM_PATH: register}) for register in (one, two, three))
    assert merge(first, second) == merge(second, first)
    assert merge(merge(first, second), third) == merge(first, merge(second, third))
    merged = merge(first, second)
    assert merge(merged, first) is merge(merged, second) is merged


@pytest.mark.parametrize(
    ("loser", "winner"),
    list(
        pairwise(
            [
                Register(at(9), gone=True),
                Register(at(8), register_value(evolve(CLAIM, generation=2))),
                Register(at(7), register_value(evolve(CLAIM, generation=2, status=ClaimStatus.DONE))),
                Register(at(6), register_value(evolve(CLAIM, priority=None, status=ClaimStatus.FAILED))),
                Register(at(5), register_value(evolve(CLAIM, status=ClaimStatus.CLAIMED))),
                Register(at(4), register_value(CLAIM)),
                Register(at(3), register_value(evolve(CLAIM, status=ClaimStatus.RELEASED))),
                Register(at(2), register_value(evolve(CLAIM, priority=0))),
                Register(at(3), register_value(evolve(CLAIM, priority=0))),
                Register(at(1), register_value(evolve(CLAIM, status=ClaimStatus.DONE))),
            ]
        )
    ),
)
def test_of_two_claims_the_one_with_the_greater_order_stands(loser: Register, winner: Register) -> None:
    assert documents.beats(CLAIM_PATH, winner, loser)
    assert not documents.beats(CLAIM_PATH, loser, winner)


@given(claim_values, claim_values)
def test_what_is_no_claim_loses_to_any_claim(one: Json, other: Json) -> None:
    if claim_of(one) is None and claim_of(other) is not None:
        assert order(one, at(9)) < order(other, at(1))


@pytest.mark.parametrize("path", ["milestones/m/@claim", "milestones/m/phases/@claim", "@claim", "milestones/@claim"])
def test_other_registers_of_that_name_go_by_their_stamps(path: str) -> None:
    done = Register(at(1), register_value(evolve(CLAIM, status=ClaimStatus.DONE)))
    assert documents.beats(path, Register(at(2), 0), done)
    assert not is_claim(path)


# Shown


@given(claims)
def test_a_claim_is_plain_json_and_reads_back(claim: Claim) -> None:
    for value in (register_value(claim), shown(claim)):
        assert equal(value, json.loads(json.dumps(value)))
    assert claim_of(register_value(claim)) == claim


def test_a_claim_is_shown_over_what_was_written_there() -> None:
    assert phases(holding(SITE).json()) == [SHOWN, {"name": "q"}]


def test_a_released_claim_hides_what_was_written_there() -> None:
    released = register_value(evolve(CLAIM, status=ClaimStatus.RELEASED, attempts=0))
    assert phases(holding(SITE, released).json())[0] == {
        "name": "p",
        "title": "P",
        "executionStatus": "unclaimed",
        "generation": 3,
    }


@pytest.mark.parametrize("value", [None, 5, {}, {"status": "unheard-of", "claim": "a", "holder": "b", "generation": 1}])
def test_what_is_no_claim_is_not_shown(value: Json) -> None:
    assert holding(SITE, value).json() == SITE


# Edits


@given(projects, st.lists(claims, min_size=4, max_size=4))
def test_writing_what_is_shown_changes_nothing(content: JsonObject, held: list[Claim]) -> None:
    document = _claimed(content, held)
    assert difference(document, None, document.json()) == ({}, ())
    assert difference(document, document.json(), document.json()) == ({}, ())


@given(projects, projects, st.lists(claims, min_size=4, max_size=4), st.booleans())
def test_an_edit_changes_all_but_what_claims_say(
    before: JsonObject, wanted: JsonObject, held: list[Claim], has_base: bool
) -> None:
    document = _claimed(before, held)
    after = edited(document, wanted, 2, document.json() if has_base else None)
    wanted_flat, after_flat = flatten(wanted), flatten(after.json())
    for path in (wanted_flat.keys() | after_flat.keys()) - {"projectPath"}:
        phase, _, key = path.rpartition("/")
        if f"{phase}/@claim" in document.registers and (key in SHOWN_KEYS or key == "@claim"):
            continue
        if path.count("/") not in (1, 3):  # no rank
            assert path in wanted_flat
            assert path in after_flat
            assert equal(wanted_flat[path], after_flat[path])
    for path in filter(is_claim, document.registers):
        phase = path.rpartition("/")[0]
        is_back = has_phase(after.flat(), phase) and not has_phase(document.flat(), phase)
        assert (after.registers[path] != document.registers[path]) is is_back


def _claimed(content: JsonObject, held: list[Claim]) -> Document:
    """The document with these claims: of phases that it has, and of two that it has not."""
    flat = flatten(content)
    found = [path for path in flat if path.count("/") == 3 and path.split("/")[2] == "phases"]
    names = [*found[:2], "milestones/m1/phases/m1", "milestones/gone/phases/m2"]
    flat |= {f"{phase}/@claim": register_value(claim) for phase, claim in zip(names, held, strict=False)}
    return Document("site", LIFE, {path: Register(LIFE, value) for path, value in flat.items()})


@pytest.mark.parametrize("has_base", [True, False])
@pytest.mark.parametrize(
    "fields",
    [{"executionStatus": "unclaimed", "claimedBy": None}, {"generation": 9, "featureId": "mine"}, {"provisional": 1}],
)
def test_what_a_document_says_of_a_claimed_phase_is_no_edit(fields: JsonObject, has_base: bool) -> None:
    document = holding(SITE)
    wanted = document.json()
    phases(wanted)[0].update(fields)
    assert difference(document, document.json() if has_base else None, wanted) == ({}, ())
    for key in SHOWN_KEYS:
        phases(wanted)[0].pop(key, None)
    assert difference(document, document.json() if has_base else None, wanted) == ({}, ())
    assert editing.patch(document, wanted).is_empty


def test_a_phase_that_was_never_claimed_is_edited_as_ever() -> None:
    wanted = deepcopy(SITE)
    phases(wanted)[1]["executionStatus"] = "done"
    fields, removed = difference(holding(SITE), None, wanted)
    assert (fields, removed) == ({"milestones/m/phases/q/executionStatus": "done"}, ())


BEGUN = Claim(4, "", "dev-02", BEHIND_ALL, ClaimStatus.RELEASED, CLAIM.claimed_ms, note="the phase was added again")


@pytest.mark.parametrize("less", [without_phase(SITE), {**SITE, "milestones": []}, {"slug": "site"}])
@pytest.mark.parametrize("has_base", [True, False])
def test_a_phase_that_was_removed_and_added_again_begins_unclaimed(less: JsonObject, has_base: bool) -> None:
    removed = edited(holding(SITE), less, 2)
    assert claim_in(removed) == CLAIM
    back = edited(removed, SITE, 3, removed.json() if has_base else None)
    assert claim_in(back) == BEGUN
    assert phases(back.json())[0] == {"name": "p", "title": "P", "executionStatus": "unclaimed", "generation": 4}
    assert difference(back, None, back.json()) == ({}, ())


def test_a_phase_that_is_shown_when_its_milestone_comes_back_begins_unclaimed() -> None:
    """One host removed the milestone while another removed the phase and added it again."""
    start = holding(SITE)
    without = edited(start, {**SITE, "milestones": [{"slug": "n"}]}, 2)
    late = merge(without, Document("site", LIFE, {"milestones/m/phases/p": Register(at(3), 0)}))
    assert claim_in(late) == CLAIM
    assert claim_in(edited(late, SITE, 4)) == BEGUN


def test_a_phase_that_moves_or_is_left_alone_keeps_its_claim() -> None:
    wanted = holding(SITE).json()
    phases(wanted).reverse()
    assert claim_in(edited(holding(SITE), wanted, 2)) == CLAIM


def test_a_phase_that_is_taken_back_begins_unclaimed() -> None:
    removed = edited(holding(SITE), without_phase(SITE), 2)
    conflict = documents.Conflict("c", "site", LIFE, "milestones/m/phases/p", at(1), at(2), 0, value=0)
    edit = editing.take(conflict, removed)
    assert edit.kind is Kind.UPDATED
    assert edit.fields == {"milestones/m/phases/p": 0, claim_path("m", "p"): register_value(BEGUN)}
    assert claim_path("m", "p") not in edit.bases
