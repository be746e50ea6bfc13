"""From what the store has to what is true of the fleet, and what is told of it.

Each batch of the store touches hosts. A host that was touched is *settled*: what it said whole is
taken in, its state is found, and listeners are told. Hosts with one machine-id are looked at
together, because a machine may have got another name.

Read after picture.py; next following.py, which brings the batches.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterable, Sequence
from typing import Final

from domindex.fleet.events import FleetEvent, HostForgotten, HostRenamed, HostsCloned
from domindex.fleet.host_table import HostTable
from domindex.fleet.layout import ALIVE, EPOCH
from domindex.fleet.picture import FleetPicture, state_event
from domindex.fleet.ports import Change
from domindex.fleet.records import Unreadable, host_of
from domindex.fleet.states import HostState, Status

log: logging.Logger = logging.getLogger("domindex")

LOST_DELAY: Final = 1.0
"""Seconds for which the event of a lost host waits. When an engine pauses for longer than the
leases, every host is lost and has come back a moment later. The answers do not wait."""
_RIVALRY: Final = 2.0
"""Seconds beyond a lease until two hosts with one machine-id are two machines, and not one that
was renamed and whose old lease is still to run out."""
_LEASE: Final = 15.0
"""Seconds to take for a lease of unknown length."""


class FleetReconciler:
    """The only writer of a fleet's picture. For the reader's thread.

    bad_values: values that could not be read so far. strange_keys: keys of no known meaning.
    """

    def __init__(self, picture: FleetPicture) -> None:
        self.bad_values: int = 0
        self.strange_keys: int = 0
        self._picture = picture
        self._hosts = picture.hosts
        self._machines: dict[str, dict[str, HostTable]] = {}  # by machine-id, then by name
        self._filed: dict[str, str] = {}  # the machine-id under which a host is there
        self._due: dict[str, HostTable] = {}  # whose loss is still to be told
        self._waiting: dict[str, HostTable] = {}  # that have a rival
        self._renamed: dict[str, str] = {}  # names that are used no more, and the newer ones
        self._clones: set[tuple[str, str]] = set()

    def load(self, pairs: Iterable[tuple[str, bytes]], position: int, *, other: bool) -> None:
        """Hold what the store held at a position, and tell the difference.

        other: it is not the store that was followed before, or an older state of it. What it does
            not have is lost then and not gone: its hosts did not say so.

        Raises what `pairs` raises. What was taken in by then is then taken in once more.
        """
        domids: dict[str, set[int]] = {}
        alive: set[str] = set()
        recorded: set[str] = set()
        for key, value in pairs:  # without the lock, as it takes round trips; none of it shows yet
            if (about := self._take(key, value)) is None:
                continue
            name, domid = about
            if domid is not None:
                domids.setdefault(name, set()).add(domid)
            else:
                (alive if key.startswith(ALIVE) else recorded).add(name)
        with self._picture.lock:
            if self._picture.has_ended:
                return
            for name, host in self._hosts.items():
                if name not in alive:
                    host.take_alive(None)
                if name in recorded or name in alive or not other:
                    host.have_only(domids.get(name, ()))
                    if name not in recorded:
                        host.take_record(None)
            events: list[FleetEvent] = []
            # Those that somebody publishes last: they may take the place of one that is lost.
            for host in sorted(self._hosts.values(), key=lambda host: host.alive is not None):
                self._settle(host, events, fresh=False)
            self._done(events, position)

    def take(self, changes: Sequence[Change], position: int) -> None:
        """Take one batch of the store in, and tell of it."""
        with self._picture.lock:
            if self._picture.has_ended:
                return
            touched = [about[0] for key, value in changes if (about := self._take(key, value))]
            events: list[FleetEvent] = []
            for name in dict.fromkeys(touched):
                if (host := self._hosts.get(name)) is not None:
                    self._settle(host, events, fresh=True)
            self._done(events, position)

    def confirm(self, position: int) -> None:
        """The line works, and all up to `position` was taken in."""
        with self._picture.lock:
            self._picture.confirmed = self._picture.clock()
            self._done([], position)

    def tick(self) -> None:
        """Tell what has waited for its time."""
        picture = self._picture
        now = picture.got_on = picture.clock()
        with picture.lock:
            events: list[FleetEvent] = []
            for host in list(self._due.values()):
                if host.due is not None and host.due <= now:
                    self._tell_state(host, events)
            for host in list(self._waiting.values()):
                if host.rival_until <= now:
                    self._settle(host, events, fresh=True)
            if events or picture.max_age < math.inf:
                self._done(events, picture.position)

    @property
    def next_tick(self) -> float:
        """Seconds until `tick` has something to tell; `inf` if nothing waits."""
        with self._picture.lock:
            times = [host.due for host in self._due.values() if host.due is not None]
            times += [host.rival_until for host in self._waiting.values()]
        return max(0.0, min(times, default=math.inf) - self._picture.clock())

    def name_now(self, name: str) -> str:
        """What the host is called that had this name; the name itself, if it has it still."""
        while name not in self._hosts and name in self._renamed:
            name = self._renamed[name]
        return name

    def forget(self, name: str) -> None:
        """A host that nobody publishes, and that the store does not have any more, goes."""
        with self._picture.lock:
            host = self._hosts.get(name)
            if host is not None and host.alive is None:
                host.take_record(None)
                events: list[FleetEvent] = []
                self._settle(host, events, fresh=False)
                self._done(events, self._picture.position)

    def lacking(self) -> list[str]:
        """Hosts of which not as many domains are held as they say: something was missed."""
        with self._picture.lock:
            return [name for name, host in self._hosts.items() if host.lacks]

    # -- within; but for `_take` the lock is held --------------------------------------------

    def _take(self, key: str, value: bytes | None) -> tuple[str, int | None] | None:
        """Put one key where it belongs; the host, and the domid if it is of a domain."""
        about = host_of(key)
        if about is None:
            self.strange_keys += key != EPOCH
            return None
        name, domid = about
        host = self._hosts.get(name)
        if host is None:
            if value is None or (name in self._renamed and not key.startswith(ALIVE)):
                return None  # what is left of a name that is used no more
            self._renamed.pop(name, None)
            host = HostTable(name, self._first_status(name))
            with self._picture.lock:
                self._hosts[name] = host
                self._picture.silent[name] = HostState.SYNCING
        try:
            if domid is not None:
                host.take_domain(domid, value)
            elif key.startswith(ALIVE):
                host.take_alive(value)
            else:
                host.take_record(value)
        except Unreadable as error:
            self.bad_values += 1
            with contextlib.suppress(Exception):
                log.warning(
                    "the store has of host %s what cannot be read: %s: %s", name, key, error
                )
        return about

    def _settle(self, host: HostTable, events: list[FleetEvent], *, fresh: bool) -> None:
        """Take in what the host said whole, find its state, and tell of both.

        fresh: it was said just now. Else it was found by a load, and may be old.
        """
        if self._hosts.get(host.name) is not host:
            return  # it has another name by now
        self._file(host)
        if host.is_gone:
            self._drop(host, events)
            return
        self._meet(host, events)
        if not host.founds:  # answers are then made once, with the state that they will have
            self._find_state(host, fresh=fresh)
        if host.rival is None and host.is_whole:
            events += self._picture.apply(host, host.changes(), inferred=not fresh)
        self._find_state(host, fresh=fresh)
        self._tell_change(host, events)
        if host.alive is None:
            for mate in list(self._machines.get(host.machine, {}).values()):
                if mate is not host and mate.alive is not None:
                    self._settle(mate, events, fresh=fresh)

    def _find_state(self, host: HostTable, *, fresh: bool) -> None:
        """Give the host, and each answer from it, the state that it has now."""
        picture = self._picture
        state, reason = host.state()
        before = host.status
        boot = host.record.boot if host.record is not None else before.boot
        if (state, reason, boot, host.name) != (
            before.state,
            before.reason,
            before.boot,
            before.host,
        ):
            same = (state, host.name) == (before.state, before.host)
            since = before.since if same else picture.clock()
            as_of = self._as_of(host, state, fresh=fresh)
            status = Status(host.name, boot, state, reason, since, as_of, picture)
            picture.set_status(host, status)

    def _tell_change(self, host: HostTable, events: list[FleetEvent]) -> None:
        """Have listeners know its state: at once, or after a while if it may come back."""
        picture, state = self._picture, host.status.state
        certain = state is HostState.LIVE and not host.bad and not host.lacks
        if certain or state is HostState.OFFLINE:
            picture.silent.pop(host.name, None)
        else:
            picture.silent[host.name] = state
        if state is host.told or state is HostState.SYNCING:
            host.due = None
            self._due.pop(host.name, None)
        elif state is HostState.LOST and host.told is not None and self._ran_out(host):
            if host.due is None:
                host.due = picture.clock() + LOST_DELAY
                self._due[host.name] = host
        else:
            self._tell_state(host, events)

    def _as_of(self, host: HostTable, state: HostState, *, fresh: bool) -> float | None:
        """Until when its last word is known to have held; None while it holds on."""
        if state is HostState.LIVE:
            return None
        before, record = host.status.as_of, host.record
        if before is not None and not (fresh and state is HostState.BLIND and host.is_whole):
            return before
        now = self._picture.clock() if fresh else self._picture.confirmed
        if state is HostState.BLIND:
            return now - (record.age if record is not None else 0.0)
        if state is HostState.LOST and self._ran_out(host):
            return now - self._lease_of(host)
        return now

    def _tell_state(self, host: HostTable, events: list[FleetEvent]) -> None:
        host.due = None
        self._due.pop(host.name, None)
        host.told = host.status.state
        event = state_event(host.name, host.told, host.status.reason)
        events += self._picture.stamped([event])

    def _drop(self, host: HostTable, events: list[FleetEvent]) -> None:
        """The store has it no more: an operator has forgotten it."""
        events += self._picture.apply(host, host.drop(), inferred=True)
        self._remove(host)
        events += self._picture.stamped([HostForgotten(host.name)])

    def _remove(self, host: HostTable) -> None:
        self._picture.unlist(host)
        self._due.pop(host.name, None)
        self._waiting.pop(host.name, None)
        self._unfile(host.name)
        for other in list(self._waiting.values()):
            if other.rival == host.name:
                other.rival_until = -math.inf

    # -- machines that have several names ----------------------------------------------------

    def _meet(self, host: HostTable, events: list[FleetEvent]) -> None:
        """Look at the other hosts with its machine-id: older names of it, or copies."""
        if host.alive is None:
            return
        for mate in list(self._machines.get(host.machine, {}).values()):
            if mate is host:
                continue
            if mate.alive is None and _pair(host, mate) not in self._clones:
                self._rename(mate, host, events)
            elif mate.alive is None:
                continue
            elif host.rival == mate.name or self._is_new(host, mate):
                self._compare(host, mate, events)
            elif not self._is_new(mate, host):
                self._tell_clones(host, mate, events)

    def _is_new(self, host: HostTable, mate: HostTable) -> bool:
        """It came while the other one was there, so it may be that one's newer name."""
        return host.told is None and mate.told is not None and host.rival is None

    def _compare(self, host: HostTable, mate: HostTable, events: list[FleetEvent]) -> None:
        """Both are alive: wait until the older one's lease must have run out."""
        now = self._picture.clock()
        if host.rival is None:
            host.rival = mate.name
            host.rival_until = now + self._lease_of(mate) + _RIVALRY
            self._waiting[host.name] = host
        elif host.rival_until <= now:
            self._waiting.pop(host.name, None)
            host.rival = None
            self._tell_clones(host, mate, events)

    def _tell_clones(self, host: HostTable, mate: HostTable, events: list[FleetEvent]) -> None:
        names = _pair(host, mate)
        if names not in self._clones:
            self._clones.add(names)
            events += self._picture.stamped([HostsCloned(names)])
            with contextlib.suppress(Exception):
                log.warning("hosts %s and %s have one machine-id: give each its own", *names)

    def _rename(self, old: HostTable, new: HostTable, events: list[FleetEvent]) -> None:
        """Nobody publishes `old`, and its machine publishes `new`: it is the same host."""
        self._waiting.pop(new.name, None)
        new.rival = None
        if new.told is None and not new.founds:
            new.go_on_from(old)
            self._picture.set_status(new, new.status)
            old = HostTable(old.name, old.status)  # it is left with nothing
        else:
            lives = {domain.life for domain in new.table}
            gone = [change for change in old.drop() if change[0] and change[0].life not in lives]
            events += self._picture.apply(old, gone, inferred=True)
        self._remove(old)
        self._renamed[old.name] = new.name
        events += self._picture.stamped([HostRenamed(old.name, new.name)])

    def _file(self, host: HostTable) -> None:
        if self._filed.get(host.name, "") != host.machine:
            self._unfile(host.name)
            if host.machine:
                self._filed[host.name] = host.machine
                self._machines.setdefault(host.machine, {})[host.name] = host

    def _unfile(self, name: str) -> None:
        machine = self._filed.pop(name, "")
        mates = self._machines.get(machine, {})
        mates.pop(name, None)
        if not mates:
            self._machines.pop(machine, None)

    # -- small things ------------------------------------------------------------------------

    def _first_status(self, name: str) -> Status:
        now = self._picture.clock()
        return Status(name, "", HostState.SYNCING, "", now, -math.inf, self._picture)

    def _ran_out(self, host: HostTable) -> bool:
        return host.record is None or host.record.state != "ended"

    def _lease_of(self, host: HostTable) -> float:
        return (host.record.ttl if host.record is not None else 0.0) or _LEASE

    def _done(self, events: list[FleetEvent], position: int) -> None:
        self._picture.position = position
        self._picture.tell(events)


def _pair(one: HostTable, other: HostTable) -> tuple[str, str]:
    return min(one.name, other.name), max(one.name, other.name)
