"""F1, F3, F5: whatever happens to hosts, publishers, store and reader, they agree in the end.

And in between the reader holds of each host only what that host's index once said, and a listener
that believes every event knows what the reader holds.
"""

from __future__ import annotations

import contextlib
from unittest import mock
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from domindex.domain import Domain
from domindex.errors import NoSuchDomain, NotLive
from domindex.fleet.layout import dom_key, host_key
from domindex.fleet.moves import Moves
from domindex.fleet.publishing import Superseded
from domindex.fleet.states import HostState
from tests.fleet.stage import Believer, World

NAMES = ("xen1", "xen2", "xen3")
hosts = st.sampled_from(NAMES)
names = st.sampled_from(["web", "db", "web--incoming", "\udcff", ""])
uuids = st.integers(1, 3).map(lambda number: UUID(int=number))
domids = st.integers(1, 5)
faults = st.sampled_from(["before", "after"])


class FleetHistory(RuleBasedStateMachine):
    """Three hosts, one reader, and everything that may go wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        for name in NAMES:
            self.world.add(name, unique_ids=name != "xen3")
        # A listener with graces, on the clock of the test.
        self.patient = Moves(10.0, 20.0, self.world.reader.body.picture.answer)
        self.patient_believer = Believer()
        self.broken = False
        self.spoiled: set[str] = set()
        # Domids that somebody else wrote, since the reader was last seen to hold all.
        self.foreign: dict[str, set[int]] = {name: set() for name in NAMES}
        # One domain to a transaction, so that most words take several of them.
        self.patch = mock.patch("domindex.fleet.publishing.OPERATIONS", 2)
        self.patch.start()

    def teardown(self) -> None:
        """The indexes have threads."""
        self.patch.stop()
        self.world.close()

    # -- what hosts do -----------------------------------------------------------------------

    @rule(name=hosts, domid=domids, called=names, uuid=uuids)
    def create(self, name: str, domid: int, called: str, uuid: UUID) -> None:
        """A guest starts."""
        machine = self.world.machines[name]
        if domid not in machine.host.domids():
            machine.host.create(called, uuid=uuid, domid=domid)
            machine.refresh()

    @rule(name=hosts, domid=domids, called=names)
    def rename(self, name: str, domid: int, called: str) -> None:
        """A guest is renamed."""
        machine = self.world.machines[name]
        if domid in machine.host.domids():
            machine.host.rename(domid, called)
            machine.refresh()

    @rule(name=hosts, domid=domids)
    def destroy(self, name: str, domid: int) -> None:
        """A guest ends."""
        machine = self.world.machines[name]
        if domid in machine.host.domids():
            machine.host.destroy(domid)
            machine.refresh()

    @rule(name=hosts, domid=domids, reason=st.integers(0, 3))
    def shutdown(self, name: str, domid: int, reason: int) -> None:
        """A guest stops."""
        machine = self.world.machines[name]
        if domid in machine.host.domids():
            machine.host.shutdown(domid, reason)
            machine.refresh()

    # -- what publishers do ------------------------------------------------------------------

    @rule(name=hosts)
    def start(self, name: str) -> None:
        """A publisher starts, or is started anew after it died without a word."""
        self.world.publish(self.world.machines[name])
        self.spoiled.discard(name)
        self.write(name)

    @rule(name=hosts)
    def write(self, name: str) -> None:
        """A publisher does what is due."""
        machine = self.world.machines[name]
        with contextlib.suppress(Superseded):
            self.world.write(machine)

    @rule(name=hosts)
    def end(self, name: str) -> None:
        """A publisher ends well, if the store lets it."""
        machine = self.world.machines[name]
        if machine.publishing is not None:
            with contextlib.suppress(Exception):
                machine.publishing.release("for a test")
            machine.publishing = None

    @rule(name=hosts, called=names, count=st.integers(1, 3))
    def write_some(self, name: str, called: str, count: int) -> None:
        """Several guests start at once, and the reader looks amid their being written."""
        machine = self.world.machines[name]
        for domid in {1, 2, 3, 4, 5}.difference(machine.host.domids()):
            machine.host.create(called, domid=domid)
        machine.refresh()
        self.write(name)
        self.world.reader.step(count)

    @rule(name=hosts)
    def die(self, name: str) -> None:
        """A publisher dies."""
        self.world.machines[name].publishing = None

    @rule(name=hosts, fault=faults)
    def fail(self, name: str, fault: str) -> None:
        """Its next commit fails, and whether it was done is not known."""
        self.world.machines[name].engine.fail.append(fault)

    @rule(name=hosts)
    def reboot(self, name: str) -> None:
        """The host boots, with none of its guests."""
        machine = self.world.machines[name]
        machine.publishing = None
        for domid in machine.host.domids():
            if domid:
                machine.host.destroy(domid)
        machine.boot += "+"
        machine.refresh()

    # -- what happens to the store -----------------------------------------------------------

    @rule(seconds=st.sampled_from([0.5, 4.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        """Leases may run out."""
        self.world.clock.pass_by(seconds)

    @rule(name=hosts)
    def expire(self, name: str) -> None:
        """One lease does."""
        self.world.store.expire(name)

    @rule()
    def compact(self) -> None:
        """The store forgets its history."""
        self.world.store.compact()

    @rule()
    def wipe(self) -> None:
        """The store loses everything."""
        self.world.store.wipe()

    @rule(full=st.booleans())
    def fill(self, full: bool) -> None:
        """The store takes no more, or does again."""
        self.world.store.full = full

    @precondition(lambda self: not self.broken)
    @rule()
    def stop(self) -> None:
        """The store answers nobody."""
        self.broken = True
        self.world.store.stop()

    @precondition(lambda self: self.broken)
    @rule()
    def go_on(self) -> None:
        """It answers again."""
        self.broken = False
        self.world.store.go_on()

    @rule(name=hosts, domid=domids)
    def spoil(self, name: str, domid: int) -> None:
        """Somebody writes what is no JSON, and what belongs nowhere."""
        self.spoiled.add(name)
        self.foreign[name].add(domid)
        self.world.store.put(dom_key(name, domid), b"{")
        self.world.store.put("/domindex/v1/strange/thing", b"1")

    @rule(name=hosts)
    def other_version(self, name: str) -> None:
        """A newer publisher has written the record of a host."""
        self.spoiled.add(name)
        self.world.store.put(host_key(name), b'{"v": 2}')

    # -- what the reader does ----------------------------------------------------------------

    @rule(count=st.integers(1, 4))
    def read(self, count: int) -> None:
        """It takes in some of what there is."""
        self.world.reader.step(count)

    @rule()
    def operator(self) -> None:
        """An operator forgets a host, or declares it offline, if nobody publishes it."""
        for name in list(self.world.reader.body.picture.hosts):
            with contextlib.suppress(Exception):
                self.world.reader.fleet.declare_offline(name, timeout=0)

    @rule(name=hosts)
    def forget(self, name: str) -> None:
        """An operator forgets one."""
        with contextlib.suppress(Exception):
            self.world.reader.fleet.forget(name, timeout=0)

    @invariant()
    def nothing_is_made_up(self) -> None:
        """F1: each host's domains are what its index said at one moment.

        But for those that somebody else wrote over. The word of the index is then no more in the
        store: the reader goes on with one that it read before, or holds none.
        """
        for name, held in self.world.reader.domains.items():
            generation = self.world.reader.body.picture.hosts[name].generation
            said = self.world.machines[name].said
            foreign = self.foreign[name]
            assert _without(held, foreign) == _without(said[generation], foreign), (
                name,
                generation,
            )
            for domid in foreign & held.keys():
                assert any(held[domid] == word.get(domid) for word in said.values())

    @invariant()
    def a_listener_knows_it(self) -> None:
        """Its events, and nothing else, led to what is held. One with graces believes them too."""
        reader, now = self.world.reader, self.world.clock()
        for event in self.patient.expired(now):
            self.patient_believer(event)
        for event in reader.heard():
            for told in self.patient.pass_on(event, now):
                self.patient_believer(told)
        believed = {name: held for name, held in reader.believer.domains.items() if held}
        assert believed == {name: held for name, held in reader.domains.items() if held}

    @invariant()
    def look_ups_agree(self) -> None:
        """F2: what is listed is found, and absence is only said by those who can tell."""
        fleet = self.world.reader.fleet
        picture = self.world.reader.body.picture
        listed = {
            (name, domain.domid): domain
            for name, table in picture.hosts.items()
            if table.status.state is not HostState.OFFLINE
            for domain in table.table
        }
        assert {(f.host, f.domain.domid): f.domain for f in fleet} == listed
        for called in ("web", "nobody"):
            found = {(f.host, f.domain.domid) for f in fleet.find() if f.domain.name == called}
            try:
                assert {(f.host, f.domain.domid) for f in fleet.all_by_name(called)} == found
            except NotLive:
                assert not found
                assert picture.silent or not fleet.live
            else:
                if not found:
                    assert fleet.live
        for one in fleet:
            assert one.state is picture.hosts[one.host].status.state

    @rule()
    def all_is_well(self) -> None:
        """F5: when faults end, the reader equals the store, and the store the indexes."""
        world = self.world
        world.store.full = False
        if self.broken:
            self.go_on()
        for name, machine in world.machines.items():
            machine.engine.fail.clear()
            # What was spoiled is written again by the next incarnation at the latest.
            if machine.publishing is None or name in self.spoiled:
                self.start(name)
        world.settle()
        world.settle()
        for name, machine in world.machines.items():
            assert world.reader.states()[name] is HostState.LIVE, (name, machine.publishing)
            truth = machine.look()
            held = world.reader.domains[name]
            assert held == truth
            self.foreign[name].clear()
        for domid in (1, 2, 3):
            with contextlib.suppress(NoSuchDomain, LookupError):
                world.reader.fleet.by_uuid(UUID(int=domid))
        fresh = world.read()
        fresh.catch_up()
        assert fresh.domains == world.reader.domains
        fresh.fleet.close()


def _without(domains: dict[int, Domain], domids: set[int]) -> dict[int, Domain]:
    return {domid: domain for domid, domain in domains.items() if domid not in domids}


TestFleetHistory = FleetHistory.TestCase
TestFleetHistory.settings = settings(
    max_examples=settings().max_examples * 2 // 5, stateful_step_count=50
)
