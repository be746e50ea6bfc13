"""A live migration is no death: the end on one host and the start on another, told as one event.

For a while both hosts have the domain. It is there under a passing name at first
(`NAME--incoming`), and gets its final name when the source has let go; the source may end before
or after that, and between hosts there is no order. So what may be half of a migration is held
back until the other half has come, or for `grace` seconds.

Read after events.py; next wanted.py. The same for reboots on one host: listening/reboots.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

from domindex.domain import Domain, ShutdownReason
from domindex.events import Added, Ready, Removed, about
from domindex.fleet.events import FleetEvent, HostEvent, HostRenamed, Moved
from domindex.fleet.states import Found


@dataclass(slots=True)
class _Departed:
    """A death that may be the source's end."""

    event: HostEvent
    domain: Domain
    until: float


@dataclass(slots=True)
class _Arriving:
    """A birth that may be the destination's; `domain` is its latest record.

    alone: the source was told to have ended, so that its final name is all that it waits for.
    """

    event: HostEvent
    domain: Domain
    until: float
    alone: bool = False


class Moves:
    """Turns the two halves of a live migration into Moved, for one listener.

    A death is held only if it looks like a source's: under a passing name, suspended, or while the
    destination is there. A birth is held only while a host that is not lost has the same uuid, or
    has just ended it; as long as its name is passing it is held without a limit.

    grace: seconds. answer: the `Found` for a record of a host. Times are the caller's own clock.
    """

    def __init__(self, grace: float, answer: Callable[[str, Domain], Found]) -> None:
        self._grace = grace
        self._answer = answer
        self._departed: list[_Departed] = []
        self._arriving: dict[tuple[str, int], _Arriving] = {}

    @property
    def due(self) -> float | None:
        """When `expired` will next have something to tell."""
        times = [held.until for held in self._departed]
        times += [held.until for held in self._arriving.values()]
        first = min(times, default=math.inf)
        return None if first == math.inf else first

    def expired(self, now: float) -> Iterator[FleetEvent]:
        """The halves whose other half did not come in time."""
        for departed in [held for held in self._departed if held.until <= now]:
            self._departed.remove(departed)
            for arriving in self._arriving.values():
                arriving.alone = arriving.alone or _same(arriving, departed)
            yield departed.event
        for key, arriving in list(self._arriving.items()):
            if arriving.until <= now:
                del self._arriving[key]
                yield from _birth(arriving, ready=True)

    def pass_on(self, event: FleetEvent, now: float) -> Iterator[FleetEvent]:
        """What to tell in place of `event`, which may be nothing yet."""
        if isinstance(event, HostRenamed):
            for host, domid in [key for key in self._arriving if key[0] == event.old]:
                self._arriving[event.new, domid] = self._arriving.pop((host, domid))
        if not isinstance(event, HostEvent):
            yield event
            return
        match event.event:
            case Added(domain):
                yield from self._before(event.host, domain)
                yield from self._on_birth(event, domain, now)
            case Removed(domain):
                yield from self._on_death(event, domain, now)
            case _:
                yield from self._on_change(event, now)

    def forget(self) -> None:
        """Nothing that is held counts any more: the listener begins anew."""
        self._departed.clear()
        self._arriving.clear()

    def _before(self, host: str, domain: Domain) -> Iterator[FleetEvent]:
        """Another guest on a domid whose end is still held: that is told first."""
        for held in [h for h in self._departed if h.event.host == host]:
            if held.domain.domid == domain.domid:
                self._departed.remove(held)
                yield held.event

    def _on_birth(self, event: HostEvent, domain: Domain, now: float) -> Iterator[FleetEvent]:
        expected = any(
            held.domain.uuid == domain.uuid and held.event.host != event.host
            for held in self._departed
        )
        if not domain.uuid.int or not (event.elsewhere or expected):
            yield event
            return
        until = math.inf if _passing(domain) else now + self._grace
        self._arriving[event.host, domain.domid] = _Arriving(event, domain, until)
        yield from self._join(domain.uuid, ready=False)

    def _on_death(self, event: HostEvent, domain: Domain, now: float) -> Iterator[FleetEvent]:
        if self._arriving.pop((event.host, domain.domid), None) is not None:
            return  # it never arrived, and was never told of
        departed = _Departed(event, domain, now + self._grace)
        awaited = any(_same(arriving, departed) for arriving in self._arriving.values())
        if not awaited and not _may_have_left(event):
            yield event
            return
        self._departed.append(departed)
        yield from self._join(domain.uuid, ready=True)

    def _on_change(self, event: HostEvent, now: float) -> Iterator[FleetEvent]:
        for domain in reversed(about(event.event)):
            arriving = self._arriving.get((event.host, domain.domid))
            if arriving is None or arriving.domain.life != domain.life:
                continue
            was_passing = _passing(arriving.domain)
            arriving.domain = domain
            if was_passing and not _passing(domain):
                arriving.until = now if arriving.alone else now + self._grace
            is_ready = isinstance(event.event, Ready)
            yield from self._join(domain.uuid, ready=is_ready)
            if arriving.alone and arriving.until <= now:
                del self._arriving[event.host, domain.domid]
                yield from _birth(arriving, ready=is_ready)
            return
        yield event

    def _join(self, uuid: UUID, *, ready: bool) -> Iterator[FleetEvent]:
        """Tell the migration, if both halves are there and it has its final name.

        ready: with the `Ready` of the destination; else that is still to come by itself.
        """
        for key, arriving in list(self._arriving.items()):
            if arriving.domain.uuid != uuid or _passing(arriving.domain):
                continue
            for departed in self._departed:
                if _same(arriving, departed):
                    self._departed.remove(departed)
                    del self._arriving[key]
                    old = self._answer(departed.event.host, departed.domain)
                    new = self._answer(key[0], arriving.domain)
                    stamp = arriving.event
                    yield Moved(old, new, generation=stamp.generation, time=stamp.time)
                    if ready:
                        yield from _ready(arriving, key[0])
                    break


def _same(arriving: _Arriving, departed: _Departed) -> bool:
    hosts_differ = arriving.event.host != departed.event.host
    return hosts_differ and arriving.domain.uuid == departed.domain.uuid


def _birth(arriving: _Arriving, *, ready: bool) -> Iterator[FleetEvent]:
    """The birth that was held, as it is by now."""
    event = arriving.event
    added = Added(arriving.domain, generation=event.generation, time=event.time)
    yield HostEvent(event.host, added, generation=event.generation, time=event.time)
    if ready:
        yield from _ready(arriving, event.host)


def _ready(arriving: _Arriving, host: str) -> Iterator[FleetEvent]:
    if arriving.domain.ready:
        event = arriving.event
        ready = Ready(arriving.domain, generation=event.generation, time=event.time)
        yield HostEvent(host, ready, generation=event.generation, time=event.time)


def _passing(domain: Domain) -> bool:
    """Whether it is under a name that it has only for the time of a migration, or none yet."""
    name = domain.name
    return (
        not name or name.endswith(("--incoming", "--migratedaway")) or name.startswith("migrating-")
    )


def _may_have_left(event: HostEvent) -> bool:
    """Whether this death looks like a source's."""
    assert isinstance(event.event, Removed)
    domain, reason = event.event.domain, event.event.reason
    named = domain.name is not None and _passing(domain)
    return bool(domain.uuid.int) and (named or reason is ShutdownReason.SUSPEND)
