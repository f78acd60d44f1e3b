"""A simulated process: commits take time, a crash loses what was not committed, timers come at once and then again."""

from __future__ import annotations

from copy import deepcopy
from random import Random

import pytest

from meshd.core import effects, inputs
from meshd.core.effects import Effect, Emit, Persist, SaveSeq
from meshd.core.node import Node
from meshd.model import Now
from meshd.simulation import meshes
from meshd.simulation.host import Host
from meshd.simulation.invariants import Violation
from meshd.simulation.world import World


class Counts(Node):
    """Persists and tells one number for each compaction, and nothing else."""

    number = 0

    def step(self, happened: inputs.Input, now: Now) -> list[Effect]:
        if not isinstance(happened, inputs.CompactionDue):
            return []
        self.number += 1
        return [Persist(SaveSeq("x", self.number)), effects.Note(effects.Level.INFO, f"number {self.number}")]


def one(make_node: type[Node]) -> tuple[World, Host, list[str]]:
    lines: list[str] = []
    world = World(Random(1), meshes.draw(Random(1), 2), lines.append, make_node)
    world.hosts[0].commit_s = 1.0
    world.start(world.hosts[0])
    return world, world.hosts[0], lines


def test_effects_wait_for_their_commit() -> None:
    world, host, lines = one(Counts)
    world.run(0.4)
    assert not any("number 1" in line for line in lines)
    assert host.disk.seqs == {}
    world.run(1.6)

    assert any("number 1" in line for line in lines)
    assert host.disk.seqs == {"x": 1}


def test_a_crash_loses_a_commit_or_keeps_all_of_it() -> None:
    outcomes = set()
    for seed in range(10):
        world, host, lines = one(Counts)
        world.chance = Random(seed)
        world.run(0.1)
        world.end(host)
        world.run(10.0)
        assert not any("number 1" in line for line in lines), "what was not committed in time is never told"
        outcomes.add(host.disk.seqs.get("x"))

    assert outcomes == {None, 1}


def test_timers_come_at_once_and_after_a_stop_once() -> None:
    world, host, lines = one(Counts)
    world.run(1.0)
    world.stall(host, 65.0)
    world.run(67.0)

    beats = [float(line.split()[0]) for line in lines if "HeartbeatDue" in line]
    assert beats == [0.0, 66.0, 66.0]  # the one that was due at 30 s, late, and the one at 60 s


class Spins(Node):
    """Sets an alarm for this very moment, again and again."""

    def step(self, happened: inputs.Input, now: Now) -> list[Effect]:
        return [effects.Dial("ws://nobody:1")] if isinstance(happened, inputs.Started | inputs.DialFailed) else []


def test_a_node_that_spins_is_found() -> None:
    world, _, _ = one(Spins)

    with pytest.raises(Violation, match="spins"):
        world.run(10.0)


def test_only_the_last_alarm_sounds() -> None:
    class Alarmed(Node):
        def step(self, happened: inputs.Input, now: Now) -> list[Effect]:
            if isinstance(happened, inputs.Started):
                return [effects.Alarm(now.mono_s + 5.0), effects.Alarm(now.mono_s + 7.0)]
            return []

    world, _, lines = one(Alarmed)
    world.run(20.0)

    assert [line.split()[0] for line in lines if "AlarmDue" in line] == ["7.0000"]


def test_events_of_an_unknown_kind_are_not_lost_in_silence() -> None:
    world, host, _ = one(Counts)

    with pytest.raises(AssertionError, match="no disk keeps"):
        host.disk.apply(Emit("x", {}))  # type: ignore[arg-type]  # what no disk keeps
    assert world.steps


def test_a_stop_that_ends_before_its_time_holds_nothing_back() -> None:
    world, host, lines = one(Counts)
    world.run(1.0)
    world.stall(host, 200.0)
    world.run(70.0)
    world.wake(host)
    world.run(71.0)

    beats = [float(line.split()[0]) for line in lines if "HeartbeatDue" in line]
    assert beats == [0.0, 70.0, 70.0]


def test_a_restored_database_is_what_it_was() -> None:
    world, host, _ = one(Counts)
    world.run(10.0)
    copy = deepcopy(host.disk)
    world.run(1000.0)
    assert host.disk.seqs == {"x": 4}
    world.restore(host, copy)

    assert host.node is not None
    assert host.disk.seqs == {"x": 1}
