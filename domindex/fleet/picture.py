"""What is known of a fleet: its hosts, their domains by name and uuid, and who is told of changes.

    following.py  ->  reconcile.py  --apply, set_status-->  FleetPicture  --tell-->  listeners

The reader's thread is the only writer, under the one lock. States, listeners and keys are those
of the picture of one host (liveness.py, listening/, core/key.py).

Read after host_table.py; next lookups.py (what is read from it) and reconcile.py (what writes it).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from domindex.core.ended import EndedLives
from domindex.core.key import KeyIndex, Missing
from domindex.core.table import Change
from domindex.domain import Domain
from domindex.errors import NoSuchDomain
from domindex.events import Added, Ready, Removed, Synced
from domindex.fleet.events import (
    FleetEvent,
    HostBlind,
    HostEvent,
    HostLive,
    HostLost,
    HostOffline,
    InHost,
    Resync,
    StateEvent,
)
from domindex.fleet.host_table import HostTable
from domindex.fleet.ports import SILENCE, TIMEOUT
from domindex.fleet.states import Found, HostState, HostView, Status
from domindex.keys import as_name, as_uuid
from domindex.listening.listeners import Listeners
from domindex.liveness import Live, Liveness, State

PATIENCE: Final = SILENCE + 2 * TIMEOUT
"""Seconds after which a reader's thread without a sign counts as held up."""


class FleetPicture(Liveness):
    """All hosts of one store. max_age, clock: as for `Liveness`."""

    def __init__(
        self, *, max_age: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(patience=PATIENCE, max_age=max_age, followed="store", clock=clock)
        self.hub: Listeners[FleetEvent] = Listeners(self)
        self.look_closer: Missing[Found] = _refuse  # until look-ups set theirs
        closer: Missing[Found] = lambda index, key: self.look_closer(index, key)  # noqa: E731
        self.names: KeyIndex[str, Found] = KeyIndex(
            "name", as_name, attrgetter("domain.name"), closer, _place
        )
        self.uuids: KeyIndex[UUID, Found] = KeyIndex("uuid", as_uuid, _uuid, closer, _place)
        self.hosts: dict[str, HostTable] = {}
        self.silent: dict[str, HostState] = {}
        """Hosts that cannot tell what they have: while there is one, nothing is known absent."""
        self.position: int = 0
        """Of the store: all up to here is in the picture."""
        self.ended_lives: EndedLives = EndedLives()
        self._generation = 0

    @property
    def generation(self) -> int:
        """See `Liveness`."""
        return self._generation

    def clear(self) -> None:
        """See `Liveness`."""
        self.names.clear()
        self.uuids.clear()
        self.hosts.clear()
        self.silent.clear()

    def hide(self, state: State) -> bool:
        """See `Liveness`."""
        old = not isinstance(state, Live) and self.age > self.max_age
        for keyed in (self.names, self.uuids):
            (keyed.hide if old else keyed.show)()
        return old

    # -- for reconcile.py, under the lock ----------------------------------------------------

    def apply(
        self, host: HostTable, changes: Sequence[Change], *, inferred: bool
    ) -> list[FleetEvent]:
        """Take changes of the domains of one host in as one generation; their events."""
        if not changes:
            return []
        host.table.generation = self._generation
        told = host.table.apply(
            changes,
            time=time.time(),
            inferred=inferred,
            births=self.hub.has_listeners,
        )
        self._generation = host.table.generation
        self.ended_lives.add(told)
        leaving = [host.founds.pop(old.domid) for old, _ in changes if old is not None]
        coming = [Found(new, host.status) for _, new in changes if new is not None]
        host.founds.update((found.domain.domid, found) for found in coming)
        self._exchange(host, leaving, coming)
        return list(self._in_host(host, told)) if self.hub.has_listeners else []

    def set_status(self, host: HostTable, status: Status) -> None:
        """The host is in this state from now on, and so is every answer from it."""
        host.status = status
        leaving = list(host.founds.values())
        host.founds = {domid: Found(f.domain, status) for domid, f in host.founds.items()}
        listed = status.state is not HostState.OFFLINE
        self._exchange(host, leaving, list(host.founds.values()) if listed else [])
        host.listed = listed
        self._generation += 1

    def unlist(self, host: HostTable) -> None:
        """Take the answers of a host out: it is no more, or goes on under another name."""
        self._exchange(host, list(host.founds.values()), [])
        host.listed = False
        self.hosts.pop(host.name, None)
        self.silent.pop(host.name, None)
        self._generation += 1

    def _exchange(self, host: HostTable, leaving: list[Found], coming: list[Found]) -> None:
        if not leaving and not coming:
            return
        for found in leaving:
            found.close()
        if not host.listed:
            leaving = []
        if host.status.state is HostState.OFFLINE:
            coming = []
        self.names.apply(leaving, coming)
        self.uuids.apply(leaving, coming)

    def _in_host(self, host: HostTable, told: Iterable[InHost]) -> Iterator[HostEvent]:
        """The events of one host's table, as the fleet tells them."""
        for event in told:
            elsewhere: tuple[str, ...] = ()
            if isinstance(event, (Added, Removed)) and event.domain.uuid.int:
                holders = self.uuids.shared.get(event.domain.uuid)
                if holders is None and isinstance(event, Removed):
                    holders = self.uuids.holders(event.domain.uuid)
                if holders:
                    names = dict.fromkeys(
                        found.host
                        for found in holders.values()
                        if found.state is not HostState.LOST
                        and not (found.domain.name or "").endswith("--incoming")
                    )
                    elsewhere = tuple(name for name in names if name != host.name)
            yield HostEvent(
                host.name,
                event,
                elsewhere=elsewhere,
                generation=event.generation,
                time=event.time,
            )

    # -- for everyone ------------------------------------------------------------------------

    def view(self, host: HostTable) -> HostView:
        """What a program sees of a host. The lock is held."""
        status = host.status
        return HostView(
            host.name,
            status.state,
            status.reason,
            host.generation,
            len(host.table),
            status.since,
            self.confirmed if status.as_of is None else status.as_of,
            host.machine,
            tuple(sorted(host.bad)),
        )

    def all_found(self, *, offline: bool = False) -> tuple[Found, ...]:
        """Every answer, by host and domid. The lock is held. offline: of such hosts, too."""
        return tuple(
            host.founds[domid]
            for _, host in sorted(self.hosts.items())
            if offline or host.listed
            for domid in host.table.domids.unique
        )

    def answer(self, name: str, domain: Domain) -> Found:
        """What a look-up gives for this record of a host, or what it gave as long as it held."""
        with self.lock:
            host = self.hosts.get(name)
            held = None if host is None else host.founds.get(domain.domid)
            if held is not None and held.domain == domain:
                return held
            status = (
                Status(name, "", HostState.LOST, "", self.clock(), self.confirmed, self)
                if host is None
                else host.status
            )
            found = Found(domain, status)
            found.close()
            return found

    # -- for the listeners -------------------------------------------------------------------

    def first_events(self, *, replay: bool) -> list[FleetEvent]:
        """What a new listener is told: hosts and domains, `Synced`, `Lost` if it is not live."""
        present: list[FleetEvent] = []
        now, generation = time.time(), self._generation
        for name in sorted(self.hosts) if replay else ():
            host = self.hosts[name]
            told: list[InHost] = []
            for domain in host.table:
                told.append(Added(domain, generation=generation, time=now))
                if domain.ready:
                    told.append(Ready(domain, generation=generation, time=now))
            told += host.table.duplicates(generation=generation, time=now)
            present += self._in_host(host, told)
            if host.told is not None:
                present += self.stamped([state_event(name, host.told, host.status.reason)])
        return present + self.about_all(Synced())

    def resync_events(self) -> list[FleetEvent]:
        """What stands for a backlog that was dropped."""
        states = {name: host.told or host.status.state for name, host in self.hosts.items()}
        return self.about_all(Resync(self.all_found(offline=True), states))


def state_event(name: str, state: HostState, reason: str) -> StateEvent:
    """What listeners are told of a host that is in this state now."""
    match state:
        case HostState.LIVE:
            return HostLive(name)
        case HostState.BLIND:
            return HostBlind(name, reason)
        case HostState.OFFLINE:
            return HostOffline(name, reason)
    return HostLost(name, reason)


def _place(found: Found) -> tuple[str, int]:
    return found.status.host, found.domain.domid


def _uuid(found: Found) -> UUID | None:
    return found.domain.uuid if found.domain.uuid.int else None  # the nil uuid names no domain


def _refuse(index: KeyIndex[Any, Found], key: Any) -> Found:
    raise NoSuchDomain(index.what, key)
