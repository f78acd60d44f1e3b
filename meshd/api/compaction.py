"""Compaction: what the documents take, what was tidied up, and the alerts about large ones."""

from __future__ import annotations

from attrs import frozen
from quart import Quart, Response

from meshd.api.commands import refusal
from meshd.api.instance import Instance
from meshd.api.responses import json_response
from meshd.configuration import Configuration
from meshd.core.compaction import CompactionView, Pass
from meshd.core.effects import Rejected
from meshd.core.inputs import AcknowledgeCompaction
from meshd.model import Json, JsonObject, utc_text


@frozen
class Compaction:
    """The routes under `/api/compaction`."""

    instance: Instance

    def add_to(self, app: Quart) -> None:
        app.add_url_rule("/api/compaction", view_func=self.show_compaction, methods=["GET"])
        app.add_url_rule("/api/compaction/alerts", view_func=self.acknowledge_compaction, methods=["DELETE"])

    async def show_compaction(self) -> Response:
        view = self.instance.snapshot().compaction
        keys = self.instance.configuration.compaction
        documents: list[Json] = [
            {"slug": slug, "sizeBytes": size, "acknowledged": slug in view.acknowledged}
            for slug, size in sorted(view.sizes.items(), key=lambda item: (-item[1], item[0]))
        ]
        return json_response(
            {
                "intervalMs": keys.interval_ms,
                "alertBytes": keys.alert_bytes,
                "tombstoneRetentionMs": keys.tombstone_retention_ms,
                **diagnostics(view, self.instance.configuration),
                "documents": documents,
                "history": [_pass_json(done) for done in view.history],
            }
        )

    async def acknowledge_compaction(self) -> Response:
        slugs: list[Json] = [alert.subject for alert in self.instance.snapshot().compaction.alerts]
        outcome = await self.instance.submit(AcknowledgeCompaction(0))
        if isinstance(outcome, Rejected):
            raise refusal(outcome)
        return json_response({"acknowledged": slugs})


def diagnostics(view: CompactionView, configuration: Configuration) -> JsonObject:
    """The specification's `compactionDiagnostics`."""
    alerts: list[Json] = [
        {
            "slug": alert.subject,
            "sizeBytes": view.sizes.get(alert.subject),
            "alertBytes": configuration.compaction.alert_bytes,
            "since": utc_text(alert.since_ms),
        }
        for alert in view.alerts
    ]
    latest = view.history[-1] if view.history else None
    return {
        "alertCount": len(alerts),
        "alerts": alerts,
        "lastCompaction": utc_text(latest.utc_ms) if latest else None,
        "totalSizeBytes": latest.total_bytes if latest else 0,
    }


def _pass_json(done: Pass) -> JsonObject:
    return {
        "time": utc_text(done.utc_ms),
        "documents": done.documents,
        "totalSizeBytes": done.total_bytes,
        "dropped": [*done.dropped],
        "tombstones": done.tombstones,
        "waitingFor": [*done.waiting_for],
    }
