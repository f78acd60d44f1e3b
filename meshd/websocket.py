"""Links over WebSockets: trio-websocket behind the `Link` port, so arranged that no peer can harm more than its link.

trio-websocket runs a reader task per connection. That task raises whatever the peer's bytes make it raise; a send
that is cancelled leaves half a frame behind; a handshake or a pong that can no longer come is waited for; after a
frame that is too big the rest is left unread, and the close frame that says so is lost in a reset. So:

- its reader runs in a task of ours (`_read`) with its own nursery: what ends the reader ends the link, and the code
  that uses the link sees `LinkClosed`, never a cancellation or an error of the library;
- it is given no socket but a `_Pipe`, which ends the connection after half a frame, wakes who waits in vain, and can
  be closed without waiting;
- the head of a request is read before the library sees it: what is not HTTP is dropped, what asks for no WebSocket is
  answered with 426, and frames that came too early wait until the handshake is answered;
- handshakes have a deadline, and connections are counted.

No extension is negotiated: an offer of permessage-deflate is declined. `wss` can be dialled, through a proxy that
ends TLS; the listener speaks plain WebSocket, for the network of the mesh encrypts by itself.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import NoReturn, TypeAlias, cast
from urllib.parse import urlsplit

import trio
import trio_websocket
from attrs import Factory, define, frozen

from meshd.errors import DialError, LinkClosed
from meshd.links import ABNORMAL, CLOSE_S, DIAL_S, Accept, Link
from meshd.model import MAX_FRAME_BYTES

log = logging.getLogger(__name__)

# Frames that were read and not received; above it nothing is read, and no ping answered, until the application is
# back. Many, because one slow step of the application must not look like a dead link.
MAX_UNRECEIVED_FRAMES = 64

# One read takes a whole frame of the usual size; trio-websocket's own 4 KiB more than double the cost of large ones.
READ_BYTES = 64 * 1024

# Half of the open files that a process may usually have (1024), which leaves the other half to the rest of the daemon.
MAX_ACCEPTED = 512

# Connections that have not finished their handshake: strangers never take the places of all peers.
MAX_HANDSHAKES = 256

# A peer sends its handshake at once; 5 s survive a lost packet or two.
HANDSHAKE_S = 5.0

# The head of a request, and all that may come before a handshake is answered; a real one has less than 1 KiB.
MAX_HEAD_BYTES = 16 * 1024

_UPGRADE_REQUIRED_BODY = b"This is the sync port of a mesh instance: it speaks WebSocket only.\n"
_UPGRADE_REQUIRED = (
    b"HTTP/1.1 426 Upgrade Required\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n\r\n%b"
) % (len(_UPGRADE_REQUIRED_BODY), _UPGRADE_REQUIRED_BODY)


_LEFT = "it ended the connection within the handshake"


class _HandshakeFailed(Exception):  # noqa: N818  not always an error: a probe, a browser, a port scan
    """No link came of this connection; the text says why, in one line."""


_Stream: TypeAlias = "trio.SocketStream | trio.SSLStream[trio.SocketStream]"
_Handshake: TypeAlias = "Callable[[trio.Nursery, _Pipe], Awaitable[trio_websocket.WebSocketConnection]]"


@define(eq=False)
class _Pipe(trio.abc.Stream):
    """The stream under trio-websocket: `opened` when its handshake is done, `ended` when it is closed.

    `failure` says in one line what broke it, if anything did.
    """

    _stream: _Stream
    connection: trio_websocket.WebSocketConnection | None = None
    opened: trio.Event = Factory(trio.Event)
    ended: trio.Event = Factory(trio.Event)
    failure: str = ""
    _head: bytes | None = None  # of an accepted connection's request, until the library took it
    _early: bytes = b""
    _handshake_bytes: int = 0
    _waiting: set[trio.CancelScope] = Factory(set)

    @property
    def _socket(self) -> trio.socket.SocketType:
        stream = self._stream.transport_stream if isinstance(self._stream, trio.SSLStream) else self._stream
        return stream.socket

    async def read_head(self) -> None:
        """Read the head of a request and keep it for the library; raise `_HandshakeFailed` when it is not for us."""
        received = b""
        while b"\r\n\r\n" not in received:
            if len(received) > MAX_HEAD_BYTES:
                raise _HandshakeFailed("the head of its request is too long")
            data = await self._stream.receive_some(READ_BYTES)
            received += data
            if not data:
                raise _HandshakeFailed(_LEFT)
            if not received[:1].isalpha():
                raise _HandshakeFailed("it speaks no HTTP (TLS, perhaps)")
        head, end, self._early = received.partition(b"\r\n\r\n")
        self._head = head + end
        if b"\r\nupgrade:" not in head.lower():
            await self._stream.send_all(_UPGRADE_REQUIRED)
            await self.linger()
            raise _HandshakeFailed("it asked for no WebSocket")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._head is not None and not self.opened.is_set():
            if self._head:
                head, self._head = self._head, b""
                return head
            await self.opened.wait()
        if self._early:
            early, self._early = self._early, b""
            return early
        data = await self._receive(max_bytes)
        if not self.opened.is_set():
            self._handshake_bytes += len(data)
            if self._handshake_bytes > MAX_HEAD_BYTES:
                self.fail("its answer is too long for a WebSocket's")
                return b""
        return data

    async def _receive(self, max_bytes: int | None) -> bytes:
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError:
            self.fail("connection reset")
            raise
        if not data:
            self.fail("it ended the connection without a close frame" if self.opened.is_set() else _LEFT)
        return bytes(data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except trio.Cancelled:
            self.abort()  # nothing can follow half a frame
            raise
        except trio.BrokenResourceError:
            if not self.opened.is_set():
                self.fail("connection reset")
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def linger(self) -> None:
        """Let the other side read our last words: to close with its words unread would reset the connection."""
        with trio.move_on_after(CLOSE_S), suppress(OSError, trio.ClosedResourceError):
            self._socket.shutdown(socket.SHUT_WR)
            while await self._socket.recv(READ_BYTES):
                pass
        self.close()

    @contextmanager
    def until_ended(self) -> Iterator[None]:
        """Cancel the block when the connection ends."""
        with trio.CancelScope() as scope:
            if self.ended.is_set():
                scope.cancel()
            self._waiting.add(scope)
            try:
                yield
            finally:
                self._waiting.discard(scope)

    def fail(self, reason: str) -> None:
        self.failure = self.failure or reason
        self.close()

    def close(self) -> None:
        self._socket.close()
        self.ended.set()
        for scope in self._waiting:
            scope.cancel()

    def abort(self) -> None:
        """Close with a reset: the other side learns it at once, and the kernel drops what it did not read."""
        if not self.ended.is_set():
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()


@define(eq=False)
class WebSocketLink:
    """A `Link` over a WebSocket."""

    address: str
    _connection: trio_websocket.WebSocketConnection
    _pipe: _Pipe
    _closed: tuple[int, str] | None = None  # how we ended it

    async def receive(self) -> str | bytes:
        try:
            return await self._connection.get_message()
        except trio_websocket.ConnectionClosed:
            raise await self._end() from None

    async def send(self, frame: bytes) -> None:
        try:
            await self._connection.send_message(frame.decode())
        except trio_websocket.ConnectionClosed:
            raise await self._end() from None

    async def ping(self) -> None:
        with suppress(trio_websocket.ConnectionClosed), self._pipe.until_ended():
            await self._connection.ping()
            return
        raise await self._end()

    async def close(self, code: int, reason: str) -> None:
        self._ends(code, reason)
        with trio.move_on_after(CLOSE_S), self._pipe.until_ended():
            await self._connection.aclose(code, reason)
            await self._pipe.ended.wait()
        self._pipe.close()

    def abort(self) -> None:
        self._ends(ABNORMAL, "aborted")
        self._pipe.abort()

    def _ends(self, code: int, reason: str) -> None:
        if self._closed is None and self._connection.closed is None:
            self._closed = (code, reason)

    async def _end(self) -> LinkClosed:
        """Say how the link ended, when the stream is closed too: nothing that is left to say gets lost."""
        with trio.move_on_after(CLOSE_S):
            await self._pipe.ended.wait()
        if self._closed is not None:
            return LinkClosed(*self._closed)
        closed = self._connection.closed
        if closed is None or closed.code == ABNORMAL:
            return LinkClosed(ABNORMAL, self._pipe.failure)
        return LinkClosed(int(closed.code), closed.reason or "")


async def _read(pipe: _Pipe, handshake: _Handshake, deadline: float) -> None:
    """Run trio-websocket's reader as long as the connection lasts, and end the connection with it."""
    try:
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_at(deadline):
                    pipe.connection = await handshake(nursery, pipe)
                pipe.opened.set()
        except* Exception as group:  # noqa: BLE001  whatever a peer's bytes make the library raise ends this link alone
            pipe.failure = pipe.failure or _one_line(group)
        if pipe.opened.is_set():
            await pipe.linger()
    finally:
        pipe.close()


@asynccontextmanager
async def _link_of(
    address: str, stream: _Stream, handshake: _Handshake, deadline: float
) -> AsyncIterator[WebSocketLink]:
    """Make a link that lives for the block; raise `_HandshakeFailed` when there will be none.

    What the block raises leaves it as it was raised, in no group.
    """
    pipe = _Pipe(stream)
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read, pipe, handshake, deadline)
            try:
                with pipe.until_ended():
                    await pipe.opened.wait()
                if pipe.connection is None:
                    raise _HandshakeFailed(pipe.failure or "its handshake failed")
                yield WebSocketLink(address, pipe.connection, pipe)
            except BaseException as error:
                raised = error
                raise
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup:
        if raised is None:
            raise
    if raised is not None:
        raise raised


def _one_line(error: BaseException) -> str:
    """Say what went wrong: the innermost error counts, the groups around it do not."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case _HandshakeFailed():
            return str(error)
        case trio_websocket.ConnectionRejected():
            return f"it answered with HTTP status {error.status_code} and not with a WebSocket"
        case trio_websocket.ConnectionClosed() | trio.BrokenResourceError():
            return _LEFT
        case trio.TooSlowError():
            return "the handshake took too long"
        case OSError():
            return _os_reason(error)
    while isinstance(error.__context__, Exception):  # what came of it tells less than what came first
        error = error.__context__
    return "it broke the protocol: " + " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _os_reason(error: OSError) -> str:
    if isinstance(error.__cause__, ExceptionGroup):  # one error for each address of the name
        return _one_line(error.__cause__)
    if isinstance(error, socket.gaierror | ssl.SSLError) or error.errno is None:
        return str(error.strerror or error)
    return os.strerror(error.errno).lower()


@frozen
class _Target:
    """A peer's URL, taken apart."""

    host: str
    port: int
    resource: str
    is_encrypted: bool

    @classmethod
    def parse(cls, url: str) -> _Target:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise DialError(f"{url!r} is not a URL: {error}") from error
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise DialError(f"{url!r} is not a WebSocket's URL, which looks like ws://host:4444")
        is_encrypted = parts.scheme == "wss"
        resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.hostname, port or (443 if is_encrypted else 80), resource, is_encrypted)

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


async def _connect(target: _Target) -> _Stream:
    if not target.is_encrypted:
        return await trio.open_tcp_stream(target.host, target.port)
    stream = await trio.open_ssl_over_tcp_stream(target.host, target.port, https_compatible=True)
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError as broken:
        stream.transport_stream.socket.close()
        raise (broken.__cause__ or broken) from None
    return stream


async def _ask(target: _Target, nursery: trio.Nursery, pipe: _Pipe) -> trio_websocket.WebSocketConnection:
    return await trio_websocket.wrap_client_stream(
        nursery,
        cast("trio.SocketStream", pipe),  # any stream serves, whatever the annotation says
        target.host_header,
        target.resource,
        message_queue_size=MAX_UNRECEIVED_FRAMES,
        max_message_size=MAX_FRAME_BYTES,
        receive_buffer_size=READ_BYTES,
    )


async def _answer(nursery: trio.Nursery, pipe: _Pipe) -> trio_websocket.WebSocketConnection:
    await pipe.read_head()
    request = await trio_websocket.wrap_server_stream(
        nursery,
        pipe,
        message_queue_size=MAX_UNRECEIVED_FRAMES,
        max_message_size=MAX_FRAME_BYTES,
        receive_buffer_size=READ_BYTES,
    )
    offered = request.proposed_subprotocols
    return await request.accept(subprotocol=offered[0] if offered else None)


def _address(stream: trio.SocketStream) -> str:
    try:
        host, port, *_ = stream.socket.getpeername()
    except OSError:
        return "an address that is gone"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@define(eq=False)
class WebSocketNetwork:
    """Links over TCP: the `Network` of a daemon. It serves on the sockets it is given, and closes them in the end."""

    _listening: Sequence[socket.socket] = ()
    _accepted: int = 0
    _links: int = 0
    _is_full: bool = False

    @asynccontextmanager
    async def dial(self, url: str) -> AsyncIterator[Link]:
        target = _Target.parse(url)
        deadline = trio.current_time() + DIAL_S
        try:
            with trio.fail_at(deadline):
                stream = await _connect(target)
        except trio.TooSlowError:
            raise DialError(f"no answer within {DIAL_S:g} s") from None
        except (OSError, UnicodeError) as error:
            raise DialError(_one_line(error)) from error
        try:
            async with _link_of(url, stream, partial(_ask, target), deadline) as link:
                yield link
        except _HandshakeFailed as failure:
            raise DialError(str(failure)) from failure.__cause__

    async def serve(self, accept: Accept, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(listening)) for listening in self._listening]
        task_status.started()
        await trio.serve_listeners(partial(self._serve_one, accept), listeners)

    async def _serve_one(self, accept: Accept, stream: trio.SocketStream) -> None:
        address = _address(stream)
        if not self._has_room(address):
            return
        self._accepted += 1
        try:
            async with _link_of(address, stream, _answer, trio.current_time() + HANDSHAKE_S) as link:
                self._links += 1
                try:
                    await accept(link)
                finally:
                    self._links -= 1
        except _HandshakeFailed as failure:
            log.debug("no link with %s: %s", address, failure)
        finally:
            self._accepted -= 1

    def _has_room(self, address: str) -> bool:
        was_full = self._is_full
        self._is_full = self._accepted >= MAX_ACCEPTED or self._accepted - self._links >= MAX_HANDSHAKES
        if self._is_full and not was_full:
            log.warning(
                "refusing %s and others: %d connections, %d of them links", address, self._accepted, self._links
            )
        return not self._is_full
