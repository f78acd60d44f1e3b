"""Whom an instance dials: the way to the primary.

Rules (design, section 7):

- The search dials one after the other: the primary known last, then `peers` in order, never itself. Who is not primary
  says so in its identity and names the primary's URL when it knows it; that one is next, once a round.
- After each round through the list comes a pause that doubles from 0.5 s to 5 s. A primary that hangs up on us within
  5 s may know something that we do not: the pauses go on growing.
- An election dials all voters at once, beside the search. The engine has at most one dial under way to a URL: asking
  again changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from attrs import define, field

from meshd.core.effects import Dial, Effect
from meshd.model import Now

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0


@define
class Dialling:
    """The search. `awaited` is the URL it waits for: being dialled, or linked and yet to say who it is."""

    own_url: str | None
    peers: tuple[str, ...]
    awaited: str | None = None
    _awaited_link: int | None = None
    _to_try: list[str] = field(factory=list)
    _tried: set[str] = field(factory=set)
    _pause_s: float = 0.0
    _found_s: float = 0.0

    def look_on(self, last_known: str | None, linked: Collection[str] = ()) -> Iterator[Effect]:
        """Dial the next one, unless a dial is under way. Who is `linked` is not dialled."""
        if self.awaited:
            return
        pause_s, url = 0.0, self._next(linked)
        if url is None:
            pause_s, self._pause_s = self._pause_s, min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, self._pause_s * 2))
            known = [last_known] if last_known else []
            self._to_try, self._tried = list(dict.fromkeys([*known, *self.peers])), set()
            url = self._next(linked)
        if url is not None:
            self._tried.add(url)
            self.awaited = url
            yield Dial(url, pause_s)

    def _next(self, linked: Collection[str]) -> str | None:
        """The next of this round."""
        while self._to_try:
            url = self._to_try.pop(0)
            if url != self.own_url and url not in linked:
                return url
        return None

    def linked(self, link: int, url: str) -> None:
        """A dial became a link; its identity decides what is next."""
        if url == self.awaited:
            self._awaited_link = link

    def done_with(self, url: str | None = None, link: int | None = None) -> bool:
        """What was awaited answered, failed, or is gone; False when it was another that did."""
        if self.awaited is None or (url != self.awaited and (link is None or link != self._awaited_link)):
            return False
        self.awaited = self._awaited_link = None
        return True

    def redirect(self, url: str | None) -> None:
        """Somebody names the primary's URL: it is next, once a round."""
        if url and url != self.own_url and url not in self._tried:
            self._to_try = [url, *(other for other in self._to_try if other != url)]

    def found(self, now: Now) -> None:
        """The search is over."""
        self.awaited = self._awaited_link = None
        self._to_try, self._tried, self._found_s = [], set(), now.mono_s

    def begin_anew(self, now: Now) -> None:
        """The primary is lost; one that we had for long enough is looked for at once."""
        if now.mono_s - self._found_s >= LONGEST_PAUSE_S:
            self._pause_s = 0.0
