"""Whether a primary may decide: only while no other can have been elected.

Rules (design, section 7; leader leases as in the thesis of Raft's author, 2014, section 6.4.1):

- A voter elects nobody else for the TTL after it heard its primary. So a primary counts a voter for three quarters of
  the TTL from the moment at which it *sent* what the voter says to have heard: neither a slow network, nor a sleeping
  host, nor a link that carries one way only can make it count longer.
- What a voter heard is the `seq` of the latest presence, which its heartbeats name. A beat in another term is no answer
  to us.
- It may decide while it counts a majority of the voters, itself included. Without a quorum policy it always may.
"""

from __future__ import annotations

from attrs import define, field

from meshd.model import Now

PART_OF_TTL = 0.75
MAX_SENT = 256  # presences remembered; at one a heartbeat far more than fit into the TTL


@define
class Authority:
    """Which voters answered when, by their index in `peers`."""

    ttl_s: float
    majority: int
    sent_s: dict[int, float] = field(factory=dict)
    answered_s: dict[int, float] = field(factory=dict)
    missing_since_s: float | None = None

    def watch(self, now: Now, *, is_missing: bool) -> None:
        """Remember since when a primary may not decide."""
        self.missing_since_s = (self.missing_since_s or now.mono_s) if is_missing else None

    def begin(self) -> None:
        """A new term: nobody has answered in it."""
        self.sent_s.clear()
        self.answered_s.clear()
        self.missing_since_s = None

    def sent(self, seq: int, now: Now) -> None:
        """A presence goes out."""
        self.sent_s[seq] = now.mono_s
        while len(self.sent_s) > MAX_SENT:
            del self.sent_s[next(iter(self.sent_s))]

    @property
    def last_seq(self) -> int:
        """Of the latest presence, 0 before the first."""
        return next(reversed(self.sent_s), 0)

    def answered(self, index: int, seq: int) -> None:
        """A voter says what it heard last."""
        if (sent_s := self.sent_s.get(seq)) is not None:
            self.answered_s[index] = max(sent_s, self.answered_s.get(index, sent_s))

    def counted(self, now: Now) -> int:
        """How many voters count, itself included."""
        least_s = now.mono_s - PART_OF_TTL * self.ttl_s
        return 1 + sum(answered_s > least_s for answered_s in self.answered_s.values())

    def holds(self, now: Now) -> bool:
        return self.counted(now) >= self.majority
