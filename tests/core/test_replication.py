"""Documents on every host: the way of an edit, what a crash leaves, and the exchange that repairs."""

from __future__ import annotations

from functools import partial

import pytest
from attrs import evolve

from meshd import wire
from meshd.core.documents import Change, Document, Kind, Register
from meshd.core.effects import Accepted, Broadcast, Effect, Emit, Persist, Rejected, Reply, SaveOutbox, Send
from meshd.core.frames import FRAME_CHANGES
from meshd.core.inputs import Command, DeleteProject, LinkDown, LinkUp, PatchProject, PutProject, Received
from meshd.core.messages import Ack, Changes, Digest, Documents, DocumentState, Identity, Message, UtcMs
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.core.replication import WINDOW
from meshd.core.stored import Stored
from meshd.model import MAX_FRAME_BYTES, Json, JsonObject, Now, Role, Stamp
from tests.core.mesh import EPOCH_MS, Disk, Host, Mesh, check_order, configuration, three

NOW = Now(100.0, EPOCH_MS)
BIG = "x" * 100_000


def _noted(seen: list[Message], message: Message) -> Message:
    seen.append(message)
    return message


def alone(stored: Stored | None = None, role: Role = Role.WORKER, *, max_changes: int = 100_000) -> Node:
    return Node(configuration("dev-02", role=role, max_changes=max_changes), Birth("b", "1"), stored or Stored("s1"))


def linked(stored: Stored | None = None, role: Role = Role.WORKER, *, max_changes: int = 100_000) -> Node:
    """A node with one native link, 1: of a worker to its primary, of a primary to a worker."""
    node = alone(stored, role, max_changes=max_changes)
    other = Role.PRIMARY if role is Role.WORKER else Role.WORKER
    node.step(LinkUp(1, "u", "ws://dev-01:4444" if role is Role.WORKER else None), NOW)
    node.step(Received(1, Identity("dev-01", UtcMs(EPOCH_MS), protocol=1, boot="x", sync_role=other)), NOW)
    return node


def sent(effects: list[Effect]) -> list[Message]:
    return [effect.message for effect in effects if isinstance(effect, Send | Broadcast)]


def outcome(effects: list[Effect]) -> Accepted | Rejected:
    (reply,) = [effect for effect in effects if isinstance(effect, Reply)]
    return reply.outcome


def put(node: Node, document: JsonObject, if_match: str | None = None, slug: str = "site") -> Accepted | Rejected:
    return outcome(node.step(PutProject(1, slug, document, if_match=if_match), NOW))


def seqs(messages: list[Message]) -> list[int]:
    return [change.seq for message in messages if isinstance(message, Changes) for change in message.changes]


def heard(node: Node, *messages: Message) -> list[Effect]:
    effects: list[Effect] = []
    for message in messages:
        answer = node.step(Received(1, message), NOW)
        check_order(answer)
        effects += answer
    return effects


def all_equal(mesh: Mesh, *hosts: Host) -> bool:
    return len({mesh.snapshot(host).root for host in hosts}) == 1


def edit(seq: int, value: Json, utc_ms: int | None = None, origin: str = "dev-03.s1") -> Change:
    """Change `seq` of a project that its first change created."""
    life = Stamp(1, 0, "dev-03")
    kind, stamp = (Kind.CREATED, life) if seq == 1 else (Kind.UPDATED, Stamp(utc_ms or seq, 0, "dev-03"))
    return Change(origin, seq, stamp, "site", life, kind, {"title": value})


# The way of an edit


def test_a_workers_edit_reaches_everybody_and_leaves_its_outbox() -> None:
    mesh, primary, worker, other = three()
    assert isinstance(mesh.put(worker, "site", {"title": "T"}), Accepted)
    assert mesh.snapshot(worker).queued_changes == 1
    mesh.settle()
    assert mesh.snapshot(worker).queued_changes == 0
    for host in (primary, worker, other):
        assert mesh.document(host, "site") == {"slug": "site", "title": "T"}
        assert len(host.events("project:created")) == 1
        assert host.disk.documents["site"].json() == {"slug": "site", "title": "T"}
        assert host.files["site"].json() == {"slug": "site", "title": "T"}


def test_every_change_is_one_event_on_every_host() -> None:
    mesh, primary, worker, other = three()
    for number, host in enumerate((worker, other, primary, worker)):
        mesh.put(host, "site", {"title": number})
        mesh.settle()
    mesh.delete(primary, "site")
    mesh.settle()
    for host in (primary, worker, other):
        kinds = [event.type for event in host.told if event.type.startswith("project:")]
        assert kinds == ["project:created", *["project:updated"] * 3, "project:deleted"]


def test_an_event_names_the_project_its_revision_and_its_origin() -> None:
    mesh, _, worker, other = three()
    reply = mesh.put(worker, "site", {"title": "T"})
    mesh.settle()
    assert isinstance(reply, Accepted)
    assert other.events("project:created") == [
        {"projectSlug": "site", "revision": reply.revision, "origin": "dev-02.s1", "projectPath": "."}
    ]


def test_an_edit_is_on_disk_before_anybody_is_told() -> None:
    node = linked()
    effects = node.step(PutProject(7, "site", {"title": "T"}), NOW)
    check_order(effects)
    kinds = [type(effect) for effect in effects if isinstance(effect, Persist | Send | Emit | Reply)]
    assert kinds == [Persist, Persist, Persist, Send, Persist, Emit, Reply]
    assert effects[-1] == Reply(7, Accepted(node.snapshot(NOW).documents["site"].digest, created=True))


def test_a_primarys_edit_needs_no_acknowledgement() -> None:
    node = linked(role=Role.PRIMARY)
    effects = node.step(PutProject(1, "site", {"title": "T"}), NOW)
    check_order(effects)
    assert not [e for e in effects if isinstance(e, Persist) and isinstance(e.record, SaveOutbox)]
    assert node.snapshot(NOW).queued_changes == 0
    assert seqs(sent(effects)) == [1]


def test_a_primary_stores_acknowledges_and_relays_as_it_came() -> None:
    mesh, primary, _, _ = three()
    change = edit(1, "T")
    (link, _) = primary.pipes
    answer = mesh.step(primary, Received(link, Changes(0, (change,))))
    assert [type(effect) for effect in answer if isinstance(effect, Persist | Send | Broadcast)] == [
        *[Persist, Persist],
        *[Send, Broadcast],
        Persist,  # of the event
    ]
    assert list(sent(answer)) == [Ack("dev-03.s1", 1), Changes(0, (change,))]


def test_no_path_of_one_host_is_in_anothers_document() -> None:
    mesh, primary, worker, other = three()
    seen: list[Message] = []
    mesh.carry = partial(_noted, seen)
    mesh.put(worker, "site", {"title": "T", "projectPath": "/home/dev-02/secret"})
    mesh.settle()
    for host in (primary, worker, other):
        assert mesh.document(host, "site") == {"slug": "site", "title": "T", "projectPath": ""}
        assert "secret" not in repr(host.disk)
    assert "secret" not in repr(seen)


def test_an_edit_that_changes_nothing_is_no_change() -> None:
    node = linked()
    first = put(node, {"title": "T"})
    effects = node.step(PutProject(2, "site", {"slug": "site", "title": "T"}), NOW)
    assert isinstance(first, Accepted)
    assert effects == [Reply(2, Accepted(first.revision, changed=False))]


# Acknowledgement and replay


def test_an_acknowledgement_is_cumulative() -> None:
    node = linked()
    for number in range(5):
        put(node, {"title": number})
    heard(node, Ack("dev-02.s1", 3))
    assert node.snapshot(NOW).queued_changes == 2
    heard(node, Ack("dev-02.s1", 2), Ack("dev-02.other", 5), Ack("dev-03.s1", 5), Ack("dev-02.s1", 99))
    assert node.snapshot(NOW).queued_changes == 2
    heard(node, Ack("dev-02.s1", 5))
    assert node.snapshot(NOW).queued_changes == 0


def test_what_was_queued_goes_out_on_the_first_connect_and_on_each_reconnect() -> None:
    mesh = Mesh()
    primary = mesh.add(configuration("dev-01", role=Role.PRIMARY))
    worker = mesh.add(configuration("dev-02"))
    mesh.start(worker)
    mesh.put(worker, "first", {"title": 1})
    mesh.start(primary)
    mesh.advance(10)
    assert mesh.document(primary, "first") is not None
    for number in range(2):
        mesh.part(primary, worker)
        mesh.put(worker, f"again{number}", {"title": 1})
        assert mesh.snapshot(worker).queued_changes == 1
        mesh.join(primary, worker)
        mesh.advance(20)
        assert mesh.document(primary, f"again{number}") is not None
        assert mesh.snapshot(worker).queued_changes == 0


def test_a_lost_acknowledgement_means_a_replay_without_effect() -> None:
    mesh, primary, worker, other = three()
    mesh.put(worker, "site", {"title": "T"})
    mesh.deliver()  # the primary has it; its acknowledgement is on the way
    mesh.crash(worker)
    mesh.settle()
    assert worker.disk.outbox
    mesh.start(worker)
    mesh.advance(20)
    assert mesh.snapshot(worker).queued_changes == 0
    assert not worker.disk.outbox
    assert [len(host.events("project:created")) for host in (primary, worker, other)] == [1, 1, 1]
    assert all_equal(mesh, primary, worker, other)


def test_a_replay_is_acknowledged_and_told_to_nobody() -> None:
    node = linked(role=Role.PRIMARY)
    first = heard(node, Changes(0, (edit(1, "T"), edit(2, "U"))))
    again = heard(node, Changes(0, (edit(1, "T"), edit(2, "U"))))
    assert sent(first)[0] == Ack("dev-03.s1", 2)
    assert again == [Send(1, Ack("dev-03.s1", 2))]


def test_a_change_twice_in_one_frame_is_one_change() -> None:
    node = linked(role=Role.PRIMARY)
    effects = heard(node, Changes(0, (edit(1, "T"), edit(1, "T"))))
    assert len([effect for effect in effects if isinstance(effect, Emit)]) == 1


def test_a_gap_starts_an_exchange_and_the_gap_is_filled() -> None:
    mesh, primary, worker, other = three()
    mesh.put(worker, "one", {"title": "T"})
    mesh.settle()
    mesh.put(worker, "two", {"title": "T"})
    (pipe,) = worker.pipes.values()
    pipe.arriving[pipe.other(worker)].clear()  # lost, though the link lives on
    mesh.put(worker, "three", {"title": "T"})
    mesh.settle()
    assert mesh.document(primary, "two") is not None
    assert all_equal(mesh, primary, worker, other)
    assert [note for note in primary.notes if "missed" in note.text]


def test_ten_thousand_queued_changes_go_out_in_windows() -> None:
    node = alone()
    for number in range(10_000):
        node.step(PatchProject(1, "site", {"title": number}) if number else PutProject(1, "site", {"title": 0}), NOW)
    node.step(LinkUp(1, "u", "ws://dev-01:4444"), NOW)
    messages = sent(heard(node, Identity("dev-01", UtcMs(EPOCH_MS), protocol=1, boot="x", sync_role="primary")))
    assert seqs(messages) == list(range(1, WINDOW + 1))
    assert max(len(message.changes) for message in messages if isinstance(message, Changes)) == FRAME_CHANGES
    out = seqs(messages)
    acked = 0
    while acked < 10_000:
        acked = min(acked + FRAME_CHANGES, out[-1])
        out += seqs(sent(heard(node, Ack("dev-02.s1", acked))))
        assert out[-1] - acked <= WINDOW
    assert out == list(range(1, 10_001))
    assert node.snapshot(NOW).queued_changes == 0
    assert node.snapshot(NOW).documents["site"].json()["title"] == 9_999


def test_an_outbox_with_holes_goes_out_whole() -> None:
    """While the mesh was switched off nothing was queued; more than a window of changes was made."""
    stamp = Stamp(EPOCH_MS, 0, "dev-02")
    queued = [
        Change("dev-02.s1", seq, stamp, f"p{seq}", stamp, Kind.CREATED, {"title": "T"}) for seq in (3, WINDOW + 9)
    ]
    node = linked(Stored("s1", outbox=tuple(queued), seqs={"dev-02.s1": WINDOW + 9}))
    assert seqs(sent(heard(node, Ack("dev-02.s1", 3)))) == [WINDOW + 9]


# Crashes


@pytest.mark.parametrize("when", ["before persisting", "after persisting"])
def test_a_worker_that_dies_over_an_edit(when: str) -> None:
    mesh, primary, worker, other = three()
    worker.power_cut = when
    mesh.step(worker, PutProject(1, "site", {"title": "T"}))
    assert worker.node is None
    mesh.settle()
    assert mesh.document(primary, "site") is None
    mesh.start(worker)
    mesh.advance(20)
    expected = {"slug": "site", "title": "T"} if when == "after persisting" else None
    assert [mesh.document(host, "site") for host in (primary, worker, other)] == [expected] * 3
    assert mesh.snapshot(worker).queued_changes == 0


@pytest.mark.parametrize("when", ["before persisting", "after persisting"])
def test_a_primary_that_dies_over_a_change(when: str) -> None:
    mesh, primary, worker, other = three()
    mesh.put(worker, "site", {"title": "T"})
    primary.power_cut = when
    mesh.deliver()
    assert primary.node is None
    assert mesh.snapshot(worker).queued_changes == 1, "nobody has acknowledged it"
    mesh.start(primary)
    mesh.advance(20)
    assert [mesh.document(host, "site") for host in (primary, worker, other)] == [{"slug": "site", "title": "T"}] * 3
    assert mesh.snapshot(worker).queued_changes == 0
    assert [len(host.events("project:created")) for host in (worker, other)] == [1, 1]


def test_a_primary_that_lost_its_disk_is_refilled() -> None:
    mesh, primary, worker, other = three()
    for slug in ("one", "two"):
        mesh.put(worker, slug, {"title": "T"})
    mesh.delete(worker, "two")
    mesh.settle()
    mesh.crash(primary)
    primary.disk = Disk("s2")
    mesh.start(primary)
    mesh.advance(20)
    mesh.put(worker, "three", {"title": "T"})
    mesh.settle()
    assert all_equal(mesh, primary, worker, other)
    assert mesh.document(primary, "one") == {"slug": "one", "title": "T"}


def test_a_database_restored_from_a_backup_does_not_lose_new_edits() -> None:
    """It gives out seqs that it gave out before; they must not be taken for replays."""
    mesh, primary, worker, other = three()
    mesh.put(worker, "site", {"title": "old"})
    mesh.settle()
    backup = worker.disk.stored()
    for number in range(5):
        mesh.patch(worker, "site", {"title": number})
    mesh.settle()
    mesh.crash(worker)
    worker.disk = Disk(backup.store_id, dict(backup.documents), {}, dict(backup.seqs))
    mesh.start(worker)
    mesh.advance(20)
    assert mesh.document(worker, "site") == {"slug": "site", "title": 4}
    mesh.patch(worker, "site", {"title": "new"})
    mesh.settle()
    assert [mesh.document(host, "site") for host in (primary, worker, other)] == [{"slug": "site", "title": "new"}] * 3
    assert mesh.snapshot(worker).queued_changes == 0


def test_edits_made_on_a_restored_database_before_it_meets_the_mesh_are_not_lost() -> None:
    mesh, primary, worker, other = three()
    mesh.put(worker, "site", {"title": "old"})
    mesh.settle()
    backup = worker.disk.stored()
    for number in range(5):
        mesh.patch(worker, "site", {"title": number})
    mesh.settle()
    mesh.crash(worker)
    worker.disk = Disk(backup.store_id, dict(backup.documents), {}, dict(backup.seqs))
    mesh.part(primary, worker)
    mesh.start(worker)
    for number in range(3):
        mesh.put(worker, f"new{number}", {"title": "T"})
    mesh.join(primary, worker)
    mesh.advance(20)
    assert all_equal(mesh, primary, worker, other)
    assert mesh.snapshot(worker).queued_changes == 0
    assert not worker.disk.outbox
    for host in (primary, worker, other):
        assert mesh.document(host, "new2") is not None
        assert len([event for event in host.events("project:created") if event["projectSlug"] == "new2"]) == 1
    mesh.crash(worker)
    mesh.start(worker)
    mesh.advance(20)
    mesh.patch(worker, "site", {"title": "later"})
    mesh.settle()
    assert mesh.document(other, "site") == {"slug": "site", "title": "later"}


def test_a_primary_restored_from_a_backup_does_not_lose_new_edits() -> None:
    """Its workers have seen later changes of its store: they must not take the new ones for replays."""
    mesh, primary, worker, other = three()
    mesh.put(primary, "site", {"title": "old"})
    mesh.settle()
    backup = primary.disk.stored()
    for number in range(5):
        mesh.patch(primary, "site", {"title": number})
    mesh.settle()
    mesh.crash(primary)
    primary.disk = Disk(backup.store_id, dict(backup.documents), {}, dict(backup.seqs))
    mesh.start(primary)
    mesh.advance(20)
    assert mesh.document(primary, "site") == {"slug": "site", "title": 4}
    mesh.patch(primary, "site", {"title": "new"})
    mesh.settle()
    assert [mesh.document(host, "site") for host in (primary, worker, other)] == [{"slug": "site", "title": "new"}] * 3


def test_a_worker_that_leads_by_configuration_has_nothing_queued() -> None:
    """Its changes have nobody to wait for: whoever links to it fetches them."""
    worker = alone()
    effects = worker.step(PutProject(1, "site", {"title": "T"}), NOW)
    disk = Disk("s1")
    for effect in effects:
        if isinstance(effect, Persist):
            disk.write(effect.record)
    assert alone(disk.stored(), Role.PRIMARY).snapshot(NOW).queued_changes == 0


# Exchange


def diverged() -> tuple[Mesh, Host, Host, Host]:
    """Three hosts that have met never, each with documents of its own and one that all have differently."""
    mesh = Mesh()
    primary = mesh.add(configuration("dev-01", role=Role.PRIMARY))
    workers = [mesh.add(configuration(name)) for name in ("dev-02", "dev-03")]
    for host in (primary, *workers):
        mesh.start(host)
        if host is not primary:
            mesh.part(primary, host)
        mesh.put(host, f"of-{host.name}", {"title": BIG, "goal": "G"})
        mesh.put(host, f"gone-{host.name}", {"title": "T"})
        mesh.delete(host, f"gone-{host.name}")
        mesh.put(host, "common", {"title": host.name})
    return mesh, primary, workers[0], workers[1]


def test_one_exchange_heals_any_divergence_both_ways() -> None:
    mesh, primary, worker, other = diverged()
    for host in (worker, other):
        mesh.join(primary, host)
    mesh.advance(8)
    assert all_equal(mesh, primary, worker, other)
    documents = mesh.snapshot(other).documents
    assert len([slug for slug in documents if slug.startswith("of-")]) == 3
    assert len([slug for slug in documents if slug.startswith("gone-") and documents[slug].ended]) == 3


def test_the_primary_passes_on_what_an_exchange_taught_it() -> None:
    mesh, primary, worker, other = diverged()
    mesh.join(primary, worker)
    mesh.advance(8)
    mesh.join(primary, other)
    mesh.advance(8)
    assert mesh.document(worker, "of-dev-03") is not None
    assert all_equal(mesh, primary, worker, other)


def test_what_came_in_an_exchange_is_not_missed_afterwards() -> None:
    mesh, primary, worker, other = diverged()
    for host in (worker, other):
        mesh.join(primary, host)
    mesh.advance(8)
    mesh.put(worker, "later", {"title": "T"})
    mesh.settle()
    assert not [note for host in (primary, worker, other) for note in host.notes if "missed" in note.text]


def test_what_happened_while_a_worker_was_away_is_not_missed_afterwards() -> None:
    mesh, primary, worker, other = three()
    mesh.put(worker, "site", {"title": "T"})
    mesh.settle()
    mesh.part(primary, other)
    for number in range(3):
        mesh.patch(worker, "site", {"title": number})
    mesh.settle()
    mesh.join(primary, other)
    mesh.advance(8)
    mesh.patch(worker, "site", {"title": "later"})
    mesh.settle()
    assert mesh.document(other, "site") == {"slug": "site", "title": "later"}
    assert not [note for host in (primary, worker, other) for note in host.notes if "missed" in note.text]


def test_a_primary_passes_on_to_others_only_what_was_new_to_it() -> None:
    node = linked(role=Role.PRIMARY)
    node.step(LinkUp(2, "h:2"), NOW)
    node.step(Received(2, Identity("dev-03", UtcMs(EPOCH_MS), protocol=1, boot="y")), NOW)
    life = Stamp(1, 0, "dev-01")
    known = DocumentState("known", life, {"title": Register(life, "T")})
    fresh = DocumentState("fresh", life, {"title": Register(life, "T")})
    heard(node, Documents((known,)))
    effects = heard(node, Documents((known, fresh)))
    assert [effect for effect in effects if isinstance(effect, Broadcast)] == [Broadcast((2,), Documents((fresh,)))]


def test_nothing_is_sent_on_a_link_that_is_gone() -> None:
    node = linked()
    node.step(LinkDown(1, 1006), NOW)
    assert sent(node.step(PutProject(1, "site", {"title": "T"}), NOW)) == []


def test_equal_documents_are_not_sent() -> None:
    mesh, primary, worker, _ = three()
    mesh.put(worker, "site", {"title": "T"})
    mesh.settle()
    seen: list[Message] = []
    mesh.carry = partial(_noted, seen)
    mesh.part(primary, worker)
    mesh.join(primary, worker)
    mesh.advance(10)
    assert [message for message in seen if isinstance(message, Digest)]
    assert not [message for message in seen if isinstance(message, Documents | Changes)]


def test_a_large_document_comes_in_parts() -> None:
    node = linked(role=Role.PRIMARY)
    put(node, {f"key{number}": BIG for number in range(10)})
    messages = [message for message in sent(heard(node, Digest({}))) if isinstance(message, Documents)]
    assert len(messages) > 3
    assert max(len(wire.encode(message)) for message in messages) < 400_000
    fresh = linked()
    heard(fresh, *messages)
    assert fresh.snapshot(NOW).root == node.snapshot(NOW).root


def test_an_exchange_emits_what_it_changed_and_nothing_else() -> None:
    node = linked()
    put(node, {"title": "ours"})
    document = node.snapshot(NOW).documents["site"]
    known = DocumentState("site", document.life, dict(document.registers))
    newer = {"goal": Register(Stamp(EPOCH_MS + 1, 0, "x"), "G")}
    assert heard(node, Documents((known,))) == []
    effects = heard(node, Documents((evolve(known, registers=newer),)))
    assert [effect.type for effect in effects if isinstance(effect, Emit)] == ["project:updated"]


# Deletion


def test_a_late_edit_does_not_bring_a_project_back() -> None:
    mesh, primary, worker, other = three()
    mesh.put(worker, "site", {"title": "T"})
    mesh.settle()
    mesh.part(primary, other)
    mesh.delete(worker, "site")
    mesh.advance(1)
    mesh.put(other, "site", {"title": "late"})
    mesh.join(primary, other)
    mesh.advance(20)
    assert [mesh.document(host, "site") for host in (primary, worker, other)] == [None] * 3
    assert all_equal(mesh, primary, worker, other)


def test_a_project_created_again_is_a_new_one() -> None:
    mesh, primary, worker, other = three()
    mesh.put(worker, "site", {"title": "T", "goal": "G"})
    mesh.settle()
    mesh.delete(other, "site")
    mesh.settle()
    reply = mesh.put(primary, "site", {"title": "again"})
    mesh.settle()
    assert isinstance(reply, Accepted)
    assert reply.created
    for host in (primary, worker, other):
        assert mesh.document(host, "site") == {"slug": "site", "title": "again"}
        assert host.disk.documents["site"] == mesh.snapshot(host).documents["site"]
        assert [event.type for event in host.told][-3:] == ["project:created", "project:deleted", "project:created"]


def test_a_deletion_that_comes_before_the_creation_stands() -> None:
    node = linked(role=Role.PRIMARY)
    life = Stamp(1, 0, "dev-03")
    effects = heard(node, Changes(0, (Change("dev-04.s1", 1, Stamp(9, 0, "dev-04"), "site", life, Kind.DELETED),)))
    effects += heard(node, Changes(0, (edit(1, "T"), edit(2, "U", 12))))
    assert node.snapshot(NOW).documents["site"] == Document("site", life, {}, Stamp(9, 0, "dev-04"))
    assert {effect.type for effect in effects if isinstance(effect, Emit)} == {"conflict:found"}


def test_the_workspace_is_told_of_a_deletion() -> None:
    mesh, primary, worker, other = three()
    mesh.put(worker, "site", {"title": "T"})
    mesh.delete(worker, "site")
    mesh.settle()
    for host in (primary, worker, other):
        assert host.files["site"].ended is not None


# Commands


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
