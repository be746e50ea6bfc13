"""The index: what a program holds on to. Its opening and end, its listeners, the way to the host.

What it answers from memory is in answers.py, what can be waited for in waits.py.
"""

from __future__ import annotations

import sys
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
from domindex.forking import register
from domindex.keys import as_domid
from domindex.listening.delivery import ErrorHook, EventStream, Handler, Opener, Subscription
from domindex.listening.dispatch import Dispatcher
from domindex.listening.mailbox import QUEUE, Mailbox, Wanted
from domindex.listening.waiting import Bell
from domindex.listening.watch import NodeHandler, NodeWatch, NodeWatches, Refusal, run_handler
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
        self._mailboxes: list[Mailbox] = []
        self._subscriptions: list[Subscription] = []
        self._dispatcher: Dispatcher | None = None
        self._lost: Lost | None = None  # what listeners were last told of the line
        self._overflows = self._errors = 0  # of listeners that have gone
        self._infos: dict[int, tuple[float, Life, DomainInfo]] = {}
        self._hypervisor: Hypervisor = host.open_hypervisor()
        self._confirms = self._hypervisor.confirms
        self._watcher = Watcher(
            host, self._hypervisor, self._table, self._take, self._tell, self.timing
        )
        self._nodes = NodeWatches(
            self._lock,
            lambda domain, node: self._watcher.follow(domain.life, node),
            self._watcher.drop,
            self._latest,
        )
        self._runners: dict[bool, Subscription] = {}  # of handlers of nodes, by `threaded`
        self._closing = threading.RLock()  # held while it is closed; an interrupted one may go on
        self._leaving: list[Subscription] = []  # whose threads `close` has yet to see end
        self._closed = False
        register(self)

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
                self._nodes.clear()
                self._leaving = list(self._subscriptions)
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
        for mailbox in list(self._mailboxes):
            mailbox.close()  # no further call, in any listener
        stopped = self._watcher.close(timeout)
        for subscription in self._leaving:
            subscription.close(max(0.0, deadline - time.monotonic()))
        if self._dispatcher is not None:
            self._dispatcher.close()
        if stopped:  # else its hypercall still needs the descriptor, and it closes at its end
            self._hypervisor.close()
        self._leaving = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _after_fork(self) -> None:
        # Threads do not survive a fork and the line is the parent's: only refusing is safe.
        # The lock may have been held by a thread that is no more.
        self._lock = threading.RLock()
        self._bell = Bell(self._lock)
        self._nodes._after_fork(self._lock)
        self._closed = True
        for mailbox in self._mailboxes:
            mailbox._after_fork()
        if self._dispatcher is not None:
            self._dispatcher._after_fork()
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
        wanted = Wanted(events, where)
        opener = self._opener(replay, queue, reboot_grace)
        with self._lock:
            self._check_open()
            subscription = Subscription(
                handler,
                opener,
                self._forget,
                wanted=wanted,
                on_error=on_error,
                loop=None if threaded else self._loop(),
            )
            self._subscriptions.append(subscription)
            return subscription

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
        return EventStream(
            self._opener(replay, queue, reboot_grace), Wanted(events, where), self._forget
        )

    def fileno(self) -> int:
        """A descriptor that is readable when `dispatch` has something to do, for a poll loop.

        It stays the same, and open as long as the index. Raises Closed.
        """
        with self._lock:
            self._check_open()
            return self._loop().fd

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
        with self._lock:
            self._check_open()
            loop = self._loop()
        return loop.dispatch()

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
        with self._lock:
            self._check_open()
            held = self._table.get(domain.domid)
            if held is None or held.life != domain.life:
                raise NoSuchDomain("life", domain.life)
            return self._nodes.add(held, path, handler, self._runner(threaded)._mailbox, on_error)

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
            self._drop_abandoned()
            queues = tuple(mailbox.pending for mailbox in self._mailboxes)
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
                overflows=self._overflows + sum(box.overflows for box in self._mailboxes),
                listener_errors=self._errors + sum(s.errors for s in self._subscriptions),
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
                    self._nodes.ended(gone.domain.domid)
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
            for mailbox in self._mailboxes:
                mailbox.put(events)
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
                self._nodes.told(values)

    def _latest(self, domain: Domain) -> Domain:
        """The record of the same life as it is now."""
        held = self._table.get(domain.domid)
        return held if held is not None and held.life == domain.life else domain

    def _runner(self, threaded: bool) -> Subscription:
        """Who calls the handlers of nodes. The lock is held."""
        if threaded not in self._runners:
            # Its mailbox is not the index's: nothing but what nodes tell comes into it, and of
            # each node one event at most, so that it needs no bound.
            def opened(wake: Callable[[], object]) -> Mailbox:
                mailbox = Mailbox(
                    self._lock, lambda: self._nodes.waiting(mailbox), wake, size=sys.maxsize
                )
                return mailbox

            self._runners[threaded] = runner = Subscription(
                run_handler,
                opened,
                self._forget,
                loop=None if threaded else self._loop(),
            )
            self._subscriptions.append(runner)
        return self._runners[threaded]

    def _present(self) -> list[Event]:
        """What a new listener is told. The lock is held."""
        now, generation = time.time(), self.generation
        domains: list[DomainEvent] = [
            Added(domain, generation=generation, time=now) for domain in self._table
        ]
        return [*domains, *self._table.duplicates(generation=generation, time=now)]

    def _state(self, first: Event) -> list[Event]:
        """An event about all, and after it whether the line is down. The lock is held."""
        now, generation = time.time(), self.generation
        told = [first] if self._lost is None else [first, self._lost]
        return [replace(event, generation=generation, time=now) for event in told]

    def _opener(self, replay: bool, queue: int, reboot_grace: float) -> Opener:
        if queue < 1:
            raise ValueError(f"queue is a number of events of at least 1, not {queue!r}")
        if not 0 <= reboot_grace <= threading.TIMEOUT_MAX:
            raise ValueError(f"reboot_grace is seconds from 0, not {reboot_grace!r}")

        def opened(wake: Callable[[], object]) -> Mailbox:
            with self._lock:
                self._check_open()
                mailbox = Mailbox(
                    self._lock,
                    lambda: self._state(Resync(tuple(self._table))),
                    wake,
                    size=queue,
                    reboot_grace=reboot_grace,
                )
                mailbox.begin([*(self._present() if replay else ()), *self._state(Synced())])
                self._drop_abandoned()
                self._mailboxes.append(mailbox)
                return mailbox

        return opened

    def _forget(self, mailbox: Mailbox) -> None:
        with self._lock:
            if mailbox in self._mailboxes:
                self._mailboxes.remove(mailbox)
                self._overflows += mailbox.overflows
            for subscription in list(self._subscriptions):
                if subscription._hears(mailbox):
                    self._subscriptions.remove(subscription)
                    self._errors += subscription.errors

    def _drop_abandoned(self) -> None:
        """Forget the streams that were let go unclosed. The lock is held."""
        for mailbox in [mailbox for mailbox in self._mailboxes if mailbox.closed]:
            self._forget(mailbox)

    def _loop(self) -> Dispatcher:
        if self._dispatcher is None:
            self._dispatcher = Dispatcher()
        return self._dispatcher

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
