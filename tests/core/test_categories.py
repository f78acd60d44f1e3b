"""`meshd.core.categories`: the list that all share, in a whole mesh."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core import categories
from meshd.core.categories import SLUG
from meshd.core.documents import Document, Register
from meshd.core.effects import Accepted
from meshd.core.inputs import PutProject
from meshd.errors import DocumentError
from meshd.model import Json, Stamp
from meshd.project import check_slug, is_reserved
from tests.core.mesh import Host, Mesh, three


def shared(mesh: Mesh, host: Host) -> list[Json]:
    return categories.listed(mesh.snapshot(host).documents.get(SLUG))


@pytest.mark.parametrize("value", [None, "a", {"0": "a"}, 5, True])
def test_only_an_array_is_a_list_of_categories(value: Json) -> None:
    with pytest.raises(DocumentError):
        categories.wanted(value)


@given(st.lists(st.text() | st.integers() | st.none()))
def test_a_list_comes_back_as_it_was(values: list[Json]) -> None:
    assert categories.listed_in(categories.wanted(values)) == values


def test_what_a_peer_puts_in_its_place_is_no_list() -> None:
    assert categories.listed(None) == []
    assert categories.listed(Document(SLUG, categories.LIFE, {})) == []
    assert categories.listed(Document(SLUG, categories.LIFE, {"categories": Register(Stamp(1, 0, "x"), "a")})) == []


def test_no_project_can_take_its_slug() -> None:
    assert is_reserved(SLUG)
    with pytest.raises(DocumentError):
        check_slug(SLUG, "a slug")


def test_all_hosts_share_the_list() -> None:
    mesh, primary, worker, other = three()
    outcome = mesh.put(worker, SLUG, categories.wanted(["a", "b"]))
    assert isinstance(outcome, Accepted)
    mesh.settle()
    assert [shared(mesh, host) for host in (primary, worker, other)] == [["a", "b"]] * 3


def test_two_hosts_that_begin_it_apart_come_to_one_list() -> None:
    mesh, primary, worker, other = three()
    mesh.part(primary, worker)
    mesh.put(primary, SLUG, categories.wanted(["of the primary"]))
    mesh.advance(1)
    mesh.put(worker, SLUG, categories.wanted(["of the worker"]))
    mesh.join(primary, worker)
    mesh.advance(30)
    assert [shared(mesh, host) for host in (primary, worker, other)] == [["of the worker"]] * 3


def test_a_whole_list_that_says_nothing_new_changes_nothing() -> None:
    mesh, primary, _, _ = three()
    mesh.put(primary, SLUG, categories.wanted(["a"]))
    outcome = mesh.command(primary, PutProject(1, SLUG, categories.wanted(["a"]), base={}))
    assert isinstance(outcome, Accepted)
    assert not outcome.changed
