"""`meshd.core.events`: ids, what is kept, what a document's turning tells applications; and all that in a mesh."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from meshd.core import categories, events
from meshd.core.documents import Document, Register
from meshd.core.effects import Effect, Emit, Level, Note, Persist, SaveEvent, SaveSeq, TrimEvents
from meshd.core.events import KEPT, TRIM_EVERY, Events
from meshd.core.stored import Stored
from meshd.model import JsonObject, Now, Role, Stamp
from tests.core.mesh import Host, Mesh, configuration, three

NOW = Now(5.0, 1_773_480_413_589)
LIFE = Stamp(1, 0, "dev-01")
LATER = Stamp(2, 0, "dev-01")
SITE = Document("site", LIFE, {"title": Register(LIFE, "One")})


def one(kind: str = "sync:peer-left") -> Emit:
    return Emit(kind, {"instanceId": "dev-02"})


def ids(effects: list[Effect]) -> list[int]:
    return [effect.id for effect in effects if isinstance(effect, Emit)]


# Ids


def test_an_event_is_persisted_right_before_it_is_told() -> None:
    note, save = Note(Level.INFO, "x"), Persist(SaveSeq("o.s", 1))
    effects = list(Events("/srv", 41).numbered([save, one(), note, one()], NOW))

    assert effects == [save, Persist(SaveEvent(one())), one(), note, Persist(SaveEvent(one())), one()]
    assert ids(effects) == [42, 43]
    for saved, told in zip(effects[1::3], effects[2::3], strict=True):
        assert isinstance(saved, Persist)
        assert isinstance(saved.record, SaveEvent)
        assert saved.record.event is told
        assert isinstance(told, Emit)
        assert told.utc_ms == NOW.utc_ms


def test_ids_go_on_where_the_store_ends() -> None:
    kept = tuple(evolve(one(), id=number) for number in (7, 8, 9))
    assert ids(list(Events.restored(Stored("s", events=kept), "/srv").numbered([one()], NOW))) == [10]
    assert ids(list(Events.restored(Stored("s"), "/srv").numbered([one()], NOW))) == [1]


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(0, 3 * KEPT))
def test_ids_are_dense_and_enough_is_kept(steps: list[int], start: int) -> None:
    numbering = Events("/srv", start)
    effects = [effect for size in steps for effect in numbering.numbered([one()] * size, NOW)]

    assert ids(effects) == list(range(start + 1, start + sum(steps) + 1))
    for effect in effects:
        if isinstance(effect, Persist) and isinstance(effect.record, TrimEvents):
            last_id = effect.record.id + KEPT - 1
            assert last_id % TRIM_EVERY == 0
            assert last_id in ids(effects)
    assert numbering.last_id == start + sum(steps)


def test_old_events_are_trimmed_now_and_then() -> None:
    numbering = Events("/srv", 0)
    effects = list(numbering.numbered([one()] * (KEPT + 2 * TRIM_EVERY), NOW))
    trims = [e.record.id for e in effects if isinstance(e, Persist) and isinstance(e.record, TrimEvents)]
    first = (KEPT // TRIM_EVERY + 1) * TRIM_EVERY
    assert trims == [last_id - KEPT + 1 for last_id in range(first, KEPT + 2 * TRIM_EVERY + 1, TRIM_EVERY)]


def test_paths_are_of_this_host() -> None:
    told = [Emit("project:updated", {"projectPath": "/elsewhere"}), Emit("categories:updated", {}), one()]
    effects = [effect for effect in Events("/srv", 0).numbered(told, NOW) if isinstance(effect, Emit)]
    assert [effect.payload.get("projectPath") for effect in effects] == ["/srv", "/srv", None]


# What a document's turning tells

ENDED = evolve(SITE, registers={}, ended=LATER)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (None, SITE, "project:created"),
        (SITE, evolve(SITE, registers={"title": Register(LATER, "Two")}), "project:updated"),
        (SITE, ENDED, "project:deleted"),
        (ENDED, evolve(SITE, life=LATER), "project:created"),
    ],
)
def test_what_is_told_of_a_document(before: Document | None, after: Document, kind: str) -> None:
    payload: JsonObject = {"projectSlug": "site", "revision": after.digest, "origin": "dev-02.s"}
    assert events.of_document(before, after, "dev-02.s") == [Emit(kind, payload)]


def test_nothing_is_told_of_what_was_never_here() -> None:
    assert events.of_document(None, ENDED, "exchange") == []
    assert events.of_document(ENDED, evolve(ENDED, ended=Stamp(3, 0, "dev-01")), "exchange") == []


def test_the_categories_tell_their_list_and_other_reserved_documents_nothing() -> None:
    listed = Document(categories.SLUG, categories.LIFE, {"categories": Register(LIFE, ["a"])})
    assert events.of_document(None, listed, "x") == [Emit("categories:updated", {"categories": ["a"]})]
    assert events.of_document(None, evolve(SITE, slug="@later"), "x") == []


# In a mesh


def local(host: Host) -> list[tuple[str, str]]:
    """Type and path of what its applications were told of documents."""
    return [
        (event.type, str(event.payload["projectPath"])) for event in host.told if not event.type.startswith("sync:")
    ]


def with_root(mesh: Mesh, name: str, role: Role) -> Host:
    return mesh.add(evolve(configuration(name, role=role, peers=("dev-01", "dev-02")), repo_root=Path(f"/of/{name}")))


def test_everybody_is_told_once_with_its_own_path() -> None:
    mesh = Mesh()
    primary, worker = with_root(mesh, "dev-01", Role.PRIMARY), with_root(mesh, "dev-02", Role.WORKER)
    for host in (primary, worker):
        mesh.start(host)
    mesh.advance(1)
    mesh.put(worker, "site", {"title": "One"})
    mesh.put(worker, categories.SLUG, {"categories": ["a"]})
    mesh.settle()
    mesh.put(primary, "site", {"title": "Two"})
    mesh.delete(primary, "site")
    mesh.settle()

    kinds = ("project:created", "categories:updated", "project:updated", "project:deleted")
    assert local(primary) == [(kind, "/of/dev-01") for kind in kinds]
    assert local(worker) == [(kind, "/of/dev-02") for kind in kinds]
    for host in (primary, worker):
        assert [event.id for event in host.told] == list(range(1, len(host.told) + 1))


@pytest.mark.parametrize("when", ["before persisting", "after persisting"])
def test_a_power_cut_loses_and_repeats_no_event(when: str) -> None:
    """The disk of `Mesh` refuses ids that are not dense; here is looked at what became of the one in the middle."""
    mesh, primary, worker, _ = three()
    mesh.put(worker, "site", {"title": "One"})
    mesh.settle()
    primary.power_cut = when
    mesh.put(worker, "site", {"title": "Two"})
    mesh.settle()
    assert primary.node is None
    mesh.start(primary)
    mesh.advance(60)
    mesh.put(worker, "site", {"title": "Three"})
    mesh.settle()

    revisions = [event.payload["revision"] for event in primary.disk.events.values() if "revision" in event.payload]
    expected = [event.payload["revision"] for event in worker.told if "revision" in event.payload]
    assert len(expected) == 3
    assert revisions == expected
    assert list(primary.disk.events) == list(range(1, len(primary.disk.events) + 1))
