"""Waiting for the index to change, without polling: in threads, and for whoever has a loop."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeAlias, TypeVar

from domindex.errors import TimedOut

T = TypeVar("T")

Look: TypeAlias = Callable[[bool], T | None]
"""What is waited for: it gives None for not yet. Told that this is the last look, it raises why."""


class Bell:
    """Rings after each change; whoever waits then looks again.

    A look runs under no lock, in the thread of whoever waits.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self._rung = threading.Condition(lock)
        self._calls: list[Callable[[], object]] = []
        self.count = 0

    def ring(self) -> None:
        """Something has changed. The lock is held."""
        self.count += 1
        self._rung.notify_all()
        for call in tuple(self._calls):  # one may stop itself
            with contextlib.suppress(BaseException):  # the index goes on, whoever is called
                call()

    def wait_for(self, look: Look[T], timeout: float) -> T:
        """What the look gives; after `timeout` seconds it raises what its last one does."""
        deadline = time.monotonic() + min(timeout, threading.TIMEOUT_MAX)
        while True:
            seen = self.count  # before the look: what changes from now on is not missed
            if (found := look(False)) is not None:
                return found
            left = deadline - time.monotonic()  # it may be the look that takes long
            with self._rung:
                if left <= 0 or not self._rung.wait_for(partial(self._has_rung, seen), left):
                    break
        return last(look)

    def _has_rung(self, since: int) -> bool:
        return self.count != since

    def on_ring(self, call: Callable[[], object]) -> Callable[[], None]:
        """Call this at each ring, under the lock, until the result is called."""
        with self._rung:
            self._calls.append(call)

        def stop() -> None:
            with self._rung, contextlib.suppress(ValueError):
                self._calls.remove(call)

        return stop


def last(look: Look[T]) -> T:
    """What a look finds when the time is up. Raises what it has to say if that is nothing."""
    if (found := look(True)) is None:
        raise TimedOut("it did not come in time")
    return found
