"""Claims of two sides that meet at a hub: reported once, as what they came to."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from meshd.core.claim import Claim, ClaimStatus, register_value
from meshd.core.documents import Change, Kind
from meshd.core.effects import Emit, Note
from meshd.core.inputs import Outcome
from meshd.core.messages import Changes
from meshd.core.node import Node
from meshd.model import Json, Role, Stamp
from tests.core.claims import PATH, SITE, claim
from tests.core.electorate import TTL_S
from tests.core.replicas import NOW, heard, linked, put
from tests.core.workforce import INTAKE, P, Workforce, site

ORIGIN = "dev-01.s1"
OURS = claim(id="a-1", holder="dev-02")
THEIRS = claim(id="b-1", holder="dev-03")
WORKS = evolve(THEIRS, status=ClaimStatus.IN_PROGRESS, feature_id="feature-b")
DONE = evolve(WORKS, status=ClaimStatus.DONE)


def hub(*claims: Claim) -> Node:
    """A primary with a project, which has heard these."""
    node = linked(role=Role.PRIMARY)
    put(node, SITE)
    meet(node, 0, *claims)
    return node


def meet(node: Node, heard_before: int, *claims: Claim) -> list[tuple[Json, ...]]:
    """What is reported when these arrive in one frame: who keeps it, who lost it, its feature, the outcome."""
    life = node.snapshot(NOW).documents["site"].life
    changes = [
        Change(
            ORIGIN, seq, Stamp(NOW.utc_ms + seq, 0, "dev-01"), "site", life, Kind.UPDATED, {PATH: register_value(each)}
        )
        for seq, each in enumerate(claims, heard_before + 1)
    ]
    effects = heard(node, Changes(0, tuple(changes)))
    told = [effect.payload for effect in effects if isinstance(effect, Emit) and effect.type == "sync:dual-claim"]
    lines = [effect for effect in effects if isinstance(effect, Note) and "was claimed by" in effect.text]
    assert len(told) == len(lines)
    return [tuple(each[key] for key in ("kept", "released", "releasedFeature", "outcome")) for each in told]


def test_the_last_word_of_a_frame_is_reported() -> None:
    assert meet(hub(OURS), 1, THEIRS, WORKS) == [("dev-02", "dev-03", "feature-b", "higher-priority-keeps")]
    assert meet(hub(OURS), 1, THEIRS, WORKS, DONE) == [("dev-03", "dev-02", None, "finished-work-stands")]


def test_what_comes_frame_by_frame_is_reported_once_for_each_outcome() -> None:
    ours = evolve(OURS, status=ClaimStatus.DONE)
    node = hub(ours)
    assert meet(node, 1, THEIRS) == [("dev-02", "dev-03", None, "finished-work-stands")]
    assert meet(node, 2, WORKS) == []
    assert meet(node, 3, DONE) == [("dev-02", "dev-03", "feature-b", "done-twice")]


def test_what_is_still_held_is_held_in_a_generation_of_its_own() -> None:
    node = hub(OURS)
    meet(node, 1, THEIRS, WORKS)
    stands = node.snapshot(NOW).documents["site"].registers[PATH].value
    assert stands == register_value(evolve(OURS, generation=2))


def test_claims_of_one_side_are_no_dual_claim() -> None:
    assert meet(hub(OURS), 1, evolve(OURS, status=ClaimStatus.IN_PROGRESS)) == []
    assert meet(hub(OURS), 1, evolve(THEIRS, generation=2)) == []


# Whole meshes


def partitioned(*sides: str) -> Workforce:
    """Each of these hosts, alone on its side, has claimed `p` and works on it; with `continue`."""
    idle = {"dev-01", "dev-02", "dev-03"} - set(sides)
    mesh = Workforce.at_work(intake=evolve(INTAKE, when_partitioned="continue"), without_command=idle)
    mesh.put(mesh.host(1), "site", {**site("p"), "status": "drafting"})
    mesh.settle()
    mesh.split([1], [2], [3])
    mesh.advance(TTL_S)
    for name in sides:
        mesh.patch(mesh.hosts[name], "site", {"status": "active"})
    assert sorted(run.host for run in mesh.runs) == sorted(sides)
    assert {run.feature.generation for run in mesh.runs} == {1}
    return mesh


def reports(mesh: Workforce) -> list[dict[str, Any]]:
    return [dict(event) for host in mesh.hosts.values() for event in host.events("sync:dual-claim")]


def healed(mesh: Workforce) -> dict[str, Any]:
    """The one report that a partition leaves behind."""
    mesh.heal()
    mesh.advance(4 * TTL_S)
    (report,) = reports(mesh)
    return report


@pytest.mark.parametrize("sides", [("dev-01", "dev-02"), ("dev-02", "dev-03"), ("dev-01", "dev-03")])
def test_what_both_sides_claimed_is_released_back_to_backlog_by_the_lower_priority_instance(
    sides: tuple[str, str],
) -> None:
    keeps, gives = sides
    mesh = partitioned(*sides)
    kept, given = mesh.feature(mesh.hosts[keeps]), mesh.feature(mesh.hosts[gives])
    report = healed(mesh)
    assert report == {
        "projectSlug": "site",
        "milestoneSlug": "m",
        "phaseSlug": "p",
        "generation": 1,
        "kept": keeps,
        "keptFeature": kept.id,
        "released": gives,
        "releasedFeature": given.id,
        "outcome": "higher-priority-keeps",
    }
    lines = [note.text for host in mesh.hosts.values() for note in host.notes if "was claimed by" in note.text]
    words = f"released back to backlog by the lower-priority instance, {gives}"
    assert lines == [f"site/m/p was claimed by {keeps} and {gives}: {keeps} keeps it (higher-priority-keeps); {words}"]
    assert mesh.working() == {P: keeps}
    assert mesh.status() == f"{keeps} in_progress 2", "in a generation of its own"
    assert mesh.feature(mesh.hosts[keeps]).generation == 2
    lost = mesh.feature(mesh.hosts[gives])
    assert (lost.id, lost.status, lost.is_held) == (given.id, "backlog", False)
    assert str(lost.released).startswith("released back to backlog by the lower-priority instance")
    mesh.end(P)
    assert mesh.status() == f"{keeps} done 2"


def test_finished_work_stands_whoever_did_it() -> None:
    mesh = partitioned("dev-01", "dev-03")
    (theirs,) = [run for run in mesh.runs if run.host == "dev-03"]
    mesh._ended(theirs, Outcome.DONE, "by itself")
    report = healed(mesh)
    assert (report["kept"], report["released"], report["outcome"]) == ("dev-03", "dev-01", "finished-work-stands")
    assert mesh.status() == "dev-03 done 1"
    assert mesh.working() == {}
    assert mesh.feature(mesh.host(1)).status == "backlog"


def test_what_was_done_twice_is_reported_as_that() -> None:
    mesh = partitioned("dev-01", "dev-03")
    for run in list(mesh.runs):
        mesh._ended(run, Outcome.DONE, "by itself")
    report = healed(mesh)
    assert (report["kept"], report["outcome"]) == ("dev-01", "done-twice")
    assert mesh.status() == "dev-01 done 1"
    kept = [conflict.value for conflict in mesh.snapshot(mesh.host(2)).conflicts]
    late = [each for each in kept if isinstance(each, dict) and each["status"] == "done"]
    assert [each["holder"] for each in late] == ["dev-03"], "nothing that was produced disappears"


def test_three_sides_leave_one_holder() -> None:
    mesh = partitioned("dev-01", "dev-02", "dev-03")
    mesh.heal()
    mesh.advance(4 * TTL_S)
    assert mesh.working() == {P: "dev-01"}
    assert {report["released"] for report in reports(mesh)} == {"dev-02", "dev-03"}
    assert {report["kept"] for report in reports(mesh)} == {"dev-01"}


def test_the_recovery_says_how_many_claims_it_puts_to_the_audit() -> None:
    mesh = partitioned("dev-01", "dev-02")
    healed(mesh)
    (recovered,) = mesh.host(2).events("sync:partition-recovered")
    assert recovered["auditedClaims"] == 1


def test_a_partition_in_which_one_side_alone_claims_leaves_no_report() -> None:
    mesh = partitioned("dev-02")
    mesh.heal()
    mesh.advance(4 * TTL_S)
    assert reports(mesh) == []
    assert mesh.status() == "dev-02 in_progress 1"
    assert len(mesh.runs) == 1


def test_after_a_split_brain_of_two_that_need_no_quorum_one_keeps_what_both_claimed() -> None:
    mesh = Workforce.at_work(2, intake=evolve(INTAKE, when_partitioned="continue"))
    mesh.put(mesh.host(1), "site", {**site("p"), "status": "drafting"})
    mesh.settle()
    mesh.part(mesh.host(1), mesh.host(2))
    mesh.advance(3 * TTL_S)
    assert mesh.primaries() == ["dev-01", "dev-02"]
    for host in mesh.alive():
        mesh.patch(host, "site", {"status": "active"})
    assert len(mesh.runs) == 2
    report = healed(mesh)
    assert (report["kept"], report["released"], report["outcome"]) == ("dev-01", "dev-02", "higher-priority-keeps")
    assert mesh.working() == {P: "dev-01"}
    assert mesh.status() == "dev-01 in_progress 2"
