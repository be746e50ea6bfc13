"""The store of a real host: `ports.Store` over a line to xenstored.

Read after line.py; next hypercall.py, the other half of the outside.

Sources: docs/misc/xenstore.txt for the requests; drivers/xen/xenbus/xenbus_dev_frontend.c of
Linux for what the kernel's device does to them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import Final

from domindex import forking
from domindex.errors import AccessDenied, StoreError, StoreLost
from domindex.ports import Watch
from domindex.xen._pyxs import Op, connect, hang_up, socket_path
from domindex.xen.line import Driver, Line
from domindex.xen.packets import Request
from domindex.xen.watches import Watches

_MANY: Final = 32
"""Names from which on they are read over lines of their own: opening one costs more than a read."""
_BESIDE: Final = 16
"""Such lines at most. 300 reads took 930 ms over one, 360 over sixteen, 260 over sixty-four."""
_FIRST_EVENT: Final = 0.25
"""Seconds to wait for the event that each new watch fires. Only the xenbus may be slower; that
event is then taken for a change, and the name is read once more."""
_BARRIER_PATH: Final = b"/domindex/barrier"
"""A node that is never written, so that a watch on it fires at its start and never again."""


class XenStore:
    """See `ports.Store`.

    Args:
        transport: "socket", "xenbus", or None for the one that is there.
        path: Of the socket or device, where it is not the usual one.
        timeout: Seconds for the connection, and for each later reply.

    Raises:
        StoreLost: xenstored cannot be reached, or does not answer through the xenbus.
        AccessDenied: This process may not open it.
        InvalidKey: There is no such transport.

    Cost: The connection. Where the xenbus was chosen without being asked for, a round trip.
    """

    def __init__(self, transport: str | None, path: str | None, timeout: float) -> None:
        connection, self._is_bus = connect(transport, path, timeout)
        self.transport = "xenbus" if self._is_bus else "socket"
        self.forgets: bool = self._is_bus
        self._alone = False  # whether no line can be opened beside this one
        self._barriers = 0
        self._watches = Watches()
        try:
            self._driver = Driver(timeout)
        except BaseException:
            hang_up(connection)
            raise
        self._line = Line(connection, self._driver, self._watches.on_event, is_bus=self._is_bus)
        # A child's copy of the descriptor would keep the connection open after the parent has
        # closed its own, and xenstored would go on sending events that are never read.
        forking.register(self.close)
        if self._is_bus and transport is None:
            self._prove_chosen()

    # -- the port ----------------------------------------------------------------------------

    def watch(
        self, watches: Sequence[Watch], *, depth: int | None = None
    ) -> list[StoreError | None]:
        """Set watches. Cost: one request each, pipelined; a round trip more on the xenbus."""
        self._driver.check()
        words = [] if depth is None else [b"%d" % depth]
        requests = [Request(Op.WATCH, *watch, *words) for watch in watches]
        if self._is_bus and depth is not None:
            # The kernel passes path and token on and drops the depth without an error.
            for request in requests:
                request.error = b"EINVAL"
            return [request.refusal() for request in requests]
        self._prove()
        fresh = self._watches.add(watches, deep=depth is not None)
        self._exchange(requests)
        refusals = [request.refusal() for request in requests]
        for watch, refusal in zip(watches, refusals, strict=True):
            if refusal is not None and watch.token in fresh:
                self._watches.forget(watch.token)
        # Else the first event would come after the caller has read the node, as if it had changed.
        deadline = time.monotonic() + _FIRST_EVENT
        while self._watches.silent and (left := deadline - time.monotonic()) > 0:
            self._driver.take_in([self._line], left)
        return refusals

    def unwatch(self, watches: Sequence[Watch]) -> None:
        """Drop watches. Cost: one request each, pipelined."""
        for watch in watches:
            self._watches.forget(watch.token)
        # A refusal changes nothing: events that still come with these tokens are dropped.
        self._exchange([Request(Op.UNWATCH, *watch) for watch in watches])

    def read(self, paths: Sequence[bytes]) -> list[bytes | StoreError | None]:
        """The values, None where there is no node. Cost: one request each, pipelined.

        From 32 on they are read over lines that are opened for that and closed again.
        """
        self._driver.check()
        requests = [Request(Op.READ, path) for path in paths]
        if len(paths) < _MANY or not self._read_beside(requests):
            self._exchange(requests)
        return [
            None if request.error == b"ENOENT" else request.refusal() or request.reply
            for request in requests
        ]

    def is_introduced(self, domid: int) -> bool | None:
        """None also where a policy forbids to ask. Cost: one request."""
        request = Request(Op.IS_DOMAIN_INTRODUCED, b"%d" % domid)
        self._exchange([request])
        return {b"T": True, b"F": False}.get(request.reply.rstrip(b"\0"))

    def barrier(self) -> None:
        """Cost: one round trip; three on the xenbus.

        On a socket events and replies are one stream: with the reply, every earlier event is
        there. The kernel behind the xenbus queues events apart from replies, so there the first
        event of a new watch marks the place among the events.
        """
        if not self._is_bus:
            self._round_trip()
            return
        self._barriers += 1
        mark = Watch(_BARRIER_PATH, b"barrier/%d" % self._barriers)
        deadline = time.monotonic() + self._driver.timeout
        (refusal,) = self.watch([mark])
        if refusal is not None:
            raise refusal
        while mark.token in self._watches.silent:
            if (left := deadline - time.monotonic()) <= 0:
                raise self._line.lost(
                    f"is silent for {self._driver.timeout} s", request=Request(Op.WATCH, *mark)
                )
            self._driver.take_in([self._line], left)
        self.unwatch([mark])

    def events(self, *, arrived: bool = False) -> Iterable[Watch]:
        """What came with replies or while waiting. Cost: none, or with `arrived` a system call.

        An event that is still in the socket when a read is sent is taken later, and then causes
        another read.
        """
        self._driver.check()
        if arrived:
            self._line.receive()
        return self._watches.take()

    def wait(self, timeout: float) -> None:
        """Cost: none while nothing happens."""
        driver = self._driver
        driver.check()
        deadline = time.monotonic() + timeout
        while not (self._watches.fired or driver.woken):
            if (left := deadline - time.monotonic()) <= 0:
                break
            driver.take_in([self._line], left)
        driver.woken = False

    def wake(self) -> None:
        """From any thread."""
        self._driver.wake()

    def interrupt(self) -> None:
        """From any thread."""
        self._driver.interrupt()

    def close(self) -> None:
        """Closing the line drops its watches. For the driving thread; may be called twice."""
        self._driver.close()
        self._line.close()

    # -- requests ----------------------------------------------------------------------------

    def _exchange(self, requests: Sequence[Request]) -> None:
        self._driver.exchange([self._line], requests)

    def _round_trip(self) -> None:
        """Make a request that every server answers without a look-up; a refusal is an answer."""
        self._exchange([Request(Op.GET_DOMAIN_PATH, b"0")])

    def _read_beside(self, requests: Sequence[Request]) -> bool:
        """Read over lines opened for that; False if none can be.

        Both xenstoreds answer one request of each connection in a round of their main loop, and a
        round visits every connection, those of all guests included. So many reads take fewer
        rounds over more connections. With 1,000 domains, the reads of the first sync took 2.4 s
        over one line and 0.9 s over sixteen.

        It is safe for names that are watched already: a later change is an event on the line that
        has the watches.
        """
        if self._is_bus or self._alone:
            return False
        with contextlib.ExitStack() as closing:
            lines = []
            try:
                for _ in range(min(_BESIDE, 2 * len(requests) // _MANY)):
                    connection, _ = connect("socket", self._line.path, self._driver.timeout)
                    closing.callback(hang_up, connection)
                    lines.append(Line(connection, self._driver))
            except (StoreLost, AccessDenied):
                self._alone = True  # root was dropped, or no descriptor is left: do not try again
                return False
            self._driver.exchange(lines, requests)
        return True

    def _prove(self) -> None:
        """Before a watch on the xenbus: make sure that xenstored answers at all.

        The kernel sets a watch within the write to the device. If xenstored does not answer, that
        write never returns, whatever the time limit. Other requests are only queued.
        """
        if self._is_bus:
            self._round_trip()

    def _prove_chosen(self) -> None:
        """The xenbus was not asked for: it may be there without a xenstored behind it."""
        try:
            self._prove()
        except StoreLost as error:
            self.close()
            bus, socket = self._line.path, socket_path()
            if socket == bus:
                raise
            raise StoreLost(
                f"no process serves xenstore's socket {socket}, and {error}; is xenstored running?"
            ) from None
        except BaseException:
            self.close()
            raise
