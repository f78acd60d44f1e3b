"""For applications: the daemon of this host from Python. `Client` is for trio, `SyncClient` for everything else.

    async with Client() as client:
        async with client.claim() as work:
            await work.progress("half of it")
            await work.done("https://git.example/pull/7")

Rules:

- The block of a claim is cancelled when the claim is lost; it then ends quietly, and `work.lost` says why.
- A block that did not settle its claim settles it by how it ends: done when it ends, failed when it raises (the error
  goes on), released when it is cancelled from outside.
- A result is told again and again while nobody answers, for `patience_s`: the daemon may be starting again.
- What was handed out on its way to somebody who had stopped waiting is given back.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType

import httpx
import trio
from attrs import define, field

from meshd import client_calls as calls
from meshd.client_calls import LEAVE_WITHIN_S, PATIENCE_S, ClaimLost, ClientError, Place, Unreachable, boot_s
from meshd.client_sync import SyncClient, SyncWork
from meshd.model import JsonObject

__all__ = ["ClaimLost", "Client", "ClientError", "Place", "SyncClient", "SyncWork", "Unreachable", "Work"]

_log = logging.getLogger("meshd.client")


class Client:
    """A daemon's API; to be used as a context.

    `url`: `MESHD_URL`, else port 3008 of this host. `key`: `AUTOMAKER_API_KEY`; it is needed from other hosts. All
    methods raise `ClientError`, `Unreachable` when nobody answers.
    """

    def __init__(self, url: str | None = None, key: str | None = None, patience_s: float = PATIENCE_S) -> None:
        self.url = calls.address(url)
        self.patience_s = patience_s
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers=calls.headers(key),
            limits=calls.LIMITS,
            trust_env=False,  # a proxy in the environment is for the world outside
            verify=self.url.startswith("https:"),  # the certificates take 30 ms to load
        )

    async def __aenter__(self) -> Client:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(deadline=trio.current_time() + LEAVE_WITHIN_S, shield=True):
            await self._http.aclose()

    @asynccontextmanager
    async def claim(self, place: Place | None = None, by: str | None = None) -> AsyncIterator[Work]:
        """Wait for the next feature of this host, or claim that very phase, and work on it in the block.

        `by` is what this application calls itself: who gave a name, and starts again, gets what it had. Raises
        `ClientError`: `not-claimable`, `undecided`, `has-command` and others.
        """
        work = Work(await self._claimed(place, by or uuid.uuid4().hex), client=self)
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work.watch)
            ending = "release"
            try:
                with work.scope:
                    yield work
                ending = "done"
            except Exception as error:  # noqa: BLE001  it goes on, but not through the nursery, which would wrap it
                failure, ending = error, "failed"
            finally:
                with trio.move_on_after(calls.leave_within_s(ending, self.patience_s), shield=True):
                    failure = await work.leave(ending, failure)
                work.watching.cancel()
        if failure is not None:
            raise failure

    async def _claimed(self, place: Place | None, by: str) -> JsonObject:
        feature: JsonObject = {}
        try:
            while not feature:
                feature = await self.ask(calls.claim(place, by))
        finally:
            if not feature:  # it may be on its way
                with trio.move_on_after(LEAVE_WITHIN_S, shield=True), suppress(ClientError):
                    for row in calls.left_over(await self.ask(calls.features()), by):
                        await self.ask(calls.settle(row, "release", {"note": "who asked for it had gone"}))
        return feature

    async def phases(self, project: str | None = None, status: str | None = None) -> list[JsonObject]:
        """All phases of one project, or of those that are worked on; of one status."""
        return calls.rows_of(await self.ask(calls.phases(project, status)), "phases")

    async def phase(self, place: Place, on: str | None = None) -> JsonObject:
        """One phase, with every condition under which this host, or `on`, can claim it."""
        return await self.ask(calls.phase(place, on))

    async def features(self) -> list[JsonObject]:
        """What this host makes, or has made, of its claims."""
        return calls.rows_of(await self.ask(calls.features()), "features")

    async def set_capacity(self, max_agents: int | None, running: int = 0, backlog: int = 0) -> JsonObject:
        """How many agents this application can run; None ends that. Only for who does not wait with `claim`."""
        return await self.ask(calls.capacity(max_agents, running, backlog))

    async def ask(self, call: calls.Call) -> JsonObject:
        """Send one request."""
        try:
            response = await self._http.request(
                call.method, call.path, params=dict(call.query), json=call.body, timeout=call.timeout
            )
        except httpx.RequestError as error:
            raise calls.unreachable(error, self.url) from error
        return calls.answer(response)


@define(eq=False)
class Work(calls.Claim):
    """A claim while it is worked on. `scope` is cancelled when it is lost."""

    client: Client = field(kw_only=True)
    scope: trio.CancelScope = field(factory=trio.CancelScope, kw_only=True)
    watching: trio.CancelScope = field(factory=lambda: trio.CancelScope(shield=True), kw_only=True)

    async def progress(self, note: str) -> None:
        """Say how far it is; people see it."""
        await self._tell("progress", note=note)

    async def done(self, pr_url: str | None = None) -> None:
        """It is finished; `pr_url` is where the result is."""
        await self._settle("done", prUrl=pr_url)

    async def failed(self, error: str) -> None:
        """It went wrong. It is tried again, by any host, until there were too many attempts."""
        await self._settle("failed", error=error)

    async def release(self, note: str | None = None) -> None:
        """Give it back: that is no failed attempt."""
        await self._settle("release", note=note)

    async def _settle(self, verb: str, *, is_last: bool = False, **told: str | None) -> None:
        self.is_settled = True  # that it is not held any more is no loss from here on
        try:
            await self._tell(verb, is_last=is_last, **told)
        except BaseException:
            self.is_settled = False
            raise
        self.watching.cancel()

    async def _tell(self, verb: str, *, is_last: bool = False, **told: str | None) -> None:
        until_s = boot_s() + self.tell_for_s(self.client.patience_s, is_last=is_last)
        while True:
            try:
                await self.client.ask(calls.settle(self.feature, verb, told))
                return
            except ClientError as error:
                self.refused(error)
                if not isinstance(error, Unreachable) or boot_s() + calls.TELL_AGAIN_S >= until_s:
                    raise
            await trio.sleep(calls.TELL_AGAIN_S)

    # For the block

    async def watch(self) -> None:
        """Cancel the block when the claim is lost. Shielded until the block has ended, however it ends."""
        with self.watching:
            wait_s = 0.0
            while self.lost is None:
                sent_s = boot_s()
                with trio.move_on_after(self.left_s(sent_s)):
                    await self._look(wait_s, sent_s)
                await trio.sleep(self.pause_s(sent_s + wait_s, boot_s()))
                self.passed(boot_s())
                wait_s = self.look_every_s(boot_s())
            self.scope.cancel()

    async def _look(self, wait_s: float, sent_s: float) -> None:
        try:
            self.told(await self.client.ask(calls.feature(self.id, wait_s)), sent_s)
        except ClientError as error:
            if not self.is_settled:
                self.refused(error)

    async def leave(self, ending: str, failure: Exception | None) -> Exception | None:
        """The block has ended: settle what it did not. Returns what is to be raised."""
        if self.is_settled:
            return failure
        verb, told = self.last_word(ending, failure)
        try:
            await self._settle(verb, is_last=verb != "done", **told)
        except ClientError as error:
            if verb == "done" and self.lost is None:
                return error
            _log.info("%s could not be settled as %s: %s", self.id, verb, error)
        return failure
