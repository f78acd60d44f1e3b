"""`meshd.api.catalogue`: documents are read once, and again when they changed."""

from __future__ import annotations

from meshd.api.catalogue import Catalogue, Entry
from meshd.core.inputs import DeleteProject, PutProject
from meshd.model import JsonObject
from tests.api.local import Local


async def entries(catalogue: Catalogue, local: Local) -> dict[str, Entry]:
    listed = await catalogue.entries(local.node.snapshot(local.now).documents)
    return {entry.document.slug: entry for entry in listed}


async def test_only_what_changed_is_read_again() -> None:
    local, catalogue = Local(), Catalogue("/srv/project")
    local.step(PutProject(1, "b", {"title": "B"}))
    local.step(PutProject(2, "a", {"title": "A"}))
    local.step(PutProject(3, "c", {"title": "C"}))
    before = await entries(catalogue, local)
    assert list(before) == ["a", "b", "c"]
    local.step(PutProject(4, "b", {"title": "Bee"}))
    local.step(DeleteProject(5, "c"))
    after = await entries(catalogue, local)
    assert list(after) == ["a", "b"]
    assert after["a"] is before["a"]
    assert (before["b"].title, after["b"].title) == ("B", "Bee")


async def test_documents_of_another_shape_are_counted_as_they_are() -> None:
    local = Local()
    shapes: dict[str, JsonObject] = {
        "none": {},
        "text": {"milestones": "many"},
        "mixed": {"milestones": [{"slug": "m"}, {"slug": "n", "phases": 3}, {"slug": "o", "phases": [{"name": "p"}]}]},
    }
    for slug, document in shapes.items():
        local.step(PutProject(1, slug, document))
    counted = {slug: (entry.milestones, entry.phases) for slug, entry in (await entries(Catalogue(""), local)).items()}
    assert counted == {"none": (0, 0), "text": (0, 0), "mixed": (3, 1)}
