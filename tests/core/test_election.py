"""How a worker finds its primary, and never gives up or spins."""

from __future__ import annotations

import pytest

from meshd.core.dialling import FIRST_PAUSE_S, LONGEST_PAUSE_S
from meshd.core.effects import Dial, Effect, Emit, Level, Note
from meshd.core.inputs import DialFailed, LinkDown, LinkUp, PutProject, Received, Started
from meshd.core.messages import Identity, Malformed, Message, Presence, Refuse, UtcMs
from meshd.core.node import Node
from meshd.core.portrait import Birth
from meshd.core.stored import Stored
from meshd.model import Now, Role
from tests.core.mesh import EPOCH_MS, Disk, Host, Mesh, configuration, three, url_of

ONE, TWO, THREE = (url_of(name) for name in ("dev-01", "dev-02", "dev-03"))
NOW = Now(100.0, EPOCH_MS)


def dials(effects: list[Effect]) -> list[Dial]:
    return [effect for effect in effects if isinstance(effect, Dial)]


def worker(instance_id: str = "dev-03") -> Node:
    """A worker that has just begun to dial dev-01."""
    node = Node(configuration(instance_id), Birth("b", "1"), Stored("s1"))
    assert dials(node.step(Started(), NOW)) == [Dial(ONE)]
    return node


def who(peer: str, role: Role, primary_url: str | None = None) -> Identity:
    return Identity(
        peer, UtcMs(EPOCH_MS), url=url_of(peer), protocol=1, boot="b", sync_role=role, primary_url=primary_url
    )


def answered(node: Node, link: int, url: str, identity: Identity, now: Now = NOW) -> list[Effect]:
    """A dial succeeded, and this is what the other side said."""
    return [*node.step(LinkUp(link, url, url), now), *node.step(Received(link, identity), now)]


def taken_in(node: Node, link: int, now: Now = NOW) -> list[Effect]:
    """The primary dev-01 answered a dial, and tells that it counts on us."""
    effects = answered(node, link, ONE, who("dev-01", Role.PRIMARY), now)
    return [*effects, *node.step(Received(link, Presence(0, 1, full=True, members=())), now)]


# Whom to dial


def test_peers_are_dialled_one_after_the_other_for_ever() -> None:
    """Also when the last of them is the instance itself."""
    node = worker("dev-03")
    urls = [ONE]
    for _ in range(9):
        (dial,) = dials(node.step(DialFailed(urls[-1], "refused"), NOW))
        urls.append(dial.url)
    assert urls == [ONE, TWO] * 5


def test_a_primary_that_may_decide_dials_nobody() -> None:
    mesh, primary, *_ = three()
    mesh.advance(60)
    primary.dialled.clear()
    mesh.advance(600)
    assert primary.dialled == []
    assert mesh.snapshot(primary).partition_since_ms is None


def test_an_instance_without_peers_dials_nobody() -> None:
    node = Node(configuration("dev-03", peers=("dev-03",)), Birth("b", "1"), Stored("s1"))
    assert dials(node.step(Started(), NOW)) == []


def test_the_last_known_primary_is_dialled_first() -> None:
    node = worker()
    node.step(DialFailed(ONE, "refused"), NOW)
    answered(node, 1, TWO, who("dev-02", Role.PRIMARY))
    again = dials(node.step(LinkDown(1, 1006), NOW))
    again += dials(node.step(DialFailed(TWO, "refused"), NOW))
    assert [dial.url for dial in again] == [TWO, ONE]


def test_one_dial_at_a_time() -> None:
    node = worker()
    assert dials(node.step(DialFailed(TWO, "somebody else's"), NOW)) == []
    assert dials(node.step(Started(), NOW)) == []


def test_a_worker_with_a_primary_dials_nobody() -> None:
    node = worker()
    answered(node, 1, ONE, who("dev-01", Role.PRIMARY))
    node.step(LinkUp(2, "h:2"), NOW)
    node.step(Received(2, who("dev-02", Role.WORKER)), NOW)
    assert dials(node.step(LinkDown(2, 1001), NOW)) == []


@pytest.mark.parametrize("said", [None, Malformed("not JSON"), Refuse(1001, "draining")])
def test_whoever_hangs_up_without_a_name_is_passed_over(said: Message | None) -> None:
    node = worker()
    node.step(LinkUp(1, "u", ONE), NOW)
    if said:
        node.step(Received(1, said), NOW)
    assert dials(node.step(LinkDown(1, 1001), NOW)) == [Dial(TWO)]


def test_a_primary_whose_voters_are_all_there_at_a_cold_start_is_elected_at_once() -> None:
    """Nor has it been a hub, which decides nothing, before that."""
    mesh, *hosts = three()
    for host in hosts:
        assert [(turn.leader, turn.term) for turn in host.disk.turns.values()] == [("dev-01", 1)]
        assert mesh.snapshot(host).term == 1


# Redirects


def test_a_worker_follows_to_the_primary_that_another_names() -> None:
    node = worker("dev-04")
    effects = answered(node, 1, ONE, who("dev-01", Role.WORKER, primary_url=THREE))
    assert dials(effects) == [Dial(THREE)]


def test_a_redirect_to_oneself_is_not_followed() -> None:
    node = worker()
    assert dials(answered(node, 1, ONE, who("dev-01", Role.WORKER, primary_url=THREE))) == [Dial(TWO)]


def test_whoever_was_tried_this_round_is_not_tried_again() -> None:
    node = worker()
    node.step(DialFailed(ONE, "refused"), NOW)
    assert dials(answered(node, 1, TWO, who("dev-02", Role.WORKER, primary_url=ONE))) == [Dial(ONE, FIRST_PAUSE_S)]


def test_a_link_that_was_left_ends_without_another_dial() -> None:
    """Its end comes when the next dial is on its way, perhaps to the same peer."""
    node = Node(configuration("dev-02", peers=("dev-01", "dev-02")), Birth("b", "1"), Stored("s1"))
    node.step(Started(), NOW)
    assert len(dials(answered(node, 1, ONE, who("dev-01", Role.WORKER)))) == 1
    assert dials(node.step(LinkDown(1, 1001), NOW)) == []


@pytest.mark.parametrize("names", [("dev-01", "dev-02"), ("dev-01", "dev-02", "dev-03")])
def test_workers_without_a_primary_keep_calm(names: tuple[str, ...]) -> None:
    """Each has at most one dial a peer under way, and a pause of up to 5 s between two rounds."""
    mesh = Mesh()
    hosts = [mesh.add(configuration(name, peers=names)) for name in names]
    for host in hosts:
        mesh.start(host)
    mesh.advance(20)
    for host in hosts:
        host.dialled.clear()
    mesh.advance(60)
    for host in hosts:
        others = len(names) - 1
        assert 60 / LONGEST_PAUSE_S - 3 <= len(host.dialled) / others <= 60 / LONGEST_PAUSE_S + 3


def test_two_workers_that_name_each_other_do_not_spin() -> None:
    node = worker()
    found: list[Dial] = []
    for link in range(1, 20):
        url, other = (ONE, TWO) if link % 2 else (TWO, ONE)
        effects = answered(node, link, url, who("dev-01" if url == ONE else "dev-02", Role.WORKER, primary_url=other))
        found += dials([*effects, *node.step(LinkDown(link, 1001), NOW)])
    assert sum(dial.delay_s > 0 for dial in found) >= len(found) // 2 - 1


# Pauses


def test_after_a_long_contact_the_first_dial_is_at_once() -> None:
    node = worker()
    node.step(DialFailed(ONE, "refused"), NOW)
    node.step(DialFailed(TWO, "refused"), NOW)
    answered(node, 1, ONE, who("dev-01", Role.PRIMARY))
    assert dials(node.step(LinkDown(1, 1006), Now(700.0, EPOCH_MS))) == [Dial(ONE)]


def test_a_primary_that_always_hangs_up_is_not_dialled_without_pause() -> None:
    """It may know something about us that we do not: another daemon of our name, say."""
    node = worker()
    now_s, delays_s = 100.0, []
    for link in range(1, 21):
        now_s += 0.01
        now = Now(now_s, EPOCH_MS)
        answered(node, link, ONE, who("dev-01", Role.PRIMARY), now)
        effects = node.step(LinkDown(link, 4409), now)
        while dials(effects) and dials(effects)[-1].url != ONE:
            effects += node.step(DialFailed(dials(effects)[-1].url, "refused"), now)
        delays_s.append(sum(dial.delay_s for dial in dials(effects)))
        now_s += delays_s[-1]
    assert sum(delays_s) > 10 * FIRST_PAUSE_S, delays_s


def test_a_name_that_another_daemon_holds_does_not_make_us_spin() -> None:
    mesh, _, _, holder = three()
    twin = mesh.hosts["twin"] = Host(configuration("dev-03"), Disk("s2"), boots=77)
    mesh.start(twin)
    mesh.advance(60)
    assert len(twin.dialled) <= 60 / LONGEST_PAUSE_S + 5
    assert mesh.snapshot(holder).connected
    assert len([note for note in twin.notes if note.level >= Level.WARNING]) < 5


# Partitions


def test_a_worker_is_partitioned_until_it_finds_its_primary() -> None:
    node = worker()
    assert node.snapshot(NOW).partition_since_ms == EPOCH_MS
    answered(node, 1, ONE, who("dev-01", Role.PRIMARY))
    assert node.snapshot(NOW).partition_since_ms == EPOCH_MS, "it does not count on us yet"
    node.step(Received(1, Presence(0, 1, full=True, members=())), NOW)
    found = node.snapshot(NOW)
    assert (found.partition_since_ms, found.primary_id, found.primary_url) == (None, "dev-01", ONE)
    assert found.connected
    node.step(LinkDown(1, 1006), Now(200.0, EPOCH_MS + 5))
    lost = node.snapshot(NOW)
    assert (lost.partition_since_ms, lost.primary_id, lost.connected) == (EPOCH_MS + 5, "dev-01", False)


def test_the_end_of_another_link_is_no_partition() -> None:
    node = worker()
    taken_in(node, 1)
    node.step(LinkUp(2, "h:2"), NOW)
    node.step(LinkDown(2, 1006), NOW)
    assert node.snapshot(NOW).partition_since_ms is None
    assert node.snapshot(NOW).connected


def test_failed_dials_do_not_move_the_beginning_of_a_partition() -> None:
    node = worker()
    later = Now(200.0, EPOCH_MS + 5)
    node.step(DialFailed(ONE, "refused"), later)
    node.step(LinkUp(9, "h:9"), later)
    node.step(LinkDown(9, 1006), later)
    assert node.snapshot(later).partition_since_ms == EPOCH_MS


def test_a_primary_that_hangs_up_before_it_counts_on_us_ends_no_partition() -> None:
    node = worker()
    answered(node, 1, ONE, who("dev-01", Role.PRIMARY))
    later = Now(200.0, EPOCH_MS + 100_000)
    node.step(LinkDown(1, 4409), later)
    assert node.snapshot(later).partition_since_ms == EPOCH_MS


def partitioned(wall_shift_ms: int = 0) -> tuple[Node, list[Effect]]:
    """A worker that lost its primary for 90 s, while its wall clock was set; and what it said on finding it."""
    node = worker()
    taken_in(node, 1)
    node.step(LinkDown(1, 1006), Now(200.0, EPOCH_MS + 100_000))
    back = Now(290.0, EPOCH_MS + 190_000 + wall_shift_ms)
    return node, taken_in(node, 2, back)


def test_the_end_of_a_partition_is_told_in_the_specifications_words() -> None:
    _, effects = partitioned()
    texts = [effect.text for effect in effects if isinstance(effect, Note)]
    assert texts[-2:] == [
        "Partition recovered after 90000ms -- replaying 0 queued changes",
        "Partition cleared -- was disconnected since 2027-01-15T08:01:40.000Z",
    ]
    assert [effect for effect in effects if isinstance(effect, Emit) and effect.type.startswith("sync:partition")] == [
        Emit(
            "sync:partition-recovered",
            {"instanceId": "dev-03", "partitionDurationMs": 90_000, "replayed": 0, "auditedClaims": 0},
        )
    ]


@pytest.mark.parametrize("wall_shift_ms", [-3_600_000, 3_600_000])
def test_how_long_a_partition_took_is_not_asked_of_the_wall_clock(wall_shift_ms: int) -> None:
    _, effects = partitioned(wall_shift_ms)
    (event,) = [effect for effect in effects if isinstance(effect, Emit) and effect.type == "sync:partition-recovered"]
    assert event.payload["partitionDurationMs"] == 90_000


def told_recovered(effects: list[Effect]) -> list[tuple[int, int]]:
    """How long the partitions were that the effects tell of, and what was queued in them."""
    payloads = (effect.payload for effect in effects if isinstance(effect, Emit) and "partition-rec" in effect.type)
    return [(payload["partitionDurationMs"], payload["replayed"]) for payload in payloads]  # type: ignore[misc]  # numbers


@pytest.mark.parametrize(("after_s", "told"), [(1.0, False), (29.9, False), (30.0, True), (90.0, True)])
def test_a_partition_is_told_from_a_heartbeat_on(after_s: float, told: bool) -> None:
    node = worker()
    taken_in(node, 1)
    node.step(LinkDown(1, 1006), NOW)
    back = Now(NOW.mono_s + after_s, EPOCH_MS + round(after_s * 1000))
    assert told_recovered(taken_in(node, 2, back)) == ([(round(after_s * 1000), 0)] if told else [])


@pytest.mark.parametrize(("after_s", "told"), [(1.0, False), (119.0, False), (120.0, True)])
def test_a_start_without_a_primary_is_one_from_the_ttl_on(after_s: float, told: bool) -> None:
    effects = taken_in(worker(), 1, Now(NOW.mono_s + after_s, EPOCH_MS + round(after_s * 1000)))
    assert told_recovered(effects) == ([(round(after_s * 1000), 0)] if told else [])


def test_a_partition_with_edits_that_waited_is_told_however_short() -> None:
    for is_start in (True, False):
        node = worker()
        if not is_start:
            taken_in(node, 1)
            node.step(LinkDown(1, 1006), NOW)
        node.step(PutProject(1, "site", {"title": "T"}), NOW)
        assert told_recovered(taken_in(node, 2, Now(NOW.mono_s + 1.0, EPOCH_MS + 1000))) == [(1000, 1)]


def test_an_original_that_was_dialled_is_the_primary() -> None:
    node = worker()
    answered(node, 1, ONE, Identity("dev-01", UtcMs(EPOCH_MS)))
    assert node.snapshot(NOW).primary_id == "dev-01"


def test_an_original_that_dialled_us_is_not() -> None:
    node = worker()
    node.step(LinkUp(1, "h:1"), NOW)
    node.step(Received(1, Identity("dev-02", UtcMs(EPOCH_MS))), NOW)
    assert node.snapshot(NOW).primary_id is None


def test_presence_is_taken_from_the_primary_only() -> None:
    node = worker()
    node.step(LinkUp(1, "h:1"), NOW)
    node.step(Received(1, who("dev-02", Role.WORKER)), NOW)
    node.step(Received(1, Presence(0, 1, full=True, members=())), NOW)
    assert node.snapshot(NOW).dropped["presence-of-no-primary"] == 1
