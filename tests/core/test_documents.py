"""Merging: in any order, any number of times, on every host the same; and the difference that an edit makes."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.documents import (
    Change,
    Document,
    Kind,
    Register,
    difference,
    equal,
    fragment,
    merge,
    merge_patch,
    root_digest,
    taken,
)
from meshd.errors import DocumentError
from meshd.model import Json, JsonObject, Stamp
from meshd.project import flatten
from tests.core.strategies import changes, documents, projects, registers, values

FILES = sorted((Path(__file__).parents[3] / "shared" / "data" / "projects").glob("*.json"))
LIFE = Stamp(1, 0, "dev-01")


def at(utc_ms: int, instance_id: str = "dev-01") -> Stamp:
    return Stamp(utc_ms, 0, instance_id)


def created(document: JsonObject, stamp: Stamp = LIFE) -> Document:
    return fragment(Change("dev-01.s1", 1, stamp, "site", stamp, Kind.CREATED, flatten(document)))


def edited(current: Document, base: JsonObject | None, wanted: JsonObject, stamp: Stamp) -> Document:
    """The document after a writer who saw `base` wrote `wanted`."""
    fields, removed = difference(current, base, wanted)
    return merge(current, fragment(Change("x.s1", 1, stamp, "site", current.life, Kind.UPDATED, fields, removed)))


# Merge


@given(documents, documents)
def test_merge_is_commutative(one: Document, other: Document) -> None:
    assert merge(one, other) == merge(other, one)


@given(documents, documents, documents)
def test_merge_is_associative(one: Document, two: Document, three: Document) -> None:
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


@given(documents, documents)
def test_merge_is_idempotent_and_says_so_by_identity(one: Document, other: Document) -> None:
    merged = merge(one, other)
    assert merge(one, one) is one
    assert merge(merged, other) is merged
    assert merge(merged, one) is merged


@given(st.lists(changes, max_size=6).flatmap(lambda seen: st.tuples(st.just(seen), st.permutations(seen))))
def test_changes_may_come_in_any_order_and_any_number_of_times(orders: tuple[list[Change], list[Change]]) -> None:
    results: list[Document | None] = []
    for order in (orders[0], [*orders[1], *orders[1]]):
        document: Document | None = None
        for change in order:
            document = merge(document, fragment(change))
        results.append(document)
    assert results[0] == results[1]


@given(registers, registers)
def test_of_two_registers_the_greater_stamp_wins(one: Register, other: Register) -> None:
    merged = merge(Document("site", LIFE, {"title": one}), Document("site", LIFE, {"title": other}))
    assert merged.registers["title"].stamp == max(one.stamp, other.stamp)


def test_a_tombstone_is_a_register_like_any_other() -> None:
    document = Document("site", LIFE, {"title": Register(at(2), "kept"), "goal": Register(at(2), "gone")})
    removal = Document("site", LIFE, {"title": Register(at(1), gone=True), "goal": Register(at(3), gone=True)})
    assert merge(document, removal).json() == {"slug": "site", "title": "kept"}


def test_a_late_edit_does_not_undo_a_deletion() -> None:
    deleted = merge(created({"title": "T"}), Document("site", LIFE, {}, ended=at(5)))
    late = Document("site", LIFE, {"title": Register(at(9), "late")})
    assert merge(deleted, late) is deleted
    assert merge(late, deleted) == deleted


def test_an_ended_life_holds_no_registers() -> None:
    assert merge(created({"title": "T"}), Document("site", LIFE, {}, ended=at(5))).registers == {}


def test_a_new_life_is_free_of_the_old_one() -> None:
    old = created({"title": "T", "goal": "G"})
    ended = merge(old, Document("site", LIFE, {}, ended=at(5)))
    new = created({"title": "again"}, at(6))
    assert merge(ended, new).json() == {"slug": "site", "title": "again"}
    assert merge(new, old) is new


@given(documents, documents)
def test_what_has_to_be_written_is_what_turns_the_one_into_the_other(before: Document, other: Document) -> None:
    after = merge(before, other)
    written = taken(after, other)
    replaced = before.life != after.life or after.ended is not None
    assert {**({} if replaced else before.registers), **written} == after.registers


# Digests


@given(st.lists(documents, min_size=1, max_size=4))
def test_a_digest_kept_up_to_date_is_the_digest_computed_anew(states: list[Document]) -> None:
    merged = states[0]
    for state in states[1:]:
        merged = merge(merged, state)
        assert merged.digest == Document(merged.slug, merged.life, merged.registers, merged.ended).digest


@given(documents, documents)
def test_equal_states_have_equal_digests(one: Document, other: Document) -> None:
    assert merge(one, other).digest == merge(other, one).digest


def _stamped(document: Document) -> tuple[object, ...]:
    return document.life, document.ended, {path: register.stamp for path, register in document.registers.items()}


@given(documents, documents)
def test_states_that_differ_have_different_digests(one: Document, other: Document) -> None:
    """A stamp stands for what was written under it: two values under one stamp are a broken peer's."""
    assert (one.digest == other.digest) is (_stamped(one) == _stamped(other))


@given(documents)
def test_a_digest_depends_on_the_slug_and_not_on_the_order_of_registers(document: Document) -> None:
    assert evolve(document, registers=dict(reversed(list(document.registers.items())))).digest == document.digest
    assert evolve(document, slug="other").digest != document.digest


@given(st.lists(documents, max_size=4))
def test_the_root_is_of_all_documents_in_any_order(states: list[Document]) -> None:
    held = {f"site{number}": evolve(state, slug=f"site{number}") for number, state in enumerate(states)}
    assert root_digest(held) == root_digest(dict(reversed(held.items())))
    for slug, document in held.items():
        rest = {name: held[name] for name in held if name != slug}
        # Hosts let go of a tombstone at different times, and then still hold the same.
        assert (root_digest(rest) == root_digest(held)) is (document.ended is not None)


def test_the_root_of_nothing_is_as_long_as_any() -> None:
    assert len(root_digest({})) == len(root_digest({"site": created({"title": "T"})})) == 24


# Difference


@given(projects, projects)
def test_applying_the_difference_gives_what_was_wanted(before: JsonObject, wanted: JsonObject) -> None:
    assert edited(created(before), None, wanted, at(2)).json() == _without_path(wanted)


@given(projects)
def test_writing_what_is_there_changes_nothing(document: JsonObject) -> None:
    assert difference(created(document), None, document) == ({}, ())
    assert difference(created(document), document, document) == ({}, ())


@given(st.lists(projects, min_size=2, max_size=4))
def test_nothing_that_was_removed_earlier_comes_back(history: list[JsonObject]) -> None:
    document = created(history[0])
    for number, wanted in enumerate(history[1:], start=2):
        document = edited(document, document.json(), wanted, at(number))
        assert document.json() == _without_path(wanted)


@given(projects, projects, projects)
def test_after_concurrent_edits_writing_what_is_shown_changes_nothing(
    start: JsonObject, one: JsonObject, other: JsonObject
) -> None:
    first = created(start)
    merged = merge(edited(first, None, one, at(2, "a")), edited(first, None, other, at(2, "b")))
    assert difference(merged, None, merged.json()) == ({}, ())


@given(projects, projects, projects, projects)
def test_after_concurrent_edits_a_writer_still_gets_what_it_wanted(
    start: JsonObject, one: JsonObject, other: JsonObject, wanted: JsonObject
) -> None:
    first = created(start)
    merged = merge(edited(first, None, one, at(2, "a")), edited(first, None, other, at(2, "b")))
    for base in (None, merged.json()):
        assert edited(merged, base, wanted, at(3)).json() == _without_path(wanted)


@pytest.mark.skipif(not FILES, reason="the folder of real project documents is not beside this checkout")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_one_field_of_a_real_document_is_one_register(file: Path) -> None:
    document: JsonObject = json.loads(file.read_text())
    current = evolve(created(document), slug=str(document["slug"]))
    wanted = {**document, "title": "another title"}
    assert difference(current, None, wanted) == ({"title": "another title"}, ())
    assert difference(current, document, wanted) == ({"title": "another title"}, ())


def _without_path(document: JsonObject) -> JsonObject:
    return {**document, **({"projectPath": ""} if "projectPath" in document else {})}


BASE: JsonObject = {
    "slug": "site",
    "title": "T",
    "goal": "G",
    "milestones": [
        {"slug": "m", "title": "M", "phases": [{"name": "p", "title": "P"}, {"name": "q", "title": "Q"}]},
        {"slug": "n", "title": "N"},
    ],
}


def changed(**fields: Json) -> JsonObject:
    return {**deepcopy(BASE), **fields}


def both(one: JsonObject, other: JsonObject) -> JsonObject:
    """What becomes of two edits that were made over `BASE` at the same time, the second arriving later."""
    return edited(edited(created(BASE), BASE, one, at(2)), BASE, other, at(3)).json()


def milestones(document: JsonObject) -> list[Any]:
    found = document["milestones"]
    assert isinstance(found, list)
    return [milestone for milestone in found if isinstance(milestone, dict)]


def test_edits_of_different_fields_both_survive() -> None:
    one, other = changed(title="new"), changed(goal="new")
    milestones(other)[1]["title"] = "new"
    result = both(one, other)
    assert (result["title"], result["goal"], milestones(result)[1]["title"]) == ("new", "new", "new")


def test_edits_of_one_field_the_later_one_stands() -> None:
    assert both(changed(title="one"), changed(title="other"))["title"] == "other"


def test_what_another_writer_added_is_not_removed_by_one_who_never_saw_it() -> None:
    one = changed(extra=1)
    milestones(one).append({"slug": "o"})
    one["milestones"] = [*milestones(one), {"slug": "o"}]
    result = both(one, changed(title="new"))
    assert result["extra"] == 1
    assert [milestone["slug"] for milestone in milestones(result)] == ["m", "n", "o"]


def test_what_another_writer_removed_is_not_restored_by_one_who_left_it_alone() -> None:
    one = {key: value for key, value in BASE.items() if key != "goal"}
    one["milestones"] = milestones(deepcopy(BASE))[:1]
    result = both(one, changed(title="new"))
    assert "goal" not in result
    assert [milestone["slug"] for milestone in milestones(result)] == ["m"]


def test_the_same_edit_made_twice_is_no_second_change() -> None:
    current = edited(created(BASE), BASE, changed(title="new"), at(2))
    assert difference(current, BASE, changed(title="new")) == ({}, ())


def test_a_milestone_that_comes_back_brings_nothing_of_its_former_fields() -> None:
    """One host removed it while another edited it; what the edit wrote stays behind, hidden."""
    start = created(BASE)
    without = changed(milestones=milestones(deepcopy(BASE))[1:])
    late = changed()
    milestones(late)[0]["title"] = "late"
    milestones(late)[0]["owner"] = "somebody"
    merged = merge(edited(start, BASE, without, at(2)), edited(start, BASE, late, at(3)))
    assert [milestone["slug"] for milestone in milestones(merged.json())] == ["n"]
    seen = merged.json()
    wanted = {**seen, "milestones": [*milestones(seen), {"slug": "m", "goal": "again"}]}
    for base in (None, seen):
        assert edited(merged, base, wanted, at(4)).json() == wanted


def test_a_writer_who_saw_nothing_removes_nothing() -> None:
    fields, removed = difference(created(BASE), {}, {"slug": "site", "title": "new"})
    assert (fields, removed) == ({"title": "new"}, ())


def test_what_cannot_be_keyed_has_no_difference() -> None:
    with pytest.raises(DocumentError):
        difference(created(BASE), None, {"milestones": [{"slug": "a/b"}]})


# JSON


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (1, 1, True),
        (1, 1.0, False),
        (1, True, False),
        (0, False, False),
        (None, False, False),
        ("1", 1, False),
        ([1, 2], [2, 1], False),
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, True),
        ({"a": {"b": 1}}, {"a": {"b": 1.0}}, False),
        ([], {}, False),
    ],
)
def test_json_equality(one: Json, other: Json, expected: bool) -> None:
    assert equal(one, other) is expected
    assert equal(other, one) is expected


@given(values)
def test_every_value_equals_itself_read_again(value: Json) -> None:
    assert equal(value, json.loads(json.dumps(value)))


# Source: RFC 7396, appendix A. The last two columns are its own.
RFC_7396: list[tuple[Json, Json, Json]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "expected"), RFC_7396)
def test_merge_patch_as_in_its_rfc(target: Json, patch: Json, expected: Json) -> None:
    before = deepcopy(target)
    assert merge_patch(target, patch) == expected
    assert target == before
