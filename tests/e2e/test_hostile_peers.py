"""What strangers and broken peers send to a running instance: it goes on serving, small, and says it once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import trio

from meshd.errors import LinkClosed
from meshd.links import Link
from meshd.websocket import WebSocketNetwork
from tests.e2e.fleet import Instance, fleet, until

MIB = 1024 * 1024


def identity(name: str, **more: Any) -> str:
    return json.dumps({"type": "identity", "instanceId": name, "timestamp": "2026-03-14T09:26:53.589Z", **more})


async def closed_with(link: Link, within_s: float) -> int:
    """Read until the link is closed; returns the code."""
    with trio.fail_after(within_s):
        while True:
            try:
                await link.receive()
            except LinkClosed as closed:
                return closed.code


async def malformed_frames(url: str) -> None:
    async with WebSocketNetwork().dial(url) as link:
        for frame in (identity("broken"), "{", "[]", '{"no": "type"}'):
            await link.send(frame.encode())
        assert await closed_with(link, 5) == 1002


async def large_frames(url: str) -> None:
    async with WebSocketNetwork().dial(url) as link:
        novelty = json.dumps({"type": "novelty", "data": "x" * (2 * MIB)})
        for frame in (identity("large"), novelty, "x" * (2 * MIB)):
            await link.send(frame.encode())
        await link.ping()  # all were read, and the link is still there
    async with WebSocketNetwork().dial(url) as link:
        await link.send(b"x" * (5 * MIB))
        assert await closed_with(link, 10) == 1009


async def unknown_types(url: str) -> None:
    async with WebSocketNetwork().dial(url) as link:
        await link.send(identity("future").encode())
        for number in range(500):
            await link.send(json.dumps({"type": f"novelty-{number}", "value": number}).encode())
        await link.ping()


async def silence(url: str) -> None:
    async with WebSocketNetwork().dial(url) as link:
        assert await closed_with(link, 25) == 1002


async def never_reads(instance: Instance) -> None:
    """A native peer whose socket is never read: what is meant for it is held, bounded, and then let go."""
    stream = await trio.open_tcp_stream(instance.address, 4444)
    handshake = (
        "GET / HTTP/1.1\r\nHost: mesh\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    payload = identity("deaf", protocol=1, minProtocol=1, boot="b", hive=None).encode()
    masked = bytes([0x81, 0x80 | 126, *len(payload).to_bytes(2), 0, 0, 0, 0]) + payload
    await stream.send_all(handshake.encode() + masked)

    async def is_seen() -> bool:
        return "deaf" in await instance.online()

    await until(is_seen, 10)
    for number in range(40):
        document = {"title": "Large", "text": "x" * MIB}
        assert (await instance.client.put(f"/api/projects/large-{number}", json=document)).status_code == 201

    async def is_let_go() -> bool:
        peers = (await instance.get("/api/hivemind/peers"))["peers"]
        return not next(peer["linked"] for peer in peers if peer["instanceId"] == "deaf")

    await until(is_let_go, 30)
    await stream.aclose()


async def test_it_goes_on_serving(tmp_path: Path) -> None:
    async with fleet(tmp_path, size=1, heartbeat_ms=1000, ttl_ms=4000) as (instance,):
        url = f"ws://{instance.address}:4444"
        before_bytes = instance.resident_bytes()
        async with trio.open_nursery() as nursery:
            for peer in (malformed_frames, large_frames, unknown_types, silence):
                nursery.start_soon(peer, url)
            nursery.start_soon(never_reads, instance)
        # 40 MiB of documents are held for good; the outbox of the deaf peer and the frames are not.
        assert instance.resident_bytes() - before_bytes < (40 + 160) * MIB
        async with WebSocketNetwork().dial(url) as link:
            await link.send(identity("friend").encode())
            assert json.loads(await link.receive())["type"] == "identity"
        assert (await instance.client.get("/readyz")).status_code == 200
        status = await instance.get("/api/hivemind/status")
        assert status["dropped"]["malformed"] >= 3
        assert status["dropped"]["unknown-type"] == 501
        warnings = [line for line in instance.log.splitlines() if " warning " in line]
        for name in ("broken", "large"):
            assert len([line for line in warnings if f"{name} sent a frame that is no message" in line]) == 1
        assert "Traceback" not in instance.log
        assert await instance.stop() == 0
