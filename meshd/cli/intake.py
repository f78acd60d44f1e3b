"""`meshd intake`, `meshd drain`, `meshd undrain`, `meshd audits`: whether a host takes work."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from meshd.cli.client import Daemon, daemon_options
from meshd.cli.outcome import EX_NOT_SO
from meshd.cli.output import clean, json_option, print_json, print_table, shown

LOOK_EVERY_S = 0.5
JSON_HEADERS = {"Content-Type": "application/json"}
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class DurationType(click.ParamType[float]):
    """`90`, `90s`, `15m`, `2h`."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value))
        if found is None:
            self.fail(f"{value!r} is not like 90s, 15m or 2h", param, ctx)
        return float(found[1]) * _UNITS_S[found[2] or "s"]


@click.group()
def intake() -> None:
    """Show and switch whether a host claims work."""


@intake.command()
@daemon_options
@json_option
def status(url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Show whether a host claims work, and if not why. Reads.

    With --json: {"version", "url", "intake"}, as in GET /api/intake.
    """
    with Daemon(url, config_file) as daemon:
        _show(daemon.url, daemon.get("/api/intake"), as_json=as_json)


@intake.command()
@click.option("--fleet", is_flag=True, help="All hosts; asked of the primary. A host's own word goes before that.")
@daemon_options
@json_option
def on(fleet: bool, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Claim work. Changes this host, or all, across restarts.

    With --json: {"version", "url", "intake"}.
    """
    _switch(url, config_file, is_on=True, fleet=fleet, as_json=as_json)


@intake.command()
@click.option("--fleet", is_flag=True, help="All hosts; asked of the primary. A host's own word goes before that.")
@daemon_options
@json_option
def off(fleet: bool, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Claim nothing new, and keep what is held. Changes this host, or all, across restarts.

    With --json: {"version", "url", "intake"}.
    """
    _switch(url, config_file, is_on=False, fleet=fleet, as_json=as_json)


def _switch(url: str | None, config_file: Path | None, *, is_on: bool, fleet: bool, as_json: bool) -> None:
    content = json.dumps({"on": is_on, "fleet": fleet}).encode()
    with Daemon(url, config_file, {"not-primary": "name the primary's daemon with --url"}) as daemon:
        _show(daemon.url, daemon.request("PUT", "/api/intake", content, JSON_HEADERS).body, as_json=as_json)


def _show(url: str, found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(url=url, intake=found)
        return
    rows = [
        ("instance", shown(found["instanceId"])),
        ("intake", "on" if found["on"] else "off"),
        ("claims work now", "yes" if found["claims"] else f"no: {found['why']}"),
        ("holds or asks for", shown(found["holding"])),
        ("room for", f"{found['free']} of {found['maxAgents']}"),
        ("decides about claims", shown(found["decides"] or True)),
    ]
    print_table((), rows)


@click.command()
@click.option(
    "--timeout", type=DurationType(), default="2h", show_default=True, help="How long to wait until it is idle."
)
@click.option("--release", is_flag=True, help="Give back what is held, instead of waiting for it.")
@click.option("--stop", is_flag=True, help="End the daemon once it is idle.")
@daemon_options
@json_option
def drain(timeout: float, release: bool, stop: bool, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Claim nothing new, and return when the host is idle.

    What is held is kept until it is done. Changes what the host takes: it shows as draining everywhere until `meshd
    undrain`, or until it is started again. What it waits for is told on standard error. Exit code 1 when it is not idle
    in time: it stays draining then, and is not ended.

    With --json: {"version", "url", "drain", "stopped"}: drain is as in GET /api/drain, stopped says whether the daemon
    was told to end.
    """
    ends_s = time.monotonic() + timeout
    with Daemon(url, config_file) as daemon:
        found = _begin(daemon, release=release)
        told = ""
        while not found["idle"] and time.monotonic() < ends_s:
            if told != (told := _held(found)):
                click.echo(f"waits for {told}", err=True)
            time.sleep(min(LOOK_EVERY_S, max(0.0, ends_s - time.monotonic())))
            found = daemon.get("/api/drain")
        if is_stopped := stop and found["idle"]:
            _begin(daemon, stop=True)
    if as_json:
        print_json(url=daemon.url, drain=found, stopped=is_stopped)
    elif found["idle"]:
        click.echo("idle; the daemon ends" if is_stopped else "draining, and idle")
    else:
        click.echo(f"draining, and still holds {_held(found)}" + ("; the daemon was not ended" if stop else ""))
    if not found["idle"]:
        click.get_current_context().exit(EX_NOT_SO)


def _begin(daemon: Daemon, **how: bool) -> dict[str, Any]:
    found: dict[str, Any] = daemon.request("POST", "/api/drain", json.dumps(how).encode(), JSON_HEADERS).body
    return found


def _held(found: Mapping[str, Any]) -> str:
    """What a host still holds, on one line."""
    places = (f"{each['project']}/{each['milestone']}/{each['phase']} ({each['state']})" for each in found["held"])
    return clean(", ".join(places))


@click.command()
@daemon_options
@json_option
def undrain(url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Take new work again.

    Changes what the host takes.

    With --json: {"version", "url", "drain"}.
    """
    with Daemon(url, config_file) as daemon:
        found = daemon.request("DELETE", "/api/drain").body
    if as_json:
        print_json(url=daemon.url, drain=found)
    else:
        click.echo("it claims work again" if not found["draining"] else "it is being stopped: that is not undone")


@click.command()
@daemon_options
@json_option
def audits(url: str | None, config_file: Path | None, as_json: bool) -> None:
    """List what two sides of a partition had both claimed.

    As this host saw it, latest first; the primary sees all of it. Reads.

    With --json: {"version", "url", "audits"}, as in GET /api/audits.
    """
    with Daemon(url, config_file) as daemon:
        found: list[Any] = daemon.request("GET", "/api/audits").body["audits"]
    if as_json:
        print_json(url=daemon.url, audits=found)
    elif found:
        rows = []
        for each in found:
            told = each["payload"]
            place = f"{told['projectSlug']}/{told['milestoneSlug']}/{told['phaseSlug']}"
            rows.append(
                (shown(each["timestamp"]), place, shown(told["kept"]), shown(told["released"]), told["outcome"])
            )
        print_table(("when", "phase", "kept by", "released by", "outcome"), rows)
    else:
        click.echo("nothing was claimed twice")
