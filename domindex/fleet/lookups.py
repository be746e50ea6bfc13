"""What the picture of a fleet answers by itself: by name, by uuid, queries, snapshots.

A hit is one dict look-up, without a lock, as in an index. Only a miss takes the lock, to tell
apart what is absent, what is ambiguous, and what cannot be told (`FleetLookUps._only`).

Read after picture.py and answers.py; next fleet.py, which adds what waits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, cast
from uuid import UUID

from domindex.core.key import KeyIndex, ordered
from domindex.core.snapshot import Snapshot
from domindex.domain import OSType, Role
from domindex.errors import DomindexError, InvalidKey, NoSuchDomain
from domindex.fleet.answers import HostsSilent, NoSuchHost, OldAnswer, SeveralFound
from domindex.fleet.picture import FleetPicture
from domindex.fleet.ports import SILENCE
from domindex.fleet.states import Found, HostState, HostView
from domindex.keys import as_name, as_uuid
from domindex.limits import as_seconds
from domindex.listening.callbacks import check_callable
from domindex.lookups import unusable
from domindex.matching import Matcher
from domindex.staleness import S, Staleness

if TYPE_CHECKING:
    from domindex.core.key import ReadOnly

_ALL: Final = tuple(state for state in HostState if state is not HostState.OFFLINE)


class FleetSnapshot(NamedTuple):
    """A fleet as it was at one moment.

    Attributes:
        generation: Of the reader's picture.
        hosts: Each host's state.
        domains: Each host's domains, as `Index.snapshot` gives them; those of hosts that were
            not live as last known.
    """

    generation: int
    hosts: Mapping[str, HostView]
    domains: Mapping[str, Snapshot]


class Hosts(Mapping[str, HostView]):
    """The hosts of a fleet by name, in the order of names. Each access is of that moment."""

    def __init__(self, picture: FleetPicture) -> None:
        self._picture = picture

    def __getitem__(self, host: str) -> HostView:
        with self._picture.lock:
            self._picture.check_open()
            if (table := self._picture.hosts.get(host)) is None:
                raise NoSuchHost(host)
            return self._picture.view(table)

    def __iter__(self) -> Iterator[str]:
        with self._picture.lock:
            self._picture.check_open()
            return iter(sorted(self._picture.hosts))

    def __len__(self) -> int:
        return len(self._picture.hosts)

    def __repr__(self) -> str:
        return f"<Hosts: {len(self)}>"


class FleetLookUps(Generic[S]):
    """Every domain of every host, by name and uuid. Safe from any thread.

    Attributes:
        names: a live, read-only mapping from name to `Found`, at the speed of a dict. It raises
            what `by_name` raises; `.get` returns None and `in` returns False instead.
        uuids: the same from UUID.
        hosts: the hosts by name. `fleet.hosts["xen1"].state` is that of now.
    """

    names: Final[ReadOnly[str, Found]]
    uuids: Final[ReadOnly[UUID, Found]]
    hosts: Final[Hosts]

    def __init__(self, picture: FleetPicture, stale: S, wait: float | None) -> None:
        """wait: seconds for which `stale="wait"` waits; None if it must not be asked for."""
        self._picture = picture
        self._staleness = Staleness(picture, stale, wait)
        self.names = cast("ReadOnly[str, Found]", picture.names.view)
        self.uuids = cast("ReadOnly[UUID, Found]", picture.uuids.view)
        self.hosts = Hosts(picture)
        picture.look_closer = self._look_closer

    # -- one domain --------------------------------------------------------------------------

    def by_name(
        self,
        name: str | bytes,
        settled: bool = False,
        among: Collection[str] | None = None,
        max_age: float | None = None,
        stale: S | None = None,
    ) -> Found:
        """The one domain with this name, and where it is.

        Args:
            name: compared byte for byte; digits are a name like any other.
            settled: of several take the one that is not shut down and not under a passing name
                (`NAME--incoming`): the end of a migration where it runs.
            among: ask of these hosts only.
            max_age: seconds; an answer that is not known to have held since then is refused.
            stale: what to do while the reader's own line is down, as in an index.

        Raises:
            NoSuchDomain: no host has it, and each of them can tell: it is live, or was declared
                offline.
            SeveralFound: several domains have it. It is an `Ambiguous`.
            HostsSilent: it was not found, and some hosts cannot tell. It is a `NotLive`.
            OldAnswer: its host has been silent for longer than `max_age`. It is a `NotLive`.
            NotLive: it was not found, and the reader's own line is down.
            NoSuchHost: `among` has a host that is not known.
            InvalidKey: it cannot be a name.
            Closed: the reader was closed.

        Cost:
            One dict look-up.
        """
        # No argument is for keywords only: a call of such a function costs twice as much.
        if settled or among is not None or max_age is not None or stale is not None:
            return self._carefully(self._picture.names, name, settled, among, max_age, stale)
        try:
            return self.names[name]  # type: ignore[index]  # bytes come back by __missing__
        except TypeError as error:
            raise unusable(error, "name", name) from None

    def by_uuid(
        self,
        uuid: UUID | str | bytes,
        settled: bool = False,
        among: Collection[str] | None = None,
        max_age: float | None = None,
        stale: S | None = None,
    ) -> Found:
        """The one domain with this uuid, and where it is. Arguments and errors as `by_name`.

        Args:
            uuid: a UUID, text in any spelling, or 16 bytes.
            settled: as for `by_name`. Both ends of a live migration have the same uuid.
            among: as for `by_name`.
            max_age: as for `by_name`.
            stale: as for `by_name`.
        """
        if settled or among is not None or max_age is not None or stale is not None:
            return self._carefully(self._picture.uuids, uuid, settled, among, max_age, stale)
        try:
            return self.uuids[uuid]  # type: ignore[index]  # text and bytes come back, too
        except TypeError as error:
            if isinstance(uuid, bytearray):  # as_uuid takes it, but it has no hash
                return self.uuids[as_uuid(uuid)]
            raise unusable(error, "uuid", uuid) from None

    # -- several -----------------------------------------------------------------------------

    def all_by_name(
        self, name: str | bytes, *, among: Collection[str] | None = None
    ) -> tuple[Found, ...]:
        """Every domain with this name, by host and domid; empty if there is none.

        Raises:
            HostsSilent, NotLive: none was found, and it cannot be told that there is none.
            NoSuchHost, InvalidKey, Closed: as `by_name`.
        """
        return self._all(self._picture.names, as_name(name), among)

    def all_by_uuid(
        self, uuid: UUID | str | bytes, *, among: Collection[str] | None = None
    ) -> tuple[Found, ...]:
        """Every domain with this uuid. Order and errors as `all_by_name`."""
        return self._all(self._picture.uuids, as_uuid(uuid), among)

    def find(
        self,
        *,
        prefix: str | bytes = "",
        glob: str | bytes | None = None,
        regex: str | re.Pattern[str] | None = None,
        type: OSType | str | None = None,
        role: Role | None = None,
        where: Callable[[Found], object] | None = None,
        host: str | None = None,
        among: Collection[str] | None = None,
        states: Collection[HostState | str] | None = None,
    ) -> tuple[Found, ...]:
        """Domains that match every argument that is given, by name, then by host and domid.

        It never raises for a host that is silent: it gives what was last known, with the state.

        Args:
            prefix: as for `Index.find`.
            glob: as for `Index.find`.
            regex: as for `Index.find`.
            type: as for `Index.find`.
            role: as for `Index.find`.
            where: a function that is called with each `Found` that matches the rest.
            host: only of this host.
            among: only of these hosts.
            states: only of hosts in these states, such as `("live",)`. The default is all but
                "offline".

        Raises:
            NoSuchHost: `host` or `among` has one that is not known.
            NotLive: the reader's own line is down, and `stale` does not allow for that.
            InvalidKey, TypeError, re.error, Closed: as `Index.find`.

        Cost:
            For each host a search in its sorted names, then a step for each domain from there.
        """
        wanted = Matcher(prefix=prefix, glob=glob, regex=regex, type=type, role=role)
        if where is not None:
            check_callable("where=", where)
        asked = _ALL if states is None else _as_states(states)
        if host is not None:
            among = (host,) if among is None else tuple({host}.intersection(_as_hosts(among)))
        found: list[Found] = []
        with self._picture.lock:
            self._staleness.check()
            self._check_hosts(among)
            tables = self._picture.hosts
            for name in tables if among is None else among:
                table = tables[name]
                if table.status.state not in asked:
                    continue
                domains = list(table.table.named(wanted.start))
                if wanted.nameless:
                    domains += [domain for domain in table.table if domain.name is None]
                found += [table.founds[d.domid] for d in domains if wanted.fits(d)]
        found.sort(key=_by_name)
        return tuple(found) if where is None else tuple(filter(where, found))

    def __iter__(self) -> Iterator[Found]:
        """Every domain of this moment, by host and domid, but those of hosts that are offline."""
        with self._picture.lock:
            self._staleness.check()
            return iter(self._picture.all_found())

    def __len__(self) -> int:
        """How many domains that are."""
        with self._picture.lock:
            self._staleness.check()
            return sum(len(h.founds) for h in self._picture.hosts.values() if h.listed)

    def __contains__(self, found: object) -> bool:
        """Whether that run of a domain is still held. Raises InvalidKey for anything else."""
        if not isinstance(found, Found):
            raise InvalidKey(f"{found!r} is no Found: ask for a name in fleet.names")
        with self._picture.lock:
            self._staleness.check()
            host = self._picture.hosts.get(found.host)
            held = None if host is None else host.founds.get(found.domain.domid)
            return held is not None and held.life == found.life

    def snapshot(self, stale: S | None = None) -> FleetSnapshot:
        """All hosts and domains of this moment, to keep and to compare.

        Raises NotLive, Closed as `Index.snapshot`. Cost: a copy.
        """
        if stale is not None:
            self._staleness.checked(stale)
        picture = self._picture
        with picture.lock:
            self._staleness.check(stale)
            hosts = {name: picture.view(picture.hosts[name]) for name in sorted(picture.hosts)}
            domains = {
                name: Snapshot(
                    {domain.domid: domain for domain in picture.hosts[name].table},
                    hosts[name].generation,
                )
                for name in hosts
            }
            return FleetSnapshot(picture.generation, hosts, domains)

    # -- state -------------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """Whether the reader has all that was written, and its line lately worked."""
        return self._picture.live

    @property
    def age(self) -> float:
        """Seconds since the store last confirmed that the reader has everything."""
        return self._picture.age

    @property
    def generation(self) -> int:
        """A number that grows with each change of the picture."""
        return self._picture.generation

    # -- within ------------------------------------------------------------------------------

    def _look_closer(self, index: KeyIndex[Any, Found], key: Any) -> Found:
        """A key that its view does not hold: the slow path of a plain look-up."""
        return self._carefully(index, key, False, None, None, None)

    def _carefully(
        self,
        index: KeyIndex[Any, Found],
        key: Any,
        settled: bool,
        among: Collection[str] | None,
        max_age: float | None,
        stale: S | None,
    ) -> Found:
        if stale is not None:
            self._staleness.checked(stale)
        if max_age is not None:
            max_age = as_seconds(max_age, "max_age")
        key = index.key_of(key)
        with self._picture.lock:
            self._staleness.check(stale)
            found = self._held(index, key, among)
            if settled and len(found) > 1:
                found = [f for f in found if f.domain.ready] or found
            only = self._only(index.what, key, found, among)
            if max_age is not None:
                age = self._picture.clock() - only.as_of
                if age > max_age and not (age <= SILENCE and only.state == "live" and self.live):
                    raise OldAnswer(only, age, max_age)
            return only

    def _held(
        self, index: KeyIndex[Any, Found], key: Any, among: Collection[str] | None
    ) -> list[Found]:
        self._check_hosts(among)
        found = ordered(index.holders(key))
        return [f for f in found if among is None or f.host in among]

    def _only(
        self, what: str, key: object, found: list[Found], among: Collection[str] | None
    ) -> Found:
        """The only one of them; raises what there is to say of none and of several."""
        if len(found) == 1:
            return found[0]
        if found:
            raise SeveralFound(what, key, tuple(found))
        raise self._absent(what, key, among)

    def _absent(self, what: str, key: object, among: Collection[str] | None) -> DomindexError:
        """What there is to say of a key that nobody has."""
        if not self.live:
            return self._picture.not_live()
        silent = {
            name: state
            for name, state in sorted(self._picture.silent.items())
            if among is None or name in among
        }
        return HostsSilent(what, key, silent) if silent else NoSuchDomain(what, key)

    def _all(
        self, index: KeyIndex[Any, Found], key: Any, among: Collection[str] | None
    ) -> tuple[Found, ...]:
        with self._picture.lock:
            self._staleness.check()
            found = self._held(index, key, among)
            if not found and not isinstance(
                error := self._absent(index.what, key, among), NoSuchDomain
            ):
                raise error
            return tuple(found)

    def _check_hosts(self, among: Collection[str] | None) -> None:
        for name in () if among is None else _as_hosts(among):
            if name not in self._picture.hosts:
                raise NoSuchHost(name)


def _as_hosts(among: Collection[str]) -> Collection[str]:
    if isinstance(among, str) or not isinstance(among, Collection):
        raise InvalidKey(f"among is several names of hosts, as ('xen1', 'xen2'), not {among!r}")
    return among


def _as_states(states: Collection[HostState | str]) -> set[HostState]:
    if isinstance(states, str) or not isinstance(states, Collection):
        raise InvalidKey(f"states is several of them, as ('live',), not {states!r}")
    try:
        return set(map(HostState, states))
    except ValueError as error:
        raise InvalidKey(f"a state is one of {', '.join(HostState)}: {error}") from None


def _by_name(found: Found) -> tuple[bool, str, str, int]:
    name = found.domain.name
    return name is None, name or "", found.host, found.domain.domid
