"""Nothing that was acknowledged is lost, whoever is killed and whenever.

The default is a part of what `MESHD_ROUNDS=500` runs; `MESHD_SEED` chooses who dies when.
"""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from random import Random

import trio
from attrs import define, field

from tests.e2e.fleet import Instance, all_are_equal, fleet, revisions, until
from tests.e2e.ledger import Announcements, Ledger
from tests.e2e.raw_http import RawClient

ROUNDS = int(os.environ.get("MESHD_ROUNDS", "15"))
SEED = int(os.environ.get("MESHD_SEED", "1"))
CLIENTS = 6
WRITES = 12  # of each client in a round that nothing disturbs
SLUGS = [f"project-{number}" for number in range(5)]
KEYS = ["title", "goal", "color", "owner"]

_log = logging.getLogger(__name__)


@define
class Fuse:
    """Burns down with every acknowledgement: a reply that comes before its commit does not survive the moment."""

    left: int
    strike: Callable[[], None]

    def burn(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.strike()


async def burst(ledger: Ledger, client: RawClient, random: Random, fuse: Fuse) -> None:
    """One client's part of a round; ends when the instance does."""
    for _ in range(WRITES):
        method = random.choices(["PUT", "PATCH", "DELETE"], [4, 8, 1])[0]
        keys = random.sample(KEYS, random.randint(1, len(KEYS)))
        fields = {} if method == "DELETE" else {key: ledger.unique() for key in keys}
        write = await ledger.write(client, method, random.choice(SLUGS), fields)
        if write is None or write.status is None:
            return
        if write.is_acknowledged:
            fuse.burn()


@define
class Killer:
    """Kills instances and starts them again, in its own time."""

    random: Random
    nursery: trio.Nursery
    killed: Counter[str] = field(factory=Counter)
    _down: dict[str, trio.Event] = field(factory=dict)

    def is_up(self, instance: Instance) -> bool:
        return instance.name not in self._down

    def strike(self, instances: list[Instance]) -> None:
        """Kill those of them that are up, at one moment."""
        for victim in instances:
            if self.is_up(victim):
                assert victim.process is not None
                victim.process.kill()
                self._down[victim.name] = trio.Event()
                self.killed[victim.name] += 1
                self.nursery.start_soon(self._start_again, victim)

    async def _start_again(self, instance: Instance) -> None:
        await instance.stop(signal.SIGKILL)
        while self.random.random() < 0.1:  # it dies while it starts
            await instance.spawn()
            with trio.move_on_after(self.random.uniform(0.0, 0.8)):
                await until(instance.is_ready, 10)
            await instance.stop(signal.SIGKILL)
        await instance.start()
        self._down.pop(instance.name).set()

    async def up(self, instance: Instance) -> None:
        if instance.name in self._down:
            await self._down[instance.name].wait()


async def test_what_was_acknowledged_survives_every_kill(tmp_path: Path) -> None:
    random, ledger = Random(SEED), Ledger()
    async with fleet(tmp_path, heartbeat_ms=1000, ttl_ms=4000) as instances, AsyncExitStack() as stack:
        primary, worker, _ = instances
        told = [Announcements(instance) for instance in instances]
        connected = [await stack.enter_async_context(RawClient(worker.address)) for _ in range(CLIENTS)]
        async with trio.open_nursery() as starting:
            killer = Killer(Random(SEED), starting)
            for _ in range(ROUNDS):
                await killer.up(worker)
                for events in told:
                    if killer.is_up(events.instance):
                        await events.read_on()
                victims = random.choice([[], [], [worker], [primary], [primary, worker]])
                fuse = Fuse(random.randint(1, WRITES * CLIENTS // 2), partial(killer.strike, victims))
                async with trio.open_nursery() as clients:
                    for client in connected:
                        clients.start_soon(burst, ledger, client, random, fuse)
        documents = await all_are_equal(instances)
        at_the_end = await revisions(primary)
        for events in told:
            await events.read_on()
    assert ledger.wrong(documents) == []
    assert ledger.wrongly_announced(told[1]) == []
    for events in told:
        assert events.wrong(at_the_end) == []
    unanswered = sum(write.status is None for write in ledger.writes)
    _log.info("%s acknowledged, %d unanswered, killed: %s", len(ledger.acknowledged), unanswered, dict(killer.killed))
    assert min(killer.killed["dev-01"], killer.killed["dev-02"]) >= ROUNDS // 10
    assert len(ledger.acknowledged) > ROUNDS * CLIENTS
    for instance in instances:
        assert "Traceback" not in instance.log
