"""How an instance asks to be elected: whom, in which term, and when again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.ballot import Ballot
from meshd.core.candidacy import Candidacy, Kind
from meshd.core.canvass import gather_s, patience_s
from meshd.core.effects import Dial, Effect, Persist, SaveBallot, Send
from meshd.core.handshake import Handshake, Line
from meshd.core.messages import Vote, VoteRequest, YouGo
from meshd.core.standing import Policy
from meshd.core.voting import Voter
from meshd.model import Now
from tests.core.mesh import EPOCH_MS, configuration, url_of

TTL_S = 120.0
NOW = Now(1000.0, EPOCH_MS)
NAMES = ("dev-01", "dev-02", "dev-03", "dev-04", "dev-05")
PRE = Kind(pre=True, transfer=None, is_cold_start=False, yields=True, leads=False)
EARNEST = Kind(pre=False, transfer=None, is_cold_start=False, yields=False, leads=False)
COLD = Kind(pre=True, transfer=None, is_cold_start=True, yields=True, leads=False)
AGAIN = Kind(pre=True, transfer=None, is_cold_start=False, yields=True, leads=True)


def candidacy(index: int | None = 2, policy: Policy = Policy.QUORUM, *, term: int = 5, voters: int = 5) -> Candidacy:
    urls = tuple(map(url_of, NAMES[:voters]))
    name = "dev-09" if index is None else NAMES[index]
    voter = Voter(name, TTL_S, "hash", is_voter=index is not None, ballot=Ballot(term))
    return Candidacy(urls, index, voter, Handshake(configuration(name, peers=NAMES[:voters]), "b"), policy)


def link(who: Candidacy, index: int, *, eligible: bool = True, closing: bool = False) -> Line:
    """A voter is linked, at a link of ten times its index."""
    number = 10 * (index + 1)
    line = Line(number, "h", None, 0.0, NAMES[index], index=index, is_eligible=eligible, closing=closing)
    who.handshake.lines[number] = line
    return line


def asked(effects: list[Effect]) -> list[int | str]:
    """Links over which, and URLs at which, the question is put."""
    return [
        effect.link if isinstance(effect, Send) else effect.url for effect in effects if isinstance(effect, Send | Dial)
    ]


def yes(term: int = 5, *, pre: bool = True) -> Vote:
    return Vote(term, pre, granted=True)


# Whom


def test_all_other_voters_are_asked_over_a_link_that_is_there_or_one_that_is_dialled() -> None:
    who = candidacy()
    link(who, 0)
    link(who, 3, closing=True)
    assert asked(list(who.ask(PRE, NOW))) == [10, *(url_of(name) for name in ("dev-02", "dev-04", "dev-05"))]


def test_who_comes_late_is_asked_when_its_link_is_there_and_once_it_answered_no_more() -> None:
    who = candidacy()
    list(who.ask(PRE, NOW))
    line = link(who, 0)
    assert asked(list(who.put(line))) == [10]
    assert who.is_answer(line, yes())
    assert asked(list(who.put(line))) == []


def test_nobody_is_asked_who_is_no_voter() -> None:
    who = candidacy()
    list(who.ask(PRE, NOW))
    stranger = Line(99, "h", None, 0.0, "dev-09")
    assert list(who.put(stranger)) == []
    assert not who.is_answer(stranger, yes())


@pytest.mark.parametrize("policy", [Policy.PRIORITY, Policy.MANUAL])
def test_without_a_quorum_only_the_better_placed_are_asked_and_at_a_cold_start_all(policy: Policy) -> None:
    assert asked(list(candidacy(policy=policy).ask(PRE, NOW))) == [url_of("dev-01"), url_of("dev-02")]
    assert len(asked(list(candidacy(policy=policy).ask(COLD, NOW)))) == 4
    assert asked(list(candidacy(policy=policy).ask(EARNEST, NOW))) == []
    assert asked(list(candidacy(policy=policy).ask(AGAIN, NOW))) == []


def test_the_question_says_who_asks_for_what() -> None:
    who = candidacy()
    link(who, 0)
    (question,) = [effect.message for effect in who.ask(PRE, NOW) if isinstance(effect, Send)]
    assert question == VoteRequest(6, "dev-03", 2, pre=True, peers_hash="hash", transfer=None)


def test_asking_first_saves_nothing_and_asking_in_earnest_votes_for_oneself_before_anybody_is_asked() -> None:
    who = candidacy()
    link(who, 0)
    assert not [effect for effect in who.ask(PRE, NOW) if isinstance(effect, Persist)]
    first, *_ = list(who.ask(EARNEST, NOW))
    assert first == Persist(SaveBallot(Ballot(6, "dev-03")))


# Answers


def test_an_answer_to_the_other_question_is_none() -> None:
    who = candidacy()
    line = link(who, 0)
    list(who.ask(PRE, NOW))
    assert not who.is_answer(line, yes(6, pre=False))
    list(who.ask(EARNEST, NOW))
    assert not who.is_answer(line, yes())


def test_a_vote_in_another_term_is_none() -> None:
    who = candidacy()
    line = link(who, 0)
    list(who.ask(EARNEST, NOW))
    assert not who.is_answer(line, yes(5, pre=False))
    assert not who.is_answer(line, yes(7, pre=False))
    assert who.is_answer(line, yes(6, pre=False))


def test_nobody_answers_who_was_not_asked() -> None:
    who = candidacy()
    assert not who.is_answer(link(who, 0), yes())
    assert list(who.lose(0, by_dial=True)) == []
    assert who.better() == []


def test_a_voter_that_cannot_be_reached_is_silent() -> None:
    who = candidacy()
    list(who.ask(PRE, NOW))
    assert who.canvass
    assert list(who.lose(0, by_dial=False)) == []  # a link of its own ended; ours is on its way
    assert who.canvass.silent == set()
    assert list(who.lose(0, by_dial=True)) == []
    assert who.canvass.silent == {0}
    for nobody in (None, 2):  # 2 are we ourselves
        assert list(who.lose(nobody, by_dial=True)) == []
    who.is_answer(link(who, 1), yes())
    assert list(who.lose(1, by_dial=True)) == []
    assert who.canvass.silent == {0}


def test_a_voter_whose_own_link_ends_is_dialled() -> None:
    who = candidacy()
    line = link(who, 1)
    list(who.ask(PRE, NOW))
    who.handshake.closed(line.link)
    assert list(who.lose(1, by_dial=False)) == [Dial(who.voters[1])]
    assert list(who.lose(1, by_dial=False)) == []


# The better-placed


def test_better_placed_is_who_would_vote_stands_before_us_and_may_lead() -> None:
    who = candidacy()
    list(who.ask(PRE, NOW))
    for index, eligible in ((0, False), (1, True), (3, True)):
        who.is_answer(link(who, index, eligible=eligible), yes())
    assert who.better() == [1]


def test_who_would_not_vote_is_not_better_under_quorum_and_is_there_without() -> None:
    for policy, better in ((Policy.QUORUM, []), (Policy.PRIORITY, [0])):
        who = candidacy(policy=policy)
        list(who.ask(PRE, NOW))
        who.is_answer(link(who, 0), Vote(5, pre=True, granted=False, reason="voted-for-another"))
        assert who.better() == better


def test_who_was_told_to_go_and_did_not_is_passed_over_until_somebody_leads() -> None:
    who = candidacy()
    list(who.ask(PRE, NOW))
    line = link(who, 1)
    who.is_answer(line, yes())
    assert list(who.pass_over(1, NOW)) == [Send(20, YouGo(5))]
    assert who.not_before_s == NOW.mono_s + patience_s(TTL_S)
    list(who.ask(PRE, NOW))
    who.is_answer(line, yes())
    assert who.better() == []
    who.settled()
    list(who.ask(PRE, NOW))
    who.is_answer(line, yes())
    assert who.better() == [1]


# Pauses


def test_after_a_try_that_failed_who_stands_later_waits_longer() -> None:
    pauses_s = []
    for index in range(3):
        who = candidacy(index)
        who.failed(NOW)
        pauses_s.append(who.not_before_s - NOW.mono_s)
    assert pauses_s == [patience_s(TTL_S) + index * gather_s(TTL_S) for index in range(3)]


def test_a_pause_is_never_made_shorter() -> None:
    who = candidacy()
    who.not_before_s = NOW.mono_s + 1000
    who.failed(NOW)
    assert who.not_before_s == NOW.mono_s + 1000


# Terms


@pytest.mark.parametrize("policy", [Policy.PRIORITY, Policy.MANUAL])
@given(st.data())
def test_no_two_voters_ever_take_the_same_term_without_votes(policy: Policy, data: st.DataObject) -> None:
    """Whatever terms they know: what is taken tells who took it."""
    voters = data.draw(st.integers(1, 5))
    taken: dict[int, int] = {}
    for _ in range(20):
        index = data.draw(st.integers(0, voters - 1))
        known = data.draw(st.integers(0, 30))
        who = candidacy(index, policy, term=known, voters=voters)
        list(who.ask(EARNEST, NOW))
        assert who.canvass
        term = who.canvass.term
        assert known < term <= known + voters
        assert taken.setdefault(term, index) == index


def test_a_quorum_asks_for_the_next_term() -> None:
    who = candidacy(term=5)
    list(who.ask(PRE, NOW))
    assert who.canvass
    assert who.canvass.term == 6
    assert who.voter.ballot.term == 5
