"""Links as TCP and a WebSocket have them: order, silence, ends, dials."""

from __future__ import annotations

from random import Random

from meshd.configuration import Configuration
from meshd.core import inputs, messages
from meshd.core.effects import Effect
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.core.stored import Stored
from meshd.model import Now
from meshd.simulation import meshes
from meshd.simulation.host import Host
from meshd.simulation.network import DIAL_WITHIN_S, PING_EVERY_S, PONG_WITHIN_S
from meshd.simulation.world import World

GOODBYE = messages.Goodbye("x", messages.UtcMs(0))


class Listener(Node):
    """Notes what it is told and asks for nothing."""

    def __init__(self, configuration: Configuration, birth: Birth, stored: Stored) -> None:
        super().__init__(configuration, birth, stored)
        self.heard: list[tuple[float, inputs.Input]] = []

    def step(self, happened: inputs.Input, now: Now) -> list[Effect]:
        self.heard.append((now.mono_s, happened))
        return []


def two() -> tuple[World, Host, Host]:
    world = World(Random(1), meshes.draw(Random(1), 2), make_node=Listener)
    for host in world.hosts:
        host.mono_shift_s = 0.0
        world.start(host)
    return world, world.hosts[0], world.hosts[1]


def heard(host: Host, kind: type[inputs.Input]) -> list[inputs.Input]:
    assert isinstance(host.node, Listener)
    return [happened for _, happened in host.node.heard if isinstance(happened, kind)]


def at_s(host: Host, kind: type[inputs.Input]) -> float:
    assert isinstance(host.node, Listener)
    return next(time_s for time_s, happened in host.node.heard if isinstance(happened, kind))


def linked() -> tuple[World, Host, Host]:
    world, one, other = two()
    world.network.dial(one, other.url, 0.0)
    world.run(1.0)
    assert heard(one, inputs.LinkUp)
    assert heard(other, inputs.LinkUp)
    return world, one, other


def numbered(number: int) -> messages.Ack:
    return messages.Ack("x", number)


def received(host: Host) -> list[messages.Message]:
    return [each.message for each in heard(host, inputs.Received) if isinstance(each, inputs.Received)]


def test_frames_of_a_link_keep_their_order_whatever_the_latency() -> None:
    world, one, other = linked()
    for number in range(50):
        one.extra_latency_s = world.chance.random() * 3
        one.loss = 0.3
        world.network.send(one, 1, numbered(number))
    world.run(300.0)

    assert received(other) == [numbered(number) for number in range(50)]


def test_on_a_cut_way_frames_wait() -> None:
    world, one, other = linked()
    world.network.cut([(0, 1)])
    world.network.send(one, 1, GOODBYE)
    world.run(10.0)
    assert not received(other)
    world.network.join([(0, 1)])
    world.run(15.0)

    assert received(other) == [GOODBYE]
    assert not heard(one, inputs.LinkDown)


def test_a_silent_link_is_given_up_by_both_ends() -> None:
    world, one, other = linked()
    world.network.cut([(0, 1), (1, 0)])
    world.run(100.0)

    for host in (one, other):
        assert 1.0 + PONG_WITHIN_S <= at_s(host, inputs.LinkDown) <= 1.0 + PONG_WITHIN_S + PING_EVERY_S


def test_who_is_killed_resets_its_links() -> None:
    world, one, other = linked()
    world.end(one)
    world.run(1.5)

    assert at_s(other, inputs.LinkDown) < 1.5


def test_who_loses_its_power_tells_nobody() -> None:
    world, one, other = linked()
    world.end(one, has_power=False)
    world.run(15.0)
    assert not heard(other, inputs.LinkDown)
    world.start(one)
    world.run(20.0)

    assert at_s(other, inputs.LinkDown) > 15.0


def test_a_hang_up_comes_after_what_was_sent() -> None:
    world, one, other = linked()
    world.network.send(one, 1, GOODBYE)
    world.network.hang_up(one, 1, 1001, "bye")
    world.network.send(one, 1, GOODBYE)
    world.run(2.0)

    assert received(other) == [GOODBYE]
    assert heard(other, inputs.LinkDown) == [inputs.LinkDown(1, 1001, "bye")]
    assert heard(one, inputs.LinkDown) == [inputs.LinkDown(1, 1001, "bye")]


def test_a_dial_is_refused_at_once_where_nothing_listens() -> None:
    world, one, other = two()
    world.end(other)
    world.network.dial(one, other.url, 0.0)
    world.run(1.0)

    assert heard(one, inputs.DialFailed) == [inputs.DialFailed(other.url, "connection refused")]


def test_a_dial_into_a_partition_takes_its_time() -> None:
    world, one, other = two()
    world.network.cut([(0, 1)])
    world.network.dial(one, other.url, 0.0)
    world.run(60.0)

    assert at_s(one, inputs.DialFailed) == DIAL_WITHIN_S


def test_a_url_is_dialled_once_at_a_time() -> None:
    world, one, other = two()
    for _ in range(3):
        world.network.dial(one, other.url, 0.0)
    world.run(1.0)

    assert len(heard(one, inputs.LinkUp)) == 1


def test_a_stopped_process_hears_later_what_came_meanwhile() -> None:
    world, one, other = linked()
    world.stall(other, 5.0)
    world.network.send(one, 1, numbered(1))
    world.network.send(one, 1, numbered(2))
    world.run(5.9)
    assert not received(other)
    world.run(6.5)

    assert received(other) == [numbered(1), numbered(2)]


def test_a_reset_loses_what_is_on_its_way() -> None:
    world, one, other = linked()
    world.network.send(one, 1, GOODBYE)
    world.network.reset(one.ways[1])
    world.run(2.0)

    assert not received(other)
    assert heard(one, inputs.LinkDown)
    assert heard(other, inputs.LinkDown)
