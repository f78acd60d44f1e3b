"""Many seeds: spread over meshes and processes, and summed up."""

from __future__ import annotations

from meshd.simulation import report
from meshd.simulation.run import Nodes, run
from meshd.simulation.simulation import Result, simulate

FOUND = Result(7, 5, 1.0, "I1", "two decide", 12.5, 100, 40, 3, 2, "x")


def test_seeds_are_spread_over_the_range() -> None:
    assert [Nodes(3, 5).of(seed) for seed in range(4)] == [3, 4, 5, 3]
    assert Nodes(4, 4).of(17) == 4


def test_processes_find_what_one_finds() -> None:
    seeds = range(3)

    results = list(run(seeds, Nodes(3, 3), 0.05, jobs=2))

    assert results == [simulate(seed, 3, 0.05) for seed in seeds]
    assert results == list(run(seeds, Nodes(3, 3), 0.05, jobs=1))


def test_one_line_reproduces_a_seed() -> None:
    assert report.reproduction(FOUND) == "meshd simulate --seed 7 --nodes 5 --hours 1"
    assert report.violation(FOUND).startswith("meshd simulate --seed 7 --nodes 5 --hours 1 --trace\n")
    assert "after 12.5 s: I1: two decide" in report.violation(FOUND)


def test_totals() -> None:
    totals = report.Totals()
    totals.add(FOUND)
    totals.add(FOUND)

    assert totals.text(2.0).splitlines() == [
        "2 seeds in 2.0 s, violations: I1 2 times",
        "200 steps, 80 frames, 6 faults, 4 edits, 0 instance-hours",
        "a second: 100 steps, 3 faults, 0.0 instance-hours",
    ]
    assert totals.json(2.0)["seeds"] == 2
