"""Reboot is not a death: two lives that follow each other, told as one event. No I/O.

A toolstack ends a rebooting guest and makes it again: another life, most often with another
domid, the same uuid (libxl, XAPI) or at least the same name. Which it is shows only when the
new life comes. So a death that may be half of a reboot is held back for a while, at the cost
of telling late that it was none.

`may_come_back` and `goes_on_from` say what a reboot is. A fleet asks the same for each of its
hosts, and holds ends back for migrations too: fleet/moves.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from domindex.domain import NIL_UUID, Domain, ShutdownReason
from domindex.events import Added, Event, Rebooted, Removed

_MAY_COME_BACK = (
    None,
    ShutdownReason.REBOOT,
    ShutdownReason.WATCHDOG,  # sched.h: "Watchdog time expired", and toolstacks restart it
    ShutdownReason.UNKNOWN,
)


def may_come_back(removed: Removed) -> bool:
    """Whether this end may be half of a reboot. A power-off, a save and a crash are none."""
    return removed.reason in _MAY_COME_BACK


def goes_on_from(new: Domain, ended: Iterable[Domain]) -> Domain | None:
    """The first of these ended lives that `new` goes on from: the same uuid, or else name."""
    by_name = None
    for old in ended:
        if old.uuid == new.uuid != NIL_UUID:
            return old
        if by_name is None and new.name and old.name == new.name:
            by_name = old
    return by_name


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
            case Removed():
                if may_come_back(event):
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
        before = goes_on_from(new, (held.removed.domain for held in self._held))
        self._held = [held for held in self._held if held.removed.domain is not before]
        return before
