"""Cycles in what depends on what. Iterative: a chain may be thousands long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

Graph = Mapping[str, Sequence[str]]
"""What each depends on; names that are no key depend on nothing."""


def cycles(graph: Graph) -> dict[str, tuple[str, ...]]:
    """For each name that depends on itself, by whatever way: a cycle among those that depend on each other.

    It begins and ends with the same name, is as short as any through that name, and all of one group have the same.
    """
    found: dict[str, tuple[str, ...]] = {}
    for group in _groups(graph):
        first = min(group)
        if len(group) > 1 or first in graph.get(first, ()):
            found |= dict.fromkeys(group, _way_round(graph, first, set(group)))
    return found


def _groups(graph: Graph) -> Iterator[list[str]]:
    """The strongly connected components, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_ones: list[str] = []
    is_open: set[str] = set()
    for root in graph:
        if root in index:
            continue
        walk = [(root, iter(graph[root]))]
        index[root] = lowest[root] = len(index)
        open_ones.append(root)
        is_open.add(root)
        while walk:
            name, rest = walk[-1]
            after = next((other for other in rest if other in graph and (other not in index or other in is_open)), None)
            if after is None:
                walk.pop()
                if walk:
                    lowest[walk[-1][0]] = min(lowest[walk[-1][0]], lowest[name])
                if lowest[name] == index[name]:
                    group = [open_ones.pop()]
                    while group[-1] != name:
                        group.append(open_ones.pop())
                    is_open.difference_update(group)
                    yield group
            elif after in index:
                lowest[name] = min(lowest[name], index[after])
            else:
                index[after] = lowest[after] = len(index)
                open_ones.append(after)
                is_open.add(after)
                walk.append((after, iter(graph[after])))


def _way_round(graph: Graph, first: str, group: set[str]) -> tuple[str, ...]:
    """The shortest way from a name back to it, breadth first."""
    came_from: dict[str, str] = {}
    reached = [first]
    for name in reached:
        for other in graph[name]:
            if other == first:
                way = [name]
                while way[-1] != first:
                    way.append(came_from[way[-1]])
                return (*reversed(way), first)
            if other in group and other not in came_from:
                came_from[other] = name
                reached.append(other)
    raise AssertionError(f"{first} is in no cycle")
