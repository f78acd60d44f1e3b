"""What can never be claimed as things stand, and why: so that nothing is waited for in silence.

Rules:

- A phase waits for the phases that it depends on, and for all phases of the milestones that its own depends on. What is
  done is waited for no longer; what somebody has may yet be done.
- It waits for ever when one of those does not exist, failed for good, depends on it in turn, or itself waits for ever.
  Somebody has to change the document or try the failed one again.
- A cycle is always one of phases of one milestone, or one of milestones: phases depend on no others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from attrs import define, field, frozen

from meshd.core.claim import Claim
from meshd.core.cycles import cycles
from meshd.core.phases import Phase, Place
from meshd.core.projects import Project

MAX_NAMES = 6  # of a cycle or another list: more say no more to a person
MAX_ERROR = 200  # characters of what a failed attempt left; the rest is in the claim

_Node = tuple[str, str | None, bool]
"""A phase (milestone, name, True), all of a milestone (slug, None, True), what that depends on (slug, None, False)."""


@frozen
class Blocked:
    """A phase that can never be claimed as things stand. `is_cause`: it is here that something has to be put right;
    the others merely depend on such a one."""

    place: Place
    text: str
    is_cause: bool


@define(eq=False)
class Blockage:
    """What waits for ever in one project, as it was when this was found out.

    `phases` are those that do, by milestone and name. `_first` is, of a milestone, a phase for which it can never be
    done, and `_causes` leads from each phase to the one where something is wrong.
    """

    project: Project
    phases: frozenset[tuple[str, str]]
    _phase_cycles: dict[str, dict[str, tuple[str, ...]]] = field(factory=dict)
    _milestone_cycles: dict[str, tuple[str, ...]] = field(factory=dict)
    _first: dict[str, Phase] = field(factory=dict)
    _causes: dict[Place, Phase] = field(factory=dict)

    @classmethod
    def of(cls, project: Project) -> Blockage:
        """Find it out. Costs as much as the project has phases and dependencies."""
        stuck = _stuck(_needs(project))
        found = cls(project, frozenset((slug, name) for slug, name, _ in stuck if name is not None))
        waiting = {}
        for slug, milestone in project.milestones.items():
            failed = [phase for phase in milestone.phases.values() if phase.is_failed]
            here = [phase for phase in milestone.phases.values() if (slug, phase.name) in found.phases]
            found._phase_cycles[slug] = cycles({phase.name: phase.dependencies for phase in here})
            if failed or here:
                found._first[slug] = min(failed or here, key=lambda phase: phase.order)
            if here:
                waiting[slug] = milestone.dependencies
        found._milestone_cycles = cycles(waiting)
        for slug, name in found.phases:
            found._find_cause(project.milestones[slug].phases[name])
        return found

    def blocked(self) -> Iterator[Blocked]:
        """The phases that wait for ever, in claim order."""
        for phase in self.project.phases():
            if phase.place[1:] in self.phases:
                yield Blocked(phase.place, self._problems(phase), self._causes[phase.place] is phase)

    def of_phase(self, phase: Phase, dependency: str) -> str:
        """Why an open phase waits for ever for another of its milestone, or "" when it does not."""
        direct = self._direct(phase, dependency)
        if direct or (phase.place[1], dependency) not in self.phases:
            return direct
        return f"depends on {dependency}, which can never be claimed either{self._because(phase.place[1], dependency)}"

    def of_milestone(self, slug: str, dependency: str) -> str:
        """Why the open phases of a milestone wait for ever for another milestone, or "" when they do not."""
        direct = self._direct_of_milestone(slug, dependency)
        if direct or dependency not in self._first:
            return direct
        first = self._first[dependency].name
        because = self._because(dependency, first)
        return f"milestone {slug} depends on {dependency}, whose {first} can never be claimed{because}"

    def _direct(self, phase: Phase, dependency: str) -> str:
        """What is wrong with this dependency itself."""
        _, slug, name = phase.place
        other = self.project.phase(slug, dependency)
        if other is None:
            return f"depends on {dependency}, which does not exist in milestone {slug}"
        if other.is_failed:
            return f"depends on {dependency}, which {failure(other)}"
        cycle = self._phase_cycles[slug].get(name)
        if cycle and cycle is self._phase_cycles[slug].get(dependency):  # each group has its own
            return f"{_way(cycle)}: a cycle, nobody can ever claim them"
        return ""

    def _direct_of_milestone(self, slug: str, dependency: str) -> str:
        """What is wrong with this dependency itself."""
        if dependency not in self.project.milestones:
            return f"milestone {slug} depends on {dependency}, which does not exist"
        cycle = self._milestone_cycles.get(slug)
        if cycle and cycle is self._milestone_cycles.get(dependency):
            return f"milestone {_way(cycle)}: a cycle, nobody can ever claim their phases"
        first = self._first.get(dependency)
        if first is not None and first.is_failed:
            return f"milestone {slug} depends on {dependency}, whose {first.name} {failure(first)}"
        return ""

    def _problems(self, phase: Phase) -> str:
        _, slug, _ = phase.place
        of_phases = (self.of_phase(phase, name) for name in phase.dependencies)
        of_milestones = (self.of_milestone(slug, name) for name in self.project.milestones[slug].dependencies)
        return listed([text for texts in (of_phases, of_milestones) for text in texts if text], "; ")

    def _find_cause(self, phase: Phase) -> None:
        """Go from phase to phase to the one where something is wrong, and remember that for all on the way."""
        way = [phase]
        while way[-1].place not in self._causes and (after := self._after(way[-1])) is not None:
            way.append(after)
        cause = self._causes.get(way[-1].place, way[-1])
        self._causes |= {passed.place: cause for passed in way}

    def _after(self, phase: Phase) -> Phase | None:
        """A phase because of which this one waits for ever; None when the wrong is here.

        It never leads back: phases and milestones that wait for each other are a wrong of their own.
        """
        _, slug, _ = phase.place
        milestone = self.project.milestones[slug]
        if any(self._direct(phase, name) for name in phase.dependencies):
            return None
        if any(self._direct_of_milestone(slug, name) for name in milestone.dependencies):
            return None
        within = (milestone.phases[name] for name in phase.dependencies if (slug, name) in self.phases)
        return next(within, None) or next(self._first[name] for name in milestone.dependencies if name in self._first)

    def _because(self, slug: str, name: str) -> str:
        cause = self._causes[(self.project.slug, slug, name)]
        return f" ({cause.name}: {self._wrong(cause)})"

    def _wrong(self, cause: Phase) -> str:
        """The first thing that is wrong with a phase."""
        _, slug, _ = cause.place
        texts = [self._direct(cause, name) for name in cause.dependencies]
        texts += [self._direct_of_milestone(slug, name) for name in self.project.milestones[slug].dependencies]
        return next(text for text in texts if text)


def failure(phase: Phase) -> str:
    """That a phase failed for good, and what can be done about it; to follow its name."""
    if phase.claim is None:
        return "failed, as its executionStatus says: set that to unclaimed to have it tried again"
    retry = f"`meshd retry {'/'.join(phase.place)}` has it tried again"
    return f"failed for good after {attempts_of(phase.claim)}: {retry}"


def attempts_of(claim: Claim) -> str:
    """How often it was tried, and what the last attempt left."""
    error = f" ({claim.error:.{MAX_ERROR}})" if claim.error else ""
    return f"{claim.attempts} attempt{'' if claim.attempts == 1 else 's'}{error}"


def listed(texts: Iterable[str], between: str = ", ") -> str:
    """The first few of many."""
    known = list(texts)
    more = len(known) - MAX_NAMES
    return between.join(known) if more <= 0 else between.join([*known[:MAX_NAMES], f"and {more:,} more"])


def _way(cycle: tuple[str, ...]) -> str:
    more = len(cycle) - MAX_NAMES
    names = cycle if more <= 1 else (*cycle[: MAX_NAMES - 1], f"... ({more:,} more)", cycle[-1])
    return " depends on ".join(names)


def _needs(project: Project) -> dict[_Node, list[_Node]]:
    """What each waits for: all that may ever be done is a key."""
    needs: dict[_Node, list[_Node]] = {}
    for slug, milestone in project.milestones.items():
        undone = [phase for phase in milestone.phases.values() if not phase.is_done]
        needs[slug, None, True] = [(slug, phase.name, True) for phase in undone]
        others = [(name, project.milestones.get(name)) for name in milestone.dependencies]
        needs[slug, None, False] = [(name, None, True) for name, other in others if not (other and other.is_done)]
        for phase in undone:
            if phase.is_open:
                before = [(name, milestone.phases.get(name)) for name in phase.dependencies]
                waits = [(slug, name, True) for name, other in before if not (other and other.is_done)]
                needs[slug, phase.name, True] = [*waits, (slug, None, False)]
            elif not phase.is_failed:
                needs[slug, phase.name, True] = []
    return needs


def _stuck(needs: Mapping[_Node, list[_Node]]) -> set[_Node]:
    """What can never be done: what is left when all was taken away that waits for nothing, again and again."""
    left = {node: len(before) for node, before in needs.items()}
    after: defaultdict[_Node, list[_Node]] = defaultdict(list)
    for node, before in needs.items():
        for one in before:
            after[one].append(node)
    ready = [node for node, count in left.items() if not count]
    for node in ready:
        del left[node]
        for one in after[node]:
            left[one] -= 1
            if not left[one]:
                ready.append(one)
    return set(left)
