"""Edits of this host: conditions, refusals, and the bound of the outbox."""

from __future__ import annotations

import pytest

from meshd import wire
from meshd.core.effects import Accepted, Rejected, Reply
from meshd.core.inputs import Command, DeleteProject, PatchProject, PutProject
from meshd.core.messages import Ack, Digest
from meshd.model import MAX_FRAME_BYTES, Json
from tests.core.mesh import three
from tests.core.replicas import NOW, alone, heard, linked, outcome, put, sent


@pytest.mark.parametrize(
    ("if_match", "on_existing", "on_missing"),
    [(None, True, True), ("*", True, False), ("", False, True), ("current", True, False), ("stale", False, False)],
)
def test_a_condition_on_a_put(if_match: str | None, on_existing: bool, on_missing: bool) -> None:
    node = linked()
    first = put(node, {"title": "T"})
    assert isinstance(first, Accepted)
    given = first.revision if if_match == "current" else if_match
    missing = put(node, {"title": "U"}, given, slug="missing")
    existing = put(node, {"title": "U"}, given)
    for reply, is_accepted in ((existing, on_existing), (missing, on_missing)):
        assert isinstance(reply, Accepted) is is_accepted
        assert is_accepted or isinstance(reply, Rejected)
        assert not isinstance(reply, Rejected) or reply.code == "revision-mismatch"


def test_a_condition_holds_for_patch_and_delete_too() -> None:
    node = linked()
    put(node, {"title": "T"})
    commands: list[Command] = [
        PatchProject(1, "site", {"title": "U"}, if_match="stale"),
        DeleteProject(1, "site", if_match="stale"),
    ]
    for command in commands:
        effects = node.step(command, NOW)
        assert [type(effect) for effect in effects] == [Reply]
        assert isinstance(outcome(effects), Rejected)


def test_each_revision_is_another_and_a_deleted_project_has_none() -> None:
    node = linked()
    replies = [put(node, {"title": title}) for title in ("a", "b", "a")]
    assert len({reply.revision for reply in replies if isinstance(reply, Accepted)}) == 3
    assert outcome(node.step(DeleteProject(1, "site"), NOW)) == Accepted("")


@pytest.mark.parametrize(
    "command",
    [
        PatchProject(1, "missing", {"title": "T"}),
        DeleteProject(1, "missing"),
        PutProject(1, "missing", {"title": "T"}, base={"title": "seen"}),
    ],
)
def test_what_is_not_there_can_only_be_created(command: PatchProject | DeleteProject | PutProject) -> None:
    reply = outcome(linked().step(command, NOW))
    assert isinstance(reply, Rejected)
    assert reply.code == "not-found"


@pytest.mark.parametrize(
    "command",
    [
        PutProject(1, "../up", {}),
        PutProject(1, "", {}),
        PutProject(1, "site", {"slug": "other"}),
        PutProject(1, "new", {"slug": "other"}),
        PutProject(1, "site", {"milestones": ["m"]}),
        PatchProject(1, "site", {"slug": "other"}),
        PatchProject(1, "site", ["no", "object"]),
        PatchProject(1, "site", None),
        PatchProject(1, "site", {"milestones": [{"slug": "a"}, {"slug": "a"}]}),
        DeleteProject(1, ".hidden"),
    ],
)
def test_an_invalid_edit_is_refused_and_changes_nothing(command: PatchProject | DeleteProject | PutProject) -> None:
    node = linked()
    put(node, {"title": "T"})
    before = node.snapshot(NOW).root
    effects = node.step(command, NOW)
    reply = outcome(effects)
    assert isinstance(reply, Rejected)
    assert reply.code == "invalid"
    assert len(effects) == 1
    assert node.snapshot(NOW).root == before


@pytest.mark.parametrize("levels", [300, 1000])
def test_an_edit_too_deep_for_the_wire_is_refused(levels: int) -> None:
    deep: Json = "bottom"
    for _ in range(levels):
        deep = {"a": deep}
    node = linked()
    put(node, {"title": "T"})
    for command in (PutProject(1, "site", {"goal": deep}), PatchProject(1, "site", {"goal": deep})):
        reply = outcome(node.step(command, NOW))
        assert isinstance(reply, Rejected)
        assert reply.code == "invalid"


@pytest.mark.parametrize("character", ["x", "é", "\N{SNOWMAN}", "\N{PILE OF POO}", "\x01", '"', "\N{NO-BREAK SPACE}"])
@pytest.mark.parametrize("size", [600_000, 1_200_000, 5_000_000])
def test_an_edit_is_refused_or_fits_the_wire(character: str, size: int) -> None:
    """Else the link ends over it (1009), again and again, and nothing behind it in the outbox goes out."""
    node = linked()
    effects = node.step(PutProject(1, "site", {"title": character * size}), NOW)
    sizes = [len(wire.encode(message)) for message in sent([*effects, *heard(node, Digest({}))])]
    assert max(sizes) <= MAX_FRAME_BYTES


def test_a_full_outbox_refuses_and_loses_nothing() -> None:
    node = alone(max_changes=3)
    replies = [put(node, {"title": 2, **{f"key-{n}": n for n in range(number)}}) for number in range(5)]
    assert [type(reply) for reply in replies] == [Accepted, Accepted, Accepted, Rejected, Rejected]
    assert [reply.code for reply in replies if isinstance(reply, Rejected)] == ["outbox-full"] * 2
    assert node.snapshot(NOW).queued_changes == 3
    assert node.snapshot(NOW).documents["site"].json()["title"] == 2


def test_an_outbox_that_emptied_takes_edits_again() -> None:
    node = linked(max_changes=1)
    put(node, {"title": 1})
    assert isinstance(put(node, {"title": 2}), Rejected)
    heard(node, Ack("dev-02.s1", 1))
    assert isinstance(put(node, {"title": 3}), Accepted)


def test_stamps_go_on_after_a_restart_with_a_clock_set_back() -> None:
    mesh, primary, worker, other = three()
    mesh.put(worker, "site", {"title": "before"})
    mesh.settle()
    mesh.crash(worker)
    worker.wall_shift_ms = -60_000
    mesh.start(worker)
    mesh.advance(20)
    mesh.put(worker, "site", {"title": "after"})
    mesh.settle()
    assert [mesh.document(host, "site") for host in (primary, worker, other)] == [
        {"slug": "site", "title": "after"}
    ] * 3
