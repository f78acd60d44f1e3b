"""How an instance asks to be elected.

Rules (design, section 7):

- Every voter is asked at once: over a link that is there, or over one that is dialled for it. Without a quorum policy
  only the better-placed are asked, and those only whether they are there; at a cold start all are, in case one leads.
- After a try that failed there is a pause, longer for who stands later in `peers`, so that two candidates do not go on
  taking each other's votes. A better-placed voter that was told to go and did not is passed over from then on.
- A term without votes is taken so that no two instances can take the same: congruent to the index, modulo the voters.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from attrs import define, field, frozen

from meshd.core.canvass import Canvass, gather_s, patience_s
from meshd.core.effects import Dial, Effect, Send
from meshd.core.handshake import Handshake, Line
from meshd.core.messages import Vote, VoteRequest, YouGo
from meshd.core.standing import Policy
from meshd.core.voting import HEARS_PRIMARY, Voter
from meshd.model import Now


@frozen
class Kind:
    """What kind of try: see `Canvass`. `yields`: better-placed voters are listened for. `leads`: we lead already."""

    pre: bool
    transfer: str | None
    is_cold_start: bool
    yields: bool
    leads: bool


@define
class Candidacy:
    """The tries of one instance. `index`: its place among the `voters`, None for who is none.

    `outcome` says how the last try failed, "" after one that did not.
    """

    voters: tuple[str, ...]
    index: int | None
    voter: Voter
    handshake: Handshake
    policy: Policy
    canvass: Canvass | None = None
    not_before_s: float = -inf
    outcome: str = ""
    _passed_over: set[int] = field(factory=set)

    def index_of(self, url: str | None) -> int | None:
        return self.voters.index(url) if url in self.voters else None

    def ask(self, kind: Kind, now: Now) -> Iterator[Effect]:
        """Begin a try."""
        canvass = self.canvass = self._canvass(kind, now)
        if not kind.pre and self.policy is Policy.QUORUM:
            yield from self.voter.stand(canvass.term)
        for index in sorted(canvass.asked):
            if lines := self.handshake.of_voter(index):
                yield from self.put(lines[-1])
            else:
                canvass.dialled.add(index)
                yield Dial(self.voters[index])

    def _canvass(self, kind: Kind, now: Now) -> Canvass:
        is_quorum, ttl_s = self.policy is Policy.QUORUM, self.voter.ttl_s
        term = self.voter.ballot.term + 1 if is_quorum else self.own_term()
        asked = {index for index in range(len(self.voters)) if index != self.index}
        if not (is_quorum or kind.is_cold_start):
            asked = {index for index in asked if kind.pre and not kind.leads and self._is_before(index)}
        gather_until_s = now.mono_s + (gather_s(ttl_s) if kind.pre and kind.yields else 0.0)
        give_up_s = now.mono_s + max(patience_s(ttl_s), gather_s(ttl_s))
        yields = kind.yields and kind.pre and not (kind.is_cold_start or kind.leads)
        return Canvass(
            term, kind.pre, frozenset(asked), gather_until_s, give_up_s, kind.transfer, kind.is_cold_start, yields
        )

    def put(self, line: Line) -> Iterator[Effect]:
        """Put the question to one voter."""
        canvass = self.canvass
        if canvass and line.index in canvass.asked and line.index not in canvass.votes:
            request = VoteRequest(
                canvass.term, self.voter.own_id, self.index or 0, canvass.pre, self.voter.peers_hash, canvass.transfer
            )
            yield Send(line.link, request)

    def put_again(self, line: Line) -> Iterator[Effect]:
        """A voter asks itself: what bound it when it refused us does not any more."""
        vote = self.canvass.votes.get(line.index) if self.canvass and line.index is not None else None
        if self.canvass and line.index is not None and vote and vote.reason == HEARS_PRIMARY:
            del self.canvass.votes[line.index]
            yield from self.put(line)

    def lose(self, index: int | None, *, by_dial: bool) -> Iterator[Effect]:
        """A dial to a voter failed (`by_dial`), or a link to it is gone: there may be another way to ask it."""
        canvass = self.canvass
        if canvass is None or index not in canvass.asked or index in canvass.votes:
            return
        if by_dial:
            canvass.dialled.discard(index)
        if lines := self.handshake.of_voter(index):
            yield from self.put(lines[-1])
        elif by_dial:
            canvass.silent.add(index)
        elif index not in canvass.dialled:
            canvass.dialled.add(index)
            yield Dial(self.voters[index])

    def is_answer(self, line: Line, vote: Vote) -> bool:
        """Take an answer down; False when it answers something else than what we ask."""
        canvass = self.canvass
        if canvass is None or line.index not in canvass.asked or vote.pre is not canvass.pre:
            return False
        if vote.granted and not vote.pre and vote.term != canvass.term:
            return False
        canvass.votes[line.index] = vote
        return True

    def better(self) -> list[int]:
        """Who answered, may lead and goes before us."""
        if self.canvass is None:
            return []
        there = self.canvass.granted() if self.policy is Policy.QUORUM else sorted(self.canvass.votes)
        return [index for index in there if self._is_before(index) and self._may_lead(index)]

    def pass_over(self, index: int, now: Now) -> Iterator[Effect]:
        """A better-placed one goes first, and gets the time for it."""
        self.canvass = None
        self._passed_over.add(index)
        self.hold_back(now, patience_s(self.voter.ttl_s))
        yield Send(self.handshake.of_voter(index)[-1].link, YouGo(self.voter.ballot.term))

    def failed(self, now: Now) -> None:
        """Not this time."""
        if self.canvass:
            self.outcome = self.canvass.told(self.voters)
        self.canvass = None
        self.hold_back(now, patience_s(self.voter.ttl_s) + (self.index or 0) * gather_s(self.voter.ttl_s))

    def won(self, now: Now) -> None:
        """We lead; a hub asks again before long."""
        self.settled()
        self.not_before_s = now.mono_s + patience_s(self.voter.ttl_s)

    def settled(self) -> None:
        """Somebody leads."""
        self.canvass, self.outcome = None, ""
        self._passed_over.clear()

    def hold_back(self, now: Now, pause_s: float) -> None:
        """No try before that has passed."""
        self.not_before_s = max(self.not_before_s, now.mono_s + pause_s)

    def _is_before(self, index: int) -> bool:
        return self.index is not None and index < self.index

    def _may_lead(self, index: int) -> bool:
        return index not in self._passed_over and any(line.is_eligible for line in self.handshake.of_voter(index))

    def own_term(self) -> int:
        """The next term that no other instance would take without votes."""
        term = self.voter.ballot.term
        return term + 1 + ((self.index or 0) - term - 1) % max(1, len(self.voters))
