"""The work in `meshd demo`: its agent, its phases, and the witness of both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve

from meshd.cli.demo import agent, progress, witness
from meshd.cli.demo.instances import AGENT, Mesh
from meshd.cli.demo.progress import Phase, changed, phases_of, unclaimed
from meshd.cli.demo.screen import Screen
from meshd.cli.demo.story import LEFT_FOR_S, LOSABLE, Story, sample_project
from meshd.cli.demo.watch import NotKept, Sight, Watch
from meshd.cli.demo.witness import Run

DONE = {"executionStatus": "done", "claimedBy": "dev-03", "generation": 1, "prUrl": "https://git.example/pull/3"}


def sample_with(**said: dict[str, Any]) -> dict[str, Any]:
    """The sample, where a claim says something of some phases: by name, with `_` for `-`."""
    document = sample_project()
    for milestone in document["milestones"]:
        for phase in milestone["phases"]:
            phase.update(said.get(phase["name"].replace("-", "_"), {}))
    return document


def phase(document: dict[str, Any], name: str) -> Phase:
    (found,) = [phase for phase in phases_of(document) if phase.name == name]
    return found


# The agent


def work_on(name: str, diary: Path, generation: int = 1) -> tuple[int, Any]:
    """Run the agent as a daemon would; returns the exit status and the result on its last line."""
    place = {"MESHD_PROJECT": "p", "MESHD_MILESTONE": "m", "MESHD_PHASE": name, "MESHD_GENERATION": str(generation)}
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(AGENT), str(diary)],
        input=json.dumps({"title": "T", "complexity": "small"}),
        env={**os.environ, **place, "MESHD_INSTANCE_ID": "dev-01"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def test_the_agent_says_what_came_of_it_and_writes_it_down(tmp_path: Path) -> None:
    diary = tmp_path / "diary"

    assert work_on("a", diary) == (0, {"prUrl": "https://git.example/pull/2"})

    (run,) = witness.runs(diary)
    assert (run.phase, run.generation, run.instance, run.result) == ("m/a", 1, "dev-01", "done")
    assert 0 < run.begun_s + agent.SECONDS["small"] <= run.ended_s


def test_one_phase_of_the_sample_fails_always(tmp_path: Path) -> None:
    (name,) = agent.CANNOT
    diary = tmp_path / "diary"

    assert work_on(name, diary) == (1, {"error": agent.CANNOT[name]})
    assert [run.result for run in witness.runs(diary)] == ["failed"]
    others = [other for other in phases_of(sample_project()) if other.name != name]
    assert not [other for other in others if {name, phase(sample_project(), name).milestone} & set(other.after)]


def test_the_phases_in_which_the_primary_may_die_suit_another_one_too(tmp_path: Path) -> None:
    phases = {phase.place: phase for phase in phases_of(sample_project())}
    instances = Mesh(tmp_path).instances
    for place in LOSABLE:
        runs = [Run(place, 1, instance.name, 0.0) for instance in (instances[0], instances[2])]
        assert not [fault for fault in witness.faults(list(phases.values()), runs, instances) if "focus" in fault]


# What a document says of its phases


def test_a_phase_waits_for_phases_and_milestones() -> None:
    document = sample_with(board_sketch=DONE, status_board=DONE)

    assert phase(document, "status-board").waits_for == ()
    assert phase(document, "container-and-deploy").waits_for == ("01-collect", "board-test")
    assert phase(document, "page-on-call").waits_for == ()
    assert phase(document, "page-on-call").after == ("02-show",)


ROWS = [
    ({}, ("page-on-call", "backend", "waits", "-", "-", "after 02-show"), "page-on-call is free"),
    (
        {"executionStatus": "in_progress", "claimedBy": "dev-01", "generation": 1, "featureId": "f"},
        ("page-on-call", "backend", "in_progress", "dev-01", "1", ""),
        "page-on-call is in_progress on dev-01, generation 1",
    ),
    (
        DONE,
        ("page-on-call", "backend", "done", "dev-03", "1", "git.example/pull/3"),
        "page-on-call is done by dev-03, generation 1: https://git.example/pull/3",
    ),
    (
        {"executionStatus": "failed", "claimedBy": "dev-03", "generation": 2, "attempts": 2, "lastError": "no"},
        ("page-on-call", "backend", "failed", "dev-03", "2", "no"),
        "page-on-call has failed, attempt 2 was the last: no",
    ),
    (
        {"executionStatus": "unclaimed", "generation": 1},
        ("page-on-call", "backend", "waits", "-", "1", "after 02-show"),
        "page-on-call is free again, generation 1 is over",
    ),
    (
        {"executionStatus": "unclaimed", "generation": 1, "attempts": 1, "lastError": "no"},
        ("page-on-call", "backend", "waits", "-", "1", "after 02-show"),
        "page-on-call is to be tried again, attempt 1 failed: no",
    ),
]


@pytest.mark.parametrize(("said", "row", "line"), ROWS)
def test_a_phase_as_a_row_and_as_a_line(said: dict[str, Any], row: tuple[str, ...], line: str) -> None:
    found = phase(sample_with(page_on_call=said), "page-on-call")

    assert len(found.row) == len(progress.HEADERS)
    assert found.row == row
    assert found.line == line


def test_what_changed_is_told_once() -> None:
    before, after = phases_of(sample_project()), phases_of(sample_with(board_sketch=DONE))

    assert list(changed([], before)) == []
    assert [phase.name for phase in changed(before, after)] == ["board-sketch"]
    assert [phase.name for phase in changed([], after)] == ["board-sketch"]
    assert list(changed(after, after)) == []


def test_without_its_claims_a_document_is_what_a_person_wrote() -> None:
    assert unclaimed(sample_with(board_sketch=DONE, page_on_call=DONE)) == sample_project()


# The witness

SKETCH, BOARD = "02-show/board-sketch", "02-show/status-board"


def two_done() -> tuple[list[Phase], list[Run]]:
    """Two phases, the second after the first, both done as they should be."""
    said = {**DONE, "claimedBy": "dev-02"}
    document = sample_with(board_sketch=said, status_board=said)
    runs = [Run(SKETCH, 1, "dev-02", 1.0, 2.0, "done"), Run(BOARD, 1, "dev-02", 2.0, 3.0, "done")]
    return [phase for phase in phases_of(document) if phase.milestone == "02-show"], runs


def test_nothing_is_wrong_where_each_was_done_once_in_order(tmp_path: Path) -> None:
    phases, runs = two_done()

    assert witness.faults(phases, runs, Mesh(tmp_path).instances) == []


def test_a_run_that_was_killed_and_done_by_another_is_no_fault(tmp_path: Path) -> None:
    phases, runs = two_done()
    again = evolve(runs[1], generation=2, begun_s=4.0, ended_s=5.0)
    killed = Run(BOARD, 1, "dev-02", 2.0)

    assert (
        witness.faults([phases[0], evolve(phases[1], generation=2)], [runs[0], killed, again], Mesh(tmp_path).instances)
        == []
    )


def faults_with(tmp_path: Path, *runs: Run) -> list[str]:
    return witness.faults(two_done()[0], runs, Mesh(tmp_path).instances)


def test_what_is_done_twice_is_a_fault(tmp_path: Path) -> None:
    sketch, board = two_done()[1]
    again = evolve(board, generation=2, begun_s=4.0, ended_s=5.0)

    assert faults_with(tmp_path, sketch, board, again) == [f"{BOARD} is done, and was done 2 times"]


def test_one_claim_that_is_worked_on_twice_is_a_fault(tmp_path: Path) -> None:
    sketch, board = two_done()[1]

    assert faults_with(tmp_path, sketch, board, evolve(board, result="")) == [
        f"{BOARD}, generation 1 was begun 2 times"
    ]


def test_what_was_not_done_is_a_fault(tmp_path: Path) -> None:
    sketch, _ = two_done()[1]

    assert faults_with(tmp_path, sketch) == [f"{BOARD} is done, and was done 0 times"]


def test_a_holder_that_did_not_work_on_it_is_a_fault(tmp_path: Path) -> None:
    sketch, board = two_done()[1]

    assert faults_with(tmp_path, sketch, evolve(board, generation=2)) == [
        f"nobody worked on {BOARD} on dev-02 in generation 1"
    ]


def test_what_begins_before_what_it_depends_on_is_done_is_a_fault(tmp_path: Path) -> None:
    sketch, board = two_done()[1]

    assert faults_with(tmp_path, sketch, evolve(board, begun_s=1.9)) == [
        f"{BOARD}, generation 1 was begun before {SKETCH} was done"
    ]


def test_work_that_does_not_suit_is_a_fault(tmp_path: Path) -> None:
    phases, (sketch, board) = two_done()
    phases[1] = evolve(phases[1], holder="dev-03")

    assert witness.faults(phases, [sketch, evolve(board, instance="dev-03")], Mesh(tmp_path).instances) == [
        f"{BOARD}, generation 1 was begun on dev-03, whose focus it does not suit"
    ]


# The story


def story_with(tmp_path: Path, document: dict[str, Any]) -> Story:
    """A story whose instances all answered with this document."""
    mesh = Mesh(tmp_path)
    watch = Watch(mesh, document["slug"])
    for instance in mesh.instances:
        watch.sights[instance.name] = Sight(
            instance.role, connected=True, states={}, online=frozenset(), queued=0, document=document
        )
    return Story(mesh, watch, Screen())


async def test_each_change_is_told_once(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: object, capsys: pytest.CaptureFixture[str]
) -> None:
    story = story_with(tmp_path, sample_with(board_sketch=DONE))

    nursery.start_soon(story.narrate)
    await trio.sleep(1)

    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("] board-sketch is done by dev-03, generation 1: https://git.example/pull/3")
    assert [phase.name for phase in story.phases if phase.status == "done"] == ["board-sketch"]


LOST = Run(LOSABLE[0], 1, "dev-01", 0.0)


async def test_what_was_left_long_enough_to_the_dead_may_go_to_another(tmp_path: Path) -> None:
    story = story_with(tmp_path, sample_project())
    story.phases = phases_of(sample_with(state_of_a_service={**DONE, "generation": 2}))

    await story.reclaim(story.mesh.instances[0], LOST, trio.current_time() - LEFT_FOR_S)

    assert story.kept == ["reclaimed"]


async def test_what_was_taken_from_the_dead_too_soon_breaks_a_promise(tmp_path: Path) -> None:
    story = story_with(tmp_path, sample_project())
    story.phases = phases_of(sample_with(state_of_a_service={**DONE, "generation": 2}))

    with pytest.raises(NotKept, match=r"state-of-a-service was taken from dev-01 0\.0 s after its death"):
        await story.reclaim(story.mesh.instances[0], LOST, trio.current_time())


async def test_agents_that_did_otherwise_break_a_promise(tmp_path: Path) -> None:
    story = story_with(tmp_path, sample_project())
    story.phases = [phase(sample_with(board_sketch=DONE), "board-sketch")]

    with pytest.raises(NotKept, match="board-sketch is done, and was done 0 times"):
        await story.finish()


def test_documents_are_equal_only_when_all_apis_and_workspaces_have_the_same(tmp_path: Path) -> None:
    document = sample_with(board_sketch=DONE)
    story = story_with(tmp_path, document)
    assert not story.is_equal()

    for instance in story.mesh.instances:
        file = instance.project_file(document["slug"])
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({**document, "projectPath": str(instance.folder)}))
    assert story.is_equal()

    file.write_text(json.dumps(sample_project()))
    assert not story.is_equal()
