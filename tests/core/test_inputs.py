"""Inputs: everything that can happen, and nothing that is not answered."""

from __future__ import annotations

from typing import get_args

import attrs
import pytest

from meshd.core.inputs import Command, DeleteProject, Input, PatchProject, PutProject, SettingsCommand, TakeConflict


def test_every_command_is_an_input_that_names_its_reply() -> None:
    assert set(get_args(Command)) == {PutProject, PatchProject, DeleteProject, TakeConflict}
    assert set(get_args(Command)) < set(get_args(Input))
    for command in get_args(Command):
        assert [field.name for field in attrs.fields(command)][:2] == ["command", "slug"]


def test_every_change_of_settings_is_an_input_that_names_its_reply_and_its_scope() -> None:
    assert set(get_args(SettingsCommand)) < set(get_args(Input)) - set(get_args(Command))
    for command in get_args(SettingsCommand):
        assert [field.name for field in attrs.fields(command)][:2] == ["command", "scope"]


@pytest.mark.parametrize("cls", list(get_args(Input)))
def test_an_input_does_not_change(cls: type) -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(object.__new__(cls), "link", None)  # noqa: B010  an attribute that not every input has


def test_a_put_without_conditions_has_seen_the_current_document() -> None:
    put = PutProject(1, "site", {})
    assert (put.base, put.if_match) == (None, None)
