"""What a picture answers by itself: look-ups by key, queries, snapshots. No call to the host.

A hit is one dict look-up, without a lock. Only a miss takes the lock, to tell apart what is
absent, what is ambiguous, and what cannot be told (`LookUps._only`).

Read after picture.py, staleness.py and matching.py; next index.py and aio.py, which add what waits
or asks the host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast
from uuid import UUID

from domindex.core.key import KeyIndex, ordered
from domindex.core.snapshot import Snapshot
from domindex.domain import Domain, OSType, Role
from domindex.errors import Ambiguous, InvalidKey, NoSuchDomain, StoreError
from domindex.events import Removed
from domindex.keys import as_domid, as_name, as_text, as_typed, as_uuid
from domindex.listening.callbacks import check_callable
from domindex.liveness import Ended
from domindex.matching import Matcher
from domindex.options import Stale
from domindex.picture import Picture
from domindex.staleness import S, Staleness

if TYPE_CHECKING:
    from domindex.core.key import ReadOnly

K = TypeVar("K", bound=Any)


class LookUps(Generic[S]):
    """Every running domain of one host, by name, uuid and domid. Safe from any thread.

    Attributes:
        names: a live, read-only mapping from name to Domain, at the speed of a dict.
            `names["web"]` raises what `by_name("web")` raises; `.get` returns None and `in`
            returns False instead. It takes names as str only.
        uuids: the same from UUID.
        domids: the same from int.
    """

    names: Final[ReadOnly[str, Domain]]
    uuids: Final[ReadOnly[UUID, Domain]]
    domids: Final[ReadOnly[int, Domain]]

    def __init__(self, picture: Picture, stale: S, wait: float | None) -> None:
        """wait: seconds for which `stale="wait"` waits; None if it must not be asked for."""
        self._picture = picture
        self._table = picture.table
        self._staleness = Staleness(picture, stale, wait)
        self._any_age = self._staleness.any_age
        self._snapshot = Snapshot({}, -1)
        self.names = cast("ReadOnly[str, Domain]", self._table.names.view)
        self.uuids = cast("ReadOnly[UUID, Domain]", self._table.uuids.view)
        self.domids = cast("ReadOnly[int, Domain]", self._table.domids.view)
        picture.look_closer = self._look_closer

    # -- one domain --------------------------------------------------------------------------

    def by_name(self, name: str | bytes, *, stale: S | None = None) -> Domain:
        """The one domain with this name.

        Args:
            name: compared byte for byte; digits are a name like any other.
            stale: what to do while the line to the host is down, for this call.

        Raises:
            NoSuchDomain: no running domain has it.
            Ambiguous: several have it.
            NotLive: it is not held, and the line to the host is down.
            InvalidKey: it cannot be a name.
            Closed: the index was closed.

        Cost:
            One dict look-up.
        """
        if stale is not None:
            return self._look_closer(self._table.names, name, stale)
        try:
            return self.names[name]  # type: ignore[index]  # bytes come back by __missing__
        except TypeError as error:
            raise unusable(error, "name", name) from None

    def by_uuid(self, uuid: UUID | str | bytes, *, stale: S | None = None) -> Domain:
        """The one domain with this uuid. Errors and cost as `by_name`.

        Args:
            uuid: a UUID, text in any spelling, or 16 bytes. The nil uuid, which dom0 has,
                belongs to no domain.
            stale: as for `by_name`.
        """
        if stale is not None:
            return self._look_closer(self._table.uuids, uuid, stale)
        try:
            return self.uuids[uuid]  # type: ignore[index]  # text and bytes come back, too
        except TypeError as error:
            if isinstance(uuid, bytearray):  # as_uuid takes it, but it has no hash
                return self.uuids[as_uuid(uuid)]
            raise unusable(error, "uuid", uuid) from None

    def by_id(self, domid: int, *, stale: S | None = None) -> Domain:
        """The domain with this domid. Errors and cost as `by_name`; never Ambiguous.

        Args:
            domid: 0 to 0x7FEF.
            stale: as for `by_name`.
        """
        if stale is not None:
            return self._look_closer(self._table.domids, domid, stale)
        return self.domids[domid if type(domid) is int else as_domid(domid)]

    def os_type(self, domid: int, *, stale: S | None = None) -> OSType:
        """PV, HVM, PVH or UNKNOWN. Arguments, errors and cost as `by_id`."""
        return self.by_id(domid, stale=stale).type

    def resolve(self, text: str) -> Domain:
        """The domain that a user means who types `text`: for command lines.

        `id:7`, `uuid:...` and `name:web` mean just that. Any other text may be a name; digits may
        be a domid as well, and what reads as a uuid may be a uuid. If that leads to two domains
        (one is called "7", another has domid 7) it is Ambiguous, and one of the three forms has
        to be used; `xl` takes the domid in that case.

        Raises:
            NoSuchDomain, Ambiguous, NotLive, Closed: as `by_name`.
            InvalidKey: `text` is no str, or no key can be read from it.

        Cost:
            Up to three dict look-ups.

        >>> from domindex.testing import SimulatedHost
        >>> with SimulatedHost() as host:
        ...     _ = host.create("web", domid=7)
        ...     with host.connect() as index:
        ...         index.resolve("web") is index.resolve("7") is index.resolve("name:web")
        True
        """
        name, uuid, domid = as_typed(text)
        if name is None:
            return self.by_id(as_domid(domid)) if uuid is None else self.by_uuid(uuid)
        if uuid is None and domid is None:
            return self.by_name(name)
        with self._picture.lock:
            self._staleness.check()
            found = self._table.names.holders(name)
            self._check_names(found)
            if domid is not None:
                found |= self._table.domids.holders(domid)
            if uuid is not None:
                found |= self._table.uuids.holders(uuid)
            return self._only("name, uuid or domid", text, found)

    # -- several -----------------------------------------------------------------------------

    def all_by_name(self, name: str | bytes) -> tuple[Domain, ...]:
        """Every domain with this name, lowest domid first; empty if there is none.

        Raises:
            NotLive: none is held, and the line to the host is down.
            InvalidKey, Closed: as `by_name`.

        Cost:
            A dict look-up and a lock.
        """
        return self._all(self._table.names, as_name(name))

    def all_by_uuid(self, uuid: UUID | str | bytes) -> tuple[Domain, ...]:
        """Every domain with this uuid. Order, errors and cost as `all_by_name`."""
        return self._all(self._table.uuids, as_uuid(uuid))

    def find(
        self,
        *,
        prefix: str | bytes = "",
        glob: str | bytes | None = None,
        regex: str | re.Pattern[str] | None = None,
        type: OSType | str | None = None,
        role: Role | None = None,
        where: Callable[[Domain], object] | None = None,
    ) -> tuple[Domain, ...]:
        """Domains that match every argument that is given, in name order, then by domid.

        Domains without a name come last, and only if no argument is about the name. While the
        line to the host is down it finds what was last known, unless `connect(stale=)` says
        otherwise.

        Args:
            prefix: how the name starts.
            glob: a shell pattern for the whole name; case counts.
            regex: searched for anywhere in the name.
            type: an OSType, or its value, such as "pvh".
            role: a Role, or several, all of which it has to have. A domain whose roles are not
                known is not found.
            where: a function that is called with each domain that matches the rest.

        Raises:
            InvalidKey: an argument cannot be of a name, or is no type.
            TypeError: `where` cannot be called, or is `async def`.
            re.error: `regex` is none.
            Closed: the index was closed.

        Cost:
            A search in the sorted names for the prefix (or for the text before the first
            wildcard of the glob), then a step for each domain from there.
        """
        wanted = Matcher(prefix=prefix, glob=glob, regex=regex, type=type, role=role)
        if where is not None:
            check_callable("where=", where)
        with self._picture.lock:
            self._staleness.check()
            found = list(self._table.named(wanted.start))
            if wanted.nameless:
                found += [domain for domain in self._table if domain.name is None]
            self._check_names()
        return tuple(
            domain for domain in found if wanted.fits(domain) and (where is None or where(domain))
        )

    def range(
        self, first: str | bytes | None = None, end: str | bytes | None = None
    ) -> tuple[Domain, ...]:
        """Domains with first <= name < end, in name order, then by domid.

        Args:
            first: the lowest name, or None for no bound.
            end: the first name that is left out, or None for no bound.

        Raises:
            InvalidKey, Closed: as `find`.

        Cost:
            A search in the sorted names, then a step for each domain found.
        """
        low = None if first is None else as_text(first)
        high = None if end is None else as_text(end)
        with self._picture.lock:
            self._staleness.check()
            self._check_names()
            return tuple(self._table.between(low, high))

    def add_index(self, name: str, key_function: Callable[[Domain], Hashable]) -> None:
        """Keep the domains by the value of `key_function(domain)` too, for `by(name, key)`.

        The function is called once for each record: now, and later in the watcher's thread, with
        the index's lock held. It must be quick and must not wait. A domain for which it returns
        None, or raises (which is logged), is in no group.

        Args:
            name: what the new index is called.
            key_function: returns a hashable value for a domain.

        Raises:
            ValueError: there is an index of that name.
            InvalidKey: the name is no str.
            TypeError: the function cannot be called, or is `async def`.
            Closed: the index was closed.

        >>> from domindex.testing import SimulatedHost
        >>> with SimulatedHost() as host:
        ...     _ = host.create("db-1"), host.create("db-2")
        ...     with host.connect() as index:
        ...         index.add_index("owner", lambda domain: domain.name.partition("-")[0])
        ...         [domain.name for domain in index.by("owner", "db")]
        ['db-1', 'db-2']
        """
        if not isinstance(name, str):
            raise InvalidKey(f"an index is called by a str, not {type(name).__name__}")
        check_callable("the key function", key_function)
        with self._picture.lock:
            self._staleness.check("serve")
            self._table.group(name, key_function)

    def by(self, name: str, key: Hashable) -> tuple[Domain, ...]:
        """The domains for which the function of `add_index(name, ...)` returned `key`, by domid.

        Raises:
            InvalidKey: there is no such index.
            NotLive: none is held, and the line to the host is down.
            Closed: the index was closed.

        Cost:
            A dict look-up and a lock.
        """
        with self._picture.lock:
            self._staleness.check()
            try:
                found = self._table.grouped(name, key)
            except (KeyError, TypeError):
                raise InvalidKey(f"there is no index {name!r}, or {key!r} is no key") from None
            if not found and not self.live:
                raise self._picture.not_live()
            return found

    def snapshot(self, stale: S | None = None) -> Snapshot:
        """All domains of this moment, to keep and to compare. See `Snapshot`.

        Args:
            stale: as for `by_name`.

        Raises:
            NotLive: the line to the host is down, and an old picture is not wanted.
            Closed: the index was closed.

        Cost:
            A copy after each change of the index; nothing if the last snapshot still holds.
        """
        if self._staleness.checked(stale or self._staleness.default) == "serve" and (
            stale or self._any_age
        ):
            snapshot = self._snapshot
            if snapshot.generation == self.generation and not self._picture.has_ended:
                return snapshot
        with self._picture.lock:
            self._staleness.check(stale)
            if self._snapshot.generation != self.generation:
                domains = {domain.domid: domain for domain in self._table}
                self._snapshot = Snapshot(domains, self.generation)
            return self._snapshot

    def recent(
        self,
        *,
        domid: int | None = None,
        name: str | bytes | None = None,
        uuid: UUID | str | bytes | None = None,
    ) -> tuple[Removed, ...]:
        """How domains ended lately, the last one first: for log lines about domains that are gone.

        The last 1,000 ends are kept, for ten minutes each. Each event has the last record of the
        domain, under its last name (libxl removes the name before it ends the domain).

        Args:
            domid: only of domains that had it.
            name: only of domains whose last name it was.
            uuid: only of domains that had it at any time.

        Raises:
            InvalidKey, Closed: as `by_name`.
        """
        handle = None if uuid is None else as_uuid(uuid)
        keys: list[tuple[str, object]] = []
        if domid is not None:
            keys.append(("domid", as_domid(domid)))
        if name is not None:
            keys.append(("name", as_name(name)))
        with self._picture.lock:
            self._staleness.check("serve")
            return self._picture.ended_lives.find(
                lambda domain: all(getattr(domain, field) == key for field, key in keys),
                uuid=handle,
            )

    def __iter__(self) -> Iterator[Domain]:
        """All domains of this moment, in domid order."""
        with self._picture.lock:
            self._staleness.check()
            return iter(list(self._table))

    def __contains__(self, domain: object) -> bool:
        """Whether the life that this record is of still runs.

        Raises:
            InvalidKey: for anything but a record. It is a TypeError: ask `"web" in index.names`.
            Closed: the index was closed.
        """
        if not isinstance(domain, Domain):
            raise InvalidKey(
                f"{domain!r} is no Domain: ask for a name in index.names, for a uuid in "
                "index.uuids, for a domid in index.domids"
            )
        with self._picture.lock:
            self._staleness.check()
            return self._picture.held(domain) is not None

    def __len__(self) -> int:
        """How many domains are held."""
        with self._picture.lock:
            self._staleness.check()
            return len(self._table)

    def __repr__(self) -> str:
        state = self._picture.state
        holds = f"{len(self._table)} domains, {type(state).__name__.lower()}"
        held = "closed" if isinstance(state, Ended) else holds
        return f"<{type(self).__name__}: {held}>"

    # -- state -------------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """Whether every change that an event told of is held, and the line lately worked."""
        return self._picture.live

    @property
    def age(self) -> float:
        """Seconds since the host last confirmed that the picture is whole."""
        return self._picture.age

    @property
    def generation(self) -> int:
        """A number that grows by one with each change of the index."""
        return self._table.generation

    @property
    def unreadable(self) -> Mapping[int, StoreError]:
        """The domids whose name xenstored does not give, and why. The mapping never changes.

        Such a domain keeps the last name that it had, or None if it has just started. The name is
        asked for again at its next event, and in turns with others at each probe.
        """
        return self._picture.unreadable

    # -- within ------------------------------------------------------------------------------

    def _look_closer(
        self, index: KeyIndex[K, Domain], key: Any, stale: Stale | None = None
    ) -> Domain:
        """A key that its view does not hold, or a look-up with `stale=`: the slow path of all."""
        if stale is not None:
            self._staleness.checked(stale)
        key = index.key_of(key)
        with self._picture.lock:
            self._staleness.check(stale)
            holders = index.holders(key)  # it was spelled otherwise, or is held by now
            if index is self._table.names:
                self._check_names(holders, stale)
            return self._only(index.what, key, holders)

    def _only(self, what: str, key: object, holders: dict[int, Domain]) -> Domain:
        """The only one of them; raises what there is to say of none and of several (P5)."""
        if len(holders) == 1:
            return next(iter(holders.values()))
        if holders:
            raise Ambiguous(what, key, ordered(holders))
        if not self.live:
            raise self._picture.not_live()
        if what.startswith("name") and self.unreadable:
            raise self._picture.name_unreadable()
        raise NoSuchDomain(what, key)

    def _all(self, index: KeyIndex[K, Domain], key: K) -> tuple[Domain, ...]:
        with self._picture.lock:
            self._staleness.check()
            holders = index.holders(key)
            if not holders and not self.live:
                raise self._picture.not_live()
            if index is self._table.names:
                self._check_names(holders)
                if not holders and self.unreadable:
                    raise self._picture.name_unreadable()
            return ordered(holders)

    def _check_names(
        self, domids: Collection[int] | None = None, stale: Stale | None = None
    ) -> None:
        """Raises NotLive where an old answer is not wanted and one of these names is unreadable.

        domids: None for all. The lock is held.
        """
        stale = stale or self._staleness.default

        def readable() -> bool:
            return not any(domids is None or domid in domids for domid in self.unreadable)

        if stale == "serve" or readable():
            return
        self._staleness.wait_if(stale, readable)
        if not readable():
            raise self._picture.name_unreadable()

    def _refuse_stale(self, index: KeyIndex[K, Domain], key: K, stale: S | None = None) -> None:
        """Before a key is verified: raises NotLive where an old answer is not wanted."""
        if stale is not None:
            self._staleness.checked(stale)
        with self._picture.lock:
            self._staleness.check(stale)
            if index is self._table.names:
                self._check_names(index.holders(key), stale)


def unusable(error: TypeError, what: str, key: object) -> InvalidKey:
    """What to raise for a key that a dict cannot take."""
    if isinstance(error, InvalidKey):
        return error
    return InvalidKey(f"a {what} cannot be {type(key).__name__}")
