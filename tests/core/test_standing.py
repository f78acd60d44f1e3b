"""Where an instance stands: the table, its words and the policy."""

from __future__ import annotations

import ast
import inspect
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core import election, inputs
from meshd.core.standing import TRANSITIONS, Cause, Policy, Standing, policy_of
from tests.core.electorate import TTL_S, Electorate, leadership


def test_every_standing_can_be_reached_and_left() -> None:
    assert {before for before, _ in TRANSITIONS} == set(Standing)
    assert set(TRANSITIONS.values()) == set(Standing)


def test_every_cause_changes_something_and_is_used() -> None:
    named = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(election)))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Cause"
    }
    assert named == {cause.name for cause in Cause}
    assert {cause for _, cause in TRANSITIONS} == set(Cause)


@pytest.mark.parametrize(
    ("standing", "cause"),
    [
        (Standing.LEADING, Cause.FOUND),  # it steps down first
        (Standing.LEADING, Cause.LOST),
        (Standing.FOLLOWING, Cause.AGREED),
        (Standing.YIELDING, Cause.FAILED),
        *((standing, Cause.RELEASED) for standing in Standing if standing is not Standing.LEADING),
    ],
)
def test_what_cannot_be_is_an_error(standing: Standing, cause: Cause) -> None:
    with pytest.raises(KeyError):
        TRANSITIONS[standing, cause]


def test_only_being_elected_makes_a_leader_and_only_giving_up_ends_it() -> None:
    for (before, cause), after in TRANSITIONS.items():
        if after is Standing.LEADING:
            assert before is Standing.LEADING or cause is Cause.ELECTED
        elif before is Standing.LEADING:
            assert cause is Cause.RELEASED


def test_whoever_finds_a_primary_follows_and_whoever_is_elected_leads_from_wherever_it_stands() -> None:
    for standing in Standing:
        assert TRANSITIONS[standing, Cause.ELECTED] is Standing.LEADING
        if standing is not Standing.LEADING:
            assert TRANSITIONS[standing, Cause.FOUND] is Standing.FOLLOWING


@pytest.mark.parametrize(
    ("failover", "peers", "policy"),
    [
        ("auto", 0, Policy.PRIORITY),
        ("auto", 2, Policy.PRIORITY),
        ("auto", 3, Policy.QUORUM),
        ("auto", 9, Policy.QUORUM),
        ("quorum", 2, Policy.QUORUM),
        ("priority", 9, Policy.PRIORITY),
        ("manual", 3, Policy.MANUAL),
    ],
)
def test_what_failover_means_for_so_many(failover: str, peers: int, policy: Policy) -> None:
    assert policy_of(failover, peers) is policy


# Every pair that the code produces is in the table: any other is a KeyError, which ends the test

FAULTS = st.one_of(
    st.tuples(st.just("wait"), st.integers(1, 40)),
    st.tuples(st.just("crash or start"), st.integers(1, 4)),
    st.tuples(st.just("part or join"), st.sampled_from(list(product((1, 2, 3, 4), repeat=2)))),
    st.tuples(st.just("reset"), st.sampled_from(list(product((1, 2, 3, 4), repeat=2)))),
    st.tuples(st.just("promote"), st.integers(1, 4)),
    st.tuples(st.just("step down"), st.integers(1, 4)),
    st.tuples(st.just("drain"), st.integers(1, 4)),
    st.tuples(st.just("stall"), st.integers(1, 4)),
)


def suffer(mesh: Electorate, what: str, whom: int | tuple[int, int]) -> None:
    """Do one of the above, where it makes sense."""
    if isinstance(whom, tuple):
        one, other = mesh.host(whom[0]), mesh.host(whom[1])
        if one is not other and what == "reset":
            mesh.reset(one, other)
        elif one is not other:
            is_parted = frozenset((one.name, other.name)) in mesh.cut
            (mesh.join if is_parted else mesh.part)(one, other)
        return
    host = mesh.host(min(whom, len(mesh.hosts)))
    match what:
        case "wait":
            mesh.advance(whom * TTL_S / 20)
        case "crash or start":
            (mesh.crash if host.node else mesh.start)(host)
        case "promote" if host.node:
            mesh.step(host, inputs.PromoteInstance(1, host.name))
        case "step down" if host.node:
            mesh.step(host, inputs.StepDown(1))
        case "drain" if host.node:
            mesh.drain(host)
        case "stall" if host.node:
            mesh.stall(host, 1.5 * TTL_S)


def healed(mesh: Electorate) -> str:
    """The one that leads when everybody is back and has had time."""
    mesh.heal()
    for host in mesh.hosts.values():
        if host.node is None:
            mesh.start(host)
    mesh.advance(6 * TTL_S)
    (primary,) = mesh.primaries()
    return primary


@settings(max_examples=60, deadline=None)
@given(faults=st.lists(FAULTS, max_size=14))
def test_whatever_happens_to_four_no_pair_is_missing_and_in_the_end_one_leads(
    faults: list[tuple[str, int | tuple[int, int]]],
) -> None:
    mesh = Electorate.of(4)
    mesh.start_all()
    mesh.advance(1)
    for what, whom in faults:
        suffer(mesh, what, whom)
    primary = healed(mesh)
    assert mesh.deciding() == [primary]
    assert {leadership(host).primary_id for host in mesh.alive() if host.name != primary} == {primary}
    assert [text for text in mesh.broken if "decide at once" not in text] == []
