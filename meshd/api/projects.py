"""Project documents: list, read, write, patch (RFC 7396), delete; conditional by revision (RFC 9110).

An answer of success means that the change is on this host's disk, not that other hosts have it.
"""

from __future__ import annotations

from urllib.parse import quote

import orjson
from attrs import frozen
from quart import Quart, Response, request
from werkzeug.routing import PathConverter

from meshd.api.catalogue import Catalogue
from meshd.api.instance import Instance
from meshd.api.responses import empty_response, json_response
from meshd.core.effects import Accepted, Rejected
from meshd.core.inputs import Command, DeleteProject, PatchProject, PutProject
from meshd.errors import ApiError, DocumentError
from meshd.model import Json
from meshd.project import MAX_DEPTH, check_name

_STATUS_OF_CODE = {"invalid": 422, "not-found": 404, "revision-mismatch": 412, "outbox-full": 507, "too-large": 413}

# Without a type (curl -T) a body is taken for what the method expects.
_PUT_TYPES = ("application/json", "")
_PATCH_TYPES = ("application/merge-patch+json", "application/json", "")


@frozen
class Projects:
    """The routes under `/api/projects`."""

    instance: Instance
    catalogue: Catalogue

    def add_to(self, app: Quart) -> None:
        app.url_map.converters["rest"] = _Rest
        one = "/api/projects/<rest:path>"
        app.add_url_rule("/api/projects", view_func=self.list_projects, methods=["GET"])
        app.add_url_rule(one, view_func=self.get_project, methods=["GET"])
        app.add_url_rule(one, view_func=self.put_project, methods=["PUT"])
        app.add_url_rule(one, view_func=self.patch_project, methods=["PATCH"])
        app.add_url_rule(one, view_func=self.delete_project, methods=["DELETE"])

    async def list_projects(self) -> Response:
        rows: list[Json] = [
            {
                "slug": entry.document.slug,
                "title": entry.title,
                "status": entry.status,
                "milestones": entry.milestones,
                "phases": entry.phases,
                "revision": entry.document.digest,
            }
            for entry in await self.catalogue.entries(self.instance.snapshot().documents)
        ]
        return json_response({"projects": rows})

    async def get_project(self, path: str) -> Response:
        slug = _slug(path)
        document = self.instance.snapshot().documents.get(slug)
        if document is None or document.ended is not None:
            raise ApiError(404, "not-found", f"there is no project {slug}")
        headers = {"ETag": f'"{document.digest}"'}
        if request.if_none_match.contains_weak(document.digest) or request.if_none_match.star_tag:
            return empty_response(304, headers)
        return json_response(document.json(str(self.instance.configuration.repo_root)), headers=headers)

    async def put_project(self, path: str) -> Response:
        slug = _slug(path)
        document = await _json_body(_PUT_TYPES)
        if not isinstance(document, dict):
            raise ApiError(422, "invalid", "a project document is a JSON object")
        accepted = await self._submit(PutProject(0, slug, document, if_match=self._if_match(slug)))
        return _written(slug, accepted)

    async def patch_project(self, path: str) -> Response:
        slug = _slug(path)
        patch = await _json_body(_PATCH_TYPES)
        accepted = await self._submit(PatchProject(0, slug, patch, if_match=self._if_match(slug)))
        return _written(slug, accepted)

    async def delete_project(self, path: str) -> Response:
        slug = _slug(path)
        await self._submit(DeleteProject(0, slug, if_match=self._if_match(slug)))
        return empty_response(204)

    async def _submit(self, command: Command) -> Accepted:
        outcome = await self.instance.submit(command)
        if isinstance(outcome, Rejected):
            raise ApiError(_STATUS_OF_CODE[outcome.code], outcome.code, outcome.detail)
        return outcome

    def _if_match(self, slug: str) -> str | None:
        """The revision that the request's conditions ask for, as commands express it."""
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
        document = self.instance.snapshot().documents.get(slug)
        return document.digest if document and document.digest in revisions else min(revisions)


class _Rest(PathConverter):
    """Whatever is left of a path: an encoded slash reaches `check_name` and is named as what is wrong."""

    regex = "(?s:.+)"
    part_isolating = False


def _slug(path: str) -> str:
    """The slug that the end of a request's path names; raises `DocumentError` for what can be none."""
    slug = check_name(path.removesuffix("/"), "a project's slug")
    if "\ufffd" in slug:  # what is not UTF-8 was decoded to this
        raise DocumentError("a project's slug is percent-encoded UTF-8")
    return slug


async def _json_body(types: tuple[str, ...]) -> Json:
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
        inner = [node.values() if isinstance(node, dict) else node for node in level if isinstance(node, dict | list)]
        level = [child for children in inner for child in children if isinstance(child, dict | list)]
        if not level:
            return
    raise ApiError(422, "invalid", f"the body is nested deeper than {MAX_DEPTH} levels")


def _written(slug: str, accepted: Accepted) -> Response:
    headers = {"ETag": f'"{accepted.revision}"'}
    if accepted.created:
        headers["Location"] = f"/api/projects/{quote(slug, safe='')}"
    return json_response(
        {"slug": slug, "revision": accepted.revision, "created": accepted.created, "changed": accepted.changed},
        201 if accepted.created else 200,
        headers,
    )
