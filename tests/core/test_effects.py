"""Effects: what the engine has to be able to do."""

from __future__ import annotations

import logging
from typing import get_args

import pytest
from attrs.exceptions import FrozenInstanceError

from meshd.core.documents import Document, Register
from meshd.core.effects import (
    DropConflict,
    DropFeature,
    DropOutbox,
    DropProposal,
    Effect,
    ForgetDocument,
    Level,
    Note,
    Persist,
    Record,
    SaveBallot,
    SaveConflict,
    SaveDocument,
    SaveEvent,
    SaveFeature,
    SaveLeadership,
    SaveOutbox,
    SaveProposal,
    SaveSeq,
    SaveSettings,
    SaveStoreId,
    TrimEvents,
    TrimOutbox,
)
from meshd.model import Stamp
from tests.core.mesh import Disk

LIFE = Stamp(1, 0, "dev-01")


def test_levels_are_those_of_the_standard_library() -> None:
    assert {level.name: level.value for level in Level} == {
        name: getattr(logging, name) for name in ("DEBUG", "INFO", "WARNING", "ERROR")
    }


def test_an_effect_does_not_change() -> None:
    note = Note(Level.INFO, "text")
    with pytest.raises(FrozenInstanceError):
        note.text = "other"  # type: ignore[misc]  # what this test is about


def test_what_is_persisted_is_one_of_the_records() -> None:
    assert set(get_args(Record)) == {
        *(SaveDocument, SaveOutbox, TrimOutbox, DropOutbox, SaveSeq, SaveStoreId, ForgetDocument),
        *(SaveConflict, DropConflict, SaveSettings, SaveEvent, TrimEvents),
        *(SaveBallot, SaveProposal, DropProposal, SaveLeadership, SaveFeature, DropFeature),
    }
    assert Persist in get_args(Effect)


def test_a_new_life_replaces_what_is_stored_of_the_old_one() -> None:
    disk = Disk("s1", {"site": Document("site", LIFE, {"title": Register(LIFE, "old"), "goal": Register(LIFE, "G")})})
    later = Stamp(2, 0, "dev-01")
    disk.write(SaveDocument("site", later, None, {"title": Register(later, "new")}, replace=True))
    assert disk.documents["site"] == Document("site", later, {"title": Register(later, "new")})
