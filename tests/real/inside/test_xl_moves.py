"""Saving, restoring and migrating by `xl`, and domids given out at random.

libxl asks a PV or PVH guest through xenstore to suspend itself. The guests of one page know nothing
of xenstore: `suspends` answers for them. A PV guest would have to leave more behind than it has.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from domindex import Added, Removed, Renamed, ShutDown
from domindex import ShutdownReason as Why
from domindex.ports import Watch
from tests.stage import PATIENCE, Stage, tale, true_to_its_events

from . import xl
from .kinds import saves

pytestmark = pytest.mark.usefixtures("alone")


@contextmanager
def suspends(stage: Stage, domid: int) -> Iterator[None]:
    """In this block the guest does what libxl asks it for in xenstore: it suspends, once."""
    path = f"/local/domain/{domid}/control/shutdown"
    done = threading.Event()
    line = stage.host.open_store(60.0)

    def answer() -> None:
        line.watch([Watch(path.encode(), b"asked")])
        while not done.is_set():
            line.wait(1.0)
            if list(line.events()) and line.read([path.encode()]) == [b"suspend"]:
                subprocess.run(["xenstore-write", path, ""], check=True, timeout=60)
                stage.toolstack.shutdown(domid, Why.SUSPEND)
                return

    guest = threading.Thread(target=answer)
    guest.start()
    try:
        yield
    finally:
        done.set()
        guest.join()
        line.close()


@saves
def test_xl_save_and_restore(stage: Stage, tmp_path: Path) -> None:
    """P3: what is saved ends, stopped to be suspended; what is restored is another life of it."""
    file = tmp_path / "web"
    with stage.index() as (index, heard):
        uuid = uuid4()
        first = xl.create("web", "pvh", uuid=uuid, paused=False)
        old = heard.named(first, "web")
        with suspends(stage, first):
            xl.save("web", file)
        told = heard.until(ShutDown, domid=first)
        assert told.reason is Why.SUSPEND
        assert heard.until(Removed, domid=first).reason is Why.SUSPEND
        assert uuid not in index.uuids
        xl.restore(file)
        heard.until((Added, Renamed), name="web")
        new = index.by_name("web", verify=True)
        assert new == index.by_uuid(uuid)
        assert new.life != old.life
        assert new.shutdown is None
        heard.told(index)
        true_to_its_events(index, heard)


@saves
def test_xl_save_and_go_on(stage: Stage, tmp_path: Path) -> None:
    """P2: a domain that is saved and goes on is the same life, and no longer stopped."""
    with stage.index() as (index, heard):
        domid = xl.create("web", "pvh", paused=False)
        before = heard.named(domid, "web")
        with suspends(stage, domid):
            xl.save("web", tmp_path / "web", stay="run")
        # No event tells that it goes on: the next probe finds it out.
        ready = index.wait_for(name="web", ready=True, timeout=PATIENCE)
        assert ready == before == index.by_id(domid)
        assert not [text for text in tale(heard.told(index)) if text[0] in "+-"]
        assert index.by_name("web", verify=True) == before


@saves
def test_xl_restore_twice(stage: Stage, tmp_path: Path) -> None:
    """P5: a file may be restored again when the first has another name: two with one uuid."""
    file = tmp_path / "web"
    with stage.index() as (index, heard):
        uuid = uuid4()
        saved = xl.create("web", "pvh", uuid=uuid, paused=False)
        with suspends(stage, saved):
            xl.save("web", file)
        xl.restore(file)
        index.refresh(timeout=60)
        first = index.by_name("web")
        xl.rename("web", "web-1")
        heard.named(first.domid, "web-1")
        xl.restore(file)
        heard.told(index)
        assert [domain.name for domain in index.all_by_uuid(uuid)] == ["web-1", "web"]
        true_to_its_events(index, heard)


@saves
def test_xl_migrate_to_the_same_host(stage: Stage) -> None:
    """P5: source and target share the uuid; the name goes from one to the other by way of two."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        source = xl.create("web", "pvh", uuid=uuid, paused=False)
        old = heard.named(source, "web")
        with suspends(stage, source):
            xl.migrate("web")
        told = tale(heard.told(index))
        new = index.by_name("web", verify=True)
        assert new == index.by_uuid(uuid)
        assert new.domid != source
        assert new.life != old.life
        assert told[-1].startswith(("-web", "web--incoming>web"))
        assert "web--incoming>web" in told
        true_to_its_events(index, heard)


def test_xl_random_domids(stage: Stage) -> None:
    """P2: with domid_policy="random" domids come in any order, and the index keeps them sorted."""
    with stage.index() as (index, heard), xl.configured('domid_policy="random"'):
        made = [xl.create(f"vm-{number}") for number in range(4)]
        for number, domid in enumerate(made):
            heard.named(domid, f"vm-{number}")
        assert max(made) > 1000
        assert [domain.domid for domain in index] == [0, *sorted(made)]
        for domid in made:
            xl.destroy(domid)
        heard.told(index)
        assert [domain.domid for domain in index] == [0]
        true_to_its_events(index, heard)
