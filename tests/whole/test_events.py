"""Events: each listener hears every change once, in order, after the index holds it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import pytest

from domindex.domain import Domain, OSType, ShutdownReason
from domindex.errors import NoSuchDomain
from domindex.events import Added, Changed, Event, Removed, Renamed, ShutDown
from domindex.index import Index
from domindex.opening import connect
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, LIMIT, Ear, Meddler, eventually

U, V = UUID(int=1), UUID(int=2)


@pytest.fixture
def meddler(host: SimulatedHost) -> Meddler:
    """The host, with a way to step in between two of the index's calls."""
    return Meddler(host)


@pytest.fixture
def index(meddler: Meddler) -> Iterator[Index]:
    """An index that follows the host and does nothing by itself."""
    with connect(meddler, timing=CALM) as opened:
        yield opened


@pytest.fixture
def ear(index: Index) -> Ear:
    """A listener that has heard of dom0, and of what the test made before it asked for this."""
    index.refresh()
    ear = Ear(index)
    index.subscribe(ear)
    ear.until(lambda: len(ear.events) == len(index))
    ear.events.clear()
    return ear


def in_one_step(meddler: Meddler, index: Index, what: object) -> None:
    """Let `what()` happen while the watcher looks away, and be seen by it as a whole."""
    assert callable(what)
    meddler.meddle["barrier"] = what
    index.refresh()
    assert not meddler.meddle


def happening(moment: str, index: Index) -> str:
    """That moment of a birth; no watch is set where one stands for all names."""
    return "read" if moment == "watch" and index.capabilities.one_watch else moment


# -- the beginning ---------------------------------------------------------------------------


def test_a_late_listener_first_hears_of_all_that_are_there(
    host: SimulatedHost, index: Index
) -> None:
    """P8: in domid order, with the state they are in, then what happens from then on."""
    for domid in (5, 2, 9):
        host.create(f"vm-{domid}", domid=domid)
    host.crash(5)
    index.refresh()
    ear = Ear(index)
    index.subscribe(ear)
    present = [Added(domain) for domain in index]
    ear.hear(*present)
    assert [event.domain.domid for event in present] == [0, 2, 5, 9]
    assert present[2].domain.shutdown is ShutdownReason.CRASH
    gone = index.by_id(2)
    host.destroy(2, order="at once")
    ear.hear(Removed(gone), since=4)


def test_events_carry_the_generation_and_the_time(
    host: SimulatedHost, index: Index, ear: Ear
) -> None:
    """Of the index that brought them."""
    host.create("web")
    ear.until(lambda: ear.events)
    assert ear.events[0].generation == index.generation
    assert ear.events[0].time == pytest.approx(time.time(), abs=60)


def test_the_index_holds_what_an_event_tells_when_it_is_told(
    host: SimulatedHost, index: Index
) -> None:
    """P8: a handler that looks up what it heard finds it, or something newer."""
    seen: list[str | None] = []
    done = threading.Event()

    def look(event: Event) -> None:
        if isinstance(event, Added) and event.domain.name == "web":
            seen.append(index.by_id(event.domain.domid).name)
        elif isinstance(event, Removed):
            with pytest.raises(NoSuchDomain):
                index.by_id(event.domain.domid)
            done.set()

    index.subscribe(look)
    web = host.create("web")
    eventually(lambda: seen)
    host.destroy(web)
    assert done.wait(LIMIT)
    assert seen == ["web"]
    assert index.stats.listener_errors == 0


# -- one life --------------------------------------------------------------------------------


def test_a_life_is_told_from_its_beginning_to_its_end(
    host: SimulatedHost, index: Index, ear: Ear
) -> None:
    """P8: each event starts where the last ended. Ear holds every other test here to that."""
    domid = host.create("web", uuid=U, type="pvh")
    index.refresh()
    web = index.by_id(domid)
    host.rename(domid, "www")
    index.refresh()
    www = replace(web, name="www")
    host.shutdown(domid, ShutdownReason.POWEROFF)
    index.refresh()
    down = replace(www, shutdown=ShutdownReason.POWEROFF)
    host.destroy(domid)
    ear.hear(
        Added(web),
        Renamed(web, www),
        ShutDown(down, ShutdownReason.POWEROFF),
        Renamed(down, replace(down, name=None)),  # libxl removes the nodes first
        Removed(down, ShutdownReason.POWEROFF),
    )
    assert (web.domid, web.uuid, web.name, web.type) == (domid, U, "web", OSType.PVH)


@pytest.mark.parametrize("reason", [r for r in ShutdownReason if r is not ShutdownReason.UNKNOWN])
def test_a_shutdown_says_why(
    host: SimulatedHost, index: Index, ear: Ear, reason: ShutdownReason
) -> None:
    """And the removal that follows says it again."""
    domid = host.create("web")
    index.refresh()
    host.shutdown(domid, reason)
    index.refresh()
    down = index.by_id(domid)
    assert down.shutdown is reason
    host.destroy(domid, order="at once")
    ear.hear(ShutDown(down, reason), Removed(down, reason), since=1)


def test_a_domain_destroyed_while_it_ran_has_no_reason(
    host: SimulatedHost, index: Index, ear: Ear
) -> None:
    """None was seen, so none is told."""
    domid = host.create("web")
    index.refresh()
    web = index.by_id(domid)
    host.destroy(domid, order="at once")
    ear.hear(Added(web), Removed(web, None))


def test_a_resume_is_told_as_a_change(host: SimulatedHost, index: Index, ear: Ear) -> None:
    """A failed migration: suspended, then running again, then ending with another reason."""
    domid = host.create("web")
    index.refresh()
    host.shutdown(domid, ShutdownReason.SUSPEND)
    index.refresh()
    asleep = index.by_id(domid)
    host.resume(domid)
    index.refresh()
    awake = replace(asleep, shutdown=None)
    host.crash(domid)
    crashed = replace(asleep, shutdown=ShutdownReason.CRASH)
    ear.hear(
        ShutDown(asleep, ShutdownReason.SUSPEND),
        Changed(asleep, awake, ("shutdown",)),
        ShutDown(crashed, ShutdownReason.CRASH),
        since=1,
    )


def test_several_changes_seen_at_once_are_told_one_by_one(
    host: SimulatedHost, meddler: Meddler, index: Index, ear: Ear
) -> None:
    """P8: merged on the way, they still form a chain."""
    domid = host.create("web")
    index.refresh()
    web = index.by_id(domid)

    def happen() -> None:
        host.crash(domid)
        host.rename(domid, "www")

    in_one_step(meddler, index, happen)
    ear.until(lambda: len(ear.events) == 3)
    assert {type(event) for event in ear.events[1:]} == {Renamed, ShutDown}
    assert index.by_id(domid) == replace(web, name="www", shutdown=ShutdownReason.CRASH)
    ear.believes(index)


def test_introduced_before_named_is_added_then_renamed(
    host: SimulatedHost, index: Index, ear: Ear
) -> None:
    """XenD's order: the domain is there first and has a name later."""
    domid = host.create(None)
    index.refresh()
    nameless = index.by_id(domid)
    assert nameless.name is None
    host.rename(domid, "web")
    ear.hear(Added(nameless), Renamed(nameless, replace(nameless, name="web")))


def test_named_before_introduced_is_added_with_its_name(
    host: SimulatedHost, index: Index, ear: Ear
) -> None:
    """libxl's order; nothing is told before the introduction."""
    domid = host.create("web", introduce=False)
    assert ear.events == []
    host.introduce(domid)
    ear.until(lambda: ear.events)
    ear.hear(Added(index.by_name("web")))


def test_a_name_taken_away_is_a_rename_to_none(host: SimulatedHost, index: Index, ear: Ear) -> None:
    """libxl removes the nodes first: the domain runs without a name, and ends under its last."""
    domid = host.create("web")
    index.refresh()
    web = index.by_id(domid)
    bare = replace(web, name=None)
    host.destroy(domid)
    ear.hear(Added(web), Renamed(web, bare), Removed(web))


# -- ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["at once", "xapi"])
def test_an_end_is_one_removal_in_either_order(
    host: SimulatedHost, index: Index, ear: Ear, order: str
) -> None:
    """Nodes removed before the domain, or left behind."""
    domid = host.create("web")
    index.refresh()
    web = index.by_id(domid)
    host.destroy(domid, order=order)
    index.refresh()
    ear.hear(Added(web), Removed(web))
    with pytest.raises(NoSuchDomain):
        index.by_name("web")


@pytest.mark.parametrize("order", ["at once", "xapi"])
def test_a_zombie_is_gone_and_its_release_tells_nothing(
    host: SimulatedHost, index: Index, ear: Ear, order: str
) -> None:
    """Then its domid comes back, and is a domain that was added."""
    domid = host.create("web")
    index.refresh()
    web = index.by_id(domid)
    release = host.zombie(domid, order=order)
    index.refresh()
    assert len(index) == 1
    release()
    index.refresh()
    ear.hear(Added(web), Removed(web))
    host.create("db", domid=domid)
    index.refresh()
    ear.hear(Added(index.by_name("db")), since=2)


def test_a_node_left_behind_is_no_domain(host: SimulatedHost, index: Index, ear: Ear) -> None:
    """The hypervisor's list alone says what exists."""
    host.leave_node(9, "ghost")
    index.refresh(names=True)
    with pytest.raises(NoSuchDomain):
        index.by_name("ghost")
    domid = host.create("web")
    index.refresh()
    host.destroy(domid, order="xapi")
    assert host.name(domid) == b"web"
    host.leave_node(domid, "still here")
    index.refresh(names=True)
    assert len(index) == 1
    ear.until(lambda: ear.count(Added) == ear.count(Removed) == 1)


def test_a_reboot_is_an_end_and_a_beginning(host: SimulatedHost, index: Index, ear: Ear) -> None:
    """Under another domid, with name and uuid kept."""
    first = host.create("web", uuid=U)
    index.refresh()
    old = index.by_id(first)
    second = host.reboot(first, order="at once")
    index.refresh()
    new = index.by_id(second)
    assert (new.name, new.uuid) == (old.name, old.uuid)
    assert new.life != old.life
    ear.hear(Added(old), Removed(old), Added(new))


# -- reuse -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["web", "db", None], ids=["same name", "other name", "no name"])
def test_a_domid_reused_at_once_with_another_uuid(
    host: SimulatedHost, meddler: Meddler, index: Index, ear: Ear, name: str | None
) -> None:
    """P3: Removed, then Added, in one generation; never a change, never a rename."""
    host.create("web", uuid=U, domid=7)
    index.refresh()
    old = index.by_id(7)

    def reuse() -> None:
        host.destroy(7)
        host.create(name, uuid=V, domid=7)

    in_one_step(meddler, index, reuse)
    new = index.by_id(7)
    assert (new.name, new.uuid) == (name, V)
    assert new.life != old.life
    ear.hear(Added(old), Removed(old), Added(new))
    assert ear.events[1].generation == ear.events[2].generation == index.generation


@pytest.mark.parametrize("type_", ["pv", "pvh"])
@pytest.mark.parametrize("order", ["libxl", "xapi"])
def test_a_domid_reused_at_once_with_the_same_uuid_and_name(
    host: SimulatedHost, meddler: Meddler, index: Index, ear: Ear, type_: str, order: str
) -> None:
    """P3: nothing but the id, the shared page or the cpu time tells the lives apart."""
    host.create("web", uuid=U, type=type_, domid=7)
    host.spend(7, 1_000_000_000)
    index.refresh()
    old = index.by_id(7)

    def reuse() -> None:
        host.destroy(7, order=order)
        host.create("web", uuid=U, type=type_, domid=7)

    in_one_step(meddler, index, reuse)
    new = index.by_id(7)
    assert new.life != old.life
    ear.hear(Added(old), Removed(old), Added(new))
    assert ear.events[1].generation == ear.events[2].generation


def test_a_name_read_and_then_its_life_gone_is_not_believed(
    host: SimulatedHost, meddler: Meddler, index: Index, ear: Ear
) -> None:
    """P1: the domain ends between the read of its name and the list that would confirm it."""
    meddler.meddle["read"] = lambda: host.destroy(7)
    host.create("web", domid=7)
    eventually(lambda: not meddler.meddle)
    index.refresh()
    assert len(index) == 1
    assert ear.events == []


@pytest.mark.parametrize("moment", ["before read", "read", "look", "before look", "watch"])
def test_a_life_replaced_at_any_moment_never_lends_its_name(
    host: SimulatedHost, meddler: Meddler, index: Index, ear: Ear, moment: str
) -> None:
    """P1: whenever in a pass the domid changes hands, name and uuid stay of one life."""
    truth = {(U, "one"), (V, "two")}

    def reuse() -> None:
        host.destroy(7)
        host.create("two", uuid=V, domid=7)

    meddler.meddle[happening(moment, index)] = reuse
    host.create("one", uuid=U, domid=7)
    eventually(lambda: not meddler.meddle)
    index.refresh()
    assert (index.by_id(7).uuid, index.by_id(7).name) == (V, "two")
    ear.believes(index)
    for event in ear.events:
        for domain in (getattr(event, field, None) for field in ("domain", "old", "new")):
            assert not isinstance(domain, Domain) or (domain.uuid, domain.name) in truth


@pytest.mark.parametrize("moment", ["read", "look", "watch"])
def test_renamed_before_it_is_watched(
    host: SimulatedHost, meddler: Meddler, index: Index, ear: Ear, moment: str
) -> None:
    """P2: a newborn is told of before its watch is set. No event tells of what happens between."""
    meddler.meddle[happening(moment, index)] = lambda: host.rename(7, "web")
    host.create("draft", uuid=U, domid=7)
    ear.until(lambda: index.names.get("web"))
    first, *_ = (event for event in ear.events if isinstance(event, Added))
    assert first.domain.name in ("draft", "web")
    ear.believes(index)


# -- names and handles -----------------------------------------------------------------------


@pytest.mark.parametrize("times", range(5, 12))
def test_a_name_that_changes_as_fast_as_it_is_read_is_right_in_the_end(
    host: SimulatedHost, meddler: Meddler, index: Index, ear: Ear, times: int
) -> None:
    """P2: a pass gives up after some rounds; what it left is taken up without another event."""
    host.create("web", domid=7)
    index.refresh()
    left, last = iter(range(times)), f"web-{times - 1}"

    def again() -> None:
        if (n := next(left, None)) is not None:
            meddler.meddle["read"] = again
            host.rename(7, f"web-{n}")

    meddler.meddle["read"] = again
    host.rename(7, "changing")
    ear.until(
        lambda: [
            event for event in ear.events if isinstance(event, Renamed) and event.new.name == last
        ]
    )
    assert index.by_id(7).name == last


def test_a_swap_of_names_is_two_renames(
    host: SimulatedHost, meddler: Meddler, index: Index, ear: Ear
) -> None:
    """Seen whole, it is one generation, and neither name was ever ambiguous."""
    a, b = host.create("a"), host.create("b")
    index.refresh()
    one, two = index.by_id(a), index.by_id(b)

    def swap() -> None:
        host.rename(a, "b")
        host.rename(b, "a")

    in_one_step(meddler, index, swap)
    assert (index.by_name("a").domid, index.by_name("b").domid) == (b, a)
    ear.hear(Renamed(one, replace(one, name="b")), Renamed(two, replace(two, name="a")), since=2)
    assert ear.events[2].generation == ear.events[3].generation


def test_a_new_handle_on_a_live_domain(host: SimulatedHost, index: Index, ear: Ear) -> None:
    """P3: XAPI gives a running domain another uuid: a change of the same life."""
    domid = host.create("web", uuid=U)
    index.refresh()
    old = index.by_id(domid)
    host.change_handle(domid, V)
    index.refresh()
    new = index.by_id(domid)
    assert (new.uuid, new.name) == (V, "web")
    assert index.by_uuid(V) is new
    assert index.all_by_uuid(U) == ()
    ear.hear(Changed(old, new, ("uuid",)), since=1)


# -- listeners -------------------------------------------------------------------------------


def test_all_listeners_hear_the_same_in_the_same_order(host: SimulatedHost, index: Index) -> None:
    """P8: whatever else goes on."""
    ears = [Ear(index) for _ in range(4)]
    for ear in ears:
        index.subscribe(ear)
    for round_ in range(10):
        domids = [host.create(f"vm-{round_}-{n}") for n in range(4)]
        host.rename(domids[0], "renamed")
        host.crash(domids[1])
        for domid in domids:
            host.destroy(domid)
    index.refresh()
    for ear in ears:
        ear.believes(index)
        ear.until(lambda ear=ear: ear.count(Added) == ear.count(Removed) + 1)  # type: ignore[misc]
    eventually(lambda: index.stats.pending == 0)
    assert all(ear.events == ears[0].events for ear in ears)


def test_a_stuck_listener_holds_up_neither_the_index_nor_the_others(
    host: SimulatedHost, index: Index, ear: Ear
) -> None:
    """P8, P10: the line is read on, look-ups and refresh go on."""
    go, began = threading.Event(), threading.Event()

    def stuck(_: Event) -> None:
        began.set()
        assert go.wait(LIMIT)

    subscription = index.subscribe(stuck)
    assert began.wait(LIMIT)
    for n in range(20):
        host.create(f"vm-{n}")
    index.refresh()
    assert len(index) == 21
    ear.believes(index)
    assert subscription.pending >= 20
    assert index.stats.pending >= 20
    go.set()
    eventually(lambda: subscription.pending == 0)


def test_a_listener_that_raises_hears_the_next_event(
    host: SimulatedHost, index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted and logged; the index is none the worse."""
    heard: list[Event] = []

    def bad(event: Event) -> None:
        heard.append(event)
        raise ZeroDivisionError("on purpose")

    with caplog.at_level(logging.CRITICAL):
        index.subscribe(bad, events=(Added,))
        host.create("web")
        index.refresh()
        eventually(lambda: index.stats.listener_errors == 2)
    assert heard == [Added(domain) for domain in index]


def test_a_closed_listener_hears_nothing_more(host: SimulatedHost, index: Index) -> None:
    """And is no longer counted."""
    ear = Ear(index)
    with index.subscribe(ear):
        ear.until(lambda: ear.events)
    host.create("web")
    index.refresh()
    assert len(ear.events) == 1
    assert len(index.stats.listeners) == 0
