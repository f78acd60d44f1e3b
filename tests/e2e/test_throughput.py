"""How fast: single durable writes by many clients, and the replay of what they queued during a partition.

The default says that it works; `MESHD_CHANGES=10000` with `--log-cli-level=INFO` gives the figures. Its bounds are
loose: they find what grows with the square of something, not a slow machine.
"""

from __future__ import annotations

import logging
import os
import re
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import time

import psutil  # type: ignore[import-untyped]  # psutil ships no types
import trio

from tests.e2e.fleet import Instance, all_are_equal, fleet, until
from tests.e2e.raw_http import RawClient

CHANGES = int(os.environ.get("MESHD_CHANGES", "1000"))
CLIENTS = 100
DOCUMENTS = 16
LEAST_PER_S = 50
MIB = 1024 * 1024

_log = logging.getLogger(__name__)


def document(number: int) -> dict[str, object]:
    """As large as real ones: about 110 fields."""
    phases = [{"name": f"phase-{phase}", "title": "A phase", "status": "todo", "notes": "-" * 80} for phase in range(7)]
    milestones = [{"slug": f"milestone-{one}", "title": "A milestone", "phases": phases} for one in range(4)]
    return {"title": f"Project {number}", "goal": "none", "color": "#123456", "milestones": milestones}


def cpu_s(instance: Instance) -> float:
    assert instance.process
    times = psutil.Process(instance.process.pid).cpu_times()
    return float(times.user + times.system)


def peak_bytes(instance: Instance) -> int:
    assert instance.process
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{instance.process.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


async def write(client: RawClient, number: int) -> None:
    """One client's share of the changes."""
    for turn in range(CHANGES // CLIENTS):
        value = f"{number}.{turn}.".ljust(100, "x")
        status, answer = await client.ask("PATCH", f"/api/projects/project-{number % DOCUMENTS}", {"goal": value})
        assert status == 200, answer


async def test_single_writes_and_their_replay(tmp_path: Path) -> None:
    async with fleet(tmp_path, size=2, is_proxied=True) as (primary, worker), AsyncExitStack() as stack:
        assert primary.proxy
        assert worker.proxy
        for number in range(DOCUMENTS):
            await worker.client.put(f"/api/projects/project-{number}", json=document(number))
        await all_are_equal([primary, worker])
        idle_bytes = {one.name: one.resident_bytes() for one in (primary, worker)}
        primary.proxy.cut(worker.name)
        worker.proxy.cut(primary.name)  # a primary without its majority dials, too
        clients = [await stack.enter_async_context(RawClient(worker.address)) for _ in range(CLIENTS)]

        began_s, spent_s = trio.current_time(), cpu_s(worker)
        async with trio.open_nursery() as nursery:
            for number, client in enumerate(clients):
                nursery.start_soon(write, client, number)
        took_s, spent_s = trio.current_time() - began_s, cpu_s(worker) - spent_s
        per_s = CHANGES / took_s
        _log.info("%.0f durable writes a second, %.2f ms of CPU each", per_s, spent_s / CHANGES * 1000)
        assert (await worker.sync())["queuedChanges"] == CHANGES

        spent = {one.name: cpu_s(one) for one in (primary, worker)}
        primary.proxy.heal(worker.name)
        worker.proxy.heal(primary.name)

        async def is_replayed() -> bool:
            _, health = await clients[0].ask("GET", "/api/health/detailed")
            return bool(health["sync"]["queuedChanges"] == 0)

        await until(is_replayed, 60)
        ended_s = time()
        replay_s = ended_s - recovered_s(worker)
        _log.info("replay of %d changes: %.2f s", CHANGES, replay_s)
        for one in (primary, worker):
            grown = (peak_bytes(one) - idle_bytes[one.name]) / MIB
            _log.info("%s: %.2f s of CPU, at most %.1f MiB above idle", one.name, cpu_s(one) - spent[one.name], grown)
        await all_are_equal([primary, worker])
        assert per_s > LEAST_PER_S
        assert CHANGES / replay_s > LEAST_PER_S


def recovered_s(worker: Instance) -> float:
    """When the worker's log says that the replay began."""
    (found,) = re.findall(rf"(\S+)Z info mesh: Partition recovered .* replaying {CHANGES} queued", worker.log)
    return datetime.fromisoformat(found).replace(tzinfo=UTC).timestamp()
