"""A phase and its claims, for tests of how they are written and heard."""

from __future__ import annotations

from meshd.core import effects
from meshd.core.claim import Claim, ClaimStatus, claim_of
from meshd.core.news import ClaimMet
from meshd.core.phases import Place
from meshd.model import Dialect, JsonObject
from meshd.project import claim_path
from tests.core.mesh import Host, Mesh, check_order

PLACE: Place = ("site", "m", "p")
PATH = claim_path("m", "p")
SITE: JsonObject = {"slug": "site", "milestones": [{"slug": "m", "phases": [{"name": "p"}, {"name": "q"}]}]}


def claim(
    generation: int = 1,
    status: ClaimStatus = ClaimStatus.CLAIMED,
    *,
    id: str = "b-1",  # noqa: A002  the field's name
    holder: str = "dev-02",
    note: str | None = None,
    retry_ms: int | None = None,
) -> Claim:
    return Claim(generation, id, holder, int(holder[-1]), status, 1, note=note, retry_ms=retry_ms)


def write(mesh: Mesh, host: Host, what: Claim, place: Place = PLACE) -> list[ClaimMet]:
    """The host writes a claim, and what follows is done; returns what it is told of claims."""
    node = host.node
    assert node is not None
    now, replication = mesh.now(host), node._replication
    replication.news.clear()
    written = replication.write_claim(place, what, node._handshake.links(Dialect.NATIVE), now)
    answer = list(node._events.numbered(written, now))
    check_order(answer)
    assert not any(isinstance(effect, effects.Reply) for effect in answer)
    for effect in answer:
        if isinstance(effect, effects.Persist):
            host.disk.write(effect.record)
    for effect in answer:
        mesh._perform(host, effect)
    return replication.news.claims


def held(mesh: Mesh, host: Host) -> Claim | None:
    """How the phase's claim stands."""
    register = mesh.snapshot(host).documents["site"].registers.get(PATH)
    return claim_of(register.value) if register else None
