"""What the agents of a demo wrote down, and whether it is what the documents say and the rules allow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from pathlib import Path

from attrs import define

from meshd.cli.demo.instances import Instance
from meshd.cli.demo.progress import Phase
from meshd.core.affinity import matches


@define
class Run:
    """One execution of the agent. `phase` is milestone and name, times are of the host's monotonic clock in seconds;
    `result` is done, failed, or "" of one that was ended."""

    phase: str
    generation: int
    instance: str
    begun_s: float
    ended_s: float = inf
    result: str = ""

    @property
    def name(self) -> str:
        """The name of its phase alone."""
        return self.phase.rpartition("/")[2]

    @property
    def claim(self) -> str:
        return f"{self.phase}, generation {self.generation}"


def runs(diary: Path) -> list[Run]:
    """The runs in the order in which they began."""
    found: list[Run] = []
    for line in diary.read_bytes().splitlines() if diary.exists() else ():
        fact = json.loads(line)
        key = fact["phase"], fact["generation"], fact["instance"]
        if fact["what"] == "begun":
            found.append(Run(*key, begun_s=fact["at"]))
        else:
            run = next(run for run in reversed(found) if (run.phase, run.generation, run.instance) == key)
            run.ended_s, run.result = fact["at"], fact["what"]
    return found


def faults(phases: Sequence[Phase], told: Sequence[Run], instances: Sequence[Instance]) -> list[str]:
    """What was done otherwise than promised: a line each."""
    by_place = {phase.place: phase for phase in phases}
    done_s = {run.phase: run.ended_s for run in told if run.result == "done"}
    return [
        *_repeated(told),
        *_unlike_the_document(phases, told),
        *(fault for run in told for fault in _too_early(by_place[run.phase], run, done_s)),
        *_unsuited(by_place, told, {instance.name: instance for instance in instances}),
    ]


def _repeated(told: Sequence[Run]) -> Iterator[str]:
    for name, times in Counter(run.claim for run in told).items():
        if times > 1:
            yield f"{name} was begun {times} times"


def _unlike_the_document(phases: Sequence[Phase], told: Sequence[Run]) -> Iterator[str]:
    for phase in phases:
        of_phase = [run for run in told if run.phase == phase.place]
        times = sum(run.result == "done" for run in of_phase)
        if times != (phase.status == "done"):
            yield f"{phase.place} is {phase.status}, and was done {times} times"
        elif not any(run.generation == phase.generation and run.instance == phase.holder for run in of_phase):
            yield f"nobody worked on {phase.place} on {phase.holder} in generation {phase.generation}"


def _too_early(phase: Phase, run: Run, done_s: Mapping[str, float]) -> Iterator[str]:
    for place, ended_s in done_s.items():
        milestone, _, name = place.partition("/")
        is_needed = milestone in phase.after or (milestone == phase.milestone and name in phase.after)
        if is_needed and ended_s > run.begun_s:
            yield f"{run.claim} was begun before {place} was done"


def _unsuited(by_place: Mapping[str, Phase], told: Sequence[Run], instances: Mapping[str, Instance]) -> Iterator[str]:
    for run in told:
        instance = instances[run.instance]
        if not matches(instance.focus, instance.tags, by_place[run.phase].files):
            yield f"{run.claim} was begun on {run.instance}, whose focus it does not suit"
