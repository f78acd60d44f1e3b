"""Stands between the daemon and one command, so that no process of it is orphaned and none outlives its lease.

A program of its own, started by `meshd.agents` in a session of its own as

    python -I -S guard.py UNTIL GRACE STDIN CWD COMMAND...

with the environment of the command; its standard error is the command's output and error. It needs nothing but the
standard library, and of that as little as can be, because every run waits for it.

Rules:

- The command runs in a process group of its own. It is ended, with TERM and after `GRACE` seconds with KILL, when the
  daemon says so, when its lease ends, and when the daemon is gone, however that went: then standard input ends.
- `UNTIL` is when all must be dead, in seconds of the boot-time clock; so TERM comes `GRACE` before it. A daemon that is
  stopped, or too busy, does not renew the lease, and its work ends all the same.
- What the command leaves behind when it ends by itself is ended like that, too.
- Whoever left the group is found: orphans of the command come to the guard (a subreaper), so that everything it ever
  started is below the guard in the table of processes. All are dead when the guard has no child left, and not before.
- When the guard itself is killed, the kernel kills the command with it; `meshd.agents` sees to what that leaves.

The daemon writes lines: `until SECONDS`, and `stop` once. The guard writes lines of JSON: `{"pid": 7}` when the command
runs, then `{"why": "exited", "exit": 0}` when all are dead, `exit` as in `subprocess` (-9: ended by signal 9); or only
`{"why": "folder", "errno": 2}` when it could not be started.
"""

# ruff: noqa: SIM105, PTH123, PTH208  contextlib and pathlib would double the time to start
from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

KILL_BEFORE_S = 0.25  # before the lease ends: for a loaded host to find and kill all
LOOK_AGAIN_S = 1.0  # select's clock stands still while the host sleeps, that of the lease does not
KILL_EVERY_S = 0.02  # somebody may fork while the others are killed
MAX_LINE_BYTES = 1024

EXITED, STOPPED, LEASE, ABANDONED, TERMINATED = "exited", "stopped", "lease", "abandoned", "terminated"
FOLDER, INPUT, COMMAND = "folder", "input", "command"


def prctl(option: int, value: int) -> None:
    """Set one of the process's attributes that only the C library can."""
    if ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def boot_s() -> float:
    """The clock of leases."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def say(line: str) -> None:
    """Tell the daemon, if it is still there."""
    try:
        os.write(1, line.encode() + b"\n")
    except OSError:
        pass


def start(stdin: str, folder: str, command: list[str]) -> int:
    """Start the command; returns its process id. Ends this program when that cannot be done, after saying why."""
    guard = os.getpid()
    failed, failing = os.pipe()
    pid = os.fork()
    if pid == 0:
        become(guard, failing, stdin, folder, command)
    os.close(failing)
    said = os.read(failed, MAX_LINE_BYTES)  # nothing once the command runs: the pipe's other end closes then
    os.close(failed)
    if said:
        os.waitpid(pid, 0)
        say(said.decode())
        sys.exit(0)
    return pid


def become(guard: int, failing: int, stdin: str, folder: str, command: list[str]) -> None:
    """Turn this new process into the command; never returns."""
    step = COMMAND
    try:
        os.setpgid(0, 0)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # it died before that took effect
            os._exit(1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by Python
            signal.signal(number, signal.SIG_DFL)
        step = INPUT
        os.dup2(os.open(stdin, os.O_RDONLY), 0)
        os.dup2(2, 1)
        step = FOLDER
        os.chdir(folder)
        step = COMMAND
        os.execvp(command[0], command)
    except OSError as error:
        os.write(failing, f'{{"why": "{step}", "errno": {error.errno or 0}}}'.encode())
    finally:
        os._exit(127)


class Guard:
    """Watches one command until all of it is dead."""

    def __init__(self, pid: int, until_s: float, grace_s: float, woken: int) -> None:
        self.pid = pid
        self.until_s = until_s
        self.grace_s = grace_s
        self.woken = woken
        self.status: int | None = None  # how the command ended, once it has
        self.why = ""
        self.said = b""

    def watch(self) -> None:
        """Return when all must end, with the reason in `why`."""
        while not self.why:
            left_s = self.until_s - KILL_BEFORE_S - self.grace_s - boot_s()
            if left_s <= 0:
                self.why = LEASE
            elif 0 in self.wait(min(left_s, LOOK_AGAIN_S), 0):
                self.listen()
            self.reap()
            if self.status is not None:
                self.why = self.why or EXITED

    def listen(self) -> None:
        """Take what the daemon says, which may come in pieces."""
        said = os.read(0, MAX_LINE_BYTES)
        if not said:
            self.why = ABANDONED
        *lines, self.said = (self.said + said).split(b"\n")
        for line in lines:
            word, _, value = line.partition(b" ")
            if word == b"until":
                self.until_s = float(value)
            elif word == b"stop":
                self.why = STOPPED

    def end(self) -> None:
        """End all with TERM, and what is left after the grace with KILL; returns when all are dead."""
        kill_at_s = min(boot_s() + self.grace_s, self.until_s - KILL_BEFORE_S)
        if self.reap():
            self.signal(signal.SIGTERM)
        while self.reap() and (left_s := kill_at_s - boot_s()) > 0:
            self.wait(min(left_s, LOOK_AGAIN_S))
        while self.reap():
            self.signal(signal.SIGKILL)
            self.wait(KILL_EVERY_S)

    def wait(self, timeout_s: float, *files: int) -> list[int]:
        """Wait for a signal, a child's end or one of `files`; returns those that can be read."""
        ready = select.select([self.woken, *files], [], [], timeout_s)[0]
        if self.woken in ready:
            os.read(self.woken, MAX_LINE_BYTES)
        return ready

    def reap(self) -> bool:
        """Take notice of who ended; returns whether anybody is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self.status = status

    def signal(self, number: int) -> None:
        """Send a signal to the group while its number is its own, and to everybody else below this process."""
        pids = [-self.pid] if self.status is None else []
        for pid in (*pids, *descendants()):
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):  # ended meanwhile; or was given other rights
                pass


def descendants() -> list[int]:
    """Everybody who was started below this process, as far as /proc shows them just now."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = file.read().rpartition(b")")[2].split()[1]  # the name before it may hold anything
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            children.setdefault(int(parent), []).append(int(name))
    found = [os.getpid()]
    for pid in found:
        found += children.get(pid, ())
    return found[1:]


def main() -> None:
    """Run one command; see the module."""
    until, grace, stdin, folder, *command = sys.argv[1:]
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # who started the daemon may have blocked some
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    guard = Guard(start(stdin, folder, command), float(until), float(grace), woken)

    def terminated(*_: object) -> None:
        guard.why = guard.why or TERMINATED

    signal.signal(signal.SIGTERM, terminated)
    say(f'{{"pid": {guard.pid}}}')
    guard.watch()
    guard.end()
    assert guard.status is not None
    say(f'{{"why": "{guard.why}", "exit": {os.waitstatus_to_exitcode(guard.status)}}}')


if __name__ == "__main__":
    main()
