"""The whole index on a xenstored and a hypervisor that are played, with the real wire between.

What must hold at the end of each story is the same: the index equals the host, by events alone
or after `refresh`, and `close` leaves nothing (the fixture `nothing_left` sees to threads and
descriptors, `host` to the lines and with them the watches).
"""

from __future__ import annotations

import errno
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID

import pytest

import domindex.xen.xenstore
from domindex.domain import NIL_UUID
from domindex.errors import (
    AccessDenied,
    Closed,
    HypercallFailed,
    NoSuchDomain,
    NotLive,
    StoreError,
    StoreLost,
    TimedOut,
)
from domindex.events import Added, Event, Lost, Recovered, Removed, Renamed, ShutDown
from domindex.index import Index
from domindex.opening import connect
from domindex.options import Timing
from domindex.ports import Hypervisor, Store
from domindex.xen.hypercall import PrivcmdHypervisor
from domindex.xen.xenstore import XenStore
from tests.stage import LIVES

from .fake_hypervisor import FakeDomain, FakePrivcmd, FakeXen
from .fake_xenstored import FakeXenstored, Op, Rule, event, packet
from .misbehaviour import before, half, of_type, refuse, silent, twice, with_id
from .test_xenbus import Line

CALM = Timing()
QUICK = Timing(request=0.5, probe=0.1, audit=600.0, retry=0.01, retry_most=0.05)


class WireHost:
    """A host for `connect`, and the toolstack that works on it."""

    def __init__(self, xenstored: FakeXenstored, xen: FakeXen) -> None:
        self.xenstored, self.xen = xenstored, xen
        xen.domains[0].fields["handle"] = bytes(16)
        xenstored.write(b"/local/domain/0/name", b"Domain-0")

    def open_hypervisor(self) -> Hypervisor:
        return PrivcmdHypervisor(FakePrivcmd(self.xen), self.xen.machine)

    def open_store(self, timeout: float) -> Store:
        return XenStore(None, self.xenstored.path, timeout)

    def create(self, domid: int, name: bytes | None, uuid: int = 0) -> None:
        """As libxl: the domain, its name, and the word of it."""
        self.xen.add(domid, handle=UUID(int=uuid or 0x1000 + domid).bytes)
        if name is not None:
            self.rename(domid, name)
        self.xenstored.introduce(domid)

    def rename(self, domid: int, name: bytes) -> None:
        self.xenstored.write(b"/local/domain/%d/name" % domid, name)

    def shut_down(self, domid: int, reason: int) -> None:
        self.xen.domains[domid].fields["flags"] = 0x4 | reason << 16
        self.xenstored.release(domid, gone=False)

    def destroy(self, domid: int) -> None:
        """As libxl: the nodes go first."""
        self.xenstored.remove(b"/local/domain/%d" % domid)
        self.xen.remove(domid)
        self.xenstored.release(domid)

    def truth(self) -> dict[int, tuple[UUID, str | None]]:
        """What an index of this host should hold."""
        found: dict[int, tuple[UUID, str | None]] = {}
        for domid, domain in self.xen.domains.items():
            raw = self.xenstored.nodes.get(b"/local/domain/%d/name" % domid)
            name = None if raw is None else raw.decode("utf-8", "surrogateescape")
            found[domid] = (UUID(bytes=domain.value("handle", 16)), name)
        return found


def watches(host: WireHost) -> int:
    """How many are set while four domains run: one stands for all names where there is depth."""
    return 2 + (1 if host.xenstored.features == 14 or host.xenstored.oxenstored else 4)


def held(index: Index) -> dict[int, tuple[UUID, str | None]]:
    return {domain.domid: (domain.uuid, domain.name) for domain in index}


@pytest.fixture(
    params=[("4.17", None), ("4.22", 14), ("4.22", None), ("3.1", None), ("4.20", "oxenstored")],
    ids=["4.17", "4.22", "4.22 without depth", "3.1", "oxenstored"],
)
def host(request: pytest.FixtureRequest, xenstored: FakeXenstored) -> Iterator[WireHost]:
    """A host with dom0 and domains 1 to 3, of several ages."""
    release, features = request.param
    xenstored.oxenstored = features == "oxenstored"
    xenstored.features = None if xenstored.oxenstored else features
    found = WireHost(xenstored, FakeXen(release))
    for domid, name in ((1, b"web"), (2, b"db"), (3, None)):
        found.create(domid, name)
    yield found
    xenstored.wait_until(lambda: not xenstored.clients)


only_new = pytest.mark.parametrize("host", [("4.22", 14)], indirect=True, ids=["4.22"])
only_old = pytest.mark.parametrize("host", [("4.17", None)], indirect=True, ids=["4.17"])


class Listener:
    """What an index tells, one after the other."""

    def __init__(self, index: Index, *, present: int = 4) -> None:
        self.heard: queue.Queue[Event] = queue.Queue()
        index.subscribe(self.heard.put, events=LIVES)
        for _ in range(present):
            assert isinstance(self.next(), Added)

    def next(self, timeout: float = 10.0) -> Event:
        return self.heard.get(timeout=timeout)

    def until(self, kind: type[Event]) -> list[Event]:
        """All up to the first of that kind."""
        told = [self.next()]
        while not isinstance(told[-1], kind):
            told.append(self.next())
        return told


def assert_follows(index: Index, host: WireHost, listener: Listener | None = None) -> None:
    """The index equals the host, is live, and hears of a change without being asked."""
    eventually(lambda: index.live)
    index.refresh(timeout=10)
    assert held(index) == host.truth()
    listener = listener or Listener(index, present=len(index))
    host.rename(0, name := b"renamed-%d" % index.generation)
    while True:  # what was told before it may still be on its way
        told = listener.until(Renamed)[-1]
        if isinstance(told, Renamed) and told.new.name == name.decode():
            break
    index._table.check()


def eventually(true: Callable[[], bool], timeout: float = 10.0) -> None:
    """For what tells nobody that it has come to be."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, "it never came to be"
        threading.Event().wait(0.005)


@contextmanager
def closing_in(seconds: float, index: Index) -> Iterator[None]:
    """Close it in the end, and see that it does not take longer."""
    try:
        yield
    finally:
        began = time.monotonic()
        index.close()
        assert time.monotonic() - began < seconds + 1.0


# -- a host that behaves ---------------------------------------------------------------------


def test_the_first_look_holds_everything(host: WireHost) -> None:
    """Every domain under its three keys, what the host can do, and no watch too many."""
    with connect(host, timing=QUICK) as index:
        assert held(index) == host.truth()
        assert index.by_name("web") is index.by_id(1) is index.by_uuid(UUID(int=0x1001))
        assert index.by_id(0).uuid == NIL_UUID
        assert index.by_id(3).name is None
        with pytest.raises(NoSuchDomain):
            index.by_name("nobody")
        xen = host.xen
        assert index.capabilities.unique_ids is (xen.number >= (4, 21))
        assert index.capabilities.watch_depth is (host.xenstored.features == 14)
        (line,) = host.xenstored.clients
        assert len(line.watches) == watches(host)
    with pytest.raises(Closed):
        index.by_id(0)


@only_new
def test_with_depth_three_watches_stand_for_all(host: WireHost) -> None:
    """P11: opening n domains asks 3 + n times, on all its lines together; a birth sets none."""
    for domid in range(10, 307):
        host.create(domid, b"vm-%d" % domid)
    asked = host.xenstored.requests
    before = len(asked)
    with connect(host, timing=CALM) as index:
        domains = len(index)
        ops = [request.op for request in asked[before:]]
        assert (ops.count(Op.WATCH), ops.count(Op.READ)) == (3, domains)
        assert len(ops) == 3 + domains
        assert index.capabilities.one_watch
        before = len(asked)
        host.create(400, b"late")
        late = index.wait_for(name="late")
        host.rename(400, b"later")
        index.wait_for(name="later")
        new = UUID(int=9)
        host.xen.domains[400].fields["handle"] = new.bytes
        host.xenstored.write(b"/local/domain/400/vm", b"/vm/9")
        assert index.wait_for(uuid=new).life == late.life
        host.destroy(400)
        index.wait_gone(late)
        assert {request.op for request in asked[before:]} <= {Op.READ, Op.GET_DOMAIN_PATH}


def test_changes_are_heard_in_order(host: WireHost) -> None:
    """Names, births, stops and deaths, each told once and held when it is told."""
    with connect(host, timing=QUICK) as index:
        listener = Listener(index)
        host.rename(1, b"www")
        assert isinstance(told := listener.next(), Renamed)
        assert (told.old.name, told.new.name) == ("web", "www")
        assert index.by_name("www") == told.new

        host.create(4, b"new")
        assert isinstance(added := listener.next(), Added)
        assert added.domain == index.by_name("new")

        host.shut_down(4, 3)
        assert isinstance(stopped := listener.next(), ShutDown)
        assert stopped.reason.name == "CRASH"

        host.destroy(4)
        gone = listener.until(Removed)[-1]
        assert isinstance(gone, Removed)
        assert gone.domain.life == added.domain.life

        host.rename(3, b"late")
        assert isinstance(told := listener.next(), Renamed)
        assert (told.old.name, told.new.name) == (None, "late")
        assert_follows(index, host, listener)
        assert len(host.xenstored.clients[0].watches) == watches(host)


def test_a_domid_that_comes_back_is_another_life(host: WireHost) -> None:
    """P3: Removed, then Added, in one generation, even with the name and uuid of before."""
    with connect(host, timing=QUICK) as index:
        listener = Listener(index)
        for uuid in (0x2001, 0x2001 if index.capabilities.unique_ids else 0x2002):
            xenstored = host.xenstored
            with xenstored.changed:  # nothing is answered until all of it is done
                host.destroy(1)
                host.create(1, b"web", uuid)
            told = listener.until(Added)
            removed, added = told[-2:]
            assert isinstance(removed, Removed)
            assert isinstance(added, Added)
            assert removed.generation == added.generation
            assert removed.domain.life != added.domain.life
        assert_follows(index, host, listener)


@only_old
@pytest.mark.parametrize(
    "name", [b"", b"x" * 4000, b"\xff\xfe", b"\x1b[2J\r\n", b"a\0b", "Übung".encode(), b"42"]
)
def test_any_bytes_are_a_name(host: WireHost, name: bytes) -> None:
    """Found again by the same bytes, shown without what could steer a terminal."""
    with connect(host, timing=QUICK) as index:
        host.rename(1, name)
        index.refresh()
        assert index.by_name(name).domid == 1
        assert index.by_id(1).printable.isprintable() or not name
        assert_follows(index, host)


@only_old
def test_merged_and_doubled_events_are_the_same(host: WireHost) -> None:
    """However often a change is told, it is taken in once."""
    with connect(host, timing=QUICK) as index:
        listener = Listener(index)
        for host.xenstored.doubles, host.xenstored.merges in ((True, False), (False, True)):
            for number in range(50):
                host.rename(1, b"name-%d" % number)
            host.create(4, b"new")
            host.destroy(4)
            index.refresh()
            assert held(index) == host.truth()
        assert_follows(index, host, listener)


@only_old
def test_many_domains_come_and_go(host: WireHost) -> None:
    """Above a page of the list, and more watches than a window."""
    for domid in range(10, 1300):
        host.create(domid, b"vm-%d" % domid)
    with connect(host, timing=Timing(request=10.0)) as index:
        assert held(index) == host.truth()
        for domid in range(10, 1300, 2):
            host.destroy(domid)
        index.refresh(timeout=20)
        assert held(index) == host.truth()
        assert len(index.find(prefix="vm-")) == 645


def test_it_follows_through_the_xenbus(
    xenstored: FakeXenstored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no socket: watches without depth, events and replies in any order."""
    xenstored.old_bus = False
    host = WireHost(xenstored, FakeXen("4.22"))
    monkeypatch.setattr(domindex.xen.xenstore, "connect", lambda *_: (Line(xenstored.plug()), True))
    with connect(host, timing=QUICK) as index:
        listener = Listener(index, present=1)
        for number in range(1, 30):
            xenstored.event_first = number % 2 == 0
            host.create(number, b"vm-%d" % number)
            if number > 5:
                host.destroy(number - 5)
        index.refresh()
        assert held(index) == host.truth()
        assert_follows(index, host, listener)
    xenstored.wait_until(lambda: not xenstored.clients)


# -- a xenstored that goes, and comes back ---------------------------------------------------


def test_a_xenstored_that_is_restarted_is_found_again(host: WireHost) -> None:
    """Lost, then the differences, then Recovered; in between hits answer and misses cannot tell."""
    with connect(host, timing=QUICK) as index:
        listener = Listener(index)
        host.xenstored.stop()
        assert isinstance(lost := listener.next(), Lost)
        assert isinstance(lost.cause, StoreLost)
        assert not index.live
        assert index.by_name("web").domid == 1
        with pytest.raises(NotLive):
            index.by_name("nobody")
        with pytest.raises(NotLive):
            index.refresh(timeout=0.1)

        host.rename(1, b"www")
        host.destroy(2)
        host.create(5, b"five")
        host.xenstored.start()
        *told, recovered = listener.until(Recovered)
        assert isinstance(recovered, Recovered)
        assert {type(one) for one in told} == {Renamed, Removed, Added}
        assert held(index) == host.truth()
        assert index.stats.reconnects == 1
        assert_follows(index, host, listener)


@only_old
def test_a_xenstored_that_goes_again_and_again_is_survived(host: WireHost) -> None:
    """At any moment of the first look at the new line."""
    with connect(host, timing=QUICK) as index:
        listener = Listener(index)
        for round_ in range(12):
            host.xenstored.rule(half(0, close=True), times=round_)
            host.xenstored.cut()
            host.rename(1, b"name-%d" % round_)
            listener.until(Recovered)
        host.xenstored.obey()
        assert_follows(index, host, listener)


@pytest.mark.parametrize("switch", ["answers", "reads"])
def test_a_deaf_line_is_noticed(host: WireHost, switch: str) -> None:
    """P9: open, and silent: within `probe + request` it is lost, and a new one is made."""
    with connect(host, timing=QUICK) as index:
        listener = Listener(index)
        began = time.monotonic()
        host.xenstored.each(**{switch: False})
        assert isinstance(listener.next(), Lost)
        assert time.monotonic() - began < QUICK.probe + QUICK.request + 0.5
        listener.until(Recovered)
        assert_follows(index, host, listener)


@only_old
def test_a_line_that_is_deaf_to_requests_alone_is_noticed(host: WireHost) -> None:
    """Half a packet, and nothing more: the same."""
    with connect(host, timing=QUICK) as index:
        listener = Listener(index)
        host.xenstored.send(event(b"@releaseDomain", b"release")[:20])
        assert isinstance(lost := listener.next(), Lost)
        assert isinstance(lost.cause, StoreLost)
        listener.until(Recovered)
        assert_follows(index, host, listener)


@only_old
@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 64,
        bytes(64),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        packet(Op.READ, b"nobody asked", 1),
        packet(Op.ERROR, b"EIO\0"),
        packet(99),
        packet(Op.EVENT, b"no token"),
        packet(Op.EVENT, b"x", length=0xFFFFFFFF),
    ],
    ids=lambda garbage: repr(garbage[:20]),
)
def test_garbage_in_mid_life_is_survived(host: WireHost, garbage: bytes) -> None:
    """The line is dropped, the picture kept; the next line sets it right."""
    with connect(host, timing=QUICK) as index:
        listener = Listener(index)
        before_ = held(index)
        host.xenstored.send(garbage)
        assert isinstance(lost := listener.next(), Lost)
        assert isinstance(lost.cause, StoreLost)
        assert held(index) == before_
        assert isinstance(listener.next(), Recovered)
        assert_follows(index, host, listener)


@only_old
@pytest.mark.parametrize("op", [Op.READ, Op.WATCH, Op.UNWATCH, Op.GET_DOMAIN_PATH])
@pytest.mark.parametrize(
    "rule",
    [
        refuse(b"EACCES"),
        refuse(b"EQUOTA"),
        refuse(b"EAGAIN"),
        silent,
        twice,
        of_type(99),
        half(9),
        with_id(1),
        before(packet(Op.EVENT, b"x")),
    ],
    ids=["EACCES", "EQUOTA", "EAGAIN", "silent", "twice", "type", "half", "id", "event"],
)
def test_one_wrong_answer_is_survived(host: WireHost, op: Op, rule: Rule) -> None:
    """Whichever request it meets: at worst a new line is made."""
    with connect(host, timing=QUICK) as index:
        host.xenstored.rule(rule, op=op, times=1)
        host.rename(1, b"www")
        host.destroy(2)
        host.create(4, b"new")
        host.create(2, b"again", 0x3002)
        eventually(lambda: index.live and held(index) == host.truth())
        index.refresh(timeout=10)  # asks, if nothing else has, what is answered wrongly
        assert_follows(index, host)


@only_old
def test_a_xenstored_that_refuses_everything_is_survived(host: WireHost) -> None:
    """P9: what is known without it is served, and each refused name cannot be told."""
    host.create(1, b"web")
    host.xenstored.rule(refuse(b"EACCES"), op=Op.READ)
    host.xenstored.rule(refuse(b"EACCES"), op=Op.WATCH)
    with connect(host, timing=QUICK) as index:
        assert (index.live, index.stats.deaf) == (True, True)
        assert index.by_id(1).name is None
        with pytest.raises(NotLive, match="name of domain 0 cannot be read") as caught:
            index.by_name("web")
        assert isinstance(caught.value.cause, StoreError)
        assert caught.value.cause.errno == errno.EACCES
        host.create(2, b"db")  # nothing tells of it
        assert index.wait_for(domid=2, timeout=10).name is None
        host.xenstored.obey()
        assert index.wait_for(name="db", timeout=10).domid == 2
        assert index.by_name("web").domid == 1


@only_old
def test_without_xenstored_it_does_not_open(host: WireHost) -> None:
    """Gone, silent, or never accepting: StoreLost within the time limit."""
    limit = 2 * QUICK.request
    with host.xenstored.full_backlog(), pytest.raises(StoreLost):
        connect(host, timing=QUICK, timeout=limit)
    host.xenstored.rule(silent)
    with pytest.raises(StoreLost, match="silent"):
        connect(host, timing=QUICK, timeout=limit)
    host.xenstored.stop()
    with pytest.raises(StoreLost, match="running"):
        connect(host, timing=QUICK, timeout=limit)


@only_old
def test_a_first_look_that_takes_too_long_is_given_up(host: WireHost) -> None:
    """The caller's time limit is kept although each request has more."""
    host.xenstored.rule(silent, op=Op.READ)
    began = time.monotonic()
    with pytest.raises(TimedOut):
        connect(host, timing=Timing(request=30.0), timeout=0.2)
    assert time.monotonic() - began < 1.2


# -- storms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [("4.17", None), ("4.22", 14)], indirect=True, ids=str)
def test_look_ups_go_on_in_a_storm(host: WireHost) -> None:
    """Endless events: hits stay hits, changes are still taken in, and closing does not wait."""
    # With time for each reply: the threads that look up and the storm take the processors.
    index = connect(host, timing=replace(QUICK, request=10.0))
    with closing_in(0.5, index):
        listener = Listener(index)
        host.xenstored.each(storm=event(b"@releaseDomain", b"release"))
        done = threading.Event()

        def look_up() -> int:
            count = 0
            while not done.is_set():
                assert index.by_id(0).domid == 0
                assert index.by_name("db").domid == 2
                count += 1
            return count

        with ThreadPoolExecutor(3) as pool:
            looking = [pool.submit(look_up) for _ in range(3)]
            try:
                for domid in range(10, 13):
                    host.create(domid, b"vm-%d" % domid)
                    assert isinstance(told := listener.next(), Added), told
                    host.rename(domid, b"renamed-%d" % domid)
                    assert isinstance(told := listener.next(), Renamed), told
                index.refresh(timeout=10)
                assert held(index) == host.truth()
            finally:
                done.set()
            assert all(one.result(10) > 0 for one in looking)


@only_old
def test_a_storm_for_nobody_is_passed_over(host: WireHost) -> None:
    """Tokens that were never given: no list is asked for, and the index stays live."""
    index = connect(host, timing=QUICK)
    with closing_in(0.5, index):
        listener = Listener(index)
        host.xenstored.each(storm=event(b"/local/domain/1/name", b"node/999"))
        host.create(4, b"new")
        assert isinstance(told := listener.next(), Added), told
        index.refresh(timeout=10)
        assert held(index) == host.truth()
        assert index.stats.events < 100


@only_new
@pytest.mark.parametrize(
    "path",
    [
        b"@releaseDomain/32752",
        b"@releaseDomain/65535",
        b"@releaseDomain/123456",
        b"@releaseDomain/-1",
        b"@releaseDomain/",
        b"@releaseDomain/1/2",
        b"@releaseDomain/\xd9\xa4",
        b"",
        b"@releaseDomain/65536",
        b"@releaseDomain/99999",
    ],
)
def test_an_event_of_a_domain_there_cannot_be_is_harmless(
    host: WireHost, path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """At worst a look at the list: no line is lost for it."""
    with connect(host, timing=QUICK) as index:
        listener = Listener(index)
        with caplog.at_level(logging.WARNING, "domindex"):
            host.xenstored.send(event(path, b"release"))
            host.create(4, b"new")
            assert isinstance(told := listener.next(), Added), told
        assert caplog.records == []
        assert_follows(index, host, listener)


# -- the hypervisor --------------------------------------------------------------------------


def test_a_hypervisor_that_fails_leaves_the_picture(host: WireHost) -> None:
    """P4: an error is no list; what is held stays, and is not live until the list works again."""
    with connect(host, timing=QUICK) as index:
        listener = Listener(index)
        before_ = held(index)
        host.xen.failing = errno.EIO
        host.rename(1, b"www")
        assert isinstance(lost := listener.next(), Lost)
        assert isinstance(lost.cause, HypercallFailed)
        assert held(index) == before_
        host.xen.failing = 0
        listener.until(Recovered)
        assert_follows(index, host, listener)


@pytest.mark.parametrize(
    "arrange",
    [
        lambda domains: domains[: len(domains) // 2],
        lambda domains: domains[1:],
        lambda domains: domains[::-1],
        lambda domains: [],
    ],
    ids=["half", "no dom0", "backwards", "nothing"],
)
def test_a_list_that_is_not_whole_removes_nobody(
    host: WireHost, arrange: Callable[[list[FakeDomain]], list[FakeDomain]]
) -> None:
    """P4: although it may look like a list in order."""
    with connect(host, timing=QUICK) as index:
        listener = Listener(index)
        before_ = held(index)

        def long_ones(domains: list[FakeDomain]) -> list[FakeDomain]:
            whole = domains and domains[0].domid == 0 and host.xen.most > 1
            return arrange(domains) if whole else domains

        host.xen.arrange = long_ones
        host.xenstored.send(event(b"@releaseDomain", b"release"))
        assert isinstance(lost := listener.next(), Lost)
        assert isinstance(lost.cause, HypercallFailed)
        assert held(index) == before_
        host.xen.arrange = list
        assert isinstance(listener.next(), Recovered)
        assert_follows(index, host, listener)


@only_old
def test_a_hypervisor_that_refuses_does_not_open(host: WireHost) -> None:
    """Its error is the caller's, and no line to xenstore is left or even made."""
    host.xen.flask = True
    with pytest.raises(AccessDenied):
        connect(host, timing=QUICK)
    assert host.xenstored.requests == []


# -- closing ---------------------------------------------------------------------------------


@only_old
def test_closing_does_not_wait_for_a_silent_xenstored(host: WireHost) -> None:
    """In the middle of a request, with a long time limit; a refresh that waits hears of it."""
    index = connect(host, timing=Timing(request=60.0, probe=60.0))
    with closing_in(0, index), ThreadPoolExecutor() as pool:
        host.xenstored.rule(silent)
        asked = len(host.xenstored.requests)
        refreshing = pool.submit(index.refresh, 30)
        host.xenstored.wait_until(lambda: len(host.xenstored.requests) > asked)
        index.close()
        with pytest.raises(Closed):
            refreshing.result(10)


@only_old
def test_closing_while_the_line_is_down(host: WireHost) -> None:
    """Between two tries, or in one that does not get through."""
    index = connect(host, timing=Timing(request=0.5, probe=0.1, retry=30.0, retry_most=30.0))
    with closing_in(0, index):
        listener = Listener(index)
        host.xenstored.cut()
        listener.until(Lost)
    index = connect(host, timing=QUICK)
    with closing_in(QUICK.request, index):
        listener = Listener(index)
        with host.xenstored.full_backlog():
            host.xenstored.cut()
            listener.until(Lost)
            index.close()


def test_opening_and_closing_leaves_nothing(host: WireHost) -> None:
    """Over and over; `nothing_left` counts."""
    for _ in range(20):
        connect(host, timing=QUICK).close()


# -- everything at once ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_it_converges_whatever_happens(host: WireHost, seed: int) -> None:
    """P2: a toolstack at work, and faults of the line and of the hypervisor in between."""
    chance = random.Random(seed)
    xenstored, xen = host.xenstored, host.xen
    faults: list[Callable[[], object]] = [
        xenstored.cut,
        lambda: xenstored.send(b"\xff" * 16),
        lambda: xenstored.send(event(b"@introduceDomain", b"introduce")),
        lambda: xenstored.rule(refuse(b"EAGAIN"), times=1),
        lambda: xenstored.rule(twice, times=1),
        lambda: xenstored.rule(half(9, close=True), times=1),
        lambda: xenstored.each(answers=False),
        lambda: xenstored.each(trickles=True),
        lambda: setattr(xenstored, "doubles", not xenstored.doubles),
        lambda: setattr(xenstored, "merges", not xenstored.merges),
        lambda: setattr(xen, "spurious", 2),
        xenstored.restart,
    ]
    uuids = 0x5000
    with connect(host, timing=QUICK) as index:
        for _ in range(60):
            uuids += 1
            domid = chance.randrange(1, 8)
            if chance.random() < 0.2:
                chance.choice(faults)()
            elif domid not in xen.domains:
                host.create(domid, chance.choice([b"a", b"b", None]), uuids)
            elif chance.random() < 0.5:
                host.rename(domid, chance.choice([b"a", b"b", b"c"]))
            else:
                host.destroy(domid)
            if chance.random() < 0.3:
                try:
                    index.refresh(timeout=0.05)
                except (NotLive, TimedOut):
                    continue
        xenstored.obey()
        xen.spurious = 0
        eventually(lambda: index.live and held(index) == host.truth())
        assert_follows(index, host)
