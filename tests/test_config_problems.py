"""Every way a configuration file can be wrong: what is said, and the line and column it points at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from meshd.config import MAX_FILE_BYTES, Loaded, load
from meshd.errors import ConfigError, Problem

Read = Callable[..., Loaded]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write a text as the configuration file and load it."""

    def write_and_load(text: str | bytes, **environ: str) -> Loaded:
        path = tmp_path / "proto.config.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(path, environ)

    return write_and_load


def problems_of(read: Read, text: str | bytes, **environ: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        read(text, **environ)
    return caught.value.problems


def the_problem(read: Read, text: str | bytes, **environ: str) -> Problem:
    (problem,) = problems_of(read, text, **environ)
    return problem


# --- what a wrong value says, and where ---

URL = "must be a URL such as ws://100.64.0.1:4444 (ws or wss, host, port)"
PORT = "must be a whole number from 1 to 65535"
MS = "must be a whole number of milliseconds from 1 to 31536000000"
TEXT = "must be a text of one line, 1 to 200 characters"
NUMBER = f"{TEXT}; put it in quotes to make it a text"
NAME = "must be a name of at most 200 bytes that does not start with a dot and holds no /, \\ or control character"
ADDRESS = "must be an IP address to listen on, such as 0.0.0.0 (every interface) or 127.0.0.1"
PATH = "must be a path, relative to the folder of this file or absolute; `~` is not expanded"
SETTINGS = "must be a section of keys with values that JSON can carry: no .nan, no .inf, no number beyond 64 bits"
TAGS = "must be a list of at most 32 texts, such as [backend, infra]"
SECTION = "must be a section of keys: port, bindAddr, socket"
LEVEL = "must be one of debug, info, warning, error"
SWITCH = "must be true or false"
TRUE = " (did you mean `true`?)"
FALSE = " (did you mean `false`?)"
ONCE = "must stand once in its section"
NO_TAG = "tags have no meaning here"


@pytest.mark.parametrize(
    ("text", "place", "found", "allowed"),
    [
        ("name: 12\n", "1:7", "name: found 12", NUMBER),
        ("name: true\n", "1:7", "name: found true", NUMBER),
        ("name: ''\n", "1:7", "name: found the text ''", TEXT),
        ("name: [a]\n", "1:7", "name: found a list of 1", TEXT),
        ("version: 1.0\n", "1:10", "version: found 1.0", NUMBER),
        ("repoRoot: ~/work\n", "1:11", "repoRoot: found the text '~/work'", PATH),
        ("\nname: é\ndataDir: 5\n", "3:10", "dataDir: found 5", f"{PATH}; put it in quotes to make it a text"),
        ("api: yes\n", "1:6", "api: found the text 'yes'", SECTION),
        ("api: [port]\n", "1:6", "api: found a list of 1", SECTION),
        ("log:\n  level: INFO\n", "2:10", "log.level: found the text 'INFO'", f"{LEVEL} (did you mean `info`?)"),
        ("hivemind:\n  enabled: yes\n", "2:12", "hivemind.enabled: found the text 'yes'", f"{SWITCH}{TRUE}"),
        ("hivemind:\n  enabled: Off\n", "2:12", "hivemind.enabled: found the text 'Off'", f"{SWITCH}{FALSE}"),
        ("hivemind:\n  enabled: 1\n", "2:12", "hivemind.enabled: found 1", f"{SWITCH}{TRUE}"),
        (
            "hivemind:\n  enabled: 'true'\n",
            "2:12",
            "hivemind.enabled: found the text 'true'",
            f"{SWITCH}, without quotes{TRUE}",
        ),
        ("api: {port: '80'}\n", "1:13", "api.port: found the text '80'", f"{PORT}, without quotes"),
        ("api: {port: 010}\n", "1:13", "api.port: found the text '010'", f"{PORT}, without a leading zero"),
        ("api: {port: 0}\n", "1:13", "api.port: found 0", PORT),
        ("api: {port: 65536}\n", "1:13", "api.port: found 65536", PORT),
        ("api: {port: true}\n", "1:13", "api.port: found true", PORT),
        ("api: {port: 80.0}\n", "1:13", "api.port: found 80.0", PORT),
        ("api: {port: 0x}\n", "1:13", "api.port: found the text '0x'", PORT),
        (f"api: {{port: {'9' * 100}}}\n", "1:13", "api.port: found a number of more than 80 digits", PORT),
        ("api: {port: }\n", "1:7", "api.port: found nothing", PORT),
        ("api:\n  port:\n  socket: a\n", "2:3", "api.port: found nothing", PORT),
        ("api: {bindAddr: '*'}\n", "1:17", "api.bindAddr: found the text '*'", f"{ADDRESS} (did you mean `0.0.0.0`?)"),
        ("protolab: {instanceId: ../x}\n", "1:24", "protolab.instanceId: found the text '../x'", NAME),
        ("protolab: {instanceId: }\n", "1:12", "protolab.instanceId: found nothing", NAME),
        ("instance:\n  tags: qa\n", "2:9", "instance.tags: found the text 'qa'", TAGS),
        (f"instance:\n  tags: [{', '.join('a' * 33)}]\n", "2:9", "instance.tags: found a list of 33", TAGS),
        ("instance:\n  tags: [a, 5]\n", "2:13", "instance.tags[1]: found 5", NUMBER),
        ("hivemind:\n  peerTtlMs: 2m\n", "2:14", "hivemind.peerTtlMs: found the text '2m'", MS),
        (
            "hivemind:\n  peers:\n  - http://a:1\n",
            "3:5",
            "hivemind.peers[0]: found the text 'http://a:1'",
            f"{URL} (did you mean `ws://a:1`?)",
        ),
        ("hivemind:\n  peers:\n  - {url: x}\n", "3:5", "hivemind.peers[0]: found a section of keys", URL),
        ("hivemind:\n  peers:\n  -\n  - ws://a:1\n", "3:4", "hivemind.peers[0]: found nothing", URL),
        (
            "hivemind:\n  peers:\n  - ws://a:1\n  - WS://A:1/\n",
            "4:5",
            "hivemind.peers[1]: found the text 'ws://a:1'",
            "must not repeat hivemind.peers[0]: the index is the priority",
        ),
        ("agents: {env: {A: 1}}\n", "1:19", "agents.env[A]: found 1", "must be a text: put it in quotes"),
        ("sharedSettings: {a: [.nan]}\n", "1:17", "sharedSettings: found a section of keys", SETTINGS),
        ("sharedSettings: {a: -.Inf}\n", "1:17", "sharedSettings: found a section of keys", SETTINGS),
        ("sharedSettings: {a: 9223372036854775808}\n", "1:17", "sharedSettings: found a section of keys", SETTINGS),
        ("api: {port: !secret p}\n", "1:13", "api.port: found the tag !secret", NO_TAG),
        ("instance: {tags: [a, !b c]}\n", "1:22", "instance.tags: found the tag !b", NO_TAG),
        ("git: {a: 1,\n a: 2}\n", "2:2", "git.a: found twice, first on line 1", ONCE),
        ("api:\n  port: 1\napi:\n  port: 2\n", "3:1", "api: found twice, first on line 1", ONCE),
        ("git: [{? [a] : b}]\n", "1:10", "git[0]: found a list or section as a key", "a key must be a text"),
        ("git: {<<: 1}\n", "1:7", "git.<<: found 1", "must be an alias of a section"),
        ('git: {"a\\nb": 1, "a\\nb": 2}\n', "1:18", "'git.a\\nb': found twice, first on line 1", ONCE),
        ('git: "\\ud800"\n', "1:6", "git: found half of a surrogate pair", "must be valid Unicode"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    read: Read, tmp_path: Path, text: str, place: str, found: str, allowed: str
) -> None:
    assert str(the_problem(read, text)) == f"{tmp_path}/proto.config.yaml:{place}: error: {found}; {allowed}"


YAML = "must be YAML: indent with spaces, and quote a text that holds `: ` or ` #` or begins with a sign"
TOO_MUCH = "at most 100000 values nested 50 deep can be read (does an alias stand for itself?)"
NOT_EMPTY = "must hold at least one key, such as `name: my-project`"
KEYED = "must hold keys with values, such as `name: my-project`"
UTF_8 = "must be a text in UTF-8"


@pytest.mark.parametrize(
    ("content", "place", "found", "allowed"),
    [
        (b"", "", "the file: found nothing in it", NOT_EMPTY),
        (b"# only a comment\n", "", "the file: found nothing in it", NOT_EMPTY),
        (b"---\n...\n", "", "the file: found nothing in it", NOT_EMPTY),
        (b"- name\n", "1:1", "the file: found a list of 1", KEYED),
        (b"\njust words\n", "2:1", "the file: found the text 'just words'", KEYED),
        (b"name: a\nversion: \xff\n", "2:10", "the file: found the byte 0xff, which is not UTF-8", UTF_8),
        (b"name: \xc3\xa9\xe9\n", "1:8", "the file: found the byte 0xe9, which is not UTF-8", UTF_8),
        ("name: a\n".encode("utf-16"), "1:1", "the file: found the byte 0xff, which is not UTF-8", UTF_8),
        (b"name: a\n b: c\n", "2:3", "YAML: mapping values are not allowed here", YAML),
        (
            b"api:\n  port: 1\n bindAddr: x\n",
            "3:2",
            "YAML: while parsing a block mapping, expected <block end>, but found '<block mapping start>'",
            YAML,
        ),
        (
            b"name: [a\n",
            "2:1",
            "YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'",
            YAML,
        ),
        (
            b"\tname: a\n",
            "1:1",
            "YAML: while scanning for the next token, found character '\\t' that cannot start any token",
            YAML,
        ),
        (b"name: *nobody\n", "1:7", "YAML: found undefined alias 'nobody'", YAML),
        (
            b"name: a\n---\nname: b\n",
            "2:1",
            "YAML: expected a single document in the stream, but found another document",
            YAML,
        ),
        (b"name: a\nversion: \x00\n", "2:10", "YAML: found the control character '\\x00'", YAML),
        (b'name: "\\U00110000"\n', "", "YAML: found an escape that stands for no character", YAML),
        (b"git: &a [*a]\n", "1:6", "YAML: found too much in one place", TOO_MUCH),
        (b"&a [*a]\n", "1:1", "YAML: found too much in one place", TOO_MUCH),
        (b"git: &a {b: *a}\n", "1:6", "YAML: found too much in one place", TOO_MUCH),
        (b"git: " + b"[" * 60 + b"]" * 60, "1:55", "YAML: found too much in one place", TOO_MUCH),
        (b"[" * 10_000, "1:51", "YAML: found too much in one place", TOO_MUCH),
        (b"#" * (MAX_FILE_BYTES + 1), "", "the file: found more than 262144 bytes", "must be a configuration"),
    ],
)
def test_what_is_no_yaml_mapping_is_one_problem(
    read: Read, tmp_path: Path, content: bytes, place: str, found: str, allowed: str
) -> None:
    where = ":".join(filter(None, [f"{tmp_path}/proto.config.yaml", place]))
    assert str(the_problem(read, content)) == f"{where}: error: {found}; {allowed}"


def test_aliases_that_stand_for_too_much_are_refused(read: Read) -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 9))
    problem = the_problem(read, f"l0: &l0 x\n{levels}")
    assert (problem.key, problem.found) == ("YAML", "found too much in one place")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "nowhere.yaml", {})
    expected = f"{tmp_path}/nowhere.yaml: error: the file: not found; name another with --config or MESHD_CONFIG"
    assert str(caught.value) == expected


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the file: found a folder"):
        load(tmp_path, {})


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    with pytest.raises(ConfigError, match="the file: cannot be read: Too many levels of symbolic links"):
        load(tmp_path / "loop.yaml", {})


def test_all_problems_come_at_once_sorted_by_place_with_the_warnings_among_them(read: Read) -> None:
    text = "api:\n  port: x\n  prot: 1\nhivemind:\n  peerTtlMs: 5\n  peers: [a, b]\n"
    found = [(p.line, p.column, p.key, p.fatal) for p in problems_of(read, text, MESHD_LOG_LEVEL="loud")]
    assert found == [
        (2, 9, "api.port", True),
        (3, 3, "api.prot", False),
        (5, 14, "hivemind.peerTtlMs", False),
        (6, 11, "hivemind.peers[0]", True),
        (6, 14, "hivemind.peers[1]", True),
        (0, 0, "log.level", True),
    ]


# --- warnings ---


@pytest.mark.parametrize(
    ("text", "line", "column", "key", "suggestion"),
    [
        ("hivemind:\n  peerTTLms: 1\n", 2, 3, "hivemind.peerTTLms", "peerTtlMs"),
        ("hivemind:\n  peer_ttl_ms: 1\n", 2, 3, "hivemind.peer_ttl_ms", "peerTtlMs"),
        ("hivemind:\n  syncPort: 1\n", 2, 3, "hivemind.syncPort", "protolab.syncPort"),
        ("protolab: {port: 1}\n", 1, 12, "protolab.port", "syncPort"),
        ("hivemind:\n  domains: []\n", 2, 3, "hivemind.domains", ""),
        ("hiveMind: {enabled: true}\n", 1, 1, "hiveMind", "hivemind"),
        ("syncPort: 1\n", 1, 1, "syncPort", "protolab.syncPort"),
        ("techstack: {a: b}\n", 1, 1, "techstack", "techStack"),
        ("zzz: 1\n", 1, 1, "zzz", ""),
        ("12: 1\n", 1, 1, "12", ""),
    ],
)
def test_an_unknown_key_warns_and_never_fails(
    read: Read, text: str, line: int, column: int, key: str, suggestion: str
) -> None:
    (warning,) = read(text).warnings
    assert (warning.line, warning.column, warning.key, warning.suggestion) == (line, column, key, suggestion)
    assert not warning.fatal
    assert warning.found.startswith("unknown key")


def test_a_workspace_that_is_not_there_warns_with_its_path(read: Read, tmp_path: Path) -> None:
    (warning,) = read("repoRoot: ../nowhere\n").warnings
    assert (warning.line, warning.column, warning.key, warning.fatal) == (1, 11, "repoRoot", False)
    assert str(tmp_path.parent / "nowhere") in warning.found
    assert not (tmp_path.parent / "nowhere").exists()
    (tmp_path / "file").touch()
    (warning,) = read("name: x\n", MESHD_REPO_ROOT="file").warnings
    assert (warning.file, warning.found) == ("MESHD_REPO_ROOT", f"found no folder {tmp_path}/file")


def test_shared_settings_that_will_not_be_shared_warn_and_are_left_out(read: Read) -> None:
    text = "sharedSettings:\n  maxRetries: 3\n  maxTurns: no\n  workflow: {token: hush}\n  foo: 1\n"
    loaded = read(text)
    assert [(w.line, w.column, w.key, w.fatal) for w in loaded.warnings] == [
        (3, 13, "sharedSettings.maxTurns", False),
        (4, 13, "sharedSettings.workflow.token", False),
        (5, 8, "sharedSettings.foo", False),
    ]
    assert "maxTurns must be a whole number from 1 to 100000" in str(loaded.warnings[0])
    assert "workflow.token: its name is that of a credential" in str(loaded.warnings[1])
    assert not any("hush" in str(warning) for warning in loaded.warnings)
    assert loaded.configuration.shared_settings == {"maxRetries": 3}


def test_shared_settings_that_are_too_many_are_left_out_as_a_whole(read: Read) -> None:
    text = f"sharedSettings:\n  baseBranch: {'x' * 40_000}\n  branchPrefix: {'y' * 40_000}\n"
    loaded = read(text)
    (warning,) = loaded.warnings
    assert (warning.line, warning.key) == (2, "sharedSettings")
    assert "may have 65536 bytes" in warning.allowed
    assert loaded.configuration.shared_settings == {}


def test_an_unknown_section_is_kept_as_it_is(read: Read) -> None:
    assert read("zzz: {a: [1]}\n").configuration.foreign == {"zzz": {"a": [1]}}


# --- keys that disagree: the rules are tested with `meshd.config_check`, here where they are reported ---


MESH = """\
protolab:
  enabled: true
  role: primary
  instanceUrl: ws://a:4444
hivemind:
  enabled: true
  peerTtlMs: 120000
  peers:
    - ws://a:4444
    - ws://b:4444
"""


def test_keys_that_disagree_are_reported_at_the_value(read: Read) -> None:
    (warning,) = read(MESH.replace("120000", "89999")).warnings
    assert (warning.line, warning.column, warning.key, warning.fatal) == (7, 14, "hivemind.peerTtlMs", False)


def test_keys_that_disagree_are_reported_at_the_element_of_a_list(read: Read) -> None:
    problem = the_problem(read, MESH + "    - ws://B:4444/\n")
    assert (problem.line, problem.column, problem.key) == (11, 7, "hivemind.peers[2]")


def test_a_missing_key_is_reported_at_its_section(read: Read) -> None:
    problem = the_problem(read, MESH.replace("  instanceUrl: ws://a:4444\n", ""))
    assert (problem.line, problem.column, problem.key) == (1, 1, "protolab.instanceUrl")


def test_a_missing_section_is_reported_at_the_file(read: Read) -> None:
    problem = the_problem(read, "hivemind: {enabled: true}\n", MESHD_PROTOLAB_ENABLED="true", MESHD_PEERS="ws://a:1")
    assert (problem.file[-17:], problem.line, problem.key) == ("proto.config.yaml", 0, "protolab.instanceUrl")


def test_one_mistake_is_reported_once(read: Read) -> None:
    text = MESH.replace("Url: ws:", "Url: http:").replace("120000", "soon")
    assert [problem.key for problem in problems_of(read, text)] == ["protolab.instanceUrl", "hivemind.peerTtlMs"]
