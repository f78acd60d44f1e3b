"""`meshd promote` and `meshd step-down`: ask for another leader, and wait until it leads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from meshd.cli.client import Daemon, daemon_options
from meshd.cli.leader import failover_text, leader_name
from meshd.cli.outcome import Refused
from meshd.cli.output import Verb, clean, duration, json_option, print_json, shown

POLL_S = 0.2
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0}

# What to do about a refusal where it is not what other verbs advise.
ADVICE = {
    "not-found": "`meshd members` lists the instances, `meshd leader` the voters",
    "not-primary": "ask the one that leads, with --url: `meshd leader` names it",
    "no-successor": "`meshd check failover` says what is missing",
    "invalid": "`meshd leader` shows which voters may lead",
}


class Duration(click.ParamType[float]):
    """`30s`, `500ms`, `2m` or `30`, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = str(value).rstrip("abcdefghijklmnopqrstuvwxyz")
        unit_s = _UNITS_S.get(str(value)[len(number) :] or "s")
        try:
            seconds = float(number) * (unit_s or 0.0)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= 86_400:
            self.fail(f"{value!r} is no time such as 30s, 500ms or 2m", param, ctx)
        return seconds


def _timeout_option(verb: Verb) -> Verb:
    help_text = "How long to wait for it."
    return click.option("--timeout", "timeout_s", type=Duration(), default="30s", show_default=True, help=help_text)(
        verb
    )


@click.command()
@click.argument("instance", required=False)
@_timeout_option
@daemon_options
@json_option
def promote(instance: str | None, timeout_s: float, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Make another instance lead.

    Asks that INSTANCE leads (the one that is asked, when none is named) and waits until it does, as seen from there.
    Changes who leads.

    Exit code 1 when it does not lead in time, with the reason as far as it is known here. The request stands then all
    the same, and may still take effect.

    With --json: {"version", "url", "before", "leadership", "turns", "seconds"}: before and leadership are as in
    GET /api/leadership, turns is what the history got meanwhile.
    """
    with Daemon(url, config_file, ADVICE) as daemon:
        before = daemon.get("/api/leadership")
        wanted = instance or str(before["instanceId"])
        body = json.dumps({"instanceId": instance}).encode() if instance else None
        wait = _Wait(daemon, before, timeout_s, lambda found: _leads(found, wanted))
        done = wait.after("/api/leadership/promote", body)
    if not done.succeeded:
        reason = _why_not(done.found, wanted)
        detail = f"{wanted} does not lead after {duration(done.seconds)}: {_now(done.found)}; {reason}"
        raise Refused("timeout", clean(f"{detail}; see `meshd leader`, and try again with a longer --timeout"))
    _tell(done, daemon.url, as_json)


@click.command("step-down")
@_timeout_option
@daemon_options
@json_option
def step_down(timeout_s: float, url: str | None, config_file: Path | None, as_json: bool) -> None:
    """Let the primary hand over to the best successor.

    Asks the primary to, and waits until another instance leads. Changes who leads.

    Exit code 1 when it is not the primary, when nobody can take over, or when nobody has in time.

    With --json: {"version", "url", "before", "leadership", "turns", "seconds"}, as for `meshd promote`.
    """
    with Daemon(url, config_file, ADVICE) as daemon:
        before = daemon.get("/api/leadership")
        own_id = str(before["instanceId"])
        wait = _Wait(daemon, before, timeout_s, lambda found: found["primaryId"] not in (None, own_id))
        done = wait.after("/api/leadership/step-down", None)
    if not done.succeeded:
        failover = f"failover now: {failover_text(done.found['failover'])}"
        detail = f"nobody took over within {duration(done.seconds)}: {_now(done.found)}; {failover}"
        raise Refused("timeout", clean(f"{detail}; see `meshd leader`"))
    _tell(done, daemon.url, as_json)


@frozen
class _Done:
    """How the wait ended: leadership as it was and as it is, and whether it is what was waited for."""

    before: Mapping[str, Any]
    found: Mapping[str, Any]
    succeeded: bool
    seconds: float

    @property
    def turns(self) -> list[Mapping[str, Any]]:
        """What the history has got meanwhile."""
        known = max((turn["id"] for turn in self.before["history"]), default=0)
        return [turn for turn in self.found["history"] if turn["id"] > known]


@frozen
class _Wait:
    """Asks once, then looks until it `is_so` or the time is over."""

    daemon: Daemon
    before: Mapping[str, Any]
    timeout_s: float
    is_so: Callable[[Mapping[str, Any]], bool]

    def after(self, path: str, body: bytes | None) -> _Done:
        """Send the request; raises `Refused` when the daemon says no."""
        began_s = time.monotonic()
        self.daemon.request("POST", path, body, {"Content-Type": "application/json"} if body else None)
        while True:
            found = self.daemon.get("/api/leadership")
            seconds = time.monotonic() - began_s
            if self.is_so(found) or seconds >= self.timeout_s:
                return _Done(self.before, found, self.is_so(found), seconds)
            time.sleep(min(POLL_S, self.timeout_s - seconds))


def _leads(found: Mapping[str, Any], wanted: str) -> bool:
    """Whether it leads, as seen from there; who is asked about itself has to be able to decide as well."""
    return found["primaryId"] == wanted and found["authoritative"] is not False


def _why_not(found: Mapping[str, Any], wanted: str) -> str:
    """What is known about why this instance does not lead."""
    if wanted == found["instanceId"]:
        has_no_authority = found["authoritative"] is False
        return "no majority of the voters is heard" if has_no_authority else found["whyNot"] or "no reason is known"
    voter = next((voter for voter in found["voters"] if voter["instanceId"] == wanted), None)
    if voter is None:
        return "it is not among the voters"
    reasons = [
        *([f"it is {voter['status']}"] if voter["status"] != "online" else []),
        *(["it may not lead (leaderEligible: false)"] if not voter["eligible"] else []),
        *(["its documents are not in sync"] if voter["inSync"] is False else []),
    ]
    return ", ".join(reasons) or f"its own view says more (`meshd leader` on {wanted})"


def _now(found: Mapping[str, Any]) -> str:
    return f"{leader_name(found)} leads, term {shown(found['term'])}"


def _tell(done: _Done, url: str, as_json: bool) -> None:
    if as_json:
        seconds = round(done.seconds, 3)
        print_json(url=url, before=done.before, leadership=done.found, turns=done.turns, seconds=seconds)
        return
    for line in _lines(done):
        click.echo(clean(line))


def _lines(done: _Done) -> Iterable[str]:
    """What happened, a line for each turn and one for the end of it."""
    for turn in done.turns:
        leads = f"{turn['leader']} leads" if turn["leader"] else "nobody leads"
        yield f"{turn['time']}  term {turn['term']}: {leads}: {turn['cause']}"
    before, found = done.before, done.found
    if before["primaryId"] == found["primaryId"]:
        yield f"{_now(found)}, as before"
    else:
        was = f"before it {before['primaryId']}" if before["primaryId"] else "before it nobody"
        yield f"{_now(found)}, after {duration(done.seconds)}; {was}, term {shown(before['term'])}"
