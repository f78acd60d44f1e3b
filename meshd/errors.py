"""What can go wrong, and whose fault it was: theirs, the user's, the disk's or our own.

Third-party exceptions are translated into these at one line per edge. `RemoteProtocolError` costs the other side its
link; `LocalProtocolError` is a bug of ours and takes the daemon down loudly (systemd restarts it); the others reach
the person who can act on them.
"""

from __future__ import annotations

from attrs import frozen


class MeshdError(Exception):
    """Anything meshd raises on purpose."""


@frozen
class Problem:
    """One thing wrong in a configuration file; `line` and `column` count from 1, 0 where there is no place to name."""

    key: str
    found: str
    allowed: str
    file: str = ""
    line: int = 0
    column: int = 0
    suggestion: str = ""
    fatal: bool = True

    @property
    def place(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part)

    @property
    def text(self) -> str:
        """What is wrong, without where and how bad."""
        suggestion = f" (did you mean `{self.suggestion}`?)" if self.suggestion else ""
        return f"{self.key}: {self.found}; {self.allowed}{suggestion}"

    def __str__(self) -> str:
        return f"{self.place}: {'error' if self.fatal else 'warning'}: {self.text}"


class ConfigError(MeshdError):
    """The configuration cannot be used: every problem found, not the first only. The user mends the file."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class RemoteProtocolError(MeshdError):
    """The other side broke the protocol: its frame is counted, and in the end its link is closed."""


class LocalProtocolError(MeshdError):
    """We broke our own rules. A bug: crash loudly, restart clean."""


class DocumentError(MeshdError, ValueError):
    """A project document or a change of one that cannot be accepted; the text says which part and why."""


class LinkClosed(MeshdError):  # noqa: N818  the end of a link's life, not always a failure
    """The link is gone; `code` is the WebSocket close code, 1006 when it ended without a close frame."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"link closed with {code}{': ' + reason if reason else ''}")
        self.code = code
        self.reason = reason


class DialError(MeshdError):
    """Nobody answered at a peer's URL, or not with a WebSocket. Retried with backoff."""


class StoreError(MeshdError):
    """The disk or the database refused. Nothing acknowledged is lost; what was asked for did not happen."""


class StoreFullError(StoreError):
    """The disk is full: what was asked for did not happen, and may be asked for again when there is room."""


class StoreDamagedError(StoreError):
    """The database is not what was written into it. It is set aside; the instance refills from the mesh."""


class ListenError(MeshdError):
    """A port or socket that should be listened on is not to be had: one line, and the daemon does not start."""


class ApiError(MeshdError):
    """A request that cannot be served: an RFC 9457 problem with an HTTP `status` and a stable `code`."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
