"""How a try to be elected ends: the verdict as a table, and that nobody is elected without a majority."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.canvass import Canvass, Verdict, gather_s, patience_s
from meshd.core.messages import Vote
from meshd.core.standing import Policy
from meshd.core.voting import HEARS_PRIMARY, VOTED
from meshd.model import Now
from tests.core.mesh import EPOCH_MS

GATHERED_S, OVER_S = 102.0, 115.0
EARLY, GATHERED, OVER = (Now(mono_s, EPOCH_MS) for mono_s in (100.0, GATHERED_S, OVER_S))
YES = Vote(5, pre=True, granted=True)
NO = Vote(5, pre=True, granted=False, reason=VOTED)
HEARS = Vote(5, pre=True, granted=False, reason=HEARS_PRIMARY)


def canvass(
    *answers: Vote | None, pre: bool = True, silent: int = 0, cold: bool = False, yields: bool = True
) -> Canvass:
    """Of five, ourselves at 4; `answers` are those of 0 to 3, None where there is none yet or, the last, ever."""
    votes = {index: vote for index, vote in enumerate(answers) if vote}
    quiet = set(range(4 - silent, 4))
    return Canvass(
        6, pre, frozenset(range(4)), GATHERED_S, OVER_S, is_cold_start=cold, yields=yields, votes=votes, silent=quiet
    )


V = Verdict


@pytest.mark.parametrize(
    ("what", "better", "now", "verdict"),
    [
        # asked first: a majority is enough when all have answered, or some time was given to the better-placed
        (canvass(YES, YES, NO), [], EARLY, V.OPEN),
        (canvass(YES, YES, NO), [], GATHERED, V.AGREED),
        (canvass(YES, YES, NO, NO), [], EARLY, V.AGREED),
        (canvass(YES, YES, silent=2), [], EARLY, V.AGREED),
        (canvass(YES, NO, NO), [], GATHERED, V.OPEN),
        (canvass(YES, NO, NO), [], OVER, V.FAILED),
        (canvass(YES, NO, NO, NO), [], EARLY, V.FAILED),
        (canvass(YES, silent=3), [], EARLY, V.FAILED),
        (canvass(silent=4), [], EARLY, V.FAILED),
        # a better-placed one goes first, when the majority would elect at all
        (canvass(YES, YES, NO), [1], EARLY, V.OPEN),
        (canvass(YES, YES, NO), [1], GATHERED, V.YIELD),
        (canvass(YES, YES, NO), [1], OVER, V.YIELD),
        (canvass(YES, NO, NO, NO), [1], EARLY, V.FAILED),
        (canvass(YES, YES, yields=False), [1], GATHERED, V.AGREED),
        # in earnest: at once
        (canvass(YES, YES, pre=False, yields=False), [1], EARLY, V.ELECTED),
        (canvass(YES, pre=False, yields=False), [], GATHERED, V.OPEN),
        (canvass(YES, pre=False, yields=False), [], OVER, V.FAILED),
        # the configured primary at a cold start
        (canvass(cold=True), [], EARLY, V.OPEN),
        (canvass(cold=True), [], GATHERED, V.HUB),
        (canvass(silent=4, cold=True), [], EARLY, V.HUB),
        (canvass(YES, cold=True, yields=False), [], GATHERED, V.HUB),
        (canvass(HEARS, cold=True), [], GATHERED, V.FAILED),
        (canvass(YES, YES, HEARS, cold=True, yields=False), [], GATHERED, V.AGREED),
    ],
)
def test_the_verdict_of_a_quorum(what: Canvass, better: list[int], now: Now, verdict: Verdict) -> None:
    assert what.verdict(Policy.QUORUM, 2, better, now) is verdict


@pytest.mark.parametrize("policy", [Policy.PRIORITY, Policy.MANUAL])
@pytest.mark.parametrize(
    ("what", "better", "now", "verdict"),
    [
        (canvass(), [], GATHERED, V.OPEN),
        (canvass(), [], OVER, V.ELECTED),
        (canvass(silent=4), [], EARLY, V.ELECTED),
        (canvass(YES, silent=3), [0], EARLY, V.YIELD),
        (canvass(YES, silent=3, yields=False), [0], EARLY, V.ELECTED),
        (canvass(silent=4, cold=True), [], EARLY, V.ELECTED),
        (canvass(HEARS, silent=3, cold=True), [], EARLY, V.FAILED),
        (canvass(HEARS, cold=True), [], GATHERED, V.FAILED),
    ],
)
def test_the_verdict_without_a_quorum(
    policy: Policy, what: Canvass, better: list[int], now: Now, verdict: Verdict
) -> None:
    assert what.verdict(policy, 2, better, now) is verdict


def test_without_a_quorum_nobody_leads_while_an_answer_says_that_somebody_does() -> None:
    assert canvass(HEARS, silent=3).verdict(Policy.PRIORITY, 2, [], EARLY) is Verdict.FAILED


def test_the_earnest_half_of_a_cold_start_waits_for_the_votes() -> None:
    begun = Canvass(6, pre=False, asked=frozenset(range(4)), gather_until_s=100.0, give_up_s=OVER_S, is_cold_start=True)
    assert begun.verdict(Policy.QUORUM, 2, [], EARLY) is Verdict.OPEN


ANSWERS = st.lists(st.sampled_from([YES, NO, HEARS, None]), min_size=4, max_size=4)


@given(
    answers=ANSWERS,
    silent=st.integers(0, 4),
    pre=st.booleans(),
    cold=st.booleans(),
    yields=st.booleans(),
    better=st.lists(st.integers(0, 3)),
    mono_s=st.floats(90, 130),
)
def test_nobody_is_elected_without_a_majority(
    answers: list[Vote | None],
    silent: int,
    pre: bool,
    cold: bool,
    yields: bool,
    better: list[int],
    mono_s: float,
) -> None:
    what = canvass(*answers, pre=pre, silent=silent, cold=cold, yields=yields)
    verdict = what.verdict(Policy.QUORUM, 2, better, Now(mono_s, EPOCH_MS))
    if verdict in (Verdict.ELECTED, Verdict.AGREED, Verdict.YIELD):
        assert 1 + answers.count(YES) >= 3
    if verdict is Verdict.ELECTED:
        assert not pre
    if mono_s >= OVER_S or what.is_complete:
        assert verdict is not Verdict.OPEN


@given(answers=ANSWERS, cold=st.booleans(), mono_s=st.floats(90, 130))
def test_somebody_looks_again_when_the_verdict_may_be_another(
    answers: list[Vote | None], cold: bool, mono_s: float
) -> None:
    """`due_s` is never past while the try goes on: no alarm that rings at once for ever."""
    what = canvass(*answers, cold=cold)
    now = Now(mono_s, EPOCH_MS)
    if what.verdict(Policy.QUORUM, 2, [], now) is Verdict.OPEN:
        assert what.due_s(now) > mono_s


@pytest.mark.parametrize(("ttl_s", "gathers_s", "waits_s"), [(120, 2, 15), (12, 0.6, 3), (3, 0.15, 0.75)])
def test_how_long_is_waited_follows_the_ttl(ttl_s: float, gathers_s: float, waits_s: float) -> None:
    assert gather_s(ttl_s) == pytest.approx(gathers_s)
    assert patience_s(ttl_s) == waits_s
