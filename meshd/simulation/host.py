"""A simulated machine: its configuration, disk and clocks outlive the process, whose life is one node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from meshd.configuration import Configuration
from meshd.core.effects import Effect, Record
from meshd.core.kept import Kept
from meshd.core.node import Node

if TYPE_CHECKING:
    from meshd.simulation.network import Way


@define(eq=False)
class Host:
    """One machine.

    `node` is None while its process does not run. `life` grows with every start and every end: what was meant for
    an earlier life does not happen. `has_power` is false after a power cut, when nothing answers at all. `ways` are
    the open links by the node's own numbers. `dials` holds, by URL, the number of a dial that waits, or 0 for one
    that is under way. `waiting` are steps whose effects wait for the commit under way, which holds those of
    `batch`.
    """

    configuration: Configuration
    disk: Kept
    node: Node | None = None
    life: int = 0
    has_power: bool = True
    is_draining: bool = False
    mono_shift_s: float = 0.0
    utc_shift_ms: int = 0
    stalled_until_s: float = -1.0
    commit_s: float = 0.003
    extra_latency_s: float = 0.0
    loss: float = 0.0
    links: int = 0
    ways: dict[int, Way] = field(factory=dict)
    dials: dict[str, int] = field(factory=dict)
    dialled: int = 0
    alarms: int = 0
    is_committing: bool = False
    records: list[Record] = field(factory=list)
    batch: list[list[Effect]] = field(factory=list)
    waiting: list[list[Effect]] = field(factory=list)
    index: int = 0
    name: str = ""
    url: str = ""

    def __attrs_post_init__(self) -> None:
        self.name = self.configuration.protolab.instance_id
        self.url = self.configuration.protolab.instance_url or ""

    def __str__(self) -> str:
        return self.name
