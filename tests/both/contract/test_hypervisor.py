"""What every Hypervisor does, on the simulated and on the real host."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from domindex.domain import Domain, Life, OSType, Role, ShutdownReason
from domindex.ports import Hypervisor, Row, unique_id_of
from tests.stage import Stage, eventually


def row(hypervisor: Hypervisor, domid: int) -> Row:
    found = hypervisor.get(domid)
    assert found is not None
    return found


def test_dom0_comes_first_and_domids_ascend(played: Stage, hypervisor: Hypervisor) -> None:
    for _ in range(3):
        played.toolstack.create()
    domids = [listed.domid for listed in hypervisor.list()]
    assert domids[0] == 0
    assert domids == sorted(set(domids))
    assert set(played.toolstack.domids()) <= set(domids)


def test_a_list_is_the_caller_s_to_keep(played: Stage, hypervisor: Hypervisor) -> None:
    """What is done to one shows in no other."""
    played.toolstack.create()
    first = list(hypervisor.list())
    kept = hypervisor.list()
    assert isinstance(kept, list)
    kept.clear()
    assert [row.domid for row in hypervisor.list()] == [row.domid for row in first]


@pytest.mark.parametrize("type_", ["pv", "pvh", "hvm"])
def test_a_domain_is_listed_with_its_handle_and_type(
    played: Stage, hypervisor: Hypervisor, type_: str
) -> None:
    uuid = uuid4()
    domid = played.toolstack.create("web", uuid=uuid, type=type_)
    (listed,) = [found for found in hypervisor.list() if found.domid == domid]
    assert listed.handle == uuid.bytes
    assert listed.type is OSType(type_)
    assert listed.shutdown is None
    assert not listed.dying
    assert row(hypervisor, domid)[:5] == listed[:5]


def test_a_missing_domain_is_none_and_not_its_neighbour(
    played: Stage, hypervisor: Hypervisor
) -> None:
    low, high = played.toolstack.create(), played.toolstack.create()
    played.toolstack.destroy(low)
    assert hypervisor.get(low) is None
    assert hypervisor.info(low) is None
    assert hypervisor.get(0x7FEF) is None
    assert row(hypervisor, high).domid == high


@pytest.mark.parametrize("reason", [r for r in ShutdownReason if r < ShutdownReason.SOFT_RESET])
def test_a_shutdown_is_listed_with_its_reason(
    played: Stage, hypervisor: Hypervisor, reason: ShutdownReason
) -> None:
    domid = played.toolstack.create("web")
    played.toolstack.shutdown(domid, reason)
    assert row(hypervisor, domid).shutdown is reason


def test_a_zombie_is_listed_as_dying_until_it_is_let_go(
    played: Stage, hypervisor: Hypervisor
) -> None:
    domid = played.toolstack.create("web")
    let_go = played.toolstack.zombie(domid)
    assert row(hypervisor, domid).dying
    let_go()
    eventually(lambda: hypervisor.get(domid) is None, "the zombie is gone")


def test_info_tells_the_state_of_now(played: Stage, hypervisor: Hypervisor) -> None:
    domid = played.toolstack.create("web", type="pvh")
    played.toolstack.pause(domid)
    info = hypervisor.info(domid)
    assert info is not None
    assert info.paused
    assert info.state == "paused"
    assert info.type is OSType.PVH
    assert 0 < info.memory <= info.max_memory
    played.toolstack.crash(domid)
    info = hypervisor.info(domid)
    assert info is not None
    assert info.shutdown is ShutdownReason.CRASH
    assert info.state == "crashed"


def test_infos_is_info_of_all(played: Stage, hypervisor: Hypervisor) -> None:
    """Lowest domid first, a dying one among them; it holds memory until it is let go."""
    running, dying = played.toolstack.create("web"), played.toolstack.create("db")
    let_go = played.toolstack.zombie(dying)
    infos = hypervisor.infos()
    assert [*infos] == [row.domid for row in hypervisor.list()]
    assert all(domid == info.domid for domid, info in infos.items())
    mine, again = infos[running], hypervisor.info(running)
    assert again is not None
    assert again == mine._replace(cpu_time=again.cpu_time)  # which goes on
    assert not mine.dying
    assert infos.dying == (dying,)
    assert infos[dying].dying
    assert dying not in infos.chosen(dying=False)
    assert 0 < infos[dying].memory <= mine.memory
    let_go()
    eventually(lambda: dying not in hypervisor.infos(), "it is gone")


def test_a_changed_handle_is_seen(played: Stage, hypervisor: Hypervisor) -> None:
    domid, uuid = played.toolstack.create("web"), uuid4()
    played.toolstack.change_handle(domid, uuid)
    assert row(hypervisor, domid).handle == uuid.bytes


def test_cpu_time_does_not_fall_and_the_frame_stays(played: Stage, hypervisor: Hypervisor) -> None:
    domid = played.toolstack.create("web")
    first, dom0 = row(hypervisor, domid), row(hypervisor, 0)
    played.toolstack.rename(domid, "www")
    played.toolstack.unpause(domid)
    again, dom0_again = row(hypervisor, domid), row(hypervisor, 0)
    assert again.cpu_time >= first.cpu_time
    assert dom0_again.cpu_time > dom0.cpu_time
    assert (again.frame, dom0_again.frame) == (first.frame, dom0.frame)


def test_a_unique_id_is_of_one_life(played: Stage, hypervisor: Hypervisor) -> None:
    if not hypervisor.has_unique_ids:
        pytest.skip("this Xen is older than 4.21 and has no unique ids")
    domid, uuid = played.toolstack.create("web"), uuid4()
    first = unique_id_of(hypervisor, domid)
    played.toolstack.change_handle(domid, uuid)
    assert unique_id_of(hypervisor, domid) == first
    played.toolstack.destroy(domid)
    assert unique_id_of(hypervisor, domid) is None
    played.toolstack.create("web", domid=domid, uuid=uuid)
    assert unique_id_of(hypervisor, domid) not in (None, first)


def test_dom0_and_guests_have_their_roles(played: Stage, hypervisor: Hypervisor) -> None:
    """By the state where there is one, else by the list, which may not tell of guests."""
    domid = played.toolstack.create("web")
    dom0 = Role.CONTROL | Role.HARDWARE
    if hypervisor.has_unique_ids:
        assert [row(hypervisor, d).roles for d in (0, domid)] == [None, None]
        states = [hypervisor.state(d) for d in (0, domid)]
        assert [state and state.roles for state in states] == [dom0, Role(0)]
    else:
        assert [row(hypervisor, d).roles for d in (0, domid)] == [dom0, Role(0)]


def recorded(hypervisor: Hypervisor, domid: int) -> Domain:
    """What an index has of it."""
    now = row(hypervisor, domid)
    number = unique_id_of(hypervisor, domid) if hypervisor.has_unique_ids else None
    uuid = UUID(bytes=now.handle)
    life = Life(domid, number, uuid, 1.0)
    return Domain(domid, uuid, "web", now.type, life, 1.0, now.shutdown)


def test_a_domain_is_confirmed_while_all_of_it_holds(played: Stage, hypervisor: Hypervisor) -> None:
    """P7: uuid, type and shutdown, and the life where it has an id."""
    domid = played.toolstack.create("web", type="pvh")
    domain = recorded(hypervisor, domid)
    assert hypervisor.confirms(domain)
    assert not hypervisor.confirms(replace(domain, type=OSType.PV))
    played.toolstack.shutdown(domid)
    assert not hypervisor.confirms(domain)
    assert hypervisor.confirms(down := recorded(hypervisor, domid))
    other = uuid4()
    played.toolstack.change_handle(domid, other)
    assert not hypervisor.confirms(down)
    assert hypervisor.confirms(last := recorded(hypervisor, domid))
    played.toolstack.destroy(domid)
    assert not hypervisor.confirms(last)
    played.toolstack.create("web", uuid=other, type="pvh", domid=domid)
    played.toolstack.shutdown(domid)
    assert hypervisor.confirms(last) is not hypervisor.has_unique_ids


def test_closing_twice_is_no_error(hypervisor: Hypervisor) -> None:
    hypervisor.close()
    hypervisor.close()
