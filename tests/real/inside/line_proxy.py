"""A unix socket between an index and the real xenstored, on which lines go wrong as asked.

Packets are passed on whole and in order until a fault says otherwise. There are two kinds: the
switches of `Weather` treat every packet of every line, and `rule` lies in wait for one packet.
`clear` ends them all; a line that has gone silent by then stays so, as a deaf one does.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

HEADER = struct.Struct("=IIII")  # type, request id, transaction id, length; xs_wire.h
_CHUNK = 1 << 16
_BACKLOG = 1  # as the real one


class Op(IntEnum):
    """The types of packets that are told apart here; xs_wire.h."""

    READ = 2
    WATCH = 4
    EVENT = 15
    ERROR = 16


class Packet(NamedTuple):
    """One message. asked: from the index to xenstored; else the other way."""

    asked: bool
    op: int
    payload: bytes
    raw: bytes


@dataclass
class Weather:
    """How every line is treated.

    delay: seconds that each packet from xenstored is kept back.
    piece, pause: pass on this many bytes at a time to the index, with this much time between.
    sip, thirst: the same for what is read from xenstored, which then has to wait for us.
    doubles: each event comes again after `delay`. merges: an event is dropped while an equal
        one is kept back. silent: everything is swallowed, both ways.
    """

    delay: float = 0.0
    piece: int = _CHUNK
    pause: float = 0.0
    sip: int = _CHUNK
    thirst: float = 0.0
    doubles: bool = False
    merges: bool = False
    silent: bool = False


@dataclass
class _Way:
    """One direction of a line. kept: (when it is due, the bytes) not yet ready to be sent."""

    source: socket.socket
    target: socket.socket
    asked: bool
    received: bytearray = field(default_factory=bytearray)
    kept: deque[tuple[float, bytes]] = field(default_factory=deque)
    outgoing: bytearray = field(default_factory=bytearray)
    may_send: float = 0.0
    may_read: float = 0.0


class Line:
    """One connection of the index, and ours to xenstored for it."""

    def __init__(self, index: socket.socket, server: socket.socket) -> None:
        self.index, self.server = index, server
        self.ways = (_Way(index, server, True), _Way(server, index, False))
        self.silent = self.ending = self.ended = False

    def pass_on(self, packet: Packet, raw: bytes) -> None:
        """Send `raw` the way that `packet` was going."""
        self.ways[0 if packet.asked else 1].outgoing += raw


Where = Callable[[Packet], bool]
What = Callable[[Line, Packet], None]


def cut(line: Line, packet: Packet) -> None:
    """The line breaks instead of the packet."""
    line.ended = True


def half_and_cut(line: Line, packet: Packet) -> None:
    """Half the packet comes, and then the end of the line."""
    line.pass_on(packet, packet.raw[: len(packet.raw) // 2])
    line.ending = True


def half_and_silence(line: Line, packet: Packet) -> None:
    """Half the packet comes, and then nothing any more."""
    line.pass_on(packet, packet.raw[: len(packet.raw) // 2])
    line.silent = True


def silence(line: Line, packet: Packet) -> None:
    """Nothing comes any more, this packet neither."""
    line.silent = True


class LineProxy:
    """Serves `path` for the xenstored at `server`, from a thread of its own, in a `with`."""

    def __init__(self, path: Path, server: Path) -> None:
        self.path, self._server = path, server
        self.weather = Weather()
        self.refuses = False
        """Take a connection and end it at once, without asking xenstored for one."""
        self.attempts: list[float] = []
        """When a connection was asked for, by the monotonic clock."""
        self.refusals: dict[tuple[int, bytes], bytes] = {}
        """The error to answer with, by operation and path; xenstored is not asked then."""
        self.struck = 0
        """Rules that found their packet."""
        self._rules: list[tuple[Where, What]] = []
        self._lines: list[Line] = []
        self._lock = threading.RLock()
        self._closing = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="line proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> LineProxy:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed():
            self._closing = True
        self._thread.join(10)
        assert not self._thread.is_alive(), "the line proxy hangs"
        for line in self._lines:
            self._end(line)
        self._listener.close()
        os.close(self._wake)
        self.path.unlink()

    # -- faults ------------------------------------------------------------------------------

    def rule(self, where: Where, what: What) -> None:
        """Do `what` with the next packet of which `where` is true, once."""
        with self._changed():
            self._rules.append((where, what))

    def cut(self, *, and_then: Where | None = None) -> None:
        """Break every line now, and the next one as soon as this packet is on it."""
        with self._changed():
            if and_then is not None:
                self._rules.append((and_then, cut))
            for line in self._lines:
                line.ended = True

    def refuse(self, op: int, path: str, error: bytes) -> None:
        """Answer each such request with this error, until `clear`."""
        with self._changed():
            self.refusals[op, path.encode()] = error

    def switch(self, **switches: object) -> None:
        """Change the weather."""
        with self._changed():
            for name, value in switches.items():
                assert hasattr(self.weather, name)
                setattr(self.weather, name, value)

    def clear(self) -> None:
        """No more faults: what was kept back is passed on."""
        with self._changed():
            self.weather = Weather()
            self.refuses = False
            self.refusals.clear()
            self._rules.clear()
            for line in self._lines:
                for way in line.ways:
                    way.kept = deque((0.0, raw) for _, raw in way.kept)
                    way.may_read = way.may_send = 0.0

    @property
    def lines(self) -> int:
        """How many are open."""
        with self._lock:
            return len(self._lines)

    # -- the thread --------------------------------------------------------------------------

    @contextmanager
    def _changed(self) -> Iterator[None]:
        with self._lock:
            yield
            os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closing:
                    return
                poll, left = self._poll()
            ready = {fd for fd, _ in poll.poll(None if left is None else left * 1000 + 1)}
            with self._lock:
                if self._wake in ready:
                    os.eventfd_read(self._wake)
                if self._listener.fileno() in ready:
                    self._accept()
                for line in list(self._lines):
                    self._serve(line, ready)

    def _poll(self) -> tuple[select.poll, float | None]:
        """What to wait for, and for how many seconds at most."""
        now = time.monotonic()
        wanted = {self._wake: select.POLLIN, self._listener.fileno(): select.POLLIN}
        times = []
        for line in self._lines:
            for way in line.ways:
                if way.kept:
                    times.append(way.kept[0][0])
                if way.may_read > now:
                    times.append(way.may_read)
                else:
                    fd = way.source.fileno()
                    wanted[fd] = wanted.get(fd, 0) | select.POLLIN
                if way.outgoing and way.may_send > now:
                    times.append(way.may_send)
                elif way.outgoing:
                    fd = way.target.fileno()
                    wanted[fd] = wanted.get(fd, 0) | select.POLLOUT
        poll = select.poll()
        for fd, mask in wanted.items():
            poll.register(fd, mask)
        return poll, max(0.0, min(times) - now) if times else None

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            index, _ = self._listener.accept()
            self.attempts.append(time.monotonic())
            server = socket.socket(socket.AF_UNIX)
            try:
                if self.refuses:
                    raise ConnectionRefusedError
                server.connect(str(self._server))
            except OSError:
                server.close()
                index.close()
                return
            index.setblocking(False)
            server.setblocking(False)
            self._lines.append(Line(index, server))

    def _serve(self, line: Line, ready: set[int]) -> None:
        try:
            for way in line.ways:
                if way.source.fileno() in ready and time.monotonic() >= way.may_read:
                    self._read(line, way)
                self._send(way)
        except OSError:
            line.ended = True
        if line.ending and not any(way.outgoing for way in line.ways):
            line.ended = True
        if line.ended:
            self._end(line)
            self._lines.remove(line)

    @staticmethod
    def _end(line: Line) -> None:
        line.index.close()
        line.server.close()

    def _read(self, line: Line, way: _Way) -> None:
        try:
            data = way.source.recv(_CHUNK if way.asked else self.weather.sip)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionError
        if not way.asked and self.weather.thirst:
            way.may_read = time.monotonic() + self.weather.thirst
        way.received += data
        while len(way.received) >= HEADER.size:
            op, _, _, length = HEADER.unpack_from(way.received)
            end = HEADER.size + length
            if len(way.received) < end:
                return
            raw = bytes(way.received[:end])
            del way.received[:end]
            self._pass(line, way, Packet(way.asked, op, raw[HEADER.size :], raw))

    def _pass(self, line: Line, way: _Way, packet: Packet) -> None:
        if line.silent or self.weather.silent:
            line.silent = True  # half of a talk is no use: it has lost replies
            return
        if line.ending or line.ended:
            return
        for place, (where, what) in enumerate(self._rules):
            if where(packet):
                del self._rules[place]
                self.struck += 1
                what(line, packet)
                return
        if packet.asked:
            error = self.refusals.get((packet.op, packet.payload.partition(b"\0")[0]))
            if error is None:
                way.outgoing += packet.raw
            else:
                _, number, *_ = HEADER.unpack_from(packet.raw)
                said = HEADER.pack(Op.ERROR, number, 0, len(error) + 1) + error + b"\0"
                line.ways[1].outgoing += said
            return
        weather, due = self.weather, time.monotonic() + self.weather.delay
        is_event = packet.op == Op.EVENT
        if is_event and weather.merges and any(raw == packet.raw for _, raw in way.kept):
            return
        way.kept.append((due, packet.raw))
        if is_event and weather.doubles:
            way.kept.append((due + weather.delay, packet.raw))

    def _send(self, way: _Way) -> None:
        now = time.monotonic()
        while way.kept and way.kept[0][0] <= now:
            way.outgoing += way.kept.popleft()[1]
        piece = _CHUNK if way.asked else self.weather.piece
        with contextlib.suppress(BlockingIOError):
            while way.outgoing and time.monotonic() >= way.may_send:
                del way.outgoing[: way.target.send(way.outgoing[:piece])]
                if not way.asked and self.weather.pause:
                    way.may_send = time.monotonic() + self.weather.pause
