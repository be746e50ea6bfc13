"""Real Xen hosts publish to a real etcd over a network, and are read from here.

etcd runs on this machine, at a port of the loopback that each host reaches by its emulated network
card. In dom0 runs `domindex publish`, as users start it. Of the hosts that are chosen those which
boot here are one of each machine: by default an Arm board and a PC, in one fleet.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

import domindex
import domindex.fleet
from domindex.domain import ShutdownReason
from domindex.events import Added, Event, Removed, Renamed
from domindex.fleet import Fleet, FleetEvent, FleetStream, HostEvent, HostState, Moved, SeveralFound
from tests.fleet.conftest import need
from tests.fleet.servers import Etcd, etcd, wait_until
from tests.real.build.debian import HostUnavailable
from tests.real.build.host import RELEASES, BootFailed
from tests.real.build.machine import PC
from tests.real.build.network import OUTSIDE
from tests.real.outside.dom0 import PATIENCE, Dom0
from tests.real.outside.real_host import HOSTS, TIME_LIMIT, no_host
from tests.stage import tale

LEASE = 20.0
"""Seconds; emulated hosts renew it in time on a machine that does other work."""
BOUND = LEASE + 2.0
"""F4: after so many seconds a silent host is known."""

ONE_MACHINE = "needs an Arm host and a PC, as `make test` has without HOSTS"

# The first test waits for the hosts, and before that for packages that are fetched.
pytestmark = [pytest.mark.xen, pytest.mark.timeout(2 * TIME_LIMIT + 300)]


def publishing_hosts() -> list[str]:
    """Of the hosts that are chosen the first of each machine that has no guests of its own."""
    fit = [host for host in HOSTS if not RELEASES[host].dom0less]
    found = {RELEASES[host].machine.name: host for host in reversed(fit)}
    return sorted(found.values(), key=HOSTS.index)


@dataclass
class Published:
    """A real host that publishes under `name`, and what a reader outside has of it."""

    dom0: Dom0
    name: str
    fleet: Fleet
    publishes: bool = False

    def publish(self, name: str | None = None) -> None:
        """Start `domindex publish` there, under its own name or another one."""
        url, lease = f"etcd://{OUTSIDE}", f"{LEASE:g}"
        self.dom0.do("publish", url, "--host", name or self.name, "--ttl", lease)
        self.publishes = True

    def wait_published(self) -> None:
        """Until it says that it is."""
        self.dom0.wait_until_said(f"host {self.name} is published")
        self.wait_live()

    def end_publisher(self, by: str | None) -> int:
        """End it by a signal, or have it end by itself; its exit status."""
        self.publishes = False
        status: int = self.dom0.do("end_publisher", by)
        return status

    def wait_live(self) -> None:
        """Until the reader takes it for live."""
        eventually(lambda: self.state is HostState.LIVE, f"{self.name} is live")

    @property
    def state(self) -> HostState:
        return self.fleet.hosts[self.name].state

    def held(self) -> dict[int, tuple[str | None, str]]:
        """Name and uuid of its domains, by domid, as the reader has them."""
        found = self.fleet.find(host=self.name)
        return {f.domain.domid: (f.domain.name, str(f.domain.uuid)) for f in found}

    def agrees(self) -> None:
        """Wait until the reader has of it what `xl` lists in dom0."""
        listed = {int(domid): tuple(one) for domid, one in self.dom0.do("domains").items()}
        eventually(lambda: self.held() == listed, f"{self.name} has {listed}")

    def clear(self) -> None:
        """Let it have no domain."""
        for domid in self.dom0.do("domains"):
            self.dom0.do("xl", "destroy", domid)
        self.agrees()


def eventually(true: Callable[[], bool], what: str) -> None:
    """Wait for what another machine does."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"it never came to be that {what}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    need("sid")
    with etcd(tmp_path_factory.mktemp("etcd")) as running:
        yield running


@pytest.fixture(scope="module")
def booted(server: Etcd) -> Iterator[list[Published]]:
    """The hosts, and a reader outside."""
    names = publishing_hosts()
    if not names:
        pytest.skip("none of the chosen hosts is for this")
    with contextlib.ExitStack() as stack:
        fleet = stack.enter_context(domindex.fleet.connect(server.url))
        started = [stack.enter_context(Dom0(host, server.one.port)) for host in names]
        hosts = [Published(dom0, f"xen{n}", fleet) for n, dom0 in enumerate(started, 1)]
        for host in hosts:
            try:
                host.dom0.wait_ready()
            except (HostUnavailable, BootFailed) as error:
                no_host(error)
        yield hosts


@pytest.fixture
def hosts(booted: list[Published]) -> list[Published]:
    """They are published and have no guests, whatever a test before has left."""
    publish_all(booted)
    for host in booted:
        host.wait_live()
        host.clear()
        host.dom0.said.clear()
    return booted


def publish_all(hosts: list[Published]) -> None:
    """Start the publishers that do not run, together."""
    missing = [host for host in hosts if not host.publishes]
    for host in missing:
        host.publish()
    for host in missing:
        host.wait_published()


@pytest.fixture
def told(hosts: list[Published]) -> Iterator[FleetStream]:
    """What is told from here on."""
    with hosts[0].fleet.events(replay=False, move_grace=PATIENCE) as events:
        yield events


def news(told: FleetStream, host: Published, domid: int, name: str | None) -> list[str]:
    """What is told of a host until a domain has this name, or has ended if that is None."""
    events = list[Event]()
    while True:
        event = told.get(PATIENCE)
        if not isinstance(event, HostEvent) or event.host != host.name:
            continue
        events.append(event.event)
        match event.event:
            case Added(domain) | Renamed(new=domain) if domain.domid == domid:
                if name is not None and domain.name == name:
                    return tale(events)
            case Removed(domain) if domain.domid == domid and name is None:
                return tale(events)


def test_what_real_hosts_do_is_in_the_fleet(hosts: list[Published], told: FleetStream) -> None:
    """F1, F6: a birth, a rename and a domid that comes back, told as of the host it was on."""
    for host in hosts:
        two_lives(host, told)
    if len(hosts) > 1:
        with pytest.raises(SeveralFound) as several:
            hosts[0].fleet.by_name("www")
        assert [found.host for found in several.value.found] == [host.name for host in hosts]


def two_lives(host: Published, told: FleetStream) -> None:
    """Of one domid, the second under the name that the first had at its end."""
    dom0, fleet, first, second = host.dom0, host.fleet, uuid4(), uuid4()
    domid = dom0.do("create", "web", str(first))
    assert news(told, host, domid, "web") == ["+web"]
    found = fleet.by_uuid(first)
    assert (found.host, found.state) == (host.name, HostState.LIVE)
    assert (found.domain.domid, found.domain.name) == (domid, "web")
    dom0.do("rename", domid, "www")
    assert news(told, host, domid, "www") == ["web>www"]
    assert fleet.by_name("www", among=[host.name]).domain == fleet.by_uuid(first).domain
    dom0.do("destroy", domid)
    assert dom0.do("create", "www", str(second), domid) == domid
    # It may lose its name before it ends.
    assert news(told, host, domid, "www") in (["-www", "+www"], ["-?", "+www"])
    again = fleet.by_uuid(second)
    assert (again.host, again.domain.domid, again.domain.name) == (host.name, domid, "www")
    assert again.domain.life != found.domain.life
    with pytest.raises(domindex.NoSuchDomain):
        fleet.by_uuid(first)
    dom0.do("destroy", domid)
    assert news(told, host, domid, None)[-1] in ("-www", "-?")
    with pytest.raises(domindex.NoSuchDomain):
        fleet.by_uuid(second)
    dom0.do("create", "www", str(first))
    host.agrees()


def test_the_store_restarts(hosts: list[Published], server: Etcd) -> None:
    """F5: what was done while there was no store is in the fleet after."""
    for host in hosts:
        host.dom0.do("create", "before", str(uuid4()))
        host.agrees()
    server.one.end()
    for host in hosts:
        host.dom0.do("create", "meanwhile", str(uuid4()))
        host.dom0.wait_until_said(f"host {host.name} is not published")
    server.one.start()
    server.one.wait_ready()
    for host in hosts:
        host.dom0.wait_until_said(f"host {host.name} is published again")
        host.agrees()
        host.wait_live()


def test_a_host_is_cut_off(hosts: list[Published], told: FleetStream) -> None:
    """F3, F4, F5: lost in time, though its publisher runs; it comes back with what was done."""
    host = hosts[-1]
    domid = host.dom0.do("create", "web", str(uuid4()))
    host.agrees()
    cut = time.monotonic()
    host.dom0.do("network", "down")
    wait_until(lambda: host.state is HostState.LOST, BOUND + (cut - time.monotonic()))
    assert host.fleet.hosts[host.name].reason == "its lease ran out"
    host.dom0.do("rename", domid, "www")
    host.dom0.wait_until_said(f"host {host.name} is not published")
    assert host.fleet.by_name("web").domain.domid == domid
    host.dom0.do("network", "up")
    host.dom0.wait_until_said(f"host {host.name} is published again")
    host.agrees()
    host.wait_live()
    # Nothing has ended and nothing was born for that.
    assert news(told, host, domid, "www") == ["+web", "web>www"]


def test_a_guest_moves_between_real_hosts(hosts: list[Published], told: FleetStream) -> None:
    """In the steps of libxl: for a while both have it, and it is told as one event."""
    if len(hosts) < 2:
        pytest.skip(ONE_MACHINE)
    source, target, fleet, uuid = *hosts, hosts[0].fleet, uuid4()
    old = source.dom0.do("create", "web", str(uuid))
    source.agrees()
    new = target.dom0.do("create", "web--incoming", str(uuid))
    target.agrees()
    source.dom0.do("shut_down", old, ShutdownReason.SUSPEND)
    with pytest.raises(SeveralFound) as several:
        fleet.by_uuid(uuid)
    assert [found.host for found in several.value.found] == [source.name, target.name]
    source.dom0.do("rename", old, "web--migratedaway")
    source.agrees()
    target.dom0.do("rename", new, "web")
    target.agrees()
    found = fleet.by_uuid(uuid, settled=True)
    assert (found.host, found.domain.domid) == (target.name, new)
    source.dom0.do("destroy", old)
    events = list[FleetEvent]()
    while not events or not isinstance(events[-1], Moved):
        events.append(told.get(PATIENCE))
    moved = events[-1]
    assert isinstance(moved, Moved)
    assert (moved.old.host, moved.old.domain.domid) == (source.name, old)
    assert (moved.new.host, moved.new.domain.domid) == (target.name, new)
    ends = [event for event in events if isinstance(event, HostEvent)]
    assert not [event for event in ends if isinstance(event.event, Removed)]
    assert [event.host for event in ends if isinstance(event.event, Added)] == [source.name]
    assert fleet.by_name("web").host == fleet.by_uuid(uuid).host == target.name


def test_xl_migrate_on_a_real_host(hosts: list[Published]) -> None:
    """P5: `xl migrate` to the same host; both are there until the source has ended."""
    pcs = [host for host in hosts if RELEASES[host.dom0.host].machine is PC]
    if not pcs:
        pytest.skip("libxl saves no domain on Arm")
    host, uuid = pcs[0], uuid4()
    # Both halves are on one host, so none is held back for the other.
    with host.fleet.events(replay=False, move_grace=0) as told:
        old = host.dom0.do("xl_create", "web", str(uuid))
        host.agrees()
        host.dom0.do("xl_migrate", old)
        host.agrees()
        texts = news(told, host, old, None)
    found = host.fleet.by_name("web")
    assert found == host.fleet.by_uuid(uuid)
    assert (found.host, found.state) == (host.name, HostState.LIVE)
    assert found.domain.domid != old
    assert texts[:2] == ["+web", "+web--incoming"]
    assert "web--incoming>web" in texts
    assert texts[-1].startswith("-")


def test_a_publisher_is_killed_and_starts_anew(hosts: list[Published], told: FleetStream) -> None:
    """F3, F4, F5, F9: lost in time, its domains kept; then the picture is what the host is."""
    host, fleet = hosts[0], hosts[0].fleet
    stays, ends = (host.dom0.do("create", name, str(uuid4())) for name in ("stays", "ends"))
    host.agrees()
    before = host.held()
    killed = time.monotonic()
    assert host.end_publisher("SIGKILL") == -9
    wait_until(lambda: host.state is HostState.LOST, BOUND + (killed - time.monotonic()))
    assert fleet.hosts[host.name].reason == "its lease ran out"
    assert host.held() == before
    assert fleet.by_name("stays").state is HostState.LOST
    with pytest.raises(domindex.fleet.HostsSilent) as silent:
        fleet.by_name("nobody")
    assert silent.value.hosts == {host.name: HostState.LOST}
    assert all(other.state is HostState.LIVE for other in hosts[1:])
    # Nobody is told of this.
    host.dom0.do("destroy", ends)
    new = host.dom0.do("create", "new", str(uuid4()))
    assert host.held() == before
    publish_all([host])
    host.agrees()
    assert fleet.by_name("stays").domain.domid == stays
    assert sorted(news(told, host, new, "new")) == ["+ends", "+new", "+stays", "-ends"]


def test_a_publisher_is_ended(hosts: list[Published]) -> None:
    """F3: it gives its host up at once, whose domains are kept."""
    host = hosts[-1]
    domid = host.dom0.do("create", "web", str(uuid4()))
    host.agrees()
    assert host.end_publisher("SIGTERM") == 0
    eventually(lambda: host.state is HostState.LOST, "it is lost")
    assert host.fleet.hosts[host.name].reason == "its publisher was closed"
    assert host.fleet.by_name("web").domain.domid == domid


def test_a_name_that_another_host_has_is_refused(booted: list[Published]) -> None:
    """F9: its publisher ends and says why, and the other goes on."""
    if len(booted) < 2:
        pytest.skip(ONE_MACHINE)
    holder, other = booted
    if other.publishes:
        other.end_publisher("SIGTERM")
    publish_all([holder])
    other.publish(holder.name)
    other.dom0.wait_until_said(f"publishes as host {holder.name!r}")
    assert other.end_publisher(None) == 1
    assert holder.state is HostState.LIVE
