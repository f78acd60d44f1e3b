"""The way of an edit: stored, sent, acknowledged, relayed; and what deletes it."""

from __future__ import annotations

from functools import partial

from meshd.core.documents import Change, Document, Kind
from meshd.core.effects import Accepted, Broadcast, Emit, Persist, Reply, SaveOutbox, Send
from meshd.core.frames import FRAME_CHANGES
from meshd.core.inputs import LinkUp, PatchProject, PutProject, Received
from meshd.core.messages import Ack, Changes, Identity, Message, UtcMs
from meshd.core.replication import WINDOW
from meshd.core.stored import Stored
from meshd.model import Role, Stamp
from tests.core.mesh import EPOCH_MS, Mesh, check_order, configuration, three
from tests.core.replicas import NOW, all_equal, alone, edit, heard, linked, noted, put, sent, seqs

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
    assert list(sent(answer)) == [Ack("dev-03.s1", 1), Changes(mesh.snapshot(primary).term, (change,))]


def test_no_path_of_one_host_is_in_anothers_document() -> None:
    mesh, primary, worker, other = three()
    seen: list[Message] = []
    mesh.carry = partial(noted, seen)
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
