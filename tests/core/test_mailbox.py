"""The mailbox: in order, bounded, never waited for; what was too much stands as one Resync."""

from __future__ import annotations

import threading
from collections.abc import Sequence
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
from tests.core.lives import life


def event(number: int) -> Event:
    """Any event will do; these are told apart by a number."""
    return Recovered(float(number))


class Clock:
    """The time that a mailbox goes by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr("domindex.listening.mailbox.time", clock)


class Box(Mailbox):
    """A mailbox with the index's side of it: who runs, and how often that was asked."""

    def __init__(self, size: int = 3, reboot_grace: float = 0.0) -> None:
        self.lock = threading.RLock()
        self.woken = self.asked = 0
        self.running: tuple[Domain, ...] = ()
        super().__init__(self.lock, self._resync, self._woke, size=size, reboot_grace=reboot_grace)

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


# -- marks -----------------------------------------------------------------------------------


def marked(box: Box) -> threading.Event:
    reached = threading.Event()
    box.mark(reached.set)
    return reached


def test_a_mark_is_reached_once_what_came_before_was_taken_and_the_next_is_asked_for() -> None:
    """Asking for the next means that the one before was handled."""
    box = Box(size=9)
    box.fill(event(0))
    reached = marked(box)
    box.fill(event(1))
    assert box.take() == event(0)
    assert not reached.is_set()
    assert box.take() == event(1)
    assert reached.is_set()


def test_a_mark_in_an_empty_mailbox_is_reached_at_the_next_taking() -> None:
    """And it wakes the listener for that."""
    box = Box()
    woken = box.woken
    reached = marked(box)
    assert box.woken > woken
    assert not box.empty
    assert box.take() is None
    assert reached.is_set()


def test_marks_outlive_an_overflow() -> None:
    """What stands for the dropped events must be taken first: those set before and after."""
    box = Box(size=2)
    box.fill(event(0))
    before = marked(box)
    box.fill(event(1), event(2))
    after = marked(box)
    assert box.take() == Resync(())
    assert not before.is_set()
    assert not after.is_set()
    assert box.take() is None
    assert before.is_set()
    assert after.is_set()


def test_marks_take_no_room() -> None:
    """Whoever drains a small mailbox often would make it overflow."""
    box = Box(size=2)
    marks = [marked(box) for _ in range(5)]
    box.fill(event(0), event(1))
    assert box.all() == [event(0), event(1)]
    assert all(mark.is_set() for mark in marks)
    assert box.overflows == 0


def test_closing_lets_all_go_who_wait_for_a_mark() -> None:
    """Queued ones, those held by an overflow, and late ones."""
    box = Box(size=1)
    queued = marked(box)
    box.fill(event(0), event(1))
    held = marked(box)
    woken = box.woken
    box.close()
    assert box.woken > woken
    assert [mark.is_set() for mark in (queued, held, marked(box))] == [True, True, True]


def test_closed_it_holds_and_gives_nothing() -> None:
    """Also not what was there at the beginning."""
    box = Box(size=5)
    box.begin([event(0)])
    box.fill(event(1))
    box.close()
    box.fill(event(2))
    assert (box.take(), box.pending, box.closed) == (None, 0, True)
    box.close()


def test_a_child_needs_neither_the_lock_nor_whom_to_wake() -> None:
    """After a fork both may be stuck for ever: whatever a child calls returns."""
    box = Box()
    box.begin([event(0)])
    held, over = threading.Event(), threading.Event()

    def parent() -> None:
        with box.lock:
            held.set()
            over.wait(5.0)

    thread = threading.Thread(target=parent)
    thread.start()
    assert held.wait(5.0)
    box._after_fork()
    woken = box.woken
    box.mark(lambda: None)
    box.close()
    assert (box.take(), box.pending) == (None, 0)
    assert box.woken == woken
    over.set()
    thread.join()


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
