"""`meshd events`: lists, and streams that are taken up again."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import Result

from meshd.cli.events import PAGE, event_line

from .conftest import Recorded, meshd


def event(number: int, kind: str = "project:updated", **payload: Any) -> dict[str, Any]:
    return {"id": number, "type": kind, "timestamp": "2026-03-14T09:26:53.589Z", "payload": payload}


def page(*events: dict[str, Any], gap: object = None, last_id: int = 0) -> dict[str, Any]:
    return {"events": list(events), "gap": gap, "lastId": events[-1]["id"] if events else last_id}


GAP = {"type": "gap", "from": 3, "to": 7, "reason": "trimmed"}


def frames(*events: dict[str, Any]) -> bytes:
    texts = (f"id: {e['id']}\nevent: {e['type']}\ndata: {json.dumps(e, ensure_ascii=False)}\n\n" for e in events)
    return "".join(texts).encode()


def stream(recorded: Recorded, path: str, *pieces: bytes) -> None:
    recorded.answers["GET", path] = (200, {"Content-Type": "text/event-stream"}, b"".join(pieces))


def lines(result: Result) -> list[Any]:
    return [json.loads(line) for line in result.stdout.split("\n") if line]


def test_a_line_says_when_which_and_what() -> None:
    shown = event(12, "project:created", projectSlug="site", revision="ab", removed=None)
    assert event_line(shown) == "2026-03-14T09:26:53.589Z  12  project:created  projectSlug=site revision=ab removed=-"
    assert event_line(event(1, "sync:x")) == "2026-03-14T09:26:53.589Z  1  sync:x"
    assert event_line(GAP) == "-- events 3 to 7 are not to be had: trimmed"


def test_a_line_is_one_line_whatever_a_peer_is_called() -> None:
    line = event_line(event(1, "sync:peer-left", instanceId="\x1b[31mred\nnext"))
    assert line.isprintable()


def test_the_latest_are_listed(recorded: Recorded) -> None:
    recorded.answer("GET", "/api/events?stream=0&limit=100", page(event(1), event(2)))
    result = meshd("events", "--url", recorded.url)
    assert (result.exit_code, result.stdout.splitlines()) == (0, [event_line(event(1)), event_line(event(2))])


def test_all_since_one_are_listed_page_by_page(recorded: Recorded) -> None:
    path = f"/api/events?stream=0&limit={PAGE}&types=project%3A%2A%2Calert%3Ax&since="
    recorded.answer("GET", f"{path}2", page(event(8), event(9), gap=GAP))
    recorded.answer("GET", f"{path}9", page(event(10)))
    recorded.answer("GET", f"{path}10", page(last_id=12))
    result = meshd(
        "events", "--url", recorded.url, "--since", "2", "--type", "project:*", "--type", "alert:x", "--json"
    )
    assert result.exit_code == 0
    assert lines(result) == [{"version": 1, **one} for one in (GAP, event(8), event(9), event(10))]


def test_a_stream_that_breaks_off_is_taken_up_where_it_ended(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream(recorded, "/api/events", b"retry: 1000\nid: 4\n\n", frames(event(5)), b": keep-alive\nid: 7\n\n", b"id: 8")
    breaks: list[float] = []

    def sleep(seconds: float) -> None:
        breaks.append(seconds)
        if len(breaks) == 1:
            stream(
                recorded, "/api/events", b"retry: 1000\nid: 7\n\n", frames(GAP | {"id": 7}, event(8, a="\u2028 \x85"))
            )
        else:
            recorded.refuse("GET", "/api/events", 401, "unauthorized", "no")

    monkeypatch.setattr(time, "sleep", sleep)
    result = meshd("events", "-f", "--url", recorded.url, "--json")
    assert result.exit_code == 1
    shown = lines(result)
    assert shown[:3] == [{"version": 1, **one} for one in (event(5), GAP | {"id": 7}, event(8, a="\u2028 \x85"))]
    assert shown[3]["error"]["code"] == "unauthorized"
    assert [asked.headers.get("Last-Event-ID") for asked in recorded.asked] == [None, "7", "8"]
    assert result.stderr.count("the stream broke off") == 2


def test_following_begins_after_an_id(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    stream(recorded, "/api/events?types=sync%3A%2A", frames(event(5, "sync:peer-left")))
    monkeypatch.setattr(
        time, "sleep", lambda _: recorded.refuse("GET", recorded.asked[0].path, 401, "unauthorized", "no")
    )
    result = meshd("events", "-f", "--since", "0", "--type", "sync:*", "--url", recorded.url)
    assert result.stdout.splitlines() == [event_line(event(5, "sync:peer-left"))]
    assert recorded.asked[0].headers["Last-Event-ID"] == "0"
    assert parse_qs(urlsplit(recorded.asked[0].path).query) == {"types": ["sync:*"]}


def test_nobody_there_is_said_at_once() -> None:
    for arguments in (("-f",), ()):
        result = meshd("events", *arguments, "--url", "http://127.0.0.1:9")
        assert result.exit_code == 69
        assert "no daemon answers" in result.stderr


def test_what_is_no_stream_is_said(recorded: Recorded) -> None:
    recorded.answer("GET", "/api/events", {"events": []})
    result = meshd("events", "-f", "--url", recorded.url)
    assert result.exit_code == 69
    assert "not like meshd" in result.stderr


@pytest.mark.parametrize("since", ["-1", "x", "1.5"])
def test_what_is_no_id_is_refused(since: str) -> None:
    assert meshd("events", "--since", since).exit_code == 2
