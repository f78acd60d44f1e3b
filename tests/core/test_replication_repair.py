"""What a crash leaves, and the exchange that repairs any divergence."""

from __future__ import annotations

from functools import partial

import pytest
from attrs import evolve

from meshd import wire
from meshd.core.documents import Register
from meshd.core.effects import Broadcast, Emit, Persist
from meshd.core.inputs import LinkDown, LinkUp, PutProject, Received
from meshd.core.messages import Changes, Digest, Documents, DocumentState, Identity, Message, UtcMs
from meshd.model import Role, Stamp
from tests.core.mesh import EPOCH_MS, Disk, Host, Mesh, configuration, three
from tests.core.replicas import BIG, NOW, all_equal, alone, heard, linked, noted, put, sent

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
    mesh.carry = partial(noted, seen)
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
