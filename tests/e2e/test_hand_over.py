"""A person hands leadership over, from any host, with the commands of the README."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import trio

from tests.e2e.fleet import Instance, all_are_equal, are_led_by, fleet, until


async def meshd(instance: Instance, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a verb against one instance."""
    command = [sys.executable, "-m", "meshd", *arguments, "--url", f"http://{instance.address}:3008"]
    environment = {**os.environ, "NO_COLOR": "1"}
    with trio.fail_after(30):
        return await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, env=environment)


async def test_whom_a_person_promotes_leads_and_whoever_steps_down_does_not(tmp_path: Path) -> None:
    async with fleet(tmp_path, heartbeat_ms=300, ttl_ms=1500) as instances:
        one, two, three = instances
        await until(partial(are_led_by, instances, one), 10)
        assert (await meshd(three, "check", "failover")).returncode == 0
        answer = await one.client.put("/api/projects/site", json={"title": "Before"})
        assert answer.status_code == 201

        promoted = await meshd(three, "promote", "dev-02")
        assert promoted.returncode == 0, promoted.stderr
        await until(partial(are_led_by, instances, two), 5)
        answer = await one.client.patch("/api/projects/site", json={"title": "After"})
        assert answer.status_code == 200
        await all_are_equal(instances)

        nobody = await meshd(one, "promote", "dev-09")
        assert nobody.returncode == 1
        assert b"dev-09" in nobody.stderr
        assert (await meshd(one, "step-down")).returncode == 1

        stepped_down = await meshd(two, "step-down")
        assert stepped_down.returncode == 0, stepped_down.stderr
        await until(partial(are_led_by, instances, one), 5)

        for instance in (two, three):
            await instance.stop()
        check = await meshd(one, "check", "failover")
        assert check.returncode == 1
        assert b"dev-02" in check.stdout
