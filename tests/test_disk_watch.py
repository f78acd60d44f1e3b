"""The disk's alerts: raised once, in newer words when there are any, cleared when it is over."""

from __future__ import annotations

from attrs import define, field

from meshd.core.alerts import Severity
from meshd.core.inputs import AlertCleared, AlertRaised
from meshd.disk_watch import DATABASE_DAMAGED, DISK_FULL, DiskWatch
from meshd.store import Disk
from meshd.store_file import RESERVE_BYTES

AMPLE = Disk(RESERVE_BYTES)
NAME = "meshd.db.damaged-20260314T092653.589Z"


@define
class Room:
    """A disk that is as the test says, and what was told about it since the last look."""

    disk: Disk = AMPLE
    told: list[AlertRaised | AlertCleared] = field(factory=list)
    watch: DiskWatch = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.watch = DiskWatch(lambda: self.disk, self._put)

    async def _put(self, told: AlertRaised | AlertCleared) -> None:
        self.told.append(told)

    async def becomes(self, disk: Disk) -> list[AlertRaised | AlertCleared]:
        self.disk = disk
        self.told.clear()
        await self.watch.watch()
        return list(self.told)


async def test_a_disk_with_room_is_nothing_to_tell() -> None:
    assert await Room().becomes(AMPLE) == []


async def test_a_full_disk_is_told_once_and_cleared() -> None:
    room = Room()
    (alert,) = await room.becomes(Disk(3 << 20))
    assert isinstance(alert, AlertRaised)
    assert (alert.code, alert.severity) == (DISK_FULL, Severity.CRITICAL)
    assert alert.text.startswith("the disk of dataDir has 3 MiB left")
    assert await room.becomes(Disk((3 << 20) + 1)) == []
    (newer,) = await room.becomes(Disk(2 << 20))
    assert isinstance(newer, AlertRaised)
    assert newer.text.startswith("the disk of dataDir has 2 MiB left")
    assert await room.becomes(AMPLE) == [AlertCleared(DISK_FULL)]
    assert await room.becomes(AMPLE) == []


async def test_a_damaged_database_is_told_until_it_was_moved_away() -> None:
    room = Room()
    (alert,) = await room.becomes(Disk(RESERVE_BYTES, (NAME,)))
    assert isinstance(alert, AlertRaised)
    assert (alert.code, alert.severity) == (DATABASE_DAMAGED, Severity.WARNING)
    assert NAME in alert.text
    assert await room.becomes(AMPLE) == [AlertCleared(DATABASE_DAMAGED)]
