"""`/api/leadership`: who leads and why, and asking for another leader."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, evolve, field

from meshd.api.app import create_app
from meshd.api.instance import Instance
from meshd.configuration import Configuration
from meshd.core.ballot import Turn
from meshd.core.effects import Accepted, Rejected
from meshd.core.inputs import PromoteInstance, Request, StepDown
from meshd.core.snapshot import FailoverView, LeadershipView, VoterView
from meshd.model import Status
from tests.api.local import ALONE, PEERS, PRIMARY, START, WORKER, Local


def voter(
    index: int,
    instance_id: str | None,
    status: Status | None,
    *,
    eligible: bool = True,
    in_sync: bool | None = None,
    contact_age_s: float | None = None,
    is_self: bool = False,
) -> VoterView:
    return VoterView(index, PEERS[index], instance_id, status, eligible, in_sync, contact_age_s, is_self)


WORKING = LeadershipView(
    policy="quorum",
    failback="auto",
    term=7,
    leads=None,
    authoritative=False,
    standing="worker",
    since_ms=START.utc_ms,
    cause="dev-03 said goodbye",
    why_not="dev-01 leads",
    majority=2,
    voters=(
        voter(0, "dev-01", Status.SUSPECT, in_sync=True, contact_age_s=1.25),
        voter(1, "dev-02", Status.ALIVE, is_self=True),
        voter(2, None, None, eligible=False),
    ),
    failover=FailoverView(possible=False, winner=None, missing=("1 of 2 voters",)),
    turns=(Turn(4, START.utc_ms - 1000, 6, None, "nobody was heard"), Turn(5, START.utc_ms, 7, "dev-01", "elected")),
)

BEGUN = Accepted("")

LEADING = evolve(WORKING, leads=7, authoritative=True, standing="primary", why_not="")


@define
class Asked:
    """What was asked of an instance whose answers and leadership are given."""

    configuration: Configuration
    view: LeadershipView
    outcome: Accepted | Rejected
    requests: list[Request] = field(factory=list)

    async def submit(self, request: Request) -> Accepted | Rejected:
        self.requests.append(request)
        return self.outcome

    def instance(self) -> Instance:
        local = Local(self.configuration)
        snapshot = evolve(local.node.snapshot(local.now), leadership=self.view)
        return evolve(local.instance(), snapshot=lambda: snapshot, submit=self.submit)


async def test_all_of_it() -> None:
    response = await create_app(Asked(WORKER, WORKING, BEGUN).instance()).test_client().get("/api/leadership")
    assert response.status_code == 200
    assert await response.get_json() == {
        "instanceId": "dev-02",
        "role": "worker",
        "standing": "worker",
        "primaryId": None,
        "primaryUrl": None,
        "since": "2026-03-14T09:26:53.589Z",
        "term": 7,
        "cause": "dev-03 said goodbye",
        "leads": None,
        "authoritative": None,
        "whyNot": "dev-01 leads",
        "policy": "quorum",
        "failback": "auto",
        "majority": 2,
        "voters": [
            {
                "index": 0,
                "url": PEERS[0],
                "instanceId": "dev-01",
                "status": "online",
                "state": "suspect",
                "eligible": True,
                "inSync": True,
                "contactAgeMs": 1250,
                "isSelf": False,
                "agrees": True,
            },
            {
                "index": 1,
                "url": PEERS[1],
                "instanceId": "dev-02",
                "status": "online",
                "state": "alive",
                "eligible": True,
                "inSync": None,
                "contactAgeMs": None,
                "isSelf": True,
                "agrees": True,
            },
            {
                "index": 2,
                "url": PEERS[2],
                "instanceId": None,
                "status": None,
                "state": None,
                "eligible": False,
                "inSync": None,
                "contactAgeMs": None,
                "isSelf": False,
                "agrees": True,
            },
        ],
        "failover": {"possible": False, "winner": None, "missing": ["1 of 2 voters"]},
        "history": [
            {
                "id": 4,
                "time": "2026-03-14T09:26:52.589Z",
                "term": 6,
                "leader": None,
                "cause": "nobody was heard",
            },
            {"id": 5, "time": "2026-03-14T09:26:53.589Z", "term": 7, "leader": "dev-01", "cause": "elected"},
        ],
    }


@pytest.mark.parametrize("authoritative", [True, False])
async def test_only_a_primary_has_authority_or_lacks_it(authoritative: bool) -> None:
    app = create_app(Asked(PRIMARY, evolve(LEADING, authoritative=authoritative), BEGUN).instance())
    for path in ("/api/leadership", "/api/hivemind/status", "/api/hivemind/self"):
        body = await (await app.test_client().get(path)).get_json()
        assert body["authoritative"] is authoritative, path


@pytest.mark.parametrize("configuration", [ALONE, PRIMARY, WORKER])
async def test_every_kind_of_instance_tells(configuration: Configuration) -> None:
    local = Local(configuration)
    body = await (await create_app(local.instance()).test_client().get("/api/leadership")).get_json()
    snapshot = local.node.snapshot(local.now)
    assert (body["role"], body["term"]) == (snapshot.role, snapshot.term)
    assert len(body["voters"]) == len(snapshot.leadership.voters)


@pytest.mark.parametrize(
    ("body", "named"),
    [({"instanceId": "dev-02"}, "dev-02"), ({"instanceId": None}, None), ({}, None), (None, None)],
)
async def test_promote_asks_for_the_instance_that_is_named_or_for_this_one(body: object, named: str | None) -> None:
    asked = Asked(PRIMARY, LEADING, BEGUN)
    client = create_app(asked.instance()).test_client()
    response = await client.post("/api/leadership/promote", **({} if body is None else {"json": body}))
    assert asked.requests == [PromoteInstance(0, named)]
    assert response.status_code == 202
    assert await response.get_json() == {"instanceId": named or "dev-01"}


@pytest.mark.parametrize("body", ["dev-02", ["dev-02"], {"instanceId": 2}, {"instanceId": ""}])
async def test_promote_takes_nothing_else(body: object) -> None:
    asked = Asked(PRIMARY, LEADING, BEGUN)
    response = await create_app(asked.instance()).test_client().post("/api/leadership/promote", json=body)
    assert (response.status_code, (await response.get_json())["code"]) == (422, "invalid")
    assert asked.requests == []


async def test_a_body_that_is_no_json_is_refused() -> None:
    client = create_app(Asked(PRIMARY, LEADING, BEGUN).instance()).test_client()
    response = await client.post("/api/leadership/promote", data=b"dev-02")
    assert (response.status_code, (await response.get_json())["code"]) == (400, "invalid-json")


async def test_step_down() -> None:
    asked = Asked(PRIMARY, LEADING, BEGUN)
    response = await create_app(asked.instance()).test_client().post("/api/leadership/step-down")
    assert asked.requests == [StepDown(0)]
    assert response.status_code == 202
    assert await response.get_json() == {"instanceId": "dev-01"}


@pytest.mark.parametrize("path", ["promote", "step-down"])
@pytest.mark.parametrize(
    ("code", "status", "more"),
    [
        ("not-primary", 409, {"primaryId", "primaryUrl"}),
        ("no-successor", 409, set[str]()),
        ("not-found", 404, set[str]()),
        ("invalid", 422, set[str]()),
    ],
)
async def test_refusals(path: str, code: str, status: int, more: set[str]) -> None:
    asked = Asked(WORKER, WORKING, Rejected(code, "it cannot be"))
    response = await create_app(asked.instance()).test_client().post(f"/api/leadership/{path}")
    body: Any = await response.get_json()
    assert response.content_type == "application/problem+json"
    assert (response.status_code, body["code"], body["detail"]) == (status, code, "it cannot be")
    assert body.keys() - {"type", "title", "status", "code", "detail"} == more


async def test_a_page_of_another_site_may_not_ask() -> None:
    asked = Asked(PRIMARY, LEADING, BEGUN)
    headers = {"Origin": "https://elsewhere.example", "Host": "localhost:3008"}
    response = await create_app(asked.instance()).test_client().post("/api/leadership/step-down", headers=headers)
    assert response.status_code == 403
    assert asked.requests == []
