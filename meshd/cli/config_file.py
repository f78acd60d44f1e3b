"""Read the configuration file for a verb: which file, and what to say when it cannot be used."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshd.cli.outcome import Unusable
from meshd.cli.output import Verb, clean

if TYPE_CHECKING:
    from meshd.config import Loaded
    from meshd.errors import Problem
    from meshd.model import JsonObject


def config_option(verb: Verb) -> Verb:
    """Give the verb `--config`, as the parameter `config_file`."""
    return click.option(
        "--config",
        "config_file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        envvar="MESHD_CONFIG",
        show_envvar=True,
        help="The configuration file  [default: proto.config.yaml in the current folder]",
    )(verb)


def the_file(named: Path | None) -> Path:
    """The file that was named, or the default one."""
    from meshd.config import default_path  # noqa: PLC0415  brings the YAML parser

    return named or default_path()


def load(file: Path) -> Loaded:
    """Read the file for a verb that needs what is in it. Raises `Unusable`, after the problems, one a line."""
    from meshd import config  # noqa: PLC0415
    from meshd.errors import ConfigError  # noqa: PLC0415

    try:
        return config.load(file, os.environ)
    except ConfigError as error:
        print_problems(error.problems)
        problems = [problem_json(problem) for problem in error.problems]
        detail = f"the configuration cannot be used: {count(error.problems)}"
        raise Unusable("invalid-configuration", detail, problems=problems) from error


def print_problems(problems: Sequence[Problem], to_stderr: bool = True) -> None:
    for problem in problems:
        click.echo(clean(str(problem)), err=to_stderr)


def count(problems: Sequence[Problem]) -> str:
    """`2 errors, 1 warning`"""
    errors = sum(problem.fatal for problem in problems)
    numbers = ((errors, "error"), (len(problems) - errors, "warning"))
    return ", ".join(f"{number} {word}{'s' * (number > 1)}" for number, word in numbers if number) or "no problems"


def problem_json(problem: Problem) -> JsonObject:
    """A problem as `meshd config check --json` shows it."""
    return {
        "severity": "error" if problem.fatal else "warning",
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "key": problem.key,
        "found": problem.found,
        "allowed": problem.allowed,
        "suggestion": problem.suggestion,
    }
