"""Who leads, and how a worker finds it.

Rules (design, section 7):

- The role is the one in the configuration. The primary dials nobody; a worker keeps one link to the primary.
- A worker dials: the primary it knew last, then `peers` in order, never itself. Who is not primary says so in its
  identity and names the primary's URL when it knows it; the worker follows. One dial at a time, and after each
  round through the list a pause that doubles from 0.5 s to 5 s.
- While a worker has no primary it is partitioned: `partition_since_ms` says since when.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field

from meshd.configuration import Configuration
from meshd.core.effects import Dial, Effect
from meshd.model import Now, Role

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0


@define
class Leadership:
    """Role, term and the way to the primary."""

    configuration: Configuration
    role: Role
    term: int = 0
    primary_id: str | None = None
    primary_link: int | None = None
    primary_url: str | None = None
    partition_since_ms: int | None = None
    _to_try: list[str] = field(factory=list)
    _tried: set[str] = field(factory=set)
    _dialling: str | None = None
    _pause_s: float = 0.0

    @property
    def is_primary(self) -> bool:
        return self.role is Role.PRIMARY

    def begin(self, now: Now) -> Iterator[Effect]:
        """The instance starts: a worker looks for its primary."""
        if not self.is_primary:
            self.partition_since_ms = now.utc_ms
            yield from self._look_on()

    def dial_failed(self, url: str) -> Iterator[Effect]:
        """Nobody answered at `url`."""
        self._done_with(url)
        yield from self._look_on()

    def found_primary(self, link: int, instance_id: str, url: str | None) -> int | None:
        """A link leads to the primary; returns since when (UTC ms) there was none, None when there was one."""
        since_ms, self.partition_since_ms = self.partition_since_ms, None
        self.primary_link, self.primary_id, self.primary_url = link, instance_id, url or self.primary_url
        self._dialling, self._to_try, self._tried, self._pause_s = None, [], set(), 0.0
        return since_ms

    def redirected(self, dialled_url: str, primary_url: str | None) -> Iterator[Effect]:
        """Who answered at `dialled_url` is not primary, and knows this about who is. Followed once a round."""
        self._done_with(dialled_url)
        if primary_url and primary_url != self._own_url and primary_url not in self._tried:
            self._to_try = [primary_url, *(url for url in self._to_try if url != primary_url)]
        yield from self._look_on()

    def link_closed(self, link: int, url: str | None, now: Now) -> Iterator[Effect]:
        """A link is gone; `url` is what we dialled for it."""
        if link == self.primary_link:
            self.primary_link = None
            self.partition_since_ms = now.utc_ms
        elif url:
            self._done_with(url)
        yield from self._look_on()

    def _done_with(self, url: str) -> None:
        if url == self._dialling:
            self._dialling = None

    def _look_on(self) -> Iterator[Effect]:
        if not self.is_primary and self.primary_link is None and self._dialling is None:
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
