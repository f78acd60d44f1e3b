"""The mesh as seen from here: this instance's place in it, all its members, and itself."""

from __future__ import annotations

from attrs import frozen
from quart import Quart, Response

from meshd.api.instance import Instance
from meshd.api.leadership import authority
from meshd.api.members import capacity_json, peer_json, utc_or_none
from meshd.api.responses import json_response
from meshd.core.snapshot import MemberView
from meshd.model import Role


@frozen
class Hivemind:
    """The routes under `/api/hivemind`."""

    instance: Instance

    def add_to(self, app: Quart) -> None:
        app.add_url_rule("/api/hivemind/status", view_func=self.status)
        app.add_url_rule("/api/hivemind/peers", view_func=self.peers)
        app.add_url_rule("/api/hivemind/self", view_func=self.own)

    async def status(self) -> Response:
        snapshot = self.instance.snapshot()
        configuration = self.instance.configuration
        return json_response(
            {
                "instanceId": snapshot.instance_id,
                "enabled": snapshot.mesh_enabled,
                "role": snapshot.role,
                "term": snapshot.term,
                "isLeader": snapshot.role is Role.PRIMARY,
                "authoritative": authority(snapshot),
                "status": snapshot.status.shown,
                "connected": snapshot.connected,
                "primaryId": snapshot.primary_id,
                "primaryUrl": snapshot.primary_url,
                "partitionSince": utc_or_none(snapshot.partition_since_ms),
                "queuedChanges": snapshot.queued_changes,
                "peerCount": len(snapshot.members),
                "onlineCount": sum(member.status.is_online for member in snapshot.members),
                "root": snapshot.root,
                "dropped": dict(snapshot.dropped),
                "dataDir": str(configuration.data_dir),
                "repoRoot": str(configuration.repo_root),
            }
        )

    async def peers(self) -> Response:
        members = sorted(self.instance.snapshot().members, key=_place)
        return json_response({"peers": [peer_json(member) for member in members]})

    async def own(self) -> Response:
        snapshot = self.instance.snapshot()
        configuration = self.instance.configuration
        return json_response(
            {
                "instanceId": snapshot.instance_id,
                "name": configuration.instance.name,
                "role": configuration.instance.focus,
                "tags": list(configuration.instance.tags),
                "url": configuration.protolab.instance_url,
                "priority": configuration.priority,
                "syncRole": snapshot.role,
                "term": snapshot.term,
                "authoritative": authority(snapshot),
                "status": snapshot.status.shown,
                "capacity": capacity_json(snapshot.capacity),
                "intake": snapshot.work.is_on,
                "holding": len(snapshot.work.held),
                "version": self.instance.version,
                "boot": snapshot.boot,
                "store": snapshot.store,
            }
        )


def _place(member: MemberView) -> tuple[bool, int, str]:
    """By priority, those without one last, then by name."""
    return member.priority is None, member.priority or 0, member.instance_id
