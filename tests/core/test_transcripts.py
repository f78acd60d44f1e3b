"""Named scenarios as text: `tests/transcripts/*.txt`, each a conversation of what happens and what the mesh does.

A transcript is a row of steps. A step is lines of inputs, `----`, and the effects that follow, up to an empty line;
without `----` nobody looks at the effects. `#` begins a comment. Inputs, times in seconds, TTL 12 and heartbeat 3; a
claim lasts 30, its lock delay 5, intake looks every 10:

    mesh 3 [failover=..] [failback=..] [primary=dev-01|none] [witness=dev-03]
           [work=dev-02,dev-03] [partitioned=continue]    those that work have a command, for one phase at a time
    start|crash|drain|swallow NAME..     swallow: its links stay open, nothing arrives, until `heal`
    wait SECONDS | stall NAME SECONDS
    cut NAME.. | NAME..                  no way between the groups; `heal` ends it
    deaf NAME NAME                       what the first says does not reach the second; `hear NAME NAME` ends it
    break NAME NAME                      the links between the two break
    dial NAME NAME                       the first opens a link to the second, whether it has one or not
    end NAME NAME                        the oldest link between the two ends
    write NAME SLUG KEY=VALUE..
    plan NAME PHASE..                    a project with these phases; PHASE<OTHER depends on the other
    end PHASE done|failed on NAME        the command that works on it there ends by itself
    busy NAME | idle NAME                claims nothing new, or does again
    lose KIND.. | find                   messages of these kinds are lost on their way, until `find`
    promote NAME [on NAME] | step-down NAME
    ask NAME for NAME term=N [pre=yes] [transfer=NAME]    the first is asked to vote for the second
    backup NAME | restore NAME           a copy of the disk; the host is down when it is put back
    show roles|members NAME|documents|queue|links|votes|claims|work

An effect is `SECONDS NAME: what`, with the seconds since the step began: events, warnings and what the specification's
runbook looks for in the log, links that are refused, answers to people.

`python -m tests.core.test_transcripts` writes the effects anew, to be read before they are committed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from attrs import define, evolve, field

from meshd.core import effects, inputs, messages
from meshd.core.effects import Effect, Level
from meshd.core.handshake import GOING_AWAY
from meshd.core.inputs import Outcome
from meshd.model import JsonObject
from tests.core.boards import milestone, phase, project
from tests.core.electorate import leadership
from tests.core.mesh import ABNORMAL, Disk, Host, url_of
from tests.core.workforce import INTAKE, Run, Workforce, equipped

FOLDER = Path(__file__).parent.parent / "transcripts"
FILES = sorted(FOLDER.glob("*.txt"))
SHOWN = (
    "instanceId",
    "projectSlug",
    "leader",
    "term",
    "cause",
    "primary",
    "steppedDown",
    "replayed",
    "code",
    "subject",
    "phaseSlug",
    "holder",
    "kept",
    "released",
    "outcome",
)
KINDS: dict[str, type[messages.Message]] = {
    "changes": messages.Changes,
    "decisions": messages.Decision,
    "stored": messages.ProposalStored,
}
"""What of an event's payload a reader wants to see."""


def words(line: str) -> tuple[list[str], dict[str, str]]:
    """The words of an input, those with `=` apart."""
    plain = [word for word in line.split() if "=" not in word]
    return plain, dict(word.split("=", 1) for word in line.split() if "=" in word)


@define(eq=False)
class Stage(Workforce):
    """A mesh that writes down what it does."""

    lines: list[str] = field(factory=list)
    begun_s: float = 0.0
    backups: dict[str, Disk] = field(factory=dict)

    def play(self, inputs_: list[str]) -> list[str]:
        """One step: what happens, and what follows."""
        self.lines, self.begun_s = [], self.mono_s
        for line in inputs_:
            self.act(line)
            self.settle()
        return self.lines

    def step(self, host: Host, happened: inputs.Input) -> list[Effect]:
        answer = super().step(host, happened)
        for effect in answer:
            for text in told(effect):
                self.tell(f"{host.name}: {text}")
        return answer

    def tell(self, text: str) -> None:
        self.lines.append(f"{self.mono_s - self.begun_s:.1f} {text}")

    def act(self, line: str) -> None:
        (verb, *names), options = words(line)
        hosts = [self.hosts[name] for name in names if name in self.hosts]
        match verb:
            case "start" | "crash" | "drain" | "swallow":
                for host in list(self.hosts.values()) if names == ["all"] else hosts:
                    getattr(self, verb)(host)
            case "wait":
                self.advance(float(names[0]))
            case "stall":
                self.stall(hosts[0], float(names[1]))
            case "cut":
                groups = [group.split() for group in line.removeprefix("cut").split("|")]
                self.split(*([int(name[-2:]) for name in group] for group in groups))
            case "heal":
                self.heal()
            case "deaf":
                self.unheard(*hosts)
            case "hear":
                self.deaf.discard((names[0], names[1]))
            case "break":
                self.reset(*hosts)
            case "dial":
                self._dial(hosts[0], url_of(names[1]))
            case "end" if len(hosts) == 2:
                self.end_oldest(*hosts)
            case "backup":
                self.backups[names[0]] = copy.deepcopy(hosts[0].disk)
            case "restore":
                hosts[0].disk = self.backups[names[0]]
            case "show":
                self.show(*names)
            case _:
                self.told_by_people(verb, hosts, names, options)

    def told_by_people(self, verb: str, hosts: list[Host], names: list[str], options: dict[str, str]) -> None:
        """What people and candidates ask for."""
        match verb:
            case "write":
                document: JsonObject = dict(options)
                exists = self.document(hosts[0], names[1]) is not None
                self.answered(hosts[0], (self.patch if exists else self.put)(hosts[0], names[1], document))
            case "promote":
                self.step(hosts[-1], inputs.PromoteInstance(1, names[0]))
                self.answered(hosts[-1], hosts[-1].replies[-1])
            case "step-down":
                self.step(hosts[0], inputs.StepDown(1))
                self.answered(hosts[0], hosts[0].replies[-1])
            case "ask":
                self.ask(hosts[0], hosts[1], options)
            case "plan":
                listed = [name.split("<") for name in names[1:]]
                self.answered(
                    hosts[0], self.put(hosts[0], "site", project(milestone("m", *(phase(*n) for n in listed))))
                )
            case "busy" | "idle":
                self.step(hosts[0], inputs.SetDraining(1, is_draining=verb == "busy"))
            case "lose":
                self.carry = partial(lost, tuple(KINDS[name] for name in names))
            case "find":
                self.carry = lambda message: message
            case "end":
                self.end_work(names[0], names[1], hosts[0])
            case _:
                raise AssertionError(f"no such input: {verb}")

    def answered(self, host: Host, outcome: effects.Accepted | effects.Rejected) -> None:
        text = "accepted" if isinstance(outcome, effects.Accepted) else f"rejected {outcome.code}: {outcome.detail}"
        self.tell(f"{host.name}: {text}")

    def ask(self, voter: Host, candidate: Host, options: dict[str, str]) -> None:
        """A candidate's question, over a link of its own; the answer and what was saved for it."""
        assert candidate.node
        number = 1000
        super().step(voter, inputs.LinkUp(number, f"{candidate.name}:50000"))
        super().step(voter, inputs.Received(number, candidate.node._portrait.identity(self.now(candidate))))
        request = messages.VoteRequest(
            int(options["term"]),
            candidate.name,
            candidate.configuration.priority or 0,
            options.get("pre") == "yes",
            leadership(voter).voter.peers_hash,
            options.get("transfer"),
        )
        answer = super().step(voter, inputs.Received(number, request))
        super().step(voter, inputs.LinkDown(number, ABNORMAL))
        for effect in answer:
            match effect:
                case effects.Persist(effects.SaveBallot(ballot)):
                    self.tell(f"{voter.name}: saves term {ballot.term}, vote for {ballot.vote}")
                case effects.Send(_, messages.Vote(term, _, granted, reason)):
                    self.tell(f"{voter.name}: term {term}, {'granted' if granted else reason}")

    def end_work(self, name: str, outcome: str, host: Host) -> None:
        of_it = (run for run in self.runs if run.feature.phase == name and run.host == host.name)
        run = next(run for run in of_it if run.ended_s is None)
        self._ended(run, Outcome(outcome), outcome, error="it does not compile" if outcome == "failed" else None)

    def _mark(self, run: Run, why: str) -> None:
        super()._mark(run, why)
        self.tell(f"{run.host}: work on {run.feature.phase} ends: {why}")

    def end_oldest(self, one: Host, other: Host) -> None:
        number = min(number for number, pipe in one.pipes.items() if other in pipe.ends)
        self._end(one.pipes[number], ABNORMAL, "connection reset")

    def show(self, what: str, *names: str) -> None:
        for host in [self.hosts[name] for name in names] or self.alive():
            self.tell(f"{host.name}: {self.shown(what, host)}")

    def shown(self, what: str, host: Host) -> str:
        snapshot, lead = self.snapshot(host), leadership(host)
        match what:
            case "roles":
                decides = "decides" if self.decides(host) is not None else "decides nothing"
                follows = f"follows {lead.primary_id}" if lead.primary_link is not None else "follows nobody"
                return f"{lead.role} in term {lead.term}, {decides if lead.is_primary else follows}"
            case "members":
                return ", ".join(f"{name} {status.shown}" for name, status in sorted(self.statuses(host).items()))
            case "documents":
                return " ".join(f"{slug} {self.document(host, slug)}" for slug in sorted(snapshot.documents)) or "none"
            case "queue":
                return f"{snapshot.queued_changes} queued"
            case "links":
                return f"{len(host.pipes)} links"
        return self.shown_further(what, host)

    def shown_further(self, what: str, host: Host) -> str:
        assert what in ("votes", "claims", "work"), f"nothing to show: {what}"
        if what == "votes":
            return f"term {host.disk.ballot.term}, vote for {host.disk.ballot.vote}"
        if what == "work":
            works = [run.feature.phase for run in self.runs if run.ended_s is None and run.host == host.name]
            return f"works on {', '.join(works) or 'nothing'}"
        claims = ((each.name, each.claim) for each in self.work(host).ledger.board.claimable_order())
        said = [f"{name} {claim.holder} {claim.status} {claim.generation}" for name, claim in claims if claim]
        return ", ".join(said) or "no claims"


def lost(kinds: tuple[type[messages.Message], ...], message: messages.Message) -> messages.Message:
    """What arrives of a message when those of these kinds are lost."""
    return messages.Ignored("lost") if isinstance(message, kinds) else message


def told(effect: Effect) -> Iterator[str]:
    """What a transcript says of an effect; nothing of most."""
    match effect:
        case effects.Emit(kind, payload):
            yield " ".join([f"event {kind}", *(f"{key}={payload[key]}" for key in SHOWN if payload.get(key))])
        case effects.Note(level, text) if level == Level.WARNING or text.startswith("Partition"):
            if not text.startswith("cannot reach"):  # an error is an alert, whose event is shown
                yield f"log {text}"
        case effects.StartWork(feature):
            yield f"begins to work on {feature.phase}, generation {feature.generation}"
        case effects.StopWork(_, reason):
            yield f"stops its work: {reason}"
        case effects.HangUp(_, code, reason) if code != GOING_AWAY:
            yield f"hangs up with {code} {reason}"


@define
class Scenario:
    """A transcript taken apart: for each step its comments and inputs, and its effects if somebody looks at them."""

    steps: list[tuple[list[str], list[str] | None]]

    @classmethod
    def read(cls, text: str) -> Scenario:
        steps: list[tuple[list[str], list[str] | None]] = []
        for block in text.strip().split("\n\n"):
            asked, bar, expected = block.partition("\n----")
            steps.append((asked.splitlines(), expected.strip().splitlines() if bar else None))
        return cls(steps)

    def play(self) -> Scenario:
        """The same with the effects that the mesh has."""
        stage = Stage()
        steps: list[tuple[list[str], list[str] | None]] = []
        for asked, expected in self.steps:
            acts = [line for line in asked if not line.startswith("#")]
            if acts and acts[0].startswith("mesh"):
                stage, acts = a_stage(acts[0]), acts[1:]
            actual = stage.play(acts)
            steps.append((asked, None if expected is None else actual))
            stage.safe()
        return Scenario(steps)

    def text(self) -> str:
        blocks = [asked if expected is None else [*asked, "----", *expected] for asked, expected in self.steps]
        return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def a_stage(line: str) -> Stage:
    (_, count), options = words(line)
    primary = options.get("primary", "dev-01")
    stage = Stage.of(
        int(count),
        failover=options.get("failover", "auto"),
        failback=options.get("failback", "manual"),
        configured_primary=None if primary == "none" else primary,
        witnesses=options.get("witness", "").split(),
    )
    assert isinstance(stage, Stage)
    if "work" in options:
        intake = evolve(INTAKE, when_partitioned=options.get("partitioned", "pause"))
        for host in stage.hosts.values():
            host.configuration = equipped(host.configuration, host.name in options["work"].split(","), intake)
    return stage


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_mesh_does_what_the_transcript_says(file: Path) -> None:
    scenario = Scenario.read(file.read_text())
    for (asked, expected), (_, actual) in zip(scenario.steps, scenario.play().steps, strict=True):
        assert actual == expected, "\n".join(asked)


def test_there_is_one_for_each_named_scenario() -> None:
    """The runbook's, and the design's directed ones."""
    named = {"split-brain", "stuck-peer", *(f"{letter}-" for letter in "abcdefghijklmno")}
    stems = [file.stem for file in FILES]
    assert [name for name in sorted(named) if not any(stem.startswith(name) for stem in stems)] == []


def test_a_transcript_is_written_as_it_is_read() -> None:
    for file in FILES:
        assert Scenario.read(file.read_text()).text() == file.read_text()


if __name__ == "__main__":
    for file in FILES:
        file.write_text(Scenario.read(file.read_text()).play().text())
