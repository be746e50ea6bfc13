"""python -m tests.measure.fleet.scale: 10,000 hosts with 100 domains each, on one etcd.

Writes tests/fleet/RESULTS.md and prints it. Takes some ten minutes, and 4 GiB of memory.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from domindex.fleet.etcd import wire
from tests.fleet.servers import Etcd, etcd
from tests.measure.fleet.canned import (
    MOST,
    Call,
    Canned,
    commit,
    cpu_of,
    fill,
    line_to,
    memory_of,
    under_leases,
)

RESULTS = Path(__file__).parents[2] / "fleet" / "RESULTS.md"
HOSTS, DOMAINS = 10_000, 100
CHURN = HOSTS * DOMAINS / 100 / 60  # 1 % a minute: renames a second
SECONDS = 60.0
READERS = 30
RENEWALS = 3_000
EVERY = 5.0  # seconds from one renewal of a host to its next, with a lease of 15
MIB = 1 << 20


@dataclass
class Report:
    """What was measured: rows of a table."""

    rows: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, what: str, measured: str) -> None:
        """One row more."""
        self.rows.append((what, measured))
        print(f"{what}: {measured}", flush=True)


class Child:
    """A process of `child.py`."""

    def __init__(self, kind: str, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.measure.fleet.child", kind, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def said(self) -> dict[str, Any]:
        """Its next line."""
        assert self._process.stdout is not None
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said

    def asked(self, to: str = "") -> dict[str, Any]:
        """What it says when it is asked, after it has done what it is told to."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{to}\n")
        self._process.stdin.flush()
        return self.said()

    def end(self) -> None:
        """By the end of its input."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@contextmanager
def child(kind: str, url: str) -> Iterator[Child]:
    """One that is ready, with what it said of that still to be read."""
    process = Child(kind, url)
    try:
        yield process
    finally:
        process.end()


def main() -> int:
    report = Report()
    canned = Canned(HOSTS, DOMAINS)
    with (
        tempfile.TemporaryDirectory() as home,
        etcd(Path(home), arguments=[f"--quota-backend-bytes={8 << 30}"]) as server,
        line_to(server) as call,
    ):
        filled(report, server, call, canned)
        renewed(report, server, call, canned)
        loaded(report, server)
        churned(report, server, call, canned)
        text = page(report, call(wire.status()).version)
    RESULTS.write_text(text, encoding="utf-8")
    print(text)
    return 0


def filled(report: Report, server: Etcd, call: Call, canned: Canned) -> None:
    """All keys are written, in full transactions."""
    began = time.perf_counter()
    fill(call, canned)
    took = time.perf_counter() - began
    report(f"writing {HOSTS * DOMAINS:,} domains, {MOST} keys a transaction", f"{took:.0f} s")
    size = call(wire.status())
    report("size of etcd's database", f"{size.dbSizeInUse / MIB:.0f} MiB")
    report("memory of etcd", f"{memory_of(server.one.pid) / MIB:.0f} MiB")


def renewed(report: Report, server: Etcd, call: Call, canned: Canned) -> None:
    """A lease for each host, and what it costs to keep them."""
    leases = under_leases(call, canned)
    before = cpu_of(server.one.pid)
    for lease in leases[:RENEWALS]:
        call(wire.keep_alive(lease))
    each = (cpu_of(server.one.pid) - before) / RENEWALS
    report(
        "processor time of etcd for one renewal of a lease, with 10,000 of them",
        f"{each * 1e6:.0f} us: {each * HOSTS / EVERY:.0%} of a core if each is renewed every "
        f"{EVERY:.0f} s (worked out of {RENEWALS:,} renewals)",
    )


def loaded(report: Report, server: Etcd) -> None:
    """A first load beside the bare work of it, in processes of their own."""
    pairs = []
    for _ in range(3):
        took = []
        for kind in ("reader", "raw"):
            with child(kind, server.url) as process:
                before = cpu_of(server.one.pid)
                facts = process.said()
                assert facts["domains"] == HOSTS * DOMAINS
                took.append((facts["took"], cpu_of(server.one.pid) - before))
                if kind == "reader":
                    memory = memory_of(process.pid)
        pairs.append(took)
    ours, raw = ((statistics.median(p[place][0] for p in pairs)) for place in (0, 1))
    work = statistics.median(p[0][1] for p in pairs)
    report(
        f"first load of {HOSTS * DOMAINS:,} domains against a raw read of these and `json.loads`",
        f"{ours / raw:.2f} ({ours:.1f} s against {raw:.1f} s)",
    )
    report("processor time of etcd for one first load", f"{work:.2f} s")
    report(
        "memory of the process of a reader",
        f"{memory / MIB:.0f} MiB, {memory / HOSTS / DOMAINS:.0f} bytes a domain",
    )


def churned(report: Report, server: Etcd, call: Call, canned: Canned) -> None:
    """1 % of all domains are renamed a minute, for nobody, for one reader, for many."""
    alone = churn(call, canned, lambda: cpu_of(server.one.pid))
    report(f"processor time of etcd, {CHURN:.0f} renames a second, no reader", f"{alone:.1%}")
    with child("reader", server.url) as reader:
        reader.said()
        reader.asked()
        before = time.monotonic(), cpu_of(reader.pid)
        one = churn(call, canned, lambda: cpu_of(server.one.pid))
        used = (cpu_of(reader.pid) - before[1]) / (time.monotonic() - before[0])
        facts = reader.asked()
        assert facts["events"] == int(CHURN * SECONDS)
        report("the same with one reader", f"{one:.1%} of a core")
        report("processor time of that reader", f"{used:.1%} of a core")
        report(
            "from before a transaction to the reader's handler",
            f"{facts['median'] * 1e3:.1f} ms median, {facts['most'] * 1e3:.1f} ms for 99 of 100",
        )
        frozen = reader.asked("freeze")
        report("its `refresh()`", f"{frozen['barrier'] * 1e3:.1f} ms")
        with child(str(READERS - 1), server.url) as watches:
            watches.said()
            many = churn(call, canned, lambda: cpu_of(server.one.pid))
        facts = reader.asked()
        assert facts["events"] == int(CHURN * SECONDS)
        report(
            "from before a transaction to the handler, after `gc.freeze()` in the reader",
            f"{facts['median'] * 1e3:.1f} ms median, {facts['most'] * 1e3:.1f} ms for 99 of 100",
        )
        report(
            f"etcd with that reader and {READERS - 1} bare watches of everything, against with one",
            f"{many / one:.2f} ({many:.1%} of a core)",
        )


def churn(call: Call, canned: Canned, cpu: Callable[[], float]) -> float:
    """Seconds of processor time a second, while domains are renamed."""
    before, began = cpu(), time.perf_counter()
    for number in range(int(CHURN * SECONDS)):
        commit(call, canned.rename())
        time.sleep(max(0.0, began + (number + 1) / CHURN - time.perf_counter()))
    return (cpu() - before) / (time.perf_counter() - began)


def page(report: Report, etcd_version: str) -> str:
    """RESULTS.md."""
    return "\n".join(
        [
            "# A large fleet",
            "",
            f"{HOSTS:,} hosts with {DOMAINS} domains each, 1 % of them renamed a minute, on one "
            "etcd that does not wait for",
            "its disk (`--unsafe-no-fsync`); readers and writer on the same machine. Written by "
            "`make fleet-scale`:",
            f"CPython {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, "
            f"etcd {etcd_version}, grpcio {version('grpcio')}.",
            "",
            "| what | measured |",
            "|---|---|",
            *(f"| {what} | {measured} |" for what, measured in report.rows),
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
