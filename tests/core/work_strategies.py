"""Hypothesis strategies: all that can be said to work intake, by peers, applications and the engine, true or not."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from meshd.core import inputs, messages
from meshd.core.ballot import Proposal
from meshd.core.inputs import Input, Outcome
from meshd.core.messages import Message
from meshd.model import Json, JsonObject, Stamp

SITE: JsonObject = {
    "title": "Site",
    "status": "active",
    "milestones": [{"slug": "m", "phases": [{"name": "p"}, {"name": "q", "dependencies": ["p"]}, {"name": "r"}]}],
}
PLACES = st.sampled_from([("site", "m", name) for name in ("p", "q", "r", "gone")] + [("none", "m", "p")])
CLAIMS = st.sampled_from(["own-1", "own-2", "own-3", "x-1", "x-2"])
"""Names of requests: of the boots `own` and `x`."""
FEATURES = st.sampled_from(["feature-1-x", "none"])
SMALL = st.integers(0, 3)
TERMS = st.integers(0, 4)

_proposals = st.builds(
    lambda at, term, claim, generation, holder: Proposal(
        term, at[0], at[1], at[2], Stamp(1, 0, "dev-01"), claim, generation, holder, 1, 1_000
    ),
    *(PLACES, TERMS, CLAIMS, SMALL, st.sampled_from(["dev-02", "dev-03"])),
)
_patches: SearchStrategy[Json] = st.sampled_from([{"title": "T"}, {"status": "done"}, {"x": None}, "no object"])

WORK_MESSAGES: SearchStrategy[Message] = st.one_of(
    st.builds(
        lambda claim, at, generation: messages.ClaimRequest(claim, at[0], at[1], at[2], generation),
        CLAIMS,
        PLACES,
        SMALL,
    ),
    st.builds(messages.Decision, CLAIMS, st.booleans(), st.sampled_from(["granted", "held"]), SMALL),
    st.builds(messages.Propose, TERMS, _proposals),
    st.builds(messages.ProposalStored, TERMS, CLAIMS, st.booleans()),
    st.builds(
        messages.Leases,
        *(TERMS, SMALL, st.lists(CLAIMS, max_size=2).map(tuple)),
        st.dictionaries(CLAIMS, st.just("unknown"), max_size=2),
    ),
    st.builds(messages.Compared, TERMS, st.lists(_proposals, max_size=2).map(tuple)),
)

_of_phase = st.builds(
    lambda at, outcome, generation, forced: inputs.SettlePhase(
        1, at[0], at[1], at[2], outcome, generation, is_forced=forced
    ),
    *(PLACES, st.sampled_from(Outcome), st.none() | SMALL, st.booleans()),
)
WORK_INPUTS: SearchStrategy[Input] = st.one_of(
    st.just(inputs.PutProject(1, "site", SITE)),
    st.just(inputs.IntakeDue()),
    st.builds(inputs.WorkWanted, SMALL),
    st.builds(inputs.WorkEnded, CLAIMS, st.sampled_from([Outcome.DONE, Outcome.FAILED, Outcome.RELEASED])),
    st.builds(lambda place: inputs.ClaimPhase(1, *place), PLACES),
    _of_phase,
    st.just(inputs.TakeWork(1)),
    st.builds(inputs.PatchFeature, st.just(1), FEATURES, _patches),
    st.builds(inputs.SetCapacity, st.just(1), st.none() | SMALL),
    st.builds(inputs.SetDraining, st.just(1), st.booleans(), st.booleans()),
)
