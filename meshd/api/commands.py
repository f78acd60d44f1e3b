"""From a request to a command of the core and back: bodies, conditions, refusals."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
from quart import Response, request

from meshd.api.instance import Instance
from meshd.api.problems import problem
from meshd.core.effects import Accepted, Rejected
from meshd.core.inputs import Request
from meshd.errors import ApiError
from meshd.model import Json, JsonObject
from meshd.project import MAX_DEPTH

# Without a type (curl -T) a body is taken for what the method expects.
JSON_TYPES = ("application/json", "")

_STATUS_OF_CODE = {
    "invalid": 422,
    "not-found": 404,
    "revision-mismatch": 412,
    "outbox-full": 507,
    "disk-full": 507,
    "too-large": 413,
    "not-primary": 409,
    "not-claimable": 409,
    "not-holder": 409,
    "stale": 409,
    "no-successor": 409,
    "unknown-setting": 422,
    "credential-refused": 422,
}


async def submit(instance: Instance, command: Request) -> Accepted:
    """Carry out a command; raises `ApiError` when it is refused."""
    outcome = await instance.submit(command)
    if isinstance(outcome, Rejected):
        raise refusal(outcome)
    return outcome


def refusal(rejected: Rejected) -> ApiError:
    return ApiError(_STATUS_OF_CODE[rejected.code], rejected.code, rejected.detail)


def refused(instance: Instance, rejected: Rejected) -> Response:
    """The problem document of a refusal, with the primary's address or the `path` of the offender where that helps."""
    more: JsonObject = {"path": rejected.path} if rejected.path else {}
    if rejected.code == "not-primary":
        snapshot = instance.snapshot()
        more = {"primaryId": snapshot.primary_id, "primaryUrl": snapshot.primary_url}
    error = refusal(rejected)
    return problem(error.status, error.code, error.detail, more=more)


def if_match(instance: Instance, slug: str) -> str | None:
    """The revision that the request's conditions ask for, as commands express it. Raises `ApiError`."""
    if "If-None-Match" in request.headers:
        if not request.if_none_match.star_tag or "If-Match" in request.headers:
            raise ApiError(422, "invalid", "a write takes If-Match, or If-None-Match: * to create, not more")
        return ""
    if "If-Match" not in request.headers:
        return None
    if request.if_match.star_tag:
        return "*"
    revisions = set(filter(None, request.if_match.as_set()))
    if not revisions:
        raise ApiError(412, "revision-mismatch", 'If-Match takes revisions in quotes, without W/: "0123abcd"')
    document = instance.snapshot().documents.get(slug)
    return document.digest if document and document.digest in revisions else min(revisions)


async def json_body(types: tuple[str, ...] = JSON_TYPES) -> Json:
    """The request's body, of one of these media types. Raises `ApiError`."""
    if request.mimetype not in types:
        allowed = " or ".join(filter(None, types))
        raise ApiError(415, "unsupported-media-type", f"the body is {request.mimetype}, not {allowed}")
    try:
        body: Json = orjson.loads(await request.get_data())
    except orjson.JSONDecodeError as error:
        raise ApiError(400, "invalid-json", f"the body is not JSON: {error}") from error
    _check_depth(body)
    return body


def _check_depth(value: Json) -> None:
    """Refuse what no document may hold before anything walks through it level by level."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Iterable[Json]] = [
            node.values() if isinstance(node, dict) else node for node in level if isinstance(node, dict | list)
        ]
        level = [child for children in inner for child in children if isinstance(child, dict | list)]
        if not level:
            return
    raise ApiError(422, "invalid", f"the body is nested deeper than {MAX_DEPTH} levels")
