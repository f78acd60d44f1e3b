"""`meshd events`: what happens on an instance, as it happens or as it happened."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from meshd.cli.client import Daemon, daemon_options
from meshd.cli.outcome import JSON_VERSION, Unavailable
from meshd.cli.output import clean, shown

PAGE = 1000  # events in one answer, the most that a daemon gives
RECENT = 100
RETRY_S = 1.0


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Show what happens from here on, until interrupted.")
@click.option(
    "--type", "types", multiple=True, metavar="PATTERN", help="Only these types, such as 'sync:*'. Repeatable."
)
@click.option("--since", type=click.IntRange(min=0), metavar="ID", help="Only what came after this event; 0 for all.")
@daemon_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, each with `version` 1.")
def events(
    follow: bool, types: tuple[str, ...], since: int | None, url: str | None, config_file: Path | None, as_json: bool
) -> None:
    """Show what happens on an instance. Reads.

    Documents, members, settings, alerts: the last 100 events; with --since what came after one; with -f what comes
    from now on (with both, first what came meanwhile). A stream that breaks off is taken up again where it ended.

    With --json: {"version", "id", "type", "timestamp", "payload"}, one per line. Where events are no longer to be had
    stands {"version", "type": "gap", "from", "to", "reason"}.
    """
    wanted = {"types": ",".join(types)} if types else {}
    with Daemon(url, config_file) as daemon:
        for event in _followed(daemon, wanted, since) if follow else _listed(daemon, wanted, since):
            click.echo(_json_line(event) if as_json else event_line(event))


def _listed(daemon: Daemon, wanted: Mapping[str, str], since: int | None) -> Iterator[Mapping[str, Any]]:
    """What there is, a page at a time."""
    position = {} if since is None else {"since": str(since)}
    while True:
        limit = RECENT if since is None else PAGE
        query = urlencode({"stream": "0", "limit": limit, **wanted, **position})
        page: Any = daemon.get(f"/api/events?{query}")
        if page["gap"]:
            yield page["gap"]
        yield from page["events"]
        if since is None or not page["events"]:
            return
        position = {"since": str(page["lastId"])}


def _followed(daemon: Daemon, wanted: Mapping[str, str], since: int | None) -> Iterator[Mapping[str, Any]]:
    """What happens, for ever; raises only when the first connection fails, or a later one is refused."""
    last_id = None if since is None else str(since)
    path = f"/api/events?{urlencode(wanted)}" if wanted else "/api/events"
    while True:
        try:
            for frame in daemon.stream(path, {"Last-Event-ID": last_id} if last_id else {}):
                last_id = frame.get("id", last_id)
                if "data" in frame:
                    yield json.loads(frame["data"])
        except Unavailable as error:
            if last_id is None or error.error["code"] != "no-daemon":
                raise
        click.echo("meshd: the stream broke off; trying again", err=True)
        time.sleep(RETRY_S)


def event_line(event: Mapping[str, Any]) -> str:
    """One event for a person: when, which, what, and its payload as key=value."""
    if event["type"] == "gap":
        return f"-- events {event['from']} to {event['to']} are not to be had: {clean(str(event['reason']))}"
    payload = " ".join(f"{key}={shown(value)}" for key, value in event["payload"].items())
    return clean(f"{event['timestamp']}  {event['id']}  {event['type']}  {payload}".rstrip())


def _json_line(event: Mapping[str, Any]) -> str:
    return json.dumps({"version": JSON_VERSION, **event}, ensure_ascii=False)
