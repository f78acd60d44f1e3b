"""What a fleet has worked on, by the file that its agents (`agent.py`) share, and what a fleet needs to run them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from attrs import frozen

from meshd.model import Json

AGENT = Path(__file__).with_name("agent.py")


@frozen
class Execution:
    """One life of one agent, in seconds of the boot-time clock; `end_s` is known within 50 ms however it ended."""

    phase: str
    generation: int
    instance: str
    pid: int
    start_s: float
    end_s: float
    is_finished: bool


def boot_s() -> float:
    """The clock of what agents write."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def agents(file: Path, seconds: float, most: int = 1) -> dict[str, Json]:
    """The section `agents` of a configuration: work that takes so long."""
    return {"command": [sys.executable, "-I", "-S", str(AGENT), str(file), str(seconds)], "max": most}


def executions(file: Path) -> list[Execution]:
    """All that was begun, in the order of its begin."""
    said: dict[tuple[str, int, str, int], list[tuple[float, str]]] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        at_s, what, phase, generation, instance, pid = line.split("\t")
        said.setdefault((phase, int(generation), instance, int(pid)), []).append((float(at_s), what))
    found = [Execution(*who, lines[0][0], lines[-1][0], lines[-1][1] == "end") for who, lines in said.items()]
    return sorted(found, key=lambda execution: execution.start_s)


def at_once(done: Iterable[Execution]) -> list[tuple[Execution, Execution]]:
    """The pairs that worked on one phase at the same time."""
    by_phase: dict[str, list[Execution]] = {}
    for execution in done:
        by_phase.setdefault(execution.phase, []).append(execution)
    return [
        (one, other)
        for of_phase in by_phase.values()
        for one, other in combinations(of_phase, 2)
        if one.start_s <= other.end_s and other.start_s <= one.end_s
    ]


def phases_of(slug: str, document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The phases of a document, by `project/milestone/phase`."""
    return {
        f"{slug}/{milestone['slug']}/{phase['name']}": phase
        for milestone in document.get("milestones", [])
        for phase in milestone["phases"]
    }
