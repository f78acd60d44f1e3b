"""What original peers send: whole documents, older or newer than ours, with paths of their own host."""

from __future__ import annotations

import pytest
from attrs import evolve

from meshd.core import categories, originals
from meshd.core.documents import Change, Document, Kind, fragment
from meshd.core.effects import Broadcast, Effect, Emit, Level, Note, Reply, Send, WriteProject
from meshd.core.inputs import DeleteProject, LinkUp, PutProject, Received
from meshd.core.messages import (
    Ack,
    Changes,
    Digest,
    Documents,
    FeatureEvent,
    Heartbeat,
    Identity,
    Presence,
    UtcMs,
)
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.core.stored import Stored
from meshd.errors import DocumentError
from meshd.model import JsonObject, Now, Role, Stamp
from tests.core.mesh import EPOCH_MS, configuration, leading

NOW = Now(100.0, EPOCH_MS)
LIFE = Stamp(1, 0, "dev-01")
SITE = fragment(Change("o.s", 1, LIFE, "site", LIFE, Kind.CREATED, {"title": "T"}))
ENDED = Document("site", LIFE, {}, ended=Stamp(2, 0, "dev-01"))


def event(kind: str, payload: JsonObject, project: str | None = "protoMaker", peer: str = "dev-02") -> FeatureEvent:
    return FeatureEvent(peer, kind, payload, UtcMs(EPOCH_MS), project)


def updated(document: JsonObject, **attributes: str) -> FeatureEvent:
    payload: JsonObject = {"projectSlug": "site", "projectPath": "/home/somebody/repo", "project": document}
    return event("project:updated", payload, **attributes)


def primary() -> Node:
    """A primary with an original (1) and two natives (2, 3) linked."""
    node = leading(Node(configuration("dev-01", role=Role.PRIMARY), Birth("b", "1"), Stored("s1")), NOW)
    for link, protocol in ((1, None), (2, 1), (3, 1)):
        node.step(LinkUp(link, f"h:{link}"), NOW)
        node.step(Received(link, Identity(f"dev-0{link + 1}", UtcMs(EPOCH_MS), protocol=protocol, boot="x")), NOW)
    return node


def heard(node: Node, *events: FeatureEvent, link: int = 1) -> list[Effect]:
    return [effect for message in events for effect in node.step(Received(link, message), NOW)]


def document(node: Node) -> JsonObject | None:
    found = node.snapshot(NOW).documents.get("site")
    return found.json("/srv/here") if found and found.ended is None else None


def warnings(effects: list[Effect]) -> list[str]:
    return [effect.text for effect in effects if isinstance(effect, Note) and effect.level >= Level.WARNING]


# As commands


@pytest.mark.parametrize("kind", ["project:created", "project:updated"])
def test_a_whole_document_is_an_edit_that_removes_nothing(kind: str) -> None:
    found = originals.command(event(kind, {"projectSlug": "site", "project": {"title": "new"}}), {"site": SITE})
    assert found == PutProject(originals.NO_REPLY, "site", {"title": "new"}, base={})


def test_a_document_not_known_is_taken_as_it_is() -> None:
    found = originals.command(event("project:created", {"project": {"slug": "site", "title": "T"}}), {})
    assert found == PutProject(originals.NO_REPLY, "site", {"slug": "site", "title": "T"})


def test_a_deletion_deletes() -> None:
    assert originals.command(event("project:deleted", {"projectSlug": "site"}), {"site": SITE}) == DeleteProject(
        0, "site"
    )


@pytest.mark.parametrize("kind", ["feature:created", "feature:status-changed", "categories:created", "project:", ""])
def test_other_events_are_not_ours_to_take(kind: str) -> None:
    assert originals.command(event(kind, {"projectSlug": "site", "project": {"title": "T"}}), {}) is None


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("project:updated", {"projectSlug": "site"}),
        ("project:updated", {"projectSlug": "site", "project": "text"}),
        ("project:updated", {"project": {"title": "no slug"}}),
        ("project:updated", {"projectSlug": "../site", "project": {}}),
        ("project:updated", {"projectSlug": 5, "project": {}}),
        ("project:deleted", {}),
        ("project:deleted", {"projectSlug": "a/b"}),
        ("project:updated", {"projectSlug": "@categories", "project": {}}),
        ("project:deleted", {"projectSlug": "@categories"}),
        ("categories:updated", {"categories": "a, b"}),
        ("categories:updated", {}),
    ],
)
def test_what_cannot_be_taken_is_refused(kind: str, payload: JsonObject) -> None:
    with pytest.raises(DocumentError):
        originals.command(event(kind, payload), {})


# On a node


def test_an_originals_edit_becomes_a_change_of_ours() -> None:
    node = primary()
    effects = heard(node, updated({"slug": "site", "title": "T", "milestones": [{"slug": "m"}]}))
    (broadcast,) = [effect for effect in effects if isinstance(effect, Broadcast)]
    assert broadcast.links == (2, 3)
    assert isinstance(broadcast.message, Changes)
    assert broadcast.message.changes[0].origin == "dev-01.s1"
    assert document(node) == {"slug": "site", "title": "T", "milestones": [{"slug": "m"}]}
    assert [effect.type for effect in effects if isinstance(effect, Emit)] == ["project:created"]
    assert [effect.document.slug for effect in effects if isinstance(effect, WriteProject)] == ["site"]


def test_keys_that_an_original_lacks_are_left_alone() -> None:
    node = primary()
    heard(node, updated({"title": "T", "goal": "G", "milestones": [{"slug": "m", "title": "M"}, {"slug": "n"}]}))
    heard(node, updated({"title": "new", "milestones": [{"slug": "m"}]}))
    assert document(node) == {
        "slug": "site",
        "title": "new",
        "goal": "G",
        "milestones": [{"slug": "m", "title": "M"}, {"slug": "n"}],
    }


def test_the_same_event_twice_is_one_change() -> None:
    node = primary()
    heard(node, updated({"title": "T"}))
    assert heard(node, updated({"title": "T"})) == []


def test_an_original_deletes() -> None:
    node = primary()
    effects = heard(node, updated({"title": "T"}), event("project:deleted", {"projectSlug": "site"}))
    assert [effect.type for effect in effects if isinstance(effect, Emit)] == ["project:created", "project:deleted"]
    assert document(node) is None


def test_an_event_that_comes_late_does_not_bring_a_deleted_project_back() -> None:
    node = primary()
    heard(node, updated({"title": "T"}), event("project:deleted", {"projectSlug": "site"}))
    heard(node, updated({"title": "T"}))
    assert document(node) is None


def test_an_original_may_create_again_what_was_deleted() -> None:
    node = primary()
    heard(node, updated({"title": "T"}), event("project:deleted", {"projectSlug": "site"}))
    heard(node, event("project:created", {"projectSlug": "site", "project": {"title": "again"}}))
    assert document(node) == {"slug": "site", "title": "again"}


def test_paths_of_another_host_are_replaced_by_ours() -> None:
    node = primary()
    effects = heard(node, updated({"title": "T", "projectPath": "/home/somebody/repo"}))
    assert document(node) == {"slug": "site", "title": "T", "projectPath": "/srv/here"}
    assert "somebody" not in repr(effects)


def test_events_of_another_project_are_refused_and_a_warning_once() -> None:
    node = primary()
    foreign = updated({"title": "T"}, project="anotherProject")
    effects = heard(node, foreign, foreign, foreign)
    assert document(node) is None
    assert len(warnings(effects)) == 1
    assert "anotherProject" in warnings(effects)[0]
    assert node.snapshot(NOW).dropped["foreign-project"] == 3


@pytest.mark.parametrize("project", [None, "", "protoMaker"])
def test_events_that_name_our_project_or_none_are_taken(project: str | None) -> None:
    node = primary()
    heard(node, evolve(updated({"title": "T"}), project_name=project))
    assert document(node) is not None


def test_what_cannot_be_taken_is_a_warning_once_for_each_peer() -> None:
    node = primary()
    broken = event("project:updated", {"projectSlug": "../up", "project": {}})
    unkeyed = updated({"milestones": ["no object"]})
    effects = heard(node, *[broken] * 5, *[unkeyed] * 5)
    assert 1 <= len(warnings(effects)) <= 2
    assert node.snapshot(NOW).dropped["invalid-document"] == 10
    assert not node.snapshot(NOW).documents


def test_features_change_nothing() -> None:
    node = primary()
    payload: JsonObject = {"projectSlug": "site", "projectPath": "/x", "project": {"title": "T"}, "categories": ["a"]}
    effects = heard(node, event("feature:created", payload), event("feature:updated", payload))
    assert effects == []
    assert node.snapshot(NOW).dropped["unknown-event"] == 2


def test_the_categories_are_taken_and_passed_on() -> None:
    node = primary()
    effects = heard(node, event("categories:updated", {"projectPath": "/x", "categories": ["a", "b"]}))
    assert categories.listed(node.snapshot(NOW).documents[categories.SLUG]) == ["a", "b"]
    assert [effect.type for effect in effects if isinstance(effect, Emit)] == ["categories:updated"]
    assert [effect.links for effect in effects if isinstance(effect, Broadcast)] == [(2, 3)]
    again = heard(node, event("categories:updated", {"projectPath": "/y", "categories": ["a", "b"]}))
    assert again == []


@pytest.mark.parametrize("known", [{}, {"site": SITE}, {"site": ENDED}])
def test_what_an_application_publishes_is_the_same_edit(known: dict[str, Document]) -> None:
    """Only an update of what was deleted differs: the application is told that the project is gone."""
    payload: JsonObject = {"projectSlug": "site", "project": {"title": "new"}}
    base: JsonObject | None = {} if known.get("site") is SITE else None
    assert originals.edit("project:created", payload, known) == PutProject(0, "site", {"title": "new"}, base=base)
    if known.get("site") is ENDED:
        base = {}
    assert originals.edit("project:updated", payload, known) == PutProject(0, "site", {"title": "new"}, base=base)


def test_nobody_waits_for_a_reply() -> None:
    node = primary()
    effects = heard(node, updated({"title": "T"}), updated({"milestones": [5]}))
    assert not [effect for effect in effects if isinstance(effect, Reply)]


def test_queued_events_may_come_before_the_identity() -> None:
    node = primary()
    node.step(LinkUp(9, "h:9"), NOW)
    heard(node, updated({"title": "T"}), link=9)
    assert document(node) is not None


def test_an_original_is_sent_only_what_it_knows() -> None:
    """The primary of this worker is an original."""
    node = Node(configuration("dev-02"), Birth("b", "1"), Stored("s1"))
    effects = [
        *node.step(PutProject(1, "site", {"title": "T"}), NOW),
        *node.step(LinkUp(1, "u", "ws://dev-01:4444"), NOW),
    ]
    effects += node.step(Received(1, Identity("dev-01", UtcMs(EPOCH_MS))), NOW)
    effects += node.step(PutProject(2, "site", {"title": "new"}), NOW)
    effects += node.step(Received(1, Heartbeat("dev-01", UtcMs(EPOCH_MS))), NOW)
    sent = [effect.message for effect in effects if isinstance(effect, Send)]
    assert not [message for message in sent if isinstance(message, Changes | Digest | Documents | Ack | Presence)]
    assert node.snapshot(NOW).queued_changes == 2
