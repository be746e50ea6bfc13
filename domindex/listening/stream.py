"""Events to ask for, instead of being called.

Read after waiter.py and wanted.py; next listeners.py, which makes streams.
"""

from __future__ import annotations

import itertools
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Final, Generic, Self, TypeVar

from domindex.errors import Closed, TimedOut
from domindex.events import Event
from domindex.limits import as_seconds
from domindex.listening.mailbox import Mailbox
from domindex.listening.waiter import Waiter

E = TypeVar("E")

_A_LOOK: Final = 16
"""Events that are looked at with a timeout of 0, which is to find what is there."""


class Stream(Generic[E]):
    """Events to ask for: iterate over it, or `get` one.

    For one thread at a time. Iterating ends when the stream is closed, or its index. While it is
    open it keeps the events that no call has asked for yet, up to its bound: close it, or use it
    in a `with`. A stream that is let go unclosed, as by `break`, is forgotten.
    """

    def __init__(
        self,
        mailbox: Mailbox[E],
        waiter: Waiter,
        wanted: Callable[[E], E | None],
        forget: Callable[[Mailbox[E]], None],
    ) -> None:
        self._mailbox = mailbox
        self._waiter = waiter
        self._wanted = wanted
        self._forget = forget
        # A finalizer takes no lock: it may run in any thread, amid anything.
        self._let_go = weakref.finalize(self, mailbox.abandon)
        self._let_go.atexit = False

    @property
    def pending(self) -> int:
        """Events that wait to be asked for, wanted or not."""
        return self._mailbox.pending

    @property
    def overflows(self) -> int:
        """How often the backlog was dropped, and a `Resync` given instead."""
        return self._mailbox.overflows

    def get(self, timeout: float | None = None) -> E:
        """The next wanted event; waits for it.

        Events that are not wanted are passed over within that time, and the next call goes on
        behind them.

        Args:
            timeout: Seconds to wait at most, None for as long as it takes. 0 is a look at what is
                there, at up to 16 events.

        Returns:
            The event. A `Resync` comes whatever was asked for.

        Raises:
            TimedOut: No wanted event came in time.
            Closed: The stream is closed, or its index.
            Exception: What `where=` raises; the next call then gives the next event.

        Cost:
            None on the host.
        """
        seconds = as_seconds(timeout)
        deadline = time.monotonic() + seconds
        for looked in itertools.count(1):
            if (event := self._waiter.take(self._mailbox, deadline)) is None:
                break
            if (wanted := self._wanted(event)) is not None:
                return wanted
            if time.monotonic() < deadline:
                continue
            if seconds > 0 or looked >= _A_LOOK:
                break
        if self._mailbox.closed:
            raise Closed("this stream of events is closed")
        raise TimedOut(f"no event came within {timeout} s")

    def __iter__(self) -> Iterator[E]:
        return self

    def __next__(self) -> E:
        try:
            return self.get()
        except Closed:
            raise StopIteration from None

    def close(self) -> None:
        """Stop; events that no call asked for are dropped.

        May be called twice, and from any thread: a `get` in another one then raises Closed.
        """
        self._let_go.detach()
        self._mailbox.close()
        self._forget(self._mailbox)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class EventStream(Stream[Event]):
    """The events of an index. Made by `Index.events`.

    Example:
        >>> from domindex.testing import SimulatedHost
        >>> with SimulatedHost() as host, host.connect() as index:
        ...     with index.events(replay=False) as events:
        ...         _ = host.create("web")
        ...         print([type(events.get(timeout=5)).__name__ for _ in range(2)])
        ['Synced', 'Added']
    """
