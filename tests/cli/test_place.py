"""`meshd.cli.place`."""

from __future__ import annotations

import click
import pytest

from meshd.cli.place import PlaceType, path_of


def test_names_may_hold_spaces_and_more() -> None:
    place = PlaceType().convert("site/m 1/a & b?", None, None)
    assert place == ("site", "m 1", "a & b?")
    assert path_of(place) == "/api/phases/site/m%201/a%20%26%20b%3F"


@pytest.mark.parametrize("text", ["", "site", "site/m", "site/m/", "/m/p", "a/b/c/d"])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(click.BadParameter, match="project/milestone/phase"):
        PlaceType().convert(text, None, None)
