"""What a link is and where links come from; and a network in memory that keeps the same promises, for tests.

A `Link` is one open pipe between two instances: frames in order, each one whole, until the link ends. Its rules:

- one task receives, one task sends, any task may ping, close or abort;
- `receive` is called all the time: while nobody receives, pings go unanswered and the other side waits;
- a cancelled `send` may have torn its frame, so the link is aborted; a cancelled `ping` is harmless;
- whatever ends a link, every call on it raises `LinkClosed` from then on: with our own code when we closed it, with
  theirs when they did, with 1006 when it broke or was aborted.

A `Network` makes links. Each one lives as long as a block of code: the block of `dial`, or the call of `accept`. At
its end a link that is still open is dropped, and the other side sees 1006: close first.

`MemoryNetwork` is a world of hosts (`MemoryNetwork.host`) that talk through memory: no threads, no randomness, every
delay on trio's clock. It behaves as TCP does. A partition loses nothing, it holds frames back until it heals; a
sender whose peer does not read waits. What TCP cannot do, `drop` and `half_open` do: swallow what was sent.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NoReturn, Protocol, TypeAlias

import trio
from attrs import Factory, define, frozen

from meshd.errors import DialError, LinkClosed

# Name lookup, TCP, TLS and handshake together (design, section 7).
DIAL_S = 10.0

# How long the other side has to answer a close frame, before the link is dropped.
CLOSE_S = 2.0

# No close frame came: RFC 6455, 7.4.1.
ABNORMAL = 1006

# What a close frame has room for beside its code: RFC 6455, 5.5.
MAX_REASON_BYTES = 123


class Link(Protocol):
    """One open pipe between two instances; see the rules above."""

    @property
    def address(self) -> str:
        """The other side, for people to read."""

    async def receive(self) -> str | bytes:
        """Wait for the next frame: text as `str`, binary as `bytes`. What was sent before a close still arrives."""

    async def send(self, frame: bytes) -> None:
        """Send one text frame holding these UTF-8 bytes; wait while the other side does not read."""

    async def ping(self) -> None:
        """Return when the pong came; without one, wait until cancelled or until the link ends."""

    async def close(self, code: int, reason: str) -> None:
        """Tell the other side why, after everything sent so far, and end the link; takes `CLOSE_S` at most.

        Frames that were not received yet are discarded; `reason` is cut at `MAX_REASON_BYTES`. Nothing is raised when
        the link had ended before.
        """

    def abort(self) -> None:
        """Drop the link at once, without a word; a blocked `send`, `receive` or `ping` raises `LinkClosed`."""


Accept: TypeAlias = Callable[[Link], Awaitable[None]]


class Network(Protocol):
    """Where links come from."""

    def dial(self, url: str) -> AbstractAsyncContextManager[Link]:
        """Open a link that lives for the block; raise `DialError` with a one-line reason within `DIAL_S`."""

    async def serve(self, accept: Accept, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Await `accept(link)` in a task of its own for each link that a peer opens; the link lives for the call.

        No peer can make this fail. An exception from `accept` is not the peer's doing: it is raised from here.
        """


# Frames of one direction that were sent and not received; a sender waits for room. As many as a WebSocket link
# queues (meshd.websocket), so that a test sees the same backpressure.
MAX_IN_FLIGHT = 64


@define(eq=False)
class _Path:
    """The way from one host to another: what the network does to everything that takes it."""

    delay_s: float = 0.0
    is_held: bool = False
    drops: bool = False

    @property
    def lag_s(self) -> float:
        return math.inf if self.is_held or self.drops else self.delay_s


@frozen
class _End:
    """The last item of a direction: here the link ends for its receiver."""

    code: int
    reason: str = ""


@define(eq=False)
class _Direction:
    """One way of one link: items in order, each with the time at which it arrives."""

    path: _Path
    swallows: bool = False
    items: deque[tuple[float, bytes | _End]] = Factory(deque)

    @property
    def has_room(self) -> bool:
        return len(self.items) < MAX_IN_FLIGHT

    @property
    def lag_s(self) -> float:
        """How long something takes that is sent here; infinite while it would not arrive."""
        return self.path.lag_s if self.has_room and not self.swallows else math.inf

    @property
    def first_due(self) -> float:
        """When the first item can be received; infinite while none is on its way."""
        return self.items[0][0] if self.items and not self.path.is_held else math.inf

    @property
    def end(self) -> _End | None:
        """How the link ends for the receiver, once that was sent."""
        item = self.items[-1][1] if self.items else None
        return item if isinstance(item, _End) else None

    @property
    def end_due(self) -> float:
        return self.items[-1][0] if self.end and not self.path.is_held else math.inf

    def put(self, item: bytes | _End) -> None:
        if self.swallows or self.path.drops or self.end is not None:
            return
        earliest = self.items[-1][0] if self.items else 0.0  # nothing overtakes when a delay shrinks
        self.items.append((max(earliest, trio.current_time() + self.path.delay_s), item))


@define(eq=False)
class MemoryLink:
    """One end of a link in memory; `_changed` wakes all who wait at either end, to look again."""

    address: str
    _outbound: _Direction
    _inbound: _Direction
    _changed: trio.lowlevel.ParkingLot
    _closed: _End | None = None

    async def receive(self) -> str | bytes:
        await trio.lowlevel.checkpoint()
        while True:
            if self._closed is not None:
                raise LinkClosed(self._closed.code, self._closed.reason)
            if self._inbound.first_due <= trio.current_time():
                return self._next()
            await self._wait(self._inbound.first_due)

    def _next(self) -> str:
        _, item = self._inbound.items[0]
        if isinstance(item, _End):
            raise LinkClosed(item.code, item.reason)
        self._inbound.items.popleft()
        self._changed.unpark_all()
        return item.decode()

    async def send(self, frame: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._raise_if_ended()
        try:
            while not self._outbound.has_room:
                await self._wait(self._inbound.end_due)
                self._raise_if_ended()
        except trio.Cancelled:
            self.abort()
            raise
        self._outbound.put(frame)
        self._changed.unpark_all()

    async def ping(self) -> None:
        await trio.lowlevel.checkpoint()
        self._raise_if_ended()
        passed_at = trio.current_time()
        for direction in (self._outbound, self._inbound):
            while (due := passed_at + direction.lag_s) > trio.current_time():
                await self._wait(min(due, self._inbound.end_due))
                self._raise_if_ended()
            passed_at = due

    async def close(self, code: int, reason: str) -> None:
        if self._closed is None and self._inbound.end_due > trio.current_time():
            self._closed = _End(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
            self._changed.unpark_all()
            with trio.move_on_after(CLOSE_S):
                await self._shake_hands(self._closed)
        self.abort()

    async def _shake_hands(self, end: _End) -> None:
        """Let the other side know of `end`, and wait for its answer or for an end of its own."""
        while not self._outbound.has_room:
            await self._wait()
        self._outbound.put(end)
        self._changed.unpark_all()
        while (due := min(self._outbound.end_due + self._inbound.lag_s, self._inbound.end_due)) > trio.current_time():
            await self._wait(due)

    def abort(self) -> None:
        self._closed = self._closed or self._arrived_end or _End(ABNORMAL, "aborted")
        if self._outbound.end is None:
            self._outbound.items.clear()
            self._outbound.put(_End(ABNORMAL))
        self._changed.unpark_all()

    def break_off(self) -> None:
        """End this side as a reset does: with 1006, and without what is in flight."""
        self._closed = self._closed or _End(ABNORMAL, "connection reset")
        self._changed.unpark_all()

    def stop_sending(self) -> None:
        """Swallow what is in flight and all that this side sends from here on: half-open."""
        self._outbound.swallows = True
        self._outbound.items.clear()
        self._changed.unpark_all()

    def wake(self) -> None:
        """Look again: the path changed."""
        self._changed.unpark_all()

    @property
    def is_closed(self) -> bool:
        return self._closed is not None

    @property
    def _arrived_end(self) -> _End | None:
        return self._inbound.end if self._inbound.end_due <= trio.current_time() else None

    def _raise_if_ended(self) -> None:
        end = self._closed or self._arrived_end
        if end is not None:
            raise LinkClosed(end.code, end.reason)

    async def _wait(self, until: float = math.inf) -> None:
        with trio.move_on_at(until):
            await self._changed.park()


@define(eq=False)
class MemoryHost:
    """One host of a `MemoryNetwork`: the `Network` of the instance that has this URL."""

    url: str
    _network: MemoryNetwork
    _serving: tuple[trio.Nursery, Accept] | None = None

    @asynccontextmanager
    async def dial(self, url: str) -> AsyncIterator[Link]:
        try:
            with trio.fail_after(DIAL_S):
                link = await self._network.connect(self, self._network.host(url))
        except trio.TooSlowError:
            raise DialError(f"no answer within {DIAL_S:g} s") from None
        try:
            yield link
        finally:
            link.abort()

    async def serve(self, accept: Accept, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        async with trio.open_nursery() as nursery:
            self._serving = (nursery, accept)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._serving = None
        raise AssertionError("cancelled or crashed, never done")

    def take(self, link: MemoryLink) -> bool:
        """Accept a dialled link; False when nobody serves."""
        if self._serving is None:
            return False
        nursery, accept = self._serving
        nursery.start_soon(_accept, accept, link)
        return True


async def _accept(accept: Accept, link: MemoryLink) -> None:
    try:
        await accept(link)
    finally:
        link.abort()


@define(eq=False)
class MemoryNetwork:
    """A world of hosts, and all that can go wrong between two of them. Hosts are named by their URLs."""

    _hosts: dict[str, MemoryHost] = Factory(dict)
    _paths: dict[tuple[str, str], _Path] = Factory(dict)
    _links: list[tuple[set[str], MemoryLink, MemoryLink]] = Factory(list)
    _changed: trio.lowlevel.ParkingLot = Factory(trio.lowlevel.ParkingLot)

    def host(self, url: str) -> MemoryHost:
        """The host at `url`; nobody serves there until its `serve` runs, and a dial is refused."""
        return self._hosts.setdefault(url, MemoryHost(url, self))

    def delay(self, source: str, target: str, delay_s: float) -> None:
        """Let all that `source` sends to `target` from here on take so long, in this direction only."""
        self._path(source, target).delay_s = delay_s

    def partition(self, a: str, b: str) -> None:
        """Hold back everything between two hosts until `heal`: frames arrive later, dials go unanswered."""
        self._change(a, b, is_held=True)
        self._change(b, a, is_held=True)

    def drop(self, source: str, target: str) -> None:
        """Lose all that `source` sends to `target` until `heal`, without a sign to either; dials fail both ways."""
        self._change(source, target, drops=True)

    def heal(self, a: str, b: str) -> None:
        """End a partition and drops between two hosts."""
        self._change(a, b)
        self._change(b, a)

    def cut(self, a: str, b: str) -> None:
        """End every link between two hosts: both sides see 1006 at once."""
        for link in self._between(a, b):
            link.break_off()

    def half_open(self, a: str, b: str) -> None:
        """Make every link between two hosts swallow what is sent, for ever and without a sign; new links work."""
        for link in self._between(a, b):
            link.stop_sending()

    async def connect(self, source: MemoryHost, target: MemoryHost) -> MemoryLink:
        """Open a link for `MemoryHost.dial`: one way there, one back."""
        there, back = self._path(source.url, target.url), self._path(target.url, source.url)
        await self._travel(there)
        changed = trio.lowlevel.ParkingLot()
        out, home = _Direction(there), _Direction(back)
        near, far = MemoryLink(target.url, out, home, changed), MemoryLink(source.url, home, out, changed)
        is_taken = target.take(far)
        if is_taken:
            self._links = [entry for entry in self._links if not (entry[1].is_closed and entry[2].is_closed)]
            self._links.append(({source.url, target.url}, near, far))
        try:
            await self._travel(back)
        except trio.Cancelled:
            near.abort()
            raise
        if not is_taken:
            raise DialError("connection refused")
        return near

    async def _travel(self, path: _Path) -> None:
        """Take `path` once; wait as long as it lets nothing through."""
        started_at = trio.current_time()
        await trio.lowlevel.checkpoint()
        while (due := started_at + path.lag_s) > trio.current_time():
            with trio.move_on_at(due):
                await self._changed.park()

    def _path(self, source: str, target: str) -> _Path:
        return self._paths.setdefault((source, target), _Path())

    def _between(self, a: str, b: str) -> list[MemoryLink]:
        return [link for hosts, near, far in self._links if hosts == {a, b} for link in (near, far)]

    def _change(self, source: str, target: str, *, is_held: bool = False, drops: bool = False) -> None:
        path = self._path(source, target)
        path.is_held, path.drops = is_held, drops
        self._changed.unpark_all()
        for link in self._between(source, target):
            link.wake()
