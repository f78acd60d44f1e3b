"""What an instance says of itself."""

from __future__ import annotations

from attrs import evolve

from meshd.configuration import InstanceKeys
from meshd.core.effects import Broadcast
from meshd.core.inputs import HeartbeatDue, LinkUp, Received
from meshd.core.messages import Heartbeat, Identity, UtcMs
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.core.stored import Stored
from meshd.model import Capacity, Focus, Now, Role, Status
from tests.core.mesh import EPOCH_MS, configuration

NOW = Now(100.0, EPOCH_MS)
KEYS = InstanceKeys("Worker A", Focus.DOCS, ("a", "b"))


def node(role: Role) -> Node:
    node = Node(evolve(configuration("dev-02", role=role), instance=KEYS), Birth("b", "1.2"), Stored("s1"))
    node.step(LinkUp(1, "h:1"), NOW)
    node.step(Received(1, Identity("dev-03", UtcMs(EPOCH_MS), protocol=1, boot="x")), NOW)
    return node


def test_a_heartbeat_carries_what_an_original_shows_and_what_we_need() -> None:
    worker = node(Role.WORKER)
    (beat,) = worker.step(HeartbeatDue(Capacity(cores=4)), NOW)
    assert beat == Broadcast(
        (1,),
        Heartbeat(
            "dev-02",
            UtcMs(EPOCH_MS),
            "Worker A",
            "docs",
            ("a", "b"),
            "ws://dev-02:4444",
            1,
            Capacity(cores=4),
            boot="b",
            status=Status.ALIVE,
            root=worker.snapshot(NOW).root,
            beat=1,
            holding=(),
            intake=True,
        ),
    )


def test_a_worker_names_the_primary_it_knows() -> None:
    worker = node(Role.WORKER)
    worker.step(LinkUp(2, "u", "ws://dev-01:4444"), NOW)
    leader = Identity("dev-01", UtcMs(EPOCH_MS), url="ws://dev-01:4444", protocol=1, boot="x", sync_role="primary")
    worker.step(Received(2, leader), NOW)
    (greeting,) = worker.step(LinkUp(3, "h:3"), NOW)
    assert getattr(greeting, "message").primary_url == "ws://dev-01:4444"  # noqa: B009  an effect of several kinds


def test_who_is_not_listed_among_the_peers_has_no_priority() -> None:
    stranger = Node(configuration("dev-77"), Birth("b", "1"), Stored("s1"))
    (greeting,) = stranger.step(LinkUp(1, "h:1"), NOW)
    assert getattr(greeting, "message").priority is None  # noqa: B009  an effect of several kinds
