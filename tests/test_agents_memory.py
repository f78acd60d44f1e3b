"""The agents' twin keeps the promises of real ones, on a virtual clock."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from meshd.agents import Agents, Leash, MemoryAgents
from meshd.core.inputs import Outcome, WorkEnded
from meshd.model import Now
from tests.agents import feature


def clock() -> Now:
    return Now(trio.current_time(), 0)


async def test_a_run_ends_by_itself(autojump_clock: MockClock) -> None:
    agents: Agents = MemoryAgents(clock, takes_s=5)
    begun_s = trio.current_time()
    assert await agents.run(feature(), Leash(math.inf)) == WorkEnded("boot-1", Outcome.DONE)
    assert trio.current_time() - begun_s == 5


async def test_a_run_ends_as_a_test_has_it(autojump_clock: MockClock) -> None:
    agents = MemoryAgents(clock)
    ended: list[WorkEnded] = []

    async def run() -> None:
        ended.append(await agents.run(feature(), Leash(math.inf)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        assert agents.running == {"boot-1": feature()}
        agents.end("boot-1", Outcome.FAILED, error="no tests")
    assert ended == [WorkEnded("boot-1", Outcome.FAILED, error="no tests")]
    assert agents.running == {}
    assert agents.begun == [feature()]


async def test_a_run_ends_with_its_lease(autojump_clock: MockClock) -> None:
    agents = MemoryAgents(clock)
    leash = Leash(clock().mono_s + 10)
    begun_s = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def extend() -> None:
            await trio.sleep(5)
            leash.extend(begun_s + 20)

        nursery.start_soon(extend)
        ended = await agents.run(feature(), leash)
    assert ended == WorkEnded("boot-1", Outcome.RELEASED, error="the lease ended")
    assert trio.current_time() - begun_s == 20


@pytest.mark.parametrize(("lease_s", "took_s"), [(math.inf, 8), (6, 6)])
async def test_a_run_takes_its_time_to_stop(autojump_clock: MockClock, lease_s: float, took_s: float) -> None:
    agents = MemoryAgents(clock, dies_s=3)
    begun_s = trio.current_time()
    leash = Leash(begun_s + lease_s)
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            await trio.sleep(5)
            leash.stop("drain")

        nursery.start_soon(stop)
        assert (await agents.run(feature(), leash)).error == "drain"
    assert trio.current_time() - begun_s == took_s
