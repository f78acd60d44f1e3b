"""Both workspaces under one contract, then what only a disk can do: races, links, half-saved and odd files."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import orjson
import pytest
from attrs import frozen

from meshd import project
from meshd.core.documents import Document, Register
from meshd.model import JsonObject, Stamp
from meshd.workspace import (
    DiskWorkspace,
    Edited,
    Invalid,
    MemoryWorkspace,
    Unwritable,
    Workspace,
)
from meshd.workspace_files import MAX_FILE_BYTES

STAMP = Stamp(1, 0, "a")
REAL_DOCUMENTS = Path(__file__).parents[2] / "shared" / "data" / "projects"


def document(title: str = "One", slug: str = "site") -> Document:
    return stored({"slug": slug, "title": title, "projectPath": "/elsewhere", "milestones": []})


def stored(content: JsonObject, slug: str = "") -> Document:
    registers = {path: Register(STAMP, value) for path, value in project.flatten(content).items()}
    return Document(slug or str(content["slug"]), STAMP, registers)


def ended(slug: str = "site") -> Document:
    return Document(slug, STAMP, {}, ended=STAMP)


class Desk(Protocol):
    """A workspace, and the person who sits in front of it."""

    @property
    def root(self) -> str: ...

    def start(self, seen: Mapping[str, JsonObject]) -> Workspace:
        """A workspace over the same files, with what the store remembers."""

    def edit(self, slug: str, text: str | None) -> None: ...

    def text(self, slug: str) -> str | None: ...


@frozen
class DiskDesk:
    path: Path

    @property
    def root(self) -> str:
        return str(self.path)

    def start(self, seen: Mapping[str, JsonObject]) -> Workspace:
        return DiskWorkspace(self.path, seen, "dev-01")

    def file(self, slug: str = "site") -> Path:
        return self.path / ".automaker" / "projects" / slug / "project.json"

    def edit(self, slug: str, text: str | None) -> None:
        file = self.file(slug)
        if text is None:
            file.unlink()
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        # As editors do: a new file under the old name. (An edit in place may fall into the same tick of the clock.)
        (file.parent / "edited").write_text(text)
        (file.parent / "edited").replace(file)

    def text(self, slug: str) -> str | None:
        return self.file(slug).read_text() if self.file(slug).exists() else None


class MemoryDesk:
    root = "/memory"

    def __init__(self) -> None:
        self.workspace = MemoryWorkspace(self.root)

    def start(self, seen: Mapping[str, JsonObject]) -> Workspace:
        self.workspace = MemoryWorkspace(self.root, seen, before=self.workspace)
        return self.workspace

    def edit(self, slug: str, text: str | None) -> None:
        self.workspace.edit(slug, text)

    def text(self, slug: str) -> str | None:
        return self.workspace.text(slug)


@pytest.fixture(params=["disk", "memory"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    return DiskDesk(tmp_path) if request.param == "disk" else MemoryDesk()


@pytest.fixture
def disk(tmp_path: Path) -> DiskDesk:
    return DiskDesk(tmp_path)


def content(desk: Desk, slug: str = "site") -> JsonObject:
    text = desk.text(slug)
    assert text is not None
    found = orjson.loads(text)
    assert isinstance(found, dict)
    return found


def written(title: str = "One", **more: str) -> str:
    return json.dumps({"slug": "site", "title": title, "milestones": [], **more})


async def edit_of(workspace: Workspace, slug: str = "site") -> Edited:
    (report,) = await workspace.poll()
    assert isinstance(report, Edited)
    assert report.slug == slug
    return report


async def polls(workspace: Workspace, times: int = 2) -> Sequence[object]:
    """What so many polls report; what looks wrong or deleted takes two to be believed."""
    return [report for _ in range(times) for report in await workspace.poll()]


# Writing


async def test_a_document_becomes_a_file_that_people_can_read(desk: Desk) -> None:
    workspace = desk.start({})
    standing = await workspace.write([document("Überblick")])
    expected = {"slug": "site", "title": "Überblick", "projectPath": desk.root, "milestones": []}
    assert standing == {"site": expected}
    assert desk.text("site") == json.dumps(expected, indent=2, ensure_ascii=False) + "\n"
    assert await workspace.poll() == []


async def test_every_change_reaches_the_file_and_an_ended_document_takes_it_away(desk: Desk) -> None:
    workspace = desk.start({})
    for title in ("One", "Two", "Three"):
        assert (await workspace.write([document(title)]))["site"] == content(desk)
        assert content(desk)["title"] == title
    assert await workspace.write([ended()]) == {"site": None}
    assert desk.text("site") is None
    assert await polls(workspace) == []


async def test_a_document_created_again_is_written_again(desk: Desk) -> None:
    workspace = desk.start({})
    for _ in range(2):
        await workspace.write([document()])
        await workspace.write([ended()])
    assert (await workspace.write([document("Again")]))["site"] == content(desk)


async def test_a_file_that_is_up_to_date_is_not_written(desk: Desk) -> None:
    desk.edit("site", written(projectPath=desk.root))
    workspace = desk.start({})
    assert await workspace.write([document()]) == {"site": content(desk)}
    assert desk.text("site") == written(projectPath=desk.root)  # not even its format


async def test_an_ended_document_without_a_file_needs_nothing(desk: Desk) -> None:
    workspace = desk.start({})
    assert await workspace.write([ended()]) == {"site": None}
    assert await polls(workspace) == []


# Edits by hand


async def test_an_edit_is_reported_once_with_what_it_was_made_over(desk: Desk) -> None:
    workspace = desk.start({})
    standing = await workspace.write([document()])
    desk.edit("site", written("By hand"))
    edit = await edit_of(workspace)
    assert edit.base == standing["site"]
    assert edit.document == orjson.loads(written("By hand"))
    assert await workspace.poll() == []


async def test_a_new_file_is_an_edit_over_nothing(desk: Desk) -> None:
    workspace = desk.start({})
    desk.edit("site", written())
    assert (await edit_of(workspace)).base is None


async def test_an_edit_that_was_absorbed_is_the_base_of_the_next(desk: Desk) -> None:
    workspace = desk.start({})
    await workspace.write([document()])
    desk.edit("site", written("By hand"))
    first = await edit_of(workspace)
    workspace.absorbed(first)
    desk.edit("site", written("By hand again"))
    assert (await edit_of(workspace)).base == first.document


async def test_an_edit_is_not_overwritten_before_it_was_absorbed(desk: Desk) -> None:
    workspace = desk.start({})
    await workspace.write([document()])
    desk.edit("site", written("By hand"))
    assert await workspace.write([document("From afar")]) == {}
    edit = await edit_of(workspace)
    assert await workspace.write([document("From afar again")]) == {}
    assert desk.text("site") == written("By hand")
    workspace.absorbed(edit)
    assert await workspace.write(()) == {"site": content(desk)}
    assert content(desk)["title"] == "From afar again"


async def test_a_refused_edit_stays_and_is_part_of_the_next(desk: Desk) -> None:
    workspace = desk.start({})
    standing = await workspace.write([document()])
    desk.edit("site", written("Refused"))
    await edit_of(workspace)
    assert await workspace.write([document("From afar")]) == {}
    desk.edit("site", written("Refused", goal="more"))
    assert (await edit_of(workspace)).base == standing["site"]


async def test_an_edit_absorbed_after_the_next_was_found_is_the_base_of_the_one_after(desk: Desk) -> None:
    workspace = desk.start({})
    await workspace.write([document()])
    desk.edit("site", written("First"))
    first = await edit_of(workspace)
    desk.edit("site", written("Second"))
    second = await edit_of(workspace)
    workspace.absorbed(first)
    assert await workspace.write([document("From afar")]) == {}
    desk.edit("site", written("Third"))
    assert (await edit_of(workspace)).base == first.document
    workspace.absorbed(second)
    desk.edit("site", written("Fourth"))
    assert (await edit_of(workspace)).base == second.document


async def test_an_edit_undone_by_hand_is_nothing_to_report_and_may_be_overwritten(desk: Desk) -> None:
    workspace = desk.start({})
    await workspace.write([document()])
    before = desk.text("site")
    desk.edit("site", written("By hand"))
    await edit_of(workspace)
    desk.edit("site", before)
    assert await workspace.poll() == []
    await workspace.write([document("Two")])
    assert content(desk)["title"] == "Two"


async def test_an_absorbed_edit_undone_by_hand_is_an_edit(desk: Desk) -> None:
    workspace = desk.start({})
    await workspace.write([document()])
    before = desk.text("site")
    desk.edit("site", written("By hand"))
    edit = await edit_of(workspace)
    desk.edit("site", before)
    assert await workspace.poll() == []
    workspace.absorbed(edit)
    undo = await edit_of(workspace)
    assert (undo.base, undo.document) == (edit.document, content(desk))


async def test_saving_without_a_change_is_no_edit(desk: Desk) -> None:
    workspace = desk.start({})
    await workspace.write([document()])
    desk.edit("site", json.dumps(dict(reversed(content(desk).items())), indent=7))
    assert await polls(workspace) == []
    await workspace.write([document("Two")])
    assert content(desk)["title"] == "Two"


async def test_an_edit_keeps_the_file_of_an_ended_document(desk: Desk) -> None:
    workspace = desk.start({})
    await workspace.write([document()])
    desk.edit("site", written("By hand"))
    assert await workspace.write([ended()]) == {}
    assert desk.text("site") == written("By hand")
    await edit_of(workspace)
    desk.edit("site", None)
    assert await workspace.write(()) == {"site": None}
    desk.edit("site", written("New"))
    assert (await edit_of(workspace)).base is None


# Deleted, empty and invalid files


@pytest.mark.parametrize("text", [None, ""])
async def test_a_file_deleted_or_emptied_by_hand_is_written_again(desk: Desk, text: str | None) -> None:
    workspace = desk.start({})
    standing = await workspace.write([document()])
    desk.edit("site", text)
    assert await workspace.poll() == []
    assert await workspace.write(()) == {}  # it may be half saved: the next poll decides
    assert await workspace.write([document()]) == {}
    assert desk.text("site") == text
    assert await workspace.poll() == []
    assert await workspace.write(()) == standing
    assert content(desk) == standing["site"]


async def test_a_file_that_was_deleted_is_written_as_its_document_is_by_then(desk: Desk) -> None:
    workspace = desk.start({})
    await workspace.write([document()])
    desk.edit("site", None)
    await workspace.write([document("Two")])
    await polls(workspace)
    await workspace.write(())
    assert content(desk)["title"] == "Two"


async def test_a_file_that_is_back_before_it_was_believed_deleted_is_an_edit(desk: Desk) -> None:
    workspace = desk.start({})
    standing = await workspace.write([document()])
    desk.edit("site", None)
    assert await workspace.poll() == []
    desk.edit("site", written("By hand"))
    assert (await edit_of(workspace)).base == standing["site"]


async def test_an_ended_document_whose_file_was_deleted_by_hand_is_done(desk: Desk) -> None:
    workspace = desk.start({})
    await workspace.write([document()])
    desk.edit("site", None)
    assert await workspace.write([ended()]) == {"site": None}


INVALID = [
    ('{"title": ', "not JSON"),
    ('{"title": NaN}', "not JSON"),
    ("[]", "not a JSON object"),
    ('{"slug": "other"}', "its slug is 'other'"),
    ('{"milestones": [{"title": "no slug"}]}', "milestones[0].slug"),
    ('{"milestones": [{"slug": ".."}]}', "dot"),
    ('{"a": ' + "[" * 300 + "]" * 300 + "}", "nested deeper"),
    (" " * MAX_FILE_BYTES + "{}", f"larger than {MAX_FILE_BYTES}"),
]


@pytest.mark.parametrize(("text", "reason"), INVALID, ids=[reason for _, reason in INVALID])
async def test_an_invalid_file_is_reported_once_and_left_alone(desk: Desk, text: str, reason: str) -> None:
    workspace = desk.start({})
    standing = await workspace.write([document()])
    desk.edit("site", text)
    assert await workspace.poll() == []  # a save may be under way
    assert await workspace.write([document("Two")]) == {}
    (report,) = await workspace.poll()
    assert isinstance(report, Invalid)
    assert report.slug == "site"
    assert reason in report.reason
    assert await polls(workspace) == []
    assert await workspace.write([document("Three")]) == {}
    assert desk.text("site") == text
    desk.edit("site", written("By hand"))
    assert (await edit_of(workspace)).base == standing["site"]


async def test_every_bad_version_is_reported(desk: Desk) -> None:
    workspace = desk.start({})
    for text in ("{", "[", "{"):
        desk.edit("site", text)
        (report,) = await polls(workspace)
        assert isinstance(report, Invalid)


async def test_a_save_seen_half_way_is_not_reported(desk: Desk) -> None:
    workspace = desk.start({})
    await workspace.write([document()])
    for text in ("", '{"slug": "si', '{"slug": "site", "tit'):
        desk.edit("site", text)
        assert await workspace.poll() == []
        assert await workspace.write([document("From afar")]) == {}
    desk.edit("site", written("By hand"))
    await edit_of(workspace)


async def test_an_invalid_file_gives_way_when_it_is_deleted(desk: Desk) -> None:
    workspace = desk.start({})
    await workspace.write([document()])
    desk.edit("site", "{")
    await polls(workspace)
    desk.edit("site", None)
    await polls(workspace)
    await workspace.write([document("Two")])
    assert content(desk)["title"] == "Two"


async def test_a_folder_whose_name_no_project_can_have_is_invalid(desk: Desk) -> None:
    workspace = desk.start({})
    desk.edit(".trash", "{}")
    (report,) = await polls(workspace)
    assert isinstance(report, Invalid)
    assert report.slug == ".trash"


async def test_a_document_whose_name_would_leave_the_workspace_is_not_written(desk: Desk) -> None:
    workspace = desk.start({})
    assert await workspace.write([document(slug="..")]) == {}
    assert desk.text("..") is None
    (report,) = await workspace.poll()
    assert isinstance(report, Unwritable)
    await workspace.write(())
    assert await workspace.poll() == []  # it is tried again, and not said again


# Starting again


async def test_an_edit_made_while_the_daemon_was_down_is_found_with_its_base(desk: Desk) -> None:
    seen = await desk.start({}).write([document()])
    desk.edit("site", written("By hand"))
    workspace = desk.start(only(seen))
    assert await workspace.write([document("From afar")]) == {}
    assert (await edit_of(workspace)).base == seen["site"]


async def test_a_file_that_is_behind_its_document_at_the_start_is_written(desk: Desk) -> None:
    seen = await desk.start({}).write([document()])
    workspace = desk.start(only(seen))
    await workspace.write([document("Two")])
    assert content(desk)["title"] == "Two"
    assert await polls(workspace) == []


async def test_a_file_that_is_ahead_of_what_the_store_saw_is_no_edit(desk: Desk) -> None:
    workspace = desk.start({})
    seen = await workspace.write([document()])
    await workspace.write([document("Two")])
    workspace = desk.start(only(seen))
    assert await workspace.write([document("Two")]) == {"site": content(desk)}
    assert await polls(workspace) == []


async def test_a_file_deleted_while_the_daemon_was_down_is_written_again(desk: Desk) -> None:
    seen = await desk.start({}).write([document()])
    desk.edit("site", None)
    workspace = desk.start(only(seen))
    await workspace.write([document()])
    assert await polls(workspace) == []
    assert await workspace.write(()) == seen
    assert content(desk) == seen["site"]


def only(standing: Mapping[str, JsonObject | None]) -> Mapping[str, JsonObject]:
    return {slug: content for slug, content in standing.items() if content is not None}


# Real documents


def real_documents() -> Iterable[Path]:
    return sorted(REAL_DOCUMENTS.glob("*.json"))


@pytest.mark.skipif(not REAL_DOCUMENTS.is_dir(), reason="the folder of real project documents is not here")
async def test_real_documents_survive_key_for_key_and_a_root_stays_at_home(desk: Desk) -> None:
    originals = [orjson.loads(file.read_bytes()) for file in real_documents()]
    assert originals
    elsewhere = [stored({**original, "projectPath": "/root/of/another/host"}) for original in originals]
    workspace = desk.start({})
    standing = await workspace.write(elsewhere)
    assert standing.keys() == {original["slug"] for original in originals}
    for original in originals:
        assert content(desk, original["slug"]) == {**original, "projectPath": desk.root}
        assert "/root/of/another/host" not in (desk.text(original["slug"]) or "")
    assert await workspace.poll() == []


# The disk


async def test_only_the_document_s_own_file_is_touched(disk: DiskDesk) -> None:
    workspace = disk.start({})
    await workspace.write([document()])
    notes = disk.file().with_name("notes.md")
    notes.write_text("mine")
    (disk.file().parent.parent / "README.md").write_text("not a project")
    await workspace.write([document("Two")])
    assert stat.S_IMODE(disk.file().stat().st_mode) & 0o444 == 0o444 & ~umask()
    await workspace.write([ended()])
    assert list(disk.file().parent.iterdir()) == [notes]
    notes.unlink()
    await workspace.write([document()])
    await workspace.write([ended()])
    assert not disk.file().parent.exists()
    assert await polls(workspace) == []


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


async def test_touching_a_file_is_no_edit(disk: DiskDesk) -> None:
    workspace = disk.start({})
    await workspace.write([document()])
    os.utime(disk.file(), ns=(1, 1))
    assert await polls(workspace) == []
    os.utime(disk.file(), ns=(2, 2))
    await workspace.write([document("Two")])
    assert content(disk)["title"] == "Two"


async def test_an_edit_in_place_is_found_by_its_size_or_time(disk: DiskDesk) -> None:
    workspace = disk.start({})
    await workspace.write([document()])
    disk.file().write_text(written("By hand"))
    workspace.absorbed(await edit_of(workspace))
    disk.file().write_text(written("By mind"))
    os.utime(disk.file(), ns=(1, 1))
    assert (await edit_of(workspace)).document["title"] == "By mind"


async def test_what_a_crash_left_is_cleared_away(disk: DiskDesk) -> None:
    seen = await disk.start({}).write([document()])
    left = disk.file().with_name(".project.json.meshd")
    left.write_text('{"half": ')
    workspace = disk.start(only(seen))
    await workspace.write([document()])
    assert not left.exists()
    left.write_text('{"half": ')
    await workspace.write([ended()])
    assert not disk.file().parent.exists()


async def test_not_utf_8_is_invalid(disk: DiskDesk) -> None:
    workspace = disk.start({})
    disk.edit("site", "")
    disk.file().write_bytes(b'{"title": "\xff"}')
    (report,) = await polls(workspace)
    assert isinstance(report, Invalid)
    assert "not JSON" in report.reason
    assert "UTF-8" in report.reason


async def test_a_folder_s_name_need_not_be_text(disk: DiskDesk) -> None:
    workspace = disk.start({})
    try:
        disk.edit(os.fsdecode(b"caf\xe9"), "{}")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    (report,) = await polls(workspace)
    assert isinstance(report, Invalid)
    assert report.slug == "caf\ufffd"
    report.reason.encode()


def link_project_file(disk: DiskDesk, outside: Path) -> None:
    (outside / "project.json").write_text("{}")
    disk.file().parent.mkdir(parents=True)
    disk.file().symlink_to(outside / "project.json")


def link_project_folder(disk: DiskDesk, outside: Path) -> None:
    disk.file().parent.parent.mkdir(parents=True)
    disk.file().parent.symlink_to(outside)


def link_all_projects(disk: DiskDesk, outside: Path) -> None:
    (disk.path / ".automaker").mkdir()
    (disk.path / ".automaker" / "projects").symlink_to(outside)


def link_automaker(disk: DiskDesk, outside: Path) -> None:
    (disk.path / ".automaker").symlink_to(outside)


@pytest.mark.parametrize("link", [link_project_file, link_project_folder, link_all_projects, link_automaker])
async def test_no_symbolic_link_is_followed(link: Callable[[DiskDesk, Path], None], tmp_path: Path) -> None:
    disk, outside = DiskDesk(tmp_path / "root"), tmp_path / "outside"
    disk.path.mkdir()
    outside.mkdir()
    link(disk, outside)
    before = sorted(outside.iterdir())
    workspace = disk.start({})
    (report,) = await polls(workspace)
    assert isinstance(report, Invalid)
    assert "symbolic link" in report.reason
    assert await workspace.write([document()]) == {}
    assert await workspace.write([ended()]) == {}
    assert sorted(outside.iterdir()) == before
    (report,) = await polls(workspace)
    assert isinstance(report, Unwritable)
    assert "symbolic link" in report.reason


async def test_the_repository_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "link").symlink_to("root")
    await DiskWorkspace(tmp_path / "link", {}, "dev-01").write([document()])
    assert content(DiskDesk(tmp_path / "root"))["title"] == "One"


@pytest.mark.parametrize(("make", "remove"), [(os.mkfifo, os.unlink), (os.mkdir, os.rmdir)])
async def test_what_is_no_file_at_all_is_left_alone(
    disk: DiskDesk, make: Callable[[Path], None], remove: Callable[[Path], None]
) -> None:
    workspace = disk.start({})
    disk.file().parent.mkdir(parents=True)
    make(disk.file())
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    assert await polls(workspace, 5) == [Invalid("site", "project.json: not a regular file")]
    assert await workspace.write([document()]) == {}
    assert len(list(Path("/proc/self/fd").iterdir())) == open_files
    remove(disk.file())
    assert await workspace.write(()) == {"site": content(disk)}


async def test_a_root_that_is_gone_is_reported_and_waited_for(disk: DiskDesk) -> None:
    root = DiskDesk(disk.path / "mount")
    workspace = root.start({})
    assert await workspace.write([document()]) == {}
    (report,) = await polls(workspace)
    assert isinstance(report, Unwritable)
    assert "No such file" in report.reason
    root.path.mkdir()
    assert await workspace.write(()) == {"site": content(root)}


async def test_a_file_where_the_project_s_folder_should_be(disk: DiskDesk) -> None:
    workspace = disk.start({})
    disk.file().parent.parent.mkdir(parents=True)
    disk.file().parent.write_text("in the way")
    assert await workspace.write([document()]) == {}
    assert await polls(workspace) == [Unwritable("site", "site: not a folder, or a symbolic link (not followed)")]
    disk.file().parent.unlink()
    assert await workspace.write(()) == {"site": content(disk)}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_that_may_not_be_written_is_reported_once_and_tried_again(disk: DiskDesk) -> None:
    workspace = disk.start({})
    await workspace.write([document()])
    disk.file().parent.chmod(0o500)
    assert await workspace.write([document("Two")]) == {}
    assert await workspace.write([document("Three")]) == {}
    assert await polls(workspace) == [Unwritable("site", ".project.json.meshd: Permission denied")]
    disk.file().parent.chmod(0o700)
    assert await workspace.write(()) == {"site": content(disk)}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_that_may_not_be_read_is_reported_once_and_read_when_it_may(disk: DiskDesk) -> None:
    workspace = disk.start({})
    disk.edit("site", written())
    disk.file().chmod(0)
    assert await polls(workspace, 3) == [Invalid("site", "project.json: Permission denied")]
    assert await workspace.write([document("From afar")]) == {}
    disk.file().chmod(0o600)
    reports = await workspace.poll()
    assert Edited("site", None, orjson.loads(written())) in reports


async def test_an_edit_is_never_lost_to_a_write(disk: DiskDesk) -> None:
    workspace = disk.start({})
    await workspace.write([document()])
    for turn in range(1, 20):
        disk.edit("site", written(f"by hand {turn}"))
        if turn % 2:
            await workspace.write([document(f"from afar {turn}")])
        edit = await edit_of(workspace)
        assert edit.document["title"] == f"by hand {turn}"
        workspace.absorbed(edit)
        await workspace.write([document(f"merged {turn}")])
        assert content(disk)["title"] == f"merged {turn}"
