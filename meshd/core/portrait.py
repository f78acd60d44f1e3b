"""What an instance says of itself: its identity, its heartbeat, its presence and its snapshot.

Nothing is decided here. Source of the keys: the wire, in `meshd.core`'s docstring.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from attrs import define, field, frozen

from meshd.configuration import Configuration
from meshd.core import messages
from meshd.core.convergence import Convergence
from meshd.core.election import Leadership
from meshd.core.explanation import Explanation
from meshd.core.handshake import MIN_PROTOCOL, PROTOCOL, Handshake
from meshd.core.membership import Member, Membership
from meshd.core.messages import UtcMs
from meshd.core.replication import Replication
from meshd.core.settings import Settings
from meshd.core.snapshot import MemberView, Snapshot, Vitals
from meshd.core.upkeep import Upkeep
from meshd.core.work import Work
from meshd.model import Capacity, Now, Status


@frozen
class Birth:
    """What is drawn once for a process: its random `boot` id, and the program's version."""

    boot: str
    version: str


@define
class Portrait:
    """Puts an instance's parts into words."""

    configuration: Configuration
    birth: Birth
    handshake: Handshake
    membership: Membership
    leadership: Leadership
    replication: Replication
    settings: Settings
    upkeep: Upkeep
    work: Work
    sampled: Capacity = field(factory=Capacity)
    presence_seq: int = 0

    @property
    def own_id(self) -> str:
        return self.configuration.protolab.instance_id

    @property
    def capacity(self) -> Capacity:
        return self.work.capacity(self.sampled)

    @property
    def _primary_url(self) -> str | None:
        leads = self.leadership.is_primary
        return self.configuration.protolab.instance_url if leads else self.leadership.primary_url

    def identity(self, now: Now) -> messages.Identity:
        keys = self.configuration.instance
        url = self.configuration.protolab.instance_url
        return messages.Identity(
            self.own_id,
            UtcMs(now.utc_ms),
            name=keys.name,
            role=keys.focus,
            tags=keys.tags,
            url=url,
            priority=self.configuration.priority,
            protocol=PROTOCOL,
            min_protocol=MIN_PROTOCOL,
            boot=self.birth.boot,
            store=self.replication.store_id,
            term=self.leadership.term,
            sync_role=self.leadership.role,
            primary_url=self._primary_url,
            hive=self.handshake.hive,
            peers_hash=self.handshake.peers_hash,
            version=self.birth.version,
            clock=now.utc_ms,
            capacity=self.capacity,
            leads=self.leadership.leads,
            authoritative=self._authoritative(now),
            leader_eligible=self.configuration.hivemind.leader_eligible,
        )

    def _authoritative(self, now: Now) -> bool | None:
        return self.leadership.decides_in(now) is not None if self.leadership.is_primary else None

    def promote(self, now: Now) -> messages.Promote:
        url = self.configuration.protolab.instance_url
        term = self.leadership.leads or 0
        return messages.Promote(self.own_id, UtcMs(now.utc_ms), self.configuration.priority, url, term)

    def heartbeat(self, status: Status, now: Now) -> messages.Heartbeat:
        keys = self.configuration.instance
        beat, holding, intake = self.work.beat(now)
        return messages.Heartbeat(
            self.own_id,
            UtcMs(now.utc_ms),
            name=keys.name,
            role=keys.focus,
            tags=keys.tags,
            url=self.configuration.protolab.instance_url,
            priority=self.configuration.priority,
            capacity=self.capacity,
            boot=self.birth.boot,
            term=self.leadership.term,
            status=status,
            root=self.replication.root,
            leads=self.leadership.leads,
            authoritative=self._authoritative(now),
            heard=self.leadership.contact.heard_seq,
            beat=beat,
            holding=holding,
            intake=intake,
        )

    def presence(self, now: Now, *, full: bool) -> messages.Presence:
        self.presence_seq += 1
        self.leadership.authority.sent(self.presence_seq, now)
        changed = self.membership.members if full else self.membership.changed
        told_root = self.upkeep.convergence.told_root
        members = self.membership.members
        rows = (_row(member, told_root(name), now, whole=name in changed) for name, member in members.items())
        return messages.Presence(self.leadership.term, self.presence_seq, full, tuple(rows), root=self.replication.root)

    def snapshot(self, status: Status, dropped: Mapping[str, int], now: Now) -> Snapshot:
        leadership = self.leadership
        replication = self.replication
        is_enabled = self.configuration.mesh_enabled
        linked = {line.instance_id for line in self.handshake.lines.values()}
        members = self.membership.members.values()
        return Snapshot(
            instance_id=self.own_id,
            boot=self.birth.boot,
            store=replication.store_id,
            mesh_enabled=is_enabled,
            role=leadership.role,
            term=leadership.term,
            status=status,
            connected=is_enabled and (leadership.is_primary or leadership.primary_link is not None),
            primary_id=self.own_id if leadership.is_primary else leadership.primary_id,
            primary_url=self._primary_url,
            partition_since_ms=leadership.partition_since_ms,
            queued_changes=len(replication.outbox),
            synced=replication.synced,
            capacity=self.capacity,
            members=tuple(
                _view(member, self.upkeep.convergence, now, linked=member.instance_id in linked) for member in members
            ),
            documents=MappingProxyType(dict(replication.documents)),
            root=replication.root,
            conflicts=tuple(replication.conflicts.kept.values()),
            settings=self.settings.scopes,
            alerts=tuple(self.upkeep.alerts.standing.values()),
            leadership=Explanation(leadership, self.membership, self.upkeep.convergence).view(now),
            compaction=self.upkeep.compaction.view(),
            work=self.work.view(now),
            dropped=dropped,
        )

    def vitals(self, now: Now) -> Vitals:
        return Vitals(
            self.leadership.decides_in(now),
            self.leadership.policy,
            self.replication.queued_edits,
            len(self.membership.members),
            len(self.handshake.lines),
            len(self.upkeep.alerts.standing),
        )


def _row(member: Member, root: str | None, now: Now, *, whole: bool) -> messages.PresenceRow:
    age_ms = max(0, round((now.mono_s - member.contact_s) * 1000))
    if not whole:
        return messages.PresenceRow(member.instance_id, age_ms, root=root)
    heartbeat_ms = member.last_heartbeat_ms
    return messages.PresenceRow(
        member.instance_id,
        age_ms,
        status=member.status,
        boot=member.boot,
        name=member.name,
        role=member.focus,
        tags=member.tags,
        url=member.url,
        priority=member.priority,
        version=member.version,
        capacity=member.capacity,
        timestamp=None if heartbeat_ms is None else UtcMs(heartbeat_ms),
        root=root,
        leader_eligible=member.leader_eligible,
        peers_hash=member.peers_hash,
        intake=member.intake,
        holding=member.holding,
    )


def _view(member: Member, convergence: Convergence, now: Now, *, linked: bool) -> MemberView:
    last_change = convergence.last_changes.get(member.instance_id)
    return MemberView(
        instance_id=member.instance_id,
        status=member.status,
        name=member.name,
        focus=member.focus,
        tags=member.tags,
        url=member.url,
        priority=member.priority,
        version=member.version,
        dialect=member.dialect,
        capacity=member.capacity,
        last_seen_ms=member.last_seen_ms,
        last_heartbeat_ms=member.last_heartbeat_ms,
        age_s=now.mono_s - member.contact_s,
        latency_ms=member.latency_ms,
        linked=linked,
        in_sync=convergence.in_sync(member.instance_id),
        out_of_sync_since_ms=convergence.differs_since_ms(member.instance_id),
        last_change_ms=last_change.utc_ms if last_change else None,
        last_change_age_s=now.mono_s - last_change.mono_s if last_change else None,
        intake=member.intake,
        holding=member.holding,
    )
