"""The thread that follows the host, and what other threads may ask of it.

Read after following.py; next body.py.

The thread opens a line to xenstore and follows it (following.py) until it is lost, for as long as
the index is open:

    open a line -> first pass over everything -> up -> follow -> (lost) -> down -> open another

It is the only writer of the picture. Whatever fails on the way, the picture stays as it was, is
marked out of date, and the next line begins with a pass over everything. A line that had worked is
opened again at once. One that had not is tried again after a pause, which doubles each time.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import threading
import time

from domindex.complaints import Complaints
from domindex.core.nodes import Node
from domindex.core.reconcile import Reconciler
from domindex.domain import Life
from domindex.errors import AccessDenied, HostError
from domindex.following import Following
from domindex.looks import Looks
from domindex.options import Timing
from domindex.picture import Live, Picture
from domindex.ports import Host, Hypervisor, Store
from domindex.requests import Reading, Requests
from domindex.stats import Counters

log: logging.Logger = logging.getLogger("domindex")


class Watcher:
    """Keeps `picture` true to `host`, from its own thread."""

    def __init__(
        self, host: Host, hypervisor: Hypervisor, picture: Picture, timing: Timing
    ) -> None:
        self._host = host
        self._hypervisor = hypervisor
        self._picture = picture
        self._timing = timing
        self._reconciler = Reconciler(picture.table)
        self.counters: Counters = Counters()
        self._complaints = Complaints(self.counters)
        self._looks = Looks(hypervisor, self._reconciler, self.counters, self._complaints)
        self._following: Following | None = None  # the last line that became live
        self._next: Store | None = None  # a line that is open and will follow the present one
        self._live_since: float | None = None  # when the present line became live
        # What other threads change, and what they wait for:
        self._changed = threading.Condition()
        self._requests = Requests()
        self._store: Store | None = None  # the present line
        self._over = False  # the thread has ended
        self._abandoned = False  # `close` did not wait for that
        self._thread = threading.Thread(target=self._run, name="domindex-watcher", daemon=True)

    # -- from any thread ---------------------------------------------------------------------

    def start(self) -> None:
        """Begin, and return at once; `conditions.opened` waits for the first pass."""
        self._thread.start()

    def request_refresh(self, *, names: bool = False) -> int:
        """Ask for a refresh, and wait for nothing. Returns the ticket.

        Once `Picture.refreshed` has reached it, every change that was complete before this call
        is in the picture. A commit follows, if need be without changes.

        names: read every name again too.
        """
        with self._changed:
            self._requests.refresh += 1
            if names:
                self._requests.names = self._requests.refresh
            self._wake()
            return self._requests.refresh

    def follow(self, life: Life, node: Node) -> None:
        """Follow a node as long as this life lasts: its value now, and after each change."""
        self._request_node(life, node)

    def drop(self, node: Node) -> None:
        """Follow it no longer."""
        self._request_node(None, node)

    def _request_node(self, life: Life | None, node: Node) -> None:
        self._requests.nodes.append((life, node))
        with self._changed:
            self._wake()

    def request_reading(self, reading: Reading) -> None:
        """Have nodes read once. A commit follows when they are, if need be without changes."""
        self._requests.readings[reading] = None
        with self._changed:
            self._wake()

    def withdraw(self, reading: Reading) -> None:
        """Its caller waits no longer. May be called after it was done."""
        self._requests.readings.pop(reading, None)

    @property
    def names_domids(self) -> bool:
        """The special watches name the domain that came or went."""
        return self._following is not None and self._following.names_domids

    @property
    def one_watch(self) -> bool:
        """One watch stands for the names of all domains."""
        return self._following is not None and self._following.one_watch

    @property
    def deaf(self) -> bool:
        """The special watches do not fire for this caller."""
        return self._following is not None and self._following.deaf

    def close(self, timeout: float) -> bool:
        """End the thread and its line. False if it did not end in time.

        Then the thread is left to itself, and closes the hypervisor when it ends.
        """
        with self._changed:
            self._requests.closing = True
            self._picture.got_on = math.inf
            self._wake()
            if self._store is not None:
                self._store.interrupt()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        with self._changed:
            self._abandoned = not self._over and self._thread.ident is not None
            return not self._abandoned

    def _wake(self) -> None:
        self._changed.notify_all()
        if self._store is not None:
            self._store.wake()

    # -- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._requests.closing:
                # Whatever a caller's function or a full memory does here, it must not end us.
                with contextlib.suppress(BaseException):
                    self._follow_lines()
        finally:
            if self._next is not None:
                self._next.close()
            with self._changed:
                self._over = True
                abandoned = self._abandoned
            if abandoned:  # `close` gave up waiting for our last hypercall
                self._hypervisor.close()

    def _follow_lines(self) -> None:
        pause = self._timing.retry
        while not self._requests.closing:
            try:
                self._follow_line()
                continue
            except BaseException as error:
                if self._requests.closing:
                    return
                if not isinstance(error, HostError):  # a fault of ours: loud, but not deadly
                    with contextlib.suppress(BaseException):
                        log.exception("the watcher failed; it starts over")
                with contextlib.suppress(BaseException):  # a Lost that failed is sent later
                    self._went_down(error)
            if self._live_since is not None:
                pause = self._timing.retry
                if time.monotonic() - self._live_since > pause:
                    continue  # at once, as the line had worked; but not round and round
            self._rest(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, self._timing.retry_most)

    def _rest(self, pause: float) -> None:
        until = time.monotonic() + pause
        while (left := until - time.monotonic()) > 0:
            # Without our lock: those who hold the picture's come to take ours.
            picture = self._picture
            if not picture.too_old() and picture.max_age < math.inf:
                left = min(left, max(0.001, picture.max_age - picture.age))
            with self._changed:
                if self._requests.closing:
                    return
                self._changed.wait(left)

    def _follow_line(self) -> None:
        """One line, from its opening to its renewal or the end. Its loss is raised."""
        self._live_since = None
        store, self._next = self._next or self._host.open_store(self._timing.request), None
        try:
            with self._changed:
                self._store = store
                if self._requests.closing:
                    return
            line = self._line(store)
            line.begin()
            self._following = line
            self._went_up()
            line.follow()
            while not (self._requests.closing or self._renew()):
                line.audit()
                line.follow()
        finally:
            with self._changed:
                self._store = None
            store.close()

    def _line(self, store: Store) -> Following:
        return Following(
            store,
            self._looks,
            self._reconciler,
            self._picture,
            self._requests,
            self._timing,
            self.counters,
            self._complaints,
        )

    def _renew(self) -> bool:
        """Open another line, to be followed next. False if this process may not any more."""
        try:
            self._next = self._host.open_store(self._timing.request)
        except AccessDenied:  # it has given up root since: the present line still works
            return False
        return True

    def _went_up(self) -> None:
        again = self._picture.confirmed > -math.inf
        self._picture.confirmed = time.monotonic()
        self.counters.reconnects += again and not isinstance(self._picture.state, Live)
        self._picture.up()
        self._live_since = time.monotonic()

    def _went_down(self, cause: BaseException) -> None:
        self._picture.down(cause)
        if self._live_since is not None:
            with contextlib.suppress(BaseException):  # a log that fails must not end the thread
                log.warning("the index is not live: %s", cause)
