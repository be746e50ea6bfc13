"""What is under both coats: the opened hypervisor, the picture, the watcher; their start and end.

`Index` (index.py) and `AsyncIndex` (aio.py) have one each. It is also the one place where a forked
child is cut off from the index of its parent.

Read after watcher.py and picture.py; next index.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from domindex import conditions, forking
from domindex.core.key import KeyIndex
from domindex.domain import Domain
from domindex.facts import Facts
from domindex.keys import as_record
from domindex.limits import as_seconds
from domindex.listening.hub import Hub
from domindex.listening.signal import Condition
from domindex.options import Stale, Timing, most_age
from domindex.picture import Ended, Picture
from domindex.ports import Host, Hypervisor, check_host
from domindex.requests import Reading
from domindex.stats import Capabilities, Stats
from domindex.watcher import Watcher

K = TypeVar("K", bound=Any)

_REFRESHES: Final = 3
"""Refreshes before a verified look-up gives up on a host that changes faster than it can ask."""
_LEAST_PATIENCE: Final = 1.0
"""Seconds for which a busy machine may leave the thread alone, however short the times are set."""


class Body:
    """One index of `host`. Opening the hypervisor may raise what `connect` raises."""

    def __init__(
        self, host: Host, timing: Timing | None, stale: Stale, max_stale: float | None
    ) -> None:
        check_host(host)
        if not isinstance(timing := Timing() if timing is None else timing, Timing):
            raise TypeError(f"timing= is a Timing, not {timing!r}")
        self.timing: Timing = timing
        self.picture: Picture = Picture(
            patience=max(timing.probe + timing.request, _LEAST_PATIENCE),
            max_age=most_age(stale, max_stale),
        )
        self.hub: Hub = self.picture.hub
        self.hypervisor: Hypervisor = host.open_hypervisor()
        self.confirms: Callable[[Domain], bool] = self.hypervisor.confirms
        self.watcher: Watcher = Watcher(host, self.hypervisor, self.picture, timing)
        self.hub.join(self.watcher)
        self.facts: Facts = Facts(
            self.hypervisor, self.picture, functools.partial(self.refresh, 5.0, names=False)
        )
        self._closing = forking.rlock()  # held while it is closed; an interrupted one may go on
        self._closed = False
        forking.register(self._after_fork)

    def start(self, timeout: float | None, *, wait: bool) -> None:
        """Begin to follow the host. With `wait`, return once all of it is held."""
        try:
            as_seconds(timeout)
            self.watcher.start()
            if wait:
                self.picture.changed.wait_for(conditions.opened(self.picture, timeout), timeout)
        except BaseException:
            self.close()
            raise

    def close(self, timeout: float | None = 10.0) -> None:
        """See `Index.close`."""
        limit = as_seconds(timeout)
        with self.picture.lock:
            if not isinstance(self.picture.state, Ended):
                self.picture.end("this index is closed; connect() opens a new one")
                self.hub.cut_off()
        if not self._closed and self._closing.acquire(blocking=False):
            try:
                self._finish(limit)
                self._closed = True
            finally:
                self._closing.release()

    def _finish(self, timeout: float) -> None:
        """The rest of `close`. Each step may be done again, after one that was interrupted."""
        deadline = time.monotonic() + timeout
        self.hub.cut_off()
        stopped = self.watcher.close(timeout)
        self.hub.close(max(0.0, deadline - time.monotonic()))
        if stopped:  # else its hypercall still needs the descriptor, and it closes at its end
            self.hypervisor.close()

    def _after_fork(self) -> None:
        """In a child: threads do not survive a fork, and the line is the parent's."""
        self._closed = True
        self.picture.end("this index belongs to the parent process; connect() again in the child")

    def verified(self, index: KeyIndex[K, Domain], key: K) -> Domain:
        """A domain that the hypervisor agrees with, or a proven absence (P7)."""
        domain = index.unique.get(key)
        if domain is not None and self.confirms(domain):
            return domain
        return self.verified_anew(index, key)

    def verified_anew(self, index: KeyIndex[K, Domain], key: K) -> Domain:
        """As `verified`, after the hypervisor has contradicted, or none was held.

        Cost: up to three refreshes, and the hypercalls that confirm after each.
        """
        for _ in range(_REFRESHES):
            self.refresh(5.0, names=False)
            domain = index.unique.get(key)
            if domain is None:
                break
            if self.confirms(domain):
                return domain
        return index.view[key]  # of a list made since the call began: the hypervisor's word too

    def refresh(self, timeout: float | None, *, names: bool) -> int:
        """See `Index.refresh`."""
        return self.picture.changed.wait_for(self.refreshing(timeout, names=names), timeout)

    def refreshing(self, timeout: float | None, *, names: bool) -> Condition[int]:
        """Ask for a refresh; the condition that it is done."""
        self.picture.check_open()
        as_seconds(timeout)  # before anything is asked for
        ticket = self.watcher.request_refresh(names=names)
        return conditions.refreshed(self.picture, ticket, timeout)

    @contextlib.contextmanager
    def reading(
        self, domain: Domain, paths: Sequence[str], timeout: float | None
    ) -> Iterator[Condition[dict[str, bytes | None]]]:
        """Ask for nodes once; the condition that they were read. Leaving it withdraws that."""
        as_seconds(timeout)  # before anything is asked for
        reading = Reading(as_record(domain), paths)
        with self.picture.lock:
            self.picture.check_open()
            self.picture.holds(domain)
        self.watcher.request_reading(reading)
        try:
            yield conditions.read(self.picture, reading, timeout)
        finally:
            self.watcher.withdraw(reading)

    @property
    def capabilities(self) -> Capabilities:
        """See `Index.capabilities`."""
        return Capabilities(
            self.hypervisor.version,
            self.hypervisor.has_unique_ids,
            self.watcher.names_domids,
            self.watcher.one_watch,
        )

    @property
    def stats(self) -> Stats:
        """See `Index.stats`."""
        self.hub.warn_of_late()
        picture, table = self.picture, self.picture.table
        with picture.lock:
            return Stats(
                domains=len(table),
                names=len(table.names.unique),
                uuids=len(table.uuids.unique),
                generation=table.generation,
                live=picture.live,
                age=picture.age,
                unreadable=tuple(sorted(picture.unreadable)),
                deaf=self.watcher.deaf,
                listeners=self.hub.listeners,
                overflows=self.hub.overflows,
                listener_errors=self.hub.errors,
                **dataclasses.asdict(self.watcher.counters),
            )
