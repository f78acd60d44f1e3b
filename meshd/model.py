"""The words every floor shares: stamps, time, roles, statuses, capacity. One word for one idea.

Where the specification and the field disagree, the wire, YAML and health JSON keep the specification's word and the
code uses the field's: `instance.role` is a `Focus` here, `online` is `Status.shown`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from attrs import frozen

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = "dict[str, Json]"


MAX_FRAME_BYTES = 4 * 1024 * 1024
"""The largest frame that is taken from a peer: a mesh's own have 256 KiB, a whole document of an original some MiB."""

MAX_LABEL = 200  # characters of what an instance says of itself: its name, one of its tags, its version
MAX_TAGS = 32  # with `MAX_LABEL`: a primary tells all workers about all members, and a frame has to hold that

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
LAST_UTC_MS = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND


def utc_text(utc_ms: int) -> str:
    """UTC milliseconds as people and the wire write them: `2026-03-14T09:26:53.589Z`."""
    return (_EPOCH + utc_ms * _MILLISECOND).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def utc_ms_of(text: str) -> int | None:
    """What `utc_text` or any other ISO-8601 time with an offset says; None for none from 1970 to 9999."""
    if not text.isprintable():  # fromisoformat stops reading at a NUL
        return None
    try:
        utc_ms = (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
    except (ValueError, TypeError):  # TypeError: a time without an offset
        return None
    return utc_ms if 0 <= utc_ms <= LAST_UTC_MS else None


@frozen
class Now:
    """The two clocks of one step: `mono_s` for every "how long", `utc_ms` for stamps and display, never liveness."""

    mono_s: float
    utc_ms: int


class Stamp(NamedTuple):
    """A hybrid logical clock reading: totally ordered, unique per instance, close to UTC.

    A tuple, because each change compares several: attrs takes ten times as long to order two.
    """

    utc_ms: int
    counter: int
    instance_id: str

    def __str__(self) -> str:
        return f"{self.utc_ms}.{self.counter}.{self.instance_id}"


class Role(StrEnum):
    """What an instance is now: the one that decides, or one that follows."""

    PRIMARY = "primary"
    WORKER = "worker"


class Focus(StrEnum):
    """What work an instance prefers (`instance.role` in the file and on the wire)."""

    FULLSTACK = "fullstack"
    FRONTEND = "frontend"
    BACKEND = "backend"
    INFRA = "infra"
    DOCS = "docs"
    QA = "qa"


class Status(StrEnum):
    """A member's state in the membership table (core/membership has the transitions)."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DRAINING = "draining"
    LEFT = "left"
    FAILED = "failed"

    @property
    def shown(self) -> str:
        """The specification's word for it, as in health JSON."""
        return _SHOWN[self]

    @property
    def is_online(self) -> bool:
        return self.shown != "offline"


_SHOWN = {
    Status.ALIVE: "online",
    Status.SUSPECT: "online",
    Status.DRAINING: "draining",
    Status.LEFT: "offline",
    Status.FAILED: "offline",
}


class Dialect(StrEnum):
    """What the other end of a link speaks: `ORIGINAL` until its identity carries `protocol`."""

    ORIGINAL = "original"
    NATIVE = "native"


@frozen
class Capacity:
    """What a host has and how much of it is in use, as heartbeats carry it. Percentages run from 0 to 100."""

    cores: int = 0
    ram_mb: int = 0
    max_agents: int = 0
    running_agents: int = 0
    backlog_count: int = 0
    ram_usage_percent: float = 0.0
    cpu_percent: float = 0.0
