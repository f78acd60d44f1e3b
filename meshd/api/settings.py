"""Shared settings: what holds on this host and where it comes from, and changes of the two scopes that can be changed.

`/api/settings` is the scope that all hosts share, changed on the primary; `/api/settings/local` holds for this host
alone. Both take PUT (the whole object) and PATCH (RFC 7396), conditional on the revision of their scope by `If-Match`.
A refusal names the `path` of the offender, and on a worker the primary.
"""

from __future__ import annotations

from attrs import frozen
from quart import Quart, Response, request

from meshd.api.commands import JSON_TYPES, json_body, refused
from meshd.api.instance import Instance
from meshd.api.responses import json_response
from meshd.core.effects import Rejected
from meshd.core.inputs import PatchSettings, PutSettings, SettingsCommand
from meshd.core.settings import LOCAL, SHARED
from meshd.errors import ApiError
from meshd.model import JsonObject

_PATCH_TYPES = ("application/merge-patch+json", *JSON_TYPES)


@frozen
class Settings:
    """The routes under `/api/settings`."""

    instance: Instance

    def add_to(self, app: Quart) -> None:
        app.add_url_rule("/api/settings", view_func=self.get_settings, methods=["GET"])
        app.add_url_rule("/api/settings/local", view_func=self.get_local_settings, methods=["GET"])
        for path, scope in (("/api/settings", SHARED), ("/api/settings/local", LOCAL)):
            for method, view in (("PUT", self.put_settings), ("PATCH", self.patch_settings)):
                endpoint = f"{method.lower()}_{scope}_settings"
                app.add_url_rule(path, endpoint, view, methods=[method], defaults={"scope": scope})

    async def get_settings(self) -> Response:
        snapshot = self.instance.snapshot()
        scopes = snapshot.settings
        resolved = scopes.resolved()
        settings: JsonObject = {key: value for key, (_, value) in resolved.items()}
        origins: JsonObject = {key: origin for key, (origin, _) in resolved.items()}
        body: JsonObject = {
            "settings": settings,
            "origins": origins,
            "shared": scopes.shared.values,
            "local": scopes.local.values,
            "file": scopes.file.values,
            "revision": scopes.shared.revision,
            "localRevision": scopes.local.revision,
            "primaryId": snapshot.primary_id,
            "primaryUrl": snapshot.primary_url,
        }
        return json_response(body, headers=_tag(scopes.shared.revision))

    async def get_local_settings(self) -> Response:
        local = self.instance.snapshot().settings.local
        return json_response({"local": local.values, "localRevision": local.revision}, headers=_tag(local.revision))

    async def put_settings(self, scope: str) -> Response:
        values = await json_body()
        return await self._submit(PutSettings(0, scope, values, self._if_match(scope)))

    async def patch_settings(self, scope: str) -> Response:
        patch = await json_body(_PATCH_TYPES)
        return await self._submit(PatchSettings(0, scope, patch, self._if_match(scope)))

    async def _submit(self, command: SettingsCommand) -> Response:
        outcome = await self.instance.submit(command)
        if isinstance(outcome, Rejected):
            return refused(self.instance, outcome)
        body: JsonObject = {"scope": command.scope, "revision": int(outcome.revision), "changed": outcome.changed}
        return json_response(body, headers=_tag(int(outcome.revision)))

    def _if_match(self, scope: str) -> str | None:
        if "If-Match" not in request.headers:
            return None
        if request.if_match.star_tag:
            return "*"
        revisions: set[str] = set(filter(None, request.if_match.as_set()))
        if not revisions:
            raise ApiError(412, "revision-mismatch", 'If-Match takes revisions in quotes, without W/: "7"')
        current = str(self.instance.snapshot().settings.of(scope).revision)
        return current if current in revisions else min(revisions)


def _tag(revision: int) -> dict[str, str]:
    return {"ETag": f'"{revision}"'}
