"""The line through the kernel's xenbus device, as far as a pair of sockets can play it.

The device takes a message only whole, sets watches by itself, and lets events and replies come
in any relative order.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

import domindex.xen.xenstore
from domindex.errors import StoreError, StoreLost
from domindex.ports import Watch
from domindex.xen.xenstore import XenStore

from .conftest import LIMIT
from .fake_xenstored import Answer, FakeXenstored, Op, Request, event
from .misbehaviour import before, half, refuse, silent
from .test_xenstore import NAME, RELEASE, WEB, within


class Line:
    """What XenStore uses of a connection: one end of the pair."""

    path = "/dev/xen/xenbus"

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def connect(self) -> None: ...

    def close(self) -> None:
        self._end.close()

    def fileno(self) -> int:
        return self._end.fileno()

    def write(self, data: bytes | bytearray, /) -> int:
        return os.write(self.fileno(), data)


@pytest.fixture(params=["Linux before 4.11", "Linux"])
def old_bus(request: pytest.FixtureRequest, xenstored: FakeXenstored) -> bool:
    """Whether watches are acknowledged without the request's id."""
    xenstored.old_bus = request.param != "Linux"
    return xenstored.old_bus


@pytest.fixture
def bus(
    old_bus: bool, xenstored: FakeXenstored, monkeypatch: pytest.MonkeyPatch
) -> Iterator[XenStore]:
    """A line through the device."""
    monkeypatch.setattr(domindex.xen.xenstore, "connect", lambda *_: (Line(xenstored.plug()), True))
    store = XenStore("xenbus", None, LIMIT)
    yield store
    store.close()


def test_depth_is_refused_without_asking(xenstored: FakeXenstored, bus: XenStore) -> None:
    """The device drops the third argument of a watch without a word: there is no depth."""
    for refusal in bus.watch([WEB, RELEASE], depth=1):
        assert isinstance(refusal, StoreError)
        assert (refusal.errno, refusal.operation) == (errno.EINVAL, "WATCH")
    assert xenstored.requests == []
    assert bus.watch([WEB]) == [None]


def test_a_watch_that_the_kernel_refuses_concerns_itself_alone(
    xenstored: FakeXenstored, bus: XenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P9: it asks xenstored within the write, which fails with the errno of the refusal."""
    usual = Line.write

    def write(line: Line, data: bytes | bytearray, /) -> int:
        if NAME in data and data[0] == Op.WATCH:
            raise OSError(errno.ENOSPC, "no more watches")
        return usual(line, data)

    monkeypatch.setattr(Line, "write", write)
    with within(0):
        refusal, other = bus.watch([WEB, RELEASE])
    assert isinstance(refusal, StoreError)
    assert (refusal.errno, refusal.path) == (errno.ENOSPC, NAME.decode())
    assert other is None
    assert list(bus.events()) == [RELEASE]
    assert bus.read([NAME]) == [None]
    monkeypatch.setattr(domindex.xen.xenstore, "_BARRIER_PATH", NAME)
    with pytest.raises(StoreError) as caught:
        bus.barrier()
    assert caught.value.errno == errno.ENOSPC
    assert bus.read([NAME]) == [None]
    monkeypatch.setattr(Line, "write", lambda *_: os.write(-1, b""))
    with pytest.raises(StoreLost):
        bus.read([NAME])


def test_values_come_back_in_the_order_of_their_paths(
    xenstored: FakeXenstored, bus: XenStore
) -> None:
    """Each request is written whole, whatever its length; the window holds here as well."""
    paths = [b"/%d/" % number + b"x" * (1 + number * 10) for number in range(200)]
    for path in paths[::2]:
        xenstored.write(path, b"value of " + path[:4])
    expected = [b"value of " + p[:4] if n % 2 == 0 else None for n, p in enumerate(paths)]
    assert bus.read(paths) == expected


@pytest.mark.parametrize("event_first", [True, False])
def test_watches_are_set(xenstored: FakeXenstored, bus: XenStore, event_first: bool) -> None:
    """The first event may come before the acknowledgement: it is kept."""
    xenstored.event_first = event_first
    watches = [Watch(b"/local/domain/%d/name" % n, b"life/%d/1" % n) for n in range(100)]
    bus.watch([WEB, RELEASE, *watches])
    assert set(bus.events()) == {WEB, RELEASE, *watches}
    xenstored.write(NAME, b"web")
    bus.wait(10)
    assert WEB in list(bus.events())


@pytest.mark.parametrize("late", [1, 2, 40])
def test_first_events_may_come_after_later_acknowledgements(
    xenstored: FakeXenstored, bus: XenStore, late: int
) -> None:
    """Events have a thread of their own in the kernel: `watch` waits for them for a moment."""
    held: list[bytes] = []

    def rule(_: Request, answer: Answer) -> list[bytes]:
        acknowledged, told = answer()
        held.append(told)
        ready = held[:] if len(held) == late else []
        del held[: len(ready)]
        return [acknowledged, *ready[::-1]]

    xenstored.rule(rule, op=Op.WATCH)
    watches = [Watch(b"/local/domain/%d/name" % n, b"life/%d/1" % n) for n in range(late)]
    bus.watch(watches)
    assert set(bus.events()) == set(watches)


def test_a_watch_that_does_not_fire_is_set(xenstored: FakeXenstored, bus: XenStore) -> None:
    """Its event may come as late as it likes; nothing hangs for it."""
    xenstored.fires_at_start = False
    with within(0.5):
        bus.watch([WEB])
    assert list(bus.events()) == []
    xenstored.send(event(*WEB))
    bus.wait(10)
    assert list(bus.events()) == [WEB]


def test_watches_are_dropped(
    xenstored: FakeXenstored, bus: XenStore, old_bus: bool, request: pytest.FixtureRequest
) -> None:
    """The acknowledgement of an UNWATCH carries no id on old kernels either."""
    bus.watch([WEB, RELEASE])
    bus.unwatch([WEB, Watch(b"/unknown", b"unknown"), RELEASE])
    assert xenstored.clients[0].watches == []
    assert bus.read([NAME]) == [None]


def test_a_barrier_comes_after_every_earlier_event(
    xenstored: FakeXenstored, bus: XenStore, old_bus: bool, request: pytest.FixtureRequest
) -> None:
    """The first event of a fresh watch is the mark; neither it nor the watch is left behind."""
    bus.watch([WEB, RELEASE])
    bus.events()
    for number in range(20):
        xenstored.event_first = number % 2 == 0
        xenstored.rule(before(event(*WEB), event(*RELEASE)), op=Op.WATCH, times=1)
        bus.barrier()
        assert set(bus.events()) == {WEB, RELEASE}
        assert len(xenstored.clients[0].watches) == 2


def test_a_barrier_whose_mark_does_not_come_back_is_the_end(
    xenstored: FakeXenstored, bus: XenStore
) -> None:
    """Acknowledged by the kernel, silent from xenstored: that is a deaf line."""
    xenstored.fires_at_start = False
    with within(LIMIT), pytest.raises(StoreLost, match="silent"):
        bus.barrier()


def test_a_silent_bus_is_the_end(xenstored: FakeXenstored, bus: XenStore) -> None:
    """The device is there, and nobody answers through it."""
    xenstored.rule(silent)
    with within(LIMIT), pytest.raises(StoreLost, match="silent"):
        bus.read([NAME])


@pytest.mark.parametrize("what", ["watch", "barrier"])
def test_no_watch_is_set_while_nobody_answers(
    xenstored: FakeXenstored, bus: XenStore, what: str
) -> None:
    """P9: the kernel sets it within the write, and waits for xenstored without a time limit."""
    xenstored.rule(silent)
    with within(LIMIT), pytest.raises(StoreLost, match="silent"):
        bus.watch([WEB]) if what == "watch" else bus.barrier()
    assert Op.WATCH not in {request.op for request in xenstored.requests}


@pytest.mark.parametrize("close", [True, False])
def test_half_a_packet_is_the_end(xenstored: FakeXenstored, bus: XenStore, close: bool) -> None:
    """The rest does not come."""
    xenstored.rule(half(18, close=close))
    with within(LIMIT), pytest.raises(StoreLost):
        bus.read([NAME])


def test_a_message_that_comes_in_pieces_is_put_together(
    xenstored: FakeXenstored, bus: XenStore
) -> None:
    """The kernel hands out header, path and token of an event one after the other."""
    xenstored.write(NAME, b"web")
    xenstored.each(trickles=True)
    bus.watch([WEB])
    assert bus.read([NAME]) == [b"web"]
    assert list(bus.events()) == [WEB]


def test_a_refusal_is_an_error_and_the_line_works(xenstored: FakeXenstored, bus: XenStore) -> None:
    """Replies of xenstored come through with their ids."""
    xenstored.rule(refuse(b"EIO"), op=Op.READ, times=1)
    refusal, other = bus.read([NAME, b"/other"])
    assert isinstance(refusal, StoreError)
    assert (refusal.errno, other) == (errno.EIO, None)
    assert bus.read([NAME]) == [None]


def test_requests_of_both_kinds_follow_each_other(xenstored: FakeXenstored, bus: XenStore) -> None:
    """An acknowledgement without an id never answers a request of another kind."""
    for number in range(50):
        path = b"/n/%d" % number
        bus.watch([Watch(path, b"token/%d" % number)])
        xenstored.write(path, path)
        assert bus.read([path]) == [path]
    assert len(list(bus.events())) == 50
