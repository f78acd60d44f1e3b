"""deploy/ as far as it can be told without systemd or Docker running: files parsed, bounds compared, parts run."""

from __future__ import annotations

import configparser
import fnmatch
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from ruamel.yaml import YAML

from meshd.agents import STOPPED_WITHIN_S
from meshd.config import load
from meshd.configuration import Api, Drain, Hivemind, Protolab
from meshd.daemon import CLOSE_WITHIN_S, EDGE_STOPS_WITHIN_S
from meshd.model import JsonObject

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "deploy" / "meshd.service"
AFTER_WORK_S = STOPPED_WITHIN_S + 2 * Drain().grace_ms / 1000 + EDGE_STOPS_WITHIN_S + 2 * CLOSE_WITHIN_S
DRAIN_BOUND_S = Drain().work_timeout_ms / 1000 + AFTER_WORK_S


# --- meshd.service


@pytest.fixture(scope="module")
def unit() -> configparser.ConfigParser:
    """The unit; a directive given twice keeps its last value."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=", comment_prefixes="#")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as configparser's documentation does it
    parser.read_string(UNIT.read_text())
    return parser


@pytest.mark.parametrize(
    ("directive", "value"),
    [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("ExecStart", "/opt/meshd/bin/meshd run --config /etc/meshd/proto.config.yaml"),
        ("Restart", "on-failure"),
        ("RestartPreventExitStatus", "78"),
        ("KillMode", "mixed"),
        ("StateDirectory", "meshd"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("ProtectSystem", "strict"),
        ("MemoryDenyWriteExecute", "yes"),
        ("SystemCallArchitectures", "native"),
    ],
)
def test_the_unit_says(unit: configparser.ConfigParser, directive: str, value: str) -> None:
    assert unit["Service"][directive] == value


def test_the_unit_checks_the_configuration_it_runs_with(unit: configparser.ConfigParser) -> None:
    check, run = unit["Service"]["ExecStartPre"], unit["Service"]["ExecStart"]
    assert check.removeprefix("-") == run.replace(" run ", " config check ")
    assert check.startswith("-"), "a failing ExecStartPre is retried whatever RestartPreventExitStatus says"


def test_the_unit_keeps_data_where_it_may_write() -> None:
    assert "Environment=MESHD_DATA_DIR=%S/meshd\n" in UNIT.read_text()


def test_the_unit_waits_for_the_network_of_the_mesh(unit: configparser.ConfigParser) -> None:
    assert unit["Unit"]["After"].split() == ["network-online.target", "tailscaled.service"]
    assert unit["Unit"]["Wants"] == "network-online.target"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0", "an address that comes late must not end in `failed`"


def test_the_unit_allows_for_the_whole_drain(unit: configparser.ConfigParser) -> None:
    assert int(unit["Service"]["TimeoutStopSec"]) > DRAIN_BOUND_S


def test_the_texts_say_how_long_a_drain_takes() -> None:
    for file in (UNIT, ROOT / "deploy" / "docker-compose.yml", ROOT / "deploy" / "README.md"):
        assert f"{DRAIN_BOUND_S:.0f} s" in " ".join(file.read_text().split()), file


def test_a_daemon_that_hangs_is_back_before_its_peers_give_it_up(unit: configparser.ConfigParser) -> None:
    seconds = int(unit["Service"]["WatchdogSec"]) + int(unit["Service"]["RestartSec"])
    assert seconds < Hivemind().peer_ttl_ms / 1000


def test_the_unit_leaves_visible_what_capacity_reads(unit: configparser.ConfigParser) -> None:
    assert "ProcSubset" not in unit["Service"]


@pytest.fixture
def installed_unit(tmp_path: Path) -> Path:
    """The unit as on a host that has the daemon: systemd looks for the executable."""
    executable = shutil.which("true")
    assert executable
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace("/opt/meshd/bin/meshd", executable))
    return path


def _systemd_analyze(*arguments: str) -> str:
    """What systemd-analyze has to say; it exits 0 whatever it finds."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    command = ["systemd-analyze", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def _problems(unit: Path) -> list[str]:
    """What systemd finds wrong with our unit; it speaks of the host's other units too."""
    return [line for line in _systemd_analyze("verify", "--man=no", str(unit)).splitlines() if "meshd" in line]


def test_systemd_finds_nothing_wrong_with_the_unit(installed_unit: Path) -> None:
    assert _problems(installed_unit) == []


def test_systemd_would_find_what_is_wrong(installed_unit: Path) -> None:
    installed_unit.write_text(installed_unit.read_text().replace("WatchdogSec=60", "WatchdogSec=often"))
    assert _problems(installed_unit)


def test_systemd_rates_the_sandbox(installed_unit: Path) -> None:
    found = _systemd_analyze("security", "--offline=true", "--no-pager", str(installed_unit))
    level = re.search(r"exposure level for \S+: ([0-9.]+)", found)
    if not level:
        pytest.skip("this systemd-analyze cannot rate a unit offline")
    assert float(level[1]) <= 2.0, found


# --- Dockerfile


@pytest.fixture(scope="module")
def stages() -> list[list[tuple[str, str]]]:
    """The Dockerfile's stages, each a list of instructions and their arguments."""
    lines = [line for line in (ROOT / "deploy" / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", "")
    instructions = [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]
    starts = [index for index, (name, _) in enumerate(instructions) if name == "FROM"]
    return [instructions[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]


def _arguments(stage: list[tuple[str, str]], name: str) -> str:
    (arguments,) = [arguments for instruction, arguments in stage if instruction == name]
    return arguments


def _copied(stages: list[list[tuple[str, str]]]) -> list[str]:
    copies = [arguments.split() for stage in stages for name, arguments in stage if name == "COPY"]
    return [source for words in copies if not words[0].startswith("--from") for source in words[:-1]]


def test_the_image_runs_as_nobody_special(stages: list[list[tuple[str, str]]]) -> None:
    user, group = _arguments(stages[-1], "USER").split(":")
    assert int(user) > 0
    assert int(group) > 0


def test_the_image_is_signalled_directly(stages: list[list[tuple[str, str]]]) -> None:
    entrypoint = json.loads(_arguments(stages[-1], "ENTRYPOINT"))
    command = json.loads(_arguments(stages[-1], "CMD"))
    assert entrypoint + command == ["meshd", "run", "--config", "/app/proto.config.yaml"]
    assert _arguments(stages[-1], "STOPSIGNAL") == "SIGTERM"
    assert _arguments(stages[-1], "WORKDIR") == "/app"


def test_the_image_exposes_the_default_ports(stages: list[list[tuple[str, str]]]) -> None:
    assert _arguments(stages[-1], "EXPOSE").split() == [str(Api().port), str(Protolab().sync_port)]


def test_the_image_installs_nothing_without_a_hash(stages: list[list[tuple[str, str]]]) -> None:
    runs = [arguments for stage in stages for name, arguments in stage if name == "RUN"]
    commands = [command for run in runs for command in re.split(r"&&|;", run) if re.search(r"\bpip\b", command)]
    assert len(commands) == 4
    for command in commands:
        assert "--require-hashes" in command or "--no-deps" in command
    assert [command for command in commands if " wheel " in command and "--no-build-isolation" not in command] == []


def test_the_image_keeps_its_builder_out(stages: list[list[tuple[str, str]]]) -> None:
    assert len(stages) == 2
    assert [arguments for name, arguments in stages[-1] if name == "COPY"] == ["--from=builder /opt/meshd /opt/meshd"]
    assert {_arguments(stage, "FROM").split()[0] for stage in stages} == {"python:3.11-slim"}


def test_what_the_image_copies_exists_and_is_not_ignored(stages: list[list[tuple[str, str]]]) -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    for source in _copied(stages):
        assert (ROOT / source).exists(), source
        matching = [pattern for pattern in patterns if fnmatch.fnmatchcase(source, pattern.removeprefix("!"))]
        assert matching[-1].startswith("!"), f"{source} is ignored"


def test_what_the_image_copies_is_enough_for_the_wheel(stages: list[list[tuple[str, str]]], tmp_path: Path) -> None:
    for source in _copied(stages):
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, tmp_path / source)
    build = "import hatchling.build; print(hatchling.build.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True, check=True)
    names = zipfile.ZipFile(tmp_path / done.stdout.strip()).namelist()
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "meshd").rglob("*.py")}
    assert modules <= set(names)
    assert any(name.endswith("entry_points.txt") for name in names)


class _Livez(BaseHTTPRequestHandler):
    """Answers as the daemon would: 200 on /livez, 503 on anything else."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/livez" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        pass


@pytest.fixture
def livez_port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Livez) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def health_check(stages: list[list[tuple[str, str]]]) -> list[str]:
    options, command = _arguments(stages[-1], "HEALTHCHECK").split("CMD ")
    assert dict(re.findall(r"--(\w+)=(\d+)s", options)) == {"interval": "30", "timeout": "5"}
    python, *arguments = json.loads(command)
    assert python == "python"
    return [sys.executable, *arguments]


def test_the_health_check_tells_a_living_daemon(health_check: list[str], livez_port: int) -> None:
    environ = {"MESHD_API_PORT": str(livez_port), "http_proxy": "http://127.0.0.1:1"}
    assert subprocess.run(health_check, env=environ, timeout=30, check=False).returncode == 0


def test_the_health_check_tells_an_ailing_daemon(health_check: list[str], livez_port: int) -> None:
    environ = {"MESHD_API_PORT": str(livez_port)}
    ailing = [argument.replace("/livez", "/ailing") for argument in health_check]
    assert subprocess.run(ailing, env=environ, timeout=30, check=False).returncode == 1


def test_the_health_check_tells_a_dead_daemon(health_check: list[str]) -> None:
    environ = {"MESHD_API_PORT": "1"}
    done = subprocess.run(health_check, env=environ, timeout=30, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1


# --- docker-compose.yml


@pytest.fixture(scope="module")
def compose() -> JsonObject:
    services = YAML(typ="safe").load(ROOT / "deploy" / "docker-compose.yml")["services"]
    assert list(services) == ["meshd"]
    service: JsonObject = services["meshd"]
    return service


def test_compose_maps_the_default_ports(compose: JsonObject) -> None:
    api, sync = Api().port, Protolab().sync_port
    assert compose["ports"] == [f"${{API_PORT:-{api}}}:{api}", f"${{SYNC_PORT:-{sync}}}:{sync}"]


def test_compose_mounts_what_the_image_expects(compose: JsonObject, stages: list[list[tuple[str, str]]]) -> None:
    assert compose["volumes"] == [
        "./proto.config.yaml:/app/proto.config.yaml:ro",
        "./data:/data",
        "${WORKSPACE:-./workspace}:/workspace",
    ]
    assert "install --directory --owner meshd --group meshd /app /data /workspace" in _arguments(stages[-1], "RUN")


def test_the_image_places_data_and_workspace(stages: list[list[tuple[str, str]]], tmp_path: Path) -> None:
    file = tmp_path / "proto.config.yaml"
    file.write_text("name: protoMaker\n")
    image_environ = dict(word.split("=", 1) for word in _arguments(stages[-1], "ENV").split())
    loaded = load(file, image_environ | {"MESHD_API_PORT": "3009"})
    configuration = loaded.configuration
    assert (configuration.data_dir, configuration.repo_root) == (Path("/data"), Path("/workspace"))
    assert configuration.api.port == 3009, "the health check reads the same variable"
    assert [str(warning) for warning in loaded.warnings if "MESHD" in warning.key] == []


def test_compose_allows_for_the_whole_drain(compose: JsonObject) -> None:
    grace = compose["stop_grace_period"]
    assert isinstance(grace, str)
    assert grace.endswith("s")
    assert int(grace.removesuffix("s")) > DRAIN_BOUND_S


def test_compose_hands_on_the_key_only_when_there_is_one(compose: JsonObject) -> None:
    assert compose["environment"] == {"AUTOMAKER_API_KEY": None}


def test_compose_keeps_the_container_closed(compose: JsonObject) -> None:
    assert compose["read_only"] is True
    assert compose["tmpfs"] == ["/tmp"]
    assert compose["cap_drop"] == ["ALL"]
    assert compose["security_opt"] == ["no-new-privileges:true"]
    assert compose["restart"] == "unless-stopped"


def test_compose_builds_from_the_root(compose: JsonObject) -> None:
    assert compose["build"] == {"context": ".", "dockerfile": "deploy/Dockerfile"}
