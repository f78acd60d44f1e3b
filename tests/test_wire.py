"""The codec: what originals send, what we send, what nobody should send."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.ballot import Proposal
from meshd.core.claim import Claim, ClaimStatus, register_value
from meshd.core.documents import Change, Conflict, Kind, Register
from meshd.core.messages import (
    TYPES,
    Ack,
    Changes,
    ClaimRequest,
    Compared,
    Conflicts,
    Decision,
    Digest,
    Documents,
    DocumentState,
    FeatureEvent,
    Goodbye,
    HandOver,
    Heartbeat,
    Identity,
    Ignored,
    Leases,
    Malformed,
    Message,
    Nominate,
    Presence,
    PresenceRow,
    Promote,
    ProposalStored,
    Propose,
    Refuse,
    SettingsEvent,
    UtcMs,
    Vote,
    VoteRequest,
    YouGo,
)
from meshd.errors import DocumentError, LocalProtocolError
from meshd.model import MAX_FRAME_BYTES, MAX_LABEL, MAX_TAGS, Capacity, Json, Stamp, Status
from meshd.project import CLAIM_KEY, check_name
from meshd.wire import decode, encode
from meshd.wire_rules import MAX_CLAIMS, MAX_JSON_DEPTH

ORIGINALS = Path(__file__).parents[2] / "shared" / "data" / "original-wire-examples.json"
LAST_UTC_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
STAMP = Stamp(1_800_000_000_000, 2, "dev-01")
AT = UtcMs(1_773_480_413_589)


def again(message: Message) -> Message:
    return decode(encode(message).decode())


def keys(message: Message) -> list[str]:
    return list(orjson.loads(encode(message)))


# Frames of the original.


def test_original_identity_with_a_key_nobody_knows() -> None:
    frame = '{"type":"identity","instanceId":"dev-02","url":"ws://h:4444","timestamp":"2026-03-14T09:26:53.589Z","x":1}'
    assert decode(frame) == Identity("dev-02", AT, url="ws://h:4444")


def test_original_heartbeat_with_fractions_and_without_some_capacity() -> None:
    frame = (
        '{"type":"heartbeat","instanceId":"dev-02","name":"Worker A","role":"frontend","tags":["docs"],'
        '"timestamp":"2026-03-14T09:26:53.589Z","priority":1,'
        '"capacity":{"cores":2,"ramMb":4096,"runningAgents":1,"ramUsagePercent":10.5,"cpuPercent":5,"load":[1]}}'
    )
    capacity = Capacity(cores=2, ram_mb=4096, running_agents=1, ram_usage_percent=10.5, cpu_percent=5.0)
    expected = Heartbeat("dev-02", AT, "Worker A", "frontend", ("docs",), None, 1, capacity)
    assert repr(decode(frame)) == repr(expected)  # 5 has become 5.0


@pytest.mark.parametrize("name", ["feature_event", "project_event"])
def test_document_event_by_both_of_its_names(name: str) -> None:
    payload = '{"projectSlug":"alpha","projectPath":"/home/b/repo","project":{"slug":"alpha","n":[1,1.5,null]}}'
    frame = (
        f'{{"payload":{payload},"instanceId":"dev-02","eventType":"project:created","projectName":"P",'
        f'"timestamp":"2026-03-14T09:26:53.589Z","type":"{name}"}}'
    )
    assert decode(frame) == FeatureEvent("dev-02", "project:created", json.loads(payload), AT, "P")


def test_every_captured_frame_of_the_original_has_its_type_and_comes_out_as_it_went_in() -> None:
    if not ORIGINALS.exists():
        pytest.skip(f"no captured frames at {ORIGINALS}")
    for title, frame in json.loads(ORIGINALS.read_text()).items():
        message, sent = decode(frame), json.loads(frame)
        if sent["type"] in TYPES:
            assert type(message) is TYPES[sent["type"]], title
            assert json.loads(encode(message)) == sent, title
        else:
            assert message == Ignored(sent["type"]), title


# What leaves out, what stays.


def test_type_comes_first_and_defaults_stay_away() -> None:
    assert encode(Goodbye("dev-01", AT)) == (
        b'{"type":"goodbye","instanceId":"dev-01","timestamp":"2026-03-14T09:26:53.589Z"}'
    )
    assert keys(Heartbeat("dev-01", AT, term=0, status=Status.ALIVE)) == ["type", "instanceId", "timestamp"]
    assert keys(Heartbeat("dev-01", AT, tags=(), term=2, status=Status.DRAINING))[3:] == ["tags", "term", "status"]


def test_capacity_goes_out_whole() -> None:
    sent = orjson.loads(encode(Heartbeat("dev-01", AT, capacity=Capacity(cores=2))))
    unused = ("ramMb", "maxAgents", "runningAgents", "backlogCount", "ramUsagePercent", "cpuPercent")
    assert sent["capacity"] == {"cores": 2, **dict.fromkeys(unused, 0)}


def test_changes_and_registers_have_the_shape_of_the_wire() -> None:
    stamp = [STAMP.utc_ms, STAMP.counter, STAMP.instance_id]
    shape = {"origin": "dev-01.s1", "seq": 3, "stamp": stamp, "slug": "alpha", "life": stamp, "kind": "updated"}
    change = Change("dev-01.s1", 3, STAMP, "alpha", STAMP, Kind.UPDATED, {"title": None})
    assert orjson.loads(encode(Changes(1, (change,))))["changes"] == [shape | {"fields": {"title": None}}]
    change = Change("dev-01.s1", 3, STAMP, "alpha", STAMP, Kind.UPDATED, removed=("goal",))
    assert orjson.loads(encode(Changes(1, (change,))))["changes"] == [shape | {"removed": ["goal"]}]
    state = DocumentState("alpha", STAMP, {"title": Register(STAMP, None), "goal": Register(STAMP, gone=True)})
    assert orjson.loads(encode(Documents((state,))))["documents"] == [
        {"slug": "alpha", "life": stamp, "registers": {"title": [stamp, None], "goal": [stamp]}}
    ]


PROPOSAL = Proposal(4, "alpha", "m1", "build", Stamp(7, 0, "dev-01"), "c-1", 2, "dev-03", 2, 1_773_480_413_589, 1)
PROPOSED = {"term": 4, "slug": "alpha", "milestone": "m1", "phase": "build", "claim": "c-1", "generation": 2}
PROPOSED |= {"life": [7, 0, "dev-01"], "holder": "dev-03", "priority": 2, "claimedMs": 1_773_480_413_589, "attempts": 1}
ASKED = {"type": "vote_request", "term": 5, "candidate": "dev-02", "priority": 1, "pre": True, "peersHash": "ab"}
BEATS = {"type": "heartbeat", "instanceId": "dev-02", "timestamp": "2026-03-14T09:26:53.589Z"}


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        (
            Promote("dev-02", AT, 1, "ws://h:4444", 5),
            {**BEATS, "type": "promote", "priority": 1, "url": "ws://h:4444", "term": 5},
        ),
        (Promote("dev-02", AT, 1), {**BEATS, "type": "promote", "priority": 1}),
        (VoteRequest(5, "dev-02", 1, pre=True, peers_hash="ab"), ASKED),
        (
            VoteRequest(5, "dev-02", 1, pre=False, peers_hash="ab", transfer="dev-01"),
            {**ASKED, "pre": False, "transfer": "dev-01"},
        ),
        (Vote(5, pre=True, granted=True), {"type": "vote", "term": 5, "pre": True, "granted": True}),
        (
            Vote(6, pre=False, granted=False, reason="voted"),
            {"type": "vote", "term": 6, "pre": False, "granted": False, "reason": "voted"},
        ),
        (
            Vote(5, pre=False, granted=True, proposals=(PROPOSAL,)),
            {"type": "vote", "term": 5, "pre": False, "granted": True, "proposals": [PROPOSED]},
        ),
        (YouGo(5), {"type": "you_go", "term": 5}),
        (HandOver(5), {"type": "hand_over", "term": 5}),
        (HandOver(5, chosen=True), {"type": "hand_over", "term": 5, "chosen": True}),
        (Nominate("dev-03"), {"type": "nominate", "instanceId": "dev-03"}),
        (
            Heartbeat("dev-02", AT, leads=0, authoritative=False, heard=0),
            {**BEATS, "leads": 0, "authoritative": False, "heard": 0},
        ),
        (
            Identity("dev-02", AT, term=5, leads=5, authoritative=True, leader_eligible=False),
            {**BEATS, "type": "identity", "term": 5, "leads": 5, "authoritative": True, "leaderEligible": False},
        ),
        (
            Presence(5, 1, full=True, members=(PresenceRow("dev-02", 7, leader_eligible=False),)),
            {
                "type": "presence",
                "term": 5,
                "seq": 1,
                "full": True,
                "members": [{"instanceId": "dev-02", "age": 7, "leaderEligible": False}],
            },
        ),
    ],
    ids=repr,
)
def test_leadership_on_the_wire(message: Message, frame: dict[str, Json]) -> None:
    assert orjson.loads(encode(message)) == frame
    assert repr(decode(json.dumps(frame))) == repr(message)


ASKED_FOR = {"slug": "alpha", "milestone": "m1", "phase": "build"}


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        (
            ClaimRequest("boot-7", "alpha", "m1", "build", 0),
            {"type": "claim", "claim": "boot-7", **ASKED_FOR, "generation": 0},
        ),
        (
            ClaimRequest("boot-7", "alpha", "m1", "build", 2, overflow=True),
            {"type": "claim", "claim": "boot-7", **ASKED_FOR, "generation": 2, "overflow": True},
        ),
        (
            Decision("boot-7", granted=True, reason="granted", generation=3, claimed_by="dev-02"),
            {
                "type": "decision",
                "claim": "boot-7",
                "granted": True,
                "reason": "granted",
                "generation": 3,
                "claimedBy": "dev-02",
            },
        ),
        (
            Decision("boot-7", granted=False, reason="settling"),
            {"type": "decision", "claim": "boot-7", "granted": False, "reason": "settling"},
        ),
        (Propose(5, PROPOSAL), {"type": "propose", "term": 5, "proposal": PROPOSED}),
        (
            ProposalStored(5, "c-1", accepted=True),
            {"type": "stored", "term": 5, "claim": "c-1", "accepted": True},
        ),
        (
            ProposalStored(6, "c-1", accepted=False, reason="term"),
            {"type": "stored", "term": 6, "claim": "c-1", "accepted": False, "reason": "term"},
        ),
        (Leases(5, 9, ()), {"type": "leases", "term": 5, "beat": 9, "valid": []}),
        (
            Leases(5, 9, ("boot-7",), {"boot-6": "reclaimed"}),
            {"type": "leases", "term": 5, "beat": 9, "valid": ["boot-7"], "lost": {"boot-6": "reclaimed"}},
        ),
        (Compared(5), {"type": "compared", "term": 5}),
        (Compared(5, (PROPOSAL,)), {"type": "compared", "term": 5, "proposals": [PROPOSED]}),
        (
            Heartbeat("dev-02", AT, beat=9, holding=("boot-7", "boot-8"), intake=False),
            {**BEATS, "beat": 9, "holding": ["boot-7", "boot-8"], "intake": False},
        ),
        (Heartbeat("dev-02", AT, beat=0, holding=()), {**BEATS, "beat": 0, "holding": []}),
        (
            Presence(5, 1, full=True, members=(PresenceRow("dev-02", 7, intake=True, holding=0),)),
            {
                "type": "presence",
                "term": 5,
                "seq": 1,
                "full": True,
                "members": [{"instanceId": "dev-02", "age": 7, "intake": True, "holding": 0}],
            },
        ),
    ],
    ids=repr,
)
def test_claims_on_the_wire(message: Message, frame: dict[str, Json]) -> None:
    assert orjson.loads(encode(message)) == frame
    assert repr(decode(json.dumps(frame))) == repr(message)


def test_a_claim_is_a_register_of_its_phase_like_any_other() -> None:
    value = register_value(Claim(3, "boot-7", "dev-02", 1, ClaimStatus.IN_PROGRESS, AT, feature_id="f"))
    written = {f"milestones/m1/phases/build all/{CLAIM_KEY}": value}
    changes = Changes(5, (Change("dev-01.s1", 3, STAMP, "alpha", STAMP, Kind.UPDATED, {**written}),))
    assert again(changes) == changes
    registers = {path: Register(STAMP, value) for path, value in written.items()}
    state = Documents((DocumentState("alpha", STAMP, registers),))
    assert again(state) == state


def test_as_many_claims_as_may_be_held_fit_into_a_frame() -> None:
    held = tuple(f"{number:04}" + "\U0001f600" * (MAX_LABEL - 4) for number in range(MAX_CLAIMS))
    beat = Heartbeat("dev-02", AT, beat=1, holding=held)
    assert again(beat) == beat
    assert len(encode(beat)) < MAX_FRAME_BYTES


def test_what_an_instance_says_of_itself_has_room_up_to_its_bounds() -> None:
    identity = Identity("dev-02", AT, "n" * MAX_LABEL, tags=("\U0001f600" * MAX_LABEL,) * MAX_TAGS)
    assert again(identity) == identity


# Round trips.


def tables(keys: st.SearchStrategy[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(keys, values, max_size=3)


def is_name(text: str) -> bool:
    try:
        return bool(check_name(text, "name"))
    except DocumentError:
        return False


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


def several(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=3).map(tuple)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=10).filter(is_name)
COUNTS = st.integers(0, 2**53 - 1)
SEQS = st.integers(1, 2**53 - 1)
TIMES = st.integers(0, LAST_UTC_MS)
LAST_UTC_MS = 253_402_300_799_999  # the end of the year 9999
STAMPS = st.builds(Stamp, st.integers(0, LAST_UTC_MS), COUNTS, NAMES)
ORIGINS = st.builds("{}.{}".format, NAMES, NAMES.filter(lambda name: "." not in name))
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSONS: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXTS, JSONS, max_size=4)
KEYS = TEXTS.filter(bool).map(lambda key: key.replace("~", "~0").replace("/", "~1"))
ELEMENTS = st.builds(lambda name: "milestones/" + name.replace("~", "~0"), NAMES)
PHASES = st.builds(lambda path, name: f"{path}/phases/" + name.replace("~", "~0"), ELEMENTS, NAMES)
FIELD_PATHS = KEYS | st.builds("{}/{}".format, ELEMENTS | PHASES, KEYS)
RANKS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e9, 1e9)
FIELDS = st.lists(st.tuples(FIELD_PATHS, JSONS) | st.tuples(ELEMENTS | PHASES, RANKS), max_size=4).map(dict)
REMOVED = several(FIELD_PATHS | ELEMENTS | PHASES)
CAPACITIES = st.builds(Capacity, *[COUNTS] * 5, *[st.floats(0, 100)] * 2)
TAGS = several(TEXTS)
SELF = {name: maybe(TEXTS) for name in ("name", "role", "url", "boot")}
SELF |= {"tags": maybe(TAGS), "priority": maybe(COUNTS), "capacity": maybe(CAPACITIES)}
IDENTITY = {name: maybe(TEXTS) for name in ("store", "sync_role", "primary_url", "hive", "peers_hash", "version")}
IDENTITY |= {name: maybe(COUNTS) for name in ("protocol", "min_protocol", "clock")}
LEADS = {"leads": maybe(COUNTS), "authoritative": maybe(st.booleans())}
PROPOSALS = st.builds(
    Proposal, COUNTS, NAMES, NAMES, NAMES, STAMPS, TEXTS, COUNTS, NAMES, maybe(COUNTS), TIMES, attempts=COUNTS
)


def registers(fields: dict[str, Json], removed: tuple[str, ...], stamp: Stamp) -> dict[str, Register]:
    written = {path: Register(stamp, value) for path, value in fields.items()}
    return written | {path: Register(stamp, gone=True) for path in removed}


REGISTERS = st.builds(registers, FIELDS, REMOVED, STAMPS)
BASES = tables(FIELD_PATHS, STAMPS)
EDITS = st.builds(Change, ORIGINS, SEQS, STAMPS, NAMES, STAMPS, st.just(Kind.UPDATED), FIELDS, REMOVED, BASES)
CHANGES = (
    EDITS
    | EDITS.map(lambda edit: evolve(edit, kind=Kind.DELETED, fields={}, removed=()))
    | EDITS.map(lambda edit: evolve(edit, kind=Kind.CREATED, life=edit.stamp))
)
ENDED = st.builds(DocumentState, NAMES, STAMPS, st.just({}), STAMPS)
STATES = ENDED | st.builds(DocumentState, NAMES, STAMPS, REGISTERS)
CONFLICTS = st.builds(
    *(Conflict, TEXTS, NAMES, STAMPS, FIELD_PATHS, STAMPS, STAMPS, COUNTS, JSONS, st.booleans()),
)
STATUSES = st.sampled_from(Status)
ROW = {"version": maybe(TEXTS), "timestamp": maybe(TIMES), "leader_eligible": maybe(st.booleans())}
ROW |= {"intake": maybe(st.booleans()), "holding": maybe(COUNTS)}
ROWS = st.builds(PresenceRow, NAMES, COUNTS, maybe(STATUSES), **ROW, **SELF)
BEAT = {"status": STATUSES, "root": maybe(TEXTS), "heard": maybe(COUNTS)}
BEAT |= {"beat": maybe(COUNTS), "holding": maybe(several(TEXTS)), "intake": maybe(st.booleans())}
MESSAGES: dict[type[Message], st.SearchStrategy[Message]] = {
    Identity: st.builds(
        Identity, NAMES, TIMES, term=COUNTS, leader_eligible=st.booleans(), **SELF, **IDENTITY, **LEADS
    ),
    Heartbeat: st.builds(Heartbeat, NAMES, TIMES, term=COUNTS, **SELF, **BEAT, **LEADS),
    Goodbye: st.builds(Goodbye, NAMES, TIMES, maybe(TEXTS), maybe(NAMES), maybe(TEXTS)),
    Presence: st.builds(Presence, COUNTS, SEQS, st.booleans(), several(ROWS), maybe(TEXTS)),
    Changes: st.builds(Changes, COUNTS, several(CHANGES)),
    Ack: st.builds(Ack, ORIGINS, SEQS),
    Digest: st.builds(Digest, tables(NAMES, TEXTS), st.booleans(), tables(ORIGINS, SEQS)),
    Documents: st.builds(Documents, several(STATES)),
    FeatureEvent: st.builds(FeatureEvent, NAMES, TEXTS, OBJECTS, TIMES, maybe(TEXTS)),
    Conflicts: st.builds(Conflicts, several(CONFLICTS), several(TEXTS)),
    SettingsEvent: st.builds(SettingsEvent, NAMES, OBJECTS, TIMES, maybe(COUNTS)),
    Promote: st.builds(Promote, NAMES, TIMES, maybe(COUNTS), maybe(TEXTS), COUNTS),
    VoteRequest: st.builds(VoteRequest, COUNTS, NAMES, COUNTS, st.booleans(), TEXTS, maybe(NAMES)),
    Vote: st.builds(Vote, COUNTS, st.booleans(), st.booleans(), TEXTS, several(PROPOSALS)),
    YouGo: st.builds(YouGo, COUNTS),
    HandOver: st.builds(HandOver, COUNTS, st.booleans()),
    Nominate: st.builds(Nominate, NAMES),
    ClaimRequest: st.builds(ClaimRequest, TEXTS, NAMES, NAMES, NAMES, COUNTS, st.booleans()),
    Decision: st.builds(Decision, TEXTS, st.booleans(), TEXTS, COUNTS, maybe(NAMES)),
    Propose: st.builds(Propose, COUNTS, PROPOSALS),
    ProposalStored: st.builds(ProposalStored, COUNTS, TEXTS, st.booleans(), TEXTS),
    Leases: st.builds(Leases, COUNTS, COUNTS, several(TEXTS), tables(TEXTS, TEXTS)),
    Compared: st.builds(Compared, COUNTS, several(PROPOSALS)),
    Refuse: st.builds(Refuse, COUNTS, TEXTS),
}


def test_every_type_takes_part_in_the_round_trips() -> None:
    assert MESSAGES.keys() == set(TYPES.values())


@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)
def test_what_is_encoded_decodes_to_the_same(kind: type[Message]) -> None:
    @settings(deadline=None, max_examples=50)
    @given(MESSAGES[kind])
    def check(message: Message) -> None:
        decoded = again(message)
        assert decoded == message
        assert repr(decoded) == repr(message)  # equal is not enough: true == 1 == 1.0

    check()


# Totality.


def read_is_sound(frame: str | bytes) -> None:
    """Whatever it is: a message, and one that can be passed on or a reason that can be logged."""
    message = decode(frame)
    if isinstance(message, Malformed):
        assert message.reason.isprintable()
        assert not message.reason.endswith(": ")
        assert len(message.reason) <= 120
    elif not isinstance(message, Ignored):
        assert again(message) == message


@settings(deadline=None)
@given(st.binary() | st.text() | JSONS.map(json.dumps))
def test_anything_decodes_to_something(frame: str | bytes) -> None:
    read_is_sound(frame)


def spoil(frame: dict[str, Any], draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """Replace or remove one value somewhere in `frame`."""
    node: Any = frame
    while True:
        choices = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not choices:
            return
        key = draw(st.sampled_from(choices))
        if isinstance(node[key], dict | list) and draw(st.booleans()):
            node = node[key]
            continue
        if isinstance(node, dict) and draw(st.booleans()):
            del node[key]
        else:
            node[key] = draw(JSONS)
        return


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_spoiled_frame_decodes_to_something(data: st.DataObject) -> None:
    frame = orjson.loads(encode(data.draw(st.one_of(*MESSAGES.values()))))
    spoil(frame, data.draw)
    read_is_sound(orjson.dumps(frame).decode())


@settings(deadline=None)
@given(st.text(alphabet="0123456789-+:.,TWZz \0"))
def test_any_time_is_read_or_refused(text: str) -> None:
    read_is_sound(json.dumps({"type": "goodbye", "instanceId": "a", "timestamp": text}))


@pytest.mark.parametrize("filler", ["1", '"x"', "[]", "{}", "null"])
def test_huge_frames_of_rubbish_are_one_fault(filler: str) -> None:
    rows = ",".join([filler] * (2 * 1024 * 1024 // (len(filler) + 1)))
    assert isinstance(decode(f'{{"type":"changes","term":1,"changes":[{rows}]}}'), Malformed)
    assert isinstance(decode(f'{{"type":"ack","seq":1,"origin":[{rows}]}}'), Malformed)
    assert isinstance(decode(rows), Malformed)
    assert decode(f'{{"type":"novel","rows":[{rows}]}}') == Ignored("novel")


def test_the_type_of_an_ignored_message_is_kept_short() -> None:
    assert decode(f'{{"type":"{"x" * 1_000_000}"}}') == Ignored("x" * 40)


def nested(levels: int) -> str:
    return (
        '{"type":"feature_event","instanceId":"a","eventType":"e","timestamp":"2026-03-14T09:26:53Z",'
        f'"payload":{{"deep":{"[" * (levels - 1)}{"]" * (levels - 1)}}}}}'
    )


def test_what_is_nested_too_deep_to_be_sent_again_is_not_taken_in() -> None:
    deepest = decode(nested(MAX_JSON_DEPTH))
    assert isinstance(deepest, FeatureEvent)
    assert again(deepest) == deepest
    assert decode(nested(MAX_JSON_DEPTH + 1)) == Malformed("feature_event.payload: nested deeper than 100 levels")
    too_deep_for_json = decode(nested(5000))
    assert isinstance(too_deep_for_json, Malformed)
    assert too_deep_for_json.reason.startswith("not JSON: ")


# Times.


@pytest.mark.parametrize(
    ("text", "utc_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-03-14T09:26:53.589Z", AT),
        ("2026-03-14T09:26:53.5899999Z", AT),
        ("2026-03-14T11:26:53.589+02:00", AT),
        ("2026-03-14 03:56:53.589-0530", AT),
        ("20260314T092653.589Z", AT),
        ("2026-03-14T09:26:53Z", AT - 589),
        ("2026-03-14T09:26Z", AT - 53_589),
        ("9999-12-31T23:59:59.999999Z", LAST_UTC_MS),
    ],
)
def test_times(text: str, utc_ms: int) -> None:
    assert decode(f'{{"type":"goodbye","instanceId":"a","timestamp":"{text}"}}') == Goodbye("a", UtcMs(utc_ms))


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "2026-03-14T09:26:53.589",
        "2026-03-14",
        "2026-02-30T00:00:00Z",
        "1969-12-31T23:59:59.999Z",
        "9999-12-31T23:59:59-00:01",
        "0001-01-01T00:00:00+23:59",
        "+10000-01-01T00:00:00Z",
        "2026-03-14T09:26:53Z\\u0000",
        "",
    ],
)
def test_times_that_are_none(text: str) -> None:
    message = decode(f'{{"type":"goodbye","instanceId":"a","timestamp":"{text}"}}')
    assert isinstance(message, Malformed)
    assert message.reason.startswith("goodbye.timestamp: expected an ISO-8601 time with an offset, 1970 to 9999, found")


# What is malformed, and what the log says about it.

GOODBYE = '"instanceId":"a","timestamp":"2026-03-14T09:26:53.589Z"'


def heartbeat(more: str) -> str:
    return f'{{"type":"heartbeat",{GOODBYE},{more}}}'


def event(payload: str) -> str:
    return f'{{"type":"feature_event",{GOODBYE},"eventType":"e","payload":{payload}}}'


def digest(more: str) -> str:
    return f'{{"type":"digest","documents":{{}},{more}}}'


def presence(row: str) -> str:
    return f'{{"type":"presence","term":0,"seq":1,"full":true,"members":[{row}]}}'


def promote(more: str) -> str:
    return f'{{"type":"promote",{GOODBYE},{more}}}'


def asked(more: str) -> str:
    return f'{{"type":"vote_request","term":1,"candidate":"a","priority":0,"pre":true,"peersHash":"",{more}}}'


VOTED = '"term":1,"slug":"p","milestone":"m","life":[1,0,"a"],"claim":"c","generation":1,"holder":"a"'
VOTED += ',"priority":null,"claimedMs":1'


def vote(proposal: str) -> str:
    return f'{{"type":"vote","term":1,"pre":false,"granted":true,"proposals":[{{{proposal}}}]}}'


def claim(more: str) -> str:
    return f'{{"type":"claim","claim":"c","slug":"p","milestone":"m","phase":"b","generation":0,{more}}}'


def decision(more: str) -> str:
    return f'{{"type":"decision","claim":"c","granted":true,"reason":"granted",{more}}}'


def propose(more: str) -> str:
    return f'{{"type":"propose","term":1,"proposal":{{{VOTED},"phase":"b",{more}}}}}'


def leases(more: str) -> str:
    return f'{{"type":"leases","term":1,"beat":1,"valid":[],{more}}}'


def changes(*replaced: str) -> str:
    """One good change and one in which some keys are replaced (the last of equal keys counts)."""
    good = '"origin":"a.s","seq":1,"stamp":[5,0,"a"],"slug":"p","life":[1,0,"a"],"kind":"updated","fields":{"title":1}'
    return f'{{"type":"changes","term":0,"changes":[{{{good}}},{{{",".join((good, *replaced))}}}]}}'


def documents(more: str) -> str:
    return f'{{"type":"documents","documents":[{{"slug":"p","life":[1,0,"a"],"registers":{{}},{more}}}]}}'


COUNT = "expected an integer from 0 to 2**53 - 1, found"
UTC_MS = "expected milliseconds since 1970, up to 9999, found"
SEQ = "expected an integer from 1 to 2**53 - 1, found"
STATUS = "heartbeat.status: expected one of alive, suspect, draining, left, failed, found"
LABEL = f"expected a text of at most {MAX_LABEL} characters, found '{'x' * 40}'... ({MAX_LABEL + 1} characters)"
EMPTY = "must be a text that is not empty, not ''"
LONG = f"is 201 bytes long, at most 200 are allowed: {'x' * 40}..."
UNSAFE = "must not start with a dot or hold a separator or control character:"
NO_RANK = "expected a number, the rank of the element, found"
NO_STAMP = "expected a stamp [utcMs, counter, instanceId], found"
NO_REGISTER = "expected a register [stamp, value] or [stamp], found"
CHANGE = "changes.changes[1]"
STATE = "documents.documents[0]"

MALFORMED = {
    "": "not JSON: Input is a zero-length, empty document: line 1 column 1 (char 0)",
    "[]": "expected an object, found an array of 0",
    '"identity"': "expected an object, found 'identity'",
    "null": "expected an object, found null",
    "{}": "type: expected a text, found null",
    '{"type":5}': "type: expected a text, found 5",
    '{"type":"goodbye"}': "goodbye.instanceId: missing",
    '{"type":"goodbye","instanceId":"a"}': "goodbye.timestamp: missing",
    '{"type":"project_event","instanceId":5}': "project_event.instanceId: expected a text, found 5",
    '{"type":"ack","origin":"a.s","seq":0}': f"ack.seq: {SEQ} 0",
    '{"type":"ack","origin":"as","seq":1}': f"ack.origin: an origin's instanceId {EMPTY}",
    '{"type":"ack","origin":"a.","seq":1}': f"ack.origin: an origin's store {EMPTY}",
    digest('"answer":1'): "digest.answer: expected true or false, found 1",
    digest('"documents":[]'): "digest.documents: expected an object, found an array of 0",
    digest('"documents":{"p":5}'): "digest.documents['p']: expected a text, found 5",
    digest('"documents":{"..":"d"}'): f"digest.documents['..']: a slug {UNSAFE} '..'",
    digest('"seqs":{"a.s":0}'): f"digest.seqs['a.s']: {SEQ} 0",
    digest('"seqs":{"as":1}'): f"digest.seqs['as']: an origin's instanceId {EMPTY}",
    '{"type":"refuse","code":"12","reason":""}': f"refuse.code: {COUNT} '12'",
    '{"type":"refuse","code":true,"reason":""}': f"refuse.code: {COUNT} true",
    '{"type":"refuse","code":1.0,"reason":""}': f"refuse.code: {COUNT} 1.0",
    '{"type":"refuse","code":9007199254740992,"reason":""}': f"refuse.code: {COUNT} 9007199254740992",
    '{"type":"refuse","code":1,"reason":5}': "refuse.reason: expected a text, found 5",
    f'{{"type":"refuse","code":"{"x" * 99}"}}': f"refuse.code: {COUNT} '{'x' * 40}'... (99 characters)",
    heartbeat('"instanceId":""'): f"heartbeat.instanceId: an instanceId {EMPTY}",
    heartbeat(f'"instanceId":"{"x" * 201}"'): f"heartbeat.instanceId: an instanceId {LONG}",
    heartbeat('"instanceId":"' + r"\n" * 201 + '"'): f"heartbeat.instanceId: an instanceId {LONG.replace('x', '?')}",
    heartbeat('"instanceId":5'): "heartbeat.instanceId: expected a text, found 5",
    heartbeat('"term":-1'): f"heartbeat.term: {COUNT} -1",
    heartbeat('"term":null'): f"heartbeat.term: {COUNT} null",
    heartbeat('"status":"asleep"'): f"{STATUS} 'asleep'",
    heartbeat('"status":["alive"]'): f"{STATUS} an array of 1",
    heartbeat('"tags":"docs"'): "heartbeat.tags: expected an array, found 'docs'",
    heartbeat('"tags":["docs",5]'): "heartbeat.tags[1]: expected a text, found 5",
    heartbeat(
        f'"tags":[{",".join(["1"] * 33)}]'
    ): "heartbeat.tags: expected an array of at most 32, found an array of 33",
    heartbeat(f'"tags":["{"x" * 201}"]'): f"heartbeat.tags[0]: {LABEL}",
    heartbeat(f'"name":"{"x" * 201}"'): f"heartbeat.name: {LABEL}",
    heartbeat('"name":5'): "heartbeat.name: expected a text, found 5",
    heartbeat('"leads":-1'): f"heartbeat.leads: {COUNT} -1",
    heartbeat('"heard":1.5'): f"heartbeat.heard: {COUNT} 1.5",
    heartbeat('"authoritative":0'): "heartbeat.authoritative: expected true or false, found 0",
    promote('"term":9007199254740992'): f"promote.term: {COUNT} 9007199254740992",
    promote('"timestamp":1773480413589'): (
        "promote.timestamp: expected an ISO-8601 time with an offset, 1970 to 9999, found 1773480413589"
    ),
    promote(f'"url":"{"x" * 2001}"'): (
        f"promote.url: expected a text of at most 2000 characters, found '{'x' * 40}'... (2001 characters)"
    ),
    asked('"candidate":"a/b"'): f"vote_request.candidate: an instanceId {UNSAFE} 'a/b'",
    asked('"transfer":""'): f"vote_request.transfer: an instanceId {EMPTY}",
    asked('"pre":null'): "vote_request.pre: expected true or false, found null",
    asked('"term":-1'): f"vote_request.term: {COUNT} -1",
    '{"type":"vote","term":1,"pre":false}': "vote.granted: missing",
    vote(""): "vote.proposals[0].term: missing",
    vote('"phase":"..",' + VOTED): f"vote.proposals[0].phase: a phase {UNSAFE} '..'",
    '{"type":"you_go"}': "you_go.term: missing",
    '{"type":"hand_over","term":"1"}': f"hand_over.term: {COUNT} '1'",
    '{"type":"nominate","instanceId":""}': f"nominate.instanceId: an instanceId {EMPTY}",
    claim('"claim":7'): "claim.claim: expected a text, found 7",
    claim(f'"claim":"{"x" * 201}"'): f"claim.claim: {LABEL}",
    claim('"slug":"../p"'): f"claim.slug: a slug {UNSAFE} '../p'",
    claim('"milestone":""'): f"claim.milestone: a milestone {EMPTY}",
    claim(f'"phase":"{"x" * 201}"'): f"claim.phase: a phase {LONG}",
    claim('"generation":-1'): f"claim.generation: {COUNT} -1",
    claim('"overflow":1'): "claim.overflow: expected true or false, found 1",
    '{"type":"claim","claim":"c","slug":"p","milestone":"m","phase":"b"}': "claim.generation: missing",
    decision('"granted":null'): "decision.granted: expected true or false, found null",
    decision('"claimedBy":"a/b"'): f"decision.claimedBy: an instanceId {UNSAFE} 'a/b'",
    decision('"generation":"1"'): f"decision.generation: {COUNT} '1'",
    '{"type":"propose","term":1}': "propose.proposal: missing",
    propose('"phase":".b"'): f"propose.proposal.phase: a phase {UNSAFE} '.b'",
    propose('"life":[1]'): f"propose.proposal.life: {NO_STAMP} an array of 1",
    propose('"holder":""'): f"propose.proposal.holder: an instanceId {EMPTY}",
    propose('"priority":true'): f"propose.proposal.priority: {COUNT} true",
    propose('"attempts":-1'): f"propose.proposal.attempts: {COUNT} -1",
    propose(f'"claimedMs":{LAST_UTC_MS + 1}'): f"propose.proposal.claimedMs: {UTC_MS} {LAST_UTC_MS + 1}",
    propose('"claimedMs":1.0'): f"propose.proposal.claimedMs: {UTC_MS} 1.0",
    '{"type":"stored","term":1,"claim":"c"}': "stored.accepted: missing",
    '{"type":"stored","term":1,"claim":null}': "stored.claim: expected a text, found null",
    leases('"beat":-1'): f"leases.beat: {COUNT} -1",
    leases('"valid":["c",5]'): "leases.valid[1]: expected a text, found 5",
    leases(
        f'"valid":[{",".join(["1"] * 4097)}]'
    ): "leases.valid: expected an array of at most 4096, found an array of 4097",
    leases('"lost":["c"]'): "leases.lost: expected an object, found an array of 1",
    leases('"lost":{"c":5}'): "leases.lost['c']: expected a text, found 5",
    '{"type":"compared","term":1,"proposals":{}}': "compared.proposals: expected an array, found an object of 0",
    '{"type":"compared","term":1,"proposals":[5]}': "compared.proposals[0]: expected an object, found 5",
    heartbeat('"beat":-1'): f"heartbeat.beat: {COUNT} -1",
    heartbeat('"intake":"on"'): "heartbeat.intake: expected true or false, found 'on'",
    heartbeat('"holding":1'): "heartbeat.holding: expected an array, found 1",
    heartbeat(f'"holding":["{"x" * 201}"]'): f"heartbeat.holding[0]: {LABEL}",
    heartbeat(
        f'"holding":[{",".join(["1"] * 4097)}]'
    ): "heartbeat.holding: expected an array of at most 4096, found an array of 4097",
    presence('{"instanceId":"a","age":1,"holding":["c"]}'): f"presence.members[0].holding: {COUNT} an array of 1",
    presence('{"instanceId":"a","age":1,"intake":0}'): "presence.members[0].intake: expected true or false, found 0",
    heartbeat('"capacity":"much"'): "heartbeat.capacity: expected an object, found 'much'",
    heartbeat('"capacity":{"ramMb":"12"}'): f"heartbeat.capacity.ramMb: {COUNT} '12'",
    heartbeat('"capacity":{"cpuPercent":true}'): "heartbeat.capacity.cpuPercent: expected a number, found true",
    event("[]"): "feature_event.payload: expected an object, found an array of 0",
    presence('{"instanceId":"a","age":-1}'): f"presence.members[0].age: {COUNT} -1",
    presence('{"instanceId":"a","age":1},"a"'): "presence.members[1]: expected an object, found 'a'",
    changes('"seq":0'): f"{CHANGE}.seq: {SEQ} 0",
    changes('"stamp":[1,2]'): f"{CHANGE}.stamp: {NO_STAMP} an array of 2",
    changes('"stamp":[-1,0,"a"]'): f"{CHANGE}.stamp: {COUNT} -1",
    changes('"stamp":[1,0.5,"a"]'): f"{CHANGE}.stamp: {COUNT} 0.5",
    changes('"stamp":[1,0,""]'): f"{CHANGE}.stamp: an instanceId {EMPTY}",
    changes('"kind":"moved"'): f"{CHANGE}.kind: expected one of created, updated, deleted, found 'moved'",
    changes('"kind":"created"'): f"{CHANGE}: created at 5.0.a, but its life is 1.0.a",
    changes('"kind":"deleted"'): f"{CHANGE}: deleted, and has fields or removed paths",
    changes('"kind":"deleted","fields":{},"removed":["a"]'): f"{CHANGE}: deleted, and has fields or removed paths",
    changes('"slug":"a/b"'): f"{CHANGE}.slug: a slug {UNSAFE} 'a/b'",
    changes('"fields":{"a/b":1}'): f"{CHANGE}.fields['a/b']: no register can have the path 'a/b'",
    changes('"fields":{"milestones/m":"1"}'): f"{CHANGE}.fields['milestones/m']: {NO_RANK} '1'",
    changes('"fields":{"milestones/m":true}'): f"{CHANGE}.fields['milestones/m']: {NO_RANK} true",
    changes('"fields":{"milestones/m":1e300}'): f"{CHANGE}.fields['milestones/m']: {NO_RANK} 1e+300",
    changes('"fields":{"milestones/m/phases/x":[]}'): (
        f"{CHANGE}.fields['milestones/m/phases/x']: {NO_RANK} an array of 0"
    ),
    changes('"removed":["title","a/b"]'): f"{CHANGE}.removed[1]: no register can have the path 'a/b'",
    changes('"removed":[5]'): f"{CHANGE}.removed[0]: expected a text, found 5",
    documents('"registers":{"title":[]}'): f"{STATE}.registers['title']: {NO_REGISTER} an array of 0",
    documents('"registers":{"milestones/m":[[1,0,"a"],null]}'): f"{STATE}.registers['milestones/m']: {NO_RANK} null",
    documents('"registers":{"x/y":[[1,0,"a"]]}'): f"{STATE}.registers['x/y']: no register can have the path 'x/y'",
    documents('"registers":{"title":[[1,0,"a"],1]},"ended":[2,0,"a"]'): f"{STATE}: ended, and has registers",
}


@pytest.mark.parametrize(("frame", "reason"), MALFORMED.items())
def test_malformed(frame: str, reason: str) -> None:
    assert decode(frame) == Malformed(reason[:120])


@pytest.mark.parametrize("frame", [b"", b"\xff", encode(Ack("a.s", 1))])
def test_binary_frames_are_malformed(frame: bytes) -> None:
    assert decode(frame) == Malformed(f"a binary frame of {len(frame)} bytes")


@pytest.mark.parametrize("value", ['"\ud800"', '"\\ud800"', '"\\udc00x"', "NaN", "Infinity", "1e999", "\ufeff1"])
def test_what_is_not_unicode_or_not_json_is_malformed(value: str) -> None:
    message = decode(f'{{"type":"novel","x":{value}}}')
    assert isinstance(message, Malformed)
    assert message.reason.startswith("not JSON: ")


@pytest.mark.parametrize("name", ["registry_sync", "claims", "", "Identity", "malformed"])
def test_other_types_are_ignored(name: str) -> None:
    assert decode(f'{{"type":"{name}","instanceId":5}}') == Ignored(name)


# Our own faults.


@pytest.mark.parametrize(
    "message",
    [
        Ignored("novel"),
        Malformed("not JSON"),
        Refuse(4406, "\ud800"),
        Goodbye("\ud800", AT),
        FeatureEvent("a", "project:updated", {"\ud800": 1}, AT),
        FeatureEvent("a", "project:updated", {"big": 2**64}, AT),
        Goodbye("a", UtcMs(LAST_UTC_MS + 1)),
        Goodbye("a", UtcMs(2**80)),
    ],
    ids=repr,
)
def test_what_cannot_be_sent_is_our_fault(message: Message) -> None:
    with pytest.raises(LocalProtocolError):
        encode(message)


# What it costs.


def test_a_frame_takes_no_more_memory_than_it_has_bytes() -> None:
    """Thousands may wait on a link."""
    tracemalloc.start()
    frames = [encode(Ack("dev-02.s", seq)) for seq in range(1, 1001)]
    taken_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken_bytes < 3 * sum(map(len, frames))


def test_a_name_is_one_text_however_often_it_was_read() -> None:
    stamps = {str(number): Stamp(number, 0, "dev-01") for number in range(3)}
    read = again(Changes(1, (Change("dev-01.s1", 1, STAMP, "site", STAMP, Kind.UPDATED, bases=stamps),)))
    assert isinstance(read, Changes)
    assert len({id(stamp.instance_id) for stamp in read.changes[0].bases.values()}) == 1


def test_what_was_refused_once_is_refused_again() -> None:
    for _ in range(2):
        assert isinstance(decode('{"type": "ack", "origin": "../x.s", "seq": 1}'), Malformed)
