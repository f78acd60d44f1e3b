"""A phase, as work intake sees it, and how it is read out of the registers of its document.

Documents come from peers and people: what has not the type that is expected is taken as absent, and nothing is ever
refused here. Of a list of texts only the texts count; one text alone is a list of one, so that a dependency that was
written without brackets is not overlooked.
"""

from __future__ import annotations

from enum import StrEnum

from attrs import field, frozen

from meshd import project
from meshd.core.affinity import foci_of
from meshd.core.claim import Claim, ClaimStatus, claim_of
from meshd.core.documents import Document
from meshd.model import Focus, Json

Place = tuple[str, str, str]
"""A phase's project, milestone and name."""

Order = tuple[int, float, float, Place]
"""Where a phase comes among all that may be claimed: project priority, milestone number, phase number, then names."""

FREE = frozenset({"unclaimed", "pending"})
"""What it says of one that nobody has.

`pending` is the word for work not begun in real documents, and in plain English. Where an application has queued the
phase as its own the document has its `featureId` too, and that is what keeps others from it. A person who writes a
project with nothing but `pending` phases wants them worked on. All other words (`in-progress`, `in-review`, `blocked`,
`claimed`, ...) say that somebody has it.
"""


class State(StrEnum):
    """What became of a phase: `OPEN` is still to be claimed, or again; `FAILED` is for good; `FEATURED` was made into
    a feature by somebody who never claimed it."""

    OPEN = "open"
    HELD = "held"
    DONE = "done"
    FAILED = "failed"
    FEATURED = "featured"


_STATES = {
    ClaimStatus.CLAIMED: State.HELD,
    ClaimStatus.IN_PROGRESS: State.HELD,
    ClaimStatus.RELEASED: State.OPEN,
    ClaimStatus.FAILED: State.OPEN,
    ClaimStatus.DONE: State.DONE,
}
_SAID = {"done": State.DONE, "completed": State.DONE, "failed": State.FAILED}


@frozen
class Phase:
    """One phase.

    `status`, `claimed_by` and `feature_id` are what the document says of it where there is no claim. No status is
    "unclaimed", or "claimed" when it says by whom. `dependencies` name phases of the same milestone. `foci` are those
    that its files suit.
    """

    place: Place
    title: str
    status: str
    claim: Claim | None
    feature_id: str | None
    dependencies: tuple[str, ...]
    files: tuple[str, ...]
    order: Order
    foci: frozenset[Focus] = field(factory=lambda: frozenset(Focus))
    claimed_by: str | None = None
    description: str = ""
    acceptance_criteria: tuple[str, ...] = ()
    complexity: str | None = None
    state: State = field(init=False)

    @property
    def name(self) -> str:
        return self.place[2]

    @property
    def generation(self) -> int:
        return self.claim.generation if self.claim else 0

    @state.default
    def _state(self) -> State:
        if self.claim is not None:
            is_final = self.claim.status is ClaimStatus.FAILED and self.claim.retry_ms is None
            return State.FAILED if is_final else _STATES[self.claim.status]
        if self.status in FREE:
            return State.OPEN if self.feature_id is None else State.FEATURED
        return _SAID.get(self.status, State.HELD)

    @property
    def is_done(self) -> bool:
        """Whether what depends on it may begin."""
        return self.state is State.DONE

    @property
    def is_failed(self) -> bool:
        """Whether it failed, and is not tried again before a person says so."""
        return self.state is State.FAILED

    @property
    def is_held(self) -> bool:
        """Whether somebody has it: by a live claim, or without one, as people and original peers write it."""
        return self.state is State.HELD

    @property
    def is_open(self) -> bool:
        """Whether it is still to be claimed, sooner or later."""
        return self.state is State.OPEN


def read_phase(document: Document, milestone: str, name: str, priority: int, milestone_number: float) -> Phase | None:
    """The phase as its document has it; None when there is none. Costs as much as the phase has fields."""
    path = project.element_path(milestone, name)
    if not exists(document, path):
        return None
    claim = claim_of(value_at(document, f"{path}/{project.CLAIM_KEY}"))
    files = texts_at(document, f"{path}/filesToModify")
    place = (document.slug, milestone, name)
    claimed_by = text_at(document, f"{path}/claimedBy")
    status = text_at(document, f"{path}/executionStatus")
    if status in (None, "pending"):
        status = "claimed" if claimed_by else status
    return Phase(
        place,
        text_at(document, f"{path}/title") or name,
        status or "unclaimed",
        claim,
        text_at(document, f"{path}/featureId"),
        texts_at(document, f"{path}/dependencies"),
        files,
        (priority, milestone_number, number_of(document, path), place),
        foci=foci_of(files),
        claimed_by=claimed_by,
        description=text_at(document, f"{path}/description") or "",
        acceptance_criteria=texts_at(document, f"{path}/acceptanceCriteria"),
        complexity=text_at(document, f"{path}/complexity"),
    )


def exists(document: Document, path: str) -> bool:
    """Whether there is a register that is no tombstone."""
    register = document.registers.get(path)
    return register is not None and not register.gone


def value_at(document: Document, path: str) -> Json:
    """A register's value; None when there is none."""
    register = document.registers.get(path)
    return None if register is None or register.gone else register.value


def text_at(document: Document, path: str) -> str | None:
    """A register's value when it is a text that is not empty."""
    value = value_at(document, path)
    return value if isinstance(value, str) and value else None


def texts_at(document: Document, path: str) -> tuple[str, ...]:
    """The texts that are not empty in a register's list, each once."""
    value = value_at(document, path)
    items = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(item for item in items if isinstance(item, str) and item))


def number_of(document: Document, path: str) -> float:
    """An element's `number`. One without comes where it stands in the array, as if that was counted from 1."""
    number = _number(value_at(document, f"{path}/number"))
    if number is not None:
        return number
    return (_number(value_at(document, path)) or 0) + 1


def _number(value: Json) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:  # noqa: PLR0124  NaN
        return None
    return value
