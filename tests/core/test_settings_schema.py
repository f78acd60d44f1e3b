"""The allow-list: every key and kind, what is refused, in which order, and with which path."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.settings_schema import CREDENTIAL, INVALID, KINDS, MAX_BYTES, UNKNOWN, check, sift
from meshd.model import Json
from tests.core.strategies import values

GOOD: dict[str, list[Json]] = {
    "autoMode": [True, False],
    "maxConcurrentAgents": [0, 1000],
    "maxRetries": [0, 3],
    "retryDelayMs": [0, 60_000],
    "agentTimeoutMs": [0, 3_600_000],
    "maxTurns": [1, 500],
    "defaultModel": ["", "claude-sonnet-4-5"],
    "models": [{}, {"review": "opus", "maxTokens": 4096}],
    "planningMode": ["full"],
    "customInstructions": ["be brief\nand kind"],
    "featureFlags": [{"pipeline": True}],
    "workflow": [{"maxRetries": 2}, {"a": {"b": [1, None, "x", 1.5]}}, {"keyboard": "qwerty"}],
    "requirePlanApproval": [True],
    "verifyBeforeMerge": [False],
    "requiredChecks": [[], ["lint", "test"]],
    "reviewers": [["ada", "bob"]],
    "requiredReviews": [0, 2],
    "baseBranch": ["main"],
    "branchPrefix": ["agents/"],
    "prMergeStrategy": ["merge", "squash", "rebase"],
    "autoMerge": [False],
    "useWorktrees": [True],
    "labels": [["agent"]],
    "ceremonies": [{"dailyStandup": {"enabled": True}}],
}
WRONG: dict[str, list[Json]] = {
    "maxConcurrentAgents": [-1, 1001, True, 1.0, "3", None, []],
    "autoMode": [1, "true", None],
    "defaultModel": [4, None, ["a"]],
    "reviewers": ["ada", [1], [["ada"]], {}],
    "workflow": [[], "x", 1, None],
    "prMergeStrategy": ["fast", "", 1, ["merge"]],
}
TOKEN = "ghp_" + "a1B2" * 9


def refused(settings: object) -> tuple[str, str]:
    fault = check(settings)
    assert fault is not None
    return fault.code, fault.path


def test_every_key_takes_what_it_should() -> None:
    assert GOOD.keys() == KINDS.keys()
    for key, examples in GOOD.items():
        for example in examples:
            assert check({key: example}) is None, key
    assert check({}) is None


@pytest.mark.parametrize(
    ("key", "wrong"),
    [(key, wrong) for key, examples in WRONG.items() for wrong in examples],
)
def test_a_value_of_another_kind_is_refused(key: str, wrong: Json) -> None:
    fault = check({"autoMerge": True, key: wrong})
    assert fault is not None
    assert (fault.code, fault.path) == (INVALID, key)
    assert KINDS[key].expected in fault.detail


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("maxConcurentAgents", "maxConcurrentAgents"),
        ("max_concurrent_agents", "maxConcurrentAgents"),
        ("automode", "autoMode"),
        ("reviewer", "reviewers"),
        ("colour", ""),
    ],
)
def test_an_unknown_key_is_refused_with_the_one_that_was_meant(key: str, meant: str) -> None:
    fault = check({key: 1})
    assert fault is not None
    assert (fault.code, fault.path) == (UNKNOWN, key)
    assert (f"did you mean {meant}?" if meant else "known are autoMode,") in fault.detail


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"apiKey": "x"}, "apiKey"),
        ({"workflow": {"deploy": {"authToken": "x"}}}, "workflow.deploy.authToken"),
        ({"workflow": {"hooks": [{"secret": "x"}]}}, "workflow.hooks[0].secret"),
        ({"reviewers": ["ada", TOKEN]}, "reviewers[1]"),
        ({"defaultModel": TOKEN}, "defaultModel"),
        ({"workflow": {TOKEN: 1}}, "workflow[a GitHub token]"),
        ({TOKEN: 1}, "[a GitHub token]"),
        ({"credentials": {"user": "u"}}, "credentials"),
        ({"colour": 1, "maxRetries": -1, "password": "x"}, "password"),
    ],
)
def test_a_credential_is_refused_first_with_its_path(settings: Json, path: str) -> None:
    fault = check(settings)
    assert fault is not None
    assert (fault.code, fault.path) == (CREDENTIAL, path)
    assert TOKEN not in fault.detail
    assert "a1B2" not in fault.path


def test_an_object_holds_three_levels() -> None:
    assert check({"workflow": {"a": {"b": {"c": 1}}}}) is None
    assert refused({"workflow": {"a": {"b": {"c": {}}}}}) == (INVALID, "workflow.a.b.c")
    assert refused({"workflow": {"a": [[[]]]}}) == (INVALID, "workflow.a[0][0]")
    deep: Json = "bottom"
    for _ in range(200):
        deep = [deep]
    assert refused({"workflow": {"a": deep}}) == (INVALID, "workflow.a[0][0]")


def test_what_no_other_host_could_read_is_refused() -> None:
    assert refused({"workflow": {"n": 2**53}}) == (INVALID, "workflow.n")
    assert refused({"workflow": {"n": float("nan")}}) == (INVALID, "workflow.n")
    assert refused({"workflow": {"n": float("inf")}}) == (INVALID, "workflow.n")
    assert refused({"defaultModel": "\ud800"}) == (INVALID, "defaultModel")
    assert refused({"workflow": {"\udc00": 1}})[0] == INVALID


def test_settings_have_at_most_64_kib_together() -> None:
    text = "x" * (MAX_BYTES // 2)
    assert check({"customInstructions": text}) is None
    assert refused({"customInstructions": text, "baseBranch": text}) == (INVALID, "")


@pytest.mark.parametrize("settings", [None, [], "x", 1, True])
def test_settings_are_an_object(settings: object) -> None:
    assert refused(settings) == (INVALID, "")


def test_sifting_keeps_what_is_good() -> None:
    good, faults = sift({"maxRetries": 2, "workflow": {"apiKey": "x"}, "colour": 1, "reviewers": ["ada"]})
    assert good == {"maxRetries": 2, "reviewers": ["ada"]}
    assert [(fault.code, fault.path) for fault in faults] == [(CREDENTIAL, "workflow.apiKey"), (UNKNOWN, "colour")]
    half = "x" * (MAX_BYTES // 2)
    good, faults = sift({"customInstructions": half, "baseBranch": half})
    assert (good, [fault.code for fault in faults]) == ({}, [INVALID])


@given(st.dictionaries(st.sampled_from([*KINDS, "apiKey", "colour"]), values, max_size=3))
def test_every_object_is_judged_and_what_is_taken_is_json(settings: dict[str, Json]) -> None:
    if check(settings) is None:
        assert json.loads(json.dumps(settings)) == settings
        assert sift(settings) == (settings, [])
    else:
        assert sift(settings)[1]
