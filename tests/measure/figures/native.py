"""The Python half, on this machine and the simulated host: hits, memory, idleness."""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import threading
import time
import timeit
import tracemalloc
from pathlib import Path

from domindex.core.snapshot import Snapshot
from domindex.events import Event, Renamed
from domindex.options import Timing
from domindex.testing import SimulatedHost
from tests.measure.figures.measure import Figure, in_turns, seconds

DOMAINS = 300
MANY = 10_000
IDLE = 10.0
EVENTS, LISTENERS = 10_000, 10


def hits() -> list[Figure]:
    """A hit by name against a bare `dict.get`, each as a line of code in a loop."""
    with SimulatedHost() as host:
        for number in range(DOMAINS):
            host.create(f"vm-{number}")
        with host.connect() as index:
            plain = index.names.copy()
            scope = {"plain": plain, "get": plain.get, "index": index, "name": "vm-150"}
            scope["names"] = index.names
            floors = "get(name)", "plain[name]"
            codes = (*floors, "index.by_name(name)", "names[name]")
            timers = {code: timeit.Timer(code, globals=scope) for code in codes}
            rounds = [
                {code: timer.timeit(50_000) for code, timer in timers.items()} for _ in range(60)
            ]
            best = {code: min(took[code] for took in rounds) / 50_000 for code in codes}
    return [
        Figure(
            f"`{code}` hit",
            against,
            best[code] / best[floor],
            most,
            f"{best[code] * 1e9:.0f} ns against {best[floor] * 1e9:.0f} ns",
            why,
        )
        for code, floor, against, most, why in (
            ("index.by_name(name)", "get(name)", "a bare `dict.get` call", 2.5, _CALL),
            ("names[name]", "plain[name]", "a bare dict subscript", 1.2, _SUBSCRIPT),
        )
    ]


_CALL = (
    "one more call of a Python function, with two more arguments, compared with a call of C. In "
    "instructions the ratio is 2.41 (`make counts`). The next row is the hit alone"
)
_SUBSCRIPT = (
    "`index.names` is a subclass of dict that explains a miss and cannot be written to. CPython "
    "specialises the subscript of plain dicts only. In instructions it is 1.3 times `dict.get`"
)


def imported() -> Figure:
    """The package, as a process imports it, beyond what every process does."""

    def seconds_of(code: str) -> float:
        return seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True))

    codes = "pass", "import asyncio", "import domindex"
    rounds = [[seconds_of(code) for code in codes] for _ in range(41)]
    least = [min(took) for took in zip(*rounds, strict=True)]
    floor, ours = least[1] - least[0], least[2] - least[0]
    return Figure(
        "`import domindex`",
        "`import asyncio`",
        ours / floor,
        1.0,
        f"{ours * 1e3:.0f} ms against {floor * 1e3:.0f} ms",
        _IMPORT,
    )


_IMPORT = (
    "half of it is dataclasses, typing and logging; a tenth is the events, thirteen dataclasses. "
    "pyxs and cffi are imported only when a host is opened"
)


def memory() -> Figure:
    """What the index holds for each of many domains, beyond what the host itself holds."""
    with SimulatedHost() as host:
        for number in range(MANY):
            host.create(f"vm-{number}")
        gc.collect()
        tracemalloc.start()
        with host.connect(Timing(audit=3600)) as index:
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            each = (held - watches(host)) / len(index)
    return Figure(
        f"memory for each of {MANY:,} domains",
        "1 KiB",
        each / 1024,
        1.0,
        f"{each:.0f} bytes, simulated",
    )


def watches(host: SimulatedHost) -> int:
    """Bytes that the simulated xenstored itself holds for the watches: a real one is elsewhere.

    Less what the line to a real one keeps of them, which is each path by its token.
    """
    (store,) = host._stores
    each = sum(map(sys.getsizeof, store._watches.values()))
    set_there = [watch for watches in store._watches.values() for watch in watches]
    line = sys.getsizeof({watch.token: watch.path for watch in set_there})
    return sys.getsizeof(store._watches) + each + sum(map(sys.getsizeof, set_there)) - line


def wake_ups() -> Figure:
    """How often the watcher's thread runs while nothing happens, by the kernel's count."""
    with SimulatedHost() as host, host.connect() as index:
        (thread,) = [t for t in threading.enumerate() if t.name == "domindex-watcher"]
        assert thread.native_id is not None
        before = switches(thread.native_id)
        time.sleep(IDLE)
        woken = switches(thread.native_id) - before
        probes = IDLE / index.timing.probe
    return Figure(
        f"wake-ups in {IDLE:.0f} idle seconds",
        "the probes due",
        woken / probes,
        1.0,
        f"{woken} wake-ups, {probes:.0f} probes",
    )


def switches(thread: int) -> int:
    """Times this thread of ours went to sleep."""
    status = Path(f"/proc/{os.getpid()}/task/{thread}/status").read_text()
    return int(status.split("voluntary_ctxt_switches:")[1].split()[0])


def snapshots() -> list[Figure]:
    """A snapshot after a change, and one when nothing has changed since the last."""
    with SimulatedHost() as host:
        domids = [host.create(f"vm-{number}") for number in range(1000)]
        with host.connect() as index:
            plain = index.domids.copy()

            def fresh() -> None:
                index._snapshot = Snapshot({}, -1)  # as if there had been a change
                index.snapshot()

            def again() -> None:
                for _ in range(1000):
                    index.snapshot()

            def floor() -> None:
                for _ in range(1000):
                    plain.get(domids[0])

            made, copied = in_turns(fresh, plain.copy, 2000)
            kept, got = in_turns(again, floor, 200)
    return [
        Figure(
            "`snapshot()` of 1,000 domains after a change",
            "a bare copy of a dict of that size",
            made / copied,
            50.0,
            f"{made * 1e6:.0f} us against {copied * 1e6:.1f} us",
        ),
        Figure(
            "`snapshot()` when nothing has changed",
            "a bare `dict.get` call",
            kept / got,
            10.0,
            f"{kept * 1e6:.0f} ns against {got * 1e6:.0f} ns",
        ),
    ]


def deliveries() -> list[Figure]:
    """Events to ten listeners on one processor, and the same beside one that is stuck."""
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})
    try:
        pairs = [(rate(stuck=False), rate(stuck=True)) for _ in range(5)]
    finally:
        os.sched_setaffinity(0, processors)
    free = statistics.median(pair[0] for pair in pairs)
    beside = statistics.median(pair[1] for pair in pairs)
    return [
        Figure(
            f"{EVENTS:,} events to {LISTENERS} listeners, on one processor",
            "50,000 deliveries a second",
            50_000 / free,
            1.0,
            f"{free:,.0f} a second, simulated",
        ),
        Figure(
            "the same beside a listener that is stuck",
            "without it",
            free / beside,
            1.1,
            f"{beside:,.0f} against {free:,.0f} a second, simulated",
        ),
    ]


def rate(*, stuck: bool) -> float:
    """Deliveries a second, of renames, none of which may be lost."""
    domains = 1000
    done = threading.Barrier(LISTENERS + 1)

    class Counter:
        count = 0

        def __call__(self, _: Event) -> None:
            self.count += 1
            if self.count == EVENTS:
                done.wait()

    release = threading.Event()
    with SimulatedHost() as host:
        domids = [host.create(f"vm-{number}") for number in range(domains)]
        with host.connect() as index:
            for _ in range(LISTENERS):
                index.subscribe(Counter(), events=(Renamed,), replay=False)
            if stuck:
                index.subscribe(lambda _: release.wait(), replay=False)
            began = time.perf_counter()
            for turn in range(EVENTS // domains):
                for domid in domids:
                    host.rename(domid, f"{turn}-{domid}")
                index.refresh(timeout=60)
            done.wait(60)
            took = time.perf_counter() - began
            release.set()
    return EVENTS * LISTENERS / took


def figures() -> list[Figure]:
    """All of them."""
    return [*hits(), memory(), imported(), wake_ups(), *snapshots(), *deliveries()]
