"""`meshd.api.projects`, on a real node: real documents, conditions, and everything that can be wrong with a request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from meshd.api.app import MAX_BODY_BYTES, create_app
from meshd.configuration import Outbox
from meshd.core.inputs import PutProject
from meshd.project import MAX_DEPTH
from tests.api.local import WORKER, Local

DATA = Path(__file__).parents[3] / "shared" / "data" / "projects"
DOCUMENTS = sorted(DATA.glob("*.json"))

PROJECT = {
    "slug": "one",
    "title": "One",
    "status": "active",
    "milestones": [{"slug": "m", "title": "M", "phases": [{"name": "p", "title": "P"}, {"name": "q", "title": "Q"}]}],
}
JSON = {"Content-Type": "application/json"}
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


def client(local: Local | None = None) -> Any:
    return create_app((local or Local()).instance()).test_client()


async def code(response: Any) -> tuple[int, str]:
    problem = json.loads(await response.get_data())
    assert response.content_type == "application/problem+json"
    assert problem.keys() == {"type", "title", "status", "code", "detail"}
    assert problem["status"] == response.status_code
    assert all(problem.values())
    return problem["status"], problem["code"]


@pytest.mark.skipif(not DOCUMENTS, reason="the real project documents are not beside this checkout")
async def test_every_real_document_comes_back_as_it_was_put() -> None:
    http = client()
    for path in DOCUMENTS:
        document = json.loads(path.read_bytes())
        response = await http.put(f"/api/projects/{path.stem}", data=path.read_bytes(), headers=JSON)
        assert response.status_code == 201, path.stem
        shown = await (await http.get(f"/api/projects/{path.stem}")).get_json()
        if "projectPath" in document:
            document["projectPath"] = "/srv/project"
        assert shown == document
    listed = (await (await http.get("/api/projects")).get_json())["projects"]
    assert [row["slug"] for row in listed] == sorted(path.stem for path in DOCUMENTS)


async def test_a_project_from_creation_to_deletion() -> None:
    http = client()
    created = await http.put("/api/projects/one", json=PROJECT)
    answer = await created.get_json()
    assert (created.status_code, created.headers["Location"]) == (201, "/api/projects/one")
    assert answer == {"slug": "one", "revision": answer["revision"], "created": True, "changed": True}
    assert created.headers["ETag"] == f'"{answer["revision"]}"'

    again = await http.put("/api/projects/one", json=PROJECT)
    assert (again.status_code, again.headers["ETag"]) == (200, created.headers["ETag"])
    assert await again.get_json() == {**answer, "created": False, "changed": False}

    patched = await http.patch("/api/projects/one", data=b'{"title": "Two", "status": null}', headers=MERGE_PATCH)
    assert patched.status_code == 200
    assert patched.headers["ETag"] != created.headers["ETag"]
    shown = await http.get("/api/projects/one")
    assert shown.headers["ETag"] == patched.headers["ETag"]
    assert await shown.get_json() == {"slug": "one", "title": "Two", "milestones": PROJECT["milestones"]}

    (row,) = (await (await http.get("/api/projects")).get_json())["projects"]
    assert row == {
        "slug": "one",
        "title": "Two",
        "status": None,
        "milestones": 1,
        "phases": 2,
        "revision": (await patched.get_json())["revision"],
    }

    deleted = await http.delete("/api/projects/one")
    assert (deleted.status_code, await deleted.get_data()) == (204, b"")
    assert await code(await http.get("/api/projects/one")) == (404, "not-found")
    assert await code(await http.delete("/api/projects/one")) == (404, "not-found")
    assert await code(await http.patch("/api/projects/one", json={})) == (404, "not-found")
    assert await (await http.get("/api/projects")).get_json() == {"projects": []}


async def test_names_that_need_encoding_and_trailing_slashes() -> None:
    http = client()
    response = await http.put("/api/projects/gr%C3%BC%C3%9Fe%20%26%20mehr/", json={"title": "t"})
    assert response.status_code == 201
    assert response.headers["Location"] == "/api/projects/gr%C3%BC%C3%9Fe%20%26%20mehr"
    shown = await (await http.get(response.headers["Location"])).get_json()
    assert shown == {"slug": "gr\u00fc\u00dfe & mehr", "title": "t"}
    assert (await http.get("/api/projects/")).status_code == 200


@pytest.mark.parametrize(
    "slug", ["..", "a%2Fb", "a/b", "%00", ".hidden", "a%5Cb", "%ff", "x" * 201, "a%0Ab", "%2F", "/"]
)
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_slugs_that_cannot_be(method: str, slug: str) -> None:
    response = await client().open(f"/api/projects/{slug}", method=method, data=b"{}", headers=JSON)
    assert await code(response) == (422, "invalid")


BODIES = [
    ("PUT", b"", JSON, (400, "invalid-json")),
    ("PUT", b"{", JSON, (400, "invalid-json")),
    ("PUT", b'{"a": NaN}', JSON, (400, "invalid-json")),
    ("PUT", b'{"a": "\xff"}', JSON, (400, "invalid-json")),
    ("PUT", b'{"a": "\\ud800"}', JSON, (400, "invalid-json")),
    ("PUT", b"[" * 5000 + b"]" * 5000, JSON, (400, "invalid-json")),
    ("PUT", b'{"a":' * MAX_DEPTH + b"[]" + b"}" * MAX_DEPTH, JSON, (422, "invalid")),
    ("PUT", b"[]", JSON, (422, "invalid")),
    ("PUT", b"null", JSON, (422, "invalid")),
    ("PUT", b'{"slug": "other"}', JSON, (422, "invalid")),
    ("PUT", b'{"milestones": [{"title": "no slug"}]}', JSON, (422, "invalid")),
    ("PUT", b'{"milestones": [{"slug": "../m"}]}', JSON, (422, "invalid")),
    ("PUT", b'{"milestones": {}}', JSON, (422, "invalid")),
    ("PUT", b'{"milestones": null}', JSON, (422, "invalid")),
    ("PUT", b'{"milestones": [{"slug": "m", "phases": "p"}]}', JSON, (422, "invalid")),
    ("PATCH", b'{"milestones": "m"}', MERGE_PATCH, (422, "invalid")),
    ("PATCH", b'{"milestones": [{"slug": "m", "phases": {}}]}', MERGE_PATCH, (422, "invalid")),
    ("PUT", b"{}", {"Content-Type": "text/plain"}, (415, "unsupported-media-type")),
    ("PUT", b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}, (415, "unsupported-media-type")),
    ("PUT", b"{}", MERGE_PATCH, (415, "unsupported-media-type")),
    ("PUT", b" " * (MAX_BODY_BYTES + 1), JSON, (413, "too-large")),
    ("PATCH", b"[]", MERGE_PATCH, (422, "invalid")),
    ("PATCH", b'{"slug": "other"}', MERGE_PATCH, (422, "invalid")),
    ("PATCH", b"{}", {"Content-Type": "application/json-patch+json"}, (415, "unsupported-media-type")),
    ("PATCH", b'{"a":' * MAX_DEPTH + b"[]" + b"}" * MAX_DEPTH, JSON, (422, "invalid")),
]


@pytest.mark.parametrize(("method", "body", "headers", "expected"), BODIES)
async def test_bodies_that_cannot_be_taken(
    method: str, body: bytes, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    http = client()
    created = await http.put("/api/projects/one", json=PROJECT)
    response = await http.open("/api/projects/one", method=method, data=body, headers=headers)
    assert await code(response) == expected
    assert (await http.get("/api/projects/one")).headers["ETag"] == created.headers["ETag"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' * (MAX_DEPTH - 1) + b"[]" + b"}" * (MAX_DEPTH - 1),
        b'{"a": "' + b"x" * (MAX_BODY_BYTES // 2) + b'"}',
    ],
)
@pytest.mark.parametrize("headers", [JSON, {}, {"Content-Type": "Application/JSON; charset=utf-8"}])
async def test_the_largest_bodies_that_are_taken(body: bytes, headers: dict[str, str]) -> None:
    http = client()
    assert (await http.put("/api/projects/one", data=body, headers=headers)).status_code == 201
    assert await (await http.get("/api/projects/one")).get_json() == {"slug": "one", **json.loads(body)}


CONDITIONS = [
    ("PUT", "one", {"If-Match": '"REVISION"'}, 200),
    ("PUT", "one", {"If-Match": '"other", "REVISION"'}, 200),
    ("PUT", "one", {"If-Match": "*"}, 200),
    ("PUT", "one", {"If-Match": '"other"'}, 412),
    ("PUT", "one", {"If-Match": 'W/"REVISION"'}, 412),
    ("PUT", "one", {"If-Match": '""'}, 412),
    ("PUT", "one", {"If-None-Match": "*"}, 412),
    ("PUT", "one", {"If-None-Match": '"other"'}, 422),
    ("PUT", "one", {"If-None-Match": "*", "If-Match": "*"}, 422),
    ("PUT", "two", {"If-None-Match": "*"}, 201),
    ("PUT", "two", {"If-Match": "*"}, 412),
    ("PUT", "two", {"If-Match": '"REVISION"'}, 412),
    ("PUT", "two", {"If-Match": '""'}, 412),
    ("PATCH", "one", {"If-Match": '"REVISION"'}, 200),
    ("PATCH", "one", {"If-Match": '"other"'}, 412),
    ("DELETE", "one", {"If-Match": '"REVISION"'}, 204),
    ("DELETE", "one", {"If-Match": '"other"'}, 412),
    ("DELETE", "one", {"If-None-Match": "*"}, 412),
    ("GET", "one", {"If-None-Match": '"REVISION"'}, 304),
    ("GET", "one", {"If-None-Match": 'W/"REVISION"'}, 304),
    ("GET", "one", {"If-None-Match": "*"}, 304),
    ("GET", "one", {"If-None-Match": '"other"'}, 200),
]


@pytest.mark.parametrize(("method", "slug", "conditions", "status"), CONDITIONS)
async def test_conditions(method: str, slug: str, conditions: dict[str, str], status: int) -> None:
    http = client()
    revision = (await (await http.put("/api/projects/one", json=PROJECT)).get_json())["revision"]
    given = {name: value.replace("REVISION", revision) for name, value in conditions.items()}
    response = await http.open(f"/api/projects/{slug}", method=method, data=b'{"title":"new"}', headers=JSON | given)
    assert response.status_code == status
    if status == 412:
        assert await code(response) == (412, "revision-mismatch")
    if status >= 400:
        assert (await http.get("/api/projects/one")).headers["ETag"] == f'"{revision}"'
        assert (await http.get("/api/projects/two")).status_code == 404
    if status == 304:
        assert (response.headers["ETag"], await response.get_data()) == (f'"{revision}"', b"")


async def test_a_full_outbox_is_said() -> None:
    http = client(Local(evolve(WORKER, outbox=Outbox(max_changes=1))))
    assert (await http.put("/api/projects/one", json=PROJECT)).status_code == 201
    assert await code(await http.put("/api/projects/two", json={})) == (507, "outbox-full")


async def test_a_wrong_shape_is_named_and_stops_no_other_edit() -> None:
    local = Local()
    http = client(local)
    refused = await http.put("/api/projects/one", json={"milestones": [{"slug": "m"}, {"slug": "n", "phases": 3}]})
    assert (await refused.get_json())["detail"] == "milestones[1].phases must be a list, not 3"

    await local.submit(PutProject(0, "one", {"milestones": "of a peer"}))
    assert (await http.patch("/api/projects/one", json={"title": "t"})).status_code == 200
    assert (await http.patch("/api/projects/one", json={"milestones": None})).status_code == 200
    assert await (await http.get("/api/projects/one")).get_json() == {"slug": "one", "title": "t"}


async def test_a_condition_that_does_not_hold_says_what_to_do() -> None:
    http = client()

    async def detail(slug: str, condition: dict[str, str]) -> str:
        answer = await (await http.put(f"/api/projects/{slug}", json=PROJECT, headers=condition)).get_json()
        assert answer["code"] == "revision-mismatch"
        return str(answer["detail"])

    revision = (await (await http.put("/api/projects/one", json=PROJECT)).get_json())["revision"]
    assert await detail("one", {"If-Match": '"other"'}) == (
        f"one is at revision {revision}, not other: GET it, make the change again, send If-Match with that"
    )
    assert await detail("one", {"If-None-Match": "*"}) == (
        f"one exists already, at revision {revision}: to change it, GET it and send If-Match with that"
    )
    assert await detail("two", {"If-Match": "*"}) == "there is no two: If-None-Match: * creates it"
