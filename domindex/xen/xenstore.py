"""One line to xenstored: pipelined requests, queued events, a time limit on everything.

Connections, operation numbers and error names are those of pyxs (_pyxs.py); the loop that drives
the line is our own. One thread drives it; `wake` and `interrupt` alone may come from others.

Sources: xen/include/public/io/xs_wire.h and docs/misc/xenstore.txt for the protocol;
drivers/xen/xenbus/xenbus_dev_frontend.c of Linux for what the kernel's device does to it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from domindex.domain import printable
from domindex.errors import AccessDenied, StoreError, StoreLost
from domindex.ports import Watch
from domindex.xen._pyxs import Op, connect, hang_up, number_of, opened
from domindex.xen.packets import TooLong, cut, packet
from domindex.xen.readers import read_all

GET_FEATURE: Final = 23
"""C xenstored >= 4.21; newer than pyxs."""
FEATURE_WATCH_DEPTH: Final = 4
_NOTHING: Final = (Op.GET_DOMAIN_PATH, b"0\0")
"""A request that every server answers without looking anything up."""

_MANY = 32
"""Names from which on they are read over connections beside the line."""
_BESIDE = 16
"""Connections beside it, at most. Sixteen took 360 ms for 300 reads, one 930, sixty-four 260."""
_WINDOW = 512
"""Requests in flight on a socket; it is filled up whenever it is half empty. On the xenbus it is
one: the kernel queues a request without copying its payload, and the next write would change it
under way."""
_CHUNK = 1 << 16
_CHUNKS = 64
"""Read at most this much before looking at what has come: an event storm must not hold us."""
_CROWD = 8
"""Replies outstanding from which on the server is left alone for a while."""
_LONGEST_POLL = 86400.0
"""Seconds. A poll for ever cannot be asked for in milliseconds of 31 bits; `wait` goes round."""
_SHORTEST = 0.001
"""Seconds below which leaving it alone is not worth a system call."""
_LEAVE_ALONE = 0.02
"""Seconds for which it is left alone at most."""
_UNREAD = 32
"""Replies it may give meanwhile. A reply and an event are two pieces each, and a socket holds
some 280 unread pieces: then the server would have to wait for us."""
_MOST_EVENTS = 1 << 17
"""Different events in the queue. Each domain can have three."""
_FIRST_EVENT = 0.25
"""Seconds to wait for the event that every new watch fires. Only the xenbus may be late with
it, and then the name is merely read once more."""
_BARRIER_PATH = b"/domindex/barrier"
"""Never written by anybody, so that a watch on it fires at its start and never again."""


class XenStore:
    """See `ports.Store`. Raises StoreLost or AccessDenied when it cannot be opened."""

    def __init__(self, transport: str | None, path: str | None, timeout: float) -> None:
        self._timeout = timeout
        self._connection, self._is_bus = connect(transport, path, timeout)
        self.transport = "xenbus" if self._is_bus else "socket"
        self.forgets = self._is_bus
        try:
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError as error:
            self._connection.close()
            raise StoreLost("no descriptor is left for a line to xenstore", error.errno) from None
        self._fd = self._connection.fileno()
        os.set_blocking(self._fd, False)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        self._only_wake = select.poll()
        self._only_wake.register(self._wake, select.POLLIN)
        self._interrupted = self._woken = False
        self._last_id = 0
        self._received = bytearray()
        self._waiting: dict[int, tuple[int, int]] = {}  # request id -> (operation, place)
        self._tokens: set[bytes] = set()
        self._unfired: set[bytes] = set()  # tokens whose first event has not come yet
        self._queue: dict[Watch, None] = {}
        self._alone = False  # no connections can be had beside this one
        self.has_depth = False
        _open.add(self)
        try:
            if not self._is_bus:  # the kernel drops the depth of a watch
                self.has_depth = self._features() & FEATURE_WATCH_DEPTH != 0
        except BaseException:
            self.close()
            raise

    # -- the port ----------------------------------------------------------------------------

    def watch(self, watches: Sequence[Watch], *, depth: int | None = None) -> None:
        """Set watches. Cost: one request each, pipelined."""
        self._prove()
        tail = b"" if depth is None else b"%d\0" % depth
        fresh = {watch.token for watch in watches}
        self._tokens |= fresh
        self._unfired = fresh.copy()
        self._all([(Op.WATCH, _pair(watch) + tail) for watch in watches])
        deadline = time.monotonic() + _FIRST_EVENT
        while self._unfired and (left := deadline - time.monotonic()) > 0:
            self._await(left)

    def unwatch(self, watches: Sequence[Watch]) -> None:
        """Drop watches. Cost: one request each, pipelined."""
        for watch in watches:
            self._tokens.discard(watch.token)
        replies = self._exchange([(Op.UNWATCH, _pair(watch)) for watch in watches])
        for reply in replies:
            if isinstance(reply, StoreError) and reply.errno != errno.ENOENT:
                raise reply

    def read(self, paths: Sequence[bytes]) -> list[bytes | None]:
        """The values, None where there is no node. Cost: one request each, pipelined.

        Many are read over connections that are opened for that and closed again, where they can
        be: see readers.py.
        """
        values: list[bytes | None] = []
        replies = self._read_beside(paths) if len(paths) >= _MANY else None
        if replies is None:
            replies = self._exchange([(Op.READ, path + b"\0") for path in paths])
        for reply in replies:
            if isinstance(reply, bytes):
                values.append(reply)
            elif reply.errno == errno.ENOENT:
                values.append(None)
            else:
                raise reply
        return values

    def barrier(self) -> None:
        """One round trip; three requests on the xenbus.

        On a socket, events and replies are one stream. On the xenbus the kernel keeps events
        in an order of their own: there the first event of a fresh watch is the mark.
        """
        if not self._is_bus:
            self._all([_NOTHING])
            return
        self._prove()
        mark = Watch(_BARRIER_PATH, b"barrier/%d" % self._last_id)
        self._tokens.add(mark.token)
        self._all([(Op.WATCH, _pair(mark))])
        deadline = time.monotonic() + self._timeout
        while mark not in self._queue:
            self._await(self._left(deadline))
        del self._queue[mark]
        self.unwatch([mark])

    def events(self, *, arrived: bool = False) -> Iterable[Watch]:
        """What came in with replies or while waiting. Cost: none, or with `arrived` a system call.

        An event that is still in the line when a read is sent comes after it, and asks for another.
        """
        self._check()
        if arrived:
            self._receive()
        queue, self._queue = self._queue, {}
        return list(queue)

    def wait(self, timeout: float) -> None:
        """Cost: none while nothing happens."""
        self._check()
        deadline = time.monotonic() + timeout
        while not (self._queue or self._woken) and (left := deadline - time.monotonic()) > 0:
            self._await(left)
        self._woken = False

    def wake(self) -> None:
        """From any thread."""
        # Full: it is awake already. Closed: nobody waits.
        with contextlib.suppress(OSError, ValueError):
            os.eventfd_write(self._wake, 1)

    def interrupt(self) -> None:
        """From any thread."""
        self._interrupted = True
        self.wake()

    def close(self) -> None:
        """Closing the line drops its watches; the server sees to that. For the driving thread."""
        self._interrupted = True
        if self._wake >= 0:
            wake, self._wake = self._wake, -1
            os.close(wake)
            hang_up(self._connection)

    # -- requests ----------------------------------------------------------------------------

    def _prove(self) -> None:
        """Before a watch on the xenbus: that xenstored answers at all.

        A watch is set within the write to the device, and one that is not answered never returns,
        whatever time limit we have. Other requests are queued.
        """
        if self._is_bus:
            self._all([_NOTHING])

    def _features(self) -> int:
        # oxenstored takes a request without a payload up only when the next one comes.
        reply, _ = self._exchange([(GET_FEATURE, b""), _NOTHING])
        text = reply.rstrip(b"\0") if isinstance(reply, bytes) else b""
        return int(text) if text.isdigit() and len(text) < 10 else 0

    def _read_beside(self, paths: Sequence[bytes]) -> list[bytes | StoreError] | None:
        """Read over connections beside this line; None if that cannot be done."""
        if self._is_bus or self._alone:
            return None
        with contextlib.ExitStack() as closing:
            try:
                connections = [
                    closing.enter_context(opened(self._connection.path, self._timeout))
                    for _ in range(min(_BESIDE, 2 * len(paths) // _MANY))
                ]
            except (StoreLost, AccessDenied):
                self._alone = True  # root was dropped, or no descriptor is left
                return None
            packets = [
                packet(Op.READ, number, path + b"\0") for number, path in enumerate(paths, 1)
            ]
            try:
                replies = read_all(connections, packets, self._timeout, self._wake, self._pause)
            except BaseException:  # a server that fails others fails us
                self._interrupted = True
                raise
        values: list[bytes | StoreError] = []
        for kind, payload in replies:
            if kind not in (Op.READ, Op.ERROR):
                raise self._lost(f"carries garbage: a reply of type {kind} nobody asked for")
            values.append(payload if kind == Op.READ else _refusal(payload))
        return values

    def _pause(self, seconds: float) -> None:
        if self._only_wake.poll(seconds * 1000):
            self._was_woken()

    def _all(self, requests: Sequence[tuple[int, bytes]]) -> None:
        for reply in self._exchange(requests):
            if isinstance(reply, StoreError):
                raise reply

    def _exchange(self, requests: Sequence[tuple[int, bytes]]) -> list[bytes | StoreError]:
        """Send all, at most a window ahead of the replies; the replies in order of requests.

        Each reply must come within the time limit of the one before.
        """
        self._check()
        try:
            return self._pipelined(requests)
        except BaseException:  # a signal's too: half a packet may be on its way
            self._interrupted = True
            raise

    def _pipelined(self, requests: Sequence[tuple[int, bytes]]) -> list[bytes | StoreError]:
        replies: list[bytes | StoreError] = [b""] * len(requests)
        unsent = deque(enumerate(requests))
        outgoing = bytearray()
        window = 1 if self._is_bus else _WINDOW
        now = time.monotonic()
        deadline = now + self._timeout
        pace = 0.0  # seconds for a reply, lately
        while unsent or self._waiting:
            if len(self._waiting) <= window // 2:
                while unsent and len(self._waiting) < window:
                    place, (operation, payload) = unsent.popleft()
                    outgoing += self._packet(operation, payload, place)
            if outgoing:
                self._send(outgoing)
            before = len(self._waiting)
            if before > _CROWD:
                self._leave_alone(pace * min(before / 2, _UNREAD))
            self._await(self._left(deadline), sending=bool(outgoing), replies=replies)
            if answered := before - len(self._waiting):
                last, now = now, time.monotonic()
                pace = (now - last) / answered
                deadline = now + self._timeout
        return replies

    def _leave_alone(self, seconds: float) -> None:
        """Do not read for a while: the server has enough to do, and may have but one processor.

        It sends a reply in two pieces, and each would wake us.
        """
        if seconds >= _SHORTEST:
            self._pause(min(seconds, _LEAVE_ALONE))

    def _packet(self, operation: int, payload: bytes, place: int) -> bytes:
        self._last_id = self._last_id % 0xFFFFFFFF + 1  # u32; 0 is what events carry
        self._waiting[self._last_id] = (operation, place)
        return packet(operation, self._last_id, payload)

    def _send(self, outgoing: bytearray) -> None:
        """As much as the line takes now; the rest stays in `outgoing`."""
        self._check()
        try:
            while outgoing:
                del outgoing[: os.write(self._fd, outgoing)]
        except BlockingIOError:
            pass
        except OSError as error:
            raise self._lost("cannot be written to", error.errno) from None

    # -- the line ----------------------------------------------------------------------------

    def _await(
        self,
        timeout: float,
        *,
        sending: bool = False,
        replies: list[bytes | StoreError] | None = None,
    ) -> None:
        """Wait until the line has something or `wake` is called, once; take in what came."""
        self._check()
        if sending:
            self._poll.modify(self._fd, select.POLLIN | select.POLLOUT)
        try:
            ready = self._poll.poll(min(max(0.0, timeout), _LONGEST_POLL) * 1000 + 1)
        finally:
            if sending:
                self._poll.modify(self._fd, select.POLLIN)
        for fd, _ in ready:
            if fd == self._wake:
                self._was_woken()
            else:
                self._receive(replies)
        self._check()

    def _was_woken(self) -> None:
        os.eventfd_read(self._wake)
        self._woken = True  # for `wait`, if this is not it
        self._check()

    def _receive(self, replies: list[bytes | StoreError] | None = None) -> None:
        """Take in what has arrived, without waiting."""
        for _ in range(_CHUNKS):
            try:
                chunk = os.read(self._fd, _CHUNK)
            except BlockingIOError:
                return
            except OSError as error:
                raise self._lost("cannot be read from", error.errno) from None
            if not chunk:
                raise self._lost("was closed by xenstored")
            self._received += chunk
            self._parse(replies)
            if len(chunk) < _CHUNK and not self._is_bus:
                return

    def _parse(self, replies: list[bytes | StoreError] | None) -> None:
        try:
            for operation, request, payload in cut(self._received):
                if operation == Op.WATCH_EVENT:
                    self._fired(payload)
                else:
                    self._replied(operation, request, payload, replies)
        except TooLong as error:
            raise self._lost(f"carries garbage: {error}") from None

    def _fired(self, payload: bytes) -> None:
        path, nul, rest = payload.partition(b"\0")
        token, end, _ = rest.partition(b"\0")
        if not nul or not end:
            raise self._lost("carries garbage: an event without path and token")
        self._unfired.discard(token)
        if token in self._tokens:  # UNWATCH leaves events under way
            self._queue[Watch(path, token)] = None
            if len(self._queue) > _MOST_EVENTS:
                raise self._lost("carries garbage: more kinds of events than there can be domains")

    def _replied(
        self, operation: int, request: int, payload: bytes, replies: list[bytes | StoreError] | None
    ) -> None:
        if self._is_bus and request == 0 and operation in (Op.WATCH, Op.UNWATCH):
            request = next(iter(self._waiting), 0)  # old kernels acknowledge without the id
        asked, place = self._waiting.pop(request, (None, 0))
        if asked is None or replies is None or operation not in (asked, Op.ERROR):
            raise self._lost(f"carries garbage: a reply of type {operation} nobody asked for")
        replies[place] = _refusal(payload) if operation == Op.ERROR else payload

    def _left(self, deadline: float) -> float:
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._lost(f"is silent for {self._timeout} s")
        return left

    def _check(self) -> None:
        if self._interrupted:
            raise StoreLost("the line to xenstored was closed from this side")

    def _lost(self, why: str, number: int | None = None) -> StoreLost:
        self._interrupted = True
        return StoreLost(f"the line to xenstored at {self._connection.path} {why}", number)


_open: weakref.WeakSet[XenStore] = weakref.WeakSet()


def _after_fork() -> None:
    # A child's copy would keep the line open after we close it, with nobody to read it.
    for store in list(_open):
        store.close()
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)


def _pair(watch: Watch) -> bytes:
    return watch.path + b"\0" + watch.token + b"\0"


def _refusal(payload: bytes) -> StoreError:
    """The error that xenstored named."""
    name = payload.rstrip(b"\0")
    said = printable(name[:40].decode("ascii", "replace"))
    return StoreError(f"xenstored refuses: {said}", number_of(name))
