"""The hybrid logical clock: stamps that grow whatever the wall clock does.

Rules (Kulkarni et al., "Logical Physical Clocks", 2014):

- A new stamp is the wall clock's time when that is ahead of every stamp seen, else the newest stamp seen plus one
  count. So stamps of one instance only ever grow, even when its clock jumps back.
- A stamp that is received moves the clock forward: whoever has seen a change writes with a greater stamp.
"""

from __future__ import annotations

from attrs import define

from meshd.model import Stamp


@define
class Clock:
    """Gives out stamps in the name of `instance_id`."""

    instance_id: str
    _utc_ms: int = 0
    _counter: int = 0

    def next(self, utc_ms: int) -> Stamp:
        """A stamp greater than every stamp given out or observed so far."""
        if utc_ms > self._utc_ms:
            self._utc_ms, self._counter = utc_ms, 0
        else:
            self._counter += 1
        return Stamp(self._utc_ms, self._counter, self.instance_id)

    def observe(self, stamp: Stamp) -> None:
        """Take note of somebody's stamp."""
        self._utc_ms, self._counter = max((self._utc_ms, self._counter), (stamp.utc_ms, stamp.counter))
