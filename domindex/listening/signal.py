"""Waiting for a change without polling: for threads, and for event loops.

Read after core/table.py; next picture.py, which notifies, and conditions.py, which is waited for.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeAlias, TypeVar

from domindex.errors import TimedOut
from domindex.limits import as_seconds

T = TypeVar("T")

Condition: TypeAlias = Callable[[bool], T | None]
"""What is waited for. It returns None for "not yet". Its argument says whether this is the last
look: then it raises the error that tells best why it is still not so."""


class ChangeSignal:
    """Notified after each change; each waiting thread then looks at its condition again.

    A condition runs without a lock, in the thread that waits for it.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self._changed = threading.Condition(lock)
        self._calls: list[Callable[[], object]] = []
        self._count = 0

    def notify(self) -> None:
        """Something has changed. The lock is held."""
        self._count += 1
        self._changed.notify_all()
        for call in tuple(self._calls):  # a copy: one may remove itself
            with contextlib.suppress(BaseException):  # a caller's fault must not stop the index
                call()

    def wait_for(self, condition: Condition[T], timeout: float | None) -> T:
        """Wait until the condition holds.

        Returns:
            What the condition returned.

        Raises:
            Exception: what the condition raises, at the latest after `timeout` seconds.
        """
        deadline = time.monotonic() + as_seconds(timeout)
        while True:
            seen = self._count  # before the look: a change during the look is not missed
            if (found := condition(False)) is not None:
                return found
            left = deadline - time.monotonic()  # the look itself may have taken long
            with self._changed:
                if left <= 0 or not self._changed.wait_for(partial(self._is_past, seen), left):
                    break
        return last_look(condition)

    def _is_past(self, seen: int) -> bool:
        return self._count != seen

    def on_change(self, call: Callable[[], object]) -> Callable[[], None]:
        """Call this at each change, with the lock held, until the returned function is called."""
        with self._changed:
            self._calls.append(call)

        def stop() -> None:
            with self._changed, contextlib.suppress(ValueError):
                self._calls.remove(call)

        return stop


def last_look(condition: Condition[T]) -> T:
    """Look once more when the time is up. Raises what the condition has to say."""
    if (found := condition(True)) is None:
        raise TimedOut("what was waited for did not happen in time")
    return found
