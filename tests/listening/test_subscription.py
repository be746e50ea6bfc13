"""Listeners: each in a thread of its own, in order, once; none holds up another."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from domindex.events import Event, Recovered
from domindex.listening.mailbox import Mailbox
from domindex.listening.runner import OwnThread
from domindex.listening.subscription import Handler, Subscription
from tests.whole.helpers import eventually

LIMIT = 5.0


def event(number: int) -> Event:
    """Any event will do here; these are told apart by a number."""
    return Recovered(float(number))


class Listener(Subscription):
    """A subscription of no index: events are put in here."""

    def __init__(
        self, handler: Handler, forget: Callable[[Mailbox[Event]], None] = lambda _: None
    ) -> None:
        self._lock = threading.RLock()
        self._own = OwnThread()
        mailbox: Mailbox[Event] = Mailbox(self._lock, list, self._own.wake)
        super().__init__(handler, mailbox, self._own, forget)

    @property
    def thread(self) -> threading.Thread:
        assert self._own._thread is not None
        return self._own._thread

    def put(self, events: Sequence[Event]) -> None:
        with self._lock:
            self._mailbox.put(events)


@contextmanager
def listening(
    handler: Handler, forget: Callable[[Mailbox[Event]], None] = lambda _: None
) -> Iterator[Listener]:
    subscription = Listener(handler, forget)
    try:
        yield subscription
    finally:
        subscription.close(LIMIT)
        assert not subscription.thread.is_alive()


def test_events_are_heard_in_order_and_once() -> None:
    """P8: whatever the batches in which they were put."""
    heard: queue.Queue[Event] = queue.Queue()
    with listening(heard.put) as subscription:
        subscription.put([event(n) for n in range(3)])
        subscription.put([])
        for n in range(3, 100):
            subscription.put([event(n)])
        assert [heard.get(timeout=LIMIT) for _ in range(100)] == [event(n) for n in range(100)]
    assert heard.empty()


def test_put_never_waits_for_a_stuck_handler() -> None:
    """P8, P10: the index goes on; what is not handed over is counted."""
    go, began = threading.Event(), threading.Event()

    def stuck(_: Event) -> None:
        began.set()
        assert go.wait(LIMIT)

    other: queue.Queue[Event] = queue.Queue()
    with listening(stuck) as subscription, listening(other.put) as quick:
        subscription.put([event(0)])
        assert began.wait(LIMIT)
        for n in range(10_000):
            subscription.put([event(n)])
            quick.put([event(n)])
        assert subscription.pending == 10_000
        assert [other.get(timeout=LIMIT) for _ in range(10_000)][-1] == event(9_999)
        go.set()


def test_a_handler_that_raises_is_called_again(caplog: pytest.LogCaptureFixture) -> None:
    """Each failure is counted and logged with its traceback; the next event comes all the same."""
    heard: queue.Queue[Event] = queue.Queue()

    def bad(told: Event) -> None:
        heard.put(told)
        raise ZeroDivisionError("on purpose")

    with caplog.at_level(logging.ERROR, "domindex"), listening(bad) as subscription:
        subscription.put([event(1), event(2)])
        assert [heard.get(timeout=LIMIT) for _ in range(2)] == [event(1), event(2)]
    assert subscription.errors == 2
    assert [record.exc_info is not None for record in caplog.records] == [True, True]
    assert "a listener failed on Recovered" in caplog.text
    assert "on purpose" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_handler_that_exits_is_called_again() -> None:
    """sys.exit() in a thread ends nothing but that thread, without a word: the listener would
    be deaf for ever and its queue grow."""
    heard: queue.Queue[Event] = queue.Queue()

    def leaves(told: Event) -> None:
        heard.put(told)
        raise SystemExit(1)

    with listening(leaves) as subscription:
        subscription.put([event(1), event(2)])
        assert heard.get(timeout=LIMIT) == event(1)
        subscription.thread.join(0.2)
        assert subscription.thread.is_alive()
        assert heard.get(timeout=LIMIT) == event(2)


def test_after_close_the_handler_is_not_called_again() -> None:
    """What is still queued is dropped, and what is put later too."""
    heard: list[Event] = []
    go, began = threading.Event(), threading.Event()

    def handler(told: Event) -> None:
        began.set()
        assert go.wait(LIMIT)
        heard.append(told)

    with listening(handler) as subscription:
        subscription.put([event(n) for n in range(10)])
        assert began.wait(LIMIT)
        closer = threading.Thread(target=subscription.close)
        closer.start()
        eventually(lambda: subscription.pending == 0)  # close() has dropped the rest
        subscription.put([event(99)])
        go.set()
        closer.join(LIMIT)
        assert heard == [event(0)]
        assert subscription.pending == 0
    assert heard == [event(0)]


def test_close_waits_for_the_call_under_way_but_not_for_ever() -> None:
    """The promise is bounded by `timeout`; a stuck handler does not hold up its closer."""
    go, began = threading.Event(), threading.Event()

    def stuck(_: Event) -> None:
        began.set()
        assert go.wait(LIMIT)

    with listening(stuck) as subscription:
        subscription.put([event(0)])
        assert began.wait(LIMIT)
        subscription.close(timeout=0.01)
        assert subscription.thread.is_alive()
        go.set()


def test_close_from_the_handler_itself_returns() -> None:
    """It cannot wait for itself; the next event is not heard."""
    heard: list[Event] = []
    closed = threading.Event()

    def last(told: Event) -> None:
        heard.append(told)
        subscription.close(timeout=None)
        closed.set()

    with listening(last) as subscription:
        subscription.put([event(1), event(2)])
        assert closed.wait(LIMIT)
        subscription.thread.join(LIMIT)
        assert not subscription.thread.is_alive()
        assert heard == [event(1)]


def test_closing_twice_and_from_many_threads_is_one_close() -> None:
    """Each call returns, and the thread is gone after the first of them did."""
    with listening(lambda _: None) as subscription:
        closers = [threading.Thread(target=subscription.close) for _ in range(8)]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join(LIMIT)
            assert not closer.is_alive()
        subscription.close()
        assert not subscription.thread.is_alive()


def test_put_after_close_keeps_nothing() -> None:
    """Nothing piles up for a listener that has gone."""
    with listening(lambda _: None) as subscription:
        subscription.close()
        subscription.put([event(1)])
        assert subscription.pending == 0


def test_the_index_is_told_that_a_listener_has_gone() -> None:
    """Else it would put events into a dead queue for ever."""
    gone: list[Mailbox[Event]] = []
    with listening(lambda _: None, gone.append) as subscription:
        subscription.close()
        assert gone == [subscription._mailbox]


def test_leaving_the_block_closes() -> None:
    """`with index.subscribe(...)`."""
    with Listener(lambda _: None) as subscription:
        assert subscription.thread.is_alive()
    assert not subscription.thread.is_alive()
