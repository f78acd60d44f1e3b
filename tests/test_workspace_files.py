"""`meshd.workspace_files`: the files of categories and features, through the workspace. Projects: test_workspace."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from meshd.core import categories
from meshd.core.categories import LIFE, SLUG
from meshd.core.documents import Document, Register
from meshd.core.feature import Feature, FeatureStatus
from meshd.model import Json, Stamp
from meshd.workspace import DiskWorkspace, Edited, Invalid, MemoryWorkspace, Unwritable

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
    workspace = DiskWorkspace(tmp_path, {}, "dev-01")
    standing = await workspace.write([listed("a", "b"), PROJECT])
    assert json.loads(file.read_text()) == ["a", "b"]
    assert standing[SLUG] == categories.wanted(["a", "b"])
    assert sorted(path.name for path in file.parent.iterdir()) == ["categories.json", "projects"]
    assert [path.name for path in (file.parent / "projects").iterdir()] == ["site"]
    assert await workspace.poll() == []
    await workspace.write([listed()])
    assert json.loads(file.read_text()) == []


async def test_an_edit_by_hand_is_a_change_of_the_list(tmp_path: Path, file: Path) -> None:
    workspace = DiskWorkspace(tmp_path, {}, "dev-01")
    await workspace.write([listed("a")])
    save(file, '["a", "b"]')
    (edit,) = await workspace.poll()
    assert edit == Edited(SLUG, categories.wanted(["a"]), categories.wanted(["a", "b"]))
    workspace.absorbed(edit)
    await workspace.write([listed("a", "b", "c")])
    assert json.loads(file.read_text()) == ["a", "b", "c"]


async def test_a_file_that_was_there_before_meshd_is_a_new_list(tmp_path: Path, file: Path) -> None:
    save(file, '["theirs"]')
    assert await DiskWorkspace(tmp_path, {}, "dev-01").poll() == [Edited(SLUG, None, categories.wanted(["theirs"]))]


@pytest.mark.parametrize("text", ["{}", '"a"', "[", "null", "[1]" * 2])
async def test_what_is_no_array_is_left_alone_and_reported(tmp_path: Path, file: Path, text: str) -> None:
    workspace = DiskWorkspace(tmp_path, {}, "dev-01")
    await workspace.write([listed("a")])
    save(file, text)
    assert await workspace.poll() == []  # it may be half saved
    (report,) = await workspace.poll()
    assert isinstance(report, Invalid)
    assert report.slug == SLUG
    await workspace.write([listed("b")])
    assert file.read_text() == text


async def test_a_deleted_file_is_written_again(tmp_path: Path, file: Path) -> None:
    workspace = DiskWorkspace(tmp_path, {}, "dev-01")
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
    workspace = DiskWorkspace(tmp_path, {}, "dev-01")
    (report,) = await workspace.poll()
    assert isinstance(report, Invalid)
    await workspace.write([listed("a")])
    assert file.is_symlink()
    assert outside.read_text() == '["secret"]'


async def test_a_half_written_file_of_a_crash_is_cleared(tmp_path: Path, file: Path) -> None:
    save(file, '["a"]')
    (file.parent / ".categories.json.meshd").write_text("[")
    await DiskWorkspace(tmp_path, {}, "dev-01").poll()
    assert [path.name for path in file.parent.iterdir()] == ["categories.json"]


async def test_a_list_that_a_broken_peer_ended_takes_its_file_away(tmp_path: Path, file: Path) -> None:
    workspace = DiskWorkspace(tmp_path, {}, "dev-01")
    await workspace.write([listed("a")])
    await workspace.write([Document(SLUG, LIFE, {}, ended=STAMP)])
    assert not file.exists()


async def test_documents_that_are_no_projects_have_no_other_file(tmp_path: Path, file: Path) -> None:
    workspace = DiskWorkspace(tmp_path, {}, "dev-01")
    assert await workspace.write([Document("@later", STAMP, {"x": Register(STAMP, 1)})]) == {}
    assert list(tmp_path.iterdir()) == []


async def test_folders_with_reserved_names_are_no_projects(tmp_path: Path, file: Path) -> None:
    for name in (SLUG, "@other"):
        folder = file.parent / "projects" / name
        folder.mkdir(parents=True)
        (folder / "project.json").write_text("{}")
    workspace = DiskWorkspace(tmp_path, {}, "dev-01")
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
    workspace = DiskWorkspace(tmp_path, {}, "dev-01")
    await workspace.write([PROJECT, listed("a")])
    for _ in range(2):
        assert await workspace.poll() == []


# Features

FEATURE = Feature("feature-5-abc", "boot-1", "site", "m1", "build", 2, 5, fields={"title": "Überblick", "tags": [1]})
FEATURES = ".automaker/features"


def feature_file(root: Path, feature: Feature = FEATURE) -> Path:
    return root / FEATURES / feature.id / "feature.json"


async def test_a_feature_is_shown_whole_beside_the_projects(tmp_path: Path) -> None:
    workspace = DiskWorkspace(tmp_path, {}, "dev-01")
    await workspace.write_features([FEATURE])
    file = feature_file(tmp_path)
    assert json.loads(file.read_text()) == FEATURE.json("dev-01")
    assert json.loads(file.read_text())["claimedBy"] == "dev-01"
    assert file.read_text().endswith("}\n")
    assert list(file.parent.iterdir()) == [file]
    assert [*await workspace.poll(), *await workspace.poll()] == [], "it is no project"


async def test_a_released_feature_s_file_stays_and_is_marked(tmp_path: Path) -> None:
    workspace = DiskWorkspace(tmp_path, {}, "dev-01")
    await workspace.write_features([FEATURE, evolve(FEATURE, is_held=False, released="drained")])
    shown = json.loads(feature_file(tmp_path).read_text())
    assert (shown["status"], shown["released"], shown["releaseReason"]) == ("backlog", True, "drained")


async def test_a_file_that_holds_its_feature_is_not_written_again(tmp_path: Path) -> None:
    other = evolve(FEATURE, id="feature-6-def")
    await DiskWorkspace(tmp_path, {}, "dev-01").write_features([FEATURE, other])
    feature_file(tmp_path, other).write_text("half")
    before = feature_file(tmp_path).stat()
    await DiskWorkspace(tmp_path, {}, "dev-01").write_features([FEATURE, other])
    after = feature_file(tmp_path).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert json.loads(feature_file(tmp_path, other).read_text()) == other.json("dev-01")


async def test_what_a_crash_left_of_a_feature_is_cleared_away(tmp_path: Path) -> None:
    left = feature_file(tmp_path).with_name(".feature.json.meshd")
    left.parent.mkdir(parents=True)
    left.write_text('{"half": ')
    await DiskWorkspace(tmp_path, {}, "dev-01").write_features([FEATURE])
    assert [file.name for file in left.parent.iterdir()] == ["feature.json"]


async def test_a_feature_that_cannot_be_written_is_told_once_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / FEATURES).parent.mkdir()
    (tmp_path / FEATURES).write_text("in the way")
    workspace = DiskWorkspace(tmp_path, {}, "dev-01")
    await workspace.write_features([FEATURE])
    slug = f"features/{FEATURE.id}"
    assert await workspace.poll() == [Unwritable(slug, "features: not a folder, or a symbolic link (not followed)")]
    await workspace.write_features([evolve(FEATURE, status=FeatureStatus.DONE)])
    await workspace.write(())
    assert await workspace.poll() == []
    assert workspace.path(slug) == str(feature_file(tmp_path))
    (tmp_path / FEATURES).unlink()
    await workspace.write(())
    assert json.loads(feature_file(tmp_path).read_text())["status"] == "done"
    (tmp_path / FEATURES / FEATURE.id / "feature.json").unlink()
    await workspace.write(())
    assert not feature_file(tmp_path).exists(), "what was written once waits for its next write"


def link_feature(root: Path, outside: Path) -> None:
    feature_file(root).parent.mkdir(parents=True)
    feature_file(root).symlink_to(outside / "feature.json")


def link_feature_folder(root: Path, outside: Path) -> None:
    (root / FEATURES).mkdir(parents=True)
    feature_file(root).parent.symlink_to(outside)


def link_all_features(root: Path, outside: Path) -> None:
    (root / ".automaker").mkdir(parents=True)
    (root / FEATURES).symlink_to(outside)


@pytest.mark.parametrize("link", [link_feature, link_feature_folder, link_all_features])
async def test_no_symbolic_link_is_followed_to_a_feature(link: Callable[[Path, Path], None], tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    (outside / "feature.json").write_text("theirs")
    link(root, outside)
    workspace = DiskWorkspace(root, {}, "dev-01")
    await workspace.write_features([FEATURE])
    assert [file.name for file in outside.iterdir()] == ["feature.json"]
    assert (outside / "feature.json").read_text() == "theirs"
    (report,) = await workspace.poll()
    assert isinstance(report, Unwritable)
    assert "symbolic link" in report.reason


async def test_features_in_memory_are_no_projects_either() -> None:
    workspace = MemoryWorkspace(instance_id="dev-02")
    await workspace.write_features([FEATURE])
    assert json.loads(workspace.text(f"features/{FEATURE.id}") or "") == FEATURE.json("dev-02")
    assert [*await workspace.poll(), *await workspace.poll()] == []
    workspace.edit(f"features/{FEATURE.id}", "by hand")
    again = MemoryWorkspace(before=workspace, instance_id="dev-02")
    await again.write_features([FEATURE])
    assert json.loads(again.text(f"features/{FEATURE.id}") or "") == FEATURE.json("dev-02")
