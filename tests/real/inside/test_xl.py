"""Every kind of domain can be made with `xl` on the emulated host."""

from __future__ import annotations

import subprocess
from uuid import uuid4

import pytest

from . import xl

pytestmark = pytest.mark.usefixtures("alone")


@pytest.mark.parametrize("type", ["pv", "pvh", "hvm"])
def test_a_life(type: str) -> None:
    uuid = uuid4()
    domid = xl.create("web", type, uuid=uuid)
    assert xl.list()[domid] == "web"
    assert str(uuid) in xl.run("list", "-v")
    xl.rename(domid, "db")
    assert xl.list()[domid] == "db"
    if type != "hvm":
        xl.unpause(domid)
        xl.pause(domid)
    xl.destroy("db")
    assert domid not in xl.list()


@pytest.mark.parametrize("type", ["pv", "pvh"])
def test_a_crashed_domain_is_kept_if_asked(type: str) -> None:
    domid = xl.create("web", type, guest="crash", on_crash="preserve", paused=False)
    # `xl` renames what it keeps only when it starts a successor; this one keeps its name.
    assert xl.list()[domid] == "web"


def test_restarting_xenstored_forgets_everything() -> None:
    domid = xl.create("web")
    subprocess.run(["xenstored-restart"], check=True, timeout=60)
    assert xl.list()[domid] == "(null)"
