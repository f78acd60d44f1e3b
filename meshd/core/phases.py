"""The phases of all projects, as work intake sees them."""

from __future__ import annotations

from attrs import frozen

from meshd.core.claim import Claim

Place = tuple[str, str, str]
"""A phase's project, milestone and name."""


@frozen
class Phase:
    """One phase.

    `status` is what the document says of it where there is no claim: absent is "unclaimed". `dependencies` name phases
    of the same milestone. `order` is where it comes among all that may be claimed: project priority, milestone number,
    phase number, then names.
    """

    place: Place
    title: str
    status: str
    claim: Claim | None
    feature_id: str | None
    dependencies: tuple[str, ...]
    files: tuple[str, ...]
    order: tuple[int, float, float, str, str]

    @property
    def generation(self) -> int:
        return self.claim.generation if self.claim else 0
