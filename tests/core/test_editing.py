"""What an edit changes: a patch that looks at no more than it names is a patch of the whole document."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from meshd.core import documents, editing
from meshd.core.documents import Change, Document, Kind, Register
from meshd.errors import DocumentError
from meshd.model import Json, JsonObject, Stamp
from meshd.project import flatten
from tests.core import strategies

LIFE = Stamp(1, 0, "dev-01")

patches = st.one_of(strategies.projects, st.dictionaries(strategies.keys, strategies.values, max_size=4))


def document_of(*versions: JsonObject) -> Document:
    """A project that was written so often: it has tombstones of what later versions leave out."""
    first, *others = versions
    current = Document("site", LIFE, {path: Register(LIFE, value) for path, value in flatten(first).items()})
    for number, version in enumerate(others, start=2):
        edit = editing.put("site", current, version, None)
        change = Change(
            "dev-01.s", number, Stamp(number, 0, "dev-01"), "site", LIFE, edit.kind, edit.fields, edit.removed
        )
        current = documents.merge(current, documents.fragment(change))
    return current


@given(strategies.projects, strategies.projects, patches)
def test_a_patch_is_the_whole_document_as_it_would_be(first: JsonObject, second: JsonObject, patch: JsonObject) -> None:
    current = document_of(first, second)
    wanted = documents.merge_patch(current.json(), patch)
    assert isinstance(wanted, dict)
    expected = editing.put(current.slug, current, wanted, None)
    edit = editing.patch(current, patch)
    assert evolve(edit, removed=()) == evolve(expected, removed=())
    assert set(edit.removed) == set(expected.removed)


def test_a_patch_says_no_more_than_what_differs() -> None:
    current = document_of({"title": "T", "goal": "G"})
    edit = editing.patch(current, {"title": "T", "goal": None, "status": "active"})
    assert (edit.kind, edit.fields, edit.removed) == (Kind.UPDATED, {"status": "active"}, ("goal",))
    assert edit.bases == {"goal": LIFE}


@pytest.mark.parametrize("patch", ["text", [], None, 5])
def test_a_patch_of_a_project_is_an_object(patch: Json) -> None:
    with pytest.raises(DocumentError, match="must be an object"):
        editing.patch(document_of({}), patch)


def test_a_patch_renames_no_project() -> None:
    with pytest.raises(DocumentError, match="slug"):
        editing.patch(document_of({}), {"slug": "other"})
