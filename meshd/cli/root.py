"""The command `meshd` and the table of its verbs, each imported when it is named."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click
from click.formatting import HelpFormatter

import meshd
from meshd.cli.outcome import EX_INTERRUPTED

# verb -> (where its command is, what `meshd --help` says about it)
VERBS: Mapping[str, tuple[str, str]] = {
    "run": ("meshd.cli.run:run", "Run the daemon of this host."),
    "demo": ("meshd.cli.demo.command:demo", "Run three daemons that share out work, and kill one of them."),
    "status": ("meshd.cli.status:status", "Show what a daemon says about itself."),
    "members": ("meshd.cli.members:members", "List the instances of the mesh as one of them sees them."),
    "leader": ("meshd.cli.leader:leader", "Show who leads, since when and why."),
    "promote": ("meshd.cli.hand_over:promote", "Make another instance lead."),
    "step-down": ("meshd.cli.hand_over:step_down", "Let the primary hand over to the best successor."),
    "check": ("meshd.cli.check:check", "Check whether something would work, before it is needed."),
    "alerts": ("meshd.cli.alerts:alerts", "List what needs a person."),
    "work": ("meshd.cli.work:work", "Show who works on what."),
    "why": ("meshd.cli.work:why", "Show why a phase is not claimed, or not here."),
    "claim": ("meshd.cli.settle:claim", "Have this host take a phase."),
    "done": ("meshd.cli.settle:done", "Say that a phase is done."),
    "fail": ("meshd.cli.settle:fail", "Say that an attempt at a phase has failed."),
    "release": ("meshd.cli.settle:release", "Give a phase back, so that any host may claim it."),
    "retry": ("meshd.cli.settle:retry", "Let a phase be tried again that has failed, or was done."),
    "features": ("meshd.cli.work:features", "Show the work items that a host made of its claims."),
    "intake": ("meshd.cli.intake:intake", "Show and switch whether a host claims work."),
    "drain": ("meshd.cli.intake:drain", "Claim nothing new, and return when the host is idle."),
    "undrain": ("meshd.cli.intake:undrain", "Take new work again."),
    "audits": ("meshd.cli.intake:audits", "List what two sides of a partition had both claimed."),
    "projects": ("meshd.cli.projects:projects", "List, show, put and remove project documents."),
    "conflicts": ("meshd.cli.conflicts:conflicts", "List what lost a conflict, and take it back."),
    "settings": ("meshd.cli.settings:settings", "Show and change the settings that all instances share."),
    "events": ("meshd.cli.events:events", "Show what happens on an instance."),
    "compaction": ("meshd.cli.compaction:compaction", "Show what the documents take, and acknowledge large ones."),
    "simulate": ("meshd.cli.simulate:simulate", "Run whole meshes in simulated time under random faults."),
    "config": ("meshd.cli.config:config", "Check or show a configuration file."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported from a table when they are named, and listed without being imported."""

    def __init__(self, *args: Any, verbs: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  signature of click
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  of click
        if cmd_name not in self.verbs:
            return None
        module, _, attribute = self.verbs[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command), f"{module}:{attribute} is not a command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            # click looks for near misses among the commands it knows, and of these it knows none.
            raise click.NoSuchCommand(error.command_name, possibilities=self.verbs, ctx=ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(EX_INTERRUPTED)

    def format_commands(self, ctx: click.Context, formatter: HelpFormatter) -> None:  # noqa: ARG002  of click
        with formatter.section("Commands"):
            formatter.write_dl([(verb, summary) for verb, (_, summary) in self.verbs.items()])


@click.group(cls=LazyGroup, verbs=VERBS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(meshd.__version__, message="%(prog)s %(version)s")
def root() -> None:
    """A mesh daemon: one per host, equal project documents everywhere.

    Begin with `meshd demo`. On a host of your own, copy proto.config.yaml, check it with `meshd config check`, start
    it with `meshd run`, and ask it with `meshd status`.

    \b
    Exit codes: 0 it is so, 1 it is not so or was refused, 2 wrong command line,
    69 no daemon answers, 78 the configuration cannot be used.
    """
