"""Three simulated hosts in one fleet: a migration, a host that dies, and the answers meanwhile.

    python3 fleet.py [etcd://a:2379,b:2379,c:2379]

Without a URL the store is in memory, in this process. A real store is etcd 3.5.28 or newer
(`apt install etcd-server`, then `etcd`), and `pip install '.[fleet]'`.
"""

from __future__ import annotations

import contextlib
import sys
import uuid

import domindex
import domindex.fleet
from domindex.fleet.memory import MemoryStore
from domindex.testing import SimulatedHost

HOSTS = ("xen1", "xen2", "xen3")
LEASE = 2.0


def main() -> int:
    store = MemoryStore()
    url = sys.argv[1] if len(sys.argv) > 1 else None
    print(f"the store: {url or 'in memory; give the URL of an etcd to use that'}", flush=True)
    with contextlib.ExitStack() as stack:
        hosts = {name: stack.enter_context(SimulatedHost()) for name in HOSTS}
        publishers = {}
        for name, host in hosts.items():
            index = stack.enter_context(host.connect())
            publishers[name] = stack.enter_context(
                domindex.fleet.publish(
                    index,
                    url or store.connect(),
                    host=name,
                    machine=f"example-{name}",
                    lock=False,
                    ttl=LEASE,
                )
            )
        fleet = stack.enter_context(domindex.fleet.connect(url or store.connect()))
        events = stack.enter_context(
            fleet.events(events=(domindex.Added, domindex.fleet.Moved, domindex.fleet.HostLost))
        )

        def ask(name: str) -> None:
            try:
                found = fleet.by_name(name)
                print(f"  {name}: domain {found.domain.domid} on {found.host} ({found.state})")
            except (domindex.NoSuchDomain, domindex.NotLive, domindex.Ambiguous) as error:
                print(f"  {name}: {error}")

        web = uuid.uuid4()
        source = hosts["xen1"].create("web", uuid=web)
        print(f"a guest starts: {told(events.get(10))}")
        ask("web")

        print("it migrates to xen2:")
        target = hosts["xen2"].create("web--incoming", uuid=web)
        while len(fleet.all_by_uuid(web)) < 2:
            fleet.refresh()
        try:
            fleet.by_uuid(web)
        except domindex.Ambiguous as error:
            print(f"  meanwhile: {error}")
        print(f"  with settled=True: {fleet.by_uuid(web, settled=True).host}")
        hosts["xen1"].destroy(source)
        hosts["xen2"].rename(target, "web")
        print(f"  {told(events.get(10))}")
        ask("web")

        print("xen2 is killed:")
        publishers["xen2"].abandon()
        print(f"  {told(events.get(3 * LEASE + 2))}")
        ask("web")
        ask("db")

        print("an operator says that it is off:")
        fleet.declare_offline("xen2", "its power supply is broken")
        ask("web")
        if url:
            for publisher in publishers.values():
                publisher.close()
            for name in HOSTS:
                fleet.refresh()
                fleet.forget(name)
    return 0


def told(event: domindex.fleet.FleetEvent) -> str:
    """An event in a few words."""
    match event:
        case domindex.fleet.Moved(old, new):
            return f"{new.domain.printable} moved from {old.host} to {new.host}"
        case domindex.fleet.HostLost(host, reason):
            return f"{host} is lost: {reason}"
        case domindex.fleet.HostEvent(host, domindex.Added(domain)):
            return f"{domain.printable} runs on {host}"
    return type(event).__name__


if __name__ == "__main__":
    sys.exit(main())
