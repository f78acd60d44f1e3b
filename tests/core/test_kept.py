"""What was kept is given back; `tests/test_store.py` holds the database to the same."""

from __future__ import annotations

from attrs import evolve

from meshd.core import effects
from meshd.core.ballot import MAX_TURNS, Ballot, Proposal, Turn
from meshd.core.documents import Change, Conflict, Document, Kind, Register
from meshd.core.feature import Feature
from meshd.core.kept import Kept
from meshd.core.stored import Stored
from meshd.model import Stamp

LIFE, LATER = Stamp(1, 0, "a"), Stamp(2, 0, "a")
CHANGE = Change("a.s", 1, LIFE, "one", LIFE, Kind.CREATED)


def kept(*records: effects.Record, on: Kept | None = None) -> Kept:
    """What holds these records, after those that were there before."""
    content = on or Kept("s")
    for record in records:
        content.apply(record)
    return content


def test_what_is_new_is_an_empty_store() -> None:
    assert Kept("s").stored() == Stored("s")


def test_registers_are_added_and_a_new_life_replaces_them() -> None:
    first, second = Register(LIFE, 1), Register(LATER, 2)
    content = kept(
        effects.SaveDocument("one", LIFE, None, {"x": first}), effects.SaveDocument("one", LIFE, None, {"y": second})
    )
    assert content.stored().documents["one"].registers == {"x": first, "y": second}
    kept(effects.SaveDocument("one", LATER, None, {"z": second}, replace=True), on=content)
    assert content.stored().documents["one"].registers == {"z": second}
    kept(effects.SaveDocument("one", LATER, LATER, {}), on=content)
    assert content.stored().documents["one"] == Document("one", LATER, {}, ended=LATER)
    kept(effects.ForgetDocument("one"), on=content)
    assert content.stored().documents == {}


def test_the_outbox() -> None:
    content = kept(effects.SaveOutbox(CHANGE))
    assert content.stored().outbox == (CHANGE,)
    assert kept(effects.TrimOutbox(1), on=content).stored().outbox == ()
    assert kept(effects.SaveOutbox(CHANGE), effects.DropOutbox((1,)), on=content).stored().outbox == ()


def test_what_was_promised_about_leadership() -> None:
    ballot, turn = Ballot(3, "a", "b"), Turn(1, 2, 3, "a", "elected")
    proposal = Proposal(3, "one", "m", "x", Stamp(7, 0, "a"), "c", 1, "a", 0, 1_700_000_000_000)
    content = kept(effects.SaveBallot(ballot), effects.SaveLeadership(turn), effects.SaveProposal(proposal))
    stored = content.stored()
    assert (stored.ballot, stored.turns, stored.proposals) == (ballot, (turn,), (proposal,))
    assert kept(effects.DropProposal("one", "m", "x"), on=content).stored().proposals == ()
    kept(effects.SaveLeadership(Turn(MAX_TURNS + 1, 2, 4, "b", "elected")), on=content)
    assert [turn.id for turn in content.stored().turns] == [MAX_TURNS + 1]


def test_features_come_in_the_order_in_which_they_were_claimed() -> None:
    last, first, second = (
        Feature(name, "c", "one", "m", "x", 1, at) for name, at in (("f-a", 9), ("f-c", 5), ("f-b", 5))
    )
    content = kept(*map(effects.SaveFeature, (last, first, second)))
    assert content.stored().features == (second, first, last)
    over = evolve(first, is_held=False, released="drained")
    kept(effects.SaveFeature(over), effects.DropFeature("f-a"), effects.DropFeature("f-z"), on=content)
    assert content.stored().features == (second, over)


def test_a_later_life_goes_on_from_all_of_it() -> None:
    content = kept(
        effects.SaveDocument("one", LIFE, None, {"x": Register(LIFE, 1)}),
        effects.SaveOutbox(CHANGE),
        effects.SaveSeq("a.s", 1),
        effects.SaveSettings("shared", 2, {"k": 1}),
        effects.SaveConflict(Conflict("c", "one", LIFE, "x", LIFE, LATER, 5, 1)),
        effects.SaveEvent(effects.Emit("project:created", {}, 1, 5)),
        effects.SaveBallot(Ballot(3)),
        effects.SaveProposal(Proposal(3, "one", "m", "x", Stamp(7, 0, "a"), "c", 1, "a", None, 5)),
        effects.SaveLeadership(Turn(1, 2, 3, "a", "elected")),
        effects.SaveFeature(Feature("f", "c", "one", "m", "x", 1, 5)),
        effects.SaveStoreId("t"),
    )
    later = Kept.of(content.stored())
    assert later.stored() == content.stored()
    assert later.store_id == "t"


def test_a_picture_once_taken_does_not_change() -> None:
    content = kept(effects.SaveDocument("one", LIFE, None, {"x": Register(LIFE, 1)}), effects.SaveSeq("a.s", 1))
    before = content.stored()
    kept(effects.SaveDocument("one", LIFE, None, {"x": Register(LATER, 2)}), effects.SaveSeq("a.s", 2), on=content)
    assert before.documents["one"].registers == {"x": Register(LIFE, 1)}
    assert before.seqs == {"a.s": 1}
