"""`meshd.systemd` against a real datagram socket in systemd's place."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from meshd.systemd import Notifier


class Listener:
    """systemd's end: what was told, one datagram after the other."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(address)
        self.environ = {"NOTIFY_SOCKET": address.replace("\0", "@")}

    def told(self) -> list[str]:
        datagrams = []
        while True:
            try:
                datagrams.append(self.socket.recv(65_536).decode())
            except BlockingIOError:
                return datagrams


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(str(tmp_path / "notify") if request.param == "path" else f"\0meshd-test-{uuid.uuid4()}")
    with listener.socket:
        yield listener


def test_each_message_is_one_datagram(listener: Listener) -> None:
    notifier = Notifier.from_environment(listener.environ)
    answers = [
        notifier.ready("listening on port 4444"),
        notifier.status("primary of 3"),
        notifier.extend(1.5),
        notifier.stopping(),
    ]
    assert answers == [True] * 4
    assert listener.told() == [
        "READY=1\nSTATUS=listening on port 4444",
        "STATUS=primary of 3",
        "EXTEND_TIMEOUT_USEC=1500000",
        "STOPPING=1",
    ]


def test_a_status_cannot_begin_an_assignment(listener: Listener) -> None:
    Notifier.from_environment(listener.environ).status("a\nMAINPID=1\r\0b\u2028c\udcffd é")
    assert listener.told() == ["STATUS=a MAINPID=1  b c d é"]


@given(st.text(st.characters()))
@example("\U0001f7e2" * 5_000)
def test_any_status_fits_into_one_line_that_systemd_reads(text: str) -> None:
    address = f"\0meshd-test-{uuid.uuid4()}"
    listener = Listener(address)
    with listener.socket:
        assert Notifier(address).ready(text)
        (datagram,) = listener.told()
    assert datagram.count("\n") == 1
    assert "\0" not in datagram
    assert len(datagram.encode()) <= 4_096


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:9"}])
def test_without_a_socket_nothing_is_sent(environ: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier.from_environment(environ | {"WATCHDOG_USEC": "2000000"})
    assert notifier == Notifier()
    assert not any([notifier.ready("up"), notifier.status("up"), notifier.extend(1), notifier.stopping()])
    assert not caplog.records


@pytest.mark.parametrize("name", ["missing", "not-a-socket", "long" * 50])
def test_a_broken_socket_costs_one_log_line(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "not-a-socket").touch()
    assert not Notifier(str(tmp_path / name)).ready("up")
    (record,) = caplog.records
    assert record.getMessage().startswith("systemd was not told READY=1: ")


def test_a_full_socket_is_not_waited_for(listener: Listener) -> None:
    notifier = Notifier.from_environment(listener.environ)
    sent = 0
    while notifier.status("again") and sent < 100_000:
        sent += 1
    assert 0 < sent < 100_000
    assert listener.told() == ["STATUS=again"] * sent
    assert notifier.status("and on")


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getppid())}, None),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "me"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_PID": str(os.getpid())}, None),
    ],
)
def test_watchdog_interval(environ: dict[str, str], interval_s: float | None) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": "/run/systemd/notify"} | environ)
    assert notifier.watchdog_interval_s == interval_s


async def test_the_watchdog_is_fed_twice_a_period_and_only_while_progressing(
    listener: Listener,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    progressing = True
    notifier = Notifier.from_environment(listener.environ | {"WATCHDOG_USEC": "60000000"})
    nursery.start_soon(notifier.watchdog, lambda: progressing)
    await trio.sleep(61)
    assert listener.told() == ["WATCHDOG=1"] * 3  # at 0, 30 and 60 s
    progressing = False
    await trio.sleep(60)
    assert listener.told() == []
    assert {record.getMessage() for record in caplog.records} == {
        "the tickers stand still: systemd's watchdog is not fed"
    }
    progressing = True
    await trio.sleep(30)
    assert listener.told() == ["WATCHDOG=1"]
    nursery.cancel_scope.cancel()


async def test_without_a_watchdog_there_is_nothing_to_feed(listener: Listener) -> None:
    await Notifier.from_environment(listener.environ).watchdog(lambda: True)
    assert listener.told() == []
