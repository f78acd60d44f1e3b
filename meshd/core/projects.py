"""A project and its milestones, as work intake sees them, and how they are read out of the registers of a document.

There is what people see: a phase whose milestone was removed is not there, nor are the phases of a document whose
`milestones` are no list. What has another type than expected is taken as absent (`meshd.core.phases`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from attrs import define, field

from meshd import project
from meshd.core.documents import Document
from meshd.core.phases import Order, Phase, exists, number_of, read_phase, text_at, texts_at, value_at
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
    """One project, as the document of one life has it. `path` is empty but in documents of broken peers."""

    slug: str
    life: Stamp
    title: str
    status: str
    priority: str
    path: str
    milestones: dict[str, Milestone] = field(factory=dict)
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


def read_project(document: Document) -> Project:
    """The whole project, anew."""
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
