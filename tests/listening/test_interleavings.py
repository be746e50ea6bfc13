"""Threads step by step: what holds in every order, and that a lock taken away is found.

Each property stands beside the same with a guard taken away, which shows that the orders that are
tried would show its lack.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from domindex.domain import Domain
from domindex.errors import Closed
from domindex.events import Event, Recovered, Resync
from domindex.forking import rlock
from domindex.listening.dispatch import CallersLoop, Dispatcher
from domindex.listening.mailbox import Mailbox
from domindex.listening.runner import OwnThread
from domindex.listening.stream import EventStream
from domindex.listening.subscription import Subscription
from domindex.listening.waiter import Waiter
from domindex.listening.wanted import Wanted
from domindex.lookups import LookUps
from domindex.picture import Picture
from tests.core.lives import life
from tests.listening.interleavings import Threads, fails, holds, without_locks

pytestmark = pytest.mark.slow

LIMIT = 5.0
"""Seconds of a clock that stands still while any thread can go on."""


def event(number: int) -> Event:
    return Recovered(float(number))


def forget(_: Mailbox[Event]) -> None:
    """What the hub would do."""


# -- mailbox -------------------------------------------------------------------------------------


class Counter:
    """The index, for which a number stands: its events are the next numbers."""

    def __init__(self, size: int = 10) -> None:
        self.lock = rlock()
        self.number = 0
        self.box: Mailbox[Event] = Mailbox(self.lock, self.present, lambda: None, size=size)
        self.received: list[int] = []

    def present(self) -> list[Event]:
        return [Resync((life(self.number),))]

    def count(self) -> None:
        with self.lock:
            self.number += 1
            self.box.put([event(self.number)])

    def count_twice(self) -> None:
        self.count()
        self.count()

    def take(self) -> bool:
        match self.box.take():
            case Recovered(number):
                self.received.append(int(number))
            case Resync((domain,)):
                self.received.append(domain.domid)
            case _:
                return False
        return True

    def take_some(self) -> None:
        self.take()
        self.take()

    def in_order_to_the_last(self) -> bool:
        """Once the rest is taken, too."""
        while self.take():
            pass
        return self.received == sorted({*self.received}) and self.received[-1] == self.number


def test_what_is_put_in_is_taken_once_and_in_order() -> None:
    """P8: without a lock at the taker's side."""

    def all_of_them(counter: Counter) -> bool:
        return counter.in_order_to_the_last() and counter.received == [1, 2]

    holds(Counter, Counter.count_twice, Counter.take_some, then=all_of_them)


def test_two_put_in_at_once_under_the_lock() -> None:
    """P8: and one after the other without it, which is found."""

    def all_of_them(counter: Counter) -> bool:
        return counter.in_order_to_the_last() and counter.box.drained(0)

    holds(Counter, Counter.count, Counter.count, Counter.take_some, then=all_of_them)
    fails(without_locks(Counter), Counter.count, Counter.count, then=all_of_them)


def test_an_overflow_beside_a_refill_loses_nothing() -> None:
    """P8, P10: what a Resync has told already is not told again, what it has not is."""

    def scene() -> Counter:
        counter = Counter(size=1)
        counter.count_twice()
        return counter

    correct = Counter.in_order_to_the_last
    holds(scene, Counter.count_twice, Counter.take_some, then=correct)
    fails(without_locks(scene), Counter.count_twice, Counter.take_some, then=correct)


# -- draining --------------------------------------------------------------------------------------


class Drained(Counter):
    """Somebody waits until all that was put in was handled, as it is by another thread."""

    def __init__(self) -> None:
        super().__init__()
        self.count_twice()
        self.drained: list[tuple[bool, int, float]] = []

    def handle(self) -> None:
        while self.take():
            pass

    def drain(self) -> None:
        began = time.monotonic()
        drained = self.box.drained(LIMIT)
        self.drained.append((drained, len(self.received), time.monotonic() - began))

    def after_all_was_handled(self) -> bool:
        return self.drained == [(True, 2, 0.0)]


def test_a_drain_ends_when_all_was_handled() -> None:
    """P9: not sooner, and no call that wakes it is lost."""
    correct = Drained.after_all_was_handled
    holds(Drained, Drained.drain, Drained.handle, then=correct)
    fails(without_locks(Drained), Drained.drain, Drained.handle, then=correct)


# -- streams ---------------------------------------------------------------------------------------


class Streamed:
    """A stream of which one thread asks for an event."""

    def __init__(self) -> None:
        self.lock = rlock()
        waiter = Waiter()
        self.box: Mailbox[Event] = Mailbox(self.lock, list, waiter.wake)
        self.stream = EventStream(self.box, waiter, Wanted(None, None), forget)
        self.result: Event | str = "none"

    def get(self) -> None:
        began = time.monotonic()
        try:
            self.result = self.stream.get(LIMIT)
        except Closed:
            self.result = "closed"
        if time.monotonic() > began:  # it looked once more at its limit
            self.result = "late"

    def put(self) -> None:
        with self.lock:
            self.box.put([event(1)])

    def put_and_close(self) -> None:
        self.put()
        self.stream.close()


@pytest.mark.parametrize(
    ("meanwhile", "results"),
    [
        (Streamed.put, [event(1)]),
        (lambda streamed: streamed.stream.close(), ["closed"]),
        (Streamed.put_and_close, [event(1), "closed"]),
    ],
    ids=["put", "close", "put and close"],
)
def test_a_get_is_woken(meanwhile: Callable[[Streamed], object], results: list[object]) -> None:
    """P9: by an event and by the close, whenever they come."""

    def correct(streamed: Streamed) -> bool:
        return streamed.result in results

    holds(Streamed, Streamed.get, meanwhile, then=correct)


@pytest.mark.parametrize("meanwhile", [Streamed.put, lambda streamed: streamed.stream.close()])
def test_a_get_that_is_not_woken_is_found(meanwhile: Callable[[Streamed], object]) -> None:
    """It would look, and begin to wait only after it was woken."""

    def correct(streamed: Streamed) -> bool:
        return streamed.result != "late"

    fails(without_locks(Streamed), Streamed.get, meanwhile, then=correct)


# -- subscriptions ---------------------------------------------------------------------------------


class Subscribed:
    """A subscription with a thread of its own, or in a loop, and somebody who closes it."""

    def __init__(self, *, threaded: bool) -> None:
        self.closed = self.called_after = False
        self.calls = 0
        self.threads = Threads()
        self.loop = Dispatcher()
        runner = OwnThread() if threaded else CallersLoop(self.loop, last=False)
        box: Mailbox[Event] = Mailbox(rlock(), list, runner.wake)
        box.begin([event(1), event(2)])
        with self.threads.kept():
            self.subscription = Subscription(self.handler, box, runner, forget)

    def handler(self, _: Event) -> None:
        self.calls += 1
        self.called_after = self.called_after or self.closed

    def run(self) -> None:
        for thread in self.threads:
            thread.run()
        self.loop.dispatch()

    def close(self) -> None:
        self.subscription.close(LIMIT)
        self.closed = True

    def not_called_after_the_close(self) -> bool:
        self.loop.close()
        return not self.called_after


@pytest.mark.parametrize("threaded", [True, False], ids=["thread", "loop"])
def test_after_close_no_handler_is_called(threaded: bool) -> None:
    """P9: nor is one half way through."""
    correct = Subscribed.not_called_after_the_close
    holds(lambda: Subscribed(threaded=threaded), Subscribed.run, Subscribed.close, then=correct)


def test_a_call_after_the_close_is_found() -> None:
    """In a loop without the lock that is held while an event is handed over."""
    fails(
        without_locks(lambda: Subscribed(threaded=False)),
        Subscribed.run,
        Subscribed.close,
        then=Subscribed.not_called_after_the_close,
    )


# -- the caller's loop -----------------------------------------------------------------------------


class Dispatched:
    """Two subscriptions in a loop, and what they were told."""

    def __init__(self) -> None:
        self.loop = Dispatcher()
        self.lock = rlock()
        self.boxes: list[Mailbox[Event]] = [Mailbox(self.lock, list, self.loop.wake) for _ in "ab"]
        self.told: list[float] = []
        self.put_in = 0
        self.at_once = self.most_at_once = 0
        self.subscriptions = [
            Subscription(self.handler, box, CallersLoop(self.loop, last=False), forget)
            for box in self.boxes
        ]

    def handler(self, told: Event) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        assert isinstance(told, Recovered)
        self.told.append(told.downtime)
        self.at_once -= 1

    def put(self) -> None:
        with self.lock:
            self.put_in += len(self.boxes)
            for box in self.boxes:
                box.put([event(1)])

    def dispatch(self) -> None:
        self.loop.dispatch()

    def put_and_dispatch(self) -> None:
        self.put()
        self.dispatch()

    def one_at_a_time_and_none_forgotten(self) -> bool:
        """What is left makes the descriptor readable, so that the loop comes for it."""
        left = sum(box.pending for box in self.boxes)
        try:
            os.eventfd_read(self.loop.fd)
            readable = True
        except BlockingIOError:
            readable = False
        self.loop.close()
        none_forgotten = len(self.told) + left == self.put_in and (readable or not left)
        return self.most_at_once <= 1 and none_forgotten


def test_two_threads_dispatch_one_at_a_time() -> None:
    """P8, P9: each event is handed over once, and whoever came in vain is woken again."""
    correct = Dispatched.one_at_a_time_and_none_forgotten
    both = Dispatched.put_and_dispatch, Dispatched.put_and_dispatch
    holds(Dispatched, *both, then=correct)
    fails(without_locks(Dispatched), *both, then=correct)


def test_what_comes_during_a_dispatch_is_handed_over_or_announced() -> None:
    """P9: the descriptor is readable, or it was told."""
    correct = Dispatched.one_at_a_time_and_none_forgotten
    holds(Dispatched, Dispatched.put, Dispatched.dispatch, then=correct)


class ClosesTheOther(Dispatched):
    """The first handler that is called closes the other's subscription."""

    def handler(self, told: Event) -> None:
        super().handler(told)
        self.subscriptions[1].close(LIMIT)

    def told_at_most_one(self) -> bool:
        self.loop.close()
        return self.told == [1.0] or (self.told == [] and self.boxes[0].pending == 1)


def test_a_handler_that_closes_another() -> None:
    """P9: beside a thread that closes it, too."""

    def make() -> ClosesTheOther:
        made = ClosesTheOther()
        made.put()
        return made

    def close(made: ClosesTheOther) -> None:
        made.subscriptions[1].close(LIMIT)

    holds(make, Dispatched.dispatch, close, then=ClosesTheOther.told_at_most_one)


class Eventfd:
    """In place of the dispatcher's descriptor: says whether it was used once it was closed."""

    NUMBER = 1 << 20
    """No other file's."""

    def __init__(self) -> None:
        self.open = True
        self.used_closed = False

    def use(self, *_: object) -> None:
        self.used_closed = self.used_closed or not self.open

    def close(self, number: int) -> None:
        if number == self.NUMBER:
            self.use()
            self.open = False
        else:
            os_close(number)


os_close = os.close


def test_a_closed_descriptor_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """P9: its number may be another file's by then, which a wake would write into."""

    def make() -> tuple[Dispatcher, Eventfd]:
        fd = Eventfd()
        monkeypatch.setattr(os, "eventfd", lambda *_: fd.NUMBER)
        monkeypatch.setattr(os, "eventfd_write", fd.use)
        monkeypatch.setattr(os, "eventfd_read", fd.use)
        monkeypatch.setattr(os, "close", fd.close)
        return Dispatcher(), fd

    threads = (
        lambda made: made[0].close(),
        lambda made: made[0].wake(),
        lambda made: made[0].dispatch(),
    )

    def correct(made: tuple[Dispatcher, Eventfd]) -> bool:
        return not made[1].used_closed

    holds(make, *threads, then=correct)
    fails(without_locks(make), *threads, then=correct)


# -- the published picture -------------------------------------------------------------------------


A, B, C = life(1, "a"), life(2, "b"), life(3, "c")
SWAPPED = life(1, "b"), life(2, "a")
BEFORE, AFTER = {A, B}, {*SWAPPED, C}


class Published:
    """A picture that takes in one change, in which two domains swap their names."""

    def __init__(self) -> None:
        self.picture = Picture(patience=LIMIT)
        self.lookups = LookUps(self.picture, "serve", None)
        self.picture.commit([(None, A), (None, B)])
        self.first = self.lookups.generation
        self.seen: list[tuple[int, set[Domain]]] = []
        self.wrong: list[object] = []

    def change(self) -> None:
        self.picture.commit([(A, SWAPPED[0]), (B, SWAPPED[1]), (None, C)])

    def snapshot(self) -> None:
        for _ in range(2):
            snapshot = self.lookups.snapshot()
            self.seen.append((snapshot.generation, set(snapshot.values())))

    def walk(self) -> None:
        """What a reader without the lock stumbles over is kept."""
        try:
            for _ in range(10):
                domains = {*self.lookups}
                self.seen.append((self.first + (C in domains), domains))
        except Exception as error:
            self.wrong.append(error)

    def look_up(self) -> None:
        for name in ("a", "b", "a", "b"):
            found = self.lookups.names[name]
            if found.name != name:
                self.wrong.append(found)

    def whole(self) -> bool:
        """What was seen is of one moment each, and none is older than the one before."""
        generations = [generation for generation, _ in self.seen]
        return (
            not self.wrong
            and generations == sorted(generations)
            and all(
                domains == (AFTER if generation > self.first else BEFORE)
                for generation, domains in self.seen
            )
        )


@pytest.mark.parametrize("read", [Published.snapshot, Published.walk])
def test_what_is_read_whole_is_of_one_moment(read: Callable[[Published], object]) -> None:
    """P1: a snapshot under its own generation, and all domains one after the other."""
    holds(Published, Published.change, read, then=Published.whole)
    fails(without_locks(Published), Published.change, read, then=Published.whole)


def test_a_name_that_always_has_a_holder_is_always_found() -> None:
    """P1: while two domains swap theirs; a hit takes no lock, and needs none."""
    holds(Published, Published.change, Published.look_up, then=Published.whole)
