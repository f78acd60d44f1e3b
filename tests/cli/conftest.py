"""A small HTTP server that answers as the API does, for verbs that need an answer and no daemon."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from attrs import define, field, frozen
from click.testing import CliRunner, Result

from meshd.cli.root import root


@frozen
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@define
class Recorded:
    """Answers by method and path, and what was asked for."""

    url: str = ""
    answers: dict[tuple[str, str], tuple[int, dict[str, str], bytes]] = field(factory=dict)
    later: list[tuple[tuple[str, str], object]] = field(factory=list)
    asked: list[Asked] = field(factory=list)

    def answer(self, method: str, path: str, body: object, status: int = 200, **headers: str) -> None:
        kind = "application/json" if status < 400 else "application/problem+json"
        content = b"" if status == 204 else json.dumps(body).encode()
        self.answers[method, path] = (status, {"Content-Type": kind, **headers}, content)

    def once_asked(self, path: str, then: object) -> None:
        """From the next POST on, `path` answers `then`."""
        self.later.append((("GET", path), then))

    def posted(self) -> None:
        for (method, path), body in self.later:
            self.answer(method, path, body)

    def refuse(self, method: str, path: str, status: int, code: str, detail: str) -> None:
        problem = {"type": "about:blank", "title": "Refused", "status": status, "code": code, "detail": detail}
        self.answer(method, path, problem, status)


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """A server on loopback, with no answers yet."""
    known = Recorded()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            known.asked.append(Asked(self.command, self.path, dict(self.headers), body))
            status, headers, content = known.answers[self.command, self.path]
            if self.command == "POST":
                known.posted()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_DELETE = do_POST = answer  # noqa: N815  the names that http.server calls

        def log_message(self, *arguments: Any) -> None:
            """Tests are quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        known.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield known
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """An empty folder and no variables that verbs look at."""
    monkeypatch.chdir(tmp_path)
    for name in ("MESHD_URL", "MESHD_CONFIG", "AUTOMAKER_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def meshd(*arguments: str, stdin: bytes | None = None) -> Result:
    """Run `meshd` with these arguments in this process."""
    return CliRunner().invoke(root, arguments, input=stdin, prog_name="meshd")
