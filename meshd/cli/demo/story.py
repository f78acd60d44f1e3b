"""What a demo tells, step by step; each step waits until what it promises has happened, or says that it has not."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import httpx
import trio
from attrs import define, field

from meshd.cli.client import project_path
from meshd.cli.demo.instances import PEER_TTL_MS, Instance, Mesh, is_free
from meshd.cli.demo.screen import Screen
from meshd.cli.demo.watch import NotKept, Watch, client
from meshd.model import Status

# What has to have happened for a demo to be a success, in the order in which it happens.
PROMISES = {
    "seen": "every instance sees the other two",
    "carried": "a project put on a worker is on every instance, in its API and in its workspace",
    "noticed": "a death is noticed: suspect at once, offline after the TTL",
    "returned": "the dead one rejoins, and has what it missed",
    "drained": "everybody drains, with exit code 0",
}

ANSWER_WITHIN_S = 30.0  # a slow host starts three interpreters at once
SEE_WITHIN_S = 20.0
CARRY_WITHIN_S = 10.0
NOTICE_WITHIN_S = 4 * PEER_TTL_MS / 1000
DRAIN_WITHIN_S = 15.0  # three times the default of drain.graceMs
START_ATTEMPTS = 3
LOOK_AGAIN_S = 0.02


def sample_project() -> dict[str, Any]:
    """The project that the demo shares."""
    document: dict[str, Any] = json.loads(Path(__file__).parent.with_name("sample_project.json").read_bytes())
    return document


@define(eq=False)
class Story:
    """One telling. `kept` collects the promises that came true."""

    mesh: Mesh
    watch: Watch
    screen: Screen
    pause_s: float
    kept: list[str] = field(factory=list)

    async def tell(self) -> None:
        """Everything up to the point where only the table is left to look at. Raises `NotKept`."""
        document = sample_project()
        slug = document["slug"]
        leader, giver, victim = self.mesh.instances
        await self.begin()
        await self.see()
        await self.carry(giver, document)
        self.invite(slug)
        await self.pause(f"{victim.name} is killed")
        await self.lose(victim)
        patch = {"priority": "urgent"}
        await self.edit(leader, slug, patch, while_away=victim)
        await self.pause(f"{victim.name} starts again")
        await self.bring_back(victim, document | patch)

    async def begin(self) -> None:
        """Start all three and wait until they answer; begin anew when somebody else took one of the ports."""
        folder = str(self.mesh.folder)
        self.screen.say("starting", f"three daemons start, each in a folder of its own below {folder}", folder=folder)
        for _ in range(START_ATTEMPTS):
            self.mesh.configure()
            for instance in self.mesh.instances:
                await instance.start()
            robbed = await self._wait_for_answers()
            if robbed is None:
                break
            self.screen.say("port-taken", f"somebody took a port of {robbed.name}: once more, with others")
            await self.mesh.kill()
        else:
            raise NotKept(f"found no ports that stay free in {START_ATTEMPTS} attempts")
        for instance in self.mesh.instances:
            self._say_started(instance, "answers")

    async def _wait_for_answers(self) -> Instance | None:
        """Wait until all answer, or return the one that ended because one of its ports was taken."""
        try:
            await self.watch.until(self._all_answer, ANSWER_WITHIN_S, "three APIs that answer")
        except NotKept as reason:
            if reason.instance is None or (is_free(reason.instance.sync_port) and is_free(reason.instance.api_port)):
                raise
            return reason.instance
        return None

    def _all_answer(self) -> bool:
        return all(self.watch.answers(instance) for instance in self.mesh.instances)

    def _say_started(self, instance: Instance, verb: str) -> None:
        assert instance.process is not None
        focus = ", ".join((instance.focus, *instance.tags))
        text = f"{instance.name} ({instance.role}; {focus}) {verb} at {instance.url}, process {instance.process.pid}"
        self.screen.say("started", text, instance=instance.name, url=instance.url, pid=instance.process.pid)

    async def see(self) -> None:
        await self.watch.until(self.watch.all_see_all, SEE_WITHIN_S, PROMISES["seen"])
        self._keep("seen", "every instance sees the other two online, in its own health")

    async def carry(self, giver: Instance, document: dict[str, Any]) -> None:
        """Put the document on a worker and find it, key for key, everywhere."""
        slug = document["slug"]
        put = {**document, "projectPath": str(giver.folder)}
        answer = await self._send("PUT", giver, slug, put)
        phases = sum(len(milestone["phases"]) for milestone in document["milestones"])
        what = f"{len(document['milestones'])} milestones, {phases} phases"
        text = f"PUT {slug} ({what}) on {giver.name}, a {giver.role}: revision {answer['revision']}"
        self.screen.say("put", text, instance=giver.name, slug=slug, revision=answer["revision"])
        await self.arrive(self.mesh.instances, document)
        self._keep("carried", "the project is the same on all three, each with its own projectPath")

    async def arrive(self, instances: tuple[Instance, ...], document: dict[str, Any]) -> None:
        """Wait until these have exactly this document, each with its own root, in their APIs and workspaces."""
        start_s = trio.current_time()
        waiting = list(instances)
        async with client() as api:
            while waiting:
                for instance in tuple(waiting):
                    if await self._has(api, instance, document):
                        waiting.remove(instance)
                        self._say_arrived(instance, document["slug"], trio.current_time() - start_s)
                self.watch.check_alive()
                if waiting and trio.current_time() - start_s > CARRY_WITHIN_S:
                    names = ", ".join(instance.name for instance in waiting)
                    raise NotKept(f"not within {CARRY_WITHIN_S:.0f} s: {document['slug']} on {names}", waiting[0])
                await trio.sleep(LOOK_AGAIN_S)

    async def _has(self, api: httpx.AsyncClient, instance: Instance, document: dict[str, Any]) -> bool:
        expected = {**document, "projectPath": str(instance.folder)}
        slug = document["slug"]
        found = await _fetched(api, instance, slug), _read(instance.project_file(slug))
        return found == (expected, expected)

    def _say_arrived(self, instance: Instance, slug: str, after_s: float) -> None:
        file = instance.project_file(slug)
        shown = file.relative_to(self.mesh.folder)
        text = f"{instance.name} has it after {1000 * after_s:.0f} ms, in its API and in {shown}"
        self.screen.say("arrived", text, instance=instance.name, file=str(file), after=round(after_s, 3))

    def invite(self, slug: str) -> None:
        """Say what a person can try."""
        leader, _, last = self.mesh.instances
        jq = " | jq .sync" if shutil.which("jq") else ""
        program = _program()
        lines = (
            "try, while it runs:",
            f"curl -s {leader.url}/api/health/detailed{jq}",
            f"{program} members --url {last.url}",
            f"{program} projects show {slug} --url {last.url}",
            f"edit {last.project_file(slug)}, and see it change on the others",
        )
        self.screen.say("try", "\n".join(lines))

    async def pause(self, what_follows: str) -> None:
        """Leave a person time to look."""
        if self.pause_s:
            self.screen.say("next", f"in {self.pause_s:.0f} s {what_follows}")
        with trio.move_on_after(self.pause_s):
            await self.stay()

    async def stay(self) -> None:
        """Let the mesh run until cancelled. Raises `NotKept` when an instance ends by itself."""
        while True:
            self.watch.check_alive()
            await trio.sleep(LOOK_AGAIN_S)

    async def lose(self, victim: Instance) -> None:
        """Kill one the hard way and see what the others make of it."""
        leader, follower = self.mesh.others(victim)
        start_s = trio.current_time()
        await victim.kill()
        self.screen.say("killed", f"SIGKILL to {victim.name}: no goodbye, no flush", instance=victim.name)
        await self._notice(leader, victim, Status.SUSPECT, start_s, "its link closed without a goodbye")
        silence = f"silent for longer than its TTL of {PEER_TTL_MS / 1000:.0f} s"
        for other in (leader, follower):
            await self._notice(other, victim, Status.FAILED, start_s, silence)
        self._keep("noticed", f"the others go on without {victim.name}")

    async def _notice(self, other: Instance, victim: Instance, status: Status, start_s: float, why: str) -> None:
        """Wait until `other` holds the victim for `status`."""
        what = f"{other.name} sees {victim.name} as {status}"
        await self.watch.until(lambda: self.watch.sees(other, victim, status), NOTICE_WITHIN_S, what)
        after_s = trio.current_time() - start_s
        text = f"{what} ({status.shown}) after {after_s:.1f} s: {why}"
        self.screen.say(status, text, instance=victim.name, seen_by=other.name, after=round(after_s, 3))

    async def edit(self, editor: Instance, slug: str, patch: dict[str, Any], while_away: Instance) -> None:
        """Change the project while one is away."""
        answer = await self._send("PATCH", editor, slug, patch)
        what = ", ".join(f"{key} becomes {value}" for key, value in patch.items())
        text = f"PATCH {slug} on {editor.name} while {while_away.name} is away: {what}"
        self.screen.say("patched", text, instance=editor.name, slug=slug, revision=answer["revision"])

    async def bring_back(self, victim: Instance, document: dict[str, Any]) -> None:
        """Start it again and wait until it is online everywhere and has what it missed."""
        start_s = trio.current_time()
        await victim.start()
        self._say_started(victim, "starts again")
        await self.watch.until(self.watch.all_see_all, ANSWER_WITHIN_S, PROMISES["seen"])
        after_s = trio.current_time() - start_s
        text = f"{victim.name} is online again on every instance, {after_s:.1f} s after its start"
        self.screen.say("online", text, instance=victim.name, after=round(after_s, 3))
        await self.arrive((victim,), document)
        self._keep("returned", f"{victim.name} has what it missed")

    async def drain(self) -> None:
        """SIGTERM to all; wait for the end of each. Raises `NotKept` when one does not end well in time."""
        running = [instance for instance in self.mesh.instances if instance.is_running]
        if not running:
            return
        self.screen.say("draining", f"SIGTERM to {', '.join(instance.name for instance in running)}")
        with trio.move_on_after(DRAIN_WITHIN_S):
            async with trio.open_nursery() as nursery:
                for instance in running:
                    nursery.start_soon(self._drain, instance)
        for instance in running:
            if instance.is_running:
                raise NotKept(f"{instance.name} has not drained within {DRAIN_WITHIN_S:.0f} s", instance)
            if self._how_it_left(instance) == "ended":
                raise NotKept(f"{instance.name} did not drain well ({instance.ending})", instance)
        self._sum_up(running)

    async def _drain(self, instance: Instance) -> None:
        start_s = trio.current_time()
        code = await instance.drain()
        after_s = trio.current_time() - start_s
        text = f"{instance.name} {self._how_it_left(instance)} ({instance.ending}) after {after_s:.2f} s"
        self.screen.say("drained", text, instance=instance.name, exit_code=code, after=round(after_s, 3))

    def _how_it_left(self, instance: Instance) -> str:
        """What became of one that was asked to leave; nobody listens to SIGTERM in its first tenth of a second."""
        if self.watch.answers(instance):
            return "drained" if instance.ending == "exit code 0" else "ended"
        return "ended before it served" if instance.ending in ("exit code 0", "SIGTERM") else "ended"

    def _sum_up(self, asked: list[Instance]) -> None:
        """Say that all three drained, or how each ended."""
        endings = [self._how_it_left(instance) for instance in asked]
        if endings == ["drained"] * len(self.mesh.instances):
            self._keep("drained", "all three drained")
            return
        told = dict(zip([instance.name for instance in asked], endings, strict=True))
        for instance in self.mesh.instances:
            told.setdefault(
                instance.name, f"had ended already ({instance.ending})" if instance.process else "was not started"
            )
        self.screen.say("ended", ", ".join(f"{name} {ending}" for name, ending in told.items()))

    async def _send(self, method: str, instance: Instance, slug: str, body: dict[str, Any]) -> dict[str, Any]:
        """Write through one instance; returns its answer. Raises `NotKept` when it refused or ended."""
        try:
            async with client() as api:
                response = await api.request(method, instance.url + project_path(slug), json=body)
            answer: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError) as error:
            reason = f"gives no answer that can be read: {error!r}"
        else:
            if response.is_success:
                return answer
            reason = f"refused: {answer.get('code')}: {answer.get('detail')}"
        await trio.sleep(LOOK_AGAIN_S)  # for the news of its end, if that is why
        self.watch.check_alive()
        raise NotKept(f"{instance.name} {reason}", instance)

    def _keep(self, promise: str, text: str) -> None:
        self.kept.append(promise)
        self.screen.say("kept", text, promise=promise)


async def _fetched(api: httpx.AsyncClient, instance: Instance, slug: str) -> Any:
    """The document, or None while there is none."""
    try:
        response = await api.get(instance.url + project_path(slug))
        return response.json() if response.is_success else None
    except (httpx.HTTPError, ValueError):
        return None


def _read(file: Path) -> Any:
    """What the workspace shows, or None while it shows nothing."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None


def _program() -> str:
    """What to type to call this meshd, as short as it can be."""
    if shutil.which("meshd"):
        return "meshd"
    beside, here = Path(sys.executable).with_name("meshd"), Path.cwd()
    if not beside.exists():
        return f"{shlex.quote(sys.executable)} -m meshd"
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))
