"""`/api/events`: what happens on this instance, as a stream (server-sent events) or a list, and how to publish.

A stream's events carry their dense id, so that `Last-Event-ID` (what a browser sends when it reconnects) or `since=`
goes on where a reader left off; a `gap` event says what it can no longer have. The data of each is
`{"id", "type", "timestamp", "payload"}`. Applications publish `project:*` and `categories:updated` here, as they did
on the original's event bus: these are edits, and answered like edits.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import orjson
import trio
from attrs import define, evolve, field, frozen
from quart import Quart, Response, request

from meshd.api.commands import json_body, refusal
from meshd.api.instance import Instance
from meshd.api.members import peer_json
from meshd.api.responses import json_response
from meshd.core import categories, originals
from meshd.core.effects import Accepted
from meshd.core.inputs import Command, PutProject
from meshd.errors import ApiError
from meshd.events import EventStream, Reading, Wants
from meshd.model import Json, JsonObject
from meshd.project import check_shape, is_reserved

KEEP_ALIVE_S = 15.0  # shorter than the silence after which proxies hang up
MAX_STREAMS = 64  # a quarter of the connections: a stream keeps its own for as long as it likes
CHUNK_EVENTS = 256  # in one write, some 64 KiB: what a slow reader can make us hold
PACE_S = 0.02  # between two writes to one reader: a write costs as much CPU as 100 events in it
MAX_LISTED = 1000
RETRY_MS = 1000  # how long a browser waits before it connects again

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@frozen
class Events:
    """The routes of `/api/events`."""

    instance: Instance
    _open: set[_Body] = field(factory=set)

    def add_to(self, app: Quart) -> None:
        app.add_url_rule("/api/events", view_func=self.read, methods=["GET"])
        app.add_url_rule("/api/events", view_func=self.publish, methods=["POST"])

    async def read(self) -> Response:
        wants = _wanted(request.args.getlist("types"))
        since = _id_or_none(request.headers.get("Last-Event-ID") or request.args.get("since"))
        is_list = request.accept_mimetypes.best_match(["text/event-stream", "application/json"]) == "application/json"
        if is_list or request.args.get("stream") == "0":
            return self._listed(since, wants)
        return self._stream(since, wants)

    def _listed(self, since: int | None, wants: Wants) -> Response:
        limit = _limit(request.args.get("limit", "100"))
        events = self.instance.events
        reading = events.latest(limit, wants) if since is None else events.after(since, limit, wants)
        body = {
            "events": [orjson.Fragment(event.data) for event in reading.events],
            "gap": reading.gap.json() if reading.gap else None,
            "lastId": reading.cursor,
        }
        return Response(orjson.dumps(body), headers=_HEADERS, content_type="application/json")

    def _stream(self, since: int | None, wants: Wants) -> Response:
        if len(self._open) >= MAX_STREAMS:
            raise ApiError(503, "too-many-streams", f"{MAX_STREAMS} event streams are open already")
        events = self.instance.events
        cursor = events.last_id if since is None else since
        greeting = f"retry: {RETRY_MS}\nid: {cursor}\n\n".encode()
        if request.args.get("initial") == "1":
            # The cursor was taken before the state: what happens in between is in both, and nothing is in neither.
            greeting += _frame("state", cursor, orjson.dumps(self._state(events.last_id)))
        body = _Body(events, wants, cursor, greeting, self._open)
        if request.method == "HEAD":
            return Response(b"", headers=_HEADERS, content_type="text/event-stream")
        response = Response(body, headers=_HEADERS, content_type="text/event-stream")
        response.timeout = None
        return response

    def _state(self, last_id: int) -> JsonObject:
        snapshot = self.instance.snapshot()
        living: list[Json] = [
            {"slug": slug, "revision": document.digest}
            for slug, document in sorted(snapshot.documents.items())
            if document.ended is None and not is_reserved(slug)
        ]
        return {
            "type": "state",
            "instanceId": snapshot.instance_id,
            "lastId": last_id,
            "documents": living,
            "categories": categories.listed(snapshot.documents.get(categories.SLUG)),
            "members": [peer_json(member) for member in snapshot.members],
        }

    async def publish(self) -> Response:
        event_type, payload = _published(await json_body())
        if event_type not in originals.PUBLISHABLE:
            allowed = ", ".join(sorted(originals.PUBLISHABLE))
            detail = (
                f"{event_type!r:.80} is not shared: features and all else stay on their instance, only {allowed} go"
            )
            raise ApiError(422, "not-publishable", detail)
        for attempt in (1, 2):
            command = self._command(event_type, payload)
            outcome = await self.instance.submit(command)
            if isinstance(outcome, Accepted):
                return _answer(event_type, command, outcome)
            if attempt == 2 or outcome.code != "revision-mismatch":
                raise refusal(outcome)
        raise AssertionError("the second attempt returns or raises")

    def _command(self, event_type: str, payload: JsonObject) -> Command:
        """The edit that the event stands for; one that begins a project does so only if nobody was quicker."""
        if isinstance(project := payload.get("project"), dict):
            check_shape(project)
        command = originals.edit(event_type, payload, self.instance.snapshot().documents)
        assert command is not None, f"{event_type} is publishable"
        if isinstance(command, PutProject) and command.base is None and command.slug != categories.SLUG:
            return evolve(command, if_match="")
        return command


@define(eq=False)
class _Body:
    """What is written to one reader of the stream, a chunk at a time; `opened` holds those that are being read."""

    _events: EventStream
    _wants: Wants
    _cursor: int
    _greeting: bytes
    _opened: set[_Body]
    _silent_until_s: float = 0.0
    _paced_until_s: float = 0.0

    def __aiter__(self) -> _Body:
        self._opened.add(self)
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._next()
        self._silent_until_s = trio.current_time() + KEEP_ALIVE_S
        return chunk

    async def _next(self) -> bytes:
        if self._greeting:
            greeting, self._greeting = self._greeting, b""
            return greeting
        await trio.sleep_until(self._paced_until_s)
        while True:
            reading = self._events.after(self._cursor, CHUNK_EVENTS, self._wants)
            self._cursor = reading.cursor
            if reading.gap or reading.events:
                if len(reading.events) < CHUNK_EVENTS:
                    self._paced_until_s = trio.current_time() + PACE_S
                return _chunk(reading)
            if self._events.closed:
                raise StopAsyncIteration
            with trio.move_on_at(self._silent_until_s) as silence:
                await self._events.wait(self._cursor)
            if silence.cancelled_caught:
                # With the id, so that events which this reader did not want are no gap when it reconnects.
                return b": keep-alive\nid: %d\n\n" % self._cursor

    async def aclose(self) -> None:
        """Called when the reader has gone, or the stream has ended."""
        self._opened.discard(self)


def _chunk(reading: Reading) -> bytes:
    frames = [_frame(event.type, event.id, event.data) for event in reading.events]
    if reading.gap:
        frames.insert(0, _frame("gap", reading.gap.last, orjson.dumps(reading.gap.json())))
    return b"".join(frames)


def _frame(event_type: str, event_id: int, data: bytes) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event_id, event_type.encode(), data)


def _wanted(texts: list[str]) -> Wants:
    """What `types=` asks for: patterns with wildcards, separated by commas; everything without any."""
    patterns = [pattern for text in texts for pattern in text.split(",") if pattern]
    if not patterns:
        return lambda _: True
    known: dict[str, bool] = {}

    def wants(event_type: str) -> bool:
        if event_type not in known:
            known[event_type] = any(fnmatchcase(event_type, pattern) for pattern in patterns)
        return known[event_type]

    return wants


def _id_or_none(text: str | None) -> int | None:
    return None if text is None else _number(text, "an event's id", 0, 2**63 - 1)


def _limit(text: str) -> int:
    return _number(text, "limit", 1, MAX_LISTED)


def _number(text: str, what: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise ApiError(422, "invalid", f"{what} is a whole number from {least} to {most}, not {text!r:.40}")
    return int(text)


def _published(body: Any) -> tuple[str, JsonObject]:
    if not isinstance(body, dict) or not isinstance(body.get("type"), str):
        raise ApiError(422, "invalid", 'an event is an object {"type": "...", "payload": {...}}')
    payload = body.get("payload")
    if not isinstance(payload, dict):
        raise ApiError(422, "invalid", "an event's payload is an object")
    return body["type"], payload


def _answer(event_type: str, command: Command, accepted: Accepted) -> Response:
    body: JsonObject = {"type": event_type, "changed": accepted.changed, "revision": accepted.revision}
    if not is_reserved(command.slug):
        body["projectSlug"] = command.slug
    return json_response(body)
