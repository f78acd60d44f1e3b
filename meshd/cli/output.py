"""What people and programs read: tables with colour on a terminal, aligned text when piped, JSON when asked for.

Texts come from other hosts: characters that a terminal would obey are replaced before they are shown.
"""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from meshd.cli.outcome import JSON_VERSION

if TYPE_CHECKING:
    from rich.table import Table

Verb = TypeVar("Verb", bound=Callable[..., Any])

NOTHING = "-"
NO_AUTHORITY = "no: documents go on, claims are not decided"

# A cell that is one of these words is shown in this colour.
STYLES = {
    "primary": "bold cyan",
    "online": "green",
    "alive": "green",
    "yes": "green",
    "done": "green",
    "claimed": "cyan",
    "in_progress": "cyan",
    "waits": "dim",
    "suspect": "yellow",
    "draining": "yellow",
    "starting": "yellow",
    "no": "yellow",
    "offline": "red",
    "failed": "red",
    "left": "red",
    "killed": "bold red",
}


def json_option(verb: Verb) -> Verb:
    """Give the verb `--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object with `version` 1.")(verb)


def print_json(**keys: object) -> None:
    """Print one object with the version of its shape."""
    click.echo(json.dumps({"version": JSON_VERSION, **keys}, ensure_ascii=False, indent=2))


def is_terminal() -> bool:
    """Whether somebody watches standard output and it can be drawn on."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells under headers; without headers, pairs of a name and what it holds."""
    if is_terminal():
        from rich.console import Console  # noqa: PLC0415  rich takes 60 ms, and only a terminal needs it

        Console(highlight=False).print(rich_table(headers, rows))
    else:
        click.echo(plain_table(headers, rows))


def plain_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table as aligned text: columns two spaces apart, no lines, so that `awk` and `column` can read it."""
    lines = [[clean(cell) for cell in line] for line in ([headers] if headers else []) + list(rows)]
    widths = [max(_width(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def rich_table(headers: Sequence[str], rows: Sequence[Sequence[str]], gap: int = 2) -> Table:
    """The table for a terminal, with colour where a cell is a word that has one; columns are `gap` apart."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, show_header=bool(headers), header_style="dim", padding=(0, gap, 0, 0))
    for header in headers:
        table.add_column(header, overflow="fold")  # what does not fit goes on below, nothing is left out
    for row in rows:
        cells = [Text(clean(cell), style=STYLES.get(cell, "")) for cell in row]
        if not headers:
            cells[0] = Text(clean(row[0]), style="dim")
        table.add_row(*cells)
    return table


def clean(text: str) -> str:
    """`text` without characters that would move the cursor, colour the screen or begin a line."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _width(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    combining = sum(unicodedata.combining(character) > 0 for character in text)
    return len(text) + wide - combining


def shown(value: object) -> str:
    """A JSON value as one cell."""
    match value:
        case None | "":
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case str():
            return value
        case list() if not value:
            return NOTHING
        case list() if all(isinstance(element, str) for element in value):
            return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def duration(seconds: float) -> str:
    """How long, in the two largest units: `3.2 s`, `4 min 10 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest_s} s"


def mebibytes(size_bytes: float) -> str:
    return f"{size_bytes / 1_048_576:.0f} MiB"


def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0f} %"
