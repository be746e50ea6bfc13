"""What the index answers from memory: look-ups by key, queries, pictures of one moment.

A hit is one dict look-up, without a lock and without leaving the process. Only a miss looks
closer: then it is worth the lock to tell absent, ambiguous and cannot-tell apart.
"""

from __future__ import annotations

import contextlib
import fnmatch
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias, TypeVar
from uuid import UUID

from domindex.core.past import Past
from domindex.core.snapshot import Snapshot
from domindex.core.table import DomainTable, Keyed, View, ordered
from domindex.domain import Domain, OSType
from domindex.errors import Ambiguous, Closed, InvalidKey, NoSuchDomain, NotLive, StoreError
from domindex.events import Removed
from domindex.keys import as_domid, as_name, as_text, as_uuid
from domindex.listening.callbacks import check_callable
from domindex.listening.waiting import Bell

K = TypeVar("K", bound=Any)

Stale: TypeAlias = Literal["serve", "refuse", "wait"]
"""What a look-up does while the line to the host is down: answer from what was last known, raise
NotLive, or wait for the line (at most `Timing.wait` seconds)."""

_STALE: Final = ("serve", "refuse", "wait")
_SPECIAL_IN_GLOB: Final = re.compile(r"[*?\[]")


class Answers(ABC):
    """The half of `Index` that asks nobody. Safe from any thread, listeners included.

    names, uuids, domids: live read-only mappings at dict speed. `index.names["web"]` raises
        what `by_name("web")` raises; `.get` gives None and `in` gives False instead, and they
        take keys only as the index keeps them: str, UUID, int.
    """

    names: View[str]
    uuids: View[UUID]
    domids: View[int]

    _confirms: Callable[[Domain], bool]
    """What `Hypervisor.confirms` of the host says."""

    def __init__(self, stale: Stale, wait: float) -> None:
        self._lock = threading.RLock()  # held to change the table, or to see it whole
        self._bell = Bell(self._lock)
        self._stale = _checked(stale)
        self._wait = wait
        self._table = DomainTable(
            lambda domid: self._closer("domid", self._table.domids, as_domid(domid)),
            lambda name: self._closer("name", self._table.names, as_name(name)),
            lambda uuid: self._closer("uuid", self._table.uuids, as_uuid(uuid)),
        )
        self.names = self._table.names.view
        self.uuids = self._table.uuids.view
        self.domids = self._table.domids.view
        self._past = Past()
        self._snapshot = Snapshot({}, -1)
        self._ended = ""  # why every call is refused from now on

    # -- one domain --------------------------------------------------------------------------

    def by_name(
        self, name: str | bytes, verify: bool = False, stale: Stale | None = None
    ) -> Domain:
        """The one domain called `name`.

        name: compared byte for byte; case counts; digits are a name like any other.
        verify: ask the hypervisor whether that domain still runs, as the record says. The name
            itself is xenstore's, and follows by its own watch.
        stale: for this call, instead of what `connect(stale=)` said.

        Raises NoSuchDomain, Ambiguous, NotLive (a miss while the line is down), Closed,
        InvalidKey; with `verify` also HypercallFailed and TimedOut.
        Cost: one dict look-up. Verified: one hypercall, on Xen >= 4.21 two; a miss is a `refresh`,
        a contradiction up to three, with as many hypercalls after each.
        """
        if verify or stale:
            return self._with_care("name", self._table.names, name, as_name, verify, stale)
        try:
            return self.names[name]  # type: ignore[index]  # bytes come back by __missing__
        except TypeError as error:
            raise _unusable(error, "name", name) from None

    def by_uuid(
        self, uuid: UUID | str | bytes, verify: bool = False, stale: Stale | None = None
    ) -> Domain:
        """The one domain with this uuid: a UUID, text in any spelling, or 16 bytes.

        The nil uuid, which dom0 has, is nobody's. Errors and cost as `by_name`.
        """
        if verify or stale:
            return self._with_care("uuid", self._table.uuids, uuid, as_uuid, verify, stale)
        try:
            return self.uuids[uuid]  # type: ignore[index]
        except TypeError as error:
            if isinstance(uuid, bytearray):  # as_uuid takes it, but it has no hash
                return self.by_uuid(bytes(uuid))
            raise _unusable(error, "uuid", uuid) from None

    def by_id(self, domid: int, verify: bool = False, stale: Stale | None = None) -> Domain:
        """The domain with this domid. Errors and cost as `by_name`; never Ambiguous."""
        if verify or stale:
            domid = as_domid(domid)
            return self._with_care("domid", self._table.domids, domid, as_domid, verify, stale)
        return self.domids[domid if type(domid) is int else as_domid(domid)]

    def os_type(self, domid: int, verify: bool = False, stale: Stale | None = None) -> OSType:
        """PV, HVM, PVH or UNKNOWN. Errors and cost as `by_id`."""
        return self.by_id(domid, verify, stale).type

    def resolve(self, text: str) -> Domain:
        """The domain that somebody means who types `text`: for command lines.

        "id:7", "uuid:..." and "name:web" mean just that. Anything else may be a name; digits may
        be a domid as well, and what reads as a uuid a uuid. If that leads to two domains (one
        called "7" beside domid 7) it raises Ambiguous, and one of the three forms must be used;
        `xl` takes the domid then, whatever it is.

        Raises NoSuchDomain, Ambiguous, NotLive, Closed, InvalidKey. Cost: three dict look-ups.

        >>> from domindex.testing import SimulatedHost
        >>> with SimulatedHost() as host:
        ...     _ = host.create("web", domid=7)
        ...     with host.connect() as index:
        ...         index.resolve("web") is index.resolve("7") is index.resolve("name:web")
        True
        """
        if not isinstance(text, str):
            raise InvalidKey(f"what a user typed is str, not {type(text).__name__}")
        kind, colon, rest = text.partition(":")
        if colon and kind in ("id", "uuid", "name"):
            if kind == "name":
                return self.by_name(rest)
            if kind == "uuid":
                return self.by_uuid(rest)
            if not (rest.isascii() and rest.isdigit() and len(rest) <= 5):
                raise InvalidKey(
                    f"{text[:40]!r} is no domid: digits come after 'id:', five at most"
                )
            return self.by_id(int(rest))
        with self._lock:
            self._check()
            found = self._table.names.holders(as_name(text))
            self._check_names(found)
            if text.isascii() and text.isdigit() and len(text) <= 5:
                found |= self._table.domids.holders(int(text))
            with contextlib.suppress(ValueError):
                found |= self._table.uuids.holders(UUID(text))
            return self._only("name, uuid or domid", text, found)

    # -- several -----------------------------------------------------------------------------

    def all_by_name(self, name: str | bytes) -> tuple[Domain, ...]:
        """Every domain called `name`, lowest domid first; empty if there is none.

        Raises NotLive for none while the line is down, Closed, InvalidKey. Cost: a dict look-up
        and a lock.
        """
        return self._all(self._table.names, as_name(name))

    def all_by_uuid(self, uuid: UUID | str | bytes) -> tuple[Domain, ...]:
        """Every domain with this uuid, as `all_by_name`."""
        return self._all(self._table.uuids, as_uuid(uuid))

    def find(
        self,
        *,
        prefix: str | bytes = "",
        glob: str | bytes | None = None,
        regex: str | re.Pattern[str] | None = None,
        type: OSType | str | None = None,
        where: Callable[[Domain], object] | None = None,
    ) -> tuple[Domain, ...]:
        """Domains of which all that is given holds, in name order, then by domid.

        prefix: how the name starts. glob: a pattern for all of it, as shells have them; case
            counts. regex: found anywhere in it. type: an OSType, or its word, as "pvh".
            where: called with each that passed the rest.

        Those without a name come last, and only where nothing is asked of the name.
        Raises InvalidKey, re.error, Closed, TypeError for what cannot be called or is `async def`;
        while the line is down it finds what was last known,
        unless `connect(stale=)` says otherwise.
        Cost: one search among the sorted names for the prefix, or for what comes before the
        first special character of the glob, and a step for each domain from there.
        """
        pattern = None if glob is None else as_text(glob)
        tests = [] if pattern is None else [re.compile(fnmatch.translate(pattern)).match]
        if regex is not None:
            tests.append(re.compile(regex).search)
        start = as_text(prefix)
        if type is not None:
            type = _as_type(type)
        if where is not None:
            check_callable("where=", where)
        if pattern is not None and not start:
            start = _SPECIAL_IN_GLOB.split(pattern, maxsplit=1)[0]
        with self._lock:
            self._check()
            found = list(self._table.named(start))
            if not prefix and not tests:
                found += [domain for domain in self._table if domain.name is None]
            self._check_names()
        return tuple(
            domain
            for domain in found
            if (type is None or domain.type is type)
            and all(test(domain.name or "") for test in tests)
            and (where is None or where(domain))
        )

    def range(
        self, first: str | bytes | None = None, end: str | bytes | None = None
    ) -> tuple[Domain, ...]:
        """Domains with first <= name < end, in name order, then by domid; None is no bound.

        Raises InvalidKey, Closed. Cost: one search among the sorted names and a step for each
        domain found.
        """
        low = None if first is None else as_text(first)
        high = None if end is None else as_text(end)
        with self._lock:
            self._check()
            self._check_names()
            return tuple(self._table.between(low, high))

    def add_index(self, name: str, key_function: Callable[[Domain], Hashable]) -> None:
        """Keep the domains by what `key_function(domain)` says, for `by(name, key)`.

        It is called once for each record, under the index's lock: for those that are held now, and
        later by the thread that keeps the index true. It must be quick, and ask nobody. None puts
        a domain nowhere, and so does an exception, which is logged. What is to end the program,
        as Ctrl-C, ends this call, and there is no such index then.

        Raises ValueError if there is such an index, TypeError for what cannot be called or is
        `async def`, Closed.

        >>> from domindex.testing import SimulatedHost
        >>> with SimulatedHost() as host:
        ...     _ = host.create("db-1"), host.create("db-2")
        ...     with host.connect() as index:
        ...         index.add_index("owner", lambda domain: domain.name.partition("-")[0])
        ...         [domain.name for domain in index.by("owner", "db")]
        ['db-1', 'db-2']
        """
        check_callable("the key function", key_function)
        with self._lock:
            self._check("serve")
            self._table.group(name, key_function)

    def by(self, name: str, key: Hashable) -> tuple[Domain, ...]:
        """The domains of which the function of `add_index(name, ...)` said `key`, by domid.

        Raises InvalidKey without such an index, NotLive for none while the line is down.
        """
        with self._lock:
            self._check()
            try:
                found = self._table.grouped(name, key)
            except (KeyError, TypeError):
                raise InvalidKey(f"there is no index {name!r}, or {key!r} is no key") from None
            if not found and not self.live:
                raise self._not_live()
            return found

    def snapshot(self, stale: Stale | None = None) -> Snapshot:
        """All domains as they are now, to keep and to compare. See `Snapshot`.

        stale: for this call, instead of what `connect(stale=)` said.

        Raises Closed, NotLive where an old picture is not wanted.
        Cost: a copy after each change of the index; none if nothing has changed since the last.
        """
        stale = _checked(stale or self._stale)
        snapshot = self._snapshot
        if stale == "serve" and snapshot.generation == self.generation and not self._ended:
            return snapshot
        with self._lock:
            self._check(stale)
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
        """How domains ended that ended lately, latest first: of all, or of those with these keys.

        For what comes late, as a log line about a domid that is gone or reused. The last 1,000 are
        kept, and none for more than ten minutes. Each has when it went, and the last record, under
        the last name that the domain had: libxl takes it away before it ends the domain. By uuid
        a life is found under each that it ever had.
        """
        handle = None if uuid is None else as_uuid(uuid)
        keys: list[tuple[str, object]] = []
        if domid is not None:
            keys.append(("domid", as_domid(domid)))
        if name is not None:
            keys.append(("name", as_name(name)))
        with self._lock:
            self._check("serve")
            return self._past.find(
                lambda domain: all(getattr(domain, field) == key for field, key in keys),
                uuid=handle,
            )

    def __iter__(self) -> Iterator[Domain]:
        """All domains in domid order, as they were at one moment."""
        with self._lock:
            self._check()
            return iter(list(self._table))

    def __contains__(self, domain: object) -> bool:
        """Whether that very life is held, of which `domain` is a record. Raises Closed.

        Raises InvalidKey, which is a TypeError, for a key: ask `"web" in index.names`.
        """
        if not isinstance(domain, Domain):
            raise InvalidKey(
                f"{domain!r} is no record of a domain: a name is asked for in index.names, a uuid "
                "in index.uuids, a domid in index.domids"
            )
        with self._lock:
            self._check()
            held = self._table.get(domain.domid)
            return held is not None and held.life == domain.life

    def __len__(self) -> int:
        with self._lock:
            self._check()
            return len(self._table)

    @property
    def generation(self) -> int:
        """Grows by one with each change of the index."""
        return self._table.generation

    # -- what the other half knows -----------------------------------------------------------

    @property
    @abstractmethod
    def live(self) -> bool:
        """The index has every change it was told of, and its line was lately known to work."""

    @abstractmethod
    def _not_live(self) -> NotLive:
        """What to say while it is not."""

    @property
    @abstractmethod
    def unreadable(self) -> Mapping[int, StoreError]:
        """Domids whose name xenstored does not give, and why."""

    @abstractmethod
    def _verified(self, keyed: Keyed[K], key: K) -> Domain:
        """P7: an answer that the hypervisor agrees with, or a proven absence, after it did not."""

    # -- within ------------------------------------------------------------------------------

    def _closer(self, what: str, keyed: Keyed[K], key: K, stale: Stale | None = None) -> Domain:
        """A closer look at a key that its view does not hold: the slow path of every look-up."""
        with self._lock:
            self._check(stale)
            holders = keyed.holders(key)  # spelt otherwise, or held by now
            if what == "name":
                self._check_names(holders, stale)
            return self._only(what, key, holders)

    def _only(self, what: str, key: object, holders: dict[int, Domain]) -> Domain:
        """The only one of them. Raises what there is to say of none and of several."""
        if len(holders) == 1:
            return next(iter(holders.values()))
        if holders:
            raise Ambiguous(what, key, ordered(holders))
        if not self.live:
            raise self._not_live()
        if what.startswith("name") and self.unreadable:
            raise self._no_proof()
        raise NoSuchDomain(what, key)

    def _with_care(
        self,
        what: str,
        keyed: Keyed[K],
        key: Any,
        spelt: Callable[[object], K],
        verify: bool,
        stale: Stale | None,
    ) -> Domain:
        """A look-up with more to it than a dict can do."""
        if stale is not None or self._stale != "serve":
            stale = _checked(stale or self._stale)
            if not verify:
                return self._closer(what, keyed, spelt(key), stale)
            with self._lock:
                self._check(stale)
                if what == "name":
                    self._check_names(keyed.holders(spelt(key)), stale)
        try:
            domain = keyed.held.get(key)
        except TypeError:  # unhashable: `spelt` says what is wrong with it
            domain = None
        if domain is None:
            domain = keyed.held.get(key := spelt(key))
        if domain is not None and self._confirms(domain):
            return domain
        return self._verified(keyed, key)

    def _all(self, keyed: Keyed[K], key: K) -> tuple[Domain, ...]:
        with self._lock:
            self._check()
            holders = keyed.holders(key)
            if not holders and not self.live:
                raise self._not_live()
            if keyed is self._table.names:
                self._check_names(holders)
                if not holders and self.unreadable:
                    raise self._no_proof()
            return ordered(holders)

    def _check(self, stale: Stale | None = None) -> None:
        """Raises Closed, or NotLive where an old answer is not wanted. The lock is held."""
        self._check_open()
        stale = stale or self._stale
        if stale == "serve" or self.live:
            return
        if stale == "wait":
            self._bell.wait_for(
                lambda last: self.live or bool(self._ended) or last or None, self._wait
            )
            self._check_open()
        if not self.live:
            raise self._not_live()

    def _check_names(
        self, domids: Collection[int] | None = None, stale: Stale | None = None
    ) -> None:
        """Raises NotLive where an old answer is not wanted, and a name of these is one.

        domids: None for all. The lock is held.
        """
        stale = stale or self._stale

        def old() -> bool:
            return any(domids is None or domid in domids for domid in self.unreadable)

        if stale == "wait" and old():
            self._bell.wait_for(lambda last: not old() or bool(self._ended) or last, self._wait)
            self._check_open()
        if stale != "serve" and old():
            raise self._no_proof()

    def _no_proof(self) -> NotLive:
        """What to say of a name that one of those may have that xenstored does not give."""
        domid, error = min(self.unreadable.items(), default=(None, None))
        return NotLive(f"cannot tell: the name of domain {domid} cannot be read", error)

    def _check_open(self) -> None:
        if self._ended:
            raise Closed(self._ended)


def _as_type(type: str) -> OSType:
    try:
        return OSType(type)
    except ValueError:
        raise InvalidKey(f"a type is one of {', '.join(OSType)}, not {type!r}") from None


def _checked(stale: Stale) -> Stale:
    if stale not in _STALE:
        raise ValueError(f"stale is one of {', '.join(map(repr, _STALE))}, not {stale!r}")
    return stale


def _unusable(error: TypeError, what: str, key: object) -> InvalidKey:
    if isinstance(error, InvalidKey):
        return error
    return InvalidKey(f"a {what} cannot be {type(key).__name__}")
