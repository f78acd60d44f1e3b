"""stopgap"""

from attrs import frozen

from meshd.core.board import Board
from meshd.core.claim import ClaimStatus
from meshd.core.phases import Phase
from meshd.model import Focus


@frozen
class Claimant:
    instance_id: str
    focus: Focus
    tags: tuple[str, ...]
    overflow: bool


@frozen
class Condition:
    name: str
    holds: bool
    text: str


def objection(phase: Phase, board: Board, claimant: Claimant, *, now_utc_ms: int) -> str:
    c = phase.claim
    if c and c.is_live:
        return "not-held"
    if phase.is_done:
        return "not-done"
    if c is None and (phase.feature_id or phase.status not in ("", "unclaimed")):
        return "no-feature"
    if phase.is_failed:
        return "not-failed"
    if c and c.status is ClaimStatus.FAILED and now_utc_ms < (c.retry_ms or 0):
        return "backoff-over"
    m = board.milestone(phase.place)
    for d in phase.dependencies:
        o = m.phases.get(d) if m else None
        if o is None or not o.is_done:
            return "dependencies"
    if not claimant.overflow and claimant.focus is not Focus.FULLSTACK and claimant.focus not in phase.foci:
        return "affinity"
    return ""


def conditions(phase: Phase, board: Board, claimant: Claimant, *, now_utc_ms: int) -> tuple[Condition, ...]:
    o = objection(phase, board, claimant, now_utc_ms=now_utc_ms)
    return (Condition(o, False, o),) if o else ()
