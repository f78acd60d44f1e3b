"""The claims as they stand in the documents: read, looked up by holder, and written.

A claim is written like any other change of this host (`replication`): durable, told to all, replayed when there was no
primary. Who may write which claim is the business of `claims`, `leases` and `holding`.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field

from meshd.core.board import Board
from meshd.core.claim import Claim, claim_of
from meshd.core.effects import Effect
from meshd.core.handshake import Handshake
from meshd.core.phases import Place
from meshd.core.replication import Replication
from meshd.model import Dialect, Now, Stamp
from meshd.project import claimed_phase


@define
class Ledger:
    """All claims of all phases. `_live` holds, by holder, the places of the claims that were live when last told."""

    replication: Replication
    handshake: Handshake
    _live: dict[str, dict[Place, None]] = field(factory=dict)
    _holders: dict[Place, str] = field(factory=dict)

    @classmethod
    def restored(cls, replication: Replication, handshake: Handshake) -> Ledger:
        ledger = cls(replication, handshake)
        for document in replication.documents.values():
            for path, register in document.registers.items():
                if phase := claimed_phase(path):
                    ledger.turned((document.slug, *phase), claim_of(register.value))
        return ledger

    @property
    def board(self) -> Board:
        return self.replication.board

    def claim(self, place: Place) -> Claim | None:
        """The claim that stands at a phase, if the phase is there."""
        phase = self.board.phase(place)
        return phase.claim if phase else None

    def life(self, place: Place) -> Stamp | None:
        """The life of the document that a phase is in."""
        document = self.replication.documents.get(place[0])
        return document.life if document and document.ended is None else None

    def write(self, place: Place, claim: Claim, now: Now) -> Iterator[Effect]:
        """Let this claim stand there, unless one with more right does."""
        yield from self.replication.write_claim(place, claim, self.handshake.links(Dialect.NATIVE), now)

    def turned(self, place: Place, claim: Claim | None) -> None:
        """Another claim stands at a phase, which may not be there yet: a large document comes in parts."""
        if (holder := self._holders.pop(place, None)) is not None:
            self._live[holder].pop(place)
        if claim and claim.is_live:
            self._holders[place] = claim.holder
            self._live.setdefault(claim.holder, {})[place] = None

    def holders(self) -> list[str]:
        """Everybody who may hold a claim."""
        return [holder for holder, places in self._live.items() if places]

    def live_of(self, holder: str) -> dict[str, Place]:
        """The claims that somebody holds."""
        found = ((place, self.claim(place)) for place in self._live.get(holder, ()))
        return {claim.id: place for place, claim in found if claim and claim.is_live and claim.holder == holder}
