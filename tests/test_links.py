"""The promises of a link, kept by both networks; then what only the network in memory can do."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise

import pytest
import trio
from attrs import Factory, define
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from meshd.errors import DialError, LinkClosed
from meshd.links import CLOSE_S, DIAL_S, MAX_IN_FLIGHT, Link, MemoryNetwork, Network
from meshd.sockets import bind_socket
from meshd.websocket import WebSocketNetwork

A, B = "ws://a:4444", "ws://b:4444"


@define(eq=False)
class World:
    """A host that serves at `url` and one that dials it."""

    server: Network
    client: Network
    url: str


@define(eq=False)
class Pair:
    """Both ends of one open link."""

    near: Link
    far: Link


def _memory_world() -> Iterator[World]:
    network = MemoryNetwork()
    yield World(network.host(A), network.host(B), A)


def _websocket_world() -> Iterator[World]:
    with bind_socket("127.0.0.1", 0) as listening:
        url = f"ws://127.0.0.1:{listening.getsockname()[1]}"
        yield World(WebSocketNetwork([listening]), WebSocketNetwork(), url)


@pytest.fixture(params=[_memory_world, _websocket_world], ids=["memory", "websocket"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    make: Callable[[], Iterator[World]] = request.param
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_fail_when_hung)
        for made in make():
            yield made
        nursery.cancel_scope.cancel()


@pytest.fixture
def fast_clock() -> MockClock:
    """Ten virtual seconds a second: deadlines pass quickly, and sockets still have the time they need."""
    return MockClock(rate=10)


@pytest.fixture
async def pair(world: World) -> AsyncIterator[Pair]:
    accepted = Accepted()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(world.server.serve, accepted.accept))
        async with world.client.dial(world.url) as near:
            yield Pair(near, await accepted.next())
        nursery.cancel_scope.cancel()


@define(eq=False)
class Accepted:
    """Keeps the links that a server accepts open, and hands them out."""

    channels: tuple[trio.MemorySendChannel[Link], trio.MemoryReceiveChannel[Link]] = Factory(
        lambda: trio.open_memory_channel[Link](math.inf)
    )

    async def accept(self, link: Link) -> None:
        self.channels[0].send_nowait(link)
        await trio.sleep_forever()

    async def next(self) -> Link:
        return await self.channels[1].receive()


async def _fail_when_hung(limit_s: float = 20) -> None:
    await trio.sleep(limit_s)
    raise AssertionError("the test hangs")


async def _frames(link: Link) -> tuple[list[str | bytes], tuple[int, str]]:
    """Everything that arrives until the link ends, and how it ends."""
    frames: list[str | bytes] = []
    try:
        while True:
            frames.append(await link.receive())
    except LinkClosed as closed:
        return frames, (closed.code, closed.reason)


async def _code(link: Link) -> int:
    """The code with which every call on an ended link is refused."""
    codes = set()
    for call in (link.receive, partial(link.send, b"{}"), link.ping):
        with pytest.raises(LinkClosed) as caught:
            await call()
        codes.add(caught.value.code)
    assert len(codes) == 1
    return codes.pop()


async def _send_for_ever(link: Link, sent: list[int]) -> None:
    while True:
        await link.send(b"x" * 100_000)
        sent.append(len(sent))


async def _send_until_closed(link: Link, code: int) -> None:
    with pytest.raises(LinkClosed) as caught:
        await _send_for_ever(link, [])
    assert caught.value.code == code


# Frames


async def test_frames_arrive_whole_and_in_order_both_ways(pair: Pair) -> None:
    for link, other in ((pair.near, pair.far), (pair.far, pair.near)):
        sent = ["{}", "", "grüße, 漢字, 🕸", '{"type":"heartbeat"}']
        for frame in sent:
            await link.send(frame.encode())
        assert sent == [await other.receive() for _ in sent]


async def test_a_frame_of_two_mebibytes_arrives(pair: Pair) -> None:
    frame = "ä" * (1024 * 1024)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.near.send, frame.encode())
        assert frame == await pair.far.receive()


async def test_a_peer_that_does_not_read_makes_the_sender_wait_and_loses_nothing(pair: Pair) -> None:
    sent: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_for_ever, pair.near, sent)
        await wait_all_tasks_blocked(0.02)
        blocked_at = len(sent)
        assert MAX_IN_FLIGHT <= blocked_at < 1000
        for _ in range(2 * blocked_at):
            assert len(await pair.far.receive()) == 100_000
        assert len(sent) > blocked_at
        nursery.cancel_scope.cancel()


async def test_both_sides_can_send_much_at_once(pair: Pair) -> None:
    async def send(link: Link) -> None:
        for number in range(300):
            await link.send(str(number).encode())

    async with trio.open_nursery() as nursery:
        for link, other in ((pair.near, pair.far), (pair.far, pair.near)):
            nursery.start_soon(send, link)
            nursery.start_soon(_expect, other, [str(number) for number in range(300)])


async def _expect(link: Link, frames: list[str]) -> None:
    assert frames == [await link.receive() for _ in frames]


# Pings


async def test_a_ping_returns_when_the_other_side_reads(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_frames, pair.near)
        nursery.start_soon(_frames, pair.far)
        await pair.near.ping()
        await pair.far.ping()
        nursery.cancel_scope.cancel()


async def test_a_ping_that_is_cancelled_is_harmless(pair: Pair) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await pair.near.ping()
    await pair.near.send(b"{}")
    assert await pair.far.receive() == "{}"


async def test_a_ping_that_is_not_answered_waits_and_ends_with_the_link(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_until_closed, pair.near, 1006)  # nobody reads, so nobody answers
        await wait_all_tasks_blocked(0.02)
        nursery.start_soon(_expect_ping_to_end, pair.near, 1006)
        await wait_all_tasks_blocked(0.02)
        assert len(nursery.child_tasks) == 2
        pair.far.abort()


async def _expect_ping_to_end(link: Link, code: int) -> None:
    with pytest.raises(LinkClosed) as caught:
        await link.ping()
    assert caught.value.code == code


# Ends


async def test_a_close_arrives_after_the_frames_sent_before_it(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:

        async def leave() -> None:
            for number in range(50):
                await pair.near.send(str(number).encode())
            await pair.near.close(1001, "leaving: tschüß")

        nursery.start_soon(leave)
        frames, end = await _frames(pair.far)
    assert frames == [str(number) for number in range(50)]
    assert end == (1001, "leaving: tschüß")
    assert await _code(pair.far) == 1001
    assert await _code(pair.near) == 1001


@pytest.mark.parametrize("code", [1002, 4401, 4403, 4406, 4408, 4409, 4410, 4420])
async def test_either_side_can_close_with_any_code_of_the_wire(pair: Pair, code: int) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.far.close, code, "because")
        assert await _frames(pair.near) == ([], (code, "because"))


async def test_a_reason_that_is_too_long_is_cut(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.far.close, 4406, "ü" * 100)
        _, (code, reason) = await _frames(pair.near)
    assert code == 4406
    assert reason == "ü" * 61


async def test_two_closes_at_once_both_end_without_waiting(pair: Pair) -> None:
    started_at = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.near.close, 1001, "near")
        nursery.start_soon(pair.far.close, 4408, "far")
    assert trio.current_time() < started_at + CLOSE_S / 2
    assert (await _code(pair.near), await _code(pair.far)) in {(1001, 4408), (1001, 1001), (4408, 4408)}


async def test_a_close_wakes_the_task_that_receives(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_frames, pair.far)
        await wait_all_tasks_blocked()
        nursery.start_soon(_frames, pair.near)
        await wait_all_tasks_blocked()
        await pair.near.close(1001, "leaving")


async def test_closing_and_aborting_a_link_that_has_ended_does_nothing(pair: Pair) -> None:
    pair.far.abort()
    assert await _code(pair.near) == 1006
    await pair.near.close(1001, "leaving")
    pair.near.abort()
    await pair.near.close(1001, "leaving")
    assert await _code(pair.near) == 1006


async def test_an_abort_shows_as_1006_on_both_sides(pair: Pair) -> None:
    pair.near.abort()
    assert await _code(pair.near) == 1006
    assert await _code(pair.far) == 1006


@pytest.mark.parametrize("by_whom", ["near", "far"])
async def test_an_abort_frees_a_blocked_sender(pair: Pair, by_whom: str) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_until_closed, pair.near, 1006)
        await wait_all_tasks_blocked(0.02)
        getattr(pair, by_whom).abort()


async def test_a_close_to_a_peer_that_does_not_read_is_bounded(fast_clock: MockClock, pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_until_closed, pair.near, 1001)
        await wait_all_tasks_blocked(0.02)
        started_at = trio.current_time()
        await pair.near.close(1001, "leaving")
    assert trio.current_time() < started_at + CLOSE_S + 1
    assert await _code(pair.near) == 1001


async def test_a_send_that_is_cancelled_ends_the_link(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_for_ever, pair.near, [])
        await wait_all_tasks_blocked(0.02)
        nursery.cancel_scope.cancel()
    assert await _code(pair.near) == 1006
    _, (code, _) = await _frames(pair.far)
    assert code == 1006


# Networks


async def test_a_dial_is_refused_when_nobody_serves(world: World) -> None:
    if isinstance(world.server, WebSocketNetwork):
        with socket.socket() as bound:  # bound and not listening: nobody else can take the port meanwhile
            bound.bind(("127.0.0.1", 0))
            world.url = f"ws://127.0.0.1:{bound.getsockname()[1]}"
            await _expect_refused(world)
    else:
        await _expect_refused(world)


async def _expect_refused(world: World) -> None:
    with pytest.raises(DialError) as caught:
        async with world.client.dial(world.url):
            raise AssertionError("nobody serves")
    assert str(caught.value) == "connection refused"


async def test_a_dialled_link_ends_with_its_block(world: World) -> None:
    accepted = Accepted()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(world.server.serve, accepted.accept))
        async with world.client.dial(world.url) as near:
            await near.send(b"{}")
            far = await accepted.next()
            assert await far.receive() == "{}"
        assert await _code(far) == 1006
        assert await _code(near) == 1006
        nursery.cancel_scope.cancel()


async def test_what_the_block_of_a_dial_raises_leaves_it_unchanged(world: World) -> None:
    accepted = Accepted()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(world.server.serve, accepted.accept))
        with pytest.raises(KeyError, match="mine") as caught:
            async with world.client.dial(world.url):
                raise KeyError("mine") from ValueError("the cause")
        assert isinstance(caught.value.__cause__, ValueError)
        nursery.cancel_scope.cancel()


async def test_an_accepted_link_ends_with_its_call(world: World) -> None:
    async def accept(link: Link) -> None:
        await link.send(link.address.encode())

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(world.server.serve, accept))
        async with world.client.dial(world.url) as near:
            frames, (code, _) = await _frames(near)
            assert code == 1006
            assert near.address == world.url
        assert len(frames) <= 1
        nursery.cancel_scope.cancel()


async def test_a_crash_of_accept_is_not_hidden(world: World) -> None:
    async def accept(link: Link) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("a bug")

    with pytest.RaisesGroup(pytest.RaisesExc(KeyError, match="a bug"), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(world.server.serve, accept))
            async with world.client.dial(world.url) as near:
                await _frames(near)
                await trio.sleep_forever()


async def test_a_server_that_is_cancelled_takes_its_links_along(world: World) -> None:
    accepted = Accepted()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(world.server.serve, accepted.accept))
        async with world.client.dial(world.url) as near:
            await accepted.next()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                assert await _code(near) == 1006
    await _expect_refused(world)


async def test_many_links_of_one_server_do_not_mix(world: World) -> None:
    async def echo(link: Link) -> None:
        frame = await link.receive()
        assert isinstance(frame, str)
        await link.send(frame.encode())
        await _frames(link)

    async def ask(number: int) -> None:
        async with world.client.dial(world.url) as link:
            await link.send(f"number {number}".encode())
            assert await link.receive() == f"number {number}"
            await link.close(1000, "done")

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(world.server.serve, echo))
        async with trio.open_nursery() as asking:
            for number in range(60):
                asking.start_soon(ask, number)
        nursery.cancel_scope.cancel()


# What only the network in memory can do; all of it in virtual time


@define(eq=False)
class Simulated:
    network: MemoryNetwork
    near: Link
    far: Link


@pytest.fixture
async def simulated() -> AsyncIterator[Simulated]:
    network = MemoryNetwork()
    accepted = Accepted()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_fail_when_hung, 100_000)
        await nursery.start(network.host(A).serve, accepted.accept)
        async with network.host(B).dial(A) as near:
            yield Simulated(network, near, await accepted.next())
        nursery.cancel_scope.cancel()


async def test_a_delay_holds_for_one_direction(autojump_clock: MockClock, simulated: Simulated) -> None:
    simulated.network.delay(B, A, 1.5)
    await simulated.near.send(b"slow")
    await simulated.far.send(b"fast")
    assert await simulated.near.receive() == "fast"
    assert trio.current_time() == 0
    assert await simulated.far.receive() == "slow"
    assert trio.current_time() == 1.5
    await simulated.far.ping()
    assert trio.current_time() == 3.0


async def test_a_dial_takes_the_way_there_and_back(autojump_clock: MockClock, simulated: Simulated) -> None:
    simulated.network.delay(B, A, 1.0)
    simulated.network.delay(A, B, 0.5)
    async with simulated.network.host(B).dial(A):
        assert trio.current_time() == 1.5
    with pytest.raises(DialError, match="connection refused"):
        async with simulated.network.host(A).dial(B):
            raise AssertionError("nobody serves")
    assert trio.current_time() == 3.0


async def test_a_partition_delays_and_loses_nothing(autojump_clock: MockClock, simulated: Simulated) -> None:
    simulated.network.partition(A, B)
    for number in range(MAX_IN_FLIGHT):
        await simulated.near.send(str(number).encode())
    with trio.move_on_after(60) as scope:
        await simulated.far.receive()
    assert scope.cancelled_caught
    simulated.network.heal(A, B)
    await _expect(simulated.far, [str(number) for number in range(MAX_IN_FLIGHT)])
    await simulated.near.ping()


async def test_a_ping_within_a_partition_comes_back_after_it(autojump_clock: MockClock, simulated: Simulated) -> None:
    simulated.network.partition(A, B)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(simulated.near.ping)
        await trio.sleep(30)
        assert nursery.child_tasks
        simulated.network.heal(B, A)


async def test_a_close_within_a_partition_is_seen_after_it(autojump_clock: MockClock, simulated: Simulated) -> None:
    simulated.network.partition(A, B)
    await simulated.near.close(1001, "leaving")
    assert trio.current_time() == CLOSE_S
    with trio.move_on_after(60) as scope:
        await _frames(simulated.far)
    assert scope.cancelled_caught
    simulated.network.heal(A, B)
    assert await _frames(simulated.far) == ([], (1001, "leaving"))


async def test_a_dial_into_a_partition_fails_in_time(autojump_clock: MockClock, simulated: Simulated) -> None:
    simulated.network.partition(A, B)
    with pytest.raises(DialError, match="no answer within 10 s"):
        async with simulated.network.host(B).dial(A):
            raise AssertionError("nobody can answer")
    assert trio.current_time() == DIAL_S
    simulated.network.heal(A, B)
    async with simulated.network.host(B).dial(A) as link:
        await link.ping()


async def test_what_is_dropped_in_one_direction_is_lost(autojump_clock: MockClock, simulated: Simulated) -> None:
    simulated.network.drop(B, A)
    for _ in range(10 * MAX_IN_FLIGHT):
        await simulated.near.send(b"lost")
    await simulated.far.send(b"heard")
    assert await simulated.near.receive() == "heard"
    with trio.move_on_after(60) as scope:
        await simulated.near.ping()
    assert scope.cancelled_caught
    simulated.network.heal(A, B)
    await simulated.near.send(b"found")
    assert await simulated.far.receive() == "found"


async def test_a_half_open_link_swallows_everything_without_a_sign(
    autojump_clock: MockClock, simulated: Simulated
) -> None:
    await simulated.near.send(b"in flight")
    simulated.network.half_open(A, B)
    for _ in range(10 * MAX_IN_FLIGHT):
        await simulated.near.send(b"swallowed")
        await simulated.far.send(b"swallowed")
    for call in (simulated.near.receive, simulated.far.receive, simulated.near.ping, simulated.far.ping):
        with trio.move_on_after(60) as scope:
            await call()
        assert scope.cancelled_caught
    simulated.near.abort()
    with trio.move_on_after(60) as scope:
        await simulated.far.receive()
    assert scope.cancelled_caught
    async with simulated.network.host(B).dial(A) as link:
        await link.ping()


async def test_a_cut_ends_both_sides_at_once_and_loses_what_is_in_flight(
    autojump_clock: MockClock, simulated: Simulated
) -> None:
    simulated.network.delay(B, A, 5)
    await simulated.near.send(b"in flight")
    async with trio.open_nursery() as nursery:
        for link in (simulated.near, simulated.far):
            nursery.start_soon(_expect_end, link, 1006)
        await wait_all_tasks_blocked()
        simulated.network.cut(A, B)
    assert trio.current_time() == 0
    async with simulated.network.host(B).dial(A) as link:
        await link.ping()


async def _expect_end(link: Link, code: int) -> None:
    assert (await _frames(link))[1][0] == code


async def test_two_closes_that_cross_end_with_their_own_codes(autojump_clock: MockClock, simulated: Simulated) -> None:
    simulated.network.delay(B, A, 0.5)
    simulated.network.delay(A, B, 0.5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(simulated.near.close, 1001, "near")
        nursery.start_soon(simulated.far.close, 4408, "far")
    assert trio.current_time() == 0.5
    assert await _code(simulated.near) == 1001
    assert await _code(simulated.far) == 4408


async def test_a_close_takes_the_way_there_and_back(autojump_clock: MockClock, simulated: Simulated) -> None:
    simulated.network.delay(B, A, 0.5)
    simulated.network.delay(A, B, 0.25)
    await simulated.near.close(1001, "leaving")
    assert trio.current_time() == 0.75


async def test_a_close_does_not_overtake_a_slower_frame(autojump_clock: MockClock, simulated: Simulated) -> None:
    simulated.network.delay(B, A, 5)
    await simulated.near.send(b"slow")
    simulated.network.delay(B, A, 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(simulated.near.close, 1001, "leaving")
        await trio.sleep(1)
        await simulated.far.send(b"not closed yet")
        assert await _frames(simulated.far) == (["slow"], (1001, "leaving"))
    assert trio.current_time() == 5


async def test_an_abort_loses_what_is_in_flight(autojump_clock: MockClock, simulated: Simulated) -> None:
    simulated.network.delay(B, A, 1)
    await simulated.near.send(b"in flight")
    simulated.near.abort()
    assert await _frames(simulated.far) == ([], (1006, ""))
    assert trio.current_time() == 1


async def test_a_blocked_sender_learns_of_the_end_when_it_arrives(
    autojump_clock: MockClock, simulated: Simulated
) -> None:
    simulated.network.delay(A, B, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_until_closed, simulated.near, 1006)
        await wait_all_tasks_blocked()
        simulated.far.abort()
    assert trio.current_time() == 1


async def test_a_dial_that_gives_up_leaves_no_link_behind(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    network.delay(A, B, 60)
    accepted = Accepted()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_fail_when_hung, 100_000)
        await nursery.start(network.host(A).serve, accepted.accept)
        with pytest.raises(DialError, match="no answer"):
            async with network.host(B).dial(A):
                raise AssertionError("the answer takes too long")
        assert await _code(await accepted.next()) == 1006
        nursery.cancel_scope.cancel()


async def test_a_frame_does_not_overtake_when_a_delay_shrinks(autojump_clock: MockClock, simulated: Simulated) -> None:
    simulated.network.delay(B, A, 5)
    await simulated.near.send(b"first")
    simulated.network.delay(B, A, 1)
    await simulated.near.send(b"second")
    await _expect(simulated.far, ["first", "second"])
    assert trio.current_time() == 5


async def test_an_hour_of_heartbeats_takes_no_time(autojump_clock: MockClock, simulated: Simulated) -> None:
    simulated.network.delay(A, B, 0.02)
    for _ in range(120):
        await simulated.far.send(b"{}")
        await simulated.near.receive()
        await trio.sleep(30)
    assert trio.current_time() >= 3600


_faults = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 20)),
        st.tuples(st.just("sleep"), st.sampled_from([0.1, 1.0, 10.0])),
        st.tuples(st.just("delay"), st.sampled_from([0.0, 0.5, 3.0])),
        st.tuples(st.just("partition"), st.none()),
        st.tuples(st.just("heal"), st.none()),
    ),
    max_size=30,
)


@given(_faults)
def test_whatever_happens_to_the_path_frames_arrive_once_and_in_order(faults: list[tuple[str, float | None]]) -> None:
    received, sent, arrived_at = trio.run(_live_through, faults, clock=MockClock(autojump_threshold=0))
    assert received == [str(number) for number in range(sent)]
    assert all(earlier <= later for earlier, later in pairwise(arrived_at))


async def _live_through(faults: list[tuple[str, float | None]]) -> tuple[list[str | bytes], int, list[float]]:
    network = MemoryNetwork()
    received: list[str | bytes] = []
    arrived_at: list[float] = []
    sent = 0

    async def accept(link: Link) -> None:
        with suppress(LinkClosed):
            while True:
                received.append(await link.receive())
                arrived_at.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        await nursery.start(network.host(A).serve, accept)
        async with network.host(B).dial(A) as link:
            for fault, value in faults:
                match fault:
                    case "send":
                        for _ in range(min(int(value or 0), MAX_IN_FLIGHT - (sent - len(received)))):
                            await link.send(str(sent).encode())
                            sent += 1
                    case "sleep":
                        await trio.sleep(value or 0)
                    case "delay":
                        network.delay(B, A, value or 0)
                    case "partition":
                        network.partition(A, B)
                    case "heal":
                        network.heal(A, B)
            network.heal(A, B)
            await trio.sleep(60)
            await link.close(1000, "done")
        nursery.cancel_scope.cancel()
    return received, sent, arrived_at
