"""A guest that reboots on one host is told as one event, beside migrations to other hosts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import domindex.fleet
import domindex.fleet.aio
from domindex.domain import Domain, Life, OSType, ShutdownReason
from domindex.errors import TimedOut
from domindex.events import Added, Ready, Rebooted, Removed, Renamed
from domindex.fleet import (
    FleetEvent,
    FleetStream,
    Found,
    HostEvent,
    HostForgotten,
    HostRenamed,
    Moved,
)
from domindex.fleet.memory import MemoryStore
from domindex.fleet.moves import Moves
from domindex.fleet.states import HostState, Status
from domindex.testing import SimulatedHost
from tests.fleet.stage import Believer, Machine, World

UUID1 = UUID(int=1)
LONG = 60.0
SHORT = 0.01


def told(stream: FleetStream) -> list[str]:
    """What came since: the kinds, within hosts with the host."""
    found: list[str] = []
    while True:
        try:
            event = stream.get(0)
        except TimedOut:
            return found
        found.append(said(event))


def said(event: FleetEvent) -> str:
    match event:
        case HostEvent(host, inner):
            return f"{host} {type(inner).__name__}"
        case Moved(old, new):
            return f"Moved {old.host} {new.host}"
    return type(event).__name__


class Guest:
    """`web` on xen1, and a listener with both graces."""

    def __init__(self, world: World, **graces: float) -> None:
        self.world = world
        self.one, self.two = world.machines["xen1"], world.machines["xen2"]
        self.domid = self.one.host.create("web", uuid=UUID1)
        world.settle()
        self.stream = world.reader.fleet.events(replay=False, **graces)  # type: ignore[arg-type]  # floats
        told(self.stream)

    def read(self, machine: Machine) -> list[str]:
        """This host is published, and the reader takes it in; what the listener gets of it."""
        machine.refresh()
        self.world.write(machine)
        self.world.reader.catch_up()
        return told(self.stream)


@pytest.fixture
def world() -> Iterator[World]:
    """Two hosts."""
    with World.open("xen1", "xen2") as opened:
        yield opened


def test_a_reboot_is_one_event(world: World) -> None:
    """With both records, as an index tells it, and followed by its Ready."""
    guest = Guest(world, reboot_grace=LONG)
    (old,) = world.reader.domains["xen1"].values()
    guest.one.host.destroy(guest.domid)
    assert guest.read(guest.one) == []
    new = guest.one.host.create("web", uuid=UUID1)
    guest.one.refresh()
    world.write(guest.one)
    world.reader.catch_up()
    event = guest.stream.get(5)
    assert event == HostEvent("xen1", Rebooted(old, guest.one.look()[new]))
    assert event.generation > 0
    assert event.generation == event.event.generation
    assert told(guest.stream) == ["xen1 Ready"]


def test_without_a_grace_both_halves_are_told(world: World) -> None:
    """It is 0 unless a listener says otherwise, as in an index."""
    guest = Guest(world)
    guest.one.host.destroy(guest.domid)
    guest.one.host.create("web", uuid=UUID1)
    assert guest.read(guest.one) == ["xen1 Removed", "xen1 Added", "xen1 Ready"]


def test_a_guest_that_does_not_come_back_is_told_after_the_grace(world: World) -> None:
    """And a start after that is a start."""
    guest = Guest(world, reboot_grace=SHORT)
    guest.one.host.destroy(guest.domid)
    guest.one.refresh()
    world.write(guest.one)
    world.reader.catch_up()
    assert said(guest.stream.get(10)) == "xen1 Removed"
    guest.one.host.create("web", uuid=UUID1)
    assert guest.read(guest.one) == ["xen1 Added", "xen1 Ready"]


@pytest.mark.parametrize("reason", [ShutdownReason.POWEROFF, ShutdownReason.CRASH])
def test_an_end_that_is_no_reboot_is_told_at_once(world: World, reason: ShutdownReason) -> None:
    """As in an index."""
    guest = Guest(world, reboot_grace=LONG)
    guest.one.host.shutdown(guest.domid, reason)
    guest.read(guest.one)
    guest.one.host.destroy(guest.domid)
    assert guest.read(guest.one) == ["xen1 Removed"]


def test_a_start_on_another_host_is_no_reboot(world: World) -> None:
    """It ends the hold: the end there and the start here are told at once, in this order."""
    guest = Guest(world, reboot_grace=LONG)
    guest.one.host.destroy(guest.domid)
    assert guest.read(guest.one) == []
    guest.two.host.create("web", uuid=UUID1)
    assert guest.read(guest.two) == ["xen1 Removed", "xen2 Added", "xen2 Ready"]
    guest.one.host.create("web", uuid=UUID1)
    assert "xen1 Rebooted" not in guest.read(guest.one)


def test_the_same_name_on_another_host_is_no_reboot(world: World) -> None:
    """Names are used again on every host."""
    guest = Guest(world, reboot_grace=LONG)
    guest.one.host.destroy(guest.domid)
    guest.read(guest.one)
    guest.two.host.create("web", uuid=UUID(int=2))
    assert guest.read(guest.two) == ["xen2 Added", "xen2 Ready"]
    guest.one.host.create("web", uuid=UUID(int=3))
    assert guest.read(guest.one) == ["xen1 Rebooted", "xen1 Ready"]


class Undecided(Guest):
    """It has ended under a passing name, for an unknown reason: it may have left, or reboot."""

    def __init__(self, world: World, **graces: float) -> None:
        super().__init__(world, **graces)
        self.one.host.rename(self.domid, "web--migratedaway")
        self.read(self.one)
        self.one.host.destroy(self.domid)
        assert self.read(self.one) == []


@pytest.mark.parametrize("answer", ["reboot", "migration"])
def test_either_answer_ends_the_hold(world: World, answer: str) -> None:
    """And nothing is told twice, whatever comes afterwards."""
    guest = Undecided(world, reboot_grace=LONG, move_grace=LONG)
    if answer == "reboot":
        guest.one.host.create("web", uuid=UUID1)
        assert guest.read(guest.one) == ["xen1 Rebooted", "xen1 Ready"]
        guest.two.host.create("web--incoming", uuid=UUID1)
        assert guest.read(guest.two) == []  # it is held, as a migration may follow
    else:
        arrived = guest.two.host.create("web--incoming", uuid=UUID1)
        assert guest.read(guest.two) == []
        guest.two.host.rename(arrived, "web")
        assert guest.read(guest.two) == ["Moved xen1 xen2", "xen2 Ready"]
        guest.one.host.create("web", uuid=UUID1)
        assert "xen1 Rebooted" not in guest.read(guest.one)


@pytest.mark.parametrize(
    "graces", [{"reboot_grace": SHORT, "move_grace": SHORT}, {"reboot_grace": SHORT}]
)
def test_an_undecided_end_is_told_once_after_the_longer_grace(
    world: World, graces: dict[str, float]
) -> None:
    """The default of a migration's is the longer one, so it is still held then."""
    guest = Undecided(world, **graces)
    if len(graces) == 2:
        assert said(guest.stream.get(10)) == "xen1 Removed"
    else:
        with pytest.raises(TimedOut):
            guest.stream.get(10 * SHORT)
    assert told(guest.stream) == []


def test_a_passing_name_is_that_of_a_migration(world: World) -> None:
    """Also where a domain with that uuid has just ended on the same host."""
    copy = world.machines["xen2"].host.create("copy", uuid=UUID1)
    guest = Guest(world, reboot_grace=LONG, move_grace=LONG)
    guest.two.host.destroy(copy)
    guest.read(guest.two)
    arrived = guest.two.host.create("web--incoming", uuid=UUID1)
    guest.one.host.destroy(guest.domid)
    assert guest.read(guest.two) == []
    assert guest.read(guest.one) == []
    guest.two.host.rename(arrived, "web")
    assert guest.read(guest.two) == ["Moved xen1 xen2", "xen2 Ready"]


def test_another_guest_on_the_domid_of_an_end_that_is_held_comes_after_it(world: World) -> None:
    """F6: so that a domid never has two domains."""
    guest = Guest(world, reboot_grace=LONG)
    guest.one.host.destroy(guest.domid)
    assert guest.read(guest.one) == []
    guest.one.host.create("db", uuid=UUID(int=2), domid=guest.domid)
    assert guest.read(guest.one) == ["xen1 Removed", "xen1 Added", "xen1 Ready"]


def test_a_guest_reboots_again_and_again(world: World) -> None:
    """Each end is told once."""
    guest = Guest(world, reboot_grace=LONG)
    domid = guest.domid
    for _ in range(3):
        guest.one.host.destroy(domid)
        assert guest.read(guest.one) == []
        domid = guest.one.host.create("web", uuid=UUID1)
        assert guest.read(guest.one) == ["xen1 Rebooted", "xen1 Ready"]


def test_a_migration_within_one_host_is_as_in_an_index(world: World) -> None:
    """`xl migrate` to localhost: the source is saved, which is no reboot."""
    guest = Guest(world, reboot_grace=LONG, move_grace=SHORT)
    arrived = guest.one.host.create("web--incoming", uuid=UUID1)
    assert guest.read(guest.one) == ["xen1 Added", "xen1 DuplicateUuid"]
    guest.one.host.shutdown(guest.domid, ShutdownReason.SUSPEND)
    guest.one.host.rename(guest.domid, "web--migratedaway")
    guest.read(guest.one)
    guest.one.host.destroy(guest.domid)
    guest.one.host.rename(arrived, "web")
    guest.read(guest.one)
    assert said(guest.stream.get(10)) == "xen1 Removed"


def test_moves_may_be_off_beside_reboots(world: World) -> None:
    """A listener that does not ask for Moved gets reboots all the same."""
    guest = Guest(world, reboot_grace=LONG)
    kinds = (Added, Removed, Rebooted)
    guest.stream = world.reader.fleet.events(replay=False, events=kinds, reboot_grace=LONG)
    guest.one.host.rename(guest.domid, "web--migratedaway")
    guest.read(guest.one)
    guest.one.host.destroy(guest.domid)
    guest.two.host.create("web--incoming", uuid=UUID1)
    assert guest.read(guest.one) == []
    assert guest.read(guest.two) == ["xen1 Removed", "xen2 Added"]


def test_a_forgotten_host_has_told_its_ends_before(world: World) -> None:
    """HostForgotten comes after a Removed for each of its domains, also of those held back."""
    guest = Guest(world, reboot_grace=LONG, move_grace=LONG)
    assert guest.one.publishing is not None
    guest.one.publishing.release("for a test")
    guest.one.publishing = None
    world.reader.catch_up()
    told(guest.stream)
    world.reader.fleet.forget("xen1", timeout=0)
    world.reader.catch_up()
    assert told(guest.stream) == ["xen1 Removed", "HostForgotten"]


def test_a_renamed_host_has_told_its_ends_before(world: World) -> None:
    """Under the new name nothing is told of a life that it never had."""
    guest = Guest(world, reboot_grace=LONG)
    guest.one.host.destroy(guest.domid)
    assert guest.read(guest.one) == []
    assert guest.one.publishing is not None
    guest.one.publishing.release("for a test")
    world.publish(guest.one, name="xen9").step()
    world.reader.catch_up()
    words = [word for word in told(guest.stream) if word.split()[-1] in ("Removed", "HostRenamed")]
    assert words == ["xen1 Removed", "HostRenamed"]


def test_a_rebooted_host_reboots_its_guests(world: World) -> None:
    """Each has another life, on the same domid even."""
    guest = Guest(world, reboot_grace=LONG)
    guest.one.host.destroy(guest.domid)
    guest.one.host.create("web", uuid=UUID1, domid=guest.domid)
    guest.one.boot = "boot-2"
    world.publish(guest.one)
    world.settle()
    assert "xen1 Rebooted" in told(guest.stream)


@pytest.mark.parametrize("grace", [-1, float("nan"), "10", True])
def test_a_grace_that_is_none_is_refused(world: World, grace: Any) -> None:
    """As in an index, before anything begins."""
    for options in ({"reboot_grace": grace}, {"move_grace": grace}):
        with pytest.raises((ValueError, TypeError)):
            world.reader.fleet.events(**options)
        with pytest.raises((ValueError, TypeError)):
            world.reader.fleet.subscribe(print, **options)


def test_handlers_and_tasks_have_it_too() -> None:
    """`subscribe` in a thread, and `events` of asyncio."""
    store = MemoryStore()
    heard: list[str] = []

    async def main(host: SimulatedHost, domid: int) -> None:
        async with (
            domindex.fleet.aio.connect(store.connect()) as fleet,
            fleet.events(replay=False, events=Rebooted, reboot_grace=LONG) as events,
        ):
            host.reboot(domid)
            event = await asyncio.wait_for(anext(events), 10)
            assert said(event) == "xen1 Rebooted"

    with (
        SimulatedHost() as host,
        host.connect() as index,
        domindex.fleet.publish(index, store.connect(), host="xen1", lock=False),
        domindex.fleet.connect(store.connect()) as fleet,
    ):
        domid = host.create("web", uuid=UUID1)
        fleet.refresh()
        fleet.wait_generation("xen1", index.refresh())
        subscription = fleet.subscribe(
            lambda event: heard.append(said(event)), events=Rebooted, reboot_grace=LONG
        )
        asyncio.run(main(host, domid))
        fleet.refresh()
        assert subscription.drain(10)
    assert heard == ["xen1 Rebooted"]


# -- whatever happens, in whatever order ---------------------------------------------------------

_NAMES = ("web", "db", "web--incoming", "web--migratedaway", None)
_REASONS = (None, ShutdownReason.REBOOT, ShutdownReason.SUSPEND, ShutdownReason.CRASH)
_HOSTS = ("xen1", "xen2")
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "end", "end", "end", "rename", "forget", "host"]),
        st.sampled_from(_HOSTS),
        st.integers(1, 2),
        st.integers(0, 2),
        st.sampled_from(_NAMES),
        st.sampled_from(_REASONS),
        st.sampled_from([0.0, 0.0, 4.0, 11.0]),
    ),
    min_size=15,
    max_size=40,
)


def made(domid: int, name: str | None, uuid: int, life: int) -> Domain:
    """A domain that is the only one of its life."""
    return Domain(domid, UUID(int=uuid), name, OSType.PVH, Life(domid, life, None, None), 0.0, None)


class Play:
    """What hosts do, as the picture tells it, and as a listener with graces is told."""

    def __init__(self, moves: Moves) -> None:
        self.moves = moves
        self.now = 0.0
        self.truth: dict[str, dict[int, Domain]] = {host: {} for host in _HOSTS}
        self.believer = Believer()
        self.starts: Counter[object] = Counter()
        self.ends: Counter[object] = Counter()
        self.born = 0

    def tell(self, event: FleetEvent) -> None:
        for one in self.moves.pass_on(event, self.now):
            self.hear(one)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for one in self.moves.expired(self.now):
            self.hear(one)

    def hear(self, event: FleetEvent) -> None:
        self.believer(event)
        match event:
            case HostEvent(_, Added(new)):
                self.starts[new.life] += 1
            case HostEvent(_, Removed(old)):
                self.ends[old.life] += 1
            case HostEvent(_, Rebooted(old, new)):
                assert old.uuid == new.uuid != UUID(int=0) or old.name == new.name is not None
                self.starts[new.life] += 1
                self.ends[old.life] += 1
            case Moved(source, destination):
                assert source.host != destination.host
                assert source.domain.uuid == destination.domain.uuid
                self.starts[destination.domain.life] += 1
                self.ends[source.domain.life] += 1

    def step(self, what: str, host: str, domid: int, uuid: int, name: Any, reason: Any) -> None:
        held = self.truth[host]
        match what:
            case "add" if domid not in held:
                self.born += 1
                new = made(domid, name, uuid, self.born)
                elsewhere = tuple(
                    other
                    for other, domains in self.truth.items()
                    if other != host and any(d.uuid == new.uuid for d in domains.values())
                )
                held[domid] = new
                self.tell(HostEvent(host, Added(new), elsewhere=elsewhere if uuid else ()))
                if new.ready:
                    self.tell(HostEvent(host, Ready(new)))
            case "end" if domid in held:
                self.tell(HostEvent(host, Removed(held.pop(domid), reason)))
            case "rename" if domid in held and held[domid].name != name:
                old, held[domid] = held[domid], replace(held[domid], name=name)
                self.tell(HostEvent(host, Renamed(old, held[domid])))
            case "forget":
                for old in held.values():
                    self.tell(HostEvent(host, Removed(old, None, True)))
                held.clear()
                self.tell(HostForgotten(host))
            case "host":
                other = f"{host}-b"
                self.truth[host], self.truth[other] = {}, held
                self.tell(HostRenamed(host, other))
                self.truth[host] = self.truth.pop(other)
                self.tell(HostRenamed(other, host))


def _answer(host: str, domain: Domain) -> Found:
    nobody: Any = None
    return Found(domain, Status(host, "", HostState.LIVE, "", 0.0, 0.0, nobody))


@given(_STEPS, st.sampled_from([0.0, 10.0]), st.sampled_from([0.0, 5.0, 20.0]))
def test_a_listener_with_graces_comes_to_know_the_same(
    steps: list[tuple[Any, ...]], move_grace: float, reboot_grace: float
) -> None:
    """F6: no life starts or ends twice, in no order that a strict listener would not believe."""
    play = Play(Moves(move_grace, reboot_grace, _answer))
    for *step, seconds in steps:
        play.wait(seconds)
        play.step(*step)
    for host, held in play.truth.items():  # what is under a passing name is held without a limit
        for domid in list(held):
            play.step("rename", host, domid, 0, f"last-{domid}", None)
    play.wait(1000.0)
    assert play.moves.due is None
    believed = {host: held for host, held in play.believer.domains.items() if held}
    assert believed == {host: held for host, held in play.truth.items() if held}
    assert set(play.starts.values()) | set(play.ends.values()) <= {1}
    assert play.ends.keys() <= play.starts.keys()
