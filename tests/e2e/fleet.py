"""Real daemons as processes, on loopback addresses of their own: the specification's ports, its configuration."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # psutil ships no types
import trio
from attrs import define, field

from meshd.model import Json
from tests.e2e.proxy import Proxy

REAL_PROJECTS = Path(__file__).parents[3] / "shared" / "data" / "projects"
START_WITHIN_S = 30.0
POLL_S = 0.02
Sections = Mapping[str, Mapping[str, Json]]
"""More of a configuration file: its keys by section."""

PROXIES = "10"  # before the last octet of an instance: the address of the proxy in front of it

SPECIFICATION = """\
name: protoMaker
version: '1.0.0'

protolab:
  enabled: true
  role: {role}
  syncPort: 4444
  syncBindAddr: {address}
  instanceId: {instance_id}
  instanceUrl: ws://{network}.{front}{number}:4444
  advertised: {is_proxied}

instance:
  name: '{name}'
  role: {focus}
  tags: [{tags}]

hivemind:
  enabled: true
  heartbeatIntervalMs: {heartbeat_ms}
  peerTtlMs: {ttl_ms}
  failover: {failover}
  failback: {failback}
  leaderEligible: {leader_eligible}
  peers: # the first is the primary: index 0 = highest priority
{peers}

api:
  bindAddr: {address}

{sections}
"""

WORK_INTAKE: dict[str, Json] = {"enabled": True, "tickIntervalMs": 30_000, "claimTimeoutMs": 1_800_000}

ROLES = {
    1: {"role": "primary", "name": "Primary Dev", "focus": "fullstack", "tags": "backend, infra"},
    2: {"role": "worker", "name": "Worker A", "focus": "frontend", "tags": "docs"},
    3: {"role": "worker", "name": "Worker B", "focus": "backend", "tags": ""},
}


def own_network() -> str:
    """Three octets of 127/8 that no other test process uses."""
    pid = os.getpid()
    return f"127.{1 + pid % 250}.{1 + pid // 250 % 250}"


@define(eq=False)
class Instance:
    """One daemon: its folders, its process, its API.

    What its file says may be changed: `configure` writes it anew, for the next start. `peers` is how many there are,
    `role_in_file` its role at a cold start; "" is what the specification gives an instance of this number.
    """

    number: int
    network: str
    folder: Path
    heartbeat_ms: int = 30_000
    ttl_ms: int = 120_000
    proxy: Proxy | None = None
    failover: str = "auto"
    failback: str = "auto"
    leader_eligible: bool = True
    peers: int = 3
    role_in_file: str = ""
    focus: str = ""
    sections: Sections = field(factory=dict)
    process: subprocess.Popen[bytes] | None = None
    client: httpx.AsyncClient = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.client = httpx.AsyncClient(base_url=f"http://{self.address}:3008", timeout=10)
        self.repo_root.mkdir(parents=True, exist_ok=True)  # a test may have mounted a disk in it
        self.configure()

    def configure(self) -> None:
        """Write the file; a daemon that runs reads it at its next start."""
        front = PROXIES if self.proxy else ""
        peers = [
            f"    - ws://{self.network}.{front}{number}:4444 # dev-0{number}" for number in range(1, self.peers + 1)
        ]
        values = {**ROLES.get(self.number, ROLES[3]), "address": self.address, "network": self.network}
        values |= {"front": front, "number": str(self.number), "peers": "\n".join(peers)}
        values |= {"instance_id": self.name, "is_proxied": str(self.proxy is not None).lower()}
        values |= {"heartbeat_ms": str(self.heartbeat_ms), "ttl_ms": str(self.ttl_ms)}
        values |= {"failover": self.failover, "failback": self.failback}
        values |= {"leader_eligible": str(self.leader_eligible).lower()}
        values |= {"role": self.role_in_file} if self.role_in_file else {}
        values |= {"focus": self.focus, "tags": ""} if self.focus else {}
        sections = {**self.sections, "workIntake": WORK_INTAKE | dict(self.sections.get("workIntake", {}))}
        values |= {"sections": "\n".join(_section(name, keys) for name, keys in sections.items())}
        self.config_file.write_text(SPECIFICATION.format(**values))

    @property
    def name(self) -> str:
        return f"dev-0{self.number}"

    @property
    def address(self) -> str:
        return f"{self.network}.{self.number}"

    @property
    def repo_root(self) -> Path:
        return self.folder / f"root-of-{self.name}"

    @property
    def config_file(self) -> Path:
        return self.repo_root / "proto.config.yaml"

    @property
    def log_file(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def project_file(self, slug: str) -> Path:
        return self.repo_root / ".automaker" / "projects" / slug / "project.json"

    async def start(self) -> None:
        await self.spawn()
        await until(self.is_ready, START_WITHIN_S)

    async def spawn(self) -> None:
        command = [sys.executable, "-m", "meshd", "run", "--config", str(self.config_file)]
        with self.log_file.open("ab") as log:
            self.process = await trio.to_thread.run_sync(lambda: subprocess.Popen(command, stderr=log, stdout=log))

    async def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"{self.name} ended: {self.log}"
        try:
            return (await self.client.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def stop(self, number: int = signal.SIGTERM, within_s: float = 15.0) -> int:
        """Send a signal and wait; returns the exit code."""
        assert self.process is not None
        process = self.process
        process.send_signal(number)

        async def ended() -> bool:
            return process.poll() is not None

        await until(ended, within_s)
        return int(process.returncode)

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        await self.stop(signal.SIGKILL)

    async def restart(self) -> None:
        """kill -9 if it runs, and start it again."""
        if self.process and self.process.poll() is None:
            await self.kill()
        await self.start()

    def pause(self) -> None:
        """Stop its time: its links stay open and silent, as on a host that sleeps."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    async def get(self, path: str) -> Any:
        response = await self.client.get(path)
        response.raise_for_status()
        return response.json()

    async def sync(self) -> dict[str, Any]:
        """The `sync` part of the detailed health."""
        health: dict[str, Any] = await self.get("/api/health/detailed")
        sync: dict[str, Any] = health["sync"]
        return sync

    async def role(self) -> str:
        """What it is: `primary` or `worker`."""
        return str((await self.sync())["role"])

    async def online(self) -> set[str]:
        return {peer["identity"]["instanceId"] for peer in (await self.sync())["onlinePeers"]}

    def resident_bytes(self) -> int:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024


def _section(name: str, keys: Mapping[str, Json]) -> str:
    return "\n".join([f"{name}:", *(f"  {key}: {json.dumps(value)}" for key, value in keys.items()), ""])


async def until(condition: Callable[[], Awaitable[bool]], within_s: float) -> float:
    """Wait for a condition; returns how long it took in seconds, fails after `within_s`."""
    start = trio.current_time()
    with trio.move_on_after(within_s):
        while not await condition():
            await trio.sleep(POLL_S)
        return trio.current_time() - start
    raise AssertionError(f"not so within {within_s} s: {condition}")


async def primaries(instances: list[Instance]) -> list[str]:
    """Who says that it leads; none of them may be paused."""
    return [instance.name for instance in instances if await instance.role() == "primary"]


async def are_led_by(instances: list[Instance], leader: Instance) -> bool:
    """Whether that one decides, and all of these follow it; none of them may be paused or down."""
    healths = [await instance.sync() for instance in instances]
    follow = all(health["connected"] and health["primaryId"] == leader.name for health in healths)
    return follow and (await leader.sync())["authoritative"] is True


async def contents(instance: Instance) -> dict[str, dict[str, Any]]:
    """Every living document of an instance."""
    rows = (await instance.get("/api/projects"))["projects"]
    return {row["slug"]: await instance.get(f"/api/projects/{row['slug']}") for row in rows}


async def revisions(instance: Instance) -> dict[str, str]:
    return {row["slug"]: row["revision"] for row in (await instance.get("/api/projects"))["projects"]}


async def all_are_equal(instances: list[Instance], within_s: float = 30.0) -> dict[str, dict[str, Any]]:
    """Wait until every instance holds the same and nothing is queued; returns the documents."""

    async def equal() -> bool:
        held = [await revisions(instance) for instance in instances]
        queued = [(await instance.sync())["queuedChanges"] for instance in instances]
        return all(one == held[0] for one in held) and not any(queued)

    await until(equal, within_s)
    first, *others = [await contents(instance) for instance in instances]
    for other in others:
        assert other == first
    return first


@asynccontextmanager
async def fleet(
    folder: Path,
    *,
    size: int = 3,
    heartbeat_ms: int = 30_000,
    ttl_ms: int = 120_000,
    failover: str = "auto",
    failback: str = "auto",
    peers: int = 3,
    sections: Sections | None = None,
    is_proxied: bool = False,
    is_started: bool = True,
) -> AsyncIterator[list[Instance]]:
    """Instances that all see each other; killed at the end whatever happened.

    With `is_proxied` they dial each other through the `proxy` of each. Without `is_started` the test starts them.
    """
    network = own_network()
    instances: list[Instance] = []
    for number in range(1, size + 1):
        at, target = (f"{network}.{PROXIES}{number}", 4444), (f"{network}.{number}", 4444)
        proxy = Proxy(at, target, partial(_instance_at, instances)) if is_proxied else None
        instance = Instance(
            *(number, network, folder, heartbeat_ms, ttl_ms, proxy),
            failover=failover,
            failback=failback,
            peers=peers,
            sections=sections or {},
        )
        instances.append(instance)
    try:
        async with trio.open_nursery() as proxies:
            for instance in instances:
                if instance.proxy:
                    await proxies.start(instance.proxy.run)
            if is_started:
                await _start(instances)
            yield instances
            proxies.cancel_scope.cancel()
    finally:
        with trio.move_on_after(10, shield=True):
            for instance in instances:
                if instance.process and instance.process.poll() is None:
                    instance.process.kill()
                    instance.process.wait()
                await instance.client.aclose()


async def _start(instances: list[Instance]) -> None:
    async with trio.open_nursery() as nursery:
        for instance in instances:
            nursery.start_soon(instance.start)
    for instance in instances:
        others = {other.name for other in instances if other is not instance}

        async def sees_all(instance: Instance = instance, others: set[str] = others) -> bool:
            return await instance.online() == others

        await until(sees_all, 10)


def _instance_at(instances: list[Instance], port: int) -> str:
    """The instance whose process connects from this port, "" when it is gone already."""
    for instance in instances:
        with suppress(psutil.Error):
            if instance.process and any(
                connection.laddr.port == port
                for connection in psutil.Process(instance.process.pid).net_connections("tcp")
            ):
                return instance.name
    return ""
