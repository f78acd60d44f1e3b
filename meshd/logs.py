"""How a log line looks: one line per fact, the text first, its fields as key=value (logfmt) or as one JSON object.

`auto` is `journald` under systemd (which keeps the time and takes the level as a `<n>` prefix) and `logfmt` elsewhere.
Fields come with `extra={"fields": {...}}`; what is None is left out. Lines never break: a value is quoted as in JSON.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Mapping

from meshd.model import Json, utc_text

_QUOTED = re.compile('[ "=]')
_SYSLOG = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def configure(log_format: str, level: str, environ: Mapping[str, str]) -> None:
    """Send the log to standard error in `log_format` (auto, logfmt, json or journald) from `level` upwards."""
    if log_format == "auto":
        log_format = "journald" if _is_journal(environ.get("JOURNAL_STREAM", "")) else "logfmt"
    formatters = {"logfmt": Logfmt(), "json": JsonLines(), "journald": Journald()}
    outlet = logging.StreamHandler(sys.stderr)
    outlet.setFormatter(formatters[log_format])
    root = logging.getLogger()
    root.handlers[:] = [outlet]
    root.setLevel(level.upper())
    for chatty in ("hypercorn.access", "trio-websocket", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _is_journal(stream: str) -> bool:
    """Whether standard error is the stream that systemd named, and not merely inherited its name."""
    if not stream:
        return False
    standard_error = os.fstat(sys.stderr.fileno())
    return stream == f"{standard_error.st_dev}:{standard_error.st_ino}"


def _fields(record: logging.LogRecord) -> dict[str, Json]:
    fields = {name: value for name, value in getattr(record, "fields", {}).items() if value is not None}
    if record.exc_info and record.exc_info[0]:
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    return fields


class Logfmt(logging.Formatter):
    """`2026-03-14T09:26:53.589Z info mesh: peer dev-02 is online peer=dev-02`"""

    def format(self, record: logging.LogRecord) -> str:
        when = utc_text(int(record.created * 1000))
        return f"{when} {record.levelname.lower()} {self.fact(record)}"

    def fact(self, record: logging.LogRecord) -> str:
        """The line without its time and level."""
        text = _one_line(record.getMessage())
        fields = "".join(f" {name}={_value(value)}" for name, value in _fields(record).items())
        return f"{_area(record)}: {text}{fields}"


class Journald(Logfmt):
    """The same without the time, and with the level as journald reads it."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_SYSLOG.get(record.levelno, 6)}>{self.fact(record)}"


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        fact = {
            "time": utc_text(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "area": _area(record),
            "text": record.getMessage(),
        }
        return _json({**_fields(record), **fact})


def _area(record: logging.LogRecord) -> str:
    return record.name.removeprefix("meshd.")


def _one_line(text: str) -> str:
    return text if text.isprintable() else _json(text)


def _value(value: Json) -> str:
    if isinstance(value, str) and value.isprintable() and not _QUOTED.search(value) and value:
        return value
    return _json(value)


def _json(value: Json) -> str:
    """JSON on one line that any terminal can show: what is not printable is escaped."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text)
