"""The figures that only a real host can give. Runs in its dom0; prints JSON lines.

Everything there is emulated and some 50 times slower than it looks: only the ratios count.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import itertools
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import domindex
from domindex.xen.hypercall import BATCH, PrivcmdHypervisor
from tests.bench.bare import BareList
from tests.measure.figures.measure import Figure, in_turns, seconds
from tests.real.inside.toolstack import RealHost

DOMAINS = 300
MANY = 1200
ROUNDS = 7
BLOCKS, CHANGES = 6, 12
BURST = 300
PATIENCE = 60.0
HEADER = struct.Struct("=IIII")
READ, WATCH, GET_DOMAIN_PATH, WRITE, EVENT = 2, 4, 10, 11, 15
XENSTORED = "/run/xenstored/socket"


def main() -> int:
    host = RealHost()
    try:
        made = [host.create(f"vm-{number}") for number in range(DOMAINS)]
        for figure in (
            verified(made[-1]),
            *first_sync(made),
            *facts(),
            writes(made),
            *latencies(host, made),
        ):
            tell(figure)
        more = [host.create(f"vm-{number}", introduce=False) for number in range(DOMAINS, MANY)]
        for domid in more:  # when all are made: with each that it knows, xenstored is slower
            host.introduce(domid)
        tell(refreshed([0, *made, *more]))
    finally:
        host.close()
    return 0


def tell(figure: Figure) -> None:
    print("FIGURE", json.dumps(dataclasses.asdict(figure)), flush=True)


def verified(domid: int) -> Figure:
    """A verified hit by name against the hypercall it makes, called bare."""
    with domindex.connect(timeout=120) as index:
        name = index.by_id(domid).name
        assert name is not None
        bare = BareList()

        def many(call: Callable[[], object]) -> Callable[[], None]:
            def run() -> None:
                for _ in range(50):
                    call()

            return run

        ours, floor = in_turns(
            many(lambda: index.by_name(name, verify=True)), many(lambda: bare(domid)), 80
        )
        bare.close()
    return Figure(
        "`by_name(name, verify=True)` hit",
        "the bare list hypercall of that domain",
        ours / floor,
        1.3,
        f"{ours / 50 * 1e6:.0f} us against {floor / 50 * 1e6:.0f} us, emulated, {DOMAINS} domains",
        _VERIFIED,
    )


_VERIFIED = (
    "Python parses and compares the result with cold caches, as Xen and the kernel of dom0 have "
    "run since. All that can be done before the call is done before it"
)


def facts() -> list[Figure]:
    """What a scrape of an exporter asks the hypervisor, beside other ways to ask it."""
    with domindex.connect(timeout=120) as index:
        bare = BareList(BATCH)
        hypervisor = index._body.hypervisor
        assert isinstance(hypervisor, PrivcmdHypervisor)

        def read() -> None:
            dict(index.infos())

        def anew() -> None:
            hypervisor._infos.clear()  # as if each had run since: nothing is kept of the last call
            index.infos()

        def read_anew() -> None:
            hypervisor._infos.clear()
            dict(index.infos())

        def each() -> None:
            for domid in index.domids:
                index.info(domid)

        def xl() -> None:
            subprocess.run(["xl", "list", "-v"], stdout=subprocess.DEVNULL, check=True)

        found = []
        for what, ours, against, floor, most, rounds, why in (
            ("", index.infos, _BARE, lambda: bare(0), 2.5, 200, ""),
            (
                ", each of which has run since the last",
                anew,
                _BARE,
                lambda: bare(0),
                2.5,
                40,
                "",
            ),
            (" and all that they say", read, _BARE, lambda: bare(0), 2.5, 40, _READ),
            (
                " and all that they say, each of which has run since the last",
                read_anew,
                _BARE,
                lambda: bare(0),
                2.5,
                40,
                _READ,
            ),
            ("", index.infos, "`info()` of each", each, 0.1, 20, ""),
            ("", index.infos, "`xl list -v`", xl, 0.1, 7, ""),
        ):
            mine, theirs = in_turns(ours, floor, rounds)
            detail = f"{mine * 1e3:.2f} ms against {theirs * 1e3:.2f} ms, emulated"
            name = f"`infos()` of {DOMAINS} domains{what}"
            found.append(Figure(name, against, mine / theirs, most, detail, why))
        bare.close()
    return found


_BARE = "the bare list hypercall"
_READ = (
    "each entry is taken out of the list and, if it has changed, made a `DomainInfo`. Xen copies "
    "an entry in a tenth of the time that Python takes for that"
)


def refreshed(domids: list[int]) -> Figure:
    """A refresh that finds nothing new against what it has to ask, asked bare."""
    with domindex.connect(timeout=120) as index, socket.socket(socket.AF_UNIX) as line:
        line.connect(XENSTORED)
        bare = BareList(BATCH)

        def ask() -> None:
            talk(line, [(GET_DOMAIN_PATH, b"0\0")], bytearray())
            for first in domids[::BATCH]:
                bare(first)

        ours, floor = in_turns(lambda: index.refresh(timeout=120), ask, 60, pause=0.05)
        bare.close()
    return Figure(
        f"`refresh()` of {MANY:,} domains without change",
        "the bare list hypercall and one round trip",
        ours / floor,
        1.5,
        f"{ours * 1e3:.1f} ms against {floor * 1e3:.1f} ms, emulated",
        _ASKED,
    )


_ASKED = (
    "1.43 to 1.54 from run to run. The work on the list is a tenth of it; the rest is two threads "
    "that hand over to each other and back on one processor"
)


def first_sync(domids: list[int]) -> list[Figure]:
    """`connect()` and all that it does, against the bare watches and reads."""

    def ours() -> None:
        domindex.connect(timeout=300).close()

    handle = importlib.import_module("xen.lowlevel.xs").xs()

    def scan() -> None:
        for domid in handle.ls("", "/local/domain"):
            handle.read("", f"/local/domain/{domid}/name")

    floors: tuple[tuple[str, float, Callable[[], None], str], ...] = (
        (
            "a bare client that pipelines the same watches and reads",
            0.5,
            lambda: bare_sync([0, *domids]),
            _SYNC,
        ),
        ("a list and reads alone with xen.lowlevel.xs", 1.0, scan, _WATCHED),
    )
    found = []
    for against, most, floor, why in floors:
        mine, theirs = in_turns(ours, floor, ROUNDS)
        detail = f"{mine * 1e3:.0f} ms against {theirs * 1e3:.0f} ms, emulated"
        what = f"first sync of {DOMAINS} domains"
        found.append(Figure(what, against, mine / theirs, most, detail, why))
    handle.close()
    return found


_WATCHED = "it sets no watches, which are two thirds of the time that the index takes"
_SYNC = (
    "xenstored answers one request of each connection in turn. Names are read over sixteen "
    "connections. Watches, two thirds of the time, stay on one: with two to four, every barrier "
    "has to ask each of them, and `refresh` takes longer than allowed"
)


def writes(domids: list[int]) -> Figure:
    """What a client of xenstore can write in a second, beside an index and beside none."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.connect(XENSTORED)
    body = b"/local/domain/0/domindex-figures\0value"
    packet_of_it = HEADER.pack(WRITE, 1, 0, len(body)) + body

    def burst() -> None:
        for _ in range(BURST):
            line.sendall(packet_of_it)
            packet(line, WRITE)

    alone, beside = [], []
    burst()
    for _ in range(ROUNDS):
        alone.append(seconds(burst))
        with domindex.connect(timeout=300):
            beside.append(seconds(burst))
    line.close()
    mine, theirs = statistics.median(beside), statistics.median(alone)
    return Figure(
        "time of a write to xenstore beside an index",
        "beside none",
        mine / theirs,
        1 / 0.95,
        f"{mine / BURST * 1e3:.2f} ms against {theirs / BURST * 1e3:.2f} ms, emulated, "
        f"{len(domids)} domains",
    )


def bare_sync(domids: list[int]) -> None:
    """Set the watches, then read the names, all pipelined on one connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(XENSTORED)
        paths = [b"/local/domain/%d/name\0" % domid for domid in domids]
        watches = [(WATCH, path + b"life/%d\0" % number) for number, path in enumerate(paths)]
        special = [(WATCH, b"@introduceDomain\0i\0"), (WATCH, b"@releaseDomain\0r\0")]
        received = bytearray()
        talk(line, special + watches, received)
        talk(line, [(READ, path) for path in paths], received)


def talk(line: socket.socket, requests: list[tuple[int, bytes]], received: bytearray) -> None:
    """Send all, and take replies and events in as they come, until each is answered.

    received: what has come and is not whole yet; the next call on that line goes on with it.
    """
    packets = [HEADER.pack(op, n, 0, len(body)) + body for n, (op, body) in enumerate(requests, 1)]
    unsent, unanswered = b"".join(packets), len(requests)
    line.setblocking(False)
    while unanswered:
        if unsent:
            with contextlib.suppress(BlockingIOError):
                unsent = unsent[line.send(unsent) :]
        else:
            line.setblocking(True)
        try:
            received += line.recv(1 << 16)
        except BlockingIOError:
            os.sched_yield()
            continue
        at = 0
        while len(received) - at >= HEADER.size:
            kind, _, _, length = HEADER.unpack_from(received, at)
            if len(received) - at < HEADER.size + length:
                break
            at += HEADER.size + length
            unanswered -= kind != EVENT
        del received[:at]


def latencies(host: RealHost, domids: list[int]) -> list[Figure]:
    """From a change on the host to the first line of a handler."""

    def rename(number: int) -> None:
        host.rename(domids[number], f"other-{next(serial)}")

    newborn: list[int] = []
    serial = itertools.count()

    def introduce(_: int) -> None:
        host.introduce(newborn[-1])

    def bear(number: int) -> None:
        newborn.append(host.create(f"new-{len(newborn)}", introduce=False))

    def end(_: int) -> None:
        host.destroy(newborn[-1])

    def nothing(_: int) -> None:
        pass

    found = []
    for what, before, change, after, special, why in (
        ("a rename", nothing, rename, nothing, False, ""),
        ("an introduction", bear, introduce, end, True, _NEWBORN),
    ):
        ours, floor = [], []
        for _ in range(BLOCKS):
            with Handled() as handled:
                ours += heard(handled, before, change, after)
            with Bare(domids, special=special) as bare:
                floor += heard(bare, before, change, after)
        mine, theirs = statistics.median(ours), statistics.median(floor)
        found.append(
            Figure(
                f"from {what} to the handler",
                "a bare client: that event, one list hypercall, one read",
                mine / theirs,
                1.5,
                f"{mine * 1e3:.1f} ms against {theirs * 1e3:.1f} ms, emulated, {DOMAINS} domains",
                why,
            )
        )
    return found


_NEWBORN = (
    "another hypercall confirms the name first, and the handler runs in a thread of its own. The "
    "watch is set after the event"
)


def heard(
    listener: Handled | Bare,
    before: Callable[[int], None],
    change: Callable[[int], None],
    after: Callable[[int], None],
) -> list[float]:
    """Seconds from each of some changes until the listener knows of it.

    before: what nobody is told of.
    """
    took = []
    for number in range(CHANGES):
        listener.expect()
        before(number)
        began = time.perf_counter()
        change(number)
        took.append(listener.until() - began)
        after(number)
    return took


class Handled:
    """The index, with a handler that looks at the clock first."""

    def __enter__(self) -> Handled:
        self._index = domindex.connect(timeout=300)
        self._heard = threading.Event()
        self._at = 0.0
        subscription = self._index.subscribe(
            self._handler, replay=False, events=(domindex.Added, domindex.Renamed)
        )
        subscription.wait_synced(PATIENCE)
        return self

    def _handler(self, _: domindex.Event) -> None:
        self._at = time.perf_counter()
        self._heard.set()

    def expect(self) -> None:
        """Take in what is left of the last change."""
        self._index.refresh(timeout=PATIENCE)
        self._heard.clear()

    def until(self) -> float:
        assert self._heard.wait(PATIENCE)
        return self._at

    def __exit__(self, *_: object) -> None:
        self._index.close()


class Bare:
    """A socket, the watches of the index, and no more than the three steps."""

    def __init__(self, domids: list[int], *, special: bool) -> None:
        self._domids, self._special = domids, special

    def __enter__(self) -> Bare:
        self._list = BareList(1024)
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._line.connect(XENSTORED)
        watches = [
            (WATCH, b"/local/domain/%d/name\0life/%d\0" % (domid, domid)) for domid in self._domids
        ]
        special = [(WATCH, b"@introduceDomain\0i\0"), (WATCH, b"@releaseDomain\0r\0")]
        for operation, body in special + watches:
            self._line.sendall(HEADER.pack(operation, 1, 0, len(body)) + body)
            packet(self._line, WATCH)
        return self

    def expect(self) -> None:
        """Take in what is left of the last change."""
        self._read()

    def until(self) -> float:
        token = b"i" if self._special else b"life"
        while token not in packet(self._line, EVENT).split(b"\0")[1]:
            pass  # of the last change
        self._list(0)
        self._read()
        return time.perf_counter()

    def _read(self) -> None:
        path = b"/local/domain/0/name\0"
        self._line.sendall(HEADER.pack(READ, 1, 0, len(path)) + path)
        packet(self._line, READ)

    def __exit__(self, *_: object) -> None:
        self._line.close()
        self._list.close()


def packet(line: socket.socket, wanted: int) -> bytes:
    """Receive packets up to the first of this kind; what it carries."""
    while True:
        kind, _, _, length = HEADER.unpack(exactly(line, HEADER.size))
        body = exactly(line, length)
        if kind == wanted:
            return body


def exactly(line: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        received += line.recv(size - len(received))
    return received


if __name__ == "__main__":
    sys.exit(main())
