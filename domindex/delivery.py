"""Listeners: each hears every event once, in order, in a thread of its own.

The index puts events into a queue and never waits. A handler that is slow or stuck holds up
nobody else; one that raises is reported and called again for the next event.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Self

from domindex.events import Event

Handler = Callable[[Event], object]

CROWD = 10_000
"""Events that may wait for one listener before it is said in the log, once."""

log = logging.getLogger("domindex")


class Subscription:
    """One listener. Made by `Index.subscribe`; ends with `close()` or with its index."""

    def __init__(self, handler: Handler, forget: Callable[[Subscription], None]) -> None:
        self._handler = handler
        self._forget = forget
        self._queue: deque[Event] = deque()
        self._ready = threading.Condition()
        self._closed = self._crowded = False
        self.errors = 0
        """How often the handler raised. Each time is logged with its traceback."""
        self._thread = threading.Thread(target=self._run, name="domindex-listener", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Events taken in and not yet handed over."""
        return len(self._queue)

    def put(self, events: Iterable[Event]) -> None:
        """For the index: queue events in order. Never waits."""
        with self._ready:
            if not self._closed:
                self._queue.extend(events)
                self._ready.notify()
                crowded, self._crowded = self._crowded, len(self._queue) > CROWD
        if self._crowded and not crowded:
            with contextlib.suppress(Exception):
                log.warning("a listener is more than %d events behind", CROWD)

    def _after_fork(self) -> None:
        """In a child: the thread is not there, and the lock may be held by nobody."""
        self._ready = threading.Condition()
        self._closed = True
        self._queue.clear()

    def close(self, timeout: float | None = 5.0) -> None:
        """Stop listening; what is still queued is dropped.

        After this returns the handler is not called again. It waits, at most `timeout`
        seconds, for a call that is under way; called from the handler itself it does not
        wait, and the promise holds from the moment the handler returns. May be called twice.
        """
        with self._ready:
            self._closed = True
            self._queue.clear()
            self._ready.notify()
        self._forget(self)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while (event := self._next()) is not None:
            try:
                self._handler(event)
            except BaseException:  # SystemExit too: it would end this thread without a word
                self.errors += 1
                with contextlib.suppress(Exception):  # a log that fails must not end us either
                    log.exception("a listener failed on %s; it goes on", type(event).__name__)

    def _next(self) -> Event | None:
        with self._ready:
            while not self._queue and not self._closed:
                self._ready.wait()
            return None if self._closed else self._queue.popleft()
