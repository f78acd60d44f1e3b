"""The list of categories: shared as documents are, as the one register of a document of its own.

- Its slug is `@categories`, which no project can have; its life is the same on every host and never ends, so that two
  hosts that begin the list apart merge it by stamp, like any other register.
- Applications see `categories:updated` instead of project events, and the file `.automaker/categories.json` instead of
  a project's.
"""

from __future__ import annotations

from meshd.core.documents import Document
from meshd.errors import DocumentError
from meshd.model import Json, JsonObject, Stamp

SLUG = "@categories"
LIFE = Stamp(0, 0, "@")

_FIELD = "categories"


def wanted(categories: Json) -> JsonObject:
    """The document that says this list. Raises `DocumentError` for what is no array."""
    if not isinstance(categories, list):
        raise DocumentError("the categories are a JSON array")
    return {_FIELD: categories}


def listed(document: Document | None) -> list[Json]:
    """The list that a document says; empty before there is one."""
    return listed_in(document.flat()) if document else []


def listed_in(content: JsonObject) -> list[Json]:
    """The list in what `wanted` made."""
    value = content.get(_FIELD)
    return value if isinstance(value, list) else []


def unborn(slug: str) -> Document | None:
    """What is edited before anybody made the list; None for every other slug."""
    return Document(SLUG, LIFE, {}) if slug == SLUG else None
