"""What things cost, in hypercalls, requests and wake-ups, counted and not timed (P11)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from uuid import UUID

import pytest

from domindex.events import Added, Changed, Removed, Renamed, ShutDown
from domindex.index import Index
from domindex.opening import connect
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, Ear, Meddler, eventually

U = UUID(int=1)
GUESTS = 30
"""More than a few, so that what costs by the number of domains shows."""


@pytest.fixture
def meddler(host: SimulatedHost) -> Meddler:
    """A host with many guests."""
    for n in range(GUESTS):
        host.create(f"vm-{n}", type="pvh")
    return Meddler(host)


@pytest.fixture
def index(meddler: Meddler) -> Iterator[Index]:
    """An index that follows the host and does nothing by itself."""
    with connect(meddler, timing=CALM) as opened:
        opened.refresh()
        yield opened


class Meter:
    """Counts from its making, or from the last `reset`."""

    def __init__(self, meddler: Meddler, index: Index) -> None:
        self.meddler, self.index = meddler, index
        self.ear = Ear(index)
        index.subscribe(self.ear)
        self.ear.until(lambda: len(self.ear.events) == GUESTS + 1)
        self.reset()

    def reset(self) -> None:
        self.settle()
        host = self.meddler.host
        self.before = host.hypercalls, host.requests
        self.meddler.calls.clear()

    def settle(self) -> None:
        """Wait until the watcher waits, with nothing left to do."""
        line = self.meddler.lines[-1]
        eventually(lambda: line.waiting and not self.meddler.pending() and line.waiting)

    def spent(self) -> tuple[int, int]:
        self.settle()
        host = self.meddler.host
        return host.hypercalls - self.before[0], host.requests - self.before[1]

    def calls(self, name: str) -> int:
        return self.meddler.calls.count(name)


@pytest.fixture
def meter(meddler: Meddler, index: Index) -> Meter:
    """At zero."""
    return Meter(meddler, index)


def test_a_hit_costs_nothing_outside_the_process(meter: Meter, index: Index) -> None:
    """P11: whatever is asked of what is held."""
    index.by_name("vm-1")
    index.by_name(b"vm-1")
    index.by_id(1)
    index.os_type(1)
    assert "vm-1" in index.names
    index.find(prefix="vm-")
    list(index)
    assert index.stats
    assert meter.spent() == (0, 0)


def test_a_hit_takes_no_lock(index: Index) -> None:
    """P11: it answers while somebody else holds the lock of the index for good."""
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with index._picture.lock:
            held.set()
            go.wait(5)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(5)
    assert index.by_name("vm-1") is index.by_id(index.names["vm-1"].domid)
    go.set()
    holder.join()


def test_a_miss_costs_nothing_outside_the_process(meter: Meter, index: Index) -> None:
    """P5, P11: absence is known."""
    for _ in range(10):
        assert index.all_by_name("nobody") == ()
        assert index.names.get("nobody") is None
    assert meter.spent() == (0, 0)


def test_a_birth_costs_one_list_and_work_for_one(
    host: SimulatedHost, meter: Meter, index: Index
) -> None:
    """P11: one list (one look with depth); its name is read twice, before it is told of and when
    its watch is set, and confirmed each time; with unique ids one question at each look. Where
    one watch stands for all names it is read and confirmed once."""
    host.create("new", type="pvh")
    meter.ear.until(lambda: meter.ear.count(Added) == GUESTS + 2)
    offers = index.capabilities
    looks, watches, reads = (2, 0, 1) if offers.one_watch else (3, 1, 2)
    ids = looks if offers.unique_ids else 0
    assert meter.spent() == (looks + ids, watches + reads)
    assert meter.calls("list") == (0 if offers.watch_depth else 1)
    assert (meter.calls("watch"), meter.calls("read")) == (watches, reads)


def test_an_end_costs_one_list_and_work_for_one(
    host: SimulatedHost, meter: Meter, index: Index
) -> None:
    """P11, P4: a name that is gone, read and confirmed; then one list and the proof that the
    missing one is gone, or one look with depth; one unwatch where the name had a watch."""
    host.destroy(index.by_name("vm-3").domid)
    meter.ear.until(lambda: meter.ear.count(Removed) == 1)
    offers = index.capabilities
    unwatch = 0 if offers.one_watch else 1
    ids = 2 if offers.unique_ids else 0
    assert meter.spent() == (2 + ids + (1 if offers.watch_depth else 2), 1 + unwatch)
    assert meter.calls("unwatch") == unwatch


def test_a_shutdown_costs_one_look(host: SimulatedHost, meter: Meter, index: Index) -> None:
    """P11: no name is read; where the domain has an id, that is looked at too."""
    host.crash(index.by_name("vm-3").domid)
    meter.ear.until(lambda: meter.ear.count(ShutDown) == 1)
    assert meter.spent() == (2 if index.capabilities.unique_ids else 1, 0)


def test_a_rename_costs_one_read_and_two_looks_at_one(
    host: SimulatedHost, meter: Meter, index: Index
) -> None:
    """P11: no list; before the read and after it, to confirm."""
    host.rename(index.by_name("vm-3").domid, "renamed")
    meter.ear.until(lambda: meter.ear.count(Renamed) == 1)
    ids = 2 if index.capabilities.unique_ids else 0
    assert meter.spent() == (2 + ids, 1)
    assert meter.calls("list") == 0


def test_a_new_handle_costs_nothing_until_somebody_looks(
    host: SimulatedHost, meter: Meter, index: Index
) -> None:
    """Xen tells nobody of it."""
    host.change_handle(index.by_name("vm-3").domid, U)
    assert meter.spent() == (0, 0)
    index.refresh()
    meter.ear.until(lambda: meter.ear.count(Changed) or meter.ear.count(Removed))


def test_many_births_at_once_share_their_lists(
    host: SimulatedHost, meddler: Meddler, meter: Meter, index: Index
) -> None:
    """P11: what is queued is drained and taken in one pass; n reads, but not n lists."""
    made: list[int] = []
    meddler.meddle["barrier"] = lambda: made.extend(host.create(f"new-{n}") for n in range(25))
    index.refresh()
    assert len(index) == GUESTS + 1 + len(made)
    assert meter.calls("list") == 2
    watch = 0 if index.capabilities.one_watch else 1
    assert (meter.calls("watch"), meter.calls("read")) == (watch, 1)
    hypercalls, requests = meter.spent()
    ids = (GUESTS + 1 + 25) + 25 if index.capabilities.unique_ids else 0
    assert hypercalls == 2 + ids
    assert requests == 1 + 25 + 25 * watch


@pytest.mark.parametrize("names", [False, True])
def test_a_refresh_of_a_host_at_rest_costs_what_it_says(
    meter: Meter, index: Index, names: bool
) -> None:
    """P6: one round trip and one list; each name and one more list if names are read again.
    Where there are unique ids, one question for each domain, twice with names."""
    index.refresh(names=names)
    domains = GUESTS + 1
    ids = domains if index.capabilities.unique_ids else 0
    expected = (2 + 2 * ids, 1 + domains) if names else (1 + ids, 1)
    assert meter.spent() == expected


def test_opening_costs_what_it_says(host: SimulatedHost) -> None:
    """Two lists, a read for each domain and a watch for each, or one for all; the two special
    watches. Where the server knows no depth that is three requests to find it out."""
    for n in range(GUESTS):
        host.create(f"vm-{n}")
    host.hypercalls = host.requests = 0
    with host.connect(timing=CALM) as index:
        domains = len(index)
        assert domains == GUESTS + 1
        ids = 2 * domains if index.capabilities.unique_ids else 0
        assert host.hypercalls == 2 + ids
        offers = index.capabilities
        special = 2 if offers.watch_depth else 4
        assert host.requests == special + 1 + domains * (1 if offers.one_watch else 2)
        assert index.stats.lists == 2
        assert index.stats.reads == domains


def test_idle_costs_nothing(meter: Meter, index: Index) -> None:
    """P11: with long intervals the watcher wakes up for nothing at all."""
    idle = index.age
    eventually(lambda: index.age > idle + 0.2)
    assert meter.spent() == (0, 0)
    assert meter.meddler.calls == []


@pytest.mark.parametrize("probe", [0.02])
def test_an_idle_line_is_asked_for_a_sign_of_life_and_nothing_else(
    meddler: Meddler, probe: float
) -> None:
    """P2, P9, P11: one request and one list for each probe, at most one wake-up for each."""
    with connect(meddler, timing=replace(CALM, probe=probe)) as index:
        meter = Meter(meddler, index)
        eventually(lambda: meter.calls("barrier") >= 5)
        hypercalls, requests = meter.spent()
        assert abs(hypercalls - meter.calls("barrier")) <= 1
        assert requests == meter.calls("barrier") or requests == meter.calls("barrier") + 1
        assert set(meddler.calls) == {"wait", "barrier", "list", "look"}
        assert abs(meter.calls("wait") - meter.calls("barrier")) <= 1


def test_an_audit_reads_each_name_once(meddler: Meddler) -> None:
    """P11: three lists, one of them a probe's, and one read for each domain; and then not again
    for long."""
    with connect(meddler, timing=replace(CALM, audit=0.1)) as index:
        before = index.stats
        eventually(lambda: index.stats.reads > before.reads)
        eventually(lambda: meddler.lines[-1].waiting)
        after = index.stats
        audits = (after.reads - before.reads) // (GUESTS + 1)
        assert (after.reads - before.reads) % (GUESTS + 1) == 0
        assert after.lists - before.lists == 3 * audits
        assert after.drift == 0


LIFE: list[Callable[[SimulatedHost, int], object]] = [
    lambda host, domid: host.pause(domid),
    lambda host, domid: host.unpause(domid),
    lambda host, domid: host.leave_node(500, "ghost"),
    lambda host, domid: host.clear_node(500),
]


@pytest.mark.parametrize("what", LIFE)
def test_what_concerns_no_name_wakes_nobody(
    host: SimulatedHost, meter: Meter, index: Index, what: Callable[[SimulatedHost, int], object]
) -> None:
    """P11: pauses and nodes of nobody. One watch for all names tells of these nodes, too: that
    is one look, and nothing is read."""
    what(host, index.by_name("vm-1").domid)
    told = index.capabilities.one_watch and what is LIFE[2]
    assert meter.spent() == (1 if told else 0, 0)
    assert meter.calls("list") == meter.calls("read") == 0


def test_watches_are_as_many_as_domains(
    host: SimulatedHost, meddler: Meddler, meter: Meter, index: Index
) -> None:
    """No watch is left behind in xenstored by what has gone: 50 births, 50 ends."""
    for n in range(50):
        domid = host.create(f"x-{n}")
        index.refresh()
        host.destroy(domid)
        index.refresh()
    (line,) = meddler.lines
    of_names = 0 if index.capabilities.one_watch else len(index)
    assert len(line.watched) == 2 + (of_names or 1)
    assert len(index._body.watcher._reconciler.nodes._tokens) == of_names
