"""Which events of a fleet a listener asked for.

What is within a host is decided as in an index, by a `Wanted` for each host.

Read after moves.py; next fleet.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, Final, TypeAlias, get_args

from domindex.domain import Domain
from domindex.events import Added, Removed, Synced
from domindex.fleet.answers import NoSuchHost
from domindex.fleet.events import (
    FleetEvent,
    HostBlind,
    HostEvent,
    HostForgotten,
    HostLive,
    HostLost,
    HostOffline,
    HostRenamed,
    InHost,
    Moved,
    Resync,
)
from domindex.fleet.layout import check_host
from domindex.listening.callbacks import check_callable
from domindex.listening.wanted import Wanted, holds

FleetKinds: TypeAlias = Collection[type[Any]] | type[Any]
"""Types of events of a fleet, of `domindex.events` for what is within hosts, or one of them."""


def _members(union: Any) -> set[type[Any]]:
    return {kind for part in get_args(union) for kind in (get_args(part) or (part,))}


_IN_HOST: Final = _members(InHost)
_KINDS: Final = _members(FleetEvent) | _IN_HOST


class FleetWanted:
    """Which events a listener asked for. For one thread at a time, the listener's own.

    Args:
        kinds: Their types, None for all. A `Resync` is always wanted.
        where: Called with a domain, as for an index.
        among: Names of hosts: only what is about these, or about no host.

    Raises:
        ValueError: For kinds that are not types of events.
        TypeError: For a `where` that cannot be called.
        InvalidHost: A name that cannot be that of a host.
    """

    def __init__(
        self,
        kinds: FleetKinds | None,
        where: Callable[[Domain], object] | None,
        among: Collection[str] | None,
    ) -> None:
        self._kinds = None if kinds is None else _as_kinds(kinds)
        if where is not None:
            check_callable("where=", where)
        if isinstance(among, str):
            raise NoSuchHost(among)
        self._among = None if among is None else set(map(check_host, among))
        self._where = where
        self._within: dict[str, Wanted] = {}
        self._began = Synced()

    @property
    def moves(self) -> bool:
        """Whether a `Moved` is wanted."""
        return self._kinds is None or Moved in self._kinds

    def __call__(self, event: FleetEvent) -> FleetEvent | None:
        """The event as the listener is to get it, None if it is not wanted.

        Raises what `where` raises.
        """
        match event:
            case HostEvent(host, inner):
                if not self._is_among(host):
                    return None
                return None if self._of(host)(inner) is None else event
            case Moved(old, new):
                return self._moved(event, old.host, new.host)
            case Resync(found, hosts):
                self._begin(Synced(generation=event.generation))
                return replace(
                    event,
                    found=tuple(
                        f for f in found if self._is_among(f.host) and self._holds(f.domain)
                    ),
                    hosts={name: state for name, state in hosts.items() if self._is_among(name)},
                )
            case Synced():
                self._begin(event)
            case HostForgotten(host):
                self._within.pop(host, None)
                if not self._is_among(host):
                    return None
            case HostRenamed(host, newer):
                if (within := self._within.pop(host, None)) is not None:
                    self._within[newer] = within
                if not (self._is_among(host) or self._is_among(newer)):
                    return None
            case HostLive(host) | HostLost(host) | HostBlind(host) | HostOffline(host):
                if not self._is_among(host):
                    return None
        return event if self._kinds is None or isinstance(event, self._kinds) else None

    def _moved(self, event: Moved, source: str, destination: str) -> FleetEvent | None:
        """A `Moved` stands for a Removed and an Added, for what they leave behind, too."""
        of_old = self._is_among(source) and self._of(source)(Removed(event.old.domain))
        of_new = self._is_among(destination) and self._of(destination)(Added(event.new.domain))
        if not (self._is_among(source) or self._is_among(destination)):
            return None
        if self._where is not None and not (of_old or of_new):
            domains = event.old.domain, event.new.domain
            if not any(map(self._where, domains)):
                return None
        return event if self._kinds is None or Moved in self._kinds else None

    def _begin(self, event: Synced) -> None:
        self._began = event
        self._within.clear()

    def _of(self, host: str) -> Wanted:
        """Decides on what is within this host."""
        if (within := self._within.get(host)) is None:
            kinds = self._kinds
            if kinds is not None:
                kinds = tuple(kind for kind in kinds if kind in _IN_HOST)
            if self._kinds is not None and HostEvent in self._kinds:
                kinds = None
            within = self._within[host] = Wanted(kinds, self._where)
            within(self._began)
        return within

    def _is_among(self, host: str) -> bool:
        return self._among is None or host in self._among

    def _holds(self, domain: Domain) -> object:
        return self._where is None or holds(self._where, domain)


def _as_kinds(kinds: FleetKinds) -> tuple[type[Any], ...]:
    try:
        found = (kinds,) if isinstance(kinds, type) else tuple(kinds)
        if _KINDS.issuperset(found):
            return (*found, Resync)
    except TypeError:  # nothing to iterate over, or what has no hash
        pass
    raise ValueError(f"events= takes types of events, as (HostLost, Moved), not {kinds!r}")
