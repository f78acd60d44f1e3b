"""Cycles, held against the definition: what can reach itself."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.cycles import cycles

_names = st.sampled_from("abcdef")
graphs = st.dictionaries(_names, st.lists(_names, unique=True, max_size=3).map(tuple))


def reached(graph: dict[str, tuple[str, ...]], start: str) -> set[str]:
    """Whatever a name depends on, by any way, through names of the graph."""
    found: set[str] = set()
    left = [start]
    while left:
        new = set(graph.get(left.pop(), ())) - found
        found |= new
        left += new
    return found


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({}, {}),
        ({"a": ("b",), "b": ()}, {}),
        ({"a": ("x", "b"), "b": ("x",)}, {}),
        ({"a": ("a",)}, {"a": ("a", "a")}),
        ({"a": ("b",), "b": ("a",), "c": ("a",)}, {"a": ("a", "b", "a"), "b": ("a", "b", "a")}),
        # As short as any through the first: not by way of d.
        ({"a": ("d", "b"), "d": ("b",), "b": ("a",)}, dict.fromkeys("abd", ("a", "b", "a"))),
    ],
)
def test_cycles(graph: dict[str, tuple[str, ...]], expected: dict[str, tuple[str, ...]]) -> None:
    assert cycles(graph) == expected


@given(graphs)
def test_what_reaches_itself_is_in_a_cycle_of_its_group(graph: dict[str, tuple[str, ...]]) -> None:
    found = cycles(graph)
    assert found.keys() == {name for name in graph if name in reached(graph, name)}
    for name, cycle in found.items():
        assert cycle[0] == cycle[-1]
        assert all(after in graph[before] for before, after in pairwise(cycle))
        assert {name, *cycle} <= reached(graph, cycle[0])
        assert found[cycle[0]] is cycle


@pytest.mark.parametrize("is_closed", [False, True])
def test_thousands_in_a_row(is_closed: bool) -> None:
    graph = {str(number): (str(number + 1),) for number in range(20_000)}
    if is_closed:
        graph["20000"] = ("0",)
    assert len(cycles(graph)) == (20_001 if is_closed else 0)
