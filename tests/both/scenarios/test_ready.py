"""Readiness and stops, on both hosts: "run this when VM web is up", and waits for one life."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from domindex import (
    Added,
    Changed,
    Domain,
    Event,
    Index,
    NoSuchDomain,
    Ready,
    Rebooted,
    Renamed,
    Synced,
    TimedOut,
    aio,
)
from domindex import ShutdownReason as Why
from tests.both.scenarios.seen import Waiting, ended, hears, made
from tests.stage import PATIENCE, Heard, Stage


def named_web(domain: Domain) -> bool:
    return domain.name == "web"


def when_up(index: Index) -> Heard:
    """What a program is told that asks for "VM web is up"."""
    return hears(index, events=(Ready,), where=named_web)


def readied(heard: Heard, index: Index) -> list[int]:
    """The domids of all that became ready since the last call."""
    return [event.domain.domid for event in heard.told(index) if isinstance(event, Ready)]


def test_one_that_is_there_already(stage: Stage) -> None:
    """With replay, right after its Added; without, there is no news of it."""
    with stage.index() as (index, _):
        web, _ = made(stage, "web", "db")
        index.refresh(timeout=PATIENCE)
        assert readied(when_up(index), index) == [web]
        assert readied(hears(index, events=(Ready,), replay=False), index) == []
        events = hears(index, where=named_web).told(index)
        assert [type(event) for event in events[:2]] == [Added, Ready]


def test_one_that_is_made_with_its_name(stage: Stage) -> None:
    """In one generation with its Added, and no other domain's."""
    with stage.index() as (index, _):
        up, all_of_it = when_up(index), hears(index, replay=False, where=named_web)
        web, _ = made(stage, "web", "db")
        assert readied(up, index) == [web]
        added, ready = all_of_it.told(index)[1:]
        assert (added, ready) == (Added(index.by_id(web)), Ready(index.by_id(web)))
        assert added.generation == ready.generation


def test_one_that_is_named_late(stage: Stage) -> None:
    """Not while it has no name: it is still being made."""
    with stage.index() as (index, _):
        up, steps = when_up(index), hears(index, replay=False, events=(Added, Renamed, Ready))
        web = stage.toolstack.create(None)
        assert [type(event) for event in steps.told(index)] == [Added]
        assert not index.by_id(web).ready
        stage.toolstack.rename(web, "web")
        assert readied(up, index) == [web]
        renamed, ready = steps.told(index)
        assert isinstance(renamed, Renamed)
        assert ready == Ready(renamed.new)
        assert renamed.generation == ready.generation


@pytest.mark.parametrize("passing", ["web--incoming", "migrating-web"])
def test_one_that_is_renamed_into_its_name(stage: Stage, passing: str) -> None:
    """At the end of a migration, with xl's and with XenD's names."""
    with stage.index() as (index, heard):
        up = when_up(index)
        web = stage.toolstack.create(passing)
        heard.named(web, passing)
        assert readied(up, index) == []
        stage.toolstack.rename(web, "web")
        assert readied(up, index) == [web]
        stage.toolstack.rename(web, "www")
        stage.toolstack.rename(web, "web")
        assert readied(up, index) == []


def test_one_that_was_ready_under_another_name(stage: Stage) -> None:
    """`xl rename`: once a life, however often it is renamed; of its next life again. Whoever asked
    for no filter has heard of it before."""
    with stage.index() as (index, _):
        web, db = made(stage, "old", "db")
        up, plain, now = when_up(index), hears(index, events=Ready), hears(index, where=named_web)
        assert readied(plain, index) == [0, web, db]
        stage.toolstack.rename(web, "web")
        assert readied(up, index) == [web]
        told = [type(event) for event in now.told(index)]
        assert [kind for kind in told if kind is not Synced] == [Renamed, Ready]
        assert index.wait_for(name="web", ready=True, timeout=0).domid == web
        for name in ("www", "web", "web--migratedaway", "www", "web"):
            stage.toolstack.rename(web, name)
            index.refresh(timeout=PATIENCE)
        stage.toolstack.rename(db, "web")
        assert readied(up, index) == [db]
        ended(stage, web, db)
        (web,) = made(stage, "old", domid=web)
        index.refresh(timeout=PATIENCE)
        stage.toolstack.rename(web, "web")
        assert readied(up, index) == [web]
        assert readied(plain, index) == [web]


def test_one_that_gets_its_uuid_late(stage: Stage) -> None:
    """xenopsd makes a domain under a passing uuid: what is asked for decides, not the name."""
    uuid = uuid4()
    with stage.index() as (index, _):
        up = hears(index, events=Ready, where=lambda domain: domain.uuid == uuid)
        (web,) = made(stage, "web")
        assert readied(up, index) == []
        stage.toolstack.change_handle(web, uuid)
        assert readied(up, index) == [web]


def test_one_that_was_there_is_no_news(stage: Stage) -> None:
    """Without replay: not when it is renamed and gets its name back, nor when it resumes."""
    with stage.index() as (index, _):
        web = stage.toolstack.create("web", type="pvh")  # one that can be resumed
        (db,) = made(stage, "db")
        index.refresh(timeout=PATIENCE)
        up = hears(index, events=Ready, where=named_web, replay=False)
        stage.toolstack.shutdown(web, Why.SUSPEND)
        index.refresh(timeout=PATIENCE)
        stage.toolstack.rename(web, "www")
        stage.toolstack.resume(web)
        index.refresh(timeout=PATIENCE)
        stage.toolstack.rename(web, "web")
        assert readied(up, index) == []
        stage.toolstack.rename(web, "www")
        stage.toolstack.rename(db, "web")
        assert readied(up, index) == [db]


@pytest.mark.parametrize("way", ["dispatch", "stream", "aio"])
def test_each_way_to_listen_hears_of_a_rename(stage: Stage, way: str) -> None:
    """As a handler in a thread does."""
    with stage.index() as (index, _):
        (web,) = made(stage, "old")
        index.refresh(timeout=PATIENCE)
        told: list[Event] = []
        match way:
            case "dispatch":
                index.subscribe(told.append, events=Ready, where=named_web, threaded=False)
                index.dispatch()
                stage.toolstack.rename(web, "web")
                index.refresh(timeout=PATIENCE)
                index.dispatch()
            case "stream":
                with index.events(events=Ready, where=named_web) as events:
                    stage.toolstack.rename(web, "web")
                    told.append(events.get(timeout=PATIENCE))
            case _:
                told.append(asyncio.run(first_ready(stage, web)))
        assert [event.domain.domid for event in told if isinstance(event, Ready)] == [web]


async def first_ready(stage: Stage, web: int) -> Event:
    """The first event of an asyncio index that asks for "VM web is up"."""
    async with (
        asyncio.timeout(PATIENCE),
        aio.connect(stage.host) as index,
        index.events(events=Ready, where=named_web) as events,
    ):
        waiting = asyncio.create_task(index.wait_for(name="web", ready=True))
        await asyncio.to_thread(stage.toolstack.rename, web, "web")
        event = await anext(events)
        assert (await waiting).domid == web
        return event


def test_one_that_migrates_within_the_host(stage: Stage) -> None:
    """The old life goes under another name, the new one becomes ready."""
    with stage.index() as (index, heard):
        up = when_up(index)
        uuid = uuid4()
        old = made(stage, "web", uuid=uuid)[0]
        assert readied(up, index) == [old]
        new = made(stage, "web--incoming", uuid=uuid)[0]
        heard.named(new, "web--incoming")
        stage.toolstack.shutdown(old, Why.SUSPEND)
        stage.toolstack.rename(old, "web--migratedaway")
        stage.toolstack.rename(new, "web")
        assert readied(up, index) == [new]
        ended(stage, old)
        assert readied(up, index) == []


def test_once_a_life(stage: Stage) -> None:
    """A migration that fails and a guest that resumes are not ready for the first time. A listener
    that began meanwhile has not heard of it yet."""
    with stage.index() as (index, _):
        up = when_up(index)
        web = stage.toolstack.create("web", type="pvh")
        assert readied(up, index) == [web]
        stage.toolstack.shutdown(web, Why.SUSPEND)
        assert readied(up, index) == []
        late = when_up(index)
        assert readied(late, index) == []
        stage.toolstack.resume(web)
        assert readied(up, index) == []
        assert readied(late, index) == [web]
        stage.toolstack.rename(web, "migrating-web")
        index.refresh(timeout=PATIENCE)
        stage.toolstack.rename(web, "web")
        assert readied(up, index) == readied(late, index) == []
        assert index.by_id(web).ready


def test_one_that_is_seen_suspended_first(stage: Stage) -> None:
    """It is ready once it resumes, in the generation of that change."""
    with stage.index() as (index, _):
        heard = hears(index, replay=False, events=(Changed, Ready))
        with stage.unseen():
            web = stage.toolstack.create("web", type="pvh")
            stage.toolstack.shutdown(web, Why.SUSPEND)
        assert heard.told(index) == []
        stage.toolstack.resume(web)
        changed, ready = heard.told(index)
        assert isinstance(changed, Changed)
        assert ready == Ready(changed.new)


def test_after_a_reboot(stage: Stage) -> None:
    """P3: the new life is ready, after the Rebooted that stands for its Added."""
    with stage.index() as (index, _):
        web = made(stage, "web")[0]
        heard = hears(index, replay=False, reboot_grace=PATIENCE, events=(Rebooted, Ready))
        uuid = index.wait_for(name="web", timeout=PATIENCE).uuid
        heard.told(index)
        stage.toolstack.shutdown(web, Why.REBOOT)
        ended(stage, web)
        again = made(stage, "web", uuid=uuid)[0]
        rebooted, ready = heard.told(index)
        assert isinstance(rebooted, Rebooted)
        assert ready == Ready(rebooted.new)
        assert rebooted.new.domid == again


def test_a_snapshot_later(stage: Stage) -> None:
    """Whoever compares two pictures gets it as well."""
    with stage.index() as (index, heard):
        web = stage.toolstack.create(None)
        heard.told(index)
        before = index.snapshot()
        stage.toolstack.rename(web, "web")
        index.refresh(timeout=PATIENCE)
        assert index.snapshot().diff(before)[-1] == Ready(index.by_id(web))


def test_a_wait_on_one_life(stage: Stage) -> None:
    """It sees each change of that life, and ends at once with it."""
    with stage.index() as (index, _):
        domid = made(stage, "web--incoming")[0]
        record = index.wait_for(name="web--incoming", timeout=PATIENCE)
        assert index.wait_for(domain=record, timeout=0) == record
        with pytest.raises(TimedOut):
            index.wait_for(domain=record, ready=True, timeout=0)
        ready = Waiting(lambda: index.wait_for(domain=record, ready=True, timeout=PATIENCE))
        stage.toolstack.rename(domid, "web")
        assert ready.end() == index.by_name("web")
        never = Waiting(lambda: index.wait_for(domain=record, name="db", timeout=10 * PATIENCE))
        ended(stage, domid)
        with pytest.raises(NoSuchDomain):
            never.end()
        with stage.unseen():
            stage.toolstack.create("db", domid=domid)
        with pytest.raises(NoSuchDomain):
            index.wait_for(domain=record, timeout=PATIENCE)


def test_a_wait_for_a_stop(stage: Stage) -> None:
    """It says why, while the domain is there and after its end."""
    with stage.index() as (index, _):
        web, db = made(stage, "web", "db")
        record = index.wait_for(name="web", timeout=PATIENCE)
        other = index.wait_for(name="db", timeout=PATIENCE)
        with pytest.raises(TimedOut):
            index.wait_stopped(record, timeout=0)
        stopped = Waiting(lambda: index.wait_stopped(record, timeout=PATIENCE))
        destroyed = Waiting(lambda: index.wait_stopped(other, timeout=PATIENCE))
        stage.toolstack.shutdown(web, Why.CRASH)
        assert stopped.end() is Why.CRASH
        ended(stage, web, db)
        with pytest.raises(NoSuchDomain):  # it was destroyed while it ran
            destroyed.end()
        index.wait_gone(record, timeout=PATIENCE)
        assert index.wait_stopped(record, timeout=0) is Why.CRASH
