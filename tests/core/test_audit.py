"""Claims of two sides that meet at a hub: reported once, as what they came to."""

from __future__ import annotations

from attrs import evolve

from meshd.core.claim import Claim, ClaimStatus, register_value
from meshd.core.documents import Change, Kind
from meshd.core.effects import Emit, Note
from meshd.core.messages import Changes
from meshd.core.node import Node
from meshd.model import Json, Role, Stamp
from tests.core.claims import PATH, SITE, claim
from tests.core.replicas import NOW, heard, linked, put

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
