"""Who is there: the membership table.

Rules (design, section 6):

- Liveness is judged on our own monotonic clock only. Any frame of a peer is contact with it; on a worker also the
  primary's word about the others, with the age that the primary states.
- Silent for the TTL: FAILED, with an alert and an event. Goodbye: LEFT at once, no alert. A link that closed without
  goodbye: SUSPECT, which still counts as online, until the TTL decides. Between two workers there is no link but the
  probes of one that looks for the primary; their end means nothing.
- The time in which we were deaf (the host slept, our loop stalled) is not the others' silence: a check that comes
  more than 3 s late adds its lateness to everybody's last contact.
- A heartbeat of the boot that said goodbye comes too late and undoes nothing.

Theory: a failure detector with one timeout and one observer; the specification fixes the timeout (`peerTtlMs`), so
adaptive detectors have no place here. Words as in the SWIM family: alive, suspect, left, failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from attrs import define, field

from meshd.core.effects import Effect, Emit, Level, Note
from meshd.core.messages import Goodbye, Heartbeat, Identity, PresenceRow
from meshd.model import Capacity, Dialect, Now, Status, utc_text


class Cause(StrEnum):
    """Why a member's status may change."""

    ALIVE = "says it is alive"
    DRAINING = "says it is draining"
    LINK_LOST = "link closed without goodbye"
    SUSPECTED = "the primary lost its link, and waits"
    SILENCE = "silent for the TTL"
    GOODBYE = "said goodbye"


TRANSITIONS: dict[tuple[Status, Cause], Status] = {
    (Status.ALIVE, Cause.ALIVE): Status.ALIVE,
    (Status.ALIVE, Cause.DRAINING): Status.DRAINING,
    (Status.ALIVE, Cause.LINK_LOST): Status.SUSPECT,
    (Status.ALIVE, Cause.SUSPECTED): Status.SUSPECT,
    (Status.ALIVE, Cause.SILENCE): Status.FAILED,
    (Status.ALIVE, Cause.GOODBYE): Status.LEFT,
    (Status.SUSPECT, Cause.ALIVE): Status.ALIVE,
    (Status.SUSPECT, Cause.DRAINING): Status.DRAINING,
    (Status.SUSPECT, Cause.LINK_LOST): Status.SUSPECT,
    (Status.SUSPECT, Cause.SUSPECTED): Status.SUSPECT,
    (Status.SUSPECT, Cause.SILENCE): Status.FAILED,
    (Status.SUSPECT, Cause.GOODBYE): Status.LEFT,
    (Status.DRAINING, Cause.ALIVE): Status.ALIVE,
    (Status.DRAINING, Cause.DRAINING): Status.DRAINING,
    (Status.DRAINING, Cause.LINK_LOST): Status.SUSPECT,
    (Status.DRAINING, Cause.SUSPECTED): Status.SUSPECT,
    (Status.DRAINING, Cause.SILENCE): Status.FAILED,
    (Status.DRAINING, Cause.GOODBYE): Status.LEFT,
    (Status.LEFT, Cause.ALIVE): Status.ALIVE,
    (Status.LEFT, Cause.DRAINING): Status.DRAINING,
    (Status.LEFT, Cause.LINK_LOST): Status.LEFT,
    (Status.LEFT, Cause.SUSPECTED): Status.SUSPECT,
    (Status.LEFT, Cause.SILENCE): Status.FAILED,  # by the primary's word only: our own check looks at who is online
    (Status.LEFT, Cause.GOODBYE): Status.LEFT,
    (Status.FAILED, Cause.ALIVE): Status.ALIVE,
    (Status.FAILED, Cause.DRAINING): Status.DRAINING,
    (Status.FAILED, Cause.LINK_LOST): Status.FAILED,
    (Status.FAILED, Cause.SUSPECTED): Status.SUSPECT,
    (Status.FAILED, Cause.SILENCE): Status.FAILED,
    (Status.FAILED, Cause.GOODBYE): Status.LEFT,
}

CAUSE_OF_STATUS: dict[Status, Cause] = {
    Status.ALIVE: Cause.ALIVE,
    Status.SUSPECT: Cause.SUSPECTED,
    Status.DRAINING: Cause.DRAINING,
    Status.LEFT: Cause.GOODBYE,
    Status.FAILED: Cause.SILENCE,
}
"""What it means for us when the primary states a member's status."""

LATE_CHECK_S = 3.0
MAX_MEMBERS = 4096  # far above any fleet; bounds what a peer that invents names can make us hold


def ttl_check_interval_s(peer_ttl_ms: int) -> float:
    """How often `check_ttl` is due, in seconds."""
    return min(10.0, peer_ttl_ms / 4000)


@define
class Member:
    """A peer's row. `contact_s` is monotonic; `last_seen_ms` and `last_heartbeat_ms` are UTC, for display."""

    instance_id: str
    status: Status
    contact_s: float
    last_seen_ms: int
    boot: str | None = None
    name: str | None = None
    focus: str | None = None
    tags: tuple[str, ...] = ()
    url: str | None = None
    priority: int | None = None
    version: str | None = None
    dialect: Dialect = Dialect.ORIGINAL
    leader_eligible: bool = True
    peers_hash: str | None = None
    capacity: Capacity | None = None
    last_heartbeat_ms: int | None = None
    latency_ms: float | None = None
    intake: bool | None = None
    holding: int | None = None


@define
class Membership:
    """The table and its rules.

    Since the last presence: `changed` names the members with something new, `turned` those with another status.
    """

    own_id: str
    peer_ttl_ms: int
    members: dict[str, Member] = field(factory=dict)
    changed: set[str] = field(factory=set)
    turned: set[str] = field(factory=set)
    _checked_s: float | None = None

    def introduced(self, identity: Identity, now: Now) -> Iterator[Effect]:
        """A peer said who it is, on a new link."""
        yield from self._announced(identity, Cause.ALIVE, now)

    def beat(self, heartbeat: Heartbeat, now: Now) -> Iterator[Effect]:
        """A peer's heartbeat."""
        member = self.members.get(heartbeat.instance_id)
        if member and member.status is Status.LEFT and member.boot == heartbeat.boot:
            return
        cause = Cause.DRAINING if heartbeat.status is Status.DRAINING else Cause.ALIVE  # nobody is dead by its own word
        yield from self._announced(heartbeat, cause, now)

    def reported(self, row: PresenceRow, now: Now) -> Iterator[Effect]:
        """The primary's word about another member."""
        member = self.members.get(row.instance_id)
        if member is None:
            if row.status is None or not self.has_room_for(row.instance_id):
                return
            member = self._new(row.instance_id, now, Status.LEFT if row.status.is_online else row.status)
        contact_s = max(member.contact_s, now.mono_s - row.age / 1000)
        known = _given(
            *(row, "boot", "name", "tags", "url", "priority", "version", "capacity"),
            *("leader_eligible", "peers_hash", "intake", "holding"),
        )
        if row.role is not None:
            known["focus"] = row.role
        if row.timestamp is not None:
            known["last_heartbeat_ms"] = row.timestamp
        dialect = Dialect.NATIVE if row.boot or member.boot else Dialect.ORIGINAL
        self._set(member, contact_s=contact_s, last_seen_ms=max(0, now.utc_ms - row.age), dialect=dialect, **known)
        if row.status is not None:
            yield from self._apply(row.instance_id, CAUSE_OF_STATUS[row.status])

    def contact(self, instance_id: str, now: Now) -> None:
        """Any frame of a peer."""
        if member := self.members.get(instance_id):
            member.contact_s, member.last_seen_ms = now.mono_s, now.utc_ms

    def measured(self, instance_id: str, latency_ms: float) -> None:
        """A round trip to a peer was timed."""
        if member := self.members.get(instance_id):
            member.latency_ms = latency_ms

    def link_lost(self, instance_id: str) -> Iterator[Effect]:
        """The last link to a peer closed."""
        yield from self._apply(instance_id, Cause.LINK_LOST)

    def left(self, goodbye: Goodbye) -> Iterator[Effect]:
        """A peer said goodbye, or its goodbye was relayed. One of an earlier boot is out of date."""
        member = self.members.get(goodbye.instance_id)
        if member and (goodbye.boot is None or member.boot is None or goodbye.boot == member.boot):
            yield from self._apply(goodbye.instance_id, Cause.GOODBYE)

    def check_ttl(self, now: Now) -> Iterator[Effect]:
        """Find who fell silent; due every `ttl_check_interval_s`."""
        self._checked_s = now.mono_s
        ttl_s = self.peer_ttl_ms / 1000
        for member in list(self.members.values()):
            if member.status.is_online and now.mono_s - member.contact_s >= ttl_s:
                yield from self._apply(member.instance_id, Cause.SILENCE)

    def deaf_s(self, now: Now) -> float:
        """How late the check is, when that is later than a busy host explains; else 0."""
        if self._checked_s is None:
            return 0.0
        late_s = now.mono_s - self._checked_s - ttl_check_interval_s(self.peer_ttl_ms)
        return late_s if late_s > LATE_CHECK_S else 0.0

    def forgive(self, late_s: float, now: Now) -> None:
        """We were deaf for so long: that was not the others' silence."""
        for member in list(self.members.values()):
            member.contact_s = min(now.mono_s, member.contact_s + late_s)
        self._checked_s = now.mono_s

    def has_room_for(self, instance_id: str) -> bool:
        return instance_id in self.members or len(self.members) < MAX_MEMBERS

    def _announced(self, message: Identity | Heartbeat, cause: Cause, now: Now) -> Iterator[Effect]:
        member = self.members.get(message.instance_id) or self._new(message.instance_id, now)
        known = _given(message, "boot", "name", "tags", "url", "priority", "capacity")
        if message.role is not None:
            known["focus"] = message.role
        if isinstance(message, Identity):
            known["dialect"] = Dialect.ORIGINAL if message.protocol is None else Dialect.NATIVE
            known["version"], known["leader_eligible"] = message.version, message.leader_eligible
            known["peers_hash"] = message.peers_hash
        else:
            known["last_heartbeat_ms"] = message.timestamp
            known["intake"] = message.intake
            known["holding"] = None if message.holding is None else len(message.holding)
        self._set(member, contact_s=now.mono_s, last_seen_ms=now.utc_ms, **known)
        yield from self._apply(message.instance_id, cause)

    def _new(self, instance_id: str, now: Now, status: Status = Status.LEFT) -> Member:
        return Member(instance_id, status, now.mono_s - self.peer_ttl_ms / 1000, now.utc_ms)

    def _set(self, member: Member, **known: Any) -> None:
        """Enter what is known of a member: news for the next presence."""
        for name, value in known.items():
            setattr(member, name, value)
        self.members[member.instance_id] = member
        self.changed.add(member.instance_id)

    def _apply(self, instance_id: str, cause: Cause) -> Iterator[Effect]:
        """The only place a status changes."""
        member = self.members.get(instance_id)
        if member is None:
            return
        status = TRANSITIONS[member.status, cause]
        if status is member.status:
            return
        before = member.status
        self._set(member, status=status)
        self.turned.add(instance_id)
        yield from self._told(member, before)

    def _told(self, member: Member, before: Status) -> Iterator[Effect]:
        peer, status = member.instance_id, member.status
        if status is Status.FAILED and before.is_online:
            seen = utc_text(member.last_seen_ms)
            alert = f"ALERT: Peer {peer} unreachable for >{self.peer_ttl_ms}ms (last seen {seen}) -- marking offline"
            yield Note(Level.WARNING, alert, {"peer": peer})
            yield Emit("sync:peer-unreachable", {"instanceId": peer, "lastSeen": seen, "peerTtlMs": self.peer_ttl_ms})
        elif status is Status.LEFT and before.is_online:
            yield Note(Level.INFO, f"peer {peer} said goodbye", {"peer": peer})
            yield Emit("sync:peer-left", {"instanceId": peer})
        elif status.is_online and not before.is_online:
            yield Note(Level.INFO, f"peer {peer} is online", {"peer": peer})
            yield Emit("sync:peer-online", {"instanceId": peer})
        else:
            yield Note(Level.INFO, f"peer {peer} is {status}", {"peer": peer})


def _given(message: Identity | Heartbeat | PresenceRow, *names: str) -> dict[str, Any]:
    """The attributes of `message` that it carries."""
    return {name: value for name in names if (value := getattr(message, name)) is not None}
