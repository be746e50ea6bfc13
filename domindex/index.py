"""The index: what a program holds on to. Look-ups, the listeners, and the way to the watcher.

A hit is one dict look-up, without a lock and without leaving the process. Only a miss looks
closer: then it is worth the lock to tell absent, ambiguous and cannot-tell apart.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self, TypeVar
from uuid import UUID

from domindex.delivery import Handler, Subscription
from domindex.domain import Domain, DomainInfo, OSType, as_domid, as_name, as_uuid
from domindex.errors import Ambiguous, Closed, InvalidKey, NoSuchDomain, NotLive
from domindex.events import Added, Event, Lost
from domindex.ports import Host, Hypervisor
from domindex.table import Change, DomainTable, Keyed, View
from domindex.watcher import Timing, Watcher

K = TypeVar("K", bound=Any)

_VERIFIES: Final = 3
"""Refreshes before a verified look-up gives up on a host that changes faster than it can ask."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters since the index was opened, and sizes now.

    domains, names, uuids: held now; names and uuids count those with a single holder.
    events: watch events taken in. passes: times the difference was worked out.
    lists: hypercalls for the whole list. reads: names read. audits that found something
    add the number of changes to `drift`. reconnects: lines lost and recovered.
    pending: events that listeners have not yet been handed. listener_errors: their failures.
    """

    domains: int
    names: int
    uuids: int
    generation: int
    live: bool
    age: float
    events: int
    passes: int
    lists: int
    reads: int
    drift: int
    reconnects: int
    listeners: int
    pending: int
    listener_errors: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this host offers.

    xen: how the hypervisor was recognised. unique_ids: it names every life itself (>= 4.21),
    so that a reused domid is always recognised. watch_depth: xenstored says which domain came
    or went (>= 4.22).
    """

    xen: str
    unique_ids: bool
    watch_depth: bool


class Index:
    """Every running domain of one host by name, uuid and domid, kept true by watching.

    Made by `domindex.connect()`. Safe from any thread, listeners included.

    names, uuids, domids: live read-only mappings at dict speed. `index.names["web"]` raises
        what `by_name("web")` raises; `.get` gives None and `in` gives False instead, and they
        take keys only as the index keeps them: str, UUID, int.
    """

    names: View[str]
    uuids: View[UUID]
    domids: View[int]

    def __init__(self, host: Host, timing: Timing | None = None) -> None:
        self._lock = threading.RLock()  # held to change the table, or to see it whole
        self._table = DomainTable(
            lambda domid: self._absent("domid", self._table.domids, as_domid(domid)),
            lambda name: self._absent("name", self._table.names, as_name(name)),
            lambda uuid: self._absent("uuid", self._table.uuids, as_uuid(uuid)),
        )
        self.names = self._table.names.view
        self.uuids = self._table.uuids.view
        self.domids = self._table.domids.view
        self._subscriptions: list[Subscription] = []
        self._lost: Lost | None = None  # what listeners were last told of the line
        self._ended = ""  # why every call is refused from now on
        self.timing = timing or Timing()
        self._hypervisor: Hypervisor = host.open_hypervisor()
        self._confirms = self._hypervisor.confirms
        self._watcher = Watcher(host, self._hypervisor, self.domids, self._take, self.timing)
        _open.add(self)

    # -- opening and closing -----------------------------------------------------------------

    def start(self, timeout: float) -> None:
        """Begin to follow the host; returns once the index holds all of it. For `connect`."""
        try:
            self._watcher.start(timeout)
        except BaseException:
            self.close()
            raise

    def close(self, timeout: float = 10.0) -> None:
        """End the watcher and every listener; afterwards each call raises Closed.

        Leaves no thread, watch or descriptor; what is stuck in a handler or in the hypervisor
        for longer than `timeout` seconds, as soon as it returns. May be called twice (the
        second call does not wait for the first), and from a listener: that listener's own
        thread then ends as its handler returns.
        """
        with self._lock:
            if self._ended:
                return
            self._ended = "this index is closed; connect() opens a new one"
            subscriptions = list(self._subscriptions)
        deadline = time.monotonic() + min(timeout, threading.TIMEOUT_MAX)
        for subscription in subscriptions:
            subscription.close(0)  # no further call, in any of them
        stopped = self._watcher.close(timeout)
        for subscription in subscriptions:
            subscription.close(max(0.0, deadline - time.monotonic()))
        with self._lock:
            self._table.clear()
        if stopped:  # else its hypercall still needs the descriptor, and it closes at its end
            self._hypervisor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _after_fork(self) -> None:
        # Threads do not survive a fork and the line is the parent's: only refusing is safe.
        # The lock may have been held by a thread that is no more.
        self._lock = threading.RLock()
        for subscription in self._subscriptions:
            subscription._after_fork()
        self._ended = "this index belongs to the parent process; connect() again in the child"
        self._table.clear()

    # -- look-ups ----------------------------------------------------------------------------

    def by_name(self, name: str | bytes, verify: bool = False) -> Domain:
        """The one domain called `name`.

        name: compared byte for byte; case counts; digits are a name like any other.
        verify: ask the hypervisor whether that domain still runs, as the record says. The name
            itself is xenstore's, and follows by its own watch.

        Raises NoSuchDomain, Ambiguous, NotLive (a miss while the line is down), Closed,
        InvalidKey; with `verify` also HypercallFailed and TimedOut.
        Cost: one dict look-up. Verified: one hypercall; on a miss or a contradiction a
        `refresh` too.
        """
        if verify:
            return self._verified(self.names, name, as_name)
        try:
            return self.names[name]  # type: ignore[index]  # bytes come back by __missing__
        except TypeError as error:
            raise _unusable(error, "name", name) from None

    def by_uuid(self, uuid: UUID | str | bytes, verify: bool = False) -> Domain:
        """The one domain with this uuid: a UUID, text in any spelling, or 16 bytes.

        The nil uuid, which dom0 has, is nobody's. Errors and cost as `by_name`; verified on
        Xen >= 4.21 two hypercalls, for the life and for its uuid.
        """
        if verify:
            return self._verified(self.uuids, uuid, as_uuid, uuid=True)
        try:
            return self.uuids[uuid]  # type: ignore[index]
        except TypeError as error:
            if isinstance(uuid, bytearray):  # as_uuid takes it, but it has no hash
                return self.by_uuid(bytes(uuid))
            raise _unusable(error, "uuid", uuid) from None

    def by_id(self, domid: int, verify: bool = False) -> Domain:
        """The domain with this domid. Errors and cost as `by_name`; never Ambiguous."""
        if verify:
            return self._verified(self.domids, as_domid(domid), as_domid)
        return self.domids[domid if type(domid) is int else as_domid(domid)]

    def os_type(self, domid: int, verify: bool = False) -> OSType:
        """PV, HVM, PVH or UNKNOWN. Errors and cost as `by_id`."""
        return self.by_id(domid, verify=verify).type

    def all_by_name(self, name: str | bytes) -> tuple[Domain, ...]:
        """Every domain called `name`, lowest domid first; empty if none. Raises NotLive then."""
        return self._all("name", self._table.names, as_name(name))

    def all_by_uuid(self, uuid: UUID | str | bytes) -> tuple[Domain, ...]:
        """Every domain with this uuid, lowest domid first; empty if none. Raises NotLive then."""
        return self._all("uuid", self._table.uuids, as_uuid(uuid))

    def find(self, *, prefix: str | bytes = "", type: OSType | None = None) -> tuple[Domain, ...]:
        """Domains by the start of their name and by type, in name order, then by domid.

        Those without a name come last, and only where no prefix is asked for.
        Cost: one search among the sorted names and a step for each domain found.
        """
        start = as_name(prefix)
        with self._lock:
            self._check_open()
            found = list(self._table.named(start))
            if not start:
                found += [domain for domain in self._table if domain.name is None]
        return tuple(domain for domain in found if type is None or domain.type is type)

    def __iter__(self) -> Iterator[Domain]:
        """All domains in domid order, as they were at one moment."""
        with self._lock:
            self._check_open()
            return iter(list(self._table))

    def __len__(self) -> int:
        self._check_open()
        return len(self.domids)

    def info(self, domid: int) -> DomainInfo:
        """State, memory and times of a domain, as the hypervisor has them now.

        Raises NoSuchDomain, HypercallFailed. Cost: one hypercall.
        """
        self._check_open()
        info = self._hypervisor.info(as_domid(domid))
        if info is None:
            raise NoSuchDomain("domid", domid)
        return info

    def refresh(self, timeout: float = 5.0, *, names: bool = False) -> int:
        """Return once every change that was complete on the host before the call is held.

        names: read every name again too, in case xenstored lost an event (it has no cause to).
        Returns the generation. Raises NotLive or TimedOut after `timeout` seconds, Closed.
        Cost: one xenstore round trip and one hypercall for the list, then what has changed. On
        Xen >= 4.21 one small hypercall more for each domain, to tell its life.
        """
        self._check_open()
        self._watcher.refresh(timeout, names=names)
        return self.generation

    # -- listening ---------------------------------------------------------------------------

    def subscribe(self, handler: Handler) -> Subscription:
        """Call `handler(event)` for every event from now on, in order, in a thread of its own.

        It first hears `Added` for each domain present, in domid order, then `Lost` if the
        index is not live at this moment, then whatever happens. A handler that raises is
        logged and called again for the next event. Its events queue up while it is busy.
        """
        with self._lock:
            self._check_open()
            now = time.time()
            generation = self.generation
            present: list[Event] = [
                Added(domain, generation=generation, time=now) for domain in self._table
            ]
            if self._lost is not None:
                present.append(replace(self._lost, generation=generation, time=now))
            subscription = Subscription(handler, self._forget)
            self._subscriptions.append(subscription)
            subscription.put(present)
            return subscription

    def _forget(self, subscription: Subscription) -> None:
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

    # -- state -------------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """The index has every change it was told of, and its line was lately known to work."""
        return self._watcher.live and not self._ended

    @property
    def age(self) -> float:
        """Seconds since the host last confirmed that the picture is whole."""
        return max(0.0, time.monotonic() - self._watcher.confirmed)

    @property
    def generation(self) -> int:
        """Grows by one with each change of the index."""
        return self._table.generation

    @property
    def capabilities(self) -> Capabilities:
        """What this host offers, as found when it was opened."""
        return Capabilities(
            self._hypervisor.version, self._hypervisor.has_unique_ids, self._watcher.has_depth
        )

    @property
    def stats(self) -> Stats:
        """The counters now."""
        watcher = self._watcher
        with self._lock:
            listeners = tuple(self._subscriptions)
            return Stats(
                domains=len(self.domids),
                names=len(self.names),
                uuids=len(self.uuids),
                generation=self.generation,
                live=self.live,
                age=self.age,
                events=watcher.events,
                passes=watcher.passes,
                lists=watcher.lists,
                reads=watcher.reads,
                drift=watcher.drift,
                reconnects=watcher.reconnects,
                listeners=len(listeners),
                pending=sum(listener.pending for listener in listeners),
                listener_errors=sum(listener.errors for listener in listeners),
            )

    # -- within ------------------------------------------------------------------------------

    def _take(
        self, changes: Sequence[Change], line_events: Sequence[Event], inferred: bool
    ) -> None:
        """The watcher's changes: into the table and to every listener, in one step."""
        now = time.time()
        with self._lock:
            if self._ended:
                return
            events: list[Event] = [*self._table.apply(changes, time=now, inferred=inferred)]
            events += [
                replace(event, generation=self.generation, time=now) for event in line_events
            ]
            for event in line_events:
                self._lost = event if isinstance(event, Lost) else None
            for subscription in self._subscriptions:
                subscription.put(events)

    def _absent(self, what: str, keyed: Keyed[K], key: K) -> Domain:
        """What to say of a key that its view does not hold. The slow path of every look-up."""
        with self._lock:
            holders = keyed.holders(key)  # a key spelt otherwise, or held by now
            if len(holders) == 1:
                return next(iter(holders.values()))
            self._check_open()
            if holders:
                raise Ambiguous(what, key, _ordered(holders))
            if not self.live:
                raise self._not_live()
            raise NoSuchDomain(what, key)

    def _all(self, what: str, keyed: Keyed[K], key: K) -> tuple[Domain, ...]:
        with self._lock:
            self._check_open()
            holders = keyed.holders(key)
            if not holders and not self.live:
                raise self._not_live()
            return _ordered(holders)

    def _verified(
        self, view: View[K], key: Any, spelt: Callable[[object], K], *, uuid: bool = False
    ) -> Domain:
        """P7: an answer that the hypervisor agrees with, or a proven absence."""
        try:
            domain = view.get(key)
        except TypeError:  # unhashable: `spelt` says what is wrong with it
            domain = None
        if domain is None:
            domain = view.get(key := spelt(key))
        refreshed = False
        for _ in range(_VERIFIES):
            if domain is not None and self._confirms(domain, uuid):
                return domain
            if domain is None and refreshed:
                break
            self.refresh()
            refreshed = True
            domain = view.get(key)
        return view[key]  # from a list made after the call began: the hypervisor's word too

    def _check_open(self) -> None:
        if self._ended:
            raise Closed(self._ended)

    def _not_live(self) -> NotLive:
        return NotLive("cannot tell: the line to the host is down", self._watcher.cause)


def _ordered(holders: dict[int, Domain]) -> tuple[Domain, ...]:
    return tuple(holders[domid] for domid in sorted(holders))


def _unusable(error: TypeError, what: str, key: object) -> InvalidKey:
    if isinstance(error, InvalidKey):
        return error
    return InvalidKey(f"a {what} cannot be {type(key).__name__}")


_open: weakref.WeakSet[Index] = weakref.WeakSet()


def _after_fork() -> None:
    for index in list(_open):
        index._after_fork()
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
