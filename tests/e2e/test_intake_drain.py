"""A daemon that is told to end while its agent works: the work ends first, or is given back for another host."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import trio

from tests.e2e.executions import Execution, agents, at_once, boot_s, executions, phases_of
from tests.e2e.fleet import Sections, all_are_equal, are_led_by, fleet, until
from tests.e2e.test_intake_faults import all_done, has_begun, next_holder, project, put

WORK_S = 2.0
OTHERS_WITHIN_S = 2.0  # without waiting for any timeout: claims are held for half an hour here


async def test_a_daemon_that_ends_lets_its_work_end_or_gives_it_back(tmp_path: Path) -> None:
    file = tmp_path / "executions"
    keys: Sections = {"agents": agents(file, WORK_S), "workIntake": {"tickIntervalMs": 500}}
    times = partial(fleet, heartbeat_ms=300, ttl_ms=1500, failback="manual")
    async with times(tmp_path, sections=keys, is_started=False) as instances:
        primary, hasty, patient = instances
        hasty.sections = {**keys, "drain": {"workTimeoutMs": 200}}
        hasty.configure()
        async with trio.open_nursery() as starting:
            for instance in instances:
                starting.start_soon(instance.start)
        await until(partial(are_led_by, instances, primary), 10)

        await put(primary, "alpha", project("a", "b", "c"))
        await until(partial(has_begun, file, 3), 10)
        begun = {execution.instance: execution for execution in executions(file)}
        assert begun.keys() == {instance.name for instance in instances}
        ending_s = boot_s()
        assert await hasty.stop() == 0
        assert boot_s() - ending_s < WORK_S  # it did not wait
        given_back = of(file, begun[hasty.name].phase)
        assert not given_back[0].is_finished
        assert given_back[0].end_s < boot_s()
        taker, again = await next_holder(instances, file, 4, WORK_S + OTHERS_WITHIN_S)
        assert (again.phase, again.generation) == (given_back[0].phase, 2)
        await until(partial(all_done, primary, ["alpha"]), 10)
        await hasty.start()
        await all_are_equal(instances)

        await put(primary, "beta", project("a", "b", "c"))
        await until(partial(has_begun, file, 7), 10)
        mine = next(each for each in reversed(executions(file)) if each.instance == patient.name)
        assert await patient.stop() == 0
        (mine,) = of(file, mine.phase)
        assert mine.is_finished
        await until(partial(all_done, primary, ["beta"]), 10)
        await patient.start()
        documents = await all_are_equal(instances)
        phases = phases_of("alpha", documents["alpha"]) | phases_of("beta", documents["beta"])
        assert phases[mine.phase]["claimedBy"] == patient.name
        assert phases[again.phase]["claimedBy"] == taker.name
        assert all("attempts" not in phase and "lastError" not in phase for phase in phases.values())
        assert len(executions(file)) == 7
        assert at_once(executions(file)) == []


def of(file: Path, phase: str) -> list[Execution]:
    """The executions of a phase."""
    return [execution for execution in executions(file) if execution.phase == phase]
