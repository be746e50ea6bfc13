"""Reboots: a death and a birth of one guest told as one, and nothing else told otherwise."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domindex.domain import Domain, ShutdownReason
from domindex.events import Added, Event, Lost, Rebooted, Removed, Renamed
from domindex.listening.reboots import Reboots
from tests.core.lives import life

GRACE = 2.0


@dataclass
class Listener:
    """Hands events to `Reboots` and keeps what comes out."""

    reboots: Reboots

    def hear(self, *events: Event, now: float = 0.0) -> list[Event]:
        """What is told in place of these."""
        return [told for event in events for told in self.reboots.pass_on(event, now)]

    def rest(self, now: float) -> list[Event]:
        """What is told because its time is up."""
        return list(self.reboots.expired(now))


@pytest.fixture
def listener() -> Listener:
    return Listener(Reboots(GRACE))


def gone(domain: Domain, reason: ShutdownReason | None = None) -> Removed:
    return Removed(replace(domain, shutdown=reason), reason)


def test_a_death_and_a_birth_with_one_uuid_are_a_reboot(listener: Listener) -> None:
    """Whatever the domid and the name are then; generation and time are those of the birth."""
    old, new = life(1, "web", uuid=7), life(2, "www", uuid=7, number=1)
    assert listener.hear(gone(old)) == []
    (told,) = listener.hear(Added(new, generation=5, time=9.0), now=1.0)
    assert told == Rebooted(old, new)
    assert (told.generation, told.time) == (5, 9.0)
    assert listener.reboots.due is None
    assert listener.rest(100.0) == []


def test_the_name_tells_where_no_uuid_does(listener: Listener) -> None:
    """A toolstack that makes a new uuid for each life keeps at least the name."""
    old, new = life(1, "web"), life(2, "web", number=1)
    listener.hear(gone(old))
    assert listener.hear(Added(new)) == [Rebooted(old, new)]


def test_the_uuid_goes_before_the_name(listener: Listener) -> None:
    """Of two deaths that may be meant, the one with the uuid is; the other stays held."""
    namesake, same = life(1, "web"), life(2, "other", uuid=7)
    new = life(3, "web", uuid=7, number=1)
    listener.hear(gone(namesake), gone(same))
    assert listener.hear(Added(new)) == [Rebooted(same, new)]
    assert listener.rest(GRACE) == [gone(namesake)]


def test_the_nil_uuid_is_nobody_s(listener: Listener) -> None:
    """Domains made by hand have it all: it says nothing of who is who."""
    listener.hear(gone(life(1, "a", uuid=0)))
    stranger = life(2, "b", uuid=0, number=1)
    assert listener.hear(Added(stranger)) == [Added(stranger)]


@pytest.mark.parametrize("name", [None, ""])
def test_no_name_is_no_likeness(listener: Listener, name: str | None) -> None:
    """Two domains without a name have nothing in common."""
    listener.hear(gone(life(1, name)))
    stranger = life(2, name, number=1)
    assert listener.hear(Added(stranger)) == [Added(stranger)]


@pytest.mark.parametrize("reason", [None, *ShutdownReason])
def test_only_a_death_that_may_be_half_of_a_reboot_is_held_back(
    listener: Listener, reason: ShutdownReason | None
) -> None:
    """REBOOT, WATCHDOG, or not known. Any other is told at once, and no birth belongs to it."""
    old, new = life(1, "web", uuid=7), life(2, "web", uuid=7, number=1)
    ended = gone(old, reason)
    watchdog, reboot = ShutdownReason.WATCHDOG, ShutdownReason.REBOOT
    may_be = reason in (None, reboot, watchdog, ShutdownReason.UNKNOWN)
    assert listener.hear(ended) == ([] if may_be else [ended])
    told = listener.hear(Added(new))
    assert told == ([Rebooted(ended.domain, new)] if may_be else [Added(new)])


def test_one_death_is_good_for_one_birth(listener: Listener) -> None:
    """The second with the same uuid, as in a local migration, is a birth."""
    first, second = life(2, "web", uuid=7, number=1), life(3, "web", uuid=7, number=2)
    old = life(1, "web", uuid=7)
    listener.hear(gone(old))
    assert listener.hear(Added(first), Added(second)) == [Rebooted(old, first), Added(second)]


def test_a_stranger_on_the_domid_lets_the_death_go_first(listener: Listener) -> None:
    """P3: Removed, then Added."""
    old, stranger = life(1, "web"), life(1, "db", number=1)
    listener.hear(gone(old))
    assert listener.hear(Added(stranger)) == [gone(old), Added(stranger)]
    assert listener.rest(100.0) == []


def test_a_reboot_onto_the_domid_of_another_death_tells_that_one_first(
    listener: Listener,
) -> None:
    """P3: two guests reboot, and the first to come back gets the domid of the other. Told
    later, that death would take the new life with it."""
    web, db = life(1, "web", uuid=7), life(2, "db", uuid=8)
    listener.hear(gone(web), gone(db))
    new_web, new_db = life(2, "web", uuid=7, number=1), life(1, "db", uuid=8, number=1)
    assert listener.hear(Added(new_web)) == [gone(db), Rebooted(web, new_web)]
    assert listener.hear(Added(new_db)) == [Added(new_db)]
    assert listener.rest(100.0) == []


def test_others_go_on_while_a_death_is_held_back(listener: Listener) -> None:
    """Events of other domains and of the line pass as they are."""
    listener.hear(gone(life(1, "web")))
    others: list[Event] = [
        Added(life(2, "db")),
        Renamed(life(2, "db"), life(2, "db2")),
        Lost(OSError()),
    ]
    assert listener.hear(*others) == others


def test_deaths_that_nobody_came_back_from_are_told_in_time_and_in_order(
    listener: Listener,
) -> None:
    """`due` says when; not before, and each once."""
    one, two = gone(life(1, "a")), gone(life(2, "b"))
    listener.hear(one, now=10.0)
    listener.hear(two, now=11.0)
    assert listener.reboots.due == 10.0 + GRACE
    assert listener.rest(11.99) == []
    assert listener.rest(12.0) == [one]
    assert listener.reboots.due == 11.0 + GRACE
    assert listener.rest(50.0) == [two]
    assert listener.reboots.due is None
    assert listener.rest(50.0) == []


def test_a_listener_that_begins_anew_is_told_of_no_old_death(listener: Listener) -> None:
    """After a Resync: it has forgotten whom they were of."""
    listener.hear(gone(life(1, "web", uuid=7)))
    listener.reboots.forget()
    assert listener.reboots.due is None
    assert listener.rest(100.0) == []
    new = life(2, "web", uuid=7, number=1)
    assert listener.hear(Added(new)) == [Added(new)]


# -- any history -----------------------------------------------------------------------------

domids = st.integers(1, 3)
ends = st.sampled_from([None, ShutdownReason.REBOOT, ShutdownReason.POWEROFF])
steps = st.lists(st.tuples(domids, st.sampled_from(["", "a", "b"]), st.integers(0, 3), ends))


def history(wanted: list[tuple[int, str, int, ShutdownReason | None]]) -> list[Event]:
    """Each step ends what is at its domid, else a guest comes there."""
    held: dict[int, Domain] = {}
    events: list[Event] = []
    for number, (domid, name, uuid, reason) in enumerate(wanted):
        if (old := held.pop(domid, None)) is not None:
            events.append(gone(old, reason))
        else:
            held[domid] = life(domid, name, uuid=uuid, number=number)
            events.append(Added(held[domid]))
    return events


@given(steps, st.lists(st.integers(0, 4)))
def test_whatever_happens_a_listener_believes_what_is_so(
    wanted: list[tuple[int, str, int, ShutdownReason | None]], waits: list[int]
) -> None:
    """P3, P8: taking each event at its word one knows who runs, once nothing is held back; and
    a Rebooted always joins one guest's lives."""
    listener, now = Listener(Reboots(GRACE)), 0.0
    believed: dict[int, Domain] = {}

    def believe(told: list[Event]) -> None:
        for event in told:
            match event:
                case Added(domain):
                    assert domain.domid not in believed
                    believed[domain.domid] = domain
                case Removed(domain):
                    assert believed.pop(domain.domid).life == domain.life
                case Rebooted(old, new):
                    assert (old.uuid == new.uuid and old.uuid.int) or old.name == new.name
                    assert believed.pop(old.domid).life == old.life
                    assert new.domid not in believed
                    believed[new.domid] = new

    events = history(wanted)
    truth = Counter[Event](events)
    for number, event in enumerate(events):
        now += waits[number] if number < len(waits) else 0
        believe(listener.rest(now))
        believe(listener.hear(event, now=now))
    believe(listener.rest(now + GRACE))
    left = {e.domain for e in truth if isinstance(e, Added)}
    left -= {d for d in left for e in truth if isinstance(e, Removed) and e.domain.life == d.life}
    assert set(believed.values()) == left


@given(steps)
def test_without_a_reboot_the_very_same_events_are_told(
    wanted: list[tuple[int, str, int, ShutdownReason | None]],
) -> None:
    """Late, some of them, but none is lost, made up or told twice. Each guest here has a name
    and a uuid that no other ever has."""
    unlike = [
        (domid, f"{number}", 10 + number, r) for number, (domid, _, _, r) in enumerate(wanted)
    ]
    listener, events = Listener(Reboots(GRACE)), history(unlike)
    told = listener.hear(*events) + listener.rest(GRACE)
    assert Counter(told) == Counter(events)
