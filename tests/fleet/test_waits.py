"""Waiting in a fleet: until a domain is somewhere, until it stops, until it is gone for certain."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest import mock
from uuid import UUID

import pytest

import domindex.fleet
import domindex.fleet.aio
from domindex.domain import ShutdownReason
from domindex.errors import Closed, InvalidKey, NoSuchDomain, NotLive, TimedOut
from domindex.events import Removed
from domindex.fleet import (
    Fleet,
    Found,
    HostsSilent,
    HostState,
    InvalidHost,
    NoSuchHost,
    SeveralFound,
)
from domindex.fleet.memory import MemoryStore
from domindex.listening.signal import Condition
from domindex.testing import SimulatedHost
from tests.fleet.stage import Machine, World
from tests.whole.helpers import eventually

from .stores import Store

UUID1 = UUID(int=1)


@pytest.fixture
def world() -> Iterator[World]:
    """Two hosts."""
    with World.open("xen1", "xen2") as opened:
        yield opened


@pytest.fixture
def fleet(world: World) -> Fleet:
    """A reader of them."""
    return world.reader.fleet


def read(world: World, machine: Machine) -> None:
    """This host is published, and the reader takes it in."""
    machine.refresh()
    world.write(machine)
    world.reader.catch_up()


def create(world: World, host: str, name: str, **particulars: Any) -> Found:
    """A domain, which the reader has found."""
    machine = world.machines[host]
    domid = machine.host.create(name, **particulars)
    read(world, machine)
    (found,) = [one for one in world.reader.fleet.find(host=host) if one.domain.domid == domid]
    return found


def lose(world: World, host: str) -> None:
    """Its publisher has died, and its lease has run out."""
    world.machines[host].publishing = None
    world.store.expire(host)
    world.reader.catch_up()
    assert world.reader.states()[host] is HostState.LOST


@contextmanager
def waiting(world: World, call: Callable[[], object]) -> Iterator[Future[Any]]:
    """The call in a thread, which waits when the block begins; it must be over soon after it."""
    looked = threading.Event()
    changed = world.reader.body.picture.changed
    wait_for = changed.wait_for

    def observed(condition: Condition[Any], timeout: float | None) -> Any:
        def look(last: bool) -> Any:
            try:
                return condition(last)
            finally:
                looked.set()

        return wait_for(look, timeout)

    with ThreadPoolExecutor(1) as pool, mock.patch.object(changed, "wait_for", observed):
        result = pool.submit(call)
        assert looked.wait(10)
        yield result
        result.exception(10)


# -- until a domain is there ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        {"name": "web"},
        {"name": b"web"},
        {"uuid": UUID1},
        {"uuid": str(UUID1)},
        {"where": lambda found: found.domain.name == "web"},
        {"name": "web", "uuid": UUID1, "ready": True},
        {"name": "web", "host": "xen1"},
        {"name": "web", "among": ["xen1"]},
        {"where": lambda found: found.domain.name == "web", "among": {"xen1", "xen2"}},
    ],
)
def test_a_domain_is_waited_for_by_any_key(world: World, keys: dict[str, Any]) -> None:
    """It is given as a look-up gives it; and once it is there, at once."""
    with waiting(world, lambda: world.reader.fleet.wait_for(**keys, timeout=10)) as result:
        create(world, "xen1", "web", uuid=UUID1)
    assert result.result() == world.reader.fleet.by_name("web")
    assert world.reader.fleet.wait_for(**keys, timeout=0).host == "xen1"


def test_without_a_limit_it_waits_as_long_as_it_takes(world: World, fleet: Fleet) -> None:
    """And ends with the reader."""
    with waiting(world, lambda: fleet.wait_for(name="web", timeout=None)) as result:
        create(world, "xen2", "db")
        assert not result.done()
        fleet.close()
    assert isinstance(result.exception(), Closed)


def test_a_host_that_was_named_is_the_only_one(world: World, fleet: Fleet) -> None:
    """It may come later; one that never came is named."""
    create(world, "xen2", "web")
    with pytest.raises(TimedOut):
        fleet.wait_for(name="web", host="xen1", timeout=0)
    with pytest.raises(NoSuchHost):
        fleet.wait_for(name="web", host="xen3", timeout=0)
    with pytest.raises(NoSuchHost):
        fleet.wait_for(where=lambda _: True, among=["xen1", "xen3"], timeout=0)
    third = world.add("xen3")
    with waiting(world, lambda: fleet.wait_for(name="web", host="xen3", timeout=10)) as result:
        third.host.create("web")
        third.refresh()
        world.publish(third).step()
        world.reader.catch_up()
    assert result.result().host == "xen3"


def test_several_are_ambiguous_when_the_time_is_up(world: World, fleet: Fleet) -> None:
    """Unless one of them goes; without a key the first is taken."""
    first = create(world, "xen1", "web")
    create(world, "xen2", "web")
    with pytest.raises(SeveralFound) as caught:
        fleet.wait_for(name="web", timeout=0)
    assert [found.host for found in caught.value.found] == ["xen1", "xen2"]
    assert fleet.wait_for(where=lambda _: True, timeout=0) == first
    assert fleet.wait_for(name="web", among=["xen2"], timeout=0).host == "xen2"
    with waiting(world, lambda: fleet.wait_for(name="web", timeout=10)) as result:
        world.machines["xen1"].host.destroy(first.domain.domid)
        read(world, world.machines["xen1"])
    assert result.result().host == "xen2"


def test_ready_leaves_one_end_of_a_migration(world: World, fleet: Fleet) -> None:
    """The one under its final name."""
    create(world, "xen1", "web", uuid=UUID1)
    arrived = create(world, "xen2", "web--incoming", uuid=UUID1)
    assert fleet.wait_for(uuid=UUID1, ready=True, timeout=0).host == "xen1"
    with pytest.raises(TimedOut):
        fleet.wait_for(uuid=UUID1, ready=True, host="xen2", timeout=0)
    world.machines["xen2"].host.rename(arrived.domain.domid, "web")
    read(world, world.machines["xen2"])
    assert fleet.wait_for(uuid=UUID1, ready=True, host="xen2", timeout=0).domain.name == "web"


def test_a_silent_host_cannot_tell(world: World, fleet: Fleet) -> None:
    """F2: as a look-up says it; the hosts that are not asked do not matter."""
    create(world, "xen1", "web")
    lose(world, "xen1")
    with pytest.raises(HostsSilent) as caught:
        fleet.wait_for(name="db", timeout=0)
    assert caught.value.hosts == {"xen1": "lost"}
    with pytest.raises(HostsSilent):
        fleet.wait_for(name="web", where=lambda found: found.state == "live", timeout=0)
    with pytest.raises(HostsSilent):
        fleet.wait_for(where=lambda _: False, timeout=0)
    with pytest.raises(TimedOut):
        fleet.wait_for(name="db", among=["xen2"], timeout=0)
    assert fleet.wait_for(name="web", timeout=0).state == "lost"  # its last word, as by_name
    fleet.declare_offline("xen1", timeout=0)
    world.reader.catch_up()
    for keys in ({"name": "web"}, {"where": lambda _: True}, {"name": "web", "host": "xen1"}):
        with pytest.raises(TimedOut):
            fleet.wait_for(**keys, timeout=0)


def test_a_reader_whose_line_is_down_cannot_tell(world: World, fleet: Fleet) -> None:
    """F8: nor can it when only that life is waited for."""
    web = create(world, "xen1", "web")
    world.store.stop()
    world.reader.step(3)
    for call in (
        lambda: fleet.wait_for(name="db", timeout=0),
        lambda: fleet.wait_for(found=web, where=lambda _: False, timeout=0),
        lambda: fleet.wait_gone(web, timeout=0),
        lambda: fleet.wait_stopped(web, timeout=0),
    ):
        with pytest.raises(NotLive) as caught:
            call()
        assert not isinstance(caught.value, HostsSilent)
    world.store.go_on()


# -- until a life changes ------------------------------------------------------------------------


def test_of_a_record_only_that_life_will_do(world: World, fleet: Fleet) -> None:
    """With it alone it is given as it is now; with `where`, once that holds."""
    web = create(world, "xen1", "web")
    create(world, "xen2", "web")
    assert fleet.wait_for(found=web, timeout=0) == web
    changed: Callable[[Found], bool] = lambda found: found.domain.name != "web"  # noqa: E731
    with pytest.raises(TimedOut):
        fleet.wait_for(found=web, where=changed, timeout=0)
    with waiting(world, lambda: fleet.wait_for(found=web, where=changed, timeout=10)) as result:
        world.machines["xen1"].host.rename(web.domain.domid, "www")
        read(world, world.machines["xen1"])
    assert (result.result().host, result.result().domain.name) == ("xen1", "www")


def test_the_end_of_that_life_is_told_at_once(world: World, fleet: Fleet) -> None:
    """Another life on its domid is not mistaken for it."""
    host = world.machines["xen1"].host
    web = create(world, "xen1", "web")
    with waiting(
        world, lambda: fleet.wait_for(found=web, where=lambda _: False, timeout=None)
    ) as result:
        host.destroy(web.domain.domid)
        host.create("web", domid=web.domain.domid)
        read(world, world.machines["xen1"])
    assert isinstance(result.exception(), NoSuchDomain)
    with pytest.raises(NoSuchDomain):
        fleet.wait_for(found=web, timeout=0)


def test_a_lost_host_has_not_ended_that_life(world: World, fleet: Fleet) -> None:
    """F3: it is waited on, and then the host is named; also where it is declared offline."""
    web = create(world, "xen1", "web")
    lose(world, "xen1")
    assert fleet.wait_for(found=web, timeout=0).state == "lost"
    for state in ("lost", "offline"):
        for call in (
            lambda: fleet.wait_for(found=web, where=lambda found: False, timeout=0),
            lambda: fleet.wait_gone(web, timeout=0),
            lambda: fleet.wait_stopped(web, timeout=0),
        ):
            with pytest.raises(HostsSilent) as caught:
                call()
            assert caught.value.hosts == {"xen1": state}
        if state == "lost":
            fleet.declare_offline("xen1", timeout=0)
            world.reader.catch_up()
    with pytest.raises(HostsSilent):  # it counts as holding nothing
        fleet.wait_for(found=web, timeout=0)
    with waiting(
        world, lambda: fleet.wait_for(found=web, where=lambda f: f.state == "live", timeout=10)
    ) as result:
        world.publish(world.machines["xen1"]).step()
        world.reader.catch_up()
    assert result.result() == web


# -- until it is gone ----------------------------------------------------------------------------


def test_gone_is_what_its_host_says(world: World, fleet: Fleet) -> None:
    """With the reason, as of an index; and afterwards as well."""
    host = world.machines["xen1"].host
    web = create(world, "xen1", "web")
    with pytest.raises(TimedOut, match=r"still runs within 0 s"):
        fleet.wait_gone(web, timeout=0)
    with waiting(world, lambda: fleet.wait_gone(web, timeout=None)) as result:
        host.shutdown(web.domain.domid, ShutdownReason.CRASH)
        read(world, world.machines["xen1"])
        assert not result.done()
        host.destroy(web.domain.domid)
        read(world, world.machines["xen1"])
    removed = result.result()
    assert (removed.domain.name, removed.reason, removed.inferred) == ("web", 3, False)
    assert fleet.wait_gone(web, timeout=0) == removed


def test_gone_is_what_was_forgotten(world: World, fleet: Fleet) -> None:
    """Until the host returns: then it is its word that counts again."""
    web = create(world, "xen1", "web")
    lose(world, "xen1")
    with waiting(world, lambda: fleet.wait_gone(web, timeout=10)) as result:
        fleet.forget("xen1", timeout=0)
        world.reader.catch_up()
    assert isinstance(result.result(), Removed)
    assert fleet.wait_gone(web, timeout=0).inferred
    world.machines["xen1"].engine.claim("xen1", "m-xen1", 15.0)
    world.reader.catch_up()
    with pytest.raises(HostsSilent):
        fleet.wait_gone(web, timeout=0)
    world.publish(world.machines["xen1"])
    world.settle()
    with pytest.raises(TimedOut):
        fleet.wait_gone(web, timeout=0)
    assert fleet.wait_for(found=web, timeout=0).host == "xen1"


def test_a_migration_ends_the_life_on_its_host(world: World, fleet: Fleet) -> None:
    """What runs on the other host has another life, though it may look the same."""
    web = create(world, "xen1", "web", uuid=UUID1)
    create(world, "xen2", "web", uuid=UUID1)
    world.machines["xen1"].host.destroy(web.domain.domid)
    read(world, world.machines["xen1"])
    assert fleet.wait_gone(web, timeout=0).domain == web.domain


def test_a_renamed_host_goes_on_with_its_lives(world: World, fleet: Fleet) -> None:
    """Under the newer name it is the same host."""
    web = create(world, "xen1", "web")
    one = world.machines["xen1"]
    assert one.publishing is not None
    one.publishing.release("for a test")
    world.publish(one, name="xen9")
    world.settle()
    assert set(world.reader.states()) == {"xen2", "xen9"}
    assert fleet.wait_for(found=web, timeout=0).host == "xen9"
    with pytest.raises(TimedOut):
        fleet.wait_gone(web, timeout=0)
    other = world.add("xen1", machine="m-another")
    other.boot = "boot-of-another"
    world.publish(other).step()
    world.reader.catch_up()
    assert world.reader.states()["xen1"] is HostState.LIVE
    with pytest.raises(TimedOut):
        fleet.wait_gone(web, timeout=0)
    one.host.destroy(web.domain.domid)
    read(world, one)
    assert fleet.wait_gone(web, timeout=0).domain == web.domain
    one.index.close()


def test_another_boot_of_the_host_ends_its_lives(world: World, fleet: Fleet) -> None:
    """Also where the new ones have the same ids."""
    web = create(world, "xen1", "web")
    world.machines["xen1"].boot = "boot-2"
    world.publish(world.machines["xen1"])
    world.settle()
    assert fleet.by_name("web").domain == web.domain
    assert fleet.wait_gone(web, timeout=0).domain == web.domain


def test_a_record_of_another_reader_may_be_of_an_unknown_host(world: World, fleet: Fleet) -> None:
    """Then it cannot be told: this reader has not seen that it was forgotten."""
    web = create(world, "xen1", "web")
    copy: Found = pickle.loads(pickle.dumps(web))
    with pytest.raises(TimedOut):
        fleet.wait_gone(copy, timeout=0)
    with domindex.fleet.connect(MemoryStore().connect()) as elsewhere:
        for call in (
            lambda: elsewhere.wait_gone(copy, timeout=0),
            lambda: elsewhere.wait_for(found=copy, timeout=0),
            lambda: elsewhere.wait_stopped(copy, timeout=0),
        ):
            with pytest.raises(NoSuchHost):
                call()


# -- until it stops ------------------------------------------------------------------------------


def test_a_stop_is_waited_for(world: World, fleet: Fleet) -> None:
    """Its reason is known after the end, too, if it was seen."""
    host = world.machines["xen1"].host
    web = create(world, "xen1", "web")
    with pytest.raises(TimedOut):
        fleet.wait_stopped(web, timeout=0)
    with waiting(world, lambda: fleet.wait_stopped(web, timeout=10)) as result:
        host.shutdown(web.domain.domid, ShutdownReason.POWEROFF)
        read(world, world.machines["xen1"])
    assert result.result() is ShutdownReason.POWEROFF
    host.destroy(web.domain.domid)
    read(world, world.machines["xen1"])
    assert fleet.wait_stopped(web, timeout=0) is ShutdownReason.POWEROFF
    db = create(world, "xen1", "db")
    host.destroy(db.domain.domid)
    read(world, world.machines["xen1"])
    with pytest.raises(NoSuchDomain):
        fleet.wait_stopped(db, timeout=0)


# -- misuse, and the other coat ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, InvalidKey),
        ({"host": "xen1"}, InvalidKey),
        ({"ready": True}, InvalidKey),
        ({"name": 5}, InvalidKey),
        ({"uuid": "no uuid"}, InvalidKey),
        ({"found": "web"}, InvalidKey),
        ({"where": "web"}, TypeError),
        ({"name": "web", "among": "xen1"}, InvalidKey),
        ({"name": "web", "among": 5}, InvalidKey),
        ({"name": "web", "among": [5]}, TypeError),
        ({"name": "web", "among": []}, InvalidKey),
        ({"name": "web", "host": "xen1", "among": ["xen2"]}, InvalidKey),
        ({"name": "web", "host": "Xen1"}, InvalidHost),
        ({"name": "web", "timeout": "soon"}, TypeError),
    ],
)
def test_what_can_never_be_is_refused_at_once(
    fleet: Fleet, arguments: dict[str, Any], error: type[Exception]
) -> None:
    """It would be waited for for ever."""
    with pytest.raises(error):
        fleet.wait_for(**{"timeout": None, **arguments})


@pytest.mark.parametrize("what", ["web", None, 5])
def test_only_a_record_can_be_gone(fleet: Fleet, what: Any) -> None:
    """A name is no life."""
    for call in (fleet.wait_gone, fleet.wait_stopped):
        with pytest.raises(InvalidKey):
            call(what, timeout=None)


def test_a_where_that_fails_ends_the_wait(world: World, fleet: Fleet) -> None:
    """With its own error."""
    create(world, "xen1", "web")
    with pytest.raises(ZeroDivisionError):
        fleet.wait_for(where=lambda _: 1 / 0, timeout=None)


def test_the_whole_way_on_each_store(store: Store) -> None:
    """From a toolstack to a wait, with threads; and for asyncio."""

    async def main(host: SimulatedHost, domid: int) -> None:
        async with domindex.fleet.aio.connect(store.connect()) as fleet:
            web = await fleet.wait_for(name="web", host="xen1", ready=True, timeout=20)
            with pytest.raises(TimedOut):
                await fleet.wait_gone(web, timeout=0)
            host.shutdown(domid, ShutdownReason.POWEROFF)
            assert await fleet.wait_stopped(web, timeout=20) is ShutdownReason.POWEROFF
            host.destroy(domid)
            assert (await fleet.wait_gone(web, timeout=20)).reason is ShutdownReason.POWEROFF
            with pytest.raises(NoSuchDomain):
                await fleet.wait_for(found=web, timeout=None)
            with pytest.raises(TimedOut):
                await fleet.wait_for(name="web", timeout=0.01)
            with pytest.raises(InvalidKey):
                await fleet.wait_for()

    with (
        SimulatedHost() as host,
        host.connect() as index,
        domindex.fleet.connect(store.connect()) as fleet,
        ThreadPoolExecutor(1) as pool,
    ):
        waits = pool.submit(fleet.wait_for, name="web", timeout=30)
        with domindex.fleet.publish(index, store.connect(), host="xen1", lock=False):
            domid = host.create("web")
            web = waits.result(30)
            gone = pool.submit(fleet.wait_gone, web, None)
            asyncio.run(main(host, domid))
            assert gone.result(30).domain.life == web.domain.life
            db = host.create("db")
            left = fleet.wait_for(name="db", timeout=30)
            assert left.domain.domid == db
        gone = pool.submit(fleet.wait_gone, left, None)
        eventually(lambda: fleet.hosts["xen1"].state == "lost")
        assert not gone.done()
        fleet.forget("xen1")
        assert gone.result(30).domain == left.domain
