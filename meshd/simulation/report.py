"""What many seeds came to, in lines for a person and keys for a program."""

from __future__ import annotations

from collections import Counter

from attrs import define, field

from meshd.model import JsonObject
from meshd.simulation.simulation import Result


def reproduction(result: Result) -> str:
    """The command that runs this seed again."""
    return f"meshd simulate --seed {result.seed} --nodes {result.nodes} --hours {result.hours:g}"


def violation(result: Result) -> str:
    """What a seed found, and how to see it again."""
    return f"{reproduction(result)} --trace\n    after {result.at_s:.1f} s: {result.invariant}: {result.text:.400}"


def violation_json(result: Result) -> JsonObject:
    return {
        "seed": result.seed,
        "nodes": result.nodes,
        "hours": result.hours,
        "invariant": result.invariant,
        "text": result.text,
        "atSeconds": round(result.at_s, 3),
        "command": reproduction(result),
    }


@define
class Totals:
    """Sums over all seeds."""

    seeds: int = 0
    steps: int = 0
    frames: int = 0
    faults: int = 0
    edits: int = 0
    instance_hours: float = 0.0
    violations: Counter[str] = field(factory=Counter)

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.steps += result.steps
        self.frames += result.frames
        self.faults += result.faults
        self.edits += result.edits
        self.instance_hours += result.nodes * result.at_s / 3600
        if result.invariant:
            self.violations[result.invariant] += 1

    def text(self, wall_s: float) -> str:
        """One paragraph."""
        found = ", ".join(f"{name} {count} times" for name, count in sorted(self.violations.items()))
        return (
            f"{self.seeds} seeds in {wall_s:.1f} s, violations: {found or 'none'}\n"
            f"{self.steps} steps, {self.frames} frames, {self.faults} faults, {self.edits} edits, "
            f"{self.instance_hours:.0f} instance-hours\n"
            f"a second: {self.steps / wall_s:.0f} steps, {self.faults / wall_s:.0f} faults, "
            f"{self.instance_hours / wall_s:.1f} instance-hours"
        )

    def json(self, wall_s: float) -> JsonObject:
        return {
            "seeds": self.seeds,
            "wallSeconds": round(wall_s, 3),
            "steps": self.steps,
            "frames": self.frames,
            "faults": self.faults,
            "edits": self.edits,
            "instanceHours": round(self.instance_hours, 2),
        }
