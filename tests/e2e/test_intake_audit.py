"""Two sides of a partition take the same phase, and the audit settles it.

The outcome is the specification's: "released back to backlog by the lower-priority instance (higher index)", and "the
higher-priority instance retains ownership".
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.e2e.executions import agents, executions, phases_of
from tests.e2e.fleet import Instance, Sections, all_are_equal, are_led_by, fleet, until
from tests.e2e.test_intake_faults import FOR_EVER_S, HEARTBEAT_MS, TTL_MS, has_begun, project, put
from tests.e2e.test_partition import cut_off, reunite

PLACE = "alpha/only/contested"


def feature_of(instance: Instance) -> dict[str, Any]:
    """The one feature that it has."""
    (file,) = instance.repo_root.glob(".automaker/features/*/feature.json")
    feature: dict[str, Any] = json.loads(file.read_text())
    return feature


async def test_claimed_on_both_sides_of_a_partition(tmp_path: Path) -> None:
    file = tmp_path / "executions"
    keys: Sections = {
        "agents": agents(file, FOR_EVER_S),
        "workIntake": {"whenPartitioned": "continue", "tickIntervalMs": 500},
    }
    times = partial(fleet, heartbeat_ms=HEARTBEAT_MS, ttl_ms=TTL_MS, failback="manual", is_proxied=True)
    async with times(tmp_path, sections=keys) as instances:
        primary, worker, other = instances
        await until(partial(are_led_by, instances, primary), 10)
        await other.kill()  # nobody has a majority then
        await put(primary, "alpha", project("contested", status="drafting"))
        await all_are_equal([primary, worker])
        cut_off(instances, worker)
        cut_off(instances, primary)
        for instance in (primary, worker):
            await until(partial(does_not_decide, instance), 10)
            patched = await instance.client.patch("/api/projects/alpha", json={"status": "active"})
            assert patched.status_code == 200
        await until(partial(has_begun, file, 2), 10)
        assert {each.instance for each in executions(file)} == {"dev-01", "dev-02"}
        kept, released = feature_of(primary)["id"], feature_of(worker)["id"]

        reunite(instances)
        await until(partial(was_audited, instances), 20)
        documents = await all_are_equal([primary, worker])
        phase = phases_of("alpha", documents["alpha"])[PLACE]
        shown = {key: phase.get(key) for key in ("claimedBy", "executionStatus", "featureId", "generation")}
        assert shown == {"claimedBy": "dev-01", "executionStatus": "in_progress", "featureId": kept, "generation": 2}
        assert phase.get("provisional") is None

        await until(partial(is_released, worker), 10)
        assert (feature_of(worker)["status"], feature_of(worker)["released"]) == ("backlog", True)
        await trio.sleep(3 * HEARTBEAT_MS / 1000)
        ended, works = sorted(executions(file), key=lambda each: each.end_s)
        assert (ended.instance, works.instance) == ("dev-02", "dev-01")
        assert works.end_s - ended.end_s > HEARTBEAT_MS / 1000
        assert feature_of(primary)["status"] == "in_progress"
        assert len(executions(file)) == 2
        audits = [audit for instance in (primary, worker) for audit in (await instance.get("/api/audits"))["audits"]]
        (audit,) = audits
        assert (audit["payload"]["keptFeature"], audit["payload"]["releasedFeature"]) == (kept, released)


async def does_not_decide(instance: Instance) -> bool:
    health = await instance.sync()
    return health["authoritative"] is not True


async def is_released(instance: Instance) -> bool:
    await trio.lowlevel.checkpoint()
    return bool(feature_of(instance)["status"] == "backlog")


async def was_audited(instances: list[Instance]) -> bool:
    """Whether the one that saw both claims has told so, by an event and in its log."""
    for instance in instances[:2]:
        found = (await instance.get("/api/events?stream=0&types=sync:dual-claim"))["events"]
        if not found:
            continue
        (event,) = found
        told = {"phaseSlug": "contested", "generation": 1, "kept": "dev-01", "released": "dev-02"}
        assert event["payload"].items() >= {**told, "outcome": "higher-priority-keeps"}.items()
        line = f"{PLACE} was claimed by dev-01 and dev-02: dev-01 keeps it (higher-priority-keeps)"
        assert instance.log.count(line) == 1
        return True
    return False
