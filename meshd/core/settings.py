"""Settings that all hosts share, and what each host makes of them.

Rules (design, section 9):

- A setting is resolved by its top-level key: the file (`sharedSettings`, this host's defaults) < shared (the same on
  every host) < local (set on this host, never sent).
- Shared settings are changed on the primary, and flow from it. Each change makes the revision greater by one, is on
  disk before anybody hears of it, and goes out whole, to every link; what stands goes to each link that comes up.
- The primary's file speaks for all: when nothing was ever shared, what it says; later, what was changed in it since the
  last start. Either is a change like any other. A worker's file is its own defaults, also after it became primary.
- A worker takes settings from the primary it follows and from nobody else, when their revision is greater than its own.
  Of two contents of one revision the primary's stands. An original primary names no revision: what differs is newer.
- A primary of a lower revision has lost something, its database is an older one. The worker returns what it holds, and
  the primary takes back what is newer and tells all. So the greatest revision stands in the end, and the log says so
  wherever one content gave way to another that it was not the predecessor of.
- Everything is checked at the border (`settings_schema`), whoever it comes from: this is the only way out for settings,
  and no credential is on it. A refused key of the file is neither shared nor used; the rest of the file is.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, evolve, field, frozen

from meshd.configuration import Configuration
from meshd.core.documents import equal, merge_patch
from meshd.core.effects import (
    Accepted,
    Broadcast,
    Effect,
    Emit,
    Level,
    Note,
    Persist,
    Rejected,
    Reply,
    SaveSettings,
    Send,
)
from meshd.core.election import Leadership
from meshd.core.handshake import Line
from meshd.core.inputs import PatchSettings, PutSettings, SettingsCommand
from meshd.core.messages import SettingsEvent, UtcMs
from meshd.core.settings_schema import Fault, check, sift
from meshd.core.stored import Stored
from meshd.model import Dialect, Json, JsonObject, Now

SHARED, LOCAL, FILE = "shared", "local", "file"

MAX_REVISION = 2**52  # a peer that names a greater one would leave no room for further changes on the wire


@frozen
class Scope:
    """The settings of one scope, and how often they changed."""

    revision: int = 0
    values: JsonObject = field(factory=dict)


@frozen
class Scopes:
    """All settings of an instance at one moment."""

    file: Scope = Scope()
    shared: Scope = Scope()
    local: Scope = Scope()

    def resolved(self) -> dict[str, tuple[str, Json]]:
        """By key: the scope that decides, and the value."""
        in_order = ((FILE, self.file), (SHARED, self.shared), (LOCAL, self.local))
        return {key: (name, value) for name, scope in in_order for key, value in scope.values.items()}

    def of(self, name: str) -> Scope:
        return {FILE: self.file, SHARED: self.shared, LOCAL: self.local}[name]


@define
class Settings:
    """The three scopes of one instance. `file_before` is what the file said when this instance last started."""

    instance_id: str
    leadership: Leadership
    scopes: Scopes
    file_before: JsonObject
    file_faults: list[Fault]

    @classmethod
    def restored(cls, configuration: Configuration, leadership: Leadership, stored: Stored) -> Settings:
        """The settings as they were on disk, over those of the file."""
        file, faults = sift(configuration.shared_settings)
        shared, local, before = (Scope(*stored.settings.get(name, ())) for name in (SHARED, LOCAL, FILE))
        scopes = Scopes(Scope(0, file), shared, local)
        return cls(configuration.protolab.instance_id, leadership, scopes, before.values, faults)

    def begin(self, now: Now) -> Iterator[Effect]:
        """The instance starts: what the file says is told, and on the primary taken up."""
        for fault in self.file_faults:
            yield Note(Level.WARNING, f"sharedSettings in the configuration, a key is left out: {fault.detail}")
        file, shared = self.scopes.file.values, self.scopes.shared
        if self.leadership.is_primary:
            wanted = dict(file) if shared.revision == 0 else _edited(shared.values, self.file_before, file)
            if too_much := check(wanted):
                yield Note(Level.WARNING, f"sharedSettings in the configuration, not shared: {too_much.detail}")
            elif not equal(wanted, shared.values):
                yield from self._change(SHARED, Scope(shared.revision + 1, wanted), (), now)
        if not equal(file, self.file_before):
            self.file_before = file
            yield Persist(SaveSettings(FILE, 0, file))

    def message(self, now: Now) -> SettingsEvent:
        """The shared settings, for a peer."""
        shared = self.scopes.shared
        return SettingsEvent(self.instance_id, shared.values, UtcMs(now.utc_ms), revision=shared.revision)

    def welcome(self, line: Line, now: Now) -> Iterator[Effect]:
        """Tell who came what stands; an original peer nothing before there is something."""
        if line.dialect is Dialect.NATIVE or self.scopes.shared.revision:
            yield Send(line.link, self.message(now))

    def command(self, command: SettingsCommand, links: tuple[int, ...], now: Now) -> Iterator[Effect]:
        """Carry out a change of this host, or refuse it; replies in both cases."""
        before = self.scopes.of(command.scope)
        wanted = _wanted(command, before)
        if refused := self._refusal(command, before, wanted):
            yield Reply(command.command, refused)
            return
        assert isinstance(wanted, dict), "what is no object was refused"
        changed = not equal(before.values, wanted)
        if changed:
            yield from self._change(command.scope, Scope(before.revision + 1, wanted), links, now)
        yield Reply(command.command, Accepted(str(self.scopes.of(command.scope).revision), changed=changed))

    def _refusal(self, command: SettingsCommand, before: Scope, wanted: Json) -> Rejected | None:
        if command.scope == SHARED and not self.leadership.is_primary:
            leader = self.leadership.primary_id
            where = f"its primary, {leader}" if leader else "its primary, which it is looking for"
            return Rejected(
                "not-primary",
                f"{self.instance_id} is a worker: shared settings are changed on {where}; "
                "what is to hold for this host alone goes into its local settings",
            )
        if command.if_match not in (None, "*", str(before.revision)):
            return Rejected("revision-mismatch", _mismatch(command.scope, before.revision))
        if fault := check(wanted):
            return Rejected(fault.code, fault.detail, path=fault.path)
        return None

    def objection(self, line: Line, event: SettingsEvent) -> tuple[str, str] | None:
        """Why what a peer sends is not taken: a name to count it under, and a sentence. None when it may be."""
        returns = self.leadership.is_primary and line.dialect is Dialect.NATIVE and event.revision is not None
        if not returns and line.link != self.leadership.primary_link:
            return "settings-of-no-primary", f"{line.peer} sends shared settings, which only a primary may: refused"
        if event.revision is not None and event.revision > MAX_REVISION:
            return "settings-refused", f"{line.peer} sends settings of a revision that no count reaches: refused"
        if fault := check(event.settings):
            return "settings-refused", f"{line.peer} sends settings that are refused: {fault.detail}"
        return None

    def heard(self, line: Line, event: SettingsEvent, others: tuple[int, ...], now: Now) -> Iterator[Effect]:
        """What the primary sends to a worker, or a worker returns to a primary; `objection` found nothing."""
        ours, is_primary = self.scopes.shared, self.leadership.is_primary
        is_same = equal(event.settings, ours.values)
        revision = ours.revision + (not is_same) if event.revision is None else event.revision
        if revision < ours.revision:
            if not is_primary:
                yield Send(line.link, self.message(now))
            return
        if revision == ours.revision and (is_same or is_primary):
            return
        if is_primary:
            text = (
                f"{line.peer} holds shared settings of revision {revision}, this database is older: they are taken back"
            )
            yield Note(Level.WARNING, text, {"peer": line.peer, "was": ours.revision})
        elif revision == ours.revision:
            text = f"the primary {line.peer} has other shared settings of revision {revision}: they replace ours"
            yield Note(Level.WARNING, text, {"peer": line.peer})
        yield from self._change(SHARED, Scope(revision, event.settings), others if is_primary else (), now)

    def _change(self, name: str, scope: Scope, links: tuple[int, ...], now: Now) -> Iterator[Effect]:
        before = self.scopes.of(name).values
        self.scopes = evolve(self.scopes, shared=scope) if name == SHARED else evolve(self.scopes, local=scope)
        yield Persist(SaveSettings(name, scope.revision, scope.values))
        if name == SHARED and links:
            yield Broadcast(links, self.message(now))
        keys: list[Json] = [*_different(before, scope.values)]
        yield Emit("settings:updated", {"scope": name, "revision": scope.revision, "keys": keys})


def _wanted(command: SettingsCommand, before: Scope) -> Json:
    match command:
        case PutSettings():
            return command.values
        case PatchSettings():
            return merge_patch(before.values, command.patch)


def _mismatch(scope: str, revision: int) -> str:
    return f"the {scope} settings are at revision {revision}: GET them, make the change again, send If-Match with that"


def _edited(shared: JsonObject, file_before: JsonObject, file: JsonObject) -> JsonObject:
    """The shared settings with what was edited in the file; what went from the file goes where it stands unchanged."""
    edited = _different(file_before, file)
    removed = {key for key in edited if key not in file and equal(shared.get(key), file_before[key])}
    kept = {key: value for key, value in shared.items() if key not in removed}
    return kept | {key: file[key] for key in edited if key in file}


def _different(one: JsonObject, other: JsonObject) -> list[str]:
    return sorted(
        key
        for key in one.keys() | other.keys()
        if key not in one or key not in other or not equal(one[key], other[key])
    )
