"""Listeners that are slow, stuck or failing: what they miss they learn of; nobody else notices."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from domindex.domain import Domain
from domindex.events import Added, Event, Lost, Ready, Recovered, Removed, Resync, Synced
from domindex.index import Index
from domindex.testing import QUICK, SimulatedHost
from tests.believer import Believer
from tests.delivery_log import DeliveryLog
from tests.whole.helpers import LIMIT, SHARP, Ear, eventually


@pytest.fixture
def host() -> SimulatedHost:
    """One kind will do: what differs between them is below all this."""
    return SimulatedHost(idle=True)


class Slow:
    """A handler that stays in its first call until told to go on, and believes what it hears."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()
        self.events: list[Event] = []
        self.believer = Believer()
        self.log = DeliveryLog()

    def __call__(self, event: Event) -> None:
        self.began.set()
        assert self.go.wait(LIMIT)
        self.events.append(event)
        self.log(event)
        self.believer.hear(event)

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    def believes(self, index: Index) -> None:
        """That is what a listener that takes every event at its word knows."""
        assert self.believer.domains == {domain.domid: domain for domain in index}


def burst(host: SimulatedHost, index: Index, count: int, done: Callable[[], object]) -> None:
    """Domains that come one by one, each seen by the index and awaited by `done`."""
    for number in range(count):
        host.create(f"burst-{number}")
        index.refresh()
        done()


def test_a_stuck_listener_is_told_to_begin_anew_and_others_lose_nothing(
    host: SimulatedHost, index: Index
) -> None:
    """P8, P10: one Resync with all that runs then, and from there on each event again."""
    slow, ear = Slow(), Ear(index)
    index.subscribe(ear)
    with index.subscribe(slow, queue=5) as subscription:
        assert slow.began.wait(LIMIT)
        burst(host, index, 30, lambda: None)
        ear.believes(index)
        assert (subscription.overflows, index.stats.overflows) == (1, 1)
        slow.go.set()
        assert subscription.drain(LIMIT)
        slow.believes(index)
        assert [type(event) for event in slow.events] == [Added, Ready, Synced, Resync]
        web = host.create("web")
        index.refresh()
        host.destroy(web, order="at once")
        index.refresh()
        assert subscription.drain(LIMIT)
        assert [type(event) for event in slow.events[4:]] == [Added, Ready, Removed]
        slow.believes(index)
        assert subscription.overflows == 1
    ear.believes(index)
    assert ear.count(Added) == 32
    assert index.stats.overflows == 1  # those of listeners that have gone count too


def test_a_resync_is_of_the_generation_in_which_the_listener_comes_for_it(
    host: SimulatedHost, index: Index
) -> None:
    """Whatever was told before is in it, and nothing after it is told again."""
    slow = Slow()
    with index.subscribe(slow, queue=1, replay=False) as subscription:
        assert slow.began.wait(LIMIT)
        burst(host, index, 4, lambda: None)
        generation = index.generation
        slow.go.set()
        assert subscription.drain(LIMIT)
    resync = slow.events[-1]
    assert isinstance(resync, Resync)
    assert (resync.generation, resync.domains) == (generation, tuple(index))


def test_a_queue_of_two_is_enough_for_whoever_is_quick(host: SimulatedHost, index: Index) -> None:
    """A birth is Added and Ready; however much is present at the beginning."""
    for number in range(20):
        host.create(f"vm-{number}")
    index.refresh()
    ear = Ear(index)
    with index.subscribe(ear, queue=2) as subscription:
        assert subscription.wait_synced(LIMIT)

        def handled() -> None:
            assert subscription.drain(LIMIT)

        burst(host, index, 10, handled)
        ear.believes(index)
        assert subscription.overflows == 0
        assert subscription.pending == 0


def test_two_events_at_once_are_too_many_for_a_queue_of_one(
    host: SimulatedHost, index: Index
) -> None:
    """A reused domid is Removed and Added in one generation: neither alone would be true."""
    web = host.create("web")
    index.refresh()
    slow = Slow()
    slow.go.set()
    with index.subscribe(slow, queue=1) as subscription:
        assert subscription.wait_synced(LIMIT)
        host.destroy(web)
        host.create("db", domid=web)
        index.refresh()
        assert subscription.drain(LIMIT)
        slow.believes(index)


def test_a_resync_is_told_whatever_was_asked_for(host: SimulatedHost, index: Index) -> None:
    """Narrowed to the domains that were."""
    told: list[Event] = []
    began, go = threading.Event(), threading.Event()

    def handler(event: Event) -> None:
        began.set()
        assert go.wait(LIMIT)
        told.append(event)

    def is_even(domain: Domain) -> bool:
        return domain.domid % 2 == 0

    with index.subscribe(handler, events=(Added,), where=is_even, queue=2) as subscription:
        assert began.wait(LIMIT)
        burst(host, index, 8, lambda: None)
        go.set()
        assert subscription.drain(LIMIT)
    assert [type(event) for event in told] == [Added, Resync]
    assert isinstance(told[1], Resync)
    assert told[1].domains == tuple(filter(is_even, index))


def test_the_line_that_goes_and_comes_behind_a_stuck_listener(host: SimulatedHost) -> None:
    """P9: after a Resync the index is live, unless Lost comes next; then Recovered follows."""
    with host.connect(timing=SHARP) as index:
        slow, twice = Slow(), Slow()
        with (
            index.subscribe(slow, queue=1, replay=False) as one,
            index.subscribe(twice, queue=1, replay=False) as other,
        ):
            for listener in (slow, twice):
                assert listener.began.wait(LIMIT)
            burst(host, index, 3, lambda: None)
            host.stop_xenstored()
            eventually(lambda: not index.live and index.stats.overflows == 2)
            slow.go.set()
            assert one.drain(LIMIT)
            assert [type(event) for event in slow.events] == [Synced, Resync, Lost]
            host.start_xenstored()
            index.wait_live(LIMIT)
            eventually(lambda: slow.count(Recovered) == 1)
            twice.go.set()
            assert other.drain(LIMIT)
            assert [type(event) for event in twice.events] == [Synced, Resync]
            slow.believes(index)
            twice.believes(index)


def test_a_listener_that_is_always_too_slow_still_ends_up_with_the_truth(
    host: SimulatedHost, index: Index
) -> None:
    """P2: through many overflows, while domains come, go and are renamed."""
    slow = Slow()
    slow.go.set()
    with index.subscribe(slow, queue=2) as subscription:
        domids: list[int] = []
        for number in range(60):
            domids.append(host.create(f"vm-{number}"))
            host.rename(domids[number // 2], f"renamed-{number}")
            if number % 3 == 0:
                host.destroy(domids[number])
                domids[number] = domids[number - 1] if number else 0
        index.refresh()
        assert subscription.drain(LIMIT)
        slow.believes(index)
        assert subscription.errors == 0


# -- drain -----------------------------------------------------------------------------------


def test_drain_waits_until_all_that_was_told_is_handled(host: SimulatedHost, index: Index) -> None:
    """Not what comes later."""
    slow = Slow()
    with index.subscribe(slow) as subscription:
        assert slow.began.wait(LIMIT)
        assert not subscription.drain(0.01)
        slow.go.set()
        host.create("web")
        index.refresh()
        assert subscription.drain(LIMIT)
        assert [type(event) for event in slow.events] == [Added, Ready, Synced, Added, Ready]
        assert subscription.drain(float("inf"))  # there is nothing
        assert subscription.wait_synced(float("inf"))
        assert subscription.pending == 0


def test_drain_from_its_own_handler_does_not_wait(index: Index) -> None:
    """It would wait for itself. From another's it does, for that other."""
    own: list[bool] = []
    others: list[bool] = []
    other = index.subscribe(lambda _: None)
    ready = threading.Event()

    def handler(_: Event) -> None:
        assert ready.wait(LIMIT)
        own.append(subscription.drain())
        others.append(other.drain())

    subscription = index.subscribe(handler)
    ready.set()
    assert subscription.drain(LIMIT)
    assert own == [False] * 3
    assert others == [True] * 3


def test_drain_of_a_closed_listener_returns(index: Index) -> None:
    """Before and while it waits: what was queued is dropped, not handled."""
    slow = Slow()
    subscription = index.subscribe(slow)
    assert slow.began.wait(LIMIT)
    drained: list[bool] = []
    thread = threading.Thread(target=lambda: drained.append(subscription.drain()))
    thread.start()
    eventually(lambda: subscription._mailbox._waiting)
    subscription.close(0.0)
    thread.join(LIMIT)
    assert not subscription.drain()
    assert drained == [False]
    slow.go.set()


# -- failures --------------------------------------------------------------------------------


def test_failures_are_told_to_whoever_asked(host: SimulatedHost, index: Index) -> None:
    """With the event and what was raised, in the listener's thread; the next event comes."""
    failed: list[tuple[Event, BaseException]] = []

    def bad(event: Event) -> None:
        raise ZeroDivisionError(type(event).__name__)

    with index.subscribe(bad, on_error=lambda *told: failed.append(told)) as subscription:
        host.create("web")
        index.refresh()
        assert subscription.drain(LIMIT)
        assert subscription.errors == index.stats.listener_errors == 5
    assert [str(error) for _, error in failed] == ["Added", "Ready", "Synced", "Added", "Ready"]
    assert all(type(event).__name__ == str(error) for event, error in failed)
    assert index.stats.listener_errors == 5


@pytest.mark.parametrize("worse", [ValueError, SystemExit])
def test_a_hook_that_fails_too_harms_nobody(index: Index, worse: type[BaseException]) -> None:
    """The listener goes on, and is not counted twice."""

    def hook(*_: object) -> None:
        raise worse

    with index.subscribe(lambda _: 1 // 0, on_error=hook) as subscription:
        assert subscription.drain(LIMIT)
        assert subscription.errors == 3


def test_no_hook_is_called_where_nothing_fails(index: Index) -> None:
    """And a failing listener's neighbour has no failures."""
    failed: list[object] = []
    index.subscribe(lambda _: 1 // 0)
    with index.subscribe(lambda _: None, on_error=lambda *told: failed.append(told)) as fine:
        assert fine.drain(LIMIT)
    assert failed == []
    assert fine.errors == 0


# -- names -----------------------------------------------------------------------------------


def test_a_listener_with_a_name_is_found_by_it(
    host: SimulatedHost, index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    """In the counters, in the log, and as a thread."""
    began, go = threading.Event(), threading.Event()

    def stuck(_: Event) -> None:
        began.set()
        assert go.wait(LIMIT)
        raise ZeroDivisionError

    with index.subscribe(stuck, name="web's") as slow, index.events(name="log"), index.events():
        assert began.wait(LIMIT)
        assert "domindex-web's" in {thread.name for thread in threading.enumerate()}
        eventually(lambda: all(told.oldest > 0.01 for told in index.stats.listeners))
        told = index.stats.listeners
        assert [(one.name, one.errors) for one in told] == [("web's", 0), ("log", 0), (None, 0)]
        assert told[0].pending == slow.pending == told[1].pending - 1  # one is in hand
        assert index.stats.pending == sum(index.stats.queues) == sum(one.pending for one in told)
        go.set()
        assert slow.drain(LIMIT)
        assert index.stats.listeners[0].errors == slow.errors > 0
        assert index.stats.listeners[0].oldest == 0.0
    assert 'the listener "web\'s" failed on Added' in caplog.text


def test_a_listener_that_is_late_is_logged_once(
    host: SimulatedHost,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a probe, without an event and without a question; and again after it has caught up."""
    monkeypatch.setattr("domindex.listening.listeners.LATE", 0.05)

    def warned() -> int:
        return sum("is late" in record.getMessage() for record in caplog.records)

    with host.connect(QUICK) as index, index.events(name="log") as events:
        eventually(lambda: warned() == 1)
        for _ in range(3):
            assert index.stats.pending >= 2
        assert "the listener 'log' is late: " in caplog.text
        assert "the oldest for" in caplog.text
        while events.pending:
            events.get(timeout=LIMIT)
        assert index.stats.pending == 0
        assert warned() == 1
        host.create("web")
        eventually(lambda: warned() == 2)
