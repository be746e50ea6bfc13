"""The one thread that follows the host: wait, ask, update, deliver.

It owns the line to xenstore and is the only writer of the table. Everything it does is one
of three things, repeated for as long as the index is open:

    open a line -> first pass over everything -> follow events -> (line lost) -> open another

Whatever fails on the way, the picture stays as it was, is marked not live, and the next line
begins with a pass over everything. A pass lists the domains, watches and reads what is new,
lists again before it believes a name, and takes the difference into the table at once.

A line is followed by what is due first: the audit, which reads everything again; a refresh that
somebody asked for; the probe, which lists the domains as not every change fires an event; and the
events themselves. They stand in this order so that none can put off the ones before it for ever:
guests may write, and programs ask, without end.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from domindex.core.nodes import Followed, Node, Value
from domindex.core.reconcile import NAMES, SPECIAL, Reconciler, Records
from domindex.core.scope import Scope
from domindex.core.table import Change
from domindex.domain import Life
from domindex.errors import (
    AccessDenied,
    Closed,
    HostError,
    HypercallFailed,
    NotControlDomain,
    StoreError,
    TimedOut,
    UnknownXen,
)
from domindex.events import Event, Lost, Recovered
from domindex.options import Timing
from domindex.ports import Host, Hypervisor, Row, Store

log = logging.getLogger("domindex")

_ROUNDS = 8
"""Rounds of one pass. Only names that change as fast as they are read need more than three:
then what is certain is told, and the rest waits for the next pass."""

_FEW = 16
"""Up to here domains are looked at one by one; above, one list of all is cheaper."""

_AT_ONCE = 256
"""Nodes watched or read before the thread shows that it gets on: a slow host took 5 s for them."""

_LEAST_PATIENCE = 1.0
"""Seconds for which a busy machine may leave the thread alone, however short the times are set."""

_ENDS_IT = (AccessDenied, NotControlDomain, UnknownXen)
"""What no second try would mend."""


class Watcher:
    """Follows `host` and hands what is certain to `take`, from its own thread.

    records: what the table holds, as `take` has left it.
    take(changes, events, inferred): the changes for the table, and events of the line that
    follow them. tell(values): of other nodes that are followed. Both called under no lock.
    """

    def __init__(
        self,
        host: Host,
        hypervisor: Hypervisor,
        records: Records,
        take: Callable[[Sequence[Change], Sequence[Event], bool], None],
        tell: Callable[[Sequence[tuple[Node, Value]]], None],
        timing: Timing,
    ) -> None:
        self._host = host
        self._hypervisor = hypervisor
        self._take, self._tell = take, tell
        self._follow_requests: deque[tuple[Life | None, Node]] = (
            deque()
        )  # None: do not follow any more
        self._timing = timing
        self._patience = max(timing.probe + timing.request, _LEAST_PATIENCE)
        self._reconciler = Reconciler(records)
        self._left = Scope()  # what the last pass left for the next
        self._state = threading.Condition()  # guards what other threads wait for, below
        self._store: Store | None = None
        self._next: Store | None = None  # a line that is open and will follow this one
        self._closing = False
        self._over = self._abandoned = False  # the thread is done; nobody waits for it to be
        self._asked = 0  # refreshes asked for
        self._asked_names = 0  # the last of them that wants every name read again
        self.answered = 0  # the last refresh that is done
        self.live = False
        self.cause: BaseException | None = None
        self.confirmed = -math.inf  # monotonic time at which the picture was last known true
        self.names_domids = False  # the special watches say which domain came or went
        self.one_watch = False  # one watch stands for the names of all domains
        self._born: list[int] = []  # domids, while no event told of any birth or end
        self.deaf = False  # the special watches do not fire for this caller
        self.unreadable: Mapping[int, StoreError] = {}
        """Domids whose name xenstored does not give, and why. Never changed, but replaced."""
        self._specials = 0  # events of the special watches up to the last probe
        self._complaints: dict[object, int | None] = {}  # what was logged: refusals, with errno
        self._lost_at: float | None = None
        self._untold: BaseException | None = None  # a loss that could not be told when it came
        self._gained_at: float | None = None  # when the present line became live
        self._moved = math.inf  # monotonic time at which the thread was last seen to get on
        self._noticed = False  # somebody has told that it did not
        self.watches = self.events = self.passes = self.lists = self.reads = 0
        self.drift = self.reconnects = self.refusals = 0
        self.lag = 0.0  # seconds from the last event to the changes it led to
        self._heard_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="domindex-watcher", daemon=True)

    # -- from any thread ---------------------------------------------------------------------

    def start(self, timeout: float, *, wait: bool = True) -> None:
        """Begin, and return once the first pass is done; without `wait` at once.

        Tries again until `timeout` seconds are over, but where that cannot help. Raises why the
        first pass could not be done.
        """
        deadline = time.monotonic() + min(timeout, threading.TIMEOUT_MAX)
        if not wait:
            self._lost_at = time.monotonic()
            self._thread.start()
            return
        self._thread.start()
        with self._state:
            while not self.live:
                if self._closing:
                    raise Closed("this index was closed before it had seen the host")
                cause = self.cause
                if cause is not None and (
                    isinstance(cause, _ENDS_IT) or not isinstance(cause, HostError)
                ):
                    raise cause
                if not self._state.wait(deadline - time.monotonic()):
                    if cause is not None:
                        raise cause
                    raise TimedOut(f"the first look at the host took longer than {timeout} s")

    def request_refresh(self, *, names: bool = False) -> int:
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
        self._request_follow(life, node)

    def drop(self, node: Node) -> None:
        """Follow it no longer."""
        self._request_follow(None, node)

    def _request_follow(self, life: Life | None, node: Node) -> None:
        self._follow_requests.append((life, node))
        with self._state:
            self._poke()

    @property
    def held_up(self) -> float:
        """Seconds for which a live watcher has not got on, if that is too long; else 0.

        It may be stopped, or wait for a hypercall, a lock or a log handler. It gets on at least
        at each probe, and no request takes longer than its limit.
        """
        still = time.monotonic() - self._moved
        return still if self.live and still > self._patience else 0.0

    def notice(self) -> None:
        """Somebody has told that it is held up: once it gets on, it is to see everything anew."""
        self._noticed = True

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
            while not self._closing:
                # Whatever a caller's function or a full memory does here, it must not end us.
                with contextlib.suppress(BaseException):
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
            self._gained_at = None
            try:
                self._follow()
                continue
            except BaseException as error:
                if self._closing:
                    return
                if not isinstance(error, HostError):  # a fault of ours: loud, but not deadly
                    with contextlib.suppress(BaseException):
                        log.exception("the watcher failed; it starts over")
                with contextlib.suppress(BaseException):  # then it is told with what comes next
                    self._lose(error)
            if self._gained_at is not None:
                pause = self._timing.retry
                if time.monotonic() - self._gained_at > pause:
                    continue  # at once, as the line had worked; but not round and round
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
            self._noticed, self._moved = False, time.monotonic()
            self._reconciler.new_line()
            self._take_follow_requests()  # a node that xenstored refuses may have been given up
            self._set_watches(store)
            self._left = Scope.ALL  # what the first list lacks by a fault, the second one has
            self._pass(store, Scope.ALL, thorough=True, inferred=True)
            self._gain()
            self._born.clear()
            self._listen(store)
        finally:
            with self._state:
                self._store = None
            store.close()

    def _set_watches(self, store: Store) -> None:
        """The watches that stand for all domains. What a server can do is found out by trying."""
        refused = store.watch(SPECIAL, depth=1)
        plain = [watch for watch, error in zip(SPECIAL, refused, strict=True) if error is not None]
        self.names_domids = not plain
        self.deaf = False
        for watch, error in zip(plain, store.watch(plain) if plain else (), strict=True):
            if error is not None:
                self._hears_nothing(f"xenstored refuses the watch on {watch.path.decode()}")
        self.one_watch = store.watch([NAMES], depth=2) == [None]
        if self.one_watch:
            self._reconciler.nodes.one_watch(NAMES.token)
        self._events(store)  # each has fired once, and tells of nothing
        self._specials = self._reconciler.specials

    def _listen(self, store: Store) -> None:
        timing = self._timing
        probed = audited = time.monotonic()
        while not self._closing:
            now = self._get_on()
            if now >= audited + timing.audit:
                if store.forgets and self._renew():
                    return
                self._audit(store)
                probed = audited = time.monotonic()
            elif self._asked > self.answered:
                self._refresh(store)
                continue
            elif now >= probed + timing.probe:
                self._probe(store)
                probed = time.monotonic()
            elif scope := self._events(store):
                self._pass(store, scope)
            else:
                store.wait(min(probed + timing.probe, audited + timing.audit) - now)
                continue
            self.confirmed = time.monotonic()

    def _get_on(self) -> float:
        """Show that the thread is not held up; the time. Raises HostError if it was."""
        now = time.monotonic()
        still, self._moved = now - self._moved, now
        # Twice the time, where nobody has noticed: then a busy machine is no reason to start over.
        if self._noticed or still > 2 * self._patience:
            raise HostError(f"the thread that follows the host was held up for {still:.1f} s")
        return now

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
            self._reconciler.nodes.doubt()
        store.barrier()
        self._reconciler.doubt_unwatched()
        self._events(store)
        self._pass(store, Scope.ALL, thorough=True)
        self.confirmed = time.monotonic()  # before: who asked may look how old it is
        self.answered = asked
        self._take((), (), False)  # under no lock of ours: it takes the index's
        time.sleep(0)  # who asked has the interpreter first, and not when we next wait

    def _probe(self, store: Store) -> None:
        """A sign of life of the line, and what no event tells of: bounds how stale we may be."""
        store.barrier()
        self._reconciler.doubt_unwatched()
        scope = self._events(store)
        if scope:
            self._pass(store, scope)
        if scope is not Scope.ALL:  # else that was a list of all
            heard = self.events - self.watches  # every new watch fires once, and tells of nothing
            changes = self._pass(store, Scope.ALL, inferred=True)
            if changes and self.events - self.watches <= heard:
                self.drift += len(changes)
        if self._born:
            self._listen_for_births(store)

    def _listen_for_births(self, store: Store) -> None:
        """Where xenstored was told of a domain, and we were not, the special watches are deaf."""
        told, self._specials = self._specials, self._reconciler.specials
        born, self._born = self._born[:_FEW], []
        if self.deaf or told != self._specials:
            return
        introduced = {domid: store.is_introduced(domid) for domid in born}
        store.barrier()  # the event may be under way
        self._left = self._events(store)
        if self._reconciler.specials == told:
            self._born = [domid for domid in born if introduced[domid] is False]
            if any(introduced.values()):
                self._hears_nothing("xenstored does not tell this caller of births and ends")

    def _hears_nothing(self, why: str) -> None:
        self.deaf = True
        self._complain("special watches", None, f"{why}; they are found at each probe")

    def _audit(self, store: Store) -> None:
        """Read everything again. What no event told of is drift: counted, and repaired."""
        self._probe(store)
        self._reconciler.nodes.doubt()
        heard = self.events - self.watches
        changes = self._pass(store, Scope.ALL, thorough=True, inferred=True)
        store.barrier()
        self._pass(store, self._events(store))
        if changes and self.events - self.watches <= heard:
            self.drift += len(changes)
            with contextlib.suppress(Exception):
                log.warning("the audit found %d changes that no event had told of", len(changes))

    def _events(self, store: Store, *, arrived: bool = False, after_list: bool = False) -> Scope:
        """Take in what has fired: the domids to look at, None for all."""
        events = list(store.events(arrived=arrived))
        if events:
            self.events += len(events)
            self._heard_at = time.monotonic()
        scope = self._reconciler.on_watch_events(events, after_list=after_list)
        if self._follow_requests:
            scope |= self._take_follow_requests()
        if self._left:
            scope, self._left = scope | self._left, Scope()
        return scope

    def _take_follow_requests(self) -> Scope:
        """Do what was wished about nodes; the domids to look at for it."""
        scope: set[int] = set()
        while self._follow_requests:
            life, node = self._follow_requests.popleft()
            if life is None:
                self._reconciler.nodes.drop(node)
                scope.add(node.domid)
            elif self._reconciler.follow(life, node):
                scope.add(node.domid)
        return Scope(scope)

    # -- a pass ------------------------------------------------------------------------------

    def _pass(
        self,
        store: Store,
        scope: Scope,
        *,
        thorough: bool = False,
        inferred: bool = False,
    ) -> list[Change]:
        """Look at `scope` (None: at all) until nothing is open; the changes that it told."""
        reconciler = self._reconciler
        told: list[Change] = []
        if scope:
            self.passes += 1
        for _ in range(_ROUNDS):
            if not scope:
                break
            if len(scope.domids) > _FEW:
                scope = Scope.ALL
            rows = self._list() if scope is Scope.ALL else self._look(scope)
            if reconciler.shows_new_handle(rows, scope):
                # The proof that the watch of a name was silent up to this list: lives.py.
                store.barrier()
                self._left = self._events(store, after_list=True)
            ids = self._unique_ids(rows, thorough)
            reconciler.see(rows, now=time.time(), scope=scope, unique_ids=ids)
            told += self._publish(inferred)
            if known := reconciler.nodes.certain_values():
                self._tell(known)
            thorough = False
            self._get_on()
            newborn = reconciler.newborn() if self.live else []
            if 0 < len(newborn) <= _FEW:
                # A watch costs the server more than a read: it may wait until they are told of.
                self._read(store, newborn)
                scope = Scope(life.domid for life in newborn)
                continue
            self._watch(store)
            # What has come since is answered by the same reads; without any it can wait.
            scope = self._events(store, arrived=bool(reconciler.nodes.dirty))
            if unread := reconciler.nodes.unread():
                self._read(store, unread)
                scope |= Scope(reconciler.nodes.unconfirmed)
        else:
            self._left |= scope
        return told

    def _publish(self, inferred: bool) -> list[Change]:
        """Hand over what has become certain."""
        before, unreadable = self.unreadable, self._reconciler.unreadable
        if unreadable:
            # Nobody may miss a name before it is known to be unreadable.
            self.unreadable = {**before, **unreadable}
        if changes := self._reconciler.certain_changes():
            self._take(changes, (), inferred)
            self._born += [new.domid for old, new in changes if old is None and new is not None]
            if self._heard_at is not None:
                self.lag = time.monotonic() - self._heard_at
        if before or unreadable:
            self.unreadable = unreadable.copy()
            if before.keys() != unreadable.keys():
                self._take((), (), False)  # who waits for a name may go on
        return changes

    def _watch(self, store: Store) -> None:
        """Set and drop the watches of names and nodes."""
        unwatch, watch = self._reconciler.nodes.pending_watches()
        if unwatch:
            store.unwatch(unwatch)
        if watch:
            answers = store.watch(watch[:_AT_ONCE])
            for start in range(_AT_ONCE, len(watch), _AT_ONCE):
                self._get_on()
                answers += store.watch(watch[start : start + _AT_ONCE])
            self.watches += (done := answers.count(None))
            if done < len(watch):
                for asked, error in zip(watch, answers, strict=True):
                    if error is not None:
                        self._reconciler.nodes.refused(asked, error)
                        self._refused(asked.path, error)

    def _read(self, store: Store, nodes: Sequence[Followed]) -> None:
        paths = [node.path for node in nodes]
        values = store.read(paths[:_AT_ONCE])
        for start in range(_AT_ONCE, len(paths), _AT_ONCE):
            self._get_on()
            values += store.read(paths[start : start + _AT_ONCE])
        self.reads += len(paths)
        if StoreError in map(type, values):
            for path, value in zip(paths, values, strict=True):
                if isinstance(value, StoreError):
                    self._refused(path, value)
        self._reconciler.nodes.on_values(zip(nodes, values, strict=True))

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

    def _look(self, scope: Scope) -> Sequence[Row]:
        return [row for d in sorted(scope.domids) if (row := self._hypervisor.get(d)) is not None]

    def _unique_ids(self, rows: Sequence[Row], thorough: bool) -> dict[int, int | None]:
        """What the hypervisor calls the lives in doubt; without those of which it does not tell."""
        ids: dict[int, int | None] = {}
        if self._hypervisor.has_unique_ids:
            for domid in self._reconciler.suspects(rows, thorough=thorough):
                try:
                    ids[domid] = self._hypervisor.unique_id(domid)
                except HypercallFailed as error:
                    if error.errno is None:
                        raise
                    self._refused(b"the state of domain %d" % domid, error)
        return ids

    # -- the state of the line ---------------------------------------------------------------

    def _gain(self) -> None:
        now = time.monotonic()
        lost_at, untold = self._lost_at, self._untold
        told: list[Event] = [] if untold is None else [Lost(untold)]
        if lost_at is not None:
            told.append(Recovered(now - lost_at))
        again, self.confirmed = self.confirmed > -math.inf, now
        with self._state:
            self.live = not self._closing
            self.cause = None
            self._state.notify_all()
        self._take((), told, False)  # also to wake whoever waits for the line
        self.reconnects += again and lost_at is not None
        self._lost_at = self._untold = None
        self._gained_at = time.monotonic()

    def _lose(self, cause: BaseException) -> None:
        with self._state:
            was_live, self.live = self.live, False
            self.cause = cause
            self._state.notify_all()
        if was_live:
            self._lost_at = time.monotonic()
            self._untold = cause
        if self._untold is not None:
            self._take((), (Lost(self._untold),), False)
            self._untold = None
        if was_live:
            with contextlib.suppress(BaseException):  # a log that fails must not end the thread
                log.warning("the index is not live: %s", cause)

    def _refused(self, what: bytes, error: HostError) -> None:
        self.refusals += 1
        self._complain(what, error.errno, str(error))

    def _complain(self, about: object, errno: int | None, sentence: str) -> None:
        """Log it, unless that was done already."""
        if about in self._complaints and self._complaints[about] == errno:
            return
        if len(self._complaints) > _AT_ONCE:
            self._complaints.clear()
        self._complaints[about] = errno
        with contextlib.suppress(Exception):
            log.warning("%s", sentence)
