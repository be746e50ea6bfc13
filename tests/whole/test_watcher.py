"""The thread that follows the host: held up, interrupted, refused, asked without end."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace as real_replace
from typing import Any
from uuid import UUID

import pytest

import domindex
import domindex.liveness
from domindex.domain import ShutdownReason
from domindex.errors import HostError, NoSuchDomain, NotLive, StoreError
from domindex.events import Added, Changed, Lost, Recovered, Removed, Renamed
from domindex.index import Index
from domindex.opening import connect
from domindex.options import Timing
from domindex.testing import QUICK, SimulatedHost
from tests.whole.helpers import CALM, LIMIT, SHARP, Ear, Meddler, eventually

SOON = Timing(request=0.5, probe=0.05, audit=600.0, retry=0.005, retry_most=0.05)
"""A thread that is held up is noticed after a second."""


# -- held up ---------------------------------------------------------------------------------


@contextmanager
def held_up(
    *, after_a_loss: bool = False, max_stale: float | None = None
) -> Iterator[tuple[Index, Ear, threading.Event]]:
    """An index whose watcher waits for a hypercall until the event is set.

    after_a_loss: its line was cut before that, and is whole again.
    """
    host = SimulatedHost()
    meddler, go = Meddler(host), threading.Event()
    with connect(meddler, timing=SOON, max_stale=max_stale) as index:
        ear = Ear(index)
        index.subscribe(ear)
        if after_a_loss:
            host.cut_line()
            ear.until(lambda: ear.count(Recovered))
        reached = threading.Event()

        def wait() -> None:
            reached.set()
            assert go.wait(LIMIT)

        meddler.meddle["before look"] = wait
        host.create("unseen")
        assert reached.wait(LIMIT)
        try:
            yield index, ear, go
        finally:
            go.set()


def test_a_watcher_that_is_held_up_is_noticed_by_whoever_asks() -> None:
    """P9, P5: a miss cannot tell, hits are served, `Lost` is told once; then all is read anew."""
    with held_up() as (index, ear, go):
        eventually(lambda: not index.live)
        with pytest.raises(NotLive, match="held up"):
            index.by_name("unseen")
        assert index.by_id(0).name == "Domain-0"
        ear.until(lambda: ear.count(Lost))
        cause = next(event.cause for event in ear.events if isinstance(event, Lost))
        assert isinstance(cause, HostError)
        go.set()
        index.wait_live(LIMIT)
        assert index.by_name("unseen")
        ear.until(lambda: ear.count(Recovered))
        assert [ear.count(kind) for kind in (Lost, Recovered)] == [1, 1]
        ear.believes(index)


def test_beside_a_watcher_that_is_held_up_a_miss_ends_what_is_too_old() -> None:
    """P9: it cannot empty the views itself; from the next miss on hits are refused too."""
    with held_up(max_stale=0.1) as (index, _, go):
        assert index.by_id(0).name == "Domain-0"
        eventually(lambda: not index._body.picture.live)
        with pytest.raises(NotLive, match="held up"):
            index.by_name("unseen")
        with pytest.raises(NotLive, match="held up"):
            index.by_id(0)
        go.set()
        index.wait_live(LIMIT)
        assert index.by_id(0).name == "Domain-0"


def test_what_is_said_is_the_present_cause() -> None:
    """P5: not that of a loss which is over."""
    with held_up(after_a_loss=True) as (index, ear, _):
        eventually(lambda: not index.live)
        with pytest.raises(NotLive, match="held up"):
            index.by_name("unseen")
        ear.until(lambda: ear.count(Lost) == 2)
        causes = [str(event.cause) for event in ear.events if isinstance(event, Lost)]
        assert ["held up" in cause for cause in causes] == [False, True]


def test_the_lag_is_the_time_from_an_event_to_the_change() -> None:
    """It counts what the host and the watcher take for it: here a look that takes long."""
    host = SimulatedHost()
    meddler, began, go = Meddler(host), threading.Event(), threading.Event()
    with connect(meddler, timing=CALM) as index:
        assert 0.0 <= index.stats.lag < 0.05

        def wait() -> None:
            began.set()
            assert go.wait(LIMIT)

        before = time.monotonic()
        meddler.meddle["before look"] = wait
        host.create("web")
        assert began.wait(LIMIT)
        reached = time.monotonic()
        eventually(lambda: time.monotonic() > reached + 0.05)
        go.set()
        index.wait_for(name="web")
        assert 0.05 <= index.stats.lag <= time.monotonic() - before


def test_a_watcher_that_was_held_up_unnoticed_tells_so_itself() -> None:
    """P9: as after a SIGSTOP of the whole program, when nobody could ask."""
    with held_up() as (index, ear, go):
        eventually(lambda: time.monotonic() - index._picture.got_on > 2.1)
        go.set()
        ear.until(lambda: ear.count(Recovered))
        assert [ear.count(kind) for kind in (Lost, Recovered)] == [1, 1]
        assert index.by_name("unseen")


def test_a_watcher_is_left_alone_between_two_probes(host: SimulatedHost) -> None:
    """P9: at rest it shows nothing for so long; and a busy machine may be late by a second."""
    for timing, patience in ((CALM, 61.0), (SOON, 1.0)):
        with host.connect(timing) as index:
            assert index._picture.patience == patience


def test_a_watcher_at_rest_is_not_held_up(host: SimulatedHost) -> None:
    """P9: it shows at each probe that it gets on."""
    with host.connect(SOON) as index:
        for _ in range(3):
            moved = index._picture.got_on
            eventually(lambda: index._picture.got_on > moved)  # noqa: B023


# -- what cannot end it ----------------------------------------------------------------------


def test_a_loss_that_could_not_be_told_is_told_with_what_comes_next(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P9: a full memory at the moment that `Lost` is made ends nothing and hides nothing."""
    with host.connect(SHARP) as index:
        ear = Ear(index)
        index.subscribe(ear)
        armed = [True]

        def replace(event: Any, **changes: Any) -> Any:
            if armed and isinstance(event, Lost):
                armed.clear()
                raise MemoryError
            return real_replace(event, **changes)

        monkeypatch.setattr(domindex.liveness, "replace", replace)
        host.cut_line()
        ear.until(lambda: ear.count(Recovered))
        assert not armed
        assert [type(event) for event in ear.events[-2:]] == [Lost, Recovered]
        host.create("web")
        assert index.wait_for(name="web", timeout=LIMIT)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, MemoryError, GeneratorExit])
def test_whatever_is_raised_in_the_thread_it_goes_on(
    host: SimulatedHost, kind: type[BaseException]
) -> None:
    """P9: the thread cannot end before `close`."""

    def fail() -> None:
        raise kind

    meddler = Meddler(host)
    with connect(meddler, timing=SHARP) as index:
        meddler.meddle["look"] = fail
        host.create("web")
        assert index.wait_for(name="web", timeout=LIMIT)
        index.wait_live(LIMIT)
        assert index.stats.reconnects == 1


# -- lines -----------------------------------------------------------------------------------


def test_a_line_that_had_worked_is_opened_again_at_once(host: SimulatedHost) -> None:
    """P9: whatever was lost before; there is no pause but for a line that never worked."""
    patient = Timing(retry=0.02, retry_most=600.0)
    with host.connect(patient) as index:
        ear = Ear(index)
        index.subscribe(ear)
        for times in range(1, 13):  # with pauses that double, the last would come after a minute
            began = time.monotonic()
            while time.monotonic() < began + 2 * patient.retry:  # it works for a while
                index.refresh()
            host.cut_line()
            ear.until(lambda: ear.count(Recovered) == times)  # noqa: B023


def test_audits_and_probes_come_beside_those_who_ask_without_end(host: SimulatedHost) -> None:
    """P2: three threads that verify misses, each a refresh, put nothing off for ever."""
    old = host.create("old")
    stop = threading.Event()
    with host.connect(QUICK) as index:

        def ask() -> None:
            while not stop.is_set():
                with pytest.raises(NoSuchDomain):
                    index.by_name("nobody", verify=True)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            host.lose_events()
            host.rename(old, "new")
            eventually(lambda: "new" in index.names)
        finally:
            stop.set()
            for thread in threads:
                thread.join(LIMIT)


# -- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["EIO", "EACCES", "ENOMEM", "EINVAL", "E2BIG", "EQUOTA"])
def test_a_refused_name_concerns_its_domain_alone(host: SimulatedHost, error: str) -> None:
    """P9, P5: the last name is served, a miss says whose name is missing, others are followed."""
    bad, web = host.create("bad"), host.create("web")
    with host.connect(SHARP) as index:
        host.refuse_node(bad, error=error)
        host.rename(bad, "worse")
        host.rename(web, "www")
        assert index.wait_for(name="www", timeout=LIMIT).domid == web
        eventually(lambda: bad in index.unreadable)
        refusal = index.unreadable[bad]
        assert refusal.errno == getattr(errno, error, None)
        assert (refusal.operation, refusal.path) == ("READ", f"/local/domain/{bad}/name")
        assert index.by_name("bad").domid == bad
        for ask in (
            lambda: index.by_name("worse"),
            lambda: index.by_name("worse", verify=True),
            lambda: index.all_by_name("worse"),
            lambda: index.resolve("worse"),
            lambda: index.names["worse"],
            lambda: index.wait_for(name="worse", timeout=0.01),
        ):
            with pytest.raises(NotLive, match=f"domain {bad} ") as caught:
                ask()
            assert isinstance(caught.value.cause, StoreError)
        with pytest.raises(NotLive, match=f"domain {bad} "):
            index.by_name("bad", stale="refuse")
        assert index.by_name("www", stale="refuse").domid == web
        with pytest.raises(NoSuchDomain):
            index.by_uuid(UUID(int=99))
        with pytest.raises(NoSuchDomain):
            index.by_id(99)
        assert (index.live, index.stats.reconnects, index.stats.unreadable) == (True, 0, (bad,))
        assert index.stats.refusals > 0
        host.cut_line()  # and it is no different on a new line
        eventually(lambda: index.stats.reconnects == 1)
        assert index.by_name("bad").domid == bad
        host.allow_node(bad)
        index.refresh(names=True)
        assert index.by_name("worse").domid == bad
        assert index.unreadable == {}
        host.destroy(bad)


def test_a_name_is_never_missing_without_a_word(host: SimulatedHost) -> None:
    """P5: when a domain comes whose name cannot be read, that is known before it is held."""
    with host.connect(CALM) as index:
        seen: list[tuple[bool, bool]] = []
        stop = index._picture.changed.on_change(
            lambda: seen.append((7 in index.domids, 7 in index.unreadable))
        )
        host.refuse_node(7)
        host.create("web", domid=7)
        index.refresh()
        stop()
    assert (True, False) not in seen
    assert (True, True) in seen


def test_a_refused_name_is_hidden_from_who_wants_no_old_answers(host: SimulatedHost) -> None:
    """P5: with `stale="refuse"` a look-up at dict speed does not serve it either."""
    bad, web = host.create("bad"), host.create("web")
    with connect(host, timing=SHARP, stale="refuse") as index:
        host.refuse_node(bad)
        host.rename(bad, "worse")
        eventually(lambda: bad in index.unreadable)
        with pytest.raises(NotLive):
            index.names["bad"]
        for ask in (
            lambda: index.all_by_name("bad"),
            lambda: index.resolve("bad"),
            lambda: index.find(prefix="b"),
            lambda: index.range("b"),
        ):
            with pytest.raises(NotLive, match=f"domain {bad} "):
                ask()
        assert "bad" not in index.names
        assert index.by_name("web").domid == web
        host.allow_node(bad)
        index.refresh(names=True)
        assert index.names["worse"].domid == bad
        assert index.names["web"].domid == web


def test_a_name_that_may_not_be_watched_is_read_at_each_probe(host: SimulatedHost) -> None:
    """P9, P2: a refused WATCH costs the domain its promptness, and nothing else."""
    shy = host.create("shy")
    host.refuse_node(shy, operations=("WATCH",))
    with host.connect(QUICK) as index:
        host.rename(shy, "less shy")
        assert index.wait_for(name="less shy", timeout=LIMIT).domid == shy
        assert index.unreadable == {}


def test_a_refused_state_leaves_its_domain_without_a_unique_id() -> None:
    """P9: where a policy refuses the state of one domain, the rules of old Xen hold for it."""
    with SimulatedHost(unique_ids=True) as host:
        bad, web = host.create("bad"), host.create("web")
        host.refuse_state(bad)
        with host.connect(SHARP) as index:
            assert index.by_name("bad").life.unique_id is None
            assert index.by_name("web").life.unique_id is not None
            assert index.by_name("bad", verify=True).domid == bad
            host.shutdown(bad)
            eventually(lambda: index.by_name("bad").shutdown is ShutdownReason.POWEROFF)
            assert index.live
            host.rename(web, "www")
            assert index.wait_for(name="www", timeout=LIMIT)
            host.destroy(bad)
            eventually(lambda: bad not in index.domids)


# -- hosts that are different ----------------------------------------------------------------


def test_a_host_without_domain_0() -> None:
    """P4: whole is a list that has what it had; domain 0 need not be in it."""
    with SimulatedHost(dom0=False) as host:
        host.create("control")
        with host.connect(SHARP) as index:
            ear = Ear(index)
            index.subscribe(ear)
            web = host.create("web")
            assert index.wait_for(name="web", timeout=LIMIT).domid == web
            with pytest.raises(NoSuchDomain):
                index.by_id(0)
            host.halve_lists()  # and a list cut short is still known for one
            host.create("db")
            assert index.wait_for(name="db", timeout=LIMIT)
            assert ear.count(Removed) == 0


def test_a_caller_that_hears_of_no_births_is_told_so(host: SimulatedHost) -> None:
    """P2: the special watches never fire for it: what they would tell is found by the probes."""
    host.deafen_special()
    with host.connect(SHARP) as index:
        assert not index.stats.deaf
        host.create("silent", introduce=False)
        assert index.wait_for(name="silent", timeout=LIMIT)
        web = index.wait_for(domid=host.create("web"), timeout=LIMIT)
        eventually(lambda: index.stats.deaf or "web" not in index.names)
        host.destroy(web.domid)
        assert index.wait_gone(web, timeout=LIMIT)


def test_a_birth_that_is_introduced_late_shows_it_too(host: SimulatedHost) -> None:
    """P2: until then each probe asks again, as no event was due."""
    host.deafen_special()
    with host.connect(SHARP) as index:
        late = host.create("late", introduce=False)
        assert index.wait_for(name="late", timeout=LIMIT)
        lists = index.stats.lists
        eventually(lambda: index.stats.lists > lists + 1)
        assert not index.stats.deaf
        host.introduce(late)
        eventually(lambda: index.stats.deaf)


def test_an_xenstored_that_comes_back_empty(host: SimulatedHost) -> None:
    """P2: the domains are there, and have no names until somebody writes them."""
    web = host.create("web")
    with host.connect(SHARP) as index:
        life = index.by_name("web").life
        host.stop_xenstored()
        eventually(lambda: not index.live)
        host.start_xenstored(empty=True)
        index.wait_live(LIMIT)
        assert index.by_id(web).name is None
        host.rename(web, "web")
        assert index.wait_for(name="web", timeout=LIMIT).life == life


# -- one life --------------------------------------------------------------------------------


def test_a_clock_that_steps_back_is_no_death(host: SimulatedHost) -> None:
    """P3: the clocks of two processors differ; nothing is told of it."""
    web = host.create("web")
    host.spend(web, 10**10)
    with host.connect(CALM) as index:
        ear = Ear(index)
        record = index.by_name("web")
        index.subscribe(ear)
        for step in (2_000, 60_000, 1_000_000):
            host.step_clock(web, step)
            index.refresh()
        assert index.by_name("web", verify=True) is record
        assert not any(isinstance(event, (Added, Removed, Changed)) for event in ear.events[2:])


def test_verified_is_all_that_the_record_takes_from_the_hypervisor(host: SimulatedHost) -> None:
    """P7: the life, uuid, type and reason of a shutdown, with unique ids as without."""
    web = host.create("web", type="hvm", uuid=UUID(int=1))
    with host.connect(CALM) as index:
        host.change_handle(web, UUID(int=2))
        assert index.by_name("web", verify=True).uuid == UUID(int=2)
        host.change_handle(web, UUID(int=3))
        assert index.by_id(web, verify=True).uuid == UUID(int=3)
        with pytest.raises(NoSuchDomain):
            index.by_uuid(UUID(int=2), verify=True)
        host.shutdown(web, ShutdownReason.SUSPEND)
        index.refresh()
        host.resume(web)
        host.lose_events()
        host.crash(web)
        assert index.by_id(web, verify=True).shutdown is ShutdownReason.CRASH


def test_a_migration_under_temporary_uuids(host: SimulatedHost) -> None:
    """P3: as xenopsd does it on one host: two lives, both told as they go on."""
    final, to, source_uuid = UUID(int=10), UUID(int=11), UUID(int=12)
    source = host.create("web", uuid=final, type="hvm")
    with host.connect(CALM) as index:
        ear = Ear(index)
        index.subscribe(ear)
        old = index.by_uuid(final)
        target = host.create("web", uuid=to, type="hvm")
        index.refresh()
        new = index.by_id(target)
        host.shutdown(source, ShutdownReason.SUSPEND)
        host.change_handle(source, source_uuid)
        index.refresh()
        host.change_handle(target, final)
        index.refresh()
        assert index.by_uuid(final).life == new.life
        host.destroy(source, order="xapi")
        host.clear_node(source)
        index.refresh()
        ear.until(lambda: ear.count(Removed))
        lives = [event.domain.life for event in ear.events if isinstance(event, (Added, Removed))]
        assert lives[1:] == [old.life, new.life, old.life]  # after dom0
        assert ear.count(Renamed) == 0
        assert index.by_name("web") == index.by_uuid(final)
