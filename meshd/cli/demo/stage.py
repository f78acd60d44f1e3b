"""Sets the stage for the story of a demo, and cleans up whatever happens.

The first signal (Ctrl-C, SIGTERM, SIGHUP), a closed pipe, the end of the time, or a promise not kept ends the story;
then all three drain. A second signal kills them. No daemon outlives the demo: of one that is killed, they drain.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import trio
from attrs import define

from meshd.cli.demo import progress, watch
from meshd.cli.demo.instances import Mesh
from meshd.cli.demo.screen import Screen, open_screen
from meshd.cli.demo.story import PROMISES, Story, sample_project
from meshd.cli.demo.watch import NotKept, Watch
from meshd.cli.outcome import EX_INTERRUPTED, EX_NOT_SO

KILL_WITHIN_S = 5.0
REFRESH_EVERY_S = 0.25


@define(eq=False)
class Ending:
    """How the story came to its end: `by_person` when somebody had seen enough, `failure` when it went wrong."""

    by_person: bool = False
    failure: str = ""


async def play(seconds: float | None, keep: bool, as_json: bool) -> int:
    """Play the whole demo; returns the exit code."""
    heeded = trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    with heeded as signals, open_screen(as_json) as screen:
        mesh = Mesh(Path(tempfile.mkdtemp(prefix="meshd-demo-")))
        try:
            return await _perform(mesh, screen, signals, seconds)
        finally:
            with trio.move_on_after(KILL_WITHIN_S, shield=True):
                await mesh.kill()
            if keep:
                screen.say("folder", f"the folder stays: {mesh.folder}", folder=str(mesh.folder))
            else:
                shutil.rmtree(mesh.folder, ignore_errors=True)


async def _perform(mesh: Mesh, screen: Screen, signals: AsyncIterator[int], seconds: float | None) -> int:
    ending = Ending()
    sights = Watch(mesh, sample_project()["slug"])
    story = Story(mesh, sights, screen)
    exit_code = EX_INTERRUPTED
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(_heed, signals, screen, ending, scope, nursery.cancel_scope)
        nursery.start_soon(_heed_silence, screen, ending, scope)
        nursery.start_soon(_refresh, story)
        if seconds is not None:
            scope.deadline = trio.current_time() + seconds
        with scope:
            await _tell(story, ending)
        if scope.cancelled_caught and not ending.by_person:
            screen.say("time", f"the {seconds:g} s are over")
        await _drain(story, ending)
        _show(story)
        exit_code = _end(story, ending)
        nursery.cancel_scope.cancel()
    return exit_code


async def _heed(
    signals: AsyncIterator[int], screen: Screen, ending: Ending, story: trio.CancelScope, everything: trio.CancelScope
) -> None:
    """The first signal ends the story, the second everything."""
    async for number in signals:
        name = signal.Signals(number).name
        if story.cancel_called:
            screen.say("signal", f"{name}: killing them all")
            everything.cancel()
        else:
            ending.by_person = True
            screen.say("signal", f"{name}: draining; once more kills")
            story.cancel()


async def _heed_silence(screen: Screen, ending: Ending, story: trio.CancelScope) -> None:
    """When nobody reads any more the story ends too."""
    await screen.gone.wait()
    ending.by_person = True
    story.cancel()


async def _refresh(story: Story) -> None:
    while True:
        _show(story)
        await trio.sleep(REFRESH_EVERY_S)


def _show(story: Story) -> None:
    """Bring the tables up to date: the instances, and the phases as one of them sees them."""
    phases = [phase.row for phase in story.watch.phases(story.viewer)]
    story.screen.show((watch.HEADERS, story.watch.rows()), (progress.HEADERS, phases))


async def _tell(story: Story, ending: Ending) -> None:
    """Tell the story under the eyes of the watch, which ends with it: what is measured then is the drain alone."""
    async with trio.open_nursery() as watching:
        for instance in story.mesh.instances:
            watching.start_soon(story.watch.look, instance)
        watching.start_soon(story.narrate)
        try:
            await story.tell()
            story.screen.say("told", "that is all there is to show; the mesh runs on (Ctrl-C drains it)")
            await story.stay()
        except NotKept as reason:
            _fail(story, ending, reason)
        watching.cancel_scope.cancel()


async def _drain(story: Story, ending: Ending) -> None:
    try:
        await story.drain()
    except NotKept as reason:
        _fail(story, ending, reason)


def _fail(story: Story, ending: Ending, reason: NotKept) -> None:
    ending.failure = ending.failure or str(reason)
    suspects = (reason.instance,) if reason.instance else story.mesh.instances
    logs = [f"{instance.name}: {line}" for instance in suspects for line in instance.last_words()]
    story.screen.say("not-kept", "\n".join([str(reason), *(["the last lines of the log:"] if logs else []), *logs]))


def _end(story: Story, ending: Ending) -> int:
    """Say how it went; returns the exit code. What somebody ended before it was tried is not held against it."""
    kept = [promise for promise in PROMISES if promise in story.kept]
    others = [promise for promise in PROMISES if promise not in kept]
    is_cut_short = bool(others) and ending.by_person and not ending.failure
    missing, untried = ([], others) if is_cut_short else (others, [])
    text = f"kept {len(kept)} of {len(PROMISES)} promises"
    if untried:
        text = f"kept {len(kept)}, ended before it came to the other {len(untried)} promises"
    elif missing:
        text = "\n".join([text + "; missing:", *(PROMISES[promise] for promise in missing)])
    ok = not ending.failure and not missing
    story.screen.say("end", text, ok=ok, kept=kept, missing=missing, untried=untried, failure=ending.failure or None)
    return 0 if ok else EX_NOT_SO
