"""`meshd projects ls|show|put|rm`: the shared project documents, read and written through one daemon."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import click

from meshd.cli.client import Daemon, daemon_options, project_path
from meshd.cli.output import clean, json_option, print_json, print_table, shown

HEADERS = ("slug", "title", "status", "milestones", "phases", "revision")
PHASE_HEADERS = ("milestone", "phase", "title", "complexity", "status", "claimed by")

_if_match = click.option(
    "--if-match", metavar="REVISION", help="Only when the document has this revision; * for any that exists."
)


@click.group()
def projects() -> None:
    """List, show, put and remove project documents."""


@projects.command()
@daemon_options
@json_option
def ls(url: str | None, config_file: Path | None, as_json: bool) -> None:
    """List the project documents. Reads.

    With --json: {"version", "url", "projects"}, as in GET /api/projects.
    """
    with Daemon(url, config_file) as daemon:
        found: list[Any] = daemon.get("/api/projects")["projects"]  # type: ignore[assignment]
    if as_json:
        print_json(url=daemon.url, projects=found)
    elif found:
        print_table(HEADERS, [tuple(shown(project.get(header)) for header in HEADERS) for project in found])
    else:
        click.echo("there are no projects yet; `meshd projects put FILE` makes one")


@projects.command()
@click.argument("slug")
@click.option("--document", is_flag=True, help="Print the document itself, to be edited and put again.")
@daemon_options
@json_option
def show(slug: str, document: bool, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Show one project: what it is and its phases. Reads; exit code 1 when there is none.

    With --json: {"version", "url", "revision", "document"}.
    """
    with Daemon(url, config_file) as daemon:
        answer = daemon.request("GET", project_path(slug))
    if as_json:
        print_json(url=daemon.url, revision=answer.revision, document=answer.body)
    elif document:
        click.echo(json.dumps(answer.body, ensure_ascii=False, indent=2))
    else:
        print_table((), project_rows(answer.body, answer.revision))
        if phases := phase_rows(answer.body):
            click.echo()
            print_table(PHASE_HEADERS, phases)


def project_rows(document: Mapping[str, Any], revision: str) -> list[tuple[str, str]]:
    """What stands above the phases."""
    keys = ("slug", "title", "goal", "status", "priority")
    return [*((key, shown(document[key])) for key in keys if key in document), ("revision", revision)]


def phase_rows(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One line per phase, in the order of the document; whatever is not shaped like one is left out."""
    return [
        (
            shown(milestone.get("slug")),
            shown(phase.get("name")),
            shown(phase.get("title")),
            shown(phase.get("complexity")),
            shown(phase.get("executionStatus") or "unclaimed"),
            shown(phase.get("claimedBy")),
        )
        for milestone in _objects(document.get("milestones"))
        for phase in _objects(milestone.get("phases"))
    ]


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [element for element in value if isinstance(element, dict)] if isinstance(value, list) else []


@projects.command()
@click.argument("file", type=click.File("rb"))
@click.option("--slug", help="Put it under this slug instead of its own.")
@_if_match
@daemon_options
@json_option
def put(
    file: BinaryIO, slug: str | None, if_match: str | None, url: str | None, config_file: Path | None, as_json: bool
) -> None:
    """Make a project equal to the document in FILE (- for standard input). Changes the mesh.

    With --json: {"version", "url", "slug", "revision", "created", "changed"}.
    """
    document = _document(file, slug)
    headers = {"Content-Type": "application/json", **_condition(if_match)}
    content = json.dumps(document, ensure_ascii=False).encode()
    with Daemon(url, config_file) as daemon:
        done = daemon.request("PUT", project_path(document["slug"]), content, headers).body
    if as_json:
        print_json(url=daemon.url, **{key: done[key] for key in ("slug", "revision", "created", "changed")})
        return
    what = "created" if done["created"] else "updated" if done["changed"] else "unchanged"
    click.echo(f"{clean(done['slug'])} {what}, revision {clean(done['revision'])}")


def _document(file: BinaryIO, slug: str | None) -> dict[str, Any]:
    """The document in `file`, with the slug it is to have. Raises `click.BadParameter`."""
    try:
        document = json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"it is not JSON: {error}", param_hint="FILE") from error
    if not isinstance(document, dict):
        raise click.BadParameter("it must hold one JSON object", param_hint="FILE")
    if slug:
        document["slug"] = slug
    if not isinstance(document.get("slug"), str) or not document["slug"]:
        raise click.BadParameter("the document has no `slug`: add one, or name it with --slug", param_hint="FILE")
    return document


@projects.command()
@click.argument("slug")
@_if_match
@daemon_options
@json_option
def rm(slug: str, if_match: str | None, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Delete a project on every instance, for ever. Changes the mesh; exit code 1 when there is none.

    With --json: {"version", "url", "slug", "deleted"}.
    """
    with Daemon(url, config_file) as daemon:
        daemon.request("DELETE", project_path(slug), headers=_condition(if_match))
    if as_json:
        print_json(url=daemon.url, slug=slug, deleted=True)
    else:
        click.echo(f"{clean(slug)} deleted")


def _condition(if_match: str | None) -> dict[str, str]:
    if if_match is None:
        return {}
    revision = if_match.strip('"')
    return {"If-Match": revision if revision == "*" else f'"{revision}"'}
