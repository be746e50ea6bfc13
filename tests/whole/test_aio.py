"""asyncio: the same answers, events and errors; nothing blocks the loop, nothing is left behind."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from types import FrameType
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

import pytest
from blockbuster import blockbuster_ctx

import domindex.aio
from domindex.aio import AsyncEventStream, AsyncIndex
from domindex.domain import Domain, OSType, ShutdownReason
from domindex.errors import (
    Ambiguous,
    Closed,
    HypercallFailed,
    InvalidKey,
    NoEventLoop,
    NoSuchDomain,
    NotLive,
    StoreError,
    StoreLost,
    TimedOut,
)
from domindex.events import (
    Added,
    Event,
    Lost,
    Ready,
    Rebooted,
    Recovered,
    Removed,
    Renamed,
    Resync,
    ShutDown,
    Synced,
)
from domindex.listening.async_stream import LoopSignal
from domindex.options import Timing
from domindex.ports import Host
from domindex.testing import QUICK, SimulatedHost
from tests.whole.helpers import CALM, LIMIT, SHARP, Meddler, eventually, our_threads

P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E", bound=Event)

U = UUID(int=7)


@pytest.fixture(autouse=True)
def _nothing_blocks_the_loop() -> Iterator[None]:
    """A call that may block raises, when it is made in a thread in which a loop runs."""
    with blockbuster_ctx():
        yield


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test in a loop of its own, in which it is to leave no task."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def whole() -> None:
            async with asyncio.timeout(8 * LIMIT):
                await test(*args, **kwargs)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(whole())

    return run


@asynccontextmanager
async def opened(host: Host, timing: Timing = CALM, **options: Any) -> AsyncIterator[AsyncIndex]:
    """An index in which nothing of what is done with it may be left."""
    async with domindex.aio.connect(host, timing=timing, **options) as index:
        yield index
        nothing_is_left(index)


def nothing_is_left(index: AsyncIndex) -> None:
    """No call at a ring and no mailbox."""
    assert index._picture.changed._calls == []
    assert index._body.hub._mailboxes == ()


async def soon(condition: Callable[[], object]) -> None:
    """`eventually` for the loop: let it turn until that holds, which nobody can be told of."""
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.001)


async def turn() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def heard(events: AsyncEventStream, count: int) -> list[Event]:
    """The next `count` events."""
    async with asyncio.timeout(LIMIT):
        return [await anext(events) for _ in range(count)]


async def until(events: AsyncEventStream, kind: type[E], limit: float = LIMIT) -> E:
    """The next event of that kind."""
    async with asyncio.timeout(limit):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"the stream ended without {kind}")


async def raised_by(awaitable: Awaitable[object]) -> BaseException:
    """What it raises, in at most LIMIT seconds."""
    try:
        async with asyncio.timeout(LIMIT):
            got = await awaitable
    except Exception as error:
        return error
    raise AssertionError(f"it gave {got}")


class Gate:
    """Holds up a thread of the index until it is opened; whether one has come is to be seen."""

    def __init__(self) -> None:
        self.reached, self._open = threading.Event(), threading.Event()

    def __call__(self, *_: object, **__: object) -> None:
        self.reached.set()
        assert self._open.wait(4 * LIMIT)

    def open(self) -> None:
        self._open.set()


# -- opening and closing ---------------------------------------------------------------------


@in_loop
async def test_it_is_awaited_or_entered(host: SimulatedHost) -> None:
    """Both give a live index; the block closes it, and so does its own."""
    web = host.create("web")
    async with domindex.aio.connect(host) as index:
        assert index.live
        assert index.by_name("web").domid == web
    with pytest.raises(Closed):
        index.by_name("web")
    async with await domindex.aio.connect(host, timing=CALM, timeout=LIMIT) as index:
        assert index._body.timing is CALM
    await index.close()
    with pytest.raises(Closed):
        len(index)


def test_nothing_is_left_when_it_is_closed(host: SimulatedHost) -> None:
    """P9: no thread, no descriptor, no line; whatever was awaited before."""

    async def use() -> None:
        async with opened(host) as index:
            async with index.events() as events:
                await index.refresh()
                await heard(events, 2)
            await index.wait_for(domid=0)
            await index.info(0)

    asyncio.run(use())  # what asyncio itself keeps is there now
    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(use())
    eventually(lambda: our_threads() == [])
    assert len(os.listdir("/proc/self/fd")) == before
    assert host._stores == []


@in_loop
async def test_what_keeps_it_from_opening_is_raised(host: SimulatedHost) -> None:
    """As `domindex.connect` raises it."""
    host.stop_xenstored()
    assert isinstance(await raised_by(domindex.aio.connect(host, timeout=0.1)), StoreLost)
    host.start_xenstored()
    meddler = Meddler(host)
    meddler.meddle["before open"] = lambda: threading.Event().wait(0.1)
    late = await raised_by(domindex.aio.connect(meddler, timeout=0.01).__aenter__())
    assert isinstance(late, TimedOut)


@pytest.mark.parametrize("step", ["before open", "before look", "before read"])
@in_loop
async def test_cancelled_while_it_opens(host: SimulatedHost, step: str) -> None:
    """Nobody is there to close it, so it is closed as it comes up; the loop does not wait."""
    host.create("web")
    meddler, gate = Meddler(host), Gate()
    meddler.meddle[step] = gate
    opening = asyncio.ensure_future(domindex.aio.connect(meddler))
    await soon(gate.reached.is_set)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert our_threads() != []
    gate.open()
    await soon(lambda: our_threads() == [])
    assert host._stores == []
    assert meddler.hypervisor is not None
    assert meddler.hypervisor.closed == 1


@in_loop
async def test_cancelled_as_it_has_opened(host: SimulatedHost) -> None:
    """It came up and was on its way to a task that was cancelled in between."""
    meddler, gate = Meddler(host), Gate()
    meddler.meddle["before look"] = gate  # or its thread ends before the task waits for it
    opening = asyncio.ensure_future(domindex.aio.connect(meddler))
    await soon(gate.reached.is_set)
    gate.open()
    while "domindex-aio" in our_threads():  # nothing reaches the loop meanwhile
        pass
    assert our_threads() == ["domindex-watcher"]
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await soon(lambda: our_threads() == [])
    assert host._stores == []


def test_the_loop_ends_while_it_opens(host: SimulatedHost) -> None:
    """A loop that was closed under it: it is closed as it comes up all the same."""
    meddler, gate = Meddler(host), Gate()
    meddler.meddle["before look"] = gate
    loop = asyncio.new_event_loop()
    opening = asyncio.ensure_future(domindex.aio.connect(meddler), loop=loop)
    loop.run_until_complete(soon(gate.reached.is_set))
    loop.close()
    opening._log_destroy_pending = False  # type: ignore[attr-defined]
    gate.open()
    del opening
    eventually(lambda: gc.collect() >= 0 and our_threads() == [])
    assert host._stores == []


@in_loop
async def test_a_close_that_is_cancelled_closes(host: SimulatedHost) -> None:
    """Its thread is not needed any more, and ends with what it does."""
    meddler, gate = Meddler(host), Gate()
    index = await domindex.aio.connect(meddler, timing=CALM)
    meddler.meddle["before look"] = gate
    host.create("web")
    await soon(gate.reached.is_set)
    closing = asyncio.ensure_future(index.close())
    await soon(lambda: index._picture.has_ended)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    gate.open()
    await soon(lambda: our_threads() == [])
    assert host._stores == []


def test_without_a_loop_it_says_so(host: SimulatedHost) -> None:
    """P9: a typed error with a sentence, where another framework drives the coroutine."""
    opening = domindex.aio.connect(host)
    for driven in (opening.__await__(), opening.__aenter__()):
        with pytest.raises(NoEventLoop, match="asyncio") as caught:
            driven.send(None)
        assert isinstance(caught.value, RuntimeError)
    with host.connect() as index:
        coat = AsyncIndex(index._body, "serve")
        assert coat.by_id(0) is index.by_id(0)
        uses: list[Callable[[], object]] = [
            coat.events,
            lambda: coat.wait_for(domid=0).send(None),
            lambda: coat.refresh().send(None),
            lambda: coat.info(0).send(None),
            lambda: coat.close().send(None),
        ]
        for use in uses:
            with pytest.raises(NoEventLoop, match="asyncio"):
                use()
        nothing_is_left(coat)
        assert index.live


# -- plain calls -----------------------------------------------------------------------------


@in_loop
async def test_plain_calls_answer_as_the_index_does(host: SimulatedHost) -> None:
    """P5, P11: every look-up and query is that of the index beneath."""
    web, db = host.create("web", uuid=U, type="pvh"), host.create("db")
    gone = host.create("gone")
    async with opened(host) as coat:
        host.destroy(gone, order="at once")
        await coat.refresh()
        index = coat
        for name in ("web", b"web"):
            assert coat.by_name(name) is index.by_id(web)
        assert coat.by_uuid(U) is coat.by_uuid(str(U)) is coat.by_id(web) is coat.resolve("web")
        assert coat.os_type(web) is OSType.PVH
        assert coat.names is index.names
        assert coat.uuids is index.uuids
        assert coat.domids is index.domids
        assert coat.all_by_name("web") == coat.all_by_uuid(U) == (index.by_id(web),)
        assert coat.find(prefix="d") == coat.range("d", "e") == (index.by_id(db),)
        coat.add_index("first", lambda domain: (domain.name or "?")[0])
        assert coat.by("first", "d") == (index.by_id(db),)
        assert coat.snapshot() is index.snapshot()
        assert coat.recent(name="gone") == index.recent(name="gone") != ()
        assert list(coat) == list(index)
        assert len(coat) == 3
        assert coat.generation == index.generation
        assert coat.capabilities == index.capabilities
        assert coat.stats.domains == 3
        assert 0 <= coat.age < LIMIT
        with pytest.raises(NoSuchDomain):
            coat.by_name("nobody")


@in_loop
async def test_a_look_up_does_not_wait_for_the_line(host: SimulatedHost) -> None:
    """P5: served or refused at once; that `wait` would block the loop is said when it is asked."""
    with pytest.raises(ValueError, match="wait_live"):
        domindex.aio.connect(host, stale="wait")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_stale"):
        domindex.aio.connect(host, max_stale=-1)
    async with domindex.aio.connect(host, timing=QUICK, max_stale=0.0) as index:
        host.stop_xenstored()
        await soon(lambda: 0 not in index.domids)
        with pytest.raises(NotLive):
            index.by_id(0)
        assert index.by_id(0, stale="serve").domid == 0
        host.start_xenstored()
        await index.wait_live(LIMIT)
    async with opened(host, QUICK, stale="refuse") as index:
        host.stop_xenstored()
        await soon(lambda: not index.live)
        with pytest.raises(NotLive):
            index.by_id(0)
        calls: list[Any] = [index.by_name, index.by_uuid, index.by_id, index.os_type]
        for call in calls:
            with pytest.raises(ValueError, match="wait_live"):
                call(0, stale="wait")
        with pytest.raises(ValueError, match="wait_live"):
            index.snapshot(stale="wait")  # type: ignore[arg-type]
        with pytest.raises(NotLive):
            index.snapshot()
        assert len(index.snapshot(stale="serve")) == 1
        assert index.by_id(0, stale="serve").domid == 0
        assert index.by_name("Domain-0", stale="serve").domid == 0
        assert index.os_type(0, stale="serve") is OSType.PV
        host.start_xenstored()
        await index.wait_live(LIMIT)
        assert index.by_id(0).domid == 0


# -- asking the host -------------------------------------------------------------------------


@in_loop
async def test_verified_is_what_the_hypervisor_says_now(host: SimulatedHost) -> None:
    """P7: by each key; what no event told of is found, and what is gone is proven absent."""
    async with opened(host) as index:
        host.lose_events(1000)
        keys: dict[str, Any]
        for keys in ({"name": "web"}, {"name": b"web"}, {"uuid": U}, {"domid": 7}):
            host.create("web", uuid=U, domid=7)
            assert 7 not in index.domids
            assert (await index.verified(**keys)).domid == 7
            host.destroy(7, order="at once")
            assert 7 in index.domids
            assert isinstance(await raised_by(index.verified(**keys)), NoSuchDomain)
        wrong: list[dict[str, Any]] = [{}, {"name": "web", "domid": 0}]
        for keys in wrong:
            assert isinstance(await raised_by(index.verified(**keys)), InvalidKey)
        host.refuse_hypercalls()
        assert isinstance(await raised_by(index.verified(domid=0)), HypercallFailed)
        host.refuse_hypercalls(False)


@in_loop
async def test_info_is_asked_aside(host: SimulatedHost) -> None:
    """As `Index.info`, with its age and its errors; many at once."""
    web = host.create("web")
    async with opened(host) as index:
        host.pause(web)
        assert (await index.info(web)).paused
        before = host.hypercalls
        assert await index.info(web, max_age=60) == await index.info(web, max_age=60)
        assert host.hypercalls == before
        assert isinstance(await raised_by(index.info(9)), NoSuchDomain)
        infos = await asyncio.gather(*(index.info(web) for _ in range(100)))
        assert {info.domid for info in infos} == {web}


@in_loop
async def test_facts_of_all_and_what_is_still_to_be_freed(host: SimulatedHost) -> None:
    """As in threads: one hypercall for all, a record's own life, memory that is still held."""
    host.create("web", domid=7)
    async with domindex.aio.connect(host, timing=CALM) as index:
        web = index.by_id(7)
        calls = host.hypercalls
        assert [*await index.infos()] == [*index.domids]
        assert host.hypercalls == calls + 1
        assert (await index.info(web)).uuid == web.uuid
        let_go = await asyncio.to_thread(host.zombie, 7)
        assert (await index.wait_gone(web, LIMIT)).domain.life == web.life
        assert [info.domid for info in await index.dying()] == [7]
        assert 7 in await index.infos(dying=True)
        with pytest.raises(NoSuchDomain):
            await index.info(web)
        with pytest.raises(TimedOut, match="holds memory"):
            await index.wait_gone(web, 0.05, freed=True)
        calls = host.hypercalls
        waiting = asyncio.create_task(index.wait_gone(web, LIMIT, freed=True))
        await soon(lambda: host.hypercalls >= calls + 2)  # it looks again and again
        let_go()
        assert (await waiting).domain.life == web.life
        assert await index.dying() == ()


@in_loop
async def test_after_a_refresh_everything_is_held(host: SimulatedHost) -> None:
    """P6: events or none; the generation is given; many at once share what is done."""
    async with opened(host) as index:
        host.lose_events(100)
        for number in range(5):
            host.create(f"vm-{number}")
            assert await index.refresh() == index.generation
            assert f"vm-{number}" in index.names
        host.rename(1, "renamed")
        await index.refresh()
        assert "renamed" not in index.names  # that event was lost too
        assert await index.refresh(names=True) == index.generation
        assert "renamed" in index.names


@in_loop
async def test_refreshes_that_are_asked_at_once_share_the_work(host: SimulatedHost) -> None:
    """P11: those asked while one is under way are one more, however many they are."""
    meddler, gate = Meddler(host), Gate()
    async with opened(meddler) as index:
        meddler.meddle["before look"] = gate
        first = asyncio.ensure_future(index.refresh(LIMIT))
        await soon(gate.reached.is_set)
        more = [asyncio.ensure_future(index.refresh(LIMIT)) for _ in range(100)]
        await turn()
        assert len(index._picture.changed._calls) == 1
        lists = index.stats.lists
        gate.open()
        await asyncio.gather(first, *more)
        assert index.stats.lists <= lists + 6


@in_loop
async def test_a_refresh_ends_in_time(host: SimulatedHost) -> None:
    """P9: TimedOut while the host is slow, NotLive while the line is down, Closed at the end."""
    meddler, gate = Meddler(host), Gate()
    async with opened(meddler, SHARP) as index:
        meddler.meddle["before look"] = gate
        asked = asyncio.ensure_future(index.refresh(LIMIT))
        await soon(gate.reached.is_set)
        assert isinstance(await raised_by(index.refresh(0.02)), TimedOut)
        gate.open()
        await asked
        host.stop_xenstored()
        await soon(lambda: not index.live)
        assert isinstance(await raised_by(index.refresh(0.02)), NotLive)
        recovers = asyncio.ensure_future(index.refresh(LIMIT))
        await turn()
        host.start_xenstored()
        await recovers
        host.stop_xenstored()
        asked = asyncio.ensure_future(index.refresh(60))
        await turn()
        await index.close()
        assert isinstance(await raised_by(asked), Closed)


# -- listening -------------------------------------------------------------------------------


@in_loop
async def test_events_come_in_order_and_the_index_holds_them(host: SimulatedHost) -> None:
    """P8: what is there, Synced, then one life from its beginning to its end."""
    async with opened(host) as index, index.events() as events:
        dom0 = index.by_id(0)
        assert await heard(events, 3) == [Added(dom0), Ready(dom0), Synced()]
        web = host.create("web")
        (born,) = await heard(events, 1)
        assert born == Added(index.by_id(web))
        assert born.generation == index.generation
        assert (await until(events, Ready)).domain == index.by_id(web)
        host.rename(web, "www")
        renamed = await until(events, Renamed)
        assert index.by_name("www") == renamed.new
        host.crash(web)
        crashed = await until(events, ShutDown)
        assert crashed.reason is ShutdownReason.CRASH
        host.destroy(web, order="at once")
        removed = await until(events, Removed)
        assert web not in index.domids
        assert removed.reason is ShutdownReason.CRASH
        assert events.pending == 0


@in_loop
async def test_a_listener_may_choose(host: SimulatedHost) -> None:
    """By kind, by domain, and without what is there: as `Index.events`."""
    async with (
        opened(host) as index,
        index.events(
            events=(Added, Removed), where=lambda d: d.name == "db", replay=False
        ) as chosen,
        index.events(replay=False) as rest,
    ):
        assert await heard(rest, 1) == [Synced()]
        host.create("web")
        await index.refresh()
        db = host.create("db")
        await index.refresh()
        host.destroy(db, order="at once")
        first, second = await heard(chosen, 2)
        assert isinstance(first, Added)
        assert isinstance(second, Removed)
        assert first.domain.name == second.domain.name == "db"
    with pytest.raises(ValueError, match="queue"):
        index.events(queue=0)
    with pytest.raises(ValueError, match="reboot_grace"):
        index.events(reboot_grace=-1)


@in_loop
async def test_what_where_raises_is_raised_and_the_stream_goes_on(host: SimulatedHost) -> None:
    """It is the caller's own code, in the caller's own loop."""

    def unsure(domain: domindex.Domain) -> bool:
        if domain.domid == 0:
            raise ZeroDivisionError
        return True

    async with opened(host) as index, index.events(where=unsure) as events:
        for _ in (Added, Ready):
            assert isinstance(await raised_by(anext(events)), ZeroDivisionError)
        assert await heard(events, 1) == [Synced()]


@in_loop
async def test_a_backlog_is_dropped_for_one_resync(host: SimulatedHost) -> None:
    """P8, P10: bounded as in threads; it is counted, and nobody else is held up."""
    async with (
        opened(host) as index,
        index.events(queue=5, replay=False) as slow,
        index.events(replay=False) as fast,
    ):
        for number in range(10):
            host.create(f"vm-{number}")
            await index.refresh()
        await heard(fast, 11)
        assert slow.overflows == index.stats.overflows == 1
        assert await heard(slow, 2) == [Synced(), Resync(tuple(index))]
        host.destroy(1, order="at once")
        assert (await until(slow, Removed)).domain.domid == 1


@in_loop
async def test_a_reboot_is_one_event(host: SimulatedHost) -> None:
    """To whoever grants it the time."""
    web = host.create("web", uuid=U)
    async with opened(host) as index, index.events(replay=False, reboot_grace=60) as events:
        old = index.by_id(web)
        await heard(events, 1)
        host.shutdown(web, ShutdownReason.REBOOT)
        await until(events, ShutDown)
        waiting = asyncio.ensure_future(anext(events))
        host.destroy(web, order="at once")
        await index.refresh()
        await turn()
        assert not waiting.done()
        again = host.create("web", uuid=U)
        event = await waiting
        assert isinstance(event, Rebooted)
        assert (event.old.life, event.new.domid) == (old.life, again)


@in_loop
async def test_a_death_that_was_no_reboot_is_told_by_the_loops_timer(host: SimulatedHost) -> None:
    """Nobody wakes the task: nothing else happens on this host."""
    web = host.create("web")
    async with opened(host) as index, index.events(replay=False, reboot_grace=0.02) as events:
        await heard(events, 1)
        host.destroy(web, order="at once")
        assert (await until(events, Removed)).domain.domid == web


@in_loop
async def test_the_line_is_lost_and_comes_back(host: SimulatedHost) -> None:
    """P9: told as Lost and Recovered, with the difference in between."""
    web = host.create("web")
    async with opened(host, QUICK) as index, index.events(replay=False) as events:
        await heard(events, 1)
        host.stop_xenstored()
        assert isinstance((await until(events, Lost)).cause, StoreLost)
        with pytest.raises(NotLive):
            index.by_name("nobody")
        host.destroy(web, order="at once")
        late = index.events()  # one who comes now hears how it stands
        assert isinstance((await heard(late, 6))[-1], Lost)
        late.close()
        waiting = asyncio.ensure_future(index.wait_live())
        await turn()
        assert not waiting.done()
        host.start_xenstored()
        assert (await until(events, Removed)).inferred
        assert isinstance((await heard(events, 1))[0], Recovered)
        await waiting


@in_loop
async def test_closing_ends_the_iteration(host: SimulatedHost) -> None:
    """Whoever closes it, from wherever, and however many iterate."""
    async with opened(host) as index:
        streams = [index.events() for _ in range(3)]

        async def listen(events: AsyncEventStream) -> int:
            return len([event async for event in events])

        tasks = [asyncio.ensure_future(listen(events)) for events in streams * 2]
        await soon(lambda: not any(events.pending for events in streams))
        await turn()
        streams[0].close()
        streams[0].close()
        assert sum(await asyncio.gather(tasks[0], tasks[3])) == 3
        closer = threading.Thread(target=streams[1].close)
        closer.start()
        assert sum(await asyncio.gather(tasks[1], tasks[4])) == 3
        assert not tasks[2].done()
        await index.close()
        assert sum(await asyncio.gather(tasks[2], tasks[5])) == 3
        with pytest.raises(StopAsyncIteration):
            await anext(streams[2])
        with pytest.raises(Closed):
            index.events()
        await soon(lambda: not closer.is_alive())
        streams[2].close()


@in_loop
async def test_a_stream_that_is_let_go_is_closed(host: SimulatedHost) -> None:
    """`break` leaves nothing that fills up."""
    async with opened(host) as index:
        async for event in index.events():
            assert isinstance(event, Added)
            break
        gc.collect()
        await soon(lambda: len(index.stats.listeners) == 0)


@in_loop
async def test_others_get_their_turn_while_events_wait(host: SimulatedHost) -> None:
    """A backlog is worked off one by one, wanted or not, and the loop turns in between."""
    async with opened(host) as index:
        for number in range(50):
            host.create(f"vm-{number}")
        await index.refresh()
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count())
        async with index.events(events=[Synced]) as events:
            assert await heard(events, 1) == [Synced()]
        assert turns >= 50
        counting.cancel()
        await asyncio.wait([counting])


def test_a_closed_loop_harms_no_index(host: SimulatedHost) -> None:
    """P8: a stream whose loop has gone is a listener like any other that is stuck."""
    index = host.connect(CALM)
    loop = asyncio.new_event_loop()

    async def listen() -> tuple[AsyncEventStream, asyncio.Future[Event]]:
        events = AsyncIndex(index._body, "serve").events(queue=3)
        await heard(events, 2)
        waiting = asyncio.ensure_future(anext(events))
        await turn()
        return events, waiting

    events, waiting = loop.run_until_complete(listen())
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    for number in range(10):
        host.create(f"vm-{number}")
        index.refresh()
    assert index.live
    assert index.stats.reconnects == 0
    assert "vm-9" in index.names
    assert events.overflows == 1
    index.close()
    del waiting
    gc.collect()


# -- waiting ---------------------------------------------------------------------------------


@in_loop
async def test_a_node_is_told_in_the_loop(host: SimulatedHost) -> None:
    """Now and at each change, in the thread of the loop, until its domain ends."""
    host.create("web", domid=1)
    told: asyncio.Queue[tuple[str | None, bytes | None, int]] = asyncio.Queue()
    async with opened(host) as index:
        watch = index.watch(
            index.by_id(1),
            "memory/meminfo",
            lambda domain, value: told.put_nowait((domain.name, value, threading.get_ident())),
        )
        async with asyncio.timeout(LIMIT):
            assert await told.get() == ("web", None, threading.get_ident())
            host.write(1, "memory/meminfo", b"1024")
            assert await told.get() == ("web", b"1024", threading.get_ident())
        host.destroy(1, order="at once")
        await index.refresh()
        assert watch.closed


@in_loop
async def test_nodes_are_read_once(host: SimulatedHost) -> None:
    """P1, P9: by tasks beside each other, without a thread, of that life and no other."""
    host.create("web", domid=1)
    host.write(1, "data", b"1")
    async with opened(host) as index:
        web = index.by_id(1)
        threads = threading.active_count()
        answers = await asyncio.gather(*(index.read(web, "data", "x") for _ in range(50)))
        assert answers == [{"data": b"1", "x": None}] * 50
        assert threading.active_count() <= threads
        host.refuse_node(1, "x")
        with pytest.raises(StoreError) as caught:
            await index.read(web, "data", "x")
        assert caught.value.path == "/local/domain/1/x"
        with pytest.raises(InvalidKey):
            await index.read(web, "/x")
        host.destroy(1, order="at once")
        with pytest.raises(NoSuchDomain):
            await index.read(web, "data")


@in_loop
async def test_a_task_may_give_a_read_up(host: SimulatedHost) -> None:
    """P9: nothing is left of it; and one that waits too long is told why."""
    async with opened(host) as index:
        dom0, readings = index.by_id(0), index._body.watcher._requests.readings
        host.stop_xenstored()
        await soon(lambda: not index.live)
        task = asyncio.create_task(index.read(dom0, "name"))
        await soon(lambda: bool(readings))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert not readings
        with pytest.raises(NotLive):
            await index.read(dom0, "name", timeout=0.01)
        assert not readings


@in_loop
async def test_every_write_is_told_in_the_loop(host: SimulatedHost) -> None:
    """P8: the same value again, too."""
    host.create("web", domid=1)
    told: list[bytes | None] = []
    async with opened(host) as index:
        with index.watch(index.by_id(1), "x", lambda _, value: told.append(value), every=True):
            await soon(lambda: told == [None])
            for count in range(1, 4):
                host.write(1, "x", b"1")
                await soon(lambda count=count: told == [None] + [b"1"] * count)  # type: ignore[misc]


@in_loop
async def test_one_message_to_a_busy_loop_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: however many changes come before its turn; after it the next one is sent again."""
    signal = LoopSignal()
    sent: list[Callable[[], object]] = []
    monkeypatch.setattr(signal, "call", sent.append)
    for messages in (1, 2):
        for _ in range(3):
            signal()
        assert len(sent) == messages
        sent[-1]()


@in_loop
async def test_of_a_node_a_busy_loop_is_told_the_last(host: SimulatedHost) -> None:
    """However many come meanwhile: nothing piles up. And nothing is told once it is closed."""
    host.create("web", domid=1)
    told: list[bytes | None] = []
    async with opened(host) as index:
        watch = index.watch(index.by_id(1), "data/x", lambda _, value: told.append(value))
        await soon(lambda: told == [None])
        hear = watch._handler
        for number in range(100):
            hear(watch.domain, b"%d" % number)
        await turn()
        assert told == [None, b"99"]
        hear(watch.domain, b"late")
        watch.close()
        await turn()
        assert told == [None, b"99"]


@in_loop
async def test_a_value_that_comes_as_the_loop_takes_the_last_is_told(host: SimulatedHost) -> None:
    """P8: a thread brings it, and is stopped when it has seen that the loop knows of a value."""
    host.create("web", domid=1)
    told: list[bytes | None] = []
    called = threading.Event()

    def on_value(_: Domain, value: bytes | None) -> None:
        told.append(value)
        called.set()

    async with opened(host) as index:
        watch = index.watch(index.by_id(1), "data/x", on_value)
        await soon(lambda: told == [None])
        called.clear()
        hear = watch._handler
        looked = threading.Event()

        def stop(frame: FrameType, event: str, _: object) -> Any:
            if event == "line" and "waiting" in frame.f_locals and not looked.is_set():
                looked.set()
                called.wait(0.2)  # the loop has to wait for us meanwhile
            return stop

        def bring() -> None:
            sys.settrace(lambda frame, *_: stop if frame.f_code.co_name == "take" else None)
            try:
                hear(watch.domain, b"new")
            finally:
                sys.settrace(None)

        hear(watch.domain, b"old")
        thread = threading.Thread(target=bring)
        thread.start()
        assert looked.wait(LIMIT)
        await soon(lambda: told[-1:] == [b"new"])
        thread.join(LIMIT)


@in_loop
async def test_a_handler_of_a_node_that_fails_is_called_again(host: SimulatedHost) -> None:
    """The loop says what it raised."""
    host.create("web", domid=1)
    said: list[dict[str, Any]] = []
    told: list[bytes | None] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))

    def handler(_: object, value: bytes | None) -> None:
        told.append(value)
        raise RuntimeError("mine")

    async with opened(host) as index:
        with index.watch(index.by_id(1), "data/x", handler):
            await soon(lambda: told == [None])
            host.write(1, "data/x", b"1")
            await soon(lambda: told == [None, b"1"])
    assert [str(context["exception"]) for context in said] == ["mine", "mine"]


@in_loop
async def test_a_node_that_xenstored_refuses_is_told_in_the_loop(host: SimulatedHost) -> None:
    """By `on_error`, with the record; without one nothing is told, and the next value is."""
    host.create("web", domid=1)
    told: list[tuple[object, ...]] = []
    async with opened(host) as index:
        web = index.by_id(1)
        host.refuse_node(1, "data/x", "EACCES")
        with (
            index.watch(web, "data/x", lambda *_: None, on_error=lambda *its: told.append(its)),
            index.watch(web, "data/x", lambda *its: told.append(its)),
        ):
            await soon(lambda: told)
            ((domain, error),) = told
            assert (domain, type(error)) == (web, StoreError)
            host.allow_node(1, "data/x")
            host.write(1, "data/x", b"1")
            await index.refresh()  # what may not be watched is read again
            await soon(lambda: len(told) > 1)
            assert told[1:] == [(web, b"1")]


@in_loop
async def test_what_cannot_be_watched_is_said_at_once(host: SimulatedHost) -> None:
    """As by the index beneath."""
    host.create("web", domid=1)
    async with opened(host) as index:
        web = index.by_id(1)
        with pytest.raises(InvalidKey):
            index.watch(web, "/memory", print)
        host.destroy(1, order="at once")
        await index.refresh()
        with pytest.raises(NoSuchDomain):
            index.watch(web, "memory", print)


@in_loop
async def test_waiting_for_what_comes(host: SimulatedHost) -> None:
    """Each wait gives what `Index` gives, at once if it is there already."""
    async with opened(host) as index:
        assert (await index.wait_for(name="Domain-0", timeout=0)).domid == 0
        waits = [
            asyncio.ensure_future(wait)
            for wait in (
                index.wait_for(name="web"),
                index.wait_for(uuid=U, ready=True),
                index.wait_for(where=lambda domain: domain.name == "web"),
                index.wait_for(domid=7, name="web"),
            )
        ]
        generation = asyncio.ensure_future(index.wait_generation(index.generation + 1))
        await turn()
        host.create("web", uuid=U, domid=7)
        domains = await asyncio.gather(*waits)
        assert {domain.domid for domain in domains} == {7}
        assert index.generation >= await generation
        gone = asyncio.ensure_future(index.wait_gone(index.by_id(7)))
        await turn()
        assert not gone.done()
        stopped = asyncio.ensure_future(index.wait_stopped(index.by_id(7)))
        never = asyncio.ensure_future(index.wait_for(domain=index.by_id(7), name="db"))
        await turn()
        host.crash(7)
        assert await stopped is ShutdownReason.CRASH
        host.destroy(7, order="at once")
        removed = await gone
        assert isinstance(await raised_by(never), NoSuchDomain)
        assert (removed.domain.life, removed.inferred) == (domains[0].life, False)
        await index.wait_live(0)


@in_loop
async def test_what_does_not_come_is_said(host: SimulatedHost) -> None:
    """Each wait raises what that of `Index` raises."""
    host.create("two")
    host.create("two")
    async with opened(host, SHARP) as index:
        assert isinstance(await raised_by(index.wait_for(name="web", timeout=0.02)), TimedOut)
        assert isinstance(await raised_by(index.wait_for(name="two", timeout=0.02)), Ambiguous)
        assert isinstance(await raised_by(index.wait_for()), InvalidKey)
        assert isinstance(await raised_by(index.wait_gone(index.by_id(0), 0.02)), TimedOut)
        assert isinstance(await raised_by(index.wait_stopped(index.by_id(0), 0.02)), TimedOut)
        assert isinstance(await raised_by(index.wait_generation(10**6, 0.02)), TimedOut)
        host.stop_xenstored()
        await soon(lambda: not index.live)
        assert isinstance(await raised_by(index.wait_live(0.02)), NotLive)
        assert isinstance(await raised_by(index.wait_for(name="web", timeout=0.02)), NotLive)
        assert isinstance(await raised_by(index.wait_gone(index.by_id(0), 0.02)), NotLive)
        waits = [
            asyncio.ensure_future(wait)
            for wait in (
                index.wait_for(name="web"),
                index.wait_gone(index.by_id(0)),
                index.wait_live(),
                index.wait_generation(10**6),
            )
        ]
        await turn()
        await index.close()
        for wait in waits:
            assert isinstance(await raised_by(wait), Closed)
        assert isinstance(await raised_by(index.wait_live()), Closed)


@in_loop
async def test_between_changes_nobody_looks(host: SimulatedHost) -> None:
    """P11: one look at the beginning and one at each ring."""
    async with opened(host) as index:
        looks = 0

        def look(domain: domindex.Domain) -> bool:
            nonlocal looks
            looks += domain.domid == 0
            return domain.name == "web"

        waiting = asyncio.ensure_future(index.wait_for(where=look))
        await turn()
        assert looks == 1
        rings = index._picture.changed._count
        host.create("db")
        await index.refresh()
        for _ in range(100):
            await turn()
        assert 1 < looks <= 1 + index._picture.changed._count - rings
        host.create("web")
        await waiting


@in_loop
async def test_what_where_raises_in_a_wait_is_raised(host: SimulatedHost) -> None:
    """Even what looks like the end of the time limit; there is no second look."""
    raised = [TimeoutError("of the caller"), ZeroDivisionError()]

    def fails(_: domindex.Domain) -> bool:
        raise raised.pop(0)

    async with opened(host) as index:
        assert str(await raised_by(index.wait_for(where=fails))) == "of the caller"
        assert isinstance(await raised_by(index.wait_for(where=fails)), ZeroDivisionError)


AWAITED: dict[str, Callable[[AsyncIndex], Awaitable[object]]] = {
    "wait_for": lambda index: index.wait_for(name="nobody"),
    "wait_gone": lambda index: index.wait_gone(index.by_id(0)),
    "wait_live": lambda index: index.wait_live(),
    "wait_generation": lambda index: index.wait_generation(10**6),
    "refresh": lambda index: index.refresh(),
}


@pytest.mark.parametrize("what", AWAITED)
@in_loop
async def test_a_wait_that_is_cancelled_leaves_nothing(host: SimulatedHost, what: str) -> None:
    """No call at the next ring, and no time limit that runs on."""
    async with opened(host, SHARP) as index:
        host.stop_xenstored()
        await soon(lambda: not index.live)
        waiting = asyncio.ensure_future(AWAITED[what](index))
        await turn()
        assert len(index._picture.changed._calls) == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        nothing_is_left(index)
        assert isinstance(await raised_by(limited(AWAITED[what](index))), TimeoutError)


async def limited(awaitable: Awaitable[object]) -> None:
    async with asyncio.timeout(0.01):
        await awaitable


@pytest.mark.parametrize("what", ["info", "verified"])
@in_loop
async def test_a_question_that_is_cancelled_is_not_waited_for(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The hypercall goes on in its thread, and its answer is nobody's."""
    async with opened(host) as index:
        gate = Gate()
        body = index._body
        of, method = (body.facts, "info") if what == "info" else (body, "confirms")
        monkeypatch.setattr(of, method, gate)
        ask = index.info(0) if what == "info" else index.verified(domid=0)
        waiting = asyncio.ensure_future(ask)
        await soon(gate.reached.is_set)
        assert index.by_id(0).domid == 0
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.open()
        monkeypatch.undo()


@in_loop
async def test_an_iteration_that_is_cancelled_misses_nothing(host: SimulatedHost) -> None:
    """Neither while it waits, nor as the event comes, nor with a backlog."""
    async with opened(host) as index, index.events(replay=False) as events:
        await heard(events, 1)
        told: list[Event] = []
        for number in range(50):
            waiting = asyncio.ensure_future(anext(events))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            host.create(f"vm-{number}")
            if number % 2:
                await index.refresh()
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                told.append(await waiting)
        await index.refresh()
        told += await heard(events, events.pending)
        added = [event.domain.domid for event in told if isinstance(event, Added)]
        assert added == [domain.domid for domain in index if domain.domid]


@in_loop
async def test_many_tasks(host: SimulatedHost) -> None:
    """150 tasks that wait and listen, ten for each domain, while the line comes and goes.

    Each change wakes them all, and under `-X dev` asyncio then looks up every file of the stack
    on the disk: with 50 domains that took longer than a busy machine was given.
    """

    async def follow(index: AsyncIndex, name: str) -> None:
        async with index.events(where=lambda domain: domain.name == name) as events:
            born = await index.wait_for(name=name)
            assert index.by_name(name) == born
            await until(events, Removed, 8 * LIMIT)  # of all of them, with asyncio's own checks
            assert (await index.wait_gone(born)).domain.life == born.life

    async with opened(host, QUICK) as index:
        names = [f"vm-{number}" for number in range(15)]
        tasks = [asyncio.ensure_future(follow(index, name)) for name in names * 10]
        await turn()
        made = [host.create(name) for name in names]
        host.cut_line()
        await index.wait_for(name=names[-1])
        await asyncio.gather(*(index.refresh() for _ in range(20)))
        for domid in made:
            host.destroy(domid, order="at once")
            if domid % 5 == 0:
                host.cut_line()
        await asyncio.gather(*tasks)
        await index.refresh()
        assert len(index) == 1


@in_loop
async def test_one_index_serves_loops_in_several_threads(host: SimulatedHost) -> None:
    """It belongs to no loop; a stream belongs to the one in which it was made."""
    async with opened(host) as index:

        async def listen() -> Event:
            async with index.events(replay=False) as events:
                assert await index.wait_for(name="web") == await index.wait_for(name="web")
                return (await heard(events, 1))[0]

        loops = [asyncio.to_thread(asyncio.run, listen()) for _ in range(3)]
        tasks = [asyncio.ensure_future(one) for one in (*loops, listen(), listen())]
        await soon(lambda: len(index._picture.changed._calls) == 4)
        host.create("web")
        assert await asyncio.gather(*tasks) == [Synced()] * 5
