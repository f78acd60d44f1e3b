"""`meshd leader`: who leads, since when and why, as one instance sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from meshd.cli.client import Daemon, daemon_options
from meshd.cli.outcome import EX_NOT_SO
from meshd.cli.output import NO_AUTHORITY, NOTHING, duration, json_option, print_json, print_table, shown

VOTER_HEADERS = ("voter", "url", "status", "heard", "may lead", "in sync")
TURN_HEADERS = ("from", "term", "led by", "because")
LATEST = 5  # turns that are shown when nobody says how many


@click.command()
@click.option(
    "--history", type=click.IntRange(min=0), metavar="N", help=f"How many turns of the history  [default: {LATEST}]"
)
@daemon_options
@json_option
@click.pass_context
def leader(
    context: click.Context, history: int | None, url: str | None, config_file: Path | None, as_json: bool
) -> None:
    """Show who leads, since when and why. Reads; exit code 1 when nobody leads.

    And why the instance that is asked does not lead, whether a failover could succeed now, the voters with their
    status, and who led before.

    With --json: {"version", "url", "leadership"}, as in GET /api/leadership, with the whole history unless --history
    says how much.
    """
    with Daemon(url, config_file) as daemon:
        found: dict[str, Any] = dict(daemon.get("/api/leadership"))
    if as_json:
        print_json(url=daemon.url, leadership={**found, "history": latest(found["history"], history)})
    else:
        print_table((), leader_rows(found))
        turns = turn_rows(latest(found["history"], LATEST if history is None else history))
        for headers, rows in ((VOTER_HEADERS, voter_rows(found["voters"])), (TURN_HEADERS, turns)):
            if rows:
                click.echo()
                print_table(headers, rows)
    if found["primaryId"] is None:
        context.exit(EX_NOT_SO)


def latest(history: Sequence[Any], number: int | None) -> Sequence[Any]:
    """The last `number` turns, all of them when it is None."""
    return history if number is None else history[max(0, len(history) - number) :]


def leader_rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The pairs above the tables."""
    rows = [
        ("leader", leader_name(found)),
        ("since", shown(found["since"])),
        ("term", shown(found["term"])),
        ("because", shown(found["cause"])),
        ("policy", f"{shown(found['policy'])}, failback {shown(found['failback'])}"),
        ("majority", f"{found['majority']} of {len(found['voters'])} voters"),
        ("this instance", f"{shown(found['instanceId'])}, {shown(found['standing'])}"),
    ]
    if found["authoritative"] is False:
        rows.append(("authority", NO_AUTHORITY))
    if found["whyNot"]:
        rows.append(("why it does not lead", shown(found["whyNot"])))
    return [*rows, ("failover now", failover_text(found["failover"]))]


def leader_name(found: Mapping[str, Any]) -> str:
    """Who leads, in words."""
    if found["primaryId"] is None:
        return "nobody"
    url = f" ({found['primaryUrl']})" if found["primaryUrl"] else ""
    return shown(found["primaryId"]) + url


def failover_text(failover: Mapping[str, Any]) -> str:
    """Whether a failover could succeed now, on one line."""
    if failover["possible"]:
        return f"possible, {shown(failover['winner'])} would lead"
    return f"not possible: {'; '.join(failover['missing'])}"


def voter_rows(voters: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The voters, in the order of `peers`."""
    return [
        (
            shown(voter["instanceId"]),
            shown(voter["url"]),
            shown(voter["status"] or "never met"),
            _heard(voter),
            shown(voter["eligible"]) if voter["agrees"] else "has no vote",
            shown(voter["inSync"]),
        )
        for voter in voters
    ]


def _heard(voter: Mapping[str, Any]) -> str:
    if voter["isSelf"]:
        return "itself"
    age_ms = voter["contactAgeMs"]
    return NOTHING if age_ms is None else f"{duration(age_ms / 1000)} ago"


def turn_rows(turns: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Who led before, latest first."""
    return [
        (shown(turn["time"]), shown(turn["term"]), shown(turn["leader"] or "nobody"), shown(turn["cause"]))
        for turn in reversed(turns)
    ]
