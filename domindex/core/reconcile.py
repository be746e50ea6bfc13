"""From what was seen to what is true: lists and names in, questions and changes out. No I/O.

One pass of the watcher goes round this loop until there is nothing left to ask:

    hypervisor lists  --see()-->   lives begun and ended; names heard before are confirmed
    watch / unwatch   <--ask()---  what to tell xenstore, which names to read
    xenstore answers  --heard()->  names, not yet believed
    table, listeners  <--take()--  the changes that have become certain

Four rules hold it up.
Rule 1: a name is believed only if the hypervisor still lists its life after the read.
Rule 2: a read sent before an event came never answers that event: the name is asked again.
Rule 3: a life comes into the table together with its name, or with the knowledge that it has
        none yet; if it took over a domid, in the same change as the old one goes.
Rule 4: a changed handle makes what was heard of the name unheard, so that no record joins a name
        and a uuid that never stood together: it is read again before either is told.

What xenstored refuses about the name of one life concerns that life alone: it keeps the last name
that it had, and is `unreadable` until a read is answered.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from itertools import islice
from typing import Final, Protocol

from domindex.core.listed import DOMID, LastList
from domindex.core.lives import UNREAD, Tracked, contradicts, goes_on
from domindex.core.nodes import Node, Nodes, Value
from domindex.core.table import Change
from domindex.domain import FIRST_RESERVED_DOMID, Domain, Life
from domindex.errors import StoreError
from domindex.keys import decode_name
from domindex.ports import Row, Watch

SPECIAL: Final = (Watch(b"@introduceDomain", b"introduce"), Watch(b"@releaseDomain", b"release"))
"""The two watches that tell of births and deaths; xen/docs/misc/xenstore.txt."""

NAMES: Final = Watch(b"/local/domain", b"names")
"""With depth 2 it stands for the names of all domains, and for `vm`, which tells of new handles."""

_IN_TURNS: Final = 16
"""Unreadable names asked for again at each probe: what ails them may pass, and no event tells."""

_SPECIAL_TOKENS: Final = tuple(watch.token for watch in SPECIAL)
_NAMES_TOKEN: Final = NAMES.token


class Held(Protocol):
    """The table, as far as it is asked here: a dict by domid would do."""

    def get(self, domid: int, /) -> Domain | None: ...
    def keys(self) -> Iterable[int]: ...


class Reconciler:
    """Follows every life from its first row to its last. Driven by one thread.

    held: the table. What `take` gives must be in it before the next `take`.
    """

    def __init__(self, held: Held) -> None:
        self._held = held
        self._lives: dict[int, Tracked] = {}
        self._last = LastList()
        # What a list shows anew and what it lacks: each is asked for before `see`, and by it.
        self._news_of: tuple[Sequence[Row], list[Row]] | None = None
        self._lacking: tuple[Sequence[Row], Set[int]] | None = None
        self._tokens: dict[bytes, int] = {}  # token -> domid, of the watches now set
        self._unwatch: list[Watch] = []
        self._unwatched: set[int] = set()  # domids whose watch is still to be set on this line
        self._one_watch = False  # on this line NAMES stands for the watches of all names
        self._dirty: set[int] = set()  # domids whose name had an event since its read was sent
        self._fired: set[int] = set()  # domids whose name is not proven to be what was read last
        self._touched: set[int] = set()  # domids whose record may have to change
        self._unconfirmed: set[int] = set()  # domids of which something was heard since
        self._told_of: set[int] = set()  # domids whose birth or death an event named since seen
        self._stirred = False  # an event told of some birth or death, and all was not seen since
        self._late: tuple[set[int], bool] = (set(), False)  # both, of events after the list
        self._serial = 0
        self.specials = 0
        """Events of the special watches so far."""
        self._now = 0.0
        self.nodes = Nodes()
        """What else is followed of the lives, besides their names."""
        self.unreadable: dict[int, StoreError] = {}
        """Domids whose name could not be read when it was last asked for, and why."""
        self.unwatchable: dict[int, StoreError] = {}
        """Domids whose name may not be watched, and why: it is read at each probe."""

    def unlisted(self, rows: Sequence[Row]) -> Set[int]:
        """Domids of the lives that are followed and that `rows`, of all domains, lacks."""
        if self._lacking is None or self._lacking[0] is not rows:
            before, after = self._last.compared(rows)
            lacking = (self._lives.keys() & set(map(DOMID, before))) - set(map(DOMID, after))
            self._lacking = rows, lacking
        return self._lacking[1]

    # -- the line ---------------------------------------------------------------------------

    def new_line(self) -> None:
        """All watches are gone with the old line, and events may have been missed."""
        self._tokens.clear()
        self._unwatch.clear()
        self._one_watch = False
        for tracked in self._lives.values():
            tracked.token = None
            tracked.heard = UNREAD
        self._unwatched.update(self._lives)
        self._fired.update(self._lives)
        self._stirred = True
        # Whatever the last pass left half done:
        self._news_of = self._lacking = None
        self._last.keep([self._lives[domid].row for domid in sorted(self._lives)], None)
        self._touched.update(self._lives, self._held.keys())
        self.doubt_names()
        self.nodes.new_line()

    def one_watch(self) -> None:
        """On this line NAMES is set, with depth 2."""
        self._one_watch = True
        self._unwatched.clear()

    def doubt_names(self) -> None:
        """Read every name again, as if each had changed, and every other node."""
        self._unwatched.update(self.unwatchable)  # whose watch is asked for again, too
        self.unwatchable.clear()
        self._dirty.update(self._lives)
        self.nodes.doubt()

    def doubt_unwatched(self) -> None:
        """Read what may not be watched, and some of what could not be read, in turns."""
        self._dirty.update(self.unwatchable)
        self._dirty.update(islice(self.unreadable, _IN_TURNS))
        self.nodes.doubt_unwatched()

    def follow(self, life: Life, node: Node) -> bool:
        """Follow a node of this life; False if the life is over."""
        tracked = self._lives.get(life.domid)
        if tracked is None or not tracked.is_of(life):
            return False
        self.nodes.follow(node)
        return True

    # -- facts in ---------------------------------------------------------------------------

    def fired(self, events: Collection[Watch], *, late: bool = False) -> set[int] | None:
        """Take watch events in. The domids to look at, or None for the whole list.

        late: they were taken in between a list and `see` of it, so that what they tell of may
        have come after the list.

        Tokens of ended lives and of nobody are passed over: UNWATCH leaves events queued.
        """
        scope: set[int] = set()
        if not events:
            return scope
        told_of: set[int] = set()
        stirred = whole = False
        for path, token in events:
            if (named := self._tokens.get(token)) is not None:
                self._dirty.add(named)
                self._fired.add(named)
                scope.add(named)
            elif token in _SPECIAL_TOKENS:
                self.specials += 1
                domid = _domid(path.rpartition(b"/")[2])  # "@releaseDomain/7" where there is depth
                if domid is None:
                    stirred = True
                else:
                    told_of.add(domid)
            elif token == _NAMES_TOKEN:
                whole |= self._fired_below(path, scope)
            elif (owner := self.nodes.fired(token)) is not None:
                scope.add(owner)
        if stirred or told_of:
            self._told_of |= told_of
            self._stirred |= stirred
            if late:
                self._late = self._late[0] | told_of, self._late[1] or stirred
            scope |= told_of
        return None if stirred or whole else scope

    def _fired_below(self, path: bytes, scope: set[int]) -> bool:
        """An event of NAMES; adds the domid to look at. Whether it may be about any domain."""
        number, _, child = path.removeprefix(NAMES.path).lstrip(b"/").partition(b"/")
        domid = _domid(number)
        if domid is None:
            if not number:  # all of it was removed, or more has changed than could be told
                for named in self._lives:
                    self._doubt(named)
            return not number
        if child in (b"", b"name"):
            if domid in self._lives:
                self._doubt(domid)
            scope.add(domid)
        elif child == b"vm":  # written when the handle has changed
            scope.add(domid)
        return False

    def _doubt(self, domid: int) -> None:
        self._dirty.add(domid)
        self._fired.add(domid)

    def refused(self, watch: Watch, error: StoreError) -> None:
        """A watch that `ask` gave is not set."""
        domid = self._tokens.pop(watch.token, None)
        if domid is None:
            self.nodes.refused(watch.token)
            return
        self._lives[domid].token = None
        self.unwatchable[domid] = error  # what fired before it, if anything, still counts

    def shows_new_handle(self, rows: Sequence[Row], scope: Collection[int] | None) -> bool:
        """Whether a life that is followed has another handle in these rows than it had.

        Then every event up to this list must be taken in before `see`: they decide whether it is
        the same life (lives.py), and whether its name is the one that was read (rule 4).
        """
        if not self._lives:
            return False
        for row in self._changed(rows) if scope is None else rows:
            tracked = self._lives.get(row.domid)
            if tracked is not None and row.handle != tracked.row.handle and not row.dying:
                return True
        return False

    def suspects(self, rows: Iterable[Row], *, thorough: bool) -> list[int]:
        """Domids whose unique id must be asked before `see`, on a Xen that has them.

        All if `thorough`. Else those that are new or differ, had an event, or of which something
        was heard that is not confirmed yet; and those without a name, as only names tell of a
        life that was replaced by its like: every toolstack removes /local/domain/N before it
        gives N to another domain.
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
                or row.domid in self._unconfirmed
                or known.name is None
                or (row is not known.row and _differs(known.row, row))
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
            gone = self.unlisted(rows)
            news: Sequence[Row] = self._news(rows, ids)
        else:
            gone = (self._lives.keys() & set(scope)) - set(map(DOMID, rows))
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
                if not self._one_watch:
                    self._unwatched.add(domid)
                self._dirty.add(domid)
                self._fired.add(domid)
                self._touched.add(domid)
            else:
                self._confirm(tracked, row)
        for domid in gone:
            self._end(domid)
        for domids in (self._unconfirmed, self._fired):
            if not domids:
                domids.clear()  # a set that has shrunk keeps the room for all it ever had
        self._last.keep(rows, scope)
        self._news_of = self._lacking = None
        for domid, unique_id in ids.items():
            if unique_id is None:  # the row does not say so: it is news if it comes again
                self._last.keep((), (domid,))
        told_of, stirred = self._late
        if scope is None:
            self._told_of, self._stirred = told_of, stirred
        elif self._told_of:
            self._told_of -= {*scope} - told_of
        if told_of or stirred:
            self._late = set(), False

    def heard(
        self,
        names: Iterable[tuple[int, Value]],
        nodes: Iterable[tuple[Node, Value]] = (),
    ) -> None:
        """Names by domid and nodes as `unread` of each asked for them."""
        for domid, raw in names:
            self._lives[domid].heard = decode_name(raw) if isinstance(raw, bytes) else raw
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
            if not (life := self._lives[domid]).believed and life.heard is UNREAD
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
            new = None if tracked is None else tracked.record(old)
            if new != old:
                changes.append((old, new))
        return changes

    # -- lives -------------------------------------------------------------------------------

    def _news(self, rows: Sequence[Row], ids: Collection[int]) -> list[Row]:
        """Rows that may tell something: not the very ones seen last, or asked about since."""
        changed = self._changed(rows)
        if not ids and not self._unconfirmed:
            return changed
        news = [row for row in changed if row.domid not in ids]
        for domid in self._unconfirmed.union(ids):
            at = bisect_left(rows, domid, key=DOMID)
            news += rows[at : at + 1]  # if it is gone this is another's, which does no harm
        return news

    def _changed(self, rows: Sequence[Row]) -> list[Row]:
        """Those of a list of all that are not the very ones seen last."""
        if self._news_of is None or self._news_of[0] is not rows:
            lives = self._lives
            self._news_of = (
                rows,
                [
                    row
                    for row in self._last.compared(rows)[1]
                    if (tracked := lives.get(row[0])) is None or tracked.row is not row
                ],
            )
        return self._news_of[1]

    def _same(self, tracked: Tracked, row: Row, ids: Mapping[int, int | None]) -> bool:
        unique_id = ids.get(row.domid)
        if unique_id is not None and tracked.unique_id is not None:
            return unique_id == tracked.unique_id
        if row.handle == tracked.row.handle and not contradicts(tracked.row, row):
            return True  # nearly always
        domid = row.domid
        silent = (
            tracked.name is not None
            and domid not in self._fired
            # An event was lost if what was heard since is another answer; a refusal is none.
            and (tracked.heard in (UNREAD, tracked.name) or isinstance(tracked.heard, StoreError))
        )
        calm = not self._stirred and domid not in self._told_of
        return goes_on(tracked, row, silent=silent, calm=calm)

    def _confirm(self, tracked: Tracked, row: Row) -> None:
        """The life of this row is still there: so what was read of it before is true (rule 1)."""
        domid = row.domid
        known, tracked.row = tracked.row, row
        if (row.handle, row.type, row.shutdown) != (known.handle, known.type, known.shutdown):
            self._touched.add(domid)
            if row.handle != known.handle and (
                tracked.heard is not UNREAD or domid in self._fired or domid in self._dirty
            ):
                tracked.heard, tracked.believed = UNREAD, False  # rule 4
                self._dirty.add(domid)
        if tracked.heard is not UNREAD:
            self._believe(domid, tracked)
        if domid in self._unconfirmed:
            self._unconfirmed.discard(domid)
            self.nodes.confirm(domid)

    def _believe(self, domid: int, tracked: Tracked) -> None:
        """What was heard of the name of this life is true."""
        name, tracked.heard = tracked.heard, UNREAD
        if self.unreadable:
            self.unreadable.pop(domid, None)
        if isinstance(name, StoreError):
            self.unreadable[domid] = name  # behind the others, which are asked for again first
            name = tracked.name
        else:
            if domid not in self._dirty and domid not in self.unwatchable:
                self._fired.discard(domid)
        assert name is None or isinstance(name, str)
        if not tracked.believed or name != tracked.name:
            self._touched.add(domid)
        tracked.name, tracked.believed = name, True

    def _end(self, domid: int) -> None:
        tracked = self._lives.pop(domid)
        self._unwatched.discard(domid)
        self._dirty.discard(domid)
        self._fired.discard(domid)
        self._unconfirmed.discard(domid)
        self.unreadable.pop(domid, None)
        self.unwatchable.pop(domid, None)
        self._touched.add(domid)
        self.nodes.ended(domid)
        if tracked.token is not None:
            del self._tokens[tracked.token]
            self._unwatch.append(Watch(name_path(domid), tracked.token))


def _differs(known: Row, row: Row) -> bool:
    return (
        row.handle != known.handle or row.shutdown is not known.shutdown or contradicts(known, row)
    )


def _domid(text: bytes) -> int | None:
    """The domid that a path names, if it is one."""
    if text.isdigit() and len(text) <= 5 and int(text) < FIRST_RESERVED_DOMID:
        return int(text)
    return None


def name_path(domid: int) -> bytes:
    """Where the toolstack keeps the name; xen/docs/misc/xenstore-paths.pandoc."""
    return b"/local/domain/%d/name" % domid
