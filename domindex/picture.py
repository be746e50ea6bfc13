"""What is known of the host: the table, its listeners, and who changes it.

    following.py  --commit, up, down-->  Picture  --tell-->  listening/hub.py

The watcher is the only caller of `commit`, and so the only writer of the table. A commit takes
the changes into the table, puts their events into each listener's mailbox, and then wakes who
waits, all under one lock. `state` is set last when the index becomes live: a program that sees
`live` can rely on every event that led there being in the mailboxes already.

Read after core/table.py and liveness.py; next lookups.py (what is read from it) and following.py
(what writes it).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from domindex.core.ended import EndedLives
from domindex.core.key import KeyIndex, Missing
from domindex.core.nodes import NodeValue
from domindex.core.table import Change, DomainTable
from domindex.domain import Domain
from domindex.errors import NoSuchDomain, NotLive, StoreError
from domindex.events import Added, Event, Ready, Removed, Resync, Synced
from domindex.listening.hub import Hub
from domindex.liveness import Down as Down
from domindex.liveness import Ended as Ended
from domindex.liveness import Live as Live
from domindex.liveness import Liveness, State


class Picture(Liveness):
    """The table of running domains, its state, and everyone who is told of changes.

    patience, max_age: as for `Liveness`.
    """

    def __init__(self, *, patience: float, max_age: float = math.inf) -> None:
        super().__init__(patience=patience, max_age=max_age)
        self.hub: Hub = Hub(self)
        self.look_closer: Missing[Domain] = _refuse  # until look-ups set theirs
        self.table: DomainTable = DomainTable(lambda index, key: self.look_closer(index, key))
        self.ended_lives: EndedLives = EndedLives()
        self.unreadable: Mapping[int, StoreError] = {}
        """Domids whose name xenstored does not give, and why. Replaced, never changed."""
        self.refreshed = 0
        """The last refresh that is done; `conditions.refreshed` waits for it."""

    @property
    def generation(self) -> int:
        """See `Liveness`."""
        return self.table.generation

    def clear(self) -> None:
        """See `Liveness`."""
        self.table.clear()

    def hide(self, state: State) -> bool:
        """See `Liveness`."""
        old = not isinstance(state, Live) and self.age > self.max_age
        names = self.max_age < 0 and bool(self.unreadable)
        self.table.hide(names=old or names, others=old)
        return old

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
                changes, time=now, inferred=inferred, births=self.hub.has_listeners
            )
            self.ended_lives.add(events)
            for event in events:
                if isinstance(event, Removed):
                    self.hub.ended(event.domain.domid)
            self.tell(events)

    def node_values(self, values: Sequence[NodeValue]) -> None:
        """Tell the watches of these nodes what they hold now."""
        with self.lock:
            if not isinstance(self.state, Ended):
                self.hub.node_values(values)

    # -- for everyone ------------------------------------------------------------------------

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
        return present + self.about_all(Synced())

    def resync_events(self) -> list[Event]:
        """What stands for a backlog that was dropped. The lock is held, as above."""
        return self.about_all(Resync(tuple(self.table)))

    def latest(self, domain: Domain) -> Domain:
        """The record of the same life as it is now, or `domain` if that life has ended."""
        return self.held(domain) or domain

    def holds(self, domain: Domain) -> Domain:
        """The record of the same life as it is now. Raises NoSuchDomain if it has ended."""
        if (held := self.held(domain)) is None:
            raise NoSuchDomain("life", domain.life)
        return held


def _refuse(index: KeyIndex[Any, Domain], key: Any) -> Domain:
    raise NoSuchDomain(index.what, key)
