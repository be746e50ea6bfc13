"""What is known of the host, and whether it is up to date. One lock, one owner of each state.

    following.py  --commit, up, down-->  Picture  --tell-->  listening/hub.py

The watcher is the only caller of `commit`, and so the only writer of the table. A commit takes
the changes into the table, puts their events into each listener's mailbox, and then wakes who
waits, all under one lock. `state` is set last when the index becomes live: a program that sees
`live` can rely on every event that led there being in the mailboxes already.

Read after core/table.py; next lookups.py (what is read from it) and following.py (what writes it).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from domindex import forking
from domindex.core.ended import EndedLives
from domindex.core.key import KeyIndex, Missing
from domindex.core.nodes import NodeValue
from domindex.core.table import Change, DomainTable
from domindex.domain import Domain
from domindex.errors import Closed, HostError, NoSuchDomain, NotLive, StoreError
from domindex.events import Added, Event, Lost, Ready, Recovered, Removed, Resync, Synced
from domindex.listening.hub import Hub
from domindex.listening.signal import ChangeSignal


@dataclass(frozen=True, slots=True)
class Live:
    """Every change that an event told of is held, and the line was lately known to work."""


@dataclass(frozen=True, slots=True)
class Down:
    """Changes may be missing. cause: why, as last seen. since: time.monotonic() of the loss."""

    cause: BaseException
    since: float


@dataclass(frozen=True, slots=True)
class Ended:
    """Every call is refused, and `why` says so."""

    why: str


State: TypeAlias = Live | Down | Ended


class Picture:
    """The table of running domains, its state, and everyone who is told of changes.

    patience: seconds without a sign of the watcher's thread after which the picture counts as out
    of date. max_age: the age in seconds up to which look-ups are answered from it while it is out
    of date, below 0 for never. After that the views are emptied until it is live again, so that
    each look-up has to look closer. Nothing has to look at the time for a look-up that hits.
    """

    def __init__(self, *, patience: float, max_age: float = math.inf) -> None:
        # Held to change anything here, or to see it whole.
        self.lock: threading.RLock = forking.rlock()
        self.look_closer: Missing = _refuse  # until look-ups set theirs
        self.table: DomainTable = DomainTable(lambda index, key: self.look_closer(index, key))
        self.ended_lives: EndedLives = EndedLives()
        self.changed: ChangeSignal = ChangeSignal(self.lock)
        self.hub: Hub = Hub(self)
        self.max_age: float = max_age
        self.state: State = Down(NotLive("the index has not seen the host yet"), time.monotonic())
        self.confirmed: float = -math.inf
        """time.monotonic() at which the host last confirmed that the picture is whole."""
        self.got_on: float = math.inf
        """time.monotonic() at which the watcher's thread last showed that it is not held up."""
        self.unreadable: Mapping[int, StoreError] = {}
        """Domids whose name xenstored does not give, and why. Replaced, never changed."""
        self.refreshed = 0
        """The last refresh that is done; `conditions.refreshed` waits for it."""
        self.patience = patience
        self._untold: BaseException | None = None  # the cause of a loss that is still to be told

    # -- for the watcher ---------------------------------------------------------------------

    def commit(self, changes: Sequence[Change], *, inferred: bool = False) -> None:
        """Take changes in and tell of them. Without any, who waits for something looks again.

        inferred: the changes were found by a list after a gap, see `Removed`.
        """
        now = time.time()
        with self.lock:
            if isinstance(self.state, Ended):
                return
            events = self.table.apply(
                changes, time=now, inferred=inferred, births_ready=self.hub.has_listeners
            )
            self.ended_lives.add(events)
            for event in events:
                if isinstance(event, Removed):
                    self.hub.ended(event.domain.domid)
            self._tell(events)

    def node_values(self, values: Sequence[NodeValue]) -> None:
        """Tell the watches of these nodes what they hold now."""
        with self.lock:
            if not isinstance(self.state, Ended):
                self.hub.node_values(values)

    def up(self) -> None:
        """Become live. Tells `Recovered`, if it was down."""
        with self.lock:
            if isinstance(self.state, Ended) or (self.state == Live() and self._untold is None):
                return
            now = time.monotonic()
            since = self.state.since if isinstance(self.state, Down) else now
            lost = [Lost(self._untold)] if self._untold is not None else []
            self._untold = None
            self._tell(self._stamped([*lost, Recovered(now - since)]), Live())

    def down(self, cause: BaseException) -> None:
        """Become out of date. Tells `Lost` once, whatever is called how often until `up`."""
        with self.lock:
            match self.state:
                case Live():
                    # First, as it takes no memory: if the rest fails for lack of it, the picture
                    # is not live all the same, and a later call tells.
                    self._untold = cause
                    self.state = Down(cause, time.monotonic())
                case Down(since=since):
                    self.state = Down(cause, since)
                case Ended():
                    return
            lost = [Lost(self._untold)] if self._untold is not None else []
            self._tell(self._stamped(lost))
            self._untold = None

    def end(self, why: str) -> None:
        """Refuse every call from now on, with this sentence."""
        with self.lock:
            self.state = Ended(why)
            self.table.clear()  # a hit looks at the views alone: they must be empty at once
            self.changed.notify()

    def _tell(self, events: Sequence[Event], state: State | None = None) -> None:
        state = state or self.state
        if self.max_age < math.inf:
            self._hide(state)
        self.hub.tell(events)
        self.state = state  # last: who sees Live finds all events in the mailboxes
        self.changed.notify()

    def _hide(self, state: State) -> bool:
        """Empty the views or fill them again, as `max_age` wants it; whether all are empty."""
        old = not isinstance(state, Live) and self.age > self.max_age
        names = self.max_age < 0 and bool(self.unreadable)
        self.table.hide(names=old or names, others=old)
        return old

    def _stamped(self, events: Sequence[Event]) -> list[Event]:
        now, generation = time.time(), self.table.generation
        return [replace(event, generation=generation, time=now) for event in events]

    # -- for everyone ------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """Whether it is up to date.

        A watcher that is held up (stopped, or in a hypercall that does not return) cannot say so
        itself. Whoever asks finds out by its last sign, and tells it in its place.
        """
        if not isinstance(self.state, Live) or self._untold is not None:
            return False
        silent = time.monotonic() - self.got_on
        if silent <= self.patience:
            return True
        self.down(HostError(f"the thread that follows the host is held up for {silent:.1f} s"))
        return False

    @property
    def age(self) -> float:
        """Seconds since the host last confirmed that the picture is whole."""
        return max(0.0, time.monotonic() - self.confirmed)

    def too_old(self) -> bool:
        """Whether it is out of date for longer than old answers are wanted.

        Time alone makes it too old, so whoever asks empties the views: the watcher while it looks
        for a line, and, should that be held up, each look-up that misses.
        """
        if self.max_age == math.inf or self.live:
            return False
        with self.lock:
            return self._hide(self.state)

    def check_open(self) -> None:
        """Raises Closed once it has ended."""
        if isinstance(self.state, Ended):
            raise Closed(self.state.why)

    def not_live(self) -> NotLive:
        """What to raise where it is out of date."""
        cause = self.state.cause if isinstance(self.state, Down) else None
        return NotLive("cannot tell: the line to the host is down", cause)

    def name_unreadable(self) -> NotLive:
        """What to raise of a name that an unreadable domain may have."""
        domid, error = min(self.unreadable.items(), default=(None, None))
        return NotLive(f"cannot tell: the name of domain {domid} cannot be read", error)

    def held(self, domain: Domain) -> Domain | None:
        """The record of the same life as it is now, None if that life has ended."""
        held = self.table.get(domain.domid)
        return held if held is not None and held.life == domain.life else None

    # -- for the hub -------------------------------------------------------------------------

    def first_events(self, *, replay: bool) -> list[Event]:
        """What a new listener is told: what is present, `Synced`, `Lost` if it is not live."""
        present: list[Event] = []
        if replay:
            now, generation = time.time(), self.table.generation
            for domain in self.table:
                present.append(Added(domain, generation=generation, time=now))
                if domain.ready:
                    present.append(Ready(domain, generation=generation, time=now))
            present += self.table.duplicates(generation=generation, time=now)
        return present + self._about_all(Synced())

    def resync_events(self) -> list[Event]:
        """What stands for a backlog that was dropped. The lock is held, as above."""
        return self._about_all(Resync(tuple(self.table)))

    def _about_all(self, event: Event) -> list[Event]:
        lost = [Lost(self.state.cause)] if isinstance(self.state, Down) else []
        return self._stamped([event, *lost])

    def latest(self, domain: Domain) -> Domain:
        """The record of the same life as it is now, or `domain` if that life has ended."""
        return self.held(domain) or domain

    def holds(self, domain: Domain) -> Domain:
        """The record of the same life as it is now. Raises NoSuchDomain if it has ended."""
        if (held := self.held(domain)) is None:
            raise NoSuchDomain("life", domain.life)
        return held


def _refuse(index: KeyIndex[Any], key: Any) -> Domain:
    raise NoSuchDomain(index.what, key)
