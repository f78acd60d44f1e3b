"""Look at the instances of a demo through their APIs, again and again, and wait for what should come."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import httpx
import psutil  # type: ignore[import-untyped]  # psutil ships no types
import trio
from attrs import define, field, frozen

from meshd.cli.demo.instances import Instance, Mesh
from meshd.cli.output import NOTHING, mebibytes, percent, shown
from meshd.model import Status

LOOK_EVERY_S = 0.2
ANSWER_WITHIN_S = 2.0
LOOK_AGAIN_S = 0.02

HEADERS = ("instance", "role", "seen as", "connected", "peers", "projects", "queued", "cpu", "memory", "api")


class NotKept(Exception):  # noqa: N818  the end of a story, told to a person
    """Something the demo promised did not happen; the text says what, `instance` whose log may tell why."""

    def __init__(self, text: str, instance: Instance | None = None) -> None:
        super().__init__(text)
        self.instance = instance


@frozen
class Sight:
    """What one instance said at one moment. `states` are its peers' (alive, suspect, ...), by their instanceId."""

    role: str
    connected: bool
    states: Mapping[str, str]
    online: frozenset[str]
    projects: int
    queued: int

    @classmethod
    def from_json(cls, sync: Mapping[str, Any], peers: Sequence[Mapping[str, Any]], projects: Sequence[Any]) -> Sight:
        """From `sync` of /api/health/detailed, and the lists of /api/hivemind/peers and /api/projects."""
        return cls(
            role=sync["role"],
            connected=sync["connected"],
            states={peer["instanceId"]: peer["state"] for peer in peers},
            online=frozenset(peer["identity"]["instanceId"] for peer in sync["onlinePeers"]),
            projects=len(projects),
            queued=sync["queuedChanges"],
        )


@define(eq=False)
class Watch:
    """The newest sight of every instance; None of one that does not answer."""

    mesh: Mesh
    sights: dict[str, Sight | None] = field(factory=dict)
    _processes: dict[int, psutil.Process] = field(factory=dict)

    async def look(self, instance: Instance) -> NoReturn:
        """Keep the sight of one instance up to date."""
        async with client() as api:
            while True:
                try:
                    self.sights[instance.name] = await _sight(api, instance)
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

    def rows(self) -> list[tuple[str, ...]]:
        """The mesh as a table, one row per instance, under `HEADERS`."""
        return [self._row(instance) for instance in self.mesh.instances]

    def _row(self, instance: Instance) -> tuple[str, ...]:
        seen_as = self._seen_as(instance)
        cpu, memory = self._load(instance)
        port = f":{instance.api_port}"
        sight = self.sights.get(instance.name) if instance.is_running else None
        if sight is None:
            return (instance.name, instance.state, seen_as, *[NOTHING] * 4, cpu, memory, port)
        peers = f"{len(sight.online)}/{len(self.mesh.instances) - 1}"
        facts = (shown(sight.connected), peers, str(sight.projects), str(sight.queued))
        return (instance.name, sight.role, seen_as, *facts, cpu, memory, port)

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


async def _sight(api: httpx.AsyncClient, instance: Instance) -> Sight:
    health = await _object(api, f"{instance.url}/api/health/detailed")
    peers = await _object(api, f"{instance.url}/api/hivemind/peers")
    projects = await _object(api, f"{instance.url}/api/projects")
    return Sight.from_json(health["sync"], peers["peers"], projects["projects"])


async def _object(api: httpx.AsyncClient, url: str) -> dict[str, Any]:
    response = await api.get(url)
    response.raise_for_status()
    body: dict[str, Any] = json.loads(response.content)
    return body
