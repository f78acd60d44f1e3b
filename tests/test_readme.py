"""What the README says of the product, held against the product."""

from __future__ import annotations

import re
from pathlib import Path

import meshd
from meshd.cli.root import root
from meshd.config import reference

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_configuration_reference_is_the_one_of_the_code() -> None:
    begin, end = "<!-- config reference: begin -->\n", "\n<!-- config reference: end -->"
    assert reference().strip() == README.partition(begin)[2].partition(end)[0].strip()


def test_every_path_it_names_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    table = README.partition("## Where things are")[2]
    named = [
        path
        for path in re.findall(r"`([a-z_]+(?:/[a-z_]*(?:\.py)?)+)`", table)
        if not path.startswith(("shell", "e2e"))
    ]
    assert links
    assert named
    for path in [*links, *named]:
        assert (ROOT / path).exists(), path


def test_every_verb_it_names_exists() -> None:
    verbs = set(re.findall(r"(?:^|`|\$ )\s*meshd ([a-z]+(?:-[a-z]+)*)", README, re.MULTILINE))
    assert verbs
    for verb in verbs:
        context = root.make_context("meshd", [], resilient_parsing=True)
        assert root.get_command(context, verb) is not None, verb


def test_the_version_is_stated_once() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", meshd.__version__)
    assert "version = " not in (ROOT / "pyproject.toml").read_text().partition("[tool")[0]
