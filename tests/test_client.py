"""`meshd.client` against the real API of a real node: claims as blocks, whatever becomes of them meanwhile."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, evolve, field

from meshd import client_calls as calls
from meshd.client import ClaimLost, Client, ClientError, SyncClient, SyncWork, Unreachable
from meshd.core.claim import Claim
from meshd.core.effects import Accepted, Rejected
from meshd.core.inputs import DrainRequested, Outcome, PutProject, SettlePhase, Started, TakeWork
from meshd.events import EventStream
from tests.api.local import Local
from tests.api.serving import serving
from tests.api.working import WITH_COMMAND, OfMesh, at_work
from tests.core.workforce import INTAKE, P, Workforce, site

WITHIN_S = 8.0
"""Far more than anything here takes: what does not come by then does not come."""


@asynccontextmanager
async def served(local: Local | OfMesh, patience_s: float = 0.0) -> AsyncIterator[Client]:
    with trio.fail_after(WITHIN_S):
        async with serving(local) as url, Client(url, patience_s=patience_s) as client:
            yield client


def claim_of(local: Local) -> Claim | None:
    """How the phase `p` stands on that host."""
    phase = local.node._work.ledger.board.phase(P)
    return phase.claim if phase else None


def stands(local: Local) -> tuple[str, str | None]:
    """How the phase `p` stands, and what was said of it: its result, its error, its note."""
    claim = claim_of(local)
    assert claim is not None
    return str(claim.status), claim.pr_url or claim.error or claim.note


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(WITHIN_S):
        while not condition():
            await trio.sleep(0.005)


def waiting(local: Local) -> int:
    return local.node.snapshot(local.now).work.free


def fail() -> None:
    raise ValueError("afterwards")


async def by_hand(local: Local, outcome: Outcome, **said: Any) -> None:
    """What a person says of the phase."""
    assert isinstance(await local.submit(SettlePhase(0, *P, outcome, **said)), Accepted)


# A block


async def test_a_block_gets_the_next_feature_and_says_what_became_of_it() -> None:
    local = await at_work({"name": "p", "title": "Pages"})
    async with served(local) as client:
        async with client.claim() as work:
            assert (work.project, work.milestone, work.phase) == P
            assert (work.generation, work.feature["title"], work.lost) == (1, "Pages", None)
            assert work.id == work.feature["id"]
            assert stands(local) == ("in_progress", None)
            await work.progress("half of it")
            assert stands(local) == ("in_progress", "half of it")
            await work.done("https://x/1")
            assert stands(local) == ("done", "https://x/1")
            await trio.sleep(0.05)  # the block may go on
        assert work.lost is None
    assert stands(local) == ("done", "https://x/1")


async def test_a_block_that_ends_is_done() -> None:
    local = await at_work()
    async with served(local) as client, client.claim():
        pass
    assert stands(local) == ("done", None)


async def test_a_block_that_raises_has_failed_and_the_error_goes_on() -> None:
    local = await at_work()
    async with served(local) as client:
        with pytest.raises(ValueError, match="no network"):
            async with client.claim():
                raise ValueError("no network")
    assert stands(local) == ("failed", "no network")


async def test_all_errors_of_a_group_are_told() -> None:
    local = await at_work()
    async with served(local) as client:
        with pytest.RaisesGroup(ValueError, KeyError, OSError):
            async with client.claim():
                raise ExceptionGroup("of tasks", [ValueError("no network"), KeyError(), OSError("no disk")])
    assert stands(local) == ("failed", "no network; KeyError; no disk")


async def test_a_block_that_is_cancelled_gives_back_its_claim() -> None:
    local = await at_work()
    async with served(local) as client:
        with trio.CancelScope() as outside:
            async with client.claim():
                outside.cancel()
                await trio.sleep_forever()
    assert outside.cancelled_caught
    assert stands(local) == ("released", "the work was stopped")


@pytest.mark.parametrize(
    ("verb", "said", "expected"),
    [
        ("done", {}, ("done", None)),
        ("failed", {"error": "no network"}, ("failed", "no network")),
        ("release", {"note": "later"}, ("released", "later")),
        ("release", {}, ("released", "it was given back")),
    ],
)
async def test_what_a_block_says_itself_stands(verb: str, said: Any, expected: tuple[str, str | None]) -> None:
    local = await at_work()
    async with served(local) as client:
        with suppress(ValueError):
            async with client.claim() as work:
                await getattr(work, verb)(**said)
                fail()
    assert stands(local) == expected


# Waiting


async def test_who_waits_is_woken_at_once_however_often_it_had_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "ASK_FOR_S", 0.05)
    local = Local()
    local.step(Started())
    async with served(local) as client, trio.open_nursery() as nursery:
        claimed = trio.Event()

        async def wait() -> None:
            async with client.claim():
                claimed.set()

        nursery.start_soon(wait)
        await trio.sleep(0.2)
        await until(lambda: waiting(local))
        asked_s = trio.current_time()
        await local.submit(PutProject(0, "site", site("p")))
        await claimed.wait()
    assert trio.current_time() - asked_s < 1.0, "far less than a poll by an interval"


async def test_who_stops_waiting_wants_nothing_any_more() -> None:
    local = Local()
    local.step(Started())
    async with served(local) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.claim().__aenter__)
            await until(lambda: waiting(local))
            nursery.cancel_scope.cancel()
        await until(lambda: not waiting(local))


async def test_what_was_handed_out_to_who_had_stopped_waiting_is_given_back() -> None:
    is_taken = trio.Event()

    async def slow(local: Local, command: TakeWork) -> Accepted | Rejected:
        outcome = await Local.submit(local, command)
        is_taken.set()
        await trio.sleep(0.05)
        return outcome

    local = await at_work(taking=slow)
    async with served(local) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.claim().__aenter__)
            await is_taken.wait()
            nursery.cancel_scope.cancel()
        await until(lambda: stands(local)[0] == "released")


async def test_who_starts_again_under_its_name_goes_on_with_what_it_had() -> None:
    local = await at_work("p", "q")
    async with served(local) as client:
        had = await client.ask(calls.claim(None, "builder"))
        async with client.claim(by="builder") as work:
            assert work.id == had["id"]


async def test_a_certain_phase() -> None:
    local = await at_work("p", "q")
    async with served(local) as client:
        async with client.claim(("site", "m", "q"), by="builder") as work:
            assert (work.phase, work.feature["takenBy"]) == ("q", "builder")
        assert [row["status"] for row in await client.phases("site")] == ["unclaimed", "done"]


# Lost claims


async def lose(local: Local, how: Callable[[], Any]) -> str:
    """Lose the claim of a block while it works; returns why, as the block was told."""
    async with served(local) as client:
        async with client.claim() as work:
            begun_s = trio.current_time()
            await trio.sleep(0.05)
            await how()
            await trio.sleep(WITHIN_S)
        assert trio.current_time() - begun_s < 2.0, "far less than the interval at which it asks"
    assert work.lost is not None
    return work.lost


async def test_a_claim_that_a_person_releases() -> None:
    local = await at_work()
    assert await lose(local, partial(by_hand, local, Outcome.RELEASED, note="it is urgent")) == "it is urgent"
    assert stands(local) == ("released", "it is urgent")


async def test_a_claim_that_a_person_settles() -> None:
    local = await at_work()
    assert await lose(local, partial(by_hand, local, Outcome.DONE)) == "somebody settled it: done"
    assert stands(local) == ("done", None)


async def test_a_claim_that_ends_with_the_daemon() -> None:
    local = await at_work()

    async def drain() -> None:
        local.step(DrainRequested("SIGTERM"))
        await trio.lowlevel.checkpoint()

    assert await lose(local, drain) == "the daemon was stopped"


async def test_a_claim_whose_phase_is_gone() -> None:
    local = await at_work()

    async def remove() -> None:
        await local.submit(PutProject(0, "site", site("q")))

    assert await lose(local, remove) == "the phase was deleted"


async def test_a_block_that_loses_its_claim_as_it_ends_ends_quietly() -> None:
    local = await at_work()
    async with served(local) as client:
        async with client.claim() as work:
            with trio.CancelScope(shield=True):
                await by_hand(local, Outcome.RELEASED, note="it is urgent")
                await by_hand(local, Outcome.DONE)
        assert work.lost


async def test_what_is_said_of_a_lost_claim_is_refused() -> None:
    local = await at_work()
    async with served(local) as client, client.claim() as work:
        with trio.CancelScope(shield=True):
            await by_hand(local, Outcome.RELEASED)
            with pytest.raises(ClientError) as refused:
                await work.progress("half of it")
    assert (refused.value.code, refused.value.status) == ("not-holder", 409)


def of_mesh(lease_s: float) -> OfMesh:
    """A worker of a mesh whose leases last so long."""
    intake = evolve(INTAKE, claim_timeout_ms=round(lease_s / 0.9 * 1000))
    mesh = Workforce.at_work(without_command=("dev-01", "dev-02", "dev-03"), intake=intake)
    mesh.put(mesh.host(1), "site", site("p"))
    mesh.settle()
    return OfMesh(mesh, mesh.host(2), settles=True)


@define
class Daemon:
    """A daemon that can be stopped, and started again where it was."""

    local: Local | OfMesh
    nursery: trio.Nursery
    url: str = ""
    stopping: trio.Event = field(factory=trio.Event)
    ended: trio.Event = field(factory=trio.Event)

    async def run(self, port: int = 0, *, task_status: trio.TaskStatus[None]) -> None:
        async with serving(self.local, port) as self.url:
            task_status.started()
            await self.stopping.wait()
        self.ended.set()

    async def start(self) -> None:
        self.stopping, self.ended = trio.Event(), trio.Event()
        await self.nursery.start(self.run, int(self.url.rpartition(":")[2] or 0))

    async def stop(self) -> None:
        self.stopping.set()
        await self.ended.wait()


@asynccontextmanager
async def running(local: Local | OfMesh) -> AsyncIterator[Daemon]:
    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            daemon = Daemon(local, nursery)
            await daemon.start()
            yield daemon
            daemon.stopping.set()


async def test_a_daemon_that_is_not_heard_until_the_lease_is_over_has_lost_the_claim() -> None:
    async with running(of_mesh(lease_s=1.0)) as daemon, Client(daemon.url) as client:
        async with client.claim(P) as work:
            await daemon.stop()
            silent_s = trio.current_time()
            await trio.sleep(WITHIN_S)
        assert 0.1 < trio.current_time() - silent_s < 3.0
        assert work.lost == "the daemon was not heard until the lease had run out"


async def test_a_daemon_that_is_away_for_a_while_costs_nothing() -> None:
    local = await at_work()
    async with running(local) as daemon, Client(daemon.url) as client:
        async with client.claim() as work:
            await daemon.stop()
            local.events = EventStream()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work.done, "https://x/1")
                await trio.sleep(0.2)
                await daemon.start()
        assert (stands(local), work.lost) == (("done", "https://x/1"), None)


async def test_a_result_that_nobody_hears_is_an_error() -> None:
    local = await at_work()
    async with running(local) as daemon, Client(daemon.url, patience_s=0.1) as client:
        with pytest.raises(Unreachable) as unheard:
            async with client.claim():
                await daemon.stop()
        assert (unheard.value.code, unheard.value.status) == ("unreachable", 0)
    assert stands(local)[0] == "in_progress"


# Errors and the other verbs


@pytest.mark.parametrize(
    ("place", "code", "status"),
    [
        (("site", "m", "none"), "not-found", 404),
        (("site", "m", "after"), "not-claimable", 409),
        (("site", "m", "../p"), "not-found", 404),
    ],
)
async def test_a_phase_that_cannot_be_claimed(place: calls.Place, code: str, status: int) -> None:
    local = await at_work("p", {"name": "after", "dependencies": ["p"]})
    async with served(local) as client:
        with pytest.raises(ClientError) as refused:
            async with client.claim(place):
                pytest.fail("it was claimed")
    assert (refused.value.code, refused.value.status) == (code, status)
    assert str(refused.value) == f"{code}: {refused.value.detail}"


async def test_a_claim_that_nobody_decides_about_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "ASK_FOR_S", 0.0)
    host = of_mesh(lease_s=60.0)
    host.settles = False
    async with served(host) as client:
        with pytest.raises(ClientError, match="undecided"):
            await client.claim(P).__aenter__()


async def test_a_host_with_a_command_has_nothing_for_applications() -> None:
    async with served(await at_work(configuration=WITH_COMMAND)) as client:
        with pytest.raises(ClientError, match="has-command"):
            await client.claim().__aenter__()


async def test_what_is_said_of_a_claim_that_another_has_is_refused() -> None:
    local = await at_work()
    async with served(local) as client:
        feature = await client.ask(calls.claim(None, "builder"))
        await by_hand(local, Outcome.RELEASED)
        await client.ask(calls.claim(None, "builder"))
        with pytest.raises(ClientError, match="stale"):
            await client.ask(calls.settle(feature, "done", {}))


async def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    async with Client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(Unreachable, match=f"no daemon answers at http://127.0.0.1:{port}"):
            await client.phases()


async def test_somebody_else_answers(nursery: trio.Nursery) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        await stream.aclose()

    listeners = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
    async with Client(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}") as client:
        with pytest.raises(ClientError, match="not-meshd"):
            await client.phases()
    nursery.cancel_scope.cancel()


async def test_what_there_is_and_why() -> None:
    local = await at_work("p", "q")
    async with served(local) as client:
        await client.set_capacity(1)
        assert [row["phase"] for row in await client.phases(status="in_progress")] == ["p"]
        assert [row["phaseSlug"] for row in await client.features()] == ["p"]
        assert (await client.phase(P))["claimable"] is False
        assert (await client.phase(("site", "m", "q"), on="dev-01"))["on"] == "dev-01"
        assert await client.set_capacity(None) == {"maxAgents": 0, "free": 0}
        with pytest.raises(ClientError, match="invalid"):
            await client.set_capacity(-1)


def test_where_the_daemon_is_and_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESHD_URL", raising=False)
    monkeypatch.delenv("AUTOMAKER_API_KEY", raising=False)
    assert (calls.address(None), calls.headers(None)) == ("http://127.0.0.1:3008", {})
    monkeypatch.setenv("MESHD_URL", "http://dev-02:3008/")
    monkeypatch.setenv("AUTOMAKER_API_KEY", " secret\n")
    assert (calls.address(None), calls.headers(None)) == ("http://dev-02:3008", {b"Authorization": b"Bearer secret"})
    assert calls.address("http://dev-03:3008") == "http://dev-03:3008"
    assert calls.headers("other") == {b"Authorization": b"Bearer other"}


# The lease


def known(left_ms: int | None, state: str = "working") -> dict[str, Any]:
    return {"id": "feature-1", "held": True, "state": state, "leaseLeftMs": left_ms}


def test_a_lease_counts_from_the_question() -> None:
    claim = calls.Claim(known(10_000))
    claim.told(known(10_000), 100.0)
    assert (claim.until_s, claim.left_s(104.0), claim.look_every_s(100.0)) == (110.0, 6.0, 1.0)
    assert claim.look_every_s(109.95) == pytest.approx(0.05)
    claim.passed(109.9)
    assert claim.lost is None
    claim.passed(110.0)
    assert claim.lost


def test_a_suspended_claim_has_the_lease_that_it_had() -> None:
    claim = calls.Claim(known(10_000))
    claim.told(known(10_000), 100.0)
    claim.told(known(None, "suspended"), 105.0)
    assert claim.until_s == 110.0
    claim.told(known(None), 105.0)
    assert (claim.left_s(1e9), claim.look_every_s(1e9)) == (float("inf"), calls.LOOK_EVERY_S)


def test_a_claim_that_is_stopped_is_lost() -> None:
    claim = calls.Claim(known(10_000))
    claim.told(known(10_000, "stopping"), 100.0)
    assert claim.lost


# Threads


async def in_thread(local: Local, work_on: Callable[[SyncWork], object], **how: Any) -> SyncWork:
    """Claim the next feature in a thread, as an application does that knows no trio."""

    def run(url: str) -> SyncWork:
        with SyncClient(url, patience_s=0.0) as client, client.claim(**how) as work:
            work_on(work)
        return work

    raised: BaseException | None = None
    with trio.fail_after(WITHIN_S):
        async with serving(local) as url:
            try:
                return await trio.to_thread.run_sync(run, url)
            except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  it is raised again, by no nursery
                raised = error
    assert raised is not None
    raise raised


async def test_a_thread_works_on_the_next_feature() -> None:
    local = await at_work()

    def work_on(work: SyncWork) -> None:
        assert (work.project, work.milestone, work.phase) == P
        work.progress("half of it")
        assert stands(local) == ("in_progress", "half of it")
        work.check()
        work.done("https://x/1")
        work.check()

    work = await in_thread(local, work_on)
    assert (stands(local), work.lost) == (("done", "https://x/1"), None)


async def test_a_threads_block_that_ends_is_done() -> None:
    local = await at_work("q", "p")
    await in_thread(local, SyncWork.check, place=P)
    assert stands(local) == ("done", None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("no network"), ("failed", "no network")),
        (ClaimLost("another block's"), ("released", "the work was stopped")),
        (KeyboardInterrupt(), ("released", "the work was stopped")),
    ],
)
async def test_a_threads_block_that_raises(error: BaseException, expected: tuple[str, str]) -> None:
    local = await at_work()

    def work_on(work: SyncWork) -> None:
        raise error

    with pytest.raises(type(error)):
        await in_thread(local, work_on)
    assert stands(local) == expected


async def test_a_thread_learns_that_its_claim_is_lost() -> None:
    local = await at_work()

    def work_on(work: SyncWork) -> None:
        trio.from_thread.run(partial(by_hand, local, Outcome.RELEASED, note="it is urgent"))
        while True:
            work.check()
            work.ended.wait(0.01)

    work = await in_thread(local, work_on)
    assert (work.lost, stands(local)) == ("it is urgent", ("released", "it is urgent"))


async def test_a_thread_is_told_what_cannot_be() -> None:
    with pytest.raises(ClientError, match="not-found"):
        await in_thread(await at_work(), SyncWork.check, place=("site", "m", "none"))
    with pytest.raises(ClientError, match="has-command"):
        await in_thread(await at_work(configuration=WITH_COMMAND), SyncWork.check)


async def test_a_threads_other_verbs() -> None:
    def run(url: str) -> None:
        with SyncClient(url) as client:
            assert client.set_capacity(1) == {"maxAgents": 1, "free": 0}
            assert [row["phase"] for row in client.phases("site", "in_progress")] == ["p"]
            assert [row["phaseSlug"] for row in client.features()] == ["p"]
            assert client.phase(P, on="dev-01")["claimable"] is False

    async with serving(await at_work()) as url:
        await trio.to_thread.run_sync(run, url)
