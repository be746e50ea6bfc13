"""What an index tells of itself and of its host."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """What the watcher counts; the fields are those of `Stats`."""

    events: int = 0
    passes: int = 0
    lists: int = 0
    reads: int = 0
    drift: int = 0
    reconnects: int = 0
    refusals: int = 0
    lag: float = 0.0


@dataclass(frozen=True, slots=True)
class ListenerStats:
    """One subscription or stream of events.

    Attributes:
        name: What `name=` called it, None if it has no name.
        pending: Events that it has not yet been handed.
        oldest: For how many seconds the oldest of these has waited; 0.0 if there is none. What
            `reboot_grace` holds back does not count.
        overflows: Backlogs that were dropped.
        errors: Exceptions of its handler, or of its `where`. A stream raises them instead.
    """

    name: str | None
    pending: int
    oldest: float
    overflows: int
    errors: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters since the index was opened, and sizes now.

    Attributes:
        domains: Domains held.
        names: Names that a single domain has.
        uuids: Uuids that a single domain has.
        generation: That of the index.
        live: Whether the index is live.
        age: Seconds since the host last confirmed that the picture is whole.
        events: Watch events taken in.
        passes: Times the difference was worked out.
        lists: Times the whole list was asked for.
        reads: Names and other nodes read.
        drift: Changes that a probe or an audit found and no event reported.
        reconnects: Lines lost and recovered.
        lag: Seconds from taking in the last event to holding what it led to.
        refusals: Reads, watches and states of single domains that were refused.
        unreadable: Domids of those whose name xenstored does not give now.
        deaf: The special watches do not fire for this caller, so that births and ends are only
            found at each probe.
        listeners: The subscriptions and streams that are open.
        overflows: Backlogs that were dropped, also of listeners that have been closed.
        listener_errors: Failed handlers, also of listeners that have been closed.
    """

    domains: int
    names: int
    uuids: int
    generation: int
    live: bool
    age: float
    events: int
    passes: int
    lists: int
    reads: int
    drift: int
    reconnects: int
    lag: float
    refusals: int
    unreadable: tuple[int, ...]
    deaf: bool
    listeners: tuple[ListenerStats, ...]
    overflows: int
    listener_errors: int

    @property
    def queues(self) -> tuple[int, ...]:
        """For each listener, the events that it has not yet been handed."""
        return tuple(listener.pending for listener in self.listeners)

    @property
    def pending(self) -> int:
        """The same of all listeners together."""
        return sum(self.queues)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this host offers.

    Attributes:
        xen: How the hypervisor was recognised.
        unique_ids: It names every life itself (>= 4.21), so that a reused domid is always
            recognised.
        watch_depth: xenstored says which domain came or went (C xenstored >= 4.22).
        one_watch: One watch stands for the names of all domains, and tells of new uuids at once
            (the same, or oxenstored >= 25.2; not by the xenbus).
    """

    xen: str
    unique_ids: bool
    watch_depth: bool
    one_watch: bool
