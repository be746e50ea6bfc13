"""How a thread waits for a mailbox.

Read after mailbox.py; next runner.py and stream.py, which take in this way.
"""

from __future__ import annotations

import threading
import time
from typing import TypeVar

from domindex.forking import rlock
from domindex.listening.mailbox import Mailbox

T = TypeVar("T")


class Waiter:
    """Lets one thread sleep until there is something to take.

    An object of its own, because the mailbox keeps its `wake`: it must not keep a stream alive
    which no program holds any more.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(rlock())

    def wake(self) -> None:
        """There is something to take, or the mailbox was closed."""
        with self._changed:
            self._changed.notify_all()

    def take(self, mailbox: Mailbox[T], deadline: float | None = None) -> T | None:
        """The next item. None once the mailbox is closed, or at the deadline (time.monotonic)."""
        while (item := mailbox.take()) is None and not mailbox.closed:
            with self._changed:
                while mailbox.empty and not mailbox.closed:
                    until = min((t for t in (deadline, mailbox.due) if t is not None), default=None)
                    left = None if until is None else until - time.monotonic()
                    if left is not None and left <= 0:
                        if until == deadline:
                            return None
                        break
                    self._changed.wait(left)
        return item
