"""Ask a running daemon over its HTTP API: find its address, send the key, turn what goes wrong into one line.

The address is `--url` or `MESHD_URL`; else the `api` section of the configuration file (`--config`, `MESHD_CONFIG`,
or the one in the current folder); else port 3008 of this host. The key is `AUTOMAKER_API_KEY`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import click
from attrs import frozen

from meshd.cli.config_file import config_option, load, the_file
from meshd.cli.outcome import Refused, Unavailable
from meshd.cli.output import Verb, clean

if TYPE_CHECKING:
    import httpx

    from meshd.model import JsonObject

DEFAULT_URL = "http://127.0.0.1:3008"
CONNECT_WITHIN_S = 3.0
ANSWER_WITHIN_S = 15.0
QUIET_FOR_S = 45.0  # three keep-alives of an event stream: it is dead

# What to do about a refusal, by the stable code of its problem document.
ADVICE = {
    "not-found": "`meshd projects ls` lists what there is",
    "invalid": "mend it and try again",
    "invalid-json": "the file must hold one JSON object",
    "too-large": "a document may have 2 MiB; split the project",
    "revision-mismatch": "somebody was quicker: read it again (`meshd projects show`) and use the revision it has now",
    "outbox-full": "this instance has been without a primary for long: see `meshd status`, then try again",
    "disk-full": "make room on the disk of its dataDir, then try again; nothing was lost",
    "not-primary": "name the primary's daemon with --url, or add --local",
    "unauthorized": "set AUTOMAKER_API_KEY to the key of that daemon, or ask from its own host",
    "forbidden-host": "name the daemon by an address or host name that its configuration knows",
    "forbidden-origin": "name the daemon by an address or host name that its configuration knows",
    "too-many-streams": "end one of them (`meshd events -f` is one)",
    "internal": "its log says more",
}


def daemon_options(verb: Verb) -> Verb:
    """Give the verb `--url` and `--config`."""
    help_text = f"Where the daemon's API is  [default: from the configuration file, else {DEFAULT_URL}]"
    return click.option("--url", envvar="MESHD_URL", show_envvar=True, help=help_text)(config_option(verb))


@frozen
class Answer:
    """What the daemon said: its HTTP status, the JSON of the body (None without one) and the revision (`ETag`)."""

    status: int
    body: Any
    revision: str


class Daemon:
    """A daemon's API, to be used as a context."""

    def __init__(self, url: str | None, config_file: Path | None, advice: Mapping[str, str] | None = None) -> None:
        """Find out the address. `advice` is what a verb says about refusals otherwise than `ADVICE`.

        Raises `Unusable` when the configuration file that should name the address cannot be used.
        """
        self.url, self.found_in = _address(url, config_file)
        self._advice = {**ADVICE, **(advice or {})}
        self._client = _client(self.url)

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str) -> JsonObject:
        """The object at `path`."""
        body: JsonObject = self.request("GET", path).body
        return body

    def request(
        self, method: str, path: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request; raise `Unavailable` when nobody answers, `Refused` when the answer is a refusal."""
        import httpx  # noqa: PLC0415

        try:
            response = self._client.request(method, path, content=content, headers=headers)
        except httpx.TransportError as error:
            raise self._unavailable(error) from error
        return self._answer(response)

    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
        """The fields of each frame of a stream of server-sent events, until it ends; raises as `request` does."""
        import httpx  # noqa: PLC0415

        timeout = httpx.Timeout(QUIET_FOR_S, connect=CONNECT_WITHIN_S)
        rest = b""
        try:
            with self._client.stream("GET", path, headers=headers, timeout=timeout) as response:
                if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                    response.read()
                    self._answer(response)
                    raise self._not_meshd(response)
                for chunk in response.iter_bytes():
                    *frames, rest = (rest + chunk).split(b"\n\n")
                    yield from map(_fields, frames)
        except httpx.TransportError as error:
            raise self._unavailable(error) from error

    def _answer(self, response: httpx.Response) -> Answer:
        status = response.status_code
        if status == 204:
            return Answer(status, None, "")
        try:
            body = json.loads(response.content)
        except ValueError:
            body = None
        if response.is_success and isinstance(body, dict):
            return Answer(status, body, response.headers.get("ETag", "").strip('"'))
        if isinstance(body, dict) and isinstance(body.get("code"), str):
            raise self._refusal(body["code"], str(body.get("detail") or body.get("title") or status))
        raise self._not_meshd(response)

    def _refusal(self, code: str, detail: str) -> Refused:
        advice = f"; {self._advice[code]}" if code in self._advice else ""
        return Refused(code, f"{clean(code)}: {clean(detail)}{advice}")

    def _not_meshd(self, response: httpx.Response) -> Unavailable:
        what = f"HTTP {response.status_code}, {response.headers.get('Content-Type', 'no content')}"
        return Unavailable(
            "not-meshd", clean(f"{self.url} answers, but not like meshd ({what}): is this its API port?")
        )

    def _unavailable(self, error: httpx.TransportError) -> Unavailable:
        reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
        detail = (
            f"no daemon answers at {self.url} ({self.found_in}): {reason}; "
            "start one with `meshd run`, or name another with --url"
        )
        return Unavailable("no-daemon", clean(detail))


def _fields(frame: bytes) -> Mapping[str, str]:
    """The fields of one frame; a line that begins with a colon is a comment."""
    lines = (line.decode().partition(": ") for line in frame.split(b"\n") if not line.startswith(b":"))
    return {name: value for name, _, value in lines}


def project_path(slug: str) -> str:
    """Where the API keeps the document of `slug`."""
    return f"/api/projects/{quote(slug, safe='')}"


def _address(url: str | None, config_file: Path | None) -> tuple[str, str]:
    """The daemon's URL and where it was found."""
    if url:
        return _checked(url), "from --url or MESHD_URL"
    file = the_file(config_file)
    if config_file is None and not file.exists():
        return DEFAULT_URL, "the default"
    return load(file).configuration.api.url, f"from {file}"


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise click.BadParameter(f"{url!r} is not like {DEFAULT_URL}", param_hint="--url")
    return url.rstrip("/")


def _client(url: str) -> httpx.Client:
    import httpx  # noqa: PLC0415  takes 160 ms

    key = os.environ.get("AUTOMAKER_API_KEY", "").strip()
    return httpx.Client(
        base_url=url,
        headers={b"Authorization": b"Bearer " + key.encode()} if key else {},
        timeout=httpx.Timeout(ANSWER_WITHIN_S, connect=CONNECT_WITHIN_S),
        trust_env=False,  # a proxy in the environment is for the world outside; the mesh is reached directly
        verify=url.startswith("https:"),  # the certificates take 30 ms to load
    )
