"""Watching the disk of `dataDir`: its alerts stand for as long as what they tell of is so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import define, field

from meshd.core.alerts import Severity
from meshd.core.inputs import AlertCleared, AlertRaised
from meshd.store import Disk

WATCH_EVERY_S = 5.0  # refusals do not wait for it: this is for people

DISK_FULL = "disk-full"
DATABASE_DAMAGED = "database-damaged"


@define
class DiskWatch:
    """Turns what the disk is like into alerts; `watch` is due every `WATCH_EVERY_S`."""

    disk: Callable[[], Disk]
    put: Callable[[AlertRaised | AlertCleared], Awaitable[None]]
    _standing: dict[str, AlertRaised] = field(factory=dict)

    async def watch(self) -> None:
        """Raise what is so and was not told in these words, clear what is over."""
        disk = self.disk()
        wanted = {alert.code: alert for alert in (_full(disk), _damaged(disk)) if alert}
        for alert in wanted.values():
            if self._standing.get(alert.code) != alert:
                await self.put(alert)
        for code in self._standing.keys() - wanted.keys():
            await self.put(AlertCleared(code))
        self._standing = wanted


def _full(disk: Disk) -> AlertRaised | None:
    fix = "make room: edits and commands of this host are refused until there is some"
    return AlertRaised(DISK_FULL, str(disk), fix) if disk.is_full else None


def _damaged(disk: Disk) -> AlertRaised | None:
    names = ", ".join(disk.damaged)
    text = f"a damaged database was set aside in dataDir ({names}); a new one began and refills from the mesh"
    fix = "look after the disk's health; move the file away when nobody needs it any more"
    return AlertRaised(DATABASE_DAMAGED, text, fix, Severity.WARNING) if disk.damaged else None
