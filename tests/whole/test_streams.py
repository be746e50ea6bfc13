"""Events to ask for, instead of being called: the same events, at the pace of whoever asks."""

from __future__ import annotations

import threading
import time

import pytest

from domindex.domain import Domain
from domindex.errors import Closed, TimedOut
from domindex.events import Added, Event, Lost, Ready, Rebooted, Recovered, Removed, Resync, Synced
from domindex.index import Index
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, LIMIT, SHARP, Ear, eventually
from tests.whole.test_faults import all_locks_held, in_a_child


@pytest.fixture
def host() -> SimulatedHost:
    """One kind will do: what differs between them is below all this."""
    return SimulatedHost(idle=True)


def test_a_stream_gives_what_a_listener_hears(host: SimulatedHost, index: Index) -> None:
    """P8: in order, once."""
    ear = Ear(index)
    with index.events() as events, index.subscribe(ear) as subscription:
        for number in range(5):
            domid = host.create(f"vm-{number}")
            host.rename(domid, f"www-{number}")
            if number % 2:
                host.destroy(domid)
        index.refresh()
        assert subscription.drain(LIMIT)
        told = [events.get(LIMIT) for _ in range(events.pending)]
        assert [event for event in told if not isinstance(event, (Ready, Synced))] == ear.events
        assert events.pending == 0


def test_what_is_wanted_is_told_as_to_a_listener(host: SimulatedHost, index: Index) -> None:
    """Kinds, domains, and what is present."""

    def is_web(domain: Domain) -> bool:
        return domain.name == "web"

    with index.events(events=(Added,), where=is_web, replay=False) as events:
        host.create("db")
        web = host.create("web")
        event = events.get(LIMIT)
        assert isinstance(event, Added)
        assert event.domain.domid == web
        with pytest.raises(TimedOut):
            events.get(0.01)


def test_get_waits_for_an_event_and_no_longer_than_it_is_told(
    host: SimulatedHost, index: Index
) -> None:
    """P9: what does not concern it does not make it wait anew; 0 is a look."""
    with index.events(events=(Removed,), replay=False) as events:
        began = time.monotonic()
        with pytest.raises(TimedOut, match=r"0\.05 s"):
            events.get(0.05)
        assert time.monotonic() - began >= 0.05
        with pytest.raises(TimedOut):
            events.get(0)
        web = host.create("web")
        timer = threading.Timer(0.05, lambda: host.destroy(web))
        timer.start()
        assert isinstance(events.get(LIMIT), Removed)
        timer.join()


def test_get_may_wait_for_ever(host: SimulatedHost, index: Index) -> None:
    """Spelt in either way."""
    with index.events(events=(Added,), replay=False) as events:
        for timeout in (None, float("inf")):
            timer = threading.Timer(0.05, host.create)
            timer.start()
            assert isinstance(events.get(timeout), Added)
            timer.join()


@pytest.mark.parametrize("whole", [True, False], ids=["index", "stream"])
def test_iterating_ends_when_it_is_closed(host: SimulatedHost, whole: bool) -> None:
    """P9: also while it waits; what was not asked for is dropped."""
    index = host.connect(timing=CALM)
    events = index.events()
    heard: list[Event] = []

    def listen() -> None:
        for event in events:
            heard.append(event)  # noqa: PERF402  # while it goes on

    thread = threading.Thread(target=listen)
    thread.start()
    eventually(lambda: len(heard) == 3)
    (index if whole else events).close()
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert [type(event) for event in heard] == [Added, Ready, Synced]
    with pytest.raises(Closed):
        events.get(LIMIT)
    assert list(events) == []
    assert events.pending == 0
    events.close()
    index.close()


def test_a_closed_stream_costs_the_index_nothing(host: SimulatedHost, index: Index) -> None:
    """It is no listener any more."""
    with index.events() as events:
        assert len(index.stats.listeners) == 1
    assert len(index.stats.listeners) == 0
    host.create("web")
    index.refresh()
    assert (events.pending, index.stats.pending) == (0, 0)


def test_a_stream_nobody_asks_is_bounded(host: SimulatedHost, index: Index) -> None:
    """P10: it hears a Resync then, whatever it wanted."""
    with index.events(events=(Removed,), queue=3, replay=False) as events:
        for number in range(9):
            host.create(f"vm-{number}")
            index.refresh()
        assert (events.overflows, index.stats.overflows) == (1, 1)
        event = events.get(LIMIT)
        assert isinstance(event, Resync)
        assert event.domains == tuple(index)
    assert index.stats.overflows == 1


def test_a_reboot_is_told_as_one(host: SimulatedHost, index: Index) -> None:
    """And a death that was none comes out although nobody wakes the stream."""
    web = host.create("web")
    index.refresh()
    with index.events(replay=False, reboot_grace=0.05) as events:
        assert isinstance(events.get(LIMIT), Synced)
        again = host.reboot(web)
        event = events.get(LIMIT)
        while not isinstance(event, Rebooted):  # ShutDown, and the name that libxl removes
            event = events.get(LIMIT)
        assert (event.old.domid, event.new.domid) == (web, again)
        assert events.get(LIMIT) == Ready(event.new)
        host.destroy(again, order="at once")
        assert events.get(LIMIT) == Removed(event.new)


def test_a_filter_that_fails_is_the_caller_s_to_see(host: SimulatedHost, index: Index) -> None:
    """It runs in the caller's thread: get raises it, and the next call gives the next event."""

    def where(domain: Domain) -> bool:
        assert domain.name is not None
        return True

    with index.events(where=where, replay=False) as events:
        assert isinstance(events.get(LIMIT), Synced)
        host.create(None)
        host.create("web")
        with pytest.raises(AssertionError):
            events.get(LIMIT)
        assert isinstance(events.get(LIMIT), Added)


def test_the_line_is_told_of(host: SimulatedHost) -> None:
    """As to a listener: Lost, and Recovered with what happened before it."""
    with host.connect(timing=SHARP) as index, index.events(replay=False) as events:
        assert isinstance(events.get(LIMIT), Synced)
        host.stop_xenstored()
        assert isinstance(events.get(LIMIT), Lost)
        host.create("web")
        host.start_xenstored()
        assert [type(events.get(LIMIT)) for _ in range(3)] == [Added, Ready, Recovered]


def test_a_child_finds_it_closed(host: SimulatedHost, index: Index) -> None:
    """P9: it neither hears the parent's events nor hangs, whoever waited in the parent."""
    with index.events(replay=False) as events:
        assert isinstance(events.get(LIMIT), Synced)

        def child() -> str:
            assert list(events) == []
            with pytest.raises(Closed):
                events.get(LIMIT)
            events.close()
            return "closed"

        with all_locks_held():
            assert in_a_child(child) == "closed"
        host.create("web")
        assert isinstance(events.get(LIMIT), Added)


def test_get_keeps_its_limit_while_unwanted_events_are_pending(
    host: SimulatedHost, index: Index
) -> None:
    """P9: each of them takes time, and there may be many; the next call goes on behind them."""
    looked: list[Domain] = []
    late = threading.Event()

    def where(domain: Domain) -> bool:
        looked.append(domain)
        late.wait(0.01)
        return domain.name == "web"

    with index.events(where=where, replay=False) as events:
        assert isinstance(events.get(LIMIT), Synced)
        for number in range(14):
            host.create(f"vm-{number}")
        host.create("web")
        index.refresh()
        with pytest.raises(TimedOut):
            events.get(0.005)
        assert len(looked) == 1
        with pytest.raises(TimedOut):
            events.get(0)
        assert len(looked) == 17
        event = events.get(0)  # what is wanted is there, behind a few
        assert isinstance(event, Added)
        assert event.domain.name == "web"


@pytest.mark.parametrize("grace", [0.0, 60.0])
def test_a_stream_that_is_let_go_is_no_listener_any_more(
    host: SimulatedHost, index: Index, grace: float
) -> None:
    """P11: `break` leaves nothing behind, nor does whoever opens streams so without end."""
    for _ in range(20):
        for event in index.events(reboot_grace=grace):
            assert isinstance(event, Added)
            break
    assert len(index._body.hub._mailboxes) == 1
    host.create("web")
    index.refresh()
    assert (index.stats.listeners, index.stats.pending) == ((), 0)
    assert not index._body.hub._mailboxes


@pytest.mark.parametrize("forgotten", [False, True], ids=["open", "closed"])
def test_a_stream_in_a_child_is_closed_whatever_another_thread_held(
    host: SimulatedHost, index: Index, forgotten: bool
) -> None:
    """P9: the thread that held its locks is no more there."""
    events = index.events(replay=False)
    if forgotten:
        events.close()

    def child() -> str:
        with pytest.raises(Closed):
            events.get(LIMIT)
        events.close()
        return "closed"

    with all_locks_held():
        assert in_a_child(child) == "closed"
    events.close()


def test_an_end_that_was_held_back_comes_before_the_limit(host: SimulatedHost) -> None:
    """P8: whoever waits longer than `reboot_grace` gets it, and not the limit."""
    domid = host.create("web")
    with (
        host.connect(CALM) as index,
        index.events(events=(Removed,), reboot_grace=0.05) as events,
    ):
        host.destroy(domid, order="at once")
        index.refresh()
        assert isinstance(events.get(timeout=LIMIT), Removed)
