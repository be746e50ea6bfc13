"""Metrics of an index for Prometheus: its own state, and name, memory and CPU time of each domain.

Needs prometheus_client: `pip install '.[prometheus]'` in a checkout. No other file of the package
imports this one.

A scrape makes one hypercall for memory, CPU time and state of all domains; the rest is read from
memory. It works while the line to xenstored is down, too: then `domindex_live` is 0 and
`domindex_age_seconds` grows. If the hypervisor refuses the call, that scrape lacks what it tells.

A name can change, and two domains can have the same one. So names are labels of one metric only,
`domindex_domain_info`. All others are labelled by domid and uuid. Join the name to them:

    domindex_domain_cpu_seconds_total * on (domid, uuid) group_left (name) domindex_domain_info

The collector of a fleet is in fleet/prometheus.py. Read after index.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from domindex.core.snapshot import Snapshot
from domindex.domain import DomainInfo, printable
from domindex.errors import Closed, HostError
from domindex.index import Index
from domindex.stats import Stats

try:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        InfoMetricFamily,
        Metric,
    )
except ImportError as _error:
    raise ImportError(
        "domindex.prometheus needs prometheus_client: pip install prometheus_client",
        name=_error.name,
    ) from _error

if TYPE_CHECKING:
    from domindex.fleet.prometheus import FleetCollector

__all__ = ["DomainCollector", "FleetCollector"]


def __getattr__(name: str) -> Any:
    """Import what is of a fleet when it is used: a program with one host needs none of it."""
    if name == "FleetCollector":
        from domindex.fleet.prometheus import FleetCollector

        return FleetCollector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_LIVE: Final = "1 if the index follows the host, 0 if what it holds may be out of date."

_GAUGES: Final = {
    "domains": ("domindex_domains", "Domains that the index holds."),
    "names": ("domindex_unique_names", "Names that only one domain has."),
    "uuids": ("domindex_unique_uuids", "Uuids that only one domain has."),
    "live": ("domindex_live", _LIVE),
    "age": (
        "domindex_age_seconds",
        "Time since the index was last confirmed by the host.",
    ),
    "lag": (
        "domindex_lag_seconds",
        "Time from the last watch event to the change of the index that it caused.",
    ),
    "deaf": (
        "domindex_deaf",
        "1 if xenstored sends no events when domains start and end: they are polled for.",
    ),
    "pending": ("domindex_pending_events", "Events that wait in the queues of listeners."),
}
_COUNTERS: Final = {
    "generation": ("domindex_changes_total", "Changes of the index (its generation)."),
    "events": ("domindex_events_total", "Watch events received."),
    "passes": ("domindex_passes_total", "Comparisons of the host with the index."),
    "lists": ("domindex_lists_total", "Hypercalls for the whole list of domains."),
    "reads": ("domindex_reads_total", "Names and other nodes read from xenstore."),
    "drift": (
        "domindex_drift_total",
        "Changes that no watch event reported, found by a probe or an audit.",
    ),
    "refusals": (
        "domindex_refusals_total",
        "Refused requests about single domains: reads, watches and states.",
    ),
    "reconnects": (
        "domindex_reconnects_total",
        "Times the line to the host was lost and recovered.",
    ),
    "overflows": ("domindex_overflows_total", "Full queues of slow listeners that were dropped."),
    "listener_errors": ("domindex_listener_errors_total", "Exceptions raised by handlers."),
}
"""For each number of `Stats`: the metric and its help text. Of `queues` only the longest is a
metric: not every listener has a name, and positions change when one of them closes."""


class DomainCollector:
    """The metrics of one index, for `CollectorRegistry.register`. Safe to use from any thread.

    Once the index is closed the only metric is `domindex_live 0`, so that a scrape still gets
    the other metrics of the program.

    Args:
        index: The index. It stays yours to close.
        max_age: What the hypervisor said at most so many seconds ago will do, as for `infos`. So
            several scrapers cost no more than one.

    >>> from domindex.testing import SimulatedHost
    >>> from prometheus_client import CollectorRegistry
    >>> registry = CollectorRegistry()
    >>> with SimulatedHost() as host, host.connect() as index:
    ...     registry.register(DomainCollector(index))
    ...     registry.get_sample_value("domindex_domains")
    1.0
    """

    def __init__(self, index: Index, *, max_age: float = 0.0) -> None:
        self._index = index
        self._max_age = max_age

    def collect(self) -> Iterator[Metric]:
        """The metrics now.

        Returns:
            An iterator over the metric families.

        Cost:
            One hypercall for each 1,024 domains, or none; no request to xenstore.
        """
        try:
            stats = self._index.stats
            domains = self._index.snapshot(stale="serve")
            infos = self._infos()
        except Closed:
            yield GaugeMetricFamily("domindex_live", _LIVE, 0)
            return
        yield from _of_the_index(stats)
        yield from _of_the_domains(domains)
        yield from _of_their_use(infos)

    def _infos(self) -> Iterable[DomainInfo]:
        try:
            return self._index.infos(max_age=self._max_age).values()
        except HostError:
            return ()


def _of_the_index(stats: Stats) -> Iterator[Metric]:
    for field, (name, text) in _GAUGES.items():
        yield GaugeMetricFamily(name, text, float(getattr(stats, field)))
    for field, (name, text) in _COUNTERS.items():
        yield CounterMetricFamily(name, text, float(getattr(stats, field)))
    yield GaugeMetricFamily(
        "domindex_unreadable_names",
        "Domains whose name xenstored refuses to give.",
        len(stats.unreadable),
    )
    yield GaugeMetricFamily(
        "domindex_longest_queue_events",
        "Events in the longest queue of a listener.",
        max(stats.queues, default=0),
    )
    yield GaugeMetricFamily(
        "domindex_listeners", "Open subscriptions and event streams.", len(stats.listeners)
    )
    oldest = GaugeMetricFamily(
        "domindex_listener_oldest_event_seconds",
        "For how long the oldest event has waited for a listener with this name.",
        labels=("name",),
    )
    ages: dict[str, float] = {}  # several listeners may have one name
    for listener in stats.listeners:
        if listener.name is not None:
            ages[listener.name] = max(listener.oldest, ages.get(listener.name, 0.0))
    for name, age in ages.items():
        oldest.add_metric((name,), age)
    yield oldest


def _of_the_domains(domains: Snapshot) -> Iterator[Metric]:
    keys = ("domid", "uuid")
    info = InfoMetricFamily("domindex_domain", "Name and type of a domain.", labels=keys)
    seen = GaugeMetricFamily(
        "domindex_domain_first_seen_timestamp_seconds",
        "When the index first saw the domain. A reboot makes a new domain.",
        labels=keys,
    )
    ready = GaugeMetricFamily(
        "domindex_domain_ready", "1 if the domain runs under its final name.", labels=keys
    )
    # A name may be any bytes, but a label must be text. Prometheus drops empty labels, so a domain
    # without a name and one with an empty name look the same.
    for domain in domains.values():
        key = (str(domain.domid), str(domain.uuid))
        info.add_metric(key, {"name": printable(domain.name or ""), "type": str(domain.type)})
        seen.add_metric(key, domain.first_seen)
        ready.add_metric(key, domain.ready)
    yield info
    yield seen
    yield ready


def _of_their_use(infos: Iterable[DomainInfo]) -> Iterator[Metric]:
    keys, of = ("domid", "uuid"), "domindex_domain_"
    cpu = CounterMetricFamily(of + "cpu_seconds", "CPU time of all its vCPUs.", labels=keys)
    memory = GaugeMetricFamily(of + "memory_bytes", "Memory that it has.", labels=keys)
    most = GaugeMetricFamily(of + "max_memory_bytes", "Memory that it may have.", labels=keys)
    vcpus = GaugeMetricFamily(of + "vcpus", "vCPUs that are online.", labels=keys)
    text = "1 for its state: crashed, shutdown, paused, running, blocked or runnable."
    state = GaugeMetricFamily(of + "state", text, labels=(*keys, "state"))
    for info in infos:
        key = (str(info.domid), str(info.uuid))
        cpu.add_metric(key, info.cpu_time / 1e9)
        memory.add_metric(key, info.memory)
        most.add_metric(key, info.max_memory)
        vcpus.add_metric(key, info.vcpus)
        state.add_metric((*key, info.state), 1)
    yield from (cpu, memory, most, vcpus, state)
