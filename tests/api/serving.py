"""The API of a node on a real socket, for what Quart's own client cannot do: wait, and go away."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from meshd.api.app import create_app
from meshd.api.server import serve
from tests.api.local import Local
from tests.api.working import OfMesh


@asynccontextmanager
async def serving(local: Local | OfMesh, port: int = 0) -> AsyncIterator[str]:
    """The URL at which it is served; it ends as a daemon does, with its events."""
    stopping = trio.Event()

    async def stop() -> None:
        await stopping.wait()
        local.events.close()

    with socket.create_server(("127.0.0.1", port)) as listening:
        host, port = listening.getsockname()
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, create_app(local.instance()), [listening], stop))
            try:
                yield f"http://{host}:{port}"
            finally:
                stopping.set()
