"""What an instance finds on its disk is what it goes on with."""

from __future__ import annotations

from meshd.core.documents import Change, Document, Kind, Register
from meshd.core.effects import Accepted
from meshd.core.stored import Stored
from meshd.model import Stamp
from tests.core.mesh import EPOCH_MS, Disk, Mesh, configuration

LIFE = Stamp(1, 0, "dev-02")


def test_a_new_store_holds_nothing() -> None:
    assert Stored("s1") == Stored("s1", {}, (), {}, {})


def test_documents_outbox_and_seqs_are_taken_up_again() -> None:
    mesh = Mesh()
    worker = mesh.add(configuration("dev-02"))
    queued = Change("dev-02.s1", 7, LIFE, "site", LIFE, Kind.CREATED, {"title": "T"})
    site = Document("site", LIFE, {"title": Register(LIFE, "T")})
    worker.disk = Disk("s1", {"site": site}, {7: queued}, {"dev-02.s1": 7, "dev-03.s1": 4})
    mesh.start(worker)
    snapshot = mesh.snapshot(worker)
    assert (snapshot.store, snapshot.queued_changes, snapshot.documents) == ("s1", 1, {"site": site})
    assert isinstance(mesh.put(worker, "site", {"title": "U"}), Accepted)
    assert [change.seq for change in worker.disk.outbox.values()] == [7, 8]


def test_stamps_go_on_from_the_greatest_on_disk() -> None:
    future = Stamp(EPOCH_MS * 2, 3, "dev-09")
    for disk in (
        Disk("s1", {"other": Document("other", LIFE, {"title": Register(future, "T")})}),
        Disk("s1", {"other": Document("other", LIFE, {}, ended=future)}),
        Disk("s1", {}, {1: Change("dev-02.s1", 1, future, "other", LIFE, Kind.UPDATED, {"title": "T"})}),
    ):
        mesh = Mesh()
        worker = mesh.add(configuration("dev-02"))
        worker.disk = disk
        mesh.start(worker)
        mesh.put(worker, "site", {"title": "T"})
        assert worker.disk.documents["site"].life == Stamp(EPOCH_MS * 2, 4, "dev-02")
