"""Health: is it alive, may work be sent to it, and how is the mesh seen from here.

`sync` in `/api/health/detailed` has the specification's keys in the specification's shapes, and beyond them
`enabled`, `instanceId`, `term`, `primaryId` and `authoritative`: whether a primary may decide about claims, false for
one that hears no majority of its voters, null for a worker.

`work` says whether this host claims new work (`claims`, and `why` not), how much, and what it holds.

`status` is `ok`, `draining`, or `degraded`: what this host writes is refused, because its disk is full. It serves all
the same, so that is no reason for `/livez` or `/readyz` to fail; nor is a primary without authority, which goes on
serving documents.
"""

from __future__ import annotations

import os
import sys

from attrs import frozen
from quart import Quart, Response

from meshd.api.alerts import alerts_json
from meshd.api.compaction import diagnostics
from meshd.api.instance import Instance
from meshd.api.leadership import authority
from meshd.api.members import capacity_summary, online_peer_json, utc_or_none
from meshd.api.responses import json_response
from meshd.core.snapshot import Snapshot, WorkView
from meshd.model import JsonObject, Role, Status, utc_text
from meshd.store import Disk


@frozen
class Health:
    """The open routes."""

    instance: Instance

    def add_to(self, app: Quart) -> None:
        app.add_url_rule("/livez", view_func=self.livez)
        app.add_url_rule("/readyz", view_func=self.readyz)
        app.add_url_rule("/api/health", view_func=self.health)
        app.add_url_rule("/api/health/detailed", view_func=self.detailed)

    async def livez(self) -> Response:
        return json_response({"status": "ok"})

    async def readyz(self) -> Response:
        """Ready unless draining: a worker without a primary, or a hub without authority, still serves its own host."""
        snapshot = self.instance.snapshot()
        if snapshot.status is Status.DRAINING:
            return json_response({"ready": False, "reason": "draining"}, 503)
        if authority(snapshot) is False:
            note = "documents are served; claims are not decided, because no majority of the voters is heard"
            return json_response({"ready": True, "authoritative": False, "note": note})
        return json_response({"ready": True})

    async def health(self) -> Response:
        return json_response({"status": "ok", "timestamp": self._timestamp(), "version": self.instance.version})

    async def detailed(self) -> Response:
        snapshot = self.instance.snapshot()
        memory = self.instance.process_memory()
        disk = self.instance.disk()
        return json_response(
            {
                "status": _status(snapshot, disk),
                "timestamp": self._timestamp(),
                "version": self.instance.version,
                "uptime": round(self.instance.uptime_s(), 3),
                "memory": {"rss": memory.rss_bytes, "vms": memory.vms_bytes},
                "dataDir": str(self.instance.configuration.data_dir),
                "disk": {"freeBytes": disk.free_bytes, "full": disk.is_full, "damagedDatabases": [*disk.damaged]},
                "env": _environment(),
                "alerts": alerts_json(snapshot),
                "work": work_json(snapshot.work),
                "sync": self._sync(snapshot),
            }
        )

    def _timestamp(self) -> str:
        return utc_text(self.instance.utc_ms())

    def _sync(self, snapshot: Snapshot) -> JsonObject:
        configuration = self.instance.configuration
        online = [member for member in snapshot.members if member.status.is_online]
        listens_as_primary = snapshot.mesh_enabled and snapshot.role is Role.PRIMARY
        return {
            "role": snapshot.role,
            "syncPort": configuration.protolab.sync_port if listens_as_primary else None,
            "connected": snapshot.connected,
            "peerCount": len(snapshot.members),
            "onlinePeers": [online_peer_json(member) for member in online],
            "isLeader": snapshot.role is Role.PRIMARY,
            "peerCapacitySummary": capacity_summary(online),
            "partitionSince": utc_or_none(snapshot.partition_since_ms),
            "queuedChanges": snapshot.queued_changes,
            "compactionDiagnostics": diagnostics(snapshot.compaction, configuration),
            "enabled": snapshot.mesh_enabled,
            "instanceId": snapshot.instance_id,
            "term": snapshot.term,
            "primaryId": snapshot.primary_id,
            "authoritative": authority(snapshot),
        }


def work_json(work: WorkView) -> JsonObject:
    """Whether a host takes work, and how much; `decides` is "" on a primary that decides about claims."""
    return {
        "on": work.is_on,
        "claims": not work.why_off,
        "why": work.why_off,
        "maxAgents": work.max_agents,
        "free": work.free,
        "holding": len(work.held),
        "decides": work.decides,
    }


def _status(snapshot: Snapshot, disk: Disk) -> str:
    if snapshot.status is Status.DRAINING:
        return "draining"
    return "degraded" if disk.is_full else "ok"


def _environment() -> JsonObject:
    system = os.uname()
    return {
        "python": sys.version.partition(" ")[0],
        "platform": f"{system.sysname} {system.release} {system.machine}",
        "pid": os.getpid(),
    }
