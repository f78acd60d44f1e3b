"""Whether a phase can be claimed, by whom, and if not, why not.

Rules (design, section 8): all of `CONDITIONS` have to hold, in the order in which a person would ask. The first one that
does not is the objection. The texts are what `meshd why` prints.

| condition | holds when |
|---|---|
| `project-active` | the project is `active` or `scaffolded` |
| `not-held` | no claim of it is live; and without any claim nobody else has it (its `executionStatus` is absent, `unclaimed` or `pending`, see `meshd.core.phases`) |
| `not-done` | it is not `done` or `completed` |
| `no-feature` | it has no `featureId` of somebody who never claimed it |
| `not-failed` | it has not failed for good |
| `backoff-over` | the time after its last failed attempt has passed |
| `dependencies` | all phases that it depends on are done |
| `milestone-dependencies` | so are all phases of all milestones that its own depends on |
| `affinity` | it suits the claimant (`meshd.core.affinity`), or the claimant has found no such work for a while |

Once a phase has a claim, that alone says whether it is held, done or failed. A released one is free at once.
"""  # noqa: E501  the table's rows are one line each

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from attrs import frozen

from meshd.core.affinity import suits
from meshd.core.blockage import attempts_of, failure, listed
from meshd.core.board import Board
from meshd.core.claim import ClaimStatus
from meshd.core.phases import Phase
from meshd.core.projects import ACTIVE
from meshd.model import Focus, utc_text


@frozen
class Claimant:
    """Who would claim. `overflow`: it has found no work of its own focus for a while, and takes any."""

    instance_id: str
    focus: str | None = Focus.FULLSTACK
    tags: tuple[str, ...] = ()
    overflow: bool = False


@frozen
class Condition:
    """One of `CONDITIONS` for one phase: whether it holds, and what to say of it."""

    name: str
    holds: bool
    text: str


class _Question(NamedTuple):
    """All that the answer follows from. A tuple, because thousands of phases are asked about."""

    phase: Phase
    board: Board
    claimant: Claimant
    now_utc_ms: int


def conditions(phase: Phase, board: Board, claimant: Claimant, *, now_utc_ms: int) -> tuple[Condition, ...]:
    """All conditions with their texts, in order. `phase` is one of the board's."""
    question = _Question(phase, board, claimant, now_utc_ms)
    return tuple(Condition(name, is_met(question), text(question)) for name, (is_met, text) in _CONDITIONS.items())


def objection(phase: Phase, board: Board, claimant: Claimant, *, now_utc_ms: int) -> str:
    """The name of the first condition that does not hold, or "" when the phase can be claimed."""
    question = _Question(phase, board, claimant, now_utc_ms)
    for name, (is_met, _) in _CONDITIONS.items():
        if not is_met(question):
            return name
    return ""


# project-active


def _is_active(question: _Question) -> bool:
    project = question.board.project(question.phase.place[0])
    return project is not None and project.is_active


def _activity(question: _Question) -> str:
    slug = question.phase.place[0]
    project = question.board.project(slug)
    if project is None:
        return f"there is no project {slug}"
    said = f"project {slug} is {project.status}" if project.status else f"project {slug} has no status"
    return said if project.is_active else f"{said}: only those that are {' or '.join(ACTIVE)} are worked on"


# not-held, not-done, no-feature, not-failed, backoff-over


def _is_not_held(question: _Question) -> bool:
    return not question.phase.is_held


def _holder(question: _Question) -> str:
    phase, claim = question.phase, question.phase.claim
    if claim is None and phase.is_held:
        by = f", claimedBy {phase.claimed_by}" if phase.claimed_by else ""
        said = f"its executionStatus is {phase.status}{by}, without a claim"
        return f"{said}: set it to unclaimed to have it claimed"
    if claim is not None and claim.status is ClaimStatus.RELEASED:
        return f"nobody holds it: {claim.holder} released generation {claim.generation}"
    if claim is None or not claim.is_live:
        return "nobody holds it"
    who = "this claimant itself" if claim.holder == question.claimant.instance_id else claim.holder
    return f"{who} holds it ({claim.status} since {utc_text(claim.claimed_ms)}, generation {claim.generation})"


def _is_not_done(question: _Question) -> bool:
    return not question.phase.is_done


def _end(question: _Question) -> str:
    phase, claim = question.phase, question.phase.claim
    if not phase.is_done:
        return "it is not done"
    if claim is None:
        return f"its executionStatus is {phase.status}"
    return f"{claim.holder} has done it (generation {claim.generation}{f', {claim.pr_url}' if claim.pr_url else ''})"


def _has_no_feature(question: _Question) -> bool:
    return question.phase.claim is not None or question.phase.feature_id is None


def _feature(question: _Question) -> str:
    if _has_no_feature(question):
        return "no feature was made from it without a claim"
    return f"{question.phase.feature_id} was made from it without a claim: remove its featureId to have it claimed"


def _has_not_failed(question: _Question) -> bool:
    return not question.phase.is_failed


def _failure(question: _Question) -> str:
    return f"it {failure(question.phase)}" if question.phase.is_failed else "it has not failed for good"


def _is_backoff_over(question: _Question) -> bool:
    return question.now_utc_ms >= _retry_ms(question.phase)


def _backoff(question: _Question) -> str:
    retry_ms, claim = _retry_ms(question.phase), question.phase.claim
    if claim is None or not retry_ms:
        return "no failed attempt has to be waited for"
    tried = f"it failed after {attempts_of(claim)}"
    wait_s = (retry_ms - question.now_utc_ms) / 1000
    return f"{tried}: may be claimed again {f'in {wait_s:.0f} s, ' if wait_s > 0 else 'since '}{utc_text(retry_ms)}"


def _retry_ms(phase: Phase) -> int:
    """When a failed phase may be claimed again, 0 for one that need not wait."""
    claim = phase.claim
    return (claim.retry_ms or 0) if claim is not None and claim.status is ClaimStatus.FAILED else 0


# dependencies, milestone-dependencies


def _are_dependencies_done(question: _Question) -> bool:
    phase = question.phase
    if not phase.dependencies:
        return True
    milestone = question.board.milestone(phase.place)
    for name in phase.dependencies:
        other = milestone.phases.get(name) if milestone else None
        if other is None or not other.is_done:
            return False
    return True


def _dependencies(question: _Question) -> str:
    phase = question.phase
    if not phase.dependencies:
        return "it depends on no other phase"
    slug, milestone, _ = phase.place
    if _are_dependencies_done(question):
        return f"all that it depends on is done: {listed(phase.dependencies)}"
    blockage = question.board.blockage(slug)
    texts = []
    for name in phase.dependencies:
        other = question.board.phase((slug, milestone, name))
        if other is None or not other.is_done:
            for_ever = blockage.of_phase(phase, name) if blockage else ""
            texts.append(for_ever or f"depends on {name}, which {_state(other)}")
    return listed(texts, "; ")


def _are_milestones_done(question: _Question) -> bool:
    milestone = question.board.milestone(question.phase.place)
    if milestone is None or not milestone.dependencies:
        return True
    project = question.board.project(question.phase.place[0])
    milestones = project.milestones if project else {}
    return all((other := milestones.get(slug)) is not None and other.is_done for slug in milestone.dependencies)


def _milestones(question: _Question) -> str:
    slug, own, _ = question.phase.place
    milestone, project = question.board.milestone(question.phase.place), question.board.project(slug)
    if milestone is None or project is None or not milestone.dependencies:
        return f"milestone {own} depends on no other"
    if _are_milestones_done(question):
        return f"all that milestone {own} depends on is done: {listed(milestone.dependencies)}"
    blockage = question.board.blockage(slug)
    texts = []
    for name in milestone.dependencies:
        other = project.milestones.get(name)
        if other is None or not other.is_done:
            for_ever = blockage.of_milestone(own, name) if blockage else ""
            undone = [phase for phase in other.phases.values() if not phase.is_done] if other else []
            left = listed(phase.name for phase in sorted(undone, key=lambda phase: phase.order))
            texts.append(for_ever or f"milestone {own} depends on {name}, of which is not done: {left}")
    return listed(texts, "; ")


def _state(phase: Phase | None) -> str:
    """How far a phase is that another depends on; to follow its name."""
    if phase is None:
        return "does not exist"
    if phase.claim is not None and phase.is_held:
        return f"is {phase.claim.status}, by {phase.claim.holder}"
    if phase.claim is not None:
        return f"is not done: {phase.claim.status}, may be claimed again"
    if phase.feature_id is not None:
        return f"is not done: {phase.feature_id} was made from it without a claim"
    return f"is not done: {phase.status}"


# affinity


def _suits(question: _Question) -> bool:
    claimant = question.claimant
    return claimant.overflow or suits(claimant.focus, claimant.tags, question.phase.foci)


def _affinity(question: _Question) -> str:
    phase, claimant = question.phase, question.claimant
    files = f"its files: {listed(phase.files)}" if phase.files else "it lists no files"
    tags = f" with tags {', '.join(claimant.tags)}" if claimant.tags else ""
    who = f"{claimant.instance_id} ({claimant.focus or Focus.FULLSTACK}{tags})"
    if suits(claimant.focus, claimant.tags, phase.foci):
        return f"suits {who}; {files}"
    if claimant.overflow:
        return f"does not suit {who}, which has found no work that does and takes other; {files}"
    foci = sorted(phase.foci - {Focus.FULLSTACK})
    wanted = f"takes {' or '.join(foci)}, or fullstack" if foci else "takes fullstack"
    return f"does not suit {who}: {wanted}; {files}"


_CONDITIONS: dict[str, tuple[Callable[[_Question], bool], Callable[[_Question], str]]] = {
    "project-active": (_is_active, _activity),
    "not-held": (_is_not_held, _holder),
    "not-done": (_is_not_done, _end),
    "no-feature": (_has_no_feature, _feature),
    "not-failed": (_has_not_failed, _failure),
    "backoff-over": (_is_backoff_over, _backoff),
    "dependencies": (_are_dependencies_done, _dependencies),
    "milestone-dependencies": (_are_milestones_done, _milestones),
    "affinity": (_suits, _affinity),
}

CONDITIONS = tuple(_CONDITIONS)
"""The names, in order."""
