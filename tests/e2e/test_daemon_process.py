"""One daemon as a process: what it says when it cannot start, how it ends, and what it still knows afterwards."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import httpx
import pytest
import trio

from meshd.core.stored import Stored
from meshd.sockets import bind_socket
from meshd.store import SqliteStore
from tests.e2e.fleet import Instance, fleet, own_network, until

MIB = 1024 * 1024
EX_OSERR, EX_IOERR, EX_CONFIG = 71, 74, 78


def configured(folder: Path, number: int = 1) -> Instance:
    return Instance(number, own_network(), folder)


async def run(instance: Instance, **environ: str) -> tuple[int, list[str]]:
    """Run a daemon that ends by itself; returns its exit code and what it said."""
    command = [sys.executable, "-m", "meshd", "run", "--config", str(instance.config_file)]
    with trio.fail_after(20):
        ended = await trio.run_process(
            command, env={**os.environ, **environ}, capture_stdout=True, stderr=subprocess.STDOUT, check=False
        )
    return ended.returncode, ended.stdout.decode().splitlines()


async def launch(instance: Instance) -> subprocess.Popen[bytes]:
    """Start a daemon and wait for nothing."""
    command = [sys.executable, "-m", "meshd", "run", "--config", str(instance.config_file)]
    with instance.log_file.open("ab") as log:
        process = await trio.to_thread.run_sync(lambda: subprocess.Popen(command, stderr=log, stdout=log))
    instance.process = process
    return process


@asynccontextmanager
async def ended_after(instance: Instance) -> AsyncIterator[Instance]:
    """Leave nothing behind, whatever happens in the block."""
    try:
        yield instance
    finally:
        kill(instance)
        with trio.move_on_after(5, shield=True):
            await instance.client.aclose()


@asynccontextmanager
async def alone(instance: Instance) -> AsyncIterator[Instance]:
    """An instance without a mesh, ready to serve."""
    text = instance.config_file.read_text()
    instance.config_file.write_text(text.replace("hivemind:\n  enabled: true", "hivemind:\n  enabled: false"))
    async with ended_after(instance):
        await instance.start()
        yield instance


def kill(instance: Instance) -> None:
    """kill -9, if it runs."""
    if instance.process and instance.process.poll() is None:
        instance.process.kill()
        instance.process.wait()


async def code(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a running daemon; returns its exit code."""
    with trio.fail_after(15):
        return await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)


async def stored(instance: Instance) -> Stored:
    """What is in the database of an instance that does not run."""
    store = await SqliteStore.open(instance.repo_root / "data", "new")
    loaded = await store.load()
    await store.close()
    return loaded


async def put(instance: Instance, slug: str, **document: str | int) -> None:
    answer = await instance.client.put(f"/api/projects/{slug}", json=document)
    assert answer.status_code in (200, 201), answer.text


async def written(file: Path) -> None:
    async def is_there() -> bool:
        return await trio.Path(file).is_file()

    await until(is_there, 5)


# It cannot start


@pytest.mark.parametrize("port", [4444, 3008])
async def test_a_port_in_use_is_one_line(port: int, tmp_path: Path) -> None:
    instance = configured(tmp_path)
    with bind_socket(instance.address, port):
        exit_code, lines = await run(instance)
    assert exit_code == EX_OSERR
    (line,) = lines
    assert line.endswith(
        f" error daemon: port {port} on {instance.address} is in use: stop what listens there, or choose another port"
    )


async def test_a_data_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    exit_code, (line,) = await run(configured(tmp_path), MESHD_DATA_DIR=str(tmp_path / "file" / "data"))
    assert exit_code == EX_IOERR
    assert f" error daemon: {tmp_path}/file/data cannot be used as dataDir: Not a directory; it or a folder" in line
    assert "Errno" not in line


async def test_a_file_in_the_place_of_the_data_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    exit_code, (line,) = await run(configured(tmp_path), MESHD_DATA_DIR=str(tmp_path / "file"))
    assert exit_code == EX_IOERR
    assert (
        f" error daemon: {tmp_path}/file cannot be used as dataDir: File exists; it or a folder above it is a file"
        in line
    )


async def test_a_data_folder_has_one_daemon(tmp_path: Path) -> None:
    async with alone(configured(tmp_path)) as first:
        assert first.process is not None
        data_dir = first.repo_root / "data"
        exit_code, (line,) = await run(configured(tmp_path, 2), MESHD_DATA_DIR=str(data_dir))
        assert exit_code == EX_IOERR
        assert line.endswith(f"{data_dir} is already in use by pid {first.process.pid}")
        assert (await first.client.get("/readyz")).status_code == 200


async def test_a_bad_configuration_is_told_whole(tmp_path: Path) -> None:
    instance = configured(tmp_path)
    text = instance.config_file.read_text()
    text = text.replace("syncPort: 4444", "syncPort: 444444").replace("role: primary", "role: boss")
    instance.config_file.write_text(text.replace("heartbeatIntervalMs: 30000", "heartbeatIntervalMs: soon"))
    exit_code, lines = await run(instance)
    assert exit_code == EX_CONFIG
    for key in ("protolab.syncPort", "protolab.role", "hivemind.heartbeatIntervalMs"):
        assert len([line for line in lines if f": error: {key}: " in line]) == 1
    assert not [line for line in lines if "Traceback" in line]
    assert not (instance.repo_root / "data").exists()


async def test_what_is_odd_about_a_configuration_is_logged_once(tmp_path: Path) -> None:
    instance = configured(tmp_path)
    extra = "repoRoot: nowhere\nsharedSettings: {maxTurns: many}\nlog: {levle: info}\n"
    instance.config_file.write_text(instance.config_file.read_text() + extra)
    async with alone(instance):
        lines = [line for line in instance.log.splitlines() if "warning" in line]
    keys = ("repoRoot", "sharedSettings.maxTurns", "log.levle", "protolab.enabled")
    assert [len([line for line in lines if f": {key}: " in line]) for key in keys] == [1, 1, 1, 1]
    assert [line.count("warning") for line in lines] == [1, 1, 1, 1]
    assert any(f"found no folder {instance.repo_root}/nowhere" in line for line in lines)


# It is asked to leave


async def test_it_can_be_asked_to_leave_while_it_starts(tmp_path: Path) -> None:
    """From the moment on that it listens to signals, whatever it was about to do."""
    async with ended_after(configured(tmp_path)) as instance:
        process = await launch(instance)

        async def hears_sigterm() -> bool:
            status = await trio.Path(f"/proc/{process.pid}/status").read_text()
            caught = int(status.partition("SigCgt:\t")[2].partition("\n")[0], 16)
            return bool(caught & 1 << (signal.SIGTERM - 1))

        await until(hears_sigterm, 20)
        process.send_signal(signal.SIGTERM)
        assert await code(process) == 0
        assert "draining: SIGTERM received" in instance.log
        assert "Traceback" not in instance.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_can_be_asked_to_leave_before_anything_was_started(number: signal.Signals, tmp_path: Path) -> None:
    """While it still imports: the kernel keeps the signal for it."""
    async with ended_after(configured(tmp_path)) as instance:
        process = await launch(instance)

        async def keeps_signals() -> bool:
            status = await trio.Path(f"/proc/{process.pid}/status").read_text()
            blocked = int(status.partition("SigBlk:\t")[2].partition("\n")[0], 16)
            return bool(blocked & 1 << (number - 1))

        await until(keeps_signals, 20)
        process.send_signal(number)
        assert await code(process) == 0
        (line,) = instance.log.splitlines()
        assert line.endswith(f" info daemon: {number.name} received before anything was started: nothing to drain")
        assert not (instance.repo_root / "data").exists()


@asynccontextmanager
async def never_reading(instance: Instance) -> AsyncIterator[None]:
    """A native peer whose socket is never read, with more meant for it than the kernel holds."""
    stream = await trio.open_tcp_stream(instance.address, 4444)
    handshake = (
        "GET / HTTP/1.1\r\nHost: mesh\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    identity = {"type": "identity", "instanceId": "deaf", "timestamp": "2026-03-14T09:26:53.589Z"}
    payload = json.dumps({**identity, "protocol": 1, "minProtocol": 1, "boot": "b"}).encode()
    await stream.send_all(
        handshake.encode() + bytes([0x81, 0x80 | 126, *len(payload).to_bytes(2), 0, 0, 0, 0]) + payload
    )

    async def is_seen() -> bool:
        return "deaf" in await instance.online()

    await until(is_seen, 10)
    for number in range(12):
        await put(instance, f"large-{number}", text="x" * MIB)
    yield
    await stream.aclose()


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with fleet(tmp_path, size=1) as (instance,), never_reading(instance):
        process = instance.process
        assert process is not None
        process.send_signal(signal.SIGINT)

        async def is_draining() -> bool:
            return (await instance.client.get("/readyz")).status_code == 503

        await until(is_draining, 5)
        begun_s = trio.current_time()
        assert await instance.stop(signal.SIGINT) == 0
        assert trio.current_time() - begun_s < 3.5, "the grace of 5 s is not waited for"
        assert "Traceback" not in instance.log


# Its disk refuses


async def test_a_disk_that_refuses_is_one_line_and_nothing_is_promised(tmp_path: Path) -> None:
    async with alone(configured(tmp_path)) as instance:
        await put(instance, "alpha", title="Alpha")
        process = instance.process
        assert process is not None
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (64 * 1024, 64 * 1024))
        with suppress(httpx.TransportError):
            answer = await instance.client.put("/api/projects/beta", json={"text": "x" * MIB})
            assert answer.status_code >= 500
        assert await code(process) == EX_IOERR
        assert "Traceback" not in instance.log
        (line,) = [line for line in instance.log.splitlines() if " error " in line]
        assert str(instance.repo_root / "data" / "meshd.db") in line
        assert set((await stored(instance)).documents) == {"alpha"}


# It is killed


async def test_what_it_knew_survives_a_kill(tmp_path: Path) -> None:
    """kill -9: documents, seqs and the store's name stay, and an edit made meanwhile is a change."""
    async with alone(configured(tmp_path)) as instance:
        for number in range(5):
            await put(instance, "alpha", title="Alpha", number=number)
        await put(instance, "beta", title="Beta")
        file = instance.project_file("beta")
        await written(file)
        await remembered(instance, "beta")
        kill(instance)
        before = await stored(instance)
        assert before.seqs == {f"dev-01.{before.store_id}": 6}
        file.write_text(json.dumps(json.loads(file.read_text()) | {"title": "By hand"}))

        await instance.start()
        assert await instance.get("/api/projects/alpha") == {"slug": "alpha", "title": "Alpha", "number": 4}

        async def is_taken() -> bool:
            return bool((await instance.get("/api/projects/beta"))["title"] == "By hand")

        await until(is_taken, 10)
        await remembered(instance, "beta", "By hand")  # a poll that a signal cuts short leaves that to the next start
        assert await instance.stop() == 0
        after = await stored(instance)
        assert (after.store_id, after.seqs) == (before.store_id, {f"dev-01.{before.store_id}": 7})
        assert after.seen["beta"]["title"] == "By hand"
        assert "Traceback" not in instance.log


async def remembered(instance: Instance, slug: str, text: str = "") -> None:
    """Wait until the store knows what stands in a file, `text` among it, though nothing else happens."""
    database = f"file:{instance.repo_root}/data/meshd.db?mode=ro"

    async def is_remembered() -> bool:
        with closing(sqlite3.connect(database, uri=True)) as connection:
            query = "SELECT count(*) FROM seen WHERE slug = ? AND instr(document, ?)"
            found = connection.execute(query, (slug, text)).fetchone()
        await trio.lowlevel.checkpoint()
        return bool(found[0])

    await until(is_remembered, 5)


# It is alone


async def test_without_a_mesh_nothing_listens_for_peers(tmp_path: Path) -> None:
    async with alone(configured(tmp_path)) as instance:
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream(instance.address, 4444)
        await put(instance, "alpha", title="Alpha")
        file = instance.project_file("alpha")
        await written(file)
        assert json.loads(file.read_text()) == {"slug": "alpha", "title": "Alpha"}
        sync = await instance.sync()
        assert (sync["enabled"], sync["connected"], sync["syncPort"], sync["onlinePeers"]) == (False, False, None, [])
        assert await instance.stop() == 0


async def test_a_folder_for_what_is_set_aside_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    async with alone(configured(tmp_path)) as instance:
        aside = instance.repo_root / "data" / "aside"
        aside.write_text("a file in the folder's place")
        file = instance.project_file("alpha")
        file.parent.mkdir(parents=True)
        file.write_text("{")
        await put(instance, "alpha", title="Alpha")
        file.write_text('{"title": "of a backup"}')
        assert instance.process is not None
        assert await code(instance.process) == EX_IOERR
        assert "Traceback" not in instance.log
        assert str(aside) in instance.log.splitlines()[-1]
        assert file.read_text() == '{"title": "of a backup"}'


# systemd


@pytest.fixture
def notify_socket(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """systemd's end; what is started meanwhile knows of it, and has to feed a watchdog of 0.4 s."""
    name = f"meshd-test-{uuid.uuid4()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listening:
        listening.bind(f"\0{name}")
        yield listening


def received(notify_socket: socket.socket) -> list[str]:
    told: list[str] = []
    while True:
        try:
            told.append(notify_socket.recv(65_536).decode())
        except BlockingIOError:
            return told


async def test_systemd_hears_of_start_life_and_end(notify_socket: socket.socket, tmp_path: Path) -> None:
    told: list[str] = []

    async def hear(what: str, count: int = 1) -> None:
        async def is_told() -> bool:
            await trio.lowlevel.checkpoint()
            told.extend(received(notify_socket))
            return sum(line.startswith(what) for line in told) >= count

        await until(is_told, 20)

    async with ended_after(configured(tmp_path)) as instance:
        await launch(instance)
        await hear("READY=1")
        for port in (3008, 4444):
            await (await trio.open_tcp_stream(instance.address, port)).aclose()
        await hear("WATCHDOG=1", 4)
        assert await instance.stop() == 0
        told += received(notify_socket)
    assert told[0].startswith("READY=1\nSTATUS=dev-01 ")
    assert set(told[1:-1]) == {"WATCHDOG=1"}
    assert told[-1] == "STOPPING=1"
