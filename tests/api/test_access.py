"""`meshd.api.access`: who may ask what."""

from __future__ import annotations

import pytest
from attrs import evolve
from werkzeug.datastructures import Headers

from meshd.api.access import Access, own_hosts
from meshd.api.app import create_app
from meshd.configuration import Api
from meshd.errors import ApiError
from tests.api.local import ALONE, PRIMARY, Local

KEY = "s3cret-\u00fc"
KEY_AS_HEADER = KEY.encode().decode("latin-1")
LOOPBACK = "127.0.0.1"
ELSEWHERE = "100.64.0.9"
UNIX = None

ALLOWED = [
    ("/api/projects", LOOPBACK, {"Host": "localhost:3008"}),
    ("/api/projects", LOOPBACK, {"Host": "127.0.0.1:3008"}),
    ("/api/projects", "::1", {"Host": "[::1]:3008"}),
    ("/api/projects", "::ffff:127.0.0.1", {"Host": "LOCALHOST"}),
    ("/api/projects", LOOPBACK, {"Host": "dev-01:3008"}),  # instanceId
    ("/api/projects", LOOPBACK, {"Host": "100.64.0.1:3008"}),  # the host of instanceUrl
    ("/api/projects", LOOPBACK, {"Host": "box.example"}),  # the host's name, whole and short
    ("/api/projects", LOOPBACK, {"Host": "box"}),
    ("/api/projects", LOOPBACK, {}),  # HTTP/1.0: no browser
    ("/api/projects", LOOPBACK, {"Host": "localhost:3008", "Origin": "http://localhost:3008"}),
    ("/api/projects", UNIX, {"Host": "anything"}),
    ("/api/projects", ELSEWHERE, {"Host": "dev-01", "Authorization": f"Bearer {KEY_AS_HEADER}"}),
    ("/api/projects", ELSEWHERE, {"Host": "dev-01", "Authorization": f"bearer  {KEY_AS_HEADER}"}),
    ("/api/projects", ELSEWHERE, {"Host": "some.proxy", "X-API-Key": KEY_AS_HEADER}),
    ("/api/projects", ELSEWHERE, {"Host": "a.b", "Origin": "https://a.b", "X-API-Key": KEY_AS_HEADER}),
    ("/livez", ELSEWHERE, {"Host": "dev-01"}),
    ("/readyz", ELSEWHERE, {"Host": "dev-01"}),
    ("/api/health", ELSEWHERE, {"Host": "whatever"}),
    ("/api/health/detailed/", ELSEWHERE, {}),
]

REFUSED = [
    (403, "forbidden-host", "/api/projects", LOOPBACK, {"Host": "evil.example:3008"}),
    (403, "forbidden-host", "/api/health/detailed", LOOPBACK, {"Host": "evil.example"}),
    (403, "forbidden-host", "/api/projects", "::1", {"Host": "localhost.evil.example"}),
    (403, "forbidden-host", "/api/projects", LOOPBACK, {"Host": "[::1"}),
    (403, "forbidden-host", "/api/projects", LOOPBACK, {"Host": "evil.example", "X-API-Key": KEY_AS_HEADER}),
    (403, "forbidden-origin", "/api/projects", LOOPBACK, {"Host": "localhost:3008", "Origin": "http://evil.example"}),
    (403, "forbidden-origin", "/api/projects", LOOPBACK, {"Host": "localhost:3008", "Origin": "http://localhost:80"}),
    (403, "forbidden-origin", "/api/projects", LOOPBACK, {"Host": "localhost:3008", "Origin": "null"}),
    (403, "forbidden-origin", "/api/projects", LOOPBACK, {"Origin": "null"}),
    (403, "forbidden-origin", "/api/projects", UNIX, {"Host": "localhost", "Origin": "http://evil.example"}),
    (401, "unauthorized", "/api/projects", ELSEWHERE, {"Host": "dev-01"}),
    (401, "unauthorized", "/api/projects", ELSEWHERE, {"Host": "dev-01", "X-Forwarded-For": "127.0.0.1"}),
    (401, "unauthorized", "/api/projects", ELSEWHERE, {"Host": "dev-01", "Remote-Addr": "127.0.0.1"}),
    (401, "unauthorized", "/api/projects", ELSEWHERE, {"Host": "localhost"}),
    (401, "unauthorized", "/api/projects", ELSEWHERE, {"X-API-Key": "wrong"}),
    (401, "unauthorized", "/api/projects", ELSEWHERE, {"X-API-Key": KEY_AS_HEADER + "x"}),
    (401, "unauthorized", "/api/projects", ELSEWHERE, {"Authorization": f"Basic {KEY_AS_HEADER}"}),
    (401, "unauthorized", "/api/projects", ELSEWHERE, {"Authorization": "Bearer"}),
    (401, "unauthorized", "/api/healthy", ELSEWHERE, {}),
    (401, "unauthorized", "/", ELSEWHERE, {}),
    (401, "unauthorized", "/api/projects", "not an address", {}),
]

ACCESS = Access(KEY, own_hosts(PRIMARY, "Box.example"))


@pytest.mark.parametrize(("path", "client", "headers"), ALLOWED)
def test_allowed(path: str, client: str | None, headers: dict[str, str]) -> None:
    ACCESS.check(path, client, Headers(headers))


@pytest.mark.parametrize(("status", "code", "path", "client", "headers"), REFUSED)
def test_refused(status: int, code: str, path: str, client: str | None, headers: dict[str, str]) -> None:
    with pytest.raises(ApiError) as refusal:
        ACCESS.check(path, client, Headers(headers))
    assert (refusal.value.status, refusal.value.code) == (status, code)


@pytest.mark.parametrize("api_key", [None, ""])
@pytest.mark.parametrize("headers", [{}, {"X-API-Key": ""}, {"Authorization": "Bearer "}])
def test_without_a_key_nobody_elsewhere_may_ask(api_key: str | None, headers: dict[str, str]) -> None:
    with pytest.raises(ApiError, match="no AUTOMAKER_API_KEY is configured"):
        Access(api_key).check("/api/projects", ELSEWHERE, Headers(headers))


def test_an_instance_is_called_by_the_address_it_is_bound_to() -> None:
    assert own_hosts(evolve(ALONE, api=Api(bind_addr="10.1.2.3")), "") == {"localhost", "10.1.2.3", "dev-01"}


def test_the_key_is_in_no_text_of_the_rules() -> None:
    assert "s3cret" not in repr(ACCESS)


async def test_the_application_asks_the_rules_before_it_routes() -> None:
    client = create_app(Local(PRIMARY).instance(api_key="s3cret")).test_client()
    elsewhere = {"client": (ELSEWHERE, 50000)}
    for path in ("/api/projects", "/api/projects/x", "/api/hivemind/self", "/nothing/here"):
        response = await client.get(path, scope_base=elsewhere)
        assert (response.status_code, (await response.get_json())["code"]) == (401, "unauthorized")
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="meshd"'
    response = await client.get("/api/projects", scope_base=elsewhere, headers={"X-API-Key": "s3cret"})
    assert response.status_code == 200
    response = await client.get("/api/health/detailed", scope_base=elsewhere)
    assert response.status_code == 200
    response = await client.get("/livez", scope_base={"client": (LOOPBACK, 50000)}, headers={"Host": "evil.example"})
    assert (response.status_code, (await response.get_json())["code"]) == (403, "forbidden-host")
