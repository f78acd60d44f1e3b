"""The composition root: builds an instance from its configuration, nests its nurseries, owns its drain.

    engine       driver                                                cancelled last
      edge       API                                                   stopped last but one, within a deadline
        mesh     links, listener, runner                               deadline: the drain's grace
          tick   heartbeat, TTL, intake, alarm, files, disk, watchdog  cancelled first

Rules (design, section 3):

- Drain is an input, never a cancellation: nothing new is claimed, running work gets `drain.workTimeoutMs` to end and is
  then stopped and given back, while heartbeats go on; the tickers stop, the node says goodbye on every link, the links
  flush and close (1001), then the API stops, then the store is closed. A second signal skips to the last step: what
  still runs is ended by its guards.
- What ends without having been asked to end is a crash, and takes the process with it: systemd starts it anew.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from secrets import token_hex
from typing import NoReturn, Protocol

import orjson
import trio
from attrs import define, field, frozen

import meshd
from meshd import logs
from meshd.agents import STOPPED_WITHIN_S, Agents, CommandAgents, grace_s
from meshd.api import server
from meshd.api.app import create_app
from meshd.api.instance import Instance
from meshd.capacity import Sampler, process_memory
from meshd.config import Loaded
from meshd.configuration import Configuration
from meshd.connections import Connections
from meshd.core.effects import Emit
from meshd.core.inputs import CompactionDue, DrainRequested, HeartbeatDue, IntakeDue, SetDraining, Started, TtlDue
from meshd.core.membership import ttl_check_interval_s
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.disk_watch import WATCH_EVERY_S, DiskWatch
from meshd.driver import Driver
from meshd.edits import Edits, SetAside
from meshd.errors import ListenError, LocalProtocolError, StoreError
from meshd.events import EventStream
from meshd.links import Network
from meshd.model import Capacity, JsonObject, Now
from meshd.runner import Runner
from meshd.sockets import bind_socket, bind_unix
from meshd.store import Disk, SqliteStore, Store
from meshd.systemd import Notifier
from meshd.websocket import WebSocketNetwork
from meshd.workspace import DiskWorkspace, Workspace

EX_OK = 0
EX_OSERR = 71
EX_IOERR = 74

EDGE_STOPS_WITHIN_S = 3.0
CLOSE_WITHIN_S = 5.0
COLLECT_AFTER = (50_000, 20, 100)  # documents and changes hold no cycles: looking for some took a fifth of a replay
OF_DOCUMENTS = ("project:", "categories:")
ASK_EVERY_S = 10.0
LATE_TICK_S = 5.0  # how late a ticker may be before the watchdog is not fed
SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger("meshd.daemon")
_events = logging.getLogger("meshd.event")


def system_clock() -> Now:
    """The boot-time clock, which goes on while the host sleeps and which no one can set; and UTC."""
    return Now(time.clock_gettime(time.CLOCK_BOOTTIME), time.time_ns() // 1_000_000)


@frozen
class Ports:
    """Everything an instance touches outside itself."""

    store: Store
    workspace: Workspace
    network: Network
    clock: Callable[[], Now]
    sample: Callable[[], Capacity]
    agents: Agents
    random: Random
    boot: str
    emit: Callable[[Emit], None]
    set_aside: SetAside
    workspace_poll_s: float = 1.0


@define(eq=False)
class Drain:
    """The wish to leave: `request` once to drain, again to skip what is left of it; `begin` only the first."""

    reason: str = ""
    requested: trio.Event = field(factory=trio.Event)
    hurried: trio.Event = field(factory=trio.Event)

    def request(self, reason: str) -> None:
        if self.requested.is_set():
            self.hurried.set()
        self.begin(reason)

    def begin(self, reason: str) -> None:
        self.reason = self.reason or reason
        self.requested.set()


class Edge(Protocol):
    """Something that serves until `stopping` is set, such as the API."""

    async def __call__(self, driver: Driver, stopping: trio.Event, *, task_status: trio.TaskStatus[None]) -> None: ...


@define(eq=False)
class Progress:
    """When each ticker last came round: systemd's watchdog is fed only while all of them do.

    A ticker comes round when its input was carried out: room in a queue is no sign of life.
    """

    _late_at_s: dict[str, float] = field(factory=dict)

    def came_round(self, ticker: str, interval_s: float) -> None:
        self._late_at_s[ticker] = trio.current_time() + interval_s + LATE_TICK_S

    def is_made(self) -> bool:
        return trio.current_time() < min(self._late_at_s.values(), default=math.inf)


async def live(
    configuration: Configuration,
    ports: Ports,
    drain: Drain,
    *,
    edges: Sequence[Edge] = (),
    notifier: Notifier | None = None,
    task_status: trio.TaskStatus[Driver] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run one instance until it has drained. `started` hands out the driver when everything is up."""
    notifier = notifier or Notifier()
    try:
        await ports.agents.clear()  # before anybody can hear that work of ours ended, and begin it elsewhere
        node = Node(configuration, Birth(ports.boot, meshd.__version__), await ports.store.load())
        driver = Driver(node, ports.store, ports.workspace, ports.clock, ports.emit)
        connections = Connections(ports.network, driver.put, ports.random)
        runner = Runner(ports.agents, driver.put)
        driver.connect(connections, runner)
        async with trio.open_nursery() as engine:
            await engine.start(driver.run)
            # First of all: until a file was looked at, nobody can tell an edit from a file that is behind.
            before = driver.snapshot()
            await driver.show(before.documents.values(), before.work.features.values())
            async with trio.open_nursery() as edge:
                stopping = trio.Event()
                for serve in edges:
                    await edge.start(_until_asked, serve, driver, stopping)
                async with trio.open_nursery() as mesh:
                    await mesh.start(runner.run)
                    if configuration.mesh_enabled:
                        await mesh.start(connections.run)
                        await mesh.start(partial(ports.network.serve, connections.accept))
                    await driver.put(Started())
                    async with trio.open_nursery() as tick:
                        _start_tickers(tick, configuration, ports, driver, notifier)
                        notifier.ready(f"{configuration.protolab.instance_id} serves")
                        _log.info("%s", _serves(configuration, driver))
                        task_status.started(driver)
                        await drain.requested.wait()
                        await _finish_work(configuration, driver, runner, drain, notifier)
                        tick.cancel_scope.cancel()
                    notifier.stopping()
                    await _say_goodbye(configuration, driver, connections, drain)
                    mesh.cancel_scope.cancel()
                stopping.set()
                edge.cancel_scope.deadline = trio.current_time() + EDGE_STOPS_WITHIN_S
            with trio.move_on_after(CLOSE_WITHIN_S):
                await driver.show(())
            engine.cancel_scope.cancel()
    finally:
        with trio.move_on_after(CLOSE_WITHIN_S, shield=True):
            await ports.store.close()


def _serves(configuration: Configuration, driver: Driver) -> str:
    """What somebody who reads the log wants to know first."""
    snapshot = driver.snapshot()
    mesh = f"mesh as {snapshot.role} on port {configuration.protolab.sync_port}" if snapshot.mesh_enabled else "no mesh"
    where = f"workspace {configuration.repo_root}, data {configuration.data_dir}"
    return f"{snapshot.instance_id} serves: API on port {configuration.api.port}, {mesh}, {where}, {meshd.__version__}"


async def _until_asked(  # noqa: ASYNC128  `serve` says when it has started
    serve: Edge, driver: Driver, stopping: trio.Event, *, task_status: trio.TaskStatus[None]
) -> None:
    await serve(driver, stopping, task_status=task_status)
    if not stopping.is_set():
        raise LocalProtocolError("an edge ended without having been asked to")


async def _finish_work(
    configuration: Configuration, driver: Driver, runner: Runner, drain: Drain, notifier: Notifier
) -> None:
    """Claim nothing new, and wait until no agent runs: for as long as they are given, then for their end."""
    keys = configuration.drain
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_when, drain.hurried, nursery.cancel_scope)
        with trio.move_on_after(keys.grace_ms / 1000):
            await driver.carry_out(SetDraining(0, is_draining=True))
        if runner.running:
            _log.info("draining: %d agents get %g s to end", runner.running, keys.work_timeout_ms / 1000)
            rest_s = STOPPED_WITHIN_S + keys.grace_ms / 1000 + EDGE_STOPS_WITHIN_S + CLOSE_WITHIN_S
            nursery.start_soon(_ask_for_time, notifier, rest_s)
            with trio.move_on_after(keys.work_timeout_ms / 1000):
                await runner.none_runs()
            runner.stop_all("the host is draining")
            with trio.move_on_after(STOPPED_WITHIN_S):
                await runner.none_runs()
        nursery.cancel_scope.cancel()


async def _ask_for_time(notifier: Notifier, rest_s: float) -> NoReturn:
    """Keep systemd from stopping us while agents get their time; `rest_s` is what everything after it may take."""
    while True:
        notifier.extend(2 * ASK_EVERY_S + rest_s)
        await trio.sleep(ASK_EVERY_S)


async def _say_goodbye(configuration: Configuration, driver: Driver, connections: Connections, drain: Drain) -> None:
    """Tell every peer, and wait until the links have flushed and closed, for as long as the grace and signals allow."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_when, drain.hurried, nursery.cancel_scope)
        nursery.cancel_scope.deadline = trio.current_time() + configuration.drain.grace_ms / 1000
        await driver.carry_out(DrainRequested(drain.reason))
        await connections.all_closed()
        nursery.cancel_scope.cancel()


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _start_tickers(
    tick: trio.Nursery, configuration: Configuration, ports: Ports, driver: Driver, notifier: Notifier
) -> None:
    progress = Progress()
    hivemind = configuration.hivemind
    edits = Edits(
        ports.workspace,
        driver,
        ports.set_aside,
        hivemind.peer_ttl_ms / 1000,
        peers=max(0, len(hivemind.peers) - 1) if configuration.mesh_enabled else 0,
    )

    async def beat() -> None:
        await driver.carry_out(HeartbeatDue(ports.sample()))

    async def check_ttl() -> None:
        await driver.carry_out(TtlDue())

    async def look_for_work() -> None:
        await driver.carry_out(IntakeDue())

    async def compact() -> None:
        await driver.carry_out(CompactionDue())
        if not ports.store.disk().is_full:  # it takes room before it gives some back
            await ports.store.compact()

    tickers: list[tuple[str, float, Callable[[], Awaitable[None]]]] = [
        ("workspace", ports.workspace_poll_s, edits.take),
        ("disk", WATCH_EVERY_S, DiskWatch(ports.store.disk, driver.put).watch),
        ("compaction", configuration.compaction.interval_ms / 1000, compact),
    ]
    if configuration.work_intake.enabled:
        tickers.append(("intake", configuration.work_intake.tick_interval_ms / 1000, look_for_work))
    if configuration.mesh_enabled:
        tickers.append(("heartbeat", hivemind.heartbeat_interval_ms / 1000, beat))
        tickers.append(("ttl", ttl_check_interval_s(hivemind.peer_ttl_ms), check_ttl))
    for name, interval_s, action in tickers:
        tick.start_soon(_repeat, name, interval_s, action, progress)
    tick.start_soon(driver.sound_alarms)
    tick.start_soon(notifier.watchdog, progress.is_made)


async def _repeat(name: str, interval_s: float, action: Callable[[], Awaitable[None]], progress: Progress) -> NoReturn:
    """At once and then every `interval_s`; what takes longer than its interval is not done twice at a time."""
    due_s = trio.current_time()
    while True:
        progress.came_round(name, interval_s)
        await action()
        due_s = max(due_s + interval_s, trio.current_time())
        await trio.sleep_until(due_s)


async def _main(configuration: Configuration, until_eof: bool) -> None:
    drain = Drain()
    with trio.open_signal_receiver(*SIGNALS) as signals, _unblocked(SIGNALS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain_on, signals, drain)
            if until_eof:
                nursery.start_soon(_drain_at_eof, drain)
            await _serve(configuration, drain)
            nursery.cancel_scope.cancel()


@contextmanager
def _unblocked(signals: Iterable[int]) -> Iterator[None]:
    """Let these signals in for as long as somebody listens; before and after, the entry point may have blocked them."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _drain_on(signals: AsyncIterator[int], drain: Drain) -> None:
    async for number in signals:
        drain.request(f"{signal.Signals(number).name} received")


async def _drain_at_eof(drain: Drain) -> None:
    """Standard input ends when the last process that holds its other end does, however that one ends.

    Read in a thread, which suits every kind of file and is given up when the daemon ends.
    """
    while await trio.to_thread.run_sync(os.read, sys.stdin.fileno(), 4096, abandon_on_cancel=True):
        pass
    drain.request("standard input ended")


async def _serve(configuration: Configuration, drain: Drain) -> None:
    """Bind first, then open the store, then live: what cannot be had is said before anybody is told of us."""
    protolab = configuration.protolab
    with ExitStack() as sockets:
        network: Network = WebSocketNetwork([])
        if configuration.mesh_enabled:
            network = WebSocketNetwork(
                [sockets.enter_context(bind_socket(protolab.sync_bind_addr, protolab.sync_port))]
            )
        api_sockets = [sockets.enter_context(bind_socket(configuration.api.bind_addr, configuration.api.port))]
        if configuration.api.socket:
            api_sockets.append(sockets.enter_context(bind_unix(configuration.api.socket)))
        store = await SqliteStore.open(configuration.data_dir, token_hex(4))
        stored = await store.load()
        events = EventStream(stored.events)
        workspace = DiskWorkspace(configuration.repo_root, stored.seen, protolab.instance_id)
        del stored  # some MiB, which the instance's whole life would otherwise hold
        sampler = Sampler()
        ports = Ports(
            store=store,
            workspace=workspace,
            network=network,
            clock=system_clock,
            sample=lambda: sampler.sample(configuration.agents.max, 0, 0),
            agents=CommandAgents(
                configuration.agents,
                configuration.data_dir / "runs",
                configuration.repo_root,
                protolab.instance_id,
                configuration.api.url,
                os.environ,
                system_clock,
                grace_s(configuration.work_intake.claim_timeout_ms),
            ),
            random=Random(),
            boot=token_hex(8),
            emit=partial(_tell, events),
            set_aside=partial(_set_aside, configuration.data_dir),
        )
        api = partial(_serve_api, configuration, api_sockets, store.disk, events, drain.begin)
        await live(configuration, ports, drain, edges=[api], notifier=Notifier.from_environment(os.environ))
        _log.info("drained")


async def _serve_api(  # noqa: ASYNC128  the server says when it has started
    configuration: Configuration,
    sockets: Sequence[socket.socket],
    disk: Callable[[], Disk],
    events: EventStream,
    begin_drain: Callable[[str], None],
    driver: Driver,
    stopping: trio.Event,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    started_s = trio.current_time()
    instance = Instance(
        configuration=configuration,
        version=meshd.__version__,
        snapshot=driver.snapshot,
        submit=driver.submit,
        put=driver.put,
        stop=begin_drain,
        utc_ms=lambda: system_clock().utc_ms,
        uptime_s=lambda: trio.current_time() - started_s,
        process_memory=process_memory,
        disk=disk,
        hostname=socket.gethostname(),
        api_key=os.environ.get("AUTOMAKER_API_KEY"),
        events=events,
    )

    async def stop() -> None:
        await stopping.wait()
        events.close()  # whoever reads the stream would keep the server from ending

    await server.serve(create_app(instance), sockets, stop, task_status=task_status)


async def _set_aside(data_dir: Path, slug: str, document: JsonObject) -> str:
    """Keep a document that cannot be taken, under a name that was never used before."""
    folder = trio.Path(data_dir / "aside")
    file = folder / f"{slug}.{time.time_ns()}.json"
    try:
        await folder.mkdir(exist_ok=True)
        await file.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise StoreError(f"a project.json cannot be set aside in {folder}: {error.strerror}") from error
    return str(file)


def _tell(events: EventStream, event: Emit) -> None:
    """Hand an event to who listens; in the log, that documents changed is for debugging: there may be thousands."""
    events.append(event)
    level = logging.DEBUG if event.type.startswith(OF_DOCUMENTS) else logging.INFO
    if _events.isEnabledFor(level):
        _events.log(level, "%s", event.type, extra={"fields": {**event.payload, "eventId": event.id}})


def run(loaded: Loaded, *, until_eof: bool = False) -> int:
    """Run the daemon until it has drained; returns the exit code. What went wrong is on standard error, one line.

    The end of standard input drains it too when `until_eof`.
    """
    configuration = loaded.configuration
    logs.configure(configuration.log.format, configuration.log.level, os.environ)
    for warning in loaded.warnings:
        _log.warning("%s: %s", warning.place, warning.text)  # the line has its level already
    if early := signal.sigpending() & set(SIGNALS):
        name = signal.Signals(min(early)).name
        _log.info("%s received before anything was started: nothing to drain", name)
        return EX_OK
    exit_code = EX_OK
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    try:
        trio.run(_main, configuration, until_eof)
    except* ListenError as group:
        exit_code = _failed(group, EX_OSERR)
    except* StoreError as group:
        exit_code = _failed(group, EX_IOERR)
    return exit_code


def _failed(group: BaseExceptionGroup[Exception], exit_code: int) -> int:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            _failed(error, exit_code)
        else:
            _log.error("%s", error)
    return exit_code
