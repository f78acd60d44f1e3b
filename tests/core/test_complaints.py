"""What peers sent that was refused: counted, and said once."""

from __future__ import annotations

from meshd.core.complaints import MAX_TOLD, Complaints
from meshd.core.effects import Level, Note


def test_each_reason_is_counted() -> None:
    complaints = Complaints()
    for reason in ("malformed", "malformed", "unknown-type"):
        complaints.count(reason)
    assert complaints.dropped == {"malformed": 2, "unknown-type": 1}


def test_what_repeats_is_said_aloud_once() -> None:
    complaints = Complaints()
    said = [effect for _ in range(3) for effect in complaints.once("malformed", "dev-02", "no message")]
    aloud, *again = [Note(level, "no message", {"peer": "dev-02"}) for level in (Level.WARNING, *[Level.DEBUG] * 2)]
    assert said == [aloud, *again]


def test_another_peer_and_another_kind_are_said_aloud_too() -> None:
    complaints = Complaints()
    for kind, peer in (("malformed", "dev-02"), ("malformed", "dev-03"), ("refused", "dev-02")):
        (note,) = complaints.once(kind, peer, "text")
        assert isinstance(note, Note)
        assert note.level is Level.WARNING


def test_no_peer_can_make_it_remember_without_bound() -> None:
    complaints = Complaints()
    for number in range(MAX_TOLD + 5):
        list(complaints.once("unreachable", f"ws://h:{number}", "text"))
    assert len(complaints._told) == MAX_TOLD
