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

What others say about who leads comes in through `introduced`, `promoted` and `heard_beat`. What follows from a change
of role for documents, settings and members is the node's business: it compares before and after each step.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from math import inf

from attrs import define, evolve, field

from meshd.configuration import Configuration
from meshd.core.authority import Authority
from meshd.core.candidacy import Candidacy, Kind
from meshd.core.canvass import Verdict, patience_s
from meshd.core.dialling import Dialling
from meshd.core.effects import Effect, Emit, Level, Note
from meshd.core.handshake import MAX_VOTERS, Handshake, Line, rank
from meshd.core.history import History
from meshd.core.messages import Goodbye, Heartbeat, Identity, Promote, Vote, VoteRequest
from meshd.core.partition import Contact, Partition
from meshd.core.standing import TRANSITIONS, Cause, Policy, Standing, policy_of
from meshd.core.stored import Stored
from meshd.core.takeover import Proposals
from meshd.core.voting import Voter
from meshd.model import Dialect, JsonObject, Now, Role

HUB_TERM = 0
"""The term of a primary that was never elected: it passes documents on, and decides nothing."""


@define
class Leadership:
    """Role, term and standing of one instance. `leads`: the term it was elected for; 0 for a hub, None for a worker."""

    configuration: Configuration
    handshake: Handshake
    voter: Voter
    authority: Authority
    dialling: Dialling
    history: History
    candidacy: Candidacy
    policy: Policy
    role: Role = Role.WORKER
    standing: Standing = Standing.SEEKING
    leads: int | None = None
    primary_id: str | None = None
    primary_link: int | None = None
    primary_url: str | None = None
    contact: Contact = field(factory=Contact)
    is_chosen: bool = False
    _leads_unless: bool = False
    _cause: str = ""
    _is_leaving: bool = False

    @classmethod
    def restored(cls, configuration: Configuration, handshake: Handshake, stored: Stored) -> Leadership:
        """An instance that has yet to `begin`; without a mesh it leads itself."""
        own_id, hivemind = configuration.protolab.instance_id, configuration.hivemind
        ttl_s = hivemind.peer_ttl_ms / 1000
        voters = hivemind.peers[:MAX_VOTERS]
        index = configuration.priority
        is_voter = index is not None and index < MAX_VOTERS
        voter = Voter(
            own_id, ttl_s, handshake.peers_hash, is_voter, stored.ballot, Proposals.restored(stored.proposals)
        )
        policy = policy_of(hivemind.failover, len(hivemind.peers))
        leadership = cls(
            configuration,
            handshake,
            voter,
            Authority(ttl_s, len(voters) // 2 + 1),
            Dialling(configuration.protolab.instance_url, hivemind.peers),
            History.restored(stored.turns),
            Candidacy(voters, index if is_voter else None, voter, handshake, policy),
            policy,
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
        return self.contact.partition_since.utc_ms if self.contact.partition_since else None

    def decides_in(self, now: Now) -> int | None:
        """The term in which this instance may decide, None while it may not."""
        if not self.configuration.mesh_enabled:
            return 0
        if self.leads is None or self.leads != self.term or self.leads == HUB_TERM or self._is_leaving:
            return None
        return self.leads if self.policy is not Policy.QUORUM or self.authority.holds(now) else None

    def due_s(self, now: Now) -> float:
        """When `tick` has something to do, if nothing happens before."""
        if self.candidacy.canvass:
            return self.candidacy.canvass.due_s(now)
        if self._is_leaving or not self.configuration.mesh_enabled:
            return inf
        if self.is_primary:
            return self.candidacy.not_before_s if self._wants_election else inf
        return self._stands_at_s

    @property
    def _stands_at_s(self) -> float:
        """When this worker may stand: never, as far as it is concerned, under `manual` or as a witness."""
        by_itself = (self.policy is not Policy.MANUAL and self.is_eligible) or self._leads_unless
        if not by_itself or self._follows_original:
            return inf
        return max(self.voter.bound_until_s, self.candidacy.not_before_s, self.voter.awake_s)

    @property
    def _follows_original(self) -> bool:
        """An original primary names no term, and leads for as long as the link to it holds."""
        return self.primary_link is not None and self.handshake.lines[self.primary_link].dialect is Dialect.ORIGINAL

    @property
    def _wants_election(self) -> bool:
        """A primary that was not elected in the newest term it knows, or that lost the majority which elected it."""
        is_elected = self.leads == self.term and self.leads != HUB_TERM and self.authority.missing_since_s is None
        return self.is_primary and self.voter.is_voter and not is_elected

    # The instance's own life

    def begin(self, now: Now) -> Iterator[Effect]:
        """The instance starts: it looks for a primary; the configured one leads when there is none."""
        self.voter.begin(now)
        self.contact.lost(now)
        if self.configuration.protolab.role is Role.PRIMARY and self.configuration.hivemind.leader_eligible:
            self._leads_unless = True
            yield from self._ask(now, is_cold_start=True)
        else:
            self.candidacy.not_before_s = now.mono_s + self.voter.ttl_s + min(10.0, self.voter.ttl_s / 4)
            yield from self._look_on(now)

    def leave(self) -> None:
        """The instance drains: nobody is dialled any more, and nobody asked."""
        self._is_leaving, self.candidacy.canvass = True, None

    def forgive(self, late_s: float, now: Now) -> Iterator[Effect]:
        """We were deaf for `late_s`; what was asked before is void."""
        until_s = now.mono_s + self.configuration.hivemind.heartbeat_interval_ms / 1000
        self.voter.forgive(late_s, until_s, now)
        self.candidacy.not_before_s += late_s
        if self.candidacy.canvass:
            yield from self._failed(now)

    def tick(self, now: Now) -> Iterator[Effect]:
        """`due_s` has come."""
        if self.candidacy.canvass:
            yield from self._count(now)
        elif not self._is_leaving and now.mono_s >= self.due_s(now):
            self._move(Cause.SILENCE)
            if not self.is_primary:
                yield from self._nobody_leads(f"no primary that may decide was heard for {self.voter.ttl_s:g} s", now)
            yield from self._ask(now, is_cold_start=self._leads_unless)

    def check(self, now: Now) -> Iterator[Effect]:
        """Due with the TTL check: a primary that may no longer decide looks for another one."""
        if not self.configuration.mesh_enabled:
            return
        self.authority.watch(now, is_missing=self.is_primary and self.decides_in(now) is None)
        if self.is_primary:
            yield from self._look_on(now)
        since = self.contact.partition_since
        if since and self.primary_link is None and now.mono_s - since.mono_s >= self.voter.ttl_s:
            yield from self._nobody_leads(f"no primary was found for {self.voter.ttl_s:g} s", now)

    def take_over(self, transfer: str | None, now: Now, *, is_chosen: bool = False) -> Iterator[Effect]:
        """A primary hands over to us (`transfer`), or a person wants us to lead (`is_chosen`)."""
        if self.is_primary or not self.is_eligible or self._is_leaving:
            return
        self.is_chosen = is_chosen
        self._move(Cause.TOLD)
        asks_first = transfer is None and self.policy is Policy.QUORUM
        yield from self._ask(now, pre=asks_first, transfer=transfer, yields=False)

    def step_down(self, cause: str, now: Now, *, leads_unless: bool = False) -> Iterator[Effect]:
        """Give up leading: nobody has to wait for us any more. `leads_unless`: we lead again unless another does."""
        self._leads_unless = leads_unless
        self.role, self.leads, self.is_chosen, self.candidacy.canvass = Role.WORKER, None, False, None
        self.primary_link = self.primary_id = None
        self.contact.lost(now)
        self.candidacy.hold_back(now, patience_s(self.voter.ttl_s))
        self._move(Cause.RELEASED)
        yield from self.voter.release(self.voter.own_id)
        yield from self.history.turned(self.term, None, cause, now)

    # What others say

    def dial_failed(self, url: str, now: Now) -> Iterator[Effect]:
        """Nobody answered at `url`."""
        yield from self.candidacy.lose(self.candidacy.index_of(url), by_dial=True)
        yield from self._count(now)
        self.dialling.done_with(url)
        yield from self._look_on(now)

    def link_closed(self, line: Line, now: Now) -> Iterator[Effect]:
        """A link is gone: the primary's, one that was to be, or another."""
        if line.link == self.primary_link:
            yield from self._lost(f"the link to {line.peer} closed", now)
        self.dialling.done_with(link=line.link)
        index = line.index if line.instance_id else self.candidacy.index_of(line.url)
        yield from self.candidacy.lose(index, by_dial=line.url is not None)
        yield from self._count(now)
        yield from self._look_on(now)

    def introduced(self, line: Line, identity: Identity, now: Now) -> Iterator[Effect]:
        """A peer says who it is, or that its role changed."""
        awaited = self.dialling.done_with(line.url, line.link)
        if line.is_primary:
            yield from self._meets_primary(line, f"{line.peer} leads", now)
        elif line.link == self.primary_link:
            yield from self._lost(f"{line.peer} no longer leads", now)
            self.dialling.redirect(identity.primary_url)
            yield from self._look_on(now)
        elif awaited:
            self.dialling.redirect(identity.primary_url)
        yield from self._learn(identity.term, now)
        if line.link == self.primary_link or self.handshake.lines[line.link].closing:
            return
        if self.candidacy.canvass:
            yield from self.candidacy.put(line)
        elif self._wants_election and line.index is not None:
            yield from self._ask(now)
        yield from self._drop_idle()
        yield from self._look_on(now)

    def promoted(self, line: Line, promote: Promote, now: Now) -> Iterator[Effect]:
        """A peer says that it leads from here on."""
        line = self.handshake.lines[line.link] = evolve(line, is_primary=True, leads=promote.term, decides=True)
        yield from self._meets_primary(line, f"{line.peer} was elected", now)
        yield from self._learn(promote.term, now)

    def heard(self, link: int, now: Now) -> None:
        """Any frame from a link."""
        line = self.handshake.lines[link]
        if link == self.primary_link and line.decides and line.instance_id == self.voter.ballot.leader:
            self.voter.heard_s = now.mono_s

    def heard_presence(self, line: Line, seq: int, now: Now) -> None:
        """The primary's presence. It counts on us when we say that we heard it.

        We say so of the first one, and later only while the primary may decide: a hub that has lost its majority
        must not keep us from electing another.
        """
        is_ours = line.instance_id == self.voter.ballot.leader and line.leads == self.term
        if is_ours and (line.decides or not self.contact.is_taken_in):
            self.contact.heard_seq, self.voter.heard_s = seq, now.mono_s

    def taken_in(self, now: Now) -> Generator[Effect, None, Partition | None]:
        """The primary that we follow has taken us in: it leads. Returns the partition that ends with it."""
        line = self.handshake.lines[self.primary_link] if self.primary_link is not None else None
        is_news = line and (self.history.leader != line.instance_id or (line.leads or 0) > self.history.term)
        if line and is_news and not self.contact.is_taken_in:
            yield from self.history.turned(self.term, line.instance_id, self._cause, now)
        return self.contact.taken_in(now)

    def heard_beat(self, line: Line, heartbeat: Heartbeat, now: Now) -> Iterator[Effect]:
        """A peer's heartbeat: whether it may decide, what it heard of us, which term it is in."""
        if line.is_primary and heartbeat.leads is not None:
            decides = bool(heartbeat.authoritative)
            self.handshake.lines[line.link] = evolve(line, leads=heartbeat.leads, decides=decides)
        is_ours = heartbeat.term == self.leads and line.agrees  # by another TTL it may soon elect another
        if heartbeat.heard is not None and line.index is not None and is_ours:
            self.authority.answered(line.index, heartbeat.heard)
            if self.decides_in(now) is not None:
                self.authority.watch(now, is_missing=False)
        yield from self._learn(heartbeat.term, now)

    def heard_goodbye(self, line: Line, goodbye: Goodbye, now: Now) -> Iterator[Effect]:
        """Somebody left. Did it lead in our term, nobody has to wait for the TTL; its successor goes first."""
        is_ours = goodbye.instance_id == self.voter.ballot.leader and line.leads == self.term
        if not is_ours or self.is_primary:
            return
        yield from self.voter.release(goodbye.instance_id)
        yield from self._nobody_leads(f"{goodbye.instance_id} said goodbye", now)
        self.candidacy.not_before_s = now.mono_s
        if goodbye.successor == self.voter.own_id:
            yield from self.take_over(goodbye.instance_id, now)
        elif goodbye.successor:
            self.candidacy.not_before_s += patience_s(self.voter.ttl_s)

    def asked(self, line: Line, request: VoteRequest, now: Now) -> Iterator[Effect]:
        """A candidate asks for our vote."""
        if request.candidate == line.instance_id:
            term = self.term
            yield from self.voter.answer(line.link, request, now, leads=self.is_primary)
            if not request.pre and self.term > term and self.candidacy.canvass:  # it is to win
                yield from self._failed(now)
            elif request.pre:
                yield from self.candidacy.put_again(line)

    def voted(self, line: Line, vote: Vote, now: Now) -> Iterator[Effect]:
        """A voter answers."""
        if self.candidacy.is_answer(line, vote):
            yield from self.voter.learn(vote.term)
            yield from self._count(now)
        else:
            yield from self._learn(vote.term, now)

    def told_to_go(self, now: Now) -> Iterator[Effect]:
        """A candidate finds us better placed."""
        is_free = now.mono_s >= self.voter.awake_s and not self.voter.is_bound(now)
        is_busy = self._is_leaving or self.standing in (Standing.STANDING, Standing.LEADING)
        if self.is_eligible and is_free and not is_busy:
            if self.standing is not Standing.ASKING:
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
        """Ask the voters, and look whether that is enough already."""
        kind = Kind(pre, transfer, is_cold_start, yields, self.is_primary)
        yield from self.candidacy.ask(kind, now)
        yield from self._count(now)

    def _count(self, now: Now) -> Iterator[Effect]:
        """Look whether the try has come to an end, and how."""
        canvass = self.candidacy.canvass
        if canvass is None:
            return
        better = self.candidacy.better()
        own = self.voter.votes_for_itself(canvass.transfer, now)
        match canvass.verdict(self.policy, self.authority.majority - own, better, now):
            case Verdict.ELECTED if self.policy is Policy.QUORUM:
                told = (proposal for vote in canvass.votes.values() for proposal in vote.proposals)
                yield from self.voter.proposals.learn(told)
                yield from self._lead(canvass.term, f"elected by {len(canvass.granted()) + own} voters", now)
            case Verdict.ELECTED:
                term = self.candidacy.own_term()
                yield from self.voter.stand(term)
                yield from self._lead(term, "no better-placed voter is there", now)
            case Verdict.AGREED:
                self._move(Cause.AGREED)
                yield from self._ask(now, pre=False, transfer=canvass.transfer, is_cold_start=canvass.is_cold_start)
            case Verdict.YIELD:
                yield from self.candidacy.pass_over(better[0], now)
                self._move(Cause.YIELDED)
            case Verdict.HUB:
                yield from self._lead(HUB_TERM, "it is the configured primary, and nobody else leads", now)
            case Verdict.FAILED:
                yield from self._failed(now)

    def _failed(self, now: Now) -> Iterator[Effect]:
        self.candidacy.failed(now)
        self.is_chosen = self.is_chosen and self.is_primary
        if self.standing in (Standing.ASKING, Standing.STANDING):
            self._move(Cause.FAILED)
            if self.primary_link is not None:
                self._move(Cause.FOUND)
        yield from self._drop_idle()
        yield from self._look_on(now)

    def _lead(self, term: int, cause: str, now: Now) -> Iterator[Effect]:
        """Lead: with a term that voters gave or the policy allows, or as a hub (term 0) that decides nothing."""
        self.candidacy.won(now)
        self._leads_unless = False
        self.role, self.leads = Role.PRIMARY, term
        self.primary_link, self.primary_id, self.primary_url = None, None, None
        self.contact.partition_since = None
        self.authority.begin()
        self.dialling.found(now)
        self._move(Cause.ELECTED)
        if term:
            yield from self.voter.follow(self.voter.own_id, term, now, decides=False)
        told = f"a person chose it: {cause}" if self.is_chosen else cause
        yield from self.history.turned(self.term, self.voter.own_id, told, now)
        yield from self._look_on(now)

    # Following

    def _meets_primary(self, line: Line, cause: str, now: Now) -> Iterator[Effect]:
        """Somebody leads: follow it, unless we or whom we follow lead with more right."""
        if self.is_primary:
            if line.rank > rank(self.leads or 0, self.configuration.priority, self.voter.own_id):
                yield from self._outranked(line, now)
                yield from self._follow(line, cause, now)
            return
        current = self.handshake.lines.get(self.primary_link) if self.primary_link is not None else None
        if current is None or current.instance_id == line.instance_id or line.rank > current.rank:
            yield from self._follow(line, cause, now)

    def _outranked(self, line: Line, now: Now) -> Iterator[Effect]:
        told: JsonObject = {"primary": line.peer, "term": line.leads or 0, "steppedDown": self.voter.own_id}
        text = f"two primaries: {line.peer} leads in term {line.leads}, we in {self.leads}: we step down"
        yield Note(Level.WARNING, text)
        yield Emit("sync:split-brain-resolved", {**told, "steppedDownTerm": self.leads})
        yield from self.step_down(f"{line.peer} leads with more right", now)

    def _follow(self, line: Line, cause: str, now: Now) -> Iterator[Effect]:
        before = self.primary_link
        self.candidacy.settled()
        self.contact.found()
        self.is_chosen = self._leads_unless = False
        self.primary_link, self.primary_id = line.link, line.instance_id
        self.primary_url = line.stated_url or line.url or self.primary_url
        self.dialling.found(now)
        self._move(Cause.FOUND)
        leader, term = str(line.instance_id), line.leads or 0
        yield from self.voter.follow(leader, term, now, decides=line.decides)
        self._cause = cause
        if before is not None and before != line.link:
            yield from self.handshake.hang_up(before, f"following {leader}")
        for other in self.handshake.of(leader):
            if other.link not in (line.link, before):
                yield from self.handshake.hang_up(other.link, "one link is enough")
        yield from self._drop_idle()

    def _lost(self, cause: str, now: Now) -> Iterator[Effect]:
        """The link to the primary is gone, or the primary is none any more."""
        self.primary_link = None
        self.contact.lost(now)
        self._move(Cause.LOST)
        self.dialling.begin_anew(now)
        level = Level.INFO if self.contact.is_taken_in else Level.DEBUG
        yield Note(level, f"no primary: {cause}")

    def _learn(self, term: int, now: Now) -> Iterator[Effect]:
        """Somebody is in a later term. A primary has to be elected in it again."""
        if term <= self.term:
            return
        yield from self.voter.learn(term)
        if self.is_primary and not self.candidacy.canvass:
            yield from self._ask(now)

    def _nobody_leads(self, cause: str, now: Now) -> Iterator[Effect]:
        """Whoever led does no longer, as far as can be seen from here."""
        if self.primary_link is None:
            self.primary_id = None
        if self.history.leader is not None:
            yield from self.history.turned(self.term, None, cause, now)

    def _look_on(self, now: Now) -> Iterator[Effect]:
        """Dial, if there is somebody to look for."""
        if (
            self._is_leaving
            or self.primary_link is not None
            or (self.candidacy.canvass and self.candidacy.canvass.is_cold_start)
        ):
            return
        linked: set[str] = set()
        if self.is_primary:
            if self.policy is Policy.QUORUM and self.decides_in(now):
                return
            lines = self.handshake.lines.values()
            linked = {url for line in lines for url in (line.stated_url, line.url) if line.instance_id and url}
        if canvass := self.candidacy.canvass:  # those are dialled already: a second link would end the first
            linked |= {self.candidacy.voters[index] for index in canvass.asked}
        yield from self.dialling.look_on(self.primary_url, linked)

    # Small things

    def _move(self, cause: Cause) -> None:
        """The only place the standing changes."""
        self.standing = TRANSITIONS[self.standing, cause]

    def _drop_idle(self) -> Iterator[Effect]:
        """Links that we dialled and that lead nowhere go; in an election, whom we dialled may need them."""
        if self.candidacy.canvass is None and self.standing not in (Standing.YIELDING, Standing.LEADING):
            for line in self.handshake.dialled(but=self.primary_link):
                yield from self.handshake.hang_up(line.link, "looking for the primary")
