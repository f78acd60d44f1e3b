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

from collections.abc import Iterator, Mapping

from attrs import define

from meshd.configuration import Configuration
from meshd.core import categories
from meshd.core.complaints import Complaints
from meshd.core.documents import Document
from meshd.core.effects import Effect, Rejected, Reply
from meshd.core.handshake import Handshake
from meshd.core.inputs import Command, DeleteProject, PutProject
from meshd.core.messages import FeatureEvent
from meshd.core.replication import Replication
from meshd.errors import DocumentError
from meshd.model import Dialect, JsonObject, Now
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


@define
class Originals:
    """Takes the events of original peers as edits; what cannot be taken is counted and said once."""

    configuration: Configuration
    handshake: Handshake
    replication: Replication
    complaints: Complaints

    @property
    def may_come_first(self) -> bool:
        """Whether an event may come before its sender has said who it is: an original sends its queue first."""
        return self.configuration.hivemind.original_peers == "allow"

    def received(self, event: FeatureEvent, now: Now) -> Iterator[Effect]:
        """An original peer's event."""
        ours, theirs = self.configuration.name, event.project_name
        if ours and theirs and ours != theirs:
            self.complaints.count("foreign-project")
            text = f"{event.instance_id} sends events of another project, {theirs!r}: refused"
            yield from self.complaints.once("foreign", event.instance_id, text)
            return
        try:
            edited = command(event, self.replication.documents)
        except DocumentError as error:
            yield from self._not_taken(event, str(error))
            return
        if edited is None:
            self.complaints.count("unknown-event")
            return
        for effect in self.replication.command(edited, self.handshake.links(Dialect.NATIVE), now):
            if not isinstance(effect, Reply):
                yield effect
            elif isinstance(effect.outcome, Rejected):  # an original peer waits for no reply
                yield from self._not_taken(event, effect.outcome.detail)

    def _not_taken(self, event: FeatureEvent, reason: str) -> Iterator[Effect]:
        self.complaints.count("invalid-document")
        text = f"{event.instance_id} sent what cannot be taken: {reason}"
        yield from self.complaints.once("invalid-document", event.instance_id, text)
