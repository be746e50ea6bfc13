"""The lives that `xl` gives and takes: the index follows the real toolstack, not an imitation."""

from __future__ import annotations

from uuid import uuid4

import pytest

from domindex import Added, Ambiguous, NoSuchDomain, OSType, Removed, Renamed, ShutDown
from domindex import ShutdownReason as Why
from tests.stage import Stage

from . import xl

pytestmark = pytest.mark.usefixtures("alone")


@pytest.mark.parametrize("type_", ["pv", "pvh", "hvm"])
def test_xl_create_and_destroy(stage: Stage, type_: str) -> None:
    """`xl create` is one Added with name, uuid and type; `xl destroy` one Removed."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        domid = xl.create("web", type_, uuid=uuid)
        told = heard.named(domid, "web")
        assert told.uuid == uuid
        assert told.type is OSType(type_)
        assert index.by_name("web", verify=True) == index.by_uuid(uuid) == index.by_id(domid)
        assert {d.domid: d.printable for d in index} == xl.list()
        xl.destroy(domid)
        heard.until(Removed, domid=domid)
        with pytest.raises(NoSuchDomain):
            index.by_name("web", verify=True)
        kinds = [type(event) for event in heard.events + heard.rest() if event.generation > 1]
        # libxl takes the name away before it destroys: that may be seen as a step of its own.
        assert [kind for kind in kinds if kind is not Renamed] == [Added, Removed]


def test_xl_rename(stage: Stage) -> None:
    """`xl rename` is one Renamed."""
    with stage.index() as (index, heard):
        domid = xl.create("web")
        heard.named(domid, "web")
        xl.rename("web", "www")
        told = heard.until(Renamed, domid=domid)
        assert (told.old.name, told.new.name) == ("web", "www")
        assert index.by_name("www").domid == domid
        xl.destroy(domid)


def test_xl_pause_and_unpause(stage: Stage) -> None:
    """Neither is an event; `info` knows at once."""
    with stage.index() as (index, heard):
        domid = xl.create("web", paused=False)
        heard.named(domid, "web")
        assert not index.info(domid).paused
        xl.pause(domid)
        assert index.info(domid).state == "paused"
        xl.unpause(domid)
        assert not index.info(domid).paused
        index.refresh(timeout=60)
        assert heard.rest() == []
        xl.destroy(domid)


def test_guest_crash(stage: Stage) -> None:
    """A guest that crashes is told as such while it is kept."""
    with stage.index() as (index, heard):
        domid = xl.create("web", guest="crash", on_crash="preserve")
        heard.named(domid, "web")
        xl.unpause(domid)
        assert heard.until(ShutDown, domid=domid).reason is Why.CRASH
        assert index.by_id(domid).shutdown is Why.CRASH
        assert index.info(domid).state == "crashed"
        xl.destroy(domid)
        assert heard.until(Removed, domid=domid).reason is Why.CRASH


def test_xl_destroy_and_create_of_the_same_name(stage: Stage) -> None:
    """The name goes over to the new life, with another domid."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        first = xl.create("web", uuid=uuid)
        old = heard.named(first, "web")
        xl.destroy(first)
        second = xl.create("web", uuid=uuid)
        new = heard.named(second, "web")
        assert index.by_name("web", verify=True) == new
        assert index.by_uuid(uuid) == new
        assert new.life != old.life
        xl.destroy(second)


def test_preserve(stage: Stage) -> None:
    """A preserved corpse gets another name and keeps its handle: its heir shares the uuid."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        corpse = xl.create("web", uuid=uuid, guest="crash", on_crash="rename-restart")
        heard.named(corpse, "web")
        xl.unpause(corpse)
        heard.until((Added, Renamed), name="web")
        heir = index.by_name("web", verify=True)
        assert heir.domid != corpse
        assert index.by_id(corpse).name != "web"
        assert index.by_id(corpse).shutdown is Why.CRASH
        with pytest.raises(Ambiguous) as caught:
            index.by_uuid(uuid)
        assert {domain.domid for domain in caught.value.domains} == {corpse, heir.domid}
