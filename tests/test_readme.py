"""What the README says of the product, held against the product."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import meshd
from meshd.cli.root import root
from meshd.config import reference
from meshd.model import Json, JsonObject
from tests.api.local import Local
from tests.api.serving import serving
from tests.api.working import at_work

ROOT = Path(__file__).parents[1]
WITHIN_S = 8.0
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


def example(imports: str) -> str:
    """The block of Python that begins with this import."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    return next(str(block) for block in blocks if imports in block)


async def test_the_example_for_trio_works_on_one_phase_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    local, built = await at_work("p", "q"), []

    async def build(feature: JsonObject) -> str:
        await trio.lowlevel.checkpoint()
        built.append(feature["phaseSlug"])
        return f"https://x/{len(built)}"

    code, _, ending = example("meshd.client import Client").partition("trio.run(main)")
    assert not ending.strip()
    names: dict[str, Any] = {"build": build}
    exec(code, names)  # what the README tells people to write
    with trio.fail_after(WITHIN_S):
        async with serving(local) as url, trio.open_nursery() as nursery:
            monkeypatch.setenv("MESHD_URL", url)
            nursery.start_soon(names["main"])
            while done(local) != {"p": "https://x/1", "q": "https://x/2"}:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


async def test_the_example_without_a_loop_works_on_a_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    local, steps = await at_work("p"), []

    def steps_of(feature: JsonObject) -> list[Callable[[], None]]:
        return [lambda: steps.append(feature["phaseSlug"])] * 2

    names: dict[str, Any] = {"steps": steps_of}
    with trio.fail_after(WITHIN_S):
        async with serving(local) as url:
            monkeypatch.setenv("MESHD_URL", url)
            await trio.to_thread.run_sync(exec, example("meshd.client import SyncClient"), names)
    assert steps == ["p", "p"]
    assert done(local) == {"p": None}


def done(local: Local) -> dict[str, Json]:
    """The results of the phases that are done."""
    features = local.node.snapshot(local.now).work.features.values()
    return {each.phase: each.fields.get("prUrl") for each in features if each.status == "done"}


def test_every_code_that_applications_are_told_of_is_there() -> None:
    section = README.partition("### For applications")[2].partition("\n### ")[0]
    table = section.partition("| code | status |")[2]
    told = set(
        re.findall(r"`([a-z-]+)`", " ".join(line.split("|")[1] for line in table.splitlines() if "|" in line[1:]))
    )
    code = "\n".join(file.read_text() for file in (ROOT / "meshd").rglob("*.py"))
    assert "not-claimable" in told
    assert all(f'"{each}"' in code for each in told)
    of_api = "".join((ROOT / "meshd" / "api" / f"{name}.py").read_text() for name in ("work", "phases", "handout"))
    assert set(re.findall(r'ApiError\(\d+, "([a-z-]+)"', of_api)) <= told


def test_the_version_is_stated_once() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", meshd.__version__)
    assert "version = " not in (ROOT / "pyproject.toml").read_text().partition("[tool")[0]
