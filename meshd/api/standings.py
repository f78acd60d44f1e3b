"""How phases stand, as rows for people and programs, and what keeps an instance from taking any."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, evolve, field

from meshd.api.members import utc_or_none
from meshd.configuration import Configuration
from meshd.core.board import Board
from meshd.core.claim import shown
from meshd.core.claimability import Claimant, Condition
from meshd.core.documents import Document
from meshd.core.phases import Phase, Place
from meshd.core.snapshot import MemberView, Snapshot
from meshd.model import Capacity, Focus, JsonObject, Role, Status


@define
class Standings:
    """The board of a snapshot's documents, read again only where their registers are others."""

    _board: Board = field(factory=Board)
    _read: dict[str, Document] = field(factory=dict)
    _blocked: dict[Place, str] | None = None

    def board(self, snapshot: Snapshot) -> Board:
        is_changed = False
        for slug, document in snapshot.documents.items():
            known = self._read.get(slug)
            if known is not document:
                self._board.update(document, slug, _changed(known, document) if known else None)
                self._read[slug] = document
                is_changed = True
        for slug in self._read.keys() - snapshot.documents.keys():
            self._board.update(None, slug)
            del self._read[slug]
            is_changed = True
        if is_changed:
            self._blocked = None
        return self._board

    def blocked(self, place: Place) -> str | None:
        """Why a phase can never be claimed as things stand; None for one that can."""
        if self._blocked is None:
            self._blocked = {each.place: each.text for each in self._board.blocked()}
        return self._blocked.get(place)

    def phases(self, snapshot: Snapshot, project: str | None) -> Iterator[Phase]:
        """Those of one project, or of all that are worked on."""
        board = self.board(snapshot)
        if project is None:
            return board.claimable_order()
        found = board.project(project)
        return found.phases() if found else iter(())

    def row(self, phase: Phase, snapshot: Snapshot, now_ms: int) -> JsonObject:
        """One phase."""
        slug, milestone, name = phase.place
        claim = phase.claim
        told = shown(claim) if claim else {}
        is_live = claim is not None and claim.is_live
        held = next((each for each in snapshot.work.held if claim and each.claim == claim.id), None)
        holder = next((each for each in snapshot.work.holders if claim and each.instance_id == claim.holder), None)
        lease_left_s = held.lease_left_s if held else None
        return {
            "project": slug,
            "milestone": milestone,
            "phase": name,
            "status": told.get("executionStatus") or phase.status or "unclaimed",
            "claimedBy": told.get("claimedBy", phase.claimed_by),
            "claimedAt": told.get("claimedAt"),
            "generation": phase.generation,
            "attempts": claim.attempts if claim else 0,
            "featureId": told.get("featureId", phase.feature_id),
            "prUrl": told.get("prUrl"),
            "lastError": told.get("lastError"),
            "note": claim.note if claim else None,
            "retryAt": utc_or_none(claim.retry_ms) if claim else None,
            "provisional": bool(claim and claim.provisional and is_live),
            "ageMs": max(0, now_ms - claim.claimed_ms) if claim and is_live else None,
            "leaseLeftMs": None if lease_left_s is None else _ms(lease_left_s),
            "reclaimInMs": _ms(holder.reclaim_in_s) if holder and is_live else None,
            "blocked": self.blocked(phase.place),
        }


def _changed(before: Document, after: Document) -> set[str]:
    """The paths of the registers that are others: a merge keeps those that it does not change."""
    known = before.registers
    paths = {path for path, register in after.registers.items() if known.get(path) is not register}
    return paths | (known.keys() - after.registers.keys())


def _ms(duration_s: float) -> int | None:
    """None for what never ends."""
    return None if duration_s == float("inf") else round(duration_s * 1000)


def claimant_named(instance_id: str, snapshot: Snapshot, configuration: Configuration) -> Claimant | None:
    """An instance of the mesh as one that wants a phase; None for who is not there."""
    if instance_id == snapshot.instance_id:
        intake, keys = configuration.work_intake, configuration.instance
        overflow = intake.overflow and snapshot.work.passed_over >= intake.overflow_ticks
        return Claimant(instance_id, keys.focus, keys.tags, overflow)
    member = _member(instance_id, snapshot)
    if member is None:
        return None
    focus = Focus(member.focus) if member.focus in set(Focus) else Focus.FULLSTACK
    return Claimant(instance_id, focus, member.tags, overflow=False)


def with_overflow(
    condition: Condition, claimant: Claimant, snapshot: Snapshot, configuration: Configuration
) -> Condition:
    """That a focus does not keep this instance from other work for ever."""
    intake = configuration.work_intake
    is_ours = claimant.instance_id == snapshot.instance_id
    if condition.holds or condition.name != "affinity" or not is_ours or not intake.overflow:
        return condition
    after = f"after {intake.overflow_ticks} ticks without any of its own (so far {snapshot.work.passed_over})"
    return evolve(condition, text=f"{condition.text}; it takes other work {after}")


def hindrances(instance_id: str, snapshot: Snapshot, configuration: Configuration) -> list[Condition]:
    """What an instance needs to take any phase at all."""
    if instance_id == snapshot.instance_id:
        work = snapshot.work
        room = f"{work.free} of {work.max_agents} agents are free"
        if not work.max_agents and not configuration.agents.command:
            room = "it has no agents.command, and no application asks it for work"
        return [
            Condition("intake", work.is_on, "it claims new work" if work.is_on else work.why_off),
            _primary(work.why_not_yet, snapshot),
            Condition("capacity", work.free > 0, room),
        ]
    member = _member(instance_id, snapshot)
    assert member is not None, "the claimant is a member"
    capacity, holding = member.capacity or Capacity(), member.holding or 0
    is_taking = member.intake is not False and member.status is not Status.DRAINING
    return [
        Condition("online", member.status.is_online, f"{instance_id} is {member.status.shown}"),
        Condition("intake", is_taking, _intake_told(member)),
        _primary(_no_primary(snapshot), snapshot),
        Condition("capacity", holding < capacity.max_agents, f"it holds {holding} of {capacity.max_agents}"),
    ]


def _no_primary(snapshot: Snapshot) -> str:
    """Why nobody decides about the claims of another instance, as far as this one knows."""
    if snapshot.role is Role.PRIMARY:
        return snapshot.work.why_not_yet
    return "" if snapshot.primary_id else f"{snapshot.instance_id} knows of no primary"


def _primary(objection: str, snapshot: Snapshot) -> Condition:
    leads = f"{snapshot.primary_id} leads" if snapshot.primary_id else "it claims without one"
    return Condition("primary", not objection, objection or leads)


def _intake_told(member: MemberView) -> str:
    if member.status is Status.DRAINING:
        return "it is draining"
    return "it claims nothing new: ask it for `meshd intake status`" if member.intake is False else "it claims new work"


def _member(instance_id: str, snapshot: Snapshot) -> MemberView | None:
    return next((member for member in snapshot.members if member.instance_id == instance_id), None)
