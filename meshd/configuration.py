"""The values of `proto.config.yaml` once they are read: every key, its type and its default.

Sections and fields carry the file's names in snake_case (`hivemind.peerTtlMs` is `hivemind.peer_ttl_ms`); the file is
read by `meshd.config`, and nothing later checks these values again. Source: the specification's "Key fields" and the
design's section 13.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

from meshd.model import Focus, Json, Role


@frozen
class Protolab:
    enabled: bool = False
    role: Role = Role.WORKER
    sync_port: int = 4444
    sync_bind_addr: str = "0.0.0.0"
    instance_id: str = ""
    instance_url: str | None = None
    advertised: bool = False


@frozen
class InstanceKeys:
    """`instance.*`: how this instance presents itself. `role` in the file is `focus` here."""

    name: str | None = None
    focus: Focus = Focus.FULLSTACK
    tags: tuple[str, ...] = ()


@frozen
class Hivemind:
    enabled: bool = False
    heartbeat_interval_ms: int = 30_000
    peer_ttl_ms: int = 120_000
    peers: tuple[str, ...] = ()
    failover: str = "auto"
    failback: str = "auto"
    leader_eligible: bool = True
    max_clock_skew_ms: int = 300_000
    original_peers: str = "allow"


@frozen
class WorkIntake:
    enabled: bool = True
    tick_interval_ms: int = 30_000
    claim_timeout_ms: int = 1_800_000
    overflow: bool = True
    overflow_ticks: int = 3
    max_attempts: int = 3
    retry_backoff_ms: int = 60_000
    lock_delay_ms: int = 15_000
    when_partitioned: str = "pause"


@frozen
class Agents:
    command: tuple[str, ...] = ()
    max: int = 1
    timeout_ms: int | None = None
    cwd: Path | None = None
    env: Mapping[str, str] = field(factory=dict)


@frozen
class Drain:
    grace_ms: int = 5_000
    work_timeout_ms: int = 60_000


@frozen
class Outbox:
    max_changes: int = 100_000


@frozen
class Compaction:
    interval_ms: int = 300_000
    alert_bytes: int = 10_485_760
    tombstone_retention_ms: int = 604_800_000


@frozen
class Log:
    format: str = "auto"
    level: str = "info"


@frozen
class Api:
    port: int = 3008
    bind_addr: str = "0.0.0.0"
    socket: Path | None = None

    @property
    def url(self) -> str:
        """Where it is reached on this host."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.bind_addr, self.bind_addr)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


@frozen
class Configuration:
    """One instance's whole configuration.

    `repo_root` and `data_dir` are absolute. `foreign` holds the sections that protoLabs keeps in the same file
    (`techStack`, `commands`, ...): accepted, left alone.
    """

    name: str = ""
    version: str | None = None
    repo_root: Path = Path()
    data_dir: Path = Path("data")
    protolab: Protolab = Protolab()
    instance: InstanceKeys = InstanceKeys()
    hivemind: Hivemind = Hivemind()
    work_intake: WorkIntake = WorkIntake()
    agents: Agents = Agents()
    drain: Drain = Drain()
    outbox: Outbox = Outbox()
    compaction: Compaction = Compaction()
    log: Log = Log()
    api: Api = Api()
    shared_settings: Mapping[str, Json] = field(factory=dict)
    foreign: Mapping[str, Json] = field(factory=dict)

    @property
    def mesh_enabled(self) -> bool:
        """Whether this instance joins a mesh: both switches of the specification are on."""
        return self.hivemind.enabled and self.protolab.enabled

    @property
    def priority(self) -> int | None:
        """The index of this instance in `hivemind.peers`, 0 is the canonical primary; None when it is not listed."""
        url = self.protolab.instance_url
        return self.hivemind.peers.index(url) if url in self.hivemind.peers else None
