"""What waits for one listener: in order, bounded, and never waited for.

The index is the only writer: it puts items in, under its own lock. The listener is the only
taker: one thread or task, which asks for one item after the other.

The queue between them is a `collections.deque`, whose `extend` and `popleft` are each one step
under the interpreter's lock. So the taker needs no lock for an ordinary item, and a listener that
is slow or stuck never holds the index up.

If more items come than may wait, the whole backlog is dropped: without some of its items, a
listener would see one part of a change. What stands for it (for events one `Resync`) is made only
when the listener asks for the next item, under the index's lock: so it is of that moment, and a
listener that is stuck costs the index nothing. Until then further items are counted and dropped.

Two counters serve `drained`. `_put` counts what the index has put in so far; only the writer
changes it. `_handled` counts what the listener has handled; only the taker changes it. An item
counts as handled when the next one is asked for. What stands for a dropped backlog counts for all
items up to the moment it was made.

Read after reboots.py; next waiter.py.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Final, Generic, Protocol, TypeVar

from domindex.forking import rlock

T = TypeVar("T")

QUEUE: Final = 10_000
"""Events that may wait for one listener, unless it says otherwise."""


class Delay(Protocol[T]):
    """Holds items back for a while: for events, `Reboots`. Times are of `time.monotonic`."""

    @property
    def due(self) -> float | None:
        """When `expired` will next give something; None while nothing is held back."""

    def expired(self, now: float) -> Iterable[T]:
        """What has been held back for long enough."""

    def pass_on(self, item: T, now: float) -> Iterable[T]:
        """What to give in place of an item, which may be nothing yet."""

    def forget(self) -> None:
        """Drop what is held back."""


class Mailbox(Generic[T]):
    """A bounded queue between the index and one listener.

    Args:
        lock: Of the index. Whoever puts anything in holds it.
        refill: Gives what stands for a backlog that was dropped. Called under the lock.
        wake: Called when there is something to take. Must not wait for anything.
        size: How many items may wait.
        delay: Holds some of them back; None holds nothing back.
        name: What the listener is called, for those who look after it.
    """

    def __init__(
        self,
        lock: threading.RLock,
        refill: Callable[[], Iterable[T]],
        wake: Callable[[], object],
        *,
        size: int = QUEUE,
        delay: Delay[T] | None = None,
        name: str | None = None,
    ) -> None:
        self.name = name
        self._lock = lock
        self._refill_with = refill
        self._wake = wake
        self._size = size
        self._delay = delay
        self._queue: deque[tuple[float, T]] = deque()  # with the time at which each was put in
        self._ready: deque[T] = deque()  # past the bound and the delay: to be taken first
        self._since = 0.0  # when the oldest of `_ready`, or of a dropped backlog, was put in
        self._overflowed = False
        self._behind = False  # it was late, and has not caught up since
        self.closed: bool = False
        self.overflows: int = 0
        """How often the backlog was dropped."""
        self._put = 0  # items put in so far
        self._handled = 0  # of these, handled by the listener
        self._in_hand = 0  # of these, what the listener has taken stands for so many; the taker's
        self._progress = threading.Condition(rlock())  # for those who wait for the listener
        self._waiting = 0  # how many do

    # -- for the index, under its lock -------------------------------------------------------

    def begin(self, items: Sequence[T]) -> None:
        """Before anything else: what is present already. It does not count against the bound.

        For `drained` all of it together is one item.
        """
        self._since = time.monotonic()
        self._ready.extend(items)
        self._put = self._in_hand = 1 if items else 0

    def put(self, items: Sequence[T]) -> None:
        """Queue items in order. Never waits, and never fails: others are still to get theirs."""
        if self.closed or not items:
            return
        try:
            # Counted before they can be taken: else they might be handled before they count.
            self._put += len(items)
            if not self._overflowed:
                if len(self._queue) + len(items) <= self._size:
                    self._queue.extend(zip(repeat(time.monotonic()), items))
                else:
                    self._overflow()
        except BaseException:  # no memory: some of them may be in the queue and others not
            self._overflow()
        with contextlib.suppress(BaseException):
            self._wake()

    # -- for the listener --------------------------------------------------------------------

    def take(self) -> T | None:
        """The next item; None if there is none now. The one before it has been handled."""
        while not self.closed:
            # IndexError is how an empty queue is seen: a look before `popleft` would be a step of
            # its own, and between the two a thread or a signal's handler may close the mailbox.
            try:
                if self._ready:
                    return self._ready.popleft()
                if self._in_hand:
                    self._handled += self._in_hand
                    self._in_hand = 0
                    # Not for each event: it takes 0.3 us with this look, 0.9 us with `progress`.
                    if self._waiting:
                        self.progress()
                at, item = self._queue.popleft()
            except IndexError:
                if self._overflowed:
                    self._refill()
                elif not self._expired(time.monotonic()):
                    return None
                continue
            self._in_hand = 1
            if self._delay is None:
                return item
            # By the time at which it was put in: a slow listener does not stretch the delay.
            self._expired(at)
            self._ready.extend(self._delay.pass_on(item, at))
        return None

    @property
    def due(self) -> float | None:
        """When (time.monotonic) to take although nothing wakes: an item is held back till then."""
        return None if self._delay is None else self._delay.due

    @property
    def empty(self) -> bool:
        """There is nothing to take now."""
        return not (self._queue or self._ready or self._overflowed)

    @property
    def pending(self) -> int:
        """How many items there are to take. What stands for a dropped backlog counts as one."""
        return 0 if self.closed else len(self._queue) + len(self._ready) + self._overflowed

    @property
    def oldest(self) -> float:
        """For how many seconds the oldest of these has waited; 0.0 if there is none."""
        if not self.pending:
            return 0.0
        since = self._since
        if not (self._ready or self._overflowed):
            try:
                since = self._queue[0][0]
            except IndexError:  # it has just been taken
                return 0.0
        return max(0.0, time.monotonic() - since)

    def falls_behind(self, seconds: float) -> bool:
        """Whether the oldest has waited for longer: True once, and again after it caught up."""
        before, late = self._behind, self.oldest > seconds
        self._behind = late or (before and bool(self.pending))
        return late and not before

    # -- for anyone --------------------------------------------------------------------------

    def drained(self, timeout: float | None) -> bool:
        """Wait until all that was put in by now was handled. False after `timeout`, or if closed.

        An item that is held back is not waited for.
        """
        until = self._put
        return self.wait_until(lambda: self._handled >= until, timeout) and not self.closed

    def wait_until(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until this holds, which is looked at after each `progress`, or until the close.

        False after `timeout` seconds.
        """
        with self._progress:
            self._waiting += 1  # before the first look: progress made from now on is signalled
            try:
                return self._progress.wait_for(lambda: self.closed or condition(), timeout)
            finally:
                self._waiting -= 1

    def progress(self) -> None:
        """Have those look again who wait in `wait_until`."""
        with self._progress:
            self._progress.notify_all()

    def close(self) -> None:
        """Drop everything, now and from now on, and end every wait. May be called twice."""
        self.abandon()
        self.progress()
        self._wake()

    def abandon(self) -> None:
        """Drop everything, now and from now on.

        Takes no lock, because it is also called when a stream that no program holds any more is
        collected, which may happen in any thread amid anything.
        """
        self.closed = True
        self._queue.clear()
        self._ready.clear()

    # -- within ------------------------------------------------------------------------------

    def _overflow(self) -> None:
        with contextlib.suppress(BaseException):  # no memory
            self._since = time.monotonic() - self.oldest
        self._overflowed = True
        self.overflows += 1
        self._queue.clear()

    def _refill(self) -> None:
        with self._lock:
            if self._delay is not None:
                self._delay.forget()
            self._ready.extend(self._refill_with())
            self._in_hand = self._put - self._handled
            self._overflowed = False

    def _expired(self, now: float) -> bool:
        """Make ready what was held back for long enough; whether there is anything."""
        if self._delay is None:
            return False
        self._since = now
        self._ready.extend(self._delay.expired(now))
        return bool(self._ready)
