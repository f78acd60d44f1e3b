"""Which settings there are, and what each may be: the allow-list for the file, the API and what peers send.

Rules (design, section 9):

- What looks like a credential (`meshd.core.credentials`) is refused, before anything else is said about it. So are
  keys that are not in the table, with the known one that was probably meant, and values of another kind.
- All settings of one scope have at most 64 KiB. An object among them holds at most 3 levels.
- A refusal names the path of the offender and never its value: it goes into logs and answers.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping

from attrs import frozen

from meshd.core.credentials import credential_key, credential_text, shown_path
from meshd.model import Json, JsonObject

MAX_BYTES = 64 * 1024  # they ride in one frame and in every snapshot: configuration, not documents
MAX_LEVELS = 3

CREDENTIAL, UNKNOWN, INVALID = "credential-refused", "unknown-setting", "invalid"

_MAX_INTEGER = 2**53 - 1  # what every host reads back exactly
_DAY_MS = 86_400_000


@frozen
class Fault:
    """Why settings are refused: a stable `code`, the `path` of the offender ("" for the whole), and a sentence."""

    code: str
    path: str
    detail: str


@frozen
class Kind:
    """What a setting may be: `expected` says it to a person."""

    expected: str
    accepts: Callable[[Json], bool]


def _integer(least: int, most: int) -> Kind:
    return Kind(f"a whole number from {least} to {most}", lambda value: type(value) is int and least <= value <= most)


def _word(*words: str) -> Kind:
    return Kind(f"one of {', '.join(words)}", lambda value: isinstance(value, str) and value in words)


def _all_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(element, str) for element in value)


_SWITCH = Kind("true or false", lambda value: isinstance(value, bool))
_TEXT = Kind("a text", lambda value: isinstance(value, str))
_TEXTS = Kind("a list of texts", _all_texts)
_OBJECT = Kind("an object", lambda value: isinstance(value, dict))

KINDS: Mapping[str, Kind] = {
    # How much runs at once, and how long
    "autoMode": _SWITCH,
    "maxConcurrentAgents": _integer(0, 1000),
    "maxRetries": _integer(0, 1000),
    "retryDelayMs": _integer(0, _DAY_MS),
    "agentTimeoutMs": _integer(0, 7 * _DAY_MS),
    "maxTurns": _integer(1, 100_000),
    # With what
    "defaultModel": _TEXT,
    "models": _OBJECT,
    "planningMode": _TEXT,
    "customInstructions": _TEXT,
    "featureFlags": _OBJECT,
    # How work goes in
    "workflow": _OBJECT,
    "requirePlanApproval": _SWITCH,
    "verifyBeforeMerge": _SWITCH,
    "requiredChecks": _TEXTS,
    "reviewers": _TEXTS,
    "requiredReviews": _integer(0, 100),
    "baseBranch": _TEXT,
    "branchPrefix": _TEXT,
    "prMergeStrategy": _word("merge", "squash", "rebase"),
    "autoMerge": _SWITCH,
    "useWorktrees": _SWITCH,
    "labels": _TEXTS,
    "ceremonies": _OBJECT,
}


def check(values: object) -> Fault | None:
    """The first thing wrong with all settings of one scope; None when they may be taken."""
    if not isinstance(values, dict):
        return Fault(INVALID, "", "settings are an object of keys and values")
    size_bytes = len(repr(values).encode(errors="replace"))  # about as many as its JSON has
    if size_bytes > MAX_BYTES:
        return Fault(INVALID, "", f"settings may have {MAX_BYTES} bytes, these have about {size_bytes}")
    return next(_credentials(values), None) or next(_strangers(values), None)


def sift(values: Mapping[str, Json]) -> tuple[JsonObject, list[Fault]]:
    """The keys that may be taken, each judged by itself, and what is wrong with the others."""
    judged = {key: check({key: value}) for key, value in values.items()}
    good = {key: values[key] for key, fault in judged.items() if fault is None}
    faults = [fault for fault in judged.values() if fault]
    if too_much := check(good):
        return {}, [*faults, too_much]
    return good, faults


def _credentials(values: JsonObject) -> Iterator[Fault]:
    for path, value in _walk((), values):
        name = path[-1] if path else ""
        if isinstance(name, str) and (credential_text(name) or credential_key(name, value)):
            what = "its name is that of a credential"
        elif isinstance(value, str) and (kind := credential_text(value)):
            what = f"it looks like {kind}"
        else:
            continue
        shown = shown_path(path)
        yield Fault(CREDENTIAL, shown, f"{shown}: {what}; credentials are never shared, give them to each host itself")


def _strangers(values: JsonObject) -> Iterator[Fault]:
    for key, value in values.items():
        shown = shown_path((key,))
        kind = KINDS.get(key)
        if kind is None:
            near = _nearest(key)
            meant = f"did you mean {near}?" if near else f"known are {', '.join(KINDS)}"
            yield Fault(UNKNOWN, shown, f"there is no setting {shown}; {meant}")
        elif not kind.accepts(value):
            yield Fault(INVALID, shown, f"{shown} must be {kind.expected}")
        else:
            yield from _unfit(key, value)


def _unfit(key: str, value: Json) -> Iterator[Fault]:
    """What no JSON of another host could hold, or hold well."""
    for path, inner in _walk((key,), value):
        shown = shown_path(path)
        if isinstance(inner, dict | list) and len(path) > MAX_LEVELS:
            yield Fault(INVALID, shown, f"{shown}: a setting may have {MAX_LEVELS} levels")
        if isinstance(inner, int | float) and not -_MAX_INTEGER <= inner <= _MAX_INTEGER:
            yield Fault(INVALID, shown, f"{shown}: a number may lie between -(2**53 - 1) and 2**53 - 1")
        if any(isinstance(text, str) and not _is_unicode(text) for text in (inner, path[-1])):
            yield Fault(INVALID, shown, f"{shown}: half of a surrogate pair is no text")


def _walk(path: tuple[str | int, ...], value: Json) -> Iterator[tuple[tuple[str | int, ...], Json]]:
    """Every value with its path, parents first; below what is nested too deep nobody looks, it is refused anyway."""
    yield path, value
    if len(path) > MAX_LEVELS:
        return
    parts: Iterator[tuple[str | int, Json]] = iter(())
    if isinstance(value, dict):
        parts = iter(value.items())
    elif isinstance(value, list):
        parts = iter(enumerate(value))
    for part, inner in parts:
        yield from _walk((*path, part), inner)


def _nearest(key: str) -> str:
    folded = {known.casefold(): known for known in KINDS}
    near = difflib.get_close_matches(key[:60].replace("_", "").replace("-", "").casefold(), folded, n=1)
    return folded[near[0]] if near else ""


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
