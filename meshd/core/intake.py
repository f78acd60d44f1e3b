"""Looking for work, and asking for it.

Rules (design, section 8):

- At every tick, and at once when something changed, the phases that may be claimed are gone through in their order, and
  as many are asked for as there is room: what is held, what is asked for and what still stops all take room. A step
  looks once.
- Room is `agents.max` with a command. Without one it is what an application says, or how many wait for work.
- A focus influences and does not block: who found nothing of its own in `overflowTicks` ticks, one after the other,
  while there was other work, takes that.
- What was refused is left alone for a while, longer each time; a request that was not answered is sent again, on a new
  link at once.
- Claimed is while a primary is in contact and all documents were compared with it. With `whenPartitioned: continue` an
  instance without a primary that decides takes what it finds on its own judgement, marked provisional; the audit
  settles it later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from types import MappingProxyType

from attrs import define, evolve, field, frozen

from meshd.configuration import Configuration
from meshd.core import claimability
from meshd.core.affinity import suits
from meshd.core.claim import BEHIND_ALL, Claim, ClaimStatus
from meshd.core.claimability import Claimant
from meshd.core.claims import GRANTED
from meshd.core.holding import Holding
from meshd.core.ledger import Ledger
from meshd.core.messages import ClaimRequest, Decision
from meshd.core.phases import Phase, Place
from meshd.core.snapshot import DecisionView
from meshd.model import Now

FIRST_PAUSE_S = 0.5
MAX_DECISIONS = 256  # remembered for who asks how a request ended
ASK_AGAIN_S = 15.0
GIVE_UP_S = 30.0  # an answer that takes longer will not come: no majority is in reach
ASKED, UNANSWERED = "asked", "no-answer"


@frozen
class Request:
    """A phase that was asked for. `sent_s`: when first, so that a lease never runs longer than the primary counts."""

    message: ClaimRequest
    sent_s: float
    again_s: float

    @property
    def place(self) -> Place:
        return self.message.slug, self.message.milestone, self.message.phase


@define
class Intake:
    """What this instance asks for.

    `wanted`: applications that wait for work. `told`: what an application said of its capacity, how many agents it may
    and does run. `is_on` is set by the node's settings.
    """

    configuration: Configuration
    boot: str
    ledger: Ledger
    holding: Holding
    wanted: int = 0
    told: tuple[int, int, int] | None = None
    requests: dict[str, Request] = field(factory=dict)
    decisions: dict[str, DecisionView] = field(factory=dict)
    passed_over: int = 0
    is_due: bool = True
    _paused_until_s: dict[Place, float] = field(factory=dict)
    _pauses_s: dict[Place, float] = field(factory=dict)
    _number: int = 0

    @property
    def max_agents(self) -> int:
        if self.holding.has_command:
            return self.configuration.agents.max
        if self.told is not None and not self.holding.is_deserted:
            return self.told[0]
        taken = sum(held.state != "waiting" for held in self.holding.held.values())
        return self.wanted + taken

    @property
    def free(self) -> int:
        taken = len(self.holding.held) + len(self.requests)
        return max(0, self.max_agents - taken)

    def claimant(self, *, overflow: bool) -> Claimant:
        keys = self.configuration.instance
        return Claimant(self.configuration.protolab.instance_id, keys.focus, keys.tags, overflow)

    # Looking

    def look(self, now: Now, *, is_tick: bool) -> Iterator[ClaimRequest]:
        """Ask for as much as there is room for."""
        self.is_due = False
        found = list(self._found(now, overflow=False))
        counts = not found and (is_tick or self._overflows)
        other = list(self._found(now, overflow=True)) if counts else []
        if is_tick:
            self.passed_over = self.passed_over + 1 if other else 0
        overflows = self._overflows
        for phase in other if overflows and not found else found:
            yield self._request(phase, now, overflow=overflows)

    @property
    def _overflows(self) -> bool:
        intake = self.configuration.work_intake
        return intake.overflow and self.passed_over >= intake.overflow_ticks

    def _found(self, now: Now, *, overflow: bool) -> Iterator[Phase]:
        """What may be claimed, the first first, as far as there is room."""
        room = self.free
        if room <= 0:
            return
        claimant = self.claimant(overflow=overflow)
        asked = {request.place for request in self.requests.values()}
        for phase in self.ledger.board.claimable_order():
            # First what costs least: most of thousands of phases are over, or not for this instance.
            if not phase.is_open or not (overflow or suits(claimant.focus, claimant.tags, phase.foci)):
                continue
            if phase.place in asked or now.mono_s < self._paused_until_s.get(phase.place, -inf):
                continue
            if not claimability.objection(phase, self.ledger.board, claimant, now_utc_ms=now.utc_ms):
                yield phase
                room -= 1
                if not room:
                    return

    def wants(self, place: Place, now: Now) -> ClaimRequest | None:
        """Somebody wants this very phase; None when it is asked for already, or not there."""
        phase = self.ledger.board.phase(place)
        if phase is None or place in {request.place for request in self.requests.values()}:
            return None
        return self._request(phase, now, overflow=True)

    def _request(self, phase: Phase, now: Now, *, overflow: bool) -> ClaimRequest:
        self._number += 1
        name = f"{self.boot}-{self._number}"
        message = ClaimRequest(name, *phase.place, phase.generation, overflow)
        self.requests[name] = Request(message, now.mono_s, now.mono_s + ASK_AGAIN_S)
        self._remember(message, Decision(name, granted=False, reason=ASKED), now)
        return message

    def unanswered(self, now: Now) -> Iterator[ClaimRequest]:
        """What has waited for its answer for long: asked again, or given up."""
        for name, request in list(self.requests.items()):
            if now.mono_s - request.sent_s >= GIVE_UP_S:
                self.decided(Decision(name, granted=False, reason=UNANSWERED), now)
            elif now.mono_s >= request.again_s:
                yield self._again(name, now)

    def on_new_link(self, now: Now) -> Iterator[ClaimRequest]:
        """Another primary, or a new link to it: what was asked may not have arrived."""
        for name in list(self.requests):
            yield self._again(name, now)

    def _again(self, name: str, now: Now) -> ClaimRequest:
        self.requests[name] = evolve(self.requests[name], again_s=now.mono_s + ASK_AGAIN_S)
        return self.requests[name].message

    def due_s(self) -> float:
        """When something has to be asked again, or a pause ends, if nothing happens before."""
        asked = min((request.again_s for request in self.requests.values()), default=inf)
        return min(asked, min(self._paused_until_s.values(), default=inf))

    # Answers

    def decided(self, decision: Decision, now: Now) -> Request | None:
        """The answer to a request; returns the request when it was granted and waited for."""
        request = self.requests.pop(decision.claim, None)
        if request is None:
            return None
        self.is_due = True
        self._remember(request.message, decision, now)
        if decision.granted:
            return request
        longest_s = self.configuration.work_intake.tick_interval_ms / 1000
        pause_s = min(2 * self._pauses_s.get(request.place, FIRST_PAUSE_S / 2), longest_s)
        self._pauses_s[request.place], self._paused_until_s[request.place] = pause_s, now.mono_s + pause_s
        return None

    def stands(self, place: Place, claim: Claim | None, now: Now) -> Request | None:
        """What stands at a phase has changed: a request of ours may have been granted by it."""
        self._pauses_s.pop(place, None)
        self._paused_until_s.pop(place, None)
        if claim is None or claim.id not in self.requests or not claim.is_live:
            return None
        return self.decided(Decision(claim.id, granted=True, reason=GRANTED, generation=claim.generation), now)

    def end_pauses(self, now: Now) -> None:
        """What was left alone for a while may be asked for again."""
        for place in [place for place, until_s in self._paused_until_s.items() if until_s <= now.mono_s]:
            del self._paused_until_s[place]
            self.is_due = True

    def provisional(self, message: ClaimRequest, now: Now) -> Claim:
        """The claim that this instance takes on its own judgement."""
        phase = self.ledger.board.phase((message.slug, message.milestone, message.phase))
        attempts = phase.claim.attempts if phase and phase.claim else 0
        return Claim(
            *(message.generation + 1, message.claim, self.configuration.protolab.instance_id),
            *(self.configuration.priority, ClaimStatus.CLAIMED, now.utc_ms),
            attempts=attempts,
            provisional=True,
        )

    def by_hand(self, claim: Claim | None, status: ClaimStatus, now: Now) -> Claim:
        """What a person makes of a phase that nobody holds: a generation of its own."""
        self._number += 1
        generation = claim.generation + 1 if claim else 1
        own = (f"{self.boot}-{self._number}", self.configuration.protolab.instance_id, BEHIND_ALL)
        return Claim(generation, *own, status, now.utc_ms)

    def view(self) -> Mapping[str, DecisionView]:
        return MappingProxyType(dict(self.decisions))

    def _remember(self, message: ClaimRequest, decision: Decision, now: Now) -> None:
        place = (message.slug, message.milestone, message.phase)
        how = (decision.granted, decision.reason, decision.claimed_by, now.utc_ms)
        self.decisions[message.claim] = DecisionView(place, message.claim, *how)
        while len(self.decisions) > MAX_DECISIONS:
            del self.decisions[next(iter(self.decisions))]
