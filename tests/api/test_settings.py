"""`/api/settings`, on a real node: scopes and their origins, conditions, and refusals with what they name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve

from meshd.api.app import create_app
from meshd.core.inputs import LinkUp, Received
from meshd.core.messages import Identity, SettingsEvent, UtcMs
from tests.api.local import ALONE, PEERS, START, WORKER, Local

TOKEN = "ghp_" + "a1B2" * 9


def client(local: Local | None = None) -> Any:
    return create_app((local or Local()).instance()).test_client()


def following() -> Local:
    """A worker whose primary has shared something."""
    local = Local(WORKER)
    at = UtcMs(START.utc_ms)
    local.step(LinkUp(1, "100.64.0.1:4444", PEERS[0]))
    local.step(Received(1, Identity("dev-01", at, url=PEERS[0], protocol=1, boot="b", sync_role="primary")))
    local.step(Received(1, SettingsEvent("dev-01", {"maxRetries": 3, "autoMode": True}, at, revision=7)))
    return local


async def refused(response: Any) -> dict[str, Any]:
    assert response.content_type == "application/problem+json"
    problem: dict[str, Any] = json.loads(await response.get_data())
    assert problem["status"] == response.status_code
    return problem


async def test_nothing_was_ever_set() -> None:
    response = await client().get("/api/settings")
    assert response.headers["ETag"] == '"0"'
    assert await response.get_json() == {
        "settings": {},
        "origins": {},
        "shared": {},
        "local": {},
        "file": {},
        "revision": 0,
        "localRevision": 0,
        "primaryId": "dev-01",
        "primaryUrl": None,
    }


async def test_three_scopes_and_where_each_value_comes_from() -> None:
    local = following()
    local.configuration = evolve(WORKER, shared_settings={"labels": ["x"], "maxRetries": 1})
    local.__attrs_post_init__()
    http = client(local)
    put = await http.put("/api/settings/local", json={"autoMode": False})
    assert (put.status_code, put.headers["ETag"]) == (200, '"1"')
    assert await put.get_json() == {"scope": "local", "revision": 1, "changed": True}
    told = await (await http.get("/api/settings")).get_json()
    assert told["settings"] == {"labels": ["x"], "maxRetries": 1, "autoMode": False}
    assert told["origins"] == {"labels": "file", "maxRetries": "file", "autoMode": "local"}
    assert (told["file"], told["local"]) == ({"labels": ["x"], "maxRetries": 1}, {"autoMode": False})


async def test_what_the_primary_shares_stands_between_file_and_local() -> None:
    http = client(following())
    await http.patch("/api/settings/local", json={"autoMode": False})
    told = await (await http.get("/api/settings")).get_json()
    assert told["origins"] == {"maxRetries": "shared", "autoMode": "local"}
    assert (told["revision"], told["localRevision"], told["primaryId"]) == (7, 1, "dev-01")
    assert told["shared"] == {"maxRetries": 3, "autoMode": True}
    own = await http.get("/api/settings/local")
    assert await own.get_json() == {"local": {"autoMode": False}, "localRevision": 1}
    assert own.headers["ETag"] == '"1"'


async def test_put_takes_the_place_of_all_and_patch_merges() -> None:
    http = client()
    put = await http.put("/api/settings", json={"maxRetries": 1, "workflow": {"a": 1, "b": 2}})
    assert await put.get_json() == {"scope": "shared", "revision": 1, "changed": True}
    patch = {"workflow": {"a": None, "c": 3}, "maxRetries": None}
    merged = await http.patch(
        "/api/settings", data=json.dumps(patch), headers={"Content-Type": "application/merge-patch+json"}
    )
    assert (await merged.get_json())["revision"] == 2
    assert (await (await http.get("/api/settings")).get_json())["shared"] == {"workflow": {"b": 2, "c": 3}}
    again = await http.put("/api/settings", json={"workflow": {"c": 3, "b": 2}})
    assert await again.get_json() == {"scope": "shared", "revision": 2, "changed": False}


async def test_a_condition_on_the_revision() -> None:
    http = client()
    await http.put("/api/settings", json={"maxRetries": 1}, headers={"If-Match": '"0"'})
    late = await http.put("/api/settings", json={"maxRetries": 2}, headers={"If-Match": '"0"'})
    assert (await refused(late))["code"] == "revision-mismatch"
    assert late.status_code == 412
    for condition in ('"1"', "*", '"9", "3"'):
        response = await http.patch("/api/settings", json={"maxRetries": 9}, headers={"If-Match": condition})
        assert response.status_code == (412 if "3" in condition else 200), condition
    weak = await http.patch("/api/settings/local", json={}, headers={"If-Match": 'W/"0"'})
    assert weak.status_code == 412
    assert (await http.patch("/api/settings/local", json={}, headers={"If-Match": '"0"'})).status_code == 200


@pytest.mark.parametrize("method", ["put", "patch"])
async def test_a_worker_points_to_its_primary(method: str) -> None:
    http = client(following())
    response = await getattr(http, method)("/api/settings", json={"maxRetries": 4})
    problem = await refused(response)
    assert (response.status_code, problem["code"]) == (409, "not-primary")
    assert (problem["primaryId"], problem["primaryUrl"]) == ("dev-01", PEERS[0])
    assert "dev-01" in problem["detail"]


async def test_a_worker_without_a_primary_says_so() -> None:
    problem = await refused(await client(Local(WORKER)).put("/api/settings", json={}))
    assert (problem["code"], problem["primaryId"]) == ("not-primary", None)
    assert "looking for" in problem["detail"]


@pytest.mark.parametrize("path", ["/api/settings", "/api/settings/local"])
@pytest.mark.parametrize(
    ("body", "code", "where"),
    [
        ({"workflow": {"deploy": {"apiKey": "hunter2"}}}, "credential-refused", "workflow.deploy.apiKey"),
        ({"reviewers": ["ada", TOKEN]}, "credential-refused", "reviewers[1]"),
        ({"maxRetires": 1}, "unknown-setting", "maxRetires"),
        ({"maxRetries": "three"}, "invalid", "maxRetries"),
        ([], "invalid", None),
        ({"customInstructions": "x" * 70_000}, "invalid", None),
    ],
)
async def test_what_is_refused_is_named_and_nothing_is_changed(
    path: str, body: Any, code: str, where: str | None
) -> None:
    http = client()
    response = await http.put(path, json=body)
    problem = await refused(response)
    assert (response.status_code, problem["code"], problem.get("path")) == (422, code, where)
    assert "hunter2" not in str(problem)
    assert TOKEN not in str(problem)
    if isinstance(body, dict):
        assert (await http.patch(path, json=body)).status_code == 422
    assert (await (await http.get("/api/settings")).get_json())["settings"] == {}


async def test_a_body_that_is_none() -> None:
    http = client()
    assert (await http.put("/api/settings", data=b"{", headers={"Content-Type": "application/json"})).status_code == 400
    assert (await http.put("/api/settings", data=b"x", headers={"Content-Type": "text/plain"})).status_code == 415
    assert (await http.delete("/api/settings")).status_code == 405


async def test_a_refused_key_of_the_file_is_not_shown() -> None:
    local = Local(evolve(ALONE, shared_settings={"workflow": {"password": "hunter2"}, "maxRetries": 2}))
    response = await client(local).get("/api/settings")
    assert b"hunter2" not in await response.get_data()
    assert (await response.get_json())["file"] == {"maxRetries": 2}
