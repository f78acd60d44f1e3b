"""`meshd config check|show`: judge a configuration file, or show what it comes to. No daemon is needed."""

from __future__ import annotations

import os
from pathlib import Path

import click

from meshd.cli.config_file import config_option, count, load, print_problems, problem_json, the_file
from meshd.cli.outcome import EX_CONFIG
from meshd.cli.output import json_option, print_json, print_table, shown


@click.group()
def config() -> None:
    """Check or show a configuration file."""


@config.command()
@config_option
@json_option
def check(config_file: Path | None, as_json: bool) -> None:
    """Name every problem of the file and the MESHD_* environment. Reads.

    Exit code 78 when there are errors, 0 when there are warnings or nothing.

    With --json: {"version", "file", "ok", "problems": [{"severity", "file", "line", "column", "key", "found",
    "allowed", "suggestion"}]}; line and column are 0 where there is no place to name.
    """
    from meshd import config as reader  # noqa: PLC0415  brings the YAML parser
    from meshd.errors import ConfigError  # noqa: PLC0415

    file = the_file(config_file)
    try:
        problems = reader.load(file, os.environ).warnings
    except ConfigError as error:
        problems = error.problems
    is_usable = not any(problem.fatal for problem in problems)
    if as_json:
        print_json(file=str(file), ok=is_usable, problems=[problem_json(problem) for problem in problems])
    else:
        print_problems(problems, to_stderr=False)
        click.echo(f"{file}: {'ok, ' if is_usable else ''}{count(problems)}")
    if not is_usable:
        click.get_current_context().exit(EX_CONFIG)


@config.command()
@click.option("--origin", is_flag=True, help="Say where each value comes from: a line, a variable, or the default.")
@config_option
@json_option
def show(origin: bool, config_file: Path | None, as_json: bool) -> None:
    """Show every key with the value it has in the end: the environment over the file over the defaults. Reads.

    With --json: {"version", "file", "entries": [{"key", "value", "origin"}]}; origin is "file:line", a variable's
    name or "default".
    """
    file = the_file(config_file)
    loaded = load(file)
    if as_json:
        entries = [{"key": entry.key, "value": entry.value, "origin": entry.origin} for entry in loaded.entries]
        print_json(file=str(file), entries=entries)
        return
    print_problems(loaded.warnings)
    headers = ("key", "value", "origin") if origin else ("key", "value")
    rows = [(entry.key, shown(entry.value), entry.origin)[: len(headers)] for entry in loaded.entries]
    print_table(headers, rows)
