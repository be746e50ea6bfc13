"""Metrics of an index for Prometheus: how it fares, and which domain is called what.

Comes with `pip install domindex[prometheus]`; nothing else in the package imports this file.

A scrape reads memory and asks nobody, so it costs the host nothing and never waits for it. It is
served while the line is down too: then `domindex_live` is 0 and `domindex_age_seconds` grows.

Names change and repeat, so they are labels of one metric only, `domindex_domain_info`. Others
carry domid and uuid, which together are as good as a life, and get the name by a join:

    xen_domain_cpu_seconds_total * on (domid, uuid) group_left (name) domindex_domain_info
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from domindex.core.snapshot import Snapshot
from domindex.domain import printable
from domindex.errors import Closed
from domindex.index import Index
from domindex.stats import Stats

try:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        InfoMetricFamily,
        Metric,
    )
except ImportError as error:
    raise ImportError(
        "domindex.prometheus needs prometheus_client: pip install domindex[prometheus]",
        name=error.name,
    ) from error

_LIVE: Final = "1 while the index follows the host; 0 while what it holds may be out of date."

_GAUGES: Final = {
    "domains": ("domindex_domains", "Domains held."),
    "names": ("domindex_unique_names", "Names that a single domain has."),
    "uuids": ("domindex_unique_uuids", "Uuids that a single domain has."),
    "live": ("domindex_live", _LIVE),
    "age": (
        "domindex_age_seconds",
        "Time since the host last confirmed that the picture is whole.",
    ),
    "lag": (
        "domindex_lag_seconds",
        "Time from taking in the last watch event to holding what it led to.",
    ),
    "deaf": (
        "domindex_deaf",
        "1 if xenstored does not tell this caller of births and ends: they are polled for.",
    ),
    "listeners": ("domindex_listeners", "Subscriptions and streams that are open."),
    "pending": ("domindex_pending_events", "Events that listeners have not yet been handed."),
}
_COUNTERS: Final = {
    "generation": ("domindex_changes_total", "Changes of the index: its generation."),
    "events": ("domindex_events_total", "Watch events taken in."),
    "passes": ("domindex_passes_total", "Times the difference to the host was worked out."),
    "lists": ("domindex_lists_total", "Times the whole list of domains was asked for."),
    "reads": ("domindex_reads_total", "Names and other nodes read from xenstore."),
    "drift": (
        "domindex_drift_total",
        "Changes that no event told of, found by a look.",
    ),
    "refusals": (
        "domindex_refusals_total",
        "Reads, watches and states of single domains that were refused.",
    ),
    "reconnects": ("domindex_reconnects_total", "Lines to the host that were lost and recovered."),
    "overflows": ("domindex_overflows_total", "Backlogs of slow listeners that were dropped."),
    "listener_errors": ("domindex_listener_errors_total", "Calls of handlers that failed."),
}
"""By field of `Stats`: the metric and what it counts. Of `queues` only the longest is told:
listeners have no names, and their places change when one of them goes."""


class DomainCollector:
    """What `index` has to tell, for `CollectorRegistry.register`. Safe from any thread.

    Of a closed index only `domindex_live 0` is left, so that other metrics of the program are
    served nevertheless.

    >>> from domindex.testing import SimulatedHost
    >>> from prometheus_client import CollectorRegistry
    >>> registry = CollectorRegistry()
    >>> with SimulatedHost() as host, host.connect() as index:
    ...     registry.register(DomainCollector(index))
    ...     registry.get_sample_value("domindex_domains")
    1.0
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    def collect(self) -> Iterator[Metric]:
        """The metrics now. Cost: a step for each domain; no call leaves the process."""
        try:
            stats = self._index.stats
            domains = self._index.snapshot(stale="serve")
        except Closed:
            yield GaugeMetricFamily("domindex_live", _LIVE, 0)
            return
        yield from _of_the_index(stats)
        yield from _of_the_domains(domains)


def _of_the_index(stats: Stats) -> Iterator[Metric]:
    for field, (name, text) in _GAUGES.items():
        yield GaugeMetricFamily(name, text, float(getattr(stats, field)))
    for field, (name, text) in _COUNTERS.items():
        yield CounterMetricFamily(name, text, float(getattr(stats, field)))
    yield GaugeMetricFamily(
        "domindex_unreadable_names",
        "Domains whose name xenstored does not give now.",
        len(stats.unreadable),
    )
    yield GaugeMetricFamily(
        "domindex_longest_queue_events",
        "Events that the listener furthest behind has not yet been handed.",
        max(stats.queues, default=0),
    )


def _of_the_domains(domains: Snapshot) -> Iterator[Metric]:
    keys = ("domid", "uuid")
    info = InfoMetricFamily(
        "domindex_domain", "A domain: what it is called, and of which type it is.", labels=keys
    )
    seen = GaugeMetricFamily(
        "domindex_domain_first_seen_timestamp_seconds",
        "When the index first saw this life of the domain; a reboot is a new one.",
        labels=keys,
    )
    # A name may be any bytes; as a label it is text, and an empty label is as good as none.
    for domain in domains.values():
        key = (str(domain.domid), str(domain.uuid))
        info.add_metric(key, {"name": printable(domain.name or ""), "type": str(domain.type)})
        seen.add_metric(key, domain.first_seen)
    yield info
    yield seen
