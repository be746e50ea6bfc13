"""The table of running domains: three keys, one truth, no input or output.

Rule 1: every way to change the table is in this file, and `apply` is the only one.
Rule 2: nothing here waits, logs or asks the host. Callers bring the facts.
Rule 3: a change is worked out whole before the first key is touched. Each key then goes
        from its old answer to its new one in a single step, so that a reader without a lock
        sees one or the other: two domains that swap names are never both called the same.

Readers take the three views at any time. What must agree among keys (iteration, ranges,
all holders of a key) is read under the lock of whoever calls `apply`.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    Hashable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Sequence,
    ValuesView,
)
from dataclasses import replace
from typing import Any, Generic, NoReturn, TypeVar
from uuid import UUID

from sortedcontainers import SortedList

from domindex.core.grouping import Grouping
from domindex.core.past import LastNames
from domindex.domain import Domain
from domindex.events import (
    Added,
    Changed,
    DomainEvent,
    DuplicateName,
    DuplicateUuid,
    Removed,
    Renamed,
    ShutDown,
)

K = TypeVar("K", bound=Hashable)
Change = tuple[Domain | None, Domain | None]
"""What a life was and what it is: (None, new) came, (old, None) went, both: it changed."""


class View(dict[K, Domain]):
    """A live, read-only mapping from one key to its domain, at the speed of a dict.

    Holds the keys that exactly one domain carries. `view[key]` raises what the look-up by that
    key raises (NoSuchDomain, Ambiguous, NotLive, Closed); `get` and `in` answer None and
    False to all of these. Iterating walks over a copy made at that moment; for a dict use
    `copy()`, as `dict(view)` asks key by key and meets those that have gone meanwhile.
    """

    __slots__ = ("_missing",)

    def __init__(self, missing: Callable[[K], Domain]) -> None:
        super().__init__()
        self._missing = missing

    def __missing__(self, key: K) -> Domain:
        return self._missing(key)

    def __iter__(self) -> Iterator[K]:
        return iter(self.copy())

    def __reversed__(self) -> Iterator[K]:
        return reversed(self.copy())

    def keys(self) -> KeysView[K]:  # type: ignore[override]
        """The keys held now."""
        return self.copy().keys()

    def values(self) -> ValuesView[Domain]:  # type: ignore[override]
        """The domains held now."""
        return self.copy().values()

    def items(self) -> ItemsView[K, Domain]:  # type: ignore[override]
        """The pairs held now."""
        return self.copy().items()

    def copy(self) -> dict[K, Domain]:
        """A plain dict of what is held now."""
        while True:
            try:
                # The list first: hashing a key may let the writer in, building a list does not.
                return dict(list(super().items()))
            except RuntimeError:  # the writer does not wait for us: it grew; take it again
                continue

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise TypeError("a view of the index is read-only; copy() gives a dict to change")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = update = setdefault = pop = popitem = _refuse
    __hash__ = None

    def __reduce__(self) -> tuple[type[dict[K, Domain]], tuple[dict[K, Domain]]]:
        return dict, (self.copy(),)


class Keyed(Generic[K]):
    """One key of the table: who alone carries it, and who share it.

    view: what readers see without a lock. held: the truth behind it, the very same dict while
        the view is shown.
    """

    __slots__ = ("held", "shared", "view")

    def __init__(self, missing: Callable[[K], Domain]) -> None:
        self.view: View[K] = View(missing)
        self.held: dict[K, Domain] = self.view
        self.shared: dict[K, dict[int, Domain]] = {}

    def holders(self, key: K) -> dict[int, Domain]:
        """All that carry `key`, by domid, as a copy."""
        if (shared := self.shared.get(key)) is not None:
            return shared.copy()
        only = self.held.get(key)
        return {} if only is None else {only.domid: only}

    def all_shared(self) -> list[tuple[K, tuple[Domain, ...]]]:
        """The keys with several holders, and these by domid."""
        return [(key, ordered(holders)) for key, holders in self.shared.items()]

    def hide(self) -> None:
        """Have the view hold nothing, so that every reader without a lock comes to ask."""
        if self.held is self.view:
            self.held = self.view.copy()
            dict.clear(self.view)

    def show(self) -> None:
        """Undo `hide`."""
        if self.held is not self.view:
            dict.update(self.view, self.held)
            self.held = self.view

    def apply(
        self, leaving: Iterable[tuple[K | None, Domain]], coming: Iterable[tuple[K | None, Domain]]
    ) -> list[tuple[K, tuple[Domain, ...]]]:
        """Take domains out and in, each under its key; None is no key.

        Returns the keys that more domains share than before, with all of them by domid.
        """
        after: dict[K, dict[int, Domain]] = {}
        fresh: dict[K, Domain] = {}  # keys that nobody had: nearly all of them
        for key, domain in leaving:
            if key is not None:
                if key not in after:
                    after[key] = self.holders(key)
                del after[key][domain.domid]
        for key, domain in coming:
            if key is None:
                continue
            if key not in after:
                if key not in fresh and key not in self.held and key not in self.shared:
                    fresh[key] = domain
                    continue
                other = fresh.pop(key, None)
                after[key] = self.holders(key) if other is None else {other.domid: other}
            after[key][domain.domid] = domain
        joined = []
        dict.update(self.held, fresh)
        for key, holders in after.items():
            if len(holders) == 1:
                (only,) = holders.values()
                dict.__setitem__(self.held, key, only)
                self.shared.pop(key, None)
            elif holders:
                lives = {domain.life for domain in self.holders(key).values()}
                if any(domain.life not in lives for domain in holders.values()):
                    joined.append((key, ordered(holders)))
                self.shared[key] = holders
                dict.pop(self.held, key, None)
            else:  # an empty entry per dead key would be a slow leak
                dict.pop(self.held, key, None)
                self.shared.pop(key, None)
        return joined

    def clear(self) -> None:
        self.shared.clear()
        dict.clear(self.held)
        self.show()


def ordered(holders: dict[int, Domain]) -> tuple[Domain, ...]:
    """By domid."""
    return tuple(holders[domid] for domid in sorted(holders))


def _indexed_uuid(domain: Domain) -> UUID | None:
    return domain.uuid if domain.uuid.int else None  # the nil uuid is nobody's


class DomainTable:
    """All running domains under their domid, name and uuid.

    `missing_*` answer for a key that the view does not hold: by raising, or with a domain.
    """

    def __init__(
        self,
        missing_domid: Callable[[int], Domain],
        missing_name: Callable[[str], Domain],
        missing_uuid: Callable[[UUID], Domain],
    ) -> None:
        self.domids: Keyed[int] = Keyed(missing_domid)
        self.names: Keyed[str] = Keyed(missing_name)
        self.uuids: Keyed[UUID] = Keyed(missing_uuid)
        self.generation = 0
        self._by_domid: SortedList[int] = SortedList()
        self._by_name: SortedList[tuple[str, int]] = SortedList()
        self._groupings: dict[str, Grouping] = {}
        self._last_names = LastNames()

    def __len__(self) -> int:
        return len(self.domids.held)

    def __iter__(self) -> Iterator[Domain]:
        """In domid order. Cost: no sorting."""
        return (self.domids.held[domid] for domid in self._by_domid)

    def get(self, domid: int) -> Domain | None:
        """The domain with that domid, if it is held."""
        return self.domids.held.get(domid)

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
            yield self.domids.held[domid]

    def between(self, first: str | None, end: str | None) -> Iterator[Domain]:
        """Those with first <= name < end, in name order; None is no bound. Cost as `named`."""
        low = None if first is None else (first, -1)
        high = None if end is None else (end, -1)
        return (self.domids.held[domid] for _, domid in self._by_name.irange(low, high))

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
        self, changes: Sequence[Change], *, time: float = 0.0, inferred: bool = False
    ) -> list[DomainEvent]:
        """Take all changes in as one generation; the events, in the order to tell them.

        A life that goes is told before one that comes, so that a reused domid is Removed,
        then Added; Removed carries the last name that the life had.
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
        for old, new in sorted(changes, key=lambda change: change[1] is not None):
            if old is None and new is not None:
                events.append(Added(new, generation=generation, time=time))
            else:
                if old is not None and (old.name is None or (new is not None and new.name is None)):
                    old = self._last_names.change(old, new)
                events += told(old, new, generation, time, inferred)

        for domain in leaving:
            self._by_domid.remove(domain.domid)
            if domain.name is not None:
                self._by_name.remove((domain.name, domain.domid))
        self._by_domid.update(domain.domid for domain in coming)
        self._by_name.update((d.name, d.domid) for d in coming if d.name is not None)
        names = self.names.apply(((d.name, d) for d in leaving), ((d.name, d) for d in coming))
        uuids = self.uuids.apply(
            ((_indexed_uuid(d), d) for d in leaving), ((_indexed_uuid(d), d) for d in coming)
        )
        self.domids.apply(((d.domid, d) for d in leaving), ((d.domid, d) for d in coming))
        for grouping in self._groupings.values():
            grouping.apply(leaving, coming)
        self.generation = generation
        events += _duplicates(DuplicateName, names, generation, time)
        events += _duplicates(DuplicateUuid, uuids, generation, time)
        return events

    def _check_changes(self, leaving: list[Domain], coming: list[Domain]) -> None:
        freed = {domain.domid for domain in leaving}
        for domain in leaving:
            if self.domids.held.get(domain.domid) != domain:
                raise KeyError(f"domain {domain.domid} is not held as it is said to be")
        if len(freed) != len(leaving) or len({d.domid for d in coming}) != len(coming):
            raise KeyError("one domid changes twice")
        for domain in coming:
            if domain.domid in self.domids.held and domain.domid not in freed:
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

    def check(self) -> None:
        """Assert that the three keys and both orders tell the same. For tests."""
        held = dict(self.domids.held.items())
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
            assert dict(keyed.held.items()) == {
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


def told(
    old: Domain | None,
    new: Domain | None,
    generation: int,
    time: float = 0.0,
    inferred: bool = False,
) -> Iterator[DomainEvent]:
    """The events of one change. Told one after the other, each starts where the last ended."""
    if old is not None and (new is None or old.life != new.life):
        yield Removed(old, old.shutdown, inferred, generation=generation, time=time)
        old = None
    if new is None:
        return
    if old is None:
        yield Added(new, generation=generation, time=time)
        return
    if old.name != new.name:
        renamed = replace(old, name=new.name)
        yield Renamed(old, renamed, generation=generation, time=time)
        old = renamed
    if old.shutdown is None and new.shutdown is not None:
        stopped = replace(old, shutdown=new.shutdown)
        yield ShutDown(stopped, new.shutdown, generation=generation, time=time)
        old = stopped
    fields = tuple(f for f in ("uuid", "type", "shutdown") if getattr(old, f) != getattr(new, f))
    if fields:
        yield Changed(old, new, fields, generation=generation, time=time)
