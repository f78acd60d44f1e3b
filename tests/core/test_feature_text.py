"""What a new feature says: enough to work on it without the project's document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meshd.core.feature_text import feature_fields
from tests.core.boards import board, document, milestone, phase, project

FILES = sorted((Path(__file__).parents[3] / "shared" / "data" / "projects").glob("*.json"))


def test_a_feature_stands_for_itself() -> None:
    whole = phase(
        "login",
        title="Login form",
        description="Users sign in.",
        filesToModify=["apps/ui/login.tsx"],
        acceptanceCriteria=["it works", "it is quick"],
        complexity="small",
    )
    made = board(document(project(milestone("m1", whole, title="First steps"))))
    assert feature_fields(made, ("site", "m1", "login")) == {
        "title": "Login form",
        "description": "Users sign in.\n\n"
        "Project: Site (site)\nMilestone: First steps (m1)\n\n"
        "Acceptance criteria:\n- it works\n- it is quick",
        "complexity": "small",
        "filesToModify": ["apps/ui/login.tsx"],
    }


def test_what_the_document_does_not_say_is_left_out() -> None:
    made = board(document({"milestones": [milestone("m1", phase("login", complexity=5))]}))
    assert feature_fields(made, ("site", "m1", "login")) == {
        "title": "login",
        "description": "Project: site\nMilestone: m1",
        "filesToModify": [],
    }


def test_of_a_phase_that_is_gone_there_is_its_name() -> None:
    assert feature_fields(board(), ("site", "m1", "login")) == {"title": "login"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_nothing_of_a_real_phase_is_lost(file: Path) -> None:
    content = json.loads(file.read_bytes())
    made = board(document(content, slug=file.stem))
    for found in content["milestones"]:
        for inner in found["phases"]:
            fields = feature_fields(made, (file.stem, found["slug"], inner["name"]))
            assert (fields["title"], fields["complexity"]) == (inner["title"], inner["complexity"])
            assert fields["filesToModify"] == inner["filesToModify"]
            said = [inner["description"], content["title"], found["title"], *inner["acceptanceCriteria"]]
            assert all(text in str(fields["description"]) for text in said)
