"""The one thread that follows the host: wait, ask, update, deliver.

It owns the line to xenstore and is the only writer of the table. Everything it does is one
of three things, repeated for as long as the index is open:

    open a line -> first pass over everything -> follow events -> (line lost) -> back off

Whatever fails on the way, the picture stays as it was, is marked not live, and the next line
begins with a pass over everything. A pass lists the domains, watches and reads what is new,
lists again before it believes a name, and takes the difference into the table at once.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from domindex.core.nodes import Node
from domindex.core.reconcile import SPECIAL, Held, Reconciler, name_path
from domindex.core.table import Change
from domindex.domain import Life
from domindex.errors import AccessDenied, HostError, HypercallFailed, TimedOut
from domindex.events import Event, Lost, Recovered
from domindex.ports import Host, Hypervisor, Row, Store

log = logging.getLogger("domindex")

_ROUNDS = 8
"""Rounds of one pass. Only names that change as fast as they are read need more than three:
then what is certain is told, and the rest waits for the next pass."""

_FEW = 16
"""Up to here domains are looked at one by one; above, one list of all is cheaper."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How often and how long, in seconds.

    request: the limit of one request to xenstore, and of opening a line.
    probe: an idle line is asked for a sign of life this often: a deaf one is noticed
        within `probe + request`.
    audit: everything is read again this often, in case an event was lost.
    retry, retry_most: the first and the longest pause before a lost line is opened again;
        it doubles in between and is jittered by up to half.
    wait: how long a look-up with `stale="wait"` waits for a line that is down.

    probe and audit may be infinite, for never. Raises ValueError for what is no such time.
    """

    request: float = 5.0
    probe: float = 5.0
    audit: float = 300.0
    retry: float = 0.1
    retry_most: float = 10.0
    wait: float = 10.0

    def __post_init__(self) -> None:
        for name in ("request", "probe", "audit", "retry", "retry_most", "wait"):
            seconds = getattr(self, name)
            never = name in ("probe", "audit")  # these two may be left out
            if not seconds > 0 or (math.isinf(seconds) and not never):
                raise ValueError(f"{name} is a number of seconds above 0, not {seconds!r}")


class Watcher:
    """Follows `host` and hands what is certain to `take`, from its own thread.

    held: what the table holds, as `take` has left it.
    take(changes, events, inferred): the changes for the table, and events of the line that
    follow them. tell(values): of other nodes that are followed. Both called under no lock.
    """

    def __init__(
        self,
        host: Host,
        hypervisor: Hypervisor,
        held: Held,
        take: Callable[[Sequence[Change], Sequence[Event], bool], None],
        tell: Callable[[Sequence[tuple[Node, bytes | None]]], None],
        timing: Timing,
    ) -> None:
        self._host = host
        self._hypervisor = hypervisor
        self._take, self._tell = take, tell
        self._wishes: deque[tuple[Life | None, Node]] = deque()  # None: do not follow any more
        self._timing = timing
        self._reconciler = Reconciler(held)
        self._left: set[int] | None = set()  # what the last pass left for the next
        self._state = threading.Condition()  # guards what other threads wait for, below
        self._store: Store | None = None
        self._next: Store | None = None  # a line that is open and will follow this one
        self._closing = False
        self._over = self._abandoned = False  # the thread is done; nobody waits for it to be
        self._asked = 0  # refreshes asked for
        self._asked_names = 0  # the last of them that wants every name read again
        self.answered = 0  # the last refresh that is done
        self.has_depth = False
        self.live = False
        self.cause: BaseException | None = None
        self.confirmed = 0.0  # monotonic time at which the picture was last known true
        self._lost_at: float | None = None
        self.watches = self.events = self.passes = self.lists = self.reads = 0
        self.drift = self.reconnects = 0
        self.lag = 0.0  # seconds from the last event to the changes it led to
        self._heard_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="domindex-watcher", daemon=True)

    # -- from any thread ---------------------------------------------------------------------

    def start(self, timeout: float) -> None:
        """Begin, and return once the first pass is done. Raises why it could not be."""
        deadline = time.monotonic() + min(timeout, threading.TIMEOUT_MAX)
        self._thread.start()
        with self._state:
            while not self.live and self.cause is None:
                if not self._state.wait(deadline - time.monotonic()):
                    raise TimedOut(f"the first look at the host took longer than {timeout} s")
            if not self.live:
                assert self.cause is not None
                raise self.cause

    def ask(self, *, names: bool = False) -> int:
        """Ask for a refresh, and wait for nothing: the ticket that `answered` will reach.

        Then every change that was complete before this call is taken in. `take` is called
        after it, with no changes if there are none, so that whoever waits may look.
        """
        with self._state:
            self._asked += 1
            if names:
                self._asked_names = self._asked
            self._poke()
            return self._asked

    def follow(self, life: Life, node: Node) -> None:
        """Follow a node as long as this life lasts: `tell` its value now and at each change."""
        self._wish(life, node)

    def drop(self, node: Node) -> None:
        """Follow it no longer."""
        self._wish(None, node)

    def _wish(self, life: Life | None, node: Node) -> None:
        self._wishes.append((life, node))
        with self._state:
            self._poke()

    def close(self, timeout: float) -> bool:
        """End the thread and its line. False if it did not end in time."""
        with self._state:
            self._closing = True
            self.live = False
            self._poke()
            if self._store is not None:
                self._store.interrupt()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        with self._state:
            self._abandoned = not self._over and self._thread.ident is not None
            return not self._abandoned

    def _poke(self) -> None:
        self._state.notify_all()
        if self._store is not None:
            self._store.wake()

    # -- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._follow_lines()
        finally:
            if self._next is not None:
                self._next.close()
            with self._state:
                self._over = True
                self.live = False
                self._state.notify_all()
                abandoned = self._abandoned
            if abandoned:  # whoever closed us gave up waiting for our last hypercall
                self._hypervisor.close()

    def _follow_lines(self) -> None:
        pause = self._timing.retry
        while not self._closing:
            began = time.monotonic()
            try:
                self._follow()
                continue
            except Exception as error:
                if self._closing:
                    return
                if not isinstance(error, HostError):  # a fault of ours: loud, but not deadly
                    with contextlib.suppress(Exception):
                        log.exception("the watcher failed; it starts over")
                self._lose(error)
            if time.monotonic() - began > 2 * self._timing.retry_most:
                pause = self._timing.retry  # it had been calm
            self._rest(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, self._timing.retry_most)

    def _rest(self, pause: float) -> None:
        until = time.monotonic() + pause
        with self._state:
            while not self._closing and (left := until - time.monotonic()) > 0:
                self._state.wait(left)

    def _follow(self) -> None:
        """One line, from its opening until it is lost, which is raised, or its term or the end."""
        store, self._next = self._next or self._host.open_store(self._timing.request), None
        try:
            with self._state:
                self._store = store
                if self._closing:
                    return
            self._reconciler.new_line()
            self._wished()  # a node that xenstored refuses may have been given up
            self._left = set()
            self.has_depth = store.has_depth
            store.watch(SPECIAL, depth=1 if store.has_depth else None)
            self._pass(store, None, thorough=True, inferred=True)
            self._gain()
            self._listen(store)
        finally:
            with self._state:
                self._store = None
            store.close()

    def _listen(self, store: Store) -> None:
        timing = self._timing
        heard = audited = time.monotonic()  # the line's last sign of life; the last audit
        while not self._closing:
            now = time.monotonic()
            if self._asked > self.answered:
                self._refresh(store)
            elif now >= audited + timing.audit:  # before events: a guest may write without end
                if store.forgets and self._renew():
                    return
                self._audit(store)
                audited = time.monotonic()
            elif (scope := self._events(store)) != set():
                self._pass(store, scope)
            elif now >= heard + timing.probe:
                store.barrier()
            else:
                store.wait(min(heard + timing.probe, audited + timing.audit) - now)
                continue
            heard = self.confirmed = time.monotonic()

    def _renew(self) -> bool:
        """Open another line: only its watches are known to be there. False if root was dropped."""
        try:
            self._next = self._host.open_store(self._timing.request)
        except AccessDenied:
            return False
        return True

    def _refresh(self, store: Store) -> None:
        asked = self._asked
        if self._asked_names > self.answered:
            self._reconciler.doubt_names()
        store.barrier()
        self._events(store)
        self._pass(store, None, thorough=True)
        self.answered = asked
        self._take((), (), False)  # under no lock of ours: it takes the index's
        time.sleep(0)  # who asked has the interpreter first, and not when we next wait

    def _audit(self, store: Store) -> None:
        """Read everything again. What no event told of is drift: counted, and repaired."""
        store.barrier()
        self._pass(store, self._events(store))
        self._reconciler.doubt_names()
        told = self.events - self.watches  # every new watch fires once, and tells of nothing
        changes = self._pass(store, None, thorough=True, inferred=True)
        store.barrier()
        self._pass(store, self._events(store))
        if changes and self.events - self.watches <= told:
            self.drift += changes
            with contextlib.suppress(Exception):
                log.warning("the audit found %d changes that no event had told of", changes)

    def _events(self, store: Store, *, arrived: bool = False) -> set[int] | None:
        """Take in what has fired: the domids to look at, None for all."""
        events = list(store.events(arrived=arrived))
        if events:
            self.events += len(events)
            self._heard_at = time.monotonic()
        fired, wished = self._reconciler.fired(events), self._wished()
        left, self._left = self._left, set()
        return None if fired is None or left is None else fired | wished | left

    def _wished(self) -> set[int]:
        """Do what was wished about nodes; the domids to look at for it."""
        scope: set[int] = set()
        while self._wishes:
            life, node = self._wishes.popleft()
            if life is None:
                self._reconciler.nodes.drop(node)
                scope.add(node.domid)
            elif self._reconciler.follow(life, node):
                scope.add(node.domid)
        return scope

    def _pass(
        self,
        store: Store,
        scope: set[int] | None,
        *,
        thorough: bool = False,
        inferred: bool = False,
    ) -> int:
        """Look at `scope` (None: at all) until nothing is open; how many changes it told."""
        reconciler = self._reconciler
        told = 0
        if scope != set():
            self.passes += 1
        for _ in range(_ROUNDS):
            if scope == set():
                break
            if scope is not None and len(scope) > _FEW:
                scope = None
            rows = self._list() if scope is None else self._look(scope)
            ids = self._unique_ids(rows, thorough)
            reconciler.see(rows, now=time.time(), scope=scope, unique_ids=ids)
            if changes := reconciler.take():
                self._take(changes, (), inferred)
                told += len(changes)
                if self._heard_at is not None:
                    self.lag = time.monotonic() - self._heard_at
            if known := reconciler.nodes.take():
                self._tell(known)
            thorough = False
            newborn = reconciler.newborn() if self.live else []
            if 0 < len(newborn) <= _FEW:
                # A watch costs the server more than a read: it may wait until they are told of.
                self._read(store, newborn, [])
                scope = {*newborn}
                continue
            unwatch, watch = reconciler.ask()
            if unwatch:
                store.unwatch(unwatch)
            if watch:
                store.watch(watch)
                self.watches += len(watch)
            # What has come since is answered by the same reads; without any it can wait.
            scope = self._events(store, arrived=reconciler.reads)
            names, nodes = reconciler.unread(), reconciler.nodes.unread()
            if names or nodes:
                self._read(store, names, nodes)
                if scope is not None:
                    scope.update(names, (node.domid for node in nodes))
        else:
            self._left = scope
        return told

    def _read(self, store: Store, names: Sequence[int], nodes: Sequence[Node]) -> None:
        paths = [*map(name_path, names), *(node.path for node in nodes)]
        values = store.read(paths)
        self.reads += len(paths)
        self._reconciler.heard(
            zip(names, values, strict=False), zip(nodes, values[len(names) :], strict=True)
        )

    def _list(self) -> Sequence[Row]:
        """Every domain. Raises if what it lacks is still there: removals need a whole list."""
        for _ in range(2):
            self.lists += 1
            rows = self._hypervisor.list()
            missing = self._reconciler.unlisted(rows)
            held = [row for d in missing if (row := self._hypervisor.get(d)) and not row.dying]
            if not held:
                return rows
            # Or it is another life, born since: then the second list has it.
        raise HypercallFailed(f"the list of domains lacks {held[0].domid}, which exists")

    def _look(self, scope: set[int]) -> Sequence[Row]:
        return [row for d in sorted(scope) if (row := self._hypervisor.get(d)) is not None]

    def _unique_ids(self, rows: Sequence[Row], thorough: bool) -> dict[int, int | None]:
        if not self._hypervisor.has_unique_ids:
            return {}
        suspects = self._reconciler.suspects(rows, thorough=thorough)
        return {domid: self._hypervisor.unique_id(domid) for domid in suspects}

    # -- the state of the line ---------------------------------------------------------------

    def _gain(self) -> None:
        now = time.monotonic()
        lost_at, self._lost_at = self._lost_at, None
        told: tuple[Event, ...] = ()
        with self._state:
            self.live = not self._closing
            self.cause = None
            self.confirmed = now
            self._state.notify_all()
        if lost_at is not None:
            self.reconnects += 1
            told = (Recovered(now - lost_at),)
        self._take((), told, False)  # also to wake whoever waits for the line

    def _lose(self, cause: Exception) -> None:
        with self._state:
            was_live, self.live = self.live, False
            self.cause = cause
            self._state.notify_all()
        if was_live:
            self._lost_at = time.monotonic()
            self._take((), (Lost(cause),), False)
            with contextlib.suppress(Exception):  # a log that fails must not end the thread
                log.warning("the index is not live: %s", cause)
