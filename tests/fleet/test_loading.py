"""A first load: what breaks amid it, and what is written meanwhile."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator

import pytest

from domindex.errors import Closed
from domindex.events import Added, Removed
from domindex.fleet import HostEvent
from domindex.fleet.body import FleetBody
from domindex.fleet.errors import LineLost
from domindex.fleet.fleet import Fleet
from domindex.fleet.memory import MemoryEngine, MemoryFeed, MemoryStore
from domindex.fleet.ports import Loaded
from tests.fleet.stage import World


class Meddled(MemoryEngine):
    """An engine amid whose loads something happens."""

    def __init__(self, store: MemoryStore, happens: Callable[[], object]) -> None:
        super().__init__(store, timeout=0.0)
        self.feeds: list[MemoryFeed] = []
        self._happens = happens

    def load(self, hosts: Collection[str] | None = None) -> Loaded:
        """As `Engine.load`."""
        loaded = super().load(hosts)

        def pairs() -> Iterator[tuple[str, bytes]]:
            for place, pair in enumerate(loaded.pairs):
                if place == 1:
                    self._happens()
                yield pair

        return Loaded(loaded.epoch, loaded.position, pairs())

    def follow(self, position: int, epoch: str | None) -> MemoryFeed:
        """As `Engine.follow`."""
        self.feeds.append(super().follow(position, epoch))
        return self.feeds[-1]


def test_a_load_that_breaks_leaves_no_feed_open_and_is_made_again() -> None:
    """The feed is opened first, so that it is set up while the store is read."""
    breaks = [LineLost("amid the load")]

    def happens() -> None:
        if breaks:
            raise breaks.pop()

    with World.open("xen1") as world:
        world.machines["xen1"].host.create("web")
        world.settle()
        engine = Meddled(world.store, happens)
        body = FleetBody(engine, max_age=math.inf, clock=world.clock)
        with Fleet(body, "serve") as fleet:
            for _ in range(5):
                body.following.step(0.0, lambda _: None)
            assert fleet.by_name("web").host == "xen1"
            broken, used = engine.feeds
            with pytest.raises(Closed):
                broken.next(0)
            used.next(0)


def test_what_is_written_amid_a_load_is_held_after_it() -> None:
    """F5: the load is of one position, and the feed tells what came after it."""
    with World.open("xen1") as world:
        machine = world.machines["xen1"]
        ends = machine.host.create("ends")
        world.settle()

        def happens() -> None:
            if ends in machine.host.domids():
                machine.host.destroy(ends)
                machine.host.create("comes")
                machine.refresh()
                world.write(machine)

        body = FleetBody(Meddled(world.store, happens), max_age=math.inf, clock=world.clock)
        with Fleet(body, "serve") as fleet, fleet.events(events=(Added, Removed)) as heard:
            for _ in range(5):
                body.following.step(0.0, lambda _: None)
            assert {found.domain.name for found in fleet} == {"comes"}
            inner = [e.event for _ in range(3) if isinstance(e := heard.get(0), HostEvent)]
            told = [(type(e), e.domain.name) for e in inner if isinstance(e, (Added, Removed))]
            assert told == [(Added, "ends"), (Removed, "ends"), (Added, "comes")]


def test_a_broken_line_is_told_before_its_feed_has_ended() -> None:
    """F8: the end of a feed may take as long as a call."""
    live_at_its_end: list[bool] = []

    class Slow(MemoryFeed):
        def close(self) -> None:
            live_at_its_end.append(body.picture.live)
            super().close()

    class SlowEngine(MemoryEngine):
        def follow(self, position: int, epoch: str | None) -> MemoryFeed:
            return Slow(self, position, epoch)

    with World.open("xen1") as world:
        body = FleetBody(SlowEngine(world.store, 0.0), max_age=math.inf, clock=world.clock)
        with Fleet(body, "serve") as fleet:
            for _ in range(3):
                body.following.step(0.0, lambda _: None)
            assert fleet.live
            world.store.stop()
            body.following.step(0.0, lambda _: None)
            assert live_at_its_end == [False]
