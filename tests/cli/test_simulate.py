"""`meshd simulate`: what it prints and how it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshd.core.voting import Voter

from .conftest import meshd


def test_seeds_that_find_nothing() -> None:
    result = meshd("simulate", "--seeds", "2", "--nodes", "3", "--hours", "0.05", "--jobs", "1")

    assert result.exit_code == 0
    assert "2 seeds in " in result.stdout
    assert "violations: none" in result.stdout
    assert "2 of 2 seeds" in result.stderr


def test_json() -> None:
    result = meshd("simulate", "--seeds", "2", "--nodes", "2-3", "--hours", "0.05", "--jobs", "1", "--json")

    said = json.loads(result.stdout)
    assert (said["version"], said["seeds"], said["violations"]) == (1, 2, [])
    assert said["steps"] > 100


def test_a_violation_is_the_command_that_shows_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(self: Voter, ballot: Any) -> list[Any]:
        self.ballot = ballot
        return []

    monkeypatch.setattr(Voter, "_save", forget)

    result = meshd("simulate", "--seed", "1", "--nodes", "3", "--hours", "1")
    traced = meshd("simulate", "--seed", "1", "--nodes", "3", "--hours", "1", "--trace")

    assert result.exit_code == 1
    assert result.stdout.startswith("meshd simulate --seed 1 --nodes 3 --hours 1 --trace\n")
    assert traced.exit_code == 1
    assert "VIOLATION of I7" in traced.stderr
    assert "dev-01   Started()" in traced.stderr


@pytest.mark.parametrize("nodes", ["1", "10", "5-3", "many"])
def test_there_are_meshes_of_2_to_9(nodes: str) -> None:
    assert meshd("simulate", "--nodes", nodes).exit_code == 2


def test_a_trace_is_about_one_seed() -> None:
    assert meshd("simulate", "--trace").exit_code == 2
