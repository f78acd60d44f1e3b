"""The phases of a demo's project, as a document shows them: a table of them, and a line for each change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from meshd.cli.output import NOTHING
from meshd.core.affinity import foci_of
from meshd.core.claim import SHOWN_KEYS
from meshd.model import Focus

HEADERS = ("phase", "for", "status", "holder", "generation", "result")


@frozen
class Phase:
    """One phase. `after`: what it depends on, phases of its milestone and whole milestones; `waits_for`: of these, what
    is not done. `error` is the last one, `attempts` counts those that failed."""

    milestone: str
    name: str
    files: tuple[str, ...]
    after: tuple[str, ...]
    waits_for: tuple[str, ...]
    status: str = "unclaimed"
    holder: str | None = None
    generation: int = 0
    attempts: int = 0
    pr_url: str | None = None
    error: str | None = None

    @property
    def place(self) -> str:
        return f"{self.milestone}/{self.name}"

    @property
    def is_settled(self) -> bool:
        """Whether nobody works on it any more, before a person says so."""
        return self.status in ("done", "failed")

    @property
    def is_held(self) -> bool:
        return self.status in ("claimed", "in_progress")

    @property
    def row(self) -> tuple[str, ...]:
        """Its line of the table under `HEADERS`, short enough for a terminal of 80 columns."""
        focus = ", ".join(sorted(foci_of(self.files) - {Focus.FULLSTACK}))
        status = "waits" if self.status == "unclaimed" and self.waits_for else self.status
        return (self.name, focus, status, self.holder or NOTHING, str(self.generation or NOTHING), self._result)

    @property
    def _result(self) -> str:
        if self.status == "unclaimed" and self.waits_for:
            return f"after {self.waits_for[0]}"
        return (self.pr_url or "").removeprefix("https://") or self.error or ""

    @property
    def line(self) -> str:
        """What became of it, for a person."""
        generation = f"generation {self.generation}"
        match self.status:
            case "done":
                return f"{self.name} is done by {self.holder}, {generation}: {self.pr_url}"
            case "failed":
                return f"{self.name} has failed, attempt {self.attempts} was the last: {self.error}"
            case "unclaimed" if self.error:
                return f"{self.name} is to be tried again, attempt {self.attempts} failed: {self.error}"
            case "unclaimed":
                return f"{self.name} is free" + (f" again, {generation} is over" if self.generation else "")
        return f"{self.name} is {self.status} on {self.holder}, {generation}"


def phases_of(document: Mapping[str, Any]) -> list[Phase]:
    """The phases of a document, in its order."""
    return list(_phases(document["milestones"]))


def _phases(milestones: Sequence[Mapping[str, Any]]) -> Iterator[Phase]:
    open_phases = {
        milestone["slug"]: {phase["name"] for phase in milestone["phases"] if phase.get("executionStatus") != "done"}
        for milestone in milestones
    }
    for milestone in milestones:
        slug = milestone["slug"]
        others = [other for other in milestone.get("dependencies", ()) if open_phases[other]]
        for phase in milestone["phases"]:
            names = phase.get("dependencies", ())
            yield Phase(
                milestone=slug,
                name=phase["name"],
                files=tuple(phase["filesToModify"]),
                after=(*milestone.get("dependencies", ()), *names),
                waits_for=(*others, *(name for name in names if name in open_phases[slug])),
                status=phase.get("executionStatus", "unclaimed"),
                holder=phase.get("claimedBy"),
                generation=phase.get("generation", 0),
                attempts=phase.get("attempts", 0),
                pr_url=phase.get("prUrl"),
                error=phase.get("lastError"),
            )


def changed(before: Sequence[Phase], after: Sequence[Phase]) -> Iterator[Phase]:
    """The phases whose claim is another than it was."""
    known = {phase.place: phase for phase in before}
    for phase in after:
        old = known.get(phase.place)
        if _claim(phase) != (_claim(old) if old else ("unclaimed", None, 0)):
            yield phase


def _claim(phase: Phase) -> tuple[str, str | None, int]:
    return phase.status, phase.holder, phase.generation


def unclaimed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without what its claims say: what a person wrote."""
    milestones = [
        {
            **milestone,
            "phases": [
                {key: value for key, value in phase.items() if key not in SHOWN_KEYS} for phase in milestone["phases"]
            ],
        }
        for milestone in document["milestones"]
    ]
    return {**document, "milestones": milestones}
