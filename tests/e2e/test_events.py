"""The event stream of a real process that is killed again and again: ids dense, nothing lost, nothing twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import trio
from attrs import define, field

from tests.e2e.fleet import Instance, fleet, until
from tests.e2e.raw_http import RawClient, Unanswered, Unreachable

KILLS = 3
WRITERS = 4
WRITES = 40  # acknowledged ones between two kills


@define
class Follower:
    """Reads the stream as an application does: whatever happens, it connects again after the last id it has."""

    instance: Instance
    events: list[dict[str, Any]] = field(factory=list)
    controls: list[dict[str, Any]] = field(factory=list)
    ends: int = 0

    async def follow(self) -> None:
        while True:
            headers = {"Last-Event-ID": str(self.events[-1]["id"] if self.events else 0)}
            try:
                async with self.instance.client.stream("GET", "/api/events", headers=headers, timeout=30) as response:
                    await self._read(response)
                self.ends += 1
            except httpx.TransportError:
                await trio.sleep(0.02)

    async def _read(self, response: httpx.Response) -> None:
        rest = b""
        async for chunk in response.aiter_bytes():
            *frames, rest = (rest + chunk).split(b"\n\n")
            for frame in frames:
                for line in frame.split(b"\n"):
                    if line.startswith(b"data: "):
                        event = json.loads(line[6:])
                        (self.events if "payload" in event else self.controls).append(event)


@define
class Writers:
    """Clients that write and remember what was acknowledged: the revision that each write made."""

    instance: Instance
    acknowledged: list[str] = field(factory=list)
    numbers: int = 0
    done: bool = False

    async def write(self, name: str) -> None:
        async with RawClient(self.instance.address) as client:
            while not self.done:
                self.numbers += 1
                try:
                    status, body = await client.ask("PUT", f"/api/projects/{name}", {"title": str(self.numbers)})
                except (Unreachable, Unanswered):
                    await trio.sleep(0.02)
                    continue
                assert status in (200, 201), body
                self.acknowledged.append(body["revision"])


async def more_acknowledged(writers: Writers) -> None:
    target = len(writers.acknowledged) + WRITES

    async def is_written() -> bool:
        return len(writers.acknowledged) >= target

    await until(is_written, 30)


async def test_kills_lose_and_repeat_no_event(tmp_path: Path) -> None:
    printed = tmp_path / "printed"
    async with fleet(tmp_path, size=1) as (instance,):
        url = f"http://{instance.address}:3008"
        command = [sys.executable, "-m", "meshd", "events", "-f", "--json", "--since", "0", "--url", url]
        with printed.open("wb") as output:
            shown = await trio.to_thread.run_sync(
                lambda: subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
            )
        try:
            follower, writers = Follower(instance), Writers(instance)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follower.follow)
                async with trio.open_nursery() as writing:
                    for number in range(WRITERS):
                        writing.start_soon(writers.write, f"project-{number}")
                    for _ in range(KILLS):
                        await more_acknowledged(writers)
                        await instance.stop(signal.SIGKILL)
                        await instance.start()
                    await more_acknowledged(writers)
                    writers.done = True
                page = await instance.get("/api/events?stream=0&limit=1")
                last_id: int = page["lastId"]

                async def all_have_arrived() -> bool:
                    expected = max(last_id, len(follower.events))
                    return len(follower.events) == expected == printed.read_bytes().count(b"\n")

                await until(all_have_arrived, 10)
                # It leaves in good time although somebody reads the stream, whose end is a proper one.
                ends = follower.ends
                assert await instance.stop(signal.SIGTERM, within_s=3.0) == 0

                async def is_told_of_the_end() -> bool:
                    return follower.ends > ends

                await until(is_told_of_the_end, 5)
                await until(all_have_arrived, 5)
                nursery.cancel_scope.cancel()
        finally:
            shown.send_signal(signal.SIGINT)
            with trio.move_on_after(10, shield=True):
                await trio.to_thread.run_sync(shown.wait)

    assert follower.controls == []  # no gap
    assert [event["id"] for event in follower.events] == list(range(1, len(follower.events) + 1))
    told = [event["payload"]["revision"] for event in follower.events if event["type"].startswith("project:")]
    assert len(set(told)) == len(told)
    assert set(writers.acknowledged) <= set(told)
    assert [json.loads(line) for line in printed.read_text().splitlines()] == [
        {"version": 1, **event} for event in follower.events
    ]
    assert shown.returncode == 130
