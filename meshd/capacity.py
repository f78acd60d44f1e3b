"""What this host has and how much of it is in use: the capacity that heartbeats carry, and our own memory.

Rules: reading takes microseconds and never waits. The figures are the host's, because the work that capacity is for
runs beside the daemon: a memory or CPU quota of the daemon's own cgroup is not looked at. Cores are those that this
process may run on (a container's cpuset, `CPUAffinity=`). What a sandbox hides (`ProcSubset=pid`) is 0, like any
unknown capacity.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import psutil  # type: ignore[import-untyped]  # psutil ships no types
from attrs import frozen

from meshd.model import Capacity

_BYTES_PER_MB = 1024 * 1024


@frozen
class CpuTimes:
    """Seconds that all cores together have spent since boot; `busy_s` is what was neither idle nor waiting for I/O."""

    busy_s: float = 0.0
    total_s: float = 0.0

    @classmethod
    def from_counters(cls, counters: Mapping[str, float]) -> CpuTimes:
        """Add up the kernel's counters by name; it counts guests in `user` and `nice` as well."""
        total_s = sum(counters.values()) - counters["guest"] - counters["guest_nice"]
        return cls(total_s - counters["idle"] - counters["iowait"], total_s)


@frozen
class ProcessMemory:
    """The memory of this process: resident and virtual."""

    rss_bytes: int
    vms_bytes: int


class Sampler:
    """Capacity, sample by sample: `cpu_percent` covers the time since the sample before (the first: since creation)."""

    def __init__(self) -> None:
        self._times = _cpu_times()
        self._cpu_percent = 0.0

    def sample(self, max_agents: int, running_agents: int, backlog_count: int) -> Capacity:
        """Read the host's figures and add the caller's own about its work."""
        earlier, self._times = self._times, _cpu_times()
        self._cpu_percent = busy_percent(earlier, self._times, self._cpu_percent)
        total_bytes, used_percent = _memory()
        return Capacity(
            cores=len(os.sched_getaffinity(0)),
            ram_mb=total_bytes // _BYTES_PER_MB,
            max_agents=max_agents,
            running_agents=running_agents,
            backlog_count=backlog_count,
            ram_usage_percent=used_percent,
            cpu_percent=self._cpu_percent,
        )


def busy_percent(earlier: CpuTimes, later: CpuTimes, unknown: float) -> float:
    """How busy the cores were between two readings, 0 to 100; `unknown` when no tick of their clock lies between.

    The kernel's counters may step back a little (I/O wait, a core going offline): the result stays within its bounds.
    """
    total_s = later.total_s - earlier.total_s
    if total_s <= 0:
        return unknown
    return round(min(100.0, max(0.0, 100 * (later.busy_s - earlier.busy_s) / total_s)), 1)


def process_memory() -> ProcessMemory:
    """The memory of this process as it is now."""
    memory = psutil.Process().memory_info()
    return ProcessMemory(memory.rss, memory.vms)


def _cpu_times() -> CpuTimes:
    try:
        counters = psutil.cpu_times()
    except OSError:
        return CpuTimes()
    return CpuTimes.from_counters(counters._asdict())


def _memory() -> tuple[int, float]:
    """Total bytes, and the percentage of them in use: what no process could have without swapping."""
    try:
        memory = psutil.virtual_memory()
    except OSError:
        return 0, 0.0
    return memory.total, memory.percent
