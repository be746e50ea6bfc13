"""Who calls handlers: a thread of their own, or (dispatch.py) the caller's loop.

Read after waiter.py; next dispatch.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from domindex.limits import as_seconds
from domindex.listening.mailbox import Mailbox
from domindex.listening.waiter import Waiter

T = TypeVar("T")


class Runner(Protocol):
    """Takes from one mailbox, and calls something with each item, one after the other."""

    caught: type[BaseException]
    """What a handler may raise without ending the runner."""

    def wake(self) -> None:
        """There is something to take. Never waits."""

    def start(self, mailbox: Mailbox[T], deliver: Callable[[T], object]) -> None:
        """Take from this mailbox, and call this with each item. Once only."""

    def runs_here(self) -> bool:
        """The calling thread is the one that calls handlers just now."""

    def stop(self, timeout: float | None) -> None:
        """Wait for the call that is under way, but not for oneself. The mailbox is closed."""


class OwnThread:
    """A runner with a thread of its own, which ends when the mailbox is closed.

    name: what the listener is called; it is in the name of the thread.
    """

    # SystemExit too: it would end this thread without a word, and with it every later event.
    caught: type[BaseException] = BaseException

    def __init__(self, name: str | None = None) -> None:
        self._name = f"domindex-{name or 'listener'}"
        self._waiter = Waiter()
        self.wake: Callable[[], None] = self._waiter.wake
        self._thread: threading.Thread | None = None

    def start(self, mailbox: Mailbox[T], deliver: Callable[[T], object]) -> None:
        """See `Runner`. Raises RuntimeError if the system gives no thread."""

        def run() -> None:
            take = self._waiter.take
            while (item := take(mailbox)) is not None:
                deliver(item)

        self._thread = threading.Thread(target=run, name=self._name, daemon=True)
        self._thread.start()

    def runs_here(self) -> bool:
        """See `Runner`."""
        return threading.current_thread() is self._thread

    def stop(self, timeout: float | None) -> None:
        """See `Runner`."""
        if self._thread is not None and not self.runs_here():
            self._thread.join(as_seconds(timeout))
