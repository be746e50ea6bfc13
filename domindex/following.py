"""One line to xenstore, from its first list to its loss.

Read after looks.py and picture.py; next watcher.py, which opens one line after another.

A line begins with the watches that stand for all domains, and a pass over everything. Then the
thread does what is due, the first of these:

    audit     every name and node is read again, in case an event was lost
    refresh   a program wants every change taken in that was complete before it asked
    probe     the domains are listed, as not every change fires an event
    events    watches have fired: a pass over the domains that they name
    (wait)

They stand in this order so that none can put off the ones before it for ever: guests may write, and
programs may ask, without end. A refresh comes before a probe, as a caller waits for it.

Nodes that programs read once are read before each of these, all that were asked for by then in one
go: so nothing puts them off, and they put off what is due by a round trip and a short pass at most.

A *pass* looks at the domains of a *scope* until nothing is open, in *rounds*: list, compare,
publish what has become certain, set watches, take in events, read. What a round reads is believed
in the next one, after its list. So a rename takes two rounds.

What a refresh waits for: a barrier, after which all events that xenstored had sent are in the queue
here; a list of all, made after it; and the reads that these lead to. So each change that was
complete before the request is in the picture, whether an event reported it or not. One refresh is
for all that have asked before it began.

When a line is renewed: at an audit, if its server may be restarted behind it and forget its watches
(`Store.forgets`). Only the watches of a new line are known to be there.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from domindex.complaints import Complaints
from domindex.core.nodes import Followed
from domindex.core.reconcile import NAMES, SPECIAL, Reconciler
from domindex.core.scope import Scope
from domindex.core.table import Change
from domindex.errors import HostError, StoreError
from domindex.looks import Looks
from domindex.options import Timing
from domindex.picture import Down, Picture
from domindex.ports import Store
from domindex.requests import Requests
from domindex.stats import Counters

log: logging.Logger = logging.getLogger("domindex")
A = TypeVar("A")
B = TypeVar("B")

_ROUNDS: Final = 8
"""Rounds of one pass. Only names that change as fast as they are read need more than three:
then what is certain is published, and the rest waits for the next pass."""

_FEW: Final = 16
"""Up to here domains are looked at one by one; above, one list of all is cheaper."""

_AT_ONCE: Final = 256
"""Nodes watched or read before the thread shows that it gets on: a slow host took 5 s for them."""


class Following:
    """What is done on the line `store`. One thread makes all calls.

    reconciler: knows the lives from the lines before. The picture has what is certain of them.
    """

    def __init__(
        self,
        store: Store,
        looks: Looks,
        reconciler: Reconciler,
        picture: Picture,
        requests: Requests,
        timing: Timing,
        counters: Counters,
        complaints: Complaints,
    ) -> None:
        self._store = store
        self._looks = looks
        self._reconciler = reconciler
        self._nodes = reconciler.nodes
        self._picture = picture
        self._requests = requests
        self._timing = timing
        self._counters = counters
        self._complaints = complaints
        self.names_domids: bool = False
        """The special watches name the domain that came or went."""
        self.one_watch: bool = False
        """One watch stands for the names of all domains."""
        self.deaf: bool = False
        """The special watches do not fire for this caller."""
        self._live = False  # the first pass is done
        self._left = Scope()  # what the last pass left for the next
        self._probed = self._audited = 0.0  # when this was done last
        self._watches = 0  # set so far, each of which has fired once
        self._last_event: float | None = None  # when the last event was taken in
        self._specials = 0  # events of the special watches up to the last probe
        self._born: list[int] = []  # domids, while no event reported any birth or end

    # -- the steps ---------------------------------------------------------------------------

    def begin(self) -> None:
        """Set the watches, and look at everything: the first pass."""
        self._picture.got_on = time.monotonic()
        self._reconciler.new_line()
        self._take_requests_for_nodes()  # a node that xenstored refuses may have been given up
        self._watch_all()
        self._left = Scope.ALL  # what the first list lacks by a fault, the second one has
        self._pass(Scope.ALL, thorough=True, inferred=True)

    def follow(self) -> None:
        """Do what is due until the index is closed, or this line is to be renewed.

        Raises what ends the line.
        """
        self._begin_to_follow()
        while not self._requests.closing:
            now = self._show_progress()
            probe_at = self._probed + self._timing.probe
            audit_at = self._audited + self._timing.audit
            if self._requests.readings:
                self._read_once()
            if now >= audit_at:
                if self._store.forgets:
                    return
                self.audit()
            elif self._requests.refresh > self._picture.refreshed:
                self._refresh()
            elif now >= probe_at:
                self._probe()
            elif scope := self._events():
                self._pass(scope)
                self._picture.confirmed = time.monotonic()
            else:
                self._store.wait(min(probe_at, audit_at) - now)

    def _begin_to_follow(self) -> None:
        if not self._live:
            self._live = True
            self._born.clear()  # they were there before the line was
            self._probed = self._audited = time.monotonic()

    def audit(self) -> None:
        """Read everything again. What no event reported is drift: counted, and repaired."""
        self._probe()
        self._nodes.doubt()
        before = self._events_that_report()
        changes = self._pass(Scope.ALL, thorough=True, inferred=True)
        self._store.barrier()
        self._pass(self._events())
        if changes and self._events_that_report() <= before:
            self._counters.drift += len(changes)
            with contextlib.suppress(Exception):
                log.warning("the audit found %d changes that no event reported", len(changes))
        self._audited = self._probed = self._picture.confirmed = time.monotonic()

    def _refresh(self) -> None:
        ticket = self._requests.refresh  # what is asked for from here on waits for the next one
        if self._requests.names > self._picture.refreshed:
            self._nodes.doubt()
        self._store.barrier()
        self._reconciler.doubt_unwatched()
        self._events()  # whatever they name, all is looked at
        self._pass(Scope.ALL, thorough=True)
        self._picture.confirmed = time.monotonic()  # first: who asked may look how old it is
        self._picture.refreshed = ticket
        self._show_result()

    def _show_result(self) -> None:
        self._picture.commit(())
        time.sleep(0)  # who asked has the interpreter first, and not when we next wait

    def _read_once(self) -> None:
        """Read what programs asked for, and look at its domains: it is of lives that still run."""
        readings = tuple(self._requests.readings)
        values = iter(self._ask([node for reading in readings for node in reading.nodes]))
        self._pass(Scope(reading.life.domid for reading in readings), thorough=True)
        for reading in readings:
            reading.runs = self._reconciler.follows(reading.life)
            reading.values = [next(values) for _ in reading.nodes]
            self._requests.readings.pop(reading, None)
        self._show_result()

    def _probe(self) -> None:
        """A sign of life of the line, and what no event reports: bounds how old the picture is."""
        self._store.barrier()
        self._reconciler.doubt_unwatched()
        scope = self._events()
        if scope:
            self._pass(scope)
        if scope is not Scope.ALL:  # else that was a list of all
            before = self._events_that_report()
            changes = self._pass(Scope.ALL, inferred=True)
            if changes and self._events_that_report() <= before:
                self._counters.drift += len(changes)
        if self._born:
            self._check_special_watches()
        self._picture.hub.warn_of_late()
        self._probed = self._picture.confirmed = time.monotonic()

    def _events_that_report(self) -> int:
        """Events so far without those by which each new watch shows that it is set."""
        return self._counters.events - self._watches

    def _show_progress(self) -> float:
        """Show that the thread is not held up; the time. Raises HostError if it was."""
        now = time.monotonic()
        still, self._picture.got_on = now - self._picture.got_on, now
        # A reader of the picture has noticed: events may have been missed since then. Without
        # one, twice the time: a machine that is only busy is no reason to start over.
        noticed = self._live and isinstance(self._picture.state, Down)
        if not self._live:
            self._picture.too_old()
        if noticed or still > 2 * self._picture.patience:
            raise HostError(f"the thread that follows the host was held up for {still:.1f} s")
        return now

    # -- watches and events ------------------------------------------------------------------

    def _watch_all(self) -> None:
        """Set the watches that stand for all domains. What a server can do is found by trying."""
        refused = self._store.watch(SPECIAL, depth=1)
        plain = [watch for watch, error in zip(SPECIAL, refused, strict=True) if error is not None]
        self.names_domids = not plain
        answers = self._store.watch(plain) if plain else []
        for watch, error in zip(plain, answers, strict=True):
            if error is not None:
                self._is_deaf(f"xenstored refuses the watch on {watch.path.decode()}")
        self.one_watch = self._store.watch([NAMES], depth=2) == [None]
        if self.one_watch:
            self._nodes.one_watch(NAMES.token)
        self._events()  # each has fired once, which reports nothing
        self._specials = self._reconciler.specials

    def _check_special_watches(self) -> None:
        """Where xenstored was told of a domain, and no event came, the special watches are deaf."""
        before, self._specials = self._specials, self._reconciler.specials
        born, self._born = self._born[:_FEW], []
        if self.deaf or before != self._specials:
            return
        introduced = {domid: self._store.is_introduced(domid) for domid in born}
        self._store.barrier()  # the event may be under way
        self._left = self._events()
        if self._reconciler.specials == before:
            self._born = [domid for domid in born if introduced[domid] is False]
            if any(introduced.values()):
                self._is_deaf("xenstored does not tell this caller of births and ends")

    def _is_deaf(self, why: str) -> None:
        self.deaf = True
        sentence = f"{why}; they are found at each probe"
        self._complaints.log("special watches", None, sentence)

    def _events(self, *, arrived: bool = False, after_list: bool = False) -> Scope:
        """Take in what has fired, what was asked about nodes, and what the last pass left."""
        events = list(self._store.events(arrived=arrived))
        if events:
            self._counters.events += len(events)
            self._last_event = time.monotonic()
        scope = self._reconciler.on_watch_events(events, after_list=after_list)
        if self._requests.nodes:
            scope |= self._take_requests_for_nodes()
        if self._left:
            scope, self._left = scope | self._left, Scope()
        return scope

    def _take_requests_for_nodes(self) -> Scope:
        domids: set[int] = set()
        while self._requests.nodes:
            life, node = self._requests.nodes.popleft()
            if life is None:
                self._nodes.drop(node)
                domids.add(node.domid)
            elif self._reconciler.follow(life, node):
                domids.add(node.domid)
        return Scope(domids)

    # -- a pass ------------------------------------------------------------------------------

    def _pass(
        self, scope: Scope, *, thorough: bool = False, inferred: bool = False
    ) -> list[Change]:
        """Look at `scope` until nothing is open; the changes that were published.

        thorough: ask for every unique id, and not for those of suspects alone.
        inferred: for the events, that the changes were found by a list and not by events.
        """
        reconciler, nodes = self._reconciler, self._nodes
        changes: list[Change] = []
        if scope:
            self._counters.passes += 1
        for _ in range(_ROUNDS):
            if not scope:
                break
            # 1. List.
            if len(scope.domids) > _FEW:
                scope = Scope.ALL
            rows = self._looks.rows(scope)
            if reconciler.shows_new_handle(rows, scope):
                # The proof that the watch of a name was silent up to this list: lives.py.
                self._store.barrier()
                self._left = self._events(after_list=True)
            ids, roles = self._looks.states(rows, thorough=thorough)
            # 2. Compare, and publish. Answers of the last round are confirmed by this list.
            now = time.time()
            reconciler.see(rows, now=now, scope=scope, unique_ids=ids, roles=roles)
            changes += self._publish(inferred)
            thorough = False
            self._show_progress()
            # 3. Births are read at once: a watch costs the server more than a read, and may wait
            #    until they are published. They stay to be read again after it is set.
            newborn = reconciler.newborn() if self._live else []
            if 0 < len(newborn) <= _FEW:
                self._read(newborn)
                scope = Scope(nodes.unconfirmed)
                continue
            # 4. Set watches, take in events, and only then read: so no change is missed between.
            self._watch()
            # What has come since is answered by the same reads; without any it can wait.
            scope = self._events(arrived=bool(nodes.dirty))
            if unread := nodes.unread():
                self._read(unread)
                scope |= Scope(nodes.unconfirmed)
        else:
            self._left |= scope
        return changes

    def _publish(self, inferred: bool) -> list[Change]:
        """Put into the picture what has become certain."""
        before, unreadable = self._picture.unreadable, self._reconciler.unreadable
        if unreadable:
            # A name must not be missing from the table before it is known to be unreadable.
            self._picture.unreadable = {**before, **unreadable}
        if changes := self._reconciler.certain_changes():
            self._picture.commit(changes, inferred=inferred)
            self._born += [new.domid for old, new in changes if old is None and new is not None]
            if self._last_event is not None:
                self._counters.lag = time.monotonic() - self._last_event
        if before or unreadable:
            self._picture.unreadable = unreadable.copy()
            if before.keys() != unreadable.keys():
                self._picture.commit(())  # who waits for a name may go on
        if values := self._nodes.certain_values():
            self._picture.node_values(values)
        return changes

    # -- questions ---------------------------------------------------------------------------

    def _watch(self) -> None:
        """Set and drop the watches of names and nodes."""
        unwatch, watch = self._nodes.pending_watches()
        if unwatch:
            self._store.unwatch(unwatch)
        if watch:
            answers = self._in_parts(self._store.watch, watch)
            self._watches += (done := answers.count(None))
            if done < len(watch):
                for asked, error in zip(watch, answers, strict=True):
                    if error is not None:
                        self._nodes.refused(asked, error)
                        self._complaints.refused(asked.path, error)

    def _read(self, nodes: Sequence[Followed]) -> None:
        paths = [node.path for node in nodes]
        values = self._ask(paths)
        if StoreError in map(type, values):
            for path, value in zip(paths, values, strict=True):
                if isinstance(value, StoreError):
                    self._complaints.refused(path, value)
        self._nodes.on_values(zip(nodes, values, strict=True))

    def _ask(self, paths: Sequence[bytes]) -> list[bytes | StoreError | None]:
        self._counters.reads += len(paths)
        return self._in_parts(self._store.read, paths)

    def _in_parts(self, ask: Callable[[Sequence[A]], list[B]], items: Sequence[A]) -> list[B]:
        """The answers to all items; between two parts the thread shows that it gets on."""
        answers = ask(items[:_AT_ONCE])
        for start in range(_AT_ONCE, len(items), _AT_ONCE):
            self._show_progress()
            answers += ask(items[start : start + _AT_ONCE])
        return answers
