"""A real host in a fleet: what its index says is published, and read as it was said.

The store is the one in memory; `tests/fleet` holds it and etcd to one contract. The second host is
a simulated one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from uuid import uuid4

import pytest

import domindex
import domindex.fleet
from domindex.domain import ShutdownReason
from domindex.errors import NoSuchDomain
from domindex.fleet import Fleet, FleetEvent, HostLost, HostState, Moved, Publisher
from domindex.fleet.memory import MemoryStore
from domindex.testing import SimulatedHost
from tests.stage import PATIENCE, eventually

from .toolstack import RealHost


@contextlib.contextmanager
def published(index: domindex.Index, store: MemoryStore, host: str) -> Iterator[Publisher]:
    """`index` under this name of a host."""
    with (
        contextlib.closing(store.connect()) as engine,
        domindex.fleet.publish(
            index, engine, host=host, machine=host, ttl=PATIENCE, lock=False, timeout=PATIENCE
        ) as publisher,
    ):
        yield publisher


def up_to_date(fleet: Fleet, index: domindex.Index, publisher: Publisher) -> None:
    """What was done on the host is in the fleet."""
    index.refresh(timeout=PATIENCE)
    publisher.flush(PATIENCE)
    fleet.refresh(PATIENCE)


def test_what_a_real_host_does_is_in_the_fleet(toolstack: RealHost) -> None:
    """F1, F3: a birth, a rename, a domid that comes back, and a publisher that dies."""
    store = MemoryStore()
    with (
        domindex.connect(timeout=PATIENCE) as index,
        published(index, store, "xen1") as publisher,
        contextlib.closing(store.connect()) as engine,
        domindex.fleet.connect(engine, timeout=PATIENCE) as fleet,
    ):
        uuid = uuid4()
        domid = toolstack.create("web", uuid=uuid)
        up_to_date(fleet, index, publisher)
        found = fleet.by_name("web")
        assert (found.host, found.domain.domid, found.domain.uuid) == ("xen1", domid, uuid)
        assert found.state is HostState.LIVE
        assert found.domain == index.by_name("web")
        toolstack.rename(domid, "www")
        up_to_date(fleet, index, publisher)
        assert fleet.by_uuid(uuid).domain.name == "www"
        toolstack.destroy(domid)
        toolstack.create("web", domid=domid)
        up_to_date(fleet, index, publisher)
        assert fleet.by_name("web").domain.life != found.domain.life
        with pytest.raises(NoSuchDomain):
            fleet.by_uuid(uuid)
        assert {f.domain for f in fleet} == {domain for domain in index if domain.domid}
        publisher.abandon()
        store.expire("xen1")
        eventually(lambda: fleet.hosts["xen1"].state is HostState.LOST, "the host is lost")
        assert fleet.by_name("web").domain.domid == domid


def test_a_guest_moves_from_a_real_host(toolstack: RealHost) -> None:
    """A migration to a simulated host, in the steps of libxl: one Moved, no end and no birth."""
    store, told = MemoryStore(), list[FleetEvent]()
    with (
        SimulatedHost() as other,
        other.connect() as there,
        domindex.connect(timeout=PATIENCE) as here,
        published(here, store, "xen1") as source,
        published(there, store, "xen2") as target,
        contextlib.closing(store.connect()) as engine,
        domindex.fleet.connect(engine, timeout=PATIENCE) as fleet,
    ):
        uuid = uuid4()
        old = toolstack.create("web", uuid=uuid)
        up_to_date(fleet, here, source)
        subscription = fleet.subscribe(told.append, replay=False, move_grace=PATIENCE)
        new = other.create("web--incoming", uuid=uuid)
        up_to_date(fleet, there, target)
        toolstack.shutdown(old, ShutdownReason.SUSPEND)
        up_to_date(fleet, here, source)
        assert {found.host for found in fleet.all_by_uuid(uuid)} == {"xen1", "xen2"}
        toolstack.rename(old, "web--migratedaway")
        other.rename(new, "web")
        up_to_date(fleet, there, target)
        up_to_date(fleet, here, source)
        toolstack.destroy(old)
        up_to_date(fleet, here, source)
        found = fleet.by_name("web")
        assert (found.host, found.domain.domid) == ("xen2", new)
        assert subscription.drain(PATIENCE)
        moves = [event for event in told if isinstance(event, Moved)]
        assert [(move.old.host, move.new.host) for move in moves] == [("xen1", "xen2")]
        assert not [event for event in told if isinstance(event, HostLost)]
