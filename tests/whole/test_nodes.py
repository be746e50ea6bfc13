"""Nodes that are followed beside the name: when the line fails, and when handlers do."""

from __future__ import annotations

import logging
import queue
import select
import threading

import pytest

from domindex.domain import Domain
from domindex.events import Recovered
from domindex.index import Index
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, LIMIT, SHARP, Ear, Meddler, eventually

PATH = "memory/meminfo"
NODE = b"/local/domain/1/memory/meminfo"


class Hand:
    """A handler that keeps the values it is handed."""

    def __init__(self) -> None:
        self.values: queue.Queue[bytes | None] = queue.Queue()

    def __call__(self, domain: Domain, value: bytes | None) -> None:
        self.values.put(value)

    def next(self) -> bytes | None:
        return self.values.get(timeout=LIMIT)


def test_a_new_line_watches_again_and_tells_what_was_missed() -> None:
    """P9: the handler hears of it once, and nothing if nothing has changed."""
    host = SimulatedHost()
    web, db = host.create("web"), host.create("db")
    host.write(web, PATH, b"1")
    host.write(db, PATH, b"1")
    with host.connect(timing=SHARP) as index:
        ear, one, other = Ear(index), Hand(), Hand()
        index.subscribe(ear)
        index.watch(index.by_id(web), PATH, one)
        index.watch(index.by_id(db), PATH, other)
        assert (one.next(), other.next()) == (b"1", b"1")
        host.stop_xenstored()
        host.write(web, PATH, b"2")
        host.start_xenstored()
        assert one.next() == b"2"
        ear.until(lambda: ear.count(Recovered) == 1)
        host.write(db, PATH, b"3")
        assert other.next() == b"3"
        assert one.values.empty()
        assert other.values.empty()


def test_a_value_is_read_again_if_it_changes_while_it_is_read(host: SimulatedHost) -> None:
    """Rule 2 of reconcile.py: a read sent before an event never answers that event."""
    meddler = Meddler(host)
    host.create("web", domid=1)
    with Index(meddler, CALM) as index:
        index.start(LIMIT)
        hand = Hand()
        meddler.meddle["read"] = lambda: host.write(1, PATH, b"late")
        index.watch(index.by_id(1), PATH, hand)
        while hand.next() != b"late":
            pass


def test_a_value_of_the_next_life_is_not_told_to_the_last(host: SimulatedHost) -> None:
    """P1: the domain is replaced after the event and before the read has its answer."""
    meddler = Meddler(host)
    host.create("web", domid=1)
    with Index(meddler, CALM) as index:
        index.start(LIMIT)
        hand = Hand()
        watch = index.watch(index.by_id(1), PATH, hand)
        assert hand.next() is None

        def replace() -> None:
            host.destroy(1)
            host.create("db", domid=1)
            host.write(1, PATH, b"of db")

        meddler.meddle["before read"] = replace
        host.write(1, PATH, b"of web")
        eventually(lambda: watch.closed)
        index.refresh()
        assert hand.values.empty()


def test_watches_are_taken_back(host: SimulatedHost) -> None:
    """P9: whether they are closed or end with their domain, xenstored holds no watch for nobody."""
    meddler = Meddler(host)
    host.create("web", domid=1)
    with Index(meddler, CALM) as index:
        index.start(LIMIT)
        line = meddler.lines[0]
        before = len(line.watched)
        hand = Hand()
        first = index.watch(index.by_id(1), PATH, hand)
        second = index.watch(index.by_id(1), PATH, hand)
        hand.next(), hand.next()
        assert [watch.path for watch in line.watched].count(NODE) == 1
        first.close()
        first.close()
        index.refresh()
        assert len(line.watched) == before + 1
        second.close()
        eventually(lambda: len(line.watched) == before)
        index.watch(index.by_id(1), PATH, hand)
        hand.next()
        host.destroy(1)
        of_names = 0 if index.capabilities.one_watch else 1
        eventually(lambda: len(line.watched) == before - of_names)  # the name's is gone too
        index.refresh()
        assert not index._body.hub._nodes._watches


def test_a_handler_that_raises_hears_the_next_value(
    host: SimulatedHost, index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged and counted, and harms no other."""
    domid = host.create("web")
    hand, raised = Hand(), queue.Queue[bytes | None]()

    def bad(_: Domain, value: bytes | None) -> None:
        raised.put(value)
        raise ZeroDivisionError("on purpose")

    index.refresh()
    with caplog.at_level(logging.CRITICAL):
        index.watch(index.by_id(domid), PATH, bad)
        index.watch(index.by_id(domid), PATH, hand)
        assert (hand.next(), raised.get(timeout=LIMIT)) == (None, None)
        host.write(domid, PATH, b"1")
        assert (hand.next(), raised.get(timeout=LIMIT)) == (b"1", b"1")
    eventually(lambda: index.stats.listener_errors == 2)


def test_a_slow_handler_hears_the_latest_and_holds_nothing_up(
    host: SimulatedHost, index: Index
) -> None:
    """P8, P10: what was overtaken is left out, so that nothing piles up."""
    domid = host.create("web")
    index.refresh()
    go, began = threading.Event(), threading.Event()
    values: list[bytes | None] = []

    def slow(_: Domain, value: bytes | None) -> None:
        values.append(value)
        began.set()
        assert go.wait(LIMIT)

    index.watch(index.by_id(domid), PATH, slow)
    assert began.wait(LIMIT)
    for number in range(100):
        host.write(domid, PATH, b"%d" % number)
        index.refresh()
    assert index._body.hub._callers[True].mailbox.pending == 1
    go.set()
    eventually(lambda: values[-1] == b"99")
    assert values == [None, b"99"]


def test_nodes_in_a_loop_of_ones_own(host: SimulatedHost, index: Index) -> None:
    """`threaded=False`: the handler runs where `dispatch` is called, and no thread is made."""
    domid = host.create("web")
    index.refresh()
    threads = threading.active_count()
    told: list[tuple[bytes | None, int]] = []
    index.watch(
        index.by_id(domid),
        PATH,
        lambda _, value: told.append((value, threading.get_ident())),
        threaded=False,
    )
    host.write(domid, PATH, b"1")
    while not told or told[-1][0] != b"1":
        assert select.select([index], [], [], LIMIT)[0]
        index.dispatch()
    assert {thread for _, thread in told} == {threading.get_ident()}
    assert threading.active_count() == threads


def test_closed_from_its_handler_and_with_the_index(host: SimulatedHost) -> None:
    """No dead-lock, no call afterwards."""
    domid = host.create("web")
    with host.connect(timing=CALM) as index:
        closed = threading.Event()

        def once(_: Domain, value: bytes | None) -> None:
            watch.close()
            closed.set()

        with index._picture.lock:  # so that `watch` is there before the handler runs
            watch = index.watch(index.by_id(domid), PATH, once)
        assert closed.wait(LIMIT)
        other = index.watch(index.by_id(domid), PATH, lambda *_: None)
    assert other.closed
    other.close()


def test_after_close_the_handler_is_not_called_for_what_waited(
    host: SimulatedHost, index: Index
) -> None:
    """P8: neither for the value that waits when it is closed, nor for later ones."""
    values: list[bytes | None] = []
    dom0 = index.by_id(0)
    watch = index.watch(dom0, "a", lambda _, value: values.append(value), threaded=False)
    other = index.watch(dom0, "a", lambda *_: None, threaded=False)  # the node is still followed
    index.refresh()
    index.dispatch()
    host.write(0, "a", b"1")
    index.refresh()
    watch.close()
    host.write(0, "a", b"2")
    index.refresh()
    assert index.dispatch() == 2  # both were queued
    assert values == [None]
    assert not other.closed


def test_a_watch_that_found_no_thread_leaves_the_next_one_to_try(
    host: SimulatedHost, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P9: the caller learns of it, and nothing is left behind."""
    hand, dom0 = Hand(), index.by_id(0)

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError):
            index.watch(dom0, "a", hand)
        with pytest.raises(RuntimeError):
            index.subscribe(print)
    assert not index._body.hub._nodes._watches
    assert len(index.stats.listeners) == 0
    index.watch(dom0, "a", hand)
    assert hand.next() is None


def test_a_handler_that_ends_dispatch_is_called_for_the_next_value(
    host: SimulatedHost, index: Index
) -> None:
    """P9: Ctrl-C in one handler loses no value of the others."""
    values: list[bytes | None] = []
    dom0 = index.by_id(0)

    def ends(_: Domain, value: bytes | None) -> None:
        values.append(value)
        raise KeyboardInterrupt

    index.watch(dom0, "a", ends, threaded=False)
    index.refresh()
    with pytest.raises(KeyboardInterrupt):
        index.dispatch()
    host.write(0, "a", b"1")
    index.refresh()
    with pytest.raises(KeyboardInterrupt):
        index.dispatch()
    assert values == [None, b"1"]
    assert index.stats.listener_errors == 0
