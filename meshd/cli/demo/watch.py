"""Look at the instances of a demo through their APIs, again and again, and wait for what should come."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import httpx
import psutil  # type: ignore[import-untyped]  # psutil ships no types
import trio
from attrs import define, field, frozen

from meshd.cli.client import project_path
from meshd.cli.demo.instances import LOOK_AGAIN_S, Instance, Mesh
from meshd.cli.demo.progress import Phase, phases_of
from meshd.cli.output import NOTHING, mebibytes, percent
from meshd.model import Role, Status

LOOK_EVERY_S = 0.2
ANSWER_WITHIN_S = 2.0

HEADERS = ("instance", "role", "takes", "seen as", "peers", "queued", "cpu", "memory", "api")


class NotKept(Exception):  # noqa: N818  the end of a story, told to a person
    """Something the demo promised did not happen; the text says what, `instance` whose log may tell why."""

    def __init__(self, text: str, instance: Instance | None = None) -> None:
        super().__init__(text)
        self.instance = instance


@frozen
class Sight:
    """What one instance said at one moment. `states` are its peers' (alive, suspect, ...), by their instanceId;
    `document` is the project, None while it has none."""

    role: str
    connected: bool
    states: Mapping[str, str]
    online: frozenset[str]
    queued: int
    document: dict[str, Any] | None

    @classmethod
    def from_json(
        cls, sync: Mapping[str, Any], peers: Sequence[Mapping[str, Any]], document: dict[str, Any] | None
    ) -> Sight:
        """From `sync` of /api/health/detailed, the list of /api/hivemind/peers, and the project."""
        return cls(
            role=sync["role"],
            connected=sync["connected"],
            states={peer["instanceId"]: peer["state"] for peer in peers},
            online=frozenset(peer["identity"]["instanceId"] for peer in sync["onlinePeers"]),
            queued=sync["queuedChanges"],
            document=document,
        )


@define(eq=False)
class Watch:
    """The newest sight of every instance, and of the project `slug` there; None of one that does not answer."""

    mesh: Mesh
    slug: str
    sights: dict[str, Sight | None] = field(factory=dict)
    _processes: dict[int, psutil.Process] = field(factory=dict)

    async def look(self, instance: Instance) -> NoReturn:
        """Keep the sight of one instance up to date."""
        async with client() as api:
            while True:
                try:
                    self.sights[instance.name] = await _sight(api, instance, self.slug)
                except (httpx.HTTPError, ValueError, KeyError):
                    self.sights[instance.name] = None
                await trio.sleep(LOOK_EVERY_S)

    async def until(self, condition: Callable[[], bool], within_s: float, what: str) -> float:
        """Wait for `condition`; returns how long that took. Raises `NotKept` when it does not come or one crashed."""
        start_s = trio.current_time()
        while not condition():
            self.check_alive()
            if trio.current_time() - start_s > within_s:
                raise NotKept(f"not within {within_s:.0f} s: {what}")
            await trio.sleep(LOOK_AGAIN_S)
        return trio.current_time() - start_s

    def check_alive(self) -> None:
        """Raise `NotKept` when an instance ended that was not asked to."""
        for instance in self.mesh.instances:
            if instance.has_crashed:
                raise NotKept(f"{instance.name} ended by itself ({instance.ending})", instance)

    def answers(self, instance: Instance) -> bool:
        return self.sights.get(instance.name) is not None

    def sees(self, instance: Instance, other: Instance, status: Status) -> bool:
        """Whether `instance` holds `other` for `status`."""
        sight = self.sights.get(instance.name)
        return sight is not None and sight.states.get(other.name) == status

    def all_see_all(self) -> bool:
        """Whether the health of every instance lists all others as online, and all are connected."""
        for instance in self.mesh.instances:
            sight = self.sights.get(instance.name)
            others = {other.name for other in self.mesh.others(instance)}
            if sight is None or not sight.connected or sight.online != others:
                return False
        return True

    def leader(self) -> Instance | None:
        """Who leads, when exactly one says so."""
        leaders = [
            instance
            for instance in self.mesh.instances
            if instance.is_running and (sight := self.sights.get(instance.name)) and sight.role == Role.PRIMARY
        ]
        return leaders[0] if len(leaders) == 1 else None

    def phases(self, instance: Instance) -> list[Phase]:
        """The phases, as one instance last showed them."""
        sight = self.sights.get(instance.name)
        return phases_of(sight.document) if sight and sight.document else []

    def rows(self) -> list[tuple[str, ...]]:
        """The mesh as a table, one row per instance, under `HEADERS`."""
        return [self._row(instance) for instance in self.mesh.instances]

    def _row(self, instance: Instance) -> tuple[str, ...]:
        takes, seen_as = ", ".join(instance.takes), self._seen_as(instance)
        cpu, memory = self._load(instance)
        port = f":{instance.api_port}"
        sight = self.sights.get(instance.name) if instance.is_running else None
        if sight is None:
            return (instance.name, instance.state, takes, seen_as, NOTHING, NOTHING, cpu, memory, port)
        peers = f"{len(sight.online)}/{len(self.mesh.instances) - 1}"
        return (instance.name, sight.role, takes, seen_as, peers, str(sight.queued), cpu, memory, port)

    def _seen_as(self, instance: Instance) -> str:
        """How the others that answer see it: one word when they agree."""
        sights = (self.sights.get(other.name) for other in self.mesh.others(instance) if other.is_running)
        states = {sight.states.get(instance.name, NOTHING) for sight in sights if sight is not None}
        return "/".join(sorted(states)) or NOTHING

    def _load(self, instance: Instance) -> tuple[str, str]:
        """CPU (since the last look, of one core) and resident memory of its process."""
        if instance.process is None or not instance.is_running:
            return NOTHING, NOTHING
        pid = instance.process.pid
        try:
            process = self._processes.setdefault(pid, psutil.Process(pid))
            return percent(process.cpu_percent()), mebibytes(process.memory_info().rss)
        except psutil.Error:
            return NOTHING, NOTHING


def client() -> httpx.AsyncClient:
    """A client for loopback: a proxy in the environment is not for it, nor are certificates."""
    return httpx.AsyncClient(timeout=ANSWER_WITHIN_S, trust_env=False, verify=False)


async def _sight(api: httpx.AsyncClient, instance: Instance, slug: str) -> Sight:
    health = await _object(api, f"{instance.url}/api/health/detailed")
    peers = await _object(api, f"{instance.url}/api/hivemind/peers")
    return Sight.from_json(health["sync"], peers["peers"], await fetched(api, instance, slug))


async def fetched(api: httpx.AsyncClient, instance: Instance, slug: str) -> dict[str, Any] | None:
    """The project as one instance has it, or None while it has none."""
    response = await api.get(instance.url + project_path(slug))
    return response.json() if response.is_success else None


async def _object(api: httpx.AsyncClient, url: str) -> dict[str, Any]:
    response = await api.get(url)
    response.raise_for_status()
    body: dict[str, Any] = json.loads(response.content)
    return body
