"""One instance from start to drain: the real daemon on a network, a store and files in memory, in virtual time."""

from __future__ import annotations

import json
import logging
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import NoReturn

import pytest
import trio
from attrs import define, evolve, field
from trio.testing import MockClock, wait_all_tasks_blocked

from meshd import wire
from meshd.agents import STOPPED_WITHIN_S, MemoryAgents
from meshd.configuration import Agents as AgentKeys
from meshd.configuration import Configuration, Hivemind, Protolab, WorkIntake
from meshd.configuration import Drain as DrainKeys
from meshd.core.claim import Claim, ClaimStatus, claim_of
from meshd.core.documents import Document
from meshd.core.effects import Accepted
from meshd.core.inputs import Outcome, PutProject
from meshd.core.messages import Goodbye
from meshd.core.stored import Stored
from meshd.daemon import LATE_TICK_S, Drain, Edge, Ports, Progress, live, system_clock
from meshd.driver import Driver
from meshd.errors import LinkClosed, StoreError
from meshd.links import DIAL_S, MAX_IN_FLIGHT, Accept, Link, MemoryNetwork, Network
from meshd.model import Capacity, Json, JsonObject, Now, Role, Status
from meshd.project import claim_path
from meshd.store import Entry, MemoryStore
from meshd.systemd import Notifier
from meshd.workspace import MemoryWorkspace, Report
from tests.shell.world import World, until

HERE, WORKER = "ws://here:4444", "ws://worker:4444"
EPOCH_MS = 1_800_000_000_000
GRACE_S = 5.0


def clock() -> Now:
    return Now(trio.current_time(), EPOCH_MS + round(trio.current_time() * 1000))


class Store(MemoryStore):
    """Says when it is closed, and can be made to refuse."""

    def __init__(self, told: list[str], stored: Stored | None = None, commit_s: float = 0.0) -> None:
        super().__init__(stored, commit_s)
        self.told = told
        self.refuses = False

    async def commit(self, records: Sequence[Entry]) -> None:
        await super().commit(records)
        if self.refuses:
            raise StoreError("the disk is gone")

    async def close(self) -> None:
        await super().close()
        self.told.append("store closed")


class Files(MemoryWorkspace):
    """Says what it does, and can be made to hang."""

    def __init__(self, told: list[str], seen: Mapping[str, JsonObject], before: Files | None = None) -> None:
        super().__init__("/here", seen, before)
        self.told = told
        self.hang_s = 0.0
        self.polled_s: list[float] = []

    async def write(self, documents: Iterable[Document]) -> Mapping[str, JsonObject | None]:
        asked = tuple(documents)
        if asked:
            self.told.append(f"show {', '.join(document.slug for document in asked)}")
        return await super().write(asked)

    async def poll(self) -> Sequence[Report]:
        await trio.sleep(self.hang_s)
        self.polled_s.append(trio.current_time())
        return await super().poll()


@define(eq=False)
class Listening:
    """A network that says when it begins to listen, and to dial."""

    network: Network
    told: list[str]

    def dial(self, url: str) -> AbstractAsyncContextManager[Link]:
        self.told.append(f"dial {url}")
        return self.network.dial(url)

    async def serve(  # noqa: ASYNC128  the network says when it has started
        self, accept: Accept, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        self.told.append("listen")
        await self.network.serve(accept, task_status=task_status)


@define(eq=False)
class Daemon:
    """An instance that is not running yet; `run` is its life."""

    role: Role | None = Role.PRIMARY
    edges: Sequence[Edge] = ()
    stored: Stored = field(factory=lambda: Stored("store"))
    before: Files | None = None
    commit_s: float = 0.0
    notifier: Notifier | None = None
    told: list[str] = field(factory=list)
    world: MemoryNetwork = field(factory=MemoryNetwork)
    drain: Drain = field(factory=Drain)
    samples: int = 0
    ended: trio.Event = field(factory=trio.Event)
    intake: WorkIntake = field(factory=WorkIntake)
    agents: MemoryAgents = field(factory=lambda: MemoryAgents(clock))
    store: Store = field(init=False)
    files: Files = field(init=False)
    driver: Driver = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.store = Store(self.told, self.stored, self.commit_s)
        self.files = Files(self.told, self.stored.seen, self.before)

    def configuration(self) -> Configuration:
        is_member = self.role is not None
        return Configuration(
            repo_root=Path("/here"),
            protolab=Protolab(enabled=is_member, role=self.role or Role.WORKER, instance_id="here", instance_url=HERE),
            hivemind=Hivemind(enabled=is_member, peers=(HERE, WORKER)),
            drain=DrainKeys(grace_ms=round(GRACE_S * 1000)),
            agents=AgentKeys(("work",), max=2),
            work_intake=self.intake,
        )

    def sample(self) -> Capacity:
        self.samples += 1
        return Capacity()

    async def keep(self, slug: str, document: JsonObject) -> str:
        raise AssertionError((slug, document))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        ports = Ports(
            store=self.store,
            workspace=self.files,
            network=Listening(self.world.host(HERE), self.told),
            clock=clock,
            sample=self.sample,
            agents=self.agents,
            random=Random(1),
            boot="boot",
            emit=lambda event: self.told.append(f"emit {event.type}"),
            set_aside=self.keep,
        )
        async with trio.open_nursery() as nursery:
            life = partial(live, self.configuration(), ports, self.drain, edges=self.edges, notifier=self.notifier)
            self.driver = await nursery.start(life)
            task_status.started()
        self.ended.set()

    async def put(self, slug: str, document: JsonObject) -> None:
        assert isinstance(await self.driver.submit(PutProject(0, slug, document)), Accepted)
        await wait_all_tasks_blocked()

    @asynccontextmanager
    async def peer(self, name: str = "worker", *, native: bool = True) -> AsyncIterator[Link]:
        """A worker that said who it is; what it is sent waits unread."""
        identity: JsonObject = {"type": "identity", "instanceId": name, "timestamp": "2027-01-15T08:00:00Z"}
        if native:
            identity |= {"protocol": 1, "minProtocol": 1, "boot": f"boot of {name}"}
        async with self.world.host(f"ws://{name}:4444").dial(HERE) as link:
            await link.send(json.dumps(identity).encode())
            await wait_all_tasks_blocked()
            yield link


@asynccontextmanager
async def running(daemon: Daemon) -> AsyncIterator[Daemon]:
    """It runs for the block, unless it ends before."""
    async with trio.open_nursery() as nursery:
        await nursery.start(daemon.run)
        await wait_all_tasks_blocked()
        yield daemon
        nursery.cancel_scope.cancel()


async def drained(daemon: Daemon) -> float:
    """Ask it to leave; returns how long it took."""
    begun_s = trio.current_time()
    daemon.drain.request("SIGTERM received")
    with trio.fail_after(120):
        await daemon.ended.wait()
    return trio.current_time() - begun_s


async def read(link: Link) -> tuple[list[str], tuple[int, str]]:
    """The frames that arrive at a peer until its link ends, and how it ends."""
    frames: list[str] = []
    try:
        while True:
            frames.append(str(await link.receive()))
    except LinkClosed as closed:
        return frames, (closed.code, closed.reason)


def edge(told: list[str], while_serving: Callable[[Driver], Awaitable[object]] | None = None) -> Edge:
    """An edge that says when it starts, when it is asked to stop, and when it has."""

    async def serve(driver: Driver, stopping: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        told.append("edge starts")
        task_status.started()
        if while_serving:
            await while_serving(driver)
        await stopping.wait()
        await trio.sleep(1)
        told.append("edge stopped")

    return serve


class Systemd:
    """systemd's end of the notify socket."""

    def __init__(self) -> None:
        address = f"\0meshd-test-{uuid.uuid4()}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(address)
        self.notifier = Notifier(address, watchdog_interval_s=30.0)

    def told(self) -> list[str]:
        """What came since the last look."""
        datagrams: list[str] = []
        while True:
            try:
                datagrams.append(self.socket.recv(65_536).decode())
            except BlockingIOError:
                return datagrams


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    made = Systemd()
    with made.socket:
        yield made


async def stored_alpha() -> Stored:
    """A store that holds one project, and the file's content as of then."""
    daemon = Daemon()
    async with running(daemon):
        await daemon.put("alpha", {"title": "Alpha", "goal": "none"})
        await drained(daemon)
    return await daemon.store.load()


# Start


async def test_files_are_shown_before_anybody_can_change_them(autojump_clock: MockClock) -> None:
    """And nobody is told that we are ready before everything is."""
    stored = await stored_alpha()
    told: list[str] = []
    async with running(Daemon(stored=stored, told=told, edges=[edge(told)])):
        assert told[:3] == ["show alpha", "edge starts", "listen"]


async def test_a_write_at_once_after_a_crash_is_not_taken_back(autojump_clock: MockClock) -> None:
    """kill -9 between a file and the commit that remembers it: the file is not an edit, whoever writes first."""
    stored = await stored_alpha()
    document = stored.documents["alpha"]
    files = Files([], {})
    files.edit("alpha", json.dumps(document.json("/here")))
    before_that: JsonObject = {"slug": "alpha", "title": "Older", "goal": "none"}

    async def write_first(driver: Driver) -> None:
        await driver.submit(PutProject(0, "alpha", {"title": "Newest", "goal": "none"}))

    daemon = Daemon(stored=evolve(stored, seen={"alpha": before_that}), before=files)
    daemon.edges = [edge(daemon.told, write_first)]
    async with running(daemon):
        await trio.sleep(10)
        assert daemon.driver.snapshot().documents["alpha"].json()["title"] == "Newest"
        assert '"Newest"' in (daemon.files.text("alpha") or "")


async def test_an_instance_that_is_asked_to_leave_while_it_starts_leaves(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    daemon.drain.request("SIGTERM received")
    with trio.fail_after(1):
        await daemon.run()
    assert daemon.told[-1] == "store closed"


async def test_systemd_is_told_what_happens(systemd: Systemd, autojump_clock: MockClock) -> None:
    daemon = Daemon(notifier=systemd.notifier)
    daemon.edges = [edge(daemon.told)]
    async with running(daemon):
        ready, *fed = systemd.told()
        assert ready.startswith("READY=1\nSTATUS=here ")
        assert fed == ["WATCHDOG=1"]
        await drained(daemon)
        assert systemd.told() == ["STOPPING=1"]


# Drain


async def test_drain_says_goodbye_stops_the_edges_and_closes_the_store(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    daemon.edges = [edge(daemon.told)]
    async with running(daemon), daemon.peer() as native, daemon.peer("original", native=False) as original:
        await daemon.put("alpha", {"title": "Alpha"})
        daemon.told.clear()
        took_s = await drained(daemon)
        for link in (native, original):
            frames, end = await read(link)
            goodbye = wire.decode(frames[-1])
            assert isinstance(goodbye, Goodbye)
            assert (goodbye.instance_id, goodbye.reason) == ("here", "SIGTERM received")
            assert end == (1001, "draining")
    assert daemon.told == ["edge stopped", "store closed"]
    assert took_s == pytest.approx(1), "the edge's second, and none for the links"
    assert (await daemon.store.load()).seen["alpha"]["title"] == "Alpha"


async def test_the_edges_serve_until_the_links_are_gone(autojump_clock: MockClock) -> None:
    """`/readyz` says 503 while the peers are told, and a write that was begun is answered."""
    seen: list[Status] = []
    daemon = Daemon(commit_s=0.5)

    async def watch(driver: Driver) -> None:
        await daemon.drain.requested.wait()
        assert isinstance(await driver.submit(PutProject(0, "late", {})), Accepted)
        seen.append(driver.snapshot().status)

    daemon.edges = [edge(daemon.told, watch)]
    async with running(daemon):
        await drained(daemon)
    assert seen == [Status.DRAINING]
    assert "late" in (await daemon.store.load()).documents


async def test_peers_that_never_read_cost_the_grace_and_no_more(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    async with running(daemon), AsyncExitStack() as peers:
        for number in range(50):
            await peers.enter_async_context(daemon.peer(f"worker-{number}"))
        for number in range(2 * MAX_IN_FLIGHT):
            await daemon.put(f"project-{number}", {})
        assert await drained(daemon) <= GRACE_S + 0.01
    assert daemon.told[-1] == "store closed"


async def test_a_second_signal_waits_for_nobody(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    async with running(daemon), daemon.peer() as deaf:
        for number in range(2 * MAX_IN_FLIGHT):
            await daemon.put(f"project-{number}", {})
        daemon.drain.request("SIGINT received")
        await trio.sleep(1)
        assert not daemon.ended.is_set()
        assert await drained(daemon) < 0.1
        _, (code, _) = await read(deaf)
        assert code == 1006
    assert daemon.told[-1] == "store closed"
    assert len((await daemon.store.load()).documents) == 2 * MAX_IN_FLIGHT


async def test_a_disk_that_hangs_does_not_hold_up_the_drain(autojump_clock: MockClock) -> None:
    daemon = Daemon(commit_s=1e6)
    async with running(daemon), trio.open_nursery() as nursery:
        nursery.start_soon(daemon.put, "alpha", {})
        await wait_all_tasks_blocked()
        assert await drained(daemon) <= 20
        nursery.cancel_scope.cancel()


async def test_an_edge_that_does_not_stop_is_stopped(autojump_clock: MockClock) -> None:
    daemon = Daemon()

    async def never_stop(driver: Driver) -> None:
        await trio.sleep_forever()

    daemon.edges = [edge(daemon.told, never_stop)]
    async with running(daemon):
        assert await drained(daemon) == pytest.approx(3)
    assert daemon.told[-1] == "store closed"


async def test_a_dial_that_fails_at_the_last_moment_is_no_crash(autojump_clock: MockClock) -> None:
    """The step that hears of it asks for the next dial, and by the time its commit is done there is no mesh to ask."""
    daemon = Daemon(Role.WORKER, commit_s=0.8)

    async def write_on(driver: Driver) -> None:
        async with trio.open_nursery() as nursery:  # two, so that one always waits for the commit of the other
            for name in ("odd", "even"):
                nursery.start_soon(_write_for_ever, driver, name)

    daemon.edges = [edge(daemon.told, write_on)]
    daemon.world.partition(HERE, WORKER)
    async with running(daemon):

        async def is_dialled() -> bool:
            await trio.lowlevel.checkpoint()
            return f"dial {WORKER}" in daemon.told

        await until(is_dialled, 5)
        await trio.sleep(DIAL_S - 0.8)
        await drained(daemon)
    assert daemon.told[-1] == "store closed"


async def _write_for_ever(driver: Driver, name: str) -> None:
    for number in count():
        await driver.submit(PutProject(0, name, {"number": number}))


# Work


def work(*phases: str) -> JsonObject:
    """A project with phases that anybody may claim."""
    named: list[Json] = [{"name": name, "title": name, "number": number} for number, name in enumerate(phases)]
    milestone: JsonObject = {"slug": "one", "title": "One", "number": 1, "phases": named}
    return {"title": "Alpha", "status": "active", "milestones": [milestone]}


def statuses(daemon: Daemon) -> list[Json]:
    """How far the phases of `work` are, in their order; None before anybody claimed them."""
    milestones = daemon.driver.snapshot().documents["alpha"].json("/here")["milestones"]
    assert isinstance(milestones, list)
    (milestone,) = milestones
    assert isinstance(milestone, dict)
    phases = milestone["phases"]
    assert isinstance(phases, list)
    return [phase.get("executionStatus") for phase in phases if isinstance(phase, dict)]


def claim_of_first(stored: Stored) -> Claim:
    """What is on the disk of the claim of the first phase of `work`."""
    claim = claim_of(stored.documents["alpha"].registers[claim_path("one", "first")].value)
    assert claim
    return claim


async def test_a_phase_is_worked_on_once_it_is_there(autojump_clock: MockClock) -> None:
    daemon = Daemon(role=None)
    async with running(daemon):
        await daemon.put("alpha", work("first", "second", "third"))
        assert len(daemon.agents.running) == 2, "agents.max"
        assert statuses(daemon)[:2] == ["in_progress"] * 2
        (feature,) = (feature for feature in daemon.agents.begun if feature.phase == "first")
        daemon.agents.end(feature.claim, Outcome.DONE, pr_url="https://host/pr/1")
        await wait_all_tasks_blocked()
        assert len(daemon.agents.begun) == 3
        assert statuses(daemon) == ["done", "in_progress", "in_progress"]
        await trio.sleep(1)
        written = json.loads(daemon.files.text(f"features/{feature.id}") or "")
        assert (written["status"], written["prUrl"]) == ("done", "https://host/pr/1")


class Leftovers(MemoryAgents):
    """Agents of which an earlier life left some that take their time to end."""

    async def clear(self) -> None:
        await trio.sleep(7)


async def test_nobody_hears_that_work_ended_which_may_still_be_done(autojump_clock: MockClock) -> None:
    """A daemon that was killed comes back while its agents still end: their phases are not given back before."""
    killed = Daemon(role=None)
    async with running(killed):
        await killed.put("alpha", work("first"))
    daemon = Daemon(role=None, stored=await killed.store.load(), agents=Leftovers(clock))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(daemon.run)
        await trio.sleep(6)
        assert daemon.told == []
        assert claim_of_first(await daemon.store.load()).status is ClaimStatus.IN_PROGRESS
        await trio.sleep(2)
        assert claim_of_first(await daemon.store.load()).generation == 2
        nursery.cancel_scope.cancel()


async def test_without_intake_nothing_is_claimed(autojump_clock: MockClock) -> None:
    daemon = Daemon(role=None, intake=WorkIntake(enabled=False))
    async with running(daemon):
        await daemon.put("alpha", work("first"))
        await trio.sleep(120)
        assert daemon.agents.begun == []


async def test_what_failed_is_tried_again_when_a_tick_finds_it(autojump_clock: MockClock) -> None:
    """Nothing else happens then: an instance alone, whose documents do not change."""
    daemon = Daemon(role=None, intake=WorkIntake(retry_backoff_ms=60_000, tick_interval_ms=30_000))
    async with running(daemon):
        await daemon.put("alpha", work("first"))
        (claim,) = daemon.agents.running
        daemon.agents.end(claim, Outcome.FAILED, error="no tests")
        await trio.sleep(59)
        assert len(daemon.agents.begun) == 1
        await trio.sleep(32)
        assert len(daemon.agents.begun) == 2


async def test_a_drain_lets_agents_end(systemd: Systemd, autojump_clock: MockClock) -> None:
    """Heartbeats go on meanwhile, nothing new is begun, and systemd is asked for the time that it takes."""
    daemon = Daemon(role=None, notifier=systemd.notifier)
    async with running(daemon), trio.open_nursery() as nursery:
        await daemon.put("alpha", work("first", "second", "third"))
        systemd.told()

        async def end_all() -> None:
            await trio.sleep(25)
            assert daemon.driver.snapshot().status is Status.DRAINING
            for claim in daemon.agents.running:
                daemon.agents.end(claim, Outcome.DONE)

        nursery.start_soon(end_all)
        assert await drained(daemon) == pytest.approx(25)
        assert len(daemon.agents.begun) == 2
        said = [line for line in systemd.told() if line != "WATCHDOG=1"]
        assert said == ["EXTEND_TIMEOUT_USEC=42000000"] * 3 + ["STOPPING=1"]
        assert statuses(daemon) == ["done", "done", None]


async def test_a_drain_stops_agents_that_take_too_long(autojump_clock: MockClock) -> None:
    """What they held is given back, and that is no failed attempt; it is on the disk when the daemon has ended."""
    daemon = Daemon(role=None)
    daemon.agents.dies_s = 3
    async with running(daemon):
        await daemon.put("alpha", work("first"))
        assert await drained(daemon) == pytest.approx(63)
    assert daemon.agents.running == {}
    claim = claim_of_first(await daemon.store.load())
    assert (claim.status, claim.attempts) == (ClaimStatus.RELEASED, 0)
    (feature,) = daemon.agents.begun
    written = json.loads(daemon.files.text(f"features/{feature.id}") or "")
    assert (written["status"], written["released"]) == ("backlog", True)


async def test_a_second_signal_waits_for_no_agent(autojump_clock: MockClock) -> None:
    daemon = Daemon(role=None)
    async with running(daemon):
        await daemon.put("alpha", work("first"))
        daemon.drain.request("SIGTERM received")
        await trio.sleep(1)
        assert not daemon.ended.is_set()
        assert await drained(daemon) < 0.1
    assert daemon.agents.running == {}


async def test_agents_that_cannot_be_killed_do_not_hold_up_the_drain_for_ever(autojump_clock: MockClock) -> None:
    daemon = Daemon(role=None)
    daemon.agents.dies_s = 1e6
    async with running(daemon):
        await daemon.put("alpha", work("first"))
        assert await drained(daemon) == pytest.approx(60 + STOPPED_WITHIN_S)


def test_who_asks_twice_to_leave_need_not_be_in_a_hurry() -> None:
    drain = Drain()
    drain.begin("asked over the API")
    drain.begin("asked again")
    assert (drain.requested.is_set(), drain.hurried.is_set()) == (True, False)
    drain.request("SIGTERM received")
    assert (drain.reason, drain.hurried.is_set()) == ("asked over the API", True)


def test_the_first_reason_to_leave_is_the_one_that_is_told() -> None:
    drain = Drain()
    drain.request("SIGTERM received")
    assert (drain.requested.is_set(), drain.hurried.is_set()) == (True, False)
    drain.request("SIGINT received")
    assert (drain.reason, drain.hurried.is_set()) == ("SIGTERM received", True)


# Kill


async def test_an_edit_made_after_a_crash_is_an_edit(autojump_clock: MockClock) -> None:
    """What stands in a file is in the store soon after, also when nothing else happens."""
    daemon = Daemon()
    async with running(daemon):
        await daemon.put("alpha", {"title": "Alpha"})
        await trio.sleep(3)
        daemon.store.crash()
    daemon.files.edit("alpha", '{"title": "By hand"}')
    stored = await daemon.store.load()
    again = Daemon(stored=stored, before=Files([], stored.seen, daemon.files))
    async with running(again):
        await trio.sleep(300)
        assert again.driver.snapshot().documents["alpha"].json() == {"slug": "alpha", "title": "By hand"}


# Without a mesh


async def test_without_a_mesh_there_is_no_link_no_listener_and_no_timer(autojump_clock: MockClock) -> None:
    daemon = Daemon(role=None)
    async with running(daemon):
        await daemon.put("alpha", {"title": "Alpha"})
        assert '"Alpha"' in (daemon.files.text("alpha") or "")
        daemon.files.edit("alpha", '{"title": "By hand"}')
        await trio.sleep(3600)
        assert daemon.driver.snapshot().documents["alpha"].json()["title"] == "By hand"
        assert not daemon.driver.snapshot().mesh_enabled
        assert len(daemon.files.polled_s) == pytest.approx(3600, abs=2)
        await drained(daemon)
    assert [line for line in daemon.told if line.startswith(("listen", "dial"))] == []
    assert daemon.samples == 0
    stored = await daemon.store.load()
    assert stored.documents["alpha"].json()["title"] == stored.seen["alpha"]["title"] == "By hand"


# Crashes


@pytest.mark.parametrize("is_late", [False, True])
async def test_an_edge_that_crashes_takes_the_instance_down(is_late: bool, autojump_clock: MockClock) -> None:
    daemon = Daemon()

    async def crash(driver: Driver) -> None:
        await trio.sleep(60 if is_late else 0)
        raise ZeroDivisionError("a bug")

    daemon.edges = [edge(daemon.told, crash)]
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True), trio.fail_after(120):
        await daemon.run()
    assert daemon.told[-1] == "store closed"


async def test_an_edge_that_just_ends_is_a_crash(autojump_clock: MockClock) -> None:
    """What ends without having been asked to end takes the process with it: an API that is gone must not pass."""

    async def serve(driver: Driver, stopping: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep(60)

    daemon = Daemon(edges=[serve])
    with pytest.RaisesGroup(Exception, flatten_subgroups=True) as caught:
        async with running(daemon):
            await trio.sleep(120)
            raise AssertionError("it goes on without its API")
    assert "it goes on" not in str(caught.value.exceptions)


async def test_a_disk_that_refuses_takes_the_instance_down(autojump_clock: MockClock) -> None:
    daemon = Daemon()
    with pytest.RaisesGroup(StoreError, flatten_subgroups=True):
        async with running(daemon), daemon.peer():
            daemon.store.refuses = True
            await daemon.put("alpha", {})
    assert daemon.told[-1] == "store closed"


# Tickers and the watchdog


async def test_the_watchdog_is_fed_as_long_as_nothing_hangs(
    systemd: Systemd, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = Daemon(notifier=systemd.notifier)
    async with running(daemon), daemon.peer() as peer, trio.open_nursery() as nursery:
        nursery.start_soon(read, peer)
        await trio.sleep(1)
        for _ in range(120):
            systemd.told()
            await trio.sleep(30)
            assert systemd.told() == ["WATCHDOG=1"]
        assert daemon.samples == pytest.approx(120, abs=2)
        assert len(daemon.files.polled_s) == pytest.approx(3600, abs=2)
        nursery.cancel_scope.cancel()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_the_watchdog_starves_when_a_ticker_hangs(
    systemd: Systemd, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = Daemon(notifier=systemd.notifier)
    async with running(daemon):
        await trio.sleep(100)
        daemon.files.hang_s = 3600
        await trio.sleep(40)
        systemd.told()
        beats = daemon.samples
        await trio.sleep(300)
        assert systemd.told() == []
        assert daemon.samples == beats + 10, "the others go on"
    assert "the tickers stand still" in caplog.text


async def test_the_watchdog_starves_when_the_disk_hangs(systemd: Systemd, autojump_clock: MockClock) -> None:
    """No heartbeat leaves any more: that there is room in a queue is no sign of life."""
    daemon = Daemon(notifier=systemd.notifier, commit_s=1e6)
    async with running(daemon), trio.open_nursery() as nursery:
        nursery.start_soon(daemon.put, "alpha", {})
        await trio.sleep(2 * 30 + LATE_TICK_S)
        systemd.told()
        await trio.sleep(300)
        assert systemd.told() == []
        nursery.cancel_scope.cancel()


async def test_many_edits_at_once_are_no_hang(systemd: Systemd, autojump_clock: MockClock) -> None:
    """A thousand files at the first start, each with a commit of its own on a slow disk: it takes long, and goes on."""
    daemon = Daemon(role=None, notifier=systemd.notifier, commit_s=0.1)
    for number in range(1000):
        daemon.files.edit(f"project-{number}", "{}")
    async with running(daemon):
        await trio.sleep(1)
        for _ in range(4):
            systemd.told()
            await trio.sleep(30)
            assert systemd.told() == ["WATCHDOG=1"]
        assert len(daemon.driver.snapshot().documents) == 1000


async def test_progress_is_made_while_every_ticker_comes_round(autojump_clock: MockClock) -> None:
    progress = Progress()
    assert progress.is_made()
    progress.came_round("slow", 30.0)
    progress.came_round("quick", 1.0)
    await trio.sleep(1 + LATE_TICK_S - 0.01)
    assert progress.is_made()
    await trio.sleep(0.02)
    assert not progress.is_made()
    progress.came_round("quick", 60.0)
    assert progress.is_made()
    await trio.sleep(30)
    assert not progress.is_made()


# Sleep


@define(eq=False)
class SleepyWorld(World):
    """Hosts whose boot-time clock goes on while they sleep; trio's, as the kernel's monotonic one, does not."""

    slept_s: float = 0.0

    def clock(self) -> Now:
        now = super().clock()
        return Now(now.mono_s + self.slept_s, now.utc_ms + round(self.slept_s * 1000))


@pytest.mark.parametrize("everybody", [True, False])
@pytest.mark.parametrize("awake_s", [0.0, 3.0, 29.0])
async def test_who_wakes_up_blames_nobody_for_the_silence(
    everybody: bool, awake_s: float, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    world = SleepyWorld(3)
    sleeper = world.instances[1]
    if not everybody:
        sleeper.world = SleepyWorld(3, network=world.network)
    for instance in world.instances:
        await nursery.start(instance.run)
    await until(world.all_see_all, 10)
    await trio.sleep(100 + awake_s)
    assert isinstance(sleeper.world, SleepyWorld)
    sleeper.world.slept_s = 3600.0
    for _ in range(200):
        await trio.sleep(1)
        assert await world.all_see_all()
    for instance in world.instances:
        assert instance.told("sync:peer-unreachable") == []


async def test_a_peer_that_died_in_our_sleep_is_found_out_after_the_ttl(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    world = SleepyWorld(2)
    primary, worker = world.instances
    for instance in world.instances:
        await nursery.start(instance.run)
    await until(world.all_see_all, 10)
    await trio.sleep(100)
    worker.crash()
    world.slept_s = 3600.0

    async def failed() -> bool:
        await trio.lowlevel.checkpoint()
        return primary.sees()[worker.name] is Status.FAILED

    assert await until(failed, 140) > 80


def test_the_clock_of_the_host_is_the_one_that_goes_on_in_its_sleep() -> None:
    before_s, first, second = time.clock_gettime(time.CLOCK_BOOTTIME), system_clock(), system_clock()
    assert before_s <= first.mono_s <= second.mono_s <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert first.utc_ms == pytest.approx(time.time() * 1000, abs=5000)
