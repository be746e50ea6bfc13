"""What the hypervisor says of one domain or of all, asked for anew or lately."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from uuid import UUID

import pytest

from domindex.domain import Domain, DomainInfo
from domindex.errors import Closed, HypercallFailed, InvalidKey, NoSuchDomain, NotLive
from domindex.testing import QUICK, SimulatedHost
from tests.whole.helpers import CALM

U = UUID(int=7)


@pytest.fixture
def host() -> SimulatedHost:
    """One kind, with the domain that all look for: 7, "web", U."""
    host = SimulatedHost(idle=True)
    host.create("web", domid=7, uuid=U)
    return host


def test_info_may_be_so_old_and_no_older(host: SimulatedHost) -> None:
    """P11: what was asked lately is given without a hypercall; by default nothing is."""
    with host.connect(timing=CALM) as index:
        first = index.info(7)
        calls = host.hypercalls
        assert index.info(7, max_age=60.0) is first
        assert host.hypercalls == calls
        assert index.info(7) is not first
        assert host.hypercalls == calls + 1
        host.pause(7)
        assert not index.info(7, max_age=60.0).paused
        assert index.info(7, max_age=1e-9).paused
        assert index.info(7, max_age=60.0).paused


def test_info_is_of_the_same_life(host: SimulatedHost) -> None:
    """P3: what was said of one that is gone is not said of the next on its domid."""
    with host.connect(timing=CALM) as index:
        assert index.info(7, max_age=60.0).uuid == U
        host.destroy(7)
        host.create("db", domid=7)
        index.refresh()
        assert index.info(7, max_age=60.0).uuid == index.by_id(7).uuid != U
        host.destroy(7)
        index.refresh()
        with pytest.raises(NoSuchDomain):
            index.info(7, max_age=60.0)


def test_info_that_comes_late_is_not_said_of_the_next_life(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P3: the domid was used again between the hypercall and its answer."""
    with host.connect(timing=CALM) as index:
        info = index._body.hypervisor.info

        def late(domid: int) -> DomainInfo | None:
            monkeypatch.undo()
            found = info(domid)
            host.destroy(domid)
            host.create("db", domid=domid)
            index.refresh()
            return found

        monkeypatch.setattr(index._body.hypervisor, "info", late)
        assert index.info(7, max_age=60.0).uuid == U
        assert index.info(7, max_age=60.0).uuid == index.by_id(7).uuid


def test_info_of_a_domain_that_is_not_held_is_always_asked_for(host: SimulatedHost) -> None:
    """There is no life to keep it under."""
    with host.connect(timing=CALM) as index:
        host.lose_events(9)
        new = host.create("new")
        found: Domain | None = index.domids.get(new)
        assert found is None
        calls = host.hypercalls
        for _ in range(2):
            assert index.info(new, max_age=60.0).domid == new
        assert host.hypercalls == calls + 2


# -- of a record ---------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["plain", "ids"])
def other(request: pytest.FixtureRequest) -> SimulatedHost:
    """As `host`, with unique ids too."""
    host = SimulatedHost(idle=True, unique_ids=request.param)
    host.create("web", domid=7, uuid=U)
    return host


def cost(host: SimulatedHost, call: Callable[[], object]) -> int:
    before = host.hypercalls
    call()
    return host.hypercalls - before


def test_info_of_a_record_is_of_its_life(other: SimulatedHost) -> None:
    """P3: one hypercall, and one more where there is a unique id to prove it by."""
    with other.connect(timing=CALM) as index:
        web = index.by_id(7)
        assert index.info(web) == index.info(7)._replace(cpu_time=index.info(web).cpu_time)
        assert cost(other, lambda: index.info(web)) == (2 if index.capabilities.unique_ids else 1)
        assert cost(other, lambda: index.info(web, max_age=60.0)) == 0
        other.rename(7, "www")
        index.refresh()
        assert index.info(web).uuid == U


@pytest.mark.parametrize("next_", [None, "other", "same"])
def test_another_life_has_no_say_for_a_record(other: SimulatedHost, next_: str | None) -> None:
    """P3: the index has heard of nothing yet, and then of all."""
    with other.connect(timing=CALM) as index:
        web = index.by_id(7)
        assert index.info(web, max_age=60.0).uuid == U
        other.lose_events(99)
        other.destroy(7, order="at once")
        if next_ is not None:
            other.create("web", domid=7, uuid=U if next_ == "same" else None)
        if next_ != "same" or index.capabilities.unique_ids:  # else nothing tells the two apart
            with pytest.raises(NoSuchDomain):
                index.info(web)


def test_a_dying_domain_is_no_life(other: SimulatedHost) -> None:
    """P3: it is gone, though the index has not heard of it."""
    with other.connect(timing=CALM) as index:
        web = index.by_id(7)
        other.lose_events(99)
        other.zombie(7, order="at once")
        with pytest.raises(NoSuchDomain):
            index.info(web)
        assert index.info(7).dying


def test_where_a_policy_refuses_the_state_the_uuid_decides(other: SimulatedHost) -> None:
    """P9: the refusal is about the state alone."""
    with other.connect(timing=CALM) as index:
        web = index.by_id(7)
        other.refuse_state(7)
        assert index.info(web).uuid == U


def test_a_uuid_that_changes_at_each_look_cannot_be_told(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P5: neither yes nor no."""
    with host.connect(timing=CALM) as index:
        web = index.by_id(7)
        info = index._body.hypervisor.info

        def changed(domid: int) -> DomainInfo | None:
            host.change_handle(7, UUID(int=1000 + host.hypercalls))
            return info(domid)

        monkeypatch.setattr(index._body.hypervisor, "info", changed)
        with pytest.raises(NotLive, match="3 answers"):
            index.info(web)


# -- of all --------------------------------------------------------------------------------------


def test_infos_of_all_by_one_hypercall(other: SimulatedHost) -> None:
    """P11: those that the index holds, in order, each as `info` says; dying ones if asked for."""
    for number in range(20, 40):
        other.create(f"vm-{number}", domid=number, memory=number << 20, vcpus=number)
    with other.connect(timing=CALM) as index:
        other.zombie(39, order="at once")
        index.refresh()
        infos = index.infos()
        assert [*infos] == [*index.domids] == [0, 7, *range(20, 39)]
        assert infos[25] == index.info(25)
        assert (infos[25].memory, infos[25].max_memory, infos[25].vcpus) == (25 << 20, 25 << 20, 25)
        assert cost(other, index.infos) == 1
        dying = index.dying()
        assert [(info.domid, info.dying) for info in dying] == [(39, True)]
        assert [*index.infos(dying=True)] == [*infos, 39]
        assert index.infos(dying=True)[39] == dying[0]
        assert cost(other, index.dying) == 1


def test_infos_are_of_one_moment(other: SimulatedHost) -> None:
    """They never change, can be copied and pickled, and say what they are."""
    with other.connect(timing=CALM) as index:
        infos = index.infos()
        plain = dict(infos)
        other.pause(7)
        other.create("db", domid=8)
        assert infos == plain == pickle.loads(pickle.dumps(infos)) == copy.copy(infos)
        assert repr(infos) == repr(plain)
        assert (len(infos), 7 in infos, 8 in infos, infos.get(8)) == (2, True, False, None)


def test_infos_may_be_so_old_while_nothing_changes(host: SimulatedHost) -> None:
    """P3: a domain that came or went since is never missing, and never there for too long."""
    with host.connect(timing=CALM) as index:
        first = index.infos(max_age=60.0)
        assert cost(host, lambda: index.infos(max_age=60.0)) == 0
        assert index.infos(max_age=60.0) == first
        assert [*index.infos(max_age=60.0)] == [0, 7]
        assert cost(host, lambda: index.infos(max_age=1e-9)) == 1
        assert cost(host, index.infos) == 1
        host.create("db", domid=8)
        index.refresh()
        assert [*index.infos(max_age=60.0)] == [0, 7, 8]


def test_what_cannot_be_asked_is_said(host: SimulatedHost) -> None:
    """P9: typed errors, and Closed once it is closed."""
    with host.connect(timing=QUICK) as index:
        web = index.by_id(7)
        with pytest.raises(InvalidKey):
            index.info("web")  # type: ignore[arg-type]
        host.refuse_hypercalls()
        for call in (index.infos, index.dying, lambda: index.info(web)):
            with pytest.raises(HypercallFailed):
                call()
        host.refuse_hypercalls(False)
    for call in (index.infos, index.dying, lambda: index.info(web)):
        with pytest.raises(Closed):
            call()


def test_what_was_said_of_ended_lives_is_not_kept(host: SimulatedHost) -> None:
    """P11: however many domids a host has had; and what is kept is of those that run."""
    with host.connect(timing=CALM) as index:
        first = index.info(7, max_age=60.0)
        for domid in range(100, 160):
            host.create(domid=domid)
            index.refresh()
            index.info(domid, max_age=60.0)
            host.destroy(domid, order="at once")
            index.refresh()
        assert len(index._body.facts._known) <= 2 * len(index) + 17
        assert index.info(7, max_age=60.0) is first
