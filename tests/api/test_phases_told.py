"""`meshd.api.phases`, on a real node: what is listed, why not, and everything that can be said of a phase."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, evolve

from meshd.api.app import create_app
from meshd.api.instance import Instance
from meshd.api.phases import MAX_TEXT, MAX_WAIT_S
from meshd.configuration import InstanceKeys, WorkIntake
from meshd.core.effects import Accepted, Rejected
from meshd.core.inputs import Outcome, PutProject, Request, SettlePhase
from meshd.core.intake import ASKED, UNANSWERED
from meshd.core.snapshot import DecisionView, Snapshot
from meshd.model import Focus, Now
from tests.api.local import ALONE, START, WORKER, Local
from tests.api.sites import answered, client, content, got, posted, working
from tests.core.boards import phase

P = "/api/phases/site/m/p"
HERE = "dev-01"
FREE = {
    "project": "site",
    "milestone": "m",
    "phase": "p",
    "status": "unclaimed",
    "claimedBy": None,
    "claimedAt": None,
    "generation": 0,
    "attempts": 0,
    "featureId": None,
    "prUrl": None,
    "lastError": None,
    "note": None,
    "retryAt": None,
    "provisional": False,
    "ageMs": None,
    "leaseLeftMs": None,
    "reclaimInMs": None,
    "blocked": None,
}


def later(local: Local, passed_s: float) -> None:
    local.now = Now(local.now.mono_s + passed_s, local.now.utc_ms + round(passed_s * 1000))


# What there is


async def test_all_phases_of_projects_that_are_worked_on() -> None:
    local = working("p", phase("q", "p"), phase("r", "nobody"))
    local.step(PutProject(2, "old", content("p", status="completed")))
    http = client(local)

    rows = (await got(http, "/api/phases"))["phases"]
    assert [row["phase"] for row in rows] == ["p", "q", "r"]
    assert rows[0] == FREE
    assert rows[1]["blocked"] is None, "it only has to wait"
    assert "which does not exist" in rows[2]["blocked"]
    assert [row["project"] for row in (await got(http, "/api/phases?project=old"))["phases"]] == ["old"]
    assert (await got(http, "/api/phases?project=none"))["phases"] == []


async def test_phases_by_their_status_and_the_claims_among_them() -> None:
    local = working("p", "q")
    http = client(local)
    feature = await posted(http, f"{P}/claim")
    later(local, 2.5)

    assert [row["phase"] for row in (await got(http, "/api/phases?status=unclaimed"))["phases"]] == ["q"]
    (claim,) = (await got(http, "/api/claims"))["claims"]
    assert claim == (await got(http, "/api/phases?status=in_progress"))["phases"][0]
    assert claim == {
        **FREE,
        "status": "in_progress",
        "claimedBy": HERE,
        "claimedAt": "2026-03-14T09:26:53.589Z",
        "generation": 1,
        "featureId": feature["id"],
        "ageMs": 2500,
    }


async def test_a_long_list_gives_others_their_turn() -> None:
    rows = (await got(client(working(*(f"p{n}" for n in range(250)))), "/api/phases"))["phases"]
    assert len(rows) == 250


# Why, or why not


async def why(http: Any, query: str = "", status: int = 200) -> Any:
    return await got(http, f"{P}{query}", status)


def failing(told: Any) -> list[str]:
    assert told["claimable"] is all(each["holds"] for each in told["conditions"])
    return [each["name"] for each in told["conditions"] if not each["holds"]]


async def test_every_condition_in_order() -> None:
    told = await why(client(working("p")))
    names = [each["name"] for each in told["conditions"]]
    assert names[0] == "project-active"
    assert names[-4:] == ["affinity", "intake", "primary", "capacity"]
    assert all(each["text"] for each in told["conditions"])
    assert (told["on"], told["title"], told["decisions"]) == (HERE, "p", [])
    assert failing(told) == ["capacity"], "no application asks it for work"


async def test_it_can_be_claimed_once_there_is_room() -> None:
    local = working(phase("p", status="unclaimed"), configuration=evolve(ALONE, work_intake=WorkIntake(enabled=False)))
    http = client(local)
    assert failing(await why(http)) == ["intake", "capacity"]

    local = working(status="paused")
    http = client(local)
    await answered(await http.put("/api/capacity", json={"maxAgents": 1}))
    local.step(PutProject(2, "site", content("p", status="paused")))
    assert failing(await why(http)) == ["project-active"]


async def test_how_requests_for_it_ended() -> None:
    local = working("p")
    http = client(local)
    await posted(http, f"{P}/claim")
    (decision,) = (await why(http))["decisions"]
    assert (decision["reason"], decision["claimedBy"], decision["at"]) == ("granted", None, "2026-03-14T09:26:53.589Z")


async def test_a_focus_keeps_it_from_other_work_for_a_while_only() -> None:
    keys = InstanceKeys(focus=Focus.FRONTEND)
    for overflow in (True, False):
        intake = WorkIntake(overflow=overflow)
        local = working(
            phase("p", filesToModify=["docs/index.md"]), configuration=evolve(ALONE, instance=keys, work_intake=intake)
        )
        (affinity,) = [each for each in (await why(client(local)))["conditions"] if each["name"] == "affinity"]
        assert affinity["holds"] is False
        assert ("it takes other work after 3 ticks" in affinity["text"]) is overflow


async def test_what_is_not_there() -> None:
    http = client(working("p"))
    assert (await why(http, "?on=dev-09", 404))["code"] == "not-found"
    for path in ("/api/phases/site/m/q", "/api/phases/site/n/p", "/api/phases/no/m/p"):
        assert (await got(http, path, 404))["code"] == "not-found"
        assert (await posted(http, f"{path}/claim", 404))["code"] == "not-found"
        assert (await posted(http, f"{path}/done", 404))["code"] == "not-found"


async def test_names_with_spaces() -> None:
    http = client(working("a phase & more"))
    assert (await got(http, "/api/phases/site/m/a%20phase%20%26%20more"))["phase"] == "a phase & more"


# Claiming


async def test_a_claim_becomes_a_feature() -> None:
    http = client(working("p"))
    feature = await posted(http, f"{P}/claim")
    assert (feature["phaseSlug"], feature["claimedBy"], feature["generation"]) == ("p", HERE, 1)
    again = await posted(http, f"{P}/claim", 409)
    assert again["code"] == "not-claimable"
    assert "this host" in again["detail"]


async def test_what_cannot_be_claimed_says_why() -> None:
    http = client(working(phase("p", "q"), "q"))
    refused = await posted(http, f"{P}/claim", 409)
    assert (refused["code"], refused["detail"]) == ("not-claimable", "depends on q, which is not done: unclaimed")


async def test_a_worker_without_a_primary_claims_nothing() -> None:
    refused = await posted(client(working("p", configuration=WORKER)), f"{P}/claim", 409)
    assert (refused["code"], refused["detail"]) == ("not-claimable", "it has no primary")


@define
class Asking:
    """An instance that has asked its primary for `site/m/p`, and knows so much of the answer."""

    local: Local
    reason: str = ASKED
    claimed_by: str | None = None

    async def submit(self, request: Request) -> Accepted | Rejected:
        return Accepted("b007-1")

    def snapshot(self) -> Snapshot:
        snapshot = self.local.node.snapshot(self.local.now)
        place = ("site", "m", "p")
        granted = self.reason == "granted"
        decision = DecisionView(place, "b007-1", granted, self.reason, self.claimed_by, START.utc_ms)
        return evolve(snapshot, work=evolve(snapshot.work, decisions={"b007-1": decision}))

    def instance(self) -> Instance:
        return evolve(self.local.instance(), submit=self.submit, snapshot=self.snapshot)


@pytest.mark.parametrize(
    ("reason", "claimed_by", "code", "detail"),
    [
        (ASKED, None, "undecided", "nobody has decided in time"),
        (UNANSWERED, None, "undecided", "nobody has decided in time"),
        ("held", "dev-03", "not-claimable", "held, dev-03 holds it"),
        ("settling", None, "not-claimable", "settling"),
        ("granted", None, "not-claimable", "lost at once"),
    ],
)
async def test_an_answer_that_does_not_come_or_is_no(
    autojump_clock: object, reason: str, claimed_by: str | None, code: str, detail: str
) -> None:
    asking = Asking(working("p", configuration=WORKER), reason, claimed_by)
    refused = await posted(create_app(asking.instance()).test_client(), f"{P}/claim?wait={MAX_WAIT_S}", 409)
    assert refused["code"] == code
    assert detail in refused["detail"]


async def test_how_long_to_wait_is_a_time() -> None:
    assert (await posted(client(working("p")), f"{P}/claim?wait=soon", 422))["code"] == "invalid"


# Settling


async def test_from_progress_to_done() -> None:
    http = client(working("p"))
    await posted(http, f"{P}/claim")
    assert (await posted(http, f"{P}/progress", generation=1, note="half of it"))["note"] == "half of it"
    done = await posted(http, f"{P}/done", generation=1, prUrl="https://git.example/pull/1")
    assert (done["status"], done["prUrl"], done["claimedBy"]) == ("done", "https://git.example/pull/1", HERE)
    assert (await posted(http, f"{P}/claim", 409))["code"] == "not-claimable"
    assert (await got(http, "/api/claims"))["claims"] == []


async def test_an_attempt_that_failed_is_tried_again_after_a_while_and_not_for_ever() -> None:
    local = working("p", configuration=evolve(ALONE, work_intake=WorkIntake(max_attempts=2, retry_backoff_ms=1000)))
    http = client(local)
    await posted(http, f"{P}/claim")
    failed = await posted(http, f"{P}/failed", error="no such table")
    assert (failed["status"], failed["attempts"], failed["lastError"]) == ("unclaimed", 1, "no such table")
    assert failed["retryAt"] == "2026-03-14T09:26:54.589Z"
    later(local, 2)
    await posted(http, f"{P}/claim")
    assert (await posted(http, f"{P}/failed"))["status"] == "failed"
    assert "not-failed" in failing(await why(http))
    assert (await posted(http, f"{P}/retry"))["status"] == "unclaimed"
    assert failing(await why(http)) == ["capacity"]


async def test_released_it_is_free_for_anybody() -> None:
    http = client(working("p"))
    await posted(http, f"{P}/claim")
    released = await posted(http, f"{P}/release", note="lunch")
    assert (released["status"], released["claimedBy"], released["note"]) == ("unclaimed", None, "lunch")
    assert (await posted(http, f"{P}/claim"))["generation"] == 2


async def test_another_generation_is_stale() -> None:
    http = client(working("p"))
    await posted(http, f"{P}/claim")
    refused = await posted(http, f"{P}/done", 409, generation=7)
    assert (refused["code"], refused["detail"]) == ("stale", "it is at generation 1, not 7")


async def test_by_hand_what_nobody_holds() -> None:
    http = client(working("p", phase("q", executionStatus="claimed", claimedBy="dev-07")))
    assert (await posted(http, f"{P}/progress", 409))["code"] == "not-holder"
    assert (await posted(http, f"{P}/done"))["status"] == "done"
    assert (await posted(http, "/api/phases/site/m/q/release"))["status"] == "unclaimed"


@pytest.mark.parametrize(
    "body",
    [
        {"generation": "1"},
        {"generation": -1},
        {"generation": True},
        {"prUrl": 7},
        {"note": "x" * (MAX_TEXT + 1)},
        {"force": "yes"},
        {"pr_url": "https://git.example/pull/1"},
    ],
)
async def test_bodies_that_cannot_be_taken(body: dict[str, Any]) -> None:
    http = client(working("p"))
    assert (await posted(http, f"{P}/done", 422, **body))["code"] == "invalid"
    assert (await why(http))["status"] == "unclaimed"


async def test_a_body_that_is_no_object() -> None:
    response = await client(working("p")).post(f"{P}/done", json=[1])
    assert (await answered(response, 422))["code"] == "invalid"


async def test_all_that_is_said_reaches_the_core() -> None:
    local, asked = working("p"), []

    async def submit(request: Request) -> Accepted | Rejected:
        asked.append(request)
        return Rejected("not-holder", "dev-03 holds it")

    http = create_app(evolve(local.instance(), submit=submit)).test_client()
    said = {"generation": 3, "prUrl": "u", "error": "e", "note": "n", "force": True}
    assert (await posted(http, f"{P}/failed", 409, **said))["code"] == "not-holder"
    told = SettlePhase(0, "site", "m", "p", Outcome.FAILED, 3, pr_url="u", error="e", note="n", is_forced=True)
    assert asked == [told]
