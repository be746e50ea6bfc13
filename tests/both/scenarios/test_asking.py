"""Asking, on both hosts: about many, about what was, and what somebody typed."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

import pytest

import domindex
from domindex import Added, NotLive, OSType, StoreLost, Timing
from domindex.domain import Domain
from domindex.ports import Host, Store
from tests.both.scenarios.seen import ended, made
from tests.stage import PATIENCE, Stage, eventually, tale


def domids(found: Sequence[Domain]) -> list[int]:
    return [domain.domid for domain in found]


def test_questions_about_many(stage: Stage) -> None:
    """By the start of a name, a pattern, a type, an idea of one's own; in name order."""
    with stage.index() as (index, heard):
        two, one, db = made(stage, "web-2", "web-1", "db")
        pvh = made(stage, "web-3", type="pvh")[0]
        nameless = stage.toolstack.create(None)
        heard.told(index)
        assert domids(index.find(prefix="web-")) == [one, two, pvh]
        assert domids(index.find(glob="*-[12]")) == [one, two]
        assert domids(index.find(regex="^w.*[23]$")) == [two, pvh]
        of_a_kind = [web for web in (one, two, pvh) if index.os_type(web) is OSType.PVH]
        assert pvh in of_a_kind  # on Arm all are
        assert domids(index.find(prefix="web", type=OSType.PVH)) == of_a_kind
        assert domids(index.find(where=lambda domain: domain.domid == db)) == [db]
        assert domids(index.find())[-1] == nameless
        assert domids(index.range("web-1", "web-3")) == [one, two]
        index.add_index("owner", lambda domain: (domain.name or "?").partition("-")[0])
        assert domids(index.by("owner", "web")) == sorted([one, two, pvh])
        stage.toolstack.rename(two, "db-2")
        index.refresh(timeout=PATIENCE)
        assert domids(index.by("owner", "web")) == sorted([one, pvh])


def test_what_somebody_types(stage: Stage) -> None:
    """A name, a domid or a uuid; if two may be meant it asks back."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        web = made(stage, "web", uuid=uuid)[0]
        heard.told(index)
        for text in ("web", str(web), str(uuid), f"id:{web}", f"uuid:{uuid}", "name:web"):
            assert index.resolve(text).domid == web
        other = made(stage, str(web))[0]
        heard.told(index)
        with pytest.raises(domindex.Ambiguous) as caught:
            index.resolve(str(web))
        assert domids(caught.value.domains) == sorted([web, other])
        assert index.resolve(f"name:{web}").domid == other


def test_two_pictures_and_what_lies_between(stage: Stage) -> None:
    """P8: the same as a listener heard of it, if nothing came and went in between."""
    with stage.index() as (index, heard):
        stays, goes, moves = made(stage, "stays", "goes", "moves")
        heard.told(index)
        before = index.snapshot()
        assert index.snapshot() is before
        assert [*before] == sorted([0, stays, goes, moves])
        assert before.names["stays"] is index.by_id(stays)
        with stage.unseen():
            stage.toolstack.destroy(goes)
            stage.toolstack.rename(moves, "moved")
            stage.toolstack.create("came")
        told = heard.told(index)
        after = index.snapshot()
        assert sorted(tale(after.diff(before))) == ["+came", "-goes", "moves>moved"]
        assert sorted(tale(told)) == sorted(tale(after.diff(before)))
        assert goes in before
        assert dict(after) == {domain.domid: domain for domain in index}


def test_it_is_remembered_under_its_last_name(stage: Stage) -> None:
    """libxl takes the name away before it ends the domain, and the index may look in between."""
    with stage.index() as (index, heard):
        domid = made(stage, "web")[0]
        web = heard.named(domid, "web")
        stage.toolstack.rename(domid, None)
        index.refresh(timeout=PATIENCE)
        assert index.by_id(domid).name is None
        stage.toolstack.destroy(domid)
        assert index.wait_gone(web, timeout=PATIENCE).domain.name == "web"
        assert [event.domain.life for event in index.recent(name="web")] == [web.life]


def test_whose_it_was_can_be_told_later(stage: Stage) -> None:
    """P3: two guests had the domid one after the other, and both have gone."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        domid = made(stage, "web", uuid=uuid)[0]
        heard.until(Added, domid=domid)
        ended(stage, domid)
        with stage.unseen():
            stage.toolstack.create("db", domid=domid)
        heard.until(Added, domid=domid)
        ended(stage, domid)
        heard.told(index)
        assert [event.domain.name for event in index.recent(domid=domid)] == ["db", "web"]
        for key in ({"uuid": uuid}, {"name": "web"}, {"name": "web", "domid": domid}):
            assert [event.domain.uuid for event in index.recent(**key)] == [uuid]


class Fragile:
    """The stage's host, whose line breaks and cannot be opened while it is `broken`."""

    def __init__(self, host: Host) -> None:
        self.open_hypervisor = host.open_hypervisor
        self._host = host
        self._stores: list[Store] = []
        self._broken = False

    def open_store(self, timeout: float) -> Store:
        if self._broken:
            raise StoreLost("the line is broken on purpose")
        self._stores.append(store := self._host.open_store(timeout))
        return store

    def break_line(self, broken: bool = True) -> None:
        self._broken = broken
        for store in self._stores:
            store.interrupt()


def test_old_answers_are_served_up_to_an_age(stage: Stage) -> None:
    """P5: then each look-up says that it cannot tell, until the line is back."""
    domid = stage.toolstack.create("web")
    host = Fragile(stage.host)
    with domindex.connect(host, timing=Timing(retry_most=0.1), max_stale=2.0) as index:
        host.break_line()
        eventually(lambda: not index.live, "the line is lost")
        if index.age < 1.0:
            assert index.by_name("web").domid == domid
        eventually(lambda: "web" not in index.names, "what was known is too old")
        assert index.age > 2.0
        with pytest.raises(NotLive):
            index.by_id(domid)
        assert index.by_id(domid, stale="serve").name == "web"
        host.break_line(False)
        index.wait_live(PATIENCE)
        assert index.by_name("web").domid == domid
