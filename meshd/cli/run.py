"""`meshd run`: read the configuration and be the daemon."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from meshd.cli.config_file import config_option, load, the_file
from meshd.cli.output import json_option


@click.command()
@click.option("--until-eof", is_flag=True, help="Drain when standard input ends, with the program that holds it.")
@config_option
@json_option
def run(until_eof: bool, config_file: Path | None, as_json: bool) -> None:  # noqa: ARG001  `Failure` looks at it
    """Run the daemon of this host.

    It stays in the foreground and logs to standard error; SIGTERM or Ctrl-C drains it, a second one hurries it. It
    changes the data folder and the workspace that the configuration names.

    With --json: {"version", "error": {"code", "detail", "problems"}} when the configuration cannot be used, problems
    as in `meshd config check --json`; a daemon that runs prints nothing.
    """
    if until_eof and sys.stdin is None:
        raise click.UsageError("--until-eof needs a standard input")
    loaded = load(the_file(config_file))
    from meshd import daemon  # noqa: PLC0415  brings everything; a broken configuration is told before that

    click.get_current_context().exit(daemon.run(loaded, until_eof=until_eof))
