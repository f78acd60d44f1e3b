"""The three daemons of a demo: their folders, ports, configuration files and processes.

Each runs in a session of its own, so that a Ctrl-C in the terminal reaches the demo alone, which drains them. Each has
a standard input that the demo holds and never writes to: it ends with the demo, also with one that is killed, and the
daemon drains. (The kernel's parent-death signal would come when the *thread* that started it ends.)
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # psutil ships no types
import trio
from attrs import define, field

HOST = "127.0.0.1"
HEARTBEAT_INTERVAL_MS = 500
PEER_TTL_MS = 3000
TICK_INTERVAL_MS = 500
CLAIM_TIMEOUT_MS = 4000  # work of 2 s that has just begun outlives the time without a primary
LOCK_DELAY_MS = 500
MAX_ATTEMPTS = 2
RETRY_BACKOFF_MS = 1000

AGENT = Path(__file__).with_name("agent.py")
LEAVE_WITHIN_S = 5.0  # what a killed daemon ran is ended by its guards, after a grace of a tenth of the claim timeout
LOOK_AGAIN_S = 0.02

# Variables of this process that would speak to the children: overrides of configuration, and systemd's.
_NOT_FOR_CHILDREN = ("MESHD_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "AUTOMAKER_API_KEY", "JOURNAL_STREAM")

_CONFIGURATION = """\
# Written by `meshd demo`: the three-node example with loopback addresses and short intervals.
name: demo

protolab:
  enabled: true
  role: {role}
  syncPort: {sync_port}
  syncBindAddr: {host}
  instanceId: {name}
  instanceUrl: ws://{host}:{sync_port}

instance:
  name: 'Demo {name}'
  role: {focus}
  tags: [{tags}]

hivemind:
  enabled: true
  heartbeatIntervalMs: {heartbeat_interval_ms}
  peerTtlMs: {peer_ttl_ms}
  peers:
{peers}

workIntake:
  tickIntervalMs: {tick_interval_ms}
  claimTimeoutMs: {claim_timeout_ms}
  lockDelayMs: {lock_delay_ms}
  maxAttempts: {max_attempts}
  retryBackoffMs: {retry_backoff_ms}
  overflow: false

agents:
  command: {command}

api:
  port: {api_port}
  bindAddr: {host}
"""


@define(eq=False)
class Instance:
    """One daemon: what it is called, where it lives, and its process once it runs."""

    name: str
    role: str
    focus: str
    folder: Path
    diary: Path
    tags: tuple[str, ...] = ()
    sync_port: int = 0
    api_port: int = 0
    process: trio.Process | None = None
    is_ending: bool = False  # it was asked to end, so that its end is no surprise

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.api_port}"

    @property
    def configuration_file(self) -> Path:
        return self.folder / "proto.config.yaml"

    @property
    def log_file(self) -> Path:
        return self.folder / "meshd.log"

    @property
    def takes(self) -> tuple[str, ...]:
        """The kinds of work that suit it."""
        return (self.focus, *self.tags)

    def project_file(self, slug: str) -> Path:
        """Where its workspace shows the project."""
        return self.folder / ".automaker" / "projects" / slug / "project.json"

    @property
    def has_crashed(self) -> bool:
        return not self.is_ending and self.process is not None and self.process.returncode is not None

    @property
    def ending(self) -> str:
        """How its process ended: `exit code 1`, `SIGKILL`; "" while it runs."""
        code = self.process.returncode if self.process else None
        if code is None:
            return ""
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def state(self) -> str:
        """What its process is doing, as long as its API does not answer."""
        code = self.process.returncode if self.process else None
        return "starting" if code is None else "ended" if code == 0 else "killed"

    def configure(self, peers: Iterable[Instance]) -> None:
        """Write its configuration file."""
        urls = "\n".join(f"    - ws://{HOST}:{peer.sync_port} # {peer.name}" for peer in peers)
        self.folder.mkdir(exist_ok=True)
        text = _CONFIGURATION.format(
            name=self.name,
            role=self.role,
            focus=self.focus,
            tags=", ".join(self.tags),
            host=HOST,
            sync_port=self.sync_port,
            api_port=self.api_port,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            peer_ttl_ms=PEER_TTL_MS,
            peers=urls,
            tick_interval_ms=TICK_INTERVAL_MS,
            claim_timeout_ms=CLAIM_TIMEOUT_MS,
            lock_delay_ms=LOCK_DELAY_MS,
            max_attempts=MAX_ATTEMPTS,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            command=json.dumps([sys.executable, "-I", "-S", str(AGENT), str(self.diary)]),
        )
        self.configuration_file.write_text(text)

    async def start(self) -> int:
        """Start the daemon; returns its process id."""
        with self.log_file.open("ab") as log:
            self.process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "meshd", "run", "--until-eof", "--config", str(self.configuration_file)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=child_environment(os.environ),
            )
        self.is_ending = False
        return self.process.pid

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone, and the agents that it ran."""
        self.is_ending = True
        if self.process is not None:
            below = _below(self.process.pid)
            self.process.kill()
            await self.process.wait()
            with trio.move_on_after(LEAVE_WITHIN_S):
                while any(_is_running(process) for process in below):  # noqa: ASYNC110  they are not our children
                    await trio.sleep(LOOK_AGAIN_S)

    async def drain(self) -> int:
        """SIGTERM, and wait for the end; returns the exit code."""
        self.is_ending = True
        assert self.process is not None, "only what was started is drained"
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()

    def last_words(self, lines: int = 12) -> list[str]:
        """The end of its log."""
        try:
            return self.log_file.read_text(errors="replace").splitlines()[-lines:]
        except OSError:
            return []


@define(eq=False)
class Mesh:
    """The three instances, below one folder."""

    folder: Path
    instances: tuple[Instance, ...] = field(init=False)

    @instances.default
    def _three(self) -> tuple[Instance, ...]:
        return (
            Instance("dev-01", "primary", "infra", self.folder / "dev-01", self.diary, ("backend",)),
            Instance("dev-02", "worker", "frontend", self.folder / "dev-02", self.diary, ("docs",)),
            Instance("dev-03", "worker", "backend", self.folder / "dev-03", self.diary, ("qa",)),
        )

    @property
    def diary(self) -> Path:
        """The file in which all agents write what they do."""
        return self.folder / "diary.jsonl"

    def configure(self) -> None:
        """Give every instance free ports and write its configuration."""
        ports = iter(free_ports(2 * len(self.instances)))
        for instance in self.instances:
            instance.sync_port, instance.api_port = next(ports), next(ports)
        for instance in self.instances:
            instance.configure(self.instances)

    def others(self, instance: Instance) -> tuple[Instance, ...]:
        return tuple(other for other in self.instances if other is not instance)

    async def kill(self) -> None:
        async with trio.open_nursery() as nursery:
            for instance in self.instances:
                nursery.start_soon(instance.kill)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has; somebody may be quicker than whoever uses them."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the daemon does: old connections do not count
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _below(pid: int) -> list[psutil.Process]:
    """The guards and agents of a daemon."""
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    return found


def _is_running(process: psutil.Process) -> bool:
    """Whether it does anything any more; one that nobody has waited for does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith(_NOT_FOR_CHILDREN)}
