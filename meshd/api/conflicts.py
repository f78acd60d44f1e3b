"""Writes that lost a conflict: listed, taken back, or forgotten."""

from __future__ import annotations

from attrs import frozen
from quart import Quart, Response

from meshd.api.commands import submit
from meshd.api.instance import Instance
from meshd.api.responses import empty_response, json_response
from meshd.core.documents import Conflict
from meshd.core.inputs import TakeConflict
from meshd.model import JsonObject, utc_text
from meshd.project import check_name


@frozen
class Conflicts:
    """The routes under `/api/conflicts` and `/api/projects/<slug>/conflicts`."""

    instance: Instance

    def add_to(self, app: Quart) -> None:
        of_project = "/api/projects/<string:slug>/conflicts"
        app.add_url_rule("/api/conflicts", view_func=self.list_all, methods=["GET"])
        app.add_url_rule(of_project, view_func=self.list_of_project, methods=["GET"])
        app.add_url_rule(f"{of_project}/<string:name>/take", view_func=self.take, methods=["POST"])
        app.add_url_rule(f"{of_project}/<string:name>", view_func=self.forget, methods=["DELETE"])

    async def list_all(self) -> Response:
        return json_response({"conflicts": [_shown(one) for one in self.instance.snapshot().conflicts]})

    async def list_of_project(self, slug: str) -> Response:
        check_name(slug, "a project's slug")
        kept = [one for one in self.instance.snapshot().conflicts if one.slug == slug]
        return json_response({"conflicts": [_shown(one) for one in kept]})

    async def take(self, slug: str, name: str) -> Response:
        accepted = await submit(self.instance, TakeConflict(0, slug, name))
        return json_response({"slug": slug, "revision": accepted.revision, "changed": accepted.changed})

    async def forget(self, slug: str, name: str) -> Response:
        await submit(self.instance, TakeConflict(0, slug, name, take=False))
        return empty_response(204)


def _shown(conflict: Conflict) -> JsonObject:
    return {
        "id": conflict.id,
        "slug": conflict.slug,
        "path": conflict.path,
        "value": conflict.value,
        "removed": conflict.gone,
        "writtenBy": conflict.stamp.instance_id,
        "writtenAt": utc_text(conflict.stamp.utc_ms),
        "wonBy": conflict.winner.instance_id,
        "wonAt": utc_text(conflict.winner.utc_ms),
        "foundAt": utc_text(conflict.found_ms),
    }
