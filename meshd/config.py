"""Read `proto.config.yaml` and the `MESHD_*` environment, once, at the border: nothing later checks a value again.

Rules:

- Every problem is found in one reading, and each names its place: file, line and column (from 1), or the variable.
- An unknown key is a warning, never an error, and so is a top-level section that is not ours: it is left alone.
- The environment goes over the file, the file over the defaults. An empty variable counts as not set.
- Whatever the file holds, the answer is a `Loaded` or a `ConfigError`.

The file is composed into YAML nodes and read from there, not constructed into Python objects: a node knows its line,
shows a duplicate key twice, and is never more than text, so that no tag can build an object. Plain values are read as
YAML 1.2 reads them: `yes` and `017` are texts. What a key may hold is in `meshd.config_check`.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import attrs
from attrs import define, field, frozen
from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from meshd.config_check import FOREIGN, KEYS, RELATIONS, Key, Refused, found, nearest, snake
from meshd.configuration import Configuration
from meshd.core.settings_schema import sift
from meshd.errors import ConfigError, Problem
from meshd.model import Json

MAX_FILE_BYTES = 262_144  # fifty times what a person writes, and the parser needs seconds for it
MAX_DEPTH = 50  # every level costs stack, and an alias can stand for itself
MAX_VALUES = 100_000  # aliases of aliases can stand for more values than memory holds

# Read by the command line, not by the configuration; and what agents are given (`meshd.agents`), who may run it too.
OTHER_VARIABLES = frozenset({
    *("MESHD_CONFIG", "MESHD_URL"),
    *("MESHD_FEATURE_ID", "MESHD_PROJECT", "MESHD_MILESTONE", "MESHD_PHASE", "MESHD_GENERATION", "MESHD_CLAIM"),
    *("MESHD_API", "MESHD_FEATURE_FILE"),
})  # fmt: skip

_SHOWN_CHARACTERS = 200  # of a key or a message of the parser, either of which the file may stretch

_BY_NAME = {key.name: key for key in KEYS}
_SECTIONS = tuple(dict.fromkeys(key.section for key in KEYS if key.section))
_BY_VARIABLE = {key.variable: key for key in KEYS if key.variable}
_STANDARD_TAG = "tag:yaml.org,2002:"
_MERGE_TAG = _STANDARD_TAG + "merge"


@frozen
class Entry:
    """One key with its value as JSON and where it came from: "file:line", a variable's name, or "default"."""

    key: str
    value: Json
    origin: str


@frozen
class Loaded:
    """A configuration that can be used, with what is odd about it and where each value came from."""

    configuration: Configuration
    warnings: tuple[Problem, ...]
    entries: tuple[Entry, ...]

    @property
    def origins(self) -> Mapping[str, str]:
        return {entry.key: entry.origin for entry in self.entries}


def default_path() -> Path:
    """The file that is read when none is named."""
    return Path("proto.config.yaml")


def load(path: Path, environ: Mapping[str, str]) -> Loaded:
    """Read the file and the environment over it.

    Raises `ConfigError` with every problem when one of them is fatal; the warnings are among them.
    """
    reading = _Reading(str(path), Path(os.path.normpath(path.absolute().parent)))
    try:
        root = _compose(path)
    except _Unreadable as unreadable:
        raise ConfigError((attrs.evolve(unreadable.problem, file=str(path)),)) from unreadable.__cause__
    reading.read_root(root)
    reading.read_environment(environ)
    reading.sift_shared_settings()
    reading.fill_defaults()
    configuration = reading.configuration()
    reading.check_relations(configuration)
    reading.check_workspace(configuration)
    problems = tuple(sorted(reading.problems, key=lambda problem: (problem.line == 0, problem.line, problem.column)))
    if any(problem.fatal for problem in problems):
        raise ConfigError(problems)
    return Loaded(configuration, problems, reading.entries())


def reference() -> str:
    """Every key with its default, its environment variable and its meaning: a table in Markdown."""
    rows = ["| key | default | environment | meaning |", "|---|---|---|---|"]
    for key in KEYS:
        variable = f"`{key.variable}`" if key.variable else "-"
        choices = f" ({', '.join(f'`{choice}`' for choice in key.kind.choices)})" if key.kind.choices else ""
        rows.append(f"| `{key.name}` | {_default_shown(key)} | {variable} | {key.meaning}{choices} |")
    return "\n".join(rows) + "\n"


def _default_shown(key: Key) -> str:
    value = _as_json(_default(key))
    if key.default:
        return key.default
    if value in (None, "", [], {}):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _default(key: Key) -> object:
    defaults = Configuration()
    section = getattr(defaults, snake(key.section)) if key.section else defaults
    return getattr(section, key.attribute)


def _as_json(value: Any) -> Json:
    match value:
        case Enum():
            return str(value)
        case Path():
            return str(value)
        case tuple():
            return [_as_json(element) for element in value]
        case Mapping():
            return {str(key): _as_json(element) for key, element in value.items()}
    plain: Json = value
    return plain


class _Unreadable(Exception):  # noqa: N818  carries one problem from the file's text to `load`
    """The text cannot be read as one YAML mapping, so that there is nothing else to report."""

    def __init__(self, key: str, what: str, allowed: str, line: int = 0, column: int = 0) -> None:
        super().__init__(what)
        self.problem = Problem(key, what, allowed, line=line, column=column)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise _Unreadable("the file", "not found", "name another with --config or MESHD_CONFIG") from error
    except IsADirectoryError as error:
        reason = "must be a file (Docker makes a folder where a mounted file is missing)"
        raise _Unreadable("the file", "found a folder", reason) from error
    except OSError as error:
        raise _Unreadable("the file", f"cannot be read: {error.strerror}", "must be readable by this user") from error
    if len(content) > MAX_FILE_BYTES:
        raise _Unreadable("the file", f"found more than {MAX_FILE_BYTES} bytes", "must be a configuration")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8-sig")
        what = f"found the byte 0x{error.object[error.start]:02x}, which is not UTF-8"
        raise _Unreadable("the file", what, "must be a text in UTF-8", *_place_after(before)) from error


def _place_after(text: str) -> tuple[int, int]:
    """Line and column, from 1, of what follows `text`."""
    return text.count("\n") + 1, len(text) - text.rfind("\n")


def _compose(path: Path) -> MappingNode:
    """The file as a mapping of YAML nodes; raise `_Unreadable` when it is none."""
    text = _text(path)
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = MAX_DEPTH
    yaml.composer.warn_double_anchors = False
    allowed = "must be YAML: indent with spaces, and quote a text that holds `: ` or ` #` or begins with a sign"
    try:
        root = yaml.compose(text)
    except MaxDepthExceededError as error:
        raise _too_much(error.problem_mark.line + 1, error.problem_mark.column + 1) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise _Unreadable("YAML", " ".join(what.split())[:_SHOWN_CHARACTERS], allowed, *place) from error
    except ReaderError as error:
        what = f"found the control character {text[error.position]!a}"
        raise _Unreadable("YAML", what, allowed, *_place_after(text[: error.position])) from error
    except ValueError as error:  # chr() of an escape beyond Unicode, in a quoted text; where, it does not say
        raise _Unreadable("YAML", "found an escape that stands for no character", allowed) from error
    if root is None or (isinstance(root, ScalarNode) and _scalar(root) is None):
        raise _Unreadable("the file", "found nothing in it", "must hold at least one key, such as `name: my-project`")
    _measure(root)
    if not isinstance(root, MappingNode):
        allowed = "must hold keys with values, such as `name: my-project`"
        raise _Unreadable("the file", found(_plain(root)), allowed, *_start(root))
    return root


def _measure(node: Node, depth: int = 1) -> int:
    """How many values a node stands for with its aliases written out; raise `_Unreadable` for too many or too deep."""
    values = 1
    for part in _parts(node):
        values += _measure(part, depth + 1) if depth < MAX_DEPTH else MAX_VALUES
        if values > MAX_VALUES:
            raise _too_much(*_start(node))
    return values


def _too_much(line: int, column: int) -> _Unreadable:
    allowed = f"at most {MAX_VALUES} values nested {MAX_DEPTH} deep can be read (does an alias stand for itself?)"
    return _Unreadable("YAML", "found too much in one place", allowed, line, column)


def _parts(node: Node) -> Iterator[Node]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, SequenceNode):
        yield from node.value


def _start(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _shown(name: str) -> str:
    """A name from the file as it can stand in one line of a log."""
    return (name if name.isprintable() else ascii(name))[:_SHOWN_CHARACTERS]


def _dotted(section: str, leaf: str) -> str:
    return f"{section}.{leaf}" if section else leaf


def _pairs(mapping: MappingNode) -> dict[str, tuple[Node, Node]]:
    """The keys of a mapping with their nodes, own ones before those of `<<`."""
    own: dict[str, tuple[Node, Node]] = {}
    merged: dict[str, tuple[Node, Node]] = {}
    for key, value in mapping.value:
        if key.tag == _MERGE_TAG:
            for source in value.value if isinstance(value, SequenceNode) else [value]:
                merged = (_pairs(source) if isinstance(source, MappingNode) else {}) | merged
        elif isinstance(key, ScalarNode):
            own.setdefault(key.value, (key, value))
    return merged | own


def _plain(node: Node) -> Json:
    if isinstance(node, MappingNode):
        return {name: _plain(value) for name, (_, value) in _pairs(node).items()}
    if isinstance(node, SequenceNode):
        return [_plain(element) for element in node.value]
    return _scalar(node)


def _scalar(node: Node) -> Json:
    """The value of a scalar; a text as it is written when it has another tag or does not fit its own."""
    text: str = node.value
    match str(node.tag).removeprefix(_STANDARD_TAG):
        case "null":
            return None
        case "bool":
            return {"true": True, "false": False}.get(text.lower(), text)
        case "int":
            return _int(text)
        case "float":
            try:
                return float(re.sub(r"\.(nan|inf)", r"\1", text.lower()))
            except ValueError:
                return text
    return text


def _int(text: str) -> Json:
    # A leading zero means octal to some readers of YAML and nothing to others: it stays a text.
    if not re.fullmatch(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+)", text):
        return text
    try:
        return int(text, 0)
    except ValueError:  # thousands of digits, or underscores that separate nothing
        return text


@define
class _Reading:
    """One reading of one file: values, their places, and the problems met on the way."""

    file: str
    folder: Path
    values: dict[str, object] = field(factory=dict)
    origins: dict[str, str] = field(factory=dict)
    places: dict[str, tuple[str, int, int]] = field(factory=dict)
    broken: set[str] = field(factory=set)
    problems: list[Problem] = field(factory=list)
    foreign: dict[str, Json] = field(factory=dict)

    def read_root(self, root: MappingNode) -> None:
        self._check_mappings(root, "", set())
        for name, (key_node, node) in _pairs(root).items():
            if name in _SECTIONS:
                self.places[name] = (self.file, *_start(key_node))
                self._read_section(name, node)
            elif name in _BY_NAME:
                self._read_value(_BY_NAME[name], key_node, node)
            else:
                self.foreign[name] = _plain(node)
                if name not in FOREIGN:
                    self._warn_unknown(name, key_node, "", "left alone")

    def _check_mappings(self, node: Node, name: str, seen: set[int]) -> None:
        """Report keys that stand twice, keys that are no texts, merges of what is no mapping, and broken texts."""
        if id(node) in seen:
            return
        seen.add(id(node))
        if isinstance(node, ScalarNode) and any("\ud800" <= character <= "\udfff" for character in node.value):
            self._report(node, name, "found half of a surrogate pair", "must be valid Unicode")
        elif isinstance(node, SequenceNode):
            for index, element in enumerate(node.value):
                self._check_mappings(element, f"{name}[{index}]", seen)
        elif isinstance(node, MappingNode):
            self._check_keys(node, name)
            for key, value in node.value:
                self._check_mappings(key, name, seen)
                self._check_mappings(value, _dotted(name, str(key.value)), seen)

    def _check_keys(self, mapping: MappingNode, name: str) -> None:
        lines: dict[str, int] = {}
        for key, value in mapping.value:
            if not isinstance(key, ScalarNode):
                self._report(key, name, "found a list or section as a key", "a key must be a text")
            elif key.tag == _MERGE_TAG:
                sources = value.value if isinstance(value, SequenceNode) else [value]
                if not all(isinstance(source, MappingNode) for source in sources):
                    self._report(key, _dotted(name, "<<"), found(_plain(value)), "must be an alias of a section")
            elif key.value in lines:
                what = f"found twice, first on line {lines[key.value]}"
                self._report(key, _dotted(name, key.value), what, "must stand once in its section")
            else:
                lines[key.value] = _start(key)[0]

    def _read_section(self, section: str, node: Node) -> None:
        if not isinstance(node, MappingNode):
            if _plain(node) is not None:
                keys = [key for key in KEYS if key.section == section]
                known = ", ".join(key.leaf for key in keys)
                self._report(node, section, found(_plain(node)), f"must be a section of keys: {known}")
                self.broken.update(key.name for key in keys)
            return
        for name, (key_node, value_node) in _pairs(node).items():
            key = _BY_NAME.get(f"{section}.{name}")
            if key is None:
                self._warn_unknown(name, key_node, section, "ignored")
            else:
                self._read_value(key, key_node, value_node)

    def _warn_unknown(self, leaf: str, node: Node, section: str, consequence: str) -> None:
        siblings = [key.leaf for key in KEYS if key.section == section] + ([] if section else [*_SECTIONS])
        near = nearest(leaf, siblings if section else [*siblings, *FOREIGN])
        elsewhere = next((key.name for key in KEYS if key.leaf == leaf), "")
        suggestion = (near or elsewhere) if section else (elsewhere or near)
        what, known = f"unknown key, {consequence}", f"the keys here are {', '.join(siblings)}"
        self._report(node, _dotted(section, leaf), what, known, suggestion=suggestion, fatal=False)

    def _read_value(self, key: Key, key_node: Node, node: Node) -> None:
        # A value that is not there is marked where the next token begins.
        is_nothing = isinstance(node, ScalarNode) and not node.value and node.style is None
        self.places[key.name] = (self.file, *_start(key_node if is_nothing else node))
        self.origins[key.name] = f"{self.file}:{_start(key_node)[0]}"
        if isinstance(node, SequenceNode):
            for index, element in enumerate(node.value):
                self.places[f"{key.name}[{index}]"] = (self.file, *_start(element))
        elif isinstance(node, MappingNode):
            for name, (_, element) in _pairs(node).items():
                self.places[f"{key.name}[{name}]"] = (self.file, *_start(element))
        for part in (node, *_parts(node)):
            if part.tag is not None and not str(part.tag).startswith(_STANDARD_TAG):
                self.broken.add(key.name)
                self._report(part, key.name, f"found the tag {_shown(str(part.tag))}", "tags have no meaning here")
        if key.name not in self.broken:
            self._accept(key, _plain(node))

    def _accept(self, key: Key, value: Json) -> None:
        if value is None and _default(key) is None:
            self.values[key.name] = None
            return
        try:
            accepted = key.kind.accept(value)
        except Refused as refused:
            self.broken.add(key.name)
            for refusal in refused.refusals:
                name = key.name if refusal.at is None else f"{key.name}[{refusal.at}]"
                self._place(Problem(name, refusal.found, refusal.allowed, suggestion=refusal.suggestion))
            return
        self.values[key.name] = self._absolute(accepted) if isinstance(accepted, Path) else accepted

    def _absolute(self, path: Path) -> Path:
        return Path(os.path.normpath(self.folder / path))

    def read_environment(self, environ: Mapping[str, str]) -> None:
        for variable in sorted(environ):
            text = environ[variable].strip()
            key = _BY_VARIABLE.get(variable)
            if key is not None and key.kind.from_text is not None and text:
                self.places = {name: place for name, place in self.places.items() if name.partition("[")[0] != key.name}
                self.places[key.name] = (variable, 0, 0)
                self.origins[key.name] = variable
                self._accept(key, key.kind.from_text(text))
            elif key is None and variable.startswith("MESHD_") and variable not in OTHER_VARIABLES:
                self._warn_unknown_variable(variable)

    def _warn_unknown_variable(self, variable: str) -> None:
        name = variable.removeprefix("MESHD_")  # compared without it: what all have makes all alike
        near = nearest(name, (known.removeprefix("MESHD_") for known in _BY_VARIABLE))
        suggestion = f"MESHD_{near}" if near else ""
        what, known = "unknown variable, ignored", "`meshd config show --origin` lists those there are"
        self.problems.append(
            Problem(_shown(variable), what, known, file="environment", suggestion=suggestion, fatal=False)
        )

    def fill_defaults(self) -> None:
        """Settle the defaults that depend on the host or on the file's place; the others are the classes' own."""
        self.values.setdefault("repoRoot", self.folder)
        self.values.setdefault("dataDir", self.folder / "data")
        instance_id = _BY_NAME["protolab.instanceId"]
        if instance_id.name not in self.values and instance_id.name not in self.broken:
            self.places[instance_id.name] = ("the host name", 0, 0)
            self._accept(instance_id, socket.gethostname())

    def configuration(self) -> Configuration:
        """The configuration from what was accepted; what was refused has its default, for the relations' sake."""
        fields: dict[str, dict[str, Any]] = {}
        for name, value in self.values.items():
            key = _BY_NAME[name]
            fields.setdefault(snake(key.section), {})[key.attribute] = value
        top = fields.pop("", {})
        defaults = Configuration()
        sections: dict[str, Any] = {
            section: attrs.evolve(getattr(defaults, section), **values) for section, values in fields.items()
        }
        return Configuration(**top, **sections, foreign=self.foreign)

    def check_relations(self, configuration: Configuration) -> None:
        for keys, relation in RELATIONS:
            if self.broken.isdisjoint(keys):
                for problem in relation(configuration):
                    self._place(problem)

    def check_workspace(self, configuration: Configuration) -> None:
        """A root that is not there may come later, or may be a slip."""
        root = configuration.repo_root
        if "repoRoot" not in self.broken and not os.path.isdir(root):  # noqa: PTH112  Path.is_dir raises without permission
            allowed = "meshd does not make it: until it is there, no project file is written or read"
            self._place(Problem("repoRoot", f"found no folder {root}", allowed, fatal=False))

    def sift_shared_settings(self) -> None:
        """Leave out what may not be shared, and say so; the rest of them stands."""
        written = self.values.get("sharedSettings")
        if not isinstance(written, Mapping):
            return
        self.values["sharedSettings"], faults = sift(written)
        for fault in faults:
            name = f"sharedSettings.{fault.path}" if fault.path else "sharedSettings"
            at = f"sharedSettings[{fault.path.partition('.')[0]}]"
            self._place(Problem(name, "left out, it cannot be shared", fault.detail, fatal=False), at)

    def entries(self) -> tuple[Entry, ...]:
        return tuple(
            Entry(key.name, _as_json(self.values.get(key.name, _default(key))), self.origins.get(key.name, "default"))
            for key in KEYS
        )

    def _report(
        self, node: Node, key: str, what: str, allowed: str, *, suggestion: str = "", fatal: bool = True
    ) -> None:
        line, column = _start(node)
        self.problems.append(Problem(_shown(key), what, allowed, self.file, line, column, suggestion, fatal))

    def _place(self, problem: Problem, at: str = "") -> None:
        """Report a problem at its key (or `at`), or at the nearest thing around it that stands in the file."""
        name = at or problem.key
        around = (name, name.partition("[")[0], name.rpartition(".")[0])
        file, line, column = next((self.places[part] for part in around if part in self.places), (self.file, 0, 0))
        self.problems.append(attrs.evolve(problem, key=_shown(problem.key), file=file, line=line, column=column))
