"""What an instance watches itself and its links for, beside its documents.

Rules:

- `clock-skew` and `duplicate-instance`: a peer was refused for it, or refused us. A clock that is right again clears
  the first as soon as the peer has stayed; both end when nobody tried again for a whole TTL.
- `clock-skew` of "", this host: its clock jumped, between two checks, by more than peers put up with. Stamps go on
  growing all the same (`clock`); the alert ends after a TTL, when those that it concerns have been refused or not.
- `peers-mismatch`: an online peer was given other `hivemind.peers` than we were, and would elect another primary. Over
  when it says otherwise, or was started again since: it may have been given others.
- `outbox-filling`: more than 80 % of `outbox.maxChanges` wait for a primary. Cleared below 60 %, so that a queue that
  hovers at the mark is told of once.
- `partitioned`: no primary for longer than the TTL.
- `split-brain`: a peer leads while this instance does. Over when one of the two has stepped down, or when the peer is
  out of sight: nobody here can say any more what it is.
- `no-quorum`: fewer than a majority of the voters are in touch: no claims are decided, documents go on. The election
  knows when, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field

from meshd.configuration import Configuration
from meshd.core.alerts import (
    CLOCK_SKEW,
    DUPLICATE_INSTANCE,
    NO_QUORUM,
    OUTBOX_FILLING,
    PARTITIONED,
    PEERS_MISMATCH,
    SPLIT_BRAIN,
    Alerts,
)
from meshd.core.effects import Effect
from meshd.core.election import Leadership
from meshd.core.handshake import CLOCK_SKEW as SKEWED
from meshd.core.handshake import DUPLICATE
from meshd.core.membership import Membership
from meshd.model import Now, utc_text

FILLING = 0.8
EASED = 0.6
MAX_REFUSED = 1000  # as many as there can be alerts

CODES = {SKEWED: CLOCK_SKEW, DUPLICATE: DUPLICATE_INSTANCE}
"""The close codes that a person has to do something about."""


@define
class Watch:
    """Raises and clears the alerts above."""

    configuration: Configuration
    alerts: Alerts
    leadership: Leadership
    membership: Membership
    _refused_s: dict[tuple[str, str], float] = field(factory=dict)
    _mismatched: dict[str, str | None] = field(factory=dict)
    _wall_ahead_ms: float | None = None  # of the monotonic clock, at the last check

    def refused(self, close_code: int, subject: str, text: str, now: Now) -> Iterator[Effect]:
        """A peer was refused, or refused us."""
        code = CODES.get(close_code)
        if code is None or len(self._refused_s) >= MAX_REFUSED:
            return
        self._refused_s[code, subject] = now.mono_s
        yield from self.alerts.raised(code, subject, text, now)

    def stayed(self, peer: str) -> Iterator[Effect]:
        """A peer goes on talking to us: neither refused the other."""
        if self._refused_s.pop((CLOCK_SKEW, peer), None) is not None:
            yield from self.alerts.cleared(CLOCK_SKEW, peer)

    def introduced(self, peer: str, peers_hash: str | None, own_hash: str, now: Now) -> Iterator[Effect]:
        """A peer's identity was accepted; originals do not say what peers they were given."""
        if peers_hash is None or peers_hash == own_hash:
            yield from self.alerts.cleared(PEERS_MISMATCH, peer)
        else:
            self._mismatched[peer] = self.membership.members[peer].boot
            text = f"{peer} has other hivemind.peers, failover or peerTtlMs than this instance: they elect differently"
            yield from self.alerts.raised(PEERS_MISMATCH, peer, text, now)

    def no_quorum(self, is_missing: bool, text: str, now: Now) -> Iterator[Effect]:
        """Whether the majority of the voters is missing; `text` says who. May be told as often as it is looked at."""
        if is_missing:
            yield from self.alerts.raised(NO_QUORUM, "", text, now)
        else:
            yield from self.alerts.cleared(NO_QUORUM)

    def split_brain(self, peer: str, is_split: bool, text: str, now: Now) -> Iterator[Effect]:
        """Whether `peer`, a member, leads while this instance does; `text` says in which terms."""
        if is_split:
            yield from self.alerts.raised(SPLIT_BRAIN, peer, text, now)
        else:
            yield from self.alerts.cleared(SPLIT_BRAIN, peer)

    def check(self, now: Now) -> Iterator[Effect]:
        """Due with the TTL check."""
        ttl_s = self.configuration.hivemind.peer_ttl_ms / 1000
        for (code, subject), refused_s in list(self._refused_s.items()):
            if now.mono_s - refused_s > ttl_s:
                del self._refused_s[code, subject]
                yield from self.alerts.cleared(code, subject)
        yield from self._check_clock(now)
        for code in (PEERS_MISMATCH, SPLIT_BRAIN):
            for peer in self.alerts.subjects(code):
                is_over = code == SPLIT_BRAIN and not self.leadership.is_primary
                if is_over or not self.membership.members[peer].status.is_online:
                    yield from self.alerts.cleared(code, peer)
        for peer in self.alerts.subjects(PEERS_MISMATCH):
            if self.membership.members[peer].boot != self._mismatched.get(peer):
                yield from self.alerts.cleared(PEERS_MISMATCH, peer)
        since = self.leadership.contact.partition_since
        if since and now.mono_s - since.mono_s >= ttl_s:
            text = f"no primary since {utc_text(since.utc_ms)}, longer than the TTL of {round(ttl_s * 1000)} ms"
            yield from self.alerts.raised(PARTITIONED, "", text, now)

    def _check_clock(self, now: Now) -> Iterator[Effect]:
        ahead_ms = now.utc_ms - now.mono_s * 1000
        jump_ms = 0.0 if self._wall_ahead_ms is None else ahead_ms - self._wall_ahead_ms
        self._wall_ahead_ms = ahead_ms
        allowed_ms = self.configuration.hivemind.max_clock_skew_ms
        if abs(jump_ms) > allowed_ms:
            way = "forward" if jump_ms > 0 else "back"
            text = (
                f"the clock of this host jumped {way} by {abs(jump_ms) / 1000:.0f} s: "
                f"who connects is refused while clocks differ by more than {allowed_ms} ms"
            )
            yield from self.refused(SKEWED, "", text, now)

    def stepped(self, queued: int, now: Now) -> Iterator[Effect]:
        """Called after each step, with the length of the outbox."""
        most = self.configuration.outbox.max_changes
        if queued > FILLING * most:
            text = f"{queued} changes wait for a primary, {most} can"
            yield from self.alerts.raised(OUTBOX_FILLING, "", text, now)
        elif queued <= EASED * most:
            yield from self.alerts.cleared(OUTBOX_FILLING)
        if self.leadership.contact.partition_since is None:
            yield from self.alerts.cleared(PARTITIONED)
