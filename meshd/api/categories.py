"""`/api/categories`: the list of categories that all instances share."""

from __future__ import annotations

from attrs import frozen
from quart import Quart, Response

from meshd.api.commands import if_match, json_body, submit
from meshd.api.instance import Instance
from meshd.api.responses import json_response
from meshd.core import categories
from meshd.core.inputs import PutProject


@frozen
class Categories:
    """The routes of `/api/categories`."""

    instance: Instance

    def add_to(self, app: Quart) -> None:
        app.add_url_rule("/api/categories", view_func=self.show, methods=["GET"])
        app.add_url_rule("/api/categories", view_func=self.put, methods=["PUT"])

    async def show(self) -> Response:
        document = self.instance.snapshot().documents.get(categories.SLUG)
        headers = {"ETag": f'"{document.digest}"'} if document else {}
        return json_response({"categories": categories.listed(document)}, headers=headers)

    async def put(self) -> Response:
        """Replace the list by an array, or by that of an object as `show` gives it."""
        body = await json_body()
        wanted = categories.wanted(body.get("categories") if isinstance(body, dict) else body)
        command = PutProject(0, categories.SLUG, wanted, if_match=if_match(self.instance, categories.SLUG))
        accepted = await submit(self.instance, command)
        headers = {"ETag": f'"{accepted.revision}"'}
        return json_response({"revision": accepted.revision, "changed": accepted.changed}, headers=headers)
