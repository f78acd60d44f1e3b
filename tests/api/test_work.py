"""`meshd.api.work` and `meshd.api.handout` on a real node: features for applications, one each, whoever goes away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from meshd.api.handout import MAX_NAME, MAX_WAITING
from meshd.core.effects import Accepted, Rejected
from meshd.core.inputs import Outcome, PutProject, SettlePhase, Started, TakeWork
from tests.api.local import WORKER, Local
from tests.api.serving import serving
from tests.api.working import PLACE, WITH_COMMAND, ask, at_work, client, refused
from tests.core.workforce import site

WITHIN_S = 5.0
"""Far more than anything here takes: what does not come by then does not come."""


def waiting(local: Local) -> int:
    """How many features the applications of this host would take."""
    return local.node.snapshot(local.now).work.max_agents


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(WITHIN_S):
        while not condition():
            await trio.sleep(0.005)


def states(local: Local) -> dict[str, str]:
    return {held.place[2]: held.state for held in local.node.snapshot(local.now).work.held}


async def taken(local: Local, query: str = "wait=0") -> Any:
    status, feature = await ask(local, "GET", f"/api/work/next?{query}")
    assert status == 200
    return feature


# The next feature


async def test_the_next_feature_is_claimed_for_who_asks() -> None:
    local = await at_work({"name": "p", "title": "P", "description": "x"})
    assert states(local) == {}, "nobody wants it"
    feature = await taken(local)
    assert feature["id"].startswith("feature-1773480413589-")
    assert feature == feature | {
        "title": "P",
        "description": "x\n\nProject: Site (site)\nMilestone: m",
        "status": "in_progress",
        "projectSlug": "site",
        "milestoneSlug": "m",
        "phaseSlug": "p",
        "claimedBy": "dev-01",
        "generation": 1,
        "held": True,
        "state": "working",
        "leaseLeftMs": None,
    }
    assert await ask(local, "GET", "/api/work/next?wait=0") == (204, None)
    assert await ask(local, "GET", f"/api/features/{feature['id']}") == (200, feature)
    assert await ask(local, "GET", "/api/features") == (200, {"features": [feature]})


async def test_who_waits_is_woken_at_once() -> None:
    local = Local()
    local.step(Started())
    async with trio.open_nursery() as nursery:
        got: list[Any] = []

        async def wait() -> None:
            got.append(await taken(local, "wait=30"))

        nursery.start_soon(wait)
        await until(lambda: waiting(local) == 1)
        with trio.fail_after(WITHIN_S):
            await local.submit(PutProject(0, "site", site("p")))
            await until(lambda: bool(got))
    assert got[0]["phaseSlug"] == "p"
    assert waiting(local) == 1, "it is at work"
    assert local.node.snapshot(local.now).work.free == 0, "and wants no more"


async def test_nothing_comes_in_time() -> None:
    local = Local()
    with trio.fail_after(WITHIN_S):
        assert await ask(local, "GET", "/api/work/next?wait=0.01") == (204, None)
    assert waiting(local) == 0


async def test_each_of_two_that_wait_gets_its_own_and_no_third_is_claimed() -> None:
    local = await at_work("p", "q", "r")
    got: list[str] = []

    async def wait() -> None:
        got.append((await taken(local, "wait=30"))["phaseSlug"])

    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
    assert sorted(got) == ["p", "q"]
    assert states(local) == {"p": "working", "q": "working"}


async def test_who_asks_again_under_its_name_gets_what_it_has() -> None:
    local = await at_work("p", "q")
    first = await taken(local, "wait=0&by=builder")
    assert first["takenBy"] == "builder"
    assert (await taken(local, "wait=0&by=builder"))["id"] == first["id"]
    assert states(local) == {"p": "working"}, "and wants no other meanwhile"
    assert (await taken(local, "wait=0&by=another"))["phaseSlug"] == "q"
    await local.submit(SettlePhase(0, "site", "m", "p", Outcome.DONE, 1))
    assert await ask(local, "GET", "/api/work/next?wait=0&by=builder") == (204, None)


async def test_a_client_that_goes_away_is_no_capacity_any_more() -> None:
    local = Local()
    async with serving(local) as url, httpx.AsyncClient(base_url=url) as http:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(http.get, "/api/work/next?wait=30")
            await until(lambda: waiting(local) == 1)
            nursery.cancel_scope.cancel()
        await until(lambda: waiting(local) == 0)


async def test_what_was_taken_for_a_client_that_has_gone_away_is_given_back() -> None:
    is_taking, may_go_on = trio.Event(), trio.Event()

    async def slow(local: Local, command: TakeWork) -> Accepted | Rejected:
        outcome = await Local.submit(local, command)
        is_taking.set()
        await may_go_on.wait()  # its commit takes a while
        return outcome

    local = await at_work(taking=slow)
    async with serving(local) as url, httpx.AsyncClient(base_url=url) as http:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(http.get, "/api/work/next?wait=30")
            await is_taking.wait()
            nursery.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked(0.05)
        may_go_on.set()
        await until(lambda: states(local) == {})
    (feature,) = local.node.snapshot(local.now).work.features.values()
    assert feature.released == "the application that asked for it had gone"


async def test_a_wait_that_is_over_while_something_is_taken_gives_it() -> None:
    async def slow(local: Local, command: TakeWork) -> Accepted | Rejected:
        await trio.sleep(0.1)
        return await Local.submit(local, command)

    local = await at_work(taking=slow)
    assert (await taken(local, "wait=0.05"))["phaseSlug"] == "p"


async def test_no_more_wait_than_may() -> None:
    local = Local()
    async with trio.open_nursery() as nursery:
        http = client(local)
        for _ in range(MAX_WAITING):
            nursery.start_soon(http.get, "/api/work/next?wait=30")
        await until(lambda: waiting(local) == MAX_WAITING)
        response = await http.get("/api/work/next?wait=30")
        assert (response.status_code, (await response.get_json(force=True))["code"]) == (503, "too-many-waiting")
        assert waiting(local) == MAX_WAITING
        nursery.cancel_scope.cancel()


async def test_the_end_of_the_instance_ends_the_waiting() -> None:
    local = Local()
    async with serving(local) as url, trio.open_nursery() as nursery, httpx.AsyncClient(base_url=url) as http:
        answers: list[int] = []

        async def wait() -> None:
            answers.append((await http.get("/api/work/next?wait=30")).status_code)

        nursery.start_soon(wait)
        await until(lambda: waiting(local) == 1)
        local.events.close()
        await until(lambda: answers == [204])


async def test_a_host_with_a_command_has_nothing_for_applications() -> None:
    local = await at_work(configuration=WITH_COMMAND)
    assert await refused(local, "GET", "/api/work/next?wait=30") == (409, "has-command")
    assert await refused(local, "POST", f"{PLACE}/claim?by=builder") == (409, "has-command")


async def test_a_disk_that_refuses_is_said() -> None:
    async def full(local: Local, command: TakeWork) -> Accepted | Rejected:
        await trio.lowlevel.checkpoint()
        return Rejected("disk-full", "no room")

    local = await at_work(taking=full)
    assert await refused(local, "GET", "/api/work/next?wait=30") == (507, "disk-full")
    assert local.node.snapshot(local.now).work.max_agents == 0, "nobody waits"


@pytest.mark.parametrize("query", ["wait=-1", "wait=x", "wait=", "wait=nan", "wait=inf", "by=", f"by={'x' * 201}"])
async def test_a_query_that_cannot_be(query: str) -> None:
    assert len("x" * 201) > MAX_NAME
    assert await refused(await at_work(), "GET", f"/api/work/next?{query}") == (422, "invalid")


# Features


async def test_a_feature_that_is_watched_is_answered_when_its_claim_ends() -> None:
    local = await at_work()
    name = (await taken(local))["id"]
    with trio.fail_after(WITHIN_S):
        assert (await ask(local, "GET", f"/api/features/{name}?wait=0.01"))[1]["held"] is True
        async with trio.open_nursery() as nursery:
            got: list[Any] = []

            async def watch() -> None:
                got.append((await ask(local, "GET", f"/api/features/{name}?wait=30"))[1])

            nursery.start_soon(watch)
            await trio.testing.wait_all_tasks_blocked(0.01)
            await local.submit(SettlePhase(0, "site", "m", "p", Outcome.RELEASED, note="it is urgent elsewhere"))
    (feature,) = got
    expected = {"held": False, "state": None, "status": "backlog", "released": True}
    assert feature == feature | expected | {"releaseReason": "it is urgent elsewhere"}
    assert await ask(local, "GET", f"/api/features/{name}?wait=30") == (200, feature), "at once"


async def test_a_patch_keeps_what_an_application_wants() -> None:
    local = await at_work({"name": "p", "title": "P"})
    name = (await taken(local))["id"]
    body = {"branch": "site-p", "title": None}
    status, feature = await ask(local, "PATCH", f"/api/features/{name}", json=body)
    assert (status, feature["branch"], "title" in feature) == (200, "site-p", False)
    assert await ask(local, "GET", f"/api/features/{name}") == (200, feature)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"json": {"status": "done"}}, (422, "invalid")),
        ({"json": {"takenBy": "me"}}, (422, "invalid")),
        ({"json": []}, (422, "invalid")),
        ({"data": b"{"}, (400, "invalid-json")),
        ({"data": b"{}", "headers": {"Content-Type": "text/plain"}}, (415, "unsupported-media-type")),
    ],
)
async def test_patches_that_cannot_be(body: dict[str, Any], expected: tuple[int, str]) -> None:
    local = await at_work()
    feature = await taken(local)
    assert await refused(local, "PATCH", f"/api/features/{feature['id']}", **body) == expected
    assert await ask(local, "GET", f"/api/features/{feature['id']}") == (200, feature)


async def test_features_that_are_not_there() -> None:
    local = await at_work()
    assert await refused(local, "GET", "/api/features/feature-1") == (404, "not-found")
    with trio.fail_after(WITHIN_S):
        assert await refused(local, "GET", "/api/features/feature-1?wait=30") == (404, "not-found")
    assert await refused(local, "PATCH", "/api/features/feature-1", json={}) == (404, "not-found")
    assert await refused(local, "GET", "/api/features/feature-1?wait=x") == (422, "invalid")


# Capacity


async def test_an_application_says_how_much_it_takes() -> None:
    local = await at_work("p", "q", "r")
    body = {"maxAgents": 2, "runningAgents": 0, "backlogCount": 0}
    assert await ask(local, "PUT", "/api/capacity", json=body) == (200, {"maxAgents": 2, "free": 0})
    assert states(local) == {"p": "waiting", "q": "waiting"}
    assert await ask(local, "DELETE", "/api/capacity") == (200, {"maxAgents": 0, "free": 0})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (422, "invalid")),
        ({"runningAgents": 1}, (422, "invalid")),
        ({"maxAgents": -1}, (422, "invalid")),
        ({"maxAgents": 10_001}, (422, "invalid")),
        ({"maxAgents": 1.5}, (422, "invalid")),
        ({"maxAgents": True}, (422, "invalid")),
        ({"maxAgents": "2"}, (422, "invalid")),
        ({"maxAgents": 1, "agents": 1}, (422, "invalid")),
        ([], (422, "invalid")),
    ],
)
async def test_capacities_that_cannot_be(body: Any, expected: tuple[int, str]) -> None:
    local = await at_work()
    assert await refused(local, "PUT", "/api/capacity", json=body) == expected
    assert waiting(local) == 0


async def test_a_worker_without_a_primary_waits_for_one() -> None:
    assert await ask(await at_work(configuration=WORKER), "GET", "/api/work/next?wait=0.01") == (204, None)
