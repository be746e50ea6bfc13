"""Listening and waiting, on both hosts: what a program does with the index."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable
from itertools import chain
from uuid import uuid4

import pytest

import domindex
from domindex import (
    Added,
    DuplicateName,
    DuplicateUuid,
    Ready,
    Rebooted,
    Removed,
    Renamed,
    Resync,
    ShutDown,
    Synced,
)
from domindex import ShutdownReason as Why
from domindex.domain import Domain
from domindex.events import Event
from tests.both.scenarios.seen import Waiting, ended, hears, made
from tests.stage import PATIENCE, Stage, believed, tale


def is_web(domain: Domain) -> bool:
    return (domain.name or "").startswith("web")


def test_a_listener_hears_what_it_asked_for(stage: Stage) -> None:
    """P8: of the kinds it named, of the domains it named; another one hears everything."""
    with stage.index() as (index, heard):
        web = hears(index, events=(Added, Removed), where=is_web)
        one, two, _ = made(stage, "web-1", "web-2", "db")
        assert sorted(tale(heard.told(index))) == ["+db", "+web-1", "+web-2"]
        stage.toolstack.shutdown(two)
        assert tale(heard.told(index)) == ["web-2!poweroff"]
        ended(stage, one, two)
        told = tale(web.told(index))
        assert sorted(told) == ["+web-1", "+web-2", "-web-1", "-web-2 (poweroff)"]
        assert sorted(tale(heard.told(index))) == ["-web-1", "-web-2 (poweroff)"]


def test_what_is_present_is_told_or_not(stage: Stage) -> None:
    """P8: Synced tells where the present ends and the news begin."""
    with stage.index() as (index, heard):
        made(stage, "a", "b")
        heard.told(index)
        full, news = hears(index), hears(index, replay=False)
        made(stage, "c")
        of_each = [(Added(domain), Ready(domain)) for domain in index if domain.name != "c"]
        told = full.told(index)
        c = index.by_name("c")
        assert told == [*chain(*of_each), Synced(), Added(c), Ready(c)]
        assert news.told(index) == [Synced(), Added(c), Ready(c)]


def test_a_reboot_is_told_as_one(stage: Stage) -> None:
    """The same guest goes on as another domain, with its uuid; whoever did not ask hears of an
    end and a beginning (P3)."""
    with stage.index() as (index, heard):
        patient = hears(index, replay=False, reboot_grace=PATIENCE)
        uuid = uuid4()
        old = made(stage, "web", uuid=uuid)[0]
        before = patient.until(Added, domid=old).domain
        stage.toolstack.shutdown(old, Why.REBOOT)
        patient.until(ShutDown, domid=old)
        ended(stage, old)
        new = made(stage, "web", uuid=uuid)[0]
        event = patient.until(Rebooted, uuid=uuid)
        assert (event.old.life, event.new.domid) == (before.life, new)
        assert tale(heard.told(index)) == ["+web", "web!reboot", "-web (reboot)", "+web"]
        assert not [told for told in patient.events if isinstance(told, Removed)]


def test_a_guest_that_was_turned_off_did_not_reboot(stage: Stage) -> None:
    """Though it is started again at once."""
    with stage.index() as (index, _):
        patient = hears(index, replay=False, reboot_grace=PATIENCE)
        uuid = uuid4()
        old = made(stage, "web", uuid=uuid)[0]
        patient.until(Added, domid=old)
        stage.toolstack.shutdown(old, Why.POWEROFF)
        patient.until(ShutDown, domid=old)
        ended(stage, old)
        made(stage, "web", uuid=uuid)
        told = tale(patient.told(index))
        assert told == ["-web (poweroff)", "+web"]


def test_a_stranger_on_the_domid_is_no_reboot(stage: Stage) -> None:
    """P3: the death that was held back is told before the birth."""
    with stage.index() as (index, _):
        patient = hears(index, replay=False, reboot_grace=PATIENCE)
        domid = made(stage, "web")[0]
        patient.until(Added, domid=domid)
        ended(stage, domid)
        with stage.unseen():
            stage.toolstack.create("db", domid=domid)
        assert tale(patient.told(index)) == ["-web", "+db"]


BURST = 30


def test_a_listener_that_is_too_slow_ends_up_with_the_truth(stage: Stage) -> None:
    """P2, P10: its backlog stands as one Resync; another listener loses nothing."""
    told: list[Event] = []
    began, go = threading.Event(), threading.Event()

    def slow(event: Event) -> None:
        began.set()
        assert go.wait(PATIENCE)
        told.append(event)

    with stage.index() as (index, heard):
        with index.subscribe(slow, queue=5, replay=False) as subscription:
            assert began.wait(PATIENCE)
            domids = [stage.toolstack.create(f"vm-{number}") for number in range(BURST)]
            for number, domid in enumerate(domids):
                heard.named(domid, f"vm-{number}")
            assert subscription.overflows == 1
            go.set()
            stage.toolstack.destroy(domids[0])
            stage.toolstack.rename(domids[1], "www")
            index.refresh(timeout=PATIENCE)
            assert subscription.drain(PATIENCE)
        resyncs = [event for event in told if isinstance(event, Resync)]
        rest = told[told.index(resyncs[-1]) + 1 :]
        assert believed(rest, list(resyncs[-1].domains)) == {d.domid: d for d in index}
        heard.told(index)
        assert len([event for event in heard.events if isinstance(event, Added)]) == BURST + 1
        assert believed(heard.events, []) == {domain.domid: domain for domain in index}


def test_one_that_comes_and_goes_is_waited_for(stage: Stage) -> None:
    """As a program does that starts a guest and follows it to its end."""
    with stage.index() as (index, _):
        uuid = uuid4()
        waits = [
            Waiting(lambda: index.wait_for(name="web", timeout=PATIENCE)),
            Waiting(lambda: index.wait_for(uuid=uuid, name="web", timeout=PATIENCE)),
            Waiting(lambda: index.wait_for(where=is_web, timeout=PATIENCE)),
        ]
        domid = stage.toolstack.create("web", uuid=uuid)
        web = index.by_id(waits[0].end().domid)
        assert [wait.end() for wait in waits] == [web] * 3
        assert web.domid == domid
        gone = Waiting(lambda: index.wait_gone(web, timeout=PATIENCE))
        stage.toolstack.shutdown(domid, Why.CRASH)
        index.wait_for(domid=domid, where=lambda d: d.shutdown is not None, timeout=PATIENCE)
        with pytest.raises(domindex.TimedOut):
            index.wait_gone(web, timeout=0)
        stage.toolstack.destroy(domid)
        assert (gone.end().reason, gone.end().domain.life) == (Why.CRASH, web.life)
        with stage.unseen():
            stage.toolstack.create("web", domid=domid)
        assert index.wait_for(name="web", timeout=PATIENCE).life != web.life
        assert index.wait_gone(web, timeout=0).domain.life == web.life


def test_one_that_migrates_in_is_ready_under_its_last_name(stage: Stage) -> None:
    """xl names it NAME--incoming until it is all there."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        ready = Waiting(lambda: index.wait_for(uuid=uuid, ready=True, timeout=PATIENCE))
        domid = stage.toolstack.create("web--incoming", uuid=uuid)
        heard.named(domid, "web--incoming")
        with pytest.raises(domindex.TimedOut):
            index.wait_for(uuid=uuid, ready=True, timeout=0)
        stage.toolstack.rename(domid, "web")
        assert (ready.end().domid, ready.end().name) == (domid, "web")


def test_keys_that_come_to_be_shared_are_told(stage: Stage) -> None:
    """P5: as at both ends of a local migration, with all that have them, and once."""
    with stage.index() as (index, _):
        heard = hears(index, events=(DuplicateName, DuplicateUuid))
        uuid = uuid4()
        one = made(stage, "web", uuid=uuid)[0]
        assert heard.told(index) == []
        two = made(stage, "web", uuid=uuid)[0]
        told = heard.told(index)
        both = tuple(index.by_id(domid) for domid in sorted([one, two]))
        assert told == [DuplicateName("web", both), DuplicateUuid(uuid, both)]
        ended(stage, one)
        assert heard.told(index) == []
        assert index.by_name("web").domid == index.by_uuid(uuid).domid == two


def test_handlers_in_a_loop_of_one_s_own(stage: Stage) -> None:
    """The loop polls, and calls dispatch: no thread of the library calls a handler."""
    told: list[Event] = []
    threads: set[int] = set()

    def handler(event: Event) -> None:
        told.append(event)
        threads.add(threading.get_ident())

    def until(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert poll.poll(1000 * max(0.0, deadline - time.monotonic())), told
            index.dispatch()

    with stage.index() as (index, _):
        poll = select.poll()
        poll.register(index, select.POLLIN)
        with index.subscribe(handler, threaded=False, reboot_grace=0.2):
            until(lambda: told and isinstance(told[-1], Synced))
            domid = made(stage, "web")[0]
            until(lambda: tale(told)[-1] == "+web" and isinstance(told[-1], Ready))
            stage.toolstack.rename(domid, "www")
            until(lambda: isinstance(told[-1], Renamed))
            ended(stage, domid)
            until(lambda: isinstance(told[-1], Removed))  # once the grace is over
        assert index.dispatch() == 0
    assert threads == {threading.get_ident()}


def test_events_to_ask_for(stage: Stage) -> None:
    """In the order in which they came, at the pace of whoever asks."""
    with stage.index() as (index, _), index.events(replay=False, where=is_web) as events:
        assert events.get(PATIENCE) == Synced()
        domid = made(stage, "web")[0]
        event = events.get(PATIENCE)
        assert isinstance(event, Added)
        assert events.get(PATIENCE) == Ready(event.domain)
        ended(stage, domid)
        assert events.get(PATIENCE) == Removed(event.domain)
        with pytest.raises(domindex.TimedOut):
            events.get(0)
