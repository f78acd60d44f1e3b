"""`meshd.api.standings`: how phases stand as documents change, and what keeps an instance from taking any."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from meshd.api.standings import Standings, claimant_named, hindrances
from meshd.configuration import Agents, Configuration, WorkIntake
from meshd.core.claimability import Claimant
from meshd.core.inputs import DeleteProject, PatchProject, PutProject, PutSettings, SetCapacity, SetDraining, Started
from meshd.core.snapshot import HeldView, HolderView, MemberView, Snapshot
from meshd.model import Capacity, Dialect, Focus, JsonObject, Status
from tests.api.local import ALONE, PEERS, PRIMARY, WORKER, Local
from tests.core.boards import claimed, phase
from tests.core.workforce import site

CAPACITY = Capacity(max_agents=2)
P = ("site", "m", "p")


def working(*phases: str | JsonObject, configuration: Configuration = ALONE) -> Local:
    """An instance that decides for itself, and knows the project `site`."""
    local = Local(configuration)
    local.step(Started())
    local.step(PutProject(1, "site", site(*phases)))
    return local


def taken(local: Local) -> Snapshot:
    return local.node.snapshot(local.now)


def member(**how: Any) -> MemberView:
    view = MemberView(
        *("dev-03", Status.ALIVE, None, "qa", ("docs",), None, 2, None),
        *(Dialect.NATIVE, CAPACITY, 0, None, 0.0, None),
        linked=True,
        intake=True,
        holding=1,
    )
    return evolve(view, **how)


# The board


async def test_the_board_follows_documents_as_they_come_change_and_go() -> None:
    local, standings = working("p", "q"), Standings()

    def names(slug: str = "site") -> list[str]:
        standings.board(taken(local))
        return [found.name for found in standings.phases(taken(local), slug)]

    assert names() == ["p", "q"]
    local.step(PatchProject(2, "site", {"milestones": [{"slug": "m", "phases": [{"name": "p", "title": "new"}]}]}))
    found = standings.board(taken(local)).phase(P)
    assert found is not None
    assert (found.title, names()) == ("new", ["p"])
    local.step(DeleteProject(3, "site"))
    assert names() == []
    local.step(PutProject(4, "site", site("r")))
    assert names() == ["r"]


async def test_a_document_that_is_forgotten_leaves_the_board() -> None:
    local, standings = working("p"), Standings()
    assert standings.board(taken(local)).phase(P)
    assert standings.board(evolve(taken(local), documents={})).phase(P) is None


async def test_what_blocks_a_phase_is_found_out_anew_after_a_change() -> None:
    local, standings = working(phase("p", "q")), Standings()
    standings.board(taken(local))
    assert "which does not exist" in (standings.blocked(P) or "")
    local.step(PutProject(2, "site", site(phase("p", "q"), "q")))
    standings.board(taken(local))
    assert standings.blocked(P) is None


# A row


async def test_the_lease_of_a_claim_as_its_holder_and_as_the_primary_know_it() -> None:
    local, standings = working("p"), Standings()
    snapshot = taken(local)
    document = claimed(snapshot.documents["site"], "m", "p", id="b-1", holder="dev-03", provisional=True)
    held = HeldView(P, "b-1", 1, "working", 12.5)
    work = evolve(snapshot.work, held=(held,), holders=(HolderView("dev-03", 3.0, 1200.0),))
    snapshot = evolve(snapshot, documents={"site": document}, work=work)

    (found,) = standings.phases(snapshot, "site")
    row = standings.row(found, snapshot, local.now.utc_ms)
    assert (row["claimedBy"], row["leaseLeftMs"], row["reclaimInMs"]) == ("dev-03", 12_500, 1_200_000)
    assert row["provisional"] is True
    endless = evolve(work, held=(evolve(held, lease_left_s=float("inf")),), holders=())
    row = standings.row(found, evolve(snapshot, work=endless), local.now.utc_ms)
    assert (row["leaseLeftMs"], row["reclaimInMs"]) == (None, None)


# Who would claim


async def test_a_claimant_is_this_instance_or_a_member() -> None:
    snapshot = evolve(taken(Local(WORKER)), members=(member(), member(instance_id="dev-04", focus="poetry")))
    assert claimant_named("dev-02", snapshot, WORKER) == Claimant("dev-02", Focus.FRONTEND, ("docs",))
    assert claimant_named("dev-03", snapshot, WORKER) == Claimant("dev-03", Focus.QA, ("docs",))
    assert claimant_named("dev-04", snapshot, WORKER) == Claimant("dev-04", Focus.FULLSTACK, ("docs",))
    assert claimant_named("dev-09", snapshot, WORKER) is None


@pytest.mark.parametrize(("passed_over", "overflow", "takes"), [(2, True, False), (3, True, True), (9, False, False)])
async def test_this_instance_takes_other_work_after_some_ticks(passed_over: int, overflow: bool, takes: bool) -> None:
    configuration = evolve(WORKER, work_intake=WorkIntake(overflow=overflow))
    snapshot = taken(Local(configuration))
    snapshot = evolve(snapshot, work=evolve(snapshot.work, passed_over=passed_over))
    claimant = claimant_named("dev-02", snapshot, configuration)
    assert claimant is not None
    assert claimant.overflow is takes


# What it lacks


def told(name: str, snapshot: Snapshot, local: Local) -> dict[str, tuple[bool, str]]:
    found = hindrances(name, snapshot, local.configuration)
    return {each.name: (each.holds, each.text) for each in found}


async def test_nothing_is_lacking() -> None:
    local = working(configuration=evolve(ALONE, agents=Agents(command=("work",), max=3)))
    assert told("dev-01", taken(local), local) == {
        "intake": (True, "it claims new work"),
        "primary": (True, "dev-01 leads"),
        "capacity": (True, "3 of 3 agents are free"),
    }


async def test_intake_of_this_instance() -> None:
    local = working()
    assert told("dev-01", taken(local), local)["intake"][0]
    local.step(SetDraining(1, is_draining=True))
    assert told("dev-01", taken(local), local)["intake"] == (False, "it is draining")
    local.step(SetDraining(1, is_draining=False))
    local.step(PutSettings(1, "local", {"autoMode": False}))
    assert told("dev-01", taken(local), local)["intake"] == (False, "autoMode is false in the local settings")


async def test_room_of_this_instance() -> None:
    local = working()
    lacking = "it has no agents.command, and no application asks it for work"
    assert told("dev-01", taken(local), local)["capacity"] == (False, lacking)
    local.step(SetCapacity(1, 4))
    assert told("dev-01", taken(local), local)["capacity"] == (True, "4 of 4 agents are free")


async def test_a_primary_that_decides() -> None:
    worker = Local(WORKER)
    assert told("dev-02", taken(worker), worker)["primary"] == (False, "it has no primary")
    snapshot = evolve(taken(worker), members=(member(),))
    assert told("dev-03", snapshot, worker)["primary"] == (False, "dev-02 knows of no primary")
    assert told("dev-03", evolve(snapshot, primary_id="dev-01"), worker)["primary"] == (True, "dev-01 leads")

    primary = Local(PRIMARY)
    snapshot = evolve(taken(primary), members=(member(),))
    assert told("dev-03", snapshot, primary)["primary"] == (True, "dev-01 leads")
    why = "this primary does not decide about claims: settling"
    settling = evolve(snapshot, work=evolve(snapshot.work, why_not_yet=why))
    for name in ("dev-01", "dev-03"):
        assert told(name, settling, primary)["primary"] == (False, why)


async def test_whoever_may_claim_alone_needs_no_primary() -> None:
    local = Local(evolve(WORKER, work_intake=WorkIntake(when_partitioned="continue")))
    assert told("dev-02", taken(local), local)["primary"] == (True, "it claims without one")


@pytest.mark.parametrize(
    ("how", "lacking"),
    [
        ({}, {}),
        ({"status": Status.FAILED}, {"online": "dev-03 is offline"}),
        ({"status": Status.DRAINING, "intake": False}, {"intake": "it is draining"}),
        ({"intake": False}, {"intake": "it claims nothing new: ask it for `meshd intake status`"}),
        ({"holding": 2}, {"capacity": "it holds 2 of 2"}),
        ({"intake": None, "holding": None, "capacity": None}, {"capacity": "it holds 0 of 0"}),
    ],
)
async def test_what_another_instance_lacks(how: dict[str, Any], lacking: dict[str, str]) -> None:
    local = Local(PRIMARY)
    local.meet(1, "dev-02", PEERS[1], CAPACITY)
    snapshot = evolve(taken(local), members=(member(**how),))
    found = told("dev-03", snapshot, local)
    assert list(found) == ["online", "intake", "primary", "capacity"]
    assert {name: text for name, (holds, text) in found.items() if not holds} == lacking
