"""A partition: the time that an instance was without a primary."""

from __future__ import annotations

from attrs import frozen

from meshd.model import Now


@frozen
class Partition:
    """Since when (UTC, for display), and for how long (monotonic); `is_start`: since the instance began."""

    since_ms: int
    duration_ms: int
    is_start: bool

    @classmethod
    def ended(cls, since: Now, now: Now, *, is_start: bool) -> Partition:
        return cls(since.utc_ms, round((now.mono_s - since.mono_s) * 1000), is_start)
