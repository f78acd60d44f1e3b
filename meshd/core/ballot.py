"""What an instance has promised about who leads: its term, its vote, what it stored for others, and the history."""

from __future__ import annotations

from attrs import frozen

from meshd.model import Stamp

MAX_TURNS = 1000  # years of a quiet mesh, days of a restless one


@frozen
class Ballot:
    """On disk before it is used: `term` never goes back, `vote` is cast once in it.

    `leader` is whom this instance follows, or last followed; None when that one said goodbye or nobody was ever
    followed. It may still count on us, so that we vote for nobody else for a while: for `ttl_ms` after it was heard.
    That is kept because the TTL may be another after a restart.
    """

    term: int = 0
    vote: str | None = None
    leader: str | None = None
    ttl_ms: int = 0


@frozen
class Proposal:
    """A claim that a primary wants to grant, as voters keep it for its successor.

    `claim` names it, and the request of `holder`; `generation` is what the phase would be at, in this `life` of its
    document. The rest is what the claim would say (`meshd.core.claim`).
    """

    term: int
    slug: str
    milestone: str
    phase: str
    life: Stamp
    claim: str
    generation: int
    holder: str
    priority: int | None
    claimed_ms: int
    attempts: int = 0

    @property
    def place(self) -> tuple[str, str, str]:
        """The phase: project, milestone, name."""
        return self.slug, self.milestone, self.phase


@frozen
class Turn:
    """One row of the leadership history: from `utc_ms` on `leader` led in `term` (None: nobody), because of `cause`."""

    id: int
    utc_ms: int
    term: int
    leader: str | None
    cause: str
