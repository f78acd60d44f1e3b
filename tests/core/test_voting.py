"""Whom an instance votes for: each objection, their order, and what is on disk before the answer."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.ballot import Ballot
from meshd.core.effects import Effect, Persist, SaveBallot, Send
from meshd.core.messages import Vote, VoteRequest
from meshd.core.voting import (
    AWAKE,
    FORGOTTEN,
    HEARS_PRIMARY,
    LEADS,
    MAX_TERM,
    NOT_A_VOTER,
    PEERS_MISMATCH,
    STALE_TERM,
    VOTED,
    Voter,
)
from meshd.model import Now
from tests.core.mesh import EPOCH_MS

TTL_S = 120.0
TTL_MS = 120_000
BEGUN_S = 1000.0


def at(mono_s: float) -> Now:
    return Now(mono_s, EPOCH_MS)


LATER = at(BEGUN_S + 10 * TTL_S)


def voter(ballot: Ballot = Ballot(5), *, heard_s: float = -inf, is_voter: bool = True) -> Voter:  # noqa: B008  frozen
    """dev-02, which has run for a long time."""
    return Voter("dev-02", TTL_S, "hash", is_voter, ballot, heard_s=heard_s, begun_s=BEGUN_S)


def request(
    term: int = 6, candidate: str = "dev-03", *, pre: bool = False, peers: str = "hash", transfer: str | None = None
) -> VoteRequest:
    return VoteRequest(term, candidate, 2, pre, peers, transfer)


def answer(who: Voter, what: VoteRequest, now: Now = LATER, *, leads: bool = False) -> tuple[Vote, list[Effect]]:
    *before, last = who.answer(7, what, now, leads=leads)
    assert isinstance(last, Send)
    assert last.link == 7
    assert isinstance(last.message, Vote)
    return last.message, before


# A vote


def test_a_vote_is_on_disk_before_it_is_sent() -> None:
    vote, before = answer(voter(), request())
    assert before == [Persist(SaveBallot(Ballot(6, "dev-03")))]
    assert vote == Vote(6, pre=False, granted=True)


def test_a_vote_said_again_is_the_same_and_nothing_is_saved_twice() -> None:
    who = voter()
    answer(who, request())
    assert answer(who, request()) == (Vote(6, pre=False, granted=True), [])


def test_a_question_asked_first_changes_nothing() -> None:
    who = voter()
    assert answer(who, request(pre=True)) == (Vote(5, pre=True, granted=True), [])
    assert who.ballot == Ballot(5)


def test_a_refusal_changes_nothing_and_says_our_term() -> None:
    who = voter(Ballot(8))
    assert answer(who, request(6)) == (Vote(8, pre=False, granted=False, reason=STALE_TERM), [])


def test_whom_one_followed_stays_on_the_ballot_when_one_votes() -> None:
    """Until the new one is elected, the old one may still count on us."""
    who = voter(Ballot(5, None, "dev-01"), heard_s=LATER.mono_s - TTL_S)
    answer(who, request())
    assert who.ballot == Ballot(6, "dev-03", "dev-01")


# Objections, one by one


@pytest.mark.parametrize(
    ("term", "pre", "granted"), [(4, False, False), (5, False, True), (5, True, False), (6, True, True)]
)
def test_a_term_must_not_be_older_and_for_a_question_it_must_be_newer(term: int, pre: bool, granted: bool) -> None:
    vote, _ = answer(voter(Ballot(5)), request(term, pre=pre))
    assert (vote.granted, vote.reason) == (granted, "" if granted else STALE_TERM)


def test_there_is_one_vote_in_a_term() -> None:
    who = voter(Ballot(6, "dev-01"))
    assert answer(who, request(6))[0].reason == VOTED
    assert answer(who, request(6, "dev-01"))[0].granted
    assert answer(who, request(7))[0].granted


def test_whoever_leads_votes_for_nobody() -> None:
    assert answer(voter(), request(), leads=True)[0].reason == LEADS


def test_other_peers_get_no_vote() -> None:
    assert answer(voter(), request(peers="other"))[0].reason == PEERS_MISMATCH


def test_who_is_no_voter_says_so() -> None:
    assert answer(voter(is_voter=False), request())[0].reason == NOT_A_VOTER


@pytest.mark.parametrize(("age_s", "bound"), [(0.0, True), (TTL_S - 0.001, True), (TTL_S, False)])
def test_a_voter_is_bound_for_the_ttl_after_it_heard_its_primary(age_s: float, bound: bool) -> None:
    who = voter(Ballot(5, None, "dev-01"), heard_s=LATER.mono_s - age_s)
    assert who.is_bound(LATER) is bound
    assert answer(who, request(pre=True))[0].granted is not bound
    assert answer(who, request())[0].reason == (HEARS_PRIMARY if bound else "")


def test_the_primary_itself_may_ask_and_so_may_whom_it_hands_over_to() -> None:
    for what in (request(candidate="dev-01"), request(transfer="dev-01")):
        assert answer(voter(Ballot(5, None, "dev-01"), heard_s=LATER.mono_s), what)[0].granted
    wrong = request(transfer="dev-09")
    assert answer(voter(Ballot(5, None, "dev-01"), heard_s=LATER.mono_s), wrong)[0].reason == HEARS_PRIMARY


def test_a_voter_that_woke_holds_back() -> None:
    who = voter()
    who.forgive(50.0, LATER.mono_s + 30, LATER)
    assert answer(who, request())[0].reason == AWAKE
    assert answer(who, request(pre=True))[0].reason == AWAKE
    assert answer(who, request(), at(LATER.mono_s + 30))[0].granted


def test_the_time_that_one_was_deaf_is_not_the_primarys_silence() -> None:
    who = voter(Ballot(5, None, "dev-01"), heard_s=LATER.mono_s - TTL_S - 50)
    who.forgive(60.0, LATER.mono_s, LATER)
    assert who.heard_s == LATER.mono_s - TTL_S + 10
    who.forgive(10_000.0, LATER.mono_s, LATER)
    assert who.heard_s == LATER.mono_s


def test_who_heard_nobody_has_heard_nobody_after_a_stall_either() -> None:
    who = voter()
    who.forgive(60.0, LATER.mono_s, LATER)
    assert not who.is_bound(LATER)


# After a start


def test_after_a_restart_a_voter_is_bound_to_whom_it_followed() -> None:
    who = voter(Ballot(5, None, "dev-01"))
    who.begin(LATER)
    assert answer(who, request())[0].reason == HEARS_PRIMARY
    assert answer(who, request(candidate="dev-01"))[0].granted
    again = voter(Ballot(5, None, "dev-01"))
    again.begin(LATER)
    assert answer(again, request(), at(LATER.mono_s + TTL_S))[0].granted


def bound_s(who: Voter) -> float:
    """For how long after `LATER` a primary may count on it."""
    return who.bound_until_s - LATER.mono_s


@pytest.mark.parametrize(("before_s", "bound"), [(0.0, TTL_S), (TTL_S / 2, TTL_S), (TTL_S, TTL_S), (200.0, 200.0)])
def test_after_a_restart_the_longer_ttl_counts_that_of_now_or_that_of_the_word(before_s: float, bound: float) -> None:
    who = voter(Ballot(5, None, "dev-01", round(before_s * 1000)))
    who.begin(LATER)
    assert bound_s(who) == bound


def test_the_longer_ttl_of_an_earlier_life_is_owed_however_often_one_restarts_meanwhile() -> None:
    who = voter(Ballot(5, None, "dev-01", 200_000))
    for _ in range(3):
        who.begin(LATER)
        list(who.follow("dev-01", 5, LATER, decides=True))
        assert bound_s(who) == 200.0
        who = voter(who.ballot)


def test_when_the_longer_ttl_has_passed_that_of_now_counts() -> None:
    who = voter(Ballot(5, None, "dev-01", 200_000))
    who.begin(LATER)
    passed = at(LATER.mono_s + 200)
    assert answer(who, request(pre=True), passed)[0].granted
    list(who.follow("dev-01", 5, passed, decides=True))
    assert who.ballot.ttl_ms == TTL_MS


def test_nothing_is_owed_any_more_once_another_was_elected_or_the_old_one_has_gone() -> None:
    who, released = voter(Ballot(5, None, "dev-01", 200_000)), voter(Ballot(5, None, "dev-01", 200_000))
    for each in (who, released):
        each.begin(LATER)
    list(who.follow("dev-03", 6, LATER, decides=True))
    assert (bound_s(who), who.ballot.ttl_ms) == (TTL_S, TTL_MS)
    list(released.release("dev-01"))
    assert not released.is_bound(LATER)


@pytest.mark.parametrize("leader", [None, "dev-02"])
def test_nobody_counts_on_who_followed_nobody_or_led_itself(leader: str | None) -> None:
    who = voter(Ballot(5, None, leader))
    who.begin(LATER)
    assert answer(who, request())[0].granted


def test_a_vote_outlives_a_restart() -> None:
    who = voter(Ballot(6, "dev-01", None))
    who.begin(LATER)
    assert answer(who, request(6))[0].reason == VOTED


def test_a_database_that_is_new_in_an_old_mesh_votes_after_the_ttl() -> None:
    who = voter(Ballot())
    who.begin(LATER)
    assert answer(who, request(6))[0].reason == FORGOTTEN
    assert answer(who, request(2, pre=True))[0].reason == FORGOTTEN
    assert answer(who, request(6), at(LATER.mono_s + TTL_S))[0].granted


def test_a_new_mesh_elects_at_once() -> None:
    who = voter(Ballot())
    who.begin(LATER)
    assert answer(who, request(1))[0].granted


# Order


def test_the_first_of_several_reasons_is_told() -> None:
    """What a person can mend comes first, then what passes, last what the candidate can mend itself."""
    who = voter(Ballot(9, "dev-01", "dev-01"), heard_s=LATER.mono_s, is_voter=False)
    who.awake_s = LATER.mono_s + 1
    told = [answer(who, request(3, peers="other"), leads=True)[0].reason]
    who.is_voter = True
    told.append(answer(who, request(3, peers="other"), leads=True)[0].reason)
    told.append(answer(who, request(3), leads=True)[0].reason)
    told.append(answer(who, request(3))[0].reason)
    who.awake_s = -inf
    told.append(answer(who, request(3))[0].reason)
    who.heard_s = -inf
    told.append(answer(who, request(3))[0].reason)
    told.append(answer(who, request(9))[0].reason)
    assert told == [NOT_A_VOTER, PEERS_MISMATCH, LEADS, AWAKE, HEARS_PRIMARY, STALE_TERM, VOTED]


# Terms


def test_a_later_term_is_learned_without_a_vote_and_an_older_one_is_not() -> None:
    who = voter(Ballot(5, "dev-03", "dev-01"))
    assert list(who.learn(7)) == [Persist(SaveBallot(Ballot(7, None, "dev-01")))]
    assert list(who.learn(6)) == []
    assert list(who.learn(7)) == []


def test_a_term_that_leaves_no_room_is_not_learned() -> None:
    who = voter()
    assert list(who.learn(MAX_TERM + 1)) == []
    assert list(who.learn(MAX_TERM)) != []


def test_a_term_that_leaves_no_room_gets_no_vote_and_no_follower() -> None:
    who = voter()
    answer(who, request(MAX_TERM + 1))
    list(who.follow("dev-03", MAX_TERM + 1, LATER, decides=True))
    assert who.ballot.term <= MAX_TERM


def test_following_in_a_later_term_forgets_the_vote_of_the_earlier_and_in_the_same_term_keeps_it() -> None:
    who = voter(Ballot(5, "dev-03"))
    list(who.follow("dev-03", 5, LATER, decides=True))
    assert who.ballot == Ballot(5, "dev-03", "dev-03", TTL_MS)
    list(who.follow("dev-01", 6, LATER, decides=True))
    assert who.ballot == Ballot(6, None, "dev-01", TTL_MS)


def test_following_one_of_an_older_term_takes_no_term_back() -> None:
    who = voter(Ballot(5, "dev-03"))
    list(who.follow("dev-01", 0, LATER, decides=False))
    assert (who.ballot.term, who.ballot.vote) == (5, "dev-03")


def test_whoever_is_followed_may_count_on_it() -> None:
    who = voter()
    list(who.follow("dev-01", 6, LATER, decides=True))
    assert who.is_bound(LATER)
    assert answer(who, request(7))[0].reason == HEARS_PRIMARY


def test_following_a_hub_does_not_end_what_is_owed_to_who_may_decide() -> None:
    who = voter(Ballot(5, None, "dev-01"), heard_s=LATER.mono_s)
    list(who.follow("dev-03", 0, LATER, decides=False))
    assert answer(who, request(6, "dev-03"))[0].reason == HEARS_PRIMARY


def test_a_goodbye_or_a_step_down_releases() -> None:
    who = voter(Ballot(5, None, "dev-01", TTL_MS), heard_s=LATER.mono_s)
    assert list(who.release("dev-01")) == [Persist(SaveBallot(Ballot(5, None, None)))]
    assert answer(who, request())[0].granted


def test_nobody_releases_from_another() -> None:
    """A hub that steps down, say, which was never elected."""
    who = voter(Ballot(5, None, "dev-01"), heard_s=LATER.mono_s)
    assert list(who.release("dev-02")) == []
    assert answer(who, request())[0].reason == HEARS_PRIMARY


def test_standing_takes_no_term_back() -> None:
    who = voter(Ballot(9))
    list(who.stand(6))
    assert who.ballot.term == 9


ACTIONS = st.one_of(
    st.tuples(st.just("answer"), st.integers(1, 8), st.sampled_from(["dev-01", "dev-03", "dev-04"])),
    st.tuples(st.just("learn"), st.integers(1, 8), st.just("")),
    st.tuples(st.just("follow"), st.integers(0, 8), st.sampled_from(["dev-01", "dev-03"])),
    st.tuples(st.just("stand"), st.just(0), st.just("")),
    st.tuples(st.just("release"), st.just(0), st.just("")),
    st.tuples(st.just("restart"), st.just(0), st.just("")),
    st.tuples(st.just("wait"), st.integers(1, 300), st.just("")),
)


@given(st.lists(ACTIONS, max_size=40))
def test_whatever_happens_no_term_goes_back_and_there_is_one_vote_in_each(actions: list[tuple[str, int, str]]) -> None:
    who, disk, votes, now_s = voter(Ballot()), Ballot(), dict[int, str](), BEGUN_S
    for what, number, name in actions:
        now = at(now_s)
        effects: list[Effect] = []
        match what:
            case "answer":
                effects += who.answer(1, request(number, name), now, leads=False)
            case "learn":
                effects += who.learn(number)
            case "follow":
                effects += who.follow(name, number, now, decides=True)
            case "stand":
                effects += who.stand(who.ballot.term + 1)
            case "release":
                effects += who.release(who.ballot.leader or who.own_id)
            case "restart":
                who = voter(disk)
                who.begin(now)
            case "wait":
                now_s += number
        for effect in effects:
            if isinstance(effect, Persist) and isinstance(effect.record, SaveBallot):
                assert effect.record.ballot.term >= disk.term
                disk = effect.record.ballot
                if disk.vote:
                    assert votes.setdefault(disk.term, disk.vote) == disk.vote
            elif isinstance(effect, Send) and isinstance(effect.message, Vote) and effect.message.granted:
                assert disk.vote == name
        assert who.ballot == disk
