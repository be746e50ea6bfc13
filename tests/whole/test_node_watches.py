"""Followed nodes that end, beside others that go on: of one domain, in one loop, in one thread."""

from __future__ import annotations

import gc
import queue
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest

from domindex import Domain, Index
from domindex.testing import QUICK, SimulatedHost
from tests.whole.helpers import CALM, LIMIT, Meddler, eventually
from tests.whole.test_dispatch import readable, run

ONE, OTHER = "memory/meminfo", "data/other"


@pytest.fixture
def host() -> SimulatedHost:
    """One kind will do: what differs between them is below all this."""
    return SimulatedHost(idle=True)


class Hand:
    """A handler that keeps the values it is given."""

    def __init__(self) -> None:
        self.values: queue.Queue[bytes | None] = queue.Queue()

    def __call__(self, _: Domain, value: bytes | None) -> None:
        self.values.put(value)

    def next(self) -> bytes | None:
        return self.values.get(timeout=LIMIT)


def test_one_of_two_nodes_of_a_domain_may_be_given_up(host: SimulatedHost) -> None:
    """P8: the other is followed as before, and until the domain ends; no line is lost over it."""
    meddler = Meddler(host)
    web = host.create("web")
    with Index(meddler, CALM) as index:
        index.start(LIMIT)
        record = index.by_id(web)
        one, other = Hand(), Hand()
        first, second = index.watch(record, ONE, one), index.watch(record, OTHER, other)
        assert (one.next(), other.next()) == (None, None)
        (line,) = meddler.lines
        paths = f"/local/domain/{web}/{ONE}".encode(), f"/local/domain/{web}/{OTHER}".encode()
        first.close()
        index.refresh()
        assert [path in {watch.path for watch in line.watched} for path in paths] == [False, True]
        host.write(web, ONE, b"1")
        host.write(web, OTHER, b"2")
        assert other.next() == b"2"
        host.destroy(web, order="at once")
        index.refresh()
        assert second.closed
        eventually(lambda: not {watch.path for watch in line.watched} & {*paths})
        assert one.values.empty()
        assert index.live
        assert index.stats.reconnects == 0


def test_a_node_whose_event_was_lost_is_read_with_the_names(host: SimulatedHost) -> None:
    """P6: `refresh(names=True)` reads again all that events tell of."""
    web = host.create("web")
    with host.connect(timing=CALM) as index:
        hand = Hand()
        index.watch(index.by_id(web), ONE, hand)
        assert hand.next() is None
        index.refresh()
        host.write(web, "data", b"")  # so that one event, and no more, is lost
        index.refresh()
        host.lose_events(1)
        host.write(web, "memory", b"")
        host.lose_events(1)
        host.write(web, ONE, b"1")
        index.refresh()
        assert hand.values.empty()
        index.refresh(names=True)
        assert hand.next() == b"1"


def test_no_handler_is_called_once_its_watch_is_closed(host: SimulatedHost, index: Index) -> None:
    """P8: though its value was waiting for the loop; and the next watch in that loop is served."""
    web = host.create("web")
    index.refresh()
    record = index.by_id(web)
    closed, goes_on = Hand(), Hand()
    watch = index.watch(record, ONE, closed, threaded=False)
    index.watch(record, OTHER, goes_on, threaded=False)
    assert readable(index)
    index.refresh()  # both values have come
    watch.close()
    while goes_on.values.empty():
        assert readable(index)
        run(index)
    assert closed.values.empty()
    host.write(web, ONE, b"1")
    index.refresh()
    run(index)
    assert closed.values.empty()


@pytest.mark.parametrize("threaded", [True, False])
def test_a_watch_may_follow_when_all_were_closed(
    host: SimulatedHost, index: Index, threaded: bool
) -> None:
    """P8: what calls the handlers is there for the next one."""
    web = host.create("web")
    index.refresh()
    for value in (b"1", b"2", b"3"):
        host.write(web, ONE, value)
        hand = Hand()
        with index.watch(index.by_id(web), ONE, hand, threaded=threaded):
            if not threaded:
                while hand.values.empty():
                    assert readable(index)
                    run(index)
            assert hand.next() == value


@pytest.mark.parametrize(
    "after", [lambda index: None, run, lambda index: index.stats], ids=["alone", "run", "stats"]
)
def test_closed_listeners_of_a_loop_are_forgotten(
    host: SimulatedHost, index: Index, after: Callable[[Index], object]
) -> None:
    """P11: neither the index nor its loop keeps them."""
    kept = index.subscribe(lambda _: None, threaded=False)
    listeners = []
    for _ in range(3):
        with index.subscribe(lambda _: None, threaded=False) as subscription:
            run(index)
        listeners.append(weakref.ref(subscription))
        del subscription
    after(index)
    gc.collect()
    assert [listener() for listener in listeners] == [None] * 3
    host.create("web")
    index.refresh()
    assert readable(index)
    assert run(index) == 2  # Added, Ready
    assert kept.drain(LIMIT)


def test_a_loop_that_has_run_is_not_waited_for(host: SimulatedHost, index: Index) -> None:
    """P9: its thread may ask whether all was handled as soon as it is out of its handlers."""
    inside: list[bool] = []

    def handler(_: object) -> None:
        inside.append(subscription.drain(0))

    subscription = index.subscribe(handler, threaded=False)
    assert readable(index)
    run(index)
    assert inside == [False] * 3  # at Added, Ready and Synced
    assert subscription.drain(0)
    host.create("web")
    index.refresh()
    assert not subscription.drain(0)
    run(index)
    assert subscription.drain(0)


@pytest.mark.parametrize("threaded", [True, False])
def test_every_write_is_told(host: SimulatedHost, index: Index, threaded: bool) -> None:
    """P8: the same value again, and whatever happens below; beside one that wants changes alone."""
    web = host.create("web")
    index.refresh()
    record = index.by_id(web)
    every, changes = Hand(), Hand()
    index.watch(record, "data", every, every=True, threaded=threaded)
    index.watch(record, "data", changes, threaded=threaded)

    def come(hand: Hand) -> bytes | None:
        while not threaded and hand.values.empty():
            assert readable(index)
            run(index)
        return hand.next()

    assert (come(every), come(changes)) == (None, None)
    for path, value in [("data", b"1"), ("data", b"1"), ("data/below", b"x"), ("data/below", None)]:
        host.write(web, path, value)
        assert come(every) == b"1"
    assert come(changes) == b"1"
    index.refresh()
    run(index)
    assert every.values.empty()
    assert changes.values.empty()


@pytest.mark.parametrize("ask", ["refresh", "audit", "another watch"])
def test_what_is_read_again_without_an_event_is_not_told_again(
    host: SimulatedHost, ask: str
) -> None:
    """P8: a call for each event, and none for what the index does by itself."""
    web = host.create("web")
    timing = replace(CALM, audit=0.05) if ask == "audit" else CALM
    with host.connect(timing=timing) as index:
        record, hand = index.by_id(web), Hand()
        index.watch(record, ONE, hand, every=True)
        assert hand.next() is None
        reads = index.stats.reads
        if ask == "another watch":
            second = Hand()
            index.watch(record, ONE, second, every=True)
            assert second.next() is None
        elif ask == "refresh":
            index.refresh(names=True)
        eventually(lambda: index.stats.reads > reads)
        index.refresh()
        assert hand.values.empty()
        host.write(web, ONE, b"1")
        assert hand.next() == b"1"


def test_every_write_that_may_have_been_missed_is_told(host: SimulatedHost) -> None:
    """P8, P9: after a line that was lost the same value is told again."""
    web = host.create("web")
    host.write(web, ONE, b"1")
    with host.connect(timing=QUICK) as index:
        every, changes = Hand(), Hand()
        index.watch(index.by_id(web), ONE, every, every=True)
        index.watch(index.by_id(web), ONE, changes)
        assert (every.next(), changes.next()) == (b"1", b"1")
        host.stop_xenstored()
        eventually(lambda: not index.live)
        host.write(web, ONE, b"1")
        host.start_xenstored()
        assert every.next() == b"1"
        index.refresh()
        assert changes.values.empty()


def test_a_write_amid_the_call_for_the_last_one_is_told(host: SimulatedHost, index: Index) -> None:
    """P8: however it falls, there is a call after it."""
    web = host.create("web")
    index.refresh()
    record = index.by_id(web)
    values: queue.Queue[bytes | None] = queue.Queue()
    going_on = threading.Semaphore(0)

    def slow(_: Domain, value: bytes | None) -> None:
        values.put(value)
        going_on.acquire(timeout=LIMIT)

    with index.watch(record, ONE, slow, every=True):
        assert values.get(timeout=LIMIT) is None
        for _ in range(3):  # while the handler is at the first one
            host.write(web, ONE, b"1")
            index.refresh()
        for _ in range(2):  # all of them in one, and then there is nothing left
            assert values.empty()
            going_on.release()
            assert values.get(timeout=LIMIT) == b"1"
            host.write(web, ONE, b"1")
            index.refresh()
        going_on.release(9)


# -- the end of the index ----------------------------------------------------------------------


def test_a_closed_index_waits_for_a_handler_and_then_keeps_none(host: SimulatedHost) -> None:
    """P9: for a call that is under way, up to the limit; the program's object is let go."""
    entered, go = threading.Event(), threading.Event()

    class Slow:
        def on_value(self, _: Domain, __: bytes | None) -> None:
            entered.set()
            go.wait(LIMIT)

    slow = Slow()
    gone = weakref.ref(slow)
    with host.connect(timing=CALM) as index:
        index.watch(index.by_id(0), ONE, slow.on_value)
        del slow
        assert entered.wait(LIMIT)
        began = time.monotonic()
        index.close(timeout=0.2)
        assert time.monotonic() - began >= 0.2
        go.set()
        index.close(timeout=LIMIT)

    def collected() -> bool:
        gc.collect()
        return gone() is None

    eventually(collected)
