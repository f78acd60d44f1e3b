"""`meshd check failover`: whether something that is hoped for would work, before it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from meshd.cli.client import Daemon, daemon_options
from meshd.cli.leader import VOTER_HEADERS, voter_rows
from meshd.cli.outcome import EX_NOT_SO
from meshd.cli.output import clean, json_option, print_json, print_table, shown


@click.group()
def check() -> None:
    """Check whether something would work, before it is needed."""


@check.command()
@daemon_options
@json_option
@click.pass_context
def failover(context: click.Context, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Could a failover succeed now, and who would win? Reads; exit code 1 when it could not.

    As the instance that is asked sees it; ask another one with --url to learn whether it agrees.

    With --json: {"version", "url", "possible", "winner", "missing", "policy", "majority", "voters"}, as in
    GET /api/leadership.
    """
    with Daemon(url, config_file) as daemon:
        found = daemon.get("/api/leadership")
    told: Mapping[str, Any] = found["failover"]  # type: ignore[assignment]
    voters: list[Any] = found["voters"]  # type: ignore[assignment]
    if as_json:
        print_json(url=daemon.url, **told, **{key: found[key] for key in ("policy", "majority")}, voters=voters)
    else:
        if told["possible"]:
            click.echo(clean(f"a failover would succeed now: {shown(told['winner'])} would lead"))
        else:
            click.echo("a failover could not succeed now:")
        for sentence in told["missing"]:
            click.echo(clean(f"- {sentence}"))
        click.echo(
            clean(f"policy {shown(found['policy'])}, {found['majority']} of {len(voters)} voters are a majority")
        )
        if voters:
            click.echo()
            print_table(VOTER_HEADERS, voter_rows(voters))
    if not told["possible"]:
        click.echo("mend what is missing and ask again; `meshd members` shows who is there", err=True)
        context.exit(EX_NOT_SO)
