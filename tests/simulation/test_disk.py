"""A disk gives back what was committed, as a node's store does."""

from __future__ import annotations

from meshd.core import effects
from meshd.core.ballot import Ballot, Proposal, Turn
from meshd.core.documents import Change, Kind, Register
from meshd.core.stored import Stored
from meshd.model import Stamp
from meshd.simulation.disk import Disk

LIFE, LATER = Stamp(1, 0, "a"), Stamp(2, 0, "a")
CHANGE = Change("a.s", 1, LIFE, "one", LIFE, Kind.CREATED)


def test_a_new_disk_is_an_empty_store() -> None:
    assert Disk("s").stored() == Stored("s")


def test_registers_are_added_and_a_new_life_replaces_them() -> None:
    disk = Disk("s")
    first, second = Register(LIFE, 1), Register(LATER, 2)
    disk.commit([effects.SaveDocument("one", LIFE, None, {"x": first})])
    disk.commit([effects.SaveDocument("one", LIFE, None, {"y": second})])
    assert disk.stored().documents["one"].registers == {"x": first, "y": second}
    disk.commit([effects.SaveDocument("one", LATER, None, {"z": second}, replace=True)])
    assert disk.stored().documents["one"].registers == {"z": second}
    disk.commit([effects.SaveDocument("one", LATER, LATER, {}, replace=True)])
    assert disk.stored().documents["one"].ended == LATER
    disk.commit([effects.ForgetDocument("one")])
    assert disk.stored().documents == {}


def test_the_outbox() -> None:
    disk = Disk("s")
    disk.commit([effects.SaveOutbox(CHANGE)])
    assert disk.stored().outbox == (CHANGE,)
    disk.commit([effects.TrimOutbox(1)])
    assert disk.stored().outbox == ()
    disk.commit([effects.SaveOutbox(CHANGE), effects.DropOutbox((1,))])
    assert disk.stored().outbox == ()


def test_what_was_promised_about_leadership() -> None:
    ballot, turn = Ballot(3, "a", "b"), Turn(1, 2, 3, "a", "elected")
    proposal = Proposal(3, "p", "one", "m", "x", "c", 1, "a")
    disk = Disk("s")
    disk.commit([effects.SaveBallot(ballot), effects.SaveLeadership(turn), effects.SaveProposal(proposal)])
    stored = disk.stored()
    assert (stored.ballot, stored.turns, stored.proposals) == (ballot, (turn,), (proposal,))
    disk.commit([effects.DropProposal("one", "m", "x")])
    assert disk.stored().proposals == ()
