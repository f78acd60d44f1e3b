"""Writes that lose: found once, by the hub, told to everybody, taken back or forgotten."""

from __future__ import annotations

from meshd.core.conflicts import KEPT_FOR_A_DOCUMENT
from meshd.core.effects import Accepted, Rejected
from meshd.core.inputs import PutProject, TakeConflict
from meshd.model import JsonObject, Role
from tests.core.mesh import Host, Mesh, configuration


def three() -> tuple[Mesh, Host, Host, Host]:
    mesh = Mesh()
    roles = {"dev-01": Role.PRIMARY, "dev-02": Role.WORKER, "dev-03": Role.WORKER}
    primary, worker, other = [mesh.add(configuration(name, role=role)) for name, role in roles.items()]
    for host in (primary, worker, other):
        mesh.start(host)
    mesh.advance(1)
    return mesh, primary, worker, other


def apart() -> tuple[Mesh, Host, Host, Host]:
    """Three hosts with one project, and a worker that is cut off from the others."""
    mesh, primary, worker, other = three()
    mesh.put(primary, "site", {"title": "T", "goal": "G"})
    mesh.settle()
    mesh.part(worker, primary)
    mesh.part(worker, other)
    mesh.advance(1)
    return mesh, primary, worker, other


def reunited(mesh: Mesh, worker: Host, *others: Host) -> None:
    for other in others:
        mesh.join(worker, other)
    mesh.advance(30)


def lost(mesh: Mesh, host: Host) -> list[tuple[str, object]]:
    return [(conflict.path, conflict.value) for conflict in mesh.snapshot(host).conflicts]


def test_edits_one_after_the_other_are_no_conflict() -> None:
    mesh, primary, worker, other = three()
    mesh.put(worker, "site", {"title": "one"})
    for host, title in ((primary, "two"), (other, "three"), (worker, "four"), (worker, "five"), (primary, "six")):
        mesh.settle()
        mesh.patch(host, "site", {"title": title})
    mesh.settle()
    assert [lost(mesh, host) for host in (primary, worker, other)] == [[], [], []]


def test_a_queue_replayed_over_an_untouched_document_is_no_conflict() -> None:
    mesh, primary, worker, other = apart()
    for title in ("one", "two", "three"):
        mesh.patch(worker, "site", {"title": title})
    reunited(mesh, worker, primary, other)
    assert mesh.document(primary, "site") == {"slug": "site", "title": "three", "goal": "G"}
    assert [lost(mesh, host) for host in (primary, worker, other)] == [[], [], []]


def test_two_edits_of_one_field_keep_the_loser_everywhere() -> None:
    mesh, primary, worker, other = apart()
    mesh.patch(worker, "site", {"title": "of the worker"})
    mesh.advance(1)
    mesh.patch(primary, "site", {"title": "of the primary", "goal": "too"})
    reunited(mesh, worker, primary, other)
    assert mesh.document(worker, "site") == {"slug": "site", "title": "of the primary", "goal": "too"}
    for host in (primary, worker, other):
        assert lost(mesh, host) == [("title", "of the worker")]
        assert len(host.events("conflict:found")) == 1


def test_the_later_edit_wins_and_the_earlier_is_kept_whoever_brings_it() -> None:
    mesh, primary, worker, other = apart()
    mesh.patch(primary, "site", {"title": "of the primary"})
    mesh.advance(1)
    mesh.patch(worker, "site", {"title": "of the worker"})
    reunited(mesh, worker, primary, other)
    assert mesh.document(primary, "site") == {"slug": "site", "title": "of the worker", "goal": "G"}
    assert [lost(mesh, host) for host in (primary, worker, other)] == [[("title", "of the primary")]] * 3


def test_the_same_value_written_twice_is_no_conflict() -> None:
    mesh, primary, worker, other = apart()
    mesh.patch(worker, "site", {"title": "same"})
    mesh.patch(primary, "site", {"title": "same"})
    reunited(mesh, worker, primary, other)
    assert lost(mesh, primary) == []


def test_an_edit_of_what_was_deleted_meanwhile_is_kept() -> None:
    mesh, primary, worker, other = apart()
    mesh.patch(worker, "site", {"title": "late"})
    mesh.delete(primary, "site")
    reunited(mesh, worker, primary, other)
    assert mesh.document(worker, "site") is None
    assert lost(mesh, worker) == [("title", "late")]


def test_a_document_deleted_by_one_who_had_not_seen_its_last_edit_is_kept() -> None:
    mesh, primary, worker, other = apart()
    mesh.patch(primary, "site", {"title": "unseen"})
    mesh.delete(worker, "site")
    reunited(mesh, worker, primary, other)
    assert mesh.document(primary, "site") is None
    assert lost(mesh, other) == [("", {"slug": "site", "title": "unseen", "goal": "G"})]


def test_a_deletion_that_saw_everything_is_no_conflict() -> None:
    mesh, primary, worker, _ = three()
    mesh.put(primary, "site", {"title": "T"})
    mesh.settle()
    mesh.delete(worker, "site")
    mesh.settle()
    mesh.put(primary, "site", {"title": "again"})
    mesh.settle()
    assert lost(mesh, primary) == []


def test_of_two_projects_begun_apart_the_earlier_is_kept() -> None:
    mesh, primary, worker, other = apart()
    mesh.put(worker, "new", {"title": "of the worker"})
    mesh.advance(1)
    mesh.put(primary, "new", {"title": "of the primary"})
    reunited(mesh, worker, primary, other)
    assert mesh.document(worker, "new") == {"slug": "new", "title": "of the primary"}
    assert lost(mesh, worker) == [("", {"slug": "new", "title": "of the worker"})]


def test_taking_back_writes_it_again_and_forgets_the_conflict_everywhere() -> None:
    mesh, primary, worker, other = apart()
    mesh.patch(worker, "site", {"title": "of the worker"})
    mesh.advance(1)
    mesh.patch(primary, "site", {"title": "of the primary"})
    reunited(mesh, worker, primary, other)
    (conflict,) = mesh.snapshot(other).conflicts
    assert isinstance(mesh.command(other, TakeConflict(0, "site", conflict.id)), Accepted)
    mesh.settle()
    for host in (primary, worker, other):
        assert mesh.document(host, "site") == {"slug": "site", "title": "of the worker", "goal": "G"}
        assert lost(mesh, host) == []


def test_forgetting_changes_nothing_but_the_list() -> None:
    mesh, primary, worker, other = apart()
    mesh.put(worker, "new", {"title": "of the worker"})
    mesh.advance(1)
    mesh.put(primary, "new", {"title": "of the primary"})
    reunited(mesh, worker, primary, other)
    (conflict,) = mesh.snapshot(primary).conflicts
    assert isinstance(mesh.command(primary, TakeConflict(0, "new", conflict.id, take=False)), Accepted)
    mesh.settle()
    assert mesh.document(worker, "new") == {"slug": "new", "title": "of the primary"}
    assert [lost(mesh, host) for host in (primary, worker, other)] == [[], [], []]
    again = mesh.command(worker, TakeConflict(0, "new", conflict.id))
    assert isinstance(again, Rejected)
    assert again.code == "not-found"


def test_taking_back_a_whole_document() -> None:
    mesh, primary, worker, other = apart()
    mesh.patch(primary, "site", {"title": "unseen"})
    mesh.delete(worker, "site")
    reunited(mesh, worker, primary, other)
    (conflict,) = mesh.snapshot(worker).conflicts
    mesh.command(worker, TakeConflict(0, "site", conflict.id))
    mesh.settle()
    assert mesh.document(primary, "site") == {"slug": "site", "title": "unseen", "goal": "G"}


def test_an_edit_by_hand_over_an_older_file_keeps_what_it_overwrote() -> None:
    mesh, primary, worker, _ = three()
    mesh.put(primary, "site", {"title": "T", "goal": "G"})
    mesh.settle()
    mesh.patch(primary, "site", {"title": "newer"})
    mesh.settle()
    seen: JsonObject = {"slug": "site", "title": "T", "goal": "G"}
    mesh.command(worker, PutProject(0, "site", {**seen, "title": "by hand"}, base=seen))
    mesh.settle()
    assert mesh.document(primary, "site") == {"slug": "site", "title": "by hand", "goal": "G"}
    assert lost(mesh, worker) == [("title", "newer")]


def test_what_is_kept_is_bounded_and_survives_a_crash() -> None:
    mesh, primary, worker, other = apart()
    for number in range(KEPT_FOR_A_DOCUMENT + 5):
        mesh.patch(worker, "site", {f"key-{number}": "of the worker"})
        mesh.patch(primary, "site", {f"key-{number}": "of the primary"})
    reunited(mesh, worker, primary, other)
    assert len(mesh.snapshot(primary).conflicts) == KEPT_FOR_A_DOCUMENT
    before = mesh.snapshot(worker).conflicts
    mesh.crash(worker)
    mesh.start(worker)
    mesh.advance(10)
    assert mesh.snapshot(worker).conflicts == before
