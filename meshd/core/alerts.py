"""Alerts: what a person should look at, as objects that stand until what they tell of is over.

Rules:

- An alert is known by its code and its subject (a member, a document; "" for this instance itself). Whoever knows of
  the trouble raises it and clears it; raising what stands, and clearing what does not, does nothing.
- Each raise and each clear is told once: an event (`alert:raised`, `alert:cleared`) and a log line.
- Alerts live as long as the process: after a restart whoever knows raises them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from attrs import define, evolve, field, frozen

from meshd.core.effects import Effect, Emit, Level, Note
from meshd.model import JsonObject, Now, utc_text


class Severity(StrEnum):
    """`CRITICAL`: something does not work, or is about to stop; `WARNING`: it works, and should be looked at."""

    WARNING = "warning"
    CRITICAL = "critical"


DIVERGED = "diverged"
LARGE_DOCUMENT = "large-document"
OUTBOX_FILLING = "outbox-filling"
CLOCK_SKEW = "clock-skew"
PEERS_MISMATCH = "peers-mismatch"
DUPLICATE_INSTANCE = "duplicate-instance"
PARTITIONED = "partitioned"
SPLIT_BRAIN = "split-brain"
NO_QUORUM = "no-quorum"
PHASE_BLOCKED = "phase-blocked"

RULES: dict[str, tuple[Severity, str]] = {
    DIVERGED: (
        Severity.CRITICAL,
        "an exchange repairs it by itself; when it stays, restart the instance that is named and look at its log",
    ),
    LARGE_DOCUMENT: (
        Severity.WARNING,
        "archive or prune what grows in it; `meshd compaction ack` when it is meant to be so large",
    ),
    OUTBOX_FILLING: (
        Severity.CRITICAL,
        "bring the primary back, or mend the way to it: when the queue is full, writes are refused",
    ),
    CLOCK_SKEW: (Severity.CRITICAL, "set the clocks right (NTP) on both hosts; they connect again by themselves"),
    PEERS_MISMATCH: (
        Severity.WARNING,
        "give all instances the same hivemind.peers, in the same order, the same failover and the same peerTtlMs",
    ),
    DUPLICATE_INSTANCE: (
        Severity.CRITICAL,
        "give each instance a protolab.instanceId of its own, or stop the second daemon",
    ),
    PARTITIONED: (
        Severity.CRITICAL,
        "start the primary, or mend the network to it; changes wait in the queue meanwhile",
    ),
    SPLIT_BRAIN: (
        Severity.CRITICAL,
        "one of them steps down by itself; when it stays, restart the one that comes later in hivemind.peers",
    ),
    NO_QUORUM: (
        Severity.CRITICAL,
        "bring hosts of hivemind.peers back, or mend the network to them: `meshd check failover` names who is missing",
    ),
    PHASE_BLOCKED: (
        Severity.WARNING,
        "mend the project, or `meshd retry` what has failed; `meshd work ls` shows all that waits for it",
    ),
}
"""How grave each code is, and what a person does about it."""

MAX_STANDING = 1000  # far above what a mesh can have; bounds what peers that invent names can make us hold


@frozen
class Alert:
    """One alert; `since_ms` is UTC, when it was raised."""

    code: str
    severity: Severity
    subject: str
    since_ms: int
    text: str
    fix: str

    def json(self) -> JsonObject:
        """As events, the API and the CLI show it."""
        return {
            "code": self.code,
            "severity": self.severity,
            "subject": self.subject,
            "since": utc_text(self.since_ms),
            "text": self.text,
            "fix": self.fix,
        }


@define
class Alerts:
    """The alerts that stand, by code and subject."""

    standing: dict[tuple[str, str], Alert] = field(factory=dict)

    def raised(self, code: str, subject: str, text: str, now: Now) -> Iterator[Effect]:
        """Raise an alert of one of the codes in `RULES`."""
        severity, fix = RULES[code]
        yield from self.add(Alert(code, severity, subject, now.utc_ms, text, fix))

    def add(self, alert: Alert) -> Iterator[Effect]:
        """Raise an alert; one that stands takes the newer text and keeps its time, and nobody is told again."""
        key = alert.code, alert.subject
        if known := self.standing.get(key):
            self.standing[key] = evolve(alert, since_ms=known.since_ms)
        elif len(self.standing) < MAX_STANDING:
            self.standing[key] = alert
            level = Level.ERROR if alert.severity is Severity.CRITICAL else Level.WARNING
            yield Note(level, f"ALERT {alert.code}: {alert.text}; {alert.fix}", _fields(alert))
            yield Emit("alert:raised", alert.json())

    def cleared(self, code: str, subject: str = "") -> Iterator[Effect]:
        """What the alert told of is over."""
        if alert := self.standing.pop((code, subject), None):
            yield Note(Level.INFO, f"alert {alert.code} cleared: {alert.text}", _fields(alert))
            yield Emit("alert:cleared", alert.json())

    def subjects(self, code: str) -> list[str]:
        """What alerts of this code stand about."""
        return [subject for known, subject in self.standing if known == code]


def _fields(alert: Alert) -> dict[str, str | int | float | None]:
    return {"code": alert.code, "subject": alert.subject or None}
