"""Listening sockets, bound before anything else starts, so that a port in use is one line and not a traceback.

The caller owns the sockets it gets: the sync port's go to `WebSocketNetwork`, the API's to the HTTP server.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

from meshd.errors import ListenError

# Connections that wait until we accept them: a whole mesh that dials again at once, with room to spare.
BACKLOG = 256

# A unix socket is open to its owner and group: who may write to it needs no key.
UNIX_MODE = 0o660


def bind_socket(address: str, port: int) -> socket.socket:
    """Listen on one TCP address, IPv4 or IPv6; `::` takes IPv4 as well, port 0 any free port.

    Raises `ListenError` with a one-line reason.
    """
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, sockaddr = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        return socket.create_server(sockaddr, family=family, backlog=BACKLOG, dualstack_ipv6=sockaddr[0] == "::")
    except socket.gaierror as error:
        raise ListenError(f"cannot listen on {address}: {error.strerror}") from error
    except (OSError, UnicodeError) as error:
        raise ListenError(_reason(address, port, error)) from error


def _reason(address: str, port: int, error: Exception) -> str:
    match getattr(error, "errno", None):
        case errno.EADDRINUSE:
            return f"port {port} on {address} is in use: stop what listens there, or choose another port"
        case errno.EADDRNOTAVAIL:
            return f"cannot listen on {address}: this host has no such address (is its network up?)"
        case errno.EACCES:
            return f"may not listen on port {port} of {address}: ports below 1024 need privileges"
        case int(number):
            return f"cannot listen on port {port} of {address}: {os.strerror(number)}"
    return f"cannot listen on port {port} of {address}: {error}"


def bind_unix(path: Path) -> socket.socket:
    """Listen on a unix-domain socket; one that nobody listens on any more is replaced.

    Raises `ListenError` with a one-line reason.
    """
    try:
        _remove_stale(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(str(path))
            path.chmod(UNIX_MODE)
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise ListenError(f"cannot listen on {path}: {error.strerror or error}") from error
    return listening


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"cannot listen on {path}: it exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # somebody listens, with a full backlog
    raise ListenError(f"cannot listen on {path}: another process listens there")
