"""What comes amid something: Ctrl-C in close, close in a signal's handler, a fork, no memory."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

import domindex.aio
from domindex.domain import Domain
from domindex.errors import Closed
from domindex.events import Added, Event, Ready, Synced
from domindex.index import Index
from domindex.listening.mailbox import Mailbox
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, LIMIT, Meddler, eventually, our_threads
from tests.whole.test_dispatch import run
from tests.whole.test_faults import all_locks_held, in_a_child


@pytest.fixture
def host() -> SimulatedHost:
    """One kind will do: what differs between them is below all this."""
    return SimulatedHost(idle=True)


async def to_be_awaited(*_: object) -> None:
    """What nobody here would await."""


# -- close ---------------------------------------------------------------------------------------


def test_a_close_that_was_interrupted_is_finished_by_the_next(host: SimulatedHost) -> None:
    """P9: Ctrl-C while it waits for a slow handler; it leaves no thread, watch or descriptor."""
    meddler = Meddler(host)
    index = domindex.connect(meddler, timing=CALM)
    began, go = threading.Event(), threading.Event()

    def slow(_: Event) -> None:
        began.set()
        assert go.wait(LIMIT)

    index.subscribe(slow)
    fd = index.fileno()
    assert began.wait(LIMIT)
    (thread,) = [each for each in threading.enumerate() if each.name == "domindex-listener"]
    join = thread.join

    def interrupted(_: float | None = None) -> None:
        raise KeyboardInterrupt

    thread.join = interrupted  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        index.close()
    with pytest.raises(Closed):
        index.by_id(0)
    assert meddler.hypervisor is not None
    assert not meddler.hypervisor.closed
    thread.join = join  # type: ignore[method-assign]
    go.set()
    index.close()
    assert meddler.hypervisor.closed
    assert not thread.is_alive()
    with pytest.raises(OSError, match=r"."):
        os.fstat(fd)


def test_a_closed_index_answers_nothing_while_it_is_closed_either(host: SimulatedHost) -> None:
    """P9: from the first moment on, with a handler that is stuck; a second close does not wait."""
    index = host.connect(timing=CALM)
    record = index.by_id(0)
    began, go = threading.Event(), threading.Event()

    def stuck(_: Event) -> None:
        began.set()
        assert go.wait(LIMIT)

    index.subscribe(stuck)
    assert began.wait(LIMIT)
    closer = threading.Thread(target=index.close)
    closer.start()
    eventually(lambda: index._picture.has_ended)
    index.close()
    assert closer.is_alive()
    calls: list[Callable[[], object]] = [
        lambda: index.by_id(0),
        lambda: index.names["Domain-0"],
        lambda: record in index,
        lambda: index.snapshot(),
        lambda: len(index),
    ]
    for call in calls:
        with pytest.raises(Closed):
            call()
    assert dict(index.domids.items()) == {}
    go.set()
    closer.join(LIMIT)


def test_asyncio_closes_what_was_half_closed(host: SimulatedHost) -> None:
    """P9: a close that is cancelled goes on, a second does not wait for it."""

    async def main() -> None:
        index = await domindex.aio.connect(host, timing=CALM)
        events = index.events()
        closing = asyncio.ensure_future(index.close())
        await asyncio.sleep(0)
        closing.cancel()
        await index.close()
        with pytest.raises(Closed):
            index.by_id(0)
        assert [event async for event in events] == []

    asyncio.run(main())
    eventually(lambda: not our_threads())


@pytest.mark.parametrize("whole", [True, False], ids=["index", "listener"])
def test_a_signal_s_handler_may_close_amid_dispatch(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """P9: at once, as it would wait for itself; the event just taken is not told any more."""
    heard: list[Event] = []
    closed: list[bool] = []
    with host.connect(timing=CALM) as index:
        subscription = index.subscribe(heard.append, threaded=False)
        real = Mailbox.take

        def take(mailbox: Mailbox[Event]) -> Event | None:
            event = real(mailbox)
            if not closed:
                closed.append(False)
                signal.raise_signal(signal.SIGUSR1)
            return event

        def on_signal(*_: object) -> None:
            closer = threading.Thread(target=watch_over)
            closer.start()
            (index if whole else subscription).close()
            closed.append(True)
            over.set()
            closer.join()

        over = threading.Event()

        def watch_over() -> None:
            assert over.wait(2.0)  # well below what close may wait

        monkeypatch.setattr(Mailbox, "take", take)
        before = signal.signal(signal.SIGUSR1, on_signal)
        try:
            index.dispatch()
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert closed == [False, True]
    assert heard == []


# -- waiting for oneself -----------------------------------------------------------------------


@pytest.mark.parametrize("threaded", [True, False], ids=["thread", "loop"])
def test_wait_synced_where_it_would_wait_for_itself_returns(index: Index, threaded: bool) -> None:
    """P9: in its own handler, and in any that runs in the same loop, as `drain`."""
    waited: list[bool] = []
    made = threading.Event()

    def handler(event: Event) -> None:
        assert made.wait(LIMIT)
        if isinstance(event, Added):
            waited.append(subscription.wait_synced(None))

    subscription = index.subscribe(handler, threaded=threaded)
    made.set()
    if not threaded:
        run(index)
    assert subscription.wait_synced(LIMIT)
    assert waited == [False]
    assert subscription.synced


# -- the timer -----------------------------------------------------------------------------------


def test_one_timer_stands_for_all_that_is_held_back(
    host: SimulatedHost, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P11: however often `dispatch` runs meanwhile; a nearer time sets it anew."""
    made: list[float] = []
    real = threading.Timer

    def timer(interval: float, *args: object) -> threading.Timer:
        made.append(interval)
        return real(interval, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(threading, "Timer", timer)
    web, db = host.create("web"), host.create("db")
    index.refresh()
    index.subscribe(lambda _: None, threaded=False, reboot_grace=60.0, replay=False)
    run(index)
    host.destroy(web)
    index.refresh()
    run(index)
    for number in range(20):
        host.rename(db, f"db-{number}")
        index.refresh()
        run(index)
    assert len(made) == 1
    index.subscribe(lambda _: None, threaded=False, reboot_grace=30.0, replay=False)
    run(index)
    host.destroy(db)
    index.refresh()
    run(index)
    assert len(made) == 2
    eventually(lambda: our_threads().count("domindex-timer") == 1)  # the other one is cancelled


# -- what the program did ------------------------------------------------------------------------


def test_a_program_that_closes_our_descriptor_deafens_nobody_else(
    host: SimulatedHost, index: Index
) -> None:
    """P9: as one that becomes a daemon may; the listeners with threads hear as before."""
    heard: list[Event] = []
    index.subscribe(lambda _: None, threaded=False)
    with index.subscribe(heard.append, replay=False) as subscription:
        fd = index.fileno()
        spare = os.dup(fd)
        os.close(fd)
        host.create("web")
        index.refresh()
        assert subscription.drain(LIMIT)
        os.dup2(spare, fd)  # nobody else is to get that number while it is ours to close
        os.close(spare)
    assert [type(event) for event in heard] == [Synced, Added, Ready]
    assert index.live


def test_what_is_called_at_a_change_cannot_end_the_watcher(
    host: SimulatedHost, index: Index
) -> None:
    """P9: whatever it raises."""

    def fail() -> None:
        raise SystemExit

    index._picture.changed.on_change(fail)
    host.create("web")
    index.refresh()
    assert index.by_name("web")
    assert index.live


def test_a_node_s_value_that_found_no_memory_is_told_all_the_same(
    host: SimulatedHost, index: Index
) -> None:
    """P9: the handlers that were to be called are."""
    heard: list[bytes | None] = []
    index.watch(index.by_id(0), "a", lambda _, value: heard.append(value), threaded=False)
    index.refresh()
    run(index)
    mailbox = index._body.hub._callers[False].mailbox
    mailbox._size = 0  # what there is is too much
    host.write(0, "a", b"1")
    index.refresh()
    assert mailbox.overflows == 1
    run(index)
    mailbox._size = 1
    host.write(0, "a", b"2")
    index.refresh()
    run(index)
    assert heard == [None, b"1", b"2"]


# -- a fork ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("threaded", [True, False], ids=["thread", "loop"])
def test_a_listener_closes_in_a_child_whatever_another_thread_held(
    host: SimulatedHost, index: Index, threaded: bool
) -> None:
    """P9: the thread that held the locks is no more there; nor does anybody wait for it."""
    subscription = index.subscribe(lambda _: None, threaded=threaded)
    gone = index.subscribe(lambda _: None, threaded=threaded)
    gone.close()
    watch = index.watch(index.by_id(0), "a", print, threaded=threaded)

    def child() -> str:
        for each in (subscription, gone):
            each.drain(LIMIT)
            each.wait_synced(LIMIT)
            each.close()
        watch.close()
        index.close()
        with pytest.raises(Closed):
            index.dispatch()
        return "closed"

    with all_locks_held():
        assert in_a_child(child) == "closed"


# -- what is refused -------------------------------------------------------------------------------


def refusals(index: Index) -> Iterator[Callable[[object], object]]:
    """Every place where something is given to be called."""
    dom0: Domain = index.by_id(0)
    yield lambda given: index.subscribe(given)  # type: ignore[arg-type]
    yield lambda given: index.watch(dom0, "a", given)  # type: ignore[arg-type]
    yield lambda given: index.add_index("mine", given)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [None, "web", to_be_awaited], ids=["None", "text", "async"])
def test_what_would_never_be_called_is_refused_at_once(index: Index, given: object) -> None:
    """P8: not taken without a word; and it leaves no listener behind."""
    for give in refusals(index):
        with pytest.raises(TypeError, match="give a"):
            give(given)
    with pytest.raises(TypeError, match="on_error="):
        index.subscribe(print, on_error=to_be_awaited)
    assert len(index.stats.listeners) == 0
    assert not index._body.hub._subscriptions
    assert not index._body.hub._nodes._watches


def test_asyncio_refuses_them_too(host: SimulatedHost) -> None:
    """P8: its handlers are called in the loop, and not awaited either."""

    async def main() -> None:
        async with domindex.aio.connect(host, timing=CALM) as index:
            dom0 = index.by_id(0)
            for given in (None, to_be_awaited):
                with pytest.raises(TypeError):
                    index.watch(dom0, "a", given)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="on_error="):
                index.watch(dom0, "a", print, on_error=to_be_awaited)
            with pytest.raises(TypeError):
                index.events(where=to_be_awaited)
            with pytest.raises(TypeError):
                await index.wait_for(where=to_be_awaited)
            assert dom0 in index
            with pytest.raises(TypeError):
                "web" in index  # noqa: B015

    asyncio.run(main())
