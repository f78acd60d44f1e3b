"""Many seeds over all cores. Each seed is a run of its own, so they share nothing but the time."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from attrs import frozen

from meshd.simulation.simulation import Result, simulate

CHUNK = 4  # seeds handed to a process at a time: a second of work
MIN_NODES, MAX_NODES = 2, 9


@frozen
class Nodes:
    """How many instances a mesh has: one number, or a range over which the seeds are spread."""

    least: int
    most: int

    def of(self, seed: int) -> int:
        return self.least + seed % (self.most - self.least + 1)


def run(seeds: Sequence[int], nodes: Nodes, hours: float, jobs: int | None = None) -> Iterator[Result]:
    """The result of each seed, in order, as they come. `jobs` are processes, None for as many as there are cores."""
    one = partial(_one, nodes, hours)
    workers = min(jobs or cores(), len(seeds))
    if workers < 2:
        yield from map(one, seeds)
        return
    context = multiprocessing.get_context("spawn")  # a fork would take whatever threads the caller has
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            yield from pool.map(one, seeds, chunksize=CHUNK)
        except (KeyboardInterrupt, GeneratorExit):
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _one(nodes: Nodes, hours: float, seed: int) -> Result:
    return simulate(seed, nodes.of(seed), hours)
