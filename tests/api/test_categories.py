"""`/api/categories`, and that the document behind them is no project."""

from __future__ import annotations

from typing import Any

import pytest

from meshd.api.app import create_app
from tests.api.local import Local


def client() -> Any:
    return create_app(Local().instance()).test_client()


async def test_the_list_is_replaced() -> None:
    http = client()
    response = await http.get("/api/categories")
    assert (await response.get_json(), "ETag" in response.headers) == ({"categories": []}, False)
    for body, shown in ((["a", "b"], ["a", "b"]), ({"categories": ["c"]}, ["c"]), ([], [])):
        put = await http.put("/api/categories", json=body)
        assert put.status_code == 200
        assert (await put.get_json())["changed"]
        response = await http.get("/api/categories")
        assert (await response.get_json())["categories"] == shown
        assert response.headers["ETag"] == put.headers["ETag"]


async def test_it_can_be_conditional() -> None:
    http = client()
    put = await http.put("/api/categories", json=["a"], headers={"If-None-Match": "*"})
    assert put.status_code == 200
    etag = put.headers["ETag"]
    assert (await http.put("/api/categories", json=["b"], headers={"If-Match": etag})).status_code == 200
    assert (await http.put("/api/categories", json=["c"], headers={"If-Match": etag})).status_code == 412
    assert (await http.put("/api/categories", json=["c"], headers={"If-None-Match": "*"})).status_code == 412


@pytest.mark.parametrize("body", [5, "a", {}, {"categories": "a"}, None])
async def test_only_an_array_will_do(body: object) -> None:
    response = await client().put("/api/categories", json=body)
    assert (response.status_code, (await response.get_json(force=True))["code"]) == (422, "invalid")


async def test_it_is_no_project() -> None:
    http = client()
    await http.put("/api/categories", json=["a"])
    assert (await (await http.get("/api/projects")).get_json()) == {"projects": []}
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        for slug in ("@categories", "%40categories", "@other"):
            response = await http.open(f"/api/projects/{slug}", method=method, json={})
            assert (response.status_code, (await response.get_json(force=True))["code"]) == (422, "invalid")
