"""The parts together, as the node uses them."""

from __future__ import annotations

from meshd.core import inputs
from meshd.core.effects import Accepted, Emit, Persist, Reply
from meshd.core.inputs import AcknowledgeCompaction, CompactionDue, LinkUp, Received
from meshd.core.messages import FeatureEvent, Identity, Presence, PresenceRow, UtcMs
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.core.stored import Stored
from meshd.model import Now, Role, Status
from tests.core.mesh import EPOCH_MS, configuration, leading, three

NOW = Now(100.0, EPOCH_MS)
AT = UtcMs(EPOCH_MS)


def worker() -> Node:
    """A worker that is linked to its primary."""
    node = Node(configuration("dev-02"), Birth("b", "1"), Stored("s1"))
    node.step(inputs.Started(), NOW)
    node.step(LinkUp(1, "h:1", "ws://dev-01:4444"), NOW)
    leader = Identity("dev-01", AT, url="ws://dev-01:4444", protocol=1, boot="x", sync_role="primary")
    node.step(Received(1, leader), NOW)
    return node


def test_a_worker_knows_of_the_others_what_the_primary_says() -> None:
    node = worker()
    root = node.snapshot(NOW).root
    rows = (
        PresenceRow("dev-03", 0, status=Status.ALIVE, root=root),
        PresenceRow("dev-04", 0, status=Status.ALIVE, root="f" * 24),
        PresenceRow("dev-05", 0, status=Status.ALIVE),
        PresenceRow("dev-02", 0, status=Status.ALIVE, root="f" * 24),
    )
    node.step(Received(1, Presence(0, 1, full=True, members=rows, root=root)), NOW)
    seen = {member.instance_id: member.in_sync for member in node.snapshot(NOW).members}
    assert seen == {"dev-01": True, "dev-03": True, "dev-04": False, "dev-05": None}


def test_a_primary_says_the_roots_of_all_in_its_presence() -> None:
    mesh, primary, _, other = three()
    mesh.put(primary, "site", {"title": "T"})
    mesh.advance(31)
    mesh.crash(other)
    mesh.patch(primary, "site", {"title": "U"})
    mesh.advance(70)
    (broadcast,) = [
        effect
        for effect in mesh.step(primary, inputs.HeartbeatDue(mesh.snapshot(primary).capacity))
        if isinstance(getattr(effect, "message", None), Presence)
    ]
    presence = getattr(broadcast, "message")  # noqa: B009  an effect of several kinds
    roots = {row.instance_id: row.root for row in presence.members}
    assert roots["dev-02"] == presence.root == mesh.snapshot(primary).root
    assert roots["dev-03"] not in (None, presence.root)


def test_what_an_original_sends_is_a_change_that_came_from_it() -> None:
    primary = leading(Node(configuration("dev-01", role=Role.PRIMARY), Birth("b", "1"), Stored("s1")), NOW)
    primary.step(LinkUp(1, "h:1"), NOW)
    primary.step(Received(1, Identity("old-01", AT)), NOW)
    primary.step(Received(1, FeatureEvent("old-01", "project:created", {"project": {"slug": "site"}}, AT)), NOW)
    (member,) = primary.snapshot(Now(103.0, EPOCH_MS + 3000)).members
    assert (member.in_sync, member.last_change_ms, member.last_change_age_s) == (None, EPOCH_MS, 3.0)


def test_acknowledging_is_answered_when_it_is_on_disk() -> None:
    node = Node(configuration("dev-01", enabled=False), Birth("b", "1"), Stored("s1"))
    node.step(CompactionDue(), NOW)
    assert node.step(AcknowledgeCompaction(7), NOW) == [Reply(7, Accepted(""))]


def test_an_alert_is_kept_with_the_other_events() -> None:
    node = Node(configuration("dev-01"), Birth("b", "1"), Stored("s1"))
    effects = node.step(inputs.AlertRaised("disk-full", "no room", "make room"), NOW)
    kinds = [type(effect) for effect in effects]
    assert kinds.index(Persist) < kinds.index(Emit)
