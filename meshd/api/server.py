"""HTTP behind a guard: hypercorn's protocols, so arranged that no client can take anything else down or hold it up.

hypercorn's own server ends when one connection raises, and with it the process that awaits it. It sends behind a
shield without a deadline, so that a client which stops reading outlives every shutdown; it closes over unread bytes,
which resets the connection and takes the answer with it; together with quart-trio it forgets to time idle
connections, and it keeps the place of those that were closed. So connections are ours, and only what happens between
bytes and ASGI is hypercorn's:

- what a connection raises ends that connection, with one line in the log;
- a send that makes no progress for `SEND_WITHIN_S`, or is cancelled, ends its connection: a torn answer is never
  continued;
- after the last answer a connection is read on for up to `LINGER_S`, and what comes is thrown away;
- the number of connections is bounded, and so is the time that a connection may idle and that a shutdown may take.

A client that is slow to send is bounded by `IDLE_S` for the head of a request and by the application for its body.
"""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

import trio
from attrs import define, field
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, ConnectionState, Scope
from hypercorn.utils import parse_socket_addr
from quart_trio import QuartTrio

# A quarter of the open files that a process may usually have (1024): the sync port takes up to half of them.
MAX_CONNECTIONS = 256

# How long a connection may be idle, and how long the head of a request may take: longer than pollers wait between two
# requests, so that they keep their connection.
IDLE_S = 15.0

# For every 64 KiB: a client that reads no faster than 6 KiB a second does not read.
SEND_WITHIN_S = 10.0
SEND_BYTES = 64 * 1024
RECEIVE_BYTES = 64 * 1024

# For a client that still sends what we do not want to read (413): long enough to notice the answer.
LINGER_S = 2.0

# For answers under way when the server is asked to stop: a commit takes milliseconds.
GRACE_S = 1.0

# A request's line and headers; what browsers send stays below 8 KiB.
MAX_HEAD_BYTES = 16 * 1024

# HTTP/2 is not offered, but a client may insist on it: enough for a page's requests, and every stream costs memory.
MAX_STREAMS = 8

# Characters of what a client caused, in a line of the log: some exceptions carry all that was sent.
MAX_REPORT = 200

_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

_log = logging.getLogger("meshd.api")


async def serve(
    app: QuartTrio,
    sockets: Sequence[socket.socket],
    shutdown: Callable[[], Awaitable[object]],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` on sockets that listen already, TCP or unix, until `shutdown()` returns; then end within `GRACE_S`.

    The sockets are closed as soon as it is asked to stop, or cancelled.
    """
    clients = _Clients(ASGIWrapper(_Application(app)), _configuration())
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(listening)) for listening in sockets]
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(
                partial(trio.serve_listeners, clients.serve, listeners, handler_nursery=connections),
            )
            task_status.started()
            await shutdown()
            accepting.cancel_scope.cancel()
        connections.cancel_scope.deadline = trio.current_time() + GRACE_S
        await clients.stop()


def _configuration() -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = _log
    config.include_server_header = False
    config.h11_max_incomplete_size = MAX_HEAD_BYTES
    config.h2_max_header_list_size = MAX_HEAD_BYTES
    config.h2_max_concurrent_streams = MAX_STREAMS
    config.websocket_max_message_size = RECEIVE_BYTES
    return config


@define(eq=False)
class _Clients:
    """All connections of one server."""

    app: ASGIWrapper
    config: Config
    context: WorkerContext = field(factory=lambda: WorkerContext(None))
    open: set[_Connection] = field(factory=set)

    async def serve(self, stream: trio.SocketStream) -> None:
        if len(self.open) >= MAX_CONNECTIONS:
            await _turn_away(stream)
            return
        connection = _Connection(self.app, self.config, self.context, stream)
        self.open.add(connection)
        if len(self.open) == MAX_CONNECTIONS:
            _log.warning("%d connections are open: more are turned away", MAX_CONNECTIONS)
        try:
            await connection.run()
        finally:
            self.open.remove(connection)

    async def stop(self) -> None:
        """Close what is idle now, and what is not after its answer."""
        await self.context.terminated.set()
        for connection in self.open:
            connection.close_if_idle()


async def _turn_away(stream: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError), trio.move_on_after(SEND_WITHIN_S):
        await stream.send_all(_BUSY)
    stream.socket.close()


@define
class _Application:
    """The application with a crash boundary. What gets through to it was raised by Quart itself, not by a view."""

    app: QuartTrio

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        try:
            await self.app(scope, receive, send)
        except* Exception as group:  # noqa: BLE001  hypercorn answers 500, or hangs up
            _report("a request was dropped", group)


class _Connection:
    """One connection, from its first byte to its last; `run` raises nothing but cancellation."""

    def __init__(self, app: ASGIWrapper, config: Config, context: WorkerContext, stream: trio.SocketStream) -> None:
        self._app = app
        self._config = config
        self._context = context
        self._stream = stream
        self._protocol: ProtocolWrapper
        self._sending = trio.Lock()
        self._life = trio.CancelScope()
        self._reading = trio.CancelScope(deadline=trio.current_time() + IDLE_S)
        self._is_hung_up = False

    async def run(self) -> None:
        try:
            with self._life:
                await self._live()
        except* Exception as group:  # noqa: BLE001  the crash boundary: what one client causes must not cost the others
            _report("a connection was dropped", group)
        finally:
            self._stream.socket.close()

    def close_if_idle(self) -> None:
        if self._reading.deadline < math.inf:
            self._reading.cancel()

    async def _live(self) -> None:
        connected = self._stream.socket
        try:
            client = parse_socket_addr(connected.family, connected.getpeername())
        except OSError:
            return  # gone already
        async with TaskGroup() as requests:
            self._protocol = ProtocolWrapper(
                self._app,
                self._config,
                self._context,
                requests,
                ConnectionState({}),
                ssl=False,
                client=client,
                server=parse_socket_addr(connected.family, connected.getsockname()),
                send=self._obey,
            )
            await self._protocol.initiate()
            with self._reading, suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._read()
            await self._protocol.handle(Closed())

    async def _read(self) -> None:
        data = None
        while data != b"":
            data = bytes(await self._stream.receive_some(RECEIVE_BYTES))
            if not self._is_hung_up:
                await self._protocol.handle(RawData(data))

    async def _obey(self, event: Event) -> None:
        """Do what the protocol asks for. Only sending may wait: quart-trio cancels the others in the middle."""
        match event:
            case RawData(data=data):
                await self._send(data)
            case Updated(idle=idle):
                self._reading.deadline = trio.current_time() + IDLE_S if idle else math.inf
            case Closed():
                await self._hang_up()

    async def _send(self, data: bytes) -> None:
        is_torn = True
        async with self._sending:
            try:
                for start in range(0, len(data), SEND_BYTES):
                    with trio.fail_after(SEND_WITHIN_S):
                        await self._stream.send_all(data[start : start + SEND_BYTES])
                is_torn = False
            except trio.TooSlowError:
                _log.info("a client reads too slowly: its connection was dropped")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # it is gone
            finally:
                if is_torn:
                    self._stream.socket.close()
        if is_torn:
            await self._protocol.handle(Closed())

    async def _hang_up(self) -> None:
        self._is_hung_up = True
        self._life.deadline = trio.current_time() + LINGER_S
        with suppress(OSError):
            self._stream.socket.shutdown(socket.SHUT_WR)
        await self._protocol.handle(Closed())


def _report(what: str, group: BaseExceptionGroup[BaseException]) -> None:
    """One line, however often a client asks for it; the traceback for those who want it."""
    _log.warning("%s: %s", what, _causes(group))
    _log.debug("its traceback", exc_info=group)


def _causes(group: BaseExceptionGroup[BaseException]) -> str:
    inner = (_causes(error) if isinstance(error, BaseExceptionGroup) else repr(error) for error in group.exceptions)
    return ", ".join(inner)[:MAX_REPORT]
