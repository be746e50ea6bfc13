"""One life as it is followed, and what tells it from the next life on its domid. No I/O.

Xen >= 4.21 gives every life a number of its own, and that decides. Before, there are signs only.
Another type, another shared page, or cpu time that fell are of another life. Another handle need
not be: xenopsd gives the running dom0 a uuid and marks a domain that is about to end, local
migrations run under temporary uuids, and Xen lists a domain before its handle is set. Taking every
changed handle for a death would tell ends that never were; taking none would join two lives.

The name decides. Every toolstack that we know removes /local/domain/N before it gives N to another
domain, and that fires the watch of the name. So if the watch has been silent since the name was
read, the domain that had this name has it still. For toolstacks that never clear their nodes a
second sign is asked for: nobody was born and nobody ended meanwhile, or the cpu time went on.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from domindex.domain import NIL_UUID, Domain, Life, OSType
from domindex.ports import Row

UNREAD: Final = object()
"""What was heard of a name while nothing was."""

CLOCKS: Final = 5_000_000
"""Nanoseconds by which cpu time may fall within one life: the clocks of two processors differ by
microseconds, and that much more for what nobody has measured yet."""


class Tracked:
    """One life as it is followed, whether or not the table has it yet."""

    __slots__ = ("believed", "first_seen", "heard", "name", "row", "token", "unique_id")

    def __init__(self, row: Row, unique_id: int | None, first_seen: float) -> None:
        self.row = row
        self.unique_id = unique_id
        self.first_seen = first_seen
        self.token: bytes | None = None  # of its watch on the present line
        self.heard: object = UNREAD  # an answer not yet confirmed
        self.believed = False  # the name is confirmed: the life is fit for the table
        self.name: str | None = None

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
        return Domain(row.domid, uuid, self.name, row.type, life, self.first_seen, row.shutdown)


def contradicts(known: Row, row: Row) -> bool:
    """Whether something but the handle shows that `row` is of another life than `known`."""
    return (
        not (row.type is known.type or OSType.UNKNOWN in (row.type, known.type))
        or row.frame != known.frame
        or row.cpu_time < known.cpu_time - CLOCKS
    )


def goes_on(tracked: Tracked, row: Row, *, silent: bool, calm: bool) -> bool:
    """Without a unique id: whether `row` is of the life that is followed.

    silent: the watch of its name is proven not to have fired since the name was read. calm: no
    domain was told to be born or to have ended since the last look.
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
