"""The events that listeners receive, each kind a type of its own.

Every event carries the `generation` of the index that brought it and the `time` (seconds
since the epoch) at which the index took it in; neither counts when events are compared.
When a handler runs, the index already holds what the event tells, or something newer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias
from uuid import UUID

from domindex.domain import Domain, ShutdownReason


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stamped:
    generation: int = field(default=0, compare=False)
    time: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Added(_Stamped):
    """`domain` runs. A listener also gets one for each domain present when it subscribes."""

    domain: Domain


@dataclass(frozen=True, slots=True)
class Ready(_Stamped):
    """`domain` runs under its final name (see `Domain.ready`). A listener gets it once a life.

    It follows the events of the change that made it so, in their generation: the birth, a name
    that came later, the rename at the end of a migration, a first resume. With replay it follows
    the `Added` of each domain that is ready already. A life that is renamed, suspended and
    resumed, or migrated away without success gets no second one.

    With `where=` it comes when the domain is ready and `where` holds of it for the first time: also
    when a domain that has been ready for long is renamed to the name that is looked for.

    Attributes:
        domain: The record that is ready.
        ceased: If it is not ready for the first time: the generation in which it had ceased to
            be ready, or changed while it was; else 0. Such an event comes only to a listener
            that began later, or whose `where` did not hold before.
        before: The last record of the time before; None if it is ready for the first time.

    Example:
        Run something when a domain is up, whether it is there already, is created, gets its name
        late, is renamed or migrates in:

        >>> from domindex.testing import SimulatedHost
        >>> with SimulatedHost() as host, host.connect() as index:
        ...     web = host.create("web--incoming")
        ...     with index.subscribe(
        ...         lambda event: print(event.domain.name, "is up"),
        ...         events=(Ready,),
        ...         where=lambda domain: domain.name == "web",
        ...     ) as subscription:
        ...         host.rename(web, "web")
        ...         _ = index.refresh()
        ...         _ = subscription.drain()
        web is up
    """

    domain: Domain
    ceased: int = field(default=0, compare=False, repr=False, kw_only=True)
    before: Domain | None = field(default=None, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Renamed(_Stamped):
    """The same life has another name. `old.name` or `new.name` may be None."""

    old: Domain
    new: Domain


@dataclass(frozen=True, slots=True)
class ShutDown(_Stamped):
    """The guest stopped, its domain still exists: a `Removed` follows, unless it is preserved."""

    domain: Domain
    reason: ShutdownReason


@dataclass(frozen=True, slots=True)
class Changed(_Stamped):
    """The same life differs in `fields` (of uuid, type, shutdown): a new handle, a resume.

    Pausing, memory and cpu time are not followed: Xen has no event for them. Ask `info()`.
    """

    old: Domain
    new: Domain
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Removed(_Stamped):
    """`domain` runs no more. It is the last state known, under the last name that it had.

    (libxl takes the name away before it ends the domain.)

    Attributes:
        domain: Its last record.
        reason: Why it stopped, where that was seen before it went; a domain destroyed while it ran
            has none.
        inferred: It was found missing by a re-list after a gap, so that the last state, the reason
            above all, may be an old one.
    """

    domain: Domain
    reason: ShutdownReason | None = None
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class Rebooted(_Stamped):
    """`old` ended and `new` runs in its place: the same uuid, or else the same name.

    Told in place of Removed and Added to a listener that asked for it by `reboot_grace`. The
    `Ready` of `new` follows, as it would follow the Added.
    """

    old: Domain
    new: Domain


@dataclass(frozen=True, slots=True)
class DuplicateName(_Stamped):
    """Several `domains`, lowest domid first, are called `name` now: look-ups say Ambiguous.

    Sent again when one more joins them. Its end is sent as Renamed or Removed.
    """

    name: str
    domains: tuple[Domain, ...]


@dataclass(frozen=True, slots=True)
class DuplicateUuid(_Stamped):
    """Several `domains`, lowest domid first, have this uuid now, as in a local migration."""

    uuid: UUID
    domains: tuple[Domain, ...]


@dataclass(frozen=True, slots=True)
class Synced(_Stamped):
    """A listener has received everything that was there when it subscribed."""


@dataclass(frozen=True, slots=True)
class Resync(_Stamped):
    """This listener was too slow and its backlog was dropped: forget all, `domains` run now.

    In domid order. The index is live, unless a `Lost` comes next. No `Added` and no `Ready`
    follows for these domains: those whose `ready` is true are ready. One that becomes ready
    later is told as `Ready`, even if it was ready before.
    """

    domains: tuple[Domain, ...]


@dataclass(frozen=True, slots=True)
class Lost(_Stamped):
    """The index is no longer live: it may miss changes until `Recovered`. It retries by itself."""

    cause: BaseException


@dataclass(frozen=True, slots=True)
class Recovered(_Stamped):
    """Live again after `downtime` seconds. The events for the difference came just before."""

    downtime: float


DomainEvent: TypeAlias = (
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
LineEvent: TypeAlias = Lost | Recovered | Synced | Resync
Event: TypeAlias = DomainEvent | LineEvent


def about(event: Event) -> tuple[Domain, ...]:
    """The domains that an event tells of, as they were and as they are."""
    match event:
        case Added(domain) | Ready(domain) | Removed(domain) | ShutDown(domain):
            return (domain,)
        case Renamed(old, new) | Changed(old, new) | Rebooted(old, new):
            return old, new
        case DuplicateName(_, domains) | DuplicateUuid(_, domains) | Resync(domains):
            return domains
    return ()


def events_of_change(
    old: Domain | None,
    new: Domain | None,
    generation: int,
    time: float = 0.0,
    inferred: bool = False,
) -> Iterator[DomainEvent]:
    """The events of one change, in order: each starts from the record where the last ended.

    Without its `Ready`, which would be the last: whether it comes depends on earlier changes.
    """
    if old is not None and (new is None or old.life != new.life):
        yield Removed(old, old.shutdown, inferred, generation=generation, time=time)
        old = None
    if new is None:
        return
    if old is None:
        old = new
        yield Added(new, generation=generation, time=time)
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
