"""What a listener hears, each kind a type of its own.

Every event carries the `generation` of the index that brought it and the `time` (seconds
since the epoch) at which the index took it in; neither counts when events are compared.
When a handler runs, the index already holds what the event tells, or something newer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from domindex.domain import Domain, ShutdownReason


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    generation: int = field(default=0, compare=False)
    time: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Added(_Told):
    """`domain` runs. Also told for each domain present when a listener subscribes."""

    domain: Domain


@dataclass(frozen=True, slots=True)
class Renamed(_Told):
    """The same life has another name. `old.name` or `new.name` may be None."""

    old: Domain
    new: Domain


@dataclass(frozen=True, slots=True)
class ShutDown(_Told):
    """The guest stopped, its domain still exists: a `Removed` follows, unless it is preserved."""

    domain: Domain
    reason: ShutdownReason


@dataclass(frozen=True, slots=True)
class Changed(_Told):
    """The same life differs in `fields` (of uuid, type, shutdown): a new handle, a resume.

    Pausing, memory and cpu time are not followed: Xen tells nobody of them. Ask `info()`.
    """

    old: Domain
    new: Domain
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Removed(_Told):
    """`domain` runs no more. It is the last state known.

    reason: why it stopped, where that was seen before it went; a domain destroyed while it
        ran has none. inferred: found missing by a re-list after a gap, so that the last
        state, the reason above all, may be an old one.
    """

    domain: Domain
    reason: ShutdownReason | None = None
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class Lost(_Told):
    """The index is no longer live: it may miss changes until `Recovered`. It retries by itself."""

    cause: BaseException


@dataclass(frozen=True, slots=True)
class Recovered(_Told):
    """Live again after `downtime` seconds. The events for the difference came just before."""

    downtime: float


DomainEvent: TypeAlias = Added | Renamed | ShutDown | Changed | Removed
Event: TypeAlias = DomainEvent | Lost | Recovered
