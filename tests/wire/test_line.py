"""Several lines driven together: many names at once, and the line alone where no other can be had.

What one line does is in test_xenstore.py.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

import domindex.xen.xenstore
from domindex.errors import StoreError, StoreLost
from domindex.ports import Watch
from domindex.xen._pyxs import connect
from domindex.xen.line import _WINDOW, Driver, Line
from domindex.xen.packets import Request
from domindex.xen.xenstore import XenStore

from .conftest import OpenStore
from .fake_xenstored import FakeXenstored, Op, event, packet
from .misbehaviour import Hold, after, half, of_type, refuse, say, silent, twice, with_id

LIMIT = 0.3
PATHS = [b"/n/%d" % number for number in range(300)]


def fill(xenstored: FakeXenstored) -> list[bytes | None]:
    """Every third node is missing; the others have values of all lengths."""
    values = [None if n % 3 == 0 else b"x" * (n % 50) + b"%d" % n for n in range(len(PATHS))]
    for path, value in zip(PATHS, values, strict=True):
        if value is not None:
            xenstored.write(path, value)
    return values


def test_the_values_come_in_order(xenstored: FakeXenstored, store: XenStore) -> None:
    """Whoever answers first; and the connections are gone afterwards."""
    values = fill(xenstored)
    assert store.read(PATHS) == values
    asked = [request for request in xenstored.requests if request.op == Op.READ]
    assert len({id(request.client) for request in asked}) == domindex.xen.xenstore._BESIDE
    xenstored.wait_until(lambda: len(xenstored.clients) == 1)
    assert store.read(PATHS[:5]) == values[:5]
    assert store.read(PATHS) == values


def test_each_line_has_a_window_of_its_own(xenstored: FakeXenstored) -> None:
    """And its share of the requests: two lines have two windows under way."""
    hold = Hold(xenstored)
    xenstored.rule(hold, op=Op.READ)
    count = 2 * _WINDOW + 100
    requests = [Request(Op.READ, b"/n/%d" % number) for number in range(count)]
    with ExitStack() as closing:
        driver = Driver(10.0)
        closing.callback(driver.close)
        lines = []
        for _ in range(2):
            connection, _ = connect("socket", xenstored.path, 10.0)
            lines.append(Line(connection, driver))
            closing.callback(lines[-1].close)
        pool = closing.enter_context(ThreadPoolExecutor())
        exchange = pool.submit(driver.exchange, lines, requests)
        xenstored.wait_until(lambda: hold.seen == 2 * _WINDOW)
        shares = Counter(id(request.client) for request, _ in hold.held)
        assert [*shares.values()] == [_WINDOW, _WINDOW]
        xenstored.obey()
        hold.let_go()
        exchange.result(10)
    assert {request.error for request in requests} == {b"ENOENT"}


def test_few_are_read_on_the_line(xenstored: FakeXenstored, store: XenStore) -> None:
    """A connection costs more than a read."""
    store.read(PATHS[: domindex.xen.xenstore._MANY - 1])
    assert len(xenstored.clients) == 1


def test_an_event_meanwhile_is_not_lost(xenstored: FakeXenstored, store: XenStore) -> None:
    """It comes on the line that has the watches."""
    watch = Watch(PATHS[1], b"token")
    store.watch([watch])
    list(store.events())
    hold = Hold(xenstored)
    xenstored.rule(hold, op=Op.READ)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(store.read, PATHS)
        xenstored.wait_until(lambda: hold.seen == len(PATHS))
        xenstored.write(PATHS[1], b"new")
        hold.let_go()
        reading.result(10)
    store.barrier()
    assert list(store.events()) == [watch]


@pytest.mark.parametrize("count", [32, 33, 100])
def test_replies_in_any_order_and_in_pieces(
    xenstored: FakeXenstored, store: XenStore, count: int
) -> None:
    """Each finds its place."""
    values = fill(xenstored)
    hold = Hold(xenstored)
    xenstored.rule(hold, op=Op.READ)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(store.read, PATHS[:count])
        xenstored.wait_until(lambda: hold.seen == count)
        hold.let_go(newest_first=True)
        assert reading.result(10) == values[:count]


def test_a_refusal_is_of_that_read_alone(xenstored: FakeXenstored, store: XenStore) -> None:
    """P9: as on the line, it is given in its place, and the others have their values."""
    values = fill(xenstored)
    for name in (b"EIO", b"EACCES", b"ENOMEM", b"EINVAL", b"E2BIG", b"EQUOTA", b"ENOSPC", b"?"):
        xenstored.rule(refuse(name), op=Op.READ, times=1)
        given = store.read(PATHS)
        (place,) = [n for n, value in enumerate(given) if isinstance(value, StoreError)]
        refusal = given[place]
        assert isinstance(refusal, StoreError)
        assert not isinstance(refusal, StoreLost)
        assert (refusal.operation, refusal.path) == ("READ", PATHS[place].decode())
        assert name.decode() in str(refusal)
        assert given[:place] + given[place + 1 :] == values[:place] + values[place + 1 :]
    store.barrier()


FATAL = {
    "cut": half(3, close=True),
    "garbage": say(b"\xff" * 64),
    "too long": say(packet(Op.READ, b"", 1, length=1 << 24)),
    "another's": with_id(7),
    "nobody's": with_id(5000),
    "zero": with_id(0),
    "twice": twice,
    "an event": after(event(b"/x", b"y")),
}


@pytest.mark.parametrize("fault", FATAL)
def test_whatever_is_no_answer_ends_the_line(
    xenstored: FakeXenstored, store: XenStore, fault: str
) -> None:
    """P9: a server that fails there is not believed here; nothing is left open."""
    fill(xenstored)
    before = len(os.listdir("/proc/self/fd"))
    xenstored.rule(FATAL[fault], op=Op.READ, times=1)
    with pytest.raises(StoreLost):
        store.read(PATHS)
    with pytest.raises(StoreLost):
        store.barrier()
    xenstored.wait_until(lambda: len(xenstored.clients) <= 1)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_another_kind_of_reply_is_no_value(xenstored: FakeXenstored, store: XenStore) -> None:
    """It answers a question that was not asked."""
    xenstored.rule(of_type(Op.WATCH), op=Op.READ, times=1)
    with pytest.raises(StoreLost):
        store.read(PATHS)


def test_silence_is_limited(xenstored: FakeXenstored, open_store: OpenStore) -> None:
    """P9: no call blocks without a time limit."""
    store = open_store(LIMIT)
    xenstored.rule(silent, op=Op.READ, times=1)
    with pytest.raises(StoreLost, match=r"silent.*READ of /n/") as caught:
        store.read(PATHS)
    assert caught.value.operation == "READ"
    assert caught.value.path in [path.decode() for path in PATHS]


def test_interrupted_from_another_thread(xenstored: FakeXenstored, store: XenStore) -> None:
    """P9: close() does not wait for a server."""
    hold = Hold(xenstored)
    xenstored.rule(hold, op=Op.READ)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(store.read, PATHS)
        xenstored.wait_until(lambda: hold.seen == len(PATHS))
        threading.Thread(target=store.interrupt).start()
        with pytest.raises(StoreLost):
            reading.result(2)


def test_where_no_more_can_be_opened_the_line_is_used(
    xenstored: FakeXenstored, store: XenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P12: root may be dropped once the line is open; it is not tried again and again."""
    values = fill(xenstored)
    tried: list[str] = []

    def refused(transport: str | None, path: str | None, timeout: float) -> None:
        tried.append(str(path))
        raise domindex.AccessDenied("it may not be opened")

    monkeypatch.setattr(domindex.xen.xenstore, "connect", refused)
    assert store.read(PATHS) == values
    assert store.read(PATHS) == values
    assert tried == [xenstored.path]
    assert len(xenstored.clients) == 1
