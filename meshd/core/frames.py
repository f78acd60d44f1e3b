"""How much goes into one frame: the wire's bounds, by an estimate, since the core writes no JSON.

Rules (wire): at most 512 changes or about 256 KiB a frame, unless one item alone is larger; a large document goes in
parts, which merge does not mind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from meshd.core.documents import Change, Conflict, Document, Register
from meshd.core.messages import DocumentState

FRAME_CHANGES = 512
FRAME_BYTES = 256 * 1024
CHANGE_BYTES = 2 * 1024 * 1024  # one change, at most: a frame is never larger than a peer takes

Item = TypeVar("Item")


def frames(items: Sequence[Item], bytes_of: Callable[[Item], int], most: int = FRAME_CHANGES) -> Iterator[list[Item]]:
    """Cut a sequence into frames of at most `most` items and about `FRAME_BYTES`."""
    frame: list[Item] = []
    size_bytes = 0
    for item in items:
        item_bytes = bytes_of(item)
        if frame and (len(frame) == most or size_bytes + item_bytes > FRAME_BYTES):
            yield frame
            frame, size_bytes = [], 0
        frame.append(item)
        size_bytes += item_bytes
    if frame:
        yield frame


def change_bytes(change: Change) -> int:
    return 200 + _bytes(change.fields) + _bytes(change.removed)


def parts(document: Document) -> Iterator[DocumentState]:
    """A document in parts that fit a frame each: merge does not mind."""
    registers = list(document.registers.items())
    for part in frames(registers, _register_bytes, most=len(registers)) if registers else ([],):
        yield DocumentState(document.slug, document.life, dict(part), document.ended)


def _register_bytes(item: tuple[str, Register]) -> int:
    return 60 + _bytes(item[0]) + _bytes(item[1].value)


def _bytes(value: object) -> int:
    """About as many as its JSON has."""
    return len(repr(value).encode(errors="replace"))


def document_bytes(document: Document) -> int:
    """What a document takes, tombstones of its fields and all stamps included."""
    return sum(map(_register_bytes, document.registers.items()))


def state_bytes(state: DocumentState) -> int:
    return sum(map(_register_bytes, state.registers.items()))


def conflict_bytes(conflict: Conflict) -> int:
    return 300 + _bytes(conflict.value)
