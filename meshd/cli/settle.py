"""`meshd claim|release|retry|done|fail`: what a person says of a phase."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from meshd.cli.client import Daemon, daemon_options
from meshd.cli.output import clean, json_option, print_json
from meshd.cli.place import Place, PlaceType, path_of

ADVICE = {
    "not-found": "`meshd work ls` lists what there is",
    "not-claimable": "`meshd why` says more",
    "undecided": "`meshd features ls` shows it when it is granted after all",
    "not-holder": "run it on that host, or add --force when that host is gone or does not matter",
    "stale": "somebody has claimed it since; what was produced is kept: see `meshd conflicts ls`",
}

generation_option = click.option("--generation", type=click.IntRange(min=0), help="Only if it is at this generation.")
note_option = click.option("--note", help="Why, for people who look at it later.")
force_option = click.option(
    "--force", is_flag=True, help="Also when another host holds it, which may still be at work."
)


@click.command()
@click.argument("place", type=PlaceType())
@daemon_options
@json_option
def claim(place: Place, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Have this host take a phase.

    Whatever its focus, and however many it holds. Changes who works on it.

    With --json: {"version", "url", "feature"}: the feature that was made of it.
    """
    with Daemon(url, config_file, ADVICE) as daemon:
        found = daemon.request("POST", f"{path_of(place)}/claim").body
    if as_json:
        print_json(url=daemon.url, feature=found)
    else:
        click.echo(clean(f"{'/'.join(place)} is held by {found['claimedBy']}, as {found['id']}"))


@click.command()
@click.argument("place", type=PlaceType())
@generation_option
@note_option
@force_option
@daemon_options
@json_option
def release(place: Place, url: str | None, config_file: Path | None, as_json: bool, **told: Any) -> None:
    """Give a phase back, so that any host may claim it.

    A command that works on it is stopped first. Changes who works on it.

    With --json: {"version", "url", "phase"}.
    """
    _settle("release", place, url, config_file, as_json=as_json, told=told)


@click.command()
@click.argument("place", type=PlaceType())
@generation_option
@note_option
@daemon_options
@json_option
def retry(place: Place, url: str | None, config_file: Path | None, as_json: bool, **told: Any) -> None:
    """Let a phase be tried again that has failed, or was done.

    Changes the project.

    With --json: {"version", "url", "phase"}.
    """
    _settle("retry", place, url, config_file, as_json=as_json, told=told)


@click.command()
@click.argument("place", type=PlaceType())
@generation_option
@click.option("--pr-url", help="Where the result is.")
@note_option
@force_option
@daemon_options
@json_option
def done(place: Place, url: str | None, config_file: Path | None, as_json: bool, **told: Any) -> None:
    """Say that a phase is done.

    By this host, or by hand. Changes the project.

    With --json: {"version", "url", "phase"}.
    """
    _settle("done", place, url, config_file, as_json=as_json, told=told)


@click.command()
@click.argument("place", type=PlaceType())
@generation_option
@click.option("--error", help="What went wrong.")
@note_option
@force_option
@daemon_options
@json_option
def fail(place: Place, url: str | None, config_file: Path | None, as_json: bool, **told: Any) -> None:
    """Say that an attempt at a phase has failed.

    It is tried again until there were too many. Changes the project.

    With --json: {"version", "url", "phase"}.
    """
    _settle("failed", place, url, config_file, as_json=as_json, told=told)


def _settle(
    verb: str, place: Place, url: str | None, config_file: Path | None, *, as_json: bool, told: dict[str, Any]
) -> None:
    if "pr_url" in told:
        told["prUrl"] = told.pop("pr_url")
    body = {key: value for key, value in told.items() if value is not None and value is not False}
    with Daemon(url, config_file, ADVICE) as daemon:
        content = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        found = daemon.request("POST", f"{path_of(place)}/{verb}", content, headers).body
    if as_json:
        print_json(url=daemon.url, phase=found)
    else:
        click.echo(clean(f"{'/'.join(place)} is {found['status']}, at generation {found['generation']}"))
