"""The table of running domains: three keys, one truth, no input or output.

Read after key.py; next lives.py, which says what tells one life from the next.

Rule 1: `apply` is the only way to change the table.
Rule 2: nothing here waits, logs or asks the host. Callers bring the facts.
Rule 3: a change is worked out whole before the first key is touched. Each key then goes
        from its old answer to its new one in a single step, so that a reader without a lock
        sees one or the other: two domains that swap names are never both called the same.

Readers take the three views at any time. What must agree among keys (iteration, ranges,
all holders of a key) is read under the lock that the caller of `apply` holds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

from sortedcontainers import SortedList

from domindex.core.ended import LastNames
from domindex.core.grouping import Grouping
from domindex.core.key import KeyIndex, Missing
from domindex.domain import Domain
from domindex.events import (
    Added,
    DomainEvent,
    DuplicateName,
    DuplicateUuid,
    Ready,
    events_of_change,
)
from domindex.keys import as_domid, as_name, as_uuid

Change = tuple[Domain | None, Domain | None]
"""What a life was and what it is: (None, new) began, (old, None) ended, both: it changed."""


def _indexed_uuid(domain: Domain) -> UUID | None:
    return domain.uuid if domain.uuid.int else None  # the nil uuid names no domain


class DomainTable:
    """All running domains under their domid, name and uuid.

    missing: is asked for a key that its view does not hold.
    """

    def __init__(self, missing: Missing[Domain]) -> None:
        self.domids: KeyIndex[int, Domain] = KeyIndex(
            "domid", as_domid, attrgetter("domid"), missing
        )
        self.names: KeyIndex[str, Domain] = KeyIndex("name", as_name, attrgetter("name"), missing)
        self.uuids: KeyIndex[UUID, Domain] = KeyIndex("uuid", as_uuid, _indexed_uuid, missing)
        self.generation: int = 0
        self._by_domid: SortedList[int] = SortedList()
        self._by_name: SortedList[tuple[str, int]] = SortedList()
        self._groupings: dict[str, Grouping] = {}
        self._last_names = LastNames()
        # By domid the lives that were ready and are not now (few, as most of these end soon): since
        # which generation, and the last record. So `Ready` can come once a life.
        self._ceased: dict[int, tuple[int, Domain]] = {}

    def __len__(self) -> int:
        return len(self.domids.unique)

    def __iter__(self) -> Iterator[Domain]:
        """In domid order. Cost: no sorting."""
        return (self.domids.unique[domid] for domid in self._by_domid)

    def get(self, domid: int) -> Domain | None:
        """The domain with that domid, if it is held."""
        return self.domids.unique.get(domid)

    def keys(self) -> Sequence[int]:
        """The domids held."""
        return tuple(self._by_domid)

    def named(self, prefix: str = "") -> Iterator[Domain]:
        """Those whose name starts with `prefix`, in name order, then by domid.

        Cost: one search in the sorted names, then one step per domain found.
        """
        for name, domid in self._by_name.irange((prefix, -1)):
            if not name.startswith(prefix):
                return
            yield self.domids.unique[domid]

    def between(self, first: str | None, end: str | None) -> Iterator[Domain]:
        """Those with first <= name < end, in name order; None is no bound. Cost as `named`."""
        low = None if first is None else (first, -1)
        high = None if end is None else (end, -1)
        return (self.domids.unique[domid] for _, domid in self._by_name.irange(low, high))

    def duplicates(self, *, generation: int, time: float) -> list[DomainEvent]:
        """The keys that several domains share now."""
        return [
            *_duplicates(DuplicateName, self.names.all_shared(), generation, time),
            *_duplicates(DuplicateUuid, self.uuids.all_shared(), generation, time),
        ]

    def hide(self, *, names: bool = True, others: bool = True) -> None:
        """Empty the view of names, or of all three, or fill them again. The table goes on."""
        for keyed, hidden in ((self.names, names), (self.uuids, others), (self.domids, others)):
            (keyed.hide if hidden else keyed.show)()

    def group(self, name: str, key_of: Callable[[Domain], Hashable]) -> None:
        """Keep the domains by what `key_of` says of them, from now on. See grouping.py."""
        if name in self._groupings:
            raise ValueError(f"there is an index called {name!r} already")
        self._groupings[name] = Grouping(key_of, self)

    def grouped(self, name: str, key: Hashable) -> tuple[Domain, ...]:
        """Those of which the function of that grouping said `key`. Raises KeyError."""
        return self._groupings[name].get(key)

    def apply(
        self,
        changes: Sequence[Change],
        *,
        time: float = 0.0,
        inferred: bool = False,
        births: bool = True,
    ) -> list[DomainEvent]:
        """Take all changes in as one generation. Returns their events, in order.

        The end of a life stands before the birth of another, so that a reused domid is Removed,
        then Added; Removed carries the last name that the life had.

        births: False leaves out the `Added` and `Ready` of births, which makes the first list of a
        host cheaper. For when no listener is there.

        Raises KeyError, with nothing changed, on a change of what is not held.
        """
        changes = [(old, new) for old, new in changes if old != new]
        if not changes:
            return []
        leaving = [old for old, _ in changes if old is not None]
        coming = [new for _, new in changes if new is not None]
        self._check_changes(leaving, coming)

        generation = self.generation + 1
        events: list[DomainEvent] = []
        told = changes if births else [change for change in changes if change[0] is not None]
        for old, new in sorted(told, key=lambda change: change[1] is not None):
            if old is None and new is not None:
                # As `events_of_change` says, but without its generator: the first list of a
                # host is nothing but births, and 1,000 take 3.39 ms this way, not 4.07.
                events.append(Added(new, generation=generation, time=time))
                if new.ready:
                    events.append(Ready(new, generation=generation, time=time))
            else:
                if old is not None and (old.name is None or (new is not None and new.name is None)):
                    old = self._last_names.change(old, new)
                events += events_of_change(old, new, generation, time, inferred)
                events += self._readiness(old, new, generation, time)

        self._put_in_order(changes)
        names = self.names.apply(leaving, coming)
        uuids = self.uuids.apply(leaving, coming)
        self.domids.apply(leaving, coming)
        for grouping in self._groupings.values():
            grouping.apply(leaving, coming)
        self.generation = generation
        events += _duplicates(DuplicateName, names, generation, time)
        events += _duplicates(DuplicateUuid, uuids, generation, time)
        return events

    def _put_in_order(self, changes: Sequence[Change]) -> None:
        """Keep both orders. Most changes leave them as they are: a stop, a resume."""
        moved = [
            (old, new)
            for old, new in changes
            if old is None or new is None or (old.domid, old.name) != (new.domid, new.name)
        ]
        if not moved:
            return
        for old, _ in moved:
            if old is not None:
                self._by_domid.remove(old.domid)
                if old.name is not None:
                    self._by_name.remove((old.name, old.domid))
        coming = [new for _, new in moved if new is not None]
        self._by_domid.update(domain.domid for domain in coming)
        self._by_name.update((d.name, d.domid) for d in coming if d.name is not None)

    def _readiness(
        self, old: Domain | None, new: Domain | None, generation: int, time: float
    ) -> tuple[Ready, ...]:
        """The `Ready` of a change, if its life is ready after it.

        Also if it was ready before: a listener with `where=` may only now be concerned. All others
        know by `ceased` that it is no news to them.
        """
        if old is not None and (new is None or new.life != old.life):
            self._ceased.pop(old.domid, None)
            old = None
        if new is None:
            return ()
        if not new.ready:
            if old is not None and old.ready:
                self._ceased[old.domid] = generation, old
            return ()
        ceased, before = 0, None
        if old is not None and old.ready:
            ceased, before = generation, old
        elif old is not None and old.domid in self._ceased:
            ceased, before = self._ceased.pop(old.domid)
        return (Ready(new, ceased=ceased, before=before, generation=generation, time=time),)

    def _check_changes(self, leaving: list[Domain], coming: list[Domain]) -> None:
        freed = {domain.domid for domain in leaving}
        for domain in leaving:
            if self.domids.unique.get(domain.domid) != domain:
                raise KeyError(f"domain {domain.domid} is not held as it is said to be")
        if len(freed) != len(leaving) or len({d.domid for d in coming}) != len(coming):
            raise KeyError("one domid changes twice")
        for domain in coming:
            if domain.domid in self.domids.unique and domain.domid not in freed:
                raise KeyError(f"domid {domain.domid} is held by another life")

    def clear(self) -> None:
        """Forget everything: the views then answer through `missing_*` alone."""
        self.domids.clear()
        self.names.clear()
        self.uuids.clear()
        self._by_domid.clear()
        self._by_name.clear()
        for grouping in self._groupings.values():
            grouping.clear()
        self._last_names.clear()
        self._ceased.clear()

    def check(self) -> None:
        """Assert that the three keys and both orders tell the same. For tests."""
        held = dict(self.domids.unique.items())
        assert list(self._by_domid) == sorted(held)
        named = sorted((d.name, d.domid) for d in held.values() if d.name is not None)
        assert list(self._by_name) == named
        assert not self.domids.shared
        for keyed, key_of in ((self.names, lambda d: d.name), (self.uuids, _indexed_uuid)):
            model: dict[Any, dict[int, Domain]] = {}
            for domain in held.values():
                if (key := key_of(domain)) is not None:
                    model.setdefault(key, {})[domain.domid] = domain
            assert {key: holders for key, holders in model.items() if len(holders) > 1} == (
                keyed.shared
            )
            assert dict(keyed.unique.items()) == {
                key: next(iter(holders.values()))
                for key, holders in model.items()
                if len(holders) == 1
            }


def _duplicates(
    kind: Callable[..., DomainEvent],
    shared: Iterable[tuple[Any, tuple[Domain, ...]]],
    generation: int,
    time: float,
) -> Iterator[DomainEvent]:
    for key, domains in shared:
        yield kind(key, domains, generation=generation, time=time)
