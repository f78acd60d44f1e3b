"""What went wrong, as RFC 9457 problem documents.

`code` is stable: programs may rely on it and on the status; the other texts are for people. A view that crashes costs
its own request: a 500 problem, and one traceback in the log, which Quart writes.
"""

from __future__ import annotations

from http import HTTPStatus

from attrs import frozen
from quart import Quart, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from meshd.api.responses import json_response
from meshd.errors import ApiError, DocumentError
from meshd.model import JsonObject

_CODES = {413: "too-large", 500: "internal"}
"""Where the stable code is not the name of the HTTP status."""


def problem(
    status: int, code: str, detail: str, headers: dict[str, str] | None = None, more: JsonObject | None = None
) -> Response:
    """Answer with a problem document; `more` are members that this `code` has besides."""
    title = HTTPStatus(status).phrase
    body: JsonObject = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}
    body |= more or {}
    response = json_response(body, status, headers)
    response.content_type = "application/problem+json"
    return response


@frozen
class Problems:
    """The answers to everything that views and Quart raise."""

    max_body_bytes: int

    def add_to(self, app: Quart) -> None:
        app.register_error_handler(ApiError, self.of_api_error)
        app.register_error_handler(DocumentError, self.of_document_error)
        app.register_error_handler(HTTPException, self.of_http_exception)

    async def of_api_error(self, error: ApiError) -> Response:
        headers = {"WWW-Authenticate": 'Bearer realm="meshd"'} if error.status == 401 else None
        return problem(error.status, error.code, error.detail, headers)

    async def of_document_error(self, error: DocumentError) -> Response:
        return problem(422, "invalid", str(error))

    async def of_http_exception(self, error: HTTPException) -> Response:
        """Refused by Quart, or crashed (500)."""
        status = error.code or 500
        code = _CODES.get(status, HTTPStatus(status).phrase.lower().replace(" ", "-"))
        details = {
            404: "nothing is served at this path",
            413: f"a body may have {self.max_body_bytes} bytes",
            500: "a bug: the log of the daemon has the traceback",
        }
        headers = None
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            headers = {"Allow": ", ".join(sorted(error.valid_methods))}
        return problem(status, code, details.get(status) or error.description or "", headers)
