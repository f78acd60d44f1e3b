"""What a new primary learns of claims that the old one was about to grant.

Rules (design, section 8, "Take-over"):

- A vote carries what the voter has stored. Of two proposals for one phase the one of the newest term counts.
- Whoever is elected keeps them all under its own term, before it decides anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import define, evolve, field

from meshd.core.ballot import Proposal
from meshd.core.effects import Effect, Persist, SaveProposal


@define
class Proposals:
    """The proposals that an instance has stored, by phase."""

    stored: dict[tuple[str, str, str], Proposal] = field(factory=dict)

    @classmethod
    def restored(cls, proposals: Iterable[Proposal]) -> Proposals:
        return cls({proposal.place: proposal for proposal in proposals})

    def told(self) -> tuple[Proposal, ...]:
        """As a vote carries them."""
        return tuple(self.stored.values())

    def take_over(self, told: Iterable[Proposal], term: int) -> Iterator[Effect]:
        """We were elected in `term` by voters who told us these."""
        for proposal in told:
            known = self.stored.get(proposal.place)
            if known is None or proposal.term > known.term:
                self.stored[proposal.place] = proposal
        for phase, proposal in self.stored.items():
            self.stored[phase] = evolve(proposal, term=term)
            yield Persist(SaveProposal(self.stored[phase]))
