"""Claims that lose: kept when two were granted, or when work was done that nobody would know of."""

from __future__ import annotations

import pytest

from meshd.core.claim import Claim, ClaimStatus, register_value
from meshd.core.conflicts import found
from meshd.core.documents import Change, Conflict, Document, Kind, Register, fragment
from meshd.core.effects import Accepted, Rejected
from meshd.core.inputs import TakeConflict
from meshd.model import Stamp
from tests.core.claims import PATH, SITE, claim, held, write
from tests.core.mesh import Host, Mesh, three

LIFE = Stamp(1, 0, "dev-01")
CLAIMED, IN_PROGRESS, RELEASED = ClaimStatus.CLAIMED, ClaimStatus.IN_PROGRESS, ClaimStatus.RELEASED
DONE, FAILED = ClaimStatus.DONE, ClaimStatus.FAILED


def change(what: Claim, host: str = "dev-02", utc_ms: int = 9, life: Stamp = LIFE) -> Change:
    stamp = Stamp(utc_ms, 0, host)
    return Change(f"{host}.s", 2, stamp, "site", life, Kind.UPDATED, {PATH: register_value(what)})


def conflicts(there: Claim, new: Change, host: str = "dev-01") -> list[Conflict]:
    return found(fragment(change(there, host, 5)), new, 0)


@pytest.mark.parametrize(
    ("there", "new"),
    [
        (claim(2, id="c-1"), claim(1, DONE)),  # a late result
        (claim(2, RELEASED, id=""), claim(1, FAILED)),
        (claim(2, DONE, id="c-1"), claim(1, DONE)),
        (claim(1, holder="dev-01", id="a-1"), claim(1)),  # granted twice
        (claim(1, DONE, holder="dev-01", id="a-1"), claim(1, IN_PROGRESS)),
    ],
)
def test_a_claim_that_arrives_and_loses_is_kept(there: Claim, new: Claim) -> None:
    (conflict,) = conflicts(there, change(new))
    assert (conflict.path, conflict.value, conflict.gone) == (PATH, register_value(new), False)
    assert (conflict.stamp, conflict.winner) == (Stamp(9, 0, "dev-02"), Stamp(5, 0, "dev-01"))


@pytest.mark.parametrize(
    ("there", "new"),
    [
        (claim(1, DONE, id="a-1"), claim(2, IN_PROGRESS)),
        (claim(1, FAILED, id="a-1"), claim(2, IN_PROGRESS)),
        (claim(1, holder="dev-03", id="c-1"), claim(1)),
        (claim(1, IN_PROGRESS, id="a-1"), claim(1, DONE)),
    ],
)
def test_a_claim_is_kept_when_one_arrives_that_did_not_know_of_it(there: Claim, new: Claim) -> None:
    (conflict,) = conflicts(there, change(new))
    assert (conflict.value, conflict.stamp) == (register_value(there), Stamp(5, 0, "dev-01"))


@pytest.mark.parametrize(
    ("there", "new"),
    [
        (claim(1), claim(1, IN_PROGRESS)),
        (claim(1, IN_PROGRESS), claim(1, DONE)),
        (claim(1, DONE), claim(1, RELEASED)),
        (claim(1, FAILED), claim(1, RELEASED)),
        (claim(1, RELEASED), claim(2, id="c-1")),
        (claim(1, FAILED, retry_ms=5), claim(2, id="c-1")),
        (claim(1, FAILED), claim(2, RELEASED, id="")),
        (claim(1, DONE), claim(2, RELEASED, id="")),
        (claim(2, id="c-1"), claim(1, IN_PROGRESS)),
        (claim(2, id="c-1"), claim(1, RELEASED)),
        (claim(2, RELEASED, id=""), claim(2, RELEASED, id="")),
        (claim(2, RELEASED, id=""), claim(2, id="c-1")),
    ],
)
def test_claims_that_follow_each_other_or_did_nothing_are_no_conflict(there: Claim, new: Claim) -> None:
    assert conflicts(there, change(new)) == []


def test_what_one_host_wrote_in_this_order_is_no_conflict() -> None:
    assert conflicts(claim(1, DONE, id="a-1"), change(claim(2)), host="dev-02") == []
    assert conflicts(claim(2, id="c-1"), change(claim(1, DONE), utc_ms=4), host="dev-02") == []
    assert len(conflicts(claim(2, RELEASED, id=""), change(claim(1, DONE)), host="dev-02")) == 1


def test_what_is_no_claim_is_no_conflict() -> None:
    broken = Document("site", LIFE, {PATH: Register(Stamp(5, 0, "dev-01"), "broken")})
    assert found(broken, change(claim(1, DONE)), 0) == []


def test_of_one_claim_each_end_is_kept_once() -> None:
    there = claim(1, holder="dev-01", id="a-1")
    writes = [claim(), claim(status=IN_PROGRESS), claim(status=IN_PROGRESS, note="half"), claim(status=FAILED)]
    kept = [conflicts(there, change(what, utc_ms=9 + at))[0].id for at, what in enumerate(writes)]
    assert len(set(kept[:3])) == 1
    assert kept[3] != kept[0]


@pytest.mark.parametrize(("status", "is_kept"), [(CLAIMED, False), (IN_PROGRESS, False), (DONE, True), (FAILED, True)])
def test_of_work_on_what_was_deleted_the_result_is_kept(status: ClaimStatus, is_kept: bool) -> None:
    deleted = Document("site", LIFE, {}, ended=Stamp(5, 0, "dev-01"))
    begun_again = Document("site", Stamp(6, 0, "dev-01"), {})
    for before in (deleted, begun_again):
        assert bool(found(before, change(claim(status=status)), 0)) is is_kept


def late_result() -> tuple[Mesh, Host, Host, Host]:
    """A worker without its primary ends what another has taken over meanwhile."""
    mesh, primary, worker, other = three()
    mesh.put(primary, "site", SITE)
    write(mesh, primary, claim())
    mesh.settle()
    mesh.part(worker, primary)
    mesh.part(worker, other)
    mesh.advance(1)
    write(mesh, worker, claim(status=DONE, note="late"))
    write(mesh, primary, claim(status=RELEASED))
    write(mesh, primary, claim(2, id="c-1", holder="dev-03"))
    mesh.join(worker, primary)
    mesh.join(worker, other)
    mesh.advance(30)
    return mesh, primary, worker, other


def stands(mesh: Mesh, host: Host) -> tuple[int, str]:
    """Generation and name of the claim that stands; how far it is, is its holder's and its primary's."""
    there = held(mesh, host)
    assert there is not None
    return there.generation, there.id


def test_a_late_result_is_known_to_everybody() -> None:
    mesh, primary, worker, other = late_result()
    for host in (primary, worker, other):
        assert stands(mesh, host) == (2, "c-1")
        (conflict,) = mesh.snapshot(host).conflicts
        assert (conflict.path, conflict.value) == (PATH, register_value(claim(status=DONE, note="late")))
        assert len(host.events("conflict:found")) == 1


def test_a_late_result_is_not_taken_back_but_forgotten() -> None:
    mesh, primary, worker, other = late_result()
    (conflict,) = mesh.snapshot(worker).conflicts
    refused = mesh.command(worker, TakeConflict(0, "site", conflict.id))
    assert isinstance(refused, Rejected)
    assert refused.code == "invalid"
    assert "meshd retry" in refused.detail
    assert isinstance(mesh.command(worker, TakeConflict(0, "site", conflict.id, take=False)), Accepted)
    mesh.settle()
    for host in (primary, worker, other):
        assert not mesh.snapshot(host).conflicts
        assert stands(mesh, host) == (2, "c-1")
