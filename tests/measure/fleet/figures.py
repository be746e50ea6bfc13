"""The figures of a fleet, with a real etcd on this machine: look-ups, loads, events, etcd's work.

`python -m tests.measure.fleet.figures` prints them as JSON; `make figures` has them with the rest.
"""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import timeit
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import domindex.fleet
from domindex.events import Renamed
from domindex.fleet import Fleet, FleetEvent, HostEvent, layout
from domindex.fleet.etcd import wire
from domindex.fleet.memory import MemoryStore
from domindex.fleet.url import parse_url
from domindex.testing import SimulatedHost
from tests.fleet.servers import Etcd, etcd
from tests.measure.figures.measure import Figure, in_turns, medians, seconds
from tests.measure.fleet.canned import Call, Canned, commit, cpu_of, fill, line_to

HOSTS, DOMAINS = 200, 100
"""As in the throw-away prototype that these are compared with: 20,000 domains."""
READERS = 30
RENAMES = 167  # a second: 1 % of 1,000,000 domains a minute
CHURN = 10.0  # seconds
EVENTS = 200
LOADS = 10  # the kernel tells processor time in hundredths of a second


@contextmanager
def fleet_of(hosts: int, domains: int) -> Iterator[tuple[Etcd, Call, Canned]]:
    """An etcd with so many of them."""
    canned = Canned(hosts, domains)
    with (
        tempfile.TemporaryDirectory() as home,
        etcd(Path(home)) as server,
        line_to(server) as call,
    ):
        fill(call, canned)
        yield server, call, canned


def hits(fleet: Fleet) -> list[Figure]:
    """Look-ups that find something, each as a line of code in a loop."""
    name, uuid = "vm-100-50", fleet.by_name("vm-100-50").domain.uuid
    scope = {"names": fleet.names.copy(), "uuids": fleet.uuids.copy(), "fleet": fleet}
    scope |= {"name": name, "uuid": uuid}
    figures = []
    for key in ("name", "uuid"):
        floor, code = f"{key}s.get({key})", f"fleet.by_{key}({key})"
        timers = [timeit.Timer(text, globals=scope) for text in (floor, code)]
        rounds = [[timer.timeit(20_000) for timer in timers] for _ in range(60)]
        least, ours = (min(took[place] for took in rounds) / 20_000 for place in (0, 1))
        figures.append(
            Figure(
                f"`fleet.by_{key}({key})` hit",
                "`dict.get` of the same key",
                ours / least,
                4.0,
                f"{ours * 1e9:.0f} ns against {least * 1e9:.0f} ns",
            )
        )
    return figures


def first_load(server: Etcd, call: Call) -> Figure:
    """Opening a reader, until it holds everything and is live."""

    def raw() -> None:
        answer = call(wire.below(layout.ROOT))
        for item in answer.kvs:
            if item.key != layout.EPOCH.encode():
                json.loads(item.value)

    def ours() -> None:
        with domindex.fleet.connect(server.url):
            pass

    pairs = [(alone(ours), alone(raw)) for _ in range(15)]
    took, floor = medians(pairs)
    return Figure(
        f"first load of {HOSTS * DOMAINS:,} domains",
        "a raw range of all keys and `json.loads` of each",
        took / floor,
        2.5,
        f"{took * 1e3:.0f} ms against {floor * 1e3:.0f} ms",
        "each domain is made a record with a UUID, which Python makes and hashes, and is put into "
        "five dicts; a sixth of the time is Python's collector. Opening and closing the reader's "
        "two lines is in it, and the bare read has its line",
    )


def alone(call: Callable[[], None]) -> float:
    """Seconds of one call, with nothing left to collect of the one before."""
    gc.collect()
    return seconds(call)


def memory(server: Etcd) -> Figure:
    """What a reader holds for each domain."""
    gc.collect()
    tracemalloc.start()
    with domindex.fleet.connect(server.url) as fleet:
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        each = held / len(fleet)
    return Figure(
        f"memory for each of {HOSTS * DOMAINS:,} domains of a fleet",
        "1 KiB",
        each / 1024,
        1.25,
        f"{each:.0f} bytes",
    )


def transactions() -> Figure:
    """What a publisher writes for renames that come one by one."""
    store = MemoryStore()
    with SimulatedHost() as host, host.connect() as index:
        domid = host.create("web")
        engine = store.connect()
        with domindex.fleet.publish(
            index, engine, host="xen1", machine="m", lock=False
        ) as publisher:
            publisher.flush()
            before, events = engine.position(), 100
            for number in range(events):
                host.rename(domid, f"web-{number}")
                index.refresh()
                publisher.flush()
            made = engine.position() - before
    return Figure(
        "transactions of a publisher",
        "events of its index",
        made / events,
        1.0,
        f"{made} transactions, {events} renames",
    )


def latency(server: Etcd, call: Call, canned: Canned) -> Figure:
    """From before a transaction is sent until a handler has it."""

    def told_at(subscribe: Callable[[Callable[[], None]], object]) -> float:
        """Median seconds until what `subscribe` was given is called."""
        told = threading.Event()
        at = [0.0]

        def tell() -> None:
            at[0] = time.perf_counter()
            told.set()

        subscribe(tell)
        took = []
        for _ in range(EVENTS):
            # What the last one left to do is done, as it is where events come now and then.
            time.sleep(0.02)
            puts = canned.rename()
            told.clear()
            began = time.perf_counter()
            commit(call, puts)
            assert told.wait(10)
            took.append(at[0] - began)
        return statistics.median(took)

    def ours() -> float:
        with domindex.fleet.connect(server.url) as fleet:

            def subscribe(tell: Callable[[], None]) -> None:
                def handler(event: FleetEvent) -> None:
                    if isinstance(event, HostEvent):
                        tell()

                fleet.subscribe(handler, events=(Renamed,), replay=False)

            return told_at(subscribe)

    def bare() -> float:
        line = wire.Line(parse_url(server.url)[0], None)
        over, ready = threading.Event(), threading.Event()

        def requests() -> Iterator[wire.Message]:
            yield wire.watch(layout.ROOT, 0)
            over.wait()

        stream = line.watch(requests())
        tells: list[Callable[[], None]] = []

        def follow() -> None:
            try:
                for answer in stream:
                    ready.set()
                    if answer.events:
                        for tell in tells:
                            tell()
            except wire.Broken:
                pass

        thread = threading.Thread(target=follow)
        thread.start()
        try:
            assert ready.wait(10)
            return told_at(tells.append)
        finally:
            stream.cancel()
            over.set()
            thread.join()
            line.close()

    pairs = [(ours(), bare()) for _ in range(5)]
    took, floor = medians(pairs)
    return Figure(
        "from a transaction to the handler of a fleet",
        "a bare watch of all keys",
        took / floor,
        1.5,
        f"{took * 1e3:.2f} ms against {floor * 1e3:.2f} ms",
        "the reader has a thread beside that of the watch, and each handler has its own, so that "
        "one that is slow holds up nobody: two more times Python has to wake a thread",
    )


def readers(server: Etcd, call: Call, canned: Canned) -> Figure:
    """etcd's own time, while 167 domains a second are renamed, for many readers and for one."""

    def cpu(count: int) -> float:
        with ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(domindex.fleet.connect(server.url, timeout=60))
            before, began = cpu_of(server.one.pid), time.perf_counter()
            for number in range(int(RENAMES * CHURN)):
                commit(call, canned.rename())
                rest = began + (number + 1) / RENAMES - time.perf_counter()
                time.sleep(max(0.0, rest))
            return (cpu_of(server.one.pid) - before) / (time.perf_counter() - began)

    pairs = [(cpu(READERS), cpu(1)) for _ in range(3)]
    many, one = medians(pairs)
    return Figure(
        f"processor time of etcd with {READERS} readers, {RENAMES} renames a second",
        "with one reader",
        many / one,
        1.5,
        f"{many:.1%} against {one:.1%} of a core",
    )


def keys() -> Figure:
    """etcd's own time for a first load of ten times as many keys."""
    took = []
    for hosts in (10 * HOSTS, HOSTS):
        with fleet_of(hosts, DOMAINS) as (server, _, _):
            before = cpu_of(server.one.pid)
            for _ in range(LOADS):
                with domindex.fleet.connect(server.url, timeout=120):
                    pass
            took.append((cpu_of(server.one.pid) - before) / LOADS)
    many, one = took
    return Figure(
        f"processor time of etcd for a first load of {10 * HOSTS * DOMAINS:,} domains",
        f"of {HOSTS * DOMAINS:,}",
        many / one,
        12.0,
        f"{many * 1e3:.0f} ms against {one * 1e3:.0f} ms",
    )


def barrier(server: Etcd, call: Call) -> Figure:
    """`refresh` of a reader that has everything."""
    with domindex.fleet.connect(server.url) as fleet:
        took, floor = in_turns(
            fleet.refresh, lambda: call(wire.range_of(layout.EPOCH)), 300, pause=0.002
        )
    return Figure(
        "`fleet.refresh()`",
        "one read by quorum",
        took / floor,
        5.0,
        f"{took * 1e3:.2f} ms against {floor * 1e3:.2f} ms",
    )


def figures() -> Iterator[Figure]:
    """All of them."""
    with fleet_of(HOSTS, DOMAINS) as (server, call, canned):
        with domindex.fleet.connect(server.url) as fleet:
            yield from hits(fleet)
        yield first_load(server, call)
        yield memory(server)
        yield transactions()
        yield latency(server, call, canned)
        yield barrier(server, call)
        yield readers(server, call, canned)
    yield keys()


def measured() -> list[Figure]:
    """All of them, in a process that has held nothing else: Python's collector goes over it all."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.measure.fleet.figures"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [Figure(**json.loads(line)) for line in done.stdout.splitlines()]


def main() -> int:
    """A line of JSON for each."""
    for figure in figures():
        print(json.dumps(asdict(figure)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
