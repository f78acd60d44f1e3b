"""All open links of this instance: one nursery for each, and the one place that survives a link's exception.

Rules (design, sections 2, 3 and 6):

- A link has three tasks: a reader, which hands every frame to the driver and waits while its inbox is full; a writer,
  the only one that sends; and a watch, which pings. The reader finds a link's end, after everything that came before
  it; the writer ends a link that is hung up on or blocked, the watch one that is silent.
- What is to be sent waits in the link's outbox. A peer that reads too slowly fills it and is hung up on (4408); a send
  that blocks for 10 s ends the link too. A torn send is never continued.
- A link is pinged every 10 s, which also times the round trip. When neither the answer nor anything else came within
  20 s more, the link is dead: TCP alone would take 15 minutes to notice. While our own inbox is full nothing is read,
  and nobody is blamed for it.
- A URL is dialled once at a time: who asks again meanwhile moves the time of a dial that waits, and no more. Whether
  it was asked for once or twice, one answer comes: `LinkUp`, or `DialFailed` within `links.DIAL_S`.
- Hanging up flushes the outbox first, bounded: the last frame says why.
- Nothing that happens on one link may end another. Whatever a link raises ends here, with its peer's name in the log.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from random import Random
from typing import NoReturn

import trio
from attrs import define, field

from meshd import wire
from meshd.core.inputs import DialFailed, Input, LatencyMeasured, LinkDown, LinkUp, Received
from meshd.errors import DialError, LinkClosed
from meshd.links import Link, Network

OUTBOX_FRAMES = 8192  # eight replay windows of single changes: room for what happens while a peer is slow
OUTBOX_BYTES = 64 * 1024 * 1024  # all documents of a large mesh once; what a peer that never reads can make us hold
PING_EVERY_S = 10.0
PONG_WITHIN_S = 20.0
SEND_WITHIN_S = 10.0
CLOSE_WITHIN_S = 5.0
TOO_SLOW = 4408
ABNORMAL = 1006

_log = logging.getLogger("meshd.links")


@define(eq=False)
class _OpenLink:
    """A link's outbox, and how it is to be closed once that is empty."""

    link: Link
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    frames: deque[bytes] = field(factory=deque)
    size_bytes: int = 0
    closing: tuple[int, str] | None = None
    wake: trio.Event = field(factory=trio.Event)
    heard_s: float = field(factory=trio.current_time)
    is_handing_in: bool = False
    is_over: bool = False  # a send found that the other side is gone

    def add(self, frame: bytes) -> bool:
        """Queue a frame; False when the outbox is full."""
        if len(self.frames) >= OUTBOX_FRAMES or self.size_bytes + len(frame) > OUTBOX_BYTES:
            return False
        self.frames.append(frame)
        self.size_bytes += len(frame)
        self.wake.set()
        return True

    def take(self) -> bytes:
        frame = self.frames.popleft()
        self.size_bytes -= len(frame)
        return frame


class Connections:
    """Opens, feeds and closes links. `put` is the driver's inbox; `random` draws the jitter of dials."""

    def __init__(self, network: Network, put: Callable[[Input], Awaitable[None]], random: Random) -> None:
        self._network = network
        self._put = put
        self._random = random
        self._numbers = count(1)
        self._open: dict[int, _OpenLink] = {}
        self._dials: dict[str, trio.CancelScope] = {}  # by URL, until they are answered; the deadline ends the wait
        self._nursery: trio.Nursery | None = None
        self._all_closed = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Hold the nursery of the links that are dialled, for ever."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None
        raise AssertionError("cancelled or crashed, never done")

    # What the driver asks for; none of these wait

    def send(self, links: Sequence[int], frame: bytes) -> None:
        for number in links:
            open_link = self._open.get(number)
            if open_link and not open_link.closing and not open_link.add(frame):
                _log.warning("%s reads too slowly: hanging up", open_link.link.address)
                open_link.closing = (TOO_SLOW, "its outbox is full")
                open_link.scope.cancel()

    def dial(self, url: str, delay_s: float) -> None:
        if not self._nursery:
            return  # the mesh has ended, and nobody is dialled any more
        due_s = trio.current_time() + delay_s * self._random.uniform(0.5, 1.0)
        if waiting := self._dials.get(url):
            waiting.deadline = due_s  # without effect on one that is under way
        else:
            waiting = self._dials[url] = trio.CancelScope(deadline=due_s)
            self._nursery.start_soon(self._dial, url, waiting)

    def hang_up(self, link: int, code: int, reason: str) -> None:
        open_link = self._open.get(link)
        if open_link and not open_link.closing:
            open_link.closing = (code, reason)
            open_link.scope.deadline = trio.current_time() + CLOSE_WITHIN_S
            open_link.wake.set()

    async def all_closed(self) -> None:
        """Wait until no link is open."""
        while self._open:
            self._all_closed = trio.Event()
            await self._all_closed.wait()

    # One link's life

    async def accept(self, link: Link) -> None:
        """Live through an accepted link."""
        await self._live(link, None)

    async def _dial(self, url: str, waiting: trio.CancelScope) -> None:
        with waiting:
            await trio.sleep_forever()
        try:
            async with self._network.dial(url) as link:
                self._answered(url, waiting)
                await self._live(link, url)
        except DialError as error:
            self._answered(url, waiting)
            await self._put(DialFailed(url, str(error)))
        except Exception:  # noqa: BLE001  the crash boundary of a dial: a bug met with one peer must not cost the others
            _log.exception("dialling %s crashed", url)
            self._answered(url, waiting)
            await self._put(DialFailed(url, "crashed"))

    def _answered(self, url: str, waiting: trio.CancelScope) -> None:
        if self._dials.get(url) is waiting:  # else the next dial, asked for while the link of this one was up
            del self._dials[url]

    async def _live(self, link: Link, url: str | None) -> None:
        number = next(self._numbers)
        open_link = self._open[number] = _OpenLink(link)
        end = LinkClosed(ABNORMAL, "cut off")
        try:
            await self._put(LinkUp(number, link.address, url))
            with open_link.scope:
                end = await self._serve(number, open_link)
            if open_link.scope.cancelled_caught:
                end = LinkClosed(*(open_link.closing or (ABNORMAL, "cut off")))
        finally:
            link.abort()
            del self._open[number]
            if not self._open:
                self._all_closed.set()
        await self._put(LinkDown(number, end.code, end.reason))

    async def _serve(self, number: int, open_link: _OpenLink) -> LinkClosed:
        """Run the tasks of a link until the first one ends; returns why. The crash boundary."""
        ends: list[LinkClosed] = []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, number, open_link)
                nursery.start_soon(self._write, open_link)
                nursery.start_soon(self._watch, number, open_link)
        except* LinkClosed as group:
            ends += [error for error in group.exceptions if isinstance(error, LinkClosed)]
        except* Exception:  # noqa: BLE001  the crash boundary: a bug met on one link must not cost the others
            _log.exception("the link to %s crashed; it is closed, the others go on", open_link.link.address)
        return ends[0] if ends else LinkClosed(ABNORMAL, "crashed")

    async def _read(self, number: int, open_link: _OpenLink) -> None:
        while True:
            try:
                frame = await open_link.link.receive()
            except LinkClosed:
                if open_link.closing and not open_link.is_over:  # the writer is at it, and says when it is done
                    return
                raise
            open_link.is_handing_in = True
            await self._put(Received(number, wire.decode(frame)))
            open_link.is_handing_in = False
            open_link.heard_s = trio.current_time()

    async def _write(self, open_link: _OpenLink) -> None:
        while True:
            while open_link.frames:
                with trio.move_on_after(SEND_WITHIN_S) as sending:
                    try:
                        await open_link.link.send(open_link.take())
                    except LinkClosed:
                        if open_link.closing:
                            raise
                        open_link.is_over = True
                        return  # the reader finds the end, after what came before it
                if sending.cancelled_caught:
                    raise LinkClosed(TOO_SLOW, f"a send was blocked for {SEND_WITHIN_S:.0f} s")
            if open_link.closing:
                await open_link.link.close(*open_link.closing)
                raise LinkClosed(*open_link.closing)
            await open_link.wake.wait()
            open_link.wake = trio.Event()

    async def _watch(self, number: int, open_link: _OpenLink) -> None:
        while True:
            asked_s = trio.current_time()
            with trio.move_on_after(PONG_WITHIN_S) as waiting:
                try:
                    await open_link.link.ping()
                except LinkClosed:
                    return
            if not waiting.cancelled_caught:
                open_link.heard_s = trio.current_time()
                await self._put(LatencyMeasured(number, (open_link.heard_s - asked_s) * 1000))
            elif open_link.heard_s < asked_s and not open_link.is_handing_in:
                raise LinkClosed(ABNORMAL, f"nothing heard for {PONG_WITHIN_S:.0f} s")
            await trio.sleep(PING_EVERY_S)
