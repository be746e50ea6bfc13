"""A store that nobody has published in has no epoch: nothing shows that it is still the same one.

A reader of it is stepped by hand, so that all of a fault happens between two of its steps.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Collection, Iterator
from typing import cast

import pytest

from domindex.fleet import Fleet
from domindex.fleet.body import FleetBody
from domindex.fleet.errors import EngineError
from domindex.fleet.layout import EPOCH, ROOT
from domindex.fleet.ports import NEW, Engine, Feed, Loaded
from domindex.fleet.records import HostRecord, pack_domain, pack_host
from tests.fleet.test_reboots import made, told

from .stores import Store, dom, record


class Reader:
    """A reader, and what it was told."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.body = FleetBody(engine, max_age=math.inf, owns_engine=False)
        self.fleet = Fleet(self.body, "serve")
        self.stream = self.fleet.events(move_grace=0)
        self.catch_up()

    def catch_up(self) -> None:
        """Step until it holds all that is in the store, as far as it knows."""
        picture, deadline = self.body.picture, time.monotonic() + 20
        position = -1
        while time.monotonic() < deadline:
            with contextlib.suppress(EngineError):  # the server has just been started
                position = self.engine.position(0.5)
            before = picture.confirmed
            while time.monotonic() < deadline and picture.confirmed == before:
                self.body.following.wake()
                self.body.following.step(0.05, lambda _: None)
            if self.fleet.live and 0 <= position <= picture.position:
                return
        raise AssertionError(f"it does not catch up: {picture.state}")

    def holds(self) -> dict[str, list[str | None]]:
        """The names on each host."""
        return {
            host: [found.domain.name for found in self.fleet.find(host=host)]
            for host in self.fleet.hosts
        }


@pytest.fixture
def fresh(store: Store) -> Store:
    """A store at its first position."""
    store.wipe()
    return store


@pytest.fixture
def reader(fresh: Store) -> Iterator[Reader]:
    """A reader of it, which has caught up."""
    made = Reader(fresh.connect())
    yield made
    made.fleet.close()


def word(incarnation: str, generation: int, domains: int) -> bytes:
    """What a host says of itself."""
    return pack_host(HostRecord(incarnation, generation, domains, whole=True, state="live"))


def write(store: Store, host: str, *names: str) -> None:
    """A host with these domains, written by somebody who makes no epoch."""
    store.put(record(host), word("somebody", 1, len(names)))
    for domid, name in enumerate(names, 1):
        store.put(dom(host, domid), pack_domain(made(domid, name, domid, domid), 1))


def go_past(store: Store, engine: Engine, position: int) -> None:
    """Write until the store is further than that."""
    while True:
        try:
            if engine.position() > position:
                return
        except EngineError:
            continue
        store.put(f"{ROOT}strange/thing", b"1")


def test_another_history_without_an_epoch_is_taken_in_whole(fresh: Store, reader: Reader) -> None:
    """F5: what was written there below the position that the reader was at, too."""
    for n in range(10):
        fresh.put(f"{ROOT}strange/{n}", b"1")
    reader.catch_up()
    position = reader.body.picture.position
    fresh.wipe()
    write(fresh, "xen1", "web", "db")
    go_past(fresh, reader.engine, position)
    reader.catch_up()
    assert reader.holds() == {"xen1": ["db", "web"]}


def test_what_another_history_does_not_have_is_lost_and_not_gone(
    fresh: Store, reader: Reader
) -> None:
    """F3: neither its host nor an operator has said that it is gone."""
    write(fresh, "xen1", "web")
    reader.catch_up()
    told(reader.stream)
    position = reader.body.picture.position
    fresh.wipe()
    write(fresh, "xen2", "db")
    go_past(fresh, reader.engine, position)
    reader.catch_up()
    assert reader.holds() == {"xen1": ["web"], "xen2": ["db"]}
    assert "xen1 Removed" not in told(reader.stream)
    assert reader.fleet.by_name("web").state == "lost"


@pytest.mark.parametrize("is_new", [True, False])
def test_the_first_epoch_is_made_without_a_word(fresh: Store, is_new: bool) -> None:
    """The reader stays live: it may well be started first. In a new store it missed nothing."""
    if not is_new:
        write(fresh, "xen1")
    reader = Reader(fresh.connect())
    assert (reader.body.picture.position == NEW) == is_new
    write(fresh, "xen1", "web")
    reader.catch_up()
    told(reader.stream)
    claim = fresh.connect().claim("xen2", "m-2", 30.0)
    claim.commit({record("xen2"): word(claim.incarnation, 1, 0)})
    reader.catch_up()
    assert told(reader.stream) == ["HostLive"]
    assert reader.holds() == {"xen1": ["web"], "xen2": []}
    assert reader.body.stats.loads == (1 if is_new else 2)
    claim.release()
    reader.catch_up()
    assert reader.body.stats.loads == (1 if is_new else 2)
    reader.fleet.close()


class Wiped:
    """An engine whose store is wiped, and written to, after a load and before the feed."""

    def __init__(self, engine: Engine, store: Store) -> None:
        self._engine = engine
        self._store = store
        self.armed = False

    def load(self, hosts: Collection[str] | None = None) -> Loaded:
        """As `Engine.load`."""
        return self._engine.load(hosts)

    def follow(self, position: int, epoch: str | None) -> Feed:
        """As `Engine.follow`."""
        if self.armed:
            self.armed = False
            self._store.wipe()
            write(self._store, "xen1", "web", "db")
            go_past(self._store, self._engine, position)
        return self._engine.follow(position, epoch)

    def position(self, timeout: float | None = None) -> int:
        """As `Engine.position`."""
        return self._engine.position(timeout)


def test_a_store_that_was_wiped_behind_a_load_is_seen_by_its_first_epoch(fresh: Store) -> None:
    """F5: from then on it can be told from others, and what was missed is loaded."""
    engine = fresh.connect()
    for n in range(10):
        fresh.put(f"{ROOT}strange/{n}", b"1")
    between = Wiped(engine, fresh)
    between.armed = True
    reader = Reader(cast(Engine, between))
    claim = fresh.connect().claim("xen2", "m-2", 30.0)
    claim.commit({record("xen2"): word(claim.incarnation, 1, 0)})
    reader.catch_up()
    assert reader.holds() == {"xen1": ["db", "web"], "xen2": []}
    reader.fleet.close()


def test_an_epoch_that_is_deleted_and_made_again_is_another_one(
    fresh: Store, reader: Reader
) -> None:
    """In between the store has none, and the reader goes on."""
    claim = fresh.connect().claim("xen1", "m-1", 30.0)
    claim.commit({record("xen1"): word(claim.incarnation, 1, 0)})
    reader.catch_up()
    fresh.delete(EPOCH)
    reader.catch_up()
    position = reader.body.picture.position
    fresh.wipe()
    write(fresh, "xen2", "db")
    go_past(fresh, reader.engine, position)
    reader.catch_up()
    assert reader.holds() == {"xen1": [], "xen2": ["db"]}
    claim = fresh.connect().claim("xen1", "m-1", 30.0)
    web = pack_domain(made(1, "web", 1, 1), 2)
    whole = word(claim.incarnation, 2, 1)
    claim.commit({dom("xen1", 1): web, record("xen1"): whole})
    reader.catch_up()
    assert reader.holds() == {"xen1": ["web"], "xen2": ["db"]}
