"""A claim: who holds a phase, and the one register in which that stands.

Rules (design, section 4):

- The claim of a phase is one register of its document, at `milestones/<slug>/phases/<name>/@claim`, so that a holder
  is never mixed with another's status. It is written by the primary that grants it, then by its holder, and again by
  the primary when the holder is gone; never by an edit of the document.
- It has its own order. The greater generation wins. Within one, `done` beats all: finished work is never thrown away.
  Then the holder that stands earlier in `peers`, then the later status, then the greater stamp.
- What people see of it are the phase's `executionStatus`, `claimedBy`, `claimedAt`, `featureId`, ... (`shown`). A phase
  that was never claimed shows what was written there.
- It stays when its phase is removed, hidden. When the phase is added again it begins anew: released, one generation on.
- What a person says of a phase that nobody holds is of a generation of its own, too. In case the same generation was
  granted meanwhile, both give way to its holder (`BEHIND_ALL`), unless a person says that it is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from attrs import frozen

from meshd import project
from meshd.model import LAST_UTC_MS, Json, JsonObject, Stamp, utc_text
from meshd.project import Flat

LAST = 1 << 30  # where a holder stands that is not among the peers
BEHIND_ALL = LAST + 1  # where the word of somebody stands who does not hold the phase

SHOWN_KEYS = frozenset({
    "executionStatus",
    "claimedBy",
    "claimedAt",
    "featureId",
    "prUrl",
    "lastError",
    "generation",
    "attempts",
    "retryAt",
    "provisional",
})  # fmt: skip
"""Keys of a phase that its claim speaks for, once it has one; no edit of the document changes them then."""


class ClaimStatus(StrEnum):
    """How far the holder has come. `RELEASED` and a `FAILED` that may be tried again can be claimed anew."""

    CLAIMED = "claimed"
    IN_PROGRESS = "in_progress"
    RELEASED = "released"
    FAILED = "failed"
    DONE = "done"

    @property
    def is_live(self) -> bool:
        """Whether its holder still holds it."""
        return self in (ClaimStatus.CLAIMED, ClaimStatus.IN_PROGRESS)


_RANKS = {status: rank for rank, status in enumerate(ClaimStatus)}


@frozen
class Claim:
    """One generation of a phase.

    `id` is the claimant's own name for its request. `priority` is the holder's index in `peers`. `attempts` counts the
    failed ones, this one included; `retry_ms` is when (UTC) the phase may be claimed again after a failure, None for
    not before a person says so. `provisional`: taken without a primary. `note` says why it was released, or how far
    the work is.
    """

    generation: int
    id: str
    holder: str
    priority: int | None
    status: ClaimStatus
    claimed_ms: int
    feature_id: str | None = None
    pr_url: str | None = None
    error: str | None = None
    note: str | None = None
    attempts: int = 0
    retry_ms: int | None = None
    provisional: bool = False

    @property
    def is_live(self) -> bool:
        return self.status.is_live


def register_value(claim: Claim) -> JsonObject:
    """The claim as its register keeps it; what has its default is left out."""
    value: JsonObject = {
        "generation": claim.generation,
        "claim": claim.id,
        "holder": claim.holder,
        "priority": claim.priority,
        "status": claim.status.value,
        "claimedAt": claim.claimed_ms,
        "featureId": claim.feature_id,
        "prUrl": claim.pr_url,
        "error": claim.error,
        "note": claim.note,
        "attempts": claim.attempts or None,
        "retryAt": claim.retry_ms,
        "provisional": claim.provisional or None,
    }
    return {key: inner for key, inner in value.items() if inner is not None}


def claim_of(value: Json) -> Claim | None:
    """What a register says; None for what is no claim, which a broken peer may send."""
    if not isinstance(value, dict) or not isinstance(value.get("status"), str) or value["status"] not in _RANKS:
        return None
    claim_id, holder, generation = (value.get(key) for key in ("claim", "holder", "generation"))
    if not isinstance(claim_id, str) or not isinstance(holder, str) or generation is None:
        return None
    generation = _number(generation)
    return Claim(
        generation or 0,
        claim_id,
        holder,
        _number(value.get("priority")),
        ClaimStatus(str(value["status"])),
        _number(value.get("claimedAt")) or 0,
        feature_id=_text(value.get("featureId")),
        pr_url=_text(value.get("prUrl")),
        error=_text(value.get("error")),
        note=_text(value.get("note")),
        attempts=_number(value.get("attempts")) or 0,
        retry_ms=_number(value.get("retryAt")),
        provisional=value.get("provisional") is True,
    )


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Json) -> int | None:
    return value if type(value) is int and 0 <= value <= LAST_UTC_MS else None


def order(value: Json, stamp: Stamp) -> tuple[int, bool, int, int, Stamp]:
    """Of two registers of one claim the one with the greater order wins, on every host."""
    claim = claim_of(value)
    if claim is None:
        return (-1, False, 0, 0, stamp)
    place = LAST if claim.priority is None else claim.priority
    return (claim.generation, claim.status is ClaimStatus.DONE, -place, _RANKS[claim.status], stamp)


def shown(claim: Claim) -> JsonObject:
    """The keys of a phase that its claim speaks for, as people and original peers know them."""
    is_over = claim.status is ClaimStatus.RELEASED or (
        claim.status is ClaimStatus.FAILED and claim.retry_ms is not None
    )
    value: JsonObject = {
        "executionStatus": "unclaimed" if is_over else claim.status.value,
        "claimedBy": None if is_over else claim.holder,
        "claimedAt": None if is_over else utc_text(claim.claimed_ms),
        "featureId": None if is_over else claim.feature_id,
        "prUrl": claim.pr_url,
        "lastError": claim.error,
        "generation": claim.generation,
        "attempts": claim.attempts or None,
        "retryAt": None if claim.retry_ms is None else utc_text(claim.retry_ms),
        "provisional": (claim.provisional and not is_over) or None,
    }
    return {key: inner for key, inner in value.items() if inner is not None}


def spoken(flat: Flat) -> Flat:
    """A flat document as people see it: each claim in the keys that it speaks for, over what else was written there."""
    claims = list(_claims(flat))
    if not claims:
        return flat
    seen = {path: flat[path] for path in flat.keys() - spoken_for(flat)}
    for phase, claim in claims:
        seen |= {f"{phase}/{key}": value for key, value in shown(claim).items()}
    return seen


def spoken_for(flat: Mapping[str, Json]) -> set[str]:
    """The paths in which no edit of this document changes anything: its claims, and the keys that they speak for."""
    fixed = {path for path in flat if project.is_claim(path)}
    return fixed | {f"{phase}/{key}" for phase, _ in _claims(flat) for key in SHOWN_KEYS}


def begun_anew(before: Mapping[str, Json], after: Mapping[str, Json]) -> Flat:
    """The claims of phases that `after` shows and `before` did not, as they are when a person has added them again."""
    return {
        f"{phase}/{project.CLAIM_KEY}": register_value(_released(claim))
        for phase, claim in _claims(before)
        if not project.has_phase(before, phase) and project.has_phase(after, phase)
    }


def _released(claim: Claim) -> Claim:
    return Claim(
        claim.generation + 1,
        "",
        claim.holder,
        BEHIND_ALL,
        ClaimStatus.RELEASED,
        claim.claimed_ms,
        note="the phase was added again",
    )


def _claims(flat: Mapping[str, Json]) -> Iterator[tuple[str, Claim]]:
    """The claims that stand in a flat document, each with the path of its phase."""
    for path, value in flat.items():
        if project.is_claim(path) and (claim := claim_of(value)):
            yield path.rpartition("/")[0], claim
