"""The files of the workspace on disk: which file belongs to a slug, and what can be done with it.

Everything goes folder by folder through descriptors, so that no symbolic link is followed on the way. A slug's file is
`.automaker/projects/<slug>/project.json`; that of the categories is `.automaker/categories.json`; and the one of a
feature, whose slug here is `features/<id>`, is `.automaker/features/<id>/feature.json`. `MemoryFiles` is the twin
without a disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

from meshd.core import categories

MAX_FILE_BYTES = 8 * 1024 * 1024  # a project document is some ten KiB; this bounds what one edit can make us read

_ROOT = ".automaker"
_PROJECTS = (_ROOT, "projects")
_FILE = "project.json"
_FEATURES = "features/"  # no project's name has a slash
_FEATURE_FILE = "feature.json"

Signature: TypeAlias = tuple[int, int, int]
"""A version of a file: mtime in ns, size, inode."""

ABSENT: Signature = (0, 0, 0)
UNKNOWN: Signature = (-1, -1, -1)
UNREADABLE: Signature = (-2, -2, -2)


class Changed(Exception):  # noqa: N818  a race, not an error
    """A file is not the version that it was expected to be."""


class Files(Protocol):
    """The few things the view asks of a disk. A slug is a folder's name, whatever it holds, or that of the categories
    or of a feature.

    `look` finds every file there is, but those of features. `read` gives not much more than is allowed. `replace`
    overwrites the version `expected` and returns the new one; without content it removes. All raise OSError, the last
    two `Changed`.
    """

    def look(self) -> Mapping[str, Signature]: ...
    def signature(self, slug: str) -> Signature: ...
    def read(self, slug: str) -> tuple[Signature, bytes]: ...
    def replace(self, slug: str, content: bytes | None, expected: Signature) -> Signature: ...


def feature_slug(id_: str) -> str:
    """The slug that stands for a feature's file among those of the projects."""
    return f"{_FEATURES}{id_}"


def _place(slug: str) -> tuple[tuple[str, ...], str]:
    """The folder of a slug's file below the repository root, and the file's name."""
    if slug.startswith(_FEATURES):
        return (_ROOT, *slug.split("/", 1)), _FEATURE_FILE
    return ((_ROOT,), "categories.json") if slug == categories.SLUG else ((*_PROJECTS, slug), _FILE)


def path_of(repo_root: str, slug: str) -> str:
    """The file of a slug as a person names it; for "" the folder of all projects."""
    place, name = _place(slug) if slug else ((_ROOT,), _PROJECTS[-1])
    return "/".join((repo_root, *place, name))


def _temporary(name: str) -> str:
    """Where a file is written before it takes its place: a daemon writes one at a time, and finds what a crash left."""
    return f".{name}.meshd"


class DiskFiles:
    """Below `.automaker`, reached folder by folder so that no symbolic link is followed on the way."""

    def __init__(self, repo_root: Path) -> None:
        self._repo_root = str(repo_root)

    @contextlib.contextmanager
    def _folder(self, *names: str, make: bool = False) -> Iterator[int]:
        with contextlib.ExitStack() as opened:
            folder = os.open(self._repo_root, os.O_RDONLY | os.O_DIRECTORY)
            opened.callback(os.close, folder)
            for name in names:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, dir_fd=folder)
                folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                opened.callback(os.close, folder)
            yield folder

    def look(self) -> Mapping[str, Signature]:
        found = {categories.SLUG: self.signature(categories.SLUG)}
        with contextlib.suppress(FileNotFoundError), self._folder(*_PROJECTS) as projects:
            names = os.listdir(projects)  # noqa: PTH208  a descriptor, not a path
            found |= {name: _folder_signature(projects, name) for name in names if name != categories.SLUG}
        return {name: signature for name, signature in found.items() if signature != ABSENT}

    def signature(self, slug: str) -> Signature:
        place, name = _place(slug)
        with contextlib.suppress(FileNotFoundError):
            if name != _FILE:
                with self._folder(*place) as folder:
                    return _signature(folder, name)
            with self._folder(*_PROJECTS) as projects:
                return _folder_signature(projects, slug)
        return ABSENT

    def read(self, slug: str) -> tuple[Signature, bytes]:
        place, name = _place(slug)
        try:
            with self._folder(*place) as folder:
                with contextlib.suppress(OSError):
                    os.unlink(_temporary(name), dir_fd=folder)  # left by a crash; nobody is writing while we read
                # Without O_NONBLOCK, opening a named pipe would wait for somebody to write.
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        except FileNotFoundError:
            raise Changed from None
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", name)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                content = file.read(MAX_FILE_BYTES + 1)
            if _version(os.fstat(descriptor)) != _version(before):
                raise Changed
        finally:
            os.close(descriptor)
        return _version(before), content

    def replace(self, slug: str, content: bytes | None, expected: Signature) -> Signature:
        if content is None:
            self._remove(slug, expected)
            return ABSENT
        place, name = _place(slug)
        temporary = _temporary(name)
        with self._folder(*place, make=True) as folder:
            try:
                _unlink(temporary, folder)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                with os.fdopen(os.open(temporary, flags, 0o644, dir_fd=folder), "wb") as file:
                    file.write(content)
                # Taken before the rename, which keeps it: an edit made right after must not pass for ours.
                signature = _version(os.stat(temporary, dir_fd=folder))
                _expect(folder, name, expected)
                os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            finally:
                _unlink(temporary, folder)
        return signature

    def _remove(self, slug: str, expected: Signature) -> None:
        place, name = _place(slug)
        with contextlib.suppress(FileNotFoundError):
            with self._folder(*place) as folder:
                _expect(folder, name, expected)
                _unlink(name, folder)
                _unlink(_temporary(name), folder)
            if slug == categories.SLUG:
                return
            with self._folder(*_PROJECTS) as projects, contextlib.suppress(OSError):  # somebody keeps other files there
                os.rmdir(slug, dir_fd=projects)


def _folder_signature(projects: int, slug: str) -> Signature:
    """The version of one project's file; of the folder's name when that is a symbolic link."""
    try:
        folder = os.stat(slug, dir_fd=projects, follow_symlinks=False)
    except FileNotFoundError:
        return ABSENT
    except OSError:  # reading it will say why
        return UNREADABLE
    return _version(folder) if stat.S_ISLNK(folder.st_mode) else _signature(projects, f"{slug}/{_FILE}")


def _signature(folder: int, name: str) -> Signature:
    try:
        return _version(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except OSError:  # reading it will say why
        return UNREADABLE


def _version(status: os.stat_result) -> Signature:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _expect(folder: int, name: str, expected: Signature) -> None:
    try:
        found = _version(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        found = ABSENT
    if found != expected:
        raise Changed


def _unlink(name: str, folder: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


class MemoryFiles:
    """The same in memory; `put` is the hand of a person."""

    def __init__(self) -> None:
        self.contents: dict[str, tuple[Signature, bytes]] = {}
        self._writes = 0

    def put(self, slug: str, content: bytes | None) -> Signature:
        if content is None:
            self.contents.pop(slug, None)
            return ABSENT
        self._writes += 1
        signature = (self._writes, len(content), 1)
        self.contents[slug] = (signature, content)
        return signature

    def look(self) -> Mapping[str, Signature]:
        files = self.contents.items()
        return {slug: signature for slug, (signature, _) in files if not slug.startswith(_FEATURES)}

    def signature(self, slug: str) -> Signature:
        return self.contents[slug][0] if slug in self.contents else ABSENT

    def read(self, slug: str) -> tuple[Signature, bytes]:
        return self.contents[slug]

    def replace(self, slug: str, content: bytes | None, expected: Signature) -> Signature:
        if self.signature(slug) != expected:
            raise Changed
        return self.put(slug, content)
