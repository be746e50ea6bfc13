"""What people report of hosts, with guests that run: by the real toolstack."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from domindex import Changed, Removed
from tests.stage import PATIENCE, Stage, tale

from . import xl
from .kinds import saves
from .test_xl_moves import suspends

pytestmark = pytest.mark.usefixtures("alone")


def test_marked_dead_as_another_ends(stage: Stage) -> None:
    """P3: another domain's end at the same moment does not make a marked handle a death."""
    with stage.index() as (index, heard):
        domid = xl.create("web", paused=False)
        record = heard.named(domid, "web")
        other = stage.toolstack.create("other")
        heard.told(index)
        assert index.info(domid).cpu_time > 0
        with stage.unseen():
            stage.toolstack.change_handle(domid, UUID("deadbeef-dead-beef-dead-beef00000001"))
            stage.toolstack.destroy(other, order="at once" if not stage.real else "libxl")
        assert heard.until(Changed, domid=domid).new.life == record.life
        heard.told(index)
        assert not [text for text in tale(heard.events) if text.startswith("-web")]
        xl.destroy(domid)
        assert heard.until(Removed, domid=domid).domain.life == record.life


@saves
def test_saved_and_let_go_on(stage: Stage, tmp_path: Path) -> None:
    """P2: `xl save -c` resumes a guest without an event: known within `probe` seconds."""
    with stage.index() as (index, heard):
        domid = xl.create("web", "pvh", paused=False)
        record = heard.named(domid, "web")
        with suspends(stage, domid):
            xl.save("web", tmp_path / "web", stay="run")
        ready = index.wait_for(name="web", ready=True, timeout=PATIENCE)
        assert ready.life == record.life
        assert not [text for text in tale(heard.rest()) if text[0] in "+-"]
