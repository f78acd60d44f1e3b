"""The claims as they stand in the documents, by holder."""

from __future__ import annotations

from attrs import evolve

from meshd.core.claim import ClaimStatus
from meshd.core.handshake import Handshake
from meshd.core.ledger import Ledger
from meshd.core.replication import Replication
from meshd.core.stored import Stored
from meshd.model import Now
from tests.core.boards import CLAIM, claimed, document, milestone, phase, project
from tests.core.mesh import configuration

PLACE = ("site", "m", "p")
OTHER = ("site", "m", "q")
NOW = Now(1.0, 1_800_000_000_000)


def ledger(*names: str) -> Ledger:
    """The ledger of a hub whose document has phases `p` and `q`; those named are claimed."""
    state = document(project(milestone("m", phase("p"), phase("q"))))
    for name in names:
        state = claimed(state, "m", name, evolve(CLAIM, id=f"claim-{name}"))
    stored = Stored("s1", documents={"site": state})
    replication = Replication.restored("dev-01", stored, spare_store_id="s2", max_outbox=10, is_hub=True)
    return Ledger.restored(replication, Handshake(configuration("dev-01"), "boot"))


def test_after_a_restart_it_knows_who_holds_what() -> None:
    made = ledger("p", "q")
    assert made.holders() == ["dev-02"]
    assert made.live_of("dev-02") == {"claim-p": PLACE, "claim-q": OTHER}
    assert made.live_of("dev-01") == {}


def test_a_claim_that_is_not_there_is_none() -> None:
    made = ledger("p")
    assert made.claim(OTHER) is None
    assert made.claim(("none", "m", "p")) is None


def test_what_is_written_stands_and_is_told_as_a_claim_met() -> None:
    made = ledger()
    claim = evolve(CLAIM, id="own-1", holder="dev-03")
    list(made.write(PLACE, claim, NOW))
    assert made.claim(PLACE) == claim
    (met,) = made.replication.news.take_claims()
    assert (met.place, met.claim, met.stands) == (PLACE, claim, True)


def test_it_follows_who_holds_a_phase() -> None:
    made = ledger("p")
    taken = evolve(CLAIM, generation=2, id="own-1", holder="dev-03")
    list(made.write(PLACE, taken, NOW))
    made.turned(PLACE, taken)
    assert (made.live_of("dev-02"), made.live_of("dev-03")) == ({}, {"own-1": PLACE})
    released = evolve(taken, status=ClaimStatus.RELEASED)
    list(made.write(PLACE, released, NOW))
    made.turned(PLACE, released)
    assert made.holders() == []
    made.turned(PLACE, None)
    assert made.holders() == []


def test_a_claim_of_a_phase_that_is_not_there_yet_is_known_and_holds_nothing() -> None:
    """A large document comes in parts."""
    made = ledger()
    made.turned(("site", "m", "later"), CLAIM)
    assert made.holders() == ["dev-02"]
    assert made.live_of("dev-02") == {}
