"""`meshd.api.intake`, on a real node: intake on and off, draining, and what was claimed twice."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from meshd.configuration import WorkIntake
from meshd.core.effects import Emit
from meshd.core.settings import SHARED
from tests.api.local import ALONE, START, WORKER, Local
from tests.api.sites import answered, client, got, posted, working


async def put(http: Any, status: int = 200, **body: Any) -> Any:
    return await answered(await http.put("/api/intake", json=body), status)


# Intake


async def test_intake_is_on_unless_somebody_says_otherwise() -> None:
    assert await got(client(working()), "/api/intake") == {
        "instanceId": "dev-01",
        "origin": "default",
        "on": True,
        "claims": True,
        "why": "",
        "maxAgents": 0,
        "free": 0,
        "holding": 0,
        "decides": "",
    }


async def test_off_and_on_again_for_this_host_alone() -> None:
    local = working()
    http = client(local)
    told = await put(http, on=False)
    assert (told["on"], told["claims"], told["origin"]) == (False, False, "local")
    assert told["why"] == "autoMode is false in the local settings"
    assert local.node.snapshot(local.now).settings.of(SHARED).values == {}
    assert (await put(http, on=True))["claims"] is True


async def test_for_the_fleet_on_the_primary_and_nowhere_else() -> None:
    local = working()
    told = await put(client(local), on=False, fleet=True)
    assert (told["on"], told["origin"]) == (False, "shared")
    assert local.node.snapshot(local.now).settings.of(SHARED).values == {"autoMode": False}
    refused = await put(client(Local(WORKER)), 409, on=False, fleet=True)
    assert (refused["code"], refused["primaryId"]) == ("not-primary", None)


async def test_on_is_not_the_same_as_claiming() -> None:
    told = await got(client(Local(WORKER)), "/api/intake")
    assert (told["on"], told["claims"], told["why"]) == (True, False, "it has no primary")
    told = await got(client(working(configuration=evolve(ALONE, work_intake=WorkIntake(enabled=False)))), "/api/intake")
    assert (told["on"], told["why"]) == (False, "workIntake.enabled is false in its configuration")


@pytest.mark.parametrize("body", [{}, {"on": "yes"}, {"on": True, "fleet": 1}, {"on": True, "all": True}])
async def test_what_is_no_switch(body: dict[str, Any]) -> None:
    assert (await put(client(working()), 422, **body))["code"] == "invalid"


# Draining


async def test_draining_keeps_what_is_held_and_takes_nothing_new() -> None:
    local = working("p", "q")
    http = client(local)
    await posted(http, "/api/phases/site/m/p/claim")
    assert await got(http, "/api/drain") == {
        "draining": False,
        "idle": False,
        "held": [{"project": "site", "milestone": "m", "phase": "p", "state": "waiting"}],
    }

    told = await posted(http, "/api/drain", 202)
    assert (told["draining"], told["idle"]) == (True, False)
    refused = await posted(http, "/api/phases/site/m/q/claim", 409)
    assert "draining" in refused["detail"]
    await posted(http, "/api/phases/site/m/p/done")
    assert await got(http, "/api/drain") == {"draining": True, "idle": True, "held": []}
    assert (await got(http, "/api/health/detailed"))["status"] == "draining"

    assert (await answered(await http.delete("/api/drain")))["draining"] is False
    assert (await posted(http, "/api/phases/site/m/q/claim"))["phaseSlug"] == "q"
    assert local.stops == []


async def test_draining_may_give_back_what_is_held_and_end_the_daemon() -> None:
    local = working("p")
    http = client(local)
    await posted(http, "/api/phases/site/m/p/claim")
    assert (await posted(http, "/api/drain", 202, release=True))["idle"] is True
    assert (await got(http, "/api/phases/site/m/p"))["note"] == "the host is draining"
    assert local.stops == []
    await posted(http, "/api/drain", 202, stop=True)
    assert local.stops == ["asked to over the API"]


@pytest.mark.parametrize("body", [{"release": 1}, {"stop": None}, {"instanceId": "dev-02"}])
async def test_what_is_no_drain(body: dict[str, Any]) -> None:
    local = working()
    refused = await posted(client(local), "/api/drain", 422, **body)
    assert (refused["code"], local.stops) == ("invalid", [])
    assert "another host is asked at its own API" in refused["detail"]
    assert (await got(client(local), "/api/drain"))["draining"] is False


# Audits


async def test_what_was_claimed_twice_the_latest_first() -> None:
    local = working()
    http = client(local)
    assert await got(http, "/api/audits") == {"audits": []}
    first = local.events.last_id + 1
    for number, kind in enumerate(("sync:dual-claim", "sync:other", "sync:dual-claim"), first):
        local.events.append(Emit(kind, {"kept": f"dev-{number}"}, number, START.utc_ms))
    assert (await got(http, "/api/audits"))["audits"] == [
        {
            "id": number,
            "type": "sync:dual-claim",
            "timestamp": "2026-03-14T09:26:53.589Z",
            "payload": {"kept": f"dev-{number}"},
        }
        for number in (first + 2, first)
    ]
