"""What applications and people do meanwhile: edits of a few documents, settings, lost conflicts, another primary."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from meshd.core import categories
from meshd.core.inputs import (
    DeleteProject,
    PatchProject,
    PatchSettings,
    PromoteInstance,
    PutProject,
    PutSettings,
    StepDown,
    TakeConflict,
)
from meshd.model import Json, JsonObject, Role
from meshd.simulation import agents
from meshd.simulation.invariants import SECRET

if TYPE_CHECKING:
    from meshd.simulation.host import Host
    from meshd.simulation.world import World

SLUGS = ("atlas", "borealis", "cygnus", "draco")
EDIT_EVERY_S = 30.0
LOOK_EVERY_S = 45.0
WORK_AFTER_S = 60.0


def begin(world: World, until_s: float) -> None:
    """Give the agents a project, then edit now and then, in bursts, until then."""
    host = world.hosts[0]
    if host.configuration.agents.command:
        document = agents.project(world.chance)
        world.at_host(
            WORK_AFTER_S, host, world.command, host, lambda number: PutProject(number, agents.PROJECT, document)
        )
    edit(world, until_s)


def edit(world: World, until_s: float) -> None:
    """An edit after a while."""
    pause_s = world.chance.expovariate(1 / EDIT_EVERY_S)
    if world.now_s + pause_s < until_s:
        world.at(world.now_s + pause_s, _edit, world, until_s)


def _edit(world: World, until_s: float) -> None:
    host = world.chance.choice(world.hosts)
    for _ in range(world.chance.choice([1, 1, 1, 4])):
        _command(world, host)
    edit(world, until_s)


def _command(world: World, host: Host) -> None:
    chance = world.chance
    slug = chance.choice(SLUGS)
    kind = chance.random()
    if kind < 0.35:
        document = _document(chance)
        world.command(host, lambda number: PutProject(number, slug, document))
    elif kind < 0.75:
        patch: Json = {chance.choice("abcde"): chance.randrange(1000)}
        world.command(host, lambda number: PatchProject(number, slug, patch))
    elif kind < 0.85:
        world.command(host, lambda number: DeleteProject(number, slug))
    elif kind < 0.88:
        names = categories.wanted([chance.choice(SLUGS), "core"])
        world.command(host, lambda number: PutProject(number, categories.SLUG, names))
    elif kind < 0.92:
        _take_back(world, host)
    elif kind < 0.95:
        _another_primary(world, host)
    else:
        _settings(world, host)


def _document(chance: Random) -> JsonObject:
    phases: list[Json] = [{"name": name, "title": f"{chance.randrange(100)}"} for name in chance.sample("xyz", 2)]
    milestones: list[Json] = [{"slug": chance.choice("mn"), "phases": phases}]
    status = chance.choice(["active", "active", "paused"])
    return {"title": f"title {chance.randrange(1000)}", "status": status, "milestones": milestones}


def _take_back(world: World, host: Host) -> None:
    kept = list(host.disk.conflicts.values())
    if kept:
        lost = world.chance.choice(kept)
        take = world.chance.random() < 0.5
        world.command(host, lambda number: TakeConflict(number, lost.slug, lost.id, take=take))


def _another_primary(world: World, host: Host) -> None:
    """A person promotes somebody, from wherever, or lets whoever is asked step down."""
    if world.chance.random() < 0.3:
        world.command(host, StepDown)
    else:
        name = world.chance.choice(world.hosts).name
        world.command(host, lambda number: PromoteInstance(number, name))


def see_to_a_primary(world: World) -> None:
    """Where nobody promotes itself, a person looks who leads until somebody does, and has the first one lead."""
    if world.configurations[0].hivemind.failover != "manual":
        return
    first = world.hosts[0]
    if all(host.node is None or host.node.snapshot(world.now(host)).role is Role.WORKER for host in world.hosts):
        world.command(first, PromoteInstance)
    world.at(world.now_s + LOOK_EVERY_S, see_to_a_primary, world)


def _settings(world: World, host: Host) -> None:
    """Settings of all hosts or of one; a credential, which is refused; what one host keeps for itself."""
    chance = world.chance
    value = chance.randrange(1, 100)
    choice = chance.randrange(4)
    if choice == 0:
        world.command(host, lambda number: PutSettings(number, "local", {"defaultModel": SECRET}))
    elif choice == 1:
        world.command(host, lambda number: PatchSettings(number, "shared", {"apiKey": SECRET}))
    else:
        world.command(host, lambda number: PatchSettings(number, "shared", {"maxTurns": value}))
