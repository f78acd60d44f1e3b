"""`meshd.api.app`: what holds for every route."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from attrs import evolve

from meshd.api.app import create_app
from meshd.core.snapshot import Snapshot
from tests.api.local import Local


def client() -> Any:
    return create_app(Local().instance()).test_client()


async def problem(response: Any) -> tuple[int, str]:
    assert response.content_type == "application/problem+json"
    body = await response.get_json(force=True)
    assert body["type"] == "about:blank"
    assert body["status"] == response.status_code
    return body["status"], body["code"]


@pytest.mark.parametrize("path", ["/", "/api", "/api/", "/nope", "/api/hivemind", "/livez/x", "/static/x", "/%ff"])
async def test_nothing_is_there(path: str) -> None:
    http = create_app(Local().instance()).test_client()
    assert await problem(await http.get(path)) == (404, "not-found")
    assert await problem(await http.put(path, data=b"{}")) == (404, "not-found")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/api/health", "/api/health/detailed", "/api/projects"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
async def test_other_methods_are_refused_and_the_right_ones_named(path: str, method: str) -> None:
    response = await client().open(path, method=method)
    assert await problem(response) == (405, "method-not-allowed")
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


async def test_methods_of_a_project() -> None:
    http = client()
    response = await http.post("/api/projects/one", data=b"{}")
    assert await problem(response) == (405, "method-not-allowed")
    assert response.headers["Allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"
    options = await http.open("/api/projects/one", method="OPTIONS")
    assert (options.status_code, await options.get_data()) == (200, b"")
    assert set(options.headers["Allow"].split(", ")) == set(response.headers["Allow"].split(", "))


@pytest.mark.parametrize("path", ["/livez/", "/api/health/", "/api/health/detailed/", "/api/hivemind/self/"])
async def test_a_trailing_slash_does_not_matter(path: str) -> None:
    assert (await create_app(Local().instance()).test_client().get(path)).status_code == 200


async def test_a_view_that_crashes_is_one_problem_and_one_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Snapshot:
        raise RuntimeError("a planted bug")

    instance = Local().instance()
    http = create_app(evolve(instance, snapshot=broken)).test_client()
    with caplog.at_level(logging.WARNING):
        response = await http.get("/readyz")
    assert await problem(response) == (500, "internal")
    assert b"planted" not in await response.get_data()
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "a planted bug" in str(record.exc_info[1])
    assert (await http.get("/livez")).status_code == 200


async def test_a_websocket_is_not_found() -> None:
    http = create_app(Local().instance()).test_client()
    async with http.websocket("/api/hivemind") as websocket:
        with pytest.raises(Exception, match="404"):
            await websocket.receive()
