"""Everything a node can ask for, one class each: the only way out of `Node.step`.

The driver performs them in order. Whatever stands behind a `Persist` waits until that is on disk: persist, then send.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

from attrs import field, frozen

from meshd.core.documents import Change, Document, Register
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


Record: TypeAlias = SaveDocument | SaveOutbox | TrimOutbox | SaveSeq | SaveStoreId


@frozen
class Persist:
    record: Record


@frozen
class WriteProject:
    """Bring the workspace file of a document up to date; an ended document's file goes."""

    document: Document


@frozen
class Emit:
    """What local applications see: `project:updated`, `sync:peer-unreachable`, ..."""

    type: str
    payload: JsonObject


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
    `outbox-full`, `too-large`."""

    code: str
    detail: str


@frozen
class Reply:
    command: int
    outcome: Accepted | Rejected


Effect: TypeAlias = Send | Broadcast | Dial | HangUp | Persist | WriteProject | Emit | Note | Reply
