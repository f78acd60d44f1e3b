"""The leadership history: who led from when on, in which term, and why; each turn a row, an event and a log line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import define, field

from meshd.core.ballot import MAX_TURNS, Turn
from meshd.core.effects import Effect, Emit, Level, Note, Persist, SaveLeadership
from meshd.model import Now


@define
class History:
    """The latest turns, oldest first; `cause` of the latest that this instance has seen itself."""

    turns: list[Turn] = field(factory=list)
    cause: str = "it has just started"

    @classmethod
    def restored(cls, turns: Iterable[Turn]) -> History:
        """Go on where the store ends."""
        kept = list(turns)
        return cls(kept, kept[-1].cause) if kept else cls()

    @property
    def term(self) -> int:
        """The term of the latest turn."""
        return self.turns[-1].term if self.turns else 0

    @property
    def leader(self) -> str | None:
        """Who leads as far as is known here."""
        return self.turns[-1].leader if self.turns else None

    def turned(self, term: int, leader: str | None, cause: str, now: Now) -> Iterator[Effect]:
        """Another leads from here on, or in another term; None when nobody does."""
        self.cause = cause
        turn = Turn(self.turns[-1].id + 1 if self.turns else 1, now.utc_ms, term, leader, cause)
        self.turns.append(turn)
        del self.turns[:-MAX_TURNS]
        yield Persist(SaveLeadership(turn))
        yield Note(Level.INFO, f"{leader or 'nobody'} leads in term {term}: {cause}", {"term": term})
        yield Emit("sync:leadership-changed", {"leader": leader, "term": term, "cause": cause})
