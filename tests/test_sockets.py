"""Listening sockets: what is bound, and the one line that says why not."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from meshd.errors import ListenError
from meshd.sockets import bind_socket, bind_unix


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this host has no IPv6 loopback")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "0.0.0.0", "localhost", pytest.param("::1", marks=ipv6), pytest.param("::", marks=ipv6)],
)
def test_a_bound_address_can_be_connected_to(address: str) -> None:
    with bind_socket(address, 0) as listening:
        target = {"0.0.0.0": "127.0.0.1", "localhost": "127.0.0.1", "::": "127.0.0.1"}.get(address, address)
        with socket.create_connection((target, listening.getsockname()[1])):
            accepted, _ = listening.accept()
            accepted.close()


def test_a_port_in_use_is_named() -> None:
    with bind_socket("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(ListenError) as caught:
            bind_socket("127.0.0.1", port)
    assert str(caught.value) == f"port {port} on 127.0.0.1 is in use: stop what listens there, or choose another port"


def test_a_port_can_be_bound_again_while_old_connections_linger() -> None:
    with bind_socket("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = listening.accept()
            accepted.close()  # closed here first: the port stays in TIME_WAIT
    bind_socket("127.0.0.1", port).close()


@pytest.mark.parametrize(
    ("address", "port", "reason"),
    [
        ("192.0.2.1", 4444, "this host has no such address"),
        ("no such host", 4444, "cannot listen on no such host"),
        ("x" * 70, 4444, "cannot listen on port 4444 of xxx"),
    ],
)
def test_an_address_that_cannot_be_bound_gives_one_line(address: str, port: int, reason: str) -> None:
    with pytest.raises(ListenError) as caught:
        bind_socket(address, port)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_unix_socket_is_for_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with bind_unix(path) as listening, socket.socket(socket.AF_UNIX) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        client.connect(str(path))
        listening.accept()[0].close()


def test_a_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    bind_unix(path).close()
    assert path.exists()
    bind_unix(path).close()


def test_a_unix_socket_in_use_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with bind_unix(path) as listening:
        with pytest.raises(ListenError, match="another process listens there"):
            bind_unix(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            listening.accept()[0].close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(ListenError, match="is not a socket"):
        bind_unix(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["missing/api.sock", "x" * 200])
def test_a_path_that_cannot_be_bound_gives_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ListenError) as caught:
        bind_unix(tmp_path / name)
    assert "\n" not in str(caught.value)
