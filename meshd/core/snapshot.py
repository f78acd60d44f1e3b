"""What may be seen of a node from outside: frozen pictures, taken between two steps.

`Snapshot` is for the API, the CLI and the dashboard; `Vitals` for who looks after every step.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from meshd.core.alerts import Alert
from meshd.core.ballot import Turn
from meshd.core.compaction import CompactionView
from meshd.core.documents import Conflict, Document
from meshd.core.feature import Feature
from meshd.core.settings import Scopes
from meshd.model import Capacity, Dialect, Role, Status


@frozen
class MemberView:
    """A peer as seen from here. `last_seen_ms` and `last_heartbeat_ms` are UTC for display; `age_s` is since heard.

    `in_sync`: whether its documents are equal to ours, by their root digests; None for who does not say, such as an
    original peer. `out_of_sync_since_ms` and `last_change_ms` (when a change last came from it) are UTC.
    `intake`: whether it claims new work; `holding`: how many claims it holds or asks for.
    """

    instance_id: str
    status: Status
    name: str | None
    focus: str | None
    tags: tuple[str, ...]
    url: str | None
    priority: int | None
    version: str | None
    dialect: Dialect
    capacity: Capacity | None
    last_seen_ms: int
    last_heartbeat_ms: int | None
    age_s: float
    latency_ms: float | None
    linked: bool
    in_sync: bool | None = None
    out_of_sync_since_ms: int | None = None
    last_change_ms: int | None = None
    last_change_age_s: float | None = None
    intake: bool | None = None
    holding: int | None = None


@frozen
class VoterView:
    """One of the voters, in the order of `peers`, as seen from here.

    `instance_id` is None for who was never met. `contact_age_s`: since it was last heard, None for never (and for
    ourselves). `eligible`: whether it may lead. `agrees`: whether it was given the same peers, failover and TTL.
    """

    index: int
    url: str
    instance_id: str | None
    status: Status | None
    eligible: bool
    in_sync: bool | None
    contact_age_s: float | None
    is_self: bool
    agrees: bool = True


@frozen
class FailoverView:
    """Whether a failover could succeed now: who would win, or what is missing, a sentence each."""

    possible: bool
    winner: str | None
    missing: tuple[str, ...]


@frozen
class LeadershipView:
    """Who leads, why, and why this instance does not.

    `policy`: `quorum`, `priority` or `manual`. `leads`: the term this instance was elected for, None for a worker.
    `authoritative`: whether it may decide; a primary without a majority may not. `why_not`: why this instance does not
    lead, "" when it does. `turns` are the history, oldest first.
    """

    policy: str
    failback: str
    term: int
    leads: int | None
    authoritative: bool
    standing: str
    since_ms: int | None
    cause: str
    why_not: str
    majority: int
    voters: tuple[VoterView, ...]
    failover: FailoverView
    turns: tuple[Turn, ...]


@frozen
class HeldView:
    """A claim that this host holds or has asked for.

    `state`: `asked`, `waiting` (for an agent), `working`, `suspended` (until a primary has confirmed it) or `stopping`.
    `lease_left_s`: until this host gives it up by itself; None while nothing is known of it.
    """

    place: tuple[str, str, str]
    claim: str
    generation: int
    state: str
    lease_left_s: float | None


@frozen
class DecisionView:
    """How a request for a phase ended on this host, or that it was asked for (`reason` "asked"); UTC."""

    place: tuple[str, str, str]
    claim: str
    granted: bool
    reason: str
    claimed_by: str | None
    utc_ms: int


@frozen
class HolderView:
    """On a primary that decides: how long until the claims of a holder may be taken back, if it stays silent."""

    instance_id: str
    heard_age_s: float
    reclaim_in_s: float


@frozen
class WorkView:
    """What this host does about work.

    `is_on`: whether it is to claim new work; `why_off` says why it does not, "" when it does, and `why_not_yet` why it
    could not have a phase at this moment, whether it is to or not. `max_agents` is how much it takes at
    a time, `free` how much more it would take now. `decides`: "" on a primary that decides about claims, else why this
    instance does not (`worker`, `settling`, `no-quorum`, `draining`). `decisions` are the latest, by claim.
    `passed_over`: ticks in which it found only work of another focus than its own. `features` are all that are kept,
    by id.
    """

    is_on: bool
    why_off: str
    why_not_yet: str
    max_agents: int
    free: int
    passed_over: int
    decides: str
    held: tuple[HeldView, ...]
    decisions: Mapping[str, DecisionView]
    holders: tuple[HolderView, ...]
    features: Mapping[str, Feature]


@frozen
class Vitals:
    """Authority and sizes: what costs so little that it can be looked at after every step.

    `decides_in`: the term in which this instance may decide, None while it may not. `queued_edits` (changes that wait
    for a primary and could have been refused: claims cannot), `members`, `links` (those that are closing included) and
    `alerts` are counts.
    """

    decides_in: int | None
    policy: str
    queued_edits: int
    members: int
    links: int
    alerts: int


@frozen
class Snapshot:
    """One instance at one moment.

    `status` is ALIVE or DRAINING. `connected` means in contact with the mesh: a worker with its primary, a primary
    that listens. `partition_since_ms` is UTC, None while there is a primary. `queued_changes` counts own changes
    that no primary has acknowledged. `synced` means that the documents were compared with the primary's since the
    link to it came up. `documents` holds ended ones too, `conflicts`
    what lost one. `dropped` counts what was refused or ignored, by reason.
    """

    instance_id: str
    boot: str
    store: str
    mesh_enabled: bool
    role: Role
    term: int
    status: Status
    connected: bool
    primary_id: str | None
    primary_url: str | None
    partition_since_ms: int | None
    queued_changes: int
    synced: bool
    capacity: Capacity
    members: tuple[MemberView, ...]
    documents: Mapping[str, Document]
    root: str
    conflicts: tuple[Conflict, ...]
    settings: Scopes
    alerts: tuple[Alert, ...]
    leadership: LeadershipView
    compaction: CompactionView
    work: WorkView
    dropped: Mapping[str, int]
