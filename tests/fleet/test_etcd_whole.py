"""Publishers and a reader on a real etcd: the same as on the engine in memory, by its URL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import domindex.fleet
from domindex.testing import SimulatedHost
from tests.fleet import servers
from tests.fleet.conftest import need
from tests.whole.helpers import eventually


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[servers.Etcd]:
    """One member of sid's."""
    need("sid")
    with servers.etcd(tmp_path) as started:
        yield started


def test_from_a_host_to_a_reader_through_etcd(etcd: servers.Etcd) -> None:
    """F1, F3, F7, F9."""
    with (
        SimulatedHost() as host,
        host.connect() as index,
        domindex.fleet.connect(etcd.url) as fleet,
    ):
        with domindex.fleet.publish(index, etcd.url, host="xen1", lock=False) as publisher:
            host.create("web")
            index.refresh()
            generation = publisher.flush()
            fleet.wait_generation("xen1", generation)
            assert fleet.by_name("web").state == "live"
            with pytest.raises(domindex.fleet.HostTaken):
                domindex.fleet.publish(index, etcd.url, host="xen1", machine="x", lock=False)
            for number in range(300):
                host.create(f"vm-{number}")
            index.refresh()
            publisher.flush(30)
            fleet.refresh()
            assert len(fleet) == 301
        fleet.refresh()
        assert fleet.by_name("web").state == "lost"
        fleet.forget("xen1")
        assert list(fleet.hosts) == []


def test_a_publisher_that_dies_is_lost_in_time(etcd: servers.Etcd) -> None:
    """F4, by etcd's own clock; and a restart of the server is gone on from."""
    with (
        SimulatedHost() as host,
        host.connect() as index,
        domindex.fleet.connect(etcd.url) as fleet,
    ):
        publisher = domindex.fleet.publish(index, etcd.url, host="xen1", lock=False, ttl=2)
        with fleet.events(replay=False, events=domindex.fleet.HostLost) as events:
            publisher.abandon()
            lost = events.get(15)
        assert lost == domindex.fleet.HostLost("xen1", "its lease ran out")
        etcd.one.restart()
        with domindex.fleet.publish(index, etcd.url, host="xen1", lock=False, ttl=2):
            eventually(lambda: fleet.live and fleet.hosts["xen1"].state == "live", 20)
        assert fleet.stats.loads == 1
