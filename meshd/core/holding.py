"""The claims that this host holds, and the features that were made from them.

Rules (design, section 8, "Leases" and "A granted claim becomes a feature"):

- A claim that was granted becomes a feature, on disk, and its phase `in_progress` with the feature's id. The holder
  writes every later state of its claim itself: `done`, `failed`, `released`.
- A lease runs from the moment at which the holder sent the heartbeat that was answered, or its request. After nine
  tenths of the claim timeout without an answer the holder gives up by itself: it stops the work, then releases.
  An instance that decides renews its own. With `whenPartitioned: continue` nobody has to answer.
- Released is written when the work has stopped, not before: nobody else may have begun meanwhile.
- What the primary does not know, or a later claim has taken, is lost: the work stops, the feature goes back to the
  backlog, marked released. What it produces after all is written as of the old generation, and kept as a late result.
- After a restart claims are suspended until a primary has confirmed them. A command that ran when the daemon ended did
  not survive it: that claim is released, with this reason, and not begun a second time.
- A failed attempt may be tried again after a backoff, by anybody, until there were too many.
- Without a command a feature waits for an application. When none asks for so long as a claim may be silent, it is
  released, and nothing new is taken before one asks again.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from math import inf

from attrs import define, evolve, field

from meshd.configuration import Configuration
from meshd.core import documents
from meshd.core.audit import RELEASED_BACK
from meshd.core.claim import Claim, ClaimStatus
from meshd.core.effects import (
    Accepted,
    DropFeature,
    Effect,
    Emit,
    ExtendWork,
    Level,
    Note,
    Persist,
    Rejected,
    Reply,
    SaveFeature,
    StartWork,
    StopWork,
    WriteFeature,
)
from meshd.core.feature import KEPT_KEYS, TAKEN_BY, Feature, FeatureStatus, feature_id
from meshd.core.feature_text import feature_fields
from meshd.core.inputs import Outcome, PatchFeature, SettlePhase, TakeWork, WorkEnded
from meshd.core.ledger import Ledger
from meshd.core.messages import Leases
from meshd.core.phases import Place
from meshd.core.snapshot import HeldView
from meshd.model import Now

PART_OF_TIMEOUT = 0.9
MAX_BEATS = 256  # heartbeats whose answer may still come: far more than are sent within a lease
MAX_ENDED = 1000  # features kept after their end, for people to look at


class State(StrEnum):
    """What happens with a claim that is held."""

    WAITING = "waiting"
    WORKING = "working"
    SUSPENDED = "suspended"
    STOPPING = "stopping"


class Cause(StrEnum):
    """Why that changes."""

    BEGUN = "the command, or an application, has begun"
    CONFIRMED = "a primary has confirmed it"
    STOPPED = "the work is told to stop"


TRANSITIONS: dict[tuple[State, Cause], State] = {
    (State.WAITING, Cause.BEGUN): State.WORKING,
    (State.WAITING, Cause.CONFIRMED): State.WAITING,
    (State.WAITING, Cause.STOPPED): State.STOPPING,
    (State.WORKING, Cause.BEGUN): State.WORKING,
    (State.WORKING, Cause.CONFIRMED): State.WORKING,
    (State.WORKING, Cause.STOPPED): State.STOPPING,
    (State.SUSPENDED, Cause.BEGUN): State.WORKING,
    (State.SUSPENDED, Cause.CONFIRMED): State.WAITING,
    (State.SUSPENDED, Cause.STOPPED): State.STOPPING,
    (State.STOPPING, Cause.BEGUN): State.STOPPING,
    (State.STOPPING, Cause.CONFIRMED): State.STOPPING,
    (State.STOPPING, Cause.STOPPED): State.STOPPING,
}


@define
class Held:
    """A claim of ours. `lease_s`: since when (monotonic) it counts, None until somebody has confirmed it.

    `waits_s`: since when it may be taken. `ending`: why the work was told to stop. `is_lost`: the claim is not ours
    any more.
    """

    feature: Feature
    state: State
    lease_s: float | None
    waits_s: float = -inf
    ending: str = ""
    is_lost: bool = False


@define
class Holding:
    """All features of this host, and which claims it holds.

    `wanted_s`: when an application last asked for work, infinite while one waits. `is_deserted`: none has asked for so
    long that work was given back.
    """

    configuration: Configuration
    ledger: Ledger
    features: dict[str, Feature] = field(factory=dict)
    held: dict[str, Held] = field(factory=dict)
    wanted_s: float = -inf
    is_deserted: bool = False
    _sent_s: dict[int, float] = field(factory=dict)
    _beat: int = 0

    @classmethod
    def restored(cls, configuration: Configuration, ledger: Ledger, features: tuple[Feature, ...]) -> Holding:
        """What was held when the daemon ended is suspended."""
        held = {feature.claim: Held(feature, State.SUSPENDED, None) for feature in features if feature.is_held}
        return cls(configuration, ledger, {feature.id: feature for feature in features}, held)

    @property
    def has_command(self) -> bool:
        return bool(self.configuration.agents.command)

    @property
    def names(self) -> tuple[str, ...]:
        """The claims to be renewed: also those that are lost, until their work has stopped."""
        return tuple(self.held)

    @property
    def _own_id(self) -> str:
        return self.configuration.protolab.instance_id

    @property
    def _lease_s(self) -> float:
        """How long a lease lasts without an answer."""
        if not self.configuration.mesh_enabled or self.configuration.work_intake.when_partitioned == "continue":
            return inf
        return PART_OF_TIMEOUT * self.configuration.work_intake.claim_timeout_ms / 1000

    def begin(self, now: Now) -> Iterator[Effect]:
        """The instance starts."""
        self.wanted_s = now.mono_s
        for held in list(self.held.values()):
            if self.has_command and held.feature.status is FeatureStatus.IN_PROGRESS:
                yield from self.released(held, "the daemon ended while it was worked on", now)
            elif not self.configuration.mesh_enabled:
                yield from self._confirmed(held, now.mono_s)
        for feature in self.features.values():
            yield WriteFeature(feature)

    # Leases

    def beat(self, now: Now) -> int:
        """A heartbeat goes out: its number."""
        self._beat += 1
        self._sent_s[self._beat] = now.mono_s
        while len(self._sent_s) > MAX_BEATS:
            del self._sent_s[next(iter(self._sent_s))]
        return self._beat

    def renewed(self, leases: Leases, now: Now, *, is_synced: bool) -> Iterator[Effect]:
        """The primary's answer. What it does not know may still be on its way to it, before documents were compared."""
        sent_s = self._sent_s.get(leases.beat)
        if sent_s is None:
            return
        for name in leases.valid:
            if held := self.held.get(name):
                yield from self._confirmed(held, sent_s)
        for name, reason in leases.lost.items() if is_synced else ():
            if held := self.held.get(name):
                yield from self._lost(held, f"the primary does not know this claim: {reason}", now)

    def renew_all(self, now: Now) -> Iterator[Effect]:
        """This instance decides, and counts on itself: on what stands in the documents."""
        for held in list(self.held.values()):
            claim = self.ledger.claim(held.feature.place)
            if claim and claim.id == held.feature.claim and claim.is_live:
                yield from self._confirmed(held, now.mono_s)
            else:
                yield from self._lost(held, "it stands nowhere", now)

    def _confirmed(self, held: Held, since_s: float) -> Iterator[Effect]:
        held.lease_s = since_s if held.lease_s is None else max(since_s, held.lease_s)
        was_suspended = held.state is State.SUSPENDED
        held.state = TRANSITIONS[held.state, Cause.CONFIRMED]
        if held.state is State.WORKING and self.has_command:
            yield ExtendWork(held.feature.claim, held.lease_s + self._lease_s)
        elif was_suspended and held.feature.status is FeatureStatus.IN_PROGRESS:
            held.state = TRANSITIONS[held.state, Cause.BEGUN]
        elif was_suspended:
            yield from self._start(held)

    def due_s(self) -> float:
        """When `tick` has something to do, if nothing happens before."""
        leases = [held.lease_s for held in self.held.values() if held.lease_s is not None and not held.ending]
        return min(leases, default=inf) + self._lease_s

    def tick(self, now: Now) -> Iterator[Effect]:
        """Give up what nobody has confirmed for too long, and what nobody wants."""
        timeout_s = self.configuration.work_intake.claim_timeout_ms / 1000
        for held in list(self.held.values()):
            if held.ending or held.is_lost:
                continue
            if held.lease_s is not None and now.mono_s - held.lease_s >= self._lease_s:
                why = f"no primary has confirmed it for {self._lease_s:g} s"
                yield Note(Level.WARNING, f"gives up {'/'.join(held.feature.place)}: {why}")
                yield from self.release(held, why, now)
            elif self._is_unwanted(held, now.mono_s - timeout_s):
                self.is_deserted = True
                yield from self.release(held, "no application asks for work", now)

    def _is_unwanted(self, held: Held, since_s: float) -> bool:
        return held.state is State.WAITING and not self.has_command and max(held.waits_s, self.wanted_s) <= since_s

    def wanted(self, now: Now, *, waits: bool) -> None:
        """An application asks for work, and `waits` for it or not."""
        self.wanted_s = inf if waits else now.mono_s
        self.is_deserted = False

    # From grant to end

    def granted(self, place: Place, claim: Claim, since_s: float, now: Now) -> Iterator[Effect]:
        """A claim is ours: make the feature."""
        if claim.id in self.held or feature_id(claim.id, claim.claimed_ms) in self.features:
            return
        name = feature_id(claim.id, claim.claimed_ms)
        fields = feature_fields(self.ledger.board, place)
        feature = Feature(
            *(name, claim.id, *place, claim.generation, claim.claimed_ms),
            provisional=claim.provisional,
            fields=fields,
            life=self.ledger.life(place),
        )
        self.held[claim.id] = held = Held(feature, State.WAITING, since_s, now.mono_s)
        yield from self._keep(feature, "feature:created")
        yield from self.ledger.write(place, evolve(claim, status=ClaimStatus.IN_PROGRESS, feature_id=name), now)
        yield from self._start(held)

    def _start(self, held: Held) -> Iterator[Effect]:
        if self.has_command:
            held.state = TRANSITIONS[held.state, Cause.BEGUN]
            held.feature = evolve(held.feature, status=FeatureStatus.IN_PROGRESS)
            yield from self._keep(held.feature, "feature:updated")
            yield StartWork(held.feature, (held.lease_s or 0.0) + self._lease_s)

    def take(self, command: TakeWork, now: Now) -> Iterator[Effect]:
        """An application takes a feature that waits."""
        self.wanted(now, waits=self.wanted_s == inf)
        waiting = (held for held in self.held.values() if held.state is State.WAITING and not held.ending)
        held = next((held for held in waiting if command.id in (None, held.feature.id)), None)
        if held is not None:
            held.state = TRANSITIONS[held.state, Cause.BEGUN]
            fields = {**held.feature.fields, TAKEN_BY: command.by} if command.by else held.feature.fields
            held.feature = evolve(held.feature, status=FeatureStatus.IN_PROGRESS, fields=fields)
            yield from self._keep(held.feature, "feature:updated")
        yield Reply(command.command, Accepted(held.feature.id if held else ""))

    def patch(self, command: PatchFeature) -> Iterator[Effect]:
        """An application writes into its feature."""
        feature = self.features.get(command.id)
        if feature is None:
            yield Reply(command.command, Rejected("not-found", f"there is no feature {command.id}"))
            return
        fields = documents.merge_patch(feature.fields, command.patch)
        if not isinstance(command.patch, dict) or not isinstance(fields, dict):
            yield Reply(command.command, Rejected("invalid", "a merge patch of a feature must be an object"))
            return
        if kept := KEPT_KEYS & command.patch.keys():
            text = f"{', '.join(sorted(kept))}: these follow from the claim; see /api/phases/.../done, failed, release"
            yield Reply(command.command, Rejected("invalid", text))
            return
        yield from self._change(evolve(feature, fields=fields))
        yield Reply(command.command, Accepted(feature.id))

    def ended(self, work: WorkEnded, now: Now) -> Iterator[Effect]:
        """The command is gone."""
        held = self.held.get(work.claim)
        if held is None:
            return
        if work.outcome is Outcome.DONE:
            yield from self.settle(held, ClaimStatus.DONE, now, pr_url=work.pr_url)
        elif work.outcome is Outcome.FAILED:
            yield from self.settle(held, ClaimStatus.FAILED, now, pr_url=work.pr_url, error=work.error)
        else:
            yield from self.released(held, held.ending or work.error or "the work was stopped", now)

    def settle(
        self,
        held: Held,
        status: ClaimStatus,
        now: Now,
        *,
        pr_url: str | None = None,
        error: str | None = None,
        note: str | None = None,
    ) -> Iterator[Effect]:
        """The work is over, as `DONE` or `FAILED`; what is written stands unless a later claim does."""
        feature = held.feature
        del self.held[feature.claim]
        claim = evolve(self._claim(feature), status=status, pr_url=pr_url, error=error, note=note)
        if status is ClaimStatus.FAILED:
            claim = self._failed(claim, now)
        status_shown = FeatureStatus.DONE if status is ClaimStatus.DONE else FeatureStatus.FAILED
        ended: dict[str, str | None] = {"prUrl": pr_url, "error": error}
        fields = {**feature.fields, **{key: value for key, value in ended.items() if value is not None}}
        ended_feature = evolve(feature, status=status_shown, is_held=False, fields=fields)
        yield from self._keep(ended_feature, "feature:updated")
        yield from self._write(feature, claim, now)
        text = f"{'/'.join(feature.place)} is {status}" + (f": {error}" if error else "")
        yield Note(Level.INFO, text[:400], {"claim": claim.id, "generation": claim.generation})
        yield from self._forget()

    def _failed(self, claim: Claim, now: Now) -> Claim:
        intake = self.configuration.work_intake
        attempts = claim.attempts + 1
        retry_ms = None if attempts >= intake.max_attempts else now.utc_ms + intake.retry_backoff_ms
        return evolve(claim, attempts=attempts, retry_ms=retry_ms)

    def progress(self, held: Held, note: str | None, now: Now) -> Iterator[Effect]:
        """The holder says how far it is."""
        claim = evolve(self._claim(held.feature), status=ClaimStatus.IN_PROGRESS, note=note)
        yield from self._write(held.feature, claim, now)

    def came_late(self, place: Place, command: SettlePhase, now: Now) -> Iterator[Effect]:
        """A result of a claim that this host lost: it stands nowhere, and is kept as a conflict."""
        of_it = (each for each in self.features.values() if each.place == place)
        feature = next((each for each in of_it if each.generation == command.generation), None)
        if feature is None or command.outcome not in (Outcome.DONE, Outcome.FAILED):
            return
        status = ClaimStatus.DONE if command.outcome is Outcome.DONE else ClaimStatus.FAILED
        claim = evolve(self._claim(feature), status=status, pr_url=command.pr_url, error=command.error)
        yield from self._write(feature, claim, now)

    def given_back(self, claim: Claim | None) -> Feature | None:
        """The feature of a claim that this host held, and that was released without another in its place."""
        if claim is None or claim.status is not ClaimStatus.RELEASED or claim.id in self.held:
            return None
        return self.features.get(feature_id(claim.id, claim.claimed_ms))

    def done_after_all(self, feature: Feature, command: SettlePhase, now: Now) -> Iterator[Effect]:
        """The work was finished although its claim was released: it stands, while nobody has begun anew."""
        claim = evolve(self._claim(feature), status=ClaimStatus.DONE, note=command.note)
        claim = evolve(claim, pr_url=command.pr_url, error=command.error)
        yield from self._keep(evolve(feature, status=FeatureStatus.DONE, released=None), "feature:updated")
        yield from self.ledger.write(feature.place, claim, now)

    def release(self, held: Held, why: str, now: Now) -> Iterator[Effect]:
        """Give a claim back: when the work has stopped."""
        held.ending = why
        if held.state is State.WORKING and self.has_command:
            held.state = TRANSITIONS[held.state, Cause.STOPPED]
            yield StopWork(held.feature.claim, why)
        elif held.state is not State.STOPPING:
            yield from self.released(held, why, now)

    def release_all(self, why: str, now: Now) -> Iterator[Effect]:
        for held in list(self.held.values()):
            yield from self.release(held, why, now)

    def leave(self, now: Now) -> Iterator[Effect]:
        """The daemon ends: give back what is held. What a command still works on is not free yet."""
        for held in list(self.held.values()):
            if not self.has_command or held.state in (State.WAITING, State.SUSPENDED):
                yield from self.released(held, "the daemon was stopped", now)

    def released(self, held: Held, why: str, now: Now) -> Iterator[Effect]:
        """The work has stopped: say that the claim is free, unless it is another's already."""
        feature = held.feature
        del self.held[feature.claim]
        yield from self._keep(
            evolve(feature, status=FeatureStatus.BACKLOG, is_held=False, released=why), "feature:updated"
        )
        if not held.is_lost:
            claim = evolve(self._claim(feature), status=ClaimStatus.RELEASED, note=why)
            yield from self._write(feature, claim, now)
            yield Note(Level.INFO, f"{'/'.join(feature.place)} is released: {why}", {"claim": feature.claim})
        yield from self._forget()

    def turned(self, place: Place, claim: Claim, now: Now) -> Iterator[Effect]:
        """What stands at a phase has changed."""
        for held in [held for held in self.held.values() if held.feature.place == place]:
            if claim.id != held.feature.claim:
                why = f"{claim.holder} has it, in generation {claim.generation}"
                was_dual = held.feature.provisional or claim.generation == held.feature.generation
                yield from self._lost(held, f"{RELEASED_BACK}: {why}" if was_dual else why, now)
            elif not claim.is_live and claim.generation >= held.feature.generation:
                yield from self._lost(held, claim.note or f"it is {claim.status}", now)
            elif claim.generation > held.feature.generation:
                held.feature = evolve(held.feature, generation=claim.generation, provisional=claim.provisional)
                yield from self._keep(held.feature, "feature:updated")

    def documents_changed(self, now: Now) -> Iterator[Effect]:
        """Phases may have gone, and whole projects may have begun anew."""
        for held in list(self.held.values()):
            place = held.feature.place
            if self.ledger.board.phase(place) is None:
                yield from self._lost(held, "the phase was deleted", now)
            elif held.feature.life != self.ledger.life(place):
                yield from self._lost(held, "the project was created again", now)

    def _write(self, feature: Feature, claim: Claim, now: Now) -> Iterator[Effect]:
        """Say what became of a claim, in the document that it was made in: another life has nothing to do with it."""
        if feature.life == self.ledger.life(feature.place):
            yield from self.ledger.write(feature.place, claim, now)

    def _lost(self, held: Held, why: str, now: Now) -> Iterator[Effect]:
        if held.is_lost:
            return
        held.is_lost = True
        yield Note(Level.WARNING, f"{'/'.join(held.feature.place)} is lost: {why}", {"claim": held.feature.claim})
        yield from self.release(held, held.ending or why, now)

    def _claim(self, feature: Feature) -> Claim:
        """The claim as it stands, or as this host had it."""
        known = self.ledger.claim(feature.place)
        if known and known.id == feature.claim and known.generation == feature.generation:
            return evolve(known, feature_id=feature.id)
        return Claim(
            *(feature.generation, feature.claim, self._own_id, self.configuration.priority),
            *(ClaimStatus.IN_PROGRESS, feature.claimed_ms, feature.id),
        )

    # Features

    def _change(self, feature: Feature) -> Iterator[Effect]:
        if held := self.held.get(feature.claim):
            held.feature = feature
        yield from self._keep(feature, "feature:updated")

    def _keep(self, feature: Feature, event: str) -> Iterator[Effect]:
        if not feature.is_held:  # those that ended come in the order of their ends
            self.features.pop(feature.id, None)
        self.features[feature.id] = feature
        yield Persist(SaveFeature(feature))
        told = {"featureId": feature.id, "projectSlug": feature.slug, "milestoneSlug": feature.milestone}
        yield Emit(event, {**told, "phaseSlug": feature.phase, "status": feature.status, "released": feature.released})
        yield WriteFeature(feature)

    def _forget(self) -> Iterator[Effect]:
        """Let go of the oldest that ended long ago."""
        if len(self.features) - len(self.held) > MAX_ENDED:
            name = next(name for name, feature in self.features.items() if not feature.is_held)
            del self.features[name]
            yield Persist(DropFeature(name))

    def view(self, now: Now) -> tuple[HeldView, ...]:
        return tuple(
            HeldView(
                *(held.feature.place, name, held.feature.generation, held.state),
                None if held.lease_s is None else held.lease_s + self._lease_s - now.mono_s,
            )
            for name, held in self.held.items()
        )
