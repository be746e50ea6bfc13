"""What a forked child makes new, and what it gives up: one registry, one hook.

A child has copies of its parent's descriptors, and of locks that were held by threads which do
not exist in it. So locks are made with `rlock`, which are free again in a child, and an object
with a descriptor or a thread registers the method that gives it up.

First of all files to read; `answers.py`, `xen/_pyxs.py` and `listening/` use it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

_locks: weakref.WeakSet[threading.RLock] = weakref.WeakSet()
# A dict, because it keeps the order and loses a key in one step, whichever thread collects it. Not
# of WeakMethods: as an interpreter ends, one that is half gone may be called back, and complains.
_calls: dict[tuple[int, Callable[[Any], object]], weakref.ref[object]] = {}


def rlock() -> threading.RLock:
    """A reentrant lock that is free in each forked child, unless the forking thread holds it.

    Conditions are made of it, too: `threading.Condition(rlock())`.
    """
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def register(method: Callable[[], object]) -> None:
    """Have a bound method called in each child, after the locks were made new.

    Only a weak reference to its object is kept. What was registered last is called last.
    """
    assert isinstance(method, MethodType)
    calls, key = _calls, (id(method.__self__), method.__func__)
    calls[key] = weakref.ref(method.__self__, lambda _: calls.pop(key, None))


def _after_fork() -> None:
    steps: list[Callable[[], object]] = [partial(_make_new, lock) for lock in list(_locks)]
    # Copied first, in one step: what follows makes objects, so garbage may be collected amid it,
    # and each owner that is collected takes its key out.
    for (_, call), owner in _calls.copy().items():
        if (alive := owner()) is not None:
            steps.append(partial(call, alive))
    _calls.clear()  # a child of the child has nothing of these to give up
    failed: Exception | None = None
    for step in steps:
        try:
            step()
        except Exception as error:  # what one cannot give up, all others do
            failed = failed or error
    if failed is not None:
        raise failed  # Python prints it, and goes on


def _make_new(lock: threading.RLock) -> None:
    # In place, so that every condition and thread that has the lock has the new one: what
    # threading, logging and concurrent.futures do with theirs. What this thread holds it
    # will release as it returns. A patched threading may have neither method: its locks are
    # held by green threads, which still exist in the child.
    make_new = getattr(lock, "_at_fork_reinit", None)
    if make_new is not None and not lock._is_owned():  # type: ignore[attr-defined]  # no stub has it
        make_new()


os.register_at_fork(after_in_child=_after_fork)
