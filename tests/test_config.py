"""The configuration edge: every way a file can be wrong, where the error points, and what a right one becomes."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshd.config import Loaded, default_path, load, reference
from meshd.config_check import FOREIGN, KEYS
from meshd.configuration import Configuration
from meshd.errors import ConfigError, Problem
from meshd.model import Focus, Role

REPOSITORY = Path(__file__).parent.parent

DEV_01 = """\
name: protoMaker
version: '1.0.0'

protolab:
  enabled: true
  role: primary
  syncPort: 4444
  instanceId: dev-01
  instanceUrl: ws://100.64.0.1:4444

instance:
  name: 'Primary Dev'
  role: fullstack
  tags: [backend, infra]

hivemind:
  enabled: true
  heartbeatIntervalMs: 30000
  peerTtlMs: 120000
  peers:
    - ws://100.64.0.1:4444 # dev-01 (primary, index 0 = highest priority)
    - ws://100.64.0.2:4444 # dev-02
    - ws://100.64.0.3:4444 # dev-03

workIntake:
  enabled: true
  tickIntervalMs: 30000
  claimTimeoutMs: 1800000
"""

DEV_02 = """\
name: protoMaker

protolab:
  enabled: true
  role: worker
  syncPort: 4444
  instanceId: dev-02
  instanceUrl: ws://100.64.0.2:4444

instance:
  name: 'Worker A'
  role: frontend
  tags: [docs]

hivemind:
  enabled: true
  heartbeatIntervalMs: 30000
  peerTtlMs: 120000
  peers:
    - ws://100.64.0.1:4444 # dev-01 (primary)
    - ws://100.64.0.2:4444 # dev-02
    - ws://100.64.0.3:4444 # dev-03

workIntake:
  enabled: true
  tickIntervalMs: 30000
  claimTimeoutMs: 1800000
"""

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


# --- what a right file becomes ---


def test_the_specifications_primary_loads_as_it_is_written(read: Read, tmp_path: Path) -> None:
    loaded = read(DEV_01)
    configuration = loaded.configuration
    assert loaded.warnings == ()
    assert (configuration.name, configuration.version) == ("protoMaker", "1.0.0")
    assert configuration.protolab.role is Role.PRIMARY
    assert configuration.protolab.instance_id == "dev-01"
    assert configuration.instance.focus is Focus.FULLSTACK
    assert configuration.instance.tags == ("backend", "infra")
    assert configuration.hivemind.peers == tuple(f"ws://100.64.0.{n}:4444" for n in (1, 2, 3))
    assert configuration.work_intake.claim_timeout_ms == 1_800_000
    assert configuration.mesh_enabled
    assert configuration.priority == 0
    assert (configuration.repo_root, configuration.data_dir) == (tmp_path, tmp_path / "data")


def test_the_specifications_worker_loads_as_it_is_written(read: Read) -> None:
    loaded = read(DEV_02)
    assert loaded.warnings == ()
    assert loaded.configuration.protolab.role is Role.WORKER
    assert loaded.configuration.instance.focus is Focus.FRONTEND
    assert loaded.configuration.priority == 1


def test_a_small_file_has_the_specified_defaults(read: Read) -> None:
    configuration = read("name: small\n").configuration
    assert not configuration.mesh_enabled
    assert not configuration.protolab.enabled
    assert not configuration.hivemind.enabled
    assert configuration.work_intake.enabled
    assert configuration.protolab.sync_port == 4444
    assert configuration.protolab.sync_bind_addr == "0.0.0.0"
    assert configuration.protolab.instance_id == socket.gethostname()
    assert (configuration.hivemind.heartbeat_interval_ms, configuration.hivemind.peer_ttl_ms) == (30_000, 120_000)
    assert (configuration.work_intake.tick_interval_ms, configuration.work_intake.claim_timeout_ms) == (
        30_000,
        1_800_000,
    )


def test_paths_start_at_the_folder_of_the_file(read: Read, tmp_path: Path) -> None:
    configuration = read("repoRoot: ..\ndataDir: /var/lib/meshd\napi: {socket: run/api.sock}\n").configuration
    assert configuration.repo_root == tmp_path.parent
    assert configuration.data_dir == Path("/var/lib/meshd")
    assert configuration.api.socket == tmp_path / "run" / "api.sock"


def test_a_relative_file_gives_absolute_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("proto.config.yaml").write_text("name: here\n")
    loaded = load(default_path(), {})
    assert loaded.configuration.repo_root == tmp_path
    assert loaded.origins["name"] == "proto.config.yaml:1"


def test_a_symbolic_link_to_the_file_keeps_the_folder_of_the_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("name: linked\n")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "real" / "file")
    assert load(tmp_path / "link.yaml", {}).configuration.repo_root == tmp_path


def test_sections_of_protolabs_are_accepted_and_left_alone(read: Read) -> None:
    foreign = {name: {"any": ["thing", 1, 1.5, None, True]} for name in FOREIGN}
    text = "".join(f"{name}: {{any: [thing, 1, 1.5, null, true]}}\n" for name in FOREIGN)
    loaded = read(text)
    assert loaded.warnings == ()
    assert loaded.configuration.foreign == foreign


def test_shared_settings_are_kept_as_they_are(read: Read) -> None:
    loaded = read("sharedSettings: {maxConcurrentAgents: 2, workflow: {retry: [1.5, soon, null], autoPR: true}}\n")
    assert loaded.configuration.shared_settings == {
        "maxConcurrentAgents": 2,
        "workflow": {"retry": [1.5, "soon", None], "autoPR": True},
    }


def test_switches_and_numbers_are_read_as_they_are_written(read: Read) -> None:
    configuration = read("workIntake: {enabled: false, overflow: FALSE}\nprotolab: {advertised: True}\n").configuration
    assert configuration.work_intake.enabled is False
    assert configuration.work_intake.overflow is False
    assert configuration.protolab.advertised is True
    assert read("api: {port: 0x50}\noutbox: {maxChanges: 1_000}\n").configuration.api.port == 80


def test_agents_have_words_and_variables(read: Read) -> None:
    agents = read("agents: {command: [./agent, ''], env: {DEBUG: '1'}, timeoutMs: 5}\n").configuration.agents
    assert agents.command == ("./agent", "")
    assert agents.env == {"DEBUG": "1"}
    assert agents.timeout_ms == 5


@pytest.mark.parametrize(
    "text",
    [
        "protolab:\nhivemind:\n",
        "hivemind:\n  peers:\n    # - ws://a:4444\n",
        "instance: {name: , tags: ~}\n",
        "protolab: {instanceUrl: null}\nagents: {timeoutMs: }\n",
    ],
)
def test_nothing_written_is_the_default(read: Read, text: str) -> None:
    configuration = read(text).configuration
    assert attrs.evolve(configuration, name="x") == attrs.evolve(read("name: x\n").configuration)


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(read: Read) -> None:
    assert read(b"\xef\xbb\xbfname: marked\r\nversion: '1'\r\n").configuration.name == "marked"


def test_aliases_and_merged_sections_are_accepted(read: Read) -> None:
    loaded = read(
        "commands: &all {enabled: true, tickIntervalMs: 9000}\nworkIntake: {<<: *all, tickIntervalMs: 8000}\n"
    )
    assert loaded.warnings == ()
    assert loaded.configuration.work_intake.enabled
    assert loaded.configuration.work_intake.tick_interval_ms == 8000


def test_an_anchor_may_be_used_again(read: Read) -> None:
    assert read("git: [&a 1, &a 2, *a]\n").configuration.foreign == {"git": [1, 2, 2]}


# --- the environment ---


def test_the_environment_goes_over_the_file(read: Read, tmp_path: Path) -> None:
    loaded = read(
        DEV_01,
        MESHD_INSTANCE_ID="dev-09",
        MESHD_INSTANCE_URL="WS://Host:9800/",
        MESHD_SYNC_PORT=" 9800 ",
        MESHD_ROLE="worker",
        MESHD_PEERS="ws://other:4444, ws://host:9800,",
        MESHD_API_PORT="3009",
        MESHD_DATA_DIR="elsewhere",
        MESHD_REPO_ROOT="/",
        MESHD_HEARTBEAT_INTERVAL_MS="1000",
        MESHD_LEADER_ELIGIBLE="False",
        MESHD_INSTANCE_ROLE="qa",
        MESHD_INSTANCE_TAGS="a,b",
        MESHD_LOG_FORMAT="",
        HOME="/not/ours",
    )
    configuration = loaded.configuration
    assert loaded.warnings == ()
    assert configuration.protolab.instance_id == "dev-09"
    assert configuration.protolab.instance_url == "ws://host:9800"
    assert configuration.protolab.sync_port == 9800
    assert configuration.protolab.role is Role.WORKER
    assert configuration.hivemind.peers == ("ws://other:4444", "ws://host:9800")
    assert configuration.priority == 1
    assert configuration.api.port == 3009
    assert configuration.data_dir == tmp_path / "elsewhere"
    assert configuration.repo_root == Path("/")
    assert configuration.hivemind.heartbeat_interval_ms == 1000
    assert configuration.hivemind.leader_eligible is False
    assert configuration.instance.focus is Focus.QA
    assert configuration.instance.tags == ("a", "b")
    assert configuration.log.format == "auto"


@pytest.mark.parametrize(
    ("variable", "text", "key", "found"),
    [
        ("MESHD_SYNC_PORT", "abc", "protolab.syncPort", "found the text 'abc'"),
        ("MESHD_SYNC_PORT", "tcp://10.0.0.1:4444", "protolab.syncPort", "found the text 'tcp://10.0.0.1:4444'"),
        ("MESHD_SYNC_PORT", "70000", "protolab.syncPort", "found 70000"),
        ("MESHD_SYNC_PORT", "9" * 30, "protolab.syncPort", f"found the text '{'9' * 30}'"),
        ("MESHD_PROTOLAB_ENABLED", "yes", "protolab.enabled", "found the text 'yes'"),
        ("MESHD_PEERS", "ws://a:1,nonsense:x", "hivemind.peers[1]", "found the text 'nonsense:x'"),
        ("MESHD_INSTANCE_ID", "a/b", "protolab.instanceId", "found the text 'a/b'"),
        ("MESHD_DATA_DIR", "\udcff", "dataDir", "found the text '\\udcff'"),
    ],
)
def test_a_wrong_variable_is_named(read: Read, variable: str, text: str, key: str, found: str) -> None:
    problem = the_problem(read, "name: x\n", **{variable: text})
    assert (problem.file, problem.line, problem.key, problem.found) == (variable, 0, key, found)
    assert str(problem).startswith(f"{variable}: error: {key}: {found}; must be ")


def test_a_relation_broken_by_a_variable_names_it(read: Read) -> None:
    problem = the_problem(read, DEV_01, MESHD_INSTANCE_URL="ws://elsewhere:4444")
    assert (problem.file, problem.key) == ("MESHD_INSTANCE_URL", "protolab.instanceUrl")
    problem = the_problem(read, DEV_01, MESHD_PEERS="ws://100.64.0.1:4444,ws://a:1,ws://a:1")
    assert (problem.file, problem.line, problem.key) == ("MESHD_PEERS", 0, "hivemind.peers[2]")


def test_an_unknown_variable_warns_and_those_of_the_command_line_do_not(read: Read) -> None:
    loaded = read("name: x\n", MESHD_URL="http://a", MESHD_CONFIG="b", MESHD_SYNCPORT="1", MESHD_PORT_3008_TCP="tcp:")
    assert [(w.file, w.key, w.suggestion) for w in loaded.warnings] == [
        ("environment", "MESHD_PORT_3008_TCP", ""),
        ("environment", "MESHD_SYNCPORT", "MESHD_SYNC_PORT"),
    ]


def test_a_host_name_that_cannot_be_an_id_asks_for_one(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: ".hidden")
    problem = the_problem(read, "name: x\n")
    assert (problem.file, problem.key) == ("the host name", "protolab.instanceId")
    assert read("protolab: {instanceId: named}\n").configuration.protolab.instance_id == "named"


# --- origins ---


def test_every_key_is_shown_with_its_value_and_origin(read: Read, tmp_path: Path) -> None:
    loaded = read(DEV_01, MESHD_API_PORT="3009")
    assert [entry.key for entry in loaded.entries] == [key.name for key in KEYS]
    values = {entry.key: entry.value for entry in loaded.entries}
    file = str(tmp_path / "proto.config.yaml")
    assert (values["protolab.role"], loaded.origins["protolab.role"]) == ("primary", f"{file}:6")
    assert (values["hivemind.peers"], loaded.origins["hivemind.peers"]) == (
        ["ws://100.64.0.1:4444", "ws://100.64.0.2:4444", "ws://100.64.0.3:4444"],
        f"{file}:20",
    )
    assert (values["api.port"], loaded.origins["api.port"]) == (3009, "MESHD_API_PORT")
    assert (values["log.level"], loaded.origins["log.level"]) == ("info", "default")
    assert (values["dataDir"], loaded.origins["dataDir"]) == (str(tmp_path / "data"), "default")


def test_what_is_loaded_does_not_change(read: Read) -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        read("name: x\n").configuration = Configuration()  # type: ignore[misc]


# --- the annotated example and the reference ---


def test_the_example_loads_without_a_word() -> None:
    loaded = load(REPOSITORY / default_path(), {})
    assert loaded.warnings == ()
    assert loaded.configuration.mesh_enabled
    assert loaded.configuration.priority == 0


def test_the_example_shows_every_key_with_its_default(read: Read) -> None:
    text = (REPOSITORY / default_path()).read_text()
    loaded = read(re.sub(r"^( *)#(?=\w+:)", r"\1", text, flags=re.MULTILINE))
    assert loaded.warnings == ()
    assert {key for key, origin in loaded.origins.items() if origin == "default"} == set()
    defaults = {entry.key: entry.value for entry in read("name: x\n").entries}
    not_defaults = {entry.key for entry in loaded.entries if entry.value != defaults[entry.key]}
    said_otherwise = {key for key in not_defaults if f"{key.rpartition('.')[2]}: " in text}
    assert not_defaults == said_otherwise
    for line in text.splitlines():
        key = re.match(r" *#?(\w+):", line)
        assert key is None or re.search(r"#?\w+:.*\s# |^\w+:$", line), f"no explanation: {line}"


def test_the_reference_has_one_row_per_key() -> None:
    header, _, *rows = reference().splitlines()
    assert header == "| key | default | environment | meaning |"
    assert [row.split("|")[1].strip(" `") for row in rows] == [key.name for key in KEYS]
    assert all(row.count("|") == 5 for row in rows)
    assert (
        "| `protolab.syncPort` | `4444` | `MESHD_SYNC_PORT` | Port on which this instance listens for the others |"
        in rows
    )


# --- total over anything ---

LEAVES = "1 0 -1 true yes ~ x '1' ws://a:1 [a,b] {a:1} .inf 2024-01-01 !t *a &a [[ 0x 1_ << ' @ primary"
SOME_LEAVES = st.sampled_from([*LEAVES.split(), "&a [x]", '"\\ud800"', "\t", "9" * 5000])
LIKELY_KEYS = st.sampled_from([key.leaf for key in KEYS] + [key.section for key in KEYS if key.section] + ["<<", "zz"])
LIKELY_LINES = st.builds(
    lambda indent, key, leaf: f"{' ' * indent}{key}: {leaf}\n",
    st.sampled_from([0, 0, 2, 2, 4]),
    LIKELY_KEYS,
    SOME_LEAVES,
)
SIGNS = st.text(alphabet=":-?[]{},&*!|>'\"%@`#~<=. \n\t\\0aexUu1\u0085\u2028\ufeff\x00", max_size=40)
ANY_TEXT = st.one_of(st.lists(LIKELY_LINES, max_size=12).map("".join), SIGNS, st.text(max_size=60))
ANY_ENVIRONMENT = st.dictionaries(
    st.sampled_from([key.variable or "MESHD_X" for key in KEYS]),
    st.one_of(SOME_LEAVES, st.text(max_size=20)),
    max_size=3,
)


def outcome(path: Path, environ: Mapping[str, str]) -> tuple[tuple[Problem, ...], bool]:
    try:
        loaded = load(path, environ)
    except ConfigError as error:
        return error.problems, True
    str(loaded.configuration).encode("utf-8")
    return loaded.warnings, False


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=ANY_TEXT, environ=ANY_ENVIRONMENT)
def test_any_text_is_loaded_or_refused(tmp_path: Path, text: str, environ: Mapping[str, str]) -> None:
    path = tmp_path / "proto.config.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    problems, is_refused = outcome(path, environ)
    assert any(problem.fatal for problem in problems) == is_refused
    lines = len(re.split(r"\r\n|[\r\n\u0085\u2028\u2029]", text))
    for problem in problems:
        assert problem.found
        assert problem.allowed
        assert 0 <= problem.line <= lines + 1
        assert "\n" not in str(problem)
