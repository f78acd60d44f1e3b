"""What meshes there are: the configurations of one, drawn from the seed, and the time that it needs to come to rest."""

from __future__ import annotations

from random import Random

from attrs import evolve, frozen

from meshd.configuration import Compaction, Configuration, Hivemind, Outbox, Protolab
from meshd.model import Role

DAY_MS = 86_400_000
VARIANTS = "variant 13003 of "
"""Before a seed's number, the seed of its variant: one by which all of tests/simulation/seeds.txt stay plain."""


@frozen
class Variant:
    """What some meshes have and most have not.

    `failover` as in the configuration. `has_backups`: databases are restored from backups. `is_hurried`: the TTL is
    shorter than the time after which a connection that is silent one way is given up.
    """

    failover: str = "auto"
    has_backups: bool = False
    is_hurried: bool = False


PLAIN = Variant()


def variant(seed: int) -> Variant:
    """What the mesh of a seed is like: drawn by a generator of its own, so that a plain one is the same run anyway."""
    chance = Random(f"{VARIANTS}{seed}")
    failover = chance.choices(["auto", "priority", "manual"], [17, 2, 1])[0]
    return Variant(failover, has_backups=chance.random() < 0.25, is_hurried=chance.random() < 0.08)


def url_of(name: str) -> str:
    return f"ws://{name}:4444"


def draw(chance: Random, nodes: int, like: Variant = PLAIN) -> list[Configuration]:
    """The configurations of a mesh of `nodes` instances: one `peers` for all, mostly the specification's times."""
    names = [f"dev-{number:02}" for number in range(1, nodes + 1)]
    failback = chance.choice(["auto", "auto", "manual"])
    hivemind = Hivemind(enabled=True, peers=tuple(map(url_of, names)), failover=like.failover, failback=failback)
    if like.is_hurried:
        hivemind = evolve(hivemind, heartbeat_interval_ms=3000, peer_ttl_ms=12_000)
    witness = chance.choice([None, None, nodes - 1]) if nodes > 2 else None
    retention_ms = chance.choice([7 * DAY_MS, 7 * DAY_MS, 600_000])
    return [
        Configuration(
            name="protoMaker",
            protolab=Protolab(
                enabled=True,
                role=Role.WORKER if index else Role.PRIMARY,
                instance_id=name,
                instance_url=url_of(name),
            ),
            hivemind=evolve(hivemind, leader_eligible=index != witness),
            outbox=Outbox(max_changes=chance.choice([100_000, 100_000, 3])),
            compaction=Compaction(tombstone_retention_ms=retention_ms),
        )
        for index, name in enumerate(names)
    ]


def diverged(configuration: Configuration, chance: Random) -> Configuration:
    """The same instance with another version of the file: other peers, or other times."""
    hivemind = configuration.hivemind
    match chance.randrange(4):
        case 0:
            peers = list(hivemind.peers)
            chance.shuffle(peers)
            return evolve(configuration, hivemind=evolve(hivemind, peers=tuple(peers)))
        case 1:
            shorter = tuple(url for url in hivemind.peers[:-1])
            return evolve(configuration, hivemind=evolve(hivemind, peers=shorter))
        case 2:
            return evolve(configuration, hivemind=evolve(hivemind, heartbeat_interval_ms=10_000, peer_ttl_ms=40_000))
        case _:
            return evolve(configuration, hivemind=evolve(hivemind, heartbeat_interval_ms=60_000, peer_ttl_ms=200_000))


def quiet_s(configuration: Configuration) -> float:
    """How long a mesh may take to come to rest after everything was healed.

    Links that died silently are found (30 s); those who fell silent are given up and elected without (a TTL); a round
    of dials that are not answered (10 s for each peer); a failback after its window of two TTLs; and what differs then
    is found out by standing still for two heartbeats, and repaired.
    """
    hivemind = configuration.hivemind
    ttl_s, heartbeat_s = hivemind.peer_ttl_ms / 1000, hivemind.heartbeat_interval_ms / 1000
    return 30.0 + 10.0 * len(hivemind.peers) + 3.5 * ttl_s + 4 * heartbeat_s
