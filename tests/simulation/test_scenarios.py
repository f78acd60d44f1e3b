"""The swarm reaches the directed scenarios (h) to (o): the rule that each is about is broken here, and that is found.

The scenarios themselves, step by step and with the rules as they are, are in tests/transcripts. `WITHIN_SEEDS` says how
many seeds it takes, counted from 0; those that cannot reach a scenario count, and are not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import evolve

from meshd.core import inputs
from meshd.core.effects import Effect, HangUp
from meshd.core.election import Leadership
from meshd.core.handshake import Handshake, Line
from meshd.core.messages import Heartbeat, Identity
from meshd.core.node import Node
from meshd.core.replication import Replication
from meshd.model import Now
from meshd.simulation import meshes
from meshd.simulation.meshes import Variant
from meshd.simulation.simulation import simulate

WITHIN_SEEDS = {"h": 18, "i": 19, "j": 3, "k": 11, "l": 4, "m": 1, "n": 79, "o": 3}


def found(
    scenario: str,
    make_node: type[Node] = Node,
    *,
    nodes: int = 4,
    where: Callable[[Variant], bool] | None = None,
) -> bool:
    """Whether the swarm finds it, of the meshes that can reach the scenario, by whatever does not hold first."""
    seeds = (seed for seed in range(WITHIN_SEEDS[scenario]) if where is None or where(meshes.variant(seed)))
    return any(simulate(seed, nodes, make_node=make_node).invariant for seed in seeds)


def test_h_a_restored_database_goes_on_with_old_seqs(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: Replication) -> Iterator[Effect]:
        yield from ()

    monkeypatch.setattr(Replication, "_begin_anew", nothing)

    assert found("h", where=lambda like: like.has_backups)


def test_i_what_a_half_open_link_swallowed_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    attach = Replication.attach

    def go_on(self: Replication, link: int) -> Iterator[Effect]:
        sent_seq, self._acked_seq = self._acked_seq, max(self._acked_seq, self._sent_seq)
        yield from attach(self, link)
        self._acked_seq = sent_seq

    monkeypatch.setattr(Replication, "attach", go_on)

    assert found("i")


def test_j_the_end_of_an_older_link_is_that_of_the_primary(monkeypatch: pytest.MonkeyPatch) -> None:
    link_closed = Leadership.link_closed

    def lose(self: Leadership, line: Line, now: Now) -> Iterator[Effect]:
        if self.primary_link not in (None, line.link) and line.instance_id == self.primary_id:
            yield from self._lost("a link to it closed", now)
        yield from link_closed(self, line, now)

    monkeypatch.setattr(Leadership, "link_closed", lose)

    assert found("j")


class HearsOneLoss(Node):
    """Is not told of the second time that it loses its primary."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.losses = 0

    def step(self, happened: inputs.Input, now: Now) -> list[Effect]:
        if isinstance(happened, inputs.LinkDown) and happened.link == self._leadership.primary_link:
            self.losses += 1
            if self.losses == 2:
                return []
        return super().step(happened, now)


def test_k_the_second_disconnect_of_a_worker_is_not_noticed() -> None:
    assert found("k", HearsOneLoss)


class SendsOnReconnect(Replication):
    """Keeps its queue to itself when it connects for the first time."""

    has_connected = False

    def attach(self, link: int) -> Iterator[Effect]:
        if self.has_connected:
            yield from super().attach(link)
            return
        self.has_connected = True
        acked_seq, self._acked_seq = self._acked_seq, self.last_seq
        yield from super().attach(link)
        self._acked_seq = acked_seq


def test_l_a_queue_is_sent_on_reconnect_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshd.core.node.Replication", SendsOnReconnect)

    assert found("l")


def test_m_who_promotes_keeps_its_outbox(monkeypatch: pytest.MonkeyPatch) -> None:
    def lead(self: Replication, term: int) -> Iterator[Effect]:
        self.is_hub, self.term, self.upstream = True, term, None
        yield from ()

    monkeypatch.setattr(Replication, "lead", lead)

    assert found("m")


def test_n_a_primary_counts_whom_it_hears_and_not_who_hears_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only in hurried meshes: elsewhere a connection that is silent one way is given up long before the TTL is over.

    The other direction, in which all hear the primary and it hears nobody, is left to tests/transcripts/n-one-way.txt:
    voters that stay bound to such a primary break no invariant here, they only wait until the connection is given up,
    and in the transcript nobody gives it up.
    """
    heard_beat = Leadership.heard_beat

    def count(self: Leadership, line: Line, heartbeat: Heartbeat, now: Now) -> Iterator[Effect]:
        if heartbeat.heard is not None and self.authority.sent_s:
            heartbeat = evolve(heartbeat, heard=max(self.authority.sent_s))
        yield from heard_beat(self, line, heartbeat, now)

    monkeypatch.setattr(Leadership, "heard_beat", count)

    assert found("n", nodes=3, where=lambda like: like.is_hurried)


def test_o_links_that_are_dialled_again_are_all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends see to it, so both have to fail: who accepts, and who dialled."""
    accept = Handshake.accept

    def keep(self: Handshake, line: Line, identity: Identity) -> list[Line]:
        accept(self, line, identity)
        return []

    def nothing(self: Handshake, link: int, reason: str) -> Iterator[HangUp]:
        yield from ()

    monkeypatch.setattr(Handshake, "accept", keep)
    monkeypatch.setattr(Handshake, "hang_up", nothing)

    assert found("o")
