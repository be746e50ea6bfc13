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
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from domindex import forking
from domindex.domain import printable
from domindex.errors import AccessDenied, StoreError, StoreLost
from domindex.keys import decode_name
from domindex.ports import Watch
from domindex.xen import polling
from domindex.xen._pyxs import Op, connect, hang_up, number_of, opened, socket_path
from domindex.xen.packets import TooLong, cut, packet
from domindex.xen.readers import read_all

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
_ROOM = 1 << 14
"""Different paths kept of one watch with a depth; the birth of a domain has some fourteen."""
_LONGEST_PATH = 3072
"""Bytes. xenstored allows no more; a longer one is not kept."""
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
            hang_up(self._connection)
            raise StoreLost("no descriptor is left for a line to xenstore", error.errno) from None
        self._fd = self._connection.fileno()
        os.set_blocking(self._fd, False)
        self._poll = polling.new_poll()
        self._poll.register(self._fd, polling.IN)
        self._poll.register(self._wake, polling.IN)
        self._only_wake = polling.new_poll()
        self._only_wake.register(self._wake, polling.IN)
        self._interrupted = self._woken = False
        self._last_id = 0
        self._received = bytearray()
        # request id -> (operation, payload, place among the replies)
        self._waiting: dict[int, tuple[int, bytes, int]] = {}
        self._paths: dict[bytes, bytes] = {}  # token -> path, of the watches now set
        self._deep: set[bytes] = set()  # tokens of those with a depth
        self._unfired: set[bytes] = set()  # tokens whose first event has not come yet
        # token -> the paths that changed; None: its own, below which anything may have
        self._queue: dict[bytes, dict[bytes, None] | None] = {}
        self._alone = False  # no connections can be had beside this one
        # A child's copy would keep the line open after we close it, with nobody to read it.
        forking.register(self.close)
        if self._is_bus and transport is None:
            self._prove_chosen()

    # -- the port ----------------------------------------------------------------------------

    def watch(
        self, watches: Sequence[Watch], *, depth: int | None = None
    ) -> list[StoreError | None]:
        """Set watches. Cost: one request each, pipelined."""
        self._check()
        if self._is_bus and depth is not None:  # the kernel drops it without a word
            return [_refused(Op.WATCH, _pair(watch), b"EINVAL") for watch in watches]
        self._prove()
        tail = b"" if depth is None else b"%d\0" % depth
        fresh = {token: path for path, token in watches if token not in self._paths}
        self._paths |= fresh
        if depth is not None:
            self._deep |= fresh.keys()
        self._unfired = {*fresh}
        replies = self._exchange([(Op.WATCH, _pair(watch) + tail) for watch in watches])
        refusals = [reply if isinstance(reply, StoreError) else None for reply in replies]
        for watch, refusal in zip(watches, refusals, strict=True):
            if refusal is not None and watch.token in fresh:
                self._forget(watch.token)
        deadline = time.monotonic() + _FIRST_EVENT
        while self._unfired and (left := deadline - time.monotonic()) > 0:
            self._await(left)
        return refusals

    def unwatch(self, watches: Sequence[Watch]) -> None:
        """Drop watches. Cost: one request each, pipelined."""
        for watch in watches:
            self._forget(watch.token)
        # A refusal changes nothing: what still comes under these tokens is passed over.
        self._exchange([(Op.UNWATCH, _pair(watch)) for watch in watches])

    def read(self, paths: Sequence[bytes]) -> list[bytes | StoreError | None]:
        """The values, None where there is no node. Cost: one request each, pipelined.

        Many are read over connections that are opened for that and closed again, where they can
        be: see readers.py.
        """
        self._check()
        replies = self._read_beside(paths) if len(paths) >= _MANY else None
        if replies is None:
            replies = self._exchange([(Op.READ, path + b"\0") for path in paths])
        return [
            None if isinstance(reply, StoreError) and reply.errno == errno.ENOENT else reply
            for reply in replies
        ]

    def is_introduced(self, domid: int) -> bool | None:
        """None also where a policy forbids to ask. Cost: one request."""
        (reply,) = self._exchange([(Op.IS_DOMAIN_INTRODUCED, b"%d\0" % domid)])
        said = reply.rstrip(b"\0") if isinstance(reply, bytes) else None
        return {b"T": True, b"F": False}.get(said) if said else None

    def barrier(self) -> None:
        """One round trip; three requests on the xenbus.

        On a socket, events and replies are one stream. On the xenbus the kernel keeps events
        in an order of their own: there the first event of a fresh watch is the mark.
        """
        if not self._is_bus:
            self._exchange([_NOTHING])  # a refusal is an answer, too
            return
        mark = Watch(_BARRIER_PATH, b"barrier/%d" % self._last_id)
        deadline = time.monotonic() + self._timeout
        (refusal,) = self.watch([mark])
        if refusal is not None:
            raise refusal
        while mark.token not in self._queue:
            self._await(self._left(deadline, (Op.WATCH, _pair(mark))))
        self.unwatch([mark])

    def events(self, *, arrived: bool = False) -> Iterable[Watch]:
        """What came in with replies or while waiting. Cost: none, or with `arrived` a system call.

        An event that is still in the line when a read is sent comes after it, and asks for another.
        """
        self._check()
        if arrived:
            self._receive()
        queue, self._queue = self._queue, {}
        return [
            Watch(path, token)
            for token, changed in queue.items()
            for path in ((self._paths[token],) if changed is None else changed)
        ]

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
            self._exchange([_NOTHING])

    def _prove_chosen(self) -> None:
        """The bus was not asked for by name: nobody may be at its other end."""
        try:
            self._prove()
        except StoreLost as error:
            self.close()
            bus, socket = self._connection.path, socket_path()
            if socket == bus:
                raise
            raise StoreLost(
                f"nobody serves xenstore's socket {socket}, and {error}; is xenstored running?"
            ) from None
        except BaseException:
            self.close()
            raise

    def _forget(self, token: bytes) -> None:
        self._paths.pop(token, None)
        self._queue.pop(token, None)
        self._deep.discard(token)
        self._unfired.discard(token)

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
            try:
                replies = read_all(connections, paths, self._timeout, self._wake, self._pause)
            except BaseException:  # a server that fails others fails us
                self._interrupted = True
                raise
        values: list[bytes | StoreError] = []
        for path, (kind, payload) in zip(paths, replies, strict=True):
            if kind not in (Op.READ, Op.ERROR):
                raise self._lost(
                    f"carries garbage: a reply of type {kind} nobody asked for",
                    None,
                    (Op.READ, path),
                )
            values.append(payload if kind == Op.READ else _refused(Op.READ, path, payload))
        return values

    def _pause(self, seconds: float) -> None:
        if self._only_wake.poll(seconds * 1000):
            self._was_woken()

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
                self._send(outgoing, replies)
                if not self._waiting:
                    continue
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
        self._waiting[self._last_id] = (operation, payload, place)
        return packet(operation, self._last_id, payload)

    def _send(self, outgoing: bytearray, replies: list[bytes | StoreError]) -> None:
        """As much as the line takes now; the rest stays in `outgoing`."""
        self._check()
        try:
            while outgoing:
                del outgoing[: self._connection.write(outgoing)]
        except BlockingIOError:
            pass
        except OSError as error:
            if not self._is_bus or self._asked()[0] not in (Op.WATCH, Op.UNWATCH):
                raise self._lost("cannot be written to", error.errno) from None
            # The kernel asks within the write, which then fails with what xenstored says.
            outgoing.clear()
            operation, payload, place = self._waiting.popitem()[1]
            name = errno.errorcode.get(error.errno or 0, "")
            replies[place] = _refused(operation, payload, name.encode())

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
            self._poll.modify(self._fd, polling.IN | polling.OUT)
        try:
            ready = self._poll.poll(min(max(0.0, timeout), _LONGEST_POLL) * 1000 + 1)
        finally:
            if sending:
                self._poll.modify(self._fd, polling.IN)
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
        if token not in self._paths:  # UNWATCH leaves events under way
            return
        changed = self._queue.setdefault(token, {} if token in self._deep else None)
        if changed is None:
            return
        changed[path] = None
        if path == self._paths[token] or len(changed) > _ROOM or len(path) > _LONGEST_PATH:
            self._queue[token] = None  # so that no number of events takes more room

    def _replied(
        self, operation: int, request: int, payload: bytes, replies: list[bytes | StoreError] | None
    ) -> None:
        if self._is_bus and request == 0 and operation in (Op.WATCH, Op.UNWATCH):
            request = next(iter(self._waiting), 0)  # old kernels acknowledge without the id
        asked, about, place = self._waiting.get(request, (None, b"", 0))
        if asked is None or replies is None or operation not in (asked, Op.ERROR):
            raise self._lost(f"carries garbage: a reply of type {operation} nobody asked for")
        del self._waiting[request]
        replies[place] = _refused(asked, about, payload) if operation == Op.ERROR else payload

    def _left(self, deadline: float, asked: tuple[int, bytes] | None = None) -> float:
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._lost(f"is silent for {self._timeout} s", None, asked)
        return left

    def _asked(self) -> tuple[int, bytes]:
        """The oldest request that has no answer yet."""
        return next(iter(self._waiting.values()), (0, b"", 0))[:2]

    def _check(self) -> None:
        if self._interrupted:
            raise StoreLost("the line to xenstored was closed from this side")

    def _lost(
        self, why: str, number: int | None = None, asked: tuple[int, bytes] | None = None
    ) -> StoreLost:
        """asked: what is without an answer, where it is not the oldest request under way."""
        self._interrupted = True
        operation, path = _about(*(asked or self._asked()))
        return StoreLost(
            f"the line to xenstored at {self._connection.path} {why}"
            f"{', asked for ' if operation else ''}{_in_words(operation, path)}",
            number,
            operation=operation,
            path=path,
        )


def _pair(watch: Watch) -> bytes:
    return watch.path + b"\0" + watch.token + b"\0"


_NAMES: Final[dict[int, str]] = {number: name for name, number in Op._asdict().items()}
_WITH_PATH = (Op.READ, Op.WATCH, Op.UNWATCH)


def _about(operation: int, payload: bytes) -> tuple[str | None, str | None]:
    """The name of a request, and the path that it is about, fit to be printed."""
    if not operation:
        return None, None
    path = payload.partition(b"\0")[0] if operation in _WITH_PATH else None
    return _NAMES[operation], None if path is None else printable(decode_name(path))


def _in_words(operation: str | None, path: str | None) -> str:
    return f"{operation or ''}{'' if path is None else f' of {path}'}"


def _refused(operation: int, payload: bytes, error: bytes) -> StoreError:
    """The error that xenstored named, for that request."""
    error = error.rstrip(b"\0")
    said = printable(error[:40].decode("ascii", "replace"))
    name, path = _about(operation, payload)
    return StoreError(
        f"xenstored refuses {_in_words(name, path)}: {said}",
        number_of(error),
        operation=name,
        path=path,
    )
