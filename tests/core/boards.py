"""Boards with projects, for the tests of work intake."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from meshd.core.board import Board
from meshd.core.claim import Claim, ClaimStatus, register_value
from meshd.core.documents import Change, Document, Kind, Register, fragment, merge
from meshd.core.phases import Phase
from meshd.model import Json, JsonObject, Stamp
from meshd.project import element_path, flatten

LIFE = Stamp(1, 0, "dev-01")
CLAIM = Claim(1, "boot-1", "dev-02", 1, ClaimStatus.CLAIMED, 1_000)


def phase(name: str, *dependencies: str, **fields: Json) -> JsonObject:
    """A phase as a person writes it."""
    return {"name": name, **({"dependencies": list(dependencies)} if dependencies else {}), **fields}


def milestone(slug: str, *phases: JsonObject, after: tuple[str, ...] = (), **fields: Json) -> JsonObject:
    return {"slug": slug, "dependencies": list(after), "phases": list(phases), **fields}


def project(*milestones: JsonObject, **fields: Json) -> JsonObject:
    return {"title": "Site", "status": "active", "milestones": list(milestones), **fields}


def document(content: JsonObject, slug: str = "site", life: Stamp = LIFE) -> Document:
    return fragment(Change("dev-01.s1", 1, life, slug, life, Kind.CREATED, flatten(content)))


def claimed(state: Document, milestone: str, name: str, claim: Claim | None = None, **fields: Any) -> Document:
    """The document after a claim was written: `CLAIM` with these fields."""
    path = f"{element_path(milestone, name)}/@claim"
    stamp = Stamp(max(register.stamp.utc_ms for register in state.registers.values()) + 1, 0, "dev-02")
    value = register_value(claim or evolve(CLAIM, **fields))
    return Document(state.slug, state.life, {**state.registers, path: Register(stamp, value)})


def written(state: Document, fields: JsonObject, removed: tuple[str, ...] = ()) -> Document:
    """The document after these registers were set and those removed, later than all before."""
    stamp = Stamp(max(register.stamp.utc_ms for register in state.registers.values()) + 1, 0, "dev-03")
    return merge(state, fragment(Change("x.s", 1, stamp, state.slug, state.life, Kind.UPDATED, fields, removed)))


def board(*states: Document) -> Board:
    made = Board()
    for state in states:
        made.update(state, state.slug)
    return made


def one(state: Document | JsonObject, name: str = "p", milestone: str = "m1") -> tuple[Board, Phase]:
    """A board with one project, and one phase of it."""
    made = board(state if isinstance(state, Document) else document(state))
    found = made.phase(("site", milestone, name))
    assert found is not None
    return made, found
