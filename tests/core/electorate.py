"""A mesh that elects, and that watches what an election has to keep.

- Beside the faults of `Mesh`: hosts that hear each other one way only; links on which all comes late; and a host that
  stalls: its timers wait, and what is sent to it waits in its links.
- A URL is dialled once at a time, as the engine does.
- After every step: of those that need a quorum one decides at any moment, in each term one has decided, and nobody has
  voted twice in a term. What is not so is kept in `broken`, with the time: `safe` fails when there is any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from attrs import define, evolve, field

from meshd.configuration import Configuration, Hivemind
from meshd.core import effects, inputs, messages
from meshd.core.effects import Effect
from meshd.core.election import Leadership
from meshd.core.standing import Policy
from meshd.model import Role
from tests.core.mesh import ABNORMAL, Host, Mesh, Pipe, _Due, configuration, url_of

HEARTBEAT_S, TTL_S = 3.0, 12.0
"""One fourth, as in the specification's 30 s and 120 s."""

GRACE_S = TTL_S / 4  # after a start, beside the TTL
FAILOVER_S = 1.7 * TTL_S  # the longest that a failover may take


def names(count: int) -> list[str]:
    return [f"dev-{number:02}" for number in range(1, count + 1)]


def member(
    instance_id: str,
    peers: Sequence[str],
    *,
    role: Role = Role.WORKER,
    failover: str = "auto",
    failback: str = "manual",
    eligible: bool = True,
    ttl_s: float = TTL_S,
) -> Configuration:
    """The configuration of one instance; failback is automatic only where a test is about it."""
    plain = configuration(instance_id, role=role, peers=peers)
    hivemind = Hivemind(
        enabled=True,
        heartbeat_interval_ms=round(HEARTBEAT_S * 1000),
        peer_ttl_ms=round(ttl_s * 1000),
        peers=tuple(map(url_of, peers)),
        failover=failover,
        failback=failback,
        leader_eligible=eligible,
    )
    return evolve(plain, hivemind=hivemind)


def leadership(host: Host) -> Leadership:
    assert host.node is not None
    return host.node._leadership


@define(eq=False)
class Electorate(Mesh):
    """Hosts that elect."""

    broken: list[str] = field(factory=list)
    deaf: set[tuple[str, str]] = field(factory=set)
    late: list[Pipe] = field(factory=list)
    stalled: set[str] = field(factory=set)
    said: list[tuple[float, str, messages.Message]] = field(factory=list)
    closed: list[tuple[float, str]] = field(factory=list)
    _asleep: list[_Due] = field(factory=list)
    _deciders: dict[int, str] = field(factory=dict)
    _votes: dict[tuple[str, int], str] = field(factory=dict)

    @classmethod
    def of(
        cls,
        count: int,
        *,
        failover: str = "auto",
        failback: str = "manual",
        configured_primary: str | None = "dev-01",
        witnesses: Iterable[str] = (),
    ) -> Electorate:
        """So many hosts, none running."""
        mesh, everybody = cls(), names(count)
        for name in everybody:
            role = Role.PRIMARY if name == configured_primary else Role.WORKER
            eligible = name not in set(witnesses)
            mesh.add(member(name, everybody, role=role, failover=failover, failback=failback, eligible=eligible))
        return mesh

    @classmethod
    def running(
        cls, count: int, *, failover: str = "auto", failback: str = "manual", witnesses: Iterable[str] = ()
    ) -> Electorate:
        """So many hosts; the first one leads, and has done so for two TTLs."""
        mesh = cls.of(count, failover=failover, failback=failback, witnesses=witnesses)
        mesh.start_all()
        mesh.advance(2 * TTL_S)
        assert mesh.primaries() == ["dev-01"]
        return mesh

    def start_all(self) -> None:
        for host in self.hosts.values():
            self.start(host)

    def host(self, number: int) -> Host:
        return self.hosts[f"dev-{number:02}"]

    # What is so

    def alive(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.node]

    def primaries(self) -> list[str]:
        return [host.name for host in self.alive() if leadership(host).is_primary]

    def deciding(self) -> list[str]:
        return [host.name for host in self.alive() if self.decides(host) is not None]

    def decides(self, host: Host) -> int | None:
        return leadership(host).decides_in(self.now(host))

    def followed(self) -> dict[str, str | None]:
        """Whom each that is no primary is linked to as its primary; None for nobody."""
        return {
            host.name: leadership(host).primary_id if leadership(host).primary_link is not None else None
            for host in self.alive()
            if not leadership(host).is_primary
        }

    def safe(self) -> None:
        """Nothing that has to hold was ever broken."""
        assert not self.broken, self.broken

    def settled(self, primary: str) -> None:
        """One leads and may decide, all others follow it and hold what it holds, and nothing was ever broken."""
        self.safe()
        assert self.primaries() == [primary]
        assert self.deciding() == [primary]
        assert self.followed() == {host.name: primary for host in self.alive() if host.name != primary}
        snapshots = [self.snapshot(host) for host in self.alive()]
        assert {snapshot.root for snapshot in snapshots} == {snapshots[0].root}
        assert {snapshot.term for snapshot in snapshots} == {snapshots[0].term}

    # Faults

    def split(self, *groups: Sequence[int]) -> None:
        """No way between the groups; who is in none is alone."""
        self.cut.clear()
        group_of = {f"dev-{number:02}": index for index, group in enumerate(groups) for number in group}
        everybody = list(self.hosts.values())
        for one in everybody:
            for other in everybody:
                if one is not other and group_of.get(one.name, one.name) != group_of.get(other.name, other.name):
                    self.part(one, other)

    def heal(self) -> None:
        self.cut.clear()
        self.deaf.clear()
        self.late.clear()

    def unheard(self, sender: Host, receiver: Host) -> None:
        """What `sender` says does not reach `receiver`; links stay as they are."""
        self.deaf.add((sender.name, receiver.name))

    def delay(self, one: Host, other: Host) -> None:
        """What is sent on the links that two hosts have comes with `heal`, their end too; a new link is as ever."""
        self.late += [pipe for pipe in one.pipes.values() if other in pipe.ends]

    def reset(self, one: Host, other: Host) -> None:
        """The links between two hosts break once."""
        for pipe in [pipe for pipe in one.pipes.values() if other in pipe.ends]:
            self._end(pipe, ABNORMAL, "connection reset")

    def stall(self, host: Host, seconds: float) -> None:
        """The host does nothing for so long; then all that waited comes at once."""
        self.stalled.add(host.name)
        self.advance(seconds)
        self.stalled.discard(host.name)
        self._due += [evolve(due, at_s=self.mono_s) for due in self._asleep if due.host is host]
        self._asleep = [due for due in self._asleep if due.host is not host]
        self.settle()

    # What the mesh does underneath

    def step(self, host: Host, happened: inputs.Input) -> list[Effect]:
        answer = super().step(host, happened)
        for effect in answer:
            if isinstance(effect, effects.Persist) and isinstance(effect.record, effects.SaveBallot):
                self._check_vote(host, effect.record)
            elif isinstance(effect, effects.HangUp):
                self.closed.append((self.mono_s, host.name))
            elif isinstance(effect, effects.Send | effects.Broadcast):
                self.said.append((self.mono_s, host.name, effect.message))
        self._check_deciders()
        return answer

    def _check_vote(self, host: Host, record: effects.SaveBallot) -> None:
        if vote := record.ballot.vote:
            cast = self._votes.setdefault((host.name, record.ballot.term), vote)
            if cast != vote:
                self._break(f"{host.name} votes for {cast} and for {vote} in term {record.ballot.term}")

    def _check_deciders(self) -> None:
        deciding = {host.name: term for host in self.alive() if (term := self.decides(host)) is not None}
        for name, term in deciding.items():
            if self._deciders.setdefault(term, name) != name:
                self._break(f"{name} and {self._deciders[term]} decide in term {term}")
        elected = [name for name in deciding if leadership(self.hosts[name]).policy is Policy.QUORUM]
        for one, other in pairwise(elected):
            self._break(f"{one} and {other} decide at once, in terms {deciding[one]} and {deciding[other]}")

    def _break(self, text: str) -> None:
        if text not in self.broken:
            self.broken.append(text)

    def _perform(self, host: Host, effect: Effect) -> None:
        if isinstance(effect, effects.Dial):
            self._due = [due for due in self._due if not (due.host is host and due.what == effect.url)]
        super()._perform(host, effect)

    def _send(self, host: Host, links: Iterable[int], message: messages.Message) -> None:
        heard = [link for link in links if (pipe := host.pipes.get(link)) and not self._is_lost(host, pipe)]
        super()._send(host, heard, message)

    def _is_lost(self, host: Host, pipe: Pipe) -> bool:
        return (host.name, pipe.ends[pipe.other(host)].name) in self.deaf

    def _arrives(self, host: Host, number: int) -> bool:
        pipe = host.pipes[number]
        if host.name in self.stalled or pipe in self.late:
            return False
        if pipe.closing and not pipe.arriving[1 - pipe.other(host)] and self._waits(pipe):
            return False
        return super()._arrives(host, number)

    def _waits(self, pipe: Pipe) -> bool:
        """The end of a link, too, comes when both ends are awake."""
        return any(host.name in self.stalled for host in pipe.ends)

    def _end(self, pipe: Pipe, code: int, reason: str) -> None:
        if self._waits(pipe) and all(host.node for host in pipe.ends):
            pipe.closing = pipe.closing or (code, reason)
            return
        super()._end(pipe, code, reason)

    def _fire(self, due: _Due) -> None:
        if due.host.name in self.stalled:
            self._asleep.append(due)
        else:
            super()._fire(due)

    def _dial(self, host: Host, url: str) -> None:
        if any(url_of(name) == url for name in self.stalled):
            self.step(host, inputs.DialFailed(url, "timed out"))
        else:
            super()._dial(host, url)
