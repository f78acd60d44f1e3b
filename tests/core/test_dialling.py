"""Whom an instance dials, and with what pauses."""

from __future__ import annotations

import pytest

from meshd.core.dialling import FIRST_PAUSE_S, LONGEST_PAUSE_S, Dialling
from meshd.core.effects import Dial
from meshd.model import Now
from tests.core.mesh import EPOCH_MS, url_of

ONE, TWO, THREE, FOUR = (url_of(f"dev-0{number}") for number in range(1, 5))
NOW = Now(100.0, EPOCH_MS)


def search(own_url: str | None = THREE, *peers: str) -> Dialling:
    return Dialling(own_url, peers or (ONE, TWO, THREE))


def next_of(dialling: Dialling, last_known: str | None = None, linked: tuple[str, ...] = ()) -> list[Dial]:
    dials = list(dialling.look_on(last_known, linked))
    assert all(isinstance(dial, Dial) for dial in dials)
    return [dial for dial in dials if isinstance(dial, Dial)]


def failed(dialling: Dialling, url: str, last_known: str | None = None) -> list[Dial]:
    """Nobody answered; what is dialled next."""
    assert dialling.done_with(url)
    return next_of(dialling, last_known)


# Whom


def test_peers_are_dialled_in_their_order_and_never_oneself() -> None:
    dialling = search(TWO)
    assert next_of(dialling) + failed(dialling, ONE) == [Dial(ONE), Dial(THREE)]


@pytest.mark.parametrize("peers", [(), (THREE,)])
def test_who_has_no_other_peers_dials_nobody(peers: tuple[str, ...]) -> None:
    dialling = Dialling(THREE, peers)
    assert next_of(dialling) == next_of(dialling) == []


def test_who_has_no_url_of_its_own_dials_all() -> None:
    dialling = search(None, ONE, TWO)
    assert next_of(dialling) + failed(dialling, ONE) == [Dial(ONE), Dial(TWO)]


def test_the_last_known_primary_comes_first_and_once() -> None:
    dialling = search(THREE)
    round_of = next_of(dialling, TWO) + failed(dialling, TWO, TWO)
    assert round_of == [Dial(TWO), Dial(ONE)]
    assert [dial.url for dial in failed(dialling, ONE, TWO)] == [TWO], "the next round"


def test_the_last_known_primary_need_not_be_a_peer() -> None:
    assert next_of(search(THREE), "ws://elsewhere:4444") == [Dial("ws://elsewhere:4444")]


def test_who_is_linked_is_passed_over() -> None:
    dialling = search(THREE)
    assert next_of(dialling, linked=(ONE,)) == [Dial(TWO)]
    assert search(THREE).awaited is None
    assert next_of(search(THREE), linked=(ONE, TWO)) == []


def test_when_all_were_linked_the_next_look_finds_who_no_longer_is() -> None:
    dialling = search(THREE)
    assert next_of(dialling, linked=(ONE, TWO)) == []
    assert [dial.url for dial in next_of(dialling, linked=(ONE,))] == [TWO]


# One at a time


def test_one_dial_at_a_time() -> None:
    dialling = search()
    assert next_of(dialling) == [Dial(ONE)]
    assert next_of(dialling) == []
    assert not dialling.done_with(TWO), "it was another that asked for that one"
    assert next_of(dialling) == []


def test_a_link_is_awaited_until_it_says_who_it_is_or_ends() -> None:
    for ended in ({"url": ONE, "link": 7}, {"link": 7}, {"url": ONE}):
        dialling = search()
        next_of(dialling)
        dialling.linked(7, ONE)
        assert not dialling.done_with(link=8)
        assert next_of(dialling) == []
        assert dialling.done_with(**ended)
        assert next_of(dialling) == [Dial(TWO)]


def test_a_link_that_an_election_dialled_is_not_awaited() -> None:
    dialling = search()
    next_of(dialling)
    dialling.linked(7, TWO)
    assert not dialling.done_with(TWO, 7)
    assert dialling.awaited == ONE


def test_the_end_of_a_link_that_was_left_ends_no_later_dial() -> None:
    """It comes when the next dial is on its way, perhaps to the same peer."""
    dialling = search(TWO, ONE, TWO)
    next_of(dialling)
    dialling.linked(1, ONE)
    assert dialling.done_with(ONE, 1)
    assert [dial.url for dial in next_of(dialling)] == [ONE]
    assert not dialling.done_with(link=1)


def test_nothing_is_done_that_was_not_begun() -> None:
    dialling = search()
    assert not dialling.done_with()
    assert not dialling.done_with(link=1)


# Redirects


def test_who_is_named_is_next() -> None:
    dialling = search(FOUR, ONE, TWO, THREE, FOUR)
    next_of(dialling)
    dialling.redirect(THREE)
    assert failed(dialling, ONE) == [Dial(THREE)]
    assert failed(dialling, THREE) == [Dial(TWO)], "and is not dialled a second time"


def test_a_redirect_may_lead_to_somebody_who_is_no_peer() -> None:
    dialling = search()
    next_of(dialling)
    dialling.redirect("ws://elsewhere:4444")
    assert failed(dialling, ONE) == [Dial("ws://elsewhere:4444")]


@pytest.mark.parametrize("named", [None, "", THREE, ONE])
def test_a_redirect_to_nobody_to_oneself_or_to_who_was_tried_is_not_followed(named: str | None) -> None:
    dialling = search()
    next_of(dialling)
    dialling.redirect(named)
    assert failed(dialling, ONE) == [Dial(TWO)]


def test_who_was_tried_may_be_named_again_in_the_next_round() -> None:
    dialling = search()
    next_of(dialling)
    failed(dialling, ONE)
    assert failed(dialling, TWO) == [Dial(ONE, FIRST_PAUSE_S)]
    dialling.redirect(TWO)
    assert failed(dialling, ONE) == [Dial(TWO)]


# Pauses


def pauses_s(dialling: Dialling, rounds: int) -> list[float]:
    """The pause before each of the next rounds; one is under way."""
    found = []
    for _ in range(rounds):
        assert failed(dialling, ONE) == [Dial(TWO)]
        (dial,) = failed(dialling, TWO)
        assert dial.url == ONE
        found.append(dial.delay_s)
    return found


def test_rounds_are_paused_from_half_a_second_to_five() -> None:
    dialling = search()
    next_of(dialling)
    assert pauses_s(dialling, 8) == [0.5, 1, 2, 4, 5, 5, 5, 5]


def test_after_a_long_contact_the_first_dial_is_at_once() -> None:
    dialling = search()
    next_of(dialling)
    pauses_s(dialling, 8)
    dialling.found(NOW)
    dialling.begin_anew(Now(NOW.mono_s + LONGEST_PAUSE_S, EPOCH_MS))
    assert next_of(dialling) == [Dial(ONE)]
    assert pauses_s(dialling, 2) == [0.5, 1]


def test_after_a_short_contact_the_pauses_go_on_growing() -> None:
    dialling = search()
    next_of(dialling)
    assert pauses_s(dialling, 2) == [0.5, 1]
    dialling.found(NOW)
    dialling.begin_anew(Now(NOW.mono_s + LONGEST_PAUSE_S - 0.1, EPOCH_MS))
    assert next_of(dialling) == [Dial(ONE, 2)]


def test_what_was_found_ends_the_search() -> None:
    dialling = search()
    next_of(dialling)
    dialling.linked(7, ONE)
    dialling.found(NOW)
    assert dialling.awaited is None
    assert not dialling.done_with(ONE, 7)
    assert [dial.url for dial in next_of(dialling, TWO)] == [TWO], "the next search is a new round"
