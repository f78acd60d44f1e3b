"""`meshd conflicts ls|show|take|drop`: edits that lost against another one made at the same time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from meshd.cli.client import Daemon, daemon_options, project_path
from meshd.cli.outcome import Refused
from meshd.cli.output import clean, json_option, print_json, print_table, shown

HEADERS = ("id", "slug", "path", "lost", "written by", "won by", "found")


@click.group()
def conflicts() -> None:
    """List what lost a conflict, and take it back."""


@conflicts.command()
@click.argument("slug", required=False)
@daemon_options
@json_option
def ls(slug: str | None, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """List the writes that lost, of one project or of all. Reads.

    With --json: {"version", "url", "conflicts"}, as in GET /api/conflicts.
    """
    with Daemon(url, config_file) as daemon:
        found: list[Any] = _found(daemon, slug)
    if as_json:
        print_json(url=daemon.url, conflicts=found)
    elif found:
        print_table(HEADERS, [_row(one) for one in found])
    else:
        click.echo("nothing has lost a conflict")


@conflicts.command()
@click.argument("slug")
@click.argument("conflict_id", metavar="ID")
@daemon_options
@json_option
def show(slug: str, conflict_id: str, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Show what was to be written. Reads; exit code 1 when there is no such conflict.

    With --json: {"version", "url", "conflict"}.
    """
    with Daemon(url, config_file) as daemon:
        for one in _found(daemon, slug):
            if one["id"] == conflict_id:
                break
        else:
            raise Refused("not-found", f"{clean(slug)} has no conflict {clean(conflict_id)}; see `meshd conflicts ls`")
    if as_json:
        print_json(url=daemon.url, conflict=one)
    else:
        keys = ("path", "writtenBy", "writtenAt", "wonBy", "wonAt", "foundAt")
        print_table((), [(key, shown(one[key] or None)) for key in keys])
        click.echo("it was removed" if one["removed"] else json.dumps(one["value"], ensure_ascii=False, indent=2))


@conflicts.command()
@click.argument("slug")
@click.argument("conflict_id", metavar="ID")
@daemon_options
@json_option
def take(slug: str, conflict_id: str, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Write again what lost, over what won. Changes the mesh.

    With --json: {"version", "url", "slug", "revision", "changed"}.
    """
    with Daemon(url, config_file) as daemon:
        done = daemon.request("POST", f"{_path(slug, conflict_id)}/take").body
    if as_json:
        print_json(url=daemon.url, **{key: done[key] for key in ("slug", "revision", "changed")})
    else:
        click.echo(f"{clean(slug)} updated, revision {clean(done['revision'])}")


@conflicts.command()
@click.argument("slug")
@click.argument("conflict_id", metavar="ID")
@daemon_options
@json_option
def drop(slug: str, conflict_id: str, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Forget what lost: what won was right. Changes the mesh's list, no document.

    With --json: {"version", "url", "slug", "dropped"}.
    """
    with Daemon(url, config_file) as daemon:
        daemon.request("DELETE", _path(slug, conflict_id))
    if as_json:
        print_json(url=daemon.url, slug=slug, dropped=conflict_id)
    else:
        click.echo(f"conflict {clean(conflict_id)} of {clean(slug)} forgotten")


def _found(daemon: Daemon, slug: str | None) -> list[Any]:
    path = f"{project_path(slug)}/conflicts" if slug else "/api/conflicts"
    found: list[Any] = daemon.get(path)["conflicts"]  # type: ignore[assignment]
    return found


def _path(slug: str, conflict_id: str) -> str:
    return f"{project_path(slug)}/conflicts/{click.format_filename(conflict_id)}"


def _row(conflict: dict[str, Any]) -> tuple[str, ...]:
    lost = "removed" if conflict["removed"] else json.dumps(conflict["value"], ensure_ascii=False)
    path = conflict["path"] or "(the whole project)"
    cells = (conflict["id"], conflict["slug"], path, lost[:40], conflict["writtenBy"], conflict["wonBy"])
    return (*(shown(cell) for cell in cells), shown(conflict["foundAt"]))
