"""What each key of `proto.config.yaml` may hold, and what keys have to say to each other.

One row of `KEYS` per key; everything else about a key follows from it: its attribute in `meshd.configuration`, its
environment variable, its line in the reference. A `Kind` turns a plain value (text, number, list...) into the value
the configuration holds, or raises `Refused` with every reason. `RELATIONS` are the rules between keys; a rule runs
only when the keys it reads were all accepted, so that one mistake is reported once.

Nothing here reads a file, the environment or the host.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from pathlib import Path

import attrs
from attrs import frozen

from meshd.configuration import Configuration
from meshd.errors import DocumentError, Problem
from meshd.model import MAX_LABEL, MAX_TAGS, Focus, Json, Role
from meshd.project import check_name

_YEAR_MS = 31_536_000_000
_SHOWN_CHARACTERS = 80

_NAME_ALLOWED = "a name of at most 200 bytes that does not start with a dot and holds no /, \\ or control character"
_ADDRESS_ALLOWED = "an IP address to listen on, such as 0.0.0.0 (every interface) or 127.0.0.1"
_URL_ALLOWED = "a URL such as ws://100.64.0.1:4444 (ws or wss, host, port)"
_TEXT_ALLOWED = f"a text of one line, 1 to {MAX_LABEL} characters"

# Below these, an instance is busy with itself: for tests and demonstrations only.
SHORT_TICK_MS = 5_000
SHORT_CLAIM_MS = 60_000


@frozen
class Refusal:
    """Why a value is not accepted; `at` is the element of a list or mapping that is to blame."""

    found: str
    allowed: str
    suggestion: str = ""
    at: int | str | None = None


class Refused(Exception):  # noqa: N818  an answer that a kind gives, not a failure
    """The value cannot stand under its key, for these reasons."""

    def __init__(self, *refusals: Refusal) -> None:
        super().__init__(refusals)
        self.refusals = refusals


@frozen
class Kind:
    """What a key may hold. `from_text` reads an environment variable; None where no text can stand for the value."""

    accept: Callable[[Json], object]
    from_text: Callable[[str], Json] | None = str
    choices: tuple[str, ...] = ()


@frozen
class Key:
    """One key of the file. `default` is shown where the default depends on the host or the file."""

    name: str
    kind: Kind
    meaning: str
    default: str = ""
    renamed: str = ""

    @property
    def section(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def leaf(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def attribute(self) -> str:
        return self.renamed or snake(self.leaf)

    @property
    def variable(self) -> str | None:
        """`MESHD_` and the key, without `protolab` and `hivemind`, save before `enabled`, which several have."""
        if self.kind.from_text is None:
            return None
        short = self.section in ("protolab", "hivemind") and self.leaf != "enabled"
        return "MESHD_" + snake(self.leaf if short else self.name.replace(".", "_")).upper()


def snake(name: str) -> str:
    """`peerTtlMs` -> `peer_ttl_ms`."""
    return re.sub(r"(?<=[a-z])[A-Z]", lambda match: "_" + match[0], name).lower()


def nearest(word: str, candidates: Iterable[str]) -> str:
    """The candidate that `word` was probably meant to be, or "" when none is near."""
    by_folded = {_fold(candidate): candidate for candidate in candidates}
    matches = difflib.get_close_matches(_fold(word[:_SHOWN_CHARACTERS]), by_folded, n=1)
    return by_folded[matches[0]] if matches else ""


def _fold(word: str) -> str:
    return re.sub(r"[_-]", "", word).lower()


def found(value: Json) -> str:
    """`value` in words for a person who has to find it in the file."""
    match value:
        case None:
            what = "nothing"
        case bool():
            what = str(value).lower()
        case str():
            short = value if len(value) <= _SHOWN_CHARACTERS else value[: _SHOWN_CHARACTERS - 3] + "..."
            what = f"the text {short!r}"
        case list():
            what = f"a list of {len(value)}"
        case dict():
            what = "a section of keys"
        case int() if abs(value) >= 10**_SHOWN_CHARACTERS:
            what = f"a number of more than {_SHOWN_CHARACTERS} digits"
        case _:
            what = str(value)
    return f"found {what}"


def _refuse(value: Json, allowed: str, suggestion: str = "") -> Refused:
    return Refused(Refusal(found(value), f"must be {allowed}", suggestion))


def _whole(minimum: int, maximum: int, unit: str = "") -> Kind:
    allowed = f"a whole number{unit} from {minimum} to {maximum}"

    def accept(value: Json) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            digits = isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value)
            reason = ", without a leading zero" if value != "0" and str(value).startswith("0") else ", without quotes"
            raise _refuse(value, allowed + (reason if digits else ""))
        if not minimum <= value <= maximum:
            raise _refuse(value, allowed)
        return value

    def from_text(text: str) -> Json:
        return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else text

    return Kind(accept, from_text)


def _milliseconds(minimum: int = 1) -> Kind:
    # The upper bound keeps every later sum of intervals a sane float.
    return _whole(minimum, _YEAR_MS, " of milliseconds")


def _choice(options: Iterable[str]) -> Kind:
    by_text = {str(option): option for option in options}
    texts = tuple(by_text)
    allowed = f"one of {', '.join(texts)}"

    def accept(value: Json) -> str:
        if not isinstance(value, str) or value not in by_text:
            raise _refuse(value, allowed, nearest(str(value), texts))
        return by_text[value]

    return Kind(accept, choices=texts)


_SWITCH_WORDS = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}


def _accept_switch(value: Json) -> bool:
    if not isinstance(value, bool):
        word = str(value).lower()
        unquoted = word if word in ("true", "false") else _SWITCH_WORDS.get(word, "")
        raise _refuse(value, "true or false, without quotes" if word == unquoted else "true or false", unquoted)
    return value


def _switch_from_text(text: str) -> Json:
    return {"true": True, "false": False}.get(text.lower(), text)


def _text(allowed: str, fits: Callable[[str], bool]) -> Callable[[Json], str]:
    def accept(value: Json) -> str:
        if isinstance(value, bool | int | float):
            raise _refuse(value, f"{allowed}; put it in quotes to make it a text")
        if not isinstance(value, str) or not fits(value):
            raise _refuse(value, allowed)
        return value

    return accept


def _accept_name(value: Json) -> str:
    text = _text(_NAME_ALLOWED, bool)(value)
    try:
        return check_name(text, "name")
    except DocumentError:
        raise _refuse(value, _NAME_ALLOWED) from None


def _accept_path(value: Json) -> Path:
    allowed = "a path, relative to the folder of this file or absolute; `~` is not expanded"
    return Path(_text(allowed, lambda text: bool(text) and text.isprintable() and not text.startswith("~"))(value))


_ADDRESS_WORDS = {"localhost": "127.0.0.1", "*": "0.0.0.0"}


def _accept_address(value: Json) -> str:
    text = _text(_ADDRESS_ALLOWED, bool)(value)
    try:
        return str(ip_address(text))
    except ValueError:
        raise _refuse(value, _ADDRESS_ALLOWED, _ADDRESS_WORDS.get(text, "")) from None


_URL = re.compile(
    r"(?P<scheme>wss?)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?P<path>/[!\"$->@-~]*)?",
    re.ASCII | re.IGNORECASE,
)


def _accept_url(value: Json) -> str:
    """One spelling per URL, so that URLs can be compared as texts: lower case, port written, no bare `/`."""
    text = _text(_URL_ALLOWED, bool)(value)
    hidden = re.sub(r"//[^/@]*@", "//***@", text)
    match = _URL.fullmatch(text)
    if match is None:
        raise _refuse(hidden, _URL_ALLOWED, _url_suggestion(hidden))
    scheme, host, path = match["scheme"].lower(), _host(match["host"].lower()), match["path"] or ""
    if host is None:
        raise _refuse(text, "a URL whose host others can reach: a name or an address, not 0.0.0.0 or ::")
    if match["port"] is None:
        wanted = f"{scheme}://{host}:4444{path if path != '/' else ''}"
        raise _refuse(text, "a URL with its port (without one, WebSocket means 80 or 443)", wanted)
    if not 1 <= int(match["port"]) <= 65_535:
        raise _refuse(text, "a URL with a port from 1 to 65535")
    return f"{scheme}://{host}:{int(match['port'])}{path if path != '/' else ''}"


def _url_suggestion(text: str) -> str:
    candidates = (re.sub(r"^http", "ws", text, flags=re.IGNORECASE), f"ws://{text}")
    return next((candidate for candidate in candidates if _URL.fullmatch(candidate)), "")


def _host(host: str) -> str | None:
    """The host as it is compared, or None when nobody can dial it."""
    try:
        if host.startswith("["):
            v6 = IPv6Address(host[1:-1])
            return None if v6.is_unspecified else f"[{v6}]"
        if re.fullmatch(r"[0-9.]+", host):
            v4 = IPv4Address(host)
            return None if v4.is_unspecified else str(v4)
    except AddressValueError:
        return None
    return host


def _list_of(kind: Kind, allowed: str, *, in_text: bool, most: float = math.inf) -> Kind:
    """A list of values of one kind; every element that is refused is named. Nothing written means an empty list."""

    def accept(value: Json) -> tuple[object, ...]:
        if not isinstance(value, list | None) or len(value or ()) > most:
            raise _refuse(value, allowed)
        accepted: list[object] = []
        refusals: list[Refusal] = []
        for index, element in enumerate(value or ()):
            try:
                accepted.append(kind.accept(element))
            except Refused as refused:
                refusals += [attrs.evolve(refusal, at=index) for refusal in refused.refusals]
        if refusals:
            raise Refused(*refusals)
        return tuple(accepted)

    return Kind(accept, _split if in_text else None)


def _split(text: str) -> Json:
    return [part.strip() for part in text.split(",") if part.strip()]


def _accept_environment(value: Json) -> Mapping[str, str]:
    if not isinstance(value, dict | None):
        raise _refuse(value, "a section of variables, each with a text")
    refusals: list[Refusal] = []
    for name, text in (value or {}).items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            refusals.append(Refusal(found(name), "must be a variable's name: letters, digits and _", at=name))
        elif not isinstance(text, str) or "\0" in text:
            refusals.append(Refusal(found(text), "must be a text: put it in quotes", at=name))
    if refusals:
        raise Refused(*refusals)
    return {name: str(text) for name, text in (value or {}).items()}


def _accept_settings(value: Json) -> Mapping[str, Json]:
    allowed = "a section of keys with values that JSON can carry: no .nan, no .inf, no number beyond 64 bits"
    if not isinstance(value, dict | None) or not _is_portable(value):
        raise _refuse(value, allowed)
    return value or {}


def _is_portable(value: Json) -> bool:
    match value:
        case dict():
            return all(map(_is_portable, value.values()))
        case list():
            return all(map(_is_portable, value))
        case int():
            return -(2**63) <= value < 2**63
        case float():
            return math.isfinite(value)
    return True


SWITCH = Kind(_accept_switch, _switch_from_text)
TEXT = Kind(_text(_TEXT_ALLOWED, lambda text: 0 < len(text) <= MAX_LABEL and text.isprintable()))
NAME = Kind(_accept_name)
PATH = Kind(_accept_path)
ADDRESS = Kind(_accept_address)
URL = Kind(_accept_url)
PORT = _whole(1, 65_535)
COUNT = _whole(1, 1_000_000_000)
URLS = _list_of(URL, "a list of URLs, each on a line of its own after `- `", in_text=True)
TAGS = _list_of(TEXT, f"a list of at most {MAX_TAGS} texts, such as [backend, infra]", in_text=True, most=MAX_TAGS)
_WORD = Kind(_text("a text", lambda text: "\0" not in text))
COMMAND = _list_of(_WORD, "a list of words, the program first, such as [./agent, --once]", in_text=False)
ENVIRONMENT = Kind(_accept_environment, None)
SETTINGS = Kind(_accept_settings, None)

# Sections and keys that protoLabs keeps in the same file for itself.
_FOREIGN = "techStack commands git defaults hive instances assignment projectPreferences workStealing"
FOREIGN = tuple(_FOREIGN.split())

KEYS = (
    Key("name", TEXT, "Name of the project; events of an instance with another name are refused"),
    Key("version", TEXT, "Version of this file, for its readers; meshd does nothing with it"),
    Key("repoRoot", PATH, "Root of the workspace, where `.automaker/` lives", "the folder of this file"),
    Key("dataDir", PATH, "Where the database and the logs of runs are kept", "`data` beside this file"),
    Key("protolab.enabled", SWITCH, "Take part in a mesh; `hivemind.enabled` has to be true as well"),
    Key("protolab.role", _choice(Role), "Who leads at a cold start; the primary is index 0 of `hivemind.peers`"),
    Key("protolab.syncPort", PORT, "Port on which this instance listens for the others"),
    Key("protolab.syncBindAddr", ADDRESS, "Address on which it listens for them; best the Tailscale address"),
    Key("protolab.instanceId", NAME, "Name of this instance, unique in the mesh", "the host name"),
    Key("protolab.instanceUrl", URL, "URL at which the others reach this instance: its own entry of `hivemind.peers`"),
    Key("protolab.advertised", SWITCH, "`instanceUrl` names a port that is mapped to `syncPort` on purpose (Docker)"),
    Key("instance.name", TEXT, "Display name"),
    Key("instance.role", _choice(Focus), "Work that this instance prefers", renamed="focus"),
    Key("instance.tags", TAGS, "More that it can do"),
    Key("hivemind.enabled", SWITCH, "Switch the mesh on; `protolab.enabled` has to be true as well"),
    Key("hivemind.heartbeatIntervalMs", _milliseconds(), "How often an instance says that it is there"),
    Key("hivemind.peerTtlMs", _milliseconds(), "How long a silent peer counts as online; at least 3 heartbeats"),
    Key("hivemind.peers", URLS, "URLs of all instances, this one among them, the same list everywhere; first leads"),
    Key(
        "hivemind.failover", _choice(("auto", "quorum", "priority", "manual")), "Who may lead when the primary is gone"
    ),
    Key("hivemind.failback", _choice(("auto", "manual")), "Whether index 0 leads again once it is back"),
    Key("hivemind.leaderEligible", SWITCH, "Whether this instance may ever lead; false makes it a witness"),
    Key("hivemind.maxClockSkewMs", _milliseconds(), "Instances whose clocks differ by more refuse each other"),
    Key("hivemind.originalPeers", _choice(("allow", "refuse")), "Whether peers of the original dialect may join"),
    Key("workIntake.enabled", SWITCH, "Claim phases of shared projects"),
    Key("workIntake.tickIntervalMs", _milliseconds(), "How often to look for claimable phases"),
    Key("workIntake.claimTimeoutMs", _milliseconds(), "How long a lost holder keeps its claim"),
    Key("workIntake.overflow", SWITCH, "Take work outside `instance.role` when there is none inside"),
    Key("workIntake.overflowTicks", COUNT, "Ticks without own work before other work is taken"),
    Key("workIntake.maxAttempts", COUNT, "Failed attempts after which a phase waits for a person"),
    Key("workIntake.retryBackoffMs", _milliseconds(0), "Pause after a failed attempt"),
    Key("workIntake.lockDelayMs", _milliseconds(0), "Pause between taking a claim back and giving it away again"),
    Key("workIntake.whenPartitioned", _choice(("pause", "continue")), "Whether to claim new work without a primary"),
    Key("agents.command", COMMAND, "Program to run for each feature: a list of words"),
    Key("agents.max", COUNT, "How many of them run at once"),
    Key("agents.timeoutMs", _milliseconds(), "How long one may run"),
    Key("agents.cwd", PATH, "Folder in which it runs", "`repoRoot`"),
    Key("agents.env", ENVIRONMENT, "Variables it gets besides `MESHD_*`"),
    Key("drain.graceMs", _milliseconds(), "How long goodbyes and closing may take"),
    Key("drain.workTimeoutMs", _milliseconds(0), "How long running work may go on before it is stopped"),
    Key("outbox.maxChanges", COUNT, "Changes kept for an absent primary before those of one field are merged"),
    Key("compaction.intervalMs", _milliseconds(), "How often the store is tidied"),
    Key("compaction.alertBytes", COUNT, "Size of a document that raises an alert"),
    Key("compaction.tombstoneRetentionMs", _milliseconds(), "How long a deletion is remembered at least"),
    Key("log.format", _choice(("auto", "logfmt", "json", "journald")), "Form of the log lines"),
    Key("log.level", _choice(("debug", "info", "warning", "error")), "The least that is logged"),
    Key("api.port", PORT, "Port of the HTTP API"),
    Key("api.bindAddr", ADDRESS, "Address of the HTTP API"),
    Key("api.socket", PATH, "Unix socket of the HTTP API, besides the port"),
    Key("sharedSettings", SETTINGS, "Settings that the primary shares with all; never credentials"),
)


def _one_switch(configuration: Configuration) -> Iterator[Problem]:
    mesh, lab = configuration.hivemind.enabled, configuration.protolab.enabled
    if mesh != lab:
        on, off = ("hivemind", "protolab") if mesh else ("protolab", "hivemind")
        allowed = "the mesh stays off, it needs both"
        yield Problem(f"{on}.enabled", f"found true while {off}.enabled is false", allowed, fatal=False)


def _somebody_listed(configuration: Configuration) -> Iterator[Problem]:
    if configuration.mesh_enabled and not configuration.hivemind.peers:
        is_worker = configuration.protolab.role is Role.WORKER
        reason = "a worker has nobody to dial" if is_worker else "nobody else can lead when this instance is gone"
        yield Problem("hivemind.peers", "found no peers", f"must list every instance: {reason}", fatal=is_worker)


def _no_twins(configuration: Configuration) -> Iterator[Problem]:
    peers = configuration.hivemind.peers
    for index, url in enumerate(peers):
        first = peers.index(url)
        if first != index:
            allowed = f"must not repeat hivemind.peers[{first}]: the index is the priority"
            yield Problem(f"hivemind.peers[{index}]", found(url), allowed)


def _own_entry(configuration: Configuration) -> Iterator[Problem]:
    url, peers = configuration.protolab.instance_url, configuration.hivemind.peers
    if configuration.mesh_enabled and peers and configuration.priority is None:
        allowed = "must be the entry of hivemind.peers by which the others reach this instance"
        yield Problem("protolab.instanceUrl", found(url), allowed, suggestion=nearest(url, peers) if url else "")


def _own_port(configuration: Configuration) -> Iterator[Problem]:
    lab = configuration.protolab
    if not configuration.mesh_enabled or lab.advertised or lab.instance_url is None:
        return
    match = _URL.fullmatch(lab.instance_url)
    assert match is not None, "the URL was accepted by the same expression"
    if int(match["port"]) != lab.sync_port:
        allowed = f"must have port {lab.sync_port} (syncPort), or `advertised: true` if another is mapped to it"
        yield Problem("protolab.instanceUrl", found(lab.instance_url), allowed)
    elif lab.instance_url.startswith("wss:"):
        allowed = "meshd serves no TLS on syncPort: put a proxy in front and say `advertised: true`"
        yield Problem("protolab.instanceUrl", found(lab.instance_url), allowed, fatal=False)


def _primary_first(configuration: Configuration) -> Iterator[Problem]:
    index = configuration.priority
    if configuration.mesh_enabled and configuration.protolab.role is Role.PRIMARY and index:
        allowed = "the canonical primary is index 0: it takes the lead back unless failback is manual"
        where = f"found primary at index {index} of hivemind.peers"
        yield Problem("protolab.role", where, allowed, fatal=False)


def _patient(configuration: Configuration) -> Iterator[Problem]:
    mesh = configuration.hivemind
    if mesh.peer_ttl_ms < 3 * mesh.heartbeat_interval_ms:
        allowed = (
            f"should be at least 3 heartbeats ({3 * mesh.heartbeat_interval_ms}), or one lost frame raises an alert"
        )
        yield Problem("hivemind.peerTtlMs", found(mesh.peer_ttl_ms), allowed, fatal=False)


def _unhurried(configuration: Configuration) -> Iterator[Problem]:
    intake = configuration.work_intake
    for key, value, least in (
        ("workIntake.tickIntervalMs", intake.tick_interval_ms, SHORT_TICK_MS),
        ("workIntake.claimTimeoutMs", intake.claim_timeout_ms, SHORT_CLAIM_MS),
    ):
        if value < least:
            allowed = f"should be at least {least}: less is for tests and demonstrations"
            yield Problem(key, found(value), allowed, fatal=False)


def _ports_apart(configuration: Configuration) -> Iterator[Problem]:
    lab, api = configuration.protolab, configuration.api
    overlap = lab.sync_bind_addr == api.bind_addr or {lab.sync_bind_addr, api.bind_addr} & {"0.0.0.0", "::"}
    if configuration.mesh_enabled and lab.sync_port == api.port and overlap:
        yield Problem("api.port", found(api.port), "must not be the port of protolab.syncPort on the same address")


_SWITCHES = ("protolab.enabled", "hivemind.enabled")

RELATIONS: tuple[tuple[tuple[str, ...], Callable[[Configuration], Iterator[Problem]]], ...] = (
    (_SWITCHES, _one_switch),
    ((*_SWITCHES, "hivemind.peers", "protolab.role"), _somebody_listed),
    (("hivemind.peers",), _no_twins),
    ((*_SWITCHES, "hivemind.peers", "protolab.instanceUrl"), _own_entry),
    ((*_SWITCHES, "protolab.instanceUrl", "protolab.syncPort", "protolab.advertised"), _own_port),
    ((*_SWITCHES, "protolab.role", "hivemind.peers", "protolab.instanceUrl"), _primary_first),
    (("hivemind.peerTtlMs", "hivemind.heartbeatIntervalMs"), _patient),
    (("workIntake.tickIntervalMs", "workIntake.claimTimeoutMs"), _unhurried),
    ((*_SWITCHES, "protolab.syncPort", "protolab.syncBindAddr", "api.port", "api.bindAddr"), _ports_apart),
)
