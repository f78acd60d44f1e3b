"""`meshd.api.phases` on a real node: who works on what, why not, and what may be said of it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from attrs import evolve

from meshd.api.phases import MAX_TEXT, ROWS_AT_A_TIME
from meshd.configuration import InstanceKeys, WorkIntake
from meshd.core.inputs import ClaimPhase, Outcome, PutProject, SetDraining, SettlePhase
from meshd.model import Capacity, Focus
from tests.api.local import ALONE, PEERS, PRIMARY, WORKER, Local
from tests.api.working import PLACE, OfMesh, ask, at_work, client, refused
from tests.core.boards import phase
from tests.core.workforce import FENCED_S, P, Workforce, site

WITHIN_S = 5.0


async def claimed(*phases: Any) -> Local:
    """An instance that holds `p`, by the word of a person."""
    local = await at_work(*phases)
    await local.submit(ClaimPhase(0, "site", "m", "p"))
    return local


async def shown(local: Local, path: str = PLACE) -> Any:
    status, body = await ask(local, "GET", path)
    assert status == 200
    return body


# Lists


async def test_all_phases_of_what_is_worked_on() -> None:
    local = await claimed("p", phase("q", "p"))
    await local.submit(SettlePhase(0, "site", "m", "p", Outcome.PROGRESS, 1, note="half of it"))
    local.now = evolve(local.now, utc_ms=local.now.utc_ms + 1500)
    first, second = (await shown(local, "/api/phases"))["phases"]
    assert first == {
        "project": "site",
        "milestone": "m",
        "phase": "p",
        "status": "in_progress",
        "claimedBy": "dev-01",
        "claimedAt": "2026-03-14T09:26:53.589Z",
        "generation": 1,
        "attempts": 0,
        "featureId": first["featureId"],
        "prUrl": None,
        "lastError": None,
        "note": "half of it",
        "retryAt": None,
        "provisional": False,
        "ageMs": 1500,
        "leaseLeftMs": None,
        "reclaimInMs": None,
        "blocked": None,
    }
    assert (second["phase"], second["status"], second["claimedBy"]) == ("q", "unclaimed", None)
    assert [row["phase"] for row in (await shown(local, "/api/claims"))["claims"]] == ["p"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("project=site", ["p", "q"]),
        ("project=none", []),
        ("status=unclaimed", ["q"]),
        ("status=in_progress&project=site", ["p"]),
        ("status=none", []),
    ],
)
async def test_some_of_them(query: str, names: list[str]) -> None:
    rows = (await shown(await claimed("p", "q"), f"/api/phases?{query}"))["phases"]
    assert [row["phase"] for row in rows] == names


async def test_of_a_project_that_is_not_worked_on_when_it_is_named() -> None:
    local = await at_work()
    await local.submit(PutProject(0, "old", {**site("p"), "status": "completed"}))
    for query, slugs in (("", ["site"]), ("?project=old", ["old"])):
        assert [row["project"] for row in (await shown(local, f"/api/phases{query}"))["phases"]] == slugs


async def test_many_of_them() -> None:
    names = [f"p{number:03}" for number in range(2 * ROWS_AT_A_TIME + 1)]
    assert [row["phase"] for row in (await shown(await at_work(*names), "/api/phases"))["phases"]] == names


async def test_what_can_never_be_claimed_says_why() -> None:
    local = await at_work(phase("p", "q"), phase("q", "p"))
    assert all("cycle" in row["blocked"] for row in (await shown(local, "/api/phases"))["phases"])


# One, and why


async def test_every_condition_of_a_phase() -> None:
    local = await at_work("p", phase("q", "p"))
    body = await shown(local, "/api/phases/site/m/q")
    assert (body["on"], body["claimable"], body["decisions"]) == ("dev-01", False, [])
    holds = {each["name"]: each["holds"] for each in body["conditions"]}
    assert [name for name, each in holds.items() if not each] == ["dependencies", "capacity"]
    assert next(each["text"] for each in body["conditions"] if each["name"] == "dependencies").startswith(
        "depends on p"
    )
    await local.submit(ClaimPhase(0, "site", "m", "p"))
    (decision,) = (await shown(local))["decisions"]
    assert (decision["claim"], decision["reason"]) == ("b007-1", "granted")


@pytest.mark.parametrize("overflow", [True, False])
async def test_a_focus_keeps_it_from_other_work_for_a_while_only(overflow: bool) -> None:
    keys = InstanceKeys(focus=Focus.FRONTEND)
    configuration = evolve(ALONE, instance=keys, work_intake=WorkIntake(overflow=overflow))
    local = await at_work(phase("p", filesToModify=["docs/index.md"]), configuration=configuration)
    (affinity,) = [each for each in (await shown(local))["conditions"] if each["name"] == "affinity"]
    assert affinity["holds"] is False
    assert ("it takes other work after 3 ticks without any of its own (so far 0)" in affinity["text"]) is overflow


async def test_why_another_instance_does_not_take_it() -> None:
    local = await at_work(configuration=PRIMARY)
    local.meet(1, "dev-02", PEERS[1], Capacity(max_agents=1))
    here, there = await shown(local), await shown(local, f"{PLACE}?on=dev-02")
    assert (here["on"], there["on"]) == ("dev-01", "dev-02")
    assert {"online", "capacity", "intake"} <= {each["name"] for each in there["conditions"]}
    assert there["claimable"] is True
    assert here["claimable"] is False, "nobody asks here for work"


@pytest.mark.parametrize("path", ["/api/phases/none/m/p", "/api/phases/site/none/p", "/api/phases/site/m/none"])
async def test_what_is_not_there(path: str) -> None:
    local = await at_work()
    assert await refused(local, "GET", path) == (404, "not-found")
    for verb in ("claim", "progress", "done", "failed", "release", "retry"):
        assert await refused(local, "POST", f"{path}/{verb}") == (404, "not-found")


async def test_an_instance_that_is_not_there() -> None:
    assert await refused(await at_work(), "GET", f"{PLACE}?on=dev-09") == (404, "not-found")


async def test_names_that_need_encoding() -> None:
    local = await at_work("gr\u00fc\u00dfe & mehr?")
    assert (await shown(local, "/api/phases/site/m/gr%C3%BC%C3%9Fe%20%26%20mehr%3F"))[
        "phase"
    ] == "gr\u00fc\u00dfe & mehr?"


# Claiming


async def test_a_person_has_this_host_take_a_phase() -> None:
    local = await at_work()
    status, feature = await ask(local, "POST", f"{PLACE}/claim")
    assert (status, feature["status"], feature["held"], feature["state"]) == (200, "backlog", True, "waiting")
    assert "takenBy" not in feature
    assert await refused(local, "POST", f"{PLACE}/claim") == (409, "not-claimable")


async def test_an_application_takes_a_phase_for_itself() -> None:
    local = await at_work()
    status, feature = await ask(local, "POST", f"{PLACE}/claim?by=builder")
    assert (status, feature["status"], feature["state"], feature["takenBy"]) == (
        200,
        "in_progress",
        "working",
        "builder",
    )
    assert await ask(local, "POST", f"{PLACE}/claim?by=builder") == (200, feature), "it has it already"
    assert await refused(local, "POST", f"{PLACE}/claim?by=another") == (409, "not-claimable")


async def test_an_application_takes_what_waits_for_one() -> None:
    local = await claimed()
    status, feature = await ask(local, "POST", f"{PLACE}/claim?by=builder")
    assert (status, feature["state"], feature["takenBy"]) == (200, "working", "builder")


def mesh_of_three(*phases: str) -> tuple[Workforce, OfMesh, OfMesh]:
    """Hosts without a command, led by dev-01; the other two."""
    mesh = Workforce.at_work(without_command=("dev-01", "dev-02", "dev-03"))
    mesh.put(mesh.host(1), "site", site(*(phases or ("p",))))
    mesh.settle()
    return mesh, OfMesh(mesh, mesh.host(2)), OfMesh(mesh, mesh.host(3))


async def test_the_primary_decides() -> None:
    mesh, here, _ = mesh_of_three()
    got: list[Any] = []

    async def wait() -> None:
        got.append(await ask(here, "POST", f"{PLACE}/claim"))

    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert not got
            mesh.settle()
    ((status, feature),) = got
    assert (status, feature["claimedBy"], feature["generation"], feature["state"]) == (200, "dev-02", 1, "waiting")
    assert 0 < feature["leaseLeftMs"] <= FENCED_S * 1000


async def test_a_decision_that_does_not_come_in_time() -> None:
    mesh, here, _ = mesh_of_three()
    assert await refused(here, "POST", f"{PLACE}/claim?wait=0") == (409, "undecided")
    mesh.settle()
    assert (await ask(here, "POST", f"{PLACE}/claim?wait=0&by=builder"))[1]["takenBy"] == "builder", "granted meanwhile"


async def test_of_two_hosts_that_ask_one_is_told_who_has_it() -> None:
    mesh, here, there = mesh_of_three()
    got: list[tuple[int, Any]] = []

    async def wait(of: OfMesh) -> None:
        got.append(await ask(of, "POST", f"{PLACE}/claim"))

    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, here)
            nursery.start_soon(wait, there)
            await trio.testing.wait_all_tasks_blocked(0.01)
            mesh.settle()
    (_, feature), (status, problem) = sorted(got, key=lambda answer: answer[0])
    assert (status, problem["code"]) == (409, "not-claimable")
    assert problem["detail"].endswith(f"{feature['claimedBy']} holds it")


async def test_what_is_claimed_for_one_goes_to_nobody_else_who_waits() -> None:
    mesh, here, _ = mesh_of_three()
    http = client(here)  # of one application's API: it knows who waits
    got: list[Any] = []

    async def wait() -> None:
        got.append(await (await http.post(f"{PLACE}/claim?by=builder")).get_json())

    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked(0.01)
            mesh.settle()
            assert mesh.states(here.host) == {P: "waiting"}
            assert (await http.get("/api/work/next?wait=0")).status_code == 204
    assert got[0]["takenBy"] == "builder"


async def test_what_another_host_holds_is_settled_there_or_by_force() -> None:
    mesh, here, there = mesh_of_three()
    await refused(here, "POST", f"{PLACE}/claim?wait=0")
    mesh.settle()
    assert await refused(there, "POST", f"{PLACE}/release", json={}) == (409, "not-holder")
    status, row = await ask(there, "POST", f"{PLACE}/release", json={"force": True})
    assert (status, row["status"], row["generation"]) == (200, "unclaimed", 2)
    mesh.settle()
    assert await refused(here, "POST", f"{PLACE}/done", json={"generation": 1}) == (409, "stale")


async def test_a_worker_without_a_primary_claims_nothing() -> None:
    assert await refused(await at_work(configuration=WORKER), "POST", f"{PLACE}/claim") == (409, "not-claimable")


@pytest.mark.parametrize("query", ["wait=x", "wait=-1", "by=", "by=%00"])
async def test_claims_that_cannot_be(query: str) -> None:
    local = await at_work()
    assert await refused(local, "POST", f"{PLACE}/claim?{query}") == (422, "invalid")
    assert (await shown(local))["generation"] == 0


async def test_a_draining_host_takes_nothing() -> None:
    local = await at_work()
    await local.submit(SetDraining(0, is_draining=True))
    assert await refused(local, "POST", f"{PLACE}/claim") == (409, "not-claimable")


# Settling


async def test_from_progress_to_done() -> None:
    local = await claimed()
    status, row = await ask(local, "POST", f"{PLACE}/progress", json={"generation": 1, "note": "half of it"})
    assert (status, row["status"], row["note"]) == (200, "in_progress", "half of it")
    status, row = await ask(local, "POST", f"{PLACE}/done", json={"generation": 1, "prUrl": "https://x/1"})
    assert (status, row["status"], row["prUrl"], row["generation"]) == (200, "done", "https://x/1", 1)
    assert await ask(local, "POST", f"{PLACE}/done", json={"generation": 1}) == (200, row), "said twice"
    assert await refused(local, "POST", f"{PLACE}/progress", json={"generation": 1}) == (409, "not-holder")
    assert await refused(local, "POST", f"{PLACE}/done") == (409, "not-claimable")
    assert await refused(local, "POST", f"{PLACE}/release") == (409, "not-claimable")


async def test_what_failed_is_tried_again_until_there_were_too_many_attempts() -> None:
    local = await at_work(configuration=evolve(ALONE, work_intake=WorkIntake(max_attempts=2, retry_backoff_ms=0)))
    for attempt in (1, 2):
        await ask(local, "POST", f"{PLACE}/claim")
        status, row = await ask(local, "POST", f"{PLACE}/failed", json={"error": "no network"})
        assert (status, row["status"], row["lastError"], row["attempts"]) == (
            200,
            ("unclaimed", "failed")[attempt - 1],
            "no network",
            attempt,
        )
        assert (row["retryAt"] is None) == (attempt == 2)
    assert await refused(local, "POST", f"{PLACE}/claim") == (409, "not-claimable")
    status, row = await ask(local, "POST", f"{PLACE}/retry")
    assert (status, row["status"]) == (200, "unclaimed")
    assert await refused(local, "POST", f"{PLACE}/retry") == (409, "not-claimable")
    assert (await ask(local, "POST", f"{PLACE}/claim"))[0] == 200


async def test_what_is_given_back_can_be_claimed_anew() -> None:
    local = await claimed()
    status, row = await ask(local, "POST", f"{PLACE}/release", json={"note": "it is urgent elsewhere"})
    assert (status, row["status"], row["note"]) == (200, "unclaimed", "it is urgent elsewhere")
    assert (await ask(local, "POST", f"{PLACE}/claim"))[1]["generation"] == 2
    assert await refused(local, "POST", f"{PLACE}/done", json={"generation": 1}) == (409, "stale")


BODIES: list[tuple[dict[str, Any], tuple[int, str]]] = [
    ({"json": []}, (422, "invalid")),
    ({"json": {"generation": "1"}}, (422, "invalid")),
    ({"json": {"generation": -1}}, (422, "invalid")),
    ({"json": {"generation": True}}, (422, "invalid")),
    ({"json": {"prUrl": 1}}, (422, "invalid")),
    ({"json": {"error": {}}}, (422, "invalid")),
    ({"json": {"note": []}}, (422, "invalid")),
    ({"json": {"note": "x" * (MAX_TEXT + 1)}}, (422, "invalid")),
    ({"json": {"force": "yes"}}, (422, "invalid")),
    ({"json": {"pr": "x"}}, (422, "invalid")),
    ({"data": b"{"}, (400, "invalid-json")),
    ({"data": b"{}", "headers": {"Content-Type": "text/plain"}}, (415, "unsupported-media-type")),
]


@pytest.mark.parametrize(("body", "expected"), BODIES)
async def test_bodies_that_cannot_be_taken(body: dict[str, Any], expected: tuple[int, str]) -> None:
    local = await claimed()
    for verb in ("progress", "done", "failed", "release", "retry"):
        assert await refused(local, "POST", f"{PLACE}/{verb}", **body) == expected
    assert (await shown(local))["status"] == "in_progress"
