"""The index: what a program holds on to. Its opening and end, its listeners, the way to the host.

What it answers from memory is in answers.py, what can be waited for in waits.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final, Self

from domindex.answers import K, Stale
from domindex.core.nodes import Node, Value
from domindex.core.table import Change, Keyed
from domindex.domain import Domain, DomainInfo, Life
from domindex.errors import HostError, NoSuchDomain, NotLive, StoreError
from domindex.events import Added, DomainEvent, Event, Lost, Removed, Resync, Synced
from domindex.forking import register, rlock
from domindex.keys import as_domid
from domindex.listening.hub import Hub, MailboxOptions
from domindex.listening.mailbox import QUEUE
from domindex.listening.stream import EventStream
from domindex.listening.subscription import ErrorHook, Handler, Subscription
from domindex.listening.wanted import Wanted
from domindex.listening.watch import NodeHandler, NodeWatch, Refusal
from domindex.options import Timing
from domindex.ports import Host, Hypervisor
from domindex.stats import Capabilities, Stats
from domindex.waits import Waits
from domindex.watcher import Watcher

_VERIFIES: Final = 3
"""Refreshes before a verified look-up gives up on a host that changes faster than it can ask."""


class Index(Waits):
    """Every running domain of one host by name, uuid and domid, kept true by watching.

    Made by `domindex.connect()`. Safe from any thread, listeners included.
    """

    def __init__(self, host: Host, timing: Timing | None = None, stale: Stale = "serve") -> None:
        self.timing = timing or Timing()
        super().__init__(stale, self.timing.wait)
        self._lost: Lost | None = None  # what listeners were last told of the line
        self._infos: dict[int, tuple[float, Life, DomainInfo]] = {}
        self._hypervisor: Hypervisor = host.open_hypervisor()
        self._confirms = self._hypervisor.confirms
        self._watcher = Watcher(
            host, self._hypervisor, self._table, self._take, self._tell, self.timing
        )
        self._hub = Hub(_Source(self))
        self._hub.join(self._watcher)
        self._closing = rlock()  # held while it is closed; an interrupted one may go on
        self._closed = False
        register(self._after_fork)

    # -- opening and closing -----------------------------------------------------------------

    def start(self, timeout: float, *, wait: bool = True) -> None:
        """Begin to follow the host; returns once the index holds all of it. For `connect`."""
        if not wait:
            self._lost = Lost(NotLive("the index has not seen the host yet"))
        try:
            self._watcher.start(timeout, wait=wait)
        except BaseException:
            self.close()
            raise

    def close(self, timeout: float = 10.0) -> None:
        """End the watcher and every listener; afterwards each call raises Closed.

        Leaves no thread, watch or descriptor; what is stuck in a handler or in the hypervisor
        for longer than `timeout` seconds, as soon as it returns. May be called twice (a second
        call beside the first does not wait for it, one after a first that was interrupted
        finishes it), and from a listener: that listener's own thread then ends as its handler
        returns.
        """
        with self._lock:
            if not self._ended:
                self._ended = "this index is closed; connect() opens a new one"
                self._table.clear()  # first of all: a hit asks nobody whether we are closed
                self._hub.cut_off()
                self._bell.ring()
        if not self._closed and self._closing.acquire(blocking=False):
            try:
                self._finish(min(timeout, threading.TIMEOUT_MAX))
                self._closed = True
            finally:
                self._closing.release()

    def _finish(self, timeout: float) -> None:
        """What is left of `close`: each step may be done again."""
        deadline = time.monotonic() + timeout
        self._hub.cut_off()
        stopped = self._watcher.close(timeout)
        self._hub.close(max(0.0, deadline - time.monotonic()))
        if stopped:  # else its hypercall still needs the descriptor, and it closes at its end
            self._hypervisor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _after_fork(self) -> None:
        # Threads do not survive a fork and the line is the parent's: only refusing is safe.
        self._closed = True
        self._ended = "this index belongs to the parent process; connect() again in the child"
        self._table.clear()

    # -- asking the host ---------------------------------------------------------------------

    def info(self, domid: int, *, max_age: float = 0.0) -> DomainInfo:
        """State, memory and times of a domain, as the hypervisor has them now.

        max_age: what was asked so many seconds ago will do, if it is of the same life.

        Raises NoSuchDomain, HypercallFailed, InvalidKey, Closed. Cost: one hypercall, or none.
        """
        self._check_open()
        domid = as_domid(domid)
        held = self._table.get(domid)
        if max_age > 0 and held is not None and (known := self._infos.get(domid)) is not None:
            asked, life, info = known
            if life == held.life and time.monotonic() - asked <= max_age:
                return info
        now = time.monotonic()
        found = self._hypervisor.info(domid)
        if found is None:
            raise NoSuchDomain("domid", domid)
        if held is not None:
            self._infos[domid] = now, held.life, found
        return found

    # -- listening ---------------------------------------------------------------------------

    def subscribe(
        self,
        handler: Handler,
        *,
        events: Collection[type[Event]] | None = None,
        where: Callable[[Domain], object] | None = None,
        replay: bool = True,
        queue: int = QUEUE,
        reboot_grace: float = 0.0,
        on_error: ErrorHook | None = None,
        threaded: bool = True,
    ) -> Subscription:
        """Call `handler(event)` for every event from now on, in order, in a thread of its own.

        It first hears `Added` for each domain present, in domid order, then of duplicates, then
        `Synced`, then `Lost` if the index is not live at this moment, then whatever happens. A
        handler that raises is logged and called again for the next event.

        events: only these types, such as `(Added, Removed)`; None is all of them. A `Resync` is
            told whatever was chosen.
        where: only what concerns domains of which this holds; called with the record, by the
            listener's thread. Of a rename one of the two records is enough, and what is about
            no domain passes. Of a life that was told of, the stop and the end are told too,
            whatever this says by then.
        replay: False leaves out what is present now: `Synced` comes first.
        queue: how many events may wait for a slow handler. If there are more, they are dropped
            and counted, and it hears one `Resync` with all that runs then. Nobody else is held
            up, nor the index.
        reboot_grace: seconds for which a `Removed` that may be half of a reboot (its reason is
            REBOOT, WATCHDOG or not known) is held back. If within that time a domain comes with
            its uuid, or else its name, `Rebooted` is told in place of both (name it in `events`,
            if that chooses). Others go on meanwhile.
        on_error: called with the event and what the handler raised.
        threaded: False leaves the calls to `dispatch`, in the thread that calls it.

        Raises Closed, ValueError; TypeError for what cannot be called, or is `async def`. Cost: a
        thread, unless `threaded=False`.
        """
        return self._hub.subscribe(
            handler,
            Wanted(events, where),
            MailboxOptions(replay, queue, reboot_grace),
            on_error=on_error,
            threaded=threaded,
        )

    def events(
        self,
        *,
        events: Collection[type[Event]] | None = None,
        where: Callable[[Domain], object] | None = None,
        replay: bool = True,
        queue: int = QUEUE,
        reboot_grace: float = 0.0,
    ) -> EventStream:
        """The events of `subscribe`, to iterate over instead of being called. Close it.

        >>> from domindex.testing import SimulatedHost
        >>> with SimulatedHost() as host, host.connect() as index:
        ...     with index.events(replay=False) as events:
        ...         _ = host.create("web")
        ...         print([type(events.get(timeout=5)).__name__ for _ in range(2)])
        ['Synced', 'Added']
        """
        return self._hub.stream(Wanted(events, where), MailboxOptions(replay, queue, reboot_grace))

    def fileno(self) -> int:
        """A descriptor that is readable when `dispatch` has something to do, for a poll loop.

        It stays the same, and open as long as the index. Raises Closed.
        """
        return self._hub.loop().fd

    def dispatch(self) -> int:
        """Call the handlers made with `threaded=False` for what is there; how many events.

        Never waits for events. What comes while it runs makes `fileno` readable again. Called
        from a handler, or while another thread is at it, it does nothing.

        >>> import select
        >>> from domindex.testing import SimulatedHost
        >>> with SimulatedHost() as host, host.connect() as index:
        ...     _ = index.subscribe(lambda event: print(type(event).__name__), threaded=False)
        ...     _ = select.select([index], [], [], 5)
        ...     index.dispatch()
        Added
        Synced
        2
        """
        return self._hub.loop().dispatch()

    def watch(
        self,
        domain: Domain,
        path: str,
        handler: NodeHandler,
        *,
        threaded: bool = True,
        on_error: Refusal | None = None,
    ) -> NodeWatch:
        """Call `handler(domain, value)` with what a node of `domain` holds, and at each change.

        path: below /local/domain/N, such as "memory/meminfo". value: bytes, None while there is
        no such node; values that follow each other quickly may be told as the last of them.

        It is followed for the length of that life: whatever happens to the line, and not one call
        later than the index holds the domain's end. The record is the latest. Handlers of all
        nodes share one thread, or run in `dispatch` with `threaded=False`; one that raises is
        logged and called again for the next value.

        on_error: called in the handler's place, with the record and a StoreError, when xenstored
            refuses the node; `error` of the result has it too. It is asked for again at its next
            event and at each audit, and once it is given the handler is told.

        Raises NoSuchDomain if that life is not held any more, InvalidKey, Closed; TypeError for a
        handler that cannot be called, or is `async def`.
        Cost: a watch; at each change a read, and two hypercalls that prove whose it was.

        >>> import queue
        >>> from domindex.testing import SimulatedHost
        >>> with SimulatedHost() as host, host.connect() as index:
        ...     domid = host.create("web")
        ...     host.write(domid, "memory/meminfo", b"1024")
        ...     heard = queue.Queue()
        ...     web = index.wait_for(name="web")
        ...     watch = index.watch(web, "memory/meminfo", lambda *told: heard.put(told))
        ...     domain, value = heard.get(timeout=5)
        ...     print(domain.name, value)
        web b'1024'
        """
        return self._hub.watch(domain, path, handler, threaded=threaded, on_error=on_error)

    # -- state -------------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """The index has every change it was told of, and its line was lately known to work."""
        if not self._watcher.live or self._lost is not None or self._ended:
            return False
        if self._watcher.held_up:
            self._tell_held_up()
            return False
        return True

    @property
    def unreadable(self) -> Mapping[int, StoreError]:
        """Domids whose name xenstored does not give, and why. A mapping that never changes.

        Such a domain keeps the last name that it had, None if it has just been born. It is asked
        for again at its next event, and in turns with others at each probe.
        """
        return self._watcher.unreadable

    @property
    def age(self) -> float:
        """Seconds since the host last confirmed that the picture is whole."""
        return max(0.0, time.monotonic() - self._watcher.confirmed)

    @property
    def capabilities(self) -> Capabilities:
        """What this host offers, as found when it was opened."""
        return Capabilities(
            self._hypervisor.version,
            self._hypervisor.has_unique_ids,
            self._watcher.names_domids,
            self._watcher.one_watch,
        )

    @property
    def stats(self) -> Stats:
        """The counters now."""
        watcher = self._watcher
        with self._lock:
            queues = self._hub.queues
            return Stats(
                domains=len(self._table),
                names=len(self._table.names.held),
                uuids=len(self._table.uuids.held),
                generation=self.generation,
                live=self.live,
                age=self.age,
                events=watcher.events,
                passes=watcher.passes,
                lists=watcher.lists,
                reads=watcher.reads,
                drift=watcher.drift,
                reconnects=watcher.reconnects,
                lag=watcher.lag,
                refusals=watcher.refusals,
                unreadable=tuple(sorted(watcher.unreadable)),
                deaf=watcher.deaf,
                listeners=len(queues),
                pending=sum(queues),
                queues=queues,
                overflows=self._hub.overflows,
                listener_errors=self._hub.errors,
            )

    # -- within: events ----------------------------------------------------------------------

    def _take(
        self, changes: Sequence[Change], line_events: Sequence[Event], inferred: bool
    ) -> None:
        """The watcher's changes: into the table and to every listener, in one step."""
        now = time.time()
        with self._lock:
            if self._ended:
                return
            told = self._table.apply(changes, time=now, inferred=inferred)
            self._past.add(told)
            for gone in told:
                if isinstance(gone, Removed):
                    self._infos.pop(gone.domain.domid, None)
                    self._hub.ended(gone.domain.domid)
            events: list[Event] = [*told]
            lost = self._lost
            for event in line_events:
                if not isinstance(event, Lost) or lost is None:  # it may be told already
                    events.append(replace(event, generation=self.generation, time=now))
                lost = event if isinstance(event, Lost) else None
            if self._stale != "serve":
                (self._table.hide if lost else self._table.show)()
                if self._watcher.unreadable:
                    self._table.names.hide()
            self._lost = lost  # only then live again: whoever sees that finds all
            self._hub.tell(events)
            self._bell.ring()

    def _tell_held_up(self) -> None:
        """The watcher cannot tell that it is held up: whoever sees it tells it."""
        with self._lock:
            seconds = self._watcher.held_up
            if seconds and self._lost is None and not self._ended:
                self._watcher.notice()
                why = f"the thread that follows the host has been held up for {seconds:.1f} s"
                self._take((), (Lost(HostError(why)),), False)

    def _tell(self, values: Sequence[tuple[Node, Value]]) -> None:
        """The watcher's values of nodes: to whoever follows them."""
        with self._lock:
            if not self._ended:
                self._hub.node_values(values)

    # -- within: verifying -------------------------------------------------------------------

    def _verified(self, keyed: Keyed[K], key: K) -> Domain:
        for _ in range(_VERIFIES):
            self.refresh()
            domain = keyed.held.get(key)
            if domain is None:
                break
            if self._confirms(domain):
                return domain
        return keyed.view[key]  # from a list made after the call began: the hypervisor's word too

    def _not_live(self) -> NotLive:
        cause = self._watcher.cause or (self._lost and self._lost.cause)
        return NotLive("cannot tell: the line to the host is down", cause or None)


class _Source:
    """The index as its hub sees it: see `hub.Source`."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.lock = index._lock
        self.check_open = index._check_open

    def first_events(self, *, replay: bool) -> list[Event]:
        present = self._present() if replay else ()
        return [*present, *self._whole(Synced())]

    def resync_events(self) -> list[Event]:
        return self._whole(Resync(tuple(self._index._table)))

    def holds(self, domain: Domain) -> Domain:
        held = self._index._table.get(domain.domid)
        if held is None or held.life != domain.life:
            raise NoSuchDomain("life", domain.life)
        return held

    def latest(self, domain: Domain) -> Domain:
        held = self._index._table.get(domain.domid)
        return held if held is not None and held.life == domain.life else domain

    def _present(self) -> list[DomainEvent]:
        now, generation = time.time(), self._index.generation
        table = self._index._table
        return [
            *(Added(domain, generation=generation, time=now) for domain in table),
            *table.duplicates(generation=generation, time=now),
        ]

    def _whole(self, first: Event) -> list[Event]:
        """An event about all, and after it whether the line is down."""
        now, generation = time.time(), self._index.generation
        lost = self._index._lost
        events = [first] if lost is None else [first, lost]
        return [replace(event, generation=generation, time=now) for event in events]
