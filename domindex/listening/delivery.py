"""Listeners: each hears every event once, in order, at its own pace.

The index puts events into a mailbox and never waits. A handler that is slow or stuck holds up
nobody else; one that raises is reported and called again for the next event. Handlers run in a
thread of their own, or in the caller's loop (dispatch.py); whoever would rather ask for events
than be called iterates over an `EventStream`.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Final, Protocol, Self

from domindex.errors import Closed, TimedOut
from domindex.events import Event, Synced
from domindex.forking import register
from domindex.listening.callbacks import check_callable
from domindex.listening.mailbox import Mailbox, Wanted

Handler = Callable[[Event], object]
ErrorHook = Callable[[Event, BaseException], object]
Opener = Callable[[Callable[[], object]], Mailbox]
"""Opens a mailbox of the index, given what wakes its listener."""

log = logging.getLogger("domindex")

_A_LOOK: Final = 16
"""Events that are looked at with a limit of 0, which is to find what is there."""


class Loop(Protocol):
    """The caller's own loop, that runs handlers when it comes to it. See dispatch.py."""

    def add(self, subscription: Subscription) -> None: ...
    def remove(self, subscription: Subscription) -> None: ...
    def wake(self) -> None: ...
    def runs_here(self) -> bool: ...


class EventStream:
    """Events to ask for: iterate over it, or `get` one. Made by `Index.events`.

    For one thread at a time. Iterating ends when it is closed, or its index. Close it, or use
    it in a `with`: while it is open it keeps what nobody has asked for yet, up to its bound. One
    that is let go unclosed, as by `break`, is forgotten.
    """

    def __init__(self, opener: Opener, wanted: Wanted, forget: Callable[[Mailbox], None]) -> None:
        self._changed = changed = threading.Condition()
        self._wanted = wanted
        self._forget = forget

        def wake() -> None:  # no method: the index must not keep a stream that nobody has
            with changed:
                changed.notify_all()

        self._mailbox = opener(wake)
        self._let_go = weakref.finalize(self, self._mailbox.abandon)
        self._let_go.atexit = False
        register(self)

    @property
    def pending(self) -> int:
        """Events taken in and not yet asked for."""
        return self._mailbox.pending

    @property
    def overflows(self) -> int:
        """How often its backlog was dropped, and a `Resync` told instead."""
        return self._mailbox.overflows

    def get(self, timeout: float | None = None) -> Event:
        """The next event; waits for it, at most `timeout` seconds. Raises TimedOut, Closed.

        What is there and not wanted is passed over within that time, and the next call goes on
        behind it. A limit of 0 is a look at what is there, at up to 16 events.
        """
        deadline = _deadline(timeout)
        for looked in itertools.count(1):
            if (event := self._next(deadline)) is None:
                break
            if (wanted := self._wanted(event)) is not None:
                return wanted
            if deadline is None or time.monotonic() < deadline:
                continue
            if (timeout or 0) > 0 or looked >= _A_LOOK:
                break
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
        self._let_go.detach()
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
        check_callable("a handler", handler)
        if on_error is not None:
            check_callable("on_error=", on_error)
        self._handler = handler
        self._on_error = on_error
        self._wanted = wanted or Wanted(None, None)
        self._synced = False
        self.errors = 0
        """How often the handler or `where` raised. Each time is logged with its traceback."""
        self._loop = loop
        # Held while a loop hands an event over. A signal's handler may close us amid that.
        self._calling = threading.RLock()
        self._runner: int | None = None  # the thread in which the handler runs just now
        self._stream = EventStream(
            opener if loop is None else lambda _: opener(loop.wake), self._wanted, forget
        )
        self._mailbox = self._stream._mailbox
        register(self)
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
        """Wait until it is `synced` or closed, at most `timeout` seconds; whether it is synced.

        Called where its own handler runs it does not wait, as `drain`.
        """
        if not self._synced and not self._waits_for_itself():
            self._mailbox.wait_until(lambda: self._synced, _limit(timeout))
        return self._synced

    def drain(self, timeout: float | None = 30.0) -> bool:
        """Wait until every event that the index has told by now was handled; whether it was.

        At most `timeout` seconds. A death that `reboot_grace` holds back is not waited for. From
        its own handler, or any that runs in the same loop, it returns False at once: it would wait
        for itself.
        """
        return not self._waits_for_itself() and self._mailbox.drained(_limit(timeout))

    def close(self, timeout: float | None = 5.0) -> None:
        """Stop listening; what is still queued is dropped.

        After this returns the handler is not called again. It waits, at most `timeout`
        seconds, for a call that is under way; called from the handler itself it does not
        wait, and the promise holds from the moment the handler returns. May be called twice.
        """
        self._stream.close()
        if self._loop is not None:
            self._loop.remove(self)
            limit = -1 if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)
            if self._calling.acquire(timeout=limit):
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
            wanted = self._wanted(event)
            if wanted is not None and not self._mailbox.closed:  # since the event was taken, too
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
                self._mailbox.moved()

    def _waits_for_itself(self) -> bool:
        """This very thread is the one that would have to go on."""
        if self._runner == threading.get_ident():
            return True
        return self._loop is not None and self._loop.runs_here()

    def _after_fork(self) -> None:
        """In a child: the thread is not there, and a lock may be held by nobody."""
        self._calling = threading.RLock()
        self._stream._after_fork()


def _deadline(timeout: float | None) -> float | None:
    limit = _limit(timeout)
    return None if limit is None else time.monotonic() + limit


def _limit(timeout: float | None) -> float | None:
    """What the system can wait for."""
    return None if timeout is None else min(timeout, threading.TIMEOUT_MAX)
