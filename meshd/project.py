"""The shape of a project document: how a JSON document becomes flat registers and how they become a document again.

Milestones are keyed by `slug` and phases by `name`, never by position; every other array is one value. A flat
document maps a path to a JSON value:

    title                                             any top-level key
    milestones                                        [] says that the array exists
    milestones/<slug>                                 the milestone exists; its value is its rank in the array
    milestones/<slug>/<key>                           a field of it
    milestones/<slug>/phases                          [] says that the array exists
    milestones/<slug>/phases/<name>                   the phase exists; its rank
    milestones/<slug>/phases/<name>/<key>             a field of it
    milestones/<slug>/phases/<name>/@claim            who holds it: written by meshd alone (`meshd.core.claim`)

Keys are escaped as in JSON Pointer (`~0`, `~1`). Three keys are not stored: the document's and a milestone's `slug`
and a phase's `name` are its name and in the path. `projectPath` belongs to a host, not to a document: it is stored
empty and shown as the local repository root (specification, "Path Remapping"). `@claim` is no key of a document: none
that is rendered holds it, and one that does is refused.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TypeAlias

from meshd.errors import DocumentError
from meshd.model import Json, JsonObject

Flat: TypeAlias = "dict[str, Json]"

MAX_NAME_BYTES = 200
RESERVED = "@"  # first character of a slug that no project may have
CLAIM_KEY = "@claim"
"""What the path of a phase's claim ends with; no document has such a key in a phase."""
MAX_DEPTH = 64  # levels in one value: far more than a person writes, and less than any parser on the way refuses

_CLAIM_END = f"/{CLAIM_KEY}"
_PROJECT_ORDER = ("slug", "title", "goal", "status", "priority", "projectPath", "milestones")
_MILESTONE_ORDER = ("number", "slug", "title", "description", "dependencies", "status", "phases")
_PHASE_ORDER = ("number", "name", "title", "description", "filesToModify", "acceptanceCriteria", "complexity")


def check_name(name: object, what: str) -> str:
    """Return `name` when it can be a slug, milestone or phase name everywhere; raise `DocumentError` when not.

    Refused are names that would leave the workspace or hide in it (design, section 5).
    """
    if not isinstance(name, str) or not name:
        raise DocumentError(f"{what} must be a text that is not empty, not {name!r}")
    try:
        size_bytes = len(name.encode())
    except UnicodeEncodeError:
        raise DocumentError(f"{what} is not valid Unicode: {name!r}") from None
    if size_bytes > MAX_NAME_BYTES:
        raise DocumentError(f"{what} is {size_bytes} bytes long, at most {MAX_NAME_BYTES} are allowed: {name[:40]}...")
    if name.startswith(".") or "/" in name or "\\" in name or not name.isprintable():
        raise DocumentError(f"{what} must not start with a dot or hold a separator or control character: {name!r}")
    return name


def is_reserved(slug: str) -> bool:
    """Whether a slug is meshd's own: such documents are shared like projects, and are none."""
    return slug.startswith(RESERVED)


def element_path(milestone: str, phase: str | None = None) -> str:
    """The path of a milestone, or of a phase of it; those of its fields begin with that and a slash."""
    path = f"milestones/{_escape(milestone)}"
    return path if phase is None else f"{path}/phases/{_escape(phase)}"


def name_in(part: str) -> str:
    """The name that one part of a path stands for."""
    return _unescape(part)


def check_slug(slug: object, what: str) -> str:
    """Like `check_name`, for the slug that somebody gives a project: refuses reserved ones too."""
    name = check_name(slug, what)
    if is_reserved(name):
        raise DocumentError(f"{what} must not start with {RESERVED}, which is kept for meshd's own: {name!r}")
    return name


def flatten(document: JsonObject, ranks: Mapping[str, Json] | None = None) -> Flat:
    """Turn a document into its flat form; raise `DocumentError` for one that cannot be keyed.

    Elements keep the rank they have in `ranks` (an earlier flat form) wherever their order allows it, so that adding
    one milestone does not touch the others.
    """
    flat: Flat = {}
    known = ranks or {}
    check_depth(document)
    for key, value in document.items():
        if key == "milestones" and isinstance(value, list):
            flat["milestones"] = []
            for path, milestone in _elements(value, "milestones", "slug", known, flat):
                _flatten_milestone(milestone, path, known, flat)
        elif key != "slug":
            flat[_escape(key)] = "" if key == "projectPath" else value
    return flat


def check_shape(document: Mapping[str, Json]) -> None:
    """Raise `DocumentError` for milestones or phases that are no list; what peers send is kept as it is.

    Such a value can be stored, but nobody can find milestones in it.
    """
    milestones = document.get("milestones", [])
    _check_list(milestones, "milestones")
    for index, milestone in enumerate(milestones if isinstance(milestones, list) else ()):
        if isinstance(milestone, dict):
            _check_list(milestone.get("phases", []), f"milestones[{index}].phases")


def _check_list(value: Json, path: str) -> None:
    if not isinstance(value, list):
        raise DocumentError(f"{path} must be a list, not {value!r:.40}")


def check_depth(value: Json, levels: int = MAX_DEPTH) -> None:
    """Raise `DocumentError` for a value that is nested too deep."""
    if levels < 0:
        raise DocumentError(f"a value is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            check_depth(inner, levels - 1)


def _flatten_milestone(milestone: JsonObject, path: str, known: Mapping[str, Json], flat: Flat) -> None:
    for key, value in milestone.items():
        if key == "phases" and isinstance(value, list):
            flat[f"{path}/phases"] = []
            for phase_path, phase in _elements(value, f"{path}/phases", "name", known, flat):
                if CLAIM_KEY in phase:
                    raise DocumentError(f"{CLAIM_KEY} is kept for meshd's own, no phase may have it: {phase_path}")
                flat |= {f"{phase_path}/{_escape(k)}": v for k, v in phase.items() if k != "name"}
        elif key != "slug":
            flat[f"{path}/{_escape(key)}"] = value


def _elements(
    array: list[Json], path: str, key: str, known: Mapping[str, Json], flat: Flat
) -> Iterator[tuple[str, JsonObject]]:
    """Enter the elements of a keyed array into `flat` with their ranks, and yield each with its path."""
    elements: dict[str, JsonObject] = {}
    for index, element in enumerate(array):
        if not isinstance(element, dict):
            raise DocumentError(f"{path}[{index}] must be an object, not {element!r:.40}")
        name = check_name(element.get(key), f"{path}[{index}].{key}")
        element_path = f"{path}/{_escape(name)}"
        if element_path in elements:
            raise DocumentError(f"{path} holds two elements with {key} {name!r}: each needs its own")
        elements[element_path] = element
    flat |= _ranked(list(elements), known)
    yield from elements.items()


def _ranked(paths: list[str], known: Mapping[str, Json]) -> dict[str, Json]:
    """Give each path a rank, so that ranks ascend; as many as possible keep the one they have in `known`."""
    kept = _longest_ascent([(rank, path) for path in paths if isinstance(rank := known.get(path), int | float)])
    ranks: dict[str, float] = {path: rank for rank, path in kept}
    known_at = [index for index, path in enumerate(paths) if path in ranks]
    for index, path in enumerate(paths):
        if path not in ranks:
            place = bisect_left(known_at, index)
            after = known_at[place] if place < len(known_at) else None
            before = ranks[paths[index - 1]] if index else None
            upper = None if after is None else ranks[paths[after]]
            ranks[path] = _between(before, upper, (after or 0) - index)
    in_order = [(ranks[path], path) for path in paths]
    if any(one >= other for one, other in pairwise(in_order)):  # no room between two: all are counted anew
        return {path: index for index, path in enumerate(paths)}
    return {path: ranks[path] for path in paths}


def _between(before: float | None, after: float | None, places: int) -> float:
    """A rank in a gap that has to hold `places` new ones, at its lower end."""
    if after is None:
        return 0 if before is None else math.floor(before) + 1
    if before is None:
        return math.ceil(after) - places
    return before + (after - before) / (places + 1)


def _longest_ascent(items: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """The longest ascending subsequence (patience sorting)."""
    tops: list[tuple[float, str]] = []
    top_at: list[int] = []
    before: list[int] = []  # of each item the one that stands before it in the longest that ends with it
    for index, item in enumerate(items):
        pile = bisect_left(tops, item)
        before.append(top_at[pile - 1] if pile else -1)
        tops[pile : pile + 1] = [item]
        top_at[pile : pile + 1] = [index]
    chain: list[tuple[float, str]] = []
    at = top_at[-1] if top_at else -1
    while at >= 0:
        chain.append(items[at])
        at = before[at]
    return chain[::-1]


def render(flat: Mapping[str, Json], slug: str, repo_root: str = "") -> JsonObject:
    """Turn a flat form into the document it stands for, in an order that is the same on every host.

    Total: fields of an element that does not exist are left out, and so are claims.
    """
    document: JsonObject = {"slug": slug}
    milestones: dict[str, tuple[float, JsonObject]] = {}
    phases: dict[str, dict[str, tuple[float, JsonObject]]] = {}
    for path, value in sorted(flat.items(), key=lambda item: item[0].count("/")):
        match path.split("/"):
            case [key]:
                document[_unescape(key)] = repo_root if key == "projectPath" else value
            case ["milestones", milestone]:
                milestones[milestone] = (_rank(value), {"slug": _unescape(milestone)})
                phases[milestone] = {}
            case ["milestones", milestone, key] if milestone in milestones:
                milestones[milestone][1][_unescape(key)] = value
            case ["milestones", milestone, "phases", phase] if milestone in milestones:
                phases[milestone][phase] = (_rank(value), {"name": _unescape(phase)})
            case ["milestones", milestone, "phases", phase, key] if phase in phases.get(milestone, ()):
                if key == CLAIM_KEY:
                    continue
                phases[milestone][phase][1][_unescape(key)] = value
    for milestone, (_, fields) in milestones.items():
        if fields.get("phases") == []:
            fields["phases"] = _in_rank_order(phases[milestone], _PHASE_ORDER)
    if document.get("milestones") == []:
        document["milestones"] = _in_rank_order(milestones, _MILESTONE_ORDER)
    return _in_key_order(document, _PROJECT_ORDER)


def _rank(value: Json) -> float:
    return value if isinstance(value, int | float) else 0.0


def _in_rank_order(elements: Mapping[str, tuple[float, JsonObject]], key_order: tuple[str, ...]) -> list[Json]:
    ranked = sorted(elements.items(), key=lambda item: (item[1][0], item[0]))
    return [_in_key_order(fields, key_order) for _, (_, fields) in ranked]


def _in_key_order(fields: JsonObject, order: tuple[str, ...]) -> JsonObject:
    known = [key for key in order if key in fields]
    return {key: fields[key] for key in known + sorted(fields.keys() - set(order))}


def check_path(path: str) -> str:
    """Return a register's path when it has one of the shapes above; raise `DocumentError` when not."""
    parts = path.split("/")
    if any(_escape(_unescape(part)) != part for part in parts):
        raise DocumentError(f"the path {path!r:.80} is not escaped as it has to be")
    match parts:
        case ["slug"] | ["milestones", _, "slug"] | ["milestones", _, "phases", _, "name"]:
            raise DocumentError(f"no register may rename what its path names: {path!r:.80}")
        case [_]:
            return path
        case ["milestones", milestone, *rest] if len(rest) < 2 or (rest[0] == "phases" and len(rest) <= 3):
            check_name(_unescape(milestone), "a milestone's slug")
            if len(rest) >= 2:
                check_name(_unescape(rest[1]), "a phase's name")
            return path
    raise DocumentError(f"no register can have the path {path!r:.80}")


def claim_path(milestone: str, phase: str) -> str:
    """The path of a phase's claim."""
    return f"milestones/{_escape(milestone)}/phases/{_escape(phase)}/{CLAIM_KEY}"


def is_claim(path: str) -> bool:
    """Whether this is the path of a phase's claim."""
    return path.endswith(_CLAIM_END) and path.count("/") == 4  # elements and fields of others may have that name


def claimed_phase(path: str) -> tuple[str, str] | None:
    """The milestone and the phase of a claim's path; None for other paths. The inverse of `claim_path`."""
    if not is_claim(path):
        return None
    _, milestone, _, phase, _ = path.split("/")
    return _unescape(milestone), _unescape(phase)


def has_phase(flat: Mapping[str, Json], path: str) -> bool:
    """Whether a flat document shows the phase of this path; what is left of one that was removed is not shown."""
    milestone = path.rsplit("/", 2)[0]
    arrays = (flat.get("milestones"), flat.get(f"{milestone}/phases"))
    return path in flat and milestone in flat and arrays == ([], [])


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _unescape(key: str) -> str:
    return key.replace("~1", "/").replace("~0", "~")
