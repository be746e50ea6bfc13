"""Watches of the caller's own: a node of a domain, followed for the length of that life."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Self, cast

from domindex.core.nodes import Node, Value
from domindex.domain import Domain
from domindex.errors import InvalidKey, StoreError
from domindex.events import Event
from domindex.listening.callbacks import check_callable
from domindex.listening.mailbox import Mailbox

NodeHandler = Callable[[Domain, bytes | None], object]
Refusal = Callable[[Domain, StoreError], object]

_PATH: Final = re.compile(r"[A-Za-z0-9_@-]+(/[A-Za-z0-9_@-]+)*")  # docs/misc/xenstore.txt
_LONGEST: Final = 1000  # with /local/domain/N before it: oxenstored takes no path above 1,024
_NOTHING: Final = object()


class NodeWatch:
    """One node that is followed. Made by `Index.watch`; ends with `close()` or with its domain."""

    def __init__(
        self,
        domain: Domain,
        path: str,
        handler: NodeHandler,
        record: Callable[[Domain], Domain],
        forget: Callable[[NodeWatch], None],
        on_error: Refusal | None = None,
    ) -> None:
        self.domain = domain
        """The record it was made with."""
        self.path = path
        """Below /local/domain/N."""
        self.closed = False
        """It is over: closed, or its domain has ended."""
        self._handler = handler
        self._record = record
        self._forget = forget
        self._on_error = on_error
        self._latest: Value = None
        self._told: object = _NOTHING
        self._queued = False
        self._fired: tuple[Event] = (cast(Any, Fired(self)),)  # made once: telling takes no memory

    @property
    def _node(self) -> Node:
        return Node(self.domain.domid, f"/local/domain/{self.domain.domid}/{self.path}".encode())

    @property
    def error(self) -> StoreError | None:
        """Why xenstored does not give the node, if it was refused when it was last read."""
        return self._latest if isinstance(self._latest, StoreError) else None

    def close(self) -> None:
        """Stop. After this returns the handler is not called again, but for a call under way."""
        self.closed = True
        self._forget(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _news(self, value: Value) -> bool:
        """Take a value in, under the index's lock; whether the handler has to be called anew."""
        self._latest = value
        queued, self._queued = self._queued, True
        return not queued

    def _hand_over(self) -> None:
        """Call the handler, with the latest of all values that came meanwhile."""
        self._queued = False  # before the value is taken: what comes now is queued again
        value = self._latest
        told = (StoreError, value.errno) if isinstance(value, StoreError) else value
        if told == self._told:
            return
        record = self._record(self.domain)
        if self.closed:
            return
        self._told = told
        if not isinstance(value, StoreError):
            self._handler(record, value)
        elif self._on_error is not None:
            self._on_error(record, value)


@dataclass(frozen=True, slots=True)
class Fired:
    """In the mailbox of whoever runs the handlers: one of them is to be called."""

    watch: NodeWatch


def run_handler(event: Event) -> None:
    """The handler of those who run handlers."""
    cast(Fired, event).watch._hand_over()


class NodeWatches:
    """All of an index. Every call but `add` is made under its lock.

    follow, drop: ask the watcher. record: the latest of the same life.
    """

    def __init__(
        self,
        lock: threading.RLock,
        follow: Callable[[Domain, Node], None],
        drop: Callable[[Node], None],
        record: Callable[[Domain], Domain],
    ) -> None:
        self._lock = lock
        self._follow, self._drop, self._record = follow, drop, record
        self._watches: dict[Node, dict[NodeWatch, Mailbox]] = {}

    def add(
        self,
        domain: Domain,
        path: str,
        handler: NodeHandler,
        mailbox: Mailbox,
        on_error: Refusal | None = None,
    ) -> NodeWatch:
        """Follow a node of a domain that is held. Raises InvalidKey, TypeError."""
        if not isinstance(path, str) or not _PATH.fullmatch(path) or len(path) > _LONGEST:
            raise InvalidKey(
                f"{path!r} is no path below /local/domain/N: letters, digits, -_@, and slashes"
            )
        check_callable("a handler", handler)
        if on_error is not None:
            check_callable("on_error", on_error)
        watch = NodeWatch(domain, path, handler, self._record, self._forget, on_error)
        with self._lock:
            self._watches.setdefault(watch._node, {})[watch] = mailbox
        self._follow(domain, watch._node)
        return watch

    def told(self, values: Iterable[tuple[Node, Value]]) -> None:
        """Nodes have these values."""
        for node, value in values:
            for watch, mailbox in self._watches.get(node, {}).items():
                if watch._news(value):
                    mailbox.put(watch._fired)

    def waiting(self, mailbox: Mailbox) -> list[Event]:
        """For a mailbox that lost what was in it: whose handlers are still to be called."""
        return [
            watch._fired[0]
            for watches in self._watches.values()
            for watch, told in watches.items()
            if told is mailbox and watch._queued
        ]

    def ended(self, domid: int) -> None:
        """The life is over: no handler of its nodes is called any more."""
        for node in [node for node in self._watches if node.domid == domid]:
            for watch in self._watches.pop(node):
                watch.closed = True

    def clear(self) -> None:
        """The index is closed."""
        for watches in self._watches.values():
            for watch in watches:
                watch.closed = True
        self._watches.clear()

    def _after_fork(self, lock: threading.RLock) -> None:
        """In a child: the lock may be held by nobody, and there is no watcher to be told."""
        self._lock = lock
        self.clear()

    def _forget(self, watch: NodeWatch) -> None:
        with self._lock:
            watches = self._watches.get(watch._node)
            if watches is None or watches.pop(watch, None) is None or watches:
                return
            del self._watches[watch._node]
            self._drop(watch._node)
