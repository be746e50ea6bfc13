"""Lives that ended lately: to say whose a log line was that comes late. No I/O."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from domindex.domain import Domain, Life
from domindex.events import DomainEvent, Removed

KEPT_FOR: Final = 600.0
"""Seconds for which an ended life is remembered."""

KEPT: Final = 1000
"""How many are remembered at most."""


class Past:
    """The last `Removed` of each life that ended, for a time and up to a number."""

    def __init__(self) -> None:
        self._ended: deque[tuple[float, Removed]] = deque(maxlen=KEPT)

    def add(self, events: Iterable[DomainEvent]) -> None:
        """Remember what ended."""
        now = time.monotonic()
        self._ended.extend((now, event) for event in events if isinstance(event, Removed))
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
