"""What looks like a credential, and what only nearly does."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.credentials import credential_key, credential_text, shown_path

TEXTS = {
    "a private key": ["-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl", "x -----BEGIN PRIVATE KEY-----"],
    "a GitHub token": [f"{kind}_{'aB3d' * 9}" for kind in ("ghp", "gho", "ghu", "ghs", "ghr", "github_pat")],
    "a GitLab token": ["glpat-x1Y2z3A4b5C6d7E8f9G0"],
    "an Anthropic key": ["sk-ant-api03-abcd", "curl -H x-api-key:sk-ant-api03-abcd"],
    "an API key": ["sk-proj-4fG7aaaaaaaaaaaa", "sk-0123456789abcdef"],
    "a Stripe key": ["sk_live_abcd1234abcd", "whsec_abcd1234"],
    "a Slack token": ["xoxb-1234567890-abc", "xapp-1-A02-123", "https://hooks.slack.com/services/T0/B0/x"],
    "an AWS access key": ["AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"],
    "a Google key": ["AIzaSyA-0123456789abcdefghijklmnopqrstu"],
    "an npm token": ["npm_" + "a1B2" * 9, "TOKEN=npm_" + "a1B2" * 9],
    "a PyPI token": ["pypi-AgEIcHlwaS5vcmcCJ"],
    "a Hugging Face token": ["hf_abcdefghijABCDEFGHIJ"],
    "a JSON web token": ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIi"],
    "a URL with a password": ["postgres://app:hunter2@db/x", "https://u:p@h"],
}
HARMLESS = [
    "",
    "claude-sonnet-4-5-20250929",
    "gpt-4.1",
    "main",
    "feature/ghp_",
    "sk-learn-pipeline",
    "task-force-2024-planning",
    "npm_config_registry",
    "run npm run build, then eyJ",
    "-----BEGIN CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----",
    "http://localhost:3008/path@2",
    "ws://100.64.0.1:4444",
    "ssh://git@example.com:22/repo",
    "AKIA",
    "the key, the token and the password",
]
KEYS = [
    *("key", "apiKey", "API_KEY", "api-key", "apikey", "x.api.key", "ApiKey2", "api_key_1", "sshPrivateKey", "KEY"),
    *("token", "githubToken", "GITHUB_TOKEN", "secret", "clientSecret", "CLIENT_SECRET", "password", "dbPassword"),
    *("credential", "awsCredentials", "credentialFile", "my_credential_path", "secrets", "apiKeys", "passwords"),
    *("passwd", "passphrase", "tokens", "accessTokens", "ＡＰＩＫｅｙ", "to\u200bken", "monkey", "toKen", "ſecret"),  # noqa: RUF001  look-alikes
]
HARMLESS_KEYS = ["keyboard", "tokenBudget", "tokenizer", "secretary", "passwordless", "keyed", "maxRetries", "", "2"]


@pytest.mark.parametrize(("what", "text"), [(what, text) for what, texts in TEXTS.items() for text in texts])
def test_a_credential_is_known_by_its_text(what: str, text: str) -> None:
    assert credential_text(text) == what
    assert credential_text(f'export X="{text}" # as it was') == what
    assert credential_text(f"my_{text}") == what or "://" in text or what in ("a JSON web token", "a private key")


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_none_is_taken(text: str) -> None:
    assert credential_text(text) == ""


@pytest.mark.parametrize("name", KEYS)
def test_a_credential_is_known_by_the_name_of_its_key(name: str) -> None:
    assert credential_key(name, "anything")
    assert credential_key(name, {"even": "an object"})


@pytest.mark.parametrize("name", HARMLESS_KEYS)
def test_other_names_hold_none(name: str) -> None:
    assert not credential_key(name, "anything")


def test_tokens_that_are_counted_are_no_credentials() -> None:
    assert not credential_key("maxTokens", 4096)
    assert not credential_key("max_tokens", 0.5)
    assert credential_key("maxTokens", "4096")
    assert credential_key("accessTokens", ["a", "b"])
    assert credential_key("sessionTokens", value=True), "true is not a count"
    assert credential_key("pinToken", 1234), "only the plural counts"


def test_a_path_is_shown_and_a_credential_in_it_is_not() -> None:
    assert shown_path(()) == ""
    assert shown_path(("workflow", "steps", 2, "name")) == "workflow.steps[2].name"
    assert shown_path(("workflow", "two words")) == "workflow['two words']"
    assert shown_path(("workflow", "ghp_" + "a1" * 18)) == "workflow[a GitHub token]"
    assert len(shown_path(("x" * 5000,))) < 80
    assert shown_path(("a\x1b[2J",)).isprintable()


@given(st.text(), st.sampled_from(["ghp_" + "a1B2" * 9, "AKIAIOSFODNN7EXAMPLE", "xoxb-1234567890-abc"]), st.text())
def test_a_token_is_found_wherever_it_stands_by_itself(before: str, token: str, after: str) -> None:
    assert credential_text(f"{before} {token} {after}")


@pytest.mark.parametrize(
    "unit", ["eyJ", "-eyJ", " eyJaaaaaaaaa", "://", "://a:", "sk-", "-----BEGIN ", "ghp_", "sk-a-", "eyJaaaaaaaaaa."]
)
def test_a_hostile_text_costs_little(unit: str) -> None:
    text = unit * (400_000 // len(unit))
    started_s = time.process_time()
    credential_text(text)
    assert time.process_time() - started_s < 3, "linear in its length"
