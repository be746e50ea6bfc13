"""From what was seen to what is true: lists and names in, questions and changes out. No I/O.

One pass of the watcher goes round this loop until there is nothing left to ask:

    hypervisor lists  --see()-->   lives begun and ended; names heard before are confirmed
    watch / unwatch   <--ask()---  what to tell xenstore, which names to read
    xenstore answers  --heard()->  names, not yet believed
    table, listeners  <--take()--  the changes that have become certain

Three rules hold it up.
Rule 1: a name is believed only if the hypervisor still lists its life after the read.
Rule 2: a read sent before an event came never answers that event: the name is asked again.
Rule 3: a life comes into the table together with its name, or with the knowledge that it has
        none yet; if it took over a domid, in the same change as the old one goes.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from operator import itemgetter
from typing import Final, Protocol
from uuid import UUID

from domindex.core.nodes import Node, Nodes
from domindex.core.table import Change
from domindex.domain import FIRST_RESERVED_DOMID, Domain, Life, OSType, decode_name
from domindex.ports import Row, Watch

SPECIAL: Final = (Watch(b"@introduceDomain", b"introduce"), Watch(b"@releaseDomain", b"release"))
"""The two watches that tell of births and deaths; xen/docs/misc/xenstore.txt."""

_UNREAD: Final = object()
_DOMID: Final = itemgetter(0)  # of a row
_SHORT: Final = 32
"""Rows of which it is not worth finding out which have changed."""


class Held(Protocol):
    """The table, as far as it is asked here: a dict by domid would do."""

    def get(self, domid: int, /) -> Domain | None: ...
    def keys(self) -> Iterable[int]: ...


class Tracked:
    """One life as it is followed, whether or not the table has it yet."""

    __slots__ = ("believed", "first_seen", "heard", "name", "row", "token", "unique_id")

    def __init__(self, row: Row, unique_id: int | None, first_seen: float) -> None:
        self.row = row
        self.unique_id = unique_id
        self.first_seen = first_seen
        self.token: bytes | None = None  # of its watch on the present line
        self.heard: object = _UNREAD  # an answer not yet confirmed
        self.believed = False  # a first name was confirmed: the life is fit for the table
        self.name: str | None = None


class Reconciler:
    """Follows every life from its first row to its last. Driven by one thread.

    held: the table. What `take` gives must be in it before the next `take`.
    """

    def __init__(self, held: Held) -> None:
        self._held = held
        self._lives: dict[int, Tracked] = {}
        self._rows: list[Row] = []  # by domid; one that comes again as it is tells nothing
        self._tokens: dict[bytes, int] = {}  # token -> domid, of the watches now set
        self._comparison: tuple[Sequence[Row], tuple[list[Row], list[Row]]] | None = None
        self._unwatch: list[Watch] = []
        self._unwatched: set[int] = set()  # domids without a watch on the present line
        self._dirty: set[int] = set()  # domids whose name had an event since its read was sent
        self._touched: set[int] = set()  # domids whose record may have to change
        self._told_of: set[int] = set()  # domids whose birth or death an event has named
        self._unconfirmed: set[int] = set()  # domids of which something was heard since
        self._serial = 0
        self._now = 0.0
        self.nodes = Nodes()
        """What else is followed of the lives, besides their names."""

    def unlisted(self, rows: Sequence[Row]) -> Set[int]:
        """Domids of the lives that are followed and that `rows`, of all domains, lacks."""
        before, after = self._compared(rows)
        return (self._lives.keys() & set(map(_DOMID, before))) - set(map(_DOMID, after))

    # -- the line ---------------------------------------------------------------------------

    def new_line(self) -> None:
        """All watches are gone with the old line, and events may have been missed."""
        self._tokens.clear()
        self._unwatch.clear()
        for tracked in self._lives.values():
            tracked.token = None
            tracked.heard = _UNREAD
        self._unwatched.update(self._lives)
        # Whatever the last pass left half done:
        self._keep([self._lives[domid].row for domid in sorted(self._lives)], None)
        self._touched.update(self._lives, self._held.keys())
        self.doubt_names()
        self.nodes.new_line()

    def doubt_names(self) -> None:
        """Read every name again, as if each had changed, and every other node."""
        self._dirty.update(self._lives)
        self.nodes.doubt()

    def follow(self, life: Life, node: Node) -> bool:
        """Follow a node of this life; False if the life is over."""
        tracked = self._lives.get(life.domid)
        if tracked is None or not _is(tracked, life):
            return False
        self.nodes.follow(node)
        return True

    # -- facts in ---------------------------------------------------------------------------

    def fired(self, events: Iterable[Watch]) -> set[int] | None:
        """Take watch events in. The domids to look at, or None for the whole list.

        Tokens of ended lives and of nobody are passed over: UNWATCH leaves events queued.
        """
        scope: set[int] = set()
        whole = False
        for path, token in events:
            if token in (b"introduce", b"release"):
                domid = path.rpartition(b"/")[2]  # "@releaseDomain/7" where there is depth
                if domid.isdigit() and len(domid) <= 5 and int(domid) < FIRST_RESERVED_DOMID:
                    scope.add(int(domid))
                    self._told_of.add(int(domid))
                else:
                    whole = True
            elif (named := self._tokens.get(token)) is not None:
                self._dirty.add(named)
                scope.add(named)
            elif (owner := self.nodes.fired(token)) is not None:
                scope.add(owner)
        return None if whole else scope

    def suspects(self, rows: Iterable[Row], *, thorough: bool) -> list[int]:
        """Domids whose unique id must be asked before `see`, on a Xen that has them.

        All if `thorough`; else those that are new, differ, had an event, or whose name was
        read: every toolstack removes /local/domain/N before it gives N to another domain.
        """
        return [
            row.domid
            for row in rows
            if not row.dying
            and (
                thorough
                or (known := self._lives.get(row.domid)) is None
                or row.domid in self._dirty
                or row.domid in self._told_of
                or known.heard is not _UNREAD
                or not _may_be_same(known, row)
            )
        ]

    def see(
        self,
        rows: Sequence[Row],
        *,
        now: float,
        scope: Collection[int] | None = None,
        unique_ids: Mapping[int, int | None] | None = None,
    ) -> None:
        """Take rows in: the whole list, or, with `scope`, all there is of those domids.

        unique_ids: of the suspects, None for one that has gone since.
        Only a list known to be whole may be given: what it lacks is gone.
        """
        ids = unique_ids or {}
        if scope is None:
            self._told_of.clear()
            gone = self.unlisted(rows)
            news = rows if ids else self._news(rows)
        else:
            self._told_of.difference_update(scope)
            gone = (self._lives.keys() & set(scope)) - set(map(_DOMID, rows))
            news = rows
        # Two lives of one domid never begin at one moment, whatever the clock does.
        self._now = now = max(now, math.nextafter(self._now, math.inf))
        for row in news:
            domid = row.domid
            tracked = self._lives.get(domid)
            if row.dying or ids.get(domid, 0) is None:
                if tracked is not None:
                    self._end(domid)
                continue
            if tracked is not None and not self._same(tracked, row, ids):
                self._end(domid)
                tracked = None
            if tracked is None:
                self._lives[domid] = Tracked(row, ids.get(domid), now)
                self._unwatched.add(domid)
                self._dirty.add(domid)
                self._touched.add(domid)
            else:
                self._confirm(tracked, row)
        for domid in gone:
            self._end(domid)
        if not self._unconfirmed:
            self._unconfirmed.clear()  # a set that has shrunk keeps the room for all it ever had
        self._keep(rows, scope)
        for domid, unique_id in ids.items():
            if unique_id is None:  # the row does not say so: it is news if it comes again
                self._keep((), (domid,))

    def heard(
        self,
        names: Iterable[tuple[int, bytes | None]],
        nodes: Iterable[tuple[Node, bytes | None]] = (),
    ) -> None:
        """Names by domid and nodes as `unread` of each asked for them; None: no such node."""
        for domid, raw in names:
            self._lives[domid].heard = None if raw is None else decode_name(raw)
            self._unconfirmed.add(domid)
        for node, value in nodes:
            self.nodes.heard(node, value)
            self._unconfirmed.add(node.domid)

    # -- questions and changes out -----------------------------------------------------------

    def ask(self) -> tuple[list[Watch], list[Watch]]:
        """What to unwatch and what to watch, once: the caller sends it or drops the line."""
        unwatch, self._unwatch = self._unwatch, []
        watch = []
        for domid in sorted(self._unwatched):
            self._serial += 1
            token = b"life/%d/%d" % (domid, self._serial)
            self._lives[domid].token = token
            self._tokens[token] = domid
            watch.append(Watch(name_path(domid), token))
        self._unwatched.clear()
        unwatch_nodes, watch_nodes = self.nodes.ask()
        return unwatch + unwatch_nodes, watch + watch_nodes

    def newborn(self) -> list[int]:
        """Domids of lives that nothing is known of yet.

        Their names may be read at once, to be told of them the sooner. As that is before their
        watches are set, the names stay `unread`.
        """
        return [
            domid
            for domid in sorted(self._unwatched)
            if not (life := self._lives[domid]).believed and life.heard is _UNREAD
        ]

    @property
    def reads(self) -> bool:
        """There is something to read."""
        return bool(self._dirty) or self.nodes.dirty

    def unread(self) -> list[int]:
        """Domids whose names are to be read now, once all that `ask` gave is acknowledged."""
        asked = sorted(self._dirty)
        self._dirty.clear()
        return asked

    def take(self) -> list[Change]:
        """The changes that are certain, once each. The caller applies them to the table."""
        changes: list[Change] = []
        touched, self._touched = sorted(self._touched), set()
        for domid in touched:
            old = self._held.get(domid)
            tracked = self._lives.get(domid)
            if tracked is not None and not tracked.believed:
                self._touched.add(domid)  # its name is on the way; till then the old life stays
                continue  # (rule 3)
            new = None if tracked is None else _record(tracked, old)
            if new != old:
                changes.append((old, new))
        return changes

    # -- lives -------------------------------------------------------------------------------

    def _compared(self, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
        """What there was and what there is now, without most of what is in both.

        Kept until `see`, as the watcher asks before it believes the list.
        """
        if self._comparison is None or self._comparison[0] is not rows:
            self._comparison = rows, _differences(self._rows, _listed(rows))
        return self._comparison[1]

    def _news(self, rows: Sequence[Row]) -> list[Row]:
        """Rows with anything in them: not the very ones seen last, or to confirm what was heard."""
        _, differing = self._compared(rows)
        news = [
            row
            for row in differing
            if (tracked := self._lives.get(row.domid)) is None or tracked.row is not row
        ]
        for domid in self._unconfirmed:
            at = bisect_left(rows, domid, key=_DOMID)
            news += rows[at : at + 1]  # if it is gone this is another's, which does no harm
        return news

    def _keep(self, rows: Sequence[Row], scope: Collection[int] | None) -> None:
        """What the next list is compared with."""
        self._comparison = None
        if scope is None:
            self._rows = _listed(rows)
            return
        for domid in scope:
            at = bisect_left(self._rows, domid, key=_DOMID)
            if at < len(self._rows) and self._rows[at].domid == domid:
                del self._rows[at]
        for row in rows:
            insort(self._rows, row, key=_DOMID)

    def _same(self, tracked: Tracked, row: Row, ids: Mapping[int, int | None]) -> bool:
        unique_id = ids.get(row.domid)
        if unique_id is not None and tracked.unique_id is not None:
            return unique_id == tracked.unique_id
        return _may_be_same(tracked, row)

    def _confirm(self, tracked: Tracked, row: Row) -> None:
        """The life of this row is still there: so what was read of it before is true (rule 1)."""
        known = tracked.row
        if (row.handle, row.type, row.shutdown) != (known.handle, known.type, known.shutdown):
            self._touched.add(row.domid)
        tracked.row = row
        if tracked.heard is not _UNREAD:
            name = tracked.heard
            assert name is None or isinstance(name, str)
            if not tracked.believed or name != tracked.name:
                self._touched.add(row.domid)
            tracked.name, tracked.believed, tracked.heard = name, True, _UNREAD
        if row.domid in self._unconfirmed:
            self._unconfirmed.discard(row.domid)
            self.nodes.confirm(row.domid)

    def _end(self, domid: int) -> None:
        tracked = self._lives.pop(domid)
        self._unwatched.discard(domid)
        self._dirty.discard(domid)
        self._unconfirmed.discard(domid)
        self._touched.add(domid)
        self.nodes.ended(domid)
        if tracked.token is not None:
            del self._tokens[tracked.token]
            self._unwatch.append(Watch(name_path(domid), tracked.token))


def _listed(rows: Sequence[Row]) -> list[Row]:
    return rows if isinstance(rows, list) else [*rows]


def _differences(before: list[Row], after: list[Row]) -> tuple[list[Row], list[Row]]:
    """Of two lists by domid all in which they differ, and little else.

    Cost: what is alike, so nearly all, is compared without a line of Python for each row.
    """
    rest = before.copy()
    rest[:1] = after[:1]
    if rest == after:
        return before[:1], after[:1]  # dom0 alone, which has always changed: it is who asks
    old: list[Row] = []
    new: list[Row] = []
    i = j = 0
    while i < len(before) or j < len(after):
        end_i, end_j = i + _SHORT, j + _SHORT
        if before[i:end_i] != after[j:end_j]:
            limit = before[end_i].domid if end_i < len(before) else FIRST_RESERVED_DOMID
            end_j = bisect_left(after, limit, j, key=_DOMID)  # go on at the same domid
            old += before[i:end_i]
            new += after[j:end_j]
        i, j = end_i, end_j
    return old, new


def _may_be_same(tracked: Tracked, row: Row) -> bool:
    """Without a unique id: nothing shows that this is another life.

    A handle that changed on a live domain cannot be told from a reused domid here, and is
    taken for one: too many lives harm nobody, a mistaken identity does.
    """
    known = tracked.row
    return (
        row.handle == known.handle
        and (row.type is known.type or OSType.UNKNOWN in (row.type, known.type))
        and row.cpu_time >= known.cpu_time
        and row.frame == known.frame
    )


def _is(tracked: Tracked, life: Life) -> bool:
    if tracked.unique_id is not None:
        return tracked.unique_id == life.unique_id
    return tracked.first_seen == life.first_seen


def _record(tracked: Tracked, old: Domain | None) -> Domain:
    row = tracked.row
    uuid = UUID(bytes=row.handle)
    if tracked.unique_id is not None:
        life = Life(row.domid, tracked.unique_id, None, None)
    elif old is not None and old.life.first_seen == tracked.first_seen:
        life = old.life  # keeps the handle it was first seen with
    else:
        life = Life(row.domid, None, uuid, tracked.first_seen)
    return Domain(row.domid, uuid, tracked.name, row.type, life, tracked.first_seen, row.shutdown)


def name_path(domid: int) -> bytes:
    """Where the toolstack keeps the name; xen/docs/misc/xenstore-paths.pandoc."""
    return b"/local/domain/%d/name" % domid
