"""The Python half, on this machine and the simulated host: hits, memory, idleness."""

from __future__ import annotations

import gc
import os
import threading
import time
import timeit
import tracemalloc
from pathlib import Path

from domindex.testing import SimulatedHost
from domindex.watcher import Timing
from tests.figures.measure import Figure

DOMAINS = 300
MANY = 10_000
IDLE = 10.0


def hits() -> list[Figure]:
    """A hit by name against a bare `dict.get`, each as a line of code in a loop."""
    with SimulatedHost() as host:
        for number in range(DOMAINS):
            host.create(f"vm-{number}")
        with host.connect() as index:
            plain = index.names.copy()
            scope = {"plain": plain, "get": plain.get, "index": index, "name": "vm-150"}
            scope["by_name"] = index.by_name
            best = {
                code: min(timeit.repeat(code, globals=scope, number=200_000, repeat=9)) / 200_000
                for code in ("get(name)", "index.by_name(name)", "index.names[name]", "plain[name]")
            }
    floor = best["get(name)"]
    return [
        Figure(
            f"`{code}` hit",
            "a bare `dict.get` call",
            best[code] / floor,
            most,
            f"{best[code] * 1e9:.0f} ns against {floor * 1e9:.0f} ns",
        )
        for code, most in (("index.by_name(name)", 3.0), ("index.names[name]", 1.5))
    ]


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
        1.5,
        f"{each:.0f} bytes, simulated",
    )


def watches(host: SimulatedHost) -> int:
    """Bytes that the simulated xenstored itself holds for the watches: a real one is elsewhere."""
    (store,) = host._stores
    return store._watches.__sizeof__()


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


def figures() -> list[Figure]:
    """All of them."""
    return [*hits(), memory(), wake_ups()]
