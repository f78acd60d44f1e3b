"""Single nodes with documents, for the tests of replication."""

from __future__ import annotations

from meshd.core.documents import Change, Kind
from meshd.core.effects import Accepted, Broadcast, Effect, Rejected, Reply, Send
from meshd.core.inputs import LinkUp, PutProject, Received
from meshd.core.messages import Changes, Identity, Message, UtcMs
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.core.stored import Stored
from meshd.model import Json, JsonObject, Now, Role, Stamp
from tests.core.mesh import EPOCH_MS, Host, Mesh, check_order, configuration, leading

NOW = Now(100.0, EPOCH_MS)
BIG = "x" * 100_000


def noted(seen: list[Message], message: Message) -> Message:
    seen.append(message)
    return message


def alone(stored: Stored | None = None, role: Role = Role.WORKER, *, max_changes: int = 100_000) -> Node:
    """A node with no link; as a primary it leads."""
    node = Node(configuration("dev-02", role=role, max_changes=max_changes), Birth("b", "1"), stored or Stored("s1"))
    return leading(node, NOW) if role is Role.PRIMARY else node


def linked(stored: Stored | None = None, role: Role = Role.WORKER, *, max_changes: int = 100_000) -> Node:
    """A node with one native link, 1: of a worker to its primary, of a primary to a worker."""
    node = alone(stored, role, max_changes=max_changes)
    other = Role.PRIMARY if role is Role.WORKER else Role.WORKER
    node.step(LinkUp(1, "u", "ws://dev-01:4444" if role is Role.WORKER else None), NOW)
    node.step(Received(1, Identity("dev-01", UtcMs(EPOCH_MS), protocol=1, boot="x", sync_role=other)), NOW)
    return node


def sent(effects: list[Effect]) -> list[Message]:
    return [effect.message for effect in effects if isinstance(effect, Send | Broadcast)]


def outcome(effects: list[Effect]) -> Accepted | Rejected:
    (reply,) = [effect for effect in effects if isinstance(effect, Reply)]
    return reply.outcome


def put(node: Node, document: JsonObject, if_match: str | None = None, slug: str = "site") -> Accepted | Rejected:
    return outcome(node.step(PutProject(1, slug, document, if_match=if_match), NOW))


def seqs(messages: list[Message]) -> list[int]:
    return [change.seq for message in messages if isinstance(message, Changes) for change in message.changes]


def heard(node: Node, *messages: Message) -> list[Effect]:
    effects: list[Effect] = []
    for message in messages:
        answer = node.step(Received(1, message), NOW)
        check_order(answer)
        effects += answer
    return effects


def all_equal(mesh: Mesh, *hosts: Host) -> bool:
    return len({mesh.snapshot(host).root for host in hosts}) == 1


def edit(seq: int, value: Json, utc_ms: int | None = None, origin: str = "dev-03.s1") -> Change:
    """Change `seq` of a project that its first change created."""
    life = Stamp(1, 0, "dev-03")
    kind, stamp = (Kind.CREATED, life) if seq == 1 else (Kind.UPDATED, Stamp(utc_ms or seq, 0, "dev-03"))
    return Change(origin, seq, stamp, "site", life, kind, {"title": value})
