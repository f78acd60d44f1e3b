"""The latest events of this instance in memory, for any number of readers.

Rules:

- What is appended is on disk already, with dense ids. The last `KEPT` are here, each encoded once however many read it.
- A reader is a cursor, the id of the last event it has seen: no queue of its own, so a slow one costs nothing. When
  what it wants was trimmed meanwhile, or its cursor is of another database, it is told so by a `Gap`.
- `close` ends all reading, so that whoever serves readers can end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import orjson
import trio
from attrs import frozen

from meshd.core.effects import Emit
from meshd.core.events import KEPT
from meshd.model import JsonObject, utc_text


@frozen
class Told:
    """One event; `data` is its JSON: `{"id", "type", "timestamp", "payload"}`."""

    id: int
    type: str
    data: bytes


@frozen
class Gap:
    """The events from `first` to `last` are not to be had: `reason` is `trimmed` or `unknown-id`."""

    first: int
    last: int
    reason: str

    def json(self) -> JsonObject:
        return {"type": "gap", "from": self.first, "to": self.last, "reason": self.reason}


@frozen
class Reading:
    """What a reader gets, oldest first; `cursor` is where it goes on. `gap` comes before all events."""

    gap: Gap | None
    events: tuple[Told, ...]
    cursor: int


Wants = Callable[[str], bool]
"""Whether a reader wants events of this type."""


class EventStream:
    """Holds the last `kept` events; begins with those that an earlier process left."""

    def __init__(self, events: Iterable[Emit] = (), kept: int = KEPT) -> None:
        self._kept = kept
        self._told: dict[int, Told] = {}
        self._waiting = trio.lowlevel.ParkingLot()
        self.last_id = 0
        self.closed = False
        for event in events:
            self.append(event)

    @property
    def first_id(self) -> int:
        """The oldest event that can be had; the next one's id when there is none."""
        return next(iter(self._told), self.last_id + 1)

    def append(self, event: Emit) -> None:
        """Take the next event, and wake the readers that wait for it. Never waits."""
        content = {
            "id": event.id,
            "type": event.type,
            "timestamp": utc_text(event.utc_ms),
            "payload": event.payload,
        }
        data = bytes(memoryview(orjson.dumps(content)))  # a copy: what orjson gives holds 4 KiB, however short it is
        self._told[event.id] = Told(event.id, event.type, data)
        self.last_id = event.id
        self._told.pop(event.id - self._kept, None)
        self._waiting.unpark_all()

    def after(self, cursor: int, limit: int, wants: Wants) -> Reading:
        """At most `limit` events after `cursor` that the reader wants."""
        gap = self._gap(cursor)
        position = gap.last if gap else cursor
        found: list[Told] = []
        while position < self.last_id and len(found) < limit:
            position += 1
            event = self._told[position]
            if wants(event.type):
                found.append(event)
        return Reading(gap, tuple(found), position)

    def latest(self, limit: int, wants: Wants) -> Reading:
        """The last `limit` events that the reader wants."""
        found: list[Told] = []
        for event in reversed(self._told.values()):
            if len(found) == limit:
                break
            if wants(event.type):
                found.append(event)
        return Reading(None, tuple(reversed(found)), self.last_id)

    def _gap(self, cursor: int) -> Gap | None:
        if cursor > self.last_id:
            return Gap(1, self.last_id, "unknown-id")
        if cursor + 1 < self.first_id:
            return Gap(cursor + 1, self.first_id - 1, "trimmed")
        return None

    async def wait(self, cursor: int) -> None:
        """Return when there is something after `cursor`, or the stream was closed."""
        await trio.lowlevel.checkpoint()
        while self.last_id <= cursor and not self.closed:
            await self._waiting.park()

    def close(self) -> None:
        """No more is to be read: wakes everybody."""
        self.closed = True
        self._waiting.unpark_all()
