"""`meshd alerts`: what a person should look at on one instance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from meshd.cli.client import Daemon, daemon_options
from meshd.cli.outcome import EX_NOT_SO
from meshd.cli.output import json_option, print_json, print_table, shown

HEADERS = ("severity", "alert", "about", "since", "what", "what to do")
_KEYS = ("severity", "code", "subject", "since", "text", "fix")


@click.command()
@daemon_options
@json_option
@click.pass_context
def alerts(context: click.Context, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """List what needs a person. Reads; exit code 1 when something critical stands.

    With --json: {"version", "url", "alerts"}, as in GET /api/alerts.
    """
    with Daemon(url, config_file) as daemon:
        found: list[Any] = daemon.get("/api/alerts")["alerts"]  # type: ignore[assignment]
    if as_json:
        print_json(url=daemon.url, alerts=found)
    elif found:
        print_table(HEADERS, [tuple(shown(alert.get(key)) for key in _KEYS) for alert in found])
    else:
        click.echo("no alerts")
    if any(alert.get("severity") == "critical" for alert in found):
        context.exit(EX_NOT_SO)
