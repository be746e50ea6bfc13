"""What a forked child makes new and gives up."""

from __future__ import annotations

import gc
import re
import threading
from pathlib import Path

import pytest

import domindex
from domindex import forking
from tests.whole.test_faults import all_locks_held, in_a_child

PACKAGE = Path(domindex.__file__).parent


def test_a_lock_that_another_thread_holds_is_free_in_a_child() -> None:
    """And so is the condition made of it, and whatever else has that lock."""
    lock = forking.rlock()
    condition = threading.Condition(lock)

    def child() -> str:
        with condition:
            condition.notify_all()
        return str(lock.acquire(timeout=1.0))

    with all_locks_held():
        assert not lock.acquire(blocking=False)
        assert in_a_child(child) == "True"


def test_a_lock_that_the_forking_thread_holds_stays_held_by_it() -> None:
    """It releases it as it returns, which would fail if the lock had been made new."""
    lock = forking.rlock()

    def child() -> str:
        taken: list[bool] = []
        other = threading.Thread(target=lambda: taken.append(lock.acquire(blocking=False)))
        other.start()
        other.join()
        lock.release()
        return f"{taken} {lock.acquire(blocking=False)}"

    with lock:
        assert in_a_child(child) == "[False] True"


def test_a_lock_of_a_patched_threading_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Green threads live on in a child, and release it there."""

    class Green:
        """What has neither of the methods that a child needs."""

    monkeypatch.setattr(threading, "RLock", Green)
    lock = forking.rlock()
    monkeypatch.undo()
    assert in_a_child(lambda: "fine") == "fine"
    assert isinstance(lock, Green)


class Thing:
    """Something that gives up what it has."""

    def __init__(self, name: str, said: list[str]) -> None:
        self.name, self.said = name, said
        self.lock = forking.rlock()
        forking.register(self.give_up)

    def give_up(self) -> None:
        free = self.lock.acquire(blocking=False)
        self.said.append(self.name if free else f"{self.name} is stuck")


def test_what_was_registered_is_called_in_order_and_once() -> None:
    """In the child alone, after the locks were made new; not again in a child of the child."""
    said: list[str] = []
    first = Thing("first", said)
    gone = Thing("gone", said)
    second = Thing("second", said)
    forking.register(first.give_up)
    del gone
    gc.collect()

    def child() -> str:
        return f"{' '.join(said)}, {in_a_child(lambda: ' '.join(said))}"

    with all_locks_held():
        assert in_a_child(child) == "first second, first second"
    assert not said
    assert second


def test_nothing_is_kept_of_what_was_registered() -> None:
    """P11: lines and mailboxes come and go for months."""
    gc.collect()  # what other tests have left
    locks, calls = len(forking._locks), len(forking._calls)
    for _ in range(100):
        Thing("web", [])
    gc.collect()
    assert (len(forking._locks), len(forking._calls)) == (locks, calls)


def test_no_lock_that_a_child_may_need_is_made_in_another_way() -> None:
    """P9: `close` in a child takes them. The watcher's is not needed there, as it is not asked."""
    plain = re.compile(r"threading\.(RLock|Condition)\(\)")
    paths = set(PACKAGE.rglob("*.py"))
    paths -= {PACKAGE / name for name in ("forking.py", "testing.py", "watcher.py")}
    assert not [path.name for path in paths if plain.search(path.read_text(encoding="utf-8"))]
