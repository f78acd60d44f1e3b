"""What the API is given of the running instance: everything it may ask, and the two things it may tell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import field, frozen

from meshd.capacity import ProcessMemory
from meshd.configuration import Configuration
from meshd.core.effects import Accepted, Rejected
from meshd.core.inputs import Input, Request
from meshd.core.snapshot import Snapshot
from meshd.events import EventStream
from meshd.store import Disk


@frozen
class Instance:
    """The instance as its API sees it.

    `submit` carries out a command and returns when its outcome is on disk; it is cancelled when the client goes away,
    and the command may then take effect all the same. `put` hands in what is no command. `stop` makes the instance
    drain and end, for a reason; it returns at once, and to say it again changes nothing. `api_key` is a secret: None or
    "" when there is none.
    """

    configuration: Configuration
    version: str
    snapshot: Callable[[], Snapshot]
    submit: Callable[[Request], Awaitable[Accepted | Rejected]]
    put: Callable[[Input], Awaitable[None]]
    stop: Callable[[str], None]
    utc_ms: Callable[[], int]
    uptime_s: Callable[[], float]
    process_memory: Callable[[], ProcessMemory]
    disk: Callable[[], Disk]
    hostname: str = ""
    api_key: str | None = None
    events: EventStream = field(factory=EventStream)
