"""What `GET /api/leadership` answers, for the verbs that read it."""

from __future__ import annotations

from typing import Any

TURNS: list[dict[str, Any]] = [
    {
        "id": term,
        "time": f"2026-03-14T09:26:0{term}.000Z",
        "term": term,
        "leader": None if term == 6 else "dev-01",
        "cause": f"turn {term}",
    }
    for term in range(2, 8)
]


def voter(index: int, instance_id: str | None, **keys: Any) -> dict[str, Any]:
    status = {"status": "online", "state": "alive"} if instance_id else {"status": None, "state": None}
    return {
        "index": index,
        "url": f"ws://100.64.0.{index + 1}:4444",
        "instanceId": instance_id,
        **status,
        "eligible": True,
        "inSync": None,
        "contactAgeMs": None,
        "isSelf": False,
        "agrees": True,
        **keys,
    }


FOUND: dict[str, Any] = {
    "instanceId": "dev-02",
    "role": "worker",
    "standing": "worker",
    "primaryId": "dev-01",
    "primaryUrl": "ws://100.64.0.1:4444",
    "since": "2026-03-14T09:26:53.589Z",
    "term": 7,
    "cause": "elected with 2 of 3 votes",
    "leads": None,
    "authoritative": None,
    "whyNot": "dev-01 leads and is heard",
    "policy": "quorum",
    "failback": "auto",
    "majority": 2,
    "voters": [
        voter(0, "dev-01", inSync=True, contactAgeMs=1_250),
        voter(1, "dev-02", isSelf=True),
        voter(2, None, eligible=False),
    ],
    "failover": {"possible": True, "winner": "dev-02", "missing": []},
    "history": TURNS,
}
"""As a worker tells it."""

LEADING: dict[str, Any] = {
    **FOUND,
    "role": "primary",
    "standing": "primary",
    "primaryId": "dev-02",
    "primaryUrl": "ws://100.64.0.2:4444",
    "term": 8,
    "cause": "dev-01 handed over",
    "leads": 8,
    "authoritative": True,
    "whyNot": "",
    "history": [
        *TURNS,
        {"id": 8, "time": "2026-03-14T09:27:00.000Z", "term": 8, "leader": "dev-02", "cause": "dev-01 handed over"},
    ],
}
"""The same instance when it leads."""
