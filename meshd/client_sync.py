"""The client without an event loop. It cannot stop the work when the claim is lost: ask `work.check()` now and then.

    with SyncClient() as client, client.claim() as work:
        for part in parts:
            work.check()
            ...
        work.done("https://git.example/pull/7")

A small thread keeps `work.lost` current while the block runs. Otherwise everything is as with `meshd.client.Client`.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from types import TracebackType

import httpx
from attrs import define, field

from meshd import client_calls as calls
from meshd.client_calls import PATIENCE_S, ClaimLost, ClientError, Place, Unreachable, boot_s
from meshd.model import JsonObject

LOOK_EVERY_S = 1.0

_log = logging.getLogger("meshd.client")


class SyncClient:
    """A daemon's API; to be used as a context, from any threads. Arguments and errors are those of `Client`."""

    def __init__(self, url: str | None = None, key: str | None = None, patience_s: float = PATIENCE_S) -> None:
        self.url = calls.address(url)
        self.patience_s = patience_s
        self._http = httpx.Client(
            base_url=self.url,
            headers=calls.headers(key),
            limits=calls.LIMITS,
            trust_env=False,  # a proxy in the environment is for the world outside
            verify=self.url.startswith("https:"),  # the certificates take 30 ms to load
        )

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    @contextmanager
    def claim(self, place: Place | None = None, by: str | None = None) -> Iterator[SyncWork]:
        """Wait for the next feature of this host, or claim that very phase, and work on it in the block.

        A block that `check` has ended ends quietly.
        """
        work = SyncWork(self._claimed(place, by or uuid.uuid4().hex), client=self)
        watching = Thread(target=work.watch, name=f"meshd {work.id}", daemon=True)
        watching.start()
        ending, failure = "release", None
        try:
            yield work
            ending = "done"
        except ClaimLost:
            if work.lost is None:  # it is of another block
                raise
        except Exception as error:  # it is told, and goes on
            ending, failure = "failed", error
            raise
        finally:
            try:
                work.leave(ending, failure)
            finally:
                work.ended.set()
                watching.join()

    def _claimed(self, place: Place | None, by: str) -> JsonObject:
        feature: JsonObject = {}
        try:
            while not feature:
                feature = self.ask(calls.claim(place, by))
        finally:
            if not feature:  # it may be on its way
                with suppress(ClientError):
                    for row in calls.left_over(self.ask(calls.features()), by):
                        self.ask(calls.settle(row, "release", {"note": "who asked for it had gone"}))
        return feature

    def phases(self, project: str | None = None, status: str | None = None) -> list[JsonObject]:
        """All phases of one project, or of those that are worked on; of one status."""
        return calls.rows_of(self.ask(calls.phases(project, status)), "phases")

    def phase(self, place: Place, on: str | None = None) -> JsonObject:
        """One phase, with every condition under which this host, or `on`, can claim it."""
        return self.ask(calls.phase(place, on))

    def features(self) -> list[JsonObject]:
        """What this host makes, or has made, of its claims."""
        return calls.rows_of(self.ask(calls.features()), "features")

    def set_capacity(self, max_agents: int | None, running: int = 0, backlog: int = 0) -> JsonObject:
        """How many agents this application can run; None ends that. Only for who does not wait with `claim`."""
        return self.ask(calls.capacity(max_agents, running, backlog))

    def ask(self, call: calls.Call) -> JsonObject:
        """Send one request."""
        try:
            response = self._http.request(
                call.method, call.path, params=dict(call.query), json=call.body, timeout=call.timeout
            )
        except httpx.RequestError as error:
            raise calls.unreachable(error, self.url) from error
        return calls.answer(response)


@define(eq=False)
class SyncWork(calls.Claim):
    """A claim while it is worked on."""

    client: SyncClient = field(kw_only=True)
    ended: Event = field(factory=Event, kw_only=True)

    def check(self) -> None:
        """Raise `ClaimLost` when the claim is lost."""
        if not self.is_settled:
            self.passed(boot_s())
        if self.lost is not None:
            raise ClaimLost(self.lost)

    def progress(self, note: str) -> None:
        """Say how far it is; people see it."""
        self._tell("progress", note=note)

    def done(self, pr_url: str | None = None) -> None:
        """It is finished; `pr_url` is where the result is."""
        self._settle("done", prUrl=pr_url)

    def failed(self, error: str) -> None:
        """It went wrong. It is tried again, by any host, until there were too many attempts."""
        self._settle("failed", error=error)

    def release(self, note: str | None = None) -> None:
        """Give it back: that is no failed attempt."""
        self._settle("release", note=note)

    def _settle(self, verb: str, *, is_last: bool = False, **told: str | None) -> None:
        self.is_settled = True  # that it is not held any more is no loss from here on
        try:
            self._tell(verb, is_last=is_last, **told)
        except BaseException:
            self.is_settled = False
            raise
        self.ended.set()

    def _tell(self, verb: str, *, is_last: bool = False, **told: str | None) -> None:
        until_s = boot_s() + self.tell_for_s(self.client.patience_s, is_last=is_last)
        while True:
            try:
                self.client.ask(calls.settle(self.feature, verb, told))
                return
            except ClientError as error:
                self.refused(error)
                if not isinstance(error, Unreachable) or boot_s() + calls.TELL_AGAIN_S >= until_s:
                    raise
            time.sleep(calls.TELL_AGAIN_S)

    # For the block

    def watch(self) -> None:
        """Keep `lost` current until the block has ended."""
        while self.lost is None and not self.ended.is_set():
            sent_s = boot_s()
            try:
                self.told(self.client.ask(calls.feature(self.id, 0.0)), sent_s)
            except ClientError as error:
                if not self.is_settled:
                    self.refused(error)
            if not self.is_settled:
                self.passed(boot_s())
            self.ended.wait(min(LOOK_EVERY_S, self.look_every_s(boot_s())))

    def leave(self, ending: str, failure: Exception | None) -> None:
        """The block has ended: settle what it did not. Raises `ClientError` when a result could not be told."""
        if self.is_settled:
            return
        verb, told = self.last_word(ending, failure)
        try:
            self._settle(verb, is_last=verb != "done", **told)
        except ClientError as error:
            if verb == "done" and self.lost is None:
                raise
            _log.info("%s could not be settled as %s: %s", self.id, verb, error)
