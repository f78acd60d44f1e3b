"""The messages: each has its place on the wire."""

from __future__ import annotations

from typing import get_args

import attrs
import pytest

from meshd.core.messages import TYPES, FeatureEvent, Identity, Ignored, Malformed, Message, UtcMs


def test_every_message_that_is_sent_has_its_type() -> None:
    assert {*TYPES.values(), Ignored, Malformed} == set(get_args(Message))
    assert len(set(TYPES.values())) == len(TYPES)


@pytest.mark.parametrize("name", list(TYPES))
def test_a_type_is_its_class_in_the_wires_spelling(name: str) -> None:
    assert name.replace("_", "") in TYPES[name].__name__.lower()


@pytest.mark.parametrize("cls", list(get_args(Message)))
def test_a_message_does_not_change(cls: type) -> None:
    first = attrs.fields(cls)[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(object.__new__(cls), first, None)


def test_an_original_identity_needs_two_keys() -> None:
    assert Identity("dev-02", UtcMs(0)).protocol is None


def test_no_message_carries_a_feature() -> None:
    assert [name for name in TYPES if "feature" in name] == ["feature_event"]
    assert {field.name for field in attrs.fields(FeatureEvent)} == {
        "instance_id",
        "event_type",
        "payload",
        "timestamp",
        "project_name",
    }
