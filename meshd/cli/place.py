"""A phase on the command line: `project/milestone/phase`."""

from __future__ import annotations

from urllib.parse import quote

import click

Place = tuple[str, str, str]


class PlaceType(click.ParamType[Place]):
    """`site/m1/build`; names may hold spaces."""

    name = "project/milestone/phase"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        parts = str(value).split("/")
        if len(parts) != 3 or not all(parts):
            self.fail(f"{value!r} is not like project/milestone/phase", param, ctx)
        return parts[0], parts[1], parts[2]


def path_of(place: Place) -> str:
    """Where the API keeps what it says of a phase."""
    return "/api/phases/" + "/".join(quote(name, safe="") for name in place)
