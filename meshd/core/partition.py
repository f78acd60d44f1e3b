"""How an instance stands with its primary: in contact, or partitioned from it since when.

Rules:

- A partition lasts until a primary has taken us in: until its first presence, for a native one. Who refuses us after
  we found it has not ended ours.
- What is over within a heartbeat is a hand-over or a new link and not worth a word, nor is a start that finds its
  primary within the TTL; unless changes waited for it.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, frozen

from meshd.configuration import Hivemind
from meshd.core.effects import Effect, Emit, Level, Note
from meshd.model import JsonObject, Now, utc_text


@frozen
class Partition:
    """Since when (UTC, for display), and for how long (monotonic); `is_start`: since the instance began."""

    since_ms: int
    duration_ms: int
    is_start: bool

    def is_brief(self, hivemind: Hivemind) -> bool:
        """Nothing that a person needs to know of."""
        expected_ms = hivemind.peer_ttl_ms if self.is_start else hivemind.heartbeat_interval_ms
        return self.duration_ms < expected_ms

    def told(self, instance_id: str, *, replayed: int, audited: int) -> Iterator[Effect]:
        """The specification's words for its end. `replayed` changes waited; `audited` claims are held here, which the
        exchange that follows compares with those of the other side."""
        text = f"Partition recovered after {self.duration_ms}ms -- replaying {replayed} queued changes"
        yield Note(Level.INFO, text)
        yield Note(Level.INFO, f"Partition cleared -- was disconnected since {utc_text(self.since_ms)}")
        told: JsonObject = {"instanceId": instance_id, "partitionDurationMs": self.duration_ms}
        yield Emit("sync:partition-recovered", {**told, "replayed": replayed, "auditedClaims": audited})


@define
class Contact:
    """`heard_seq`: of the last presence that a primary may count; `partition_since` is None while in contact."""

    heard_seq: int | None = None
    is_taken_in: bool = False
    partition_since: Now | None = None
    _had_primary: bool = False

    def found(self) -> None:
        """Another primary, or a new link to it: it has yet to take us in."""
        self.heard_seq, self.is_taken_in = None, False

    def lost(self, now: Now) -> None:
        """No primary from here on, if there was one."""
        self.partition_since = self.partition_since or now

    def taken_in(self, now: Now) -> Partition | None:
        """The primary that we follow counts on us, too: the partition that ends with it."""
        is_start, self._had_primary, self.is_taken_in = not self._had_primary, True, True
        since, self.partition_since = self.partition_since, None
        if since is None:
            return None
        return Partition(since.utc_ms, round((now.mono_s - since.mono_s) * 1000), is_start)
