"""Events for `async for`, and what wakes the tasks of a loop from other threads.

Read after mailbox.py and listeners.py; used by aio.py. Where asyncio waits for an event:
`AsyncStream.__anext__`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections.abc import Callable
from typing import Generic, Self, TypeVar

from domindex.errors import NoEventLoop
from domindex.events import Event
from domindex.listening.listeners import Listeners, MailboxOptions

E = TypeVar("E")


class AsyncStream(Generic[E]):
    """Events to iterate over with `async for`; for one loop.

    Iterating ends when it is closed, or its index. A task that is cancelled while it waits for an
    event misses none. Other tasks run between any two events. Close it, or use it in an
    `async with`: while it is open it keeps what was not asked for, up to its bound. One that is
    left unclosed, as by `break`, is closed when it is collected.
    """

    def __init__(
        self, hub: Listeners[E], wanted: Callable[[E], E | None], options: MailboxOptions
    ) -> None:
        self._wanted = wanted
        self._signal = LoopSignal()
        self._hub = hub
        self._mailbox = hub.open(self._signal, options)
        self._let_go = weakref.finalize(self, self._mailbox.abandon)
        self._let_go.atexit = False

    @property
    def pending(self) -> int:
        """Events that wait to be asked for."""
        return self._mailbox.pending

    @property
    def overflows(self) -> int:
        """How often its backlog was dropped, and a `Resync` came in its place."""
        return self._mailbox.overflows

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        while True:
            await asyncio.sleep(0)  # however many events there are, other tasks have their turn
            if (event := self._mailbox.take()) is not None:
                if (told := self._wanted(event)) is not None:
                    return told
            elif self._mailbox.closed:
                raise StopAsyncIteration
            else:
                due = self._mailbox.due
                left = None if due is None else max(0.0, due - time.monotonic())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._signal.wait()

    def close(self) -> None:
        """Stop; events not asked for are dropped. May be called twice, and from any thread."""
        self._let_go.detach()
        self._hub.forget(self._mailbox)
        self._mailbox.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class AsyncEventStream(AsyncStream[Event]):
    """The events of an index. Made by `AsyncIndex.events`."""


class LoopSignal:
    """Wakes the tasks of one loop, from any thread. It does not wait, and does not fail there.

    waiting, stop: for `AsyncIndex._signal`.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = running_loop()
        self.waiting = 0
        self.stop: Callable[[], None] = nothing
        self._arrived = asyncio.Event()
        self._under_way = False  # one message to the loop is enough

    def __call__(self) -> None:
        if not self._under_way:
            self._under_way = True
            try:
                self.call(self._arrive)
            except BaseException:  # no memory for the message: the next call must send one
                self._under_way = False
                raise

    def call(self, function: Callable[[], object]) -> None:
        """Have the loop call this. If the loop is closed no task waits, and nothing happens."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function)

    def _arrive(self) -> None:
        self._under_way = False
        self._arrived.set()  # for the tasks that wait now; a later one looks before it waits
        self._arrived.clear()

    async def wait(self) -> None:
        """Wait for the next call of this signal, or one that is under way."""
        await self._arrived.wait()


def running_loop() -> asyncio.AbstractEventLoop:
    """The loop that this runs in. Raises NoEventLoop."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise NoEventLoop(
            "domindex.aio works in a running asyncio loop, and there is none here; for trio and "
            "other loops see domindex.aio's documentation, for threads use domindex.connect()"
        ) from None


def nothing(*_: object) -> None:
    """Do nothing."""
