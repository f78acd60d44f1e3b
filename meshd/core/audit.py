"""What was claimed on both sides of a partition, or of a split brain.

Rules (design, section 8; specification, "Partition Recovery"):

- Two claims of one generation of one phase, by different claimants, can only have been taken by two sides. The hub,
  through which every change passes once, sees them meet: in a change, or in an exchange.
- Which one stands follows from the claims' order alone, the same on every host: finished work, else the holder that
  stands earlier in `peers`. When it is still held, the hub writes it again in a new generation, so that nothing the
  other side still does can stand in its place. The other one is told to stop; its feature goes back to the backlog.
- Each is reported: as an event `sync:dual-claim`, which is kept, and as a line of the log.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, evolve

from meshd.core.claim import BEHIND_ALL, Claim, ClaimStatus
from meshd.core.effects import Effect, Emit, Level, Note
from meshd.core.ledger import Ledger
from meshd.core.phases import Place
from meshd.model import Now


@define
class Audit:
    """Looks at claims that met."""

    ledger: Ledger

    def met(self, place: Place, winner: Claim, loser: Claim, now: Now) -> Iterator[Effect]:
        """Two claims met at this hub, and one stands."""
        if winner.id == loser.id or winner.generation != loser.generation:
            return
        if BEHIND_ALL in (winner.priority, loser.priority):  # the word of a person, who works on nothing
            return
        outcome = _outcome(winner, loser)
        slug, milestone, phase = place
        yield Emit(
            "sync:dual-claim",
            {
                "projectSlug": slug,
                "milestoneSlug": milestone,
                "phaseSlug": phase,
                "generation": winner.generation,
                "kept": winner.holder,
                "keptFeature": winner.feature_id,
                "released": loser.holder,
                "releasedFeature": loser.feature_id,
                "outcome": outcome,
            },
        )
        text = (
            f"{'/'.join(place)} was claimed by {winner.holder} and {loser.holder}: {winner.holder} keeps it ({outcome})"
        )
        yield Note(Level.WARNING, text, {"generation": winner.generation})
        if winner.is_live and self.ledger.claim(place) == winner:
            yield from self.ledger.write(
                place, evolve(winner, generation=winner.generation + 1, provisional=False), now
            )


def _outcome(winner: Claim, loser: Claim) -> str:
    """What it came to, for a report."""
    if loser.status is ClaimStatus.DONE:
        return "done-twice"
    if winner.status is ClaimStatus.DONE:
        return "finished-work-stands"
    return "higher-priority-keeps"
