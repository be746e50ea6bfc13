"""python -m tests.measure.fleet.child KIND URL: one reader, in a process whose cost can be told.

KIND: `reader` opens a fleet and counts what its handler is told; `raw` reads the same keys in the
same blocks, with `json.loads` of each, and ends; a number opens so many bare watches of all keys.
Says what it has in lines of JSON, the first of them once it is ready. `reader` says one more for
each line that it is sent; at `freeze` it takes all that it holds from Python's collector first.
All end with their standard input.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import domindex.fleet
from domindex.events import Renamed
from domindex.fleet import FleetEvent, HostEvent, layout
from domindex.fleet.etcd import wire
from domindex.fleet.url import parse_url
from tests.measure.fleet.canned import sent_at

BLOCK = 50  # hosts


def reader(url: str) -> None:
    """A fleet."""
    late: list[float] = []

    def handler(event: FleetEvent) -> None:
        if isinstance(event, HostEvent) and isinstance(event.event, Renamed):
            late.append(time.monotonic() - sent_at(event.event.new.name or ""))

    began = time.perf_counter()
    with domindex.fleet.connect(url, timeout=600) as fleet:
        took = time.perf_counter() - began
        say(took=took, domains=len(fleet), cpu=time.process_time())
        fleet.subscribe(handler, events=(Renamed,), replay=False)
        for line in sys.stdin:
            if line == "freeze\n":
                gc.collect()
                gc.freeze()
            began = time.perf_counter()
            fleet.refresh(60)
            barrier = time.perf_counter() - began
            ordered = sorted(late)
            late.clear()
            say(
                events=len(ordered),
                median=statistics.median(ordered) if ordered else 0.0,
                most=ordered[int(0.99 * len(ordered))] if ordered else 0.0,
                barrier=barrier,
                cpu=time.process_time(),
            )


def raw(url: str) -> None:
    """The bare work of a first load."""
    line = wire.Line(parse_url(url)[0], None)
    began = time.perf_counter()
    records = line.call(wire.below(layout.HOST), 60)
    names = sorted(
        layout.dom_prefix(wire.text(item.key).removeprefix(layout.HOST)) for item in records.kvs
    )
    bounds = [layout.DOM, *names[BLOCK::BLOCK], wire.end_of(layout.DOM)]
    values = [json.loads(item.value) for item in records.kvs]
    for start, end in pairwise(bounds):
        block = line.call(wire.range_of(start, end, revision=records.header.revision), 60)
        values += [json.loads(item.value) for item in block.kvs]
    say(took=time.perf_counter() - began, domains=len(values) - len(names))
    line.close()


def watches(url: str, count: int) -> None:
    """Bare watches of everything, each on a line of its own."""
    ready = threading.Barrier(count + 1)

    def follow() -> None:
        def requests() -> Iterator[wire.Message]:
            yield wire.watch(layout.ROOT, 0)
            threading.Event().wait()

        first = True
        for _ in wire.Line(parse_url(url)[0], None).watch(requests()):
            if first:
                ready.wait()
            first = False

    for _ in range(count):
        threading.Thread(target=follow, daemon=True).start()
    ready.wait(60)
    say(watches=count)
    sys.stdin.read()


def say(**facts: float) -> None:
    """One line."""
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    kind, where = sys.argv[1:]
    if kind == "reader":
        reader(where)
    elif kind == "raw":
        raw(where)
    else:
        watches(where, int(kind))
