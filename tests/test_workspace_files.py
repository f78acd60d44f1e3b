"""`meshd.workspace_files`: the file of the categories, through the workspace. Projects: test_workspace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meshd.core import categories
from meshd.core.categories import LIFE, SLUG
from meshd.core.documents import Document, Register
from meshd.model import Json, Stamp
from meshd.workspace import DiskWorkspace, Edited, Invalid, MemoryWorkspace

STAMP = Stamp(1, 0, "a")
PROJECT = Document("site", STAMP, {"title": Register(STAMP, "One")})


def listed(*values: Json) -> Document:
    return Document(SLUG, LIFE, {"categories": Register(STAMP, list(values))})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / ".automaker" / "categories.json"


def save(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    (file.parent / "edited").write_text(text)
    (file.parent / "edited").replace(file)


async def test_the_file_is_the_array(tmp_path: Path, file: Path) -> None:
    workspace = DiskWorkspace(tmp_path, {})
    standing = await workspace.write([listed("a", "b"), PROJECT])
    assert json.loads(file.read_text()) == ["a", "b"]
    assert standing[SLUG] == categories.wanted(["a", "b"])
    assert sorted(path.name for path in file.parent.iterdir()) == ["categories.json", "projects"]
    assert [path.name for path in (file.parent / "projects").iterdir()] == ["site"]
    assert await workspace.poll() == []
    await workspace.write([listed()])
    assert json.loads(file.read_text()) == []


async def test_an_edit_by_hand_is_a_change_of_the_list(tmp_path: Path, file: Path) -> None:
    workspace = DiskWorkspace(tmp_path, {})
    await workspace.write([listed("a")])
    save(file, '["a", "b"]')
    (edit,) = await workspace.poll()
    assert edit == Edited(SLUG, categories.wanted(["a"]), categories.wanted(["a", "b"]))
    workspace.absorbed(edit)
    await workspace.write([listed("a", "b", "c")])
    assert json.loads(file.read_text()) == ["a", "b", "c"]


async def test_a_file_that_was_there_before_meshd_is_a_new_list(tmp_path: Path, file: Path) -> None:
    save(file, '["theirs"]')
    assert await DiskWorkspace(tmp_path, {}).poll() == [Edited(SLUG, None, categories.wanted(["theirs"]))]


@pytest.mark.parametrize("text", ["{}", '"a"', "[", "null", "[1]" * 2])
async def test_what_is_no_array_is_left_alone_and_reported(tmp_path: Path, file: Path, text: str) -> None:
    workspace = DiskWorkspace(tmp_path, {})
    await workspace.write([listed("a")])
    save(file, text)
    assert await workspace.poll() == []  # it may be half saved
    (report,) = await workspace.poll()
    assert isinstance(report, Invalid)
    assert report.slug == SLUG
    await workspace.write([listed("b")])
    assert file.read_text() == text


async def test_a_deleted_file_is_written_again(tmp_path: Path, file: Path) -> None:
    workspace = DiskWorkspace(tmp_path, {})
    await workspace.write([listed("a")])
    file.unlink()
    for _ in range(2):
        assert await workspace.poll() == []
        await workspace.write(())
    assert json.loads(file.read_text()) == ["a"]


async def test_no_symbolic_link_is_followed(tmp_path: Path, file: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text('["secret"]')
    file.parent.mkdir()
    file.symlink_to(outside)
    workspace = DiskWorkspace(tmp_path, {})
    (report,) = await workspace.poll()
    assert isinstance(report, Invalid)
    await workspace.write([listed("a")])
    assert file.is_symlink()
    assert outside.read_text() == '["secret"]'


async def test_a_half_written_file_of_a_crash_is_cleared(tmp_path: Path, file: Path) -> None:
    save(file, '["a"]')
    (file.parent / ".categories.json.meshd").write_text("[")
    await DiskWorkspace(tmp_path, {}).poll()
    assert [path.name for path in file.parent.iterdir()] == ["categories.json"]


async def test_a_list_that_a_broken_peer_ended_takes_its_file_away(tmp_path: Path, file: Path) -> None:
    workspace = DiskWorkspace(tmp_path, {})
    await workspace.write([listed("a")])
    await workspace.write([Document(SLUG, LIFE, {}, ended=STAMP)])
    assert not file.exists()


async def test_documents_that_are_no_projects_have_no_other_file(tmp_path: Path, file: Path) -> None:
    workspace = DiskWorkspace(tmp_path, {})
    assert await workspace.write([Document("@later", STAMP, {"x": Register(STAMP, 1)})]) == {}
    assert list(tmp_path.iterdir()) == []


async def test_folders_with_reserved_names_are_no_projects(tmp_path: Path, file: Path) -> None:
    for name in (SLUG, "@other"):
        folder = file.parent / "projects" / name
        folder.mkdir(parents=True)
        (folder / "project.json").write_text("{}")
    workspace = DiskWorkspace(tmp_path, {})
    await workspace.poll()
    (report,) = await workspace.poll()
    assert isinstance(report, Invalid)
    assert report.slug == "@other"


async def test_the_twin_in_memory_does_the_same() -> None:
    workspace = MemoryWorkspace()
    await workspace.write([listed("a")])
    assert json.loads(workspace.text(SLUG) or "") == ["a"]
    workspace.edit(SLUG, '["b"]')
    assert await workspace.poll() == [Edited(SLUG, categories.wanted(["a"]), categories.wanted(["b"]))]


async def test_features_are_not_looked_at(tmp_path: Path, file: Path) -> None:
    feature = file.parent / "features" / "f1" / "feature.json"
    feature.parent.mkdir(parents=True)
    feature.write_text('{"id": "f1", "slug": "f1", "title": "Local"}')
    workspace = DiskWorkspace(tmp_path, {})
    await workspace.write([PROJECT, listed("a")])
    for _ in range(2):
        assert await workspace.poll() == []
