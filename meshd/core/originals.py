"""Original peers: their whole-document events as edits of ours.

Rules (wire, "Original messages"):

- `project:created` and `project:updated` carry a whole copy that may be older than ours. What it has differently is
  taken as the peer's edit; keys that we have and it lacks are left alone. Only `project:created` begins a project
  anew that was deleted here: an update that comes late does not.
- `project:deleted` deletes. `projectPath` is a path on the sender's host and is replaced by our own before anything
  else happens (see `meshd.project`); an event is never refused because the paths differ.
- `feature:*` is local to each instance and is not taken from anybody.
"""

from __future__ import annotations

from collections.abc import Mapping

from meshd.core.documents import Document
from meshd.core.inputs import Command, DeleteProject, PutProject
from meshd.core.messages import FeatureEvent
from meshd.errors import DocumentError
from meshd.project import check_name

NO_REPLY = 0
"""The command number of an edit nobody on this host waits for."""


def command(event: FeatureEvent, documents: Mapping[str, Document]) -> Command | None:
    """The edit an event stands for; None for event types that are not ours to take. Raises `DocumentError`."""
    match event.event_type:
        case "project:created" | "project:updated":
            document = event.payload.get("project")
            if not isinstance(document, dict):
                raise DocumentError(f"{event.event_type} without a project")
            slug = check_name(event.payload.get("projectSlug", document.get("slug")), "projectSlug")
            known = documents.get(slug)
            if known and known.ended and event.event_type == "project:updated":
                return None
            return PutProject(NO_REPLY, slug, document, base={} if known and known.ended is None else None)
        case "project:deleted":
            return DeleteProject(NO_REPLY, check_name(event.payload.get("projectSlug"), "projectSlug"))
    return None
