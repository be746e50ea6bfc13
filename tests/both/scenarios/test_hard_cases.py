"""Births, ends and everything between them that a toolstack does in an order of its own.

Each step is told in short (`tests.stage.tale`), and the same on the simulated and on every real
host. Promises by their numbers in the design.
"""

from __future__ import annotations

import re
from uuid import uuid4

import pytest

from domindex import NoSuchDomain, Removed, ShutDown
from domindex import ShutdownReason as Why
from domindex.testing import SimulatedHost
from tests.stage import Stage, news, tale, true_to_its_events

STOPS = [Why.POWEROFF, Why.REBOOT, Why.CRASH]
TYPES = ["pv", "pvh", "hvm"]


def frame(stage: Stage, domid: int) -> int | None:
    """The page that a domain shares with Xen: the same for two lives, and nothing tells them."""
    hypervisor = stage.host.open_hypervisor()
    try:
        row = hypervisor.get(domid)
        assert row is not None
        return row.frame
    finally:
        hypervisor.close()


# -- one domid, several lives -------------------------------------------------------------------


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("name", ["web", "db", None])
def test_domid_taken_over_between_two_looks(stage: Stage, name: str | None, type_: str) -> None:
    """P3: one look finds another life under the domid: Removed, then Added, in one generation."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web", type=type_)
        assert news(index, heard) == ["+web"]
        old = index.by_id(domid)
        with stage.unseen():
            stage.toolstack.destroy(domid)
            stage.toolstack.create(name, domid=domid, type=type_)
        events = heard.told(index)
        assert tale(events) == ["-web", f"+{name or '?'}"]
        assert len({event.generation for event in events}) == 1
        assert index.by_id(domid).life != old.life
        with pytest.raises(NoSuchDomain):
            index.by_uuid(old.uuid)
        true_to_its_events(index, heard)


@pytest.mark.parametrize("name", ["web", "db"])
def test_domid_and_uuid_taken_over(stage: Stage, name: str) -> None:
    """P3: the same domid with the same uuid is another life, where Xen shows it at all."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        domid = stage.toolstack.create("web", uuid=uuid)
        assert news(index, heard) == ["+web"]
        old, page = index.by_id(domid), frame(stage, domid)
        with stage.unseen():
            stage.toolstack.destroy(domid)
            stage.toolstack.create(name, domid=domid, uuid=uuid)
        if frame(stage, domid) == page and not index.capabilities.unique_ids:
            pytest.skip("this Xen has no unique ids and gave the new life the page of the old one")
        assert news(index, heard) == ["-web", f"+{name}"]
        assert index.by_uuid(uuid).life != old.life


@pytest.mark.parametrize(("before", "after"), [("pv", "pvh"), ("pvh", "pv"), ("pvh", "hvm")])
def test_domid_and_uuid_taken_over_by_another_type(stage: Stage, before: str, after: str) -> None:
    """P3: no life ever changes its type, so another type is another life."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        domid = stage.toolstack.create("web", uuid=uuid, type=before)
        assert news(index, heard) == ["+web"]
        with stage.unseen():
            stage.toolstack.destroy(domid)
            stage.toolstack.create("web", domid=domid, uuid=uuid, type=after)
        assert news(index, heard) == ["-web", "+web"]
        assert index.os_type(domid).value == after


def test_domid_taken_over_many_times(stage: Stage) -> None:
    """P2, P3: ten lives of one domid, looked at or not: a listener believes what is true."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("life-0", domid=30500)
        for number in range(1, 10):
            stage.toolstack.destroy(domid)
            stage.toolstack.create(f"life-{number}", domid=domid)
        told = news(index, heard)
        assert told[-1] == "+life-9"
        # A life may be seen when it has no name yet, or no more.
        assert re.fullmatch(r"(\+(life-\d|\?) -(life-\d|\?) )*\+life-9", " ".join(told))
        assert index.by_id(domid).name == "life-9"


# -- births -------------------------------------------------------------------------------------


def test_create_that_fails_unseen(stage: Stage) -> None:
    """P2: made, named, unnamed and ended before the introduction: not a single event."""
    with stage.index() as (index, heard):
        with stage.unseen():  # with watch depth the nodes would tell of it
            domid = stage.toolstack.create("web", introduce=False)
            stage.toolstack.rename(domid, None)
            stage.toolstack.destroy(domid)
        assert news(index, heard) == []
        with pytest.raises(NoSuchDomain):
            index.by_name("web", verify=True)


def test_create_that_fails_seen(stage: Stage) -> None:
    """P6: the same, looked at after each step: each is there, though nothing told of it."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web", introduce=False)
        assert news(index, heard) == ["+web"]
        stage.toolstack.rename(domid, None)
        assert news(index, heard) == ["web>?"]
        stage.toolstack.destroy(domid)
        assert news(index, heard) == ["-web"]


def test_failed_create_and_the_next_try(stage: Stage) -> None:
    """P3: a failed create is followed by a good one with its domid, name and uuid or others."""
    with stage.index() as (index, heard):
        failed = stage.toolstack.create("web", introduce=False)
        assert news(index, heard) == ["+web"]
        with stage.unseen():
            stage.toolstack.destroy(failed)
            stage.toolstack.create("web", domid=failed)
        assert news(index, heard) == ["-web", "+web"]


def test_a_miss_finds_what_was_never_introduced(stage: Stage) -> None:
    """P7: a verified look-up finds a domain that no event told of."""
    with stage.index() as (index, _):
        domid = stage.toolstack.create("web", introduce=False)
        assert index.by_name("web", verify=True).domid == domid


@pytest.mark.parametrize("type_", TYPES)
def test_created_in_the_order_of_xend(stage: Stage, type_: str) -> None:
    """P2: introduced before it has a name, it is held without one; the name is a rename."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create(type=type_)
        assert news(index, heard) == ["+?"]
        stage.toolstack.rename(domid, "web")
        assert news(index, heard) == ["?>web"]
        stage.toolstack.destroy(domid)
        assert news(index, heard) == ["-web"]


def test_introduced_long_after_it_was_named(stage: Stage) -> None:
    """P2: libxl's order; the introduction of a domain already seen is no news."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web", introduce=False)
        assert news(index, heard) == ["+web"]
        stage.toolstack.introduce(domid)
        assert news(index, heard) == []


def test_the_introduction_alone_tells_of_a_domain(stage: Stage) -> None:
    """P9: nobody asks for a refresh; the event of the introduction is enough."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web", introduce=False)
        stage.toolstack.introduce(domid)
        assert heard.named(domid, "web") == index.by_name("web")


# -- ends ---------------------------------------------------------------------------------------


def test_destroyed_in_the_order_of_libxl(stage: Stage) -> None:
    """P1: its node goes first: it runs on without a name, and its end has the last one."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        assert news(index, heard) == ["+web"]
        stage.toolstack.clear_node(domid)
        assert news(index, heard) == ["web>?"]
        with pytest.raises(NoSuchDomain):
            index.by_name("web", verify=True)
        assert index.by_id(domid, verify=True).name is None
        stage.toolstack.destroy(domid)
        assert news(index, heard) == ["-web"]


def test_destroyed_in_the_order_of_xapi(stage: Stage) -> None:
    """P1: its node outlives it: the end has the name, the removal of the node tells nothing."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        assert news(index, heard) == ["+web"]
        stage.toolstack.destroy(domid, order="xapi")
        assert news(index, heard) == ["-web"]
        stage.toolstack.leave_node(domid, "ghost")
        assert news(index, heard) == []
        stage.toolstack.clear_node(domid)
        assert news(index, heard) == []


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("reason", STOPS)
def test_the_reason_is_told_before_the_end(stage: Stage, reason: Why, type_: str) -> None:
    """P8: stopped for a reason, told as such, and again when the domain goes."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web", type=type_)
        assert news(index, heard) == ["+web"]
        stage.toolstack.shutdown(domid, reason)
        assert heard.until(ShutDown, domid=domid).reason is reason  # the event alone suffices
        why = reason.name.lower()
        assert index.by_name("web", verify=True).shutdown is reason
        stage.toolstack.destroy(domid)
        assert heard.until(Removed, domid=domid).reason is reason
        assert f"web!{why}" in tale(heard.events)
        assert tale(heard.events)[-1] == f"-web ({why})"


def test_stopped_and_ended_between_two_looks(stage: Stage) -> None:
    """P1: nobody saw why it stopped, so no reason is told."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        assert news(index, heard) == ["+web"]
        with stage.unseen():
            stage.toolstack.crash(domid)
            stage.toolstack.destroy(domid)
        assert news(index, heard) == ["-web"]


def test_reboot(stage: Stage) -> None:
    """P3: the life that asked for it ends; another with its name and uuid begins elsewhere."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        first = stage.toolstack.create("web", uuid=uuid)
        assert news(index, heard) == ["+web"]
        old = index.by_uuid(uuid)
        stage.toolstack.shutdown(first, Why.REBOOT)
        assert news(index, heard) == ["web!reboot"]
        with stage.unseen():
            stage.toolstack.destroy(first)
            second = stage.toolstack.create("web", uuid=uuid)
        assert news(index, heard) == ["-web (reboot)", "+web"]
        assert second != first
        assert index.by_uuid(uuid) == index.by_name("web") == index.by_id(second)
        assert index.by_uuid(uuid).life != old.life


# -- zombies ------------------------------------------------------------------------------------


def test_zombie_and_its_heir(stage: Stage) -> None:
    """P5: name and uuid of a zombie belong to the domain that lives."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        first = stage.toolstack.create("web", uuid=uuid)
        assert news(index, heard) == ["+web"]
        let_go = stage.toolstack.zombie(first)
        assert news(index, heard) == ["-web"]
        second = stage.toolstack.create("web", uuid=uuid)
        assert news(index, heard) == ["+web"]
        assert first in stage.toolstack.domids()
        assert index.by_uuid(uuid, verify=True) == index.by_name("web", verify=True)
        assert index.by_uuid(uuid).domid == second
        let_go()
        assert news(index, heard) == []


def test_zombie_with_a_name(stage: Stage) -> None:
    """P1: a name written for a zombie names nobody; its domid is free once it is let go."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        assert news(index, heard) == ["+web"]
        let_go = stage.toolstack.zombie(domid)
        assert news(index, heard) == ["-web"]
        stage.toolstack.rename(domid, "ghost")
        assert news(index, heard) == []
        with pytest.raises(NoSuchDomain):
            index.by_id(domid, verify=True)
        refused = ValueError if isinstance(stage.host, SimulatedHost) else FileExistsError
        with pytest.raises(refused):
            stage.toolstack.create("db", domid=domid)
        stage.toolstack.clear_node(domid)
        let_go()
        stage.toolstack.create("db", domid=domid)
        assert news(index, heard) == ["+db"]


def test_stopped_domain_becomes_a_zombie(stage: Stage) -> None:
    """P8: why it stopped is told with its end, while the zombie is still listed."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        stage.toolstack.crash(domid)
        assert news(index, heard)[-1] in ("web!crash", "+web")
        assert index.by_id(domid).shutdown is Why.CRASH
        let_go = stage.toolstack.zombie(domid)
        assert news(index, heard) == ["-web (crash)"]
        let_go()
        assert news(index, heard) == []
