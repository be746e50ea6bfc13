"""Reboot is not a death: two lives that follow each other, told as one event. No I/O.

A toolstack ends a rebooting guest and makes it again: another life, most often with another
domid, the same uuid (libxl, XAPI) or at least the same name. Which it is shows only when the
new life comes. So a death that may be half of a reboot is held back for a while, at the cost
of telling late that it was none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from domindex.domain import NIL_UUID, Domain, ShutdownReason
from domindex.events import Added, Event, Rebooted, Removed

_MAY_COME_BACK = (
    None,
    ShutdownReason.REBOOT,
    ShutdownReason.WATCHDOG,  # sched.h: "Watchdog time expired", and toolstacks restart it
    ShutdownReason.UNKNOWN,
)


@dataclass(slots=True)
class _Held:
    removed: Removed
    until: float


class Reboots:
    """Turns Removed and Added of one guest into Rebooted, for one listener.

    grace: seconds that a death may wait for its new life. Times are the caller's own clock.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._held: list[_Held] = []  # in the order in which they came, so by their time too

    @property
    def due(self) -> float | None:
        """When `expired` will next have something to tell."""
        return self._held[0].until if self._held else None

    def expired(self, now: float) -> Iterator[Event]:
        """The ends that no new life followed in time."""
        while self._held and self._held[0].until <= now:
            yield self._held.pop(0).removed

    def pass_on(self, event: Event, now: float) -> Iterator[Event]:
        """What to tell in place of `event`, which may be nothing yet."""
        match event:
            case Removed(_, reason):
                if reason in _MAY_COME_BACK:
                    self._held.append(_Held(event, now + self._grace))
                else:
                    yield event
            case Added(domain):
                before = self._before(domain)
                # Another guest on a domid that is still held: its death is told first.
                for held in [h for h in self._held if h.removed.domain.domid == domain.domid]:
                    self._held.remove(held)
                    yield held.removed
                if before is None:
                    yield event
                else:
                    yield Rebooted(before, domain, generation=event.generation, time=event.time)
            case _:
                yield event

    def forget(self) -> None:
        """Nothing that is held counts any more: the listener begins anew."""
        self._held.clear()

    def _before(self, new: Domain) -> Domain | None:
        """The life that `new` goes on from, no longer held."""
        by_uuid = [h for h in self._held if h.removed.domain.uuid == new.uuid != NIL_UUID]
        by_name = [h for h in self._held if new.name and h.removed.domain.name == new.name]
        for held in by_uuid or by_name:
            self._held.remove(held)
            return held.removed.domain
        return None
