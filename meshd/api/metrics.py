"""`/metrics`: who is there and in sync, who leads and what waits, as text in Prometheus' exposition format 0.0.4."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from attrs import frozen
from quart import Quart, Response

from meshd.api.instance import Instance
from meshd.core.snapshot import MemberView, Snapshot
from meshd.model import Role

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@frozen
class Metrics:
    """The route `/metrics`."""

    instance: Instance

    def add_to(self, app: Quart) -> None:
        app.add_url_rule("/metrics", view_func=self.expose, methods=["GET"])

    async def expose(self) -> Response:
        text = "\n".join([*metric_lines(self.instance.snapshot()), ""])
        return Response(text, content_type=CONTENT_TYPE)


def metric_lines(snapshot: Snapshot) -> Iterator[str]:
    """One gauge after another; what is not known of a peer has no sample."""
    members = snapshot.members
    own: Iterable[tuple[str, str, float]] = (
        ("meshd_primary", "Whether this instance leads.", snapshot.role is Role.PRIMARY),
        ("meshd_authoritative", "Whether it may decide.", snapshot.leadership.authoritative),
        ("meshd_term", "The newest term that it knows.", snapshot.term),
        ("meshd_connected", "Whether it is in contact with the mesh.", snapshot.connected),
        ("meshd_queued_changes", "Own changes that no primary has acknowledged.", snapshot.queued_changes),
        ("meshd_alerts", "Alerts that stand.", len(snapshot.alerts)),
    )
    for name, meaning, value in own:
        yield from _gauge(name, meaning, [("", value)])
    yield from _gauge("meshd_peer_online", "Whether a peer is online.", _of(members, lambda one: one.status.is_online))
    yield from _gauge("meshd_peer_in_sync", "Whether its documents equal ours.", _of(members, lambda one: one.in_sync))
    yield from _gauge(
        "meshd_peer_out_of_sync_since_seconds",
        "Unix time since when they do not.",
        _of(members, lambda one: None if one.out_of_sync_since_ms is None else one.out_of_sync_since_ms / 1000),
    )
    yield from _gauge(
        "meshd_peer_last_change_age_seconds",
        "Since a change last came from it.",
        _of(members, lambda one: one.last_change_age_s),
    )
    yield from _gauge("meshd_peer_heard_age_seconds", "Since it was last heard.", _of(members, lambda one: one.age_s))


def _of(members: Iterable[MemberView], value: Callable[[MemberView], float | None]) -> list[tuple[str, float]]:
    known = ((member.instance_id, value(member)) for member in members)
    return [(f'{{peer="{_escaped(peer)}"}}', found) for peer, found in known if found is not None]


def _gauge(name: str, meaning: str, samples: Iterable[tuple[str, float]]) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} gauge"
    for labels, value in samples:
        yield f"{name}{labels} {float(value):.15g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
