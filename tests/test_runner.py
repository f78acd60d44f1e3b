"""The runner: what the driver asks of it never waits, and each run is answered once, when it is over."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from meshd.agents import MemoryAgents
from meshd.core.inputs import Input, Outcome, WorkEnded
from meshd.model import Now
from meshd.runner import Runner
from tests.agents import AWAY, STUBBORN, WITHIN_S, Host, feature


def clock() -> Now:
    return Now(trio.current_time(), 0)


@define(eq=False)
class Inbox:
    """The driver's inbox; full while `room` is not set."""

    inputs: list[Input] = field(factory=list)
    room: trio.Event = field(factory=trio.Event)

    async def put(self, happened: Input) -> None:
        await self.room.wait()
        self.inputs.append(happened)


@define(eq=False)
class Running:
    runner: Runner
    agents: MemoryAgents
    inbox: Inbox


@asynccontextmanager
async def running(agents: MemoryAgents | None = None) -> AsyncIterator[Running]:
    """A runner that runs for the block."""
    agents = agents or MemoryAgents(clock)
    inbox = Inbox()
    inbox.room.set()
    runner = Runner(agents, inbox.put)
    async with trio.open_nursery() as nursery:
        await nursery.start(runner.run)
        yield Running(runner, agents, inbox)
        nursery.cancel_scope.cancel()


async def test_a_run_from_start_to_end(autojump_clock: MockClock) -> None:
    async with running() as run:
        run.runner.start(feature("one"), math.inf)
        run.runner.start(feature("two"), math.inf)
        await wait_all_tasks_blocked()
        assert run.agents.running.keys() == {"one", "two"}
        assert run.runner.running == 2
        run.agents.end("one", Outcome.DONE, pr_url="https://host/pr/1")
        await wait_all_tasks_blocked()
        assert run.inbox.inputs == [WorkEnded("one", Outcome.DONE, "https://host/pr/1")]
        assert run.runner.running == 1


async def test_what_runs_is_not_started_twice(autojump_clock: MockClock) -> None:
    async with running() as run:
        begun_s = trio.current_time()
        run.runner.start(feature(), begun_s + 5)
        run.runner.start(feature(), begun_s + 10)
        with trio.fail_after(60):
            await run.runner.none_runs()
        assert trio.current_time() - begun_s == 10
        assert len(run.agents.begun) == 1


async def test_a_lease_is_extended(autojump_clock: MockClock) -> None:
    async with running() as run:
        begun_s = trio.current_time()
        run.runner.start(feature(), begun_s + 5)
        await wait_all_tasks_blocked()
        run.runner.extend("boot-1", begun_s + 50)
        run.runner.extend("nobody's", begun_s + 50)
        await run.runner.none_runs()
        assert trio.current_time() - begun_s == 50
        assert run.inbox.inputs == [WorkEnded("boot-1", Outcome.RELEASED, error="the lease ended")]


async def test_a_run_is_stopped(autojump_clock: MockClock) -> None:
    async with running(MemoryAgents(clock, dies_s=3)) as run:
        run.runner.start(feature(), math.inf)
        await wait_all_tasks_blocked()
        run.runner.stop("boot-1", "lost")
        run.runner.stop("boot-1", "lost again")
        await trio.sleep(2)
        assert run.inbox.inputs == [], "it is not dead yet"
        await trio.sleep(2)
        assert run.inbox.inputs == [WorkEnded("boot-1", Outcome.RELEASED, error="lost")]


async def test_a_run_is_stopped_before_it_begins(autojump_clock: MockClock) -> None:
    async with running() as run:
        run.runner.start(feature(), math.inf)
        run.runner.stop("boot-1", "lost")
        await run.runner.none_runs()
        assert run.inbox.inputs == [WorkEnded("boot-1", Outcome.RELEASED, error="lost")]


async def test_what_does_not_run_is_stopped_at_once(autojump_clock: MockClock) -> None:
    async with running() as run:
        run.runner.stop("boot-1", "lost")
        run.runner.stop("boot-1", "lost")
        await wait_all_tasks_blocked()
        assert run.inbox.inputs == [WorkEnded("boot-1", Outcome.RELEASED, error="lost")]
        run.runner.stop("boot-1", "asked anew")
        await wait_all_tasks_blocked()
        assert len(run.inbox.inputs) == 2


async def test_nothing_waits_for_an_inbox_that_is_full(autojump_clock: MockClock) -> None:
    """And nothing has ended before it was reported."""
    async with running() as run:
        run.inbox.room = trio.Event()
        run.runner.start(feature(), math.inf)
        await wait_all_tasks_blocked()
        run.runner.stop_all("drain")
        await wait_all_tasks_blocked()
        with trio.move_on_after(60) as waiting:
            await run.runner.none_runs()
        assert waiting.cancelled_caught
        run.inbox.room.set()
        await run.runner.none_runs()
        assert run.inbox.inputs == [WorkEnded("boot-1", Outcome.RELEASED, error="drain")]


async def test_a_runner_that_has_ended_starts_nothing(autojump_clock: MockClock) -> None:
    async with running() as run:
        run.runner.start(feature("one"), math.inf)
        await wait_all_tasks_blocked()
    run.runner.start(feature("two"), math.inf)
    run.runner.stop("three", "lost")
    await wait_all_tasks_blocked()
    assert run.inbox.inputs == []
    assert run.agents.running == {}


async def test_real_processes_are_dead_when_their_end_is_reported(tmp_path: Path) -> None:
    host = Host(tmp_path)
    inbox = Inbox()
    inbox.room.set()
    runner = Runner(host.agents(f"{AWAY}{STUBBORN}"), inbox.put)
    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(runner.run)
            runner.start(feature(), math.inf)
            await host.ready(2)
            runner.stop_all("drain")
            await runner.none_runs()
            assert host.none_lives()
            nursery.cancel_scope.cancel()
    assert inbox.inputs == [WorkEnded("boot-1", Outcome.RELEASED, error="drain")]
