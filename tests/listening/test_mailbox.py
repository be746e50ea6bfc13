"""The mailbox: in order, bounded, never waited for; what was too much stands as one Resync."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import pytest

from domindex.domain import Domain
from domindex.events import (
    Added,
    Event,
    Rebooted,
    Recovered,
    Removed,
    Resync,
)
from domindex.listening.mailbox import Mailbox
from domindex.listening.reboots import Reboots
from tests.core.lives import life
from tests.whole.test_faults import all_locks_held, in_a_child


def event(number: int) -> Event:
    """Any event will do; these are told apart by a number."""
    return Recovered(float(number))


class Clock:
    """The time that a mailbox goes by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr("domindex.listening.mailbox.time", clock)


class Box(Mailbox[Event]):
    """A mailbox with the index's side of it: who runs, and how often that was asked."""

    def __init__(self, size: int = 3, reboot_grace: float = 0.0) -> None:
        self.lock = threading.RLock()
        self.woken = self.asked = 0
        self.running: tuple[Domain, ...] = ()
        delay = Reboots(reboot_grace) if reboot_grace else None
        super().__init__(self.lock, self._resync, self._woke, size=size, delay=delay)

    def _woke(self) -> None:
        self.woken += 1

    def _resync(self) -> Sequence[Event]:
        self.asked += 1
        return [Resync(self.running)]

    def fill(self, *events: Event) -> None:
        """What the index does."""
        with self.lock:
            self.put(events)

    def all(self) -> list[Event]:
        """Take until there is nothing."""
        taken = []
        while (told := self.take()) is not None:
            taken.append(told)
        return taken


def test_events_are_taken_in_order_and_once() -> None:
    """P8: in whatever batches they were put; each put wakes, but for an empty one."""
    box = Box(size=10)
    box.fill(event(0), event(1))
    box.fill()
    box.fill(event(2))
    assert box.woken == 2
    assert (box.pending, box.empty) == (3, False)
    assert box.all() == [event(0), event(1), event(2)]
    assert (box.pending, box.empty, box.take()) == (0, True, None)


def test_how_long_the_oldest_has_waited_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is present counts from the start, an event from when it came, in hand not at all."""
    clock, box = Clock(monkeypatch), Box(size=3)
    assert box.oldest == 0.0
    box.begin([event(0), event(1)])
    clock.now += 1
    box.fill(event(2))
    clock.now += 2
    assert [(box.oldest, box.take()) for _ in range(4)] == [
        (3.0, event(0)),
        (3.0, event(1)),
        (2.0, event(2)),
        (0.0, None),
    ]
    box.fill(event(3))
    clock.now += 4
    box.fill(*map(event, range(4)))
    clock.now += 1
    assert (box.overflows, box.oldest, box.all(), box.oldest) == (1, 5.0, [Resync(())], 0.0)
    box.fill(event(4))
    clock.now += 1
    box.close()
    assert box.oldest == 0.0


def test_what_was_held_back_has_not_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts from when it is due."""
    clock, box = Clock(monkeypatch), Box(size=10, reboot_grace=5.0)
    box.begin([event(0)])
    assert box.all() == [event(0)]
    clock.now += 100
    one, two = (Removed(life(domid), None, False) for domid in (1, 2))
    box.fill(one, two)
    assert (box.take(), box.oldest) == (None, 0.0)
    clock.now += 6
    assert (box.take(), box.pending, box.oldest) == (one, 1, 0.0)


def test_a_listener_is_late_once_until_it_has_caught_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not each time one looks, nor for less than the limit."""
    clock, box = Clock(monkeypatch), Box(size=10)
    box.fill(event(0))
    clock.now += 10
    assert not box.falls_behind(10.0)
    clock.now += 1
    box.fill(event(1))
    assert [box.falls_behind(10.0), box.falls_behind(10.0)] == [True, False]
    box.take()
    assert not box.falls_behind(10.0)  # not late now, but there is one that waits
    clock.now += 11
    assert not box.falls_behind(10.0)
    box.all()
    assert not box.falls_behind(10.0)
    box.fill(event(2))
    clock.now += 11
    assert box.falls_behind(10.0)


# -- the bound -------------------------------------------------------------------------------


def test_as_many_as_the_bound_may_wait() -> None:
    """No more and no fewer: the last that fits is kept."""
    box = Box(size=3)
    box.fill(event(0), event(1))
    box.fill(event(2))
    assert box.overflows == 0
    assert box.all() == [event(0), event(1), event(2)]


def test_one_too_many_and_the_backlog_stands_as_one_resync() -> None:
    """P10: dropped and counted, once for however many come until the listener does."""
    box = Box(size=3)
    for number in range(10):
        box.fill(event(number))
    assert (box.overflows, box.empty) == (1, False)
    assert box.all() == [Resync(())]
    box.fill(event(10))
    assert box.all() == [event(10)]
    for number in range(4):
        box.fill(event(number))
    assert box.overflows == 2
    assert box.all() == [Resync(())]


def test_a_resync_is_made_when_the_listener_comes_for_it() -> None:
    """P11: a stuck listener costs nothing, and what it then hears is what is so then."""
    box = Box(size=1)
    box.fill(event(0), event(1))
    for number in range(100):
        box.fill(event(number))
    assert box.asked == 0
    box.running = (life(1),)
    assert box.all() == [Resync((life(1),))]
    assert box.asked == 1


def test_a_batch_larger_than_the_bound_is_an_overflow_whole() -> None:
    """Half a batch would be a change told by half."""
    box = Box(size=1)
    box.fill(Removed(life(1)), Added(life(1, number=1)))
    assert box.all() == [Resync(())]


def test_what_was_there_at_the_beginning_is_no_backlog() -> None:
    """However much it is; and it is told before the Resync of an overflow that came meanwhile."""
    box = Box(size=2)
    first = [event(number) for number in range(100)]
    box.begin(first)
    box.fill(event(100), event(101))
    assert (box.overflows, box.pending) == (0, 102)
    box.fill(event(102))
    assert box.all() == [*first, Resync(())]


def test_an_overflow_counts_as_one_event_to_take() -> None:
    """Whoever asks how much there is must not hear of nothing."""
    box = Box(size=1)
    box.fill(event(0), event(1))
    assert box.pending == 1
    box.take()
    assert box.pending == 0


# -- draining ----------------------------------------------------------------------------------


class Drain:
    """Somebody who waits in a thread of his own for all that was put in by now."""

    def __init__(self, box: Box) -> None:
        self.result: list[bool] = []
        self._box = box
        waiting = box._waiting
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()
        while self._thread.is_alive() and box._waiting == waiting:
            self._thread.join(0.001)

    def _wait(self) -> None:
        self.result.append(self._box.drained(5.0))

    @property
    def over(self) -> bool:
        """What is to end does so at once."""
        self._thread.join(0.02)
        return not self._thread.is_alive()

    def ends(self) -> bool:
        """Wait for it; whether all was handled."""
        self._thread.join(5.0)
        return self.result == [True]


def test_all_was_handled_once_the_next_is_asked_for() -> None:
    """Asking for the next means that the one before was handled; what came later is no matter."""
    box = Box(size=9)
    box.fill(event(0))
    drain = Drain(box)
    box.fill(event(1))
    assert box.take() == event(0)
    assert not drain.over
    assert box.take() == event(1)
    assert drain.ends()


def test_what_was_there_at_the_beginning_is_to_be_handled_too() -> None:
    """All of it, and the last of it."""
    box = Box()
    box.begin([event(0), event(1)])
    drain = Drain(box)
    assert [box.take(), box.take()] == [event(0), event(1)]
    assert not drain.over
    assert box.take() is None
    assert drain.ends()


def test_an_idle_listener_is_drained_already() -> None:
    """P11: that asks nobody, and wakes nobody."""
    box = Box()
    assert box.drained(0)
    box.fill(event(0))
    assert box.all() == [event(0)]
    woken = box.woken
    assert box.drained(0)
    assert box.woken == woken


def test_whoever_begins_with_nothing_has_handled_all() -> None:
    """There is no first item that could be waited for."""
    box = Box()
    box.begin([])
    assert box.drained(0)


def test_what_stands_for_a_backlog_stands_for_all_of_it() -> None:
    """What was asked before the overflow and after it ends when the Resync was handled."""
    box = Box(size=2)
    box.fill(event(0))
    before = Drain(box)
    box.fill(event(1), event(2))
    after = Drain(box)
    box.fill(event(3))
    assert box.take() == Resync(())
    assert not before.over
    assert not after.over
    assert box.take() is None
    assert before.ends()
    assert after.ends()


def test_a_drain_that_came_late_leaves_nothing_behind() -> None:
    """P11: however often it is asked beside a stuck listener."""
    box = Box(size=2)
    box.fill(event(0), event(1))
    assert not any(box.drained(0) for _ in range(100))
    assert (len(box._queue), box._waiting, box.overflows) == (2, 0, 0)
    assert box.all() == [event(0), event(1)]


def test_a_death_held_back_is_not_waited_for() -> None:
    """It may take as long as the listener said."""
    box = Box(reboot_grace=60.0)
    box.fill(Removed(life(1, "web")))
    assert not box.drained(0)
    assert box.take() is None
    assert box.drained(0)


def test_closing_lets_all_go_who_wait() -> None:
    """P9: with False, as late ones."""
    box = Box(size=1)
    box.fill(event(0))
    drain = Drain(box)
    woken = box.woken
    box.close()
    assert box.woken > woken
    assert not drain.ends()
    assert drain.result == [box.drained(5.0)] == [False]


# -- what goes wrong -----------------------------------------------------------------------------


class NoMemory(list[Event]):
    """A batch that cannot be taken in."""

    def __iter__(self) -> Iterator[Event]:
        yield event(0)
        raise MemoryError


@pytest.mark.parametrize("broken", [False, True], ids=["batch", "wake"])
def test_to_put_something_in_never_fails(broken: bool) -> None:
    """P9: it runs where the index is kept true, and others are still to be told. What cannot be
    taken in is told as a Resync, not by half."""
    box = Box(size=9)
    box.fill(event(1))
    if broken:

        def fail() -> None:
            raise MemoryError

        box._wake = fail
        box.fill(event(2))
        assert box.all() == [event(1), event(2)]
    else:
        with box.lock:
            box.put(NoMemory([event(2)]))
        assert box.overflows == 1
        assert box.all() == [Resync(())]
        assert box.drained(0)


# -- ends ------------------------------------------------------------------------------------------


def test_a_mailbox_let_go_needs_no_lock() -> None:
    """Its listener may be collected in any thread, amid anything."""
    box = Box()
    box.fill(event(0))
    box.lock = None  # type: ignore[assignment]
    box._lock = None  # type: ignore[assignment]
    box.abandon()
    assert (box.closed, box.take(), box.pending) == (True, None, 0)


def test_closed_it_holds_and_gives_nothing() -> None:
    """Also not what was there at the beginning."""
    box = Box(size=5)
    box.begin([event(0)])
    box.fill(event(1))
    box.close()
    box.fill(event(2))
    assert (box.take(), box.pending, box.closed) == (None, 0, True)
    box.close()


def test_in_a_child_an_abandoned_mailbox_makes_nobody_wait() -> None:
    """P9: whatever a thread of the parent held; the hub abandons it there."""
    box = Box()
    box.begin([event(0)])

    def child() -> str:
        box.abandon()
        assert not box.drained(5.0)
        box.close()
        return f"{box.take()} {box.pending}"

    with all_locks_held():
        assert in_a_child(child) == "None 0"


# -- reboots ---------------------------------------------------------------------------------


def test_a_death_held_back_is_due_and_then_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """`due` says when to come again although nobody wakes."""
    clock, box = Clock(monkeypatch), Box(reboot_grace=2.0)
    gone = Removed(life(1, "web"))
    box.fill(gone)
    assert box.take() is None
    assert (box.due, box.empty) == (1002.0, True)
    clock.now = 1001.9
    assert box.take() is None
    clock.now = 1002.0
    assert box.all() == [gone]
    assert box.due is None


def test_a_slow_listener_hears_of_a_reboot_as_a_quick_one_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The grace is between death and birth, not between one call of the handler and the next."""
    clock, box = Clock(monkeypatch), Box(size=9, reboot_grace=2.0)
    old, new = life(1, "web"), life(2, "web", number=1)
    box.fill(Removed(old))
    box.fill(event(0))
    clock.now += 1.0
    box.fill(Added(new))
    assert box.take() == event(0)
    clock.now += 60.0
    assert box.all() == [Rebooted(old, new)]


def test_a_birth_after_the_grace_is_none_of_a_reboot_however_late_it_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both lay in the queue all the while: the time between them counts."""
    clock, box = Clock(monkeypatch), Box(size=9, reboot_grace=2.0)
    old, new = life(1, "web"), life(2, "web", number=1)
    box.fill(Removed(old))
    clock.now += 2.0
    box.fill(Added(new))
    clock.now += 60.0
    assert box.all() == [Removed(old), Added(new)]


def test_an_overflow_forgets_the_dead_that_were_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Resync has told already that they do not run."""
    clock, box = Clock(monkeypatch), Box(size=1, reboot_grace=2.0)
    box.fill(Removed(life(1, "web")))
    assert box.take() is None
    box.fill(event(0), event(1))
    clock.now += 10.0
    assert box.all() == [Resync(())]
    assert box.due is None
