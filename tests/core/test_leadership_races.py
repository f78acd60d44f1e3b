"""Candidates that are voters, too, and voters that look elsewhere while they are asked."""

from __future__ import annotations

import pytest
from attrs import evolve

from meshd.core import inputs
from tests.core.electorate import TTL_S, Electorate
from tests.core.mesh import url_of

SOON_S = 1.0  # links, votes and a round of dialling


def two_of_three() -> Electorate:
    """dev-02 leads, and counts dev-01; dev-03 was away for long."""
    mesh = Electorate.running(3)
    mesh.step(mesh.host(1), inputs.PromoteInstance(1, "dev-02"))
    mesh.advance(SOON_S)
    mesh.crash(mesh.host(3))
    mesh.advance(2 * TTL_S)
    mesh.settled("dev-02")
    return mesh


def test_a_person_cannot_make_an_instance_lead_that_its_primary_still_counts_on() -> None:
    mesh = two_of_three()
    mesh.split([1, 3], [2])
    mesh.host(3).disk.ballot = evolve(mesh.host(3).disk.ballot, leader=None)
    mesh.start(mesh.host(3))
    mesh.advance(SOON_S)
    mesh.step(mesh.host(1), inputs.PromoteInstance(1))
    mesh.advance(TTL_S)
    mesh.safe()


def test_a_configured_primary_that_restarts_is_bound_like_any_other_voter() -> None:
    mesh = two_of_three()
    mesh.split([1, 3], [2])
    mesh.host(3).disk.ballot = evolve(mesh.host(3).disk.ballot, leader=None)
    mesh.start(mesh.host(3))
    mesh.crash(mesh.host(1))
    mesh.start(mesh.host(1))
    mesh.advance(TTL_S)
    mesh.safe()


@pytest.mark.xfail(strict=True, reason="whose link ends is given up for this try, and not dialled")
def test_a_voter_that_hangs_up_to_look_elsewhere_is_dialled() -> None:
    """Two that look for a primary dial each other: who is asked over the other's link loses it with the question."""
    mesh = Electorate.of(3, configured_primary=None)
    second, third = mesh.host(2), mesh.host(3)
    mesh.start(third)
    mesh.start(second)
    mesh.advance(SOON_S)
    assert third.node
    mesh.step(second, inputs.LinkUp(90, "dev-03:50000"))
    mesh.step(second, inputs.Received(90, third.node._portrait.identity(mesh.now(third))))
    mesh.step(second, inputs.PromoteInstance(1))
    second.dialled.clear()
    mesh.step(second, inputs.LinkDown(90, 1001))
    assert url_of("dev-03") in [url for _, url in second.dialled]
