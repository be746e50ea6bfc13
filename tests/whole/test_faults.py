"""What goes wrong: it is noticed, told once, made good, and leaves nothing behind."""

from __future__ import annotations

import errno
import logging
import math
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import pairwise

import pytest

from domindex import forking
from domindex.errors import (
    AccessDenied,
    Closed,
    HypercallFailed,
    NotLive,
    StoreError,
    StoreLost,
    TimedOut,
)
from domindex.events import Added, Lost, Recovered, Removed, Renamed
from domindex.index import Index
from domindex.opening import connect
from domindex.options import Timing
from domindex.ports import Store
from domindex.testing import QUICK, SimulatedHost
from tests.whole.helpers import CALM, LIMIT, SHARP, Ear, Meddler, eventually, our_threads, told


def count_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def lost_and_recovered(ear: Ear) -> None:
    """Wait until the line was lost and is back, and each was told once."""
    ear.until(lambda: ear.count(Recovered))
    assert ear.count(Lost) == ear.count(Recovered) == 1


@pytest.fixture
def sharp(host: SimulatedHost) -> Iterator[Index]:
    """An index that notices everything at once. The host has four guests."""
    for name in ("a", "b", "c", "d"):
        host.create(name)
    with host.connect(timing=SHARP) as opened:
        yield opened


@pytest.fixture
def ear(sharp: Index) -> Ear:
    """A listener that has heard of the five that are there."""
    ear = Ear(sharp)
    sharp.subscribe(ear)
    ear.until(lambda: len(ear.events) == 5)
    ear.events.clear()
    return ear


# -- lines -----------------------------------------------------------------------------------


def restart(host: SimulatedHost) -> None:
    host.stop_xenstored()
    host.start_xenstored()


BREAKS: list[Callable[[SimulatedHost], None]] = [
    SimulatedHost.cut_line,
    SimulatedHost.deafen_line,
    restart,
]


@pytest.mark.parametrize("break_", BREAKS)
def test_a_broken_line_is_told_once_and_repaired(
    host: SimulatedHost, sharp: Index, ear: Ear, break_: Callable[[SimulatedHost], None]
) -> None:
    """P9: Lost, Recovered, once each, and nothing of the domains, which are as they were."""
    before = told(sharp)
    generation = sharp.generation
    break_(host)
    lost_and_recovered(ear)
    assert [type(event) for event in ear.events] == [Lost, Recovered]
    lost, recovered = ear.events
    assert isinstance(lost, Lost)
    assert isinstance(lost.cause, StoreLost)
    assert isinstance(recovered, Recovered)
    assert 0 < recovered.downtime < LIMIT
    assert (told(sharp), sharp.generation) == (before, generation)
    assert sharp.live
    assert sharp.stats.reconnects == 1
    host.create("e")  # it hears again
    ear.until(lambda: ear.count(Added))


def test_a_deaf_line_is_noticed_within_the_stated_time(host: SimulatedHost) -> None:
    """P9: probe + request, though nothing at all happens on the host."""
    with host.connect(timing=replace(CALM, probe=0.02, request=0.05)) as index:
        ear = Ear(index)
        index.subscribe(ear)
        began = time.monotonic()
        host.deafen_line()
        ear.until(lambda: ear.count(Lost))
        assert time.monotonic() - began < 0.07 + 1.0  # the second is for a busy machine
        lost_and_recovered(ear)


def test_what_happened_meanwhile_is_told_before_recovered(
    host: SimulatedHost, sharp: Index, ear: Ear
) -> None:
    """P9: exactly the difference, removals marked as inferred, then Recovered, nothing twice."""
    a, b, c = (sharp.by_name(name) for name in "abc")
    host.stop_xenstored()
    ear.until(lambda: ear.count(Lost))
    host.destroy(a.domid)
    host.rename(b.domid, "bb")
    came = host.create("e")
    went = host.create("f")
    host.destroy(went)
    host.rename(c.domid, "x")
    host.rename(c.domid, "c")
    assert [domain.name for domain in sharp] == ["Domain-0", "a", "b", "c", "d"]  # P4
    host.start_xenstored()
    lost_and_recovered(ear)
    between = ear.events[1:-1]
    assert len(between) == 3
    assert set(between) == {
        Removed(a, inferred=True),
        Renamed(b, replace(b, name="bb")),
        Added(sharp.by_id(came)),
    }
    assert isinstance(ear.events[0], Lost)
    assert isinstance(ear.events[-1], Recovered)
    ear.believes(sharp)


def test_a_domid_reused_while_the_line_was_down_is_removed_then_added(
    host: SimulatedHost, sharp: Index, ear: Ear
) -> None:
    """P3: also over a gap."""
    a = sharp.by_name("a")
    host.stop_xenstored()
    ear.until(lambda: ear.count(Lost))
    host.destroy(a.domid)
    host.create("a", domid=a.domid)
    host.start_xenstored()
    lost_and_recovered(ear)
    new = sharp.by_name("a")
    assert new.life != a.life
    assert ear.events[1:-1] == [Removed(a, inferred=True), Added(new)]


def test_a_line_that_is_lost_again_and_again_is_lost_once(
    host: SimulatedHost, sharp: Index, ear: Ear
) -> None:
    """P9: failed attempts are not told; there is no Recovered in between."""
    host.refuse_hypercalls()  # every new line breaks in its first pass
    host.cut_line()
    ear.until(lambda: ear.count(Lost))
    requests = host.hypercalls
    eventually(lambda: host.hypercalls > requests + 4)
    assert (ear.count(Lost), ear.count(Recovered)) == (1, 0)
    host.refuse_hypercalls(False)
    lost_and_recovered(ear)


def test_a_listener_that_comes_while_the_line_is_down_is_told_so(
    host: SimulatedHost, sharp: Index
) -> None:
    """P8: the present set, then Lost, then the difference and Recovered."""
    host.stop_xenstored()
    eventually(lambda: not sharp.live)
    ear = Ear(sharp)
    sharp.subscribe(ear)
    ear.until(lambda: len(ear.events) == 6)
    assert [type(event) for event in ear.events] == [Added] * 5 + [Lost]
    host.start_xenstored()
    lost_and_recovered(ear)


def test_a_listener_that_comes_as_the_line_is_lost_hears_lost_once(
    host: SimulatedHost, sharp: Index
) -> None:
    """P9: told once. The log line stands between the two steps, so a log handler fits there."""
    ear = Ear(sharp)

    class Subscribes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logging.getLogger("domindex").removeHandler(self)
            sharp.subscribe(ear)

    logging.getLogger("domindex").addHandler(Subscribes())
    host.cut_line()
    lost_and_recovered(ear)


def test_a_listener_that_comes_as_the_line_is_back_hears_no_stray_recovered(
    host: SimulatedHost, sharp: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P9: Recovered belongs to a Lost. The host recovers just as somebody subscribes."""
    ear = Ear(sharp)
    up = sharp._picture.up

    def subscribe_first() -> None:
        sharp.subscribe(ear)
        up()

    monkeypatch.setattr(sharp._picture, "up", subscribe_first)
    host.cut_line()
    ear.until(lambda: len(ear.events) >= 5)
    eventually(lambda: sharp.stats.pending == 0)
    ear.until(lambda: ear.count(Lost) == ear.count(Recovered), timeout=0.5)


def test_attempts_back_off_with_jitter() -> None:
    """P9: the pause doubles up to the longest and is never shorter than half of that."""
    meddler = Meddler(SimulatedHost())
    timing = replace(CALM, retry=0.004, retry_most=0.032)
    with connect(meddler, timing=timing) as index:
        # From before the loss: between two attempts a thread that was held up finds too little.
        least = time.monotonic()
        meddler.host.stop_xenstored()
        eventually(lambda: len(meddler.opened) > 8)
        assert not index.live
        opened = meddler.opened[1:9]  # the first was before the loss
        for n, attempt in enumerate(opened):
            assert attempt >= least
            least += 0.5 * min(timing.retry * 2 ** (n + 1), timing.retry_most)
        pauses = [later - earlier for earlier, later in pairwise(opened)]
        assert len(set(pauses[3:])) > 1
    opened_by_then = len(meddler.opened)
    assert opened_by_then < 100


def test_back_off_begins_anew_after_a_calm_time() -> None:
    """One loss a day is repaired at once, each day."""
    meddler = Meddler(SimulatedHost())
    timing = replace(CALM, retry=0.001, retry_most=0.02)
    with connect(meddler, timing=timing) as index:
        meddler.host.stop_xenstored()
        eventually(lambda: len(meddler.opened) > 10)
        meddler.host.start_xenstored()
        eventually(lambda: index.live)
        calm_since = time.monotonic()
        eventually(lambda: time.monotonic() > calm_since + 2.5 * timing.retry_most)
        lost = time.monotonic()
        meddler.host.cut_line()
        eventually(lambda: meddler.opened[-1] > lost)
        eventually(lambda: index.live)
        assert index.stats.reconnects == 2


# -- lists -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how_often", [1, 2, 3, 5])
def test_half_a_list_removes_nobody(
    host: SimulatedHost, sharp: Index, ear: Ear, how_often: int
) -> None:
    """P4: what it lacks is still there, so it was not whole; asked again, or the line begun
    anew, and in no case is anybody told to be gone."""
    before = told(sharp)
    host.halve_lists(how_often)
    sharp.refresh()
    sharp.refresh()
    assert told(sharp) == before
    assert ear.count(Removed) == ear.count(Added) == 0
    ear.until(lambda: ear.count(Lost) == ear.count(Recovered) >= (2 <= how_often <= 3))
    assert all(isinstance(e.cause, HypercallFailed) for e in ear.events if isinstance(e, Lost))
    assert ear.count(Lost) == (how_often > 1) or how_often > 3


def test_half_a_list_at_the_beginning_hides_nobody(host: SimulatedHost) -> None:
    """P2: the first look is taken twice, before names are believed."""
    for n in range(6):
        host.create(f"vm-{n}")
    host.halve_lists(1)
    with host.connect(timing=CALM) as index:
        assert len(index) == 7


def test_a_domain_that_half_a_list_hid_is_found_by_the_next(host: SimulatedHost) -> None:
    """P2: nothing can show that a newcomer is missing; the audit or a refresh finds it."""
    host.create("a")
    with host.connect(timing=CALM) as index:
        host.halve_lists(1)
        host.create("b")
        index.refresh()
        index.refresh()
        assert index.by_name("b")
    with host.connect(timing=QUICK) as index:
        host.halve_lists(1)
        host.create("c")
        eventually(lambda: "c" in index.names)


def test_refused_hypercalls_leave_the_picture_as_it_was(
    host: SimulatedHost, sharp: Index, ear: Ear
) -> None:
    """P4: an error removes nobody; it makes the index not live, and is made good."""
    before = told(sharp)
    host.refuse_hypercalls()
    host.destroy(sharp.by_name("a").domid)
    host.create("e")
    ear.until(lambda: ear.count(Lost))
    assert isinstance(ear.events[0], Lost)
    assert isinstance(ear.events[0].cause, HypercallFailed)
    assert told(sharp) == before
    with pytest.raises(NotLive):
        sharp.by_name("e")
    host.refuse_hypercalls(False)
    lost_and_recovered(ear)
    assert {domain.name for domain in sharp} == {"Domain-0", "b", "c", "d", "e"}
    ear.believes(sharp)


# -- events ----------------------------------------------------------------------------------


def test_lost_events_are_made_good_by_a_refresh(host: SimulatedHost) -> None:
    """P2, P6: a birth, an end and a crash that nobody was told of."""
    a, b = host.create("a"), host.create("b")
    with host.connect(timing=CALM) as index:
        host.lose_events(100)
        host.create("c")
        host.destroy(a)
        host.crash(b)
        index.refresh()
        assert {d.name: d.shutdown is None for d in index} == {
            "Domain-0": True,
            "b": False,
            "c": True,
        }


def test_a_lost_name_event_is_made_good_by_a_refresh_of_names(host: SimulatedHost) -> None:
    """P2: the plain refresh reads only what an event spoke of; this one reads all."""
    a = host.create("a")
    with host.connect(timing=CALM) as index:
        host.lose_events(1)
        host.rename(a, "b")
        index.refresh()
        assert index.by_id(a).name == "a"
        index.refresh(names=True)
        assert index.by_id(a).name == "b"


def test_the_audit_makes_good_what_no_event_told_of(
    host: SimulatedHost, caplog: pytest.LogCaptureFixture
) -> None:
    """P2: by itself, counted as drift, and said in the log."""
    a = host.create("a")
    with caplog.at_level(logging.WARNING), host.connect(timing=QUICK) as index:
        ear = Ear(index)
        index.subscribe(ear)
        host.lose_events(1)
        host.rename(a, "b")
        ear.until(lambda: ear.count(Renamed))
        assert index.by_name("b").domid == a
        eventually(lambda: index.stats.drift == 1)
    assert "no event reported" in caplog.text


def test_a_probe_counts_what_no_event_told_of() -> None:
    """P2: a domain of which xenstored was never told is drift, found without an audit."""
    host = SimulatedHost()
    with host.connect(replace(QUICK, audit=math.inf)) as index:
        domid = host.create("a", introduce=False)
        eventually(lambda: domid in index.domids)
        eventually(lambda: index.stats.drift >= 1)


def test_the_audit_calls_nothing_drift_that_an_event_told_of(host: SimulatedHost) -> None:
    """A host that merely lives on does not make the audit cry."""
    with host.connect(timing=replace(QUICK, audit=0.005)) as index:
        for n in range(30):
            domid = host.create(f"vm-{n}")
            host.rename(domid, f"new-{n}")
            index.refresh()
            host.destroy(domid)
        index.refresh()
        assert index.stats.drift == 0


class Bus:
    """The simulated host behind a xenbus: a line may have lost its watches without a sign."""

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host
        self.open_hypervisor = host.open_hypervisor
        self.lines: list[Store] = []
        self.refused = 0
        self.refuse = False

    def open_store(self, timeout: float) -> Store:
        if self.refuse:
            self.refused += 1
            raise AccessDenied("root was dropped")
        line = self._host.open_store(timeout)
        line.forgets = True
        self.lines.append(line)
        return line


def test_a_line_that_forgets_is_opened_anew_at_each_audit(host: SimulatedHost) -> None:
    """P2: unheard, and one after the other; nothing is left of any."""
    bus = Bus(host)
    with connect(bus, timing=replace(QUICK, audit=0.01)) as index:
        ear = Ear(index)
        index.subscribe(ear)
        eventually(lambda: len(bus.lines) > 3)
        web = host.create("web")
        index.refresh()
        assert index.by_name("web").domid == web
        assert not ear.count(Lost)
        assert len(host._stores) <= 2
    assert not host._stores


def test_a_line_that_may_not_be_opened_anew_is_kept(host: SimulatedHost) -> None:
    """P12: once it is open root may be dropped; then the audit has to do with what there is."""
    bus = Bus(host)
    with connect(bus, timing=replace(QUICK, audit=0.01)) as index:
        ear = Ear(index)
        index.subscribe(ear)
        bus.refuse = True
        eventually(lambda: bus.refused > 2)
        before = len(bus.lines)
        a = host.create("a")
        host.lose_events(1)
        host.rename(a, "b")
        ear.until(lambda: ear.count(Renamed) or ("b" in index.names))
        assert index.live
        assert not ear.count(Lost)
        assert len(bus.lines) == before
    assert not host._stores


class Restless(Meddler):
    """A host with a guest that writes a node anew as soon as it has been read."""

    def happens(self, call: str) -> None:
        super().happens(call)
        if call == "read" and self.host.domids():
            self.host.write(self.host.domids()[0], "busy", b"%d" % self.host.requests)


def test_a_guest_that_writes_without_end_does_not_put_the_audit_off(host: SimulatedHost) -> None:
    """P2: what no event tells of is found in spite of all that events tell."""
    with connect(Restless(host), timing=replace(QUICK, audit=0.1)) as index:
        host.create("busy")
        heard: queue.Queue[bytes | None] = queue.Queue()
        index.watch(index.wait_for(name="busy"), "busy", lambda _, value: heard.put(value))
        for _ in range(100):
            heard.get(timeout=LIMIT)
        host.create("unheard", introduce=False)
        index.wait_for(name="unheard", timeout=LIMIT)


def test_a_node_that_is_refused_is_told_to_its_watcher_alone(host: SimulatedHost) -> None:
    """P9: whoever follows it hears why, and its value once it is given; the index stays live."""
    web = host.create("web")
    host.write(web, "secret", b"1")
    host.refuse_node(web, "secret", "EACCES")
    told: queue.Queue[object] = queue.Queue()
    with host.connect(timing=SHARP) as index:
        record = index.by_id(web)
        with index.watch(
            record,
            "secret",
            lambda _, value: told.put(value),
            on_error=lambda _, error: told.put(error),
        ) as node:
            error = told.get(timeout=LIMIT)
            assert isinstance(error, StoreError)
            assert error is node.error
            assert (error.errno, error.operation) == (errno.EACCES, "READ")
            assert error.path == f"/local/domain/{web}/secret"
            assert (index.live, index.stats.reconnects) == (True, 0)
            host.allow_node(web, "secret")
            index.refresh()  # what may not be watched is read again
            assert told.get(timeout=LIMIT) == b"1"
            assert node.error is None
            host.write(web, "secret", b"2")
            index.refresh()
            assert told.get(timeout=LIMIT) == b"2"


def test_closing_without_a_time_limit_leaves_nothing(host: SimulatedHost) -> None:
    """P9: whatever the system cannot wait for."""
    meddler = Meddler(host)
    index = connect(meddler, timing=CALM)
    index.close(timeout=math.inf)
    assert not our_threads()
    assert meddler.hypervisor is not None
    assert meddler.hypervisor.closed == 1


def test_doubled_events_are_told_once(host: SimulatedHost, sharp: Index, ear: Ear) -> None:
    """P2: an event is a question; asked twice, it has one answer."""
    host.double_events(100)
    domid = host.create("e")
    ear.until(lambda: ear.count(Added))
    host.rename(domid, "f")
    ear.until(lambda: ear.count(Renamed))
    host.destroy(domid, order="at once")
    ear.until(lambda: ear.count(Removed))
    sharp.refresh()
    assert [type(event) for event in ear.events] == [Added, Renamed, Removed]


# -- opening ---------------------------------------------------------------------------------


def test_opening_fails_in_time_when_xenstored_is_gone(host: SimulatedHost) -> None:
    """With the reason, when its time is up, and without a thread left behind."""
    meddler = Meddler(host)
    host.stop_xenstored()
    with pytest.raises(StoreLost, match="stopped"):
        connect(meddler, timing=SHARP, timeout=0.1)
    assert our_threads() == []
    assert meddler.hypervisor is not None
    assert meddler.hypervisor.closed == 1
    assert len(meddler.opened) > 1


def test_opening_waits_for_a_xenstored_that_comes_later(host: SimulatedHost) -> None:
    """P9: at boot it may be started a moment after the program."""
    host.stop_xenstored()
    meddler = Meddler(host)
    meddler.meddle["before open"] = lambda: meddler.meddle.update(
        {"before open": host.start_xenstored}
    )
    with connect(meddler, timing=SHARP, timeout=LIMIT) as index:
        assert index.live
        assert len(meddler.opened) == 2


def test_an_index_may_be_opened_before_xenstored_is_there(host: SimulatedHost) -> None:
    """P5, P9: it is not live, says so to look-ups and listeners, and becomes live by itself."""
    web = host.create("web")
    host.stop_xenstored()
    with host.connect(SHARP, wait=False) as index:
        with pytest.raises(NotLive):
            index.by_name("web")
        assert not index.live
        ear = Ear()
        index.subscribe(ear)
        ear.until(lambda: ear.count(Lost))
        host.start_xenstored()
        index.wait_live(LIMIT)
        assert index.by_name("web").domid == web
        ear.until(lambda: ear.count(Recovered))
        assert [type(event) for event in ear.events] == [Lost, Added, Added, Recovered]
        assert index.stats.reconnects == 0


def test_opening_fails_when_hypercalls_are_refused(host: SimulatedHost) -> None:
    """The same for the other half of the host."""
    meddler = Meddler(host)
    host.refuse_hypercalls()
    with pytest.raises(HypercallFailed):
        connect(meddler, timing=SHARP, timeout=0.1)
    assert our_threads() == []
    assert {line.closed for line in meddler.lines} == {1}


def test_opening_goes_on_after_a_line_that_falls_silent(host: SimulatedHost) -> None:
    """P9: no request blocks without a time limit, the first look included; the next line does."""
    meddler = Meddler(host)
    meddler.meddle["watch"] = host.deafen_line
    with connect(meddler, timing=SHARP, timeout=LIMIT) as index:
        assert index.live
        assert [line.closed for line in meddler.lines] == [1, 0]


def test_opening_takes_no_longer_than_it_is_given(host: SimulatedHost) -> None:
    """P9: TimedOut, and nothing is left once the hypervisor has answered."""
    meddler = Meddler(host)
    go = threading.Event()
    meddler.meddle["before look"] = lambda: go.wait(0.2)
    with pytest.raises(TimedOut, match="first look"):
        connect(meddler, timing=SHARP, timeout=0.02)
    assert our_threads() == []


# -- refreshing ------------------------------------------------------------------------------


def test_a_refresh_while_the_line_is_down_cannot_tell(host: SimulatedHost, sharp: Index) -> None:
    """P5: NotLive after the caller's time limit, with the cause."""
    host.stop_xenstored()
    eventually(lambda: not sharp.live)
    with pytest.raises(NotLive) as raised:
        sharp.refresh(timeout=0.02)
    assert isinstance(raised.value.cause, StoreLost)


def test_a_refresh_outlives_a_loss_that_is_repaired_in_time(
    host: SimulatedHost, sharp: Index
) -> None:
    """P6: it returns when the promise holds, however that came about."""
    host.stop_xenstored()
    eventually(lambda: not sharp.live)
    host.create("e")
    timer = threading.Timer(0.05, host.start_xenstored)
    timer.start()
    sharp.refresh()
    assert sharp.by_name("e")
    timer.join()


def test_a_refresh_of_a_deaf_line_ends_in_time(host: SimulatedHost) -> None:
    """P9: TimedOut while nobody knows yet that the line is deaf."""
    with host.connect(timing=CALM) as index:
        host.deafen_line()
        with pytest.raises(TimedOut):
            index.refresh(timeout=0.02)
        assert index.live


@pytest.mark.parametrize("fault", [SimulatedHost.cut_line, SimulatedHost.deafen_line])
def test_a_refresh_is_kept_through_a_loss(
    host: SimulatedHost, sharp: Index, fault: Callable[[SimulatedHost], None]
) -> None:
    """P6: the line breaks under it; the next line answers it."""
    fault(host)
    host.create("e")
    sharp.refresh()
    assert sharp.by_name("e")


# -- closing ---------------------------------------------------------------------------------


def nothing(_: Meddler, __: Index) -> None:
    pass


def down(meddler: Meddler, index: Index) -> None:
    meddler.host.stop_xenstored()
    eventually(lambda: not index.live)


def deaf(meddler: Meddler, _: Index) -> None:
    meddler.host.deafen_line()
    eventually(lambda: meddler.calls and meddler.calls[-1] == "wait")


def cut(meddler: Meddler, _: Index) -> None:
    meddler.host.cut_line()


def busy(meddler: Meddler, _: Index) -> None:
    for n in range(50):
        meddler.host.create(f"vm-{n}")


def refused(meddler: Meddler, index: Index) -> None:
    meddler.host.refuse_hypercalls()
    meddler.host.create("x")
    eventually(lambda: not index.live)


@pytest.mark.parametrize("state", [nothing, down, deaf, cut, busy, refused])
def test_close_leaves_nothing_in_any_state(
    host: SimulatedHost, state: Callable[[Meddler, Index], None]
) -> None:
    """P9: no thread, no descriptor, no line, no watch, and it takes no time limit to pass."""
    fds = count_fds()
    meddler = Meddler(host)
    index = connect(meddler, timing=QUICK)
    index.subscribe(lambda _: None)
    state(meddler, index)
    began = time.monotonic()
    index.close()
    assert time.monotonic() - began < 0.9  # QUICK's limit of a request is one second
    assert our_threads() == []
    assert all(line.closed for line in meddler.lines)
    assert meddler.hypervisor is not None
    assert meddler.hypervisor.closed == 1
    assert host._stores == []
    assert count_fds() == fds
    index.close()
    assert meddler.hypervisor.closed == 1


def test_close_ends_a_refresh_that_waits(host: SimulatedHost) -> None:
    """With Closed: it was neither done nor timed out."""
    index = host.connect(timing=CALM)
    host.deafen_line()
    raised: list[BaseException] = []

    def refresh() -> None:
        try:
            index.refresh(timeout=LIMIT)
        except Closed as error:
            raised.append(error)

    waiting = threading.Thread(target=refresh)
    waiting.start()
    eventually(lambda: index._body.watcher._requests.refresh)
    index.close()
    waiting.join(LIMIT)
    assert len(raised) == 1


def test_a_hypercall_stuck_at_close_leaves_nothing_once_it_returns(host: SimulatedHost) -> None:
    """P9: close() returns in its time limit; the descriptors go as soon as they may."""
    meddler = Meddler(host)
    index = connect(meddler, timing=CALM)
    go, stuck = threading.Event(), threading.Event()

    def hang() -> None:
        stuck.set()
        go.wait(LIMIT)

    meddler.meddle["before look"] = hang
    host.create("x")
    assert stuck.wait(LIMIT)
    index.close(timeout=0.01)
    go.set()
    eventually(lambda: our_threads() == [])
    assert meddler.hypervisor is not None
    assert meddler.hypervisor.closed == 1


def test_an_index_never_closed_does_not_hinder_the_end_of_the_program() -> None:
    """Its threads are daemons and complain of nothing."""
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-c"),
            "from domindex.testing import SimulatedHost\n"
            "host = SimulatedHost()\n"
            "index = host.connect()\n"
            "index.subscribe(lambda event: None)\n"
            "host.create('x')\n",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# -- fork ------------------------------------------------------------------------------------


def in_a_child(run: Callable[[], str]) -> str:
    """What `run()` gives in a forked child, or how it failed."""
    back, forth = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads: the point
        child = os.fork()
    if child == 0:
        signal.alarm(10)  # if it hangs it ends all the same
        try:
            text = run()
        except BaseException as error:
            text = f"failed: {error!r}"
        os.write(forth, text.encode())
        os._exit(0)
    os.close(forth)
    with os.fdopen(back) as pipe:
        # It may hang before its alarm is set: in what is done first of all in a child.
        came = select.select([pipe], [], [], 2 * LIMIT)[0]
        if not came:
            os.kill(child, signal.SIGKILL)
        text = pipe.read()
    os.waitpid(child, 0)
    return text if came else "hung"


@contextmanager
def all_locks_held() -> Iterator[None]:
    """Another thread holds every lock that is made new in a child."""
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as stack:
            for lock in list(forking._locks):
                # Not the locks that frontrun has put in their place and that are still about.
                if hasattr(lock, "_at_fork_reinit"):
                    stack.enter_context(lock)
            held.set()
            go.wait(LIMIT)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(LIMIT)
    try:
        yield
    finally:
        go.set()
        holder.join()


def test_a_forked_child_is_refused_and_the_parent_goes_on(host: SimulatedHost) -> None:
    """Threads do not survive a fork and the line is the parent's."""
    host.create("web")
    with host.connect(timing=CALM) as index, index.subscribe(lambda _: None) as subscription:
        calls: list[Callable[[], object]] = [
            lambda: index.by_name("web"),
            lambda: index.by_name("web", verify=True),
            lambda: index.by_id(0),
            lambda: index.names["web"],
            lambda: index.find(),
            lambda: list(index),
            lambda: index.info(0),
            lambda: index.refresh(),
            lambda: index.subscribe(print),
        ]

        def child() -> str:
            for number, call in enumerate(calls):
                try:
                    call()
                except Closed as error:
                    if "connect() again" not in str(error):
                        return f"call {number} does not say what to do"
                else:
                    return f"call {number} answered"
            assert not index.live
            assert index.names.get("web") is None
            assert index.stats.domains == 0
            subscription.close()
            index.close()
            return "refused"

        assert in_a_child(child) == "refused"
        assert index.by_name("web")
        host.create("db")
        index.refresh()
        assert index.by_name("db")


def test_a_fault_in_a_child_leaves_nothing_else_open(host: SimulatedHost) -> None:
    """What was opened before the index fails in the child: the index is cut off all the same."""

    class Broken:
        def after_fork(self) -> None:
            raise RuntimeError

    broken = Broken()
    forking.register(broken.after_fork)
    with host.connect(timing=CALM) as index:

        def child() -> str:
            with pytest.raises(Closed):
                index.by_id(0)
            return "refused"

        assert in_a_child(child) == "refused"


def test_a_child_whose_garbage_is_collected_meanwhile_leaves_nothing_open() -> None:
    """What is collected takes itself out of the list of what is given up, as that list is read."""
    program = """
import gc, os
gc.disable()
os.register_at_fork(after_in_child=gc.enable)  # before the package's own: amid that one it runs
from domindex import forking

class Garbage:
    def __init__(self):
        self.myself = self
        forking.register(self.give_up)

    def give_up(self): pass

class Held:
    given_up = False

    def give_up(self): self.given_up = True

for soon in range(1, 60):
    for _ in range(30):
        Garbage()
    held = Held()
    forking.register(held.give_up)
    gc.set_threshold(gc.get_count()[0] + soon)
    if (child := os.fork()) == 0:
        os._exit(0 if held.given_up else 1)
    assert os.waitpid(child, 0)[1] == 0, soon
    gc.collect()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_forked_child_can_open_an_index_of_its_own(host: SimulatedHost) -> None:
    """As the error tells it to."""
    host.create("web")
    with host.connect(timing=CALM):

        def child() -> str:
            fresh = SimulatedHost()
            fresh.create("mine")
            with fresh.connect(timing=CALM) as own:
                return str(own.by_name("mine").name)

        assert in_a_child(child) == "mine"


def test_a_fork_while_the_lock_is_held_does_not_hang_the_child(host: SimulatedHost) -> None:
    """The thread that held it is no more in the child."""
    with host.connect(timing=CALM) as index:
        watch = index.watch(index.by_id(0), "memory/meminfo", print)

        def child() -> str:
            watch.close()
            try:
                index.by_name("nobody")
            except Closed:
                return "refused"
            return "answered"

        with all_locks_held():
            assert in_a_child(child) == "refused"


def test_the_usual_timing_is_made_for_a_real_host() -> None:
    """P9: a deaf line is noticed within ten seconds, and nothing is asked every second."""
    timing = Timing()
    assert timing.probe + timing.request <= 10
    assert timing.retry_most >= timing.retry > 0
    assert timing.audit >= 60
