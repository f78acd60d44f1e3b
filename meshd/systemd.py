"""Telling systemd how we are: ready, what we do, that we are alive, that we stop (the sd_notify protocol by hand).

Rules: without a NOTIFY_SOCKET nothing is sent and nothing fails. One datagram says one thing and is never waited for.
A socket that is missing, full or broken costs a log line, never the daemon: if it was the watchdog that starved,
systemd restarts us and the log says why.

`NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are addressed to this process alone: keep them from children.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping

import trio
from attrs import frozen

_LOG = logging.getLogger(__name__)

# Characters of at most 4 bytes: systemd ignores a datagram of more than 4096 bytes whole, READY=1 in it included.
_MAX_STATUS_LENGTH = 1000


@frozen
class Notifier:
    """The way to systemd. `address` is empty when nobody listens, `watchdog_interval_s` None without a watchdog.

    What is sent answers whether systemd's socket took it; False too when there is none.
    """

    address: str = ""
    watchdog_interval_s: float | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Notifier:
        """Read what systemd left in the environment; what is absent, malformed or meant for another is no-one."""
        address = environ.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls()
        is_abstract = address[0] == "@"
        return cls("\0" + address[1:] if is_abstract else address, _watchdog_interval_s(environ))

    def ready(self, status: str) -> bool:
        """Start-up is done: ports are bound, the state is loaded. `status` is the line `systemctl status` shows."""
        return self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def status(self, text: str) -> bool:
        """Show `text` in `systemctl status`."""
        return self._send(f"STATUS={_one_line(text)}")

    def stopping(self) -> bool:
        """The process is about to exit: TimeoutStopSec begins, the watchdog ends. Not for a drain that stays up."""
        return self._send("STOPPING=1")

    def extend(self, seconds: float) -> bool:
        """Ask for `seconds` from now, start-up or stop; to be asked again before they pass for as long as it takes."""
        return self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    async def watchdog(self, is_progressing: Callable[[], bool]) -> None:
        """Feed the watchdog twice per period while `is_progressing()`; return at once when there is no watchdog.

        A starved watchdog makes systemd kill and restart the process: the caller's answer must tell a loop that
        stands from one that has nothing to do.
        """
        if self.watchdog_interval_s is None:
            return
        while True:
            if is_progressing():
                self._send("WATCHDOG=1")
            else:
                _LOG.error("the tickers stand still: systemd's watchdog is not fed")
            await trio.sleep(self.watchdog_interval_s)

    def _send(self, message: str) -> bool:
        if not self.address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as datagrams:
                datagrams.sendto(message.encode(), self.address)
        except OSError as error:
            _LOG.warning("systemd was not told %s: %s", message.partition("\n")[0], error)
            return False
        return True


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    """Half of the watchdog's period, so that one lost datagram is not fatal; None when it watches nobody or another."""
    period_us = environ.get("WATCHDOG_USEC", "")
    watched = environ.get("WATCHDOG_PID", str(os.getpid()))
    if not period_us.isdecimal() or int(period_us) == 0 or watched != str(os.getpid()):
        return None
    return int(period_us) / 1e6 / 2


def _one_line(text: str) -> str:
    """`text` without what would begin an assignment of its own (a newline) or make systemd ignore it all (a NUL)."""
    return "".join(character if character.isprintable() else " " for character in text[:_MAX_STATUS_LENGTH])
