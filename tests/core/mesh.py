"""A whole mesh of real nodes in one thread and virtual time: no trio, no disk, no chance of its own.

- A frame waits in its pipe until `settle` or `advance` lets it arrive; a pipe keeps the order of its frames. `choose`
  says which pipe goes on when several could.
- A host has at most one dial under way to a URL, as with the real connections.
- A disk takes what its node asked to persist, at once. `power_cut` ends a step before or after that, before anything
  was sent. A crash loses what was on the way.
- Every answer of every node is checked: what has to be durable stands before whatever tells of it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from attrs import define, evolve, field, frozen

from meshd.configuration import Compaction, Configuration, Hivemind, Outbox, Protolab
from meshd.core import effects, inputs, messages
from meshd.core.documents import Document
from meshd.core.effects import Accepted, Effect, Emit, Rejected
from meshd.core.kept import Kept
from meshd.core.membership import ttl_check_interval_s
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.core.snapshot import Snapshot
from meshd.model import Capacity, Json, JsonObject, Now, Role, Status

EPOCH_MS = 1_800_000_000_000
ABNORMAL = 1006
SPINNING = 100  # timers that fire at one moment: more than any mesh here has


def url_of(instance_id: str) -> str:
    return f"ws://{instance_id}:4444"


def configuration(
    instance_id: str,
    *,
    role: Role = Role.WORKER,
    peers: Sequence[str] = ("dev-01", "dev-02", "dev-03"),
    enabled: bool = True,
    max_changes: int = 100_000,
    tombstone_retention_ms: int = 604_800_000,
) -> Configuration:
    """The configuration of one instance, with the specification's defaults; `peers` are instance ids."""
    return Configuration(
        name="protoMaker",
        protolab=Protolab(enabled=enabled, role=role, instance_id=instance_id, instance_url=url_of(instance_id)),
        hivemind=Hivemind(enabled=enabled, peers=tuple(map(url_of, peers))),
        outbox=Outbox(max_changes=max_changes),
        compaction=Compaction(tombstone_retention_ms=tombstone_retention_ms),
    )


class Disk(Kept):
    """What a node asked to persist, as a later life of it finds it; refuses what no node may ask for."""

    def write(self, record: effects.Record) -> None:
        match record:
            case effects.ForgetDocument(slug):
                assert slug in self.documents, "only what is there can be forgotten"
            case effects.SaveEvent(event):
                assert event.id == max(self.events, default=0) + 1, "ids are dense"
            case effects.SaveBallot(ballot):
                assert ballot.term >= self.ballot.term, "a term never goes back"
        self.apply(record)


@define(eq=False)
class Pipe:
    """A link between two hosts: each end has its own number for it, and its own frames on the way."""

    ends: tuple[Host, Host]
    numbers: tuple[int, int]
    arriving: tuple[deque[messages.Message], deque[messages.Message]] = field(factory=lambda: (deque(), deque()))
    closing: tuple[int, str] | None = None
    swallows: bool = False

    def other(self, host: Host) -> int:
        return 1 if self.ends[0] is host else 0


@define(eq=False)
class Host:
    """A machine: its configuration and disk outlive its node. `node` is None while it is down.

    `told` are the events that applications saw, `notes` the log, `replies` the answers to commands, all since ever.
    """

    configuration: Configuration
    disk: Disk
    node: Node | None = None
    boots: int = 0
    wall_shift_ms: int = 0
    links: int = 0
    pipes: dict[int, Pipe] = field(factory=dict)
    told: list[Emit] = field(factory=list)
    notes: list[effects.Note] = field(factory=list)
    replies: list[Accepted | Rejected] = field(factory=list)
    dialled: list[tuple[float, str]] = field(factory=list)
    files: dict[str, Document] = field(factory=dict)
    power_cut: str | None = None

    @property
    def name(self) -> str:
        return self.configuration.protolab.instance_id

    def events(self, kind: str) -> list[JsonObject]:
        return [event.payload for event in self.told if event.type == kind]


@frozen(order=True)
class _Due:
    """Something the clock will do: a dial, or a ticker or the alarm of one boot of a host."""

    at_s: float
    number: int
    host: Host = field(order=False)
    boot: int = field(order=False)
    what: str = field(order=False)
    every_s: float = field(order=False, default=0.0)


Choose = Callable[[int], int]
"""Which of so many; the mesh's only source of variety."""


@define(eq=False)
class Mesh:
    """Hosts, the pipes between them and the time."""

    hosts: dict[str, Host] = field(factory=dict)
    mono_s: float = 1000.0
    choose: Choose = lambda _: 0
    carry: Callable[[messages.Message], messages.Message] = lambda message: message
    cut: set[frozenset[str]] = field(factory=set)
    _due: list[_Due] = field(factory=list)
    _numbers: int = 0

    def add(self, what: Configuration, store_id: str = "s1") -> Host:
        """A host that is not running."""
        host = self.hosts[what.protolab.instance_id] = Host(what, Disk(store_id))
        return host

    def now(self, host: Host) -> Now:
        return Now(self.mono_s, EPOCH_MS + round(self.mono_s * 1000) + host.wall_shift_ms)

    # A host's life

    def start(self, host: Host) -> None:
        host.boots += 1
        host.files = dict(host.disk.documents)  # the workspace is brought up to date before anything else
        host.node = Node(host.configuration, Birth(f"{host.name}-boot{host.boots}", "1.0"), host.disk.stored())
        self.step(host, inputs.Started())
        self._every(host, "compaction", host.configuration.compaction.interval_ms / 1000)
        if host.configuration.mesh_enabled:
            hivemind = host.configuration.hivemind
            self._every(host, "heartbeat", hivemind.heartbeat_interval_ms / 1000)
            self._every(host, "ttl", ttl_check_interval_s(hivemind.peer_ttl_ms))

    def crash(self, host: Host) -> None:
        """It is gone, and with it every frame on the way to or from it."""
        host.node = None
        for pipe in list(host.pipes.values()):
            pipe.arriving[0].clear()
            pipe.arriving[1].clear()
            self._end(pipe, ABNORMAL, "connection reset")

    def drain(self, host: Host) -> None:
        """SIGTERM: goodbye, flushed links, and then nothing."""
        self.step(host, inputs.DrainRequested("SIGTERM received"))
        self.settle()
        host.node = None

    def put(self, host: Host, slug: str, document: JsonObject) -> Accepted | Rejected:
        return self.command(host, inputs.PutProject(1, slug, document))

    def patch(self, host: Host, slug: str, patch: Json) -> Accepted | Rejected:
        return self.command(host, inputs.PatchProject(1, slug, patch))

    def delete(self, host: Host, slug: str) -> Accepted | Rejected:
        return self.command(host, inputs.DeleteProject(1, slug))

    def command(self, host: Host, command: inputs.Command) -> Accepted | Rejected:
        """An edit on a host; the answer it gave."""
        self.step(host, command)
        return host.replies[-1]

    def document(self, host: Host, slug: str) -> JsonObject | None:
        document = self.snapshot(host).documents.get(slug)
        return document.json() if document and document.ended is None else None

    def snapshot(self, host: Host) -> Snapshot:
        assert host.node is not None
        return host.node.snapshot(self.now(host))

    def statuses(self, host: Host) -> dict[str, Status]:
        return {member.instance_id: member.status for member in self.snapshot(host).members}

    # The network

    def part(self, one: Host, other: Host) -> None:
        """No way between two hosts: links break, dials fail, until `join`."""
        self.cut.add(frozenset((one.name, other.name)))
        for pipe in [pipe for pipe in one.pipes.values() if other in pipe.ends]:
            self._end(pipe, ABNORMAL, "connection reset")

    def join(self, one: Host, other: Host) -> None:
        self.cut.discard(frozenset((one.name, other.name)))

    def swallow(self, host: Host) -> None:
        """The host falls silent: its links stay open, nothing arrives on them, and no new one comes up."""
        self.cut |= {frozenset((host.name, other.name)) for other in self.hosts.values() if other is not host}
        for pipe in host.pipes.values():
            pipe.swallows = True

    # Time

    def settle(self) -> None:
        """Let everything arrive that is on the way, and what follows from it; no time passes."""
        while self.deliver():
            pass

    def deliver(self) -> bool:
        """Let one frame, or the end of a link, arrive; False when nothing is on the way."""
        ways = [(host, number) for host in self.hosts.values() for number in host.pipes if self._arrives(host, number)]
        if not ways:
            return False
        host, number = ways[self.choose(len(ways))]
        pipe = host.pipes[number]
        frames = pipe.arriving[1 - pipe.other(host)]
        if frames:
            self.step(host, inputs.Received(number, frames.popleft()))
        else:
            self._end(pipe, *(pipe.closing or (ABNORMAL, "")))
        return True

    def advance(self, seconds: float) -> None:
        """Let time pass: timers fire in order, and whatever is sent arrives before the next one fires."""
        until_s = self.mono_s + seconds
        at_once = 0
        self.settle()
        while self._due and min(self._due).at_s <= until_s:
            due = min(self._due)
            self._due.remove(due)
            at_once = 0 if due.at_s > self.mono_s else at_once + 1
            assert at_once < SPINNING, f"{due.host.name} spins: {due.what} without a pause"
            self.mono_s = max(self.mono_s, due.at_s)
            self._fire(due)
            self.settle()
        self.mono_s = until_s

    def sleep(self, seconds: float) -> None:
        """All hosts sleep: time passes and no timer fires."""
        self.mono_s += seconds
        self._due = [evolve(due, at_s=max(due.at_s, self.mono_s)) for due in self._due]

    # Inside

    def step(self, host: Host, happened: inputs.Input) -> list[Effect]:
        """One step of a host's node, and what follows from it."""
        assert host.node is not None
        answer = host.node.step(happened, self.now(host))
        check_order(answer)
        cut, host.power_cut = host.power_cut, None
        if cut != "before persisting":
            for effect in answer:
                if isinstance(effect, effects.Persist):
                    host.disk.write(effect.record)
        if cut:
            self.crash(host)
        else:
            for effect in answer:
                self._perform(host, effect)
        return answer

    def _perform(self, host: Host, effect: Effect) -> None:
        match effect:
            case effects.Send(link, message):
                self._send(host, (link,), message)
            case effects.Broadcast(links, message):
                self._send(host, links, message)
            case effects.Dial(url, delay_s):  # who asks again moves the time of the dial that waits
                self._forget(host, url)
                self._later(host, url, delay_s)
            case effects.HangUp(link, code, reason):
                if (pipe := host.pipes.get(link)) and pipe.closing is None:
                    pipe.closing = (code, reason)
            case effects.Alarm(at_s):
                self._forget(host, "alarm")
                self._at(max(at_s, self.mono_s), host, "alarm")
            case effects.Emit():
                host.told.append(effect)
            case effects.Note():
                host.notes.append(effect)
            case effects.Reply(outcome=outcome):
                host.replies.append(outcome)
            case effects.WriteProject(document):
                host.files[document.slug] = document

    def _send(self, host: Host, links: Iterable[int], message: messages.Message) -> None:
        for link in links:
            if (pipe := host.pipes.get(link)) and pipe.closing is None and not pipe.swallows:
                pipe.arriving[pipe.other(host)].append(self.carry(message))

    def _arrives(self, host: Host, number: int) -> bool:
        pipe = host.pipes[number]
        mine = pipe.arriving[1 - pipe.other(host)]
        return bool(mine) or (pipe.closing is not None and not any(pipe.arriving))

    def _end(self, pipe: Pipe, code: int, reason: str) -> None:
        for host, number in zip(pipe.ends, pipe.numbers, strict=True):
            if host.pipes.pop(number, None) and host.node:
                self.step(host, inputs.LinkDown(number, code, reason))

    def _fire(self, due: _Due) -> None:
        host = due.host
        if host.node is None or host.boots != due.boot:
            return
        if due.every_s:
            self._later(host, due.what, due.every_s, due.every_s)
        match due.what:
            case "heartbeat":
                self.step(host, inputs.HeartbeatDue(Capacity(cores=2)))
            case "ttl":
                self.step(host, inputs.TtlDue())
            case "compaction":
                self.step(host, inputs.CompactionDue())
            case "alarm":
                self.step(host, inputs.AlarmDue())
            case url:
                self._dial(host, url)

    def _dial(self, host: Host, url: str) -> None:
        host.dialled.append((self.mono_s, url))
        other = next((other for other in self.hosts.values() if url_of(other.name) == url), None)
        parted = other is not None and frozenset((host.name, other.name)) in self.cut
        if other is None or other.node is None or parted:
            self.step(host, inputs.DialFailed(url, "connection refused"))
            return
        host.links += 1
        number = host.links
        other.links += 1
        pipe = Pipe((host, other), (number, other.links))
        host.pipes[number] = other.pipes[other.links] = pipe
        self.step(host, inputs.LinkUp(number, url, url))
        if other.node:
            self.step(other, inputs.LinkUp(pipe.numbers[1], f"{host.name}:50{number:03}"))

    def _every(self, host: Host, what: str, interval_s: float) -> None:
        self._later(host, what, 0.0, interval_s)

    def _forget(self, host: Host, what: str) -> None:
        self._due = [due for due in self._due if due.host is not host or due.what != what]

    def _later(self, host: Host, what: str, delay_s: float, every_s: float = 0.0) -> None:
        self._at(self.mono_s + delay_s, host, what, every_s)

    def _at(self, at_s: float, host: Host, what: str, every_s: float = 0.0) -> None:
        self._numbers += 1
        self._due.append(_Due(at_s, self._numbers, host, host.boots, what, every_s))


def three(*, max_changes: int = 100_000, tombstone_retention_ms: int = 604_800_000) -> tuple[Mesh, Host, Host, Host]:
    """The specification's mesh of three, running, in contact and at rest."""
    mesh = Mesh()
    configured = partial(configuration, max_changes=max_changes, tombstone_retention_ms=tombstone_retention_ms)
    primary = mesh.add(configured("dev-01", role=Role.PRIMARY))
    workers = [mesh.add(configured(name)) for name in ("dev-02", "dev-03")]
    for host in (primary, *workers):
        mesh.start(host)
    mesh.advance(1)
    return mesh, primary, workers[0], workers[1]


def lead(node: Node, now: Now) -> list[Effect]:
    """Start the configured primary of a mesh in which nobody answers, so that it leads; under `quorum` as a hub."""
    answer = all_of_it = node.step(inputs.Started(), now)
    while node.snapshot(now).role is not Role.PRIMARY:
        urls = [effect.url for effect in answer if isinstance(effect, effects.Dial)]
        assert urls, "it waits for nobody, and does not lead"
        answer = [effect for url in urls for effect in node.step(inputs.DialFailed(url, "refused"), now)]
        all_of_it = [*all_of_it, *answer]
    return all_of_it


def leading(node: Node, now: Now) -> Node:
    """The node itself, once it leads."""
    lead(node, now)
    return node


def granted(node: Node, answer: Sequence[Effect], now: Now) -> list[Effect]:
    """Whoever `node` asks for a vote gives it; returns what followed from that."""
    followed: list[Effect] = []
    asked = [(effect.link, effect.message) for effect in answer if isinstance(effect, effects.Send)]
    for link, message in asked:
        if isinstance(message, messages.VoteRequest):
            term = message.term - message.pre
            step = node.step(inputs.Received(link, messages.Vote(term, message.pre, granted=True)), now)
            followed += [*step, *granted(node, step, now)]
    return followed


# Persist, then send, then tell


def check_order(answer: Sequence[Effect]) -> None:
    """Fail when something tells of what only a later effect persists."""
    pending = Counter(
        key for effect in answer if isinstance(effect, effects.Persist) for key in _written(effect.record)
    )
    on_disk: set[str] = set()
    for effect in answer:
        if isinstance(effect, effects.Persist):
            written = set(_written(effect.record))
            pending.subtract(written)
            on_disk |= written
        else:
            waiting = {key for key, count in pending.items() if count}
            early = waiting & set(_told(effect, waiting)) - (set() if isinstance(effect, effects.Reply) else on_disk)
            assert not early, f"{effect} before {early} is on disk"


def _written(record: effects.Record) -> Iterator[str]:
    match record:
        case effects.SaveDocument(slug=slug, registers=registers):
            yield f"document {slug}"
            yield from {f"written {register.stamp}" for register in registers.values()}
        case effects.SaveOutbox(change):
            yield f"change {change.origin} {change.seq}"
        case effects.SaveSeq(origin):
            yield f"seq {origin}"
        case effects.SaveEvent(event):
            yield f"event {event.id}"
        case effects.SaveSettings(scope):
            yield f"settings {scope}"
        case effects.SaveBallot():
            yield "ballot"
        case effects.SaveProposal(proposal):
            yield f"proposal {proposal.claim} {proposal.term}"
        case effects.SaveFeature(feature):
            yield f"feature {feature.id}"
        case effects.TrimOutbox():
            pass


def _told(effect: Effect, pending: set[str]) -> Iterator[str]:
    """What has to be on disk before this effect may happen."""
    match effect:
        case effects.Reply():
            yield from pending
        case effects.Send(_, message) | effects.Broadcast(_, message):
            yield from _told_by_message(message)
        case effects.WriteProject(document):
            yield f"document {document.slug}"
        case effects.WriteFeature(feature) | effects.StartWork(feature):
            yield f"feature {feature.id}"
        case effects.Emit(type="conflict:found", id=number):  # what lost changes no document
            yield f"event {number}"
        case effects.Emit(payload=payload, id=number) if "featureId" in payload:
            yield from (f"feature {payload['featureId']}", f"event {number}")
        case effects.Emit(payload=payload, id=number):
            yield from (f"document {payload.get('projectSlug')}", f"settings {payload.get('scope')}", f"event {number}")


def _told_by_message(message: messages.Message) -> Iterator[str]:
    match message:
        case messages.Changes(changes=changes):
            for change in changes:
                yield from (f"written {change.stamp}", f"change {change.origin} {change.seq}", f"seq {change.origin}")
        case messages.SettingsEvent():
            yield "settings shared"
        case messages.Ack(origin):
            yield f"seq {origin}"
        case messages.VoteRequest(pre=False) | messages.Vote(pre=False) | messages.Promote():
            yield "ballot"
        case messages.Propose(_, proposal):
            yield f"proposal {proposal.claim} {proposal.term}"
        case messages.ProposalStored(term, claim, accepted=True):
            yield f"proposal {claim} {term}"
        case messages.Documents(documents):
            yield from (f"document {state.slug}" for state in documents)
        case messages.Digest(digests, seqs=seqs):
            yield from (f"document {slug}" for slug in digests)
            yield from (f"seq {origin}" for origin in seqs)
