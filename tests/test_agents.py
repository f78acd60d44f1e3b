"""Agents as processes: what a command gets, what is made of its end, and that nothing of it is left, whoever dies."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import pytest
import trio

from meshd.agents import GRACE_S, Leash, grace_s
from meshd.config import OTHER_VARIABLES
from meshd.core.feature import Feature
from meshd.core.inputs import Outcome, WorkEnded
from meshd.daemon import system_clock
from tests.agents import AWAY, STUBBORN, WAITS, WITHIN_S, Host, feature, lives, other_life, until


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def ran(host: Host, script: str, made: Feature | None = None, leash: Leash | None = None) -> WorkEnded:
    with trio.fail_after(WITHIN_S):
        return await host.agents(script).run(made or feature(), leash or Leash(math.inf))


def leash(lease_s: float) -> Leash:
    return Leash(system_clock().mono_s + lease_s)


# What a command gets, and says


async def test_a_command_gets_its_feature(host: Host) -> None:
    made = feature(title="First phase")
    agents = host.agents("cat; echo; env | sort", env={"MODEL": "large", "MESHD_PHASE": "not this"})
    assert await agents.run(made, Leash(math.inf)) == WorkEnded("boot-1", Outcome.DONE)
    (name,) = host.logs()
    assert name == f"{made.id}.1.log"
    assert (host.runs / name).stat().st_mode & 0o777 == 0o600
    said, _, environ = (host.runs / name).read_text().partition("\n")
    assert json.loads(said) == made.json("dev-01")
    variables = dict(line.split("=", 1) for line in environ.split())
    assert variables.keys() - {"PATH", "PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"} == {"MODEL"} | {
        f"MESHD_{name}"
        for name in (
            *("FEATURE_ID", "PROJECT", "MILESTONE", "PHASE", "GENERATION", "CLAIM", "INSTANCE_ID", "API"),
            "FEATURE_FILE",
        )
    }
    assert {name for name in variables if name.startswith("MESHD_")} <= {*OTHER_VARIABLES, "MESHD_INSTANCE_ID"}
    assert variables["MESHD_FEATURE_ID"] == made.id
    assert variables["MESHD_PHASE"] == "first"
    assert variables["MESHD_GENERATION"] == "3"
    assert variables["MESHD_API"] == "http://127.0.0.1:3008"
    assert variables["MESHD_FEATURE_FILE"] == str(host.runs / f"{made.id}.1.json")


async def test_what_a_command_says_of_its_work(host: Host) -> None:
    done = await ran(host, """echo '{"prUrl": "https://host/pr/1"}'; echo done""")
    assert done == WorkEnded("boot-1", Outcome.DONE, pr_url="https://host/pr/1")
    failed = await ran(host, """echo '{"prUrl": "https://host/pr/2", "error": "no tests"}'; echo later >&2; exit 1""")
    assert failed == WorkEnded("boot-1", Outcome.FAILED, pr_url="https://host/pr/2", error="no tests")
    assert len(host.logs()) == 2


async def test_the_last_lines_say_why_it_failed(host: Host) -> None:
    assert (await ran(host, "echo working; echo 'no such branch' >&2; exit 2")).error == (
        "exit status 2: working\nno such branch"
    )
    assert await ran(host, "kill -9 $$") == WorkEnded("boot-1", Outcome.FAILED, error="ended by signal 9")


async def test_a_flood_of_output_stops_nobody(host: Host) -> None:
    """Nothing reads along, and what is kept of it is its end."""
    script = """head -c 50000000 /dev/zero | tr '\\0' x; echo; echo '{"prUrl": "https://host/pr/3"}'"""
    assert (await ran(host, script)).pr_url == "https://host/pr/3"
    (name,) = host.logs()
    assert 4_000_000 < (host.runs / name).stat().st_size < 5_000_000
    assert (host.runs / name).stat().st_mode & 0o777 == 0o600


# What cannot be started


async def test_a_command_that_is_not_there(host: Host) -> None:
    ended = await host.agents(["no-such-agent", "--fast"]).run(feature(), Leash(math.inf))
    reason = "agents.command `no-such-agent --fast` cannot be started: No such file or directory"
    assert ended == WorkEnded("boot-1", Outcome.FAILED, error=reason)


async def test_a_folder_that_is_not_there(host: Host) -> None:
    gone = host.folder / "gone"
    ended = await host.agents("true", cwd=gone).run(feature(), Leash(math.inf))
    reason = f"agents.cwd {gone}: No such file or directory"
    assert ended == WorkEnded("boot-1", Outcome.FAILED, error=reason)


async def test_a_disk_that_takes_no_files(host: Host) -> None:
    host.runs.parent.write_text("a file where the folder should be")
    ended = await ran(host, "true")
    assert ended.outcome is Outcome.FAILED
    assert ended.error
    assert ended.error.startswith("the run's files cannot be written: ")


async def test_a_variable_that_no_process_can_have(host: Host) -> None:
    ended = await ran(host, "true", feature("a\0claim"))
    assert ended.outcome is Outcome.FAILED
    assert ended.error == "its guard cannot be started: embedded null byte"


# Its leash


async def test_a_run_that_is_told_to_stop_is_released(host: Host) -> None:
    held = Leash(math.inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_when_ready, host, held)
        assert await ran(host, f"{AWAY}{STUBBORN}", leash=held) == WorkEnded("boot-1", Outcome.RELEASED, error="drain")
    assert host.none_lives()


async def stop_when_ready(host: Host, held: Leash) -> None:
    await host.ready(2)
    held.stop("drain")
    held.stop("later")


async def test_a_run_ends_with_its_lease(host: Host) -> None:
    ended = await ran(host, STUBBORN, leash=leash(1.5))
    assert ended == WorkEnded("boot-1", Outcome.RELEASED, error="the lease ended")
    assert host.none_lives()


async def test_a_run_goes_on_while_its_lease_is_renewed(host: Host) -> None:
    held = leash(1.5)
    script = f"{WAITS.replace(':', '[ ! -e finish ]')}"

    async def extend() -> None:
        await host.ready(1)
        held.extend(math.inf)
        await trio.sleep(1.5)
        (host.folder / "finish").touch()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(extend)
        assert (await ran(host, script, leash=held)).outcome is Outcome.DONE


@pytest.mark.parametrize("held", [leash(-1), Leash(math.inf, "drain")])
async def test_a_leash_that_is_over_starts_nothing(host: Host, held: Leash) -> None:
    assert (await ran(host, WAITS, leash=held)).outcome is Outcome.RELEASED
    assert not host.runs.exists()


async def test_a_run_that_takes_too_long_failed(host: Host) -> None:
    ended = await host.agents(f"echo so far; {STUBBORN}", timeout_ms=500).run(feature(), Leash(math.inf))
    assert ended.outcome is Outcome.FAILED
    assert ended.error == "took longer than agents.timeoutMs (500): so far"
    assert host.none_lives()


def test_work_gets_a_tenth_of_its_lease_to_stop() -> None:
    assert grace_s(2_000) == pytest.approx(0.2)
    assert grace_s(1_800_000) == GRACE_S


# Who is killed or stopped


async def test_a_guard_that_is_killed_leaves_nothing(host: Host) -> None:
    """The kernel kills the command; those that it started are found by what stands in their environment."""
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            ended = await ran(host, f"{AWAY}({STUBBORN}) & {WAITS}")
            assert ended.outcome is Outcome.FAILED
            assert ended.error
            assert ended.error.startswith("its guard was killed")
            assert host.none_lives()

        nursery.start_soon(run)
        pids = await host.ready(3)
        os.kill(session_of(pids), signal.SIGKILL)
    assert host.logs() == [f"{feature().id}.1.log"]


def session_of(pids: list[int]) -> int:
    """The guard: the leader of the session that most of them are in."""
    sessions = [os.getsid(pid) for pid in pids]
    return max(sessions, key=sessions.count)


async def test_a_guard_that_hangs_is_killed(host: Host) -> None:
    async with trio.open_nursery() as nursery:
        held = Leash(math.inf)

        async def run() -> None:
            ended = await ran(host, f"({STUBBORN}) & {STUBBORN}", leash=held)
            assert ended == WorkEnded("boot-1", Outcome.RELEASED, error="fenced")
            assert host.none_lives()

        nursery.start_soon(run)
        os.kill(session_of(await host.ready(2)), signal.SIGSTOP)
        held.stop("fenced")


async def test_a_run_that_is_cancelled_ends_by_itself(host: Host) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ran, host, f"({WAITS}) & {AWAY.replace('trap', ': trap')}{WAITS}")
        await host.ready(3)
        nursery.cancel_scope.cancel()
    await until(host.none_lives)


async def test_a_daemon_that_is_killed_leaves_nothing(host: Host) -> None:
    life = await other_life(host, f"{AWAY}({STUBBORN}) & {STUBBORN}")
    await host.ready(3)
    life.kill()
    await life.wait()
    await until(host.none_lives)


async def test_a_daemon_that_is_stopped_outlives_no_lease(host: Host) -> None:
    life = await other_life(host, f"{AWAY}{STUBBORN}", lease_s=1.0)
    await host.ready(2)
    await trio.sleep(1.2)  # longer than the lease, which is renewed
    assert all(map(lives, host.pids()))
    life.send_signal(signal.SIGSTOP)
    stopped_s = system_clock().mono_s
    await until(host.none_lives)
    assert system_clock().mono_s - stopped_s < 1.0 + 0.5
    life.kill()
    await life.wait()


async def test_a_new_life_waits_for_what_the_last_one_left(host: Host) -> None:
    life = await other_life(host, f"{AWAY}({STUBBORN}) & {STUBBORN}")
    await host.ready(3)
    life.kill()
    await life.wait()
    await host.agents("true").clear()
    assert host.none_lives()
    assert host.logs() == [f"{feature().id}.1.log"]


async def test_a_new_life_kills_what_daemon_and_guard_left(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    life = await other_life(host, f"{AWAY}({STUBBORN}) & {STUBBORN}")
    guard = session_of(await host.ready(3))
    life.send_signal(signal.SIGSTOP)
    os.kill(guard, signal.SIGKILL)
    life.kill()
    await life.wait()
    await until(lambda: not lives(guard))
    assert not host.none_lives()
    await host.agents("true").clear()
    assert host.none_lives()
    assert "processes were killed that a run had left behind" in caplog.text


async def test_a_first_life_has_nothing_to_look_for(host: Host) -> None:
    await host.agents("true").clear()
    assert not host.runs.exists()
