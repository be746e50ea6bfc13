"""A live migration is told as one event, whatever the order between the hosts."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from domindex.domain import ShutdownReason
from domindex.errors import TimedOut
from domindex.events import Added, Removed, Renamed
from domindex.fleet import FleetEvent, HostEvent, Moved
from tests.fleet.stage import World

UUID1 = UUID(int=1)


class Migration:
    """`web` moves from xen1 to xen2 as `xl migrate` does it, and a listener with a grace."""

    def __init__(self, world: World, grace: float = 30.0) -> None:
        self.world = world
        self.one, self.two = world.machines["xen1"], world.machines["xen2"]
        self.source = self.one.host.create("web", uuid=UUID1)
        world.settle()
        self.stream = world.reader.fleet.events(replay=False, move_grace=grace)
        self.told()

    def told(self) -> list[str]:
        """What came since: the kinds, within hosts with the host."""
        found: list[str] = []
        while True:
            try:
                event = self.stream.get(0)
            except TimedOut:
                return found
            found.append(said(event))

    def read(self, machine: str) -> None:
        """This host is published, and the reader takes it in."""
        self.world.machines[machine].refresh()
        self.world.write(self.world.machines[machine])
        self.world.reader.catch_up()

    def arrive(self) -> None:
        """The destination is made, under a passing name."""
        self.destination = self.two.host.create("web--incoming", uuid=UUID1)
        self.read("xen2")

    def suspend(self) -> None:
        """The source stops."""
        self.one.host.shutdown(self.source, ShutdownReason.SUSPEND)
        self.read("xen1")

    def leave(self) -> None:
        """The source is renamed and ends."""
        self.one.host.rename(self.source, "web--migratedaway")
        self.one.refresh()
        self.one.host.destroy(self.source)
        self.read("xen1")

    def settle(self) -> None:
        """The destination gets its name."""
        self.two.host.rename(self.destination, "web")
        self.read("xen2")


def said(event: FleetEvent) -> str:
    """In one word or two."""
    match event:
        case HostEvent(host, inner):
            return f"{host} {type(inner).__name__}"
        case Moved(old, new):
            assert (old.domain.uuid, new.domain.uuid) == (UUID1, UUID1)
            assert new.domain.ready
            return f"Moved {old.host} {new.host}"
    return type(event).__name__


ORDERS: list[tuple[str, ...]] = [
    ("arrive", "suspend", "leave", "settle"),
    ("arrive", "suspend", "settle", "leave"),
    ("suspend", "leave", "arrive", "settle"),
    ("arrive", "leave", "settle"),
    ("arrive", "settle", "leave"),
]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_a_migration_is_one_event(order: tuple[str, ...]) -> None:
    """Neither end is told, and the destination not before it has its name."""
    with World.open("xen1", "xen2") as world:
        migration = Migration(world)
        told: list[str] = []
        for step in order:
            told += getattr(migration, step)() or migration.told()
        told = [word for word in told if word not in ("xen1 ShutDown", "xen1 Renamed", "HostLive")]
        assert told == ["Moved xen1 xen2", "xen2 Ready"]
        assert world.reader.fleet.by_uuid(UUID1).host == "xen2"


def test_a_migration_that_fails_tells_nothing_of_its_destination() -> None:
    """It never ran there."""
    with World.open("xen1", "xen2") as world:
        migration = Migration(world)
        migration.arrive()
        migration.two.host.destroy(migration.destination)
        migration.read("xen2")
        assert migration.told() == []


def test_a_domain_that_just_ends_is_told_at_once() -> None:
    """Nothing looks like a migration."""
    with World.open("xen1", "xen2") as world:
        migration = Migration(world)
        migration.one.host.destroy(migration.source)
        migration.read("xen1")
        assert migration.told() == ["xen1 Removed"]


def test_a_half_whose_other_half_does_not_come_is_told_after_the_grace() -> None:
    """It waits for its own time, which the test makes short."""
    with World.open("xen1", "xen2") as world:
        migration = Migration(world, grace=0.01)
        migration.suspend()
        migration.leave()
        event = migration.stream.get(5)
        while not (isinstance(event, HostEvent) and isinstance(event.event, Removed)):
            event = migration.stream.get(5)
        assert event.event.reason is ShutdownReason.SUSPEND
        migration.arrive()
        migration.settle()
        kinds = [type(event.event) for event in _two(migration.stream.get)]
        assert kinds == [Added, Renamed]


def _two(get: Callable[[float], FleetEvent]) -> list[HostEvent]:
    found = [event for event in (get(5), get(5)) if isinstance(event, HostEvent)]
    assert len(found) == 2
    return found


@pytest.mark.parametrize("options", [{"move_grace": 0}, {"events": (Added, Removed)}])
def test_who_does_not_want_moves_gets_both_halves(options: dict[str, object]) -> None:
    """As they come."""
    with World.open("xen1", "xen2") as world:
        migration = Migration(world)
        stream = world.reader.fleet.events(replay=False, **options)  # type: ignore[arg-type]
        migration.stream = stream
        migration.arrive()
        migration.leave()
        migration.settle()
        told = [word for word in migration.told() if word.split()[-1] in ("Added", "Removed")]
        assert told == ["xen2 Added", "xen1 Removed"]


def test_a_restart_elsewhere_after_a_host_died_is_told_at_once() -> None:
    """A lost host cannot say that its domain ended: nothing is waited for."""
    with World.open("xen1", "xen2") as world:
        migration = Migration(world)
        world.machines["xen1"].publishing = None
        world.store.expire("xen1")
        world.reader.catch_up()
        migration.two.host.create("web", uuid=UUID1)
        migration.read("xen2")
        assert "xen2 Added" in migration.told()


def test_filters_pass_a_move_of_what_they_let_in() -> None:
    """`where`, `among` and kinds; a move stands for both of its halves."""
    with World.open("xen1", "xen2") as world:
        migration = Migration(world)
        fleet = world.reader.fleet
        yes = fleet.events(replay=False, where=lambda domain: domain.name == "web")
        no = fleet.events(replay=False, where=lambda domain: domain.name == "db")
        there = fleet.events(replay=False, among=["xen2"], events=Moved)
        for step in ORDERS[0]:
            getattr(migration, step)()
        heard = {name: [] for name in ("yes", "no", "there")}  # type: dict[str, list[str]]
        for (name, words), stream in zip(heard.items(), (yes, no, there), strict=True):
            migration.stream = stream
            words += [word for word in migration.told() if word.startswith("Moved")]
            assert words == ([] if name == "no" else ["Moved xen1 xen2"])


def test_a_grace_of_a_listener_is_its_own() -> None:
    """Another one without is told all the same."""
    with World.open("xen1", "xen2") as world:
        migration = Migration(world)
        world.reader.heard()
        migration.arrive()
        migration.leave()
        kinds = {said(event) for event in world.reader.heard()}
        assert {"xen1 Removed", "xen2 Added"} <= kinds
        assert not {"xen2 Added", "xen1 Removed"} & set(migration.told())
