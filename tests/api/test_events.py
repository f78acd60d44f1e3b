"""`/api/events`: lists and what is published through Quart's client, streams over real sockets."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import orjson
import pytest
import trio
import trio.testing
from attrs import define, field

from meshd.api import events as events_api
from meshd.api.app import create_app
from meshd.api.events import CHUNK_EVENTS, KEEP_ALIVE_S, MAX_STREAMS, PACE_S
from meshd.api.server import serve
from meshd.core.categories import SLUG
from meshd.core.effects import Accepted, Emit, Rejected
from meshd.core.inputs import PutProject, Request
from meshd.events import EventStream
from tests.api.local import PEERS, PRIMARY, Local

WITHIN_S = 5.0
BUFFER_BYTES = 64 * 1024


def happen(local: Local, *kinds: str) -> None:
    """Let events happen that no document and no peer brought."""
    for kind in kinds:
        local.events.append(Emit(kind, {"n": local.events.last_id + 1}, local.events.last_id + 1, local.now.utc_ms))


async def listed(local: Local, query: str = "", **headers: str) -> Any:
    response = await create_app(local.instance()).test_client().get(f"/api/events?stream=0&{query}", headers=headers)
    assert response.status_code == 200, await response.get_data()
    return await response.get_json()


async def published(local: Local, body: object) -> tuple[int, Any]:
    response = await create_app(local.instance()).test_client().post("/api/events", json=body)
    return response.status_code, await response.get_json(force=True)


def title(local: Local, slug: str = "site") -> Any:
    document = local.node.snapshot(local.now).documents.get(slug)
    return document.json().get("title") if document and document.ended is None else None


# Lists


async def test_a_list_is_what_the_applications_were_told() -> None:
    local = Local()
    outcome = await local.submit(PutProject(0, "site", {"title": "One"}))
    assert isinstance(outcome, Accepted)
    body = await listed(local)
    payload = {"projectSlug": "site", "projectPath": "/srv/project", "revision": outcome.revision}
    assert body == {
        "events": [
            {
                "id": 1,
                "type": "project:created",
                "timestamp": "2026-03-14T09:26:53.589Z",
                "payload": {**payload, "origin": "dev-01.5704e"},
            }
        ],
        "gap": None,
        "lastId": 1,
    }


async def test_a_list_goes_on_after_an_id() -> None:
    local = Local()
    happen(local, *["sync:a", "project:b"] * 5)
    assert [event["id"] for event in (await listed(local, "since=7"))["events"]] == [8, 9, 10]
    assert [event["id"] for event in (await listed(local, **{"Last-Event-ID": "8"}))["events"]] == [9, 10]
    page = await listed(local, "since=0&limit=2&types=project:*")
    assert ([event["id"] for event in page["events"]], page["lastId"]) == ([2, 4], 4)
    page = await listed(local, "limit=2&types=sync:a,other:*")
    assert ([event["id"] for event in page["events"]], page["lastId"]) == ([7, 9], 10)


async def test_a_list_names_its_gap() -> None:
    local = Local(events=EventStream((), kept=3))
    happen(local, *["sync:a"] * 10)
    body = await listed(local, "since=2")
    assert body["gap"] == {"type": "gap", "from": 3, "to": 7, "reason": "trimmed"}
    assert [event["id"] for event in body["events"]] == [8, 9, 10]
    assert (await listed(local, "since=99"))["gap"]["reason"] == "unknown-id"


async def test_who_accepts_only_json_gets_a_list() -> None:
    http = create_app(Local().instance()).test_client()
    response = await http.get("/api/events", headers={"Accept": "application/json"})
    assert (response.content_type, await response.get_json()) == (
        "application/json",
        {"events": [], "gap": None, "lastId": 0},
    )


@pytest.mark.parametrize(
    "query",
    [
        "since=x",
        "since=-1",
        "since=1.5",
        "since=99999999999999999999",
        "limit=0",
        "limit=1001",
        "limit=",
        "since=%C2%B2",
    ],
)
async def test_what_is_no_id_is_refused(query: str) -> None:
    response = await create_app(Local().instance()).test_client().get(f"/api/events?stream=0&{query}")
    body = await response.get_json(force=True)
    assert (response.status_code, body["code"]) == (422, "invalid")


# Publishing


async def test_an_application_publishes_projects() -> None:
    local = Local()
    document = {"slug": "site", "title": "One", "goal": "g", "projectPath": "/elsewhere"}
    status, body = await published(local, {"type": "project:created", "payload": {"project": document}})
    assert (status, body["projectSlug"], body["changed"]) == (200, "site", True)
    assert title(local) == "One"

    # What the event lacks is left alone: it may be an older copy.
    payload = {"projectSlug": "site", "projectPath": "/elsewhere", "project": {"title": "Two"}}
    assert (await published(local, {"type": "project:updated", "payload": payload}))[0] == 200
    assert local.node.snapshot(local.now).documents["site"].json("/here") == {
        "slug": "site",
        "title": "Two",
        "goal": "g",
        "projectPath": "/here",
    }
    assert (await published(local, {"type": "project:deleted", "payload": {"projectSlug": "site"}}))[0] == 200
    assert title(local) is None
    kinds = [event["type"] for event in (await listed(local))["events"]]
    assert kinds == ["project:created", "project:updated", "project:deleted"]


async def test_an_application_publishes_categories() -> None:
    local = Local()
    status, body = await published(local, {"type": "categories:updated", "payload": {"categories": ["a", "b"]}})
    assert (status, body["changed"], "projectSlug" in body) == (200, True, False)
    (event,) = (await listed(local))["events"]
    assert (event["type"], event["payload"]) == (
        "categories:updated",
        {"categories": ["a", "b"], "projectPath": "/srv/project"},
    )


@pytest.mark.parametrize(
    "kind", ["feature:created", "feature:status-changed", "sync:peer-left", "settings:updated", "project:conflict", ""]
)
async def test_nothing_else_can_be_published(kind: str) -> None:
    local = Local()
    payload = {"projectSlug": "site", "project": {"title": "One"}, "categories": ["a"]}
    status, body = await published(local, {"type": kind, "payload": payload})
    assert (status, body["code"]) == (422, "not-publishable")
    assert (await listed(local))["events"] == []
    assert not local.node.snapshot(local.now).documents


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ([], 422, "invalid"),
        ({"type": 5, "payload": {}}, 422, "invalid"),
        ({"type": "project:deleted"}, 422, "invalid"),
        ({"type": "project:created", "payload": {"projectSlug": "site"}}, 422, "invalid"),
        ({"type": "project:created", "payload": {"projectSlug": "a", "project": {"milestones": "m"}}}, 422, "invalid"),
        ({"type": "project:created", "payload": {"projectSlug": SLUG, "project": {}}}, 422, "invalid"),
        ({"type": "project:deleted", "payload": {"projectSlug": SLUG}}, 422, "invalid"),
        ({"type": "project:deleted", "payload": {"projectSlug": "site"}}, 404, "not-found"),
        ({"type": "categories:updated", "payload": {"categories": {}}}, 422, "invalid"),
    ],
)
async def test_what_cannot_be_published_is_refused(body: object, status: int, code: str) -> None:
    answered, problem = await published(Local(), body)
    assert (answered, problem["code"]) == (status, code)


async def test_an_update_that_comes_late_does_not_bring_a_project_back() -> None:
    local = Local()
    payload = {"projectSlug": "site", "project": {"title": "One"}}
    await published(local, {"type": "project:updated", "payload": payload})
    await published(local, {"type": "project:deleted", "payload": payload})
    assert (await published(local, {"type": "project:updated", "payload": payload}))[0] == 404
    assert (await published(local, {"type": "project:created", "payload": payload}))[0] == 200


async def test_two_that_begin_a_project_at_once_do_not_undo_each_other() -> None:
    @define
    class Contested(Local):
        """Somebody else begins the project between a request's look at the documents and its command."""

        contested: bool = True

        async def submit(self, command: Request) -> Accepted | Rejected:
            if self.contested:
                self.contested = False
                await Local.submit(self, PutProject(0, "site", {"title": "theirs", "goal": "theirs"}))
            return await Local.submit(self, command)

    local = Contested()
    payload = {"projectSlug": "site", "project": {"title": "ours"}}
    assert (await published(local, {"type": "project:created", "payload": payload}))[0] == 200
    document = local.node.snapshot(local.now).documents["site"].json()
    assert (document["title"], document["goal"]) == ("ours", "theirs")


# Streams


@define
class Frame:
    fields: dict[str, str]

    @property
    def data(self) -> Any:
        return orjson.loads(self.fields["data"])


@define
class Reader:
    """A client of a stream, which reads only when it is told to."""

    stream: trio.SocketStream
    head: bytes
    rest: bytes
    ready: list[Frame] = field(factory=list)
    chunks: int = 0

    async def frame(self, *, comments: bool = False) -> Frame:
        """The next frame with data."""
        with trio.fail_after(WITHIN_S):
            while True:
                while self.ready:
                    frame = self.ready.pop(0)
                    if "data" in frame.fields or comments:
                        return frame
                assert await self.more(), "the stream ended"

    async def more(self) -> bool:
        """Read one chunk; False at the end."""
        while b"\r\n" not in self.rest:
            await self.receive()
        size, _, self.rest = self.rest.partition(b"\r\n")
        while len(self.rest) < int(size, 16) + 2:
            await self.receive()
        chunk, self.rest = self.rest[: int(size, 16)], self.rest[int(size, 16) + 2 :]
        self.chunks += 1
        for block in chunk.split(b"\n\n")[:-1]:
            lines = [line.partition(": ") for line in block.decode().split("\n")]
            self.ready.append(Frame({name: value for name, _, value in lines}))
        return bool(chunk)

    async def receive(self) -> None:
        data = await self.stream.receive_some()
        assert data, "the connection broke off"
        self.rest += data


@define
class Api:
    """A running API over `local`."""

    local: Local
    listening: socket.socket
    stop: trio.Event = field(factory=trio.Event)
    ended: trio.Event = field(factory=trio.Event)
    clients: list[trio.SocketStream] = field(factory=list)

    async def open(self) -> trio.SocketStream:
        self.clients.append(await trio.open_tcp_stream(*self.listening.getsockname()))
        return self.clients[-1]

    async def connect(self, query: str = "", headers: str = "") -> Reader:
        stream = await self.open()
        await stream.send_all(f"GET /api/events?{query} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        received = b""
        with trio.fail_after(WITHIN_S):
            while b"\r\n\r\n" not in received:
                received += await stream.receive_some()
        head, _, rest = received.partition(b"\r\n\r\n")
        return Reader(stream, head, rest)

    async def reader(self, query: str = "", headers: str = "") -> Reader:
        """One that is known to be served: its greeting is read."""
        reader = await self.connect(query, headers)
        assert reader.head.startswith(b"HTTP/1.1 200"), reader.head + reader.rest
        assert await reader.more()
        return reader


@asynccontextmanager
async def running(local: Local) -> AsyncIterator[Api]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)  # holds little of what is not read
        api = Api(local, listening)

        async def stop() -> None:
            await api.stop.wait()
            local.events.close()

        async with trio.open_nursery() as nursery:
            serving = partial(serve, create_app(local.instance()), [listening], stop)
            await nursery.start(serving)
            try:
                yield api
            finally:
                for client in api.clients:
                    client.socket.close()
            api.stop.set()
        api.ended.set()


async def test_a_stream_shows_what_happens() -> None:
    async with running(Local(PRIMARY)) as api:
        reader = await api.reader()
        assert b"content-type: text/event-stream" in reader.head.lower()
        assert [frame.fields for frame in reader.ready] == [{"retry": "1000", "id": "1"}], "it leads since then"
        await api.local.submit(PutProject(0, "site", {"title": "One"}))
        api.local.meet(1, "dev-02", PEERS[1])
        first, second = await reader.frame(), await reader.frame()
        assert (first.fields["id"], first.fields["event"]) == ("2", "project:created")
        assert first.data["payload"]["projectSlug"] == "site"
        assert (second.fields["id"], second.fields["event"]) == ("3", "sync:peer-online")
        assert second.data == {
            "id": 3,
            "type": "sync:peer-online",
            "timestamp": "2026-03-14T09:26:53.589Z",
            "payload": {"instanceId": "dev-02"},
        }


async def test_a_reader_that_returns_goes_on_where_it_was() -> None:
    local = Local()
    happen(local, *["sync:a"] * 5)
    async with running(local) as api:
        for query, headers in (("since=3", ""), ("", "Last-Event-ID: 3\r\n"), ("since=1", "Last-Event-ID: 3\r\n")):
            reader = await api.reader(query, headers)
            assert [(await reader.frame()).data["id"] for _ in range(2)] == [4, 5]


async def test_only_the_types_that_are_wanted() -> None:
    local = Local()
    async with running(local) as api:
        reader = await api.reader("types=sync:peer-*,alert:*")
        happen(local, "sync:peer-left", "sync:partition-recovered", "alert:diverged", "project:created", "sync:peer-x")
        kinds = [(await reader.frame()).fields["event"] for _ in range(3)]
        assert kinds == ["sync:peer-left", "alert:diverged", "sync:peer-x"]


async def test_what_was_missed_is_named() -> None:
    local = Local(events=EventStream((), kept=3))
    happen(local, *["sync:a"] * 10)
    async with running(local) as api:
        reader = await api.reader("since=2")
        gap = await reader.frame()
        assert (gap.fields["event"], gap.fields["id"]) == ("gap", "7")
        assert gap.data == {"type": "gap", "from": 3, "to": 7, "reason": "trimmed"}
        assert [(await reader.frame()).data["id"] for _ in range(3)] == [8, 9, 10]

        other = await api.reader("since=500")
        gap = await other.frame()
        assert gap.data == {"type": "gap", "from": 1, "to": 10, "reason": "unknown-id"}
        happen(local, "sync:a")
        assert (await other.frame()).data["id"] == 11


async def test_a_reader_that_falls_behind_gets_a_gap_and_nobody_waits_for_it() -> None:
    local = Local(events=EventStream((), kept=40))
    async with running(local) as api:
        slow, quick = await api.reader(), await api.reader()
        heard: list[int] = []
        for _ in range(10):
            for _ in range(40):
                local.events.append(Emit("sync:a", {"filler": "x" * 4000}, local.events.last_id + 1, 0))
            heard += [(await quick.frame()).data["id"] for _ in range(40)]
        assert heard == list(range(1, 401))
        seen = [await slow.frame()]
        while seen[-1].fields["event"] != "gap":
            seen.append(await slow.frame())
        assert [frame.data["id"] for frame in seen[:-1]] == list(range(1, len(seen)))
        gap = seen[-1].data
        assert gap["from"] == len(seen)
        assert (await slow.frame()).data["id"] == gap["to"] + 1


async def test_many_events_come_in_few_chunks() -> None:
    local = Local()
    async with running(local) as api:
        reader = await api.reader()
        before = reader.chunks
        happen(local, *["sync:a"] * (2 * CHUNK_EVENTS))
        assert [(await reader.frame()).data["id"] for _ in range(2 * CHUNK_EVENTS)] == list(
            range(1, 2 * CHUNK_EVENTS + 1)
        )
        assert reader.chunks - before == 2


async def test_what_happens_soon_after_comes_in_one_chunk() -> None:
    local = Local()
    async with running(local) as api:
        reader = await api.reader()
        before = reader.chunks
        started_s = trio.current_time()
        for _ in range(30):
            happen(local, "sync:a")
            await trio.testing.wait_all_tasks_blocked()
        took_s = trio.current_time() - started_s
        assert [(await reader.frame()).data["id"] for _ in range(30)] == list(range(1, 31))
        assert reader.chunks - before <= 2 + took_s / PACE_S


async def test_the_state_comes_first_when_asked_for() -> None:
    local = Local(PRIMARY)
    outcome = await local.submit(PutProject(0, "site", {"title": "One"}))
    assert isinstance(outcome, Accepted)
    await local.submit(PutProject(0, SLUG, {"categories": ["a"]}))
    local.meet(1, "dev-02", PEERS[1])
    async with running(local) as api:
        reader = await api.reader("initial=1")
        state = await reader.frame()
        assert (state.fields["event"], state.fields["id"]) == ("state", "4")
        assert state.data["documents"] == [{"slug": "site", "revision": outcome.revision}]
        assert (state.data["instanceId"], state.data["categories"], state.data["lastId"]) == ("dev-01", ["a"], 4)
        assert [member["instanceId"] for member in state.data["members"]] == ["dev-02"]
        await local.submit(PutProject(0, "site", {"title": "Two"}))
        assert (await reader.frame()).data["id"] == 5

        # A browser that reconnects asks for the state again, and still misses nothing.
        again = await api.reader("initial=1", "Last-Event-ID: 3\r\n")
        assert [(await again.frame()).fields["event"] for _ in range(3)] == [
            "state",
            "sync:peer-online",
            "project:updated",
        ]


async def test_silence_is_kept_alive_with_the_id(mock_clock: trio.testing.MockClock) -> None:
    mock_clock.rate = 1
    local = Local()
    async with running(local) as api:
        reader = await api.reader("types=project:*")
        reader.ready.clear()
        happen(local, "sync:a", "sync:a")
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(KEEP_ALIVE_S + 0.1)
        assert (await reader.frame(comments=True)).fields == {"": "keep-alive", "id": "2"}
        mock_clock.jump(100 * KEEP_ALIVE_S)  # far past the timeouts of requests and idle connections
        assert (await reader.frame(comments=True)).fields == {"": "keep-alive", "id": "2"}
        happen(local, "project:updated")
        assert (await reader.frame()).data["id"] == 3


async def test_what_is_not_wanted_does_not_put_off_the_keep_alive(mock_clock: trio.testing.MockClock) -> None:
    mock_clock.rate = 1
    local = Local()
    async with running(local) as api:
        reader = await api.reader("types=project:*")
        reader.ready.clear()
        for _ in range(4):
            mock_clock.jump(KEEP_ALIVE_S / 3)
            happen(local, "sync:a")
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert "keep-alive" in (await reader.frame(comments=True)).fields[""]


async def test_streams_end_with_the_server() -> None:
    local = Local()
    async with running(local) as api:
        readers = [await api.reader() for _ in range(5)]
        happen(local, "sync:a")
        api.stop.set()
        with trio.fail_after(0.5):  # well below the grace that the server has for answers under way
            for reader in readers:
                assert (await reader.frame()).data["id"] == 1
                assert not await reader.more()
    assert api.ended.is_set()


async def test_streams_are_bounded_and_their_places_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_api, "MAX_STREAMS", 2)
    async with running(Local()) as api:
        first, second = await api.reader(), await api.reader()
        refused = await api.connect()
        assert refused.head.startswith(b"HTTP/1.1 503")
        while not refused.rest.endswith(b"}\n"):
            await refused.receive()
        assert b"too-many-streams" in refused.rest
        await first.stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.01)
        third = await api.reader()
        happen(api.local, "sync:a")
        assert [(await reader.frame()).data["id"] for reader in (second, third)] == [1, 1]
    assert MAX_STREAMS < 256


async def test_who_hangs_up_at_once_takes_no_place() -> None:
    async with running(Local()) as api:
        for _ in range(MAX_STREAMS + 10):
            stream = await api.open()
            await stream.send_all(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.01)
        reader = await api.reader()
        happen(api.local, "sync:a")
        assert (await reader.frame()).data["id"] == 1


async def test_head_has_no_body() -> None:
    async with running(Local()) as api:
        stream = await api.open()
        await stream.send_all(b"HEAD /api/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = b""
        with trio.fail_after(WITHIN_S):
            while data := await stream.receive_some():
                received += data
        assert received.startswith(b"HTTP/1.1 200")
        assert received.endswith(b"\r\n\r\n")
