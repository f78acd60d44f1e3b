"""The JSON shapes of members and their capacity: the specification's, and those of `/api/hivemind/peers`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshd.core.snapshot import MemberView
from meshd.model import Capacity, Focus, Json, JsonObject, utc_text


def utc_or_none(utc_ms: int | None) -> str | None:
    return None if utc_ms is None else utc_text(utc_ms)


def capacity_json(capacity: Capacity | None) -> Json:
    """A capacity under the wire's keys; None when the peer has not told it."""
    if capacity is None:
        return None
    return {
        "cores": capacity.cores,
        "ramMb": capacity.ram_mb,
        "maxAgents": capacity.max_agents,
        "runningAgents": capacity.running_agents,
        "backlogCount": capacity.backlog_count,
        "ramUsagePercent": capacity.ram_usage_percent,
        "cpuPercent": capacity.cpu_percent,
    }


def domains(focus: str | None, tags: Sequence[str]) -> list[Json]:
    """What work an instance takes: its focus and those of its tags that are a focus, each once."""
    known = {str(focus) for focus in Focus}
    return [*dict.fromkeys(word for word in (focus, *tags) if word in known)]


def online_peer_json(member: MemberView) -> JsonObject:
    """A row of the specification's `onlinePeers`."""
    return {
        "identity": {
            "instanceId": member.instance_id,
            "name": member.name,
            "role": member.focus,
            "tags": list(member.tags),
            "url": member.url,
            "capacity": capacity_json(member.capacity),
            "domains": domains(member.focus, member.tags),
            "lastHeartbeat": utc_or_none(member.last_heartbeat_ms),
            "status": member.status.shown,
        },
        "lastSeen": utc_text(member.last_seen_ms),
        "latencyMs": _rounded(member.latency_ms),
        **_agreement_json(member),
    }


def peer_json(member: MemberView) -> JsonObject:
    """A row of `/api/hivemind/peers`: everything known, online or not."""
    return {
        "instanceId": member.instance_id,
        "name": member.name,
        "role": member.focus,
        "tags": list(member.tags),
        "url": member.url,
        "priority": member.priority,
        "status": member.status.shown,
        "state": member.status,
        "lastSeen": utc_text(member.last_seen_ms),
        "lastHeartbeat": utc_or_none(member.last_heartbeat_ms),
        "ageMs": round(member.age_s * 1000),
        "latencyMs": _rounded(member.latency_ms),
        "capacity": capacity_json(member.capacity),
        "version": member.version,
        "dialect": member.dialect,
        "linked": member.linked,
        "intake": member.intake,
        "holding": member.holding,
        **_agreement_json(member),
    }


def _agreement_json(member: MemberView) -> JsonObject:
    """Whether data crosses, and not heartbeats alone; null where it is not known."""
    age_s = member.last_change_age_s
    return {
        "inSync": member.in_sync,
        "outOfSyncSince": utc_or_none(member.out_of_sync_since_ms),
        "lastChange": utc_or_none(member.last_change_ms),
        "lastChangeAgeMs": None if age_s is None else round(age_s * 1000),
    }


def capacity_summary(members: Iterable[MemberView]) -> JsonObject:
    """What these members have together; those that have not told their capacity count for nothing."""
    known = [member.capacity for member in members if member.capacity]
    return {
        "totalCores": sum(capacity.cores for capacity in known),
        "totalRamMb": sum(capacity.ram_mb for capacity in known),
        "totalMaxAgents": sum(capacity.max_agents for capacity in known),
        "totalRunningAgents": sum(capacity.running_agents for capacity in known),
        "totalBacklog": sum(capacity.backlog_count for capacity in known),
        "averageCpuPercent": _average([capacity.cpu_percent for capacity in known]),
        "averageRamUsagePercent": _average([capacity.ram_usage_percent for capacity in known]),
    }


def _rounded(milliseconds: float | None) -> float | None:
    """To a tenth: what is measured over a network is no truer."""
    return None if milliseconds is None else round(milliseconds, 1)


def _average(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 1) if values else 0.0
