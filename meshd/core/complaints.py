"""What peers sent that was refused or ignored: counted by reason, and said once.

Rule: a warning the first time, for debugging only when it repeats, so that no peer can fill the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from attrs import define, field

from meshd.core.effects import Effect, Level, Note

MAX_TOLD = 10_000  # warnings remembered as told; past it they are told again


@define
class Complaints:
    """`dropped` counts by reason, since the instance started."""

    dropped: Counter[str] = field(factory=Counter)
    _told: set[tuple[str, str]] = field(factory=set)

    def count(self, reason: str) -> None:
        """Something was dropped for this reason."""
        self.dropped[reason] += 1

    def once(self, kind: str, peer: str, text: str) -> Iterator[Effect]:
        """Say this of `peer`, aloud the first time for each `kind`."""
        level = Level.DEBUG if (kind, peer) in self._told else Level.WARNING
        if len(self._told) < MAX_TOLD:
            self._told.add((kind, peer))
        yield Note(level, text, {"peer": peer})
