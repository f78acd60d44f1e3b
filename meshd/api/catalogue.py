"""What a list shows of each document, known without reading it again."""

from __future__ import annotations

from collections.abc import Mapping

import trio
from attrs import define, field, frozen

from meshd.core.documents import Document
from meshd.model import Json
from meshd.project import is_reserved


@frozen
class Entry:
    """One living document."""

    document: Document
    title: Json
    status: Json
    milestones: int
    phases: int


@define
class Catalogue:
    """The entries of all living documents, each made anew only when its document has changed."""

    repo_root: str
    _entries: dict[str, Entry] = field(factory=dict)

    async def entries(self, documents: Mapping[str, Document]) -> list[Entry]:
        """The living projects among `documents`, by slug. Others get their turn while many are read."""
        entries: dict[str, Entry] = {}
        for slug in sorted(slug for slug, document in documents.items() if _is_project(document)):
            entry = self._entries.get(slug)
            if entry is None or entry.document.digest != documents[slug].digest:
                entry = _entry(documents[slug], self.repo_root)
                await trio.lowlevel.checkpoint()
            entries[slug] = entry
        self._entries = entries
        return list(entries.values())


def _is_project(document: Document) -> bool:
    return document.ended is None and not is_reserved(document.slug)


def _entry(document: Document, repo_root: str) -> Entry:
    content = document.json(repo_root)
    milestones = _objects(content.get("milestones"))
    return Entry(
        document,
        title=content.get("title"),
        status=content.get("status"),
        milestones=len(milestones),
        phases=sum(len(_objects(milestone.get("phases"))) for milestone in milestones),
    )


def _objects(value: Json) -> list[dict[str, Json]]:
    """The objects of an array; none when a document has something else in its place."""
    return [element for element in value if isinstance(element, dict)] if isinstance(value, list) else []
