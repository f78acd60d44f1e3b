"""The board: all phases of all projects, kept up to date as documents change.

Rules:

- A change of a document is told by the paths of the registers that changed, and costs as much as the phases that these
  are in: a claim in a document of thousands of phases costs what it costs in a small one. A document is read anew when
  its elements change (a milestone comes or goes) or the places of many in the order do (the project's priority, the
  number of a milestone).
- There is what people see: a phase whose milestone was removed is not there, nor are the phases of a document whose
  `milestones` are no list.
- Phases come in claim order: by project priority (urgent, high, medium, low, none; medium when nothing else is said),
  then by the number of the milestone, that of the phase, and names. They are sorted when somebody asks and something
  moved; claims move nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from attrs import define, field

from meshd import project
from meshd.core.documents import Document
from meshd.core.phases import Order, Phase, Place, exists, number_of, read_phase, text_at, texts_at, value_at
from meshd.model import Stamp

ACTIVE = ("active", "scaffolded")
"""The statuses of a project that is worked on."""

_PRIORITIES = {"urgent": 0, "high": 1, "medium": 2, "low": 3, "none": 4}
_DEFAULT_PRIORITY = "medium"


@define
class Milestone:
    """One milestone. `dependencies` are slugs of other milestones; `undone` counts its phases that are not done.

    `has_phases`: whether its `phases` are a list. Nobody sees the phases of one where they are not.
    """

    slug: str
    title: str
    number: float
    dependencies: tuple[str, ...]
    has_phases: bool
    phases: dict[str, Phase] = field(factory=dict)
    undone: int = 0

    @property
    def is_done(self) -> bool:
        return not self.undone

    def put(self, name: str, phase: Phase | None) -> bool:
        """Set or remove a phase; returns whether that changed the order of phases."""
        before = self.phases.pop(name, None)
        self.undone -= before is not None and not before.is_done
        if phase is not None:
            self.phases[name] = phase
            self.undone += not phase.is_done
        return (before and before.order) != (phase and phase.order)


@define(eq=False)
class Project:
    """One project, as the document of one life has it. `path` is empty but in documents of broken peers.

    `stuck` is kept here by `meshd.core.blockage` until the next change.
    """

    slug: str
    life: Stamp
    title: str
    status: str
    priority: str
    path: str
    milestones: dict[str, Milestone] = field(factory=dict)
    stuck: Mapping[Place, Place] | None = None
    order: list[Order] | None = None

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE

    @property
    def rank(self) -> int:
        """Of two projects the one with the lower rank comes first."""
        return _PRIORITIES[self.priority]

    def phase(self, milestone: str, name: str) -> Phase | None:
        found = self.milestones.get(milestone)
        return found.phases.get(name) if found else None

    def phases(self) -> Iterator[Phase]:
        """All phases, in claim order."""
        return (self.milestones[milestone].phases[name] for *_, (_, milestone, name) in self.in_order())

    def in_order(self) -> list[Order]:
        """Where each phase comes, sorted."""
        if self.order is None:
            self.order = sorted(phase.order for found in self.milestones.values() for phase in found.phases.values())
        return self.order

    def follow(self, document: Document, paths: Collection[str]) -> bool:
        """Read what these registers say; returns whether that was enough, or all has to be read anew."""
        phases: set[tuple[str, str]] = set()
        for path in paths:
            match path.split("/"):
                case ["milestones"] | ["milestones", _, "phases"]:
                    return False
                case ["milestones", milestone, "phases", phase, *_]:
                    phases.add((project.name_in(milestone), project.name_in(phase)))
                case ["milestones", milestone, *_]:
                    if not self._follow_milestone(document, project.name_in(milestone)):
                        return False
        rank = self.rank
        self.title, self.status, self.priority, self.path = _header(document)
        for milestone, name in phases:
            self.read_phase(document, milestone, name)
        self.stuck = None
        return self.rank == rank

    def read_milestones(self, document: Document) -> None:
        """Read all milestones and their phases."""
        phases: list[tuple[str, str]] = []
        for path, register in document.registers.items():
            slashes = path.count("/")
            if register.gone or slashes not in (1, 3) or not path.startswith("milestones/"):
                continue
            _, milestone, *rest = path.split("/")
            if rest:
                phases.append((project.name_in(milestone), project.name_in(rest[1])))
            elif found := _read_milestone(document, project.name_in(milestone)):
                self.milestones[found.slug] = found
        for milestone, name in phases:
            self.read_phase(document, milestone, name)

    def read_phase(self, document: Document, milestone: str, name: str) -> None:
        """Read one phase."""
        found = self.milestones.get(milestone)
        if found is None or not found.has_phases:
            return
        if found.put(name, read_phase(document, milestone, name, self.rank, found.number)):
            self.order = None

    def _follow_milestone(self, document: Document, slug: str) -> bool:
        known, found = self.milestones.get(slug), _read_milestone(document, slug)
        if known is None or found is None or known.number != found.number:
            return known is found
        known.title, known.dependencies = found.title, found.dependencies
        return True


@define
class Board:
    """All projects, by slug."""

    _projects: dict[str, Project] = field(factory=dict, init=False)
    _order: list[Order] | None = field(default=None, init=False)

    def update(self, document: Document | None, slug: str, paths: Collection[str] | None = None) -> None:
        """Take over what `document` holds (None: there is none of this slug) where its registers changed.

        `paths` are those of all registers that are another than at the last update; None: read it anew.
        """
        if document is None or document.ended or project.is_reserved(slug):
            if self._projects.pop(slug, None):
                self._order = None
            return
        known = self._projects.get(slug)
        before = (known, known.order, known.is_active) if known else None
        if known is None or paths is None or known.life != document.life or not known.follow(document, paths):
            known = self._projects[slug] = _read_project(document)
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


def _read_project(document: Document) -> Project:
    found = Project(document.slug, document.life, *_header(document))
    if value_at(document, "milestones") == []:
        found.read_milestones(document)
    return found


def _header(document: Document) -> tuple[str, str, str, str]:
    """A project's title, status, priority and path."""
    priority = text_at(document, "priority")
    return (
        text_at(document, "title") or document.slug,
        text_at(document, "status") or "",
        priority if priority in _PRIORITIES else _DEFAULT_PRIORITY,
        text_at(document, "projectPath") or "",
    )


def _read_milestone(document: Document, slug: str) -> Milestone | None:
    path = project.element_path(slug)
    if not exists(document, path) or value_at(document, "milestones") != []:
        return None
    return Milestone(
        slug,
        text_at(document, f"{path}/title") or slug,
        number_of(document, path),
        texts_at(document, f"{path}/dependencies"),
        value_at(document, f"{path}/phases") == [],
    )
