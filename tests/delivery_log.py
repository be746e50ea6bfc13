"""What a listener received, held to everything that is promised of deliveries.

`check` takes the events of one listener in the order in which they came. They must be

ordered      generations never fall; of one domid a generation tells at most Removed, Added,
             Ready or Renamed, ShutDown, Changed, Ready, in this order; events of the line come
             after the changes.
unique       no event comes twice.
reliable     generations leave no gap, except before a `Resync`; the last one is the index's.
atomic       the events of one generation share one time, and lead together from one picture of
             the index to the next; what they say of duplicates holds then.
bookmarkable after every generation the events so far make the index's picture of it.

`check_joined` is for two listeners of one index: resumable, as a late one that was given what was
there makes the same pictures from then on as the one before it. `check_ready` is for a listener
that chose a `where=`: each `Ready` that it is promised comes, once a life.

`DeliveryLog` is a handler that keeps events and pictures for these checks. It is for listeners
that chose no `where=` and no `reboot_grace=`.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, Protocol, TypeAlias

from domindex import Closed, Domain, Index, Life, Snapshot
from domindex.events import (
    Added,
    Changed,
    DomainEvent,
    DuplicateName,
    DuplicateUuid,
    Event,
    LineEvent,
    Ready,
    Removed,
    Renamed,
    Resync,
    ShutDown,
    Synced,
)
from tests.believer import Believer

Picture: TypeAlias = Mapping[int, Domain]
"""The domains of one generation, by domid."""

_MANY: Final = 100
"""Domains, above which pictures are kept of every 16th generation only: each is a copy of all."""

_IN_ONE_GENERATION: Final = ((Removed, Added, Ready), (Renamed, ShutDown, Changed, Ready))
"""What may be told of one domid, in this order."""


def check(
    events: Sequence[Event],
    *,
    pictures: Mapping[int, Picture] | None = None,
    start: Snapshot | None = None,
    last: Snapshot | None = None,
    duplicates: bool = True,
    ready: bool | None = None,
) -> dict[int, Picture]:
    """The pictures that the events make, by generation. AssertionError if a promise is broken.

    pictures: of the index, as far as they are known. start: what was there before the first
    event, for a listener that asked for no replay. last: the index's picture when all was
    handled; without it the events may end amid a generation. duplicates: the listener asked for
    events of duplicates, and for `Synced`. ready: it asked for `Ready`; None: see whether one
    comes at the start.
    """
    known = dict(pictures or {})
    if last is not None:
        known[last.generation] = last
    reader = _Reader(known, start, duplicates=duplicates, ready=ready)
    groups = [(g, list(group)) for g, group in groupby(events, lambda event: event.generation)]
    for place, (generation, group) in enumerate(groups):
        following = groups[place + 1 : place + 2]
        is_cut = isinstance(following[0][1][0], Resync) if following else last is None
        reader.read(generation, group, is_cut=is_cut)
    if last is not None and (events or last):  # an empty host has nothing to tell
        assert reader.generation == last.generation, (
            f"reliable: the events end at generation {reader.generation}, "
            f"the index is at {last.generation}"
        )
    return reader.made


def check_joined(early: Mapping[int, Picture], late: Mapping[int, Picture]) -> None:
    """Resumable: what two listeners of one index made (see `check`) is the same where both know."""
    for generation in early.keys() & late.keys():
        assert early[generation] == late[generation], (
            f"resumable: of generation {generation} one listener knows {early[generation]}, "
            f"another {late[generation]}"
        )
    if early and late:
        assert max(early) == max(late), "resumable: two listeners end at different generations"


def check_ready(
    events: Iterable[Event],
    whole: Iterable[Event],
    where: Callable[[Domain], object],
    *,
    replay: bool = True,
) -> None:
    """Of each life one Ready: when it is ready and `where` holds of it for the first time.

    events: what a listener with this `where=` received, `Synced` with it, and no `Resync`.
    whole: what another one of the same index received, without a filter, from as early on.
    replay: without it, nothing is told of what was ready and held when the listener began.
    """
    told = [(e.generation, e.domain) for e in events if isinstance(e, Ready)]
    (began,) = (event.generation for event in events if isinstance(event, Synced))
    believer, known = Believer(strict=False), set[Life]()
    promised: list[tuple[int, Domain]] = []
    for generation, group in groupby(whole, lambda event: event.generation):
        for event in group:
            believer.hear(event)
        if generation < began:
            continue
        for _, domain in sorted(believer.domains.items()):
            if domain.ready and domain.life not in known and where(domain):
                known.add(domain.life)
                if replay or generation > began:
                    promised.append((generation, domain))
    assert told == promised, f"reliable: Ready is promised of {promised}, and told of {told}"


class _Reader:
    """Reads events generation by generation, and keeps what they make."""

    def __init__(
        self,
        known: Mapping[int, Picture],
        start: Snapshot | None,
        *,
        duplicates: bool,
        ready: bool | None,
    ) -> None:
        self.generation = None if start is None else start.generation
        self.made: dict[int, Picture] = {}
        self._known = known
        self._duplicates = duplicates
        self._ready = ready
        self._believer = Believer()
        self._seen: set[int] = set()  # the identities of all events
        self._names: dict[Life, str] = {}  # the last that each life had
        self._begun = False
        self._knows_all_ready = False  # it began with all that was there, and nothing was dropped
        if start is not None:
            self._believer.domains = dict(start)
            self._names = {d.life: d.name for d in start.values() if d.name is not None}
            self._picture(start.generation)

    def read(self, generation: int, group: Sequence[Event], *, is_cut: bool) -> None:
        """All events of one generation. is_cut: the rest of them may have been dropped."""
        before = dict(self._believer.domains)
        told: list[DomainEvent] = []
        came: set[Event] = set()
        replays = not self._begun and self.generation is None
        restarts = isinstance(group[0], Resync)
        self._check_step(generation, group[0], replays=replays or restarts)
        over = False  # the changes of this generation
        for event in group:
            assert id(event) not in self._seen, f"unique: {event} came twice"
            self._seen.add(id(event))
            if isinstance(event, LineEvent):
                over = True
                if isinstance(event, Resync):
                    told, restarts, is_cut = [], True, False
                    domids = [domain.domid for domain in event.domains]
                    assert domids == sorted(set(domids)), "ordered: a Resync in domid order"
            else:
                assert not over, f"ordered: {event} after the events of the line"
                assert event not in came, f"unique: {event} came twice"
                came.add(event)
                told.append(event)
            self._check_last_name(event)
            self._believer.hear(event)
        self._begun, self.generation = True, generation
        if replays:
            assert all(isinstance(e, (Added, Ready, DuplicateName, DuplicateUuid)) for e in told)
            before = {}
        elif not restarts:
            _check_order(told)
            assert len({event.time for event in told}) <= 1, "atomic: one time a generation"
        if is_cut:
            return
        if replays:  # a listener may have left Ready out of its events=
            came_ready = any(isinstance(event, Ready) for event in told)
            self._knows_all_ready = came_ready if self._ready is None else self._ready
        self._knows_all_ready = self._knows_all_ready and not restarts
        if self._knows_all_ready:
            untold = [
                domain
                for domain in self._believer.domains.values()
                if domain.ready and domain.life not in self._believer.was_ready
            ]
            assert not untold, f"reliable: no Ready came of {untold}"
        self._picture(generation)
        if self._duplicates and not restarts:
            self._check_duplicates(before, told)

    def _check_step(self, generation: int, first: Event, *, replays: bool) -> None:
        """From the last generation to this one, of which `first` is the first event."""
        if self.generation is None:
            return
        assert generation >= self.generation, f"ordered: {first} of an earlier generation"
        if replays or (not self._begun and isinstance(first, Synced)):
            return
        if not self._begun and isinstance(first, LineEvent):
            assert generation == self.generation, "reliable: it did not begin at its start"
            return
        assert generation == self.generation + 1, (
            f"reliable: {first} of generation {generation} after generation {self.generation}"
        )
        assert not isinstance(first, LineEvent), f"reliable: {first}, and not what changed before"

    def _picture(self, generation: int) -> None:
        made, known = self._believer.domains, self._known.get(generation)
        if known is not None or _keeps(generation, made):
            self.made[generation] = dict(made)
        if known is not None:
            assert made == dict(known), (
                f"bookmarkable: the events up to generation {generation} make {made}, "
                f"the index held {dict(known)}"
            )

    def _check_last_name(self, event: Event) -> None:
        """An end is told under the last name that the life had, where that was told."""
        match event:
            case Added(domain) if domain.name is not None:
                self._names[domain.life] = domain.name
            case Renamed(_, new) if new.name is not None:
                self._names[new.life] = new.name
            case Removed(domain):
                last = self._names.pop(domain.life, domain.name)
                assert domain.name == last, f"{event}: its last name was {last!r}"
            case Resync(domains):
                self._names = {d.life: d.name for d in domains if d.name is not None}

    def _check_duplicates(self, before: Picture, told: Iterable[DomainEvent]) -> None:
        """Each key that another life has come to share is told once, with all that share it."""
        after = self._believer.domains
        expected: dict[object, tuple[Domain, ...]] = {}
        for attribute in ("name", "uuid"):
            had, has = _holders(before, attribute), _holders(after, attribute)
            for key, domains in has.items():
                lives = {domain.life for domain in had.get(key, ())}
                if len(domains) > 1 and any(domain.life not in lives for domain in domains):
                    expected[key] = domains
        said: dict[object, tuple[Domain, ...]] = {}
        for event in told:
            match event:
                case DuplicateName(key, domains) | DuplicateUuid(key, domains):
                    said[key] = domains
                case _:
                    assert not said, f"ordered: {event} after the duplicates that it may lead to"
        assert said == expected, f"atomic: duplicates are {expected}, told were {said}"


def _keeps(generation: int, picture: Picture) -> bool:
    return len(picture) <= _MANY or generation % 16 == 0


def _check_order(told: Iterable[DomainEvent]) -> None:
    kinds: dict[int, list[type[Event]]] = defaultdict(list)
    for event in told:
        match event:
            case Added(domain) | Removed(domain) | ShutDown(domain) | Ready(domain):
                kinds[domain.domid].append(type(event))
            case Renamed(_, new) | Changed(_, new):
                kinds[new.domid].append(type(event))
    for domid, of_one in kinds.items():
        assert any(
            of_one == [kind for kind in allowed if kind in of_one] for allowed in _IN_ONE_GENERATION
        ), f"ordered: in one generation {[kind.__name__ for kind in of_one]} of domain {domid}"


def _holders(picture: Picture, attribute: str) -> dict[object, tuple[Domain, ...]]:
    holders: dict[object, tuple[Domain, ...]] = {}
    for _, domain in sorted(picture.items()):
        key = getattr(domain, attribute)
        if key is not None and not (attribute == "uuid" and key.int == 0):
            holders[key] = (*holders.get(key, ()), domain)
    return holders


class Drains(Protocol):
    """A subscription, as far as a log needs one."""

    def drain(self, timeout: float | None = ...) -> bool: ...


_open: list[list[DeliveryLog]] = []  # of each block of `all_checked` that is not over


@contextlib.contextmanager
def all_checked() -> Iterator[None]:
    """At the end of this block every log that was made in it is checked."""
    made: list[DeliveryLog] = []
    _open.append(made)
    try:
        yield
    finally:
        _open.remove(made)
    for log in made:
        log.check_rest()


class DeliveryLog:
    """A handler that keeps what it receives, and the index's picture at each new generation.

    index: None keeps no pictures. start, duplicates: see `check`.
    """

    def __init__(
        self,
        index: Index | None = None,
        *,
        start: Snapshot | None = None,
        duplicates: bool = True,
    ) -> None:
        self.events: list[Event] = []
        self.pictures: dict[int, Picture] = {}
        self._index = index
        self._start = start
        self._duplicates = duplicates
        self._checked = 0  # so many events
        for made in _open:
            made.append(self)

    def __call__(self, event: Event) -> None:
        """Take one event in. Never fails: `check` is for that."""
        is_new = not self.events or event.generation != self.events[-1].generation
        self.events.append(event)
        if is_new and self._index is not None:
            with contextlib.suppress(Closed):
                picture = self._index.snapshot(stale="serve")
                if _keeps(picture.generation, picture):
                    self.pictures[picture.generation] = picture

    def check(self, last: Snapshot | None = None) -> dict[int, Picture]:
        """Hold what came by now to all promises; the pictures that it makes. See `check`."""
        events = list(self.events)
        if last is not None:
            events = [event for event in events if event.generation <= last.generation]
        self._checked = len(self.events)
        return check(
            events,
            pictures=dict(self.pictures),
            start=self._start,
            last=last,
            duplicates=self._duplicates,
        )

    def check_whole(self, subscription: Drains, timeout: float) -> dict[int, Picture]:
        """The same once all that the index told by now was handled: then nothing may be missing."""
        assert self._index is not None
        last = self._index.snapshot(stale="serve")
        assert subscription.drain(timeout), "what was told is not handled in time"
        return self.check(last)

    def check_rest(self) -> None:
        """The same if anything came since the last check."""
        if len(self.events) > self._checked:
            self.check()

    def forget(self, picture: Snapshot) -> None:
        """Begin anew behind a picture up to which all was checked. For logs without an end.

        The index is live then, and nothing happens meanwhile.
        """
        del self.events[: sum(event.generation <= picture.generation for event in self.events)]
        self.pictures.clear()
        self._start, self._checked = picture, 0
