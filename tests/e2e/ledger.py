"""What clients were told of their writes, and whether what instances hold agrees with it.

A write has a beginning and an end, its answer or the loss of its connection. Two writes that overlap may have taken
effect in either order; one that began after another had ended came after it. A write without an answer may have taken
effect or not, but not after its end: the one that could have carried it out is dead, or has hung up.

So a field's final value is right when a write that was not refused wrote it, and no acknowledged write of that field
began after that one had ended. Values are unique: each names the write it came from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import trio
from attrs import define, field, frozen

from tests.e2e.fleet import Instance
from tests.e2e.raw_http import RawClient, Unanswered, Unreachable

SAME_MS_S = 0.002  # stamps of different instances that fall into one millisecond have no order in time

ABSENT = "absent"


@frozen
class Write:
    """One PUT, PATCH or DELETE: the fields that it set. `status` is None without an answer."""

    method: str
    slug: str
    fields: Mapping[str, str]
    began_s: float
    ended_s: float
    status: int | None
    revision: str = ""

    @property
    def is_acknowledged(self) -> bool:
        return self.status in (200, 201, 204)

    @property
    def may_have_happened(self) -> bool:
        return self.status is None or self.is_acknowledged

    def leaves(self, key: str) -> str | None:
        """What this write makes of a field; None when it does not touch it."""
        return self.fields.get(key, None if self.method == "PATCH" else ABSENT)


@define
class Ledger:
    """All writes of a test, in the order of their ends."""

    writes: list[Write] = field(factory=list)
    _numbers: int = 0

    def unique(self) -> str:
        self._numbers += 1
        return f"value-{self._numbers}"

    async def write(self, client: RawClient, method: str, slug: str, fields: Mapping[str, str]) -> Write | None:
        """Ask for a write and enter what became of it; None when nobody was there to ask."""
        began_s = trio.current_time()
        status, revision = None, ""
        try:
            status, answer = await client.ask(
                method, f"/api/projects/{slug}", None if method == "DELETE" else dict(fields)
            )
            assert status in (200, 201, 204, 404), answer
            revision = answer["revision"] if status in (200, 201) else ""
        except Unreachable:
            return None
        except Unanswered:
            pass
        write = Write(method, slug, fields, began_s, trio.current_time(), status, revision)
        self.writes.append(write)
        return write

    @property
    def acknowledged(self) -> list[Write]:
        return [write for write in self.writes if write.is_acknowledged]

    def wrongly_announced(self, events: Announcements) -> list[str]:
        """What this instance's events say otherwise than its answers: each write that it acknowledged is told once."""
        told = Counter((event["type"], *_which(event)) for event in events.projects)
        problems = [f"told {times} times: {event}" for event, times in told.items() if times != 1]
        for write in self.acknowledged:
            kind = {200: "project:updated", 201: "project:created"}.get(write.status or 0)
            if kind and told[kind, write.slug, write.revision] != 1:
                problems.append(f"not told: {write}")
        for slug in {write.slug for write in self.writes if write.method == "DELETE"}:
            deletions = [write for write in self.writes if write.slug == slug and write.method == "DELETE"]
            least = sum(write.is_acknowledged for write in deletions)
            most = sum(write.may_have_happened for write in deletions)
            times = sum(count for (kind, of, _), count in told.items() if (kind, of) == ("project:deleted", slug))
            if not least <= times <= most:
                problems.append(f"{slug} was deleted {least} to {most} times, which was told {times} times")
        return problems

    def wrong(self, documents: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """What in these documents, by slug, cannot be the outcome of the writes."""
        return [
            problem for slug in {write.slug: None for write in self.writes} for problem in self._wrong(slug, documents)
        ]

    def _wrong(self, slug: str, documents: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
        document = documents.get(slug, {})
        writes = [write for write in self.writes if write.slug == slug]
        for key in sorted({key for write in writes for key in write.fields}):
            final = document.get(key, ABSENT)
            last_s = max((one.began_s for one in writes if one.is_acknowledged and one.leaves(key)), default=None)
            if final == ABSENT and last_s is None:
                continue
            sources = [one for one in writes if one.may_have_happened and one.leaves(key) == final]
            if not any(last_s is None or one.ended_s + SAME_MS_S >= last_s for one in sources):
                later = [one for one in writes if one.is_acknowledged and one.leaves(key)][-3:]
                yield f"{slug}.{key} is {final}, written by {sources[-1:]}; the last acknowledged ones are {later}"


@define
class Announcements:
    """The events of one instance, over all its lives: ids without a hole, nothing told twice."""

    instance: Instance
    events: list[dict[str, Any]] = field(factory=list)

    async def read_on(self) -> None:
        """Take what is new; fails when something is missing or comes again."""
        while True:
            page = await self.instance.get(f"/api/events?stream=0&since={len(self.events)}&limit=1000")
            assert page["gap"] is None
            ids = [event["id"] for event in page["events"]]
            assert ids == list(range(len(self.events) + 1, len(self.events) + 1 + len(ids)))
            self.events += page["events"]
            if not ids:
                return

    @property
    def projects(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"].startswith("project:")]

    def wrong(self, documents: Mapping[str, str]) -> list[str]:
        """What does not lead to these revisions, by slug: something told twice, or an end that is another."""
        told = Counter((event["type"], *_which(event)) for event in self.projects)
        problems = [f"told {times} times: {event}" for event, times in told.items() if times != 1]
        last = {event["payload"]["projectSlug"]: event for event in self.projects}
        standing = {slug: _which(event)[1] for slug, event in last.items() if event["type"] != "project:deleted"}
        return problems + ([] if standing == documents else [f"events end with {standing}, not with {documents}"])


def _which(event: Mapping[str, Any]) -> tuple[str, str]:
    return event["payload"]["projectSlug"], event["payload"]["revision"]
