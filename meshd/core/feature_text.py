"""What a new feature says of the phase that it was made from (design, section 8, "A granted claim becomes a feature").

Rules: it stands for itself, so that who works on it need not read the project's document: its description names the
project and the milestone and holds the acceptance criteria. What the document does not say is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshd.core.board import Board
from meshd.core.phases import Phase, Place
from meshd.model import JsonObject


def feature_fields(board: Board, place: Place) -> JsonObject:
    """The `fields` of the feature of a phase: title, description, complexity, filesToModify.

    Of a phase that is no longer on the board there is nothing but its name.
    """
    phase = board.phase(place)
    if phase is None:
        return {"title": place[2]}
    fields: JsonObject = {"title": phase.title, "description": "\n\n".join(_paragraphs(board, phase))}
    if phase.complexity is not None:
        fields["complexity"] = phase.complexity
    return {**fields, "filesToModify": list(phase.files)}


def _paragraphs(board: Board, phase: Phase) -> Iterator[str]:
    slug, milestone_slug, _ = phase.place
    project, milestone = board.project(slug), board.milestone(phase.place)
    if phase.description:
        yield phase.description
    of_project = _named(project.title if project else slug, slug)
    of_milestone = _named(milestone.title if milestone else milestone_slug, milestone_slug)
    yield f"Project: {of_project}\nMilestone: {of_milestone}"
    if phase.acceptance_criteria:
        yield "\n".join(["Acceptance criteria:", *(f"- {criterion}" for criterion in phase.acceptance_criteria)])


def _named(title: str, slug: str) -> str:
    return title if title == slug else f"{title} ({slug})"
