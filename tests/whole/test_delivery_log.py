"""The validator of deliveries notices whatever can be wrong with one, wherever it is.

A log of a real listener is broken in one way at every place where that is possible. Each broken
log must be refused for what is wrong with it: alone, or with the index's pictures beside it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

import domindex
from domindex.events import (
    Added,
    Changed,
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
    about,
)
from tests.delivery_log import DeliveryLog, Picture, check, check_joined, check_ready
from tests.stage import PATIENCE, stage

Log = tuple[list[Event], dict[int, Picture], domindex.Snapshot]
Break = Callable[[list[Event]], Iterator[list[Event]]]

U = UUID(int=7)
KINDS = ("plain", "newest")


def happenings(toolstack: Any) -> Iterator[Callable[[], object]]:
    """What a listener is to be told in one generation each, and every kind of it."""
    yield lambda: [toolstack.create(name, domid=n) for n, name in enumerate("abc", 1)]
    yield lambda: toolstack.rename(1, "x")
    yield lambda: (toolstack.rename(2, "x"), toolstack.shutdown(1, 1))
    yield lambda: (toolstack.destroy(2, order="at once"), toolstack.create("x", uuid=U, domid=2))
    yield lambda: (toolstack.rename(3, "y"), toolstack.shutdown(3), toolstack.rename(2, "z"))
    yield lambda: toolstack.resume(1)
    yield lambda: toolstack.rename(2, None)
    yield lambda: toolstack.destroy(2, order="at once")
    yield lambda: toolstack.create("d", uuid=U, domid=4)
    yield lambda: (toolstack.create("e", uuid=U, domid=5), toolstack.destroy(3, order="xapi"))
    yield lambda: (toolstack.rename(4, "e"), toolstack.rename(5, "d"))


def a_log(kind: str) -> Log:
    """Everything that a listener received, the pictures of all generations, and the last one."""
    with stage(kind=kind) as played, domindex.connect(played.host) as index:
        pictures: dict[int, Picture] = {}
        log = DeliveryLog(index)
        subscription = index.subscribe(log)
        for happen in happenings(played.toolstack):
            with played.toolstack._lock:  # type: ignore[attr-defined]  # seen at once, or not yet
                happen()
            index.refresh()
            pictures[index.generation] = index.snapshot()
        made = log.check_whole(subscription, PATIENCE)
        # Where the index took a step in two, the picture between is the one that the events make.
        return log.events, {**made, **pictures}, index.snapshot()


@pytest.fixture(scope="module", params=KINDS)
def log(request: pytest.FixtureRequest) -> Log:
    return a_log(request.param)


def drop(events: list[Event]) -> Iterator[list[Event]]:
    """One event is missing."""
    for place, event in enumerate(events):
        if not isinstance(event, LineEvent):
            yield events[:place] + events[place + 1 :]


def drop_a_generation(events: list[Event]) -> Iterator[list[Event]]:
    """All events of one generation are missing."""
    for generation in sorted({event.generation for event in events})[1:]:
        yield [event for event in events if event.generation != generation]


def double(events: list[Event]) -> Iterator[list[Event]]:
    """One event comes twice in a row: the same object, or an equal one."""
    for place, event in enumerate(events):
        if isinstance(event, LineEvent):
            yield [*events[:place], event, event, *events[place + 1 :]]
        else:
            yield [*events[:place], event, replace(event), *events[place + 1 :]]


def double_later(events: list[Event]) -> Iterator[list[Event]]:
    """One event comes again at the end."""
    for event in events[:-1]:
        yield [*events, replace(event)]


def swap(events: list[Event]) -> Iterator[list[Event]]:
    """Two neighbours are told the wrong way round, where it matters: see `matters`."""
    for place in range(len(events) - 1):
        one, other = events[place : place + 2]
        if matters(one, other):
            yield [*events[:place], other, one, *events[place + 2 :]]


def matters(one: Event, other: Event) -> bool:
    """Their order is promised: they are of two generations, of one domain, or of two kinds."""
    if one.generation != other.generation or isinstance(one, LineEvent):
        return True
    if isinstance(other, LineEvent):
        return True
    duplicates = [isinstance(e, DuplicateName | DuplicateUuid) for e in (one, other)]
    if any(duplicates):
        return not all(duplicates)
    return any(a.domid == b.domid for a in about(one) for b in about(other))


def split(events: list[Event]) -> Iterator[list[Event]]:
    """What is one generation is told as two, and all that follows is a generation later."""
    for place in range(1, len(events)):
        one, other = events[place - 1 : place + 1]
        if one.generation == other.generation and not isinstance(other, LineEvent):
            later = [replace(e, generation=e.generation + 1) for e in events[place:]]
            yield events[:place] + later


def join(events: list[Event]) -> Iterator[list[Event]]:
    """What is two generations is told as one, and all that follows is a generation earlier."""
    for place in range(1, len(events)):
        one, other = events[place - 1 : place + 1]
        if one.generation != other.generation:
            earlier = [replace(e, generation=e.generation - 1) for e in events[place:]]
            yield events[:place] + earlier


def wrong_old(events: list[Event]) -> Iterator[list[Event]]:
    """An event says that a domain was something else before."""
    for place, event in enumerate(events):
        match event:
            case Renamed(old) | Changed(old):
                wrong: Event = replace(event, old=replace(old, uuid=UUID(int=99)))
            case Removed(domain):
                wrong = replace(event, domain=replace(domain, name="another"))
            case ShutDown(domain):
                wrong = replace(event, domain=replace(domain, name="another"))
            case _:
                continue
        yield [*events[:place], wrong, *events[place + 1 :]]


def wrong_new(events: list[Event]) -> Iterator[list[Event]]:
    """An event says that a domain is now what it is not."""
    for place, event in enumerate(events):
        match event:
            case Added(domain):
                wrong: Event = replace(event, domain=replace(domain, name="another"))
            case Renamed(_, new):
                wrong = replace(event, new=replace(new, name="another"))
            case Changed(_, new):
                wrong = replace(event, new=replace(new, uuid=UUID(int=99)))
            case _:
                continue
        yield [*events[:place], wrong, *events[place + 1 :]]


def no_removed(events: list[Event]) -> Iterator[list[Event]]:
    """A domain ends without a word, and the generations say nothing of it."""
    for place, event in enumerate(events):
        if not isinstance(event, Removed):
            continue
        alone = sum(e.generation == event.generation for e in events) == 1
        yield events[:place] + [
            replace(e, generation=e.generation - alone) for e in events[place + 1 :]
        ]


def nameless_end(events: list[Event]) -> Iterator[list[Event]]:
    """An end is told without the last name that the life had."""
    for place, event in enumerate(events):
        if isinstance(event, Removed):
            wrong = replace(event, domain=replace(event.domain, name=None))
            yield [*events[:place], wrong, *events[place + 1 :]]


def other_duplicates(events: list[Event]) -> Iterator[list[Event]]:
    """Fewer domains are said to share a key than do."""
    for place, event in enumerate(events):
        if isinstance(event, DuplicateName | DuplicateUuid):
            wrong = replace(event, domains=event.domains[1:])
            yield [*events[:place], wrong, *events[place + 1 :]]


def two_times(events: list[Event]) -> Iterator[list[Event]]:
    """The events of one generation have two times."""
    for place in range(1, len(events)):
        one, other = events[place - 1 : place + 1]
        if one.generation == other.generation > events[0].generation:
            yield [*events[:place], replace(other, time=other.time + 1), *events[place + 1 :]]


def lost_alone(events: list[Event]) -> Iterator[list[Event]]:
    """The line comes back that was never lost, or is lost twice."""
    last = events[-1].generation
    yield [*events, domindex.Recovered(1.0, generation=last)]
    cause = OSError()
    yield [*events, *(domindex.Lost(cause, generation=last) for _ in range(2))]


BREAKS = (
    *(drop, drop_a_generation, double, double_later, swap, split, join, wrong_old, wrong_new),
    *(no_removed, nameless_end, other_duplicates, two_times, lost_alone),
)


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.__name__)
def test_what_is_wrong_with_a_delivery_is_noticed(log: Log, broken: Break) -> None:
    """At each place, of all places where it can be wrong in this way."""
    events, pictures, last = log
    check(events, pictures=pictures, last=last, ready=True)
    tried = 0
    for wrong in broken(events):
        tried += 1
        with pytest.raises(AssertionError):
            check(wrong, pictures=pictures, last=last, ready=True)
    assert tried


# What shows even to whoever has no picture of the index beside the events.
@pytest.mark.parametrize(
    "broken", [double, double_later, wrong_old, nameless_end, two_times, lost_alone]
)
def test_some_faults_show_in_the_events_alone(log: Log, broken: Break) -> None:
    """They contradict those before them."""
    events, _, _ = log
    check(events)
    for wrong in broken(events):
        with pytest.raises(AssertionError):
            check(wrong)


def test_every_beginning_of_a_log_is_a_log(
    log: Log,
) -> None:
    """Who stops reading anywhere knows the picture of the last generation that was read whole."""
    events, pictures, _ = log
    for size in range(len(events) + 1):
        check(events[:size], pictures=pictures)


def test_a_resync_stands_for_what_was_dropped(
    log: Log,
) -> None:
    """From any event to any later generation; and with other domains than the index's it is no
    picture of it."""
    events, pictures, last = log
    for place in range(1, len(events)):
        for generation, picture in pictures.items():
            if generation < events[place - 1].generation:
                continue
            resync = Resync(tuple(picture[d] for d in sorted(picture)), generation=generation)
            rest = [event for event in events if event.generation > generation]
            check([*events[:place], resync, *rest], pictures=pictures, last=last)
            for domains in {resync.domains[1:], resync.domains[::-1]} - {resync.domains}:
                wrong = replace(resync, domains=domains)
                with pytest.raises(AssertionError):
                    check([*events[:place], wrong, *rest], pictures=pictures, last=last)


def test_a_late_listener_joins_the_early_one() -> None:
    """Resumable; and one that was given another picture at its start does not."""
    with stage(kind="newest") as played, domindex.connect(played.host) as index:
        steps = list(happenings(played.toolstack))
        first = DeliveryLog(index)
        early = index.subscribe(first)
        for happen in steps[:4]:
            happen()
        index.refresh()
        second = DeliveryLog(index)
        late = index.subscribe(second)
        start = index.snapshot()
        third = DeliveryLog(index, start=start)
        blank = index.subscribe(third, replay=False)
        for happen in steps[4:]:
            happen()
        index.refresh()
        made = [
            log.check_whole(listener, PATIENCE)
            for log, listener in ((first, early), (second, late), (third, blank))
        ]
        check_joined(made[0], made[1])
        check_joined(made[0], made[2])
        assert min(made[1]) == min(made[2]) == start.generation
        for generation in made[1]:
            for domid in made[1][generation]:
                picture = {d: v for d, v in made[1][generation].items() if d != domid}
                with pytest.raises(AssertionError, match="resumable"):
                    check_joined(made[0], {**made[1], generation: picture})


def test_a_log_is_taken_while_others_come_and_go() -> None:
    """The log of a listener that is slow and has a short queue holds as well: with a Resync."""
    with stage(kind="plain") as played, domindex.connect(played.host) as index:
        log, go = DeliveryLog(index), threading.Event()

        def slow(event: Event) -> None:
            assert go.wait(PATIENCE)
            log(event)

        with index.subscribe(slow, queue=2) as subscription:
            for happen in happenings(played.toolstack):
                happen()
                index.refresh()
            go.set()
            made = log.check_whole(subscription, PATIENCE)
            assert made[max(made)] == dict(index.snapshot())
            assert sum(isinstance(event, Resync) for event in log.events) == 1


@pytest.mark.parametrize("replay", [True, False])
def test_the_ready_of_a_filter_is_noticed_missing_and_too_much(replay: bool) -> None:
    """Each one that is left out, told twice, or told of another record or generation."""
    with stage(kind="newest") as played, domindex.connect(played.host) as index:
        for happen in (steps := list(happenings(played.toolstack)))[:3]:
            happen()
        index.refresh()
        whole, told = DeliveryLog(index), list[Event]()

        def where(domain: domindex.Domain) -> bool:
            return domain.name in ("y", "z", "d")

        kinds = (Ready, Synced)
        one = index.subscribe(whole)
        other = index.subscribe(told.append, events=kinds, where=where, replay=replay)
        for happen in steps[3:]:
            happen()
            index.refresh()
        assert one.drain(PATIENCE)
        assert other.drain(PATIENCE)
    check_ready(told, whole.events, where, replay=replay)
    places = [place for place, event in enumerate(told) if isinstance(event, Ready)]
    assert len(places) >= 3
    for place in places:
        event = told[place]
        assert isinstance(event, Ready)
        other_domain = replace(event, domain=replace(event.domain, name="another"))
        later = replace(event, generation=event.generation + 1)
        for wrong in ([], [event, replace(event)], [other_domain], [later]):
            with pytest.raises(AssertionError, match="Ready is promised"):
                check_ready(
                    [*told[:place], *wrong, *told[place + 1 :]], whole.events, where, replay=replay
                )
