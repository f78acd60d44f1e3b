"""Events: what local applications see of what became so on this host, each exactly once.

Rules (design, sections 5 and 10):

- The events of a step get the next ids, dense from 1 on for the whole life of the database. They are on disk before
  anybody sees them, in one commit with what they tell of: after a crash both are there, or neither.
- The last `KEPT` are kept for applications that come back; older ones are trimmed, some at a time.
- A document's event follows from what a merge changed, whoever brought it: what is heard again tells nothing.
- Paths are this host's own: `projectPath` is put in here, and never taken from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import define, evolve

from meshd.core import categories
from meshd.core.documents import Document
from meshd.core.effects import Effect, Emit, Persist, SaveEvent, TrimEvents
from meshd.core.stored import Stored
from meshd.model import JsonObject, Now
from meshd.project import is_reserved

KEPT = 10_000
TRIM_EVERY = 256  # events between two trims: one more statement in a commit now and then


@define
class Events:
    """Gives the events of one instance their ids; `last_id` is the last one given out, 0 before the first."""

    repo_root: str
    last_id: int

    @classmethod
    def restored(cls, stored: Stored, repo_root: str) -> Events:
        """Go on where the store ends."""
        return cls(repo_root, stored.events[-1].id if stored.events else 0)

    def numbered(self, effects: Iterable[Effect], now: Now) -> Iterator[Effect]:
        """The effects of one step, in their order, with each event completed and persisted."""
        for effect in effects:
            if isinstance(effect, Emit):
                yield from self._kept(effect, now)
            else:
                yield effect

    def _kept(self, event: Emit, now: Now) -> Iterator[Effect]:
        self.last_id += 1
        complete = evolve(event, payload=self._local(event), id=self.last_id, utc_ms=now.utc_ms)
        yield Persist(SaveEvent(complete))
        if self.last_id % TRIM_EVERY == 0 and self.last_id > KEPT:
            yield Persist(TrimEvents(self.last_id - KEPT + 1))
        yield complete

    def _local(self, event: Emit) -> JsonObject:
        if event.type.startswith(("project:", "categories:")):
            return {**event.payload, "projectPath": self.repo_root}
        return event.payload


def of_document(before: Document | None, after: Document, origin: str) -> list[Emit]:
    """What a document's turning from `before` into `after` is to applications; `origin` is who made the change."""
    was_there, is_there = before is not None and before.ended is None, after.ended is None
    if after.slug == categories.SLUG:
        return [Emit("categories:updated", {"categories": categories.listed(after)})]
    kind = {(False, True): "created", (True, True): "updated", (True, False): "deleted"}.get((was_there, is_there))
    if kind is None or is_reserved(after.slug):
        return []
    return [Emit(f"project:{kind}", {"projectSlug": after.slug, "revision": after.digest, "origin": origin})]
