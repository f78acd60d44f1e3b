"""In sync, not only alive: whether the documents of every other instance are equal to ours.

Rules (design, section 5):

- A native instance says the root digest of its documents in each heartbeat, and a primary says in its presence those of
  all members. A peer is in sync when what it said last was equal to ours when it said so.
- A presence row holds the root of its member as the primary judges it: the primary's own root for one that was in sync
  when it was last heard, so that a change on its way is not taken for a difference.
- Who has said nothing for two heartbeat intervals is compared with what we hold now.
- Two roots that differ and have both stood still for two intervals have diverged: no change is on its way that could
  mend it. Both ends of the link raise `diverged`, and the worker starts an exchange, again every two intervals while
  it lasts. The alert is cleared when the roots are equal, or when the link is no more.

`settled` is the stricter question that compaction asks. All of it costs one comparison of two short texts for each
heartbeat: the root itself is kept up to date by `replication`, change by change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from attrs import define, field

from meshd.core.alerts import DIVERGED, Alerts
from meshd.core.effects import Effect
from meshd.model import Now

INTERVALS = 2
EARLY = 0.05  # heartbeats are not exact: so much of an interval earlier is on time


@define
class Peer:
    """What a peer says it holds. `differs_since` is None while it is in sync, `agrees_since_s` while it is not."""

    root: str
    said_s: float
    moved_s: float
    differs_since: Now | None = None
    agrees_since_s: float | None = None
    exchanged_s: float | None = None


@define
class Convergence:
    """The roots of all others against ours. `last_changes` says when a change last came from each."""

    interval_s: float
    alerts: Alerts
    own_root: str
    peers: dict[str, Peer] = field(factory=dict)
    last_changes: dict[str, Now] = field(factory=dict)
    _moved_s: float = 0.0

    @property
    def _patience_s(self) -> float:
        return (INTERVALS - EARLY) * self.interval_s

    def moved(self, root: str, now: Now) -> Iterator[Effect]:
        """Called after each step with our root."""
        if root == self.own_root:
            return
        self.own_root, self._moved_s = root, now.mono_s
        for name in self.alerts.subjects(DIVERGED):
            if name in self.peers:
                yield from self._judge(name, self.peers[name], now)

    def said(self, name: str, root: str | None, now: Now) -> Iterator[Effect]:
        """A peer, or the primary in its name, said its root; None from who does not know such things."""
        if root is None:
            return
        peer = self.peers.setdefault(name, Peer(root, now.mono_s, now.mono_s))
        if root != peer.root:
            peer.root, peer.moved_s = root, now.mono_s
        peer.said_s = now.mono_s
        yield from self._judge(name, peer, now)

    def received(self, names: Iterable[str], now: Now) -> None:
        """A change came that these have made or passed on."""
        self.last_changes.update(dict.fromkeys(names, now))

    def linked(self, name: str, now: Now) -> None:
        """A link to a peer came up: the time without one is not counted as standing still."""
        if peer := self.peers.get(name):
            peer.moved_s = now.mono_s

    def check(self, linked: Collection[str], now: Now) -> Iterator[Effect]:
        """Due with the TTL check; `linked` are those whose roots should become equal to ours over a link."""
        for name, peer in self.peers.items():
            if now.mono_s - peer.said_s > INTERVALS * self.interval_s:
                yield from self._judge(name, peer, now)
        for name in self.alerts.subjects(DIVERGED):
            if name not in linked:
                yield from self.alerts.cleared(DIVERGED, name)

    def diverged(self, name: str, now: Now) -> Iterator[Effect]:
        """Whether nothing is on its way that could mend a difference to a linked peer; raises the alert."""
        if self.is_stuck(name, now):
            text = f"the documents of {name} differ from ours, and no change is on its way"
            yield from self.alerts.raised(DIVERGED, name, text, now)

    def is_stuck(self, name: str, now: Now) -> bool:
        peer = self.peers.get(name)
        if peer is None or peer.differs_since is None:
            return False
        still_s = max(peer.moved_s, self._moved_s, peer.differs_since.mono_s)
        return now.mono_s - still_s >= self._patience_s

    def exchange_due(self, name: str, now: Now) -> bool:
        """Whether to compare all documents with the primary; True at most once in two intervals."""
        if not self.is_stuck(name, now):
            return False
        peer = self.peers[name]
        if peer.exchanged_s is not None and now.mono_s - peer.exchanged_s < self._patience_s:
            return False
        peer.exchanged_s = now.mono_s
        return True

    def in_sync(self, name: str) -> bool | None:
        """Whether a peer holds what we hold; None when it never said."""
        peer = self.peers.get(name)
        return None if peer is None else peer.differs_since is None

    def differs_since_ms(self, name: str) -> int | None:
        """Since when (UTC) a peer is out of sync."""
        peer = self.peers.get(name)
        return peer.differs_since.utc_ms if peer and peer.differs_since else None

    def told_root(self, name: str) -> str | None:
        """What a primary's presence says of a member: our own root for one that is in sync."""
        peer = self.peers.get(name)
        if peer is None:
            return None
        return peer.root if peer.differs_since else self.own_root

    def settled(self, name: str, now: Now) -> bool:
        """Whether a peer holds just what we hold now, and has agreed with us for two intervals."""
        peer = self.peers.get(name)
        if peer is None or peer.agrees_since_s is None or peer.root != self.own_root:
            return False
        return now.mono_s - peer.agrees_since_s >= self._patience_s

    def _judge(self, name: str, peer: Peer, now: Now) -> Iterator[Effect]:
        if peer.root != self.own_root:
            peer.agrees_since_s = None
            peer.differs_since = peer.differs_since or now
            return
        peer.differs_since = peer.exchanged_s = None
        if peer.agrees_since_s is None:
            peer.agrees_since_s = now.mono_s
        yield from self.alerts.cleared(DIVERGED, name)
