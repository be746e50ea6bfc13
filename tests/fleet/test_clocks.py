"""Clocks that jump or stand still, and processes that do: a fleet goes by neither.

Leases run on the clock of the engine. A reader has one that goes on while its machine is suspended.
What a process of its own does here is in `processes.py`.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import ExitStack

import pytest

import domindex.fleet
from domindex.errors import NotLive
from domindex.events import Added, Lost, Recovered, Removed
from domindex.fleet import HostEvent, HostLive, HostLost, OldAnswer
from domindex.fleet.picture import PATIENCE
from domindex.fleet.ports import SILENCE
from domindex.testing import SimulatedHost
from tests.whole.helpers import eventually

from .processes import Child, child
from .stage import World
from .stores import EtcdStore, MemoryStore, progress

TTL = 2.0
LIMIT = 20.0


def rounds(seconds: float, *children: Child) -> None:
    """Have a publisher write and a reader take it in, again and again for so long."""
    publisher, reader = children
    end, pause = time.monotonic() + seconds, threading.Event()
    while time.monotonic() < end:
        assert isinstance(publisher.ask("create"), int)
        assert isinstance(publisher.ask("flush"), list)
        assert isinstance(reader.ask("refresh"), int)
        live, age, _ = reader.ask("look")
        assert live
        assert age < SILENCE
        pause.wait(0.1)


def test_a_wall_clock_that_jumps_changes_nothing(etcd_store: EtcdStore) -> None:
    """By years, at each look, for longer than two leases; then the host dies, and is lost."""
    url = etcd_store.server.url
    with (
        child("publish", url, str(TTL), "xen1") as publisher,
        child("read", url, "5") as reader,
    ):
        rounds(0, publisher, reader)
        reader.ask("heard")
        publisher.ask("jump")
        reader.ask("jump")
        rounds(2.5 * TTL, publisher, reader)
        assert reader.ask("states") == {"xen1": "live"}
        assert publisher.ask("problems") == ["NoneType"]
        assert reader.ask("stats") == [1, 0, 0]
        assert set(reader.ask("heard")) <= {"Added", "Ready", "DuplicateName"}
        publisher.kill()
        eventually(lambda: reader.ask("states") == {"xen1": "lost"}, LIMIT)
        eventually(lambda: reader.ask("heard") == {"HostLost": 1}, LIMIT)


def test_a_publisher_that_was_frozen_past_its_lease_claims_anew(etcd_store: EtcdStore) -> None:
    """It is lost meanwhile, and comes back with what it had: nothing is added, nothing removed."""
    with ExitStack() as stack:
        fleet = stack.enter_context(domindex.fleet.connect(etcd_store.connect()))
        publisher = stack.enter_context(
            child("publish", etcd_store.server.url, str(TTL), "xen1", "xen2")
        )
        fleet.refresh()
        wanted = (HostLost, HostLive, Added, Removed)
        events = stack.enter_context(fleet.events(replay=False, events=wanted))
        before = {name: view.generation for name, view in fleet.hosts.items()}
        loads = fleet.stats.loads
        publisher.freeze()
        assert {events.get(LIMIT), events.get(LIMIT)} == {
            HostLost(host, "its lease ran out") for host in before
        }
        assert len(fleet) == 2
        assert {found.state for found in fleet} == {"lost"}
        publisher.thaw()
        assert {events.get(LIMIT), events.get(LIMIT)} == set(map(HostLive, before))
        assert {name: view.generation for name, view in fleet.hosts.items()} == before
        eventually(lambda: publisher.ask("problems") == ["NoneType"] * 2, LIMIT)
        publisher.ask("create")
        publisher.ask("flush")
        fleet.refresh()
        assert len(fleet) == 4
        assert fleet.stats.loads == loads


def test_a_frozen_publisher_that_was_taken_over_writes_nothing_more(
    etcd_store: EtcdStore,
) -> None:
    """F9: its machine has another publisher by now, though its lock is still held."""
    with ExitStack() as stack:
        frozen = stack.enter_context(child("publish", etcd_store.server.url, str(TTL), "xen1"))
        frozen.freeze()
        frozen.send("create")  # the first that it will do
        simulated = stack.enter_context(SimulatedHost())
        simulated.create("ours")
        index = stack.enter_context(simulated.connect())
        ours = stack.enter_context(
            domindex.fleet.publish(
                index, etcd_store.connect(), host="xen1", machine="m-xen1", lock=False, ttl=TTL
            )
        )
        frozen.thaw()
        assert isinstance(frozen.answer(), int)
        eventually(lambda: frozen.ask("problems") == ["Superseded"], LIMIT)
        fleet = stack.enter_context(domindex.fleet.connect(etcd_store.connect()))
        ours.flush()
        fleet.refresh()
        assert [found.domain.name for found in fleet] == ["ours"]
        assert fleet.hosts["xen1"].state == "live"


def test_a_reader_that_was_frozen_does_not_take_an_old_picture_for_live(
    etcd_store: EtcdStore,
) -> None:
    """What it is asked first when it goes on: it is not live, or it has what came meanwhile."""
    patience = 1.0
    with ExitStack() as stack:
        simulated = stack.enter_context(SimulatedHost())
        index = stack.enter_context(simulated.connect())
        publisher = stack.enter_context(
            domindex.fleet.publish(
                index, etcd_store.connect(), host="xen1", machine="m", lock=False
            )
        )
        reader = stack.enter_context(child("read", etcd_store.server.url, str(patience)))
        pause = threading.Event()
        for number in range(3):
            reader.ask("refresh")
            reader.freeze()
            frozen = time.monotonic()
            simulated.create(f"vm-{number}")
            index.refresh()
            publisher.flush()
            pause.wait(patience + 0.1)
            reader.send("look")
            away = time.monotonic() - frozen
            reader.thaw()
            live, age, names = reader.answer()
            assert f"vm-{number}" in names or (not live and age >= away)
            reader.ask("refresh")
            live, age, names = reader.ask("look")
            assert live
            assert f"vm-{number}" in names


def test_progress_that_has_waited_is_as_old_as_that(etcd_store: EtcdStore) -> None:
    """Its answer had come when this process stood still: it says nothing of the time since."""
    engine = etcd_store.connect()
    loaded = engine.load()
    feed = engine.follow(loaded.position, loaded.epoch)
    assert progress(feed).age < SILENCE
    feed.ask()
    threading.Event().wait(1.0)
    assert 1.0 <= progress(feed).age < SILENCE
    feed.ask()
    assert progress(feed).age < 1.0
    feed.close()
    with World.open("xen1") as world:
        picture = world.reader.body.picture
        world.reader.body.following.reconciler.confirm(picture.position, 3.0)
        assert world.reader.fleet.age == 3.0


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_after_a_pause_a_reader_is_not_live_until_it_is_confirmed(taken: int) -> None:
    """Also when it has taken in what had come before: its age is that of the pause."""
    with World.open("xen1") as world:
        fleet, machine = world.reader.fleet, world.machines["xen1"]
        machine.host.create("web")
        world.settle()
        world.reader.heard()
        for name in ("db", "mail"):
            machine.host.create(name)
            machine.refresh()
            world.write(machine)
        world.clock.pass_by(3600)
        following = world.reader.body.following
        for _ in range(taken):
            following.step(0, lambda _: None)
        assert [name in fleet.names for name in ("db", "mail")] == [taken > 0, taken > 1]
        assert not fleet.live
        assert fleet.age == 3600
        assert fleet.by_name("web").as_of == world.clock.now - 3600
        with pytest.raises(NotLive):
            fleet.by_name("nobody")
        with pytest.raises(NotLive):
            fleet.by_name("web", stale="refuse")
        with pytest.raises(OldAnswer):
            fleet.by_name("web", max_age=60)
        world.settle()
        assert fleet.live
        assert fleet.age == 0
        told = [e for e in world.reader.heard() if not isinstance(e, HostEvent)]
        assert [type(event) for event in told if isinstance(event, (Lost, Recovered))] == [
            Lost,
            Recovered,
        ]


def test_an_answer_that_is_older_than_was_asked_for_is_refused_though_the_line_is_live() -> None:
    """Younger than a feed is silent it is taken for new: nothing has come."""
    with World.open("xen1") as world:
        world.machines["xen1"].host.create("web")
        world.settle()
        world.clock.pass_by(SILENCE)
        assert world.reader.fleet.by_name("web", max_age=1.0).state == "live"
        world.clock.pass_by(PATIENCE - SILENCE - 1)
        assert world.reader.fleet.live
        assert world.reader.fleet.by_name("web", max_age=PATIENCE).state == "live"
        with pytest.raises(OldAnswer):
            world.reader.fleet.by_name("web", max_age=1.0)


def test_the_clock_of_a_reader_goes_on_while_its_machine_is_suspended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The moment it resumes, nobody has noticed yet, and the picture is hours old."""
    store = MemoryStore()
    with domindex.fleet.connect(store.connect()) as fleet:
        fleet.refresh()
        assert fleet.live
        real, suspended = time.clock_gettime, 3600.0

        def after(clock: int) -> float:
            return real(clock) + (suspended if clock == time.CLOCK_BOOTTIME else 0.0)

        with store.changed:  # its thread takes no sign in meanwhile
            monkeypatch.setattr(time, "clock_gettime", after)
            assert not fleet.live
            assert math.isclose(fleet.age, suspended, abs_tol=SILENCE)
        fleet.refresh()
        assert fleet.live
        assert fleet.age < SILENCE
