"""Everything that can happen to a node, one class each: the only way into `Node.step`.

The engine makes them; the core never asks for anything. Links are named by small integers that the engine hands out
and never uses twice in one process.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from attrs import frozen

from meshd.core.alerts import Severity
from meshd.core.messages import Message
from meshd.model import Capacity, Json, JsonObject


@frozen
class Started:
    """The engine runs: listeners are up, links may be dialled."""


@frozen
class LinkUp:
    """A pipe opened: dialled by us to `url`, or accepted (`url` is None) from `address`."""

    link: int
    address: str
    url: str | None = None


@frozen
class LinkDown:
    """A pipe closed, with the WebSocket close code."""

    link: int
    code: int
    reason: str = ""


@frozen
class DialFailed:
    url: str
    reason: str


@frozen
class Received:
    link: int
    message: Message


@frozen
class LatencyMeasured:
    link: int
    latency_ms: float


@frozen
class HeartbeatDue:
    """The heartbeat interval passed; `capacity` was sampled for this beat."""

    capacity: Capacity


@frozen
class TtlDue:
    """Time to look for peers that fell silent; due every `core.membership.ttl_check_interval_s`."""


@frozen
class CompactionDue:
    """The compaction interval passed."""


@frozen
class AlertRaised:
    """The engine knows of trouble of its own, such as a full disk; `fix` is what a person does about it."""

    code: str
    text: str
    fix: str
    severity: Severity = Severity.CRITICAL


@frozen
class AlertCleared:
    """The trouble that the engine raised an alert for is over."""

    code: str


@frozen
class AlarmDue:
    """The time that the last `effects.Alarm` named has come."""


@frozen
class DrainRequested:
    """Leave: say goodbye to everybody. An input, never a cancellation."""

    reason: str


@frozen
class PutProject:
    """Make the project equal to `document`; what `base` (what the writer last saw) had alike is left as it is.

    Without `base` the writer is taken to have seen the current document. `if_match` is the revision the writer
    expects ("*" for any that exists, "" for none). `command` names the reply.
    """

    command: int
    slug: str
    document: JsonObject
    base: JsonObject | None = None
    if_match: str | None = None


@frozen
class PatchProject:
    """Apply an RFC 7396 merge patch."""

    command: int
    slug: str
    patch: Json
    if_match: str | None = None


@frozen
class DeleteProject:
    command: int
    slug: str
    if_match: str | None = None


@frozen
class TakeConflict:
    """Write back what lost conflict `id`, or with `take` false only forget it."""

    command: int
    slug: str
    id: str
    take: bool = True


@frozen
class PutSettings:
    """Make the settings of `scope`, `shared` or `local`, equal to `values`. `if_match` is their revision as text."""

    command: int
    scope: str
    values: Json
    if_match: str | None = None


@frozen
class PatchSettings:
    """Apply an RFC 7396 merge patch to the settings of `scope`."""

    command: int
    scope: str
    patch: Json
    if_match: str | None = None


@frozen
class AcknowledgeCompaction:
    """A person has looked at the documents that compaction found too large."""

    command: int


@frozen
class PromoteInstance:
    """A person wants `instance_id` to lead; None means this instance."""

    command: int
    instance_id: str | None = None


@frozen
class StepDown:
    """A person wants this primary to hand over to the best successor."""

    command: int


@frozen
class IntakeDue:
    """The intake interval passed: look for work."""


@frozen
class WorkWanted:
    """So many applications of this host wait for work."""

    count: int


class Outcome(StrEnum):
    """What the holder of a claim, or a person, says of a phase."""

    PROGRESS = "progress"
    DONE = "done"
    FAILED = "failed"
    RELEASED = "released"
    RETRY = "retry"


@frozen
class WorkEnded:
    """The command that worked on `claim` is gone, whoever ended it: DONE, FAILED, or RELEASED when it was stopped."""

    claim: str
    outcome: Outcome
    pr_url: str | None = None
    error: str | None = None


@frozen
class ClaimPhase:
    """An application or a person wants this phase on this host. The reply's revision is the name of the claim that
    is asked for; how it ended stands in the snapshot (`WorkView.decisions`)."""

    command: int
    slug: str
    milestone: str
    phase: str


@frozen
class SettlePhase:
    """Say what became of a phase. `generation` must be the one that this host holds, when it is given.

    `is_forced`: a person overrules a holder elsewhere, who may still be at work. `note` is free text.
    """

    command: int
    slug: str
    milestone: str
    phase: str
    outcome: Outcome
    generation: int | None = None
    pr_url: str | None = None
    error: str | None = None
    note: str | None = None
    is_forced: bool = False


@frozen
class TakeWork:
    """An application takes a feature of this host that nobody works on; the reply's revision is its id, or "".

    `id`: that very one, None for the next. `by`: what the application calls itself; it stands in the feature.
    """

    command: int
    id: str | None = None
    by: str | None = None


@frozen
class PatchFeature:
    """Apply an RFC 7396 merge patch to what `feature.json` shows beside its claim."""

    command: int
    id: str
    patch: Json


@frozen
class SetCapacity:
    """An application that runs its own agents says how many it can and does run; None: nobody says."""

    command: int
    max_agents: int | None
    running_agents: int = 0
    backlog_count: int = 0


@frozen
class SetDraining:
    """Claim nothing new, or do again. `release`: give back what is held, too."""

    command: int
    is_draining: bool
    release: bool = False


WorkCommand: TypeAlias = ClaimPhase | SettlePhase | TakeWork | PatchFeature | SetCapacity | SetDraining

SettingsCommand: TypeAlias = PutSettings | PatchSettings

LeadershipCommand: TypeAlias = PromoteInstance | StepDown

Command: TypeAlias = PutProject | PatchProject | DeleteProject | TakeConflict

LinkInput: TypeAlias = LinkUp | LinkDown | DialFailed | LatencyMeasured

Timer: TypeAlias = AlarmDue | HeartbeatDue | TtlDue | CompactionDue

Request: TypeAlias = Command | SettingsCommand | LeadershipCommand | WorkCommand | AcknowledgeCompaction
"""What somebody on this host asks for and waits for the reply to."""

Input: TypeAlias = (
    Started
    | LinkUp
    | LinkDown
    | DialFailed
    | Received
    | LatencyMeasured
    | HeartbeatDue
    | TtlDue
    | DrainRequested
    | PutProject
    | PatchProject
    | DeleteProject
    | TakeConflict
    | PutSettings
    | PatchSettings
    | CompactionDue
    | AcknowledgeCompaction
    | AlertRaised
    | AlertCleared
    | AlarmDue
    | PromoteInstance
    | StepDown
    | IntakeDue
    | WorkWanted
    | WorkEnded
    | WorkCommand
)
