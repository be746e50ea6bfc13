"""A filter by name, in the order in which libxl ends a domain: the name goes first."""

from __future__ import annotations

import asyncio
import select

import pytest

import domindex.aio
from domindex.domain import Domain
from domindex.events import Added, Event, Removed, Renamed
from domindex.index import Index
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, LIMIT


def is_web(domain: Domain) -> bool:
    return domain.name is not None and domain.name.startswith("web")


def end(host: SimulatedHost, index: Index, domid: int) -> None:
    """As libxl does: its nodes are removed, and seen to be, before the domain ends."""
    host.clear_node(domid)
    index.refresh()
    host.destroy(domid)
    index.refresh()


def holds(told: list[Event], domid: int) -> None:
    """The end is told, under the last name."""
    (gone,) = (event for event in told if isinstance(event, Removed))
    assert (gone.domain.domid, gone.domain.name) == (domid, "web")


def test_a_listener_by_name_hears_the_end(host: SimulatedHost, index: Index) -> None:
    """P8: a filter sees the end of whatever it let in; in a thread of its own."""
    told: list[Event] = []
    with index.subscribe(
        told.append, events=(Added, Removed), where=is_web, replay=False
    ) as subscription:
        web = host.create("web")
        index.refresh()
        end(host, index, web)
        assert subscription.drain(LIMIT)
    holds(told, web)
    assert len(told) == 2


def test_one_in_a_loop_hears_it_and_so_does_one_that_calls_by_life(
    host: SimulatedHost, index: Index
) -> None:
    """P8: as the documents have it."""
    told: list[Event] = []
    index.subscribe(told.append, where=is_web, replay=False, threaded=False)
    web = host.create("web")
    index.refresh()
    end(host, index, web)
    while not any(isinstance(event, Removed) for event in told):
        assert select.select([index], [], [], LIMIT)[0]
        index.dispatch()
    holds(told, web)


def test_a_stream_gives_it(host: SimulatedHost, index: Index) -> None:
    """P8: also of a life that was let in by its new name alone."""
    with index.events(events=(Renamed, Removed), where=is_web, replay=False) as events:
        web = host.create("other")
        index.refresh()
        host.rename(web, "web")
        index.refresh()
        end(host, index, web)
        told = [events.get(LIMIT) for _ in range(3)]
    assert [type(event) for event in told] == [Renamed, Renamed, Removed]
    holds(told, web)


def test_asyncio_hears_it(host: SimulatedHost) -> None:
    """P8: the same in a loop of asyncio."""

    async def follow() -> list[Event]:
        async with (
            domindex.aio.connect(host, timing=CALM) as index,
            index.events(events=(Added, Removed), where=is_web, replay=False) as events,
        ):
            web = host.create("web")
            await index.refresh()
            host.clear_node(web)
            await index.refresh()
            host.destroy(web)
            await index.refresh()
            return [await anext(events) for _ in range(2)]

    told = asyncio.run(follow())
    holds(told, 1)


@pytest.mark.parametrize("name", ["web", "db"])
def test_whoever_asks_for_the_past_or_waits_gets_the_same(
    host: SimulatedHost, index: Index, name: str
) -> None:
    """P8: `recent` and `wait_gone` tell the last name, as the event does."""
    domid = host.create(name)
    index.refresh()
    record = index.by_id(domid)
    end(host, index, domid)
    assert index.wait_gone(record, LIMIT).domain.name == name
    assert [gone.domain.name for gone in index.recent(domid=domid)] == [name]
    assert index.recent(name=name) == index.recent(domid=domid)
