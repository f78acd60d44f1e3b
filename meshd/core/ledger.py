"""The claims as they stand in the documents: read, looked up by holder, and written.

A claim is written like any other change of this host (`replication`): durable, told to all, replayed when there was no
primary. Who may write which claim is the business of `claims`, `leases` and `holding`.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define

from meshd.core.claim import Claim
from meshd.core.effects import Effect
from meshd.core.handshake import Handshake
from meshd.core.phases import Board, Place
from meshd.core.replication import Replication
from meshd.model import Dialect, Now


@define
class Ledger:
    """All claims of all phases."""

    replication: Replication
    handshake: Handshake

    @property
    def board(self) -> Board:
        return self.replication.board

    def claim(self, place: Place) -> Claim | None:
        """The claim that stands at a phase, if the phase is there."""
        phase = self.board.phase(place)
        return phase.claim if phase else None

    def write(self, place: Place, claim: Claim, now: Now) -> Iterator[Effect]:
        """Let this claim stand there, unless one with more right does."""
        yield from self.replication.write_claim(place, claim, self.handshake.links(Dialect.NATIVE), now)
