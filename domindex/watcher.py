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
from collections.abc import Sequence

from domindex.core.nodes import Node
from domindex.core.reconcile import NAMES, SPECIAL, Reconciler, name_path
from domindex.core.table import Change
from domindex.domain import Life
from domindex.errors import (
    AccessDenied,
    HostError,
    HypercallFailed,
    NotControlDomain,
    StoreError,
    UnknownXen,
)
from domindex.options import Timing
from domindex.picture import Live, Picture
from domindex.ports import Host, Hypervisor, Row, Store
from domindex.stats import Counters

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

    held: what the table holds, as `take` has left it.
    take(changes, events, inferred): the changes for the table, and events of the line that
    follow them. tell(values): of other nodes that are followed. Both called under no lock.
    """

    def __init__(
        self,
        host: Host,
        hypervisor: Hypervisor,
        picture: Picture,
        timing: Timing,
    ) -> None:
        self._host = host
        self._hypervisor = hypervisor
        self._picture = picture
        self._wishes: deque[tuple[Life | None, Node]] = deque()  # None: do not follow any more
        self._timing = timing
        self._patience = max(timing.probe + timing.request, 1.0)
        self._reconciler = Reconciler(picture.table)
        self._left: set[int] | None = set()  # what the last pass left for the next
        self._state = threading.Condition()  # guards what other threads wait for, below
        self._store: Store | None = None
        self._next: Store | None = None  # a line that is open and will follow this one
        self._closing = False
        self._over = self._abandoned = False  # the thread is done; nobody waits for it to be
        self._asked = 0  # refreshes asked for
        self._asked_names = 0  # the last of them that wants every name read again
        self.names_domids = False  # the special watches say which domain came or went
        self.one_watch = False  # one watch stands for the names of all domains
        self._born: list[int] = []  # domids, while no event told of any birth or end
        self.deaf = False  # the special watches do not fire for this caller
        self._specials = 0  # events of the special watches up to the last probe
        self._complaints: dict[object, int | None] = {}  # what was logged: refusals, with errno
        self._gained_at: float | None = None  # when the present line became live
        self.watches = 0
        self.counters = Counters()
        self._heard_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="domindex-watcher", daemon=True)

    # -- from any thread ---------------------------------------------------------------------

    def start(self) -> None:
        """Begin, and return at once; `conditions.opened` waits for the first pass."""
        self._thread.start()

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
            self._picture.got_on = math.inf
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
            self._picture.got_on = time.monotonic()
            self._reconciler.new_line()
            self._wished()  # a node that xenstored refuses may have been given up
            self._set_watches(store)
            self._left = None  # what the first list lacks by a fault, the second one has
            self._pass(store, None, thorough=True, inferred=True)
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
            self._reconciler.one_watch()
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
            elif self._asked > self._picture.refreshed:
                self._refresh(store)
                continue
            elif now >= probed + timing.probe:
                self._probe(store)
                probed = time.monotonic()
            elif (scope := self._events(store)) != set():
                self._pass(store, scope)
            else:
                store.wait(min(probed + timing.probe, audited + timing.audit) - now)
                continue
            self._picture.confirmed = time.monotonic()

    def _get_on(self) -> float:
        """Show that the thread is not held up; the time. Raises HostError if it was."""
        now = time.monotonic()
        still, self._picture.got_on = now - self._picture.got_on, now
        # Twice the time, where nobody has noticed: then a busy machine is no reason to start over.
        noticed = self._gained_at is not None and not isinstance(self._picture.state, Live)
        if noticed or still > 2 * self._patience:
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
        if self._asked_names > self._picture.refreshed:
            self._reconciler.doubt_names()
        store.barrier()
        self._reconciler.doubt_unwatched()
        self._events(store)
        self._pass(store, None, thorough=True)
        self._picture.confirmed = time.monotonic()  # before: who asked may look how old it is
        self._picture.refreshed = asked
        self._picture.commit(())  # under no lock of ours: it takes the index's
        time.sleep(0)  # who asked has the interpreter first, and not when we next wait

    def _probe(self, store: Store) -> None:
        """A sign of life of the line, and what no event tells of: bounds how stale we may be."""
        store.barrier()
        self._reconciler.doubt_unwatched()
        scope = self._events(store)
        if scope != set():
            self._pass(store, scope)
        if scope is not None:  # else that was a list of all
            heard = (
                self.counters.events - self.watches
            )  # every new watch fires once, and tells of nothing
            changes = self._pass(store, None, inferred=True)
            if changes and self.counters.events - self.watches <= heard:
                self.counters.drift += len(changes)
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
        self._reconciler.doubt_names()
        heard = self.counters.events - self.watches
        changes = self._pass(store, None, thorough=True, inferred=True)
        store.barrier()
        self._pass(store, self._events(store))
        if changes and self.counters.events - self.watches <= heard:
            self.counters.drift += len(changes)
            with contextlib.suppress(Exception):
                log.warning("the audit found %d changes that no event had told of", len(changes))

    def _events(
        self, store: Store, *, arrived: bool = False, late: bool = False
    ) -> set[int] | None:
        """Take in what has fired: the domids to look at, None for all."""
        events = list(store.events(arrived=arrived))
        if events:
            self.counters.events += len(events)
            self._heard_at = time.monotonic()
        scope = self._reconciler.fired(events, late=late)
        if self._wishes:
            scope = _joined(scope, self._wished())
        if self._left is None or self._left:
            scope, self._left = _joined(scope, self._left), set()
        return scope

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

    # -- a pass ------------------------------------------------------------------------------

    def _pass(
        self,
        store: Store,
        scope: set[int] | None,
        *,
        thorough: bool = False,
        inferred: bool = False,
    ) -> list[Change]:
        """Look at `scope` (None: at all) until nothing is open; the changes that it told."""
        reconciler = self._reconciler
        told: list[Change] = []
        if scope != set():
            self.counters.passes += 1
        for _ in range(_ROUNDS):
            if scope == set():
                break
            if scope is not None and len(scope) > _FEW:
                scope = None
            rows = self._list() if scope is None else self._look(scope)
            if reconciler.shows_new_handle(rows, scope):
                # The proof that the watch of a name was silent up to this list: lives.py.
                store.barrier()
                self._left = self._events(store, late=True)
            ids = self._unique_ids(rows, thorough)
            reconciler.see(rows, now=time.time(), scope=scope, unique_ids=ids)
            told += self._publish(inferred)
            if known := reconciler.nodes.take():
                self._picture.node_values(known)
            thorough = False
            self._get_on()
            newborn = reconciler.newborn() if self._gained_at is not None else []
            if 0 < len(newborn) <= _FEW:
                # A watch costs the server more than a read: it may wait until they are told of.
                self._read(store, newborn, [])
                scope = {*newborn}
                continue
            self._watch(store)
            # What has come since is answered by the same reads; without any it can wait.
            scope = self._events(store, arrived=reconciler.reads)
            names, nodes = reconciler.unread(), reconciler.nodes.unread()
            if names or nodes:
                self._read(store, names, nodes)
                if scope is not None:
                    scope.update(names, (node.domid for node in nodes))
        else:
            self._left = _joined(self._left, scope)
        return told

    def _publish(self, inferred: bool) -> list[Change]:
        """Hand over what has become certain."""
        before, unreadable = self._picture.unreadable, self._reconciler.unreadable
        if unreadable:
            # Nobody may miss a name before it is known to be unreadable.
            self._picture.unreadable = {**before, **unreadable}
        if changes := self._reconciler.take():
            self._picture.commit(changes, inferred=inferred)
            self._born += [new.domid for old, new in changes if old is None and new is not None]
            if self._heard_at is not None:
                self.counters.lag = time.monotonic() - self._heard_at
        if before or unreadable:
            self._picture.unreadable = unreadable.copy()
            if before.keys() != unreadable.keys():
                self._picture.commit(())  # who waits for a name may go on
        return changes

    def _watch(self, store: Store) -> None:
        """Set and drop the watches of names and nodes."""
        unwatch, watch = self._reconciler.ask()
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
                        self._reconciler.refused(asked, error)
                        self._refused(asked.path, error)

    def _read(self, store: Store, names: Sequence[int], nodes: Sequence[Node]) -> None:
        paths = [*map(name_path, names), *(node.path for node in nodes)]
        values = store.read(paths[:_AT_ONCE])
        for start in range(_AT_ONCE, len(paths), _AT_ONCE):
            self._get_on()
            values += store.read(paths[start : start + _AT_ONCE])
        self.counters.reads += len(paths)
        if StoreError in map(type, values):
            for path, value in zip(paths, values, strict=True):
                if isinstance(value, StoreError):
                    self._refused(path, value)
        self._reconciler.heard(
            zip(names, values, strict=False), zip(nodes, values[len(names) :], strict=True)
        )

    def _list(self) -> Sequence[Row]:
        """Every domain. Raises if what it lacks is still there: removals need a whole list."""
        for _ in range(2):
            self.counters.lists += 1
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
        again, self._picture.confirmed = self._picture.confirmed > -math.inf, time.monotonic()
        self.counters.reconnects += again and not isinstance(self._picture.state, Live)
        self._picture.up()
        self._gained_at = time.monotonic()

    def _lose(self, cause: BaseException) -> None:
        was_live = self._picture.live
        self._picture.got_on = math.inf
        self._picture.down(cause)
        if was_live:
            with contextlib.suppress(BaseException):  # a log that fails must not end the thread
                log.warning("the index is not live: %s", cause)

    def _refused(self, what: bytes, error: HostError) -> None:
        self.counters.refusals += 1
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


def _joined(one: set[int] | None, other: set[int] | None) -> set[int] | None:
    """Both scopes as one; None is all domains."""
    return None if one is None or other is None else one | other
