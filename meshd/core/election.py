"""Who leads, and how a worker finds it.

Rules (design, section 7):

- The role is the one in the configuration. The primary dials nobody; a worker keeps one link to the primary.
- A worker dials: the primary it knew last, then `peers` in order, never itself. Who is not primary says so in its
  identity and names the primary's URL when it knows it; the worker follows. One dial at a time, and after each
  round through the list a pause that doubles from 0.5 s to 5 s. A primary that hangs up on us within 5 s may know
  something that we do not: the pauses go on growing.
- While a worker has no primary it is partitioned: `partition_since_ms` says since when.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field, frozen

from meshd.configuration import Configuration
from meshd.core.effects import Dial, Effect
from meshd.model import Now, Role

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0


@frozen
class Partition:
    """Time without a primary: since when (UTC, for display), and for how long by the monotonic clock."""

    since_ms: int
    duration_ms: int
    is_start: bool


@define
class Leadership:
    """Role, term and the way to the primary."""

    configuration: Configuration
    role: Role
    term: int = 0
    primary_id: str | None = None
    primary_link: int | None = None
    primary_url: str | None = None
    partition_since: Now | None = None
    _found_s: float = 0.0
    _to_try: list[str] = field(factory=list)
    _tried: set[str] = field(factory=set)
    _dialling: str | None = None
    _candidate: int | None = None
    _pause_s: float = 0.0
    _is_leaving: bool = False

    @property
    def is_primary(self) -> bool:
        return self.role is Role.PRIMARY

    @property
    def partition_since_ms(self) -> int | None:
        return self.partition_since.utc_ms if self.partition_since else None

    def begin(self, now: Now) -> Iterator[Effect]:
        """The instance starts: a worker looks for its primary."""
        if not self.is_primary:
            self.partition_since = now
            yield from self._look_on()

    def leave(self) -> None:
        """The instance drains: nobody is dialled any more."""
        self._is_leaving = True

    def dial_failed(self, url: str) -> Iterator[Effect]:
        """Nobody answered at `url`."""
        self._done_with(url)
        yield from self._look_on()

    def dialled(self, link: int, url: str) -> None:
        """A dial became a link; its identity decides what is next."""
        if url == self._dialling:
            self._candidate = link

    def found_primary(self, link: int, instance_id: str, url: str | None, now: Now) -> Partition | None:
        """A link leads to the primary; returns the partition that ends with it, None when there was none."""
        partition = None
        if since := self.partition_since:
            duration_ms = round((now.mono_s - since.mono_s) * 1000)
            partition = Partition(since.utc_ms, duration_ms, is_start=self.primary_id is None)
        self.partition_since, self._found_s = None, now.mono_s
        self.primary_link, self.primary_id, self.primary_url = link, instance_id, url or self.primary_url
        self._dialling, self._candidate, self._to_try, self._tried = None, None, [], set()
        return partition

    def redirected(self, dialled_url: str, primary_url: str | None) -> Iterator[Effect]:
        """Who answered at `dialled_url` is not primary, and knows this about who is. Followed once a round."""
        self._done_with(dialled_url)
        if primary_url and primary_url != self._own_url and primary_url not in self._tried:
            self._to_try = [primary_url, *(url for url in self._to_try if url != primary_url)]
        yield from self._look_on()

    def link_closed(self, link: int, now: Now) -> Iterator[Effect]:
        """A link is gone: the primary's, one that was to be, or another."""
        if link == self.primary_link:
            self.primary_link = None
            self.partition_since = now
            if now.mono_s - self._found_s >= LONGEST_PAUSE_S:
                self._pause_s = 0.0
            yield from self._look_on()
        elif link == self._candidate:
            self._dialling = self._candidate = None
            yield from self._look_on()

    def _done_with(self, url: str) -> None:
        if url == self._dialling:
            self._dialling = self._candidate = None

    def _look_on(self) -> Iterator[Effect]:
        if not (self.is_primary or self._is_leaving or self.primary_link or self._dialling):
            yield from self._dial_next()

    def _dial_next(self) -> Iterator[Effect]:
        pause_s = 0.0
        if not self._to_try:
            pause_s, self._pause_s = self._pause_s, min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, self._pause_s * 2))
            self._to_try, self._tried = self._round(), set()
        if self._to_try:
            self._dialling = self._to_try.pop(0)
            self._tried.add(self._dialling)
            yield Dial(self._dialling, pause_s)

    def _round(self) -> list[str]:
        known = [self.primary_url] if self.primary_url else []
        urls = [url for url in (*known, *self.configuration.hivemind.peers) if url != self._own_url]
        return list(dict.fromkeys(urls))

    @property
    def _own_url(self) -> str | None:
        return self.configuration.protolab.instance_url
