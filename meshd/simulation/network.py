"""Links between simulated hosts: TCP's order and silence, a WebSocket's closing, and a connection's watch over both.

Rules (as `connections` and the kernel have them):

- A link is two ways. The frames of a way arrive in their order, each after the latency of the moment; the end of a
  link arrives behind the frames that were sent before it. Ways of different links know nothing of each other.
- No frame of an open link is lost alone. On a cut way frames wait; when it is joined they arrive late. Loss delays a
  frame by its retransmissions.
- An end that hears nothing while its ping stays unanswered for 20 s aborts, 20 to 30 s after the silence began. The
  other end hears of it when the way there is open.
- A process that is killed resets its links; a host without power is silent.
- Who dials waits a round trip. It is refused at once where nothing listens, and gives up after 10 s where nothing
  answers. A URL is dialled once at a time: asking again moves a dial that waits, and no more. Links have numbers that
  are never used again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING, TypeAlias, cast

from attrs import define, field, frozen

from meshd.core.inputs import DialFailed, LatencyMeasured, LinkDown, LinkUp, Received
from meshd.core.messages import Message
from meshd.simulation.host import Host

if TYPE_CHECKING:
    from meshd.simulation.world import World

PING_EVERY_S = 10.0
PONG_WITHIN_S = 20.0
DIAL_WITHIN_S = 10.0
CLOSE_WITHIN_S = 5.0
OUTBOX_FRAMES = 8192
UNDER_WAY = 0
RETRANSMIT_S = 0.2  # TCP's first pause, which doubles
MAX_LATENCY_S = 0.05  # of a link with which nothing is wrong
ABNORMAL = 1006
TOO_SLOW = 4408


@frozen
class End:
    """Comes after the last frame of a way."""

    code: int
    reason: str


Item: TypeAlias = "Message | LinkUp | End"


@define(eq=False)
class Way:
    """From one host to another; `number` is the sender's for this link, `back` the other way.

    `url` is what the sender dialled. `is_up`: the sender was told of the link. `is_dead`: nobody takes what arrives.
    `mute_since_s`: since when the sender's pings cannot be answered, None while they can.
    """

    sender: Host
    receiver: Host
    number: int
    url: str | None = None
    is_up: bool = False
    is_dead: bool = False
    is_cut: bool = False
    closing: bool = False
    queue: deque[Item] = field(factory=deque)
    last_arrival_s: float = 0.0
    heard_s: float = -1.0
    mute_since_s: float | None = None
    back: Way = field(init=False)


@define(eq=False)
class Network:
    """All links, and what is wrong with the ways between hosts."""

    world: World
    chance: Random
    latencies_s: dict[tuple[int, int], float]
    cuts: Counter[tuple[int, int]] = field(factory=Counter)
    frames: int = 0

    # What the nodes ask for

    def send(self, host: Host, link: int, message: Message) -> None:
        way = host.ways.get(link)
        if way is None or way.closing:
            return
        if len(way.queue) >= OUTBOX_FRAMES:
            self.world.at_host(self.world.now_s, host, self._abort, way, TOO_SLOW, "its outbox is full")
            way.closing = True
            return
        self._put(way, message)

    def hang_up(self, host: Host, link: int, code: int, reason: str) -> None:
        way = host.ways.get(link)
        if way is None or way.closing:
            return
        way.closing = True
        self._put(way, End(code, reason))
        is_answered = not self._is_mute(way)
        within_s = 2 * self._latency_s(way) if is_answered else CLOSE_WITHIN_S
        self.world.at_host(self.world.now_s + min(within_s, CLOSE_WITHIN_S), host, self._close, way, code, reason)

    def dial(self, host: Host, url: str, delay_s: float) -> None:
        if host.dials.get(url) == UNDER_WAY:
            return
        host.dialled += 1
        host.dials[url] = host.dialled
        begin_s = self.world.now_s + delay_s * self.chance.uniform(0.5, 1.0)
        self.world.at_host(begin_s, host, self._connect, host, url, host.dialled)

    # Opening

    def _connect(self, host: Host, url: str, number: int) -> None:
        if host.dials.get(url) != number:
            return  # asked for again since, and moved
        host.dials[url] = UNDER_WAY
        other = self.world.by_url.get(url)
        now_s = self.world.now_s
        if other is None or other is host:
            self.world.at_host(now_s, host, self._failed, host, url, "connection refused")
        elif not self._answers(host, other):
            self.world.at_host(now_s + DIAL_WITHIN_S, host, self._failed, host, url, "timed out")
        else:
            round_trip_s = min(4.0, 2 * self._between_s(host, other))
            if other.node is None or other.is_draining:
                self.world.at_host(now_s + round_trip_s, host, self._failed, host, url, "connection refused")
            else:
                self.world.at_host(now_s + 1.5 * round_trip_s, host, self._establish, host, other, other.life, url)

    def _answers(self, host: Host, other: Host) -> bool:
        is_cut = self.cuts[host.index, other.index] or self.cuts[other.index, host.index]
        return other.has_power and not is_cut and other.stalled_until_s <= self.world.now_s

    def _failed(self, host: Host, url: str, reason: str) -> None:
        host.dials.pop(url, None)
        self.world.step(host, DialFailed(url, reason))

    def _establish(self, host: Host, other: Host, life: int, url: str) -> None:
        if not self._answers(host, other) or other.life != life:
            self._failed(host, url, "connection reset")
            return
        host.links += 1
        other.links += 1
        way, back = Way(host, other, host.links, url), Way(other, host, other.links, is_up=True)
        way.back, back.back = back, way
        host.ways[way.number], other.ways[back.number] = way, back
        self._put(back, LinkUp(way.number, url, url))
        self.world.step(other, LinkUp(back.number, f"{host}:{40_000 + way.number}"))

    # Frames on their way

    def _put(self, way: Way, item: Item) -> None:
        if way.is_dead:
            return
        way.queue.append(item)
        if not way.is_cut:
            self._schedule(way)

    def _schedule(self, way: Way) -> None:
        arrival_s = max(way.last_arrival_s, self.world.now_s + self._latency_s(way))
        way.last_arrival_s = arrival_s
        self.world.at_host(arrival_s, way.receiver, self._arrive, way)

    def _latency_s(self, way: Way) -> float:
        sender, receiver = way.sender, way.receiver
        latency_s = self.latencies_s[sender.index, receiver.index] * (1 + self.chance.random())
        latency_s += sender.extra_latency_s + receiver.extra_latency_s
        if loss := sender.loss or receiver.loss:
            pause_s = RETRANSMIT_S
            while self.chance.random() < loss and pause_s < PONG_WITHIN_S:
                latency_s += pause_s
                pause_s *= 2
        return latency_s

    def _between_s(self, host: Host, other: Host) -> float:
        return self.latencies_s[host.index, other.index] + host.extra_latency_s + other.extra_latency_s

    def _arrive(self, way: Way) -> None:
        if way.is_cut or not way.queue:
            return
        item = way.queue.popleft()
        back = way.back
        if item.__class__ is LinkUp:
            assert isinstance(item, LinkUp)
            back.is_up = True
            way.receiver.dials.pop(item.url or "", None)
            self.world.step(way.receiver, item)
            self._measure(back)
            self._measure(way)
        elif item.__class__ is End:
            assert isinstance(item, End)
            self._close(back, item.code, item.reason)
        else:
            back.heard_s = self.world.now_s
            self.frames += 1
            self.world.step(way.receiver, Received(back.number, cast(Message, item)))

    def _measure(self, way: Way) -> None:
        """One ping's answer. Later ones would be contact, which heartbeats are too, and cost most of a run."""
        round_trip_s = 2 * self._between_s(way.sender, way.receiver)
        answered_s = self.world.now_s + PING_EVERY_S + round_trip_s
        self.world.at_host(answered_s, way.sender, self._measured, way, round_trip_s)

    def _measured(self, way: Way, round_trip_s: float) -> None:
        if way.number in way.sender.ways and not self._is_mute(way):
            self.world.step(way.sender, LatencyMeasured(way.number, round_trip_s * 1000))

    # Ends

    def _close(self, way: Way, code: int, reason: str) -> None:
        """The sender's end of a link is over: it hears no more of it."""
        if way.sender.ways.pop(way.number, None) is None:
            return
        way.back.is_dead = True
        way.back.queue.clear()
        if way.is_up:
            self.world.step(way.sender, LinkDown(way.number, code, reason))
        else:
            self._failed(way.sender, way.url or "", reason)

    def _abort(self, way: Way, code: int, reason: str) -> None:
        if way.number in way.sender.ways:
            self._put(way, End(ABNORMAL, "connection reset"))
            self._close(way, code, reason)

    def reset(self, way: Way) -> None:
        """Break a link in the middle: what is on its way is lost, and both ends learn of it."""
        for each in (way, way.back):
            each.queue.clear()
            each.closing = True
            self._put(each, End(ABNORMAL, "connection reset"))

    def process_ended(self, host: Host) -> None:
        """Its kernel resets all links; without power nobody does."""
        for way in host.ways.values():
            way.back.is_dead = True
            way.back.queue.clear()
            if host.has_power:
                self._put(way, End(ABNORMAL, "connection reset"))
            else:
                self._mute(way.back)
        host.ways.clear()
        host.dials.clear()

    def powered_up(self, host: Host) -> None:
        """Whoever still holds a link to an earlier life is told that there is none."""
        for other in self.world.hosts:
            for way in list(other.ways.values()):
                if way.receiver is host and way.is_dead:
                    after_s = self.chance.uniform(0.0, 2.0)
                    self.world.at_host(
                        self.world.now_s + after_s, other, self._abort, way, ABNORMAL, "connection reset"
                    )

    # Silence

    def cut(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Let nothing through from the first to the second host of each pair, until it is joined as often."""
        for pair in pairs:
            self.cuts[pair] += 1
            for way in self._between(pair):
                way.is_cut = True
                self._mute(way)
                self._mute(way.back)

    def join(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Undo one `cut`; what waited arrives."""
        for pair in pairs:
            self.cuts[pair] -= 1
            if self.cuts[pair]:
                continue
            for way in self._between(pair):
                way.is_cut = False
                way.heard_s = way.back.heard_s = self.world.now_s  # what was asked is answered
                way.last_arrival_s = max(way.last_arrival_s, self.world.now_s + self.chance.uniform(0.0, 2.0))
                for _ in way.queue:
                    self._schedule(way)

    def stalled(self, host: Host) -> None:
        """A host's process stands still: pings to it are not answered."""
        for way in host.ways.values():
            self._mute(way.back)

    def resumed(self, host: Host) -> None:
        """It goes on, and answers what was asked."""
        for way in host.ways.values():
            way.back.heard_s = self.world.now_s

    def _between(self, pair: tuple[int, int]) -> list[Way]:
        """All ways in this direction, those too that only one end still knows."""
        hosts = self.world.hosts
        sender, receiver = hosts[pair[0]], hosts[pair[1]]
        ways = {id(way): way for way in sender.ways.values() if way.receiver is receiver}
        ways |= {id(way.back): way.back for way in receiver.ways.values() if way.receiver is sender}
        return list(ways.values())

    def _is_mute(self, way: Way) -> bool:
        is_stalled = way.receiver.stalled_until_s > self.world.now_s
        return way.is_cut or way.back.is_cut or way.is_dead or is_stalled

    def _mute(self, way: Way) -> None:
        """The sender's pings will not be answered from here on."""
        if way.mute_since_s is None or way.number not in way.sender.ways:
            way.mute_since_s = self.world.now_s
            asked_s = self.world.now_s + self.chance.uniform(0.0, PING_EVERY_S)
            self.world.at_host(asked_s + PONG_WITHIN_S, way.sender, self._watch, way, asked_s)

    def _watch(self, way: Way, asked_s: float) -> None:
        if way.number not in way.sender.ways:
            return
        if not self._is_mute(way):
            way.mute_since_s = None
        elif way.heard_s >= asked_s:
            asked_s = self.world.now_s + PING_EVERY_S
            self.world.at_host(asked_s + PONG_WITHIN_S, way.sender, self._watch, way, asked_s)
        else:
            self._abort(way, ABNORMAL, f"nothing heard for {PONG_WITHIN_S:.0f} s")
