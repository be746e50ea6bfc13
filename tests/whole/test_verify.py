"""Verified look-ups: what the hypervisor says now, at the price that is promised."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from domindex.domain import Domain, OSType, ShutdownReason
from domindex.errors import Ambiguous, HypercallFailed, NoSuchDomain, NotLive
from domindex.index import Index
from domindex.opening import connect
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, SHARP, Meddler, eventually

U, V = UUID(int=1), UUID(int=2)


@pytest.fixture
def meddler(host: SimulatedHost) -> Meddler:
    """A host with one guest, domid 7, whose calls can be stepped between."""
    host.create("web", uuid=U, type="pvh", domid=7)
    return Meddler(host)


@pytest.fixture
def index(meddler: Meddler) -> Iterator[Index]:
    """An index that follows the host and does nothing by itself."""
    with connect(meddler, timing=CALM) as opened:
        opened.refresh()
        yield opened


LOOKUPS: list[Callable[[Index], object]] = [
    lambda index: index.by_name("web", verify=True),
    lambda index: index.by_name(b"web", verify=True),
    lambda index: index.by_uuid(U, verify=True),
    lambda index: index.by_uuid(str(U).upper(), verify=True),
    lambda index: index.by_id(7, verify=True),
    lambda index: index.os_type(7, verify=True),
]


@pytest.mark.parametrize("look_up", LOOKUPS)
def test_a_hit_costs_one_hypercall_and_no_request(
    host: SimulatedHost, index: Index, look_up: Callable[[Index], object]
) -> None:
    """P7: the answer is the record that is held, and the hypervisor agreed. Where the life has
    an id that is a second question."""
    two = index.capabilities.unique_ids
    before = host.hypercalls, host.requests
    assert look_up(index) in (index.by_id(7), OSType.PVH)
    assert (host.hypercalls, host.requests) == (before[0] + 1 + two, before[1])


@pytest.mark.parametrize("look_up", LOOKUPS)
@pytest.mark.parametrize("order", ["libxl", "xapi"])
def test_a_domain_that_has_gone_is_not_given(
    host: SimulatedHost, index: Index, look_up: Callable[[Index], object], order: str
) -> None:
    """P7: contradicted, refreshed, proven absent; though no event ever told of it."""
    host.lose_events(100)
    host.destroy(7, order=order)
    assert index.by_name("web").domid == 7
    with pytest.raises(NoSuchDomain):
        look_up(index)


@pytest.mark.parametrize("look_up", LOOKUPS)
def test_a_zombie_is_not_given(
    host: SimulatedHost, index: Index, look_up: Callable[[Index], object]
) -> None:
    """P7: listed, and gone all the same."""
    host.lose_events(100)
    host.zombie(7)
    with pytest.raises(NoSuchDomain):
        look_up(index)


def test_a_domain_nobody_told_of_is_found(host: SimulatedHost, index: Index) -> None:
    """P7: a miss is proven by a refresh, which finds it."""
    host.create("quiet", uuid=V, domid=9, introduce=False)
    with pytest.raises(NoSuchDomain):
        index.by_name("quiet")
    assert index.by_name("quiet", verify=True).domid == 9
    host.create("still", uuid=UUID(int=3), domid=10, introduce=False)
    assert index.by_uuid(UUID(int=3), verify=True).domid == 10
    host.create("mute", domid=11, introduce=False)
    assert index.os_type(11, verify=True) is OSType.PV


def test_a_miss_is_proven_at_the_price_of_a_refresh(host: SimulatedHost, index: Index) -> None:
    """P7: absence costs one round trip and one list (and ids, where there are)."""
    before = host.hypercalls, host.requests
    with pytest.raises(NoSuchDomain):
        index.by_name("nobody", verify=True)
    ids = 2 if index.capabilities.unique_ids else 0  # of dom0 and the guest
    assert (host.hypercalls, host.requests) == (before[0] + 1 + ids, before[1] + 1)


def test_a_domid_reused_unnoticed_gives_the_new_life(host: SimulatedHost, index: Index) -> None:
    """P7, P3: handle and cpu time give it away."""
    host.spend(7, 1_000_000_000)
    index.refresh()
    old = index.by_id(7)
    host.lose_events(100)
    host.destroy(7)
    host.create("new", uuid=V, type="pvh", domid=7)
    new = index.by_id(7, verify=True)
    assert (new.name, new.uuid) == ("new", V)
    assert new.life != old.life
    with pytest.raises(NoSuchDomain):
        index.by_name("web", verify=True)


@pytest.mark.parametrize("watch_depth", [False, True])
def test_a_domid_reused_unnoticed_with_the_same_uuid_gives_the_new_life(watch_depth: bool) -> None:
    """P7, P3: the unique id gives it away. Without one nothing would."""
    host = SimulatedHost(unique_ids=True, watch_depth=watch_depth)
    host.create("web", uuid=U, type="pvh", domid=7)
    with host.connect(timing=CALM) as index:
        old = index.by_id(7)
        host.lose_events(100)
        host.destroy(7)
        host.create("new", uuid=U, type="pvh", domid=7)
        assert index.by_id(7, verify=True).life != old.life
        assert index.by_uuid(U, verify=True).name == "new"


def test_a_uuid_that_changed_unnoticed_is_not_given(host: SimulatedHost, index: Index) -> None:
    """P7: XAPI gives a live domain another handle, and nobody is told of it."""
    host.change_handle(7, V)
    assert index.by_uuid(U).domid == 7
    with pytest.raises(NoSuchDomain):
        index.by_uuid(U, verify=True)


def test_a_uuid_that_came_unnoticed_is_found(host: SimulatedHost, index: Index) -> None:
    """P7: the same change, asked from the other side."""
    host.change_handle(7, V)
    assert index.by_uuid(V, verify=True).domid == 7


def test_a_crash_nobody_told_of_is_seen(host: SimulatedHost, index: Index) -> None:
    """P7: what the hypervisor says now is part of the record."""
    host.lose_events(100)
    host.crash(7)
    assert index.by_id(7, verify=True).shutdown is ShutdownReason.CRASH


def test_a_second_holder_nobody_told_of_does_not_make_a_hit_a_miss(
    host: SimulatedHost, index: Index
) -> None:
    """P7: the hit path asks about one domain; the other is found by the next refresh."""
    host.create("web", introduce=False)
    assert index.by_name("web", verify=True).domid == 7
    index.refresh()
    with pytest.raises(Ambiguous) as raised:
        index.by_name("web", verify=True)
    assert len(raised.value.domains) == 2


def test_an_ambiguity_that_is_over_is_resolved(host: SimulatedHost, index: Index) -> None:
    """P7: a local migration ended, and its event is still under way."""
    other = host.create("web", uuid=U)
    index.refresh()
    host.lose_events(100)
    host.destroy(7)
    with pytest.raises(Ambiguous):
        index.by_uuid(U)
    assert index.by_uuid(U, verify=True).domid == other
    assert index.by_name("web", verify=True).domid == other


def test_a_host_that_changes_under_every_look_gives_a_record_or_an_error(
    host: SimulatedHost, meddler: Meddler, index: Index
) -> None:
    """P7: it gives up after a few rounds instead of going round for ever."""

    def again() -> None:
        host.destroy(7, order="at once")
        host.create("web", uuid=V if index.by_id(7).uuid == U else U, type="pvh", domid=7)
        meddler.meddle["before look"] = lambda: meddler.meddle.__setitem__("before look", again)

    meddler.meddle["before look"] = again
    found = index.by_name("web", verify=True)
    assert isinstance(found, Domain)
    meddler.meddle.clear()


def test_a_refused_hypercall_is_said(host: SimulatedHost, index: Index) -> None:
    """P7: neither a stale answer nor absence."""
    host.refuse_hypercalls()
    with pytest.raises(HypercallFailed):
        index.by_name("web", verify=True)
    host.refuse_hypercalls(False)


def test_while_the_line_is_down_a_hit_is_verified_and_a_miss_cannot_tell(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P5, P7: the hypervisor answers by itself; absence needs the line, or its return."""
    host.create("web", domid=7)
    with host.connect(timing=SHARP) as index:
        host.stop_xenstored()
        eventually(lambda: not index.live)
        assert index.by_name("web", verify=True).domid == 7
        refresh = index.refresh
        monkeypatch.setattr(index, "refresh", lambda: refresh(0.02))
        with pytest.raises(NotLive):
            index.by_name("nobody", verify=True)
        monkeypatch.undo()
        timer = threading.Timer(0.05, host.start_xenstored)
        timer.start()
        with pytest.raises(NoSuchDomain):
            index.by_name("nobody", verify=True)
        timer.join()
