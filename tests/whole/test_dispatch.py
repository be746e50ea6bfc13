"""Handlers in the caller's own loop: a descriptor to poll, one call when it is readable."""

from __future__ import annotations

import errno
import os
import resource
import select
import threading
import time
from collections.abc import Callable

import pytest

from domindex.errors import Closed
from domindex.events import Added, Event, Ready, Rebooted, Removed, Synced
from domindex.index import Index
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, LIMIT, Ear, eventually, our_threads
from tests.whole.test_faults import in_a_child


@pytest.fixture
def host() -> SimulatedHost:
    """One kind will do: what differs between them is below all this."""
    return SimulatedHost(idle=True)


def readable(index: Index, timeout: float = LIMIT) -> bool:
    """Wait until its descriptor is."""
    poll = select.poll()
    poll.register(index, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def run(index: Index) -> int:
    """What a loop does until there is nothing to do; how many events."""
    count = 0
    while readable(index, 0):
        count += index.dispatch()
    return count


def select_(fd: int) -> bool:
    return bool(select.select([fd], [], [], LIMIT)[0])


def poll_(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return poll.poll(LIMIT * 1000) == [(fd, select.POLLIN)]


def epoll_(fd: int) -> bool:
    with select.epoll() as epoll:
        epoll.register(fd, select.EPOLLIN)
        return epoll.poll(LIMIT) == [(fd, select.EPOLLIN)]


@pytest.mark.parametrize("wait", [select_, poll_, epoll_])
def test_it_is_readable_when_there_is_something_to_do_and_then_no_more(
    host: SimulatedHost, index: Index, wait: Callable[[int], bool]
) -> None:
    """By whichever way of waiting; handlers run in the thread that calls dispatch."""
    heard: list[tuple[Event, int]] = []
    index.subscribe(
        lambda event: heard.append((event, threading.get_ident())), replay=False, threaded=False
    )
    assert wait(index.fileno())
    assert index.dispatch() == 1
    assert not readable(index, 0)
    host.create("web")
    assert wait(index.fileno())
    assert index.dispatch() == 2
    assert not readable(index, 0)
    assert [(type(event), thread) for event, thread in heard] == [
        (kind, threading.get_ident()) for kind in (Synced, Added, Ready)
    ]


def test_the_descriptor_is_the_same_from_first_to_last(index: Index) -> None:
    """A loop registers it once, before or after anybody subscribes; no program inherits it."""
    fd = index.fileno()
    with index.subscribe(lambda _: None, threaded=False):
        assert index.fileno() == fd
    run(index)
    assert index.fileno() == fd
    assert not os.get_inheritable(fd)


def test_close_frees_the_descriptor(host: SimulatedHost) -> None:
    """P9; also with a death held back, for which a timer runs."""
    index = host.connect(timing=CALM)
    index.subscribe(lambda _: None, threaded=False, reboot_grace=60.0)
    web = host.create("web")
    index.refresh()
    host.destroy(web)
    index.refresh()
    run(index)
    (timer,) = [thread for thread in threading.enumerate() if thread.name == "domindex-timer"]
    assert timer.daemon  # a program that ends does not wait for it
    fd = index.fileno()
    index.close()
    assert "domindex-timer" not in our_threads()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(fd)
    for call in (index.fileno, index.dispatch):
        with pytest.raises(Closed):
            call()


def test_dispatch_without_anything_to_do_does_nothing(index: Index) -> None:
    """It never waits."""
    assert index.dispatch() == 0
    assert index.dispatch() == 0


def test_what_comes_while_it_runs_waits_for_the_next(host: SimulatedHost, index: Index) -> None:
    """A host in turmoil does not keep the loop from its other work."""
    heard: list[Event] = []

    def handler(event: Event) -> None:
        heard.append(event)
        if len(heard) < 5:
            host.create(f"vm-{len(heard)}")
            index.refresh()

    index.subscribe(handler, replay=False, threaded=False)
    rounds = []
    while readable(index, 0):
        rounds.append(index.dispatch())
    assert len(heard) == sum(rounds) == 1 + 4 * 2
    assert max(rounds) <= 4


def test_dispatch_from_a_handler_does_nothing(host: SimulatedHost, index: Index) -> None:
    """P8: the events after it must not overtake the one that is being handled. Nor does a loop
    within the handler spin: what is left is readable once the handler has returned."""
    inner: list[object] = []

    def handler(_: Event) -> None:
        host.create("web") if not inner else None
        index.refresh()
        inner.append((index.dispatch(), readable(index, 0)))

    index.subscribe(handler, replay=False, threaded=False)
    assert run(index) == 3
    assert inner == [(0, False)] * 3


def test_dispatch_in_two_threads_hands_each_event_over_once(
    host: SimulatedHost, index: Index
) -> None:
    """P8: in order, though both are at it; the one that comes second does nothing."""
    ear, over = Ear(index), threading.Event()
    index.subscribe(ear, threaded=False)

    def loop() -> None:
        while not over.is_set():
            if readable(index, 0.01):
                index.dispatch()

    threads = [threading.Thread(target=loop) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(50):
        domid = host.create(f"vm-{n}")
        if n % 2:
            host.destroy(domid)
    index.refresh()
    ear.believes(index)
    over.set()
    for thread in threads:
        thread.join()


def test_a_thread_that_comes_second_neither_spins_nor_makes_the_first_forget(
    host: SimulatedHost, index: Index
) -> None:
    """While a handler is stuck there is nothing that another thread could do. What came
    meanwhile, for a listener whose turn is over, wakes the loop once there is."""
    began, go = threading.Event(), threading.Event()
    drained: list[bool] = []
    other = index.subscribe(lambda _: None, replay=False, threaded=False)
    run(index)

    def stuck(_: Event) -> None:
        began.set()
        assert go.wait(LIMIT)

    index.subscribe(stuck, replay=False, threaded=False)
    first = threading.Thread(target=index.dispatch)
    first.start()
    assert began.wait(LIMIT)
    host.create("web")
    index.refresh()
    drain = threading.Thread(target=lambda: drained.append(other.drain(LIMIT)))
    drain.start()
    assert readable(index)
    assert index.dispatch() == 0
    assert not readable(index, 0)
    go.set()
    first.join()
    assert readable(index)
    run(index)
    drain.join()
    assert drained == [True]


@pytest.fixture
def grace(host: SimulatedHost, index: Index) -> list[Event]:
    """What is heard of the guest "web", which has just been destroyed, with a short grace."""
    heard: list[Event] = []
    web = host.create("web")
    index.refresh()
    index.subscribe(heard.append, replay=False, threaded=False, reboot_grace=0.05)
    run(index)
    host.destroy(web)
    index.refresh()
    run(index)
    heard.clear()
    return heard


def test_a_death_held_back_wakes_the_loop_in_time(index: Index, grace: list[Event]) -> None:
    """Nothing else happens, and the loop knows of no time."""
    began = time.monotonic()
    assert readable(index)
    assert time.monotonic() - began < 1.0
    eventually(lambda: run(index))
    assert [type(event) for event in grace] == [Removed]
    eventually(lambda: "domindex-timer" not in our_threads())


def test_deaths_whose_time_is_up_together_are_all_told(host: SimulatedHost, index: Index) -> None:
    """Nothing but the first of them wakes the loop."""
    heard: list[Event] = []
    domids = [host.create(f"vm-{number}") for number in range(5)]
    index.refresh()
    index.subscribe(heard.append, replay=False, threaded=False, reboot_grace=0.02)
    for domid in domids:
        host.destroy(domid, order="at once")
    index.refresh()
    while len(heard) < 6:
        assert readable(index), heard
        index.dispatch()
    assert [type(event) for event in heard] == [Synced, *(Removed,) * 5]


def test_a_program_may_end_while_a_death_is_held_back(host: SimulatedHost, index: Index) -> None:
    """P9: no thread of ours, the timer's among them, keeps a program that is done."""
    web = host.create("web")
    index.refresh()
    index.subscribe(lambda _: None, threaded=False, reboot_grace=60.0)
    run(index)
    host.destroy(web, order="at once")
    index.refresh()
    run(index)
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("domindex")]
    assert "domindex-timer" in {thread.name for thread in ours}
    assert all(thread.daemon for thread in ours)


def test_a_reboot_in_time_is_told_as_one(host: SimulatedHost, index: Index) -> None:
    """And then there is nothing left to wait for."""
    heard: list[Event] = []
    web = host.create("web")
    index.refresh()
    index.subscribe(heard.append, replay=False, threaded=False, reboot_grace=60.0)
    host.reboot(web)
    index.refresh()
    run(index)
    assert [type(event) for event in heard if not isinstance(event, Synced)][-2:] == [
        Rebooted,
        Ready,
    ]
    assert "domindex-timer" not in our_threads()


def test_threads_and_the_loop_go_side_by_side(host: SimulatedHost, index: Index) -> None:
    """Each listener hears everything, whether or not the loop runs."""
    threaded, looped = Ear(index), Ear(index)
    index.subscribe(threaded)
    index.subscribe(looped, threaded=False)
    web = host.create("web")
    index.refresh()
    threaded.believes(index)
    assert looped.events == []
    host.destroy(web)
    index.refresh()
    run(index)
    looped.believes(index)
    threaded.believes(index)
    assert looped.events == threaded.events


def test_listeners_may_come_and_go_in_handlers(host: SimulatedHost, index: Index) -> None:
    """One that was closed is not called again; one that came is, at the next round."""
    heard: list[str] = []
    late = threading.Event()

    def first(_: Event) -> None:
        heard.append("first")
        second.close()
        index.subscribe(lambda _: late.set(), replay=False, threaded=False)
        one.close()

    one = index.subscribe(first, replay=False, threaded=False)
    second = index.subscribe(lambda _: heard.append("second"), replay=False, threaded=False)
    assert index.dispatch() == 1
    assert heard == ["first"]
    run(index)
    assert late.is_set()


def test_a_child_leaves_the_parent_s_descriptor_alone(host: SimulatedHost, index: Index) -> None:
    """It has a copy of it: what it does with that must not wake or silence the parent."""
    subscription = index.subscribe(lambda _: None, threaded=False)
    fd = index.fileno()
    assert readable(index)

    def child() -> str:
        said = []
        for call in (index.fileno, index.dispatch):
            try:
                call()
            except Closed:
                said.append("closed")
        subscription.close()
        index.close()
        try:
            os.fstat(fd)
        except OSError:
            said.append("freed")
        return " ".join(said)

    assert in_a_child(child) == "closed closed freed"
    assert readable(index, 0)
    assert index.dispatch() == 3
    host.create("web")
    assert readable(index)


def test_a_descriptor_beyond_1024_is_good_enough(host: SimulatedHost) -> None:
    """For poll and epoll; only select() cannot have it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("this system allows no descriptor beyond 1024")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    held = [os.open("/dev/null", os.O_RDONLY)]
    try:
        while held[-1] < 1100:
            held.append(os.dup(held[0]))
        with host.connect(timing=CALM) as index:
            index.subscribe(lambda _: None, threaded=False)
            assert index.fileno() > 1024
            assert epoll_(index.fileno())
            assert poll_(index.fileno())
            assert index.dispatch() == 3
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_fork_while_the_loop_is_woken_does_not_hang_the_child(
    host: SimulatedHost, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P9: whichever thread held a lock of the loop then is no more in the child."""
    subscription = index.subscribe(lambda _: None, threaded=False)
    run(index)
    woken, go, write = threading.Event(), threading.Event(), os.eventfd_write

    def slow(fd: int, value: int) -> None:
        woken.set()
        assert go.wait(LIMIT)
        write(fd, value)

    def child() -> str:
        monkeypatch.undo()
        subscription.close()
        index.close()
        with pytest.raises(Closed):
            index.dispatch()
        return "closed"

    monkeypatch.setattr(os, "eventfd_write", slow)
    host.create("web")
    assert woken.wait(LIMIT)
    try:
        assert in_a_child(child) == "closed"
    finally:
        go.set()
    assert readable(index)
    assert run(index) == 2  # Added, Ready


def test_events_come_before_values(host: SimulatedHost, index: Index) -> None:
    """P8: in one dispatch, whichever was listened to first; and an end before no value at all."""
    web, db = host.create("web"), host.create("db")
    index.refresh()
    order: list[object] = []
    for domid in (web, db):
        index.watch(index.by_id(domid), "data", lambda *told: order.append(told[1]), threaded=False)
    index.subscribe(lambda event: order.append(type(event)), replay=False, threaded=False)
    run(index)
    index.refresh()
    run(index)
    order.clear()
    host.write(web, "data", b"1")
    index.refresh()
    host.write(db, "data", b"2")
    host.create("new")
    index.refresh()
    host.destroy(db, order="at once")
    index.refresh()
    assert readable(index)
    assert index.dispatch() == 5  # the watch of the domain that has ended among them
    assert order == [Added, Ready, Removed, b"1"]


@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside another node"])
def test_no_value_comes_before_its_added(host: SimulatedHost, index: Index, others: bool) -> None:
    """P8: not even if all of that happens while a dispatch is under way."""
    order: list[object] = []
    busy = True

    def other_thread() -> None:
        domid = host.create("web")
        record = index.wait_for(name="web", timeout=LIMIT)
        assert record.domid == domid
        index.watch(record, "data", lambda domain, _: order.append(domain), threaded=False)
        index.refresh()

    def on_event(event: Event) -> None:
        order.append(event.domain if isinstance(event, Added) else type(event))

    def meanwhile(_: Event) -> None:
        nonlocal busy
        if busy:
            busy = False
            thread = threading.Thread(target=other_thread)
            thread.start()
            thread.join(LIMIT)

    index.watch(index.by_id(0), "data", lambda *_: None, threaded=False)
    if others:
        index.refresh()
        assert readable(index)
    else:
        run(index)
    index.subscribe(on_event, replay=False, threaded=False)
    index.subscribe(meanwhile, replay=False, threaded=False)  # after the other had its share
    run(index)
    web = index.by_name("web")
    assert order == [Synced, web, Ready, web]
    assert not readable(index, 0)
