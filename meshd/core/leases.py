"""How long a claim is left to its holder, as the primary sees it.

Rules (design, section 8, "Leases"):

- A heartbeat lists the claims that its sender holds or has asked for, and renews them. The primary answers which are
  valid and which are lost; only what was answered counts, for both sides. It answers nobody before their documents were
  compared, and not while it cannot decide.
- A claim whose holder is alive is never taken for its age. It is reclaimed when its holder has failed or left and was
  not heard for the claim timeout and the lock delay; a new primary counts from its election. By then the holder has
  given up by itself (`holding`).
- Orphan: the holder heard a presence that followed the grant, and its next heartbeat does not list the claim.
- What is taken back is `released` in the same generation: if the holder did finish, its `done` still stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from math import inf

from attrs import define, evolve, field

from meshd.core import messages
from meshd.core.claim import Claim, ClaimStatus
from meshd.core.claims import Claims
from meshd.core.effects import Effect, Emit, Level, Note, Send
from meshd.core.handshake import Line
from meshd.core.ledger import Ledger
from meshd.core.membership import Membership
from meshd.core.messages import Heartbeat
from meshd.core.phases import Place
from meshd.core.snapshot import HolderView
from meshd.model import Now, Status

UNKNOWN = "unknown"
GONE = (Status.FAILED, Status.LEFT)


@define
class Leases:
    """When each holder was last heard, and answered. `granted_seq`: the last presence sent before a grant."""

    claims: Claims
    ledger: Ledger
    membership: Membership
    patience_s: float
    heard_s: dict[str, float] = field(factory=dict)
    granted_seq: dict[str, int] = field(factory=dict)
    begun_s: float = -inf

    def begin(self, now: Now) -> None:
        """Another term: whoever led may have heard everybody just now."""
        self.heard_s, self.granted_seq, self.begun_s = {}, {}, now.mono_s

    def heard(self, instance_id: str, now: Now) -> None:
        """A holder is told something that it may count on."""
        self.heard_s[instance_id] = now.mono_s

    def granted(self, claim: str) -> None:
        """Its holder is told so."""
        self.granted_seq[claim] = self.claims.leadership.authority.last_seq

    def turned(self, claim: Claim) -> None:
        """Another claim stands at a phase, or the same one goes on."""
        if not claim.is_live:
            self.granted_seq.pop(claim.id, None)

    def renew(self, line: Line, heartbeat: Heartbeat, now: Now) -> Iterator[Effect]:
        """A heartbeat: answer it, and take back what its sender does not know of."""
        holder = str(line.instance_id)
        if heartbeat.beat is None or heartbeat.holding is None or line.link not in self.claims.compared:
            return
        if self.claims.objection(now):
            return
        self.heard(holder, now)
        live = self.ledger.live_of(holder)
        if heartbeat.holding:
            waiting = {pending.proposal.claim for pending in self.claims.pending.values()}
            valid = tuple(name for name in heartbeat.holding if name in live)
            lost = {name: UNKNOWN for name in heartbeat.holding if name not in live and name not in waiting}
            term = self.claims.leadership.leads or 0
            yield Send(line.link, messages.Leases(term, heartbeat.beat, valid, lost))
        heard_seq = -1 if heartbeat.heard is None else heartbeat.heard
        known = {name for name in live if self.granted_seq.get(name, -1) >= heard_seq}
        yield from self._orphans(live, known.union(heartbeat.holding), now)

    def check(self, own: Collection[str], now: Now) -> Iterator[Effect]:
        """Due with the TTL check: take back what is held by who is gone. `own` are the claims we hold or ask for."""
        if self.claims.objection(now):
            return
        for holder in self.ledger.holders():
            live = self.ledger.live_of(holder)
            if holder == self.claims.leadership.voter.own_id:
                yield from self._orphans(live, own, now)
            elif self._is_gone(holder) and now.mono_s - self._heard_s(holder) >= self.patience_s:
                for place in list(live.values()):
                    yield from self._take_back(place, f"{holder} was not heard for {self.patience_s:g} s", now)

    def view(self, now: Now) -> tuple[HolderView, ...]:
        """Of each holder but ourselves, how long it is left."""
        if self.claims.objection(now):
            return ()
        ages = {
            holder: now.mono_s - self._heard_s(holder)
            for holder in self.ledger.holders()
            if self.ledger.live_of(holder)
        }
        ages.pop(self.claims.leadership.voter.own_id, None)
        return tuple(HolderView(holder, age_s, self.patience_s - age_s) for holder, age_s in ages.items())

    def _heard_s(self, holder: str) -> float:
        return self.heard_s.get(holder, self.begun_s)

    def _is_gone(self, holder: str) -> bool:
        member = self.membership.members.get(holder)
        return member is None or member.status in GONE

    def _orphans(self, live: dict[str, Place], known: Collection[str], now: Now) -> Iterator[Effect]:
        for name, place in list(live.items()):
            if name not in known:
                yield from self._take_back(place, "its holder does not know of it", now)

    def _take_back(self, place: Place, why: str, now: Now) -> Iterator[Effect]:
        claim = self.ledger.claim(place)
        assert claim is not None, "a live claim stands at its phase"
        self.granted_seq.pop(claim.id, None)
        yield from self.ledger.write(place, evolve(claim, status=ClaimStatus.RELEASED, note=why), now)
        text = f"{'/'.join(place)} is taken back from {claim.holder}: {why}"
        yield Note(Level.WARNING, text, {"claim": claim.id, "generation": claim.generation})
        slug, milestone, phase = place
        told = {"projectSlug": slug, "milestoneSlug": milestone, "phaseSlug": phase, "reason": why}
        yield Emit("claim:reclaimed", {**told, "holder": claim.holder, "generation": claim.generation})
