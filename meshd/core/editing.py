"""What an edit of this host changes: from a wish (put, patch, delete, take back) to fields set and removed.

Rules (design, section 4): a whole document is compared with what its writer last saw, and only the differences are
changes. A patch is an RFC 7396 merge patch. Taking back what lost a conflict writes it again. What the claim of a phase
says is no edit's to change (`meshd.core.documents`).
"""

from __future__ import annotations

from attrs import field, frozen

from meshd import project
from meshd.core import conflicts, documents
from meshd.core.documents import Conflict, Document, Kind
from meshd.errors import DocumentError
from meshd.model import Json, JsonObject, Stamp


@frozen
class Edit:
    """A change without its origin, stamp and life."""

    kind: Kind
    fields: JsonObject = field(factory=dict)
    removed: tuple[str, ...] = ()
    bases: dict[str, Stamp] = field(factory=dict)

    @property
    def is_empty(self) -> bool:
        return self.kind is Kind.UPDATED and not self.fields and not self.removed


def put(slug: str, current: Document | None, document: JsonObject, base: JsonObject | None) -> Edit:
    """Make the project equal to `document`, whose writer saw `base` (None: the current one)."""
    if document.get("slug", slug) != slug:
        raise DocumentError(f"the document's slug is {document['slug']!r}, the project's is {slug!r}")
    if current is None:
        return Edit(Kind.CREATED, project.flatten(document))
    fields, removed = documents.difference(current, base, document)
    # A writer that saw nothing of ours, such as an original peer, cannot be said to have overlooked something.
    saw = project.flatten(base, ranks=current.flat()) if base else None
    return Edit(Kind.UPDATED, fields, removed, conflicts.bases(current, saw, [*fields, *removed]))


def patch(current: Document | None, merge_patch: Json) -> Edit:
    """Apply a merge patch to the current document."""
    assert current is not None, "a patch of what is not there was refused"
    if not isinstance(merge_patch, dict):
        raise DocumentError("a merge patch of a project must be an object")
    project.check_depth(merge_patch)
    touched = current if "milestones" in merge_patch else current.part(merge_patch)
    wanted = documents.merge_patch(touched.json(), merge_patch)
    assert isinstance(wanted, dict)
    return put(current.slug, touched, wanted, None)


def delete(current: Document | None) -> Edit:
    """End the current life."""
    assert current is not None, "a deletion of what is not there was refused"
    return Edit(Kind.DELETED, bases={"": conflicts.newest_stamp(current)})


def take(conflict: Conflict, current: Document | None) -> Edit:
    """Write again what lost."""
    if not conflict.path:
        if not isinstance(conflict.value, dict):
            raise DocumentError(f"conflict {conflict.id} holds no document")
        return put(conflict.slug, current, conflict.value, None)
    assert current is not None, "taking back a field of what is not there was refused"
    here = current.flat()
    is_there = conflict.path in here
    if is_there != conflict.gone and (conflict.gone or documents.equal(here[conflict.path], conflict.value)):
        return Edit(Kind.UPDATED)
    fields = {} if conflict.gone else {conflict.path: conflict.value}
    removed = (conflict.path,) if conflict.gone else ()
    begun = documents.begun_anew(current, fields)
    return Edit(Kind.UPDATED, fields | begun, removed, conflicts.bases(current, None, [conflict.path]))
