"""`meshd simulate`: whole meshes in simulated time under random faults. No daemon is needed, nothing is changed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from meshd.cli.outcome import EX_NOT_SO
from meshd.cli.output import clean, json_option, print_json

if TYPE_CHECKING:
    from meshd.simulation.run import Nodes
    from meshd.simulation.simulation import Result

LINE = 220  # characters of a line of the trace


class NodesType(click.ParamType["Nodes"]):
    """`5`, or `3-7`."""

    name = "nodes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Nodes:
        from meshd.simulation.run import MAX_NODES, MIN_NODES, Nodes  # noqa: PLC0415

        if isinstance(value, Nodes):
            return value
        least, _, most = str(value).partition("-")
        if not (least.isdecimal() and (most or least).isdecimal()):
            self.fail(f"{value} is neither a number nor a range such as 3-7", param, ctx)
        nodes = Nodes(int(least), int(most or least))
        if not MIN_NODES <= nodes.least <= nodes.most <= MAX_NODES:
            self.fail(f"a mesh here has {MIN_NODES} to {MAX_NODES} instances", param, ctx)
        return nodes


@click.command()
@click.option("--seeds", type=click.IntRange(min=1), default=100, show_default=True, help="How many seeds to run.")
@click.option("--first", type=click.IntRange(min=0), default=0, show_default=True, help="The first of them.")
@click.option("--seed", type=click.IntRange(min=0), help="Run this one alone.")
@click.option("--nodes", type=NodesType(), default="3-7", show_default=True, help="Instances in a mesh, or a range.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=1, show_default=True, help="Of faults.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes; as many as there are cores when not given.")
@click.option("--trace", is_flag=True, help="With --seed: print everything that happens, a line each.")
@json_option
def simulate(
    seeds: int, first: int, seed: int | None, nodes: Nodes, hours: float, jobs: int | None, trace: bool, as_json: bool
) -> None:
    """Run whole meshes in simulated time under random faults. Changes nothing.

    Each seed is a mesh of real nodes with a simulated network, clock and disk: hours with a fault every 30 s on
    average, then all is healed, then quiet, in which everything must become equal. One seed is always the same run.

    Exit code 1 when an invariant did not hold; each such seed is printed as the command that runs it again.

    With --json: {"version", "seeds", "wallSeconds", "steps", "frames", "faults", "edits", "instanceHours",
    "violations": [{"seed", "nodes", "hours", "invariant", "text", "atSeconds", "command"}]}.
    """
    from meshd.simulation import report, run  # noqa: PLC0415  brings the core

    if trace and seed is None:
        raise click.UsageError("--trace needs --seed: it is about one run")
    started_s = time.monotonic()
    totals, found = report.Totals(), []
    if trace and seed is not None:
        results: Iterator[Result] = iter([_traced(seed, nodes.of(seed), hours)])
    else:
        chosen: Sequence[int] = range(first, first + seeds) if seed is None else [seed]
        results = _shown(run.run(chosen, nodes, hours, jobs), len(chosen))
    for result in results:
        totals.add(result)
        if result.invariant:
            found.append(result)
            if not as_json:
                click.echo(clean_lines(report.violation(result)))
    wall_s = time.monotonic() - started_s
    if as_json:
        print_json(**totals.json(wall_s), violations=[report.violation_json(result) for result in found])
    else:
        click.echo(totals.text(wall_s))
    if found:
        click.get_current_context().exit(EX_NOT_SO)


def _traced(seed: int, nodes: int, hours: float) -> Result:
    from meshd.simulation.simulation import simulate as simulate_one  # noqa: PLC0415

    return simulate_one(seed, nodes, hours, trace=lambda line: click.echo(clean(line)[:LINE], err=True))


def _shown(results: Iterator[Result], count: int) -> Iterator[Result]:
    """Say on standard error how far it is: a bar on a terminal, elsewhere a line for each tenth."""
    if count < 2:
        yield from results
    elif sys.stderr.isatty():
        with click.progressbar(results, length=count, label="seeds", show_pos=True, file=sys.stderr) as bar:
            yield from bar
    else:
        for number, result in enumerate(results, start=1):
            yield result
            if number * 10 // count > (number - 1) * 10 // count:
                click.echo(f"{number} of {count} seeds", err=True)


def clean_lines(text: str) -> str:
    """Several lines, each fit for a terminal."""
    return "\n".join(clean(line) for line in text.split("\n"))
