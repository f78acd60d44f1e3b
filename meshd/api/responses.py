"""How the API answers: JSON written by orjson, or nothing."""

from __future__ import annotations

import orjson
from quart import Response

from meshd.model import JsonObject


def json_response(body: JsonObject, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with a JSON object."""
    content = orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE)
    return Response(content, status, headers, content_type="application/json")


def empty_response(status: int, headers: dict[str, str] | None = None) -> Response:
    """Answer without a body."""
    response = Response(b"", status, headers)
    del response.content_type
    return response
