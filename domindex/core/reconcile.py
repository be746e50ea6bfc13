"""From what was seen to what is true: lists and names in, questions and changes out. No I/O.

Read after lives.py; next following.py, which asks the host and drives all this.

The watcher looks at the host in passes. A *scope* says which domains a pass looks at. A *pass* goes
round this loop until there is nothing left to ask; each time round is a *round*:

    hypervisor lists  --see()-->                    lives begun and ended; answers are confirmed
    watch / unwatch   <--nodes.pending_watches()--  what to tell xenstore
    reads             <--nodes.unread()--           which names and other nodes to read
    xenstore answers  --nodes.on_values()-->        values, not yet believed
    table, listeners  <--certain_changes()--        the changes that have become certain

Watch events come in at any time, by on_watch_events(), which says what to look at.

Four rules hold it up.
Rule 1: a name is believed only if the hypervisor still lists its life after the read.
Rule 2: a read sent before an event came never answers that event: the name is asked again.
Rule 3: a life comes into the table together with its name, or with the knowledge that it has
        none yet; if it took over a domid, in the same change as the old one goes.
Rule 4: a changed handle makes a name that is not confirmed worth nothing, so that no record joins
        a name and a uuid that never stood together: it is read again before either is published.

Rules 1 and 2 are kept by nodes.py, for every node that is followed. What xenstored refuses about
the name of one life concerns that life alone: it keeps the last name that it had, and is
`unreadable` until a read is answered.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from itertools import islice
from typing import Final, Protocol

from domindex.core.listed import DOMID, LastList
from domindex.core.lives import Announced, Tracked, contradicts, is_same_life
from domindex.core.nodes import UNREAD, Node, Nodes, Unread
from domindex.core.scope import Scope
from domindex.core.table import Change
from domindex.domain import FIRST_RESERVED_DOMID, Domain, Life, Role
from domindex.errors import StoreError
from domindex.keys import decode_name
from domindex.ports import Row, Watch

SPECIAL: Final = (Watch(b"@introduceDomain", b"introduce"), Watch(b"@releaseDomain", b"release"))
"""The two watches that report births and ends; xen/docs/misc/xenstore.txt."""

NAMES: Final = Watch(b"/local/domain", b"names")
"""With depth 2 it stands for the names of all domains, and for `vm`, which reports new handles."""

_IN_TURNS: Final = 16
"""Unreadable names asked for again at each probe: the cause may pass, and no event says so."""

_SPECIAL_TOKENS: Final = tuple(watch.token for watch in SPECIAL)


class Records(Protocol):
    """The table, as far as it is asked here: a dict by domid would do."""

    def get(self, domid: int, /) -> Domain | None: ...
    def keys(self) -> Iterable[int]: ...


class Reconciler:
    """Follows every life from its first row to its last. Driven by one thread.

    records: the table. It must hold what `certain_changes` gave before that is called again.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._lives: dict[int, Tracked] = {}
        self.nodes: Nodes = Nodes(self._lives)
        """The names of these lives, and what else is followed of them."""
        self._last = LastList()
        # The last list of all that was asked about, which domids it lacks, and its new rows.
        self._compared: tuple[Sequence[Row], Set[int], list[Row]] | None = None
        self._touched: set[int] = set()  # domids whose record may have to change
        self._announced = Announced()
        self._now = 0.0  # when the last list was seen
        self.specials: int = 0
        """Events of the special watches so far."""
        self.unreadable: dict[int, StoreError] = {}
        """Domids whose name could not be read when it was last asked for, and why."""

    # -- the line ---------------------------------------------------------------------------

    def new_line(self) -> None:
        """All watches are gone with the old line, and events may have been missed."""
        self.nodes.new_line()
        self._announced.unnamed = True
        # Whatever the last pass left half done:
        self._compared = None
        self._last.keep([self._lives[domid].row for domid in sorted(self._lives)], Scope.ALL)
        self._touched.update(self._lives, self._records.keys())

    def doubt_unwatched(self) -> None:
        """Read what may not be watched, and some of what could not be read, in turns."""
        some = [self._lives[domid] for domid in islice(self.unreadable, _IN_TURNS)]
        self.nodes.doubt_unwatched(some)

    def follow(self, life: Life, node: Node) -> bool:
        """Follow a node of this life; False if the life is over."""
        if follows := self.follows(life):
            self.nodes.follow(node)
        return follows

    def follows(self, life: Life) -> bool:
        """Whether this life ran when it was last looked at."""
        tracked = self._lives.get(life.domid)
        return tracked is not None and tracked.is_of(life)

    # -- facts in: events -------------------------------------------------------------------

    def on_watch_events(self, events: Collection[Watch], *, after_list: bool = False) -> Scope:
        """Take watch events in. Returns which domains to look at.

        after_list: they were taken in between a list and `see` of it, so that what they report
            may have come after the list.

        Tokens of ended lives are passed over: UNWATCH leaves events in the queue.
        """
        if not events:
            return Scope()
        domids: set[int] = set()
        named: set[int] = set()
        unnamed = whole = False
        for path, token in events:
            if (owner := self.nodes.on_watch_event(token)) is not None:
                domids.add(owner)
            elif token in _SPECIAL_TOKENS:
                self.specials += 1
                domid = _domid(path.rpartition(b"/")[2])  # "@releaseDomain/7" where there is depth
                if domid is None:
                    unnamed = True
                else:
                    named.add(domid)
            elif token == NAMES.token:
                whole |= self._on_names_event(path, domids)
        if unnamed or named:
            self._announced.add(named, unnamed, after_list=after_list)
        return Scope.ALL if unnamed or whole else Scope(domids | named)

    def _on_names_event(self, path: bytes, domids: set[int]) -> bool:
        """An event of NAMES; adds the domid to look at. Whether it may be about any domain."""
        number, _, child = path.removeprefix(NAMES.path).lstrip(b"/").partition(b"/")
        domid = _domid(number)
        if domid is None:
            if not number:  # all of it was removed, or the server has dropped events
                for tracked in self._lives.values():
                    self.nodes.on_change(tracked)
            return not number
        if child in (b"", b"name"):
            if domid in self._lives:
                self.nodes.on_change(self._lives[domid])
            domids.add(domid)
        elif child == b"vm":  # written when the handle has changed
            domids.add(domid)
        return False

    # -- facts in: lists --------------------------------------------------------------------

    def unlisted(self, rows: Sequence[Row]) -> Set[int]:
        """Domids of the lives that are followed and that `rows`, of all domains, lacks."""
        return self._compare(rows)[0]

    def shows_new_handle(self, rows: Sequence[Row], scope: Scope) -> bool:
        """Whether a life that is followed has another handle in these rows than it had.

        Then every event up to this list must be taken in before `see`: they decide whether it is
        the same life (lives.py), and whether its name is the one that was read (rule 4).
        """
        if not self._lives:
            return False
        for row in self._compare(rows)[1] if scope is Scope.ALL else rows:
            tracked = self._lives.get(row.domid)
            if tracked is not None and row.handle != tracked.row.handle and not row.dying:
                return True
        return False

    def suspects(self, rows: Iterable[Row], *, thorough: bool) -> list[int]:
        """Domids whose unique id must be asked before `see`, on a Xen that has them.

        All if `thorough`. Else those that are new or differ, had an event, or of which an answer
        is not confirmed yet; and those without a name, as only names show that a life was
        replaced by its like: every toolstack removes /local/domain/N before it gives N to
        another domain.
        """
        dirty, unconfirmed, named = self.nodes.dirty, self.nodes.unconfirmed, self._announced.named
        return [
            row.domid
            for row in rows
            if not row.dying
            and (
                thorough
                or (known := self._lives.get(row.domid)) is None
                or known in dirty
                or row.domid in named
                or row.domid in unconfirmed
                or known.name is None
                or (row is not known.row and _differs(known.row, row))
            )
        ]

    def see(
        self,
        rows: Sequence[Row],
        *,
        now: float,
        scope: Scope = Scope.ALL,
        unique_ids: Mapping[int, int | None] | None = None,
        roles: Mapping[int, Role] | None = None,
    ) -> None:
        """Take rows in: all that there is of `scope`.

        unique_ids: of the suspects, None for one that has gone since. roles: of the same.
        Only a list known to be whole may be given: what it lacks is gone.
        """
        ids = unique_ids or {}
        if scope is Scope.ALL:
            gone = self.unlisted(rows)
            news: Sequence[Row] = self._news(rows, ids)
        else:
            gone = (self._lives.keys() & scope.domids) - set(map(DOMID, rows))
            news = rows
        # Two lives of one domid never begin at one moment, whatever the clock does.
        self._now = max(now, math.nextafter(self._now, math.inf))
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
            if tracked is not None:
                self._confirm(tracked, row)
                continue
            its = row.roles if roles is None else roles.get(domid)
            self._lives[domid] = tracked = Tracked(row, ids.get(domid), self._now, its)
            self.nodes.begin(tracked)
            self._touched.add(domid)
        for domid in gone:
            self._end(domid)
        self._last.keep(rows, scope)
        self._compared = None
        for domid, unique_id in ids.items():
            if unique_id is None:  # the row does not say so: it is news if it comes again
                self._last.keep((), Scope((domid,)))
        self._announced.seen(scope)

    # -- questions and changes out -----------------------------------------------------------

    def newborn(self) -> list[Tracked]:
        """Lives of which nothing is known yet, as the nodes of their names.

        These may be read at once, so that the births are published sooner. As that is before
        their watches are set, they stay to be read.
        """
        return [
            life
            for life in self.nodes.unwatched()
            if isinstance(life, Tracked) and not life.believed and life.answer is UNREAD
        ]

    def certain_changes(self) -> list[Change]:
        """The changes that are certain, once each. The caller applies them to the table."""
        changes: list[Change] = []
        touched, self._touched = sorted(self._touched), set()
        for domid in touched:
            old = self._records.get(domid)
            tracked = self._lives.get(domid)
            if tracked is not None and not tracked.believed:
                self._touched.add(domid)  # its name is on the way; till then the old life stays
                continue  # (rule 3)
            new = None if tracked is None else tracked.record(old)
            if new != old:
                changes.append((old, new))
        return changes

    # -- lives -------------------------------------------------------------------------------

    def _compare(self, rows: Sequence[Row]) -> tuple[Set[int], list[Row]]:
        """Of a list of all: which lives it lacks, and its rows that are not the ones seen last.

        Both are asked for before `see` and by it, so the last answer is kept.
        """
        if self._compared is None or self._compared[0] is not rows:
            lives = self._lives
            before, after = self._last.compared(rows)
            lacking = (lives.keys() & set(map(DOMID, before))) - set(map(DOMID, after))
            changed = [
                row
                for row in after
                if (tracked := lives.get(row[0])) is None or tracked.row is not row
            ]
            self._compared = rows, lacking, changed
        return self._compared[1:]

    def _news(self, rows: Sequence[Row], ids: Collection[int]) -> list[Row]:
        """Rows to take in: not the very ones seen last, or something was asked about them."""
        changed = self._compare(rows)[1]
        unconfirmed = self.nodes.unconfirmed
        if not ids and not unconfirmed:
            return changed
        news = [row for row in changed if row.domid not in ids]
        for domid in unconfirmed.union(ids):
            at = bisect_left(rows, domid, key=DOMID)
            news += rows[at : at + 1]  # if it is gone this is another's, which does no harm
        return news

    def _same(self, tracked: Tracked, row: Row, ids: Mapping[int, int | None]) -> bool:
        """Whether the row is of the life that is followed."""
        unique_id = ids.get(row.domid)
        if unique_id is not None and tracked.unique_id is not None:
            return unique_id == tracked.unique_id
        if row.handle == tracked.row.handle and not contradicts(tracked.row, row):
            return True  # nearly always
        # An event was lost if the answer since is another one; a refusal is none.
        answer = tracked.answer
        repeated = isinstance(answer, (StoreError, Unread)) or _name(answer) == tracked.name
        return is_same_life(
            tracked,
            row,
            silent=tracked.silent and repeated and tracked.name is not None,
            calm=not self._announced.may_be_of(row.domid),
        )

    def _confirm(self, tracked: Tracked, row: Row) -> None:
        """The life of this row is still there: so what was read of it before is true (rule 1)."""
        domid = row.domid
        known, tracked.row = tracked.row, row
        if (row.handle, row.type, row.shutdown) != (known.handle, known.type, known.shutdown):
            self._touched.add(domid)
            certain = tracked.silent and tracked.answer is UNREAD
            if row.handle != known.handle and (not certain or tracked in self.nodes.dirty):
                tracked.believed = False  # rule 4
                self.nodes.read_again(tracked)
        if domid in self.nodes.unconfirmed:
            self._believe(domid, tracked)
            self.nodes.confirm(domid)

    def _believe(self, domid: int, tracked: Tracked) -> None:
        """What was read of the name of this life, if anything, is true."""
        value = self.nodes.believe(tracked)
        if value is UNREAD:
            return
        if self.unreadable:
            self.unreadable.pop(domid, None)
        if isinstance(value, StoreError):
            self.unreadable[domid] = value  # behind the others, which are asked for again first
            name = tracked.name
        else:
            name = None if value is None else decode_name(value)
        if not tracked.believed or name != tracked.name:
            self._touched.add(domid)
        tracked.name, tracked.believed = name, True

    def _end(self, domid: int) -> None:
        tracked = self._lives.pop(domid)
        self.unreadable.pop(domid, None)
        self._touched.add(domid)
        self.nodes.ended(tracked)


def _name(value: bytes | None) -> str | None:
    return None if value is None else decode_name(value)


def _differs(known: Row, row: Row) -> bool:
    return (
        row.handle != known.handle or row.shutdown is not known.shutdown or contradicts(known, row)
    )


def _domid(text: bytes) -> int | None:
    """The domid that a path names, if it is one."""
    if text.isdigit() and len(text) <= 5 and int(text) < FIRST_RESERVED_DOMID:
        return int(text)
    return None
