"""The board: all phases of all projects, kept up to date as documents change.

Rules:

- A change of a document is told by the paths of the registers that changed, and costs as much as the phases that these
  are in: a claim in a document of thousands of phases costs what it costs in a small one. A document is read anew when
  its elements change (a milestone comes or goes) or the places of many in the order do (the project's priority, the
  number of a milestone).
- Phases come in claim order: by project priority (urgent, high, medium, low, none; medium when nothing else is said),
  then by the number of the milestone, that of the phase, and names. They are sorted when somebody asks and something
  moved; claims move nothing.
- What blocks phases for ever is found out when somebody asks, once between two changes of a project.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from attrs import define, field

from meshd import project
from meshd.core.blockage import Blockage, Blocked
from meshd.core.documents import Document
from meshd.core.phases import Order, Phase, Place
from meshd.core.projects import Milestone, Project, read_project


@define
class Board:
    """All projects, by slug."""

    _projects: dict[str, Project] = field(factory=dict, init=False)
    _order: list[Order] | None = field(default=None, init=False)
    _blockages: dict[str, Blockage] = field(factory=dict, init=False)

    def update(self, document: Document | None, slug: str, paths: Collection[str] | None = None) -> None:
        """Take over what `document` holds (None: there is none of this slug) where its registers changed.

        `paths` are those of all registers that are another than at the last update; None: read it anew.
        """
        self._blockages.pop(slug, None)
        if document is None or document.ended or project.is_reserved(slug):
            if self._projects.pop(slug, None):
                self._order = None
            return
        known = self._projects.get(slug)
        before = (known, known.order, known.is_active) if known else None
        if known is None or paths is None or known.life != document.life or not known.follow(document, paths):
            known = self._projects[slug] = read_project(document)
        if before != (known, known.order, known.is_active):
            self._order = None

    def projects(self) -> list[Project]:
        """All projects, by slug."""
        return [self._projects[slug] for slug in sorted(self._projects)]

    def project(self, slug: str) -> Project | None:
        return self._projects.get(slug)

    def milestone(self, place: Place) -> Milestone | None:
        """The milestone that a phase is in."""
        found = self._projects.get(place[0])
        return found.milestones.get(place[1]) if found else None

    def phase(self, place: Place) -> Phase | None:
        found = self.milestone(place)
        return found.phases.get(place[2]) if found else None

    def claimable_order(self) -> Iterator[Phase]:
        """The phases of all projects that are worked on, in claim order, whatever stands against each of them.

        The board may be updated meanwhile: phases are as they are when they come, and those that went do not.
        """
        if self._order is None:
            active = [found.in_order() for found in self._projects.values() if found.is_active]
            self._order = sorted(place for order in active for place in order)
        return (phase for *_, place in self._order if (phase := self.phase(place)))

    def blockage(self, slug: str) -> Blockage | None:
        """What keeps phases of this project from ever being claimed; None when there is no such project."""
        if slug not in self._blockages and (found := self._projects.get(slug)):
            self._blockages[slug] = Blockage.of(found)
        return self._blockages.get(slug)

    def blocked(self) -> list[Blocked]:
        """The phases that can never be claimed as things stand, of projects that are worked on, in claim order."""
        active = [found.slug for found in self.projects() if found.is_active]
        return [blocked for slug in active if (found := self.blockage(slug)) for blocked in found.blocked()]
