"""A queue made shorter without losing anything but what was overwritten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshd.core.claim import ClaimStatus, register_value
from meshd.core.coalescing import coalesced
from meshd.core.documents import Change, Document, Kind, fragment, merge
from meshd.core.effects import Accepted, Rejected
from meshd.model import Json, JsonObject, Stamp
from tests.core.claims import PATH, claim
from tests.core.mesh import Host, Mesh, three
from tests.core.strategies import claim_values

LIFE = Stamp(1, 0, "dev-02")


def update(seq: int, fields: JsonObject, *, removed: tuple[str, ...] = (), base: Stamp | None = None) -> Change:
    bases = dict.fromkeys((*fields, *removed), base) if base else {}
    return Change("dev-02.s", seq, Stamp(seq, 0, "dev-02"), "site", LIFE, Kind.UPDATED, fields, removed, bases)


def test_of_one_register_the_newest_stays() -> None:
    done = coalesced([update(2, {"title": 1}), update(3, {"title": 2, "goal": 1}), update(4, {"title": 3})])
    assert done.gone == (2,)
    assert [(change.seq, change.fields) for change in done.smaller] == [(3, {"goal": 1})]


def test_a_removal_is_a_write() -> None:
    assert coalesced([update(2, {"title": 1}), update(3, {}, removed=("title",))]).gone == (2,)


def test_the_earliest_base_is_taken_over() -> None:
    seen = Stamp(1, 5, "dev-01")
    (smaller,) = coalesced([update(2, {"t": 1}, base=seen), update(3, {"t": 2}, base=Stamp(2, 0, "dev-02"))]).smaller
    assert smaller.bases == {"t": seen}


def test_what_was_deleted_afterwards_goes() -> None:
    deletion = Change("dev-02.s", 4, Stamp(4, 0, "dev-02"), "site", LIFE, Kind.DELETED)
    assert coalesced([update(2, {"title": 1}), update(3, {"goal": 1}), deletion]).gone == (2, 3)


EDITS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), min_size=1, max_size=2)


@given(st.lists(EDITS, max_size=12))
def test_what_is_left_says_the_same(edits: list[JsonObject]) -> None:
    queue = [update(seq, fields) for seq, fields in enumerate(edits, start=2)]
    done = coalesced(queue)
    smaller = {change.seq: change for change in done.smaller}
    left = [smaller.get(change.seq, change) for change in queue if change.seq not in done.gone]
    assert applied(left) == applied(queue)
    assert coalesced(left).gone == ()


def test_a_claim_stays_that_no_later_one_beats() -> None:
    """A person adds a phase again, after which the work on the phase as it was comes to its end."""
    claims = [
        claim(1),
        claim(1, ClaimStatus.IN_PROGRESS),
        claim(2, ClaimStatus.RELEASED, id=""),
        claim(1, ClaimStatus.FAILED),
        claim(1, ClaimStatus.DONE),
    ]
    queue = [update(seq, {PATH: register_value(one)}) for seq, one in enumerate(claims, start=2)]
    assert coalesced(queue).gone == (2, 3, 5)


@given(st.lists(claim_values, max_size=8))
def test_what_is_left_of_claims_says_the_same(written: list[Json]) -> None:
    queue = [update(seq, {PATH: value}) for seq, value in enumerate(written, start=2)]
    left = [change for change in queue if change.seq not in coalesced(queue).gone]
    assert applied(left) == applied(queue)
    assert coalesced(left).gone == ()


def applied(queue: list[Change]) -> Document:
    document = Document("site", LIFE, {})
    for change in queue:
        document = merge(document, fragment(change))
    return document


def full() -> tuple[Mesh, Host, Host]:
    """A worker without its primary that may queue 10 changes, and has queued them, all of one field."""
    mesh, primary, worker, other = three(max_changes=10)
    mesh.put(primary, "site", {"title": "T"})
    mesh.settle()
    mesh.part(worker, primary)
    mesh.part(worker, other)
    mesh.advance(1)
    for number in range(10):
        mesh.patch(worker, "site", {"title": number})
    return mesh, primary, worker


def test_a_full_outbox_makes_room_and_goes_on() -> None:
    mesh, primary, worker = full()
    for number in range(100):
        assert isinstance(mesh.patch(worker, "site", {"title": number, "goal": number}), Accepted)
    assert mesh.snapshot(worker).queued_changes <= 10
    mesh.crash(worker)
    mesh.start(worker)
    mesh.join(worker, primary)
    mesh.advance(30)
    assert mesh.document(primary, "site") == {"slug": "site", "title": 99, "goal": 99}
    assert mesh.snapshot(worker).queued_changes == 0


def test_a_full_outbox_of_different_fields_refuses() -> None:
    mesh, _, worker = full()
    outcomes = [mesh.patch(worker, "site", {f"key-{number}": 1}) for number in range(20)]
    assert any(isinstance(outcome, Accepted) for outcome in outcomes)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Rejected)]
    assert {outcome.code for outcome in refused} == {"outbox-full"}
    assert mesh.snapshot(worker).queued_changes == 10
