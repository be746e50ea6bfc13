"""Ordinary uses, as programs write them, for type checkers: both accept each line. Never run.

What they are to refuse is in wrong_uses.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import assert_type
from uuid import UUID

import domindex
from domindex import (
    Added,
    Domain,
    DomainInfo,
    Event,
    Handler,
    Lost,
    NodeHandler,
    OSType,
    Removed,
    Renamed,
    ShutdownReason,
    aio,
    direct,
)
from domindex.testing import SimulatedHost


class Balancer:
    """Keeps a record for each domain."""

    def __init__(self, index: domindex.Index) -> None:
        self.index = index
        self.known: dict[domindex.Life, Domain] = {}

    def on_event(self, event: Event) -> None:
        """A handler of its own, which tells events apart."""
        match event:
            case Added(domain):
                self.known[domain.life] = domain
            case Removed(domain, reason):
                self.known.pop(domain.life, None)
                assert_type(reason, ShutdownReason | None)
            case Renamed(old, new):
                print(old.printable, new.printable, event.generation, event.time)
            case Lost(cause):
                print(cause)
            case _:
                pass


def look_up(index: domindex.Index) -> None:
    """By each key, and in the mappings."""
    assert_type(index.by_name("web"), Domain)
    assert_type(index.by_name(b"web", verify=True, stale="refuse").name, str | None)
    assert_type(index.by_uuid(UUID(int=1)).uuid, UUID)
    index.by_uuid("00000000-0000-0000-0000-000000000001")
    assert_type(index.by_id(7).domid, int)
    assert_type(index.os_type(7), OSType)
    names: Mapping[str, Domain] = index.names
    assert_type(names.get("web"), Domain | None)
    assert_type(index.names["web"], Domain)
    assert_type(index.names.copy(), dict[str, Domain])
    assert_type(index.names | {"other": 1}, dict[str, Domain | int])
    assert_type(dict(index.domids), dict[int, Domain])
    for name, domain in index.names.items():
        print(name.upper(), domain.type is OSType.PVH, index.by_id(0) in index)
    for domain in index:
        print(domain.domid)
    assert_type(
        index.find(prefix="web", type="pvh", where=lambda domain: domain.name), tuple[Domain, ...]
    )
    assert_type(index.snapshot().diff(index.snapshot())[0].generation, int)
    assert_type(index.info(7), DomainInfo)


def wait(index: domindex.Index) -> None:
    """With a limit, and without."""
    web = index.wait_for(name="web", ready=True, timeout=5)
    assert_type(index.wait_gone(web, timeout=None).reason, ShutdownReason | None)
    assert_type(index.refresh(), int)
    try:
        index.wait_live(timeout=0.5)
    except domindex.NotLive as error:
        print(error.cause)
    except (domindex.Closed, domindex.TimedOut):
        raise


def listen(index: domindex.Index) -> None:
    """With methods, functions and lambdas."""
    handler: Handler = Balancer(index).on_event
    on_node: NodeHandler = lambda domain, value: print(domain, value)  # noqa: E731
    with index.subscribe(handler, events=(Added, Removed)) as subscription:
        subscription.drain(timeout=None)
    index.subscribe(print, events=Added, on_error=lambda event, error: print(event, error))
    with index.events(events=[Added]) as events:
        assert_type(events.get(timeout=1), Event)
        for event in events:
            assert_type(event, Event)
    with index.watch(index.by_id(1), "memory/target", on_node, threaded=False) as watch:
        print(watch.error, index.fileno(), index.dispatch())


async def loop() -> None:
    """The same in asyncio."""
    async with aio.connect(stale="refuse", timeout=None) as index:
        web = await index.wait_for(where=lambda domain: domain.name == "web")
        assert_type(await index.verified(domid=web.domid), Domain)
        async with index.events(events=(Added,)) as events:
            async for event in events:
                assert_type(event, Event)
        assert_type((await index.info(web.domid)).memory, int)
    index = await aio.connect()
    await index.close()


def main() -> None:
    """Each way to open it."""
    with domindex.connect(timing=domindex.Timing(probe=1), timeout=None) as index:
        look_up(index)
        wait(index)
        listen(index)
    with direct.open(timeout=None) as look_ups:
        assert_type(look_ups.all(), tuple[Domain, ...])
    with SimulatedHost() as host, host.connect() as simulated:
        host.create("web", type="pvh")
        assert_type(simulated, domindex.Index)
    asyncio.run(loop())
    print(domindex.__version__)
