"""What a disk can do to real daemons: fill up, refuse writes, damage a database. Nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from meshd.store import DATABASE
from meshd.store_file import RESERVE_BYTES
from tests.e2e.fleet import Instance, fleet, own_network, until

EX_IOERR = 74

DOCUMENTS: dict[str, dict[str, Any]] = {
    f"no-{number}": {"title": f"Project {number}", "milestones": []} for number in range(5)
}


def data_dir(instance: Instance) -> Path:
    return instance.repo_root / "data"


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def set_aside(instance: Instance) -> list[str]:
    return [name for name in names(data_dir(instance)) if re.fullmatch(rf"{DATABASE}\.damaged-[\dT.]+Z", name)]


async def titles(instance: Instance) -> dict[str, str]:
    return {row["slug"]: row["title"] for row in (await instance.get("/api/projects"))["projects"]}


async def disk(instance: Instance) -> dict[str, Any]:
    health = await instance.get("/api/health/detailed")
    return {"status": health["status"], **health["disk"]}


async def put(instance: Instance, slug: str, title: str = "", goal: str = "") -> tuple[int, str]:
    """Status and, for a refusal, the code."""
    response = await instance.client.put(
        f"/api/projects/{slug}", json={"title": title or slug, "goal": goal, "milestones": []}
    )
    return response.status_code, response.json().get("code", "")


async def holds_all(instance: Instance, expected: dict[str, str]) -> None:
    async def so() -> bool:
        return await titles(instance) == expected

    await until(so, 15)


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[None]:
    """A disk of its own, mounted on `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={size_bytes},mode=700"
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip(f"mounting a small disk takes root: {mount.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def free_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def fill(folder: Path, leave_bytes: int) -> Path:
    """Take all room but this much."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while (room := free_bytes(folder) - leave_bytes) > 0:
            file.write(bytes(min(room, 64 * 1024)))
    return ballast


async def ends(instance: Instance) -> int:
    process = instance.process
    assert process is not None

    async def so() -> bool:
        return process.poll() is not None

    await until(so, 15)
    return int(process.returncode)


async def cannot_start(instance: Instance) -> tuple[int, list[str]]:
    """Start it; returns its exit code and what it said that is not a warning about the network."""
    with pytest.raises(AssertionError, match="ended"):
        await instance.start()
    lines = instance.log.splitlines()
    return await ends(instance), [line for line in lines if " error " in line or "Traceback" in line]


# Full


async def test_a_full_disk_refuses_with_507_and_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "root-of-dev-02" / "data", 3 * RESERVE_BYTES):
        async with fleet(tmp_path, size=2) as (primary, worker):
            assert await put(worker, "before") == (201, "")
            assert (await disk(worker))["status"] == "ok"
            ballast = fill(data_dir(worker), RESERVE_BYTES // 2)

            async def is_refused() -> bool:
                return await put(worker, "refused") == (507, "disk-full")

            await until(is_refused, 2)
            shown = await disk(worker)
            assert (shown["status"], shown["full"]) == ("degraded", True)
            assert 0 < shown["freeBytes"] <= RESERVE_BYTES // 2
            assert (await worker.client.get("/readyz")).status_code == 200

            # The reserve is there for what the others write.
            assert await put(primary, "of-a-peer") == (201, "")
            expected = await titles(worker) | {"of-a-peer": "of-a-peer"}
            await holds_all(worker, expected)

            ballast.unlink()

            async def is_taken() -> bool:
                return await put(worker, "after") == (201, "")

            await until(is_taken, 2)
            expected["after"] = "after"
            await holds_all(worker, expected)
            await holds_all(primary, expected)
            assert (await disk(worker))["status"] == "ok"
            assert [await instance.stop() for instance in (worker, primary)] == [0, 0]


async def test_a_disk_without_any_room_ends_the_process_and_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "root-of-dev-02" / "data", 3 * RESERVE_BYTES):
        async with fleet(tmp_path, size=2) as (primary, worker):
            for slug in DOCUMENTS:
                assert await put(worker, slug) == (201, "")
            ballast = fill(data_dir(worker), 0)
            expected = await titles(worker)
            for number in range(10):  # the log that SQLite writes first may have some room left inside
                assert await put(primary, f"large-{number}", goal="x" * 1_000_000) == (201, "")
                expected[f"large-{number}"] = f"large-{number}"
            assert await ends(worker) == EX_IOERR
            assert "the disk is full" in worker.log
            assert "Traceback" not in worker.log

            ballast.unlink()
            await worker.start()
            await holds_all(worker, expected)
            await holds_all(primary, expected)
            assert await put(worker, "after") == (201, "")
            assert set_aside(worker) == []
            assert [await instance.stop() for instance in (worker, primary)] == [0, 0]


# Damaged


@pytest.mark.parametrize("number", [1, 2])
async def test_a_damaged_database_is_set_aside_and_refilled_from_the_mesh(tmp_path: Path, number: int) -> None:
    """A worker from its primary, a primary from its workers."""
    async with fleet(tmp_path) as instances:
        victim = instances[number - 1]
        expected: dict[str, str] = {}
        for (slug, document), writer in zip(DOCUMENTS.items(), [*instances, *instances], strict=False):
            assert (await writer.client.put(f"/api/projects/{slug}", json=document)).status_code == 201
            expected[slug] = str(document["title"])
        for instance in instances:
            await holds_all(instance, expected)
        store_before = (await victim.get("/api/hivemind/self")).get("store")
        assert await victim.stop() == 0
        file = data_dir(victim) / DATABASE
        damaged = Random(number).randbytes(file.stat().st_size)
        file.write_bytes(damaged)

        await victim.start()
        await holds_all(victim, expected)
        (name,) = set_aside(victim)
        assert (data_dir(victim) / name).read_bytes() == damaged
        assert (await disk(victim))["damagedDatabases"] == [name]
        assert f"set aside as {name}; the instance begins anew and refills from the mesh" in victim.log
        if store_before:
            assert (await victim.get("/api/hivemind/self"))["store"] != store_before

        # It takes part again, and its files say what the documents say.
        assert await put(victim, "no-0", "Changed") == (200, "")
        for instance in instances:
            await holds_all(instance, expected | {"no-0": "Changed"})
        for slug in DOCUMENTS:
            assert victim.project_file(slug).is_file()
        assert [await instance.stop() for instance in reversed(instances)] == [0, 0, 0]
        for instance in instances:
            assert "Traceback" not in instance.log


async def test_edits_that_had_left_a_damaged_database_for_the_files_only_are_kept(tmp_path: Path) -> None:
    async with fleet(tmp_path, size=2) as (primary, worker):
        assert await put(worker, "both-have", "Old") == (201, "")
        await holds_all(primary, {"both-have": "Old"})
        assert await primary.stop() == 0
        assert await put(worker, "both-have", "Unsent") == (200, "")
        assert await put(worker, "unsent") == (201, "")

        async def is_in_the_files() -> bool:
            return worker.project_file("unsent").is_file() and "Unsent" in worker.project_file("both-have").read_text()

        await until(is_in_the_files, 5)
        await worker.stop(signal.SIGKILL)
        for name in (DATABASE, f"{DATABASE}-wal"):  # the log alone would bring it back
            (data_dir(worker) / name).write_bytes(Random(3).randbytes(50_000))

        await primary.start()
        await worker.start()
        for instance in (primary, worker):
            await holds_all(instance, {"both-have": "Old", "unsent": "unsent"})
        (copy,) = (data_dir(worker) / "aside").glob("both-have.*.json")
        assert json.loads(copy.read_text())["title"] == "Unsent"


async def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    instance = Instance(1, own_network(), tmp_path)
    data_dir(instance).mkdir()
    with contextlib.closing(sqlite3.connect(data_dir(instance) / DATABASE)) as connection:
        connection.execute("PRAGMA user_version = 99")
    exit_code, said = await cannot_start(instance)
    assert exit_code == EX_IOERR
    assert len(said) == 1
    assert "was written by a newer meshd (schema 99" in said[0]
    assert set_aside(instance) == []
    await instance.client.aclose()


# Read-only


async def test_a_read_only_data_dir_is_one_clear_line(tmp_path: Path) -> None:
    instance = Instance(1, own_network(), tmp_path)
    with small_disk(data_dir(instance), RESERVE_BYTES):
        await trio.run_process(["mount", "-o", "remount,ro", data_dir(instance)])
        exit_code, said = await cannot_start(instance)
    assert exit_code == EX_IOERR
    assert len(said) == 1
    assert f"{data_dir(instance)} cannot be used as dataDir: " in said[0]
    assert "Read-only file system" in said[0]
    await instance.client.aclose()
