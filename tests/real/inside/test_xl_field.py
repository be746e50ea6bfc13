"""What people report of hosts, with guests that run: by the real toolstack."""

from __future__ import annotations

from uuid import UUID

import pytest

from domindex import Changed, Removed
from tests.stage import Stage, tale

from . import xl

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
