"""Runs a few threads in many orders of their steps, and takes locks away.

frontrun replaces locks and conditions by its own, stops every thread between any two steps that
touch the same thing, and tries the orders that differ. Time stands still, but for waits: one that
is not ended by another thread is over at its limit, at once.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Self, TypeVar
from unittest import mock

import frontrun  # type: ignore[import-untyped]

T = TypeVar("T")

SECONDS: Final = float(os.environ.get("DOMINDEX_INTERLEAVINGS", "3"))
"""For each property: in more time more orders are tried."""

_WAYS: Final[tuple[tuple[dict[str, object], str, int], ...]] = (
    ({"strategy": "random", "seed": 1}, "max_attempts", 30),
    ({"strategy": "dpor", "preemption_bound": 1}, "max_executions", 300),
    ({"strategy": "dpor", "preemption_bound": 2}, "max_executions", 1000),
)
"""How orders are tried, and in how many a fault that is there has to show itself.

"dpor" tries those that differ in steps on one attribute or item, with at most so many threads
stopped amid their work. It does not see what a C function does, as `dict.get`; "random" need not.
"""

_SLOW_MACHINE: Final = 50.0


def holds(
    make: Callable[[], T], *threads: Callable[[T], object], then: Callable[[T], bool]
) -> None:
    """In every order that is tried, `then` is true of what `make` made, and no thread fails."""
    for how, number, _ in _WAYS:
        most = {number: 10**6, "total_timeout": SECONDS / len(_WAYS)}
        result = _explored(make, threads, then, **how, **most)
        assert result.property_holds, result.explanation


def fails(
    make: Callable[[], T], *threads: Callable[[T], object], then: Callable[[T], bool]
) -> None:
    """Some order is found in which `then` is false."""
    assert any(
        not _explored(make, threads, then, **how, **{number: most}).property_holds
        for how, number, most in _WAYS
    )


def _explored(
    make: Callable[[], T],
    threads: Sequence[Callable[[T], object]],
    then: Callable[[T], bool],
    **how: object,
) -> Any:
    with mock.patch.dict(os.environ, FRONTRUN_ACTIVE="1"), _nothing_collected():
        # Without the variable it asks for its own command.
        return frontrun.explore(
            make,
            list(threads),
            then,
            clock="virtual",
            detect_io=False,
            reproduce_on_failure=0,
            deadlock_timeout=_SLOW_MACHINE,
            timeout_per_run=_SLOW_MACHINE,
            **how,
        )


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """No cycle that another test left is collected amid frontrun's own steps.

    A weakref's callback of ours would be stopped there, under the lock that lets it go on.
    """
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()  # frontrun's locks are not to be about in other tests


class _Unguarded:
    """In place of a lock or a condition: guards nothing, but who waits is woken as ever."""

    def __init__(self, _: object = None) -> None:
        self._woken = _Condition()
        self._calls = 0  # what both write is what frontrun puts in another order

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def acquire(self, *_: object, **__: object) -> bool:
        return True

    def release(self) -> None: ...

    def wait(self, timeout: float | None = None) -> bool:
        self._calls += 1
        with self._woken:
            return self._woken.wait(timeout)

    def wait_for(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        while not condition():
            if not self.wait(timeout):
                return condition()
        return True

    def notify_all(self) -> None:
        self._calls += 1
        with self._woken:
            self._woken.notify_all()


def without_locks(make: Callable[[], T]) -> Callable[[], T]:
    """Makes the same, but what locks and conditions it makes guard nothing."""

    def made() -> T:
        with contextlib.ExitStack() as stack:
            global _Condition
            _Condition = threading.Condition  # frontrun's, as it explores
            for name in ("Lock", "RLock", "Condition"):
                stack.enter_context(mock.patch.object(threading, name, _Unguarded))
            return make()

    return made


_Condition: Callable[[], threading.Condition] = threading.Condition


class _Thread(threading.Thread):
    """A thread whose work is done by one of the exploration's: it calls `run`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._over = threading.Event()

    def start(self) -> None: ...

    def run(self) -> None:
        try:
            super().run()
        finally:
            self._over.set()

    def join(self, timeout: float | None = None) -> None:
        self._over.wait(timeout)


class Threads(list[threading.Thread]):
    """Threads that were made, and are to be run by threads of the exploration."""

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Those that are made meanwhile are kept here, and not started."""

        def made(*args: Any, **kwargs: Any) -> threading.Thread:
            self.append(_Thread(*args, **kwargs))
            return self[-1]

        with mock.patch.object(threading, "Thread", made):
            yield
