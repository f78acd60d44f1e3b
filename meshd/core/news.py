"""What one step made different in the documents, for work intake: whether anything, and which claims were met.

Rules: it holds what happened since it was last cleared, which `node` does before each step. What is heard again is no
news. A claim that loses to the one that stands is met too: two of one phase may both have been worked on.
"""

from __future__ import annotations

from attrs import define, field, frozen

from meshd import project
from meshd.core.claim import Claim, claim_of
from meshd.core.documents import Document, Register
from meshd.core.phases import Place


@frozen
class ClaimMet:
    """A claim register that arrived, or was written here, over `before` (None: the phase had no claim).

    `stands` says whether it took that one's place, or lost to it. `origin` is the change's, `exchange` for what came
    with a whole document.
    """

    place: Place
    before: Claim | None
    claim: Claim
    stands: bool
    origin: str


@define
class News:
    """`is_touched`: some document is another than before."""

    is_touched: bool = False
    claims: list[ClaimMet] = field(factory=list)

    def clear(self) -> None:
        self.is_touched, self.claims = False, []

    def take_claims(self) -> list[ClaimMet]:
        """The claims met since they were last taken."""
        met, self.claims = self.claims, []
        return met

    def merged(self, before: Document | None, after: Document, incoming: Document, origin: str) -> None:
        """`incoming` arrived where `before` was; `after` is what became of both."""
        was = before if before and before.life == after.life and not before.ended else None
        self.is_touched |= after is not before
        if incoming.life == after.life:
            for path, register in incoming.registers.items():
                if phase := project.claimed_phase(path):
                    self._meet((after.slug, *phase), was, after, path, register, origin)

    def _meet(
        self, place: Place, was: Document | None, after: Document, path: str, register: Register, origin: str
    ) -> None:
        there, claim = was.registers.get(path) if was else None, claim_of(register.value)
        if claim and not (there and there.stamp == register.stamp):
            stands = after.registers.get(path) is register
            self.claims.append(ClaimMet(place, claim_of(there.value) if there else None, claim, stands, origin))
