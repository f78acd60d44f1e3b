"""Projects that nobody should write, and a very large one: taken, or refused in words, and nothing stands still.

How long the large one takes is logged.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.e2e.executions import agents, boot_s, executions
from tests.e2e.fleet import Instance, Sections, all_are_equal, are_led_by, fleet, until
from tests.e2e.test_intake_faults import has_begun, project, put

PHASES = 5000
STALL_S = 3.0  # the worst that a request may wait behind it, on two cores that others use; a TTL is 120 s

_log = logging.getLogger(__name__)


async def test_what_nobody_should_write(tmp_path: Path) -> None:
    file = tmp_path / "executions"
    keys: Sections = {"agents": agents(file, 0.02), "workIntake": {"tickIntervalMs": 500}}
    async with fleet(tmp_path, heartbeat_ms=1000, ttl_ms=10_000, sections=keys) as instances:
        primary, worker, _ = instances
        await until(partial(are_led_by, instances, primary), 10)
        await are_refused(worker)
        await goes_on_beside_a_cycle(worker, instances, file)
        await takes_thousands(worker, instances, file)
        for instance in instances:
            assert "Traceback" not in instance.log


async def are_refused(instance: Instance) -> None:
    for name, text in (("x" * 300, "is 300 bytes long, at most 200 are allowed"), ("../x", "../x")):
        response = await instance.client.put("/api/projects/alpha", json=project(name))
        assert response.status_code == 422, response.text
        assert text in response.json()["detail"]
    twice = await instance.client.put("/api/projects/alpha", json=project("same", "same"))
    assert twice.status_code == 422, twice.text
    assert "same" in twice.json()["detail"]
    assert (await instance.client.get("/api/projects/alpha")).status_code == 404


async def goes_on_beside_a_cycle(worker: Instance, instances: list[Instance], file: Path) -> None:
    document = project("a", "b", "free", "after")
    a, b, _, after = document["milestones"][0]["phases"]
    a["dependencies"], b["dependencies"], after["dependencies"] = ["b"], ["a"], ["a"]
    await put(worker, "alpha", document)
    await until(partial(has_begun, file, 1), 10)
    assert executions(file)[0].phase == "alpha/only/free"
    for instance in instances:
        assert "cycle" in await why_not(instance, "a")
        assert "b" in await why_not(instance, "b")
        assert "a" in await why_not(instance, "after")
    await all_are_equal(instances)
    assert len(executions(file)) == 1


async def why_not(instance: Instance, phase: str) -> str:
    """What its dependencies have against a phase."""
    shown = await instance.get(f"/api/phases/alpha/only/{phase}")
    (condition,) = (condition for condition in shown["conditions"] if condition["name"] == "dependencies")
    assert not condition["holds"]
    return str(condition["text"])


async def takes_thousands(worker: Instance, instances: list[Instance], file: Path) -> None:
    """Other requests are answered meanwhile, nobody is taken for dead, and work begins."""
    document: dict[str, Any] = {"status": "active", "milestones": []}
    for number in range(10):
        names = [f"phase-{phase}" for phase in range(PHASES // 10)]
        phases = [{"name": name, "filesToModify": [f"docs/{name}.md"]} for name in names]
        document["milestones"].append({"slug": f"m{number}", "number": number, "phases": phases})
    worst_s = dict.fromkeys((instance.name for instance in instances), 0.0)

    async def probe(instance: Instance) -> None:
        while True:
            asked_s = boot_s()
            assert (await instance.client.get("/livez")).status_code == 200
            worst_s[instance.name] = max(worst_s[instance.name], boot_s() - asked_s)
            await trio.sleep(0.01)

    async with trio.open_nursery() as probing:
        for instance in instances:
            probing.start_soon(probe, instance)
        before, put_s = len(executions(file)), boot_s()
        await put(worker, "large", document)
        took_s = boot_s() - put_s
        await until(partial(has_begun, file, before + 10), 30)
        begun_s = executions(file)[before].start_s - put_s
        tenth_s = executions(file)[before + 9].start_s - put_s
        probing.cancel_scope.cancel()
    _log.info("put in %.2f s, first at work after %.2f s, ten after %.2f s", took_s, begun_s, tenth_s)
    _log.info("longest wait for an answer: %s", {name: f"{wait_s:.2f} s" for name, wait_s in worst_s.items()})
    assert max(worst_s.values()) < STALL_S
    assert len((await worker.get("/api/phases?project=large"))["phases"]) == PHASES
    assert all("offline" not in instance.log for instance in instances)
