"""A client of one kept connection that costs next to nothing, and that says which request lost its answer."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Self

import orjson
import trio
from attrs import define, field

PIECE_BYTES = 64 * 1024


class Unreachable(Exception):  # noqa: N818  what happened, not whose error it is
    """Nobody took the request: it did not happen."""


class Unanswered(Exception):  # noqa: N818  what happened, not whose error it is
    """The request was sent, and the connection ended without an answer."""


@define(eq=False)
class RawClient:
    """One client of the API at `address`; it connects when it has something to ask, one request at a time."""

    address: str
    port: int = 3008
    _stream: trio.SocketStream | None = None
    _received: bytearray = field(factory=bytearray)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._drop()

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """The status of an answer and its JSON, None when it has none."""
        content = b"" if body is None else orjson.dumps(body)
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.address}:{self.port}\r\nContent-Length: {len(content)}\r\n"
        head += "Content-Type: application/json\r\n\r\n" if content else "\r\n"
        stream = self._stream or await self._connect()
        try:
            await stream.send_all(head.encode() + content)
            return await self._answer(stream)
        except (trio.BrokenResourceError, Unanswered):
            await self._drop()
            raise Unanswered from None

    async def _connect(self) -> trio.SocketStream:
        try:
            self._stream = await trio.open_tcp_stream(self.address, self.port)
        except OSError as error:
            raise Unreachable from error
        self._received.clear()
        return self._stream

    async def _drop(self) -> None:
        if self._stream:
            with suppress(trio.BrokenResourceError):
                await trio.aclose_forcefully(self._stream)
        self._stream = None

    async def _answer(self, stream: trio.SocketStream) -> tuple[int, Any]:
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            await self._more(stream)
        status, headers = _head(bytes(self._received[:end]))
        end += 4 + int(headers.get("content-length", "0"))
        start = end - int(headers.get("content-length", "0"))
        while len(self._received) < end:
            await self._more(stream)
        content = bytes(self._received[start:end])
        del self._received[:end]
        if headers.get("connection") == "close":
            await self._drop()
        return status, orjson.loads(content) if content else None

    async def _more(self, stream: trio.SocketStream) -> None:
        data = await stream.receive_some(PIECE_BYTES)
        if not data:
            raise Unanswered
        self._received += data


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines)
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in fields}
