"""What is no matter of one call: memory and idleness, and, if it may write, events and burden.

All that is ever written is one node below dom0's own home and what is below that, made here and
removed here.
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

from domindex.bench.bare import BareLine
from domindex.bench.subject import Subject
from domindex.bench.ways import Missing, spread
from domindex.domain import Domain
from domindex.errors import DomindexError
from domindex.events import Event, Renamed
from domindex.index import Index
from domindex.opening import connect
from domindex.testing import SimulatedHost

_CHANGES: Final = 30
_BURSTS, _BURST_SECONDS = 5, 0.2
_NODES: Final = 100
_PATIENCE: Final = 120.0
_SYNC: Final = 600.0


@dataclass(frozen=True, slots=True)
class Measure:
    """A number about the index on this host. low, high: its quartiles, where it has any."""

    what: str
    unit: str
    median: float = 0.0
    low: float = 0.0
    high: float = 0.0
    detail: str = ""
    missing: str = ""


def attempt(what: str, unit: str, run: Callable[[], Measure]) -> Measure:
    """What `run` measures, or the reason why it cannot be."""
    try:
        return run()
    except (Missing, DomindexError, OSError) as reason:
        return Measure(what, unit, missing=str(reason))


MEMORY: Final = ("memory that an index takes", "bytes a domain")
IDLE: Final = ("wake-ups of the idle index", "a second")
REACTION: Final = ("from a write to a node to its handler", "s")
CHURN: Final = ("changes of nodes that the index follows", "a second")
RENAME: Final = ("from a rename to the handler that is told", "s")
UNDISTURBED: Final = ("writes to xenstore beside no index", "writes a second")
BESIDE: Final = ("writes to xenstore beside an index", "writes a second")


def memory(subject: Subject) -> Measure:
    """What Python allocates for one more index, once it holds all."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        with connect(subject.host, timeout=_SYNC) as index:
            gc.collect()
            held = tracemalloc.get_traced_memory()[0] - before
            domains = len(index)
    finally:
        tracemalloc.stop()
    each = held / domains
    detail = f"{held:,} bytes for {domains:,} domains, line and buffers included"
    if subject.simulated:
        detail += ", and what the simulated xenstored keeps of watches"
    return Measure(*MEMORY, each, each, each, detail)


def idle(watcher: threading.Thread, index: Index, seconds: float) -> Measure:
    """How often the index's thread runs while nothing happens, by the kernel's count."""
    if not seconds:
        raise Missing("it was not to be watched")
    if watcher.native_id is None:
        raise Missing("its thread has ended")
    before = _switches(watcher.native_id)
    time.sleep(seconds)
    woken = _switches(watcher.native_id) - before
    detail = f"{woken} in {seconds:g} s, with a sign of life each {index.timing.probe:g} s"
    return Measure(*IDLE, woken / seconds, woken / seconds, woken / seconds, detail)


def _switches(thread: int) -> int:
    """Times this thread of ours went to sleep."""
    try:
        status = Path(f"/proc/{os.getpid()}/task/{thread}/status").read_text()
    except OSError:
        raise Missing("this system does not count them for a thread") from None
    return int(status.split("voluntary_ctxt_switches:")[1].split()[0])


class Write(Protocol):
    """Write our node, or the node `below` it."""

    def __call__(self, value: bytes, below: str = "", /) -> None: ...


@contextmanager
def own_node(subject: Subject, home: Domain) -> Iterator[tuple[str, Write]]:
    """A node of ours below `home`, and how it is written. Removed in the end, with all below it.

    Raises Missing, OSError.
    """
    node = f"domindex-bench-{os.getpid()}"
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


class _Ear:
    """Hears values, each with the time at which it came."""

    def __init__(self) -> None:
        self._told = threading.Event()
        self._last: tuple[object, float] = None, 0.0

    def hear(self, value: object) -> None:
        self._last = value, time.perf_counter()
        self._told.set()

    def until(self, value: object) -> float:
        """When it came. Raises Missing if it does not."""
        deadline = time.monotonic() + _PATIENCE
        while self._last[0] != value:
            if not self._told.wait(deadline - time.monotonic()):
                raise Missing(f"no event came within {_PATIENCE:g} s")
            self._told.clear()
        return self._last[1]


def reaction(index: Index, subject: Subject) -> Measure:
    """From before a write to a node to the call of the handler that follows it."""
    home = subject.domains[0]
    ear = _Ear()
    took = []
    with (
        own_node(subject, home) as (node, write),
        index.watch(home, node, lambda _, value: ear.hear(value)),
    ):
        for number in range(_CHANGES):
            value = b"%d" % number
            began = time.perf_counter()
            write(value)
            took.append(ear.until(value) - began)
    detail = f"{_CHANGES} writes to a node of its own; event, 1 read, 2 hypercalls"
    return Measure(*REACTION, *spread(took), detail)


def churn(index: Index, subject: Subject) -> Measure:
    """Changes a second that are told, each of another node, when they come as fast as they can."""
    home = subject.domains[0]
    told: set[tuple[str, bytes | None]] = set()
    all_told = threading.Event()

    def handler(path: str) -> Callable[[Domain, bytes | None], None]:
        def hear(_: Domain, value: bytes | None) -> None:
            told.add((path, value))
            if len(told) == _NODES:
                all_told.set()

        return hear

    def wait() -> None:
        if not all_told.wait(_PATIENCE):
            raise Missing(f"not all were told within {_PATIENCE:g} s")
        told.clear()
        all_told.clear()

    rates = []
    with own_node(subject, home) as (node, write), ExitStack() as stack:
        paths = [f"/{number}" for number in range(_NODES)]
        for path in paths:
            stack.enter_context(index.watch(home, node + path, handler(path)))
        wait()  # for what they are before
        for burst in range(_BURSTS):
            began = time.perf_counter()
            for path in paths:
                write(b"%d" % burst, path)
            wait()
            rates.append(_NODES / (time.perf_counter() - began))
    detail = f"{_BURSTS} bursts; {_NODES} nodes of its own, each written once by one client"
    return Measure(*CHURN, *spread(rates), detail)


def renamed(index: Index, subject: Subject, rename: Callable[[int, str], None]) -> Measure:
    """From before a rename of the target to the call of a handler that hears of all renames."""
    ear = _Ear()

    def handler(event: Event) -> None:
        assert isinstance(event, Renamed)
        ear.hear(event.new.name)

    took = []
    domid = subject.target.domid
    with index.subscribe(handler, events=(Renamed,), replay=False) as subscription:
        subscription.wait_synced(_PATIENCE)
        try:
            for number in range(_CHANGES):
                name = f"{subject.name}-{number}"
                began = time.perf_counter()
                rename(domid, name)
                took.append(ear.until(name) - began)
        finally:
            rename(domid, subject.name)
            ear.until(subject.name)
    detail = f"{_CHANGES} renames; event, 1 read, 1 hypercall for the list"
    return Measure(*RENAME, *spread(took), detail)


def burden(subject: Subject) -> tuple[Measure, Measure]:
    """Writes a second by one client, without an index and beside one, in turns."""
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
    write(b"")  # whatever is left over of before comes first
    began, count = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < _BURST_SECONDS or not count:
        write(b"%d" % count)
        count += 1
    return count / took
