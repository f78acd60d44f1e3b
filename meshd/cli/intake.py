"""`meshd intake`, `meshd drain`, `meshd undrain`, `meshd audits`: whether a host takes work."""

from __future__ import annotations

import json
import re
import time
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
@click.option("--stop", is_flag=True, help="End the daemon as well; running commands have drain.workTimeoutMs.")
@daemon_options
@json_option
def drain(timeout: float, release: bool, stop: bool, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Claim nothing new, keep what is held, and return when the host is idle. Changes what it takes.

    It shows as draining everywhere until `meshd undrain`, or until it is started again. Exit code 1 when it is not
    idle in time; it stays draining.

    With --json: {"version", "url", "drain"}, as in GET /api/drain.
    """
    ends_s = time.monotonic() + timeout
    content = json.dumps({"release": release, "stop": stop}).encode()
    with Daemon(url, config_file) as daemon:
        found: dict[str, Any] = daemon.request("POST", "/api/drain", content, JSON_HEADERS).body
        while not stop and not found["idle"] and time.monotonic() < ends_s:
            time.sleep(LOOK_EVERY_S)
            found = daemon.get("/api/drain")
    _drained(daemon.url, found, stop=stop, as_json=as_json)


def _drained(url: str, found: dict[str, Any], *, stop: bool, as_json: bool) -> None:
    held = [f"{each['project']}/{each['milestone']}/{each['phase']} ({each['state']})" for each in found["held"]]
    if as_json:
        print_json(url=url, drain=found)
    elif stop:
        click.echo("it drains and ends")
    else:
        click.echo("draining, and idle" if found["idle"] else clean(f"draining, and still holds {', '.join(held)}"))
    if not stop and not found["idle"]:
        click.get_current_context().exit(EX_NOT_SO)


@click.command()
@daemon_options
@json_option
def undrain(url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Take new work again. Changes what the host takes.

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
    """List what two sides of a partition had both claimed, as this host saw it, latest first. Reads.

    The primary sees all of it. With --json: {"version", "url", "audits"}, as in GET /api/audits.
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
