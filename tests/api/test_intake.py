"""`meshd.api.intake` on a real node: intake on and off, draining, audits."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from meshd.configuration import WorkIntake
from meshd.core.effects import Emit
from meshd.core.inputs import ClaimPhase
from tests.api.local import ALONE, PRIMARY, WORKER, Local
from tests.api.working import PLACE, ask, at_work, refused


async def test_intake_as_it_is() -> None:
    local = await at_work()
    assert await ask(local, "GET", "/api/intake") == (
        200,
        {
            "instanceId": "dev-01",
            "on": True,
            "claims": True,
            "why": "",
            "origin": "default",
            "maxAgents": 0,
            "free": 0,
            "holding": 0,
            "decides": "",
        },
    )


async def test_off_and_on_again_for_this_host() -> None:
    local = await at_work()
    status, off = await ask(local, "PUT", "/api/intake", json={"on": False})
    assert (status, off["on"], off["claims"], off["origin"]) == (200, False, False, "local")
    assert "autoMode" in off["why"]
    assert await ask(local, "GET", "/api/work/next?wait=0") == (204, None)
    assert (await ask(local, "POST", f"{PLACE}/claim"))[0] == 200, "a person may"
    status, on = await ask(local, "PUT", "/api/intake", json={"on": True, "fleet": False})
    assert (on["on"], on["claims"], on["holding"]) == (True, True, 1)


async def test_the_fleet_is_switched_on_its_primary() -> None:
    local = Local(PRIMARY)
    status, off = await ask(local, "PUT", "/api/intake", json={"on": False, "fleet": True})
    assert (status, off["on"], off["origin"]) == (200, False, "shared")
    assert await refused(Local(WORKER), "PUT", "/api/intake", json={"on": False, "fleet": True}) == (409, "not-primary")


async def test_a_host_that_may_not_claim_says_so() -> None:
    local = Local(evolve(ALONE, work_intake=WorkIntake(enabled=False)))
    status, intake = await ask(local, "GET", "/api/intake")
    assert (intake["on"], intake["claims"], intake["why"]) == (
        False,
        False,
        "workIntake.enabled is false in its configuration",
    )
    status, intake = await ask(Local(WORKER), "GET", "/api/intake")
    assert (status, intake["on"], intake["claims"], intake["why"]) == (200, True, False, "it has no primary")
    assert intake["decides"] == "worker"


@pytest.mark.parametrize("body", [{}, {"on": 1}, {"on": None}, {"on": True, "fleet": 1}, {"on": True, "all": True}, []])
async def test_words_about_intake_that_cannot_be(body: Any) -> None:
    assert await refused(Local(), "PUT", "/api/intake", json=body) == (422, "invalid")


# Draining


async def test_a_drain_keeps_what_is_held_and_claims_nothing_new() -> None:
    local = await at_work("p", "q")
    await local.submit(ClaimPhase(0, "site", "m", "p"))
    held = [{"project": "site", "milestone": "m", "phase": "p", "state": "waiting"}]
    assert await ask(local, "GET", "/api/drain") == (200, {"draining": False, "idle": False, "held": held})
    assert await ask(local, "POST", "/api/drain") == (202, {"draining": True, "idle": False, "held": held})
    assert (await ask(local, "GET", "/api/intake"))[1]["why"] == "it is draining"
    assert await refused(local, "POST", "/api/phases/site/m/q/claim") == (409, "not-claimable")
    assert (await ask(local, "POST", f"{PLACE}/done"))[0] == 200
    assert await ask(local, "GET", "/api/drain") == (200, {"draining": True, "idle": True, "held": []})
    assert await ask(local, "DELETE", "/api/drain") == (200, {"draining": False, "idle": True, "held": []})
    assert local.stops == []


async def test_a_drain_gives_back_what_is_held_and_ends_the_daemon_when_told_to() -> None:
    local = await at_work()
    await local.submit(ClaimPhase(0, "site", "m", "p"))
    status, drain = await ask(local, "POST", "/api/drain", json={"release": True, "stop": True})
    assert (status, drain) == (202, {"draining": True, "idle": True, "held": []})
    assert local.stops == ["asked to over the API"]


@pytest.mark.parametrize("body", [{"release": 1}, {"stop": "yes"}, {"timeout": True}, {"instanceId": "x"}, [], None])
async def test_drains_that_cannot_be(body: Any) -> None:
    local = Local()
    assert await refused(local, "POST", "/api/drain", json=body) == (422, "invalid")
    assert (await ask(local, "GET", "/api/drain"))[1]["draining"] is False


# Audits


async def test_audits_are_told_the_latest_first() -> None:
    local = Local()
    assert await ask(local, "GET", "/api/audits") == (200, {"audits": []})
    for number, kind in enumerate(("sync:dual-claim", "feature:created", "sync:dual-claim"), 1):
        local.events.append(Emit(kind, {"phaseSlug": f"p{number}"}, number, local.now.utc_ms))
    audits = (await ask(local, "GET", "/api/audits"))[1]["audits"]
    assert [audit["payload"]["phaseSlug"] for audit in audits] == ["p3", "p1"]
