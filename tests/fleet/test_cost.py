"""What a fleet costs: memory a domain, transactions an event."""

from __future__ import annotations

import gc
import json
import tracemalloc
from uuid import UUID

from domindex.domain import Domain, Life, OSType
from domindex.fleet.layout import alive_key, dom_key, host_key
from domindex.fleet.records import HostRecord, pack_domain, pack_host
from tests.fleet.stage import World

HOSTS, DOMAINS = 20, 100


def test_a_domain_takes_little_memory() -> None:
    """1.25 KiB at most in the reader, with a name, a uuid and a life of its own."""
    with World.open() as world:
        pairs = {}
        for host in range(HOSTS):
            name = f"xen{host}"
            alive = {"i": f"i{host}", "m": f"m{host}"}
            pairs[alive_key(name)] = json.dumps(alive).encode()
            record = HostRecord(f"i{host}", 1, DOMAINS, True, "live", f"m{host}", "boot", 15.0)
            pairs[host_key(name)] = pack_host(record)
            for domid in range(1, DOMAINS + 1):
                number = 1000 * host + domid
                life = Life(domid, number, None, None)
                domain = Domain(domid, UUID(int=number), f"vm-{number}", OSType.PVH, life, 1e9)
                pairs[dom_key(name, domid)] = pack_domain(domain, 1)
        world.reader.catch_up()
        with world.store.changed:
            for key, value in pairs.items():
                world.store.put(key, value)
        world.store.compact()
        gc.collect()
        tracemalloc.start()
        try:
            world.reader.catch_up()
            gc.collect()
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(world.reader.fleet) == HOSTS * DOMAINS
        assert taken / (HOSTS * DOMAINS) <= 1.25 * 1024


def test_an_event_takes_one_transaction_and_many_at_once_take_one() -> None:
    """Folded: what comes while it writes is one difference. Nothing to say writes nothing."""
    with World.open("xen1") as world:
        machine = world.machines["xen1"]
        publishing = machine.publishing
        assert publishing is not None
        before = publishing.transactions
        for number in range(10):
            machine.host.create(f"vm-{number}")
            machine.refresh()
            world.write(machine)
        assert publishing.transactions - before == 10
        for number in range(10, 60):
            machine.host.create(f"vm-{number}")
        machine.refresh()
        world.write(machine)
        assert publishing.transactions - before == 11
        for _ in range(20):
            world.clock.pass_by(5)
            world.write(machine)
        assert publishing.transactions - before == 11
        assert world.reader.states() == {"xen1": "live"}


def test_a_dead_host_costs_readers_nothing_but_its_own_answers() -> None:
    """The answers of other hosts are the same objects as before."""
    with World.open("xen1", "xen2") as world:
        world.machines["xen1"].host.create("web")
        world.machines["xen2"].host.create("db")
        world.settle()
        before = world.reader.fleet.by_name("web")
        world.store.expire("xen2")
        world.reader.catch_up()
        assert world.reader.fleet.by_name("db").state == "lost"
        assert world.reader.fleet.by_name("web") is before
