"""What voters keep of claims that are about to be granted."""

from __future__ import annotations

import pytest
from attrs import evolve

from meshd.core.ballot import Proposal
from meshd.core.effects import DropProposal, Persist, SaveProposal
from meshd.core.takeover import Proposals
from meshd.model import Stamp

LIFE = Stamp(1, 0, "dev-01")

FIRST = Proposal(2, "site", "m", "p", LIFE, "x-1", 3, "dev-02", 1, 1_000)


def learned(*told: Proposal) -> Proposals:
    proposals = Proposals()
    for each in told:
        list(proposals.learn([each]))
    return proposals


def test_what_is_kept_is_on_disk_and_there_after_a_restart() -> None:
    proposals = Proposals()
    assert list(proposals.keep(FIRST)) == [Persist(SaveProposal(FIRST))]
    assert Proposals.restored([FIRST]).told() == proposals.told() == (FIRST,)


@pytest.mark.parametrize(
    ("other", "counts"),
    [
        (evolve(FIRST, term=3, generation=1, claim="x-2"), "the newer term"),
        (evolve(FIRST, generation=4, claim="x-2"), "in one term the greater generation"),
    ],
)
def test_of_two_proposals_of_a_phase_one_counts_whichever_is_learned_first(other: Proposal, counts: str) -> None:
    assert learned(FIRST, other).told() == learned(other, FIRST).told() == (other,), counts


def test_what_is_known_is_not_written_again() -> None:
    assert list(learned(FIRST).learn([FIRST])) == []


def test_phases_are_kept_apart() -> None:
    other = evolve(FIRST, phase="q", claim="x-2")
    assert learned(FIRST, other).told() == (FIRST, other)


EARLIER, LATER = Stamp(0, 9, "dev-09"), Stamp(2, 0, "dev-01")


@pytest.mark.parametrize(
    ("life", "generation", "goes"),
    [(LIFE, 2, False), (LIFE, 3, True), (LIFE, 4, True), (EARLIER, 4, False), (LATER, 1, True)],
)
def test_it_goes_when_its_document_holds_that_generation_or_has_begun_anew(
    life: Stamp, generation: int, goes: bool
) -> None:
    proposals = learned(FIRST)
    dropped = list(proposals.granted(FIRST.place, life, generation))
    assert dropped == ([Persist(DropProposal("site", "m", "p"))] if goes else [])
    assert proposals.told() == (() if goes else (FIRST,))
    assert list(proposals.granted(("site", "m", "q"), LIFE, 9)) == []
