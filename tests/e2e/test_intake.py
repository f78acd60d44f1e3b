"""Real processes work through projects by themselves: each phase once, in the right order, on the hosts it suits.

The default takes a few of the real documents, where they are; all of them is for `MESHD_ROUNDS` above 1.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from meshd.core.affinity import matches
from meshd.core.claim import SHOWN_KEYS
from tests.e2e.executions import Execution, agents, boot_s, executions, phases_of
from tests.e2e.fleet import REAL_PROJECTS, Instance, Sections, all_are_equal, are_led_by, fleet, until

ROUNDS = int(os.environ.get("MESHD_ROUNDS", "1"))
FOCI = ["fullstack", "frontend", "backend", "docs", "qa"]
FILES = {
    "fullstack": ["LICENSE"],
    "frontend": ["apps/ui/src/app.tsx"],
    "backend": ["apps/server/src/routes/index.ts"],
    "docs": ["docs/start.md"],
    "qa": ["tests/start.spec.ts"],
}
A_FEW = "[bm]*"
WORK_S = 0.03

Documents = dict[str, dict[str, Any]]

_log = logging.getLogger(__name__)


def small_projects() -> Documents:
    """Dependencies between phases and between milestones, work for every focus, and for all of them."""
    phases = [
        {"number": number, "name": f"{focus}-{part}", "title": focus, "filesToModify": FILES[focus]}
        | ({"dependencies": [f"{focus}-1"]} if part > 1 else {})
        for number, (part, focus) in enumerate((part, focus) for part in (1, 2) for focus in FOCI)
    ]
    first = {"number": 1, "slug": "first", "title": "First", "phases": phases}
    last = {"number": 2, "slug": "last", "title": "Last", "dependencies": ["first"], "phases": [{"name": "anybody"}]}
    return {"small": {"title": "Small", "status": "active", "milestones": [last, first], "color": {"of": [1, 2]}}}


def real_projects(pattern: str = "*") -> Documents:
    """As their README makes them claimable; with dependencies and files for roles in every second milestone."""
    documents: Documents = {}
    for file in sorted(REAL_PROJECTS.glob(f"{pattern}.json")):
        document = json.loads(file.read_text()) | {"status": "active"}
        for number, milestone in enumerate(document.get("milestones", [])):
            for place, phase in enumerate(milestone["phases"]):
                for key in ("featureId", "claimedBy", "claimedAt", "executionStatus"):
                    phase.pop(key, None)
                if number % 2:
                    phase["dependencies"] = [before["name"] for before in milestone["phases"][:place][-2:]]
                    phase["filesToModify"] = FILES[FOCI[place % len(FOCI)]]
            if number % 3 == 2:
                milestone["dependencies"] = [document["milestones"][number - 1]["slug"]]
        documents[file.stem] = document
    return documents


def required(slug: str, document: Mapping[str, Any]) -> dict[str, set[str]]:
    """Of each phase, those that have to be done before it."""
    of_milestone = {
        milestone["slug"]: {f"{slug}/{milestone['slug']}/{phase['name']}" for phase in milestone["phases"]}
        for milestone in document.get("milestones", [])
    }
    before: dict[str, set[str]] = {}
    for milestone in document.get("milestones", []):
        of_milestones = set().union(*(of_milestone[other] for other in milestone.get("dependencies", [])))
        for phase in milestone["phases"]:
            own = {f"{slug}/{milestone['slug']}/{name}" for name in phase.get("dependencies", [])}
            before[f"{slug}/{milestone['slug']}/{phase['name']}"] = own | of_milestones
    return before


def untouched(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document without what claims say."""
    milestones = [
        milestone
        | {"phases": [{key: phase[key] for key in phase.keys() - SHOWN_KEYS} for phase in milestone["phases"]]}
        for milestone in document.get("milestones", [])
    ]
    return {**document, "milestones": sorted(milestones, key=lambda milestone: str(milestone["slug"]))}


async def all_done(instance: Instance, documents: Documents) -> bool:
    for slug in documents:
        phases = phases_of(slug, await instance.get(f"/api/projects/{slug}"))
        if any(phase.get("executionStatus") != "done" for phase in phases.values()):
            return False
    return True


def check_order(documents: Documents, done: list[Execution], foci: Mapping[str, str]) -> None:
    """Each phase once; nothing before what it depends on; nobody does what does not suit it."""
    phases = {
        place: phase for slug, document in documents.items() for place, phase in phases_of(slug, document).items()
    }
    assert Counter((execution.phase, execution.generation) for execution in done) == Counter(
        (place, 1) for place in phases
    )
    assert all(execution.is_finished for execution in done)
    by_phase = {execution.phase: execution for execution in done}
    for slug, document in documents.items():
        for place, before in required(slug, document).items():
            for other in before:
                assert by_phase[other].end_s < by_phase[place].start_s, (other, place)
    for place, phase in phases.items():
        focus = foci[by_phase[place].instance]
        assert matches(focus, [], phase.get("filesToModify", [])), (place, focus)


async def test_a_fleet_works_through_projects(tmp_path: Path) -> None:
    await work_through(small_projects() | real_projects(A_FEW), tmp_path)


@pytest.mark.skipif(ROUNDS == 1 or not REAL_PROJECTS.is_dir(), reason=f"MESHD_ROUNDS is 1, or no {REAL_PROJECTS}")
async def test_a_fleet_works_through_all_real_projects(tmp_path: Path) -> None:
    await work_through(real_projects(), tmp_path)


async def work_through(documents: Documents, folder: Path) -> None:
    """Let five hosts of different focus do all of it, and look at what they did."""
    file = folder / "executions"
    sections: Sections = {"agents": agents(file, WORK_S), "workIntake": {"overflow": False}}
    async with fleet(folder, size=5, peers=5, sections=sections, is_started=False) as instances:
        for instance, focus in zip(instances, FOCI, strict=True):
            instance.focus = focus
            instance.configure()
        async with trio.open_nursery() as starting:
            for instance in instances:
                starting.start_soon(instance.start)
        await until(partial(are_led_by, instances, instances[0]), 30)
        begun_s = boot_s()
        for number, (slug, document) in enumerate(documents.items()):
            response = await instances[number % 5].client.put(f"/api/projects/{slug}", json=document)
            assert response.status_code == 201, response.text
        await until(
            partial(all_done, instances[0], documents), 10 + sum(len(phases_of(*each)) for each in documents.items())
        )
        equal = await all_are_equal(instances)
        done = executions(file)
        check_order(documents, done, {instance.name: focus for instance, focus in zip(instances, FOCI, strict=True)})
        for slug, document in documents.items():
            for place, phase in phases_of(slug, equal[slug]).items():
                shown = (phase["executionStatus"], phase["prUrl"], phase["generation"])
                assert shown == ("done", f"https://example.org/{place}/1", 1)
            assert untouched(equal[slug]) | {"slug": slug} == untouched(document) | {"slug": slug}
            for instance in instances:
                await until(partial(stands_in_file, instance, slug, equal[slug]), 10)
        by_host = Counter(execution.instance for execution in done)
        _log.info("%d phases in %.1f s: %s", len(done), max(each.end_s for each in done) - begun_s, by_host)
        for instance in instances:
            assert len(list(instance.repo_root.glob(".automaker/features/*/feature.json"))) == by_host[instance.name]
            assert "Traceback" not in instance.log


async def stands_in_file(instance: Instance, slug: str, document: dict[str, Any]) -> bool:
    """Whether the workspace file of a project shows all that the API does."""
    await trio.lowlevel.checkpoint()
    held = json.loads(instance.project_file(slug).read_text())
    return bool(phases_of(slug, held) == phases_of(slug, document))
