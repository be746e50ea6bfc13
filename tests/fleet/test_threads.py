"""Publishers and readers with their threads: they start, tell, end, and leave nothing."""

from __future__ import annotations

import asyncio
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import domindex.fleet
import domindex.fleet.aio
from domindex.errors import Closed, TimedOut
from domindex.events import Added, Removed, Synced
from domindex.fleet import (
    AlreadyPublishing,
    FleetEvent,
    HostEvent,
    HostLost,
    HostTaken,
    InvalidUrl,
    LineLost,
    Lost,
    Moved,
)
from domindex.fleet.layout import ALIVE, alive_key
from domindex.fleet.memory import MemoryClaim, MemoryStore
from domindex.testing import SimulatedHost
from tests.whole.helpers import eventually, our_threads


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = len(our_threads())
    yield
    eventually(lambda: len(our_threads()) <= before)


class Ear:
    """A handler that keeps what it is told, and can be waited on."""

    def __init__(self) -> None:
        self._queue: queue.Queue[FleetEvent] = queue.Queue()

    def __call__(self, event: FleetEvent) -> None:
        self._queue.put(event)

    def until(self, kind: type[object]) -> FleetEvent:
        """The next of this kind, or within a host."""
        while True:
            event = self._queue.get(timeout=10)
            inner = event.event if isinstance(event, HostEvent) else event
            if isinstance(inner, kind):
                return event


def test_from_a_host_to_a_handler() -> None:
    """F6, F7: what is flushed there is held here after a refresh."""
    store, ear = MemoryStore(), Ear()
    with (
        SimulatedHost() as host,
        host.connect() as index,
        domindex.fleet.publish(index, store.connect(), host="xen1", lock=False) as publisher,
        domindex.fleet.connect(store.connect()) as fleet,
        fleet.subscribe(ear),
    ):
        ear.until(Synced)
        domid = host.create("web")
        index.refresh()
        generation = publisher.flush()
        assert fleet.wait_generation("xen1", generation) >= generation
        assert fleet.by_name("web").domain == index.by_id(domid)
        added = ear.until(Added)
        assert isinstance(added, HostEvent)
        assert added.host == "xen1"
        host.destroy(domid)
        index.refresh()
        publisher.flush()
        fleet.refresh()
        assert len(fleet) == 0
        ear.until(Removed)
        publisher.close()
        assert ear.until(HostLost) == HostLost("xen1", "its publisher was closed")
        assert fleet.hosts["xen1"].reason == "its publisher was closed"


def test_a_publisher_that_is_abandoned_amid_a_write_just_stops(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As if its process had died: its lease runs out, and nothing else is wrong."""
    monkeypatch.setattr("domindex.fleet.publishing.OPERATIONS", 2)
    store, writing, go_on = MemoryStore(), threading.Event(), threading.Event()
    commit = MemoryClaim.commit

    def slow(self: MemoryClaim, puts: Any, deletes: Any = ()) -> int:
        writing.set()
        go_on.wait(10)
        return commit(self, puts, deletes)

    with SimulatedHost() as host, host.connect() as index:
        publisher = domindex.fleet.publish(index, store.connect(), host="xen1", lock=False)
        monkeypatch.setattr(MemoryClaim, "commit", slow)
        for _ in range(3):
            host.create("web")
        index.refresh()
        assert writing.wait(10)
        ending = threading.Thread(target=publisher.abandon)
        ending.start()
        go_on.set()
        ending.join(10)
        assert publisher.problem is None
        assert not [one for one in caplog.records if one.levelname in ("WARNING", "ERROR")]
        assert alive_key("xen1") in store.read([ALIVE])[1]


def test_an_index_that_is_closed_gives_its_host_up() -> None:
    """Nobody would follow it."""
    store = MemoryStore()
    with SimulatedHost() as host, domindex.fleet.connect(store.connect()) as fleet:
        index = host.connect()
        with (
            fleet.events(events=HostLost) as events,
            domindex.fleet.publish(index, store.connect(), host="xen1", lock=False) as publisher,
        ):
            index.close()
            assert events.get(10) == HostLost("xen1", "its index was closed")
            with pytest.raises(Closed):
                publisher.flush()


def test_one_process_with_several_indexes() -> None:
    """`of` needs no store; a migration between them is `Moved`."""
    uuid = UUID(int=1)
    with (
        SimulatedHost() as xen1,
        SimulatedHost() as xen2,
        xen1.connect() as one,
        xen2.connect() as two,
        domindex.fleet.of({"xen1": one, "xen2": two}) as fleet,
        fleet.events(events=Moved) as events,
    ):
        source = xen1.create("web", uuid=uuid)
        eventually(lambda: "web" in fleet.names)
        target = xen2.create("web--incoming", uuid=uuid)
        eventually(lambda: "web--incoming" in fleet.names)
        xen1.rename(source, "web--migratedaway")
        xen1.destroy(source)
        xen2.rename(target, "web")
        moved = events.get(10)
        assert isinstance(moved, Moved)
        assert (moved.old.host, moved.new.host) == ("xen1", "xen2")
    with pytest.raises(Closed):
        fleet.by_name("web")


def test_a_store_that_stops_is_told_and_gone_on_from() -> None:
    """F8: without a load, as nothing was missed."""
    store, ear = MemoryStore(), Ear()
    with (
        SimulatedHost() as host,
        host.connect() as index,
        domindex.fleet.publish(index, store.connect(0.05), host="xen1", lock=False) as publisher,
        domindex.fleet.connect(store.connect(0.05)) as fleet,
        fleet.subscribe(ear),
    ):
        store.stop()
        ear.until(Lost)
        host.create("web")
        index.refresh()
        with pytest.raises(TimedOut):
            publisher.flush(0.01)
        eventually(lambda: isinstance(publisher.problem, LineLost))
        store.go_on()
        ear.until(Added)
        publisher.flush(30)
        fleet.wait_live()
        assert fleet.stats.loads == 1
        assert fleet.stats.resumed > 0


def test_a_store_that_does_not_answer_is_a_typed_error() -> None:
    """In the time that was given, and nothing is left behind."""
    store = MemoryStore()
    store.stop()
    with pytest.raises(LineLost):
        domindex.fleet.connect(store.connect(0.01), timeout=0.2)
    with (
        SimulatedHost() as host,
        host.connect() as index,
        pytest.raises(LineLost),
    ):
        domindex.fleet.publish(index, store.connect(0.01), host="a", lock=False, timeout=0.2)


def test_a_daemon_may_start_before_the_store() -> None:
    """`wait=False`, on both ends."""
    store = MemoryStore()
    store.stop()
    with (
        SimulatedHost() as host,
        host.connect() as index,
        domindex.fleet.connect(store.connect(0.01), wait=False) as fleet,
        domindex.fleet.publish(index, store.connect(0.01), host="a", lock=False, wait=False) as p,
    ):
        assert not fleet.live
        store.go_on()
        p.flush(30)
        fleet.wait_live()
        fleet.wait_generation("a", p.generation)
        assert fleet.hosts["a"].state == "live"


def test_two_publishers_of_one_machine_exclude_each_other(tmp_path: Path) -> None:
    """F9: by a file lock, which ends with its holder."""
    store = MemoryStore()
    with SimulatedHost() as host, host.connect() as index:
        with domindex.fleet.publish(index, store.connect(), host="xen1", lock=tmp_path):
            with pytest.raises(AlreadyPublishing):
                domindex.fleet.publish(index, store.connect(), host="xen1", lock=tmp_path)
            with pytest.raises(HostTaken):
                domindex.fleet.publish(
                    index, store.connect(), host="xen1", machine="other", lock=tmp_path
                )
        domindex.fleet.publish(index, store.connect(), host="xen1", lock=tmp_path).close()


def test_a_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """Nor anything else of its parent's. It ends with the pipe, however this test ends."""
    store = MemoryStore()
    with SimulatedHost() as host, host.connect() as index:
        publisher = domindex.fleet.publish(index, store.connect(), host="xen1", lock=tmp_path)
        (reading, writing), (hearing, saying) = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            os.close(writing)
            os.write(saying, b"x")  # it has given up by now what it has of its parent's
            os.read(reading, 1)
            os._exit(0)
        try:
            os.read(hearing, 1)
            publisher.close()
            domindex.fleet.publish(index, store.connect(), host="xen1", lock=tmp_path).close()
        finally:
            for fd in (writing, reading, hearing, saying):
                os.close(fd)
            os.waitpid(child, 0)


@pytest.mark.parametrize("where", ["", "http://a", "etcd://", 7, None])
def test_what_names_no_store_is_refused(where: object) -> None:
    """At once."""
    with pytest.raises((InvalidUrl, TypeError)):
        domindex.fleet.connect(where)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [{"stale": "never"}, {"max_stale": -1.0}, {"timeout": "soon"}],
    ids=str,
)
def test_options_that_are_none_are_refused(options: dict[str, object]) -> None:
    """Before anything is left behind."""
    with pytest.raises((ValueError, TypeError)):
        domindex.fleet.connect(MemoryStore().connect(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("ttl", [0, 1.0, float("nan"), float("inf"), "15", True])
def test_a_lease_that_is_none_is_refused(ttl: object) -> None:
    """And nothing was written."""
    store = MemoryStore()
    with (
        SimulatedHost() as host,
        host.connect() as index,
        pytest.raises((ValueError, TypeError)),
    ):
        domindex.fleet.publish(index, store.connect(), host="a", ttl=ttl, lock=False)  # type: ignore[arg-type]
    assert store.read([""]) == (1, {})


def test_a_closed_reader_says_so() -> None:
    """Every call."""
    fleet = domindex.fleet.connect(MemoryStore().connect())
    fleet.close()
    fleet.close()
    for call in (
        lambda: fleet.by_name("web"),
        lambda: fleet.find(),
        lambda: fleet.refresh(),
        lambda: fleet.hosts["a"],
        lambda: fleet.subscribe(print),
        lambda: fleet.wait_live(),
        lambda: fleet.snapshot(),
        lambda: fleet.forget("a"),
    ):
        with pytest.raises(Closed):
            call()


def test_asyncio_has_events_and_look_ups() -> None:
    """Look-ups are plain calls, what waits is awaited."""
    store = MemoryStore()

    async def main(host: SimulatedHost, publisher: domindex.fleet.Publisher) -> None:
        async with (
            domindex.fleet.aio.connect(store.connect()) as fleet,
            fleet.events() as events,
        ):
            assert isinstance([await anext(events) for _ in range(2)][1], Synced)
            host.create("web")
            added = await anext(events)
            assert isinstance(added, HostEvent)
            assert isinstance(added.event, Added)
            assert fleet.by_name("web").host == "xen1"
            await fleet.refresh()
            await fleet.wait_live()
            await fleet.wait_generation("xen1", publisher.generation)
            with pytest.raises(TimedOut):
                await fleet.wait_generation("xen1", 10**6, timeout=0.01)
            with pytest.raises(ValueError, match="block the loop"):
                fleet.by_name("db", stale="wait")  # type: ignore[arg-type]

    with (
        SimulatedHost() as host,
        host.connect() as index,
        domindex.fleet.publish(index, store.connect(), host="xen1", lock=False) as publisher,
    ):
        asyncio.run(main(host, publisher))


def test_one_host_costs_nothing_more() -> None:
    """Neither the fleet nor grpc is imported by who does not use it."""
    code = "import sys, domindex, domindex.testing, domindex.aio; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    ).stdout.split()
    assert not [name for name in loaded if name.startswith(("domindex.fleet", "grpc"))]
    code = "import sys, domindex.fleet; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    ).stdout.split()
    assert not [name for name in loaded if name.split(".")[0] in ("grpc", "aetcd", "asyncio")]


def test_a_reader_names_its_thread() -> None:
    """For who looks at the process."""
    with domindex.fleet.connect(MemoryStore().connect()):
        assert "domindex-fleet" in {thread.name for thread in threading.enumerate()}
