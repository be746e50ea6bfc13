"""Waiting for descriptors: `select.poll`, or what little of it is used here where it is gone.

eventlet, when it patches a program, takes `poll` out of `select`.
"""

from __future__ import annotations

import select
from typing import Protocol

from domindex.errors import StoreLost

IN, OUT = 1, 4
"""POLLIN and POLLOUT of Linux."""


class Poll(Protocol):
    """What we use of a `select.poll` object."""

    def register(self, fd: int, events: int, /) -> None: ...
    def modify(self, fd: int, events: int, /) -> None: ...
    def poll(self, milliseconds: float, /) -> list[tuple[int, int]]: ...


def new_poll() -> Poll:
    """One that waits for nothing yet."""
    return select.poll() if hasattr(select, "poll") else _BySelect()


class _BySelect:
    """In place of it. Reaches descriptors up to 1023 only, as select() does."""

    def __init__(self) -> None:
        self._events: dict[int, int] = {}

    def register(self, fd: int, events: int, /) -> None:
        self._events[fd] = events

    modify = register

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
