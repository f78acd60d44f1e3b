"""Features are local to their instance: whatever way somebody tries, none reaches another instance or a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from meshd.api.app import create_app
from meshd.api.instance import Instance as Api
from meshd.core.effects import Emit
from meshd.errors import LinkClosed
from meshd.links import Link
from tests.api.local import Local
from tests.shell.world import EPOCH_MS, Instance, World, until, url

KINDS = ("feature:created", "feature:updated", "feature:deleted", "feature:status-changed")
FEATURE = {"id": "f1", "title": "A feature", "projectSlug": "alpha", "milestoneSlug": "m", "phaseSlug": "p"}
PAYLOAD = {"projectSlug": "alpha", "projectPath": "/x", "featureId": "f1", "feature": FEATURE, "project": FEATURE}
TIMESTAMP = "2026-03-14T09:26:53.589Z"


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    world = World(3)
    for instance in world.instances:
        await nursery.start(instance.run)
    await until(world.all_see_all, 10)
    return world


@define
class Peer:
    """Somebody who speaks the wire by hand, and keeps what it hears."""

    link: Link
    name: str
    heard: list[str] = field(factory=list)

    async def say(self, kind: str, **keys: Any) -> None:
        frame = {"type": kind, "instanceId": self.name, "timestamp": TIMESTAMP, **keys}
        await self.link.send(json.dumps(frame).encode())

    async def listen(self) -> None:
        try:
            while True:
                self.heard.append(str(await self.link.receive()))
        except LinkClosed:
            pass


@asynccontextmanager
async def peer(world: World, number: int, **identity: Any) -> AsyncIterator[Peer]:
    """A worker of the first instance: an original one, unless its identity says more."""
    host = world.network.host(url(number))
    async with host.dial(url(1)) as link, trio.open_nursery() as nursery:
        made = Peer(link, f"dev-0{number}")
        nursery.start_soon(made.listen)
        await made.say("identity", **identity)
        await trio.sleep(1)
        yield made
        await trio.sleep(1)
        nursery.cancel_scope.cancel()


NATIVE = {"protocol": 1, "minProtocol": 1, "boot": "b", "store": "s", "clock": EPOCH_MS, "syncRole": "worker"}


async def publish(instance: Instance, body: object) -> int:
    """POST to the API of an instance."""
    assert instance.driver is not None
    local = Local(instance.configuration()).instance()
    api = Api(
        configuration=local.configuration,
        version=local.version,
        snapshot=instance.driver.snapshot,
        submit=instance.driver.submit,
        put=instance.driver.put,
        stop=local.stop,
        utc_ms=local.utc_ms,
        uptime_s=local.uptime_s,
        process_memory=local.process_memory,
        disk=local.disk,
    )
    return int((await create_app(api).test_client().post("/api/events", json=body)).status_code)


def told_of_features(world: World) -> list[Emit]:
    return [event for instance in world.instances for event in instance.events if "feature" in event.type]


async def test_no_way_leads_a_feature_to_another_instance(world: World, autojump_clock: MockClock) -> None:
    primary, worker, _ = world.instances
    async with peer(world, 8) as original, peer(world, 9, **NATIVE) as native:
        for kind in KINDS:
            # By the API of a primary and of a worker.
            for instance in (primary, worker):
                assert await publish(instance, {"type": kind, "payload": PAYLOAD}) == 422
            # By the original's event, from a peer of either dialect, and by its alias.
            for sender in (original, native):
                await sender.say("feature_event", eventType=kind, payload=PAYLOAD, projectName="protoMaker")
                await sender.say("project_event", eventType=kind, payload=PAYLOAD)
                # By a message of that very name.
                await sender.say(kind, payload=PAYLOAD, feature=FEATURE)
        # By a workspace: its features are nobody's project.
        worker.workspace.edit("../features/f1", json.dumps(FEATURE))
        await trio.sleep(30)

        # The ways are open for what may go them.
        assert await publish(worker, {"type": "project:created", "payload": PAYLOAD}) == 200
        await original.say("feature_event", eventType="categories:updated", payload={"categories": ["a"]})
        await trio.sleep(30)

    assert primary.driver is not None
    dropped = primary.driver.snapshot().dropped
    assert dropped["unknown-event"] == 4 * len(KINDS)  # they did arrive
    assert dropped["unknown-type"] == 2 * len(KINDS)
    assert told_of_features(world) == []
    for instance in world.instances:
        assert instance.driver is not None
        assert set(instance.driver.snapshot().documents) == {"alpha", "@categories"}
        assert [len(instance.told(kind)) for kind in ("project:created", "categories:updated")] == [1, 1]
    heard = original.heard + native.heard
    assert any('"alpha"' in frame for frame in heard)
    assert not [frame for frame in heard if "feature:" in frame]
