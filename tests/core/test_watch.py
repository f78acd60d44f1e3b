"""What an instance watches itself and its links for, in a mesh."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from meshd.core import inputs
from meshd.core.alerts import Alerts, Severity
from meshd.core.effects import Effect, Emit, Send
from meshd.core.election import Leadership
from meshd.core.handshake import CLOCK_SKEW, DUPLICATE, NOT_ALLOWED, Handshake
from meshd.core.inputs import LinkUp, Received
from meshd.core.membership import Membership
from meshd.core.messages import Goodbye, Heartbeat, Identity, Refuse, UtcMs
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.core.stored import Stored
from meshd.core.watch import Watch
from meshd.model import Now, Role
from tests.core.mesh import EPOCH_MS, Disk, Host, Mesh, configuration, leading, three


def standing(mesh: Mesh, host: Host) -> list[tuple[str, str]]:
    return [(alert.code, alert.subject) for alert in mesh.snapshot(host).alerts]


def test_a_clock_that_is_wrong_is_told_on_both_hosts_until_it_is_right() -> None:
    mesh, primary, worker, _ = three()
    mesh.crash(worker)
    worker.wall_shift_ms = 600_000
    mesh.start(worker)
    mesh.advance(30)
    assert standing(mesh, primary) == [("clock-skew", "dev-02")]
    assert sorted(standing(mesh, worker)) == [("clock-skew", "dev-01"), ("clock-skew", "dev-03")]
    assert len(primary.events("alert:raised")) == 1, "tried many times, told once"
    mesh.advance(600)
    assert ("clock-skew", "dev-02") in standing(mesh, primary), "it goes on trying"
    worker.wall_shift_ms = 0
    mesh.advance(40)
    assert standing(mesh, primary) == []
    assert ("clock-skew", "dev-01") not in standing(mesh, worker)
    mesh.advance(120)
    assert standing(mesh, worker) == [], "nor has anybody else refused it since"


@pytest.mark.parametrize(("shift_ms", "how"), [(-3_600_000, "back by 3600 s"), (600_000, "forward by 600 s")])
def test_a_clock_that_jumps_while_its_links_stand_is_told_and_nothing_is_lost(shift_ms: int, how: str) -> None:
    mesh, primary, worker, _ = three()
    mesh.put(worker, "alpha", {"title": "before"})
    worker.wall_shift_ms = shift_ms
    mesh.advance(30)
    (alert,) = mesh.snapshot(worker).alerts
    assert (alert.code, alert.subject) == ("clock-skew", "")
    assert alert.text.startswith(f"the clock of this host jumped {how}")
    mesh.put(worker, "alpha", {"title": "after"})
    mesh.advance(1)
    mesh.put(primary, "alpha", {"title": "last"})
    mesh.advance(1)
    assert mesh.document(primary, "alpha") == mesh.document(worker, "alpha") == {"slug": "alpha", "title": "last"}
    mesh.advance(121)
    assert standing(mesh, worker) == []


def test_a_clock_that_is_set_right_by_a_little_is_no_alert() -> None:
    mesh, _, worker, _ = three()
    worker.wall_shift_ms = -300_000
    mesh.advance(30)
    assert standing(mesh, worker) == []


def test_who_stopped_trying_is_no_alert_any_more() -> None:
    mesh, primary, worker, _ = three()
    mesh.crash(worker)
    worker.wall_shift_ms = 600_000
    mesh.start(worker)
    mesh.advance(10)
    mesh.crash(worker)
    mesh.advance(110)
    assert standing(mesh, primary) == [("clock-skew", "dev-02")]
    mesh.advance(30)
    assert standing(mesh, primary) == []


def test_a_second_daemon_of_one_name_is_told_by_both() -> None:
    mesh, primary, worker, _ = three()
    second = Host(configuration("dev-02"), Disk("s2"), boots=10)
    mesh.hosts["the second dev-02"] = second
    mesh.start(second)
    mesh.advance(20)
    assert standing(mesh, primary) == [("duplicate-instance", "dev-02")]
    assert standing(mesh, second) == [("duplicate-instance", "dev-02")]
    assert standing(mesh, worker) == []
    mesh.crash(second)
    mesh.advance(140)
    assert standing(mesh, primary) == []


def primary_node() -> Node:
    return leading(Node(configuration("dev-01", role=Role.PRIMARY), Birth("own", "1"), Stored("s1")), NOW)


NOW = Now(100.0, EPOCH_MS)


def told(node: Node, link: int, *messages: Identity | Heartbeat | Refuse) -> list[str]:
    """The alert events that these messages cause."""
    node.step(LinkUp(link, f"h:{link}"), NOW)
    effects = [effect for message in messages for effect in node.step(Received(link, message), NOW)]
    return [
        f"{effect.type} {effect.payload['code']} {effect.payload['subject']}"
        for effect in effects
        if isinstance(effect, Emit) and effect.type.startswith("alert:")
    ]


def identity(name: str = "dev-02", boot: str = "b", peers_hash: str | None = None) -> Identity:
    return Identity(name, UtcMs(EPOCH_MS), protocol=1, min_protocol=1, boot=boot, clock=EPOCH_MS, peers_hash=peers_hash)


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        (CLOCK_SKEW, ["alert:raised clock-skew dev-02"]),
        (DUPLICATE, ["alert:raised duplicate-instance dev-01"]),
        (NOT_ALLOWED, []),
    ],
)
def test_who_refuses_us_is_believed(code: int, raised: list[str]) -> None:
    assert told(primary_node(), 1, identity(), Refuse(code, "no")) == raised


def test_who_stays_after_all_has_a_clock_that_is_right() -> None:
    beat = Heartbeat("dev-02", UtcMs(EPOCH_MS), boot="b")
    expected = ["alert:raised clock-skew dev-02", "alert:cleared clock-skew dev-02"]
    assert told(primary_node(), 1, identity(), Refuse(CLOCK_SKEW, "no"), beat, beat) == expected


def test_dialling_oneself_is_no_second_daemon() -> None:
    assert told(primary_node(), 1, identity("dev-01", boot="own")) == []
    assert told(primary_node(), 1, identity("dev-01", boot="other")) == ["alert:raised duplicate-instance dev-01"]


def test_other_peers_are_told_until_they_are_the_same_or_away() -> None:
    node = primary_node()
    own_hash = configuration("dev-01")
    same = Node(own_hash, Birth("x", "1"), Stored("s2"))
    (greeting,) = [effect for effect in same.step(LinkUp(1, "h"), NOW) if isinstance(effect, Send)]
    known = getattr(greeting, "message").peers_hash  # noqa: B009  an effect of several kinds
    assert told(node, 1, identity(peers_hash=known)) == []
    assert told(node, 2, identity(peers_hash="other")) == ["alert:raised peers-mismatch dev-02"]
    (alert,) = node.snapshot(NOW).alerts
    assert alert.severity is Severity.WARNING
    assert told(node, 3, identity(peers_hash=known)) == ["alert:cleared peers-mismatch dev-02"]
    assert told(node, 4, identity(peers_hash="other")) == ["alert:raised peers-mismatch dev-02"]
    node.step(inputs.TtlDue(), NOW)
    assert len(node.snapshot(NOW).alerts) == 1
    for later_s in range(10, 140, 10):
        node.step(inputs.TtlDue(), Now(NOW.mono_s + later_s, EPOCH_MS + later_s * 1000))
    assert "peers-mismatch" not in {alert.code for alert in node.snapshot(NOW).alerts}


def test_a_queue_that_fills_is_told_before_it_is_full() -> None:
    mesh, primary, worker, _ = three(max_changes=10)
    mesh.put(worker, "site", {"title": "T"})
    mesh.settle()
    mesh.part(primary, worker)
    mesh.settle()
    for number in range(8):
        mesh.patch(worker, "site", {f"f{number}": number})
    assert standing(mesh, worker) == []
    mesh.patch(worker, "site", {"f8": 8})
    assert standing(mesh, worker) == [("outbox-filling", "")]
    mesh.join(primary, worker)
    mesh.advance(10)
    assert mesh.snapshot(worker).queued_changes == 0
    assert standing(mesh, worker) == []
    assert len(worker.events("alert:raised")) == len(worker.events("alert:cleared")) == 1


def test_a_time_without_a_primary_is_told_after_the_ttl() -> None:
    """The only one that is left cannot be elected."""
    mesh, primary, worker, other = three()
    mesh.crash(primary)
    mesh.crash(other)
    mesh.advance(110)
    assert standing(mesh, worker) == []
    mesh.advance(25)
    (alert,) = mesh.snapshot(worker).alerts
    assert (alert.code, alert.severity) == ("partitioned", Severity.CRITICAL)
    mesh.start(primary)
    mesh.advance(10)
    assert standing(mesh, worker) == []


def a_watch() -> Watch:
    """What a primary watches itself with, beside one peer that is online."""
    what = configuration("dev-01", role=Role.PRIMARY)
    membership = Membership("dev-01", what.hivemind.peer_ttl_ms)
    list(membership.introduced(identity(), NOW))
    leadership = Leadership.restored(what, Handshake(what, "own"), Stored("s1"))
    leadership.role = Role.PRIMARY
    return Watch(what, Alerts(), leadership, membership)


def kinds(effects: Iterable[Effect]) -> list[str]:
    return [effect.type for effect in effects if isinstance(effect, Emit)]


def test_a_missing_majority_is_told_once_and_until_it_is_back() -> None:
    watch = a_watch()
    assert kinds(watch.no_quorum(is_missing=False, text="", now=NOW)) == []
    assert kinds(watch.no_quorum(is_missing=True, text="1 of 3 voters", now=NOW)) == ["alert:raised"]
    assert kinds(watch.no_quorum(is_missing=True, text="still 1 of 3 voters", now=NOW)) == []
    (alert,) = watch.alerts.standing.values()
    assert (alert.code, alert.severity, alert.text) == ("no-quorum", Severity.CRITICAL, "still 1 of 3 voters")
    assert kinds(watch.check(NOW)) == []
    assert kinds(watch.no_quorum(is_missing=False, text="", now=NOW)) == ["alert:cleared"]
    assert watch.alerts.standing == {}


def test_a_second_primary_is_told_until_one_steps_down() -> None:
    watch = a_watch()
    text = "dev-02 leads in term 7, this instance in term 6"
    assert kinds(watch.split_brain("dev-02", is_split=True, text=text, now=NOW)) == ["alert:raised"]
    assert kinds(watch.check(NOW)) == []
    (alert,) = watch.alerts.standing.values()
    assert (alert.code, alert.severity, alert.subject) == ("split-brain", Severity.CRITICAL, "dev-02")
    assert kinds(watch.split_brain("dev-02", is_split=False, text="", now=NOW)) == ["alert:cleared"]
    assert kinds(watch.split_brain("dev-02", is_split=False, text="", now=NOW)) == []


def test_a_second_primary_that_is_out_of_sight_is_no_alert_any_more() -> None:
    watch = a_watch()
    list(watch.split_brain("dev-02", is_split=True, text="", now=NOW))
    list(watch.membership.left(Goodbye("dev-02", UtcMs(EPOCH_MS), boot="b")))
    assert kinds(watch.check(NOW)) == ["alert:cleared"]


def test_the_engine_has_alerts_of_its_own() -> None:
    node = primary_node()
    raised = inputs.AlertRaised("disk-full", "no room on the disk", "make room")
    events = [effect for effect in node.step(raised, NOW) if isinstance(effect, Emit)]
    assert [event.type for event in events] == ["alert:raised"]
    assert node.step(raised, NOW) == []
    (alert,) = node.snapshot(NOW).alerts
    assert (alert.code, alert.severity, alert.fix) == ("disk-full", Severity.CRITICAL, "make room")
    assert [effect.type for effect in node.step(inputs.AlertCleared("disk-full"), NOW) if isinstance(effect, Emit)] == [
        "alert:cleared"
    ]
    assert node.snapshot(NOW).alerts == ()
