"""Watches of the caller's own: a node of a domain, followed for the length of that life.

Read after mailbox.py and runner.py; next hub.py. How values become certain: core/nodes.py.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, Self, TypeAlias

from domindex.core.nodes import Node, NodeValue, Value
from domindex.domain import Domain, Life
from domindex.errors import StoreError
from domindex.keys import as_node
from domindex.listening.callbacks import check_callable
from domindex.listening.mailbox import Mailbox
from domindex.listening.runner import Runner

NodeHandler: TypeAlias = Callable[[Domain, bytes | None], object]
"""What `watch` calls: with the record, and the value or None if there is no such node."""
Refusal: TypeAlias = Callable[[Domain, StoreError], object]

log: logging.Logger = logging.getLogger("domindex")

_NOTHING: Final = object()


class Follower(Protocol):
    """Follows nodes on the host: the watcher. From any thread; it does not wait."""

    def follow(self, life: Life, node: Node) -> None:
        """Follow a node as long as this life lasts, and give its value now and at each change."""

    def drop(self, node: Node) -> None:
        """Follow it no longer."""


class NodeWatch:
    """One node that is followed. Made by `Index.watch`; ends with `close()` or with its domain.

    Safe from any thread. In a `with` it is closed at the end of the block.

    Attributes:
        domain: The record it was made with.
        path: Below /local/domain/N.
        closed: It has ended: it was closed, or its domain has ended, or the index was closed.
    """

    def __init__(
        self,
        domain: Domain,
        path: str,
        handler: NodeHandler,
        on_error: Refusal | None,
        latest: Callable[[Domain], Domain],
        forget: Callable[[NodeWatch], None],
        *,
        every: bool,
    ) -> None:
        self.domain = domain
        self.path = path
        self._node = Node(domain.domid, as_node(domain.domid, path))
        self._every = every
        self._fired = 0  # events so far, where each of them is to be told
        self.closed: bool = False
        self._handler = handler
        self._on_error = on_error
        self._latest = latest
        self._forget = forget
        self._value: Value = None
        self._delivered: object = _NOTHING
        self._queued = False
        # What is put into the mailbox, made once: a value that comes needs no memory for that.
        self._alone = (self,)

    @property
    def error(self) -> StoreError | None:
        """Why xenstored does not give the node, if it was refused when it was last read."""
        return self._value if isinstance(self._value, StoreError) else None

    def close(self) -> None:
        """Stop. May be called twice, and from the handler.

        After this returns no call of the handler begins. One that is under way is not waited for.
        """
        self.closed = True
        self._forget(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, value: Value, fired: bool, mailbox: Mailbox[NodeWatch]) -> None:
        """Keep the latest value. Queued once, however many come: so the mailbox has no bound."""
        self._value = value
        self._fired += fired and self._every
        queued, self._queued = self._queued, True
        if not queued:
            mailbox.put(self._alone)

    def _deliver(self) -> None:
        """Call the handler with the latest of all values that came meanwhile."""
        self._queued = False  # before the value is read: one that comes now is queued again
        # The events before the value: it is of the last of them, or of a later one.
        fired, value = self._fired, self._value
        # StoreErrors are compared by number: each reply makes one of its own.
        what = (StoreError, value.errno) if isinstance(value, StoreError) else value
        delivered = fired, what
        if delivered == self._delivered:
            return
        domain = self._latest(self.domain)
        # After the record was looked up: once the index holds the domain's end no call begins.
        if self.closed:
            return
        self._delivered = delivered
        if not isinstance(value, StoreError):
            self._handler(domain, value)
        elif self._on_error is not None:
            self._on_error(domain, value)


class NodeWatches:
    """All watches of an index, by node. `make` takes no lock; the index's is held for the rest.

    latest: the record of the same life as it is now.
    """

    follower: Follower
    """Set before the first `add`."""

    def __init__(self, lock: threading.RLock, latest: Callable[[Domain], Domain]) -> None:
        self.lock = lock
        self._latest = latest
        self._watches: dict[Node, dict[NodeWatch, Mailbox[NodeWatch]]] = {}

    def make(
        self,
        domain: Domain,
        path: str,
        handler: NodeHandler,
        on_error: Refusal | None,
        *,
        every: bool,
    ) -> NodeWatch:
        """A watch that is not followed yet. Raises InvalidKey, TypeError."""
        check_callable("a handler", handler)
        if on_error is not None:
            check_callable("on_error", on_error)
        return NodeWatch(domain, path, handler, on_error, self._latest, self._forget, every=every)

    def add(self, watch: NodeWatch, mailbox: Mailbox[NodeWatch]) -> None:
        """Follow its node from now on. It is queued in this mailbox at each value."""
        self._watches.setdefault(watch._node, {})[watch] = mailbox
        self.follower.follow(watch.domain.life, watch._node)

    def have(self, values: Iterable[NodeValue]) -> None:
        """Nodes have these values."""
        for node, value, fired in values:
            for watch, mailbox in self._watches.get(node, {}).items():
                watch._put(value, fired, mailbox)

    def queued(self, mailbox: Mailbox[NodeWatch]) -> Sequence[NodeWatch]:
        """What a mailbox has to hold, if it found no memory for it."""
        return [
            watch
            for watches in self._watches.values()
            for watch, its in watches.items()
            if its is mailbox and watch._queued
        ]

    def ended(self, domid: int) -> None:
        """The life is over: no handler of its nodes is called any more."""
        for node in [node for node in self._watches if node.domid == domid]:
            for watch in self._watches.pop(node):
                watch.closed = True

    def clear(self) -> None:
        """The index is closed, or belongs to the parent process: the watcher need not know."""
        for watches in self._watches.values():
            for watch in watches:
                watch.closed = True
        self._watches.clear()

    def _forget(self, watch: NodeWatch) -> None:
        with self.lock:
            watches = self._watches.get(watch._node)
            if watches is None or watches.pop(watch, None) is None or watches:
                return
            del self._watches[watch._node]
            self.follower.drop(watch._node)


class NodeCaller:
    """Calls the handlers of nodes, all of those that share one runner.

    Attributes:
        mailbox: The watches whose handlers are to be called.
        errors: How often a handler raised. Each time is logged with its traceback.
    """

    def __init__(self, watches: NodeWatches, runner: Runner) -> None:
        self.errors: int = 0
        self.mailbox: Mailbox[NodeWatch] = Mailbox(
            watches.lock, lambda: watches.queued(self.mailbox), runner.wake, size=sys.maxsize
        )
        self._runner = runner
        runner.start(self.mailbox, self._deliver)

    def close(self, timeout: float) -> None:
        """No call of a handler begins any more; wait for one that is under way."""
        self.mailbox.close()
        self._runner.stop(timeout)

    def _deliver(self, watch: NodeWatch) -> None:
        try:
            watch._deliver()
        except self._runner.caught:
            self.errors += 1
            with contextlib.suppress(Exception):  # a log that fails must not end us either
                log.exception("the handler of node %s failed; it goes on", watch.path)
