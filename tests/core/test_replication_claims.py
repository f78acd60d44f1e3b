"""Claims on their way: changes like any other, that nothing refuses."""

from __future__ import annotations

from attrs import evolve

from meshd.core.claim import ClaimStatus
from meshd.core.effects import Rejected
from meshd.core.news import ClaimMet
from tests.core.claims import PLACE, SITE, claim, held, write
from tests.core.mesh import three


def test_a_claim_reaches_everybody_and_is_told_as_an_update() -> None:
    mesh, primary, worker, other = three()
    mesh.put(primary, "site", SITE)
    mesh.settle()
    granted = claim()
    assert write(mesh, primary, granted) == [ClaimMet(PLACE, None, granted, stands=True, origin="dev-01.s1")]
    mesh.settle()
    started = evolve(granted, status=ClaimStatus.IN_PROGRESS, feature_id="f")
    write(mesh, worker, started)
    mesh.settle()
    for host in (primary, worker, other):
        assert held(mesh, host) == started
        assert len(host.events("project:updated")) == 2
        assert not mesh.snapshot(host).conflicts


def test_a_claim_written_without_a_primary_arrives_when_there_is_one() -> None:
    mesh, primary, worker, other = three()
    mesh.put(primary, "site", SITE)
    write(mesh, primary, claim())
    mesh.settle()
    mesh.part(worker, primary)
    mesh.part(worker, other)
    mesh.advance(1)
    done = claim(status=ClaimStatus.DONE)
    write(mesh, worker, done)
    write(mesh, primary, claim(status=ClaimStatus.RELEASED))
    mesh.crash(worker)
    mesh.start(worker)
    mesh.join(worker, primary)
    mesh.join(worker, other)
    mesh.advance(30)
    assert [held(mesh, host) for host in (primary, worker, other)] == [done] * 3
    assert mesh.snapshot(worker).queued_changes == 0


def test_a_claim_is_written_over_a_full_outbox() -> None:
    mesh, primary, worker, other = three(max_changes=2)
    mesh.put(primary, "site", SITE)
    mesh.settle()
    mesh.part(worker, primary)
    mesh.part(worker, other)
    mesh.advance(1)
    assert not isinstance(mesh.patch(worker, "site", {"title": 1}), Rejected)
    assert not isinstance(mesh.patch(worker, "site", {"goal": 1}), Rejected)
    assert isinstance(mesh.patch(worker, "site", {"status": 1}), Rejected)
    for status in (ClaimStatus.CLAIMED, ClaimStatus.IN_PROGRESS, ClaimStatus.DONE):
        write(mesh, worker, claim(status=status))
    assert held(mesh, worker) == claim(status=ClaimStatus.DONE)
    assert mesh.snapshot(worker).queued_changes <= 4
    mesh.join(worker, primary)
    mesh.join(worker, other)
    mesh.advance(30)
    assert held(mesh, primary) == claim(status=ClaimStatus.DONE)


def test_nothing_is_written_to_what_does_not_live() -> None:
    mesh, primary, _, _ = three()
    assert write(mesh, primary, claim()) == []
    mesh.put(primary, "site", SITE)
    mesh.delete(primary, "site")
    before = primary.disk.stored()
    assert write(mesh, primary, claim()) == []
    assert primary.disk.stored() == before
