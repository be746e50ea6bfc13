"""Many threads at once: nobody waits for ever, nobody sees what never was."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest

from domindex.errors import Closed, NoSuchDomain, NotLive, TimedOut
from domindex.events import Added, Event
from domindex.index import Index
from domindex.listening.subscription import Subscription
from domindex.testing import QUICK, SimulatedHost
from tests.whole.helpers import CALM, LIMIT, Ear, eventually, our_threads

U = UUID(int=7)


class Crew:
    """Threads that do one thing each until told to stop; what they raise is kept."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.raised: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def start(self, what: Callable[[], Any], *, again: bool = True) -> None:
        def work() -> None:
            try:
                what()
                while again and not self.stop.is_set():
                    what()
            except BaseException as error:
                self.raised.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        self._threads.append(thread)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive(), "a thread hangs"
        assert self.raised == []

    def dismiss(self) -> None:
        self.stop.set()
        self.join()


def test_readers_never_see_what_never_was(host: SimulatedHost) -> None:
    """P1, P11: `stays` keeps its name and uuid through all that happens around it; a name that
    moves from one domain to the other has one of them; refreshes go on all the while."""
    stays = host.create("stays", uuid=U)
    moving = [host.create("here"), host.create("there")]
    crew = Crew()
    with host.connect(timing=QUICK) as index:

        def read() -> None:
            assert index.by_name("stays").domid == index.by_uuid(U).domid == stays
            assert index.names["stays"].uuid == U
            assert index.all_by_name("stays")[0].domid == stays
            for domain in index.all_by_name("here"):
                assert domain.domid in moving
            assert stays in index.domids
            assert [d.domid for d in index.find(prefix="stays")] == [stays]

        for _ in range(3):
            crew.start(read)
        crew.start(lambda: index.refresh())
        crew.start(lambda: index.by_name("stays", verify=True))
        for n in range(60):
            host.rename(moving[n % 2], "here")
            host.rename(moving[1 - n % 2], "there")
            passing = host.create(f"passing-{n}")
            host.destroy(passing)
        crew.dismiss()


def test_swapped_names_are_never_absent(host: SimulatedHost) -> None:
    """P1: a name that always has a holder is found or ambiguous, never absent."""
    a, b = host.create("a"), host.create("b")
    crew = Crew()
    with host.connect(timing=CALM) as index:
        crew.start(lambda: [index.all_by_name(name)[0] for name in ("a", "b", "b", "a")])
        for n in range(50):
            one, two = (a, b) if n % 2 else (b, a)
            with host._lock:  # the watcher sees both or neither
                host.rename(one, "b")
                host.rename(two, "a")
            index.refresh()
        crew.dismiss()


def test_listeners_may_come_and_go_from_anywhere(host: SimulatedHost) -> None:
    """P8, P9: a storm of subscribe and close, from threads and from handlers, hangs nobody."""
    crew = Crew()
    with host.connect(timing=QUICK) as index:

        def come_and_go() -> None:
            ear = Ear(index)
            with index.subscribe(ear):
                ear.until(lambda: ear.events)

        def from_a_handler() -> None:
            done = threading.Event()
            inner: list[Subscription] = []

            def handler(event: Event) -> None:
                if not inner:
                    inner.append(index.subscribe(lambda _: None))
                elif not done.is_set():
                    inner[0].close()
                    outer.close()
                    done.set()

            host.create(None)
            outer = index.subscribe(handler)
            assert done.wait(LIMIT)

        for _ in range(3):
            crew.start(come_and_go)
        for _ in range(2):
            crew.start(from_a_handler)
        crew.start(lambda: index.refresh(LIMIT))
        for n in range(60):
            host.destroy(host.create(f"x-{n}"))
        crew.dismiss()
        index.refresh()
        ear = Ear(index)
        index.subscribe(ear)
        ear.believes(index)
        assert len(index.stats.listeners) == 1


def test_an_index_can_be_used_from_its_handlers(host: SimulatedHost) -> None:
    """Look-ups, refresh, verified look-ups, subscribe: no dead-lock."""
    answers: list[object] = []
    with host.connect(timing=CALM) as index:

        def handler(event: Event) -> None:
            if isinstance(event, Added) and event.domain.domid:
                domid = event.domain.domid
                answers.append(index.refresh())
                answers.append(index.by_id(domid, verify=True))
                answers.append(index.info(domid))
                answers.append(index.stats)
                with index.subscribe(lambda _: None):
                    answers.append(list(index))

        index.subscribe(handler)
        host.create("web")
        eventually(lambda: len(answers) == 5)
        assert index.stats.listener_errors == 0


def test_an_index_may_be_closed_from_a_handler(host: SimulatedHost) -> None:
    """P9: the handler goes on, and its thread ends as it returns."""
    index = host.connect(timing=CALM)
    closed = threading.Event()

    def handler(_: Event) -> None:
        index.close()
        closed.set()

    index.subscribe(lambda _: None)
    index.subscribe(handler)
    assert closed.wait(LIMIT)
    eventually(lambda: our_threads() == [])
    with pytest.raises(Closed):
        index.by_id(0)


def test_closing_from_many_handlers_and_threads_is_one_close(host: SimulatedHost) -> None:
    """P9: nobody hangs, whoever is first."""
    index = host.connect(timing=CALM)
    crew = Crew()
    gate = threading.Event()

    def handler(_: Event) -> None:
        gate.wait(LIMIT)
        index.close()

    def close() -> None:
        gate.wait(LIMIT)
        index.close()

    for _ in range(4):
        index.subscribe(handler)
    for _ in range(4):
        crew.start(close, again=False)
    gate.set()
    crew.join()
    eventually(lambda: our_threads() == [])


def test_close_while_everything_goes_on(host: SimulatedHost) -> None:
    """P9: readers, refreshers and subscribers get Closed, and nothing else, and end."""
    host.create("web")
    for _ in range(5):
        index = host.connect(timing=QUICK)
        crew = Crew()
        calls: list[Callable[[Index], object]] = [
            lambda index: index.by_name("web"),
            lambda index: index.by_name("web", verify=True),
            lambda index: index.refresh(LIMIT),
            lambda index: index.subscribe(lambda _: None).close(),
            lambda index: list(index),
            lambda index: index.all_by_name("web"),
        ]

        def until_closed(call: Callable[[Index], object], index: Index = index) -> None:
            try:
                while True:
                    call(index)
            except Closed:
                pass

        for call in calls:
            crew.start(lambda call=call: until_closed(call), again=False)  # type: ignore[misc]
        for n in range(10):
            host.destroy(host.create(f"x-{n}"))
        index.close()
        crew.join()
        assert our_threads() == []


def test_faults_from_other_threads_hang_nobody(host: SimulatedHost) -> None:
    """P9: lines cut again and again under readers and refreshers; the end is a live index."""
    host.create("web", uuid=U)
    crew = Crew()
    with host.connect(timing=QUICK) as index:
        ear = Ear(index)
        index.subscribe(ear)

        def read() -> None:
            assert index.by_name("web").uuid == U
            try:
                index.by_name("nobody")
            except (NoSuchDomain, NotLive):
                pass
            else:
                raise AssertionError("found nobody")

        def refresh() -> None:
            with suppress(NotLive, TimedOut):
                index.refresh(0.02)

        crew.start(read)
        crew.start(read)
        crew.start(refresh)
        pick = random.Random(1)
        for n in range(30):
            if pick.random() < 0.5:
                host.cut_line()
            else:
                host.destroy(host.create("x"))
            if n % 5 == 0:
                eventually(lambda: index.live)
        crew.dismiss()
        index.refresh()
        ear.believes(index)
        ear.until(lambda: ear.believer.live)


def test_two_handlers_that_close_each_other_end_in_time(host: SimulatedHost) -> None:
    """P9: each waits for the other, but not for ever."""
    with host.connect(timing=CALM) as index:
        both = threading.Barrier(2)
        done = threading.Semaphore(0)
        subscriptions: list[Subscription] = []
        ready = threading.Event()

        def closes(other: int) -> Callable[[Event], None]:
            def handler(_: Event) -> None:
                ready.wait(LIMIT)
                both.wait(LIMIT)
                subscriptions[other].close(timeout=0.05)
                done.release()

            return handler

        subscriptions += [index.subscribe(closes(1)), index.subscribe(closes(0))]
        ready.set()
        assert done.acquire(timeout=LIMIT)
        assert done.acquire(timeout=LIMIT)
        assert len(index.stats.listeners) == 0
