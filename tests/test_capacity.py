"""`meshd.capacity` on the host that runs the tests, and its arithmetic on readings made up here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.capacity import CpuTimes, Sampler, busy_percent, process_memory

_SECONDS = st.floats(min_value=0, max_value=1e9)
_READINGS = st.builds(CpuTimes, busy_s=_SECONDS, total_s=_SECONDS)


def test_a_sample_tells_of_the_host_and_of_the_callers_work() -> None:
    capacity = Sampler().sample(max_agents=4, running_agents=2, backlog_count=7)
    (total,) = [line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:")]
    assert (capacity.max_agents, capacity.running_agents, capacity.backlog_count) == (4, 2, 7)
    assert capacity.ram_mb == int(total.split()[1]) // 1024
    assert 0 < capacity.ram_usage_percent <= 100
    assert 0 <= capacity.cpu_percent <= 100


def test_cores_are_those_this_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert Sampler().sample(1, 0, 0).cores == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert Sampler().sample(1, 0, 0).cores == len(allowed)


def test_cpu_percent_covers_the_time_since_the_last_sample_of_this_sampler() -> None:
    started = os.times()
    sampler = Sampler()
    other = Sampler()
    while sum(os.times()[:2]) - sum(started[:2]) < 0.05:
        other.sample(1, 0, 0)
    busy = sampler.sample(1, 0, 0).cpu_percent
    assert busy > 0
    assert sampler.sample(1, 0, 0).cpu_percent >= 0


def test_busy_is_what_was_neither_idle_nor_waiting_and_guests_count_once() -> None:
    counters = {"user": 30.0, "nice": 7.0, "system": 10.0, "idle": 100.0, "iowait": 20.0, "irq": 1.0, "softirq": 2.0}
    guests = {"steal": 4.0, "guest": 8.0, "guest_nice": 5.0}
    assert CpuTimes.from_counters(counters | guests) == CpuTimes(busy_s=54.0, total_s=174.0)


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        (CpuTimes(10, 100), CpuTimes(15, 110), 50.0),
        (CpuTimes(10, 100), CpuTimes(10, 110), 0.0),
        (CpuTimes(10, 100), CpuTimes(20, 110), 100.0),
        (CpuTimes(10, 100), CpuTimes(11, 103), 33.3),
        (CpuTimes(10, 100), CpuTimes(9.9, 110), 0.0),
        (CpuTimes(10, 100), CpuTimes(20.1, 110), 100.0),
        (CpuTimes(10, 100), CpuTimes(10, 100), 12.5),
        (CpuTimes(10, 100), CpuTimes(10, 99.9), 12.5),
    ],
)
def test_busy_percent(earlier: CpuTimes, later: CpuTimes, expected: float) -> None:
    assert busy_percent(earlier, later, unknown=12.5) == expected


@given(_READINGS, _READINGS)
def test_busy_percent_is_a_percentage_whatever_the_kernel_counts(earlier: CpuTimes, later: CpuTimes) -> None:
    assert 0 <= busy_percent(earlier, later, unknown=0.0) <= 100


def test_process_memory_grows_with_what_is_held() -> None:
    before = process_memory()
    held = bytearray(os.urandom(1)) * (32 << 20)
    after = process_memory()
    assert after.rss_bytes - before.rss_bytes > len(held) // 2
    assert after.vms_bytes >= after.rss_bytes > 0


def test_what_a_sandbox_hides_is_zero() -> None:
    script = "from meshd.capacity import *; c = Sampler().sample(3, 0, 0); print(c.ram_mb, c.cpu_percent, c.max_agents)"
    hide = 'mount -t proc -o subset=pid proc /proc 2>/dev/null || exit 77; exec "$@"'
    if not shutil.which("unshare"):
        pytest.skip("unshare is not installed")
    command = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", hide, "sh", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this user may not mount a /proc of its own")
    assert (done.stdout, done.stderr, done.returncode) == ("0 0.0 3\n", "", 0)
