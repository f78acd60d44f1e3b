"""One instance's whole protocol: inputs in, effects out, no I/O.

Rules:

- `step` is total and deterministic: every input has an answer, the same state and input give the same effects.
- The node routes; the modules decide: `handshake` who may stay on a link, `membership` who is there, `election` who
  leads, `replication` what the documents are. The node alone knows several of them at once.
- Effects come in the order in which they have to happen: persist, then send, then tell.

The way of an input: `step` -> one method here -> one module -> effects.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from types import MappingProxyType

from attrs import evolve

from meshd.configuration import Configuration
from meshd.core import inputs, messages
from meshd.core.complaints import Complaints
from meshd.core.effects import (
    Alarm,
    Broadcast,
    Effect,
    HangUp,
    Level,
    Note,
    Reply,
    Send,
)
from meshd.core.election import Leadership
from meshd.core.events import Events
from meshd.core.handshake import GOING_AWAY, NOT_ALLOWED, PROTOCOL_ERROR, SUPERSEDED, Handshake, Line, Refusal
from meshd.core.membership import Membership
from meshd.core.messages import UtcMs
from meshd.core.originals import Originals
from meshd.core.portrait import Birth, Portrait
from meshd.core.replication import Replication
from meshd.core.settings import Settings
from meshd.core.snapshot import Snapshot, Vitals
from meshd.core.stored import Stored
from meshd.core.succession import Succession
from meshd.core.upkeep import Upkeep
from meshd.core.work import Work
from meshd.model import Dialect, Now, Role, Status


class Node:
    """An instance, from its configuration and what its disk holds."""

    def __init__(self, configuration: Configuration, birth: Birth, stored: Stored) -> None:
        own_id = configuration.protolab.instance_id
        self._configuration = configuration
        self._birth = birth
        self._enabled = configuration.mesh_enabled
        self._handshake = Handshake(configuration, birth.boot)
        self._leadership = Leadership.restored(configuration, self._handshake, stored)
        self._membership = Membership(own_id, configuration.hivemind.peer_ttl_ms)
        self._replication = Replication.restored(
            own_id,
            stored,
            spare_store_id=birth.boot[:8],
            max_outbox=configuration.outbox.max_changes,
            is_hub=not self._enabled,
        )
        self._events = Events.restored(stored, str(configuration.repo_root))
        self._settings = Settings.restored(configuration, self._leadership, stored)
        self._upkeep = Upkeep.restored(
            configuration, self._handshake, self._membership, self._leadership, self._replication, stored
        )
        self._succession = Succession(self._leadership, self._handshake, self._membership, self._upkeep.convergence)
        self._work = Work.restored(self._upkeep, self._settings, birth.boot, stored)
        self._is_leaving = False
        self._alarm_s = inf
        self._shares_file = False
        self._portrait = Portrait(
            configuration,
            birth,
            self._handshake,
            self._membership,
            self._leadership,
            self._replication,
            self._settings,
            self._upkeep,
            self._work,
        )
        self._complaints = Complaints()
        self._originals = Originals(configuration, self._handshake, self._replication, self._complaints)

    def step(self, happened: inputs.Input, now: Now) -> list[Effect]:
        """What to do about `happened`, in order."""
        before = self._course
        self._replication.news.clear()
        effects = list(self._awake(now))
        effects += self._route(happened, now)
        effects += self._take_course(before, now)
        effects += self._work.stepped(now)
        effects += self._tell_presence(now)
        effects += self._upkeep.stepped(now)
        effects += self._set_alarm(now)
        effects.sort(key=lambda effect: isinstance(effect, Reply))  # who waits is answered last
        return list(self._events.numbered(effects, now))

    def _route(self, happened: inputs.Input, now: Now) -> Iterator[Effect]:
        match happened:
            case inputs.Received(link, message):
                yield from self._received(link, message, now)
            case inputs.LinkUp() | inputs.LinkDown() | inputs.DialFailed() | inputs.LatencyMeasured():
                yield from self._of_link(happened, now)
            case inputs.Started():
                yield from self._started(now)
            case inputs.DrainRequested(reason):
                yield from self._drain(reason, now)
            case inputs.IntakeDue():
                yield from self._work.intake_due(now)
            case inputs.WorkWanted(count):
                self._work.wanted(count, now)
            case inputs.WorkEnded():
                yield from self._work.ended(happened, now)
            case inputs.AlertRaised() | inputs.AlertCleared():
                yield from self._upkeep.engine_alert(happened, now)
            case inputs.AlarmDue() | inputs.HeartbeatDue() | inputs.TtlDue() | inputs.CompactionDue():
                yield from self._due(happened, now)
            case _:
                yield from self._command(happened, now)

    def _of_link(self, happened: inputs.LinkInput, now: Now) -> Iterator[Effect]:
        match happened:
            case inputs.LinkUp(link, address, url):
                yield from self._link_up(link, address, url, now)
            case inputs.LinkDown(link, code, reason):
                yield from self._link_down(link, code, reason, now)
            case inputs.DialFailed(url, reason):
                yield from self._complaints.once("unreachable", url, f"cannot reach {url}: {reason}")
                yield from self._leadership.dial_failed(url, now)
            case inputs.LatencyMeasured(link, latency_ms):
                if (line := self._handshake.lines.get(link)) and line.instance_id:
                    self._membership.contact(line.instance_id, now)
                    self._membership.measured(line.instance_id, latency_ms)

    def _due(self, timer: inputs.Timer, now: Now) -> Iterator[Effect]:
        match timer:
            case inputs.AlarmDue():
                self._alarm_s = inf
                yield from self._leadership.tick(now)
                yield from self._work.tick(now)
            case inputs.HeartbeatDue(capacity):
                self._portrait.sampled = capacity
                yield from self._beat(now)
            case inputs.TtlDue():
                yield from self._membership.check_ttl(now)
                yield from self._hang_up_silent(now)
                yield from self._leadership.check(now)
                yield from self._succession.check(now)
                yield from self._upkeep.check(now)
                yield from self._work.check(now)
            case inputs.CompactionDue():
                yield from self._upkeep.compaction.run(now)

    def _command(self, command: inputs.Request, now: Now) -> Iterator[Effect]:
        match command:
            case inputs.PutProject() | inputs.PatchProject() | inputs.DeleteProject() | inputs.TakeConflict():
                yield from self._replication.command(command, self._handshake.links(Dialect.NATIVE), now)
            case inputs.PutSettings() | inputs.PatchSettings():
                yield from self._settings.command(command, self._handshake.links(), now)
            case inputs.PromoteInstance() | inputs.StepDown():
                yield from self._succession.command(command, now)
            case inputs.AcknowledgeCompaction():
                yield from self._upkeep.acknowledge(command)
            case _:
                yield from self._work.command(command, now)

    # Leadership

    @property
    def _course(self) -> tuple[int | None, tuple[int, int | None] | None]:
        """Who leads, as far as documents and settings care: ourselves in this term, or who is at this link in that."""
        link = self._leadership.primary_link
        return self._leadership.leads, None if link is None else (link, self._handshake.lines[link].leads)

    def _take_course(self, before: tuple[int | None, tuple[int, int | None] | None], now: Now) -> Iterator[Effect]:
        """What follows for everything else when another leads than before the step."""
        if self._course == before:
            return
        (led, followed), (leads, follows) = before, self._course
        if leads is not None:
            yield from self._replication.lead(leads)
        elif led is not None:
            self._replication.follow()
        if leads != led:
            yield from self._work.took_course(now)
        link = self._leadership.primary_link
        if follows != followed:  # also the same one in another term: between the two it acknowledged nothing
            yield from self._follow(link, now)
        if link is not None or leads is not None:
            yield from self._share_file(now)
            others = self._handshake.greeted(but=link if led is None else None)
            yield Broadcast(others, self._portrait.promote(now) if leads else self._portrait.identity(now))
        if leads is not None:
            for link in self._handshake.links():
                yield from self._welcome(link, now)

    def _follow(self, link: int | None, now: Now) -> Iterator[Effect]:
        self._replication.detach()
        if link is None:
            return
        if self._handshake.lines[link].dialect is Dialect.NATIVE:
            self._replication.term = self._leadership.term
            yield from self._replication.attach(link)
        else:  # an original primary sends no presence
            yield from self._recovered(now)

    def _share_file(self, now: Now) -> Iterator[Effect]:
        """What the configuration shares, once it is decided whether we lead."""
        if not self._shares_file:
            self._shares_file = True
            yield from self._settings.begin(now)

    def _awake(self, now: Now) -> Iterator[Effect]:
        """The host slept, or our loop stalled: what we did not hear in that time was not silence."""
        if late_s := self._membership.deaf_s(now):
            yield Note(Level.WARNING, f"this instance was deaf for {late_s:.1f} s: the host slept, or was overloaded")
            self._membership.forgive(late_s, now)
            yield from self._leadership.forgive(late_s, now)

    def _set_alarm(self, now: Now) -> Iterator[Effect]:
        due_s = min(self._leadership.due_s(now), self._work.due_s())
        if due_s < self._alarm_s:
            self._alarm_s = due_s
            yield Alarm(max(due_s, now.mono_s))

    # Links

    def _started(self, now: Now) -> Iterator[Effect]:
        if self._enabled:
            yield from self._leadership.begin(now)
        if not self._enabled or self._configuration.protolab.role is Role.WORKER:
            yield from self._share_file(now)
        yield from self._work.begin(now)

    def _link_up(self, link: int, address: str, url: str | None, now: Now) -> Iterator[Effect]:
        self._handshake.opened(link, address, url, now)
        if url:
            self._leadership.dialling.linked(link, url)
        if self._is_leaving:
            yield from self._hang_up(link, GOING_AWAY, "draining")
        else:
            yield Send(link, self._portrait.identity(now))

    def _link_down(self, link: int, code: int, reason: str, now: Now) -> Iterator[Effect]:
        line = self._handshake.closed(link)
        if line is None:
            return
        self._work.link_down(link)
        leadership = self._leadership  # a primary that has not taken us in may refuse us, again and again
        carries_life = leadership.is_primary or (link == leadership.primary_link and leadership.contact.is_taken_in)
        if line.instance_id and carries_life and not self._handshake.of(line.instance_id) and not self._is_leaving:
            yield Note(Level.INFO, f"link to {line.peer} closed with {code} {reason}".rstrip(), {"peer": line.peer})
            yield from self._membership.link_lost(line.instance_id)
        yield from self._leadership.link_closed(line, now)

    def _hang_up(self, link: int, code: int, reason: str) -> Iterator[Effect]:
        """Close a link from our side: its `LinkDown` still comes."""
        self._handshake.closes(link)
        yield Send(link, messages.Refuse(code, reason))
        yield HangUp(link, code, reason)

    def _hang_up_silent(self, now: Now) -> Iterator[Effect]:
        for line in self._handshake.silent(now):
            yield from self._complaints.once("silent", line.peer, f"{line.peer} connected and did not say who it is")
            yield from self._hang_up(line.link, PROTOCOL_ERROR, "no identity")

    # Messages

    def _received(self, link: int, message: messages.Message, now: Now) -> Iterator[Effect]:
        line = self._handshake.lines.get(link)
        if line is None or (line.closing and not isinstance(message, messages.Goodbye)):
            self._complaints.count("after-close")
            return
        if line.instance_id:
            self._membership.contact(line.instance_id, now)
            self._leadership.heard(link, now)
        match message:
            case messages.Identity():
                yield from self._introduced(line, message, now)
            case messages.Malformed(reason):
                yield from self._malformed(line, reason)
            case messages.Ignored(kind):
                self._complaints.count("unknown-type")
                yield Note(Level.DEBUG, f"ignored a message of type {kind:.40} from {line.peer}", {"peer": line.peer})
            case messages.Refuse(code, reason):
                text = f"{line.peer} refused us with {code}: {reason}"
                yield from self._complaints.once("refused-us", line.peer, text)
                yield from self._upkeep.refused_us(line, message, now)
            case messages.FeatureEvent() if line.instance_id or self._originals.may_come_first:
                self._upkeep.received(line, message, now)
                yield from self._originals.received(message, now)
            case _ if line.instance_id is None:
                self._complaints.count("before-identity")
            case messages.Heartbeat():
                yield from self._heard_beat(line, message, now)
            case messages.Goodbye():
                yield from self._heard_goodbye(line, message, now)
            case messages.Presence():
                yield from self._heard_presence(line, message, now)
            case messages.SettingsEvent():
                yield from self._heard_settings(line, message, now)
            case _:
                yield from self._received_of_documents(line, message, now)

    def _received_of_documents(self, line: Line, message: messages.Message, now: Now) -> Iterator[Effect]:
        link, replication = line.link, self._replication
        relay = self._handshake.links(Dialect.NATIVE, but=link)
        match message:
            case messages.Changes():
                self._upkeep.received(line, message, now)
                yield from replication.changes(link, message, relay, now)
            case messages.Ack():
                yield from replication.acknowledged(message)
            case messages.Digest():
                yield from replication.compare(link, message)
                if message.answer and link == self._leadership.primary_link:
                    yield from self._work.compared(link, now)
            case messages.Documents():
                self._upkeep.received(line, message, now)
                yield from replication.states(message, relay)
            case messages.Conflicts():
                yield from replication.hear_conflicts(message, relay)
            case _:
                yield from self._received_of_leadership(line, message, now)

    def _received_of_leadership(self, line: Line, message: messages.Message, now: Now) -> Iterator[Effect]:
        match message:
            case messages.Promote():
                yield from self._leadership.promoted(line, message, now)
                yield from self._upkeep.told_who_leads(self._handshake.lines[line.link], now)
            case messages.VoteRequest():
                yield from self._leadership.asked(line, message, now)
            case messages.Vote():
                yield from self._leadership.voted(line, message, now)
            case messages.YouGo():
                yield from self._leadership.told_to_go(now)
            case messages.HandOver():
                yield from self._succession.handed_over(line, message, now)
            case messages.Nominate():
                yield from self._succession.nominated(line, message, now)
            case _:
                yield from self._work.received(line, message, now)

    def _malformed(self, line: Line, reason: str) -> Iterator[Effect]:
        self._complaints.count("malformed")
        yield from self._complaints.once(
            "malformed", line.peer, f"{line.peer} sent a frame that is no message: {reason}"
        )
        if self._handshake.offended(line):
            yield from self._hang_up(line.link, PROTOCOL_ERROR, f"frames that are no messages, the last: {reason:.60}")

    def _introduced(self, line: Line, identity: messages.Identity, now: Now) -> Iterator[Effect]:
        member = self._membership.members.get(identity.instance_id)
        is_online = member is not None and member.status.is_online
        refusal = self._handshake.judge(line, identity, now, is_online=is_online)
        if refusal is None and not self._membership.has_room_for(identity.instance_id):
            refusal = Refusal(NOT_ALLOWED, "there are too many members already")
        if refusal:
            peer = identity.instance_id
            yield from self._complaints.once("refused", peer, f"refused {peer} from {line.address}: {refusal.reason}")
            yield from self._hang_up(line.link, refusal.code, refusal.reason)
            yield from self._upkeep.refused(identity, refusal, now)
            return
        is_new = line.instance_id is None
        for older in self._handshake.accept(line, identity):
            yield from self._hang_up(older.link, SUPERSEDED, "a newer link of the same instance")
        yield from self._membership.introduced(identity, now)
        yield from self._upkeep.introduced(identity, now)
        was_primary = self._leadership.is_primary
        yield from self._leadership.introduced(self._handshake.lines[line.link], identity, now)
        yield from self._upkeep.told_who_leads(self._handshake.lines[line.link], now)
        if is_new and was_primary and self._leadership.is_primary:
            yield from self._welcome(line.link, now)

    def _welcome(self, link: int, now: Now) -> Iterator[Effect]:
        """A primary tells a new worker about everybody at once, and what settings all share."""
        if self._handshake.lines[link].dialect is Dialect.NATIVE:
            yield Send(link, self._portrait.presence(now, full=True))
        yield from self._settings.welcome(self._handshake.lines[link], now)

    def _recovered(self, now: Now) -> Iterator[Effect]:
        partition = yield from self._leadership.taken_in(now)
        queued, held = len(self._replication.outbox), len(self._work.holding.held)
        if partition and (queued or not partition.is_brief(self._configuration.hivemind)):
            yield from partition.told(self._own_id, replayed=queued, audited=held)

    def _heard_settings(self, line: Line, event: messages.SettingsEvent, now: Now) -> Iterator[Effect]:
        if objection := self._settings.objection(line, event):
            reason, text = objection
            self._complaints.count(reason)
            yield from self._complaints.once(reason, line.peer, text)
        else:
            yield from self._settings.heard(line, event, self._handshake.links(but=line.link), now)

    # Membership

    def _heard_beat(self, line: Line, heartbeat: messages.Heartbeat, now: Now) -> Iterator[Effect]:
        if heartbeat.instance_id == line.instance_id:
            yield from self._membership.beat(heartbeat, now)
            yield from self._leadership.heard_beat(line, heartbeat, now)
            yield from self._upkeep.heard_root(line, heartbeat.root, now)
            yield from self._work.heard_beat(line, heartbeat, now)

    def _heard_goodbye(self, line: Line, goodbye: messages.Goodbye, now: Now) -> Iterator[Effect]:
        if goodbye.instance_id != line.instance_id and line.link != self._leadership.primary_link:
            self._complaints.count("goodbye-of-another")
            return
        yield from self._membership.left(goodbye)
        yield from self._leadership.heard_goodbye(line, goodbye, now)
        if self._leadership.is_primary:
            yield Broadcast(self._handshake.links(but=line.link), goodbye)

    def _heard_presence(self, line: Line, presence: messages.Presence, now: Now) -> Iterator[Effect]:
        if line.link != self._leadership.primary_link:
            self._complaints.count("presence-of-no-primary")
            return
        is_first = not self._leadership.contact.is_taken_in
        self._leadership.heard_presence(line, presence.seq, now)
        yield from self._recovered(now)
        if is_first:  # it counts on us once we say so
            yield Send(line.link, self._portrait.heartbeat(self._status, now))
        for row in presence.members:
            if row.instance_id != self._own_id and not self._handshake.is_linked(row.instance_id):
                yield from self._membership.reported(row, now)
        yield from self._upkeep.heard_presence(line, presence, now)

    def _beat(self, now: Now) -> Iterator[Effect]:
        if not self._enabled:
            return
        beat = self._portrait.heartbeat(self._status, now)
        followed = self._leadership.primary_link
        yield Broadcast(self._handshake.links(but=followed), evolve(beat, heard=None))
        if followed is not None:  # what we heard of our primary is nobody else's to count
            yield Send(followed, beat)
        if self._leadership.is_primary:
            yield Broadcast(self._handshake.links(Dialect.NATIVE), self._portrait.presence(now, full=False))
            self._membership.changed.clear()

    def _tell_presence(self, now: Now) -> Iterator[Effect]:
        """A primary tells a change of somebody's status at once."""
        if self._leadership.is_primary and self._membership.turned:
            yield Broadcast(self._handshake.links(Dialect.NATIVE), self._portrait.presence(now, full=False))
            self._membership.changed.clear()
        self._membership.turned.clear()

    def _drain(self, reason: str, now: Now) -> Iterator[Effect]:
        if self._is_leaving:
            return
        self._is_leaving = True
        yield from self._work.leave(now)
        successor = self._succession.successor() if self._leadership.is_primary else None
        self._leadership.leave()
        yield Note(Level.INFO, f"draining: {reason}")
        goodbye = messages.Goodbye(
            self._own_id,
            UtcMs(now.utc_ms),
            reason=reason,
            successor=successor.instance_id if successor else None,
            boot=self._birth.boot,
        )
        yield Broadcast(self._handshake.links(), goodbye)
        for link in list(self._handshake.lines):
            self._handshake.closes(link)
            yield HangUp(link, GOING_AWAY, "draining")

    def snapshot(self, now: Now) -> Snapshot:
        """One frozen picture for the API, the CLI and the dashboard."""
        return self._portrait.snapshot(self._status, MappingProxyType(dict(self._complaints.dropped)), now)

    def vitals(self, now: Now) -> Vitals:
        """What of it may be looked at after every step."""
        return self._portrait.vitals(now)

    @property
    def _status(self) -> Status:
        return Status.DRAINING if self._is_leaving or self._work.is_draining else Status.ALIVE

    @property
    def _own_id(self) -> str:
        return self._configuration.protolab.instance_id
