"""What lost a conflict, over HTTP."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from meshd.api.app import create_app
from meshd.core.documents import Change, Kind
from meshd.core.inputs import LinkUp, PutProject, Received
from meshd.core.messages import Changes, Identity, UtcMs
from meshd.model import Stamp

from .local import PRIMARY, Local


def client_with_a_conflict() -> tuple[Any, str]:
    """A primary on which a worker's edit of `title` has just lost against a later one that it had not seen."""
    local = Local(PRIMARY)
    local.step(PutProject(1, "site", {"title": "T"}))
    life = local.node.snapshot(local.now).documents["site"].life
    local.now = evolve(local.now, utc_ms=local.now.utc_ms + 1000)
    local.step(PutProject(2, "site", {"title": "of the primary"}))
    local.step(LinkUp(1, "h:1"))
    local.step(Received(1, Identity("dev-02", UtcMs(local.now.utc_ms), protocol=1, boot="b2")))
    stamp = Stamp(life.utc_ms + 1, 0, "dev-02")
    late = Change("dev-02.s", 1, stamp, "site", life, Kind.UPDATED, {"title": "late"}, bases={"title": life})
    local.step(Received(1, Changes(0, (late,))))
    (conflict,) = local.node.snapshot(local.now).conflicts
    return create_app(local.instance()).test_client(), conflict.id


async def test_it_is_listed_for_its_project_and_for_all() -> None:
    client, name = client_with_a_conflict()
    for path in ("/api/conflicts", "/api/projects/site/conflicts"):
        (row,) = (await (await client.get(path)).get_json())["conflicts"]
        assert (row["id"], row["slug"], row["path"], row["value"]) == (name, "site", "title", "late")
        assert (row["writtenBy"], row["wonBy"], row["removed"]) == ("dev-02", "dev-01", False)
    assert await (await client.get("/api/projects/other/conflicts")).get_json() == {"conflicts": []}


async def test_it_is_taken_back() -> None:
    client, name = client_with_a_conflict()
    answer = await client.post(f"/api/projects/site/conflicts/{name}/take")
    assert answer.status_code == 200
    assert (await answer.get_json())["changed"] is True
    assert (await (await client.get("/api/projects/site")).get_json())["title"] == "late"
    assert await (await client.get("/api/conflicts")).get_json() == {"conflicts": []}
    assert (await client.post(f"/api/projects/site/conflicts/{name}/take")).status_code == 404


async def test_it_is_forgotten() -> None:
    client, name = client_with_a_conflict()
    assert (await client.delete(f"/api/projects/site/conflicts/{name}")).status_code == 204
    assert (await (await client.get("/api/projects/site")).get_json())["title"] == "of the primary"
    assert (await client.delete(f"/api/projects/site/conflicts/{name}")).status_code == 404
