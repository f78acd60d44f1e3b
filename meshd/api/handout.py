"""Features on their way to applications of this host: each to one of them.

Rules:

- A feature is an application's from the moment at which it was taken for it. An application that says who it is (`by`)
  gets what it has already until that is settled: an answer that was lost on its way costs nothing, and who starts again
  goes on where it was.
- What somebody has claimed for itself is kept for it while it waits for the decision.
- Who waits is capacity, until the moment before it is given something. What was taken for somebody who has gone away
  meanwhile is given back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

import trio
from attrs import define, field
from quart import request

from meshd.api.commands import refusal
from meshd.api.instance import Instance
from meshd.core.effects import Rejected
from meshd.core.feature import TAKEN_BY, Feature
from meshd.core.inputs import Outcome, SettlePhase, TakeWork, WorkWanted
from meshd.core.phases import Place
from meshd.core.snapshot import Snapshot
from meshd.errors import ApiError
from meshd.model import JsonObject

MAX_WAITING = 64  # applications that wait for work on one host: each holds a connection
MAX_NAME = 200  # characters of what an application calls itself: it stands in its feature
DONE_WITHIN_S = 10.0  # what must not be torn when the client goes away: a commit, on a slow disk
LATEST = 64  # events looked through at a time


@define(eq=False)
class Handout:
    """Gives features to applications. `_waiting` counts those that wait for the next, `_kept` what waits for one."""

    instance: Instance
    _waiting: int = field(default=0, init=False)
    _kept: list[Place] = field(factory=list, init=False)

    # Who has what

    def had(self, by: str | None, place: Place | None = None) -> Feature | None:
        """What `by` has already; of a place also what nobody has begun."""
        if by is None:
            return None
        of_it = [feature for feature in self._held() if place in (None, feature.place)]
        begun = next((feature for feature in of_it if feature.fields.get(TAKEN_BY) == by), None)
        return begun or next((feature for feature in of_it if place and self._waits(feature)), None)

    def _held(self) -> list[Feature]:
        return [feature for feature in self.instance.snapshot().work.features.values() if feature.is_held]

    def _waits(self, feature: Feature) -> bool:
        held = self.instance.snapshot().work.held
        return any(each.claim == feature.claim and each.state == "waiting" for each in held)

    def check(self) -> None:
        """Raise `ApiError` when nothing is left for applications."""
        if self.instance.configuration.agents.command:
            raise ApiError(409, "has-command", "this host runs agents.command for each feature: none is left")

    # Taking

    async def next(self, by: str | None, wait_s: float) -> Feature | None:
        """The next feature; waits for one, and tells that somebody does. None when none came. Raises `ApiError`."""
        if feature := self.had(by):
            return feature
        if self._waiting >= MAX_WAITING:
            raise ApiError(503, "too-many-waiting", f"{MAX_WAITING} applications wait for work already")
        self._waiting += 1
        try:
            await self.instance.put(WorkWanted(self._waiting))
            return await self._next(by, trio.current_time() + wait_s)
        finally:
            self._waiting -= 1
            with trio.move_on_after(DONE_WITHIN_S, shield=True):
                await self.instance.put(WorkWanted(self._waiting))

    async def _next(self, by: str | None, deadline_s: float) -> Feature | None:
        events = self.instance.events
        while not events.closed:
            cursor = events.last_id
            for feature in filter(self._waits, self._held()):
                if feature.place not in self._kept and (taken := await self._given(feature, by)):
                    return taken
            with trio.move_on_at(deadline_s) as patience:
                await self.change(cursor)
            if patience.cancelled_caught:
                return None
        return None

    async def _given(self, feature: Feature, by: str | None) -> Feature | None:
        """Take it for one of those that wait, which is no capacity from then on."""
        await self.instance.put(WorkWanted(self._waiting - 1))
        if taken := await self.take(feature, by):
            return taken
        await self.instance.put(WorkWanted(self._waiting))
        return None

    async def take(self, feature: Feature, by: str | None) -> Feature | None:
        """Take this one, unless another was quicker. Raises `ApiError`."""
        taken = None
        with trio.move_on_after(DONE_WITHIN_S, shield=True):
            outcome = await self.instance.submit(TakeWork(0, feature.id, by))
            if isinstance(outcome, Rejected):
                raise refusal(outcome)
            taken = self.instance.snapshot().work.features.get(outcome.revision)
        if taken and trio.current_effective_deadline() == -inf:
            await self._give_back(taken)
        return taken

    async def _give_back(self, feature: Feature) -> None:
        why = "the application that asked for it had gone"
        command = SettlePhase(0, *feature.place, Outcome.RELEASED, feature.generation, note=why)
        with trio.move_on_after(DONE_WITHIN_S, shield=True):
            await self.instance.submit(command)

    @contextmanager
    def kept(self, place: Place) -> Iterator[None]:
        """Keep what is granted at this place for somebody who waits for it."""
        self._kept.append(place)
        try:
            yield
        finally:
            self._kept.remove(place)

    # Watching

    async def change(self, cursor: int) -> None:
        """Return when something became of a feature after that event, or the instance ends."""
        events = self.instance.events
        reading = events.after(cursor, LATEST, _is_of_features)
        while not reading.events and not events.closed:
            await events.wait(reading.cursor)
            reading = events.after(reading.cursor, LATEST, _is_of_features)
        await trio.lowlevel.checkpoint()


def _is_of_features(event_type: str) -> bool:
    return event_type.startswith("feature:")


def application() -> str | None:
    """`?by=` of the request: what the application calls itself. Raises `ApiError`."""
    name = request.args.get("by")
    if name is not None and not (0 < len(name) <= MAX_NAME and name.isprintable()):
        raise ApiError(422, "invalid", f"by is a name of at most {MAX_NAME} characters")
    return name


def feature_json(feature: Feature, snapshot: Snapshot) -> JsonObject:
    """`feature.json`, with what this host knows of its claim."""
    held = next((each for each in snapshot.work.held if each.claim == feature.claim), None)
    left_s = held.lease_left_s if held else None
    lease_left_ms = None if left_s is None or left_s == inf else round(left_s * 1000)
    of_claim: JsonObject = {"held": feature.is_held, "state": held.state if held else None}
    return {**feature.json(snapshot.instance_id), **of_claim, "leaseLeftMs": lease_left_ms}
