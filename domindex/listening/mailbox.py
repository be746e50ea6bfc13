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
from typing import Final, NamedTuple, get_args

from domindex.domain import Domain, Life
from domindex.events import Event, Rebooted, Removed, Resync, ShutDown, about
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

    Raises ValueError for what cannot be asked for.
    """

    def __init__(
        self, kinds: Collection[type[Event]] | None, where: Callable[[Domain], object] | None
    ) -> None:
        if isinstance(kinds, type) or not _KINDS.issuperset(kinds or ()):
            raise ValueError(f"events= takes types of events, as (Added, Removed), not {kinds!r}")
        if where is not None and not callable(where):
            raise ValueError(f"where= is called with a domain, and {where!r} cannot be")
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


class _Put(NamedTuple):
    event: Event
    at: float  # time.monotonic()


class _Mark(NamedTuple):
    reached: Callable[[], object]


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
        self._queue: deque[_Put | _Mark] = deque()
        self._ready: deque[Event] = deque()  # past the bound and the reboots, to be taken first
        self._held_marks: list[_Mark] = []  # reached once what stands for the backlog was taken
        self._reboots = Reboots(reboot_grace) if reboot_grace > 0 else None
        self._overflowed = False
        self.closed = False
        self.overflows = 0
        """How often the backlog was dropped."""

    # -- for the index, under its lock -------------------------------------------------------

    def begin(self, events: Sequence[Event]) -> None:
        """Before all else: what was there already. However much it is, it is no backlog."""
        self._ready.extend(events)

    def put(self, events: Sequence[Event]) -> None:
        """Queue events in order. Never waits."""
        if self.closed or not events:
            return
        if not self._overflowed:
            if self._has_room(len(events)):
                now = time.monotonic()
                self._queue.extend(_Put(event, now) for event in events)
            else:
                self._overflowed = True
                self.overflows += 1
                self._held_marks += self._emptied()
        self._wake()

    # -- for the listener --------------------------------------------------------------------

    def take(self) -> Event | None:
        """The next event; None if there is nothing to tell now."""
        while not self.closed:
            try:
                if self._ready:
                    return self._ready.popleft()
                waiting = self._queue.popleft()
            except IndexError:
                if self._overflowed:
                    self._refill()
                elif not self._expired(time.monotonic()):
                    return None
                continue
            if isinstance(waiting, _Mark):
                waiting.reached()
            elif self._reboots is None:
                return waiting.event
            else:
                # By the time at which they came, which a slow listener does not stretch.
                self._expired(waiting.at)
                self._ready.extend(self._reboots.pass_on(waiting.event, waiting.at))
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

    def mark(self, reached: Callable[[], object]) -> None:
        """Call `reached` once everything put in before was taken, and the next is asked for."""
        with self._lock:
            if self.closed:
                reached()
            elif self._overflowed:
                self._held_marks.append(_Mark(reached))
            else:
                self._queue.append(_Mark(reached))
        self._wake()

    def close(self) -> None:
        """Drop everything, now and from now on; whoever waits for a mark need not."""
        with self._lock:
            self.closed = True
            marks, self._held_marks = self._held_marks + self._emptied(), []
            self._ready.clear()
        for mark in marks:
            mark.reached()
        self._wake()

    def _after_fork(self) -> None:
        """In a child: nobody takes any more, and a lock may be held by a thread that is not."""
        self.closed = True
        self._lock = threading.RLock()
        self._wake = _nobody
        self._emptied()
        self._ready.clear()

    def _refill(self) -> None:
        with self._lock:
            if self._reboots is not None:
                self._reboots.forget()
            self._ready.extend(self._present())
            self._queue.extend(self._held_marks)
            self._held_marks.clear()
            self._overflowed = False

    def _expired(self, now: float) -> bool:
        """Let deaths go that were held back for long enough; whether there were any."""
        if self._reboots is None:
            return False
        self._ready.extend(self._reboots.expired(now))
        return bool(self._ready)

    def _has_room(self, count: int) -> bool:
        """Marks take none. They are counted only where it may matter."""
        if (over := len(self._queue) + count - self._size) <= 0:
            return True
        return over <= sum(isinstance(waiting, _Mark) for waiting in self._queue.copy())

    def _emptied(self) -> list[_Mark]:
        """Clear the queue, from which the listener may be taking just now; the marks in it."""
        marks: list[_Mark] = []
        while True:
            try:
                waiting = self._queue.popleft()
            except IndexError:
                return marks
            if isinstance(waiting, _Mark):
                marks.append(waiting)


def _nobody() -> None:
    """Whom to wake in a child."""
