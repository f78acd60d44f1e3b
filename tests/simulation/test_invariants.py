"""The swarm can fail: each rule that is broken here is found, by the invariant that it is about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from meshd.core import documents, inputs, messages
from meshd.core.ballot import Ballot
from meshd.core.documents import Document
from meshd.core.effects import Broadcast, Effect, Emit, Persist, SaveBallot
from meshd.core.events import Events
from meshd.core.membership import Membership
from meshd.core.node import Node
from meshd.core.replication import Replication
from meshd.core.voting import Voter
from meshd.model import Now

from .mutations import WITHIN_SEEDS, found


def test_i1_a_voter_that_elects_another_while_a_primary_counts_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: Voter, now: Now) -> bool:
        return False

    monkeypatch.setattr(Voter, "is_bound", never)

    assert found("I1")


def test_i4_of_two_lives_the_earlier_one_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    merge = documents.merge

    def earlier(ours: Document | None, theirs: Document) -> Document:
        if ours is None or ours.life == theirs.life or ours.ended:
            return merge(ours, theirs)
        return min(ours, theirs, key=lambda document: document.life)

    monkeypatch.setattr(documents, "merge", earlier)

    assert found("I4", seeds=range(15, WITHIN_SEEDS))  # those before it find other consequences, and take longer


def test_i4_merge_by_the_order_of_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "beats", lambda _path, register, other: register != other)

    assert found("I4")


def test_i5_nothing_is_compared_when_a_link_comes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: Replication, link: int, digest: messages.Digest) -> Iterator[Effect]:
        yield from ()

    monkeypatch.setattr(Replication, "compare", nothing)

    assert found("I5")


def test_i6_an_event_is_told_that_is_not_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Events._kept

    def told(self: Events, event: Emit, now: Now) -> Iterator[Effect]:
        yield from (effect for effect in kept(self, event, now) if not isinstance(effect, Persist))

    monkeypatch.setattr(Events, "_kept", told)

    assert found("I6")


def test_i7_a_vote_is_not_persisted(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(self: Voter, ballot: Ballot) -> Iterator[Effect]:
        self.ballot = ballot
        yield from ()

    monkeypatch.setattr(Voter, "_save", forget)

    assert found("I7")


def test_i7_a_term_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def follow(self: Voter, leader: str, term: int, now: Now, *, decides: bool) -> Iterator[Effect]:
        self.ballot = Ballot(max(0, term - 1), None, leader)
        yield Persist(SaveBallot(self.ballot))

    monkeypatch.setattr(Voter, "follow", follow)

    assert found("I7")


class Hoards(Node):
    """Queues more than it may."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._replication.max_outbox = 1_000_000


def test_i9_a_queue_without_a_bound() -> None:
    assert found("I9", make_node=Hoards)


def test_i10_a_goodbye_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: Membership, goodbye: messages.Goodbye) -> Iterator[Effect]:
        yield from ()

    monkeypatch.setattr(Membership, "left", nothing)

    assert found("I10")


class Gossips(Node):
    """Passes on whatever it hears."""

    def step(self, happened: inputs.Input, now: Now) -> list[Effect]:
        answer = super().step(happened, now)
        if isinstance(happened, inputs.Received) and isinstance(happened.message, messages.FeatureEvent):
            answer.append(Broadcast(self._handshake.links(), happened.message))
        return answer


def test_i11_a_feature_is_passed_on() -> None:
    assert found("I11", make_node=Gossips)


class Breaks(Node):
    """Raises what no caller expects."""

    def step(self, happened: inputs.Input, now: Now) -> list[Effect]:
        if isinstance(happened, inputs.LinkDown):
            raise KeyError(happened.link)
        return super().step(happened, now)


def test_what_a_node_raises_is_found() -> None:
    assert found("total", make_node=Breaks)
