"""The command `meshd`: the table of verbs, its help, and how little it imports."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

import meshd as package
from meshd.cli.root import VERBS, root

from .conftest import meshd

HEAVY = ("trio", "httpx", "rich", "quart", "cattrs", "attrs", "ruamel.yaml", "meshd.config", "meshd.daemon")


def walk(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    """The command and all below it, with their paths."""
    found = [(path, command)]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found += walk(below, (*path, name))
    return found


LEAVES = {" ".join(path): command for path, command in walk(root) if not isinstance(command, click.Group)}


@pytest.mark.parametrize("verb", VERBS)
def test_each_entry_of_the_table_resolves_and_says_what_the_verb_itself_says(verb: str) -> None:
    command = root.get_command(click.Context(root), verb)

    assert command is not None
    assert command.name == verb
    assert command.get_short_help_str(limit=200) == VERBS[verb][1]


@pytest.mark.parametrize("verb", LEAVES)
def test_each_verb_has_json_with_a_documented_version(verb: str) -> None:
    command = LEAVES[verb]
    assert any("--json" in parameter.opts for parameter in command.params)
    assert "With --json: " in (command.help or "")
    assert '{"version"' in (command.help or "")


@pytest.mark.parametrize("verb", LEAVES)
def test_each_verb_says_whether_it_reads_or_changes(verb: str) -> None:
    assert any(word in (LEAVES[verb].help or "") for word in ("Reads", "Changes", "changes"))


def test_help_lists_the_verbs_and_the_exit_codes() -> None:
    result = meshd("--help")

    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.partition("Commands:\n")[2].splitlines()] == list(VERBS)
    assert "69 no daemon answers" in result.output


def test_the_version() -> None:
    assert meshd("--version").output == f"meshd {package.__version__}\n"


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [(("statsu",), "status"), (("member",), "members"), (("projects", "shwo"), "show"), (("config", "chek"), "check")],
)
def test_a_mistyped_verb_is_answered_with_what_was_meant(mistyped: tuple[str, ...], meant: str) -> None:
    result = meshd(*mistyped)

    assert result.exit_code == 2
    assert f"Did you mean '{meant}'?" in result.output


def test_a_word_like_no_verb_is_an_error_without_a_guess() -> None:
    result = meshd("xyzzy")

    assert result.exit_code == 2
    assert "Did you mean" not in result.output


def test_importing_the_command_imports_nothing_heavy() -> None:
    code = f"import sys, meshd.__main__, meshd.cli.root; print([m for m in {HEAVY!r} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_an_interrupt_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: click.Context) -> None:
        raise KeyboardInterrupt

    status = root.get_command(click.Context(root), "status")
    assert status is not None
    monkeypatch.setattr(status, "invoke", interrupted)

    result = meshd("status")

    assert result.exit_code == 130
    assert result.output == ""
