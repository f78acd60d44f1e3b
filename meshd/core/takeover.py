"""What voters keep of claims that a primary is about to grant, for whoever leads next.

Rules (design, section 8, "Take-over"; the thesis of Raft's author, 2014, section 3.6):

- A voter stores a proposal durably before it says so, and none of an older term than its own. So of every claim that
  was granted any majority of the voters knows: as a proposal, or already from the document.
- In one term there is one proposal for a generation of a phase. Of two the one of the newer term counts, in one term
  the one of the greater generation.
- It goes when the document, in the life that it was made in, holds a claim of that generation or a later one; and
  when the document has begun a later life.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import define, field

from meshd.core.ballot import Proposal
from meshd.core.effects import DropProposal, Effect, Persist, SaveProposal
from meshd.core.phases import Place
from meshd.model import Stamp


@define
class Proposals:
    """The proposals that an instance has stored, by phase."""

    stored: dict[Place, Proposal] = field(factory=dict)

    @classmethod
    def restored(cls, proposals: Iterable[Proposal]) -> Proposals:
        return cls({proposal.place: proposal for proposal in proposals})

    def told(self) -> tuple[Proposal, ...]:
        """As a vote carries them, and the end of an exchange."""
        return tuple(self.stored.values())

    def learn(self, told: Iterable[Proposal]) -> Iterator[Effect]:
        """Others have stored these."""
        for proposal in told:
            known = self.stored.get(proposal.place)
            if known is None or (proposal.term, proposal.generation) > (known.term, known.generation):
                yield from self.keep(proposal)

    def keep(self, proposal: Proposal) -> Iterator[Effect]:
        """Store a proposal in place of an older one of its phase."""
        self.stored[proposal.place] = proposal
        yield Persist(SaveProposal(proposal))

    def granted(self, place: Place, life: Stamp, generation: int) -> Iterator[Effect]:
        """The document, in this life, holds a claim of this generation."""
        known = self.stored.get(place)
        if known and (known.life < life or (known.life == life and known.generation <= generation)):
            del self.stored[place]
            yield Persist(DropProposal(*place))
