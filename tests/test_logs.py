"""Log lines as they leave the process: each fact one line, whatever text a peer, a file or an exception brings."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from hypothesis import example, given
from hypothesis import strategies as st

from meshd import logs
from meshd.model import Json

ANY_TEXT = st.text(st.characters())  # surrogates, controls and line separators too
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)
FIELDS: dict[str, Json] = {"peer": "dev-02", "name": "Worker A", "age": 1.5, "url": None}
FORMATS = ("logfmt", "json", "journald")


@frozen
class Log:
    """A log whose lines can be read."""

    logger: logging.Logger
    stream: io.StringIO

    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


@pytest.fixture(autouse=True)
def untouched_root() -> Iterator[None]:
    """Give the root logger back as it was: pytest's own handlers listen there."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def open_log(monkeypatch: pytest.MonkeyPatch, log_format: str, level: str = "info", **environ: str) -> Log:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure(log_format, level, environ)
    return Log(logging.getLogger("meshd.mesh"), stream)


def formatted(
    log_format: str, text: str, fields: Mapping[str, Json] | None = None, error: Exception | None = None
) -> str:
    """One record through one formatter, time fixed."""
    formatters: dict[str, logging.Formatter] = {
        "logfmt": logs.Logfmt(),
        "json": logs.JsonLines(),
        "journald": logs.Journald(),
    }
    exc_info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("meshd.mesh", logging.INFO, __file__, 1, text, None, exc_info)
    record.created = 1_773_480_413.589
    if fields is not None:
        record.__dict__["fields"] = fields
    return formatters[log_format].format(record)


# How lines look


@pytest.mark.parametrize(
    ("log_format", "expected"),
    [
        ("logfmt", '2026-03-14T09:26:53.589Z info mesh: peer dev-02 is online peer=dev-02 name="Worker A" age=1.5'),
        ("journald", '<6>mesh: peer dev-02 is online peer=dev-02 name="Worker A" age=1.5'),
    ],
)
def test_a_fact_in_each_format(log_format: str, expected: str) -> None:
    assert formatted(log_format, "peer dev-02 is online", FIELDS) == expected


def test_a_fact_as_json() -> None:
    assert json.loads(formatted("json", "peer dev-02 is online", FIELDS)) == {
        "time": "2026-03-14T09:26:53.589Z",
        "level": "info",
        "area": "mesh",
        "text": "peer dev-02 is online",
        "peer": "dev-02",
        "name": "Worker A",
        "age": 1.5,
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("dev-02", "dev-02"),
        ("", '""'),
        ("two words", '"two words"'),
        ('a"b', '"a\\"b"'),
        ("a=b", '"a=b"'),
        ("a\nb", '"a\\nb"'),
        ("über", "über"),
        (7, "7"),
        (0.25, "0.25"),
        (True, "true"),
        ([1, "a"], '[1, "a"]'),
        ({"a": None}, '{"a": null}'),
    ],
)
def test_a_value_is_quoted_when_it_has_to_be(value: Json, shown: str) -> None:
    assert formatted("journald", "text", {"value": value}) == f"<6>mesh: text value={shown}"


@pytest.mark.parametrize(
    ("level", "prefix"), [("debug", "<7>"), ("info", "<6>"), ("warning", "<4>"), ("error", "<3>"), ("critical", "<2>")]
)
def test_journald_reads_the_level(monkeypatch: pytest.MonkeyPatch, level: str, prefix: str) -> None:
    log = open_log(monkeypatch, "journald", "debug")
    getattr(log.logger, level)("a fact")
    assert log.lines() == [f"{prefix}mesh: a fact"]


def test_arguments_and_foreign_loggers(monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(monkeypatch, "journald")
    logging.getLogger("hypercorn.error").warning("%d%% of %s", 50, "it")
    assert log.lines() == ["<4>hypercorn.error: 50% of it"]


# One line each


@given(text=ANY_TEXT, fields=st.dictionaries(st.sampled_from(["peer", "reason", "slug"]), ANY_JSON))
@example("a\nb\r\nc\vd\x1b[2J\x00\x85e\u2028f\u2029", {})
@example("text", {"reason": "a\u2028b\x85c\x9b2Jd\x7f"})
@example("\ud800", {"reason": "\udcff"})
@pytest.mark.parametrize("log_format", FORMATS)
def test_a_fact_is_one_line_that_a_terminal_can_show(log_format: str, text: str, fields: dict[str, Json]) -> None:
    line = formatted(log_format, text, fields)
    assert line.isprintable(), ascii(line)


@given(text=ANY_TEXT, fields=st.dictionaries(st.sampled_from(["peer", "reason", "slug"]), ANY_JSON))
@example("", {"reason": [2**70, 1e300]})
def test_json_lines_are_json_and_lose_nothing(text: str, fields: dict[str, Json]) -> None:
    read = json.loads(formatted("json", text, fields))
    assert read["text"] == text
    for name, value in fields.items():
        if value is None:
            assert name not in read
        else:
            assert read[name] == value


@pytest.mark.parametrize("log_format", FORMATS)
def test_an_exception_is_one_line_too(log_format: str) -> None:
    try:
        raise ZeroDivisionError("on\ntwo lines")
    except ZeroDivisionError as error:
        line = formatted(log_format, "the link crashed", {"peer": "dev-02"}, error)
    assert line.isprintable()
    for part in ("the link crashed", "dev-02", "Traceback", "test_logs.py", "ZeroDivisionError: on\\ntwo lines"):
        assert part in line


class Strange:
    """Something that JSON does not know."""

    def __str__(self) -> str:
        return "a strange\nthing"


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("value", [Strange(), Path("/a b"), b"\xff", {"a", "b"}])
def test_any_field_can_be_logged(monkeypatch: pytest.MonkeyPatch, log_format: str, value: Any) -> None:
    """A field is there to help; it must never be the reason why its line is missing."""
    log = open_log(monkeypatch, log_format)
    log.logger.error("a fact", extra={"fields": {"value": value}})
    (line,) = log.lines()
    assert "a fact" in line
    assert line.isprintable()


# Where to, and what


def test_the_level_holds_for_all_but_chatty_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(monkeypatch, "journald", "warning")
    log.logger.info("too quiet")
    log.logger.warning("loud enough")
    assert log.lines() == ["<4>mesh: loud enough"]
    log = open_log(monkeypatch, "journald", "debug")
    log.logger.debug("everything")
    logging.getLogger("httpx").info("one request a second")
    assert log.lines() == ["<7>mesh: everything"]


def test_configuring_twice_logs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    open_log(monkeypatch, "logfmt")
    log = open_log(monkeypatch, "journald")
    log.logger.info("once")
    assert log.lines() == ["<6>mesh: once"]


def test_auto_is_logfmt_without_a_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(monkeypatch, "auto")
    log.logger.info("a fact")
    (line,) = log.lines()
    assert line.endswith("Z info mesh: a fact")


def log_to_file(monkeypatch: pytest.MonkeyPatch, file: Path, journal: str | None) -> str:
    """Log a fact with standard error in `file`; `journal` is what JOURNAL_STREAM says, None: that very file."""
    with file.open("w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure("auto", "info", {"JOURNAL_STREAM": journal or f"{status.st_dev}:{status.st_ino}"})
        logging.getLogger("meshd.mesh").info("a fact")
    return file.read_text()


def test_auto_is_journald_when_standard_error_is_the_journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert log_to_file(monkeypatch, tmp_path / "journal", None) == "<6>mesh: a fact\n"


def test_auto_is_not_deceived_by_an_inherited_journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """JOURNAL_STREAM is inherited by a terminal that systemd started: it counts only for the stream that it names."""
    assert log_to_file(monkeypatch, tmp_path / "log", "8:1").endswith("Z info mesh: a fact\n")
