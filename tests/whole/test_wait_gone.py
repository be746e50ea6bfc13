"""Waiting for the end of one life, and of no other."""

from __future__ import annotations

import pytest

from domindex.domain import ShutdownReason
from domindex.errors import TimedOut
from domindex.events import Event, Removed
from domindex.index import Index
from domindex.testing import SimulatedHost
from tests.whole.helpers import LIMIT
from tests.whole.test_waits import SOON, Waiting


@pytest.fixture
def host() -> SimulatedHost:
    """One kind will do: what differs between them is below all this."""
    return SimulatedHost(idle=True)


def test_the_end_of_a_domain_is_told_with_its_reason(host: SimulatedHost, index: Index) -> None:
    """The very event that listeners hear, before and after it came."""
    heard: list[Event] = []
    domid = host.create("web")
    index.refresh()
    web = index.by_id(domid)
    with index.subscribe(heard.append, replay=False, events=(Removed,)) as subscription:
        waiting = Waiting(index, lambda: index.wait_gone(web, LIMIT))
        host.shutdown(domid, ShutdownReason.CRASH)
        index.refresh()
        with pytest.raises(TimedOut, match="web"):
            index.wait_gone(web, SOON)
        host.destroy(domid)
        ended = waiting.end()
        assert subscription.drain(LIMIT)
    assert heard == [ended]
    assert heard[0] is ended is index.wait_gone(web, 0)
    assert (ended.reason, ended.inferred, ended.domain.life) == (
        ShutdownReason.CRASH,
        False,
        web.life,
    )


def test_another_life_on_the_domid_is_not_mistaken_for_it(
    host: SimulatedHost, index: Index
) -> None:
    """P3: the old one is gone though its number lives; the new one is waited for."""
    domid = host.create("web")
    index.refresh()
    old = index.by_id(domid)
    host.destroy(domid)
    host.create("web", domid=domid)
    index.refresh()
    new = index.by_id(domid)
    assert index.wait_gone(old, 0).domain == old
    with pytest.raises(TimedOut):
        index.wait_gone(new, SOON)


def test_an_older_record_of_the_life_will_do(host: SimulatedHost, index: Index) -> None:
    """It is the life that counts, not what it was called."""
    domid = host.create("web")
    index.refresh()
    web = index.by_id(domid)
    host.rename(domid, "www")
    index.refresh()
    with pytest.raises(TimedOut):
        index.wait_gone(web, SOON)
    host.destroy(domid)
    assert index.wait_gone(web, LIMIT).domain.name == "www"


def test_an_end_that_was_long_ago_is_inferred(
    host: SimulatedHost, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once `recent` has forgotten it: that it went is certain, why is what the record says."""
    domid = host.create("web")
    index.refresh()
    web = index.by_id(domid)
    host.destroy(domid)
    index.refresh()
    monkeypatch.setattr("domindex.core.ended.KEPT_FOR", -1.0)
    assert index.recent() == ()
    ended = index.wait_gone(web, 0)
    assert (ended.domain, ended.reason, ended.inferred) == (web, None, True)
