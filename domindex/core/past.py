"""Lives that ended lately: to say whose a log line was that comes late. No I/O.

libxl takes a domain's name away before it ends the domain, so the last record is often nameless.
Nobody who asks for the past means that: what is kept is the last name that it had.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from domindex.domain import Domain, Life
from domindex.events import Event, Removed, Renamed

KEPT_FOR: Final = 600.0
"""Seconds for which an ended life is remembered."""

KEPT: Final = 1000
"""How many are remembered at most."""


class LastNames:
    """What those were called last that are called nothing now."""

    def __init__(self) -> None:
        self._names: dict[Life, str] = {}

    def hear(self, event: Event) -> None:
        """Take an event in, before or after it is told."""
        match event:
            case Renamed(old, new):
                if new.name is None and old.name is not None:
                    self._names[old.life] = old.name
                else:
                    self._names.pop(old.life, None)

    def ended(self, domain: Domain) -> str | None:
        """The last name of one that is gone, which is then forgotten."""
        name = self._names.pop(domain.life, None)
        return name if domain.name is None else domain.name

    def forget(self) -> None:
        """Begin anew."""
        self._names.clear()


class Past:
    """How each life ended, under its last name, for a time and up to a number."""

    def __init__(self) -> None:
        self._ended: deque[tuple[float, Removed]] = deque(maxlen=KEPT)
        self._names = LastNames()

    def add(self, events: Iterable[Event]) -> None:
        """Remember what ended."""
        now = time.monotonic()
        for event in events:
            self._names.hear(event)
            if isinstance(event, Removed):
                name = self._names.ended(event.domain)
                if name != event.domain.name:
                    event = replace(event, domain=replace(event.domain, name=name))
                self._ended.append((now, event))
        while self._ended and self._ended[0][0] < now - KEPT_FOR:
            self._ended.popleft()

    def find(self, matches: Callable[[Domain], bool]) -> tuple[Removed, ...]:
        """Those whose last record matches, latest first."""
        since = time.monotonic() - KEPT_FOR
        return tuple(
            event for at, event in reversed(self._ended) if at >= since and matches(event.domain)
        )

    def end_of(self, life: Life) -> Removed | None:
        """How this life ended, if it is remembered."""
        return next(iter(self.find(lambda domain: domain.life == life)), None)
