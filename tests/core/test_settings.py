"""Shared settings: from the primary to all, in order, and never with a credential."""

from __future__ import annotations

import itertools

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd import wire
from meshd.configuration import Configuration
from meshd.core.effects import Accepted, Broadcast, Effect, Level, Note, Persist, Rejected, Reply, SaveSettings, Send
from meshd.core.inputs import Input, LinkUp, PatchSettings, PutSettings, Received, SettingsCommand, Started
from meshd.core.messages import Identity, SettingsEvent, UtcMs
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.core.settings import MAX_REVISION, Scope, Scopes
from meshd.core.stored import Stored
from meshd.model import Json, JsonObject, Now, Role
from tests.core.mesh import EPOCH_MS, Host, Mesh, configuration, leading, three

AT = UtcMs(EPOCH_MS)
NOW = Now(100.0, EPOCH_MS)
TOKEN = "ghp_" + "a1B2" * 9


def tell(mesh: Mesh, host: Host, command: SettingsCommand) -> Accepted | Rejected:
    mesh.step(host, command)
    mesh.settle()
    return host.replies[-1]


def put(
    mesh: Mesh, host: Host, values: Json, scope: str = "shared", if_match: str | None = None
) -> Accepted | Rejected:
    return tell(mesh, host, PutSettings(1, scope, values, if_match))


def patch(mesh: Mesh, host: Host, values: Json, scope: str = "shared") -> Accepted | Rejected:
    return tell(mesh, host, PatchSettings(1, scope, values))


def shared(mesh: Mesh, host: Host) -> tuple[int, JsonObject]:
    scope = mesh.snapshot(host).settings.shared
    return scope.revision, scope.values


def resolved(mesh: Mesh, host: Host) -> dict[str, tuple[str, Json]]:
    return mesh.snapshot(host).settings.resolved()


def warnings(host: Host) -> list[str]:
    return [note.text for note in host.notes if note.level >= Level.WARNING]


def mesh_with_files(**files: JsonObject) -> Mesh:
    """Hosts that are not running, with these `sharedSettings`; the first is the primary."""
    mesh = Mesh()
    for number, (name, file) in enumerate(files.items()):
        keys = configuration(name.replace("_", "-"), role=Role.WORKER if number else Role.PRIMARY)
        mesh.add(evolve(keys, shared_settings=file))
    return mesh


# From the primary to all


def test_a_change_reaches_all_and_each_is_told_once() -> None:
    mesh, *hosts = three()
    assert put(mesh, hosts[0], {"maxRetries": 3, "workflow": {"a": 1}}) == Accepted("1")
    assert patch(mesh, hosts[0], {"maxRetries": 4, "workflow": None}) == Accepted("2")
    for host in hosts:
        assert shared(mesh, host) == (2, {"maxRetries": 4})
        assert host.disk.settings["shared"] == (2, {"maxRetries": 4})
        assert host.events("settings:updated") == [
            {"scope": "shared", "revision": 1, "keys": ["maxRetries", "workflow"]},
            {"scope": "shared", "revision": 2, "keys": ["maxRetries", "workflow"]},
        ]


def test_what_changes_nothing_is_no_change() -> None:
    mesh, primary, worker, _ = three()
    put(mesh, primary, {"workflow": {"a": 1, "b": 2}})
    assert put(mesh, primary, {"workflow": {"b": 2, "a": 1}}) == Accepted("1", changed=False)
    assert put(mesh, primary, {"workflow": {"a": True, "b": 2}}) == Accepted("2"), "true is not 1"
    assert len(worker.events("settings:updated")) == 2


def test_a_condition_is_kept() -> None:
    mesh, primary, *_ = three()
    assert put(mesh, primary, {"maxRetries": 1}, if_match="0") == Accepted("1")
    refusal = put(mesh, primary, {"maxRetries": 2}, if_match="0")
    assert isinstance(refusal, Rejected)
    assert refusal.code == "revision-mismatch"
    assert put(mesh, primary, {"maxRetries": 2}, if_match="1") == Accepted("2")
    assert put(mesh, primary, {"maxRetries": 3}, if_match="*") == Accepted("3")


def test_a_worker_refuses_and_names_its_primary() -> None:
    mesh, primary, worker, _ = three()
    refusal = put(mesh, worker, {"maxRetries": 1})
    assert isinstance(refusal, Rejected)
    assert refusal.code == "not-primary"
    assert "dev-01" in refusal.detail
    assert shared(mesh, primary) == shared(mesh, worker) == (0, {})


def test_a_worker_that_was_away_learns_it_all_at_once() -> None:
    mesh, primary, worker, other = three()
    put(mesh, primary, {"maxRetries": 1})
    mesh.crash(worker)
    for retries in range(2, 6):
        put(mesh, primary, {"maxRetries": retries})
    mesh.start(worker)
    assert shared(mesh, worker) == (1, {"maxRetries": 1}), "what it had holds until it hears more"
    mesh.advance(1)
    assert shared(mesh, worker) == shared(mesh, other) == (5, {"maxRetries": 5})
    assert [event["revision"] for event in worker.events("settings:updated")] == [1, 5]


def test_settings_of_a_host_stay_on_it_and_win() -> None:
    mesh, primary, worker, other = three()
    put(mesh, primary, {"maxRetries": 1, "autoMode": True})
    assert put(mesh, worker, {"maxRetries": 9}, "local") == Accepted("1")
    assert resolved(mesh, worker) == {"maxRetries": ("local", 9), "autoMode": ("shared", True)}
    assert resolved(mesh, primary) == resolved(mesh, other)
    assert resolved(mesh, primary)["maxRetries"] == ("shared", 1)
    mesh.crash(worker)
    mesh.start(worker)
    assert resolved(mesh, worker)["maxRetries"] == ("local", 9)
    patch(mesh, worker, {"maxRetries": None}, "local")
    assert resolved(mesh, worker)["maxRetries"] == ("shared", 1)


def test_alone_an_instance_is_its_own_primary() -> None:
    mesh = Mesh()
    alone = mesh.add(configuration("dev-01", enabled=False))
    mesh.start(alone)
    assert put(mesh, alone, {"maxRetries": 1}) == Accepted("1")
    assert put(mesh, alone, {"maxRetries": 2}, "local") == Accepted("1")
    assert resolved(mesh, alone) == {"maxRetries": ("local", 2)}


# The file


def test_what_the_primarys_file_says_is_shared_and_a_workers_is_its_own() -> None:
    mesh = mesh_with_files(dev_01={"maxRetries": 1}, dev_02={"maxRetries": 7, "autoMode": True})
    primary, worker = mesh.hosts.values()
    mesh.start(primary)
    mesh.start(worker)
    assert resolved(mesh, worker) == {"maxRetries": ("file", 7), "autoMode": ("file", True)}
    mesh.advance(1)
    assert shared(mesh, primary) == shared(mesh, worker) == (1, {"maxRetries": 1})
    assert resolved(mesh, worker) == {"maxRetries": ("shared", 1), "autoMode": ("file", True)}


def test_what_is_edited_in_the_primarys_file_is_a_change_and_nothing_else_is() -> None:
    mesh = mesh_with_files(dev_01={"maxRetries": 1, "autoMode": True, "labels": ["a"], "baseBranch": "main"})
    (primary,) = mesh.hosts.values()
    mesh.start(primary)
    mesh.advance(1)
    patch(mesh, primary, {"autoMode": False, "labels": None})

    def restart(**file: Json) -> tuple[int, JsonObject]:
        mesh.crash(primary)
        primary.configuration = evolve(primary.configuration, shared_settings=file)
        mesh.start(primary)
        mesh.advance(1)
        return shared(mesh, primary)

    edited: JsonObject = {"maxRetries": 1, "autoMode": False, "baseBranch": "main"}
    assert restart(maxRetries=1, autoMode=True, labels=["a"], baseBranch="main") == (2, edited)
    assert restart(maxRetries=2, autoMode=True, labels=["a"]) == (3, {"maxRetries": 2, "autoMode": False})
    assert restart(maxRetries=2, labels=["a"]) == (3, {"maxRetries": 2, "autoMode": False}), "it was changed since"
    assert restart(maxRetries=2, labels=["b"]) == (4, {"maxRetries": 2, "autoMode": False, "labels": ["b"]})
    assert restart() == (5, {"autoMode": False})
    assert restart() == (5, {"autoMode": False})


def test_a_refused_key_of_the_file_is_named_and_the_rest_holds() -> None:
    mesh = mesh_with_files(dev_01={"maxRetries": 1, "workflow": {"apiKey": "hunter2"}, "maxRetires": 2}, dev_02={})
    primary, worker = mesh.hosts.values()
    mesh.start(primary)
    mesh.start(worker)
    mesh.advance(1)
    assert shared(mesh, worker) == (1, {"maxRetries": 1})
    assert "workflow" not in resolved(mesh, primary)
    credential, unknown = [text for text in warnings(primary) if "sharedSettings" in text]
    assert "workflow.apiKey" in credential
    assert "did you mean maxRetries?" in unknown
    assert "hunter2" not in repr((primary.notes, primary.told, primary.disk, worker.disk))


def test_a_file_that_would_make_the_whole_too_large_is_not_taken_up() -> None:
    mesh = mesh_with_files(dev_01={})
    (primary,) = mesh.hosts.values()
    mesh.start(primary)
    mesh.advance(1)
    put(mesh, primary, {"customInstructions": "x" * 60_000})
    mesh.crash(primary)
    primary.configuration = evolve(primary.configuration, shared_settings={"baseBranch": "y" * 10_000})
    mesh.start(primary)
    mesh.advance(1)
    assert shared(mesh, primary) == (1, {"customInstructions": "x" * 60_000})
    assert "not shared" in [text for text in warnings(primary) if "sharedSettings" in text][-1]


# Older databases


def restored_from_backup(mesh: Mesh, primary: Host, backup: dict[str, tuple[int, JsonObject]]) -> None:
    mesh.crash(primary)
    primary.disk.settings = dict(backup)
    mesh.start(primary)


@pytest.mark.parametrize("backup", [{}, {"shared": (1, {"maxRetries": 1})}], ids=["lost", "older"])
def test_an_older_database_of_the_primary_does_not_win(backup: dict[str, tuple[int, JsonObject]]) -> None:
    mesh, *hosts = three()
    primary = hosts[0]
    for retries in (1, 2, 3):
        put(mesh, primary, {"maxRetries": retries})
    restored_from_backup(mesh, primary, backup)
    mesh.advance(10)
    assert [shared(mesh, host) for host in hosts] == [(3, {"maxRetries": 3})] * 3
    assert [text for text in warnings(primary) if "database is older" in text]
    assert primary.disk.settings["shared"] == (3, {"maxRetries": 3})
    assert put(mesh, primary, {"maxRetries": 4}) == Accepted("4")
    assert [shared(mesh, host) for host in hosts] == [(4, {"maxRetries": 4})] * 3


def test_what_a_primary_takes_back_it_passes_on() -> None:
    mesh, *hosts = three()
    primary, worker, other = hosts
    for retries in (1, 2, 3):
        put(mesh, primary, {"maxRetries": retries})
    for host in (primary, worker, other):
        mesh.crash(host)
    primary.disk.settings = {}
    other.disk.settings = {}
    mesh.start(primary)
    mesh.start(other)
    mesh.advance(10)
    assert shared(mesh, other) == (0, {})
    mesh.start(worker)
    mesh.advance(10)
    assert [shared(mesh, host) for host in hosts] == [(3, {"maxRetries": 3})] * 3


def test_of_two_contents_of_one_revision_the_primarys_stands_and_is_told() -> None:
    mesh, *hosts = three()
    primary, worker, _ = hosts
    put(mesh, primary, {"maxRetries": 1})
    for host in hosts[1:]:
        mesh.part(primary, host)
    restored_from_backup(mesh, primary, {})
    mesh.advance(1)
    assert put(mesh, primary, {"maxRetries": 2}) == Accepted("1"), "it leads, as a hub"
    for host in hosts[1:]:
        mesh.join(primary, host)
    mesh.advance(10)
    assert [shared(mesh, host) for host in hosts] == [(1, {"maxRetries": 2})] * 3
    assert [text for text in warnings(worker) if "they replace ours" in text]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["put", "crash", "restore", "wait"]), st.integers(0, 2)), max_size=20))
def test_whatever_happens_all_agree_in_the_end(happenings: list[tuple[str, int]]) -> None:
    mesh, *hosts = three()
    backups: list[dict[str, tuple[int, JsonObject]]] = [{}]
    retries = itertools.count()
    for what, number in happenings:
        host = hosts[number]
        match what:
            case "put" if hosts[0].node:
                backups.append(dict(hosts[0].disk.settings))
                put(mesh, hosts[0], {"maxRetries": next(retries)})
            case "crash" if host.node:
                mesh.crash(host)
            case "restore" if not host.node:
                host.disk.settings = dict(backups[-number - 1 :][0])
            case "wait":
                for each in hosts:
                    if not each.node:
                        mesh.start(each)
                mesh.advance(number * 3)
    for host in hosts:
        if not host.node:
            mesh.start(host)
    mesh.advance(30)
    assert len({repr(shared(mesh, host)) for host in hosts}) == 1
    assert all(host.disk.settings.get("shared", (0, {})) == shared(mesh, host) for host in hosts)


# What peers send


def node(role: Role, what: Configuration | None = None, stored: Stored | None = None, protocol: int | None = 1) -> Node:
    """A node with link 1 to dev-03, a worker, and on a worker link 2 to dev-01, its primary."""
    made = Node(what or configuration("dev-02", role=role), Birth("b", "1"), stored or Stored("s1"))
    if role is Role.PRIMARY:
        leading(made, NOW)
    else:
        made.step(Started(), NOW)
    made.step(LinkUp(1, "h:1"), NOW)
    made.step(Received(1, Identity("dev-03", AT, protocol=protocol, boot="x", sync_role="worker")), NOW)
    if role is Role.WORKER:
        made.step(LinkUp(2, "h:2", "ws://dev-01:4444"), NOW)
        made.step(Received(2, Identity("dev-01", AT, protocol=protocol, boot="y", sync_role="primary")), NOW)
    return made


def hear(made: Node, link: int, values: JsonObject, revision: int | None = None) -> list[Effect]:
    return made.step(Received(link, SettingsEvent("dev-0x", values, AT, revision)), NOW)


def held(made: Node) -> tuple[int, JsonObject]:
    scope = made.snapshot(NOW).settings.shared
    return scope.revision, scope.values


@pytest.mark.parametrize("protocol", [None, 1])
def test_a_worker_is_not_heard_on_settings(protocol: int | None) -> None:
    made = node(Role.PRIMARY, protocol=protocol)
    for _ in range(3):
        hear(made, 1, {"maxRetries": 7})
    assert held(made) == (0, {})
    assert made.snapshot(NOW).dropped == {"settings-of-no-primary": 3}


def test_a_worker_hears_its_primary_only() -> None:
    made = node(Role.WORKER)
    told = [effect for _ in range(2) for effect in hear(made, 1, {"maxRetries": 7}, 9)]
    assert [effect.level for effect in told if isinstance(effect, Note)] == [Level.WARNING, Level.DEBUG]
    assert held(made) == (0, {})
    hear(made, 2, {"maxRetries": 7}, 9)
    assert held(made) == (9, {"maxRetries": 7})


def test_an_original_primary_is_followed_and_its_settings_have_no_revision() -> None:
    made = Node(configuration("dev-02"), Birth("b", "1"), Stored("s1"))
    made.step(LinkUp(2, "h:2", "ws://dev-01:4444"), NOW)
    made.step(Received(2, Identity("dev-01", AT)), NOW)
    for values in ({"maxRetries": 2}, {"maxRetries": 2}, {"maxRetries": 3}):
        hear(made, 2, dict(values))
    assert held(made) == (2, {"maxRetries": 3})


def test_an_original_worker_is_told_as_a_native_one_is() -> None:
    made = leading(Node(configuration("dev-02", role=Role.PRIMARY), Birth("b", "1"), Stored("s1")), NOW)
    made.step(LinkUp(1, "h:1"), NOW)
    assert not [
        effect
        for effect in made.step(Received(1, Identity("dev-03", AT)), NOW)
        if isinstance(effect, Send) and isinstance(effect.message, SettingsEvent)
    ], "nothing before there is something"
    answer = made.step(PutSettings(1, "shared", {"maxRetries": 2}), NOW)
    assert Broadcast((1,), SettingsEvent("dev-02", {"maxRetries": 2}, AT, 1)) in answer
    made.step(LinkUp(3, "h:3"), NOW)
    answer = made.step(Received(3, Identity("dev-04", AT)), NOW)
    assert Send(3, SettingsEvent("dev-02", {"maxRetries": 2}, AT, 1)) in answer


@pytest.mark.parametrize(
    ("values", "revision"),
    [
        ({"workflow": {"token": "x"}}, 5),
        ({"defaultModel": TOKEN}, 5),
        ({"colour": 1}, 5),
        ({"maxRetries": 1}, MAX_REVISION + 1),
    ],
)
def test_what_may_not_be_shared_is_not_taken_from_a_peer(values: JsonObject, revision: int) -> None:
    for role, link in ((Role.WORKER, 2), (Role.PRIMARY, 1)):
        made = node(role)
        answer = hear(made, link, values, revision)
        assert held(made) == (0, {})
        assert made.snapshot(NOW).dropped == {"settings-refused": 1}
        assert [type(effect) for effect in answer] == [Note]
        assert TOKEN not in repr(answer)


def test_settings_are_on_disk_before_anybody_hears_of_them() -> None:
    made = node(Role.PRIMARY)
    answer = [
        effect
        for effect in made.step(PutSettings(1, "shared", {"maxRetries": 2}), NOW)
        if not isinstance(effect, Persist) or isinstance(effect.record, SaveSettings)
    ]
    assert answer[0] == Persist(SaveSettings("shared", 1, {"maxRetries": 2}))
    assert answer[-1] == Reply(1, Accepted("1"))


def test_scopes_resolve_by_key() -> None:
    scopes = Scopes(
        file=Scope(0, {"maxRetries": 1, "labels": ["a"], "workflow": {"a": 1}}),
        shared=Scope(1, {"maxRetries": 2, "workflow": {"b": 1}}),
        local=Scope(1, {"maxRetries": 3}),
    )
    assert scopes.resolved() == {
        "maxRetries": ("local", 3),
        "labels": ("file", ["a"]),
        "workflow": ("shared", {"b": 1}),
    }


# No credential leaves, whoever brings it

NEEDLE = "hunter2needle"
POISON: st.SearchStrategy[JsonObject] = st.sampled_from(
    [
        {"apiKey": NEEDLE},
        {"workflow": {"deploy": {"AUTH_TOKEN": NEEDLE}}},
        {"workflow": {"steps": [{"client-secret": NEEDLE}]}},
        {"models": {"password": NEEDLE}},
        {"featureFlags": {"credentials": {"user": NEEDLE}}},
        {"defaultModel": f"sk-ant-{NEEDLE}"},
        {"reviewers": ["ada", f"https://ci:{NEEDLE}@example.com"]},
        {"customInstructions": f"log in with ghp_{NEEDLE}"},
        {"ceremonies": {f"xoxb-{NEEDLE}": True}},
    ]
)
CLEAN: st.SearchStrategy[JsonObject] = st.sampled_from(
    [{"maxRetries": 1}, {"workflow": {"a": {"b": 1}}}, {"labels": ["x"]}, {}]
)
VALUES: st.SearchStrategy[JsonObject] = st.builds(lambda clean, poison: {**clean, **poison}, CLEAN, POISON) | CLEAN
SCOPES = st.sampled_from(["shared", "local"])
INPUTS: st.SearchStrategy[Input] = st.one_of(
    st.builds(PutSettings, st.just(1), SCOPES, VALUES),
    st.builds(PatchSettings, st.just(1), SCOPES, VALUES),
    st.builds(
        Received,
        st.integers(1, 2),
        st.builds(SettingsEvent, st.just("dev-09"), VALUES, st.just(AT), st.none() | st.integers(0, 9)),
    ),
)


@settings(deadline=None)
@given(st.sampled_from(list(Role)), VALUES, st.lists(INPUTS, max_size=8))
def test_no_credential_ever_passes_into_a_message(role: Role, file: JsonObject, history: list[Input]) -> None:
    made = node(role, evolve(configuration("dev-02", role=role), shared_settings=file))
    effects = [effect for happened in history for effect in made.step(happened, NOW)]
    for link, protocol in ((8, None), (9, 1)):
        made.step(LinkUp(link, f"h:{link}"), NOW)
        effects += made.step(Received(link, Identity(f"dev-1{link}", AT, protocol=protocol, boot="z")), NOW)
    for effect in effects:
        if isinstance(effect, Send | Broadcast):
            assert NEEDLE.encode() not in wire.encode(effect.message)
    assert NEEDLE not in repr(effects), "nor into the log, the events, the answers or the disk"
    assert NEEDLE not in repr(made.snapshot(NOW).settings)
