"""A small xenstored on a unix socket: right by default, wrong on request.

One thread serves every client, as in C xenstored: a request is answered whole before the next,
what a client does not read piles up here and holds up nobody else. Tests change the tree and
the domains from their own threads, and put rules before the answers to make them wrong.

    with FakeXenstored(path) as xenstored:
        xenstored.write(b"/local/domain/1/name", b"web")
        xenstored.rule(refuse(b"EIO"), op=Op.READ, times=1)

The rules are in `misbehaviour.py`.

Sources: xen/include/public/io/xs_wire.h, docs/misc/xenstore.txt; for `bus`,
drivers/xen/xenbus/xenbus_dev_frontend.c of Linux.
"""

from __future__ import annotations

import contextlib
import enum
import os
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple

HEADER = struct.Struct("<IIII")
MOST = 4096
"""A client that sends a longer payload is cut off."""


class Op(enum.IntEnum):
    """Message types, those that are served here."""

    DIRECTORY = 1
    READ = 2
    WATCH = 4
    UNWATCH = 5
    GET_DOMAIN_PATH = 10
    WRITE = 11
    RM = 13
    EVENT = 15
    ERROR = 16
    IS_DOMAIN_INTRODUCED = 17
    GET_FEATURE = 23


class Request(NamedTuple):
    """One message of a client. `first` is its payload up to the first NUL: mostly the path."""

    client: Client
    op: int
    id: int
    payload: bytes

    @property
    def first(self) -> bytes:
        return self.payload.partition(b"\0")[0]

    def reply(self, payload: bytes = b"OK\0") -> bytes:
        """The packet that answers this request."""
        return packet(self.op, payload, self.id)

    def error(self, name: bytes) -> bytes:
        """The packet that refuses it."""
        return packet(Op.ERROR, name + b"\0", self.id)


Answer = Callable[[], list[bytes]]
Rule = Callable[[Request, Answer], Iterable[bytes]]
"""The packets to send for a request; `answer()` does what was asked and gives the right ones."""


class Watched(NamedTuple):
    """One watch of a client; depth None: the node and all below."""

    path: bytes
    token: bytes
    depth: int | None


@dataclass
class _Ruled:
    """A rule, the type it is for, and how often yet."""

    rule: Rule
    op: int | None
    times: int | None


@dataclass(eq=False)
class Client:
    """One connection. `outgoing` is in packets, so that equal events can be merged."""

    socket: socket.socket
    bus: bool = False
    received: bytearray = field(default_factory=bytearray)
    outgoing: deque[bytes] = field(default_factory=deque)
    watches: list[Watched] = field(default_factory=list)
    reads: bool = True
    answers: bool = True
    trickles: bool = False
    closing: bool = False
    storm: bytes = b""

    def send(self, *packets: bytes) -> None:
        self.outgoing.extend(p for p in packets if p)


class FakeXenstored:
    """Serves at `path` while it is entered, or from `start` to `stop`.

    features: what GET_FEATURE answers; None: as a xenstored that does not know the request.
    merges: an event that is still unsent is not queued again (C xenstored from 4.17 on).
    doubles: every event is sent twice.
    oxenstored: as it is from 25.2 on: no GET_FEATURE, and a depth is taken on paths alone.
    introduced: domids that it was told of and that have not gone.
    event_first: the event of a fresh watch overtakes its acknowledgement (only a bus may).
    old_bus: watches and their ends are acknowledged there without the request's id, as Linux
        before 4.11 does it.
    """

    def __init__(self, path: str, *, features: int | None = 14) -> None:
        self.path = path
        self.features = features
        self.merges = self.doubles = self.event_first = False
        self.fires_at_start = True
        self.accepts = self.old_bus = True
        self.oxenstored = False
        self.introduced = {0}
        self.nodes: dict[bytes, bytes] = {b"/": b""}
        self.clients: list[Client] = []
        self.requests: list[Request] = []
        self._cut: list[Client] = []
        self.changed = threading.Condition(threading.RLock())
        self._rules: list[_Ruled] = []
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._wake = -1

    # -- running -----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to serve. The tree is as it was left."""
        self._stopping = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.setblocking(False)
        self._listener.bind(self.path)
        self._listener.listen(1)  # as the real one
        self._thread = threading.Thread(target=self._run, name="fake xenstored", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Be gone: every line breaks. May be called twice."""
        if self._thread is None or self._listener is None:
            return
        with self.changed:
            self._stopping = True
            self._poke()
        self._thread.join(10)
        assert not self._thread.is_alive(), "the fake xenstored hangs"
        self._thread = None
        self.cut()
        self._bury()
        self._listener.close()
        with self.changed:
            os.close(self._wake)
            self._wake = -1
        os.unlink(self.path)

    def restart(self) -> None:
        """Be gone, and back at once with the same tree."""
        self.stop()
        self.start()

    def __enter__(self) -> FakeXenstored:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def plug(self) -> socket.socket:
        """The other end of a line with the habits of the kernel's xenbus device.

        Each write is one message. Events carry a meaningless id and come when they like, a
        watch takes no more than path and token, and neither a second equal one nor the end of
        an unknown one is refused.
        """
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here.setblocking(False)
        with self.changed:
            self.clients.append(Client(here, bus=True))
            self._poke()
        return there

    def wait_until(self, true: Callable[[], object], timeout: float = 10.0) -> None:
        """Wait for something to be so; it is looked at after everything that happens here."""
        with self.changed:
            assert self.changed.wait_for(lambda: bool(true()), timeout), "it never came to be"

    # -- what a toolstack and the hypervisor do ----------------------------------------------

    def write(self, path: bytes, value: bytes) -> None:
        """Write a node; its ancestors come to be, without events of their own."""
        with self.changed:
            parent = path
            while parent := parent.rpartition(b"/")[0]:
                self.nodes.setdefault(parent, b"")
            self.nodes[path] = value
            self.fire(path)

    def remove(self, path: bytes) -> None:
        """Remove a node and all below it."""
        with self.changed:
            below = [node for node in self.nodes if node.startswith(path + b"/")]
            for node in (path, *below):
                self.nodes.pop(node, None)
            self.fire(path, below)

    def introduce(self, domid: int) -> None:
        """As after INTRODUCE by the toolstack."""
        self.introduced.add(domid)
        self._fire_special(b"@introduceDomain", domid)

    def release(self, domid: int, *, gone: bool = True) -> None:
        """As when a domain died, or merely stopped."""
        if gone:
            self.introduced.discard(domid)
        self._fire_special(b"@releaseDomain", domid)

    def fire(self, path: bytes, below: Iterable[bytes] = ()) -> None:
        """Events for a change at `path`: to itself, its ancestors, and the removed below it."""
        with self.changed:
            for client in self.clients:
                for watch in client.watches:
                    if _covers(watch, path):
                        self._event(client, path, watch.token)
                    elif watch.path in below:
                        self._event(client, watch.path, watch.token)
            self._poke()

    def _fire_special(self, name: bytes, domid: int) -> None:
        with self.changed:
            for client in self.clients:
                for path, token, depth in client.watches:
                    if path == name:
                        self._event(
                            client, name if depth is None else b"%b/%d" % (name, domid), token
                        )
            self._poke()

    # -- misbehaviour ------------------------------------------------------------------------

    def rule(self, rule: Rule, *, op: int | None = None, times: int | None = None) -> None:
        """Answer the next `times` requests of type `op` (None: all) by this; the last wins."""
        with self.changed:
            self._rules.insert(0, _Ruled(rule, op, times))

    def obey(self) -> None:
        """Undo every rule and switch."""
        with self.changed:
            self._rules.clear()
            self.merges = self.doubles = self.event_first = False
            self.fires_at_start = self.accepts = True
            self.each(reads=True, answers=True, trickles=False, storm=b"")

    def each(self, **switches: object) -> None:
        """Set switches of every client: reads, answers, trickles, storm, closing."""
        with self.changed:
            for client in self.clients:
                for name, value in switches.items():
                    setattr(client, name, value)
            self._poke()

    def send(self, *packets: bytes) -> None:
        """Send any bytes to every client."""
        with self.changed:
            for client in self.clients:
                client.send(*packets)
            self._poke()

    def cut(self) -> None:
        """Close every line at once."""
        with self.changed:
            for client in self.clients:
                with contextlib.suppress(OSError):
                    client.socket.shutdown(socket.SHUT_RDWR)
            # Closed where it is polled: its number must not come back in the meantime.
            self._cut += self.clients
            self.clients.clear()
            self._poke()

    @contextlib.contextmanager
    def full_backlog(self) -> Iterator[None]:
        """Accept nobody, and have the queue of those who wait for it full."""
        with self.changed:
            self.accepts = False
            self._poke()
        waiting: list[socket.socket] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(self.path)
        yield
        for one in waiting:
            one.close()
        with self.changed:
            self.accepts = True
            self._poke()

    # -- the loop ----------------------------------------------------------------------------

    def _poke(self) -> None:
        self.changed.notify_all()
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        assert self._listener is not None
        while True:
            with self.changed:
                self._bury()
                poll = select.poll()
                poll.register(self._wake, select.POLLIN)
                if self.accepts:
                    poll.register(self._listener, select.POLLIN)
                for client in self.clients:
                    ends = client.outgoing or client.storm or client.closing
                    wanted = (select.POLLIN if client.reads else 0) | (
                        select.POLLOUT if ends else 0
                    )
                    poll.register(client.socket, wanted)
            ready = dict(poll.poll())
            with self.changed:
                if self._stopping:
                    return
                if self._wake in ready:
                    os.eventfd_read(self._wake)
                if self.accepts and self._listener.fileno() in ready:
                    self._accept(self._listener)
                for client in list(self.clients):
                    self._serve(client, ready.get(client.socket.fileno(), 0))
                self.changed.notify_all()

    def _bury(self) -> None:
        while self._cut:
            self._cut.pop().socket.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            line, _ = listener.accept()
            line.setblocking(False)
            self.clients.append(Client(line))

    def _serve(self, client: Client, ready: int) -> None:
        try:
            if ready & (select.POLLIN | select.POLLHUP) and client.reads:
                self._read(client)
            if ready & select.POLLOUT:
                self._write(client)
            if ready & (select.POLLERR | select.POLLNVAL):
                raise ConnectionError
        except BlockingIOError:
            pass
        except OSError:
            client.socket.close()
            self.clients.remove(client)

    def _read(self, client: Client) -> None:
        chunk = client.socket.recv(1 << 16)
        if not chunk:
            raise ConnectionError
        client.received += chunk
        while len(client.received) >= HEADER.size:
            op, number, _, length = HEADER.unpack_from(client.received)
            if length > MOST:
                raise ConnectionError
            end = HEADER.size + length
            if len(client.received) < end:
                assert not client.bus, "the device takes a message only whole"
                return
            payload = bytes(client.received[HEADER.size : end])
            del client.received[:end]
            self._answer(Request(client, op, number, payload))

    def _write(self, client: Client) -> None:
        if not client.outgoing and client.storm:
            client.outgoing.append(client.storm * (1 + 65536 // len(client.storm)))
        while client.outgoing:
            data = client.outgoing[0][:1] if client.trickles else client.outgoing[0]
            sent = client.socket.send(data)
            head = client.outgoing.popleft()
            if sent < len(head):
                client.outgoing.appendleft(head[sent:])
            if client.trickles or client.storm:
                return
        if client.closing:
            raise ConnectionError

    # -- answers -----------------------------------------------------------------------------

    def _answer(self, request: Request) -> None:
        self.requests.append(request)
        if not request.client.answers:
            return
        for ruled in self._rules:
            if ruled.op in (None, request.op):
                if ruled.times is not None:
                    ruled.times -= 1
                    if ruled.times <= 0:
                        self._rules.remove(ruled)
                request.client.send(*ruled.rule(request, lambda: self._right(request)))
                return
        request.client.send(*self._right(request))

    def _right(self, request: Request) -> list[bytes]:
        client, first, rest = request.client, request.first, request.payload.partition(b"\0")[2]
        match request.op:
            case Op.READ:
                value = self.nodes.get(first)
                return [request.error(b"ENOENT") if value is None else request.reply(value)]
            case Op.DIRECTORY:
                if first not in self.nodes:
                    return [request.error(b"ENOENT")]
                home = first.rstrip(b"/") + b"/"
                names = {
                    n[len(home) :].partition(b"/")[0] for n in self.nodes if n.startswith(home)
                }
                return [request.reply(b"".join(name + b"\0" for name in sorted(names) if name))]
            case Op.WATCH:
                return self._watch(request, first, rest.split(b"\0"))
            case Op.UNWATCH:
                kept = [w for w in client.watches if w[:2] != (first, rest.partition(b"\0")[0])]
                known = len(kept) < len(client.watches) or client.bus
                client.watches[:] = kept
                return [self._acknowledged(request) if known else request.error(b"ENOENT")]
            case Op.WRITE:
                self.write(first, rest)
                return [request.reply()]
            case Op.RM:
                if first not in self.nodes and first.rpartition(b"/")[0] not in self.nodes:
                    return [request.error(b"ENOENT")]
                self.remove(first)
                return [request.reply()]
            case Op.GET_DOMAIN_PATH:
                return [request.reply(b"/local/domain/%d\0" % int(first))]
            case Op.IS_DOMAIN_INTRODUCED:
                return [request.reply(b"T\0" if int(first) in self.introduced else b"F\0")]
            case Op.GET_FEATURE if self.features is not None and not self.oxenstored:
                return [request.reply(b"%d\0" % self.features)]
        return [request.error(b"ENOSYS")]

    def _watch(self, request: Request, path: bytes, rest: list[bytes]) -> list[bytes]:
        token, *more = rest[:-1] or [b""]
        client, depth = request.client, None
        if more and not client.bus:
            knows = not path.startswith(b"@") if self.oxenstored else (self.features or 0) & 4
            if not knows or not more[0].isdigit():
                return [request.error(b"EINVAL")]
            depth = int(more[0])
        if not client.bus and (path, token) in [watch[:2] for watch in client.watches]:
            return [request.error(b"EEXIST")]
        client.watches.append(Watched(path, token, depth))
        packets = [self._acknowledged(request)]
        if self.fires_at_start:
            packets.insert(0 if self.event_first else 1, event(path, token))
        return packets

    def _acknowledged(self, request: Request) -> bytes:
        anonymous = request.client.bus and self.old_bus
        return packet(request.op, b"OK\0", 0 if anonymous else request.id)

    def _event(self, client: Client, path: bytes, token: bytes) -> None:
        told = event(path, token, 0xDEADBEEF if client.bus else 0)
        if self.merges and not path.startswith(b"@") and told in client.outgoing:
            return
        client.send(told, *([told] if self.doubles else []))


def packet(op: int, payload: bytes = b"", number: int = 0, length: int | None = None) -> bytes:
    """Any message; `length` where it shall lie about its own."""
    return HEADER.pack(op, number, 0, len(payload) if length is None else length) + payload


def event(path: bytes, token: bytes, number: int = 0) -> bytes:
    """A watch event."""
    return packet(Op.EVENT, path + b"\0" + token + b"\0", number)


def _covers(watch: Watched, path: bytes) -> bool:
    if watch.path.startswith(b"@") or path.startswith(b"@"):
        return False
    above = watch.path.rstrip(b"/") + b"/"
    if watch.path != path and not path.startswith(above):
        return False
    steps = 0 if watch.path == path else path[len(above) :].count(b"/") + 1
    return watch.depth is None or steps <= watch.depth
