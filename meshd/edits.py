"""Edits of project files by hand: from the workspace into the mesh.

Rules (design, sections 4 and 10):

- An edit is what differs from the base, the content that the file last had from us: only that becomes a change.
- What is written over a claim is no edit (`meshd.core.documents`): the file is brought up to date again.
- A file that we never wrote is a new project. When the mesh has a project of that name already, the mesh's stands,
  and the file's content is set aside and reported: it may be of any age.
- So an instance with an empty store (a new one, or one whose database was lost) does not look at its files before it
  has heard what the mesh has: a worker has compared documents with its primary, a primary has met all its peers. It
  waits for a whole TTL at most.
- What is refused stays in its file, is reported, and is part of the next edit. What there was no room for is tried
  again until there is.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeAlias

import trio

from meshd.core.documents import Document
from meshd.core.effects import Accepted, Rejected
from meshd.core.inputs import Command, PutProject
from meshd.core.snapshot import Snapshot
from meshd.errors import DocumentError
from meshd.model import JsonObject, Role
from meshd.project import check_shape
from meshd.workspace import Edited, Invalid, Report, Unwritable, Workspace

SetAside: TypeAlias = Callable[[str, JsonObject], Awaitable[str]]
"""Keeps a document that cannot be taken; given its slug, returns where."""

AT_ONCE = 16  # edits taken in one go: each waits for its commit, and systemd's watchdog for the end of the go
_NO_ROOM = {"disk-full", "outbox-full"}

_log = logging.getLogger("meshd.workspace")


class Engine(Protocol):
    """What the edits need of the driver."""

    def snapshot(self) -> Snapshot: ...
    async def submit(self, command: Command) -> Accepted | Rejected: ...
    async def show(self, documents: Iterable[Document]) -> None: ...
    async def catch_up(self) -> None: ...


class Edits:
    """Takes in what was written by hand; `take` is due once a second. `peers` counts the other instances."""

    def __init__(
        self, workspace: Workspace, engine: Engine, set_aside: SetAside, wait_for_mesh_s: float, *, peers: int = 0
    ) -> None:
        self._workspace = workspace
        self._engine = engine
        self._set_aside = set_aside
        self._peers = peers
        self._is_held = not engine.snapshot().documents
        self._has_said_so = False
        self._held_until_s = trio.current_time() + wait_for_mesh_s
        self._had_heard = peers == 0
        self._reports: deque[Report] = deque()  # of one look; the next one comes when all were handled
        self._without_room: dict[str, Edited] = {}
        self._tried_again: set[str] = set()

    async def take(self) -> None:
        """Look at every file once, and bring those up to date that had to wait."""
        if not self._has_to_wait():
            await self._take_some()
        await self._engine.catch_up()

    async def _take_some(self) -> None:
        if not self._reports:
            await self._look()
        for _ in range(min(len(self._reports), AT_ONCE)):
            report = self._reports.popleft()
            if isinstance(report, Edited):
                await self._take(report)
            else:
                self._warn(report.slug, _told(report))

    async def _look(self) -> None:
        reports = await self._workspace.poll()
        newer = {report.slug for report in reports if isinstance(report, Edited)}
        again = [edit for edit in self._without_room.values() if edit.slug not in newer]
        self._tried_again, self._without_room = {edit.slug for edit in again}, {}
        self._reports.extend([*again, *reports])

    def _has_to_wait(self) -> bool:
        if self._is_held and trio.current_time() < self._held_until_s:
            snapshot = self._engine.snapshot()
            online = sum(member.status.is_online for member in snapshot.members)
            heard = snapshot.synced and (snapshot.role is Role.WORKER or online >= self._peers)
            # Whom a primary has just met may still be sending: it counts at the next look.
            heard, self._had_heard = heard and (snapshot.role is Role.WORKER or self._had_heard), heard
            self._is_held = not heard
            self._say_so()
        else:
            self._is_held = False
        return self._is_held

    def _say_so(self) -> None:
        if self._is_held and not self._has_said_so:
            self._has_said_so = True
            left_s = self._held_until_s - trio.current_time()
            _log.info("the store is empty: project files wait until the mesh was heard, %.0f s at most", left_s)

    async def _take(self, edit: Edited) -> None:
        if edit.base is None and self._document(edit.slug):
            where = await self._set_aside(edit.slug, edit.document)
            self._workspace.absorbed(edit)
            if document := self._document(edit.slug):
                await self._engine.show([document])
            stands = "meshd did not write this file, and the mesh has a project of this name, which stands"
            self._warn(edit.slug, f"{stands}: the file's content was set aside as {where}")
            return
        outcome = _slip(edit) or await self._engine.submit(PutProject(0, edit.slug, edit.document, base=edit.base))
        if isinstance(outcome, Rejected):
            if outcome.code in _NO_ROOM:
                self._without_room[edit.slug] = edit
                if edit.slug in self._tried_again:
                    return
            self._warn(edit.slug, f"the edit was not taken, it waits in the file: {outcome.detail}")
            return
        self._workspace.absorbed(edit)
        if not outcome.changed and (document := self._document(edit.slug)):
            await self._engine.show([document])  # what was written over a claim, which no edit changes

    def _warn(self, slug: str, text: str) -> None:
        _log.warning("%s: %s", self._workspace.path(slug), text, extra={"fields": {"slug": slug or None}})

    def _document(self, slug: str) -> Document | None:
        document = self._engine.snapshot().documents.get(slug)
        return document if document and document.ended is None else None


def _slip(edit: Edited) -> Rejected | None:
    """Why an edit is not taken that would leave no list of milestones or phases where there was one, or none yet."""
    try:
        check_shape(edit.base or {})
    except DocumentError:  # it came so from a peer, and nothing is lost
        return None
    try:
        check_shape(edit.document)
    except DocumentError as error:
        return Rejected("invalid", str(error))
    return None


def _told(report: Invalid | Unwritable) -> str:
    """What is wrong with a file, and what becomes of it."""
    if isinstance(report, Unwritable):
        return f"cannot be brought up to date: {report.reason}: the document is safe, the file is tried again"
    if not report.slug:
        return f"cannot be read: {report.reason}: nobody's edits are seen before it can be"
    return f"{report.reason}: the file is left alone and the document stays as it was, mend the file or delete it"
