"""The leadership history: who led from when on, in which term, and why."""

from __future__ import annotations

from attrs import define, field

from meshd.core.ballot import MAX_TURNS, Turn
from meshd.model import Now


@define
class History:
    """The latest turns, oldest first."""

    turns: list[Turn] = field(factory=list)

    @property
    def leader(self) -> str | None:
        """Who leads as far as is known here."""
        return self.turns[-1].leader if self.turns else None

    def add(self, now: Now, term: int, leader: str | None, cause: str) -> Turn:
        """The next turn, to be kept."""
        turn = Turn(self.turns[-1].id + 1 if self.turns else 1, now.utc_ms, term, leader, cause)
        self.turns.append(turn)
        del self.turns[:-MAX_TURNS]
        return turn
