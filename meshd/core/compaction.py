"""Compaction: a regular look at what the documents take, and the end of tombstones nobody needs any more.

Rules (design, sections 4 and 9):

- The tombstone of a deleted document expires `tombstoneRetentionMs` after the deletion. It is dropped when everybody
  knows of the deletion: every member known and every instance of `hivemind.peers` is online and holds just what we hold
  (`Convergence.settled`), and we have held the expired tombstone for three heartbeat intervals. So a peer that slept
  through a deletion, however long, meets the tombstone when it wakes, and cannot bring the document back.
- Each instance drops by itself. Tombstones do not count in the root digest, so dropping earlier than another is no
  difference; and an expired one is told only to who still names the document, so it does not come back in an exchange.
- A living document above `alertBytes` raises `large-document`. Acknowledged, the alert comes back when the document has
  grown by another tenth, or was smaller than `alertBytes` meanwhile; acknowledgements outlive a restart.
- Sizes are those of all registers with their stamps, as text: about what the disk and the wire carry.

The last 20 passes are remembered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from attrs import define, field, frozen

from meshd.configuration import Configuration
from meshd.core.alerts import LARGE_DOCUMENT, Alert, Alerts
from meshd.core.convergence import Convergence
from meshd.core.documents import Document
from meshd.core.effects import Effect, Level, Note, Persist, SaveSettings
from meshd.core.frames import document_bytes
from meshd.core.membership import Membership
from meshd.core.replication import Replication
from meshd.core.stored import Stored
from meshd.model import Now

HISTORY = 20
HELD_INTERVALS = 3
GROWTH = 1.1
SCOPE = "compaction"


@frozen
class Pass:
    """One look: how many living documents and what they take, which tombstones were dropped and how many are kept.

    `waiting_for` are the instances that have to be online and in sync before expired tombstones, if any, may go.
    """

    utc_ms: int
    documents: int
    total_bytes: int
    dropped: tuple[str, ...]
    tombstones: int
    waiting_for: tuple[str, ...]


@frozen
class CompactionView:
    """Compaction as the API shows it: the passes, latest last; sizes by slug; the alerts; what was acknowledged."""

    history: tuple[Pass, ...] = ()
    sizes: dict[str, int] = field(factory=dict)
    alerts: tuple[Alert, ...] = ()
    acknowledged: dict[str, int] = field(factory=dict)


@define
class Compaction:
    """The passes of one instance. `acknowledged` holds the size at which a document's alert was acknowledged."""

    configuration: Configuration
    replication: Replication
    membership: Membership
    convergence: Convergence
    alerts: Alerts
    acknowledged: dict[str, int]
    sizes: dict[str, int] = field(factory=dict)
    history: deque[Pass] = field(factory=lambda: deque(maxlen=HISTORY))
    _measured: dict[str, Document] = field(factory=dict)
    _expired_s: dict[str, float] = field(factory=dict)

    @staticmethod
    def acknowledged_before(stored: Stored) -> dict[str, int]:
        """What an earlier life has kept of `acknowledged`."""
        _, values = stored.settings.get(SCOPE, (0, {}))
        return {slug: size for slug, size in values.items() if isinstance(size, int)}

    def run(self, now: Now) -> Iterator[Effect]:
        """One pass; due every `intervalMs`."""
        self._expire(now)
        waiting_for = self._waiting_for(now) if self.replication.expired else ()
        dropped = () if waiting_for else self._droppable(now)
        for slug in dropped:
            yield from self.replication.forget(slug)
        self._measure()
        yield from self._judge(now)
        ended = len(self.replication.documents) - len(self.sizes)
        done = Pass(now.utc_ms, len(self.sizes), sum(self.sizes.values()), dropped, ended, waiting_for)
        self.history.append(done)
        if dropped:
            yield Note(Level.INFO, f"compaction dropped {len(dropped)} tombstones", {"kept": ended})

    def acknowledge(self) -> Iterator[Effect]:
        """A person has looked at the large documents."""
        slugs = self.alerts.subjects(LARGE_DOCUMENT)
        for slug in slugs:
            self.acknowledged[slug] = self.sizes[slug]
        if slugs:
            yield self._remember()
        for slug in slugs:
            yield from self.alerts.cleared(LARGE_DOCUMENT, slug)

    def view(self) -> CompactionView:
        alerts = tuple(alert for (code, _), alert in self.alerts.standing.items() if code == LARGE_DOCUMENT)
        return CompactionView(tuple(self.history), dict(self.sizes), alerts, dict(self.acknowledged))

    # Tombstones

    def _waiting_for(self, now: Now) -> tuple[str, ...]:
        if not self.configuration.mesh_enabled:
            return ()
        members = self.membership.members.values()
        absent = [
            member.instance_id
            for member in members
            if not (member.status.is_online and self.convergence.settled(member.instance_id, now))
        ]
        met = {self.configuration.protolab.instance_url, *(member.url for member in members)}
        return (*absent, *(url for url in self.configuration.hivemind.peers if url not in met))

    def _expire(self, now: Now) -> None:
        retention_ms = self.configuration.compaction.tombstone_retention_ms
        self.replication.expired = {
            slug
            for slug, document in self.replication.documents.items()
            if document.ended and now.utc_ms - document.ended.utc_ms > retention_ms
        }
        self._expired_s = {slug: self._expired_s.get(slug, now.mono_s) for slug in self.replication.expired}

    def _droppable(self, now: Now) -> tuple[str, ...]:
        held_s = HELD_INTERVALS * self.convergence.interval_s
        old = [slug for slug, since_s in self._expired_s.items() if now.mono_s - since_s >= held_s]
        queued = {change.slug for change in self.replication.outbox.values()} if old else set()
        return tuple(slug for slug in old if slug not in queued)

    # Sizes

    def _measure(self) -> None:
        """Documents never change, they are replaced: what is the same object has the same size."""
        living = {slug: document for slug, document in self.replication.documents.items() if document.ended is None}
        self.sizes = {
            slug: self.sizes[slug] if self._measured.get(slug) is document else document_bytes(document)
            for slug, document in living.items()
        }
        self._measured = living

    def _judge(self, now: Now) -> Iterator[Effect]:
        limit = self.configuration.compaction.alert_bytes
        large = {slug: size for slug, size in self.sizes.items() if size > limit}
        for slug in self.alerts.subjects(LARGE_DOCUMENT):
            if slug not in large:
                yield from self.alerts.cleared(LARGE_DOCUMENT, slug)
        kept = {slug: size for slug, size in self.acknowledged.items() if 0 < large.get(slug, 0) <= size * GROWTH}
        if kept != self.acknowledged:
            self.acknowledged = kept
            yield self._remember()
        for slug, size in large.items():
            if slug not in self.acknowledged:
                text = f"{slug} takes {size} bytes, more than {limit}"
                yield from self.alerts.raised(LARGE_DOCUMENT, slug, text, now)

    def _remember(self) -> Effect:
        return Persist(SaveSettings(SCOPE, 0, dict(self.acknowledged)))
