"""What the wire allows: what one value may be, what may hold several, and which rule is for which attribute.

`wire` reads and writes whole messages by these rules, which its docstring states. A reader takes a parsed JSON value
and gives what it stands for, or raises one of `FAULTS`; where several are held, the fault notes which of them it was.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeAlias

import orjson
from cattrs import ClassValidationError, IterableValidationNote

from meshd import model
from meshd.core.documents import Change, Kind, Register
from meshd.core.messages import Digest, DocumentState, Heartbeat, UtcMs
from meshd.errors import DocumentError, LocalProtocolError, RemoteProtocolError
from meshd.model import Json, JsonObject, Stamp, Status, utc_text
from meshd.project import check_name, check_path

MAX_JSON_DEPTH = 100
"""Levels of one JSON value. orjson reads 1024 and writes 254: deeper values would come in and never go out again."""
NAMES = 1024  # of each kind that are known: more than a mesh has of instances, and of projects that change in one hour
MAX_CLAIMS = 4096  # of one holder: far more agents than a host runs, and at their longest they fit into a frame

_MAX_INTEGER = 2**53 - 1
_MAX_URL = 2000  # characters
MAX_SHOWN = 40  # characters of one key or value in a fault

Reader: TypeAlias = Callable[[Any, Any], Any]
"""Checks a parsed JSON value and gives what it stands for. The second argument is cattrs' and never used."""

FAULTS = (RemoteProtocolError, DocumentError, KeyError, ClassValidationError)
"""Everything a reader raises; `KeyError` is a key that is missing."""


def unexpected(expected: str, found: Json) -> RemoteProtocolError:
    return RemoteProtocolError(f"expected {expected}, found {shown(found)}")


def shown(value: Json) -> str:
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'an array'} of {len(value)}"
    if isinstance(value, str):
        return repr(value) if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]!r}... ({len(value)} characters)"
    return orjson.dumps(value).decode()


# What one value may be.


def _text(value: Json, _: object) -> str:
    if type(value) is str:
        return value
    raise unexpected("a text", value)


def _text_to(most: int) -> Reader:
    def read(value: Json, _: object) -> str:
        text = _text(value, _)
        if len(text) <= most:
            return text
        raise unexpected(f"a text of at most {most} characters", text)

    return read


_label = _text_to(model.MAX_LABEL)
_url = _text_to(_MAX_URL)


def _boolean(value: Json, _: object) -> bool:
    if type(value) is bool:
        return value
    raise unexpected("true or false", value)


def _integer(least: int) -> Reader:
    def read(value: Json, _: object) -> int:
        if type(value) is int and least <= value <= _MAX_INTEGER:
            return value
        raise unexpected(f"an integer from {least} to 2**53 - 1", value)

    return read


_count = _integer(0)
_seq = _integer(1)


def _number(value: Json, _: object) -> float:
    if type(value) is float or type(value) is int:
        return float(value)
    raise unexpected("a number", value)


def _word(words: type[StrEnum]) -> Reader:
    known = {word.value: word for word in words}

    def read(value: Json, _: object) -> StrEnum:
        if type(value) is str and value in known:
            return known[value]
        raise unexpected(f"one of {', '.join(known)}", value)

    return read


def _utc_ms(value: Json, _: object) -> int:
    if type(value) is str and (utc_ms := model.utc_ms_of(value)) is not None:
        return utc_ms
    raise unexpected("an ISO-8601 time with an offset, 1970 to 9999", value)


def _claimed_ms(value: Json, _: object) -> int:
    if type(value) is int and 0 <= value <= model.LAST_UTC_MS:
        return value
    raise unexpected("milliseconds since 1970, up to 9999", value)


def _name(what: str) -> Reader:
    known = _checked_once(lambda name: check_name(name, what))
    return lambda value, _: known(_text(value, _))


_checked_once = lru_cache(NAMES)
"""A name that stands in every stamp is checked once, and is one text however often it was read."""


_instance_id = _name("an instanceId")


def _check_origin(origin: str) -> str:
    instance_id, _dot, store = origin.rpartition(".")
    check_name(instance_id, "an origin's instanceId")
    check_name(store, "an origin's store")
    return origin


_known_origin = _checked_once(_check_origin)


def _origin(value: Json, _: object) -> str:
    return _known_origin(_text(value, _))


def _stamp(value: Json, _: object) -> Stamp:
    if type(value) is not list or len(value) != 3:
        raise unexpected("a stamp [utcMs, counter, instanceId]", value)
    utc_ms = _count(value[0], _)
    if utc_ms > model.LAST_UTC_MS:
        raise unexpected("a stamp no later than the year 9999", value)
    return Stamp(utc_ms, _count(value[1], _), _instance_id(value[2], _))


def _json(value: Json) -> Json:
    """Any JSON that is not too deep, walked level by level."""
    if type(value) is not dict and type(value) is not list:
        return value
    level: list[Any] = [value]
    for _ in range(MAX_JSON_DEPTH):
        inner = [node.values() if type(node) is dict else node for node in level]
        level = [child for children in inner for child in children if type(child) is dict or type(child) is list]
        if not level:
            return value
    raise RemoteProtocolError(f"nested deeper than {MAX_JSON_DEPTH} levels")


def _json_object(value: Json, _: object) -> JsonObject:
    if type(value) is not dict:
        raise unexpected("an object", value)
    _json(value)
    return value


def _path(value: Json, _: object) -> str:
    return check_path(_text(value, _))


def _field(path: str, value: Json) -> Json:
    check_path(path)
    is_rank = path.startswith("milestones/") and path.count("/") in (1, 3)  # the element itself, not a key of it
    if not is_rank:
        return _json(value)
    if (type(value) is int or type(value) is float) and -_MAX_INTEGER <= value <= _MAX_INTEGER:
        return value
    raise unexpected("a number, the rank of the element", value)


def _register(path: str, value: Json) -> Register:
    if type(value) is list and len(value) == 2:
        return Register(_stamp(value[0], None), _field(path, value[1]))
    if type(value) is list and len(value) == 1:
        check_path(path)
        return Register(_stamp(value[0], None), gone=True)
    raise unexpected("a register [stamp, value] or [stamp]", value)


def _digest(slug: str, value: Json) -> str:
    check_name(slug, "a slug")
    return _text(value, None)


def _last_seq(origin: str, value: Json) -> int:
    _origin(origin, None)
    seq: int = _seq(value, None)
    return seq


def _lost(claim: str, value: Json) -> str:
    _label(claim, None)
    return _text(value, None)


def _base(path: str, value: Json) -> Stamp:
    check_path(path)
    return _stamp(value, None)


# What may hold several. A fault within notes where it is, and the rest is not looked at.


def array(element: Reader) -> Reader:
    def read(value: Json, _: object) -> tuple[Any, ...]:
        if type(value) is not list:
            raise unexpected("an array", value)
        made: list[Any] = []
        try:
            for item in value:
                made.append(element(item, None))
        except FAULTS as fault:
            fault.add_note(IterableValidationNote("", len(made), None))
            raise
        return tuple(made)

    return read


_labels = array(_label)


def _labels_to(most: int) -> Reader:
    def read(value: Json, _: object) -> tuple[str, ...]:
        if type(value) is list and len(value) > most:
            raise unexpected(f"an array of at most {most}", value)
        labels: tuple[str, ...] = _labels(value, _)
        return labels

    return read


def _mapping(entry: Callable[[str, Json], Any]) -> Reader:
    def read(value: Json, _: object) -> dict[str, Any]:
        if type(value) is not dict:
            raise unexpected("an object", value)
        made: dict[str, Any] = {}
        key = ""
        try:
            for key, item in value.items():
                made[key] = entry(key, item)
        except FAULTS as fault:
            fault.add_note(IterableValidationNote("", key, None))
            raise
        return made

    return read


# What the parts of one thing must be to each other.


def _check_change(change: Change) -> None:
    if change.kind is Kind.CREATED and change.life != change.stamp:
        raise RemoteProtocolError(f"created at {change.stamp}, but its life is {change.life}")
    if change.kind is Kind.DELETED and (change.fields or change.removed):
        raise RemoteProtocolError("deleted, and has fields or removed paths")


def _check_document(document: DocumentState) -> None:
    if document.ended and document.registers:
        raise RemoteProtocolError("ended, and has registers")


# How values are written where orjson does not know.


def write_utc_ms(utc_ms: int) -> str:
    try:
        return utc_text(utc_ms)
    except OverflowError as error:
        raise LocalProtocolError(f"{utc_ms} ms since 1970 is no date") from error


def write_stamp(stamp: Stamp) -> list[Json]:
    return [*stamp]


def write_register(register: Register) -> list[Any]:
    stamp = write_stamp(register.stamp)
    return [stamp] if register.gone else [stamp, register.value]


# Which attribute is read and written how: by its name where the name says more than the type.

BY_NAME: dict[str, Reader] = {
    **dict.fromkeys(("instance_id", "successor", "candidate", "transfer", "holder", "claimed_by"), _instance_id),
    **dict.fromkeys(("name", "role", "boot", "store", "version", "sync_role", "hive", "peers_hash"), _label),
    **dict.fromkeys(("id", "claim"), _label),
    **dict.fromkeys(("url", "primary_url"), _url),
    "tags": _labels_to(model.MAX_TAGS),
    "slug": _name("a slug"),
    "milestone": _name("a milestone"),
    "phase": _name("a phase"),
    "origin": _origin,
    "seq": _seq,
    "seqs": _mapping(_last_seq),
    "payload": _json_object,
    "settings": _json_object,
    "fields": _mapping(_field),
    "removed": array(_path),
    "bases": _mapping(_base),
    "path": _path,
    "value": lambda value, _: _json(value),
    "registers": _mapping(_register),
    "claimed_ms": _claimed_ms,
    "valid": _labels_to(MAX_CLAIMS),
    "lost": _mapping(_lost),
}
BY_TYPE: dict[Any, Reader] = {
    str: _text,
    bool: _boolean,
    int: _count,
    float: _number,
    Status: _word(Status),
    Kind: _word(Kind),
    UtcMs: _utc_ms,
    Stamp: _stamp,
}
ONLY_IN: dict[type, dict[str, Reader]] = {
    Digest: {"documents": _mapping(_digest)},
    Heartbeat: {"holding": _labels_to(MAX_CLAIMS)},  # a row of presence has their number
}
"""Rules by name for one class alone; they come before `BY_NAME`."""

TOGETHER: dict[type, Callable[[Any], None]] = {Change: _check_change, DocumentState: _check_document}
