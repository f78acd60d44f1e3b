"""The board: what is on it, in which order, and that following changes is reading anew."""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.board import Board
from meshd.core.claim import ClaimStatus
from meshd.core.documents import Document, Register, merge
from meshd.errors import DocumentError
from meshd.model import Json, JsonObject, Stamp
from meshd.project import check_path, element_path, flatten
from tests.core.boards import LIFE, board, claimed, document, milestone, phase, project, written
from tests.core.strategies import projects, stamps, values

FILES = sorted((Path(__file__).parents[3] / "shared" / "data" / "projects").glob("*.json"))


def content(made: Board) -> object:
    """All that a board knows."""
    known = [
        (
            *(found.slug, found.life, found.title, found.status, found.priority, found.path),
            sorted((slug, m.title, m.number, m.dependencies, m.undone) for slug, m in found.milestones.items()),
            sorted(place for m in found.milestones.values() for place in m.phases),
            list(found.phases()),
        )
        for found in made.projects()
    ]
    return known, list(made.claimable_order())


def names(made: Board) -> list[str]:
    return ["/".join(found.place) for found in made.claimable_order()]


# What is on it


def test_a_project_as_its_document_has_it() -> None:
    made = board(document(project(milestone("m1", phase("a"), after=("m0",), title="First"), priority="low")))
    (found,) = made.projects()
    assert (found.slug, found.title, found.status, found.priority, found.path) == ("site", "Site", "active", "low", "")
    first = made.milestone(("site", "m1", "a"))
    assert first is not None
    assert (first.slug, first.title, first.number, first.dependencies, first.undone) == ("m1", "First", 1, ("m0",), 1)


def test_what_a_document_does_not_say() -> None:
    (found,) = board(document({})).projects()
    assert (found.title, found.status, found.priority, found.path) == ("site", "", "medium", "")
    assert found.milestones == {}


def test_what_is_not_there() -> None:
    made = board(document(project(milestone("m1", phase("a")))))
    assert made.phase(("site", "m1", "b")) is None
    assert made.phase(("site", "m2", "a")) is None
    assert made.phase(("none", "m1", "a")) is None
    assert made.project("none") is None


def test_deleted_and_reserved_documents_are_no_projects() -> None:
    state = document(project(milestone("m1", phase("a"))))
    made = board(state, document(project(milestone("m1", phase("a"))), slug="@categories"))
    assert names(made) == ["site/m1/a"]
    made.update(Document("site", LIFE, {}, ended=Stamp(9, 0, "dev-01")), "site")
    assert (made.projects(), names(made)) == ([], [])
    made.update(state, "site")
    made.update(None, "site")
    assert (made.projects(), names(made)) == ([], [])


def test_names_are_escaped_in_paths_and_nowhere_else() -> None:
    made = board(document(project(milestone("a~1b", phase("~0 é", "x~y")))))
    found = made.phase(("site", "a~1b", "~0 é"))
    assert found is not None
    assert found.dependencies == ("x~y",)


@pytest.mark.parametrize(
    ("fields", "removed"),
    [
        ({}, ("milestones",)),
        ({"milestones": "none yet"}, ()),
        ({}, ("milestones/m1",)),
        ({"milestones/m1/phases": {}}, ()),
        ({}, ("milestones/m1/phases/a",)),
    ],
)
def test_what_people_do_not_see_is_not_there(fields: JsonObject, removed: tuple[str, ...]) -> None:
    state = document(project(milestone("m1", phase("a"))))
    made = board(state)
    hidden = written(state, fields, removed)
    made.update(hidden, "site", [*fields, *removed])
    assert names(made) == []
    made.update(state, "site", [*fields, *removed])
    assert names(made) == ["site/m1/a"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_real_documents(file: Path) -> None:
    written_by_people = json.loads(file.read_bytes())
    made = board(document(written_by_people, slug=file.stem))
    (found,) = made.projects()
    expected = {(m["slug"], p["name"]): p for m in written_by_people["milestones"] for p in m["phases"]}
    assert {phase.place[1:] for phase in found.phases()} == expected.keys()
    for seen in found.phases():
        said = expected[seen.place[1:]]
        assert (seen.feature_id, seen.description) == (said["featureId"], said["description"])
        assert (list(seen.files), list(seen.acceptance_criteria)) == (said["filesToModify"], said["acceptanceCriteria"])


# Order


def test_projects_come_by_priority_then_milestones_and_phases_by_number() -> None:
    def made_of(slug: str, **fields: Json) -> Document:
        return document(project(milestone("m", phase("p")), **fields), slug=slug)

    priorities = {"e": "none", "d": "low", "c": "medium", "c2": "whatever", "b": "high", "a": "urgent"}
    made = board(*(made_of(slug, priority=priority) for slug, priority in priorities.items()))
    assert names(made) == [f"{slug}/m/p" for slug in ("a", "b", "c", "c2", "d", "e")]

    numbered = project(
        milestone("late", phase("z", number=2), phase("a", number=10), number=2),
        milestone("early", phase("b", number=1), phase("a", number=1), number=1),
    )
    assert names(board(document(numbered))) == [
        *("site/early/a", "site/early/b", "site/late/z", "site/late/a"),
    ]


def test_milestones_of_one_number_take_turns_across_projects() -> None:
    content = project(milestone("m1", phase("p1"), phase("p2")), milestone("m2", phase("p1")))
    made = board(document(content, slug="b"), document(content, slug="a"))
    assert names(made) == ["a/m1/p1", "b/m1/p1", "a/m1/p2", "b/m1/p2", "a/m2/p1", "b/m2/p1"]


@pytest.mark.parametrize(("status", "expected"), [("active", 1), ("scaffolded", 1), ("completed", 0), (5, 0), ("", 0)])
def test_only_projects_that_are_worked_on_are_asked_for_work(status: Json, expected: int) -> None:
    made = board(document(project(milestone("m1", phase("a")), status=status)))
    assert len(names(made)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"priority": "none"}, ["site/m1/a", "site/m1/b", "site/m2/a"]),
        ({"status": "paused"}, []),
        ({"milestones/m1/number": 3}, ["site/m2/a", "site/m1/a", "site/m1/b"]),
        ({"milestones/m1/phases/a/number": 3}, ["site/m1/b", "site/m1/a", "site/m2/a"]),
        ({"milestones/m1/phases/a": 3}, ["site/m1/b", "site/m1/a", "site/m2/a"]),  # its place in the array
        ({"milestones/m1/phases/c": 3}, ["site/m1/a", "site/m1/b", "site/m1/c", "site/m2/a"]),
        ({"milestones/m3": 3, "milestones/m3/phases": [], "milestones/m3/phases/a": 0}, None),
    ],
)
def test_the_order_follows(fields: JsonObject, expected: list[str] | None) -> None:
    state = document(project(milestone("m1", phase("a"), phase("b")), milestone("m2", phase("a"))))
    made = board(state)
    assert names(made) == ["site/m1/a", "site/m1/b", "site/m2/a"]
    made.update(written(state, fields), "site", list(fields))
    assert names(made) == (expected if expected is not None else [*names(board(state)), "site/m3/a"])


def test_a_walk_over_it_survives_updates() -> None:
    state = document(project(milestone("m1", phase("a"), phase("b"), phase("c"))))
    made = board(state)
    walk = made.claimable_order()
    assert next(walk).name == "a"
    made.update(claimed(written(state, {}, ("milestones/m1/phases/b",)), "m1", "c"), "site")
    assert [(found.name, found.generation) for found in walk] == [("c", 1)]


def test_a_project_that_becomes_urgent_overtakes() -> None:
    one, other = (document(project(milestone("m1", phase("a"))), slug=slug) for slug in ("a", "b"))
    made = board(one, other)
    assert names(made) == ["a/m1/a", "b/m1/a"]
    made.update(written(other, {"priority": "urgent"}), "b", ["priority"])
    assert names(made) == ["b/m1/a", "a/m1/a"]


# Following changes


def test_a_milestone_counts_what_is_not_done() -> None:
    state = document(project(milestone("m1", phase("a"), phase("b", executionStatus="completed"))))
    made = board(state)
    found = made.milestone(("site", "m1", "a"))
    assert found is not None
    assert (found.undone, found.is_done) == (1, False)
    made.update(claimed(state, "m1", "a", status=ClaimStatus.DONE), "site", ["milestones/m1/phases/a/@claim"])
    assert (found.undone, found.is_done) == (0, True)
    made.update(written(state, {}, ("milestones/m1/phases/b",)), "site", ["milestones/m1/phases/b"])
    assert found.undone == 0


def test_another_life_is_read_anew() -> None:
    made = board(document(project(milestone("m1", phase("a")))))
    made.update(document(project(milestone("m1", phase("b"))), life=Stamp(5, 0, "dev-01")), "site", ["title"])
    assert names(made) == ["site/m1/b"]


_slugs = st.sampled_from(["m1", "m~02"])
_phase_names = st.sampled_from(["p", "q~1r"])
_paths = st.one_of(
    st.sampled_from(["title", "status", "priority", "milestones", "projectPath", "other"]),
    st.builds("milestones/{}{}".format, _slugs, st.sampled_from(["", "/title", "/number", "/dependencies", "/phases"])),
    st.builds(
        "milestones/{}/phases/{}{}".format,
        _slugs,
        _phase_names,
        st.sampled_from(
            ["", "/@claim", "/number", "/dependencies", "/executionStatus", "/featureId", "/filesToModify", "/title"]
        ),
    ),
)
_said: st.SearchStrategy[Json] = st.one_of(
    st.just([]),
    st.sampled_from(["active", "high", "done", "failed", "p", 1, 2, float("nan"), 10**400, "docs/"]),
    values,
    st.fixed_dictionaries(
        {
            "generation": values,
            "claim": st.just("boot-1"),
            "holder": st.just("dev-02"),
            "status": st.one_of(st.sampled_from(sorted(ClaimStatus)), values),
        },
    ),
)
_registers = st.one_of(st.builds(Register, stamps, _said), st.builds(lambda stamp: Register(stamp, gone=True), stamps))
_states = st.dictionaries(_paths, _registers, max_size=8)
_lists = ("milestones", "milestones/m1/phases", "milestones/m~02/phases")
_elements = ("milestones/m1", "milestones/m~02", "milestones/m1/phases/p", "milestones/m1/phases/q~1r")
_begun = {path: Register(LIFE, []) for path in _lists} | {path: Register(LIFE, 0) for path in _elements}


@given(st.lists(_states, max_size=6))
def test_following_any_changes_is_reading_anew(changes: list[dict[str, Register]]) -> None:
    state = Document("site", LIFE, _begun | {"status": Register(LIFE, "active")})
    made = board(state)
    for change in changes:
        after = merge(state, Document("site", LIFE, change))
        made.update(after, "site", [path for path in change if after.registers[path] != state.registers.get(path)])
        state = after
        assert repr(content(made)) == repr(content(board(state)))


@given(projects)
def test_any_project_can_be_read(written_by_people: JsonObject) -> None:
    state = document({**written_by_people, "status": "active"})
    listed = []
    shown = state.json().get("milestones")
    for found in shown if isinstance(shown, list) else []:
        assert isinstance(found, dict)
        phases = found.get("phases")
        for inner in phases if isinstance(phases, list) else []:
            assert isinstance(inner, dict)
            listed.append((found["slug"], inner["name"]))
    assert {place.place[1:] for place in board(state).claimable_order()} == set(listed)


# Bad input


@pytest.mark.parametrize(
    ("phases", "reason"),
    [
        ([phase("a"), phase("a")], "holds two elements with name 'a': each needs its own"),
        ([phase("x" * 300)], "is 300 bytes long, at most 200 are allowed"),
        ([phase("../x")], "must not start with a dot or hold a separator"),
        ([phase("a/../b")], "must not start with a dot or hold a separator"),
        ([{"number": 1}], "must be a text that is not empty, not None"),
    ],
)
def test_phases_that_nobody_could_name_are_refused_at_the_border(phases: list[JsonObject], reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        flatten(project(milestone("m1", *phases)))


@pytest.mark.parametrize("name", ["x" * 300, "../x"])
def test_peers_cannot_send_them_either(name: str) -> None:
    with pytest.raises(DocumentError):
        check_path(f"{element_path('m1', name)}/title")


def test_a_claim_among_thousands_of_phases_costs_what_it_costs_among_few() -> None:
    def seconds_of_a_claim(count: int) -> float:
        state = document(project(milestone("m1", *(phase(f"p{index}") for index in range(count)))))
        held = claimed(state, "m1", "p1")
        made = board(state)
        taken = []
        for after in (held, state) * 10:
            started = perf_counter()
            made.update(after, "site", ["milestones/m1/phases/p1/@claim"])
            next(made.claimable_order())
            taken.append(perf_counter() - started)
        return min(taken)

    assert seconds_of_a_claim(5_000) < 5 * seconds_of_a_claim(5)
