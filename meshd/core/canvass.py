"""One try to be elected: who was asked, and what they answered.

Rules (design, section 7):

- Asked first (`pre`), then in earnest. A candidate gathers answers for `min(2 s, ttl/20)`, so that it hears of better
  placed voters; then a majority is enough.
- A voter that cannot be reached, or is lost before it answers, is silent. When all have answered or are silent, the
  waiting is over.
- Without a quorum only the better-placed are asked, and only whether they are there.
- The configured primary asks, at a cold start, who leads: when nobody does, and too few vote for it, it is a hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from attrs import define, field

from meshd.core.messages import Vote
from meshd.core.standing import Policy
from meshd.core.voting import HEARS_PRIMARY
from meshd.model import Now


def gather_s(ttl_s: float) -> float:
    """How long a candidate listens for better-placed ones."""
    return min(2.0, ttl_s / 20)


def patience_s(ttl_s: float) -> float:
    """How long an answer may take, how long one waits for who was told to go, and until one tries again."""
    return min(15.0, ttl_s / 4)


class Verdict(StrEnum):
    """How a try ends, or that it goes on."""

    OPEN = "open"
    AGREED = "the voters would elect it"
    ELECTED = "elected"
    YIELD = "a better-placed voter goes first"
    HUB = "nobody leads, and too few are there to elect"
    FAILED = "not elected"


@define
class Canvass:
    """The state of a try. Voters are named by their index in `peers`; `asked` are all but ourselves.

    `dialled` are those to whom a link is on its way.
    """

    term: int
    pre: bool
    asked: frozenset[int]
    gather_until_s: float
    give_up_s: float
    transfer: str | None = None
    is_cold_start: bool = False
    yields: bool = True
    votes: dict[int, Vote] = field(factory=dict)
    silent: set[int] = field(factory=set)
    dialled: set[int] = field(factory=set)

    def granted(self) -> list[int]:
        """Who would vote, or voted, for us; in the order of `peers`."""
        return sorted(index for index, vote in self.votes.items() if vote.granted)

    def verdict(self, policy: Policy, missing: int, better: list[int], now: Now) -> Verdict:
        """What the answers so far amount to.

        `missing` are the votes of others that it takes, `better` the better-placed that answered and may lead.
        """
        is_quick = self.is_cold_start and self.pre
        is_over = self.is_complete or now.mono_s >= (self.gather_until_s if is_quick else self.give_up_s)
        if policy is Policy.QUORUM:
            has_gathered = self.is_complete or now.mono_s >= self.gather_until_s
            if len(self.granted()) >= missing and (has_gathered or not self.pre):
                if better and self.yields:
                    return Verdict.YIELD
                return Verdict.AGREED if self.pre else Verdict.ELECTED
            if is_over and self.is_cold_start and not self.hears_primary:
                return Verdict.HUB
        elif is_over and not self.hears_primary:
            return Verdict.YIELD if better and self.yields else Verdict.ELECTED
        return Verdict.FAILED if is_over else Verdict.OPEN

    def told(self, voters: Sequence[str]) -> str:
        """Who did not vote for us, and why."""
        refused = [f"{voters[index]}: {vote.reason}" for index, vote in sorted(self.votes.items()) if not vote.granted]
        silent = [f"{voters[index]}: no answer" for index in sorted(self.asked - self.votes.keys())]
        return f"the last try failed ({', '.join([*refused, *silent])})"

    @property
    def hears_primary(self) -> bool:
        """Whether somebody answered that it has a primary."""
        return any(vote.reason == HEARS_PRIMARY for vote in self.votes.values())

    @property
    def is_complete(self) -> bool:
        return self.asked <= self.votes.keys() | self.silent

    def due_s(self, now: Now) -> float:
        """When to look again."""
        return self.gather_until_s if now.mono_s < self.gather_until_s else self.give_up_s
