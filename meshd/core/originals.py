"""Original peers: their whole-document events as edits of ours.

Rules (wire, "Original messages"):

- `project:created` and `project:updated` carry a whole copy that may be older than ours. What it has differently is
  taken as the peer's edit; keys that we have and it lacks are left alone. Only `project:created` begins a project
  anew that was deleted here: an update that comes late does not.
- `project:deleted` deletes, `categories:updated` replaces the list. `projectPath` is a path on the sender's host and is
  replaced by our own before anything else happens (see `meshd.project`); an event is never refused because the paths
  differ.
- `feature:*` is local to each instance and is not taken from anybody.

Applications of this host publish the same events (`edit`), as they did on the original's event bus.
"""

from __future__ import annotations

from collections.abc import Mapping

from meshd.core import categories
from meshd.core.documents import Document
from meshd.core.inputs import Command, DeleteProject, PutProject
from meshd.core.messages import FeatureEvent
from meshd.errors import DocumentError
from meshd.model import JsonObject
from meshd.project import check_slug

NO_REPLY = 0
"""The command number of an edit nobody on this host waits for."""


PUBLISHABLE = frozenset({"project:created", "project:updated", "project:deleted", "categories:updated"})
"""The events that stand for an edit of what the mesh shares."""


def command(event: FeatureEvent, documents: Mapping[str, Document]) -> Command | None:
    """The edit a peer's event stands for; None for what is not ours to take. Raises `DocumentError`."""
    edited = edit(event.event_type, event.payload, documents)
    if event.event_type == "project:updated" and edited and (known := documents.get(edited.slug)) and known.ended:
        return None
    return edited


def edit(event_type: str, payload: JsonObject, documents: Mapping[str, Document]) -> Command | None:
    """The edit that an event stands for, given the documents as they are; None for types not in `PUBLISHABLE`.

    Raises `DocumentError` for a payload that names no project or holds none.
    """
    match event_type:
        case "project:created" | "project:updated":
            document = payload.get("project")
            if not isinstance(document, dict):
                raise DocumentError(f"{event_type} without a project")
            slug = check_slug(payload.get("projectSlug", document.get("slug")), "projectSlug")
            known = documents.get(slug)
            is_edit = known is not None and (known.ended is None or event_type == "project:updated")
            return PutProject(NO_REPLY, slug, document, base={} if is_edit else None)
        case "project:deleted":
            return DeleteProject(NO_REPLY, check_slug(payload.get("projectSlug"), "projectSlug"))
        case "categories:updated":
            return PutProject(NO_REPLY, categories.SLUG, categories.wanted(payload.get("categories")))
    return None
