"""All domains as they were at one moment, to keep, to walk through and to compare.

Read after table.py; `Index.snapshot` gives it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar
from uuid import UUID

from domindex.domain import NIL_UUID, Domain
from domindex.events import DomainEvent, Ready, events_of_change

K = TypeVar("K")


class Snapshot(Mapping[int, Domain]):
    """The domains of one generation by domid, in domid order. Never changes.

    Two are equal if they hold the same records, whatever their generations.
    """

    __slots__ = ("_domains", "_generation", "_names", "_uuids")

    def __init__(self, domains: dict[int, Domain], generation: int) -> None:
        self._domains = domains
        self._names: Mapping[str, Domain] | None = None
        self._uuids: Mapping[UUID, Domain] | None = None
        self._generation = generation

    def __getitem__(self, domid: int) -> Domain:
        return self._domains[domid]

    def __iter__(self) -> Iterator[int]:
        return iter(self._domains)

    def __len__(self) -> int:
        return len(self._domains)

    def __repr__(self) -> str:
        return f"<Snapshot of {len(self)} domains, generation {self.generation}>"

    def __reduce__(self) -> tuple[type[Snapshot], tuple[dict[int, Domain], int]]:
        return Snapshot, (self._domains, self._generation)

    @property
    def generation(self) -> int:
        """Of the index when this was taken."""
        return self._generation

    @property
    def names(self) -> Mapping[str, Domain]:
        """Those with a name that no other had, by it. Made when first asked for."""
        if self._names is None:
            self._names = _unshared({d.domid: d.name for d in self.values()}, self._domains)
        return self._names

    @property
    def uuids(self) -> Mapping[UUID, Domain]:
        """Those with a uuid that no other had, by it. Made when first asked for."""
        if self._uuids is None:
            keys = {d.domid: None if d.uuid == NIL_UUID else d.uuid for d in self.values()}
            self._uuids = _unshared(keys, self._domains)
        return self._uuids

    def diff(self, older: Snapshot) -> tuple[DomainEvent, ...]:
        """What happened since `older`, as events: Removed first, then by domid.

        What began and ended in between left no trace. `Ready` comes for each domain that is ready
        here and was not in `older`, though it may have been before. Cost: one step for each domain.

        >>> from domindex.testing import SimulatedHost
        >>> with SimulatedHost() as host, host.connect() as index:
        ...     before = index.snapshot()
        ...     _ = host.create("web")
        ...     _ = index.refresh()
        ...     [type(event).__name__ for event in index.snapshot().diff(before)]
        ['Added', 'Ready']
        """
        if not isinstance(older, Snapshot):
            raise TypeError(f"a Snapshot is compared with another one, not with {older!r}")
        changes = [
            (was, now)
            for domid in sorted(self.keys() | older.keys())
            if (was := older.get(domid)) is not (now := self.get(domid)) and was != now
        ]
        ended = [change for change in changes if change[1] is None]
        others = [change for change in changes if change[1] is not None]
        events: list[DomainEvent] = []
        for old, new in (*ended, *others):
            events += events_of_change(old, new, self.generation)
            was_ready = old is not None and new is not None and old.life == new.life and old.ready
            if new is not None and new.ready and not was_ready:
                events.append(Ready(new, generation=self.generation))
        return tuple(events)


def _unshared(keys: dict[int, K | None], domains: dict[int, Domain]) -> Mapping[K, Domain]:
    held: dict[K, Domain] = {}
    shared: set[K] = set()
    for domid, key in keys.items():
        if key is not None and held.setdefault(key, domains[domid]) is not domains[domid]:
            shared.add(key)
    return MappingProxyType({key: domain for key, domain in held.items() if key not in shared})
