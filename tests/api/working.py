"""Instances whose documents have work, and what their API says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from attrs import define, evolve, field

from meshd.api.app import create_app
from meshd.api.instance import Instance
from meshd.configuration import Agents, Configuration
from meshd.core.effects import Accepted, Rejected
from meshd.core.inputs import Input, PutProject, Request, Started, TakeWork
from meshd.events import EventStream
from meshd.model import JsonObject
from tests.api.local import ALONE, Local
from tests.core.mesh import Host
from tests.core.workforce import Workforce, site

PLACE = "/api/phases/site/m/p"
WITH_COMMAND = evolve(ALONE, agents=Agents(("work",)))


Taking = Callable[[Local, TakeWork], Awaitable[Accepted | Rejected]]


@define
class OwnDisk(Local):
    """An instance whose disk does something of its own when a feature is taken."""

    taking: Taking = field(kw_only=True)

    async def submit(self, command: Request) -> Accepted | Rejected:
        if isinstance(command, TakeWork):
            return await self.taking(self, command)
        return await Local.submit(self, command)


async def at_work(
    *phases: str | JsonObject, configuration: Configuration = ALONE, taking: Taking | None = None
) -> Local:
    """An instance with the project `site`: milestone `m` with these phases, or with `p`."""
    local = OwnDisk(configuration, taking=taking) if taking else Local(configuration)
    if not configuration.mesh_enabled:
        local.step(Started())
    assert isinstance(await local.submit(PutProject(0, "site", site(*(phases or ("p",))))), Accepted)
    return local


@define(eq=False)
class OfMesh:
    """A host of a mesh; what its node sends arrives when the test lets it, or with `settles` at once."""

    mesh: Workforce
    host: Host
    settles: bool = False
    apart: Local = field(factory=Local)  # for what the API needs besides a node

    async def submit(self, command: Request) -> Accepted | Rejected:
        self.mesh.step(self.host, command)
        answer = self.host.replies[-1]
        if self.settles:
            self.mesh.settle()
        await trio.lowlevel.checkpoint()
        return answer

    async def put(self, happened: Input) -> None:
        self.mesh.step(self.host, happened)
        await trio.lowlevel.checkpoint()

    @property
    def events(self) -> EventStream:
        """It tells none of what happens on the host."""
        return self.apart.events

    def instance(self) -> Instance:
        return evolve(
            self.apart.instance(),
            configuration=self.host.configuration,
            snapshot=lambda: self.mesh.snapshot(self.host),
            submit=self.submit,
            put=self.put,
        )


def client(local: Local | OfMesh) -> Any:
    return create_app(local.instance()).test_client()


async def ask(local: Local | OfMesh, method: str, path: str, **body: Any) -> tuple[int, Any]:
    """The status and the JSON of an answer; `json=` is the body."""
    response = await client(local).open(path, method=method, **body)
    data = await response.get_data()
    return response.status_code, await response.get_json(force=True) if data else None


async def refused(local: Local | OfMesh, method: str, path: str, **body: Any) -> tuple[int, str]:
    """The status and the stable code of a refusal."""
    response = await client(local).open(path, method=method, **body)
    assert response.content_type == "application/problem+json", await response.get_data()
    problem = await response.get_json(force=True)
    assert problem["detail"]
    return response.status_code, problem["code"]
