"""What one listener has not yet heard: in order, bounded, and never waited for.

The index puts events in, under its own lock; one thread or task takes them out. Too many, and
the backlog is dropped and stands as one `Resync`, which is made only when the listener comes
for it: one that is stuck costs the index nothing.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Final, get_args

from domindex.domain import Domain, Life
from domindex.events import Event, Rebooted, Removed, Resync, ShutDown, about
from domindex.listening.callbacks import check_callable
from domindex.listening.reboots import Reboots

log = logging.getLogger("domindex")

QUEUE: Final = 10_000
"""Events that may wait for one listener, unless it says otherwise."""

_KINDS: Final = {kind for kinds in get_args(Event) for kind in get_args(kinds) or (kinds,)}


class Wanted:
    """Which events a listener asked for.

    kinds: their types, None for all; a `Resync` always is. where: called with a domain; an event
        is wanted if it holds for any domain that the event tells of, or if there is none. Of a
        life that was told of once, the stop and the end are told whatever `where` says by then.
        Only called by the listener's own thread, so that it may be slow, and raise.

    Raises ValueError for what cannot be asked for, TypeError for what cannot be called.
    """

    def __init__(
        self, kinds: Collection[type[Event]] | None, where: Callable[[Domain], object] | None
    ) -> None:
        if isinstance(kinds, type) or not _KINDS.issuperset(kinds or ()):
            raise ValueError(f"events= takes types of events, as (Added, Removed), not {kinds!r}")
        if where is not None:
            check_callable("where=", where)
        self._kinds = None if kinds is None else (*kinds, Resync)
        self._where = where
        self._let_in: set[Life] = set()  # told of, and their end not yet: `where` chose them

    def __call__(self, event: Event) -> Event | None:
        """The event as it is to be told, None if it is not.

        Raises what `where` raises; but a `Resync` must be told, without the domains it fails on.
        """
        where = self._where
        if where is None:
            return event if self._kinds is None or isinstance(event, self._kinds) else None
        let_in = self._let_in
        if self._kinds is not None and not isinstance(event, self._kinds):
            match event:  # it ends all the same
                case Removed(domain) | Rebooted(domain):
                    let_in.discard(domain.life)
            return None
        match event:
            case Resync(domains):
                domains = tuple(filter(self._holds, domains))
                let_in.clear()
                let_in.update(domain.life for domain in domains)
                return replace(event, domains=domains)
            case Removed(domain):
                if domain.life in let_in:
                    let_in.remove(domain.life)
                    return event
                return event if where(domain) else None
            case Rebooted(domain) | ShutDown(domain) if domain.life in let_in:
                domains = about(event)
            case _:
                domains = about(event)
                if domains and not any(map(where, domains)):
                    return None
        let_in.update(domain.life for domain in domains)
        if isinstance(event, Rebooted):
            let_in.discard(event.old.life)
        return event

    def _holds(self, domain: Domain) -> object:
        assert self._where is not None
        try:
            return self._where(domain)
        except Exception:
            with contextlib.suppress(Exception):
                log.exception("where= of a listener failed on domain %d", domain.domid)
            return False


class Mailbox:
    """A bounded queue of events between the index and one listener.

    lock: of the index; whoever puts anything in holds it.
    present: the events that stand for everything, for a listener whose backlog was dropped.
        Called under the lock.
    size: how many events may wait. reboot_grace: see `Reboots`; 0 holds nothing back.
    wake: called when there is something to take. Must not wait for anything.
    """

    def __init__(
        self,
        lock: threading.RLock,
        present: Callable[[], Sequence[Event]],
        wake: Callable[[], object],
        *,
        size: int = QUEUE,
        reboot_grace: float = 0.0,
    ) -> None:
        self._lock = lock
        self._present = present
        self._wake = wake
        self._size = size
        self._queue: deque[tuple[float, Event]] = deque()  # with their time.monotonic()
        self._ready: deque[Event] = deque()  # past the bound and the reboots, to be taken first
        self._reboots = Reboots(reboot_grace) if reboot_grace > 0 else None
        self._overflowed = False
        self.closed = False
        self.overflows = 0
        """How often the backlog was dropped."""
        # Events are counted as they are put in, for `drained`. What stands for dropped ones
        # stands for all until then, and what was there at the beginning counts as one.
        self._put = 0  # so many so far
        self._taken = 0  # so many came out of the queue, but may be half told yet
        self._handled = 0  # so many were told whole, and the next was asked for
        self._moved = threading.Condition()  # what somebody waits for may have come about
        self._waiting = 0  # so many wait for that

    # -- for the index, under its lock -------------------------------------------------------

    def begin(self, events: Sequence[Event]) -> None:
        """Before all else: what was there already. However much it is, it is no backlog."""
        self._ready.extend(events)
        self._put = self._taken = 1 if events else 0

    def put(self, events: Sequence[Event]) -> None:
        """Queue events in order. Never waits, and never fails: others are still to be told."""
        if self.closed or not events:
            return
        self._put += len(events)
        if not self._overflowed:
            try:
                if len(self._queue) + len(events) <= self._size:
                    self._queue.extend(zip(repeat(time.monotonic()), events))
                else:
                    self._overflow()
            except BaseException:  # no memory: what came of it would be a change told by half
                self._overflow()
        with contextlib.suppress(BaseException):
            self._wake()

    # -- for the listener --------------------------------------------------------------------

    def take(self) -> Event | None:
        """The next event; None if there is nothing to tell now. The last one was handled."""
        while not self.closed:
            try:
                if self._ready:
                    return self._ready.popleft()
                if self._handled != self._taken:
                    self._handled = self._taken
                    if self._waiting:
                        self.moved()
                at, event = self._queue.popleft()
            except IndexError:
                if self._overflowed:
                    self._refill()
                elif not self._expired(time.monotonic()):
                    return None
                continue
            self._taken += 1
            if self._reboots is None:
                return event
            # By the time at which they came, which a slow listener does not stretch.
            self._expired(at)
            self._ready.extend(self._reboots.pass_on(event, at))
        return None

    @property
    def due(self) -> float | None:
        """When (time.monotonic) to look again although nobody wakes: a death is held back."""
        return None if self._reboots is None else self._reboots.due

    @property
    def empty(self) -> bool:
        """There is nothing to take, but for what `due` tells of."""
        return not (self._queue or self._ready or self._overflowed)

    @property
    def pending(self) -> int:
        """How many events there are to take; an overflow is one."""
        return 0 if self.closed else len(self._queue) + len(self._ready) + self._overflowed

    # -- for anyone --------------------------------------------------------------------------

    def drained(self, timeout: float | None) -> bool:
        """Wait until all that was put in by now was handled; False if it is closed, or late.

        It was once the next is asked for. A death that is held back is not waited for.
        """
        until = self._put
        return self.wait_until(lambda: self._handled >= until, timeout) and not self.closed

    def wait_until(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Wait for what `moved` is called after, or for the close; whether it came in time."""
        with self._moved:
            self._waiting += 1
            try:
                return self._moved.wait_for(lambda: self.closed or condition(), timeout)
            finally:
                self._waiting -= 1

    def moved(self) -> None:
        """Whoever waits is to look again."""
        with self._moved:
            self._moved.notify_all()

    def close(self) -> None:
        """Drop everything, now and from now on; nobody waits for it any more."""
        self.abandon()
        self.moved()
        self._wake()

    def abandon(self) -> None:
        """Its listener was let go unclosed. May be called amid anything: it takes no lock."""
        self.closed = True
        self._queue.clear()
        self._ready.clear()

    def _after_fork(self) -> None:
        """In a child: nobody takes any more, and a lock may be held by a thread that is not."""
        self._lock = threading.RLock()
        self._moved = threading.Condition()
        self._wake = _nobody
        self.abandon()

    def _overflow(self) -> None:
        self._overflowed = True
        self.overflows += 1
        self._queue.clear()

    def _refill(self) -> None:
        with self._lock:
            if self._reboots is not None:
                self._reboots.forget()
            self._ready.extend(self._present())
            self._taken = self._put
            self._overflowed = False

    def _expired(self, now: float) -> bool:
        """Let deaths go that were held back for long enough; whether there were any."""
        if self._reboots is None:
            return False
        self._ready.extend(self._reboots.expired(now))
        return bool(self._ready)


def _nobody() -> None:
    """Whom to wake in a child."""
