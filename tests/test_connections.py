"""The links of one instance, over a network in memory: raw peers at the other ends, a plain list as the driver."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from random import Random
from typing import NoReturn, TypeVar

import pytest
import trio
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from meshd.connections import (
    CLOSE_WITHIN_S,
    OUTBOX_BYTES,
    OUTBOX_FRAMES,
    PING_EVERY_S,
    PONG_WITHIN_S,
    SEND_WITHIN_S,
    Connections,
)
from meshd.core.inputs import DialFailed, Input, LatencyMeasured, LinkDown, LinkUp, Received
from meshd.core.messages import Ignored
from meshd.errors import LinkClosed
from meshd.links import MAX_IN_FLIGHT, Accept, Link, MemoryNetwork, Network

HERE, THERE, ELSEWHERE = "ws://here:4444", "ws://there:4444", "ws://elsewhere:4444"

Kind = TypeVar("Kind")


def frame(number: int) -> bytes:
    return b'{"type":"%d"}' % number


@define(eq=False)
class Inbox:
    """What the driver was given, in order. `put_s` is how long it lets everybody wait."""

    inputs: list[Input] = field(factory=list)
    changed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    at_s: list[float] = field(factory=list)
    put_s: float = 0.0
    crashes_on: str | None = None

    async def put(self, happened: Input) -> None:
        await trio.sleep(self.put_s)
        if isinstance(happened, Received) and happened.message == Ignored(self.crashes_on or "nothing"):
            raise ZeroDivisionError("a bug met on one link")
        self.inputs.append(happened)
        self.at_s.append(trio.current_time())
        self.changed.unpark_all()

    def of(self, kind: type[Kind], link: int = 1) -> list[Kind]:
        """All inputs of one class that are about this link."""
        return [one for one in self.inputs if isinstance(one, kind) and getattr(one, "link", link) == link]

    def numbers(self, link: int = 1) -> list[int]:
        """The numbers of the frames received on a link."""
        messages = [received.message for received in self.of(Received, link)]
        return [int(message.type) for message in messages if isinstance(message, Ignored)]

    def end(self, link: int = 1) -> tuple[int, str] | None:
        """How a link ended; None while it has not."""
        downs = self.of(LinkDown, link)
        assert len(downs) <= 1
        return (downs[0].code, downs[0].reason) if downs else None


@define(eq=False)
class Here:
    """This instance's connections, its inbox and its network."""

    connections: Connections
    inbox: Inbox
    network: MemoryNetwork

    @asynccontextmanager
    async def peer(self, url: str = THERE) -> AsyncIterator[Link]:
        """A peer that dials here, and reads and sends only what a test lets it; its link is up."""
        async with self.network.host(url).dial(HERE) as link:
            await wait_all_tasks_blocked()
            yield link

    async def ended(self, link: int = 1) -> tuple[int, str]:
        """Wait until a link is down; returns how."""
        while (end := self.inbox.end(link)) is None:
            await self.inbox.changed.park()
        return end


@asynccontextmanager
async def instance(network: Network | None = None) -> AsyncIterator[Here]:
    """Connections that listen at HERE and may dial."""
    world = MemoryNetwork()
    inbox = Inbox()
    connections = Connections(network or world.host(HERE), inbox.put, Random(7))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_fail_when_hung)
        await nursery.start(connections.run)
        await nursery.start(world.host(HERE).serve, connections.accept)
        yield Here(connections, inbox, world)
        nursery.cancel_scope.cancel()


async def _fail_when_hung() -> None:
    await trio.sleep(7200)
    raise AssertionError("the test hangs")


async def read(link: Link) -> tuple[list[str | bytes], tuple[int, str]]:
    """Everything that arrives at a peer until its link ends, and how it ends."""
    frames: list[str | bytes] = []
    try:
        while True:
            frames.append(await link.receive())
    except LinkClosed as closed:
        return frames, (closed.code, closed.reason)


# A link's life


async def test_a_link_comes_up_is_heard_and_goes(autojump_clock: MockClock) -> None:
    async with instance() as here, here.peer() as peer:
        await peer.send(frame(1))
        await peer.send(b"no message")
        await trio.sleep(1)
        await peer.close(1001, "bye")
        assert await here.ended() == (1001, "bye")
    assert here.inbox.inputs[0] == LinkUp(1, THERE, None)
    assert here.inbox.numbers() == [1]
    assert len(here.inbox.of(Received)) == 2, "a frame that is no message is handed in too"
    assert here.inbox.inputs[-1] == LinkDown(1, 1001, "bye")


async def test_frames_keep_their_order_both_ways(autojump_clock: MockClock) -> None:
    async with instance() as here, here.peer() as peer:
        for number in range(1000):
            here.connections.send((1,), frame(number))
            await peer.send(frame(number))
            assert await peer.receive() == frame(number).decode()
        await wait_all_tasks_blocked()
        assert here.inbox.numbers() == list(range(1000))


async def test_a_slow_link_delays_no_other(autojump_clock: MockClock) -> None:
    async with instance() as here, here.peer() as slow, here.peer(ELSEWHERE) as quick:
        begun_s = trio.current_time()
        for number in range(5 * MAX_IN_FLIGHT):
            here.connections.send((1, 2), frame(number))
        for number in range(5 * MAX_IN_FLIGHT):
            assert await quick.receive() == frame(number).decode()
        assert trio.current_time() == begun_s
        assert await slow.receive() == frame(0).decode()


async def test_numbers_are_never_used_again(autojump_clock: MockClock) -> None:
    async with instance() as here:
        for link in range(1, 6):
            async with here.peer() as peer:
                await peer.close(1001, "")
            await here.ended(link)
    assert [up.link for up in here.inbox.inputs if isinstance(up, LinkUp)] == [1, 2, 3, 4, 5]


async def test_what_comes_before_the_end_is_handed_in_before_it(autojump_clock: MockClock) -> None:
    """A peer says goodbye and closes while we are slow and have something to send: the goodbye counts (I10)."""
    async with instance() as here, here.peer() as peer:
        await trio.sleep(1)
        here.inbox.put_s = 0.1
        for number in range(20):
            await peer.send(frame(number))
        await peer.close(1001, "draining")
        await wait_all_tasks_blocked()
        here.connections.send((1,), frame(0))
        assert await here.ended() == (1001, "draining")
        assert here.inbox.numbers() == list(range(20))


async def test_hanging_up_on_a_peer_that_has_just_left_takes_no_time(autojump_clock: MockClock) -> None:
    """The whole mesh is stopped at once: nobody waits for those that are gone."""
    async with instance() as here, here.peer() as peer:
        await trio.sleep(1)
        here.inbox.put_s = 0.1
        for number in range(5):
            await peer.send(frame(number))
        await peer.close(1001, "draining")
        await wait_all_tasks_blocked()
        here.connections.send((1,), frame(0))
        await wait_all_tasks_blocked()
        here.connections.hang_up(1, 1001, "draining")
        with trio.fail_after(1):
            assert await here.ended() == (1001, "draining")
        assert here.inbox.numbers() == list(range(5))


# Too slow


async def test_an_outbox_with_too_many_frames_ends_its_link(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with instance() as here, here.peer() as peer, here.peer(ELSEWHERE) as other:
        for _ in range(OUTBOX_FRAMES):
            here.connections.send((1,), frame(0))
        assert here.inbox.end() is None
        assert not caplog.records
        here.connections.send((1, 2), frame(1))
        assert len(caplog.records) == 1
        here.connections.send((1,), frame(2))
        assert await here.ended() == (4408, "its outbox is full")
        _, (code, _) = await read(peer)
        assert code == 1006
        assert await other.receive() == frame(1).decode()
    assert [record.getMessage() for record in caplog.records] == [f"{THERE} reads too slowly: hanging up"]


async def test_an_outbox_with_too_many_bytes_ends_its_link(autojump_clock: MockClock) -> None:
    large = b'{"type":"large","data":"%s"}' % (b"x" * (OUTBOX_BYTES // 8))
    async with instance() as here, here.peer():
        for _ in range(7):
            here.connections.send((1,), large)
        await wait_all_tasks_blocked()
        assert here.inbox.end() is None
        for _ in range(8):
            here.connections.send((1,), large)
        assert await here.ended() == (4408, "its outbox is full")


async def test_what_was_read_makes_room_in_the_outbox(autojump_clock: MockClock) -> None:
    large = b'{"type":"large","data":"%s"}' % (b"x" * (OUTBOX_BYTES // 8))
    async with instance() as here, here.peer() as peer:
        for _ in range(20):
            here.connections.send((1,), large)
            await peer.receive()
        assert here.inbox.end() is None


async def test_a_send_that_is_blocked_ends_its_link(autojump_clock: MockClock) -> None:
    async with instance() as here, here.peer():
        await trio.sleep(1)
        begun_s = trio.current_time()
        for number in range(MAX_IN_FLIGHT + 1):
            here.connections.send((1,), frame(number))
        assert await here.ended() == (4408, "a send was blocked for 10 s")
        assert trio.current_time() - begun_s == pytest.approx(SEND_WITHIN_S)


async def test_a_peer_that_reads_slowly_but_reads_stays(autojump_clock: MockClock) -> None:
    async with instance() as here, here.peer() as peer:
        for number in range(3 * MAX_IN_FLIGHT):
            here.connections.send((1,), frame(number))
        for number in range(3 * MAX_IN_FLIGHT):
            await trio.sleep(SEND_WITHIN_S * 0.9)
            assert await peer.receive() == frame(number).decode()
            await peer.send(frame(number))
        assert here.inbox.end() is None


# Silence


async def test_a_link_is_pinged_and_its_round_trip_timed(autojump_clock: MockClock) -> None:
    async with instance() as here:
        here.network.delay(HERE, THERE, 0.03)
        here.network.delay(THERE, HERE, 0.02)
        async with here.peer():
            await trio.sleep(61)
            measured = here.inbox.of(LatencyMeasured)
            assert len(measured) == pytest.approx(61 / PING_EVERY_S, abs=1)
            assert all(one.latency_ms == pytest.approx(50) for one in measured)


async def test_a_link_that_falls_silent_is_aborted(autojump_clock: MockClock) -> None:
    async with instance() as here, here.peer() as peer:
        await trio.sleep(25)
        await peer.send(frame(1))
        heard_s = trio.current_time()
        here.network.half_open(HERE, THERE)
        assert await here.ended() == (1006, "nothing heard for 20 s")
        assert trio.current_time() - heard_s <= PING_EVERY_S + PONG_WITHIN_S


async def test_a_peer_that_answers_no_ping_but_speaks_stays(autojump_clock: MockClock) -> None:
    """A one-way link: what we send is lost, what the peer sends arrives."""
    async with instance() as here, here.peer() as peer:
        await trio.sleep(1)
        here.network.drop(HERE, THERE)
        for number in range(100):
            await peer.send(frame(number))
            await trio.sleep(PONG_WITHIN_S * 0.9)
        assert here.inbox.end() is None
        assert len(here.inbox.of(LatencyMeasured)) == 1
        quiet_s = trio.current_time()
        assert await here.ended() == (1006, "nothing heard for 20 s")
        assert trio.current_time() - quiet_s <= PING_EVERY_S + 2 * PONG_WITHIN_S


async def test_an_answer_at_the_last_moment_counts(autojump_clock: MockClock) -> None:
    async with instance() as here, here.peer():
        await trio.sleep(1)
        here.network.partition(HERE, THERE)
        await trio.sleep(PING_EVERY_S - 1 + PONG_WITHIN_S - 0.1)
        here.network.heal(HERE, THERE)
        await trio.sleep(60)
        assert here.inbox.end() is None


async def test_our_own_stall_is_not_the_silence_of_others(autojump_clock: MockClock) -> None:
    """The store hangs for a minute and nothing is read: the peers' answers wait, and so must our judgement."""
    async with instance() as here, here.peer() as peer:
        await trio.sleep(1)
        here.inbox.put_s = 60
        for number in range(MAX_IN_FLIGHT + 1):
            await peer.send(frame(number))
        await trio.sleep(59)
        here.inbox.put_s = 0
        await trio.sleep(60)
        assert here.inbox.end() is None
        assert here.inbox.numbers() == list(range(MAX_IN_FLIGHT + 1))


# Hanging up


async def test_hanging_up_flushes_first_and_says_why(autojump_clock: MockClock) -> None:
    async with instance() as here, here.peer() as peer:
        for number in range(3):
            here.connections.send((1,), frame(number))
        here.connections.hang_up(1, 4406, "another mesh")
        here.connections.send((1,), frame(99))
        assert await read(peer) == ([frame(number).decode() for number in range(3)], (4406, "another mesh"))
        assert await here.ended() == (4406, "another mesh")


@pytest.mark.parametrize("count", [MAX_IN_FLIGHT, 3 * MAX_IN_FLIGHT])
async def test_hanging_up_waits_for_a_peer_that_reads_late(count: int, autojump_clock: MockClock) -> None:
    async with instance() as here, here.peer() as peer:
        for number in range(count):
            here.connections.send((1,), frame(number))
        here.connections.hang_up(1, 1001, "draining")
        await trio.sleep(1)
        frames, end = await read(peer)
        assert frames == [frame(number).decode() for number in range(count)]
        assert end == (1001, "draining")
        assert await here.ended() == (1001, "draining")


async def test_hanging_up_on_a_peer_that_never_reads_is_bounded(autojump_clock: MockClock) -> None:
    async with instance() as here, here.peer():
        begun_s = trio.current_time()
        for number in range(2 * MAX_IN_FLIGHT):
            here.connections.send((1,), frame(number))
        here.connections.hang_up(1, 1001, "draining")
        assert await here.ended() == (1001, "draining")
        assert trio.current_time() - begun_s == pytest.approx(CLOSE_WITHIN_S)


async def test_the_first_to_hang_up_says_why_and_when(autojump_clock: MockClock) -> None:
    async with instance() as here, here.peer():
        begun_s = trio.current_time()
        for number in range(2 * MAX_IN_FLIGHT):
            here.connections.send((1,), frame(number))
        here.connections.hang_up(1, 4409, "duplicate")
        await trio.sleep(CLOSE_WITHIN_S - 1)
        here.connections.hang_up(1, 1001, "draining")
        assert await here.ended() == (4409, "duplicate")
        assert trio.current_time() - begun_s == pytest.approx(CLOSE_WITHIN_S)


async def test_a_link_that_is_gone_takes_nothing(autojump_clock: MockClock) -> None:
    async with instance() as here:
        async with here.peer() as peer:
            await peer.close(1001, "")
        await here.ended()
        here.connections.send((1, 7), frame(1))
        here.connections.hang_up(1, 1001, "")
        await trio.sleep(60)
        assert here.inbox.inputs[-1] == LinkDown(1, 1001, "")


async def test_fifty_links_drain_together(autojump_clock: MockClock) -> None:
    """None of the peers reads; all are gone within the time of one, and `all_closed` says so then, not before."""
    async with instance() as here, AsyncExitStack() as peers:
        await here.connections.all_closed()
        for number in range(50):
            await peers.enter_async_context(here.peer(f"ws://peer-{number}:4444"))
        begun_s = trio.current_time()
        for number in range(2 * MAX_IN_FLIGHT):
            here.connections.send(range(1, 51), frame(number))
        for link in range(1, 51):
            here.connections.hang_up(link, 1001, "draining")
        await here.connections.all_closed()
        assert trio.current_time() - begun_s == pytest.approx(CLOSE_WITHIN_S)
        await wait_all_tasks_blocked()
        assert [here.inbox.end(link) for link in range(1, 51)] == [(1001, "draining")] * 50


async def test_cancelled_links_are_dropped(autojump_clock: MockClock) -> None:
    async with AsyncExitStack() as peers:
        async with instance() as here:
            peer = await peers.enter_async_context(here.peer())
        assert await read(peer) == ([], (1006, ""))
        with trio.fail_after(1):
            await here.connections.all_closed()
    assert here.inbox.of(LinkDown) == []


# Dialling


@asynccontextmanager
async def answering(here: Here, url: str = THERE) -> AsyncIterator[trio.MemoryReceiveChannel[Link]]:
    """Somebody listens at `url`; hands out the links that were dialled, and closes them with the block."""
    send, receive = trio.open_memory_channel[Link](10)

    async def accept(link: Link) -> None:
        await send.send(link)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(here.network.host(url).serve, accept)
        yield receive
        nursery.cancel_scope.cancel()


async def test_a_dialled_link_is_a_link(autojump_clock: MockClock) -> None:
    async with instance() as here, answering(here) as dialled:
        here.connections.dial(THERE, 0)
        link = await dialled.receive()
        await wait_all_tasks_blocked()
        here.connections.send((1,), frame(1))
        assert await link.receive() == frame(1).decode()
        await link.close(1001, "bye")
        assert await here.ended() == (1001, "bye")
    assert here.inbox.inputs[0] == LinkUp(1, THERE, THERE)
    assert not [one for one in here.inbox.inputs if isinstance(one, DialFailed)]


async def test_a_dial_waits_half_its_delay_to_all_of_it(autojump_clock: MockClock) -> None:
    async with instance() as here:
        begun_s = trio.current_time()
        urls = [f"ws://peer-{number}:4444" for number in range(100)]
        for url in urls:
            here.connections.dial(url, 4.0)
        await trio.sleep(5)
        assert set(here.inbox.inputs) == {DialFailed(url, "connection refused") for url in urls}
        assert len(here.inbox.inputs) == 100
        waited_s = [at_s - begun_s for at_s in here.inbox.at_s]
    assert 2.0 <= min(waited_s) < 2.2
    assert 3.8 < max(waited_s) <= 4.0


async def test_a_dial_that_nobody_answers_says_so(autojump_clock: MockClock) -> None:
    async with instance() as here, answering(here):
        here.network.partition(HERE, THERE)
        here.connections.dial(THERE, 0)
        await trio.sleep(10.1)
        assert here.inbox.inputs == [DialFailed(THERE, "no answer within 10 s")]


@pytest.mark.parametrize(("first_s", "then_s"), [(4.0, 100.0), (100.0, 4.0), (0.0, 8.0), (8.0, 0.0)])
async def test_a_dial_that_waits_gives_way_to_the_next(
    autojump_clock: MockClock, first_s: float, then_s: float
) -> None:
    async with instance() as here:
        here.connections.dial(THERE, first_s)
        here.connections.dial(THERE, then_s)
        await trio.sleep(200)
        assert here.inbox.inputs == [DialFailed(THERE, "connection refused")]
        assert then_s / 2 <= here.inbox.at_s[0] <= then_s


async def test_a_url_that_is_being_dialled_is_not_dialled_again(autojump_clock: MockClock) -> None:
    async with instance() as here, answering(here) as dialled:
        here.network.delay(HERE, THERE, 3)
        for _ in range(3):
            here.connections.dial(THERE, 0)
            await trio.sleep(1)
        await trio.sleep(20)
        assert len(here.inbox.of(LinkUp)) == 1
        assert dialled.statistics().current_buffer_used == 1


async def test_what_was_answered_may_be_dialled_again(autojump_clock: MockClock) -> None:
    async with instance() as here, answering(here) as dialled:
        here.network.partition(HERE, THERE)
        here.connections.dial(THERE, 0)
        await trio.sleep(15)
        here.network.heal(HERE, THERE)
        for _ in range(2):
            here.connections.dial(THERE, 0)
            await trio.sleep(1)
        answers = [type(one) for one in here.inbox.inputs if isinstance(one, DialFailed | LinkUp)]
        assert answers == [DialFailed, LinkUp, LinkUp]
        here.connections.dial(THERE, 60)
        await (await dialled.receive()).close(1001, "bye")  # the end of an earlier link forgets no later dial
        await trio.sleep(1)
        here.connections.dial(THERE, 10)
        await trio.sleep(100)
        assert len(here.inbox.of(LinkUp, 3)) == 1
        assert here.inbox.of(LinkUp, 4) == []


async def test_a_dial_after_the_end_is_no_crash(autojump_clock: MockClock) -> None:
    """While an instance drains, a step that was under way may still ask for a link."""
    async with instance() as here:
        pass
    here.connections.dial(THERE, 0)
    await trio.sleep(1)
    assert here.inbox.inputs == []


# The crash boundary


@define(eq=False)
class BrokenLink:
    """A link whose library has a bug."""

    where: str
    address: str = "ws://broken:4444"
    aborted: bool = False

    async def _call(self, name: str, *given: object) -> NoReturn:
        await trio.lowlevel.checkpoint()
        if name == self.where:
            raise ZeroDivisionError(f"a bug of the library, met with {given}")
        await trio.sleep_forever()

    async def receive(self) -> str | bytes:
        await self._call("receive")

    async def send(self, frame: bytes) -> None:
        await self._call("send", frame)

    async def ping(self) -> None:
        await self._call("ping")

    async def close(self, code: int, reason: str) -> None:
        await self._call("close", code, reason)

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize("where", ["receive", "send", "ping", "close"])
async def test_what_a_link_raises_ends_that_link_alone(
    where: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    broken = BrokenLink(where)
    async with instance() as here, here.peer() as peer, trio.open_nursery() as nursery:
        nursery.start_soon(here.connections.accept, broken)
        await wait_all_tasks_blocked()
        if where == "send":
            here.connections.send((2,), frame(1))
        if where == "close":
            here.connections.hang_up(2, 1001, "")
        assert await here.ended(2) == (1006, "crashed")
        assert broken.aborted
        await peer.send(frame(1))
        await wait_all_tasks_blocked()
        assert here.inbox.numbers(1) == [1]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "ws://broken:4444" in record.getMessage()
    assert record.exc_info


async def test_a_bug_met_on_one_link_costs_that_link_alone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with instance() as here, here.peer() as peer, here.peer(ELSEWHERE) as other:
        here.inbox.crashes_on = "13"
        await peer.send(frame(13))
        assert await here.ended(1) == (1006, "crashed")
        await other.send(frame(1))
        await wait_all_tasks_blocked()
        assert here.inbox.numbers(2) == [1]
    assert f"the link to {THERE} crashed" in caplog.text


class BrokenNetwork:
    """A network whose library has a bug in dialling."""

    def dial(self, url: str) -> AbstractAsyncContextManager[Link]:
        raise ZeroDivisionError(f"a bug of the library, met with {url}")

    async def serve(self, accept: Accept, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        task_status.started()
        await trio.sleep_forever()
        raise AssertionError(accept)


async def test_a_dial_that_crashes_is_a_dial_that_failed(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with instance(BrokenNetwork()) as here:
        here.connections.dial(THERE, 0)
        await trio.sleep(1)
        (failed,) = here.inbox.inputs
        assert isinstance(failed, DialFailed)
        assert failed.url == THERE
    assert THERE in caplog.text


# Whatever happens


async def act(here: Here, peers: Sequence[Link], what: str, which: int) -> None:
    match what:
        case "a peer sends":
            await peers[which].send(frame(0))
        case "a peer closes":
            await peers[which].close(1001, "peer")
        case "a link breaks":
            here.network.cut(HERE, f"ws://peer-{which}:4444")
        case "a link swallows":
            here.network.half_open(HERE, f"ws://peer-{which}:4444")
        case "we send to all":
            for number in range(MAX_IN_FLIGHT):
                here.connections.send((1, 2, 3), frame(number))
        case "we hang up":
            here.connections.hang_up(which + 1, 4406, "here")
        case "we are slow":
            here.inbox.put_s = which / 4
        case "time passes":
            await trio.sleep(which * 11)


ACTIONS = (
    "a peer sends",
    "a peer closes",
    "a link breaks",
    "a link swallows",
    "we send to all",
    "we hang up",
    "we are slow",
    "time passes",
)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 2)), max_size=30))
def test_a_link_comes_up_once_and_goes_down_once_last_of_all(actions: list[tuple[str, int]]) -> None:
    async def run() -> Here:
        async with instance() as here, AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(here.peer(f"ws://peer-{number}:4444")) for number in range(3)]
            for what, which in actions:
                with trio.move_on_after(1), suppress(LinkClosed):
                    await act(here, peers, what, which)
            for link in (1, 2, 3):
                here.connections.hang_up(link, 1001, "the end")
            await here.connections.all_closed()
            await trio.sleep(60)
        return here

    here = trio.run(run, clock=MockClock(autojump_threshold=0))
    for link in (1, 2, 3):
        about = [one for one in here.inbox.inputs if getattr(one, "link", None) == link]
        assert [type(one) for one in about if isinstance(one, LinkUp | LinkDown)] == [LinkUp, LinkDown]
        assert isinstance(about[0], LinkUp)
        assert isinstance(about[-1], LinkDown)
