"""The words of an election: by which policy, where an instance stands, and what changes that.

The rules that use them are in `election`. A leading hub asks for votes, too, and goes on leading meanwhile.
"""

from __future__ import annotations

from enum import StrEnum


class Policy(StrEnum):
    QUORUM = "quorum"
    PRIORITY = "priority"
    MANUAL = "manual"


class Standing(StrEnum):
    """Where an instance is on the way between following and leading."""

    SEEKING = "seeking"
    FOLLOWING = "following"
    ASKING = "asking"
    STANDING = "standing"
    YIELDING = "yielding"
    LEADING = "leading"


class Cause(StrEnum):
    """Why that changes."""

    FOUND = "found a primary"
    LOST = "lost the primary"
    SILENCE = "heard no primary that may decide"
    TOLD = "was told to lead"
    AGREED = "the voters would elect it"
    YIELDED = "a better-placed voter goes"
    FAILED = "was not elected"
    ELECTED = "leads"
    RELEASED = "gave up leading"


S, C = Standing, Cause
TRANSITIONS: dict[tuple[Standing, Cause], Standing] = {
    (S.SEEKING, C.FOUND): S.FOLLOWING,
    (S.SEEKING, C.LOST): S.SEEKING,
    (S.SEEKING, C.SILENCE): S.ASKING,
    (S.SEEKING, C.TOLD): S.STANDING,
    (S.SEEKING, C.AGREED): S.STANDING,
    (S.SEEKING, C.ELECTED): S.LEADING,
    (S.FOLLOWING, C.FOUND): S.FOLLOWING,
    (S.FOLLOWING, C.LOST): S.SEEKING,
    (S.FOLLOWING, C.SILENCE): S.ASKING,
    (S.FOLLOWING, C.TOLD): S.STANDING,
    (S.FOLLOWING, C.ELECTED): S.LEADING,
    (S.ASKING, C.FOUND): S.FOLLOWING,
    (S.ASKING, C.LOST): S.ASKING,
    (S.ASKING, C.TOLD): S.STANDING,
    (S.ASKING, C.AGREED): S.STANDING,
    (S.ASKING, C.YIELDED): S.YIELDING,
    (S.ASKING, C.FAILED): S.SEEKING,
    (S.ASKING, C.ELECTED): S.LEADING,
    (S.STANDING, C.FOUND): S.FOLLOWING,
    (S.STANDING, C.LOST): S.STANDING,
    (S.STANDING, C.TOLD): S.STANDING,
    (S.STANDING, C.AGREED): S.STANDING,
    (S.STANDING, C.FAILED): S.SEEKING,
    (S.STANDING, C.ELECTED): S.LEADING,
    (S.YIELDING, C.FOUND): S.FOLLOWING,
    (S.YIELDING, C.LOST): S.YIELDING,
    (S.YIELDING, C.TOLD): S.STANDING,
    (S.YIELDING, C.SILENCE): S.ASKING,
    (S.YIELDING, C.ELECTED): S.LEADING,
    (S.LEADING, C.SILENCE): S.LEADING,
    (S.LEADING, C.TOLD): S.LEADING,
    (S.LEADING, C.AGREED): S.LEADING,
    (S.LEADING, C.FAILED): S.LEADING,
    (S.LEADING, C.ELECTED): S.LEADING,
    (S.LEADING, C.RELEASED): S.SEEKING,
}


def policy_of(failover: str, peers: int) -> Policy:
    """What `hivemind.failover` means for so many peers."""
    if failover == "auto":
        return Policy.QUORUM if peers >= 3 else Policy.PRIORITY
    return Policy(failover)
