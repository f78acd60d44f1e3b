"""Whole instances as tasks of one test, on links in memory: the real daemon without disk, sockets and threads."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import NoReturn

import orjson
import trio
from attrs import define, field, frozen

from meshd.agents import MemoryAgents
from meshd.configuration import Compaction, Configuration, Drain, Hivemind, InstanceKeys, Protolab
from meshd.core.effects import Accepted, Emit, Rejected
from meshd.core.inputs import Command, PutProject
from meshd.daemon import Drain as DrainRequest
from meshd.daemon import Ports, live
from meshd.driver import Driver
from meshd.links import Accept, Link, MemoryNetwork, Network
from meshd.model import Capacity, JsonObject, Now, Role, Status
from meshd.store import MemoryStore
from meshd.workspace import MemoryWorkspace

EPOCH_MS = 1_800_000_000_000


def url(number: int) -> str:
    return f"ws://10.0.0.{number}:4444"


@frozen
class Counted:
    """A network whose links count the types of the messages that are sent."""

    network: Network
    sent: Counter[str]

    @asynccontextmanager
    async def dial(self, url: str) -> AsyncIterator[Link]:
        async with self.network.dial(url) as link:
            yield CountedLink(link, self.sent)

    async def serve(self, accept: Accept, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:  # noqa: ASYNC128  the network says when it serves
        async def accept_counted(link: Link) -> None:
            await accept(CountedLink(link, self.sent))

        await self.network.serve(accept_counted, task_status=task_status)


@frozen
class CountedLink:
    link: Link
    sent: Counter[str]

    @property
    def address(self) -> str:
        return self.link.address

    async def receive(self) -> str | bytes:
        return await self.link.receive()

    async def send(self, frame: bytes) -> None:
        self.sent[orjson.loads(frame)["type"]] += 1
        await self.link.send(frame)

    async def ping(self) -> None:
        await self.link.ping()

    async def close(self, code: int, reason: str) -> None:
        await self.link.close(code, reason)

    def abort(self) -> None:
        self.link.abort()


@define(eq=False)
class Instance:
    """One instance of a world; `crash` ends it without goodbye, `run` starts it again on what its store kept."""

    number: int
    world: World
    store: MemoryStore = field(factory=MemoryStore)
    workspace: MemoryWorkspace = field(factory=MemoryWorkspace)
    events: list[Emit] = field(factory=list)
    sent: Counter[str] = field(factory=Counter)
    clock_shift_ms: int = 0
    kept: list[tuple[str, JsonObject]] = field(factory=list)
    drain: DrainRequest = field(factory=DrainRequest)
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    boots: int = 0
    driver: Driver | None = None

    @property
    def name(self) -> str:
        return f"dev-0{self.number}"

    @property
    def url(self) -> str:
        return url(self.number)

    def configuration(self) -> Configuration:
        return Configuration(
            name="protoMaker",
            repo_root=Path(f"/{self.name}"),
            protolab=Protolab(
                enabled=True,
                role=Role.PRIMARY if self.number == 1 else Role.WORKER,
                instance_id=self.name,
                instance_url=self.url,
            ),
            instance=InstanceKeys(name=self.name),
            hivemind=Hivemind(
                enabled=True,
                peers=tuple(url(number) for number in range(1, self.world.size + 1)),
                failover=self.world.failover,
                failback=self.world.failback,
            ),
            drain=Drain(),
            compaction=self.world.compaction,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.boots += 1
        self.drain = DrainRequest()
        self.store = MemoryStore(await self.store.load())
        ports = Ports(
            store=self.store,
            workspace=self.workspace,
            network=Counted(self.world.network.host(self.url), self.sent),
            clock=self.clock,
            sample=Capacity,
            agents=MemoryAgents(self.clock),
            random=Random(self.number),
            boot=f"{self.name}-{self.boots}",
            emit=self.events.append,
            set_aside=self.keep,
            workspace_poll_s=self.world.workspace_poll_s,
        )
        with trio.CancelScope() as self.scope:
            try:
                async with trio.open_nursery() as nursery:
                    self.driver = await nursery.start(_live, self.configuration(), ports, self.drain)
                    task_status.started()
            finally:
                self.driver = None

    def clock(self) -> Now:
        """This host's clocks; `clock_shift_ms` is how wrong its wall clock is."""
        now = self.world.clock()
        return Now(now.mono_s, now.utc_ms + self.clock_shift_ms)

    async def keep(self, slug: str, document: JsonObject) -> str:
        await trio.lowlevel.checkpoint()
        self.kept.append((slug, document))
        return f"/aside/{slug}"

    def crash(self) -> None:
        self.store.crash()
        self.scope.cancel()

    async def put(self, slug: str, document: JsonObject) -> Accepted | Rejected:
        return await self.submit(PutProject(0, slug, document))

    async def submit(self, command: Command) -> Accepted | Rejected:
        assert self.driver is not None
        return await self.driver.submit(command)

    def document(self, slug: str) -> JsonObject | None:
        assert self.driver is not None
        document = self.driver.snapshot().documents.get(slug)
        return document.json() if document and document.ended is None else None

    def sees(self) -> dict[str, Status]:
        """The status of every other instance, as this one sees it."""
        assert self.driver is not None
        return {member.instance_id: member.status for member in self.driver.snapshot().members}

    @property
    def is_primary(self) -> bool:
        return self.driver is not None and self.driver.snapshot().role is Role.PRIMARY

    @property
    def decides(self) -> bool:
        """Whether it is a primary with authority."""
        return self.is_primary and self.driver is not None and self.driver.snapshot().leadership.authoritative

    @property
    def follows(self) -> str | None:
        """Which primary it is linked to, itself when it leads."""
        if self.driver is None:
            return None
        snapshot = self.driver.snapshot()
        return snapshot.primary_id if snapshot.connected else None

    def told(self, kind: str) -> list[Emit]:
        return [event for event in self.events if event.type == kind]


async def _live(
    configuration: Configuration, ports: Ports, drain: DrainRequest, *, task_status: trio.TaskStatus[Driver]
) -> None:
    await live(configuration, ports, drain, task_status=task_status)


@define(eq=False)
class World:
    """Instances 1 (the primary of a cold start) to `size` on one network; time is trio's."""

    size: int
    compaction: Compaction = field(factory=Compaction)
    failover: str = "auto"
    failback: str = "auto"
    network: MemoryNetwork = field(factory=MemoryNetwork)
    workspace_poll_s: float = 5.0
    instances: list[Instance] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.instances = [Instance(number, self) for number in range(1, self.size + 1)]

    def clock(self) -> Now:
        return Now(trio.current_time(), EPOCH_MS + round(trio.current_time() * 1000))

    def cut_off(self, instance: Instance) -> None:
        """Partition one instance from all others, and break its links."""
        for other in self.instances:
            if other is not instance:
                self.network.partition(instance.url, other.url)
                self.network.cut(instance.url, other.url)

    def reunite(self, instance: Instance) -> None:
        for other in self.instances:
            if other is not instance:
                self.network.heal(instance.url, other.url)

    async def is_led_by(self, leader: Instance) -> bool:
        """Whether it decides, and everybody who is up follows it."""
        await trio.lowlevel.checkpoint()
        return leader.decides and all(one.follows == leader.name for one in self.instances if one.driver)

    async def all_see_all(self) -> bool:
        await trio.lowlevel.checkpoint()
        names = {instance.name for instance in self.instances}
        return all(
            instance.sees() == dict.fromkeys(names - {instance.name}, Status.ALIVE) for instance in self.instances
        )


async def until(condition: Callable[[], Awaitable[bool]], within_s: float) -> float:
    """Wait in virtual time for a condition; returns how long it took in seconds."""
    start = trio.current_time()
    while not await condition():
        assert trio.current_time() - start < within_s, f"not so within {within_s} virtual seconds"
        await trio.sleep(0.05)
    return trio.current_time() - start
