"""Project documents: list, read, write, patch (RFC 7396), delete; conditional by revision (RFC 9110).

An answer of success means that the change is on this host's disk, not that other hosts have it.
"""

from __future__ import annotations

from urllib.parse import quote

from attrs import frozen
from quart import Quart, Response, request
from werkzeug.routing import PathConverter

from meshd.api.catalogue import Catalogue
from meshd.api.commands import JSON_TYPES, if_match, json_body, submit
from meshd.api.instance import Instance
from meshd.api.responses import empty_response, json_response
from meshd.core.effects import Accepted
from meshd.core.inputs import DeleteProject, PatchProject, PutProject
from meshd.errors import ApiError, DocumentError
from meshd.model import Json
from meshd.project import check_shape, check_slug

_PATCH_TYPES = ("application/merge-patch+json", *JSON_TYPES)


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
        document = await json_body()
        if not isinstance(document, dict):
            raise ApiError(422, "invalid", "a project document is a JSON object")
        check_shape(document)
        accepted = await submit(self.instance, PutProject(0, slug, document, if_match=if_match(self.instance, slug)))
        return _written(slug, accepted)

    async def patch_project(self, path: str) -> Response:
        slug = _slug(path)
        patch = await json_body(_PATCH_TYPES)
        if isinstance(patch, dict):
            check_shape({key: value for key, value in patch.items() if value is not None})
        accepted = await submit(self.instance, PatchProject(0, slug, patch, if_match=if_match(self.instance, slug)))
        return _written(slug, accepted)

    async def delete_project(self, path: str) -> Response:
        slug = _slug(path)
        await submit(self.instance, DeleteProject(0, slug, if_match=if_match(self.instance, slug)))
        return empty_response(204)


class _Rest(PathConverter):
    """Whatever is left of a path: an encoded slash reaches `check_slug` and is named as what is wrong."""

    regex = "(?s:.+)"
    part_isolating = False


def _slug(path: str) -> str:
    """The slug that the end of a request's path names; raises `DocumentError` for what can be none."""
    slug = check_slug(path.removesuffix("/"), "a project's slug")
    if "\ufffd" in slug:  # what is not UTF-8 was decoded to this
        raise DocumentError("a project's slug is percent-encoded UTF-8")
    return slug


def _written(slug: str, accepted: Accepted) -> Response:
    headers = {"ETag": f'"{accepted.revision}"'}
    if accepted.created:
        headers["Location"] = f"/api/projects/{quote(slug, safe='')}"
    return json_response(
        {"slug": slug, "revision": accepted.revision, "created": accepted.created, "changed": accepted.changed},
        201 if accepted.created else 200,
        headers,
    )
