"""What the clients ask a daemon, what its answers mean, and what is known of a claim: nothing here does any I/O.

Rules:

- Whatever goes wrong is a `ClientError` with the stable code of the API; `Unreachable` when nobody answered.
- A claim is lost when the daemon says so, or does not know it, or when its lease has run out without word from the
  daemon: the lease is counted from before the question was sent, on the clock that goes on while the host sleeps.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from math import inf
from os import environ
from urllib.parse import quote

import httpx
import orjson
from attrs import define, field, frozen

from meshd.errors import MeshdError
from meshd.model import Json, JsonObject

DEFAULT_URL = "http://127.0.0.1:3008"
CONNECT_WITHIN_S = 3.0
ANSWER_WITHIN_S = 10.0  # a commit on a slow disk
ASK_FOR_S = 30.0  # one long poll: shorter than the silence after which proxies hang up
LOOK_EVERY_S, LOOK_AT_MOST_EVERY_S = 5.0, 0.1
LOOKS_A_LEASE = 10
PATIENCE_S = 30.0  # for a result, while nobody answers: a daemon that is restarted is back by then
TELL_AGAIN_S = 0.5
LEAVE_WITHIN_S = 5.0

NO_LONGER = frozenset({"stale", "not-holder", "not-found", "not-claimable"})
"""What the daemon answers to who settles a claim that it does not hold any more."""

Place = tuple[str, str, str]
"""A phase: project, milestone, phase."""


class ClientError(MeshdError):
    """The daemon refused: `code` is stable, `detail` is for people, `status` is that of HTTP (0 without an answer)."""

    def __init__(self, code: str, detail: str, status: int) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.status = status


class Unreachable(ClientError):  # noqa: N818  what it is called by who catches it
    """No daemon answers there; whether it has done what it was asked for is not known."""

    def __init__(self, detail: str) -> None:
        super().__init__("unreachable", detail, 0)


class ClaimLost(MeshdError):  # noqa: N818  not a failure of the work
    """The claim is another's or nobody's: stop the work. The text says why."""


# Questions


@frozen
class Call:
    """One request. `wait_s`: how long the daemon may keep it, besides the time that an answer takes."""

    method: str
    path: str
    query: Mapping[str, str] = field(factory=dict)
    body: JsonObject | None = None
    wait_s: float = 0.0

    @property
    def timeout(self) -> httpx.Timeout:
        return httpx.Timeout(ANSWER_WITHIN_S + self.wait_s, connect=CONNECT_WITHIN_S)


def claim(place: Place | None, by: str) -> Call:
    """The next feature of the host, or that very phase; for the application `by`."""
    query = {"wait": f"{ASK_FOR_S:g}", "by": by}
    if place is None:
        return Call("GET", "/api/work/next", query, wait_s=ASK_FOR_S)
    return Call("POST", f"{_path(place)}/claim", query, wait_s=ASK_FOR_S)


def features() -> Call:
    return Call("GET", "/api/features")


def feature(name: str, wait_s: float) -> Call:
    """What has become of it; answered when it is not held any more, at the latest after `wait_s`."""
    return Call("GET", f"/api/features/{quote(name, safe='')}", {"wait": f"{wait_s:g}"}, wait_s=wait_s)


def settle(of: JsonObject, verb: str, told: Mapping[str, str | None]) -> Call:
    """Say something of the claim of this feature."""
    place = (str(of["projectSlug"]), str(of["milestoneSlug"]), str(of["phaseSlug"]))
    body: JsonObject = {"generation": of["generation"]}
    body |= {key: value for key, value in told.items() if value is not None}
    return Call("POST", f"{_path(place)}/{verb}", body=body)


def phases(project: str | None, status: str | None) -> Call:
    given = {"project": project, "status": status}
    return Call("GET", "/api/phases", {key: value for key, value in given.items() if value is not None})


def phase(place: Place, on: str | None) -> Call:
    return Call("GET", _path(place), {} if on is None else {"on": on})


def capacity(max_agents: int | None, running: int, backlog: int) -> Call:
    if max_agents is None:
        return Call("DELETE", "/api/capacity")
    body: JsonObject = {"maxAgents": max_agents, "runningAgents": running, "backlogCount": backlog}
    return Call("PUT", "/api/capacity", body=body)


def _path(place: Place) -> str:
    return f"/api/phases/{'/'.join(quote(part, safe='') for part in place)}"


def address(url: str | None) -> str:
    return (url or environ.get("MESHD_URL") or DEFAULT_URL).rstrip("/")


def headers(key: str | None) -> dict[bytes, bytes]:
    key = environ.get("AUTOMAKER_API_KEY", "").strip() if key is None else key
    return {b"Authorization": b"Bearer " + key.encode()} if key else {}


# Kept-alive connections are not used: one that the daemon is just closing would look like no daemon.
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=0)


# Answers


def answer(response: httpx.Response) -> JsonObject:
    """The object that was answered, {} when there is nothing. Raises `ClientError`."""
    if response.status_code == 204:
        return {}
    try:
        body: Json = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        body = None
    if isinstance(body, dict) and response.is_success:
        return body
    if isinstance(body, dict) and isinstance(code := body.get("code"), str):
        raise ClientError(code, str(body.get("detail", "")), response.status_code)
    what = f"{response.url} answers, but not like meshd (HTTP {response.status_code})"
    raise ClientError("not-meshd", what, response.status_code)


def unreachable(error: httpx.RequestError, url: str) -> Unreachable:
    return Unreachable(f"no daemon answers at {url}: {str(error) or type(error).__name__}")


def left_over(answered: JsonObject, by: str) -> list[JsonObject]:
    """Of all features those that were taken for `by`."""
    rows = answered["features"]
    assert isinstance(rows, list), "the API lists them"
    return [row for row in rows if isinstance(row, dict) and row.get("held") and row.get("takenBy") == by]


def rows_of(answered: JsonObject, name: str) -> list[JsonObject]:
    rows = answered[name]
    assert isinstance(rows, list), "the API lists them"
    return [row for row in rows if isinstance(row, dict)]


def in_words(error: BaseException) -> str:
    """What `failed` says of an error that ended the work."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(in_words, error.exceptions))
    return str(error) or type(error).__name__


# Claims


def leave_within_s(ending: str, patience_s: float) -> float:
    """How long the end of a block may take to say so: long for a result, else short."""
    return patience_s + 2 * ANSWER_WITHIN_S if ending == "done" else LEAVE_WITHIN_S


def boot_s() -> float:
    """Seconds on a clock that goes on while the host sleeps, as the daemon's does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@define(eq=False)
class Claim:
    """A claim as its holder knows it.

    `feature`: as the daemon told it last. `lost`: why it is not held any more, None while it is. `until_s` is when it
    counts as lost unless the daemon is heard before. `is_settled`: what became of it is said, or being said.
    """

    feature: JsonObject
    lost: str | None = None
    until_s: float = inf
    is_settled: bool = False

    def __attrs_post_init__(self) -> None:
        self._note_lease(boot_s())

    @property
    def id(self) -> str:
        """The feature's id."""
        return str(self.feature["id"])

    @property
    def project(self) -> str:
        return str(self.feature["projectSlug"])

    @property
    def milestone(self) -> str:
        return str(self.feature["milestoneSlug"])

    @property
    def phase(self) -> str:
        return str(self.feature["phaseSlug"])

    @property
    def generation(self) -> int:
        """Which claim of the phase this is: the fencing token for whatever the work writes to."""
        number = self.feature["generation"]
        assert isinstance(number, int), "the API says a number"
        return number

    def told(self, feature: JsonObject, sent_s: float) -> None:
        """What the daemon answered to a question that was sent then."""
        if self.is_settled or self.lost is not None:
            return
        self.feature = feature
        if not feature.get("held"):
            self.lost = str(feature.get("releaseReason") or f"somebody settled it: {feature.get('status')}")
        elif feature.get("state") == "stopping":
            self.lost = "the host stops it"
        else:
            self._note_lease(sent_s)

    def _note_lease(self, since_s: float) -> None:
        left_ms = self.feature.get("leaseLeftMs")
        if isinstance(left_ms, int):
            self.until_s = since_s + left_ms / 1000
        elif self.feature.get("state") != "suspended":  # a suspended one waits for a primary's word
            self.until_s = inf

    def refused(self, error: ClientError) -> None:
        """The daemon refused what the holder of this claim asks for."""
        if error.code in NO_LONGER:
            self.lost = self.lost or error.detail

    def passed(self, now_s: float) -> None:
        """Time has passed."""
        if now_s >= self.until_s and self.lost is None:
            self.lost = "the daemon was not heard until the lease had run out"

    def left_s(self, now_s: float) -> float:
        return max(0.0, self.until_s - now_s)

    def pause_s(self, until_s: float, now_s: float) -> float:
        """How long to wait until then, when the daemon has answered before: not at all when the claim is over."""
        return max(0.0, min(until_s, self.until_s) - now_s) if self.lost is None else 0.0

    def look_every_s(self, now_s: float) -> float:
        """How long until the daemon is to be asked again."""
        left_s = self.left_s(now_s)
        return min(LOOK_EVERY_S, left_s, max(LOOK_AT_MOST_EVERY_S, left_s / LOOKS_A_LEASE))

    def last_word(self, ending: str, failure: Exception | None) -> tuple[str, dict[str, str | None]]:
        """The verb and what to tell, for a block that ended so without having settled its claim."""
        if self.lost is not None:  # a daemon that was not heard may hold it still
            return "release", {"note": self.lost}
        if ending == "failed" and failure is not None:
            return "failed", {"error": in_words(failure)}
        return ending, {"note": "the work was stopped"} if ending == "release" else {}

    def tell_for_s(self, patience_s: float, *, is_last: bool) -> float:
        """How long it is to be told again and again while nobody answers; a result above all."""
        if self.lost is not None:
            return 0.0
        return min(patience_s, LEAVE_WITHIN_S) if is_last else patience_s
