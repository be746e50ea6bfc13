"""Waiting for the end of one life, and of no other."""

from __future__ import annotations

import itertools
import time
from uuid import UUID

import pytest

from domindex import conditions
from domindex.domain import ShutdownReason
from domindex.errors import Closed, TimedOut
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


# -- until it is freed ---------------------------------------------------------------------------


def test_it_may_wait_until_the_memory_is_freed(host: SimulatedHost, index: Index) -> None:
    """No event tells of it: it looks, and the first look is enough where nothing is left."""
    domid, quick = host.create("web"), host.create("db")
    index.refresh()
    web, db = index.by_id(domid), index.by_id(quick)
    let_go = host.zombie(domid)
    index.refresh()
    assert index.wait_gone(web, 0).domain == web
    with pytest.raises(TimedOut, match=r"\(web\) has ended, but still holds memory"):
        index.wait_gone(web, SOON, freed=True)
    waiting = Waiting(index, lambda: index.wait_gone(web, LIMIT, freed=True))
    let_go()
    assert waiting.end() == index.wait_gone(web, 0)
    host.destroy(quick)
    index.refresh()
    before = host.hypercalls
    assert index.wait_gone(db, 0, freed=True).domain == db
    assert host.hypercalls == before + 1


def test_the_end_of_the_next_life_is_not_waited_for(host: SimulatedHost, index: Index) -> None:
    """P3: that its domid is held, by a domain that runs or is dying, is no matter of the first."""
    domid = host.create("web")
    index.refresh()
    web = index.by_id(domid)
    host.change_handle(domid, UUID(int=0xDEADBEEF))  # as xenopsd does
    let_go = host.zombie(domid, order="xapi")
    index.refresh()
    with pytest.raises(TimedOut):
        index.wait_gone(web, 0, freed=True)
    let_go()
    host.create("next", domid=domid)
    index.refresh()
    assert index.wait_gone(web, 0, freed=True).domain.life == web.life
    following = index.by_id(domid)
    host.zombie(domid)
    index.refresh()
    assert index.wait_gone(web, 0, freed=True).domain.life == web.life
    with pytest.raises(TimedOut):
        index.wait_gone(following, 0, freed=True)


def test_closing_ends_the_wait_for_memory(host: SimulatedHost) -> None:
    """P9: it has a pause of its own between two looks."""
    index = host.connect()
    domid = host.create("web")
    index.refresh()
    web = index.by_id(domid)
    host.zombie(domid)
    index.refresh()
    waiting = Waiting(index, lambda: index.wait_gone(web, LIMIT, freed=True))
    index.close()
    assert isinstance(waiting.end(), Closed)


def test_it_looks_whether_the_memory_is_freed_less_and_less_often(index: Index) -> None:
    """P11: at once after 10 ms, as nearly always it is freed then; at last each second."""
    looks = conditions.looks(index.by_id(0), time.monotonic() + 1000.0)
    pauses = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0]
    assert list(itertools.islice(looks, 9)) == pytest.approx(pauses)


def test_after_close_nobody_is_asked_for_memory(host: SimulatedHost) -> None:
    """P9: the wait may be amid two looks when it is closed."""
    index = host.connect()
    dom0 = index.by_id(0)
    index.close()
    before = host.hypercalls
    with pytest.raises(Closed):
        index._body.facts.is_freed(dom0)
    assert host.hypercalls == before
