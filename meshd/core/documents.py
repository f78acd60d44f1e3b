"""A project document as registers that merge.

Rules (design, section 4):

- A register is one field of a document with the stamp that wrote it; absence is a register too (`gone`). Of two
  registers of one path the one with the greater stamp wins, whoever brings it and in whatever order.
- The claim of a phase is one register with an order of its own (`meshd.core.claim`). Edits neither set nor remove it,
  nor the keys that it speaks for: what a document says there is not an edit. A phase that comes back begins unclaimed.
- A document has a life, named by the stamp of its creation; every change names the life it edits. Deletion ends that
  life for ever. Creating the slug again begins a new life with the whole document. Of two lives the later one stands.
- Merge is commutative, associative and idempotent: hosts that have seen the same changes hold the same document.

A change and a whole document are the same thing to `merge`: a document that holds only the registers the change wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cached_property, reduce
from hashlib import blake2b
from itertools import starmap
from operator import xor

from attrs import field, frozen

from meshd import project
from meshd.core import claim
from meshd.model import Json, JsonObject, Stamp
from meshd.project import Flat


@frozen
class Register:
    """One field's value with the stamp that wrote it; `gone` is a tombstone."""

    stamp: Stamp
    value: Json = None
    gone: bool = False


class Kind(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


@frozen
class Change:
    """One accepted edit: `fields` were set and the paths in `removed` tombstoned, all under one `stamp`.

    `origin` is `<instanceId>.<store>`; `seq` counts its changes densely from 1. `bases` holds the stamps of the
    registers that the writer saw and overwrote (`meshd.core.conflicts`).
    """

    origin: str
    seq: int
    stamp: Stamp
    slug: str
    life: Stamp
    kind: Kind
    fields: JsonObject = field(factory=dict)
    removed: tuple[str, ...] = ()
    bases: dict[str, Stamp] = field(factory=dict)


@frozen
class Document:
    """All registers of one slug; `ended` is the stamp of its deletion, None while it lives. An ended life is empty."""

    slug: str
    life: Stamp
    registers: Mapping[str, Register]
    ended: Stamp | None = None

    @cached_property
    def register_bits(self) -> int:
        """What all registers together add to the digest, by XOR: `merge` keeps it up to date, register by register."""
        return reduce(xor, starmap(_bits, self.registers.items()), 0)

    @cached_property
    def digest(self) -> str:
        """Equal documents have equal digests on every host: a stamp stands for the value written under it."""
        content = f"{self.slug}\0{self.life}\0{self.ended}\0{self.register_bits:x}"
        return blake2b(content.encode(), digest_size=12).hexdigest()

    def part(self, keys: Iterable[str]) -> Document:
        """The same life with no more than these of its top-level fields, `milestones` not being one of them."""
        paths = project.flatten(dict.fromkeys(keys))
        return Document(self.slug, self.life, {path: self.registers[path] for path in paths if path in self.registers})

    def flat(self) -> Flat:
        """The values that are there, by path."""
        return {path: register.value for path, register in self.registers.items() if not register.gone}

    def json(self, repo_root: str = "") -> JsonObject:
        """The document as people and applications see it."""
        return project.render(claim.spoken(self.flat()), self.slug, repo_root)


@frozen
class Conflict:
    """A write that lost: `value` (None and `gone` for a removal) was to stand at `path` of a life, and does not.

    `path` is "" when a whole document lost to a later life of its slug; `value` is then that document. `stamp` is the
    loser's, `winner` the one that stands. `id` is the same on every host.
    """

    id: str
    slug: str
    life: Stamp
    path: str
    stamp: Stamp
    winner: Stamp
    found_ms: int
    value: Json = None
    gone: bool = False


def fragment(change: Change) -> Document:
    """The document that knows nothing but this change."""
    if change.kind is Kind.DELETED:
        return Document(change.slug, change.life, {}, ended=change.stamp)
    written = {path: Register(change.stamp, value) for path, value in change.fields.items()}
    removed = {path: Register(change.stamp, gone=True) for path in change.removed}
    return Document(change.slug, change.life, written | removed)


def merge(ours: Document | None, theirs: Document) -> Document:
    """Join two states of one document; returns `ours` itself when `theirs` adds nothing."""
    if ours is None:
        return theirs
    if ours.life != theirs.life:
        return max(ours, theirs, key=lambda state: state.life)
    ended = max((stamp for stamp in (ours.ended, theirs.ended) if stamp), default=None)
    if ended:
        return ours if ended == ours.ended else Document(ours.slug, ours.life, {}, ended)
    newer = {path: reg for path, reg in theirs.registers.items() if beats(path, reg, ours.registers.get(path))}
    if not newer:
        return ours
    merged = Document(ours.slug, ours.life, {**ours.registers, **newer})
    # Fills the cache: to hash all registers anew would take a hundred times as long.
    object.__setattr__(merged, "register_bits", _bits_with(ours, newer))
    return merged


def _bits_with(document: Document, newer: Mapping[str, Register]) -> int:
    """The register bits of a document in which these registers stand."""
    replaced = {path: document.registers[path] for path in newer if path in document.registers}
    return reduce(xor, starmap(_bits, [*newer.items(), *replaced.items()]), document.register_bits)


def _bits(path: str, register: Register) -> int:
    return int.from_bytes(blake2b(f"{path}\0{register.stamp}".encode(), digest_size=12).digest())


def beats(path: str, register: Register, other: Register | None) -> bool:
    """Whether a register takes the place of another of the same path; it does not take its own."""
    if other is None:
        return True
    if path.endswith(project.CLAIM_KEY) and project.is_claim(path):  # twice, because few are: a call takes its time
        one, two = claim.order(register.value, register.stamp), claim.order(other.value, other.stamp)
        if one != two:
            return one > two
    elif register.stamp != other.stamp:
        return register.stamp > other.stamp
    if register == other:
        return False
    # One stamp with two values is a broken peer; any order does that is the same everywhere.
    return (register.gone, _canonical(register.value)) > (other.gone, _canonical(other.value))


def _canonical(value: Json) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{_canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    return repr(value)


def taken(merged: Document, theirs: Document) -> dict[str, Register]:
    """The registers of `theirs` that a merge took: what has to be written to disk."""
    return {path: reg for path, reg in theirs.registers.items() if merged.registers.get(path) is reg}


def difference(current: Document, base: JsonObject | None, wanted: JsonObject) -> tuple[JsonObject, tuple[str, ...]]:
    """What a writer who saw `base` (None: the current document) changed by writing `wanted`: fields set, and removed.

    Registers of an element that is gone are not shown; when it comes back, what is left of them goes, but for its
    claim, which begins anew. Raises `DocumentError` when `base` or `wanted` cannot be keyed.
    """
    here = current.flat()
    fixed = claim.spoken_for(here)
    shown = project.flatten(current.json(), ranks=here)
    seen = shown if base is None else project.flatten(base, ranks=here)
    new = project.flatten(wanted, ranks=here)
    edited = {path: value for path, value in new.items() if path not in seen or not equal(seen[path], value)}
    fields = {path: value for path, value in edited.items() if path not in here or not equal(here[path], value)}
    fields = {path: value for path, value in fields.items() if path not in fixed}
    left_over = {path for path in here.keys() - shown.keys() - new.keys() if _is_below(path, fields)}
    gone = (path for path in here if path not in new and (path in seen or path in left_over))
    removed = tuple(path for path in gone if path not in fixed)
    return fields | begun_anew(current, fields, removed), removed


def begun_anew(current: Document, fields: Mapping[str, Json], removed: Iterable[str] = ()) -> Flat:
    """What an edit of these has to say of the claims of phases that it brings back."""
    here = current.flat()
    gone = set(removed)
    return claim.begun_anew(here, {path: value for path, value in {**here, **fields}.items() if path not in gone})


def _is_below(path: str, roots: Mapping[str, Json]) -> bool:
    return any(path[:end] in roots for end, letter in enumerate(path) if letter == "/")


def equal(one: Json, other: Json) -> bool:
    """JSON equality: `true` is not 1, and 1 is not 1.0."""
    return one == other and _canonical(one) == _canonical(other)


def merge_patch(target: Json, patch: Json) -> Json:
    """Apply an RFC 7396 merge patch."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def root_digest(documents: Mapping[str, Document]) -> str:
    """One digest of all living documents, equal on hosts that hold the same."""
    total = 0
    for document in documents.values():
        total ^= root_bits(document)
    return root_text(total)


def root_bits(document: Document | None) -> int:
    """What a document adds (by XOR) to the root digest.

    A deleted one adds nothing: hosts let go of its tombstone at different times, and then still hold the same.
    """
    return 0 if document is None or document.ended else int(document.digest, 16)


def root_text(bits: int) -> str:
    return f"{bits:024x}"
