"""Lines to xenstored: pipelined requests, replies, events, and a time limit on everything.

Read after packets.py, watches.py and polling.py; next xenstore.py.

A store has one line that holds its watches. To read many names it opens up to sixteen more for a
moment. All of them are of the same class, `Line`, and one `Driver` moves the bytes.

Requests are pipelined: up to a window of them is sent before the first reply is there. The protocol
does not promise the order of replies, so each request has an id, which its reply carries. A packet
of type WATCH_EVENT is no reply; it may come at any time and goes to `on_event`.

On the xenbus, the kernel's device for xenstore, the window is one request. The kernel queues a
request without copying its payload, and a second write would change the payload under way. Nor
does the kernel keep events and replies in one order, as a socket does.

A line cannot be used any more once it was closed by either side, once it carried something that is
no packet or no reply to a request in flight, once no reply came within the time limit, and once an
exchange was left by an exception: then half a packet may be sent, and replies are on their way that
the next exchange did not ask for. The driver is `interrupted` from there on. Every later call
raises StoreLost, on all lines of that store, and the store has to be opened again.

One thread drives the lines. Only `Driver.wake` and `Driver.interrupt` may be called from others.

Sources: docs/misc/xenstore.txt for the protocol; drivers/xen/xenbus/xenbus_dev_frontend.c of Linux
for what the kernel's device does to it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from domindex.errors import StoreLost
from domindex.forking import rlock
from domindex.xen import polling
from domindex.xen._pyxs import Connection, Op, hang_up
from domindex.xen.packets import Garbage, Request, cut

_WINDOW: Final = 512
"""Requests in flight on a socket. It is filled up when half of it is answered, so that there is one
write for many requests."""
_CHUNK: Final = 1 << 16
_CHUNKS: Final = 64
"""Chunks read at most before the caller looks at what came: a storm of events must not hold it."""
_LONGEST_POLL: Final = 86400.0
"""Seconds. poll() takes milliseconds of 31 bits, and no infinity; the caller polls again."""

# xenstored sends a reply in two pieces, and each would wake this process. Where dom0 has one
# processor, every wake-up takes it from xenstored: the first sync of 300 domains then took 1.3
# times as long as a bare client does, and takes 0.7 times as long with these rests.
_CROWD: Final = 8
"""Requests in flight from which on the server is left alone for a while."""
_SHORTEST_REST: Final = 0.001
"""Seconds. A shorter rest is not worth its system call."""
_LONGEST_REST: Final = 0.02
"""Seconds, however slow the server is: an answer may come faster than the last ones."""
_UNREAD: Final = 32
"""Replies that the server may give on one line during a rest. Each may come with an event, both are
two pieces, and a socket holds some 280 unread pieces: after that the server would wait for us."""
_REST_OF_MANY: Final = 0.005
"""Seconds of each rest while several lines are driven. No pace can be measured there: a round of
the server answers one request of each line, so replies come in bursts."""


class Driver:
    """The loop that drives the lines of one store, and how other threads reach it.

    timeout: seconds within which some reply must come after the one before.
    interrupted: no line may be used any more.
    woken: `wake` was called and its effect is still owed to the next `XenStore.wait`.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.interrupted: bool = False
        self.woken: bool = False
        # Held while the descriptor is used by another thread: one that is closed meanwhile may
        # have become another file.
        self._lock = rlock()
        try:
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError as error:
            raise StoreLost("no descriptor is left for a line to xenstore", error.errno) from None

    def wake(self) -> None:
        """Make the driving thread return from its wait. From any thread."""
        # An error means that it is awake already: the counter is full.
        with self._lock, contextlib.suppress(OSError):
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def interrupt(self) -> None:
        """Make the current and each later call raise StoreLost. From any thread."""
        self.interrupted = True
        self.wake()

    def check(self) -> None:
        """Raises StoreLost if the lines may not be used any more."""
        if self.interrupted:
            raise StoreLost("the line to xenstored was closed from this side")

    def exchange(self, lines: Sequence[Line], requests: Sequence[Request]) -> None:
        """Send the requests, spread over the lines; return when each has its reply.

        Raises:
            StoreLost: A line cannot be used any more, or `interrupt` was called.
        """
        self.check()
        try:
            for number, line in enumerate(lines):
                line.submit(requests[number :: len(lines)])
            self._drive(lines)
        except BaseException:  # KeyboardInterrupt too: half a packet may be sent
            self.interrupted = True
            raise

    def take_in(self, lines: Sequence[Line], seconds: float) -> None:
        """Wait once, until a line is ready or `wake` is called; take in what has arrived."""
        self.check()
        poll = polling.new_poll()
        poll.register(self._wake, polling.IN)
        for line in lines:
            poll.register(line.fd, polling.IN | polling.OUT if line.outgoing else polling.IN)
        # A millisecond more, so that the time has passed for certain when it returns.
        ready = poll.poll(min(max(0.0, seconds), _LONGEST_POLL) * 1000 + 1)
        by_fd = {line.fd: line for line in lines}
        for fd, event in ready:
            if fd == self._wake:
                self._on_wake()
            elif event != polling.OUT:
                by_fd[fd].receive()
        self.check()

    def close(self) -> None:
        """Give the descriptor back. For the driving thread; may be called twice."""
        self.interrupted = True
        with self._lock:
            if self._wake >= 0:
                wake, self._wake = self._wake, -1
                os.close(wake)

    def _drive(self, lines: Sequence[Line]) -> None:
        answered_at = time.monotonic()
        pace = 0.0  # seconds for a reply, measured at the last ones
        while missing := _total(lines):
            for line in lines:
                line.send()
            in_flight = sum(line.in_flight for line in lines)
            if not in_flight:
                continue  # the kernel refused a watch within the write
            self._rest(len(lines), in_flight, pace)
            left = answered_at + self.timeout - time.monotonic()
            if left <= 0:
                silent = next(line for line in lines if line.in_flight)
                raise silent.lost(f"is silent for {self.timeout} s")
            self.take_in(lines, left)
            if answered := missing - _total(lines):
                before, answered_at = answered_at, time.monotonic()
                pace = (answered_at - before) / answered

    def _rest(self, lines: int, in_flight: int, pace: float) -> None:
        """Leave the server to its work for a while; `wake` ends it."""
        seconds = 0.0
        if lines > 1:
            seconds = _REST_OF_MANY
        elif in_flight > _CROWD:
            # Half of them: the other half keeps the server busy while the next ones are sent.
            seconds = min(pace * min(in_flight / 2, _UNREAD), _LONGEST_REST)
        if seconds >= _SHORTEST_REST:
            poll = polling.new_poll()
            poll.register(self._wake, polling.IN)
            if poll.poll(seconds * 1000):
                self._on_wake()

    def _on_wake(self) -> None:
        os.eventfd_read(self._wake)
        self.woken = True
        self.check()


def _no_watches(_event: bytes) -> None:
    raise Garbage("an event, where no watch is set")


class Line:
    """One connection to xenstored: what is to be sent, what is in flight, what has arrived.

    on_event: receives the payload of each event. By default an event is garbage.
    is_bus: whether it is the xenbus.
    outgoing: bytes that the connection did not take yet.
    """

    def __init__(
        self,
        connection: Connection,
        driver: Driver,
        on_event: Callable[[bytes], None] = _no_watches,
        *,
        is_bus: bool = False,
    ) -> None:
        self._connection = connection
        self._driver = driver
        self._on_event = on_event
        self._is_bus = is_bus
        self._window = 1 if is_bus else _WINDOW
        self.path: str = connection.path
        self.fd: int = connection.fileno()
        os.set_blocking(self.fd, False)
        self._last_id = 0
        self._unsent: deque[Request] = deque()
        self._waiting: dict[int, Request] = {}  # by id, oldest first
        self.outgoing: bytearray = bytearray()
        self._received = bytearray()

    @property
    def in_flight(self) -> int:
        """Requests that are sent, or partly sent, and have no reply."""
        return len(self._waiting)

    @property
    def unanswered(self) -> int:
        """Requests that have no reply, those included that wait for a place in the window."""
        return len(self._unsent) + len(self._waiting)

    def submit(self, requests: Iterable[Request]) -> None:
        """Have these sent by the next calls of `send`."""
        self._unsent.extend(requests)

    def send(self) -> None:
        """Fill the window and send what the connection takes now, without waiting."""
        if len(self._waiting) <= self._window // 2:
            while self._unsent and len(self._waiting) < self._window:
                request = self._unsent.popleft()
                self._last_id = self._last_id % 0xFFFFFFFF + 1  # 32 bits; 0 is what events carry
                self._waiting[self._last_id] = request
                self.outgoing += request.packet(self._last_id)
        try:
            while self.outgoing:
                del self.outgoing[: self._connection.write(self.outgoing)]
        except BlockingIOError:
            pass
        except OSError as error:
            self._not_written(error)

    def receive(self) -> None:
        """Take in what has arrived, without waiting."""
        for _ in range(_CHUNKS):
            try:
                chunk = os.read(self.fd, _CHUNK)
            except BlockingIOError:
                return
            except OSError as error:
                raise self.lost("cannot be read from", error.errno) from None
            if not chunk:
                raise self.lost("was closed by xenstored")
            self._received += chunk
            try:
                for operation, request_id, payload in cut(self._received):
                    if operation == Op.WATCH_EVENT:
                        self._on_event(payload)
                    else:
                        self._on_reply(operation, request_id, payload)
            except Garbage as error:
                raise self.lost(f"carries garbage: {error}") from None
            # A socket gives all it has, the xenbus one piece of a packet at a time.
            if len(chunk) < _CHUNK and not self._is_bus:
                return

    def lost(
        self, why: str, number: int | None = None, request: Request | None = None
    ) -> StoreLost:
        """The error to raise, as this line cannot be used any more.

        Args:
            why: What happened; continues "the line to xenstored".
            number: The errno, where there is one.
            request: What is without an answer; else the oldest request in flight.
        """
        self._driver.interrupted = True
        request = request or next(iter(self._waiting.values()), None)
        sentence = f"the line to xenstored at {self.path} {why}"
        if request is None:
            return StoreLost(sentence, number)
        sentence += f", asked for {request}"
        return StoreLost(sentence, number, operation=request.name, path=request.path)

    def close(self) -> None:
        """Close the connection. xenstored then drops the watches that were set over it."""
        hang_up(self._connection)

    def _not_written(self, error: OSError) -> None:
        request = next(iter(self._waiting.values()))
        if not self._is_bus or request.operation not in (Op.WATCH, Op.UNWATCH):
            raise self.lost("cannot be written to", error.errno) from None
        # The kernel sets watches itself: it asks xenstored within the write, which then fails
        # with the errno that xenstored answered. The line is as good as before.
        self.outgoing.clear()
        self._waiting.clear()
        request.error = errno.errorcode.get(error.errno or 0, "").encode()

    def _on_reply(self, operation: int, request_id: int, payload: bytes) -> None:
        if self._is_bus and request_id == 0 and operation in (Op.WATCH, Op.UNWATCH):
            # Linux before 4.11 acknowledges a watch without the id. One request is in flight.
            request_id = next(iter(self._waiting), 0)
        request = self._waiting.get(request_id)
        if request is None or operation not in (request.operation, Op.ERROR):
            raise Garbage(f"a packet of type {operation} that answers no request")
        del self._waiting[request_id]
        if operation == Op.ERROR:
            request.error = payload.rstrip(b"\0")
        else:
            request.reply = payload


def _total(lines: Sequence[Line]) -> int:
    """Requests without a reply on all of them."""
    return sum(line.unanswered for line in lines)
