"""What a demo tells, step by step; each step waits until what it promises has happened, or says that it has not."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import httpx
import trio
from attrs import define, field

from meshd.cli.client import project_path
from meshd.cli.demo import witness
from meshd.cli.demo.instances import CLAIM_TIMEOUT_MS, LOCK_DELAY_MS, LOOK_AGAIN_S, PEER_TTL_MS, Instance, Mesh, is_free
from meshd.cli.demo.progress import Phase, changed, unclaimed
from meshd.cli.demo.screen import Screen
from meshd.cli.demo.watch import NotKept, Watch, client, fetched
from meshd.cli.demo.witness import Run
from meshd.model import Status

# What has to have happened for a demo to be a success, in the order in which it happens.
PROMISES = {
    "seen": "every instance sees the other two",
    "carried": "a project put on a worker is on every instance, in its API and in its workspace",
    "led": "when the primary is killed another one leads",
    "reclaimed": "what the dead one worked on goes to another, after its claim timeout and not before",
    "returned": "the dead one rejoins, and knows what it missed",
    "worked": "every phase is done once, after what it depends on, by an instance that it suits",
    "given-up": "a phase that always fails is tried again, and then waits for a person and says why",
    "equal": "in the end the project is the same on all three",
    "drained": "everybody drains, with exit code 0",
}

LOSABLE = ("01-collect/state-of-a-service", "01-collect/history-of-a-service")
"""The phases in which the primary may die: the longest, begun at once by the two instances that they suit."""

ANSWER_WITHIN_S = 30.0  # a slow host starts three interpreters at once
SEE_WITHIN_S = 20.0
CARRY_WITHIN_S = 10.0
WORK_WITHIN_S = 20.0
NOTICE_WITHIN_S = 4 * PEER_TTL_MS / 1000
LEFT_FOR_S = (CLAIM_TIMEOUT_MS + LOCK_DELAY_MS) / 1000  # so long the new primary leaves a dead holder what it had
RECLAIM_WITHIN_S = 4 * LEFT_FOR_S
SETTLE_WITHIN_S = 40.0
DRAIN_WITHIN_S = 15.0  # three times the default of drain.graceMs
START_ATTEMPTS = 3


def sample_project() -> dict[str, Any]:
    """The project that the demo shares and works on."""
    document: dict[str, Any] = json.loads(Path(__file__).parent.with_name("sample_project.json").read_bytes())
    return document


@define(eq=False)
class Story:
    """One telling. `kept` collects the promises that came true; `phases` and `leader` are as they were last told of."""

    mesh: Mesh
    watch: Watch
    screen: Screen
    kept: list[str] = field(factory=list)
    phases: list[Phase] = field(factory=list)
    leader: Instance | None = None

    @property
    def viewer(self) -> Instance:
        """The instance whose view of the phases is shown: a worker, so that what is seen has travelled."""
        return self.mesh.instances[1]

    async def tell(self) -> None:
        """Everything up to the point where only the tables are left to look at. Raises `NotKept`."""
        document = sample_project()
        victim = self.mesh.instances[0]
        await self.begin()
        await self.see()
        await self.carry(self.viewer, document)
        run = await self.wait_for_work(victim)
        death_s = await self.lose(victim, run)
        await self.reclaim(victim, run, death_s)
        await self.bring_back(victim, run)
        await self.finish()
        await self.compare()
        self.invite(document["slug"])

    async def narrate(self) -> NoReturn:
        """Tell each change of a phase and of who leads, as they are seen."""
        while True:
            seen = self.watch.phases(self.viewer)
            for phase in changed(self.phases, seen):
                claim = {"status": phase.status, "holder": phase.holder, "generation": phase.generation}
                result = {"pr_url": phase.pr_url, "error": phase.error}
                self.screen.say("phase", phase.line, phase=phase.place, **claim, **result)
            self.phases = seen or self.phases
            found = self.watch.leader()
            if found is not None and found is not self.leader:
                self.screen.say("leads", f"{found.name} leads", instance=found.name)
            self.leader = found or self.leader
            await trio.sleep(LOOK_AGAIN_S)

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
        takes = ", ".join(instance.takes)
        text = f"{instance.name} (takes {takes}) {verb} at {instance.url}, process {instance.process.pid}"
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
        """Wait until these have what the document says, beside claims, each with its own root, in API and workspace."""
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
        return all(one is not None and unclaimed(one) == expected for one in found)

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

    async def stay(self) -> None:
        """Let the mesh run until cancelled. Raises `NotKept` when an instance ends by itself."""
        while True:
            self.watch.check_alive()
            await trio.sleep(LOOK_AGAIN_S)

    async def wait_for_work(self, leader: Instance) -> Run:
        """Wait until the primary works on a phase that it may be killed in; returns that run."""
        what = f"{leader.name} leads, and works on {' or '.join(LOSABLE)}"
        await self.watch.until(lambda: bool(self._losable(leader)), WORK_WITHIN_S, what)
        return self._losable(leader)[0]

    def _losable(self, leader: Instance) -> list[Run]:
        held = {phase.place for phase in self.phases if phase.is_held and phase.holder == leader.name}
        if self.leader is not leader or held.isdisjoint(LOSABLE):
            return []
        return [run for run in self._runs() if run.instance == leader.name and run.phase in held.intersection(LOSABLE)]

    def _runs(self) -> list[Run]:
        return witness.runs(self.mesh.diary)

    async def lose(self, victim: Instance, run: Run) -> float:
        """Kill the primary in the middle of its work, and see that another leads; returns when it was killed."""
        others = self.mesh.others(victim)
        start_s = trio.current_time()
        await victim.kill()
        text = f"SIGKILL to {victim.name}, the primary, while it works on {run.name}: no goodbye, no flush"
        self.screen.say("killed", text, instance=victim.name, phase=run.phase, generation=run.generation)
        await self._notice(others[0], victim, Status.SUSPECT, start_s, "its link closed without a goodbye")
        await self.watch.until(lambda: self.leader in others, NOTICE_WITHIN_S, PROMISES["led"])
        after_s = trio.current_time() - start_s
        self._keep("led", f"another one leads {after_s:.1f} s after its death, with a TTL of {PEER_TTL_MS / 1000:g} s")
        return start_s

    async def _notice(self, other: Instance, victim: Instance, status: Status, start_s: float, why: str) -> None:
        """Wait until `other` holds the victim for `status`."""
        what = f"{other.name} sees {victim.name} as {status}"
        await self.watch.until(lambda: self.watch.sees(other, victim, status), NOTICE_WITHIN_S, what)
        after_s = trio.current_time() - start_s
        text = f"{what} ({status.shown}) after {after_s:.1f} s: {why}"
        self.screen.say(status, text, instance=victim.name, seen_by=other.name, after=round(after_s, 3))

    async def reclaim(self, victim: Instance, run: Run, death_s: float) -> None:
        """Wait until another one has what the victim worked on. Raises `NotKept` also when that is too soon."""
        await self.watch.until(lambda: self._heir(run) is not None, RECLAIM_WITHIN_S, PROMISES["reclaimed"])
        heir = self._heir(run)
        assert heir is not None, "a phase keeps its generation"
        after_s = trio.current_time() - death_s
        if after_s < LEFT_FOR_S:
            raise NotKept(f"{heir.name} was taken from {victim.name} {after_s:.1f} s after its death")
        text = f"{heir.name} goes to {heir.holder} {after_s:.1f} s after the death of {victim.name}"
        self._keep("reclaimed", f"{text}: the new primary left it alone for {LEFT_FOR_S:g} s")

    def _heir(self, run: Run) -> Phase | None:
        """The phase of this run once somebody holds it in a later generation."""
        for phase in self.phases:
            if phase.place == run.phase and phase.generation > run.generation and phase.holder:
                return phase
        return None

    async def bring_back(self, victim: Instance, run: Run) -> None:
        """Start it again, and wait until it is online everywhere and knows that its work is another's."""
        start_s = trio.current_time()
        await victim.start()
        self._say_started(victim, "starts again")
        await self.watch.until(self.watch.all_see_all, ANSWER_WITHIN_S, PROMISES["seen"])
        after_s = trio.current_time() - start_s
        text = f"{victim.name} is online again on every instance, {after_s:.1f} s after its start"
        self.screen.say("online", text, instance=victim.name, after=round(after_s, 3))
        await self.watch.until(lambda: self._knows(victim, run), CARRY_WITHIN_S, PROMISES["returned"])
        self._keep("returned", f"{victim.name} knows that {run.name} is no longer its own")

    def _knows(self, instance: Instance, run: Run) -> bool:
        return any(
            phase.place == run.phase and phase.generation > run.generation for phase in self.watch.phases(instance)
        )

    async def finish(self) -> None:
        """Wait until nothing is left to do, and hold what the agents wrote down against what was promised."""
        await self.watch.until(self._is_settled, SETTLE_WITHIN_S, "every phase is done or has failed")
        phases, runs = self.phases, self._runs()
        if faults := witness.faults(phases, runs, self.mesh.instances):
            raise NotKept("\n".join(["the agents did what they should not:", *faults]))
        shares = Counter(run.instance for run in runs if run.result == "done")
        told = ", ".join(f"{shares[instance.name]} by {instance.name}" for instance in self.mesh.instances)
        self._keep(
            "worked", f"{shares.total()} phases were done once each, in order, as their agents wrote down: {told}"
        )
        for phase in phases:
            if phase.status == "failed":
                text = f"{phase.name} failed {phase.attempts} times and waits for a person: {phase.error}"
                self._keep("given-up", text)

    def _is_settled(self) -> bool:
        return bool(self.phases) and all(phase.is_settled for phase in self.phases)

    async def compare(self) -> None:
        """Wait until all three have the same document, claims and all, in their APIs and workspaces."""
        await self.watch.until(self.is_equal, CARRY_WITHIN_S, PROMISES["equal"])
        self._keep("equal", "the project, with all that was done, is the same on all three, in API and workspace")

    def is_equal(self) -> bool:
        """Whether all APIs and workspaces show the same document, but for the local root."""
        documents = []
        for instance in self.mesh.instances:
            sight = self.watch.sights.get(instance.name)
            documents += [sight.document if sight else None, _read(instance.project_file(self.watch.slug))]
        bare = [document and {**document, "projectPath": ""} for document in documents]
        return bare[0] is not None and all(document == bare[0] for document in bare)

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


async def _fetched(api: httpx.AsyncClient, instance: Instance, slug: str) -> dict[str, Any] | None:
    """The document, or None also while nobody answers."""
    try:
        return await fetched(api, instance, slug)
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
