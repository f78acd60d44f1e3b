"""WebSocket links against what a network really sends: raw bytes, in every wrong way."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio
from attrs import Factory, define
from trio.testing import MockClock, wait_all_tasks_blocked

from meshd import websocket
from meshd.errors import DialError, LinkClosed
from meshd.links import CLOSE_S, DIAL_S, Link
from meshd.model import MAX_FRAME_BYTES
from meshd.sockets import bind_socket
from meshd.websocket import HANDSHAKE_S, WebSocketNetwork

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = (
    b"GET /any/path?at=all HTTP/1.1\r\nHost: mesh\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n"
)
REQUEST = HANDSHAKE + b"\r\n"

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """A WebSocket frame (RFC 6455, 5.2), right or wrong."""
    first = (0x80 if final else 0) | reserved << 4 | opcode
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, mask_bit | len(payload))
    elif len(payload) < 65536:
        head = struct.pack("!BBH", first, mask_bit | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, mask_bit | 127, len(payload))
    if not masked:
        return head + payload
    key = b"\x11\x22\x33\x44"
    keys = (key * (len(payload) // 4 + 1))[: len(payload)]
    size = len(payload)
    return head + key + (int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")).to_bytes(size, "big")


def close_payload(code: int, reason: bytes = b"") -> bytes:
    return struct.pack("!H", code) + reason


@define(eq=False)
class Raw:
    """A client that sends bytes as they are."""

    stream: trio.SocketStream
    received: bytes = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def read_until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`."""
        while mark not in self.received:
            data = await self.stream.receive_some()
            assert data, f"ended before {mark!r}: {self.received!r}"
            self.received += data
        head, mark, self.received = self.received.partition(mark)
        return head + mark

    async def rest(self) -> bytes:
        """Everything until the other side ends the connection, by closing or with a reset."""
        try:
            while data := await self.stream.receive_some():
                self.received += data
        except trio.BrokenResourceError:
            pass
        return self.received

    async def upgrade(self) -> None:
        await self.send(REQUEST)
        head = await self.read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")

    def reset(self) -> None:
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()


@define(eq=False)
class Server:
    """A network that serves: accepted links stay open until they end, and everything they receive is kept."""

    port: int
    links: list[Link] = Factory(list)
    frames: list[str | bytes] = Factory(list)
    ends: list[tuple[int, str]] = Factory(list)
    changed: trio.lowlevel.ParkingLot = Factory(trio.lowlevel.ParkingLot)
    clients: list[Raw] = Factory(list)

    async def connect(self) -> Raw:
        raw = Raw(await trio.open_tcp_stream("127.0.0.1", self.port))
        self.clients.append(raw)
        return raw

    def hang_up(self) -> None:
        for raw in self.clients:
            raw.stream.socket.close()

    async def accept(self, link: Link) -> None:
        self.links.append(link)
        self.changed.unpark_all()
        try:
            while True:
                self.frames.append(await link.receive())
                self.changed.unpark_all()
        except LinkClosed as closed:
            self.ends.append((closed.code, closed.reason))
            self.changed.unpark_all()

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self.changed.park()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def check_it_serves(self) -> None:
        """A good client still gets its link, and its frame through."""
        seen = len(self.frames)
        async with WebSocketNetwork().dial(self.url) as link:
            await link.send(b"still there?")
            await self.until(lambda: len(self.frames) > seen)
            assert self.frames[-1] == "still there?"
            await link.close(1000, "yes")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    with bind_socket("127.0.0.1", 0) as listening:
        serving = Server(listening.getsockname()[1])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_fail_when_hung)
            await nursery.start(partial(WebSocketNetwork([listening]).serve, serving.accept))
            yield serving
            serving.hang_up()
            nursery.cancel_scope.cancel()


async def _fail_when_hung() -> None:
    await trio.sleep(30)
    raise AssertionError("the test hangs")


@pytest.fixture
def fast_clock() -> MockClock:
    """Twenty virtual seconds a second: deadlines pass quickly, and sockets still have the time they need."""
    return MockClock(rate=20)


# The handshake, as peers do it


async def test_the_path_is_ignored_and_no_extension_agreed(server: Server) -> None:
    raw = await server.connect()
    await raw.send(HANDSHAKE + b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n")
    head = await raw.read_until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    assert b"extensions" not in head.lower()
    assert b"protocol" not in head.lower().partition(b"\r\n")[2]


async def test_the_first_subprotocol_offered_is_echoed(server: Server) -> None:
    raw = await server.connect()
    await raw.send(HANDSHAKE + b"Sec-WebSocket-Protocol: sync.v1, other\r\n\r\n")
    assert b"\r\nSec-WebSocket-Protocol: sync.v1\r\n" in await raw.read_until(b"\r\n\r\n")


async def test_frames_that_come_with_the_handshake_are_not_lost(server: Server) -> None:
    raw = await server.connect()
    await raw.send(REQUEST + frame(TEXT, b"first") + frame(TEXT, b"second")[:3])
    await raw.read_until(b"\r\n\r\n")
    await raw.send(frame(TEXT, b"second")[3:] + frame(TEXT, b"third"))
    await server.until(lambda: len(server.frames) == 3)
    assert server.frames == ["first", "second", "third"]


async def test_a_handshake_may_come_byte_by_byte(server: Server) -> None:
    raw = await server.connect()
    for byte in REQUEST:
        await raw.send(bytes([byte]))
    await raw.read_until(b"\r\n\r\n")
    await server.check_it_serves()


async def test_a_fragmented_message_is_one_frame(server: Server) -> None:
    raw = await server.connect()
    await raw.upgrade()
    umlaut = "ü".encode()
    await raw.send(frame(TEXT, b"eins, " + umlaut[:1], final=False))
    await raw.send(frame(PING, b"between") + frame(CONTINUATION, umlaut[1:] + b"ber", final=False))
    await raw.send(frame(CONTINUATION, b", drei") + frame(TEXT, b"next"))
    await server.until(lambda: len(server.frames) == 2)
    assert server.frames == ["eins, über, drei", "next"]
    assert await raw.read_until(b"between") == frame(PONG, b"between", masked=False)


async def test_a_binary_frame_is_handed_on_as_bytes(server: Server) -> None:
    raw = await server.connect()
    await raw.upgrade()
    await raw.send(frame(BINARY, b"\x00\xff"))
    await server.until(lambda: server.frames)
    assert server.frames == [b"\x00\xff"]


async def test_a_frame_that_is_sent_is_one_text_frame(server: Server) -> None:
    raw = await server.connect()
    await raw.upgrade()
    await server.until(lambda: server.links)
    await server.links[0].send("ü".encode())
    assert await raw.read_until("ü".encode()) == frame(TEXT, "ü".encode(), masked=False)


async def test_a_close_frame_carries_code_and_reason(server: Server) -> None:
    raw = await server.connect()
    await raw.upgrade()
    await server.until(lambda: server.links)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.links[0].close, 1001, "leaving")
        assert await raw.read_until(b"leaving") == frame(CLOSE, close_payload(1001, b"leaving"), masked=False)
        await raw.send(frame(CLOSE, close_payload(1001)))
        assert await raw.rest() == b""
    await server.until(lambda: server.ends)
    assert server.ends == [(1001, "leaving")]


async def test_a_close_that_is_not_answered_is_bounded(fast_clock: MockClock, server: Server) -> None:
    raw = await server.connect()
    await raw.upgrade()
    await server.until(lambda: server.links)
    started_at = trio.current_time()
    await server.links[0].close(1001, "leaving")
    assert CLOSE_S <= trio.current_time() - started_at < CLOSE_S + 2
    assert (await raw.rest()).endswith(b"leaving")


async def test_pings_and_frames_that_cross_a_close_do_no_harm(server: Server) -> None:
    raw = await server.connect()
    await raw.upgrade()
    await server.until(lambda: server.links)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.links[0].close, 1001, "leaving")
        await raw.read_until(b"leaving")
        started_at = trio.current_time()
        await raw.send(frame(TEXT, b"late") + frame(PING, b"late") * 3 + frame(CLOSE, close_payload(1000)))
        await raw.rest()
        await raw.stream.aclose()
    assert trio.current_time() < started_at + CLOSE_S / 2
    await server.until(lambda: server.ends)
    assert server.ends == [(1001, "leaving")]
    await server.check_it_serves()


async def test_a_ping_that_is_not_answered_can_be_cancelled_or_ends_with_the_link(server: Server) -> None:
    raw = await server.connect()
    await raw.upgrade()
    await server.until(lambda: server.links)
    link = server.links[0]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.ping)
        await raw.stream.receive_some()
        nursery.cancel_scope.cancel()
    await link.send(b"still open")
    await raw.read_until(b"still open")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect_ping_to_end, link)
        await raw.stream.receive_some()
        raw.reset()


async def _expect_ping_to_end(link: Link) -> None:
    with pytest.raises(LinkClosed) as caught:
        await link.ping()
    assert caught.value.code == 1006


async def test_an_abort_is_a_reset(server: Server) -> None:
    raw = await server.connect()
    await raw.upgrade()
    await server.until(lambda: server.links)
    server.links[0].abort()
    with pytest.raises(trio.BrokenResourceError):
        await raw.stream.receive_some()


# Who is no peer at all

TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(190))


@define
class Stranger:
    """Bytes that open a connection, and how the answer begins."""

    sends: bytes
    answer: bytes


STRANGERS = {
    "curl": Stranger(b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: curl\r\nAccept: */*\r\n\r\n", b"HTTP/1.1 426 "),
    "a browser": Stranger(b"GET /favicon.ico HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", b"HTTP/1.1 426 "),
    "a POST": Stranger(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", b"HTTP/1.1 426 "),
    "HTTP/1.0": Stranger(b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.1 426 "),
    "HTTP/2": Stranger(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.1 426 "),
    "TLS": Stranger(TLS_HELLO, b""),
    "zero bytes": Stranger(b"\0" * 100, b""),
    "an empty line": Stranger(b"\r\n\r\n", b""),
    "a long head": Stranger(b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000, b""),
    "another upgrade": Stranger(REQUEST.replace(b"websocket", b"h2c"), b"HTTP/1.1 400 "),
    "no key": Stranger(REQUEST.replace(KEY, b""), b"HTTP/1.1 101 "),
    "no key at all": Stranger(REQUEST.replace(b"Sec-WebSocket-Key: " + KEY + b"\r\n", b""), b"HTTP/1.1 400 "),
    "another version": Stranger(REQUEST.replace(b"Version: 13", b"Version: 8"), b"HTTP/1.1 426 "),
    "no version": Stranger(REQUEST.replace(b"Sec-WebSocket-Version: 13\r\n", b""), b"HTTP/1.1 400 "),
    "no host": Stranger(REQUEST.replace(b"Host: mesh\r\n", b""), b"HTTP/1.1 400 "),
    "two hosts": Stranger(REQUEST.replace(b"Host: mesh\r\n", b"Host: a\r\nHost: b\r\n"), b"HTTP/1.1 400 "),
    "a host that is no name": Stranger(REQUEST.replace(b"Host: mesh", b"Host: xn--\xff"), b""),
    "a label too long": Stranger(REQUEST.replace(b"mesh", b"m" * 70), b"HTTP/1.1 101 "),
    "POST with upgrade": Stranger(REQUEST.replace(b"GET", b"POST"), b"HTTP/1.1 400 "),
    "bad line": Stranger(b"HELLO\r\nUpgrade: websocket\r\n\r\n", b"HTTP/1.1 400 "),
    "bad header": Stranger(HANDSHAKE + b"no colon\r\n\r\n", b"HTTP/1.1 400 "),
    "folded header": Stranger(HANDSHAKE + b" folded\r\n\r\n", b"HTTP/1.1 101 "),
    "non-ASCII header": Stranger(HANDSHAKE + "X-Name: gr\u00fc\u00dfe\r\n\r\n".encode(), b"HTTP/1.1 101 "),
    "non-ASCII subprotocol": Stranger(HANDSHAKE + "Sec-WebSocket-Protocol: gr\u00fc\u00dfe\r\n\r\n".encode(), b""),
    "non-ASCII connection": Stranger(REQUEST.replace(b"keep-alive", b"\xff"), b""),
    "non-ASCII path": Stranger(REQUEST.replace(b"/any", b"/\xff"), b"HTTP/1.1 400 "),
    "empty subprotocol": Stranger(HANDSHAKE + b"Sec-WebSocket-Protocol: ,\r\n\r\n", b"HTTP/1.1 101 "),
    "a body": Stranger(HANDSHAKE + b"Content-Length: 5\r\n\r\nhello", b"HTTP/1.1 101 "),
    "chunks": Stranger(HANDSHAKE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"HTTP/1.1 101 "),
}


@pytest.mark.parametrize("name", STRANGERS)
async def test_a_stranger_is_answered_or_dropped_and_harms_nobody(server: Server, name: str) -> None:
    stranger = STRANGERS[name]
    raw = await server.connect()
    await raw.send(stranger.sends)
    await raw.stream.send_eof()
    answer = await raw.rest()
    assert answer.startswith(stranger.answer)
    assert bool(answer) == bool(stranger.answer)
    await server.check_it_serves()


@pytest.mark.parametrize("name", STRANGERS)
async def test_a_stranger_that_resets_harms_nobody(server: Server, name: str) -> None:
    raw = await server.connect()
    await raw.send(STRANGERS[name].sends)
    raw.reset()
    await server.check_it_serves()


@pytest.mark.parametrize("name", ["TLS", "curl", "no key", "non-ASCII subprotocol", "bad header", "a long head"])
async def test_a_stranger_that_waits_is_dropped_at_once(server: Server, name: str) -> None:
    raw = await server.connect()
    started_at = trio.current_time()
    await raw.send(STRANGERS[name].sends)
    await raw.stream.receive_some()
    assert trio.current_time() < started_at + 1


async def test_a_plain_request_is_told_what_to_do_instead(server: Server) -> None:
    raw = await server.connect()
    await raw.send(STRANGERS["curl"].sends)
    head = await raw.read_until(b"\r\n\r\n")
    body = await raw.read_until(b"only.\n")
    headers = dict(line.split(b": ") for line in head.split(b"\r\n")[1:-2])
    assert head.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert headers[b"Upgrade"] == b"websocket"
    assert headers[b"Connection"] == b"close"
    assert int(headers[b"Content-Length"]) == len(body)


@pytest.mark.parametrize("size", [0, 1, 40, len(REQUEST) - 1])
async def test_half_a_handshake_is_dropped_in_time(fast_clock: MockClock, server: Server, size: int) -> None:
    raw = await server.connect()
    started_at = trio.current_time()
    await raw.send(REQUEST[:size])
    assert await raw.rest() == b""
    assert HANDSHAKE_S - 1 <= trio.current_time() - started_at < HANDSHAKE_S + 4
    await server.check_it_serves()


async def test_a_connection_that_is_reset_before_it_is_accepted_harms_nobody() -> None:
    with bind_socket("127.0.0.1", 0) as listening:
        server = Server(listening.getsockname()[1])
        for sends in (b"", REQUEST[:20], REQUEST):
            raw = await server.connect()
            await raw.send(sends)
            raw.reset()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_fail_when_hung)
            await nursery.start(partial(WebSocketNetwork([listening]).serve, server.accept))
            await server.check_it_serves()
            nursery.cancel_scope.cancel()


async def test_two_hundred_quick_connections_leave_nothing_behind(server: Server) -> None:
    async def visit(number: int) -> None:
        raw = await server.connect()
        await raw.send(REQUEST[: (number * 7) % len(REQUEST)])
        if number % 2:
            raw.reset()
        else:
            await raw.stream.aclose()

    await server.check_it_serves()
    await wait_all_tasks_blocked(0.01)
    before = len(list(Path("/proc/self/fd").iterdir()))
    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(visit, number)
    await server.check_it_serves()
    await wait_all_tasks_blocked(0.01)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_unfinished_handshakes_and_connections_are_bounded(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(websocket, "MAX_HANDSHAKES", 3)
    monkeypatch.setattr(websocket, "MAX_ACCEPTED", 5)
    waiting = [await server.connect() for _ in range(3)]
    for raw in waiting:
        await raw.send(b"GET")
    refused = [await server.connect() for _ in range(2)]
    assert [await raw.rest() for raw in refused] == [b"", b""]
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # once, not for each
    for raw in waiting:
        await raw.send(REQUEST[3:])
        await raw.read_until(b"\r\n\r\n")
    for _ in range(2):
        waiting.append(await server.connect())
        await waiting[-1].upgrade()
    assert await (await server.connect()).rest() == b""
    waiting.pop().reset()
    await server.until(lambda: server.ends)
    await server.check_it_serves()


# Peers that break the rules once their link is open


@define
class Violation:
    """Bytes after the handshake, the code with which the link ends here, and the answer."""

    sends: bytes
    code: int
    answer: bytes = b""


def _close_answer(code: int) -> bytes:
    return frame(CLOSE, close_payload(code), masked=False)


VIOLATIONS = {
    "garbage": Violation(b"GET / HTTP/1.1\r\n\r\n" * 3, 1002),
    "random bytes": Violation(bytes((i * 37 + 11) % 256 for i in range(500)), 1002),
    "not masked": Violation(frame(TEXT, b"hello", masked=False), 1002),
    "reserved bits": Violation(frame(TEXT, b"hello", reserved=4), 1002),
    "reserved opcode": Violation(frame(3, b"hello"), 1002),
    "a length of 2**63": Violation(bytes([0x81, 0xFF]) + b"\xff" * 12, 1002),
    "a length of 2**62": Violation(bytes([0x81, 0xFF]) + struct.pack("!Q", 2**62) + b"1234" + b"x" * 100, 1006),
    "a long ping": Violation(frame(PING, b"x" * 126), 1002),
    "a ping in pieces": Violation(frame(PING, b"x", final=False), 1002),
    "an end without a beginning": Violation(frame(CONTINUATION, b"x"), 1002),
    "a beginning within a beginning": Violation(frame(TEXT, b"x", final=False) + frame(TEXT, b"y"), 1002),
    "invalid UTF-8": Violation(frame(TEXT, b"\xff\xfe"), 1007),
    "half a character": Violation(frame(TEXT, "ü".encode()[:1]), 1007),
    "a close with half a code": Violation(frame(CLOSE, b"\x03"), 1002),
    "a close with 1006": Violation(frame(CLOSE, close_payload(1006)), 1002),
    "a close with 0": Violation(frame(CLOSE, close_payload(0)), 1002),
    "a close with a bad reason": Violation(frame(CLOSE, close_payload(1000, b"\xff")), 1007),
    "a close without a code": Violation(frame(CLOSE), 1005, frame(CLOSE, masked=False)),
    "a close with a private code": Violation(frame(CLOSE, close_payload(4408)), 4408, _close_answer(4408)),
    "a frame after a close": Violation(
        frame(CLOSE, close_payload(1000)) + frame(TEXT, b"late") + b"\xff" * 50, 1000, _close_answer(1000)
    ),
    "nothing": Violation(b"", 1006),
    "half a frame": Violation(frame(TEXT, b"hello")[:-2], 1006),
    "a head without a body": Violation(frame(TEXT, b"x" * 70_000)[:3], 1006),
}


@pytest.mark.parametrize("name", VIOLATIONS)
async def test_a_violation_ends_its_own_link_and_no_other(server: Server, name: str) -> None:
    violation = VIOLATIONS[name]
    async with WebSocketNetwork().dial(server.url) as bystander:
        raw = await server.connect()
        await raw.upgrade()
        await raw.send(frame(TEXT, b"before") + violation.sends)
        await raw.stream.send_eof()
        assert await raw.rest() == violation.answer
        await server.until(lambda: server.ends)
        assert server.frames == ["before"]
        assert server.ends[0][0] == violation.code
        await bystander.send(b"unharmed")
        await server.until(lambda: "unharmed" in server.frames)
    await server.check_it_serves()


@pytest.mark.parametrize("name", VIOLATIONS)
async def test_a_violation_and_a_reset_end_the_link(server: Server, name: str) -> None:
    raw = await server.connect()
    await raw.upgrade()
    await raw.send(VIOLATIONS[name].sends)
    raw.reset()
    await server.until(lambda: server.ends)
    await server.check_it_serves()


async def test_a_frame_that_is_too_big_is_refused_with_1009(server: Server) -> None:
    async with WebSocketNetwork().dial(server.url) as link:
        await link.send(b"x" * (MAX_FRAME_BYTES + 1024 * 1024))
        with pytest.raises(LinkClosed) as caught:
            await link.receive()
        assert caught.value.code == 1009
    await server.until(lambda: server.ends)
    assert server.ends[0][0] == 1009
    await server.check_it_serves()


async def test_the_largest_frame_arrives(server: Server) -> None:
    async with WebSocketNetwork().dial(server.url) as link:
        await link.send(b"x" * MAX_FRAME_BYTES)
        await server.until(lambda: server.frames)
    assert server.frames == ["x" * MAX_FRAME_BYTES]


async def test_a_frame_too_big_in_pieces_is_refused_too(server: Server) -> None:
    raw = await server.connect()
    await raw.upgrade()
    async with trio.open_nursery() as nursery:
        answer: list[bytes] = []

        async def read() -> None:
            answer.append(await raw.rest())

        nursery.start_soon(read)
        await raw.send(frame(TEXT, b"x", final=False) + frame(PING, b"a") * 3)
        for _ in range(6):
            await raw.send(frame(CONTINUATION, b"x" * 1024 * 1024, final=False) + frame(PING, b"b") * 3)
        await raw.stream.send_eof()
    assert close_payload(1009) in answer[0]
    await server.until(lambda: server.ends)
    assert server.ends[0][0] == 1009
    await server.check_it_serves()


async def test_a_flood_of_pings_is_answered_or_blocked_and_harms_nobody(server: Server) -> None:
    raw = await server.connect()
    await raw.upgrade()

    async def flood() -> None:
        with suppress(trio.BrokenResourceError):
            while True:
                await raw.send(frame(PING, b"x" * 100) * 500)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        await wait_all_tasks_blocked(0.02)  # it never reads, so the answers fill up and we stop reading
        await server.check_it_serves()
        server.links[0].abort()
        await server.until(lambda: (1006, "aborted") in server.ends)


# What a dialled address can be


async def _dial(url: str) -> str:
    """Dial, and return the reason for which it fails."""
    with pytest.raises(DialError) as caught:
        async with WebSocketNetwork().dial(url):
            raise AssertionError("there is no WebSocket")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1",
        "127.0.0.1:4444",
        "ws://",
        "ws://[::1",
        "ws://127.0.0.1:99999",
        "ws://127.0.0.1:port",
        "ws://" + "x" * 70 + ":4444",
        "ws://a b:4444",
        "",
    ],
)
async def test_a_url_that_is_none_is_refused_with_its_reason(url: str) -> None:
    with trio.fail_after(5):
        assert await _dial(url)


@define
class Impostor:
    """What a server that is no peer answers, and what the dialer says about it."""

    answers: bytes
    reason: str


IMPOSTORS = {
    "a web server": Impostor(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", "answered with HTTP status 404"),
    "an empty answer": Impostor(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "answered with HTTP status 200"),
    "a redirect": Impostor(b"HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "HTTP status 301"),
    "a bad token": Impostor(
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
        "broke the protocol",
    ),
    "an extension": Impostor(
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Extensions: x\r\n\r\n",
        "Bad accept token",
    ),
    "a bare 101": Impostor(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "broke the protocol"),
    "a 100": Impostor(b"HTTP/1.1 100 Continue\r\n\r\n", "HTTP status 100"),
    "SSH": Impostor(b"SSH-2.0-OpenSSH_9.2\r\n", "ended the connection within"),
    "TLS": Impostor(TLS_HELLO, "broke the protocol"),
    "a close": Impostor(b"", "ended the connection"),
    "half an answer": Impostor(b"HTTP/1.1 101 Switch", "ended the connection"),
    "non-ASCII": Impostor(b"HTTP/1.1 101 X\r\nConnection: \xff\r\nUpgrade: websocket\r\n\r\n", "broke the protocol"),
    "an endless head": Impostor(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "too long"),
    "an endless body": Impostor(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000, "too long"),
}


async def _serve_raw(nursery: trio.Nursery, handler: Callable[[trio.SocketStream], Awaitable[None]]) -> str:
    listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
    return f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}"


@pytest.mark.parametrize("name", IMPOSTORS)
async def test_an_impostor_is_named(name: str) -> None:
    impostor = IMPOSTORS[name]

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        try:
            await stream.send_all(impostor.answers)
            await stream.send_eof()
            await stream.receive_some()
        except trio.BrokenResourceError:
            pass

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            url = await _serve_raw(nursery, answer)
            assert impostor.reason in await _dial(url)
            nursery.cancel_scope.cancel()


async def test_a_server_that_is_silent_is_given_up_in_time(fast_clock: MockClock) -> None:
    async def say_nothing(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        url = await _serve_raw(nursery, say_nothing)
        started_at = trio.current_time()
        assert await _dial(url) == "the handshake took too long"
        assert DIAL_S <= trio.current_time() - started_at < DIAL_S + 4
        nursery.cancel_scope.cancel()


async def test_a_server_that_resets_is_named() -> None:
    async def reset(stream: trio.SocketStream) -> None:
        await trio.lowlevel.checkpoint()
        Raw(stream).reset()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            assert "connection" in await _dial(await _serve_raw(nursery, reset))
            nursery.cancel_scope.cancel()


async def test_a_link_over_tls_to_a_server_without_it_is_refused(server: Server) -> None:
    assert await _dial(server.url.replace("ws:", "wss:"))
    await server.check_it_serves()


async def test_a_link_that_is_refused_after_the_handshake_keeps_its_code() -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        raw = Raw(stream)
        request = await raw.read_until(b"\r\n\r\n")
        await raw.send(_accept_response(request) + frame(TEXT, b"sorry", masked=False) + _close_answer(4403))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            async with WebSocketNetwork().dial(await _serve_raw(nursery, refuse)) as link:
                assert await link.receive() == "sorry"
                with pytest.raises(LinkClosed) as caught:
                    await link.receive()
            assert caught.value.code == 4403
            nursery.cancel_scope.cancel()


def _accept_response(request: bytes) -> bytes:
    key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    return (
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        + b"\r\n\r\n"
    )
