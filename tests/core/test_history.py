"""The leadership history: rows, events and log lines, and their bound."""

from __future__ import annotations

from meshd.core.ballot import MAX_TURNS, Turn
from meshd.core.effects import Emit, Level, Note, Persist, SaveLeadership
from meshd.core.history import History
from meshd.model import Now

NOW = Now(1.0, 1_800_000_000_000)


def test_a_turn_is_on_disk_before_it_is_told() -> None:
    history = History()
    assert list(history.turned(3, "dev-02", "it was elected", NOW)) == [
        Persist(SaveLeadership(Turn(1, NOW.utc_ms, 3, "dev-02", "it was elected"))),
        Note(Level.INFO, "dev-02 leads in term 3: it was elected", {"term": 3}),
        Emit("sync:leadership-changed", {"leader": "dev-02", "term": 3, "cause": "it was elected"}),
    ]


def test_nobody_leads_is_a_turn_as_well() -> None:
    history = History()
    effects = list(history.turned(3, None, "dev-01 said goodbye", NOW))
    assert Note(Level.INFO, "nobody leads in term 3: dev-01 said goodbye", {"term": 3}) in effects
    assert history.leader is None


def test_the_last_turn_says_who_leads_and_why() -> None:
    history = History()
    assert (history.leader, history.cause) == (None, "it has just started")
    for name in ("dev-01", "dev-02"):
        list(history.turned(1, name, f"because of {name}", NOW))
    assert (history.leader, history.cause) == ("dev-02", "because of dev-02")


def test_ids_go_on_after_a_restart_and_the_oldest_go() -> None:
    history = History([Turn(number, 0, 1, "dev-01", "x") for number in range(41, 41 + MAX_TURNS)])
    list(history.turned(9, "dev-02", "y", NOW))
    assert len(history.turns) == MAX_TURNS
    assert (history.turns[0].id, history.turns[-1].id) == (42, 41 + MAX_TURNS)
