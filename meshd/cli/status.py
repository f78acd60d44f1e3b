"""`meshd status`: what one daemon says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from meshd.cli.client import Daemon, daemon_options
from meshd.cli.output import NO_AUTHORITY, duration, json_option, mebibytes, print_json, print_table, shown


@click.command()
@daemon_options
@json_option
def status(url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Show what a daemon says about itself. Reads.

    With --json: {"version", "url", "instance", "health"}: instance is GET /api/hivemind/status, health is
    GET /api/health/detailed without its `sync`.
    """
    with Daemon(url, config_file) as daemon:
        instance = daemon.get("/api/hivemind/status")
        health = daemon.get("/api/health/detailed")
    health.pop("sync", None)
    if as_json:
        print_json(url=daemon.url, instance=instance, health=health)
    else:
        print_table((), [("api", f"{daemon.url} ({daemon.found_in})"), *status_rows(instance, health)])


def status_rows(instance: Mapping[str, Any], health: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The pairs that `meshd status` prints."""
    memory = health.get("memory") or {}
    rows = [
        ("instance", shown(instance["instanceId"])),
        ("status", shown(instance["status"])),
        ("version", f"{shown(health.get('version'))}, up {duration(health.get('uptime') or 0)}"),
        ("memory", mebibytes(memory.get("rss") or 0)),
        ("data folder", shown(instance.get("dataDir"))),
        ("workspace", shown(instance.get("repoRoot"))),
    ]
    if not instance["enabled"]:
        return [*rows, ("mesh", "off (protolab.enabled and hivemind.enabled turn it on)")]
    rows += [
        ("role", shown(instance["role"])),
        ("term", shown(instance.get("term"))),
        *authority_row(instance),
        ("primary", _primary(instance)),
        ("connected", shown(instance["connected"])),
        ("peers online", f"{instance.get('onlineCount', 0)} of {instance.get('peerCount', 0)}"),
        ("changes queued", shown(instance.get("queuedChanges"))),
        ("root digest", shown(instance.get("root"))),
    ]
    if instance.get("partitionSince"):
        rows.append(("no primary since", shown(instance["partitionSince"])))
    dropped = instance.get("dropped") or {}
    return rows + [(f"dropped, {reason}", shown(number)) for reason, number in sorted(dropped.items())]


def authority_row(instance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Whether a primary may decide; of a worker there is nothing to say."""
    match instance.get("authoritative"):
        case None:
            return []
        case False:
            return [("authority", NO_AUTHORITY)]
    return [("authority", "yes")]


def _primary(instance: Mapping[str, Any]) -> str:
    if instance["role"] == "primary":
        return "this instance"
    url = f" ({instance['primaryUrl']})" if instance.get("primaryUrl") else ""
    return shown(instance.get("primaryId")) + url
