"""What happens to domains, from the first to the last: the index follows and tells."""

from __future__ import annotations

from uuid import uuid4

import pytest

import domindex
import domindex.direct
from domindex import Added, Ambiguous, NoSuchDomain, OSType, Removed, Renamed, ShutDown
from domindex import ShutdownReason as Why
from tests.both.scenarios.seen import Waiting
from tests.stage import PATIENCE, Stage


@pytest.mark.parametrize("type_", ["pv", "pvh", "hvm"])
def test_created_and_destroyed(stage: Stage, type_: str) -> None:
    """A domain is found by all three keys with its type, and is proven absent after its end."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        domid = stage.toolstack.create("web", uuid=uuid, type=type_)
        told = heard.named(domid, "web")
        assert index.by_name("web") == index.by_uuid(uuid) == index.by_id(domid) == told
        assert index.os_type(domid) is OSType(type_)
        assert index.by_name("web", verify=True) == told
        stage.toolstack.destroy(domid)
        heard.until(Removed, domid=domid)
        with pytest.raises(NoSuchDomain):
            index.by_name("web", verify=True)
        assert domid not in index.domids
        assert uuid not in index.uuids


def test_renamed(stage: Stage) -> None:
    """A rename is one event with both names; the old one is free at once."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        heard.named(domid, "web")
        stage.toolstack.rename(domid, "www")
        stage.toolstack.rename(domid, "wwww")
        told = heard.until(Renamed, domid=domid, name="wwww")
        assert told.old.life == told.new.life
        assert index.by_name("wwww").domid == domid
        assert "web" not in index.names


def test_names_swapped(stage: Stage) -> None:
    """Two domains that swap names are told apart at every moment."""
    with stage.index() as (index, _):
        one, two = stage.toolstack.create("a"), stage.toolstack.create("b")
        stage.toolstack.rename(one, "b")
        stage.toolstack.rename(two, "a")
        index.refresh()
        assert (index.by_name("b").domid, index.by_name("a").domid) == (one, two)


def test_paused(stage: Stage) -> None:
    """Pausing is no event; `info` tells of it."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        heard.named(domid, "web")
        stage.toolstack.unpause(domid)
        assert not index.info(domid).paused
        stage.toolstack.pause(domid)
        assert index.info(domid).paused
        index.refresh()
        assert heard.rest() == []


@pytest.mark.parametrize("reason", [Why.POWEROFF, Why.REBOOT, Why.CRASH, Why.WATCHDOG])
def test_stopped_for_a_reason(stage: Stage, reason: Why) -> None:
    """Why a guest stopped is told before it goes, and again when it goes."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        heard.named(domid, "web")
        stage.toolstack.shutdown(domid, reason)
        told = heard.until(ShutDown, domid=domid)
        assert told.reason is reason
        assert index.by_name("web").shutdown is reason
        stage.toolstack.destroy(domid)
        removed = heard.until(Removed, domid=domid)
        assert removed.reason is reason


def test_same_name_again(stage: Stage) -> None:
    """A name that comes back belongs to the new domain, another life."""
    with stage.index() as (index, heard):
        first = stage.toolstack.create("web")
        old = heard.named(first, "web")
        stage.toolstack.destroy(first)
        second = stage.toolstack.create("web")
        heard.until(Removed, domid=first)
        new = heard.named(second, "web")
        assert new.life != old.life
        assert index.by_name("web") == new


@pytest.mark.parametrize("same_name", [False, True])
def test_domid_used_again_at_once(stage: Stage, same_name: bool) -> None:
    """P3: a domid that comes back as another life is Removed, then Added, never a change."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        old = heard.named(domid, "web")
        stage.toolstack.destroy(domid)
        stage.toolstack.create(name := "web" if same_name else "db", domid=domid)
        heard.until(Removed, domid=domid)
        new = heard.named(domid, name)
        assert index.by_id(domid) == new
        assert new.uuid != old.uuid
        for event in heard.events:
            if isinstance(event, Renamed):
                assert event.old.life == event.new.life


def test_two_with_one_uuid(stage: Stage) -> None:
    """P5: both are given; the one that stays is the answer once the other has gone."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        one = stage.toolstack.create("one", uuid=uuid)
        two = stage.toolstack.create("two", uuid=uuid)
        heard.named(two, "two")
        with pytest.raises(Ambiguous) as caught:
            index.by_uuid(uuid)
        assert [domain.domid for domain in caught.value.domains] == [one, two]
        assert [domain.domid for domain in index.all_by_uuid(str(uuid).upper())] == [one, two]
        stage.toolstack.destroy(one)
        heard.until(Removed, domid=one)
        assert index.by_uuid(uuid).domid == two


def test_two_with_one_name(stage: Stage) -> None:
    """P5: names are labels; nothing keeps two domains from having the same."""
    with stage.index() as (index, heard):
        one, two = stage.toolstack.create("web"), stage.toolstack.create("web")
        heard.named(two, "web")
        with pytest.raises(Ambiguous):
            index.by_name("web")
        assert [domain.domid for domain in index.all_by_name(b"web")] == [one, two]
        stage.toolstack.rename(one, "www")
        heard.named(one, "www")
        assert index.by_name("web").domid == two


def test_left_over_node(stage: Stage) -> None:
    """P1: a name in xenstore without a domain is not believed, before or after."""
    stage.toolstack.leave_node(30001, "ghost")
    with stage.index() as (index, heard):
        assert "ghost" not in index.names
        domid = stage.toolstack.create("web")
        heard.named(domid, "web")
        stage.toolstack.destroy(domid, order="xapi")
        heard.until(Removed, domid=domid)
        with pytest.raises(NoSuchDomain):
            index.by_name("web", verify=True)
        with pytest.raises(NoSuchDomain):
            index.by_name("ghost", verify=True)
        with domindex.direct.open(stage.host) as look, pytest.raises(NoSuchDomain):
            look.by_name("web")


def test_not_introduced(stage: Stage) -> None:
    """P6: what no event tells of is there after a refresh, and gone after the next."""
    with stage.index() as (index, _):
        domid = stage.toolstack.create("web", introduce=False)
        index.refresh()
        assert index.by_name("web").domid == domid
        stage.toolstack.destroy(domid)
        assert domid not in index.domids or index.refresh()
        index.refresh()
        assert domid not in index.domids


def test_zombie(stage: Stage) -> None:
    """A domain of which only the number is left is gone, and stays gone when that goes too."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        heard.named(domid, "web")
        let_go = stage.toolstack.zombie(domid)
        heard.until(Removed, domid=domid)
        assert "web" not in index.names
        let_go()
        index.refresh()
        assert heard.rest() == []


def test_facts_of_all_and_of_one_life(stage: Stage) -> None:
    """One hypercall for all; of a record only what is of its life; what ended may hold memory."""
    with stage.index() as (index, heard), domindex.direct.open(stage.host) as look:
        domid = stage.toolstack.create("web")
        web = heard.named(domid, "web")
        assert [*index.infos()] == [*look.infos()] == [domain.domid for domain in index]
        for info in (index.info(web), look.info(web), index.infos()[domid]):
            assert (info.uuid, info.type, info.dying) == (web.uuid, web.type, False)
            assert info.memory > 0
        let_go = stage.toolstack.zombie(domid)
        heard.until(Removed, domid=domid)
        assert index.wait_gone(web, PATIENCE).domain.life == web.life
        assert domid not in index.infos()
        assert index.infos(dying=True)[domid] in index.dying()
        assert [(info.domid, info.uuid) for info in look.dying()] == [(domid, web.uuid)]
        assert index.dying()[0].memory > 0
        for refused in (index.info, look.info):
            with pytest.raises(domindex.NoSuchDomain):
                refused(web)
        with pytest.raises(domindex.TimedOut):
            index.wait_gone(web, 0.1, freed=True)
        waiting = Waiting(lambda: index.wait_gone(web, PATIENCE, freed=True))
        let_go()
        assert waiting.end().domain.life == web.life
        assert index.dying() == look.dying() == ()


def test_a_record_whose_uuid_has_changed(stage: Stage) -> None:
    """P3: `info` of it finds out that its life goes on, and that the next is another."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        web = heard.named(domid, "web")
        heard.told(index)  # before 4.21 a uuid that changes amid a birth is taken for another life
        uuid = uuid4()
        stage.toolstack.change_handle(domid, uuid)
        assert index.info(web).uuid == uuid
        with stage.unseen():
            stage.toolstack.destroy(domid)
            stage.toolstack.create("web", domid=domid)
        with pytest.raises(domindex.NoSuchDomain):
            index.info(web)
        index.refresh(timeout=PATIENCE)
        assert index.info(index.by_id(domid)).uuid == index.by_id(domid).uuid


def test_named_after_it_was_added(stage: Stage) -> None:
    """A domain without a name is held, and its first name is a rename from None."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create()
        assert heard.until(Added, domid=domid).domain.name is None
        stage.toolstack.rename(domid, "web")
        told = heard.until(Renamed, domid=domid)
        assert (told.old.name, told.new.name) == (None, "web")
        assert index.by_name("web").domid == domid


def test_names_of_any_bytes(stage: Stage) -> None:
    """Empty, long, not UTF-8, digits only, control characters: found as they are."""
    names = [b"", b"x" * 2000, b"\xff\xfe", b"42", b"\x1b[2J\n", b"a\0b", b"Web", b"web"]
    with stage.index() as (index, heard):
        made = {name: stage.toolstack.create(name) for name in names}
        heard.named(made[b"web"], "web")
        for name, domid in made.items():
            assert index.by_name(name).domid == domid
            assert index.by_name(name.decode("utf-8", "surrogateescape")).domid == domid
