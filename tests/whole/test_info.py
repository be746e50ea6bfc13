"""What the hypervisor says of one domain, asked for anew or lately."""

from __future__ import annotations

from uuid import UUID

import pytest

from domindex.domain import Domain, DomainInfo
from domindex.errors import NoSuchDomain
from domindex.testing import SimulatedHost
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
