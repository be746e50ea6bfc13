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
class Stats:
    """Counters since the index was opened, and sizes now.

    domains, names, uuids: held now; names and uuids count those with a single holder.
    age: seconds since the host last confirmed that the picture is whole.
    events: watch events taken in. passes: times the difference was worked out.
    lists: times the whole list was asked for. reads: names and other nodes read. drift: changes
    that a probe or an audit found and no event reported. reconnects: lines lost and recovered.
    lag: seconds from taking in the last event to holding what it led to.
    refusals: reads, watches and states of single domains that were refused. unreadable: the domids
    of those whose name xenstored does not give now. deaf: the special watches do not fire for this
    caller, so that births and ends are only found at each probe.
    listeners: subscriptions and streams. pending: events they have not yet been handed; queues:
    how many for each. overflows: backlogs that were dropped. listener_errors: failed handlers.
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
    listeners: int
    pending: int
    queues: tuple[int, ...]
    overflows: int
    listener_errors: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this host offers.

    xen: how the hypervisor was recognised. unique_ids: it names every life itself (>= 4.21),
    so that a reused domid is always recognised. watch_depth: xenstored says which domain came
    or went (C xenstored >= 4.22). one_watch: one watch stands for the names of all domains, and
    tells of new uuids at once (the same, or oxenstored >= 25.2; not by the xenbus).
    """

    xen: str
    unique_ids: bool
    watch_depth: bool
    one_watch: bool
