"""Followed nodes that end, beside others that go on: of one domain, in one loop, in one thread."""

from __future__ import annotations

import gc
import queue
import weakref
from collections.abc import Callable

import pytest

from domindex import Domain, Index
from domindex.testing import SimulatedHost
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
    assert run(index) == 1
    assert kept.drain(LIMIT)


def test_a_loop_that_has_run_is_not_waited_for(host: SimulatedHost, index: Index) -> None:
    """P9: its thread may ask whether all was handled as soon as it is out of its handlers."""
    inside: list[bool] = []

    def handler(_: object) -> None:
        inside.append(subscription.drain(0))

    subscription = index.subscribe(handler, threaded=False)
    assert readable(index)
    run(index)
    assert inside == [False, False]
    assert subscription.drain(0)
    host.create("web")
    index.refresh()
    assert not subscription.drain(0)
    run(index)
    assert subscription.drain(0)
