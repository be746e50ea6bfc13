"""Metrics of a fleet for Prometheus: its hosts by state, their domains, and the reader itself.

`domindex.prometheus` gives the collector out. A scrape asks nobody: all of it is in memory. It
works while the reader's line is down, too: then `domindex_fleet_live` is 0.

Domains have no series of their own. Of a fleet that would be too many, and each host can tell of
its own with `DomainCollector`.

Read after fleet.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from domindex.errors import Closed
from domindex.fleet.body import FleetStats
from domindex.fleet.clock import reader_clock
from domindex.fleet.fleet import Fleet
from domindex.fleet.states import HostState, HostView

_LIVE: Final = "1 if the reader has all that was written, 0 if it may be out of date."

_GAUGES: Final = {
    "domains": ("domindex_fleet_domains", "Domains of all hosts, as last known."),
    "names": ("domindex_fleet_unique_names", "Names that only one domain has."),
    "uuids": ("domindex_fleet_unique_uuids", "Uuids that only one domain has."),
    "live": ("domindex_fleet_live", _LIVE),
    "age": (
        "domindex_fleet_age_seconds",
        "Time since the store last confirmed that the reader has everything.",
    ),
    "silent": (
        "domindex_fleet_silent_hosts",
        "Hosts that cannot tell now which domains they have.",
    ),
}
_COUNTERS: Final = {
    "generation": ("domindex_fleet_changes_total", "Changes of the picture (its generation)."),
    "batches": ("domindex_fleet_batches_total", "Transactions of the store that were taken in."),
    "loads": ("domindex_fleet_loads_total", "Times the whole store was read."),
    "resumed": ("domindex_fleet_resumed_total", "Lines that broke and were gone on from."),
    "drift": ("domindex_fleet_drift_total", "Times a change had been missed."),
    "bad_values": ("domindex_fleet_bad_values_total", "Values that could not be read."),
    "strange_keys": ("domindex_fleet_strange_keys_total", "Keys that mean nothing to this reader."),
    "overflows": (
        "domindex_fleet_overflows_total",
        "Full queues of slow listeners that were dropped.",
    ),
    "listener_errors": ("domindex_fleet_listener_errors_total", "Exceptions raised by handlers."),
}
"""For each number of `FleetStats`: the metric and its help text."""


class FleetCollector:
    """The metrics of one fleet, for `CollectorRegistry.register`. Safe to use from any thread.

    Once the reader is closed the only metric is `domindex_fleet_live 0`.

    Args:
        fleet: The reader. It stays yours to close.

    >>> import domindex.fleet
    >>> from domindex.testing import SimulatedHost
    >>> from prometheus_client import CollectorRegistry
    >>> registry = CollectorRegistry()
    >>> with SimulatedHost() as host, host.connect() as index:
    ...     with domindex.fleet.of({"xen1": index}) as fleet:
    ...         registry.register(FleetCollector(fleet))
    ...         registry.get_sample_value("domindex_fleet_hosts", {"state": "live"})
    1
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        """The metrics now.

        Returns:
            An iterator over the metric families.

        Cost:
            A step for each host; no request to the store.
        """
        try:
            stats = self._fleet.stats
            # One by one: a host may be forgotten meanwhile, and the lock is not held for long.
            found = [self._fleet.hosts.get(name) for name in self._fleet.hosts]
        except Closed:
            yield GaugeMetricFamily("domindex_fleet_live", _LIVE, 0)
            return
        yield from _of_the_reader(stats)
        yield from _of_the_hosts([host for host in found if host is not None])


def _of_the_reader(stats: FleetStats) -> Iterator[Metric]:
    for field, (name, text) in _GAUGES.items():
        yield GaugeMetricFamily(name, text, float(getattr(stats, field)))
    for field, (name, text) in _COUNTERS.items():
        yield CounterMetricFamily(name, text, float(getattr(stats, field)))
    yield GaugeMetricFamily(
        "domindex_fleet_listeners", "Open subscriptions and event streams.", len(stats.listeners)
    )


def _of_the_hosts(hosts: Sequence[HostView]) -> Iterator[Metric]:
    by_state = GaugeMetricFamily("domindex_fleet_hosts", "Hosts in this state.", labels=("state",))
    counted = Counter(host.state for host in hosts)
    for one in HostState:  # a state that no host is in is 0, so that an alert has a series
        by_state.add_metric((one.value,), counted[one])
    state = GaugeMetricFamily(
        "domindex_fleet_host_state",
        "1 for the state that the host is in.",
        labels=("host", "state"),
    )
    domains = GaugeMetricFamily(
        "domindex_fleet_host_domains", "Domains of the host, as last known.", labels=("host",)
    )
    unreadable = GaugeMetricFamily(
        "domindex_fleet_host_unreadable_domains",
        "Domains of the host of which the store holds what cannot be read.",
        labels=("host",),
    )
    generation = GaugeMetricFamily(
        "domindex_fleet_host_generation", "Of the host's index, of what is held.", labels=("host",)
    )
    age = GaugeMetricFamily(
        "domindex_fleet_host_age_seconds",
        "Time since what is held of the host was last known to be so; absent if that is not known.",
        labels=("host",),
    )
    now = reader_clock()
    for host in hosts:
        if math.isfinite(host.as_of):
            age.add_metric((host.host,), max(0.0, now - host.as_of))
        state.add_metric((host.host, host.state.value), 1)
        domains.add_metric((host.host,), host.domains)
        unreadable.add_metric((host.host,), len(host.unreadable))
        generation.add_metric((host.host,), host.generation)
    yield from (by_state, state, domains, unreadable, age, generation)
