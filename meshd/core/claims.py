"""Claims as the primary decides about them.

Rules (design, section 8, "The primary decides"):

- A request names itself, so that it can be sent again. Who has been granted it hears so again; who is waited for waits.
- The primary checks what the claimant has checked. What it would grant it proposes to the voters at the next
  generation; when a majority has stored that, it is granted: written into the document, told to all, answered. Where
  no quorum is asked for, the primary's own disk suffices. A proposal is never abandoned, only superseded: a claimant
  that has waited in vain may turn elsewhere, and a grant that comes too late is an orphan (`leases`).
- A new primary decides nothing (`settling`) until a majority of the voters has compared all documents with it and told
  what it has stored, and until what was in doubt is stored by a majority again, under the primary's own term.
- Who cannot decide says so and changes nothing.

Reasons of a decision: `granted`; `no-quorum` and `settling` (the primary cannot decide), `worker` (it is none),
`draining` (the claimant takes nothing new); `unknown-phase`; `held` (by `claimedBy`); `stale` (another generation than
the claimant saw); and the names of `claimability`'s conditions.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, evolve, field, frozen

from meshd.core import claimability
from meshd.core.ballot import Proposal
from meshd.core.claim import Claim, ClaimStatus
from meshd.core.claimability import Claimant
from meshd.core.effects import Broadcast, Effect, Level, Note, Send
from meshd.core.election import Leadership
from meshd.core.handshake import MAX_VOTERS, Line
from meshd.core.ledger import Ledger
from meshd.core.messages import ClaimRequest, Compared, Decision, ProposalStored, Propose
from meshd.core.phases import Phase, Place
from meshd.core.standing import Policy
from meshd.core.takeover import Proposals
from meshd.model import Now

GRANTED, HELD, STALE, UNKNOWN = "granted", "held", "stale", "unknown-phase"
NO_QUORUM, SETTLING, DRAINING, WORKER = "no-quorum", "settling", "draining", "worker"
OLD_TERM = "old-term"


@frozen
class Answer:
    """A decision on its way to who asked: this instance itself, or another."""

    holder: str
    decision: Decision


@define
class Pending:
    """A proposal on its way to a majority: `stored` by these voters, by their index in `peers`."""

    proposal: Proposal
    is_adopted: bool = False
    stored: set[int] = field(factory=set)


@define
class Claims:
    """What a primary has proposed in the term that it leads in.

    `compared` are the links whose exchange with us is over, `settled_by` the voters among them. `is_settled`: all that
    was granted before us stands in our documents.
    """

    leadership: Leadership
    ledger: Ledger
    pending: dict[Place, Pending] = field(factory=dict)
    compared: dict[int, Line] = field(factory=dict)
    settled_by: set[int] = field(factory=set)
    is_settled: bool = False
    _has_adopted: bool = False

    @property
    def proposals(self) -> Proposals:
        return self.leadership.voter.proposals

    def begin(self, now: Now) -> Iterator[Effect | Answer]:
        """Another term, or another role."""
        self.pending, self.compared, self.settled_by = {}, {}, set()
        self._has_adopted = False
        self.is_settled = not self.leadership.configuration.mesh_enabled
        yield from self._settle(now)

    def objection(self, now: Now) -> str:
        """Why this instance decides about no claim; "" when it does."""
        if not self.leadership.is_primary:
            return WORKER
        if self.leadership.decides_in(now) is None:
            return NO_QUORUM
        return "" if self.is_settled else SETTLING

    # A request

    def asked(
        self, request: ClaimRequest, claimant: Claimant, priority: int | None, now: Now
    ) -> Iterator[Effect | Answer]:
        """Somebody, perhaps we, wants a phase."""
        place = (request.slug, request.milestone, request.phase)
        phase, pending = self.ledger.board.phase(place), self.pending.get(place)
        if pending and pending.proposal.claim == request.claim:
            return
        if phase and phase.claim and phase.claim.id == request.claim and phase.claim.is_live:
            yield Answer(
                claimant.instance_id, Decision(request.claim, granted=True, reason=GRANTED, generation=phase.generation)
            )
            return
        if self._in_doubt(place, phase) and not self.objection(now):
            yield from self._propose(self._adopted(self.proposals.stored[place]), now)
            phase = self.ledger.board.phase(place)
        reason, holder = self._refusal(request, phase, claimant, now)
        life = self.ledger.life(place)
        if reason or phase is None or life is None:
            generation = phase.generation if phase else 0
            yield Answer(
                claimant.instance_id,
                Decision(request.claim, granted=False, reason=reason, generation=generation, claimed_by=holder),
            )
            return
        attempts = phase.claim.attempts if phase.claim else 0
        proposal = Proposal(
            term=self.leadership.leads or 0,
            slug=request.slug,
            milestone=request.milestone,
            phase=request.phase,
            life=life,
            claim=request.claim,
            generation=phase.generation + 1,
            holder=claimant.instance_id,
            priority=priority,
            claimed_ms=now.utc_ms,
            attempts=attempts,
        )
        yield from self._propose(Pending(proposal), now)

    def _refusal(
        self, request: ClaimRequest, phase: Phase | None, claimant: Claimant, now: Now
    ) -> tuple[str, str | None]:
        """Why not, and who holds it; "" when it may be had."""
        if reason := self.objection(now):
            return reason, None
        if phase is None:
            return UNKNOWN, None
        if pending := self.pending.get(phase.place):
            return HELD, pending.proposal.holder
        if phase.claim and phase.claim.is_live:
            return HELD, phase.claim.holder
        if phase.generation != request.generation:
            return STALE, None
        return claimability.objection(phase, self.ledger.board, claimant, now_utc_ms=now.utc_ms), None

    def _in_doubt(self, place: Place, phase: Phase | None) -> bool:
        """Whether an earlier primary may have granted what the document does not show."""
        known = self.proposals.stored.get(place)
        if known is None or phase is None or place in self.pending:
            return False
        return known.life == self.ledger.life(place) and known.generation > phase.generation

    # The voters

    def proposed(self, line: Line, message: Propose) -> Iterator[Effect]:
        """A primary asks us to keep a proposal."""
        proposal = message.proposal
        accepted = message.term == self.leadership.term
        if accepted:
            yield from self.proposals.keep(proposal)
        yield Send(line.link, ProposalStored(message.term, proposal.claim, accepted, "" if accepted else OLD_TERM))

    def stored(self, line: Line, message: ProposalStored, now: Now) -> Iterator[Effect | Answer]:
        """A voter keeps what we proposed, or does not."""
        if line.index is None or line.index >= MAX_VOTERS or message.term != self.leadership.leads:
            return
        for pending in list(self.pending.values()):
            if message.accepted and pending.proposal.claim == message.claim:
                pending.stored.add(line.index)
                yield from self._grant_if_stored(pending, now)

    def compared_with(self, line: Line, message: Compared, now: Now) -> Iterator[Effect | Answer]:
        """A follower has sent all that we lacked."""
        if message.term != self.leadership.leads:
            return
        self.compared[line.link] = line
        if line.index is None or line.index >= MAX_VOTERS:
            return
        self.settled_by.add(line.index)
        if not self._has_adopted:
            yield from self.proposals.learn(message.proposals)
        for pending in self.pending.values():
            yield Send(line.link, Propose(pending.proposal.term, pending.proposal))
        yield from self._settle(now)

    def link_down(self, link: int) -> None:
        self.compared.pop(link, None)

    def _settle(self, now: Now) -> Iterator[Effect | Answer]:
        """Adopt what is in doubt, once we know all of it; decide, once that is granted."""
        if self.is_settled or not self.leadership.leads or 1 + len(self.settled_by) < self._majority:
            return
        if not self._has_adopted:
            self._has_adopted = True
            for place, proposal in list(self.proposals.stored.items()):
                if self._in_doubt(place, self.ledger.board.phase(place)):
                    yield from self._propose(self._adopted(proposal), now)
        if not self.is_settled and not any(pending.is_adopted for pending in self.pending.values()):
            self.is_settled = True
            yield Note(Level.INFO, f"this primary decides about claims, in term {self.leadership.leads}")

    def _adopted(self, proposal: Proposal) -> Pending:
        return Pending(evolve(proposal, term=self.leadership.leads or 0), is_adopted=True)

    def _propose(self, pending: Pending, now: Now) -> Iterator[Effect | Answer]:
        proposal = pending.proposal
        self.pending[proposal.place] = pending
        if self._majority > 1:
            yield from self.proposals.keep(proposal)
            voters = [
                line.link for line in self.compared.values() if line.index is not None and line.index < MAX_VOTERS
            ]
            yield Broadcast(tuple(voters), Propose(proposal.term, proposal))
        yield from self._grant_if_stored(pending, now)

    def _grant_if_stored(self, pending: Pending, now: Now) -> Iterator[Effect | Answer]:
        """Write it into the document, when a majority has stored it."""
        proposal = pending.proposal
        if 1 + len(pending.stored) < self._majority:
            return
        del self.pending[proposal.place]
        phase = self.ledger.board.phase(proposal.place)
        is_there = phase is not None and self.ledger.life(proposal.place) == proposal.life
        if phase is None or not is_there or phase.generation >= proposal.generation:
            reason = STALE if is_there else UNKNOWN
            yield Answer(proposal.holder, Decision(proposal.claim, granted=False, reason=reason))
        else:
            what = (proposal.claim, proposal.holder, proposal.priority, ClaimStatus.CLAIMED, proposal.claimed_ms)
            claim = Claim(proposal.generation, *what, attempts=proposal.attempts)
            yield from self.ledger.write(proposal.place, claim, now)
            yield Note(Level.INFO, f"{'/'.join(proposal.place)} goes to {claim.holder}", _fields(claim))
            yield Answer(
                proposal.holder, Decision(proposal.claim, granted=True, reason=GRANTED, generation=proposal.generation)
            )
        if pending.is_adopted:
            yield from self._settle(now)

    @property
    def _majority(self) -> int:
        """How many voters must have stored what is granted, we included."""
        return self.leadership.authority.majority if self.leadership.policy is Policy.QUORUM else 1


def _fields(claim: Claim) -> dict[str, str | int | float | None]:
    return {"claim": claim.id, "generation": claim.generation, "holder": claim.holder}
