"""The metrics of a fleet, read back as Prometheus reads them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families as parse

import domindex.fleet.prometheus as collecting
from domindex.fleet import Fleet, FleetStats, HostState, connect, layout
from domindex.fleet.joining import publish
from domindex.fleet.memory import MemoryStore
from domindex.prometheus import FleetCollector
from domindex.testing import SimulatedHost

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(fleet: Fleet) -> Samples:
    """Every sample by its name and labels; fails on a series that is told twice."""
    registry = CollectorRegistry()
    registry.register(FleetCollector(fleet))
    samples: Samples = {}
    for family in parse(generate_latest(registry).decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in samples
            samples[key] = sample.value
    return samples


def of(samples: Samples, name: str, **labels: str) -> float | None:
    """One sample; None if there is none."""
    return samples.get((f"domindex_fleet_{name}", frozenset(labels.items())))


def test_hosts_domains_and_the_reader_are_told() -> None:
    """One host is live, one has ended, one has a domain that cannot be read."""
    store = MemoryStore()
    with SimulatedHost() as one, SimulatedHost() as two:
        one.create("web")
        one.create("db")
        broken = one.create("broken")
        two.create("old")
        with (
            one.connect() as first,
            two.connect() as second,
            publish(first, store.connect(), host="xen1", machine="a", lock=False) as publisher,
        ):
            publisher.flush()
            with publish(second, store.connect(), host="xen2", machine="b", lock=False) as ending:
                ending.flush()
            store.put(layout.dom_key("xen1", broken), b"no JSON")
            with connect(store.connect()) as fleet:
                samples = scrape(fleet)
                stats = fleet.stats
    assert {state: of(samples, "hosts", state=state) for state in HostState} == {
        **dict.fromkeys(HostState, 0),
        HostState.LIVE: 1,
        HostState.LOST: 1,
    }
    assert of(samples, "host_state", host="xen2", state="lost") == 1
    assert of(samples, "host_state", host="xen2", state="live") is None
    assert of(samples, "host_domains", host="xen1") == 2
    assert of(samples, "host_domains", host="xen2") == 1
    assert of(samples, "host_unreadable_domains", host="xen1") == 1
    assert of(samples, "host_unreadable_domains", host="xen2") == 0
    age = of(samples, "host_age_seconds", host="xen1")
    assert age is not None
    assert 0 <= age < 60
    assert of(samples, "host_age_seconds", host="xen2") is None  # nobody here knows
    assert of(samples, "bad_values_total") == 1
    assert of(samples, "loads_total") == 1
    assert of(samples, "live") == 1
    told = {**collecting._GAUGES, **collecting._COUNTERS}
    for field, (name, _) in told.items():
        if field not in ("age", "batches"):
            value = of(samples, name.removeprefix("domindex_fleet_"))
            assert value == float(getattr(stats, field)), name
    assert {field.name for field in fields(FleetStats)} == {
        *told,
        *("hosts", "listeners", "position"),  # the first two in other forms; the last is no metric
    }


def test_a_reader_that_is_closed_is_not_live() -> None:
    """And fails no scrape."""
    store = MemoryStore()
    with SimulatedHost() as host, host.connect() as index:
        publisher = publish(index, store.connect(), host="xen1", machine="a", lock=False)
        with publisher, connect(store.connect()) as fleet:
            publisher.flush()
    assert scrape(fleet) == {("domindex_fleet_live", frozenset()): 0}


def test_a_line_that_is_down_is_told() -> None:
    """What was known is told all the same."""
    store = MemoryStore()
    with SimulatedHost() as host, host.connect() as index:
        with publish(index, store.connect(), host="xen1", machine="a", lock=False) as publisher:
            publisher.flush()
        with connect(store.connect(timeout=0.05)) as fleet:
            store.stop()
            fleet.subscribe(lambda event: None)
            for event in fleet.events(replay=False):
                if type(event).__name__ == "Lost":
                    break
            samples = scrape(fleet)
            store.go_on()
    assert of(samples, "live") == 0
    assert of(samples, "hosts", state="lost") == 1
    assert of(samples, "listeners") in (1, 2)


def test_without_prometheus_client_it_says_what_to_install() -> None:
    """Though the fleet's own collector is imported by that file, too."""
    code = "import sys; sys.modules['prometheus_client'] = None; import domindex.prometheus"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "domindex.prometheus needs prometheus_client" in done.stderr.splitlines()[-1]
