"""The same lives in an asyncio loop: heard, waited for, and asked after."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import domindex.aio
from domindex import Added, NoSuchDomain, Removed, Renamed, ShutDown
from domindex.aio import AsyncEventStream, AsyncIndex
from tests.stage import PATIENCE, Stage, tale


def in_loop(stage: Stage, scene: Callable[[AsyncIndex], Coroutine[Any, Any, None]]) -> None:
    """Play a scene with an index, in a loop of its own; the toolstack waits, and so is called
    in threads. Nothing may be left."""

    async def play() -> None:
        async with domindex.aio.connect(stage.host, timeout=PATIENCE) as index:
            async with asyncio.timeout(10 * PATIENCE):
                await scene(index)
            assert len(index.stats.listeners) == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    before = {thread.name for thread in threading.enumerate()}
    asyncio.run(play())
    assert "domindex-watcher" not in {thread.name for thread in threading.enumerate()} - before


async def until(events: AsyncEventStream, kind: type[Any], domid: int) -> list[domindex.Event]:
    """The events up to one of that kind that tells of that domain."""
    heard: list[domindex.Event] = []
    async with asyncio.timeout(PATIENCE):
        async for event in events:
            heard.append(event)
            subject: Any = getattr(event, "domain", getattr(event, "new", None))
            if isinstance(event, kind) and subject.domid == domid:
                return heard
    raise AssertionError(f"the stream ended; heard {heard}")


def test_a_life_is_heard_in_a_loop(stage: Stage) -> None:
    """Created, renamed, crashed, destroyed: heard by `async for`, in order, and held by then."""

    async def scene(index: AsyncIndex) -> None:
        kinds = (Added, Renamed, ShutDown, Removed)
        async with index.events(replay=False, events=kinds, name="life") as events:
            assert [told.name for told in index.stats.listeners] == ["life"]
            domid = await asyncio.to_thread(stage.toolstack.create, "web")
            born = await index.wait_for(name="web", timeout=PATIENCE)
            assert born.domid == domid
            assert (await index.verified(name="web")).life == born.life
            assert (await index.info(domid)).domid == domid
            await asyncio.to_thread(stage.toolstack.rename, domid, "www")
            await index.refresh(PATIENCE)
            assert index.by_name("www").life == born.life
            await asyncio.to_thread(stage.toolstack.crash, domid)
            heard = await until(events, ShutDown, domid)
            ending = asyncio.ensure_future(index.wait_gone(born, PATIENCE))
            await asyncio.to_thread(stage.toolstack.destroy, domid)
            heard += await until(events, Removed, domid)
            assert tale(heard) == ["+web", "web>www", "www!crash", "-www (crash)"]
            removed = await ending
            # Under its last name, which the toolstack takes away before it ends the domain.
            assert (removed.domain.life, removed.domain.name) == (born.life, "www")
            assert removed.generation == heard[-1].generation
            assert domid not in index.domids
            with pytest.raises(NoSuchDomain):
                await index.verified(name="www")

    in_loop(stage, scene)


def test_many_tasks_wait_in_a_loop(stage: Stage) -> None:
    """Each for a domain of its own, and for its end; one is cancelled, which is its affair."""

    async def follow(index: AsyncIndex, name: str) -> int:
        born = await index.wait_for(name=name, timeout=PATIENCE)
        await index.wait_gone(born, PATIENCE)
        return born.domid

    async def scene(index: AsyncIndex) -> None:
        names = [f"vm-{number}" for number in range(10)]
        tasks = [asyncio.ensure_future(follow(index, name)) for name in (*names, "nobody")]
        made = [await asyncio.to_thread(stage.toolstack.create, name) for name in names]
        await asyncio.gather(*(index.refresh(PATIENCE) for _ in range(10)))
        assert [index.by_name(name).domid for name in names] == made
        for domid in made:
            await asyncio.to_thread(stage.toolstack.destroy, domid)
        assert await asyncio.gather(*tasks[:-1]) == made
        tasks[-1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[-1]

    in_loop(stage, scene)
