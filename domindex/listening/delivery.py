"""Listeners: each hears every event once, in order, at its own pace.

The index puts events into a mailbox and never waits. A handler that is slow or stuck holds up
nobody else; one that raises is reported and called again for the next event. Handlers run in a
thread of their own, or in the caller's loop (dispatch.py); whoever would rather ask for events
than be called iterates over an `EventStream`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol, Self

from domindex.errors import Closed, TimedOut
from domindex.events import Event, Synced
from domindex.listening.mailbox import Mailbox, Wanted

Handler = Callable[[Event], object]
ErrorHook = Callable[[Event, BaseException], object]
Opener = Callable[[Callable[[], object]], Mailbox]
"""Opens a mailbox of the index, given what wakes its listener."""

log = logging.getLogger("domindex")


class Loop(Protocol):
    """The caller's own loop, that runs handlers when it comes to it. See dispatch.py."""

    def add(self, subscription: Subscription) -> None: ...
    def remove(self, subscription: Subscription) -> None: ...
    def wake(self) -> None: ...
    def runs_here(self) -> bool: ...


class EventStream:
    """Events to ask for: iterate over it, or `get` one. Made by `Index.events`.

    For one thread at a time. Iterating ends when it is closed, or its index. Close it, or use
    it in a `with`: while it is open it keeps what nobody has asked for yet, up to its bound.
    """

    def __init__(self, opener: Opener, wanted: Wanted, forget: Callable[[Mailbox], None]) -> None:
        self._changed = threading.Condition()
        self._wanted = wanted
        self._forget = forget
        self._mailbox = opener(self._wake)

    @property
    def pending(self) -> int:
        """Events taken in and not yet asked for."""
        return self._mailbox.pending

    @property
    def overflows(self) -> int:
        """How often its backlog was dropped, and a `Resync` told instead."""
        return self._mailbox.overflows

    def get(self, timeout: float | None = None) -> Event:
        """The next event; waits for it, at most `timeout` seconds. Raises TimedOut, Closed."""
        deadline = _deadline(timeout)
        while (event := self._next(deadline)) is not None:
            if (wanted := self._wanted(event)) is not None:
                return wanted
        if self._mailbox.closed:
            raise Closed("this stream of events is closed")
        raise TimedOut(f"no event came within {timeout} s")

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        try:
            return self.get()
        except Closed:
            raise StopIteration from None

    def close(self) -> None:
        """Stop; what nobody asked for is dropped. May be called twice, and from any thread."""
        self._forget(self._mailbox)
        self._mailbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self, deadline: float | None = None) -> Event | None:
        """For this package: the next event, wanted or not; None if closed or late."""
        mailbox = self._mailbox
        while (event := mailbox.take()) is None and not mailbox.closed:
            with self._changed:
                while mailbox.empty and not mailbox.closed:
                    until = min((t for t in (deadline, mailbox.due) if t is not None), default=None)
                    left = None if until is None else until - time.monotonic()
                    if left is not None and left <= 0:
                        if until == deadline:
                            return None
                        break
                    self._changed.wait(left)
        return event

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _after_fork(self) -> None:
        self._changed = threading.Condition()
        self._mailbox._after_fork()


class Subscription:
    """One listener. Made by `Index.subscribe`; ends with `close()` or with its index.

    handler: called with each wanted event. on_error: called with the event and what the handler
    raised. loop: runs the handler instead of a thread of its own.
    """

    def __init__(
        self,
        handler: Handler,
        opener: Opener,
        forget: Callable[[Mailbox], None],
        *,
        wanted: Wanted | None = None,
        on_error: ErrorHook | None = None,
        loop: Loop | None = None,
    ) -> None:
        self._handler = handler
        self._on_error = on_error
        self._wanted = wanted or Wanted(None, None)
        self._synced = False
        self._settled = threading.Event()  # it is synced, or will never be
        self.errors = 0
        """How often the handler or `where` raised. Each time is logged with its traceback."""
        self._loop = loop
        self._calling = threading.Lock()  # held while a loop hands an event over
        self._runner: int | None = None  # the thread in which the handler runs just now
        self._stream = EventStream(
            opener if loop is None else lambda _: opener(loop.wake), self._wanted, forget
        )
        self._mailbox = self._stream._mailbox
        self._thread: threading.Thread | None = None
        if loop is None:
            self._thread = threading.Thread(target=self._run, name="domindex-listener", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # there is no thread to be had
                self._stream.close()
                raise
        else:
            loop.add(self)

    @property
    def synced(self) -> bool:
        """It has heard of everything that was there when it subscribed."""
        return self._synced

    @property
    def pending(self) -> int:
        """Events taken in and not yet handed over."""
        return self._mailbox.pending

    @property
    def overflows(self) -> int:
        """How often its backlog was dropped, and a `Resync` told instead."""
        return self._mailbox.overflows

    def wait_synced(self, timeout: float | None = 30.0) -> bool:
        """Wait until it is `synced` or closed, at most `timeout` seconds; whether it is synced."""
        self._settled.wait(_limit(timeout))
        return self._synced

    def drain(self, timeout: float | None = 30.0) -> bool:
        """Wait until every event that the index has told by now was handled; whether it was.

        At most `timeout` seconds. A death that `reboot_grace` holds back is not waited for. From
        its own handler, or any that runs in the same loop, it returns False at once: it would wait
        for itself.
        """
        if self._runner == threading.get_ident():
            return False
        if self._loop is not None and self._loop.runs_here():
            return False
        drained = threading.Event()
        self._mailbox.mark(drained.set)
        return drained.wait(_limit(timeout)) and not self._mailbox.closed

    def close(self, timeout: float | None = 5.0) -> None:
        """Stop listening; what is still queued is dropped.

        After this returns the handler is not called again. It waits, at most `timeout`
        seconds, for a call that is under way; called from the handler itself it does not
        wait, and the promise holds from the moment the handler returns. May be called twice.
        """
        self._stream.close()
        self._settled.set()
        if self._loop is not None:
            self._loop.remove(self)
            limit = -1 if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)
            if self._runner != threading.get_ident() and self._calling.acquire(timeout=limit):
                self._calling.release()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join(_limit(timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- for this package --------------------------------------------------------------------

    def _hears(self, mailbox: Mailbox) -> bool:
        """Whether that is its own."""
        return mailbox is self._mailbox

    @property
    def _due(self) -> float | None:
        """When (time.monotonic) there is something to hand over although nobody wakes."""
        return self._mailbox.due

    def _hand_over(self) -> bool:
        """Call the handler for the next event, if there is one; whether there was."""
        with self._calling:
            if (event := self._mailbox.take()) is None:
                return False
            self._tell(event)
            return True

    def _run(self) -> None:
        while (event := self._stream._next()) is not None:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        self._runner = threading.get_ident()
        try:
            if (wanted := self._wanted(event)) is not None:
                self._handler(wanted)
        except BaseException as error:  # SystemExit too: it would end this thread without a word
            if self._loop is not None and not isinstance(error, Exception):
                raise  # it is the caller's thread, which Ctrl-C is to end
            self.errors += 1
            with contextlib.suppress(Exception):  # a log that fails must not end us either
                log.exception("a listener failed on %s; it goes on", type(event).__name__)
            if self._on_error is not None:
                with contextlib.suppress(BaseException if self._loop is None else Exception):
                    self._on_error(event, error)
        finally:
            self._runner = None
            if isinstance(event, Synced):
                self._synced = True
                self._settled.set()

    def _after_fork(self) -> None:
        """In a child: the thread is not there, and a lock may be held by nobody."""
        self._stream._after_fork()


def _deadline(timeout: float | None) -> float | None:
    limit = _limit(timeout)
    return None if limit is None else time.monotonic() + limit


def _limit(timeout: float | None) -> float | None:
    """What the system can wait for."""
    return None if timeout is None else min(timeout, threading.TIMEOUT_MAX)
