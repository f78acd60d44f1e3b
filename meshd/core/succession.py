"""Planned hand-over: who leads next, when somebody asks for it or the canonical primary is back.

Rules (design, section 7):

- A primary hands over to a voter that may lead, is linked and alive. It gives up leading first, then tells the
  successor, which asks for votes in the name of the transfer: nobody waits for the TTL, and never do two decide.
- When no new primary is heard of soon, the old one stands again.
- `failback: auto`: once index 0 has been linked and in sync for twice the TTL, the acting primary hands over to it. Not
  again within ten minutes; twice as long each time that leadership came back soon.
  Whom a person has chosen, by `promote` or by `step-down`, leads until it is lost or a person chooses another.
- A primary that drains names its successor in its goodbye. `meshd promote` asks the primary, and without one stands.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from math import inf

from attrs import define, field

from meshd.core.convergence import Convergence
from meshd.core.effects import Accepted, Effect, Level, Note, Rejected, Reply, Send
from meshd.core.election import Leadership
from meshd.core.handshake import Handshake, Line
from meshd.core.inputs import LeadershipCommand, PromoteInstance
from meshd.core.membership import Member, Membership
from meshd.core.messages import HandOver, Nominate
from meshd.model import Now, Status

STABLE_TTLS = 2
FIRST_PAUSE_S = 600.0


@define
class Succession:
    """Hands leadership over, and takes it when it is handed over."""

    leadership: Leadership
    handshake: Handshake
    membership: Membership
    convergence: Convergence
    _stable_since_s: float | None = None
    _not_before_s: float = -inf
    _pause_s: float = field(default=FIRST_PAUSE_S)

    def successor(self) -> Line | None:
        """The best one: in sync before not, then by its place among the peers."""
        lines = [line for line in self.handshake.lines.values() if self._objection(line) is None]
        return min(lines, key=lambda line: (not self._is_in_sync(line), line.index), default=None)

    def command(self, command: LeadershipCommand, now: Now) -> Iterator[Effect]:
        """A person wants another primary; replies when it was asked for, not when it leads."""
        if not self.leadership.configuration.mesh_enabled:
            refused: Rejected | None = Rejected("no-successor", "this instance is in no mesh: it leads itself")
        elif isinstance(command, PromoteInstance):
            refused = yield from self._promote(command.instance_id or self.leadership.voter.own_id, now)
        else:
            refused = yield from self._step_down(now)
        yield Reply(command.command, refused or Accepted(""))

    def nominated(self, line: Line, message: Nominate, now: Now) -> Iterator[Effect]:
        """A worker passes on that a person wants another primary."""
        if self.leadership.is_primary and message.instance_id == self.leadership.voter.own_id:
            self.leadership.is_chosen = True
        elif self.leadership.is_primary:
            refused = yield from self._hand_over_to(message.instance_id, f"a person asked for it on {line.peer}", now)
            if refused:
                yield Note(Level.WARNING, f"{line.peer} asks to promote {message.instance_id}: {refused.detail}")

    def handed_over(self, line: Line, message: HandOver, now: Now) -> Iterator[Effect]:
        """The primary wants us to be the next one."""
        if line.instance_id == self.leadership.voter.ballot.leader and message.term >= self.leadership.term:
            yield from self.leadership.take_over(line.instance_id, now, is_chosen=message.chosen)

    def check(self, now: Now) -> Iterator[Effect]:
        """Due with the TTL check: whether index 0 is back to stay."""
        hivemind = self.leadership.configuration.hivemind
        is_kept = hivemind.failback != "auto" or self.leadership.is_chosen
        if is_kept or self.leadership.decides_in(now) is None:
            self._stable_since_s = None
            return
        line = next((line for line in self.handshake.lines.values() if line.index == 0 and not line.closing), None)
        if line is None or self._objection(line) or not self._is_in_sync(line):
            self._stable_since_s = None
            return
        self._stable_since_s = since_s = now.mono_s if self._stable_since_s is None else self._stable_since_s
        if now.mono_s - since_s >= STABLE_TTLS * hivemind.peer_ttl_ms / 1000 and now.mono_s >= self._not_before_s:
            soon = now.mono_s < self._not_before_s + self._pause_s
            self._pause_s = self._pause_s * 2 if soon else FIRST_PAUSE_S
            self._not_before_s = now.mono_s + self._pause_s
            yield from self._hand_over(line, "the first of the peers is back", now)

    def _promote(self, instance_id: str, now: Now) -> Generator[Effect, None, Rejected | None]:
        leadership = self.leadership
        if leadership.is_primary:
            if instance_id == leadership.voter.own_id:
                leadership.is_chosen = True
                return None
            return (yield from self._hand_over_to(instance_id, "a person asked for it", now))
        if instance_id == leadership.voter.own_id and not leadership.is_eligible:
            return Rejected("no-successor", f"{instance_id} may not lead: it is no voter, or leaderEligible is false")
        if leadership.primary_link is not None:
            member = self.membership.members.get(instance_id)
            refused = None if instance_id == leadership.voter.own_id else _refusal(member, instance_id)
            if not refused:
                yield Send(leadership.primary_link, Nominate(instance_id))
            return refused
        if instance_id != leadership.voter.own_id:
            return Rejected("no-successor", f"there is no primary to ask: run it on {instance_id} itself")
        yield from leadership.take_over(None, now, is_chosen=True)
        return None

    def _step_down(self, now: Now) -> Generator[Effect, None, Rejected | None]:
        if not self.leadership.is_primary:
            leader = self.leadership.primary_id
            where = f"run it on {leader}" if leader else "there is none at the moment"
            return Rejected("not-primary", f"this instance is not the primary: {where}")
        line = self.successor()
        if line is None:
            return Rejected("no-successor", "no voter that may lead is linked and alive")
        yield from self._hand_over(line, "a person asked for it", now, is_chosen=True)
        return None

    def _hand_over_to(self, instance_id: str, cause: str, now: Now) -> Generator[Effect, None, Rejected | None]:
        lines = [line for line in self.handshake.of(instance_id) if not line.closing]
        if not lines:
            return Rejected("no-successor", f"{instance_id} is not linked to the primary")
        if objection := self._objection(lines[-1]):
            return Rejected("no-successor", f"{instance_id} {objection}")
        yield from self._hand_over(lines[-1], cause, now, is_chosen=True)
        return None

    def _hand_over(self, line: Line, cause: str, now: Now, *, is_chosen: bool = False) -> Iterator[Effect]:
        term = self.leadership.term
        self._stable_since_s = None
        yield from self.leadership.step_down(f"it hands over to {line.peer}: {cause}", now, leads_unless=True)
        yield Send(line.link, HandOver(term, is_chosen))

    def _objection(self, line: Line) -> str | None:
        """Why the other end of a link cannot lead; None when it can."""
        member = self.membership.members.get(line.instance_id or "")
        if line.index is None or line.closing or member is None:
            return "is not among the voters, the first of hivemind.peers"
        if not line.agrees:
            return "was given other hivemind.peers, failover or peerTtlMs, and would find no votes"
        if not line.is_eligible:
            return "may not lead: its leaderEligible is false"
        if member.status is not Status.ALIVE:
            return f"is {member.status}"
        return None

    def _is_in_sync(self, line: Line) -> bool:
        return self.convergence.in_sync(str(line.instance_id)) is True


def _refusal(member: Member | None, instance_id: str) -> Rejected | None:
    """What can be said at once of somebody who cannot lead; the primary knows the rest."""
    if member is None:
        return Rejected("no-successor", f"there is no {instance_id} in this mesh")
    if not member.status.is_online:
        return Rejected("no-successor", f"{instance_id} is {member.status}")
    if not member.leader_eligible:
        return Rejected("no-successor", f"{instance_id} may not lead: its leaderEligible is false")
    return None
