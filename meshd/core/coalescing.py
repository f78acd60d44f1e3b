"""A long queue made shorter: of the changes of one register only the newest has to reach the primary.

Rules (design, section 5):

- Only updates are coalesced; a creation and a deletion stay as they are. What a later deletion of the same life makes
  pointless goes.
- A claim (`meshd.core.claim`) that a later one of the queue does not beat stays: it has its own order, and one that
  loses may be a late result.
- The change that stays takes over the base of the earliest one that went, so that a conflict is still found.
- Seqs are not given out anew: the primary finds holes, and compares all documents once.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve, frozen

from meshd.core.conflicts import written
from meshd.core.documents import Change, Kind, Register, beats, fragment
from meshd.model import Stamp


@frozen
class Coalesced:
    """What is to be done to a queue: changes that became smaller, and the seqs of those that went."""

    smaller: tuple[Change, ...]
    gone: tuple[int, ...]


def coalesced(queue: Iterable[Change]) -> Coalesced:
    """Find what later changes of the queue, which is in the order of seqs, have overwritten."""
    changes = list(queue)
    earliest_base: dict[tuple[str, Stamp, str], Stamp | None] = {}
    for change in changes:
        for path in written(change) if change.kind is Kind.UPDATED else ():
            earliest_base.setdefault((change.slug, change.life, path), change.bases.get(path))
    ended = {(change.slug, change.life) for change in changes if change.kind is Kind.DELETED}
    standing = _standing(changes)
    smaller: list[Change] = []
    gone: list[int] = []
    for change in changes:
        if change.kind is not Kind.UPDATED:
            continue
        kept = standing[change.seq]
        if not kept or (change.slug, change.life) in ended:
            gone.append(change.seq)
            continue
        bases = {path: base for path in kept if (base := earliest_base[change.slug, change.life, path])}
        if kept != written(change).keys() or bases != change.bases:
            smaller.append(_only(change, kept, bases))
    return Coalesced(tuple(smaller), tuple(gone))


def _standing(changes: Iterable[Change]) -> dict[int, set[str]]:
    """Of each update, by seq, the paths that no later one takes."""
    later: dict[tuple[str, Stamp, str], Register] = {}
    standing: dict[int, set[str]] = {}
    for change in reversed([change for change in changes if change.kind is Kind.UPDATED]):
        kept = standing[change.seq] = set()
        for path, register in fragment(change).registers.items():
            key = (change.slug, change.life, path)
            if beats(path, register, later.get(key)):
                later[key] = register
                kept.add(path)
    return standing


def _only(change: Change, kept: set[str], bases: dict[str, Stamp]) -> Change:
    fields = {path: value for path, value in change.fields.items() if path in kept}
    return evolve(change, fields=fields, removed=tuple(path for path in change.removed if path in kept), bases=bases)
