"""What people report of their hosts: what no event tells of, and handles that change.

Each was once told wrongly, or late, on a real host. No refresh helps here: the index has to find
out by itself, within the time between two probes.
"""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from domindex import Added, Changed, NoSuchDomain, Rebooted, Removed, Renamed, ShutDown, Timing
from domindex import ShutdownReason as Why
from tests.both.scenarios.seen import hears
from tests.stage import IN_DOM0, PATIENCE, Stage, eventually, tale, true_to_its_events

TIMING = Timing(probe=1.0 if IN_DOM0 else 0.05)
"""The probe has to find what is asked for here; no audit comes to help."""


def test_dom0_is_given_a_uuid(stage: Stage) -> None:
    """P3: xenopsd gives the running dom0 a uuid at each start: a change of one life."""
    with stage.index(TIMING) as (index, heard):
        before = index.by_id(0)
        grace = hears(index, events=(Added, Removed, Rebooted), replay=False, reboot_grace=0.1)
        try:
            for uuid in (uuid4(), uuid4()):
                stage.toolstack.change_handle(0, uuid)
                assert heard.until(Changed, domid=0).new.uuid == uuid
                assert index.by_uuid(uuid, verify=True) == index.by_id(0)
                assert index.by_id(0).life == before.life
        finally:
            stage.toolstack.change_handle(0, before.uuid)
        heard.until(Changed, domid=0)
        assert not [event for event in grace.told(index) if isinstance(event, (Removed, Rebooted))]
        true_to_its_events(index, heard)


@pytest.mark.parametrize("type_", ["pv", "hvm"])
def test_a_guest_is_given_another_uuid(stage: Stage, type_: str) -> None:
    """P3, P2: no event tells of it, and its name stays: the same life, within `probe` seconds."""
    with stage.index(TIMING) as (index, heard):
        old, new = uuid4(), uuid4()
        domid = stage.toolstack.create("web", uuid=old, type=type_)
        record = heard.named(domid, "web")
        heard.told(index)
        seen: list[bytes | None] = []
        with index.watch(record, "data", lambda _, value: seen.append(value)) as node:
            stage.toolstack.change_handle(domid, new)
            told = heard.until(Changed, domid=domid)
            assert told.fields == ("uuid",)
            assert told.new.life == record.life
            assert index.by_uuid(new) == index.by_name("web", verify=True)
            with pytest.raises(NoSuchDomain):
                index.by_uuid(old)
            stage.toolstack.write(domid, "data", b"still heard")
            eventually(lambda: seen[-1:] == [b"still heard"], "the node is followed")
            assert not node.closed
        stage.toolstack.destroy(domid)
        gone = heard.until(Removed, domid=domid)
        for uuid in (old, new):
            assert [event.domain.life for event in index.recent(uuid=uuid)] == [gone.domain.life]


def test_the_node_of_the_uuid_is_written(stage: Stage) -> None:
    """P2: toolstacks write `vm` after they changed the handle: one watch for all tells of it.

    Where every name has a watch of its own it is known at the next probe, seconds later.
    """
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        heard.named(domid, "web")
        heard.told(index)
        lists = index.stats.lists
        new = uuid4()
        stage.toolstack.change_handle(domid, new)
        stage.toolstack.write(domid, "vm", f"/vm/{new}".encode())
        assert heard.until(Changed, domid=domid).new.uuid == new
        if index.capabilities.one_watch:
            assert index.stats.lists == lists


def test_marked_dead_before_its_end(stage: Stage) -> None:
    """P3: xenopsd marks the handle of a domain that is about to end; it ends once, later."""
    with stage.index(TIMING) as (index, heard):
        domid = stage.toolstack.create("web")
        record = heard.named(domid, "web")
        heard.told(index)
        stage.toolstack.shutdown(domid)
        heard.until(ShutDown, domid=domid)
        index.refresh(timeout=PATIENCE)  # the event of it is past
        dead = UUID(f"deadbeef-dead-beef-dead-beef{domid:08x}")
        stage.toolstack.change_handle(domid, dead)
        assert heard.until(Changed, domid=domid).new.life == record.life
        stage.toolstack.destroy(domid, order="xapi")
        assert heard.until(Removed, domid=domid).domain.life == record.life
        stage.toolstack.clear_node(domid)
        heard.told(index)
        assert [text[0] for text in tale(heard.events) if "web" in text].count("-") == 1


def test_never_introduced(stage: Stage) -> None:
    """P2: no event tells of the birth and the end of a domain that xenstored never hears of."""
    with stage.index(TIMING) as (index, heard):
        uuid = uuid4()
        domid = stage.toolstack.create(None, uuid=uuid, introduce=False)
        born = index.wait_for(uuid=uuid, timeout=PATIENCE)
        assert heard.until(Added, domid=domid).domain.life == born.life
        stage.toolstack.destroy(domid)
        assert index.wait_gone(born, timeout=PATIENCE).domain.life == born.life
        told = heard.until(Removed, domid=domid)
        assert told.inferred or stage.real  # oxenstored may tell of another end just then
        assert not index.stats.deaf


def test_released_before_its_end(stage: Stage) -> None:
    """P2: where xenstored let go of a domain first, nothing tells of its end."""
    with stage.index(TIMING) as (index, heard):
        domid = stage.toolstack.create("web")
        record = heard.named(domid, "web")
        stage.toolstack.release(domid)
        heard.told(index)
        stage.toolstack.destroy(domid, order="xapi")
        index.wait_gone(record, timeout=PATIENCE)
        heard.until(Removed, domid=domid)
        stage.toolstack.clear_node(domid)


def test_resumed(stage: Stage) -> None:
    """P2: a failed migration resumes the guest, and no event tells of it."""
    with stage.index(TIMING) as (index, heard):
        domid = stage.toolstack.create("web", type="pvh")
        record = heard.named(domid, "web")
        stage.toolstack.shutdown(domid, Why.SUSPEND)
        heard.until(ShutDown, domid=domid)
        stage.toolstack.resume(domid)
        ready = index.wait_for(name="web", ready=True, timeout=PATIENCE)
        assert ready.life == record.life
        assert heard.until(Changed, domid=domid).fields == ("shutdown",)


def test_ended_by_its_watchdog(stage: Stage) -> None:
    """P8: a watchdog's end is a restart by default, so it may be half of a reboot."""
    with stage.index(TIMING) as (index, heard):
        uuid = uuid4()
        first = stage.toolstack.create("web", uuid=uuid)
        heard.named(first, "web")
        grace = hears(index, events=(Rebooted, Removed), reboot_grace=PATIENCE)
        stage.toolstack.shutdown(first, Why.WATCHDOG)
        heard.until(ShutDown, domid=first)
        stage.toolstack.destroy(first)
        second = stage.toolstack.create("web", uuid=uuid)
        told = grace.until(Rebooted)
        assert (told.old.domid, told.new.domid) == (first, second)


def test_the_end_has_the_name(stage: Stage) -> None:
    """P8: libxl takes the name away before it ends the domain: who chose by name hears the end."""
    with stage.index(TIMING) as (index, heard):
        only = hears(index, events=(Added, Removed), where=lambda domain: domain.name == "web")
        domid = stage.toolstack.create("web")
        heard.named(domid, "web")
        heard.told(index)
        stage.toolstack.destroy(domid)
        assert only.until(Removed, domid=domid).domain.name == "web"
        assert isinstance(heard.until((Renamed, Removed), domid=domid), (Renamed, Removed))
