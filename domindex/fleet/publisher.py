"""The thread that publishes one host. Made by `domindex.fleet.publish`.

Read after publishing.py and machine.py; next joining.py.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Self

from domindex import forking
from domindex.errors import Closed, DomindexError, TimedOut
from domindex.fleet.errors import (
    EngineDenied,
    EngineError,
    HostTaken,
    InvalidHost,
    UnfitEngine,
)
from domindex.fleet.machine import MachineLock
from domindex.fleet.ports import Engine
from domindex.fleet.publishing import Publishing, Superseded
from domindex.index import Index
from domindex.limits import as_seconds

log: logging.Logger = logging.getLogger("domindex")

_HOPELESS: Final = (HostTaken, InvalidHost, EngineDenied, UnfitEngine, Superseded)


class Publisher:
    """Publishes what an index holds, for as long as it is open. Safe from any thread.

    A clean end (`close`, the end of the `with`, a closed index) gives the host up at once: readers
    see it lost, with the reason, and keep its domains. A process that dies leaves its lease to run
    out.

    Attributes:
        host: The name under which it publishes.
    """

    def __init__(
        self, publishing: Publishing, index: Index, engine: Engine | None, lock: MachineLock | None
    ) -> None:
        self.host: str = publishing.host
        self._publishing = publishing
        self._index = index
        self._engine = engine  # None if it is not ours to close
        self._lock = lock
        self._stepped = threading.Condition(forking.rlock())
        self._steps = 0
        self._ended: BaseException | None = None
        self._stop = threading.Event()
        self._abandoned = False
        # As many as come at once are one step; what overflows is one Resync.
        self._events = index.events(replay=False, queue=64, name="fleet-publisher")
        self._thread: threading.Thread | None = None
        forking.register(self._after_fork)

    def start(self, timeout: float | None, *, wait: bool) -> None:
        """Begin to publish. With `wait`, return once the first write got through."""
        try:
            seconds = as_seconds(timeout)
            self._thread = threading.Thread(
                target=self._run, name="domindex-publisher", daemon=True
            )
            self._thread.start()
            if wait:
                self._wait_for(
                    lambda: self._publishing.transactions > 0, seconds, timeout, _HOPELESS
                )
        except BaseException:
            self.close()
            raise

    @property
    def problem(self) -> BaseException | None:
        """Why the host is not published just now; None while it is."""
        return self._ended or self._publishing.problem

    @property
    def generation(self) -> int:
        """The generation of the index up to which all is in the store; -1 before the first."""
        return self._publishing.written

    @property
    def transactions(self) -> int:
        """Writes that got through so far."""
        return self._publishing.transactions

    def flush(self, timeout: float | None = 5.0) -> int:
        """Return once all that the index holds now is in the store.

        Returns:
            The generation that is.

        Raises:
            TimedOut: it was not done in time.
            DomindexError: the publisher has ended: the reason.
        """
        seconds = as_seconds(timeout)
        if self._ended is not None:
            raise self._ended
        wanted = self._index.generation
        self._wait_for(lambda: self.generation >= wanted, seconds, timeout, ())
        return self.generation

    def wait(self) -> None:
        """Return once this publisher was closed.

        Raises:
            BaseException: it ended by itself: the reason.
        """
        with self._stepped:
            while self._ended is None and not self._stop.is_set():
                self._stepped.wait()
        if self._ended is not None:
            raise self._ended

    def close(self, timeout: float | None = 10.0) -> None:
        """Stop, and give the host up. May be called twice, and from any thread.

        Args:
            timeout: seconds to wait for a write that is under way.
        """
        seconds = as_seconds(timeout)
        self._stop.set()
        self._events.close()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)
        if self._engine is not None:
            with contextlib.suppress(DomindexError):
                self._engine.close()
        if self._lock is not None:
            self._lock.close()

    def abandon(self) -> None:
        """Stop without giving the host up, as if the process had died: for tests."""
        self._abandoned = True
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Publisher of {self.host}: {self.problem or 'publishing'}>"

    # -- within ------------------------------------------------------------------------------

    def _run(self) -> None:
        why = "its publisher was closed"
        try:
            while not self._stop.is_set():
                pause = self._publishing.step()
                self._tell_step()
                with contextlib.suppress(TimedOut):
                    self._events.get(pause)
                    while self._events.pending:
                        self._events.get(0)
        except Closed as error:
            if not self._stop.is_set():
                why = "its index was closed"
                self._ended = error
        except BaseException as error:
            why = "its publisher failed"
            self._ended = error
            if isinstance(error, Superseded):
                log.error("%s", error)
            else:
                log.exception("host %s is not published any more", self.host)
        try:
            if not self._abandoned:
                self._publishing.release(why)
        except (DomindexError, OSError) as error:
            log.warning("host %s could not be given up: its lease runs out: %s", self.host, error)
        self._tell_step()

    def _tell_step(self) -> None:
        with self._stepped:
            self._steps += 1
            self._stepped.notify_all()

    def _wait_for(
        self,
        holds: Callable[[], bool],
        seconds: float,
        timeout: float | None,
        hopeless: tuple[type[BaseException], ...],
    ) -> None:
        deadline = time.monotonic() + seconds
        with self._stepped:
            while not holds():
                problem = self.problem
                if self._ended is not None:
                    raise self._ended
                if isinstance(problem, hopeless):
                    raise problem
                if self._stop.is_set():
                    raise Closed("this publisher is closed")
                left = deadline - time.monotonic()
                if left <= 0 or not self._stepped.wait(left):
                    if isinstance(problem, EngineError):
                        raise problem
                    raise TimedOut(f"host {self.host} was not written within {timeout} s")

    def _after_fork(self) -> None:
        self._thread = None
        self._stop.set()
