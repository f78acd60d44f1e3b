"""Where a demo is told: facts as plain lines, as JSON lines, or above live tables on a terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio
from attrs import define, field

from meshd.cli.outcome import JSON_VERSION
from meshd.cli.output import clean, is_terminal, rich_table

if TYPE_CHECKING:
    from rich.live import Live

Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # headers and rows


@define(eq=False)
class Screen:
    """`[  3.2s] dev-01 answers`: one line per fact. `gone` is set when nobody reads any more."""

    start_s: float = field(factory=time.monotonic)
    gone: trio.Event = field(factory=trio.Event)

    def say(self, fact: str, text: str, **fields: object) -> None:  # noqa: ARG002  for `JsonScreen`
        """Tell one fact: `fact` is its stable name, `text` is for a person, `fields` are for a program."""
        first, *more = (clean(line) for line in text.splitlines())
        self._print("\n".join([f"[{self.elapsed_s:5.1f}s] {first}", *(f"         {line}" for line in more)]))

    def show(self, *tables: Table) -> None:
        """Bring the tables up to date, where there are any."""

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.start_s

    def _print(self, text: str) -> None:
        if self.gone.is_set():
            return
        try:
            self._write(text)
        except OSError:  # a closed pipe, or a terminal that hung up
            self.gone.set()
            _discard_stdout()

    def _write(self, text: str) -> None:
        print(text, flush=True)  # noqa: T201  the demo's own output


@define(eq=False)
class JsonScreen(Screen):
    """`{"version": 1, "elapsed": 3.2, "fact": "...", "text": "...", ...}`: one object per fact."""

    def say(self, fact: str, text: str, **fields: object) -> None:
        told = {"version": JSON_VERSION, "elapsed": round(self.elapsed_s, 3), "fact": fact, "text": text, **fields}
        self._print(json.dumps(told, ensure_ascii=False))


@define(eq=False, kw_only=True)
class LiveScreen(Screen):
    """Facts scroll by above tables that stay. rich leaves colours out when `NO_COLOR` is set."""

    live: Live

    def show(self, *tables: Table) -> None:
        from rich.console import Group  # noqa: PLC0415

        if self.gone.is_set():
            return
        shown = [rich_table(headers, rows, gap=1) for headers, rows in tables if rows]
        try:
            self.live.update(Group("", *shown), refresh=True)
        except OSError:
            self.gone.set()
            _discard_stdout()

    def _write(self, text: str) -> None:
        self.live.console.print(text, markup=False, soft_wrap=True)


@contextmanager
def open_screen(as_json: bool) -> Iterator[Screen]:
    """The screen that fits standard output."""
    if as_json:
        yield JsonScreen()
    elif not is_terminal():
        yield Screen()
    else:
        from rich.console import Console  # noqa: PLC0415  only a terminal needs rich
        from rich.live import Live  # noqa: PLC0415

        console = Console(highlight=False)
        with Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
            yield LiveScreen(live=live)


def _discard_stdout() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not complain about it when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
