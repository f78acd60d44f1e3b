"""Compaction: tombstones end when everybody knows, and never earlier; large documents are told of."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.configuration import Compaction as Keys
from meshd.core import inputs
from meshd.core.compaction import GROWTH, HISTORY, CompactionView
from meshd.core.effects import Accepted
from meshd.core.frames import document_bytes
from meshd.core.messages import Changes, Documents, Identity, Ignored, Message, UtcMs
from tests.core.mesh import EPOCH_MS, Host, Mesh, configuration, three

RETENTION_MS = 900_000
RETENTION_S = RETENTION_MS / 1000
PASS_S = 300


def tombstones(mesh: Mesh, host: Host) -> list[str]:
    return [slug for slug, document in mesh.snapshot(host).documents.items() if document.ended]


def deleted() -> tuple[Mesh, Host, Host, Host]:
    """Three hosts that have heard of a deletion."""
    mesh, *hosts = three(tombstone_retention_ms=RETENTION_MS)
    mesh.put(hosts[1], "site", {"title": "T"})
    mesh.put(hosts[1], "other", {"title": "O"})
    mesh.advance(31)
    mesh.delete(hosts[1], "site")
    mesh.settle()
    return mesh, hosts[0], hosts[1], hosts[2]


def last(mesh: Mesh, host: Host) -> CompactionView:
    return mesh.snapshot(host).compaction


def test_a_tombstone_is_kept_for_its_retention_and_no_longer() -> None:
    mesh, *hosts = deleted()
    mesh.advance(RETENTION_S - 1)
    assert [tombstones(mesh, host) for host in hosts] == [["site"]] * 3
    mesh.advance(2 * PASS_S + 1)
    assert [tombstones(mesh, host) for host in hosts] == [[]] * 3
    for host in hosts:
        assert list(host.disk.documents) == ["other"]
        assert [done.dropped for done in last(mesh, host).history if done.dropped] == [("site",)]
        assert len(host.events("project:deleted")) == 1
        assert host.events("alert:raised") == []


def test_after_a_restart_what_was_dropped_stays_dropped_everywhere() -> None:
    mesh, *hosts = deleted()
    mesh.advance(RETENTION_S + 2 * PASS_S + 1)
    for host in hosts:
        mesh.crash(host)
        mesh.start(host)
        mesh.advance(20)
    assert [tombstones(mesh, host) for host in hosts] == [[]] * 3
    assert {len(host.events("project:created")) for host in hosts} == {2}


@pytest.mark.parametrize("restarted", [False, True])
def test_a_peer_that_slept_through_a_deletion_does_not_bring_the_document_back(restarted: bool) -> None:
    mesh, primary, worker, sleeper = three(tombstone_retention_ms=RETENTION_MS)
    mesh.put(worker, "site", {"title": "T"})
    mesh.advance(31)
    mesh.crash(sleeper)
    mesh.delete(worker, "site")
    mesh.advance(RETENTION_S)
    if restarted:  # and the others remember nobody but the peers of their configuration
        for host in (primary, worker):
            mesh.crash(host)
        for host in (primary, worker):
            mesh.start(host)
    mesh.advance(5 * RETENTION_S)
    for host in (primary, worker):
        assert tombstones(mesh, host) == ["site"]
        name = "ws://dev-03:4444" if restarted else "dev-03"
        assert last(mesh, host).history[-1].waiting_for == (name,)
    mesh.start(sleeper)
    mesh.advance(10)
    assert [tombstones(mesh, host) for host in (primary, worker, sleeper)] == [["site"]] * 3
    mesh.advance(3 * PASS_S)
    for host in (primary, worker, sleeper):
        assert not mesh.snapshot(host).documents
        assert len(host.events("project:created")) == 1
        assert len(host.events("project:deleted")) == 1


def test_a_sleeper_that_edited_the_document_does_not_bring_it_back_either() -> None:
    mesh, primary, worker, sleeper = three(tombstone_retention_ms=RETENTION_MS)
    mesh.put(worker, "site", {"title": "T"})
    mesh.advance(31)
    mesh.part(primary, sleeper)
    mesh.part(worker, sleeper)
    for number in range(50):
        mesh.patch(sleeper, "site", {"title": f"T{number}"})
    mesh.delete(worker, "site")
    mesh.advance(5 * RETENTION_S)
    mesh.join(primary, sleeper)
    mesh.join(worker, sleeper)
    mesh.advance(4 * PASS_S)
    for host in (primary, worker, sleeper):
        assert not mesh.snapshot(host).documents
        assert len(host.events("project:created")) == 1
        assert len(host.events("project:deleted")) == 1
    assert mesh.snapshot(sleeper).queued_changes == 0


def test_one_that_dropped_earlier_is_in_sync_and_does_not_get_it_back() -> None:
    mesh, primary, worker, other = deleted()
    late = evolve(other.configuration, compaction=Keys(tombstone_retention_ms=20 * RETENTION_MS))
    mesh.crash(other)
    other.configuration = late
    mesh.start(other)
    mesh.advance(RETENTION_S + 3 * PASS_S)
    assert [tombstones(mesh, host) for host in (primary, worker, other)] == [[], [], ["site"]]
    assert all(member.in_sync for host in (primary, worker, other) for member in mesh.snapshot(host).members)
    assert [host.events("alert:raised") for host in (primary, worker, other)] == [[], [], []]


def test_an_exchange_does_not_bring_an_expired_tombstone_back() -> None:
    mesh, primary, worker, other = deleted()
    mesh.advance(RETENTION_S)
    mesh.advance(PASS_S)  # expired everywhere, held long enough by nobody
    step = inputs.CompactionDue()
    mesh.advance(120)
    mesh.step(primary, step)
    assert [tombstones(mesh, host) for host in (primary, worker, other)] == [[], ["site"], ["site"]]
    carried: list[Message] = []

    def carry(message: Message) -> Message:
        carried.append(message)
        return message

    mesh.carry = carry
    mesh.part(primary, worker)
    mesh.join(primary, worker)
    mesh.advance(10)
    assert mesh.snapshot(worker).synced
    assert not [message for message in carried if isinstance(message, Documents)]
    assert tombstones(mesh, primary) == []


def test_a_fresh_tombstone_is_told_to_who_never_had_the_document() -> None:
    mesh, _, _, other = deleted()
    mesh.crash(other)
    fresh = mesh.add(other.configuration, "s9")
    mesh.start(fresh)
    mesh.advance(10)
    assert tombstones(mesh, fresh) == ["site"]
    assert fresh.events("project:deleted") == []


def test_nothing_is_dropped_while_somebody_differs() -> None:
    mesh, primary, worker, other = deleted()
    mesh.carry = lambda message: Ignored("lost") if isinstance(message, Changes | Documents) else message
    mesh.patch(primary, "other", {"title": "P"})
    mesh.advance(RETENTION_S + 3 * PASS_S)
    assert [tombstones(mesh, host) for host in (primary, worker, other)] == [["site"]] * 3
    assert last(mesh, primary).history[-1].waiting_for == ("dev-02", "dev-03")
    assert "dev-01" in last(mesh, worker).history[-1].waiting_for
    mesh.carry = lambda message: message
    mesh.advance(3 * PASS_S)
    assert [tombstones(mesh, host) for host in (primary, worker, other)] == [[]] * 3


def test_a_peer_that_does_not_say_what_it_holds_is_waited_for() -> None:
    mesh, primary, *_ = deleted()
    mesh.step(primary, inputs.LinkUp(77, "h:77"))
    mesh.step(primary, inputs.Received(77, Identity("old-01", UtcMs(EPOCH_MS))))
    mesh.advance(RETENTION_S + 3 * PASS_S)
    assert tombstones(mesh, primary) == ["site"]
    assert last(mesh, primary).history[-1].waiting_for == ("old-01",)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["crash", "start", "part", "join", "delete"]), st.integers(0, 2), st.integers(0, 3)),
        max_size=10,
    )
)
def test_whoever_sleeps_whenever_a_deletion_stands(history: list[tuple[str, int, int]]) -> None:
    """Once somebody deleted the document, no application sees it created or changed after its deletion."""
    mesh, *hosts = three(tombstone_retention_ms=RETENTION_MS)
    mesh.put(hosts[1], "site", {"title": "T"})
    mesh.advance(31)
    pauses_s = (1.0, 70.0, 400.0, RETENTION_S + 2 * PASS_S)
    for what, index, pause in history:
        host, other = hosts[index], hosts[index - 1]
        if what == "crash" and host.node:
            mesh.crash(host)
        elif what == "start" and host.node is None:
            mesh.start(host)
        elif what == "part":
            mesh.part(host, other)
        elif what == "join":
            mesh.join(host, other)
        elif what == "delete" and host.node and mesh.document(host, "site"):
            mesh.delete(host, "site")
        mesh.advance(pauses_s[pause])
    was_deleted = any(host.events("project:deleted") for host in hosts)
    for host in hosts:
        mesh.join(host, hosts[hosts.index(host) - 1])
        if host.node is None:
            mesh.start(host)
    mesh.advance(RETENTION_S + 4 * PASS_S)
    for host in hosts:
        assert (mesh.document(host, "site") is None) is was_deleted
        assert len(host.events("project:created")) == 1
        assert len(host.events("project:deleted")) == was_deleted
        assert tombstones(mesh, host) == []


def test_without_a_mesh_there_is_nobody_to_wait_for() -> None:
    mesh = Mesh()
    alone = mesh.add(configuration("dev-01", enabled=False, tombstone_retention_ms=RETENTION_MS))
    mesh.start(alone)
    mesh.put(alone, "site", {"title": "T"})
    mesh.delete(alone, "site")
    mesh.advance(RETENTION_S + 2 * PASS_S + 1)
    assert not mesh.snapshot(alone).documents
    assert mesh.put(alone, "site", {"title": "again"})
    assert mesh.document(alone, "site") == {"slug": "site", "title": "again"}


# Sizes


def alone(alert_bytes: int = 1000) -> tuple[Mesh, Host]:
    mesh = Mesh()
    what = evolve(configuration("dev-01", enabled=False), compaction=Keys(alert_bytes=alert_bytes))
    host = mesh.add(what)
    mesh.start(host)
    return mesh, host


def grow(mesh: Mesh, host: Host, size: int) -> None:
    """Bring the document to just `size` bytes, and let a pass go over it."""
    mesh.put(host, "site", {"title": ""})
    empty = document_bytes(mesh.snapshot(host).documents["site"])
    mesh.put(host, "site", {"title": "t" * (size - empty)})
    mesh.step(host, inputs.CompactionDue())
    assert last(mesh, host).sizes == {"site": size}


def is_large(mesh: Mesh, host: Host) -> bool:
    return [alert.subject for alert in last(mesh, host).alerts] == ["site"]


def test_a_pass_records_the_sizes_and_twenty_are_kept() -> None:
    mesh, host = alone()
    mesh.put(host, "a", {"title": "A"})
    mesh.put(host, "b", {"title": "B" * 50})
    mesh.put(host, "c", {"title": "C"})
    mesh.delete(host, "c")
    mesh.step(host, inputs.CompactionDue())
    view = last(mesh, host)
    assert set(view.sizes) == {"a", "b"}
    assert view.sizes["b"] == view.sizes["a"] + 49
    done = view.history[-1]
    assert (done.documents, done.total_bytes, done.tombstones) == (2, sum(view.sizes.values()), 1)
    mesh.advance(30 * PASS_S)
    assert len(last(mesh, host).history) == HISTORY


def test_a_large_document_is_told_of_once_and_until_it_is_small() -> None:
    mesh, host = alone()
    grow(mesh, host, 1000)
    assert not is_large(mesh, host)
    grow(mesh, host, 1001)
    grow(mesh, host, 5000)
    assert is_large(mesh, host)
    (raised,) = host.events("alert:raised")
    assert (raised["code"], raised["subject"], raised["severity"]) == ("large-document", "site", "warning")
    assert mesh.snapshot(host).alerts == last(mesh, host).alerts
    grow(mesh, host, 900)
    assert not is_large(mesh, host)
    assert len(host.events("alert:cleared")) == 1


@pytest.mark.parametrize("restarts", [False, True])
def test_an_acknowledged_alert_comes_back_when_the_document_has_grown_by_a_tenth(restarts: bool) -> None:
    mesh, host = alone()
    grow(mesh, host, 2000)
    mesh.step(host, inputs.AcknowledgeCompaction(1))
    assert not is_large(mesh, host)
    assert len(host.events("alert:cleared")) == 1
    if restarts:
        mesh.crash(host)
        mesh.start(host)
    grow(mesh, host, round(2000 * GROWTH))
    assert not is_large(mesh, host)
    grow(mesh, host, round(2000 * GROWTH) + 1)
    assert is_large(mesh, host)
    assert len(host.events("alert:raised")) == 2


def test_an_acknowledged_alert_comes_back_when_the_document_was_small_meanwhile() -> None:
    mesh, host = alone()
    grow(mesh, host, 2000)
    mesh.step(host, inputs.AcknowledgeCompaction(1))
    grow(mesh, host, 1500)
    assert not is_large(mesh, host)
    grow(mesh, host, 999)
    grow(mesh, host, 1500)
    assert is_large(mesh, host)


def test_a_document_that_is_gone_is_not_large() -> None:
    mesh, host = alone()
    grow(mesh, host, 2000)
    mesh.delete(host, "site")
    mesh.step(host, inputs.CompactionDue())
    view = last(mesh, host)
    assert (view.alerts, view.sizes, view.history[-1].total_bytes) == ((), {}, 0)


def test_acknowledging_nothing_is_no_harm() -> None:
    mesh, host = alone()
    mesh.step(host, inputs.AcknowledgeCompaction(1))
    assert host.replies == [Accepted("")]
    assert last(mesh, host).acknowledged == {}
