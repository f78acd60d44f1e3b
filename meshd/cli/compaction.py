"""`meshd compaction show|ack`: what the documents of one instance take, and the alerts about large ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from meshd.cli.client import Daemon, daemon_options
from meshd.cli.output import clean, duration, json_option, print_json, print_table, shown

PASS_HEADERS = ("pass", "documents", "bytes", "tombstones", "dropped", "waiting for")
DOCUMENT_HEADERS = ("document", "bytes", "alert")
LARGEST = 10  # documents that are shown
LATEST = 5  # passes that are shown


@click.group()
def compaction() -> None:
    """Show what the documents take, and acknowledge large ones."""


@compaction.command()
@daemon_options
@json_option
def show(url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Show the latest passes and the largest documents. Reads.

    Deleted documents are kept as tombstones until every instance that is known is online and in sync; those that are
    waited for are named.

    With --json: {"version", "url", "compaction"}, as in GET /api/compaction, with all documents and 20 passes.
    """
    with Daemon(url, config_file) as daemon:
        found = daemon.get("/api/compaction")
    if as_json:
        print_json(url=daemon.url, compaction=found)
        return
    print_table((), summary_rows(found))
    for headers, rows in ((PASS_HEADERS, pass_rows(found)), (DOCUMENT_HEADERS, document_rows(found))):
        if rows:
            click.echo()
            print_table(headers, rows)


def summary_rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The pairs above the tables."""
    return [
        ("last pass", shown(found["lastCompaction"])),
        ("every", duration(found["intervalMs"] / 1000)),
        ("all documents", f"{found['totalSizeBytes']} bytes"),
        ("alert above", f"{found['alertBytes']} bytes"),
        ("alerts", shown(found["alertCount"])),
        ("tombstones kept", duration(found["tombstoneRetentionMs"] / 1000)),
    ]


def pass_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The latest passes, latest first."""
    keys = ("time", "documents", "totalSizeBytes", "tombstones", "dropped", "waitingFor")
    return [tuple(shown(done[key]) for key in keys) for done in reversed(found["history"][-LATEST:])]


def document_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The largest documents."""
    raised = {alert["slug"] for alert in found["alerts"]}
    return [
        (
            shown(document["slug"]),
            shown(document["sizeBytes"]),
            "raised" if document["slug"] in raised else "acknowledged" if document["acknowledged"] else shown(None),
        )
        for document in found["documents"][:LARGEST]
    ]


@compaction.command()
@daemon_options
@json_option
def ack(url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Acknowledge the alerts about large documents. Changes what the instance that is asked tells.

    An alert comes back when its document has grown by another tenth, or was small meanwhile.

    With --json: {"version", "url", "acknowledged"}: the slugs.
    """
    with Daemon(url, config_file) as daemon:
        done: list[str] = daemon.request("DELETE", "/api/compaction/alerts").body["acknowledged"]
    if as_json:
        print_json(url=daemon.url, acknowledged=done)
    else:
        click.echo(f"acknowledged: {', '.join(map(clean, done))}" if done else "there was nothing to acknowledge")
