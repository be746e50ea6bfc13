"""Handlers in the caller's own loop: a descriptor to poll, and one call when it is readable.

Read after runner.py; next subscription.py.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from domindex.forking import register, rlock
from domindex.limits import as_seconds
from domindex.listening.mailbox import Mailbox

T = TypeVar("T")


class CallersLoop:
    """A runner for one mailbox (see `Runner`), which works when the loop calls `dispatch`."""

    # Not KeyboardInterrupt and SystemExit: it is the caller's thread, which they are to end.
    caught: type[BaseException] = Exception
    _mailbox: Mailbox[Any]
    _deliver: Callable[[Any], object]

    def __init__(self, dispatcher: Dispatcher, *, last: bool) -> None:
        self._dispatcher = dispatcher
        self.last = last
        """It is run after the others: it calls the handlers of nodes."""
        self.wake: Callable[[], None] = dispatcher.wake
        # Held while a handler runs. Reentrant: the handler, or a signal's handler amid it, may
        # close its own subscription.
        self._calling = rlock()

    def start(self, mailbox: Mailbox[T], deliver: Callable[[T], object]) -> None:
        """See `Runner`."""
        self._mailbox, self._deliver = mailbox, deliver
        self._dispatcher.add(self)

    def runs_here(self) -> bool:
        """See `Runner`. True in handlers of others, too: they share one thread."""
        return self._dispatcher.runs_here()

    def stop(self, timeout: float | None) -> None:
        """See `Runner`."""
        self._dispatcher.remove(self)
        if self._calling.acquire(timeout=as_seconds(timeout)):
            self._calling.release()

    @property
    def pending(self) -> int:
        """How many items there are to take."""
        return self._mailbox.pending

    @property
    def due(self) -> float | None:
        """When (time.monotonic) to take although nothing wakes."""
        return self._mailbox.due

    def hand_over(self) -> bool:
        """Take one item and call the handler with it. False if there was none."""
        with self._calling:
            if (item := self._mailbox.take()) is None:
                return False
            self._deliver(item)
            return True


class Dispatcher:
    """All runners of one loop: runs them in whichever thread calls `dispatch`.

    Attributes:
        fd: An eventfd, readable when there is something to do.
    """

    def __init__(self) -> None:
        self.fd: int = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._runners: list[CallersLoop] = []
        # Guards the descriptor and the timer. Reentrant, as a signal's handler may close amid it.
        self._lock = rlock()
        # Held by the thread that dispatches. Not reentrant: a handler that calls `dispatch` must
        # be refused, as events would overtake the one it handles (P8).
        self._running = threading.Lock()
        self._thread: int | None = None  # which thread that is
        self._refused = False  # a call came meanwhile
        self._timer: threading.Timer | None = None
        self._due: float | None = None  # when it makes the descriptor readable
        self._closed = False
        register(self.after_fork)

    def add(self, runner: CallersLoop) -> None:
        """Run this one too, from the next `dispatch` on."""
        self._runners.append(runner)
        self.wake()

    def remove(self, runner: CallersLoop) -> None:
        """Run it no longer. May be called twice."""
        with contextlib.suppress(ValueError):
            self._runners.remove(runner)

    def wake(self) -> None:
        """Make the descriptor readable. From any thread, the index's above all: never fails."""
        # A program that becomes a daemon may have closed every descriptor it does not know.
        with self._lock, contextlib.suppress(OSError):
            if not self._closed:
                os.eventfd_write(self.fd, 1)

    def runs_here(self) -> bool:
        """The calling thread is running handlers just now."""
        return self._thread == threading.get_ident()

    def dispatch(self) -> int:
        """Hand over what is there; how many items. See `Index.dispatch`."""
        if not self._running.acquire(blocking=False):
            self._refuse()
            return 0
        self._thread = threading.get_ident()
        try:
            return self._hand_over()
        except BaseException:
            self.wake()  # a handler ended it: there may be more
            raise
        finally:
            self._thread = None
            self._running.release()
            if self._refused:
                self._refused = False
                self.wake()

    def _hand_over(self) -> int:
        self._silence()
        count = 0
        # Values of nodes are counted first and handed over last. When a value comes, the `Added`
        # of its domain has been in the mailboxes for long, and so is among the events counted
        # here. What comes later is left for the next call: the loop has other things to do.
        values = [(runner, runner.pending) for runner in self._runners if runner.last]
        # One event more is asked for, by which its mailbox learns that the one before is handled.
        events = [(runner, runner.pending + 1) for runner in self._runners if not runner.last]
        for runner, share in events + values:
            for _ in range(share):
                if not runner.hand_over():
                    break
                count += 1
            else:
                if runner.pending or not runner.last:
                    self.wake()
        self._set_timer()
        return count

    def _refuse(self) -> None:
        """A handler calls us, or a second thread, which could do nothing.

        It must not be woken again and again for what another does, but once when that has ended.
        """
        self._refused = True
        self._silence()
        if self._running.acquire(blocking=False):  # it has just ended, before it saw the mark
            self._running.release()
            self.wake()

    def close(self) -> None:
        """Give the descriptor back. May be called twice."""
        with self._lock:
            timer, self._timer, self._due = self._timer, None, None
            self._runners.clear()
            if not self._closed:
                self._closed = True
                with contextlib.suppress(OSError):
                    os.close(self.fd)
        if timer is not None and timer is not threading.current_thread():
            timer.cancel()
            timer.join(1.0)  # it has nothing more to do

    def after_fork(self) -> None:
        """In a child: the descriptor is a copy of the parent's, and the timer does not exist."""
        self._timer = None
        self.close()

    def _silence(self) -> None:
        with self._lock, contextlib.suppress(OSError):  # it is not readable, or not ours any more
            if not self._closed:
                os.eventfd_read(self.fd)

    def _set_timer(self) -> None:
        """Have the descriptor become readable when an item has been held back for long enough.

        A timer for an earlier time stays as it is: then the next one is set.
        """
        due = min((t for runner in self._runners if (t := runner.due) is not None), default=None)
        with self._lock:
            if due is not None and self._due is not None and self._due <= due:
                return
            if self._timer is not None:
                self._timer.cancel()
                self._timer = self._due = None
            if due is not None and not self._closed:
                timer = threading.Timer(max(0.0, due - time.monotonic()), self._on_timer, [due])
                timer.name = "domindex-timer"
                timer.daemon = True  # a program may end while a death is held back
                timer.start()
                self._timer, self._due = timer, due

    def _on_timer(self, due: float) -> None:
        """The timer of that time is done; another may have been set meanwhile."""
        with self._lock:
            if self._due == due:
                self._timer = self._due = None
            self.wake()
