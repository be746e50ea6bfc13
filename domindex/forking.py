"""What a forked child has to give up: one list, one hook.

A child has the descriptors of its parent, and locks that a thread held which is not there. What
must not be used in it registers itself, and is told.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """What can be told of a fork."""

    def _after_fork(self) -> None: ...


# As a set, and in order.
_registered: weakref.WeakKeyDictionary[Forked, None] = weakref.WeakKeyDictionary()


def register(thing: Forked) -> None:
    """Have `thing._after_fork()` called in each child. Only a weak reference is kept."""
    _registered[thing] = None


def _after_fork() -> None:
    for thing in list(_registered):  # the most recently registered last
        thing._after_fork()
    _registered.clear()


os.register_at_fork(after_in_child=_after_fork)
