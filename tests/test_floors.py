"""The architecture page's promises about the source: floors, sizes, names, and what may stand where."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "meshd").rglob("*.py"))

FLOORS: dict[str, int] = {
    "meshd": -1,  # its version; `meshd/__init__.py` imports nothing
    "meshd.model": 0,
    "meshd.project": 0,
    "meshd.errors": 0,
    "meshd.configuration": 0,
    "meshd.core": 1,
    "meshd.config": 2,
    "meshd.config_check": 2,
    "meshd.wire": 2,
    "meshd.wire_rules": 2,
    "meshd.websocket": 2,
    "meshd.links": 2,
    "meshd.sockets": 2,
    "meshd.logs": 2,
    "meshd.store": 2,
    "meshd.store_file": 2,
    "meshd.store_memory": 2,
    "meshd.store_rows": 2,
    "meshd.workspace": 2,
    "meshd.workspace_files": 2,
    "meshd.events": 2,
    "meshd.agents": 2,
    "meshd.agents_files": 2,
    "meshd.agents_guard": 2,
    "meshd.agents_memory": 2,
    "meshd.guard": 2,
    "meshd.capacity": 2,
    "meshd.client": 2,
    "meshd.client_calls": 2,
    "meshd.client_sync": 2,
    "meshd.systemd": 2,
    "meshd.driver": 3,
    "meshd.connections": 3,
    "meshd.runner": 3,
    "meshd.edits": 3,
    "meshd.disk_watch": 3,
    "meshd.api": 3,
    "meshd.simulation": 3,
    "meshd.daemon": 4,
    "meshd.cli": 5,
    "meshd.__main__": 5,
}
"""The floor of each module, or of each package with everything in it."""

TOGETHER = {"meshd.core", "meshd.api", "meshd.cli", "meshd.simulation"}
"""Packages whose modules may import each other."""

SAME_FLOOR = {
    ("meshd.project", "meshd.model"),
    ("meshd.project", "meshd.errors"),
    ("meshd.configuration", "meshd.model"),
    ("meshd.websocket", "meshd.links"),  # the port that it implements
    ("meshd.websocket", "meshd.sockets"),
    ("meshd.config", "meshd.config_check"),  # one edge in two files: reading, and relations between what was read
    ("meshd.config_check", "meshd.config"),
    ("meshd.store", "meshd.store_rows"),  # one edge in four files: the store, what it keeps, its file, its twin
    ("meshd.store", "meshd.store_file"),
    ("meshd.store", "meshd.store_memory"),
    ("meshd.store_memory", "meshd.store_rows"),
    ("meshd.store_memory", "meshd.store_file"),
    ("meshd.wire", "meshd.wire_rules"),  # one edge in two files: messages, and what their values may be
    ("meshd.workspace", "meshd.workspace_files"),  # one edge in two files: what to write, and how on a disk
    ("meshd.agents", "meshd.agents_files"),  # one edge in four files: runs, their files, their guards, their twin
    ("meshd.agents", "meshd.agents_guard"),
    ("meshd.agents", "meshd.agents_memory"),
    ("meshd.agents_memory", "meshd.agents_guard"),
    ("meshd.client", "meshd.client_calls"),  # one edge in three files: for trio, for threads, and what both ask
    ("meshd.client", "meshd.client_sync"),
    ("meshd.client_sync", "meshd.client_calls"),
    ("meshd.__main__", "meshd.cli"),  # the entry point
}
CORE_NEVER = {"trio", "time", "random", "logging", "json", "orjson", "os", "pathlib", "asyncio"}
CORE_MAY = {"attrs", "meshd"}  # beside the standard library

NURSERIES = {
    *("meshd.connections", "meshd.driver", "meshd.runner", "meshd.daemon", "meshd.api", "meshd.cli"),
    "meshd.websocket",  # the library's reader runs in one, and so does each link that is accepted
    "meshd.links",  # accepts in memory as the websocket does
    "meshd.client",  # the block of a claim has a task beside it that watches the claim
}
CATCHES_ALL = {
    "meshd.connections",  # one link's crash
    "meshd.api",  # one HTTP connection's
    "meshd.simulation",  # one seed's: what a node raises is what the seed found
    "meshd.websocket",  # whatever a peer's bytes make the library raise
    "meshd.client",  # whatever ends an application's block is told, and goes on
    "meshd.client_sync",
}
CLIENT_MAY = {"meshd.client_calls", "meshd.client_sync", "meshd.errors", "meshd.model"}
NO_NAMES = {"util", "utils", "helper", "helpers", "manager", "handler", "service"}


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unit_of(module: str) -> str:
    """The key in `FLOORS` that a module belongs to."""
    parts = module.split(".")
    return next(
        (name for end in range(len(parts), 1, -1) if (name := ".".join(parts[:end])) in FLOORS),
        module if module in FLOORS else "",
    )


def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def imports_of(file: Path) -> Iterator[tuple[int, str]]:
    """Every import, wherever it stands, with its line; `from package import module` names the module."""
    for node in ast.walk(tree_of(file)):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom(module=str(source), level=0):
                names = [f"{source}.{alias.name}" for alias in node.names]
                inner = [name for name in names if (ROOT / name.replace(".", "/")).with_suffix(".py").exists()]
                inner += [name for name in names if (ROOT / name.replace(".", "/") / "__init__.py").exists()]
                yield from ((node.lineno, name) for name in (inner or [source]))
            case ast.ImportFrom():
                yield node.lineno, "." * node.level


def by_module() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", FILES, ids=module_of)


def may_import(importer: str, imported: str) -> bool:
    here, there = unit_of(importer), unit_of(imported)
    if here == there:
        return here in TOGETHER
    if (here, there) in SAME_FLOOR:
        return True
    if here == "meshd.simulation":
        return FLOORS[there] <= 1
    return FLOORS[there] < FLOORS[here]


# Floors


@by_module()
def test_every_module_stands_on_a_floor(file: Path) -> None:
    assert unit_of(module_of(file)) in FLOORS


@by_module()
def test_imports_go_down(file: Path) -> None:
    importer = module_of(file)
    for line, name in imports_of(file):
        assert not name.startswith("."), f"{file}:{line}: a relative import"
        if name.split(".")[0] == "meshd":
            assert unit_of(name), f"{file}:{line}: {name} is on no floor"
            assert may_import(importer, name), f"{file}:{line}: {importer} imports {name}"


@pytest.mark.parametrize("file", [file for file in FILES if "core" in file.parts], ids=module_of)
def test_the_core_is_pure(file: Path) -> None:
    from sys import stdlib_module_names  # noqa: PLC0415  nothing else here needs it

    for line, name in imports_of(file):
        first = name.split(".")[0]
        assert first not in CORE_NEVER, f"{file}:{line}: {name}"
        assert first in CORE_MAY or first in stdlib_module_names, f"{file}:{line}: {name} is not ours"


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("meshd.core.node", "meshd.model", True),
        ("meshd.core.node", "meshd.core.clock", True),
        ("meshd.core.node", "meshd.store", False),
        ("meshd.model", "meshd.core.node", False),
        ("meshd.model", "meshd.errors", False),
        ("meshd.store", "meshd.wire", False),
        ("meshd.websocket", "meshd.links", True),
        ("meshd.links", "meshd.websocket", False),
        ("meshd.driver", "meshd.connections", False),
        ("meshd.api.app", "meshd.driver", False),
        ("meshd.api.app", "meshd.api.health", True),
        ("meshd.simulation.world", "meshd.wire", False),
        ("meshd.simulation.world", "meshd.core.node", True),
        ("meshd.cli.run", "meshd.daemon", True),
        ("meshd.daemon", "meshd.cli.run", False),
    ],
)
def test_the_rule_itself(importer: str, imported: str, allowed: bool) -> None:
    assert may_import(importer, imported) is allowed


# Sizes and names


@by_module()
def test_a_file_has_at_most_500_lines(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 500


@by_module()
def test_a_function_has_at_most_60_lines(file: Path) -> None:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, f"{file}:{node.lineno}: {node.name}"


@by_module()
def test_no_module_is_named_after_nothing(file: Path) -> None:
    words = {word for part in module_of(file).split(".") for word in part.lower().split("_")}
    assert not words & NO_NAMES


@by_module()
def test_every_module_says_what_it_is_for(file: Path) -> None:
    tree = tree_of(file)
    assert ast.get_docstring(tree) or not tree.body, f"{file} has no docstring"


@pytest.mark.parametrize("file", [file for file in FILES if file.name == "__init__.py"], ids=module_of)
def test_packages_hold_no_logic(file: Path) -> None:
    for node in tree_of(file).body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_version = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
        assert is_docstring or is_version, f"{file}:{node.lineno}: {ast.unparse(node)[:60]}"


# What may stand where


def _caught(node: ast.expr | None) -> set[str]:
    return {"everything"} if node is None else {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


@by_module()
def test_only_the_guards_survive_anything(file: Path) -> None:
    """Elsewhere an unexpected exception takes the daemon down, and systemd restarts it."""
    if unit_of(module_of(file)) in CATCHES_ALL:
        return
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.ExceptHandler):
            assert not _caught(node.type) & {"everything", "Exception", "BaseException"}, f"{file}:{node.lineno}"


@by_module()
def test_nurseries_are_where_the_design_has_them(file: Path) -> None:
    if unit_of(module_of(file)) in NURSERIES:
        return
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Attribute):
            assert node.attr != "open_nursery", f"{file}:{node.lineno}"


@by_module()
def test_no_channel_is_without_a_bound(file: Path) -> None:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Call) and "open_memory_channel" in ast.unparse(node.func):
            assert "inf" not in ast.unparse(node.args[0]), f"{file}:{node.lineno}"


@by_module()
def test_nothing_is_global_that_changes(file: Path) -> None:
    for node in ast.walk(tree_of(file)):
        assert not isinstance(node, ast.Global), f"{file}:{node.lineno}"


@pytest.mark.parametrize("file", [file for file in FILES if file.stem.startswith("client")], ids=module_of)
def test_the_client_needs_nothing_of_the_daemon(file: Path) -> None:
    if unit_of(module_of(file)) != "meshd.cli":
        assert {name for _, name in imports_of(file) if name.startswith("meshd")} <= CLIENT_MAY


def test_the_guard_needs_nothing_but_the_standard_library() -> None:
    """It starts without site-packages, and each import costs every run."""
    names = {name for _, name in imports_of(ROOT / "meshd" / "guard.py")}
    assert names == {"__future__", "ctypes", "os", "select", "signal", "sys", "time"}
