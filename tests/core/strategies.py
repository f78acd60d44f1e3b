"""Hypothesis strategies: JSON, project documents, stamps, changes, and states of documents that hosts could hold."""

from __future__ import annotations

from functools import partial
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from meshd.core.claim import Claim, ClaimStatus, register_value
from meshd.core.documents import Change, Document, Kind, Register
from meshd.model import Json, JsonObject, Stamp

_T = TypeVar("_T")

HOSTS = ("dev-01", "dev-02", "dev.03")

scalars: SearchStrategy[Json] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.0, 2.5]),
    st.text("ab/~é", max_size=3),
)
values: SearchStrategy[Json] = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text("ab", max_size=2), inner, max_size=3)),
    max_leaves=4,
)
"""Any JSON value, small, and rich in values that are nearly equal."""

names = st.sampled_from(["m1", "m2", "m3", "a~1b", "~0", "milestones", "phases", "é è", "-"])
"""Names of milestones and phases; few, so that they meet."""

keys = st.sampled_from(["title", "goal", "status", "a/b", "~", "~1", "x~0y", "é", "name", "slug2", "", "number"])
"""Keys of fields, with everything that has to be escaped."""


def _named(key: str, name: str, rest: JsonObject) -> JsonObject:
    return {**rest, key: name}


def _keyed(key: str, fields: SearchStrategy[JsonObject]) -> SearchStrategy[Json]:
    def named(element_names: list[str]) -> SearchStrategy[Json]:
        return st.tuples(*(fields.map(partial(_named, key, name)) for name in element_names)).map(list)

    return st.lists(names, unique=True, max_size=4).flatmap(named)


_phases = _keyed("name", st.dictionaries(keys.filter(lambda key: key != "name"), values, max_size=3))
_milestones = _keyed(
    "slug",
    st.builds(
        lambda fields, phases: {**fields, **({} if phases is None else {"phases": phases})},
        st.dictionaries(keys, values, max_size=3),
        st.one_of(st.none(), _phases, st.just("none yet")),
    ),
)
projects: SearchStrategy[JsonObject] = st.builds(
    lambda fields, milestones: {"slug": "site", **fields, **({} if milestones is None else {"milestones": milestones})},
    st.dictionaries(keys, values, max_size=4),
    st.one_of(st.none(), _milestones, st.just({"not": "a list"})),
)
"""Project documents with the slug `site`, as people and programs write them; every one of them can be keyed."""

stamps = st.builds(Stamp, st.integers(1, 4), st.integers(0, 2), st.sampled_from(HOSTS))
"""Few enough to meet, equal ones included."""

claims = st.builds(
    Claim,
    st.integers(0, 2),
    st.sampled_from(["a-1", "b-1", ""]),
    st.sampled_from(HOSTS),
    st.one_of(st.none(), st.integers(0, 2)),
    st.sampled_from(ClaimStatus),
    st.just(1),
    note=st.one_of(st.none(), st.sampled_from("ab")),
    retry_ms=st.one_of(st.none(), st.just(5)),
)
_broken_claims = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["done", "claimed", "unknown", 1]),
        "claim": st.just("a-1"),
        "holder": st.just("dev-01"),
    },
    optional={"generation": st.sampled_from([1, True, -1, "1", 2**60]), "priority": scalars},
)
claim_values: SearchStrategy[Json] = st.one_of(claims.map(register_value), _broken_claims, scalars)
"""What a phase's claim register may hold, of a broken peer too; few, so that all but one thing are often equal."""

CLAIM_PATH = "milestones/m1/phases/p/@claim"

paths = st.sampled_from(
    [
        *("title", "milestones", "milestones/m1", "milestones/m1/title", "milestones/m1/phases"),
        *("milestones/m1/phases/p", "milestones/m1/phases/@claim", "milestones/m1/@claim", CLAIM_PATH),
    ]
)


def _registers(values: SearchStrategy[Json]) -> SearchStrategy[Register]:
    return st.one_of(
        st.builds(Register, stamps, values),
        st.builds(lambda stamp: Register(stamp, gone=True), stamps),
    )


registers = _registers(values)
claim_registers = _registers(claim_values)


def _with_claim(fields: SearchStrategy[dict[str, _T]], claim: SearchStrategy[_T]) -> SearchStrategy[dict[str, _T]]:
    return st.builds(lambda there, value: {**there, CLAIM_PATH: value} if CLAIM_PATH in there else there, fields, claim)


documents: SearchStrategy[Document] = st.one_of(
    st.builds(
        lambda life, regs: Document("site", life, regs),
        stamps,
        _with_claim(st.dictionaries(paths, registers, max_size=5), claim_registers),
    ),
    st.builds(lambda life, ended: Document("site", life, {}, ended), stamps, stamps),
)
"""States of one document: of few lives, living and ended, with registers of equal stamps and different values."""

changes: SearchStrategy[Change] = st.one_of(
    st.builds(
        lambda stamp, fields: Change("dev-01.s1", 1, stamp, "site", stamp, Kind.CREATED, fields),
        stamps,
        _with_claim(st.dictionaries(paths, values, max_size=4), claim_values),
    ),
    st.builds(
        lambda stamp, life, fields, removed: Change(
            "dev-01.s1", 1, stamp, "site", life, Kind.UPDATED, fields, tuple(removed - fields.keys())
        ),
        stamps,
        stamps,
        _with_claim(st.dictionaries(paths, values, max_size=4), claim_values),
        st.frozensets(paths, max_size=3),
    ),
    st.builds(lambda stamp, life: Change("dev-01.s1", 1, stamp, "site", life, Kind.DELETED), stamps, stamps),
)
