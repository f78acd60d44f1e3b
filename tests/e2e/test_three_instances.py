"""The issue that a mesh exists for, with real processes: three instances, real documents, death and departure."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.e2e.fleet import REAL_PROJECTS, Instance, fleet, primaries, until

pytestmark = pytest.mark.skipif(not REAL_PROJECTS.is_dir(), reason="the real project documents are not here")


def real_projects() -> dict[str, dict[str, Any]]:
    documents = (json.loads(file.read_text()) for file in sorted(REAL_PROJECTS.glob("*.json")))
    return {document["slug"]: document for document in documents}


async def holds(instance: Instance, expected: dict[str, dict[str, Any]]) -> bool:
    """Whether API and workspace of an instance hold these documents, equal key for key."""
    listed = {row["slug"] for row in (await instance.get("/api/projects"))["projects"]}
    if listed != set(expected) or not all(instance.project_file(slug).is_file() for slug in expected):
        return False
    in_api = {slug: await instance.get(f"/api/projects/{slug}") for slug in expected}
    in_files = {slug: json.loads(instance.project_file(slug).read_text()) for slug in expected}
    return in_api == expected == in_files


async def everywhere(instances: list[Instance], expected: dict[str, dict[str, Any]], within_s: float = 10.0) -> None:
    for instance in instances:

        async def is_there(instance: Instance = instance) -> bool:
            return await holds(instance, expected)

        await until(is_there, within_s)


async def test_documents_reach_everyone_and_departures_are_seen(tmp_path: Path) -> None:
    documents = real_projects()
    assert len(documents) == 16
    async with fleet(tmp_path) as (primary, worker, other):
        for slug, document in documents.items():
            response = await worker.client.put(f"/api/projects/{slug}", json=document)
            assert response.status_code == 201, response.text
        await everywhere([primary, worker, other], documents)

        # An edit by hand, on another instance than the one that brought the document.
        edited = documents["bugs"] | {"color": "#123456", "goal": "Fewer bugs"}
        other.project_file("bugs").write_text(json.dumps(edited))
        documents["bugs"] = edited
        await everywhere([primary, worker, other], documents)

        health = await worker.sync()
        assert health["role"] == "worker"
        assert health["peerCount"] == 2
        assert {peer["identity"]["instanceId"] for peer in health["onlinePeers"]} == {"dev-01", "dev-03"}
        assert (health["connected"], health["isLeader"], health["partitionSince"]) == (True, False, None)
        assert (health["queuedChanges"], health["syncPort"]) == (0, None)
        assert (await primary.sync())["syncPort"] == 4444

        nothing_of_another_root([primary, worker, other])

        # The one that leaves is offline at once, although the TTL is 120 s.
        assert await other.stop(signal.SIGTERM) == 0
        for instance, rest in ((primary, {"dev-02"}), (worker, {"dev-01"})):

            async def is_gone(instance: Instance = instance, rest: set[str] = rest) -> bool:
                return await instance.online() == rest

            await until(is_gone, 1.0)
            assert (await instance.sync())["peerCount"] == 2

        # It returns and gets what it missed.
        await worker.client.patch("/api/projects/test", json={"goal": "tested"})
        documents["test"] |= {"goal": "tested"}
        await other.start()
        await everywhere([primary, worker, other], documents)

        assert [await instance.stop() for instance in (worker, other, primary)] == [0, 0, 0]
        for instance in (primary, worker, other):
            assert "Traceback" not in instance.log


def nothing_of_another_root(instances: list[Instance]) -> None:
    roots = {instance.name: str(instance.repo_root) for instance in instances}
    for instance in instances:
        foreign = [root for name, root in roots.items() if name != instance.name]
        for file in instance.repo_root.rglob("*"):
            if file.is_file():
                content = file.read_bytes()
                assert not any(root.encode() in content for root in foreign), file


async def test_a_killed_instance_is_offline_after_the_ttl(tmp_path: Path) -> None:
    async with fleet(tmp_path, heartbeat_ms=500, ttl_ms=2000) as (primary, worker, other):
        await other.stop(signal.SIGKILL)

        async def is_gone() -> bool:
            return "dev-03" not in await primary.online() | await worker.online()

        took_s = await until(is_gone, 10)
        assert took_s > 1.0  # not at once: it said no goodbye
        for instance in (primary, worker):

            async def is_told(instance: Instance = instance) -> bool:
                alert = "ALERT: Peer dev-03 unreachable for >2000ms (last seen "
                return alert in instance.log and "sync:peer-unreachable instanceId=dev-03" in instance.log

            await until(is_told, 5)
            assert (await instance.sync())["peerCount"] == 2


async def test_an_instance_that_slept_or_was_killed_is_back_by_itself(tmp_path: Path) -> None:
    async with fleet(tmp_path, heartbeat_ms=500, ttl_ms=2000) as (primary, worker, other):

        async def is_gone() -> bool:
            return "dev-03" not in await primary.online()

        async def is_back() -> bool:
            return "dev-03" in await primary.online() & await worker.online()

        other.pause()
        await until(is_gone, 10)
        other.resume()
        await until(is_back, 10)
        await other.restart()
        await until(is_back, 10)
        assert await primaries([primary, worker, other]) == ["dev-01"]


async def test_project_path_is_the_local_root(tmp_path: Path) -> None:
    async with fleet(tmp_path, size=2) as (primary, worker):
        document = {"title": "Roots", "projectPath": str(worker.repo_root), "milestones": []}
        assert (await worker.client.put("/api/projects/roots", json=document)).status_code == 201

        async def is_there() -> bool:
            return primary.project_file("roots").exists()

        await until(is_there, 10)
        assert (await primary.get("/api/projects/roots"))["projectPath"] == str(primary.repo_root)
        assert (await worker.get("/api/projects/roots"))["projectPath"] == str(worker.repo_root)
        nothing_of_another_root([primary, worker])


async def test_two_signals_end_it_at_once(tmp_path: Path) -> None:
    async with fleet(tmp_path, size=2) as (primary, worker):
        assert worker.process is not None
        worker.process.send_signal(signal.SIGINT)
        with trio.fail_after(10):
            assert await worker.stop(signal.SIGINT) == 0

        async def is_gone() -> bool:
            return await primary.online() == set()

        await until(is_gone, 1.0)
