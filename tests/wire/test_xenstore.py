"""The line to xenstored, on a xenstored that behaves and on one that does not.

Whatever comes, it is an answer, a refusal or the end of the line: within the time limit, by a
type that says which, and with nothing left behind (the fixture `nothing_left` sees to that).
"""

from __future__ import annotations

import errno
import math
import os
import resource
import select
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pyxs.connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import domindex.xen._pyxs
import domindex.xen.line
import domindex.xen.polling
import domindex.xen.watches
import domindex.xen.xenstore
from domindex.errors import AccessDenied, HostError, InvalidKey, StoreError, StoreLost
from domindex.opening import XenHost
from domindex.ports import Watch
from domindex.xen.line import Driver
from domindex.xen.xenstore import XenStore

from .conftest import LIMIT, OpenStore, descriptors
from .fake_xenstored import FakeXenstored, Op, Rule, event, packet
from .misbehaviour import (
    Hold,
    after,
    before,
    half,
    of_type,
    refuse,
    say,
    silent,
    twice,
    value,
    with_id,
)

NAME = b"/local/domain/1/name"
WEB = Watch(NAME, b"life/1/1")
RELEASE = Watch(b"@releaseDomain", b"release")

Call = Callable[[XenStore], object]

CALLS: dict[Op, Call] = {
    Op.READ: lambda store: store.read([NAME]),
    Op.WATCH: lambda store: store.watch([WEB]),
    Op.UNWATCH: lambda store: store.unwatch([WEB]),
    Op.GET_DOMAIN_PATH: lambda store: store.barrier(),
}
"""What the port offers, by the request it makes."""

FATAL: dict[str, Rule] = {
    "garbage": say(b"\xff" * 64),
    "zeros": say(bytes(64)),
    "text": say(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "half a header, then silence": half(7),
    "half a payload, then silence": half(17),
    "half a header, then the end": half(7, close=True),
    "half a payload, then the end": half(17, close=True),
    "the end": half(0, close=True),
    "silence": silent,
    "a huge length": lambda request, _: [packet(request.op, b"x", request.id, length=0xFFFFFFFF)],
    "a length over the limit": lambda request, _: [
        packet(request.op, b"x", request.id, length=(1 << 20) + 1)
    ],
    "an unknown type": of_type(99),
    "the type of another request": of_type(Op.WRITE),
    "an answer to nobody's request": with_id(12345),
    "an answer with the id of events": with_id(0),
    "an answer to nobody, before the right one": before(packet(Op.READ, b"x", 777)),
    "a refusal to nobody, before the right one": before(packet(Op.ERROR, b"EIO\0", 777)),
    "an event without NULs": before(packet(Op.EVENT, b"@releaseDomain")),
    "an event without a token": before(packet(Op.EVENT, b"@releaseDomain\0")),
    "an event whose token has no end": before(packet(Op.EVENT, b"@releaseDomain\0release")),
    "an event of nothing": before(packet(Op.EVENT)),
}
"""After these the line cannot be trusted."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if it takes longer; a busy machine is granted five seconds."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds + 5.0


def assert_unusable(store: XenStore) -> None:
    """Each call that asks for something raises StoreLost, at once; `close` does not mind."""
    calls: list[Call] = [
        *CALLS.values(),
        lambda s: s.events(),
        lambda s: s.read([NAME] * 100),
        lambda s: s.is_introduced(7),
    ]
    with within(0):
        for call in calls:
            with pytest.raises(StoreLost):
                call(store)
        store.close()
        store.close()


# -- a xenstored that behaves ----------------------------------------------------------------


def test_values_come_back_in_the_order_of_their_paths(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """Many reads, pipelined; a node that is not there is None."""
    paths = [b"/local/domain/%d/name" % number for number in range(300)]
    for path in paths[::2]:
        xenstored.write(path, b"value of " + path)
    expected = [b"value of " + p if n % 2 == 0 else None for n, p in enumerate(paths)]
    assert store.read(paths) == expected
    assert store.read([]) == []


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"x" * 4000,
        b"x" * 4096,
        b"\xff\xfe\x80",
        b"a\0b\0",
        b"\x1b[2J\n\r\x07",
        "Übung-日本".encode(),
        bytes(range(256)),
    ],
    ids=lambda name: repr(name[:12]),
)
def test_any_bytes_are_a_name(xenstored: FakeXenstored, store: XenStore, name: bytes) -> None:
    """Names are not judged here: they come as they stand in the store."""
    xenstored.write(NAME, name)
    assert store.read([NAME]) == [name]


@pytest.mark.parametrize("length", [4097, 65536, 1 << 20])
def test_replies_longer_than_a_packet_may_be_are_read(
    xenstored: FakeXenstored, store: XenStore, length: int
) -> None:
    """oxenstored and old xenstored send them; the rest of the line stays in step."""
    long = os.urandom(length)
    xenstored.rule(value(long), times=1)
    xenstored.write(b"/b", b"short")
    assert store.read([NAME, b"/b"]) == [long, b"short"]


def test_a_line_that_trickles_is_read(xenstored: FakeXenstored, store: XenStore) -> None:
    """One byte at a time: replies and events are put together again."""
    xenstored.write(NAME, b"web")
    xenstored.each(trickles=True)
    store.watch([WEB])
    assert store.read([NAME, b"/none"]) == [b"web", None]
    assert list(store.events()) == [WEB]


def test_replies_in_any_order_find_their_requests(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """The protocol does not promise the order of replies: the request's id decides."""
    paths = [b"/n/%d" % number for number in range(40)]
    for path in paths:
        xenstored.write(path, b"value of " + path)
    hold = Hold(xenstored)
    xenstored.rule(hold)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(store.read, paths)
        xenstored.wait_until(lambda: len(hold.held) == len(paths))
        hold.let_go(newest_first=True)
        assert reading.result(10) == [b"value of " + path for path in paths]


def test_a_watch_has_fired_when_it_is_set(xenstored: FakeXenstored, store: XenStore) -> None:
    """Its first event is queued when `watch` returns; each later change gives one more."""
    store.watch([WEB, RELEASE])
    assert list(store.events()) == [WEB, RELEASE]
    assert list(store.events()) == []
    xenstored.release(7)
    store.wait(10)
    assert list(store.events()) == [RELEASE]
    xenstored.write(NAME, b"db")
    store.wait(10)
    assert list(store.events()) == [WEB]


def test_a_first_event_that_has_come_is_not_waited_for(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """Twenty watches, one after the other, take less than twenty moments of patience."""
    began = time.monotonic()
    for number in range(20):
        store.watch([Watch(NAME, b"life/1/%d" % number)])
    assert time.monotonic() - began < 20 * 0.25 / 2


def test_the_first_event_is_not_waited_for_for_ever(
    xenstored: FakeXenstored, open_store: OpenStore
) -> None:
    """A watch that does not fire at its start is set all the same, after a moment."""
    store = open_store(30.0)
    xenstored.fires_at_start = False
    with within(0.5):
        store.watch([WEB])
    assert list(store.events()) == []
    xenstored.write(NAME, b"web")
    store.barrier()
    assert list(store.events()) == [WEB]


def test_the_first_event_is_not_waited_for_for_ever_in_a_storm(
    xenstored: FakeXenstored, open_store: OpenStore
) -> None:
    """Events of other watches do not prolong the wait."""
    store = open_store(30.0)
    store.watch([RELEASE])
    xenstored.fires_at_start = False
    xenstored.each(storm=event(*RELEASE))
    with within(10):  # the storm itself takes the processor from us; the fault would be no end
        store.watch([WEB])
    assert list(store.events()) == [RELEASE]


def test_a_barrier_comes_after_every_earlier_event(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """A change that was complete before the barrier was asked for is in the queue after it."""
    store.watch([WEB, RELEASE])
    store.events()
    for number in range(50):
        xenstored.write(NAME, b"%d" % number)
        xenstored.release(number)
        store.barrier()
        assert set(store.events()) == {WEB, RELEASE}


def test_an_event_ahead_of_the_reply_is_not_lost(xenstored: FakeXenstored, store: XenStore) -> None:
    """Events that come while an answer is awaited are kept; those after it come later."""
    store.watch([WEB, RELEASE])
    store.events()
    xenstored.rule(before(event(*WEB)), times=1)
    store.read([NAME])
    assert list(store.events()) == [WEB]
    xenstored.rule(after(event(*RELEASE)), times=1)
    store.read([NAME])
    store.wait(10)
    assert list(store.events()) == [RELEASE]


def test_equal_events_are_folded_into_one(xenstored: FakeXenstored, store: XenStore) -> None:
    """Doubled, merged or many: the same path under the same token is one event."""
    store.watch([WEB])
    store.events()
    xenstored.doubles = True
    for _ in range(100):
        xenstored.write(NAME, b"web")
    store.barrier()
    assert list(store.events()) == [WEB]


def test_events_of_unknown_tokens_are_passed_over(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """UNWATCH leaves events under way, and they do not even end a `wait`."""
    store.watch([WEB])
    store.events()
    xenstored.rule(before(event(*WEB), event(NAME, b"who?"), event(NAME, b"")), op=Op.UNWATCH)
    store.unwatch([WEB])
    store.barrier()
    assert list(store.events()) == []
    xenstored.send(event(*WEB))
    store.wait(0.05)
    assert list(store.events()) == []


def test_a_watch_that_is_unknown_can_be_dropped(xenstored: FakeXenstored, store: XenStore) -> None:
    """The server answers ENOENT, and what was wanted is so."""
    store.unwatch([WEB, RELEASE])
    store.watch([WEB])
    store.unwatch([RELEASE, WEB])
    assert xenstored.clients[0].watches == []


def test_closing_drops_the_watches(xenstored: FakeXenstored, open_store: OpenStore) -> None:
    """Nothing is left on the server of a line that is closed."""
    store = open_store()
    store.watch([WEB, RELEASE])
    assert len(xenstored.clients[0].watches) == 2
    store.close()
    xenstored.wait_until(lambda: not xenstored.clients)
    assert_unusable(store)


def test_a_closed_line_can_be_woken(store: XenStore) -> None:
    """By a thread that does not know yet: it has no effect."""
    store.close()
    store.wake()
    store.interrupt()


# -- what the server can do ------------------------------------------------------------------


def test_opening_asks_for_nothing(xenstored: FakeXenstored, store: XenStore) -> None:
    """P11: what the server can do is found out by trying."""
    assert store.transport == "socket"
    assert xenstored.requests == []


NAMES = Watch(b"/local/domain", b"names")


@pytest.mark.parametrize(
    ("features", "oxenstored", "path", "known"),
    [
        (None, False, NAMES, False),
        (None, False, RELEASE, False),
        (10, False, NAMES, False),
        (10, False, RELEASE, False),
        (14, False, NAMES, True),
        (14, False, RELEASE, True),
        (None, True, NAMES, True),
        (14, True, RELEASE, False),
    ],
)
def test_watch_depth_is_found_out_by_trying(
    xenstored: FakeXenstored,
    store: XenStore,
    features: int | None,
    oxenstored: bool,
    path: Watch,
    known: bool,
) -> None:
    """EINVAL where it is not known, as oxenstored's special watches; and the line goes on."""
    xenstored.features, xenstored.oxenstored = features, oxenstored
    (refusal,) = store.watch([path], depth=2)
    if known:
        assert refusal is None
        assert list(store.events()) == [path]
    else:
        assert refusal is not None
        assert refusal.errno == errno.EINVAL
        assert list(store.events()) == []
        assert store.watch([path]) == [None]


def test_a_first_look_with_depth_asks_for_each_name_once(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """P11: three watches stand for 300 domains."""
    store.watch([RELEASE, Watch(b"@introduceDomain", b"introduce")], depth=1)
    store.watch([NAMES], depth=2)
    store.read([b"/local/domain/%d/name" % domid for domid in range(300)])
    asked = Counter(request.op for request in xenstored.requests)
    assert asked == {Op.WATCH: 3, Op.READ: 300}


def test_a_refused_watch_is_forgotten_and_the_others_are_set(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """P9: nothing is waited for or taken in under its token; the rest fire at their start."""
    xenstored.rule(refuse(b"ENOSPC"), op=Op.WATCH, times=1)
    with within(0):
        refusal, other = store.watch([WEB, RELEASE])
    assert other is None
    assert refusal is not None
    assert refusal.errno == errno.ENOSPC
    assert list(store.events()) == [RELEASE]
    xenstored.send(event(*WEB))
    store.barrier()
    assert list(store.events()) == []
    assert store.watch([WEB]) == [None]
    assert list(store.events()) == [WEB]


def test_the_watch_of_all_names_tells_which_path_changed(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """Two levels deep and no deeper."""
    store.watch([NAMES], depth=2)
    store.events()
    for path in (NAME, b"/local/domain/7/memory/target", b"/local/domain/7/vm", NAME):
        xenstored.write(path, b"x")
    store.barrier()
    assert list(store.events()) == [Watch(NAME, b"names"), Watch(b"/local/domain/7/vm", b"names")]


def test_whatever_changes_below_a_followed_node_is_one_event(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """P9: a guest that makes ever other nodes there neither breaks the line nor takes memory."""
    data = Watch(b"/local/domain/1/data", b"node/1/1")
    store.watch([data, WEB])
    store.events()
    blob = b"".join(event(b"/local/domain/1/data/%d" % n, data.token) for n in range(140_000))
    xenstored.rule(before(blob), op=Op.GET_DOMAIN_PATH, times=1)
    store.barrier()
    assert len(store._watches._changed) == 1
    assert list(store.events()) == [data]
    xenstored.write(b"/local/domain/1/data/x", b"x")
    store.barrier()
    assert list(store.events()) == [data]


@pytest.mark.parametrize("long", [False, True])
def test_more_paths_than_there_is_room_for_are_told_as_the_watch_s_own(
    xenstored: FakeXenstored, store: XenStore, long: bool
) -> None:
    """P9: then anything below may have changed. No number of events, no path, ends the line."""
    store.watch([NAMES, RELEASE], depth=2)
    store.events()
    room = domindex.xen.watches._ROOM
    paths = [b"/local/domain/1/" + b"x" * 5000] if long else []
    paths += [b"/local/domain/%d/name" % n for n in range(10 if long else 140_000)]
    blob = b"".join(event(path, NAMES.token) for path in paths)
    xenstored.rule(before(blob, event(b"@releaseDomain/7", RELEASE.token)), times=1)
    store.barrier()
    assert set(store.events()) == {NAMES, Watch(b"@releaseDomain/7", RELEASE.token)}
    fit = paths[-10:] if long else paths[-room:]
    few = b"".join(event(path, NAMES.token) for path in fit)
    xenstored.rule(before(few), op=Op.GET_DOMAIN_PATH, times=1)
    store.barrier()
    assert [path for path, _ in store.events()] == fit


@pytest.mark.parametrize("introduced", [True, False])
def test_xenstored_says_of_which_domains_it_was_told(
    xenstored: FakeXenstored, store: XenStore, introduced: bool
) -> None:
    """True, False, or None where it does not say; the line goes on."""
    xenstored.introduce(7)
    if not introduced:
        xenstored.release(7)
    assert store.is_introduced(7) is introduced
    for said in (
        refuse(b"EACCES"),
        refuse(b"ENOSYS"),
        *(value(v) for v in (b"", b"\0", b"X\0", b"TF\0")),
    ):
        xenstored.rule(said, op=Op.IS_DOMAIN_INTRODUCED, times=1)
        assert store.is_introduced(7) is None
    assert store.is_introduced(0) is True


def test_special_watches_with_depth_name_the_domain(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """C xenstored of 4.22: `@releaseDomain/7`, after a first event with the plain name."""
    store.watch([RELEASE], depth=1)
    assert list(store.events()) == [RELEASE]
    xenstored.release(7)
    xenstored.release(7)
    xenstored.release(12)
    store.barrier()
    told = [Watch(b"@releaseDomain/7", b"release"), Watch(b"@releaseDomain/12", b"release")]
    assert list(store.events()) == told


# -- refusals --------------------------------------------------------------------------------


ERRORS = [
    (b"EACCES", errno.EACCES),
    (b"EAGAIN", errno.EAGAIN),
    (b"EIO", errno.EIO),
    (b"EINVAL", errno.EINVAL),
    (b"EEXIST", errno.EEXIST),
    (b"ENOSYS", errno.ENOSYS),
    (b"ENOMEM", errno.ENOMEM),
    (b"E2BIG", errno.E2BIG),
    (b"ENOSPC", errno.ENOSPC),
    (b"EQUOTA", None),
    (b"ENONSENSE", None),
    (b"\xc3\x9cBEL", None),
    (b"\xff\xfe", None),
    (b"", None),
    (b"E" * 4000, None),
]


@pytest.mark.parametrize(("name", "number"), ERRORS, ids=lambda name: repr(name)[:14])
@pytest.mark.parametrize("op", [Op.READ, Op.WATCH])
def test_a_refusal_is_given_in_its_place_and_the_line_works(
    xenstored: FakeXenstored, store: XenStore, op: Op, name: bytes, number: int | None
) -> None:
    """P9: with the number of its name, where it has one, and with what was asked for."""
    xenstored.write(b"/other", b"value")
    xenstored.rule(refuse(name), op=op, times=1)
    given: list[Any]
    if op == Op.READ:
        given, others = store.read([NAME, b"/other", b"/none"]), [b"value", None]
    else:
        given, others = store.watch([WEB, RELEASE]), [None]
    refusal = given[0]
    assert given[1:] == others
    assert isinstance(refusal, StoreError)
    assert not isinstance(refusal, StoreLost)
    assert (refusal.errno, refusal.operation, refusal.path) == (number, op.name, NAME.decode())
    said = str(refusal)
    assert said.startswith(f"xenstored refuses {op.name} of {NAME.decode()}: ")
    assert len(said) < 200
    assert said.isprintable()
    if number is not None:
        assert said.endswith(f": {name.decode()} ({os.strerror(number)})")
    xenstored.write(NAME, b"web")
    assert store.read([NAME]) == [b"web"]


@pytest.mark.parametrize(("name", "number"), ERRORS, ids=lambda name: repr(name)[:14])
def test_a_refused_barrier_or_unwatch_is_done(
    xenstored: FakeXenstored, store: XenStore, name: bytes, number: int | None
) -> None:
    """P9: a refusal comes after every earlier event, too; and an unwatched token is deaf."""
    store.watch([WEB, RELEASE])
    store.events()
    xenstored.rule(refuse(name), op=Op.GET_DOMAIN_PATH)
    xenstored.rule(refuse(name), op=Op.UNWATCH)
    store.unwatch([WEB])
    xenstored.write(NAME, b"web")
    xenstored.release(7)
    store.barrier()
    assert list(store.events()) == [RELEASE]
    assert store.read([NAME]) == [b"web"]


def test_one_refusal_among_many_leaves_no_reply_behind(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """P9: each of the others has its value, and the next answers are the right ones."""
    store._alone = True
    paths = [b"/n/%d" % number for number in range(150)]
    for path in paths:
        xenstored.write(path, path)
    xenstored.rule(refuse(b"EIO"), times=1)
    refusal, *others = store.read(paths)
    assert isinstance(refusal, StoreError)
    assert refusal.path == "/n/0"
    assert others == paths[1:]
    assert len(xenstored.requests) == len(paths)
    xenstored.write(NAME, b"web")
    assert store.read([NAME]) == [b"web"]


def test_a_watch_that_exists_is_refused_and_goes_on(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """EEXIST: the same path under the same token."""
    store.watch([WEB])
    store.events()
    (refusal,) = store.watch([WEB])
    assert refusal is not None
    assert refusal.errno == errno.EEXIST
    xenstored.write(NAME, b"web")
    store.barrier()
    assert list(store.events()) == [WEB]


@pytest.mark.parametrize("op", [Op.READ, Op.WATCH, Op.UNWATCH])
@pytest.mark.parametrize("fault", ["silence", "the end", "garbage", "an unknown type"])
def test_a_lost_line_says_what_it_was_asked_for(
    xenstored: FakeXenstored, open_store: OpenStore, op: Op, fault: str
) -> None:
    """P9: operation and path, for people and for programs."""
    store = open_store()
    xenstored.rule(FATAL[fault], op=op)
    with pytest.raises(StoreLost, match=f"asked for {op.name} of {NAME.decode()}") as caught:
        CALLS[op](store)
    assert (caught.value.operation, caught.value.path) == (op.name, NAME.decode())


def test_a_refusal_forges_no_log_line(xenstored: FakeXenstored, store: XenStore) -> None:
    """What the server calls the error is escaped before people see it."""
    xenstored.rule(refuse(b"E\x1b[2J\nall is well"), times=1)
    (refusal,) = store.read([b"/x\x1b[2J\n\xff"])
    assert isinstance(refusal, StoreError)
    assert str(refusal).isprintable()
    assert refusal.path is not None
    assert refusal.path.isprintable()


# -- a xenstored that does not behave --------------------------------------------------------


@pytest.mark.parametrize("op", CALLS)
@pytest.mark.parametrize("fault", FATAL)
def test_what_cannot_be_trusted_ends_the_line(
    xenstored: FakeXenstored, open_store: OpenStore, op: Op, fault: str
) -> None:
    """StoreLost within the time limit, saying of which line; and nothing works afterwards."""
    store = open_store()
    xenstored.rule(FATAL[fault], op=op)
    with within(LIMIT), pytest.raises(StoreLost) as caught:
        CALLS[op](store)
    assert xenstored.path in str(caught.value)
    assert_unusable(store)


@pytest.mark.parametrize("op", CALLS)
def test_a_second_answer_ends_the_line(
    xenstored: FakeXenstored, open_store: OpenStore, op: Op
) -> None:
    """The first is taken; the second is nobody's, whether it comes at once or before the next."""
    store = open_store()
    xenstored.rule(twice, op=op, times=1)

    def call_twice() -> None:
        CALLS[op](store)
        CALLS[op](store)

    with within(LIMIT), pytest.raises(StoreLost):
        call_twice()
    assert_unusable(store)


def test_garbage_is_noticed_while_waiting(xenstored: FakeXenstored, store: XenStore) -> None:
    """Nothing was asked: what comes and is no event ends the line, in `wait` as in `events`."""
    for packets in ([b"\xff" * 16], [packet(Op.READ, b"x", 1)], [packet(Op.EVENT, b"x")]):
        other = XenStore("socket", xenstored.path, 10.0)
        other.barrier()
        xenstored.send(*packets)
        with pytest.raises(StoreLost):
            other.wait(10)
        assert_unusable(other)
        xenstored.cut()


def test_half_a_packet_is_no_cause_to_wake(xenstored: FakeXenstored, open_store: OpenStore) -> None:
    """The rest may come; only a request that is not answered for it ends the line."""
    store = open_store()
    store.watch([WEB])
    store.events()
    told = event(*WEB)
    xenstored.send(told[:20])
    store.wait(0.05)
    assert list(store.events()) == []
    xenstored.send(told[20:])
    store.wait(10)
    assert list(store.events()) == [WEB]
    xenstored.send(told[:20])
    with within(LIMIT), pytest.raises(StoreLost):
        store.barrier()


@pytest.mark.parametrize("call", CALLS.values())
def test_a_xenstored_that_is_gone_ends_the_line(
    xenstored: FakeXenstored, open_store: OpenStore, call: Call
) -> None:
    """The socket was closed while nobody looked."""
    store = open_store()
    xenstored.stop()
    with within(0), pytest.raises(StoreLost):
        call(store)
    assert_unusable(store)


def test_the_end_of_the_line_is_noticed_while_waiting(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """No time limit needs to pass."""
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(store.wait, 30)
        xenstored.cut()
        with within(0), pytest.raises(StoreLost):
            waiting.result(10)


def test_events_before_the_end_do_not_hide_it(xenstored: FakeXenstored, store: XenStore) -> None:
    """What came with the last reply is given out; whoever then asks or waits is told."""
    store.watch([WEB])
    xenstored.each(closing=True)
    xenstored.wait_until(lambda: not xenstored.clients)
    assert list(store.events()) == [WEB]
    with pytest.raises(StoreLost):
        store.wait(10)
    with pytest.raises(StoreLost):
        store.events()


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    answer=st.lists(
        st.binary(max_size=40)
        | st.builds(
            packet,
            st.sampled_from([*Op, 0, 99, 0xFFFFFFFF]),
            st.binary(max_size=20),
            st.integers(0, 4),
            st.none() | st.integers(0, 40),
        ),
        max_size=4,
    ),
    op=st.sampled_from(sorted(CALLS)),
)
def test_any_bytes_give_an_answer_or_a_typed_error(
    xenstored: FakeXenstored, answer: list[bytes], op: Op
) -> None:
    """Whatever comes before the line ends: no other exception, no value that is not bytes."""
    store = XenStore("socket", xenstored.path, 10.0)

    def rule(request: object, _: object) -> list[bytes]:
        xenstored.clients[-1].closing = True
        return answer

    xenstored.rule(rule, op=op, times=1)
    try:
        CALLS[op](store)
        store.events()
    except StoreError:
        pass
    finally:
        store.close()
        xenstored.obey()
        xenstored.wait_until(lambda: not xenstored.clients)


# -- storms and floods -----------------------------------------------------------------------


def test_a_storm_of_events_does_not_hide_an_answer(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """Thousands of events come before the reply; they are one in the queue."""
    store.watch([WEB, RELEASE])
    store.events()
    xenstored.write(NAME, b"web")
    xenstored.rule(before(*[event(*RELEASE)] * 20_000), op=Op.READ)
    assert store.read([NAME] * 3) == [b"web"] * 3
    assert set(store.events()) == {WEB, RELEASE}


def test_in_an_endless_storm_requests_are_answered(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """Neither a request nor `events` nor `wait` is held up by events that never cease."""
    store.watch([WEB, RELEASE])
    xenstored.write(NAME, b"web")
    xenstored.each(storm=event(*RELEASE))
    for _ in range(3):
        assert store.read([NAME, b"/none"]) == [b"web", None]
        store.barrier()
        store.wait(10)
        assert RELEASE in list(store.events())


def test_a_line_that_is_never_empty_does_not_hold_its_reader(
    store: XenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that sends faster than we can take in: each call looks up from reading in time."""
    store.watch([RELEASE])
    told = event(b"@releaseDomain", b"release")
    flood = told * (2 + (1 << 16) // len(told))
    usual, reads = os.read, 0

    def read(fd: int, length: int, /) -> bytes:
        nonlocal reads
        if fd != store._line.fd:
            return usual(fd, length)
        at = reads * length % len(told)  # goes on where the last one ended
        reads += 1
        assert reads < 1000, "it reads without end"
        return flood[at : at + length]

    monkeypatch.setattr(os, "read", read)
    assert list(store.events(arrived=True)) == [RELEASE]
    assert reads


def test_an_endless_storm_without_an_answer_is_silence(
    xenstored: FakeXenstored, open_store: OpenStore
) -> None:
    """Events are no answer: the time limit of a request counts from its sending."""
    store = open_store()
    store.watch([RELEASE])
    xenstored.each(storm=event(*RELEASE), answers=False)
    with within(LIMIT), pytest.raises(StoreLost, match="silent"):
        store.read([NAME])


def test_a_storm_nobody_asked_for_wakes_nobody(xenstored: FakeXenstored, store: XenStore) -> None:
    """Unknown tokens are dropped as they come: `wait` ends in its time, with nothing queued."""
    xenstored.each(storm=event(NAME, b"who?"))
    with within(0.1):
        store.wait(0.1)
    assert list(store.events()) == []
    store.barrier()


def test_never_more_than_a_window_is_under_way(xenstored: FakeXenstored, store: XenStore) -> None:
    """A window of requests ahead of the replies, filled up when half of it is answered."""
    store._alone = True  # on the line itself, as below
    window = domindex.xen.line._WINDOW
    paths = [b"/n/%d" % number for number in range(2 * window)]
    hold = Hold(xenstored)
    xenstored.rule(hold, op=Op.READ)
    longest = 0

    def under_way(wanted: int) -> bool:
        return hold.seen >= wanted

    with ThreadPoolExecutor() as pool:
        reading = pool.submit(store.read, paths)
        for let_go, wanted in (
            (0, window),
            (1, window),
            (window // 2 - 1, window + window // 2),
            (window // 2, 2 * window),
            (window, 2 * window),
        ):
            hold.let_go(let_go, newest_first=True)
            xenstored.wait_until(partial(under_way, wanted))
            longest = max(longest, len(hold.held))
        assert reading.result(10) == [None] * len(paths)
    assert longest == window


def test_a_server_that_stops_reading_is_silent(
    xenstored: FakeXenstored, open_store: OpenStore
) -> None:
    """The line is full, so that the rest cannot even be sent: that is limited in time as well."""
    store = open_store()
    store._alone = True
    xenstored.each(reads=False)
    with within(LIMIT), pytest.raises(StoreLost, match="silent"):
        store.read([b"/" + b"x" * 3000] * 200)


def test_a_server_that_stops_reading_and_goes_on_is_survived(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """A request that was sent in part is sent to its end later, and nothing is out of step."""
    paths = [b"/%d/" % number + b"x" * 3000 for number in range(200)]
    for path in paths:
        xenstored.write(path, b"value of " + path[:4])
    line = xenstored.clients[0].socket
    store._alone = True
    _shrink(store, line)
    poll = select.poll()
    poll.register(line, select.POLLIN)
    with ThreadPoolExecutor() as pool:
        for _ in range(3):
            xenstored.each(reads=False)
            asked = len(xenstored.requests)
            reading = pool.submit(store.read, paths)
            assert poll.poll(10_000)  # some of it has come, and the rest does not fit
            xenstored.each(reads=True)
            assert reading.result(10) == [b"value of " + path[:4] for path in paths]
            assert len(xenstored.requests) == asked + len(paths)


def test_the_rest_is_sent_although_nothing_is_answered(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """Room on the line is enough: a server may want a whole window before it answers."""
    paths = [b"/%d/" % number + b"x" * 3000 for number in range(64)]
    _shrink(store, xenstored.clients[0].socket)
    hold = Hold(xenstored)
    xenstored.rule(hold)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(store.read, paths)
        try:
            xenstored.wait_until(lambda: hold.seen == len(paths), timeout=5)
        finally:
            hold.let_go()
            xenstored.obey()
        assert reading.result(20) == [None] * len(paths)


def _shrink(store: XenStore, line: socket.socket) -> None:
    """Make the buffers of the line so small that a window of requests does not fit."""
    with socket.socket(fileno=os.dup(store._line.fd)) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)


# -- other threads ---------------------------------------------------------------------------


def test_wake_ends_the_current_or_the_next_wait(store: XenStore) -> None:
    """From another thread, before or while it waits; many times count once."""
    for _ in range(50):
        with within(0), ThreadPoolExecutor() as pool:
            waiting = pool.submit(store.wait, 30)
            store.wake()
            store.wake()
            waiting.result(10)
        store.wait(0)  # a second wake may have been for the next one
        store.events()


def test_a_wake_writes_to_no_descriptor_that_is_closed(
    store: XenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing waits for a wake that goes on: its number may belong to another file at once."""
    closing = threading.Thread(target=store.close)
    is_open = list[bool]()

    def slow(fd: int, value: int) -> None:
        closing.start()
        closing.join(0.2)  # ends earlier only if the lock is missing
        is_open.append(os.path.exists(f"/proc/self/fd/{fd}"))

    with monkeypatch.context() as patch:
        patch.setattr(os, "eventfd_write", slow)
        store.wake()
        closing.join(10)
    assert is_open == [True]


def test_wake_during_a_request_is_for_the_next_wait(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """The request is answered, and the wake is not forgotten."""
    hold = Hold(xenstored)
    xenstored.rule(hold)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(store.read, [NAME])
        xenstored.wait_until(lambda: hold.held)
        store.wake()
        hold.let_go()
        assert reading.result(10) == [None]
    with within(0):
        store.wait(30)


@pytest.mark.parametrize("op", CALLS)
def test_interrupt_ends_a_request(xenstored: FakeXenstored, store: XenStore, op: Op) -> None:
    """From another thread: the call that waits for its answer raises, and so does each later."""
    xenstored.rule(silent)
    asked = len(xenstored.requests)
    with within(0), ThreadPoolExecutor() as pool:
        asking = pool.submit(CALLS[op], store)
        xenstored.wait_until(lambda: len(xenstored.requests) > asked)
        store.interrupt()
        with pytest.raises(StoreLost):
            asking.result(10)
    assert_unusable(store)


def test_interrupt_ends_a_wait(store: XenStore) -> None:
    """From another thread, before or while it waits."""
    with within(0), ThreadPoolExecutor() as pool:
        waiting = pool.submit(store.wait, 30)
        store.interrupt()
        with pytest.raises(StoreLost):
            waiting.result(10)
    assert_unusable(store)


def test_after_interrupt_every_call_raises(xenstored: FakeXenstored, store: XenStore) -> None:
    """Also those with nothing to ask for, and a `wait` that has cause to return at once."""
    store.watch([WEB])
    store.interrupt()
    calls: list[Call] = [
        lambda s: s.wait(30),
        lambda s: s.wait(0),
        lambda s: s.read([]),
        lambda s: s.read([NAME] * 100),
        lambda s: s.is_introduced(7),
        lambda s: s.watch([]),
        lambda s: s.unwatch([]),
    ]
    silently = []
    for number, call in enumerate(calls):
        try:
            call(store)
            silently.append(number)
        except StoreLost:
            pass
    assert silently == []


@pytest.mark.parametrize("timeout", [1e7, math.inf])
def test_a_wait_may_be_as_long_as_one_likes(store: XenStore, timeout: float) -> None:
    """Timing(probe=inf, audit=inf) means never."""
    store.wake()
    store.wait(timeout)
    with within(0), ThreadPoolExecutor() as pool:
        waiting = pool.submit(store.wait, timeout)
        store.wake()
        waiting.result(10)


class _Raised(Exception):
    """By a signal handler, as KeyboardInterrupt is."""


def test_a_signal_in_the_middle_of_a_call_mixes_no_answers(
    xenstored: FakeXenstored, store: XenStore
) -> None:
    """Ctrl-C, caught by the program: the next call is right, or says that the line is lost."""
    for name in (b"/a", b"/b", b"/c", b"/d"):
        xenstored.write(name, name)
    hold = Hold(xenstored)
    xenstored.rule(hold)
    main = threading.get_ident()

    def handler(*_: object) -> None:
        raise _Raised

    def disturb() -> None:
        xenstored.wait_until(lambda: len(hold.held) == 3)
        signal.pthread_kill(main, signal.SIGUSR1)

    usual = signal.signal(signal.SIGUSR1, handler)
    try:
        with ThreadPoolExecutor() as pool:
            done = pool.submit(disturb)
            with pytest.raises(_Raised):
                store.read([b"/a", b"/b", b"/c"])
            done.result(10)
    finally:
        signal.signal(signal.SIGUSR1, usual)
    xenstored.obey()
    hold.let_go()
    with suppress(StoreLost):
        assert store.read([b"/d"]) == [b"/d"]


# -- numbers ---------------------------------------------------------------------------------


def test_request_ids_go_round_without_zero(xenstored: FakeXenstored, store: XenStore) -> None:
    """After 2^32 - 1 comes 1: 0 is what events carry."""
    store._alone = True
    store._line._last_id = 0xFFFFFFFF - 5
    paths = [b"/n/%d" % number for number in range(100)]
    for path in paths:
        xenstored.write(path, path)
    assert store.read(paths) == paths
    ids = [request.id for request in xenstored.requests][-100:]
    assert ids == [*range(0xFFFFFFFF - 4, 0xFFFFFFFF + 1), *range(1, 96)]


def test_more_than_1024_descriptors_are_no_matter(
    xenstored: FakeXenstored, open_store: OpenStore
) -> None:
    """select() could not look at the line of a program that has so much open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1300:
        pytest.skip(f"only {hard} descriptors are allowed here")
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1300), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            stack.callback(os.close, os.open("/dev/null", os.O_RDONLY))
        store = open_store(10.0)
        assert store._line.fd > 1024
        store.watch([WEB])
        assert store.read([NAME]) == [None]
        store.wake()
        store.wait(30)
        xenstored.write(NAME, b"web")
        store.barrier()
        assert list(store.events()) == [WEB]
        store.close()


def test_without_descriptors_to_spare_nothing_is_left_open(
    xenstored: FakeXenstored, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of this package, and the line is closed again: the watcher tries for ever."""

    def exhausted(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "eventfd", exhausted)
    lines: list[Any] = []

    def connect(*arguments: Any) -> Any:
        line, is_bus = connected(*arguments)
        lines.append(line)
        return line, is_bus

    connected = domindex.xen._pyxs.connect
    monkeypatch.setattr(domindex.xen.xenstore, "connect", connect)
    open_before = descriptors()
    try:
        with pytest.raises(HostError) as caught:
            open_store()
        xenstored.wait_until(lambda: descriptors() == open_before)
        assert caught.value.errno == errno.EMFILE
    finally:
        for line in lines:
            line.close()


# -- finding the server ----------------------------------------------------------------------


def test_the_environment_names_the_socket(
    xenstored: FakeXenstored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XENSTORED_PATH, the whole path, goes before XENSTORED_RUNDIR, where `socket` is."""
    monkeypatch.setenv("XENSTORED_RUNDIR", os.path.dirname(xenstored.path))
    XenStore(None, None, LIMIT).close()
    monkeypatch.setenv("XENSTORED_PATH", "/nowhere/at/all")
    with pytest.raises(StoreLost, match="/nowhere/at/all"):
        XenStore("socket", None, LIMIT)
    monkeypatch.setenv("XENSTORED_RUNDIR", "/nowhere")
    monkeypatch.setenv("XENSTORED_PATH", xenstored.path)
    XenStore(None, None, LIMIT).close()
    XenStore("socket", None, LIMIT).close()
    monkeypatch.setenv("XENSTORED_PATH", "/nowhere/at/all")
    XenStore(None, xenstored.path, LIMIT).close()


def test_a_path_that_names_a_device_is_taken_for_the_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As libxenstore does; /dev/null then ends at once, as no bus would."""
    for path in (None, "/dev/null"):
        monkeypatch.setenv("XENSTORED_PATH", "/dev/null" if path is None else "/nowhere")
        with pytest.raises(StoreLost, match="/dev/null"):
            XenStore(None, path, LIMIT)


def test_nobody_there(directory: Path) -> None:
    """No socket, one that nobody serves, and what is no socket: is xenstored running?"""
    (directory / "file").touch()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{directory}/dead")
    long = "x" * 200
    for name in ("nothing", "dead", "file", "", long):
        with within(0), pytest.raises(StoreLost, match="is xenstored running") as caught:
            XenStore("socket", f"{directory}/{name}", LIMIT)
        assert str(directory) in str(caught.value)
    for transport in ("socket", None, "xenbus"):
        with pytest.raises(StoreLost):
            XenStore(transport, f"{directory}/nothing", LIMIT)


@pytest.fixture
def device(
    xenstored: FakeXenstored, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A xenbus device through which `xenstored` answers; it is where pyxs looks for it."""
    path = directory / "xenbus"
    path.touch()
    monkeypatch.setattr(pyxs.connection, "_get_xenbus_path", lambda: str(path))
    ends: list[socket.socket] = []

    class Transport:
        def __init__(self) -> None:
            ends.append(xenstored.plug())
            self.fileno, self.close = ends[-1].fileno, ends[-1].close

    monkeypatch.setattr(
        domindex.xen._pyxs._BusConnection, "create_transport", lambda _: Transport()
    )
    yield path
    for end in ends:
        end.close()


@pytest.fixture(params=["dead", "plain", "directory", "missing"])
def unserved(
    request: pytest.FixtureRequest, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Where the socket is expected, and no xenstored serves."""
    path = directory / "unserved"
    if request.param == "dead":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    elif request.param == "plain":
        path.touch()
    elif request.param == "directory":
        path.mkdir()
    monkeypatch.setenv("XENSTORED_PATH", str(path))
    return path


def test_where_nobody_serves_the_socket_the_bus_is_used(
    xenstored: FakeXenstored, device: Path, unserved: Path
) -> None:
    """As libxenstore does; it has answered before the line is given out."""
    xenstored.write(NAME, b"web")
    store = XenStore(None, None, 10.0)
    assert store.transport == "xenbus"
    assert [request.op for request in xenstored.requests] == [Op.GET_DOMAIN_PATH]
    assert store.read([NAME]) == [b"web"]
    store.close()


def test_a_bus_that_nobody_answers_through_is_not_used(
    xenstored: FakeXenstored, device: Path, unserved: Path
) -> None:
    """Within the time limit, with both that were tried, and nothing is left open."""
    xenstored.rule(silent)
    with within(LIMIT), pytest.raises(StoreLost, match="is xenstored running") as caught:
        XenStore(None, None, LIMIT)
    for tried in (unserved, device):
        assert str(tried) in str(caught.value)
    xenstored.wait_until(lambda: not xenstored.clients)


def test_without_a_device_it_is_said(
    unserved: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was looked for, and what was found in its place."""
    monkeypatch.setattr(pyxs.connection, "_get_xenbus_path", lambda: f"{directory}/nothing")
    with pytest.raises(StoreLost, match="is xenstored running") as caught:
        XenStore(None, None, LIMIT)
    assert str(unserved) in str(caught.value)
    assert f"there is no {directory}/nothing" in str(caught.value)
    if unserved.is_socket():
        assert "no process serves" in str(caught.value)


def test_a_path_that_is_given_is_not_left(device: Path, unserved: Path) -> None:
    """Nor is a transport: the caller has said where xenstored is."""
    for transport, path in ((None, str(unserved)), ("socket", None), ("socket", str(unserved))):
        with pytest.raises(StoreLost, match=str(unserved)) as caught:
            XenStore(transport, path, LIMIT)
        assert ("transport='xenbus'" in str(caught.value)) is (transport is None)


def test_a_socket_that_is_busy_or_closed_to_us_is_no_cause_for_the_bus(
    xenstored: FakeXenstored, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """xenstored is there: it is waited for, and its word is taken."""
    monkeypatch.setenv("XENSTORED_PATH", xenstored.path)
    with xenstored.full_backlog(), pytest.raises(StoreLost) as caught:
        XenStore(None, None, LIMIT)
    assert caught.value.errno == errno.EAGAIN
    store = XenStore(None, None, 10.0)
    assert store.transport == "socket"
    store.close()


def test_a_host_comes_back_to_the_socket_that_was_not_there_yet(
    xenstored: FakeXenstored, device: Path, unserved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bus that was chosen without being asked for is no decision for ever; the socket is."""
    host = XenHost()
    for _ in range(2):
        store = host.open_store(10.0)
        assert isinstance(store, XenStore)
        assert store.transport == "xenbus"
        store.close()
    monkeypatch.setenv("XENSTORED_PATH", xenstored.path)
    store = host.open_store(10.0)
    assert isinstance(store, XenStore)
    assert store.transport == "socket"
    store.close()
    monkeypatch.setenv("XENSTORED_PATH", str(unserved))
    with pytest.raises(StoreLost):
        host.open_store(LIMIT)


# -- the program around it -------------------------------------------------------------------


def in_a_child(report: Callable[[], str]) -> str:
    """What `report` says in a forked child, or the signal that killed it."""
    readable, writable = os.pipe()
    if (child := os.fork()) == 0:
        try:
            said = report()
        except BaseException as error:
            said = repr(error)
        os.write(writable, said.encode())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable, encoding="utf-8") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else said


@pytest.mark.parametrize("many", [False, True])
def test_a_xenstored_that_goes_kills_no_program(
    directory: Path, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P9: whatever is done on SIGPIPE, also on the connections beside the line."""

    def report() -> str:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        with FakeXenstored(f"{directory}/s") as server:
            store = XenStore("socket", server.path, 10.0)
            if many:
                usual = Driver.exchange

                def cut_first(driver: Driver, lines: Any, requests: Any) -> None:
                    server.wait_until(lambda: len(server.clients) == len(lines) + 1)
                    server.cut()
                    usual(driver, lines, requests)

                monkeypatch.setattr(Driver, "exchange", cut_first)
            else:
                store.barrier()
                server.cut()
            try:
                store.read([b"/n/%d" % number for number in range(300 if many else 1)])
            except StoreLost as error:
                return f"lost: {error}"
            finally:
                store.close()
        return "an answer"

    assert in_a_child(report).startswith("lost: ")


def test_a_child_keeps_no_connection_open(xenstored: FakeXenstored, store: XenStore) -> None:
    """P9: neither the line nor those beside it, so that their end in the parent is their end."""
    hold = Hold(xenstored)
    xenstored.rule(hold, op=Op.READ)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(store.read, [b"/n/%d" % number for number in range(300)])
        xenstored.wait_until(lambda: hold.seen == 300)
        served = {client.socket.fileno() for client in xenstored.clients}

        def report() -> str:
            names = [(number, name) for number, name in descriptors() if "socket" in name]
            theirs = {xenstored._listener.fileno()} if xenstored._listener else set()
            return str([number for number, _ in names if number not in served | theirs])

        left = in_a_child(report)
        hold.let_go()
        reading.result(10)
    assert left == "[]"


def test_a_program_without_poll_is_served(
    xenstored: FakeXenstored, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """eventlet takes it out of `select`: select() then stands in for it."""
    xenstored.write(b"/n/7", b"x" * 100_000)

    class Select:
        select = staticmethod(select.select)

    monkeypatch.setattr(domindex.xen.polling, "select", Select)
    store = open_store(10.0)
    store.watch([WEB])
    assert list(store.events()) == [WEB]
    for count in (10, 300):
        values = store.read([b"/n/%d" % number for number in range(count)])
        assert values == [b"x" * 100_000 if n == 7 else None for n in range(count)]
    store.wake()
    store.wait(30)
    store.wait(0.01)
    xenstored.write(NAME, b"web")
    store.wait(30)
    assert list(store.events()) == [WEB]
    beyond = domindex.xen.polling.new_poll()
    beyond.register(5000, domindex.xen.polling.IN)
    with pytest.raises(StoreLost, match=r"select\.poll"):
        beyond.poll(0)
    short = open_store(LIMIT)
    xenstored.rule(silent)
    with within(LIMIT), pytest.raises(StoreLost, match="silent"):
        short.barrier()


def test_an_unknown_transport_is_the_callers_mistake() -> None:
    """It is said before anything is opened."""
    with pytest.raises(InvalidKey, match="tcp"):
        XenStore("tcp", None, LIMIT)


@pytest.mark.parametrize("transport", ["socket", "xenbus"])
def test_not_allowed_says_so(directory: Path, transport: str) -> None:
    """The socket is root's: AccessDenied, with what to do."""
    os.chmod(directory, 0o711)
    path = directory / "private"
    if transport == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        path.touch()
    path.chmod(0o000)
    with ExitStack() as stack:
        if os.geteuid() == 0:
            try:
                os.seteuid(65534)
            except OSError:
                pytest.skip("a user namespace in which there is only root")
            stack.callback(os.seteuid, 0)
        with pytest.raises(AccessDenied, match="root") as caught:
            XenStore(transport, str(path), LIMIT)
        assert caught.value.errno == errno.EACCES
        assert str(path) in str(caught.value)


def test_a_server_that_never_accepts_is_lost(
    xenstored: FakeXenstored, open_store: OpenStore
) -> None:
    """Its queue of connections is full: connecting is limited in time as well."""
    with xenstored.full_backlog(), within(LIMIT), pytest.raises(StoreLost) as caught:
        open_store()
    assert caught.value.errno == errno.EAGAIN
    open_store().barrier()


def test_a_server_that_accepts_late_is_served(
    xenstored: FakeXenstored, open_store: OpenStore
) -> None:
    """The real backlog is one: a connection that has to queue for a moment is no failure."""
    with ThreadPoolExecutor() as pool:
        with xenstored.full_backlog():
            opening = pool.submit(open_store, 30.0)
        assert opening.result(10).read([NAME]) == [None]
