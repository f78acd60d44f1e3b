"""The table of keys: what each kind accepts and refuses, and what follows from a key's name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.config_check import (
    ADDRESS,
    COMMAND,
    ENVIRONMENT,
    KEYS,
    NAME,
    PATH,
    PORT,
    RELATIONS,
    SETTINGS,
    SWITCH,
    TEXT,
    URL,
    Key,
    Kind,
    Refused,
)
from meshd.configuration import Configuration, Hivemind, Protolab
from meshd.model import Json, Role


def refused(kind: Kind, value: Json) -> Refused:
    with pytest.raises(Refused) as caught:
        kind.accept(value)
    return caught.value


def accepted_or_suggested(url: str) -> object:
    try:
        return URL.accept(url)
    except Refused as refused:
        (refusal,) = refused.refusals
        return refusal.suggestion or None


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("ws://host:4444", "ws://host:4444"),
        ("ws://host:4444/", "ws://host:4444"),
        ("WS://Dev-01.Tail.ts.net:04444", "ws://dev-01.tail.ts.net:4444"),
        ("wss://host:443/Sync", "wss://host:443/Sync"),
        ("ws://[FD7A:115C:A1E0::0001]:4444/", "ws://[fd7a:115c:a1e0::1]:4444"),
        ("ws://compose_service:9800", "ws://compose_service:9800"),
        ("ws://a:1", "ws://a:1"),
        ("ws://a:65535", "ws://a:65535"),
        ("ws://0123:1", None),
        ("ws://a", "ws://a:4444"),
        ("wss://A/", "wss://a:4444"),
        ("ws://[::1]", "ws://[::1]:4444"),
        ("http://a:4444", "ws://a:4444"),
        ("https://a:4444", "wss://a:4444"),
        ("100.64.0.1:4444", "ws://100.64.0.1:4444"),
        ("ws://:4444", None),
        ("ws://a:4444?x=1", None),
        ("ws://a:4444/#x", None),
        ("ws://a:0", None),
        ("ws://a:65536", None),
        ("ws://a:123456", None),
        ("ws://a b:1", None),
        ("ws://a:1\n", None),
        ("ws://é:1", None),
        ("ws://0.0.0.0:1", None),
        ("ws://[::]:1", None),
        ("ws://1.2.3.400:1", None),
        ("ws://[1::2::3]:1", None),
        ("", None),
    ],
)
def test_urls_have_one_spelling_or_say_which_was_meant(written: str, normal: str | None) -> None:
    assert accepted_or_suggested(written) == normal


def test_a_password_in_a_url_is_not_shown() -> None:
    (refusal,) = refused(URL, "ws://me:secret@a:4444").refusals
    assert refusal.found == "found the text 'ws://***@a:4444'"


@given(st.text(alphabet="wsWS:/[]@.?#0123456789abF_-é %\n"))
def test_an_accepted_url_is_its_own_normal_form(text: str) -> None:
    try:
        accepted = URL.accept("ws://" + text)
    except Refused:
        return
    assert isinstance(accepted, str)
    assert URL.accept(accepted) == accepted


@pytest.mark.parametrize(
    ("kind", "value", "accepted"),
    [
        (SWITCH, False, False),
        (PORT, 1, 1),
        (PORT, 65_535, 65_535),
        (SETTINGS, {"a": [-(2**63), 2**63 - 1, 0.5, "b", None]}, {"a": [-(2**63), 2**63 - 1, 0.5, "b", None]}),
        (TEXT, "x" * 200, "x" * 200),
        (NAME, "dev-01.example", "dev-01.example"),
        (PATH, "./data", Path("data")),
        (ADDRESS, "FE80::0001", "fe80::1"),
        (COMMAND, None, ()),
        (COMMAND, ["./agent", "", "a\nb"], ("./agent", "", "a\nb")),
        (ENVIRONMENT, None, {}),
        (ENVIRONMENT, {"A_1": ""}, {"A_1": ""}),
    ],
)
def test_accepted(kind: Kind, value: Json, accepted: object) -> None:
    assert kind.accept(value) == accepted


@pytest.mark.parametrize(
    ("kind", "value", "places"),
    [
        (SWITCH, 1, [None]),
        (SWITCH, None, [None]),
        (PORT, 0, [None]),
        (PORT, 65_536, [None]),
        (PORT, True, [None]),
        (SETTINGS, {"a": 2**63}, [None]),
        (SETTINGS, {"a": -(2**63) - 1}, [None]),
        (SETTINGS, {"a": [float("inf")]}, [None]),
        (TEXT, "x" * 201, [None]),
        (TEXT, "a\nb", [None]),
        (TEXT, "\udcff", [None]),
        (NAME, "", [None]),
        (NAME, ".hidden", [None]),
        (NAME, "a/b", [None]),
        (NAME, "é" * 101, [None]),
        (NAME, "\ud800", [None]),
        (PATH, "", [None]),
        (PATH, "~/x", [None]),
        (PATH, "a\0b", [None]),
        (ADDRESS, "100.64.0.256", [None]),
        (ADDRESS, "host", [None]),
        (COMMAND, "./agent", [None]),
        (COMMAND, ["ok", 5, "a\0", None], [1, 2, 3]),
        (ENVIRONMENT, ["A=1"], [None]),
        (ENVIRONMENT, {"A": 1, "B": "1", "C D": "", "E": "\0"}, ["A", "C D", "E"]),
    ],
)
def test_refused_with_every_element_that_is_to_blame(kind: Kind, value: Json, places: list[object]) -> None:
    assert [refusal.at for refusal in refused(kind, value).refusals] == places


def test_a_long_text_is_shown_in_part() -> None:
    (refusal,) = refused(TEXT, "x" * 5_000).refusals
    assert refusal.found == f"found the text '{'x' * 77}...'"


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("name", "MESHD_NAME"),
        ("repoRoot", "MESHD_REPO_ROOT"),
        ("protolab.syncPort", "MESHD_SYNC_PORT"),
        ("protolab.enabled", "MESHD_PROTOLAB_ENABLED"),
        ("hivemind.peerTtlMs", "MESHD_PEER_TTL_MS"),
        ("hivemind.enabled", "MESHD_HIVEMIND_ENABLED"),
        ("workIntake.enabled", "MESHD_WORK_INTAKE_ENABLED"),
        ("api.port", "MESHD_API_PORT"),
    ],
)
def test_the_variable_follows_from_the_key(name: str, variable: str) -> None:
    assert Key(name, TEXT, "").variable == variable


def test_every_key_has_its_own_variable_unless_no_text_can_stand_for_it() -> None:
    variables = [key.variable for key in KEYS if key.variable]
    assert len(set(variables)) == len(variables)
    without = {key.name for key in KEYS if not key.variable}
    assert without == {"agents.command", "agents.env", "sharedSettings"}


def test_every_value_of_the_classes_has_a_key_and_every_key_a_value() -> None:
    attributes = []
    for top in attrs.fields(Configuration):
        section = type(getattr(Configuration(), top.name))
        attributes += (
            [f"{top.name}.{part.name}" for part in attrs.fields(section)] if attrs.has(section) else [top.name]
        )
    snake_sections = {key.section: re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", key.section) for key in KEYS}
    keys = [f"{snake_sections[key.section]}.{key.attribute}".lstrip(".") for key in KEYS]
    assert sorted(keys) == sorted(set(attributes) - {"foreign"})


# --- relations ---

PEERS = ("ws://a:4444", "ws://b:4444", "ws://c:4444")
MESH = Configuration(
    protolab=Protolab(enabled=True, role=Role.PRIMARY, instance_id="a", instance_url="ws://a:4444"),
    hivemind=Hivemind(enabled=True, peers=PEERS),
)


def protolab(base: Configuration = MESH, **values: Any) -> Configuration:
    return attrs.evolve(base, protolab=attrs.evolve(base.protolab, **values))


def hivemind(base: Configuration = MESH, **values: Any) -> Configuration:
    return attrs.evolve(base, hivemind=attrs.evolve(base.hivemind, **values))


def intake(**values: Any) -> Configuration:
    return attrs.evolve(MESH, work_intake=attrs.evolve(MESH.work_intake, **values))


def api(base: Configuration = MESH, **values: Any) -> Configuration:
    return attrs.evolve(base, api=attrs.evolve(base.api, **values))


def said_of(configuration: Configuration) -> list[str]:
    return [str(problem) for _, relation in RELATIONS for problem in relation(configuration)]


TLS = protolab(instance_url="wss://a:4444")
PRIMARY_SECOND = "the canonical primary is index 0: it takes the lead back unless failback is manual"
ALONE = "must list every instance: nobody else can lead when this instance is gone"
NOBODY = "must list every instance: a worker has nobody to dial"
DEMONSTRATION = "less is for tests and demonstrations"
OWN = "must be the entry of hivemind.peers by which the others reach this instance"
OFF = "the mesh stays off, it needs both"


@pytest.mark.parametrize(
    ("configuration", "severity", "found", "allowed"),
    [
        (protolab(enabled=False), "warning", "hivemind.enabled: found true while protolab.enabled is false", OFF),
        (hivemind(enabled=False), "warning", "protolab.enabled: found true while hivemind.enabled is false", OFF),
        (hivemind(peers=()), "warning", "hivemind.peers: found no peers", ALONE),
        (hivemind(protolab(role=Role.WORKER), peers=()), "error", "hivemind.peers: found no peers", NOBODY),
        (
            hivemind(peers=(*PEERS, "ws://b:4444")),
            "error",
            "hivemind.peers[3]: found the text 'ws://b:4444'",
            "must not repeat hivemind.peers[1]: the index is the priority",
        ),
        (protolab(instance_url=None), "error", "protolab.instanceUrl: found nothing", OWN),
        (
            protolab(instance_url="ws://cc:4444"),
            "error",
            "protolab.instanceUrl: found the text 'ws://cc:4444'",
            f"{OWN} (did you mean `ws://c:4444`?)",
        ),
        (
            protolab(sync_port=9800),
            "error",
            "protolab.instanceUrl: found the text 'ws://a:4444'",
            "must have port 9800 (syncPort), or `advertised: true` if another is mapped to it",
        ),
        (
            hivemind(TLS, peers=("wss://a:4444", "ws://b:4444")),
            "warning",
            "protolab.instanceUrl: found the text 'wss://a:4444'",
            "meshd serves no TLS on syncPort: put a proxy in front and say `advertised: true`",
        ),
        (
            protolab(instance_url="ws://b:4444"),
            "warning",
            "protolab.role: found primary at index 1 of hivemind.peers",
            PRIMARY_SECOND,
        ),
        (
            hivemind(peer_ttl_ms=89_999),
            "warning",
            "hivemind.peerTtlMs: found 89999",
            "should be at least 3 heartbeats (90000), or one lost frame raises an alert",
        ),
        (
            intake(tick_interval_ms=4_999),
            "warning",
            "workIntake.tickIntervalMs: found 4999",
            f"should be at least 5000: {DEMONSTRATION}",
        ),
        (
            intake(claim_timeout_ms=59_999),
            "warning",
            "workIntake.claimTimeoutMs: found 59999",
            f"should be at least 60000: {DEMONSTRATION}",
        ),
        (
            api(protolab(sync_bind_addr="127.0.0.1"), port=4444),
            "error",
            "api.port: found 4444",
            "must not be the port of protolab.syncPort on the same address",
        ),
    ],
)
def test_keys_that_disagree(configuration: Configuration, severity: str, found: str, allowed: str) -> None:
    assert said_of(configuration) == [f": {severity}: {found}; {allowed}"]


@pytest.mark.parametrize(
    "configuration",
    [
        Configuration(),
        MESH,
        hivemind(peer_ttl_ms=90_000),
        intake(tick_interval_ms=5_000, claim_timeout_ms=60_000),
        protolab(sync_port=9800, advertised=True),
        protolab(role=Role.WORKER),
        protolab(role=Role.WORKER, instance_url="ws://b:4444"),
        hivemind(protolab(TLS, advertised=True), peers=("wss://a:4444", "ws://b:4444")),
        api(protolab(sync_bind_addr="100.64.0.1"), port=4444, bind_addr="127.0.0.1"),
        # With the mesh off on purpose, what only the mesh needs is not asked for.
        hivemind(protolab(enabled=False, role=Role.WORKER), enabled=False, peers=()),
        hivemind(protolab(enabled=False, instance_url="ws://x:1"), enabled=False),
        api(hivemind(protolab(enabled=False), enabled=False), port=4444),
    ],
)
def test_keys_that_agree_say_nothing(configuration: Configuration) -> None:
    assert said_of(configuration) == []
