"""Upkeep: what an instance does to stay right and to say where it is not, put together for the node.

Nothing is decided here: `alerts` holds what stands, `watch` and `convergence` find it out, `compaction` tidies up.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from meshd.configuration import Configuration
from meshd.core.alerts import Alert, Alerts
from meshd.core.compaction import Compaction
from meshd.core.convergence import Convergence
from meshd.core.effects import Accepted, Effect, Level, Note, Reply
from meshd.core.election import Leadership
from meshd.core.handshake import DUPLICATE, Handshake, Line, Refusal
from meshd.core.inputs import AcknowledgeCompaction, AlertCleared, AlertRaised
from meshd.core.membership import Membership
from meshd.core.messages import Changes, Documents, FeatureEvent, Identity, Presence, Refuse
from meshd.core.replication import Replication
from meshd.core.stored import Stored
from meshd.core.watch import Watch
from meshd.model import Dialect, Now


@frozen
class Upkeep:
    """The four parts, and the state that they look at."""

    configuration: Configuration
    handshake: Handshake
    membership: Membership
    leadership: Leadership
    replication: Replication
    alerts: Alerts
    convergence: Convergence
    watch: Watch
    compaction: Compaction

    @classmethod
    def restored(
        cls,
        configuration: Configuration,
        handshake: Handshake,
        membership: Membership,
        leadership: Leadership,
        replication: Replication,
        stored: Stored,
    ) -> Upkeep:
        """Begin with no alert, and with what a person has acknowledged before."""
        alerts = Alerts()
        interval_s = configuration.hivemind.heartbeat_interval_ms / 1000
        convergence = Convergence(interval_s, alerts, replication.root)
        watch = Watch(configuration, alerts, leadership, membership)
        acknowledged = Compaction.acknowledged_before(stored)
        compaction = Compaction(configuration, replication, membership, convergence, alerts, acknowledged)
        return cls(
            *(configuration, handshake, membership, leadership, replication),
            *(alerts, convergence, watch, compaction),
        )

    def stepped(self, now: Now) -> Iterator[Effect]:
        """Called after each step."""
        yield from self.convergence.moved(self.replication.root, now)
        yield from self.watch.stepped(len(self.replication.outbox), now)

    def check(self, now: Now) -> Iterator[Effect]:
        """Due with the TTL check."""
        yield from self.watch.check(now)
        since_s = self.leadership.authority.missing_since_s
        is_missing = since_s is not None and now.mono_s - since_s >= self.configuration.hivemind.peer_ttl_ms / 8000
        text = "this primary is not in touch with a majority of the voters: it passes documents on and decides nothing"
        yield from self.watch.no_quorum(is_missing, text, now)
        lines = (self.handshake.lines[link] for link in self.handshake.links(Dialect.NATIVE))
        yield from self.convergence.check({str(line.instance_id) for line in lines if self._should_agree(line)}, now)

    def introduced(self, identity: Identity, now: Now) -> Iterator[Effect]:
        """A peer's identity was accepted on a new link."""
        self.convergence.linked(identity.instance_id, now)
        yield from self.watch.introduced(identity.instance_id, identity.peers_hash, self.handshake.peers_hash, now)

    def told_who_leads(self, line: Line, now: Now) -> Iterator[Effect]:
        """A peer's role is known, or has changed."""
        is_split = self.leadership.is_primary and line.is_primary
        text = f"{line.peer} leads in term {line.leads or 0}, this instance in {self.leadership.leads or 0}"
        yield from self.watch.split_brain(line.peer, is_split, text, now)

    def refused(self, identity: Identity, refusal: Refusal, now: Now) -> Iterator[Effect]:
        """We refuse a peer."""
        if refusal.code == DUPLICATE and identity.boot == self.handshake.boot:
            return  # we dialled ourselves
        text = f"{identity.instance_id} was refused: {refusal.reason}"
        yield from self.watch.refused(refusal.code, identity.instance_id, text, now)

    def refused_us(self, line: Line, refuse: Refuse, now: Now) -> Iterator[Effect]:
        """A peer refuses us."""
        subject = self.configuration.protolab.instance_id if refuse.code == DUPLICATE else line.peer
        yield from self.watch.refused(refuse.code, subject, f"{line.peer} refuses us: {refuse.reason}", now)

    def heard_root(self, line: Line, root: str | None, now: Now) -> Iterator[Effect]:
        """A linked peer said the root of its documents, in a heartbeat or as the primary in its presence."""
        peer = str(line.instance_id)
        yield from self.watch.stayed(peer)
        yield from self.convergence.said(peer, root, now)
        if not self._should_agree(line):
            return
        yield from self.convergence.diverged(peer, now)
        if line.link == self.replication.upstream and self.convergence.exchange_due(peer, now):
            yield Note(Level.WARNING, f"comparing all documents with {peer}", {"peer": peer})
            yield from self.replication.compare_again()

    def heard_presence(self, line: Line, presence: Presence, now: Now) -> Iterator[Effect]:
        """The primary said its root, and those of whom we are not linked to."""
        yield from self.heard_root(line, presence.root, now)
        for row in presence.members:
            if row.instance_id in self.membership.members and not self.handshake.of(row.instance_id):
                yield from self.convergence.said(row.instance_id, row.root, now)

    def received(self, line: Line, message: Changes | Documents | FeatureEvent, now: Now) -> None:
        """Changes came: from who is at the other end of the link, and, passed on, from those who made them."""
        names = {line.instance_id} if line.instance_id else set()
        if isinstance(message, Changes):
            names |= {change.origin.rpartition(".")[0] for change in message.changes}
        self.convergence.received(names & self.membership.members.keys(), now)

    def acknowledge(self, request: AcknowledgeCompaction) -> Iterator[Effect]:
        yield from self.compaction.acknowledge()
        yield Reply(request.command, Accepted(""))

    def engine_alert(self, told: AlertRaised | AlertCleared, now: Now) -> Iterator[Effect]:
        if isinstance(told, AlertCleared):
            yield from self.alerts.cleared(told.code)
        else:
            yield from self.alerts.add(Alert(told.code, told.severity, "", now.utc_ms, told.text, told.fix))

    def _should_agree(self, line: Line) -> bool:
        """Whether changes go both ways over this link: between a primary and its workers."""
        return self.leadership.is_primary or line.link == self.replication.upstream
