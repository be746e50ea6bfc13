"""One host as the store has it: its record, its domains, and what is not taken in yet. No I/O.

A publisher writes more than fits into one transaction in several, with `whole: false` in the
host's record until the last. What came is `pending` until then: so no two words of a host are
ever mixed, and a listener never sees half a change.

Read after records.py; next picture.py.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final, NoReturn

from domindex.core.key import KeyIndex
from domindex.core.table import Change, DomainTable
from domindex.domain import Domain
from domindex.errors import NoSuchDomain
from domindex.fleet.errors import Alive
from domindex.fleet.layout import unpack_alive
from domindex.fleet.records import HostRecord, Unreadable, unpack_domain, unpack_host
from domindex.fleet.states import Found, HostState, Status

UNKNOWN: Final = Alive("", "")
"""Somebody publishes the host, and who it is cannot be read."""


class HostTable:
    """What is known of one host.

    Attributes:
        name: Of the host.
        table: Its domains, as it last said them whole.
        founds: The answers for these, by domid.
        alive: Who publishes it; None if nobody does.
        record: What it says of itself; None if it has said nothing that can be read.
        raw: The value of that record, as it is in the store; None if there is none.
        bad: Domids of which the store holds what cannot be read, or a domain that is missing.
        fault: Why its record cannot be read; "" if it can.
        generation: Of its index, when it said what is in the table; -1 before that.
        status: Its state now.
        told: The state that listeners know.
        due: When (reader's clock) they are to be told that it is lost; None if not at all.
        listed: Its answers are in the keys of the picture: it is not offline.
        rival: The host with the same machine-id that this one waits for, until `rival_until`.
    """

    def __init__(self, name: str, status: Status) -> None:
        self.name = name
        self.table: DomainTable = DomainTable(_refuse)
        self.founds: dict[int, Found] = {}
        self.alive: Alive | None = None
        self.record: HostRecord | None = None
        self.raw: bytes | None = None
        self.bad: set[int] = set()
        self.fault: str = ""
        self.generation: int = -1
        self.status = status
        self.told: HostState | None = None
        self.due: float | None = None
        self.listed: bool = True
        self.rival: str | None = None
        self.rival_until: float = 0.0
        self._pending: dict[int, Domain | None] = {}
        self._boot = ""
        self._incarnation = ""

    def take_alive(self, value: bytes | None) -> None:
        """The alive key has this value."""
        self.alive = None if value is None else unpack_alive(value) or UNKNOWN

    def take_record(self, value: bytes | None) -> None:
        """The host's record has this value. Raises Unreadable; the one before then counts on."""
        self.raw = value
        self.fault = ""
        try:
            self.record = None if value is None else unpack_host(value)
        except Unreadable as error:
            self.fault = f"its record cannot be read: {error}"
            raise

    def take_domain(self, domid: int, value: bytes | None) -> None:
        """A domain has this value. Raises Unreadable; what was known of it then counts on."""
        self.bad.discard(domid)
        try:
            self._pending[domid] = None if value is None else unpack_domain(domid, value)
        except Unreadable:
            self._pending.pop(domid, None)
            self.bad.add(domid)
            raise

    def have_only(self, domids: Collection[int]) -> None:
        """A load is done: the store holds these domains of it and no others."""
        self.bad.intersection_update(domids)
        for domid in {*self._pending, *self.table.keys()}.difference(domids):
            self._pending[domid] = None

    @property
    def machine(self) -> str:
        """The machine-id that it publishes with, or did; "" if that is not known."""
        if self.alive is not None and self.alive.machine:
            return self.alive.machine
        return self.record.machine if self.record is not None else ""

    @property
    def is_gone(self) -> bool:
        """The store has neither its record nor a publisher."""
        return self.alive is None and self.raw is None

    @property
    def is_whole(self) -> bool:
        """What came makes a whole, and can be taken in."""
        return self.record is not None and self.record.whole and not self.fault

    @property
    def lacks(self) -> int:
        """How many domains fewer (below 0: more) are held than the host says it has.

        Those that cannot be read may be among these, or a stranger's.
        """
        if self.record is None or not self.is_whole:
            return 0
        unknown = sum(domid not in self.table.domids.unique for domid in self.bad)
        missing = self.record.domains - len(self.table)
        return max(missing - unknown, 0) + min(missing, 0)

    def changes(self) -> list[Change]:
        """The difference of what came to what is held. Call it when it `is_whole`."""
        pending, self._pending = self._pending, {}
        held = self.table.domids.unique
        record = self.record
        assert record is not None
        new_boot, self._boot = bool(self._boot) and record.boot != self._boot, record.boot
        new_word = bool(self._incarnation) and record.incarnation != self._incarnation
        self._incarnation = record.incarnation
        self.generation = record.generation
        if new_word:
            # A publisher that takes over writes all anew: what it has not written is gone. It
            # deletes only what the store has, and a store that was emptied has nothing.
            gone = dict.fromkeys(held.keys() - self.bad)
            pending = {**gone, **pending}
        if new_boot:  # the same unique id is another life
            after = {domid: pending.get(domid, domain) for domid, domain in held.items()} | pending
            return [
                *((domain, None) for domain in held.values()),
                *((None, domain) for domain in after.values() if domain is not None),
            ]
        found: list[Change] = []
        for domid, new in pending.items():
            old = held.get(domid)
            if new is not None and old is not None and new_word:
                new = _go_on(old, new)
            if old is not new:
                found.append((old, new))
        return found

    def drop(self) -> list[Change]:
        """The end of all that is held."""
        self._pending.clear()
        return [(domain, None) for domain in self.table]

    def go_on_from(self, other: HostTable) -> None:
        """It is the same host under a newer name: take over what was known of the other."""
        self.table, self.founds = other.table, other.founds
        self.generation = other.generation
        self._boot, self._incarnation = other._boot, other._incarnation
        self.told, self.listed = other.told, other.listed

    def state(self) -> tuple[HostState, str]:
        """What it is now, and why."""
        record = self.record
        if self.alive is None:
            if record is not None and record.state == "offline":
                return HostState.OFFLINE, record.why
            if record is not None and record.state == "ended":
                return HostState.LOST, record.why or "it ended"
            return HostState.LOST, "its lease ran out"
        if self.fault:
            return HostState.BLIND, self.fault
        if record is None or record.incarnation != self.alive.incarnation or self.rival:
            return HostState.SYNCING, ""
        if record.state == "blind":
            return HostState.BLIND, record.why
        if record.whole and record.state == "live":
            return HostState.LIVE, ""
        return HostState.SYNCING, ""


def _go_on(old: Domain, new: Domain) -> Domain:
    """The new record, with the life of the old one if that goes on under a new index.

    Before Xen 4.21 the index makes up the life, from the uuid and the time at which it first saw
    it. A publisher that was restarted has a new index. Within one boot a domid with the same uuid
    is the same run: to be another one, all 32,751 domids would have been used in between.
    """
    made_up = old.life.unique_id is None and new.life.unique_id is None
    if made_up and old.life != new.life and old.uuid == new.uuid and old.uuid.int:
        return replace(new, life=old.life, first_seen=old.first_seen)
    return new


def _refuse(index: KeyIndex[Any, Domain], key: Any) -> NoReturn:
    raise NoSuchDomain(index.what, key)
