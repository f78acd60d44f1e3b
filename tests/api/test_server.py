"""`meshd.api.server` on real sockets: whatever a client does, the next one is served and the end comes in time."""

from __future__ import annotations

import logging
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import h2.config
import h2.connection
import pytest
import trio
import trio.testing
from attrs import define, evolve

from meshd.api.app import BODY_WITHIN_S, MAX_BODY_BYTES, create_app
from meshd.api.server import GRACE_S, IDLE_S, MAX_CONNECTIONS, MAX_REPORT, SEND_WITHIN_S, serve
from meshd.core.effects import Accepted, Rejected
from meshd.core.inputs import PutProject, Request
from tests.api.local import Local

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
PUT_HEAD = b"PUT /api/projects/one HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
PUT = PUT_HEAD + b'Content-Length: 13\r\n\r\n{"title":"t"}'
CHUNKED = PUT_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = (
    b"GET /api/events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
BUFFER_BYTES = 64 * 1024
WITHIN_S = 5.0
"""Far more than anything here takes: what does not come by then does not come."""


@define
class Server:
    """A running server and how to end it. `local` is the node behind it."""

    listening: socket.socket
    local: Local
    stop: trio.Event
    ended: trio.Event

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(*self.listening.getsockname())

    async def is_good(self) -> bool:
        """Whether a new client is served."""
        async with await self.connect() as stream:
            await stream.send_all(GET)
            return (await answer(stream)).startswith(b"HTTP/1.1 200 ")


async def answer(stream: trio.abc.ReceiveStream) -> bytes:
    """One whole answer, of known length; what there was when the connection ended, otherwise."""
    received = b""
    with trio.fail_after(WITHIN_S):
        while b"\r\n\r\n" not in received:
            if not (data := await stream.receive_some()):
                return received
            received += data
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        while len(body) < length and (data := await stream.receive_some()):
            body += data
    return head + b"\r\n\r\n" + body


async def end(stream: trio.abc.ReceiveStream) -> bytes:
    """Everything that comes until the server closes, or resets, the connection."""
    received = b""
    with trio.fail_after(WITHIN_S):
        try:
            while data := await stream.receive_some():
                received += data
        except trio.BrokenResourceError:
            pass
    return received


async def start(nursery: trio.Nursery, listening: socket.socket) -> Server:
    running, started = Server(listening, Local(), trio.Event(), trio.Event()), trio.Event()
    app = create_app(running.local.instance())

    async def live() -> None:
        async with trio.open_nursery() as serving:
            await serving.start(partial(serve, app, [listening], running.stop.wait))
            started.set()
        running.ended.set()

    nursery.start_soon(live)
    await started.wait()
    return running


def listen() -> socket.socket:
    """A socket whose connections hold little of what is not read, on every host."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return listening


@pytest.fixture
async def running(nursery: trio.Nursery) -> AsyncIterator[Server]:
    with listen() as listening:
        yield await start(nursery, listening)


@pytest.fixture
def clock(mock_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    """A clock that can jump, and runs, so that a test which would wait for ever fails instead."""
    mock_clock.rate = 1
    return mock_clock


async def settled() -> None:
    """Nothing happens any more, on either side of the sockets."""
    await trio.testing.wait_all_tasks_blocked(0.01)


def h2_frames(*, preface: bool, headers: list[tuple[str, str]]) -> bytes:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
    connection.initiate_connection()
    start = connection.data_to_send()
    connection.send_headers(1, headers, end_stream=True)
    return (start if preface else b"") + connection.data_to_send()


MALFORMED = {
    "nothing": b"",
    "noise": bytes(range(256)) * 8,
    "a TLS hello": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "no version": b"GET /\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a bad method": b"G\x00T /livez HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target that is no ASCII": b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target without a slash": b"GET livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an empty absolute target": b"GET http://localhost HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a target that is no URL": b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "CONNECT": b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a header without a colon": b"GET /livez HTTP/1.1\r\nHost localhost\r\n\r\n",
    "a header that is no ASCII": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: \xff\xfe\r\n\r\n",
    "a host that is no name": b"GET /livez HTTP/1.1\r\nHost: \xff[\xfe\r\n\r\n",
    "a query that is no ASCII": b"GET /livez?\xe2\x82 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a huge header": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    "many headers": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    "a huge target": b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a length that is no number": PUT_HEAD + b"Content-Length: x\r\n\r\n{}",
    "a negative length": PUT_HEAD + b"Content-Length: -1\r\n\r\n{}",
    "two lengths": PUT_HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length and chunks": PUT_HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    "an enormous length": PUT_HEAD + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "an unknown coding": PUT_HEAD + b"Transfer-Encoding: gzip\r\n\r\n{}",
    "a bad chunk": CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
    "a chunk that is too long": CHUNKED + b"2\r\n{}}}}\r\n0\r\n\r\n",
    "a bad chunk later": CHUNKED + b"2\r\n{}\r\nzz\r\n",
    "bad trailers": CHUNKED + b"2\r\n{}\r\n0\r\nbad\r\n\r\n",
    "more than the body": PUT + b"garbage\r\n\r\n",
    "a WebSocket": UPGRADE + b"\r\n",
    "a WebSocket's first frame with the handshake": UPGRADE + b"\r\n" + b"\x81\x85\x00\x00\x00\x00hello",
    "a WebSocket's bad frame with the handshake": UPGRADE + b"\r\n" + b"\xff\xff\xff\xff",
    "a WebSocket subprotocol that is no ASCII": UPGRADE + b"Sec-WebSocket-Protocol: \xff\xfe\r\n\r\n",
    "a WebSocket with a body": UPGRADE + b"Content-Length: 5\r\n\r\nhello",
    "a WebSocket subprotocol that is no ASCII, and long": UPGRADE
    + b"Sec-WebSocket-Protocol: "
    + b"\xff" * 9000
    + b"\r\n\r\n",
    "a WebSocket without a key": UPGRADE.replace(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"") + b"\r\n",
    "a WebSocket of an unknown version": UPGRADE.replace(b"Version: 13", b"Version: 7") + b"\r\n",
    "h2": h2_frames(preface=True, headers=[(":method", "GET"), (":scheme", "http"), (":path", "/livez")]),
    "h2 CONNECT": h2_frames(preface=True, headers=[(":method", "CONNECT"), (":authority", "localhost:1")]),
    "h2 without a path": h2_frames(preface=True, headers=[(":method", "GET"), (":authority", "localhost")]),
    "h2 without a preface": h2_frames(preface=False, headers=[(":method", "GET"), (":path", "/livez")]),
    "h2 preface and noise": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(range(256)) * 4,
    "h2c with bad settings": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: !!\r\n\r\n",
}


async def part(stream: trio.SocketStream, how: str) -> None:
    match how:
        case "half close":
            await stream.send_eof()
            await end(stream)
        case "reset":
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


@pytest.mark.parametrize("parting", ["close", "half close", "reset"])
@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
async def test_what_one_client_sends_costs_no_other(running: Server, sent: bytes, parting: str) -> None:
    stream = await running.connect()
    try:
        await stream.send_all(sent)
        await trio.testing.wait_all_tasks_blocked()
        await part(stream, parting)
    except trio.BrokenResourceError:
        await stream.aclose()  # it may hang up on us, of course
    assert await running.is_good()
    assert not running.ended.is_set()


async def test_requests_that_stop_anywhere_and_requests_with_flipped_bits(running: Server) -> None:
    flips = random.Random(7)
    for cut in range(1, len(PUT), 3):
        for sent in (PUT[:cut], PUT[:cut] + bytes([PUT[cut] ^ 1 << flips.randrange(8)]) + PUT[cut + 1 :]):
            stream = await running.connect()
            await stream.send_all(sent)
            await part(stream, "half close")
    assert await running.is_good()


async def test_a_good_request_after_a_good_request(running: Server) -> None:
    async with await running.connect() as stream:
        for _ in range(3):
            await stream.send_all(GET)
            response = await answer(stream)
            assert response.endswith(b'{"status":"ok"}\n')
            assert b"\r\nserver:" not in response.lower()


async def test_head_has_the_length_and_no_body(running: Server) -> None:
    async with await running.connect() as stream:
        await stream.send_all(b"HEAD /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        head, _, body = (await end(stream)).partition(b"\r\n\r\n")
    assert b"content-length: 16" in head
    assert body == b""


@pytest.mark.parametrize("length", [b"Content-Length: %d" % (8 * MAX_BODY_BYTES), b"Transfer-Encoding: chunked"])
async def test_the_refusal_of_a_body_reaches_a_client_that_sends_it_whole(running: Server, length: bytes) -> None:
    async with await running.connect() as stream:
        with trio.fail_after(WITHIN_S):
            await stream.send_all(PUT_HEAD + length + b"\r\n\r\n")
            for _ in range(128):
                await stream.send_all((b"20000\r\n" if b"chunked" in length else b"") + bytes(0x20000) + b"\r\n")
        response = await answer(stream)
    assert response.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"too-large"' in response
    assert await running.is_good()


async def test_a_chunked_body_is_read(running: Server) -> None:
    async with await running.connect() as stream:
        await stream.send_all(CHUNKED + b'6\r\n{"titl\r\n7\r\ne":"t"}\r\n0\r\n\r\n')
        assert (await answer(stream)).startswith(b"HTTP/1.1 201 ")
    assert running.local.node.snapshot(running.local.now).documents["one"].json()["title"] == "t"


@pytest.mark.parametrize(
    ("sent", "bound_s"),
    [
        (b"", IDLE_S),
        (b"GET /livez HT", IDLE_S),
        (GET, IDLE_S),
        (GET + GET, IDLE_S),
        (GET + b"GET /li", IDLE_S),
        (UPGRADE, IDLE_S),
        (PUT[:-1], BODY_WITHIN_S),
        (CHUNKED + b"2\r\n{", BODY_WITHIN_S),
    ],
)
async def test_a_client_that_says_no_more_loses_its_place(
    running: Server, clock: trio.testing.MockClock, sent: bytes, bound_s: float
) -> None:
    async with await running.connect() as stream, trio.open_nursery() as nursery:
        closed = watch(stream, nursery)
        await stream.send_all(sent)
        await settled()
        clock.jump(bound_s - 1)
        await settled()
        assert not closed.is_set()
        clock.jump(1)
        await settled()
        assert closed.is_set()
    assert await running.is_good()


def watch(stream: trio.SocketStream, nursery: trio.Nursery) -> trio.Event:
    """An event that is set when the server closes the connection."""
    closed = trio.Event()

    async def read() -> None:
        with suppress(trio.BrokenResourceError):
            async for _ in stream:
                pass
        closed.set()

    nursery.start_soon(read)
    return closed


@pytest.mark.parametrize(("sent", "drip", "bound_s"), [(b"", GET, IDLE_S), (PUT_HEAD, PUT, IDLE_S)])
async def test_a_client_that_drips_bytes_loses_its_place(
    running: Server, clock: trio.testing.MockClock, sent: bytes, drip: bytes, bound_s: float
) -> None:
    async with await running.connect() as stream, trio.open_nursery() as nursery:
        closed = watch(stream, nursery)
        await stream.send_all(sent)
        for byte in range(int(bound_s) + 1):
            await stream.send_all(drip[byte : byte + 1])
            await settled()
            clock.jump(1)
        await settled()
        assert closed.is_set()


async def big_reader(running: Server) -> trio.SocketStream:
    """A client that asks for a large document and does not read it."""
    running.local.step(PutProject(1, "big", {"text": "x" * 1_000_000}))
    connecting = trio.socket.socket()
    connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    await connecting.connect(running.listening.getsockname())
    stream = trio.SocketStream(connecting)
    await stream.send_all(b"GET /api/projects/big HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await settled()
    return stream


async def test_a_client_that_reads_slowly_gets_everything(running: Server, clock: trio.testing.MockClock) -> None:
    async with await big_reader(running) as stream:
        received = 0
        while received < 1_000_000:
            clock.jump(SEND_WITHIN_S / 10)
            received += len(await stream.receive_some(BUFFER_BYTES // 2))
            await trio.testing.wait_all_tasks_blocked()


async def test_a_client_that_stops_reading_is_dropped(running: Server, clock: trio.testing.MockClock) -> None:
    async with await big_reader(running) as stream:
        assert await running.is_good()
        clock.jump(SEND_WITHIN_S)
        await settled()
        received = await end(stream)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert len(received) < 1_000_000
    assert await running.is_good()


async def test_a_client_that_stops_reading_does_not_hold_up_the_end(
    running: Server, clock: trio.testing.MockClock
) -> None:
    async with await big_reader(running):
        running.stop.set()
        await settled()
        assert not running.ended.is_set()
        clock.jump(GRACE_S)
        with trio.fail_after(WITHIN_S):
            await running.ended.wait()


async def test_idle_connections_close_at_once_when_the_server_stops(running: Server) -> None:
    address = running.listening.getsockname()
    async with await running.connect() as used, await running.connect() as unused:
        await used.send_all(GET)
        await answer(used)
        await settled()
        running.stop.set()
        with trio.fail_after(GRACE_S / 2):
            await running.ended.wait()
        assert (await end(used), await end(unused)) == (b"", b"")
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream(*address)


async def test_an_answer_under_way_is_finished_when_the_server_stops(nursery: trio.Nursery) -> None:
    local, asked, stop, committed = Local(), trio.Event(), trio.Event(), trio.Event()

    async def submit(command: Request) -> Accepted | Rejected:
        asked.set()
        await committed.wait()
        return await local.submit(command)

    with listen() as listening:
        app = create_app(evolve(local.instance(), submit=submit))
        await nursery.start(partial(serve, app, [listening], stop.wait))
        async with await trio.open_tcp_stream(*listening.getsockname()) as stream:
            await stream.send_all(PUT)
            await asked.wait()
            stop.set()
            await settled()
            committed.set()
            assert (await answer(stream)).startswith(b"HTTP/1.1 201 ")
            with trio.fail_after(GRACE_S / 2):
                assert await end(stream) == b""  # it does not wait for another request


async def test_cancelling_ends_it_at_once() -> None:
    with trio.fail_after(GRACE_S), listen() as listening:
        async with trio.open_nursery() as serving:
            running = await start(serving, listening)
            stream = await big_reader(running)
            serving.cancel_scope.cancel()
        await stream.aclose()
        assert listening.fileno() == -1


async def test_connections_are_bounded(running: Server) -> None:
    streams = [await running.connect() for _ in range(MAX_CONNECTIONS)]
    await settled()
    async with await running.connect() as stream:
        assert (await end(stream)).startswith(b"HTTP/1.1 503 ")
    await streams.pop().aclose()
    await settled()
    assert await running.is_good()
    for stream in streams:
        await trio.aclose_forcefully(stream)


async def test_a_place_is_free_when_its_client_has_left(running: Server) -> None:
    for _ in range(MAX_CONNECTIONS + 1):
        assert await running.is_good()


async def test_a_unix_socket(nursery: trio.Nursery, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "api"))
        listening.listen()
        running = await start(nursery, listening)
        async with await trio.open_unix_socket(str(tmp_path / "api")) as stream:
            await stream.send_all(b"GET /api/projects HTTP/1.1\r\nHost: whoever\r\n\r\n")
            assert (await answer(stream)).endswith(b'{"projects":[]}\n')
        running.stop.set()
        await running.ended.wait()


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
async def test_what_a_client_causes_is_a_short_line(
    running: Server, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    with caplog.at_level(logging.INFO):
        async with await running.connect() as stream:
            await stream.send_all(sent)
            await part(stream, "half close")
        assert await running.is_good()
    for record in caplog.records:
        assert (record.name, record.levelno, record.exc_info) == ("meshd.api", logging.WARNING, None)
        assert len(record.message) < MAX_REPORT + 50
    if sent == MALFORMED["a WebSocket subprotocol that is no ASCII"]:
        assert ["UnicodeDecodeError" in record.message for record in caplog.records] == [True]
