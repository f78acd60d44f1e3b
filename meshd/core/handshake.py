"""Who is at the other end of each link, and may it stay.

Rules (wire, "Native additions" and close codes; design, section 6):

- The first frame of each side is its identity. A link on which none came within 10 s is closed.
- Who is refused, or hung up on for another reason, is heard no more.
- Refused are: another protocol version or another mesh (4406), a clock too far from ours (4420), an original peer
  where those are not wanted (4403), our own instanceId (4409), and the instanceId of a peer that is linked with
  another boot and alive (4409): two daemons share a name, and the first one keeps it. When the first said goodbye,
  fell silent or is being hung up on, the newcomer takes over: it is the same daemon, started again.
- A newer link of the same instance and boot, dialled by the same side, supersedes the older one (4410), so nothing
  arrives twice for long. When both sides dialled at once, the one that follows ends one of the two.
- Three frames that are no messages, and the link is closed (1002).
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

from attrs import define, evolve, field, frozen

from meshd.configuration import Configuration
from meshd.core.effects import HangUp
from meshd.core.messages import Identity
from meshd.core.standing import policy_of
from meshd.model import Dialect, Now, Role

PROTOCOL = 1
MIN_PROTOCOL = 1

GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
NOT_ALLOWED = 4403
MISMATCH = 4406
DUPLICATE = 4409
SUPERSEDED = 4410
CLOCK_SKEW = 4420

IDENTITY_WITHIN_S = 10.0
MAX_OFFENCES = 3
MAX_VOTERS = 7
"""So many of `peers` elect, the first ones; the others follow."""


@frozen
class Refusal:
    code: int
    reason: str


@frozen
class Line:
    """An open link and what is known of its other end; `instance_id` is None until an identity was accepted.

    `index`: its place among the voters, None for who is none. `leads`: the term it was elected for, None from an
    original peer or a worker. `decides`: whether it says that it may. `is_eligible`: whether it may lead at all.
    `agrees`: whether it was given the same peers, failover and TTL as we were.
    """

    link: int
    address: str
    url: str | None
    opened_s: float
    instance_id: str | None = None
    boot: str | None = None
    dialect: Dialect = Dialect.ORIGINAL
    offences: int = 0
    closing: bool = False
    stated_url: str | None = None
    index: int | None = None
    is_primary: bool = False
    leads: int | None = None
    decides: bool = False
    is_eligible: bool = False
    agrees: bool = False

    @property
    def peer(self) -> str:
        """How to name the other end in a log."""
        return self.instance_id or self.url or self.address

    @property
    def rank(self) -> tuple[int, int, str]:
        return rank(self.leads, self.index, self.peer)


def rank(leads: int | None, index: int | None, name: str) -> tuple[int, int, str]:
    """Of two primaries the greater one leads: the later term, then the better place. An original names no term."""
    return (-1 if leads is None else leads, -(MAX_VOTERS if index is None else index), name)


def short_hash(*parts: str) -> str:
    """A hash to compare whether two instances were told the same."""
    return blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


@define
class Handshake:
    """The table of open links."""

    configuration: Configuration
    boot: str
    lines: dict[int, Line] = field(factory=dict)
    hive: str | None = field(init=False)
    peers_hash: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.hive = short_hash(self.configuration.name) if self.configuration.name else None
        hivemind = self.configuration.hivemind
        policy = policy_of(hivemind.failover, len(hivemind.peers))
        self.peers_hash = short_hash(policy, str(hivemind.peer_ttl_ms), *hivemind.peers)

    def opened(self, link: int, address: str, url: str | None, now: Now) -> None:
        self.lines[link] = Line(link, address, url, now.mono_s)

    def closed(self, link: int) -> Line | None:
        return self.lines.pop(link, None)

    def closes(self, link: int) -> None:
        """We are hanging up: nothing more is heard on this link."""
        if line := self.lines.get(link):
            self.lines[link] = evolve(line, closing=True)

    def hang_up(self, link: int, reason: str) -> Iterator[HangUp]:
        """End a link that is no longer needed; one that we are closing already is left alone."""
        if (line := self.lines.get(link)) and not line.closing:
            self.closes(link)
            yield HangUp(link, GOING_AWAY, reason)

    def judge(self, line: Line, identity: Identity, now: Now, *, is_online: bool = True) -> Refusal | None:
        """Whether this peer may stay on this link: None when it may. `is_online`: a peer of this name is."""
        if line.instance_id not in (None, identity.instance_id):
            return Refusal(PROTOCOL_ERROR, f"this link belongs to {line.instance_id}, not to {identity.instance_id}")
        if identity.instance_id == self.configuration.protolab.instance_id:
            what = "you dialled yourself" if identity.boot == self.boot else "my instanceId is the same as yours"
            return Refusal(DUPLICATE, f"{what}: {identity.instance_id}")
        about_itself = (
            self._judge_original(identity) if identity.protocol is None else self._judge_native(identity, now)
        )
        return about_itself or (self._judge_duplicate(line, identity) if is_online else None)

    def _judge_original(self, identity: Identity) -> Refusal | None:
        if self.configuration.hivemind.original_peers == "refuse":
            return Refusal(NOT_ALLOWED, f"original peers such as {identity.instance_id} are refused here")
        return None

    def _judge_native(self, identity: Identity, now: Now) -> Refusal | None:
        theirs = (identity.min_protocol or identity.protocol or 0, identity.protocol or 0)
        if max(theirs[0], MIN_PROTOCOL) > min(theirs[1], PROTOCOL):
            ranges = f"yours is {theirs[0]} to {theirs[1]}, mine {MIN_PROTOCOL} to {PROTOCOL}"
            return Refusal(MISMATCH, f"no protocol version in common: {ranges}")
        if identity.hive and self.hive and identity.hive != self.hive:
            return Refusal(MISMATCH, f"another mesh: `name` in my configuration is {self.configuration.name!r}")
        skew_ms = abs((identity.clock if identity.clock is not None else now.utc_ms) - now.utc_ms)
        limit_ms = self.configuration.hivemind.max_clock_skew_ms
        if skew_ms > limit_ms:
            return Refusal(CLOCK_SKEW, f"our clocks differ by {skew_ms} ms, more than {limit_ms} ms: set them right")
        return None

    def _judge_duplicate(self, line: Line, identity: Identity) -> Refusal | None:
        for other in self.of(identity.instance_id):
            if other.link != line.link and not other.closing and other.boot not in (None, identity.boot):
                return Refusal(DUPLICATE, f"{identity.instance_id} is here already, from {other.address}")
        return None

    def accept(self, line: Line, identity: Identity) -> list[Line]:
        """Enter a judged identity; returns the older links of the same instance, which it supersedes."""
        others = [other for other in self.of(identity.instance_id) if other.link != line.link]
        is_native = identity.protocol is not None
        voters = self.configuration.hivemind.peers[:MAX_VOTERS]
        is_other = identity.url != self.configuration.protolab.instance_url  # who claims our own is no second voter
        leads_original = not is_native and line.url is not None
        self.lines[line.link] = evolve(
            line,
            instance_id=identity.instance_id,
            boot=identity.boot,
            dialect=Dialect.NATIVE if is_native else Dialect.ORIGINAL,
            stated_url=identity.url,
            index=voters.index(identity.url) if is_native and identity.url in voters and is_other else None,
            is_primary=identity.sync_role == Role.PRIMARY or leads_original,
            leads=identity.leads,
            decides=leads_original or bool(identity.authoritative),
            is_eligible=identity.leader_eligible,
            agrees=identity.peers_hash == self.peers_hash,
        )
        return [other for other in others if not other.closing and bool(other.url) is bool(line.url)]

    def offended(self, line: Line) -> bool:
        """Count a frame that is no message; True when the link has had enough."""
        self.lines[line.link] = evolve(line, offences=line.offences + 1)
        return line.offences + 1 >= MAX_OFFENCES

    def silent(self, now: Now) -> list[Line]:
        """Links on which no identity came in time."""
        return [
            line
            for line in self.lines.values()
            if line.instance_id is None and not line.closing and now.mono_s - line.opened_s >= IDENTITY_WITHIN_S
        ]

    def of(self, instance_id: str) -> list[Line]:
        """All links of an instance, those among them that we are closing."""
        return [line for line in self.lines.values() if line.instance_id == instance_id]

    def dialled(self, but: int | None) -> list[Line]:
        """The links that we opened, to who is known."""
        lines = self.lines.values()
        return [line for line in lines if line.url and line.instance_id and not line.closing and line.link != but]

    def is_linked(self, instance_id: str) -> bool:
        """Whether we hear this instance ourselves: over a link that nobody closes."""
        return any(line.instance_id == instance_id and not line.closing for line in self.lines.values())

    def of_voter(self, index: int) -> list[Line]:
        """The open links of a voter."""
        return [line for line in self.lines.values() if line.index == index and not line.closing]

    def links(self, dialect: Dialect | None = None, but: int | None = None) -> tuple[int, ...]:
        """The links whose other end is known, of one dialect or of both."""
        return tuple(
            line.link
            for line in self.lines.values()
            if line.instance_id and not line.closing and line.link != but and dialect in (None, line.dialect)
        )

    def greeted(self, but: int | None = None) -> tuple[int, ...]:
        """The links on which we said who we are, whether the other end has answered or has yet to."""
        return tuple(line.link for line in self.lines.values() if not line.closing and line.link != but)
