"""Waiting for descriptors: `select.poll`, or a substitute where the program has none.

eventlet removes `poll` from the module `select` when it patches a program.

Read after watches.py; next line.py.
"""

from __future__ import annotations

import select
from typing import Protocol

from domindex.errors import StoreLost

IN, OUT = 1, 4
"""POLLIN and POLLOUT of Linux."""


class Poll(Protocol):
    """What is used of a `select.poll` object."""

    def register(self, fd: int, events: int, /) -> None: ...
    def poll(self, milliseconds: float, /) -> list[tuple[int, int]]: ...


def new_poll() -> Poll:
    """One without descriptors yet. No system call is made, so it is cheap to make one each time."""
    return select.poll() if hasattr(select, "poll") else _BySelect()


class _BySelect:
    """The substitute. As select() it works with descriptors up to 1023 only."""

    def __init__(self) -> None:
        self._events: dict[int, int] = {}

    def register(self, fd: int, events: int, /) -> None:
        self._events[fd] = events

    def poll(self, milliseconds: float, /) -> list[tuple[int, int]]:
        wanted = {event: [fd for fd, e in self._events.items() if e & event] for event in (IN, OUT)}
        try:
            readable, writable, _ = select.select(wanted[IN], wanted[OUT], [], milliseconds / 1000)
        except ValueError as error:
            raise StoreLost(
                f"select.poll is gone, and select.select cannot wait: {error}"
            ) from None
        found = ((fd, IN * (fd in readable) | OUT * (fd in writable)) for fd in self._events)
        return [(fd, event) for fd, event in found if event]
