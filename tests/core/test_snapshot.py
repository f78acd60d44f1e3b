"""The picture that the API, the CLI and the dashboard see: whole, and of one moment."""

from __future__ import annotations

import pytest
from attrs.exceptions import FrozenInstanceError

from meshd.core.inputs import HeartbeatDue
from meshd.model import Capacity, Dialect, Role, Status
from tests.core.mesh import EPOCH_MS, three, url_of


def test_a_snapshot_stays_as_it_was() -> None:
    mesh, _, worker, _ = three()
    before = mesh.snapshot(worker)
    mesh.put(worker, "site", {"title": "T"})
    mesh.step(worker, HeartbeatDue(Capacity(cores=9)))
    assert "site" not in before.documents
    assert before.capacity.cores == 2
    assert before.queued_changes == 0
    assert mesh.snapshot(worker).root != before.root
    with pytest.raises(FrozenInstanceError):
        before.term = 7  # type: ignore[misc]  # what this test is about
    with pytest.raises(TypeError):
        before.documents["site"] = None  # type: ignore[index]  # what this test is about


def test_who_leads_is_seen_from_everywhere() -> None:
    mesh, *hosts = three()
    for host in hosts:
        snapshot = mesh.snapshot(host)
        assert (snapshot.primary_id, snapshot.primary_url) == ("dev-01", url_of("dev-01"))
        assert snapshot.role is (Role.PRIMARY if host.name == "dev-01" else Role.WORKER)
        assert (snapshot.connected, snapshot.status, snapshot.mesh_enabled) == (True, Status.ALIVE, True)


def test_a_worker_without_its_primary_is_not_connected() -> None:
    mesh, primary, worker, _ = three()
    mesh.crash(primary)
    snapshot = mesh.snapshot(worker)
    assert not snapshot.connected
    assert snapshot.partition_since_ms == EPOCH_MS + round(mesh.mono_s * 1000)
    assert snapshot.primary_id == "dev-01", "who it was is still known"


def test_a_member_is_shown_with_its_age() -> None:
    mesh, primary, worker, _ = three()
    mesh.advance(10)
    (member,) = [member for member in mesh.snapshot(primary).members if member.instance_id == worker.name]
    assert (member.dialect, member.linked, member.priority) == (Dialect.NATIVE, True, 1)
    assert 9 < member.age_s < 12
    assert abs(member.last_seen_ms - (EPOCH_MS + mesh.mono_s * 1000 - member.age_s * 1000)) < 2


def test_oneself_is_no_member() -> None:
    mesh, *hosts = three()
    for host in hosts:
        assert host.name not in mesh.statuses(host)
        assert len(mesh.snapshot(host).members) == 2


def test_vitals_say_the_same_as_a_snapshot() -> None:
    mesh, primary, worker, _ = three()
    mesh.part(worker, primary)
    mesh.put(worker, "site", {"title": "T"})
    for host, decides in ((primary, True), (worker, False)):
        assert host.node is not None
        snapshot, vitals = mesh.snapshot(host), host.node.vitals(mesh.now(host))
        decides_in = snapshot.term if decides else None
        assert (vitals.decides_in, vitals.policy) == (decides_in, snapshot.leadership.policy)
        assert (vitals.queued_edits, vitals.members) == (snapshot.queued_changes, len(snapshot.members))
        assert vitals.links == sum(member.linked for member in snapshot.members)
        assert vitals.alerts == len(snapshot.alerts)
