"""A feature: the local work item made from a claimed phase. It never crosses the wire.

Rules (design, section 8, "A granted claim becomes a feature"):

- Its id follows from the claim, in the original's form: `feature-<claimedAt ms>-<9 characters>`. So a crash between
  the claim and the file cannot make two.
- It is on this host's disk, and from there in `<repoRoot>/.automaker/features/<id>/feature.json`, for people and
  applications. While its claim is held it says what this host does with the phase; afterwards what became of it.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b

from attrs import field, frozen

from meshd.model import JsonObject, Stamp

TAKEN_BY = "takenBy"
"""The key of `feature.json` with the name of the application that works on it, when it gave one."""

KEPT_KEYS = frozenset({
    "id",
    "status",
    "projectSlug",
    "milestoneSlug",
    "phaseSlug",
    "claimedBy",
    "generation",
    "claim",
    "released",
    "releaseReason",
    TAKEN_BY,
})  # fmt: skip
"""Keys of `feature.json` that follow from the claim, and that no application writes."""


class FeatureStatus(StrEnum):
    """As `feature.json` says it. A released one goes back to `BACKLOG` and is marked released."""

    BACKLOG = "backlog"
    IN_PROGRESS = "in_progress"
    DONE = "done"
    FAILED = "failed"


@frozen
class Feature:
    """One claim of this host and what became of it.

    `is_held`: whether this host holds the claim, as far as it knows. `released`: why it no longer does, when it ended
    neither done nor failed. `fields` is what else `feature.json` shows: title, description, complexity,
    `filesToModify`, and what applications wrote there. `life` is that of the document which the claim stands in.
    """

    id: str
    claim: str
    slug: str
    milestone: str
    phase: str
    generation: int
    claimed_ms: int
    status: FeatureStatus = FeatureStatus.BACKLOG
    is_held: bool = True
    provisional: bool = False
    released: str | None = None
    fields: JsonObject = field(factory=dict)
    life: Stamp | None = None

    @property
    def place(self) -> tuple[str, str, str]:
        """The phase it was made from: project, milestone, phase."""
        return self.slug, self.milestone, self.phase

    def json(self, instance_id: str) -> JsonObject:
        """`feature.json` on the host `instance_id`."""
        held: JsonObject = {"claimedBy": instance_id, "generation": self.generation, "claim": self.claim}
        released: JsonObject = {} if self.released is None else {"released": True, "releaseReason": self.released}
        return {
            "id": self.id,
            **self.fields,
            "status": self.status,
            "projectSlug": self.slug,
            "milestoneSlug": self.milestone,
            "phaseSlug": self.phase,
            **held,
            **released,
        }


def feature_id(claim: str, claimed_ms: int) -> str:
    """The id of the feature that a claim becomes."""
    digits = int.from_bytes(blake2b(claim.encode(), digest_size=8).digest())
    letters = ""
    for _ in range(9):
        digits, letter = divmod(digits, 36)
        letters += "0123456789abcdefghijklmnopqrstuvwxyz"[letter]
    return f"feature-{claimed_ms}-{letters}"
