"""Waiting for the index to change, without polling: in threads, and for whoever has a loop."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Bell:
    """Rings after each change; whoever waits then looks again.

    What is waited for is a function that looks and gives None for not yet. It runs under no
    lock, in the thread of whoever waits.
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
            with contextlib.suppress(Exception):  # the index goes on, whoever is called
                call()

    def wait_for(self, look: Callable[[], T | None], timeout: float) -> T | None:
        """What `look()` gives as soon as that is not None; None after `timeout` seconds."""
        deadline = time.monotonic() + min(timeout, threading.TIMEOUT_MAX)
        while True:
            seen = self.count  # before the look: what changes from now on is not missed
            if (found := look()) is not None:
                return found
            with self._rung:
                if not self._rung.wait_for(
                    lambda seen=seen: self.count != seen,  # type: ignore[misc]
                    max(0.0, deadline - time.monotonic()),
                ):
                    return None

    def on_ring(self, call: Callable[[], object]) -> Callable[[], None]:
        """Call this at each ring, under the lock, until the result is called."""
        with self._rung:
            self._calls.append(call)

        def stop() -> None:
            with self._rung, contextlib.suppress(ValueError):
                self._calls.remove(call)

        return stop
