"""The metrics: what an index tells Prometheus, read back as Prometheus reads it."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import fields
from typing import Literal
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families as parse

import domindex
from domindex.domain import NIL_UUID, printable
from domindex.prometheus import DomainCollector
from domindex.testing import QUICK, SimulatedHost
from tests.whole.helpers import eventually

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

ONE = UUID("00000000-0000-4000-8000-00000000000a")

RAW_NAMES = (
    *(b"web", b"", b'quo"te', b"back\\slash", b"new\nline", b"\xff\xfe", b"\x1b[2J", b"{}=,"),
    *("ü".encode(), "\u202e".encode(), "\ud800".encode("utf-8", "surrogatepass"), b"\\xff"),
)


def scrape(index: domindex.Index, max_age: float = 0.0) -> Samples:
    """Every sample by its name and labels; fails on a series that is told twice."""
    registry = CollectorRegistry()
    registry.register(DomainCollector(index, max_age=max_age))
    samples: Samples = {}
    for family in parse(generate_latest(registry).decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in samples
            samples[key] = sample.value
    return samples


def value(samples: Samples, name: str) -> float:
    """Of a metric without labels."""
    return samples[name, frozenset()]


def series(samples: Samples, name: str) -> list[dict[str, str]]:
    """The labels of every series of that name, by domid."""
    found = [dict(labels) for metric, labels in samples if metric == name]
    return sorted(found, key=lambda labels: int(labels["domid"]))


def test_every_counter_of_stats_is_told(host: SimulatedHost, index: domindex.Index) -> None:
    """A field that `Stats` gains needs a metric; each says what the field says."""
    told = {**domindex.prometheus._GAUGES, **domindex.prometheus._COUNTERS}
    assert {field.name for field in fields(domindex.Stats)} == {
        *told,
        "listeners",
        "unreadable",
    } - {"pending"}
    web = host.create("web")
    host.refuse_node(web)
    host.rename(web, "www")
    index.refresh()
    stats = index.stats
    assert stats.unreadable == (web,)
    samples = scrape(index)
    for field, (name, _) in told.items():
        if field != "age":  # it has grown meanwhile
            assert value(samples, name) == float(getattr(stats, field)), name
    assert stats.age <= value(samples, "domindex_age_seconds") <= index.stats.age
    assert value(samples, "domindex_live") == 1
    assert value(samples, "domindex_domains") == 2
    assert value(samples, "domindex_longest_queue_events") == 0
    assert value(samples, "domindex_unreadable_names") == 1


def test_the_text_is_good_openmetrics_too(host: SimulatedHost, index: domindex.Index) -> None:
    """Its parser is strict about units, names, suffixes and order."""
    host.create("web")
    index.refresh()
    registry = CollectorRegistry()
    registry.register(DomainCollector(index))
    text: str = exposition.generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    families = list(parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    assert {family.type for family in families} == {"gauge", "counter", "info"}
    assert all(family.documentation.endswith(".") for family in families)


def test_each_domain_is_named(host: SimulatedHost, index: domindex.Index) -> None:
    """One series with domid, uuid, name and type; when the life began to be seen, as another."""
    web = host.create("web", type="pvh", uuid=ONE)
    index.refresh()
    samples = scrape(index)
    assert series(samples, "domindex_domain_info") == [
        {"domid": "0", "uuid": str(NIL_UUID), "name": "Domain-0", "type": "pv"},
        {"domid": str(web), "uuid": str(ONE), "name": "web", "type": "pvh"},
    ]
    key = frozenset({"domid": str(web), "uuid": str(ONE)}.items())
    seen = samples["domindex_domain_first_seen_timestamp_seconds", key]
    assert seen == pytest.approx(index.by_id(web).first_seen)


def test_a_rename_breaks_no_series(host: SimulatedHost, index: domindex.Index) -> None:
    """Only the series that tells the name is another; all others go on under their labels."""
    web = host.create("web", uuid=ONE)
    index.refresh()
    before = scrape(index)
    host.rename(web, "www")
    index.refresh()
    after = scrape(index)
    assert {name for name, _ in before.keys() ^ after.keys()} == {"domindex_domain_info"}
    (changed,) = after.keys() - before.keys()
    assert dict(changed[1])["name"] == "www"
    assert len(after) == len(before)


def test_hostile_names_are_escaped(host: SimulatedHost, index: domindex.Index) -> None:
    """Any bytes are a name; the page stays UTF-8, a line for each series, and names distinct."""
    domids = {host.create(raw): raw for raw in RAW_NAMES}
    index.refresh()
    told = {
        int(labels["domid"]): labels["name"]
        for labels in series(scrape(index), "domindex_domain_info")
    }
    for domid, raw in domids.items():
        assert told[domid] == printable(raw.decode("utf-8", "surrogateescape"))
        assert told[domid].isprintable()
    assert len(set(told.values())) == len(told)


def test_a_domain_without_a_name_is_told(host: SimulatedHost, index: domindex.Index) -> None:
    """With an empty label, which is none for Prometheus."""
    host.create(None)
    index.refresh()
    assert series(scrape(index), "domindex_domain_info")[1]["name"] == ""


def test_two_with_one_uuid_and_one_name_do_not_fail(
    host: SimulatedHost, index: domindex.Index
) -> None:
    """As in a local migration: the domid tells the two apart, in every metric."""
    for _ in range(2):
        host.create("web", uuid=ONE)
    index.refresh()
    samples = scrape(index)
    assert [labels["uuid"] for labels in series(samples, "domindex_domain_info")[1:]] == [
        str(ONE),
        str(ONE),
    ]
    assert value(samples, "domindex_domains") == 3
    assert value(samples, "domindex_unique_names") == 1
    assert value(samples, "domindex_unique_uuids") == 0


@pytest.mark.parametrize("stale", ["serve", "refuse", "wait"])
def test_it_serves_while_not_live(stale: Literal["serve", "refuse", "wait"]) -> None:
    """What was last known, marked as such, at once, whatever look-ups of this index do then."""
    with SimulatedHost() as host, host.connect(QUICK, stale=stale) as index:
        host.create("web")
        index.refresh()
        host.stop_xenstored()
        eventually(lambda: not index.live)
        first, second = scrape(index), scrape(index)
        assert value(first, "domindex_live") == 0
        assert value(first, "domindex_age_seconds") < value(second, "domindex_age_seconds")
        assert [d["name"] for d in series(first, "domindex_domain_info")] == ["Domain-0", "web"]
        host.start_xenstored()
        index.wait_live(timeout=5)
        eventually(lambda: value(scrape(index), "domindex_reconnects_total") == 1)
        assert value(scrape(index), "domindex_live") == 1


def test_a_scrape_makes_one_hypercall(host: SimulatedHost, index: domindex.Index) -> None:
    """P11: for all domains, and none with max_age=; xenstored is not asked."""
    for number in range(30):
        host.create(f"vm-{number}")
    index.refresh()
    before = host.hypercalls, host.requests
    for _ in range(10):
        scrape(index)
    assert (host.hypercalls, host.requests) == (before[0] + 10, before[1])
    for _ in range(10):
        scrape(index, max_age=60.0)
    assert host.hypercalls == before[0] + 10


def test_memory_and_time_of_each_domain(host: SimulatedHost, index: domindex.Index) -> None:
    """With the labels of its name; a dying one is left out."""
    web = host.create("web", uuid=ONE, memory=3 << 30, max_memory=4 << 30, vcpus=3)
    host.zombie(host.create("gone"))
    host.spend(web, 5 * 10**9)
    host.pause(web)
    index.refresh()
    samples = scrape(index)
    key = frozenset({("domid", str(web)), ("uuid", str(ONE))})
    for name, expected in (("memory_bytes", 3 << 30), ("max_memory_bytes", 4 << 30), ("vcpus", 3)):
        assert samples[f"domindex_domain_{name}", key] == expected
        assert len(series(samples, f"domindex_domain_{name}")) == 2
    assert 5 <= samples["domindex_domain_cpu_seconds_total", key] < 6
    assert samples["domindex_domain_state", key | {("state", "paused")}] == 1


def test_a_refused_hypercall_is_no_failed_scrape(
    host: SimulatedHost, index: domindex.Index
) -> None:
    """P9: what memory holds is told."""
    host.refuse_hypercalls()
    samples = scrape(index)
    assert series(samples, "domindex_domain_info")
    assert not series(samples, "domindex_domain_memory_bytes")


def test_listeners_that_are_behind_are_told(host: SimulatedHost, index: domindex.Index) -> None:
    """How many there are, what waits for them, whose backlog was dropped, and who failed."""
    host.create("web")
    index.refresh()
    go_on = threading.Event()

    def fail(event: domindex.Event) -> None:
        go_on.wait()
        raise ValueError(event)

    with (
        index.events(queue=1) as one,
        index.events() as two,
        index.subscribe(fail, events=(domindex.Synced,), replay=False) as failing,
    ):
        samples = scrape(index)
        assert value(samples, "domindex_listeners") == 3
        assert value(samples, "domindex_pending_events") == sum(index.stats.queues)
        assert value(samples, "domindex_longest_queue_events") == two.pending == 5
        for name in ("db", "mail"):
            host.create(name)
            index.refresh()
        assert value(scrape(index), "domindex_overflows_total") == one.overflows == 1
        go_on.set()
        assert failing.drain(timeout=5)
        assert value(scrape(index), "domindex_listener_errors_total") == 1


def test_the_delay_of_listeners_with_a_name_is_told(
    host: SimulatedHost, index: domindex.Index
) -> None:
    """Of two with one name that of the slower."""

    def ages(samples: Samples) -> dict[str, float]:
        metric = "domindex_listener_oldest_event_seconds"
        return {dict(labels)["name"]: v for (name, labels), v in samples.items() if name == metric}

    with index.events(name="log"), index.events(), index.events(name="log") as quick:
        while quick.pending:
            quick.get(timeout=5)
        (pair,) = ages(scrape(index)).items()
        assert pair[0] == "log"
        assert pair[1] > 0
    assert ages(scrape(index)) == {}


def test_a_closed_index_is_no_failed_scrape(host: SimulatedHost) -> None:
    """It says that it is not live, and no more."""
    with host.connect() as index:
        pass
    assert scrape(index) == {("domindex_live", frozenset()): 0}


def test_scrapes_beside_changes(host: SimulatedHost) -> None:
    """None fails, and each tells of dom0 or, at the end, of a closed index."""
    index = host.connect()
    closed = threading.Event()

    def churn() -> None:
        for number in range(50):
            domid = host.create(f"web-{number}")
            index.refresh()
            if number % 2:
                host.destroy(domid)
        index.close()
        closed.set()

    beside = threading.Thread(target=churn)
    beside.start()
    last = False
    while not last:
        last = closed.is_set()
        samples = scrape(index)
        if len(samples) > 1:
            assert value(samples, "domindex_live") == 1
            assert series(samples, "domindex_domain_info")[0]["domid"] == "0"
    beside.join()
    assert scrape(index) == {("domindex_live", frozenset()): 0}


def test_without_the_library_it_says_what_to_install() -> None:
    """And `import domindex` goes without it."""
    code = (
        "import sys; sys.modules['prometheus_client'] = None; import domindex, domindex.testing\n"
        "try:\n    import domindex.prometheus\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "pip install prometheus_client" in done.stdout
