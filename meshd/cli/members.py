"""`meshd members`: the instances of the mesh as one of them sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from meshd.cli.client import Daemon, daemon_options
from meshd.cli.output import NOTHING, duration, json_option, percent, print_json, print_table, shown

HEADERS = (
    *("instance", "role", "focus", "priority", "status", "seen as", "heard"),
    *("in sync", "last change", "latency", "intake", "holds", "cpu", "ram", "version"),
)


@click.command()
@daemon_options
@json_option
def members(url: str | None, config_file: Path | None, as_json: bool) -> None:
    """List the instances of the mesh as one of them sees them. Reads.

    The one that was asked comes first, the others by their priority. "in sync" says whether a peer's documents are
    equal to those of the one that was asked, "last change" when a change last came from it, "intake" whether it is to
    claim new work, "holds" how many phases it holds or asks for. Of itself it says its term and, when it leads without
    a majority of the voters, that it has no authority.

    With --json: {"version", "url", "primaryId", "self", "peers"}: primaryId is from GET /api/hivemind/status (null
    while there is none), self is GET /api/hivemind/self, peers are those of GET /api/hivemind/peers.
    """
    with Daemon(url, config_file) as daemon:
        primary_id = daemon.get("/api/hivemind/status")["primaryId"]
        this = daemon.get("/api/hivemind/self")
        peers: list[Any] = daemon.get("/api/hivemind/peers")["peers"]  # type: ignore[assignment]
    if as_json:
        print_json(url=daemon.url, primaryId=primary_id, self=this, peers=peers)
    else:
        print_table(HEADERS, member_rows(primary_id, this, peers))


def member_rows(primary_id: Any, this: Mapping[str, Any], peers: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The lines that `meshd members` prints."""
    own = (*_who(this, this["syncRole"]), shown(this["status"]), _itself(this), *[NOTHING] * 4, *_what(this))
    return [own, *(_peer_row(peer, primary_id) for peer in peers)]


def _peer_row(peer: Mapping[str, Any], primary_id: Any) -> tuple[str, ...]:
    role = "primary" if peer["instanceId"] == primary_id else "worker"
    heard = _ago(peer.get("ageMs"))
    agreement = (_in_sync(peer), _ago(peer.get("lastChangeAgeMs")))
    latency = f"{peer['latencyMs']:.1f} ms" if peer.get("latencyMs") is not None else NOTHING
    return (*_who(peer, role), shown(peer["status"]), shown(peer["state"]), heard, *agreement, latency, *_what(peer))


def _itself(this: Mapping[str, Any]) -> str:
    authority = ", no authority" if this.get("authoritative") is False else ""
    return f"itself, term {shown(this.get('term'))}{authority}"


def _ago(age_ms: int | None) -> str:
    return NOTHING if age_ms is None else f"{duration(age_ms / 1000)} ago"


def _in_sync(peer: Mapping[str, Any]) -> str:
    since = peer.get("outOfSyncSince")
    return f"no, since {since}" if since else shown(peer.get("inSync"))


def _who(member: Mapping[str, Any], role: str) -> tuple[str, ...]:
    focus = ", ".join(filter(None, (member.get("role"), *member.get("tags", ()))))
    return shown(member["instanceId"]), role, shown(focus), shown(member.get("priority"))


def _intake(is_on: bool | None) -> str:
    return NOTHING if is_on is None else "on" if is_on else "off"


def _what(member: Mapping[str, Any]) -> tuple[str, ...]:
    capacity = member.get("capacity") or {}
    return (
        _intake(member.get("intake")),
        shown(member.get("holding")),
        percent(capacity.get("cpuPercent")),
        percent(capacity.get("ramUsagePercent")),
        shown(member.get("version")),
    )
