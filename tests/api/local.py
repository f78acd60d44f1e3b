"""A real node without an engine: commands are stepped on the spot, nothing is stored and nothing is sent."""

from __future__ import annotations

from pathlib import Path

from attrs import define, evolve, field

from meshd.api.instance import Instance
from meshd.capacity import ProcessMemory
from meshd.configuration import Configuration, Hivemind, InstanceKeys, Protolab
from meshd.core.effects import Accepted, Effect, Emit, Rejected, Reply
from meshd.core.inputs import Input, LinkUp, Received, Request
from meshd.core.messages import Heartbeat, Identity, UtcMs
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.core.stored import Stored
from meshd.events import EventStream
from meshd.model import Capacity, Focus, Now, Role
from meshd.store import Disk
from tests.core.mesh import lead

START = Now(1000.0, 1_773_480_413_589)
"""2026-03-14T09:26:53.589Z"""

AMPLE = Disk(50_000_000_000)

PEERS = ("ws://100.64.0.1:4444", "ws://100.64.0.2:4444", "ws://100.64.0.3:4444")

ALONE = Configuration(
    repo_root=Path("/srv/project"), data_dir=Path("/srv/data"), protolab=Protolab(instance_id="dev-01")
)

PRIMARY = evolve(
    ALONE,
    name="protoMaker",
    protolab=Protolab(enabled=True, role=Role.PRIMARY, instance_id="dev-01", instance_url=PEERS[0]),
    instance=InstanceKeys(name="Primary Dev", tags=("backend", "infra")),
    hivemind=Hivemind(enabled=True, peers=PEERS, failover="priority"),
)
"""It leads in a term, though nobody votes: with a policy that needs no majority."""

WORKER = evolve(
    PRIMARY,
    protolab=Protolab(enabled=True, role=Role.WORKER, instance_id="dev-02", instance_url=PEERS[1]),
    instance=InstanceKeys(name="Worker A", focus=Focus.FRONTEND, tags=("docs",)),
)


@define
class Local:
    """One instance at one moment; a test moves `now` by hand."""

    configuration: Configuration = ALONE
    now: Now = START
    disk: Disk = AMPLE
    events: EventStream = field(factory=EventStream)
    stops: list[str] = field(factory=list)
    node: Node = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.node = Node(self.configuration, Birth("b007", "0.1.0"), Stored("5704e"))
        if self.configuration.mesh_enabled and self.configuration.protolab.role is Role.PRIMARY:
            self._take(lead(self.node, self.now))

    def step(self, happened: Input) -> list[Effect]:
        return self._take(self.node.step(happened, self.now))

    def _take(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Emit):
                self.events.append(effect)
        return effects

    async def submit(self, command: Request) -> Accepted | Rejected:
        outcomes = [effect.outcome for effect in self.step(command) if isinstance(effect, Reply)]
        assert len(outcomes) == 1
        return outcomes[0]

    async def put(self, happened: Input) -> None:
        self.step(happened)

    def meet(self, link: int, instance_id: str, url: str | None, capacity: Capacity | None = None) -> None:
        """A peer connects and says who it is; with a capacity it also sends a heartbeat. `url` gives its priority."""
        utc_ms = UtcMs(self.now.utc_ms)
        self.step(LinkUp(link, "100.64.0.9:50000"))
        identity = Identity(
            instance_id,
            utc_ms,
            name="A peer",
            role="qa",
            tags=("docs", "gpu", "qa"),
            url=url,
            priority=PEERS.index(url) if url in PEERS else None,
        )
        self.step(Received(link, identity))
        if capacity:
            self.step(Received(link, Heartbeat(instance_id, utc_ms, capacity=capacity)))

    def instance(self, api_key: str | None = None) -> Instance:
        return Instance(
            configuration=self.configuration,
            version="0.1.0",
            snapshot=lambda: self.node.snapshot(self.now),
            submit=self.submit,
            put=self.put,
            stop=self.stops.append,
            utc_ms=lambda: self.now.utc_ms,
            uptime_s=lambda: 12.3456,
            process_memory=lambda: ProcessMemory(60_000_000, 90_000_000),
            disk=lambda: self.disk,
            hostname="Box.example",
            api_key=api_key,
            events=self.events,
        )
