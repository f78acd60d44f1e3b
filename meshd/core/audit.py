"""What was claimed on both sides of a partition, or of a split brain.

Rules (design, section 8; specification, "Partition Recovery"):

- Two claims of one generation of one phase, by different claimants, can only have been taken by two sides. So can a
  provisional one, and a later one that was granted over it before it had ended. The hub, through which every change
  passes once, sees them meet: in a change, or in an exchange.
- Which one stands follows from the claims' order alone, the same on every host: finished work, else the holder that
  stands earlier in `peers`. When it is still held, the hub writes it again in a new generation, so that nothing the
  other side still does can stand in its place. The other one is told to stop; its feature goes back to the backlog.
- Each is reported, as an event `sync:dual-claim`, which is kept, and as a line of the log: as what it came to by the
  last word of what arrived together, and again when it comes to something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import define, evolve, field

from meshd.core.claim import BEHIND_ALL, Claim, ClaimStatus
from meshd.core.effects import Effect, Emit, Level, Note
from meshd.core.ledger import Ledger
from meshd.core.news import ClaimMet
from meshd.core.phases import Place
from meshd.model import Now

MAX_TOLD = (
    1000  # meetings remembered: more than two sides have phases in one partition; what is forgotten is told again
)

HIGHER_PRIORITY = "higher-priority-keeps"
RELEASED_BACK = "released back to backlog by the lower-priority instance"
"""The specification's words."""


@define
class Audit:
    """Looks at claims that met. `_told`: of two claims, by their ids, which one stood and what it came to."""

    ledger: Ledger
    _told: dict[frozenset[str], tuple[str, str]] = field(factory=dict)

    def look(self, claims: Iterable[ClaimMet], now: Now) -> Iterator[Effect]:
        """These were met at this hub in one step."""
        meetings: dict[frozenset[str], tuple[Place, Claim, Claim]] = {}
        for met in claims:
            winner, loser = (met.claim, met.before) if met.stands else (met.before, met.claim)
            if winner and loser and _are_of_two_sides(winner, loser, came_late=not met.stands):
                meetings[frozenset((winner.id, loser.id))] = (met.place, winner, loser)
        for ids, meeting in meetings.items():
            yield from self._met(ids, *meeting, now)

    def _met(self, ids: frozenset[str], place: Place, winner: Claim, loser: Claim, now: Now) -> Iterator[Effect]:
        """Two claims met, and one stands."""
        outcome = _outcome(winner, loser)
        if self._told.get(ids) == (winner.id, outcome):
            return
        self._told[ids] = (winner.id, outcome)
        while len(self._told) > MAX_TOLD:
            del self._told[next(iter(self._told))]
        if winner.generation == loser.generation and winner.is_live and self.ledger.claim(place) == winner:
            yield from self.ledger.write(
                place, evolve(winner, generation=winner.generation + 1, provisional=False), now
            )
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
        if outcome == HIGHER_PRIORITY:
            text += f"; {RELEASED_BACK}, {loser.holder}"
        yield Note(Level.WARNING, text, {"generation": winner.generation})


def _are_of_two_sides(winner: Claim, loser: Claim, *, came_late: bool) -> bool:
    """The word of a person, who works on nothing, is no side; nor is what ended before the other began."""
    if winner.id == loser.id or BEHIND_ALL in (winner.priority, loser.priority):
        return False
    is_unended = loser.is_live or (came_late and loser.status is not ClaimStatus.RELEASED)
    return winner.generation == loser.generation or (loser.provisional and is_unended)


def _outcome(winner: Claim, loser: Claim) -> str:
    """What it came to, for a report."""
    if loser.status is ClaimStatus.DONE:
        return "done-twice"
    if winner.status is ClaimStatus.DONE:
        return "finished-work-stands"
    return HIGHER_PRIORITY
