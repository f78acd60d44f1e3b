"""The verb `meshd demo`."""

from __future__ import annotations

import click

from meshd.cli.output import json_option


@click.command()
@click.option("--seconds", type=click.FloatRange(min=1), help="End after this time instead of at Ctrl-C.")
@click.option("--keep", is_flag=True, help="Leave the folder with workspaces, logs and configuration files.")
@json_option
def demo(seconds: float | None, keep: bool, as_json: bool) -> None:
    """Run three daemons that share out work, and kill one of them.

    Starts three daemons on loopback below a temporary folder, puts a project on one, and shows how they work through
    its phases, each once and in order, while the primary is killed and comes back. Goes on until Ctrl-C, which drains
    them. Changes nothing outside that folder.

    Exit code 0 when everything happened that it promises (with Ctrl-C: everything up to then), else 1.

    With --json: one object per line and fact: {"version", "elapsed", "fact", "text", ...}; the last has the fact
    "end" and {"ok", "kept", "missing", "untried", "failure"}; untried is what Ctrl-C came before.
    """
    import trio  # noqa: PLC0415  takes 100 ms

    from meshd.cli.demo.stage import play  # noqa: PLC0415  brings httpx and psutil

    click.get_current_context().exit(trio.run(play, seconds, keep, as_json))
