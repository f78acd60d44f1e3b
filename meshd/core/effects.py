"""Everything a node can ask for, one class each: the only way out of `Node.step`.

The driver performs them in order. Whatever stands behind a `Persist` waits until that is on disk: persist, then send.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

from attrs import field, frozen

from meshd.core.ballot import Ballot, Proposal, Turn
from meshd.core.documents import Change, Conflict, Document, Register
from meshd.core.feature import Feature
from meshd.core.messages import Message
from meshd.model import JsonObject, Stamp


@frozen
class Send:
    link: int
    message: Message


@frozen
class Broadcast:
    """One message for several links, encoded once."""

    links: tuple[int, ...]
    message: Message


@frozen
class Dial:
    """Open a link to `url` after at most `delay_s` (the engine draws the jitter)."""

    url: str
    delay_s: float = 0.0


@frozen
class HangUp:
    """Flush what was sent to this link, then close it with a WebSocket close code."""

    link: int
    code: int
    reason: str


@frozen
class Alarm:
    """Hand in `AlarmDue` at `at_s` of the monotonic clock; a later alarm replaces this one."""

    at_s: float


@frozen
class Emit:
    """What local applications see: `project:updated`, `sync:peer-unreachable`, ...

    The node gives each its `id`, dense and kept over restarts, and its time; modules leave both out.
    """

    type: str
    payload: JsonObject
    id: int = field(default=0, eq=False)
    utc_ms: int = field(default=0, eq=False)


@frozen
class SaveDocument:
    """Write the registers that changed, and the life and end of their document."""

    slug: str
    life: Stamp
    ended: Stamp | None
    registers: dict[str, Register]
    replace: bool = False  # a new life: what is stored of the old one goes


@frozen
class SaveOutbox:
    """Queue an own change until a primary has acknowledged it."""

    change: Change


@frozen
class TrimOutbox:
    """Forget own changes up to and including `seq`: the primary has them on disk."""

    seq: int


@frozen
class SaveSeq:
    """The last sequence number taken from an origin (our own: the last one given out)."""

    origin: str
    seq: int


@frozen
class SaveStoreId:
    """Give the store a new name: it turned out to be a restored backup, and is a new origin from here on."""

    store_id: str


@frozen
class DropOutbox:
    """Forget these own changes: later ones have overwritten all they wrote."""

    seqs: tuple[int, ...]


@frozen
class ForgetDocument:
    """Let go of a deleted document's tombstone."""

    slug: str


@frozen
class SaveConflict:
    """Keep a write that lost a conflict."""

    conflict: Conflict


@frozen
class DropConflict:
    """A conflict was settled, or is too old to keep."""

    id: str


@frozen
class SaveSettings:
    """Settings of one scope, `shared` or `local`: all of them, they are small."""

    scope: str
    revision: int
    values: JsonObject


@frozen
class SaveEvent:
    """Keep an event for applications that come back later."""

    event: Emit


@frozen
class TrimEvents:
    """Forget the events below `id`."""

    id: int


@frozen
class SaveBallot:
    """The term, the vote in it and who led last: before any of them is used or sent."""

    ballot: Ballot


@frozen
class SaveProposal:
    """Keep a proposed claim for whoever leads next; one of the same phase gives way."""

    proposal: Proposal


@frozen
class DropProposal:
    """A proposal was decided."""

    slug: str
    milestone: str
    phase: str


@frozen
class SaveLeadership:
    """Keep one more turn of the leadership history; those with an id of `MAX_TURNS` less may go."""

    turn: Turn


@frozen
class SaveFeature:
    """Keep a feature of this host, in place of what was kept of it."""

    feature: Feature


@frozen
class DropFeature:
    """Forget a feature that ended long ago."""

    id: str


Record: TypeAlias = (
    SaveDocument
    | SaveOutbox
    | TrimOutbox
    | DropOutbox
    | SaveSeq
    | SaveStoreId
    | ForgetDocument
    | SaveConflict
    | DropConflict
    | SaveSettings
    | SaveEvent
    | TrimEvents
    | SaveBallot
    | SaveProposal
    | DropProposal
    | SaveLeadership
    | SaveFeature
    | DropFeature
)


@frozen
class Persist:
    record: Record


@frozen
class WriteProject:
    """Bring the workspace file of a document up to date; an ended document's file goes."""

    document: Document


@frozen
class WriteFeature:
    """Bring the workspace file of a feature up to date."""

    feature: Feature


@frozen
class StartWork:
    """Let the command work on a feature, whose lease ends at `until_s` of the monotonic clock: then it must be dead."""

    feature: Feature
    until_s: float


@frozen
class ExtendWork:
    """The lease of a claim that is worked on was renewed."""

    claim: str
    until_s: float


@frozen
class StopWork:
    """End the work on a claim; `WorkEnded` follows when it is over."""

    claim: str
    reason: str


class Level(IntEnum):
    """Severity of a note, in the numbers of the standard library's logging."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


@frozen
class Note:
    """A log line: one fact, with its fields."""

    level: Level
    text: str
    fields: dict[str, str | int | float | None] = field(factory=dict)


@frozen
class Accepted:
    """A command took effect and is on this host's disk. `revision` is the document's, "" when it was deleted."""

    revision: str
    created: bool = False
    changed: bool = True


@frozen
class Rejected:
    """A command was refused. `code` is stable: `invalid`, `not-found`, `revision-mismatch`,
    `outbox-full`, `disk-full`, `too-large`, `not-primary`, `unknown-setting`, `credential-refused`, `no-successor`,
    `not-claimable`, `not-holder`, `stale`.

    `path` names the part of the settings that was refused, "" for the whole.
    """

    code: str
    detail: str
    path: str = ""


@frozen
class Reply:
    command: int
    outcome: Accepted | Rejected


Effect: TypeAlias = (
    Send
    | Broadcast
    | Dial
    | HangUp
    | Alarm
    | Persist
    | WriteProject
    | WriteFeature
    | StartWork
    | ExtendWork
    | StopWork
    | Emit
    | Note
    | Reply
)
