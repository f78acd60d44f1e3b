"""A node as a whole: total, deterministic, and in a mesh of its like always of one mind in the end."""

from __future__ import annotations

import pytest
from attrs import astuple, evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from meshd import wire
from meshd.configuration import Agents, Configuration, WorkIntake
from meshd.core import inputs, messages
from meshd.core.effects import Accepted, Broadcast, Dial, Effect, HangUp, Level, Note, Send
from meshd.core.handshake import GOING_AWAY, Handshake
from meshd.core.inputs import (
    AlarmDue,
    DialFailed,
    DrainRequested,
    HeartbeatDue,
    Input,
    LinkDown,
    LinkUp,
    Received,
    Started,
    TtlDue,
)
from meshd.core.messages import Goodbye, Heartbeat, Identity, Message, Presence, PresenceRow, UtcMs
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.core.stored import Stored
from meshd.core.voting import HEARS_PRIMARY
from meshd.model import Capacity, Json, Now, Role, Status
from tests.core.mesh import EPOCH_MS, Disk, Host, check_order, configuration, granted, leading, three, url_of
from tests.core.strategies import changes, documents, projects, values
from tests.core.work_strategies import CLAIMS, WORK_INPUTS, WORK_MESSAGES

NOW = Now(100.0, EPOCH_MS)
AT = UtcMs(EPOCH_MS)


def others(host: Host) -> dict[str, Status]:
    return dict.fromkeys({"dev-01", "dev-02", "dev-03"} - {host.name}, Status.ALIVE)


def linked(role: Role = Role.PRIMARY) -> Node:
    """A primary that dev-02 (1) and dev-03 (2) elected, or a worker linked to its primary dev-01 (1)."""
    node = Node(configuration("dev-01" if role is Role.PRIMARY else "dev-02", role=role), Birth("b", "1"), Stored("s1"))
    if role is Role.PRIMARY:
        leading(node, NOW)
    peers = ("dev-02", "dev-03") if role is Role.PRIMARY else ("dev-01",)
    effects: list[Effect] = []
    for link, peer in enumerate(peers, start=1):
        node.step(LinkUp(link, f"h:{link}", None if role is Role.PRIMARY else url_of(peer)), NOW)
        syncs = Role.WORKER if role is Role.PRIMARY else Role.PRIMARY
        identity = Identity(peer, AT, protocol=1, boot="x", url=url_of(peer), sync_role=syncs)
        effects += node.step(Received(link, identity), NOW)
    granted(node, effects, NOW)
    assert node.snapshot(NOW).term == (1 if role is Role.PRIMARY else 0)
    return node


def presences(effects: list[Effect]) -> list[Presence]:
    sent = [effect.message for effect in effects if isinstance(effect, Send | Broadcast)]
    return [message for message in sent if isinstance(message, Presence)]


# Presence


def test_every_instance_sees_every_instance() -> None:
    mesh, *hosts = three()
    for host in hosts:
        assert mesh.statuses(host) == others(host)
        assert mesh.snapshot(host).connected
        assert mesh.snapshot(host).partition_since_ms is None


def test_what_a_worker_says_of_itself_is_known_to_the_other_workers() -> None:
    mesh, _, worker, other = three()
    mesh.step(worker, HeartbeatDue(Capacity(cores=7, cpu_percent=12.5)))
    mesh.advance(31)
    (seen,) = [member for member in mesh.snapshot(other).members if member.instance_id == worker.name]
    assert (seen.url, seen.priority, seen.version) == (url_of("dev-02"), 1, "1.0")
    assert seen.capacity is not None
    assert seen.last_heartbeat_ms is not None
    assert not seen.linked


def test_a_newcomer_is_told_of_everybody_at_once() -> None:
    node = linked()
    node.step(LinkUp(9, "h:9"), NOW)
    effects = node.step(Received(9, Identity("dev-09", AT, protocol=1, boot="x")), NOW)
    (full,) = [message for message in presences(effects) if message.full]
    assert {row.instance_id: row.status for row in full.members} == dict.fromkeys(
        ("dev-02", "dev-03", "dev-09"), Status.ALIVE
    )


def test_only_what_changed_is_told_whole() -> None:
    node = linked()
    node.step(HeartbeatDue(Capacity()), NOW)
    node.step(Received(1, Heartbeat("dev-02", AT, capacity=Capacity(cores=4))), NOW)
    (presence,) = presences(node.step(HeartbeatDue(Capacity()), Now(130.0, EPOCH_MS + 30_000)))
    rows = {row.instance_id: row for row in presence.members}
    assert not presence.full
    assert (rows["dev-02"].capacity, rows["dev-02"].status) == (Capacity(cores=4), Status.ALIVE)
    assert rows["dev-03"] == PresenceRow("dev-03", 30_000)


def test_a_status_that_changes_is_told_at_once() -> None:
    node = linked()
    node.step(HeartbeatDue(Capacity()), NOW)
    (presence,) = presences(node.step(LinkDown(1, 1006), NOW))
    assert {row.instance_id: row.status for row in presence.members} == {"dev-02": Status.SUSPECT, "dev-03": None}
    assert presences(node.step(Received(2, Heartbeat("dev-03", AT)), NOW)) == []


def test_presence_is_counted_and_carries_the_root() -> None:
    node = linked()
    first, second = (presences(node.step(HeartbeatDue(Capacity()), NOW))[-1] for _ in range(2))
    assert second.seq == first.seq + 1
    assert second.root == node.snapshot(NOW).root


def test_an_identity_said_again_is_news_and_no_second_welcome() -> None:
    node = linked()
    node.step(HeartbeatDue(Capacity()), NOW)
    effects = node.step(
        Received(1, Identity("dev-02", AT, name="Worker A", url=url_of("dev-02"), protocol=1, boot="x")), NOW
    )
    assert effects == []
    (presence,) = presences(node.step(HeartbeatDue(Capacity()), NOW))
    assert {row.instance_id: row.name for row in presence.members} == {"dev-02": "Worker A", "dev-03": None}


def test_a_round_trip_is_contact() -> None:
    node = linked()
    later = Now(150.0, EPOCH_MS + 50_000)
    node.step(inputs.LatencyMeasured(1, 2.5), later)
    node.step(inputs.LatencyMeasured(77, 2.5), later)
    members = {member.instance_id: (member.latency_ms, member.age_s) for member in node.snapshot(later).members}
    assert members == {"dev-02": (2.5, 0), "dev-03": (None, 50)}


def test_a_worker_tells_no_presence() -> None:
    node = linked(Role.WORKER)
    effects = [*node.step(HeartbeatDue(Capacity()), NOW), *node.step(LinkDown(1, 1006), NOW)]
    assert presences(effects) == []


def test_a_link_between_workers_that_ends_makes_nobody_suspect() -> None:
    """A worker looks for its primary everywhere, and leaves again; the primary knows better how it is."""
    mesh, _, worker, _ = three()
    worker.links += 1
    mesh.step(worker, LinkUp(worker.links, "dev-03:50001"))
    mesh.step(worker, Received(worker.links, Identity("dev-03", AT, protocol=1, boot="dev-03-boot1")))
    mesh.step(worker, LinkDown(worker.links, 1001))
    assert mesh.statuses(worker) == others(worker)


# Silence


def test_a_peer_that_falls_silent_has_failed_everywhere_within_the_ttl() -> None:
    mesh, primary, worker, other = three()
    mesh.crash(worker)
    mesh.advance(60)
    assert mesh.statuses(other)["dev-02"] is Status.SUSPECT
    mesh.advance(85)
    for host in (primary, other):
        assert mesh.statuses(host)["dev-02"] is Status.FAILED
        assert len(host.events("sync:peer-unreachable")) == 1
        assert len([note for note in host.notes if note.text.startswith("ALERT: Peer dev-02 unreachable")]) == 1


def test_a_half_open_link_is_found_by_the_ttl_too() -> None:
    mesh, primary, worker, other = three()
    mesh.swallow(worker)
    mesh.advance(145)
    assert mesh.statuses(primary) == {"dev-02": Status.FAILED, "dev-03": Status.ALIVE}
    assert mesh.statuses(other)["dev-02"] is Status.FAILED


def test_nobody_fails_while_all_is_well() -> None:
    mesh, *hosts = three()
    mesh.advance(3600)
    for host in hosts:
        assert mesh.statuses(host) == others(host)
        assert not host.events("sync:peer-unreachable")


def test_nobody_fails_because_the_hosts_slept() -> None:
    mesh, *hosts = three()
    mesh.advance(100)
    mesh.sleep(3600)
    mesh.advance(60)
    for host in hosts:
        assert mesh.statuses(host) == others(host)
        assert not host.events("sync:peer-unreachable")


@pytest.mark.parametrize("shift_ms", [-7_200_000, 7_200_000])
def test_nobody_fails_because_a_wall_clock_was_set(shift_ms: int) -> None:
    mesh, primary, worker, other = three()
    worker.wall_shift_ms = primary.wall_shift_ms = shift_ms
    mesh.advance(600)
    for host in (primary, worker, other):
        assert mesh.statuses(host) == others(host)


def test_a_restarted_worker_is_back_at_once() -> None:
    mesh, primary, worker, other = three()
    mesh.crash(worker)
    mesh.advance(200)
    mesh.start(worker)
    mesh.advance(1)
    for host in (primary, other):
        assert mesh.statuses(host)["dev-02"] is Status.ALIVE


# Drain


def test_a_drained_instance_is_offline_everywhere_at_once() -> None:
    mesh, primary, worker, other = three()
    mesh.drain(worker)
    for host in (primary, other):
        assert mesh.statuses(host)["dev-02"] is Status.LEFT
        assert not [note for note in host.notes if note.text.startswith("ALERT")]
    mesh.advance(300)
    for host in (primary, other):
        assert mesh.statuses(host)["dev-02"] is Status.LEFT
        assert not host.events("sync:peer-unreachable")


def test_a_primary_that_drains_is_offline_and_looked_for() -> None:
    mesh, primary, worker, other = three()
    mesh.drain(primary)
    for host in (worker, other):
        assert mesh.statuses(host)["dev-01"] is Status.LEFT
        assert mesh.snapshot(host).partition_since_ms is not None
    mesh.start(primary)
    mesh.advance(20)
    for host in (primary, worker, other):
        assert mesh.statuses(host) == others(host)


@pytest.mark.parametrize("role", list(Role))
def test_goodbye_comes_before_the_links_close(role: Role) -> None:
    node = linked(role)
    effects = [effect for effect in node.step(DrainRequested("SIGTERM"), NOW) if not isinstance(effect, Note)]
    links = (1, 2) if role is Role.PRIMARY else (1,)
    goodbye, *hang_ups = effects
    assert isinstance(goodbye, Broadcast)
    assert isinstance(goodbye.message, Goodbye)
    assert (goodbye.links, goodbye.message.reason, goodbye.message.boot) == (links, "SIGTERM", "b")
    assert hang_ups == [HangUp(link, GOING_AWAY, "draining") for link in links]


def test_a_second_drain_adds_nothing() -> None:
    node = linked()
    node.step(DrainRequested("SIGTERM"), NOW)
    assert node.step(DrainRequested("SIGTERM"), NOW) == []


def test_whoever_calls_while_we_drain_is_turned_away() -> None:
    node = linked()
    node.step(DrainRequested("SIGTERM"), NOW)
    effects = node.step(LinkUp(9, "h:9"), NOW)
    assert [effect for effect in effects if isinstance(effect, HangUp)] == [HangUp(9, GOING_AWAY, "draining")]
    assert not [effect for effect in effects if isinstance(effect, Send) and isinstance(effect.message, Identity)]


@pytest.mark.parametrize(
    "happened",
    [
        [LinkDown(1, GOING_AWAY)],
        [DialFailed(url_of("dev-01"), "refused")],
        [LinkUp(2, "u", url_of("dev-03")), LinkDown(2, GOING_AWAY)],
        [LinkDown(1, GOING_AWAY), DialFailed(url_of("dev-01"), "refused"), TtlDue(), HeartbeatDue(Capacity())],
    ],
)
def test_who_drains_dials_nobody(happened: list[Input]) -> None:
    for begin in ([], [LinkDown(1, 1006)]):
        node = linked(Role.WORKER)
        for before in begin:
            node.step(before, NOW)
        node.step(DrainRequested("SIGTERM"), NOW)
        effects = [effect for what in happened for effect in node.step(what, NOW)]
        assert not [effect for effect in effects if isinstance(effect, Dial)]


def test_who_drains_follows_no_redirect() -> None:
    node = Node(configuration("dev-02"), Birth("b", "1"), Stored("s1"))
    node.step(Started(), NOW)
    node.step(LinkUp(1, "u", url_of("dev-01")), NOW)
    node.step(DrainRequested("SIGTERM"), NOW)
    effects = node.step(Received(1, Identity("dev-01", AT, protocol=1, sync_role="worker")), NOW)
    assert not [effect for effect in effects if isinstance(effect, Dial)]


def test_edits_are_taken_while_we_drain() -> None:
    mesh, _, worker, other = three()
    mesh.step(worker, DrainRequested("SIGTERM"))
    assert isinstance(mesh.put(worker, "site", {"title": "T"}), Accepted)
    mesh.settle()
    mesh.crash(worker)
    mesh.start(worker)
    mesh.advance(20)
    assert mesh.document(other, "site") == {"slug": "site", "title": "T"}


def test_the_goodbye_of_another_is_believed_of_the_primary_only() -> None:
    node = linked()
    assert node.step(Received(1, Goodbye("dev-03", AT)), NOW) == []
    assert node.snapshot(NOW).dropped["goodbye-of-another"] == 1
    worker = linked(Role.WORKER)
    worker.step(Received(1, Presence(0, 1, full=True, members=(PresenceRow("dev-03", 0, status=Status.ALIVE),))), NOW)
    worker.step(Received(1, Goodbye("dev-03", AT)), NOW)
    assert {member.instance_id: member.status for member in worker.snapshot(NOW).members}["dev-03"] is Status.LEFT


def test_a_primary_passes_a_goodbye_on_to_originals_too() -> None:
    node = linked()
    node.step(LinkUp(3, "h:3"), NOW)
    node.step(Received(3, Identity("dev-04", AT)), NOW)
    goodbye = Goodbye("dev-02", AT, boot="x")
    assert Broadcast((2, 3), goodbye) in node.step(Received(1, goodbye), NOW)


def test_a_heartbeat_in_the_name_of_another_counts_for_nobody() -> None:
    node = linked()
    node.step(LinkDown(2, 1006), NOW)
    node.step(Received(1, Heartbeat("dev-03", AT)), NOW)
    node.step(Received(1, Heartbeat("dev-77", AT)), NOW)
    members = {member.instance_id: member.status for member in node.snapshot(NOW).members}
    assert members == {"dev-02": Status.ALIVE, "dev-03": Status.SUSPECT}


def test_of_the_primary_its_own_link_tells_more_than_its_presence() -> None:
    worker = linked(Role.WORKER)
    worker.step(Received(1, Presence(0, 1, full=True, members=(PresenceRow("dev-01", 0, status=Status.FAILED),))), NOW)
    (member,) = worker.snapshot(NOW).members
    assert member.status is Status.ALIVE


# A mesh that is switched off


def test_without_a_mesh_everything_local_works_and_nothing_is_sent() -> None:
    node = Node(configuration("dev-02", enabled=False), Birth("b", "1"), Stored("s1"))
    steps: list[Input] = [
        Started(),
        inputs.PutProject(1, "site", {"title": "T"}),
        inputs.PatchProject(2, "site", {"goal": "G"}),
        HeartbeatDue(Capacity()),
        TtlDue(),
        inputs.DeleteProject(3, "site"),
        DrainRequested("SIGTERM"),
    ]
    effects = [effect for happened in steps for effect in node.step(happened, NOW)]
    assert not [effect for effect in effects if isinstance(effect, Dial | Send | HangUp)]
    assert not [effect for effect in effects if isinstance(effect, Broadcast) and effect.links]
    snapshot = node.snapshot(NOW)
    assert (snapshot.role, snapshot.connected, snapshot.mesh_enabled) == (Role.PRIMARY, False, False)
    assert (snapshot.queued_changes, snapshot.partition_since_ms) == (0, None)


# Total and deterministic

LINKS = st.integers(1, 4)
PEERS = st.sampled_from(["dev-01", "dev-02", "dev-03", "dev-04"])
URLS = st.sampled_from([url_of("dev-01"), url_of("dev-02"), url_of("dev-03"), "ws://elsewhere:1"])
UTC = st.sampled_from([AT, UtcMs(0), UtcMs(253_402_300_799_999)])
COUNT = st.sampled_from([0, 1, 2, 3, 600, 2**53 - 1])
TERMS = st.sampled_from([0, 1, 2, 3, 2**52, 2**53 - 1])
PEERS_HASH = Handshake(configuration("dev-02"), "own").peers_hash
MAYBE_BOOT = st.sampled_from([None, "b1", "b2", "own"])
CAPACITY = st.sampled_from([Capacity(), Capacity(cores=4, cpu_percent=3.5)])
STATUSES = st.sampled_from(list(Status))
SLUGS = st.sampled_from(["site", "other", "../up"])

SETTINGS: SearchStrategy[dict[str, Json]] = st.fixed_dictionaries(
    {}, optional={"maxRetries": st.integers(0, 2), "workflow": values, "workflwo": values}
)

_identity = st.builds(
    Identity,
    PEERS,
    UTC,
    url=st.none() | URLS,
    protocol=st.sampled_from([None, 1, 1, 1, 2]),
    boot=MAYBE_BOOT,
    sync_role=st.sampled_from([None, "primary", "worker", "observer"]),
    primary_url=st.none() | URLS,
    clock=st.sampled_from([None, EPOCH_MS, 0]),
    term=TERMS,
    leads=st.none() | TERMS,
    authoritative=st.sampled_from([None, True, False]),
    leader_eligible=st.booleans(),
)
ROOTS = st.sampled_from([None, "0" * 24, "f" * 24])
_row = st.builds(PresenceRow, PEERS, COUNT, st.none() | STATUSES, MAYBE_BOOT, timestamp=st.none() | UTC, root=ROOTS)
_states = st.builds(
    lambda document: messages.DocumentState("site", document.life, dict(document.registers), document.ended), documents
)
_received_changes = st.builds(
    lambda change, origin, seq: evolve(change, origin=origin, seq=max(1, seq)),
    changes,
    st.sampled_from(["dev-01.s1", "dev-02.s1", "dev-03.s1"]),
    COUNT,
)
_payload: SearchStrategy[dict[str, Json]] = st.fixed_dictionaries(
    {}, optional={"projectSlug": SLUGS, "project": projects | values, "projectPath": st.just("/x")}
)
_of_leadership: SearchStrategy[Message] = st.one_of(
    st.builds(messages.Promote, PEERS, UTC, url=st.none() | URLS, term=TERMS),
    st.builds(
        messages.VoteRequest,
        TERMS,
        PEERS,
        COUNT,
        st.booleans(),
        st.sampled_from([PEERS_HASH, PEERS_HASH, "other"]),
        st.none() | PEERS,
    ),
    st.builds(messages.Vote, TERMS, st.booleans(), st.booleans(), st.sampled_from(["", HEARS_PRIMARY])),
    st.builds(messages.YouGo, TERMS),
    st.builds(messages.HandOver, TERMS),
    st.builds(messages.Nominate, PEERS),
)
MESSAGES: SearchStrategy[Message] = st.one_of(
    _identity,
    st.builds(
        Heartbeat,
        PEERS,
        UTC,
        boot=MAYBE_BOOT,
        term=TERMS,
        status=STATUSES,
        capacity=st.none() | CAPACITY,
        root=ROOTS,
        leads=st.none() | TERMS,
        authoritative=st.sampled_from([None, True, False]),
        heard=st.none() | COUNT,
        beat=st.none() | COUNT,
        holding=st.none() | st.lists(CLAIMS, max_size=2).map(tuple),
    ),
    st.builds(Goodbye, PEERS, UTC, successor=st.none() | PEERS, boot=MAYBE_BOOT),
    st.builds(Presence, st.just(0), COUNT, st.booleans(), st.lists(_row, max_size=4).map(tuple)),
    st.builds(messages.Changes, st.just(0), st.lists(_received_changes, max_size=3).map(tuple)),
    st.builds(messages.Ack, st.sampled_from(["dev-02.s1", "dev-01.s1"]), COUNT),
    st.builds(
        messages.Digest,
        st.dictionaries(st.sampled_from(["site", "other"]), st.just("x")),
        st.booleans(),
        st.dictionaries(st.sampled_from(["dev-02.s1", "dev-03.s1"]), COUNT, max_size=2),
    ),
    st.builds(messages.Documents, st.lists(_states, max_size=2).map(tuple)),
    st.builds(
        messages.FeatureEvent,
        PEERS,
        st.sampled_from(["project:created", "project:updated", "project:deleted", "feature:created"]),
        _payload,
        UTC,
        st.sampled_from([None, "protoMaker", "foreign"]),
    ),
    st.builds(messages.SettingsEvent, PEERS, SETTINGS, UTC, st.none() | COUNT),
    _of_leadership,
    WORK_MESSAGES,
    st.builds(messages.Refuse, st.sampled_from([4409, 4420]), st.just("no")),
    st.just(messages.Ignored("novel")),
    st.just(messages.Malformed("not JSON")),
)
INPUTS: SearchStrategy[Input] = st.one_of(
    st.builds(Received, LINKS, MESSAGES),
    st.builds(Received, LINKS, _identity),
    st.builds(Received, LINKS, _of_leadership),
    st.builds(LinkUp, LINKS, st.just("h:1"), st.none() | URLS),
    st.builds(LinkDown, LINKS, st.just(1006)),
    st.builds(DialFailed, URLS, st.just("refused")),
    st.builds(inputs.LatencyMeasured, LINKS, st.floats(0, 100)),
    st.just(Started()),
    st.just(TtlDue()),
    st.just(AlarmDue()),
    st.builds(HeartbeatDue, CAPACITY),
    st.builds(
        inputs.PutProject, st.just(1), SLUGS, projects, st.none() | projects, st.sampled_from([None, None, "*", ""])
    ),
    st.builds(inputs.PatchProject, st.just(1), SLUGS, projects | values),
    st.builds(inputs.DeleteProject, st.just(1), SLUGS),
    st.builds(inputs.PutSettings, st.just(1), st.sampled_from(["shared", "local"]), SETTINGS | values),
    st.builds(inputs.PatchSettings, st.just(1), st.sampled_from(["shared", "local"]), SETTINGS | values),
    st.builds(inputs.TakeConflict, st.just(1), SLUGS, st.just("none")),
    st.builds(inputs.PromoteInstance, st.just(1), st.none() | PEERS),
    st.just(inputs.StepDown(1)),
    st.just(inputs.CompactionDue()),
    st.just(inputs.AcknowledgeCompaction(1)),
    st.just(inputs.AlertRaised("disk-full", "no room", "make room")),
    st.just(inputs.AlertCleared("disk-full")),
    st.just(DrainRequested("SIGTERM")),
    WORK_INPUTS,
    st.builds(Received, LINKS, WORK_MESSAGES),
)
HISTORY = st.lists(st.tuples(INPUTS, st.sampled_from([0.0, 0.1, 11.0, 130.0, 1700.0])), max_size=25)
COMMAND = Agents(command=("work",), max=2)
CONFIGURATIONS = st.sampled_from(
    [
        configuration("dev-02"),
        configuration("dev-02", role=Role.PRIMARY),
        configuration("dev-02", enabled=False, tombstone_retention_ms=1000),
        evolve(configuration("dev-02", enabled=False), agents=COMMAND),
        evolve(configuration("dev-02"), agents=COMMAND, work_intake=WorkIntake(when_partitioned="continue")),
    ]
)


@settings(max_examples=300, deadline=None)
@given(CONFIGURATIONS, HISTORY)
def test_whatever_happens_has_an_answer_that_can_be_given_again(
    what: Configuration, history: list[tuple[Input, float]]
) -> None:
    """Every answer keeps the order of persisting and telling, and every message in it can be read by a peer."""
    twins = [Node(what, Birth("own", "1"), Stored("s1")) for _ in range(2)]
    disk = Disk("s1")
    mono_s = 1.0
    for happened, pause_s in history:
        mono_s += pause_s
        now = Now(mono_s, EPOCH_MS + round(mono_s * 1000))
        answer, again = (node.step(happened, now) for node in twins)
        assert answer == again
        check_order(answer)
        for effect in answer:
            if isinstance(effect, Send | Broadcast):
                assert wire.decode(wire.encode(effect.message).decode()) == effect.message
            if hasattr(effect, "record"):
                disk.write(effect.record)
        assert twins[0].snapshot(now) == twins[1].snapshot(now)
        assert disk.documents == dict(twins[0].snapshot(now).documents), "the disk knows what the node knows"
        assert disk.ballot.term == twins[0].snapshot(now).term
        assert disk.features == dict(twins[0].snapshot(now).work.features)
        assert disk.settings.get("shared", (0, {})) == astuple(twins[0].snapshot(now).settings.shared)


@settings(max_examples=50, deadline=None)
@given(CONFIGURATIONS, HISTORY)
def test_a_node_restored_from_its_disk_is_the_node_that_was(
    what: Configuration, history: list[tuple[Input, float]]
) -> None:
    node, disk = Node(what, Birth("own", "1"), Stored("s1")), Disk("s1")
    for happened, _ in history:
        for effect in node.step(happened, NOW):
            if hasattr(effect, "record"):
                disk.write(effect.record)
    restored = Node(what, Birth("later", "1"), disk.stored()).snapshot(NOW)
    before = node.snapshot(NOW)
    assert (restored.documents, restored.root) == (before.documents, before.root)
    assert restored.queued_changes == before.queued_changes
    assert restored.settings == before.settings


def test_every_input_is_one_that_the_tests_above_give() -> None:
    given_here = {Received, LinkUp, LinkDown, DialFailed, Started, TtlDue, AlarmDue, HeartbeatDue, DrainRequested}
    given_here |= {inputs.LatencyMeasured, inputs.PutProject, inputs.PatchProject, inputs.DeleteProject}
    given_here |= {inputs.PromoteInstance, inputs.StepDown}
    given_here |= {inputs.PutSettings, inputs.PatchSettings, inputs.TakeConflict}
    given_here |= {inputs.CompactionDue, inputs.AcknowledgeCompaction, inputs.AlertRaised, inputs.AlertCleared}
    given_here |= {inputs.IntakeDue, inputs.WorkWanted, inputs.WorkEnded, inputs.ClaimPhase, inputs.SettlePhase}
    given_here |= {inputs.TakeWork, inputs.PatchFeature, inputs.SetCapacity, inputs.SetDraining}
    assert given_here == set(inputs.Input.__args__)


def test_a_peer_cannot_fill_the_log() -> None:
    node = linked()
    spam: list[Message] = [messages.Malformed("no"), messages.Ignored("novel"), messages.Refuse(1, "no")]
    spam += [
        Goodbye("dev-77", AT),
        Presence(0, 1, full=True, members=()),
        messages.FeatureEvent("x", "feature:created", {}, AT),
    ]
    effects = [effect for _ in range(50) for message in spam for effect in node.step(Received(1, message), NOW)]
    loud = [effect for effect in effects if isinstance(effect, Note) and effect.level > Level.DEBUG]
    assert len(loud) <= 5


# Leadership


def test_who_is_introduced_after_we_were_elected_is_told_that_we_lead() -> None:
    """Our identity went out on the link before: it says that we are a worker."""
    peers = ("dev-01", "dev-02")
    node = Node(configuration("dev-01", role=Role.PRIMARY, peers=peers), Birth("b", "1"), Stored("s1"))
    node.step(Started(), NOW)
    (said,) = node.step(LinkUp(1, "h:1", None), NOW)
    assert isinstance(said, Send)
    assert isinstance(said.message, Identity)
    assert said.message.sync_role is Role.WORKER
    effects = node.step(DialFailed(url_of("dev-02"), "refused"), NOW)
    assert node.snapshot(NOW).role is Role.PRIMARY
    effects += node.step(Received(1, Identity("dev-02", AT, protocol=1, boot="x", url=url_of("dev-02"))), NOW)
    told = [effect.message for effect in effects if isinstance(effect, Send) and effect.link == 1]
    told += [effect.message for effect in effects if isinstance(effect, Broadcast) and 1 in effect.links]
    assert any(isinstance(message, messages.Promote) for message in told)


def test_a_voter_is_asked_again_when_the_link_of_the_question_closes() -> None:
    """Two candidates have dialled each other; the one that yields hangs up the link that it opened."""
    node = Node(configuration("dev-02"), Birth("b", "1"), Stored("s1"))
    node.step(Started(), NOW)
    then = Now(NOW.mono_s + 131, NOW.utc_ms + 131_000)
    voter = Identity("dev-03", UtcMs(then.utc_ms), protocol=1, boot="x", url=url_of("dev-03"), clock=then.utc_ms)
    node.step(inputs.AlarmDue(), then)
    for link, url in ((1, url_of("dev-03")), (2, None)):
        node.step(LinkUp(link, f"h:{link}", url), then)
        node.step(Received(link, voter), then)
    node.step(Received(1, messages.Vote(0, pre=True, granted=True)), then)
    asked = node.step(DialFailed(url_of("dev-01"), "refused"), then)
    assert requests(asked) == [(2, False)]
    assert requests(node.step(LinkDown(2, GOING_AWAY, "looking for the primary"), then)) == [(1, False)]


def requests(effects: list[Effect]) -> list[tuple[int, bool]]:
    """The votes asked for: on which link, and whether only whether they would be given."""
    return [
        (effect.link, effect.message.pre)
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.message, messages.VoteRequest)
    ]
