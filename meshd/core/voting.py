"""Whom an instance votes for.

Rules (design, section 7; the thesis of Raft's author, 2014, sections 3.4, 3.10, 4.2.3 and 9.6):

- Term and vote are on disk before they are used or sent. A term never goes back; one vote in a term.
- Asked first (`pre`), a voter says what it would answer, and changes nothing: who cannot win disturbs nobody.
- Sticky: who has heard a primary that may decide within the TTL votes for nobody else, because that primary counts on
  it. After a restart it may have, and has forgotten when: the TTL then counts from the start, unless the primary said
  goodbye, is the candidate itself, or is this very instance. The TTL is that under which the word was given, where it
  was longer: who counts on it need not know that the voter was started with another one.
- A primary that hands over (`transfer`) releases its voters, and so does its goodbye; only from the term in which it
  led. Both may come late, when it leads again in a later one: so a transfer is good for the very next term alone.
- Whoever was elected in our term or a later one takes the place of whom we were bound to: a majority was not. A hub
  that was never elected, or in an older term, binds nobody.
- Who remembers no term at all, in a mesh that is past the first, may have lost a database with a vote in it: it votes
  once it has been here for the TTL.
- Who leads, or is just awake after a stall, votes for nobody; neither does who was given other `peers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from attrs import define, evolve, field

from meshd.core.ballot import Ballot
from meshd.core.effects import Effect, Persist, SaveBallot, Send
from meshd.core.messages import Vote, VoteRequest
from meshd.core.takeover import Proposals
from meshd.model import Now

LEADS = "leads"
HEARS_PRIMARY = "hears-primary"
AWAKE = "just-awake"
PEERS_MISMATCH = "peers-mismatch"
NOT_A_VOTER = "not-a-voter"
FORGOTTEN = "forgotten"
STALE_TERM = "stale-term"
VOTED = "voted-for-another"

MAX_TERM = 2**52  # a peer that names a greater one would leave no room for further terms on the wire


@define
class Voter:
    """One instance's ballot and what binds it. `heard_s`: when a primary that may decide was last heard.

    `owed_until_s`: until when the primary of an earlier life may count on it.
    """

    own_id: str
    ttl_s: float
    peers_hash: str
    is_voter: bool
    ballot: Ballot
    proposals: Proposals = field(factory=Proposals)
    heard_s: float = -inf
    owed_until_s: float = -inf
    awake_s: float = -inf
    begun_s: float = -inf

    def begin(self, now: Now) -> None:
        """The instance starts: somebody may still count on the vote that it does not remember to owe."""
        self.begun_s = now.mono_s
        if self.ballot.leader not in (None, self.own_id):
            self.heard_s = now.mono_s
            self.owed_until_s = now.mono_s + self.ballot.ttl_ms / 1000

    def forgive(self, late_s: float, until_s: float, now: Now) -> None:
        """We were deaf for `late_s`: that was not the primary's silence, and until `until_s` we hold back."""
        self.heard_s = min(now.mono_s, self.heard_s + late_s)
        self.awake_s = until_s

    def objection(self, request: VoteRequest, now: Now, *, leads: bool) -> str:
        """Why not: the first reason; "" for a vote."""
        voted = self.ballot.vote not in (None, request.candidate)
        reasons = {
            NOT_A_VOTER: not self.is_voter,
            PEERS_MISMATCH: request.peers_hash != self.peers_hash,
            LEADS: leads,
            AWAKE: now.mono_s < self.awake_s,
            FORGOTTEN: self._may_have_forgotten(request.term, now),
            HEARS_PRIMARY: self.is_bound(now) and self.ballot.leader not in (request.candidate, request.transfer),
            STALE_TERM: not self.ballot.term + request.pre <= request.term <= MAX_TERM,
            VOTED: not request.pre and request.term == self.ballot.term and voted,
        }
        return next((reason for reason, holds in reasons.items() if holds), "")

    def is_bound(self, now: Now) -> bool:
        """Whether a primary may count on this voter."""
        return now.mono_s < self.bound_until_s

    @property
    def bound_until_s(self) -> float:
        """When no primary counts on this voter any more, unless it hears one."""
        return max(self.heard_s + self.ttl_s, self.owed_until_s)

    def _may_have_forgotten(self, term: int, now: Now) -> bool:
        """A database that is new while the mesh is not may follow on one that was lost, with a vote in it."""
        return self.ballot.term == 0 and term > 1 and now.mono_s - self.begun_s < self.ttl_s

    def votes_for_itself(self, transfer: str | None, now: Now) -> bool:
        """Whether a candidate may count itself: it is a voter like the others."""
        is_free = not self.is_bound(now) or self.ballot.leader in (None, self.own_id, transfer)
        return self.is_voter and is_free and now.mono_s >= self.awake_s

    def answer(self, link: int, request: VoteRequest, now: Now, *, leads: bool) -> Iterator[Effect]:
        """Answer a candidate."""
        reason = self.objection(request, now, leads=leads)
        if not reason and not request.pre:
            yield from self._save(evolve(self.ballot, term=request.term, vote=request.candidate))
        proposals = () if reason or request.pre else self.proposals.told()
        yield Send(link, Vote(self.ballot.term, request.pre, not reason, reason, proposals))

    def stand(self, term: int) -> Iterator[Effect]:
        """Vote for ourselves, in a term that we have not voted in."""
        if term > self.ballot.term:
            yield from self._save(evolve(self.ballot, term=term, vote=self.own_id))

    def learn(self, term: int) -> Iterator[Effect]:
        """Somebody is in a later term: so are we, without a vote in it."""
        if self.ballot.term < term <= MAX_TERM:
            yield from self._save(evolve(self.ballot, term=term, vote=None))

    def follow(self, leader: str, term: int, now: Now, *, decides: bool) -> Iterator[Effect]:
        """`leader`, elected in `term`, may count on us from here on; not one of an older term: another may already."""
        if term == 0 or not self.ballot.term <= term <= MAX_TERM:
            return
        if self.ballot.leader != leader:
            self.owed_until_s = -inf
        if decides or self.ballot.leader != leader:
            self.heard_s = now.mono_s
        vote = self.ballot.vote if term == self.ballot.term else None
        owed_ms = self.ballot.ttl_ms if now.mono_s < self.owed_until_s else 0
        yield from self._save(Ballot(term, vote, leader, max(round(self.ttl_s * 1000), owed_ms)))

    def release(self, leader: str) -> Iterator[Effect]:
        """`leader`, whom we followed or who we are, no longer counts on us. Another one still may."""
        if self.ballot.leader == leader:
            self.heard_s = self.owed_until_s = -inf
            yield from self._save(evolve(self.ballot, leader=None, ttl_ms=0))

    def _save(self, ballot: Ballot) -> Iterator[Effect]:
        if ballot != self.ballot:
            self.ballot = ballot
            yield Persist(SaveBallot(ballot))
