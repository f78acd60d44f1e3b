"""Writes that lost: found where two writers did not know of each other, kept until a person has looked.

Rules (design, section 4):

- A change names, in `bases`, the stamp of each register that its writer saw and overwrote. A register that is newer
  than that, or that the writer did not see at all, was written at the same time: whichever of the two has the older
  stamp has lost. For a deletion, `bases[""]` is the newest stamp that the one who deleted had seen.
- When two lives of one slug meet that were begun apart, the earlier one has lost as a whole.
- The hub finds conflicts, for every change passes through it once, and tells everybody; the others only listen. What
  came as a whole document in an exchange carries no bases and is not judged.
- Claims (`meshd.core.claim`) carry no bases: each is written knowing the one before. One that loses is kept when two
  claims of a phase were granted at one generation, or when its work came to an end that the other did not know of (a
  late result): `done`, or `failed`. Of each claim one such conflict while it lived, and one of how it ended. It cannot
  be taken back, only forgotten: what a claim says is no edit's to change.
- At most 100 are kept for a document, the oldest go first. Taking one back is an edit like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import define, evolve, field

from meshd import project
from meshd.core import documents
from meshd.core.claim import Claim, ClaimStatus, claim_of
from meshd.core.documents import Change, Conflict, Document, Kind, Register
from meshd.core.effects import DropConflict, Effect, Emit, Persist, SaveConflict
from meshd.core.handshake import short_hash
from meshd.model import Json, Stamp
from meshd.project import Flat

KEPT_FOR_A_DOCUMENT = 100


@define
class Conflicts:
    """What lost on this instance's documents, by id, oldest first."""

    kept: dict[str, Conflict] = field(factory=dict)

    def of(self, slug: str) -> list[Conflict]:
        return [conflict for conflict in self.kept.values() if conflict.slug == slug]

    def keep(self, found: Iterable[Conflict]) -> Iterator[Effect]:
        """Keep what was found here or told by the hub; what is known already is not told twice."""
        for conflict in found:
            if conflict.id in self.kept:
                continue
            self.kept[conflict.id] = conflict
            yield Persist(SaveConflict(conflict))
            yield Emit("conflict:found", {"projectSlug": conflict.slug, "path": conflict.path, "id": conflict.id})
            for surplus in self.of(conflict.slug)[:-KEPT_FOR_A_DOCUMENT]:
                yield from self.settle((surplus.id,))

    def settle(self, ids: Iterable[str]) -> Iterator[Effect]:
        """Forget conflicts that somebody has looked at."""
        for name in ids:
            if self.kept.pop(name, None):
                yield Persist(DropConflict(name))


def found(before: Document | None, change: Change, now_ms: int) -> list[Conflict]:
    """The writes that lose when `change` meets the document as it was before."""
    if before is None or (before.ended and before.life < change.life):
        return []
    if before.life != change.life:
        return _between_lives(before, change, now_ms)
    if before.ended:
        is_late = change.kind is Kind.UPDATED and not _in_sequence(change.stamp, before.ended)
        return _all_of(change, before.ended, now_ms) if is_late else []
    if change.kind is Kind.DELETED:
        return _deleted(before, change, now_ms)
    return [conflict for path in written(change) if (conflict := _at(path, before, change, now_ms))]


def written(change: Change) -> dict[str, Json]:
    """What a change writes, by path; None where it removes."""
    return {**change.fields, **dict.fromkeys(change.removed)}


def _between_lives(before: Document, change: Change, now_ms: int) -> list[Conflict]:
    if before.life < change.life:
        return [_whole(before, change.life, now_ms)]
    if change.kind is Kind.CREATED:
        return [_whole(documents.fragment(change), before.life, now_ms)]
    return _all_of(change, before.life, now_ms)


def _whole(loser: Document, winner: Stamp, now_ms: int) -> Conflict:
    name = short_hash(loser.slug, str(loser.life))
    return Conflict(name, loser.slug, loser.life, "", loser.life, winner, now_ms, loser.json())


def _all_of(change: Change, winner: Stamp, now_ms: int) -> list[Conflict]:
    """A change to what is over: all that it wrote is lost, but for what it says of work that goes on."""
    return [
        _lost(change, path, change.stamp, winner, value, now_ms)
        for path, value in written(change).items()
        if not project.is_claim(path) or _is_result(claim_of(value))
    ]


def _deleted(before: Document, change: Change, now_ms: int) -> list[Conflict]:
    newest = newest_stamp(before)
    unseen = newest > change.bases.get("", newest)
    return [_whole(before, change.stamp, now_ms)] if unseen else []


def newest_stamp(document: Document) -> Stamp:
    return max((register.stamp for register in document.registers.values()), default=document.life)


def _at(path: str, before: Document, change: Change, now_ms: int) -> Conflict | None:
    there, base = before.registers.get(path), change.bases.get(path)
    if there and project.is_claim(path):
        return _of_claim(path, there, change, now_ms)
    if there is None or there.stamp in (change.stamp, base) or (base and there.stamp < base):
        return None
    if _in_sequence(change.stamp, there.stamp):
        return None
    value, gone = change.fields.get(path), path not in change.fields
    if there.gone == gone and documents.equal(there.value, value):
        return None
    if there.stamp < change.stamp:
        return _lost(change, path, there.stamp, change.stamp, there.value, now_ms, gone=there.gone)
    return _lost(change, path, change.stamp, there.stamp, value, now_ms, gone=gone)


def _of_claim(path: str, there: Register, change: Change, now_ms: int) -> Conflict | None:
    new = Register(change.stamp, change.fields.get(path), gone=path not in change.fields)
    is_taken = documents.beats(path, new, there)
    loser, winner = (there, new) if is_taken else (new, there)
    lost, stands = claim_of(loser.value), claim_of(winner.value)
    if lost is None or stands is None or lost.id == stands.id or _in_sequence(loser.stamp, winner.stamp):
        return None
    is_dual = lost.generation == stands.generation and "" not in (lost.id, stands.id)
    is_late = _is_result(lost) and not (is_taken and _follows(stands, lost))
    if not (is_dual or is_late):
        return None
    conflict = _lost(change, path, loser.stamp, winner.stamp, loser.value, now_ms, gone=False)
    ended = "" if lost.is_live else lost.status.value
    return evolve(conflict, id=short_hash(change.slug, path, lost.id, ended))


def _is_result(claim: Claim | None) -> bool:
    return claim is not None and claim.status in (ClaimStatus.DONE, ClaimStatus.FAILED)


def _follows(claim: Claim, result: Claim) -> bool:
    """Whether a claim was made knowing this result: a person decided so, or a failure is tried again."""
    return claim.id == "" or (result.status is ClaimStatus.FAILED and result.retry_ms is not None)


def _in_sequence(earlier: Stamp, later: Stamp) -> bool:
    """Whether one host wrote both, in this order: it knew what it did, they only arrived the other way round."""
    return earlier < later and earlier.instance_id == later.instance_id


def _lost(
    change: Change, path: str, stamp: Stamp, winner: Stamp, value: Json, now_ms: int, *, gone: bool | None = None
) -> Conflict:
    gone = path not in change.fields if gone is None else gone
    name = short_hash(change.slug, path, str(stamp))
    return Conflict(name, change.slug, change.life, path, stamp, winner, now_ms, value, gone)


def bases(current: Document, base: Flat | None, paths: Iterable[str]) -> dict[str, Stamp]:
    """What a writer saw of the registers it overwrites, by path; `base` is what it saw, None when all of `current`."""
    saw: dict[str, Stamp] = {}
    for path in paths:
        there = None if project.is_claim(path) else current.registers.get(path)
        if there and (base is None or _saw(base, path, there.value, gone=there.gone)):
            saw[path] = there.stamp
    return saw


def _saw(base: Flat, path: str, value: Json, *, gone: bool) -> bool:
    return path not in base if gone else path in base and documents.equal(base[path], value)
