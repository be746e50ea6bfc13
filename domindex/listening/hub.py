"""Everyone who listens to the picture of a host: its listeners, and those who follow nodes.

The picture calls `tell`, `node_values` and `ended` under its lock.

Read after listeners.py and watch.py; next index.py, which gives all this to programs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol

from domindex.core.nodes import NodeValue
from domindex.domain import Domain
from domindex.events import Event
from domindex.keys import as_record
from domindex.listening.listeners import LATE as LATE
from domindex.listening.listeners import Listeners, Source
from domindex.listening.listeners import MailboxOptions as MailboxOptions
from domindex.listening.stream import EventStream
from domindex.listening.wanted import Wanted
from domindex.listening.watch import (
    Follower,
    NodeCaller,
    NodeHandler,
    NodeWatch,
    NodeWatches,
    Refusal,
)


class HostSource(Source[Event], Protocol):
    """What the hub asks of the picture of a host."""

    def holds(self, domain: Domain) -> Domain:
        """The record of that life as it is now. Raises NoSuchDomain if it is not held."""

    def latest(self, domain: Domain) -> Domain:
        """The same, or `domain` itself if that life is not held any more."""


class Hub(Listeners[Event]):
    """Who listens to the picture of one host. Safe from any thread, listeners included.

    source: the picture. `join` is to be called before the first `watch`.
    """

    def __init__(self, source: HostSource) -> None:
        super().__init__(source)
        self._host = source
        self._nodes = NodeWatches(source.lock, source.latest)
        self._callers: dict[bool, NodeCaller] = {}  # of the handlers of nodes, by `threaded`

    def join(self, follower: Follower) -> None:
        """Have nodes followed by this one, the watcher."""
        self._nodes.follower = follower

    def node_values(self, values: Iterable[NodeValue]) -> None:
        """Followed nodes have these values. Never waits, and never fails."""
        self._nodes.have(values)

    def ended(self, domid: int) -> None:
        """The life on `domid` is over: from now on no handler of its nodes is called."""
        self._nodes.ended(domid)

    def stream(self, wanted: Wanted, options: MailboxOptions) -> EventStream:
        """See `Index.events`."""
        return self.stream_of(EventStream, wanted, options)

    def watch(
        self,
        domain: Domain,
        path: str,
        handler: NodeHandler,
        *,
        every: bool = False,
        threaded: bool = True,
        on_error: Refusal | None = None,
    ) -> NodeWatch:
        """See `Index.watch`."""
        with self._lock:
            self._source.check_open()
            domain = self._host.holds(as_record(domain))
            threaded = bool(threaded)
            watch = self._nodes.make(domain, path, handler, on_error, every=every)
            if threaded not in self._callers:  # kept only once it runs: else the next call tries
                self._callers[threaded] = NodeCaller(self._nodes, self.runner(threaded, last=True))
            self._nodes.add(watch, self._callers[threaded].mailbox)
            return watch

    @property
    def errors(self) -> int:
        """How often a handler failed, of listeners that have gone and of nodes too."""
        with self._lock:
            return super().errors + sum(caller.errors for caller in self._callers.values())

    def cut_off(self) -> None:
        """See `Listeners`."""
        with self._lock:
            self._nodes.clear()
            super().cut_off()
            for caller in self._callers.values():
                caller.mailbox.close()

    def close(self, timeout: float) -> None:
        """See `Listeners`."""
        deadline = time.monotonic() + timeout
        super().close(timeout)
        for caller in self._callers.values():
            caller.close(max(0.0, deadline - time.monotonic()))

    def after_fork(self) -> None:
        """In a child: every listener is closed. The watcher, which does not exist, is not asked."""
        self._nodes.clear()
        super().after_fork()
        for caller in self._callers.values():
            caller.mailbox.abandon()
