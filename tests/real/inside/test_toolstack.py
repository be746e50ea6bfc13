"""The tests' own toolstack does on a real host what it says, as others see it.

Other tests trust `RealHost` to make things happen. Here `xl` and `xenstore-ls` are asked.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from . import xl
from .kinds import KINDS
from .toolstack import RealHost


@pytest.fixture
def host() -> Iterator[RealHost]:
    host = RealHost()
    yield host
    host.close()
    assert set(xl.list()) == {0}


def states() -> dict[int, str]:
    """The state letters of each domain in `xl list`."""
    rows = [line.split() for line in xl.run("list").splitlines()[1:]]
    return {int(row[-5]): row[-2] for row in rows}


def store(path: str) -> str:
    """All nodes below `path`; empty if it does not exist."""
    done = subprocess.run(
        ["xenstore-ls", "-f", path], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout


@pytest.mark.parametrize("type", ["pv", "pvh", "hvm"])
def test_a_domain_is_seen_by_xl(host: RealHost, type: str) -> None:
    uuid = uuid4()
    domid = host.create("web", uuid=uuid, type=type)
    assert xl.list()[domid] == "web"
    assert states()[domid] == "--p---"
    assert str(uuid) in xl.run("list", "-v")
    assert f'/local/domain/{domid}/name = "web"' in store("/local/domain")
    assert f'/vm/{uuid}/name = "web"' in store("/vm")
    assert host.domids() == [domid]
    host.destroy(domid)
    assert domid not in xl.list()
    assert f"/local/domain/{domid}" not in store("/local/domain")
    assert host.domids() == []


def test_a_domain_without_name_or_introduction(host: RealHost) -> None:
    domid = host.create(introduce=False)
    assert xl.list()[domid] == "(null)"
    assert f"/local/domain/{domid}/name" not in store("/local/domain")


def test_a_domid_can_be_chosen(host: RealHost) -> None:
    domid = host.create("far", domid=4242)
    assert domid == 4242
    host.destroy(domid)
    assert host.create("again", domid=4242) == 4242


def test_a_taken_domid_is_refused(host: RealHost) -> None:
    domid = host.create("first")
    with pytest.raises(FileExistsError):
        host.create("second", domid=domid)


def test_rename(host: RealHost) -> None:
    domid = host.create("a")
    host.rename(domid, "b")
    assert xl.list()[domid] == "b"
    host.rename(domid, b"\xff")
    shown = store("/local/domain")  # in hexadecimal, by older releases in octal
    assert any(f'{domid}/name = "{name}"' in shown for name in ("\\xff", "\\377"))
    host.rename(domid, None)
    assert f"/local/domain/{domid}/name" not in store("/local/domain")
    host.rename(domid, None)


def test_pause_shutdown_crash(host: RealHost) -> None:
    domid = host.create("a")
    host.pause(domid)
    host.unpause(domid)
    assert states()[domid] == "--p---"
    host.crash(domid)
    assert states()[domid] == "--psc-"
    other = host.create("b", type=KINDS[-1])
    host.shutdown(other, reason=0)
    assert states()[other] == "--ps--"


def test_a_handle_can_be_changed(host: RealHost) -> None:
    domid = host.create("a")
    uuid = UUID(int=0x1234)
    host.change_handle(domid, uuid)
    assert str(uuid) in xl.run("list", "-v")
    assert str(uuid) not in store("/vm")


def test_xapi_leaves_the_name_behind(host: RealHost) -> None:
    domid = host.create("a")
    host.destroy(domid, order="xapi")
    assert domid not in xl.list()
    assert f'/local/domain/{domid}/name = "a"' in store("/local/domain")
    host.clear_node(domid)
    assert f"/local/domain/{domid}" not in store("/local/domain")


def test_a_node_without_a_domain(host: RealHost) -> None:
    host.leave_node(777, "ghost")
    assert '/local/domain/777/name = "ghost"' in store("/local/domain")
    assert 777 not in xl.list()
    host.clear_node(777)
    assert "/local/domain/777" not in store("/local/domain")


@pytest.mark.parametrize("type", ["pv", "hvm"])
def test_a_zombie_stays_until_it_is_let_go(host: RealHost, type: str) -> None:
    domid = host.create("a", type=type)
    let_go = host.zombie(domid)
    assert states()[domid].endswith("d")
    assert host.domids() == [domid]
    let_go()
    assert domid not in xl.list()
    let_go()


def test_close_ends_zombies_too() -> None:
    host = RealHost()
    host.zombie(host.create("a"))
    host.create("b")
    host.close()
    assert set(xl.list()) == {0}
