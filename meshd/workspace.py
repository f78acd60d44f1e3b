"""The workspace: `<repoRoot>/.automaker/projects/<slug>/project.json`, a view of the documents for people and programs.

Files follow documents (`write`), and an edit of a file by somebody else is found by looking (`poll`, about once a
second: no notification, so that bind mounts and network file systems work too) and becomes a change of its document.
Rules:

- The database is the truth. A file is replaced atomically and without fsync: what a power cut takes from it is
  written again.
- Each file has a **base**: its content when it and its document last agreed. An edit is what differs from the base.
- A file that is not as we know it (another mtime, size or inode, and other content) is never overwritten: not an edit
  before its `Edited` was `absorbed`, not one that is invalid. Its document waits, and each `write` tries again.
- Deleting a file is no deletion of the project: it is written again. An empty file counts as deleted.
- What looks invalid or deleted is believed only when the next poll finds it the same: it may be half saved.
- No symbolic link below the repository root is followed.
- The list of categories is the array in `<repoRoot>/.automaker/categories.json`, under the same rules. Other documents
  of meshd's own have no file.
- A feature is shown in `<repoRoot>/.automaker/features/<id>/feature.json`, for reading alone: what somebody else writes
  there is overwritten with the feature's next write. No file of a feature is ever removed.

What the caller owes: what `write` returned belongs into the store's next commit, at the latest with the next change
of that document; and `write` of all documents comes before anything else after a start. An edit made while nobody
watched is then told from a file that is merely behind. `write(())` after each poll finishes what had to wait.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self, TypeAlias

import orjson
import trio
from attrs import define, frozen

from meshd import project
from meshd.core import categories
from meshd.core.documents import Document, equal
from meshd.core.feature import Feature
from meshd.errors import DocumentError
from meshd.model import Json, JsonObject
from meshd.workspace_files import (
    ABSENT,
    MAX_FILE_BYTES,
    UNKNOWN,
    Changed,
    DiskFiles,
    Files,
    MemoryFiles,
    Signature,
    feature_slug,
    path_of,
)


@frozen
class Edited:
    """Somebody wrote `document` into the file of `slug`, over `base` (None: there was no file that we know of)."""

    slug: str
    base: JsonObject | None
    document: JsonObject


@frozen
class Invalid:
    """A file that cannot be taken, and is left alone; `slug` is "" when the folder of all projects cannot be read."""

    slug: str
    reason: str


@frozen
class Unwritable:
    """A file that could not be brought up to date; it is tried again with each `write`."""

    slug: str
    reason: str


Report: TypeAlias = Edited | Invalid | Unwritable


class Workspace(Protocol):
    """The files of one repository. No method raises for what is wrong with one: `poll` reports it."""

    async def write(self, documents: Iterable[Document]) -> Mapping[str, JsonObject | None]:
        """Bring the files of these documents up to date, and those that had to wait; an ended document's file goes.

        Returns the content of each file that agrees with its document now (None: there is none), by slug.
        """

    async def write_features(self, features: Iterable[Feature]) -> None:
        """Bring the files of these features up to date; what they hold already is not written again.

        What could not be written is reported by `poll`, with `features/<id>` as its slug, and tried again with each
        `write`.
        """

    async def poll(self) -> Sequence[Report]:
        """Look at every file once; return what is new since the last poll, each thing once."""

    def path(self, slug: str) -> str:
        """Where a person finds the file of this slug; for "" the folder of all projects."""

    def absorbed(self, edit: Edited) -> None:
        """This edit is in its document, durably: its file may be overwritten. A refused one stays for the next edit."""


class DiskWorkspace:
    """The files on disk, worked on by one thread at a time; `seen` is what they last held as the store knows it.

    Features are shown as claimed by `instance_id`.
    """

    def __init__(self, repo_root: Path, seen: Mapping[str, JsonObject], instance_id: str) -> None:
        self._view = _View(DiskFiles(repo_root), str(repo_root), seen, instance_id)
        self._one_thread = trio.CapacityLimiter(1)
        self._repo_root = str(repo_root)

    def path(self, slug: str) -> str:
        return path_of(self._repo_root, slug)

    async def write(self, documents: Iterable[Document]) -> Mapping[str, JsonObject | None]:
        return await trio.to_thread.run_sync(self._view.write, tuple(documents), limiter=self._one_thread)

    async def write_features(self, features: Iterable[Feature]) -> None:
        await trio.to_thread.run_sync(self._view.write_features, tuple(features), limiter=self._one_thread)

    async def poll(self) -> Sequence[Report]:
        return await trio.to_thread.run_sync(self._view.poll, limiter=self._one_thread)

    def absorbed(self, edit: Edited) -> None:
        self._view.absorbed(edit)


class MemoryWorkspace:
    """The same without disk and threads; `edit` and `text` are a person's hand and eye; a feature's slug is
    `features/<id>` to them.

    `before` is the workspace of an earlier process over the same files.
    """

    def __init__(
        self,
        repo_root: str = "/memory",
        seen: Mapping[str, JsonObject] | None = None,
        before: Self | None = None,
        instance_id: str = "memory",
    ) -> None:
        self._files: MemoryFiles = before._files if before else MemoryFiles()
        self._view = _View(self._files, repo_root, seen or {}, instance_id)
        self._repo_root = repo_root

    def path(self, slug: str) -> str:
        return path_of(self._repo_root, slug)

    async def write(self, documents: Iterable[Document]) -> Mapping[str, JsonObject | None]:
        await trio.lowlevel.checkpoint()
        return self._view.write(documents)

    async def write_features(self, features: Iterable[Feature]) -> None:
        await trio.lowlevel.checkpoint()
        self._view.write_features(features)

    async def poll(self) -> Sequence[Report]:
        await trio.lowlevel.checkpoint()
        return self._view.poll()

    def absorbed(self, edit: Edited) -> None:
        self._view.absorbed(edit)

    def edit(self, slug: str, text: str | None) -> None:
        """Write a file by hand; None deletes it."""
        self._files.put(slug, None if text is None else text.encode())

    def text(self, slug: str) -> str | None:
        content = self._files.contents.get(slug)
        return None if content is None else content[1].decode()


@define
class _File:
    """What is known of one project file.

    `base` stands in version `agreed`, which may be overwritten; `judged` is the version that was reported, as `edit`
    or as invalid; `doubted` the one that the next poll judges if it is still there.
    """

    base: JsonObject | None = None
    agreed: Signature = ABSENT
    judged: Signature = UNKNOWN
    doubted: Signature = UNKNOWN
    edit: Edited | None = None
    waiting: bool = False
    wanted: JsonObject | None = None  # what shall stand there, when `waiting`; None: no file
    unread: Invalid | None = None  # what the disk said, as last reported
    unwritten: Unwritable | None = None

    def agree(self, signature: Signature, content: JsonObject | None) -> None:
        self.agreed, self.base = signature, content
        self.judged = self.doubted = UNKNOWN
        self.edit = None


class _View:
    """The rules above, over any files; one call at a time, but for `absorbed`."""

    def __init__(self, disk: Files, repo_root: str, seen: Mapping[str, JsonObject], instance_id: str) -> None:
        self._disk = disk
        self._repo_root = repo_root
        self._instance_id = instance_id
        self._files = {slug: _File(content, UNKNOWN) for slug, content in seen.items()}
        self._absorbed: deque[Edited] = deque()  # crosses threads; each reported edit enters it at most once
        self._unwritable: dict[str, Unwritable] = {}  # for the next poll, by slug
        self._unlisted: Invalid | None = None
        self._features: dict[str, bytes] = {}  # what their files shall hold, and do not yet
        self._unwritten: dict[str, Unwritable] = {}  # of features, as last reported

    def absorbed(self, edit: Edited) -> None:
        self._absorbed.append(edit)

    def _take_absorbed(self) -> None:
        while self._absorbed:
            edit = self._absorbed.popleft()
            file = self._files.get(edit.slug)
            if file and file.edit is edit:
                file.agree(file.judged, edit.document)
            elif file:  # touched once more since: the next edit has this one as its base
                file.base, file.agreed = edit.document, UNKNOWN

    def write(self, documents: Iterable[Document]) -> Mapping[str, JsonObject | None]:
        self._take_absorbed()
        for document in documents:
            if project.is_reserved(document.slug) and document.slug != categories.SLUG:
                continue
            file = self._files.setdefault(document.slug, _File())
            file.wanted = None if document.ended else _shown(document, self._repo_root)
            file.waiting = True
        standing: dict[str, JsonObject | None] = {}
        for slug, file in [item for item in self._files.items() if item[1].waiting]:
            if self._try_write(slug, file):
                standing[slug] = file.base
                if file.base is None:
                    del self._files[slug]
        self._write_waiting_features()
        return standing

    def _try_write(self, slug: str, file: _File) -> bool:
        """Bring one file up to date where it may be overwritten; tell whether it is."""
        try:
            self._write(project.check_name(slug, "the slug"), file)
        except Changed:
            return False
        except (OSError, DocumentError) as error:
            problem = Unwritable(slug, _reason(error))
            if problem != file.unwritten:
                self._unwritable[slug] = file.unwritten = problem
            return False
        file.waiting, file.wanted, file.unwritten = False, None, None
        return True

    def _write(self, slug: str, file: _File) -> None:
        signature = self._disk.signature(slug)
        if signature != file.agreed:
            self._recognize(slug, file, signature)
        if file.wanted is None:
            file.agree(self._disk.replace(slug, None, file.agreed), None)
        elif file.base is None or not equal(file.base, file.wanted):
            content = _content(slug, file.wanted)
            file.agree(self._disk.replace(slug, content, file.agreed), file.wanted)

    def _recognize(self, slug: str, file: _File, signature: Signature) -> None:
        """Agree with a version not seen before if its content is what we know or want; raise `Changed` if not."""
        if signature == ABSENT and file.wanted is None:
            return file.agree(ABSENT, None)
        if signature in (ABSENT, file.judged):
            raise Changed
        signature, content = self._disk.read(slug)
        found = _judge(slug, content)
        for known in (file.wanted, file.base):
            if isinstance(found, dict) and known is not None and equal(found, known):
                return file.agree(signature, known)
        raise Changed

    def write_features(self, features: Iterable[Feature]) -> None:
        for feature in features:
            self._features[feature_slug(feature.id)] = _indented(feature.json(self._instance_id))
        self._write_waiting_features()

    def _write_waiting_features(self) -> None:
        for slug, content in list(self._features.items()):
            try:
                self._write_feature(slug, content)
            except Changed:  # somebody is writing it: the next time
                continue
            except OSError as error:
                problem = Unwritable(slug, _reason(error))
                if problem != self._unwritten.get(slug):
                    self._unwritable[slug] = self._unwritten[slug] = problem
            else:
                del self._features[slug]
                self._unwritten.pop(slug, None)

    def _write_feature(self, slug: str, content: bytes) -> None:
        signature, found = self._disk.signature(slug), None
        if signature != ABSENT:
            signature, found = self._disk.read(slug)
        if found != content:
            self._disk.replace(slug, content, signature)

    def poll(self) -> Sequence[Report]:
        self._take_absorbed()
        reports: list[Report] = list(self._unwritable.values())
        self._unwritable.clear()
        try:
            present = self._disk.look()
        except OSError as error:
            problem = Invalid("", _reason(error))
            if problem != self._unlisted:
                reports.append(problem)
            self._unlisted = problem
            return reports
        self._unlisted = None
        for slug in sorted(self._files.keys() | present.keys()):
            file = self._files.setdefault(slug, _File())
            with contextlib.suppress(Changed):
                reports += self._look_at(slug, file, present.get(slug, ABSENT))
            if slug not in present and file.base is None and not file.waiting:
                del self._files[slug]
        return reports

    def _look_at(self, slug: str, file: _File, signature: Signature) -> Sequence[Report]:
        if signature in (file.agreed, file.judged):
            file.doubted = UNKNOWN
            return ()
        try:
            signature, content = (ABSENT, b"") if signature == ABSENT else self._disk.read(slug)
        except OSError as error:
            problem = Invalid(_readable(slug), _reason(error))
            known, file.unread = file.unread, problem
            return () if problem == known else (problem,)
        file.unread = None
        found = _judge(slug, content)
        if isinstance(found, dict):
            return self._take_edit(slug, file, signature, found)
        if signature == file.doubted:
            return self._believe(slug, file, signature, found)
        file.doubted = signature
        return ()

    def _take_edit(self, slug: str, file: _File, signature: Signature, found: JsonObject) -> Sequence[Report]:
        if file.base is not None and equal(found, file.base):  # touched, or saved as it was
            file.agree(signature, file.base)
            return ()
        file.judged, file.doubted = signature, UNKNOWN
        file.edit = Edited(slug, file.base, found)
        return (file.edit,)

    def _believe(self, slug: str, file: _File, signature: Signature, reason: str | None) -> Sequence[Report]:
        """Take it as invalid for this reason; as deleted, to be written again, without one."""
        if reason is not None:
            file.judged, file.edit = signature, None
            return (Invalid(_readable(slug), reason),)
        if file.base is not None and not file.waiting:
            file.waiting, file.wanted = True, file.base
        file.agree(signature, None)
        return ()


def _shown(document: Document, repo_root: str) -> JsonObject:
    """The document that a file is to stand for."""
    if document.slug == categories.SLUG:
        return categories.wanted(categories.listed(document))
    return document.json(repo_root)


def _content(slug: str, document: JsonObject) -> bytes:
    return _indented(categories.listed_in(document) if slug == categories.SLUG else document)


def _indented(value: Json) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _judge(slug: str, content: bytes) -> JsonObject | str | None:
    """The document that a file's content stands for, why it is none, or None for no content at all."""
    try:
        return _parse(slug, content) if content else None
    except DocumentError as error:
        return str(error)


def _parse(slug: str, content: bytes) -> JsonObject:
    if len(content) > MAX_FILE_BYTES:
        raise DocumentError(f"larger than {MAX_FILE_BYTES} bytes")
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise DocumentError(f"not JSON: {error}") from error
    if slug == categories.SLUG:
        document = categories.wanted(document)
    if not isinstance(document, dict):
        raise DocumentError("not a JSON object")
    if document.get("slug", slug) != slug:
        raise DocumentError(f"its slug is {document['slug']!r:.100}, which is not the name of its folder")
    if slug != categories.SLUG:
        project.check_slug(slug, "the folder's name")
    project.flatten(document)
    return document


def _reason(error: OSError | DocumentError) -> str:
    if isinstance(error, DocumentError):
        return str(error)
    links = {errno.ELOOP: "a symbolic link", errno.ENOTDIR: "not a folder, or a symbolic link"}
    text = f"{links[error.errno]} (not followed)" if error.errno in links else error.strerror or str(error)
    return f"{_readable(error.filename)}: {text}" if isinstance(error.filename, str) else text


def _readable(name: str) -> str:
    """A file's name as text that can be printed: the bytes of a name need not be UTF-8."""
    return os.fsencode(name).decode(errors="replace")
