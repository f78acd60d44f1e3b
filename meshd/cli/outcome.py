"""How a verb ends when it does not succeed: its exit code, one line for a person, one object for a program.

0   it is so
1   the thing asked about is not so, or was refused
2   the command line is wrong
69  no daemon answers (EX_UNAVAILABLE)
78  the configuration cannot be used (EX_CONFIG)
130 interrupted before it was done
"""

from __future__ import annotations

import json
from typing import IO, Any

import click

EX_NOT_SO = 1
EX_UNAVAILABLE = 69
EX_CONFIG = 78
EX_INTERRUPTED = 130

JSON_VERSION = 1


class Failure(click.ClickException):
    """Ends the verb: `detail` goes to standard error; with `--json` the error object goes to standard output too.

    `code` is stable; `more` are further keys of the error object.
    """

    def __init__(self, code: str, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.error = {"code": code, "detail": detail, **more}
        context = click.get_current_context(silent=True)
        self.as_json = bool(context and context.params.get("as_json"))

    def show(self, file: IO[Any] | None = None) -> None:
        if self.as_json:
            click.echo(json.dumps({"version": JSON_VERSION, "error": self.error}, ensure_ascii=False))
        click.echo(f"meshd: {self.message}", file=file, err=file is None)


class Refused(Failure):
    """The daemon said no, or there is no such thing."""

    exit_code = EX_NOT_SO


class Unavailable(Failure):
    """No daemon answers."""

    exit_code = EX_UNAVAILABLE


class Unusable(Failure):
    """The configuration cannot be used."""

    exit_code = EX_CONFIG
