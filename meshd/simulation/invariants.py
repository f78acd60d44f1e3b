"""What must be so whatever goes wrong (design, end of section 12), one small class each.

A hook is called only where a class has its own: `stepped` after every step of a host, `saved` for each record that
comes on disk, `sent` for each frame, `told` for each event that applications see, `acknowledged` for each edit whose
reply was released, `began` and `finished` for the work of agents, `restored` when a host has lost what came on its
disk after a backup, `ended` when everything is healed and has had its quiet time. What they are given is what anybody
may see of a node: its vitals after every step, its snapshot at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TypeAlias

from attrs import define, field

from meshd.core import effects, messages
from meshd.core.ballot import Ballot
from meshd.core.board import Board
from meshd.core.claim import claim_of
from meshd.core.documents import Document, merge
from meshd.core.feature import Feature, FeatureStatus
from meshd.core.messages import Message
from meshd.core.phases import Place
from meshd.core.snapshot import Snapshot, Vitals
from meshd.core.standing import Policy
from meshd.model import Json, Now, Role, Stamp, Status
from meshd.project import claimed_phase
from meshd.simulation.host import Host


class Violation(Exception):  # noqa: N818  it is no error of ours: it is what a run looks for
    """An invariant does not hold. `invariant` is its name."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant
        self.text = text


class Invariant:
    """The hooks, all empty."""

    name = ""

    def stepped(self, host: Host, vitals: Vitals) -> None: ...
    def saved(self, host: Host, record: effects.Record) -> None: ...
    def sent(self, host: Host, message: Message) -> None: ...
    def told(self, host: Host, event: effects.Emit) -> None: ...
    def acknowledged(self, host: Host, written: Document) -> None: ...
    def began(self, host: Host, feature: Feature) -> None: ...
    def finished(self, host: Host, feature: Feature) -> None: ...
    def restored(self, host: Host, hosts: Sequence[Host]) -> None: ...
    def ended(self, snapshots: Sequence[tuple[Host, Snapshot]]) -> None: ...

    def require(self, is_so: bool, text: str) -> None:
        if not is_so:
            raise Violation(self.name, text)


def _recalls(host: Host, term: int) -> bool:
    """Whether a host that was restored knows whom it voted for in a term, if it has."""
    ballot = host.disk.ballot
    return term < ballot.term or (term == ballot.term and ballot.vote is not None)


@define(eq=False)
class OneDecides(Invariant):
    """At most one instance decides in a term; where voters elect, at most one decides at any moment.

    Also among instances of which some were given other peers or times. Without voters it is so among those that were
    given the same peers, of which each has terms of its own.
    """

    name = "I1"
    clock: Callable[[Host], Now]
    _deciders: dict[tuple[tuple[str, ...], int], Host] = field(factory=dict)
    _decides: dict[Host, int] = field(factory=dict)

    def stepped(self, host: Host, vitals: Vitals) -> None:
        term = vitals.decides_in
        if term is None:
            self._decides.pop(host, None)
        elif self._decides.get(host) != term:
            self._begins(host, term, is_elected=vitals.policy == Policy.QUORUM)

    def restored(self, host: Host, hosts: Sequence[Host]) -> None:
        """It may vote again in terms that it has forgotten: a second decider in one of them is no fault."""
        self._deciders = {key: decider for key, decider in self._deciders.items() if _recalls(host, key[1])}

    def _begins(self, host: Host, term: int, *, is_elected: bool) -> None:
        decider = self._deciders.setdefault((() if is_elected else host.configuration.hivemind.peers, term), host)
        self.require(decider is host, f"{decider} and {host} decide in term {term}")
        for other in self._decides if is_elected else ():
            if other is host or other.node is None:
                continue
            theirs = other.node.vitals(self.clock(other))
            is_over = theirs.decides_in is None or theirs.policy != Policy.QUORUM
            self.require(is_over, f"{host} decides in term {term} while {other} still does in {theirs.decides_in}")
        self._decides[host] = term


@define(eq=False)
class NothingLost(Invariant):
    """An acknowledged change is in effect at the end, or was overwritten by a later one.

    A claim is overwritten by what beats it in its own order, which may be older: `merge` knows both orders.
    """

    name = "I4"
    _written: list[tuple[str, Document]] = field(factory=list)
    _ended: dict[str, Document] = field(factory=dict)

    def acknowledged(self, host: Host, written: Document) -> None:
        self._written.append((host.name, written))

    def saved(self, host: Host, record: effects.Record) -> None:
        if isinstance(record, effects.SaveDocument) and record.ended:
            deleted = Document(record.slug, record.life, {}, record.ended)
            self._ended[record.slug] = merge(self._ended.get(record.slug), deleted)

    def restored(self, host: Host, hosts: Sequence[Host]) -> None:
        """What was on this disk alone is lost for good."""
        self._written = [each for each in self._written if self._is_held(each[1], hosts)]

    def _is_held(self, written: Document, hosts: Sequence[Host]) -> bool:
        copies = [host.disk.documents[written.slug] for host in hosts if written.slug in host.disk.documents]
        here = reduce(merge, copies) if copies else self._ended.get(written.slug)
        return here is not None and merge(here, written) is here

    def ended(self, snapshots: Sequence[tuple[Host, Snapshot]]) -> None:
        for host, snapshot in snapshots:
            for writer, written in self._written:
                here = snapshot.documents.get(written.slug) or self._ended.get(written.slug)
                is_kept = here is not None and merge(here, written) is here
                self.require(is_kept, f"{host} does not hold what {writer} acknowledged: {written}")


@define(eq=False)
class Converged(Invariant):
    """When faults stop and traffic ends, everybody holds the same and follows one primary."""

    name = "I5"

    def ended(self, snapshots: Sequence[tuple[Host, Snapshot]]) -> None:
        primaries = [host.name for host, snapshot in snapshots if snapshot.role is Role.PRIMARY]
        self.require(len(primaries) == 1, f"primaries are {primaries}")
        first_host, first = snapshots[0]
        living = _living(first)
        names = {host.name for host, _ in snapshots}
        for host, snapshot in snapshots:
            decides = snapshot.leadership.authoritative
            self.require(decides or snapshot.role is Role.WORKER, f"{host} leads and may not decide")
            self.require(snapshot.primary_id == primaries[0], f"{host} follows {snapshot.primary_id}")
            self.require(snapshot.connected, f"{host} is not connected")
            self.require(snapshot.term == first.term, f"{host} is in term {snapshot.term}, not {first.term}")
            self.require(snapshot.root == first.root, f"the roots of {first_host} and {host} differ")
            self.require(_living(snapshot) == living, f"the documents of {first_host} and {host} differ")
            self.require(not snapshot.queued_changes, f"{host} still queues {snapshot.queued_changes} changes")
            links = len(names) - 1 if snapshot.role is Role.PRIMARY else 1
            self.require(len(host.ways) == links, f"{host} has {len(host.ways)} links, not {links}")
            statuses = {member.instance_id: member.status for member in snapshot.members}
            expected = dict.fromkeys(names - {host.name}, Status.ALIVE)
            self.require(statuses == expected, f"{host} sees {statuses}")
            is_kept = host.is_committing or dict(snapshot.documents) == host.disk.documents
            self.require(is_kept, f"the disk of {host} holds something else")
            self.require(
                snapshot.settings.shared == first.settings.shared, f"the settings of {first_host} and {host} differ"
            )
            codes = [(alert.code, alert.subject) for alert in snapshot.alerts]
            self.require(not codes, f"{host} still has alerts: {codes}")


def _living(snapshot: Snapshot) -> dict[str, Document]:
    return {slug: document for slug, document in snapshot.documents.items() if document.ended is None}


@define(eq=False)
class ToldOnce(Invariant):
    """Events have dense ids; none is told twice, or out of order for its document."""

    name = "I6"
    _stored: dict[str, int] = field(factory=dict)
    _told_ids: dict[str, int] = field(factory=dict)
    _revisions: dict[str, set[tuple[Json, Json]]] = field(factory=dict)
    _last: dict[tuple[str, str], str] = field(factory=dict)

    def saved(self, host: Host, record: effects.Record) -> None:
        if not isinstance(record, effects.SaveEvent):
            return
        event, before = record.event, self._stored.get(host.name, 0)
        self.require(event.id == before + 1, f"{host} stores event {event.id} after {before}")
        self._stored[host.name] = event.id
        if event.type.startswith("project:"):
            slug, revision = event.payload.get("projectSlug"), event.payload.get("revision")
            seen = self._revisions.setdefault(host.name, set())
            self.require((slug, revision) not in seen, f"{host} tells {event.type} of {slug} twice: {revision}")
            seen.add((slug, revision))
            was = self._last.get((host.name, str(slug)), "project:deleted")
            is_birth = event.type == "project:created"
            self.require(is_birth == (was == "project:deleted"), f"{host} tells {event.type} of {slug} after {was}")
            self._last[host.name, str(slug)] = event.type

    def restored(self, host: Host, hosts: Sequence[Host]) -> None:
        """It goes on from what its disk holds, and tells again what it has forgotten."""
        events, documents = host.disk.events, host.disk.documents.values()
        self._stored[host.name] = self._told_ids[host.name] = max(events, default=0)
        living = {document.slug: document.digest for document in documents if document.ended is None}
        self._revisions[host.name] = set(living.items())
        for name, slug in list(self._last):
            if name == host.name:
                self._last[name, slug] = "project:updated" if slug in living else "project:deleted"

    def told(self, host: Host, event: effects.Emit) -> None:
        before = self._told_ids.get(host.name, 0)
        self.require(before < event.id <= self._stored.get(host.name, 0), f"{host} tells event {event.id} too early")
        self._told_ids[host.name] = event.id

    def ended(self, snapshots: Sequence[tuple[Host, Snapshot]]) -> None:
        for host, snapshot in snapshots:
            for slug, document in _living(snapshot).items():
                is_told = slug.startswith("@") or (slug, document.digest) in self._revisions.get(host.name, set())
                self.require(is_told, f"{host} never told what became of {slug}")


@define(eq=False)
class TermsGoOn(Invariant):
    """A term never goes back; a vote is cast once per term, and only after both are on disk."""

    name = "I7"
    _votes: dict[tuple[str, int], str] = field(factory=dict)

    def saved(self, host: Host, record: effects.Record) -> None:
        if isinstance(record, effects.SaveBallot):
            before, after = host.disk.ballot, record.ballot
            self.require(after.term >= before.term, f"{host} goes back from term {before.term} to {after.term}")
            if after.vote is not None:
                self._vote(host, after)

    def _vote(self, host: Host, ballot: Ballot) -> None:
        assert ballot.vote is not None
        cast = self._votes.setdefault((host.name, ballot.term), ballot.vote)
        self.require(cast == ballot.vote, f"{host} votes for {cast} and for {ballot.vote} in one term, {ballot.term}")

    def restored(self, host: Host, hosts: Sequence[Host]) -> None:
        """Of what it voted since the backup it knows nothing."""
        self._votes = {key: vote for key, vote in self._votes.items() if key[0] != host.name or _recalls(host, key[1])}

    def sent(self, host: Host, message: Message) -> None:
        term = getattr(message, "term", 0)
        if not term:
            return
        ballot = host.disk.ballot
        match message:
            case messages.VoteRequest(pre=True) | messages.Vote(pre=True):
                return
            case messages.Vote(granted=True):
                is_stored = ballot.term >= term and (ballot.term > term or ballot.vote is not None)
                self.require(is_stored, f"{host} votes in term {term}, and its disk says {ballot}")
        self.require(term <= ballot.term, f"{host} says term {term}, and its disk says {ballot.term}")


@define(eq=False)
class Bounded(Invariant):
    """Every queue and table stays within its bound."""

    name = "I9"
    nodes: int = 9

    def stepped(self, host: Host, vitals: Vitals) -> None:
        most = host.configuration.outbox.max_changes
        if vitals.queued_edits > most:
            raise Violation(self.name, f"the outbox of {host} holds more than {most} changes")
        if vitals.members >= self.nodes:
            raise Violation(self.name, f"{host} knows {vitals.members} members, more than there are")
        if vitals.links > 8 * self.nodes:
            raise Violation(self.name, f"{host} holds {vitals.links} links")
        if vitals.alerts > 8 * self.nodes:
            raise Violation(self.name, f"{host} has {vitals.alerts} alerts")


@define(eq=False)
class DrainedIsOffline(Invariant):
    """Who drained is offline everywhere within a round trip (`simulation` asks when nothing is wrong)."""

    name = "I10"

    def drained(self, gone: Host, snapshots: Sequence[tuple[Host, Snapshot]]) -> None:
        """`snapshots` are those of the others, a round trip after the goodbye."""
        for host, snapshot in snapshots:
            statuses = {member.instance_id: member.status for member in snapshot.members}
            self.require(statuses.get(gone.name) is Status.LEFT, f"{host} sees {gone} as {statuses.get(gone.name)}")


SECRET = "value-that-stays-here"


@define(eq=False)
class NothingPrivate(Invariant):
    """No feature ever crosses a link, and no credential; what was set for one host alone neither."""

    name = "I11"

    def sent(self, host: Host, message: Message) -> None:
        match message:
            case messages.FeatureEvent(event_type=kind):
                self.require(not kind.startswith("feature:"), f"{host} sends {kind}")
            case messages.SettingsEvent(settings=settings):
                self.require(SECRET not in repr(settings), f"{host} sends what belongs to one host: {settings}")


_Worked: TypeAlias = tuple[Stamp, Place]
"""A phase in one life of its project."""


@define(eq=False)
class WorkedOnOnce(Invariant):
    """No two agents work on one phase at a time (I2); none works on what is done, unless it was reclaimed (I3).

    Where voters elect and nobody goes on alone. A phase of a project that was created again, or that was added again,
    is another one.
    """

    name = "I2"
    is_promised: bool = True
    _phases: dict[str, _Worked] = field(factory=dict)
    _working: dict[_Worked, Host] = field(factory=dict)
    _begun: dict[_Worked, int] = field(factory=dict)
    _done: dict[_Worked, tuple[Host, int]] = field(factory=dict)

    def stepped(self, host: Host, vitals: Vitals) -> None:
        if vitals.policy is not Policy.QUORUM:  # it was started with other peers, and needs nobody's vote
            self.is_promised = False

    def began(self, host: Host, feature: Feature) -> None:
        if not self.is_promised:
            return
        document = host.disk.documents[feature.slug]
        phase = self._phases[feature.claim] = (document.life, feature.place)
        other = self._working.setdefault(phase, host)
        self.require(other is host, f"{host} begins with {'/'.join(feature.place)}, on which {other} still works")
        last = self._begun.get(phase, 0)
        if feature.generation <= last:
            text = f"{host} begins with generation {feature.generation} of {'/'.join(feature.place)}, after {last}"
            raise Violation("I3", text)
        self._begun[phase] = feature.generation
        if phase in self._done:
            finisher, done = self._done[phase]
            text = f"{host} begins with {'/'.join(feature.place)}, which {finisher} did in generation {done}"
            raise Violation("I3", text)

    def finished(self, host: Host, feature: Feature) -> None:
        phase = self._phases.get(feature.claim)
        if phase and self._working.get(phase) is host:
            del self._working[phase]

    def saved(self, host: Host, record: effects.Record) -> None:
        match record:
            case effects.SaveFeature(Feature(status=FeatureStatus.DONE) as feature) if feature.claim in self._phases:
                phase = self._phases[feature.claim]
                if self._begun.get(phase) == feature.generation:
                    self._done[phase] = (host, feature.generation)
            case effects.SaveDocument(slug, life, _, registers):
                for path, register in registers.items():
                    place, claim = claimed_phase(path), claim_of(register.value)
                    if place and claim and not claim.id:
                        self._added_again((life, (slug, *place)))

    def _added_again(self, phase: _Worked) -> None:
        for known in (self._begun, self._done, self._working):
            known.pop(phase, None)

    def told(self, host: Host, event: effects.Emit) -> None:
        if event.type == "claim:reclaimed" and "was not heard" in str(event.payload["reason"]):
            for phase in [phase for phase in self._done if phase[1] == _place(event)]:
                del self._done[phase]


def _place(event: effects.Emit) -> Place:
    """The phase that an event is about."""
    told = event.payload
    return str(told["projectSlug"]), str(told["milestoneSlug"]), str(told["phaseSlug"])


@define(eq=False)
class LiveHolderKeeps(Invariant):
    """A claim is never taken back from who works on it; in the end everybody knows the claims that stand."""

    name = "I8"
    is_promised: bool = True
    _working: dict[tuple[Place, int], Host] = field(factory=dict)

    def stepped(self, host: Host, vitals: Vitals) -> None:
        if vitals.policy is not Policy.QUORUM:
            self.is_promised = False

    def began(self, host: Host, feature: Feature) -> None:
        self._working[feature.place, feature.generation] = host

    def finished(self, host: Host, feature: Feature) -> None:
        self._working.pop((feature.place, feature.generation), None)

    def told(self, host: Host, event: effects.Emit) -> None:
        if event.type == "claim:reclaimed" and self.is_promised:
            place = _place(event)
            holder = self._working.get((place, int(str(event.payload["generation"]))))
            self.require(holder is None, f"{host} takes {'/'.join(place)} from {holder}, which works on it")

    def ended(self, snapshots: Sequence[tuple[Host, Snapshot]]) -> None:
        held = {(host.name, view.claim) for host, snapshot in snapshots for view in snapshot.work.held}
        running = {host.name for host, _ in snapshots}
        for host, snapshot in snapshots:
            board = Board()
            for document in snapshot.documents.values():
                board.update(document, document.slug)
            for project in board.projects():
                for claim, place in ((phase.claim, phase.place) for phase in project.phases()):
                    if claim and claim.is_live and claim.holder in running:
                        text = f"{host} sees {'/'.join(place)} held by {claim.holder}, which does not know of it"
                        self.require((claim.holder, claim.id) in held, text)


def all_invariants(nodes: int, clock: Callable[[Host], Now], *, is_exclusive: bool) -> list[Invariant]:
    """A fresh set for one run with so many nodes; `clock` is what a host's clocks show.

    `is_exclusive`: whether the configuration promises that no two hosts work on one phase.
    """
    return [
        OneDecides(clock),
        Converged(),
        NothingLost(),
        ToldOnce(),
        TermsGoOn(),
        Bounded(nodes),
        DrainedIsOffline(),
        NothingPrivate(),
        WorkedOnOnce(is_exclusive),
        LiveHolderKeeps(is_exclusive),
    ]
