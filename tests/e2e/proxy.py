"""A TCP proxy in front of a listening address, which can take single clients' connections apart.

A client is known by the name that `who` finds for its port. `cut` breaks its connections and resets new ones; `stall`
lets them stand and passes nothing on, in neither direction; `heal` ends both, and what was held back goes on its way.
`refuse` closes the port for everybody until `listen`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import NoReturn

import trio
from attrs import define, field

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close drops what is unsent and tells the other side so
PIECE_BYTES = 64 * 1024

Address = tuple[str, int]


@define(eq=False)
class _Connection:
    client: str
    streams: tuple[trio.SocketStream, ...]

    def reset(self) -> None:
        for stream in self.streams:
            if stream.socket.fileno() < 0:
                continue
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            stream.socket.close()


@define(eq=False)
class Proxy:
    """Passes what comes to `at` on to `target`; `who` names the client that connects from a port."""

    at: Address
    target: Address
    who: Callable[[int], str]
    accepted: int = 0
    _apart: set[str] = field(factory=set)
    _stalled: set[str] = field(factory=set)
    _changed: trio.Event = field(factory=trio.Event)
    _is_open: bool = True
    _connections: set[_Connection] = field(factory=set)

    def cut(self, client: str) -> None:
        self._apart.add(client)
        for connection in [one for one in self._connections if one.client == client]:
            connection.reset()

    def stall(self, client: str) -> None:
        self._stalled.add(client)

    def heal(self, client: str) -> None:
        self._apart.discard(client)
        self._stalled.discard(client)
        self._change()

    def refuse(self) -> None:
        """Nobody listens here any more; what is open is reset."""
        self._is_open = False
        self._change()
        for connection in list(self._connections):
            connection.reset()

    def listen(self) -> None:
        self._is_open = True
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        async with trio.open_nursery() as nursery:
            while True:
                if self._is_open:
                    await self._accept_while_open(nursery, task_status)
                    task_status = trio.TASK_STATUS_IGNORED
                else:
                    await self._changed.wait()

    async def _accept_while_open(self, connections: trio.Nursery, task_status: trio.TaskStatus[None]) -> None:
        host, port = self.at
        listeners = await trio.open_tcp_listeners(port, host=host)
        async with trio.open_nursery() as accepting:
            accepting.start_soon(
                lambda: trio.serve_listeners(self._pass_on, listeners, handler_nursery=connections),
            )
            task_status.started()
            while self._is_open:
                await self._changed.wait()
            accepting.cancel_scope.cancel()

    async def _pass_on(self, client: trio.SocketStream) -> None:
        self.accepted += 1
        name = self.who(client.socket.getpeername()[1])
        connection = _Connection(name, (client,))
        try:
            if name in self._apart or not self._is_open:
                return
            connection.streams += (await trio.open_tcp_stream(*self.target),)
            self._connections.add(connection)
            async with trio.open_nursery() as nursery:
                for source, sink in (connection.streams, reversed(connection.streams)):
                    nursery.start_soon(self._pump, name, source, sink, nursery.cancel_scope)
        except OSError:
            pass  # nobody at the target
        finally:
            self._connections.discard(connection)
            connection.reset()

    async def _pump(
        self, name: str, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        """Copy one direction; its end, however it comes, ends the connection."""
        try:
            while data := await source.receive_some(PIECE_BYTES):
                while name in self._stalled:
                    await self._changed.wait()
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()
