"""What has ended: the last names of lives, and the lives that ended a short time ago. No I/O.

Read after lives.py; next reconcile.py.

libxl removes a domain's name before it ends the domain, so the last record often has no name.
The reader of a `Removed`, or of `Index.recent`, wants the last name that the domain had.
`LastNames` keeps it for the table, which makes the events. `EndedLives` answers later, as for
the line of a log that names a domid which is gone or in use again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final
from uuid import UUID

from domindex.domain import Domain, Life
from domindex.events import Changed, Event, Removed

KEPT_FOR: Final = 600.0
"""Seconds for which an ended life is remembered."""

KEPT: Final = 1000
"""How many are remembered at most."""


class LastNames:
    """The last names of running lives that have none now: at most one for each life."""

    def __init__(self) -> None:
        self._names: dict[Life, str] = {}

    def change(self, old: Domain, new: Domain | None) -> Domain:
        """Take a change of `old` in. Returns `old`, under its last name if this is its end.

        To be called for each change where one side has no name. The others need nothing.
        """
        if new is not None and old.life == new.life:
            if new.name is not None:
                self._names.pop(old.life, None)
            elif old.name is not None:
                self._names[old.life] = old.name
            return old
        name = self._names.pop(old.life, None)
        return old if name is None else replace(old, name=name)

    def clear(self) -> None:
        """Begin anew."""
        self._names.clear()


class EndedLives:
    """How each life ended: the last `KEPT` of them, for `KEPT_FOR` seconds."""

    def __init__(self) -> None:
        self._ended: deque[tuple[float, Removed, frozenset[UUID]]] = deque(maxlen=KEPT)
        self._uuids: dict[Life, frozenset[UUID]] = {}  # of those that run and had others before

    def add(self, events: Iterable[Event]) -> None:
        """Remember what ended, and which uuids it had."""
        now = time.monotonic()
        for event in events:
            if isinstance(event, Removed):
                uuids = self._uuids.pop(event.domain.life, frozenset())
                self._ended.append((now, event, uuids))
            elif isinstance(event, Changed) and "uuid" in event.fields:
                life = event.old.life
                self._uuids[life] = self._uuids.get(life, frozenset()) | {event.old.uuid}
        while self._ended and self._ended[0][0] < now - KEPT_FOR:
            self._ended.popleft()

    def find(
        self, matches: Callable[[Domain], bool], *, uuid: UUID | None = None
    ) -> tuple[Removed, ...]:
        """Those whose last record matches, latest first. uuid: one that it ever had."""
        since = time.monotonic() - KEPT_FOR
        return tuple(
            event
            for at, event, uuids in reversed(self._ended)
            if at >= since
            and (uuid is None or event.domain.uuid == uuid or uuid in uuids)
            and matches(event.domain)
        )

    def end_of(self, life: Life) -> Removed | None:
        """How this life ended, if it is remembered."""
        return next(iter(self.find(lambda domain: domain.life == life)), None)
