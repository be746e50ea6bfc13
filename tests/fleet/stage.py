"""Where a fleet plays without threads and without time: hosts, publishers, a store and a reader.

The store is the one in memory, on a clock that a test moves. Publishers and readers are stepped by
hand. The indexes are real ones on simulated hosts; `refresh` makes each of them say what its host
has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from domindex.domain import Domain
from domindex.errors import TimedOut
from domindex.events import Added, Changed, Rebooted, Removed, Renamed, ShutDown
from domindex.fleet import Fleet, FleetEvent, HostEvent, HostForgotten, HostRenamed
from domindex.fleet.body import FleetBody
from domindex.fleet.errors import LineLost
from domindex.fleet.events import (
    HostBlind,
    HostLive,
    HostLost,
    HostOffline,
    Moved,
    Resync,
)
from domindex.fleet.memory import MemoryEngine, MemoryStore
from domindex.fleet.ports import Claim
from domindex.fleet.publishing import Publishing
from domindex.fleet.states import HostState
from domindex.index import Index
from domindex.options import Timing
from domindex.testing import SimulatedHost

CALM = Timing(request=2.0, probe=3600.0, audit=7200.0, retry=0.005, retry_most=0.05)
TTL = 15.0


class Clock:
    """Time, as a test wants it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.now += seconds


class FaultyEngine(MemoryEngine):
    """A line whose next commits fail: before they are done, or after."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store, timeout=0.0)
        self.fail: list[str] = []

    def claim(self, host: str, machine: str, ttl: float) -> Claim:  # type: ignore[override]
        """As `Engine.claim`."""
        return _FaultyClaim(super().claim(host, machine, ttl), self)


class _FaultyClaim:
    def __init__(self, claim: Claim, engine: FaultyEngine) -> None:
        self._claim = claim
        self._engine = engine
        self.host, self.incarnation, self.ttl = claim.host, claim.incarnation, claim.ttl

    def commit(self, puts: Mapping[str, bytes], deletes: Collection[str] = ()) -> int:
        how = self._engine.fail.pop(0) if self._engine.fail else ""
        if how == "before":
            raise LineLost("the line broke before the commit")
        position = self._claim.commit(puts, deletes)
        if how == "after":
            raise LineLost("the line broke after the commit")
        return position

    def renew(self) -> None:
        self._claim.renew()

    def release(self, puts: Mapping[str, bytes] | None = None) -> None:
        self._claim.release(puts)


@dataclass
class Machine:
    """A simulated host with an index, and perhaps a publisher."""

    name: str
    host: SimulatedHost
    index: Index
    engine: FaultyEngine
    boot: str = "boot-1"
    machine: str = ""
    publishing: Publishing | None = None
    said: dict[int, dict[int, Domain]] = field(default_factory=lambda: {-1: {}})
    """What its index held at each generation at which it was looked at."""

    def refresh(self) -> dict[int, Domain]:
        """Have the index hold what the host has; what that is, without dom0."""
        self.index.refresh()
        return self.look()

    def look(self) -> dict[int, Domain]:
        """What the index holds, without dom0."""
        snapshot = self.index.snapshot()
        held = {domid: domain for domid, domain in snapshot.items() if domid}
        return self.said.setdefault(snapshot.generation, held)


class World:
    """Several hosts, one store, one reader."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(self.clock)
        self.machines: dict[str, Machine] = {}
        self.reader = self.read()

    def add(
        self, name: str, *, machine: str = "", unique_ids: bool = True, wait: bool = True
    ) -> Machine:
        """One more host; it is not published yet."""
        host = SimulatedHost(unique_ids=unique_ids)
        index = host.connect(timing=CALM, wait=wait)
        made = Machine(name, host, index, FaultyEngine(self.store), machine=machine or f"m-{name}")
        self.machines[name] = made
        return made

    def publish(self, machine: Machine, *, name: str | None = None) -> Publishing:
        """Begin to publish it, as another incarnation."""
        machine.publishing = Publishing(
            machine.index,
            machine.engine,
            host=name or machine.name,
            machine=machine.machine,
            boot=machine.boot,
            ttl=TTL,
            clock=self.clock,
        )
        return machine.publishing

    def write(self, machine: Machine) -> None:
        """One step of its publisher, if it has one."""
        machine.look()
        if machine.publishing is not None:
            machine.publishing.step()

    def read(self) -> Reader:
        """One more reader."""
        return Reader(self)

    def settle(self) -> None:
        """Have all indexes, publishers and the reader do what there is to do."""
        for machine in self.machines.values():
            machine.refresh()
        for _ in range(4):
            for machine in self.machines.values():
                if machine.publishing is not None:
                    machine.publishing.step()
            self.clock.pass_by(6.0)
        self.reader.catch_up()

    def close(self) -> None:
        """End every index."""
        self.reader.fleet.close()
        for machine in self.machines.values():
            machine.index.close()

    @classmethod
    @contextmanager
    def open(cls, *names: str) -> Iterator[World]:
        """A world with these hosts, all published and held by the reader."""
        world = cls()
        try:
            for name in names:
                world.publish(world.add(name)).step()
            world.reader.catch_up()
            yield world
        finally:
            world.close()


class Reader:
    """A reader that is stepped, and a listener that believes what it is told."""

    def __init__(self, world: World) -> None:
        self.engine = MemoryEngine(world.store, timeout=0.0)
        self.body = FleetBody(self.engine, max_age=math.inf, clock=world.clock)
        self.fleet = Fleet(self.body, "serve")
        self.stream = self.fleet.events(move_grace=0)
        self.believer = Believer()

    def step(self, count: int = 1) -> None:
        """So many steps of its thread."""
        for _ in range(count):
            self.body.following.wake()
            self.body.following.step(0.0, _no_pause)
        self.body.picture.got_on = self.body.picture.clock()

    def catch_up(self) -> None:
        """Step until it has everything."""
        for _ in range(500):
            self.step()
            picture = self.body.picture
            fresh = picture.confirmed == picture.clock()
            if fresh and self.fleet.live and picture.position == self.engine.position(0):
                return
        raise AssertionError(f"it does not catch up: {self.body.picture.state}")

    def heard(self) -> list[FleetEvent]:
        """What its listener was told since the last call."""
        events: list[FleetEvent] = []
        while True:
            try:
                events.append(self.stream.get(0))
            except TimedOut:
                break
        for event in events:
            self.believer(event)
        return events

    @property
    def domains(self) -> dict[str, dict[int, Domain]]:
        """What it holds, by host."""
        hosts = self.body.picture.hosts
        return {
            name: {domain.domid: domain for domain in table.table} for name, table in hosts.items()
        }

    def states(self) -> dict[str, HostState]:
        """The state of each host."""
        return {name: view.state for name, view in self.fleet.hosts.items()}


class Believer:
    """What a listener knows that believes every event, and is never told nonsense."""

    def __init__(self) -> None:
        self.domains: dict[str, dict[int, Domain]] = {}
        self.states: dict[str, HostState] = {}

    def __call__(self, event: FleetEvent) -> None:
        match event:
            case HostEvent(host, Added(domain)):
                held = self.domains.setdefault(host, {})
                assert domain.domid not in held, event
                held[domain.domid] = domain
            case HostEvent(host, Removed(domain)):
                before = self.domains[host].pop(domain.domid)
                assert before.life == domain.life, event
            case HostEvent(host, Rebooted(old, new)):
                held = self.domains[host]
                assert held.pop(old.domid).life == old.life, event
                assert new.domid not in held, event
                held[new.domid] = new
            case HostEvent(host, Renamed(old, new) | Changed(old, new)):
                assert self.domains[host][old.domid] == old, event
                self.domains[host][old.domid] = new
            case HostEvent(host, ShutDown(domain)):
                self.domains[host][domain.domid] = domain
            case HostLive(host):
                self.states[host] = HostState.LIVE
            case HostBlind(host):
                self.states[host] = HostState.BLIND
            case HostLost(host):
                self.states[host] = HostState.LOST
            case HostOffline(host):
                self.states[host] = HostState.OFFLINE
            case HostForgotten(host):
                assert not self.domains.pop(host, {}), event
                self.states.pop(host, None)
            case HostRenamed(old_name, new_name):
                moved = self.domains.pop(old_name, {})
                self.domains[new_name] = {**moved, **self.domains.get(new_name, {})}
                if old_name in self.states:
                    self.states.setdefault(new_name, self.states.pop(old_name))
            case Moved(source, destination):
                del self.domains[source.host][source.domain.domid]
                self.domains.setdefault(destination.host, {})[destination.domain.domid] = (
                    destination.domain
                )
            case Resync(found):
                self.domains = {}
                for one in found:
                    self.domains.setdefault(one.host, {})[one.domain.domid] = one.domain


def _no_pause(_: float) -> None:
    """A pause that takes no time."""


def run_until(condition: Callable[[], bool], step: Callable[[], object], most: int = 500) -> None:
    """Step until it holds."""
    for _ in range(most):
        if condition():
            return
        step()
    raise AssertionError("it did not come about")
