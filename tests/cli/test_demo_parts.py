"""The parts of `meshd demo` that need no daemon: ports, files, sights, lines, the sample."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define

from meshd import config
from meshd.cli.demo.instances import PEER_TTL_MS, Instance, Mesh, child_environment, free_ports, is_free
from meshd.cli.demo.screen import JsonScreen, Screen
from meshd.cli.demo.story import Story, sample_project
from meshd.cli.demo.watch import HEADERS, Sight, Watch
from meshd.model import Status
from meshd.project import flatten, render

THREE = ("dev-01", "dev-02", "dev-03")


def sight(role: str, states: dict[str, str], connected: bool = True) -> Sight:
    sync: dict[str, Any] = {
        "role": role,
        "connected": connected,
        "queuedChanges": 0,
        "onlinePeers": [
            {"identity": {"instanceId": name}} for name, state in states.items() if Status(state).is_online
        ],
    }
    peers = [{"instanceId": name, "state": state} for name, state in states.items()]
    return Sight.from_json(sync, peers, None)


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """Three instances that see each other; none has a process."""
    sights: dict[str, Sight | None] = {
        name: sight("worker", {other: "alive" for other in THREE if other != name}) for name in THREE
    }
    return Watch(Mesh(tmp_path), "a", sights)


def test_the_configurations_are_without_fault_and_agree(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    mesh.configure()

    loaded = [config.load(instance.configuration_file, {}) for instance in mesh.instances]

    too_short = ["workIntake.tickIntervalMs", "workIntake.claimTimeoutMs"]  # "less is for tests and demonstrations"
    assert [[problem.key for problem in one.warnings] for one in loaded] == [too_short] * 3
    assert len({one.configuration.agents.command for one in loaded}) == 1
    assert [one.configuration.priority for one in loaded] == [0, 1, 2]
    assert {one.configuration.hivemind.peer_ttl_ms for one in loaded} == {PEER_TTL_MS}
    assert [one.configuration.protolab.role for one in loaded] == ["primary", "worker", "worker"]
    assert [one.configuration.repo_root for one in loaded] == [instance.folder for instance in mesh.instances]
    assert len({one.configuration.data_dir for one in loaded}) == 3


def test_ports_are_free_and_different() -> None:
    ports = free_ports(6)

    assert len(set(ports)) == 6
    assert all(is_free(port) for port in ports)


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_free(server.getsockname()[1])


def test_the_children_inherit_nothing_that_would_configure_them() -> None:
    environ = {"PATH": "p", "HOME": "h", "MESHD_INSTANCE_ID": "x", "NOTIFY_SOCKET": "n", "AUTOMAKER_API_KEY": "k"}

    assert child_environment(environ) == {"PATH": "p", "HOME": "h"}


def test_all_see_all_only_when_everybody_sees_the_other_two_online(watch: Watch) -> None:
    assert watch.all_see_all()

    watch.sights["dev-02"] = sight("worker", {"dev-01": "alive", "dev-03": "failed"})
    assert not watch.all_see_all()
    watch.sights["dev-02"] = sight("worker", {"dev-01": "alive", "dev-03": "suspect"})
    assert watch.all_see_all()
    watch.sights["dev-02"] = sight("worker", {"dev-01": "alive", "dev-03": "alive"}, connected=False)
    assert not watch.all_see_all()
    watch.sights["dev-02"] = None
    assert not watch.all_see_all()


def test_what_one_sees_of_another(watch: Watch) -> None:
    first, second, _ = watch.mesh.instances

    assert watch.sees(first, second, Status.ALIVE)
    assert not watch.sees(first, second, Status.SUSPECT)
    watch.sights["dev-01"] = None
    assert not watch.sees(first, second, Status.ALIVE)


def test_a_row_of_one_that_does_not_run_says_so(watch: Watch) -> None:
    rows = watch.rows()

    assert [len(row) for row in rows] == [len(HEADERS)] * 3
    assert rows[0][:4] == ("dev-01", "starting", "infra, backend", "-")


def test_facts_as_lines(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().say("try", "try:\n\x1b[31mcurl")

    assert capsys.readouterr().out == "[  0.0s] try:\n         �[31mcurl\n"


def test_facts_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    JsonScreen().say("put", "PUT meadow", slug="meadow")

    told = json.loads(capsys.readouterr().out)
    assert 0 <= told.pop("elapsed") < 1
    assert told == {"version": 1, "fact": "put", "text": "PUT meadow", "slug": "meadow"}


def test_a_reader_that_went_away_is_noticed_once_and_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    screen = Screen()
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        screen.say("one", "1")
        screen.say("two", "2")

        assert screen.gone.is_set()


def test_the_sample_survives_being_taken_apart_and_put_together() -> None:
    document = sample_project()

    assert render(flatten(document), document["slug"]) == document


def test_the_sample_gives_every_focus_something_to_do_and_its_dependencies_exist() -> None:
    phases = [phase for milestone in sample_project()["milestones"] for phase in milestone["phases"]]
    files = " ".join(file for phase in phases for file in phase["filesToModify"])
    names = {phase["name"] for phase in phases}

    assert all(part in files for part in ("apps/ui", "apps/server", ".github/", "docs/", "tests/"))
    assert all(name in names for phase in phases for name in phase.get("dependencies", ()))


SERVES = "import signal, sys; signal.signal(15, lambda *_: sys.exit()); print(flush=True); signal.pause()"


async def serve(instance: Instance) -> None:
    """Give it a process that ends well when it is asked to."""
    process = await trio.lowlevel.open_process([sys.executable, "-c", SERVES], stdout=subprocess.PIPE)
    instance.process = process
    assert process.stdout is not None
    await process.stdout.receive_some()  # it listens to SIGTERM from then on


async def test_all_three_drained_is_said_of_three_that_served(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    for instance in watch.mesh.instances:
        await serve(instance)
    story = Story(watch.mesh, watch, Screen())

    await story.drain()

    assert story.kept == ["drained"]
    assert capsys.readouterr().out.endswith("] all three drained\n")


async def test_how_each_ended_is_told_when_not_all_drained(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = watch.mesh.instances
    for instance in watch.mesh.instances:
        await serve(instance)
    watch.sights[second.name] = None
    await third.kill()
    story = Story(watch.mesh, watch, Screen())

    await story.drain()

    told = capsys.readouterr().out
    assert story.kept == []
    assert f"] {first.name} drained (exit code 0) after " in told
    assert f"] {second.name} ended before it served (exit code 0) after " in told
    assert told.endswith("] dev-01 drained, dev-02 ended before it served, dev-03 had ended already (SIGKILL)\n")


@define(eq=False)
class RobbedOnce(Mesh):
    """A mesh one of whose ports somebody takes before its daemon can, the first time."""

    robber: socket.socket | None = None

    def configure(self) -> None:
        super().configure()
        if self.robber is None:
            self.robber = socket.create_server(("127.0.0.1", self.instances[1].api_port))


async def test_a_port_that_is_taken_meanwhile_is_replaced(
    tmp_path: Path, nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh = RobbedOnce(tmp_path)
    watch = Watch(mesh, "a")
    try:
        for instance in mesh.instances:
            nursery.start_soon(watch.look, instance)

        await Story(mesh, watch, Screen()).begin()

        told = capsys.readouterr().out
        assert "somebody took a port of dev-02" in told
        assert told.count("answers at") == 3
        assert mesh.robber is not None
        assert mesh.instances[1].api_port != mesh.robber.getsockname()[1]
    finally:
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
            await mesh.kill()
        if mesh.robber is not None:
            mesh.robber.close()
