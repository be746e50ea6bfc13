"""A live migration or a reboot is no death: an end and a start are told as one event.

For a while both hosts have a domain that migrates. It is there under a passing name at first
(`NAME--incoming`), and gets its final name when the source has let go; the source may end before
or after that, and between hosts there is no order. So what may be half of a migration is held
back until the other half has come, or for `move_grace` seconds.

An end may also be half of a reboot on its own host, as listening/reboots.py says for an index, and
is then held for `reboot_grace` seconds. One that may be either is held for the longer of the two.
The first answer ends the hold, and with it the other question.

Read after events.py; next wanted.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from uuid import UUID

from domindex.domain import Domain, ShutdownReason
from domindex.events import Added, Ready, Rebooted, Removed, about
from domindex.fleet.events import FleetEvent, HostEvent, HostForgotten, HostRenamed, Moved
from domindex.fleet.states import Found
from domindex.listening.reboots import goes_on_from, may_come_back


@dataclass(slots=True, eq=False)
class _Departed:
    """An end that is held back.

    moves: it may be that of a source. reboots: it may be half of a reboot on its host.
    """

    event: HostEvent
    domain: Domain
    until: float
    moves: bool
    reboots: bool


@dataclass(slots=True, eq=False)
class _Arriving:
    """A birth that may be the destination's; `domain` is its latest record.

    alone: the source was told to have ended, so that its final name is all that it waits for.
    """

    event: HostEvent
    domain: Domain
    until: float
    alone: bool = False


class Moves:
    """Makes one `Moved` of the two halves of a live migration, one `Rebooted` of those of a reboot.

    For one listener. Nothing else changes: it gets the events that it would get without a grace.

    A death is held for a migration only if it looks like a source's: under a passing name,
    suspended, or while the destination is there. A birth is held only while a host that is not
    lost has the same uuid, or has just ended it; as long as its name is passing it is held
    without a limit.

    Args:
        move_grace: Seconds; 0 tells both halves of a migration as they come.
        reboot_grace: Seconds; 0 tells both halves of a reboot as they come.
        answer: The `Found` for a record of a host.

    Times are the caller's own clock.
    """

    def __init__(
        self, move_grace: float, reboot_grace: float, answer: Callable[[str, Domain], Found]
    ) -> None:
        self._move_grace = move_grace
        self._reboot_grace = reboot_grace
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
        yield from self._let_go([held for held in self._departed if held.until <= now])
        for key, arriving in list(self._arriving.items()):
            if arriving.until <= now:
                del self._arriving[key]
                yield from _birth(arriving, ready=True)

    def pass_on(self, event: FleetEvent, now: float) -> Iterator[FleetEvent]:
        """What to tell in place of `event`, which may be nothing yet."""
        match event:
            case HostEvent(_, Added(domain)):
                yield from self._on_birth(event, domain, now)
            case HostEvent(_, Removed(domain) as removed):
                yield from self._on_death(event, domain, removed, now)
            case HostEvent():
                yield from self._on_change(event, now)
            case HostForgotten(host) | HostRenamed(host):
                # What has ended under this name is told before the name is.
                yield from self._let_go(
                    [held for held in self._departed if held.event.host == host]
                )
                if isinstance(event, HostRenamed):
                    self._rename(host, event.new)
                yield event
            case _:
                yield event

    def forget(self) -> None:
        """Nothing that is held counts any more: the listener begins anew."""
        self._departed.clear()
        self._arriving.clear()

    def _let_go(self, ended: list[_Departed]) -> Iterator[FleetEvent]:
        """Hold these ends no longer: tell them."""
        for departed in ended:
            self._departed.remove(departed)
            for arriving in self._arriving.values():
                arriving.alone = arriving.alone or _same(arriving, departed)
            yield departed.event

    def _rename(self, old: str, new: str) -> None:
        for host, domid in [key for key in self._arriving if key[0] == old]:
            arriving = self._arriving.pop((host, domid))
            arriving.event = replace(arriving.event, host=new)
            self._arriving.setdefault((new, domid), arriving)

    def _on_birth(self, event: HostEvent, domain: Domain, now: float) -> Iterator[FleetEvent]:
        host, uuid = event.host, domain.uuid
        others = [h for h in self._departed if h.domain.uuid == uuid and h.event.host != host]
        expected = bool(event.elsewhere) or any(held.moves for held in others)
        migrates = bool(self._move_grace and uuid.int and expected)
        before = None if migrates and _passing(domain) else self._before(event, domain, migrates)
        if uuid.int:  # who runs elsewhere, and did not migrate, does not come back
            yield from self._let_go([held for held in others if not held.moves])
        # Another guest on a domid whose end is still held: that is told first.
        at_home = [held for held in self._departed if held.event.host == host]
        yield from self._let_go([held for held in at_home if held.domain.domid == domain.domid])
        if before is not None:
            yield _within(event, Rebooted(before, domain))
        elif migrates:
            until = math.inf if _passing(domain) else now + self._move_grace
            self._arriving[host, domain.domid] = _Arriving(event, domain, until)
            yield from self._join(uuid, ready=False)
        else:
            yield event

    def _before(self, event: HostEvent, new: Domain, migrates: bool) -> Domain | None:
        """The life on the same host that `new` goes on from, no longer held.

        migrates: only the uuid counts. One that has come from another host may find its name free.
        """
        held = [
            held
            for held in self._departed
            if held.reboots
            and held.event.host == event.host
            and (not migrates or held.domain.uuid == new.uuid)
        ]
        before = goes_on_from(new, (departed.domain for departed in held))
        for departed in held:
            if departed.domain is before:
                self._departed.remove(departed)
        return before

    def _on_death(
        self, event: HostEvent, domain: Domain, removed: Removed, now: float
    ) -> Iterator[FleetEvent]:
        if self._arriving.pop((event.host, domain.domid), None) is not None:
            return  # it never arrived, and was never told of
        departed = _Departed(event, domain, now, moves=False, reboots=False)
        if self._move_grace:
            awaited = any(_same(arriving, departed) for arriving in self._arriving.values())
            departed.moves = awaited or _may_have_left(removed)
        departed.reboots = bool(self._reboot_grace) and may_come_back(removed)
        if not (departed.moves or departed.reboots):
            yield event
            return
        departed.until = now + max(
            departed.moves * self._move_grace, departed.reboots * self._reboot_grace
        )
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
                arriving.until = now if arriving.alone else now + self._move_grace
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
                if departed.moves and _same(arriving, departed):
                    self._departed.remove(departed)
                    del self._arriving[key]
                    old = self._answer(departed.event.host, departed.domain)
                    new = self._answer(key[0], arriving.domain)
                    stamp = arriving.event
                    yield Moved(old, new, generation=stamp.generation, time=stamp.time)
                    if ready:
                        yield from _ready(arriving)
                    break


def _same(arriving: _Arriving, departed: _Departed) -> bool:
    hosts_differ = arriving.event.host != departed.event.host
    return hosts_differ and arriving.domain.uuid == departed.domain.uuid


def _within(event: HostEvent, inner: Added | Ready | Rebooted) -> HostEvent:
    """This event in place of the one in `event`, of the same generation and time."""
    return replace(event, event=replace(inner, generation=event.generation, time=event.time))


def _birth(arriving: _Arriving, *, ready: bool) -> Iterator[FleetEvent]:
    """The birth that was held, as it is by now."""
    yield _within(arriving.event, Added(arriving.domain))
    if ready:
        yield from _ready(arriving)


def _ready(arriving: _Arriving) -> Iterator[FleetEvent]:
    if arriving.domain.ready:
        yield _within(arriving.event, Ready(arriving.domain))


def _passing(domain: Domain) -> bool:
    """Whether it is under a name that it has only for the time of a migration, or none yet."""
    name = domain.name
    return (
        not name or name.endswith(("--incoming", "--migratedaway")) or name.startswith("migrating-")
    )


def _may_have_left(removed: Removed) -> bool:
    """Whether this death looks like a source's."""
    domain, reason = removed.domain, removed.reason
    named = domain.name is not None and _passing(domain)
    return bool(domain.uuid.int) and (named or reason is ShutdownReason.SUSPEND)
