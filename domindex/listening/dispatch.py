"""Handlers in the caller's own loop: a descriptor to poll, and one call when it is readable."""

from __future__ import annotations

import contextlib
import os
import threading
import time

from domindex.listening.delivery import Subscription


class Dispatcher:
    """Runs the handlers of its subscriptions in whichever thread calls `dispatch`."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._subscriptions: list[Subscription] = []
        self._lock = threading.RLock()  # guards the descriptor and the timer, from signals too
        self._running = threading.Lock()
        self._runner: int | None = None  # the thread that is at it
        self._refused = False  # somebody asked meanwhile
        self._timer: threading.Timer | None = None
        self._due: float | None = None  # when it rings
        self._closed = False

    def add(self, subscription: Subscription) -> None:
        self._subscriptions.append(subscription)
        self.wake()

    def remove(self, subscription: Subscription) -> None:
        with contextlib.suppress(ValueError):
            self._subscriptions.remove(subscription)

    def wake(self) -> None:
        """Make the descriptor readable. From any thread, the index's above all: never fails."""
        # A program that becomes a daemon may have closed every descriptor it does not know.
        with self._lock, contextlib.suppress(OSError):
            if not self._closed:
                os.eventfd_write(self.fd, 1)

    def runs_here(self) -> bool:
        """This thread is running handlers just now."""
        return self._runner == threading.get_ident()

    def dispatch(self) -> int:
        """Hand over what is there; how many events. See `Index.dispatch`."""
        if not self._running.acquire(blocking=False):
            self._refuse()  # a handler asks, or another thread is at it
            return 0
        self._runner = threading.get_ident()
        try:
            return self._hand_over()
        except BaseException:
            self.wake()  # a handler ended it: there may be more
            raise
        finally:
            self._runner = None
            self._running.release()
            if self._refused:
                self._refused = False
                self.wake()

    def _hand_over(self) -> int:
        self._silence()
        count = 0
        for subscription in tuple(self._subscriptions):
            for _ in range(subscription.pending + 1):
                if not subscription._hand_over():
                    break
                count += 1
            else:
                self.wake()  # more came meanwhile: the loop has other things to do first
        self._set_timer()
        return count

    def _refuse(self) -> None:
        """Whoever asks in vain must not be woken again and again, but once it is of use."""
        self._refused = True
        self._silence()
        if self._running.acquire(blocking=False):  # it has just come to its end
            self._running.release()
            self.wake()

    def close(self) -> None:
        """Give the descriptor back. May be called twice."""
        with self._lock:
            timer, self._timer, self._due = self._timer, None, None
            if not self._closed:
                self._closed = True
                with contextlib.suppress(OSError):
                    os.close(self.fd)
        if timer is not None and timer is not threading.current_thread():
            timer.cancel()
            timer.join(1.0)  # it has nothing more to do

    def _after_fork(self) -> None:
        """In a child: the descriptor is a copy of the parent's, the locks may be held by nobody."""
        self._lock = threading.RLock()
        self._running = threading.Lock()
        self._timer = self._due = None
        self.close()

    def _silence(self) -> None:
        with self._lock, contextlib.suppress(OSError):  # not readable, or not there
            if not self._closed:
                os.eventfd_read(self.fd)

    def _set_timer(self) -> None:
        """Have the descriptor become readable when a death has been held back for long enough.

        One that is set for an earlier time stays: then it is looked again.
        """
        due = min((t for s in self._subscriptions if (t := s._due) is not None), default=None)
        with self._lock:
            if due is not None and self._due is not None and self._due <= due:
                return
            if self._timer is not None:
                self._timer.cancel()
                self._timer = self._due = None
            if due is not None and not self._closed:
                timer = threading.Timer(max(0.0, due - time.monotonic()), self._ring, [due])
                timer.name = "domindex-timer"
                timer.daemon = True
                timer.start()
                self._timer, self._due = timer, due

    def _ring(self, due: float) -> None:
        """The timer of that time is done."""
        with self._lock:
            if self._due == due:
                self._timer = self._due = None
            self.wake()
