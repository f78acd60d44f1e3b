"""Both sides of a partition go on and end up equal, whatever the network does; a queue outlives its process.

The links are taken apart by proxies between the instances. `MESHD_ROUNDS` and `MESHD_SEED` as in `test_crashes`.
"""

from __future__ import annotations

import os
import re
import signal
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from random import Random

import trio

from tests.e2e.fleet import Instance, all_are_equal, fleet, until
from tests.e2e.ledger import Ledger
from tests.e2e.raw_http import RawClient

ROUNDS = int(os.environ.get("MESHD_ROUNDS", "15"))
SEED = int(os.environ.get("MESHD_SEED", "1"))
WRITES = 6  # of each client in a round
CLIENTS = 2  # of each instance
KEYS = ["title", "goal", "color", "owner"]
SHARED = [f"shared-{number}" for number in range(3)]


def cut_off(instances: list[Instance], apart: Instance) -> None:
    for other in instances:
        if other is not apart:
            assert other.proxy
            assert apart.proxy
            other.proxy.cut(apart.name)
            apart.proxy.cut(other.name)


def reunite(instances: list[Instance]) -> None:
    for instance in instances:
        assert instance.proxy
        instance.proxy.listen()
        for other in instances:
            instance.proxy.heal(other.name)


async def are_connected(instances: list[Instance]) -> bool:
    return all([(await instance.sync())["connected"] for instance in instances])


async def burst(ledger: Ledger, instance: Instance, client: RawClient, random: Random) -> None:
    """One client's part of a round: what all sides edit, and what only its own side edits and deletes."""
    for _ in range(WRITES):
        if random.random() < 0.5:
            method, keys, slug = random.choice(["PUT", "PATCH"]), KEYS, random.choice(SHARED)
        else:
            method = random.choices(["PUT", "PATCH", "DELETE"], [4, 8, 1])[0]
            keys, slug = random.sample(KEYS, random.randint(1, len(KEYS))), f"of-{instance.name}"
        if method == "PATCH":
            keys = random.sample(keys, 1)
        await ledger.write(client, method, slug, {key: ledger.unique() for key in keys} if method != "DELETE" else {})


async def disturb(instances: list[Instance], random: Random) -> None:
    """Take the network apart in one of its ways."""
    primary, *workers = instances
    assert primary.proxy
    match random.choice(["cut", "cut", "stall", "refuse", "nothing"]):
        case "cut":
            for worker in random.sample(workers, random.randint(1, 2)):
                cut_off(instances, worker)
        case "stall":
            primary.proxy.stall(random.choice(workers).name)
        case "refuse":
            primary.proxy.refuse()


async def test_both_sides_of_every_partition_become_equal(tmp_path: Path) -> None:
    random, ledger = Random(SEED), Ledger()
    async with AsyncExitStack() as stack:
        instances = await stack.enter_async_context(fleet(tmp_path, heartbeat_ms=1000, ttl_ms=4000, is_proxied=True))
        primary, *_ = instances
        assert primary.proxy
        clients = [
            (instance, await stack.enter_async_context(RawClient(instance.address)))
            for instance in instances
            for _ in range(CLIENTS)
        ]
        for slug in SHARED:
            await ledger.write(clients[0][1], "PUT", slug, {key: ledger.unique() for key in KEYS})
        await all_are_equal(instances)
        for _ in range(ROUNDS):
            async with trio.open_nursery() as nursery:
                for instance, client in clients:
                    nursery.start_soon(burst, ledger, instance, client, random)
                await trio.sleep(random.uniform(0.0, 0.05))
                await disturb(instances, random)
            await trio.sleep(random.uniform(0.0, 0.1))
            if random.random() < 0.7:
                reunite(instances)
            if random.random() < 0.25:  # else a worker's pauses between its dials outlast the test
                reunite(instances)
                await until(partial(are_connected, instances), 20)
        reunite(instances)
        documents = await all_are_equal(instances)
        assert primary.proxy.accepted > ROUNDS // 6
    assert ledger.wrong(documents) == []
    assert len(ledger.acknowledged) > ROUNDS * WRITES
    for instance in instances:
        assert "Traceback" not in instance.log


async def test_a_queue_outlives_its_process(tmp_path: Path) -> None:
    async with fleet(tmp_path, heartbeat_ms=1000, ttl_ms=4000, is_proxied=True) as instances:
        primary, worker, other = instances
        assert (await worker.client.put("/api/projects/alpha", json={"title": "Alpha"})).status_code == 201
        await all_are_equal(instances)
        cut_off(instances, worker)

        async def is_apart() -> bool:
            return (await worker.sync())["partitionSince"] is not None

        await until(is_apart, 5)
        for number in range(10):
            assert (
                await worker.client.patch("/api/projects/alpha", json={f"w{number}": number, "last": number})
            ).status_code == 200
        await worker.stop(signal.SIGKILL)
        await worker.start()
        for number in range(10, 20):
            assert (
                await worker.client.patch("/api/projects/alpha", json={f"w{number}": number, "last": number})
            ).status_code == 200
        assert await worker.stop(signal.SIGTERM) == 0
        await worker.start()
        health = await worker.sync()
        assert (health["connected"], health["queuedChanges"]) == (False, 20)
        assert health["partitionSince"] is not None
        assert (await other.client.patch("/api/projects/alpha", json={"goal": "of the others"})).status_code == 200
        assert (await primary.client.put("/api/projects/beta", json={"title": "Beta"})).status_code == 201
        reunite(instances)

        documents = await all_are_equal(instances)
        assert documents["alpha"].items() >= {f"w{number}": number for number in range(20)}.items()
        assert documents["alpha"]["goal"] == "of the others"
        assert documents["beta"]["title"] == "Beta"
        health = await worker.sync()
        assert (health["connected"], health["partitionSince"], health["queuedChanges"]) == (True, None, 0)

        # What the queue overwrote itself is no conflict, whichever process wrote it.
        assert (await primary.get("/api/conflicts"))["conflicts"] == []

        lines = re.compile(
            r"Partition recovered after \d+ms -- replaying 20 queued changes\n"
            r".*Partition cleared -- was disconnected since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ\n"
        )
        assert len(lines.findall(worker.log)) == 1
        events = (await worker.get("/api/events?stream=0&types=sync:partition-recovered"))["events"]
        (recovered,) = (event["payload"] for event in events if event["payload"]["replayed"])
        duration_ms = recovered.pop("partitionDurationMs")
        assert recovered == {"instanceId": "dev-02", "replayed": 20, "auditedClaims": 0}
        assert 0 < duration_ms < 60_000
