"""`meshd settings show|set|unset`: the settings that all instances share, and those of one host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from meshd.cli.client import Daemon, daemon_options
from meshd.cli.outcome import Refused
from meshd.cli.output import Verb, clean, json_option, print_json, print_table

ATTEMPTS = 5  # each fails only when somebody else's change came first


@click.group()
def settings() -> None:
    """Show and change the settings that all instances share.

    KEY is a setting, or a field within one: workflow.maxRetries.
    """


def _local_option(verb: Verb) -> Verb:
    help_text = "For the host of this daemon alone, over what all share; never sent to another."
    return click.option("--local", is_flag=True, help=help_text)(verb)


@settings.command()
@click.option("--origin", is_flag=True, help="Say where each value comes from: file, shared or local.")
@daemon_options
@json_option
def show(origin: bool, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Show what holds on one host: local over shared over the file. Reads.

    With --json: {"version", "url"} and the keys of GET /api/settings.
    """
    with Daemon(url, config_file) as daemon:
        told: dict[str, Any] = dict(daemon.get("/api/settings"))
    if as_json:
        print_json(url=daemon.url, **told)
        return
    if not told["settings"]:
        click.echo("there are no settings yet; `meshd settings set KEY VALUE` makes one")
        return
    headers = ("key", "value", "origin") if origin else ("key", "value")
    rows = [
        (key, _cell(value), told["origins"][key])[: len(headers)] for key, value in sorted(told["settings"].items())
    ]
    print_table(headers, rows)


@settings.command("set")
@click.argument("key")
@click.argument("value")
@_local_option
@daemon_options
@json_option
def set_(key: str, value: str, local: bool, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Give KEY a VALUE: JSON when it is, else a text. Changes the mesh, or with --local this host.

    The shared settings are changed on the primary (exit code 1 on a worker). An object takes the place of the one
    before, whole.

    With --json: {"version", "url", "scope", "revision", "changed"}.
    """
    parsed = _parsed(value)
    done = _change(url, config_file, local, key, (parsed,))
    _say(done, as_json, f"{key} is {_cell(parsed)}")


@settings.command()
@click.argument("key")
@_local_option
@daemon_options
@json_option
def unset(key: str, local: bool, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Take KEY away: what stands beneath it holds again. Changes the mesh, or with --local this host.

    With --json: {"version", "url", "scope", "revision", "changed"}.
    """
    done = _change(url, config_file, local, key, ())
    _say(done, as_json, f"{key} is not set" + ("" if done["changed"] else ", and was not"))


def _change(
    url: str | None, config_file: Path | None, local: bool, key: str, new: tuple[object, ...]
) -> dict[str, Any]:
    """Read the scope, edit it, and put it back if nobody was quicker; else once more."""
    scope, path = ("local", "/api/settings/local") if local else ("shared", "/api/settings")
    with Daemon(url, config_file) as daemon:
        for attempt in range(ATTEMPTS):
            answer = daemon.request("GET", path)
            values = answer.body[scope]
            _edit(values, key, new)
            headers = {"Content-Type": "application/json", "If-Match": f'"{answer.revision}"'}
            try:
                done = daemon.request("PUT", path, json.dumps(values).encode(), headers).body
            except Refused as refused:
                if refused.error["code"] != "revision-mismatch" or attempt == ATTEMPTS - 1:
                    raise
            else:
                return {"url": daemon.url, **{name: done[name] for name in ("scope", "revision", "changed")}}
    raise AssertionError("the last attempt returns or raises")


def _edit(values: dict[str, Any], key: str, new: tuple[object, ...]) -> None:
    """Set the field of this name, which may lie within objects, or remove it when there is nothing `new`."""
    *outer, name = key.split(".")
    for part in outer:
        if not new and part not in values:
            return
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise click.BadParameter(f"{part} holds no fields", param_hint="KEY")
    if new:
        values[name] = new[0]
    else:
        values.pop(name, None)


def _parsed(value: str) -> object:
    try:
        return json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON, though Python reads it")


def _say(done: dict[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        print_json(**done)
        return
    where = "on this host" if done["scope"] == "local" else "in the shared settings"
    click.echo(clean(f"{sentence}, {where}, revision {done['revision']}"))


def _cell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
