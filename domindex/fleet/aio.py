"""A reader of a fleet for asyncio: look-ups are plain calls, what waits is awaited.

Read after joining.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from typing import TypeVar
from uuid import UUID

from domindex import conditions
from domindex.aio import Prompt
from domindex.domain import Domain, ShutdownReason
from domindex.events import Removed
from domindex.fleet import conditions as fleet_conditions
from domindex.fleet.body import FleetBody, FleetStats, mailbox_options
from domindex.fleet.events import FleetEvent
from domindex.fleet.fleet import MOVE_GRACE
from domindex.fleet.lookups import FleetLookUps
from domindex.fleet.opening import open_engine
from domindex.fleet.ports import Engine
from domindex.fleet.states import Found
from domindex.fleet.url import Tls
from domindex.fleet.wanted import FleetKinds, FleetWanted
from domindex.limits import as_seconds
from domindex.listening.async_stream import AsyncStream, LoopSignal
from domindex.listening.mailbox import QUEUE
from domindex.listening.signal import Condition, last_look
from domindex.options import most_age

T = TypeVar("T")


class AsyncFleetStream(AsyncStream[FleetEvent]):
    """The events of a fleet. Made by `AsyncFleet.events`."""


class AsyncFleet(FleetLookUps[Prompt]):
    """`Fleet` for asyncio. Made by `domindex.fleet.aio.connect`."""

    def __init__(self, body: FleetBody, stale: Prompt) -> None:
        self._body = body
        super().__init__(body.picture, stale, None)

    async def refresh(self, timeout: float | None = 5.0) -> int:
        """As `Fleet.refresh`; the store is asked in a thread of the loop's executor."""
        condition = await asyncio.to_thread(self._body.refreshing, timeout)
        return await self._wait(condition, timeout)

    async def wait_generation(
        self, host: str, generation: int, timeout: float | None = 30.0
    ) -> int:
        """As `Fleet.wait_generation`."""
        return await self._wait(self._body.generation(host, generation, timeout), timeout)

    async def wait_live(self, timeout: float | None = 30.0) -> None:
        """As `Fleet.wait_live`."""
        await self._wait(conditions.live(self._picture), timeout)

    async def wait_for(
        self,
        *,
        name: str | bytes | None = None,
        uuid: UUID | str | bytes | None = None,
        found: Found | None = None,
        where: Callable[[Found], object] | None = None,
        ready: bool = False,
        host: str | None = None,
        among: Collection[str] | None = None,
        timeout: float | None = 30.0,
    ) -> Found:
        """As `Fleet.wait_for`. `where` is called in the loop, and so must be quick."""
        condition = fleet_conditions.found(
            self._picture,
            self._body.following.reconciler.name_now,
            name=name,
            uuid=uuid,
            found=found,
            where=where,
            ready=ready,
            host=host,
            among=among,
            timeout=timeout,
        )
        return await self._wait(condition, timeout)

    async def wait_gone(self, found: Found, timeout: float | None = 30.0) -> Removed:
        """As `Fleet.wait_gone`."""
        name_now = self._body.following.reconciler.name_now
        return await self._wait(
            fleet_conditions.ended(self._picture, name_now, found, timeout), timeout
        )

    async def wait_stopped(self, found: Found, timeout: float | None = 30.0) -> ShutdownReason:
        """As `Fleet.wait_stopped`."""
        name_now = self._body.following.reconciler.name_now
        return await self._wait(
            fleet_conditions.stopped(self._picture, name_now, found, timeout), timeout
        )

    def events(
        self,
        *,
        events: FleetKinds | None = None,
        where: Callable[[Domain], object] | None = None,
        among: Collection[str] | None = None,
        replay: bool = True,
        queue: int = QUEUE,
        move_grace: float = MOVE_GRACE,
        reboot_grace: float = 0.0,
        name: str | None = None,
    ) -> AsyncFleetStream:
        """The events of `Fleet.events`, for `async for`. It listens from this call on."""
        wanted = FleetWanted(events, where, among)
        options = mailbox_options(
            self._picture, wanted, replay, queue, move_grace, reboot_grace, name
        )
        return AsyncFleetStream(self._picture.hub, wanted, options)

    async def close(self, timeout: float | None = 10.0) -> None:
        """As `Fleet.close`, in a thread of the loop's executor."""
        await asyncio.to_thread(self._body.close, timeout)

    @property
    def stats(self) -> FleetStats:
        """The counters now."""
        return self._body.stats

    async def _wait(self, condition: Condition[T], timeout: float | None) -> T:
        signal = LoopSignal()
        stop = self._picture.changed.on_change(signal)
        try:
            async with asyncio.timeout(as_seconds(timeout)) as limit:
                while (found := condition(False)) is None:
                    await signal.wait()
                return found
        except TimeoutError:
            if not limit.expired():
                raise  # the condition's own
        finally:
            stop()
        return last_look(condition)


@contextlib.asynccontextmanager
async def connect(
    where: str | Engine,
    *,
    tls: Tls | None = None,
    timeout: float | None = 60.0,
    stale: Prompt = "serve",
    max_stale: float | None = None,
    wait: bool = True,
) -> AsyncIterator[AsyncFleet]:
    """`domindex.fleet.connect` for `async with`. Arguments and errors are the same.

    >>> from domindex.fleet.memory import MemoryStore
    >>> async def main(store):
    ...     async with connect(store.connect()) as fleet, fleet.events() as events:
    ...         return type(await anext(events)).__name__
    >>> asyncio.run(main(MemoryStore()))
    'Synced'
    """
    max_age = most_age(stale, max_stale)
    if stale not in ("serve", "refuse"):
        raise ValueError(f"stale is 'serve' or 'refuse', not {stale!r}; or await wait_live()")
    engine = open_engine(where, tls=tls)
    body = FleetBody(engine, max_age=max_age, owns_engine=engine is not where)
    fleet = AsyncFleet(body, stale)
    try:
        await asyncio.to_thread(body.start, timeout, wait=wait)
        yield fleet
    finally:
        await asyncio.shield(fleet.close())
