"""One life, and what tells it from the next life on its domid. No I/O.

Read after nodes.py; next reconcile.py.

Xen >= 4.21 gives every life a number of its own, and that decides. Before, there are signs only.
Another type, another shared page, or cpu time that fell are of another life. Another handle need
not be: xenopsd gives the running dom0 a uuid and marks a domain that is about to end, local
migrations run under temporary uuids, and Xen lists a domain before its handle is set. To take every
changed handle for a death would report ends that never were; to take none would join two lives.

The name decides. Every toolstack that we know removes /local/domain/N before it gives N to another
domain, and that fires the watch of the name. So if the watch has been silent since the name was
read, the domain that had this name has it still. For toolstacks that never clear their nodes a
second sign is asked for: no birth and no end was reported meanwhile, or the cpu time went on.
"""

from __future__ import annotations

from collections.abc import Set
from operator import attrgetter
from typing import Final
from uuid import UUID

from domindex.core.nodes import UNREAD, Followed, Unread, Value
from domindex.core.scope import Scope
from domindex.domain import NIL_UUID, Domain, Life, OSType, Role
from domindex.ports import Row

CLOCKS: Final = 5_000_000
"""Nanoseconds by which cpu time may fall within one life: the clocks of two processors differ by
microseconds, and the rest is a margin for machines that we have not measured."""


def name_path(domid: int) -> bytes:
    """Where the toolstack keeps the name; xen/docs/misc/xenstore-paths.pandoc."""
    return b"/local/domain/%d/name" % domid


class Tracked(Followed):
    """One life, whether or not the table has it yet. As a followed node it is its name.

    Both in one object: a second one for each name would cost 80 of the 1,024 bytes that the
    index may take for a domain.

    believed: the name is confirmed, so that the life may come into the table.
    """

    __slots__ = ("believed", "first_seen", "name", "roles", "row", "unique_id")

    def __init__(
        self, row: Row, unique_id: int | None, first_seen: float, roles: Role | None = None
    ) -> None:
        # As Followed.__init__ does, without the call: each birth comes through here.
        self.token: bytes | None = None
        self.answer: Value | Unread = UNREAD
        self.silent: bool = False
        self.row: Row = row
        self.unique_id: int | None = unique_id
        self.first_seen: float = first_seen
        self.roles: Role | None = roles
        self.believed: bool = False
        self.name: str | None = None

    # In C, as every event and every read asks for it.
    domid: property = property(attrgetter("row.domid"))

    @property
    def path(self) -> bytes:
        return b"/local/domain/%d/name" % self.row.domid

    def is_of(self, life: Life) -> bool:
        """Whether a record with that `life` is of this one."""
        if self.unique_id is not None:
            return self.unique_id == life.unique_id
        return self.first_seen == life.first_seen

    def record(self, old: Domain | None) -> Domain:
        """What the table is to hold of it, where it holds `old`."""
        row, uuid = self.row, UUID(bytes=self.row.handle)
        if self.unique_id is not None:
            life = Life(row.domid, self.unique_id, None, None)
        elif old is not None and old.life.first_seen == self.first_seen:
            life = old.life  # keeps the handle it was first seen with
        else:
            life = Life(row.domid, None, uuid, self.first_seen)
        return Domain(
            row.domid, uuid, self.name, row.type, life, self.first_seen, row.shutdown, self.roles
        )


def contradicts(known: Row, row: Row) -> bool:
    """Whether something but the handle shows that `row` is of another life than `known`."""
    return (
        not (row.type is known.type or OSType.UNKNOWN in (row.type, known.type))
        or row.frame != known.frame
        or row.cpu_time < known.cpu_time - CLOCKS
    )


def is_same_life(tracked: Tracked, row: Row, *, silent: bool, calm: bool) -> bool:
    """Without a unique id: whether `row` is of the life that is followed.

    silent: the watch of its name is proven not to have fired since the name was read.
    calm: no event reported a birth or an end of this domid since the last look.
    """
    known = tracked.row
    if row.domid == 0:
        return True  # Xen never gives it to another domain
    if contradicts(known, row):
        return False
    if row.handle == known.handle:
        return True
    # A handle of zeros is one that was not set yet, and nothing else names such a life.
    unnamed = known.handle == NIL_UUID.bytes and tracked.name is None
    ran_on = row.cpu_time >= known.cpu_time > 0
    return (silent or unnamed) and (calm or ran_on)


class Announced:
    """Births and ends that watch events have reported since the domains were last looked at.

    named: the domids, where the events name one. unnamed: some event named none.
    """

    def __init__(self) -> None:
        self.named: set[int] = set()
        self.unnamed: bool = False
        # Both again, of the events that came after a list which is not seen yet.
        self._after_list: tuple[Set[int], bool] = (frozenset(), False)

    def add(self, named: Set[int], unnamed: bool, *, after_list: bool) -> None:
        """Events have reported these."""
        self.named |= named
        self.unnamed |= unnamed
        if after_list:
            self._after_list = self._after_list[0] | named, self._after_list[1] or unnamed

    def may_be_of(self, domid: int) -> bool:
        """Some event may have been about this domid."""
        return self.unnamed or domid in self.named

    def seen(self, scope: Scope) -> None:
        """These domains were looked at: what is left are the events that came after the list."""
        named, unnamed = self._after_list
        if scope is Scope.ALL:
            self.named, self.unnamed = {*named}, unnamed
        elif self.named:
            self.named -= scope.domids - named
        self._after_list = frozenset(), False
