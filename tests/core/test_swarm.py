"""A small mesh under random faults: when they stop, all are of one mind and nothing accepted is lost."""

from __future__ import annotations

from random import Random

import pytest

from meshd import wire
from meshd.core import inputs
from meshd.core.documents import Document, merge
from meshd.model import JsonObject, Role, Status
from tests.core.mesh import Host, Mesh, configuration

QUIET_S = 160.0
"""Voters that were restarted wait for the TTL of 120 s, and 10 s of grace, for whom they followed; 15 s for who goes
first; and a round of dials."""


def scramble(mesh: Mesh, chance: Random, hosts: list[Host], accepted: list[Document]) -> None:
    """One thing that goes wrong, or one edit; `accepted` takes what an edit left on its host's disk."""
    host, other = chance.sample(hosts, 2)
    match chance.randrange(12):
        case 0:
            mesh.part(host, other)
        case 1 | 2:
            mesh.join(host, other)
        case 3 if host.node:
            mesh.crash(host)
        case 4 if host.node:
            mesh.drain(host)
        case 5 if host.node:
            host.power_cut = chance.choice(["before persisting", "after persisting"])
        case 6:
            mesh.advance(chance.choice([0.1, 3, 40, 130]))
        case 7 if host.node is None:
            mesh.start(host)
        case 8:
            for _ in range(chance.randrange(6)):
                mesh.deliver()
        case _ if host.node:
            slug = chance.choice(["one", "two", "three"])
            document: JsonObject = {"title": chance.random(), "milestones": [{"slug": chance.choice("ab")}]}
            commands: list[inputs.Command] = [
                inputs.PutProject(1, slug, document),
                inputs.PatchProject(1, slug, {chance.choice("abc"): chance.random()}),
                inputs.DeleteProject(1, slug),
            ]
            mesh.step(host, chance.choice(commands))
            accepted += host.disk.documents.values()


@pytest.mark.parametrize("seed", range(60))
def test_when_faults_stop_all_are_of_one_mind(seed: int) -> None:
    """Random edits, partitions, crashes and drains; then quiet: documents and member tables are equal everywhere."""
    chance = Random(seed)
    names = [f"dev-{number:02}" for number in range(1, chance.choice([3, 4, 5]) + 1)]
    mesh = Mesh(choose=chance.randrange)
    mesh.carry = lambda message: wire.decode(wire.encode(message).decode())
    roles = {names[0]: Role.PRIMARY}
    hosts = [mesh.add(configuration(name, role=roles.get(name, Role.WORKER), peers=names)) for name in names]
    for host in hosts:
        host.wall_shift_ms = chance.randrange(-100_000, 100_000)
        mesh.start(host)
    accepted: list[Document] = []
    for _ in range(80):
        scramble(mesh, chance, hosts, accepted)
    mesh.cut.clear()
    for host in hosts:
        host.power_cut = None
        if host.node is None:
            mesh.start(host)
    mesh.advance(QUIET_S)
    assert len({mesh.snapshot(host).root for host in hosts}) == 1
    for slug in ("one", "two", "three"):
        assert len({repr(mesh.document(host, slug)) for host in hosts}) == 1
    final = mesh.snapshot(hosts[0]).documents
    for document in accepted:
        assert merge(final[document.slug], document) is final[document.slug], "nothing that was accepted is lost"
    (leader,) = [host for host in hosts if mesh.snapshot(host).role is Role.PRIMARY]
    for host in hosts:
        assert (mesh.snapshot(host).primary_id, mesh.snapshot(host).term) == (leader.name, mesh.snapshot(leader).term)
        revisions = [event.payload["revision"] for event in host.told if event.type.startswith("project:")]
        assert len(set(revisions)) == len(revisions), "no event is emitted twice"
        assert mesh.statuses(host) == {name: Status.ALIVE for name in names if name != host.name}
        assert mesh.snapshot(host).queued_changes == 0
        assert host.disk.documents == dict(mesh.snapshot(host).documents)
        assert {slug: document for slug, document in host.files.items() if document.ended is None} == {
            slug: document for slug, document in host.disk.documents.items() if document.ended is None
        }
