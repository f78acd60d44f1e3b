"""Whole runs: one seed is one run, old seeds and new ones find nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshd.simulation import report
from meshd.simulation.simulation import simulate

SEEDS = Path(__file__).with_name("seeds.txt")
NEW_SEEDS = 8
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def old_seeds() -> list[tuple[int, int, float]]:
    lines = (line.partition("#")[0].split() for line in SEEDS.read_text().splitlines())
    return [(int(seed), int(nodes), float(hours)) for seed, nodes, hours in filter(None, lines)]


def new_seeds() -> list[int]:
    """Others every hour, and the same for everybody within it."""
    hours = int((datetime.now(UTC) - EPOCH).total_seconds()) // 3600
    return [1_000_000 + hours * NEW_SEEDS + number for number in range(NEW_SEEDS)]


@pytest.mark.parametrize(("seed", "nodes", "hours"), old_seeds())
def test_what_was_found_once_is_not_found_again(seed: int, nodes: int, hours: float) -> None:
    result = simulate(seed, nodes, hours)

    assert not result.invariant, report.violation(result)


@pytest.mark.parametrize("number", range(NEW_SEEDS))
def test_new_seeds_find_nothing(number: int) -> None:
    result = simulate(new_seeds()[number], 3 + number % 5)

    assert not result.invariant, report.violation(result)


def test_two_instances() -> None:
    result = simulate(1, 2)

    assert not result.invariant, report.violation(result)


def test_a_storm_is_dense() -> None:
    result = simulate(2, 3, 0.5)

    assert result.faults > 30
    assert result.edits > 30
    assert result.frames > 500
    assert result.at_s > 1800


def test_one_seed_is_one_run_whatever_the_hashes_of_texts() -> None:
    program = "from meshd.simulation.simulation import simulate; print(simulate(7, 4, 0.5).digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashes in ("1", "2")
    }

    assert digests == {simulate(7, 4, 0.5).digest + "\n"}


def test_seeds_differ() -> None:
    assert simulate(3, 3, 0.1).digest != simulate(4, 3, 0.1).digest


def test_a_trace_tells_what_happens_and_changes_nothing() -> None:
    lines: list[str] = []

    traced = simulate(5, 3, 0.2, trace=lines.append)

    assert traced == simulate(5, 3, 0.2)
    assert any("FAULT" in line for line in lines)
    assert any("dev-02   Received" in line for line in lines)
    assert any("all is healed" in line for line in lines)
