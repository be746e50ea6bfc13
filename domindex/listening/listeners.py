"""Everyone who listens to one picture: mailboxes, subscriptions, streams, the caller's loop.

The picture calls `tell` under its lock; the events go into mailboxes, from which each listener
takes by itself. The picture may be that of a host, or of a fleet with events of its own.

Read after subscription.py and dispatch.py; next hub.py, which adds followed nodes.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from domindex.forking import register
from domindex.limits import as_count, as_seconds
from domindex.listening.dispatch import CallersLoop, Dispatcher
from domindex.listening.mailbox import QUEUE, Delay, Mailbox
from domindex.listening.reboots import Reboots
from domindex.listening.runner import OwnThread, Runner
from domindex.listening.stream import Stream
from domindex.listening.subscription import ErrorHook, Subscription, called
from domindex.listening.waiter import Waiter
from domindex.stats import ListenerStats

log: logging.Logger = logging.getLogger("domindex")

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)
S = TypeVar("S", bound=Stream[Any])

LATE: Final = 10.0
"""Seconds after which an event that still waits is worth a warning: twice the usual interval of
probes. A handler that is only busy for a moment is done by then; what is later is history."""

_LONGEST_NAME: Final = 64


class Source(Protocol[E_co]):
    """What the hub asks of the picture."""

    @property
    def lock(self) -> threading.RLock:
        """Held for each change. Whoever has it sees no change."""

    def check_open(self) -> None:
        """Raises Closed if it is."""

    def first_events(self, *, replay: bool) -> Sequence[E_co]:
        """What a new listener gets first: what is present (with `replay`), `Synced`, and `Lost`
        while the picture is not live. The lock is held."""

    def resync_events(self) -> Sequence[E_co]:
        """What stands for a backlog that was dropped: `Resync`, and `Lost` while the picture is
        not live. The lock is held."""


@dataclass(frozen=True, slots=True)
class MailboxOptions:
    """What a listener's mailbox begins with, and holds. Raises ValueError, TypeError.

    replay: it begins with what is present. queue: how many events may wait. reboot_grace: seconds
    for which a death may be held back, see reboots.py. name: what the listener is called.
    """

    replay: bool = True
    queue: int = QUEUE
    reboot_grace: float = 0.0
    name: str | None = None

    def __post_init__(self) -> None:
        as_count(self.queue, "queue", 1)
        if as_seconds(self.reboot_grace, "reboot_grace") != self.reboot_grace:
            raise ValueError(f"reboot_grace is seconds from 0, not {self.reboot_grace!r}")
        name = self.name
        fine = isinstance(name, str) and name.isprintable() and 0 < len(name) <= _LONGEST_NAME
        if not (name is None or fine):
            raise ValueError(f"name is 1 to {_LONGEST_NAME} printable characters, not {name!r}")

    def delay(self) -> Delay[Any] | None:
        """What holds events back for this listener; None if nothing does."""
        return Reboots(self.reboot_grace) if self.reboot_grace else None


class Listeners(Generic[E]):
    """Who listens to one picture. Safe from any thread, listeners included.

    source: the picture.
    """

    def __init__(self, source: Source[E]) -> None:
        self._source = source
        self._lock = source.lock
        # Replaced, never changed: `tell` may go through it while a signal's handler closes one of
        # them in the same thread, and it must not need memory for a copy.
        self._mailboxes: tuple[Mailbox[E], ...] = ()
        self._subscriptions: dict[Mailbox[E], Subscription] = {}
        self._dispatcher: Dispatcher | None = None
        self._gone_overflows = self._gone_errors = 0  # of listeners that have been closed
        register(self.after_fork)

    # -- for the picture, under its lock -----------------------------------------------------

    @property
    def has_listeners(self) -> bool:
        """Whether `tell` would reach any."""
        return bool(self._mailboxes)

    def tell(self, events: Sequence[E]) -> None:
        """Put events into every mailbox, in order. Never waits, and never fails."""
        for mailbox in self._mailboxes:
            mailbox.put(events)

    # -- listening ---------------------------------------------------------------------------

    def subscribe(
        self,
        handler: Callable[[E], object],
        wanted: Callable[[E], E | None],
        options: MailboxOptions,
        *,
        on_error: ErrorHook[E] | None = None,
        threaded: bool = True,
    ) -> Subscription:
        """See `Index.subscribe`."""
        with self._lock:
            runner = self.runner(threaded, options.name)
            mailbox = self.open(runner.wake, options)
            try:
                subscription = Subscription(
                    handler, mailbox, runner, self.forget, wanted=wanted, on_error=on_error
                )
            except BaseException:  # what cannot be called, or no thread can be had
                self.forget(mailbox)
                raise
            self._subscriptions[mailbox] = subscription
            return subscription

    def stream_of(
        self,
        make: Callable[
            [Mailbox[E], Waiter, Callable[[E], E | None], Callable[[Mailbox[E]], None]], S
        ],
        wanted: Callable[[E], E | None],
        options: MailboxOptions,
    ) -> S:
        """A stream of the kind that `make` is. See `Index.events`."""
        waiter = Waiter()
        return make(self.open(waiter.wake, options), waiter, wanted, self.forget)

    def open(self, wake: Callable[[], object], options: MailboxOptions) -> Mailbox[E]:
        """A mailbox by itself, for a taker of another kind, such as asyncio's.

        Close it and `forget` it. One that was closed by its finalizer is forgotten by itself.

        wake: called when there is something to take, under the lock. It must not wait, and must
            not keep the taker alive.

        Raises Closed.
        """
        with self._lock:
            self._source.check_open()
            mailbox = Mailbox(
                self._lock,
                self._source.resync_events,
                wake,
                size=options.queue,
                delay=options.delay(),
                name=options.name,
            )
            mailbox.begin(self._source.first_events(replay=options.replay))
            self._forget_abandoned()
            self._mailboxes = (*self._mailboxes, mailbox)
            return mailbox

    def forget(self, mailbox: Mailbox[E]) -> None:
        """Its listener has been closed: what it counted stays counted."""
        with self._lock:
            if mailbox in self._mailboxes:
                self._mailboxes = tuple(box for box in self._mailboxes if box is not mailbox)
                self._gone_overflows += mailbox.overflows
            if (subscription := self._subscriptions.pop(mailbox, None)) is not None:
                self._gone_errors += subscription.errors

    def loop(self) -> Dispatcher:
        """The caller's own loop, for its `fd` and `dispatch`. Raises Closed.

        Made when it is first needed, because it takes a descriptor.
        """
        with self._lock:
            self._source.check_open()
            if self._dispatcher is None:
                self._dispatcher = Dispatcher()
            return self._dispatcher

    # -- counters ----------------------------------------------------------------------------

    @property
    def listeners(self) -> tuple[ListenerStats, ...]:
        """Who listens, and what waits for each."""
        with self._lock:
            self._forget_abandoned()
            return tuple(
                ListenerStats(
                    box.name,
                    box.pending,
                    box.oldest,
                    box.overflows,
                    self._subscriptions[box].errors if box in self._subscriptions else 0,
                )
                for box in self._mailboxes
                if not box.closed
            )

    def warn_of_late(self) -> None:
        """Log, once until it has caught up, which listener is late.

        Without the lock, as a handler of the log may look up domains. Never fails.
        """
        for box in self._mailboxes:
            if box.falls_behind(LATE):
                with contextlib.suppress(Exception):
                    log.warning(
                        "%s is late: %d events wait, the oldest for %.1f s",
                        called(box.name),
                        box.pending,
                        box.oldest,
                    )

    @property
    def overflows(self) -> int:
        """How often a backlog was dropped, of listeners that have gone too."""
        with self._lock:
            return self._gone_overflows + sum(mailbox.overflows for mailbox in self._mailboxes)

    @property
    def errors(self) -> int:
        """How often a handler failed, of listeners that have gone too."""
        with self._lock:
            return self._gone_errors + sum(it.errors for it in self._subscriptions.values())

    # -- the end -----------------------------------------------------------------------------

    def cut_off(self) -> None:
        """The first step of `close`: from now on no call of a handler begins.

        Does not wait. May be called twice, with or without the lock.
        """
        with self._lock:
            for mailbox in self._mailboxes:
                mailbox.close()

    def close(self, timeout: float) -> None:
        """Wait, at most `timeout` seconds, for calls that are under way; leaves no descriptor.

        May be called twice: the second call finishes what interrupted the first.
        """
        deadline = time.monotonic() + timeout
        self.cut_off()
        for subscription in list(self._subscriptions.values()):
            subscription.close(max(0.0, deadline - time.monotonic()))
        if self._dispatcher is not None:
            self._dispatcher.close()

    def after_fork(self) -> None:
        """In a child: every listener is closed."""
        for mailbox in self._mailboxes:
            mailbox.abandon()

    # -- within ------------------------------------------------------------------------------

    def runner(self, threaded: bool, name: str | None = None, *, last: bool = False) -> Runner:
        """A thread of its own, or a place in the caller's loop."""
        return OwnThread(name) if threaded else CallersLoop(self.loop(), last=last)

    def _forget_abandoned(self) -> None:
        """Forget the streams that were let go unclosed. The lock is held."""
        for mailbox in self._mailboxes:
            if mailbox.closed and mailbox not in self._subscriptions:
                self.forget(mailbox)
