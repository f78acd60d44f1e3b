"""The messages of the wire as types; `meshd.wire` turns frames into these and back.

An attribute is the camelCase key of the same name. `UtcMs` travels as ISO-8601 with milliseconds and `Z` on the
original messages. Attributes with a default may be absent. What is native only says so; the original ignores it.
Source: WIRE, in `meshd.core`'s docstring.
"""

from __future__ import annotations

from typing import NewType, TypeAlias

from attrs import field, frozen

from meshd.core.ballot import Proposal
from meshd.core.documents import Change, Conflict, Register
from meshd.model import Capacity, Json, JsonObject, Stamp, Status  # noqa: F401  Json: for whoever resolves types

UtcMs = NewType("UtcMs", int)


@frozen
class Identity:
    """The first frame of each side: who is here. With `protocol` it is native, without it original."""

    instance_id: str
    timestamp: UtcMs
    name: str | None = None
    role: str | None = None
    tags: tuple[str, ...] | None = None
    url: str | None = None
    priority: int | None = None
    protocol: int | None = None
    min_protocol: int | None = None
    boot: str | None = None
    store: str | None = None
    term: int = 0
    sync_role: str | None = None
    primary_url: str | None = None
    hive: str | None = None
    peers_hash: str | None = None
    version: str | None = None
    clock: int | None = None
    capacity: Capacity | None = None
    leads: int | None = None
    authoritative: bool | None = None
    leader_eligible: bool = True


@frozen
class Heartbeat:
    """I am here, with this capacity. Native: also my status, term and the root digest of my documents.

    `leads`: the term I was elected for, 0 before any election, absent from a worker. `authoritative`: whether I may
    decide. `heard`: the `seq` of the last presence that I had from the primary that I follow. `holding`: the claims
    that I hold or have asked for, to be renewed; `beat` numbers the heartbeat, so that the answer can name it.
    `intake`: whether I claim new work.
    """

    instance_id: str
    timestamp: UtcMs
    name: str | None = None
    role: str | None = None
    tags: tuple[str, ...] | None = None
    url: str | None = None
    priority: int | None = None
    capacity: Capacity | None = None
    boot: str | None = None
    term: int = 0
    status: Status = Status.ALIVE
    root: str | None = None
    leads: int | None = None
    authoritative: bool | None = None
    heard: int | None = None
    beat: int | None = None
    holding: tuple[str, ...] | None = None
    intake: bool | None = None


@frozen
class Goodbye:
    """I (or, relayed by a primary, `instance_id`) leave: offline at once, no TTL. `boot` tells which life of it."""

    instance_id: str
    timestamp: UtcMs
    reason: str | None = None
    successor: str | None = None
    boot: str | None = None


@frozen
class PresenceRow:
    """One member as the primary sees it; `age` is ms since it was heard, `root` what it holds, as the primary judges.

    Only those three: nothing else changed.
    """

    instance_id: str
    age: int
    status: Status | None = None
    boot: str | None = None
    name: str | None = None
    role: str | None = None
    tags: tuple[str, ...] | None = None
    url: str | None = None
    priority: int | None = None
    version: str | None = None
    capacity: Capacity | None = None
    timestamp: UtcMs | None = None
    root: str | None = None
    leader_eligible: bool | None = None
    peers_hash: str | None = None
    intake: bool | None = None
    holding: int | None = None


@frozen
class Presence:
    """Primary to workers: every member it knows but itself; whole rows where something changed, all when `full`."""

    term: int
    seq: int
    full: bool
    members: tuple[PresenceRow, ...]
    root: str | None = None


@frozen
class Changes:
    """Accepted edits, oldest first, at most 512 or 256 KiB a frame."""

    term: int
    changes: tuple[Change, ...]


@frozen
class Ack:
    """Everything of `origin` up to `seq` is on the primary's disk."""

    origin: str
    seq: int


@frozen
class Digest:
    """Start of an exchange, or its `answer`: the digest of every document, and the last seq known of every origin.

    An answer follows the documents that the other side lacked: they hold all changes up to its `seqs`.
    """

    documents: dict[str, str]
    answer: bool = False
    seqs: dict[str, int] = field(factory=dict)


@frozen
class DocumentState:
    """Registers of one document, all or some; `ended` is the stamp of its deletion."""

    slug: str
    life: Stamp
    registers: dict[str, Register]
    ended: Stamp | None = None


@frozen
class Documents:
    """What the other side lacks or has older: to be merged, never to overwrite."""

    documents: tuple[DocumentState, ...]


@frozen
class Conflicts:
    """From the hub: writes that lost. From who looked at them, and passed on by the hub: the ids of the `settled`."""

    found: tuple[Conflict, ...] = ()
    settled: tuple[str, ...] = ()


@frozen
class FeatureEvent:
    """The original's document event, whole document in `payload`; never `feature:*`, in spite of its name."""

    instance_id: str
    event_type: str
    payload: JsonObject
    timestamp: UtcMs
    project_name: str | None = None


@frozen
class SettingsEvent:
    """All shared settings, from the primary. Native: with `revision`, and returned to a primary that lost them."""

    instance_id: str
    settings: JsonObject
    timestamp: UtcMs
    revision: int | None = None


@frozen
class Promote:
    """I lead from here on. Native: with the `term` that I was elected for."""

    instance_id: str
    timestamp: UtcMs
    priority: int | None = None
    url: str | None = None
    term: int = 0


@frozen
class VoteRequest:
    """Would you (`pre`), or do you, vote for `candidate` in `term`? `transfer` names the primary that handed over."""

    term: int
    candidate: str
    priority: int
    pre: bool
    peers_hash: str
    transfer: str | None = None


@frozen
class Vote:
    """The answer, with the voter's own term; `reason` says why not. A vote that is granted carries what is stored."""

    term: int
    pre: bool
    granted: bool
    reason: str = ""
    proposals: tuple[Proposal, ...] = ()


@frozen
class YouGo:
    """To a better-placed voter: lead instead of me, in a later term than `term`."""

    term: int


@frozen
class HandOver:
    """From the primary of `term`, which no longer decides: be the next one. `chosen`: a person asked for it."""

    term: int
    chosen: bool = False


@frozen
class Nominate:
    """To the primary, for a person: hand over to `instance_id`."""

    instance_id: str


@frozen
class ClaimRequest:
    """To the primary: may I have this phase, which I saw at `generation`? `claim` names the request, however often it
    is sent. `overflow`: I have found no work of my focus for a while."""

    claim: str
    slug: str
    milestone: str
    phase: str
    generation: int
    overflow: bool = False


@frozen
class Decision:
    """The primary's answer: `reason` is `granted`, or why not (`meshd.core.claims` has the list)."""

    claim: str
    granted: bool
    reason: str
    generation: int = 0
    claimed_by: str | None = None


@frozen
class Propose:
    """The primary of `term` wants to grant this: keep it for whoever leads next."""

    term: int
    proposal: Proposal


@frozen
class ProposalStored:
    """A voter's answer: the proposal of this `claim` in `term` is on its disk, or why not."""

    term: int
    claim: str
    accepted: bool
    reason: str = ""


@frozen
class Leases:
    """The primary's answer to heartbeat `beat`: these claims are valid from the moment it was sent; these are lost."""

    term: int
    beat: int
    valid: tuple[str, ...]
    lost: dict[str, str] = field(factory=dict)


@frozen
class Compared:
    """End of an exchange: I have sent all that you lacked. `proposals`: what I have stored of claims in doubt."""

    term: int
    proposals: tuple[Proposal, ...] = ()


@frozen
class Refuse:
    """The last frame before a close with `code`, so that the other side can log why."""

    code: int
    reason: str


@frozen
class Ignored:
    """A message of a type this version does not act on; counted."""

    type: str


@frozen
class Malformed:
    """A frame that is no message at all: a protocol error, counted against the link."""

    reason: str


Message: TypeAlias = (
    Identity
    | Heartbeat
    | Goodbye
    | Presence
    | Changes
    | Ack
    | Digest
    | Documents
    | Conflicts
    | FeatureEvent
    | SettingsEvent
    | Promote
    | VoteRequest
    | Vote
    | YouGo
    | HandOver
    | Nominate
    | ClaimRequest
    | Decision
    | Propose
    | ProposalStored
    | Leases
    | Compared
    | Refuse
    | Ignored
    | Malformed
)

TYPES: dict[str, type[Message]] = {
    "identity": Identity,
    "heartbeat": Heartbeat,
    "goodbye": Goodbye,
    "presence": Presence,
    "changes": Changes,
    "ack": Ack,
    "digest": Digest,
    "documents": Documents,
    "conflicts": Conflicts,
    "feature_event": FeatureEvent,
    "settings_event": SettingsEvent,
    "promote": Promote,
    "vote_request": VoteRequest,
    "vote": Vote,
    "you_go": YouGo,
    "hand_over": HandOver,
    "nominate": Nominate,
    "claim": ClaimRequest,
    "decision": Decision,
    "propose": Propose,
    "stored": ProposalStored,
    "leases": Leases,
    "compared": Compared,
    "refuse": Refuse,
}
"""The `type` of each message that is sent; `project_event` is understood as an alias of `feature_event`."""
