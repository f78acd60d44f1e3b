"""`meshd work ls`, `meshd why`, `meshd features`: who works on what, and why a phase is not worked on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from meshd.cli.client import Daemon, daemon_options
from meshd.cli.outcome import EX_NOT_SO
from meshd.cli.output import clean, duration, json_option, print_json, print_table, shown
from meshd.cli.place import Place, PlaceType, path_of

HEADERS = ("phase", "status", "holder", "generation", "age", "lease", "attempts", "note")


@click.group()
def work() -> None:
    """Show who works on what."""


@work.command(name="ls")
@click.option("--project", help="Only this project, whatever its status.")
@click.option("--status", help="Only phases of this status, such as claimed or failed.")
@daemon_options
@json_option
def list_work(
    project: str | None, status: str | None, url: str | None, config_file: Path | None, as_json: bool
) -> None:
    """List all phases of the projects that are worked on. Reads.

    `lease` is how long the holder may go on without word from its primary, or on the primary how long a silent holder
    is left. `note` is the last error, or why a phase can never be claimed as things stand.

    With --json: {"version", "url", "phases"}, as in GET /api/phases.
    """
    query = urlencode({key: value for key, value in (("project", project), ("status", status)) if value})
    with Daemon(url, config_file) as daemon:
        found: list[Any] = daemon.request("GET", f"/api/phases?{query}").body["phases"]
    if as_json:
        print_json(url=daemon.url, phases=found)
    elif found:
        print_table(HEADERS, [row(phase) for phase in found])
    else:
        click.echo("there are no phases in projects that are active or scaffolded")


def row(phase: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of one phase."""
    lease_ms = phase["leaseLeftMs"] if phase["leaseLeftMs"] is not None else phase["reclaimInMs"]
    return (
        f"{phase['project']}/{phase['milestone']}/{phase['phase']}",
        shown(phase["status"]),
        shown(phase["claimedBy"]),
        shown(phase["generation"] or None),
        _time(phase["ageMs"]),
        _time(lease_ms),
        shown(phase["attempts"] or None),
        shown(phase["blocked"] or phase["lastError"] or phase["note"]),
    )


def _time(duration_ms: int | None) -> str:
    return shown(None) if duration_ms is None else duration(max(0, duration_ms) / 1000)


@click.command()
@click.argument("place", type=PlaceType())
@click.option("--on", metavar="HOST", help="As another instance of the mesh would be answered.")
@daemon_options
@json_option
def why(place: Place, on: str | None, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Show why a phase is not claimed, or not here.

    Every condition, with yes or no. Reads. Exit code 1 when it cannot be claimed on that host now.

    With --json: {"version", "url", "phase"}, as in GET /api/phases/<project>/<milestone>/<phase>.
    """
    with Daemon(url, config_file, {"not-found": "`meshd work ls` lists what there is"}) as daemon:
        found = daemon.get(f"{path_of(place)}?{urlencode({'on': on}) if on else ''}")
    if as_json:
        print_json(url=daemon.url, phase=found)
    else:
        rows: list[Any] = found["conditions"]  # type: ignore[assignment]  # a list of objects
        answer = "can be claimed" if found["claimable"] else f"cannot be claimed on {found['on']} now"
        click.echo(clean(f"{'/'.join(place)} is {found['status']}, and {answer}"))
        print_table(
            ("condition", "holds", "because"), [(each["name"], shown(each["holds"]), each["text"]) for each in rows]
        )
    if not found["claimable"]:
        click.get_current_context().exit(EX_NOT_SO)


@click.group()
def features() -> None:
    """Show the work items that a host made of its claims."""


@features.command(name="ls")
@daemon_options
@json_option
def list_features(url: str | None, config_file: Path | None, as_json: bool) -> None:
    """List the features of one host, the oldest first. Reads.

    With --json: {"version", "url", "features"}, as in GET /api/features.
    """
    with Daemon(url, config_file) as daemon:
        found: list[Any] = daemon.request("GET", "/api/features").body["features"]
    if as_json:
        print_json(url=daemon.url, features=found)
    elif found:
        rows = [
            (
                shown(each["id"]),
                f"{each['projectSlug']}/{each['milestoneSlug']}/{each['phaseSlug']}",
                shown(each["status"]),
                shown(each["state"]),
                shown(each.get("releaseReason") or each.get("error") or each.get("prUrl")),
            )
            for each in found
        ]
        print_table(("feature", "phase", "status", "held", "note"), rows)
    else:
        click.echo("this host has made no features yet")


@features.command(name="show")
@click.argument("feature")
@daemon_options
@json_option
def show_feature(feature: str, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Show one feature. Reads.

    With --json: {"version", "url", "feature"}, as in GET /api/features/<id>.
    """
    with Daemon(url, config_file, {"not-found": "`meshd features ls` lists what there is"}) as daemon:
        found = daemon.get(f"/api/features/{quote(feature, safe='')}")
    if as_json:
        print_json(url=daemon.url, feature=found)
    else:
        print_table((), [(key, shown(value)) for key, value in found.items()])
