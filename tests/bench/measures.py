"""What is not the time of one call: memory, idle wake-ups, and, with `--write`, the way of events.

The only writes are to one node below dom0's own home in xenstore, and below that node. It is made
and removed here. Read after peers.py; next run.py.
"""

from __future__ import annotations

import gc
import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from domindex import Domain, DomindexError, Event, Index, Renamed, connect
from domindex.testing import SimulatedHost
from tests.bench.bare import BareLine
from tests.bench.subject import Subject
from tests.bench.ways import Missing, spread

_CHANGES: Final = 30
_BURSTS, _BURST_SECONDS = 5, 0.2
_NODES: Final = 100
_PATIENCE: Final = 120.0
_SYNC: Final = 600.0


@dataclass(frozen=True, slots=True)
class Measure:
    """A number about the index on this host. low, high: its quartiles, or the same number."""

    what: str
    unit: str
    median: float = 0.0
    low: float = 0.0
    high: float = 0.0
    detail: str = ""
    missing: str = ""


def attempt(what: str, unit: str, run: Callable[[], Measure]) -> Measure:
    """The result of `run`, or the reason why there is none."""
    try:
        return run()
    except (Missing, DomindexError, OSError) as reason:
        return Measure(what, unit, missing=str(reason))


MEMORY: Final = ("memory that an index takes", "bytes a domain")
IDLE: Final = ("wake-ups of the idle index", "a second")
REACTION: Final = ("from a write to a node to its handler", "s")
CHURN: Final = ("changes of nodes that the index follows", "a second")
RENAME: Final = ("from a rename to its handler", "s")
UNDISTURBED: Final = ("writes to xenstore beside no index", "writes a second")
BESIDE: Final = ("writes to xenstore beside an index", "writes a second")


def memory(subject: Subject) -> Measure:
    """What Python allocates for one more index, after its first sync."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        with connect(subject.host, timeout=_SYNC) as index:
            gc.collect()
            allocated = tracemalloc.get_traced_memory()[0] - before
            domains = len(index)
    finally:
        tracemalloc.stop()
    each = allocated / domains
    detail = f"{allocated:,} bytes for {domains:,} domains, line and buffers included"
    if subject.simulated:
        detail += ", and the watches in the simulated xenstored"
    return Measure(*MEMORY, each, each, each, detail)


def idle(watcher: threading.Thread, index: Index, seconds: float) -> Measure:
    """How often the index's thread wakes up while nothing happens, counted by the kernel."""
    if not seconds:
        raise Missing("--idle is 0")
    if watcher.native_id is None:
        raise Missing("its thread has ended")
    before = _switches(watcher.native_id)
    time.sleep(seconds)
    woken = _switches(watcher.native_id) - before
    detail = f"{woken} in {seconds:g} s, with a probe each {index.timing.probe:g} s"
    return Measure(*IDLE, woken / seconds, woken / seconds, woken / seconds, detail)


def _switches(thread: int) -> int:
    """How often this thread of our process went to sleep."""
    try:
        status = Path(f"/proc/{os.getpid()}/task/{thread}/status").read_text()
    except OSError:
        raise Missing("this system does not count the switches of a thread") from None
    return int(status.split("voluntary_ctxt_switches:")[1].split()[0])


class Write(Protocol):
    """Write our node, or the node `below` it."""

    def __call__(self, value: bytes, below: str = "", /) -> None: ...


def own_name() -> str:
    """Of our node, below dom0's home."""
    return f"domindex-bench-{os.getpid()}"


@contextmanager
def own_node(subject: Subject, home: Domain) -> Iterator[tuple[str, Write]]:
    """A node of ours below `home`, and how it is written. Removed at the end, with all below it.

    Raises Missing, OSError.
    """
    node = own_name()
    host = subject.host
    if isinstance(host, SimulatedHost):
        try:
            yield node, lambda value, below="": host.write(home.domid, node + below, value)
        finally:
            host.write(home.domid, node, None)
        return
    line = BareLine()
    path = f"/local/domain/{home.domid}/{node}".encode()
    try:
        line.write(path, b"")
        try:
            yield node, lambda value, below="": line.write(path + below.encode(), value)
        finally:
            line.remove(path)
    finally:
        line.close()


class _Arrivals:
    """The last value that a handler received, with its time."""

    def __init__(self) -> None:
        self._arrived = threading.Event()
        self._last: tuple[object, float] = None, 0.0

    def put(self, value: object) -> None:
        self._last = value, time.perf_counter()
        self._arrived.set()

    def until(self, value: object) -> float:
        """Wait for the value; return its time. Raises Missing if it does not come."""
        deadline = time.monotonic() + _PATIENCE
        while self._last[0] != value:
            if not self._arrived.wait(deadline - time.monotonic()):
                raise Missing(f"no event came within {_PATIENCE:g} s")
            self._arrived.clear()
        return self._last[1]


def reaction(index: Index, subject: Subject) -> Measure:
    """From before a write to a node to the call of the handler that watches it."""
    home = subject.domains[0]
    arrivals = _Arrivals()
    took = []
    with (
        own_node(subject, home) as (node, write),
        index.watch(home, node, lambda _, value: arrivals.put(value)),
    ):
        for number in range(_CHANGES):
            value = b"%d" % number
            began = time.perf_counter()
            write(value)
            took.append(arrivals.until(value) - began)
    detail = f"{_CHANGES} writes to a node of its own; event, 1 read, 2 hypercalls"
    return Measure(*REACTION, *spread(took), detail)


def churn(index: Index, subject: Subject) -> Measure:
    """Changes a second that reach their handlers, each of another node, written without pause."""
    home = subject.domains[0]
    received: set[tuple[str, bytes | None]] = set()
    complete = threading.Event()

    def handler(path: str) -> Callable[[Domain, bytes | None], None]:
        def receive(_: Domain, value: bytes | None) -> None:
            received.add((path, value))
            if len(received) == _NODES:
                complete.set()

        return receive

    def wait() -> None:
        if not complete.wait(_PATIENCE):
            raise Missing(f"not all changes came within {_PATIENCE:g} s")
        received.clear()
        complete.clear()

    rates = []
    with own_node(subject, home) as (node, write), ExitStack() as stack:
        paths = [f"/{number}" for number in range(_NODES)]
        for path in paths:
            stack.enter_context(index.watch(home, node + path, handler(path)))
        wait()  # for the first values
        for burst in range(_BURSTS):
            began = time.perf_counter()
            for path in paths:
                write(b"%d" % burst, path)
            wait()
            rates.append(_NODES / (time.perf_counter() - began))
    detail = f"{_BURSTS} bursts; {_NODES} nodes of its own, each written once by one client"
    return Measure(*CHURN, *spread(rates), detail)


def renamed(index: Index, subject: Subject, rename: Callable[[int, str], None]) -> Measure:
    """From before a rename of the target to the call of a handler of all renames."""
    arrivals = _Arrivals()

    def handler(event: Event) -> None:
        assert isinstance(event, Renamed)
        arrivals.put(event.new.name)

    took = []
    domid = subject.target.domid
    with index.subscribe(handler, events=(Renamed,), replay=False) as subscription:
        subscription.wait_synced(_PATIENCE)
        try:
            for number in range(_CHANGES):
                name = f"{subject.name}-{number}"
                began = time.perf_counter()
                rename(domid, name)
                took.append(arrivals.until(name) - began)
        finally:
            rename(domid, subject.name)
            arrivals.until(subject.name)
    detail = f"{_CHANGES} renames; event, 1 read, 1 hypercall for the list"
    return Measure(*RENAME, *spread(took), detail)


def burden(subject: Subject) -> tuple[Measure, Measure]:
    """Writes a second by one client, without an index and beside one, in turns.

    Raises Missing, DomindexError, OSError.
    """
    without, beside = [], []
    with own_node(subject, subject.domains[0]) as (_, write):
        for _ in range(_BURSTS):
            without.append(_rate(write))
            with connect(subject.host, timeout=_SYNC):
                beside.append(_rate(write))
    detail = f"{_BURSTS} bursts in turns; one node of its own, one write after the other"
    watches = f"{detail}; {len(subject.domains) + 2} watches are set then"
    return Measure(*UNDISTURBED, *spread(without), detail), Measure(
        *BESIDE, *spread(beside), watches
    )


def _rate(write: Write) -> float:
    write(b"")  # answered after whatever xenstored still has to do
    began, count = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < _BURST_SECONDS or not count:
        write(b"%d" % count)
        count += 1
    return count / took
