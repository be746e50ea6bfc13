"""A listener that is called: each event once, in order, at its own pace.

The index puts events into a mailbox and never waits. A handler that is slow or stuck holds up no
other; one that raises is reported and called again for the next event.

Read after runner.py and wanted.py; next watch.py.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any, Self, TypeAlias, TypeVar

from domindex.events import Event, Synced
from domindex.limits import as_seconds
from domindex.listening.callbacks import check_callable
from domindex.listening.mailbox import Mailbox
from domindex.listening.runner import Runner
from domindex.listening.wanted import Wanted

E = TypeVar("E")

Handler: TypeAlias = Callable[[Event], object]
"""What `subscribe` calls: with each event."""
ErrorHook: TypeAlias = Callable[[E, BaseException], object]

log: logging.Logger = logging.getLogger("domindex")


def called(name: str | None) -> str:
    """What a log line calls a listener."""
    return "a listener" if name is None else f"the listener {name!r}"


class Subscription:
    """One listener. Made by `Index.subscribe`; ends with `close()` or with its index.

    Safe from any thread. It goes on whether or not a program keeps this object. In a `with` it is
    closed at the end of the block.

    Attributes:
        errors: How often the handler or `where` raised. Each time is logged with its traceback.
    """

    def __init__(
        self,
        handler: Callable[[E], object],
        mailbox: Mailbox[E],
        runner: Runner,
        forget: Callable[[Mailbox[E]], None],
        *,
        wanted: Callable[[E], E | None] | None = None,
        on_error: ErrorHook[E] | None = None,
    ) -> None:
        check_callable("a handler", handler)
        if on_error is not None:
            check_callable("on_error=", on_error)
        self.errors: int = 0
        self._handler: Callable[[Any], object] = handler
        self._mailbox: Mailbox[Any] = mailbox
        self._runner = runner
        self._forget: Callable[[Mailbox[Any]], None] = forget
        self._wanted: Callable[[Any], Any] = wanted or Wanted(None, None)
        self._on_error: ErrorHook[Any] | None = on_error
        self._synced = False
        runner.start(mailbox, self._deliver)

    @property
    def synced(self) -> bool:
        """Its handler has been called for everything that was present when it subscribed."""
        return self._synced

    @property
    def pending(self) -> int:
        """Events that wait for the handler, wanted or not."""
        return self._mailbox.pending

    @property
    def overflows(self) -> int:
        """How often the backlog was dropped, and a `Resync` delivered instead."""
        return self._mailbox.overflows

    def wait_synced(self, timeout: float | None = 30.0) -> bool:
        """Wait until it is `synced` or closed.

        Called from its own handler, or from any that runs in the same loop, it does not wait: it
        would wait for itself.

        Args:
            timeout: Seconds to wait at most, None for as long as it takes.

        Returns:
            Whether it is synced.
        """
        limit = as_seconds(timeout)
        if not self._synced and not self._runner.runs_here():
            self._mailbox.wait_until(lambda: self._synced, limit)
        return self._synced

    def drain(self, timeout: float | None = 30.0) -> bool:
        """Wait until every event that the index has taken in by now was handled.

        A death that `reboot_grace` holds back is not waited for. Called from its own handler, or
        from any that runs in the same loop, it returns False at once: it would wait for itself.

        Args:
            timeout: Seconds to wait at most, None for as long as it takes.

        Returns:
            Whether they were; False also if it is closed.
        """
        limit = as_seconds(timeout)
        return not self._runner.runs_here() and self._mailbox.drained(limit)

    def close(self, timeout: float | None = 5.0) -> None:
        """Stop listening; events that still wait are dropped. May be called twice.

        After this returns the handler is not called again. Called from the handler itself it does
        not wait, and the promise holds from the moment the handler returns.

        Args:
            timeout: Seconds to wait at most for a call that is under way, None for as long as it
                takes.
        """
        timeout = as_seconds(timeout)
        self._mailbox.close()
        self._runner.stop(timeout)
        # Last: if Ctrl-C ends the wait, the index still knows it, and waits in its own close.
        self._forget(self._mailbox)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _deliver(self, event: Any) -> None:
        """Call the handler, if it wants this event. Called by the runner alone."""
        try:
            wanted = self._wanted(event)
            # `where` takes its time, and a signal's handler may have closed us since the take.
            if wanted is not None and not self._mailbox.closed:
                self._handler(wanted)
        except self._runner.caught as error:
            self.errors += 1
            with contextlib.suppress(Exception):  # a log that fails must not end us either
                who, what = called(self._mailbox.name), type(event).__name__
                log.exception("%s failed on %s; it goes on", who, what)
            if self._on_error is not None:
                with contextlib.suppress(self._runner.caught):
                    self._on_error(event, error)
        finally:
            if isinstance(event, Synced):
                self._synced = True
                self._mailbox.progress()
