"""Work intake, put together for the node: what comes in goes to the one module that decides about it.

    looks for work, asks     `intake`      claimant
    decides, grants          `claims`      primary; keeps proposals: voter
    renews, takes back       `leases`      primary
    works, settles, fences   `holding`     holder
    finds double work        `audit`       hub

Rules:

- An answer goes to who asked: over the link, or at once when this instance asked itself.
- After every step what has changed in the documents is told to all of them, and then intake looks for work, once.
- A person may settle a phase that nobody holds, as of a new generation; what another host holds is settled there, or by
  force.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from attrs import define, evolve

from meshd.configuration import Configuration
from meshd.core import claimability, messages
from meshd.core.alerts import PHASE_BLOCKED, Alerts
from meshd.core.audit import Audit
from meshd.core.claim import Claim, ClaimStatus
from meshd.core.claimability import Claimant
from meshd.core.claims import DRAINING, GRANTED, SETTLING, Answer, Claims
from meshd.core.effects import Accepted, Effect, Rejected, Reply, Send
from meshd.core.election import Leadership
from meshd.core.handshake import Handshake, Line
from meshd.core.holding import Held, Holding
from meshd.core.inputs import (
    ClaimPhase,
    Outcome,
    PatchFeature,
    SetCapacity,
    SetDraining,
    SettlePhase,
    TakeWork,
    WorkCommand,
    WorkEnded,
)
from meshd.core.intake import Intake
from meshd.core.leases import Leases
from meshd.core.ledger import Ledger
from meshd.core.membership import Membership
from meshd.core.messages import ClaimRequest, Decision, Heartbeat
from meshd.core.news import ClaimMet
from meshd.core.phases import Phase, Place
from meshd.core.replication import Replication
from meshd.core.settings import Settings
from meshd.core.snapshot import HeldView, WorkView
from meshd.core.stored import Stored
from meshd.core.upkeep import Upkeep
from meshd.model import Capacity, Focus, Now

SETTLED = {Outcome.DONE: ClaimStatus.DONE, Outcome.FAILED: ClaimStatus.FAILED}
MAX_BLOCKED = 100  # alerts about phases: a person reads no more, and the rest stands in `meshd work ls`
ENDED = {**SETTLED, Outcome.RELEASED: ClaimStatus.RELEASED}
SWITCH = "autoMode"
"""The setting that switches intake on and off, for all hosts or one."""


@define
class Work:
    """The parts, and the state that they look at."""

    configuration: Configuration
    handshake: Handshake
    membership: Membership
    leadership: Leadership
    replication: Replication
    settings: Settings
    ledger: Ledger
    claims: Claims
    leases: Leases
    holding: Holding
    intake: Intake
    audit: Audit
    alerts: Alerts
    is_draining: bool = False
    _is_tick: bool = False

    @classmethod
    def restored(cls, upkeep: Upkeep, settings: Settings, boot: str, stored: Stored) -> Work:
        """As it was on disk, on top of what `upkeep` looks at; `boot` names this process."""
        configuration = upkeep.configuration
        ledger = Ledger.restored(upkeep.replication, upkeep.handshake)
        claims = Claims(upkeep.leadership, ledger)
        keys = configuration.work_intake
        patience_s = (keys.claim_timeout_ms + keys.lock_delay_ms) / 1000
        holding = Holding.restored(configuration, ledger, stored.features)
        return cls(
            *(configuration, upkeep.handshake, upkeep.membership, upkeep.leadership, upkeep.replication, settings),
            *(ledger, claims, Leases(claims, ledger, upkeep.membership, patience_s), holding),
            intake=Intake(configuration, boot, ledger, holding),
            audit=Audit(ledger),
            alerts=upkeep.alerts,
        )

    # Whether to claim

    @property
    def why_off(self) -> str:
        """Why this instance claims nothing new, by its configuration or by somebody's word; "" when it does."""
        if not self.configuration.work_intake.enabled:
            return "workIntake.enabled is false in its configuration"
        origin, value = self.settings.scopes.resolved().get(SWITCH, ("", True))
        if value is False:
            return f"{SWITCH} is false in the {origin} settings"
        return "it is draining" if self.is_draining else ""

    def _why_not_yet(self, now: Now) -> str:
        """Why it could not have a phase at this moment."""
        if self._claims_alone(now):
            return ""
        if self.leadership.is_primary:
            reason = self.claims.objection(now)
            return f"this primary does not decide about claims: {reason}" if reason else ""
        if self.leadership.primary_link is None:
            return "it has no primary"
        if not self.leadership.contact.is_taken_in or not self.replication.compared:
            return "it is still comparing documents with its primary"
        return ""

    def _claims_alone(self, now: Now) -> bool:
        """Whether it takes work on its own judgement: nobody decides, and it was told to go on then."""
        if self.configuration.work_intake.when_partitioned != "continue":
            return False
        if self.leadership.is_primary:
            return self.leadership.decides_in(now) is None
        link = self.leadership.primary_link
        return link is None or not self.handshake.lines[link].decides

    # The instance's life

    def begin(self, now: Now) -> Iterator[Effect]:
        yield from self.holding.begin(now)
        yield from self._delivered(self.claims.begin(now), now)
        self.leases.begin(now)

    def took_course(self, now: Now) -> Iterator[Effect]:
        """Another leads, or in another term."""
        self.leases.begin(now)
        yield from self._delivered(self.claims.begin(now), now)
        self.intake.is_due = True

    def link_down(self, link: int) -> None:
        self.claims.link_down(link)

    def due_s(self) -> float:
        """When `tick` has something to do, if nothing happens before."""
        return min(self.holding.due_s(), self.intake.due_s())

    def tick(self, now: Now) -> Iterator[Effect]:
        yield from self._renew_own(now)
        yield from self.holding.tick(now)
        self.intake.end_pauses(now)
        for request in list(self.intake.unanswered(now)):
            yield from self._ask(request, now)

    def intake_due(self, now: Now) -> Iterator[Effect]:
        """The interval of intake passed; a hub looks for phases that wait for ever, too."""
        self.intake.is_due = self._is_tick = True
        blocked = self.ledger.board.blocked() if self.replication.is_hub else []
        causes = {"/".join(each.place): each.text for each in blocked if each.is_cause}
        for place, text in list(causes.items())[:MAX_BLOCKED]:
            yield from self.alerts.raised(PHASE_BLOCKED, place, f"{place} can never be claimed: {text}", now)
        for place in self.alerts.subjects(PHASE_BLOCKED):
            if place not in causes:
                yield from self.alerts.cleared(PHASE_BLOCKED, place)

    def check(self, now: Now) -> Iterator[Effect]:
        """Due with the TTL check."""
        yield from self._renew_own(now)
        yield from self.holding.tick(now)
        yield from self.leases.check({*self.holding.names, *self.intake.requests}, now)

    def beat(self, now: Now) -> tuple[int, tuple[str, ...], bool]:
        """For a heartbeat: its number, the claims to renew, and whether intake is on."""
        return self.holding.beat(now), (*self.holding.names, *self.intake.requests), not self.why_off

    def capacity(self, sampled: Capacity) -> Capacity:
        """What the host has, with what intake makes of it."""
        intake, held = self.intake, self.holding.held.values()
        working = sum(each.state == "working" for each in held)
        _, running, backlog = intake.told or (0, working, 0)
        waiting = sum(each.state in ("waiting", "suspended") for each in held)
        return evolve(
            sampled,
            max_agents=intake.max_agents,
            running_agents=max(running, working),
            backlog_count=backlog + waiting,
        )

    def leave(self, now: Now) -> Iterator[Effect]:
        """The instance drains: what it still holds is released before it says goodbye."""
        self.is_draining = True
        yield from self.holding.leave(now)

    def _renew_own(self, now: Now) -> Iterator[Effect]:
        if self.leadership.is_primary and not self.claims.objection(now):
            yield from self.holding.renew_all(now)

    # What others say

    def heard_beat(self, line: Line, heartbeat: Heartbeat, now: Now) -> Iterator[Effect]:
        yield from self.leases.renew(line, heartbeat, now)

    def received(self, line: Line, message: messages.Message, now: Now) -> Iterator[Effect]:
        match message:
            case ClaimRequest():
                yield from self._delivered(self._asked_by(line, message, now), now)
            case Decision() if line.link == self.leadership.primary_link:
                yield from self._decided(message, now)
            case messages.Propose():
                yield from self.claims.proposed(line, message)
            case messages.ProposalStored():
                yield from self._delivered(self.claims.stored(line, message, now), now)
            case messages.Leases() if line.link == self.leadership.primary_link:
                yield from self.holding.renewed(message, now, is_synced=self.replication.compared)
            case messages.Compared():
                yield from self._delivered(self.claims.compared_with(line, message, now), now)

    def compared(self, link: int, now: Now) -> Iterator[Effect]:
        """The primary has all that we have, and we all that it has: what was asked for is asked again."""
        yield Send(link, messages.Compared(self.leadership.term, self.claims.proposals.told()))
        self.intake.is_due = True
        for request in list(self.intake.on_new_link(now)):
            yield from self._ask(request, now)

    def _asked_by(self, line: Line, request: ClaimRequest, now: Now) -> Iterator[Effect | Answer]:
        peer = str(line.instance_id)
        self.leases.heard(peer, now)
        member = self.membership.members[peer]
        focus = Focus(member.focus) if member.focus in set(Focus) else Focus.FULLSTACK
        claimant = Claimant(peer, focus, member.tags, request.overflow)
        if line.link not in self.claims.compared and not self.claims.objection(now):
            yield Answer(peer, Decision(request.claim, granted=False, reason=SETTLING))
            return
        yield from self.claims.asked(request, claimant, line.index, now)

    def _ask(self, request: ClaimRequest, now: Now) -> Iterator[Effect]:
        """A request of our own, to whoever decides."""
        if self._claims_alone(now):
            place = (request.slug, request.milestone, request.phase)
            claim = self.intake.provisional(request, now)
            yield from self.ledger.write(place, claim, now)
            yield from self._decided(
                Decision(request.claim, granted=True, reason=GRANTED, generation=claim.generation), now
            )
        elif self.leadership.is_primary:
            claimant = self.intake.claimant(overflow=request.overflow)
            own = self.claims.asked(request, claimant, self.configuration.priority, now)
            yield from self._delivered(own, now)
        elif self.leadership.primary_link is not None:
            yield Send(self.leadership.primary_link, request)

    def _delivered(self, answers: Iterator[Effect | Answer], now: Now) -> Iterator[Effect]:
        """Answers on their way to who asked."""
        own_id = self.configuration.protolab.instance_id
        for effect in answers:
            if not isinstance(effect, Answer):
                yield effect
            elif effect.holder == own_id:
                yield from self._decided(effect.decision, now)
            else:
                if effect.decision.granted:
                    self.leases.granted(effect.decision.claim)
                for line in self.handshake.of(effect.holder)[-1:]:
                    yield Send(line.link, effect.decision)

    def _decided(self, decision: Decision, now: Now) -> Iterator[Effect]:
        request = self.intake.decided(decision, now)
        if request is None:
            return
        claim = self.ledger.claim(request.place)
        if claim and claim.id == decision.claim and claim.is_live:
            yield from self.holding.granted(request.place, claim, request.sent_s, now)

    # After a step

    def stepped(self, now: Now) -> Iterator[Effect]:
        """Tell everybody what has changed in the documents; then look for work."""
        news = self.replication.news
        while met := news.take_claims():
            for each in met:
                yield from self._claim_met(each, now)
            if self.replication.is_hub:
                yield from self.audit.look(met, now)
        if news.is_touched:
            self.intake.is_due = True
            yield from self.holding.documents_changed(now)
        if self.intake.is_due and not self.why_off and not self._why_not_yet(now):
            is_tick, self._is_tick = self._is_tick, False
            for request in list(self.intake.look(now, is_tick=is_tick)):
                yield from self._ask(request, now)

    def _claim_met(self, met: ClaimMet, now: Now) -> Iterator[Effect]:
        place, stands = met.place, self.ledger.claim(met.place)
        self.ledger.turned(place, met.claim if met.stands else met.before)
        if stands is None:
            return
        if life := self.ledger.life(place):
            yield from self.claims.proposals.granted(place, life, stands.generation)
        if granted := self.intake.stands(place, stands, now):
            yield from self.holding.granted(place, stands, granted.sent_s, now)
        yield from self.holding.turned(place, stands, now)
        self.leases.turned(stands)

    # Commands

    def command(self, command: WorkCommand, now: Now) -> Iterator[Effect]:
        """What somebody on this host asks for; replies."""
        match command:
            case ClaimPhase():
                yield from self._claim(command, now)
            case SettlePhase():
                refused = yield from self._settle(command, now)
                yield Reply(command.command, refused or Accepted(""))
            case TakeWork():
                yield from self.holding.take(command, now)
                self.intake.is_due = True
            case PatchFeature():
                yield from self.holding.patch(command)
            case SetCapacity(number, max_agents, running, backlog):
                self.intake.told = None if max_agents is None else (max_agents, running, backlog)
                self.intake.is_due = True
                self.holding.wanted(now, waits=self.intake.wanted > 0)
                yield Reply(number, Accepted(""))
            case SetDraining(number, is_draining, release):
                self.is_draining = is_draining
                self.intake.is_due = True
                if release:
                    yield from self.holding.release_all("the host is draining", now)
                yield Reply(number, Accepted(""))

    def ended(self, work: WorkEnded, now: Now) -> Iterator[Effect]:
        """The command that worked on a claim is gone."""
        yield from self.holding.ended(work, now)
        self.intake.is_due = True

    def wanted(self, count: int, now: Now) -> None:
        """So many applications wait for work."""
        self.intake.wanted = count
        self.intake.is_due = True
        self.holding.wanted(now, waits=count > 0)

    def _claim(self, command: ClaimPhase, now: Now) -> Iterator[Effect]:
        place = (command.slug, command.milestone, command.phase)
        if refused := self._claim_refused(place, now):
            yield Reply(command.command, refused)
            return
        request = self.intake.wants(place, now)
        if request is None:
            name = next(name for name, asked in self.intake.requests.items() if asked.place == place)
            yield Reply(command.command, Accepted(name))
            return
        yield Reply(command.command, Accepted(request.claim))
        yield from self._ask(request, now)

    def _claim_refused(self, place: Place, now: Now) -> Rejected | None:
        phase = self.ledger.board.phase(place)
        if phase is None:
            return Rejected("not-found", f"there is no phase {'/'.join(place)}")
        claimant = self.intake.claimant(overflow=True)
        if phase.claim and phase.claim.is_live and phase.claim.holder == claimant.instance_id:
            return Rejected("not-claimable", "this host holds it already")
        conditions = claimability.conditions(phase, self.ledger.board, claimant, now_utc_ms=now.utc_ms)
        if failing := next((condition for condition in conditions if not condition.holds), None):
            return Rejected("not-claimable", failing.text)
        if self.is_draining:
            return Rejected("not-claimable", "this host is draining: it takes nothing new")
        reason = self._why_not_yet(now)
        return Rejected("not-claimable", reason) if reason else None

    def _settle(self, command: SettlePhase, now: Now) -> Generator[Effect, None, Rejected | None]:
        place = (command.slug, command.milestone, command.phase)
        phase = self.ledger.board.phase(place)
        if phase is None:
            return Rejected("not-found", f"there is no phase {'/'.join(place)}")
        held = next((held for held in self.holding.held.values() if held.feature.place == place), None)
        generation = command.generation
        if held is not None and not held.is_lost and generation in (None, held.feature.generation):
            return (yield from self._settle_held(held, command, now))
        if generation is not None and generation != phase.generation:
            yield from self.holding.came_late(place, command, now)
            return Rejected("stale", f"it is at generation {phase.generation}, not {generation}")
        if generation is not None and (feature := self.holding.given_back(phase.claim)):
            if command.outcome is Outcome.DONE:
                yield from self.holding.done_after_all(feature, command, now)
                return None
            if command.outcome in (Outcome.FAILED, Outcome.PROGRESS):
                return Rejected("not-holder", f"this host holds it no more: {feature.released}")
        return (yield from self._settle_free(phase, command, now))

    def _is_said_already(self, claim: Claim | None, outcome: Outcome) -> bool:
        """Whether this host has said that of its claim: the answer may not have arrived, and it is said again."""
        is_own = claim is not None and claim.holder == self.configuration.protolab.instance_id
        return is_own and claim is not None and claim.status is ENDED.get(outcome)

    def _settle_held(self, held: Held, command: SettlePhase, now: Now) -> Generator[Effect, None, Rejected | None]:
        if command.outcome is Outcome.RETRY:
            return Rejected("not-claimable", "this host holds it: release it first")
        if command.outcome is Outcome.PROGRESS:
            yield from self.holding.progress(held, command.note, now)
        elif command.outcome is Outcome.RELEASED:
            yield from self.holding.release(held, command.note or "it was given back", now)
        else:
            yield from self.holding.settle(
                *(held, SETTLED[command.outcome], now),
                pr_url=command.pr_url,
                error=command.error,
                note=command.note,
            )
        return None

    def _settle_free(self, phase: Phase, command: SettlePhase, now: Now) -> Generator[Effect, None, Rejected | None]:
        """A person settles what this host does not hold."""
        if command.generation is not None and self._is_said_already(phase.claim, command.outcome):
            return None
        if refused := _not_by_hand(phase, command):
            return refused
        status = SETTLED.get(command.outcome, ClaimStatus.RELEASED)
        written = self.intake.by_hand(phase.claim, status, now)
        written = evolve(written, pr_url=command.pr_url, error=command.error, note=command.note)
        yield from self.ledger.write(phase.place, written, now)
        return None

    def view(self, now: Now) -> WorkView:
        """For the snapshot."""
        asked = tuple(
            HeldView(request.place, name, request.message.generation, "asked", None)
            for name, request in self.intake.requests.items()
        )
        why_off, why_not_yet = self.why_off, self._why_not_yet(now)
        return WorkView(
            is_on=not why_off,
            why_off=why_off or why_not_yet,
            why_not_yet=why_not_yet,
            max_agents=self.intake.max_agents,
            free=self.intake.free,
            passed_over=self.intake.passed_over,
            decides=DRAINING if self.is_draining else self.claims.objection(now),
            held=(*self.holding.view(now), *asked),
            decisions=self.intake.view(),
            holders=self.leases.view(now),
            features=dict(self.holding.features),
        )


def _not_by_hand(phase: Phase, command: SettlePhase) -> Rejected | None:
    """Why a person cannot say this of a phase that this host does not hold."""
    claim, outcome = phase.claim, command.outcome
    if claim and claim.is_live and not command.is_forced:
        text = f"{claim.holder} holds it, in generation {claim.generation}: run it there, or force it"
        return Rejected("not-holder", text)
    if outcome is Outcome.PROGRESS:
        return Rejected("not-holder", "this host does not hold it")
    if outcome is Outcome.RELEASED and not phase.is_held:
        return Rejected("not-claimable", "nobody holds it")
    if outcome is Outcome.RETRY and phase.is_open:
        return Rejected("not-claimable", "it is not done and has not failed: it can be claimed as it is")
    if outcome is Outcome.DONE and phase.is_done:
        return Rejected("not-claimable", "it is done already")
    return None
