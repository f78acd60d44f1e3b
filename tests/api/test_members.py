"""`meshd.api.members`: what is worked out, and not merely shown."""

from __future__ import annotations

import pytest

from meshd.api.members import capacity_summary, domains
from meshd.core.snapshot import MemberView
from meshd.model import Capacity, Dialect, Status


@pytest.mark.parametrize(
    ("focus", "tags", "expected"),
    [
        ("fullstack", ("backend", "infra"), ["fullstack", "backend", "infra"]),
        ("qa", ("qa", "gpu", "docs", "docs"), ["qa", "docs"]),
        (None, ("docs",), ["docs"]),
        ("poetry", (), []),
    ],
)
def test_domains(focus: str | None, tags: tuple[str, ...], expected: list[str]) -> None:
    assert domains(focus, tags) == expected


def member(capacity: Capacity | None) -> MemberView:
    return MemberView(
        "x", Status.ALIVE, None, None, (), None, None, None, Dialect.NATIVE, capacity, 0, None, 0.0, None, linked=True
    )


def test_the_summary_adds_up_what_is_known() -> None:
    capacities = [Capacity(8, 1000, 4, 1, 2, 50.0, 10.0), None, Capacity(4, 500, 2, 2, 0, 25.0, 20.5)]
    assert capacity_summary(map(member, capacities)) == {
        "totalCores": 12,
        "totalRamMb": 1500,
        "totalMaxAgents": 6,
        "totalRunningAgents": 3,
        "totalBacklog": 2,
        "averageCpuPercent": 15.2,
        "averageRamUsagePercent": 37.5,
    }


def test_the_summary_of_nobody_is_zero() -> None:
    assert set(capacity_summary([]).values()) == {0}
    assert set(capacity_summary([member(None)]).values()) == {0}
