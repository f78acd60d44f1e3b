"""In sync, not only alive: roots that differ are seen, repaired and told; equal ones cost nothing."""

from __future__ import annotations

from meshd.core.alerts import DIVERGED, Alerts
from meshd.core.convergence import Convergence
from meshd.core.messages import Changes, Digest, Documents, Ignored, Message
from meshd.core.snapshot import MemberView
from meshd.model import Now
from tests.core.mesh import EPOCH_MS, Host, Mesh, three

EQUAL, OTHER, THIRD = "e" * 24, "a" * 24, "b" * 24


def at(mono_s: float) -> Now:
    return Now(mono_s, EPOCH_MS + round(mono_s * 1000))


def convergence() -> Convergence:
    return Convergence(30.0, Alerts(), EQUAL)


# The rules, alone


def test_who_never_said_is_neither_in_sync_nor_out_of_it() -> None:
    known = convergence()
    assert list(known.said("dev-09", None, at(0))) == []
    assert (known.in_sync("dev-09"), known.differs_since_ms("dev-09"), known.told_root("dev-09")) == (None, None, None)
    assert not known.is_stuck("dev-09", at(1000))
    assert not known.settled("dev-09", at(1000))


def test_a_difference_has_a_beginning_and_an_end() -> None:
    known = convergence()
    list(known.said("dev-02", EQUAL, at(0)))
    assert known.in_sync("dev-02") is True
    list(known.said("dev-02", OTHER, at(30)))
    list(known.said("dev-02", THIRD, at(60)))
    assert known.in_sync("dev-02") is False
    assert known.differs_since_ms("dev-02") == EPOCH_MS + 30_000
    list(known.said("dev-02", EQUAL, at(90)))
    assert (known.in_sync("dev-02"), known.differs_since_ms("dev-02")) == (True, None)


def test_a_change_on_its_way_is_no_difference_until_the_peer_has_spoken() -> None:
    known = convergence()
    list(known.said("dev-02", EQUAL, at(0)))
    list(known.moved(OTHER, at(10)))
    assert known.in_sync("dev-02") is True
    assert known.told_root("dev-02") == OTHER
    list(known.check({"dev-02"}, at(59)))
    assert known.in_sync("dev-02") is True
    list(known.check({"dev-02"}, at(61)))
    assert known.in_sync("dev-02") is False, "it has been silent for two intervals"
    assert known.told_root("dev-02") == EQUAL, "what it said last"


def test_roots_that_differ_and_stand_still_are_stuck_after_two_intervals() -> None:
    known = convergence()
    list(known.said("dev-02", OTHER, at(0)))
    list(known.said("dev-02", OTHER, at(30)))
    assert not known.is_stuck("dev-02", at(30))
    list(known.said("dev-02", OTHER, at(60)))
    assert known.is_stuck("dev-02", at(60))
    assert known.is_stuck("dev-02", at(59.5)), "a heartbeat that is a little early"


def test_whatever_moves_begins_the_wait_anew() -> None:
    known = convergence()
    list(known.said("dev-02", OTHER, at(0)))
    list(known.moved(THIRD, at(40)))
    assert not known.is_stuck("dev-02", at(60)), "we moved"
    assert known.is_stuck("dev-02", at(100))
    list(known.said("dev-02", EQUAL, at(100)))
    assert not known.is_stuck("dev-02", at(120)), "it moved"
    known.linked("dev-02", at(170))
    assert not known.is_stuck("dev-02", at(200)), "there was no link"
    assert known.is_stuck("dev-02", at(230))


def test_an_exchange_is_due_every_two_intervals_while_it_lasts() -> None:
    known = convergence()
    list(known.said("dev-02", OTHER, at(0)))
    due = [second for second in range(0, 300, 10) if known.exchange_due("dev-02", at(second))]
    assert due == [60, 120, 180, 240]


def test_the_alert_ends_when_the_roots_are_equal_or_the_link_is_gone() -> None:
    known = convergence()
    list(known.said("dev-02", OTHER, at(0)))
    list(known.diverged("dev-02", at(60)))
    list(known.diverged("dev-02", at(90)))
    assert known.alerts.subjects(DIVERGED) == ["dev-02"]
    list(known.moved(OTHER, at(100)))
    assert known.alerts.subjects(DIVERGED) == [], "we became equal"
    list(known.moved(THIRD, at(101)))
    list(known.said("dev-02", OTHER, at(102)))
    list(known.diverged("dev-02", at(200)))
    list(known.check({"dev-02"}, at(201)))
    assert known.alerts.subjects(DIVERGED) == ["dev-02"]
    list(known.check(set(), at(202)))
    assert known.alerts.subjects(DIVERGED) == []


def test_settled_is_equal_now_and_for_two_intervals() -> None:
    known = convergence()
    list(known.said("dev-02", EQUAL, at(0)))
    assert not known.settled("dev-02", at(30))
    assert known.settled("dev-02", at(60))
    list(known.moved(OTHER, at(61)))
    assert not known.settled("dev-02", at(62)), "equal to what we held, not to what we hold"
    list(known.said("dev-02", OTHER, at(62)))
    assert known.settled("dev-02", at(62)), "it has agreed at every word since"
    list(known.said("dev-02", THIRD, at(90)))
    list(known.said("dev-02", OTHER, at(91)))
    assert not known.settled("dev-02", at(100))


# In a mesh


def lose_changes(message: Message) -> Message:
    return Ignored("lost") if isinstance(message, Changes) else message


def view(mesh: Mesh, here: Host, there: Host) -> MemberView:
    (member,) = [member for member in mesh.snapshot(here).members if member.instance_id == there.name]
    return member


def standing(mesh: Mesh, host: Host) -> list[tuple[str, str]]:
    return [(alert.code, alert.subject) for alert in mesh.snapshot(host).alerts]


def test_every_instance_sees_that_every_other_is_in_sync() -> None:
    mesh, *hosts = three()
    mesh.put(hosts[1], "site", {"title": "T"})
    mesh.advance(61)
    for here in hosts:
        for there in hosts:
            if here is not there:
                member = view(mesh, here, there)
                assert (member.in_sync, member.out_of_sync_since_ms) == (True, None), (here.name, there.name)


def test_an_edit_every_second_looks_out_of_sync_to_nobody() -> None:
    mesh, *hosts = three()
    mesh.put(hosts[1], "site", {"title": "T"})
    mesh.advance(31)
    for number in range(120):
        mesh.patch(hosts[number % 3], "site", {"title": f"T{number}"})
        mesh.advance(1)
        for here in hosts:
            assert all(member.in_sync for member in mesh.snapshot(here).members), (number, here.name)
    assert not [event for host in hosts for event in host.events("alert:raised")]


def test_lost_changes_are_noticed_and_repaired_without_anybodys_help() -> None:
    mesh, primary, worker, other = three()
    mesh.advance(31)
    mesh.carry = lose_changes
    mesh.put(primary, "site", {"title": "T"})
    mesh.settle()
    mesh.carry = lambda message: message
    lost_ms = mesh.now(primary).utc_ms
    mesh.advance(31)
    assert mesh.document(worker, "site") is None
    assert view(mesh, primary, worker).in_sync is False
    since_ms = view(mesh, worker, primary).out_of_sync_since_ms
    assert since_ms is not None
    assert 0 <= since_ms - lost_ms <= 31_000
    mesh.advance(60)
    for host in (worker, other):
        assert mesh.document(host, "site") == {"slug": "site", "title": "T"}
        (raised,) = host.events("alert:raised")
        (cleared,) = host.events("alert:cleared")
        assert (raised["code"], raised["subject"]) == (cleared["code"], cleared["subject"]) == ("diverged", "dev-01")
    mesh.advance(31)
    for host in (primary, worker, other):
        assert standing(mesh, host) == []
        assert all(member.in_sync for member in mesh.snapshot(host).members)


def test_what_no_exchange_repairs_stays_told_on_both_ends() -> None:
    mesh, primary, worker, _ = three()
    tried: list[Message] = []

    def lose(message: Message) -> Message:
        if isinstance(message, Digest):
            tried.append(message)
        return Ignored("lost") if isinstance(message, Changes | Digest | Documents) else message

    mesh.carry = lose
    mesh.put(primary, "site", {"title": "T"})
    mesh.advance(400)
    assert standing(mesh, worker) == [("diverged", "dev-01")]
    assert standing(mesh, primary) == [("diverged", "dev-02"), ("diverged", "dev-03")]
    assert len(worker.events("alert:raised")) == 1
    assert 8 <= len(tried) <= 14, "one try of each worker in two intervals"


def test_without_traffic_and_difference_nothing_is_exchanged() -> None:
    mesh, _, worker, _ = three()
    mesh.put(worker, "site", {"title": "T"})
    seen: list[Message] = []

    def carry(message: Message) -> Message:
        seen.append(message)
        return message

    mesh.carry = carry
    mesh.advance(3600)
    assert not [message for message in seen if isinstance(message, Digest | Documents)]


def test_the_last_change_is_that_of_its_maker_and_of_who_passed_it_on() -> None:
    mesh, primary, worker, other = three()
    mesh.advance(5)
    mesh.put(worker, "site", {"title": "T"})
    mesh.advance(10)
    for here, there in ((primary, worker), (other, worker), (other, primary)):
        member = view(mesh, here, there)
        assert member.last_change_ms is not None
        assert member.last_change_age_s is not None
        assert 9.9 < member.last_change_age_s < 10.1
    for here, there in ((worker, primary), (primary, other), (worker, other)):
        assert view(mesh, here, there).last_change_ms is None


def test_who_is_away_is_out_of_sync_once_there_is_something_it_lacks() -> None:
    mesh, primary, worker, other = three()
    mesh.advance(31)
    mesh.crash(other)
    mesh.advance(300)
    assert view(mesh, primary, other).in_sync is True
    mesh.put(worker, "site", {"title": "T"})
    mesh.advance(70)
    assert view(mesh, primary, other).in_sync is False
    assert view(mesh, worker, other).in_sync is False
    assert standing(mesh, primary) == [], "there is no link over which it could be repaired"
