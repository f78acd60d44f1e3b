"""Instances that work are killed, stopped and restarted: never do two work on one phase, and nothing stays undone.

The default is a part of what `MESHD_ROUNDS=20` runs; `MESHD_SEED` as in `test_crashes`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections import Counter
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import trio
from attrs import frozen

from meshd.model import Json
from tests.e2e.executions import Execution, agents, at_once, boot_s, executions, phases_of
from tests.e2e.fleet import Instance, Sections, all_are_equal, are_led_by, fleet, until

ROUNDS = int(os.environ.get("MESHD_ROUNDS", "2"))
SEED = int(os.environ.get("MESHD_SEED", "1"))
HEARTBEAT_MS, TTL_MS = 300, 1500
TIMEOUT_S, LOCK_DELAY_S = 3.0, 0.5
KNOWN_WITHIN_S = 0.15  # when an execution ended, on a host that is busy
FOR_EVER_S = 600.0

_log = logging.getLogger(__name__)


def sections(file: Path, seconds: float, most: int = 1, **intake: Json) -> Sections:
    """A configuration in which claims are lost soon, and work takes so long."""
    leases: dict[str, Json] = {"claimTimeoutMs": int(1000 * TIMEOUT_S), "lockDelayMs": int(1000 * LOCK_DELAY_S)}
    return {"agents": agents(file, seconds, most), "workIntake": {"tickIntervalMs": 500, **leases, **intake}}


def project(*names: str, status: str = "active") -> dict[str, Any]:
    return {"status": status, "milestones": [{"slug": "only", "phases": [{"name": name} for name in names]}]}


async def put(instance: Instance, slug: str, document: dict[str, Any]) -> None:
    response = await instance.client.put(f"/api/projects/{slug}", json=document)
    assert response.status_code == 201, response.text


async def has_begun(file: Path, count: int) -> bool:
    await trio.lowlevel.checkpoint()
    return len(executions(file)) >= count


async def next_holder(instances: list[Instance], file: Path, count: int, within_s: float) -> tuple[Instance, Execution]:
    """Wait until so many executions have begun; returns the last one, and who runs it."""
    await until(partial(has_begun, file, count), within_s)
    last = executions(file)[-1]
    return next(instance for instance in instances if instance.name == last.instance), last


async def test_who_is_gone_loses_its_phase_after_the_timeout_and_not_before(tmp_path: Path) -> None:
    file = tmp_path / "executions"
    times = partial(fleet, heartbeat_ms=HEARTBEAT_MS, ttl_ms=TTL_MS, failback="manual")
    async with times(tmp_path, sections=sections(file, FOR_EVER_S, overflow=False), is_started=False) as instances:
        primary, *workers = instances
        for instance in instances:
            instance.focus = "docs" if instance is primary else "qa"
            instance.configure()
            await instance.start()
        await until(partial(are_led_by, instances, primary), 10)
        document = project("long")
        document["milestones"][0]["phases"][0]["filesToModify"] = ["tests/a.spec.ts"]
        await put(primary, "alpha", document)
        killed, _ = await next_holder(workers, file, 1, 10)
        killed_s = boot_s()
        await killed.kill()
        stopped, second = await next_holder(workers, file, 2, TIMEOUT_S + TTL_MS / 1000 + 10)
        first = executions(file)[0]
        assert first.end_s < killed_s + 1  # its guard saw to that
        assert TIMEOUT_S < second.start_s - killed_s < TIMEOUT_S + LOCK_DELAY_S + TTL_MS / 1000 + 2
        await killed.start()

        stopped_s = boot_s()
        stopped.pause()
        _, third = await next_holder(workers, file, 3, TIMEOUT_S + TTL_MS / 1000 + 10)
        second = executions(file)[1]
        assert second.end_s < stopped_s + TIMEOUT_S
        assert TIMEOUT_S < third.start_s - stopped_s < TIMEOUT_S + LOCK_DELAY_S + TTL_MS / 1000 + 2
        stopped.resume()
        await until(partial(are_led_by, instances, primary), 10)
        await until(partial(is_in_backlog, stopped, second.generation), 10)
        await trio.sleep(2 * HEARTBEAT_MS / 1000)
        *_, last = executions(file)
        assert (last.pid, last.is_finished) == (third.pid, False)
        assert boot_s() - last.end_s < 1  # still at work
        assert [each.generation for each in executions(file)] == [1, 2, 3]
        assert at_once(executions(file)) == []
        reclaimed = (await primary.get("/api/events?stream=0&types=claim:reclaimed"))["events"]
        assert [event["payload"]["holder"] for event in reclaimed] == [killed.name, stopped.name]
        await all_are_equal(instances)


async def is_in_backlog(instance: Instance, generation: int) -> bool:
    """Whether the feature that it made of a claim of this generation is marked released."""
    await trio.lowlevel.checkpoint()
    features = [json.loads(file.read_text()) for file in instance.repo_root.glob(".automaker/features/*/feature.json")]
    (feature,) = (feature for feature in features if feature["generation"] == generation)
    return (feature["status"], feature.get("released")) == ("backlog", True)


@frozen
class Fault:
    """What was done to an instance, and between which times (boot-time clock) it was away."""

    instance: str
    kind: str
    begun_s: float
    over_s: float


async def disturb(instance: Instance, random: Random, faults: list[Fault]) -> None:
    """Take one instance away, for less or more than a lease, and bring it back."""
    kind, away_s = random.choice(["kill", "stop", "end"]), random.choice([0.0, 1.0, 2 * TIMEOUT_S])
    begun_s = boot_s()
    if kind == "stop":
        instance.pause()
        await trio.sleep(max(away_s, 1.0))
        over_s = boot_s()
        instance.resume()
    else:
        await instance.stop(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
        await trio.sleep(away_s)
        over_s = boot_s()
        await instance.start()
    faults.append(Fault(instance.name, kind, begun_s, over_s))


async def test_never_two_at_once_whatever_happens(tmp_path: Path) -> None:
    random, file, faults = Random(SEED), tmp_path / "executions", list[Fault]()
    keys = {**sections(file, 1.0), "drain": {"workTimeoutMs": 200}}
    async with fleet(tmp_path, heartbeat_ms=HEARTBEAT_MS, ttl_ms=TTL_MS, sections=keys) as instances:
        begun_s = boot_s()
        for number in range(ROUNDS):
            await put(random.choice(instances), f"round-{number}", project(*(f"p{phase}" for phase in range(8))))
            await trio.sleep(random.uniform(0.1, 1.5))
            async with trio.open_nursery() as disturbing:
                for instance in random.sample(instances, random.choice([1, 1, 2])):
                    disturbing.start_soon(disturb, instance, random, faults)
        slugs = [f"round-{number}" for number in range(ROUNDS)]
        await until(partial(all_done, instances[0], slugs), 60)
        documents = await all_are_equal(instances)
        took_s = boot_s() - begun_s
    done = executions(file)
    _log.info("%d phases, %d executions, %.0f s: %s", 8 * ROUNDS, len(done), took_s, [each.kind for each in faults])
    assert at_once(done) == []
    assert max(Counter((each.phase, each.generation) for each in done).values()) == 1
    for slug, document in documents.items():
        for place, phase in phases_of(slug, document).items():
            last = max((each for each in done if each.phase == place), key=lambda each: each.generation)
            assert (phase["generation"], phase["claimedBy"]) == (last.generation, last.instance)
            assert last.is_finished
    _log.info("left to who was gone for the timeout: %d", sum(check_patience(done, fault) for fault in faults))
    for instance in instances:
        assert "Traceback" not in instance.log


def check_patience(done: list[Execution], fault: Fault) -> int:
    """What it held is not begun by another before the timeout, unless it is back or said that it goes.

    Returns how much was begun by another while it was away.
    """
    if fault.kind == "end":
        return 0
    taken = 0
    held = [
        each
        for each in done
        if each.instance == fault.instance and not each.is_finished and each.start_s < fault.begun_s < each.end_s + 0.2
    ]
    for each in held:
        after = [other.start_s for other in done if other.phase == each.phase and other.start_s > each.start_s]
        if after and min(after) < fault.over_s:
            assert min(after) - fault.begun_s >= TIMEOUT_S, (fault, each)
            taken += 1
    return taken


async def all_done(instance: Instance, slugs: list[str]) -> bool:
    for slug in slugs:
        phases = phases_of(slug, await instance.get(f"/api/projects/{slug}"))
        if any(phase.get("executionStatus") != "done" for phase in phases.values()):
            return False
    return True
