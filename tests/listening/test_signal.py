"""The signal: whoever waits looks once for each ring, and misses none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

from domindex.errors import TimedOut
from domindex.listening.signal import ChangeSignal
from tests.whole.helpers import eventually

LIMIT = 5.0
T = TypeVar("T")


class Tower:
    """A signal with its lock, and what it rings for."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.signal = ChangeSignal(self.lock)
        self.value: int | None = None
        self.looks = 0

    def ring(self, value: int | None = None) -> None:
        with self.lock:
            self.value = value
            self.signal.notify()

    def look(self) -> int | None:
        self.looks += 1
        return self.value

    def wait_for(self, look: Callable[[], T | None], timeout: float) -> T | None:
        """What the signal gives; None when the time is up."""
        try:
            return self.signal.wait_for(lambda _: look(), timeout)
        except TimedOut:
            return None

    def wait(self, result: list[int | None], timeout: float = LIMIT) -> threading.Thread:
        """Wait in a thread; returns once it does."""
        looked = self.looks
        thread = threading.Thread(target=lambda: result.append(self.wait_for(self.look, timeout)))
        thread.start()
        eventually(lambda: self.looks > looked)
        return thread


@pytest.fixture
def tower() -> Tower:
    return Tower()


def test_what_is_there_already_is_found_at_the_first_look(tower: Tower) -> None:
    """Whatever the time limit."""
    tower.value = 7
    for timeout in (LIMIT, 0.0, -1.0, float("inf")):
        assert tower.wait_for(tower.look, timeout) == 7
    assert tower.looks == 4


def test_one_look_for_each_ring_and_none_between(tower: Tower) -> None:
    """P11: no polling."""
    found: list[int | None] = []
    thread = tower.wait(found)
    for ring in range(3):
        tower.ring()
        eventually(lambda ring=ring: tower.looks == 2 + ring)  # type: ignore[misc]
    tower.ring(7)
    thread.join(LIMIT)
    assert (found, tower.looks) == ([7], 5)


def test_the_time_limit_is_kept(tower: Tower) -> None:
    """P9: also while it rings for something else."""
    assert tower.wait_for(tower.look, 0.01) is None
    assert tower.wait_for(tower.look, 0.0) is None
    over = threading.Event()

    def ring() -> None:
        while not over.wait(0.001):
            tower.ring()

    ringer = threading.Thread(target=ring)
    ringer.start()
    assert tower.wait_for(tower.look, 0.05) is None
    over.set()
    ringer.join()


def test_the_time_limit_is_kept_by_a_look_that_takes_long(tower: Tower) -> None:
    """P9: it has rung again each time when such a look is over."""
    assert tower.wait_for(lambda: tower.ring(), 0.05) is None


def test_a_ring_during_a_look_is_not_missed(tower: Tower) -> None:
    """What changes after a look began is seen by another."""

    def look() -> int | None:
        value = tower.look()
        if value is None:
            tower.ring(7)
        return value

    assert tower.wait_for(look, LIMIT) == 7
    assert tower.looks == 2


def test_a_look_is_under_no_lock(tower: Tower) -> None:
    """One that is slow holds up nobody."""

    def look() -> bool:
        free: list[bool] = []
        thread = threading.Thread(target=lambda: free.append(tower.lock.acquire(timeout=LIMIT)))
        thread.start()
        thread.join()
        return free[0]

    assert tower.wait_for(look, LIMIT)


def test_what_a_look_raises_ends_the_wait(tower: Tower) -> None:
    """In whoever waits."""
    with pytest.raises(ZeroDivisionError):
        tower.wait_for(lambda: 1 // 0, LIMIT)


def test_all_who_wait_are_rung(tower: Tower) -> None:
    """Each its own look."""
    found: list[int | None] = []
    threads = [tower.wait(found) for _ in range(8)]
    tower.ring(7)
    for thread in threads:
        thread.join(LIMIT)
    assert found == [7] * 8


# -- calls -----------------------------------------------------------------------------------


def test_a_call_is_made_at_each_ring_until_it_is_stopped(tower: Tower) -> None:
    """Stopping twice is once."""
    rung: list[int] = []
    stop = tower.signal.on_change(lambda: rung.append(tower.signal._count))
    tower.ring()
    tower.ring()
    stop()
    stop()
    tower.ring()
    assert rung == [1, 2]


def test_a_call_may_stop_itself_and_no_other_is_passed_over(tower: Tower) -> None:
    """As whoever waits for one thing does."""
    rung: list[str] = []
    stops: list[Callable[[], None]] = []

    def first() -> None:
        rung.append("first")
        stops[0]()

    stops.append(tower.signal.on_change(first))
    tower.signal.on_change(lambda: rung.append("second"))
    tower.ring()
    tower.ring()
    assert rung == ["first", "second", "second"]


def test_a_call_that_fails_harms_nobody(tower: Tower) -> None:
    """It is made in the thread that keeps the index true; a loop that was closed raises."""
    rung: list[int] = []
    tower.signal.on_change(lambda: 1 // 0)
    tower.signal.on_change(lambda: rung.append(1))
    tower.ring()
    assert rung == [1]


def test_a_last_look_that_says_nothing_is_too_late(tower: Tower) -> None:
    """A look should raise why it found nothing; if it does not, it is no answer all the same."""
    with pytest.raises(TimedOut):
        tower.signal.wait_for(lambda _: None, 0.0)
