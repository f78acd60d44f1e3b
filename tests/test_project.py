"""Documents become registers and documents again, and nothing is lost, renamed or moved on the way."""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.errors import DocumentError
from meshd.model import Json, JsonObject
from meshd.project import (
    MAX_NAME_BYTES,
    check_name,
    check_path,
    claim_path,
    claimed_phase,
    flatten,
    is_claim,
    render,
)
from tests.core.strategies import names, projects, values

REAL = Path(__file__).parents[2] / "shared" / "data" / "projects"
FILES = sorted(REAL.glob("*.json"))


def milestone(slug: str, **fields: Json) -> JsonObject:
    return {"slug": slug, **fields}


def site(*slugs: str) -> JsonObject:
    return {"slug": "site", "milestones": [milestone(slug) for slug in slugs]}


def ranks_of(document: JsonObject, ranks: dict[str, Json] | None = None) -> dict[str, Json]:
    flat = flatten(document, ranks)
    return {path.split("/")[1]: value for path, value in flat.items() if path.count("/") == 1}


# There and back


@given(projects)
def test_what_is_flattened_renders_as_it_was(document: JsonObject) -> None:
    assert render(flatten(document), "site") == document


@given(projects, projects)
def test_earlier_ranks_do_not_change_what_is_rendered(before: JsonObject, document: JsonObject) -> None:
    assert render(flatten(document, ranks=flatten(before)), "site") == document


@given(projects)
def test_every_path_is_one_that_a_peer_accepts(document: JsonObject) -> None:
    for path in flatten(document):
        assert check_path(path) == path


@given(st.dictionaries(st.text("am1p/~", max_size=12) | st.from_regex(r"milestones(/[a-z]{1,2}){1,6}"), values))
def test_any_registers_render_to_a_document_that_can_be_flattened(flat: dict[str, Json]) -> None:
    taken = {path: value for path, value in flat.items() if _is_path(path)}
    document = render(taken, "site")
    assert render(flatten(document), "site") == document


def _is_path(path: str) -> bool:
    try:
        check_path(path)
    except DocumentError:
        return False
    return True


@pytest.mark.skipif(not FILES, reason="the folder of real project documents is not beside this checkout")
def test_all_real_documents_are_here() -> None:
    assert len(FILES) == 16


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_real_document_comes_back_key_for_key_and_in_order(file: Path) -> None:
    document: JsonObject = json.loads(file.read_text())
    assert isinstance(document["slug"], str)
    root = "/srv/repository"
    expected = {**document, **({"projectPath": root} if "projectPath" in document else {})}
    assert render(flatten(document), document["slug"], root) == expected


def test_the_keys_of_a_document_stand_in_one_order_everywhere() -> None:
    forward: JsonObject = {"slug": "site", "b": 1, "title": "T", "a": 2, "milestones": [milestone("m", z=1, title="M")]}
    (first,) = forward["milestones"] if isinstance(forward["milestones"], list) else []
    assert isinstance(first, dict)
    backward: JsonObject = dict(reversed(forward.items())) | {"milestones": [dict(reversed(first.items()))]}
    one, other = (json.dumps(render(flatten(document), "site")) for document in (forward, backward))
    assert one == other
    assert list(json.loads(one)) == ["slug", "title", "milestones", "a", "b"]


# What is not stored


def test_a_project_path_is_the_local_root_wherever_it_is_shown() -> None:
    flat = flatten({"slug": "site", "projectPath": "/home/somebody/else"})
    assert flat == {"projectPath": ""}
    assert render(flat, "site", "/srv/here") == {"slug": "site", "projectPath": "/srv/here"}


def test_a_document_without_a_project_path_is_given_none() -> None:
    assert render(flatten({"title": "T"}), "site", "/srv/here") == {"slug": "site", "title": "T"}


@pytest.mark.parametrize(
    ("flat", "expected"),
    [
        ({"slug": "other"}, {"slug": "site"}),
        (
            {"milestones": [], "milestones/m": 0, "milestones/m/slug": "other"},
            {"slug": "site", "milestones": [{"slug": "m"}]},
        ),
        (
            {
                "milestones": [],
                "milestones/m": 0,
                "milestones/m/phases": [],
                "milestones/m/phases/p": 0,
                "milestones/m/phases/p/name": "other",
            },
            {"slug": "site", "milestones": [{"slug": "m", "phases": [{"name": "p"}]}]},
        ),
    ],
)
def test_no_register_can_rename_what_its_path_names(flat: dict[str, Json], expected: JsonObject) -> None:
    """A peer's register for such a path would show a document that cannot be written back."""
    taken = {path: value for path, value in flat.items() if _is_path(path)}
    assert render(taken, "site") == expected


def test_fields_of_what_does_not_exist_are_not_shown() -> None:
    flat: dict[str, Json] = {
        "milestones": [],
        "milestones/gone/title": "left over",
        "milestones/gone/phases": [],
        "milestones/gone/phases/p": 0,
        "milestones/m": 0,
        "milestones/m/phases": [],
        "milestones/m/phases/gone/title": "left over",
    }
    assert render(flat, "site") == {"slug": "site", "milestones": [{"slug": "m", "phases": []}]}


def test_an_array_that_is_something_else_now_hides_its_elements() -> None:
    flat: dict[str, Json] = {"milestones": None, "milestones/m": 0}
    assert render(flat, "site") == {"slug": "site", "milestones": None}


# Order


def test_adding_a_milestone_at_the_end_touches_no_other() -> None:
    before = ranks_of(site("a", "b"))
    assert ranks_of(site("a", "b", "c"), flatten(site("a", "b"))).items() >= before.items()


@pytest.mark.parametrize("after", [("new", "a", "b"), ("a", "new", "b")])
def test_inserting_a_milestone_touches_no_other(after: tuple[str, ...]) -> None:
    before = ranks_of(site("a", "b"))
    assert ranks_of(site(*after), flatten(site("a", "b"))).items() >= before.items()


def test_removing_a_milestone_touches_no_other() -> None:
    before = ranks_of(site("a", "b", "c"))
    assert ranks_of(site("a", "c"), flatten(site("a", "b", "c"))).items() <= before.items()


def test_renaming_a_milestone_touches_no_other() -> None:
    before = ranks_of(site("a", "b", "c"))
    after = ranks_of(site("a", "renamed", "c"), flatten(site("a", "b", "c")))
    assert after == {"a": before["a"], "renamed": before["b"], "c": before["c"]}


def test_moving_a_milestone_touches_only_what_its_order_demands() -> None:
    before = ranks_of(site("a", "b", "c", "d"))
    after = ranks_of(site("a", "c", "b", "d"), flatten(site("a", "b", "c", "d")))
    assert len(before.items() - after.items()) == 1


def test_elements_of_equal_rank_keep_it() -> None:
    """Two hosts appended one each at the same time; writing the document as it is shown must change nothing."""
    flat: dict[str, Json] = {"milestones": [], "milestones/a": 0, "milestones/m": 1, "milestones/n": 1}
    assert flatten(render(flat, "site"), ranks=flat) == flat


def test_any_number_of_elements_fits_between_two() -> None:
    document = site("first", "last")
    flat = flatten(document)
    for number in range(200):
        document = site("first", f"new{number}", *[str(element["slug"]) for element in _elements(document)[1:]])
        flat = flatten(document, ranks=flat)
        assert render(flat, "site") == document


def _elements(document: JsonObject) -> list[JsonObject]:
    found = document["milestones"]
    assert isinstance(found, list)
    return [element for element in found if isinstance(element, dict)]


def test_the_same_holds_for_phases() -> None:
    before: JsonObject = {"milestones": [milestone("m", phases=[{"name": "p"}, {"name": "q"}])]}
    after: JsonObject = {"milestones": [milestone("m", phases=[{"name": "p"}, {"name": "q"}, {"name": "new"}])]}
    flat = flatten(before)
    assert flatten(after, ranks=flat).items() >= flat.items()


# What is refused


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "a/b", "a\\b", "a\0b", "line\nbreak", "\ud800", "x" * (MAX_NAME_BYTES + 1), "é" * 101],
)
def test_names_that_would_leave_or_hide_are_refused(name: str) -> None:
    with pytest.raises(DocumentError):
        check_name(name, "a slug")


@pytest.mark.parametrize("name", [None, 5, True, ["a"]])
def test_names_that_are_no_text_are_refused(name: object) -> None:
    with pytest.raises(DocumentError, match="a slug must be a text"):
        check_name(name, "a slug")


@pytest.mark.parametrize("name", ["a", "Phase 1: set up", "a..b", "~", "é" * 100, "x" * MAX_NAME_BYTES, "naïve?*"])
def test_other_names_are_taken(name: str) -> None:
    assert check_name(name, "a slug") == name


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"milestones": ["m"]}, r"milestones\[0\] must be an object"),
        ({"milestones": [{"title": "no slug"}]}, r"milestones\[0\].slug must be a text"),
        ({"milestones": [{"slug": "../m"}]}, "must not start with a dot"),
        ({"milestones": [{"slug": "m"}, {"slug": "m"}]}, "two elements with slug 'm'"),
        ({"milestones": [{"slug": "m", "phases": [{"name": "p"}, {"name": "p"}]}]}, "two elements with name 'p'"),
        ({"milestones": [{"slug": "m", "phases": [{}]}]}, r"phases\[0\].name must be a text"),
    ],
)
def test_a_document_that_cannot_be_keyed_is_refused_with_the_place(document: JsonObject, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        flatten(document)


@pytest.mark.parametrize("levels", [200, 5_000])
def test_a_document_too_deep_for_any_parser_on_the_way_is_refused(levels: int) -> None:
    deep: Json = "bottom"
    for _ in range(levels):
        deep = [deep]
    with pytest.raises(DocumentError, match="nested deeper"):
        flatten({"title": deep})


@pytest.mark.parametrize(
    "path",
    [
        "a/b",
        "milestones/.m",
        "milestones/m/phases/p/title/more",
        "milestones/m/other/p",
        "milestones/m/phases/../x",
        "milestones//title",
        "milestones/m~2",
        "~",
    ],
)
def test_paths_of_no_register_are_refused(path: str) -> None:
    with pytest.raises(DocumentError):
        check_path(path)


# Claims


@given(names, names)
def test_the_path_of_a_claim_names_its_phase(milestone: str, phase: str) -> None:
    path = claim_path(milestone, phase)
    assert check_path(path) == path
    assert is_claim(path)
    assert claimed_phase(path) == (milestone, phase)


@pytest.mark.parametrize("path", ["@claim", "milestones/m/@claim", "milestones/m/phases/@claim", "milestones/m/title"])
def test_other_paths_are_no_claims(path: str) -> None:
    assert not is_claim(path)
    assert claimed_phase(path) is None


def test_a_document_that_holds_a_claim_is_refused() -> None:
    with pytest.raises(DocumentError, match="@claim"):
        flatten({"milestones": [{"slug": "m", "phases": [{"name": "p", "@claim": {}}]}]})


def test_a_claim_is_not_rendered() -> None:
    document: JsonObject = {"slug": "site", "milestones": [milestone("m", phases=[{"name": "p"}])]}
    assert render({**flatten(document), claim_path("m", "p"): {}}, "site") == document


def test_thousands_of_phases_are_ranked_in_one_go() -> None:
    phases: list[Json] = [{"name": f"p{number}"} for number in range(20_000)]
    content: JsonObject = {"milestones": [{"slug": "m1", "phases": phases}]}
    started = perf_counter()
    flat = flatten(content)
    more = flatten({"milestones": [{"slug": "m1", "phases": [*phases[:5], {"name": "x"}, *phases[5:]]}]}, ranks=flat)
    assert more.keys() - flat.keys() == {"milestones/m1/phases/x"}
    assert all(more[path] == flat[path] for path in flat)
    assert perf_counter() - started < 10  # were each compared with all others, it would be a minute, and gigabytes
