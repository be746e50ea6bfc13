"""The events of a fleet, each kind a type of its own.

What a host's own index tells comes as `HostEvent`, with an event of `domindex.events` in it.
`Lost`, `Recovered` and `Synced` are those of an index, and tell of the reader's own line.

Every event carries the `generation` of the reader's picture that brought it and the `time`
(seconds since the epoch) at which the reader took it in; neither counts in a comparison. Within
one host events are in order. Between hosts there is none.

Read after states.py; next moves.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from domindex.events import (
    Added,
    Changed,
    DuplicateName,
    DuplicateUuid,
    Lost,
    Ready,
    Rebooted,
    Recovered,
    Removed,
    Renamed,
    ShutDown,
    Synced,
)
from domindex.fleet.states import Found, HostState

InHost: TypeAlias = (
    Added
    | Ready
    | Renamed
    | ShutDown
    | Changed
    | Removed
    | Rebooted
    | DuplicateName
    | DuplicateUuid
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stamped:
    generation: int = field(default=0, compare=False)
    time: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class HostEvent(_Stamped):
    """What the index of `host` tells: `event`, one of `domindex.events`.

    Attributes:
        elsewhere: Other hosts that had a domain with the same uuid at that moment, as the source
            of a live migration has. Only for Added and Removed, without lost hosts, and without
            domains that are migrating in themselves.
    """

    host: str
    event: InHost
    elsewhere: tuple[str, ...] = field(default=(), compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Moved(_Stamped):
    """A live migration: `old` ended and `new` runs in its place, under its final name.

    Told in place of the Removed there and the Added here to a listener with a `move_grace`. The
    `Ready` of `new` follows.
    """

    old: Found
    new: Found


@dataclass(frozen=True, slots=True)
class HostLive(_Stamped):
    """What `host` says holds. The events for what it said came just before."""

    host: str


@dataclass(frozen=True, slots=True)
class HostLost(_Stamped):
    """Nobody publishes `host` any more. Its domains are kept: they may run on.

    Told a second after its lease ran out, if it has not returned by then; at once if it ended.
    """

    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class HostBlind(_Stamped):
    """The publisher of `host` lives, but its index does not follow the host now."""

    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class HostOffline(_Stamped):
    """An operator has said that `host` is off: it counts as holding nothing until it returns.

    No `Removed` is told of its domains, as nobody has seen them end.
    """

    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class HostForgotten(_Stamped):
    """`host` is no longer in the store. A `Removed` for each of its domains came just before."""

    host: str


@dataclass(frozen=True, slots=True)
class HostRenamed(_Stamped):
    """The machine that was `old` publishes as `new`: what `old` had is now of `new`."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class HostsCloned(_Stamped):
    """Several live `hosts` publish with one machine-id: copies of one installation.

    They are kept apart. Give each a machine-id of its own.
    """

    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resync(_Stamped):
    """This listener was too slow and its backlog was dropped: forget all, `found` is there now.

    Attributes:
        found: Every domain by host and domid, those of hosts that are not live too.
        hosts: The state of every host.
    """

    found: tuple[Found, ...]
    hosts: Mapping[str, HostState]


StateEvent: TypeAlias = HostLive | HostLost | HostBlind | HostOffline
FleetEvent: TypeAlias = (
    HostEvent
    | Moved
    | StateEvent
    | HostForgotten
    | HostRenamed
    | HostsCloned
    | Lost
    | Recovered
    | Synced
    | Resync
)
