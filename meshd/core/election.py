"""Who leads.

Rules (design, section 7):

- Voters are the first seven of `peers`. Under `quorum` a majority of them elects; under `priority` an instance leads
  when no better-placed voter can be reached; under `manual` when a person says so. `auto` is quorum from three on.
- A worker looks for its primary (`dialling`). It stands when it has heard no primary that may decide for the TTL; at
  once when that one said goodbye; after a start a boot grace later. It asks the voters first and changes nothing. When
  a better-placed one agrees, that one is told to go, and waited for.
- `role: primary` in the file says who leads at a cold start: it asks the others who leads, and follows whoever does.
  When nobody does it leads as a hub: documents go through it, but it decides nothing until it is elected.
- A primary that was not elected in the newest term it knows asks for votes again. A hub without authority, and every
  primary without a quorum policy, keeps dialling the voters that it has no link to.
- Two primaries meet: who was elected in the lower term steps down; in the same term who stands later in `peers`.
- Terms without votes are taken so that no two instances can take the same: congruent to the index, modulo the voters.

What others say about who leads comes in through `introduced`, `promoted` and `heard_beat`. What follows from a change
of role for documents, settings and members is the node's business: it compares before and after each step.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from attrs import define, evolve, field, frozen

from meshd.configuration import Configuration
from meshd.core.authority import Authority
from meshd.core.canvass import Canvass, gather_s, patience_s
from meshd.core.dialling import Dialling
from meshd.core.effects import Dial, Effect, Emit, HangUp, Level, Note, Persist, SaveLeadership, Send
from meshd.core.handshake import GOING_AWAY, MAX_VOTERS, Handshake, Line
from meshd.core.history import History
from meshd.core.messages import Goodbye, Heartbeat, Identity, Promote, Vote, VoteRequest, YouGo
from meshd.core.standing import TRANSITIONS, Cause, Policy, Standing, policy_of
from meshd.core.stored import Stored
from meshd.core.voting import Voter
from meshd.model import JsonObject, Now, Role


@frozen
class Partition:
    """Time without a primary: since when (UTC, for display), and for how long by the monotonic clock."""

    since_ms: int
    duration_ms: int
    is_start: bool


@define
class Leadership:
    """Role, term and standing of one instance. `leads`: the term it was elected for; 0 for a hub, None for a worker."""

    configuration: Configuration
    handshake: Handshake
    voter: Voter
    authority: Authority
    dialling: Dialling
    history: History
    policy: Policy
    role: Role = Role.WORKER
    standing: Standing = Standing.SEEKING
    leads: int | None = None
    primary_id: str | None = None
    primary_link: int | None = None
    primary_url: str | None = None
    heard_seq: int | None = None
    partition_since: Now | None = None
    cause: str = "it has just started"
    _canvass: Canvass | None = None
    _not_before_s: float = -inf
    _passed_over: set[int] = field(factory=set)
    _had_primary: bool = False
    _is_leaving: bool = False

    @classmethod
    def restored(cls, configuration: Configuration, handshake: Handshake, stored: Stored) -> Leadership:
        """An instance that has yet to `begin`; without a mesh it leads itself."""
        own_id, hivemind = configuration.protolab.instance_id, configuration.hivemind
        ttl_s = hivemind.peer_ttl_ms / 1000
        voters = hivemind.peers[:MAX_VOTERS]
        index = configuration.priority
        is_voter = index is not None and index < MAX_VOTERS
        leadership = cls(
            configuration,
            handshake,
            Voter(own_id, ttl_s, handshake.peers_hash, is_voter, stored.ballot),
            Authority(ttl_s, len(voters) // 2 + 1),
            Dialling(configuration.protolab.instance_url, hivemind.peers),
            History(list(stored.turns)),
            policy_of(hivemind.failover, len(hivemind.peers)),
        )
        if not configuration.mesh_enabled:
            leadership.role, leadership.standing, leadership.leads = Role.PRIMARY, Standing.LEADING, 0
        return leadership

    # What may be asked

    @property
    def is_primary(self) -> bool:
        return self.role is Role.PRIMARY

    @property
    def term(self) -> int:
        return self.voter.ballot.term

    @property
    def is_eligible(self) -> bool:
        return self.voter.is_voter and self.configuration.hivemind.leader_eligible

    @property
    def partition_since_ms(self) -> int | None:
        return self.partition_since.utc_ms if self.partition_since else None

    def decides_in(self, now: Now) -> int | None:
        """The term in which this instance may decide, None while it may not."""
        if not self.configuration.mesh_enabled:
            return 0
        if self.leads is None or self.leads != self.term or self.leads == 0:
            return None
        return self.leads if self.policy is not Policy.QUORUM or self.authority.holds(now) else None

    def due_s(self, now: Now) -> float:
        """When `tick` has something to do, if nothing happens before."""
        if self._canvass:
            return self._canvass.due_s(now)
        if self._is_leaving or not self.configuration.mesh_enabled:
            return inf
        if self.is_primary:
            return self._not_before_s if self._wants_election else inf
        return self._stands_at_s

    @property
    def _stands_at_s(self) -> float:
        """When this worker may stand: never, as far as it is concerned, under `manual` or as a witness."""
        if not self.is_eligible or self.policy is Policy.MANUAL:
            return inf
        return max(self.voter.heard_s + self.voter.ttl_s, self._not_before_s, self.voter.awake_s)

    @property
    def _wants_election(self) -> bool:
        """A primary that was not elected in the newest term it knows."""
        return self.is_primary and (self.leads != self.term or self.leads == 0) and self.voter.is_voter

    # The instance's own life

    def begin(self, now: Now) -> Iterator[Effect]:
        """The instance starts: it looks for a primary; the configured one leads when there is none."""
        self.voter.begin(now)
        self.partition_since = now
        self._not_before_s = now.mono_s + self.voter.ttl_s + min(10.0, self.voter.ttl_s / 4)
        if self.configuration.protolab.role is Role.PRIMARY and self.configuration.hivemind.leader_eligible:
            yield from self._ask(now, is_cold_start=True)
        else:
            yield from self._look_on()

    def leave(self) -> None:
        """The instance drains: nobody is dialled any more, and nobody asked."""
        self._is_leaving = True
        self._canvass = None

    def forgive(self, late_s: float, now: Now) -> Iterator[Effect]:
        """We were deaf for `late_s`; what was asked before is void."""
        until_s = now.mono_s + self.configuration.hivemind.heartbeat_interval_ms / 1000
        self.voter.forgive(late_s, until_s, now)
        if not self.is_primary:
            self._not_before_s += late_s
        if self._canvass:
            yield from self._failed(now)

    def tick(self, now: Now) -> Iterator[Effect]:
        """`due_s` has come."""
        if self._canvass:
            yield from self._count(now)
        elif not self._is_leaving and now.mono_s >= self.due_s(now):
            self._move(Cause.SILENCE)
            if not self.is_primary and self.history.leader is not None:
                yield from self._turn(None, f"no primary that may decide was heard for {self.voter.ttl_s:g} s", now)
            yield from self._ask(now)

    def take_over(self, transfer: str | None, now: Now) -> Iterator[Effect]:
        """A primary hands over to us (`transfer`), or a person wants us to lead."""
        if self.is_primary or not self.is_eligible or self._is_leaving:
            return
        self._move(Cause.TOLD)
        asks_first = transfer is None and self.policy is Policy.QUORUM
        yield from self._ask(now, pre=asks_first, transfer=transfer, yields=False)

    def step_down(self, cause: str, now: Now) -> Iterator[Effect]:
        """Give up leading: nobody has to wait for us any more."""
        self.role, self.leads, self._canvass = Role.WORKER, None, None
        self.primary_link = self.primary_id = None
        self.partition_since = now
        self._hold_back(now, patience_s(self.voter.ttl_s))
        self._move(Cause.RELEASED)
        yield from self.voter.release()
        yield from self._turn(None, cause, now)

    # What others say

    def dial_failed(self, url: str, now: Now) -> Iterator[Effect]:
        """Nobody answered at `url`."""
        yield from self._silent(self._index_of(url), now)
        self.dialling.done_with(url)
        yield from self._look_on()

    def link_closed(self, line: Line, now: Now) -> Iterator[Effect]:
        """A link is gone: the primary's, one that was to be, or another."""
        if line.link == self.primary_link:
            yield from self._lost(f"the link to {line.peer} closed", now)
        self.dialling.done_with(link=line.link)
        index = line.index if line.instance_id else self._index_of(line.url)
        if not any(other.index == index for other in self.handshake.lines.values() if other.instance_id):
            yield from self._silent(index, now)
        yield from self._look_on()

    def introduced(self, line: Line, identity: Identity, now: Now) -> Iterator[Effect]:
        """A peer says who it is, or that its role changed."""
        awaited = self.dialling.done_with(line.url, line.link)
        if line.is_primary:
            yield from self._meets_primary(line, f"{line.peer} leads", now)
        elif line.link == self.primary_link:
            yield from self._lost(f"{line.peer} no longer leads", now)
            self.dialling.redirect(identity.primary_url)
            yield from self._look_on()
        elif awaited:
            self.dialling.redirect(identity.primary_url)
        yield from self._learn(identity.term, now)
        if line.link == self.primary_link or self.handshake.lines[line.link].closing:
            return
        if self._canvass:
            yield from self._put(self._canvass, line)
        elif self._wants_election and line.index is not None:
            yield from self._ask(now)
        if self._is_idle(self.handshake.lines[line.link]):
            yield from self._hang_up(line.link, "looking for the primary")
        yield from self._look_on()

    def promoted(self, line: Line, promote: Promote, now: Now) -> Iterator[Effect]:
        """A peer says that it leads from here on."""
        line = self.handshake.lines[line.link] = evolve(line, is_primary=True, leads=promote.term, decides=True)
        yield from self._meets_primary(line, f"{line.peer} was elected", now)
        yield from self._learn(promote.term, now)

    def heard(self, link: int, now: Now) -> None:
        """Any frame from a link."""
        if link == self.primary_link and self.handshake.lines[link].decides:
            self.voter.heard_s = now.mono_s

    def taken_in(self, now: Now) -> Partition | None:
        """The primary that we follow counts on us, too: the partition that ends with it."""
        is_start, self._had_primary = not self._had_primary, True
        since, self.partition_since = self.partition_since, None
        if since is None:
            return None
        return Partition(since.utc_ms, round((now.mono_s - since.mono_s) * 1000), is_start)

    def heard_beat(self, line: Line, heartbeat: Heartbeat, now: Now) -> Iterator[Effect]:
        """A peer's heartbeat: whether it may decide, what it heard of us, which term it is in."""
        if line.is_primary and heartbeat.leads is not None:
            decides = bool(heartbeat.authoritative)
            self.handshake.lines[line.link] = evolve(line, leads=heartbeat.leads, decides=decides)
        if heartbeat.heard is not None and line.index is not None and heartbeat.term == self.leads:
            self.authority.answered(line.index, heartbeat.heard)
        yield from self._learn(heartbeat.term, now)

    def heard_goodbye(self, goodbye: Goodbye, now: Now) -> Iterator[Effect]:
        """Somebody left. Was it whom we followed, nobody has to wait for the TTL; its successor goes first."""
        if goodbye.instance_id != self.voter.ballot.leader or self.is_primary:
            return
        yield from self.voter.release()
        yield from self._turn(None, f"{goodbye.instance_id} said goodbye", now)
        self._not_before_s = now.mono_s
        if goodbye.successor == self.voter.own_id:
            yield from self.take_over(goodbye.instance_id, now)
        elif goodbye.successor:
            self._not_before_s += patience_s(self.voter.ttl_s)

    def asked(self, line: Line, request: VoteRequest, now: Now) -> Iterator[Effect]:
        """A candidate asks for our vote."""
        if request.candidate == line.instance_id:
            term = self.term
            yield from self.voter.answer(line.link, request, now, leads=self.is_primary)
            if not request.pre and self.term > term and self._canvass:  # it is to win
                yield from self._failed(now)

    def voted(self, line: Line, vote: Vote, now: Now) -> Iterator[Effect]:
        """A voter answers."""
        canvass = self._canvass
        is_answer = canvass and vote.pre is canvass.pre and (vote.pre or not vote.granted or vote.term == canvass.term)
        if canvass and is_answer and line.index in canvass.asked:
            canvass.votes[line.index] = vote
            if vote.term > self.term:
                yield from self.voter.learn(vote.term)
            yield from self._count(now)
        else:
            yield from self._learn(vote.term, now)

    def told_to_go(self, now: Now) -> Iterator[Effect]:
        """A candidate finds us better placed."""
        is_free = now.mono_s >= self.voter.awake_s and not self.voter.is_bound(now)
        is_busy = self._is_leaving or self.standing in (Standing.ASKING, Standing.STANDING, Standing.LEADING)
        if self.is_eligible and is_free and not is_busy:
            self._move(Cause.SILENCE)
            yield from self._ask(now, yields=False)

    # A try to be elected

    def _ask(
        self,
        now: Now,
        *,
        pre: bool = True,
        transfer: str | None = None,
        is_cold_start: bool = False,
        yields: bool = True,
    ) -> Iterator[Effect]:
        """Ask the voters; without a quorum, see whether a better-placed one is there."""
        ttl_s, own = self.voter.ttl_s, self.configuration.priority
        others = {index for index in range(len(self._voters)) if index != own}
        if self.policy is not Policy.QUORUM and not is_cold_start:
            others = {index for index in others if pre and own is not None and index < own and not self.is_primary}
        term = self.term + 1 if self.policy is Policy.QUORUM else self._own_term()
        gather_until_s = now.mono_s + (gather_s(ttl_s) if pre and yields else 0.0)
        give_up_s = now.mono_s + max(patience_s(ttl_s), gather_s(ttl_s))
        canvass = Canvass(term, pre, frozenset(others), gather_until_s, give_up_s, transfer, is_cold_start, yields)
        self._canvass = canvass
        if not pre and self.policy is Policy.QUORUM:
            yield from self.voter.stand(term)
        for index in sorted(others):
            lines = [line for line in self.handshake.lines.values() if line.index == index and not line.closing]
            if lines:
                yield from self._put(canvass, lines[-1])
            else:
                yield Dial(self._voters[index])
        yield from self._count(now)

    def _put(self, canvass: Canvass, line: Line) -> Iterator[Effect]:
        """Put the question to one voter; an original peer has no word for an answer."""
        if line.index in canvass.asked and line.index not in canvass.votes:
            own_id, own = self.voter.own_id, self.configuration.priority or 0
            yield Send(
                line.link,
                VoteRequest(canvass.term, own_id, own, canvass.pre, self.voter.peers_hash, canvass.transfer),
            )

    def _silent(self, index: int | None, now: Now) -> Iterator[Effect]:
        if self._canvass and index in self._canvass.asked and index not in self._canvass.votes:
            self._canvass.silent.add(index)
            yield from self._count(now)

    def _count(self, now: Now) -> Iterator[Effect]:
        """Look whether the try has come to an end."""
        canvass = self._canvass
        if canvass is None:
            return
        if self.policy is not Policy.QUORUM:
            yield from self._count_priority(canvass, now)
            return
        is_agreed = 1 + len(canvass.granted()) >= self.authority.majority and self.voter.is_voter
        if not canvass.pre and is_agreed:
            yield from self._elected(canvass.term, f"elected by {1 + len(canvass.granted())} voters", now)
        elif canvass.pre and is_agreed and canvass.has_gathered(now):
            yield from self._agreed(canvass, now)
        elif canvass.is_cold_start and not canvass.hears_primary and canvass.is_over(now, cold=canvass.pre):
            yield from self._elected(0, "it is the configured primary; nobody else leads", now)
        elif canvass.is_over(now):
            yield from self._failed(now)

    def _agreed(self, canvass: Canvass, now: Now) -> Iterator[Effect]:
        """A majority would vote for us; a better-placed one among them goes first."""
        better = [index for index in canvass.granted() if self._goes_before(index)]
        if better and canvass.yields and not self.is_primary and not canvass.is_cold_start:
            yield from self._yield_to(better[0], now)
        else:
            self._move(Cause.AGREED if self.standing in (Standing.ASKING, Standing.LEADING) else Cause.TOLD)
            is_cold_start = canvass.is_cold_start
            yield from self._ask(now, pre=False, transfer=canvass.transfer, is_cold_start=is_cold_start)

    def _count_priority(self, canvass: Canvass, now: Now) -> Iterator[Effect]:
        """Without a quorum: lead when nobody better placed answers."""
        if not canvass.is_over(now, cold=canvass.is_cold_start):
            return
        better = [index for index in sorted(canvass.votes) if self._goes_before(index)]
        if canvass.hears_primary and canvass.is_cold_start:
            yield from self._failed(now)
        elif better and canvass.yields and not canvass.is_cold_start:
            yield from self._yield_to(better[0], now)
        else:
            yield from self.voter.stand(self._own_term())
            yield from self._elected(self.term, "nobody better placed is there", now)

    def _goes_before(self, index: int) -> bool:
        own = self.configuration.priority
        return own is not None and index < own and index not in self._passed_over and self._line(index, eligible=True)

    def _yield_to(self, index: int, now: Now) -> Iterator[Effect]:
        self._passed_over.add(index)
        line = next(line for line in self.handshake.lines.values() if line.index == index and not line.closing)
        yield Send(line.link, YouGo(self.term))
        self._canvass = None
        self._hold_back(now, patience_s(self.voter.ttl_s))
        self._move(Cause.YIELDED)
        yield from self._drop_idle()

    def _failed(self, now: Now) -> Iterator[Effect]:
        self._canvass = None
        own = self.configuration.priority or 0
        self._hold_back(now, patience_s(self.voter.ttl_s) + own * gather_s(self.voter.ttl_s))
        if self.standing in (Standing.ASKING, Standing.STANDING):
            self._move(Cause.FAILED)
            if self.primary_link is not None:
                self._move(Cause.FOUND)
        yield from self._drop_idle()
        yield from self._look_on()

    def _elected(self, term: int, cause: str, now: Now) -> Iterator[Effect]:
        """Lead: with a term that voters gave or the policy allows, or as a hub (term 0) that decides nothing."""
        self._canvass = None
        self.role, self.leads = Role.PRIMARY, term
        self.primary_link, self.primary_id, self.primary_url = None, None, None
        self.partition_since = None
        self._passed_over.clear()
        self._not_before_s = now.mono_s + patience_s(self.voter.ttl_s)
        self.authority.begin()
        self.dialling.found(now)
        self._move(Cause.ELECTED)
        if term:
            yield from self.voter.follow(self.voter.own_id, term, now, decides=False)
        yield from self._turn(self.voter.own_id, cause, now)
        yield from self._look_on()

    def _own_term(self) -> int:
        """The next term that no other instance would take without votes."""
        count = max(1, len(self._voters))
        return self.term + 1 + ((self.configuration.priority or 0) - self.term - 1) % count

    # Following

    def _meets_primary(self, line: Line, cause: str, now: Now) -> Iterator[Effect]:
        """Somebody leads: follow it, unless we or whom we follow lead with more right."""
        if self.is_primary:
            if _rank(line) > self._own_rank:
                yield from self._outranked(line, now)
                yield from self._follow(line, cause, now)
            return
        current = self.handshake.lines.get(self.primary_link) if self.primary_link is not None else None
        if current is None or current.instance_id == line.instance_id or _rank(line) > _rank(current):
            yield from self._follow(line, cause, now)

    def _outranked(self, line: Line, now: Now) -> Iterator[Effect]:
        ours, theirs = self.leads, line.leads
        yield Note(Level.WARNING, f"two primaries: {line.peer} leads in term {theirs}, we in {ours}: we step down")
        payload: JsonObject = {
            "primary": line.peer,
            "term": theirs or 0,
            "steppedDown": self.voter.own_id,
            "steppedDownTerm": ours,
        }
        yield Emit("sync:split-brain-resolved", payload)
        yield from self.step_down(f"{line.peer} leads with more right", now)

    def _follow(self, line: Line, cause: str, now: Now) -> Iterator[Effect]:
        before = self.primary_link
        term_before = self.term
        self._canvass, self.heard_seq = None, None
        self.primary_link, self.primary_id = line.link, line.instance_id
        self.primary_url = line.stated_url or line.url or self.primary_url
        self.dialling.found(now)
        self._passed_over.clear()
        self._move(Cause.FOUND)
        leader, term = str(line.instance_id), line.leads or 0
        yield from self.voter.follow(leader, term, now, decides=line.decides)
        if self.history.leader != leader or (line.leads or 0) > term_before:
            yield from self._turn(leader, cause, now)
        if before is not None and before != line.link:
            yield from self._hang_up(before, f"following {leader}")
        for other in self.handshake.of(leader):
            if other.link not in (line.link, before):
                yield from self._hang_up(other.link, "one link is enough")
        yield from self._drop_idle()

    def _lost(self, cause: str, now: Now) -> Iterator[Effect]:
        """The link to the primary is gone, or the primary is none any more."""
        self.primary_link = None
        self.partition_since = now
        self._move(Cause.LOST)
        self.dialling.begin_anew(now)
        yield Note(Level.INFO, f"no primary: {cause}")

    def _learn(self, term: int, now: Now) -> Iterator[Effect]:
        """Somebody is in a later term. A primary has to be elected in it again."""
        if term <= self.term:
            return
        yield from self.voter.learn(term)
        if self.is_primary and not self._canvass:
            yield from self._ask(now)

    def _look_on(self) -> Iterator[Effect]:
        """Dial, if there is somebody to look for."""
        if self._is_leaving or self.primary_link is not None or (self._canvass and self._canvass.is_cold_start):
            return
        linked: set[str] = set()
        if self.is_primary:
            if self.policy is Policy.QUORUM and self.leads and self.leads == self.term:
                return
            linked = {line.stated_url for line in self.handshake.lines.values() if line.stated_url}
        yield from self.dialling.look_on(self.primary_url, linked)

    # Small things

    def _hold_back(self, now: Now, pause_s: float) -> None:
        self._not_before_s = max(self._not_before_s, now.mono_s + pause_s)

    def _move(self, cause: Cause) -> None:
        """The only place the standing changes."""
        self.standing = TRANSITIONS[self.standing, cause]

    def _turn(self, leader: str | None, cause: str, now: Now) -> Iterator[Effect]:
        self.cause = cause
        turn = self.history.add(now, self.term, leader, cause)
        yield Persist(SaveLeadership(turn))
        yield Note(Level.INFO, f"{leader or 'nobody'} leads in term {self.term}: {cause}", {"term": self.term})
        yield Emit("sync:leadership-changed", {"leader": leader, "term": self.term, "cause": cause})

    def _is_idle(self, line: Line) -> bool:
        """A link that we dialled and that leads nowhere."""
        return bool(line.url and not line.closing and not self.is_primary and not self._canvass) and (
            line.link != self.primary_link
        )

    def _drop_idle(self) -> Iterator[Effect]:
        for line in list(self.handshake.lines.values()):
            if line.instance_id and self._is_idle(line):
                yield from self._hang_up(line.link, "looking for the primary")

    def _hang_up(self, link: int, reason: str) -> Iterator[Effect]:
        if (line := self.handshake.lines.get(link)) and not line.closing:
            self.handshake.closes(link)
            yield HangUp(link, GOING_AWAY, reason)

    def _line(self, index: int, *, eligible: bool) -> bool:
        lines = self.handshake.lines.values()
        return any(line.index == index and not line.closing and line.is_eligible is eligible for line in lines)

    def _index_of(self, url: str | None) -> int | None:
        return self._voters.index(url) if url in self._voters else None

    @property
    def _voters(self) -> tuple[str, ...]:
        return self.configuration.hivemind.peers[:MAX_VOTERS]

    @property
    def _own_rank(self) -> tuple[int, int, str]:
        own = self.configuration.priority
        return (self.leads or 0, -(MAX_VOTERS if own is None else own), self.voter.own_id)


def _rank(line: Line) -> tuple[int, int, str]:
    """Who leads with more right: the later term, then the better place. An original peer names no term."""
    return (-1 if line.leads is None else line.leads, -(MAX_VOTERS if line.index is None else line.index), line.peer)
